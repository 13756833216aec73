//! The pipeline on one thread: what goes in comes out in order, is in the journal, and comes back.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::engine::Engine;
use millrace::pipeline::threads::CoreChoice;
use millrace::pipeline::{INGRESS_SLOTS_MIN, Inline, Refusal};
use millrace::protocol::command::{CommandKind, ITEMS_MAX};
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot, SLOT_BYTES};
use millrace::protocol::reason::Reason;
use millrace::protocol::record::unfold;
use millrace::replay::{FollowError, Nobody, Watcher, follow, snapshot_store};
use millrace::session::SessionTable;
use std::path::Path;

#[test]
fn commands_come_out_as_events_in_order_and_stay_in_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (mut inline, recovery) = Inline::open(&config).unwrap();
    assert!(recovery.created);
    run_inline(&mut inline, &opening());
    let events = run_inline(
        &mut inline,
        &[transfer(1, 30), transfer(1, 30), query_account(2)],
    );
    assert_eq!(status(&events[0]), Reason::Created);
    assert_eq!(status(&events[1]), Reason::Exists);
    assert_eq!(credited(&events[2..]), 30);
    let sequences: Vec<u64> = events.iter().map(|event| event.header.sequence).collect();
    assert_eq!(sequences, [6, 7, 7], "a query takes no sequence");
    let digest = inline.close().digest();

    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!((recovery.sequence, recovery.replayed), (7, 7));
    assert_eq!(inline.close().digest(), digest);
}

#[test]
fn many_commands_pushed_at_once_share_commits_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut inline, _) = Inline::open(&small(&dir)).unwrap();
    run_inline(&mut inline, &opening());
    let mut seen = Vec::new();
    // More than the ring holds: pushing works off what is in it.
    for id in 1..=20_000u128 {
        inline
            .push(&transfer(id, 1), &mut |event: &EventSlot| {
                seen.push(event.header.sequence);
            })
            .unwrap();
    }
    inline.pump(&mut |event: &EventSlot| seen.push(event.header.sequence));
    assert!(seen.iter().copied().eq(6..=20_005));
}

