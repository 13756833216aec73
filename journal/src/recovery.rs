//! What a writer does first: find the longest valid prefix, and decide whether what follows is a
//! torn tail or damage.
//!
//! ```text
//!   survey (reads only)                                              repair (writes)
//!   labels -> links -> frames ... first place that is not valid  ->  discard later segments, highest
//!                                   |                                first; zero the tail; sync
//!                                   v
//!       does anything valid beyond it carry a watermark >= the sequence expected there?
//!       yes: that record had been durable. Damage: refuse, touch nothing.
//!       no:  nothing shows that it was ever acknowledged as durable. Torn tail: cut.
//! ```
//!
//! `repair` may be interrupted anywhere: the next survey meets the same torn tail or a shorter one.

use std::path::PathBuf;

use crate::archived::{self, Present};
use crate::chain::ContentHash;
use crate::error::{Defect, Fault, IoFault, Problem};
use crate::evidence::{self, Evidence};
use crate::format::{
    self, FRAME_HEADER_BYTES, FRAMES_OFFSET, KIND_PAD, LINK_OFFSET, Link, SPARE_NAME,
};
use crate::segment::{self, LinkState, Look, Place, Segment};
use crate::storage::{Access, SegmentFile, Storage};

/// What [`Writer::open`](crate::Writer::open) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// True when there was no journal and one was begun.
    pub created: bool,
    /// Random bytes that every segment of this journal carries.
    pub journal_id: [u8; 16],
    /// Segments in use.
    pub segments: u64,
    /// The last record's sequence, 0 in an empty journal. The first record has sequence 1.
    pub last_sequence: u64,
    /// Bytes in use, headers of segments and frames included.
    pub bytes: u64,
    /// The torn tail that was cut, if there was one.
    pub cut: Option<Cut>,
}

/// A torn tail: what was being written when the process or the machine stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment that was cut, or the first that was discarded.
    pub path: PathBuf,
    /// Where, in bytes.
    pub offset: u64,
    /// The sequence that is free again.
    pub sequence: u64,
    /// Bytes cut: from the first to the last that was not zero, in every segment concerned.
    pub bytes: u64,
    /// Valid records among them, beyond the first invalid place. Without a power loss this is 0:
    /// any other value then means damage that no watermark could prove, and the journal deserves a
    /// look.
    pub records: u64,
    /// Later segments that were discarded.
    pub segments_discarded: u64,
    /// What was wrong with the bytes; `None` where nothing had been published.
    pub what: Option<Fault>,
}

/// The end of the valid prefix, and what a writer needs to continue there.
pub(crate) struct Survey {
    pub journal_id: [u8; 16],
    /// The tail segment.
    pub index: u64,
    pub place: Place,
    /// The end of its content: `place.offset`, or the end of a closing pad's header.
    pub content_end: usize,
    pub hash: ContentHash,
    pub recovered: Recovered,
    /// Segments whose records may still be in the page cache only.
    unsynced: Vec<u64>,
    /// Segments beyond the prefix, to be discarded.
    discard: Vec<u64>,
}

/// Reads the journal and judges it; `None` when there is none. Of segments that end before
/// `check_from` only labels and links are checked, but where the roll that closed one may not have been
/// committed.
///
/// `checked` hears, segment by segment, up to which record everything is in order: those records stay,
/// whatever is found behind them, unless the journal is refused.
pub(crate) fn survey(
    storage: &dyn Storage,
    check_from: u64,
    checked: &mut dyn FnMut(u64),
) -> Result<Option<Survey>, Problem> {
    let (indices, _) = segment::list(storage)?;
    if indices.is_empty() {
        archived::refuse_emptied(storage)?;
        return Ok(None);
    }
    let present = Present::judge(storage, &indices)?;
    let last = present.last;
    segment::refuse_lost_tail(storage, last)?;
    let name = format::segment_name(last);
    let advice = "check its permissions and the disk";
    storage
        .warm(&name)
        .map_err(|error| IoFault::new("read", storage.path_of(&name), error, advice))?;
    let mut walk = Walk::new(storage, &present);
    walk.skip_to(check_from)?;
    while walk.index <= last && walk.broken.is_none() {
        walk.segment()?;
        if let Some(end) = &walk.end {
            checked(end.place.sequence - 1);
        }
    }
    walk.conclude().map(Some)
}

