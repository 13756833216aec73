//! `millrace bench`: what this machine does with this release.

mod crowd;
mod latency;
mod ledger;
mod observed;
mod paced;
mod plans;
mod replay;
mod restart;
mod seats;
mod sessions;
mod settlement;
mod snapshot;

use self::seats::Seats;
use super::CliError;
use crate::bench::chart::{Labels, Series, draw_growth};
use crate::bench::single::{Single, Singles};
use crate::bench::wire::Wire;
use crate::bench::workload::{Cancels, Orders, Payments, Queued, Transfers, TwoPhase, Workload};
use crate::bench::{
    engine, human, human_at, journal, machine_now, percentiles, pipeline, yardstick,
};
use crate::config::{Config, Durability};
use crate::engine::{Limits, Take};
use crate::node::Node;
use crate::pipeline::threads::CoreChoice;
use crate::process::NodeProcess;
use crate::protocol::command::ITEMS_MAX;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Measure the engine, the journal, the pipeline or the wire on this machine.
///
/// Throughput is closed-loop; with --rate, latency is open-loop, from each command's planned
/// moment. Yardsticks (a raw TCP echo, a raw append and fdatasync) are measured in the same run, that of an
/// open loop at the same rate.
#[derive(Clone, clap::Args)]
#[command(after_help = "Examples:
  millrace bench engine --workload orders --rate 1000000
  millrace bench engine --workload orders --resting 10000000 --instruments 100000
  millrace bench engine --workload transfers --curve --chart accounts.svg
  millrace bench replay --workload payments --commands 10000000
  millrace bench restart --workload orders --commands 10000000
  millrace bench snapshot --accounts 10000000 --resting 1000000
  millrace bench wire --durability disk --rate 20000
  millrace bench wire --durability process --shared-memory
  millrace bench latency --durability disk --chart latency.svg --hdr latency.hlog
  millrace bench plans
  millrace bench wire --idle-connections 2000 --reconnect-storm 500
  millrace bench wire --curve --chart sessions.svg
  millrace bench wire --workload ledger
  millrace bench wire --workload ledger --batch 1000 --window 1")]
