//! Files that are only memory: for tests and benches, where the disk is not the subject.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Access, SegmentFile, Storage};
use crate::mapping::Mapping;

/// A storage that forgets everything with its last handle. Clones share the files.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    files: Arc<Mutex<BTreeMap<String, Arc<Mapping>>>>,
    locked: Arc<AtomicBool>,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// A file's bytes.
    ///
    /// # Panics
    /// Where there is no such file.
    pub fn read_file(&self, name: &str) -> Vec<u8> {
        let mapping = self.files()[name].clone();
        let mut bytes = Vec::new();
        mapping.copy_out(0..mapping.len(), &mut bytes);
        bytes
    }

    /// Replaces a file, or makes one. Whoever has the old one open keeps the old one.
    pub fn write_file(&self, name: &str, bytes: &[u8]) {
        let mapping = Mapping::anonymous(bytes.len()).expect("memory for a test's file");
        // SAFETY: the mapping is writable and known to nobody else yet.
        unsafe { mapping.put(0, bytes) };
        self.files().insert(name.to_owned(), Arc::new(mapping));
    }

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Mapping>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryStorage {
    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("memory:").join(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        Ok(Box::new(Held::take(&self.locked)?))
    }

    fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Acquire)
    }

    fn prepare(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mapping = Arc::new(Mapping::anonymous(bytes as usize)?);
        self.files().insert(name.to_owned(), mapping);
        Ok(())
    }

    fn open(&self, name: &str, _access: Access) -> io::Result<Box<dyn SegmentFile>> {
        let file = self
            .files()
            .get(name)
            .cloned()
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files()
            .remove(name)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }
}

struct MemoryFile(Arc<Mapping>);

impl SegmentFile for MemoryFile {
    fn mapping(&self) -> &Arc<Mapping> {
        &self.0
    }

    fn sync(&self, _range: Range<usize>) -> io::Result<()> {
        Ok(())
    }
}

/// The lock of the storages that live in memory.
pub(super) struct Held(Arc<AtomicBool>);

impl Held {
    pub(super) fn take(locked: &Arc<AtomicBool>) -> io::Result<Held> {
        if locked.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Held(locked.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