#[test]
fn the_longest_command_passes_ring_journal_and_replay_whole() {
    let dir = tempfile::tempdir().unwrap();
    let config = with_many_transfers(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    let longest = batch(1, ITEMS_MAX as u32);
    let mut events = run_inline(
        &mut inline,
        &[transfer(1 << 70, 5), longest, query_account(2)],
    );
    let answer = events.pop().unwrap();
    assert_eq!(credited(&[answer]), 5 + ITEMS_MAX as u128);
    assert_eq!(events.len(), 1 + ITEMS_MAX);
    assert!(events.iter().all(|event| status(event) == Reason::Created));
    assert!(events[1..].iter().enumerate().all(|(at, event)| {
        event.header.index == at as u32 && event.is_last() == (at + 1 == ITEMS_MAX)
    }));
    let digest = inline.close().digest();
    assert_eq!(replayed(&config).digest(), digest);
}

#[test]
fn a_batch_lies_folded_in_the_journal_and_a_single_command_as_it_came() {
    let dir = tempfile::tempdir().unwrap();
    let config = with_many_transfers(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    // Around the length of a ring slot, and a transfer of which no byte is zero.
    let mut full = transfer_body(u128::MAX - 7, u128::MAX);
    (full.user_data_128, full.user_data_64) = (u128::MAX, u64::MAX);
    let head = millrace::protocol::command::Transfers {
        count: 2,
        _reserved: Default::default(),
    };
    let sent = [
        transfer(1, 5),
        batch(2, 1),
        batch(3, 2),
        CommandFrame::with_items(CommandKind::Transfers, &head, &[full, transfer_body(9, 1)]),
        batch(1_000, 1_000),
    ];
    run_inline(&mut inline, &sent);
    let digest = inline.close().digest();
    let mut reader = millrace_journal::Reader::open(&config.dir).unwrap();
    reader.seek(opening().len() as u64 + 1).unwrap();
    let mut words = Vec::new();
    for frame in &sent {
        let record = reader.next().unwrap().expect("journaled").payload;
        let length = unfold(record, &mut words).unwrap();
        assert!(bytemuck::cast_slice::<u128, u8>(&words)[..length] == *frame.bytes());
        let is_long = length > SLOT_BYTES;
        assert_eq!(record != frame.bytes(), is_long, "{length} bytes");
        if length > 100_000 {
            assert!(
                record.len() < length * 2 / 5,
                "{} of {length}",
                record.len()
            );
        }
    }
    assert_eq!(replayed(&config).digest(), digest);
}

#[test]
fn a_full_ring_says_busy_at_once_and_takes_again_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mut inline, _) = Inline::open(&with_many_transfers(&dir)).unwrap();
    run_inline(&mut inline, &opening());
    let mut taken = 0;
    let refusal = loop {
        match inline.ingress().submit_script(&transfer(taken + 1, 1)) {
            Ok(()) => taken += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal, Refusal::Busy);
    assert_eq!(taken as usize, INGRESS_SLOTS_MIN);
    // A command that is longer than the room there is stays out whole.
    assert_eq!(
        inline.ingress().submit_script(&batch(1 << 70, 100)),
        Err(Refusal::Busy)
    );
    let mut answered = 0;
    inline.pump(&mut |_: &EventSlot| answered += 1);
    assert_eq!(answered, taken);
    let events = run_inline(&mut inline, &[query_account(2)]);
    assert_eq!(credited(&events), taken);
}

#[test]
fn the_door_numbers_sessions_and_never_runs_time_backwards() {
    let dir = tempfile::tempdir().unwrap();
    let (mut inline, _) = Inline::open(&small(&dir)).unwrap();
    run_inline(&mut inline, &opening());
    let mut submit = |number: u64, clock: u64| {
        let frame = transfer(u128::from(number), 1);
        let mut words = vec![0u128; frame.bytes().len() / 16];
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        bytes.copy_from_slice(frame.bytes());
        bytes[16..24].copy_from_slice(&number.to_le_bytes());
        let clock = millrace::protocol::units::Timestamp(clock);
        inline.ingress().submit(7, bytes, clock)
    };
    assert_eq!(submit(2, 5_000), Err(Refusal::Gap { expected: 1 }));
    assert_eq!(submit(1, 5_000), Ok(()));
    assert_eq!(submit(1, 5_000), Err(Refusal::Duplicate));
    assert_eq!(submit(2, 4_000), Ok(()));
    let mut stamps = Vec::new();
    inline.pump(&mut |event: &EventSlot| stamps.push((event.header.session, event.header.at)));
    assert_eq!(stamps, [(7, 5_000), (7, 5_000)]);
    assert_eq!(inline.sessions().last_client_sequence(7), 2);
}

#[test]
fn a_snapshot_and_the_tail_give_what_the_whole_journal_gives() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    run_inline(&mut inline, &[transfer(1, 10), transfer(2, 10)]);
    // Written by a follower beside the live journal.
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(8));
    follow(
        &config.dir,
        Some(6),
        &mut engine,
        &mut sessions,
        &mut Nobody,
    )
    .unwrap();
    let written = snapshot_store::write(&config.dir, &engine, &sessions).unwrap();
    assert_eq!(written.sequence, 6);
    run_inline(&mut inline, &[transfer(3, 10)]);
    let digest = inline.close().digest();

    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!((recovery.snapshot, recovery.replayed), (Some(6), 2));
    assert_eq!(inline.close().digest(), digest);

    // Damaged, it is passed over, and the journal's start serves.
    let mut bytes = std::fs::read(&written.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&written.path, bytes).unwrap();
    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!((recovery.snapshot, recovery.replayed), (None, 8));
    assert!(
        recovery.notes[0].contains("does not match its hash"),
        "{:?}",
        recovery.notes
    );
    assert_eq!(inline.close().digest(), digest);
}

#[test]
fn a_snapshot_from_beyond_the_journals_end_is_passed_over_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let other = Config {
        dir: dir.path().join("other"),
        ..config.clone()
    };
    let (mut inline, _) = Inline::open(&other).unwrap();
    run_inline(&mut inline, &opening());
    let engine = inline.close();
    let (inline, _) = Inline::open(&config).unwrap();
    let digest = inline.close().digest();
    snapshot_store::write(&config.dir, &engine, &SessionTable::new(1)).unwrap();
    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!(recovery.snapshot, None);
    assert!(
        recovery.notes[0].ends_with("it is of command 5, the journal ends at 0"),
        "{:?}",
        recovery.notes
    );
    assert_eq!(inline.close().digest(), digest);
}

