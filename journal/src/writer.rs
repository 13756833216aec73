//! The writer: appends records, commits them, rolls from segment to segment.
//!
//! An append is a copy, a checksum and one store; it meets the world only where a segment ends. A
//! commit decides what may be acknowledged. One thread owns the writer; readers follow through the
//! mapped files and never talk to it.
//!
//! **Invariant**: after a failed sync the writer refuses everything. The kernel may have dropped
//! the pages and would report success for the next sync, so there is nothing to retry: the process
//! ends, and recovery finds out what the disk holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::{ContentHash, PIECE_BYTES};
use crate::error::{AppendError, CommitError, IoFault, OpenError, Stopped, is_no_space};
use crate::format::{
    self, FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, KIND_DATA, KIND_PAD, Link,
    SEGMENT_BYTES_MIN, SPARE_NAME,
};
use crate::open::{self, Opened, write_link};
use crate::options::{Durability, Options};
use crate::preparer::{Preparer, Retired, Spare};
use crate::probe::{self, SyncCost};
use crate::recovery::{Recovered, Survey};
use crate::storage::{MappedFiles, SegmentFile, Storage};
use crate::tail::Tail;

/// How far appends may run ahead of the content hash when nobody commits.
const HASH_LAG_BYTES: usize = 4 * PIECE_BYTES;

/// The one writer of a journal.
///
/// ```
/// use millrace_journal::{Options, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let options = Options { segment_bytes: 1 << 20, ..Options::default() };
/// let (mut writer, recovered) = Writer::open(&dir.path().join("journal"), options)?;
/// assert!(recovered.created);
/// let sequence = writer.append(b"debit alice, credit bob")?;
/// assert_eq!(writer.commit()?.durable_sequence, sequence);
/// writer.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer {
    // What an append touches comes first.
    tail: Tail,
    next_sequence: u64,
    /// The last sequence known to be on the disk; goes into every frame.
    watermark: u64,
    record_limit: usize,
    streamed: Option<Streamed>,

    hash: ContentHash,
    /// Where the content ends when a pad has closed the current segment.
    closed_at: Option<usize>,
    current: Current,
    /// Full segments that the next commit has to sync.
    full: Vec<Retired>,
    names_changed: bool,
    durable_sequence: u64,
    /// Bytes of frames written since the last commit.
    uncommitted_bytes: u64,
    stopped: Option<Stopped>,
    durability: Durability,
    segment_bytes: u64,

    storage: Arc<dyn Storage>,
    // Dropped in this order: the thread ends before the lock goes.
    preparer: Preparer,
    _lock: Box<dyn Send>,
    /// What goes with the lock, see [`Writer::hold`].
    held: Vec<Box<dyn Send>>,
}

/// The segment that is written to.
struct Current {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    index: u64,
    /// Bytes of it that are on the disk.
    synced: usize,
}

/// A record that is being put together.
struct Streamed {
    length: usize,
    put: usize,
}

/// What a commit made durable under the writer's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Every record up to this one may be acknowledged.
    pub durable_sequence: u64,
    /// Records that this commit added.
    pub records: u64,
    /// Bytes of frames that this commit added, pads included.
    pub bytes: u64,
}

impl Writer {
    /// Opens the journal in a directory (made if it is not there), recovers it and takes its lock.
    ///
    /// Starts a thread; open the writer before the calling thread is pinned to a core, or the
    /// thread shares it until it is put elsewhere ([`Writer::background_thread`]).
    pub fn open(dir: &Path, options: Options) -> Result<(Writer, Recovered), OpenError> {
        Writer::open_telling(dir, options, &mut |_| ())
    }

