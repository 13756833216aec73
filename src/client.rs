//! The client of the binary protocol: one session, pipelined, exactly once.
//!
//! ```no_run
//! use millrace::client::{Client, Options};
//! use millrace::protocol::command::{AccountRef, CommandKind};
//! use millrace::protocol::frame::CommandFrame;
//! use millrace::protocol::units::AccountId;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::connect("127.0.0.1:7411".parse()?, Options::default())?;
//! let body = AccountRef {
//!     account: AccountId(1),
//!     _reserved: Default::default(),
//! };
//! for event in client.call(&CommandFrame::new(CommandKind::QueryAccount, &body))? {
//!     println!("{:?}", event.event());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Commands are numbered 1, 2, 3 ... and kept until their last event has come. When the connection
//! breaks, the client connects again with the same session: the node says how far it has come,
//! sends the replies again that were missed, and the client sends the commands again that were not
//! taken. Every command is thus executed once, and its events are handed out once, even across a
//! restart of the node. When the ring is full the client goes back to the command that was refused
//! and sends from there again.

mod error;
mod flight;
mod options;
mod shared;

pub use error::ClientError;
pub use options::Options;

use crate::protocol::command::CommandKind;
use crate::protocol::event::Event;
use crate::protocol::frame::{CommandFrame, EventSlot, Prefix, QUERY_ANSWER};
use crate::protocol::session::{
    FIRST_SESSION_KIND, Hello, NodeStats, Refused, RingReady, SESSION_HEADER_BYTES, SessionError,
    SessionMessage, StageTimes, StatsRequest, UseRing, Watch, WatchScope, Welcome, decode, encode,
};
use crate::protocol::units::ParticipantId;
use crate::protocol::wire::{Bool, Zero};
use crate::ring_file::ClientEnd;
use flight::{Flight, QUERY};
use rustix::net::{RecvFlags, SendFlags};
use shared::SharedLine;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Counts, and how far the stages are.
    pub node: NodeStats,
    /// What each stage took, for each span; nothing where the node does not measure stages.
    pub stages: Vec<StageTimes>,
}

/// The longest list of stage times that is kept of an answer.
const STAGE_TIMES_MAX: usize = 64;

/// A session with a node.
pub struct Client {
    address: SocketAddr,
    options: Options,
    stream: TcpStream,
    /// What frames go through instead of the socket.
    shared: Option<SharedLine>,
    session: u64,
    next_client_sequence: u64,
    next_query: u64,
    flight: Flight,
    going_back: Option<GoingBack>,
    watch_from: Option<u64>,
    /// What is watched; nothing where everything is.
    watched: Vec<(WatchScope, u32)>,
    /// Sequence and index behind the last event watched: what is older came before.
    watched_to: (u64, u32),
    input: Vec<u8>,
    input_start: usize,
    input_end: usize,
    received: VecDeque<EventSlot>,
    /// What has come of an answer to [`Client::stats`].
    stages: Vec<StageTimes>,
    stats: Option<Stats>,
    ring_ready: Option<RingReady>,
    reconnects: u64,
    /// Counts whatever the node sent, and connections.
    heard: u64,
    /// Frames may have come behind one that was an error.
    stopped_short: bool,
}

/// The node refused a command; it refuses all that was sent after it, too.
struct GoingBack {
    /// Commands sent after it, whose refusals are still to come.
    to_come: usize,
    /// The first refused.
    from: u64,
    /// Not before.
    resume_at: Option<Instant>,
}

