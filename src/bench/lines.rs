//! Many connections driven by one thread, with as little as can be between it and the sockets: bytes
//! out, frames counted in. A node and a raw echo are driven by the same loop, so that what the client
//! and the kernel cost shows in both, and what the node costs is the difference.
//!
//! ```text
//!  every turn: poll once -> read each that has something, once -> write each that has something, once
//! ```

use super::histogram;
use super::unsent::Unsent;
use super::wire::BURST;
use super::workload::{Transfers, Workload};
use crate::protocol::event::Event;
use crate::protocol::frame::{CommandSlot, EventSlot, HEADER_BYTES, Prefix};
use crate::protocol::reason::Reason;
use crate::protocol::session::{Hello, Welcome, encode};
use crate::telemetry::clock;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes of a transfer on the wire.
pub const COMMAND_BYTES: usize = HEADER_BYTES + size_of::<crate::protocol::command::Transfer>();
/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A node, to which each connection says hello.
    Node,
    /// An echo, which answers whatever comes.
    Echo,
}

/// What ended a run.
#[derive(Debug)]
pub enum LinesError {
    /// A socket or the poll failed.
    Io(io::Error),
    /// The other side closed a connection.
    Closed,
    /// It said nothing for half a minute.
    Silent,
    /// A transfer was refused: the figure would be that of refusals.
    Refused(Reason),
    /// A frame that answers no transfer.
    Unexpected(u16),
}

impl std::fmt::Display for LinesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LinesError::Io(error) => error.fmt(f),
            LinesError::Closed => f.write_str("the other side closed a connection"),
            LinesError::Silent => f.write_str("the other side does not answer"),
            LinesError::Refused(reason) => write!(f, "a transfer was answered {reason}"),
            LinesError::Unexpected(kind) => write!(f, "a transfer was answered by kind {kind:#x}"),
        }
    }
}

impl std::error::Error for LinesError {}

impl From<io::Error> for LinesError {
    fn from(error: io::Error) -> LinesError {
        LinesError::Io(error)
    }
}

/// What a run at a rate came to.
pub struct Paced {
    /// From each command's planned moment to its reply, ns.
    pub latency: Histogram<u64>,
    /// From the first planned moment to the last reply.
    pub elapsed: Duration,
    /// The most commands sent or due, and not answered.
    pub open_peak: u64,
}

impl Paced {
    /// Nothing yet.
    pub fn new() -> Paced {
        Paced {
            latency: histogram(),
            elapsed: Duration::ZERO,
            open_peak: 0,
        }
    }

    /// Takes in another run at the same rate.
    pub fn add(&mut self, other: &Paced) {
        self.latency += &other.latency;
        self.elapsed += other.elapsed;
        self.open_peak = self.open_peak.max(other.open_peak);
    }

    /// Commands answered a second.
    pub fn per_second(&self) -> f64 {
        self.latency.len() as f64 / self.elapsed.as_secs_f64()
    }
}

impl Default for Paced {
    fn default() -> Paced {
        Paced::new()
    }
}

/// Connections to one peer, and what they send.
pub struct Lines {
    address: SocketAddr,
    peer: Peer,
    spin: bool,
    workload: Transfers,
    next_session: u64,
    wires: Wires,
    lines: Vec<Line>,
    /// Lines with something to be written.
    to_write: Vec<usize>,
    /// Lines that may have something to read.
    ready: Vec<usize>,
}

/// What all lines read through.
struct Wires {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    slot: CommandSlot,
}

struct Line {
    stream: TcpStream,
    session: u64,
    commands: u64,
    output: Unsent,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    in_flight: usize,
    /// Planned moments of what is in flight, the oldest first, then of what waits to be sent.
    planned: VecDeque<u64>,
    listed: bool,
}

impl Lines {
    /// No connections yet. The workload's setup has been executed by a node, or nobody minds. The thread
    /// that drives them spins, or sleeps until there is something.
    pub fn new(
        address: SocketAddr,
        peer: Peer,
        workload: Transfers,
        spin: bool,
    ) -> io::Result<Lines> {
        Ok(Lines {
            address,
            peer,
            spin,
            workload,
            next_session: 1 << 52,
            wires: Wires {
                poll: Poll::new()?,
                events: Events::with_capacity(1_024),
                scratch: vec![0; 256 << 10],
                slot: CommandSlot::default(),
            },
            lines: Vec::new(),
            to_write: Vec::new(),
            ready: Vec::new(),
        })
    }

