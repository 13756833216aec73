//! A reader: record after record, from any sequence, to the end and on while a writer appends.
//!
//! A reader takes no lock and asks the writer nothing. It maps segments read-only: full ones with
//! read-ahead, the last one without, because pages read ahead arrive in large folios and would make
//! the writer's syncs slow (see `storage::MappedFiles`). A record is returned only when its frame
//! verifies; whether it is durable yet is another question, which the watermarks of later records
//! and the writer's commits answer.
//!
//! Where the first segments were archived it begins behind them, and says so to whoever wants what was
//! in them.
//!
//! The hash chain across segments is not recomputed here; [`verify`](crate::verify) and recovery do
//! that.

use std::path::Path;
use std::sync::Arc;

use crate::archived::{self, Archived, Present};
use crate::batch::Batch;
use crate::error::{Defect, Fault, IoFault, Problem, ReadError};
use crate::evidence::{self, Evidence};
use crate::format::{self, FRAME_HEADER_BYTES, FrameHeader, KIND_DATA, LINK_OFFSET, Link};
use crate::segment::{self, LinkState, Look, Place, Segment};
use crate::storage::{Access, MappedFiles, Storage};

/// Reads a journal from front to back.
///
/// ```
/// use millrace_journal::{Options, Reader, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let options = Options { segment_bytes: 1 << 20, ..Options::default() };
/// let (mut writer, _) = Writer::open(dir.path(), options)?;
/// writer.append(b"one")?;
/// let mut reader = Reader::open(dir.path())?;
/// assert_eq!(reader.next()?.unwrap().payload, b"one");
/// assert!(reader.next()?.is_none());
/// writer.append(b"two")?;
/// assert_eq!(reader.next()?.unwrap().sequence, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader {
    // What every record touches comes first.
    segment: Arc<Segment>,
    place: Place,
    storage: Arc<dyn Storage>,
    /// The first segment here.
    first_index: u64,
    /// The highest segment known to exist.
    last_index: u64,
    /// Bytes of the segments before the current one.
    bytes_before: u64,
    /// Where the journal ended when the reader was opened.
    known: Extent,
    /// A broken place already judged to be a torn tail: its segment, offset and first word.
    judged: Option<(u64, usize, u64)>,
}

/// One record, lent from the mapped segment.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its sequence.
    pub sequence: u64,
    /// The last sequence that was known to be on the disk when this one was appended.
    pub watermark: u64,
    /// The segment that holds it.
    pub segment: &'a Path,
    /// Where its frame begins in the segment.
    pub offset: u64,
    /// What was appended. Begins at a multiple of 16 in memory.
    pub payload: &'a [u8],
}

/// What stands where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndState {
    /// A record: the end is not reached.
    NotReached,
    /// Nothing at all: the journal was left in order, or its writer is between two records.
    Clean,
    /// Bytes that are no record, and nothing that shows they ever were: a record in the making
    /// beside a live writer, otherwise a torn tail, which the next writer will cut.
    Unfinished {
        /// What is wrong with them; `None` where nothing is published.
        what: Option<Fault>,
    },
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    bytes: u64,
    last_sequence: u64,
}

impl Reader {
    /// Opens the journal in a directory, at the first record that is there.
    pub fn open(files: impl Into<MappedFiles>) -> Result<Reader, ReadError> {
        Reader::open_in(Arc::new(files.into()))
    }

    /// As [`Reader::open`], on any storage.
    pub fn open_in(storage: Arc<dyn Storage>) -> Result<Reader, ReadError> {
        let present = present(&*storage)?;
        let (first_index, last_index) = (present.first, present.last);
        warm(&*storage, last_index)?;
        let known = extent(&*storage, present)?;
        let (segment, link) = open_linked(&*storage, first_index, last_index)?;
        if first_index == 1 && link.first_sequence != 1 {
            let what = Fault::FirstSequence(link.first_sequence);
            return Err(Problem::from(segment.damage(LINK_OFFSET, 1, what)).into());
        }
        if let Some(archived) = &present.before {
            refuse_others(&segment, &link, archived)?;
        }
        let place = segment.first_place(link.first_sequence);
        Ok(Reader {
            segment: Arc::new(segment),
            place,
            storage,
            first_index,
            last_index,
            bytes_before: 0,
            known,
            judged: None,
        })
    }

