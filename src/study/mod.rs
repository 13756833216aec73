//! The study that an operator puts before a board: the same day of payments at several levels of
//! liquidity, without and with liquidity saving, and with a solver beside it, through the real engine.
//!
//! ```text
//! day (from a seed, or a file) --> bounds --> opening balances of each level
//!   '--> play: the commands of a node, on the engine's own clock --> measures --> report, picture
//! ```
//! The same day and plan give the same bytes of report and picture: plays run on several threads,
//! but know nothing of each other.

pub mod bounds;
pub mod day;
pub mod input;
pub mod measures;
pub mod picture;
pub mod play;
pub mod report;

use bounds::{Bounds, Level, Scale};
use day::Day;
use play::{Batches, Played, Rules, Saving, play};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Threads at most: each has an engine with room for the whole day.
const THREADS_MAX: usize = 8;

/// What is to be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Levels of liquidity, ascending.
    pub levels: Vec<Level>,
    /// What they are a percentage of.
    pub scale: Scale,
    /// How liquidity is saved where it is.
    pub saving: Saving,
    /// How a solver works beside it, if one is to be played, too.
    pub batches: Option<Batches>,
}

impl Plan {
    /// The rules that every level is played by.
    pub fn rules(&self) -> Vec<Rules> {
        let mut rules = vec![Rules::Plain, Rules::Saving(self.saving)];
        rules.extend(
            self.batches
                .map(|batches| Rules::Batches(self.saving, batches)),
        );
        rules
    }

    /// Payments that a day of `payments` makes in all.
    pub fn payments(&self, payments: usize) -> u64 {
        (payments * self.levels.len() * self.rules().len()) as u64
    }
}

/// The day at one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The level.
    pub level: Level,
    /// What came of it, by the rules of [`Plan::rules`].
    pub plays: Vec<Played>,
}

/// A day, its bounds, and what came of it at every level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Study {
    /// What was played.
    pub plan: Plan,
    /// The bounds of the day.
    pub bounds: Bounds,
    /// By level, ascending.
    pub rows: Vec<Row>,
}

impl Study {
    /// Plays the day; `done` counts payments as they are submitted.
    ///
    /// # Errors
    /// What [`play()`] found wrong.
    pub fn make(day: &Day, plan: Plan, done: &AtomicU64) -> Result<Study, String> {
        let bounds = Bounds::of(day);
        let rules = plan.rules();
        let jobs = plan.levels.len() * rules.len();
        let (next, results) = (AtomicUsize::new(0), Mutex::new(vec![None; jobs]));
        let work = || {
            loop {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    return;
                }
                let (level, rules) = (plan.levels[job / rules.len()], rules[job % rules.len()]);
                let opening = bounds.opening(plan.scale, level);
                let played = play(day, &opening, rules, done, &mut |_| {});
                results.lock().expect("no play panics")[job] = Some(played);
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cores.min(jobs).min(THREADS_MAX) {
                scope.spawn(work);
            }
        });
        let results = results.into_inner().expect("no play panics");
        let mut plays = results.into_iter().map(|result| result.expect("played"));
        let mut rows = Vec::with_capacity(plan.levels.len());
        for level in &plan.levels {
            let plays: Result<Vec<Played>, String> = plays.by_ref().take(rules.len()).collect();
            let plays = plays.map_err(|why| format!("at {level} %: {why}"))?;
            rows.push(Row {
                level: *level,
                plays,
            });
        }
        Ok(Study { plan, bounds, rows })
    }

    /// The level at which rules `other` have the same delay as plain ones have at `row`: between two
    /// levels by the straight line between their delays.
    pub fn level_of_equal_delay(&self, row: usize, other: usize) -> EqualDelay {
        let wanted = self.rows[row].plays[0].measures.delay();
        let delay = |row: &Row| row.plays[other].measures.delay();
        let lowest = &self.rows[0];
        if delay(lowest) <= wanted {
            return EqualDelay::AtMost(lowest.level.percent());
        }
        for pair in self.rows.windows(2) {
            let (above, below) = (delay(&pair[0]), delay(&pair[1]));
            if below <= wanted {
                let (from, to) = (pair[0].level.percent(), pair[1].level.percent());
                let share = (above - wanted) / (above - below);
                return EqualDelay::At(from + (to - from) * share);
            }
        }
        EqualDelay::Never
    }
}

/// Where two sets of rules have the same delay, in percent of liquidity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EqualDelay {
    /// At this level.
    At(f64),
    /// Below the lowest level played, which is this.
    AtMost(f64),
    /// At no level played.
    Never,
}
