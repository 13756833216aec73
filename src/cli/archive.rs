//! `millrace archive`: moving what no start needs any more out of a node's directory.

use super::terminal::{Progress, grouped};
use super::{CliError, settings};
use crate::config::Config;
use crate::history::{History, HistoryError};
use crate::replay::{limits_file, snapshot_store};
use millrace_journal::{ArchiveError, Moved, Reader, archivable, archive, check_destination};
use std::path::{Path, PathBuf};

/// Move the journal's segments that lie wholly before the oldest kept snapshot to another directory.
///
/// Kept are the newest good snapshots, as many as the configuration says (snapshots.keep) or --keep.
/// A node starts from any of them without the archived segments, running or not it may go on
/// meanwhile, and whatever ends this in the middle, doing it again goes on. Nothing is moved where no
/// good snapshot is, nor what a history in the directory has not read yet.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace snapshot --dir /var/lib/millrace && \\\n  millrace archive --dir /var/lib/millrace --to /mnt/archive/millrace\n  millrace verify --dir /var/lib/millrace --archive /mnt/archive/millrace"
)]
pub(crate) struct Args {
    /// Directory of journal and snapshots
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Where the segments go; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Configuration file that says how many snapshots are kept
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Newest good snapshots that are kept, whatever the configuration says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Say what would be moved, and move nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    settings::limits_of(&args.dir)?;
    refuse_places(&args.dir, &args.to)?;
    let keep = match (args.keep, &args.config) {
        (Some(keep), _) => keep,
        (None, Some(path)) => {
            let config = Config::read(path).map_err(|error| CliError::Usage(error.to_string()))?;
            config.snapshots.keep
        }
        (None, None) => Config::default().snapshots.keep,
    };
    let kept = Kept::find(&args.dir, keep as usize)?;
    let planned = archivable(&args.dir, kept.oldest).map_err(CliError::failed)?;
    if planned.segments.is_empty() {
        say!(
            "nothing to move: no segment ends before {}",
            kept.describe()
        );
        return Ok(());
    }
    refuse_unread(&args.dir, &kept, &planned)?;
    if args.dry_run {
        say!("would move {}", sentence(&planned, &args.to));
        say!("they end before {}", kept.describe());
        return Ok(());
    }
    let mut bar = Progress::new(planned.segments.len() as u64, "segments");
    let moved = archive(&args.dir, &args.to, kept.oldest, &mut |done, all| {
        bar.set_total(all);
        bar.at(done);
    });
    drop(bar);
    let moved = moved.map_err(CliError::failed)?;
    if moved.segments.is_empty() {
        say!("nothing to move: another archive has moved them meanwhile");
        return Ok(());
    }
    say!("moved {}", sentence(&moved, &args.to));
    say!("they end before {}", kept.describe());
    Ok(())
}

/// Refuses a place that is none for an archive, whether or not anything is to be moved.
fn refuse_places(dir: &Path, to: &Path) -> Result<(), CliError> {
    check_destination(dir, to).map_err(|error| match error {
        ArchiveError::SamePlace { .. } => CliError::Usage(format!("--to {error}")),
        error => CliError::failed(error),
    })?;
    let snapshots = match snapshot_store::list(to) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(CliError::Failed(format!(
                "cannot list {}: {error}",
                to.display()
            )));
        }
    };
    let limits = limits_file::path_in(to);
    let found = limits.is_file().then_some(limits);
    match found.or(snapshots.into_iter().next().map(|(_, path)| path)) {
        Some(path) => Err(CliError::failed(ArchiveError::Used { path })),
        None => Ok(()),
    }
}

fn sentence(moved: &Moved, to: &Path) -> String {
    let first = moved.segments.first().copied().unwrap_or(0);
    let last = moved.segments.last().copied().unwrap_or(0);
    format!(
        "segments {first} to {last} ({} bytes, commands up to {}) to {}",
        grouped(moved.bytes),
        grouped(moved.last_sequence),
        to.display()
    )
}

/// The snapshots that a start may need.
struct Kept {
    /// Their commands, newest first.
    all: Vec<u64>,
    /// The command of the oldest.
    oldest: u64,
}

impl Kept {
    /// The newest `keep` snapshots in `dir` that are whole and of this journal. Damaged ones do not
    /// count, and are named.
    fn find(dir: &Path, keep: usize) -> Result<Kept, CliError> {
        let reader = Reader::open(dir).map_err(CliError::failed)?;
        let (journal_id, last) = (reader.journal_id(), reader.last_sequence());
        drop(reader);
        let listed = snapshot_store::list(dir)
            .map_err(|error| CliError::Failed(format!("cannot list snapshots: {error}")))?;
        let mut all = Vec::new();
        for (sequence, path) in listed {
            if all.len() == keep {
                break;
            }
            let why = match snapshot_store::check(&path, journal_id) {
                Ok(found) if found != sequence => format!("it is of command {found}"),
                Ok(_) if sequence > last => format!("the journal ends at {last}"),
                Ok(_) => {
                    all.push(sequence);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            eprintln!(
                "millrace: snapshot {} does not count: {why}",
                path.display()
            );
        }
        match all.last().copied() {
            Some(oldest) => Ok(Kept { all, oldest }),
            None => Err(CliError::Failed(format!(
                "nothing is moved: no good snapshot in {} stands in for the journal's beginning; write \
                 one with millrace snapshot --dir {}",
                dir.display(),
                dir.display()
            ))),
        }
    }

    fn describe(&self) -> String {
        match self.all.len() {
            1 => format!("the one snapshot kept, of command {}", grouped(self.oldest)),
            many => format!(
                "the oldest of {many} snapshots kept, of command {}",
                grouped(self.oldest)
            ),
        }
    }
}

/// Refuses to take away what a history in the directory still has to read.
fn refuse_unread(dir: &Path, kept: &Kept, planned: &Moved) -> Result<(), CliError> {
    let reaches = match History::open(dir) {
        Ok(history) => history.sequence(),
        Err(HistoryError::Missing(_)) => return Ok(()),
        Err(error) => {
            return Err(CliError::Failed(format!(
                "nothing is moved: what the history has read is not known: {error}"
            )));
        }
    };
    // It goes on from its last command, which it looks at again, and from a snapshot up to there.
    let needed = kept.oldest.max(planned.last_sequence + 1);
    if reaches >= needed {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "nothing is moved: the history in {} has read up to command {} and has to reach {}; bring it up with \
         millrace history sync --dir {}, or delete history.db",
        dir.display(),
        grouped(reaches),
        grouped(needed),
        dir.display()
    )))
}
