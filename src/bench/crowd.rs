//! Connections that do nothing, and connections that come and go: what one active session must not
//! notice.

use super::histogram;
use super::wire::{Wire, WireError};
use crate::client::ClientError;
use crate::protocol::session::{Hello, encode};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How many of a storm are connected at a time.
const STORM_HELD: usize = 64;
/// Bytes of a welcome.
const WELCOME_BYTES: usize = 48;

/// Connections beside the one that is measured.
pub struct Crowd {
    address: SocketAddr,
    next_session: u64,
    idle: Vec<TcpStream>,
    storm: VecDeque<TcpStream>,
    /// Connections made by the storm.
    pub reconnects: u64,
}

impl Crowd {
    /// Nobody yet, for the node at `address`.
    pub fn new(address: SocketAddr) -> Crowd {
        Crowd {
            address,
            next_session: 1 << 48,
            idle: Vec::new(),
            storm: VecDeque::new(),
            reconnects: 0,
        }
    }

    /// `count` sessions that say hello and nothing else.
    pub fn fill(&mut self, count: usize) -> io::Result<()> {
        while self.idle.len() < count {
            let mut stream = self.enter()?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.read_exact(&mut [0; WELCOME_BYTES])?;
            self.idle.push(stream);
        }
        Ok(())
    }

    /// Everybody goes, and the node has a moment to see it.
    pub fn leave(&mut self) {
        self.idle.clear();
        self.storm.clear();
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Another one of the storm comes, without waiting to be welcomed, and the oldest goes.
    fn storm(&mut self) -> io::Result<()> {
        let stream = self.enter()?;
        self.storm.push_back(stream);
        self.reconnects += 1;
        if self.storm.len() > STORM_HELD {
            self.storm.pop_front();
        }
        Ok(())
    }

    fn enter(&mut self) -> io::Result<TcpStream> {
        self.next_session += 1;
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(10))?;
        stream.write_all(&encode(&Hello {
            session: self.next_session,
            replies_seen: 0,
        }))?;
        Ok(stream)
    }
}

impl Wire {
    /// Round trips of single transfers for so long, one in flight. Meanwhile the crowd storms `per_second`
    /// times a second, each time right before a transfer is sent: the node meets both at once, and what
    /// the newcomer costs this side is not counted.
    pub fn round_trips_beside(
        &mut self,
        how_long: Duration,
        crowd: &mut Crowd,
        per_second: u64,
    ) -> Result<Histogram<u64>, WireError> {
        let mut latency = histogram();
        let start = Instant::now();
        let mut stormed = 0;
        while start.elapsed() < how_long {
            if start.elapsed().as_secs_f64() * per_second as f64 > stormed as f64 {
                crowd.storm().map_err(ClientError::Io)?;
                stormed += 1;
            }
            latency.saturating_record(self.round_trip()?.as_nanos() as u64);
        }
        Ok(latency)
    }
}
