//! The gateway: TCP connections on one side, the door and the replies on the other.
//!
//! ```text
//!  socket -> Input (aligned) -> frames -> door: validate, number, publish -> ingress ring
//!  socket <- Output (bounded) <- live events, or the reply window <- responder <- egress ring
//! ```
//!
//! One thread, many sessions, nothing blocks. A duty cycle has two halves with the pipeline's
//! stages between them: [`Gateway::receive`] reads what sockets hold and publishes it,
//! [`Gateway::send`] writes what the replies left in the buffers, one write per connection. A
//! client's mistake ends its connection, never the node. The gateway never sees the engine.

pub mod buffers;
mod connection;
mod delivery;
mod sockets;
mod stats;
mod watched;

pub use sockets::{Ready, Sockets, Stream, Tcp};

use crate::config;
use crate::pipeline::threads::Signal;
use crate::pipeline::{Host, Ingress, Refusal, Replies, Responder};
use crate::protocol::RELEASE;
use crate::protocol::command::{CommandKind, SessionRef};
use crate::protocol::frame::{
    CommandFrame, CommandHeader, EventSlot, FrameError, HEADER_BYTES, LAST_EVENT, Prefix,
    QUERY_ANSWER,
};
use crate::protocol::session::{
    FIRST_SESSION_KIND, Hello, Resend, SESSION_HEADER_BYTES, SessionError, SessionMessage,
    StatsRequest, UseRing, Wake, Watch, Welcome, decode,
};
use crate::protocol::units::Timestamp;
use crate::protocol::wire::Zero;
use crate::ring_file::NodeEnd;
use crate::telemetry::{GatewayCounters, StageClock};
use buffers::Front;
use connection::{Connection, Received};
use delivery::Caught;
use stats::Stats;
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watched::Watched;

/// Bytes that one duty cycle reads after it has read every connection once. What a session sent while
/// the journal synced is thus taken, and synced, together; a ring of the usual size has room for it.
const READ_ON_BYTES: usize = 1 << 20;
/// How often connections are looked over for those that take too long.
const HOUSEKEEPING: Duration = Duration::from_millis(100);
/// How many duty cycles pass from one look at the sockets to the next where shared memory is in use.
const SOCKETS_EVERY: u64 = 16;
/// Connections beyond the bound that may linger while they read that there is no room for them.
const LINGERING: usize = 64;
/// Connections that one duty cycle takes, and as many that it lets go: each costs some 10 us, and the
/// sessions that work must not wait for a crowd that comes or leaves at once.
const CROWD_PER_CYCLE: usize = 4;
/// Positions of the reply window that one duty cycle walks through, for all that catch up together.
const SEARCHED_PER_CYCLE: u64 = 4_096;

/// All connections of the binary protocol.
pub struct Gateway<S: Sockets = Tcp> {
    sockets: S,
    connections: Connections<S::Stream>,
    bounds: config::Gateway,
    looked_over: Instant,
    cycles: u64,
    /// More connections wait than one cycle takes.
    accept_more: bool,
    /// Connections may wait that could not be accepted.
    accept_again: bool,
    /// Sessions whose connection has ended, and whose orders go with it: the engine must hear of it.
    ended: Vec<u64>,
    counters: Arc<GatewayCounters>,
    stats: Stats,
    host: Host,
}

/// The connections and the lists of those with something to do.
struct Connections<S> {
    slots: Vec<Option<Connection<S>>>,
    free: Vec<usize>,
    by_session: HashMap<u64, usize>,
    /// The session that was routed last, and its slot.
    recent: (u64, usize),
    watchers: Vec<usize>,
    /// Those that use shared memory, or are about to.
    with_rings: Vec<usize>,
    to_read: Vec<usize>,
    to_write: Vec<usize>,
    to_catch_up: VecDeque<usize>,
    /// Those that are over.
    to_drop: VecDeque<usize>,
    /// Those that have not said hello, in the order in which they came, and those that are being closed.
    to_look_over: Vec<usize>,
    /// How many have not said hello.
    greeting: usize,
    /// How many are being closed, and so are in nobody's way.
    closing: usize,
}

