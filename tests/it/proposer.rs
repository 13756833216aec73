//! Batches of the solver against the engine: on the state they were made for none is ever refused
//! and each settles what the solver promised, in random worlds with everything that bounds
//! payments; and `millrace solve` beside a real node.

use crate::pipeline_support::*;
use millrace::client::Client;
use millrace::engine::{Engine, Limits, Outbox};
use millrace::node::Node;
use millrace::proposer::{AssetProblem, Options, ProposeError, Proposer, problems};
use millrace::protocol::command::{BatchItem, CommandKind, ProposeBatch};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::protocol::units::PaymentId;
use millrace::protocol::wire::Zero;
use millrace::replay::{Nobody, follow};
use millrace::session::SessionTable;
use millrace::solver::{Budget, first_part, fits, solve};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::path::Path;
use std::process::{Command, Output};

struct World {
    engine: Engine,
}

impl World {
    fn execute(&mut self, line: &str) -> Vec<EventSlot> {
        self.apply(&command(line))
    }

    fn apply(&mut self, frame: &CommandFrame) -> Vec<EventSlot> {
        let mut out = Outbox::with_capacity(64);
        let sequence = self.engine.sequence() + 1;
        self.engine.apply(sequence, frame.as_ref(), &mut out);
        out.events().to_vec()
    }

