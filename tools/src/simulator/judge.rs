//! The judge: knows what was sent and what was seen, and holds the journal against both.
//!
//! Every event that leaves the executor passes here before the gateway gets it. Its command must be in
//! the journal by then; it must be the next one of its session, byte for byte what its client sent; and
//! the model must say the same events. After every start the whole journal is replayed by an engine that
//! knows no snapshot: what was seen before must be there unchanged, once, and the node must stand where
//! that replay ends.

use super::disk::Disk;
use super::scene::Scene;
use millrace::engine::Engine;
use millrace::protocol::command::CommandKind;
use millrace::protocol::frame::{CommandRef, EventSlot, QUERY_ANSWER};
use millrace::protocol::record::unfold;
use millrace::replay::{Watcher, follow_on};
use millrace::session::SessionTable;
use millrace_journal::Reader;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// One command of the journal, and what was said to it.
pub struct Record {
    pub session: u64,
    pub client_sequence: u64,
    command: u64,
    /// A hash of each event.
    pub events: Vec<u64>,
}

/// Everything that is known for certain.
pub struct Judge {
    pub scene: Scene,
    /// What clients have sent, by session and client sequence.
    sent: BTreeMap<(u64, u64), u64>,
    /// What the journal holds, from sequence 1 on.
    pub records: Vec<Record>,
    /// The last client sequence of each session in the journal.
    last_of: BTreeMap<u64, u64>,
    reader: Option<Reader>,
    words: Vec<u128>,
    /// Events of a command whose last is still to come.
    partial: Vec<EventSlot>,
    pub events: u64,
    pub ticks: u64,
}

impl Judge {
    /// Nothing has happened.
    pub fn new(scene: Scene) -> Judge {
        Judge {
            scene,
            sent: BTreeMap::new(),
            records: Vec::new(),
            last_of: BTreeMap::new(),
            reader: None,
            words: Vec::new(),
            partial: Vec::new(),
            events: 0,
            ticks: 0,
        }
    }

    /// A client is about to send a command.
    pub fn sends(&mut self, session: u64, command: CommandRef<'_>) {
        let key = (session, command.header.client_sequence);
        let before = self.sent.insert(key, hash_of_command(command));
        assert!(before.is_none(), "a client numbers each command once");
    }

    /// The last sequence seen.
    pub fn sequence(&self) -> u64 {
        self.records.len() as u64
    }

    /// A life has begun: replays all of its journal. Returns the digest of that.
    pub fn begin_life(&mut self, disk: &Disk) -> Result<[u8; 32], String> {
        let mut reader = Reader::open_in(Arc::new(disk.exempt())).map_err(|e| e.to_string())?;
        let limits = self.scene.limits().clone();
        let mut engine = Engine::new(&limits);
        let mut sessions = SessionTable::new(1_024);
        // Of a command whose first events had left, the last life's end took the rest.
        let known = self.sequence() + u64::from(!self.partial.is_empty());
        follow_on(&mut reader, None, &mut engine, &mut sessions, self)
            .map_err(|e| e.to_string())?;
        if engine.sequence() < known {
            return Err(format!(
                "the journal ends at {}, but {known} was executed and answered",
                engine.sequence()
            ));
        }
        self.partial.clear();
        engine.audit()?;
        self.scene.compare(&engine)?;
        self.reader = Some(reader);
        Ok(engine.digest())
    }

    /// The life has ended.
    pub fn end_life(&mut self) {
        self.reader = None;
    }

    /// An event that the gateway is about to get.
    pub fn event(&mut self, event: &EventSlot) -> Result<(), String> {
        self.events += 1;
        let header = &event.header;
        if header.flags & QUERY_ANSWER != 0 {
            if header.sequence != self.sequence() || !self.partial.is_empty() {
                return Err(format!(
                    "a query was answered as of command {}, executed are {}",
                    header.sequence,
                    self.sequence()
                ));
            }
            return self.scene.answer(event);
        }
        if header.sequence != self.sequence() + 1 {
            return Err(format!(
                "an event of command {} came after command {}",
                header.sequence,
                self.sequence()
            ));
        }
        self.partial.push(*event);
        if event.is_last() {
            self.judge()
        } else {
            Ok(())
        }
    }

