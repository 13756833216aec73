//! A network of bytes: what is written travels until the seed lets it arrive, cut at any byte; links
//! are bounded both ways, and break.
//!
//! ```text
//!  client --write--> up.flight --deliver--> up.arrived --read--> gateway
//!  client <--read-- down.arrived <--deliver-- down.flight <--write-- gateway
//! ```
//!
//! Readiness is reported as the system does: once, when it changes.

use millrace::gateway::{Ready, Sockets, Stream};
use millrace::protocol::frame::Prefix;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::time::Duration;

/// All links. Clones share them.
#[derive(Clone, Default)]
pub struct Network {
    wires: Rc<RefCell<Wires>>,
}

#[derive(Default)]
struct Wires {
    links: BTreeMap<u64, Link>,
    /// Links that the node has not accepted yet.
    knocking: VecDeque<u64>,
    next: u64,
    is_listening: bool,
}

#[derive(Default)]
struct Link {
    up: Pipe,
    down: Pipe,
    /// What the gateway registered it as.
    seat: Option<usize>,
    edge: Edge,
    is_cut: bool,
    client_left: bool,
    node_left: bool,
}

#[derive(Default)]
struct Edge {
    readable: bool,
    writable: bool,
    closed: bool,
}

#[derive(Default)]
struct Pipe {
    flight: VecDeque<u8>,
    arrived: VecDeque<u8>,
    bound: usize,
    /// A write found no room.
    is_awaited: bool,
    /// Nothing more is written, and whether the reader knows.
    is_finished: bool,
    end_arrived: bool,
}

impl Pipe {
    fn room(&self) -> usize {
        self.bound
            .saturating_sub(self.flight.len() + self.arrived.len())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room());
        if count < bytes.len() {
            self.is_awaited = true;
        }
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.flight.extend(&bytes[..count]);
        Ok(count)
    }

    fn take(&mut self, out: &mut [u8]) -> usize {
        let count = out.len().min(self.arrived.len());
        for (to, from) in out.iter_mut().zip(self.arrived.drain(..count)) {
            *to = from;
        }
        count
    }

    /// Lets up to `bytes` arrive. True where something did.
    fn deliver(&mut self, bytes: usize) -> bool {
        let count = bytes.min(self.flight.len());
        self.arrived.extend(self.flight.drain(..count));
        let ends = self.flight.is_empty() && self.is_finished && !self.end_arrived;
        self.end_arrived |= ends;
        count > 0 || ends
    }
}

/// What a client's read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Got {
    Bytes(Vec<u8>),
    Nothing,
    /// The connection is over.
    Over,
}

impl Network {
    /// A link to the node, bounded to so many bytes each way; `None` where nobody listens.
    pub fn connect(&self, bound: usize) -> Option<u64> {
        let mut wires = self.wires.borrow_mut();
        if !wires.is_listening {
            return None;
        }
        wires.next += 1;
        let id = wires.next;
        let mut link = Link::default();
        (link.up.bound, link.down.bound) = (bound, bound);
        wires.links.insert(id, link);
        wires.knocking.push_back(id);
        Some(id)
    }

    /// Writes what fits; `None` where the link is broken.
    pub fn client_writes(&self, link: u64, bytes: &[u8]) -> Option<usize> {
        let mut wires = self.wires.borrow_mut();
        let link = wires.links.get_mut(&link)?;
        if link.is_cut || link.node_left {
            return None;
        }
        Some(link.up.write(bytes).unwrap_or(0))
    }

    /// Reads up to `bytes`.
    pub fn client_reads(&self, link: u64, bytes: usize) -> Got {
        let mut wires = self.wires.borrow_mut();
        let Some(link) = wires.links.get_mut(&link) else {
            return Got::Over;
        };
        let mut out = vec![0; bytes];
        let count = link.down.take(&mut out);
        if count > 0 {
            link.edge.writable |= std::mem::take(&mut link.down.is_awaited);
            out.truncate(count);
            return Got::Bytes(out);
        }
        let is_over = link.is_cut || link.down.end_arrived;
        if is_over { Got::Over } else { Got::Nothing }
    }

    /// The client goes.
    pub fn client_leaves(&self, link: u64) {
        let mut wires = self.wires.borrow_mut();
        if let Some(wire) = wires.links.get_mut(&link) {
            wire.client_left = true;
            wire.up.is_finished = true;
        }
        wires.tidy(link);
    }

    /// Links with something under way.
    pub fn busy(&self) -> Vec<u64> {
        let wires = self.wires.borrow();
        let is_busy = |link: &Link| {
            let pipes = [&link.up, &link.down];
            pipes
                .iter()
                .any(|pipe| !pipe.flight.is_empty() || (pipe.is_finished && !pipe.end_arrived))
        };
        let busy = wires.links.iter().filter(|(_, link)| is_busy(link));
        busy.map(|(id, _)| *id).collect()
    }

    /// Lets up to `up` bytes arrive at the node and `down` at the client.
    pub fn deliver(&self, link: u64, up: usize, down: usize) {
        let mut wires = self.wires.borrow_mut();
        let Some(link) = wires.links.get_mut(&link) else {
            return;
        };
        if link.up.deliver(up) {
            link.edge.readable = true;
            link.edge.closed |= link.up.end_arrived;
        }
        link.down.deliver(down);
    }

