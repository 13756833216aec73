//! What the clients of one run have in common: when to stop, and counts that the table is made of.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Counts and flags. Every count only grows.
pub struct Shared {
    /// Time to end.
    pub stop: AtomicBool,
    /// Slow clients stop reading.
    pub hold: AtomicBool,
    /// Commands sent, again after a refusal included.
    pub sent: AtomicU64,
    /// Commands whose whole answer has come.
    pub acknowledged: AtomicU64,
    /// The highest journal sequence that any client was told of.
    pub told_to: AtomicU64,
    /// Commands refused `busy`, or because one before them was.
    pub busy: AtomicU64,
    /// Commands not sent because too many of their session were in flight.
    pub held_back: AtomicU64,
    /// Commands of overloading sessions that were answered.
    pub accepted: AtomicU64,
    /// Times a client connected again.
    pub reconnects: AtomicU64,
    /// Clients that came back in a new process, knowing only their record.
    pub reborn: AtomicU64,
    /// Commands taken whose answers were gone when asked for.
    pub answers_gone: AtomicU64,
    /// Watchers dropped because they did not read.
    pub dropped: AtomicU64,
    /// Events watched.
    pub watched: AtomicU64,
    /// What hostile clients tried.
    pub attacks: AtomicU64,
    /// Of those, refused with a reason, or closed.
    pub refused: AtomicU64,
    /// Connections opened by floods.
    pub flood: AtomicU64,
    /// The kind of the round that is on.
    kind: AtomicUsize,
    start: Instant,
    /// When an honest client last heard, us since `start`.
    heard_us: AtomicU64,
    /// The longest silence of honest clients by kind of round, us.
    silence_us: Vec<AtomicU64>,
    /// From being sent to being answered, us: of overloading sessions.
    pub latency_us: Mutex<Vec<u32>>,
    /// From the door to the end of execution, us: of the same.
    pub inside_us: Mutex<Vec<u32>>,
    /// What went wrong first.
    pub trouble: Mutex<Option<String>>,
}

impl Shared {
    /// For `kinds` kinds of rounds.
    pub fn new(kinds: usize) -> Shared {
        let count = || AtomicU64::new(0);
        Shared {
            stop: AtomicBool::new(false),
            hold: AtomicBool::new(false),
            sent: count(),
            acknowledged: count(),
            told_to: count(),
            busy: count(),
            held_back: count(),
            accepted: count(),
            reconnects: count(),
            reborn: count(),
            answers_gone: count(),
            dropped: count(),
            watched: count(),
            attacks: count(),
            refused: count(),
            flood: count(),
            kind: AtomicUsize::new(0),
            start: Instant::now(),
            heard_us: count(),
            silence_us: (0..kinds).map(|_| count()).collect(),
            latency_us: Mutex::default(),
            inside_us: Mutex::default(),
            trouble: Mutex::default(),
        }
    }

    /// A new life of the journal: sequences begin again.
    pub fn begin(&self) {
        self.stop.store(false, Ordering::Release);
        self.told_to.store(0, Ordering::Release);
        self.heard_us.store(self.now_us(), Ordering::Release);
    }

    /// A round of this kind begins.
    pub fn enter(&self, kind: usize) {
        self.kind.store(kind, Ordering::Release);
    }

    /// An honest client's command was answered, as command `sequence` of the journal.
    pub fn answered(&self, sequence: u64) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.told_to.fetch_max(sequence, Ordering::AcqRel);
        let now = self.now_us();
        let before = self.heard_us.swap(now, Ordering::AcqRel);
        let kind = self.kind.load(Ordering::Acquire);
        self.silence_us[kind].fetch_max(now.saturating_sub(before), Ordering::AcqRel);
    }

    /// When an honest client last heard, us since the run began.
    pub fn heard_us(&self) -> u64 {
        self.heard_us.load(Ordering::Acquire)
    }

    /// The moment, us since the run began.
    pub fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// The longest silence in rounds of a kind, us.
    pub fn silence_us(&self, kind: usize) -> u64 {
        self.silence_us[kind].load(Ordering::Acquire)
    }

    /// Whether to go on.
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }

    /// Notes what went wrong, and ends everything.
    pub fn fail(&self, why: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(|e| e.into_inner());
        trouble.get_or_insert(why);
        self.stop.store(true, Ordering::Release);
    }

    /// What went wrong, if anything did.
    pub fn trouble(&self) -> Result<(), String> {
        let trouble = self.trouble.lock().unwrap_or_else(|e| e.into_inner());
        trouble.clone().map_or(Ok(()), Err)
    }
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
