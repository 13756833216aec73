//! What was taken out of a journal's beginning: the note that archiving leaves beside the segments.
//!
//! ```text
//! archived   0       8         10      16         24              32           48      80      92
//!            | magic | version | zeros | segments | last sequence | journal id | chain | zeros | crc |
//! ```
//! Without it a journal that does not begin with segment 1 is a journal with a file missing. With it
//! the first segment left must continue where the note says the archived ones end, in sequence and in
//! hash, so the history stays one chain. The note is written and made durable before the first segment
//! goes, and segments go from the front: what is left is always one run up to the tail.

use std::path::PathBuf;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::error::{Damage, Defect, Fault, IoFault, Problem, ReadError};
use crate::format;
use crate::segment;
use crate::storage::{Access, MappedFiles, Storage};

/// The note's file.
pub(crate) const NOTE_NAME: &str = "archived";
/// The note on its way to its name.
pub(crate) const DRAFT_NAME: &str = "archived.draft";

const MAGIC: [u8; 8] = *b"MILLRARC";
const FORMAT_VERSION: u16 = 1;

/// What a journal's note says of the segments that were archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The last one; those from 1 on have gone with it.
    pub segments: u64,
    /// The last record in them.
    pub last_sequence: u64,
    /// The journal they belong to.
    pub journal_id: [u8; 16],
    /// BLAKE3 of the last one's content, as its successor's link has it: the head of the history that
    /// was taken out.
    pub chain: [u8; 32],
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub(crate) struct Note {
    pub magic: [u8; 8],
    pub format_version: u16,
    pub reserved: [u8; 6],
    pub segments: u64,
    pub last_sequence: u64,
    pub journal_id: [u8; 16],
    pub chain: [u8; 32],
    pub reserved_end: [u8; 12],
    pub crc: u32,
}

const _: () = assert!(size_of::<Note>() == 96);

impl Note {
    pub fn of(archived: &Archived) -> Note {
        let mut note = Note {
            magic: MAGIC,
            format_version: FORMAT_VERSION,
            reserved: [0; 6],
            segments: archived.segments,
            last_sequence: archived.last_sequence,
            journal_id: archived.journal_id,
            chain: archived.chain,
            reserved_end: [0; 12],
            crc: 0,
        };
        note.crc = note.checksum();
        note
    }

    fn checksum(&self) -> u32 {
        format::crc(0, &self.as_bytes()[..size_of::<Note>() - 4])
    }
}

/// The note of a journal, if it has one.
pub(crate) fn read(storage: &dyn Storage) -> Result<Option<Archived>, Problem> {
    let path = storage.path_of(NOTE_NAME);
    let file = match storage.open(NOTE_NAME, Access::Follow) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            let advice = "check its permissions and the disk";
            return Err(IoFault::new("open", path, error, advice).into());
        }
    };
    if file.mapping().len() != size_of::<Note>() {
        return Err(damaged(path).into());
    }
    // SAFETY: the note was written and synced before the file got its name, and is never written again.
    let bytes = unsafe { file.mapping().published(0..size_of::<Note>()) };
    let note = Note::read_from_bytes(bytes).expect("the range has the note's size");
    if note.magic == MAGIC && note.format_version > FORMAT_VERSION {
        let found = note.format_version;
        return Err(Defect::NewerFormat { path, found }.into());
    }
    if note.magic != MAGIC || note.crc != note.checksum() {
        return Err(damaged(path).into());
    }
    Ok(Some(Archived {
        segments: note.segments,
        last_sequence: note.last_sequence,
        journal_id: note.journal_id,
        chain: note.chain,
    }))
}

fn damaged(path: PathBuf) -> Damage {
    Damage {
        path,
        offset: 0,
        sequence: 0,
        what: Fault::Note,
    }
}

/// The segments that a journal has here: all from `first` to `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Present {
    pub first: u64,
    pub last: u64,
    /// Where the archived ones end, if `first` is the one right behind them.
    pub before: Option<Archived>,
}

impl Present {
    /// Judges the indices found, of which there is at least one. Without a note they must be 1, 2, 3
    /// and so on; with one the run up to the last must begin at the latest behind those archived. Some
    /// of these may be there again, or still.
    pub fn judge(storage: &dyn Storage, indices: &[u64]) -> Result<Present, Problem> {
        let last = *indices.last().expect("there is a segment");
        let run = indices.iter().rev().zip((1..=last).rev());
        let first = last + 1 - run.take_while(|(found, wanted)| *found == wanted).count() as u64;
        if first == 1 {
            let before = None;
            return Ok(Present {
                first,
                last,
                before,
            });
        }
        let Some(archived) = read(storage)? else {
            segment::refuse_gaps(storage, indices)?;
            unreachable!("the run does not begin at 1");
        };
        if first > archived.segments + 1 {
            let path = storage.path_of(&format::segment_name(first - 1));
            return Err(Defect::MissingSegment { path }.into());
        }
        Ok(Present {
            first,
            last,
            before: (first == archived.segments + 1).then_some(archived),
        })
    }

    /// Segments there are.
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

/// Why a record or segment is not here although the journal had it: `Archived` where the note says so.
pub(crate) fn gone(storage: &dyn Storage, index: u64, otherwise: Defect) -> Problem {
    match read(storage) {
        Ok(Some(archived)) if index <= archived.segments => defect(storage, &archived).into(),
        Ok(_) => otherwise.into(),
        Err(problem) => problem,
    }
}

/// Refuses a place without a segment where a journal was whose first segments were archived.
pub(crate) fn refuse_emptied(storage: &dyn Storage) -> Result<(), Problem> {
    match read(storage)? {
        None => Ok(()),
        Some(archived) => {
            let path = storage.path_of(&format::segment_name(archived.segments + 1));
            Err(Defect::MissingSegment { path }.into())
        }
    }
}

/// The archived segments of a journal that are in none of the places given, in order.
pub fn missing(files: impl Into<MappedFiles>) -> Result<Vec<u64>, ReadError> {
    let storage = files.into();
    let Some(archived) = read(&storage)? else {
        return Ok(Vec::new());
    };
    let (here, _) = segment::list(&storage)?;
    let gone = (1..=archived.segments).filter(|index| here.binary_search(index).is_err());
    Ok(gone.collect())
}

pub(crate) fn defect(storage: &dyn Storage, archived: &Archived) -> Defect {
    Defect::Archived {
        path: storage.path_of(""),
        segments: archived.segments,
        last_sequence: archived.last_sequence,
    }
}
