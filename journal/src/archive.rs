//! Archiving: moving segments that nobody needs any more out of a journal's directory, one by one.
//!
//! ```text
//!  check it, frame by frame, and its hash against its successor's link
//!  copy --> TO/<name>.draft, sync, check the copy, rename, sync TO      now it is in two places
//!  note --> DIR/archived.draft, sync, rename, sync DIR                  now the journal may begin behind it
//!  remove DIR/<name>, sync DIR                                          now it is in TO only
//! ```
//! Whatever ends this between two steps, the segment is whole in one place at least and the journal opens;
//! doing it again goes on where it ended. The writer is not asked: it looks at its tail only, and a
//! reader that has a segment mapped keeps it. Both directories are locked against other archives: of two
//! at once from one journal, the later would write the earlier's note back.
//!
//! What is needed is for the caller to say: every record behind `upto` stays. Those up to it that stay
//! in a later segment are synced first, so that no power loss leaves less than the caller counts on.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::archived::{self, Archived, DRAFT_NAME, NOTE_NAME, Note, Present};
use crate::chain::ContentHash;
use crate::destination::{self, check_destination};
use crate::error::{Fault, Problem, ReadError};
use crate::format::{self, FRAME_HEADER_BYTES, KIND_PAD, LINK_OFFSET, Link};
use crate::reader;
use crate::segment::{self, LinkState, Look, Segment};
use crate::storage::{Access, MappedFiles, Storage};

/// Bytes copied at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What was archived, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The segments, in order.
    pub segments: Vec<u64>,
    /// The last record in them; 0 where there is none.
    pub last_sequence: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Why archiving stopped. What was archived before stays so, and the journal opens.
#[derive(Debug)]
pub enum ArchiveError {
    /// The journal cannot be read, or a segment of it is not sound: such a one is not moved.
    Journal(ReadError),
    /// The destination is the journal's own directory.
    SamePlace {
        /// The directory.
        path: PathBuf,
    },
    /// Another archive runs, from the same directory or to it.
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The destination is the directory of a writer.
    Used {
        /// The file that shows it.
        path: PathBuf,
    },
    /// The destination has a segment of another journal.
    OtherJournal {
        /// The segment.
        path: PathBuf,
    },
    /// The destination has a link, or something else that is no file, in a segment's place.
    NoFile {
        /// What is there.
        path: PathBuf,
    },
    /// What the destination has in a segment's place is the journal's own file.
    SameFile {
        /// Its name there.
        path: PathBuf,
    },
    /// The destination has another file of that name.
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    Io {
        /// What was tried, as in "cannot ...".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArchiveError::Journal(error) => error.fmt(f),
            ArchiveError::SamePlace { path } => write!(
                f,
                "{} is the journal's own directory: name another one",
                path.display()
            ),
            ArchiveError::InUse { path } => {
                write!(
                    f,
                    "another archive of or to {} is running: let it end first",
                    path.display()
                )
            }
            ArchiveError::Used { path } => write!(
                f,
                "{} is there, so that is a node's directory and no place for an archive: name another one",
                path.display()
            ),
            ArchiveError::OtherJournal { path } => write!(
                f,
                "{} is a segment of another journal: name another directory",
                path.display()
            ),
            ArchiveError::NoFile { path } => write!(
                f,
                "{} is a link or no file, and a copy has to be one: move it away",
                path.display()
            ),
            ArchiveError::SameFile { path } => write!(
                f,
                "{} is the journal's own file under another name, not a copy of it: name another directory",
                path.display()
            ),
            ArchiveError::Occupied { path } => write!(
                f,
                "{} is there already and is not a copy of the segment of that name: move it away",
                path.display()
            ),
            ArchiveError::Io {
                doing,
                path,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ArchiveError::Journal(error) => Some(error),
            ArchiveError::Io { source, .. } => Some(source),
            ArchiveError::SamePlace { .. }
            | ArchiveError::InUse { .. }
            | ArchiveError::Used { .. }
            | ArchiveError::OtherJournal { .. }
            | ArchiveError::NoFile { .. }
            | ArchiveError::SameFile { .. }
            | ArchiveError::Occupied { .. } => None,
        }
    }
}

