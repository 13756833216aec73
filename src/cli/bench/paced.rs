//! The open loop of `bench wire --rate`: the node, and by turns a raw echo at the same rate, so that a
//! reader sees which part of the tail is the machine's.

use super::seats::Seats;
use super::{Args, Place, quantiles, ratio_at};
use crate::bench::echo::Echo;
use crate::bench::lines::{COMMAND_BYTES, Lines, Paced, Peer};
use crate::bench::percentiles;
use crate::bench::wire::{Stages, Wire};
use crate::bench::workload::Transfers;
use crate::bench::yardstick::RawAppend;
use crate::cli::CliError;
use crate::config::Durability;
use crate::process::NodeProcess;
use serde_json::{Value, json};

/// Times that node and echo take turns.
const TURNS: u64 = 5;

/// Transfers of all turns: five seconds' worth, or `--commands`.
pub(super) fn commands(args: &Args) -> u64 {
    let all = args.commands.min(args.rate.saturating_mul(5));
    all.div_ceil(TURNS) * TURNS
}

/// What both did at one rate.
pub(super) struct OpenLoop {
    rate: u64,
    durability: Durability,
    ours: Stages,
    raw: Paced,
}

impl OpenLoop {
    /// Measures both at `--rate`; the echo on a core of the node, which is paused meanwhile.
    pub(super) fn measure(
        args: &Args,
        place: &Place,
        node: &NodeProcess,
        wire: &mut Wire,
        seats: &Seats,
    ) -> Result<OpenLoop, CliError> {
        let failed = |error: std::io::Error| CliError::Failed(format!("yardstick: {error}"));
        let syncs = args.durability == Durability::Disk;
        let disk = syncs.then(|| RawAppend::prepare(&place.path, COMMAND_BYTES));
        let core = if syncs { seats.journal() } else { seats.door() };
        let echo = Echo::start(Some(core), disk.transpose().map_err(failed)?).map_err(failed)?;
        let workload = Transfers::new(args.accounts.min(100_000), args.seed);
        let mut lines =
            Lines::new(echo.address(), Peer::Echo, workload, seats.apart()).map_err(failed)?;
        lines.connect(1).map_err(CliError::failed)?;
        let count = commands(args) / TURNS;
        let mut ours: Option<Stages> = None;
        let mut raw = Paced::new();
        for _ in 0..TURNS {
            let stages = wire.open_loop(count, args.rate).map_err(CliError::failed)?;
            match &mut ours {
                Some(ours) => add(ours, &stages),
                None => ours = Some(stages),
            }
            node.pause();
            let paced = lines.open_loop(count, args.rate, usize::MAX);
            node.resume();
            raw.add(&paced.map_err(CliError::failed)?);
        }
        Ok(OpenLoop {
            rate: args.rate,
            durability: args.durability,
            ours: ours.expect("there is a turn"),
            raw,
        })
    }

    /// The lines of the report.
    pub(super) fn lines(&self) -> Vec<String> {
        let OpenLoop { ours, raw, .. } = self;
        let done = ours.commands as f64 / ours.elapsed.as_secs_f64();
        let mut lines = vec![format!(
            "open loop at {}/s ({done:.0}/s done), at most {} in flight:",
            self.rate, ours.in_flight_peak
        )];
        for (name, latency) in [
            ("request", &ours.request),
            ("processing", &ours.processing),
            ("response", &ours.response),
            ("sum", &ours.total),
        ] {
            lines.push(format!("  {name:<11}{}", quantiles(latency)));
        }
        let what = match self.durability {
            Durability::Process => "raw TCP echo of as many bytes",
            Durability::Disk => "raw TCP echo that appends and syncs first",
        };
        lines.push(format!(
            "  by turns, {what} ({:.0}/s done): {}",
            raw.per_second(),
            quantiles(&raw.latency)
        ));
        let against = |quantile| ratio_at(&ours.total, &raw.latency, quantile);
        lines.push(format!(
            "  sum against raw: p50 {:.2}x p99 {:.2}x p99.9 {:.2}x",
            against(0.5),
            against(0.99),
            against(0.999)
        ));
        lines
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "rate": self.rate,
            "request": percentiles(&self.ours.request),
            "processing": percentiles(&self.ours.processing),
            "response": percentiles(&self.ours.response),
            "total": percentiles(&self.ours.total),
            "in_flight_peak": self.ours.in_flight_peak,
            "raw": percentiles(&self.raw.latency),
            "raw_per_second": self.raw.per_second(),
        })
    }
}

/// Takes in another turn of the node.
fn add(stages: &mut Stages, other: &Stages) {
    stages.request += &other.request;
    stages.processing += &other.processing;
    stages.response += &other.response;
    stages.total += &other.total;
    stages.commands += other.commands;
    stages.elapsed += other.elapsed;
    stages.in_flight_peak = stages.in_flight_peak.max(other.in_flight_peak);
}
