//! Millrace: a node in a process of its own, on disk; each client has a session with one transfer in flight.

use crate::payments::{Outcome, Payment, Plan, Played, histogram};
use millrace::bench::workload::{create_account, create_asset, create_participant, transfer};
use millrace::client::{Client, Options};
use millrace::config::{Config, Durability};
use millrace::process::NodeProcess;
use millrace::protocol::command::{AccountFlags, CommandKind};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::protocol::reason::Reason;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

/// Issues the money.
const ISSUER: u64 = u64::MAX - 1;

/// Plays a plan on a fresh node under `disk`.
pub fn play(binary: &Path, plan: &Plan, dir: &Path) -> Result<Played, String> {
    let clients = plan.by_client.len();
    let config = Config {
        dir: dir.join(format!("millrace-{clients}")),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        durability: Durability::Disk,
        ..Config::default()
    };
    let file = dir.join("millrace.toml");
    let settings = toml::to_string(&config).map_err(text)?;
    std::fs::write(&file, settings).map_err(text)?;
    let node = NodeProcess::start(binary, &file)?;
    let mut owner = Client::connect(node.address, Options::default()).map_err(text)?;
    fill(&mut owner, plan)?;
    let ready = Arc::new(Barrier::new(clients + 1));
    let mut senders = Vec::new();
    for payments in &plan.by_client {
        let mut client = Client::connect(node.address, Options::default()).map_err(text)?;
        let (payments, ready) = (payments.clone(), ready.clone());
        senders.push(thread::spawn(move || {
            ready.wait();
            pay_all(&mut client, &payments)
        }));
    }
    ready.wait();
    let started = Instant::now();
    let mut played = Played {
        elapsed: Duration::ZERO,
        latency: histogram(),
        answered: 0,
        settled: 0,
        tried: u64::from(plan.repeats + plan.overdrafts),
        prevented: 0,
    };
    for sender in senders {
        let (latency, settled) = sender.join().map_err(|_| "a client panicked")??;
        played.answered += latency.len();
        played.settled += settled;
        played.latency.add(latency).map_err(text)?;
    }
    played.elapsed = started.elapsed();
    played.prevented = played.tried - spent_twice(&mut owner, plan, played.settled)?;
    node.kill();
    Ok(played)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn fill(client: &mut Client, plan: &Plan) -> Result<(), String> {
    let mut frames = vec![
        create_asset(1, "EUR"),
        create_participant(1, "BANK"),
        create_account(ISSUER, 1, 1, AccountFlags::NONE),
    ];
    for account in 1..=u64::from(plan.accounts) {
        let covered = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        frames.push(create_account(account, 1, 1, covered));
        let funds = transfer(
            u128::MAX - 1 - u128::from(account),
            ISSUER,
            account,
            u128::from(plan.funds),
        );
        frames.push(CommandFrame::new(CommandKind::Transfer, &funds));
    }
    for frame in &frames {
        for event in client.call(frame).map_err(text)? {
            if matches!(event.event(), Some(Event::Rejected(_))) {
                return Err("the node refused to open an account".into());
            }
        }
    }
    Ok(())
}

fn pay_all(
    client: &mut Client,
    payments: &[Payment],
) -> Result<(hdrhistogram::Histogram<u64>, u64), String> {
    let mut latency = histogram();
    let mut settled = 0;
    for payment in payments {
        let started = Instant::now();
        let (debtor, creditor) = (u64::from(payment.debtor), u64::from(payment.creditor));
        let body = transfer(
            u128::from(payment.id),
            debtor,
            creditor,
            u128::from(payment.amount),
        );
        let events = client
            .call(&CommandFrame::new(CommandKind::Transfer, &body))
            .map_err(text)?;
        latency.saturating_record(started.elapsed().as_nanos() as u64);
        settled += u64::from(outcome(&events)? == Outcome::Settled);
    }
    Ok((latency, settled))
}

fn outcome(events: &[EventSlot]) -> Result<Outcome, String> {
    let status = events.iter().find_map(|event| match event.event() {
        Some(Event::Transfer(done)) => Some(done.status),
        _ => None,
    });
    match status {
        Some(Reason::Created) => Ok(Outcome::Settled),
        Some(Reason::Exists) => Ok(Outcome::Repeat),
        Some(Reason::ExceedsCredits) => Ok(Outcome::Uncovered),
        other => Err(format!("an answer that was not expected: {other:?}")),
    }
}

/// Second payments that moved money: accounts below zero, and more settled than there were to settle.
fn spent_twice(client: &mut Client, plan: &Plan, settled: u64) -> Result<u64, String> {
    use millrace::protocol::command::AccountRef;
    use millrace::protocol::units::AccountId;
    let mut overdrawn = 0;
    for account in plan.first_victim..=plan.accounts {
        let body = AccountRef {
            account: AccountId(u64::from(account)),
            _reserved: [millrace::protocol::wire::Zero::Zero; 8],
        };
        let frame = CommandFrame::new(CommandKind::QueryAccount, &body);
        for event in client.call(&frame).map_err(text)? {
            if let Some(Event::Account(found)) = event.event() {
                overdrawn += u64::from(found.credits_posted < found.debits_posted);
            }
        }
    }
    let once = plan.sent() as u64 - u64::from(plan.repeats + plan.overdrafts);
    Ok(overdrawn + settled.saturating_sub(once))
}
