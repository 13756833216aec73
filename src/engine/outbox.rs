//! Where the engine puts its events. Stamps each with the command it answers, numbers it within
//! the command and marks the last one. Keeps its memory: in the steady state nothing is allocated.

use crate::protocol::event::EventKind;
use crate::protocol::frame::{CommandHeader, EventSlot, LAST_EVENT, QUERY_ANSWER};
use crate::protocol::units::Timestamp;
use zerocopy::{Immutable, IntoBytes};

/// Events of one or more commands, in order.
#[derive(Default)]
pub struct Outbox {
    events: Vec<EventSlot>,
    /// First event of the present command.
    start: usize,
    sequence: u64,
    session: u64,
    client_sequence: u64,
    at: u64,
    flags: u32,
}

impl Outbox {
    /// An outbox with room for `capacity` events; it grows only where one batch of commands
    /// answers with more.
    pub fn with_capacity(capacity: usize) -> Outbox {
        Outbox {
            events: Vec::with_capacity(capacity),
            ..Outbox::default()
        }
    }

    /// What was put in since the last [`Outbox::clear`], in order.
    pub fn events(&self) -> &[EventSlot] {
        &self.events
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.start = 0;
    }

    /// Starts the answer to a command.
    pub(super) fn begin(&mut self, sequence: u64, header: &CommandHeader, at: Timestamp) {
        self.start = self.events.len();
        self.sequence = sequence;
        self.session = header.session;
        self.client_sequence = header.client_sequence;
        self.at = at.0;
        self.flags = 0;
    }

    /// Starts the answer to a query; `sequence` is that of the last command.
    pub(super) fn begin_query(&mut self, sequence: u64, header: &CommandHeader, at: Timestamp) {
        self.begin(sequence, header, at);
        self.flags = QUERY_ANSWER;
    }

    /// Adds an event to the present answer.
    #[inline]
    pub(super) fn push<B: IntoBytes + Immutable>(&mut self, kind: EventKind, body: &B) {
        let index = (self.events.len() - self.start) as u32;
        let mut event = EventSlot::new(kind, body);
        event.header.sequence = self.sequence;
        event.header.session = self.session;
        event.header.client_sequence = self.client_sequence;
        event.header.at = self.at;
        event.header.index = index;
        event.header.flags = self.flags;
        self.events.push(event);
    }

    /// Ends the present answer: marks its last event. Every command answers with at least one.
    pub(super) fn end(&mut self) {
        assert!(self.events.len() > self.start, "every command has an event");
        let last = self.events.len() - 1;
        self.events[last].header.flags |= LAST_EVENT;
    }
}
