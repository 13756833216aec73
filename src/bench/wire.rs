//! The wire: a client that spins, a node in a process of its own, and one command in flight; or
//! many, open loop at a stated rate.

use super::histogram;
use super::workload::{Transfers, Workload};
use crate::client::{Client, ClientError, Options};
use crate::protocol::event::Event;
use crate::protocol::frame::{CommandFrame, CommandSlot, EventHeader, EventSlot};
use crate::protocol::reason::Reason;
use crate::telemetry::{BatchLog, BatchReader, Progress, clock};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Commands of an open loop that are late, and so sent in one go, before replies are looked at.
pub(super) const BURST: u64 = 1_024;

/// Why a run over the wire ended: its figures would be those of something else.
#[derive(Debug)]
pub enum WireError {
    /// The session ended.
    Client(ClientError),
    /// A command was refused: it did not do what is measured.
    Refused {
        /// Which transfer of this client, counted from 1 over all it does.
        transfer: u64,
        /// What the node said.
        reason: Reason,
    },
    /// Something else than the answer to a transfer.
    Unexpected(String),
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::Client(error) => error.fmt(f),
            WireError::Refused { transfer, reason } => write!(
                f,
                "transfer {transfer} was answered {reason}: figures of refused commands are no figures"
            ),
            WireError::Unexpected(what) => write!(f, "a transfer was answered by {what}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<ClientError> for WireError {
    fn from(error: ClientError) -> WireError {
        WireError::Client(error)
    }
}

/// A client on a node whose accounts are open.
pub struct Wire {
    client: Client,
    workload: Transfers,
    /// Transfers that moved money.
    created: u64,
}

/// Latencies by stage, ns: they add up.
pub struct Stages {
    /// Planned moment to the node's door.
    pub request: Histogram<u64>,
    /// The door to the end of execution.
    pub processing: Histogram<u64>,
    /// End of execution to the client.
    pub response: Histogram<u64>,
    /// Planned moment to the client.
    pub total: Histogram<u64>,
    /// Commands and the time they took.
    pub commands: u64,
    /// From the first planned moment to the last reply.
    pub elapsed: Duration,
    /// The most commands in flight.
    pub in_flight_peak: usize,
}

impl Wire {
    /// Connects and opens `accounts` accounts; the client spins, or sleeps until replies come.
    pub fn open(
        address: SocketAddr,
        accounts: u64,
        seed: u64,
        spin: bool,
    ) -> Result<Wire, ClientError> {
        let options = Options { spin, ..options() };
        Wire::open_with(address, accounts, seed, options)
    }

    /// As [`Wire::open`], over shared memory; the client spins.
    pub fn open_shared(address: SocketAddr, accounts: u64, seed: u64) -> Result<Wire, ClientError> {
        let options = Options {
            spin: true,
            shared_memory: true,
            ..options()
        };
        Wire::open_with(address, accounts, seed, options)
    }

    fn open_with(
        address: SocketAddr,
        accounts: u64,
        seed: u64,
        options: Options,
    ) -> Result<Wire, ClientError> {
        let mut client = Client::connect(address, options)?;
        let mut workload = Transfers::new(accounts, seed);
        for frame in workload.setup() {
            client.submit(&frame)?;
        }
        client.drain(|_| {})?;
        Ok(Wire {
            client,
            workload,
            created: 0,
        })
    }

    fn next(&mut self) -> CommandFrame {
        let mut slot = CommandSlot::default();
        self.workload.next(&mut slot);
        CommandFrame::copy_of(slot.command().expect("bench commands are short"))
    }

    /// Whether a transfer is answered with `event`, and moved money.
    #[inline]
    fn answered(&mut self, event: &EventSlot) -> Result<bool, WireError> {
        match event.event() {
            Some(Event::Transfer(done)) if done.status == Reason::Created => {
                self.created += 1;
                Ok(event.is_last())
            }
            Some(Event::Transfer(done)) => Err(WireError::Refused {
                transfer: self.created + 1,
                reason: done.status,
            }),
            other => Err(WireError::Unexpected(format!("{other:?}"))),
        }
    }

    /// From now on the client spins, or sleeps until replies come.
    pub fn spin(&mut self, on: bool) {
        self.client.spin(on);
    }

    /// Round trips of single transfers, one in flight.
    pub fn round_trips(&mut self, count: usize) -> Result<Histogram<u64>, WireError> {
        let mut latency = histogram();
        for round in 0..count + count / 10 {
            let took = self.round_trip()?;
            if round >= count / 10 {
                latency.saturating_record(took.as_nanos() as u64);
            }
        }
        Ok(latency)
    }

    /// One transfer, and how long until its answer was here.
    pub(super) fn round_trip(&mut self) -> Result<Duration, WireError> {
        let frame = self.next();
        let started = Instant::now();
        self.client.submit(&frame)?;
        loop {
            let event = self.client.next_event()?;
            if self.answered(&event)? {
                break;
            }
        }
        Ok(started.elapsed())
    }

    /// Keeps `window` transfers in flight; returns commands per second.
    pub fn throughput(&mut self, count: u64, window: usize) -> Result<f64, WireError> {
        let frames: Vec<CommandFrame> = (0..count).map(|_| self.next()).collect();
        let started = Instant::now();
        let mut frames = frames.iter();
        let mut answered = 0;
        while answered < count {
            while self.client.in_flight() < window {
                let Some(frame) = frames.next() else { break };
                self.client.submit(frame)?;
            }
            while let Some(event) = self.client.poll()? {
                answered += u64::from(self.answered(&event)?);
            }
        }
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }

