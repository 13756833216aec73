//! `millrace-torture`: kill -9 under load, and an independent count of what is lost or doubled.

use clap::Parser;
use millrace::config::Durability;
use millrace_tools::torture::{Plan, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Kill a node under load, over and over, and compare what its clients were told with what its
/// journal holds. Exit 0 when nothing is lost and nothing doubled.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  millrace-torture --rounds 1000 --durability disk"
)]
struct Args {
    /// Kills
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Clients that send all the while
    #[arg(long, default_value_t = 3)]
    clients: u32,
    /// Policy of the node
    #[arg(long, default_value_t = Durability::Disk)]
    durability: Durability,
    /// Seed of the pauses between kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The millrace binary; the one beside this program when left out
    #[arg(long)]
    binary: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match torture(&args) {
        Ok(is_clean) => ExitCode::from(u8::from(!is_clean)),
        Err(why) => {
            eprintln!("millrace-torture: {why}");
            ExitCode::from(1)
        }
    }
}

fn torture(args: &Args) -> Result<bool, String> {
    let beside = || {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        Ok::<_, String>(own.with_file_name("millrace"))
    };
    let binary = args.binary.clone().map_or_else(beside, Ok)?;
    let plan = Plan {
        binary,
        rounds: args.rounds,
        clients: args.clients,
        durability: args.durability,
        seed: args.seed,
    };
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let tally = run(&plan, dir.path())?;
    println!("kills         {}", tally.kills);
    println!("reconnects    {}", tally.reconnects);
    println!("acknowledged  {}", tally.acknowledged);
    println!("executed      {}", tally.executed);
    println!("lost          {}", tally.lost);
    println!("doubled       {}", tally.doubled);
    Ok(tally.lost == 0 && tally.doubled == 0)
}
