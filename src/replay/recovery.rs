//! Recovery: from a directory to a node's state, ready for the next command.
//!
//! Lock and open the journal (which cuts a torn tail and refuses damage), load the newest good
//! snapshot, replay what follows it, and keep the replies of the last commands for clients that
//! come back and ask.

use super::limits_file::{self, LimitsError};
use super::snapshot_store::{self, Passage};
use super::{FollowError, Watcher, follow_on};
use crate::config::{Config, Durability};
use crate::engine::{Engine, Limits, Take};
use crate::pipeline::{Host, Parts, ReplyWindow};
use crate::protocol::RELEASE;
use crate::protocol::frame::{CommandRef, EventSlot};
use crate::session::SessionTable;
use millrace_journal::storage::{MappedFiles, Storage};
use millrace_journal::{OpenError, Options, Reader, Recovered, Writer};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// What a recovery found and did.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Whether the journal was begun just now.
    pub created: bool,
    /// The last command.
    pub sequence: u64,
    /// The command of the snapshot it began from, if there was one.
    pub snapshot: Option<u64>,
    /// Commands replayed.
    pub replayed: u64,
    /// How long all of it took.
    pub elapsed: Duration,
    /// What an operator should know: a torn tail that was cut, a snapshot that was passed over.
    pub notes: Vec<String>,
}

impl std::fmt::Display for Recovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.created {
            return f.write_str("new journal");
        }
        write!(f, "recovered to sequence {}", self.sequence)?;
        if let Some(snapshot) = self.snapshot {
            write!(f, " (snapshot {snapshot}, {} replayed)", self.replayed)?;
        }
        write!(f, " in {:.3} s", self.elapsed.as_secs_f64())
    }
}

/// Why a node could not come up.
#[derive(Debug)]
pub enum RecoverError {
    /// The journal did not open.
    Open(OpenError),
    /// The snapshots could not be listed.
    Snapshots {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The journal was made with other limits.
    Limits(LimitsError),
    /// The journal did not replay.
    Follow(FollowError),
    /// The journal replayed to another place than where it ends.
    Short {
        /// Where it ends.
        last_sequence: u64,
        /// Where the replay stopped.
        replayed_to: u64,
    },
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecoverError::Open(error) => error.fmt(f),
            RecoverError::Snapshots { dir, source } => {
                write!(f, "cannot list snapshots in {}: {source}", dir.display())
            }
            RecoverError::Limits(error) => error.fmt(f),
            RecoverError::Follow(error) => error.fmt(f),
            RecoverError::Short {
                last_sequence,
                replayed_to,
            } => write!(
                f,
                "the journal ends at sequence {last_sequence} but replayed only to {replayed_to}"
            ),
        }
    }
}

impl std::error::Error for RecoverError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RecoverError::Open(error) => Some(error),
            RecoverError::Snapshots { source, .. } => Some(source),
            RecoverError::Limits(error) => Some(error),
            RecoverError::Follow(error) => Some(error),
            RecoverError::Short { .. } => None,
        }
    }
}

/// Hears how far a recovery has come.
pub trait Listener {
    /// `sequence` of `last_sequence` is applied.
    fn recovering(&mut self, sequence: u64, last_sequence: u64);

    /// `passed` bytes of `of` are read of a snapshot, each of which is read twice.
    fn loading(&mut self, passed: u64, of: u64) {
        let _ = (passed, of);
    }
}

/// Does not listen.
pub struct Silent;

impl Listener for Silent {
    fn recovering(&mut self, _sequence: u64, _last_sequence: u64) {}
}

/// Opens the journal in `config.dir` for writing and brings everything to its end.
///
/// Two things happen at once: one thread checks the journal, this one loads the snapshot and applies
/// what has been checked. Whatever is wrong with the journal is found as if they came one after the
/// other: what was applied ahead is then thrown away with everything else.
pub fn recover(
    config: &Config,
    listener: &mut impl Listener,
) -> Result<(Parts, Recovery), RecoverError> {
    let started = Instant::now();
    let claimed = claim(config)?;
    // What lies before the snapshot needs no second look.
    let newest = snapshot_store::newest_sequence(&config.dir);
    let options = Options {
        check_from: newest + 1,
        ..journal_options(config)
    };
    let (tell, checked) = mpsc::channel();
    let (opened, ahead) = thread::scope(|scope| {
        let check = move || {
            let mut tell_checked = |sequence| {
                // Nobody listens where nothing is applied ahead.
                let _ = tell.send(sequence);
            };
            Writer::open_telling(&config.dir, options, &mut tell_checked)
        };
        let checking = scope.spawn(check);
        let ahead = apply_ahead(config, &checked, listener);
        (checking.join().expect("a panic ends the process"), ahead)
    });
    let (mut writer, journal) = opened.map_err(RecoverError::Open)?;
    let last_sequence = journal.last_sequence;
    limits_file::agree(&config.dir, &config.limits, last_sequence == 0)
        .map_err(RecoverError::Limits)?;
    // It may have been written just now.
    drop(claimed);
    writer.hold(Box::new(claim(config)?));
    let set_aside = set_aside_ahead(config, last_sequence)?;
    let mut state = match ahead.filter(|state| state.fits(last_sequence)) {
        Some(state) => state,
        None => State::begin(config, last_sequence, listener)?,
    };
    state.notes.extend(set_aside);
    state.follow(config, last_sequence, last_sequence, listener)?;
    state.finish(config, writer, &journal, started)
}

