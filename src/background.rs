//! Work beside a node that must not be felt there: it takes the processor and the disk when nobody
//! else wants them, and passes bytes to and from the disk a piece at a time.
//!
//! ```text
//!  write a piece -> have it written out, wait -> forget its pages -> rest until the pace allows -> ...
//! ```
//! Without that, the kernel gathers hundreds of megabytes and writes them out at once, and a node's
//! sync waits in the queue behind them.
//!
//! The unsafe parts are three system calls of which no safe wrapper is at hand. They take numbers and
//! a descriptor that is borrowed, and no pointer but to a local.

use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

/// Bytes between two rests: what a sync of the node may find in front of it at the disk.
pub const PIECE_BYTES: usize = 256 << 10;

/// Bytes in one call where nobody is to be spared.
const AT_ONCE_BYTES: usize = 8 << 20;

/// Makes this thread, and those it starts from now on, run only when no other wants the core, and
/// asks the disk for the same. `taskset` says on which cores.
///
/// # Errors
/// What the system refused. What it did not refuse is in force all the same.
pub fn stand_back() -> io::Result<()> {
    // Where `SCHED_IDLE` is refused, the lowest of the usual priorities is the next best.
    let nice = rustix::process::setpriority_process(None, 19);
    let idle = run_when_idle();
    let disk = use_disk_when_idle();
    nice?;
    idle?;
    disk
}

fn run_when_idle() -> io::Result<()> {
    // SAFETY: a plain structure of numbers, for which all zeroes are valid.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: 0 is the calling thread, and the structure lives across the call, which only reads it.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn use_disk_when_idle() -> io::Result<()> {
    // linux/ioprio.h: IOPRIO_WHO_PROCESS, and IOPRIO_CLASS_IDLE above the 13 bits of the level.
    const THREAD: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: the call takes three numbers; 0 is the calling thread.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, THREAD, 0, IDLE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A speed that is kept by resting. What was missed is not made up for.
#[derive(Debug)]
pub struct Pace {
    per_second: NonZeroU64,
    next_at: Instant,
}

impl Pace {
    /// At most so many bytes a second.
    pub fn new(per_second: NonZeroU64) -> Pace {
        Pace {
            per_second,
            next_at: Instant::now(),
        }
    }

    /// Rests until `bytes` more may pass.
    pub fn pass(&mut self, bytes: u64) {
        let now = Instant::now();
        if let Some(early) = self.next_at.checked_duration_since(now) {
            std::thread::sleep(early);
        }
        let takes = u128::from(bytes) * 1_000_000_000 / u128::from(self.per_second.get());
        self.next_at = self.next_at.max(now) + Duration::from_nanos(takes as u64);
    }
}

/// A file that is written or read once, from where it stands to its end. With a pace it goes piece
/// by piece, and the system is asked to forget what has passed.
#[derive(Debug)]
pub struct Passing {
    file: File,
    pace: Option<Pace>,
    /// Bytes before this one have passed.
    at: u64,
    /// Those before this one are written out, and forgotten.
    settled: u64,
    forgets: bool,
}

impl Passing {
    /// `file`, which stands at byte `at`.
    pub fn new(file: File, at: u64, per_second: Option<NonZeroU64>) -> Passing {
        Passing {
            file,
            pace: per_second.map(Pace::new),
            at,
            settled: at,
            forgets: per_second.is_some(),
        }
    }

    /// As [`Passing::new`] for a file that is read again right after: its pages stay.
    pub fn kept(file: File, at: u64, per_second: Option<NonZeroU64>) -> Passing {
        Passing {
            forgets: false,
            ..Passing::new(file, at, per_second)
        }
    }

    /// Bytes of the file before the next one that passes.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The file, with everything that was written on its way to the disk.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self) -> io::Result<File> {
        if self.pace.is_some() {
            self.settle()?;
        }
        Ok(self.file)
    }

    /// The file, as it is.
    pub fn into_file(self) -> File {
        self.file
    }

    fn piece(&self) -> usize {
        match self.pace {
            Some(_) => PIECE_BYTES,
            None => AT_ONCE_BYTES,
        }
    }

    /// Has what passed since the last time written out, waits for that, and lets go of its pages.
    fn settle(&mut self) -> io::Result<()> {
        let Some(bytes) = NonZeroU64::new(self.at - self.settled) else {
            return Ok(());
        };
        write_out(&self.file, self.settled, bytes.get())?;
        if self.forgets {
            forget(&self.file, self.settled, bytes);
        }
        self.settled = self.at;
        Ok(())
    }
}

