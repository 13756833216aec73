//! What a client knows: every command it sent and everything it was told, written down at once.
//!
//! One file per session, one line per fact. A line is written before the client goes on, so what a
//! client was told is there whatever becomes of it. The checker reads these files and nothing else of
//! the clients.
//!
//! ```text
//! S 17 9c0f5e21a4d0b377         sent as number 17; a hash of kind and body
//! R 17                          17 was refused, or never arrived: it must not be executed
//! A 17 {"seq":42,"event":...}   one event of the answer to 17
//! D 17 42 05cd3f1172ab90e4      that was all of it: command 42 of the journal; a hash of the lines
//! T 15 16                       15 and 16 were taken; what they were answered is not known
//! W 42 05cd3f1172ab90e4         all events of command 42 were watched
//! ```

use millrace::protocol::frame::{EventSlot, HEADER_BYTES};
use millrace::protocol::json::EventPrinter;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

/// One session's record.
pub struct Record {
    file: File,
    lines: String,
    /// Whether the events are written out, too.
    in_full: bool,
    /// Answers that have begun.
    open: HashMap<u64, Vec<EventSlot>>,
    /// Events of the command that is being watched.
    watched: Vec<EventSlot>,
}

impl Record {
    /// The record of `session` in `dir`; goes on with one that is there. `in_full`: with the events as
    /// they came, not only a hash of them.
    pub fn open(dir: &Path, session: u64, in_full: bool) -> Result<Record, String> {
        let path = dir.join(format!("{session:016x}.record"));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        Ok(Record {
            file,
            lines: String::new(),
            in_full,
            open: HashMap::new(),
            watched: Vec::new(),
        })
    }

    /// A command goes out as `number`.
    pub fn sent(&mut self, number: u64, frame: &[u8]) {
        let _ = writeln!(self.lines, "S {number} {:016x}", hash_of(frame));
    }

    /// What went out as `number` was refused, or was lost on the way.
    pub fn refused(&mut self, number: u64) {
        let _ = writeln!(self.lines, "R {number}");
    }

    /// One event of an answer has come. True when it was the last.
    pub fn event(&mut self, event: &EventSlot) -> bool {
        let header = &event.header;
        let number = header.client_sequence;
        let events = self.open.entry(number).or_default();
        if header.index == 0 {
            // An answer that broke off is told again from its beginning.
            events.clear();
        }
        events.push(*event);
        if !event.is_last() {
            return false;
        }
        let text = text_of(&self.open.remove(&number).unwrap_or_default());
        if self.in_full {
            for line in text.lines() {
                let _ = writeln!(self.lines, "A {number} {line}");
            }
        }
        let hash = fnv(FNV_START, text.as_bytes());
        let _ = writeln!(self.lines, "D {number} {} {hash:016x}", header.sequence);
        true
    }

    /// Commands `from` to `to` were taken, and their answers are gone.
    pub fn taken(&mut self, from: u64, to: u64) {
        self.open.retain(|number, _| !(from..=to).contains(number));
        let _ = writeln!(self.lines, "T {from} {to}");
    }

    /// An event that was watched. True when it was the last of its command.
    pub fn watched(&mut self, event: &EventSlot) -> bool {
        if event.header.index == 0 {
            self.watched.clear();
        }
        self.watched.push(*event);
        if !event.is_last() {
            return false;
        }
        let hash = fnv(FNV_START, text_of(&self.watched).as_bytes());
        let _ = writeln!(self.lines, "W {} {hash:016x}", event.header.sequence);
        self.watched.clear();
        true
    }

    /// Writes what was noted.
    pub fn write(&mut self) -> Result<(), String> {
        let written = self.file.write_all(self.lines.as_bytes());
        self.lines.clear();
        written.map_err(|error| format!("cannot write a client's record: {error}"))
    }
}

/// The events as `millrace replay --events` prints them.
pub fn text_of(events: &[EventSlot]) -> String {
    let (mut text, mut printer) = (String::new(), EventPrinter::default());
    for event in events {
        printer.print(&mut text, event);
    }
    text
}

/// A hash (FNV-1a) of a command's kind and body: what the journal must hold of it.
pub fn hash_of(frame: &[u8]) -> u64 {
    let kind = &frame[4..6];
    fnv(fnv(FNV_START, kind), &frame[HEADER_BYTES..])
}

/// Where a hash begins.
pub const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash of more bytes.
pub fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
