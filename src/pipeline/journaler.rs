//! The journaler: makes commands durable before anyone may act on them.
//!
//! It takes whatever is in the ring, appends every command's bytes as they lie (long ones folded),
//! commits once for all of them and only then lets the ring go on. While it syncs, the next batch
//! gathers: that is the whole of group commit. Queries ride along and leave no trace.
//!
//! A failed append or sync ends the process on the spot, with the batch still held back: nothing
//! of it is executed, nothing is acknowledged, nothing is tried again.

use super::threads::{Signal, pin_thread};
use super::{Host, JournalPoller};
use crate::protocol::command::CommandKind;
use crate::protocol::frame::{CommandSlot, HEADER_BYTES, SLOT_BYTES};
use crate::protocol::record::Folder;
use crate::telemetry::{BatchTimes, Progress, clock};
use millrace_journal::{AppendError, Writer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Appends and commits what the door publishes.
pub struct Journaler {
    poller: JournalPoller,
    writer: Writer,
    folder: Folder,
    sequence: u64,
    room: Room,
    progress: Arc<Progress>,
    /// Wakes the thread that executes.
    executor: Option<Arc<Signal>>,
}

impl Journaler {
    pub(super) fn new(
        poller: JournalPoller,
        writer: Writer,
        sequence: u64,
        room: Room,
        progress: Arc<Progress>,
        executor: Option<Arc<Signal>>,
    ) -> Journaler {
        let mut journaler = Journaler {
            poller,
            writer,
            folder: Folder::default(),
            sequence,
            room,
            progress,
            executor,
        };
        journaler.publish_room();
        journaler
    }

    /// Journals all there is and returns the number of ring slots it let go on. Where the journal cannot
    /// be written the process ends here.
    #[inline]
    pub fn do_work(&mut self) -> usize {
        self.try_work().unwrap_or_else(|failure| die(&failure))
    }

    /// As [`Journaler::do_work`], for a caller that plays the process: after a failure nothing of the
    /// batch goes on, and the pipeline is to be dropped.
    ///
    /// The poll has no limit on purpose: a command longer than a slot is published at once, so an
    /// unlimited poll sees all its pieces, and the executor never gets half of it.
    pub fn try_work(&mut self) -> Result<usize, JournalFailure> {
        let Ok(mut batch) = self.poller.poll() else {
            if self.room.is_short && self.room.must_look_again() {
                self.publish_room();
            }
            return Ok(0);
        };
        let log = self.progress.batches.get();
        let log = log.filter(|_| self.progress.stage_times.is_on());
        let first_sequence = self.sequence + 1;
        let now = || log.map_or(0, |_| clock().0);
        let taken_at = now();
        let mut pieces = &mut batch;
        let slots = pieces.len();
        let mut commands = 0;
        while let Some(slot) = pieces.next() {
            if slot.header().kind >= CommandKind::FIRST_QUERY {
                continue;
            }
            match append(&mut self.writer, &mut self.folder, slot, &mut pieces) {
                Ok(sequence) => assert_eq!(sequence, self.sequence + 1, "journal sequence"),
                Err(error) => {
                    // Dropped, the guard would let the batch go on.
                    std::mem::forget(batch);
                    return Err(JournalFailure::new(error, self.progress.durable.get()));
                }
            }
            self.sequence += 1;
            commands += 1;
        }
        if commands > 0 {
            let syncs = self.writer.syncs();
            let appended_at = if syncs { now() } else { 0 };
            if let Err(error) = self.writer.commit() {
                std::mem::forget(batch);
                return Err(JournalFailure::new(error, self.progress.durable.get()));
            }
            if let Some(log) = log {
                let durable_at = now();
                log.push(BatchTimes {
                    first_sequence,
                    last_sequence: self.sequence,
                    taken_at,
                    // Without a sync there is nothing between the two.
                    appended_at: if syncs { appended_at } else { durable_at },
                    durable_at,
                });
            }
            self.progress.commits.add(1);
            self.progress.durable.set(self.sequence);
        }
        drop(batch);
        if commands > 0 {
            self.publish_room();
        }
        if let Some(signal) = &self.executor {
            signal.notify();
        }
        Ok(slots)
    }

    /// Keeps the journal's background thread, where there is one, on `core`.
    pub fn background_on(&self, core: usize) {
        if let Some(thread) = self.writer.background_thread() {
            pin_thread(thread, core);
        }
    }

    /// Does one task of the journal's background, where that is left to us
    /// ([`Writer::work_in_background`]).
    pub fn work_in_background(&self) -> bool {
        self.writer.work_in_background()
    }

    /// Whether the ring holds something to journal.
    pub fn has_work(&self) -> bool {
        self.poller.has_available()
    }

    /// Closes the journal. For when the ring is empty.
    pub fn close(self) {
        let sequence = self.sequence;
        if let Err(error) = self.writer.close() {
            die(&JournalFailure::new(error, sequence));
        }
    }

    /// Tells the door how much the journal can take. A journal that is merely waiting for its next
    /// segment has room: appends wait for it, the ring fills and says busy. Short is one whose
    /// disk has no room for another segment.
    fn publish_room(&mut self) {
        if !self.room.is_short && self.writer.segment_room() >= self.room.watch_below {
            // The segment at hand takes more than is watched for: nothing has changed, and whether the
            // next one is ready need not be asked, which takes a lock.
            return;
        }
        let left = self.writer.space_left();
        let is_short = left < self.room.watch_below && !self.disk_takes_a_segment();
        if let Some(news) = self.room.turned(is_short) {
            (self.room.host.say)(&news);
        }
        self.room.looked = (self.room.host.now)();
        let space = if self.room.is_short { left } else { u64::MAX };
        self.progress.journal_space.set(space);
    }

    fn disk_takes_a_segment(&self) -> bool {
        let free = self.writer.free_bytes();
        free.is_ok_and(|free| free > self.room.segment_bytes)
    }
}

/// How often a journal that is short of room looks whether that has changed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What the journaler knows about its disk.
pub struct Room {
    dir: PathBuf,
    segment_bytes: u64,
    /// With less than this in the journal, the disk is asked.
    watch_below: u64,
    is_short: bool,
    looked: Instant,
    host: Host,
}

impl Room {
    /// The disk under `dir`, for a journal of segments of `segment_bytes`; it is asked when the
    /// journal holds less than `watch_below`.
    pub(super) fn new(dir: PathBuf, segment_bytes: u64, watch_below: u64, host: Host) -> Room {
        Room {
            dir,
            segment_bytes,
            watch_below,
            is_short: false,
            looked: (host.now)(),
            host,
        }
    }

    /// Notes whether room is short, and says so in one line where that is news.
    fn turned(&mut self, is_short: bool) -> Option<String> {
        let was_short = std::mem::replace(&mut self.is_short, is_short);
        let dir = self.dir.display();
        match (was_short, is_short) {
            (false, true) => Some(format!(
                "the disk under {dir} is full: it has no room for another segment of {} MiB; commands \
                 are refused disk_full, cancels and queries go on, and all are taken again once there \
                 is space",
                self.segment_bytes >> 20
            )),
            (true, false) => Some(format!(
                "the disk under {dir} has room again: all commands are taken"
            )),
            _ => None,
        }
    }

    fn must_look_again(&self) -> bool {
        (self.host.now)().duration_since(self.looked) > LOOK_AGAIN
    }
}

/// Appends the command that begins in `first`, a long one folded.
#[inline]
fn append<'a>(
    writer: &mut Writer,
    folder: &mut Folder,
    first: &CommandSlot,
    pieces: &mut impl Iterator<Item = &'a CommandSlot>,
) -> Result<u64, AppendError> {
    let header = first.header();
    let length = header.length as usize;
    if length <= SLOT_BYTES {
        return writer.append(&first.bytes[..length]);
    }
    folder.begin(header);
    folder.put(&first.bytes[HEADER_BYTES..]);
    let mut rest = length - SLOT_BYTES;
    while rest > 0 {
        let piece = pieces.next().expect("a command is published whole");
        let bytes = rest.min(SLOT_BYTES);
        folder.put(&piece.bytes[..bytes]);
        rest -= bytes;
    }
    writer.append(folder.finish())
}

