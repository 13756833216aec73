//! What the gateway runs on: sockets of the system, or the simulated ones of a test.
//!
//! The gateway asks for what is ready, reads and writes without blocking, and never learns what is
//! underneath. [`Tcp`] is the one that production uses.

use crate::pipeline::threads::Signal;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// A listener and the readiness of everything it accepted.
pub trait Sockets {
    /// One connection's bytes.
    type Stream: Stream;

    /// Waits up to `wait` until something is ready.
    fn poll(&mut self, wait: Duration) -> io::Result<()>;

    /// What the last poll found.
    fn ready(&self) -> impl Iterator<Item = Ready>;

    /// The next connection that waits; `WouldBlock` where none does.
    fn accept(&mut self) -> io::Result<Self::Stream>;

    /// From now on reports a stream's readiness as that of `at`.
    fn register(&mut self, stream: &mut Self::Stream, at: usize) -> io::Result<()>;

    /// Reports no more of it.
    fn deregister(&mut self, stream: &mut Self::Stream);

    /// Accepts no more connections.
    fn stop_accepting(&mut self);
}

/// A connection's bytes: reads and writes that do not block.
pub trait Stream: Read + Write {
    /// Tells the peer that nothing more comes.
    fn finish_writing(&mut self) -> io::Result<()>;

    /// Whether the peer is on this host, and may share memory with it.
    fn is_local(&self) -> bool;
}

/// What is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A connection waits to be accepted.
    Accept,
    /// Something changed on the stream registered as `at`.
    Stream {
        /// Which.
        at: usize,
        /// It may hold something to read.
        readable: bool,
        /// It takes more.
        writable: bool,
        /// The peer has closed its side, or the stream is broken.
        closed: bool,
    },
}

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// Sockets of the system.
pub struct Tcp {
    poll: Poll,
    events: Events,
    listener: Option<TcpListener>,
    address: SocketAddr,
}

impl Tcp {
    /// Listens on `listener`, for up to so many connections at once; `signal` wakes the thread that polls.
    pub fn listen(
        listener: std::net::TcpListener,
        connections: usize,
        signal: &Signal,
    ) -> io::Result<Tcp> {
        listener.set_nonblocking(true)?;
        // The standard library lets 128 wait; in a storm the rest would try again a second later. The
        // system has a bound of its own (net.core.somaxconn).
        rustix::net::listen(&listener, connections.min(4_096) as i32)?;
        let address = listener.local_addr()?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        signal.attach_poll(Waker::new(poll.registry(), WAKER)?);
        Ok(Tcp {
            poll,
            events: Events::with_capacity(1_024),
            listener: Some(listener),
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Sockets for Tcp {
    type Stream = TcpStream;

    fn poll(&mut self, wait: Duration) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn ready(&self) -> impl Iterator<Item = Ready> {
        self.events.iter().filter_map(|event| match event.token() {
            LISTENER => Some(Ready::Accept),
            WAKER => None,
            Token(at) => {
                let closed = event.is_read_closed() || event.is_error();
                Some(Ready::Stream {
                    at,
                    readable: event.is_readable() || closed,
                    writable: event.is_writable(),
                    closed,
                })
            }
        })
    }

    fn accept(&mut self) -> io::Result<TcpStream> {
        let Some(listener) = &self.listener else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let (stream, _) = listener.accept()?;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn register(&mut self, stream: &mut TcpStream, at: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream, Token(at), interest)
    }

    fn deregister(&mut self, stream: &mut TcpStream) {
        let _ = self.poll.registry().deregister(stream);
    }

    fn stop_accepting(&mut self) {
        if let Some(mut listener) = self.listener.take() {
            let _ = self.poll.registry().deregister(&mut listener);
        }
    }
}

impl Stream for TcpStream {
    fn finish_writing(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn is_local(&self) -> bool {
        self.peer_addr()
            .is_ok_and(|peer| peer.ip().to_canonical().is_loopback())
    }
}