impl Client {
    /// Connects and says hello.
    pub fn connect(address: SocketAddr, options: Options) -> Result<Client, ClientError> {
        let session = options.session.unwrap_or_else(random_session);
        let stream =
            open(address, &options).map_err(|source| ClientError::Connect { address, source })?;
        let mut client = Client {
            address,
            stream,
            shared: None,
            session,
            next_client_sequence: options.replies_seen + 1,
            next_query: QUERY,
            flight: Flight::default(),
            going_back: None,
            watch_from: None,
            watched: Vec::new(),
            watched_to: (0, 0),
            input: vec![0; 256 << 10],
            input_start: 0,
            input_end: 0,
            received: VecDeque::new(),
            stages: Vec::new(),
            stats: None,
            ring_ready: None,
            reconnects: 0,
            heard: 0,
            stopped_short: false,
            options,
        };
        let welcome = client.greet()?;
        if welcome.last_client_sequence >= QUERY - 1 {
            let last = welcome.last_client_sequence;
            return Err(ClientError::Protocol(format!("{last} commands taken")));
        }
        client.next_client_sequence = welcome.last_client_sequence + 1;
        if client.options.shared_memory {
            client.change_over()?;
        }
        Ok(client)
    }

    /// The session's id.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// From now on replies are waited for by spinning, or not: [`Options::spin`].
    pub fn spin(&mut self, on: bool) {
        self.options.spin = on;
    }

    /// Commands and queries without their last event yet.
    pub fn in_flight(&self) -> usize {
        self.flight.entries.len()
    }

    /// Bytes of commands and queries without their last event yet.
    pub fn in_flight_bytes(&self) -> usize {
        self.flight.held_bytes()
    }

    /// How often the connection was made again.
    pub fn reconnects(&self) -> u64 {
        self.reconnects
    }

    /// The last client sequence up to which every command was answered.
    pub fn replies_seen(&self) -> u64 {
        // What was given up or sent again has no number any more.
        let open = self.flight.entries.iter().filter(|entry| !entry.done);
        let commands = open.map(|entry| entry.number);
        let first = commands.filter(|number| number & QUERY == 0).min();
        first.unwrap_or(self.next_client_sequence) - 1
    }

    /// Takes a command or query to be sent with the next [`Client::flush`] (or any call that
    /// waits), and returns the client sequence that its events will carry.
    pub fn submit(&mut self, frame: &CommandFrame) -> Result<u64, ClientError> {
        let deadline = Instant::now() + self.options.timeout;
        let length = frame.bytes().len();
        while self.is_full_for(length) {
            self.flush()?;
            // A reconnect on the way may have brought the replies with it.
            if self.is_full_for(length) {
                self.may_hold_more(0)?;
                self.wait(deadline)?;
            }
        }
        let number = if frame.header().kind >= CommandKind::FIRST_QUERY {
            self.next_query += 1;
            self.next_query
        } else {
            self.next_client_sequence += 1;
            self.next_client_sequence - 1
        };
        self.flight.push(number, self.session, frame.bytes());
        Ok(number)
    }

    /// Whether a frame of `length` bytes has to wait for answers.
    fn is_full_for(&self, length: usize) -> bool {
        let flight = &self.flight;
        flight.entries.len() >= self.options.window
            || (!flight.entries.is_empty()
                && flight.held_bytes() + length > self.options.window_bytes)
    }

    /// Whether more events may be read before the caller takes some; `apart` are held elsewhere.
    fn may_hold_more(&self, apart: usize) -> Result<(), ClientError> {
        let held = self.received.len() + apart;
        if held > self.options.held_events {
            return Err(ClientError::NotTaken { held });
        }
        Ok(())
    }

