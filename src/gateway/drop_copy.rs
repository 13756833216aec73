//! Drop copy: which events a watcher of participants is sent. Execution reports, trades and what a
//! cycle moved name whose they are, so the gateway picks them and the engine knows nothing of it.

use crate::protocol::event::Event;
use crate::protocol::frame::EventSlot;

/// Participants whose drop copy is wanted; nobody in it means everything is.
#[derive(Debug, Default)]
pub struct DropCopy {
    participants: Vec<u32>,
}

impl DropCopy {
    /// Most participants of one watcher.
    pub const PARTICIPANTS_MAX: usize = 1_024;

    /// Wants one more. False where there are too many.
    pub fn add(&mut self, participant: u32) -> bool {
        if let Err(at) = self.participants.binary_search(&participant) {
            if self.participants.len() == DropCopy::PARTICIPANTS_MAX {
                return false;
            }
            self.participants.insert(at, participant);
        }
        true
    }

    /// Whether the event is to be sent.
    pub fn admits(&self, event: &EventSlot) -> bool {
        if self.participants.is_empty() {
            return true;
        }
        let has = |participant: u32| self.participants.binary_search(&participant).is_ok();
        match event.event() {
            Some(Event::OrderAccepted(e)) => has(e.participant.0),
            Some(Event::OrderRejected(e)) => has(e.participant.0),
            Some(Event::OrderCancelled(e)) => has(e.participant.0),
            Some(Event::OrderReplaced(e) | Event::OrderTriggered(e)) => has(e.participant.0),
            Some(Event::Trade(e)) => has(e.maker_participant.0) || has(e.taker_participant.0),
            Some(Event::CyclePosition(e)) => has(e.participant.0),
            _ => false,
        }
    }
}
