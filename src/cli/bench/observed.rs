//! `bench wire --stage-times-cost`: what it costs a node to measure its stages all the time, beside one
//! that does not.

use super::{Args, Report, place, start, wire_config};
use crate::bench::wire::Wire;
use crate::bench::yardstick;
use crate::cli::CliError;
use crate::config::{Config, Durability};
use serde_json::json;

/// Times that the two take turns, and transfers of a turn.
const TURNS: usize = 15;
const IN_FLIGHT: usize = 1_024;

pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let place = place(args)?;
    let config = |name: &str, stage_times| Config {
        dir: place.path.join(name),
        durability: Durability::Process,
        stage_times,
        ..wire_config(args, &place.path)
    };
    let dirs = [place.path.join("with"), place.path.join("without")];
    let mut nodes = Vec::new();
    for (dir, stage_times) in dirs.iter().zip([true, false]) {
        std::fs::create_dir_all(dir)?;
        let name = if stage_times { "measuring" } else { "not" };
        nodes.push(start(&config(name, stage_times), dir)?);
    }
    yardstick::pin(yardstick::cores().first().copied());
    let mut wires = Vec::new();
    for node in &nodes {
        let wire = Wire::open(node.address, args.accounts.min(100_000), args.seed, true);
        wires.push(wire.map_err(CliError::failed)?);
    }
    let count = (args.commands / TURNS as u64).min(200_000);
    let mut ratios = Vec::new();
    let mut best = [0f64; 2];
    for turn in 0..=TURNS {
        let mut done = [0f64; 2];
        // Who begins changes, so that neither profits from it.
        for at in [turn % 2, 1 - turn % 2] {
            done[at] = wires[at]
                .throughput(count, IN_FLIGHT)
                .map_err(CliError::failed)?;
        }
        // The first warms up.
        if turn > 0 {
            ratios.push(done[0] / done[1]);
            best = [best[0].max(done[0]), best[1].max(done[1])];
        }
    }
    drop(wires);
    for node in nodes {
        node.stop().map_err(CliError::Failed)?;
    }
    ratios.sort_unstable_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let lines = vec![format!(
        "{IN_FLIGHT} transfers in flight, {TURNS} turns: {:.0}/s measuring its stages, {:.0}/s not (the best turns); \
         median ratio of a turn {median:.3} ({:.3} to {:.3})",
        best[0],
        best[1],
        ratios[0],
        ratios[ratios.len() - 1]
    )];
    let value = json!({
        "in_flight": IN_FLIGHT,
        "turns": TURNS,
        "best_per_second": { "measuring": best[0], "not": best[1] },
        "ratios": ratios,
        "median_ratio": median,
    });
    Ok((lines, value))
}
