//! An honest client: mixed commands through the client library, over a proxy that cuts connections,
//! with everything it was told written down.

use super::market::Mind;
use super::random::Random;
use super::record::Record;
use super::shared::{Shared, count};
use millrace::client::{Client, ClientError, Options};
use millrace::protocol::session::SessionError;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a node may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// An honest client.
pub struct Sender<'a> {
    address: SocketAddr,
    session: u64,
    record: Record,
    mind: Mind,
    random: Random,
    shared: &'a Shared,
    reconnects: u64,
}

impl<'a> Sender<'a> {
    /// Client `who`, whose record lies in `dir`.
    pub fn new(
        address: SocketAddr,
        who: u64,
        dir: &Path,
        seed: u64,
        shared: &'a Shared,
    ) -> Result<Sender<'a>, String> {
        let session = session_of(who);
        Ok(Sender {
            address,
            session,
            record: Record::open(dir, session, true)?,
            mind: Mind::new(who, seed),
            random: Random::new(seed, 2_000 + who),
            shared,
            reconnects: 0,
        })
    }

    /// Sends until told to stop, then until everything is answered.
    pub fn run(mut self) -> Result<(), String> {
        let mut client = self.connect(0)?;
        while self.shared.goes_on() {
            let went_well = self.send_some(&mut client);
            self.look_after(&mut client, went_well)?;
        }
        while client.in_flight() > 0 {
            let went_well = self.finish(&mut client);
            self.look_after(&mut client, went_well)?;
        }
        self.record.write()
    }

    /// A few commands, and whatever has been answered meanwhile.
    fn send_some(&mut self, client: &mut Client) -> Result<(), ClientError> {
        for _ in 0..self.random.between(1, 60) {
            let frame = self.mind.next();
            let number = client.submit(&frame)?;
            self.record.sent(number, frame.bytes());
            count(&self.shared.sent);
            while let Some(event) = client.poll()? {
                self.take(&event);
            }
        }
        std::thread::sleep(Duration::from_micros(self.random.between(100, 2_000)));
        Ok(())
    }

    fn finish(&mut self, client: &mut Client) -> Result<(), ClientError> {
        client.drain(|event| self.take(event))
    }

    fn take(&mut self, event: &millrace::protocol::frame::EventSlot) {
        if self.record.event(event) {
            self.shared.answered(event.header.sequence);
        }
    }

    /// Deals with what a client may meet; what it must not is an error.
    fn look_after(
        &mut self,
        client: &mut Client,
        result: Result<(), ClientError>,
    ) -> Result<(), String> {
        let reconnects = client.reconnects();
        let more = reconnects - self.reconnects;
        self.shared.reconnects.fetch_add(more, Ordering::Relaxed);
        self.reconnects = reconnects;
        match result {
            Ok(()) if self.random.below(400) > 0 => {}
            // The process is gone, and another one goes on with what the record says.
            Ok(()) => {
                count(&self.shared.reborn);
                *client = self.connect(client.replies_seen())?;
            }
            Err(ClientError::RepliesGone { from, available }) => self.gone(from, available - 1),
            Err(ClientError::Refused {
                error: SessionError::Superseded,
                ..
            }) => *client = self.connect(client.replies_seen())?,
            // It stops in an orderly way: what it did not take is forgotten on both sides.
            Err(ClientError::Refused {
                error: SessionError::Stopping,
                ..
            }) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(format!("session {:x}: {error}", self.session)),
        }
        self.record.write()
    }

    fn gone(&mut self, from: u64, to: u64) {
        self.record.taken(from, to);
        self.shared
            .answers_gone
            .fetch_add(to + 1 - from, Ordering::Relaxed);
    }

    /// Connects as the session that has seen so many replies.
    fn connect(&mut self, replies_seen: u64) -> Result<Client, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let options = Options {
                session: Some(self.session),
                replies_seen,
                window: 256,
                timeout: PATIENCE,
                reconnect: PATIENCE,
                ..Options::default()
            };
            match Client::connect(self.address, options) {
                Ok(client) => {
                    let taken = client.replies_seen();
                    if taken > replies_seen {
                        self.gone(replies_seen + 1, taken);
                    }
                    self.reconnects = 0;
                    return Ok(client);
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(format!("session {:x}: {error}", self.session));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// The session of honest client `who`.
pub fn session_of(who: u64) -> u64 {
    0xA000_0000 + who
}
