//! Reading around damage: every record that can still be believed, and a word about each place where
//! something is not what was written.
//!
//! A [`Reader`](crate::Reader) stops at damage, and a node must. But an operator who has to find out
//! what a broken file held wants to see the rest. Past a broken frame the next one is looked for as
//! recovery looks for proofs: it is believed when its checksum follows from the broken frame's, or when
//! its successor's follows from its own; in the second case its payload cannot be checked, and it is
//! left out. Nothing here decides anything, and nothing is written.

use std::sync::Arc;

use crate::archived;
use crate::error::{Defect, Fault, Problem, ReadError};
use crate::evidence;
use crate::format::{FRAME_HEADER_BYTES, FrameHeader, KIND_DATA, LINK_OFFSET};
use crate::reader::Record;
use crate::segment::{self, LinkState, Look, Place, Segment};
use crate::storage::{Access, MappedFiles, Storage};

/// Reads what is left of a journal, front to back.
pub struct Salvage {
    storage: Arc<dyn Storage>,
    /// Whose records are believed: the journal that most segments are of.
    journal_id: Option<[u8; 16]>,
    /// The segments still to come.
    indices: std::vec::IntoIter<u64>,
    /// The segment before the current one.
    previous: u64,
    segment: Option<Segment>,
    place: Place,
    torn_tail: bool,
}

/// What a step of [`Salvage::next`] came to.
#[derive(Debug)]
pub enum Salvaged<'a> {
    /// A record whose checksum is right.
    Record(Record<'a>),
    /// A place that is not what was written. The next record, if there is one, may have a sequence
    /// further on.
    Lost(Defect),
}

impl Salvage {
    /// What is left of the journal in a directory, from the segment on that holds `from`.
    pub fn open(files: impl Into<MappedFiles>, from: u64) -> Result<Salvage, ReadError> {
        Salvage::open_in(Arc::new(files.into()), from)
    }

    /// As [`Salvage::open`], on any storage.
    pub fn open_in(storage: Arc<dyn Storage>, from: u64) -> Result<Salvage, ReadError> {
        let (indices, _) = segment::list(&*storage)?;
        let begins_before = |index: &u64| {
            let segment = Segment::open(&*storage, *index, Access::Follow).ok()?;
            match segment.link() {
                LinkState::Good(link) => Some(link.first_sequence <= from),
                LinkState::Absent | LinkState::Bad => None,
            }
        };
        let start = indices
            .iter()
            .rposition(|index| begins_before(index) == Some(true));
        let rest = indices[start.unwrap_or(0)..].to_vec();
        let previous = rest
            .first()
            .filter(|_| start.is_some())
            .map_or(0, |first| first - 1);
        Ok(Salvage {
            journal_id: most_common_journal(&*storage, &indices),
            storage,
            indices: rest.into_iter(),
            previous,
            segment: None,
            place: Place {
                offset: 0,
                previous_crc: 0,
                sequence: 1,
            },
            torn_tail: false,
        })
    }

