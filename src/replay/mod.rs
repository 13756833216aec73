//! Replay: the one loop that turns a journal back into state.
//!
//! Recovery, `replay`, `verify` and `snapshot` are this loop with different watchers: records are
//! read and checked ahead (`read_ahead`), the engine is shown what comes a few commands later and
//! applies the next, and the watcher gets the command and its events. It never writes and may run
//! beside a live node.

pub mod limits_file;
mod read_ahead;
pub mod recovery;
pub mod snapshot_files;
pub mod snapshot_store;

use crate::engine::{Engine, Outbox};
use crate::protocol::frame::{CommandRef, EventSlot, FrameError};
use crate::session::SessionTable;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{ReadError, Reader};
use read_ahead::Commands;
use std::path::PathBuf;
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
    /// How much of that it waited for records to be read and checked.
    pub waited: Duration,
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
    /// The system gave no thread to read on.
    Thread(std::io::Error),
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
            FollowError::Thread(error) => write!(f, "cannot start a thread to read on: {error}"),
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
            FollowError::Thread(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ReadError> for FollowError {
    fn from(error: ReadError) -> FollowError {
        FollowError::Read(error)
    }
}

/// Applies every command of a journal (in a directory, or with an archive beside it) behind the
/// engine's present sequence, up to and with `to` (all where `None`), to `engine` and `sessions`.
pub fn follow(
    files: impl Into<MappedFiles>,
    to: Option<u64>,
    engine: &mut Engine,
    sessions: &mut SessionTable,
    watcher: &mut impl Watcher,
) -> Result<Followed, FollowError> {
    let mut reader = Reader::open(files)?;
    follow_from_start(&mut reader, to, engine, sessions, watcher)
}

/// As [`follow`], with a reader that stands at the journal's first record.
pub fn follow_from_start(
    reader: &mut Reader,
    to: Option<u64>,
    engine: &mut Engine,
    sessions: &mut SessionTable,
    watcher: &mut impl Watcher,
) -> Result<Followed, FollowError> {
    let before = engine.sequence();
    // From the very beginning, too: it may have been archived.
    if to.is_none_or(|to| to > before) {
        reader.seek(before + 1)?;
    }
    follow_on(reader, to, engine, sessions, watcher)
}

/// Applies every command that `reader` has left for now, up to and with `to` (all where `None`), to
/// `engine`, which stands right before them. It may be called again with the same reader: for those
/// that come behind `to`, or when the journal has grown.
pub fn follow_on(
    reader: &mut Reader,
    to: Option<u64>,
    engine: &mut Engine,
    sessions: &mut SessionTable,
    watcher: &mut impl Watcher,
) -> Result<Followed, FollowError> {
    let before = engine.sequence();
    let to = to.unwrap_or(u64::MAX);
    let started = Instant::now();
    let mut waited = Duration::ZERO;
    if to > before {
        let mut follower = Follower {
            engine: &mut *engine,
            sessions,
            watcher,
            outbox: Outbox::with_capacity(1_024),
            reported: started,
        };
        waited = read_ahead::each_batch(reader, to, |commands| follower.apply_all(commands))?;
    }
    Ok(Followed {
        commands: engine.sequence() - before,
        last_sequence: engine.sequence(),
        elapsed: started.elapsed(),
        waited,
    })
}

/// How many commands ahead of the one applied the engine is shown what comes, to warm where its
/// lookups begin, what they find, and what that leads to: as a node's executor does it.
const LOOKUPS_AHEAD: usize = 8;
/// How many before that its own bytes are brought near.
const BYTES_AHEAD: usize = 16;
const ROWS_AHEAD: usize = 4;
const LED_TO_AHEAD: usize = 2;
/// Commands shown in one go.
const LOOKUPS_AT_ONCE: usize = 4;
const SEATS: usize = 16;
const _: () = assert!(LOOKUPS_AHEAD + LOOKUPS_AT_ONCE <= SEATS);

struct Follower<'a, W> {
    engine: &'a mut Engine,
    sessions: &'a mut SessionTable,
    watcher: &'a mut W,
    outbox: Outbox,
    reported: Instant,
}

impl<W: Watcher> Follower<'_, W> {
    fn apply_all(&mut self, commands: &Commands) -> Result<(), FollowError> {
        let commands = commands.all();
        // Seats of the commands that come next; `seated` have been looked at so far.
        let mut ahead = [None; SEATS];
        let mut seated = 0;
        for at in 0.. {
            if at % LOOKUPS_AT_ONCE == 0 {
                while seated < at + LOOKUPS_AHEAD + LOOKUPS_AT_ONCE {
                    commands.hint(seated + BYTES_AHEAD);
                    let next = commands.get(seated);
                    if let Some((_, command)) = next {
                        self.engine.prefetch_lookups(command);
                    }
                    ahead[seated % SEATS] = next;
                    seated += 1;
                }
            }
            let Some((sequence, command)) = ahead[at % SEATS] else {
                break;
            };
            if let Some((_, command)) = ahead[(at + ROWS_AHEAD) % SEATS] {
                self.engine.prefetch_rows(command);
            }
            if let Some((_, command)) = ahead[(at + LED_TO_AHEAD) % SEATS] {
                self.engine.prefetch_led_to(command);
            }
            self.apply(sequence, command)?;
        }
        Ok(())
    }

    #[inline(always)]
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
