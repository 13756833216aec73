//! `millrace-baseline`: the usual design (a Redis lock, a broker, a SQL transaction per payment) and Millrace
//! play the same payments in one run; both columns are printed side by side.
//!
//! ```text
//!  client --lock both accounts--> Redis          client --transfer--> node
//!         --publish, confirm----> RabbitMQ              <--event-----  (durable)
//!                worker <-deliver-- RabbitMQ
//!                worker --transaction--> MariaDB
//!         <--reply-- RabbitMQ <--publish-- worker
//!         --unlock--------------> Redis
//! ```
//!
//! Both sides answer only what is on disk. Among the payments are tries to spend twice: the same payment
//! sent by two clients at once, and pairs of payments that an account can cover only one of.

mod ours;
mod payments;
mod report;
mod servers;
mod usual;

use clap::Parser;
use payments::Plan;
use servers::Servers;
use std::path::PathBuf;
use std::process::ExitCode;

/// Play the same payments through the usual design and through Millrace, and print both.
///
/// Needs root the first time, to install redis-server, rabbitmq-server and mariadb-server from Debian's
/// packages. Everything listens on loopback, in a temporary directory, and is stopped at the end.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  millrace-baseline --clients 1,8 --payments 2000"
)]
struct Args {
    /// Payments of each row
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    payments: u32,
    /// Clients, a row each
    #[arg(long, default_value = "1,8", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=64))]
    clients: Vec<u32>,
    /// Accounts; one in five payments goes to or from the first
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    accounts: u32,
    /// How long a lock lives, milliseconds
    #[arg(long, default_value_t = 5_000)]
    lock_ttl_ms: u64,
    /// Holders that pause for longer than their lock lives, to see what a lapsed lock lets through
    #[arg(long, default_value_t = 20)]
    pauses: u32,
    /// Seed of the payments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The millrace binary; the one beside this program when left out
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The script that starts the servers; the one in the source tree when left out
    #[arg(long)]
    servers: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("millrace-baseline: {why}");
            ExitCode::from(1)
        }
    }
}

fn compare(args: &Args) -> Result<(), String> {
    let binary = match &args.binary {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|error| error.to_string())?
            .with_file_name("millrace"),
    };
    if !binary.exists() {
        return Err(format!(
            "{} is not there: cargo build --release",
            binary.display()
        ));
    }
    let script = args
        .servers
        .clone()
        .unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/servers.sh").into());
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let servers = Servers::start(&script, dir.path())?;
    let mut rows = Vec::new();
    for clients in &args.clients {
        let plan = Plan::new(args.payments, args.accounts, *clients, args.seed);
        let usual = usual::play(&servers, &plan, args.lock_ttl_ms)?;
        let ours = ours::play(&binary, &plan, dir.path())?;
        rows.push(report::Row {
            clients: *clients,
            usual,
            ours,
        });
    }
    let lapsed = usual::lapse(&servers, args.pauses)?;
    if args.json {
        report::print_json(&rows, &lapsed);
    } else {
        report::print(&rows, &lapsed);
    }
    Ok(())
}