    /// The next record; `None` at the end of what is there for now. Ask again later, as often as
    /// you like.
    #[inline]
    #[allow(
        clippy::should_implement_trait,
        reason = "the record borrows from the reader: a lending iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, ReadError> {
        loop {
            let place = self.place;
            match segment::look(self.segment.map(), self.segment.key, place) {
                Look::Frame(header) => {
                    self.place = place.after(&header);
                    if header.kind == KIND_DATA {
                        return Ok(Some(self.record(place.offset, &header)));
                    }
                }
                Look::Empty if self.segment.label.index == self.last_index => return Ok(None),
                Look::Empty => return self.judge(Fault::Gap),
                Look::Bad(fault) => return self.judge(fault),
                Look::End => {
                    if !self.turn_page()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Takes the next records into `batch`, in place of what it held: those of one segment, until they
    /// take `bytes` of it (one at least), and none behind sequence `to`. It comes back empty at `to`, and
    /// at the end of what is there for now.
    pub fn fill(&mut self, batch: &mut Batch, bytes: usize, to: u64) -> Result<(), ReadError> {
        batch.begin(&self.segment);
        let mut upto = self.place.offset.saturating_add(bytes);
        while self.place.sequence <= to && (self.place.offset < upto || batch.is_empty()) {
            let place = self.place;
            match segment::look(self.segment.map(), self.segment.key, place) {
                Look::Frame(header) => {
                    self.place = place.after(&header);
                    if header.kind == KIND_DATA {
                        batch.push(place.offset, &header);
                    }
                }
                // What is found out about the place is for the next call.
                _ if !batch.is_empty() => break,
                Look::End => {
                    if !self.turn_page()? {
                        break;
                    }
                    batch.begin(&self.segment);
                    upto = self.place.offset.saturating_add(bytes);
                }
                Look::Empty if self.segment.label.index == self.last_index => break,
                Look::Empty => return self.judge(Fault::Gap).map(|_| ()),
                Look::Bad(fault) => return self.judge(fault).map(|_| ()),
            }
        }
        Ok(())
    }

    /// Moves so that the next record is the one with this sequence. One past the last is allowed:
    /// it will come.
    pub fn seek(&mut self, sequence: u64) -> Result<(), ReadError> {
        let present = present(&*self.storage)?;
        self.first_index = present.first;
        self.last_index = self.last_index.max(present.last);
        let index = self.segment_of(sequence)?;
        let (segment, link) = open_linked(&*self.storage, index, self.last_index)?;
        if sequence < link.first_sequence {
            return Err(self.before_the_first(sequence, link.first_sequence));
        }
        self.place = segment.first_place(link.first_sequence);
        self.segment = Arc::new(segment);
        self.bytes_before = self.bytes_upto(index)?;
        while self.place.sequence < sequence && self.next()?.is_some() {}
        if self.place.sequence == sequence {
            return Ok(());
        }
        let last = self.place.sequence - 1;
        Err(ReadError::NoSuchSequence {
            wanted: sequence,
            first: 1,
            last,
        })
    }

    /// Why a sequence before the first one here cannot be read.
    fn before_the_first(&self, wanted: u64, first: u64) -> ReadError {
        match self.first_index {
            1 => ReadError::NoSuchSequence {
                wanted,
                first,
                last: self.last_sequence(),
            },
            index => ReadError::Defect(Defect::Archived {
                path: self.storage.path_of(""),
                segments: index - 1,
                last_sequence: first - 1,
            }),
        }
    }

    /// Random bytes that every segment of this journal carries: no other journal has them.
    pub fn journal_id(&self) -> [u8; 16] {
        self.segment.label.journal_id
    }

    /// The sequence that the next record has or will have.
    pub fn next_sequence(&self) -> u64 {
        self.place.sequence
    }

    /// What stands where the reader is. After [`Reader::next`] said `None` this tells a clean end
    /// from a torn one; damage is an error here as there.
    pub fn end_state(&self) -> Result<EndState, ReadError> {
        let map = self.segment.map();
        let what = match segment::look(map, self.segment.key, self.place) {
            Look::Frame(_) => return Ok(EndState::NotReached),
            Look::End => return Ok(EndState::Clean),
            Look::Empty if map.non_zero(self.place.offset..map.len()).is_none() => {
                return Ok(EndState::Clean);
            }
            Look::Empty => None,
            Look::Bad(fault) => Some(fault),
        };
        self.refuse_damage(what.unwrap_or(Fault::Gap))?;
        Ok(EndState::Unfinished { what })
    }

    /// Bytes from the beginning of what is here to where the reader is.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_before + self.place.offset as u64
    }

    /// Bytes from there to its end, as it was when the reader was opened, or
    /// further if the reader is: with [`Reader::bytes_read`] the two ends of a progress bar.
    pub fn bytes_total(&self) -> u64 {
        self.known.bytes.max(self.bytes_read())
    }

    /// The last sequence, as it was when the reader was opened, or later if the reader is. An
    /// estimate: found by hopping from header to header without checking sums.
    pub fn last_sequence(&self) -> u64 {
        self.known.last_sequence.max(self.place.sequence - 1)
    }

    #[inline]
    fn record(&self, offset: usize, header: &FrameHeader) -> Record<'_> {
        let start = offset + FRAME_HEADER_BYTES;
        // SAFETY: the frame verified, so it is published and never written again.
        let payload = unsafe {
            self.segment
                .map()
                .published(start..start + header.length as usize)
        };
        Record {
            sequence: header.sequence,
            watermark: header.watermark,
            segment: &self.segment.path,
            offset: offset as u64,
            payload,
        }
    }

    /// Goes on in the next segment; false when there is none yet.
    #[cold]
    fn turn_page(&mut self) -> Result<bool, ReadError> {
        let index = self.segment.label.index + 1;
        let next = match Segment::open(&*self.storage, index, self.access(index)) {
            Ok(next) => next,
            Err(Problem::Defect(missing @ Defect::MissingSegment { .. })) => {
                return self.none_yet(index, missing);
            }
            Err(problem) => return Err(problem.into()),
        };
        let link = match next.link() {
            LinkState::Good(link) => link,
            // A writer links a segment before naming it, so this is a roll that a power loss took
            // back.
            LinkState::Absent => return Ok(false),
            LinkState::Bad => return Err(self.bad_link(&next, Fault::Link)),
        };
        if next.label.journal_id != self.segment.label.journal_id {
            let what = "a segment of another journal";
            return Err(ReadError::Defect(Defect::ForeignFile {
                path: next.path,
                what,
            }));
        }
        if link.first_sequence != self.place.sequence {
            return Err(self.bad_link(&next, Fault::FirstSequence(link.first_sequence)));
        }
        self.last_index = self.last_index.max(index);
        self.bytes_before += self.segment.label.segment_bytes;
        self.place = next.first_place(link.first_sequence);
        self.segment = Arc::new(next);
        Ok(true)
    }

    fn access(&self, index: u64) -> Access {
        if index < self.last_index {
            Access::Scan
        } else {
            Access::Follow
        }
    }

    fn bad_link(&self, segment: &Segment, what: Fault) -> ReadError {
        Problem::from(segment.damage(LINK_OFFSET, self.place.sequence, what)).into()
    }

    /// A successor that is not there: not yet, or no more?
    fn none_yet(&self, index: u64, missing: Defect) -> Result<bool, ReadError> {
        let (indices, _) = segment::list(&*self.storage)?;
        if indices.contains(&index) || indices.iter().all(|other| *other < index) {
            return Ok(false);
        }
        Err(archived::gone(&*self.storage, index, missing).into())
    }

    /// A place that is not valid although it should be: damage, or a torn tail, which is an end
    /// like another.
    #[cold]
    fn judge(&mut self, fault: Fault) -> Result<Option<Record<'_>>, ReadError> {
        let word = self.segment.map().load(self.place.offset);
        let here = (self.segment.label.index, self.place.offset, word);
        if self.judged != Some(here) {
            self.refuse_damage(fault)?;
            self.judged = Some(here);
        }
        Ok(None)
    }