    /// Two currencies, payments of every class while nobody has money, then some money, and
    /// whatever bounds payments.
    fn random(rng: &mut Pcg64Mcg) -> World {
        let mut world = World {
            engine: Engine::new(&Limits::small()),
        };
        let banks = rng.random_range(2..7_u64);
        let bypass = rng.random_range(0..4) > 0;
        world.execute(r#"{"cmd":"set_liquidity_saving","entry_offset":false,"bypass":false,"automatic":false}"#);
        world.execute(r#"{"cmd":"create_participant","participant":99,"code":"CB"}"#);
        for asset in 1..=2_u64 {
            world.execute(&format!(
                r#"{{"cmd":"create_asset","asset":{asset},"code":"CUR{asset}","scale":2}}"#
            ));
            world.execute(&format!(
                r#"{{"cmd":"create_account","account":{asset}99,"participant":99,"asset":{asset}}}"#
            ));
            for bank in 1..=banks {
                world.execute(&format!(
                    r#"{{"cmd":"create_participant","participant":{bank},"code":"B{bank}"}}"#
                ));
                world.execute(&format!(
                    r#"{{"cmd":"create_account","account":{asset}0{bank},"participant":{bank},"asset":{asset},"flags":["settlement"]}}"#
                ));
            }
        }
        let account = |rng: &mut Pcg64Mcg, asset: u64| asset * 100 + rng.random_range(1..=banks);
        for id in 1..=rng.random_range(4..50) {
            let asset = rng.random_range(1..=2);
            let debtor = account(rng, asset);
            let creditor = match rng.random_range(0..15) {
                0 => asset * 100 + 99,
                _ => account(rng, asset),
            };
            let class = ["urgent", "high", "normal", "normal", "normal", "normal"];
            let class = class[rng.random_range(0..6)];
            let amount = 1 + rng.random_range(0..60_u64) * rng.random_range(1..8);
            world.execute(&format!(
                r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debtor},"creditor_account":{creditor},"amount":{amount},"priority":"{class}"}}"#
            ));
            match rng.random_range(0..14) {
                0 => drop(world.execute(&format!(r#"{{"cmd":"hold_payment","id":{id}}}"#))),
                1 => drop(world.execute(&format!(
                    r#"{{"cmd":"move_payment","id":{id},"position":"front"}}"#
                ))),
                2 => drop(world.execute(&format!(
                    r#"{{"cmd":"submit_group","id":{},"legs":[{{"debit_account":{},"credit_account":{},"amount":{amount}}},{{"debit_account":{},"credit_account":{},"amount":7}}]}}"#,
                    1_000 + id,
                    account(rng, 1),
                    account(rng, 1),
                    account(rng, 2),
                    account(rng, 2),
                ))),
                _ => {}
            }
        }
        for asset in 1..=2 {
            for bank in 1..=banks {
                let account_id = asset * 100 + bank;
                if rng.random_range(0..5) == 0 {
                    world.execute(&format!(
                        r#"{{"cmd":"set_reservation","account":{account_id},"class":"{}","amount":{}}}"#,
                        ["urgent", "high"][rng.random_range(0..2)],
                        rng.random_range(1..40)
                    ));
                }
                if rng.random_range(0..5) == 0 {
                    world.execute(&format!(
                        r#"{{"cmd":"set_multilateral_limit","account":{account_id},"amount":{}}}"#,
                        rng.random_range(0..200)
                    ));
                }
                if rng.random_range(0..4) == 0 {
                    world.execute(&format!(
                        r#"{{"cmd":"set_bilateral_limit","account":{account_id},"counterparty":{},"amount":{}}}"#,
                        account(rng, asset),
                        rng.random_range(0..120)
                    ));
                }
                if rng.random_range(0..4) == 0 {
                    world.execute(&format!(
                        r#"{{"cmd":"set_credit_line","account":{account_id},"amount":{}}}"#,
                        rng.random_range(1..80)
                    ));
                }
                if rng.random_range(0..2) == 0 {
                    world.execute(&format!(
                        r#"{{"cmd":"transfer","id":{account_id},"debit_account":{asset}99,"credit_account":{account_id},"amount":{}}}"#,
                        rng.random_range(1..100)
                    ));
                }
                // Spent on credit that is then taken back: below its line.
                if rng.random_range(0..8) == 0 {
                    world.execute(&format!(
                        r#"{{"cmd":"set_credit_line","account":{account_id},"amount":0}}"#
                    ));
                }
            }
        }
        if rng.random_range(0..6) == 0 {
            world.execute(
                r#"{"cmd":"set_participant_state","participant":1,"state":"debit_blocked"}"#,
            );
        }
        if bypass {
            world.execute(r#"{"cmd":"set_liquidity_saving","bypass":true}"#);
        }
        world
    }
}

fn batch_of(based_on_seq: u64, ids: &[PaymentId]) -> CommandFrame {
    let head = ProposeBatch {
        based_on_seq,
        count: ids.len() as u32,
        _reserved: [Zero::Zero; 4],
    };
    let items: Vec<BatchItem> = ids.iter().map(|id| BatchItem { id: *id }).collect();
    CommandFrame::with_items(CommandKind::ProposeBatch, &head, &items)
}

/// Payments and value that a batch settled.
fn settled(events: &[EventSlot]) -> Option<(u64, u128)> {
    events.iter().find_map(|event| match event.event() {
        Some(Event::LiquiditySavingDone(done)) => Some((done.settled, done.value.0)),
        _ => None,
    })
}

fn asset_problem(world: &World, at: usize) -> Option<AssetProblem> {
    problems(&world.engine.waiting()).into_iter().nth(at)
}

#[test]
fn no_batch_is_refused_on_the_state_it_was_made_for() {
    let worlds: u64 = match std::env::var("MILLRACE_PROPOSER_WORLDS") {
        Ok(count) => count.parse().expect("a number"),
        Err(_) => 300,
    };
    let (mut batches, mut parts, mut with_others) = (0, 0, 0);
    for seed in 1..=worlds {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut world = World::random(&mut rng);
        for asset in 0..2 {
            let Some(found) = asset_problem(&world, asset) else {
                continue;
            };
            let budget = Budget { steps: 3_000, seed };
            let solution = solve(&found.problem, budget);
            assert!(
                solution.value <= solution.bound,
                "seed {seed}: {solution:?}"
            );
            if solution.payments.is_empty() {
                continue;
            }
            assert!(fits(&found.problem, &solution.payments));
            let is_ordered = |at: &u32| {
                let payment = found.problem.payments()[*at as usize];
                payment.class != millrace::solver::Class::Normal
            };
            with_others += u32::from(solution.payments.iter().any(is_ordered));
            // Whole, or in parts: each is feasible behind those before it.
            let most = match seed % 2 {
                0 => usize::MAX,
                _ => rng.random_range(1..4),
            };
            let part = first_part(&found.problem, &solution.payments, most);
            assert!(part.len() <= most);
            if part.is_empty() {
                continue;
            }
            let value: u128 = part
                .iter()
                .map(|at| found.problem.payments()[*at as usize].amount)
                .sum();
            if part.len() == solution.payments.len() {
                assert_eq!(value, solution.value);
                batches += 1;
            } else {
                parts += 1;
            }
            let based_on = world.engine.sequence();
            let events = world.apply(&batch_of(based_on, &found.ids(&part)));
            let said = settled(&events);
            assert_eq!(
                said,
                Some((part.len() as u64, value)),
                "seed {seed}: {:?}",
                events[0].event()
            );
            world
                .engine
                .audit()
                .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            // What is left settles behind the part, if nothing else moved.
            let left: Vec<u32> = solution
                .payments
                .iter()
                .copied()
                .filter(|at| part.binary_search(at).is_err())
                .collect();
            let is_quiet = events.len() == part.len() + 1;
            if left.is_empty() || !is_quiet {
                continue;
            }
            let after = asset_problem(&world, asset).expect("something waits");
            let places = after.places(&found.ids(&left)).expect("all of it waits");
            assert!(
                fits(&after.problem, &places),
                "seed {seed}: the rest of a plan fits"
            );
        }
    }
    assert!(batches > worlds / 8, "{batches} whole batches");
    assert!(parts > worlds / 60, "{parts} parts");
    assert!(
        with_others > worlds as u32 / 16,
        "{with_others} with urgent or high ones"
    );
}

/// Accounts 1 to 3 without money that owe each other in a ring: 30, 40 and 50 around, and 35 back.
fn gridlock() -> Vec<CommandFrame> {
    let mut lines = vec![
        r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.to_string(),
        r#"{"cmd":"set_liquidity_saving","entry_offset":false,"automatic":false}"#.into(),
    ];
    for id in 1..=3 {
        lines.push(format!(
            r#"{{"cmd":"create_participant","participant":{id},"code":"B{id}"}}"#
        ));
        lines.push(format!(
            r#"{{"cmd":"create_account","account":{id},"participant":{id},"asset":1,"flags":["settlement"]}}"#
        ));
    }
    // In queue order nothing can settle: each queue begins with what nobody can bear.
    for (id, (debtor, creditor, amount)) in (1..).zip([
        (1, 2, 999),
        (2, 3, 899),
        (3, 1, 799),
        (1, 2, 40),
        (2, 3, 40),
        (3, 1, 40),
        (3, 2, 7),
    ]) {
        lines.push(format!(
            r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debtor},"creditor_account":{creditor},"amount":{amount}}}"#
        ));
    }
    lines.iter().map(|line| command(line)).collect()
}