impl From<Problem> for ArchiveError {
    fn from(problem: Problem) -> ArchiveError {
        ArchiveError::Journal(problem.into())
    }
}

/// What [`archive`] would move: the segments of the journal in `dir` whose records are all `upto` or
/// earlier. The last segment never is.
pub fn archivable(dir: &Path, upto: u64) -> Result<Moved, ReadError> {
    Ok(candidates(&MappedFiles::at(dir), upto)?)
}

/// Moves the segments of the journal in `dir` whose records are all `upto` or earlier to the directory
/// `to`, which is made if it is not there. `progress` is told how many of how many are done.
pub fn archive(
    dir: &Path,
    to: &Path,
    upto: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Moved, ArchiveError> {
    check_destination(dir, to)?;
    make_dir(to)?;
    let _locks = [destination::lock(dir)?, destination::lock(to)?];
    let storage = MappedFiles::at(dir);
    let moved = candidates(&storage, upto)?;
    if moved.segments.is_empty() {
        return Ok(moved);
    }
    sync_what_stays(&storage, &moved, upto)?;
    let all = moved.segments.len() as u64;
    for (index, done) in moved.segments.iter().zip(1..) {
        move_one(&storage, dir, to, *index)?;
        progress(done, all);
    }
    Ok(moved)
}

fn candidates(storage: &MappedFiles, upto: u64) -> Result<Moved, Problem> {
    let present = reader::present(storage)?;
    let mut moved = Moved {
        segments: Vec::new(),
        last_sequence: 0,
        bytes: 0,
    };
    for index in present.first..present.last {
        let next = Segment::open(storage, index + 1, Access::Follow)?;
        let first_behind = match next.link() {
            LinkState::Good(link) => link.first_sequence,
            // A roll that is not durable yet.
            LinkState::Absent => break,
            LinkState::Bad => return Err(next.damage(LINK_OFFSET, 0, Fault::Link).into()),
        };
        if first_behind > upto + 1 {
            break;
        }
        let segment = Segment::open(storage, index, Access::Follow)?;
        moved.segments.push(index);
        moved.last_sequence = first_behind - 1;
        moved.bytes += segment.label.segment_bytes;
    }
    Ok(moved)
}

/// Makes durable what stays of the records up to `upto`: under a policy that does not sync, a power
/// loss could take them, and then nothing here would lead from the caller's snapshot to the end.
fn sync_what_stays(storage: &MappedFiles, moved: &Moved, upto: u64) -> Result<(), ArchiveError> {
    let Present { last, .. } = reader::present(storage)?;
    let behind = moved.segments.last().map_or(1, |index| index + 1);
    for index in behind..=last {
        let segment = Segment::open(storage, index, Access::Follow)?;
        match segment.link() {
            LinkState::Good(link) if link.first_sequence <= upto + 1 => {}
            _ => break,
        }
        let length = segment.map().len();
        let synced = segment.file.sync(0..length);
        synced.map_err(|source| failed("sync", &segment.path, source))?;
    }
    let dir = storage.path_of("");
    let synced = storage.sync_names();
    synced.map_err(|source| failed("sync", &dir, source))
}

/// One segment from one place to the other. Done again after any end, it goes on.
fn move_one(storage: &MappedFiles, dir: &Path, to: &Path, index: u64) -> Result<(), ArchiveError> {
    let name = format::segment_name(index);
    let successor = Segment::open(storage, index + 1, Access::Follow)?;
    let LinkState::Good(link) = successor.link() else {
        return Err(Problem::from(successor.damage(LINK_OFFSET, 0, Fault::Link)).into());
    };
    let source = check(storage, index, &link)?;
    let (copy, draft) = (to.join(&name), to.join(format!("{name}.draft")));
    let archive = MappedFiles::at(to);
    if let Some(there) = destination::existing(&copy, &source.path)? {
        let same = check(&archive, index, &link)
            .is_ok_and(|there| there.label.segment_id == source.label.segment_id);
        if !same {
            return Err(ArchiveError::Occupied { path: copy });
        }
        // Whoever put it there need not have synced it.
        let synced = there.sync_all();
        synced.map_err(|source| failed("sync", &copy, source))?;
    } else {
        copy_file(&source.path, &draft)?;
        check_file(&archive, &format!("{name}.draft"), index, &link)?;
        fs::rename(&draft, &copy).map_err(|source| failed("rename", &draft, source))?;
    }
    sync_dir(to)?;
    write_note(
        storage,
        dir,
        &Archived {
            segments: index,
            last_sequence: link.first_sequence - 1,
            journal_id: successor.label.journal_id,
            chain: link.chain,
        },
    )?;
    let path = dir.join(&name);
    fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
    sync_dir(dir)
}

/// The segment of that index, if every frame of it is right and its content is what its successor was
/// linked to.
fn check(storage: &MappedFiles, index: u64, successor: &Link) -> Result<Segment, Problem> {
    check_file(storage, &format::segment_name(index), index, successor)
}

fn check_file(
    storage: &MappedFiles,
    name: &str,
    index: u64,
    successor: &Link,
) -> Result<Segment, Problem> {
    let segment = Segment::open_named(storage, name, index, Access::Scan)?;
    let link = match segment.link() {
        LinkState::Good(link) => link,
        LinkState::Absent => return Err(segment.damage(LINK_OFFSET, 0, Fault::NoLink).into()),
        LinkState::Bad => return Err(segment.damage(LINK_OFFSET, 0, Fault::Link).into()),
    };
    let mut place = segment.first_place(link.first_sequence);
    let mut content_end = place.offset;
    let fault = loop {
        match segment::look(segment.map(), segment.key, place) {
            Look::Frame(header) => {
                content_end = place.offset
                    + match header.kind {
                        KIND_PAD => FRAME_HEADER_BYTES,
                        _ => header.slot_bytes(),
                    };
                place = place.after(&header);
            }
            Look::End => break None,
            Look::Empty => break Some(Fault::Gap),
            Look::Bad(fault) => break Some(fault),
        }
    };
    // SAFETY: everything before the end of the last valid frame is published.
    let chain = unsafe { ContentHash::default().upto(segment.map(), content_end) };
    let fault = fault.or(match (place.sequence, chain) {
        (sequence, _) if sequence != successor.first_sequence => {
            Some(Fault::FirstSequence(successor.first_sequence))
        }
        (_, chain) if chain != successor.chain => Some(Fault::Chain),
        _ => None,
    });
    match fault {
        Some(fault) => Err(segment.damage(place.offset, place.sequence, fault).into()),
        None => Ok(segment),
    }
}

fn copy_file(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let mut source = File::open(from).map_err(|error| failed("open", from, error))?;
    // What an archive before this one left is removed, not written over: it could be a name of `from`.
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove", to, error));
        }
        _ => {}
    }
    let copy = OpenOptions::new().write(true).create_new(true).open(to);
    let mut copy = copy.map_err(|error| failed("make", to, error))?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = io::Read::read(&mut source, &mut piece);
        let count = count.map_err(|error| failed("read", from, error))?;
        if count == 0 {
            break;
        }
        let written = copy.write_all(&piece[..count]);
        // Piece by piece: one sync of a whole segment would hold up a node's own for long.
        let synced = written.and_then(|()| copy.sync_data());
        synced.map_err(|error| failed("write", to, error))?;
    }
    copy.sync_all().map_err(|error| failed("sync", to, error))
}

