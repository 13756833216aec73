//! `bench wire --workload ledger`: the ledger over TCP in the shapes that ledgers are compared by, one
//! row each on a fresh node, with the raw disk measured beside every row.

use super::{Args, Place, Report, place};
use crate::bench::ledger::{Load, Measured, Shape};
use crate::bench::published::{self, Published};
use crate::bench::yardstick::{self, RawAppend};
use crate::bench::{histogram, human, percentiles};
use crate::cli::CliError;
use crate::cli::terminal::grouped;
use crate::config::{Config, Durability};
use crate::engine::Limits;
use crate::pipeline::threads::{CoreChoice, allowed_cores, nearest_to_disk};
use crate::process::NodeProcess;
use crate::protocol::command::{Command, ITEMS_MAX, Transfer};
use crate::protocol::frame::{CommandRef, HEADER_BYTES};
use crate::protocol::record::unfold;
use hdrhistogram::Histogram;
use millrace_journal::{Reader, slot_bytes};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Accounts that transfers go between, as many as in TigerBeetle's benchmark.
const ACCOUNTS: u64 = 10_000;
/// Commands that set the scene: an asset, a participant, the accounts.
const SETUP_COMMANDS: u64 = ACCOUNTS + 2;
/// Times that a row and its yardstick take turns, so that a disk in a bad mood is so for both.
const TURNS: u64 = 4;
/// Raw appends, all turns together.
const RAW_APPENDS: u64 = 1_000;

/// One shape, and what another ledger did in it.
struct Row {
    name: String,
    shape: Shape,
    transfers: u64,
    theirs: Option<Published>,
}

/// What a row measured.
struct Done {
    ours: Measured,
    /// Raw append and fdatasync of as many bytes as one command, ns.
    raw: Histogram<u64>,
    /// Bytes of journal per transfer, frames and padding included.
    journal_bytes: f64,
    greeting: String,
}

pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let rows = rows(args);
    let mut values = Vec::new();
    let mut greeted = false;
    for row in &rows {
        let done = run_row(args, row)?;
        values.push(row.to_json(&done));
        if args.json {
            continue;
        }
        if !greeted {
            greeted = true;
            say!("{}", done.greeting);
            say!("{}", load_line());
            say!("{}", head());
        }
        say!("{}", row.line(&done));
    }
    let mut notes = vec![String::new()];
    if rows.iter().any(|row| row.theirs.is_some()) {
        notes.extend(published::TIGERBEETLE.map(String::from));
    }
    let value = json!({
        "durability": args.durability.to_string(),
        "accounts": ACCOUNTS,
        "rows": values,
        "tigerbeetle": published::TIGERBEETLE.join(" "),
    });
    Ok((notes, value))
}

/// The shape asked for, or the five that are compared.
fn rows(args: &Args) -> Vec<Row> {
    let row = |name: &str, sessions, window, batch, transfers, theirs| Row {
        name: name.to_string(),
        shape: Shape {
            sessions,
            window: args.window.unwrap_or(window),
            batch,
        },
        transfers,
        theirs,
    };
    let (many, rounds) = (args.commands, super::rounds(args) as u64);
    if args.batch.is_some() || args.sessions.is_some() {
        let (sessions, batch) = (args.sessions.unwrap_or(1), args.batch.unwrap_or(1));
        let name = format!("{} by {}", grouped(sessions as u64), grouped(batch as u64));
        let transfers = if batch > 1 {
            many
        } else {
            rounds * sessions as u64
        };
        return vec![row(&name, sessions, 1, batch, transfers, None)];
    }
    use published::{BATCHES_OF_100, BATCHES_OF_1000, BATCHES_OF_8189, CLIENTS_32, ONE_AT_A_TIME};
    let theirs = |figures| (args.durability == Durability::Disk).then_some(figures);
    let most = ITEMS_MAX;
    vec![
        row(
            "batches of 8,190",
            1,
            2,
            most,
            many,
            theirs(BATCHES_OF_8189),
        ),
        row(
            "batches of 1,000",
            1,
            16,
            1_000,
            many,
            theirs(BATCHES_OF_1000),
        ),
        row("batches of 100", 1, 64, 100, many, theirs(BATCHES_OF_100)),
        row("one at a time", 1, 1, 1, rounds * 4, theirs(ONE_AT_A_TIME)),
        row(
            "32 clients, one each",
            32,
            1,
            1,
            rounds * 40,
            theirs(CLIENTS_32),
        ),
    ]
}

fn run_row(args: &Args, row: &Row) -> Result<Done, CliError> {
    let place = place(args)?;
    let text = |error: std::io::Error| CliError::Failed(format!("yardstick: {error}"));
    let cores = Cores::choose(&place.path);
    let node = start_node(args, row, &place, cores.node)?;
    let bytes = HEADER_BYTES + row.shape.batch * size_of::<Transfer>();
    let mut disk = RawAppend::prepare(&place.path, bytes).map_err(text)?;
    let mut load = on_core(cores.load, || {
        Load::open(node.address, row.shape, ACCOUNTS, args.seed, cores.apart())
    })
    .map_err(CliError::failed)?;
    // Warm, and not counted.
    on_core(cores.load, || load.run(row.transfers / 20)).map_err(CliError::failed)?;
    let (mut ours, mut raw) = (Measured::default(), histogram());
    for _ in 0..TURNS {
        let appends = on_core(cores.node, || disk.append_times(RAW_APPENDS / TURNS));
        raw.add(&appends.map_err(text)?).map_err(CliError::failed)?;
        let more = on_core(cores.load, || load.run(row.transfers / TURNS));
        ours.add(&more.map_err(CliError::failed)?);
    }
    drop(load);
    let greeting = node.greeting.clone();
    node.stop().map_err(CliError::Failed)?;
    Ok(Done {
        ours,
        raw,
        journal_bytes: journal_bytes(&journal_dir(&place.path))?,
        greeting,
    })
}

