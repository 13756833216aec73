//! Where segments live: the seam between the journal and the disk.
//!
//! The journal asks a [`Storage`] for files by name and a [`SegmentFile`] for its bytes and its
//! sync. Virtual calls happen per segment and per sync; appends and reads go straight to the
//! [`Mapping`]. Three implementations:
//!
//! - [`MappedFiles`]: a directory on a disk.
//! - [`MemoryStorage`]: nothing outlives the process; for tests and benches.
//! - [`FaultyStorage`]: memory that remembers what was synced, fails on demand and yields crash
//!   images.

mod faulty;
mod mapped;
mod memory;

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use faulty::{CrashPlan, FaultyStorage, Operation};
pub use mapped::MappedFiles;
pub use memory::MemoryStorage;

use crate::mapping::Mapping;

/// A set of named files with their names made durable separately from their content.
///
/// A fault-injecting storage may assume what the journal assumes of a disk: a sync that returned
/// success made the range durable; without a sync any subset of the changed 512-byte sectors may
/// survive; renames survive in the order they were made in, all of them up to the last
/// [`Storage::sync_names`].
pub trait Storage: Send + Sync + fmt::Debug {
    /// The name as an operator would type it, for messages.
    fn path_of(&self, name: &str) -> PathBuf;

    /// Every file name, in no particular order.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Takes the exclusive lock; it is released when the value is dropped. `WouldBlock` when
    /// another holds it.
    fn lock(&self) -> io::Result<Box<dyn Send>>;

    /// True while someone holds the lock.
    fn is_locked(&self) -> bool;

    /// Makes `name` a file of `bytes` zero bytes in real blocks, synced. An existing file is reused
    /// and overwritten.
    fn prepare(&self, name: &str, bytes: u64) -> io::Result<()>;

    /// As [`Storage::prepare`], of a file whose records no commit syncs one by one: it need not be kept in
    /// small pages.
    fn prepare_unsynced(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.prepare(name, bytes)
    }

    /// Says that somebody waits for what is done in the background, or does no longer: a storage that
    /// rests in between, so as not to be felt, does not rest meanwhile.
    fn hurry(&self, _on: bool) {}

    /// Brings a file that will be written again into the page cache the way [`Storage::prepare`]
    /// leaves it there.
    fn warm(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    /// Opens an existing file.
    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn SegmentFile>>;

    /// Renames a file, replacing whatever had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every rename and removal so far durable.
    fn sync_names(&self) -> io::Result<()>;

    /// Bytes of new files that there is room for.
    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    /// Fills `id` with bytes that no other journal, and no other use of a file, was given.
    fn draw_id(&self, id: &mut [u8]) -> io::Result<()> {
        io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, id)
    }

    /// The time that labels carry, for people: ns since the Unix epoch.
    fn now_ns(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        since_epoch.unwrap_or_default().as_nanos() as u64
    }
}

/// An open file: its bytes and its sync.
pub trait SegmentFile: Send + Sync {
    /// The file's bytes.
    fn mapping(&self) -> &Arc<Mapping>;

    /// Makes the bytes of the range durable (and perhaps more).
    fn sync(&self, range: Range<usize>) -> io::Result<()>;

    /// Takes the write faults of the whole file, in the background: all its pages become dirty.
    ///
    /// # Safety
    /// Opened for writing, and nobody else writes to it at the moment.
    unsafe fn touch(&self) {
        let mapping = self.mapping();
        // SAFETY: by the caller's promise.
        unsafe { mapping.touch(0..mapping.len()) };
    }

    /// Has the bytes of the range on their way to the disk, in the background, so that a
    /// [`SegmentFile::sync`] finds little to do. Promises nothing.
    fn write_out(&self, _range: Range<usize>) {}

    /// Gives the pages back, in the background, so that unmapping finds little to do. They are read
    /// again where somebody still looks at them.
    fn let_go(&self) {}

    /// As [`SegmentFile::sync`], of a file opened for writing, for bytes that another process wrote: also
    /// those that the kernel takes for written. After a failed sync its pages are clean, are still read
    /// by whoever comes next, and are not on the disk.
    fn sync_anew(&self, range: Range<usize>) -> io::Result<()> {
        // SAFETY: opened for writing, by a recovery that holds the lock.
        unsafe { self.mapping().touch(range.clone()) };
        self.sync(range)
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Appending.
    Write,
    /// Reading front to back, as fast as the disk can.
    Scan,
    /// Reading beside a writer that appends to the same file.
    Follow,
}
