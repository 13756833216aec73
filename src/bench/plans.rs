//! Thread plans over the wire: the same client and the same load on one node after the other, by turns.

use super::histogram;
use super::wire::{Wire, WireError};
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// What one turn does.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Round trips with one command in flight, as far as `within` allows.
    pub rounds: usize,
    /// How long they may take.
    pub within: Duration,
    /// Commands with `window` in flight.
    pub commands: u64,
    /// Commands in flight.
    pub window: usize,
    /// Commands of the open loop.
    pub paced: u64,
    /// Commands a second of the open loop.
    pub rate: u64,
}

/// What all turns on a node came to.
pub struct Figures {
    /// One in flight, ns.
    pub round_trip: Histogram<u64>,
    /// Commands a second of each turn with a window in flight.
    pub per_second: Vec<f64>,
    /// Open loop, from each planned moment, ns.
    pub paced: Histogram<u64>,
    /// Commands and time of the open loops.
    pub paced_commands: u64,
    /// Their time.
    pub paced_elapsed: Duration,
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            round_trip: histogram(),
            per_second: Vec::new(),
            paced: histogram(),
            paced_commands: 0,
            paced_elapsed: Duration::ZERO,
        }
    }
}

impl Figures {
    /// One turn on the node that `wire` is on.
    ///
    /// # Errors
    /// What the client ran into.
    pub fn take(&mut self, wire: &mut Wire, turn: &Turn) -> Result<(), WireError> {
        // Wakes the node and fills its caches.
        wire.throughput((turn.commands / 10).clamp(1, 10_000), turn.window)?;
        let started = Instant::now();
        for _ in 0..turn.rounds {
            let took = wire.round_trip()?;
            self.round_trip.saturating_record(took.as_nanos() as u64);
            if started.elapsed() > turn.within {
                break;
            }
        }
        self.per_second
            .push(wire.throughput(turn.commands, turn.window)?);
        let stages = wire.open_loop(turn.paced, turn.rate)?;
        self.paced += &stages.total;
        self.paced_commands += stages.commands;
        self.paced_elapsed += stages.elapsed;
        Ok(())
    }

    /// Commands a second with a window in flight: the median turn.
    pub fn median_per_second(&self) -> f64 {
        let mut all = self.per_second.clone();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    }

    /// Commands a second that the open loop came to.
    pub fn paced_per_second(&self) -> f64 {
        self.paced_commands as f64 / self.paced_elapsed.as_secs_f64().max(1e-9)
    }
}