/// Where the node runs and where the load: the node where the disk answers soonest.
pub(super) struct Cores {
    pub(super) node: usize,
    pub(super) load: usize,
}

impl Cores {
    pub(super) fn choose(dir: &Path) -> Cores {
        let all = allowed_cores();
        let nearest = nearest_to_disk(dir, &all).ok().flatten();
        let node = nearest.unwrap_or(all[0]);
        let load = all.iter().copied().find(|core| *core != node);
        Cores {
            node,
            load: load.unwrap_or(node),
        }
    }

    /// Whether each has a core, so that the load may spin.
    pub(super) fn apart(&self) -> bool {
        self.node != self.load
    }
}

/// Runs `work` on `core`, on a thread of its own: this one stays free for the nodes that it starts.
pub(super) fn on_core<T: Send>(core: usize, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            yardstick::pin(Some(core_affinity::CoreId { id: core }));
            work()
        });
        thread.join().expect("a panic aborts")
    })
}

fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("ledger")
}

fn start_node(args: &Args, row: &Row, place: &Place, core: usize) -> Result<NodeProcess, CliError> {
    let room = row.transfers + row.transfers / 4 + 65_536;
    let config = Config {
        dir: journal_dir(&place.path),
        listen: ([127, 0, 0, 1], 0).into(),
        durability: args.durability,
        cores: args.cores.clone().unwrap_or(CoreChoice::List(vec![core])),
        threads: args.threads,
        limits: Limits {
            accounts: 2 * ACCOUNTS as u32,
            transfers: u32::try_from(room).unwrap_or(Limits::ENTRIES_MAX),
            payments: 65_536,
            orders: 65_536,
            client_order_ids: 65_536,
            ..Limits::default()
        },
        ..Config::default()
    };
    super::start(&config, &place.path)
}

/// Bytes of journal per transfer in a closed journal, frames and padding included.
fn journal_bytes(dir: &Path) -> Result<f64, CliError> {
    let mut reader = Reader::open(dir).map_err(CliError::failed)?;
    reader.seek(SETUP_COMMANDS + 1).map_err(CliError::failed)?;
    let (mut bytes, mut transfers) = (0, 0);
    let mut words = Vec::new();
    while let Some(record) = reader.next().map_err(CliError::failed)? {
        let length = unfold(record.payload, &mut words).map_err(CliError::failed)?;
        let frame = &bytemuck::cast_slice(&words)[..length];
        let command = CommandRef::from_bytes(frame).map_err(CliError::failed)?;
        bytes += slot_bytes(record.payload.len());
        transfers += match command.decode().map_err(CliError::failed)? {
            Command::Transfers(_, items) => items.len(),
            _ => 1,
        };
    }
    Ok(bytes as f64 / transfers.max(1) as f64)
}

fn load_line() -> String {
    format!(
        "one thread drives all sessions, closed loop, over {} accounts; latency is a command's, from send \
         to last event; raw is an append and fdatasync of as many bytes as one command",
        grouped(ACCOUNTS)
    )
}

/// The head of the table; [`Row::line`] has the same columns.
fn head() -> String {
    format!(
        "{:<21} {:>8} {:>11} {:>8} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>7} | {:>12} {:>8} {:>8} | ours",
        "",
        "in flight",
        "transfers/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        "raw p50",
        "p99",
        "p99.9",
        "journal",
        "TigerBeetle",
        "p50",
        "p99",
    )
}

impl Row {
    fn line(&self, done: &Done) -> String {
        let at = |latency: &Histogram<u64>, quantile| human(latency.value_at_quantile(quantile));
        let (ours, raw) = (&done.ours, &done.raw);
        let mut line = format!(
            "{:<21} {:>9} {:>11} {:>8} {:>8} {:>8} {:>8} | {:>8} {:>8} {:>8} | {:>5.0} B |",
            self.name,
            format!("{} x {}", self.shape.sessions, self.shape.window),
            grouped(ours.per_second() as u64),
            at(&ours.latency, 0.5),
            at(&ours.latency, 0.99),
            at(&ours.latency, 0.999),
            human(ours.latency.max()),
            at(raw, 0.5),
            at(raw, 0.99),
            at(raw, 0.999),
            done.journal_bytes,
        );
        if let Some(theirs) = &self.theirs {
            let ns = |latency: Duration| human(latency.as_nanos() as u64);
            line += &format!(
                " {:>12} {:>8} {:>8} | {:.1}x",
                grouped(theirs.per_second),
                ns(theirs.p50),
                theirs.p99.map_or("-".to_string(), ns),
                ours.per_second() / theirs.per_second as f64
            );
        }
        line
    }

    fn to_json(&self, done: &Done) -> Value {
        let ours = &done.ours;
        json!({
            "name": self.name,
            "sessions": self.shape.sessions,
            "window": self.shape.window,
            "batch": self.shape.batch,
            "transfers": ours.created,
            "seconds": ours.elapsed.as_secs_f64(),
            "transfers_per_second": ours.per_second(),
            "latency": percentiles(&ours.latency),
            "raw_append_fdatasync": percentiles(&done.raw),
            "journal_bytes_per_transfer": done.journal_bytes,
            "tigerbeetle_measured_separately": self.theirs.map(|it| json!({
                "transfers_per_second": it.per_second,
                "p50_ns": it.p50.as_nanos() as u64,
                "p99_ns": it.p99.map(|p99| p99.as_nanos() as u64),
                "ratio": ours.per_second() / it.per_second as f64,
            })),
        })
    }
}
