//! Snapshots and power losses: every file call of writing one is logged, and after each of them the disk
//! may hold any part of what was not synced. Whatever it holds, a start finds the old snapshot or the new
//! one, or passes over what is neither and replays the journal; never another state.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::engine::Engine;
use millrace::pipeline::Inline;
use millrace::replay::snapshot_files::SnapshotFiles;
use millrace::replay::snapshot_store::{self, Passage};
use millrace::session::SessionTable;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::rc::Rc;

/// One file call.
#[derive(Clone, Debug)]
enum Call {
    Create(String, usize),
    Write(usize, u64, Vec<u8>),
    Sync(usize),
    Rename(String, String),
    Remove(String),
    SyncNames,
}

/// A directory that writes down what is done to it. Files are numbered.
#[derive(Clone, Default)]
struct Logged(Rc<RefCell<Vec<Call>>>);

struct LoggedFile {
    number: usize,
    at: u64,
    end: u64,
    log: Logged,
}

impl Logged {
    fn log(&self, call: Call) {
        self.0.borrow_mut().push(call);
    }
}

impl SnapshotFiles for Logged {
    type File = LoggedFile;

    fn create(&self, name: &str) -> io::Result<LoggedFile> {
        let number = self.0.borrow().len();
        self.log(Call::Create(name.into(), number));
        Ok(LoggedFile {
            number,
            at: 0,
            end: 0,
            log: self.clone(),
        })
    }

    fn sync(&self, file: LoggedFile) -> io::Result<()> {
        self.log(Call::Sync(file.number));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.log(Call::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.log(Call::Remove(name.into()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.log(Call::SyncNames);
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }
}

impl Write for LoggedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // In pieces, so that there are moments between them.
        let bytes = &bytes[..bytes.len().min(700)];
        self.log
            .log(Call::Write(self.number, self.at, bytes.to_vec()));
        self.at += bytes.len() as u64;
        self.end = self.end.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for LoggedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::End(by) => self.end.strict_add_signed(by),
            SeekFrom::Current(by) => self.at.strict_add_signed(by),
        };
        Ok(self.at)
    }
}

/// A file as the process sees it and as the disk holds it for certain.
#[derive(Clone, Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

/// What a disk may be after so many calls. `keeps_promises` is false for one whose syncs do nothing.
struct Machine {
    files: BTreeMap<usize, Content>,
    /// Names as they were at the last sync of names, and after each change since.
    names: Vec<BTreeMap<String, usize>>,
}

impl Machine {
    fn after(calls: &[Call], keeps_promises: bool) -> Machine {
        let mut files = BTreeMap::<usize, Content>::new();
        let mut names = vec![BTreeMap::new()];
        for call in calls {
            let mut now: BTreeMap<String, usize> = names.last().unwrap().clone();
            match call {
                Call::Create(name, number) => {
                    files.insert(*number, Content::default());
                    now.insert(name.clone(), *number);
                    names.push(now);
                }
                Call::Write(number, at, bytes) => {
                    let cached = &mut files.get_mut(number).unwrap().cached;
                    let (at, end) = (*at as usize, *at as usize + bytes.len());
                    cached.resize(cached.len().max(end), 0);
                    cached[at..end].copy_from_slice(bytes);
                }
                Call::Sync(number) if keeps_promises => {
                    let file = files.get_mut(number).unwrap();
                    file.durable = file.cached.clone();
                }
                Call::Rename(from, to) => {
                    let number = now.remove(from).unwrap();
                    now.insert(to.clone(), number);
                    names.push(now);
                }
                Call::Remove(name) => {
                    now.remove(name);
                    names.push(now);
                }
                Call::SyncNames if keeps_promises => names = vec![now],
                Call::Sync(_) | Call::SyncNames => {}
            }
        }
        Machine { files, names }
    }

