//! `millrace-simulator`: a whole node and its clients in one thread, where everything follows from a
//! seed; thousands of them, until one finds something.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use millrace_tools::simulator::{Counts, Failure, Order, STEPS, command, simulate};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Simulate a node, its clients, its network and its disk, seed after seed. Exit 0 when nothing was
/// found; otherwise the last line is the command that shows it again.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  millrace-simulator --seeds 10000\n  millrace-simulator --seed 123 --log"
)]
struct Args {
    /// Simulations, of this seed and those that follow it
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps of each simulation, before it is left to come to rest
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// Print every step
    #[arg(long)]
    log: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let bar = bar(args.seeds);
    let started = Instant::now();
    let mut counts = Counts::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let order = Order {
            steps: args.steps,
            is_loud: args.log,
            ..Order::of(seed)
        };
        // A bug may also be a panic, and that ends the process.
        say_at_panic(&order);
        match simulate(&order) {
            Ok(outcome) => counts.add(&outcome.counts),
            Err(failure) => {
                bar.finish_and_clear();
                return fail(&failure);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    report(&counts, args.seeds, started.elapsed());
    ExitCode::SUCCESS
}

fn bar(seeds: u64) -> ProgressBar {
    if seeds < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:40.cyan/blue} {percent:>3} %  {human_pos} of {human_len} seeds  {per_sec}  {eta} left";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(seeds);
    bar.enable_steady_tick(Duration::from_millis(200));
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

fn say_at_panic(order: &Order) {
    let line = command(order.seed, order.steps);
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("{panic}\n{line}");
    }));
}

fn fail(failure: &Failure) -> ExitCode {
    eprintln!("millrace-simulator: {failure}");
    ExitCode::from(1)
}

fn report(counts: &Counts, seeds: u64, took: Duration) {
    println!("{:>14}  seeds", grouped(seeds));
    for (words, count) in counts.rows() {
        println!("{:>14}  {words}", grouped(count));
    }
    let simulated = counts.simulated_ms as f64 / 1_000.0;
    let real = took.as_secs_f64();
    println!(
        "{:.1} simulated hours in {real:.1} s: {:.2} simulated hours a second, {:.0} times real time",
        simulated / 3_600.0,
        simulated / 3_600.0 / real,
        simulated / real
    );
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
