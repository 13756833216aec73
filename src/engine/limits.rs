//! How much of everything an engine may hold. Memory is reserved at start from these numbers; a
//! full table refuses with `capacity_exhausted` and changes nothing.

use crate::protocol::command::DayPhase;
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
    /// Business days for which a transfer's id stays taken: the day of its use and those after it.
    pub window_days: u32,
    /// Authorisations, those remembered after they closed included.
    pub authorisations: u32,
    /// Steps of authorisations remembered within the idempotency window.
    pub authorisation_steps: u32,
    /// Business days for which a closed authorisation can be refunded, counted from its last step.
    pub refund_days: u32,
    /// Payments remembered within the idempotency window, queued ones included.
    pub payments: u32,
    /// Instruments.
    pub instruments: u32,
    /// Orders alive at once.
    pub orders: u32,
    /// Of those, how many may be special: stops, icebergs, pegged, with an expiry, or gone with
    /// their session.
    pub special_orders: u32,
    /// Sessions whose orders go when they do.
    pub order_sessions: u32,
    /// Client order ids remembered within the business day.
    pub client_order_ids: u32,
    /// Price levels in use at once, over all books.
    pub price_levels: u32,
    /// Spreads lookups of ids that clients choose, so that nobody can choose slow ones. Nothing
    /// that can be seen depends on it: a node draws another at every start, and no file has it.
    #[serde(skip)]
    pub lookup_secret: u64,
    /// Proposals remembered within the business day; decided ones give way to new ones.
    pub proposals: u32,
    /// Throttles.
    pub throttles: u32,
    /// Participants in instruments that settle in cycles, each counted once per instrument.
    pub positions: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            assets: 1_024,
            participants: 65_536,
            accounts: 1 << 20,
            transfers: 1 << 23,
            window_days: 2,
            authorisations: 1 << 19,
            authorisation_steps: 1 << 20,
            refund_days: 30,
            payments: 1 << 20,
            instruments: 4_096,
            orders: 1 << 20,
            special_orders: 1 << 18,
            order_sessions: 4_096,
            client_order_ids: 1 << 21,
            price_levels: 1 << 18,
            lookup_secret: 0,
            proposals: 1_024,
            throttles: 1_024,
            positions: 65_536,
        }
    }
}

impl Limits {
    /// Entries of one table at most: handles and their indexes are 32 bits.
    pub const ENTRIES_MAX: u32 = 1 << 30;

    /// Business days that anything is remembered for at most.
    pub const DAYS_MAX: u32 = 10_000;

    /// The tables by name, with the bytes that one entry takes at most, its index included.
    fn tables(&self) -> [(&'static str, u32, u64); 16] {
        [
            ("assets", self.assets, 64),
            ("participants", self.participants, 72),
            ("accounts", self.accounts, 256),
            ("transfers", self.transfers, 176),
            ("authorisations", self.authorisations, 176),
            ("authorisation_steps", self.authorisation_steps, 96),
            ("payments", self.payments, 240),
            ("instruments", self.instruments, 512),
            ("orders", self.orders, 104),
            ("special_orders", self.special_orders, 100),
            ("order_sessions", self.order_sessions, 44),
            ("client_order_ids", self.client_order_ids, 64),
            ("price_levels", self.price_levels, 352),
            ("proposals", self.proposals, 224),
            ("throttles", self.throttles, 320),
            ("positions", self.positions, 144),
        ]
    }

    /// Deadlines that can stand at once.
    pub(super) fn deadlines(&self) -> usize {
        let rows = [
            self.transfers,
            self.authorisations,
            self.special_orders,
            self.payments,
            self.proposals,
        ];
        // One more for liquidity saving by the clock, and one for each phase.
        rows.iter().map(|rows| *rows as usize).sum::<usize>() + 1 + DayPhase::ALL.len()
    }

    /// Memory that all tables take at most, bytes.
    pub fn bytes_max(&self) -> u64 {
        let bytes = self
            .tables()
            .map(|(_, entries, each)| u64::from(entries) * each);
        bytes.iter().sum()
    }

    /// Checks that every table has entries, and none more than [`Limits::ENTRIES_MAX`]; the error
    /// names the one that is wrong.
    pub fn check(&self) -> Result<(), String> {
        let range = 1..=Limits::ENTRIES_MAX;
        for (name, days) in [
            ("window_days", self.window_days),
            ("refund_days", self.refund_days),
        ] {
            if !(1..=Limits::DAYS_MAX).contains(&days) {
                return Err(format!(
                    "limits.{name} = {days} must be 1 to {}",
                    Limits::DAYS_MAX
                ));
            }
        }
        match self
            .tables()
            .iter()
            .find(|(_, entries, _)| !range.contains(entries))
        {
            Some((name, entries, _)) => Err(format!(
                "limits.{name} = {entries} must be 1 to {}",
                Limits::ENTRIES_MAX
            )),
            None => Ok(()),
        }
    }

    /// Small tables for tests and doc examples.
    pub fn small() -> Limits {
        Limits {
            assets: 16,
            participants: 64,
            accounts: 256,
            transfers: 4_096,
            window_days: 2,
            authorisations: 256,
            authorisation_steps: 1_024,
            refund_days: 30,
            payments: 4_096,
            instruments: 16,
            orders: 1_024,
            special_orders: 256,
            order_sessions: 16,
            client_order_ids: 4_096,
            price_levels: 1_024,
            lookup_secret: 0,
            proposals: 8,
            throttles: 16,
            positions: 8,
        }
    }
}
