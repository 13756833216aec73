//! One segment, looked at: its label, its link, and the frames one after another.
//!
//! Reader, recovery and verify all judge bytes through [`look`], so there is one opinion on what a
//! valid frame is. Nothing here writes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use zerocopy::FromBytes;

use crate::archived;
use crate::error::{Damage, Defect, Fault, IoFault, Problem};
use crate::format::{
    self, FORMAT_VERSION, FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, KIND_DATA, KIND_PAD,
    LINK_OFFSET, Label, Link, MAGIC,
};
use crate::mapping::Mapping;
use crate::storage::{Access, SegmentFile, Storage};

/// No journal gets that far: a link that says more is none, whatever its checksum, and sequences
/// can be counted on from it.
const SEQUENCE_MAX: u64 = 1 << 62;

/// Where a frame is expected, and what it must be chained to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub offset: usize,
    pub previous_crc: u32,
    pub sequence: u64,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum Look {
    /// A valid frame, data or pad.
    Frame(FrameHeader),
    /// A zero word: nothing was published here.
    Empty,
    /// The end of the file.
    End,
    /// Something that is no valid frame.
    Bad(Fault),
}

/// Judges the bytes at a place.
#[inline]
pub(crate) fn look(map: &Mapping, key: u32, place: Place) -> Look {
    if place.offset >= map.len() {
        return Look::End;
    }
    let words = map.load_header(place.offset);
    if words[0] == 0 {
        return Look::Empty;
    }
    let header = FrameHeader::from_words(words);
    match fault_of(map, key, place, &header) {
        None => Look::Frame(header),
        Some(fault) => Look::Bad(fault),
    }
}

#[inline]
fn fault_of(map: &Mapping, key: u32, place: Place, header: &FrameHeader) -> Option<Fault> {
    if let Some(fault) = shape_fault(map, place.offset, header) {
        return Some(fault);
    }
    if !chains_from(map, key, place.offset, header, place.previous_crc) {
        return Some(Fault::Checksum);
    }
    if header.sequence != place.sequence {
        return Some(Fault::Sequence(header.sequence));
    }
    if header.watermark >= header.sequence {
        return Some(Fault::Watermark(header.watermark));
    }
    None
}

/// What the header alone shows: kind, length, zero fields.
#[inline]
pub(crate) fn shape_fault(map: &Mapping, offset: usize, header: &FrameHeader) -> Option<Fault> {
    let room = map.len() - offset - FRAME_HEADER_BYTES;
    let length = header.length as usize;
    match header.kind {
        KIND_DATA if length > room => Some(Fault::Length(header.length)),
        KIND_PAD if length != room => Some(Fault::Length(header.length)),
        KIND_DATA | KIND_PAD if header.reserved != 0 || header.term != 0 => Some(Fault::NotZero),
        KIND_DATA | KIND_PAD => None,
        other => Some(Fault::Kind(other)),
    }
}

/// True when the frame's checksum is right given the checksum before it. The header's shape has
/// been checked.
#[inline]
pub(crate) fn chains_from(
    map: &Mapping,
    key: u32,
    offset: usize,
    header: &FrameHeader,
    previous_crc: u32,
) -> bool {
    frame_crc(map, key, offset, header, previous_crc) == header.crc
}

/// The checksum that a frame ought to carry.
#[inline]
pub(crate) fn frame_crc(
    map: &Mapping,
    key: u32,
    offset: usize,
    header: &FrameHeader,
    previous_crc: u32,
) -> u32 {
    let seed = format::crc_seed(previous_crc, key, header.length);
    // SAFETY: the caller loaded a non-zero first word, so the slot is published and stays as it is.
    // (Bytes of a torn tail can be zeroed meanwhile by a restarted writer: see the head of
    // mapping.rs.)
    let covered = unsafe { map.published(offset + 8..offset + header.covered_bytes()) };
    format::crc(seed, covered)
}

