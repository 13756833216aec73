//! The responder: takes events out of the egress ring, keeps the recent ones and hands them on.
//!
//! Whatever hangs on the egress ring never waits on a network: a sink that cannot take an event
//! now reads it again from the window later, or has fallen too far behind.

use super::EgressPoller;
use super::threads::Signal;
use super::window::ReplyWindow;
use crate::protocol::frame::EventSlot;
use std::sync::Arc;

/// Who gets the events: sessions, a printer, a benchmark. Never blocks.
pub trait Replies {
    /// One event, in order. `position` is its place in the reply window.
    fn event(&mut self, event: &EventSlot, position: u64);
}

impl<F: FnMut(&EventSlot)> Replies for F {
    fn event(&mut self, event: &EventSlot, _position: u64) {
        self(event);
    }
}

/// Events taken per duty cycle, so that sockets are served between them.
const BATCH_EVENTS: u64 = 1_024;

/// Drains the egress ring.
pub struct Responder {
    poller: EgressPoller,
    window: ReplyWindow,
    answered: u64,
    /// Wakes the thread that executes: it may wait for room in the ring.
    executor: Option<Arc<Signal>>,
}

impl Responder {
    pub(super) fn new(
        poller: EgressPoller,
        window: ReplyWindow,
        executor: Option<Arc<Signal>>,
    ) -> Responder {
        Responder {
            poller,
            window,
            answered: 0,
            executor,
        }
    }

    /// Hands on what is there, up to a bound, and returns the number of events.
    #[inline(never)] // so that instructions are counted per stage
    pub fn do_work(&mut self, replies: &mut impl Replies) -> usize {
        let Ok(mut batch) = self.poller.take(BATCH_EVENTS) else {
            return 0;
        };
        let mut events = &mut batch;
        let count = events.len();
        for event in events.by_ref() {
            let position = self.window.push(event);
            self.answered += u64::from(event.is_last());
            replies.event(event, position);
        }
        drop(batch);
        if let Some(signal) = &self.executor {
            signal.notify();
        }
        count
    }

    /// Whether the egress ring holds something.
    pub fn has_work(&self) -> bool {
        self.poller.has_available()
    }

    /// Commands and queries whose last event was handed on.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The recent events.
    pub fn window(&self) -> &ReplyWindow {
        &self.window
    }
}
