//! A real process, really killed: what it had appended before its last word is there afterwards.
//!
//! The test runs its own executable again as the victim. The victim appends records and, after each
//! commit, writes the durable sequence to its standard output; the test kills it at a random
//! moment.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::payload;
use millrace_journal::{Durability, Options, Reader, Writer, verify};

const VICTIM: &str = "JOURNAL_TEST_VICTIM";

fn options(durability: Durability) -> Options {
    Options {
        segment_bytes: 1 << 20,
        durability,
        ..Options::default()
    }
}

#[test]
fn a_killed_process_keeps_what_it_acknowledged() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        run_victim(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 0..8 {
        let acknowledged = kill_a_victim(dir.path(), Duration::from_millis(30 + round * 17));
        let (writer, recovered) = Writer::open(dir.path(), options(Durability::Process)).unwrap();
        assert!(
            recovered.last_sequence >= acknowledged,
            "round {round}: {recovered:?}, {acknowledged}"
        );
        assert!(
            recovered.last_sequence > last,
            "round {round}: the victim did something"
        );
        assert!(recovered.cut.is_none_or(|cut| cut.records == 0));
        last = recovered.last_sequence;
        writer.close().unwrap();
    }
    let mut reader = Reader::open(dir.path()).unwrap();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.payload, payload(record.sequence));
    }
    assert_eq!(verify(dir.path(), &mut |_, _| ()).unwrap().records, last);
}

/// Starts a victim, lets it acknowledge something and then live for a while, kills it, and returns
/// the last sequence that it acknowledged.
fn kill_a_victim(dir: &Path, lifetime: Duration) -> u64 {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_killed_process_keeps_what_it_acknowledged",
            "--nocapture",
        ])
        .env(VICTIM, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let sequence = |line: String| {
        line.strip_prefix("durable ")
            .and_then(|number| number.parse().ok())
    };
    let first = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(sequence)
        .expect("a first word");
    std::thread::sleep(lifetime);
    victim.kill().unwrap();
    victim.wait().unwrap();
    lines
        .map_while(Result::ok)
        .filter_map(sequence)
        .last()
        .unwrap_or(first)
}

fn run_victim(dir: &Path) -> ! {
    let (mut writer, _) = Writer::open(dir, options(Durability::Process)).unwrap();
    let mut out = std::io::stdout().lock();
    loop {
        for _ in 0..50 {
            writer.append(&payload(writer.next_sequence())).unwrap();
        }
        let durable = writer.commit().unwrap().durable_sequence;
        // A torn last line names a smaller sequence, which is true as well.
        let line = format!("\ndurable {durable}\n");
        out.write_all(line.as_bytes())
            .and_then(|()| out.flush())
            .unwrap();
    }
}
