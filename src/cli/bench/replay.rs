//! `millrace bench replay`: how fast a journal becomes state again.

use super::{Args, CliError, Ended, Kind, Report, place, workload};
use crate::bench::chart::{Labels, draw_growth, series};
use crate::bench::replay::{self, Made, Rows};
use crate::engine::{Engine, Limits, Take};
use crate::replay::Followed;
use serde_json::{Value, json};
use std::path::Path;

/// Runs over one journal; the first one meets it as it was written, the others warm.
const RUNS: usize = 5;

/// 2026-01-01, in ns: when the journals begin.
pub(super) const BEGUN: u64 = 1_767_225_600_000_000_000;

/// Commands of the smallest journal of a curve.
const SMALLEST: u64 = 100_000;

/// A journal from 100,000 commands to as many as asked for, replayed several times over.
pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let place = place(args)?;
    let dir = place.path.join("replay");
    let made = make(args, &dir)?;
    let read = replay::read(&dir, made.commands).map_err(CliError::Failed)?;
    let mut runs: Vec<Followed> = Vec::new();
    let mut touching: Vec<Followed> = Vec::new();
    for _ in 0..RUNS {
        runs.push(replayed(args, &dir, &made, args.commands, Take::Now)?);
        touching.push(replayed(args, &dir, &made, args.commands, Take::AsTouched)?);
    }
    let first = per_second(&runs[0]);
    runs.sort_by_key(|run| run.elapsed);
    touching.sort_by_key(|run| run.elapsed);
    let middle = &runs[RUNS / 2];
    let touched = per_second(&touching[RUNS / 2]);
    let waited = middle.waited.as_secs_f64() / middle.elapsed.as_secs_f64();
    let read_per_second = made.commands as f64 / read.as_secs_f64();
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let lines = vec![
        format!(
            "journal: {} commands and {} that set the scene, {:.2} GB, written in {:.1} s",
            args.commands,
            made.setup,
            gb(made.bytes),
            made.elapsed.as_secs_f64()
        ),
        format!(
            "read and checked, nothing else: {:.2} M/s, {:.2} GB/s",
            read_per_second / 1e6,
            gb(made.bytes) / read.as_secs_f64()
        ),
        format!(
            "replayed into tables that are there, as in a node: {:.2} M/s, {:.0} ns per command; {:.1} % of it waiting for records ({RUNS} runs: first {:.2}, slowest {:.2}, fastest {:.2} M/s)",
            per_second(middle) / 1e6,
            1e9 / per_second(middle),
            waited * 100.0,
            first / 1e6,
            per_second(&runs[RUNS - 1]) / 1e6,
            per_second(&runs[0]) / 1e6,
        ),
        format!(
            "the same into tables that come as they are touched, as in `millrace replay`: {:.2} M/s",
            touched / 1e6
        ),
    ];
    let value = json!({
        "workload": format!("{:?}", args.workload).to_lowercase(),
        "commands": args.commands,
        "setup": made.setup,
        "journal_bytes": made.bytes,
        "made_seconds": made.elapsed.as_secs_f64(),
        "read_per_second": read_per_second,
        "commands_per_second": per_second(middle),
        "commands_per_second_first": first,
        "commands_per_second_slowest": per_second(&runs[RUNS - 1]),
        "commands_per_second_fastest": per_second(&runs[0]),
        "waited_share": waited,
        "commands_per_second_as_touched": touched,
    });
    Ok((lines, value))
}

fn make(args: &Args, dir: &Path) -> Result<Made, CliError> {
    if rows(args.workload).is_none() {
        let why = "bench replay has the workloads transfers, payments and orders";
        return Err(CliError::Usage(why.into()));
    }
    let mut workload = workload(args);
    replay::make(dir, workload.as_mut(), args.commands, BEGUN).map_err(CliError::Failed)
}

/// What the workload leaves rows of, for those that are replayed.
pub(super) fn rows(workload: Kind) -> Option<Rows> {
    match workload {
        Kind::Transfers => Some(Rows::Transfers),
        Kind::Payments => Some(Rows::Payments),
        Kind::Orders => Some(Rows::Orders),
        Kind::TwoPhase | Kind::Queued | Kind::Cancels | Kind::Single | Kind::Ledger => None,
    }
}

/// Tables for `commands` commands of the workload.
pub(super) fn limits(args: &Args, commands: u64) -> Limits {
    let rows = rows(args.workload).expect("checked before");
    replay::limits(commands, args.accounts, args.resting as u64, rows)
}

/// One replay of the first `commands` commands behind the setup, into fresh tables that come as `how`
/// says.
fn replayed(
    args: &Args,
    dir: &Path,
    made: &Made,
    commands: u64,
    how: Take,
) -> Result<Followed, CliError> {
    let mut engine = Engine::new(&limits(args, commands));
    engine.take_memory(how);
    replay::replay(dir, made.setup, commands, &mut engine).map_err(CliError::Failed)
}

fn per_second(followed: &Followed) -> f64 {
    followed.commands as f64 / followed.elapsed.as_secs_f64()
}

/// The same journal from its first 100,000 commands to all of them, for payments and orders.
pub(super) fn run_curve(args: &Args) -> Result<(Report, Ended), CliError> {
    let mut sizes: Vec<u64> = std::iter::successors(Some(SMALLEST), |size| Some(size * 10))
        .take_while(|size| *size < args.commands)
        .collect();
    sizes.push(args.commands);
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for kind in [Kind::Payments, Kind::Orders] {
        let name = format!("{kind:?}").to_lowercase();
        let args = Args {
            workload: kind,
            ..args.clone()
        };
        let place = place(&args)?;
        let dir = place.path.join("replay");
        let made = make(&args, &dir)?;
        let mut points = Vec::new();
        for commands in &sizes {
            // Short ones are over before a busy moment of the machine is.
            let runs = if *commands < 10_000_000 { 5 } else { 1 };
            let mut ns = Vec::new();
            for _ in 0..runs {
                ns.push(1e9 / per_second(&replayed(&args, &dir, &made, *commands, Take::Now)?));
            }
            ns.sort_by(f64::total_cmp);
            let ns = ns[ns.len() / 2];
            lines.push(format!(
                "{commands:>10} {name}: {ns:>5.0} ns per command, {:.2} M/s",
                1e3 / ns
            ));
            points.push((*commands as f64, ns));
        }
        all.push((name, points));
    }
    let mut ended = Ok(());
    if let Some(path) = &args.chart {
        let labels = Labels {
            title: "What a command costs in replay as the journal grows",
            x: "commands in the journal",
            y: "ns per command",
        };
        ended = draw_growth(path, &labels, &series(&all)).map_err(CliError::Failed);
    }
    let value: Vec<Value> = all
        .iter()
        .map(|(name, points)| {
            let points = points
                .iter()
                .map(|(commands, ns)| json!({ "commands": commands, "ns_per_command": ns }));
            json!({ "workload": name, "points": points.collect::<Vec<_>>() })
        })
        .collect();
    Ok(((lines, json!(value)), ended))
}
