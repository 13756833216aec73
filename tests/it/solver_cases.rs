//! The solver on seeded queues, against what slow models settle of them: tests/data/
//! make_solver_cases.py makes the queues and holds the models. Each sum per (banks, payments,
//! liquidity) must be no less than that of rounding the linear relaxation, and the relaxation's value
//! the same to the unit. `MILLRACE_SOLVER_STEPS` gives it more time; with `--nocapture` every
//! instance is reported.

use millrace::solver::{Account, Budget, Class, Payment, Problem, solve};
use serde_json::Value;
use std::collections::BTreeMap;

/// Sums over the instances of one column.
#[derive(Default)]
struct Column {
    queued: u128,
    grp: u128,
    rounding: u128,
    ours: u128,
    bound: u128,
}

#[test]
fn seeded_queues_settle_at_least_what_rounding_the_relaxation_settles() {
    let steps = std::env::var("MILLRACE_SOLVER_STEPS");
    let steps = steps.map_or(60_000, |steps| steps.parse().expect("a number"));
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../data/solver_cases.json")).expect("cases are JSON");
    let mut columns: BTreeMap<(u64, usize, u64), Column> = BTreeMap::new();
    for case in &cases {
        let banks = number(&case["banks"]);
        let count = list(&case["payments"]).len();
        for level in list(&case["levels"]) {
            let problem = problem_of(case, level);
            let solution = solve(&problem, Budget { steps, seed: 1 });
            let [grp, rounding, bound] =
                ["grp", "lp_rounding", "lp_bound"].map(|name| u128::from(number(&level[name])));
            let liquidity = number(&level["liquidity"]);
            println!(
                "{banks} banks, {count} payments, {liquidity} per mille, seed {}: grp {grp}, rounding {rounding}, ours {}, bound {} of {}",
                case["seed"],
                solution.value,
                solution.bound,
                problem.value()
            );
            assert_eq!(
                solution.bound, bound,
                "the relaxation is solved to the optimum"
            );
            let column = columns.entry((banks, count, liquidity)).or_default();
            column.queued += problem.value();
            column.grp += grp;
            column.rounding += rounding;
            column.ours += solution.value;
            column.bound += solution.bound;
        }
    }
    for ((banks, count, liquidity), column) in columns {
        let per_cent = |part: u128| part as f64 * 100.0 / column.queued as f64;
        println!(
            "{banks:3} banks {count:5} payments {liquidity:4} per mille: grp {:5.1}, rounding {:5.1}, ours {:5.1}, bound {:5.1}",
            per_cent(column.grp),
            per_cent(column.rounding),
            per_cent(column.ours),
            per_cent(column.bound)
        );
        assert!(
            column.ours >= column.rounding,
            "{banks} banks, {count} payments, {liquidity} per mille: {} settled, rounding the \
             relaxation {}",
            column.ours,
            column.rounding
        );
    }
}

fn problem_of(case: &Value, level: &Value) -> Problem {
    let mut problem = Problem::new();
    for balance in list(&level["balances"]) {
        problem.add_account(Account::with(number(balance).into()));
    }
    for payment in list(&case["payments"]) {
        problem.add_payment(Payment {
            debtor: number(&payment[0]) as u32,
            creditor: number(&payment[1]) as u32,
            amount: number(&payment[2]).into(),
            class: Class::Normal,
            is_movable: true,
        });
    }
    problem
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}
