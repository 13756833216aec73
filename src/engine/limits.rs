//! How much of everything an engine may hold. Memory is reserved at start from these numbers; a
//! full table refuses with `capacity_exhausted` and changes nothing.

use serde::{Deserialize, Serialize};

/// Table sizes, in entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Assets.
    pub assets: u32,
    /// Participants.
    pub participants: u32,
    /// Accounts.
    pub accounts: u32,
    /// Transfers remembered within the idempotency window.
    pub transfers: u32,
    /// Payments remembered within the idempotency window, queued ones included.
    pub payments: u32,
    /// Instruments.
    pub instruments: u32,
    /// Orders resting at once.
    pub orders: u32,
    /// Client order ids remembered within the business day.
    pub client_order_ids: u32,
    /// Price levels in use at once, over all books.
    pub price_levels: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            assets: 1_024,
            participants: 65_536,
            accounts: 1 << 20,
            transfers: 1 << 23,
            payments: 1 << 20,
            instruments: 4_096,
            orders: 1 << 20,
            client_order_ids: 1 << 21,
            price_levels: 1 << 18,
        }
    }
}

impl Limits {
    /// Small tables for tests and doc examples.
    pub fn small() -> Limits {
        Limits {
            assets: 16,
            participants: 64,
            accounts: 256,
            transfers: 4_096,
            payments: 4_096,
            instruments: 16,
            orders: 1_024,
            client_order_ids: 4_096,
            price_levels: 1_024,
        }
    }
}