    /// Fails when something beyond the reader's place proves that a record there had been durable.
    fn refuse_damage(&self, fault: Fault) -> Result<(), ReadError> {
        let sequence = self.place.sequence;
        let mut found = evidence::behind(&self.segment, self.place);
        for index in self.segment.label.index + 1..=self.last_index {
            let later = Segment::open(&*self.storage, index, Access::Follow)?;
            found.join(evidence::throughout(&later, sequence));
            if let LinkState::Good(link) = later.link() {
                found.join(Evidence {
                    records: 0,
                    watermark: link.watermark,
                });
            }
        }
        if found.watermark < sequence {
            return Ok(());
        }
        Err(Problem::from(self.segment.damage(self.place.offset, sequence, fault)).into())
    }

    /// The segment that holds a sequence, or would: the last one that begins at or before it.
    fn segment_of(&self, sequence: u64) -> Result<u64, ReadError> {
        let (mut low, mut high) = (self.first_index, self.last_index);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let segment = Segment::open(&*self.storage, middle, Access::Follow)?;
            match segment.link() {
                LinkState::Good(link) if link.first_sequence <= sequence => low = middle,
                LinkState::Good(_) | LinkState::Absent => high = middle - 1,
                LinkState::Bad => return Err(self.bad_link(&segment, Fault::Link)),
            }
        }
        Ok(low)
    }

    fn bytes_upto(&self, index: u64) -> Result<u64, ReadError> {
        let mut bytes = 0;
        for earlier in self.first_index..index {
            bytes += Segment::open(&*self.storage, earlier, Access::Follow)?
                .label
                .segment_bytes;
        }
        Ok(bytes)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("segment", &self.segment.path)
            .field("offset", &self.place.offset)
            .field("next_sequence", &self.place.sequence)
            .finish_non_exhaustive()
    }
}

