//! `millrace demo`: the main job on an embedded default.

use super::CliError;
use super::terminal::{Progress, paint};
use crate::demo::{Audience, DemoError, Size, demonstrate};

/// Play a compressed business day on a node of its own, kill it, recover it, prove it.
///
/// Needs nothing: the node listens on a free local port and journals, durable on disk, into a
/// temporary directory.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace demo --payments 100000 --rate 20000")]
pub(crate) struct Args {
    /// Payments
    #[arg(long, default_value_t = 40_000)]
    payments: usize,
    /// Order commands
    #[arg(long, default_value_t = 40_000)]
    orders: usize,
    /// Commands per second, open loop
    #[arg(long, default_value_t = 8_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    rate: u64,
    /// Seed of the day
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let binary = std::env::current_exe()
        .map_err(|error| CliError::Failed(format!("cannot find the own binary: {error}")))?;
    let size = Size {
        payments: args.payments,
        orders: args.orders,
        rate: args.rate,
        seed: args.seed,
    };
    let mut terminal = Terminal { bar: None };
    let report = demonstrate(&binary, size, &mut terminal);
    drop(terminal);
    match report {
        Ok(report) => {
            for line in report.lines() {
                let is_title = !line.is_empty() && !line.starts_with(' ');
                let is_verdict = line.contains("equal: nothing lost");
                match (is_title, is_verdict) {
                    (true, _) => say!("{}", paint(line, "1;36")),
                    (_, true) => say!("{}", paint(line, "1;32")),
                    _ => say!("{line}"),
                }
            }
            Ok(())
        }
        Err(error @ DemoError::Wrong(_)) => Err(CliError::Failed(format!("{error} (a bug)"))),
        Err(error) => Err(CliError::failed(error)),
    }
}

struct Terminal {
    bar: Option<Progress>,
}

impl Audience for Terminal {
    fn says(&mut self, line: &str) {
        self.bar = None;
        say!("{} {line}", paint(">", "1;33"));
    }

    fn progress(&mut self, done: usize, total: usize, queued: u64) {
        let bar = self
            .bar
            .get_or_insert_with(|| Progress::new(total as u64, "commands"));
        bar.at(done as u64);
        bar.note(&format!("{queued} payments queued"));
    }
}
