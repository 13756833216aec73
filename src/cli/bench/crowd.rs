//! `bench wire --idle-connections`: what a crowd costs the one session that works.

use super::seats::Seats;
use super::{Args, Report, place, quantiles, start};
use crate::bench::crowd::Crowd;
use crate::bench::wire::Wire;
use crate::bench::{histogram, percentiles};
use crate::cli::CliError;
use crate::config::Durability;
use crate::process::allow_open_files;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::Duration;

/// Intervals of each kind.
const TURNS: u64 = 5;
/// Round trips before an interval.
const WARM_UP: u64 = 200;
/// More than one session makes with one command in flight, by far.
const ROUND_TRIPS_A_SECOND: f64 = 200_000.0;
/// Files that this process and the node have open beside the crowd.
const OTHER_FILES: u64 = 256;

const ROWS: [&str; 3] = ["alone", "with idle ones", "and a storm"];

pub(super) fn run(args: &Args) -> Result<Report, CliError> {
    let count = args.idle_connections.unwrap_or(0);
    let wanted = count + OTHER_FILES;
    let allowed = allow_open_files(wanted);
    if allowed < wanted {
        return Err(CliError::Failed(format!(
            "{count} connections need {wanted} open files and this process may have {allowed}: \
             raise ulimit -n"
        )));
    }
    let place = place(args)?;
    let seats = Seats::choose(args.durability, &place.path)?;
    let measured = args.seconds * (TURNS * ROWS.len() as u64) as f64;
    let transfers =
        (measured * ROUND_TRIPS_A_SECOND) as u64 + TURNS * ROWS.len() as u64 * WARM_UP * 2;
    let mut config = seats.config(args, &place.path, transfers)?;
    config.gateway.connections = wanted as usize;
    let node = start(&config, &place.path)?;
    seats.pin_client();
    let spins = args.durability == Durability::Process && seats.apart();
    let accounts = args.accounts.min(100_000);
    let mut wire =
        Wire::open(node.address, accounts, args.seed, spins).map_err(CliError::failed)?;
    let mut crowd = Crowd::new(node.address);
    let mut rows: [Histogram<u64>; 3] = std::array::from_fn(|_| histogram());
    let interval = Duration::from_secs_f64(args.seconds);
    let io = |error| CliError::Failed(format!("the crowd: {error}"));
    // By turns, so that a machine in a bad mood is so for all three.
    for _ in 0..TURNS {
        for (at, row) in rows.iter_mut().enumerate() {
            if at == 1 {
                crowd.fill(count as usize).map_err(io)?;
            }
            let per_second = if at == 2 { args.reconnect_storm } else { 0 };
            wire.round_trips(WARM_UP as usize)
                .map_err(CliError::failed)?;
            let latency = wire
                .round_trips_beside(interval, &mut crowd, per_second)
                .map_err(CliError::failed)?;
            row.add(&latency).map_err(CliError::failed)?;
        }
        crowd.leave();
    }
    let reconnects = crowd.reconnects;
    drop(wire);
    let greeting = node.greeting.clone();
    node.stop().map_err(CliError::Failed)?;
    let mut lines = vec![
        greeting,
        format!(
            "one transfer in flight; {count} idle sessions; {reconnects} reconnects, {} a second:",
            args.reconnect_storm
        ),
    ];
    let ratio = |row: &Histogram<u64>, quantile: f64| {
        row.value_at_quantile(quantile) as f64 / rows[0].value_at_quantile(quantile).max(1) as f64
    };
    for (name, row) in ROWS.iter().zip(&rows) {
        lines.push(format!(
            "  {name:<15}{}  against alone: p50 {:.2}x p99 {:.2}x p99.9 {:.2}x",
            quantiles(row),
            ratio(row, 0.5),
            ratio(row, 0.99),
            ratio(row, 0.999),
        ));
    }
    let value = json!({
        "durability": args.durability.to_string(),
        "idle_connections": count,
        "reconnects": reconnects,
        "reconnects_per_second": args.reconnect_storm,
        "rows": ROWS.iter().zip(&rows).map(|(name, row)| json!({
            "name": name,
            "latency": percentiles(row),
            "p99_against_alone": ratio(row, 0.99),
        })).collect::<Vec<_>>(),
    });
    Ok((lines, value))
}
