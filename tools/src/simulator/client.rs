//! A client of the simulation: numbers its commands, keeps a window of them under way, sends again what
//! was lost, and keeps its own record of every reply.
//!
//! It trusts the node in nothing: replies come in order, each event once in its place, and what is sent
//! a second time is what was sent the first time. A reply may be missing only where the node said that it
//! is gone.

use super::clock;
use super::counts::Counts;
use super::judge::Judge;
use super::network::{Got, Network, cut};
use millrace::protocol::frame::{CommandFrame, EventSlot, QUERY_ANSWER};
use millrace::protocol::session::{
    self, FIRST_SESSION_KIND, Hello, Refused, Resend, SessionError, SessionMessage, Welcome,
};
use millrace::protocol::wire::Zero;
use std::collections::VecDeque;

/// Bytes that wait to be written before a client stops to add to them.
const OUTPUT_MAX: usize = 16 << 10;

/// One session's client.
pub struct Client {
    pub session: u64,
    /// Commands under way at most.
    pub window: u64,
    /// Bytes that its link holds each way.
    pub link_bytes: usize,
    /// In how many of 256 turns it reads.
    pub eagerness: u64,
    link: Option<u64>,
    /// Whether it was welcomed on this link.
    is_welcome: bool,
    output: VecDeque<u8>,
    input: Vec<u8>,
    /// Commands from `done + 1` on.
    commands: VecDeque<CommandFrame>,
    /// The last command whose whole reply was read, or is known to be gone.
    pub done: u64,
    /// The number that the next new command gets.
    next: u64,
    /// The number that is to be sent next.
    to_send: u64,
    /// Events read of the reply to `done + 1`.
    progress: u32,
    /// The journal sequence of every reply read; 0 where the reply is gone.
    pub acknowledged: Vec<u64>,
    /// It waits so long after a refusal.
    quiet_until: u64,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(session: u64, window: u64, link_bytes: usize, eagerness: u64) -> Client {
        Client {
            session,
            window,
            link_bytes,
            eagerness,
            link: None,
            is_welcome: false,
            output: VecDeque::new(),
            input: Vec::new(),
            commands: VecDeque::new(),
            done: 0,
            next: 1,
            to_send: 1,
            progress: 0,
            acknowledged: Vec::new(),
            quiet_until: 0,
        }
    }

    /// Its link, if it has one.
    pub fn link(&self) -> Option<u64> {
        self.link
    }

    /// Whether it has the reply to all that it sent.
    pub fn is_done(&self) -> bool {
        self.done + 1 == self.next
    }

    /// Whether it would send a new command now.
    pub fn wants_a_command(&self) -> bool {
        self.next - self.done <= self.window
    }

    /// Gives it a new command to send.
    pub fn give(&mut self, mut frame: CommandFrame, judge: &mut Judge) {
        frame.header_mut().client_sequence = self.next;
        judge.sends(self.session, frame.as_ref());
        self.commands.push_back(frame);
        self.next += 1;
    }

    /// Connects and says hello, where somebody listens.
    pub fn connect(&mut self, network: &Network) -> bool {
        if let Some(link) = self.link.take() {
            network.client_leaves(link);
        }
        self.lose_link();
        self.link = network.connect(self.link_bytes);
        if self.link.is_some() {
            let hello = Hello {
                session: self.session,
                replies_seen: self.done,
            };
            self.say(&hello);
        }
        self.link.is_some()
    }

    /// Goes away without a word.
    pub fn leave(&mut self, network: &Network) {
        if let Some(link) = self.link {
            network.client_leaves(link);
        }
        self.lose_link();
    }

    fn lose_link(&mut self) {
        self.link = None;
        self.is_welcome = false;
        self.output.clear();
        self.input.clear();
        self.progress = 0;
    }

    fn say<M: SessionMessage>(&mut self, message: &M) {
        self.output.extend(session::encode(message));
    }

    /// Writes commands that are due into its buffer.
    pub fn fill(&mut self) {
        if !self.is_welcome || clock::passed() < self.quiet_until {
            return;
        }
        while self.to_send < self.next && self.output.len() < OUTPUT_MAX {
            let at = (self.to_send - self.done - 1) as usize;
            self.output.extend(self.commands[at].bytes());
            self.to_send += 1;
        }
    }

    /// Sends a command that it has sent before.
    pub fn repeat(&mut self, pick: u64) -> bool {
        let under_way = self.to_send - 1 - self.done;
        if !self.is_welcome || under_way == 0 || self.output.len() >= OUTPUT_MAX {
            return false;
        }
        let at = (pick % under_way) as usize;
        self.output.extend(self.commands[at].bytes());
        true
    }

    /// Asks for replies again, from some command that it knows of.
    pub fn ask_again(&mut self, pick: u64) -> bool {
        if !self.is_welcome || self.output.len() >= OUTPUT_MAX {
            return false;
        }
        let from = (self.done + 1).saturating_sub(pick % 8);
        self.say(&Resend {
            from,
            _reserved: [Zero::Zero; 8],
        });
        true
    }

    /// Sends a question.
    pub fn query(&mut self, frame: &CommandFrame) -> bool {
        if !self.is_welcome || self.output.len() >= OUTPUT_MAX {
            return false;
        }
        self.output.extend(frame.bytes());
        true
    }

