//! The file calls that a snapshot is written by, as a seam: a node has a directory, a test owns the disk
//! and yields what a power loss may leave of it.

use crate::background::Passing;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::num::NonZeroU64;
use std::path::Path;

/// A directory of snapshots. What is assumed of its disk: without a sync any part of what was written
/// may be lost, also of a file's length; of the changes to names a prefix survives, all of them up to the
/// last [`SnapshotFiles::sync_names`].
pub trait SnapshotFiles {
    /// A file that is being written.
    type File: Write + Seek;

    /// Makes an empty file, or empties one that is there.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Makes content and length of a file, which is finished, durable.
    fn sync(&self, file: Self::File) -> io::Result<()>;

    /// Renames a file, replacing whatever had the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes every name so far durable.
    fn sync_names(&self) -> io::Result<()>;

    /// Every file name, in no particular order.
    fn names(&self) -> io::Result<Vec<String>>;
}

/// A directory on a disk.
pub struct Directory<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// Bytes a second at most; `None`: as fast as it goes.
    pub per_second: Option<NonZeroU64>,
}

impl SnapshotFiles for Directory<'_> {
    type File = Passing;

    fn create(&self, name: &str) -> io::Result<Passing> {
        let file = File::create(self.dir.join(name))?;
        Ok(Passing::new(file, 0, self.per_second))
    }

    fn sync(&self, file: Passing) -> io::Result<()> {
        file.finish()?.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(self.dir)?.sync_all()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(self.dir)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}
