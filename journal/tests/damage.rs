//! Broken journals: every flipped byte, and files that are missing, swapped, cut short, stale or
//! foreign. Verify must see all of it; open must refuse, or cut what was never proven durable;
//! nobody may return a record that was not appended.

mod common;

use std::sync::Arc;

use common::{append, copy, payload, small};
use proptest::prelude::*;

use millrace_journal::storage::{FaultyStorage, MemoryStorage, Storage};
use millrace_journal::{
    Damage, Defect, Fault, OpenError, Options, ReadError, Reader, Salvage, Salvaged, Writer,
    verify_in,
};

const RECORDS: u64 = 64;

/// Three small segments, every record committed alone.
fn journal() -> FaultyStorage {
    let storage = journal_of(RECORDS);
    assert_eq!(storage.names().unwrap().len(), 3);
    storage
}

/// Two segments with as little in the second as makes its records prove something.
const FEW_RECORDS: u64 = 33;

fn journal_of(records: u64) -> FaultyStorage {
    let storage = FaultyStorage::new();
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
    append(&mut writer, 1, records, 1);
    writer.close().unwrap();
    // There by now or not: the preparer has its own pace.
    let _ = storage.remove("spare");
    storage
}

fn open(storage: &FaultyStorage) -> Result<(Writer, millrace_journal::Recovered), OpenError> {
    Writer::open_in(Arc::new(storage.clone()), small())
}

fn verify(storage: &FaultyStorage) -> Result<millrace_journal::Verified, ReadError> {
    verify_in(storage, &mut |_, _| ())
}

fn name(index: u64) -> String {
    format!("{index:016}.segment")
}

/// Flips one byte after another and hands each broken journal to `judge`; two threads share the
/// work.
fn with_every_flip(masks: &[u8], judge: impl Fn(&FaultyStorage, &str, usize) + Sync) {
    let whole = journal_of(FEW_RECORDS);
    assert_eq!(whole.names().unwrap().len(), 2);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (storage, judge) = (copy(&whole), &judge);
            scope.spawn(move || {
                for name in storage.names().unwrap() {
                    let sound = storage.read_file(&name);
                    for offset in (half..sound.len()).step_by(2) {
                        let around =
                            &sound[offset.saturating_sub(32)..sound.len().min(offset + 32)];
                        // Long stretches of zeros are all alike: a sample does.
                        if offset % 97 > 1 && around.iter().all(|byte| *byte == 0) {
                            continue;
                        }
                        for mask in masks {
                            let mut broken = sound.clone();
                            broken[offset] ^= mask;
                            storage.write_file(&name, &broken);
                            judge(&storage, &name, offset);
                        }
                    }
                    storage.write_file(&name, &sound);
                }
            });
        }
    });
}

#[test]
fn verify_sees_every_flipped_byte() {
    verify(&journal()).unwrap();
    with_every_flip(&[0x01, 0x80, 0xFF], |storage, name, offset| {
        let verdict = verify(storage);
        assert!(
            verdict.is_err(),
            "a flip at {offset} of {name} goes unseen: {verdict:?}"
        );
    });
}

#[test]
fn a_reader_never_returns_a_record_that_was_not_appended() {
    with_every_flip(&[0x10], |storage, name, offset| {
        let Ok(mut reader) = Reader::open_in(Arc::new(storage.clone())) else {
            return;
        };
        while let Ok(Some(record)) = reader.next() {
            assert_eq!(
                record.payload,
                payload(record.sequence),
                "a flip at {offset} of {name}"
            );
        }
    });
}

#[test]
fn open_refuses_a_flipped_byte_or_cuts_only_what_nothing_proves() {
    with_every_flip(&[0x40], |flipped, name, offset| {
        // The writer would mend the copy it is given.
        let storage = copy(flipped);
        match open(&storage) {
            // The last record says that the one before was durable; nothing says that of the last.
            Ok((writer, recovered)) => {
                assert!(
                    recovered.last_sequence >= FEW_RECORDS - 1,
                    "a flip at {offset} of {name}: {recovered:?}"
                );
                drop(writer);
                let kept = common::payloads(&storage);
                assert_eq!(kept.len() as u64, recovered.last_sequence);
                assert!(
                    (1..)
                        .zip(&kept)
                        .all(|(sequence, found)| *found == payload(sequence))
                );
            }
            Err(refusal) => {
                assert!(matches!(refusal, OpenError::Defect(_)), "{refusal}");
                for name in flipped.names().unwrap() {
                    assert_eq!(
                        storage.read_file(&name),
                        flipped.read_file(&name),
                        "a refusal modifies nothing"
                    );
                }
            }
        }
    });
}

