//! Memory that behaves like a disk having a bad day.
//!
//! Every file is kept three times: as the process sees it (the page cache), as the kernel believes
//! it wrote it, and as the disk holds it. A sync copies pages from the first to the other two; a
//! **failed** sync copies to the second only, as Linux does, so a retry would report success and
//! lose data. [`FaultyStorage::crash`] yields what a machine might find after a power loss: of
//! every unsynced piece either the old or the new bytes, of the renames a prefix.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::memory::{Held, MemoryStorage};
use super::{Access, SegmentFile, Storage};
use crate::format::PAGE_BYTES;
use crate::mapping::Mapping;

/// A storage in memory with a disk behind it, a plan of failures and a bound on space. Clones share
/// everything.
#[derive(Clone, Debug, Default)]
pub struct FaultyStorage {
    inner: Arc<Inner>,
    /// Whether this handle's calls never fail.
    is_exempt: bool,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    locked: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, Arc<File>>,
    durable_names: BTreeMap<String, Arc<File>>,
    /// What happened to the names since they were last durable, as whole directories, oldest first.
    histories: Vec<BTreeMap<String, Arc<File>>>,
    failures: Vec<Failure>,
    calls: BTreeMap<Operation, u64>,
    capacity: Option<u64>,
    /// Where ids come from, when not from the system.
    ids: Option<SplitMix>,
}

#[derive(Debug)]
struct Failure {
    operation: Operation,
    calls: Range<u64>,
    kind: io::ErrorKind,
}

/// A call that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Storage::names`].
    Names,
    /// [`Storage::prepare`].
    Prepare,
    /// [`Storage::open`].
    Open,
    /// [`SegmentFile::sync`].
    Sync,
    /// [`Storage::rename`].
    Rename,
    /// [`Storage::remove`].
    Remove,
    /// [`Storage::sync_names`].
    SyncNames,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 7] = [
        Operation::Names,
        Operation::Prepare,
        Operation::Open,
        Operation::Sync,
        Operation::Rename,
        Operation::Remove,
        Operation::SyncNames,
    ];
}

/// Which crash to have.
#[derive(Clone, Copy, Debug)]
pub struct CrashPlan {
    /// Decides every choice; the same seed gives the same image.
    pub seed: u64,
    /// The piece that survives or not as a whole: 4096 for pages, 512 for sectors, 8 for the
    /// cruellest disk.
    pub grain: usize,
    /// How many of 256 unsynced pieces survive, on average.
    pub survivors: u8,
}

impl FaultyStorage {
    /// An empty storage that never fails.
    pub fn new() -> FaultyStorage {
        FaultyStorage::default()
    }

    /// As [`FaultyStorage::new`], with every id drawn from `seed`, so that the same calls leave the same
    /// bytes; so do the storages that its crashes yield.
    pub fn seeded(seed: u64) -> FaultyStorage {
        let storage = FaultyStorage::default();
        storage.state().ids = Some(SplitMix(seed));
        storage
    }

    /// Makes calls of one operation fail: `calls` counts from the first such call of this storage's
    /// life, which is 0.
    pub fn fail(&self, operation: Operation, calls: Range<u64>, kind: io::ErrorKind) {
        self.state().failures.push(Failure {
            operation,
            calls,
            kind,
        });
    }

    /// A handle on the same files whose calls are not counted and never fail: for whoever looks on.
    pub fn exempt(&self) -> FaultyStorage {
        FaultyStorage {
            inner: self.inner.clone(),
            is_exempt: true,
        }
    }

    /// Whether failures are planned, those that have happened included.
    pub fn has_failures(&self) -> bool {
        !self.state().failures.is_empty()
    }

    /// Forgets all planned failures.
    pub fn heal(&self) {
        self.state().failures.clear();
    }

    /// How often an operation was called so far.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.state().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Bounds the sum of all files' lengths; `None` takes the bound away.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The storage after a power loss at this moment. The original is left as it is; its writers
    /// must be quiet.
    pub fn crash(&self, plan: CrashPlan) -> FaultyStorage {
        let state = self.state();
        let mut random = SplitMix(plan.seed);
        let renames = random.below(state.histories.len() as u64 + 1) as usize;
        let names = match renames {
            0 => &state.durable_names,
            count => &state.histories[count - 1],
        };
        let image = FaultyStorage::new();
        if state.ids.is_some() {
            image.state().ids = Some(SplitMix(plan.seed.rotate_left(32)));
        }
        for (name, file) in names {
            image.write_file(name, &file.crashed(plan, &mut random));
        }
        image
    }

    /// A file's bytes, as the process sees them.
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mapping = self.state().names[name].mapping.clone();
        mapping.copy_out(0..mapping.len(), &mut bytes);
        bytes
    }

    /// Replaces a file (or makes one), durably. Whoever has the old one open keeps the old one.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let file = Arc::new(File::holding(bytes));
        let mut state = self.state();
        state.names.insert(name.to_owned(), file);
        state.settle_names();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and fails it if the plan says so.
    fn call(&self, operation: Operation) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if self.is_exempt {
            return Ok(state);
        }
        let count = state.calls.entry(operation).or_default();
        let this = *count;
        *count += 1;
        let planned =
            |failure: &&Failure| failure.operation == operation && failure.calls.contains(&this);
        match state.failures.iter().find(planned) {
            Some(failure) => Err(failure.kind.into()),
            None => Ok(state),
        }
    }
}