    /// Breaks a link: what is under way is lost, what has arrived can still be read.
    pub fn cut(&self, link: u64) {
        let mut wires = self.wires.borrow_mut();
        if let Some(link) = wires.links.get_mut(&link) {
            link.cut();
        }
    }

    /// The node is gone, and with it every link.
    pub fn node_ends(&self) {
        let mut wires = self.wires.borrow_mut();
        wires.is_listening = false;
        wires.knocking.clear();
        for link in wires.links.values_mut() {
            link.cut();
            link.node_left = true;
        }
        wires
            .links
            .retain(|_, link| !(link.node_left && link.client_left));
    }

    /// The sockets of a node that begins to listen.
    pub fn listen(&self) -> Simulated {
        self.wires.borrow_mut().is_listening = true;
        Simulated {
            network: self.clone(),
            ready: Vec::new(),
        }
    }
}

impl Link {
    fn cut(&mut self) {
        self.is_cut = true;
        self.up.flight.clear();
        self.down.flight.clear();
        self.edge.closed = true;
        self.edge.readable = true;
    }
}

impl Wires {
    /// Forgets a link that both sides have left.
    fn tidy(&mut self, id: u64) {
        let is_over = |link: &Link| link.client_left && link.node_left;
        if self.links.get(&id).is_some_and(is_over) {
            self.links.remove(&id);
        }
    }
}

/// The gateway's side of the network.
pub struct Simulated {
    network: Network,
    ready: Vec<Ready>,
}

impl Sockets for Simulated {
    type Stream = Socket;

    fn poll(&mut self, _wait: Duration) -> io::Result<()> {
        let mut wires = self.network.wires.borrow_mut();
        self.ready.clear();
        if !wires.knocking.is_empty() {
            self.ready.push(Ready::Accept);
        }
        for link in wires.links.values_mut() {
            let edge = &link.edge;
            if let Some(at) = link.seat
                && (edge.readable || edge.writable || edge.closed)
            {
                self.ready.push(Ready::Stream {
                    at,
                    readable: edge.readable || edge.closed,
                    writable: edge.writable,
                    closed: edge.closed,
                });
                link.edge = Edge::default();
            }
        }
        Ok(())
    }

    fn ready(&self) -> impl Iterator<Item = Ready> {
        self.ready.iter().copied()
    }

    fn accept(&mut self) -> io::Result<Socket> {
        let mut wires = self.network.wires.borrow_mut();
        let link = wires.knocking.pop_front().ok_or(ErrorKind::WouldBlock)?;
        Ok(Socket {
            network: self.network.clone(),
            link,
        })
    }

    fn register(&mut self, stream: &mut Socket, at: usize) -> io::Result<()> {
        let mut wires = self.network.wires.borrow_mut();
        if let Some(link) = wires.links.get_mut(&stream.link) {
            link.seat = Some(at);
        }
        Ok(())
    }

    fn deregister(&mut self, stream: &mut Socket) {
        let mut wires = self.network.wires.borrow_mut();
        if let Some(link) = wires.links.get_mut(&stream.link) {
            link.seat = None;
        }
    }

    fn stop_accepting(&mut self) {
        self.network.wires.borrow_mut().is_listening = false;
    }
}

/// The gateway's end of one link.
pub struct Socket {
    network: Network,
    link: u64,
}

impl Read for Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut wires = self.network.wires.borrow_mut();
        let Some(link) = wires.links.get_mut(&self.link) else {
            return Err(ErrorKind::ConnectionReset.into());
        };
        match link.up.take(out) {
            0 if link.is_cut => Err(ErrorKind::ConnectionReset.into()),
            0 if link.up.end_arrived => Ok(0),
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut wires = self.network.wires.borrow_mut();
        match wires.links.get_mut(&self.link) {
            Some(link) if !link.is_cut && !link.client_left => link.down.write(bytes),
            _ => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Socket {
    fn finish_writing(&mut self) -> io::Result<()> {
        let mut wires = self.network.wires.borrow_mut();
        if let Some(link) = wires.links.get_mut(&self.link) {
            link.down.is_finished = true;
        }
        Ok(())
    }

    fn is_local(&self) -> bool {
        false
    }
}

impl Drop for Socket {
    /// A socket that is closed with bytes unread resets its link; otherwise what was written still
    /// arrives.
    fn drop(&mut self) {
        let mut wires = self.network.wires.borrow_mut();
        if let Some(link) = wires.links.get_mut(&self.link) {
            link.node_left = true;
            link.down.is_finished = true;
            if !link.up.arrived.is_empty() {
                link.cut();
            }
        }
        wires.tidy(self.link);
    }
}

/// The next whole frame of what a client has read, taken out of it.
pub fn cut(input: &mut Vec<u8>) -> Option<(Prefix, Vec<u8>)> {
    let head = input.get(..size_of::<Prefix>())?;
    let prefix: Prefix = bytemuck::pod_read_unaligned(head);
    let length = prefix.length as usize;
    (input.len() >= length).then(|| (prefix, input.drain(..length).collect()))
}
