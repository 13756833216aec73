//! The workloads: made beforehand, from a seed, the same for everybody.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// What is asked of a book. Ids count orders from 1 and are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A limit order that rests with what is not filled.
    Limit {
        id: u64,
        buys: bool,
        price: u64,
        quantity: u64,
    },
    /// The end of an order, which may have been filled before.
    Cancel { id: u64 },
}

/// Fills the book with `resting` orders, then `count` actions: half new orders around the middle, half
/// cancels of random ones among the last so many, as equity markets see them.
pub fn orders(resting: u64, count: usize, seed: u64) -> (Vec<Action>, Vec<Action>) {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut next = 0;
    let mut limit = |random: &mut Pcg64Mcg, crosses: bool| {
        next += 1;
        let buys = random.random_bool(0.5);
        let away = random.random_range(1..=200);
        // One new order in ten reaches over the middle and trades.
        let away = if crosses { -away / 20 } else { away };
        let price = (10_000 + if buys { -away } else { away }) as u64;
        Action::Limit {
            id: next,
            buys,
            price,
            quantity: random.random_range(1..=100),
        }
    };
    let fill = (0..resting).map(|_| limit(&mut random, false)).collect();
    let mut made = resting;
    let mut actions = Vec::with_capacity(count);
    while actions.len() < count {
        if random.random_bool(0.5) {
            let crosses = random.random_bool(0.1);
            actions.push(limit(&mut random, crosses));
            made += 1;
        } else {
            let oldest = made.saturating_sub(resting * 2) + 1;
            let id = random.random_range(oldest..=made.max(oldest));
            actions.push(Action::Cancel { id });
        }
    }
    (fill, actions)
}

/// Transfers between random accounts, numbered from 1: debit account, credit account, amount.
pub fn transfers(accounts: u64, count: usize, seed: u64) -> Vec<(u64, u64, u64)> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    (0..count)
        .map(|_| {
            let debit = random.random_range(1..=accounts);
            let step = random.random_range(1..accounts);
            let credit = (debit - 1 + step) % accounts + 1;
            (debit, credit, random.random_range(1..=1_000))
        })
        .collect()
}
