//! Numbers that cross threads: how far each stage has come, and what the gateway counted.
//!
//! Every number has one writer. A stage publishes its progress once per batch, so a reader may lag
//! a batch behind but never runs ahead of what is true. Nothing here decides what a command does.

mod batches;
mod stages;

pub use batches::{BatchLog, BatchReader, BatchTimes};
pub use stages::{Moments, StageClock};

use crate::protocol::units::Timestamp;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// A value with its cache lines to itself (two: adjacent lines are fetched together).
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Padded<T>(pub T);

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Published(Padded<AtomicU64>);

impl Published {
    /// A number that starts at `value`.
    pub fn new(value: u64) -> Published {
        Published(Padded(AtomicU64::new(value)))
    }

    /// Its last published value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.0.load(Ordering::Acquire)
    }

    /// Publishes a value; what was written before is seen by whoever reads it.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.0.store(value, Ordering::Release);
    }

    /// Adds to it. For its one writer only.
    #[inline]
    pub fn add(&self, more: u64) {
        self.set(self.0.0.load(Ordering::Relaxed) + more);
    }
}

/// Whether something is done: turned by anyone, looked at once per batch by those who do it.
#[derive(Debug)]
pub struct Switch(Padded<AtomicBool>);

impl Switch {
    /// A switch that stands so.
    pub fn new(on: bool) -> Switch {
        Switch(Padded(AtomicBool::new(on)))
    }

    /// How it stands.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Turns it; a batch under way may not see it.
    pub fn turn(&self, on: bool) {
        self.0.0.store(on, Ordering::Relaxed);
    }
}

/// The wall clock: what the door stamps commands with, and what stages are measured by. The engine
/// never sees it but as a command's `received_at`.
#[inline]
pub fn clock() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(now.map_or(0, |since| since.as_nanos() as u64))
}

/// Processor time that this thread has used, ns. A system call: for measuring only.
pub fn thread_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// How far the stages have come.
#[derive(Debug)]
pub struct Progress {
    /// Last journal sequence that is durable under the node's policy. Written by the journaler.
    pub durable: Published,
    /// Commits of the journal since start. Written by the journaler.
    pub commits: Published,
    /// Bytes the journal can still take. Written by the journaler.
    pub journal_space: Published,
    /// Last journal sequence executed. Written by the executor.
    pub executed: Published,
    /// When the engine next needs a tick, ns since the Unix epoch; [`NO_DEADLINE`] for never.
    /// Written by the executor.
    pub next_deadline: Published,
    /// Ring slots whose commands are executed. Written by the executor.
    pub slots_executed: Published,
    /// When the journaler did what, where somebody measures. Written by the journaler.
    pub batches: OnceLock<Arc<BatchLog>>,
    /// Whether stages are measured, where a node can. On from the start.
    pub stage_times: Switch,
    /// Whether [`Progress::busy_ns`] is kept. Off from the start.
    pub busy: Switch,
    /// Processor time that the thread which faces the network spent in duty cycles with something to do,
    /// ns: what it waited for a disk, or for its core, is no part of it.
    pub busy_ns: Published,
}

/// Nothing waits for time.
pub const NO_DEADLINE: u64 = u64::MAX;

impl Progress {
    /// Stages that stand at journal sequence `sequence`.
    pub fn at(sequence: u64) -> Progress {
        Progress {
            durable: Published::new(sequence),
            commits: Published::new(0),
            journal_space: Published::new(u64::MAX),
            executed: Published::new(sequence),
            next_deadline: Published::new(NO_DEADLINE),
            slots_executed: Published::new(0),
            batches: OnceLock::new(),
            stage_times: Switch::new(true),
            busy: Switch::new(false),
            busy_ns: Published::new(0),
        }
    }
}

/// What the gateway counted since start.
#[derive(Debug, Default)]
pub struct GatewayCounters {
    /// Connections accepted.
    pub accepted: Published,
    /// Connections refused because there are as many as may be.
    pub refused: Published,
    /// Connections open now.
    pub open: Published,
    /// Commands and queries put into the ring.
    pub commands: Published,
    /// Commands answered `busy`.
    pub busy: Published,
    /// Sessions dropped because they did not read.
    pub slow_consumers: Published,
    /// Connections closed for frames that are none.
    pub malformed: Published,
}
