//! A raw echo for many connections: what a server costs that does nothing. One thread, one poll a turn,
//! one read and one write a connection; each transfer is answered by as many bytes as a node answers it
//! with. One that syncs appends what a turn brought to a file and syncs it before it answers: the least
//! that durability can cost where what came together shares a sync.

use super::lines::COMMAND_BYTES;
use super::unsent::Unsent;
use super::yardstick::{RawAppend, pin};
use crate::protocol::RELEASE;
use crate::protocol::event::{EventKind, TransferDone};
use crate::protocol::frame::{EVENT_HEADER_BYTES, EventHeader, LAST_EVENT};
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, TransferId};
use crate::protocol::wire::Zero;
use crate::telemetry::{Published, thread_time};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use zerocopy::IntoBytes;

/// How long it spins after its last work before it sleeps, as a node does.
const SPIN: Duration = Duration::from_micros(200);
const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// A running echo; ends when dropped.
pub struct Echo {
    address: SocketAddr,
    busy_ns: Arc<Published>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echo {
    /// An echo on `core`, which syncs to `disk` before it answers where there is one.
    pub fn start(core: Option<usize>, disk: Option<RawAppend>) -> io::Result<Echo> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        let registry = poll.registry();
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        let waker = Waker::new(registry, WAKER)?;
        let busy_ns = Arc::new(Published::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server {
            poll,
            listener,
            seats: Vec::new(),
            scratch: vec![0; 256 << 10],
            answer: answer(),
            disk,
            to_write: Vec::new(),
            busy_ns: busy_ns.clone(),
        };
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            pin(core.map(|id| core_affinity::CoreId { id }));
            server.run(&stopping)
        });
        Ok(Echo {
            address,
            busy_ns,
            stop,
            waker,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time spent in turns that had something to do, ns.
    pub fn busy_ns(&self) -> u64 {
        self.busy_ns.get()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // What it could not do, whoever drove it has seen.
            let _ = thread.join();
        }
    }
}

/// A node's answer to a transfer.
fn answer() -> Vec<u8> {
    let body = TransferDone {
        id: TransferId(0),
        amount: Amount(0),
        status: Reason::Created,
        _reserved: [Zero::Zero; 14],
    };
    let header = EventHeader {
        length: (EVENT_HEADER_BYTES + size_of::<TransferDone>()) as u32,
        kind: EventKind::Transfer as u16,
        release: RELEASE,
        flags: LAST_EVENT,
        ..bytemuck::Zeroable::zeroed()
    };
    [bytemuck::bytes_of(&header), body.as_bytes()].concat()
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    seats: Vec<Option<Seat>>,
    scratch: Vec<u8>,
    answer: Vec<u8>,
    disk: Option<RawAppend>,
    to_write: Vec<usize>,
    busy_ns: Arc<Published>,
}

struct Seat {
    stream: TcpStream,
    /// Bytes of a transfer whose end has not come.
    begun: usize,
    output: Unsent,
    listed: bool,
}

impl Server {
    fn run(mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut worked = Instant::now();
        while !stop.load(Ordering::Acquire) {
            let began = thread_time();
            let spins = !self.to_write.is_empty() || worked.elapsed() < SPIN;
            let wait = if spins {
                Duration::ZERO
            } else {
                Duration::from_millis(100)
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if events.is_empty() && self.to_write.is_empty() {
                continue;
            }
            self.turn(&events)?;
            worked = Instant::now();
            self.busy_ns.add(thread_time() - began);
        }
        Ok(())
    }

    fn turn(&mut self, events: &Events) -> io::Result<()> {
        let mut taken = 0;
        for event in events {
            match event.token() {
                LISTENER => self.accept()?,
                WAKER => {}
                Token(at) => taken += self.read(at),
            }
        }
        if taken > 0
            && let Some(disk) = &mut self.disk
        {
            disk.append_bytes(taken * COMMAND_BYTES)?;
        }
        let seats = &mut self.seats;
        self.to_write.retain(|at| {
            let Some(seat) = &mut seats[*at] else {
                return false;
            };
            match seat.output.write_to(&mut seat.stream) {
                Ok(done) => seat.listed = !done,
                Err(_) => {
                    seats[*at] = None;
                    return false;
                }
            }
            seat.listed
        });
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let vacant = self.seats.iter().position(Option::is_none);
            let at = vacant.unwrap_or(self.seats.len());
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, Token(at), interest)?;
            let seat = Seat {
                stream,
                begun: 0,
                output: Unsent::default(),
                listed: false,
            };
            match vacant {
                Some(at) => self.seats[at] = Some(seat),
                None => self.seats.push(Some(seat)),
            }
        }
    }

    /// Reads a connection until it is empty and puts the answers into its output; transfers that came.
    fn read(&mut self, at: usize) -> usize {
        let Some(Some(seat)) = self.seats.get_mut(at) else {
            return 0;
        };
        let mut taken = 0;
        loop {
            let read = match seat.stream.read(&mut self.scratch) {
                Ok(0) => {
                    self.seats[at] = None;
                    return taken;
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(_) => {
                    self.seats[at] = None;
                    return taken;
                }
            };
            let bytes = seat.begun + read;
            seat.begun = bytes % COMMAND_BYTES;
            for _ in 0..bytes / COMMAND_BYTES {
                seat.output.bytes.extend_from_slice(&self.answer);
                taken += 1;
            }
            if !seat.output.bytes.is_empty() && !seat.listed {
                seat.listed = true;
                self.to_write.push(at);
            }
            if read < self.scratch.len() {
                return taken;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::lines::{Lines, Peer};
    use crate::bench::workload::Transfers;

    #[test]
    fn an_echo_answers_every_line_and_a_syncing_one_too() {
        let dir = tempfile::tempdir().unwrap();
        for syncs in [false, true] {
            let disk = syncs.then(|| RawAppend::prepare(dir.path(), COMMAND_BYTES).unwrap());
            let echo = Echo::start(None, disk).unwrap();
            let workload = Transfers::new(10, 1);
            let mut lines = Lines::new(echo.address(), Peer::Echo, workload, false).unwrap();
            for sessions in [1, 3] {
                lines.connect(sessions).unwrap();
                let answered = lines.keep_full(10, |answered| answered < 50).unwrap();
                assert!(answered >= 50, "{answered}");
                let paced = lines.open_loop(20, 2_000, 1).unwrap();
                assert_eq!(paced.latency.len(), 20);
                assert!(
                    paced.elapsed >= Duration::from_millis(9),
                    "{:?}",
                    paced.elapsed
                );
            }
            assert!(echo.busy_ns() > 0);
        }
    }
}
