//! The door: the one place where commands enter the ring, and so the one place that gives them
//! their order and their time.
//!
//! It validates a frame once, stamps who sent it and when, holds the client sequence against the
//! session table and the journal's room against the reserve, and publishes or refuses at once. It
//! never waits: a full ring is an answer, not a delay.

use super::IngressProducer;
use super::threads::Signal;
use crate::protocol::command::{CommandKind, Empty};
use crate::protocol::frame::{
    CommandFrame, CommandHeader, CommandRef, FRAME_BYTES_MAX, FrameError, HEADER_BYTES, SLOT_BYTES,
    slots_of,
};
use crate::protocol::units::Timestamp;
use crate::protocol::wire::Zero;
use crate::session::{Admission, SessionTable};
use crate::telemetry::{NO_DEADLINE, Progress};
use disruptor::Producer;
use std::sync::Arc;

/// Why the door did not put a command into the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no command.
    Malformed(FrameError),
    /// It was taken before; its replies may be sent again.
    Duplicate,
    /// Its session skips a command.
    Gap {
        /// The client sequence that comes next.
        expected: u64,
    },
    /// The ring is full.
    Busy,
    /// The journal has no room but for cancels.
    DiskFull,
    /// The node is stopping.
    Stopping,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Malformed(error) => error.fmt(f),
            Refusal::Duplicate => f.write_str("this client sequence was taken before"),
            Refusal::Gap { expected } => write!(f, "client sequence {expected} comes next"),
            Refusal::Busy => f.write_str("the ring is full"),
            Refusal::DiskFull => {
                f.write_str("the journal's disk is full: only cancels and queries are taken")
            }
            Refusal::Stopping => f.write_str("the node is stopping"),
        }
    }
}

/// Bytes a command of one slot takes in the journal at most, the frame around it included.
const JOURNAL_BYTES_PER_SLOT: u64 = 256;

/// The ring's only producer.
pub struct Ingress {
    ring: IngressProducer,
    slots: usize,
    sessions: SessionTable,
    progress: Arc<Progress>,
    /// Wakes the thread that journals.
    journaler: Option<Arc<Signal>>,
    /// The latest time stamped; time never runs backwards here.
    stamped: u64,
    /// Commands and queries published.
    published: u64,
    /// The sequence of the last command published.
    sequence: u64,
    slots_published: u64,
    /// Below this much room in the journal, only cancels are taken.
    reserve: u64,
    /// Below this much, no command: what is in the ring must fit.
    floor: u64,
    stopping: bool,
}

impl Ingress {
    pub(super) fn new(
        ring: IngressProducer,
        slots: usize,
        sessions: SessionTable,
        progress: Arc<Progress>,
        now: Timestamp,
        reserve: u64,
        journaler: Option<Arc<Signal>>,
    ) -> Ingress {
        let floor = slots as u64 * JOURNAL_BYTES_PER_SLOT + FRAME_BYTES_MAX as u64;
        Ingress {
            ring,
            slots,
            sessions,
            sequence: progress.executed.get(),
            progress,
            journaler,
            stamped: now.0,
            published: 0,
            slots_published: 0,
            reserve: floor + reserve,
            floor,
            stopping: false,
        }
    }

    /// Takes one whole frame of `session` as it lies in a socket's buffer (aligned to 16 bytes):
    /// stamps session and time into it, checks it, publishes it.
    #[inline]
    pub fn submit(
        &mut self,
        session: u64,
        frame: &mut [u8],
        clock: Timestamp,
    ) -> Result<(), Refusal> {
        let at = self.stamped.max(clock.0);
        let header: &mut CommandHeader = frame
            .get_mut(..HEADER_BYTES)
            .ok_or(FrameError::BadLength(0))
            .and_then(|head| bytemuck::try_from_bytes_mut(head).map_err(|_| FrameError::Misaligned))
            .map_err(Refusal::Malformed)?;
        header.session = session;
        header.received_at = at;
        self.take(frame)?;
        self.stamped = at;
        Ok(())
    }