#[test]
fn damage_below_the_watermark_names_file_offset_and_sequence() {
    let storage = journal();
    let mut reader = Reader::open_in(Arc::new(storage.clone())).unwrap();
    reader.seek(20).unwrap();
    let offset = reader.next().unwrap().unwrap().offset;
    let mut bytes = storage.read_file(&name(1));
    bytes[offset as usize + 40] ^= 1;
    storage.write_file(&name(1), &bytes);

    let path = storage.path_of(&name(1));
    let damage = Damage {
        path,
        offset,
        sequence: 20,
        what: Fault::Checksum,
    };
    let Err(OpenError::Defect(Defect::Damaged(found))) = open(&storage) else {
        panic!("not refused")
    };
    assert_eq!(found, damage);
    let Err(ReadError::Defect(Defect::Damaged(found))) = verify(&storage) else {
        panic!("not seen")
    };
    assert_eq!(found, damage);
    let mut reader = Reader::open_in(Arc::new(storage)).unwrap();
    let stopped = loop {
        match reader.next() {
            Ok(record) => assert!(record.unwrap().sequence < 20),
            Err(error) => break error,
        }
    };
    assert!(matches!(stopped, ReadError::Defect(Defect::Damaged(found)) if found == damage));
}

#[test]
fn a_zeroed_page_in_the_middle_is_damage_and_not_the_end() {
    let storage = FaultyStorage::new();
    let options = Options {
        segment_bytes: 32768,
        ..small()
    };
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options.clone()).unwrap();
    append(&mut writer, 1, 120, 1);
    writer.close().unwrap();
    let mut bytes = storage.read_file(&name(1));
    bytes[8192..12288].fill(0);
    storage.write_file(&name(1), &bytes);

    let refusal = Writer::open_in(Arc::new(storage.clone()), options).unwrap_err();
    assert!(
        matches!(refusal, OpenError::Defect(Defect::Damaged(_))),
        "{refusal}"
    );
    assert!(verify(&storage).is_err());
    let mut reader = Reader::open_in(Arc::new(storage)).unwrap();
    let stopped = loop {
        match reader.next() {
            Ok(Some(_)) => {}
            // Without looking further, zeros in the last segment are the end for now: asked, the
            // reader looks.
            Ok(None) => break reader.end_state().unwrap_err(),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(stopped, ReadError::Defect(Defect::Damaged(_))),
        "{stopped}"
    );
}

#[test]
fn missing_segments_are_named() {
    // The last one, too: the spare was made for the segment after it.
    for missing in 1..=last_segment(&with_spare()) {
        let storage = with_spare();
        storage.remove(&name(missing)).unwrap();
        let path = storage.path_of(&name(missing));
        let expected = Defect::MissingSegment { path };
        assert!(matches!(open(&storage), Err(OpenError::Defect(found)) if found == expected));
        assert!(matches!(verify(&storage), Err(ReadError::Defect(found)) if found == expected));
        assert!(
            matches!(Reader::open_in(Arc::new(storage)), Err(ReadError::Defect(found)) if found == expected)
        );
    }
}

fn last_segment(storage: &FaultyStorage) -> u64 {
    (1..)
        .take_while(|index| storage.names().unwrap().contains(&name(*index)))
        .last()
        .expect("some")
}

/// [`journal`] with the spare that its writer leaves.
fn with_spare() -> FaultyStorage {
    let storage = journal();
    let (writer, _) = open(&storage).unwrap();
    let is_labelled = || {
        let there = storage.names().unwrap().contains(&"spare".to_string());
        there
            && storage.read_file("spare")[..64]
                .iter()
                .any(|byte| *byte != 0)
    };
    while !is_labelled() {
        std::thread::yield_now();
    }
    writer.close().unwrap();
    storage
}

#[test]
fn several_missing_segments_at_the_end_are_named_by_the_first() {
    let storage = with_spare();
    let last = last_segment(&storage);
    for missing in (last - 1)..=last {
        storage.remove(&name(missing)).unwrap();
    }
    let path = storage.path_of(&name(last - 1));
    let expected = Defect::MissingSegment { path };
    assert!(matches!(open(&storage), Err(OpenError::Defect(found)) if found == expected));
    // Whoever takes the spare away as well takes the proof.
    storage.remove("spare").unwrap();
    assert!(open(&storage).is_ok());
}

#[test]
fn a_spare_of_another_journal_proves_nothing() {
    let (storage, other) = (with_spare(), with_spare());
    let last = last_segment(&storage);
    storage.write_file("spare", &other.read_file("spare"));
    storage.remove(&name(last)).unwrap();
    assert!(open(&storage).is_ok());
}

