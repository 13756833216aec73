//! The checker. It knows nothing of the node: it reads what clients wrote down, the journal's records as
//! bytes, and what `millrace replay --events` prints, and holds them against each other.
//!
//! - Every command that was answered is in the journal, under the sequence that the answer named, with
//!   the same kind and body, and its events are the very ones answered.
//! - Every command of which the node said that it was taken is there; none that it refused is.
//! - No client's number is in the journal twice, and nothing is in it that no client sent; what the node
//!   says for itself (session 0) is a tick or the end of a session.
//! - Whoever watched saw every event of a command as it is in the replay.
//! - The sums of every account are those that the events add up to (see `books.rs`).

use super::books::Books;
use super::record::{FNV_START, fnv, hash_of};
use millrace::protocol::record::unfold;
use millrace_journal::Reader;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Commands in the journal.
    pub executed: u64,
    /// Of those, the node's own.
    pub own: u64,
    /// Commands whose answers clients hold.
    pub answered: u64,
    /// Answered, or said to be taken, but not in the journal.
    pub lost: u64,
    /// In the journal more than once.
    pub doubled: u64,
    /// In the journal, but sent by nobody, or refused.
    pub phantom: u64,
    /// In the journal with another body, sequence or other events than were answered or watched.
    pub altered: u64,
    /// Commands that a watcher saw.
    pub watched: u64,
    /// The first few differences, in words.
    pub differences: Vec<String>,
}

impl Findings {
    /// Adds those of another journal.
    pub fn add(&mut self, other: Findings) {
        self.executed += other.executed;
        self.own += other.own;
        self.answered += other.answered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.phantom += other.phantom;
        self.altered += other.altered;
        self.watched += other.watched;
        self.differences.extend(other.differences);
    }

    fn differs(&mut self, what: String) {
        if self.differences.len() < 20 {
            self.differences.push(what);
        }
    }
}

/// What clients know of one command.
#[derive(Default)]
struct Known {
    /// Hashes of what was sent under its number and not refused.
    sent: Vec<u64>,
    /// Journal sequence and hash of the events it was answered with.
    answer: Option<(u64, u64)>,
    /// The node said that it was taken.
    taken: bool,
    /// Where it is in the journal.
    sequence: u64,
}

/// Everything that clients wrote down.
#[derive(Default)]
struct Told {
    commands: HashMap<(u64, u64), Known>,
    /// Journal sequence to the hash of the events that were watched.
    watched: HashMap<u64, u64>,
}