pub(crate) struct Args {
    /// What to measure
    what: What,
    /// What it does (engine, pipeline)
    #[arg(long, value_enum, default_value_t = Kind::Transfers)]
    workload: Kind,
    /// The command of --workload single
    #[arg(long, value_enum, default_value_t = Single::Pending)]
    single: Single,
    /// Commands per second for latency, from planned start (open loop); 0 for throughput only
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    rate: u64,
    /// Commands to execute; transfers of a row of batches (ledger), of a node (wire --stage-times-cost)
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    commands: u64,
    /// Accounts (transfers, payments, snapshot)
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(2..=100_000_000))]
    accounts: u64,
    /// Orders resting in the books (orders, snapshot)
    #[arg(long, default_value_t = 1_000, value_parser = resting)]
    resting: usize,
    /// Books they rest in, each order in any of them (orders)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    instruments: u32,
    /// Policy of the node (wire, snapshot)
    #[arg(long, default_value_t = Durability::Disk)]
    durability: Durability,
    /// Round trips with one command in flight (wire; a session of the ledger makes several times as
    /// many), durable appends (journal), 5,000 of either; turns with and without a follower, 3 (snapshot);
    /// pairs of slices on and off, 200 (wire --stage-times-cost)
    #[arg(long, value_parser = rounds_number)]
    rounds: Option<usize>,
    /// Megabytes a second of the follower, 0 for all it can; left out, its default (snapshot)
    #[arg(long, value_name = "MB")]
    pace: Option<u64>,
    /// Where journals are written; a temporary directory when left out
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the time of a single transfer goes, stage by stage, at --rate or 5,000 a second (wire)
    #[arg(long)]
    stages: bool,
    /// The client shares memory with the node instead of speaking TCP (wire, latency)
    #[arg(long)]
    shared_memory: bool,
    /// Measure stages meanwhile, as a node does (pipeline): tools/stage-times-cost.sh counts what that takes
    #[arg(long)]
    stage_times: bool,
    /// What measuring its stages all the time costs a node: one that is kept full, on and off every 50 ms (wire)
    #[arg(long)]
    stage_times_cost: bool,
    /// Rates to offer, rising (latency); left out, 1,000 to 2,000,000 a second. The first that the node does
    /// not keep up with is the last: it does less than 95 % of it, or its last reply comes more than 100 ms after
    /// the last planned moment
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rates: Vec<u64>,
    /// How long each rate is offered (latency, plans), each interval of a crowd lasts (wire), or each server
    /// is measured at each point (wire --curve), seconds
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    /// Write the histograms into an HDR log, compressed V2 (latency)
    #[arg(long, value_name = "FILE")]
    hdr: Option<PathBuf>,
    /// Sessions that are connected and idle: one active session's round trips without them, with them, and
    /// in a storm, by turns (wire)
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    idle_connections: Option<u64>,
    /// Connections that come and go per second in the storm (wire, with --idle-connections)
    #[arg(long, default_value_t = 500, requires = "idle_connections", value_parser = clap::value_parser!(u64).range(1..=20_000))]
    reconnect_storm: u64,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Transfers of a command, one row of this shape instead of the table (wire, ledger)
    #[arg(long, value_parser = batch)]
    batch: Option<usize>,
    /// Sessions, one row instead of the table (wire, ledger); where the curve over sessions ends (wire --curve)
    #[arg(long, value_parser = sessions)]
    sessions: Option<usize>,
    /// Commands of a session in flight, in every row (wire, ledger)
    #[arg(long, value_parser = window)]
    window: Option<usize>,
    /// Cores of the node (wire, ledger, plans); left out, the one where the disk answers soonest
    #[arg(long, value_name = "LIST")]
    cores: Option<CoreChoice>,
    /// Threads of the node (wire, ledger); 0 chooses by durability and cores
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=3))]
    threads: u8,
    /// Cost per command from 1,000 to 10 million accounts (engine; transfers, two-phase, payments),
    /// from 100 to a million resting orders (engine; orders), from 100 to a million payments queued
    /// (settlement), for journals from 100,000 commands to --commands (replay), or over 1 to 1,000
    /// sessions of a node (wire) instead
    #[arg(long)]
    curve: bool,
    /// Draw the curve into an SVG file; those of settlement, wire and latency into two
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// The snapshot is of the last multiple of that many commands; 0: nine tenths of all (restart)
    #[arg(long, default_value_t = 0)]
    snapshot_every: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Engine alone
    Engine,
    /// Appends into a prepared segment, and durable appends beside the raw disk
    Journal,
    /// Entry and algorithms while many payments wait
    Settlement,
    /// Rings, journal and engine on one thread, no sockets
    Pipeline,
    /// A journal made of a workload and replayed (transfers, payments, orders)
    Replay,
    /// A node started on a journal, and on a snapshot with the rest (transfers, payments, orders)
    Restart,
    /// A node under load, by turns alone and beside a follower that writes a snapshot
    Snapshot,
    /// A node in a process of its own over TCP, beside a raw echo
    Wire,
    /// A node over TCP under one offered rate after the other, until it does not keep up
    Latency,
    /// Each thread layout over TCP, both durabilities, by turns; and what each stage can do alone
    Plans,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Plain transfers between random accounts
    Transfers,
    /// Pending transfers, and by turns posts of those made 65,536 transfers before (engine)
    TwoPhase,
    /// Payments that settle at entry
    Payments,
    /// Payments that wait, for nobody has money (engine)
    Queued,
    /// Cancels of payments that wait (engine)
    Cancels,
    /// Order flow like exchange-core's, with holds, DvP and fees
    Orders,
    /// One kind of command alone, see --single (engine)
    Single,
    /// Transfers in batches of 8,190, 1,000 and 100, one at a time, and of 32 clients (wire)
    Ledger,
}

fn batch(text: &str) -> Result<usize, String> {
    number(text, ITEMS_MAX)
}

