//! How a writer is set up.

use crate::error::OpenError;
use crate::format::{
    self, PAGE_BYTES, RECORD_BYTES_DEFAULT, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX,
};

/// How a [`Writer`](crate::Writer) is set up. A journal can be continued with other options: every
/// segment carries its own.
///
/// ```
/// use millrace_journal::{Durability, Options};
/// let options = Options { durability: Durability::Process, ..Options::default() };
/// assert_eq!(options.segment_bytes, 64 << 20);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of new segments: a multiple of 4096, 1 MiB to 2 GiB.
    pub segment_bytes: u64,
    /// What a commit promises.
    pub durability: Durability,
    /// The caller's release, written into every new segment. A journal with a segment of a later one is
    /// refused.
    pub writer_release: u16,
    /// The longest record. Lowered to what a segment can hold.
    pub record_bytes_max: usize,
    /// Recovery reads every frame of the segments that hold this sequence or a later one; of
    /// earlier segments only the headers. 1, the default, reads everything. A node that starts from
    /// a snapshot has no use for more than what follows it.
    pub check_from: u64,
    /// Who keeps the next segment ready.
    pub background: Background,
}

/// Who does what an append must not wait for: making the next segment, syncing and unmapping full ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// A thread of the writer's own.
    Thread,
    /// Whoever owns the writer, by [`Writer::work_in_background`](crate::Writer::work_in_background), on
    /// one thread with everything else: for simulations.
    ByHand,
}

/// What a successful commit promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The records survive the end of this process, however abrupt: they are in the page cache.
    Process,
    /// The records survive a power loss: they are on the disk.
    Disk,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            durability: Durability::Disk,
            writer_release: 0,
            record_bytes_max: RECORD_BYTES_DEFAULT,
            check_from: 1,
            background: Background::Thread,
        }
    }
}

impl Options {
    /// Checks the options against the limits; storages that are not a disk may have smaller
    /// segments.
    pub(crate) fn check(&self, segment_bytes_min: u64) -> Result<(), OpenError> {
        let limits = segment_bytes_min..=SEGMENT_BYTES_MAX;
        if !limits.contains(&self.segment_bytes)
            || !self.segment_bytes.is_multiple_of(PAGE_BYTES as u64)
        {
            let what = format!(
                "segment_bytes is {}, it must be a multiple of {PAGE_BYTES} from {segment_bytes_min} to {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            );
            return Err(OpenError::Options { what });
        }
        Ok(())
    }

    /// The longest record that new segments take.
    pub(crate) fn record_limit(&self) -> usize {
        self.record_bytes_max
            .min(format::payload_bytes_max(self.segment_bytes))
    }
}