/// Writes the note, unless the one there says that more was archived: segments that were put back may go
/// again, and those behind them are gone all the same.
fn write_note(storage: &MappedFiles, dir: &Path, archived: &Archived) -> Result<(), ArchiveError> {
    let known = archived::read(storage)?;
    if known.is_some_and(|known| {
        known.journal_id == archived.journal_id && known.segments > archived.segments
    }) {
        return sync_dir(dir);
    }
    let (draft, path) = (dir.join(DRAFT_NAME), dir.join(NOTE_NAME));
    let note = Note::of(archived);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&draft)?;
        file.write_all(zerocopy::IntoBytes::as_bytes(&note))?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().map_err(|source| failed("write", &path, source))?;
    sync_dir(dir)
}

fn make_dir(to: &Path) -> Result<(), ArchiveError> {
    let made = MappedFiles::create(to);
    made.map(|_| ())
        .map_err(|source| failed("make", to, source))
}

fn sync_dir(dir: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| failed("sync", dir, source))
}

pub(crate) fn failed(doing: &'static str, path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Reader, Writer};
    use std::collections::BTreeSet;

    /// Segments of a mebibyte; the last record of each but the last.
    fn journal(dir: &Path, segments: u64) -> Vec<u64> {
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let (mut writer, _) = Writer::open(dir, options).unwrap();
        let (mut ends, mut path) = (Vec::new(), writer.segment_path().to_owned());
        while (ends.len() as u64) < segments - 1 {
            let sequence = writer.append(&[7; 200_000]).unwrap();
            if writer.segment_path() != path {
                writer.segment_path().clone_into(&mut path);
                ends.push(sequence - 1);
            }
        }
        writer.close().unwrap();
        ends
    }

    fn segments(dir: &Path) -> BTreeSet<u64> {
        let names = MappedFiles::at(dir).names().unwrap();
        names
            .iter()
            .filter_map(|name| format::segment_index(name))
            .collect()
    }

    fn note(dir: &Path) -> u64 {
        archived::read(&MappedFiles::at(dir))
            .unwrap()
            .unwrap()
            .segments
    }

    #[test]
    fn the_note_is_never_lowered() {
        let root = tempfile::tempdir().unwrap();
        let (dir, to) = (root.path().join("dir"), root.path().join("to"));
        fs::create_dir(&dir).unwrap();
        let ends = journal(&dir, 4);
        archive(&dir, &to, ends[2], &mut |_, _| ()).unwrap();
        assert_eq!((note(&dir), segments(&to)), (3, (1..=3).collect()));
        for index in 1..=3 {
            let name = format::segment_name(index);
            fs::copy(to.join(&name), dir.join(&name)).unwrap();
        }
        archive(&dir, &root.path().join("other"), ends[0], &mut |_, _| ()).unwrap();
        assert_eq!((note(&dir), segments(&dir)), (3, (2..=4).collect()));
        for index in 2..=3 {
            fs::remove_file(dir.join(format::segment_name(index))).unwrap();
        }
        Reader::open(&dir).unwrap();
    }

    #[test]
    fn one_archive_of_a_directory_runs_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("dir");
        fs::create_dir(&dir).unwrap();
        let upto = journal(&dir, 3)[1];
        let to = |name| root.path().join(name);
        let held = destination::lock(&dir).unwrap();
        let refused = archive(&dir, &to("first"), upto, &mut |_, _| ());
        assert!(matches!(refused, Err(ArchiveError::InUse { path }) if path == dir));
        assert_eq!(segments(&dir), (1..=3).collect());
        held.unlock().unwrap();
        let ran = std::thread::scope(|scope| {
            let run = |name| {
                let (dir, to) = (&dir, to(name));
                scope.spawn(move || archive(dir, &to, upto, &mut |_, _| ()).is_ok())
            };
            let both = [run("first"), run("second")];
            both.map(|run| run.join().unwrap())
        });
        assert!(ran.contains(&true), "{ran:?}");
        let mut all = segments(&to("first"));
        all.append(&mut segments(&to("second")));
        assert_eq!((note(&dir), all), (2, (1..=2).collect()));
        assert_eq!(segments(&dir), (3..=3).collect());
        Reader::open(&dir).unwrap();
    }
}
