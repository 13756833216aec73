//! `millrace bench settlement`: entry and algorithms while many payments wait.

use super::{Args, CliError, Ended, Report, beside, quantiles};
use crate::bench::chart::{Labels, draw_growth, series};
use crate::bench::settlement::{Queues, Shape};
use crate::bench::workload::Payments;
use crate::bench::{engine, human, percentiles};
use crate::engine::Limits;
use crate::protocol::command::Algorithm;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Accounts and queued payments of each row.
const QUEUES: [(u64, u64); 2] = [(500, 100_000), (500, 1_000_000)];
const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("grp", Algorithm::Grp),
    ("bilateral", Algorithm::Bilateral),
    ("multiple", Algorithm::Multiple),
    ("greedy", Algorithm::Greedy),
];
/// Participants and queued payments while others come in.
const ENTRY_ACCOUNTS: u64 = 1_000;
const ENTRY_QUEUED: u64 = 100_000;
/// Who pays whom, and whether offset at entry and bypass are on.
const ENTRIES: [(Shape, bool); 5] = [
    (Shape::Uniform, true),
    (Shape::Uniform, false),
    (Shape::Zipf, true),
    (Shape::Zipf, false),
    (Shape::TwoDebtors, true),
];

/// What is measured, line by line.
pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let mut lines = Vec::new();
    let at_once = settled_at_entry(args)?;
    lines.push(format!(
        "settled at entry, nothing queued: {:.2} M/s, {:.0} ns per payment",
        at_once.per_second() / 1e6,
        1e9 / at_once.per_second()
    ));
    let mut entries = Vec::new();
    for (shape, on) in ENTRIES {
        let entry = entry(args, shape, on, ENTRY_QUEUED, 200_000)?;
        lines.push(format!(
            "entry, {}, offset and bypass {}, while {} to {} wait at {ENTRY_ACCOUNTS} accounts: {}; each settles {:.2}, at p99.9 {}, at most {}",
            shape.name(),
            if on { "on" } else { "off" },
            entry.before,
            entry.after,
            quantiles(&entry.latency),
            entry.settled.mean(),
            entry.settled.value_at_quantile(0.999),
            entry.settled.max(),
        ));
        entries.push(json!({
            "shape": shape.name(), "on": on, "queued_before": entry.before,
            "queued_after": entry.after, "latency": percentiles(&entry.latency),
        }));
    }
    let mut runs = Vec::new();
    for (accounts, queued) in QUEUES {
        for (name, algorithm) in ALGORITHMS {
            let run = algorithm_run(args, accounts, queued, algorithm)?;
            lines.push(format!(
                "{name} over {queued} queued, {accounts} accounts: nothing settles {}; with 2 % liquidity over {} queued {}, settled {}; {:.0} bytes a payment kept, {:.0} meanwhile",
                human(run.idle.as_nanos() as u64),
                run.waiting,
                human(run.funded.as_nanos() as u64),
                run.settled,
                run.bytes[0],
                run.bytes[1],
            ));
            runs.push(json!({
                "algorithm": name, "accounts": accounts, "idle_queued": queued,
                "idle_ns": run.idle.as_nanos() as u64, "queued": run.waiting,
                "ns": run.funded.as_nanos() as u64, "settled": run.settled,
                "bytes_per_payment": run.bytes,
            }));
        }
    }
    let value = json!({
        "settled_at_entry_per_second": at_once.per_second(),
        "entry": entries,
        "runs": runs,
    });
    Ok((lines, value))
}

fn settled_at_entry(args: &Args) -> Result<engine::Measured, CliError> {
    let commands = args.commands.min(2_000_000);
    let mut workload = Payments::new(ENTRY_ACCOUNTS, args.seed);
    let limits = Limits {
        accounts: ENTRY_ACCOUNTS as u32 + 4_096,
        payments: commands as u32 * 2 + 65_536,
        ..Limits::small()
    };
    let mut prepared = engine::prepare(&mut workload, &limits);
    engine::throughput(&mut prepared, &mut workload, commands / 8);
    let measured = engine::throughput(&mut prepared, &mut workload, commands);
    let sound = prepared.audit();
    sound.map_err(|why| CliError::Failed(format!("audit after the run: {why}")))?;
    Ok(measured)
}

struct Entry {
    before: u64,
    after: u64,
    latency: Histogram<u64>,
    settled: Histogram<u64>,
}

