//! Records in, the same records out: sizes, pieces, segments, restarts, the lock, a follower beside
//! the writer.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{append, payload, payloads, small};
use millrace_journal::storage::{MemoryStorage, Storage};
use millrace_journal::{
    AppendError, Defect, Durability, EndState, OpenError, Options, ReadError, Reader, Writer,
    slot_bytes, verify, verify_in,
};
use proptest::prelude::*;

fn one_mib() -> Options {
    Options {
        segment_bytes: 1 << 20,
        ..Options::default()
    }
}

#[test]
fn records_come_back_from_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, recovered) = Writer::open(&dir.path().join("new"), one_mib()).unwrap();
    assert!(recovered.created);
    for number in 1..=1000 {
        assert_eq!(writer.append(&payload(number)).unwrap(), number);
    }
    let commit = writer.commit().unwrap();
    let slots: usize = (1..=1000)
        .map(|number| slot_bytes(payload(number).len()))
        .sum();
    assert_eq!((commit.durable_sequence, commit.records), (1000, 1000));
    assert_eq!(commit.bytes, slots as u64);
    let head = writer.chain_head();
    writer.close().unwrap();

    let mut reader = Reader::open(&dir.path().join("new")).unwrap();
    assert_eq!(reader.last_sequence(), 1000);
    for number in 1..=1000 {
        let record = reader.next().unwrap().unwrap();
        assert_eq!(
            (record.sequence, record.payload),
            (number, &payload(number)[..])
        );
        assert!(record.payload.as_ptr().addr().is_multiple_of(16));
        assert!(record.segment.ends_with("0000000000000001.segment"));
    }
    assert!(reader.next().unwrap().is_none());
    assert_eq!(reader.end_state().unwrap(), EndState::Clean);
    assert_eq!(reader.bytes_read(), reader.bytes_total());

    let verified = verify(&dir.path().join("new"), &mut |done, total| {
        assert!(done <= total)
    })
    .unwrap();
    assert_eq!(
        (verified.records, verified.chain_head, verified.live),
        (1000, head, false)
    );
}

#[test]
fn a_journal_goes_on_after_a_restart_with_the_same_fingerprint() {
    let storage = MemoryStorage::new();
    let mut head = None;
    for round in 0..20 {
        let (mut writer, recovered) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
        assert_eq!((recovered.last_sequence, recovered.cut), (round * 37, None));
        if let Some(head) = head {
            assert_eq!(writer.chain_head(), head);
        }
        append(&mut writer, round * 37 + 1, round * 37 + 37, 10);
        head = Some(writer.chain_head());
        writer.close().unwrap();
    }
    assert_eq!(payloads(&storage).len(), 740);
    let verified = verify_in(&storage, &mut |_, _| ()).unwrap();
    assert_eq!(Some(verified.chain_head), head);
    assert!(verified.segments > 10);
}

#[test]
fn the_fingerprint_changes_with_every_record() {
    let (mut writer, _) = Writer::open_in(Arc::new(MemoryStorage::new()), small()).unwrap();
    let mut heads = vec![writer.chain_head()];
    for number in 1..200 {
        writer.append(&payload(number)).unwrap();
        heads.push(writer.chain_head());
        assert_eq!(writer.chain_head(), heads[number as usize]);
    }
    heads.sort_unstable();
    heads.dedup();
    assert_eq!(heads.len(), 200);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_sizes_whole_or_in_pieces_survive(
        records in prop::collection::vec((0usize..4065, 1usize..700, any::<bool>()), 1..60),
        reopen_at in 0usize..60,
    ) {
        let storage = MemoryStorage::new();
        let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
        let mut expected = Vec::new();
        for (number, (length, piece, whole)) in records.into_iter().enumerate() {
            if number == reopen_at {
                writer.close().unwrap();
                writer = Writer::open_in(Arc::new(storage.clone()), small()).unwrap().0;
            }
            let length = length.min(4064);
            let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
            if whole {
                writer.append(&bytes).unwrap();
            } else {
                writer.begin(length).unwrap();
                bytes.chunks(piece).for_each(|piece| writer.put(piece));
                prop_assert_eq!(writer.finish(), number as u64 + 1);
            }
            expected.push(bytes);
        }
        writer.close().unwrap();
        prop_assert_eq!(payloads(&storage), expected);
        verify_in(&storage, &mut |_, _| ()).unwrap();
    }
}

