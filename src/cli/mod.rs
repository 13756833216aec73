//! The program's verbs. Every verb is a file: its arguments, its `--help`, what it does. Exit codes:
//! 0 done, 1 the thing asked for failed, 2 usage or malformed input; errors are one line on stderr.

/// Prints a line to stdout. Whoever reads it may have gone (`millrace bench ... | head`): that is
/// no failure of ours.
macro_rules! say {
    ($($line:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($line)*);
    }};
}

mod archive;
mod bench;
mod book;
mod client;
mod demo;
mod doctor;
mod history;
mod journal;
mod moment;
mod replay;
mod run;
mod serve;
mod settings;
mod simulate;
mod snapshot;
mod solve;
mod stats;
mod terminal;
mod verify;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The real-time core under an exchange and a payment system: one thread, one order of events,
/// everything in a journal.
#[derive(Parser)]
#[command(name = "millrace", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Args),
    Serve(serve::Args),
    Doctor(doctor::Args),
    Run(run::Args),
    Replay(replay::Args),
    Verify(verify::Args),
    Journal(journal::Args),
    Snapshot(snapshot::Args),
    Archive(archive::Args),
    History(history::Args),
    Simulate(simulate::Args),
    Solve(solve::Args),
    Client(client::Args),
    Bench(bench::Args),
}

/// Why a verb did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum CliError {
    /// Wrong words or malformed input: exit code 2.
    Usage(String),
    /// It failed: exit code 1.
    Failed(String),
    /// Whoever read our output has gone: nothing more to say.
    ReaderGone,
}

impl CliError {
    fn failed(error: impl std::fmt::Display) -> CliError {
        CliError::Failed(error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    /// For writes to stdout; everything else names its file itself.
    fn from(error: std::io::Error) -> CliError {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => CliError::ReaderGone,
            _ => CliError::Failed(format!("cannot write output: {error}")),
        }
    }
}

/// Help goes to stdout as it is; what is wrong with the words becomes one line.
fn complain(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    let what: Vec<&str> = text
        .lines()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    eprintln!("millrace: {what} (see --help)");
    ExitCode::from(2)
}

/// Runs the verb named on the command line.
pub fn main() -> ExitCode {
    millrace_journal::report_lost_pages();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return complain(&error),
    };
    let result = match cli.verb {
        Verb::Demo(args) => demo::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Verify(args) => verify::run(&args),
        Verb::Journal(args) => journal::run(&args),
        Verb::Snapshot(args) => snapshot::run(&args),
        Verb::Archive(args) => archive::run(&args),
        Verb::History(args) => history::run(&args),
        Verb::Simulate(args) => simulate::run(&args),
        Verb::Solve(args) => solve::run(&args),
        Verb::Client(args) => client::run(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) | Err(CliError::ReaderGone) => ExitCode::SUCCESS,
        Err(CliError::Failed(why)) => {
            eprintln!("millrace: {why}");
            ExitCode::from(1)
        }
        Err(CliError::Usage(why)) => {
            eprintln!("millrace: {why}");
            ExitCode::from(2)
        }
    }
}
