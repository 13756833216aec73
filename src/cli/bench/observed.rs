//! `bench wire --stage-times-cost`: what it costs a node to measure its stages all the time: one node,
//! switched on and off while it is kept full.

use super::ledger::{Cores, on_core};
use super::{Args, Report, place, room, wire_config};
use crate::bench::alternation::{Pairs, SLICE, alternate, interval};
use crate::bench::lines::{Lines, Peer};
use crate::bench::wire::Wire;
use crate::bench::workload::Transfers;
use crate::cli::CliError;
use crate::config::{Config, Durability};
use crate::node::Node;
use crate::pipeline::threads::{CoreChoice, IdleMode};
use serde_json::{Value, json};

/// Commands in flight of each row: from a few in a batch to full ones.
const IN_FLIGHT: [usize; 3] = [16, 128, 1_024];
/// Pairs of slices of each row.
const PAIRS: usize = 200;
const ACCOUNTS: u64 = 10_000;
/// Rows beyond `--commands`, for what warms up and the last slices.
const SLACK: u64 = 2_000_000;

pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let mut lines = vec![format!(
        "one session, one node at a time, its measuring of stages on and off every {} ms; median ratio of \
         neighbours and where it lies with 95 % certainty (sign test):",
        SLICE.as_millis()
    )];
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        let pairs = measure(args, in_flight)?;
        lines.push(line(in_flight, &pairs));
        rows.push(to_json(in_flight, &pairs));
    }
    let value = json!({ "slice_ms": SLICE.as_millis() as u64, "rows": rows });
    Ok((lines, value))
}

/// As many pairs as are asked for, on as many nodes as that takes: each takes `--commands` transfers, and
/// then a fresh one goes on, so that where the tables of one came to lie does not decide.
fn measure(args: &Args, in_flight: usize) -> Result<Pairs, CliError> {
    let wanted = args.rounds.unwrap_or(PAIRS).max(1);
    let mut pairs = Pairs::default();
    for seed in args.seed.. {
        let place = place(args)?;
        let cores = Cores::choose(&place.path);
        let mut config = Config {
            dir: place.path.join("node"),
            durability: Durability::Process,
            cores: CoreChoice::List(vec![cores.node]),
            // As on few cores, however many there are: a node that only spins has no turns to count.
            idle: IdleMode::Sleep,
            ..wire_config(args, &place.path)
        };
        config.limits.transfers = room(args.commands + SLACK);
        let node = Node::start(&config).map_err(CliError::failed)?;
        let progress = node.progress();
        progress.busy.turn(true);
        let more = on_core(cores.load, || -> Result<Pairs, CliError> {
            // Opens the accounts.
            Wire::open(node.address(), ACCOUNTS, seed, false).map_err(CliError::failed)?;
            let workload = Transfers::new(ACCOUNTS, seed);
            let mut lines = Lines::new(node.address(), Peer::Node, workload, cores.apart())
                .map_err(CliError::failed)?;
            lines.connect(1).map_err(CliError::failed)?;
            let left = wanted - pairs.throughput.len();
            alternate(
                &mut lines,
                in_flight,
                left,
                args.commands,
                seed,
                |on| progress.stage_times.turn(on),
                || progress.busy_ns.get(),
            )
            .map_err(CliError::failed)
        })?;
        node.stop();
        pairs.add(more);
        if pairs.throughput.len() >= wanted {
            break;
        }
    }
    Ok(pairs)
}

fn line(in_flight: usize, pairs: &Pairs) -> String {
    let [on, off] = pairs.per_second();
    let ratio = |ratios: &[f64]| {
        let found = interval(ratios);
        let (low, high) = found.bounds;
        format!("{:.4} ({low:.4} to {high:.4})", found.median)
    };
    format!(
        "{in_flight:>5} in flight: {on:.0}/s on, {off:.0}/s off; throughput {}; the node's processor time per command {}; {} pairs",
        ratio(&pairs.throughput),
        ratio(&pairs.busy),
        pairs.throughput.len()
    )
}

fn to_json(in_flight: usize, pairs: &Pairs) -> Value {
    let [on, off] = pairs.per_second();
    let ratio = |ratios: &[f64]| {
        let found = interval(ratios);
        json!({
            "median": found.median,
            "low_95": found.bounds.0,
            "high_95": found.bounds.1,
        })
    };
    json!({
        "in_flight": in_flight,
        "pairs": pairs.throughput.len(),
        "per_second": { "on": on, "off": off },
        "throughput_ratio": ratio(&pairs.throughput),
        "node_time_ratio": ratio(&pairs.busy),
    })
}