#[test]
fn the_longest_record_fits_a_segment_and_one_byte_more_does_not() {
    let (mut writer, _) = Writer::open_in(Arc::new(MemoryStorage::new()), small()).unwrap();
    writer.append(&[1; 4064]).unwrap();
    writer.append(&[2; 4064]).unwrap();
    let refusal = writer.append(&[3; 4065]).unwrap_err();
    assert!(
        matches!(
            refusal,
            AppendError::TooLong {
                length: 4065,
                limit: 4064
            }
        ),
        "{refusal}"
    );
    assert!(matches!(
        writer.begin(usize::MAX),
        Err(AppendError::TooLong { .. })
    ));
    assert_eq!(writer.append(&[4; 1]).unwrap(), 3);
}

#[test]
fn a_record_in_pieces_is_invisible_until_it_is_finished() {
    let storage = MemoryStorage::new();
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
    let mut reader = Reader::open_in(Arc::new(storage)).unwrap();
    writer.begin(6).unwrap();
    writer.put(b"abc");
    assert!(reader.next().unwrap().is_none());
    assert_eq!(
        reader.end_state().unwrap(),
        EndState::Unfinished { what: None }
    );
    writer.put(b"def");
    assert!(reader.next().unwrap().is_none());
    assert_eq!(writer.finish(), 1);
    assert_eq!(reader.next().unwrap().unwrap().payload, b"abcdef");
}

#[test]
#[should_panic(expected = "fall short")]
fn a_record_in_pieces_must_be_complete() {
    let (mut writer, _) = Writer::open_in(Arc::new(MemoryStorage::new()), small()).unwrap();
    writer.begin(6).unwrap();
    writer.put(b"abc");
    writer.finish();
}

#[test]
fn seek_finds_every_sequence_and_one_past_the_last() {
    let storage = MemoryStorage::new();
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
    append(&mut writer, 1, 500, 10);
    let mut reader = Reader::open_in(Arc::new(storage)).unwrap();
    for wanted in (1..=500).rev().step_by(7).chain(1..5) {
        reader.seek(wanted).unwrap();
        let record = reader.next().unwrap().unwrap();
        assert_eq!(
            (record.sequence, record.payload),
            (wanted, &payload(wanted)[..])
        );
    }
    reader.seek(501).unwrap();
    assert!(reader.next().unwrap().is_none());
    let missing = reader.seek(502).unwrap_err();
    assert!(matches!(
        missing,
        ReadError::NoSuchSequence {
            wanted: 502,
            first: 1,
            last: 500
        }
    ));
    assert!(matches!(
        reader.seek(0),
        Err(ReadError::NoSuchSequence { .. })
    ));
    reader.seek(501).unwrap();
    append(&mut writer, 501, 501, 1);
    assert_eq!(reader.next().unwrap().unwrap().sequence, 501);
}

#[test]
fn watermarks_say_what_was_durable_when_a_record_was_appended() {
    let storage = MemoryStorage::new();
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
    append(&mut writer, 1, 95, 10);
    assert_eq!(
        (writer.durable_sequence(), writer.next_sequence()),
        (90, 96)
    );
    let mut reader = Reader::open_in(Arc::new(storage)).unwrap();
    while let Some(record) = reader.next().unwrap() {
        assert_eq!(record.watermark, (record.sequence - 1) / 10 * 10);
    }
}

#[test]
fn under_process_durability_only_what_the_disk_has_is_in_the_watermark() {
    let storage = MemoryStorage::new();
    let options = Options {
        durability: Durability::Process,
        ..small()
    };
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options.clone()).unwrap();
    append(&mut writer, 1, 10, 1);
    assert_eq!(
        (writer.durable_sequence(), writer.synced_sequence()),
        (10, 0)
    );
    writer.close().unwrap();
    let (writer, _) = Writer::open_in(Arc::new(storage), options).unwrap();
    assert_eq!(
        (writer.durable_sequence(), writer.synced_sequence()),
        (10, 10)
    );
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = Writer::open(dir.path(), one_mib()).unwrap();
    let refusal = Writer::open(dir.path(), one_mib()).unwrap_err();
    assert!(matches!(refusal, OpenError::DirectoryInUse { .. }));
    assert!(refusal.to_string().contains("LOCK"), "{refusal}");
    assert!(verify(dir.path(), &mut |_, _| ()).unwrap().live);
    drop(writer);
    Writer::open(dir.path(), one_mib()).unwrap();
}

