//! Files in a directory, mapped into memory.
//!
//! Four measured facts shape this file (figures in docs/journal.md):
//!
//! - A sparse or merely allocated file faults on every page, and on a full disk the fault is a
//!   SIGBUS. So a segment is written with real zeros and synced before anyone maps it.
//! - Zeros written in large pieces sit in the page cache as 2 MiB folios, and then every sync of a
//!   few records writes 2 MiB. So the zeros go out in 4 KiB writes, and the map is advised
//!   `MADV_RANDOM`. A restart must not undo that: reading the tail segment back from a cold disk
//!   would build large folios too, so [`Storage::warm`] reads it with read-ahead switched off. Where no
//!   commit syncs, large folios are welcome: [`Storage::prepare_unsynced`].
//! - A thread that zeroes, touches or unmaps megabytes in one go keeps a core for milliseconds, and with
//!   two cores it is the node's or its client's. So all of that goes in pieces of [`PIECE_BYTES`], with a
//!   rest after each: whoever was pushed aside goes on after 0.1 ms instead of 4. No rests while the
//!   writer waits for the next segment ([`Storage::hurry`]).
//! - Removing a 64 MiB file costs as much as filling one, so leftover files are overwritten, not
//!   removed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memmap2::Advice;
use rustix::fs::{FallocateFlags, fadvise, fallocate, statvfs};

use super::{Access, SegmentFile, Storage};
use crate::format::{LOCK_NAME, PAGE_BYTES, segment_index};
use crate::lost_pages::Note;
use crate::mapping::Mapping;

/// Zeros are synced 4 MiB at a time. One sync of a whole segment keeps the disk busy for so long that
/// a commit beside it took 30 ms at worst instead of 4 to 7; with 1 MiB a segment takes twice as
/// long to prepare.
const BYTES_PER_SYNC: u64 = 4 << 20;

/// How a file lies in the page cache, and how much of it is zeroed at once: 50 to 100 us of work.
#[derive(Clone, Copy)]
enum Pages {
    /// Pages of 4 KiB: a sync of a few records writes no more.
    Small,
    /// As large as pieces are: zeroed, touched and written out in a third of the time.
    Large,
}

impl Pages {
    fn piece_bytes(self) -> usize {
        match self {
            Pages::Small => 64 << 10,
            Pages::Large => PIECE_BYTES,
        }
    }

    fn write_bytes(self) -> usize {
        match self {
            Pages::Small => PAGE_BYTES,
            Pages::Large => PIECE_BYTES,
        }
    }
}

/// What is done between two rests in the background.
const PIECE_BYTES: usize = 128 << 10;

static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// Lets others have the core between two pieces.
#[derive(Clone, Debug, Default)]
struct Rests {
    hurry: Arc<AtomicBool>,
}

