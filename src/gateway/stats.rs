//! What a node says of itself when asked: counts, how far the stages are, and where the time of
//! commands goes.

use crate::pipeline::{Host, Ingress, Responder};
use crate::protocol::session::{NodeStats, Span};
use crate::protocol::units::Timestamp;
use crate::telemetry::{GatewayCounters, StageClock};

use super::connection::Connection;
use super::sockets::Stream;

const SECOND: u64 = 1_000_000_000;

/// The node's numbers that the gateway's thread keeps.
pub struct Stats {
    started_at: Timestamp,
    /// `None` where stages are not measured.
    pub stages: Option<Box<StageClock>>,
    /// It, while measuring is switched off.
    resting: Option<Box<StageClock>>,
    ring: Peak,
    host: Host,
}

/// The largest value of the present second, and of the one before.
#[derive(Debug, Default)]
struct Peak {
    present: u64,
    last: u64,
    began: u64,
}

impl Peak {
    #[inline]
    fn note(&mut self, value: u64) {
        self.present = self.present.max(value);
    }

    /// The last whole second's, as of `now`.
    fn of_last_second(&mut self, now: u64) -> u64 {
        let over = now.saturating_sub(self.began) / SECOND;
        if over > 0 {
            self.last = if over == 1 { self.present } else { 0 };
            self.present = 0;
            self.began += over * SECOND;
        }
        self.last
    }
}

impl Stats {
    /// Nothing counted yet.
    pub fn new(stages: Option<StageClock>, host: Host) -> Stats {
        let started_at = (host.clock)();
        Stats {
            started_at,
            stages: stages.map(Box::new),
            resting: None,
            ring: Peak {
                began: started_at.0,
                ..Peak::default()
            },
            host,
        }
    }

    /// Stages are to be measured, or not. For between two duty cycles.
    #[inline]
    pub fn measure_stages(&mut self, on: bool) {
        if on != self.stages.is_some() {
            std::mem::swap(&mut self.stages, &mut self.resting);
        }
    }

    /// The ring holds so many commands' slots.
    #[inline]
    pub fn ring_holds(&mut self, slots: u64) {
        self.ring.note(slots);
    }

    /// Seconds that are over are closed even when nobody asks. For now and then.
    pub fn turn(&mut self) {
        self.ring.of_last_second((self.host.clock)().0);
    }

    /// The answer to somebody who asks.
    pub fn answer<S: Stream>(
        &mut self,
        connection: &mut Connection<S>,
        ingress: &Ingress,
        responder: &Responder,
        counters: &GatewayCounters,
    ) {
        let at = (self.host.clock)();
        if let Some(stages) = &mut self.stages {
            for span in Span::ALL {
                for times in &stages.report(*span, at.0) {
                    connection.say(times);
                }
            }
        }
        let progress = ingress.progress();
        connection.say(&NodeStats {
            at,
            started_at: self.started_at,
            sequence: progress.executed.get(),
            durable: progress.durable.get(),
            commands: ingress.published(),
            answered: responder.answered(),
            busy: counters.busy.get(),
            commits: progress.commits.get(),
            ring_slots_used: ingress.slots_in_flight(),
            ring_slots_peak: self.ring.of_last_second(at.0),
            journal_space: progress.journal_space.get(),
            connections: counters.open.get(),
            accepted: counters.accepted.get(),
            slow_consumers: counters.slow_consumers.get(),
            malformed: counters.malformed.get(),
            sessions: ingress.sessions().len() as u64,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_that_of_the_last_whole_second() {
        let mut peak = Peak::default();
        peak.note(7);
        peak.note(3);
        assert_eq!(peak.of_last_second(SECOND - 1), 0);
        assert_eq!(peak.of_last_second(SECOND), 7);
        peak.note(2);
        assert_eq!(peak.of_last_second(SECOND + 5), 7);
        assert_eq!(peak.of_last_second(2 * SECOND), 2);
        assert_eq!(peak.of_last_second(9 * SECOND), 0);
    }
}
