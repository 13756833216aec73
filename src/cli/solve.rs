//! `millrace solve`: find what can settle together beside a running node, and propose it.

use super::terminal::grouped;
use super::{CliError, settings};
use crate::client::{Client, Options as ClientOptions};
use crate::proposer::{News, Options, ProposeError, Proposer, Tally};
use crate::protocol::command::ITEMS_MAX;
use crate::protocol::units::PaymentId;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Find payments that can settle together and propose them to a running node.
///
/// Follows the journal, solves what waits beyond what the node's own algorithms settle, and submits
/// propose_batch. The node checks every batch and never waits for this.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace solve --dir /var/lib/millrace --once
  millrace solve --dir /var/lib/millrace --interval 5000 --budget-ms 2000
  millrace solve --dir /var/lib/millrace --dry-run --json")]
pub(crate) struct Args {
    /// Directory of the node's journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Address of the node that writes it
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7411", value_parser = settings::address)]
    connect: SocketAddr,
    /// Solve once and end; left out, it goes on until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Milliseconds between the beginnings of two rounds
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    interval: u64,
    /// Milliseconds to improve a solution, for each asset; 0 rounds the relaxation only
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(0..=3_600_000))]
    budget_ms: u64,
    /// Payments of one batch at most; larger solutions go in several
    #[arg(long, value_name = "N", default_value_t = ITEMS_MAX as u64, value_parser = clap::value_parser!(u64).range(1..=ITEMS_MAX as u64))]
    batch: u64,
    /// Seed of the solver
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Say what would be proposed, once, and ask no node
    #[arg(long)]
    dry_run: bool,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    settings::limits_of(&args.dir)?;
    let options = Options {
        budget: Duration::from_millis(args.budget_ms),
        batch: args.batch as usize,
        seed: args.seed,
        ..Options::default()
    };
    let mut node = match args.dry_run {
        true => None,
        false => Some(
            Client::connect(args.connect, ClientOptions::default()).map_err(CliError::failed)?,
        ),
    };
    let mut proposer = Proposer::open(&args.dir, options).map_err(CliError::failed)?;
    if args.once || args.dry_run {
        let tally = round(args, &mut proposer, node.as_mut(), &mut || false);
        return say_tally(args, tally.map_err(CliError::failed)?);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|error| CliError::Failed(format!("cannot watch for signals: {error}")))?;
    }
    follow(args, &mut proposer, node.as_mut(), &stop)
}

/// Longest rest between two looks at the signals.
const REST: Duration = Duration::from_millis(50);

/// Rounds at intervals, each where something changed since the last.
fn follow(
    args: &Args,
    proposer: &mut Proposer,
    mut node: Option<&mut Client>,
    stop: &AtomicBool,
) -> Result<(), CliError> {
    let is_over = || stop.load(Ordering::Relaxed);
    let mut solved = None;
    while !is_over() {
        let next = Instant::now() + Duration::from_millis(args.interval);
        proposer.catch_up().map_err(CliError::failed)?;
        let mut waiting = proposer.waiting();
        waiting.sequence = 0;
        if solved.as_ref() != Some(&waiting) && !waiting.payments.is_empty() {
            match round(args, proposer, node.as_deref_mut(), &mut || is_over()) {
                Ok(tally) => say_tally(args, tally)?,
                // Another time, another state.
                Err(error @ (ProposeError::PhaseForbids | ProposeError::Outrun { .. })) => {
                    eprintln!("millrace: {error}");
                }
                Err(error) => return Err(CliError::failed(error)),
            }
            proposer.catch_up().map_err(CliError::failed)?;
            waiting = proposer.waiting();
            waiting.sequence = 0;
            solved = Some(waiting);
        }
        while Instant::now() < next && !is_over() {
            std::thread::sleep(REST.min(next.saturating_duration_since(Instant::now())));
        }
    }
    Ok(())
}

