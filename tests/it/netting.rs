//! Liquidity-saving algorithms against slow, obvious models, payment by payment: tests/data/
//! make_netting_cases.py holds the models, invents queues and says what each algorithm settles.
//! `MILLRACE_NETTING_CASES` plays another file of such cases.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::event::{Event, SettledBy};
use millrace::protocol::frame::EventSlot;
use millrace::protocol::script::ScriptParser;
use serde_json::Value;

#[test]
fn algorithms_settle_what_their_models_settle() {
    let text = match std::env::var("MILLRACE_NETTING_CASES") {
        Ok(path) => std::fs::read_to_string(path).expect("a file of cases"),
        Err(_) => include_str!("../data/netting_cases.json").to_string(),
    };
    let cases: Vec<Value> = serde_json::from_str(&text).expect("cases are JSON");
    assert!(cases.len() >= 200);
    for (number, case) in cases.iter().enumerate() {
        let settled = play(case);
        let wanted: Vec<u128> = numbers(&case["settled"]);
        assert_eq!(settled, wanted, "case {number}: {case}");
    }
}

fn numbers(list: &Value) -> Vec<u128> {
    let list = list.as_array().expect("a list");
    list.iter()
        .map(|number| number.as_u64().expect("a number").into())
        .collect()
}

/// Queues everything while there is no money, then brings money, then what bounds it, then runs.
fn play(case: &Value) -> Vec<u128> {
    let mut world = World::new();
    let accounts = case["accounts"].as_array().expect("accounts");
    for (at, sums) in accounts.iter().enumerate() {
        let (account, spent) = (at + 1, -sums[0].as_i64().expect("a number"));
        world.execute(&format!(
            r#"{{"cmd":"create_account","account":{account},"participant":1,"asset":1,"flags":["settlement"]}}"#
        ));
        // An account on credit has spent some of it before.
        if spent > 0 {
            world.execute(&format!(
                r#"{{"cmd":"set_credit_line","account":{account},"amount":{spent}}}"#
            ));
            world.execute(&format!(
                r#"{{"cmd":"transfer","id":{account},"debit_account":{account},"credit_account":999,"amount":{spent}}}"#
            ));
        }
    }
    let list = |name: &str| case[name].as_array().expect("a list").iter().map(numbers);
    for payment in list("payments") {
        let [id, debtor, creditor, amount, class] = payment[..] else {
            panic!("five numbers");
        };
        let class = ["urgent", "high", "normal"][class as usize];
        let (debtor, creditor) = (debtor + 1, creditor + 1);
        world.execute(&format!(
            r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{debtor},"creditor_account":{creditor},"amount":{amount},"priority":"{class}"}}"#
        ));
    }
    for (at, account) in accounts.iter().enumerate() {
        let number = |index: usize| account[index].as_i64().expect("a number");
        let account = at + 1;
        let commands = [
            format!(
                r#"{{"cmd":"set_credit_line","account":{account},"amount":{}}}"#,
                number(1)
            ),
            format!(
                r#"{{"cmd":"transfer","id":{},"debit_account":999,"credit_account":{account},"amount":{}}}"#,
                100 + account,
                number(0).max(0)
            ),
        ];
        for command in commands {
            assert_eq!(
                world.execute(&command).len(),
                1,
                "nothing settles before the run"
            );
        }
    }
    for (at, account) in accounts.iter().enumerate() {
        for (class, amount) in [("urgent", &account[2]), ("high", &account[3])] {
            world.execute(&format!(
                r#"{{"cmd":"set_reservation","account":{},"class":"{class}","amount":{amount}}}"#,
                at + 1
            ));
        }
    }
    for limit in list("bilateral") {
        world.execute(&format!(
            r#"{{"cmd":"set_bilateral_limit","account":{},"counterparty":{},"amount":{}}}"#,
            limit[0] + 1,
            limit[1] + 1,
            limit[2]
        ));
    }
    for limit in list("multilateral") {
        world.execute(&format!(
            r#"{{"cmd":"set_multilateral_limit","account":{},"amount":{}}}"#,
            limit[0] + 1,
            limit[1]
        ));
    }
    let algorithm = case["algorithm"].as_str().expect("an algorithm");
    let events = world.execute(&format!(
        r#"{{"cmd":"run_liquidity_saving","algorithm":"{algorithm}"}}"#
    ));
    let mut settled: Vec<u128> = events
        .iter()
        .filter_map(|event| match event.event() {
            Some(Event::PaymentSettled(moved)) if moved.by != SettledBy::Release => {
                Some(moved.id.0)
            }
            _ => None,
        })
        .collect();
    settled.sort_unstable();
    settled
}

struct World {
    engine: Engine,
    parser: ScriptParser,
}

impl World {
    fn new() -> World {
        let mut world = World {
            engine: Engine::new(&Limits::small()),
            parser: ScriptParser::default(),
        };
        world.execute(r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#);
        world.execute(r#"{"cmd":"create_participant","participant":1,"code":"CB"}"#);
        world.execute(r#"{"cmd":"create_account","account":999,"participant":1,"asset":1}"#);
        world.execute(
            r#"{"cmd":"set_liquidity_saving","entry_offset":false,"bypass":false,"automatic":false}"#,
        );
        world
    }

    fn execute(&mut self, line: &str) -> Vec<EventSlot> {
        let frame = self.parser.parse(line).expect("sound").expect("not blank");
        let mut out = Outbox::with_capacity(16);
        let sequence = self.engine.sequence() + 1;
        self.engine.apply(sequence, frame.as_ref(), &mut out);
        self.engine
            .audit()
            .unwrap_or_else(|why| panic!("{line}: {why}"));
        out.events().to_vec()
    }
}