    /// The next record or the next broken place; `None` at the end. Only the system's refusals are errors.
    #[allow(
        clippy::should_implement_trait,
        reason = "the record borrows from the salvage: a lending iterator"
    )]
    pub fn next(&mut self) -> Result<Option<Salvaged<'_>>, ReadError> {
        loop {
            let Some(segment) = &self.segment else {
                match self.turn_page()? {
                    Page::Turned => continue,
                    Page::Lost(defect) => return Ok(Some(Salvaged::Lost(defect))),
                    Page::Last => return Ok(None),
                }
            };
            let place = self.place;
            let fault = match segment::look(segment.map(), segment.key, place) {
                Look::Frame(header) => {
                    self.place = place.after(&header);
                    if header.kind == KIND_DATA {
                        return Ok(Some(Salvaged::Record(self.record(place.offset, &header))));
                    }
                    continue;
                }
                Look::End => {
                    self.segment = None;
                    continue;
                }
                Look::Empty => Fault::Gap,
                Look::Bad(fault) => fault,
            };
            let damage = segment.damage(place.offset, place.sequence, fault);
            if let Some(next) = evidence::next_believable(segment, place) {
                self.place = next;
                return Ok(Some(Salvaged::Lost(Defect::Damaged(damage))));
            }
            let is_last = self.indices.len() == 0;
            let map = segment.map();
            self.torn_tail = is_last && map.non_zero(place.offset..map.len()).is_some();
            self.segment = None;
            if is_last {
                return Ok(None);
            }
            return Ok(Some(Salvaged::Lost(Defect::Damaged(damage))));
        }
    }

    /// Whether the end was reached at bytes that are no record, with nothing to be believed behind them: a
    /// torn tail, or damage in the last records.
    pub fn torn_tail(&self) -> bool {
        self.torn_tail
    }

    /// Opens the next segment, or says what is wrong with it.
    fn turn_page(&mut self) -> Result<Page, ReadError> {
        let Some(&index) = self.indices.as_slice().first() else {
            return Ok(Page::Last);
        };
        if index > self.previous + 1 {
            self.previous = index - 1;
            let path = self
                .storage
                .path_of(&crate::format::segment_name(index - 1));
            let missing = Defect::MissingSegment { path };
            return match archived::gone(&*self.storage, index - 1, missing) {
                Problem::Defect(defect) => Ok(Page::Lost(defect)),
                problem => Err(problem.into()),
            };
        }
        self.indices.next();
        self.previous = index;
        let segment = match Segment::open(&*self.storage, index, Access::Follow) {
            Ok(segment) => segment,
            Err(Problem::Defect(defect)) => return Ok(Page::Lost(defect)),
            Err(problem) => return Err(problem.into()),
        };
        if Some(segment.label.journal_id) != self.journal_id {
            let (path, what) = (segment.path, "a segment of another journal");
            return Ok(Page::Lost(Defect::ForeignFile { path, what }));
        }
        let fault = match segment.link() {
            LinkState::Good(link) => {
                let sequence = link.first_sequence;
                self.place = segment.first_place(sequence);
                self.segment = Some(segment);
                return Ok(Page::Turned);
            }
            LinkState::Absent => Fault::NoLink,
            LinkState::Bad => Fault::Link,
        };
        let damage = segment.damage(LINK_OFFSET, self.place.sequence, fault);
        // Its frames may be sound all the same.
        let readable = evidence::first_believable(&segment, self.place.sequence);
        let is_last = self.indices.len() == 0;
        if readable.is_none() && is_last && index > 1 && matches!(fault, Fault::NoLink) {
            // The last roll before a power loss, taken back by the next start.
            return Ok(Page::Last);
        }
        if let Some(place) = readable {
            self.place = place;
            self.segment = Some(segment);
        }
        Ok(Page::Lost(Defect::Damaged(damage)))
    }

    fn record(&self, offset: usize, header: &FrameHeader) -> Record<'_> {
        let segment = self.segment.as_ref().expect("a segment is open");
        let start = offset + FRAME_HEADER_BYTES;
        // SAFETY: the frame verified, so it is published and never written again.
        let payload = unsafe {
            segment
                .map()
                .published(start..start + header.length as usize)
        };
        Record {
            sequence: header.sequence,
            watermark: header.watermark,
            segment: &segment.path,
            offset: offset as u64,
            payload,
        }
    }
}

/// The journal that most of these segments carry the id of; of the earliest where two are equal.
fn most_common_journal(storage: &dyn Storage, indices: &[u64]) -> Option<[u8; 16]> {
    let mut counts: Vec<([u8; 16], usize)> = Vec::new();
    for index in indices {
        let Ok(segment) = Segment::open(storage, *index, Access::Follow) else {
            continue;
        };
        let id = segment.label.journal_id;
        match counts.iter_mut().find(|(known, _)| *known == id) {
            Some((_, count)) => *count += 1,
            None => counts.push((id, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    let first = counts.iter().find(|(_, count)| *count == most)?;
    Some(first.0)
}

enum Page {
    Turned,
    Lost(Defect),
    Last,
}

impl std::fmt::Debug for Salvage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Salvage")
            .field("segment", &self.previous)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