    /// Takes a command of a script: session 0, at the time it carries.
    pub fn submit_script(&mut self, frame: &CommandFrame) -> Result<(), Refusal> {
        self.take(frame.bytes())?;
        self.stamped = self.stamped.max(frame.header().received_at);
        Ok(())
    }

    /// Lets time pass where something waits for it and no command is on its way that would.
    #[inline]
    pub fn tick_if_due(&mut self, clock: impl FnOnce() -> Timestamp) -> bool {
        let deadline = self.progress.next_deadline.get();
        // Every command brings its time along; one that is on its way may do what is due.
        if deadline == NO_DEADLINE || self.progress.executed.get() != self.sequence || self.stopping
        {
            return false;
        }
        let clock = clock();
        deadline <= clock.0 && {
            let body = Empty {
                _reserved: [Zero::Zero; 16],
            };
            let tick = CommandFrame::new(CommandKind::Tick, &body).at(clock);
            match self.submit_script(&tick) {
                Ok(()) => true,
                Err(Refusal::Malformed(why)) => unreachable!("a tick of our own: {why}"),
                // The next pass tries again.
                Err(_) => false,
            }
        }
    }

    /// How long nothing needs to be done for time's sake, as of `clock`.
    pub fn until_tick(&self, clock: Timestamp) -> Option<std::time::Duration> {
        let deadline = self.progress.next_deadline.get();
        (deadline != NO_DEADLINE)
            .then(|| std::time::Duration::from_nanos(deadline.saturating_sub(clock.0)))
    }

    /// Commands and queries published so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Slots of the ring whose commands are not executed yet, as far as the executor said.
    pub fn slots_in_flight(&self) -> u64 {
        self.slots_published - self.progress.slots_executed.get()
    }

    /// With less room in the journal than this, the door takes only cancels.
    pub(super) fn reserve(&self) -> u64 {
        self.reserve
    }

    /// How far the stages behind the door have come.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The sessions as of the last command taken.
    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// Takes nothing from now on.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    #[inline]
    fn take(&mut self, frame: &[u8]) -> Result<(), Refusal> {
        let command = CommandRef::from_bytes(frame).map_err(Refusal::Malformed)?;
        command.decode().map_err(Refusal::Malformed)?;
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        let header = *command.header;
        if header.kind >= CommandKind::FIRST_QUERY {
            return self.publish(frame);
        }
        match self.sessions.admit(header.session, header.client_sequence) {
            Admission::Next => {}
            Admission::Duplicate => return Err(Refusal::Duplicate),
            Admission::Gap { expected } => return Err(Refusal::Gap { expected }),
        }
        let space = self.progress.journal_space.get();
        if space < self.reserve && (space < self.floor || !frees_something(header.kind)) {
            return Err(Refusal::DiskFull);
        }
        self.publish(frame)?;
        self.sequence += 1;
        self.sessions.take(header.session, header.client_sequence);
        Ok(())
    }

    /// The frame into the ring, whole or not at all. The closures only copy: they cannot fail.
    #[inline]
    fn publish(&mut self, frame: &[u8]) -> Result<(), Refusal> {
        let slots = slots_of(frame.len());
        if slots == 1 {
            self.ring
                .try_publish(|slot| slot.bytes[..frame.len()].copy_from_slice(frame))
                .map_err(|_| Refusal::Busy)?;
        } else {
            assert!(slots <= self.slots, "the ring holds the longest command");
            self.ring
                .try_batch_publish(slots, |free| {
                    for (slot, piece) in free.zip(frame.chunks(SLOT_BYTES)) {
                        slot.bytes[..piece.len()].copy_from_slice(piece);
                    }
                })
                .map_err(|_| Refusal::Busy)?;
        }
        self.published += 1;
        self.slots_published += slots as u64;
        if let Some(signal) = &self.journaler {
            signal.notify();
        }
        Ok(())
    }
}

/// Whether a command gives something back: what a full disk must not stop.
fn frees_something(kind: u16) -> bool {
    matches!(
        CommandKind::from_code(kind),
        Some(
            CommandKind::CancelOrder
                | CommandKind::CancelPayment
                | CommandKind::MassCancel
                | CommandKind::Disconnect
                | CommandKind::Void
        )
    )
}