    /// Sends `count` transfers at `rate` per second; latency runs from each planned moment.
    pub fn open_loop(&mut self, count: u64, rate: u64) -> Result<Stages, WireError> {
        let mut stages = Stages {
            request: histogram(),
            processing: histogram(),
            response: histogram(),
            total: histogram(),
            commands: count,
            elapsed: Duration::ZERO,
            in_flight_peak: 0,
        };
        let offered = self.offer(count, rate, |planned, header, received| {
            stages.record(planned, header.at, header.executed_at, received);
        })?;
        (stages.elapsed, stages.in_flight_peak) = (offered.elapsed, offered.in_flight_peak);
        Ok(stages)
    }

    /// Sends `count` transfers at `rate` per second; `on_answer` hears of each, in order, when it was
    /// planned, how it was answered and when.
    fn offer(
        &mut self,
        count: u64,
        rate: u64,
        mut on_answer: impl FnMut(u64, &EventHeader, u64),
    ) -> Result<Offered, WireError> {
        let frames: Vec<CommandFrame> = (0..count).map(|_| self.next()).collect();
        let start = clock().0 + 1_000_000;
        let planned = |at: u64| start + (u128::from(at) * 1_000_000_000 / u128::from(rate)) as u64;
        let (mut sent, mut answered, mut in_flight_peak) = (0, 0, 0);
        while answered < count {
            let now = clock().0;
            let turn = count.min(sent + BURST);
            while sent < turn && planned(sent) <= now {
                self.client.submit(&frames[sent as usize])?;
                sent += 1;
            }
            in_flight_peak = in_flight_peak.max(self.client.in_flight());
            while let Some(event) = self.client.poll()? {
                if self.answered(&event)? {
                    on_answer(planned(answered), &event.header, clock().0);
                    answered += 1;
                }
            }
        }
        Ok(Offered {
            elapsed: Duration::from_nanos(clock().0 - start),
            in_flight_peak,
        })
    }
}

/// What an open loop was like.
struct Offered {
    /// From the first planned moment to the last reply.
    elapsed: Duration,
    /// The most commands in flight.
    in_flight_peak: usize,
}

fn options() -> Options {
    Options {
        window: 65_536,
        timeout: Duration::from_secs(30),
        ..Options::default()
    }
}

/// Where the time of one command goes, ns, stage by stage: they add up to the total.
pub struct Journey {
    /// Name and time of each stage, in the order in which a command passes them.
    pub stages: [(&'static str, Histogram<u64>); 6],
    /// Planned moment to the client.
    pub total: Histogram<u64>,
    /// Commands per second done.
    pub per_second: f64,
    /// The most commands in flight.
    pub in_flight_peak: usize,
}

const STAGES: [&str; 6] = ["request", "ring wait", "journal", "sync", "engine", "reply"];

impl Wire {
    /// Sends `count` transfers at `rate` per second to a node of this process, whose `progress` says
    /// when its journaler did what.
    pub fn journeys(
        &mut self,
        count: u64,
        rate: u64,
        progress: &Progress,
    ) -> Result<Journey, WireError> {
        let log = progress
            .batches
            .get_or_init(|| Arc::new(BatchLog::new(count as usize)));
        let mut batches = BatchReader::new(log.clone());
        let mut seen = Vec::with_capacity(count as usize);
        let offered = self.offer(count, rate, |planned, header, received| {
            seen.push((
                planned,
                *header,
                batches.batch_of(header.sequence),
                received,
            ));
        })?;
        let mut journey = Journey {
            stages: STAGES.map(|name| (name, histogram())),
            total: histogram(),
            per_second: count as f64 / offered.elapsed.as_secs_f64(),
            in_flight_peak: offered.in_flight_peak,
        };
        for (planned, header, batch, received) in seen {
            // The very first batch may have begun before the log was there.
            let Some(batch) = batch else { continue };
            journey.record(&[
                planned,
                header.at,
                batch.taken_at,
                batch.appended_at,
                batch.durable_at,
                header.executed_at,
                received,
            ]);
        }
        Ok(journey)
    }
}

impl Journey {
    /// Adds one command: the moments between its stages.
    fn record(&mut self, moments: &[u64; 7]) {
        for ((_, stage), pair) in self.stages.iter_mut().zip(moments.windows(2)) {
            stage.saturating_record(pair[1].saturating_sub(pair[0]));
        }
        self.total
            .saturating_record(moments[6].saturating_sub(moments[0]));
    }
}

impl Stages {
    fn record(&mut self, planned: u64, door: u64, executed: u64, received: u64) {
        self.request.saturating_record(door.saturating_sub(planned));
        self.processing
            .saturating_record(executed.saturating_sub(door));
        self.response
            .saturating_record(received.saturating_sub(executed));
        self.total
            .saturating_record(received.saturating_sub(planned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Node;

    #[test]
    fn a_refused_command_ends_every_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::small(dir.path());
        config.limits.transfers = 64;
        let node = Node::start(&config).unwrap();
        let mut wire = Wire::open(node.address(), 4, 1, false).unwrap();
        let full = |error: WireError| match error {
            WireError::Refused { transfer, reason } => (transfer, reason),
            other => panic!("{other}"),
        };
        assert_eq!(wire.round_trips(10).unwrap().len(), 10);
        let room = (65, Reason::CapacityExhausted);
        assert_eq!(full(wire.throughput(1_000, 16).unwrap_err()), room);
        drop(wire);
        for how in 0..3 {
            let mut wire = Wire::open(node.address(), 4, 2, false).unwrap();
            let error = match how {
                0 => wire.round_trip().map(drop),
                1 => wire.open_loop(10, 1_000_000).map(drop),
                _ => wire.journeys(10, 1_000_000, node.progress()).map(drop),
            };
            // The ids of the first client's transfers are taken.
            assert_eq!(full(error.unwrap_err()).0, 1);
        }
        node.stop();
    }
}