    /// Lets those go that were connected, and connects `count` new ones, each a session of its own.
    pub fn connect(&mut self, count: usize) -> Result<(), LinesError> {
        self.lines.clear();
        self.to_write.clear();
        for at in 0..count {
            self.next_session += 1;
            let mut stream = std::net::TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            if self.peer == Peer::Node {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(&encode(&Hello {
                    session: self.next_session,
                    replies_seen: 0,
                }))?;
                let mut welcome = encode(&Welcome {
                    session: 0,
                    last_client_sequence: 0,
                    sequence: 0,
                    at: Default::default(),
                });
                stream.read_exact(&mut welcome)?;
            }
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            let registry = self.wires.poll.registry();
            registry.register(&mut stream, Token(at), Interest::READABLE)?;
            self.lines.push(Line {
                stream,
                session: self.next_session,
                commands: 0,
                output: Unsent::default(),
                rest: Vec::new(),
                in_flight: 0,
                planned: VecDeque::new(),
                listed: false,
            });
        }
        Ok(())
    }

    /// Connections there are.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Keeps `in_flight` transfers in flight, shared out among the lines, while `goes_on`, which is told
    /// once a turn how many were answered; then reads what is owed.
    pub fn keep_full(
        &mut self,
        in_flight: usize,
        mut goes_on: impl FnMut(u64) -> bool,
    ) -> Result<u64, LinesError> {
        let count = self.lines.len();
        for at in 0..count {
            // The first ones carry what does not come out even.
            let share = in_flight / count + usize::from(at < in_flight % count);
            self.put(at, share);
        }
        let (mut sent, mut answered) = (in_flight as u64, 0);
        let mut heard = Heard::now();
        let mut over = false;
        while answered < sent {
            self.write_all()?;
            self.wait(Duration::from_millis(100))?;
            let before = answered;
            for next in 0..self.ready.len() {
                let at = self.ready[next];
                let replies = self.read(at)?;
                answered += replies as u64;
                if !over && replies > 0 {
                    self.put(at, replies);
                    sent += replies as u64;
                }
            }
            heard.check(answered > before)?;
            over = over || !goes_on(answered);
        }
        Ok(answered)
    }

    /// Sends `count` transfers at `rate` a second, the lines taking turns, each with at most `each` in
    /// flight: what is due on a line that has as many waits there. Latency runs from planned moments.
    pub fn open_loop(&mut self, count: u64, rate: u64, each: usize) -> Result<Paced, LinesError> {
        let mut paced = Paced::new();
        let start = clock().0 + 1_000_000;
        let planned = |at: u64| start + (u128::from(at) * 1_000_000_000 / u128::from(rate)) as u64;
        let lines = self.lines.len() as u64;
        let (mut due, mut answered) = (0, 0);
        let mut heard = Heard::now();
        while answered < count {
            let now = clock().0;
            for _ in 0..BURST {
                if due == count || planned(due) > now {
                    break;
                }
                let at = (due % lines) as usize;
                self.lines[at].planned.push_back(planned(due));
                if self.lines[at].in_flight < each {
                    self.put(at, 1);
                }
                due += 1;
            }
            paced.open_peak = paced.open_peak.max(due - answered);
            self.write_all()?;
            let until = if due < count {
                planned(due).saturating_sub(now)
            } else {
                u64::MAX
            };
            self.wait(Duration::from_nanos(until.min(100_000_000)))?;
            let before = answered;
            for next in 0..self.ready.len() {
                let at = self.ready[next];
                let replies = self.read(at)?;
                if replies == 0 {
                    continue;
                }
                answered += replies as u64;
                let now = clock().0;
                let line = &mut self.lines[at];
                for planned in line.planned.drain(..replies) {
                    paced.latency.saturating_record(now.saturating_sub(planned));
                }
                let waiting = line.planned.len() - line.in_flight;
                let room = each - line.in_flight;
                self.put(at, waiting.min(room));
            }
            heard.check(answered > before || answered == due)?;
        }
        paced.elapsed = Duration::from_nanos(clock().0 - start);
        Ok(paced)
    }