impl Gateway {
    /// Listens on `listener`. Call on any thread; `signal` wakes the one that calls
    /// [`Gateway::receive`]. Where `stages` is given, it is told when which command was answered.
    pub fn new(
        listener: std::net::TcpListener,
        bounds: &config::Gateway,
        signal: &Signal,
        counters: Arc<GatewayCounters>,
        stages: Option<StageClock>,
    ) -> io::Result<Gateway> {
        let sockets = Tcp::listen(listener, bounds.connections, signal)?;
        let host = Host::default();
        Ok(Gateway::over(sockets, bounds, counters, stages, host))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.sockets.address()
    }
}

impl<S: Sockets> Gateway<S> {
    /// A gateway on any sockets.
    pub fn over(
        sockets: S,
        bounds: &config::Gateway,
        counters: Arc<GatewayCounters>,
        stages: Option<StageClock>,
        host: Host,
    ) -> Gateway<S> {
        Gateway {
            sockets,
            connections: Connections {
                slots: Vec::new(),
                free: Vec::new(),
                by_session: HashMap::new(),
                recent: (0, 0),
                watchers: Vec::new(),
                with_rings: Vec::new(),
                to_read: Vec::new(),
                to_write: Vec::new(),
                to_catch_up: VecDeque::new(),
                to_drop: VecDeque::new(),
                to_look_over: Vec::new(),
                greeting: 0,
                closing: 0,
            },
            bounds: bounds.clone(),
            looked_over: (host.now)(),
            cycles: 0,
            accept_more: false,
            accept_again: false,
            ended: Vec::new(),
            counters,
            stats: Stats::new(stages, host),
            host,
        }
    }

    /// The sockets underneath.
    pub fn sockets(&mut self) -> &mut S {
        &mut self.sockets
    }

    /// First half of a duty cycle: looks at the sockets (waiting up to `wait` where nothing is left
    /// over from before), reads each that has something once, and publishes its commands. Returns
    /// how much there was to do.
    pub fn receive(
        &mut self,
        ingress: &mut Ingress,
        responder: &Responder,
        wait: Duration,
    ) -> io::Result<usize> {
        let sleeps = !wait.is_zero() && !self.has_left_over();
        if sleeps {
            self.connections.rings_will_sleep();
        }
        self.connections.list_rings();
        let wait = if self.has_left_over() {
            Duration::ZERO
        } else {
            wait
        };
        self.cycles = self.cycles.wrapping_add(1);
        self.stats
            .measure_stages(ingress.progress().stage_times.is_on());
        // Asking the system about sockets takes longer than a command of shared memory: where there are
        // such clients, every few cycles will do.
        let only_rings = !self.connections.with_rings.is_empty()
            && wait.is_zero()
            && !self.cycles.is_multiple_of(SOCKETS_EVERY);
        if !only_rings {
            self.look_at_sockets(wait)?;
        }
        if sleeps {
            self.connections.rings_are_awake();
            self.connections.list_rings();
        }
        if !wait.is_zero() || self.cycles.is_multiple_of(64) {
            self.look_over();
        }
        let dropped = self.drop_some();
        if !self.ended.is_empty() {
            self.journal_ends(ingress);
        }
        let work = self.read_all(ingress, responder);
        if work > 0 {
            self.stats.ring_holds(ingress.slots_in_flight());
        }
        Ok(work + dropped)
    }

    /// Whether something is left over from the last cycle.
    fn has_left_over(&self) -> bool {
        let connections = &self.connections;
        !connections.to_read.is_empty() || !connections.to_drop.is_empty() || self.accept_more
    }

    fn look_at_sockets(&mut self, wait: Duration) -> io::Result<()> {
        self.sockets.poll(wait)?;
        let mut accept = self.accept_more;
        for ready in self.sockets.ready() {
            match ready {
                Ready::Accept => accept = true,
                Ready::Stream {
                    at,
                    readable,
                    writable,
                    closed,
                } => self.connections.mark(at, readable, writable, closed),
            }
        }
        if accept {
            self.accept();
        }
        Ok(())
    }

    /// Second half: moves lagging connections on through the window and writes what waits.
    pub fn send(&mut self, responder: &Responder) -> usize {
        let mut work = self.catch_up(responder);
        for at in std::mem::take(&mut self.connections.to_write) {
            let Some(connection) = &mut self.connections.slots[at] else {
                continue;
            };
            connection.listed_to_write = false;
            work += 1;
            if connection.send() {
                // What it could not take before, it may take now.
                self.connections.list(at);
            } else {
                self.connections.end(at);
            }
        }
        if let Some(stages) = &mut self.stats.stages
            && stages.waits()
        {
            stages.sent((self.host.clock)().0);
        }
        work
    }