    /// As [`Writer::open`]. While the journal is checked, `checked` hears, segment by segment, up to which
    /// record everything is in order: a reader may read so far already, and what it reads stays, unless
    /// the journal is refused in the end. It hears 0 first, when the lock is taken.
    pub fn open_telling(
        dir: &Path,
        options: Options,
        checked: &mut dyn FnMut(u64),
    ) -> Result<(Writer, Recovered), OpenError> {
        options.check(SEGMENT_BYTES_MIN)?;
        let storage = MappedFiles::create(dir).map_err(|error| {
            OpenError::Io(IoFault::new(
                "create",
                dir,
                error,
                "check that its parent exists and may be written",
            ))
        })?;
        Writer::open_checked(Arc::new(storage), options, checked)
    }

    /// As [`Writer::open`], on any storage. Segments may be as small as two pages.
    pub fn open_in(
        storage: Arc<dyn Storage>,
        options: Options,
    ) -> Result<(Writer, Recovered), OpenError> {
        Writer::open_checked(storage, options, &mut |_| ())
    }

    fn open_checked(
        storage: Arc<dyn Storage>,
        options: Options,
        checked: &mut dyn FnMut(u64),
    ) -> Result<(Writer, Recovered), OpenError> {
        let opened = open::open(&storage, &options, checked)?;
        let recovered = opened.survey.recovered.clone();
        Ok((Writer::assemble(storage, options, opened), recovered))
    }

    fn assemble(storage: Arc<dyn Storage>, options: Options, opened: Opened) -> Writer {
        let Opened {
            survey,
            segment,
            preparer,
            lock,
        } = opened;
        let Survey {
            place,
            content_end,
            hash,
            index,
            ..
        } = survey;
        let map = segment.file.mapping().clone();
        // SAFETY: opened for writing under the lock, and recovery zeroed everything from the place
        // on.
        let tail = unsafe { Tail::new(map, segment.key, place.previous_crc, place.offset) };
        Writer {
            tail,
            next_sequence: place.sequence,
            watermark: place.sequence - 1,
            record_limit: options.record_limit(),
            streamed: None,
            hash,
            closed_at: (content_end < place.offset).then_some(content_end),
            current: Current {
                file: segment.file,
                path: segment.path,
                index,
                synced: place.offset,
            },
            full: Vec::new(),
            names_changed: false,
            durable_sequence: place.sequence - 1,
            uncommitted_bytes: 0,
            stopped: None,
            durability: options.durability,
            segment_bytes: options.segment_bytes,
            storage,
            preparer,
            _lock: lock,
            held: Vec::new(),
        }
    }

    /// Appends one record and returns its sequence: 1, 2, 3 and so on. Nothing is promised before
    /// [`Writer::commit`].
    ///
    /// Waits, at the end of a segment, while the next one is still being prepared.
    #[inline]
    pub fn append(&mut self, payload: &[u8]) -> Result<u64, AppendError> {
        self.ensure_room(payload.len())?;
        let header = self.data_header(payload.len());
        self.tail.write(header, payload);
        Ok(self.count(header))
    }

    /// Begins a record of `total_len` bytes that arrives in pieces. Nothing else may be appended or
    /// committed until [`Writer::finish`]; readers see the record whole or not at all.
    ///
    /// # Panics
    /// If another record is unfinished.
    pub fn begin(&mut self, total_len: usize) -> Result<(), AppendError> {
        self.ensure_room(total_len)?;
        self.streamed = Some(Streamed {
            length: total_len,
            put: 0,
        });
        Ok(())
    }

    /// Adds a piece to the record begun.
    ///
    /// # Panics
    /// If no record was begun or the pieces exceed its length.
    #[inline]
    pub fn put(&mut self, piece: &[u8]) {
        let streamed = self.streamed.as_mut().expect("put follows begin");
        assert!(
            piece.len() <= streamed.length - streamed.put,
            "the pieces exceed the length given to begin"
        );
        self.tail.put(streamed.put, piece);
        streamed.put += piece.len();
    }

