//! The node's disk: the journal on storage that fails and forgets, and the snapshots beside it.
//!
//! A follower writes snapshots from the journal while the node runs, even in the middle of one of its
//! syncs ([`Disk::at_next_sync`]); what it reads is what the page cache holds. A snapshot that is
//! finished was synced before it got its name, so it survives a power loss, the tail it was made from
//! perhaps not.

use super::sabotage::Sabotage;
use millrace::engine::{Engine, Limits};
use millrace::replay::recovery::Start;
use millrace::replay::{Nobody, follow_from_start, snapshot_store};
use millrace::session::SessionTable;
use millrace_journal::storage::{
    Access, CrashPlan, FaultyStorage, Operation, SegmentFile, Storage,
};
use millrace_journal::{Mapping, Reader};
use std::fmt;
use std::io::{self, Cursor};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk with a journal and its snapshots. Clones share it.
#[derive(Clone)]
pub struct Disk {
    journal: FaultyStorage,
    sabotage: Option<Sabotage>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// Oldest first.
    snapshots: Vec<Snapshot>,
    at_next_sync: Option<Errand>,
}

/// What is to be done while a sync is under way.
type Errand = Box<dyn FnOnce(&Disk) + Send>;

/// A snapshot's file.
#[derive(Clone)]
pub struct Snapshot {
    pub sequence: u64,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Disk {
    /// An empty disk; everything random on it comes from `seed`.
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Disk {
        Disk {
            journal: FaultyStorage::seeded(seed),
            sabotage,
            shared: Arc::default(),
        }
    }

    /// The disk as a power loss now leaves it.
    pub fn crash(&self, plan: CrashPlan) -> Disk {
        let snapshots = self.shared().snapshots.clone();
        Disk {
            journal: self.journal.crash(plan),
            sabotage: self.sabotage,
            shared: Arc::new(Mutex::new(Shared {
                snapshots,
                at_next_sync: None,
            })),
        }
    }

    /// The journal's storage, to plan its failures.
    pub fn faults(&self) -> &FaultyStorage {
        &self.journal
    }

    /// The same disk for whoever looks on: its calls do not fail.
    pub fn exempt(&self) -> Disk {
        Disk {
            journal: self.journal.exempt(),
            ..self.clone()
        }
    }

    /// Does something in the middle of the next sync.
    pub fn at_next_sync(&self, errand: impl FnOnce(&Disk) + Send + 'static) {
        self.shared().at_next_sync = Some(Box::new(errand));
    }

    /// Forgets what was to be done in the middle of a sync.
    pub fn call_off(&self) {
        self.shared().at_next_sync = None;
    }

    /// The snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.shared().snapshots.clone()
    }

    /// Flips a bit of the newest snapshot. False where there is none.
    pub fn damage_snapshot(&self, at: u64) -> bool {
        let mut shared = self.shared();
        let Some(snapshot) = shared.snapshots.last_mut() else {
            return false;
        };
        let length = snapshot.bytes.len() as u64;
        snapshot.bytes[(at % length) as usize] ^= 1 << (at % 8);
        true
    }

    /// The command of the newest snapshot whose header is good, 0 where there is none.
    pub fn newest_snapshot(&self) -> u64 {
        let snapshots = self.snapshots();
        let good = snapshots.iter().rev().find_map(|snapshot| {
            snapshot_store::sequence_in(&mut Cursor::new(&snapshot.bytes)).ok()
        });
        good.unwrap_or(0)
    }

    /// Sets aside snapshots of commands beyond `last_sequence`, as a recovery does
    /// (`snapshot_store::set_aside_ahead`). Returns how many.
    pub fn set_aside_ahead(&self, last_sequence: u64) -> u64 {
        let snapshots = &mut self.shared().snapshots;
        let before = snapshots.len();
        snapshots.retain(|snapshot| snapshot.sequence <= last_sequence);
        (before - snapshots.len()) as u64
    }

