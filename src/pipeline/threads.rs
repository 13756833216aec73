//! Threads: which stages share one, on which core it stays, and how it rests when idle.
//!
//! Stages are plain objects with a duty cycle; a [`ThreadPlan`] composes them. Three rules hold:
//! spinning threads never outnumber the cores of the plan; a thread that sleeps is woken by the
//! stage before it, which pays a system call only then ([`Signal`]); cores are looked up once, on
//! the thread that starts the node, because a pinned thread's children see one core only.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Which cores a node may use.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum CoreChoice {
    /// All the process may run on, pinned.
    #[default]
    Auto,
    /// All the process may run on, not pinned: for tests, and where others schedule.
    Unpinned,
    /// These, pinned.
    List(Vec<usize>),
}

impl std::str::FromStr for CoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<CoreChoice, String> {
        match text {
            "auto" => return Ok(CoreChoice::Auto),
            "unpinned" => return Ok(CoreChoice::Unpinned),
            _ => {}
        }
        let cores: Result<Vec<usize>, _> =
            text.split(',').map(|core| core.trim().parse()).collect();
        match cores {
            Ok(cores) if !cores.is_empty() => Ok(CoreChoice::List(cores)),
            _ => Err(format!(
                "cores \"{text}\" is not \"auto\", \"unpinned\" or a list such as 0,1,2"
            )),
        }
    }
}

/// A core that was asked for and is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreError {
    /// This process may not run on it, or the machine has none such.
    Missing {
        /// The core asked for.
        core: usize,
        /// The cores there are.
        there: Vec<usize>,
    },
    /// Named twice.
    Twice(usize),
}

impl std::fmt::Display for CoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CoreError::Missing { core, there } => write!(
                f,
                "core {core} is not there; this process may use {}",
                list(there)
            ),
            CoreError::Twice(core) => write!(f, "core {core} is listed twice"),
        }
    }
}

impl std::error::Error for CoreError {}

/// Which stages share a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Everything on one thread, the journal inline.
    One,
    /// The journaler apart, so that the next batch fills while it syncs.
    Two,
    /// Gateway and responder, executor, journaler.
    Three,
}

impl Layout {
    /// The layout of so many threads; `None` where there is none such.
    pub fn of_threads(threads: u8) -> Option<Layout> {
        match threads {
            1 => Some(Layout::One),
            2 => Some(Layout::Two),
            3 => Some(Layout::Three),
            _ => None,
        }
    }

    fn threads(self) -> usize {
        match self {
            Layout::One => 1,
            Layout::Two => 2,
            Layout::Three => 3,
        }
    }
}

/// Threads and their cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPlan {
    layout: Layout,
    /// The core of each thread of the layout, in its order; `None` where it is not pinned.
    cores: Vec<Option<usize>>,
}

impl ThreadPlan {
    /// The plan for `choice` of the cores this process may run on. Call it on a thread that is not
    /// pinned. `syncs` says whether a commit waits for a disk; `layout` overrides what would be
    /// chosen.
    pub fn choose(
        choice: &CoreChoice,
        syncs: bool,
        layout: Option<Layout>,
    ) -> Result<ThreadPlan, CoreError> {
        ThreadPlan::for_cores(choice, syncs, layout, &allowed_cores())
    }

    /// The plan where `allowed` are the cores this process may run on. A list is used whole; where
    /// we choose, one core is left to clients and the system, as long as there is another.
    pub fn for_cores(
        choice: &CoreChoice,
        syncs: bool,
        layout: Option<Layout>,
        allowed: &[usize],
    ) -> Result<ThreadPlan, CoreError> {
        let ours = allowed.len().saturating_sub(1).max(1);
        let (cores, pinned) = match choice {
            CoreChoice::Auto => (&allowed[..ours], true),
            CoreChoice::Unpinned => (&allowed[..ours], false),
            CoreChoice::List(list) => (&list[..], true),
        };
        for (at, core) in cores.iter().enumerate() {
            if !allowed.contains(core) {
                return Err(CoreError::Missing {
                    core: *core,
                    there: allowed.to_vec(),
                });
            }
            if cores[..at].contains(core) {
                return Err(CoreError::Twice(*core));
            }
        }
        let layout = layout.unwrap_or(match cores.len() {
            0 | 1 => Layout::One,
            2 if syncs => Layout::Two,
            2 => Layout::One,
            _ => Layout::Three,
        });
        // Threads that outnumber the cores are left to the scheduler.
        let pinned = pinned && layout.threads() <= cores.len();
        let cores = (0..layout.threads())
            .map(|at| cores.get(at).copied().filter(|_| pinned))
            .collect();
        Ok(ThreadPlan { layout, cores })
    }

    /// Puts the thread that journals on `core`; who was there takes its place.
    pub fn journal_on(&mut self, core: usize) {
        let journal = self.cores.len() - 1;
        let before = self.cores[journal];
        if let Some(other) = self.cores.iter().position(|it| *it == Some(core)) {
            self.cores[other] = before;
        }
        self.cores[journal] = Some(core);
    }