fn run_solve(dir: &Path, more: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["solve", "--budget-ms", "50", "--dir"])
        .arg(dir)
        .args(more)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn state_of(client: &mut Client, payment: u64) -> String {
    let asked = command(&format!(r#"{{"cmd":"query_payment","id":{payment}}}"#));
    lines(&client.call(&asked).unwrap())
}

#[test]
fn solve_settles_a_gridlock_beside_a_running_node() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let node = Node::start(&config).unwrap();
    let mut client = connect(&node);
    let address = node.address().to_string();
    let solve = |more: &[&str]| {
        let mut words = vec!["--connect", &address];
        words.extend(more);
        run_solve(&config.dir, &words)
    };
    let (code, out, err) = solve(&["--once"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "nothing waits\n");

    for command in gridlock() {
        client.call(&command).unwrap();
    }
    let ran = client
        .call(&command(
            r#"{"cmd":"run_liquidity_saving","algorithm":"grp"}"#,
        ))
        .unwrap();
    assert_eq!(settled(&ran), Some((0, 0)), "gridlock resolution cannot");
    let (code, out, err) = solve(&["--dry-run"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("would propose 4 5 6\n"), "{out}");
    assert!(state_of(&mut client, 4).contains("queued"));

    let (code, out, err) = solve(&["--once", "--json"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let said: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = said
        .iter()
        .map(|line| line["event"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["solved", "settled", "round_done"]);
    assert_eq!(said[0]["queued"], 7);
    assert_eq!(said[0]["value"], 120);
    assert!(said[0]["bound"].as_u64().unwrap() >= 120);
    assert_eq!(
        (&said[1]["settled"], &said[1]["value"]),
        (&3.into(), &120.into())
    );
    for payment in 4..=6 {
        let state = state_of(&mut client, payment);
        assert!(
            state.contains("settled") && state.contains("batch"),
            "{state}"
        );
    }
    assert!(state_of(&mut client, 7).contains("queued"));

    let (code, out, _) = solve(&["--once"]);
    assert_eq!(code, Some(0));
    assert!(
        out.ends_with("no payments that wait can settle together\n"),
        "{out}"
    );

    // What stands in memory is what the journal says.
    let digest = node.stop().engine.digest();
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(64));
    follow(&config.dir, None, &mut engine, &mut sessions, &mut Nobody).unwrap();
    assert_eq!(engine.digest(), digest);

    let (code, out, err) = run_solve(&config.dir, &["--once", "--connect", &address]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        err.starts_with("millrace: cannot reach a node at 127.0.0.1:"),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1);
}

#[test]
fn solve_says_in_one_line_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, err) = run_solve(&dir.path().join("nowhere"), &["--once"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("is not a directory"), "{err}");
    let (code, _, err) = run_solve(dir.path(), &["--once", "--dry-run"]);
    assert_eq!((code, err.lines().count()), (Some(1), 1), "{err}");
    let (code, _, err) = run_solve(dir.path(), &["--batch", "0"]);
    assert_eq!((code, err.lines().count()), (Some(2), 1), "{err}");

    // The journal of one node, the address of another.
    let config = small(&dir);
    let node = Node::start(&config).unwrap();
    let mut client = connect(&node);
    for command in gridlock() {
        client.call(&command).unwrap();
    }
    let other_dir = tempfile::tempdir().unwrap();
    let other = Node::start(&small(&other_dir)).unwrap();
    let address = other.address().to_string();
    let (code, _, err) = run_solve(&config.dir, &["--once", "--connect", &address]);
    assert_eq!(code, Some(1));
    assert!(err.contains("writes to another directory"), "{err}");
    assert_eq!(err.lines().count(), 1);

    // The day lets nothing settle.
    client
        .call(&command(r#"{"cmd":"set_phase","phase":"cut2"}"#))
        .unwrap();
    let address = node.address().to_string();
    let (code, _, err) = run_solve(&config.dir, &["--once", "--connect", &address]);
    assert_eq!(code, Some(1));
    assert!(err.contains("phase_forbids"), "{err}");
    node.stop();
    other.stop();
}

#[test]
fn a_plan_that_the_state_overtakes_is_solved_anew() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let node = Node::start(&config).unwrap();
    let mut client = connect(&node);
    for command in gridlock() {
        client.call(&command).unwrap();
    }
    let options = Options {
        budget: std::time::Duration::from_millis(20),
        attempts: 2,
        ..Options::default()
    };
    let mut proposer = Proposer::open(&config.dir, options).unwrap();
    let mut node_client = connect(&node);
    // A payment of the choice is taken back while it is being proposed, then another one comes.
    let mut solved = 0;
    let tally = proposer.round(Some(&mut node_client), &mut || false, &mut |news| {
        if let millrace::proposer::News::Solved { .. } = news {
            solved += 1;
            if solved == 1 {
                for line in [
                    r#"{"cmd":"cancel_payment","id":5}"#,
                    r#"{"cmd":"submit_payment","id":8,"debtor_account":2,"creditor_account":3,"amount":40}"#,
                ] {
                    client.call(&command(line)).unwrap();
                }
            }
        }
    });
    let tally = tally.unwrap();
    assert_eq!((solved, tally.payments, tally.value), (2, 3, 120));

    // Overtaken at every attempt it gives up, and nothing has moved.
    for id in 21..24 {
        let (debtor, creditor) = (id - 20, (id - 20) % 3 + 1);
        let line = format!(
            r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debtor},"creditor_account":{creditor},"amount":60}}"#
        );
        client.call(&command(&line)).unwrap();
    }
    let mut next = 22;
    let result = proposer.round(Some(&mut node_client), &mut || false, &mut |news| {
        if let millrace::proposer::News::Solved { .. } = news {
            let lines = [
                format!(r#"{{"cmd":"cancel_payment","id":{next}}}"#),
                format!(
                    r#"{{"cmd":"submit_payment","id":{},"debtor_account":2,"creditor_account":3,"amount":60}}"#,
                    next + 10
                ),
            ];
            next += 10;
            for line in lines {
                client.call(&command(&line)).unwrap();
            }
        }
    });
    assert!(
        matches!(result, Err(ProposeError::Outrun { attempts: 2 })),
        "{result:?}"
    );
    node.stop();
}