#[test]
fn a_segment_that_vanishes_behind_a_reader_is_named() {
    let storage = journal();
    let mut reader = Reader::open_in(Arc::new(storage.clone())).unwrap();
    storage.remove(&name(2)).unwrap();
    let stopped = loop {
        match reader.next() {
            Ok(record) => assert!(record.is_some()),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(stopped, ReadError::Defect(Defect::MissingSegment { .. })),
        "{stopped}"
    );
}

#[test]
fn swapped_segments_are_refused() {
    let storage = journal();
    let (first, second) = (storage.read_file(&name(1)), storage.read_file(&name(2)));
    storage.write_file(&name(1), &second);
    storage.write_file(&name(2), &first);
    assert!(matches!(
        open(&storage),
        Err(OpenError::Defect(Defect::ForeignFile { .. }))
    ));
    assert!(matches!(
        verify(&storage),
        Err(ReadError::Defect(Defect::ForeignFile { .. }))
    ));
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let (storage, other) = (with_spare(), with_spare());
    storage.write_file(&name(2), &other.read_file(&name(2)));
    assert!(matches!(
        open(&storage),
        Err(OpenError::Defect(Defect::ForeignFile { .. }))
    ));
    assert!(matches!(
        verify(&storage),
        Err(ReadError::Defect(Defect::ForeignFile { .. }))
    ));
}

#[test]
fn an_older_copy_of_a_segment_is_refused() {
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage).unwrap();
    append(&mut writer, 1, 10, 1);
    let older = storage.read_file(&name(1));
    append(&mut writer, 11, RECORDS, 1);
    writer.close().unwrap();
    storage.write_file(&name(1), &older);
    assert!(matches!(
        open(&storage),
        Err(OpenError::Defect(Defect::Damaged(_)))
    ));
    assert!(matches!(
        verify(&storage),
        Err(ReadError::Defect(Defect::Damaged(_)))
    ));
}

#[test]
fn a_rewritten_history_breaks_the_chain() {
    // The first segment once more under its own label: the same sequences and lengths, other
    // payloads, all checksums right. Only the hash in the second segment's link can tell.
    let storage = journal();
    let forgery = FaultyStorage::new();
    let mut bytes = storage.read_file(&name(1));
    bytes[4096..].fill(0);
    forgery.write_file(&name(1), &bytes);
    let (mut writer, _) = open(&forgery).unwrap();
    let mut reader = Reader::open_in(Arc::new(storage.clone())).unwrap();
    while writer.segment_path().ends_with(name(1)) {
        let mut payload = reader.next().unwrap().unwrap().payload.to_vec();
        payload.iter_mut().for_each(|byte| *byte ^= 1);
        writer.append(&payload).unwrap();
    }
    drop(writer);
    storage.write_file(&name(1), &forgery.read_file(&name(1)));

    let Err(ReadError::Defect(Defect::Damaged(damage))) = verify(&storage) else {
        panic!("not seen")
    };
    assert_eq!(
        (damage.what, damage.path),
        (Fault::Chain, storage.path_of(&name(2)))
    );
    let refusal = open(&storage).unwrap_err();
    assert!(
        matches!(refusal, OpenError::Defect(Defect::Damaged(found)) if found.what == Fault::Chain)
    );
}

#[test]
fn a_file_cut_short_or_grown_is_refused() {
    for length in [0, 104, 4096, 8184, 12288] {
        let storage = journal();
        let mut bytes = storage.read_file(&name(2));
        bytes.resize(length, 0);
        storage.write_file(&name(2), &bytes);
        assert!(
            matches!(
                open(&storage),
                Err(OpenError::Defect(Defect::WrongLength { .. }))
            ),
            "{length}"
        );
        assert!(
            matches!(
                verify(&storage),
                Err(ReadError::Defect(Defect::WrongLength { .. }))
            ),
            "{length}"
        );
    }
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let storage = journal();
    let mut bytes = storage.read_file(&name(3));
    bytes[8..10].copy_from_slice(&2u16.to_le_bytes());
    storage.write_file(&name(3), &bytes);
    let refusal = open(&storage).unwrap_err();
    assert!(
        matches!(
            refusal,
            OpenError::Defect(Defect::NewerFormat { found: 2, .. })
        ),
        "{refusal}"
    );
}