/// Compares the records in `records` with the journal in `journal`. The books stand, afterwards, where
/// the events lead.
pub fn check(
    binary: &Path,
    journal: &Path,
    records: &Path,
    books: &mut Books,
) -> Result<Findings, String> {
    let mut told = Told::default();
    for entry in std::fs::read_dir(records).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        told.read(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut found = Findings::default();
    let mut reader = Reader::open(journal).map_err(|error| error.to_string())?;
    let mut events = Events::of(binary, journal)?;
    let mut words = Vec::new();
    while let Some(record) = reader.next().map_err(|error| error.to_string())? {
        let sequence = record.sequence;
        let length = unfold(record.payload, &mut words).map_err(|error| error.to_string())?;
        let frame = &bytemuck::cast_slice(&words)[..length];
        let lines = events.next(sequence)?;
        found.executed += 1;
        told.compare(sequence, frame, &lines, &mut found);
        books
            .add(frame, &lines)
            .map_err(|why| format!("command {sequence}: {why}"))?;
    }
    events.end()?;
    for ((session, number), known) in &told.commands {
        found.answered += u64::from(known.answer.is_some());
        if known.sequence == 0 && (known.taken || known.answer.is_some()) {
            found.lost += 1;
            found.differs(format!("session {session:x}, command {number} is lost"));
        }
    }
    Ok(found)
}

impl Told {
    /// Reads one session's record.
    fn read(&mut self, path: &Path) -> Result<(), String> {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let session = stem.and_then(|stem| u64::from_str_radix(stem, 16).ok());
        let session = session.ok_or("no session's record")?;
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        for line in BufReader::new(file).lines() {
            let line = line.map_err(|error| error.to_string())?;
            let wrong = || format!("a line that is none: {line}");
            let (what, rest) = line.split_once(' ').ok_or_else(wrong)?;
            if what == "A" {
                continue;
            }
            let mut words = rest.split(' ');
            let mut number = || words.next()?.parse::<u64>().ok();
            let first = number().ok_or_else(wrong)?;
            match what {
                "S" | "R" => {
                    let known = self.commands.entry((session, first)).or_default();
                    if what == "R" {
                        known.sent.clear();
                    } else {
                        known.sent.push(hash(&mut words).ok_or_else(wrong)?);
                    }
                }
                "D" => {
                    let sequence = number().ok_or_else(wrong)?;
                    let hash = hash(&mut words).ok_or_else(wrong)?;
                    let known = self.commands.entry((session, first)).or_default();
                    known.answer = Some((sequence, hash));
                }
                "T" => {
                    for number in first..=number().ok_or_else(wrong)? {
                        self.commands.entry((session, number)).or_default().taken = true;
                    }
                }
                "W" => {
                    let hash = hash(&mut words).ok_or_else(wrong)?;
                    self.watched.insert(first, hash);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(())
    }

    /// Holds one command of the journal, and its events, against what is known of it.
    fn compare(&mut self, sequence: u64, frame: &[u8], lines: &str, found: &mut Findings) {
        let word = |at: usize| u64::from_le_bytes(frame[at..at + 8].try_into().expect("8 bytes"));
        let (session, number) = (word(8), word(16));
        let events = fnv(FNV_START, lines.as_bytes());
        let name = format!("command {sequence} (session {session:x}, number {number})");
        if let Some(watched) = self.watched.get(&sequence) {
            found.watched += 1;
            if *watched != events {
                found.altered += 1;
                found.differs(format!("{name} was watched with other events"));
            }
        }
        if session == 0 {
            found.own += 1;
            return;
        }
        let Some(known) = self.commands.get_mut(&(session, number)) else {
            found.phantom += 1;
            return found.differs(format!("{name} was sent by nobody"));
        };
        if known.sequence != 0 {
            found.doubled += 1;
            let first = known.sequence;
            return found.differs(format!("{name} was executed before, as {first}"));
        }
        known.sequence = sequence;
        if !known.sent.contains(&hash_of(frame)) {
            found.phantom += 1;
            return found.differs(format!("{name} was not sent like that, or was refused"));
        }
        match known.answer {
            Some(answer) if answer != (sequence, events) => {
                found.altered += 1;
                found.differs(format!(
                    "{name} was answered as command {} with other events: {lines}",
                    answer.0
                ));
            }
            _ => {}
        }
    }
}

fn hash<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<u64> {
    u64::from_str_radix(words.next()?, 16).ok()
}

/// The events of a journal, command by command, as `millrace replay --events` prints them.
struct Events {
    child: std::process::Child,
    out: BufReader<std::process::ChildStdout>,
    /// The first line of the next command.
    line: String,
}

impl Events {
    fn of(binary: &Path, journal: &Path) -> Result<Events, String> {
        let mut child = Command::new(binary)
            .args(["replay", "--events", "--dir"])
            .arg(journal)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {}: {error}", binary.display()))?;
        let out = child.stdout.take().ok_or("no pipe")?;
        let mut events = Events {
            child,
            out: BufReader::with_capacity(1 << 20, out),
            line: String::new(),
        };
        events.read()?;
        Ok(events)
    }

    fn read(&mut self) -> Result<(), String> {
        self.line.clear();
        let read = self.out.read_line(&mut self.line);
        read.map(drop).map_err(|error| error.to_string())
    }

    /// The lines of command `sequence`.
    fn next(&mut self, sequence: u64) -> Result<String, String> {
        let head = format!("{{\"seq\":{sequence},");
        let mut lines = String::new();
        while self.line.starts_with(&head) {
            lines.push_str(&self.line);
            self.read()?;
        }
        if lines.is_empty() {
            return Err(format!(
                "the replay has no event of command {sequence}: {}",
                self.line
            ));
        }
        Ok(lines)
    }

    fn end(mut self) -> Result<(), String> {
        if !self.line.is_empty() {
            return Err(format!("the replay goes on: {}", self.line));
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("millrace replay: {other:?}")),
        }
    }
}
