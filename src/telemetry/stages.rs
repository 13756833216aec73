//! Where the time of commands goes, live: a histogram for each stage, of the last whole second and
//! since start. Kept by the thread that sends the replies, which alone writes and reads it.
//!
//! It must cost next to nothing. Moments are read once per batch and not once per command: the door
//! stamps what it reads together with one time, the journaler and the executor note theirs per batch. So
//! commands that follow each other mostly passed all stages at the same moments, are counted as one run,
//! and are recorded as one; none is left out. Runs are recorded many at a time, stage by stage, so that the
//! histograms are not fetched into the caches anew for each.

use super::{BatchLog, BatchReader, BatchTimes, Progress, clock};
use crate::protocol::session::{Span, Stage, StageTimes};
use crate::protocol::wire::Zero;
use hdrhistogram::Histogram;
use std::sync::Arc;

/// Runs that are kept before they are recorded, and room for those of one more duty cycle, which has not
/// more than it sends events.
const RUNS: usize = 64;
const RUNS_MAX: usize = RUNS + 1_024;
const SECOND: u64 = 1_000_000_000;
/// Longer times count as this, ns.
const LONGEST: u64 = 100 * SECOND;

/// When a command passed from stage to stage, ns since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// The door took it.
    pub door: u64,
    /// The journaler's work on its batch.
    pub batch: BatchTimes,
    /// The executor handed on its events.
    pub executed: u64,
}

/// Commands that passed all stages at the same moments.
#[derive(Debug)]
struct Run {
    moments: Moments,
    commands: u64,
    /// When their replies were sent, 0 while they are not.
    sent: u64,
}

/// The histograms of all stages.
#[derive(Debug)]
pub struct StageClock {
    /// The run that is growing: its moments at the door and of its execution, the last command of its
    /// batch, and how many came after the one that began it. All that most commands look at.
    door: u64,
    executed: u64,
    batch_ends: u64,
    more: u64,
    batches: BatchReader,
    /// Runs that are not recorded yet.
    runs: Vec<Run>,
    /// So many of them have been sent.
    sent: usize,
    /// The second that is under way, the one before, and all before this one.
    present: Histograms,
    last: Histograms,
    before: Histograms,
    /// When the present second began.
    began: u64,
}

#[derive(Debug)]
struct Histograms([Histogram<u64>; Stage::ALL.len()]);

impl Histograms {
    fn new() -> Histograms {
        Histograms(std::array::from_fn(|_| {
            Histogram::new_with_bounds(1, LONGEST, 1).expect("bounds are sound")
        }))
    }

    fn clear(&mut self) {
        self.0.iter_mut().for_each(Histogram::reset);
    }

    fn record(&mut self, stage: Stage, ns: u64, count: u64) {
        let histogram = &mut self.0[stage as usize];
        histogram.saturating_record_n(ns.clamp(1, LONGEST), count);
    }
}

impl StageClock {
    /// Has the journaler of `progress` log its batches, of which so many can be under way, and begins now.
    pub fn of(progress: &Progress, batches_under_way: usize) -> StageClock {
        let log = progress
            .batches
            .get_or_init(|| Arc::new(BatchLog::new(batches_under_way)));
        StageClock::new(BatchReader::new(log.clone()), clock().0)
    }

    /// Histograms without a command, at the time `now`.
    fn new(batches: BatchReader, now: u64) -> StageClock {
        StageClock {
            door: 0,
            executed: 0,
            batch_ends: 0,
            more: 0,
            batches,
            runs: Vec::with_capacity(RUNS_MAX),
            sent: 0,
            present: Histograms::new(),
            last: Histograms::new(),
            before: Histograms::new(),
            began: now,
        }
    }

    /// The last event of command `sequence` came out: the door took it at `door`, its events were
    /// handed on at `executed`. Commands come in order.
    #[inline]
    pub fn answered(&mut self, sequence: u64, door: u64, executed: u64) {
        if door == self.door && executed == self.executed && sequence <= self.batch_ends {
            self.more += 1;
        } else {
            self.begin_run(sequence, door, executed);
        }
    }

