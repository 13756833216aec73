//! Frames between their submission and their answer, in the order they were submitted.

use std::collections::VecDeque;

/// Numbers of queries have this bit, so a refusal says which it means.
pub(super) const QUERY: u64 = 1 << 63;

/// What was submitted and not answered yet: the bytes, in order, and where each frame lies.
#[derive(Default)]
pub(super) struct Flight {
    bytes: Vec<u8>,
    /// Bytes before this one belong to answered frames.
    start: usize,
    /// Bytes before this one are sent.
    pub(super) sent: usize,
    /// Bytes from this one on are held back: the end of a frame.
    hold_at: Option<usize>,
    pub(super) entries: VecDeque<Entry>,
}

pub(super) struct Entry {
    pub(super) number: u64,
    length: usize,
    /// Events with a lower index were handed out.
    pub(super) next_index: u32,
    pub(super) done: bool,
}

impl Flight {
    pub(super) fn push(&mut self, number: u64, session: u64, frame: &[u8]) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        self.bytes[at + 8..at + 16].copy_from_slice(&session.to_le_bytes());
        self.bytes[at + 16..at + 24].copy_from_slice(&number.to_le_bytes());
        self.entries.push_back(Entry {
            number,
            length: frame.len(),
            next_index: 0,
            done: false,
        });
    }

    /// Bytes of frames that are not answered.
    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    #[inline]
    pub(super) fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        // Answers come in order, so nearly always it is the first.
        self.entries.iter_mut().find(|entry| entry.number == number)
    }

    /// Marks as answered.
    pub(super) fn finish(&mut self, number: u64) {
        if let Some(entry) = self.entry(number) {
            entry.done = true;
        }
        self.forget_done();
    }

    /// What may be sent now.
    pub(super) fn unsent(&self) -> &[u8] {
        let end = self.hold_at.unwrap_or(self.bytes.len());
        &self.bytes[self.sent..end]
    }

    /// Holds back whatever was not begun to be sent.
    pub(super) fn hold(&mut self) {
        let mut end = self.start;
        for entry in &self.entries {
            if end >= self.sent {
                break;
            }
            end += entry.length;
        }
        self.hold_at = Some(end.max(self.sent));
    }

    pub(super) fn forget_done(&mut self) {
        while let Some(entry) = self.entries.front() {
            let end = self.start + entry.length;
            let half_sent = self.start < self.sent && self.sent < end;
            if !entry.done || half_sent {
                break;
            }
            self.start = end;
            self.sent = self.sent.max(end);
            self.hold_at = self.hold_at.map(|hold| hold.max(end));
            self.entries.pop_front();
        }
        // The larger half: so every byte moves once at most.
        if self.start > self.bytes.len() / 2 {
            self.cut_front();
        }
    }

    pub(super) fn cut_front(&mut self) {
        self.bytes.drain(..self.start);
        self.sent -= self.start;
        self.hold_at = self.hold_at.map(|hold| hold - self.start);
        self.start = 0;
    }

    /// Takes back what was sent from the first entry on that `is_it`, and holds nothing back.
    pub(super) fn rewind(&mut self, is_it: impl Fn(&Entry) -> bool) {
        let mut offset = self.start;
        for entry in &self.entries {
            if is_it(entry) {
                break;
            }
            offset += entry.length;
        }
        self.sent = offset;
        self.hold_at = None;
    }

    /// Commands that follow `number` and were sent, at least in part.
    pub(super) fn commands_sent_after(&self, number: u64) -> usize {
        let mut offset = self.start;
        let mut count = 0;
        for entry in &self.entries {
            if offset >= self.sent {
                break;
            }
            count += usize::from(entry.number & QUERY == 0 && entry.number > number);
            offset += entry.length;
        }
        count
    }

    /// Puts a refused query at the end.
    pub(super) fn send_again(&mut self, number: u64) {
        let mut offset = self.start;
        for at in 0..self.entries.len() {
            let length = self.entries[at].length;
            if self.entries[at].number == number && !self.entries[at].done {
                self.bytes.extend_from_within(offset..offset + length);
                self.entries[at].done = true;
                // The old entry must not be found any more.
                self.entries[at].number = 0;
                self.entries.push_back(Entry {
                    number,
                    length,
                    next_index: 0,
                    done: false,
                });
                self.forget_done();
                return;
            }
            offset += length;
        }
    }

    /// Forgets the commands from `number` on. Queries among them are forgotten as well when they
    /// were not sent.
    pub(super) fn give_up_from(&mut self, number: u64) {
        for entry in &mut self.entries {
            if entry.number & QUERY == 0 && entry.number >= number {
                entry.done = true;
                entry.number = 0;
            }
        }
        // What was not sent must not be sent now.
        let mut offset = self.start;
        let mut keep = 0;
        for entry in &self.entries {
            if offset >= self.sent {
                break;
            }
            offset += entry.length;
            keep += 1;
        }
        self.entries.truncate(keep);
        self.bytes.truncate(offset);
        self.forget_done();
    }
}
