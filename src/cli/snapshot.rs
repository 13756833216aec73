//! `millrace snapshot`: the state as of the journal's end, beside a running node.
//!
//! The node must not feel it: the follower stands back, and what it reads and writes goes at a pace.

use super::replay::{LONG, last_sequence, start_with};
use super::terminal::{Progress, grouped, hex};
use super::{CliError, settings};
use crate::background::{Pace, forget_file, stand_back};
use crate::engine::{Engine, Take};
use crate::protocol::frame::{CommandRef, EventSlot};
use crate::replay::snapshot_store::{self, Passage};
use crate::replay::{Watcher, follow};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Write a snapshot from the journal without touching a running node. The next start uses it.
///
/// It runs when nobody else wants the core and the disk, and reads and writes at a pace, so that a
/// node beside it does not feel it. Give it a core that is not the node's with taskset.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace snapshot --dir /var/lib/millrace
  taskset -c 0 millrace snapshot --dir /var/lib/millrace --pace 50
  millrace snapshot --dir /var/lib/millrace --fast")]
pub(crate) struct Args {
    /// Directory of journal and snapshots
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Megabytes a second to read and write at most
    #[arg(long, value_name = "MB", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pace: u64,
    /// As fast as it goes, at the usual priority: for a node that is stopped
    #[arg(long, conflicts_with = "pace")]
    fast: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let per_second = match args.fast {
        true => None,
        false => NonZeroU64::new(args.pace * 1_000_000),
    };
    if per_second.is_some()
        && let Err(error) = stand_back()
    {
        eprintln!("millrace: the system does not let it stand back as far as it should: {error}");
    }
    let limits = settings::limits_of(&args.dir)?;
    let last = last_sequence(&args.dir)?;
    let (mut engine, mut sessions, from) = start_with(&args.dir, last, &limits, per_second)?;
    if from == Some(last) {
        say!("snapshot {last} is there already");
        return Ok(());
    }
    if last == 0 {
        return Err(CliError::Failed(
            "the journal holds no command yet: there is nothing to keep".into(),
        ));
    }
    if last - from.unwrap_or(0) >= LONG {
        engine.take_memory(Take::AsTouched);
    }
    let mut watcher = Following {
        bar: Progress::new(last, "commands"),
        pace: per_second.map(Pace::new),
        bytes: 0,
    };
    follow(
        &args.dir,
        Some(last),
        &mut engine,
        &mut sessions,
        &mut watcher,
    )
    .map_err(CliError::failed)?;
    drop(watcher);
    if per_second.is_some() {
        forget_old_segments(&args.dir);
    }
    // A snapshot of a broken state would hide the break from every later start.
    engine
        .audit()
        .map_err(|why| CliError::Failed(format!("not written, the audit fails: {why}")))?;
    let mut bar = Progress::of_bytes(None, "written");
    let mut passage = Passage {
        per_second,
        heard: Some(&mut |passed, _| bar.at(passed)),
    };
    let written = snapshot_store::write_with(&args.dir, &engine, &sessions, &mut passage)
        .map_err(CliError::failed)?;
    drop(bar);
    say!(
        "wrote {} ({} bytes) after command {}",
        written.path.display(),
        grouped(written.bytes),
        grouped(written.sequence)
    );
    say!("digest {}", hex(&written.digest));
    Ok(())
}

/// Segments behind the newest two have been read, and the next start begins after them: the memory
/// they take in the system's cache is better used by others.
fn forget_old_segments(dir: &Path) {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut segments: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "segment"))
        .collect();
    // Their names are numbers of one length.
    segments.sort_unstable();
    let old = segments.len().saturating_sub(2);
    segments[..old].iter().for_each(|path| forget_file(path));
}

/// Commands are applied at the pace, too: it is that of reading them.
struct Following {
    bar: Progress,
    pace: Option<Pace>,
    /// Bytes of commands since the last rest.
    bytes: u64,
}

/// Bytes of commands between two rests.
const REST_EVERY: u64 = 256 << 10;

impl Watcher for Following {
    fn command(
        &mut self,
        _sequence: u64,
        command: CommandRef<'_>,
        _events: &[EventSlot],
        _engine: &Engine,
    ) -> Result<(), String> {
        self.bytes += u64::from(command.header.length);
        if self.bytes >= REST_EVERY {
            if let Some(pace) = &mut self.pace {
                pace.pass(self.bytes);
            }
            self.bytes = 0;
        }
        Ok(())
    }

    fn progress(&mut self, sequence: u64) {
        self.bar.at(sequence);
    }
}
