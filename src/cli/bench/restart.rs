//! `millrace bench restart`: how long a node is away.

use super::replay::{BEGUN, limits, rows};
use super::{Args, CliError, Report, place, workload};
use crate::bench::restart::{self, Snapshot};
use crate::config::{Config, Durability};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// A journal, a node started on it; a snapshot, and a node started on both.
pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    if rows(args.workload).is_none() {
        let why = "bench restart has the workloads transfers, payments and orders";
        return Err(CliError::Usage(why.into()));
    }
    let place = place(args)?;
    let config = Config {
        dir: place.path.join("restart"),
        listen: ([127, 0, 0, 1], 0).into(),
        durability: Durability::Process,
        limits: limits(args, args.commands),
        ..Config::default()
    };
    let file = place.path.join("restart.toml");
    let text = toml::to_string(&config).map_err(CliError::failed)?;
    std::fs::write(&file, text)
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", file.display())))?;
    let mut workload = workload(args);
    let made = crate::bench::replay::make(&config.dir, workload.as_mut(), args.commands, BEGUN)
        .map_err(CliError::Failed)?;
    drop(workload);
    restart::keep_limits(&config.dir, &config.limits).map_err(CliError::Failed)?;
    let mut lines = vec![format!(
        "journal: {} commands, {:.2} GB, written in {:.1} s",
        made.commands,
        made.bytes as f64 / 1e9,
        made.elapsed.as_secs_f64()
    )];
    let bare = Restarted::measure(&config.dir, &file)?;
    lines.push(bare.line("from the bare journal", made.commands));
    let every = match args.snapshot_every {
        0 => (args.commands * 9 / 10).max(1),
        every => every,
    };
    let at = (made.commands / every * every).max(1);
    let snapshot = restart::snapshot(&config.dir, &config.limits, at).map_err(CliError::Failed)?;
    let Snapshot {
        bytes,
        replayed,
        written,
        ..
    } = snapshot;
    lines.push(format!(
        "snapshot of command {at}: {:.2} GB, written in {:.1} s after a replay of {:.1} s",
        bytes as f64 / 1e9,
        written.as_secs_f64(),
        replayed.as_secs_f64()
    ));
    let tail = made.commands - at;
    let with = Restarted::measure(&config.dir, &file)?;
    lines.push(with.line("from the snapshot and its tail", tail));
    let value = json!({
        "workload": format!("{:?}", args.workload).to_lowercase(),
        "commands": made.commands,
        "journal_bytes": made.bytes,
        "from_journal": bare.to_json(),
        "snapshot": { "sequence": at, "bytes": bytes, "replay_s": replayed.as_secs_f64(),
            "write_s": written.as_secs_f64() },
        "from_snapshot": with.to_json(),
        "tail": tail,
    });
    Ok((lines, value))
}

struct Restarted {
    warm: Duration,
    cold: Duration,
    greeting: String,
}

impl Restarted {
    fn measure(dir: &Path, config: &Path) -> Result<Restarted, CliError> {
        restart::forget(dir).map_err(CliError::Failed)?;
        let (cold, _) = restart::restart(config).map_err(CliError::Failed)?;
        let (warm, greeting) = restart::restart(config).map_err(CliError::Failed)?;
        Ok(Restarted {
            warm,
            cold,
            greeting,
        })
    }

    fn line(&self, how: &str, commands: u64) -> String {
        format!(
            "restart {how} ({commands} commands): {:.2} s, {:.2} s with the files out of memory; {}",
            self.warm.as_secs_f64(),
            self.cold.as_secs_f64(),
            self.greeting
        )
    }

    fn to_json(&self) -> Value {
        json!({ "warm_s": self.warm.as_secs_f64(), "cold_s": self.cold.as_secs_f64() })
    }
}
