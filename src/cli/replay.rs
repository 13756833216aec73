//! `millrace replay`: rebuild the state from snapshot and journal.

use super::terminal::{Progress, grouped, hex};
use super::{CliError, settings};
use crate::engine::{Engine, Limits, Take};
use crate::protocol::command::CommandKind;
use crate::protocol::frame::{CommandRef, EventSlot};
use crate::protocol::json::EventPrinter;
use crate::replay::snapshot_store::{self, Passage};
use crate::replay::{Watcher, follow};
use crate::session::SessionTable;
use millrace_journal::Reader;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Rebuild the state from snapshot and journal; print its digest, counts and the speed.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace replay --dir /var/lib/millrace --to 1000000")]
pub(crate) struct Args {
    /// Directory of journal and snapshots
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    archive: settings::ArchiveArgs,
    /// Last command to replay
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// Print every event as a JSON line instead; replays from the journal's beginning
    #[arg(long)]
    events: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let limits = settings::limits_of(&args.dir)?;
    let journal = args.archive.journal_of(&args.dir)?;
    let last = last_sequence(&args.dir)?;
    if let Some(to) = args.to.filter(|to| *to > last) {
        return Err(CliError::Failed(format!(
            "the journal ends at sequence {last}, before --to {to}"
        )));
    }
    let to = args.to.unwrap_or(last);
    let (mut engine, mut sessions, snapshot) = if args.events {
        (Engine::new(&limits), SessionTable::new(SESSIONS), None)
    } else {
        start_of(&args.dir, to, &limits)?
    };
    if to - snapshot.unwrap_or(0) >= LONG {
        engine.take_memory(Take::AsTouched);
    }
    let mut watcher = ReplayWatcher {
        bar: Progress::new(to, "commands"),
        counts: vec![0; CommandKind::ALL.len()],
        printer: args.events.then(EventPrinter::default),
        text: String::new(),
        reader_gone: false,
    };
    let followed = follow(journal, Some(to), &mut engine, &mut sessions, &mut watcher);
    if watcher.reader_gone {
        return Err(CliError::ReaderGone);
    }
    let followed = followed.map_err(CliError::failed)?;
    if args.events {
        return watcher.flush();
    }
    let ReplayWatcher { counts, .. } = watcher;
    let seconds = followed.elapsed.as_secs_f64().max(1e-9);
    let mut out = std::io::stdout().lock();
    writeln!(out, "digest {}", hex(&engine.digest()))?;
    writeln!(out, "sequence {}", engine.sequence())?;
    writeln!(out, "now {}", engine.now())?;
    if let Some(snapshot) = snapshot {
        writeln!(out, "from snapshot {snapshot}")?;
    }
    writeln!(
        out,
        "replayed {} commands in {seconds:.3} s, {} commands/s",
        grouped(followed.commands),
        grouped((followed.commands as f64 / seconds) as u64)
    )?;
    for (kind, count) in CommandKind::ALL.iter().zip(counts) {
        if count > 0 {
            writeln!(out, "  {kind} {}", grouped(count))?;
        }
    }
    Ok(())
}

/// Sessions a follower keeps track of: as many as any node may.
pub(super) const SESSIONS: u32 = 65_536;

/// From this many commands on, a replay wants huge pages; a short one would only zero them.
pub(super) const LONG: u64 = 200_000;

/// The last sequence of the journal in `dir`.
pub(super) fn last_sequence(dir: &Path) -> Result<u64, CliError> {
    let reader = Reader::open(dir).map_err(CliError::failed)?;
    Ok(reader.last_sequence())
}

/// The newest good snapshot up to `to`, or an empty engine.
pub(super) fn start_of(
    dir: &Path,
    to: u64,
    limits: &Limits,
) -> Result<(Engine, SessionTable, Option<u64>), CliError> {
    start_with(dir, to, limits, None)
}

/// As [`start_of`], at so many bytes a second.
pub(super) fn start_with(
    dir: &Path,
    to: u64,
    limits: &Limits,
    per_second: Option<NonZeroU64>,
) -> Result<(Engine, SessionTable, Option<u64>), CliError> {
    let mut bar = Progress::of_bytes(Some(0), "of snapshot read");
    let mut passage = Passage {
        per_second,
        heard: Some(&mut |passed, of| {
            bar.set_total(of.unwrap_or(0));
            bar.at(passed);
        }),
    };
    let (loaded, notes) = snapshot_store::load_newest_with(dir, to, limits, SESSIONS, &mut passage)
        .map_err(|error| CliError::Failed(format!("cannot list snapshots: {error}")))?;
    drop(bar);
    for note in notes
        .iter()
        .filter(|note| !note.contains("the journal ends at"))
    {
        eprintln!("millrace: {note}");
    }
    Ok(match loaded {
        Some(loaded) => (loaded.engine, loaded.sessions, Some(loaded.sequence)),
        None => (Engine::new(limits), SessionTable::new(SESSIONS), None),
    })
}

struct ReplayWatcher {
    bar: Progress,
    /// Commands by kind, in the order of [`CommandKind::ALL`].
    counts: Vec<u64>,
    printer: Option<EventPrinter>,
    text: String,
    reader_gone: bool,
}

impl ReplayWatcher {
    fn flush(&mut self) -> Result<(), CliError> {
        std::io::stdout().write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }
}

impl Watcher for ReplayWatcher {
    fn command(
        &mut self,
        _sequence: u64,
        command: CommandRef<'_>,
        events: &[EventSlot],
        _engine: &Engine,
    ) -> Result<(), String> {
        // Journaled kinds have dense codes from 1 on, in the order of ALL.
        if let Some(count) = self.counts.get_mut(usize::from(command.header.kind) - 1) {
            *count += 1;
        }
        let Some(printer) = &mut self.printer else {
            return Ok(());
        };
        for event in events {
            printer.print(&mut self.text, event);
        }
        if self.text.len() > 1 << 16 && self.flush().is_err() {
            self.reader_gone = true;
            return Err("nobody reads".into());
        }
        Ok(())
    }

    fn progress(&mut self, sequence: u64) {
        self.bar.at(sequence);
    }
}