fn round(
    args: &Args,
    proposer: &mut Proposer,
    node: Option<&mut Client>,
    is_over: &mut dyn FnMut() -> bool,
) -> Result<Tally, ProposeError> {
    proposer.round(node, is_over, &mut |news| {
        if args.json {
            say!("{}", news_json(&news, args.dry_run));
        } else {
            say!("{}", news_text(&news, args.dry_run));
        }
    })
}

fn say_tally(args: &Args, tally: Tally) -> Result<(), CliError> {
    if args.json {
        say!(
            "{}",
            json!({
                "event": "round_done",
                "queued": tally.queued,
                "batches": tally.batches,
                "settled": tally.payments,
                "value": amount(tally.value),
            })
        );
    } else if tally.queued == 0 {
        say!("nothing waits");
    } else if tally.batches == 0 && !args.dry_run {
        say!("no payments that wait can settle together");
    }
    Ok(())
}

/// An integer, as a string where JSON readers would round it.
fn amount(value: u128) -> Value {
    match u64::try_from(value) {
        Ok(small) if small < 1 << 53 => json!(small),
        _ => json!(value.to_string()),
    }
}

/// Per cent, rounded down to a tenth.
fn share(part: u128, whole: u128) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 1_000.0).floor() / 10.0
}

fn money(value: u128) -> String {
    u64::try_from(value).map_or_else(|_| value.to_string(), grouped)
}

fn news_text(news: &News, lists: bool) -> String {
    match news {
        News::Solved {
            asset,
            sequence,
            queued,
            queued_value,
            chosen,
            value,
            bound,
            elapsed,
        } => {
            let mut text = format!(
                "asset {asset} after command {}: {} payments wait, {}; {} of them can settle \
                 together, {} ({:.1} %; none can be more than {:.1} %), found in {:.3} s",
                grouped(*sequence),
                grouped(*queued as u64),
                money(*queued_value),
                grouped(chosen.len() as u64),
                money(*value),
                share(*value, *queued_value),
                share(*bound, *queued_value),
                elapsed.as_secs_f64(),
                asset = asset.0,
            );
            if lists && !chosen.is_empty() {
                let ids: Vec<String> = chosen.iter().map(|id| id.0.to_string()).collect();
                text += "\nwould propose ";
                text += &ids.join(" ");
            }
            text
        }
        News::Settled {
            asset,
            sequence,
            payments,
            value,
        } => format!(
            "asset {} on command {}: settled {} payments, {}",
            asset.0,
            grouped(*sequence),
            grouped(*payments),
            money(*value)
        ),
        News::Overtaken {
            asset,
            sequence,
            reason,
        } => format!(
            "asset {} on command {}: refused ({reason}), the state has moved on; solving again",
            asset.0,
            grouped(*sequence)
        ),
    }
}

fn news_json(news: &News, lists: bool) -> Value {
    match news {
        News::Solved {
            asset,
            sequence,
            queued,
            queued_value,
            chosen,
            value,
            bound,
            elapsed,
        } => {
            let mut line = json!({
                "event": "solved",
                "asset": asset.0,
                "based_on_seq": sequence,
                "queued": queued,
                "queued_value": amount(*queued_value),
                "chosen": chosen.len(),
                "value": amount(*value),
                "bound": amount(*bound),
                "elapsed_ms": elapsed.as_millis() as u64,
            });
            if lists {
                line["payments"] = chosen.iter().map(id).collect();
            }
            line
        }
        News::Settled {
            asset,
            sequence,
            payments,
            value,
        } => json!({
            "event": "settled",
            "asset": asset.0,
            "seq": sequence,
            "settled": payments,
            "value": amount(*value),
        }),
        News::Overtaken {
            asset,
            sequence,
            reason,
        } => json!({
            "event": "refused",
            "asset": asset.0,
            "seq": sequence,
            "reason": reason.to_string(),
        }),
    }
}

fn id(id: &PaymentId) -> Value {
    amount(id.0)
}
