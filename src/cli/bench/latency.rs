//! `bench latency`: what a command takes, planned moment to reply, at one offered rate after the other
//! until the node does not keep up; as a table, JSON, pictures and an HDR log.

use super::seats::Seats;
use super::{Args, Ended, Report, beside, open, place};
use crate::bench::latency::{
    LADDER, Step, climb, draw_distributions, draw_over_load, write_hdr_log,
};
use crate::bench::{human, human_at, percentiles};
use crate::cli::CliError;
use crate::cli::terminal::grouped;
use crate::node::Node;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn run(args: &Args) -> Result<(Report, Ended), CliError> {
    if args.rates.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(CliError::Usage("--rates must rise".into()));
    }
    let rates = match args.rates.as_slice() {
        [] => &LADDER[..],
        rates => rates,
    };
    let place = place(args)?;
    let seats = Seats::choose(args.durability, &place.path)?;
    // The node runs in this process, so that its journaler can say when it did what; the client is on
    // another core and speaks TCP as ever.
    let config = seats.config(args, &place.path, commands(rates, args.seconds))?;
    let node = Node::start(&config).map_err(CliError::failed)?;
    let greeting = node.to_string();
    seats.pin_client();
    let mut wire = open(
        args,
        node.address(),
        args.accounts.min(100_000),
        seats.apart(),
    )?;
    if !args.json {
        say!("{greeting}");
        say!("{}", head());
    }
    let time = Duration::from_secs_f64(args.seconds);
    let (steps, ended) = climb(&mut wire, node.progress(), rates, time, |step| {
        if !args.json {
            say!("{}", line(step));
        }
    });
    let mut ended = ended.map_err(CliError::failed);
    let Some(first) = steps.first() else {
        return Err(ended.err().unwrap_or(CliError::ReaderGone));
    };
    // What is measured is told, whatever comes of the node and of the files.
    drop(wire);
    if ended.is_ok() {
        node.stop();
    }
    let mut lines = vec![stage_head(first)];
    lines.extend(steps.iter().map(stage_line));
    if ended.is_ok() && steps.last().is_some_and(Step::kept_up) {
        lines.push("the node kept up with every rate".into());
    }
    if let Some(path) = &args.hdr {
        ended = ended.and(write_hdr_log(path, &steps).map_err(CliError::Failed));
    }
    if let Some(path) = &args.chart {
        let over = if args.shared_memory {
            "shared memory"
        } else {
            "TCP"
        };
        let title = format!("One transfer over {over}, durability {}", args.durability);
        let drawn = draw_over_load(path, &title, &steps)
            .and_then(|()| draw_distributions(&beside(path, "percentiles"), &title, &steps));
        ended = ended.and(drawn.map_err(CliError::Failed));
    }
    let value = json!({
        "durability": args.durability.to_string(),
        "node": greeting,
        "steps": steps.iter().map(to_json).collect::<Vec<_>>(),
    });
    Ok(((lines, value), ended))
}

/// Transfers of a climb, each step with the tenth that warms up.
fn commands(rates: &[u64], seconds: f64) -> u64 {
    let step = |rate: &u64| {
        let count = (*rate as f64 * seconds).ceil() as u64;
        count + (count / 10).max(1)
    };
    rates.iter().map(step).sum()
}

fn head() -> String {
    format!(
        "{:>11} {:>11} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "offered/s", "done/s", "p50", "p99", "p99.9", "max", "in flight"
    )
}

fn line(step: &Step) -> String {
    let total = &step.journey.total;
    format!(
        "{:>11} {:>11} {:>10} {:>10} {:>10} {:>10} {:>10}",
        grouped(step.offered),
        grouped(step.journey.per_second as u64),
        human_at(total, 0.5),
        human_at(total, 0.99),
        human_at(total, 0.999),
        human(total.max()),
        grouped(step.journey.in_flight_peak as u64),
    )
}

fn stage_head(step: &Step) -> String {
    let names = step.journey.stages.iter().map(|(name, _)| *name);
    let names: String = names
        .chain(["total"])
        .map(|name| format!(" {name:>10}"))
        .collect();
    format!("\nmeans, which add up:\n{:>11}{names}", "offered/s")
}

fn stage_line(step: &Step) -> String {
    let means = step.journey.stages.iter().map(|(_, stage)| stage.mean());
    let means: String = means
        .chain([step.journey.total.mean()])
        .map(|mean| format!(" {:>10}", human(mean as u64)))
        .collect();
    format!("{:>11}{means}", grouped(step.offered))
}

fn to_json(step: &Step) -> Value {
    let stages = step.journey.stages.iter().map(|(name, stage)| {
        json!({ "name": name, "mean_ns": stage.mean(), "latency": percentiles(stage) })
    });
    json!({
        "offered_per_second": step.offered,
        "done_per_second": step.journey.per_second,
        "kept_up": step.kept_up(),
        "drained_in_ns": step.drained_in().as_nanos() as u64,
        "in_flight_peak": step.journey.in_flight_peak,
        "total": percentiles(&step.journey.total),
        "total_mean_ns": step.journey.total.mean(),
        "stages": stages.collect::<Vec<_>>(),
    })
}