/// Locks the file of limits, before a byte of the journal is touched: the writer's own lock is no more one where
/// somebody has removed its file.
fn claim(config: &Config) -> Result<Option<File>, RecoverError> {
    limits_file::claim(&config.dir).map_err(|source| {
        let path = limits_file::path_in(&config.dir);
        if source.kind() != std::io::ErrorKind::WouldBlock {
            return RecoverError::Limits(LimitsError::Io { path, source });
        }
        let files = MappedFiles::at(&config.dir);
        let path = match files.is_locked() {
            true => files.path_of("LOCK"),
            false => path,
        };
        RecoverError::Open(OpenError::DirectoryInUse { path })
    })
}

/// Where a replay begins.
pub struct Start {
    /// The engine.
    pub engine: Engine,
    /// The sessions, as of the same command.
    pub sessions: SessionTable,
    /// The command of the snapshot they are from; `None` where they are new.
    pub snapshot: Option<u64>,
    /// Why newer snapshots were passed over.
    pub notes: Vec<String>,
}

/// The second half of a recovery, on whatever storage the journal is: replays what follows `start`, up to
/// where the opened journal ends.
pub fn rebuild(
    config: &Config,
    writer: Writer,
    journal: &Recovered,
    mut reader: Reader,
    start: Start,
    listener: &mut impl Listener,
) -> Result<(Parts, Recovery), RecoverError> {
    let started = Instant::now();
    let last_sequence = journal.last_sequence;
    let mut state = State::at(config, start, last_sequence);
    let next = state.engine.sequence() + 1;
    if next <= last_sequence {
        reader
            .seek(next)
            .map_err(|error| RecoverError::Follow(FollowError::Read(error)))?;
    }
    state.reader = Some(reader);
    state.follow(config, last_sequence, last_sequence, listener)?;
    state.finish(config, writer, journal, started)
}

/// Applies the records that `checked` says are in order, as it says so. `None` where there is nothing
/// to apply yet, or something is not as it should be: that will be found again, and said, when the
/// journal has been checked.
fn apply_ahead(
    config: &Config,
    checked: &Receiver<u64>,
    listener: &mut impl Listener,
) -> Option<State> {
    // Not beside another node, and not what a newer release wrote.
    checked.recv().ok()?;
    let end = Reader::open(&config.dir).ok()?.last_sequence();
    if limits_file::load(&config.dir).ok()? != config.limits {
        return None;
    }
    let mut state = State::begin(config, end, listener).ok()?;
    while let Ok(mut upto) = checked.recv() {
        while let Ok(later) = checked.try_recv() {
            upto = later;
        }
        state.follow(config, upto, end, listener).ok()?;
    }
    Some(state)
}

/// From this many commands on huge pages pay; a short replay would only zero them.
const LONG: u64 = 200_000;

/// What a recovery builds.
struct State {
    engine: Engine,
    sessions: SessionTable,
    window: ReplyWindow,
    /// The first command whose replies are kept is the one behind it.
    keep_from: u64,
    /// The command of the snapshot it began from, if there was one.
    snapshot: Option<u64>,
    notes: Vec<String>,
    reader: Option<Reader>,
}

impl State {
    /// The newest good snapshot, or nothing, of a journal that ends at `last_sequence`.
    fn begin(
        config: &Config,
        last_sequence: u64,
        listener: &mut impl Listener,
    ) -> Result<State, RecoverError> {
        Ok(State::at(
            config,
            load(config, last_sequence, listener)?,
            last_sequence,
        ))
    }

    /// At `start`, on the way to `last_sequence`.
    fn at(config: &Config, start: Start, last_sequence: u64) -> State {
        let Start {
            mut engine,
            sessions,
            snapshot,
            notes,
        } = start;
        if last_sequence - engine.sequence() >= LONG {
            engine.take_memory(Take::AsTouched);
        }
        let events = config.gateway.reply_window_events as u64;
        let keep_from = engine.sequence().max(last_sequence.saturating_sub(events));
        State {
            engine,
            sessions,
            window: ReplyWindow::new(events as usize, keep_from),
            keep_from,
            snapshot,
            notes,
            reader: None,
        }
    }

    /// Whether it is on the way to `last_sequence`, where the journal turned out to end.
    fn fits(&self, last_sequence: u64) -> bool {
        self.keep_from <= last_sequence && self.engine.sequence() <= last_sequence
    }