#[test]
fn a_directory_with_other_files_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.txt"), "chapter one").unwrap();
    let refusal = Writer::open(dir.path(), one_mib()).unwrap_err();
    assert!(
        matches!(refusal, OpenError::Defect(Defect::NotAJournal { .. })),
        "{refusal}"
    );
    assert!(refusal.to_string().contains("thesis.txt"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let refusal = Reader::open(dir.path()).unwrap_err();
    assert!(
        matches!(refusal, ReadError::Defect(Defect::NotAJournal { .. })),
        "{refusal}"
    );
}

#[test]
fn a_reader_says_when_there_is_no_journal_or_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let empty = Reader::open(dir.path()).unwrap_err();
    assert!(
        matches!(
            empty,
            ReadError::Defect(Defect::NotAJournal { found: None, .. })
        ),
        "{empty}"
    );
    let nowhere = Reader::open(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(nowhere, ReadError::Io(_)), "{nowhere}");
    let nowhere = Writer::open(&dir.path().join("no/where"), one_mib()).unwrap_err();
    assert!(matches!(nowhere, OpenError::Io(_)), "{nowhere}");
}

#[test]
fn odd_segment_sizes_are_refused_before_anything_is_touched() {
    let nowhere = Path::new("/nonexistent/journal");
    for segment_bytes in [0, 4096, (1 << 20) - 4096, (1 << 20) + 1, 1 << 40] {
        let refusal = Writer::open(
            nowhere,
            Options {
                segment_bytes,
                ..one_mib()
            },
        )
        .unwrap_err();
        assert!(
            matches!(refusal, OpenError::Options { .. }),
            "{segment_bytes}: {refusal}"
        );
    }
}

#[test]
fn options_may_change_between_runs() {
    let storage = MemoryStorage::new();
    let mut from = 1;
    for pages in [2, 5, 3] {
        let options = Options {
            segment_bytes: pages * 4096,
            ..small()
        };
        let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options).unwrap();
        append(&mut writer, from, from + 199, 3);
        from += 200;
        writer.close().unwrap();
    }
    assert_eq!(payloads(&storage).len(), 600);
    verify_in(&storage, &mut |_, _| ()).unwrap();
}

#[test]
fn recovery_may_start_at_a_snapshot() {
    let storage = MemoryStorage::new();
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
    append(&mut writer, 1, 500, 10);
    let head = writer.chain_head();
    writer.close().unwrap();
    for check_from in [0, 1, 2, 250, 499, 500, 501, 9999] {
        let options = Options {
            check_from,
            ..small()
        };
        let (mut writer, recovered) = Writer::open_in(Arc::new(storage.clone()), options).unwrap();
        assert_eq!(
            (recovered.last_sequence, writer.chain_head()),
            (500, head),
            "{check_from}"
        );
    }
}

/// A follower polls while the writer appends; the segments roll a hundred times.
fn follow(reading: Arc<dyn Storage>, writing: Arc<dyn Storage>, options: Options, records: u64) {
    let (mut writer, _) = Writer::open_in(writing, options).unwrap();
    let mut reader = Reader::open_in(reading).unwrap();
    let appended = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=records {
                writer.append(&payload(number)).unwrap();
                appended.store(number, Ordering::Release);
                if number % 64 == 0 {
                    writer.commit().unwrap();
                }
            }
        });
        let mut next = 1;
        while next <= records {
            let known = appended.load(Ordering::Acquire);
            match reader.next().unwrap() {
                Some(record) => {
                    assert_eq!(
                        (record.sequence, record.payload),
                        (next, &payload(next)[..])
                    );
                    next += 1;
                }
                None => assert!(known < next, "record {next} was appended and is not seen"),
            }
        }
    });
}

#[test]
fn a_follower_sees_every_record_as_soon_as_it_is_appended() {
    let storage = MemoryStorage::new();
    follow(Arc::new(storage.clone()), Arc::new(storage), small(), 3000);
}

#[test]
fn a_follower_on_a_disk_sees_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        durability: Durability::Process,
        ..small()
    };
    let files = || Arc::new(millrace_journal::storage::MappedFiles::at(dir.path()));
    follow(files(), files(), options, 3000);
    let verified = verify(dir.path(), &mut |_, _| ()).unwrap();
    assert_eq!(verified.records, 3000);
}

#[test]
fn space_left_counts_the_rest_of_the_segment_and_the_spare() {
    let (mut writer, _) = Writer::open_in(Arc::new(MemoryStorage::new()), small()).unwrap();
    while writer.space_left() < 4096 * 2 {
        std::thread::yield_now();
    }
    writer.append(&[0; 100]).unwrap();
    assert_eq!(writer.space_left(), 4096 * 2 - slot_bytes(100) as u64);
}

#[test]
fn the_probe_reports_a_small_sync_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (writer, _) = Writer::open(dir.path(), one_mib()).unwrap();
    let cost = writer.probe_sync_cost().unwrap();
    assert!(
        cost.device_bytes.is_none_or(|bytes| bytes <= 64 << 10),
        "{cost:?}"
    );
    assert!(!dir.path().join("probe").exists());
}