    /// What a node begins its replay from: the newest good snapshot up to `last_sequence`, or nothing.
    pub fn start(
        &self,
        last_sequence: u64,
        limits: &Limits,
        session_capacity: u32,
        journal_id: [u8; 16],
    ) -> Start {
        let mut notes = Vec::new();
        for snapshot in self.snapshots().iter().rev() {
            let path = self.path_of(&format!("snapshot-{}", snapshot.sequence));
            if snapshot.sequence > last_sequence {
                notes.push(format!("{} is ahead of the journal", path.display()));
                continue;
            }
            let mut bytes = Cursor::new(&snapshot.bytes);
            let id = || Ok(journal_id);
            match snapshot_store::read_from(&mut bytes, &path, id, limits, session_capacity) {
                Ok(loaded) => {
                    return Start {
                        engine: loaded.engine,
                        sessions: loaded.sessions,
                        snapshot: Some(loaded.sequence),
                        notes,
                    };
                }
                Err(error) => notes.push(format!("{} is not used: {error}", path.display())),
            }
        }
        Start {
            engine: Engine::new(limits),
            sessions: SessionTable::new(session_capacity),
            snapshot: None,
            notes,
        }
    }

    /// Writes a snapshot of what the journal holds now, as `millrace snapshot` does beside a node.
    /// Returns its command; `None` where there is nothing new.
    pub fn write_snapshot(
        &self,
        limits: &Limits,
        session_capacity: u32,
    ) -> Result<Option<u64>, String> {
        let mut reader =
            Reader::open_in(Arc::new(self.clone())).map_err(|error| error.to_string())?;
        let journal_id = reader.journal_id();
        let Start {
            mut engine,
            mut sessions,
            snapshot,
            ..
        } = self.start(reader.last_sequence(), limits, session_capacity, journal_id);
        let to = Some(reader.last_sequence());
        follow_from_start(&mut reader, to, &mut engine, &mut sessions, &mut Nobody)
            .map_err(|error| error.to_string())?;
        let sequence = engine.sequence();
        if sequence == 0 || snapshot == Some(sequence) {
            return Ok(None);
        }
        engine.audit()?;
        if self.sabotage == Some(Sabotage::ForgetSessions) {
            sessions = SessionTable::new(session_capacity);
        }
        let mut bytes = Cursor::new(Vec::new());
        snapshot_store::write_to(&mut bytes, journal_id, &engine, &sessions)
            .map_err(|error| error.to_string())?;
        let bytes = bytes.into_inner();
        let mut shared = self.shared();
        shared.snapshots.retain(|old| old.sequence != sequence);
        shared.snapshots.push(Snapshot { sequence, bytes });
        shared.snapshots.sort_by_key(|snapshot| snapshot.sequence);
        Ok(Some(sequence))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Disk {
    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.journal.names()
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        self.journal.lock()
    }

    fn is_locked(&self) -> bool {
        self.journal.is_locked()
    }

    fn prepare(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.journal.prepare(name, bytes)
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(File {
            file: self.journal.open(name, access)?,
            disk: self.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.journal.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.journal.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        if self.sabotage == Some(Sabotage::ForgetNames) && self.journal.calls(Operation::Sync) > 8 {
            return Ok(());
        }
        self.journal.sync_names()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.journal.free_bytes()
    }

    fn draw_id(&self, id: &mut [u8]) -> io::Result<()> {
        self.journal.draw_id(id)
    }

    fn now_ns(&self) -> u64 {
        self.journal.now_ns()
    }
}

struct File {
    file: Box<dyn SegmentFile>,
    disk: Disk,
}

impl SegmentFile for File {
    fn sync_anew(&self, range: Range<usize>) -> io::Result<()> {
        self.file.sync_anew(range)
    }

    fn mapping(&self) -> &Arc<Mapping> {
        self.file.mapping()
    }

    fn sync(&self, range: Range<usize>) -> io::Result<()> {
        let errand = self.disk.shared().at_next_sync.take();
        if let Some(errand) = errand {
            errand(&self.disk);
        }
        // The first syncs make the journal.
        let has_begun = self.disk.journal.calls(Operation::Sync) > 8;
        match self.disk.sabotage {
            Some(Sabotage::AcknowledgeBeforeSync) if has_begun => Ok(()),
            Some(Sabotage::SyncFirstPage) if has_begun => {
                let page = 4_096;
                let end = range.end.min(range.start / page * page + page);
                self.file.sync(range.start..end)
            }
            _ => self.file.sync(range),
        }
    }
}