    /// Which stages share a thread.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The core of each thread of the layout, `None` where it is not pinned.
    pub fn cores(&self) -> &[Option<usize>] {
        &self.cores
    }

    /// The core of the layout's thread `at`.
    pub fn core(&self, at: usize) -> Option<usize> {
        self.cores[at]
    }
}

impl std::fmt::Display for ThreadPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: &[&str] = match self.layout {
            Layout::One => &["gateway+journaler+executor+responder"],
            Layout::Two => &["gateway+executor+responder", "journaler"],
            Layout::Three => &["gateway+responder", "executor", "journaler"],
        };
        f.write_str("threads: ")?;
        for (at, (name, core)) in names.iter().zip(&self.cores).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match core {
                Some(core) => write!(f, "{comma}{name} on core {core}")?,
                None => write!(f, "{comma}{name} on any core")?,
            }
        }
        Ok(())
    }
}

/// The core of `cores` from which a sync in `dir` comes back soonest, where that makes a difference
/// of a tenth or more to the first of them.
///
/// A disk interrupts one core. A thread that waits there is woken without a second interrupt to a
/// core that sleeps: measured on two virtual cores, 120 against 180 us. Overwrites and syncs one
/// block some dozen times per core; takes a few milliseconds.
pub fn nearest_to_disk(dir: &Path, cores: &[usize]) -> io::Result<Option<usize>> {
    const NAME: &str = "sync-probe";
    const CORES_MAX: usize = 8;
    let path = dir.join(NAME);
    let mut file = File::create(&path)?;
    file.write_all(&[0; 4_096])?;
    file.sync_all()?;
    let cores = &cores[..cores.len().min(CORES_MAX)];
    let mut took = vec![Vec::new(); cores.len()];
    let mut probed: io::Result<()> = Ok(());
    // In turn, so that a machine in a bad mood is so for all.
    for at in (0..cores.len()).cycle().take(10 * cores.len()) {
        let core = cores[at];
        let (file, took) = (&file, &mut took[at]);
        probed = probed.and(std::thread::scope(|scope| {
            let probe = scope.spawn(move || {
                pin(Some(core));
                for _ in 0..4 {
                    let start = Instant::now();
                    file.write_all_at(&[1; 4_096], 0)?;
                    file.sync_data()?;
                    took.push(start.elapsed());
                }
                Ok(())
            });
            probe.join().expect("a probe does not panic")
        }));
    }
    std::fs::remove_file(&path)?;
    probed?;
    // The quicker quarter: the journal may be preparing its next segment on the same disk.
    let typical = took.iter_mut().map(|took| {
        took.sort_unstable();
        took[took.len() / 4]
    });
    let typical: Vec<Duration> = typical.collect();
    let best = (0..cores.len()).min_by_key(|at| typical[*at]);
    Ok(best
        .filter(|at| typical[*at] < typical[0] * 9 / 10)
        .map(|at| cores[at]))
}

fn list(cores: &[usize]) -> String {
    let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
    cores.join(",")
}

/// The cores this thread, and so every thread it starts, may run on.
pub fn allowed_cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    if cores.is_empty() {
        cores.push(0);
    }
    cores
}

/// Keeps the present thread on `core`, if one is given.
pub fn pin(core: Option<usize>) {
    if let Some(id) = core {
        // The plan took the core from this process's own mask, so this fails only where the mask
        // shrank meanwhile; the thread then runs where it may.
        let _ = core_affinity::set_for_current(core_affinity::CoreId { id });
    }
}

/// How threads rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleMode {
    /// Never: lowest latency, whole cores.
    Spin,
    /// Spin for a while after the last work, then sleep until woken.
    #[default]
    Sleep,
}

/// Counts idle duty cycles up the ladder.
pub struct Idle {
    mode: IdleMode,
    spin_for: Duration,
    since: Option<Instant>,
}

impl Idle {
    /// A ladder that spins for `spin_for` before it says to sleep.
    pub fn new(mode: IdleMode, spin_for: Duration) -> Idle {
        Idle {
            mode,
            spin_for,
            since: None,
        }
    }

    /// There was work.
    #[inline]
    pub fn worked(&mut self) {
        self.since = None;
    }

    /// There was none: true when it is time to sleep.
    #[inline]
    pub fn may_sleep(&mut self) -> bool {
        std::hint::spin_loop();
        if self.mode == IdleMode::Spin {
            return false;
        }
        match self.since {
            None => {
                self.since = Some(Instant::now());
                false
            }
            Some(since) => since.elapsed() >= self.spin_for,
        }
    }
}

/// How to wake a thread.
enum Wake {
    Thread(Thread),
    Poll(mio::Waker),
}

/// Wakes one sleeping thread; costs a fence and a load while it is awake.
///
/// The sleeper says that it will sleep, then looks for work once more, then sleeps; the waker
/// publishes work, then looks whether anyone said so. A fence on both sides makes sure that at
/// least one of them sees the other.
#[derive(Default)]
pub struct Signal {
    sleeping: AtomicBool,
    wake: OnceLock<Wake>,
}