    /// One of the states that a power loss may leave: name and content of each file.
    fn crash(&self, random: &mut Random, grain: usize) -> BTreeMap<String, Vec<u8>> {
        let names = &self.names[random.below(self.names.len())];
        let survivors = [0, 10, 50, 90, 100][random.below(5)];
        let of = |file: &Content, random: &mut Random| {
            // The length may have come without the content, and the other way round.
            let length = match random.below(4) {
                0 => file.durable.len(),
                1 => random.below(file.cached.len() + 1).max(file.durable.len()),
                _ => file.cached.len(),
            };
            let mut image = file.durable.clone();
            image.resize(length, 0);
            for (old, new) in image.chunks_mut(grain).zip(file.cached.chunks(grain)) {
                let shared = old.len().min(new.len());
                if random.below(100) < survivors {
                    old[..shared].copy_from_slice(&new[..shared]);
                }
            }
            image
        };
        names
            .iter()
            .map(|(name, number)| (name.clone(), of(&self.files[number], random)))
            .collect()
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

/// A journal, with an old snapshot and the calls by which a new one is written.
struct Scene {
    config: Config,
    old: Option<(u64, [u8; 32], Vec<u8>)>,
    new: (u64, [u8; 32]),
    calls: Vec<Call>,
}

fn scene(dir: &tempfile::TempDir, with_old: bool) -> Scene {
    let config = small(dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    let transfers =
        |from: u128| -> Vec<_> { (from..from + 60).map(|id| transfer(id, id)).collect() };
    run_inline(&mut inline, &transfers(1));
    let engine = inline.close();
    let old = with_old.then(|| {
        let written = snapshot_store::write(&config.dir, &engine, &sessions()).unwrap();
        let bytes = std::fs::read(&written.path).unwrap();
        (written.sequence, written.digest, bytes)
    });
    drop(engine);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &transfers(100));
    let engine: Engine = inline.close();
    let (log, mut passage) = (Logged::default(), Passage::default());
    let written =
        snapshot_store::write_by(&log, &config.dir, &engine, &sessions(), &mut passage).unwrap();
    let calls = log.0.borrow().clone();
    Scene {
        config,
        old,
        new: (written.sequence, written.digest),
        calls,
    }
}

fn sessions() -> SessionTable {
    SessionTable::new(1_024)
}

/// Puts the files of a state beside the journal.
fn lay_out(dir: &Path, scene: &Scene, state: &BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("snapshot-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    if let Some((sequence, _, bytes)) = &scene.old {
        std::fs::write(snapshot_store::path_of(dir, *sequence), bytes).unwrap();
    }
    for (name, bytes) in state {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

/// What starts found.
#[derive(Debug, Default)]
struct Found {
    states: usize,
    new: usize,
    old: usize,
    none: usize,
    passed_over: usize,
    recoveries: usize,
}

fn walk(with_old: bool, keeps_promises: bool) -> Found {
    let dir = tempfile::tempdir().unwrap();
    let scene = scene(&dir, with_old);
    let (new_sequence, new_digest) = scene.new;
    assert!(scene.calls.len() > 10, "{} calls", scene.calls.len());
    let deep = std::env::var_os("MILLRACE_CRASH_STATES").is_some();
    let per_call = if deep { 120 } else { 40 };
    let (mut found, mut known) = (Found::default(), HashSet::new());
    let mut random = Random(1);
    for done in 0..=scene.calls.len() {
        let machine = Machine::after(&scene.calls[..done], keeps_promises);
        for round in 0..per_call {
            let state = machine.crash(&mut random, [4_096, 512, 8][round % 3]);
            if !known.insert(state.clone()) {
                continue;
            }
            found.states += 1;
            lay_out(&scene.config.dir, &scene, &state);
            let what = format!("after {done} of {} calls", scene.calls.len());
            let limits = &scene.config.limits;
            let (loaded, notes) =
                snapshot_store::load_newest(&scene.config.dir, new_sequence, limits, 1_024)
                    .unwrap();
            found.passed_over += usize::from(!notes.is_empty());
            if keeps_promises {
                assert!(
                    notes.is_empty(),
                    "{what}: a name is on a whole one: {notes:?}"
                );
            }
            match loaded {
                Some(loaded) if loaded.sequence == new_sequence => {
                    assert_eq!(loaded.engine.digest(), new_digest, "{what}");
                    found.new += 1;
                }
                Some(loaded) => {
                    let (sequence, digest, _) = scene.old.as_ref().expect("an old one");
                    assert_eq!(loaded.sequence, *sequence, "{what}");
                    assert_eq!(loaded.engine.digest(), *digest, "{what}");
                    found.old += 1;
                }
                None => {
                    assert!(scene.old.is_none(), "{what}: the old one is still there");
                    found.none += 1;
                }
            }
            // Every call's end is written: the last states hold the new one for certain.
            if done == scene.calls.len() && keeps_promises {
                assert!(state.contains_key(&format!("snapshot-{new_sequence:020}.mrs")));
            }
            // A whole start, now and then: it ends where the journal does.
            if round % 10 == 0 {
                let (inline, recovery) = Inline::open(&scene.config).unwrap();
                assert_eq!(recovery.sequence, new_sequence, "{what}");
                assert_eq!(inline.close().digest(), new_digest, "{what}");
                found.recoveries += 1;
            }
        }
    }
    found
}

#[test]
fn a_power_loss_leaves_the_old_snapshot_or_the_new_one() {
    for with_old in [false, true] {
        let found = walk(with_old, true);
        println!("old one there: {with_old}: {found:?}");
        assert!(
            found.states > 100 && found.new > 0 && found.recoveries > 20,
            "{found:?}"
        );
        assert_eq!((found.old > 0, found.none > 0), (with_old, !with_old));
    }
}

#[test]
fn a_disk_that_lies_about_syncs_leaves_nothing_that_is_believed_wrongly() {
    for with_old in [false, true] {
        let found = walk(with_old, false);
        println!("old one there: {with_old}: {found:?}");
        assert!(
            found.passed_over > 10,
            "a half one under a good name: {found:?}"
        );
    }
}