    /// Puts so many transfers into a line's output.
    fn put(&mut self, at: usize, count: usize) {
        let line = &mut self.lines[at];
        let slot = &mut self.wires.slot;
        for _ in 0..count {
            self.workload.next(slot);
            line.commands += 1;
            let header = line.output.bytes.len();
            line.output
                .bytes
                .extend_from_slice(&slot.bytes[..COMMAND_BYTES]);
            let numbers = &mut line.output.bytes[header + 8..header + 24];
            numbers[..8].copy_from_slice(&line.session.to_le_bytes());
            numbers[8..].copy_from_slice(&line.commands.to_le_bytes());
        }
        line.in_flight += count;
        if count > 0 && !line.listed {
            line.listed = true;
            self.to_write.push(at);
        }
    }

    /// One write for each line that has something; what a socket does not take stays on the list.
    fn write_all(&mut self) -> Result<(), LinesError> {
        let lines = &mut self.lines;
        let mut failed = Ok(());
        self.to_write.retain(|at| {
            let line = &mut lines[*at];
            match line.output.write_to(&mut line.stream) {
                Ok(done) => line.listed = !done,
                Err(error) => failed = Err(error.into()),
            }
            line.listed
        });
        failed
    }

    /// Waits until lines may have something to read, and lists them.
    fn wait(&mut self, most: Duration) -> Result<(), LinesError> {
        self.ready.clear();
        if self.spin && self.lines.len() == 1 {
            // The one that there is says by itself whether it has something.
            self.ready.push(0);
            return Ok(());
        }
        let Wires { poll, events, .. } = &mut self.wires;
        let most = if self.spin || !self.to_write.is_empty() {
            Duration::ZERO
        } else {
            most
        };
        match poll.poll(events, Some(most)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        self.ready
            .extend(events.iter().map(|event| event.token().0));
        Ok(())
    }

    /// Reads a line until it is empty; how many replies came.
    fn read(&mut self, at: usize) -> Result<usize, LinesError> {
        let scratch = &mut self.wires.scratch;
        let line = &mut self.lines[at];
        let mut replies = 0;
        loop {
            let held = line.rest.len();
            scratch[..held].copy_from_slice(&line.rest);
            line.rest.clear();
            let room = scratch.len() - held;
            let read = match line.stream.read(&mut scratch[held..]) {
                Ok(0) => return Err(LinesError::Closed),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(error.into()),
            };
            let mut bytes = &scratch[..held + read];
            while let Some(frame) = front(bytes) {
                replies += usize::from(is_answer(frame)?);
                bytes = &bytes[frame.len()..];
            }
            line.rest.extend_from_slice(bytes);
            if read < room {
                line.in_flight -= replies;
                return Ok(replies);
            }
        }
    }
}

/// The whole frame that `bytes` begin with.
fn front(bytes: &[u8]) -> Option<&[u8]> {
    let prefix: Prefix = bytemuck::pod_read_unaligned(bytes.get(..size_of::<Prefix>())?);
    bytes.get(..(prefix.length as usize).max(size_of::<Prefix>()))
}

/// Whether a frame is the last word on a transfer that moved money.
#[inline]
fn is_answer(frame: &[u8]) -> Result<bool, LinesError> {
    let event = EventSlot::from_frame(frame);
    match event.as_ref().and_then(EventSlot::event) {
        Some(Event::Transfer(done)) if done.status == Reason::Created => {
            Ok(event.is_some_and(|event| event.is_last()))
        }
        Some(Event::Transfer(done)) => Err(LinesError::Refused(done.status)),
        _ => Err(LinesError::Unexpected(u16::from_le_bytes([
            frame[4], frame[5],
        ]))),
    }
}

/// When the other side was last heard.
struct Heard(u64);

impl Heard {
    fn now() -> Heard {
        Heard(clock().0)
    }

    /// Once a turn: it was heard, or is owed nothing, or has been silent too long.
    fn check(&mut self, heard: bool) -> Result<(), LinesError> {
        let now = clock().0;
        if heard {
            self.0 = now;
        }
        let silent = Duration::from_nanos(now.saturating_sub(self.0));
        if silent > PATIENCE {
            Err(LinesError::Silent)
        } else {
            Ok(())
        }
    }
}
