//! `millrace snapshot`: the state as of the journal's end, beside a running node.

use super::replay::{last_sequence, start_of};
use super::terminal::{Progress, grouped, hex};
use super::{CliError, settings};
use crate::replay::{Watcher, follow, snapshot_store};
use std::path::PathBuf;

/// Write a snapshot from the journal without touching a running node. The next start uses it.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace snapshot --dir /var/lib/millrace")]
pub(crate) struct Args {
    /// Directory of journal and snapshots
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let limits = settings::limits_of(&args.dir)?;
    let last = last_sequence(&args.dir)?;
    let (mut engine, mut sessions, from) = start_of(&args.dir, last, &limits)?;
    if from == Some(last) {
        say!("snapshot {last} is there already");
        return Ok(());
    }
    if last == 0 {
        return Err(CliError::Failed(
            "the journal holds no command yet: there is nothing to keep".into(),
        ));
    }
    let mut bar = Bar(Progress::new(last, "commands"));
    follow(&args.dir, Some(last), &mut engine, &mut sessions, &mut bar)
        .map_err(CliError::failed)?;
    drop(bar);
    // A snapshot of a broken state would hide the break from every later start.
    engine
        .audit()
        .map_err(|why| CliError::Failed(format!("not written, the audit fails: {why}")))?;
    let written = snapshot_store::write(&args.dir, &engine, &sessions).map_err(CliError::failed)?;
    say!(
        "wrote {} ({} bytes) after command {}",
        written.path.display(),
        grouped(written.bytes),
        grouped(written.sequence)
    );
    say!("digest {}", hex(&written.digest));
    Ok(())
}

struct Bar(Progress);

impl Watcher for Bar {
    fn progress(&mut self, sequence: u64) {
        self.0.at(sequence);
    }
}
