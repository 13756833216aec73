//! `millrace bench snapshot`: what a node's clients feel while a follower writes a snapshot beside it.

use super::replay::BEGUN;
use super::seats::Seats;
use super::{Args, CliError, Report, place, quantiles, start};
use crate::bench::beside::{Interval, Load};
use crate::bench::restart::{self, Snapshot};
use crate::bench::venue::Venue;
use crate::bench::{human, percentiles};
use crate::config::Config;
use crate::engine::Limits;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Commands a second where no rate is given.
const RATE: u64 = 2_000;
const ROUNDS: usize = 3;
/// Commands are offered for that long before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the node is left alone in a round.
const ALONE: Duration = Duration::from_secs(10);

/// A node with many accounts and resting orders; by turns nothing and a follower beside it.
pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let rate = if args.rate == 0 { RATE } else { args.rate };
    let rounds = args.rounds.unwrap_or(ROUNDS).max(1);
    let place = place(args)?;
    let seats = Seats::choose(args.durability, &place.path)?;
    let config = Config {
        limits: limits(args, rate, rounds),
        ..seats.config(args, &place.path, 0)?
    };
    let mut venue = Box::new(Venue::new(args.accounts, args.resting, args.seed));
    let made = crate::bench::replay::make(&config.dir, venue.as_mut(), 0, BEGUN)
        .map_err(CliError::Failed)?;
    restart::keep_limits(&config.dir, &config.limits).map_err(CliError::Failed)?;
    // The first snapshot is of a stopped node, as it would be of the evening before.
    let first =
        restart::snapshot(&config.dir, &config.limits, made.commands).map_err(CliError::Failed)?;
    let node = start(&config, &place.path)?;
    // The client and what it starts stay off the node's core.
    seats.pin_client();
    let mut load = Load::connect(node.address, venue, rate).map_err(CliError::failed)?;
    load.offer(after(WARM_UP)).map_err(CliError::failed)?;
    let mut measured = Vec::new();
    for _ in 0..rounds {
        measured.push(Round::measure(&mut load, &config.dir, args.pace)?);
    }
    drop(load);
    node.stop().map_err(CliError::Failed)?;
    Ok(report(args, rate, &config, &first, &measured))
}

/// Room for what there is and what is offered.
fn limits(args: &Args, rate: u64, rounds: usize) -> Limits {
    let room = |n: u64| u32::try_from(n).unwrap_or(Limits::ENTRIES_MAX);
    // Snapshots of ten million accounts take a minute each.
    let offered = rate * 180 * rounds as u64 + 65_536;
    Limits {
        accounts: room(args.accounts + 8_192),
        transfers: room(offered),
        payments: 65_536,
        orders: room(args.resting as u64 + offered / 8 + 65_536),
        client_order_ids: room(args.resting as u64 + offered / 4 + 65_536),
        ..Limits::default()
    }
}

fn after(how_long: Duration) -> impl FnMut() -> bool {
    let started = Instant::now();
    move || started.elapsed() >= how_long
}

/// The node alone, and beside a follower from its start to its end.
struct Round {
    alone: Interval,
    beside: Interval,
    /// The snapshot's file.
    bytes: u64,
    took: Duration,
}

impl Round {
    fn measure(load: &mut Load, dir: &Path, pace: Option<u64>) -> Result<Round, CliError> {
        let alone = load.offer(after(ALONE)).map_err(CliError::failed)?;
        let started = Instant::now();
        let mut follower = follower(dir, pace)?;
        let mut ended = None;
        let beside = load
            .offer(|| {
                ended = follower.0.try_wait().transpose();
                ended.is_some()
            })
            .map_err(CliError::failed)?;
        let took = started.elapsed();
        match ended {
            Some(Ok(status)) if status.success() => {}
            other => {
                let why = format!("millrace snapshot ended with {other:?}");
                return Err(CliError::Failed(why));
            }
        }
        let bytes = keep_newest(dir)?;
        Ok(Round {
            alone,
            beside,
            bytes,
            took,
        })
    }

    /// How many times the other one p99 is beside a follower.
    fn ratio(&self) -> f64 {
        p99(&self.beside.total) as f64 / p99(&self.alone.total).max(1) as f64
    }

    fn to_json(&self) -> Value {
        json!({
            "alone": interval_json(&self.alone),
            "beside": interval_json(&self.beside),
            "p99_ratio": self.ratio(),
            "snapshot_bytes": self.bytes,
            "snapshot_s": self.took.as_secs_f64(),
        })
    }
}

