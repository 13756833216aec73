//! Where archived segments go: the directory, looked at before anything is removed for its sake.
//!
//! Names do not tell places apart: a bind mount or a link gives one place two of them, and then the copy
//! that is found there is the original. What tells them apart is device and inode, of the directories and
//! of each file. And a directory that a node writes to, or that has another journal's segments, is none
//! to archive to.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::archive::{ArchiveError, failed};
use crate::archived::NOTE_NAME;
use crate::error::Problem;
use crate::format::{LOCK_NAME, SPARE_NAME, segment_index};
use crate::reader;
use crate::segment::Segment;
use crate::storage::{Access, MappedFiles, Storage as _};

/// What a directory that a writer uses holds, and no archive.
const WRITERS_FILES: [&str; 3] = [LOCK_NAME, SPARE_NAME, NOTE_NAME];

/// Refuses a place that [`archive`](crate::archive()) would refuse, and touches nothing: one that is the
/// journal's own directory, that a writer uses, that has another journal's segments or links in their
/// place, or that is not there and cannot be made.
pub fn check_destination(dir: &Path, to: &Path) -> Result<(), ArchiveError> {
    match fs::metadata(to) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(failed("archive to", to, Errno::NOTDIR.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return check_parent(to),
        Err(source) => return Err(failed("archive to", to, source)),
    }
    let (own, other) = (open_dir(dir)?, open_dir(to)?);
    if is_same(&metadata(&own, dir)?, &metadata(&other, to)?) {
        let path = to.to_owned();
        return Err(ArchiveError::SamePlace { path });
    }
    for name in WRITERS_FILES {
        let path = to.join(name);
        if look(&path)?.is_some() {
            return Err(ArchiveError::Used { path });
        }
    }
    let journal = MappedFiles::at(dir);
    let last = reader::present(&journal)?.last;
    let journal_id = Segment::open(&journal, last, Access::Follow)?
        .label
        .journal_id;
    let archive = MappedFiles::at(to);
    let names = archive.names();
    for name in names.map_err(|source| failed("list", to, source))? {
        let Some(index) = segment_index(&name) else {
            continue;
        };
        let path = to.join(&name);
        if look(&path)?.is_some_and(|found| !found.is_file()) {
            return Err(ArchiveError::NoFile { path });
        }
        match Segment::open(&archive, index, Access::Follow) {
            Ok(segment) if segment.label.journal_id != journal_id => {
                return Err(ArchiveError::OtherJournal { path });
            }
            // One that is no segment is refused when its name is needed.
            Ok(_) | Err(Problem::Defect(_)) => {}
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok(())
}

/// What making the directory would say.
fn check_parent(to: &Path) -> Result<(), ArchiveError> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    match fs::metadata(parent.unwrap_or(Path::new("."))) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(failed("make", to, Errno::NOTDIR.into())),
        Err(source) => Err(failed("make", to, source)),
    }
}

/// Locks a directory against other archives, from it or to it, until the file is dropped. A node beside
/// them holds another lock.
pub(crate) fn lock(dir: &Path) -> Result<File, ArchiveError> {
    let file = open_dir(dir)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ArchiveError::InUse {
            path: dir.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed("lock", dir, source)),
    }
}

/// The file that is at `copy` already, opened, if there is one: a file of its own, not `source` under
/// another name.
pub(crate) fn existing(copy: &Path, source: &Path) -> Result<Option<File>, ArchiveError> {
    match look(copy)? {
        None => return Ok(None),
        Some(found) if !found.is_file() => {
            let path = copy.to_owned();
            return Err(ArchiveError::NoFile { path });
        }
        Some(_) => {}
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(copy, flags, Mode::empty());
    let file: File = opened
        .map_err(|error| failed("open", copy, error.into()))?
        .into();
    let original = fs::metadata(source).map_err(|error| failed("look at", source, error))?;
    if is_same(&metadata(&file, copy)?, &original) {
        let path = copy.to_owned();
        return Err(ArchiveError::SameFile { path });
    }
    Ok(Some(file))
}

/// What is at a path, without following a link.
fn look(path: &Path) -> Result<Option<Metadata>, ArchiveError> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("look at", path, source)),
    }
}

fn open_dir(dir: &Path) -> Result<File, ArchiveError> {
    File::open(dir).map_err(|source| failed("open", dir, source))
}

fn metadata(file: &File, path: &Path) -> Result<Metadata, ArchiveError> {
    file.metadata()
        .map_err(|source| failed("look at", path, source))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_under_two_names_is_one_place() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, link, file, hard] =
            ["a", "b", "link", "file", "hard"].map(|n| dir.path().join(n));
        fs::create_dir(&a).unwrap();
        fs::create_dir(&b).unwrap();
        std::os::unix::fs::symlink(&a, &link).unwrap();
        fs::write(&file, "x").unwrap();
        fs::hard_link(&file, &hard).unwrap();
        let same = |one: &Path, other: &Path| {
            is_same(&fs::metadata(one).unwrap(), &fs::metadata(other).unwrap())
        };
        assert!(same(&a, &link) && same(&file, &hard));
        assert!(!same(&a, &b) && !same(&a, &file));
        assert!(matches!(
            check_destination(&a, &link),
            Err(ArchiveError::SamePlace { .. })
        ));
        assert!(matches!(
            existing(&hard, &file),
            Err(ArchiveError::SameFile { .. })
        ));
        assert!(matches!(
            existing(&link, &file),
            Err(ArchiveError::NoFile { .. })
        ));
        assert!(existing(&b.join("none"), &file).unwrap().is_none());
        fs::write(b.join("copy"), "x").unwrap();
        assert!(existing(&b.join("copy"), &file).unwrap().is_some());
    }
}