impl Rests {
    fn rest(&self) {
        if !self.hurry.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// `range` in pieces.
fn pieces(range: Range<usize>, bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(bytes)
        .map(move |start| start..end.min(start + bytes))
}

/// A directory on a disk.
#[derive(Clone, Debug)]
pub struct MappedFiles {
    dir: PathBuf,
    /// Where segments may lie that are not in the directory any more.
    archive: Option<PathBuf>,
    rests: Rests,
}

impl MappedFiles {
    /// The directory as it is; nothing is touched.
    pub fn at(dir: &Path) -> MappedFiles {
        MappedFiles {
            dir: dir.to_owned(),
            archive: None,
            rests: Rests::default(),
        }
    }

    /// The same, where segments that are not in the directory may be found in `archive`: for readers.
    #[must_use]
    pub fn with_archive(self, archive: Option<&Path>) -> MappedFiles {
        MappedFiles {
            archive: archive.map(Path::to_owned),
            ..self
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where a file is that is to be read.
    fn place_of(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        match &self.archive {
            Some(archive) if segment_index(name).is_some() && !path.exists() => archive.join(name),
            _ => path,
        }
    }

    /// The directory, made if it is not there yet (its parent must be).
    pub fn create(dir: &Path) -> io::Result<MappedFiles> {
        match fs::create_dir(dir) {
            Ok(()) => sync_dir(
                dir.parent()
                    .filter(|parent| !parent.as_os_str().is_empty())
                    .unwrap_or(Path::new(".")),
            )?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(MappedFiles::at(dir))
    }

    fn prepare_in(&self, name: &str, bytes: u64, pages: Pages) -> io::Result<()> {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let filled = fill(&file, bytes, pages, &self.rests);
        if filled.is_err() {
            // Half a spare helps nobody: its blocks are for whoever needs them more. Nobody has it
            // mapped yet.
            let _ = file.set_len(0);
        }
        filled
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.dir.join(LOCK_NAME))
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for MappedFiles {
    fn from(dir: &P) -> MappedFiles {
        MappedFiles::at(dir.as_ref())
    }
}

impl Storage for MappedFiles {
    fn path_of(&self, name: &str) -> PathBuf {
        self.place_of(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = names_in(&self.dir)?;
        if let Some(archive) = &self.archive {
            let segments = names_in(archive)?.into_iter();
            let missing: Vec<String> = segments
                .filter(|name| segment_index(name).is_some() && !names.contains(name))
                .collect();
            names.extend(missing);
        }
        Ok(names)
    }

    fn lock(&self) -> io::Result<Box<dyn Send>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.dir.join(LOCK_NAME)) else {
            return false;
        };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    fn prepare(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.prepare_in(name, bytes, Pages::Small)
    }

    fn prepare_unsynced(&self, name: &str, bytes: u64) -> io::Result<()> {
        self.prepare_in(name, bytes, Pages::Large)
    }

    fn warm(&self, name: &str) -> io::Result<()> {
        let file = File::open(self.place_of(name))?;
        fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            match file.read_at(&mut buffer, at)? {
                0 => return Ok(()),
                count => at += count as u64,
            }
        }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Box<dyn SegmentFile>> {
        let path = match access {
            Access::Write => self.dir.join(name),
            Access::Scan | Access::Follow => self.place_of(name),
        };
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(&path)?;
        let mapping = match access {
            Access::Write => Mapping::writable(&file)?,
            Access::Scan | Access::Follow => Mapping::readable(&file)?,
        };
        if mapping.len() > 0 {
            advise(&mapping, access)?;
        }
        let note = Note::take(mapping.address(), mapping.len(), &path);
        Ok(Box::new(MappedFile {
            note,
            file,
            mapping: Arc::new(mapping),
            rests: self.rests.clone(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        sync_dir(&self.dir)
    }

    fn hurry(&self, on: bool) {
        self.rests.hurry.store(on, Ordering::Relaxed);
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = statvfs(&self.dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Gives a file its length in real blocks of zeros and syncs it.
fn fill(file: &File, bytes: u64, pages: Pages, rests: &Rests) -> io::Result<()> {
    file.set_len(bytes)?;
    // Asks for the blocks at once: a full disk shows before anything is written, and the blocks lie
    // together.
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    for piece in pieces(0..bytes as usize, pages.piece_bytes()) {
        for write in pieces(piece.clone(), pages.write_bytes()) {
            file.write_all_at(&ZEROS[..write.len()], write.start as u64)?;
        }
        // Where commits sync, each would find small writes in front of it at the disk all the time.
        if matches!(pages, Pages::Large) {
            start_write_out(file, piece.clone());
        }
        if (piece.end as u64).is_multiple_of(BYTES_PER_SYNC) {
            file.sync_data()?;
        }
        rests.rest();
    }
    file.sync_all()
}

/// Has dirty pages sent to the disk and does not wait. What goes wrong is said by the next sync of the
/// file: this call reports nothing and takes no report away.
fn start_write_out(file: &File, range: Range<usize>) {
    let (offset, bytes) = (range.start as i64, range.len() as i64);
    // SAFETY: the call takes a descriptor that is open and numbers.
    let _ = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE)
    };
}

fn advise(mapping: &Mapping, access: Access) -> io::Result<()> {
    match access {
        Access::Write | Access::Follow => mapping.advise(Advice::Random),
        Access::Scan => mapping
            .advise(Advice::Sequential)
            .and_then(|()| mapping.advise(Advice::WillNeed)),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

struct MappedFile {
    /// Goes first, before the file is unmapped.
    #[allow(dead_code, reason = "for its end")]
    note: Note,
    file: File,
    mapping: Arc<Mapping>,
    rests: Rests,
}

impl SegmentFile for MappedFile {
    fn mapping(&self) -> &Arc<Mapping> {
        &self.mapping
    }

    /// The length never changes and the blocks are there, so the data alone is enough. `fdatasync`
    /// finds the dirty pages of the map by itself; the range is the promise, the file is the deed.
    fn sync(&self, _range: Range<usize>) -> io::Result<()> {
        self.file.sync_data()
    }

    unsafe fn touch(&self) {
        for piece in pieces(0..self.mapping.len(), PIECE_BYTES) {
            if self.mapping.populate(piece.clone()).is_err() {
                // SAFETY: by the caller's promise.
                unsafe { self.mapping.touch(piece) };
            }
            self.rests.rest();
        }
    }

    fn write_out(&self, range: Range<usize>) {
        for piece in pieces(range, PIECE_BYTES) {
            start_write_out(&self.file, piece);
            self.rests.rest();
        }
    }

    fn let_go(&self) {
        for piece in pieces(0..self.mapping.len(), PIECE_BYTES) {
            self.mapping.let_go(piece);
            self.rests.rest();
        }
    }
}
