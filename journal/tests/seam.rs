//! One story on every storage: what a journal does through the seam is the same on mapped files, in
//! memory and on the store that can fail, word for word.

mod common;

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{payload, small};
use millrace_journal::storage::{
    Access, CrashPlan, FaultyStorage, MappedFiles, MemoryStorage, SegmentFile, Storage,
};
use millrace_journal::{
    AppendError, Defect, EndState, OpenError, ReadError, Reader, Salvage, Salvaged, Writer,
    verify_in,
};

/// A storage whose files a test may look at and change behind the journal's back.
trait House: Storage {
    fn file(&self, name: &str) -> Vec<u8>;
    fn replace(&self, name: &str, bytes: &[u8]);
}

impl House for MappedFiles {
    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path_of(name)).unwrap()
    }
    fn replace(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path_of(name), bytes).unwrap();
    }
}

impl House for MemoryStorage {
    fn file(&self, name: &str) -> Vec<u8> {
        self.read_file(name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) {
        self.write_file(name, bytes);
    }
}

impl House for FaultyStorage {
    fn file(&self, name: &str) -> Vec<u8> {
        self.read_file(name)
    }
    fn replace(&self, name: &str, bytes: &[u8]) {
        self.write_file(name, bytes);
    }
}

/// Any storage, whose disk can be said to be full.
#[derive(Debug)]
struct Disk<S> {
    storage: S,
    is_full: AtomicBool,
}

impl<S: Storage> Storage for Disk<S> {
    fn path_of(&self, name: &str) -> PathBuf {
        self.storage.path_of(name)
    }
    fn names(&self) -> io::Result<Vec<String>> {
        self.storage.names()
    }
    fn lock(&self) -> io::Result<Box<dyn Send>> {
        self.storage.lock()
    }
    fn is_locked(&self) -> bool {
        self.storage.is_locked()
    }
    fn prepare(&self, name: &str, bytes: u64) -> io::Result<()> {
        if self.is_full.load(Ordering::Acquire) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.storage.prepare(name, bytes)
    }
    fn warm(&self, name: &str) -> io::Result<()> {
        self.storage.warm(name)
    }
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn SegmentFile>> {
        self.storage.open(name, access)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.storage.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.storage.remove(name)
    }
    fn sync_names(&self) -> io::Result<()> {
        self.storage.sync_names()
    }
}

/// What happened, in words that name no place: to be the same everywhere.
struct Story<S: House + 'static> {
    disk: Arc<Disk<S>>,
    said: String,
}

fn tell<S: House + 'static>(storage: S) -> String {
    let mut story = Story {
        disk: Arc::new(Disk {
            storage,
            is_full: AtomicBool::new(false),
        }),
        said: String::new(),
    };
    story.append_commit_roll();
    story.crash_and_restart();
    story.fill_the_disk();
    story.verify_and_read();
    story.damage_and_salvage();
    story.tear_the_tail();
    story.said
}

