//! What a watcher is sent: everything, the drop copy of participants, the market data of instruments.
//! Events name whose they are and of which instrument, so the gateway picks them and the engine
//! knows nothing of it. Who joins a watched group is told by the answer to the command that creates
//! it.

use crate::protocol::command::CommandKind;
use crate::protocol::event::Event;
use crate::protocol::frame::EventSlot;
use crate::protocol::session::WatchScope;

/// What is wanted; nothing in it means everything is.
#[derive(Debug, Default)]
pub struct Watched {
    participants: Vec<u32>,
    /// Whoever joins one of these is wanted from then on.
    groups: Vec<u32>,
    instruments: Vec<u32>,
}

impl Watched {
    /// Most participants, groups and instruments of one watcher, each.
    pub const EACH_MAX: usize = 1_024;

    /// Wants one more. False where there are too many.
    pub fn add(&mut self, scope: WatchScope, id: u32) -> bool {
        let wanted = match scope {
            WatchScope::Everything => {
                *self = Watched::default();
                return true;
            }
            WatchScope::DropCopy => &mut self.participants,
            WatchScope::DropCopyGroup => &mut self.groups,
            WatchScope::MarketData => &mut self.instruments,
        };
        if let Err(at) = wanted.binary_search(&id) {
            if wanted.len() == Watched::EACH_MAX {
                return false;
            }
            wanted.insert(at, id);
        }
        true
    }

    /// Hears of every event, in order, before it is asked whether it [`admits`](Watched::admits) it:
    /// members of a watched group are wanted from the command that makes them so.
    #[inline]
    pub fn hear(&mut self, event: &EventSlot) {
        if !self.groups.is_empty() {
            self.note_member(event);
        }
    }

    #[cold]
    fn note_member(&mut self, event: &EventSlot) {
        if let Some(Event::Ok(done)) = event.event()
            && done.cmd == CommandKind::CreateParticipant
            && self.groups.binary_search(&done.group).is_ok()
        {
            // One too many is not copied; who watches so many watches everything.
            self.add(WatchScope::DropCopy, done.participant.0);
        }
    }

    /// Whether the event is to be sent.
    pub fn admits(&self, event: &EventSlot) -> bool {
        let is_copied = !self.participants.is_empty() || !self.groups.is_empty();
        if !is_copied && self.instruments.is_empty() {
            return true;
        }
        let Some(event) = event.event() else {
            return false;
        };
        is_copied && self.is_of_participant(&event) || self.is_of_instrument(&event)
    }

    fn is_of_participant(&self, event: &Event<'_>) -> bool {
        let has = |participant: u32| self.participants.binary_search(&participant).is_ok();
        match event {
            Event::OrderAccepted(e) => has(e.participant.0),
            Event::OrderRejected(e) => has(e.participant.0),
            Event::OrderCancelled(e) => has(e.participant.0),
            Event::OrderReplaced(e) | Event::OrderTriggered(e) => has(e.participant.0),
            Event::Trade(e) => has(e.maker_participant.0) || has(e.taker_participant.0),
            Event::CyclePosition(e) => has(e.participant.0),
            // Who joins a group is told to those who follow it.
            Event::Ok(e) => e.group != 0 && self.groups.binary_search(&e.group).is_ok(),
            // A refused cancel, replace or mass cancel: of whoever asked for it.
            Event::Rejected(e) => e.participant.0 != 0 && has(e.participant.0),
            _ => false,
        }
    }

    fn is_of_instrument(&self, event: &Event<'_>) -> bool {
        let has = |instrument: u32| self.instruments.binary_search(&instrument).is_ok();
        match event {
            Event::Trade(e) => has(e.instrument.0),
            Event::InstrumentPhase(e) => has(e.instrument.0),
            Event::Indicative(e) => has(e.instrument.0),
            Event::BookStart(e) => has(e.instrument.0),
            Event::BookAdd(e)
            | Event::BookExecute(e)
            | Event::BookReduce(e)
            | Event::BookDelete(e) => has(e.instrument.0),
            _ => false,
        }
    }
}