/// A snapshot is made of what the page cache holds; a power loss may take the tail it was made of. The
/// journal then grows past it with other commands, in a simulation until a start believed it.
#[test]
fn a_snapshot_of_a_tail_that_was_lost_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    inline.close();
    let kept: Vec<_> = std::fs::read_dir(&config.dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &[transfer(1, 10), transfer(2, 20)]);
    let engine = inline.close();
    snapshot_store::write(&config.dir, &engine, &SessionTable::new(1)).unwrap();
    // The power fails: of the two transfers nothing was on the disk.
    for (path, bytes) in kept {
        std::fs::write(path, bytes).unwrap();
    }
    let (mut inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!((recovery.sequence, recovery.snapshot), (5, None));
    run_inline(
        &mut inline,
        &[transfer(3, 1), transfer(4, 2), transfer(5, 3)],
    );
    let digest = inline.close().digest();
    let (inline, recovery) = Inline::open(&config).unwrap();
    assert_eq!((recovery.sequence, recovery.snapshot), (8, None));
    assert_eq!(inline.close().digest(), digest);
}

#[test]
fn a_record_that_is_no_command_stops_a_replay_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let options = millrace_journal::Options::default();
    let (mut writer, _) = millrace_journal::Writer::open(&path, options).unwrap();
    writer.append(opening()[0].bytes()).unwrap();
    let mut newer = opening()[1].clone();
    newer.header_mut().release += 1;
    writer.append(newer.bytes()).unwrap();
    writer.commit().unwrap();
    writer.close().unwrap();
    let config = small(&dir);
    millrace::replay::limits_file::agree(&path, &config.limits, true).unwrap();
    let error = Inline::open(&config).err().expect("refused").to_string();
    assert!(
        error.contains("record 2 is no command to replay"),
        "{error}"
    );
    assert!(error.contains("upgrade first"), "{error}");
    assert!(error.contains(&path.display().to_string()), "{error}");
    assert!(error.contains("offset "), "{error}");
    assert!(!error.contains('\n'));
}

#[test]
fn a_watcher_sees_every_command_with_its_events_and_may_stop() {
    struct Counting(Vec<(u64, usize)>);
    impl Watcher for Counting {
        fn command(
            &mut self,
            sequence: u64,
            command: CommandRef<'_>,
            events: &[EventSlot],
            engine: &Engine,
        ) -> Result<(), String> {
            assert_eq!(engine.sequence(), sequence);
            self.0.push((sequence, events.len()));
            match command.kind() {
                Some(CommandKind::Transfer) => Err("that is enough".into()),
                _ => Ok(()),
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    run_inline(&mut inline, &[transfer(1, 10), transfer(2, 10)]);
    let mut watcher = Counting(Vec::new());
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(8));
    // Beside the live journal.
    let error = follow(&config.dir, None, &mut engine, &mut sessions, &mut watcher);
    assert!(matches!(
        error,
        Err(FollowError::Watcher { sequence: 6, .. })
    ));
    assert_eq!(watcher.0, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);
    inline.close();
}

#[test]
fn a_directory_in_use_and_a_directory_of_others_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (inline, _) = Inline::open(&config).unwrap();
    let error = Inline::open(&config).err().expect("refused").to_string();
    assert!(error.contains("data") && !error.contains('\n'), "{error}");
    inline.close();

    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("letter.txt"), "dear bank").unwrap();
    let config = Config {
        dir: foreign,
        cores: CoreChoice::Unpinned,
        ..config
    };
    let error = Inline::open(&config).err().expect("refused").to_string();
    assert!(
        error.contains("letter.txt") && !error.contains('\n'),
        "{error}"
    );
}

fn replayed(config: &Config) -> Engine {
    replay_dir(&config.dir, config)
}

fn replay_dir(dir: &Path, config: &Config) -> Engine {
    let mut engine = Engine::new(&config.limits);
    let mut sessions = SessionTable::new(config.sessions);
    follow(dir, None, &mut engine, &mut sessions, &mut Nobody).unwrap();
    engine
}

#[test]
fn a_pipeline_at_a_rate_is_timed_from_each_planned_moment() {
    use millrace::bench::pipeline;
    use millrace::bench::workload::Transfers;
    let dir = tempfile::tempdir().unwrap();
    let mut workload = Transfers::new(10, 1);
    let mut prepared = pipeline::prepare(&with_many_transfers(&dir), &mut workload).unwrap();
    let (rate, commands) = (50_000, 5_000);
    let paced = pipeline::open_loop(&mut prepared, &mut workload, commands, rate).unwrap();
    assert_eq!((paced.commands, paced.events), (commands, commands));
    assert_eq!(paced.latency.expect("a rate").len(), commands);
    // The last one was not sent before its moment.
    assert!(paced.elapsed.as_secs_f64() >= (commands - 1) as f64 / rate as f64);
    prepared.close();
}
