//! The payments that both sides play, and what came of them.

use hdrhistogram::Histogram;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::time::Duration;

/// One payment, as a client sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Its id, the same on a repeat.
    pub id: u64,
    /// Pays.
    pub debtor: u32,
    /// Receives.
    pub creditor: u32,
    /// Minor units.
    pub amount: u64,
}

/// What each client sends, in order, and what every account has at the beginning.
pub struct Plan {
    /// Accounts, numbered from 1.
    pub accounts: u32,
    /// What an ordinary account has at the beginning, minor units.
    pub funds: u64,
    /// Accounts from here on have `funds` for one of two payments that are sent at once.
    pub first_victim: u32,
    /// A list of payments for each client.
    pub by_client: Vec<Vec<Payment>>,
    /// Payments sent a second time under the same id.
    pub repeats: u32,
    /// Pairs of payments of which an account can cover one.
    pub overdrafts: u32,
}

/// Funds of every account: more than all it could pay in a run, or exactly one payment's worth.
const FUNDS: u64 = 1_000_000_000_000;

impl Plan {
    /// `payments` between `accounts` from `clients`; one in twenty is also sent by the next client, and one in
    /// twenty is one of a pair that empties an account twice.
    pub fn new(payments: u32, accounts: u32, clients: u32, seed: u64) -> Plan {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut by_client = vec![Vec::new(); clients as usize];
        let (mut repeats, mut overdrafts) = (0, 0);
        let mut id = 0;
        for at in 0..payments {
            id += 1;
            let client = (at % clients) as usize;
            let next = (client + 1) % clients as usize;
            match at % 20 {
                7 => {
                    // Two payments, each of all an account has, by two clients at once.
                    overdrafts += 1;
                    let debtor = accounts + overdrafts;
                    for (sender, id) in [(client, id), (next, id + 1)] {
                        by_client[sender].push(Payment {
                            id,
                            debtor,
                            creditor: 1,
                            amount: FUNDS,
                        });
                    }
                    id += 1;
                }
                kind => {
                    let debtor = any_account(&mut rng, accounts);
                    let step = rng.random_range(1..accounts);
                    let payment = Payment {
                        id,
                        debtor,
                        creditor: (debtor - 1 + step) % accounts + 1,
                        amount: rng.random_range(1..=100_000),
                    };
                    by_client[client].push(payment);
                    if kind == 13 {
                        repeats += 1;
                        by_client[next].push(payment);
                    }
                }
            }
        }
        Plan {
            accounts: accounts + overdrafts,
            funds: FUNDS,
            first_victim: accounts + 1,
            by_client,
            repeats,
            overdrafts,
        }
    }

    /// Payments sent, repeats and overdrafts among them.
    pub fn sent(&self) -> usize {
        self.by_client.iter().map(Vec::len).sum()
    }
}

/// One in five is the first account: every system has an account that everybody pays.
fn any_account(rng: &mut Pcg64Mcg, accounts: u32) -> u32 {
    if rng.random_range(0..5) == 0 {
        1
    } else {
        rng.random_range(1..=accounts)
    }
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It moved money.
    Settled,
    /// Its id had moved money already.
    Repeat,
    /// Its debtor could not cover it.
    Uncovered,
}

/// What one side did with a plan.
pub struct Played {
    /// First payment to last answer.
    pub elapsed: Duration,
    /// From the decision to pay to the durable answer, nanoseconds.
    pub latency: Histogram<u64>,
    /// Payments answered.
    pub answered: u64,
    /// Payments that moved money.
    pub settled: u64,
    /// Second payments that were tried: repeats and pairs.
    pub tried: u64,
    /// Second payments that moved no money, by the balances at the end.
    pub prevented: u64,
}

/// A histogram of nanoseconds up to two minutes.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("bounds are in order")
}