    /// Writes up to `bytes` into its link.
    pub fn write(&mut self, network: &Network, bytes: usize) {
        let Some(link) = self.link else { return };
        let count = bytes.min(self.output.len());
        let piece: Vec<u8> = self.output.iter().take(count).copied().collect();
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
                self.lose_link();
                Ok(())
            }
            Got::Bytes(more) => {
                self.input.extend(more);
                self.take_frames(judge, counts)
                    .map_err(|why| format!("client {}: {why}", self.session))
            }
        }
    }

    fn take_frames(&mut self, judge: &Judge, counts: &mut Counts) -> Result<(), String> {
        while let Some((prefix, frame)) = cut(&mut self.input) {
            if prefix.kind < FIRST_SESSION_KIND {
                let event = EventSlot::from_frame(&frame).ok_or("a frame that is no event")?;
                self.take_event(&event, judge, counts)?;
            } else if prefix.kind == Welcome::KIND {
                self.take_welcome(&session::decode(&frame).ok_or("no welcome")?, counts)?;
            } else if prefix.kind == Refused::KIND {
                self.take_refusal(&session::decode(&frame).ok_or("no refusal")?, counts)?;
            } else {
                return Err(format!("a message of kind {:#x}", prefix.kind));
            }
        }
        Ok(())
    }

    fn take_welcome(&mut self, welcome: &Welcome, counts: &mut Counts) -> Result<(), String> {
        let last = welcome.last_client_sequence;
        if welcome.session != self.session || last < self.done || last >= self.next {
            return Err(format!(
                "welcomed as session {} up to command {last}; it has replies up to {} and sent up to {}",
                welcome.session,
                self.done,
                self.next - 1
            ));
        }
        self.is_welcome = true;
        counts.resends += self.to_send.saturating_sub(last + 1);
        self.to_send = last + 1;
        Ok(())
    }

    fn take_event(
        &mut self,
        event: &EventSlot,
        judge: &Judge,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let header = &event.header;
        if header.session != self.session {
            return Err(format!("an event of session {}", header.session));
        }
        if header.flags & QUERY_ANSWER != 0 {
            counts.answers += 1;
            return Ok(());
        }
        if !judge.is_true(event) {
            return Err(format!("an event that the engine never said: {header:?}"));
        }
        let (number, index) = (header.client_sequence, header.index);
        if number <= self.done {
            let before = self.acknowledged[number as usize - 1];
            if before != 0 && before != header.sequence {
                return Err(format!(
                    "command {number} was {before} in the journal and now is {}",
                    header.sequence
                ));
            }
            counts.repeated_events += 1;
            return Ok(());
        }
        if number != self.done + 1 || index > self.progress {
            return Err(format!(
                "event {index} of command {number} came, event {} of {} was next",
                self.progress,
                self.done + 1
            ));
        }
        if index < self.progress {
            counts.repeated_events += 1;
            return Ok(());
        }
        self.progress += 1;
        if event.is_last() {
            self.acknowledged.push(header.sequence);
            counts.acknowledgements += 1;
            self.finish_one();
        }
        Ok(())
    }

    fn finish_one(&mut self) {
        self.done += 1;
        self.progress = 0;
        self.commands.pop_front();
        self.to_send = self.to_send.max(self.done + 1);
    }

    fn take_refusal(&mut self, refused: &Refused, counts: &mut Counts) -> Result<(), String> {
        match refused.error {
            SessionError::SequenceGap => {
                counts.gaps += 1;
                self.go_back(refused.expected, 0, counts)?;
            }
            SessionError::Busy => {
                counts.busy += 1;
                self.go_back(refused.expected, 5 * clock::MILLISECOND, counts)?;
            }
            SessionError::DiskFull => {
                counts.disk_full += 1;
                self.go_back(refused.expected, 50 * clock::MILLISECOND, counts)?;
            }
            SessionError::RepliesGone => self.lose_replies(refused, counts)?,
            SessionError::SlowConsumer => counts.slow_consumers += 1,
            SessionError::Superseded => counts.superseded += 1,
            SessionError::HelloFirst => counts.late_hellos += 1,
            SessionError::TooManySessions => counts.turned_away += 1,
            other => return Err(format!("refused: {other}")),
        }
        Ok(())
    }

    /// The node has taken commands up to `expected - 1`.
    fn go_back(&mut self, expected: u64, wait: u64, counts: &mut Counts) -> Result<(), String> {
        if expected <= self.done || expected > self.next {
            return Err(format!(
                "command {expected} is expected, replies are there up to {}, commands up to {}",
                self.done,
                self.next - 1
            ));
        }
        self.quiet_until = clock::passed() + wait;
        if expected < self.to_send {
            counts.resends += self.to_send - expected;
            self.to_send = expected;
        }
        Ok(())
    }

    /// Replies that the window has let go: only those that it has not read.
    fn lose_replies(&mut self, refused: &Refused, counts: &mut Counts) -> Result<(), String> {
        let (first, available) = (refused.client_sequence, refused.expected);
        if first == 0 || available <= first || available > self.next {
            return Err(format!(
                "replies {first} to {available} are said to be gone"
            ));
        }
        while self.done + 1 < available {
            self.acknowledged.push(0);
            counts.replies_gone += 1;
            self.finish_one();
        }
        Ok(())
    }

    /// What it holds against the journal in the end.
    pub fn check(&self, judge: &Judge) -> Result<(), String> {
        for (at, sequence) in self.acknowledged.iter().enumerate() {
            let Some(at_record) = (*sequence as usize).checked_sub(1) else {
                continue;
            };
            let number = at as u64 + 1;
            let record = judge.records.get(at_record);
            if record.is_none_or(|r| (r.session, r.client_sequence) != (self.session, number)) {
                return Err(format!(
                    "client {}: command {number} was acknowledged as {sequence}, the journal holds another there",
                    self.session
                ));
            }
        }
        Ok(())
    }
}
