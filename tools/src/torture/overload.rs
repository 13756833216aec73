//! Overload: many sessions that send at a stated rate whatever becomes of it, ten times what the node
//! can do. What is refused `busy` is given up, as a client would that has somewhere else to go.

use super::market::LOOSE;
use super::random::Random;
use super::raw::{Message, Raw, stamp};
use super::record::Record;
use super::shared::{Shared, count};
use millrace::bench::workload::transfer;
use millrace::protocol::command::CommandKind;
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::session::SessionError;
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Sessions that overload together.
const SESSIONS: u64 = 16;
/// Commands of a session in flight; beyond that it holds back, as any client must.
const IN_FLIGHT_MAX: usize = 4_096;
/// Commands of a session in flight while what the node can do is measured.
const IN_FLIGHT_CALM: usize = 128;

struct Session {
    raw: Raw,
    id: u64,
    record: Record,
    next: u64,
    /// Number, moment of sending.
    in_flight: VecDeque<(u64, Instant)>,
    /// Bytes that the socket did not take yet.
    unsent: Vec<u8>,
    /// Commands sent after one that was refused: they will be, too, and nothing is sent before.
    doomed: usize,
    /// Commands made up so far.
    made: u64,
}

/// What an overload came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offered {
    /// Commands answered per second while clients kept a window.
    pub capacity: u64,
}

/// Sessions that send together.
pub struct Crowd<'a> {
    sessions: Vec<Session>,
    shared: &'a Shared,
}

impl<'a> Crowd<'a> {
    /// Connects; whoever is not let in stays away.
    pub fn connect(
        address: SocketAddr,
        dir: &Path,
        seed: u64,
        shared: &'a Shared,
    ) -> Result<Crowd<'a>, String> {
        let mut sessions = Vec::new();
        let mut random = Random::new(seed, 5_000);
        for at in 0..SESSIONS {
            let id = 0xE000_0000 + (random.below(1 << 24) << 4) + at;
            let Ok((raw, welcome)) = Raw::hello(address, id, u64::MAX) else {
                continue;
            };
            let nonblocking = raw.stream.set_nonblocking(true);
            nonblocking.map_err(|error| error.to_string())?;
            sessions.push(Session {
                raw,
                id,
                record: Record::open(dir, id, false)?,
                next: welcome.last_client_sequence + 1,
                in_flight: VecDeque::new(),
                unsent: Vec::new(),
                doomed: 0,
                made: 0,
            });
        }
        Ok(Crowd { sessions, shared })
    }

    /// Measures what the node can do for a quarter of `how_long`, then offers ten times that.
    pub fn overload(mut self, how_long: Duration) -> Result<Offered, String> {
        let calm = how_long / 4;
        let capacity = self.send_in_window(calm)?;
        let rate = capacity.max(1) * 10;
        let (start, mut offered) = (Instant::now(), 0);
        while start.elapsed() < how_long - calm && self.goes_on() {
            let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
            while offered < due {
                let at = (offered % self.sessions.len() as u64) as usize;
                let session = &mut self.sessions[at];
                if session.in_flight.len() < IN_FLIGHT_MAX && session.may_send() {
                    session.send(self.shared);
                } else {
                    count(&self.shared.held_back);
                }
                offered += 1;
                // The node's answers are read meanwhile, however far behind the plan this client is.
                if offered.is_multiple_of(4_096) {
                    break;
                }
            }
            turn(&mut self.sessions, self.shared)?;
        }
        self.finish()?;
        Ok(Offered { capacity })
    }

    /// Keeps a window in flight for so long; commands answered per second.
    pub fn keep_a_window(mut self, how_long: Duration) -> Result<u64, String> {
        let capacity = self.send_in_window(how_long)?;
        self.finish()?;
        Ok(capacity)
    }

    fn goes_on(&self) -> bool {
        self.shared.goes_on() && !self.sessions.is_empty()
    }

    fn send_in_window(&mut self, how_long: Duration) -> Result<u64, String> {
        let start = Instant::now();
        let before = self.shared.accepted.load(Ordering::Relaxed);
        while start.elapsed() < how_long && self.goes_on() {
            for session in &mut self.sessions {
                while session.in_flight.len() < IN_FLIGHT_CALM && session.may_send() {
                    session.send(self.shared);
                }
            }
            turn(&mut self.sessions, self.shared)?;
        }
        let done = self.shared.accepted.load(Ordering::Relaxed) - before;
        Ok((done as f64 / start.elapsed().as_secs_f64()) as u64)
    }

    /// Waits for what is under way.
    fn finish(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.sessions.iter().any(Session::waits) && Instant::now() < deadline {
            turn(&mut self.sessions, self.shared)?;
        }
        Ok(())
    }
}

