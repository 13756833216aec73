//! The client's end of shared memory with a node on the same host: it sends and receives like a socket,
//! and sees by the socket when the node has gone.

use crate::protocol::session::{Wake, encode};
use crate::protocol::wire::Zero;
use crate::ring_file::ClientEnd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Looks into an empty ring until the socket is asked whether the node is still there.
const LOOKS_PER_CHECK: u32 = 4_096;
/// How long a read that may wait does so.
const WAIT: Duration = Duration::from_millis(50);
/// How long it spins before it begins to sleep, and for how long it sleeps at a time.
const SPIN: Duration = Duration::from_micros(200);
const NAP: Duration = Duration::from_micros(50);

/// Shared memory instead of a socket.
pub(super) struct SharedLine {
    end: ClientEnd,
    looks: u32,
}

impl SharedLine {
    pub(super) fn new(end: ClientEnd) -> SharedLine {
        SharedLine { end, looks: 0 }
    }

    /// Sends what fits, and wakes a node that sleeps.
    pub(super) fn send(&mut self, stream: &TcpStream, bytes: &[u8]) -> Result<usize, Errno> {
        let sent = self.end.output.write(bytes).map_err(|_| Errno::IO)?;
        if sent == 0 {
            return Err(Errno::WOULDBLOCK);
        }
        if self.end.must_wake_having_written() {
            wake(stream)?;
        }
        Ok(sent)
    }

    /// Reads what is there; 0 bytes where the node has gone.
    pub(super) fn receive(
        &mut self,
        stream: &TcpStream,
        into: &mut [u8],
        wait: bool,
    ) -> Result<usize, Errno> {
        let began = wait.then(Instant::now);
        loop {
            let read = self.read(into)?;
            if read > 0 {
                if self.end.must_wake_having_read() {
                    wake(stream)?;
                }
                return Ok(read);
            }
            self.looks += 1;
            if self.looks.is_multiple_of(LOOKS_PER_CHECK) && has_ended(stream)? {
                // What it wrote last is read before its end is seen.
                return self.read(into);
            }
            match began.map(|began| began.elapsed()) {
                None => return Err(Errno::WOULDBLOCK),
                Some(waited) if waited >= WAIT => {
                    // Who waits looks less often: the end must be seen all the same.
                    self.looks = LOOKS_PER_CHECK - 1;
                    return Err(Errno::WOULDBLOCK);
                }
                Some(waited) if waited >= SPIN => std::thread::sleep(NAP),
                Some(_) => std::hint::spin_loop(),
            }
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        self.end.input.read(into).map_err(|_| Errno::IO)
    }
}

fn wake(stream: &TcpStream) -> Result<(), Errno> {
    let wake = encode(&Wake {
        _reserved: [Zero::Zero; 16],
    });
    match rustix::net::send(stream, &wake, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        // A socket that takes no more holds a wake-up already.
        Ok(_) | Err(Errno::WOULDBLOCK) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether the node has closed its side of the socket, by which nothing else comes.
fn has_ended(stream: &TcpStream) -> Result<bool, Errno> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
    match rustix::net::recv(stream, &mut [0; 1], flags) {
        Ok((read, _)) => Ok(read == 0),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}