fn sessions(text: &str) -> Result<usize, String> {
    number(text, 1_000)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err(format!("\"{text}\" is not a number from 0.01 to 3600")),
    }
}

fn rounds_number(text: &str) -> Result<usize, String> {
    number(text, 10_000_000)
}

fn resting(text: &str) -> Result<usize, String> {
    match text {
        "0" => Ok(0),
        _ => number(text, 100_000_000),
    }
}

fn window(text: &str) -> Result<usize, String> {
    number(text, 65_536)
}

fn number(text: &str, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\" is not a number from 1 to {most}")),
    }
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if args.workload == Kind::Ledger && args.what != What::Wire {
        let why =
            "--workload ledger is measured over the wire: millrace bench wire --workload ledger";
        return Err(CliError::Usage(why.into()));
    }
    if args.chart.is_some() && !args.curve && args.what != What::Latency {
        return Err(CliError::Usage(
            "--chart draws what --curve measures".into(),
        ));
    }
    if args.hdr.is_some() && args.what != What::Latency {
        let why = "--hdr holds what millrace bench latency measures";
        return Err(CliError::Usage(why.into()));
    }
    if args
        .chart
        .as_ref()
        .is_some_and(|path| path.extension().is_none_or(|end| end != "svg"))
    {
        let why = "--chart draws a file that ends in .svg";
        return Err(CliError::Usage(why.into()));
    }
    for path in args.chart.iter().chain(&args.hdr) {
        check_writable(path)?;
    }
    // Before any thread is pinned: a pinned thread sees one core.
    let machine = machine_now();
    if !args.json {
        say!("{machine}");
    }
    let full = |report: Report| (report, Ok(()));
    let ((lines, value), ended): (Report, Ended) = match args.what {
        What::Engine if args.curve => run_curve(args)?,
        What::Engine => full(run_engine(args)?),
        What::Journal => full(run_journal(args)?),
        What::Settlement if args.curve => settlement::run_curve(args)?,
        What::Settlement => full(settlement::run(args)?),
        What::Pipeline => full(run_pipeline(args)?),
        What::Replay if args.curve => replay::run_curve(args)?,
        What::Replay => full(replay::run(args)?),
        What::Restart => full(restart::run(args)?),
        What::Snapshot => full(snapshot::run(args)?),
        What::Wire if args.curve => sessions::run_curve(args)?,
        What::Wire if args.workload == Kind::Ledger => full(ledger::run(args)?),
        What::Wire if args.stage_times_cost => full(observed::run(args)?),
        What::Latency => latency::run(args)?,
        What::Plans => full(plans::run(args)?),
        What::Wire if args.stages => full(run_stages(args)?),
        What::Wire if args.idle_connections.is_some() => full(crowd::run(args)?),
        What::Wire => full(run_wire(args)?),
    };
    if args.json {
        say!("{:#}", json!({ "machine": machine, "result": value }));
    } else {
        for line in lines {
            say!("{line}");
        }
    }
    ended
}

/// Whether a file can be written that a long run would write at its end. What it holds stays until then.
fn check_writable(path: &Path) -> Result<(), CliError> {
    let is_new = !path.exists();
    let open = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path);
    open.and_then(|_| match is_new {
        true => std::fs::remove_file(path),
        false => Ok(()),
    })
    .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))
}

/// How many times something short is measured.
fn rounds(args: &Args) -> usize {
    args.rounds.unwrap_or(5_000)
}

type Report = (Vec<String>, Value);

/// What went wrong after there was something to report: the end of a run, or its files.
type Ended = Result<(), CliError>;

/// Times that ours and the yardstick take turns (wire).
const ROUNDS_IN_TURN: usize = 10;
/// Transfers in flight, closed loop (wire).
const WINDOWS: [usize; 2] = [64, 1_024];