    /// Completes the record begun and returns its sequence.
    ///
    /// # Panics
    /// If no record was begun or pieces are missing.
    #[inline]
    pub fn finish(&mut self) -> u64 {
        let streamed = self.streamed.take().expect("finish follows begin");
        assert!(
            streamed.put == streamed.length,
            "the pieces fall short of the length given to begin"
        );
        let header = self.data_header(streamed.length);
        self.tail.publish(header);
        self.count(header)
    }

    /// Makes every record so far durable under the policy. At [`Durability::Disk`] that is one sync
    /// of the pages written since the last commit (one more per segment filled meanwhile); at
    /// [`Durability::Process`] only bookkeeping.
    ///
    /// # Panics
    /// If a record is unfinished.
    pub fn commit(&mut self) -> Result<Commit, CommitError> {
        assert!(self.streamed.is_none(), "commit inside a record");
        self.refuse_if_stopped().map_err(CommitError::Stopped)?;
        if let Some(fault) = self.preparer.sync_failure() {
            return Err(self.stop(fault));
        }
        match self.durability {
            Durability::Disk => self.sync_written().map_err(|fault| self.stop(fault))?,
            Durability::Process => self.watermark = self.watermark.max(self.preparer.synced()),
        }
        self.feed_hash();
        Ok(self.committed())
    }

    /// Whether a commit waits for the disk.
    pub fn syncs(&self) -> bool {
        self.durability == Durability::Disk
    }

    /// The sequence that the next record will get.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The last sequence that a commit made durable under the policy.
    pub fn durable_sequence(&self) -> u64 {
        self.durable_sequence
    }

    /// The last sequence known to be on the disk, whatever the policy.
    pub fn synced_sequence(&self) -> u64 {
        self.watermark
    }

    /// Bytes of slots (see [`slot_bytes`](crate::slot_bytes)) that can be appended without new disk
    /// blocks: the rest of the current segment and the spare if it is ready. Where the segment
    /// ends, less than one slot may be lost.
    pub fn space_left(&self) -> u64 {
        if self.stopped.is_some() {
            return 0;
        }
        let spare = if self.preparer.is_ready() {
            self.segment_bytes - FRAMES_OFFSET as u64
        } else {
            0
        };
        self.tail.room() as u64 + spare
    }

    /// Bytes of slots that the current segment still takes. Unlike [`Writer::space_left`] it asks nobody
    /// whether a spare is ready, so it takes no lock.
    #[inline]
    pub fn segment_room(&self) -> u64 {
        if self.stopped.is_some() {
            return 0;
        }
        self.tail.room() as u64
    }

