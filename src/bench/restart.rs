//! Restart: how long a node takes from its start until it takes connections, from the bare journal and
//! from a snapshot and what follows it, with the files in memory and with none of them there.

use crate::engine::{Engine, Limits, Take};
use crate::process::NodeProcess;
use crate::replay::{Nobody, follow, limits_file, snapshot_store};
use crate::session::SessionTable;
use rustix::fs::{Advice, fadvise};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

const SESSIONS: u32 = 65_536;

/// Writes down that the journal in `dir` was made with these limits.
pub fn keep_limits(dir: &Path, limits: &Limits) -> Result<(), String> {
    limits_file::agree(dir, limits, true).map_err(|error| error.to_string())
}

/// A snapshot that was written.
pub struct Snapshot {
    /// Of this command.
    pub sequence: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// How long the replay up to it took.
    pub replayed: Duration,
    /// How long writing it took.
    pub written: Duration,
}

/// Writes a snapshot of command `sequence`, as `millrace snapshot` does.
pub fn snapshot(dir: &Path, limits: &Limits, sequence: u64) -> Result<Snapshot, String> {
    let mut engine = Engine::new(limits);
    engine.take_memory(Take::AsTouched);
    let mut sessions = SessionTable::new(SESSIONS);
    let followed = follow(dir, Some(sequence), &mut engine, &mut sessions, &mut Nobody);
    let followed = followed.map_err(|error| error.to_string())?;
    let started = Instant::now();
    let written = snapshot_store::write(dir, &engine, &sessions);
    let written = written.map_err(|error| error.to_string())?;
    Ok(Snapshot {
        sequence,
        bytes: written.bytes,
        replayed: followed.elapsed,
        written: started.elapsed(),
    })
}

/// Starts a node and stops it; how long it took until it took connections, and what it said then.
pub fn restart(config: &Path) -> Result<(Duration, String), String> {
    let binary = std::env::current_exe();
    let binary = binary.map_err(|error| format!("cannot find the own binary: {error}"))?;
    let started = Instant::now();
    let node = NodeProcess::start(&binary, config)?;
    let elapsed = started.elapsed();
    let greeting = node.greeting.clone();
    node.stop()?;
    Ok((elapsed, greeting))
}

/// Lets the system forget what it holds of the files in `dir`: the next reader meets the disk.
pub fn forget(dir: &Path) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", dir.display());
    for entry in std::fs::read_dir(dir).map_err(text)? {
        let file = File::open(entry.map_err(text)?.path()).map_err(text)?;
        file.sync_all().map_err(text)?;
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|error| text(error.into()))?;
    }
    Ok(())
}