impl Signal {
    /// Says which thread to unpark. Called once, by that thread.
    pub fn attach_thread(&self) {
        let _ = self.wake.set(Wake::Thread(std::thread::current()));
    }

    /// Says which poll to wake.
    pub fn attach_poll(&self, waker: mio::Waker) {
        let _ = self.wake.set(Wake::Poll(waker));
    }

    /// Work was published.
    #[inline]
    pub fn notify(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if !self.sleeping.swap(false, Ordering::AcqRel) {
            return;
        }
        match self.wake.get() {
            Some(Wake::Thread(thread)) => thread.unpark(),
            // A waker fails only where the poll it wakes is gone, and with it the sleeper.
            Some(Wake::Poll(waker)) => drop(waker.wake()),
            None => {}
        }
    }

    /// Runs `sleep` unless `has_work` finds something after the intention to sleep is out.
    pub fn sleep_unless(&self, has_work: impl FnOnce() -> bool, sleep: impl FnOnce()) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if !has_work() {
            sleep();
        }
        self.sleeping.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(choice: &str, syncs: bool, allowed: &[usize]) -> String {
        let choice: CoreChoice = choice.parse().unwrap();
        match ThreadPlan::for_cores(&choice, syncs, None, allowed) {
            Ok(plan) => plan.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_plan_follows_from_durability_and_cores() {
        let everything_on_0 = "threads: gateway+journaler+executor+responder on core 0";
        assert_eq!(plan("auto", false, &[0]), everything_on_0);
        // One of two is left to clients and the system.
        assert_eq!(plan("auto", true, &[0, 1]), everything_on_0);
        assert_eq!(
            plan("auto", true, &[0, 1, 2]),
            "threads: gateway+executor+responder on core 0, journaler on core 1"
        );
        assert_eq!(plan("auto", false, &[0, 1, 2]), everything_on_0);
        assert_eq!(
            plan("auto", false, &[0, 1, 2, 3]),
            "threads: gateway+responder on core 0, executor on core 1, journaler on core 2"
        );
        // A list is used whole.
        assert_eq!(
            plan("2,3", true, &[2, 3]),
            "threads: gateway+executor+responder on core 2, journaler on core 3"
        );
        assert_eq!(
            plan("unpinned", true, &[0, 1, 2]),
            "threads: gateway+executor+responder on any core, journaler on any core"
        );
    }

    #[test]
    fn the_layout_can_be_asked_for() {
        let plan = |cores: &[usize], layout| {
            let choice = CoreChoice::List(cores.to_vec());
            let plan = ThreadPlan::for_cores(&choice, true, Some(layout), &[0, 1, 2]).unwrap();
            plan.to_string()
        };
        assert_eq!(
            plan(&[1, 2], Layout::One),
            "threads: gateway+journaler+executor+responder on core 1"
        );
        assert_eq!(
            plan(&[1], Layout::Two),
            "threads: gateway+executor+responder on any core, journaler on any core"
        );
    }

    #[test]
    fn the_journal_goes_where_the_disk_answers_soonest() {
        let allowed = [0, 1, 2, 3];
        let mut plan = ThreadPlan::for_cores(&CoreChoice::Auto, true, None, &allowed).unwrap();
        plan.journal_on(3);
        assert_eq!(plan.cores, [Some(0), Some(1), Some(3)]);
        plan.journal_on(0);
        assert_eq!(plan.cores, [Some(3), Some(1), Some(0)]);
        let dir = tempfile::tempdir().unwrap();
        let there = allowed_cores();
        let nearest = nearest_to_disk(dir.path(), &there).unwrap();
        assert!(nearest.is_none_or(|core| there.contains(&core)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_core_that_is_not_there_is_named_with_those_that_are() {
        assert_eq!(
            plan("0,7", false, &[0, 1]),
            "core 7 is not there; this process may use 0,1"
        );
        assert_eq!(plan("1,1", false, &[0, 1]), "core 1 is listed twice");
        assert!("".parse::<CoreChoice>().is_err());
        assert!("0,x".parse::<CoreChoice>().is_err());
    }

    #[test]
    fn a_sleeper_is_always_woken() {
        use std::sync::Arc;
        use std::sync::atomic::AtomicU64;
        let signal = Arc::new(Signal::default());
        let work = Arc::new(AtomicU64::new(0));
        let sleeper = {
            let (signal, work) = (signal.clone(), work.clone());
            std::thread::spawn(move || {
                signal.attach_thread();
                let mut seen = 0;
                while seen < 10_000 {
                    let now = work.load(Ordering::Acquire);
                    if now > seen {
                        seen = now;
                        continue;
                    }
                    signal.sleep_unless(
                        || work.load(Ordering::Acquire) > seen,
                        || std::thread::park_timeout(Duration::from_secs(10)),
                    );
                }
            })
        };
        let start = Instant::now();
        for _ in 0..10_000 {
            work.fetch_add(1, Ordering::Release);
            signal.notify();
        }
        sleeper.join().unwrap();
        assert!(
            start.elapsed() < Duration::from_secs(9),
            "a wake-up was lost"
        );
    }
}
