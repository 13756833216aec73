//! The wire: a client that spins, a node in a process of its own, and one command in flight; or
//! many, open loop at a stated rate.

use super::histogram;
use super::workload::{Transfers, Workload};
use crate::client::{Client, ClientError, Options};
use crate::protocol::frame::{CommandFrame, CommandSlot};
use crate::telemetry::clock;
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// A client on a node whose accounts are open.
pub struct Wire {
    client: Client,
    workload: Transfers,
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
        let options = Options {
            spin,
            window: 65_536,
            timeout: Duration::from_secs(30),
            ..Options::default()
        };
        let mut client = Client::connect(address, options)?;
        let mut workload = Transfers::new(accounts, seed);
        for frame in workload.setup() {
            client.submit(&frame)?;
        }
        client.drain(|_| {})?;
        Ok(Wire { client, workload })
    }

    fn next(&mut self) -> CommandFrame {
        let mut slot = CommandSlot::default();
        self.workload.next(&mut slot);
        CommandFrame::copy_of(slot.command().expect("bench commands are short"))
    }

    /// Round trips of single transfers, one in flight.
    pub fn round_trips(&mut self, count: usize) -> Result<Histogram<u64>, ClientError> {
        let mut latency = histogram();
        for round in 0..count + count / 10 {
            let frame = self.next();
            let started = Instant::now();
            self.client.submit(&frame)?;
            while !self.client.next_event()?.is_last() {}
            if round >= count / 10 {
                latency.saturating_record(started.elapsed().as_nanos() as u64);
            }
        }
        Ok(latency)
    }

    /// Keeps `window` transfers in flight; returns commands per second.
    pub fn throughput(&mut self, count: u64, window: usize) -> Result<f64, ClientError> {
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
                answered += u64::from(event.is_last());
            }
        }
        Ok(count as f64 / started.elapsed().as_secs_f64())
    }

    /// Sends `count` transfers at `rate` per second; latency runs from each planned moment.
    pub fn open_loop(&mut self, count: u64, rate: u64) -> Result<Stages, ClientError> {
        let frames: Vec<CommandFrame> = (0..count).map(|_| self.next()).collect();
        let mut stages = Stages {
            request: histogram(),
            processing: histogram(),
            response: histogram(),
            total: histogram(),
            commands: count,
            elapsed: Duration::ZERO,
            in_flight_peak: 0,
        };
        let first = self.client.replies_seen() + 1;
        let start = clock().0 + 1_000_000;
        let planned = |at: u64| start + (u128::from(at) * 1_000_000_000 / u128::from(rate)) as u64;
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            let now = clock().0;
            while sent < count && planned(sent) <= now {
                self.client.submit(&frames[sent as usize])?;
                sent += 1;
            }
            stages.in_flight_peak = stages.in_flight_peak.max(self.client.in_flight());
            while let Some(event) = self.client.poll()? {
                if event.is_last() {
                    answered += 1;
                    let header = &event.header;
                    stages.record(
                        planned(header.client_sequence - first),
                        header.at,
                        header.executed_at,
                        clock().0,
                    );
                }
            }
        }
        stages.elapsed = Duration::from_nanos(clock().0 - start);
        Ok(stages)
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
