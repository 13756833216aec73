//! `millrace bench`: what this machine does with this release.

use super::CliError;
use crate::bench::workload::{Orders, Payments, Transfers, Workload};
use crate::bench::{engine, human, machine};
use crate::engine::Limits;
use serde_json::json;

/// Measure the engine, the journal, the pipeline or the wire on this machine.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace bench engine --workload orders --rate 1000000")]
pub(crate) struct Args {
    /// What to measure
    what: What,
    /// What it does
    #[arg(long, value_enum, default_value_t = Kind::Transfers)]
    workload: Kind,
    /// Commands per second for latency, from planned start (open loop); 0 for throughput only
    #[arg(long, default_value_t = 0)]
    rate: u64,
    /// Commands to execute
    #[arg(long, default_value_t = 4_000_000)]
    commands: u64,
    /// Accounts (transfers, payments)
    #[arg(long, default_value_t = 1_000_000)]
    accounts: u64,
    /// Orders resting in the book (orders)
    #[arg(long, default_value_t = 1_000)]
    resting: usize,
    /// Seed of the workload
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// Engine alone
    Engine,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Plain transfers between random accounts
    Transfers,
    /// Payments that settle at entry
    Payments,
    /// Order flow like exchange-core's, with holds, DvP and fees
    Orders,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut workload: Box<dyn Workload> = match args.workload {
        Kind::Transfers => Box::new(Transfers::new(args.accounts.max(2), args.seed)),
        Kind::Payments => Box::new(Payments::new(args.accounts.max(2), args.seed)),
        Kind::Orders => Box::new(Orders::new(args.resting, 1_000, args.seed)),
    };
    match args.what {
        What::Engine => run_engine(args, workload.as_mut()),
    }
}

fn run_engine(args: &Args, workload: &mut dyn Workload) -> Result<(), CliError> {
    let room = |n: u64| u32::try_from(n).unwrap_or(u32::MAX / 4);
    let limits = Limits {
        accounts: room(args.accounts + 4_096),
        transfers: room(args.commands * 2 + 65_536),
        payments: room(args.commands * 2 + 65_536),
        orders: room(args.resting as u64 * 4 + (1 << 20)),
        client_order_ids: room(args.commands + args.resting as u64 * 4 + (1 << 20)),
        ..Limits::default()
    };
    let mut prepared = engine::prepare(workload, &limits);
    let warm_up = engine::throughput(&mut prepared, workload, args.commands / 8);
    let fast = engine::throughput(&mut prepared, workload, args.commands);
    let paced = (args.rate > 0).then(|| {
        let commands = (args.commands / 2).min(2_000_000);
        engine::open_loop(&mut prepared, workload, commands, args.rate)
    });
    prepared
        .audit()
        .map_err(|why| CliError::Failed(format!("audit after the run: {why}")))?;
    if args.json {
        let all = json!({
            "machine": machine(),
            "throughput": fast.to_json(),
            "open_loop": paced.as_ref().map(engine::Measured::to_json),
            "rate": args.rate,
        });
        println!("{all:#}");
        return Ok(());
    }
    println!("{}", machine());
    let _ = warm_up;
    println!(
        "engine alone: {} commands, {} events, {:.2} M/s, {:.0} ns per command",
        fast.commands,
        fast.events,
        fast.per_second() / 1e6,
        1e9 / fast.per_second()
    );
    if let Some((latency, paced)) = paced.as_ref().and_then(|p| Some((p.latency.as_ref()?, p))) {
        println!(
            "open loop at {}/s ({:.0}/s done): p50 {} p99 {} p99.9 {} max {}",
            args.rate,
            paced.per_second(),
            human(latency.value_at_quantile(0.5)),
            human(latency.value_at_quantile(0.99)),
            human(latency.value_at_quantile(0.999)),
            human(latency.max()),
        );
    }
    Ok(())
}