impl Place {
    /// The place after a valid frame.
    #[inline]
    pub fn after(self, header: &FrameHeader) -> Place {
        Place {
            offset: self.offset + header.slot_bytes(),
            previous_crc: header.crc,
            sequence: self.sequence + u64::from(header.kind == KIND_DATA),
        }
    }
}

/// An open segment whose label is sound.
pub(crate) struct Segment {
    pub path: PathBuf,
    pub label: Label,
    pub key: u32,
    pub file: Box<dyn SegmentFile>,
    /// The file's, at hand: every record asks for it.
    map: Arc<Mapping>,
}

/// What a segment's link says.
#[derive(Debug)]
pub(crate) enum LinkState {
    /// Never written, or not yet on the disk when the power went.
    Absent,
    Good(Link),
    Bad,
}

impl Segment {
    /// Opens the segment with this index and checks its label.
    pub fn open(storage: &dyn Storage, index: u64, access: Access) -> Result<Segment, Problem> {
        Segment::open_named(storage, &format::segment_name(index), index, access)
    }

    /// The same under another name, on its way to its own.
    pub fn open_named(
        storage: &dyn Storage,
        name: &str,
        index: u64,
        access: Access,
    ) -> Result<Segment, Problem> {
        let path = storage.path_of(name);
        let file = storage
            .open(name, access)
            .map_err(|error| cannot_open(&path, error))?;
        let label = read_label(file.mapping(), &path)?;
        if label.index != index {
            let what = "a segment under another segment's name";
            return Err(Defect::ForeignFile { path, what }.into());
        }
        let (expected, found) = (label.segment_bytes, file.mapping().len() as u64);
        if expected != found {
            return Err(Defect::WrongLength {
                path,
                expected,
                found,
            }
            .into());
        }
        Ok(Segment {
            path,
            label,
            key: format::segment_key(label.segment_id),
            map: file.mapping().clone(),
            file,
        })
    }

    #[inline]
    pub fn map(&self) -> &Mapping {
        &self.map
    }

    /// Where the first frame is expected.
    pub fn first_place(&self, sequence: u64) -> Place {
        Place {
            offset: FRAMES_OFFSET,
            previous_crc: self.label.crc,
            sequence,
        }
    }

    pub fn link(&self) -> LinkState {
        let crc_word = self.map().load(LINK_OFFSET + size_of::<Link>() - 8);
        if crc_word >> 32 == 0 {
            return LinkState::Absent;
        }
        // SAFETY: the link's checksum, written last, is there: nobody writes the link again.
        let bytes = unsafe {
            self.map()
                .published(LINK_OFFSET..LINK_OFFSET + size_of::<Link>())
        };
        let link = Link::read_from_bytes(bytes).expect("the range has the link's size");
        let in_range = (1..=SEQUENCE_MAX).contains(&link.first_sequence);
        if in_range && link.crc == link.checksum(self.label.crc) {
            return LinkState::Good(link);
        }
        if is_unfinished(&link) {
            LinkState::Absent
        } else {
            LinkState::Bad
        }
    }

    /// What is wrong, here.
    pub fn damage(&self, offset: usize, sequence: u64, what: Fault) -> Damage {
        Damage {
            path: self.path.clone(),
            offset: offset as u64,
            sequence,
            what,
        }
    }
}

/// True for a link that a power loss left half-way: a word of it is still zero, as the spare was.
/// Sectors are written whole, so this takes a disk that promises less; a flipped bit, on the other
/// hand, makes no zero word out of a hash.
fn is_unfinished(link: &Link) -> bool {
    let chain_words = link.chain.chunks_exact(8);
    link.first_sequence == 0
        || link.watermark == 0
        || chain_words.into_iter().any(|word| word == [0; 8])
}

