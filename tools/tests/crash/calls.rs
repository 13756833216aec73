//! A kill at every system call, and system calls that fail.

use crate::judge::{
    commands, config, digests, directory, judge_and_go_on, judge_state, no_forks, payload,
};
use crate::victim::spawn;
use millrace::config::Durability;
use millrace::pipeline::Inline;
use millrace::replay::snapshot_store;
use millrace_journal::Writer;
use millrace_journal::storage::MappedFiles;
use millrace_tools::tracer::Event;
use std::path::Path;
use std::sync::Arc;

/// Kills a victim at its first, second, third ... stop between the marks: as it enters a call and as it
/// leaves it, in whichever thread. `prepare` makes a directory for each, `judge` looks at what is left.
/// Returns how many kills it took to get through.
fn kill_at_every_call(
    role: &str,
    prepare: impl Fn() -> tempfile::TempDir,
    judge: impl Fn(&Path, u64, &str),
) -> usize {
    for kills in 0.. {
        let dir = prepare();
        let mut victim = spawn(dir.path(), role);
        let mut stops = 0;
        let through = loop {
            match victim.run_to_call() {
                Event::Mark => break true,
                Event::Enters { .. } | Event::Leaves if stops == kills => break false,
                Event::Enters { .. } | Event::Leaves => stops += 1,
                other => panic!("{role}: {other:?}"),
            }
        };
        let (acknowledged, quiet) = (victim.kill(), no_forks());
        judge(
            dir.path(),
            acknowledged,
            &format!("{role}, killed at stop {kills}"),
        );
        drop(quiet);
        if through {
            return kills;
        }
    }
    unreachable!()
}

#[test]
fn a_kill_at_every_system_call_of_appends_commits_and_rolls() {
    for disk in [false, true] {
        let role = format!("append 27 9 {} 1", u8::from(disk));
        let kills = kill_at_every_call(&role, directory, |dir, acknowledged, what| {
            judge_and_go_on(dir, acknowledged, 36, what);
        });
        println!("{role}: killed at {kills} stops at system calls, nothing lost, nothing doubled");
        assert!(kills > 20);
    }
}

#[test]
fn a_kill_at_every_system_call_of_recovery() {
    let torn = || {
        let (dir, quiet) = (directory(), no_forks());
        let storage = Arc::new(MappedFiles::at(dir.path()));
        let (mut writer, _) =
            Writer::open_in(storage, crate::judge::journal_options(true)).unwrap();
        for sequence in 1..=20 {
            writer.append(&payload(sequence)).unwrap();
        }
        // The page cache as a power loss may leave it: a record is torn, a later one is whole.
        let path = writer.segment_path().to_owned();
        drop(writer);
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end - 200] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        drop(quiet);
        dir
    };
    let kills = kill_at_every_call("recover", torn, |dir, acknowledged, what| {
        let storage = MappedFiles::at(dir);
        let recovered = millrace_journal::recover_in(&storage, 1).unwrap();
        assert!(
            recovered.last_sequence >= acknowledged,
            "{what}: {recovered:?}"
        );
        judge_and_go_on(dir, acknowledged, 40, what);
    });
    println!("recovery: killed at {kills} stops at system calls, nothing lost, nothing doubled");
    assert!(kills > 50);
}

#[test]
fn a_kill_at_every_system_call_of_a_snapshot() {
    let (source, quiet) = (directory(), no_forks());
    let (mut inline, _) = Inline::open(&config(source.path(), Durability::Process)).unwrap();
    for command in commands() {
        inline.execute(&command, &mut |_| ()).unwrap();
    }
    inline.close();
    drop(quiet);
    let digests = digests();
    let last = digests.len() as u64 - 1;
    let copy = || {
        let dir = directory();
        for entry in std::fs::read_dir(source.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "spare" {
                std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
            }
        }
        dir
    };
    let limits = config(source.path(), Durability::Process).limits;
    let kills = kill_at_every_call("snapshot", copy, |dir, acknowledged, what| {
        let (loaded, notes) = snapshot_store::load_newest(dir, last, &limits, 1024).unwrap();
        assert!(
            notes.is_empty(),
            "{what}: a snapshot's name is on a whole one: {notes:?}"
        );
        match loaded {
            Some(loaded) => assert_eq!(
                (loaded.sequence, loaded.digest),
                (last, digests[last as usize])
            ),
            None => assert_eq!(acknowledged, 0, "{what}"),
        }
        // The next one needs no tidying up first, and tidies up itself.
        let (inline, recovery) = Inline::open(&config(dir, Durability::Process)).unwrap();
        assert_eq!(recovery.sequence, last, "{what}");
        let engine = inline.close();
        let sessions = millrace::session::SessionTable::new(1024);
        snapshot_store::write(dir, &engine, &sessions).unwrap();
        let left = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name());
        let drafts = left
            .filter(|name| name.to_string_lossy().ends_with(".draft"))
            .count();
        assert_eq!(drafts, 0, "{what}");
    });
    println!(
        "snapshot: killed at {kills} stops at system calls: the old state or the new one, never half"
    );
    assert!(kills > 10);
}

