//! Sessions: how far each client has come, so that no command is taken twice.
//!
//! A client numbers its commands 1, 2, 3 ... within its session. The table remembers the last
//! number taken from each session and nothing else. It is a fold over the headers of journaled
//! commands, in order, and of nothing else (a query or a logon leaves no trace), so replay
//! rebuilds it exactly, and a snapshot carries it beside the engine.
//!
//! The table is bounded. When it is full, the session whose last command lies furthest back makes
//! room: the choice depends on the order of commands alone, so every node and every replay makes
//! the same one. What a forgotten session sends again is then caught by the ids within its
//! commands (transfer, payment and client order ids), not by its numbers.

use std::collections::HashMap;
use std::io::{self, Read, Write};

/// What the table says about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The next one of its session: take it.
    Next,
    /// Taken before: its replies may be sent again.
    Duplicate,
    /// It skips at least one.
    Gap {
        /// The number that comes next.
        expected: u64,
    },
}

/// Session id to the last client sequence taken.
pub struct SessionTable {
    entries: Vec<Entry>,
    slots: HashMap<u64, u32>,
    capacity: u32,
    /// Most recently active entry, or [`NONE`].
    newest: u32,
    /// Least recently active entry, or [`NONE`].
    oldest: u32,
    /// The entry that was asked about last, whoever's it is by now, or [`NONE`].
    asked: u32,
}

#[derive(Clone, Copy)]
struct Entry {
    session: u64,
    last_client_sequence: u64,
    /// Neighbours in order of activity.
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;

impl SessionTable {
    /// An empty table for at most `capacity` sessions (at least one).
    pub fn new(capacity: u32) -> SessionTable {
        let capacity = capacity.clamp(1, NONE - 1);
        SessionTable {
            entries: Vec::new(),
            slots: HashMap::new(),
            capacity,
            newest: NONE,
            oldest: NONE,
            asked: NONE,
        }
    }

    /// What to do with command `client_sequence` of `session`. Changes nothing that can be seen. Session 0 (a
    /// script, the node itself) is not numbered: everything of it is next.
    #[inline]
    pub fn admit(&mut self, session: u64, client_sequence: u64) -> Admission {
        if session == 0 {
            return Admission::Next;
        }
        // What is admitted is taken next, and finds its entry without a second search.
        self.asked = self.slot_of(session).unwrap_or(NONE);
        let last = match self.entries.get(self.asked as usize) {
            Some(entry) => entry.last_client_sequence,
            None => 0,
        };
        if client_sequence == last + 1 {
            Admission::Next
        } else if client_sequence <= last && client_sequence != 0 {
            Admission::Duplicate
        } else {
            Admission::Gap { expected: last + 1 }
        }
    }

    /// Notes that `client_sequence` of `session` was taken. Called once for every journaled
    /// command, in journal order, by the door and by every replay.
    #[inline]
    pub fn take(&mut self, session: u64, client_sequence: u64) {
        if session == 0 {
            return;
        }
        if let Some(slot) = self.slot_of(session) {
            self.entries[slot as usize].last_client_sequence = client_sequence;
            if self.newest != slot {
                self.unlink(slot);
                self.link_newest(slot);
            }
        } else {
            self.insert(session, client_sequence);
        }
    }

    /// The last client sequence taken from `session`, 0 where there is none.
    #[inline]
    pub fn last_client_sequence(&self, session: u64) -> u64 {
        match self.slot_of(session) {
            Some(slot) => self.entries[slot as usize].last_client_sequence,
            None => 0,
        }
    }