fn workload(args: &Args) -> Box<dyn Workload> {
    let accounts = args.accounts;
    match args.workload {
        Kind::Transfers | Kind::Ledger => Box::new(Transfers::new(accounts, args.seed)),
        Kind::TwoPhase => Box::new(TwoPhase::new(accounts, args.seed)),
        Kind::Payments => Box::new(Payments::new(accounts, args.seed)),
        Kind::Queued => Box::new(Queued::new(accounts, args.seed)),
        Kind::Cancels => Box::new(Cancels::new(accounts, cancels(args), args.seed)),
        Kind::Single => {
            let count = cancels(args).next_power_of_two();
            Box::new(Singles::new(args.single, accounts, count, args.seed))
        }
        Kind::Orders => {
            let orders = Orders::new(args.resting, 1_000, args.seed);
            Box::new(orders.over(args.instruments))
        }
    }
}

/// Payments there are to cancel, with those of the run that warms up and of the one at a rate.
fn cancels(args: &Args) -> u64 {
    args.commands * 2 + 65_536
}

/// So many rows, or as many as there may be.
fn room(rows: u64) -> u32 {
    u32::try_from(rows).unwrap_or(u32::MAX / 4)
}

/// Tables large enough for the run, and not much larger.
fn limits(args: &Args) -> Limits {
    // New orders outnumber cancels and fills by one command in twenty.
    let orders = args.resting as u64 + args.commands / 8 + (1 << 20);
    let all = args.commands * 2 + 65_536;
    if args.workload == Kind::Single {
        // What is prepared, and as many commands.
        let rows = room(cancels(args).next_power_of_two() * 2);
        return Limits {
            accounts: room(args.accounts + 4_096),
            transfers: rows,
            authorisations: rows,
            authorisation_steps: rows,
            payments: rows,
            orders: rows,
            client_order_ids: rows,
            ..Limits::default()
        };
    }
    let only = |kind, entries| {
        if args.workload == kind {
            entries
        } else {
            65_536
        }
    };
    Limits {
        accounts: room(args.accounts + 4_096),
        transfers: room(only(Kind::Transfers, all).max(only(Kind::TwoPhase, all))),
        payments: room(
            only(Kind::Payments, all)
                .max(only(Kind::Queued, all))
                .max(only(Kind::Cancels, cancels(args).next_power_of_two())),
        ),
        orders: room(only(Kind::Orders, orders)),
        client_order_ids: room(only(Kind::Orders, args.commands + orders)),
        // In many books nearly every order has a level of its own.
        price_levels: room((1 << 18) + if args.instruments > 1 { orders } else { 0 }),
        instruments: args.instruments + 4_096,
        ..Limits::default()
    }
}

/// The tables of the run, where this machine can hold them.
fn checked_limits(args: &Args) -> Result<Limits, CliError> {
    let limits = limits(args);
    let config = Config {
        limits: limits.clone(),
        ..Config::default()
    };
    let checked = match args.workload {
        // Room for every kind of command; what is not used takes no memory.
        Kind::Single => limits.check(),
        _ => config.check().map_err(|why| why.to_string()),
    };
    checked.map_err(|why| CliError::Usage(format!("a run of this size: {why}")))?;
    Ok(limits)
}

fn quantiles(latency: &Histogram<u64>) -> String {
    format!(
        "p50 {} p99 {} p99.9 {} max {}",
        human_at(latency, 0.5),
        human_at(latency, 0.99),
        human_at(latency, 0.999),
        human(latency.max())
    )
}

fn ratio(ours: &Histogram<u64>, raw: &Histogram<u64>) -> f64 {
    ratio_at(ours, raw, 0.5)
}

fn ratio_at(ours: &Histogram<u64>, raw: &Histogram<u64>, quantile: f64) -> f64 {
    ours.value_at_quantile(quantile) as f64 / raw.value_at_quantile(quantile).max(1) as f64
}

