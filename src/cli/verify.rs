//! `millrace verify`: is this directory sound?

use super::replay::{LONG, SESSIONS, last_sequence};
use super::terminal::{Progress, grouped, hex};
use super::{CliError, settings};
use crate::engine::{Engine, Limits, Take};
use crate::protocol::frame::{CommandRef, EventSlot};
use crate::replay::{Watcher, follow, snapshot_store};
use crate::session::SessionTable;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{Damage, Defect, EndState, ReadError, Reader, Verified};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Check a directory: every byte of the journal, the hash chain, the replay, the audit, and that
/// every snapshot is the state its place in the journal replays to. Exit 0 sound, 1 unsound.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace verify --dir /var/lib/millrace")]
pub(crate) struct Args {
    /// Directory of journal and snapshots
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    archive: settings::ArchiveArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let limits = settings::limits_of(&args.dir)?;
    let journal = args.archive.journal_of(&args.dir)?;
    let unsound = |why: String| CliError::Failed(format!("unsound: {why}"));
    if let Some(archive) = &args.archive.archive {
        let missing = millrace_journal::missing(journal.clone());
        let missing = missing.map_err(|error| unsound(error.to_string()))?;
        if !missing.is_empty() {
            return Err(unsound(format!(
                "{} of {} were archived and are not in {}: say where they are, or leave out --archive to \
                 check what is left",
                segments(&missing),
                args.dir.display(),
                archive.display()
            )));
        }
    }
    let mut bar = Progress::new(0, "bytes");
    let verified = millrace_journal::verify(journal.clone(), &mut |done, total| {
        bar.set_total(total);
        bar.at(done);
    });
    drop(bar);
    let verified = verified.map_err(|error| unsound(explained(args, &limits, &journal, error)))?;
    say!(
        "journal: {} records in {} segments, {} bytes, every checksum and hash in order",
        grouped(verified.records),
        verified.segments,
        grouped(verified.bytes)
    );
    if let Some(archived) = &verified.archived {
        say!(
            "archived: segments 1 to {}, commands up to {}; the journal continues their chain head {}",
            archived.segments,
            grouped(archived.last_sequence),
            hex(&archived.chain)
        );
    }
    say!("chain head: {}", hex(&verified.chain_head));
    let last = last_sequence(&args.dir)?;
    let snapshots = read_snapshots(args, last).map_err(unsound)?;
    let (mut engine, mut sessions) = beginning(&limits, &verified, &snapshots).map_err(unsound)?;
    if last >= LONG {
        engine.take_memory(Take::AsTouched);
    }
    let mut watcher = Checker {
        bar: Progress::new(last, "commands"),
        snapshots,
        checked: 0,
    };
    let followed = follow(
        journal,
        Some(last),
        &mut engine,
        &mut sessions,
        &mut watcher,
    )
    .map_err(|error| unsound(error.to_string()))?;
    say!("replay: {} commands", grouped(followed.commands));
    if watcher.checked > 0 {
        say!("snapshots: {} agree with the replay", watcher.checked);
    }
    engine
        .audit()
        .map_err(|why| unsound(format!("audit: {why}")))?;
    say!("audit: every invariant holds");
    say!("digest {}", hex(&engine.digest()));
    say!("sound");
    Ok(())
}

/// Segments in words: runs of them, such as "segments 1 to 3, 5 to 5".
fn segments(indices: &[u64]) -> String {
    let runs = indices.chunk_by(|one, next| one + 1 == *next);
    let runs = runs.map(|run| format!("{} to {}", run[0], run[run.len() - 1]));
    format!("segments {}", runs.collect::<Vec<_>>().join(", "))
}

