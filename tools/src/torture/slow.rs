//! A slow client: it watches everything and at times stops reading, until the node drops it; then it
//! comes back and asks for what it missed by sequence.

use super::random::Random;
use super::raw::{Message, Raw};
use super::record::Record;
use super::shared::{Shared, count};
use millrace::protocol::session::{SessionError, Watch, WatchScope};
use millrace::protocol::units::ParticipantId;
use millrace::protocol::wire::{Bool, Zero};
use rustix::net::sockopt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Watches until told to stop. The node may be away at any time.
pub fn watch(
    address: SocketAddr,
    who: u64,
    dir: &Path,
    seed: u64,
    shared: &Shared,
) -> Result<(), String> {
    let session = 0xD000_0000 + who;
    let mut slow = Slow {
        record: Record::open(dir, session, false)?,
        random: Random::new(seed, 4_000 + who),
        next: 1,
        shared,
    };
    while shared.goes_on() {
        if let Ok((raw, _)) = Raw::hello(address, session, u64::MAX) {
            // Every error is the end of a connection, and the next one goes on.
            let _ = slow.read(raw);
            slow.record.write()?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    slow.record.write()
}

struct Slow<'a> {
    record: Record,
    random: Random,
    /// The next sequence to be watched.
    next: u64,
    shared: &'a Shared,
}

impl Slow<'_> {
    fn read(&mut self, mut raw: Raw) -> io::Result<()> {
        // What the kernels keep for a reader that rests is little, so that the node notices.
        sockopt::set_socket_recv_buffer_size(&raw.stream, 16 << 10)?;
        raw.say(&Watch {
            from_sequence: self.next,
            on: Bool::Yes,
            scope: WatchScope::Everything,
            _reserved: [Zero::Zero; 2],
            participant: ParticipantId(0),
        })?;
        while self.shared.goes_on() {
            while self.shared.hold.load(Ordering::Acquire) && self.shared.goes_on() {
                std::thread::sleep(Duration::from_millis(self.random.between(1, 20)));
            }
            match raw.next()? {
                Some(Message::Event(event)) => {
                    let sequence = event.header.sequence;
                    if sequence < self.next {
                        return Err(io::Error::other("watched twice"));
                    }
                    if self.record.watched(&event) {
                        self.next = sequence + 1;
                    }
                    count(&self.shared.watched);
                }
                Some(Message::Refused(refused)) => match refused.error {
                    SessionError::RepliesGone => self.next = self.next.max(refused.expected),
                    SessionError::SlowConsumer => count(&self.shared.dropped),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(())
    }
}