    /// Has the engine told that the connections of these sessions ended: before the node stopped.
    pub fn tell_ended(&mut self, sessions: impl IntoIterator<Item = u64>) {
        self.ended.extend(sessions);
    }

    /// Journals the ends of sessions that took orders along; what finds no room is tried again.
    fn journal_ends(&mut self, ingress: &mut Ingress) {
        while let Some(session) = self.ended.last() {
            let body = SessionRef {
                session: *session,
                _reserved: [Zero::Zero; 8],
            };
            let frame = CommandFrame::new(CommandKind::Disconnect, &body).at((self.host.clock)());
            if ingress.submit_script(&frame).is_err() {
                return;
            }
            self.ended.pop();
        }
    }

    /// Accepts no more connections.
    pub fn stop_accepting(&mut self) {
        self.sockets.stop_accepting();
    }

    /// Whether some connection still has bytes to be sent and a client that may read them.
    pub fn has_unsent(&self) -> bool {
        let mut open = self.connections.slots.iter().flatten();
        open.any(|connection| connection.output.pending() > 0 || connection.catch_up.is_some())
    }

    /// Whether anyone is connected.
    pub fn is_connected(&self) -> bool {
        self.connections.len() > 0
    }

    /// Says good-bye to every client.
    pub fn close_all(&mut self) {
        for at in 0..self.connections.slots.len() {
            if let Some(connection) = &mut self.connections.slots[at] {
                connection.close(SessionError::Stopping);
                connection.writable = true;
                connection.send();
                self.connections.list(at);
            }
        }
    }