    /// All events of the next command are there.
    fn judge(&mut self) -> Result<(), String> {
        let sequence = self.sequence() + 1;
        let mut words = std::mem::take(&mut self.words);
        let reader = self.reader.as_mut().ok_or("events without a life")?;
        let record = reader.next().map_err(|error| error.to_string())?;
        let length = match record {
            Some(record) if record.sequence == sequence => {
                unfold(record.payload, &mut words).map_err(|error| error.to_string())?
            }
            other => {
                let there = other.map(|record| record.sequence);
                return Err(format!(
                    "command {sequence} was executed, the journal goes on with {there:?}"
                ));
            }
        };
        let bytes = &bytemuck::cast_slice(&words)[..length];
        let command = CommandRef::from_bytes(bytes).map_err(|error| error.to_string())?;
        let events = std::mem::take(&mut self.partial);
        let judged = self.add(command, &events);
        (self.partial, self.words) = (events, words);
        self.partial.clear();
        judged.map_err(|why| format!("command {sequence}: {why}"))
    }

    /// A command that is now part of history.
    fn add(&mut self, command: CommandRef<'_>, events: &[EventSlot]) -> Result<(), String> {
        let header = command.header;
        let (session, client_sequence) = (header.session, header.client_sequence);
        let hash = hash_of_command(command);
        if session == 0 {
            // The node's own.
            if header.kind != CommandKind::Tick as u16
                && header.kind != CommandKind::Disconnect as u16
            {
                return Err(format!("nobody sent this {:?}", command.kind()));
            }
            self.ticks += 1;
        } else {
            let last = self.last_of.entry(session).or_default();
            if client_sequence != *last + 1 {
                return Err(format!(
                    "session {session} has {client_sequence} after {last} in the journal"
                ));
            }
            *last = client_sequence;
            if self.sent.get(&(session, client_sequence)) != Some(&hash) {
                return Err(format!(
                    "command {client_sequence} of session {session} is not what it sent"
                ));
            }
        }
        for event in events {
            let its = &event.header;
            if (its.session, its.client_sequence) != (session, client_sequence) {
                return Err(format!("an event names another command: {its:?}"));
            }
        }
        self.scene.apply(command, events)?;
        self.records.push(Record {
            session,
            client_sequence,
            command: hash,
            events: events.iter().map(hash_of_event).collect(),
        });
        Ok(())
    }

    /// Whether an event that a client got is the one that the engine said.
    pub fn is_true(&self, event: &EventSlot) -> bool {
        let header = &event.header;
        if header.sequence == self.sequence() + 1 {
            // The rest of this reply is still to come.
            let said = self.partial.get(header.index as usize);
            return said.is_some_and(|said| hash_of_event(said) == hash_of_event(event));
        }
        let record = self.records.get((header.sequence as usize).wrapping_sub(1));
        record.is_some_and(|record| {
            record.events.get(header.index as usize) == Some(&hash_of_event(event))
        })
    }
}

/// The replay at the beginning of a life.
impl Watcher for Judge {
    fn command(
        &mut self,
        sequence: u64,
        command: CommandRef<'_>,
        events: &[EventSlot],
        _engine: &Engine,
    ) -> Result<(), String> {
        let Some(record) = self.records.get(sequence as usize - 1) else {
            let said = std::mem::take(&mut self.partial);
            if !said
                .iter()
                .map(hash_of_event)
                .eq(events.iter().take(said.len()).map(hash_of_event))
            {
                return Err("its first events were others when they left".into());
            }
            return self.add(command, events);
        };
        let header = command.header;
        let is_same = (record.session, record.client_sequence)
            == (header.session, header.client_sequence)
            && record.command == hash_of_command(command)
            && record
                .events
                .iter()
                .copied()
                .eq(events.iter().map(hash_of_event));
        is_same
            .then_some(())
            .ok_or_else(|| "the journal now says otherwise than when it was executed".into())
    }
}

/// What a client determines of its command.
fn hash_of_command(command: CommandRef<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let header = command.header;
    (header.kind, header.client_sequence, header.user).hash(&mut hasher);
    command.body.hash(&mut hasher);
    hasher.finish()
}

/// An event, but for when it was handed on.
pub fn hash_of_event(event: &EventSlot) -> u64 {
    let mut event = *event;
    event.header.executed_at = 0;
    let mut hasher = DefaultHasher::new();
    event.frame().hash(&mut hasher);
    hasher.finish()
}
