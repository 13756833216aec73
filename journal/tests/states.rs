//! The states that a power loss can leave, by the hundred thousand: random subsets of the pieces that
//! no sync covered, and every way in which the last two batches can be torn.
//!
//! After each, recovery must leave the longest valid prefix: every acknowledged record, once, nothing
//! that was not appended, and the fingerprint that the writer had at that record.
//! `MILLRACE_CRASH_STATES` says how many random states there are: 20,000, and 100,000 in CI.

mod common;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use common::{payload, payloads, small};
use millrace_journal::storage::{CrashPlan, FaultyStorage, Storage};
use millrace_journal::{Options, Writer, recover_in, slot_bytes, verify_in};

const GRAINS: [usize; 3] = [8, 512, 4096];

/// What a writer did until the power went, and what it knew.
struct Life {
    storage: FaultyStorage,
    /// Acknowledged.
    durable: u64,
    /// Appended.
    appended: u64,
    /// The fingerprint after each record, and the segment it went to.
    heads: Vec<([u8; 32], PathBuf)>,
}

impl Life {
    /// Batches of random sizes, every third left without its commit; a restart now and then. At the
    /// end up to three batches, with their rolls, are under way.
    fn random(seed: u64) -> Life {
        let mut random = Random(seed);
        let options = Options {
            segment_bytes: [8192, 12288, 16384][random.below(3) as usize],
            ..small()
        };
        let storage = FaultyStorage::new();
        let mut life = Life {
            storage: storage.clone(),
            durable: 0,
            appended: 0,
            heads: vec![Default::default()],
        };
        let open = || Writer::open_in(Arc::new(storage.clone()), options.clone()).unwrap();
        let (mut writer, _) = open();
        for _ in 0..1 + random.below(12) {
            life.batch(&mut writer, 1 + random.below(30));
            if random.below(3) > 0 {
                life.durable = writer.commit().unwrap().durable_sequence;
            }
            if random.below(8) == 0 {
                writer.close().unwrap();
                writer = open().0;
                life.durable = writer.durable_sequence();
            }
        }
        for _ in 0..1 + random.below(3) {
            life.batch(&mut writer, 1 + random.below(40));
        }
        life
    }

    fn batch(&mut self, writer: &mut Writer, records: u64) {
        for _ in 0..records {
            self.appended = writer.append(&payload(self.appended + 1)).unwrap();
            let head = writer.chain_head();
            self.heads.push((head, writer.segment_path().to_owned()));
        }
    }

    /// Recovers one of the states and holds it against what the writer knew; returns how many
    /// records are left.
    fn judge(&self, image: &FaultyStorage, what: &dyn Fn() -> String) -> u64 {
        let recovered = recover_in(image, 1).unwrap_or_else(|error| panic!("{}: {error}", what()));
        let found = payloads(image);
        let left = found.len() as u64;
        let right = recovered.last_sequence == left
            && (self.durable..=self.appended).contains(&left)
            && (1..)
                .zip(&found)
                .all(|(sequence, found)| *found == payload(sequence));
        assert!(
            right,
            "{}: {} of {} records acknowledged, {left} are left, {recovered:?}",
            what(),
            self.durable,
            self.appended
        );
        let verified = verify_in(image, &mut |_, _| ()).unwrap();
        // Behind the last record of a segment the pad and the next segment may be there or not.
        let (head, segment) = &self.heads[left as usize];
        let next = self.heads.get(left as usize + 1);
        if left > 0 && next.is_none_or(|(_, next)| next == segment) {
            assert_eq!(verified.chain_head, *head, "{}", what());
        }
        left
    }
}

#[test]
fn random_states_of_the_disk_keep_what_was_acknowledged() {
    let wanted =
        std::env::var("MILLRACE_CRASH_STATES").map_or(20_000, |text| text.parse().unwrap());
    const PER_LIFE: usize = 250;
    let (mut states, mut lives, mut cut) = (0, 0, 0);
    while states < wanted {
        let life = Life::random(lives);
        let mut seen = HashSet::new();
        for draw in 0..2 * PER_LIFE {
            let plan = CrashPlan {
                seed: lives << 16 | draw as u64,
                grain: GRAINS[draw % 3],
                survivors: [4, 64, 128, 192, 240, 252][draw / 3 % 6],
            };
            let image = life.storage.crash(plan);
            // Only what was not seen before counts.
            if !seen.insert(fingerprint(&image)) {
                continue;
            }
            let left = life.judge(&image, &|| format!("life {lives}, {plan:?}"));
            cut += u64::from(left < life.appended);
            states += 1;
            if seen.len() == PER_LIFE || states == wanted {
                break;
            }
        }
        lives += 1;
    }
    println!(
        "{states} different states of {lives} lives, {cut} with a tail to cut: none lost, none doubled"
    );
}

