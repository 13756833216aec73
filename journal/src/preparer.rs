//! The background thread: it keeps one spare segment ready, and takes full segments off the
//! writer's hands.
//!
//! ```text
//!   writer                              preparer thread
//!   take() the spare, link it,
//!   rename it, then want(n + 1)  ---->  sync the names, zero and label a new spare, sync it, wait to be taken
//!   retire(full segment)         ---->  sync it if the policy left that to us, raise `synced`, unmap it
//! ```
//!
//! The spare is asked for only **after** the rename of the one before: both live under one name. A
//! failure to prepare (a full disk) is reported to whoever asks and tried again; a failed sync of
//! written records is final and ends the writer.
//!
//! A simulation has no thread: it does one task at a time itself ([`Preparer::do_work`]).

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zerocopy::IntoBytes;

use crate::error::IoFault;
use crate::format::{FORMAT_VERSION, FRAMES_OFFSET, Label, MAGIC, SPARE_NAME};
use crate::options::Background;
use crate::storage::{Access, SegmentFile, Storage};

/// How long a failed preparation rests before it is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// What spares look like.
#[derive(Clone, Debug)]
pub(crate) struct SpareSpec {
    pub segment_bytes: u64,
    pub writer_release: u16,
    pub journal_id: [u8; 16],
    /// No commit syncs: write faults of the whole spare are taken in the background, and its pages may
    /// be large. With syncs, a touched page is a dirty page, and the first sync would write all of
    /// them.
    pub unsynced: bool,
}

/// A segment-to-be: zeroed, labelled, durable, mapped.
pub(crate) struct Spare {
    pub label: Label,
    pub file: Box<dyn SegmentFile>,
}

/// A full segment that the writer no longer needs.
pub(crate) struct Retired {
    pub file: Box<dyn SegmentFile>,
    pub path: PathBuf,
    /// What still has to be synced, and the last sequence that is then on the disk.
    pub unsynced: Option<(Range<usize>, u64)>,
}

/// The writer's handle on the thread.
pub(crate) struct Preparer {
    shared: Arc<Shared>,
    background: Background,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    storage: Arc<dyn Storage>,
    spec: SpareSpec,
    state: Mutex<State>,
    changed: Condvar,
    /// The last sequence that a background sync made durable.
    synced: AtomicU64,
    /// Raised with `sync_failure`, so that a commit need not take the lock to look.
    sync_failed: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The index of the segment to prepare next, until it is ready.
    wanted: Option<u64>,
    spare: Option<Spare>,
    /// Why the last attempt failed, and when to try again.
    failure: Option<(io::Error, Instant)>,
    retired: VecDeque<Retired>,
    sync_failure: Option<IoFault>,
    stop: Option<Stop>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Now,
    AfterRetired,
}

impl Preparer {
    /// Asks for the spare of segment `index`, and starts the thread where there is to be one.
    pub fn start(
        storage: Arc<dyn Storage>,
        spec: SpareSpec,
        index: u64,
        background: Background,
    ) -> io::Result<Preparer> {
        let state = Mutex::new(State {
            wanted: Some(index),
            ..State::default()
        });
        let shared = Arc::new(Shared {
            storage,
            spec,
            state,
            changed: Condvar::new(),
            synced: AtomicU64::new(0),
            sync_failed: AtomicBool::new(false),
        });
        let thread = match background {
            Background::Thread => {
                let worker = shared.clone();
                let thread = std::thread::Builder::new().name("journal-spare".into());
                Some(thread.spawn(move || worker.run())?)
            }
            Background::ByHand => None,
        };
        Ok(Preparer {
            shared,
            background,
            thread,
        })
    }

    /// The thread, where there is one.
    pub fn thread(&self) -> Option<&JoinHandle<()>> {
        self.thread.as_ref()
    }

    /// Does one task, where no thread does. False where there is none.
    pub fn do_work(&self) -> bool {
        assert!(self.background == Background::ByHand, "a thread does it");
        let mut state = self.shared.state();
        // Whoever works by hand says when a failed preparation is tried again.
        let task = match state.wanted {
            Some(index) => Some(Task::Prepare(index)),
            None => state.retired.pop_front().map(Task::Retire),
        };
        drop(state);
        let is_one = task.is_some();
        if let Some(task) = task {
            self.shared.perform(task);
        }
        is_one
    }

    /// The spare; waits while it is being made, fails while it cannot be.
    pub fn take(&self) -> io::Result<Spare> {
        let mut state = self.shared.state();
        loop {
            if let Some(spare) = state.spare.take() {
                return Ok(spare);
            }
            if let Some((error, _)) = &state.failure {
                return Err(copy_of(error));
            }
            state = match (self.background, state.wanted) {
                (Background::ByHand, Some(index)) => {
                    drop(state);
                    self.shared.prepare(index);
                    self.shared.state()
                }
                _ => {
                    self.shared.storage.hurry(true);
                    self.shared.wait(state, None)
                }
            };
        }
    }

    /// Returns a spare that could not be used after all.
    pub fn put_back(&self, spare: Spare) {
        self.shared.state().spare = Some(spare);
    }

    /// Asks for the next spare. The one before must have been renamed.
    pub fn want(&self, index: u64) {
        self.shared.state().wanted = Some(index);
        self.shared.changed.notify_all();
    }

    /// Hands over a full segment.
    pub fn retire(&self, retired: Retired) {
        self.shared.state().retired.push_back(retired);
        self.shared.changed.notify_all();
    }

    /// True when a spare is ready to be taken.
    pub fn is_ready(&self) -> bool {
        self.shared.state().spare.is_some()
    }