    fn begin_run(&mut self, sequence: u64, door: u64, executed: u64) {
        self.end_run();
        let Some(batch) = self.batches.batch_of(sequence) else {
            return;
        };
        (self.door, self.executed) = (door, executed);
        self.batch_ends = batch.last_sequence;
        self.runs.push(Run {
            moments: Moments {
                door,
                batch,
                executed,
            },
            commands: 1,
            sent: 0,
        });
    }

    /// What grew has its number, and nothing grows until another begins.
    fn end_run(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.commands += self.more;
        }
        self.more = 0;
        self.batch_ends = 0;
    }

    /// Whether replies wait for [`StageClock::sent`].
    #[inline]
    pub fn waits(&self) -> bool {
        self.sent < self.runs.len()
    }

    /// What was answered in this duty cycle has been sent, at `now`.
    pub fn sent(&mut self, now: u64) {
        // What was sent before belongs to the second that it was sent in.
        self.turn(now);
        self.end_run();
        for run in &mut self.runs[self.sent..] {
            run.sent = now;
        }
        self.sent = self.runs.len();
        if self.sent >= RUNS {
            self.record();
        }
    }

    /// Puts the runs that were sent into the histograms.
    fn record(&mut self) {
        let sent = &self.runs[..self.sent];
        let mut record = |stage, from: fn(&Run) -> u64, to: fn(&Run) -> u64| {
            for run in sent {
                let ns = to(run).saturating_sub(from(run));
                self.present.record(stage, ns, run.commands);
            }
        };
        let door = |run: &Run| run.moments.door;
        let taken = |run: &Run| run.moments.batch.taken_at;
        let appended = |run: &Run| run.moments.batch.appended_at;
        let durable = |run: &Run| run.moments.batch.durable_at;
        let executed = |run: &Run| run.moments.executed;
        let sent = |run: &Run| run.sent;
        record(Stage::RingWait, door, taken);
        record(Stage::Journal, taken, appended);
        record(Stage::Sync, appended, durable);
        record(Stage::Engine, durable, executed);
        record(Stage::Reply, executed, sent);
        record(Stage::Total, door, sent);
        self.runs.drain(..self.sent);
        self.sent = 0;
    }

    /// Closes the seconds that are over.
    fn turn(&mut self, now: u64) {
        let over = now.saturating_sub(self.began) / SECOND;
        if over == 0 {
            return;
        }
        self.record();
        for (before, present) in self.before.0.iter_mut().zip(&self.present.0) {
            before.add(present).expect("both have the same bounds");
        }
        std::mem::swap(&mut self.last, &mut self.present);
        self.present.clear();
        if over > 1 {
            self.last.clear();
        }
        self.began += over * SECOND;
    }

    /// Every stage's times over `span`, as of `now`.
    pub fn report(&mut self, span: Span, now: u64) -> [StageTimes; Stage::ALL.len()] {
        self.turn(now);
        self.record();
        std::array::from_fn(|at| {
            let times = match span {
                Span::LastSecond => self.last.0[at].clone(),
                Span::SinceStart => {
                    let mut all = self.before.0[at].clone();
                    all.add(&self.present.0[at]).expect("the same bounds");
                    all
                }
            };
            StageTimes {
                stage: Stage::ALL[at],
                span,
                _reserved: [Zero::Zero; 6],
                commands: times.len(),
                mean_ns: times.mean() as u64,
                p50_ns: times.value_at_quantile(0.5),
                p90_ns: times.value_at_quantile(0.9),
                p99_ns: times.value_at_quantile(0.99),
                p999_ns: times.value_at_quantile(0.999),
                max_ns: times.max(),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::BatchLog;
    use super::*;
    use std::sync::Arc;

    const START: u64 = 1_000 * SECOND;

    fn clock_with(batches: &[BatchTimes]) -> StageClock {
        let log = Arc::new(BatchLog::new(1_024));
        batches.iter().for_each(|batch| log.push(*batch));
        StageClock::new(BatchReader::new(log), START)
    }

    fn batch(last_sequence: u64, taken_at: u64) -> BatchTimes {
        BatchTimes {
            first_sequence: 1,
            last_sequence,
            taken_at,
            appended_at: taken_at + 2_000,
            durable_at: taken_at + 100_000,
        }
    }

    fn near(value: u64, expected: u64) -> bool {
        value.abs_diff(expected) * 16 <= expected
    }

    #[test]
    fn the_stages_of_a_command_add_up_to_its_total() {
        let mut clock = clock_with(&[batch(3, START + 1_000)]);
        clock.answered(1, START, START + 105_000);
        assert!(clock.waits());
        clock.sent(START + 112_000);
        assert!(!clock.waits());
        let times = clock.report(Span::SinceStart, START + 200_000);
        let expected = [1_000, 2_000, 98_000, 4_000, 7_000, 112_000];
        assert_eq!(times.len(), expected.len());
        for (stage, ns) in times.iter().zip(expected) {
            assert_eq!(stage.commands, 1);
            assert!(
                near(stage.p50_ns, ns) && near(stage.mean_ns, ns),
                "{stage:?}"
            );
        }
        let sum: u64 = times[..5].iter().map(|stage| stage.mean_ns).sum();
        assert!(near(sum, times[5].mean_ns));
    }

    #[test]
    fn the_last_second_is_the_last_whole_one() {
        let mut clock = clock_with(&[batch(100, START)]);
        clock.answered(1, START, START + 100_000);
        clock.sent(START + 200_000);
        let commands = |clock: &mut StageClock, span, now| clock.report(span, now)[0].commands;
        assert_eq!(
            commands(&mut clock, Span::LastSecond, START + SECOND - 1),
            0
        );
        assert_eq!(commands(&mut clock, Span::LastSecond, START + SECOND), 1);
        assert_eq!(
            commands(&mut clock, Span::LastSecond, START + 2 * SECOND),
            0
        );
        assert_eq!(
            commands(&mut clock, Span::SinceStart, START + 9 * SECOND),
            1
        );
        clock.answered(2, START, START + 9 * SECOND);
        clock.sent(START + 9 * SECOND);
        assert_eq!(
            commands(&mut clock, Span::SinceStart, START + 9 * SECOND),
            2
        );
        assert_eq!(
            commands(&mut clock, Span::LastSecond, START + 11 * SECOND),
            0
        );
    }

    #[test]
    fn commands_that_passed_together_are_one_run_and_all_are_counted() {
        let mut clock = clock_with(&[batch(10_000, START)]);
        for sequence in 1..=1_024 {
            let (door, executed) = (START + sequence / 256, START + 100_000 + sequence / 512);
            clock.answered(sequence, door, executed);
        }
        assert_eq!(clock.runs.len(), 5);
        clock.sent(START + 200_000);
        let times = clock.report(Span::SinceStart, START);
        assert!(times.iter().all(|it| it.commands == 1_024), "{times:?}");
    }

    #[test]
    fn a_run_ends_with_its_batch() {
        let mut later = batch(4, START + 50_000);
        later.first_sequence = 3;
        let mut clock = clock_with(&[batch(2, START), later]);
        for sequence in 1..=4 {
            clock.answered(sequence, START, START + 200_000);
        }
        assert_eq!(clock.runs.len(), 2);
        clock.sent(START + 210_000);
        let times = clock.report(Span::SinceStart, START);
        assert!(near(times[0].max_ns, 50_000), "{times:?}");
    }

    #[test]
    fn commands_of_batches_that_are_not_logged_are_left_out() {
        let mut clock = clock_with(&[]);
        clock.answered(1, START, START + 1);
        clock.sent(START + 2);
        assert_eq!(clock.report(Span::SinceStart, START)[0].commands, 0);
    }
}