/// The last two batches, neither of them synced, with a roll between them; every place at which they
/// can be torn, at three grains and in four ways.
#[test]
fn the_last_two_batches_torn_at_every_place_leave_a_prefix() {
    let options = Options {
        segment_bytes: 16384,
        ..small()
    };
    let storage = FaultyStorage::new();
    let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options).unwrap();
    let mut life = Life {
        storage: storage.clone(),
        durable: 0,
        appended: 0,
        heads: vec![Default::default()],
    };
    life.batch(&mut writer, 50);
    life.durable = writer.commit().unwrap().durable_sequence;
    let synced = storage.crash(CrashPlan {
        seed: 0,
        grain: 4096,
        survivors: 0,
    });
    life.batch(&mut writer, 24);
    life.batch(&mut writer, 24);
    drop(writer);
    storage.sync_names().unwrap();
    let written = storage.crash(CrashPlan {
        seed: 0,
        grain: 4096,
        survivors: 255,
    });
    let names: Vec<String> = written.names().unwrap();
    let segments = names
        .iter()
        .filter(|name| name.ends_with(".segment"))
        .count();
    assert_eq!(segments, 2, "the batches meet the end of a segment");
    let slots: usize = (51..=98)
        .map(|sequence| slot_bytes(payload(sequence).len()))
        .sum();
    assert!(slots > 4 * 1024);

    let mut states = 0;
    for grain in GRAINS {
        let pieces = differing(&storage, &synced, grain);
        for torn in 0..=pieces.len() {
            let shapes: [&dyn Fn(usize) -> bool; 4] = [
                &|piece| piece < torn,
                &|piece| piece >= torn,
                &|piece| piece != torn,
                &|piece| piece == torn,
            ];
            for (shape, survives) in shapes.iter().enumerate() {
                let image = common::copy(&synced_names(&storage, &synced));
                for (number, (name, start)) in pieces.iter().enumerate() {
                    if survives(number) {
                        let new = storage.read_file(name);
                        let mut bytes = image.read_file(name);
                        let end = (start + grain).min(bytes.len());
                        bytes[*start..end].copy_from_slice(&new[*start..end]);
                        image.write_file(name, &bytes);
                    }
                }
                life.judge(&image, &|| {
                    format!("grain {grain}, piece {torn}, shape {shape}")
                });
                states += 1;
            }
        }
    }
    println!("{states} torn states of the last two batches: none lost, none doubled");
    assert!(states > 3000, "{states}");
}

/// The files of `now` by name, each as the disk held it: as in `synced`, or as a fresh spare.
fn synced_names(now: &FaultyStorage, synced: &FaultyStorage) -> FaultyStorage {
    let image = FaultyStorage::new();
    let held = synced.names().unwrap();
    for name in now
        .names()
        .unwrap()
        .iter()
        .filter(|name| name.ends_with(".segment"))
    {
        let mut bytes = if held.contains(name) {
            synced.read_file(name)
        } else {
            now.read_file(name)
        };
        if !held.contains(name) {
            // The label was synced while the file was a spare; nothing else was.
            bytes[96..].fill(0);
        }
        image.write_file(name, &bytes);
    }
    image
}

/// The pieces in which the page cache differs from the disk, in the order of the journal.
fn differing(now: &FaultyStorage, synced: &FaultyStorage, grain: usize) -> Vec<(String, usize)> {
    let disk = synced_names(now, synced);
    let mut pieces = Vec::new();
    for name in disk.names().unwrap() {
        let (old, new) = (disk.read_file(&name), now.read_file(&name));
        let pairs = old.chunks(grain).zip(new.chunks(grain)).enumerate();
        pieces.extend(
            pairs
                .filter(|(_, (old, new))| old != new)
                .map(|(piece, _)| (name.clone(), piece * grain)),
        );
    }
    pieces
}

fn fingerprint(image: &FaultyStorage) -> u32 {
    image.names().unwrap().iter().fold(0, |sum, name| {
        let sum = crc32c::crc32c_append(sum, name.as_bytes());
        crc32c::crc32c_append(sum, &image.read_file(name))
    })
}

/// Steele, Lea and Flood's generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