fn run_engine(args: &Args) -> Result<Report, CliError> {
    let mut workload = workload(args);
    // Room for the levels of many books is far more than they use: it comes as it is touched.
    let how = if args.instruments > 1 {
        Take::AsTouched
    } else {
        Take::Now
    };
    let tables = checked_limits(args)?;
    let mut prepared = engine::prepare_taking(workload.as_mut(), &tables, how);
    engine::throughput(&mut prepared, workload.as_mut(), args.commands / 8);
    let fast = engine::throughput(&mut prepared, workload.as_mut(), args.commands);
    let paced = (args.rate > 0).then(|| {
        let commands = (args.commands / 2).min(2_000_000);
        engine::open_loop(&mut prepared, workload.as_mut(), commands, args.rate)
    });
    let resident = resident_bytes();
    prepared
        .audit()
        .map_err(|why| CliError::Failed(format!("audit after the run: {why}")))?;
    let mut lines = vec![format!(
        "engine alone: {} commands, {} events, {:.2} M/s, {:.0} ns per command",
        fast.commands,
        fast.events,
        fast.per_second() / 1e6,
        1e9 / fast.per_second()
    )];
    lines.push(format!(
        "memory: {:.2} GiB resident, the bench's own lists included; tables take {:.2} GiB at most",
        resident as f64 / GIB,
        tables.bytes_max() as f64 / GIB
    ));
    if let Some(paced) = &paced {
        lines.extend(paced_line(args.rate, &paced.commands));
        lines.push(format!(
            "  each from its own start:   {}",
            quantiles(&paced.service)
        ));
        lines.push(format!(
            "  the clock alone, in turns: {}",
            quantiles(&paced.clock)
        ));
    }
    let whole = match args.workload {
        Kind::Orders => engine::whole_book(&mut prepared),
        _ => Vec::new(),
    };
    for (name, elapsed) in &whole {
        lines.push(format!("{name}: {}", human(elapsed.as_nanos() as u64)));
    }
    let value = json!({
        "throughput": fast.to_json(),
        "resident_bytes": resident,
        "tables_bytes_max": tables.bytes_max(),
        "rate": args.rate,
        "open_loop": paced.as_ref().map(|paced| json!({
            "commands": paced.commands.to_json(),
            "service": percentiles(&paced.service),
            "clock": percentiles(&paced.clock),
        })),
        "whole_book": whole
            .iter()
            .map(|(name, elapsed)| json!({ "name": name, "ns": elapsed.as_nanos() as u64 }))
            .collect::<Vec<_>>(),
    });
    Ok((lines, value))
}

const GIB: f64 = (1u64 << 30) as f64;

/// Memory of this process that is in use, as the system says; 0 where it does not.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}

/// Sizes of the curves.
const ACCOUNTS: [u64; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const RESTING: [u64; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

fn run_curve(args: &Args) -> Result<(Report, Ended), CliError> {
    let is_orders = args.workload == Kind::Orders;
    if matches!(args.workload, Kind::Ledger | Kind::Cancels | Kind::Single) {
        let why = "--curve is over accounts or resting orders: no curve of this workload";
        return Err(CliError::Usage(why.into()));
    }
    let of_size = |size: u64| match is_orders {
        true => Args {
            resting: size as usize,
            ..args.clone()
        },
        false => Args {
            accounts: size,
            ..args.clone()
        },
    };
    let points = engine::grow(
        if is_orders { &RESTING } else { &ACCOUNTS },
        |size| workload(&of_size(size)),
        |size| limits(&of_size(size)),
        args.commands,
    );
    let (what, title) = match is_orders {
        true => (
            "orders resting",
            "What an order command costs as the book grows",
        ),
        false => ("accounts", accounts_title(args.workload)),
    };
    let first = points[0].1;
    let lines = points.iter().map(|(size, ns)| {
        format!(
            "{size:>10} {what}: {ns:>5.0} ns per command, {:.2} M/s, {:.2}x",
            1e3 / ns,
            ns / first
        )
    });
    let mut ended = Ok(());
    if let Some(path) = &args.chart {
        let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (*x as f64, *y)).collect();
        let name = format!("{:?}, engine alone", args.workload).to_lowercase();
        let labels = Labels {
            title,
            x: what,
            y: "ns per command",
        };
        let series = [Series {
            name: &name,
            points: &points,
        }];
        ended = draw_growth(path, &labels, &series).map_err(CliError::Failed);
    }
    let value: Vec<Value> = points
        .iter()
        .map(|(size, ns)| json!({ what.replace(' ', "_"): size, "ns_per_command": ns }))
        .collect();
    Ok(((lines.collect(), json!(value)), ended))
}

/// What a curve over accounts is called.
fn accounts_title(workload: Kind) -> &'static str {
    match workload {
        Kind::Payments => "What a payment costs as accounts grow",
        Kind::Queued => "What a payment that waits costs as accounts grow",
        Kind::TwoPhase => "What a two-phase transfer costs as accounts grow",
        _ => "What a transfer costs as accounts grow",
    }
}

