//! Frames beyond a broken place, and what they prove.
//!
//! Past a frame that does not verify, neither the next frame's offset nor the checksum it is
//! chained to is certain. So every aligned offset is tried, and a candidate is believed when its
//! checksum follows from one that can be known:
//!
//! - the checksum stored in the broken frame (the damage is elsewhere in it), or the one it ought
//!   to have (the damage is in the checksum itself);
//! - or when the frame **behind** the candidate is chained to the candidate's checksum: two in a
//!   row are no accident.
//!
//! A payload that imitates frames does not get far: the segment's random key is part of every sum.
//! What stays out of reach is a single last frame behind a frame whose header is destroyed
//! altogether.

use crate::format::{FRAME_ALIGN, FRAMES_OFFSET, FrameHeader, KIND_DATA};
use crate::segment::{self, Look, Place, Segment};

/// What lies beyond a broken place. A search ends with the first proof: the records are counted to
/// the end only where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Valid records.
    pub records: u64,
    /// The highest watermark that one of them carries.
    pub watermark: u64,
}

impl Evidence {
    /// Adds what another search found.
    pub fn join(&mut self, other: Evidence) {
        self.records += other.records;
        self.watermark = self.watermark.max(other.watermark);
    }

    fn admit(&mut self, header: &FrameHeader) {
        self.records += u64::from(header.kind == KIND_DATA);
        self.watermark = self.watermark.max(header.watermark);
    }
}

/// Searches a segment behind the broken place.
pub(crate) fn behind(segment: &Segment, broken: Place) -> Evidence {
    let from = broken.offset + FRAME_ALIGN;
    search(segment, from, seeds_at(segment, broken), broken.sequence)
}

/// Searches a whole segment that comes after the broken place; `sequence` is the one expected
/// there.
pub(crate) fn throughout(segment: &Segment, sequence: u64) -> Evidence {
    search(segment, FRAMES_OFFSET, [segment.label.crc; 2], sequence)
}

fn search(segment: &Segment, from: usize, mut seeds: [u32; 2], sequence: u64) -> Evidence {
    let mut evidence = Evidence::default();
    let mut offset = from;
    while offset < segment.map().len() && evidence.watermark < sequence {
        let Some(mut place) = believable(segment, offset, seeds, sequence, &mut evidence) else {
            offset += FRAME_ALIGN;
            continue;
        };
        while let Look::Frame(header) = segment::look(segment.map(), segment.key, place) {
            evidence.admit(&header);
            place = place.after(&header);
            if evidence.watermark >= sequence {
                return evidence;
            }
        }
        if place.offset < segment.map().len() {
            seeds = seeds_at(segment, place);
        }
        offset = place.offset;
    }
    evidence
}

/// The place behind the frame at `offset`, if that frame is to be believed. Its watermark counts
/// only when its own checksum was verified.
fn believable(
    segment: &Segment,
    offset: usize,
    seeds: [u32; 2],
    sequence: u64,
    evidence: &mut Evidence,
) -> Option<Place> {
    let header = plausible(segment, offset, sequence)?;
    let place = Place {
        offset,
        previous_crc: 0,
        sequence: header.sequence,
    }
    .after(&header);
    let (map, key) = (segment.map(), segment.key);
    if seeds
        .iter()
        .any(|seed| segment::chains_from(map, key, offset, &header, *seed))
    {
        evidence.admit(&header);
        return Some(place);
    }
    if matches!(segment::look(map, key, place), Look::Frame(_)) {
        evidence.records += u64::from(header.kind == KIND_DATA);
        return Some(place);
    }
    None
}

/// A header that could be one, by everything but its checksum.
fn plausible(segment: &Segment, offset: usize, sequence: u64) -> Option<FrameHeader> {
    let words = segment.map().load_header(offset);
    let header = FrameHeader::from_words(words);
    let near = header
        .sequence
        .checked_sub(sequence)
        .is_some_and(|ahead| ahead <= u64::from(u32::MAX));
    let shaped = words[0] != 0 && segment::shape_fault(segment.map(), offset, &header).is_none();
    (shaped && near && header.watermark < header.sequence).then_some(header)
}

/// What the frame behind a broken one may be chained to.
fn seeds_at(segment: &Segment, broken: Place) -> [u32; 2] {
    let words = segment.map().load_header(broken.offset);
    let header = FrameHeader::from_words(words);
    if words[0] == 0 || segment::shape_fault(segment.map(), broken.offset, &header).is_some() {
        return [header.crc; 2];
    }
    let (map, key) = (segment.map(), segment.key);
    let rightful = segment::frame_crc(map, key, broken.offset, &header, broken.previous_crc);
    [header.crc, rightful]
}

/// The next place behind a broken one from which frames can be read on, their payloads checked.
pub(crate) fn next_believable(segment: &Segment, broken: Place) -> Option<Place> {
    let from = broken.offset + FRAME_ALIGN;
    readable(segment, from, seeds_at(segment, broken), broken.sequence)
}

/// The first place of a segment from which frames can be read, whatever its link says.
pub(crate) fn first_believable(segment: &Segment, sequence: u64) -> Option<Place> {
    readable(segment, FRAMES_OFFSET, [segment.label.crc; 2], sequence)
}

fn readable(segment: &Segment, from: usize, seeds: [u32; 2], sequence: u64) -> Option<Place> {
    let (map, key) = (segment.map(), segment.key);
    (from..map.len()).step_by(FRAME_ALIGN).find_map(|offset| {
        let header = plausible(segment, offset, sequence)?;
        let known = seeds
            .into_iter()
            .find(|seed| segment::chains_from(map, key, offset, &header, *seed));
        let place = Place {
            offset,
            previous_crc: known.unwrap_or(0),
            sequence: header.sequence,
        };
        if known.is_some() {
            return Some(place);
        }
        let next = place.after(&header);
        matches!(segment::look(map, key, next), Look::Frame(_)).then_some(next)
    })
}