    /// The last sequence that a background sync made durable.
    pub fn synced(&self) -> u64 {
        self.shared.synced.load(Ordering::Acquire)
    }

    /// The first failed background sync, once.
    pub fn sync_failure(&self) -> Option<IoFault> {
        if !self.shared.sync_failed.load(Ordering::Acquire) {
            return None;
        }
        self.shared.state().sync_failure.take()
    }

    /// Lets the thread finish the retired segments, and ends it.
    pub fn finish(&mut self) {
        self.end(Stop::AfterRetired);
    }

    fn end(&mut self, stop: Stop) {
        if let Some(thread) = self.thread.take() {
            self.shared.state().stop = Some(stop);
            self.shared.changed.notify_all();
            // The thread ends by itself; if it panicked, the process is past saving anyway.
            let _ = thread.join();
        } else if self.background == Background::ByHand && stop == Stop::AfterRetired {
            self.shared.state().wanted = None;
            while self.do_work() {}
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.end(Stop::Now);
    }
}

enum Task {
    Prepare(u64),
    Retire(Retired),
    Stop,
}

impl Shared {
    fn run(&self) {
        // Its rests are short; the usual slack of 50 us would double them. Where it is refused they are
        // long.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        loop {
            match self.next_task() {
                Task::Stop => return,
                task => self.perform(task),
            }
        }
    }

    fn perform(&self, task: Task) {
        match task {
            Task::Prepare(index) => self.prepare(index),
            Task::Retire(retired) => self.sync_and_drop(retired),
            Task::Stop => {}
        }
    }

    /// The next thing to do. The spare goes first: the writer may be waiting for it.
    fn next_task(&self) -> Task {
        let mut state = self.state();
        loop {
            if state.stop == Some(Stop::Now) {
                return Task::Stop;
            }
            let rest = state
                .failure
                .as_ref()
                .map(|(_, retry_at)| retry_at.saturating_duration_since(Instant::now()));
            if let (Some(index), None, None | Some(Duration::ZERO)) =
                (state.wanted, state.stop, rest)
            {
                return Task::Prepare(index);
            }
            if let Some(retired) = state.retired.pop_front() {
                return Task::Retire(retired);
            }
            if state.stop.is_some() {
                return Task::Stop;
            }
            state = self.wait(state, rest);
        }
    }

    fn prepare(&self, index: u64) {
        // The rename of the last spare must be durable before another file takes its name.
        if let Err(error) = self.storage.sync_names() {
            self.fail_sync(IoFault::new(
                "sync",
                self.storage.path_of(""),
                error,
                "check the disk, then restart",
            ));
        }
        let made = make_spare(&*self.storage, &self.spec, index);
        let mut state = self.state();
        self.storage.hurry(false);
        match made {
            Ok(spare) => {
                (state.spare, state.wanted, state.failure) = (Some(spare), None, None);
            }
            Err(error) => state.failure = Some((error, Instant::now() + RETRY)),
        }
        drop(state);
        self.changed.notify_all();
    }

    fn sync_and_drop(&self, retired: Retired) {
        // First, because what is written out while it is mapped is protected page by page, and each time
        // the other cores are interrupted.
        retired.file.let_go();
        // After one failure nothing later may be called durable.
        if let Some((range, sequence)) = retired.unsynced
            && !self.sync_failed.load(Ordering::Acquire)
        {
            retired.file.write_out(range.clone());
            match retired.file.sync(range) {
                Ok(()) => self.synced.store(sequence, Ordering::Release),
                Err(error) => self.fail_sync(IoFault::new(
                    "sync",
                    retired.path,
                    error,
                    "check the disk, then restart",
                )),
            }
        }
    }

    fn fail_sync(&self, fault: IoFault) {
        self.state().sync_failure.get_or_insert(fault);
        self.sync_failed.store(true, Ordering::Release);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        rest: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        match rest {
            Some(rest) => {
                self.changed
                    .wait_timeout(state, rest)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
            None => self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Prepares the spare file for segment `index`: zeros, a label, a sync.
pub(crate) fn make_spare(storage: &dyn Storage, spec: &SpareSpec, index: u64) -> io::Result<Spare> {
    if spec.unsynced {
        storage.prepare_unsynced(SPARE_NAME, spec.segment_bytes)?;
    } else {
        storage.prepare(SPARE_NAME, spec.segment_bytes)?;
    }
    let file = storage.open(SPARE_NAME, Access::Write)?;
    let label = label_for(storage, spec, index)?;
    // SAFETY: the spare is ours alone until it is renamed, and nothing in it is published.
    unsafe { file.mapping().put(0, label.as_bytes()) };
    file.sync(0..FRAMES_OFFSET)?;
    if spec.unsynced {
        // SAFETY: as above.
        unsafe { file.touch() };
    }
    Ok(Spare { label, file })
}

fn label_for(storage: &dyn Storage, spec: &SpareSpec, index: u64) -> io::Result<Label> {
    let mut segment_id = [0; 8];
    storage.draw_id(&mut segment_id)?;
    Ok(Label {
        magic: MAGIC,
        format_version: FORMAT_VERSION,
        writer_release: spec.writer_release,
        header_bytes: FRAMES_OFFSET as u32,
        segment_bytes: spec.segment_bytes,
        index,
        journal_id: spec.journal_id,
        segment_id: u64::from_le_bytes(segment_id),
        created_at_ns: storage.now_ns(),
        reserved: [0; 28],
        crc: 0,
    }
    .sealed())
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
