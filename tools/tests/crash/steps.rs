//! A kill at every instruction.
//!
//! A segment is a shared mapping, so what a kill at some instruction leaves is what the page cache holds
//! at that instruction. One victim is enough, then: it is stepped from mark to mark, its files are looked
//! at after every instruction, and whenever they or the acknowledgements have changed, recovery is run
//! on a copy. That is a kill after each of the instructions, in one pass.

use crate::judge::{Files, config, digests, directory, judge, judge_state, no_forks};
use crate::victim::spawn;
use millrace::config::Durability;
use millrace_journal::Mapping;
use millrace_journal::storage::{Access, FaultyStorage, MappedFiles, SegmentFile, Storage};
use millrace_tools::tracer::Event;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The files of a journal as they are, looked at again and again.
struct Lens {
    storage: MappedFiles,
    open: BTreeMap<String, Box<dyn SegmentFile>>,
    /// Bytes of each segment that are looked at.
    bytes: usize,
}

/// Each segment's beginning.
type Image = Vec<(String, Vec<u8>)>;

impl Lens {
    fn on(dir: &Path, bytes: usize) -> Lens {
        Lens {
            storage: MappedFiles::at(dir),
            open: BTreeMap::new(),
            bytes,
        }
    }

    /// Looks; true when something is not as in `image`, which is brought up to date.
    fn changed(&mut self, image: &mut Image) -> bool {
        let names = self.storage.names().expect("a directory");
        let mut segments: Vec<String> = names
            .into_iter()
            .filter(|name| name.ends_with(".segment"))
            .collect();
        segments.sort();
        let mut changed = !segments.iter().eq(image.iter().map(|(name, _)| name));
        if changed {
            image.retain(|(name, _)| segments.contains(name));
            image.extend(
                segments
                    .iter()
                    .skip(image.len())
                    .map(|name| (name.clone(), Vec::new())),
            );
        }
        for (name, held) in image {
            let file = self
                .open
                .entry(name.clone())
                .or_insert_with(|| self.storage.open(name, Access::Follow).expect("a segment"));
            let map: &Mapping = file.mapping();
            let upto = self.bytes.min(map.len());
            let is_new = held.len() != upto;
            let same = !is_new
                && held
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .enumerate()
                    .all(|(word, bytes)| map.load(word * 8) == u64::from_le_bytes(*bytes));
            if !same {
                map.copy_out(0..upto, held);
                changed = true;
            }
        }
        changed
    }
}

/// What stepping through a victim showed.
#[derive(Default)]
struct Walk {
    instructions: u64,
    images: usize,
    first: u64,
    last: u64,
}

/// Steps through a victim and hands every image, with what was acknowledged by then, to `judge`, which
/// says how many records it holds.
fn walk(
    dir: &Path,
    role: &str,
    bytes: usize,
    mut judge: impl FnMut(&Image, u64, u64) -> u64,
) -> Walk {
    let mut victim = spawn(dir, role);
    let (mut lens, mut image) = (Lens::on(dir, bytes), Image::new());
    let mut walk = Walk::default();
    let mut known = HashMap::new();
    let mut holds = 0;
    loop {
        if lens.changed(&mut image) {
            let acknowledged = victim.acknowledged();
            let quiet = no_forks();
            holds = *known
                .entry(image.clone())
                .or_insert_with(|| judge(&image, acknowledged, walk.instructions));
            drop(quiet);
            if walk.images == 0 {
                walk.first = holds;
            }
            assert!(
                holds >= walk.last,
                "what was there once is there after the next instruction"
            );
            (walk.images, walk.last) = (known.len(), holds);
        }
        let acknowledged = victim.acknowledged();
        assert!(
            acknowledged <= holds,
            "instruction {}: {acknowledged} > {holds}",
            walk.instructions
        );
        match victim.step() {
            Event::Step => walk.instructions += 1,
            Event::Mark => return walk,
            other => panic!("{other:?}"),
        }
    }
}

fn append(disk: bool) {
    let started = Instant::now();
    let dir = directory();
    // The segment has room for a few records more: the batches meet its end.
    let (before, after) = (27, 6);
    let role = format!("append {before} {after} {} 0", u8::from(disk));
    let walk = walk(
        dir.path(),
        &role,
        8192,
        |image, acknowledged, instruction| {
            let storage = FaultyStorage::new();
            for (name, bytes) in image {
                storage.write_file(name, bytes);
            }
            judge(
                &storage,
                acknowledged,
                before + after,
                &format!("instruction {instruction}"),
            )
        },
    );
    println!(
        "append and commit, {}: {} instructions, {} images of the files, records {} to {}, {:.1} s",
        if disk { "disk" } else { "process" },
        walk.instructions,
        walk.images,
        walk.first,
        walk.last,
        started.elapsed().as_secs_f64()
    );
    assert_eq!((walk.first, walk.last), (before, before + after));
    let files = Files(Arc::new(MappedFiles::at(dir.path())));
    let segments = files
        .names()
        .unwrap()
        .iter()
        .filter(|name| name.ends_with(".segment"))
        .count();
    assert_eq!(segments, 2, "a roll is among the instructions");
}

#[test]
fn a_kill_at_every_instruction_of_append_and_commit_at_process() {
    append(false);
}

#[test]
fn a_kill_at_every_instruction_of_append_and_commit_at_disk() {
    append(true);
}

/// The whole pipeline: door, ring, journal, engine, replies. What is judged is the state.
#[test]
fn a_kill_at_every_instruction_of_a_pipeline() {
    let started = Instant::now();
    let (dir, copy) = (directory(), directory());
    let digests = digests();
    // Every command behind the mark costs seconds in a debug build.
    let all = std::env::var_os("MILLRACE_CRASH_ALL").is_some();
    let before = if all { 4 } else { 8 };
    let walk = walk(
        dir.path(),
        &format!("pipeline {before}"),
        16384,
        |image, acknowledged, instruction| {
            for (name, bytes) in image {
                let mut bytes = bytes.clone();
                bytes.resize(
                    config(dir.path(), Durability::Disk).journal.segment_bytes as usize,
                    0,
                );
                std::fs::write(copy.path().join(name), bytes).unwrap();
            }
            judge_state(
                copy.path(),
                acknowledged,
                &digests,
                &format!("instruction {instruction}"),
            )
        },
    );
    println!(
        "pipeline: {} instructions, {} images of the files, commands {} to {}, {:.1} s",
        walk.instructions,
        walk.images,
        walk.first,
        walk.last,
        started.elapsed().as_secs_f64()
    );
    assert_eq!((walk.first, walk.last), (before, digests.len() as u64 - 1));
}
