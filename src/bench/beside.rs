//! A node under load while something else runs beside it: open-loop latencies until that is over.
//!
//! The client sleeps until the next planned moment or reply, so that it leaves its core to others as
//! clients elsewhere would.

use super::histogram;
use super::workload::Workload;
use crate::client::{Client, ClientError, Options};
use crate::protocol::frame::{CommandFrame, CommandSlot};
use crate::telemetry::clock;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::net::SocketAddr;
use std::time::Duration;

/// A client that offers a workload at a rate.
pub struct Load {
    client: Client,
    workload: Box<dyn Workload>,
    rate: u64,
}

/// Latencies of an interval.
pub struct Interval {
    /// Planned moment to the client.
    pub total: Histogram<u64>,
    /// The node's door to the end of execution.
    pub node: Histogram<u64>,
    /// From the first planned moment to the last reply.
    pub elapsed: Duration,
    /// The most commands in flight.
    pub in_flight_peak: usize,
}

impl Interval {
    /// Nothing yet.
    pub fn new() -> Interval {
        Interval {
            total: histogram(),
            node: histogram(),
            elapsed: Duration::ZERO,
            in_flight_peak: 0,
        }
    }

    /// Takes in another one.
    pub fn add(&mut self, other: &Interval) {
        self.total += &other.total;
        self.node += &other.node;
        self.elapsed += other.elapsed;
        self.in_flight_peak = self.in_flight_peak.max(other.in_flight_peak);
    }
}

impl Default for Interval {
    fn default() -> Interval {
        Interval::new()
    }
}

impl Load {
    /// Connects to a node where the workload's setup has been executed.
    pub fn connect(
        address: SocketAddr,
        workload: Box<dyn Workload>,
        rate: u64,
    ) -> Result<Load, ClientError> {
        let options = Options {
            window: 65_536,
            timeout: Duration::from_secs(30),
            ..Options::default()
        };
        Ok(Load {
            client: Client::connect(address, options)?,
            workload,
            rate,
        })
    }

    /// Offers commands until `is_over`, which is asked about a thousand times a second, and waits for
    /// their replies.
    pub fn offer(&mut self, mut is_over: impl FnMut() -> bool) -> Result<Interval, ClientError> {
        let mut interval = Interval::new();
        let first = self.client.replies_seen() + 1;
        let start = clock().0 + 1_000_000;
        let rate = u128::from(self.rate);
        let planned = |at: u64| start + (u128::from(at) * 1_000_000_000 / rate) as u64;
        let (mut sent, mut answered) = (0, 0);
        let (mut over, mut ask_at) = (false, start);
        while !over || answered < sent {
            let now = clock().0;
            if !over && now >= ask_at {
                over = is_over();
                ask_at = now + 1_000_000;
            }
            while !over && planned(sent) <= now {
                let frame = self.next();
                self.client.submit(&frame)?;
                sent += 1;
            }
            interval.in_flight_peak = interval.in_flight_peak.max(self.client.in_flight());
            let before = answered;
            while let Some(event) = self.client.poll()? {
                if event.is_last() {
                    answered += 1;
                    let header = &event.header;
                    let planned = planned(header.client_sequence - first);
                    let taken = clock().0.saturating_sub(planned);
                    interval.total.saturating_record(taken);
                    let inside = header.executed_at.saturating_sub(header.at);
                    interval.node.saturating_record(inside);
                }
            }
            if answered == before {
                let until = if over { now + 1_000_000 } else { planned(sent) };
                self.sleep(until.saturating_sub(clock().0));
            }
        }
        interval.elapsed = Duration::from_nanos(clock().0 - start);
        Ok(interval)
    }

    /// Until something comes from the node, or for so many nanoseconds.
    fn sleep(&self, ns: u64) {
        let limit = Timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000) as _,
        };
        // Woken too early it sleeps again.
        let _ = poll(
            &mut [PollFd::new(&self.client, PollFlags::IN)],
            Some(&limit),
        );
    }

    fn next(&mut self) -> CommandFrame {
        let mut slot = CommandSlot::default();
        self.workload.next(&mut slot);
        CommandFrame::copy_of(slot.command().expect("bench commands are short"))
    }
}
