//! A client that sends nothing and reads everything: it must see every event of every command, in order,
//! once, over all its connections, but for what the node said is no longer kept.

use super::counts::Counts;
use super::judge::Judge;
use super::network::{Got, Network, cut};
use millrace::protocol::frame::EventSlot;
use millrace::protocol::session::{
    self, FIRST_SESSION_KIND, Hello, Refused, SessionError, SessionMessage, Watch, WatchScope,
};
use millrace::protocol::units::ParticipantId;
use millrace::protocol::wire::{Bool, Zero};
use std::collections::VecDeque;

/// Reads along.
pub struct Watcher {
    session: u64,
    link_bytes: usize,
    /// In how many of 256 turns it reads.
    pub eagerness: u64,
    link: Option<u64>,
    output: VecDeque<u8>,
    input: Vec<u8>,
    /// The command whose events come next, and which of them.
    next: u64,
    index: u32,
}

impl Watcher {
    /// One that begins at the journal's first command.
    pub fn new(session: u64, link_bytes: usize, eagerness: u64) -> Watcher {
        Watcher {
            session,
            link_bytes,
            eagerness,
            link: None,
            output: VecDeque::new(),
            input: Vec::new(),
            next: 1,
            index: 0,
        }
    }

    /// Its link, if it has one.
    pub fn link(&self) -> Option<u64> {
        self.link
    }

    /// The command whose events it waits for.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Connects and asks for what it has not seen.
    pub fn connect(&mut self, network: &Network) -> bool {
        self.link = network.connect(self.link_bytes);
        self.output.clear();
        self.input.clear();
        if self.link.is_some() {
            let hello = Hello {
                session: self.session,
                replies_seen: 0,
            };
            self.output.extend(session::encode(&hello));
            self.output.extend(session::encode(&Watch {
                from_sequence: self.next,
                on: Bool::Yes,
                scope: WatchScope::Everything,
                _reserved: [Zero::Zero; 2],
                participant: ParticipantId(0),
            }));
        }
        self.link.is_some()
    }

    /// Writes up to `bytes` into its link.
    pub fn write(&mut self, network: &Network, bytes: usize) {
        let Some(link) = self.link else { return };
        let piece: Vec<u8> = self.output.iter().take(bytes).copied().collect();
        match network.client_writes(link, &piece) {
            Some(written) => drop(self.output.drain(..written)),
            None => self.output.clear(),
        }
    }

    /// Reads up to `bytes` and takes what they complete.
    pub fn read(
        &mut self,
        network: &Network,
        bytes: usize,
        judge: &Judge,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let Some(link) = self.link else { return Ok(()) };
        match network.client_reads(link, bytes) {
            Got::Nothing => Ok(()),
            Got::Over => {
                counts.disconnects += 1;
                network.client_leaves(link);
                self.link = None;
                Ok(())
            }
            Got::Bytes(more) => {
                self.input.extend(more);
                self.take_frames(judge, counts)
                    .map_err(|why| format!("watcher {}: {why}", self.session))
            }
        }
    }

    fn take_frames(&mut self, judge: &Judge, counts: &mut Counts) -> Result<(), String> {
        while let Some((prefix, frame)) = cut(&mut self.input) {
            if prefix.kind < FIRST_SESSION_KIND {
                let event = EventSlot::from_frame(&frame).ok_or("a frame that is no event")?;
                self.take_event(&event, judge, counts)?;
            } else if prefix.kind == Refused::KIND {
                let refused = session::decode(&frame).ok_or("no refusal")?;
                self.take_refusal(&refused, counts)?;
            }
        }
        Ok(())
    }

    fn take_event(
        &mut self,
        event: &EventSlot,
        judge: &Judge,
        counts: &mut Counts,
    ) -> Result<(), String> {
        if !judge.is_true(event) {
            return Err(format!(
                "an event that the engine never said: {:?}",
                event.header
            ));
        }
        let (sequence, index) = (event.header.sequence, event.header.index);
        if sequence == self.next && index < self.index {
            // A watch that goes on begins with the whole command.
            return Ok(());
        }
        if (sequence, index) != (self.next, self.index) {
            return Err(format!(
                "event {index} of command {sequence} came, event {} of {} was next",
                self.index, self.next
            ));
        }
        counts.watched += 1;
        self.index += 1;
        if event.is_last() {
            self.next += 1;
            self.index = 0;
        }
        Ok(())
    }

    fn take_refusal(&mut self, refused: &Refused, counts: &mut Counts) -> Result<(), String> {
        match refused.error {
            SessionError::RepliesGone if refused.expected > self.next => {
                counts.watch_gaps += 1;
                (self.next, self.index) = (refused.expected, 0);
                Ok(())
            }
            SessionError::SlowConsumer => {
                counts.slow_consumers += 1;
                Ok(())
            }
            SessionError::HelloFirst => {
                counts.late_hellos += 1;
                Ok(())
            }
            SessionError::TooManySessions => {
                counts.turned_away += 1;
                Ok(())
            }
            other => Err(format!("refused: {other}, {refused:?}")),
        }
    }
}
