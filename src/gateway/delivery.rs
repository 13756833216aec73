//! What a connection is to be sent: live events as they come, or a walk through the reply window
//! until it has caught up.
//!
//! A connection is either live, and every event for it is appended to its buffer at once, or it
//! has a [`CatchUp`] and is fed from the window. A catch-up begins when a client comes back, asks
//! again, watches from the past, or reads too slowly for its buffer; it ends at the window's head.
//! Either way a session gets its replies in order.

use super::connection::Connection;
use super::sockets::Stream;
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
    /// A reply of which only the end is kept, 0 for none.
    half_gone: u64,
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

impl<S: Stream> Connection<S> {
    /// Whether this event, the next there is, is for this connection.
    #[inline]
    pub fn wants(&mut self, event: &EventSlot) -> bool {
        self.watched.hear(event);
        event.header.session == self.session
            || (self.watches
                && event.header.flags & QUERY_ANSWER == 0
                && event.header.sequence >= self.watches_from
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
                // Where the oldest that is owed has left the window, the walk must notice.
                catch_up.position = window.oldest().min(catch_up.live_from);
                catch_up.found = false;
                catch_up.half_gone = 0;
            }
            None => {
                self.catch_up = Some(CatchUp {
                    position: window.oldest(),
                    from,
                    to,
                    live_from: window.head(),
                    published,
                    found: false,
                    half_gone: 0,
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
                    half_gone: 0,
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
        let header = &event.header;
        let is_own = header.session == self.session && header.flags & QUERY_ANSWER == 0;
        if walk.position >= walk.live_from {
            return (is_own && self.settle(walk, event)) || self.output.push(event.frame());
        }
        let again = is_own && (walk.from..=walk.to).contains(&header.client_sequence);
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

    /// Replies come in order: with the first live one it is known which of those asked for again are gone,
    /// and that is said before it goes out. True where `event` belongs to a reply that is gone itself.
    fn settle(&mut self, walk: &mut CatchUp, event: &EventSlot) -> bool {
        let header = &event.header;
        let number = header.client_sequence;
        if walk.half_gone == number && header.index != 0 {
            return true;
        }
        if walk.found || walk.from > walk.to || number < walk.from {
            return false;
        }
        // The beginning has left the window, and was not sent on this connection.
        let is_half_gone = header.index != 0 && number <= walk.to;
        let available = number + u64::from(is_half_gone);
        if walk.from < available {
            self.say_gone(walk.from, available.min(walk.to + 1));
        }
        if is_half_gone {
            (walk.half_gone, walk.from) = (number, number + 1);
        } else {
            walk.found = true;
        }
        is_half_gone
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Host;
    use crate::protocol::frame::{LAST_EVENT, Prefix};
    use crate::protocol::session::{SessionMessage, decode};
    use std::io::{self, Read, Write};

    /// Takes everything.
    #[derive(Default)]
    struct Sink(Vec<u8>);

    impl Read for Sink {
        fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Stream for Sink {
        fn finish_writing(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn is_local(&self) -> bool {
            false
        }
    }

    fn connection(session: u64) -> Connection<Sink> {
        let mut connection = Connection::new(Sink::default(), 4_096, 4_096, Host::default());
        connection.session = session;
        connection
    }

    /// The only event of a command, or the `index`th of so many.
    fn event(session: u64, client_sequence: u64, index: u32, of: u32) -> EventSlot {
        let mut event = EventSlot::default();
        event.header.length = 64;
        event.header.kind = 1;
        event.header.session = session;
        event.header.client_sequence = client_sequence;
        event.header.index = index;
        event.header.flags = if index + 1 == of { LAST_EVENT } else { 0 };
        event
    }

    /// What was sent: "8" or "8.1" for an event, "gone 5..8" for replies that are.
    fn sent(connection: &mut Connection<Sink>) -> Vec<String> {
        assert!(connection.send());
        let bytes = std::mem::take(&mut connection.stream().0);
        let mut rest = &bytes[..];
        let mut words = Vec::new();
        while !rest.is_empty() {
            let prefix: Prefix = bytemuck::pod_read_unaligned(&rest[..8]);
            let (frame, behind) = rest.split_at(prefix.length as usize);
            rest = behind;
            if prefix.kind == Refused::KIND {
                let gone = decode::<Refused>(frame).expect("a refusal");
                assert_eq!(gone.error, SessionError::RepliesGone);
                words.push(format!("gone {}..{}", gone.client_sequence, gone.expected));
                continue;
            }
            let header = EventSlot::from_frame(frame).expect("an event").header;
            words.push(match header.index {
                0 => header.client_sequence.to_string(),
                index => format!("{}.{index}", header.client_sequence),
            });
        }
        words
    }

    /// A simulation found it: a node that began from a snapshot did not have replies 5 to 7, and said so
    /// only after it had sent reply 8.
    #[test]
    fn that_replies_are_gone_is_said_before_later_replies() {
        let mut window = ReplyWindow::new(64, 0);
        let mut connection = connection(9);
        connection.resend(5, 7, &window, 3);
        assert_eq!(connection.catch_up(&window, 0, &mut 100), Caught::Waiting);
        let replies = [event(9, 8, 0, 2), event(1, 70, 0, 1), event(9, 8, 1, 2)];
        for reply in &replies {
            let position = window.push(reply);
            connection.deliver(reply, position);
        }
        assert_eq!(connection.catch_up(&window, 1, &mut 100), Caught::Up);
        assert_eq!(sent(&mut connection), ["gone 5..8", "8", "8.1"]);
    }

    #[test]
    fn a_reply_whose_beginning_has_left_the_window_is_gone_whole() {
        let mut window = ReplyWindow::new(2, 0);
        let mut connection = connection(9);
        for index in 0..3 {
            window.push(&event(9, 5, index, 5));
        }
        connection.resend(5, 6, &window, 2);
        for reply in [event(9, 5, 3, 5), event(9, 5, 4, 5)] {
            connection.deliver(&reply, window.push(&reply));
        }
        assert_eq!(connection.catch_up(&window, 1, &mut 100), Caught::Waiting);
        let reply = event(9, 6, 0, 1);
        connection.deliver(&reply, window.push(&reply));
        assert_eq!(connection.catch_up(&window, 2, &mut 100), Caught::Up);
        assert_eq!(sent(&mut connection), ["gone 5..6", "6"]);
    }

    /// A simulation found it: a command with more events than the window keeps was half out when a watch
    /// was told to begin behind it, and was sent its other half.
    #[test]
    fn a_watch_begins_with_a_whole_command() {
        let mut connection = connection(9);
        connection.watches = true;
        connection.watches_from = 5;
        let mut event = event(1, 70, 3, 4);
        event.header.sequence = 4;
        assert!(!connection.wants(&event));
        event.header.sequence = 5;
        assert!(connection.wants(&event));
    }

    /// A simulation found it: a client that lagged and asked for an old reply again was sent what was left
    /// in the window, without a word about what had fallen out of it.
    #[test]
    fn asking_again_does_not_hide_that_a_reader_has_fallen_out() {
        let mut window = ReplyWindow::new(4, 0);
        let mut connection = connection(9);
        for client_sequence in 1..=3 {
            window.push(&event(9, client_sequence, 0, 1));
        }
        connection.lag_from(1);
        for client_sequence in 4..=7 {
            window.push(&event(9, client_sequence, 0, 1));
        }
        connection.resend(1, 1, &window, 7);
        assert_eq!(connection.catch_up(&window, 7, &mut 100), Caught::FellOut);
        assert_eq!(sent(&mut connection), [""; 0]);
    }
}
