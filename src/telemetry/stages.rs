//! Where the time of commands goes, live: a histogram for each stage, of the last whole second and
//! since start. Kept by the thread that sends the replies, which alone writes and reads it.
//!
//! It must cost next to nothing, so of a long queue it looks at every sixteenth command only and counts
//! it for those it passed; where few commands come at a time it looks at each.

use super::{BatchReader, BatchTimes};
use crate::protocol::session::{Span, Stage, StageTimes};
use crate::protocol::wire::Zero;
use hdrhistogram::Histogram;

/// The first so many commands of a duty cycle are all looked at; of those after them one in so many.
const ALL_OF_FIRST: u32 = 16;
const ONE_IN: u32 = 16;
/// Commands looked at in one duty cycle at most.
const PENDING_MAX: usize = 256;
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

/// The histograms of all stages.
#[derive(Debug)]
pub struct StageClock {
    batches: BatchReader,
    /// Commands looked at whose replies are not sent yet, and for how many each counts.
    pending: Vec<(Moments, u64)>,
    /// Commands seen in this duty cycle.
    seen: u32,
    /// Commands passed over since the last one looked at.
    passed: u64,
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
    /// Histograms without a command, at the time `now`.
    pub fn new(batches: BatchReader, now: u64) -> StageClock {
        StageClock {
            batches,
            pending: Vec::with_capacity(PENDING_MAX),
            seen: 0,
            passed: 0,
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
        self.seen += 1;
        self.passed += 1;
        if self.seen <= ALL_OF_FIRST || self.seen.is_multiple_of(ONE_IN) {
            self.look_at(sequence, door, executed);
        }
    }

    fn look_at(&mut self, sequence: u64, door: u64, executed: u64) {
        if self.pending.len() == PENDING_MAX {
            return;
        }
        if let Some(batch) = self.batches.batch_of(sequence) {
            let moments = Moments {
                door,
                batch,
                executed,
            };
            self.pending.push((moments, self.passed));
            self.passed = 0;
        }
    }

    /// Whether replies wait for [`StageClock::sent`].
    #[inline]
    pub fn waits(&self) -> bool {
        self.seen > 0
    }

    /// What was answered in this duty cycle has been sent, at `now`.
    pub fn sent(&mut self, now: u64) {
        self.turn(now);
        self.seen = 0;
        for (moments, count) in self.pending.drain(..) {
            let Moments {
                door,
                batch,
                executed,
            } = moments;
            let steps = [
                (Stage::RingWait, door, batch.taken_at),
                (Stage::Journal, batch.taken_at, batch.appended_at),
                (Stage::Sync, batch.appended_at, batch.durable_at),
                (Stage::Engine, batch.durable_at, executed),
                (Stage::Reply, executed, now),
                (Stage::Total, door, now),
            ];
            for (stage, from, to) in steps {
                self.present.record(stage, to.saturating_sub(from), count);
            }
        }
    }

    /// Closes the seconds that are over.
    fn turn(&mut self, now: u64) {
        let over = now.saturating_sub(self.began) / SECOND;
        if over == 0 {
            return;
        }
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

    /// Commits of the journal so far.
    pub fn commits(&self) -> u64 {
        self.batches.written()
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
    fn of_a_long_queue_a_sixteenth_is_looked_at_and_all_are_counted() {
        let mut clock = clock_with(&[batch(10_000, START)]);
        for sequence in 1..=1_024 {
            clock.answered(sequence, START, START + 100_000);
        }
        assert_eq!(clock.pending.len(), 16 + (1_024 - 16) / 16);
        clock.sent(START + 200_000);
        assert_eq!(clock.report(Span::SinceStart, START)[0].commands, 1_024);
    }

    #[test]
    fn commands_of_batches_that_are_not_logged_are_left_out() {
        let mut clock = clock_with(&[]);
        clock.answered(1, START, START + 1);
        clock.sent(START + 2);
        assert_eq!(clock.report(Span::SinceStart, START)[0].commands, 0);
    }
}
