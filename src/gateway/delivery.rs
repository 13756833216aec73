//! What a connection is to be sent: live events as they come, or a walk through the reply window
//! until it has caught up.
//!
//! A connection is either live, and every event for it is appended to its buffer at once, or it
//! has a [`CatchUp`] and is fed from the window. A catch-up begins when a client comes back, asks
//! again, watches from the past, or reads too slowly for its buffer; it ends at the window's head.
//! Either way a session gets its replies in order.

use super::connection::Connection;
use crate::pipeline::ReplyWindow;
use crate::protocol::frame::{EventSlot, QUERY_ANSWER};
use crate::protocol::session::{Refused, SessionError};
use crate::protocol::wire::{Bool, Zero};

/// A walk through the window.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    /// The next position to look at.
    position: u64,
    /// Replies to these client sequences are sent again.
    from: u64,
    to: u64,
    /// Everything from this position on is sent.
    live_from: u64,
    /// How many commands were published when the replies were asked for: once as many are
    /// answered, what was not found is gone.
    published: u64,
    /// Whether a wanted reply was found.
    found: bool,
}

/// How a catch-up stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caught {
    /// It has caught up: live from here.
    Up,
    /// There is more to do.
    Working,
    /// The client must read first, or a command must be answered first.
    Waiting,
    /// What it is to be sent next is no longer kept.
    FellOut,
}

impl Connection {
    /// Whether this event, the next there is, is for this connection.
    #[inline]
    pub fn wants(&mut self, event: &EventSlot) -> bool {
        self.watched.hear(event);
        event.header.session == self.session
            || (self.watches
                && event.header.flags & QUERY_ANSWER == 0
                && self.watched.admits(event))
    }

    /// An event that just came out, at `position`.
    #[inline]
    pub fn deliver(&mut self, event: &EventSlot, position: u64) {
        if self.catch_up.is_none() && !self.output.push(event.frame()) {
            self.lag_from(position);
        }
    }

    /// Replies to client sequences `from` to `to` are wanted again.
    pub fn resend(&mut self, from: u64, to: u64, window: &ReplyWindow, published: u64) {
        match &mut self.catch_up {
            // What was passed already must be walked again; what was sent live is not sent twice.
            Some(catch_up) => {
                let wants_none = catch_up.from > catch_up.to;
                catch_up.from = if wants_none {
                    from
                } else {
                    from.min(catch_up.from)
                };
                catch_up.to = to.max(catch_up.to);
                catch_up.published = published;
                catch_up.live_from = catch_up.live_from.max(catch_up.position);
                catch_up.position = window.oldest();
                catch_up.found = false;
            }
            None => {
                self.catch_up = Some(CatchUp {
                    position: window.oldest(),
                    from,
                    to,
                    live_from: window.head(),
                    published,
                    found: false,
                });
            }
        }
    }

    /// Everything from `position` on is wanted: the buffer was full, or a watcher asked for it.
    pub fn lag_from(&mut self, position: u64) {
        match &mut self.catch_up {
            // Replies that were asked for are still owed.
            Some(catch_up) => {
                catch_up.live_from = catch_up.live_from.min(position);
                catch_up.position = catch_up.position.min(position);
            }
            None => {
                self.catch_up = Some(CatchUp {
                    position,
                    from: 1,
                    to: 0,
                    live_from: position,
                    published: 0,
                    found: true,
                });
            }
        }
    }

    /// Moves on through the window, as far as the buffer takes it, over `left` positions at most, and
    /// takes off those it walked. `answered` counts the commands whose replies are in the window.
    pub fn catch_up(&mut self, window: &ReplyWindow, answered: u64, left: &mut u64) -> Caught {
        let Some(mut walk) = self.catch_up else {
            return Caught::Up;
        };
        let caught = self.walk(&mut walk, window, answered, left);
        self.catch_up = (caught != Caught::Up).then_some(walk);
        caught
    }

    fn walk(
        &mut self,
        walk: &mut CatchUp,
        window: &ReplyWindow,
        answered: u64,
        left: &mut u64,
    ) -> Caught {
        if walk.position < window.oldest() {
            // Before anything was found, only replies that were asked for again are lost, and
            // their absence is said below. Later a hole would be silent.
            if walk.found || walk.live_from < window.oldest() {
                return Caught::FellOut;
            }
            walk.position = window.oldest();
        }
        let begin = walk.position;
        let end = window.head().min(begin + *left);
        let waits = self.walk_to(end, walk, window);
        *left -= walk.position - begin;
        if waits {
            return Caught::Waiting;
        }
        if walk.position < window.head() {
            return Caught::Working;
        }
        if !walk.found && walk.from <= walk.to {
            if answered < walk.published {
                return Caught::Waiting;
            }
            self.say_gone(walk.from, walk.to + 1);
        }
        Caught::Up
    }

    /// Walks up to `end`. True where the buffer has no room for what comes next.
    fn walk_to(&mut self, end: u64, walk: &mut CatchUp, window: &ReplyWindow) -> bool {
        while walk.position < end {
            if !self.watches {
                let next = window.next_of(self.session, walk.position, end);
                walk.position = next.unwrap_or(end);
                if next.is_none() {
                    break;
                }
            }
            let event = window.get(walk.position);
            if self.wants(event) && !self.send_from(walk, event) {
                return true;
            }
            walk.position += 1;
        }
        false
    }

    /// Sends `event` if the walk wants it. False where the buffer has no room.
    fn send_from(&mut self, walk: &mut CatchUp, event: &EventSlot) -> bool {
        if walk.position >= walk.live_from {
            return self.output.push(event.frame());
        }
        let header = &event.header;
        let again = header.session == self.session
            && header.flags & QUERY_ANSWER == 0
            && (walk.from..=walk.to).contains(&header.client_sequence);
        if !again {
            return true;
        }
        if !walk.found {
            if header.index != 0 {
                // The beginning of this reply has left the window; half of it helps nobody.
                return true;
            }
            walk.found = true;
            if header.client_sequence > walk.from {
                self.say_gone(walk.from, header.client_sequence);
            }
        }
        self.output.push(event.frame())
    }

    /// Replies from `first` on are gone; the next that is there is `available`.
    fn say_gone(&mut self, first: u64, available: u64) {
        self.refuse(SessionError::RepliesGone, first, available);
    }

    /// Says that something was not taken.
    pub fn refuse(&mut self, error: SessionError, client_sequence: u64, expected: u64) {
        self.say(&refused(error, false, client_sequence, expected));
    }
}

/// The message that says so.
pub fn refused(error: SessionError, closing: bool, client_sequence: u64, expected: u64) -> Refused {
    Refused {
        error,
        closing: if closing { Bool::Yes } else { Bool::No },
        _reserved: [Zero::Zero; 5],
        client_sequence,
        expected,
        _reserved_end: [Zero::Zero; 8],
    }
}