    fn accept(&mut self) {
        self.accept_again = false;
        self.accept_more = true;
        for _ in 0..CROWD_PER_CYCLE {
            let stream = match self.sockets.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    self.accept_more = false;
                    // Out of files or memory: those who are here are served, the rest wait.
                    self.accept_again = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            };
            let mut connection = Connection::new(
                stream,
                self.bounds.read_buffer_bytes,
                self.bounds.write_buffer_bytes,
                self.host,
            );
            if self.connections.len() >= self.bounds.connections + LINGERING {
                self.counters.refused.add(1);
                continue;
            }
            if self.connections.taken() >= self.bounds.connections {
                self.counters.refused.add(1);
                connection.close(SessionError::TooManySessions);
            }
            let at = self.connections.seat();
            if self.sockets.register(connection.stream(), at).is_err() {
                self.connections.free.push(at);
                continue;
            }
            self.connections.sit(at, connection);
            if self.connections.greeting > self.bounds.connections_without_hello {
                self.connections.make_room_among_the_silent();
            }
            self.counters.accepted.add(1);
            self.counters.open.set(self.connections.len() as u64);
        }
    }

    fn read_all(&mut self, ingress: &mut Ingress, responder: &Responder) -> usize {
        let mut work = 0;
        let now = if self.connections.to_read.is_empty() {
            Timestamp(0)
        } else {
            (self.host.clock)()
        };
        let mut read_on = READ_ON_BYTES;
        for at in std::mem::take(&mut self.connections.to_read) {
            if let Some(connection) = &mut self.connections.slots[at] {
                connection.listed_to_read = false;
            }
            while let Some(bytes) = self.read_one(at, ingress, responder, now) {
                work += 1;
                let Some(left) = read_on.checked_sub(bytes) else {
                    break;
                };
                read_on = left;
            }
            self.connections.list(at);
        }
        work
    }

    /// Reads a connection once and takes its frames. `None` where there is nothing (more) to read.
    fn read_one(
        &mut self,
        at: usize,
        ingress: &mut Ingress,
        responder: &Responder,
        now: Timestamp,
    ) -> Option<usize> {
        let connection = self.connections.slots[at].as_mut()?;
        if !connection.may_read() || (connection.is_open() && connection.output.is_full()) {
            // It must read before it may ask for more; `send` lists it again.
            return None;
        }
        match connection.receive() {
            Received::Over => {
                self.connections.end(at);
                None
            }
            Received::Bytes(bytes) => {
                self.take_frames(at, ingress, responder, now);
                Some(bytes)
            }
            Received::Nothing => None,
        }
    }

    /// Takes every whole frame a connection holds.
    fn take_frames(
        &mut self,
        at: usize,
        ingress: &mut Ingress,
        responder: &Responder,
        now: Timestamp,
    ) {
        while let Some(connection) = &mut self.connections.slots[at] {
            let prefix = match connection.input.front() {
                Front::Frame(prefix) => prefix,
                Front::Partial => return,
                Front::BadLength(_) => {
                    self.counters.malformed.add(1);
                    return connection.close(SessionError::BadLength);
                }
            };
            if prefix.release > RELEASE {
                return connection.close(SessionError::NewerRelease);
            }
            let length = prefix.length as usize;
            if prefix.kind >= FIRST_SESSION_KIND {
                self.take_message(at, prefix, ingress, responder);
            } else if connection.session == 0 {
                return connection.close(SessionError::HelloFirst);
            } else if let Err(error) =
                take_command(connection, length, ingress, responder, now, &self.counters)
            {
                self.counters.malformed.add(1);
                return connection.close(error);
            }
            match &mut self.connections.slots[at] {
                Some(connection) if connection.is_open() => connection.input.consume(length),
                _ => return,
            }
        }
    }

    fn take_message(
        &mut self,
        at: usize,
        prefix: Prefix,
        ingress: &Ingress,
        responder: &Responder,
    ) {
        let connection = self.connections.slots[at].as_mut().expect("it has a frame");
        let frame = connection.input.frame_mut(prefix.length as usize);
        let understood = match prefix.kind {
            Hello::KIND => body_of::<Hello>(frame).map(|hello| {
                self.connections.hello(at, &hello, ingress, responder);
            }),
            _ if connection.session == 0 => return connection.close(SessionError::HelloFirst),
            Resend::KIND => body_of::<Resend>(frame).map(|resend| {
                let last = ingress.sessions().last_client_sequence(connection.session);
                if resend.from <= last {
                    let from = resend.from.max(1);
                    connection.resend(from, last, responder.window(), ingress.published());
                }
            }),
            Watch::KIND => body_of::<Watch>(frame).map(|watch| {
                self.connections.watch(at, &watch, ingress, responder);
            }),
            UseRing::KIND => body_of::<UseRing>(frame).map(|_| self.give_ring(at)),
            Wake::KIND => body_of::<Wake>(frame).map(|_| ()),
            StatsRequest::KIND => {
                body_of::<StatsRequest>(frame).map(|_| self.tell_stats(at, ingress, responder))
            }
            _ => None,
        };
        if understood.is_none() {
            self.counters.malformed.add(1);
            if let Some(connection) = &mut self.connections.slots[at] {
                connection.close(SessionError::Malformed);
            }
        }
    }

    fn give_ring(&mut self, at: usize) {
        let connections = &mut self.connections;
        let others = connections
            .with_rings
            .iter()
            .filter(|it| **it != at)
            .count();
        let connection = connections.slots[at].as_mut().expect("it asked");
        if others >= self.bounds.shared_rings || !connection.is_local() {
            return connection.close(SessionError::NoSharedMemory);
        }
        if !connections.with_rings.contains(&at) {
            connections.with_rings.push(at);
        }
        if !connection.use_ring(self.bounds.shared_ring_bytes) {
            connection.hang_up();
        }
    }

    fn tell_stats(&mut self, at: usize, ingress: &Ingress, responder: &Responder) {
        let connection = self.connections.slots[at].as_mut().expect("it asked");
        if connection.output.is_full() {
            // The answer is longer than the question: whoever asks must read.
            self.counters.slow_consumers.add(1);
            return connection.close(SessionError::SlowConsumer);
        }
        self.stats
            .answer(connection, ingress, responder, &self.counters);
        self.connections.list(at);
    }

    /// Moves those that lag on through the window, in turn, as far as one cycle goes.
    fn catch_up(&mut self, responder: &Responder) -> usize {
        let mut work = 0;
        let mut left = SEARCHED_PER_CYCLE;
        for _ in 0..self.connections.to_catch_up.len() {
            if left == 0 {
                // The others come first in the next cycle.
                return work + 1;
            }
            let Some(at) = self.connections.to_catch_up.pop_front() else {
                break;
            };
            let Some(connection) = &mut self.connections.slots[at] else {
                continue;
            };
            connection.listed_to_catch_up = false;
            let before = connection.output.pending();
            match connection.catch_up(responder.window(), responder.answered(), &mut left) {
                Caught::Working => work += 1,
                Caught::Up | Caught::Waiting => {
                    work += usize::from(connection.output.pending() > before);
                }
                Caught::FellOut => {
                    self.counters.slow_consumers.add(1);
                    connection.close(SessionError::SlowConsumer);
                }
            }
            self.connections.list(at);
        }
        work
    }

    /// Drops connections that take too long to say hello or to go.
    fn look_over(&mut self) {
        let now = (self.host.now)();
        if now.duration_since(self.looked_over) < HOUSEKEEPING {
            return;
        }
        if self.accept_again {
            self.accept();
        }
        self.stats.turn();
        self.looked_over = now;
        let patience = Duration::from_millis(self.bounds.hello_timeout_ms);
        // Sessions that are open are not looked at, however many there are.
        let list = std::mem::take(&mut self.connections.to_look_over);
        for at in &list {
            if let Some(connection) = &mut self.connections.slots[*at] {
                connection.listed_to_look_over = false;
            }
        }
        for at in list {
            let Some(connection) = &mut self.connections.slots[at] else {
                continue;
            };
            if connection.is_overdue(now) {
                self.connections.end(at);
                continue;
            }
            let is_late = connection.session == 0
                && connection.is_open()
                && now.duration_since(connection.since) > patience;
            if is_late {
                connection.close(SessionError::HelloFirst);
            }
            self.connections.list(at);
        }
    }

    /// Lets some of those go that are over.
    fn drop_some(&mut self) -> usize {
        for dropped in 0..CROWD_PER_CYCLE {
            let Some(at) = self.connections.to_drop.pop_front() else {
                return dropped;
            };
            self.drop_connection(at);
        }
        CROWD_PER_CYCLE
    }

    fn drop_connection(&mut self, at: usize) {
        let Some(mut connection) = self.connections.slots[at].take() else {
            return;
        };
        self.sockets.deregister(connection.stream());
        self.connections.forget(at, &connection);
        if connection.takes_orders_along {
            self.ended.push(connection.session);
        }
        self.connections.free.push(at);
        self.counters.open.set(self.connections.len() as u64);
    }
}