/// A follower; killed where the measuring ends before it.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follower(dir: &Path, pace: Option<u64>) -> Result<Follower, CliError> {
    let binary = std::env::current_exe()
        .map_err(|error| CliError::Failed(format!("cannot find the own binary: {error}")))?;
    let mut command = Command::new(binary);
    command.args(["snapshot", "--dir"]).arg(dir);
    match pace {
        Some(0) => {
            command.arg("--fast");
        }
        Some(pace) => {
            command.arg("--pace").arg(pace.to_string());
        }
        None => {}
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| CliError::Failed(format!("cannot start millrace snapshot: {error}")))?;
    Ok(Follower(child))
}

/// Removes all snapshots but the newest, which the next follower begins from; its size.
fn keep_newest(dir: &Path) -> Result<u64, CliError> {
    let all = crate::replay::snapshot_store::list(dir)?;
    for (_, path) in all.iter().skip(1) {
        std::fs::remove_file(path)?;
    }
    let newest = all.first().map(|(_, path)| std::fs::metadata(path));
    Ok(newest.transpose()?.map_or(0, |newest| newest.len()))
}

fn p99(latency: &Histogram<u64>) -> u64 {
    latency.value_at_quantile(0.99)
}

fn interval_json(interval: &Interval) -> Value {
    json!({
        "total": percentiles(&interval.total),
        "node": percentiles(&interval.node),
        "seconds": interval.elapsed.as_secs_f64(),
        "in_flight_peak": interval.in_flight_peak,
    })
}

fn report(args: &Args, rate: u64, config: &Config, first: &Snapshot, rounds: &[Round]) -> Report {
    let (mut alone, mut beside) = (Interval::new(), Interval::new());
    for round in rounds {
        alone.add(&round.alone);
        beside.add(&round.beside);
    }
    let ratio = |of: fn(&Interval) -> &Histogram<u64>| {
        p99(of(&beside)) as f64 / p99(of(&alone)).max(1) as f64
    };
    let (total, node) = (ratio(|it| &it.total), ratio(|it| &it.node));
    let mut quiet: Vec<u64> = rounds.iter().map(|it| p99(&it.alone.total)).collect();
    quiet.sort_unstable();
    let mut ratios: Vec<f64> = rounds.iter().map(Round::ratio).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let last = rounds.last();
    let (bytes, took) = last.map_or((0, 0.0), |it| (it.bytes, it.took.as_secs_f64()));
    let lines = vec![
        format!(
            "{} accounts, {} resting orders, {rate} commands/s, durability {}, {} rounds",
            args.accounts,
            args.resting,
            config.durability,
            rounds.len()
        ),
        format!(
            "snapshot: {:.2} GB; by a follower beside the node, from the one before, in {took:.1} s; of the stopped node, \
             replayed in {:.1} s and written in {:.1} s",
            bytes as f64 / 1e9,
            first.replayed.as_secs_f64(),
            first.written.as_secs_f64()
        ),
        format!(
            "client, planned moment to reply: alone  {}",
            quantiles(&alone.total)
        ),
        format!(
            "                                 beside {}",
            quantiles(&beside.total)
        ),
        format!(
            "node, door to end of execution:  alone  {}",
            quantiles(&alone.node)
        ),
        format!(
            "                                 beside {}",
            quantiles(&beside.node)
        ),
        format!(
            "p99 beside over p99 alone: client {total:.3}, node {node:.3}; client by rounds {:.3} to {:.3}; p99 alone by rounds {} to {}",
            ratios.first().unwrap_or(&0.0),
            ratios.last().unwrap_or(&0.0),
            human(quiet.first().copied().unwrap_or(0)),
            human(quiet.last().copied().unwrap_or(0)),
        ),
    ];
    let value = json!({
        "accounts": args.accounts,
        "resting": args.resting,
        "rate": rate,
        "durability": config.durability.to_string(),
        "pace_mb": args.pace,
        "first_snapshot": { "bytes": first.bytes, "replay_s": first.replayed.as_secs_f64(),
            "write_s": first.written.as_secs_f64() },
        "rounds": rounds.iter().map(Round::to_json).collect::<Vec<_>>(),
        "alone": interval_json(&alone),
        "beside": interval_json(&beside),
        "p99_ratio": { "client": total, "node": node },
    });
    (lines, value)
}
