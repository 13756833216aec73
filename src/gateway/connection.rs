//! One connection: its socket, its buffers, its session, and how it ends.

use super::buffers::{Input, Output};
use super::delivery::{CatchUp, refused};
use super::sockets::Stream;
use super::watched::Watched;
use crate::pipeline::Host;
use crate::protocol::session::{RingReady, SessionError, SessionMessage, encode};
use crate::ring_file::NodeEnd;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// How long a connection that is being closed may take to read why.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection.
pub struct Connection<S> {
    stream: S,
    pub(super) input: Input,
    pub(super) output: Output,
    /// What frames go through instead of the socket, where the client asked for it.
    ring: Option<NodeEnd>,
    /// It asked for rings of so many bytes and gets them once the socket has taken what waits.
    wants_ring: Option<u64>,
    /// 0 until it said hello.
    pub(super) session: u64,
    /// Whether it is sent events that are not its own.
    pub(super) watches: bool,
    /// Which.
    pub(super) watched: Watched,
    /// From which command on.
    pub(super) watches_from: u64,
    pub(super) catch_up: Option<CatchUp>,
    /// Whether the socket may hold something to read.
    pub(super) readable: bool,
    /// Whether the socket takes more.
    pub(super) writable: bool,
    /// The peer has closed its side; there may be more to read first.
    pub(super) peer_closed: bool,
    /// Its session asked for its orders to be cancelled when it ends.
    pub(super) takes_orders_along: bool,
    /// When it was accepted.
    pub(super) since: Instant,
    /// Set when nothing more is taken from it: it is closed when all is sent, or then.
    closing: Option<Instant>,
    shut: bool,
    pub(super) host: Host,
    /// Marks in the gateway's work lists.
    pub(super) listed_to_read: bool,
    pub(super) listed_to_write: bool,
    pub(super) listed_to_catch_up: bool,
    pub(super) listed_to_look_over: bool,
    /// Whether the gateway's list of watchers has it.
    pub(super) is_watcher: bool,
    /// Whether it was counted as one that has not said hello.
    pub(super) was_greeting: bool,
    /// Whether it was counted as one that is being closed.
    pub(super) was_closing: bool,
    /// Whether it waits only to be let go.
    pub(super) is_over: bool,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The connection is over.
    Over,
}

impl<S: Stream> Connection<S> {
    /// A connection just accepted.
    pub fn new(stream: S, read_bytes: usize, write_bytes: usize, host: Host) -> Connection<S> {
        Connection {
            stream,
            input: Input::new(read_bytes),
            output: Output::new(write_bytes),
            ring: None,
            wants_ring: None,
            session: 0,
            watches: false,
            watched: Watched::default(),
            watches_from: 0,
            catch_up: None,
            readable: true,
            writable: true,
            peer_closed: false,
            takes_orders_along: false,
            since: (host.now)(),
            closing: None,
            shut: false,
            host,
            listed_to_read: false,
            listed_to_write: false,
            listed_to_catch_up: false,
            listed_to_look_over: false,
            is_watcher: false,
            was_greeting: true,
            was_closing: false,
            is_over: false,
        }
    }

    /// The socket, to register.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether it has yet to say hello.
    pub fn is_greeting(&self) -> bool {
        self.session == 0 && self.is_open()
    }

    /// Whether frames are still taken from it.
    pub fn is_open(&self) -> bool {
        self.closing.is_none()
    }

    /// Reads once into the input. Clears `readable` when the socket is empty: a read that did not
    /// fill its room emptied it, and the next byte raises another event. Only where the peer has
    /// closed its side is there no such event, so there one reads to the end.
    pub fn receive(&mut self) -> Received {
        if self.closing.is_some() {
            return self.discard();
        }
        if self.ring.is_some() {
            return self.receive_from_ring();
        }
        match self.input.read_from(&mut self.stream) {
            Ok((0, _)) => Received::Over,
            Ok((bytes, filled)) => {
                self.readable = filled || self.peer_closed;
                Received::Bytes(bytes)
            }
            Err(error) => self.receive_error(&error),
        }
    }