/// The name of a second picture: of `a.svg` and "latency" `a-latency.svg`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{what}.svg"))
}

/// The directory the benchmark writes to, gone when dropped or interrupted.
struct Place {
    path: PathBuf,
    _temporary: tempfile::TempDir,
}

fn place(args: &Args) -> Result<Place, CliError> {
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir)
            .map_err(|error| CliError::Failed(format!("cannot make {}: {error}", dir.display())))?;
    }
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("millrace-bench-");
    let made = match &args.dir {
        Some(dir) => builder.tempdir_in(dir),
        None => builder.tempdir(),
    };
    let made = made
        .map_err(|error| CliError::Failed(format!("cannot make a temporary directory: {error}")))?;
    crate::process::remove_when_interrupted(made.path())?;
    Ok(Place {
        path: made.path().to_owned(),
        _temporary: made,
    })
}

fn run_journal(args: &Args) -> Result<Report, CliError> {
    let place = place(args)?;
    let appended =
        journal::append(&place.path.join("append"), args.commands).map_err(CliError::Failed)?;
    let seconds = appended.elapsed.as_secs_f64();
    let durable = journal::durable(&place.path, rounds(args)).map_err(CliError::Failed)?;
    let per_second = appended.records as f64 / seconds;
    let lines = vec![
        format!(
            "append of {} B records into a prepared segment, commit every 256: {:.2} M/s, {:.0} ns per record; one append {}",
            journal::RECORD_BYTES,
            per_second / 1e6,
            1e9 / per_second,
            quantiles(&appended.latency)
        ),
        format!(
            "durable append of one record:    {}",
            quantiles(&durable.ours)
        ),
        format!(
            "raw append and fdatasync:        {}",
            quantiles(&durable.raw)
        ),
        format!(
            "p50 against raw: {:.2}x",
            ratio(&durable.ours, &durable.raw)
        ),
    ];
    let value = json!({
        "append_per_second": per_second,
        "append": percentiles(&appended.latency),
        "durable": percentiles(&durable.ours),
        "raw": percentiles(&durable.raw),
    });
    Ok((lines, value))
}

fn run_pipeline(args: &Args) -> Result<Report, CliError> {
    let place = place(args)?;
    let config = Config {
        dir: place.path.join("pipeline"),
        durability: Durability::Process,
        limits: checked_limits(args)?,
        ..Config::default()
    };
    let mut workload = workload(args);
    let mut pipeline = pipeline::prepare(&config, workload.as_mut()).map_err(CliError::Failed)?;
    let stages = args
        .stage_times
        .then(|| pipeline::measure_stages(&mut pipeline));
    let (elapsed, events) =
        pipeline::throughput(&mut pipeline, workload.as_mut(), args.commands, stages)
            .map_err(CliError::Failed)?;
    let paced = match args.rate {
        0 => None,
        rate => {
            let commands = args.commands.min(rate.saturating_mul(5));
            let paced = pipeline::open_loop(&mut pipeline, workload.as_mut(), commands, rate);
            Some(paced.map_err(CliError::Failed)?)
        }
    };
    pipeline.close();
    let per_second = args.commands as f64 / elapsed.as_secs_f64();
    let mut lines = vec![format!(
        "rings, journal (process) and engine on one thread: {} commands, {events} events, {:.2} M/s, {:.0} ns per command",
        args.commands,
        per_second / 1e6,
        1e9 / per_second
    )];
    lines.extend(
        paced
            .as_ref()
            .and_then(|paced| paced_line(args.rate, paced)),
    );
    let value = json!({
        "commands_per_second": per_second,
        "events": events,
        "rate": args.rate,
        "open_loop": paced.as_ref().map(engine::Measured::to_json),
    });
    Ok((lines, value))
}

