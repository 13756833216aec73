//! The reply window: the last so many events, for sessions that reconnect and for watchers that
//! lag behind. A bounded ring in memory; the oldest event makes room.
//!
//! A position counts events since the window was made and never repeats, so a reader that holds a
//! position knows whether what it wants is still there.

use crate::protocol::frame::{EventSlot, LAST_EVENT, QUERY_ANSWER};

/// The last so many events.
pub struct ReplyWindow {
    slots: Vec<EventSlot>,
    /// Session of each slot, apart, so that a search for one session reads little memory.
    sessions: Vec<u64>,
    mask: u64,
    head: u64,
    complete_from: u64,
}

impl ReplyWindow {
    /// A window of at least `events` events. `sequence` is the journal sequence before the first
    /// event that will be pushed.
    pub fn new(events: usize, sequence: u64) -> ReplyWindow {
        let slots = events.max(2).next_power_of_two();
        ReplyWindow {
            slots: vec![EventSlot::default(); slots],
            sessions: vec![0; slots],
            mask: slots as u64 - 1,
            head: 0,
            complete_from: sequence + 1,
        }
    }

    /// Adds an event and returns its position.
    #[inline]
    pub fn push(&mut self, event: &EventSlot) -> u64 {
        let position = self.head;
        let index = (position & self.mask) as usize;
        let slot = &mut self.slots[index];
        if position > self.mask && slot.header.flags & QUERY_ANSWER == 0 {
            self.complete_from = slot.header.sequence + 1;
        }
        *slot = *event;
        self.sessions[index] = event.header.session;
        self.head += 1;
        position
    }

    /// The position the next event will get.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The position of the oldest event kept.
    pub fn oldest(&self) -> u64 {
        self.head.saturating_sub(self.mask + 1)
    }

    /// The first journal sequence from which on every event is kept.
    pub fn complete_from(&self) -> u64 {
        self.complete_from
    }

    /// The last journal sequence of which every event has come.
    pub fn complete_to(&self) -> u64 {
        let Some(last) = self.head.checked_sub(1) else {
            return self.complete_from - 1;
        };
        let last = self.get(last);
        let is_done = last.header.flags & (LAST_EVENT | QUERY_ANSWER) != 0;
        last.header.sequence - u64::from(!is_done)
    }

    /// The event at `position`, which must be kept still.
    #[inline]
    pub fn get(&self, position: u64) -> &EventSlot {
        assert!(
            self.oldest() <= position && position < self.head,
            "position {position} is not in the window"
        );
        &self.slots[(position & self.mask) as usize]
    }

    /// The first position from `from` on, and below `to`, whose event belongs to `session`.
    #[inline]
    pub fn next_of(&self, session: u64, from: u64, to: u64) -> Option<u64> {
        (from..to).find(|position| self.sessions[(position & self.mask) as usize] == session)
    }

    /// The position of the first event of journal sequence `sequence` or later.
    pub fn position_of(&self, sequence: u64) -> u64 {
        let (mut low, mut high) = (self.oldest(), self.head);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).header.sequence < sequence {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64, session: u64) -> EventSlot {
        let mut event = EventSlot::default();
        event.header.sequence = sequence;
        event.header.session = session;
        event
    }

    #[test]
    fn the_oldest_event_makes_room_and_is_known_to_be_gone() {
        let mut window = ReplyWindow::new(4, 10);
        assert_eq!(window.complete_from(), 11);
        for sequence in 11..=14 {
            window.push(&event(sequence, 1));
        }
        assert_eq!((window.oldest(), window.complete_from()), (0, 11));
        window.push(&event(15, 2));
        assert_eq!((window.oldest(), window.complete_from()), (1, 12));
        assert_eq!(window.get(4).header.sequence, 15);
        assert_eq!(window.next_of(2, window.oldest(), window.head()), Some(4));
        assert_eq!(window.next_of(3, window.oldest(), window.head()), None);
        assert_eq!(window.position_of(13), 2);
        assert_eq!(window.position_of(1), 1);
        assert_eq!(window.position_of(99), window.head());
    }
}