/// The end of a node whose journal cannot be written. The batch's guard is never dropped, so no
/// other stage gets to see what is not durable.
fn die(failure: &JournalFailure) -> ! {
    eprintln!("millrace: {failure}");
    std::process::exit(1);
}

/// The journal cannot be written: whoever runs the pipeline ends with it.
#[derive(Debug)]
pub struct JournalFailure {
    /// Commands up to this one are safe.
    pub durable: u64,
    cause: Box<dyn std::error::Error + Send + Sync>,
}

impl JournalFailure {
    #[cold]
    fn new(cause: impl std::error::Error + Send + Sync + 'static, durable: u64) -> JournalFailure {
        JournalFailure {
            durable,
            cause: Box::new(cause),
        }
    }
}

impl std::fmt::Display for JournalFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}; commands up to sequence {} are safe, nothing later was acknowledged",
            self.cause, self.durable
        )
    }
}

impl std::error::Error for JournalFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fills_is_said_once_and_so_is_its_room() {
        let mut room = Room::new(PathBuf::from("/data"), 64 << 20, 1 << 20, Host::default());
        assert_eq!(room.turned(false), None);
        let full = room.turned(true).expect("news");
        assert!(full.starts_with("the disk under /data is full: "), "{full}");
        assert!(full.contains("64 MiB") && !full.contains('\n'), "{full}");
        assert_eq!(room.turned(true), None, "said once");
        let again = room.turned(false).expect("news");
        assert_eq!(
            again,
            "the disk under /data has room again: all commands are taken"
        );
        assert_eq!(room.turned(false), None);
    }
}