    /// Sessions remembered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The table, oldest activity first: pairs of session and last client sequence.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.newer;
            Some((entry.session, entry.last_client_sequence))
        })
    }

    /// Writes the table: a count, then its pairs, oldest activity first, little-endian.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&(self.entries.len() as u64).to_le_bytes())?;
        for (session, last) in self.iter() {
            out.write_all(&session.to_le_bytes())?;
            out.write_all(&last.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads what [`SessionTable::write_snapshot`] wrote, into a table for `capacity` sessions.
    pub fn read_snapshot(capacity: u32, input: &mut dyn Read) -> io::Result<SessionTable> {
        let mut table = SessionTable::new(capacity);
        for _ in 0..read_u64(input)? {
            let session = read_u64(input)?;
            let last = read_u64(input)?;
            table.take(session, last);
        }
        Ok(table)
    }

    #[inline]
    fn slot_of(&self, session: u64) -> Option<u32> {
        // Commands of one session come in runs.
        if let Some(entry) = self.entries.get(self.newest as usize)
            && entry.session == session
        {
            return Some(self.newest);
        }
        if let Some(entry) = self.entries.get(self.asked as usize)
            && entry.session == session
        {
            return Some(self.asked);
        }
        self.slots.get(&session).copied()
    }

    fn insert(&mut self, session: u64, client_sequence: u64) {
        let entry = Entry {
            session,
            last_client_sequence: client_sequence,
            newer: NONE,
            older: NONE,
        };
        let slot = if (self.entries.len() as u32) < self.capacity {
            self.entries.push(entry);
            self.entries.len() as u32 - 1
        } else {
            let slot = self.oldest;
            self.unlink(slot);
            self.slots.remove(&self.entries[slot as usize].session);
            self.entries[slot as usize] = entry;
            slot
        };
        self.slots.insert(session, slot);
        self.link_newest(slot);
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { newer, older, .. } = self.entries[slot as usize];
        match self.entries.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: u32) {
        let older = self.newest;
        let entry = &mut self.entries[slot as usize];
        entry.newer = NONE;
        entry.older = older;
        match self.entries.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

fn read_u64(input: &mut dyn Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    input.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_taken_in_order_and_once() {
        let mut table = SessionTable::new(4);
        assert_eq!(table.admit(7, 1), Admission::Next);
        assert_eq!(table.admit(7, 2), Admission::Gap { expected: 1 });
        assert_eq!(table.admit(7, 0), Admission::Gap { expected: 1 });
        table.take(7, 1);
        assert_eq!(table.admit(7, 1), Admission::Duplicate);
        assert_eq!(table.admit(7, 2), Admission::Next);
        assert_eq!(table.admit(7, 4), Admission::Gap { expected: 2 });
        assert_eq!(table.admit(8, 1), Admission::Next);
    }

    #[test]
    fn the_nodes_own_session_is_not_numbered() {
        let mut table = SessionTable::new(4);
        table.take(0, 5);
        assert_eq!(table.admit(0, 5), Admission::Next);
        assert!(table.is_empty());
    }

    #[test]
    fn the_session_that_was_quiet_longest_makes_room() {
        let mut table = SessionTable::new(3);
        for session in 1..=3 {
            table.take(session, 1);
        }
        table.take(1, 2);
        table.take(4, 1);
        assert_eq!(
            table.iter().collect::<Vec<_>>(),
            [(3, 1), (1, 2), (4, 1)],
            "session 2 was quiet longest"
        );
        assert_eq!(table.last_client_sequence(2), 0);
        assert_eq!(table.last_client_sequence(1), 2);
    }

    #[test]
    fn a_row_that_was_asked_about_and_changed_hands_is_not_taken_for_the_old_one() {
        let mut table = SessionTable::new(2);
        table.take(1, 5);
        table.take(2, 1);
        assert_eq!(table.admit(1, 6), Admission::Next);
        // 1 was quiet longest: 3 gets its row.
        table.take(3, 1);
        assert_eq!(table.last_client_sequence(1), 0);
        assert_eq!(table.admit(1, 6), Admission::Gap { expected: 1 });
        assert_eq!(table.admit(3, 2), Admission::Next);
        table.take(1, 1);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(3, 1), (1, 1)]);
    }

    #[test]
    fn a_snapshot_keeps_the_order_of_activity() {
        let mut table = SessionTable::new(8);
        for (session, last) in [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (9, 1)] {
            table.take(session, last);
        }
        let mut bytes = Vec::new();
        table.write_snapshot(&mut bytes).unwrap();
        let mut read = SessionTable::read_snapshot(8, &mut &bytes[..]).unwrap();
        assert_eq!(
            read.iter().collect::<Vec<_>>(),
            table.iter().collect::<Vec<_>>()
        );
        // Both evict the same sessions from here on.
        for session in 20..30 {
            read.take(session, 1);
            table.take(session, 1);
        }
        assert_eq!(
            read.iter().collect::<Vec<_>>(),
            table.iter().collect::<Vec<_>>()
        );
        assert!(SessionTable::read_snapshot(8, &mut &bytes[..20]).is_err());
    }
}
