//! Power losses, dying disks and full disks: what was acknowledged is there, once, and nothing else
//! is believed.

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{append, copy, payload, payloads, small};
use millrace_journal::storage::{CrashPlan, FaultyStorage, Operation, Storage};
use millrace_journal::{
    AppendError, Background, CommitError, Durability, Options, Recovered, Writer, slot_bytes,
    verify_in,
};
use proptest::prelude::*;

fn open(storage: &FaultyStorage) -> (Writer, Recovered) {
    Writer::open_in(Arc::new(storage.clone()), small()).unwrap()
}

fn name(index: u64) -> String {
    format!("{index:016}.segment")
}

/// What every recovered journal must be: the first so many records, nothing else, every byte
/// accounted for.
fn assert_prefix(storage: &FaultyStorage, at_least: u64, at_most: u64) -> u64 {
    let found = payloads(storage);
    let count = found.len() as u64;
    assert!(
        (at_least..=at_most).contains(&count),
        "{count} records, expected {at_least} to {at_most}"
    );
    assert!(
        (1..)
            .zip(&found)
            .all(|(sequence, found)| *found == payload(sequence))
    );
    count
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Commit,
    Restart,
    Crash {
        seed: u64,
        grain: usize,
        survivors: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let grain = prop::sample::select(vec![4096usize, 512, 8]);
    let crash =
        (any::<u64>(), grain, any::<u8>()).prop_map(|(seed, grain, survivors)| Step::Crash {
            seed,
            grain,
            survivors,
        });
    let step = prop_oneof![
        5 => (1u64..60).prop_map(Step::Append),
        4 => Just(Step::Commit),
        1 => Just(Step::Restart),
        3 => crash,
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// Life after life: append, commit, lose power with any subset of the unsynced pieces, recover,
    /// go on.
    #[test]
    fn what_was_committed_survives_every_crash_once(steps in steps()) {
        let mut storage = FaultyStorage::new();
        let (mut writer, _) = open(&storage);
        for step in steps {
            let appended = writer.next_sequence() - 1;
            match step {
                Step::Append(count) => (1..=count).for_each(|number| {
                    writer.append(&payload(appended + number)).unwrap();
                }),
                Step::Commit => {
                    writer.commit().unwrap();
                }
                Step::Restart => {
                    let head = writer.chain_head();
                    writer.close().unwrap();
                    let recovered;
                    (writer, recovered) = open(&storage);
                    prop_assert_eq!((recovered.last_sequence, recovered.cut), (appended, None));
                    prop_assert_eq!(writer.chain_head(), head);
                }
                Step::Crash { seed, grain, survivors } => {
                    let durable = writer.durable_sequence();
                    let image = storage.crash(CrashPlan { seed, grain, survivors });
                    drop(writer);
                    storage = image;
                    let recovered;
                    (writer, recovered) = open(&storage);
                    let count = assert_prefix(&storage, durable, appended);
                    prop_assert_eq!(recovered.last_sequence, count);
                }
            }
        }
        writer.close().unwrap();
        verify_in(&storage, &mut |_, _| ()).unwrap();
    }
}

#[test]
fn a_crash_during_recovery_changes_nothing() {
    for seed in 0..60 {
        let storage = FaultyStorage::new();
        let (mut writer, _) = open(&storage);
        append(&mut writer, 1, 90, 30);
        append(&mut writer, 91, 200, 1000);
        let mut image = storage.crash(CrashPlan {
            seed,
            grain: 512,
            survivors: 128,
        });
        for again in 0..4 {
            // The sync or the rename fails, and that is the moment when the power goes.
            let fails = [Operation::Sync, Operation::Rename, Operation::SyncNames]
                [(seed + again) as usize % 3];
            image.fail(fails, again / 2..u64::MAX, ErrorKind::Other);
            let _ = Writer::open_in(Arc::new(image.clone()), small());
            image = image.crash(CrashPlan {
                seed: seed + again,
                grain: 512,
                survivors: 100,
            });
        }
        let (writer, _) = open(&image);
        assert_prefix(&image, 90, 200);
        writer.close().unwrap();
        verify_in(&image, &mut |_, _| ()).unwrap();
    }
}

#[test]
fn a_tail_torn_at_any_eighth_byte_of_the_last_two_records_is_cut() {
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage);
    append(&mut writer, 1, 8, 8);
    append(&mut writer, 9, 10, 100);
    drop(writer);
    let whole = storage.read_file(&name(1));
    let slots = |upto: u64| {
        (1..=upto)
            .map(|number| slot_bytes(payload(number).len()))
            .sum::<usize>()
    };
    for torn_at in (4096 + slots(8)..4096 + slots(10)).step_by(8) {
        let mut torn = whole.clone();
        torn[torn_at..].fill(0);
        let image = FaultyStorage::new();
        image.write_file(&name(1), &torn);
        let (mut writer, recovered) = open(&image);
        let left = recovered.last_sequence;
        let expected = if torn_at < 4096 + slots(9) { 8 } else { 9 };
        // Zeros that were cut off may have been zeros of the padding anyway.
        assert!(
            left == expected || torn[..] == whole[..] || left == expected + 1,
            "{torn_at}: {recovered:?}"
        );
        if let Some(cut) = recovered.cut {
            assert_eq!((cut.sequence, cut.segments_discarded), (left + 1, 0));
            assert!(cut.bytes > 0 && cut.path.ends_with(name(1)));
        }
        append(&mut writer, left + 1, 30, 1);
        writer.close().unwrap();
        assert_prefix(&image, 30, 30);
        verify_in(&image, &mut |_, _| ()).unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_it_appended() {
    // The page cache survives; the writer is just gone, in the middle of a record.
    let storage = FaultyStorage::new();
    let options = Options {
        durability: Durability::Process,
        ..small()
    };
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options.clone()).unwrap();
    append(&mut writer, 1, 300, 7);
    writer.begin(100).unwrap();
    writer.put(&[7; 60]);
    drop(writer);
    let (writer, recovered) = Writer::open_in(Arc::new(storage.clone()), options).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!(
        (recovered.last_sequence, cut.bytes, cut.records, cut.what),
        (300, 60, 0, None)
    );
    drop(writer);
    assert_prefix(&storage, 300, 300);
}

#[test]
fn after_a_failed_sync_the_writer_refuses_everything() {
    for failing in 0..40 {
        let storage = FaultyStorage::new();
        let (mut writer, _) = open(&storage);
        let before = storage.calls(Operation::Sync);
        storage.fail(
            Operation::Sync,
            before + failing..before + failing + 1,
            ErrorKind::Other,
        );
        let mut number = 0;
        let failure = loop {
            match writer.append(&payload(number + 1)) {
                Ok(_) => number += 1,
                // The label of a spare met the bad call: that is tried again, no record depends on
                // it.
                Err(AppendError::Io(_)) => std::thread::sleep(Duration::from_millis(20)),
                Err(other) => panic!("{other}"),
            }
            if number.is_multiple_of(3) {
                match writer.commit() {
                    Ok(_) if number > 400 => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error),
                }
            }
        };
        let durable = writer.durable_sequence();
        if let Some(failure) = failure {
            assert!(matches!(failure, CommitError::Io(_)), "{failure}");
            assert!(matches!(writer.commit(), Err(CommitError::Stopped(_))));
            assert!(matches!(
                writer.append(b"more"),
                Err(AppendError::Stopped(_))
            ));
            assert!(matches!(writer.begin(4), Err(AppendError::Stopped(_))));
            assert_eq!(
                (writer.durable_sequence(), writer.space_left()),
                (durable, 0)
            );
            assert!(writer.close().is_err());
        }
        // What the failed sync dropped is gone; what was acknowledged before is not.
        let image = storage.crash(CrashPlan {
            seed: failing,
            grain: 4096,
            survivors: 60,
        });
        drop(open(&image));
        assert_prefix(&image, durable, number);
    }
}

#[test]
fn a_failed_directory_sync_or_rename_ends_the_writer_too() {
    for operation in [Operation::SyncNames, Operation::Rename] {
        for failing in 0..6 {
            let storage = FaultyStorage::new();
            let (mut writer, _) = open(&storage);
            let before = storage.calls(operation);
            storage.fail(
                operation,
                before + failing..before + failing + 1,
                ErrorKind::Other,
            );
            let mut number = 0;
            let failed = loop {
                let appended = writer
                    .append(&payload(number + 1))
                    .map(|_| number += 1)
                    .is_ok();
                let committed = writer.commit().is_ok();
                if !appended || !committed || number > 400 {
                    break number <= 400;
                }
            };
            assert!(failed, "{operation:?} {failing}");
            assert!(
                matches!(writer.append(b"more"), Err(AppendError::Stopped(_)))
                    || writer.commit().is_err()
            );
            let durable = writer.durable_sequence();
            drop(writer);
            drop(open(&copy(&storage)));
            let image = storage.crash(CrashPlan {
                seed: failing,
                grain: 512,
                survivors: 128,
            });
            drop(open(&image));
            assert_prefix(&image, durable, number);
        }
    }
}

#[test]
fn open_reports_every_failing_call_and_can_be_repeated() {
    for operation in Operation::ALL {
        for failing in 0..12 {
            let storage = FaultyStorage::new();
            let (mut writer, _) = open(&storage);
            append(&mut writer, 1, 100, 100);
            writer.close().unwrap();
            let before = storage.calls(operation);
            storage.fail(
                operation,
                before + failing..before + failing + 1,
                ErrorKind::PermissionDenied,
            );
            if let Err(error) = Writer::open_in(Arc::new(storage.clone()), small()) {
                let text = error.to_string();
                assert!(
                    text.contains("faulty:") && text.contains("permission denied"),
                    "{operation:?}: {text}"
                );
            }
            storage.heal();
            drop(open(&storage));
            assert_prefix(&storage, 100, 100);
        }
    }
}

#[test]
fn a_full_disk_is_a_refusal_and_service_resumes() {
    let storage = FaultyStorage::new();
    storage.set_capacity(Some(3 * 8192));
    let (mut writer, _) = open(&storage);
    let mut number = 0;
    let refusal = loop {
        match writer.append(&payload(number + 1)) {
            Ok(_) => number += 1,
            Err(refusal) => break refusal,
        }
    };
    assert!(matches!(refusal, AppendError::NoSpace { .. }), "{refusal}");
    assert!(writer.space_left() < 300);
    // Everything so far is fine, and small records still fit what is left.
    assert_eq!(writer.commit().unwrap().durable_sequence, number);
    assert_prefix(&storage, number, number);
    assert!(matches!(
        writer.append(&payload(number + 1)),
        Err(AppendError::NoSpace { .. })
    ));

    storage.set_capacity(None);
    let began = Instant::now();
    while writer.append(&payload(number + 1)).is_err() {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "service never resumed"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    append(&mut writer, number + 2, number + 200, 5);
    writer.close().unwrap();
    assert_prefix(&storage, number + 200, number + 200);
    verify_in(&storage, &mut |_, _| ()).unwrap();
}

#[test]
fn a_name_that_finds_no_room_in_the_directory_is_tried_again() {
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage);
    let before = storage.calls(Operation::Rename);
    storage.fail(
        Operation::Rename,
        before..before + 3,
        ErrorKind::StorageFull,
    );
    let (mut number, mut refusals) = (0, 0);
    while number < 200 {
        match writer.append(&payload(number + 1)) {
            Ok(_) => number += 1,
            Err(AppendError::NoSpace { .. }) => refusals += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refusals, 3);
    writer.close().unwrap();
    assert_prefix(&storage, 200, 200);
    verify_in(&storage, &mut |_, _| ()).unwrap();
}

#[test]
fn a_roll_that_was_never_committed_is_taken_back() {
    // Segments 2 and 3 got their names and nothing else reached the disk.
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage);
    append(&mut writer, 1, 10, 10);
    append(&mut writer, 11, 130, 1000);
    drop(writer);
    storage.sync_names().unwrap();
    let image = storage.crash(CrashPlan {
        seed: 1,
        grain: 4096,
        survivors: 0,
    });
    assert!(image.names().unwrap().contains(&name(3)));
    let (mut writer, recovered) = open(&image);
    let cut = recovered.cut.unwrap();
    assert_eq!((recovered.last_sequence, recovered.segments), (10, 1));
    assert!(cut.segments_discarded >= 2);
    append(&mut writer, 11, 300, 9);
    writer.close().unwrap();
    assert_prefix(&image, 300, 300);
    verify_in(&image, &mut |_, _| ()).unwrap();
}

#[test]
fn what_open_found_in_the_page_cache_is_on_the_disk_before_anyone_relies_on_it() {
    // A killed writer leaves records that no sync ever covered. Its successor calls them durable.
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage);
    append(&mut writer, 1, 100, 1000);
    drop(writer);
    let (writer, recovered) = open(&storage);
    assert_eq!(
        (recovered.last_sequence, writer.durable_sequence()),
        (100, 100)
    );
    drop(writer);
    let image = storage.crash(CrashPlan {
        seed: 1,
        grain: 4096,
        survivors: 0,
    });
    drop(open(&image));
    assert_prefix(&image, 100, 100);
}

