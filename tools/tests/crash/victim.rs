//! The processes that are killed: this executable once more, with a role in its environment.

use crate::judge::{BATCH, commands, config, journal_options, payload};
use millrace::bench::workload::transfer;
use millrace::config::Durability;
use millrace::engine::Engine;
use millrace::pipeline::Inline;
use millrace::protocol::command::CommandKind;
use millrace::protocol::frame::{CommandFrame, EventSlot};
use millrace::replay::{Nobody, follow, snapshot_store};
use millrace::session::SessionTable;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{AppendError, Writer, archive};
use millrace_tools::tracer::{Victim, acknowledge, mark, obey};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const ROLE: &str = "MILLRACE_VICTIM";

/// A victim in `dir` at its first mark. A role is a name and numbers.
pub fn spawn(dir: &Path, role: &str) -> Victim {
    let own = std::env::current_exe().expect("our own name");
    let arguments = [
        "--exact",
        "victim::victim",
        "--nocapture",
        "--test-threads=1",
    ];
    let mut command = Command::new(own);
    command
        .args(arguments)
        .env(ROLE, role)
        .env("MILLRACE_VICTIM_DIR", dir);
    Victim::spawn(&mut command)
}

/// No test, but what plays the victim when asked to.
#[test]
fn victim() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let dir = std::env::var("MILLRACE_VICTIM_DIR").expect("a directory");
    let words: Vec<&str> = role.split(' ').collect();
    let numbers: Vec<u64> = words[1..]
        .iter()
        .map(|word| word.parse().expect("a number"))
        .collect();
    obey();
    match words[0] {
        "append" => append(
            Path::new(&dir),
            numbers[0],
            numbers[1],
            numbers[2] == 1,
            numbers[3] == 1,
        ),
        "recover" => recover(Path::new(&dir)),
        "pipeline" => pipeline(Path::new(&dir), numbers[0] as usize),
        "commits" => commits(Path::new(&dir), numbers[0] == 1, numbers[1], numbers[2]),
        "snapshot" => snapshot(Path::new(&dir)),
        "archive" => move_to_archive(Path::new(&dir), numbers[0]),
        other => panic!("no role {other}"),
    }
    std::process::exit(0);
}

/// Appends and commits, `before` records before the mark and `after` behind it. Ends as a node does when
/// the journal fails, and waits as a door does while the disk is full. `to_the_end`: waits until the
/// journal's other thread has prepared the next segment.
fn append(dir: &Path, before: u64, after: u64, disk: bool, to_the_end: bool) {
    let storage = Arc::new(MappedFiles::at(dir));
    let (mut writer, _) = Writer::open_in(storage, journal_options(disk)).expect("a journal");
    let payloads: Vec<Vec<u8>> = (0..=before + after).map(payload).collect();
    let put = |writer: &mut Writer, from: u64, to: u64| {
        for sequence in from..=to {
            while let Err(error) = writer.append(&payloads[sequence as usize]) {
                match error {
                    AppendError::NoSpace { .. } => std::thread::sleep(Duration::from_millis(20)),
                    error => give_up(&error),
                }
            }
            if sequence.is_multiple_of(BATCH) {
                match writer.commit() {
                    Ok(commit) => acknowledge(commit.durable_sequence),
                    Err(error) => give_up(&error),
                }
            }
        }
    };
    put(&mut writer, 1, before);
    wait_for_the_spare(&writer);
    mark();
    put(&mut writer, before + 1, before + after);
    if to_the_end {
        wait_for_the_spare(&writer);
    }
    mark();
}

fn wait_for_the_spare(writer: &Writer) {
    while writer.space_left() < 4096 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn give_up(error: &dyn std::fmt::Display) -> ! {
    eprintln!("the victim ends: {error}");
    std::process::exit(1);
}

/// Opens a journal with a torn tail, appends, closes.
fn recover(dir: &Path) {
    mark();
    let storage = Arc::new(MappedFiles::at(dir));
    let (mut writer, recovered) =
        Writer::open_in(storage, journal_options(true)).expect("a journal");
    acknowledge(recovered.last_sequence);
    for sequence in recovered.last_sequence + 1..=recovered.last_sequence + BATCH {
        writer.append(&payload(sequence)).expect("an append");
    }
    acknowledge(writer.commit().expect("a commit").durable_sequence);
    mark();
}

/// Runs the first `before` commands through a whole pipeline, then the rest behind the mark.
fn pipeline(dir: &Path, before: usize) {
    let config = config(dir, Durability::Disk);
    let (mut inline, _) = Inline::open(&config).expect("a pipeline");
    let mut last = 0;
    for (number, command) in commands().iter().enumerate() {
        if number == before {
            std::thread::sleep(Duration::from_millis(50));
            mark();
        }
        inline
            .execute(command, &mut |event| last = event.header.sequence)
            .expect("taken");
        acknowledge(last);
    }
    mark();
}

/// Between the marks, runs `groups` groups of `size` transfers through a whole pipeline whose segment has room
/// for them: one commit each.
fn commits(dir: &Path, disk: bool, groups: u64, size: u64) {
    let mut config = config(
        dir,
        if disk {
            Durability::Disk
        } else {
            Durability::Process
        },
    );
    config.limits.transfers = 1 << 16;
    config.journal.segment_bytes = 64 << 20;
    let (mut inline, _) = Inline::open(&config).expect("a pipeline");
    for command in commands() {
        inline
            .execute(&command, &mut |_: &EventSlot| ())
            .expect("taken");
    }
    let transfers: Vec<_> = (0..groups * size)
        .map(|number| transfer(u128::from(1_000_000 + number), 1, 2, 1))
        .map(|body| CommandFrame::new(CommandKind::Transfer, &body))
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    mark();
    let mut events = 0;
    for group in transfers.chunks(size as usize) {
        for command in group {
            inline
                .push(command, &mut |_: &EventSlot| events += 1)
                .expect("taken");
        }
        inline.pump(&mut |_: &EventSlot| events += 1);
    }
    mark();
    assert_eq!(events, groups * size);
}

/// Writes a snapshot of the journal in `dir`.
fn snapshot(dir: &Path) {
    let config = config(dir, Durability::Disk);
    let (mut engine, mut sessions) = (
        Engine::new(&config.limits),
        SessionTable::new(config.sessions),
    );
    follow(dir, None, &mut engine, &mut sessions, &mut Nobody).expect("a journal");
    mark();
    let written = snapshot_store::write(dir, &engine, &sessions).expect("a snapshot");
    acknowledge(written.sequence);
    mark();
}

/// Archives the segments of the journal in `dir` that end at record `upto` or before.
fn move_to_archive(dir: &Path, upto: u64) {
    mark();
    // Nothing is acknowledged: that would be a call of its own, which is not to fail.
    if let Err(error) = archive(dir, &dir.join("archive"), upto, &mut |_, _| ()) {
        give_up(&error);
    }
    mark();
}
