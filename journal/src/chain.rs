//! The hash of a segment's content, computed a piece at a time.
//!
//! BLAKE3 runs fastest over large aligned pieces (a tree of 1 KiB chunks, many at once), so the
//! writer feeds it [`PIECE_BYTES`] at a time from the mapped memory, which is still in the cache.
//! The content is everything from the file's first byte to the end of the last frame; of a pad only
//! its header counts, since the rest is zero by definition.

use crate::mapping::Mapping;

/// How much is fed at once. Tens of nanoseconds per small record on average, some ten microseconds
/// per piece.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// The running hash of one segment.
#[derive(Debug, Default)]
pub(crate) struct ContentHash {
    hasher: blake3::Hasher,
    fed: usize,
}

impl ContentHash {
    /// Bytes fed so far.
    pub fn fed(&self) -> usize {
        self.fed
    }

    /// Feeds the whole pieces that end at or before `end`.
    ///
    /// # Safety
    /// Everything before `end` is published.
    pub unsafe fn feed_pieces(&mut self, map: &Mapping, end: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.feed(map, end / PIECE_BYTES * PIECE_BYTES) };
    }

    /// The hash of everything before `end`; more can be fed afterwards.
    ///
    /// # Safety
    /// Everything before `end` is published, and `end` is not before what was fed.
    pub unsafe fn upto(&mut self, map: &Mapping, end: usize) -> [u8; 32] {
        // SAFETY: the caller's promise.
        let rest = unsafe {
            self.feed_pieces(map, end);
            map.published(self.fed..end)
        };
        *self.hasher.clone().update(rest).finalize().as_bytes()
    }

    /// # Safety
    /// As for [`ContentHash::feed_pieces`].
    unsafe fn feed(&mut self, map: &Mapping, upto: usize) {
        if upto > self.fed {
            // SAFETY: the caller's promise.
            self.hasher.update(unsafe { map.published(self.fed..upto) });
            self.fed = upto;
        }
    }
}