/// Linux: after a failed sync the pages are clean, the next process reads them, and its syncs report
/// success without writing them. A simulation restarted a node there, which acknowledged what it had
/// found; the power loss after that took it.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_written_anew() {
    for records in [1, 40] {
        let storage = FaultyStorage::new();
        let (mut writer, _) = open(&storage);
        for sequence in 1..=records {
            writer.append(&payload(sequence)).unwrap();
        }
        let syncs = storage.calls(Operation::Sync);
        storage.fail(Operation::Sync, syncs..u64::MAX, ErrorKind::Other);
        assert!(matches!(writer.commit(), Err(CommitError::Io(_))));
        drop(writer);
        storage.heal();
        let (writer, recovered) = open(&storage);
        assert_eq!(recovered.last_sequence, records);
        drop(writer);
        let image = storage.crash(CrashPlan {
            seed: 1,
            grain: 4096,
            survivors: 0,
        });
        assert_prefix(&image, records, records);
    }
}

/// A journal whose writer ended right after so many rolls, all committed but what the last roll wrote; and its
/// last record.
fn killed_after(rolls: u64) -> (FaultyStorage, u64) {
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage);
    let mut last = 0;
    for _ in 0..rolls {
        let before = writer.segment_path().to_owned();
        while writer.segment_path() == before {
            writer.commit().unwrap();
            last += 1;
            writer.append(&payload(last)).unwrap();
        }
    }
    (storage, last)
}

