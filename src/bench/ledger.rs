//! The ledger over the wire: sessions that keep so many batches of transfers in flight, driven by
//! one thread, closed loop. Every transfer's event is read and counted.

use super::histogram;
use super::workload::{Transfers, Workload};
use crate::client::{Client, ClientError, Options};
use crate::protocol::frame::EventSlot;
use crate::protocol::reason::Reason;
use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// Who sends what: `sessions` sessions, each with `window` commands of `batch` transfers in flight.
/// A batch of 1 is the command `transfer`, anything else the command `transfers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sessions, one connection each, all driven by one thread.
    pub sessions: usize,
    /// Commands of a session in flight.
    pub window: usize,
    /// Transfers of a command.
    pub batch: usize,
}

/// What a run measured.
pub struct Measured {
    /// Transfers answered `created`.
    pub created: u64,
    /// From the first command sent to the last event read.
    pub elapsed: Duration,
    /// From a command's way into the socket to its last event, ns.
    pub latency: Histogram<u64>,
}

/// A run that did not do what it should.
#[derive(Debug)]
pub enum LoadError {
    /// A session ended.
    Client(ClientError),
    /// The system gave no poll.
    Poll(io::Error),
    /// A transfer was refused: the figure would be that of refusals.
    Refused(Reason),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Client(error) => error.fmt(f),
            LoadError::Poll(error) => write!(f, "cannot poll sockets: {error}"),
            LoadError::Refused(reason) => write!(f, "a transfer was answered {reason}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<ClientError> for LoadError {
    fn from(error: ClientError) -> LoadError {
        LoadError::Client(error)
    }
}

impl Default for Measured {
    /// Nothing yet.
    fn default() -> Measured {
        Measured {
            created: 0,
            elapsed: Duration::ZERO,
            latency: histogram(),
        }
    }
}

impl Measured {
    /// Transfers per second.
    pub fn per_second(&self) -> f64 {
        self.created as f64 / self.elapsed.as_secs_f64()
    }

    /// Adds another run of the same shape.
    pub fn add(&mut self, more: &Measured) {
        self.created += more.created;
        self.elapsed += more.elapsed;
        self.latency
            .add(&more.latency)
            .expect("the bounds are the same");
    }
}

/// The sessions of one shape, connected, with the accounts open.
pub struct Load {
    shape: Shape,
    seats: Vec<Seat>,
    workload: Transfers,
    poll: Poll,
    events: Events,
    spin: bool,
}

struct Seat {
    client: Client,
    /// When each command in flight was sent, the oldest first: answers come in order.
    sent: VecDeque<Instant>,
}

impl Load {
    /// Connects the sessions and opens `accounts` accounts. The thread that drives them spins, or
    /// sleeps until replies come.
    pub fn open(
        address: SocketAddr,
        shape: Shape,
        accounts: u64,
        seed: u64,
        spin: bool,
    ) -> Result<Load, LoadError> {
        let options = Options {
            spin,
            window: shape.window.max(4_096),
            timeout: Duration::from_secs(30),
            reconnect: Duration::ZERO,
            ..Options::default()
        };
        let poll = Poll::new().map_err(LoadError::Poll)?;
        let mut seats = Vec::with_capacity(shape.sessions);
        for at in 0..shape.sessions {
            let client = Client::connect(address, options.clone())?;
            poll.registry()
                .register(
                    &mut SourceFd(&client.as_fd().as_raw_fd()),
                    Token(at),
                    Interest::READABLE,
                )
                .map_err(LoadError::Poll)?;
            seats.push(Seat {
                client,
                sent: VecDeque::with_capacity(shape.window),
            });
        }
        let mut workload = Transfers::new(accounts, seed);
        let first = &mut seats[0].client;
        for frame in workload.setup() {
            first.submit(&frame)?;
        }
        first.drain(|_| {})?;
        Ok(Load {
            shape,
            seats,
            workload,
            poll,
            events: Events::with_capacity(1_024),
            spin,
        })
    }

    /// Sends at least `transfers` transfers and reads all their events.
    pub fn run(&mut self, transfers: u64) -> Result<Measured, LoadError> {
        let mut to_send = transfers.div_ceil(self.shape.batch as u64);
        let expected = to_send * self.shape.batch as u64;
        let mut measured = Measured::default();
        let started = Instant::now();
        for at in 0..self.seats.len() {
            self.fill(at, &mut to_send)?;
        }
        while measured.created < expected {
            if self.seats.len() == 1 {
                self.wait_for_one()?;
                self.serve(0, &mut to_send, &mut measured)?;
                continue;
            }
            self.wait_for_many()?;
            let ready: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
            for at in ready {
                self.serve(at, &mut to_send, &mut measured)?;
            }
        }
        measured.elapsed = started.elapsed();
        assert_eq!(measured.created, expected, "one event per transfer");
        Ok(measured)
    }

    /// Sends what the window of one session has room for.
    fn fill(&mut self, at: usize, to_send: &mut u64) -> Result<(), LoadError> {
        let seat = &mut self.seats[at];
        while seat.sent.len() < self.shape.window && *to_send > 0 {
            let frame = self.workload.next_batch(self.shape.batch);
            seat.sent.push_back(Instant::now());
            seat.client.submit(&frame)?;
            seat.client.flush()?;
            *to_send -= 1;
        }
        Ok(())
    }

    /// Reads what there is for one session, and sends anew what was answered.
    fn serve(
        &mut self,
        at: usize,
        to_send: &mut u64,
        measured: &mut Measured,
    ) -> Result<(), LoadError> {
        let seat = &mut self.seats[at];
        let mut next = seat.client.poll()?;
        while let Some(event) = next {
            measured.created += created(&event)?;
            if event.is_last() {
                let sent = seat.sent.pop_front().expect("every answer has its command");
                measured
                    .latency
                    .saturating_record(sent.elapsed().as_nanos() as u64);
            }
            next = match seat.client.received() {
                // The socket says once that there is something: where more may be there, look.
                None if !seat.sent.is_empty() => seat.client.poll()?,
                received => received,
            };
        }
        self.fill(at, to_send)
    }

    fn wait_for_one(&mut self) -> Result<(), LoadError> {
        if !self.spin {
            self.wait_for_many()?;
        }
        Ok(())
    }

    fn wait_for_many(&mut self) -> Result<(), LoadError> {
        let wait = match self.spin {
            true => Duration::ZERO,
            false => Duration::from_millis(100),
        };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(LoadError::Poll(error)),
            _ => Ok(()),
        }
    }
}

/// 1 for a transfer that moved money, else the reason why it did not.
#[inline]
fn created(event: &EventSlot) -> Result<u64, LoadError> {
    use crate::protocol::event::Event;
    match event.event() {
        Some(Event::Transfer(done)) if done.status == Reason::Created => Ok(1),
        Some(Event::Transfer(done)) => Err(LoadError::Refused(done.status)),
        other => panic!("a transfer is answered by a transfer event, not by {other:?}"),
    }
}