impl<S: House + 'static> Story<S> {
    fn say(&mut self, what: &str) {
        let _ = writeln!(self.said, "{what}");
    }

    fn open(&mut self) -> Result<Writer, OpenError> {
        let (writer, recovered) = Writer::open_in(self.disk.clone(), small())?;
        self.say(&format!(
            "open: created {}, {} segments, sequence {}, {} bytes, cut {:?}",
            recovered.created,
            recovered.segments,
            recovered.last_sequence,
            recovered.bytes,
            recovered
                .cut
                .map(|cut| (cut.offset, cut.sequence, cut.records))
        ));
        Ok(writer)
    }

    fn append(&mut self, writer: &mut Writer, from: u64, to: u64) {
        for sequence in from..=to {
            while let Err(error) = writer.append(&payload(sequence)) {
                // The next segment is being prepared.
                assert!(matches!(error, AppendError::NoSpace { .. }), "{error:?}");
                std::thread::yield_now();
            }
            if sequence % 10 == 0 {
                let commit = writer.commit().unwrap();
                self.say(&format!(
                    "commit: {} records, {} bytes, durable {}",
                    commit.records, commit.bytes, commit.durable_sequence
                ));
            }
        }
    }

    /// Every record from the beginning, each as it was written.
    fn read(&mut self) {
        let mut reader = Reader::open_in(self.disk.clone()).unwrap();
        let mut count = 0;
        while let Some(record) = reader.next().unwrap() {
            count += 1;
            assert_eq!(
                (record.sequence, record.payload),
                (count, &payload(count)[..])
            );
        }
        let end = match reader.end_state().unwrap() {
            EndState::Clean => "clean",
            EndState::NotReached => "not reached",
            EndState::Unfinished { .. } => "unfinished",
        };
        self.say(&format!("read: {count} records, then {end}"));
        reader.seek(count / 2).unwrap();
        let found = reader.next().unwrap().unwrap().sequence;
        self.say(&format!("seek: {found}"));
    }

    fn append_commit_roll(&mut self) {
        let mut writer = self.open().unwrap();
        self.append(&mut writer, 1, 100);
        let second = Writer::open_in(self.disk.clone(), small()).err().unwrap();
        assert!(matches!(second, OpenError::DirectoryInUse { .. }));
        assert!(self.disk.is_locked());
        self.say("a second writer is refused");
        self.read();
        self.append(&mut writer, 101, 150);
        writer.close().unwrap();
        assert!(!self.disk.is_locked());
        let names = self.disk.names().unwrap();
        let segments = names.iter().filter(|name| name.ends_with(".segment"));
        self.say(&format!("closed with {} segments", segments.count()));
    }

    /// The process ends in the middle: what was appended is in the page cache.
    fn crash_and_restart(&mut self) {
        let mut writer = self.open().unwrap();
        self.append(&mut writer, 151, 163);
        drop(writer);
        let mut writer = self.open().unwrap();
        self.append(&mut writer, 164, 170);
        writer.close().unwrap();
        self.read();
    }

    fn fill_the_disk(&mut self) {
        let mut writer = self.open().unwrap();
        // What has been prepared already is used up, and then nothing more comes.
        wait_for_the_spare(&writer);
        self.disk.is_full.store(true, Ordering::Release);
        let mut next = 171;
        let refused = loop {
            match writer.append(&payload(next)) {
                Ok(_) => next += 1,
                Err(error) => break error,
            }
        };
        assert!(
            matches!(refused, AppendError::NoSpace { .. }),
            "{refused:?}"
        );
        let commit = writer.commit().unwrap();
        assert_eq!(commit.durable_sequence, next - 1);
        self.say("full: what was appended is committed, the next is refused");
        self.disk.is_full.store(false, Ordering::Release);
        let upto = next.next_multiple_of(10);
        for sequence in next..=upto {
            while writer.append(&payload(sequence)).is_err() {
                std::thread::yield_now();
            }
        }
        writer.commit().unwrap();
        self.say("there is room: it goes on by itself");
        writer.close().unwrap();
        self.read();
    }

    fn verify_and_read(&mut self) {
        let verified = verify_in(&*self.disk, &mut |_, _| ()).unwrap();
        self.say(&format!(
            "verify: {} records in {} segments, {} bytes, live {}",
            verified.records, verified.segments, verified.bytes, verified.live
        ));
        let mut writer = self.open().unwrap();
        assert_eq!(writer.chain_head(), verified.chain_head);
        self.say("the fingerprint is the writer's");
        writer.close().unwrap();
    }

    /// A byte in the first segment: refused by name, readable around it, and sound when it is put right.
    fn damage_and_salvage(&mut self) {
        let name = "0000000000000001.segment";
        let whole = self.disk.storage.file(name);
        let mut broken = whole.clone();
        broken[4_096 + 700] ^= 4;
        self.disk.storage.replace(name, &broken);
        let place = |defect: &Defect| match defect {
            Defect::Damaged(damage) => format!("byte {}", damage.offset),
            other => panic!("{other:?}"),
        };
        let refused = Writer::open_in(self.disk.clone(), small()).err().unwrap();
        let OpenError::Defect(defect) = refused else {
            panic!("{refused:?}")
        };
        self.say(&format!("damaged: refused at {}", place(&defect)));
        let refused = verify_in(&*self.disk, &mut |_, _| ()).err().unwrap();
        let ReadError::Defect(defect) = refused else {
            panic!("{refused:?}")
        };
        self.say(&format!("damaged: verify says {}", place(&defect)));
        let mut salvage = Salvage::open_in(self.disk.clone(), 1).unwrap();
        let (mut records, mut lost) = (0, 0);
        while let Some(salvaged) = salvage.next().unwrap() {
            match salvaged {
                Salvaged::Record(record) => {
                    assert_eq!(record.payload, payload(record.sequence));
                    records += 1;
                }
                Salvaged::Lost(_) => lost += 1,
            }
        }
        self.say(&format!("salvage: {records} records, {lost} place lost"));
        self.disk.storage.replace(name, &whole);
        self.verify_and_read();
    }

    /// The last record, which nothing proves to be durable, is torn: it is cut, and the rest goes on.
    fn tear_the_tail(&mut self) {
        let mut writer = self.open().unwrap();
        let next = writer.next_sequence();
        writer.append(&payload(next)).unwrap();
        let path = writer.segment_path().to_owned();
        drop(writer);
        let name = path.file_name().unwrap().to_str().unwrap();
        let mut bytes = self.disk.storage.file(name);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end] ^= 1;
        self.disk.storage.replace(name, &bytes);
        let mut writer = self.open().unwrap();
        assert_eq!(writer.next_sequence(), next);
        self.say("the tail is cut");
        writer.append(&payload(next)).unwrap();
        writer.close().unwrap();
        self.read();
        verify_in(&*self.disk, &mut |_, _| ()).unwrap();
    }
}

fn wait_for_the_spare(writer: &Writer) {
    while writer.space_left() < 4_096 {
        std::thread::yield_now();
    }
}

#[test]
fn the_same_story_on_mapped_files_in_memory_and_on_a_store_that_can_fail() {
    let dir = tempfile::tempdir().unwrap();
    let mapped = tell(MappedFiles::create(&dir.path().join("journal")).unwrap());
    let memory = tell(MemoryStorage::new());
    let faulty = tell(FaultyStorage::new());
    println!("{mapped}");
    assert_eq!(mapped, memory);
    assert_eq!(mapped, faulty);
    assert!(mapped.lines().count() > 30, "{mapped}");
}

/// What only a store that loses power can tell: the story's end is on its disk. A process ends in it right
/// after a roll, before the next commit, and another one goes on: once that one has committed, the pad that
/// closed the segment before must be on the disk, too. (Recovery synced that segment only where a record
/// of it was not durable; after a power loss the journal was refused for the gap.)
#[test]
fn what_the_story_leaves_survives_a_power_loss() {
    let storage = FaultyStorage::new();
    tell(storage.clone());
    for seed in 0..20 {
        let crashed = storage.crash(CrashPlan {
            seed,
            grain: 512,
            survivors: 128,
        });
        let verified = verify_in(&crashed, &mut |_, _| ()).unwrap();
        let here = verify_in(&storage, &mut |_, _| ()).unwrap();
        assert_eq!(verified.chain_head, here.chain_head);
    }
}