    /// Applies the journal up to `to`, on its way to `end`.
    fn follow(
        &mut self,
        config: &Config,
        to: u64,
        end: u64,
        listener: &mut impl Listener,
    ) -> Result<(), RecoverError> {
        if to <= self.engine.sequence() {
            return Ok(());
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(read_from(config, self.engine.sequence() + 1)?),
        };
        let mut keeper = ReplyKeeper {
            window: &mut self.window,
            keep_from: self.keep_from,
            last_sequence: end,
            listener,
        };
        let (engine, sessions) = (&mut self.engine, &mut self.sessions);
        follow_on(reader, Some(to), engine, sessions, &mut keeper)
            .map(|_| ())
            .map_err(RecoverError::Follow)
    }

    /// What a pipeline runs on, if the replay came to where the journal ends.
    fn finish(
        self,
        config: &Config,
        writer: Writer,
        journal: &Recovered,
        started: Instant,
    ) -> Result<(Parts, Recovery), RecoverError> {
        let last_sequence = journal.last_sequence;
        if self.engine.sequence() != last_sequence {
            return Err(RecoverError::Short {
                last_sequence,
                replayed_to: self.engine.sequence(),
            });
        }
        let mut notes = self.notes;
        notes.extend(cut_note(journal));
        let recovery = Recovery {
            created: journal.created,
            sequence: last_sequence,
            snapshot: self.snapshot,
            replayed: last_sequence - self.snapshot.unwrap_or(0),
            elapsed: started.elapsed(),
            notes,
        };
        let parts = Parts {
            engine: self.engine,
            sessions: self.sessions,
            writer,
            journal_dir: config.dir.clone(),
            segment_bytes: config.journal.segment_bytes,
            window: self.window,
            host: Host::default(),
        };
        Ok((parts, recovery))
    }
}

fn read_from(config: &Config, sequence: u64) -> Result<Reader, RecoverError> {
    let open = || {
        let mut reader = Reader::open(&config.dir)?;
        reader.seek(sequence).map(|()| reader)
    };
    open().map_err(|error| RecoverError::Follow(FollowError::Read(error)))
}

/// Once the journal has grown past a snapshot of what it lost, nothing would tell.
fn set_aside_ahead(config: &Config, last_sequence: u64) -> Result<Vec<String>, RecoverError> {
    snapshot_store::set_aside_ahead(&config.dir, last_sequence).map_err(|source| {
        RecoverError::Snapshots {
            dir: config.dir.clone(),
            source,
        }
    })
}

/// The state to begin from: the newest good snapshot, or nothing.
fn load(
    config: &Config,
    last_sequence: u64,
    listener: &mut impl Listener,
) -> Result<Start, RecoverError> {
    let limits = Limits {
        // Drawn anew at every start: what can be seen of the engine does not depend on it.
        lookup_secret: RandomState::new().hash_one(last_sequence),
        ..config.limits.clone()
    };
    let mut passage = Passage {
        heard: Some(&mut |passed, of| listener.loading(passed, of.unwrap_or(passed))),
        ..Passage::default()
    };
    let (loaded, notes) = snapshot_store::load_newest_with(
        &config.dir,
        last_sequence,
        &limits,
        config.sessions,
        &mut passage,
    )
    .map_err(|source| RecoverError::Snapshots {
        dir: config.dir.clone(),
        source,
    })?;
    Ok(match loaded {
        Some(loaded) => Start {
            engine: loaded.engine,
            sessions: loaded.sessions,
            snapshot: Some(loaded.sequence),
            notes,
        },
        None => Start {
            engine: Engine::new(&limits),
            sessions: SessionTable::new(config.sessions),
            snapshot: None,
            notes,
        },
    })
}

/// How the journal is opened under `config`.
pub fn journal_options(config: &Config) -> Options {
    Options {
        segment_bytes: config.journal.segment_bytes,
        durability: match config.durability {
            Durability::Process => millrace_journal::Durability::Process,
            Durability::Disk => millrace_journal::Durability::Disk,
        },
        writer_release: RELEASE,
        ..Options::default()
    }
}

fn cut_note(journal: &Recovered) -> Option<String> {
    let cut = journal.cut.as_ref()?;
    Some(format!(
        "cut a torn tail at sequence {} ({} offset {}): it was never acknowledged",
        cut.sequence,
        cut.path.display(),
        cut.offset
    ))
}

/// Keeps the replies of the last commands.
struct ReplyKeeper<'a, L> {
    window: &'a mut ReplyWindow,
    keep_from: u64,
    last_sequence: u64,
    listener: &'a mut L,
}

impl<L: Listener> Watcher for ReplyKeeper<'_, L> {
    fn command(
        &mut self,
        sequence: u64,
        _command: CommandRef<'_>,
        events: &[EventSlot],
        _engine: &Engine,
    ) -> Result<(), String> {
        if sequence > self.keep_from {
            for event in events {
                self.window.push(event);
            }
        }
        Ok(())
    }

    fn progress(&mut self, sequence: u64) {
        self.listener.recovering(sequence, self.last_sequence);
    }
}