/// Where the valid prefix ends although the files go on.
struct Broken {
    segment: Segment,
    place: Place,
    what: Option<Fault>,
}

/// The end of a segment that was walked to its end.
struct SegmentEnd {
    index: u64,
    place: Place,
    content_end: usize,
    hash: ContentHash,
}

struct Walk<'a> {
    storage: &'a dyn Storage,
    /// The first segment here.
    first: u64,
    last: u64,
    /// The segment to look at next.
    index: u64,
    journal_id: Option<[u8; 16]>,
    /// What the next link must say; nothing to compare with after a skip.
    expected: Option<(u64, [u8; 32])>,
    end: Option<SegmentEnd>,
    broken: Option<Broken>,
    /// For every segment passed, the sequence that follows it.
    next_sequences: Vec<u64>,
    watermark: u64,
    bytes: u64,
}

impl<'a> Walk<'a> {
    fn new(storage: &'a dyn Storage, present: &Present) -> Walk<'a> {
        let archived = present.before.as_ref();
        let behind = archived.map(|archived| (archived.last_sequence + 1, archived.chain));
        Walk {
            storage,
            first: present.first,
            last: present.last,
            index: present.first,
            journal_id: archived.map(|archived| archived.journal_id),
            // Of a segment that was given back alone the word of its link is all there is.
            expected: match present.first {
                1 => Some((1, [0; 32])),
                _ => behind,
            },
            end: None,
            broken: None,
            next_sequences: Vec::new(),
            watermark: 0,
            bytes: 0,
        }
    }

    /// Passes over the segments whose successor is linked at or before `sequence`, as long as something says
    /// that the roll to that successor had been committed. Otherwise the pad that closes the segment may
    /// be lost although name and link of the next survived: who passed over that would append behind a
    /// gap.
    fn skip_to(&mut self, sequence: u64) -> Result<(), Problem> {
        if sequence <= 1 {
            return Ok(());
        }
        let Some((tail, link)) = self.last_linked()? else {
            return Ok(());
        };
        // Watermarks never fall, so the last ones say most: that of the link first, then those of frames.
        let (mut durable, mut place) = (link.watermark, tail.first_place(link.first_sequence));
        while self.index < self.last {
            let next = self.open(self.index + 1)?;
            let LinkState::Good(link) = next.link() else {
                return Ok(());
            };
            if link.first_sequence > sequence {
                return Ok(());
            }
            while durable < link.first_sequence
                && let Look::Frame(header) = segment::look(tail.map(), tail.key, place)
            {
                durable = durable.max(header.watermark);
                place = place.after(&header);
            }
            if durable < link.first_sequence {
                return Ok(());
            }
            let passed = self.open(self.index)?;
            let LinkState::Good(own) = passed.link() else {
                return Err(passed.damage(LINK_OFFSET, 0, Fault::Link).into());
            };
            if let Some(fault) = self.link_fault(&own) {
                return Err(passed.damage(LINK_OFFSET, own.first_sequence, fault).into());
            }
            self.next_sequences.push(link.first_sequence);
            self.bytes += passed.label.segment_bytes;
            self.expected = None;
            self.index += 1;
        }
        Ok(())
    }

    /// The last segment whose link is there.
    fn last_linked(&mut self) -> Result<Option<(Segment, Link)>, Problem> {
        for index in (self.index + 1..=self.last).rev() {
            let segment = self.open(index)?;
            if let LinkState::Good(link) = segment.link() {
                return Ok(Some((segment, link)));
            }
        }
        Ok(None)
    }

    /// Checks the next segment and moves the end of the valid prefix over it.
    fn segment(&mut self) -> Result<(), Problem> {
        let segment = self.open(self.index)?;
        let sequence = self.expected.map_or(0, |(sequence, _)| sequence);
        let link = match segment.link() {
            LinkState::Good(link) => link,
            // The roll that named this segment had not been committed. The first segment is linked
            // and synced before it is named.
            LinkState::Absent if self.end.is_some() => {
                let place = Place {
                    offset: LINK_OFFSET,
                    previous_crc: 0,
                    sequence,
                };
                self.broken = Some(Broken {
                    segment,
                    place,
                    what: None,
                });
                return Ok(());
            }
            LinkState::Absent => {
                return Err(segment.damage(LINK_OFFSET, sequence, Fault::NoLink).into());
            }
            LinkState::Bad => {
                return Err(segment.damage(LINK_OFFSET, sequence, Fault::Link).into());
            }
        };
        if let Some(fault) = self.link_fault(&link) {
            return Err(segment.damage(LINK_OFFSET, sequence, fault).into());
        }
        self.watermark = self.watermark.max(link.watermark);
        self.frames(segment, link.first_sequence);
        Ok(())
    }

    fn link_fault(&self, link: &Link) -> Option<Fault> {
        let (sequence, chain) = self.expected.unwrap_or((link.first_sequence, link.chain));
        if link.first_sequence != sequence {
            return Some(Fault::FirstSequence(link.first_sequence));
        }
        if link.watermark >= link.first_sequence {
            return Some(Fault::Watermark(link.watermark));
        }
        (link.chain != chain).then_some(Fault::Chain)
    }

    fn frames(&mut self, segment: Segment, first_sequence: u64) {
        let mut place = segment.first_place(first_sequence);
        let mut content_end = place.offset;
        let stop = loop {
            match segment::look(segment.map(), segment.key, place) {
                Look::Frame(header) => {
                    let pad = header.kind == KIND_PAD;
                    content_end = place.offset
                        + if pad {
                            FRAME_HEADER_BYTES
                        } else {
                            header.slot_bytes()
                        };
                    self.watermark = self.watermark.max(header.watermark);
                    place = place.after(&header);
                }
                stop => break stop,
            }
        };
        let mut hash = ContentHash::default();
        // SAFETY: everything before the end of the last valid frame is published.
        let chain = unsafe { hash.upto(segment.map(), content_end) };
        self.expected = Some((place.sequence, chain));
        self.next_sequences.push(place.sequence);
        self.bytes += content_end as u64;
        self.end = Some(SegmentEnd {
            index: self.index,
            place,
            content_end,
            hash,
        });
        self.broken = self.breaks(&stop, &segment, place).map(|what| Broken {
            segment,
            place,
            what,
        });
        self.index += 1;
    }

    /// Whether the frames end otherwise than they may, and by what fault.
    fn breaks(&self, stop: &Look, segment: &Segment, place: Place) -> Option<Option<Fault>> {
        match stop {
            Look::Bad(fault) => Some(Some(*fault)),
            Look::Empty if self.index < self.last => Some(None),
            Look::Empty => segment
                .map()
                .non_zero(place.offset..segment.map().len())
                .map(|_| None),
            Look::End | Look::Frame(_) => None,
        }
    }

    fn open(&mut self, index: u64) -> Result<Segment, Problem> {
        let access = if index < self.last {
            Access::Scan
        } else {
            Access::Follow
        };
        let segment = Segment::open(self.storage, index, access)?;
        let journal_id = *self.journal_id.get_or_insert(segment.label.journal_id);
        if segment.label.journal_id != journal_id {
            return Err(Defect::ForeignFile {
                path: segment.path,
                what: "a segment of another journal",
            }
            .into());
        }
        Ok(segment)
    }

    /// Damage, or the end with or without a cut.
    fn conclude(mut self) -> Result<Survey, Problem> {
        let cut = match self.broken.take() {
            Some(broken) => Some(self.judge(&broken)?),
            None => None,
        };
        let end = self
            .end
            .take()
            .expect("the first segment either ends or is refused");
        let discard: Vec<u64> = (end.index + 1..=self.last).collect();
        let journal_id = self.journal_id.expect("a segment was opened");
        let recovered = Recovered {
            created: false,
            journal_id,
            segments: end.index - self.first + 1,
            last_sequence: end.place.sequence - 1,
            bytes: self.bytes,
            cut,
        };
        let unsynced = self.unsynced(end.index);
        let SegmentEnd {
            index,
            place,
            content_end,
            hash,
        } = end;
        Ok(Survey {
            journal_id,
            index,
            place,
            content_end,
            hash,
            recovered,
            unsynced,
            discard,
        })
    }

    /// Full segments of which something may be in the page cache only: a record, or the pad that closes
    /// them, which was written with the first record after them.
    fn unsynced(&self, tail: u64) -> Vec<u64> {
        let indices = (self.first..tail).zip(&self.next_sequences);
        indices
            .filter(|(_, next)| **next > self.watermark)
            .map(|(index, _)| index)
            .collect()
    }

    /// Looks for proof, beyond the broken place, that what ought to be there had been durable.
    fn judge(&mut self, broken: &Broken) -> Result<Cut, Problem> {
        let Broken {
            segment,
            place,
            what,
        } = broken;
        let sequence = place.sequence;
        let mut found = match place.offset {
            LINK_OFFSET => evidence::throughout(segment, sequence),
            _ => evidence::behind(segment, *place),
        };
        for index in segment.label.index + 1..=self.last {
            if found.watermark >= sequence {
                break;
            }
            let later = self.open(index)?;
            found.join(evidence_of(&later, sequence)?);
        }
        if found.watermark >= sequence {
            let missing = if place.offset == LINK_OFFSET {
                Fault::NoLink
            } else {
                Fault::Gap
            };
            return Err(segment
                .damage(place.offset, sequence, what.unwrap_or(missing))
                .into());
        }
        let mut bytes = length(segment.map().non_zero(place.offset..segment.map().len()));
        for index in segment.label.index + 1..=self.last {
            let later = self.open(index)?;
            bytes += length(later.map().non_zero(FRAMES_OFFSET..later.map().len()));
        }
        let tail = self.end.as_ref().map_or(0, |end| end.index);
        Ok(Cut {
            path: segment.path.clone(),
            offset: place.offset as u64,
            sequence,
            bytes,
            records: found.records,
            segments_discarded: self.last - tail,
            what: *what,
        })
    }
}

fn evidence_of(later: &Segment, sequence: u64) -> Result<Evidence, Problem> {
    let mut found = evidence::throughout(later, sequence);
    match later.link() {
        LinkState::Good(link) => found.join(Evidence {
            records: 0,
            watermark: link.watermark,
        }),
        LinkState::Absent => {}
        LinkState::Bad => return Err(later.damage(LINK_OFFSET, 0, Fault::Link).into()),
    }
    Ok(found)
}

fn length(range: Option<(usize, usize)>) -> u64 {
    range.map_or(0, |(start, end)| (end - start) as u64)
}

/// Makes the files what the survey said they are, durably, and opens the tail segment for writing.
pub(crate) fn repair(storage: &dyn Storage, survey: &Survey) -> Result<Segment, Problem> {
    for index in survey.discard.iter().rev() {
        discard(storage, *index)?;
    }
    for index in &survey.unsynced {
        let segment = Segment::open(storage, *index, Access::Write)?;
        let length = segment.map().len();
        sync_anew(&segment, length)?;
    }
    let tail = Segment::open(storage, survey.index, Access::Write)?;
    // SAFETY: the lock is ours, and by the survey no valid frame begins at or after the place.
    unsafe { tail.map().clear(survey.place.offset..tail.map().len()) };
    sync_anew(&tail, survey.place.offset)?;
    sync_names(storage)?;
    Ok(tail)
}

/// A segment that nothing proves becomes the spare, which is zeroed before it is used. Names go one
/// by one, so that a crash in between leaves no gap.
fn discard(storage: &dyn Storage, index: u64) -> Result<(), Problem> {
    let name = format::segment_name(index);
    storage.rename(&name, SPARE_NAME).map_err(|error| {
        IoFault::new(
            "rename",
            storage.path_of(&name),
            error,
            "check the directory's permissions",
        )
    })?;
    sync_names(storage)
}

/// What the survey believed may have been read from pages that an earlier process failed to sync. From
/// `written` on everything is zero, and dirty where it was not.
fn sync_anew(segment: &Segment, written: usize) -> Result<(), Problem> {
    let file: &dyn SegmentFile = &*segment.file;
    file.sync_anew(0..written)
        .and_then(|()| file.sync(written..segment.map().len()))
        .map_err(|error| IoFault::new("sync", &segment.path, error, "check the disk").into())
}

pub(crate) fn sync_names(storage: &dyn Storage) -> Result<(), Problem> {
    storage
        .sync_names()
        .map_err(|error| IoFault::new("sync", storage.path_of(""), error, "check the disk").into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::MemoryStorage;
    use crate::{Options, Writer};

    /// A segment of 1 MiB, every record of it committed alone, and two records more than its last frames
    /// need to prove one another.
    fn journal() -> MemoryStorage {
        let storage = MemoryStorage::new();
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options).unwrap();
        let first = writer.segment_path().to_owned();
        let mut behind = 0;
        while behind < 2 {
            let sequence = writer.next_sequence();
            let length = sequence * 37 % 401;
            let payload: Vec<u8> = (0..length).map(|byte| (byte ^ sequence) as u8).collect();
            writer.append(&payload).unwrap();
            writer.commit().unwrap();
            behind += u64::from(writer.segment_path() != first);
        }
        writer.close().unwrap();
        storage
    }

    /// Every byte of every frame in a full segment, three masks each: recovery stands at the frame (what
    /// comes before it is as it was), finds it broken, finds the proof that it had been durable, and
    /// refuses with file, offset and sequence.
    #[test]
    fn every_flipped_byte_below_the_watermark_is_refused_with_its_place() {
        let storage = journal();
        let mut checked = Vec::new();
        let found = survey(&storage, 1, &mut |sequence| checked.push(sequence));
        let sound = found.unwrap().unwrap().recovered;
        assert_eq!((checked.len(), checked[1]), (2, sound.last_sequence));
        assert_eq!((sound.segments, sound.cut), (2, None));
        let segment = Segment::open(&storage, 1, Access::Write).unwrap();
        let map = segment.map();
        let (mut place, mut flips) = (segment.first_place(1), 0);
        let mut walk = Walk::new(&storage, &Present::judge(&storage, &[1, 2]).unwrap());
        (walk.index, walk.journal_id) = (1, Some(segment.label.journal_id));
        while let Look::Frame(header) = segment::look(map, segment.key, place) {
            let next = place.after(&header);
            // Of a pad the header counts: its filler is zero by definition, and verify's affair.
            for offset in place.offset..place.offset + header.covered_bytes() {
                // SAFETY: nobody else looks at this memory.
                let sound = unsafe { map.published(offset..offset + 1)[0] };
                for mask in [0x01, 0x80, 0xFF] {
                    // SAFETY: as above.
                    unsafe { map.put(offset, &[sound ^ mask]) };
                    let stop = segment::look(map, segment.key, place);
                    let what = walk.breaks(&stop, &segment, place);
                    let broken = Broken {
                        segment: Segment::open(&storage, 1, Access::Follow).unwrap(),
                        place,
                        what: what.unwrap_or_else(|| panic!("a flip at {offset} goes unseen")),
                    };
                    let Err(Problem::Defect(Defect::Damaged(damage))) = walk.judge(&broken) else {
                        panic!("a flip with {mask:#x} at {offset} is not refused");
                    };
                    let found = (damage.path, damage.offset, damage.sequence);
                    assert_eq!(
                        found,
                        (segment.path.clone(), place.offset as u64, place.sequence)
                    );
                    flips += 1;
                }
                // SAFETY: as above.
                unsafe { map.put(offset, &[sound]) };
            }
            place = next;
        }
        assert_eq!(place.offset, 1 << 20, "the segment is full");
        println!(
            "{flips} flips below the watermark in a journal of 1 MiB: all refused with their place"
        );
        assert!(flips > 3_000_000);
    }
}
