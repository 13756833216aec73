//! Where the engine puts its events. Stamps each with the command it answers, numbers it within
//! the command and marks the last one. Keeps its memory: in the steady state nothing is allocated.

use crate::protocol::RELEASE;
use crate::protocol::event::EventKind;
use crate::protocol::frame::{
    CommandHeader, EVENT_HEADER_BYTES, EventHeader, EventSlot, LAST_EVENT, QUERY_ANSWER,
};
use crate::protocol::units::Timestamp;
use bytemuck::Zeroable;
use zerocopy::{Immutable, IntoBytes};

/// Events of one or more commands, in order.
pub struct Outbox {
    /// Slots are written in place; those from `len` on are free, and hold what they held.
    slots: Vec<EventSlot>,
    len: usize,
    /// First event of the present command.
    start: usize,
    stamp: EventHeader,
}

impl Outbox {
    /// An outbox with room for `capacity` events; it grows only where one batch of commands
    /// answers with more.
    pub fn with_capacity(capacity: usize) -> Outbox {
        Outbox {
            slots: vec![EventSlot::default(); capacity.max(16)],
            len: 0,
            start: 0,
            stamp: EventHeader::zeroed(),
        }
    }

    /// What was put in since the last [`Outbox::clear`], in order.
    pub fn events(&self) -> &[EventSlot] {
        &self.slots[..self.len]
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
        self.start = 0;
    }

    /// Starts the answer to a command.
    #[inline]
    pub(super) fn begin(&mut self, sequence: u64, header: &CommandHeader, at: Timestamp) {
        self.start = self.len;
        self.stamp = EventHeader {
            release: RELEASE,
            sequence,
            session: header.session,
            client_sequence: header.client_sequence,
            at: at.0,
            ..EventHeader::zeroed()
        };
    }

    /// Starts the answer to a query; `sequence` is that of the last command.
    pub(super) fn begin_query(&mut self, sequence: u64, header: &CommandHeader, at: Timestamp) {
        self.begin(sequence, header, at);
        self.stamp.flags = QUERY_ANSWER;
    }

    /// The session of the present command.
    #[inline]
    pub(super) fn session(&self) -> u64 {
        self.stamp.session
    }

    /// Where the next event goes, for [`Outbox::since`] and [`Outbox::take_back`].
    pub(super) fn mark(&self) -> usize {
        self.len
    }

    /// Events put in from `mark` on.
    pub(super) fn since(&self, mark: usize) -> &[EventSlot] {
        &self.slots[mark..self.len]
    }

    /// Takes back the events put in from `mark` on.
    pub(super) fn take_back(&mut self, mark: usize) {
        self.len = mark;
    }

    /// Adds an event to the present answer.
    #[inline]
    pub(super) fn push<B: IntoBytes + Immutable>(&mut self, kind: EventKind, body: &B) {
        if self.len == self.slots.len() {
            self.grow();
        }
        let bytes = body.as_bytes();
        let slot = &mut self.slots[self.len];
        slot.header = EventHeader {
            length: (EVENT_HEADER_BYTES + bytes.len()) as u32,
            kind: kind as u16,
            index: (self.len - self.start) as u32,
            ..self.stamp
        };
        slot.body[..bytes.len()].copy_from_slice(bytes);
        self.len += 1;
    }

    #[cold]
    fn grow(&mut self) {
        self.slots
            .resize(self.slots.len() * 2, EventSlot::default());
    }

    /// Ends the present answer: marks its last event. Every command answers with at least one.
    #[inline]
    pub(super) fn end(&mut self) {
        assert!(self.len > self.start, "every command has an event");
        self.slots[self.len - 1].header.flags |= LAST_EVENT;
    }
}
