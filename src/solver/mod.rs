//! The bypass problem: of all payments that wait, the set of largest value that can settle at once.
//! Pure: it knows no engine, clock, file or socket, only a [`Problem`]. Every run repeats.
//!
//! ```text
//!   Problem --relax (network simplex)--> flows --round--> choice --anneal--> choice --> Solution
//!                      |                            repaired and filled each time, exactly
//!                      +--> bound: no choice is worth more
//! ```
//! Choosing is NP-hard (Guentzer, Jungnickel, Leclerc 1998), so a solution says beside its value how
//! much the best might be. Whoever settles it checks it again (docs/solver.md).

mod board;
mod flow;
mod layout;
mod part;
mod problem;
mod round;
mod search;

pub use part::{first_part, fits};
pub use problem::{AMOUNT_MAX, Account, Class, Limit, Payment, PaymentIndex, Problem};

use board::Board;
use layout::Layout;
use round::{Scaled, relax, round};
use search::{Cooling, Search};
use std::cmp::Reverse;

/// How long to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Steps of improvement; 20 million take about a second. 0 stops at the rounded relaxation.
    pub steps: u64,
    /// Seed of its random numbers.
    pub seed: u64,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget {
            steps: 20_000_000,
            seed: 1,
        }
    }
}

/// Payments that can settle together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// The payments, ascending.
    pub payments: Vec<PaymentIndex>,
    /// Minor units of them.
    pub value: u128,
    /// What the rounded relaxation alone is worth, minor units.
    pub rounded: u128,
    /// No set is worth more, minor units: what the relaxation is worth.
    pub bound: u128,
}

/// Solves a problem as well as the budget allows.
///
/// ```
/// use millrace::solver::{Account, Budget, Class, Payment, Problem, solve};
/// let mut problem = Problem::new();
/// let (a, b) = (
///     problem.add_account(Account::with(1)),
///     problem.add_account(Account::with(0)),
/// );
/// for (debtor, creditor, amount) in [(a, b, 10), (b, a, 9), (b, a, 5)] {
///     problem.add_payment(Payment {
///         debtor,
///         creditor,
///         amount,
///         class: Class::Normal,
///         is_movable: true,
///     });
/// }
/// let solution = solve(&problem, Budget::default());
/// assert_eq!((solution.payments, solution.value), (vec![0, 1], 19));
/// ```
pub fn solve(problem: &Problem, budget: Budget) -> Solution {
    solve_until(problem, budget, &mut || false)
}

/// The same, ended early once `is_over` says so; it is asked every few milliseconds.
pub fn solve_until(
    problem: &Problem,
    budget: Budget,
    is_over: &mut dyn FnMut() -> bool,
) -> Solution {
    let layout = Layout::of(problem);
    let scaled = Scaled::of(problem, &layout);
    let orders = orders(problem, &layout);
    let flows = relax(problem, &layout, &scaled);
    let bound = flows.iter().map(|flow| *flow as u128).sum::<u128>() << scaled.shift;
    let mut best = round(problem, &layout, &scaled, &flows, &orders);
    let rounded = best.value() as u128;
    // Never less than gridlock resolution settles.
    let mut in_order = Board::new(problem, &layout);
    in_order.take(|_| true);
    in_order.repair_in_order();
    let is_in = in_order.chosen_mask();
    take_if_better(
        &mut best,
        &|at| is_in[at as usize],
        problem,
        &layout,
        &orders,
    );
    // All in, and out again what nobody bears: where little flows whole, that may be more.
    take_if_better(&mut best, &|_| true, problem, &layout, &orders);
    improve(
        &mut best, problem, &layout, &scaled, &orders, budget, is_over,
    );
    assert!(best.is_feasible(), "what is proposed is feasible");
    Solution {
        payments: best.chosen(),
        value: best.value() as u128,
        rounded,
        bound: bound.min(problem.value()),
    }
}

