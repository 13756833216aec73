//! One node, one switch, on and off by turns while a client keeps it full: what a part of a node costs
//! that can be turned off while it runs. Both sides of every comparison are the same process with the same
//! memory, a moment apart, so that neither where tables came to lie nor the machine's mood decides.

use super::lines::{Lines, LinesError};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::time::{Duration, Instant};

/// How long the switch stands one way; the first tenth is not counted, since batches are under way.
pub const SLICE: Duration = Duration::from_millis(50);

/// What one slice did.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    answered: u64,
    seconds: f64,
    busy_ns: u64,
}

/// On against off, one entry for each pair of neighbouring slices.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Commands a second, on over off.
    pub throughput: Vec<f64>,
    /// The server's processor time per command inside its turns, on over off.
    pub busy: Vec<f64>,
    /// Commands and seconds of all slices, on and off.
    totals: [(u64, f64); 2],
}

/// The middle of some ratios and where it lies with 95 % certainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The median.
    pub median: f64,
    /// Least and most it may be.
    pub bounds: (f64, f64),
}

impl Pairs {
    /// Commands a second, all slices together, switched on and switched off.
    pub fn per_second(&self) -> [f64; 2] {
        self.totals
            .map(|(answered, seconds)| answered as f64 / seconds)
    }

    /// Takes in those of another node.
    pub fn add(&mut self, other: Pairs) {
        self.throughput.extend(other.throughput);
        self.busy.extend(other.busy);
        for (total, other) in self.totals.iter_mut().zip(other.totals) {
            *total = (total.0 + other.0, total.1 + other.1);
        }
    }

    fn push(&mut self, on: Slice, off: Slice) {
        for (total, slice) in self.totals.iter_mut().zip([on, off]) {
            *total = (total.0 + slice.answered, total.1 + slice.seconds);
        }
        let rate = |slice: Slice| slice.answered as f64 / slice.seconds;
        let busy = |slice: Slice| slice.busy_ns as f64 / slice.answered as f64;
        // A slice that came to nothing, since others had the cores, says nothing of either side.
        let counts = |slice: Slice| slice.answered > 0 && slice.busy_ns > 0;
        if counts(on) && counts(off) {
            self.throughput.push(rate(on) / rate(off));
            self.busy.push(busy(on) / busy(off));
        }
    }
}

/// Makes `pairs` pairs of slices, or as many as begin before `most` commands are done, but one at least, with
/// `in_flight` commands in flight.
/// Which of a pair is on first is drawn anew each time.
pub fn alternate(
    lines: &mut Lines,
    in_flight: usize,
    pairs: usize,
    most: u64,
    seed: u64,
    turn: impl Fn(bool),
    busy_ns: impl Fn() -> u64,
) -> Result<Pairs, LinesError> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut done = Pairs::default();
    // Warm, and not counted.
    let began = Instant::now();
    lines.keep_full(in_flight, |_| began.elapsed() < 2 * SLICE)?;
    let mut on_first = rng.random::<bool>();
    turn(on_first);
    let mut is_second = false;
    let mut first = Slice::default();
    let mut began = Instant::now();
    let mut counted_from = None;
    lines.keep_full(in_flight, |answered| {
        let now = Instant::now();
        if counted_from.is_none() && now - began >= SLICE / 10 {
            counted_from = Some((now, answered, busy_ns()));
        }
        if now - began < SLICE {
            return true;
        }
        let (from, before, busy) = counted_from.take().unwrap_or((began, answered, busy_ns()));
        let slice = Slice {
            answered: answered - before,
            seconds: (now - from).as_secs_f64(),
            busy_ns: busy_ns() - busy,
        };
        if is_second {
            let (on, off) = if on_first {
                (first, slice)
            } else {
                (slice, first)
            };
            done.push(on, off);
            on_first = rng.random::<bool>();
        }
        first = slice;
        is_second = !is_second;
        turn(on_first != is_second);
        began = now;
        let is_enough = answered >= most && !done.throughput.is_empty();
        done.throughput.len() < pairs && !is_enough
    })?;
    turn(true);
    Ok(done)
}

/// The median of `ratios` with the interval of the sign test: the ratios that lie so far from both ends that
/// as many or more on one side of the true median come in less than one case in forty. It asks nothing of
/// how they are distributed.
///
/// # Panics
/// Where there are none.
pub fn interval(ratios: &[f64]) -> Interval {
    let mut sorted = ratios.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let outside = outside(sorted.len());
    Interval {
        median: sorted[sorted.len() / 2],
        bounds: (sorted[outside], sorted[sorted.len() - 1 - outside]),
    }
}

/// The most of `n` fair coins that fall one way, so many or fewer, with a chance of 2.5 % at most; 0 where
/// there are too few coins for that.
fn outside(n: usize) -> usize {
    // The chance that exactly `heads` do, as a logarithm: two to the -n is no number for large n.
    let mut exactly = -(n as f64) * std::f64::consts::LN_2;
    let mut at_most = 0.0;
    for heads in 0..n / 2 {
        at_most += exactly.exp();
        if at_most > 0.025 {
            return heads.saturating_sub(1);
        }
        exactly += ((n - heads) as f64 / (heads + 1) as f64).ln();
    }
    n.saturating_sub(1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::echo::Echo;
    use crate::bench::lines::Peer;
    use crate::bench::workload::Transfers;
    use std::cell::RefCell;

    /// From the tables of the sign test: of 10 values the 2nd and the 9th bound the median, of 100 the
    /// 40th and the 61st.
    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        assert_eq!(outside(10), 1);
        assert_eq!(outside(100), 39);
        let ratios: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let found = interval(&ratios);
        assert_eq!(found.bounds, (40.0, 61.0));
        assert_eq!(found.median, 51.0);
        assert_eq!(interval(&[1.5]).bounds, (1.5, 1.5));
        assert!((450..500).contains(&outside(1_000)));
    }

    #[test]
    fn slices_are_on_and_off_in_pairs() {
        let echo = Echo::start(None, None).unwrap();
        let workload = Transfers::new(10, 1);
        let mut lines = Lines::new(echo.address(), Peer::Echo, workload, false).unwrap();
        lines.connect(1).unwrap();
        let turns = RefCell::new(Vec::new());
        let turn = |on| turns.borrow_mut().push(on);
        let busy = || echo.busy_ns();
        let pairs = alternate(&mut lines, 4, 3, u64::MAX, 1, turn, busy).unwrap();
        assert_eq!(pairs.throughput.len(), 3);
        assert!(pairs.per_second().iter().all(|it| *it > 0.0));
        // Two slices a pair, the one that the third ended with, and back to on.
        let turns = turns.borrow();
        assert_eq!(turns.len(), 8);
        assert!((0..3).all(|pair| turns[2 * pair] != turns[2 * pair + 1]));
        assert!(turns[7]);
    }

    #[test]
    fn few_commands_end_it_after_a_pair() {
        let echo = Echo::start(None, None).unwrap();
        let workload = Transfers::new(10, 1);
        let mut lines = Lines::new(echo.address(), Peer::Echo, workload, false).unwrap();
        lines.connect(1).unwrap();
        let pairs = alternate(&mut lines, 1, 9, 1, 1, |_| (), || echo.busy_ns()).unwrap();
        assert_eq!(pairs.throughput.len(), 1);
    }
}