/// What is wrong, and what that means for who starts a node here.
fn explained(args: &Args, limits: &Limits, journal: &MappedFiles, error: ReadError) -> String {
    let is_tail = |damage: &Damage| {
        let mut reader = Reader::open(journal.clone()).ok()?;
        reader.seek(damage.sequence).ok()?;
        match reader.end_state().ok()? {
            EndState::Unfinished { .. } => Some(()),
            EndState::Clean | EndState::NotReached => None,
        }
    };
    match &error {
        ReadError::Defect(Defect::Damaged(damage)) if is_tail(damage).is_some() => format!(
            "{} ends in a torn tail at byte {} (sequence {}): nothing shows that it was ever \
             acknowledged, and the next start cuts it",
            damage.path.display(),
            damage.offset,
            damage.sequence
        ),
        ReadError::Defect(Defect::Damaged(_)) => {
            let start = match skipping_snapshot(args, limits) {
                Some(sequence) => format!(
                    "a node still starts, with the snapshot of command {}, behind which nothing is damaged",
                    grouped(sequence)
                ),
                None => "a node will not start on it".into(),
            };
            format!("{error}; {start}; `millrace journal` prints what can be read around it")
        }
        _ => error.to_string(),
    }
}

/// The snapshot with which a node would start on a damaged journal, as none of what it reads then is; see
/// [`recover`](crate::replay::recovery::recover).
fn skipping_snapshot(args: &Args, limits: &Limits) -> Option<u64> {
    let judge = |from: u64| millrace_journal::judge(&args.dir, from).ok()?;
    let last = judge(snapshot_store::newest_sequence(&args.dir) + 1)?.last_sequence;
    let loaded = snapshot_store::load_newest(&args.dir, last, limits, SESSIONS);
    let sequence = loaded.ok()?.0?.sequence;
    judge(sequence + 1).map(|_| sequence)
}

/// Where the replay begins: with nothing, or, where the first segments are archived, with the oldest
/// snapshot that what is left leads on from.
fn beginning(
    limits: &Limits,
    verified: &Verified,
    snapshots: &BTreeMap<u64, ([u8; 32], PathBuf)>,
) -> Result<(Engine, SessionTable), String> {
    if verified.begins_at == 1 {
        return Ok((Engine::new(limits), SessionTable::new(SESSIONS)));
    }
    let archived = verified.begins_at - 1;
    let Some((sequence, (_, path))) = snapshots.range(archived..).next() else {
        return Err(format!(
            "commands 1 to {archived} are archived, and no snapshot stands in for them: give the segments \
             back, or say where they are with --archive"
        ));
    };
    let loaded = snapshot_store::load(path, limits, SESSIONS)
        .map_err(|error| format!("snapshot {}: {error}", path.display()))?;
    say!(
        "replay begins with the snapshot of command {}: what came before is archived",
        grouped(*sequence)
    );
    let earlier = snapshots.range(..sequence).count();
    if earlier > 0 {
        say!("{earlier} older snapshots are not replayed to: that takes the archive");
    }
    Ok((loaded.engine, loaded.sessions))
}

/// Digest and file of every snapshot, by sequence.
fn read_snapshots(args: &Args, last: u64) -> Result<BTreeMap<u64, ([u8; 32], PathBuf)>, String> {
    let limits = settings::limits_of(&args.dir).map_err(|_| "limits".to_string())?;
    let mut digests = BTreeMap::new();
    for (sequence, path) in snapshot_store::list(&args.dir).map_err(|error| error.to_string())? {
        let loaded = snapshot_store::load(&path, &limits, SESSIONS)
            .map_err(|error| format!("snapshot {}: {error}", path.display()))?;
        if sequence > last {
            return Err(format!(
                "snapshot {} is of command {sequence}, but the journal ends at {last}",
                path.display()
            ));
        }
        if loaded.engine.digest() != loaded.digest {
            return Err(format!(
                "snapshot {}: its state has another digest than its header says",
                path.display()
            ));
        }
        digests.insert(sequence, (loaded.digest, path));
    }
    Ok(digests)
}

struct Checker {
    bar: Progress,
    snapshots: BTreeMap<u64, ([u8; 32], PathBuf)>,
    checked: usize,
}

impl Watcher for Checker {
    fn command(
        &mut self,
        sequence: u64,
        _command: CommandRef<'_>,
        _events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        let Some((digest, path)) = self.snapshots.get(&sequence) else {
            return Ok(());
        };
        if engine.digest() != *digest {
            return Err(format!(
                "snapshot {} is not the state the journal replays to",
                path.display()
            ));
        }
        engine.audit()?;
        self.checked += 1;
        Ok(())
    }

    fn progress(&mut self, sequence: u64) {
        self.bar.at(sequence);
    }
}