/// Orders in which what is out is tried again: by class and age, and the largest first.
fn orders(problem: &Problem, layout: &Layout) -> Vec<Vec<PaymentIndex>> {
    let payment = |at: &PaymentIndex| problem.payments()[*at as usize];
    let mut by_age = layout.usable.clone();
    by_age.sort_by_key(|at| payment(at).class);
    let mut by_amount = layout.usable.clone();
    by_amount.sort_by_key(|at| Reverse(payment(at).amount));
    vec![by_age, by_amount]
}

/// Makes a suggestion exact, and keeps it if it is worth more.
fn take_if_better<'a>(
    best: &mut Board<'a>,
    wanted: &dyn Fn(PaymentIndex) -> bool,
    problem: &'a Problem,
    layout: &'a Layout,
    orders: &[Vec<PaymentIndex>],
) {
    let mut board = Board::new(problem, layout);
    board.take(wanted);
    board.repair();
    for order in orders {
        let mut filled = board.clone();
        filled.fill(order, usize::MAX);
        if filled.value() > best.value() {
            *best = filled;
        }
    }
}

/// Anneals in several runs, each of which cools in another way.
fn improve<'a>(
    best: &mut Board<'a>,
    problem: &'a Problem,
    layout: &'a Layout,
    scaled: &Scaled,
    orders: &[Vec<PaymentIndex>],
    budget: Budget,
    is_over: &mut dyn FnMut() -> bool,
) {
    let count = layout.usable.len() as u64;
    if count == 0 {
        return;
    }
    let sum: u128 = scaled.amounts.iter().map(|amount| *amount as u128).sum();
    let mean = sum as f64 / problem.payments().len() as f64;
    let ways = if budget.steps / count < STEPS_FROM_NOTHING {
        &WAYS[..2]
    } else {
        &WAYS[1..]
    };
    let each_way = budget.steps.div_ceil(ways.len() as u64);
    let steps = (count * STEPS_PER_PAYMENT).max(STEPS_LEAST).min(each_way);
    let mut left = budget.steps;
    for run in 0.. {
        let steps = steps.min(left);
        if steps == 0 || is_over() {
            return;
        }
        left -= steps;
        let way = ways[run as usize % ways.len()];
        let mut search = Search::new(problem, layout, scaled, budget.seed.wrapping_add(run));
        if way.goes_on {
            search.set(best);
        }
        let cooling = Cooling {
            steps,
            from: way.from * mean,
            to: way.to * mean,
            price: way.price,
        };
        search.run(cooling, is_over);
        for choice in [search.best(), search.present()] {
            let mut is_in = vec![false; problem.payments().len()];
            for at in choice {
                is_in[at as usize] = true;
            }
            take_if_better(best, &|at| is_in[at as usize], problem, layout, orders);
        }
    }
}

/// Steps of one run.
const STEPS_PER_PAYMENT: u64 = 15_000;
const STEPS_LEAST: u64 = 100_000;

/// A way to cool, found by trial on seeded instances.
#[derive(Clone, Copy)]
struct Way {
    /// Temperature at the beginning and at the end, in mean amounts.
    from: f64,
    to: f64,
    /// What lacking a unit costs at the beginning and at the end, in units of value.
    price: (f64, f64),
    /// From the best choice so far, not from none.
    goes_on: bool,
}

/// The first two go on from what there is; the last two begin from nothing.
const WAYS: [Way; 4] = [
    Way {
        from: 0.2,
        to: 0.001,
        price: (2.0, 20.0),
        goes_on: true,
    },
    Way {
        from: 0.5,
        to: 0.001,
        price: (1.5, 50.0),
        goes_on: true,
    },
    Way {
        from: 5.0,
        to: 0.002,
        price: (5.0, 50.0),
        goes_on: false,
    },
    Way {
        from: 5.0,
        to: 0.01,
        price: (3.0, 100.0),
        goes_on: false,
    },
];

/// Steps per payment that beginning from nothing takes.
const STEPS_FROM_NOTHING: u64 = 3_000;