/// All records of the full segment were committed, its closing pad was not: a simulation killed a node between
/// a roll and its commit, and cut the power from the next life. The pad was lost, and the journal refused.
#[test]
fn the_pad_that_closes_a_segment_is_on_the_disk_before_anyone_relies_on_it() {
    for rolls in 1..=6 {
        let (storage, mut last) = killed_after(rolls);
        let (mut writer, recovered) = open(&storage);
        assert_eq!(recovered.last_sequence, last);
        for _ in 0..3 {
            last += 1;
            writer.append(&payload(last)).unwrap();
            writer.commit().unwrap();
        }
        drop(writer);
        let image = storage.crash(CrashPlan {
            seed: 1,
            grain: 4096,
            survivors: 0,
        });
        assert_prefix(&image, last, last);
    }
}

/// A power loss keeps a roll's name and link and loses the pad before it; the next life checks only what a
/// snapshot of the last record does not cover. It must not go on behind the gap: a simulation found that
/// what it acknowledged there was in no reader's sight.
#[test]
fn a_snapshot_does_not_hide_a_lost_pad() {
    let mut lost = 0;
    for seed in 0..300 {
        let (storage, last) = killed_after(1 + seed % 6);
        let image = storage.crash(CrashPlan {
            seed,
            grain: 512,
            survivors: 128,
        });
        let options = Options {
            check_from: last,
            ..small()
        };
        let (mut writer, recovered) = Writer::open_in(Arc::new(image.clone()), options).unwrap();
        assert!(recovered.last_sequence >= last - 1);
        lost += u64::from(recovered.cut.is_some());
        let upto = recovered.last_sequence + 3;
        for number in recovered.last_sequence + 1..=upto {
            writer.append(&payload(number)).unwrap();
            writer.commit().unwrap();
        }
        drop(writer);
        assert_prefix(&image, upto, upto);
    }
    assert!(lost > 20, "{lost} of the images had something to cut");
}