#[test]
fn foreign_files_with_segment_names_are_refused() {
    let storage = journal();
    storage.write_file(&name(4), &[b'x'; 8192]);
    assert!(matches!(
        open(&storage),
        Err(OpenError::Defect(Defect::ForeignFile { .. }))
    ));
    let storage = journal();
    storage.write_file("copy of 1.segment", &[0; 8192]);
    assert!(matches!(
        open(&storage),
        Err(OpenError::Defect(Defect::ForeignFile { .. }))
    ));
}

#[test]
fn stale_frames_of_an_earlier_use_never_verify() {
    // The file's earlier life: the same records at the same offsets. Its frames are put back behind
    // the new ones, as if the zeroing had been lost.
    let storage = journal();
    let stale = storage.read_file(&name(1));
    let fresh = FaultyStorage::new();
    let (mut writer, _) = open(&fresh).unwrap();
    append(&mut writer, 1, 5, 1);
    writer.close().unwrap();
    let mut bytes = fresh.read_file(&name(1));
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap()
        .next_multiple_of(32);
    bytes[end..].copy_from_slice(&stale[end..]);
    fresh.write_file(&name(1), &bytes);
    assert_eq!(common::payloads(&fresh).len(), 5);
    let (mut writer, recovered) = open(&fresh).unwrap();
    let cut = recovered.cut.unwrap();
    assert_eq!(
        (recovered.last_sequence, cut.records, cut.sequence),
        (5, 0, 6)
    );
    append(&mut writer, 6, 9, 1);
    writer.close().unwrap();
    verify(&fresh).unwrap();
}

#[test]
fn a_leftover_spare_is_used_whatever_is_in_it() {
    let storage = MemoryStorage::new();
    let (writer, _) = Writer::open_in(Arc::new(storage.clone()), small()).unwrap();
    drop(writer);
    let faulty = journal();
    faulty.write_file("spare", &faulty.read_file(&name(2)));
    let (mut writer, _) = open(&faulty).unwrap();
    append(&mut writer, RECORDS + 1, RECORDS + 100, 3);
    writer.close().unwrap();
    assert_eq!(common::payloads(&faulty).len() as u64, RECORDS + 100);
    verify(&faulty).unwrap();
}

#[test]
fn frames_of_another_history_under_the_same_label_never_verify() {
    // What a restored file system snapshot may bring: the same segment, but from the sixth record
    // on another life of it.
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage).unwrap();
    append(&mut writer, 1, 5, 100);
    let shared = storage.read_file(&name(1));
    append(&mut writer, 6, 12, 100);
    drop(writer);
    let other = FaultyStorage::new();
    other.write_file(&name(1), &shared);
    let (mut writer, _) = open(&other).unwrap();
    writer
        .append(&payload(6).iter().map(|byte| !byte).collect::<Vec<_>>())
        .unwrap();
    drop(writer);
    let mut spliced = storage.read_file(&name(1));
    let sixth_ends = other
        .read_file(&name(1))
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap()
        + 1;
    spliced[..sixth_ends].copy_from_slice(&other.read_file(&name(1))[..sixth_ends]);
    other.write_file(&name(1), &spliced);

    let mut reader = Reader::open_in(Arc::new(other.clone())).unwrap();
    let mut count = 0;
    while reader.next().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 6);
    assert!(verify(&other).is_err());
    let (_writer, recovered) = open(&other).unwrap();
    assert_eq!(
        (recovered.last_sequence, recovered.cut.unwrap().what),
        (6, Some(Fault::Checksum))
    );
}