impl State {
    fn settle_names(&mut self) {
        self.durable_names = self.names.clone();
        self.histories.clear();
    }

    fn renamed(&mut self) {
        self.histories.push(self.names.clone());
    }
}

impl Storage for FaultyStorage {
    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("faulty:").join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.call(Operation::Names)?.names.keys().cloned().collect())
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(Held::take(&self.inner.locked)?))
    }

    fn is_locked(&self) -> bool {
        self.inner.locked.load(Ordering::Acquire)
    }

    fn prepare(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut state = self.call(Operation::Prepare)?;
        let others = state.names.iter().filter(|(other, _)| *other != name);
        let used: u64 = others.map(|(_, file)| file.length()).sum();
        if state
            .capacity
            .is_some_and(|capacity| used + bytes > capacity)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.names.insert(
            name.to_owned(),
            Arc::new(File::holding(&vec![0; bytes as usize])),
        );
        state.renamed();
        Ok(())
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Box<dyn SegmentFile>> {
        let state = self.call(Operation::Open)?;
        let file = state
            .names
            .get(name)
            .cloned()
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Handle {
            file,
            storage: self.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.call(Operation::Rename)?;
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        state.renamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.call(Operation::Remove)?;
        state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.renamed();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.call(Operation::SyncNames)?.settle_names();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        let used: u64 = state.names.values().map(|file| file.length()).sum();
        Ok(state
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(used)))
    }

    fn draw_id(&self, id: &mut [u8]) -> io::Result<()> {
        match &mut self.state().ids {
            Some(ids) => {
                for byte in id {
                    *byte = ids.below(256) as u8;
                }
                Ok(())
            }
            None => MemoryStorage::new().draw_id(id),
        }
    }

    fn now_ns(&self) -> u64 {
        match self.state().ids {
            Some(_) => 0,
            None => MemoryStorage::new().now_ns(),
        }
    }
}

#[derive(Debug)]
struct File {
    mapping: Arc<Mapping>,
    disk: Mutex<Disk>,
}

#[derive(Debug)]
struct Disk {
    /// What the kernel takes for written: pages that equal this are clean and are not written
    /// again.
    believed: Vec<u8>,
    held: Vec<u8>,
}

impl File {
    fn holding(bytes: &[u8]) -> File {
        let mapping = Mapping::anonymous(bytes.len()).expect("memory for a test's file");
        // SAFETY: the mapping is writable and known to nobody else yet.
        unsafe { mapping.put(0, bytes) };
        let disk = Disk {
            believed: bytes.to_vec(),
            held: bytes.to_vec(),
        };
        File {
            mapping: Arc::new(mapping),
            disk: Mutex::new(disk),
        }
    }

    fn length(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Writes back the dirty pages of a range; `reaches_disk` is false for a sync that fails.
    fn write_back(&self, range: Range<usize>, reaches_disk: bool) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let mut page = Vec::new();
        for start in (range.start / PAGE_BYTES * PAGE_BYTES..range.end).step_by(PAGE_BYTES) {
            let place = start..(start + PAGE_BYTES).min(self.mapping.len());
            self.mapping.copy_out(place.clone(), &mut page);
            if disk.believed[place.clone()] != page[..] {
                disk.believed[place.clone()].copy_from_slice(&page);
                if reaches_disk {
                    disk.held[place].copy_from_slice(&page);
                }
            }
        }
    }

    /// Every page of the range counts as dirty.
    fn doubt(&self, range: Range<usize>) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let Disk { believed, held } = &mut *disk;
        believed[range.clone()].copy_from_slice(&held[range]);
    }

    fn crashed(&self, plan: CrashPlan, random: &mut SplitMix) -> Vec<u8> {
        let mut image = self
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .held
            .clone();
        let mut cache = Vec::new();
        self.mapping.copy_out(0..self.mapping.len(), &mut cache);
        for (old, new) in image.chunks_mut(plan.grain).zip(cache.chunks(plan.grain)) {
            if old != new && random.below(256) < u64::from(plan.survivors) {
                old.copy_from_slice(new);
            }
        }
        image
    }
}

struct Handle {
    file: Arc<File>,
    storage: FaultyStorage,
}

impl SegmentFile for Handle {
    fn mapping(&self) -> &Arc<Mapping> {
        &self.file.mapping
    }

    fn sync(&self, range: Range<usize>) -> io::Result<()> {
        let verdict = self.storage.call(Operation::Sync).map(drop);
        self.file.write_back(range, verdict.is_ok());
        verdict
    }

    fn sync_anew(&self, range: Range<usize>) -> io::Result<()> {
        self.file.doubt(range.clone());
        self.sync(range)
    }
}

/// Steele, Lea and Flood's generator: small, seeded, good enough to choose pages.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