/// Under `Process` a frame says what was durable two segments ago. A start from a snapshot must still not read
/// all that lies before it: here it would meet damage.
#[test]
fn under_process_too_a_snapshot_spares_what_lies_before_it() {
    let storage = FaultyStorage::new();
    let options = Options {
        durability: Durability::Process,
        background: Background::ByHand,
        ..small()
    };
    let open = |check_from| {
        let options = Options {
            check_from,
            ..options.clone()
        };
        Writer::open_in(Arc::new(storage.clone()), options)
    };
    let (mut writer, _) = open(1).unwrap();
    for number in 1..=400 {
        writer.append(&payload(number)).unwrap();
        writer.commit().unwrap();
        while writer.work_in_background() {}
    }
    drop(writer);
    let mut first = storage.read_file(&name(1));
    first[6_000] ^= 1;
    storage.write_file(&name(1), &first);
    assert!(open(1).is_err());
    let (_, recovered) = open(401).unwrap();
    assert!(recovered.segments > 8);
    assert_eq!((recovered.last_sequence, recovered.cut), (400, None));
}

#[test]
fn a_cut_is_on_the_disk_before_anything_is_appended() {
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage);
    append(&mut writer, 1, 20, 20);
    append(&mut writer, 21, 26, 1000);
    drop(writer);
    let mut torn = storage.read_file(&name(1));
    let slots: usize = (1..=20)
        .map(|number| slot_bytes(payload(number).len()))
        .sum();
    torn[4096 + slots] ^= 1;
    storage.write_file(&name(1), &torn);
    let (writer, recovered) = open(&storage);
    assert_eq!(
        (recovered.last_sequence, recovered.cut.unwrap().records),
        (20, 5)
    );
    drop(writer);
    let image = storage.crash(CrashPlan {
        seed: 1,
        grain: 4096,
        survivors: 0,
    });
    assert!(
        image.read_file(&name(1))[4096 + slots..]
            .iter()
            .all(|byte| *byte == 0)
    );
}
