//! A kill at every system call, and system calls that fail.

use crate::judge::{
    commands, config, digests, directory, judge_and_go_on, judge_state, no_forks, payload,
};
use crate::victim::spawn;
use millrace::config::Durability;
use millrace::pipeline::Inline;
use millrace::replay::snapshot_store;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{Writer, archive as archive_journal, verify};
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
    let copy = || copy_of(source.path());
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

/// A journal of 60 records in segments of two pages, nothing torn, closed.
fn many_segments() -> tempfile::TempDir {
    let (dir, quiet) = (directory(), no_forks());
    let storage = Arc::new(MappedFiles::at(dir.path()));
    let (mut writer, _) = Writer::open_in(storage, crate::judge::journal_options(true)).unwrap();
    for sequence in 1..=ARCHIVE_LAST {
        writer.append(&payload(sequence)).unwrap();
    }
    writer.close().unwrap();
    drop(quiet);
    dir
}

const ARCHIVE_LAST: u64 = 60;
/// What the victim archives up to.
const ARCHIVE_UPTO: u64 = 45;

fn segments_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".segment"))
        .collect();
    names.sort();
    names
}

/// What an archiving that ended somewhere left: both places together are the whole journal, the one
/// place alone is a sound rest of it that holds what was to stay, and archiving again ends it.
fn judge_archive(dir: &Path, head: [u8; 32], what: &str) {
    let to = dir.join("archive");
    let archive = to.is_dir().then_some(&*to);
    let ignore = &mut |_, _| ();
    let both = verify(MappedFiles::at(dir).with_archive(archive), ignore).expect(what);
    assert_eq!((both.begins_at, both.records), (1, ARCHIVE_LAST), "{what}");
    assert_eq!(both.chain_head, head, "{what}");
    let rest = verify(dir, ignore).expect(what);
    assert_eq!(
        (rest.last_sequence, rest.chain_head),
        (ARCHIVE_LAST, head),
        "{what}"
    );
    assert!(rest.begins_at <= ARCHIVE_UPTO + 1, "{what}");
    let recovered = millrace_journal::recover_in(&MappedFiles::at(dir), ARCHIVE_UPTO + 1);
    assert_eq!(recovered.expect(what).last_sequence, ARCHIVE_LAST, "{what}");

    archive_journal(dir, &to, ARCHIVE_UPTO, &mut |_, _| ()).expect(what);
    let (left, moved) = (segments_in(dir), segments_in(&to));
    assert!(
        !moved.is_empty() && moved.iter().all(|name| !left.contains(name)),
        "{what}"
    );
    let both = verify(MappedFiles::at(dir).with_archive(Some(&to)), ignore).expect(what);
    assert_eq!(
        (both.records, both.chain_head),
        (ARCHIVE_LAST, head),
        "{what}"
    );
    // The journal goes on, and what it ends in still stands for everything.
    let storage = Arc::new(MappedFiles::at(dir));
    let (mut writer, _) = Writer::open_in(storage, crate::judge::journal_options(true)).unwrap();
    for sequence in ARCHIVE_LAST + 1..=ARCHIVE_LAST + 30 {
        assert_eq!(
            writer.append(&payload(sequence)).unwrap(),
            sequence,
            "{what}"
        );
    }
    writer.close().unwrap();
    let rest = verify(dir, ignore).expect(what);
    let both = verify(MappedFiles::at(dir).with_archive(Some(&to)), ignore).expect(what);
    assert_eq!(rest.chain_head, both.chain_head, "{what}");
}

#[test]
fn a_kill_at_every_system_call_of_an_archive() {
    let source = many_segments();
    let head = verify(source.path(), &mut |_, _| ()).unwrap().chain_head;
    let kills = kill_at_every_call(
        &format!("archive {ARCHIVE_UPTO}"),
        || copy_of(source.path()),
        |dir, _, what| judge_archive(dir, head, what),
    );
    println!("archive: killed at {kills} stops at system calls, every segment whole in one place");
    assert!(kills > 50);
}

fn copy_of(source: &Path) -> tempfile::TempDir {
    let dir = directory();
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "spare" {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    dir
}

/// Linux on x86-64: the calls by which an archive meets its disks.
#[cfg(target_arch = "x86_64")]
const ARCHIVE_CALLS: [(u64, &str); 10] = [
    (0, "read"),
    (1, "write"),
    (9, "mmap"),
    (73, "flock"),
    (74, "fsync"),
    (75, "fdatasync"),
    (82, "rename"),
    (83, "mkdir"),
    (87, "unlink"),
    (257, "openat"),
];

#[cfg(target_arch = "x86_64")]
#[test]
fn every_call_of_an_archive_may_fail() {
    let source = many_segments();
    let head = verify(source.path(), &mut |_, _| ()).unwrap().chain_head;
    for errno in [IO_ERROR, NO_SPACE] {
        let failing = Failing {
            calls: &ARCHIVE_CALLS,
            of: Of::Main,
            errno,
        };
        let (calls, ends) = fail_every_call(
            &format!("archive {ARCHIVE_UPTO}"),
            &failing,
            || copy_of(source.path()),
            |dir, _, what| judge_archive(dir, head, what),
        );
        println!(
            "archive: {calls} calls failed with {errno}, {ends} of them ended it, every segment whole in one place"
        );
        assert!(calls > 30 && ends > 20);
    }
}

/// Linux on x86-64: the calls by which the journal meets its disk.
#[cfg(target_arch = "x86_64")]
pub const CALLS: [(u64, &str); 10] = [
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
pub const IO_ERROR: i32 = 5;
#[cfg(target_arch = "x86_64")]
pub const NO_SPACE: i32 = 28;

/// Whose calls to the disk fail.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Every thread's.
    All,
    /// The committing thread's: how many there are does not hang on when the spare is prepared.
    Main,
}

/// Which calls fail, and how.
#[cfg(target_arch = "x86_64")]
struct Failing {
    calls: &'static [(u64, &'static str)],
    of: Of,
    errno: i32,
}

/// Lets a victim run with its first, second, third ... call to the disk failing.
#[cfg(target_arch = "x86_64")]
fn fail_every_call(
    role: &str,
    &Failing {
        calls: these,
        of,
        errno,
    }: &Failing,
    prepare: impl Fn() -> tempfile::TempDir,
    judge: impl Fn(&Path, u64, &str),
) -> (usize, usize) {
    let mut ends = 0;
    for failing in 0.. {
        let dir = prepare();
        let mut victim = spawn(dir.path(), role);
        let (mut calls, mut failed) = (0, None);
        let end = loop {
            match victim.run_to_call() {
                Event::Enters { call, is_main } => {
                    let Some((_, name)) = these.iter().find(|(number, _)| *number == call) else {
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
            // A sync: nothing more is acknowledged, nothing tried again.
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
        let failing = |of| Failing {
            calls: &CALLS,
            of,
            errno,
        };
        let (calls, ends) = fail_every_call(
            "append 27 6 1 1",
            &failing(Of::All),
            directory,
            |dir, acknowledged, what| {
                judge_and_go_on(dir, acknowledged, 33, what);
            },
        );
        println!(
            "journal: {calls} calls failed with {errno}, {ends} of them ended the process, nothing lost"
        );
        assert!(calls > 10 && ends >= 4);
        let digests = digests();
        let (calls, ends) = fail_every_call(
            "pipeline 8",
            &failing(Of::Main),
            directory,
            |dir, acknowledged, what| {
                judge_state(dir, acknowledged, &digests, what);
            },
        );
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
