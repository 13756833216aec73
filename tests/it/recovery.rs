//! Recovery: a node killed at any moment comes back with everything it acknowledged, once.

use crate::pipeline_support::*;
use millrace::client::{Client, Options};
use millrace::config::{Config, Durability};
use millrace::engine::Engine;
use millrace::pipeline::Inline;
use millrace::protocol::command::{Command, CommandKind};
use millrace::protocol::frame::{CommandRef, EventSlot};
use millrace::protocol::reason::Reason;
use millrace::replay::{Watcher, follow};
use millrace::session::SessionTable;
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A node in a process of its own.
struct Served {
    child: Child,
    address: SocketAddr,
    line: String,
}

impl Drop for Served {
    /// Nothing is left behind by a test that fails.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `millrace serve` under the configuration in `file` and waits for its line.
fn serve(file: &Path) -> Served {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["serve", "--config"])
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .split_whitespace()
        .find_map(|word| word.trim_end_matches(',').parse().ok());
    let address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
    Served {
        child,
        address,
        line,
    }
}

fn write_config(file: &Path, config: &Config) {
    std::fs::write(file, toml::to_string(config).unwrap()).unwrap();
}

/// What a journal says about the transfers in it.
#[derive(Default)]
struct Audit {
    /// How often each transfer was executed for the first time.
    created: HashMap<u128, u32>,
    others: u32,
    /// The last client sequence of each session.
    sessions: HashMap<u64, u64>,
}

impl Watcher for Audit {
    fn command(
        &mut self,
        sequence: u64,
        command: CommandRef<'_>,
        events: &[EventSlot],
        _engine: &Engine,
    ) -> Result<(), String> {
        let header = command.header;
        let last = self.sessions.entry(header.session).or_default();
        if header.client_sequence != *last + 1 {
            return Err(format!(
                "record {sequence}: session {:x} goes from {last} to {}",
                header.session, header.client_sequence
            ));
        }
        *last += 1;
        if command.kind() == Some(CommandKind::Transfer)
            && let Ok(Command::Transfer(transfer)) = command.decode()
        {
            match status(&events[0]) {
                Reason::Created => *self.created.entry(transfer.id.0).or_default() += 1,
                _ => self.others += 1,
            }
        }
        Ok(())
    }
}

/// Sends transfers of its own until told to stop, and returns those that were acknowledged.
fn keep_sending(address: SocketAddr, base: u128, stop: &AtomicBool) -> HashSet<u128> {
    let options = Options {
        window: 64,
        timeout: Duration::from_secs(30),
        reconnect: Duration::from_secs(30),
        ..Options::default()
    };
    let mut client = Client::connect(address, options).unwrap();
    let mut ids = HashMap::new();
    let mut acknowledged = HashSet::new();
    let mut next = base;
    let mut take = |ids: &mut HashMap<u64, u128>, event: &EventSlot| {
        assert_eq!(status(event), Reason::Created, "executed twice");
        let id = ids.remove(&event.header.client_sequence);
        assert!(acknowledged.insert(id.expect("one answer each")));
    };
    while !stop.load(Ordering::Relaxed) {
        next += 1;
        let number = client.submit(&transfer(next, 1)).unwrap();
        ids.insert(number, next);
        while let Some(event) = client.poll().unwrap() {
            take(&mut ids, &event);
        }
    }
    client.drain(|event| take(&mut ids, event)).unwrap();
    assert!(ids.is_empty());
    acknowledged
}

