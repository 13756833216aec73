//! Replay: the one loop that turns a journal back into state.
//!
//! Recovery, `replay`, `verify` and `snapshot` are this loop with different watchers: read a
//! record, check its frame, show the engine what comes a few records later, apply, hand the
//! command and its events to the watcher. It never writes and may run beside a live node.

pub mod limits_file;
pub mod recovery;
pub mod snapshot_store;

use crate::engine::{Engine, Outbox};
use crate::protocol::command::CommandKind;
use crate::protocol::frame::{CommandRef, EventSlot, FrameError};
use crate::protocol::record::unfold;
use crate::session::SessionTable;
use millrace_journal::{ReadError, Reader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Sees every command with its events.
pub trait Watcher {
    /// One command was applied; `engine` stands right after it. An error ends the replay there.
    fn command(
        &mut self,
        sequence: u64,
        command: CommandRef<'_>,
        events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        let _ = (sequence, command, events, engine);
        Ok(())
    }

    /// Called about ten times a second with the last sequence applied.
    fn progress(&mut self, sequence: u64) {
        let _ = sequence;
    }
}

/// Looks at nothing.
pub struct Nobody;

impl Watcher for Nobody {}

/// What a replay did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Followed {
    /// Commands applied.
    pub commands: u64,
    /// Sequence of the last one (where the engine stood before, if none was).
    pub last_sequence: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why a replay stopped.
#[derive(Debug)]
pub enum FollowError {
    /// The journal could not be read, or is broken.
    Read(ReadError),
    /// A record is not a command this release understands.
    BadCommand {
        /// The segment file.
        file: PathBuf,
        /// Where in it the record begins, bytes.
        offset: u64,
        /// The record.
        sequence: u64,
        /// What is wrong with it.
        error: NotACommand,
    },
    /// The watcher had enough.
    Watcher {
        /// The command it saw last.
        sequence: u64,
        /// What it said.
        why: String,
    },
}

/// Why a record is no command to replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotACommand {
    /// It is not a frame this release understands.
    Frame(FrameError),
    /// It is a query, which no node journals.
    Query,
}

impl std::fmt::Display for NotACommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotACommand::Frame(error) => error.fmt(f),
            NotACommand::Query => f.write_str("it is a query, which no node journals"),
        }
    }
}

impl From<FrameError> for NotACommand {
    fn from(error: FrameError) -> NotACommand {
        NotACommand::Frame(error)
    }
}

impl std::fmt::Display for FollowError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FollowError::Read(error) => error.fmt(f),
            FollowError::BadCommand {
                file,
                offset,
                sequence,
                error,
            } => write!(
                f,
                "{} offset {offset}: record {sequence} is no command to replay: {error}",
                file.display()
            ),
            FollowError::Watcher { sequence, why } => {
                write!(f, "after command {sequence}: {why}")
            }
        }
    }
}

impl std::error::Error for FollowError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FollowError::Read(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ReadError> for FollowError {
    fn from(error: ReadError) -> FollowError {
        FollowError::Read(error)
    }
}

/// Applies every command of the journal in `dir` behind the engine's present sequence, up to and
/// with `to` (all where `None`), to `engine` and `sessions`.
pub fn follow(
    dir: &Path,
    to: Option<u64>,
    engine: &mut Engine,
    sessions: &mut SessionTable,
    watcher: &mut impl Watcher,
) -> Result<Followed, FollowError> {
    let mut reader = Reader::open(dir)?;
    let before = engine.sequence();
    if to.is_none_or(|to| to > before) && before > 0 {
        reader.seek(before + 1)?;
    }
    follow_with(&mut reader, to, engine, sessions, watcher)
}

/// Applies every command that `reader` has left for now to `engine`, which stands right before
/// them. When the journal has grown it may be called again with the same reader.
pub fn follow_on(
    reader: &mut Reader,
    engine: &mut Engine,
    sessions: &mut SessionTable,
    watcher: &mut impl Watcher,
) -> Result<Followed, FollowError> {
    follow_with(reader, None, engine, sessions, watcher)
}

fn follow_with(
    reader: &mut Reader,
    to: Option<u64>,
    engine: &mut Engine,
    sessions: &mut SessionTable,
    watcher: &mut impl Watcher,
) -> Result<Followed, FollowError> {
    let before = engine.sequence();
    let to = to.unwrap_or(u64::MAX);
    let started = Instant::now();
    if to > before {
        Follower {
            to,
            engine,
            sessions,
            watcher,
            outbox: Outbox::with_capacity(1_024),
            reported: started,
        }
        .run(reader)?;
    }
    Ok(Followed {
        commands: engine.sequence() - before,
        last_sequence: engine.sequence(),
        elapsed: started.elapsed(),
    })
}

/// Records looked at ahead of the one applied, and the distance at which their rows are warmed.
const LOOKUPS_AHEAD: usize = 8;
const ROWS_AHEAD: usize = 4;

struct Follower<'a, W> {
    to: u64,
    engine: &'a mut Engine,
    sessions: &'a mut SessionTable,
    watcher: &'a mut W,
    outbox: Outbox,
    reported: Instant,
}

