//! A venue: many accounts that pay each other, and an order book with many orders at rest.

use super::workload::{Orders, Workload, create_account, fill, transfer};
use crate::protocol::command::{AccountFlags, CommandKind};
use crate::protocol::frame::{CommandFrame, CommandSlot};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Accounts of the payers have these numbers and those behind: beyond all that [`Orders`] opens.
const FIRST_ACCOUNT: u64 = 1 << 40;
/// Of the participant and in the asset that [`Orders`] creates.
const HOUSE: u32 = 1_000_000;
const CASH: u32 = 1;
/// Ids of their transfers are beyond those that fund the traders.
const FIRST_TRANSFER: u128 = 1 << 64;

/// By turns a plain transfer between two of the accounts and a command of [`Orders`].
pub struct Venue {
    orders: Orders,
    accounts: u64,
    rng: Pcg64Mcg,
    count: u64,
}

impl Venue {
    /// A stream over `accounts` accounts and about `resting` orders.
    pub fn new(accounts: u64, resting: usize, seed: u64) -> Venue {
        Venue {
            orders: Orders::new(resting, 1_000, seed),
            accounts,
            rng: Pcg64Mcg::seed_from_u64(seed),
            count: 0,
        }
    }
}

impl Workload for Venue {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        let open = |at| create_account(FIRST_ACCOUNT + at, HOUSE, CASH, AccountFlags::NONE);
        // The traders come first, with the asset and the house.
        Box::new(self.orders.setup().chain((0..self.accounts).map(open)))
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        self.count += 1;
        if self.count.is_multiple_of(2) {
            return self.orders.next(slot);
        }
        let debit = self.rng.random_range(0..self.accounts);
        let credit = (debit + self.rng.random_range(1..self.accounts)) % self.accounts;
        let body = transfer(
            FIRST_TRANSFER + u128::from(self.count),
            FIRST_ACCOUNT + debit,
            FIRST_ACCOUNT + credit,
            self.rng.random_range(1..=10_000),
        );
        fill(slot, CommandKind::Transfer, &body);
    }
}
