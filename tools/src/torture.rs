//! Torture: a real node, real sockets, kill -9 at random moments under load.
//!
//! Clients record every acknowledgement on their side of the wire. After the last round the journal
//! is replayed by the one loop that recovery runs, and a checker that knows nothing of the node
//! compares: every acknowledged transfer is there, exactly once; nothing is there twice; the audit
//! holds; and the digest is that of an uninterrupted replay.

use millrace::client::{Client, Options};
use millrace::config::{Config, Durability};
use millrace::engine::{Engine, Limits};
use millrace::process::NodeProcess;
use millrace::protocol::command::{AccountFlags, Command, CommandKind};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot};
use millrace::protocol::reason::Reason;
use millrace::replay::{Watcher, follow};
use millrace::session::SessionTable;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How hard to try.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The millrace binary.
    pub binary: PathBuf,
    /// Kills.
    pub rounds: u32,
    /// Clients that send all the while.
    pub clients: u32,
    /// Policy of the node.
    pub durability: Durability,
    /// Seed of the pauses between kills.
    pub seed: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Kills.
    pub kills: u32,
    /// Acknowledgements that clients hold.
    pub acknowledged: u64,
    /// Transfers that the journal executed.
    pub executed: u64,
    /// Acknowledged, but not in the journal.
    pub lost: u64,
    /// Executed more than once.
    pub doubled: u64,
    /// Times a client had to connect again.
    pub reconnects: u64,
}

const ACCOUNTS: u64 = 16;

/// Runs the plan in `dir`.
pub fn run(plan: &Plan, dir: &Path) -> Result<Tally, String> {
    let mut config = Config {
        dir: dir.join("journal"),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        durability: plan.durability,
        limits: Limits {
            transfers: 1 << 22,
            ..Limits::small()
        },
        ..Config::default()
    };
    // Segments small enough that kills meet their ends, too.
    config.journal.segment_bytes = 4 << 20;
    let file = dir.join("torture.toml");
    write(&file, &config)?;
    let mut node = NodeProcess::start(&plan.binary, &file)?;
    // From now on always the same port, so that clients find the next node.
    config.listen = node.address;
    write(&file, &config)?;
    open_accounts(node.address)?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients = start_clients(plan, node.address, &stop);
    let mut random = plan.seed | 1;
    for _ in 0..plan.rounds {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_millis(10 + (random >> 33) % 120));
        node.kill();
        node = NodeProcess::start(&plan.binary, &file)?;
    }
    stop.store(true, Ordering::Release);
    let mut tally = Tally {
        kills: plan.rounds,
        ..Tally::default()
    };
    let mut acknowledged = HashSet::new();
    for client in clients {
        let seen = client
            .join()
            .map_err(|_| "a client panicked".to_string())??;
        tally.reconnects += seen.reconnects;
        acknowledged.extend(seen.acknowledged);
    }
    node.kill();
    check(&config, &acknowledged, &mut tally)?;
    Ok(tally)
}

fn write(file: &Path, config: &Config) -> Result<(), String> {
    let text = toml::to_string(config).map_err(|error| error.to_string())?;
    std::fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

fn open_accounts(address: SocketAddr) -> Result<(), String> {
    use millrace::bench::workload::{create_account, create_asset, create_participant};
    let mut client = connect(address)?;
    let mut frames = vec![create_asset(1, "EUR"), create_participant(1, "BANK")];
    frames.extend((1..=ACCOUNTS).map(|id| create_account(id, 1, 1, AccountFlags::NONE)));
    for frame in &frames {
        client.call(frame).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<Client, String> {
    let options = Options {
        window: 256,
        timeout: Duration::from_secs(60),
        reconnect: Duration::from_secs(60),
        ..Options::default()
    };
    Client::connect(address, options).map_err(|error| error.to_string())
}

struct Seen {
    acknowledged: Vec<u128>,
    reconnects: u64,
}

type Running = JoinHandle<Result<Seen, String>>;

fn start_clients(plan: &Plan, address: SocketAddr, stop: &Arc<AtomicBool>) -> Vec<Running> {
    (1..=u128::from(plan.clients))
        .map(|number| {
            let stop = stop.clone();
            std::thread::spawn(move || send(address, number << 64, &stop))
        })
        .collect()
}

/// Sends transfers with ids of its own until told to stop; remembers which were acknowledged.
fn send(address: SocketAddr, base: u128, stop: &AtomicBool) -> Result<Seen, String> {
    let text = |error: millrace::client::ClientError| error.to_string();
    let mut client = connect(address)?;
    let mut sent = HashMap::new();
    let mut acknowledged = Vec::new();
    let mut wrong = None;
    let mut take = |sent: &mut HashMap<u64, u128>, event: &EventSlot| {
        let id = sent.remove(&event.header.client_sequence);
        match (event.event(), id) {
            (Some(Event::Transfer(done)), Some(id)) if done.status == Reason::Created => {
                acknowledged.push(id);
            }
            (other, _) => wrong = Some(format!("an answer that must not be: {other:?}")),
        }
    };
    let mut next = base;
    while !stop.load(Ordering::Acquire) {
        next += 1;
        let (debit, credit) = (1 + next as u64 % ACCOUNTS, 1 + (next as u64 + 1) % ACCOUNTS);
        let body = millrace::bench::workload::transfer(next, debit, credit, 1);
        let frame = CommandFrame::new(CommandKind::Transfer, &body);
        sent.insert(client.submit(&frame).map_err(text)?, next);
        while let Some(event) = client.poll().map_err(text)? {
            take(&mut sent, &event);
        }
    }
    client.drain(|event| take(&mut sent, event)).map_err(text)?;
    match wrong {
        Some(wrong) => Err(wrong),
        None => Ok(Seen {
            acknowledged,
            reconnects: client.reconnects(),
        }),
    }
}

#[derive(Default)]
struct Executed(HashMap<u128, u32>);

impl Watcher for Executed {
    fn command(
        &mut self,
        _sequence: u64,
        command: CommandRef<'_>,
        _events: &[EventSlot],
        _engine: &Engine,
    ) -> Result<(), String> {
        // A second execution would answer `exists`: every record of the id counts.
        if let Ok(Command::Transfer(transfer)) = command.decode() {
            *self.0.entry(transfer.id.0).or_default() += 1;
        }
        Ok(())
    }
}

/// Replays the journal and compares it with what the clients were told.
fn check(config: &Config, acknowledged: &HashSet<u128>, tally: &mut Tally) -> Result<(), String> {
    let mut engine = Engine::new(&config.limits);
    let mut sessions = SessionTable::new(config.sessions);
    let mut executed = Executed::default();
    follow(&config.dir, None, &mut engine, &mut sessions, &mut executed)
        .map_err(|error| error.to_string())?;
    engine.audit()?;
    tally.acknowledged = acknowledged.len() as u64;
    tally.executed = executed.0.len() as u64;
    tally.doubled = executed.0.values().filter(|times| **times > 1).count() as u64;
    tally.lost = acknowledged
        .iter()
        .filter(|id| !executed.0.contains_key(id))
        .count() as u64;
    Ok(())
}