impl<S: Sockets> Replies for Gateway<S> {
    #[inline]
    fn event(&mut self, event: &EventSlot, position: u64) {
        let header = &event.header;
        if let Some(stages) = &mut self.stats.stages
            && header.flags & (LAST_EVENT | QUERY_ANSWER) == LAST_EVENT
        {
            stages.answered(header.sequence, header.at, header.executed_at);
        }
        let connections = &mut self.connections;
        if let Some(at) = connections.route(event.header.session) {
            connections.deliver(at, event, position);
        }
        for index in 0..connections.watchers.len() {
            let at = connections.watchers[index];
            let Some(watcher) = connections.slots[at].as_mut() else {
                continue;
            };
            // Its own replies have gone to it above.
            if watcher.wants(event) && watcher.session != event.header.session {
                connections.deliver(at, event, position);
            }
        }
    }
}

/// Whether a command has the session's orders go when its connection does.
#[inline]
fn asks_to_take_orders_along(frame: &[u8]) -> bool {
    let header: &CommandHeader = bytemuck::from_bytes(&frame[..HEADER_BYTES]);
    header.kind == CommandKind::CancelOnDisconnect as u16
}

/// One command or query of a session into the ring, or the reason why not back to it. The error is
/// one that ends the connection.
#[inline]
fn take_command<S: Stream>(
    connection: &mut Connection<S>,
    length: usize,
    ingress: &mut Ingress,
    responder: &Responder,
    now: Timestamp,
    counters: &GatewayCounters,
) -> Result<(), SessionError> {
    if length < HEADER_BYTES {
        return Err(SessionError::BadLength);
    }
    let session = connection.session;
    let frame = connection.input.frame_mut(length);
    let refusal = match ingress.submit(session, frame, now) {
        Ok(()) => {
            counters.commands.add(1);
            if asks_to_take_orders_along(frame) {
                connection.takes_orders_along = true;
            }
            return Ok(());
        }
        Err(refusal) => refusal,
    };
    let header: &CommandHeader = bytemuck::from_bytes(&frame[..HEADER_BYTES]);
    let client_sequence = header.client_sequence;
    let next = ingress.sessions().last_client_sequence(session) + 1;
    match refusal {
        Refusal::Malformed(FrameError::NewerRelease(_)) => return Err(SessionError::NewerRelease),
        Refusal::Malformed(_) => return Err(SessionError::Malformed),
        Refusal::Duplicate => {
            let window = responder.window();
            connection.resend(
                client_sequence,
                client_sequence,
                window,
                ingress.published(),
            );
        }
        Refusal::Gap { expected } => {
            connection.refuse(SessionError::SequenceGap, client_sequence, expected);
        }
        Refusal::Busy => {
            counters.busy.add(1);
            connection.refuse(SessionError::Busy, client_sequence, next);
        }
        Refusal::DiskFull => connection.refuse(SessionError::DiskFull, client_sequence, next),
        Refusal::Stopping => connection.refuse(SessionError::Stopping, client_sequence, next),
    }
    Ok(())
}