/// The segments there are.
pub(crate) fn present(storage: &dyn Storage) -> Result<Present, Problem> {
    let (indices, found) = segment::list(storage)?;
    if indices.is_empty() {
        archived::refuse_emptied(storage)?;
        return Err(Defect::NotAJournal {
            path: storage.path_of(""),
            found,
        }
        .into());
    }
    let present = Present::judge(storage, &indices)?;
    if !storage.is_locked() {
        segment::refuse_lost_tail(storage, present.last)?;
    }
    Ok(present)
}

/// Refuses a first segment that does not continue what was archived before it.
pub(crate) fn refuse_others(
    segment: &Segment,
    link: &Link,
    archived: &Archived,
) -> Result<(), Problem> {
    if segment.label.journal_id != archived.journal_id {
        return Err(Defect::ForeignFile {
            path: segment.path.clone(),
            what: "a segment of another journal than those archived",
        }
        .into());
    }
    let sequence = archived.last_sequence + 1;
    let fault = match link {
        link if link.first_sequence != sequence => Fault::FirstSequence(link.first_sequence),
        link if link.chain != archived.chain => Fault::Chain,
        _ => return Ok(()),
    };
    Err(segment.damage(LINK_OFFSET, sequence, fault).into())
}

/// Brings the last segment into memory the way its writer needs it.
pub(crate) fn warm(storage: &dyn Storage, index: u64) -> Result<(), Problem> {
    let name = format::segment_name(index);
    storage.warm(&name).map_err(|error| {
        IoFault::new(
            "read",
            storage.path_of(&name),
            error,
            "check its permissions and the disk",
        )
        .into()
    })
}

/// Opens a segment that must have its link.
pub(crate) fn open_linked(
    storage: &dyn Storage,
    index: u64,
    last: u64,
) -> Result<(Segment, Link), Problem> {
    let access = if index < last {
        Access::Scan
    } else {
        Access::Follow
    };
    let segment = Segment::open(storage, index, access)?;
    match segment.link() {
        LinkState::Good(link) => Ok((segment, link)),
        LinkState::Absent => Err(segment.damage(LINK_OFFSET, 0, Fault::NoLink).into()),
        LinkState::Bad => Err(segment.damage(LINK_OFFSET, 0, Fault::Link).into()),
    }
}

/// Where the journal ends, by a hop over the headers of its last segment.
fn extent(storage: &dyn Storage, present: Present) -> Result<Extent, Problem> {
    let last_index = present.last;
    let mut bytes = 0;
    for index in present.first..last_index {
        bytes += Segment::open(storage, index, Access::Follow)?
            .label
            .segment_bytes;
    }
    let tail = Segment::open(storage, last_index, Access::Follow)?;
    let LinkState::Good(link) = tail.link() else {
        return Ok(Extent {
            bytes,
            last_sequence: 0,
        });
    };
    let mut place = tail.first_place(link.first_sequence);
    while let Some(next) = hop(&tail, place) {
        place = next;
    }
    Ok(Extent {
        bytes: bytes + place.offset as u64,
        last_sequence: place.sequence.saturating_sub(1),
    })
}

fn hop(segment: &Segment, place: Place) -> Option<Place> {
    if place.offset >= segment.map().len() {
        return None;
    }
    let words = segment.map().load_header(place.offset);
    let header = FrameHeader::from_words(words);
    let shaped =
        words[0] != 0 && segment::shape_fault(segment.map(), place.offset, &header).is_none();
    (shaped && header.sequence == place.sequence).then(|| place.after(&header))
}