/// Refuses a journal whose last segment is gone. A spare is made for the segment that comes next, and only
/// when the name of the one before is durable: one that is for a later segment than the next proves
/// that there were others. For when no writer is at work on the spare.
pub(crate) fn refuse_lost_tail(storage: &dyn Storage, last: u64) -> Result<(), Problem> {
    let path = storage.path_of(format::SPARE_NAME);
    let Ok(spare) = storage.open(format::SPARE_NAME, Access::Follow) else {
        return Ok(());
    };
    // A spare whose label is not sound was never finished, and proves nothing.
    let Ok(label) = read_label(spare.mapping(), &path) else {
        return Ok(());
    };
    if label.index <= last + 1 {
        return Ok(());
    }
    let tail = Segment::open(storage, last, Access::Follow)?;
    if tail.label.journal_id != label.journal_id {
        return Ok(());
    }
    let path = storage.path_of(&format::segment_name(last + 1));
    Err(Defect::MissingSegment { path }.into())
}

fn read_label(map: &Mapping, path: &std::path::Path) -> Result<Label, Problem> {
    if map.len() < FRAMES_OFFSET {
        let (path, found) = (path.to_owned(), map.len() as u64);
        return Err(Defect::WrongLength {
            path,
            expected: 0,
            found,
        }
        .into());
    }
    // SAFETY: the label was written and synced before the file got its name, and is never written
    // again.
    let bytes = unsafe { map.published(0..size_of::<Label>()) };
    let label = Label::read_from_bytes(bytes).expect("the range has the label's size");
    if label.magic != MAGIC {
        return Err(Defect::ForeignFile {
            path: path.to_owned(),
            what: "not a journal segment",
        }
        .into());
    }
    if label.format_version > FORMAT_VERSION {
        return Err(Defect::NewerFormat {
            path: path.to_owned(),
            found: label.format_version,
        }
        .into());
    }
    let sizes_fit = label.header_bytes as usize == FRAMES_OFFSET
        && label
            .segment_bytes
            .is_multiple_of(format::PAGE_BYTES as u64);
    if label.crc != label.checksum() || !sizes_fit {
        let what = Fault::Label;
        return Err(Damage {
            path: path.to_owned(),
            offset: 0,
            sequence: 0,
            what,
        }
        .into());
    }
    Ok(label)
}

fn cannot_open(path: &std::path::Path, error: io::Error) -> Problem {
    if error.kind() == io::ErrorKind::NotFound {
        return Defect::MissingSegment {
            path: path.to_owned(),
        }
        .into();
    }
    IoFault::new("open", path, error, "check its permissions and the disk").into()
}

/// The indices of the segments, ascending, and the first name that is no file of a journal.
pub(crate) fn list(storage: &dyn Storage) -> Result<(Vec<u64>, Option<String>), Problem> {
    let names = storage.names().map_err(|error| {
        let advice = "check that the directory exists and may be read";
        IoFault::new("list", storage.path_of(""), error, advice)
    })?;
    let mut indices: Vec<u64> = names
        .iter()
        .filter_map(|name| format::segment_index(name))
        .collect();
    indices.sort_unstable();
    let stranger = names.into_iter().find(|name| !is_ours(name));
    match stranger {
        Some(name) if name.ends_with(format::SEGMENT_SUFFIX) => {
            let what = "named like a segment, but no writer gives such a name";
            Err(Defect::ForeignFile {
                path: storage.path_of(&name),
                what,
            }
            .into())
        }
        stranger => Ok((indices, stranger)),
    }
}

/// A file system's own `lost+found` makes a fresh volume no less empty.
fn is_ours(name: &str) -> bool {
    let known = [
        format::SPARE_NAME,
        format::LOCK_NAME,
        format::PROBE_NAME,
        archived::NOTE_NAME,
        archived::DRAFT_NAME,
        "lost+found",
    ];
    known.contains(&name) || format::segment_index(name).is_some()
}

/// Refuses gaps: the segments must be 1, 2, 3 and so on.
pub(crate) fn refuse_gaps(storage: &dyn Storage, indices: &[u64]) -> Result<(), Problem> {
    match indices
        .iter()
        .zip(1..)
        .find(|(found, expected)| **found != *expected)
    {
        Some((_, missing)) => {
            let path = storage.path_of(&format::segment_name(missing));
            Err(Defect::MissingSegment { path }.into())
        }
        None => Ok(()),
    }
}