impl Write for Passing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = match self.pace {
            // A piece that has begun is filled; a full one was settled.
            Some(_) => PIECE_BYTES - (self.at - self.settled) as usize,
            None => AT_ONCE_BYTES,
        };
        let bytes = &bytes[..bytes.len().min(room)];
        if let Some(pace) = &mut self.pace {
            pace.pass(bytes.len() as u64);
        }
        let written = self.file.write(bytes)?;
        self.at += written as u64;
        if self.pace.is_some() && self.at - self.settled >= PIECE_BYTES as u64 {
            self.settle()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Passing {
    /// What was written before goes to the disk first.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.pace.is_some() {
            self.settle()?;
        }
        self.at = self.file.seek(to)?;
        self.settled = self.at;
        Ok(self.at)
    }
}

impl Read for Passing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let room = into.len().min(self.piece());
        if let Some(pace) = &mut self.pace {
            pace.pass(room as u64);
        }
        let read = self.file.read(&mut into[..room])?;
        self.at += read as u64;
        if self.forgets && (self.at - self.settled >= AT_ONCE_BYTES as u64 || read == 0) {
            if let Some(bytes) = NonZeroU64::new(self.at - self.settled) {
                forget(&self.file, self.settled, bytes);
            }
            self.settled = self.at;
        }
        Ok(read)
    }
}

/// Has `bytes` of the file from `offset` on written to the disk and waits for it. Metadata is not
/// written and nothing is flushed: durable it is only after a sync.
fn write_out(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the descriptor is the file's, which is borrowed across the call; the rest are numbers.
    let done =
        unsafe { libc::sync_file_range(file.as_raw_fd(), offset as i64, bytes as i64, flags) };
    if done == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // A file system that cannot: the sync at the end does it all.
        error
            if matches!(
                error.raw_os_error(),
                Some(libc::EINVAL | libc::ENOSYS | libc::ESPIPE)
            ) =>
        {
            Ok(())
        }
        error => Err(error),
    }
}

/// Asks the system to keep nothing in memory of a part of a file; a wish, so nothing can go wrong.
fn forget(file: &File, offset: u64, bytes: NonZeroU64) {
    let _ = fadvise(file, offset, Some(bytes), Advice::DontNeed);
}

/// Asks the system to keep nothing of a whole file in memory.
pub fn forget_file(path: &std::path::Path) {
    if let Ok(file) = File::open(path) {
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per_second(bytes: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(bytes)
    }

    #[test]
    fn what_passes_in_pieces_is_what_was_given_and_keeps_the_pace() {
        let content: Vec<u8> = (0..3 * PIECE_BYTES + 17).map(|at| (at / 7) as u8).collect();
        for pace in [None, per_second(16 << 20)] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"head").unwrap();
            let started = Instant::now();
            let mut passing = Passing::new(file, 4, pace);
            passing.write_all(&content).unwrap();
            assert_eq!(passing.position(), 4 + content.len() as u64);
            let mut file = passing.finish().unwrap();
            if pace.is_some() {
                // Three pieces at 16 MiB a second; the last rests before nobody.
                assert!(started.elapsed() >= Duration::from_millis(45));
            }
            file.seek(SeekFrom::Start(4)).unwrap();
            let mut back = Vec::new();
            Passing::new(file, 4, pace).read_to_end(&mut back).unwrap();
            assert!(back == content);
        }
    }

    #[test]
    fn a_piece_is_the_most_that_is_written_at_once() {
        let file = tempfile::tempfile().unwrap();
        let mut passing = Passing::new(file, 0, per_second(1 << 40));
        let big = vec![7; 2 * PIECE_BYTES];
        assert_eq!(passing.write(&big).unwrap(), PIECE_BYTES);
        assert_eq!(passing.write(&big[..100]).unwrap(), 100);
        assert_eq!(passing.write(&big).unwrap(), PIECE_BYTES - 100);
        assert_eq!(passing.settled, 2 * PIECE_BYTES as u64);
    }

    #[test]
    fn without_a_pace_every_call_takes_all_it_may() {
        let file = tempfile::tempfile().unwrap();
        let mut passing = Passing::new(file, 0, None);
        let big = vec![7; AT_ONCE_BYTES + 1];
        for _ in 0..3 {
            assert_eq!(passing.write(&big).unwrap(), AT_ONCE_BYTES);
        }
        assert_eq!(passing.write(&big[..10]).unwrap(), 10);
    }

    #[test]
    fn who_stands_back_runs_when_idle_and_so_do_its_threads() {
        // On a thread of its own: there is no way back.
        let policies = std::thread::spawn(|| {
            stand_back().unwrap();
            // SAFETY: 0 is the calling thread.
            let policy = || unsafe { libc::sched_getscheduler(0) };
            [policy(), std::thread::spawn(policy).join().unwrap()]
        });
        assert_eq!(policies.join().unwrap(), [libc::SCHED_IDLE; 2]);
    }
}