fn kill_under_load(durability: Durability) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("millrace.toml");
    let mut config = small(&dir);
    config.durability = durability;
    config.limits.transfers = 1 << 20;
    // Segments small enough that kills meet their ends, too.
    config.journal.segment_bytes = 4 << 20;
    write_config(&file, &config);
    let mut served = serve(&file);
    config.listen = served.address;
    write_config(&file, &config);
    let mut opener = Client::connect(served.address, Options::default()).unwrap();
    for command in opening() {
        assert!(is_ok(&opener.call(&command).unwrap()[0]));
    }
    drop(opener);

    let stop = Arc::new(AtomicBool::new(false));
    let address = served.address;
    let senders: Vec<_> = (1..=3u128)
        .map(|sender| {
            let stop = stop.clone();
            std::thread::spawn(move || keep_sending(address, sender << 64, &stop))
        })
        .collect();
    let mut pause = 20;
    for _ in 0..8 {
        pause = pause * 7 % 101 + 20;
        std::thread::sleep(Duration::from_millis(pause));
        // SIGKILL: no destructor, no flush, no good-bye.
        served.child.kill().unwrap();
        served.child.wait().unwrap();
        served = serve(&file);
    }
    std::thread::sleep(Duration::from_millis(50));
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<HashSet<u128>> = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .collect();
    served.child.kill().unwrap();
    served.child.wait().unwrap();

    let mut audit = Audit::default();
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(64));
    follow(&config.dir, None, &mut engine, &mut sessions, &mut audit).unwrap();
    engine.audit().unwrap();
    assert_eq!(audit.others, 0, "a command was executed twice");
    assert!(audit.created.values().all(|times| *times == 1));
    let count: usize = acknowledged.iter().map(HashSet::len).sum();
    for id in acknowledged.iter().flatten() {
        assert!(
            audit.created.contains_key(id),
            "transfer {id:x} was acknowledged and is lost"
        );
    }
    // Everything was answered in the end, so everything executed was acknowledged.
    assert_eq!(audit.created.len(), count);
    assert!(count > 1_000, "only {count} transfers: no load to speak of");
}

#[test]
fn kill_9_under_load_loses_and_doubles_nothing_at_process() {
    kill_under_load(Durability::Process);
}

#[test]
fn kill_9_under_load_loses_and_doubles_nothing_at_disk() {
    kill_under_load(Durability::Disk);
}

#[test]
fn a_node_asked_to_end_answers_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("millrace.toml");
    write_config(&file, &small(&dir));
    for round in 0..2 {
        let mut served = serve(&file);
        assert!(served.line.contains("threads: "), "{}", served.line);
        let mut client = Client::connect(served.address, Options::default()).unwrap();
        if round == 0 {
            for command in opening() {
                client.call(&command).unwrap();
            }
        } else {
            assert!(
                served.line.contains("recovered to sequence 5"),
                "{}",
                served.line
            );
        }
        let asked = std::process::Command::new("kill")
            .args(["-TERM", &served.child.id().to_string()])
            .status();
        assert!(asked.unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = served.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn a_second_node_is_kept_out_also_where_somebody_removed_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let refusal = || match Inline::open(&config) {
        Ok(_) => panic!("two nodes write one journal"),
        Err(refusal) => refusal.to_string(),
    };
    let files = || -> Vec<(std::ffi::OsString, Vec<u8>)> {
        let entries = std::fs::read_dir(&config.dir).unwrap().map(Result::unwrap);
        let read = |entry: std::fs::DirEntry| {
            let bytes = std::fs::read(entry.path()).unwrap();
            (entry.file_name(), bytes)
        };
        // The spare may still be prepared.
        let mut files: Vec<_> = entries
            .map(read)
            .filter(|(name, _)| name != "spare")
            .collect();
        files.sort();
        files
    };
    // A directory of its own making, and one that was there.
    for _ in 0..2 {
        let (mut first, _) = Inline::open(&config).unwrap();
        run_inline(&mut first, &opening());
        let why = refusal();
        assert!(why.contains("/LOCK is locked"), "{why}");
        std::fs::remove_file(config.dir.join("LOCK")).unwrap();
        let before = files();
        let why = refusal();
        assert!(why.contains("/limits.toml is locked"), "{why}");
        assert!(files() == before, "nothing was touched");
        first.close();
    }
    Inline::open(&config).unwrap().0.close();
}