    /// Sends what was submitted.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.resume();
        let mut idle = 0;
        while !self.flight.unsent().is_empty() {
            let unsent = self.flight.unsent();
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let sent = match &mut self.shared {
                Some(shared) => shared.send(&self.stream, unsent),
                None => rustix::net::send(&self.stream, unsent, flags),
            };
            match sent {
                Ok(sent) => {
                    self.flight.sent += sent;
                    idle = 0;
                }
                // The node reads no more until its own replies are read.
                Err(error) if is_would_block(error.into()) => {
                    self.may_hold_more(0)?;
                    if self.receive(false)? == 0 {
                        idle += 1;
                        if idle > 100 {
                            std::thread::sleep(Duration::from_micros(50));
                        }
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => self.reconnect(error.into())?,
            }
        }
        Ok(())
    }

    /// The next event, if one is there: of this session's commands and queries, or watched.
    pub fn poll(&mut self) -> Result<Option<EventSlot>, ClientError> {
        if self.received.is_empty() {
            self.flush()?;
            self.receive(false)?;
        }
        Ok(self.received.pop_front())
    }

    /// An event that was read already, without a look at the socket.
    pub fn received(&mut self) -> Option<EventSlot> {
        self.received.pop_front()
    }

    /// The next event; waits for it.
    pub fn next_event(&mut self) -> Result<EventSlot, ClientError> {
        let deadline = Instant::now() + self.options.timeout;
        loop {
            if let Some(event) = self.poll()? {
                return Ok(event);
            }
            self.wait(deadline)?;
        }
    }

    /// Submits a command or query and returns all its events. Events of others in flight are kept
    /// for later calls.
    pub fn call(&mut self, frame: &CommandFrame) -> Result<Vec<EventSlot>, ClientError> {
        let number = self.submit(frame)?;
        let deadline = Instant::now() + self.options.timeout;
        let mut events = Vec::new();
        let mut others = VecDeque::new();
        loop {
            while let Some(event) = self.received.pop_front() {
                let header = &event.header;
                if header.session != self.session || header.client_sequence != number {
                    others.push_back(event);
                    continue;
                }
                events.push(event);
                if event.is_last() {
                    others.append(&mut self.received);
                    self.received = others;
                    return Ok(events);
                }
            }
            if let Err(error) = self.may_hold_more(others.len()) {
                events.append(&mut others.into());
                self.received = events.into();
                return Err(error);
            }
            self.flush()?;
            if self.received.is_empty() && self.receive(false)? == 0 {
                self.wait(deadline)?;
            }
        }
    }

    /// Waits until everything in flight is answered, handing every event to `on_event`.
    pub fn drain(&mut self, mut on_event: impl FnMut(&EventSlot)) -> Result<(), ClientError> {
        loop {
            while let Some(event) = self.poll()? {
                on_event(&event);
            }
            if self.flight.entries.is_empty() {
                return Ok(());
            }
            // The node is given its time anew whenever it has said something.
            self.wait(Instant::now() + self.options.timeout)?;
        }
    }

    /// Asks for every event of the node: from now on where `from_sequence` is 0, else from that
    /// journal sequence on, as far as the node still keeps them.
    pub fn watch(&mut self, from_sequence: u64) -> Result<(), ClientError> {
        self.watch_only(Vec::new(), from_sequence)
    }

    /// Asks for the drop copy of these participants: their execution reports and trades, whoever
    /// caused them; from where as for [`Client::watch`].
    pub fn watch_drop_copy(
        &mut self,
        participants: &[u32],
        from_sequence: u64,
    ) -> Result<(), ClientError> {
        let whose = participants.iter().map(|it| (WatchScope::DropCopy, *it));
        self.watch_only(whose.collect(), from_sequence)
    }

    /// Asks for the drop copy of these participants and of everybody who joins the group from now
    /// on: whom the node creates in it is told by `ok`, and copied after that.
    pub fn watch_drop_copy_of_group(
        &mut self,
        group: u32,
        participants: &[u32],
        from_sequence: u64,
    ) -> Result<(), ClientError> {
        let whose = participants.iter().map(|it| (WatchScope::DropCopy, *it));
        let group = std::iter::once((WatchScope::DropCopyGroup, group));
        self.watch_only(group.chain(whose).collect(), from_sequence)
    }

    /// Asks for the market data of these instruments: trades, phases, indicative prices, and the
    /// changes of books that are published; from where as for [`Client::watch`].
    pub fn watch_market_data(
        &mut self,
        instruments: &[u32],
        from_sequence: u64,
    ) -> Result<(), ClientError> {
        let of = instruments.iter().map(|it| (WatchScope::MarketData, *it));
        self.watch_only(of.collect(), from_sequence)
    }

    fn watch_only(
        &mut self,
        watched: Vec<(WatchScope, u32)>,
        from_sequence: u64,
    ) -> Result<(), ClientError> {
        self.watch_from = Some(from_sequence);
        self.watched = watched;
        self.watched_to = (0, 0);
        self.flush()?;
        self.say_watch(from_sequence).map_err(ClientError::Io)
    }

    fn say_watch(&mut self, from_sequence: u64) -> io::Result<()> {
        let everything = [(WatchScope::Everything, 0)];
        let watched = match &self.watched[..] {
            [] => &everything[..],
            some => some,
        };
        let mut message = Vec::new();
        for (at, (scope, id)) in watched.iter().enumerate() {
            // The last one says from where, when all are known.
            let is_last = at + 1 == watched.len();
            message.extend(encode(&Watch {
                from_sequence: if is_last { from_sequence } else { 0 },
                on: Bool::Yes,
                scope: *scope,
                _reserved: [Zero::Zero; 2],
                participant: ParticipantId(*id),
            }));
        }
        self.say_bytes(&message)
    }

    /// Asks the node how it is and waits for the answer. Events that come meanwhile are kept.
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        let deadline = Instant::now() + self.options.timeout;
        let mut asked_at = None;
        loop {
            self.flush()?;
            // A question goes with the connection it was asked on.
            if asked_at != Some(self.reconnects) {
                asked_at = Some(self.reconnects);
                self.stages.clear();
                self.stats = None;
                let question = StatsRequest {
                    _reserved: [Zero::Zero; 16],
                };
                self.say(&question).map_err(ClientError::Io)?;
            }
            if let Some(stats) = self.stats.take() {
                return Ok(stats);
            }
            self.wait(deadline)?;
        }
    }

