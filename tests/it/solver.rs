//! The solver against a slow, obvious model: every set of a few payments is tried, with classes,
//! reservations, limits and credit. What the engine says of its batches, and its value on seeded
//! instances, stand in the other tests of this file.

use millrace::solver::{Account, Budget, Class, Limit, Payment, Problem, solve};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

const CLASSES: [Class; 3] = [Class::Urgent, Class::High, Class::Normal];

/// A few payments between a few accounts, everything that bounds them now and then.
fn small_problem(rng: &mut Pcg64Mcg) -> Problem {
    let mut problem = Problem::new();
    let accounts = rng.random_range(2..5);
    for _ in 0..accounts {
        let mut some = |share: u32, most: i128| {
            if rng.random_range(0..share) == 0 {
                rng.random_range(0..most)
            } else {
                0
            }
        };
        let reserved = [some(4, 9) as u128, some(4, 6) as u128];
        let liquidity = some(2, 30) - some(5, 25);
        let multilateral = (some(4, 2) == 1).then(|| some(1, 25) - 4);
        problem.add_account(Account {
            liquidity: (some(9, 9) < 7).then_some(liquidity),
            reserved,
            multilateral,
        });
    }
    let ordered = rng.random_range(0..3) == 0;
    for _ in 0..rng.random_range(1..11) {
        let debtor = rng.random_range(0..accounts);
        let creditor = (debtor + rng.random_range(1..accounts)) % accounts;
        let class = if ordered { rng.random_range(0..3) } else { 2 };
        problem.add_payment(Payment {
            debtor,
            creditor,
            amount: rng.random_range(1..30),
            class: CLASSES[class],
            is_movable: rng.random_range(0..12) > 0,
        });
    }
    for _ in 0..rng.random_range(0..3) {
        let account = rng.random_range(0..accounts);
        let counterparty = (account + rng.random_range(1..accounts)) % accounts;
        let is_there =
            |limit: &Limit| (limit.account, limit.counterparty) == (account, counterparty);
        if !problem.limits().iter().any(is_there) {
            problem.add_limit(Limit {
                account,
                counterparty,
                room: rng.random_range(-3..25),
            });
        }
    }
    problem.set_bypass(rng.random_range(0..5) > 0);
    problem
}

/// Whether a set can settle together, straight from the rules.
fn can_settle(problem: &Problem, set: &[usize]) -> bool {
    let payments = problem.payments();
    (0..problem.accounts().len() as u32).all(|account| {
        let row = problem.accounts()[account as usize];
        let sum = |is_it: &dyn Fn(&Payment) -> bool| -> i128 {
            let those = set.iter().map(|at| &payments[*at]).filter(|one| is_it(one));
            those.map(|one| one.amount as i128).sum()
        };
        let paid = CLASSES.map(|class| sum(&|one| one.debtor == account && one.class == class));
        if paid == [0; 3] {
            return true;
        }
        let got = sum(&|one| one.creditor == account);
        let unused = [0, 1].map(|at| (row.reserved[at] as i128 - paid[at]).max(0));
        let floor = match paid {
            [_, _, normal] if normal > 0 => unused[0] + unused[1],
            [_, high, _] if high > 0 => unused[0],
            _ => 0,
        };
        let has_money = row
            .liquidity
            .is_none_or(|money| money + got - paid.iter().sum::<i128>() >= floor);
        let is_ordered = payments.iter().enumerate().all(|(at, stays)| {
            set.contains(&at)
                || stays.debtor != account
                || !set.iter().any(|other| {
                    let goes = &payments[*other];
                    let overtakes = goes.class > stays.class
                        || goes.class == stays.class
                            && *other > at
                            && (goes.class != Class::Normal || !problem.bypass());
                    goes.debtor == account && overtakes
                })
        });
        let own = |other: u32| {
            let limits = problem.limits().iter();
            limits
                .filter(|limit| limit.account == account && limit.counterparty == other)
                .map(|limit| limit.room)
                .next()
        };
        let sent = |is_it: &dyn Fn(u32) -> bool| {
            sum(&|one| one.debtor == account && one.class == Class::Normal && is_it(one.creditor))
        };
        let keeps = |is_it: &dyn Fn(u32) -> bool, room: i128| {
            let back = sum(&|one| one.creditor == account && is_it(one.debtor));
            sent(is_it) == 0 || sent(is_it) - back <= room
        };
        let mut limits = problem
            .limits()
            .iter()
            .filter(|limit| limit.account == account);
        let keeps_limits = limits
            .all(|limit| keeps(&|other| other == limit.counterparty, limit.room))
            && row
                .multilateral
                .is_none_or(|room| keeps(&|other| own(other).is_none(), room));
        has_money && is_ordered && keeps_limits
    })
}

fn best_by_trying(problem: &Problem) -> u128 {
    let movable: Vec<usize> = (0..problem.payments().len())
        .filter(|at| problem.payments()[*at].is_movable)
        .collect();
    let sets = 0..1_u32 << movable.len();
    sets.map(|bits| {
        let set = (0..movable.len()).filter(|at| bits >> at & 1 == 1);
        let set: Vec<usize> = set.map(|at| movable[at]).collect();
        let value = set.iter().map(|at| problem.payments()[*at].amount).sum();
        if can_settle(problem, &set) { value } else { 0 }
    })
    .max()
    .unwrap()
}

#[test]
fn small_problems_are_solved_to_the_best_that_trying_every_set_finds() {
    let (mut missed, mut settled) = (0, 0);
    for seed in 1..=250 {
        let problem = small_problem(&mut Pcg64Mcg::seed_from_u64(seed));
        let budget = Budget { steps: 4_000, seed };
        let solution = solve(&problem, budget);
        let set: Vec<usize> = solution.payments.iter().map(|at| *at as usize).collect();
        assert!(
            can_settle(&problem, &set),
            "seed {seed}: {problem:?} {set:?}"
        );
        assert!(set.iter().all(|at| problem.payments()[*at].is_movable));
        let value: u128 = set.iter().map(|at| problem.payments()[*at].amount).sum();
        assert_eq!(value, solution.value);
        let best = best_by_trying(&problem);
        assert!(
            value <= best && best <= solution.bound,
            "seed {seed}: {solution:?}, {best}"
        );
        missed += u32::from(value < best);
        settled += u32::from(best > 0);
    }
    assert!(settled > 125, "{settled} settle anything at all");
    assert!(missed <= 5, "{missed} of {settled} missed the best");
}

#[test]
fn every_run_repeats() {
    let problem = small_problem(&mut Pcg64Mcg::seed_from_u64(7));
    let budget = Budget {
        steps: 10_000,
        seed: 3,
    };
    assert_eq!(solve(&problem, budget), solve(&problem, budget));
}

#[test]
fn amounts_beyond_64_bits_are_solved_exactly() {
    let mut problem = Problem::new();
    let unit = 1_u128 << 90;
    let a = problem.add_account(Account::with(1));
    let b = problem.add_account(Account::with(0));
    let mut add = |debtor, creditor, amount| {
        problem.add_payment(Payment {
            debtor,
            creditor,
            amount,
            class: Class::Normal,
            is_movable: true,
        })
    };
    // One unit is there beyond what comes back: two are not.
    add(a, b, unit + 1);
    add(b, a, unit);
    add(a, b, unit + 2);
    add(b, a, unit);
    let solution = solve(&problem, Budget::default());
    assert_eq!(solution.payments, [0, 1]);
    assert!(solution.bound >= solution.value);
}