fn paced_line(rate: u64, paced: &engine::Measured) -> Option<String> {
    let latency = paced.latency.as_ref()?;
    Some(format!(
        "open loop at {rate}/s ({:.0}/s done): {}",
        paced.per_second(),
        quantiles(latency)
    ))
}

/// Commands of each window of `bench wire`.
fn windowed(args: &Args) -> u64 {
    args.commands.min(400_000)
}

fn run_wire(args: &Args) -> Result<Report, CliError> {
    let place = place(args)?;
    let text = |error: std::io::Error| CliError::Failed(format!("yardstick: {error}"));
    let seats = Seats::choose(args.durability, &place.path)?;
    let rounds = rounds(args).div_ceil(ROUNDS_IN_TURN);
    let one_at_a_time = (rounds + rounds / 10) * ROUNDS_IN_TURN;
    let transfers =
        one_at_a_time as u64 + WINDOWS.len() as u64 * windowed(args) + paced::commands(args);
    let config = seats.config(args, &place.path, transfers)?;
    let node = start(&config, &place.path)?;
    seats.pin_client();
    let accounts = args.accounts.min(100_000);
    // One in flight, what counts is the node's latency, not what it takes to wake a client.
    let mut wire = open(args, node.address, accounts, seats.apart())?;
    let (mut ours, mut raw) = (crate::bench::histogram(), crate::bench::histogram());
    let mut disk = match args.durability {
        Durability::Disk => {
            let prepared = yardstick::RawAppend::prepare(&place.path, journal::RECORD_BYTES);
            Some(prepared.map_err(text)?)
        }
        Durability::Process => None,
    };
    // In turn, so that a machine in a bad mood is so for both; and on the node's core, so that the two
    // differ in software alone.
    for _ in 0..ROUNDS_IN_TURN {
        let latency = wire.round_trips(rounds).map_err(CliError::failed)?;
        ours.add(&latency).map_err(CliError::failed)?;
        node.pause();
        let taken = match &mut disk {
            Some(disk) => seats.where_it_journals(|| disk.append_times(rounds as u64)),
            None => {
                let core = core_affinity::CoreId { id: seats.door() };
                yardstick::spinning_echo(journal::RECORD_BYTES, rounds, Some(core))
            }
        };
        node.resume();
        raw.add(&taken.map_err(text)?).map_err(CliError::failed)?;
    }
    let (what, core) = match args.durability {
        Durability::Process => ("raw spinning TCP echo of as many bytes", seats.door()),
        Durability::Disk => ("raw append and fdatasync of as many bytes", seats.journal()),
    };
    // With many, a client that spins beside a node that syncs only keeps the next segment from being
    // prepared.
    wire.spin(args.durability == Durability::Process && seats.apart());
    let mut throughputs = Vec::new();
    for window in WINDOWS {
        let per_second = wire
            .throughput(windowed(args), window)
            .map_err(CliError::failed)?;
        throughputs.push((window, per_second));
    }
    let paced = match args.rate {
        0 => None,
        _ => Some(paced::OpenLoop::measure(
            args, &place, &node, &mut wire, &seats,
        )?),
    };
    drop(wire);
    let greeting = node.greeting.clone();
    node.stop().map_err(CliError::Failed)?;
    let mut lines = vec![
        greeting,
        format!("one transfer in flight:    {}", quantiles(&ours)),
        format!("{what}, on the node's core {core}: {}", quantiles(&raw)),
        format!("p50 against raw: {:.2}x", ratio(&ours, &raw)),
    ];
    for (window, per_second) in &throughputs {
        lines.push(format!("{window} in flight: {per_second:.0} transfers/s"));
    }
    if let Some(paced) = &paced {
        lines.extend(paced.lines());
    }
    let value = json!({
        "durability": args.durability.to_string(),
        "round_trip": percentiles(&ours),
        "raw": percentiles(&raw),
        "raw_core": core,
        "p50_against_raw": ratio(&ours, &raw),
        "throughput": throughputs
            .iter()
            .map(|(window, per_second)| json!({ "window": window, "per_second": per_second }))
            .collect::<Vec<_>>(),
        "open_loop": paced.as_ref().map(paced::OpenLoop::to_json),
    });
    Ok((lines, value))
}

