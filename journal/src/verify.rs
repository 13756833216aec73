//! Checks every byte of a journal: no flipped bit goes unseen.
//!
//! Labels, links and frames have checksums; what is between them must be zero; each segment's link
//! must hold the hash of the segment before; sequences must follow one another. That leaves no byte
//! of a segment unchecked. The spare holds nothing yet and is not looked at.

use crate::archived::{Archived, Present};
use crate::chain::ContentHash;
use crate::error::{Damage, Defect, Fault, Problem, ReadError};
use crate::format::{
    FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, KIND_DATA, KIND_PAD, LINK_OFFSET, Label, Link,
};
use crate::reader;
use crate::segment::{self, Look, Place, Segment};
use crate::storage::{MappedFiles, Storage};

/// Bytes between two calls of the progress function.
const PROGRESS_BYTES: usize = 1 << 20;

/// What [`verify`] found to be in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Records.
    pub records: u64,
    /// Bytes in use, headers of segments and frames included.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Where the history before them ends, if segments were archived: the first one here continues it.
    pub archived: Option<Archived>,
    /// The sequence that the first record here has or will have.
    pub begins_at: u64,
    /// The first record's sequence here, or 0 in an empty journal.
    pub first_sequence: u64,
    /// The last record's sequence, 0 in an empty journal.
    pub last_sequence: u64,
    /// The fingerprint of the whole history; see [`Writer::chain_head`](crate::Writer::chain_head).
    pub chain_head: [u8; 32],
    /// True when a writer held the lock: records may have been added meanwhile, and the unwritten
    /// rest of the last segment was not checked for zeros.
    pub live: bool,
}