impl<W: Watcher> Follower<'_, W> {
    /// Keeps the next records in a ring of copies: the reader lends one record at a time, and the
    /// engine wants to see what comes.
    fn run(mut self, reader: &mut Reader) -> Result<(), FollowError> {
        let mut ahead: [Copied; LOOKUPS_AHEAD] = Default::default();
        for copied in &mut ahead {
            self.fill(reader, copied)?;
        }
        for copied in &ahead[..ROWS_AHEAD] {
            if let Some(command) = copied.command() {
                self.engine.prefetch_rows(command);
            }
        }
        for at in 0.. {
            let next = at % LOOKUPS_AHEAD;
            let sequence = ahead[next].sequence;
            let Some(command) = ahead[next].command() else {
                break;
            };
            self.apply(sequence, command)?;
            self.fill(reader, &mut ahead[next])?;
            if let Some(command) = ahead[(at + 1 + ROWS_AHEAD) % LOOKUPS_AHEAD].command() {
                self.engine.prefetch_rows(command);
            }
        }
        Ok(())
    }

    fn fill(&mut self, reader: &mut Reader, copied: &mut Copied) -> Result<(), FollowError> {
        copied.length = 0;
        let record = match reader.next()? {
            Some(record) if record.sequence <= self.to => record,
            _ => return Ok(()),
        };
        if let Err(error) = copied.copy(record.sequence, record.payload) {
            return Err(FollowError::BadCommand {
                file: record.segment.to_owned(),
                offset: record.offset,
                sequence: record.sequence,
                error,
            });
        }
        if let Some(command) = copied.command() {
            self.engine.prefetch_lookups(command);
        }
        Ok(())
    }

    fn apply(&mut self, sequence: u64, command: CommandRef<'_>) -> Result<(), FollowError> {
        self.outbox.clear();
        self.engine.apply(sequence, command, &mut self.outbox);
        self.sessions
            .take(command.header.session, command.header.client_sequence);
        self.watcher
            .command(sequence, command, self.outbox.events(), self.engine)
            .map_err(|why| FollowError::Watcher { sequence, why })?;
        self.engine.forget_postings();
        if sequence.is_multiple_of(4_096) && self.reported.elapsed() > Duration::from_millis(100) {
            self.watcher.progress(sequence);
            self.reported = Instant::now();
        }
        Ok(())
    }
}

/// A record's payload, copied to where it may stay and lies aligned.
#[derive(Default)]
struct Copied {
    words: Vec<u128>,
    length: usize,
    sequence: u64,
}

impl Copied {
    /// Copies and checks a record.
    fn copy(&mut self, sequence: u64, payload: &[u8]) -> Result<(), NotACommand> {
        self.length = unfold(payload, &mut self.words)?;
        self.sequence = sequence;
        let command = CommandRef::from_bytes(self.bytes())?;
        command.decode()?;
        if command.header.kind >= CommandKind::FIRST_QUERY {
            return Err(NotACommand::Query);
        }
        Ok(())
    }

    /// The command, checked when it was copied; `None` behind the journal's end.
    fn command(&self) -> Option<CommandRef<'_>> {
        (self.length > 0).then(|| CommandRef::from_bytes(self.bytes()).expect("checked before"))
    }

    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.length]
    }
}