/// Writes and reads once on each session; those whose connection is gone are left behind, with the
/// commands that were under way neither known to be taken nor known not to be.
fn turn(sessions: &mut Vec<Session>, shared: &Shared) -> Result<(), String> {
    let mut trouble = None;
    sessions.retain_mut(|session| {
        let goes_on = session.exchange(shared);
        trouble = trouble.take().or(session.record.write().err());
        goes_on
    });
    trouble.map_or(Ok(()), Err)
}

impl Session {
    fn waits(&self) -> bool {
        !self.in_flight.is_empty() || self.doomed > 0
    }

    fn may_send(&self) -> bool {
        self.doomed == 0 && self.unsent.len() < 64 << 10
    }

    fn send(&mut self, shared: &Shared) {
        let number = self.next;
        self.next += 1;
        self.made += 1;
        let id = u128::from(self.id) << 64 | u128::from(self.made);
        let body = transfer(id, *LOOSE.start(), *LOOSE.end(), 1);
        let frame = CommandFrame::new(CommandKind::Transfer, &body);
        let from = self.unsent.len();
        self.unsent.extend_from_slice(frame.bytes());
        stamp(&mut self.unsent[from..], self.id, number);
        self.record.sent(number, frame.bytes());
        self.in_flight.push_back((number, Instant::now()));
        count(&shared.sent);
    }

    /// False when the connection is gone.
    fn exchange(&mut self, shared: &Shared) -> bool {
        match self.raw.stream.write(&self.unsent) {
            Ok(written) => drop(self.unsent.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if self.raw.read().is_err() {
            return false;
        }
        loop {
            match self.raw.cut() {
                Ok(Some(Message::Event(event))) => {
                    if self.record.event(&event) {
                        self.answered(&event.header, shared);
                    }
                }
                Ok(Some(Message::Refused(refused))) => {
                    let is_busy = matches!(
                        refused.error,
                        SessionError::Busy | SessionError::SequenceGap
                    );
                    if !is_busy {
                        return false;
                    }
                    self.refused(refused.client_sequence);
                    count(&shared.busy);
                }
                Ok(Some(Message::Welcome(_))) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        true
    }

    /// The first that is refused dooms all that were sent after it; the next is sent in its place.
    fn refused(&mut self, number: u64) {
        self.record.refused(number);
        if self.doomed > 0 {
            self.doomed -= 1;
            return;
        }
        let at = self.in_flight.partition_point(|(it, _)| *it < number);
        self.doomed = self.in_flight.len().saturating_sub(at + 1);
        self.in_flight.truncate(at);
        self.next = number;
    }

    fn answered(&mut self, header: &millrace::protocol::frame::EventHeader, shared: &Shared) {
        count(&shared.acknowledged);
        count(&shared.accepted);
        shared.told_to.fetch_max(header.sequence, Ordering::AcqRel);
        if let Some((number, sent)) = self.in_flight.pop_front() {
            debug_assert_eq!(number, header.client_sequence, "answers come in order");
            let us = |latency: u64| latency.min(u64::from(u32::MAX)) as u32;
            let latency = us(sent.elapsed().as_micros() as u64);
            let push = |to: &std::sync::Mutex<Vec<u32>>, value| {
                to.lock().unwrap_or_else(|e| e.into_inner()).push(value);
            };
            push(&shared.latency_us, latency);
            // A clock that jumped back says nothing.
            if let Some(inside) = header.executed_at.checked_sub(header.at) {
                push(&shared.inside_us, us(inside / 1_000));
            }
        }
    }
}