/// Reads the whole journal in a directory and checks every byte. `progress` is told bytes done and
/// bytes in all, about once per MiB.
///
/// Damage is [`ReadError::Defect`] with [`Defect::Damaged`], which says where. A torn tail that no
/// writer has cut yet counts as damage: open the journal first.
pub fn verify(
    files: impl Into<MappedFiles>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, ReadError> {
    verify_in(&files.into(), progress)
}

/// As [`verify`], on any storage.
pub fn verify_in(
    storage: &dyn Storage,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, ReadError> {
    let present = reader::present(storage)?;
    reader::warm(storage, present.last)?;
    let live = storage.is_locked();
    let mut pass = Pass::new(storage, progress, present);
    pass.begin()?;
    for index in present.first..=present.last {
        pass.segment(index)?;
    }
    Ok(pass.verified(live || storage.is_locked()))
}

struct Pass<'a> {
    storage: &'a dyn Storage,
    progress: &'a mut dyn FnMut(u64, u64),
    present: Present,
    last: u64,
    journal_id: Option<[u8; 16]>,
    first_sequence: u64,
    sequence: u64,
    watermark: u64,
    chain: [u8; 32],
    bytes: u64,
    bytes_total: u64,
}

impl<'a> Pass<'a> {
    fn new(
        storage: &'a dyn Storage,
        progress: &'a mut dyn FnMut(u64, u64),
        present: Present,
    ) -> Pass<'a> {
        let (sequence, watermark, bytes, bytes_total) = (1, 0, 0, 0);
        Pass {
            storage,
            progress,
            present,
            last: present.last,
            journal_id: None,
            first_sequence: 1,
            sequence,
            watermark,
            chain: [0; 32],
            bytes,
            bytes_total,
        }
    }

    /// Takes from the note what the first segment must continue. Of one that was given back alone, with
    /// others before it missing, the word of its link is all there is.
    fn begin(&mut self) -> Result<(), Problem> {
        if self.present.first == 1 {
            return Ok(());
        }
        let (segment, link) = reader::open_linked(self.storage, self.present.first, self.last)?;
        if let Some(archived) = &self.present.before {
            reader::refuse_others(&segment, &link, archived)?;
        }
        (self.first_sequence, self.chain) = (link.first_sequence, link.chain);
        self.sequence = link.first_sequence;
        Ok(())
    }

    fn segment(&mut self, index: u64) -> Result<(), Problem> {
        let (segment, link) = reader::open_linked(self.storage, index, self.last)?;
        self.bytes_total = self.present.count() * segment.label.segment_bytes;
        let journal_id = *self.journal_id.get_or_insert(segment.label.journal_id);
        if segment.label.journal_id != journal_id {
            return Err(Defect::ForeignFile {
                path: segment.path,
                what: "a segment of another journal",
            }
            .into());
        }
        self.header(&segment, &link)?;
        let content_end = self.frames(&segment, segment.first_place(self.sequence))?;
        // SAFETY: every frame up to here was valid, and the header page is written before a segment
        // is named.
        self.chain = unsafe { ContentHash::default().upto(segment.map(), content_end) };
        self.bytes += content_end as u64;
        Ok(())
    }

    fn header(&mut self, segment: &Segment, link: &Link) -> Result<(), Damage> {
        let link_end = LINK_OFFSET + size_of::<Link>();
        self.zero(segment, size_of::<Label>(), LINK_OFFSET)?;
        self.zero(segment, link_end, FRAMES_OFFSET)?;
        let fault = if link.first_sequence != self.sequence {
            Fault::FirstSequence(link.first_sequence)
        } else if link.chain != self.chain {
            Fault::Chain
        } else if link.watermark < self.watermark || link.watermark >= link.first_sequence {
            Fault::Watermark(link.watermark)
        } else if segment.label.reserved != [0; 28] || link.reserved != [0; 12] {
            Fault::NotZero
        } else {
            self.watermark = link.watermark;
            return Ok(());
        };
        Err(segment.damage(LINK_OFFSET, self.sequence, fault))
    }

    /// Checks the frames of a segment from a place on and what follows them; returns where its
    /// content ends.
    fn frames(&mut self, segment: &Segment, mut place: Place) -> Result<usize, Damage> {
        let mut content_end = place.offset;
        loop {
            match segment::look(segment.map(), segment.key, place) {
                Look::Frame(header) => {
                    content_end = self.frame(segment, place, &header)?;
                    place = place.after(&header);
                    self.sequence = place.sequence;
                }
                Look::Bad(fault) => {
                    return Err(segment.damage(place.offset, place.sequence, fault));
                }
                Look::Empty if segment.label.index < self.last => {
                    return Err(segment.damage(place.offset, place.sequence, Fault::Gap));
                }
                Look::Empty => return self.rest(segment, place).map(|()| content_end),
                Look::End => return Ok(content_end),
            }
        }
    }

    /// Checks what a valid checksum leaves open; returns where the frame's content ends.
    fn frame(
        &mut self,
        segment: &Segment,
        place: Place,
        header: &FrameHeader,
    ) -> Result<usize, Damage> {
        let payload = place.offset + FRAME_HEADER_BYTES;
        let end = place.offset + header.slot_bytes();
        let (filler, content_end) = match header.kind {
            KIND_PAD => (payload, payload),
            _ => (payload + header.length as usize, end),
        };
        self.zero(segment, filler, end)?;
        if header.watermark < self.watermark {
            return Err(segment.damage(
                place.offset,
                place.sequence,
                Fault::Watermark(header.watermark),
            ));
        }
        self.watermark = header.watermark;
        if place.offset / PROGRESS_BYTES != end / PROGRESS_BYTES {
            (self.progress)(self.bytes + end as u64, self.bytes_total);
        }
        debug_assert!(header.kind == KIND_DATA || content_end == payload);
        Ok(content_end)
    }

    /// The rest of the last segment, which nobody has written: unless somebody is writing.
    fn rest(&self, segment: &Segment, place: Place) -> Result<(), Damage> {
        match self.zero(segment, place.offset, segment.map().len()) {
            Err(_) if self.storage.is_locked() => Ok(()),
            verdict => verdict,
        }
    }

    /// Checks that a range holds zeros only.
    fn zero(&self, segment: &Segment, start: usize, end: usize) -> Result<(), Damage> {
        match segment.map().first_non_zero(start..end) {
            Some(offset) => Err(segment.damage(offset, self.sequence, Fault::NotZero)),
            None => Ok(()),
        }
    }

    fn verified(self, live: bool) -> Verified {
        (self.progress)(self.bytes, self.bytes);
        Verified {
            records: self.sequence - self.first_sequence,
            bytes: self.bytes,
            segments: self.present.count(),
            archived: self.present.before,
            begins_at: self.first_sequence,
            first_sequence: match self.sequence > self.first_sequence {
                true => self.first_sequence,
                false => 0,
            },
            last_sequence: self.sequence - 1,
            chain_head: self.chain,
            live,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::{Access, MemoryStorage};
    use crate::{Options, Writer};

    /// Segments of 1 MiB with records of 0 to 400 bytes: the first one full, another begun.
    fn journal() -> MemoryStorage {
        let storage = MemoryStorage::new();
        let options = Options {
            segment_bytes: 1 << 20,
            ..Options::default()
        };
        let (mut writer, _) = Writer::open_in(Arc::new(storage.clone()), options).unwrap();
        let first = writer.segment_path().to_owned();
        while writer.segment_path() == first {
            let sequence = writer.next_sequence();
            let payload: Vec<u8> = (0..sequence * 37 % 401)
                .map(|byte| (byte ^ sequence) as u8)
                .collect();
            writer.append(&payload).unwrap();
            writer.commit().unwrap();
        }
        writer.close().unwrap();
        storage
    }

    /// Both segments of it.
    fn two() -> Present {
        Present {
            first: 1,
            last: 2,
            before: None,
        }
    }

    /// Every byte of a 1 MiB segment, three masks each. The pass over a journal goes front to back, and
    /// what it says of a frame depends on nothing behind it: so for every byte it is resumed at the frame
    /// that holds the byte, instead of reading what comes before three million times.
    #[test]
    fn every_byte_of_a_mebibyte_flipped_with_three_masks_is_seen() {
        let storage = journal();
        verify_in(&storage, &mut |_, _| ()).unwrap();
        let segment = Segment::open(&storage, 1, Access::Write).unwrap();
        let mut flips = 0;
        let mut seen = |range: std::ops::Range<usize>, judge: &mut dyn FnMut() -> bool| {
            for offset in range {
                // SAFETY: nobody else looks at this memory.
                let sound = unsafe { segment.map().published(offset..offset + 1)[0] };
                for mask in [0x01, 0x80, 0xFF] {
                    // SAFETY: as above.
                    unsafe { segment.map().put(offset, &[sound ^ mask]) };
                    assert!(judge(), "a flip with {mask:#x} at {offset} goes unseen");
                    flips += 1;
                }
                // SAFETY: as above.
                unsafe { segment.map().put(offset, &[sound]) };
            }
        };
        let mut ignore = |_, _| ();
        seen(0..FRAMES_OFFSET, &mut || {
            let Ok((segment, link)) = reader::open_linked(&storage, 1, 2) else {
                return true;
            };
            Pass::new(&storage, &mut ignore, two())
                .header(&segment, &link)
                .is_err()
        });
        let (mut place, mut watermark) = (segment.first_place(1), 0);
        while let Look::Frame(header) = segment::look(segment.map(), segment.key, place) {
            let next = place.after(&header);
            seen(place.offset..next.offset, &mut || {
                let mut pass = Pass::new(&storage, &mut ignore, two());
                (pass.sequence, pass.watermark) = (place.sequence, watermark);
                pass.frames(&segment, place).is_err()
            });
            (place, watermark) = (next, header.watermark);
        }
        assert_eq!(place.offset, 1 << 20, "the segment is full");
        println!("{flips} flips in a journal of 1 MiB: all seen");
        assert_eq!(flips, 3 << 20);
        verify_in(&storage, &mut |_, _| ()).unwrap();
    }
}