#[test]
fn a_hole_before_a_later_segment_is_damage_for_a_reader_too() {
    let storage = journal();
    let mut reader = Reader::open_in(Arc::new(storage.clone())).unwrap();
    reader.seek(10).unwrap();
    let tenth = reader.next().unwrap().unwrap().offset as usize;
    let mut bytes = storage.read_file(&name(1));
    bytes[tenth..].fill(0);
    storage.write_file(&name(1), &bytes);
    let mut reader = Reader::open_in(Arc::new(storage)).unwrap();
    let stopped = loop {
        match reader.next() {
            Ok(record) => assert!(record.is_some(), "a hole is not the end"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(stopped, ReadError::Defect(Defect::Damaged(_))),
        "{stopped}"
    );
}

#[test]
fn verify_sees_a_byte_behind_a_pad() {
    let storage = FaultyStorage::new();
    let (mut writer, _) = open(&storage).unwrap();
    for _ in 0..4 {
        writer.append(&[7; 1500]).unwrap();
    }
    writer.close().unwrap();
    verify(&storage).unwrap();
    let sound = storage.read_file(&name(1));
    let pad = 4096 + 2 * millrace_journal::slot_bytes(1500);
    for offset in pad + 32..8192 {
        let mut broken = sound.clone();
        broken[offset] = 1;
        storage.write_file(&name(1), &broken);
        let Err(ReadError::Defect(Defect::Damaged(damage))) = verify(&storage) else {
            panic!("{offset}")
        };
        assert_eq!(
            (damage.offset, damage.what),
            (offset as u64, Fault::NotZero)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever bytes a bad disk writes wherever: no panic, no record that was not appended, and
    /// nothing that verify approves of.
    #[test]
    fn garbage_anywhere_is_survived(
        index in 1u64..=3,
        start in 0usize..8192,
        garbage in prop::collection::vec(prop_oneof![any::<u8>(), Just(0u8), Just(1u8)], 1..300),
    ) {
        let storage = journal();
        let mut bytes = storage.read_file(&name(index));
        let before = bytes.clone();
        let end = bytes.len().min(start + garbage.len());
        bytes[start..end].copy_from_slice(&garbage[..end - start]);
        storage.write_file(&name(index), &bytes);
        if let Ok(mut reader) = Reader::open_in(Arc::new(storage.clone())) {
            while let Ok(Some(record)) = reader.next() {
                prop_assert_eq!(record.payload, payload(record.sequence));
            }
            let _ = reader.end_state();
        }
        prop_assert_eq!(verify(&storage).is_ok(), bytes == before);
        if let Ok((writer, recovered)) = open(&storage) {
            drop(writer);
            let kept = common::payloads(&storage);
            prop_assert_eq!(kept.len() as u64, recovered.last_sequence);
            prop_assert!((1..).zip(&kept).all(|(sequence, found)| *found == payload(sequence)));
        }
    }
}

/// What salvage reads of a journal, and at how many places it says that something is lost.
fn salvaged(storage: &FaultyStorage, from: u64) -> (Vec<u64>, usize) {
    let mut salvage = Salvage::open_in(Arc::new(storage.clone()), from).unwrap();
    let (mut sequences, mut lost) = (Vec::new(), 0);
    while let Some(found) = salvage.next().unwrap() {
        match found {
            Salvaged::Record(record) => {
                assert_eq!(record.payload, payload(record.sequence));
                sequences.push(record.sequence);
            }
            Salvaged::Lost(_) => lost += 1,
        }
    }
    (sequences, lost)
}

#[test]
fn salvage_reads_a_sound_journal_as_a_reader_does() {
    let (sequences, lost) = salvaged(&journal(), 1);
    assert_eq!((sequences, lost), ((1..=RECORDS).collect(), 0));
}

#[test]
fn salvage_reads_around_every_flipped_byte_and_never_returns_what_was_not_appended() {
    with_every_flip(&[0x20], |storage, name, offset| {
        let (sequences, lost) = salvaged(storage, 1);
        let what = format!("a flip at {offset} of {name}: {sequences:?}, {lost} lost");
        // A label takes its segment along; otherwise the broken record and the one behind it may go.
        let spared = if offset < 96 {
            0
        } else {
            FEW_RECORDS as usize - 2
        };
        assert!(sequences.len() >= spared, "{what}");
        assert!(sequences.is_sorted(), "{what}");
        let mentioned = lost > 0 || sequences.len() as u64 >= FEW_RECORDS - 1;
        assert!(mentioned, "{what}");
    });
}

#[test]
fn salvage_names_a_missing_segment_and_goes_on_behind_it() {
    let storage = journal();
    storage.remove(&name(2)).unwrap();
    let (sequences, lost) = salvaged(&storage, 1);
    assert_eq!(lost, 1);
    assert_eq!((sequences[0], sequences.last()), (1, Some(&RECORDS)));
    let (sequences, lost) = salvaged(&storage, RECORDS);
    assert_eq!((sequences.last(), lost), (Some(&RECORDS), 0));
}

#[test]
fn a_journal_of_a_later_release_is_refused_and_left_alone() {
    let storage = FaultyStorage::new();
    let release = |writer_release| Options {
        writer_release,
        ..small()
    };
    let open = |own| Writer::open_in(Arc::new(storage.clone()), release(own));
    drop(open(3).unwrap());
    drop(open(4).unwrap());
    drop(open(3).expect("nothing was written by 4"));
    let (mut writer, _) = open(4).unwrap();
    append(&mut writer, 1, 60, 5);
    writer.close().unwrap();
    let refusal = open(3).unwrap_err();
    assert!(
        matches!(
            refusal,
            OpenError::Defect(Defect::NewerRelease {
                found: 4,
                ours: 3,
                ..
            })
        ),
        "{refusal}"
    );
    drop(open(5).unwrap());
}
