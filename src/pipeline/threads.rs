//! Threads: how one rests when idle and is woken, and from which core the disk is nearest.
//!
//! Stages are plain objects with a duty cycle; a [`ThreadPlan`] composes them. A thread that sleeps is
//! woken by the stage before it, which pays a system call only then ([`Signal`]). Cores are looked up
//! once, on the thread that starts the node, because a pinned thread's children see one core only.

pub use super::affinity::{allowed_cores, pin, pin_thread, within};
pub use super::core_choice::{CoreChoice, CoreError};
pub use super::plan::{Fault, IdleMode, Layout, Rest, ThreadPlan, Wish};
pub use super::topology::{Core, Machine, parse_list};

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Puts the thread that journals where syncs in `dir` come back soonest, if it is ours to choose. Only an
/// improvement: a disk that cannot be probed will say so to the journal.
pub fn journal_near_disk(plan: &mut ThreadPlan, dir: &Path) {
    let choices = plan.journal_choices();
    if choices.len() > 1
        && let Ok(Some(core)) = nearest_to_disk(dir, &choices)
    {
        plan.journal_on(core);
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

/// Counts idle duty cycles up the ladder.
pub struct Idle {
    /// `None`: never sleeps.
    spin_for: Option<Duration>,
    since: Option<Instant>,
}

impl Idle {
    /// The ladder of a thread that rests like this; `spin_for` is how long one spins that then sleeps.
    pub fn new(rest: Rest, spin_for: Duration) -> Idle {
        Idle {
            spin_for: match rest {
                Rest::Spins => None,
                Rest::SpinsThenSleeps => Some(spin_for),
                Rest::Sleeps => Some(Duration::ZERO),
            },
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
        let Some(spin_for) = self.spin_for else {
            return false;
        };
        match self.since {
            None => {
                self.since = Some(Instant::now());
                false
            }
            Some(since) => since.elapsed() >= spin_for,
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
        self.while_sleeping(|| {
            if !has_work() {
                sleep();
            }
        });
    }

    /// Runs `look_and_sleep` with the intention to sleep out: it has to look for work before it sleeps.
    pub fn while_sleeping<T>(&self, look_and_sleep: impl FnOnce() -> T) -> T {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let done = look_and_sleep();
        self.sleeping.store(false, Ordering::Release);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_probes_the_disk_names_one_of_the_cores_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let there = allowed_cores();
        let nearest = nearest_to_disk(dir.path(), &there).unwrap();
        assert!(nearest.is_none_or(|core| there.contains(&core)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn threads_rest_as_they_are_told() {
        let rest = |rest, spin_for| Idle::new(rest, Duration::from_millis(spin_for));
        let mut spins = rest(Rest::Spins, 0);
        let mut for_long = rest(Rest::SpinsThenSleeps, 60_000);
        let mut for_nothing = rest(Rest::SpinsThenSleeps, 0);
        let mut sleeps = rest(Rest::Sleeps, 60_000);
        for idle in [&mut spins, &mut for_long, &mut for_nothing, &mut sleeps] {
            // The first idle cycle only notes the time.
            assert!(!idle.may_sleep());
        }
        assert!(!spins.may_sleep());
        assert!(!for_long.may_sleep());
        assert!(for_nothing.may_sleep());
        assert!(sleeps.may_sleep());
        sleeps.worked();
        assert!(!sleeps.may_sleep());
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