    /// As [`Connection::receive`] where frames come through shared memory. All that comes by the socket
    /// is that the node was woken, and the end.
    fn receive_from_ring(&mut self) -> Received {
        if self.readable && self.discard() == Received::Over {
            return Received::Over;
        }
        let Some(ring) = &mut self.ring else {
            return Received::Nothing;
        };
        match self.input.read_from(&mut ring.input) {
            Ok((bytes, _)) => Received::Bytes(bytes),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(_) => Received::Over,
        }
    }

    /// Whether a read may bring something.
    #[inline]
    pub fn may_read(&self) -> bool {
        let has_data = |ring: &NodeEnd| ring.input.has_data();
        self.readable || (self.is_open() && self.ring.as_ref().is_some_and(has_data))
    }

    /// Whether a write may take something.
    #[inline]
    pub fn may_write(&mut self) -> bool {
        match &mut self.ring {
            // One that broke is found by the write.
            Some(ring) => ring.output.has_room().unwrap_or(true),
            None => self.writable,
        }
    }

    /// Whether the peer is on this host.
    pub fn is_local(&self) -> bool {
        self.stream.is_local()
    }

    /// Goes on through shared memory, with rings of `capacity` bytes, as soon as the socket has taken what
    /// waits. False when the connection is over.
    pub fn use_ring(&mut self, capacity: u64) -> bool {
        if self.ring.is_none() {
            self.wants_ring = Some(capacity);
        }
        self.output.pending() > 0 || self.change_over()
    }

    fn change_over(&mut self) -> bool {
        let Some(capacity) = self.wants_ring.take() else {
            return true;
        };
        let Ok(ring) = NodeEnd::create(capacity) else {
            self.close(SessionError::NoSharedMemory);
            return true;
        };
        let ready = encode(&RingReady {
            process: std::process::id(),
            descriptor: ring.descriptor(),
            capacity,
        });
        self.ring = Some(ring);
        // The socket has just taken everything: it takes these few bytes, or the client is gone.
        matches!(self.stream.write(&ready), Ok(written) if written == ready.len())
    }

    /// Its shared memory, if it has some.
    pub fn ring(&self) -> Option<&NodeEnd> {
        self.ring.as_ref()
    }

    /// Reads and forgets: what a refused client still sends must not turn the close into a reset
    /// that takes the refusal with it.
    fn discard(&mut self) -> Received {
        let mut waste = [0; 16 << 10];
        match self.stream.read(&mut waste) {
            Ok(0) => Received::Over,
            Ok(_) => Received::Nothing,
            Err(error) => self.receive_error(&error),
        }
    }

    fn receive_error(&mut self, error: &io::Error) -> Received {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            ErrorKind::Interrupted => Received::Nothing,
            _ => Received::Over,
        }
    }

    /// Writes once. False when the connection is over.
    pub fn send(&mut self) -> bool {
        if self.output.pending() == 0 || !self.may_write() {
            return true;
        }
        let written = match &mut self.ring {
            Some(ring) => self.output.write_to(&mut ring.output),
            None => self.output.write_to(&mut self.stream),
        };
        match written {
            Ok(all) => self.writable = all,
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
        if self.output.pending() == 0 && self.closing.is_some() && !self.shut {
            self.shut = true;
            return self.stream.finish_writing().is_ok();
        }
        if self.output.pending() == 0 && self.wants_ring.is_some() {
            return self.change_over();
        }
        true
    }

    /// Adds a session message.
    pub fn say<M: SessionMessage>(&mut self, message: &M) {
        self.output.push_message(&encode(message));
    }

    /// Says why, takes nothing more, and is closed once that is sent and the peer has seen it, or
    /// after a while.
    pub fn close(&mut self, error: SessionError) {
        if self.closing.is_none() {
            self.say(&refused(error, true, 0, 0));
            self.hang_up();
        }
    }

    /// As [`Connection::close`], without a word.
    pub fn hang_up(&mut self) {
        self.closing = Some((self.host.now)() + LINGER);
        self.input.clear();
        self.catch_up = None;
        self.watches = false;
        self.readable = true;
    }

    /// Whether a connection that is being closed has had its time.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.closing.is_some_and(|until| now >= until)
    }
}