fn body_of<M: SessionMessage>(frame: &[u8]) -> Option<M> {
    (frame.len() == SESSION_HEADER_BYTES + size_of::<M>())
        .then(|| decode(frame))
        .flatten()
}

impl<S: Stream> Connections<S> {
    fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Seats of those who may stay.
    fn taken(&self) -> usize {
        self.len() - self.closing
    }

    fn seat(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// A connection that was just accepted takes its seat.
    fn sit(&mut self, at: usize, mut connection: Connection<S>) {
        connection.was_greeting = connection.is_greeting();
        self.greeting += usize::from(connection.was_greeting);
        self.slots[at] = Some(connection);
        self.list(at);
    }

    /// It is over: nothing more is read or written, and it goes when its turn comes.
    fn end(&mut self, at: usize) {
        if let Some(connection) = &mut self.slots[at]
            && !connection.is_over
        {
            connection.is_over = true;
            self.to_drop.push_back(at);
        }
    }

    /// More connections than may be have not said hello: the one that has had the longest time goes.
    fn make_room_among_the_silent(&mut self) {
        let slots = &self.slots;
        let is_greeting = |at: &usize| {
            slots[*at]
                .as_ref()
                .is_some_and(Connection::<S>::is_greeting)
        };
        let longest = self.to_look_over.iter().copied().find(is_greeting);
        if let Some(at) = longest
            && let Some(connection) = &mut self.slots[at]
        {
            connection.close(SessionError::HelloFirst);
            self.list(at);
        }
    }

    /// Notes what the poll said about a socket.
    fn mark(&mut self, at: usize, readable: bool, writable: bool, closed: bool) {
        let Some(Some(connection)) = self.slots.get_mut(at) else {
            return;
        };
        connection.readable |= readable;
        connection.writable |= writable;
        connection.peer_closed |= closed;
        self.list(at);
    }

    /// Puts a connection on the lists of what it has to do.
    #[inline]
    fn list(&mut self, at: usize) {
        let Some(connection) = &mut self.slots[at] else {
            return;
        };
        if connection.is_over {
            return;
        }
        let is_greeting = connection.is_greeting();
        if connection.was_greeting != is_greeting {
            connection.was_greeting = is_greeting;
            self.greeting -= 1;
        }
        if !connection.is_open() && !connection.was_closing {
            connection.was_closing = true;
            self.closing += 1;
        }
        if (is_greeting || !connection.is_open()) && !connection.listed_to_look_over {
            connection.listed_to_look_over = true;
            self.to_look_over.push(at);
        }
        let may_read =
            connection.may_read() && !(connection.is_open() && connection.output.is_full());
        if may_read && !connection.listed_to_read {
            connection.listed_to_read = true;
            self.to_read.push(at);
        }
        if connection.output.pending() > 0 && !connection.listed_to_write && connection.may_write()
        {
            connection.listed_to_write = true;
            self.to_write.push(at);
        }
        if connection.catch_up.is_some() && !connection.listed_to_catch_up {
            connection.listed_to_catch_up = true;
            self.to_catch_up.push_back(at);
        }
    }

    /// Puts those whose rings hold something, or have room again, on the lists.
    fn list_rings(&mut self) {
        for index in 0..self.with_rings.len() {
            self.list(self.with_rings[index]);
        }
    }

    fn rings_will_sleep(&self) {
        for (ring, waits_for_room) in self.rings() {
            ring.will_sleep(waits_for_room);
        }
    }

    fn rings_are_awake(&self) {
        for (ring, _) in self.rings() {
            ring.is_awake();
        }
    }

    /// All rings, and whether something waits for room in them.
    fn rings(&self) -> impl Iterator<Item = (&NodeEnd, bool)> {
        let connections = self.with_rings.iter().map(|at| self.slots[*at].as_ref());
        connections.filter_map(|connection| {
            let connection = connection?;
            Some((connection.ring()?, connection.output.pending() > 0))
        })
    }

    #[inline]
    fn route(&mut self, session: u64) -> Option<usize> {
        if session == 0 {
            return None;
        }
        if self.recent.0 == session {
            return Some(self.recent.1);
        }
        let at = *self.by_session.get(&session)?;
        self.recent = (session, at);
        Some(at)
    }

    #[inline]
    fn deliver(&mut self, at: usize, event: &EventSlot, position: u64) {
        if let Some(connection) = &mut self.slots[at]
            && connection.is_open()
        {
            connection.deliver(event, position);
            if !connection.listed_to_write || connection.catch_up.is_some() {
                self.list(at);
            }
        }
    }

    fn hello(&mut self, at: usize, hello: &Hello, ingress: &Ingress, responder: &Responder) {
        let session = hello.session;
        let connection = self.slots[at].as_mut().expect("it said hello");
        if session == 0 || (connection.session != 0 && connection.session != session) {
            return connection.close(SessionError::BadSession);
        }
        let last = ingress.sessions().last_client_sequence(session);
        connection.session = session;
        connection.say(&Welcome {
            session,
            last_client_sequence: last,
            sequence: ingress.progress().executed.get(),
            at: (connection.host.clock)(),
        });
        if hello.replies_seen < last {
            let window = responder.window();
            connection.resend(hello.replies_seen + 1, last, window, ingress.published());
        }
        self.recent = (0, 0);
        if let Some(before) = self.by_session.insert(session, at)
            && before != at
            && let Some(connection) = &mut self.slots[before]
        {
            connection.session = 0;
            connection.close(SessionError::Superseded);
            if std::mem::take(&mut connection.is_watcher) {
                self.watchers.retain(|watcher| *watcher != before);
            }
            // The session has not ended, and what it asked for when it does holds here, too.
            let takes_along = std::mem::take(&mut connection.takes_orders_along);
            self.list(before);
            if let Some(connection) = &mut self.slots[at] {
                connection.takes_orders_along |= takes_along;
            }
        }
    }

    fn watch(&mut self, at: usize, watch: &Watch, ingress: &Ingress, responder: &Responder) {
        let connection = self.slots[at].as_mut().expect("it said watch");
        let window = responder.window();
        if std::mem::take(&mut connection.is_watcher) {
            self.watchers.retain(|watcher| *watcher != at);
        }
        let goes_on = connection.watches;
        connection.watches = watch.on.is_yes();
        if !goes_on || !connection.watches {
            connection.watched = Watched::default();
        }
        if !connection.watches {
            return;
        }
        if !connection.watched.add(watch.scope, watch.participant.0) {
            return connection.close(SessionError::Malformed);
        }
        connection.is_watcher = true;
        self.watchers.push(at);
        let from = watch.from_sequence;
        if from == 0 {
            connection.watches_from = 0;
            // So that it can go on from there, also where it hears nothing for long.
            connection.say(&Welcome {
                session: connection.session,
                last_client_sequence: ingress.sessions().last_client_sequence(connection.session),
                sequence: window.complete_to(),
                at: (connection.host.clock)(),
            });
        } else {
            // Of a command that is longer than the window, the end may still be to come.
            connection.watches_from = from.max(window.complete_from());
            if from < window.complete_from() {
                connection.refuse(SessionError::RepliesGone, 0, window.complete_from());
            }
            if from <= ingress.progress().executed.get() {
                connection.lag_from(window.position_of(connection.watches_from));
            }
        }
    }

    fn forget(&mut self, at: usize, connection: &Connection<S>) {
        if self.by_session.get(&connection.session) == Some(&at) {
            self.by_session.remove(&connection.session);
        }
        self.recent = (0, 0);
        self.greeting -= usize::from(connection.was_greeting);
        self.closing -= usize::from(connection.was_closing);
        if connection.is_watcher {
            self.watchers.retain(|watcher| *watcher != at);
        }
        if !self.with_rings.is_empty() {
            self.with_rings.retain(|other| *other != at);
        }
    }
}