/// A client on the node at `address`, over what was asked for.
fn open(args: &Args, address: SocketAddr, accounts: u64, spin: bool) -> Result<Wire, CliError> {
    let wire = match args.shared_memory {
        true => Wire::open_shared(address, accounts, args.seed),
        false => Wire::open(address, accounts, args.seed, spin),
    };
    wire.map_err(CliError::failed)
}

/// The rate of `--stages` where none is given.
const STAGES_RATE: u64 = 5_000;

/// `bench wire --stages`: the node runs in this process, so that its journaler can say when it did
/// what; the client is on another core and speaks TCP as ever.
fn run_stages(args: &Args) -> Result<Report, CliError> {
    let place = place(args)?;
    let rate = if args.rate == 0 {
        STAGES_RATE
    } else {
        args.rate
    };
    let count = args.commands.min(rate.saturating_mul(5));
    let seats = Seats::choose(args.durability, &place.path)?;
    let config = seats.config(args, &place.path, count)?;
    let node = Node::start(&config).map_err(CliError::failed)?;
    let greeting = node.to_string();
    seats.pin_client();
    let mut wire = Wire::open(
        node.address(),
        args.accounts.min(100_000),
        args.seed,
        seats.apart(),
    )
    .map_err(CliError::failed)?;
    let journey = wire
        .journeys(count, rate, node.progress())
        .map_err(CliError::failed)?;
    drop(wire);
    node.stop();
    let mut lines = vec![
        greeting,
        format!(
            "{} transfers at {rate}/s ({:.0}/s done), from each planned moment:",
            journey.total.len(),
            journey.per_second
        ),
    ];
    let named = || {
        journey
            .stages
            .iter()
            .map(|(name, latency)| (*name, latency))
    };
    let mean = |latency: &Histogram<u64>| latency.mean() / 1e3;
    for (name, latency) in named().chain([("total", &journey.total)]) {
        lines.push(format!(
            "  {name:<10} mean {:>8.1} us  {}",
            mean(latency),
            quantiles(latency)
        ));
    }
    let sum: f64 = named().map(|(_, latency)| mean(latency)).sum();
    lines.push(format!("  the means of the stages add up to {sum:.1} us"));
    let value = json!({
        "durability": args.durability.to_string(),
        "rate": rate,
        "stages": named()
            .map(|(name, latency)| json!({
                "name": name,
                "mean_ns": latency.mean(),
                "latency": percentiles(latency),
            }))
            .collect::<Vec<_>>(),
        "total": json!({ "mean_ns": journey.total.mean(), "latency": percentiles(&journey.total) }),
    });
    Ok((lines, value))
}

/// A node for the wire; its cores and its room for transfers are the caller's choice, see [`Seats`].
fn wire_config(args: &Args, dir: &Path) -> Config {
    Config {
        dir: dir.join("wire"),
        listen: ([127, 0, 0, 1], 0).into(),
        durability: args.durability,
        limits: Limits {
            accounts: 1 << 18,
            transfers: 1 << 23,
            payments: 65_536,
            orders: 65_536,
            client_order_ids: 65_536,
            ..Limits::default()
        },
        ..Config::default()
    }
}

fn start(config: &Config, dir: &Path) -> Result<NodeProcess, CliError> {
    let path = dir.join("wire.toml");
    let text = toml::to_string(config).map_err(CliError::failed)?;
    std::fs::write(&path, text)
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))?;
    let binary = std::env::current_exe()
        .map_err(|error| CliError::Failed(format!("cannot find the own binary: {error}")))?;
    NodeProcess::start(&binary, &path).map_err(CliError::Failed)
}
