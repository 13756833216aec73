//! Gridlocks with known answers: the public cases of settlement literature (tests/data), and the
//! properties that the algorithm's authors prove.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::event::{Event, SettledBy};
use millrace::protocol::frame::EventSlot;
use millrace::protocol::script::ScriptParser;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::Value;
use std::collections::BTreeMap;

#[test]
fn public_cases_settle_as_published() {
    let text = include_str!("../data/gridlock_cases.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("cases are JSON");
    assert_eq!(cases.len(), 28);
    for case in &cases {
        play(case).unwrap_or_else(|why| panic!("{}: {why}", case["name"]));
    }
}

fn play(case: &Value) -> Result<(), String> {
    let banks: BTreeMap<String, i64> = case["banks"]
        .as_object()
        .ok_or("banks")?
        .iter()
        .map(|(bank, balance)| (bank.clone(), balance.as_i64().unwrap_or(0)))
        .collect();
    let names: Vec<&String> = banks.keys().collect();
    let account = |bank: &Value| 1 + names.iter().position(|name| *name == bank).expect("known");
    // Everything is queued before there is money, as the cases have it; then the money comes.
    let mut world = World::new(names.len(), |_| 0);
    let mut payments: Vec<&Value> = case["payments"]
        .as_array()
        .ok_or("payments")?
        .iter()
        .collect();
    payments.sort_by_key(|payment| payment["seq"].as_u64());
    let mut settled = Vec::new();
    for (at, payment) in payments.iter().enumerate() {
        let priority = payment["priority"]
            .as_str()
            .ok_or("priority")?
            .to_lowercase();
        let line = format!(
            r#"{{"cmd":"submit_payment","id":{},"debtor_account":{},"creditor_account":{},"amount":{},"priority":"{priority}"}}"#,
            at + 1,
            account(&payment["debtor"]),
            account(&payment["creditor"]),
            payment["amount"],
        );
        settled.extend(settled_by(&world.execute(&line)));
    }
    for (at, name) in names.iter().enumerate() {
        settled.extend(settled_by(&world.fund(at + 1, banks[*name])));
    }
    let name_of = |id: &u128| {
        payments[*id as usize - 1]["id"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    check(
        &world,
        &names,
        &case["after_fifo_release"],
        settled.iter().map(name_of).collect(),
    )?;
    let events = world.execute(r#"{"cmd":"run_liquidity_saving","algorithm":"grp"}"#);
    let by_grp = settled_by(&events);
    let wanted = &case["after_GRP_strict_fifo"];
    check(&world, &names, wanted, by_grp.iter().map(name_of).collect())
}

fn check(
    world: &World,
    names: &[&String],
    wanted: &Value,
    mut settled: Vec<String>,
) -> Result<(), String> {
    let mut expected: Vec<String> = wanted["settled"]
        .as_array()
        .ok_or("settled")?
        .iter()
        .filter_map(|id| id.as_str().map(String::from))
        .collect();
    settled.sort();
    expected.sort();
    if settled != expected {
        return Err(format!("settled {settled:?}, published {expected:?}"));
    }
    for (at, name) in names.iter().enumerate() {
        let (has, should) = (world.balance(at + 1), wanted["balances"][*name].as_i64());
        if Some(has) != should {
            return Err(format!("{name} has {has}, published {should:?}"));
        }
    }
    Ok(())
}

/// Random queues against an obvious model: while an account is below zero, drop the last payment of
/// any account that is, in whatever order; the outcome must not depend on it, nor differ from ours.
#[test]
fn random_gridlocks_agree_with_the_obvious_model_in_every_order_of_repair() {
    for seed in 0..400 {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let banks = rng.random_range(2..=7usize);
        let balances: Vec<i64> = (0..banks).map(|_| rng.random_range(0..40)).collect();
        let mut world = World::new(banks, |at| balances[at]);
        let mut queued: Vec<Queued> = Vec::new();
        for id in 1..=rng.random_range(2..40u128) {
            let from = rng.random_range(0..banks);
            let to = (from + rng.random_range(1..banks)) % banks;
            let amount = rng.random_range(1..60i64);
            let class = rng.random_range(0..3u8).max(rng.random_range(0..3));
            let line = format!(
                r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{},"creditor_account":{},"amount":{amount},"priority":"{}"}}"#,
                from + 1,
                to + 1,
                ["urgent", "high", "normal"][class as usize],
            );
            let events = world.execute(&line);
            queued.push(Queued {
                id,
                from,
                to,
                amount,
                class,
            });
            let gone = settled_by(&events);
            queued.retain(|payment| !gone.contains(&payment.id));
        }
        let balances: Vec<i64> = (1..=banks).map(|account| world.balance(account)).collect();
        let first = model(&balances, &queued, |broken| broken[0]);
        let last = model(&balances, &queued, |broken| broken[broken.len() - 1]);
        assert_eq!(
            first, last,
            "seed {seed}: the model depends on the order of repair"
        );
        let events = world.execute(r#"{"cmd":"run_liquidity_saving","algorithm":"grp"}"#);
        let by_grp: Vec<u128> = events
            .iter()
            .filter_map(|event| match event.event() {
                Some(Event::PaymentSettled(moved)) if moved.by == SettledBy::Grp => {
                    Some(moved.id.0)
                }
                _ => None,
            })
            .collect();
        assert_eq!(by_grp, first, "seed {seed}");
    }
}

#[derive(Clone)]
struct Queued {
    id: u128,
    from: usize,
    to: usize,
    amount: i64,
    class: u8,
}

fn model(balances: &[i64], queued: &[Queued], pick: impl Fn(&[usize]) -> usize) -> Vec<u128> {
    let mut kept = queued.to_vec();
    loop {
        let mut left = balances.to_vec();
        for payment in &kept {
            left[payment.from] -= payment.amount;
            left[payment.to] += payment.amount;
        }
        let broken: Vec<usize> = (0..left.len()).filter(|bank| left[*bank] < 0).collect();
        if broken.is_empty() {
            return kept.iter().map(|payment| payment.id).collect();
        }
        let bank = pick(&broken);
        let last = kept
            .iter()
            .filter(|payment| payment.from == bank)
            .max_by_key(|payment| (payment.class, payment.id))
            .expect("a bank below zero pays")
            .id;
        kept.retain(|payment| payment.id != last);
    }
}

fn settled_by(events: &[EventSlot]) -> Vec<u128> {
    events
        .iter()
        .filter_map(|event| match event.event() {
            Some(Event::PaymentSettled(moved)) => Some(moved.id.0),
            _ => None,
        })
        .collect()
}

/// Accounts 1.. with given balances, liquidity saving switched off at entry.
struct World {
    engine: Engine,
    parser: ScriptParser,
    transfers: u32,
}

impl World {
    fn new(banks: usize, balance: impl Fn(usize) -> i64) -> World {
        let mut world = World {
            engine: Engine::new(&Limits::small()),
            parser: ScriptParser::default(),
            transfers: 0,
        };
        world.execute(r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#);
        world.execute(r#"{"cmd":"create_participant","participant":1,"code":"CB"}"#);
        world.execute(r#"{"cmd":"create_account","account":200,"participant":1,"asset":1}"#);
        for at in 0..banks {
            let account = at + 1;
            world.execute(&format!(
                r#"{{"cmd":"create_account","account":{account},"participant":1,"asset":1,"flags":["settlement"]}}"#
            ));
            world.fund(account, balance(at));
        }
        world.execute(
            r#"{"cmd":"set_liquidity_saving","entry_offset":false,"bypass":false,"automatic":false}"#,
        );
        world
    }

    fn fund(&mut self, account: usize, amount: i64) -> Vec<EventSlot> {
        self.transfers += 1;
        let id = self.transfers;
        self.execute(&format!(
            r#"{{"cmd":"transfer","id":{id},"debit_account":200,"credit_account":{account},"amount":{amount}}}"#
        ))
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

    fn balance(&self, account: usize) -> i64 {
        let line = format!(r#"{{"cmd":"query_account","account":{account}}}"#);
        let frame = ScriptParser::default()
            .parse(&line)
            .expect("sound")
            .expect("not blank");
        let mut out = Outbox::with_capacity(16);
        self.engine.query(frame.as_ref(), &mut out);
        match out.events()[0].event() {
            Some(Event::Account(account)) => account.available as i64,
            other => panic!("{other:?}"),
        }
    }
}
