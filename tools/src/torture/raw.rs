//! A client of our own that speaks bytes: for whoever breaks rules, or keeps to them in a way that the
//! client library would not.

use millrace::protocol::frame::{EventSlot, Prefix};
use millrace::protocol::session::{
    FIRST_SESSION_KIND, Hello, Refused, SessionMessage, Welcome, decode, encode,
};
use rustix::net::sockopt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A connection.
pub struct Raw {
    /// The socket. Reads come up for air after a few milliseconds.
    pub stream: TcpStream,
    input: Vec<u8>,
}

/// What the node sent.
pub enum Message {
    /// An event.
    Event(Box<EventSlot>),
    /// That something was not taken.
    Refused(Refused),
    /// The answer to hello.
    Welcome(Welcome),
}

impl Raw {
    /// Connects.
    pub fn connect(address: SocketAddr) -> io::Result<Raw> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Raw {
            stream,
            input: Vec::new(),
        })
    }

    /// Connects, says hello and waits for the welcome; refused or gone is an error.
    pub fn hello(
        address: SocketAddr,
        session: u64,
        replies_seen: u64,
    ) -> io::Result<(Raw, Welcome)> {
        let mut raw = Raw::connect(address)?;
        raw.say(&Hello {
            session,
            replies_seen,
        })?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            match raw.next()? {
                Some(Message::Welcome(welcome)) => return Ok((raw, welcome)),
                Some(_) => return Err(ErrorKind::ConnectionRefused.into()),
                None => {}
            }
        }
        Err(ErrorKind::TimedOut.into())
    }

    /// Sends a session message.
    pub fn say<M: SessionMessage>(&mut self, message: &M) -> io::Result<()> {
        self.stream.write_all(&encode(message))
    }

    /// Sends bytes, whatever they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What was sent next, if it is there or comes within milliseconds. A connection that has ended is an
    /// error.
    pub fn next(&mut self) -> io::Result<Option<Message>> {
        if let Some(message) = self.cut()? {
            return Ok(Some(message));
        }
        self.read()?;
        self.cut()
    }

    /// Reads once.
    pub fn read(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.input.extend_from_slice(&bytes[..read]);
                Ok(())
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The next whole frame of what was read.
    pub fn cut(&mut self) -> io::Result<Option<Message>> {
        let Some(head) = self.input.get(..size_of::<Prefix>()) else {
            return Ok(None);
        };
        let prefix: Prefix = bytemuck::pod_read_unaligned(head);
        let length = prefix.length as usize;
        if !(16..=4_096).contains(&length) {
            return Err(io::Error::other(format!(
                "the node sent a frame of {length} bytes"
            )));
        }
        if self.input.len() < length {
            return Ok(None);
        }
        let frame: Vec<u8> = self.input.drain(..length).collect();
        let message = match prefix.kind {
            kind if kind < FIRST_SESSION_KIND => {
                EventSlot::from_frame(&frame).map(|event| Message::Event(Box::new(event)))
            }
            Refused::KIND => decode(&frame).map(Message::Refused),
            Welcome::KIND => decode(&frame).map(Message::Welcome),
            _ => None,
        };
        message
            .map(Some)
            .ok_or_else(|| io::Error::other("the node sent a frame that is none"))
    }

    /// Reads until the node closes or `within` is over. True when it closed; the last refusal that it gave.
    pub fn until_closed(&mut self, within: Duration) -> (bool, Option<Refused>) {
        let deadline = Instant::now() + within;
        let mut refusal = None;
        while Instant::now() < deadline {
            match self.next() {
                Ok(Some(Message::Refused(refused))) => refusal = Some(refused),
                Ok(_) => {}
                Err(_) => return (true, refusal),
            }
        }
        (false, refusal)
    }

    /// Ends with a reset, not with a good-bye.
    pub fn reset(self) {
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

/// Writes session and number into a command's frame.
pub fn stamp(frame: &mut [u8], session: u64, number: u64) {
    frame[8..16].copy_from_slice(&session.to_le_bytes());
    frame[16..24].copy_from_slice(&number.to_le_bytes());
}