/// Linux on x86-64: the calls by which the journal meets its disk.
#[cfg(target_arch = "x86_64")]
const CALLS: [(u64, &str); 10] = [
    (0, "read"),
    (9, "mmap"),
    (18, "pwrite64"),
    (28, "madvise"),
    (74, "fsync"),
    (75, "fdatasync"),
    (77, "ftruncate"),
    (82, "rename"),
    (257, "openat"),
    (285, "fallocate"),
];

#[cfg(target_arch = "x86_64")]
const IO_ERROR: i32 = 5;
#[cfg(target_arch = "x86_64")]
const NO_SPACE: i32 = 28;

/// Whose calls to the disk fail.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Every thread's.
    All,
    /// The committing thread's: how many there are does not hang on when the spare is prepared.
    Main,
}

/// Lets a victim run with its first, second, third ... call to the disk failing.
#[cfg(target_arch = "x86_64")]
fn fail_every_call(
    role: &str,
    of: Of,
    errno: i32,
    judge: impl Fn(&Path, u64, &str),
) -> (usize, usize) {
    let mut ends = 0;
    for failing in 0.. {
        let dir = directory();
        let mut victim = spawn(dir.path(), role);
        let (mut calls, mut failed) = (0, None);
        let end = loop {
            match victim.run_to_call() {
                Event::Enters { call, is_main } => {
                    let Some((_, name)) = CALLS.iter().find(|(number, _)| *number == call) else {
                        continue;
                    };
                    if of == Of::Main && !is_main {
                        continue;
                    }
                    if calls == failing {
                        let before = victim.acknowledged();
                        victim.fail_call(errno);
                        failed = Some((*name, is_main, before));
                    }
                    calls += 1;
                }
                Event::Leaves => {}
                end => break end,
            }
        };
        let what = format!("{role}, call {failing} fails with {errno}: {failed:?}");
        let acknowledged = victim.kill();
        if let Some((name, is_main, before)) = failed {
            assert!(
                matches!(end, Event::Mark | Event::Exited(1)),
                "{what}: {end:?}"
            );
            // A commit's sync: nothing more is acknowledged, nothing tried again.
            if is_main && name.ends_with("sync") {
                assert_eq!((end, acknowledged), (Event::Exited(1), before), "{what}");
            }
            ends += usize::from(end == Event::Exited(1));
        }
        let quiet = no_forks();
        judge(dir.path(), acknowledged, &what);
        drop(quiet);
        if failed.is_none() {
            assert_eq!(end, Event::Mark);
            return (failing, ends);
        }
    }
    unreachable!()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_call_to_the_disk_may_fail() {
    for errno in [IO_ERROR, NO_SPACE] {
        let (calls, ends) = fail_every_call(
            "append 27 6 1 1",
            Of::All,
            errno,
            |dir, acknowledged, what| {
                judge_and_go_on(dir, acknowledged, 33, what);
            },
        );
        println!(
            "journal: {calls} calls failed with {errno}, {ends} of them ended the process, nothing lost"
        );
        assert!(calls > 10 && ends >= 4);
        let digests = digests();
        let (calls, ends) =
            fail_every_call("pipeline 8", Of::Main, errno, |dir, acknowledged, what| {
                judge_state(dir, acknowledged, &digests, what);
            });
        println!(
            "pipeline: {calls} calls failed with {errno}, {ends} of them ended the process, nothing lost"
        );
        assert_eq!((calls, ends), (2, 2), "a sync for each command");
    }
}

/// A sync that takes its time holds the acknowledgement back, and nothing else happens.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_slow_sync_delays_the_acknowledgement() {
    let dir = directory();
    let mut victim = spawn(dir.path(), "append 27 6 1 1");
    let mut syncs = 0;
    loop {
        match victim.run_to_call() {
            Event::Enters {
                call: 75,
                is_main: true,
            } => {
                let before = victim.acknowledged();
                std::thread::sleep(std::time::Duration::from_millis(100));
                assert_eq!(victim.acknowledged(), before);
                syncs += 1;
            }
            Event::Enters { .. } | Event::Leaves => {}
            Event::Mark => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((victim.kill(), syncs > 1), (33, true));
}
