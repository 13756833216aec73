//! The end of the journal in memory: where the next frame goes, and the only code that writes
//! frames.
//!
//! **Invariant**: everything at and after `offset` is zero (but for a record in the making), and
//! nothing there is published. A fresh spare is zeroed, recovery zeroes what it cuts, and only this
//! file writes after that.

use std::sync::Arc;

use crate::format::{self, FRAME_HEADER_BYTES, FrameHeader};
use crate::mapping::Mapping;

/// The tail of the current segment.
#[derive(Debug)]
pub(crate) struct Tail {
    map: Arc<Mapping>,
    key: u32,
    previous_crc: u32,
    offset: usize,
    /// Frames may be written up to here without asking; never past the segment's end.
    limit: usize,
}

impl Tail {
    /// The tail of a segment whose valid frames end at `offset` with this checksum. Nothing is
    /// allowed yet.
    ///
    /// # Safety
    /// The mapping is writable, this process holds the journal's lock and no other tail of the
    /// segment, and from `offset` on it is zero.
    pub unsafe fn new(map: Arc<Mapping>, key: u32, previous_crc: u32, offset: usize) -> Tail {
        Tail {
            map,
            key,
            previous_crc,
            offset,
            limit: 0,
        }
    }

    /// Where the next frame begins.
    #[inline]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The segment's memory.
    pub fn map(&self) -> &Mapping {
        &self.map
    }

    /// Bytes from the tail to the segment's end.
    pub fn room(&self) -> usize {
        self.map.len() - self.offset
    }

    /// True when a slot may be written now.
    #[inline]
    pub fn allows(&self, slot: usize) -> bool {
        self.offset + slot <= self.limit
    }

    /// Allows frames up to `limit`, or to the segment's end.
    pub fn allow(&mut self, limit: usize) {
        self.limit = limit.min(self.map.len());
    }

    /// Writes and publishes a whole frame. A pad has no payload here: its filler is zero already.
    #[inline]
    pub fn write(&mut self, header: FrameHeader, payload: &[u8]) {
        self.put(0, payload);
        self.publish(header);
    }

    /// Writes a piece of the payload of the frame in the making, `at` bytes from the payload's
    /// beginning.
    #[inline]
    pub fn put(&mut self, at: usize, piece: &[u8]) {
        // SAFETY: at and after `offset` nothing is published, and the mapping is writable (both by
        // `new`).
        unsafe { self.map.put(self.offset + FRAME_HEADER_BYTES + at, piece) };
    }

    /// Publishes the frame whose payload is in place: the rest of the header, then length and
    /// checksum at once.
    #[inline]
    pub fn publish(&mut self, mut header: FrameHeader) {
        let (at, end) = (self.offset, self.offset + header.slot_bytes());
        let seed = format::crc_seed(self.previous_crc, self.key, header.length);
        let [_, sequence, watermark, rest] = header.words();
        let covered = at + 8..at + header.covered_bytes();
        // SAFETY: at and after `offset` nothing is published and nobody else writes there (by
        // `new`), so the stores are in order and the slice is stable while it is summed.
        unsafe {
            self.map.put(
                at + 8,
                zerocopy::IntoBytes::as_bytes(&[sequence, watermark, rest]),
            );
            header.crc = format::crc(seed, self.map.published(covered));
            self.map.publish(at, header.words()[0]);
        }
        self.previous_crc = header.crc;
        self.offset = end;
    }
}
