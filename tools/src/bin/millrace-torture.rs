//! `millrace-torture`: a node under everything that can happen to it, and an independent comparison of
//! what its clients were told with what its journal holds.

use clap::Parser;
use millrace::config::Durability;
use millrace_tools::torture::{Kind, Plan, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Do to a node whatever can happen to one, round after round, and compare what its clients were told
/// with what its journal holds. Exit 0 when nothing is lost, doubled, invented or changed.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:\n  millrace-torture --rounds 2000 --markdown\n  millrace-torture --rounds 100 --only kill,pause-kill --durability disk"
)]
struct Args {
    /// Rounds
    #[arg(long, default_value_t = 28)]
    rounds: u32,
    /// Rounds in the life of one journal; then it is compared
    #[arg(long, default_value_t = 28)]
    rounds_per_journal: u32,
    /// Kinds of rounds, in any mixture; all of them when left out
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    only: Vec<Kind>,
    /// Honest clients that send all the while
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=64))]
    clients: u64,
    /// Policy of the node; by turns when left out
    #[arg(long)]
    durability: Option<Durability>,
    /// Decides what is tried
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where journals and records are written; a temporary directory when left out, kept when something
    /// is wrong
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,
    /// Say on stderr what is going on
    #[arg(long)]
    verbose: bool,
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
    let plan = Plan {
        binary: args.binary.clone().map_or_else(beside, Ok)?,
        rounds: args.rounds,
        rounds_per_journal: args.rounds_per_journal,
        clients: args.clients,
        durability: args.durability,
        seed: args.seed,
        transfers: 1 << 21,
        kinds: args.only.clone(),
        talks: args.verbose,
    };
    let mut temporary = None;
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => {
            let made = tempfile::tempdir().map_err(|error| error.to_string())?;
            temporary.insert(made).path().to_owned()
        }
    };
    let result = run(&plan, &dir);
    if result.is_err()
        && let Some(made) = temporary
    {
        eprintln!(
            "millrace-torture: what there was is in {}",
            made.keep().display()
        );
    }
    let report = result?;
    print!("{}", report.render(args.markdown));
    Ok(report.is_clean())
}