/// What comes in while `queued` payments, of which some then settle, wait.
fn entry(
    args: &Args,
    shape: Shape,
    on: bool,
    queued: u64,
    entries: u64,
) -> Result<Entry, CliError> {
    let mut queues = Queues::open(ENTRY_ACCOUNTS, queued + entries + 16, shape, args.seed);
    queues.switch(on, on);
    queues.queue(queued);
    queues.fund(20);
    let before = queues.queued();
    let (latency, settled) = queues.entries(entries);
    audited(&queues)?;
    Ok(Entry {
        before,
        after: queues.queued(),
        latency,
        settled,
    })
}

struct Runs {
    idle: Duration,
    waiting: u64,
    funded: Duration,
    settled: u64,
    /// Tables, indexes and the room that the algorithm works in, per payment: kept and meanwhile.
    bytes: [f64; 2],
}

fn algorithm_run(
    args: &Args,
    accounts: u64,
    queued: u64,
    algorithm: Algorithm,
) -> Result<Runs, CliError> {
    let mut queues = Queues::open(accounts, queued, Shape::Uniform, args.seed);
    queues.switch(false, false);
    queues.queue(queued);
    // The first run finds no money; it takes the memory that runs work in.
    queues.run(algorithm);
    let repeats = (0..5).map(|_| queues.run(algorithm).elapsed);
    let idle = repeats.min().expect("five");
    queues.fund(20);
    let waiting = queues.queued();
    let run = queues.run(algorithm);
    let bytes = queues.memory().all();
    let bytes = bytes.map(|bytes| bytes as f64 / queued as f64);
    audited(&queues)?;
    Ok(Runs {
        idle,
        waiting,
        funded: run.elapsed,
        settled: run.settled,
        bytes,
    })
}

fn audited(queues: &Queues) -> Result<(), CliError> {
    let sound = queues.audit();
    sound.map_err(|why| CliError::Failed(format!("audit after the run: {why}")))
}

/// Queued payments of each point of the curves.
const SIZES: [u64; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

/// What entry and algorithms cost as the queues grow, and with --chart two pictures: FILE and, of
/// the algorithms, FILE with `-runs` in its name.
pub(super) fn run_curve(args: &Args) -> Result<(Report, Ended), CliError> {
    let mut lines = Vec::new();
    let mut points = Vec::new();
    let mut entry_series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for shape in [Shape::Uniform, Shape::Zipf, Shape::TwoDebtors] {
        for name in ["p50", "p99"] {
            entry_series.push((format!("{}, {name}", shape.name()), Vec::new()));
        }
    }
    for queued in SIZES {
        for (at, shape) in [Shape::Uniform, Shape::Zipf, Shape::TwoDebtors]
            .into_iter()
            .enumerate()
        {
            let entry = entry(args, shape, true, queued, 100_000)?;
            let (p50, p99) = (
                entry.latency.value_at_quantile(0.5),
                entry.latency.value_at_quantile(0.99),
            );
            lines.push(format!(
                "{queued:>9} queued, {:<12} entry {}",
                shape.name(),
                quantiles(&entry.latency)
            ));
            entry_series[at * 2].1.push((queued as f64, p50 as f64));
            entry_series[at * 2 + 1].1.push((queued as f64, p99 as f64));
            points.push(json!({
                "queued": queued, "shape": shape.name(), "entry": percentiles(&entry.latency),
            }));
        }
    }
    let mut run_series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for (name, algorithm) in ALGORITHMS {
        let mut series = Vec::new();
        for queued in SIZES {
            let run = algorithm_run(args, 500, queued, algorithm)?;
            let each = run.idle.as_nanos() as f64 / queued as f64;
            lines.push(format!(
                "{queued:>9} queued, {name:<10} {:>9}, {each:.0} ns each",
                human(run.idle.as_nanos() as u64)
            ));
            series.push((queued as f64, each));
            points.push(json!({
                "queued": queued, "algorithm": name, "ns": run.idle.as_nanos() as u64,
            }));
        }
        run_series.push((name.to_string(), series));
    }
    let mut ended = Ok(());
    if let Some(path) = &args.chart {
        let entry = Labels {
            title: "Entry of a payment while others wait, 1,000 accounts",
            x: "payments queued",
            y: "ns",
        };
        let runs = Labels {
            title: "Liquidity saving over everything queued, 500 accounts",
            x: "payments queued",
            y: "ns per queued payment",
        };
        let runs_path = beside(path, "runs");
        ended = draw(path, &entry, &entry_series).and(draw(&runs_path, &runs, &run_series));
    }
    Ok(((lines, Value::Array(points)), ended))
}

fn draw(
    path: &Path,
    labels: &Labels<'_>,
    lines: &[(String, Vec<(f64, f64)>)],
) -> Result<(), CliError> {
    draw_growth(path, labels, &series(lines)).map_err(CliError::Failed)
}
