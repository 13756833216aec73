//! Plays a day against a node, open loop: every command has its planned moment, and its latency
//! runs from there, however late the client or the node is.

use super::day::Day;
use super::{Audience, DemoError};
use crate::bench::histogram;
use crate::client::Client;
use crate::protocol::command::CommandKind;
use crate::protocol::event::{Event, SettledBy};
use crate::protocol::frame::{CommandFrame, EventSlot};
use crate::telemetry::clock;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// What happened.
#[derive(Default)]
pub struct Outcome {
    /// Payments and minor units by what settled them.
    pub settled: BTreeMap<SettledBy, (u64, u128)>,
    /// Payments that ever waited.
    pub queued: u64,
    /// The most that waited at once: payments, minor units.
    pub queue_peak: (u64, u128),
    /// Payments refused at the end of the day: payments, minor units.
    pub unsettled: (u64, u128),
    /// Runs of gridlock resolution that settled something.
    pub gridlocks: u64,
    /// Orders accepted.
    pub orders: u64,
    /// Orders refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Fills, lots and minor units.
    pub trades: (u64, u128, u128),
    /// What the house earned, minor units.
    pub fees: i128,
    /// Commands of the day and how long it took.
    pub commands: u64,
    pub elapsed: Duration,
    /// The most commands in flight at once.
    pub in_flight_peak: usize,
    /// Planned moment to the node's door.
    pub request: Stage,
    /// The door to the end of execution: ring, journal, sync, engine.
    pub processing: Stage,
    /// End of execution to the client.
    pub response: Stage,
    /// Planned moment to the client.
    pub total: Stage,
    queue: (u64, u128),
}

/// Latencies of one stage, ns.
pub struct Stage(pub Histogram<u64>);

impl Default for Stage {
    fn default() -> Stage {
        Stage(histogram())
    }
}

impl Stage {
    fn record(&mut self, from: u64, to: u64) {
        self.0.saturating_record(to.saturating_sub(from));
    }
}

/// Plays the day; `rate` is in commands per second.
pub fn play(
    client: &mut Client,
    day: &Day,
    rate: u64,
    audience: &mut impl Audience,
) -> Result<Outcome, DemoError> {
    let mut outcome = Outcome::default();
    all(client, &day.setup, &mut outcome)?;
    audience.says("the day is open");
    open_loop(client, &day.business, rate, &mut outcome, audience)?;
    audience.says("cut-off, end of day: what still waits is rejected, day orders expire");
    all(client, &day.closing, &mut outcome)?;
    Ok(outcome)
}

/// Sends everything at once and waits for all of it.
fn all(
    client: &mut Client,
    frames: &[CommandFrame],
    outcome: &mut Outcome,
) -> Result<(), DemoError> {
    for frame in frames {
        client.submit(frame)?;
    }
    let mut refused = None;
    client.drain(|event| {
        if let Some(Event::Rejected(rejected)) = event.event() {
            refused = Some(format!("{} was refused: {}", rejected.cmd, rejected.reason));
        }
        outcome.see(event);
    })?;
    refused.map_or(Ok(()), |why| Err(DemoError::Wrong(why)))
}

/// Sends each frame at its planned moment; takes replies as they come.
fn open_loop(
    client: &mut Client,
    frames: &[CommandFrame],
    rate: u64,
    outcome: &mut Outcome,
    audience: &mut impl Audience,
) -> Result<(), DemoError> {
    let gap = 1_000_000_000 / rate.max(1);
    let start = clock().0 + 1_000_000;
    let planned = |at: u64| start + at * gap;
    let first = client.replies_seen() + 1;
    let (mut sent, mut answered) = (0u64, 0u64);
    let total = frames.len() as u64;
    while answered < total {
        let now = clock().0;
        while sent < total && planned(sent) <= now {
            client.submit(&frames[sent as usize])?;
            sent += 1;
        }
        outcome.in_flight_peak = outcome.in_flight_peak.max(client.in_flight());
        let mut idle = true;
        while let Some(event) = client.poll()? {
            idle = false;
            outcome.see(&event);
            if event.is_last() {
                answered += 1;
                outcome.measure(&event, planned(event.header.client_sequence - first));
                if answered.is_multiple_of(1_024) {
                    audience.progress(answered as usize, frames.len(), outcome.queue.0);
                }
            }
        }
        if idle {
            // The node has the cores; a client that spun would take one from it.
            std::thread::sleep(Duration::from_micros(20));
        }
    }
    outcome.commands = total;
    outcome.elapsed = Duration::from_nanos(clock().0 - start);
    audience.progress(frames.len(), frames.len(), outcome.queue.0);
    Ok(())
}

impl Outcome {
    fn measure(&mut self, event: &EventSlot, planned: u64) {
        let received = clock().0;
        let header = &event.header;
        self.request.record(planned, header.at);
        self.processing.record(header.at, header.executed_at);
        self.response.record(header.executed_at, received);
        self.total.record(planned, received);
    }

    fn see(&mut self, event: &EventSlot) {
        match event.event() {
            Some(Event::PaymentSettled(moved)) => {
                let (count, value) = self.settled.entry(moved.by).or_default();
                *count += 1;
                *value += moved.amount.0;
                if moved.by != SettledBy::Entry {
                    self.queue.0 -= 1;
                    self.queue.1 -= moved.amount.0;
                }
            }
            Some(Event::PaymentQueued(moved)) => {
                self.queued += 1;
                self.queue.0 += 1;
                self.queue.1 += moved.amount.0;
                self.queue_peak.0 = self.queue_peak.0.max(self.queue.0);
                self.queue_peak.1 = self.queue_peak.1.max(self.queue.1);
            }
            Some(Event::PaymentRejected(moved)) => {
                self.unsettled.0 += 1;
                self.unsettled.1 += moved.amount.0;
            }
            Some(Event::LiquiditySavingDone(done)) => {
                self.gridlocks += u64::from(done.settled > 0);
            }
            Some(Event::OrderAccepted(_)) => self.orders += 1,
            Some(Event::OrderRejected(rejected)) => {
                *self.refused.entry(rejected.reason.name()).or_default() += 1;
            }
            Some(Event::Rejected(rejected)) if rejected.cmd == CommandKind::CancelOrder => {
                *self.refused.entry(rejected.reason.name()).or_default() += 1;
            }
            Some(Event::Trade(trade)) => {
                let lots = u128::from(trade.quantity.0);
                self.trades.0 += 1;
                self.trades.1 += lots;
                self.trades.2 += lots * trade.price.0 as u128;
                self.fees += trade.maker_fee + trade.taker_fee;
            }
            _ => {}
        }
    }
}
