//! Records that were checked together, and can be looked at in any order afterwards.
//!
//! [`Reader::next`](crate::Reader::next) lends one record at a time. Whoever wants to see what comes
//! behind it, or hands records to another thread, takes them by batches of one segment. The batch keeps that segment mapped, so nothing is copied.

use std::ops::Range;
use std::sync::Arc;

use crate::format::{FRAME_HEADER_BYTES, FrameHeader};
use crate::reader::Record;
use crate::segment::Segment;

/// Records of one segment, in order. Filled by [`Reader::fill`](crate::Reader::fill), again and
/// again: it keeps its memory.
///
/// ```
/// use millrace_journal::{Batch, Options, Reader, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let options = Options { segment_bytes: 1 << 20, ..Options::default() };
/// let (mut writer, _) = Writer::open(dir.path(), options)?;
/// for text in ["one", "two", "three"] {
///     writer.append(text.as_bytes())?;
/// }
/// let mut reader = Reader::open(dir.path())?;
/// let mut batch = Batch::default();
/// reader.fill(&mut batch, 1 << 20, 2)?;
/// assert_eq!((batch.len(), batch.record(1).payload), (2, &b"two"[..]));
/// assert_eq!(&batch.bytes()[batch.range(1)], b"two");
/// reader.fill(&mut batch, 1 << 20, u64::MAX)?;
/// assert_eq!((batch.len(), batch.record(0).sequence), (1, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Default)]
pub struct Batch {
    segment: Option<Arc<Segment>>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    sequence: u64,
    watermark: u64,
    /// Where the frame begins.
    offset: usize,
    /// Bytes of its payload.
    length: usize,
}

impl Entry {
    fn payload(&self) -> Range<usize> {
        let start = self.offset + FRAME_HEADER_BYTES;
        start..start + self.length
    }
}

impl Batch {
    /// Records in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One of its records.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn record(&self, at: usize) -> Record<'_> {
        let entry = &self.entries[at];
        let segment = self.segment.as_ref().expect("a record has a segment");
        // SAFETY: the frame verified before `push`, so it is published and never written again.
        let payload = unsafe { segment.map().published(entry.payload()) };
        Record {
            sequence: entry.sequence,
            watermark: entry.watermark,
            segment: &segment.path,
            offset: entry.offset as u64,
            payload,
        }
    }

    /// The bytes of the segment from its first record's payload to the end of the last one's, frame
    /// headers between them included: where many records are looked at, one slice of them all.
    pub fn bytes(&self) -> &[u8] {
        let (Some(segment), Some(first), Some(last)) =
            (&self.segment, self.entries.first(), self.entries.last())
        else {
            return &[];
        };
        // SAFETY: as in `record`, and what lies between two records of a segment is part of the first
        // one's slot, published with it.
        unsafe {
            segment
                .map()
                .published(first.payload().start..last.payload().end)
        }
    }

    /// Where a record's payload lies in [`Batch::bytes`].
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub fn range(&self, at: usize) -> Range<usize> {
        let base = self.entries[0].payload().start;
        let payload = self.entries[at].payload();
        payload.start - base..payload.end - base
    }

    /// Forgets its records and lets go of their segment.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.segment = None;
    }

    /// Begins anew, in this segment.
    pub(crate) fn begin(&mut self, segment: &Arc<Segment>) {
        self.entries.clear();
        if !self
            .segment
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, segment))
        {
            self.segment = Some(segment.clone());
        }
    }

    /// Adds a record whose frame verified.
    #[inline]
    pub(crate) fn push(&mut self, offset: usize, header: &FrameHeader) {
        self.entries.push(Entry {
            sequence: header.sequence,
            watermark: header.watermark,
            offset,
            length: header.length as usize,
        });
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sequence = self.entries.first().map(|entry| entry.sequence);
        f.debug_struct("Batch")
            .field("first_sequence", &sequence)
            .field("records", &self.entries.len())
            .finish_non_exhaustive()
    }
}