    /// Bytes of new segments that the storage has room for.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        self.storage.free_bytes()
    }

    /// The thread that works in the background, where there is one: for whoever says on which core.
    pub fn background_thread(&self) -> Option<&std::thread::JoinHandle<()>> {
        self.preparer.thread()
    }

    /// Does one task of the background, such as making the next segment, where
    /// [`Options::background`] leaves them to the caller. False where there is none to do.
    ///
    /// # Panics
    /// Where the writer has a thread for it.
    pub fn work_in_background(&self) -> bool {
        self.preparer.do_work()
    }

    /// The fingerprint of everything appended so far: BLAKE3 of the current segment's content,
    /// whose header holds the fingerprint of the segment before. The same history has the same
    /// fingerprint, before and after a restart.
    pub fn chain_head(&mut self) -> [u8; 32] {
        let end = self.content_end();
        // SAFETY: this writer published everything before the tail.
        unsafe { self.hash.upto(self.tail.map(), end) }
    }

    /// Holds something as long as the lock, such as a lock on another file.
    pub fn hold(&mut self, it: Box<dyn Send>) {
        self.held.push(it);
    }

    /// The segment that is written to.
    pub fn segment_path(&self) -> &Path {
        &self.current.path
    }

    /// Writes a handful of records' worth to a scratch file made like a segment and syncs it: see
    /// [`SyncCost`].
    pub fn probe_sync_cost(&self) -> Result<SyncCost, IoFault> {
        probe::sync_cost(&*self.storage)
    }

    /// Commits, syncs everything whatever the policy, and gives the lock back.
    pub fn close(mut self) -> Result<(), CommitError> {
        self.commit()?;
        self.preparer.finish();
        if let Some(fault) = self.preparer.sync_failure() {
            return Err(self.stop(fault));
        }
        self.sync_written().map_err(|fault| self.stop(fault))
    }

    #[inline]
    fn ensure_room(&mut self, length: usize) -> Result<(), AppendError> {
        assert!(self.streamed.is_none(), "a record is unfinished");
        if length <= self.record_limit && self.tail.allows(format::slot_bytes(length)) {
            return Ok(());
        }
        self.make_room(length)
    }

    /// The rare part of an append: the hash has fallen behind, the segment is full, or the answer
    /// is no.
    #[cold]
    fn make_room(&mut self, length: usize) -> Result<(), AppendError> {
        self.refuse_if_stopped().map_err(AppendError::Stopped)?;
        if length > self.record_limit {
            return Err(AppendError::TooLong {
                length,
                limit: self.record_limit,
            });
        }
        let slot = format::slot_bytes(length);
        if slot > self.tail.room() {
            self.roll()?;
        }
        self.feed_hash();
        let ahead = self.hash.fed() + HASH_LAG_BYTES;
        self.tail.allow(ahead.max(self.tail.offset() + slot));
        Ok(())
    }

    /// Goes on in the spare. Nothing waits for the disk here: what the roll leaves unsynced is
    /// synced by the next commit, and recovery takes a roll that was never committed back.
    fn roll(&mut self) -> Result<(), AppendError> {
        let spare = self.preparer.take().map_err(|error| self.no_spare(error))?;
        self.close_segment();
        let chain = self.chain_head();
        let link = Link::sealed(spare.label.crc, self.next_sequence, self.watermark, chain);
        write_link(spare.file.mapping(), &link);
        let index = self.current.index + 1;
        let name = format::segment_name(index);
        if let Err(error) = self.storage.rename(SPARE_NAME, &name) {
            return Err(self.cannot_name(spare, error));
        }
        self.names_changed = true;
        self.preparer.want(index + 1);
        self.turn_to(spare, index);
        Ok(())
    }

    /// Fills the rest of the segment with a pad, once.
    fn close_segment(&mut self) {
        let room = self.tail.room();
        if room == 0 {
            return;
        }
        self.closed_at = Some(self.tail.offset() + FRAME_HEADER_BYTES);
        let header = self.header(KIND_PAD, room - FRAME_HEADER_BYTES);
        self.tail.write(header, &[]);
        self.uncommitted_bytes += FRAME_HEADER_BYTES as u64;
    }

    fn turn_to(&mut self, spare: Spare, index: u64) {
        let key = format::segment_key(spare.label.segment_id);
        let map = spare.file.mapping().clone();
        // SAFETY: the spare was made writable and zeroed for this writer, which alone has it.
        self.tail = unsafe { Tail::new(map, key, spare.label.crc, FRAMES_OFFSET) };
        self.hash = ContentHash::default();
        let path = self.storage.path_of(&format::segment_name(index));
        let next = Current {
            file: spare.file,
            path,
            index,
            synced: 0,
        };
        let full = std::mem::replace(&mut self.current, next);
        let end = self.closed_at.take().unwrap_or(full.file.mapping().len());
        let unsynced = (full.synced < end).then_some((full.synced..end, self.next_sequence - 1));
        let retired = Retired {
            file: full.file,
            path: full.path,
            unsynced,
        };
        match self.durability {
            Durability::Disk => self.full.push(retired),
            Durability::Process => self.preparer.retire(retired),
        }
    }

    fn no_spare(&self, error: std::io::Error) -> AppendError {
        let path = self.storage.path_of(SPARE_NAME);
        if is_no_space(&error) {
            return AppendError::NoSpace { path };
        }
        let advice = "appending resumes by itself once this works";
        AppendError::Io(IoFault::new("prepare", path, error, advice))
    }

    /// A directory can be out of blocks too, and that passes. Any other failure leaves the name in
    /// doubt.
    fn cannot_name(&mut self, spare: Spare, error: std::io::Error) -> AppendError {
        let path = self
            .storage
            .path_of(&format::segment_name(self.current.index + 1));
        if is_no_space(&error) {
            self.preparer.put_back(spare);
            return AppendError::NoSpace { path };
        }
        let fault = IoFault::new(
            "rename the spare to",
            path,
            error,
            "check the directory, then restart",
        );
        self.note_stop(&fault);
        AppendError::Io(fault)
    }

    fn sync_written(&mut self) -> Result<(), IoFault> {
        for full in self.full.drain(..) {
            let Retired {
                file,
                path,
                unsynced,
            } = full;
            if let Some((range, _)) = unsynced {
                file.sync(range)
                    .map_err(|error| cannot_sync(&path, error))?;
            }
            // Unmapping a large segment takes milliseconds: that is for the other thread.
            self.preparer.retire(Retired {
                file,
                path,
                unsynced: None,
            });
        }
        let end = self.content_end();
        if self.current.synced < end {
            self.current
                .file
                .sync(self.current.synced..end)
                .map_err(|error| cannot_sync(&self.current.path, error))?;
            self.current.synced = end;
        }
        if self.names_changed {
            self.storage
                .sync_names()
                .map_err(|error| cannot_sync(&self.storage.path_of(""), error))?;
            self.names_changed = false;
        }
        self.watermark = self.next_sequence - 1;
        Ok(())
    }

    fn committed(&mut self) -> Commit {
        let durable_sequence = self.next_sequence - 1;
        let records = durable_sequence - self.durable_sequence;
        self.durable_sequence = durable_sequence;
        Commit {
            durable_sequence,
            records,
            bytes: std::mem::take(&mut self.uncommitted_bytes),
        }
    }

    fn feed_hash(&mut self) {
        let end = self.content_end();
        // SAFETY: this writer published everything before the tail.
        unsafe { self.hash.feed_pieces(self.tail.map(), end) };
    }

    fn content_end(&self) -> usize {
        self.closed_at.unwrap_or(self.tail.offset())
    }

    #[inline]
    fn data_header(&self, length: usize) -> FrameHeader {
        self.header(KIND_DATA, length)
    }

    #[inline]
    fn header(&self, kind: u16, length: usize) -> FrameHeader {
        let (sequence, watermark) = (self.next_sequence, self.watermark);
        FrameHeader {
            length: length as u32,
            crc: 0,
            sequence,
            watermark,
            kind,
            reserved: 0,
            term: 0,
        }
    }

    #[inline]
    fn count(&mut self, header: FrameHeader) -> u64 {
        self.uncommitted_bytes += header.slot_bytes() as u64;
        self.next_sequence += 1;
        header.sequence
    }

    fn refuse_if_stopped(&self) -> Result<(), Stopped> {
        self.stopped.clone().map_or(Ok(()), Err)
    }

    fn stop(&mut self, fault: IoFault) -> CommitError {
        self.note_stop(&fault);
        CommitError::Io(fault)
    }

    fn note_stop(&mut self, fault: &IoFault) {
        self.stopped = Some(Stopped {
            cause: fault.to_string(),
        });
        self.tail.allow(0);
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("segment", &self.current.path)
            .field("offset", &self.tail.offset())
            .field("next_sequence", &self.next_sequence)
            .field("durable_sequence", &self.durable_sequence)
            .finish_non_exhaustive()
    }
}

fn cannot_sync(path: &Path, error: std::io::Error) -> IoFault {
    IoFault::new(
        "sync",
        path,
        error,
        "acknowledge nothing more, check the disk, restart",
    )
}