    fn say<M: SessionMessage>(&mut self, message: &M) -> io::Result<()> {
        self.say_bytes(&encode(message))
    }

    fn say_bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let Some(shared) = &mut self.shared else {
            return (&self.stream).write_all(bytes);
        };
        let deadline = Instant::now() + self.options.timeout;
        while !bytes.is_empty() {
            match shared.send(&self.stream, bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if !is_would_block(error.into()) => return Err(error.into()),
                Err(_) if Instant::now() >= deadline => return Err(ErrorKind::TimedOut.into()),
                Err(_) => std::thread::yield_now(),
            }
        }
        Ok(())
    }

    /// Goes on over shared memory. For when nothing is sent yet but the hello.
    fn change_over(&mut self) -> Result<(), ClientError> {
        self.ring_ready = None;
        let question = UseRing {
            _reserved: [Zero::Zero; 16],
        };
        self.say(&question).map_err(ClientError::Io)?;
        let deadline = Instant::now() + self.options.timeout;
        loop {
            self.take_frames()?;
            if let Some(ready) = self.ring_ready.take() {
                let end = ClientEnd::open(ready.process, ready.descriptor)
                    .map_err(ClientError::SharedMemory)?;
                self.shared = Some(SharedLine::new(end));
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Timeout);
            }
            self.receive_from_socket()?;
        }
    }

    /// Waits a little for bytes of the socket.
    fn receive_from_socket(&mut self) -> Result<(), ClientError> {
        self.make_room();
        let free = &mut self.input[self.input_end..];
        match rustix::net::recv(&self.stream, free, RecvFlags::empty()) {
            Ok((0, _)) => Err(ClientError::Io(ErrorKind::UnexpectedEof.into())),
            Ok((read, _)) => {
                self.input_end += read;
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) if is_would_block(error.into()) => Ok(()),
            Err(error) => Err(ClientError::Io(error.into())),
        }
    }

    fn make_room(&mut self) {
        if self.input_start == self.input_end {
            self.input_start = 0;
            self.input_end = 0;
        } else if self.input_end > self.input.len() / 2 {
            self.input.copy_within(self.input_start..self.input_end, 0);
            self.input_end -= self.input_start;
            self.input_start = 0;
        }
    }

    /// Waits until the node has said something, or `deadline`.
    fn wait(&mut self, deadline: Instant) -> Result<(), ClientError> {
        let before = self.heard;
        loop {
            if Instant::now() >= deadline {
                return Err(ClientError::Timeout);
            }
            // There is more to send after a pause, and after a reconnect.
            self.flush()?;
            let resuming = self
                .going_back
                .as_ref()
                .is_some_and(|it| it.resume_at.is_some());
            if self.heard == before {
                self.receive(!self.options.spin && !resuming)?;
            }
            if self.heard != before {
                return Ok(());
            }
            if self.options.spin {
                std::hint::spin_loop();
            }
        }
    }

    /// Reads once and takes every whole frame. Returns the bytes read; not 0 also after a reconnect.
    fn receive(&mut self, blocking: bool) -> Result<usize, ClientError> {
        if self.stopped_short {
            self.heard += 1;
            self.take_frames()?;
            return Ok(1);
        }
        self.make_room();
        let flags = if blocking {
            RecvFlags::empty()
        } else {
            RecvFlags::DONTWAIT
        };
        let free = &mut self.input[self.input_end..];
        let received = match &mut self.shared {
            Some(shared) => shared.receive(&self.stream, free, blocking),
            None => rustix::net::recv(&self.stream, free, flags).map(|(read, _)| read),
        };
        let read = match received {
            Ok(0) => {
                self.reconnect(io::Error::from(ErrorKind::UnexpectedEof))?;
                // Replies may have come with the reconnect: whoever waits looks again.
                return Ok(1);
            }
            Ok(read) => read,
            Err(rustix::io::Errno::INTR) => return Ok(0),
            Err(error) if is_would_block(error.into()) => return Ok(0),
            Err(error) => {
                self.reconnect(error.into())?;
                return Ok(1);
            }
        };
        self.input_end += read;
        self.heard += 1;
        self.take_frames()?;
        Ok(read)
    }

    fn take_frames(&mut self) -> Result<(), ClientError> {
        self.stopped_short = true;
        self.take_each_frame()?;
        self.stopped_short = false;
        Ok(())
    }

    fn take_each_frame(&mut self) -> Result<(), ClientError> {
        while let Some(frame) = self.next_frame()? {
            let bytes = &self.input[frame.start..frame.start + frame.length];
            if frame.kind < FIRST_SESSION_KIND {
                let event = EventSlot::from_frame(bytes)
                    .ok_or_else(|| ClientError::Protocol("an event that is none".into()))?;
                self.take_event(event);
            } else if frame.kind == Refused::KIND {
                let refused = decode::<Refused>(bytes)
                    .ok_or_else(|| ClientError::Protocol("a refusal that is none".into()))?;
                self.take_refusal(&refused)?;
            } else if frame.kind == StageTimes::KIND {
                let times = decode::<StageTimes>(bytes)
                    .ok_or_else(|| ClientError::Protocol("stage times that are none".into()))?;
                if self.stages.len() < STAGE_TIMES_MAX {
                    self.stages.push(times);
                }
            } else if frame.kind == RingReady::KIND {
                self.ring_ready = decode::<RingReady>(bytes);
            } else if frame.kind == NodeStats::KIND {
                let node = decode::<NodeStats>(bytes)
                    .ok_or_else(|| ClientError::Protocol("node stats that are none".into()))?;
                let stages = std::mem::take(&mut self.stages);
                self.stats = Some(Stats { node, stages });
            } else if let (Welcome::KIND, Some(welcome)) = (frame.kind, decode::<Welcome>(bytes)) {
                // Where the watch begins that was asked for from now on.
                if let Some(from @ 0) = &mut self.watch_from {
                    *from = welcome.sequence + 1;
                }
            } else {
                return Err(ClientError::Protocol(format!("kind {:#x}", frame.kind)));
            }
        }
        Ok(())
    }

    /// Cuts the next whole frame off the input.
    fn next_frame(&mut self) -> Result<Option<Cut>, ClientError> {
        let bytes = &self.input[self.input_start..self.input_end];
        let Some(head) = bytes.get(..size_of::<Prefix>()) else {
            return Ok(None);
        };
        let prefix: Prefix = bytemuck::pod_read_unaligned(head);
        let length = prefix.length as usize;
        if !(SESSION_HEADER_BYTES..=4_096).contains(&length) {
            return Err(ClientError::Protocol(format!("a frame of {length} bytes")));
        }
        if bytes.len() < length {
            return Ok(None);
        }
        let start = self.input_start;
        self.input_start += length;
        Ok(Some(Cut {
            start,
            length,
            kind: prefix.kind,
        }))
    }

    fn take_event(&mut self, event: EventSlot) {
        let header = &event.header;
        let is_answer = header.flags & QUERY_ANSWER != 0;
        if header.session == self.session
            && let Some(entry) = self.flight.entry(header.client_sequence)
            && (entry.number & QUERY != 0) == is_answer
        {
            // After a reconnect events may come again.
            if header.index < entry.next_index || entry.done {
                return;
            }
            entry.next_index = header.index.saturating_add(1);
            entry.done = event.is_last();
            if entry.done {
                self.flight.forget_done();
            }
        } else if self.watch_from.is_none() || is_answer {
            return;
        } else if header.session != self.session {
            // After a reconnect, and where more is watched, events may come again.
            let after = (header.sequence, header.index + 1);
            if after <= self.watched_to {
                return;
            }
            self.watched_to = after;
            self.note_member(&event);
        }
        let header = &event.header;
        if let Some(from) = &mut self.watch_from
            && !is_answer
        {
            // Where a watch goes on after a reconnect. Events of the command that was cut off
            // come again.
            *from = header.sequence.saturating_add(event.is_last().into());
        }
        self.received.push_back(event);
    }

    /// Who has joined a watched group is watched, also after a reconnect.
    fn note_member(&mut self, event: &EventSlot) {
        if let Some(Event::Ok(done)) = event.event()
            && done.group != 0
            && self
                .watched
                .contains(&(WatchScope::DropCopyGroup, done.group))
        {
            self.watched
                .push((WatchScope::DropCopy, done.participant.0));
        }
    }

    fn take_refusal(&mut self, refused: &Refused) -> Result<(), ClientError> {
        let &Refused {
            error,
            client_sequence,
            expected,
            ..
        } = refused;
        let fatal = ClientError::Refused {
            error,
            client_sequence,
            expected,
        };
        if refused.closing.is_yes() {
            return match error {
                // Then it is worth coming back.
                SessionError::SlowConsumer | SessionError::Stopping => Ok(()),
                _ => Err(fatal),
            };
        }
        if error == SessionError::RepliesGone {
            return Err(self.replies_gone(client_sequence, expected));
        }
        if client_sequence & QUERY != 0 {
            return match error {
                SessionError::Busy => {
                    self.flight.send_again(client_sequence);
                    Ok(())
                }
                _ => {
                    self.flight.finish(client_sequence);
                    Err(fatal)
                }
            };
        }
        if !(1..=self.next_client_sequence).contains(&expected) {
            return Err(ClientError::Protocol(format!(
                "it expects command {expected}, the next one is {}",
                self.next_client_sequence
            )));
        }
        if let Some(going_back) = &mut self.going_back
            && client_sequence > going_back.from
            && going_back.to_come > 0
        {
            going_back.to_come -= 1;
            return Ok(());
        }
        self.flight.hold();
        let to_come = self.flight.commands_sent_after(client_sequence);
        self.going_back = Some(GoingBack {
            to_come,
            from: client_sequence,
            resume_at: None,
        });
        match error {
            SessionError::Busy => Ok(()),
            SessionError::SequenceGap if self.flight.entry(expected).is_some() => Ok(()),
            SessionError::SequenceGap => Err(ClientError::SessionForgotten {
                node: expected.saturating_sub(1),
                client: self.replies_seen(),
            }),
            _ => {
                self.flight.give_up_from(expected);
                self.next_client_sequence = expected;
                Err(fatal)
            }
        }
    }

    fn replies_gone(&mut self, from: u64, available: u64) -> ClientError {
        if from == 0 {
            return ClientError::WatchGone { available };
        }
        // Among what is in flight, however far the node says that it goes.
        for entry in &mut self.flight.entries {
            entry.done |= (from..available).contains(&entry.number);
        }
        self.flight.forget_done();
        ClientError::RepliesGone { from, available }
    }

    /// Once all refusals are in and the node had its pause, sends again from the first refused.
    fn resume(&mut self) {
        let Some(going_back) = &mut self.going_back else {
            return;
        };
        if going_back.to_come > 0 || !self.flight.unsent().is_empty() {
            return;
        }
        let pause = self.options.busy_pause;
        let resume_at = *going_back
            .resume_at
            .get_or_insert_with(|| Instant::now() + pause);
        if Instant::now() >= resume_at {
            let from = going_back.from;
            self.going_back = None;
            self.flight.rewind(|entry| entry.number == from);
        }
    }

    /// Connects again, as often as the options allow, and picks up where things stood.
    #[cold]
    fn reconnect(&mut self, cause: io::Error) -> Result<(), ClientError> {
        if self.options.reconnect.is_zero() {
            return Err(ClientError::Io(cause));
        }
        let deadline = Instant::now() + self.options.reconnect;
        loop {
            let again = open(self.address, &self.options);
            match again {
                Ok(stream) => {
                    self.stream = stream;
                    self.shared = None;
                    self.input_start = 0;
                    self.input_end = 0;
                    self.stopped_short = false;
                    let greeted = self.greet().and_then(|welcome| {
                        if self.options.shared_memory {
                            self.change_over()?;
                        }
                        Ok(welcome)
                    });
                    match greeted {
                        Ok(welcome) => return self.pick_up(&welcome),
                        Err(ClientError::Io(_) | ClientError::Timeout) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(_) if Instant::now() < deadline => {}
                Err(_) => return Err(ClientError::Io(cause)),
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Io(cause));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Says hello and waits for the welcome. Replies that follow it stay in the input.
    fn greet(&mut self) -> Result<Welcome, ClientError> {
        let hello = Hello {
            session: self.session,
            replies_seen: self.replies_seen(),
        };
        self.say(&hello).map_err(ClientError::Io)?;
        let deadline = Instant::now() + self.options.timeout;
        loop {
            if let Some(frame) = self.next_frame()? {
                let bytes = &self.input[frame.start..frame.start + frame.length];
                if let (Welcome::KIND, Some(welcome)) = (frame.kind, decode::<Welcome>(bytes)) {
                    return Ok(welcome);
                }
                return Err(match decode::<Refused>(bytes) {
                    Some(refused) if frame.kind == Refused::KIND => match refused.error {
                        SessionError::Stopping => {
                            ClientError::Io(ErrorKind::ConnectionReset.into())
                        }
                        error => ClientError::Refused {
                            error,
                            client_sequence: 0,
                            expected: 0,
                        },
                    },
                    _ => ClientError::Protocol("no welcome".into()),
                });
            }
            if Instant::now() >= deadline {
                return Err(ClientError::Timeout);
            }
            self.receive_from_socket()?;
        }
    }

    fn pick_up(&mut self, welcome: &Welcome) -> Result<(), ClientError> {
        self.reconnects += 1;
        self.heard += 1;
        self.going_back = None;
        let last = welcome.last_client_sequence;
        if last < self.replies_seen() || last >= self.next_client_sequence {
            return Err(ClientError::SessionForgotten {
                node: last,
                client: self.replies_seen(),
            });
        }
        self.flight
            .rewind(|entry| !entry.done && entry.number > last);
        if let Some(from) = self.watch_from {
            // Nothing in flight may be overtaken by this message, but then nothing was sent yet.
            self.say_watch(from).map_err(ClientError::Io)?;
        }
        self.take_frames()
    }
}

/// The socket, for callers that wait for several clients at once. A reconnect makes another one.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

struct Cut {
    start: usize,
    length: usize,
    kind: u16,
}

fn open(address: SocketAddr, options: &Options) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, options.timeout)?;
    stream.set_nodelay(true)?;
    // Reads that wait come up for air, so that deadlines are seen.
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    stream.set_write_timeout(Some(options.timeout))?;
    Ok(stream)
}

fn is_would_block(error: io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A session id that nobody else has: the standard library seeds its hashers from the operating
/// system.
fn random_session() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    loop {
        let session = RandomState::new().hash_one((std::process::id(), Instant::now()));
        if session != 0 {
            return session;
        }
    }
}
