//! `millrace simulate`: a day of payments at several levels of liquidity, with and without liquidity
//! saving.

use super::CliError;
use super::terminal::{Progress, paint};
use crate::protocol::command::Algorithm;
use crate::protocol::frame::CommandRef;
use crate::protocol::json::write_command;
use crate::study::bounds::{Bounds, Level, Scale};
use crate::study::day::{Day, HOUR, Hours, Shape};
use crate::study::input::{self, PARTICIPANTS_MAX, PAYMENTS_MAX};
use crate::study::picture::{self, Panel};
use crate::study::play::{Batches, Rules, Saving, play};
use crate::study::report::{self, Origin};
use crate::study::{Plan, Study};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Play a day of payments at several levels of liquidity, with and without liquidity saving.
///
/// The day is invented from a seed, or an operator's own (--input). Each level is played through
/// the engine three times: with every queue strictly in order, with bypass, offset at entry and
/// automatic runs, and with batches that a solver finds as well. Measured are turnover ratio, value-weighted delay, queue, and what settled by
/// which mechanism. docs/study.md defines each. The same day prints the same bytes.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace simulate
  millrace simulate --chart study.svg
  millrace simulate --payments 500000 --participants 200 --seed 7 --csv levels.csv
  millrace simulate --input payments.csv --opens 02:30 --closes 18:00 --json
Columns of --input: time,debtor,creditor,amount and, where wanted, priority,latest.")]
pub(crate) struct Args {
    /// Payments of the day, beside those of the money market
    #[arg(long, default_value_t = 100_000, value_parser = payments, conflicts_with = "input")]
    payments: usize,
    /// Participants of the day
    #[arg(long, default_value_t = 50, value_parser = participants, conflicts_with = "input")]
    participants: u32,
    /// Seed of the day
    #[arg(long, default_value_t = 1, conflicts_with = "input")]
    seed: u64,
    /// Percent of what banks end the day with that they lend before closing to those that lack it
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u32).range(0..=100), conflicts_with = "input")]
    money_market: u32,
    /// Read the day from a file of comma-separated values instead
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// When the system opens
    #[arg(long, value_name = "HH:MM", default_value = "07:00", value_parser = clock)]
    opens: u64,
    /// When it closes; of an invented day, customer payments end an hour before
    #[arg(long, value_name = "HH:MM", default_value = "18:00", value_parser = clock)]
    closes: u64,
    /// Levels of liquidity, percent
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "5,10,20,40,60,80,100"
    )]
    levels: Vec<Level>,
    /// What a level is a percentage of
    #[arg(long, value_enum, default_value_t = Of::Upper)]
    of: Of,
    /// What automatic runs run
    #[arg(long, value_enum, default_value_t = Runs::Multiple)]
    algorithm: Runs,
    /// Seconds between automatic runs
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    every: u32,
    /// Seconds between batches that a solver finds, 0 to play without one
    #[arg(long, value_name = "SECONDS", default_value_t = 1_800, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    batches_every: u32,
    /// Steps of improvement of the solver for each batch
    #[arg(long, value_name = "STEPS", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(0..=10_000_000_000))]
    batch_steps: u64,
    /// What money is called
    #[arg(long, value_name = "CODE", default_value = "EUR")]
    currency: String,
    /// Draw the picture into an SVG file, or it and its panels into a directory
    #[arg(long, value_name = "FILE.svg|DIR")]
    chart: Option<PathBuf>,
    /// Write a line for each level and set of rules into a file of comma-separated values
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the commands of the lowest level with liquidity saving into a script for `millrace run`
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// Of the upper bound
    Upper,
    /// Of the way from the lower bound to the upper
    Between,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Runs {
    /// Gridlock resolution
    Grp,
    /// Pairs of accounts
    Bilateral,
    /// All or nothing, gridlock resolution, pairs
    Multiple,
    /// Greedy bypass
    Greedy,
}

fn payments(text: &str) -> Result<usize, String> {
    number(text, 1, PAYMENTS_MAX)
}

fn participants(text: &str) -> Result<u32, String> {
    number(text, 2, PARTICIPANTS_MAX).map(|number| number as u32)
}

fn number(text: &str, least: usize, most: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("\"{text}\" is not a number from {least} to {most}")),
    }
}

fn clock(text: &str) -> Result<u64, String> {
    input::time_of_day(text).ok_or_else(|| format!("\"{text}\" is no time of day like 07:00"))
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let plan = args.plan()?;
    let (day, origin) = args.day()?;
    let study = watched(&day, plan)?;
    if let Some(path) = &args.chart {
        draw(path, &day, &origin, &study)?;
    }
    if let Some(path) = &args.csv {
        write_file(path, report::to_csv(&study).as_bytes())?;
    }
    if let Some(path) = &args.script {
        write_script(path, &day, &study)?;
    }
    if args.json {
        say!("{:#}", report::to_json(&day, &origin, &study));
        return Ok(());
    }
    for line in report::lines(&day, &origin, &study) {
        let is_title = line.starts_with("with ") || line.starts_with("without ");
        let is_headline = line.starts_with("With ");
        match (is_title, is_headline) {
            (true, _) => say!("{}", paint(&line, "1;36")),
            (_, true) => say!("{}", paint(&line, "1;32")),
            _ => say!("{line}"),
        }
    }
    Ok(())
}

impl Args {
    fn plan(&self) -> Result<Plan, CliError> {
        let mut levels = self.levels.clone();
        levels.sort_unstable();
        levels.dedup();
        if levels.is_empty() {
            return Err(CliError::Usage("--levels needs a percentage".into()));
        }
        let end = self.chart.as_deref().and_then(Path::extension);
        if end.is_some_and(|end| end != "svg") {
            let why = "--chart draws a file that ends in .svg, or into a directory";
            return Err(CliError::Usage(why.into()));
        }
        let algorithm = match self.algorithm {
            Runs::Grp => Algorithm::Grp,
            Runs::Bilateral => Algorithm::Bilateral,
            Runs::Multiple => Algorithm::Multiple,
            Runs::Greedy => Algorithm::Greedy,
        };
        let scale = match self.of {
            Of::Upper => Scale::OfUpper,
            Of::Between => Scale::Between,
        };
        Ok(Plan {
            levels,
            scale,
            saving: Saving {
                algorithm,
                every_ms: self.every * 1_000,
            },
            batches: (self.batches_every > 0).then_some(Batches {
                every_ms: self.batches_every * 1_000,
                steps: self.batch_steps,
            }),
        })
    }

    fn hours(&self) -> Result<Hours, CliError> {
        let (opens_at, closes_at) = (self.opens, self.closes);
        if closes_at < opens_at + 3 * HOUR {
            let why = "--closes must be three hours after --opens at least";
            return Err(CliError::Usage(why.into()));
        }
        let customers_until = match self.input {
            // Their file says what came when.
            Some(_) => closes_at,
            None => closes_at - HOUR,
        };
        Ok(Hours {
            opens_at,
            customers_until,
            closes_at,
        })
    }

    fn day(&self) -> Result<(Day, Origin), CliError> {
        let hours = self.hours()?;
        let (day, source) = match &self.input {
            None => {
                let shape = Shape {
                    payments: self.payments,
                    participants: self.participants,
                    money_market: self.money_market,
                    seed: self.seed,
                    hours,
                };
                (Day::invent(&shape), format!("seed {}", self.seed))
            }
            Some(path) => {
                let name = path.display();
                let usage = |why: String| CliError::Usage(format!("{name}: {why}"));
                let file = File::open(path).map_err(|error| usage(error.to_string()))?;
                let day = input::read(file, hours).map_err(usage)?;
                (day, format!("from {name}"))
            }
        };
        let currency = self.currency.clone();
        Ok((day, Origin { source, currency }))
    }
}

/// Makes the study while a bar shows how far it is.
fn watched(day: &Day, plan: Plan) -> Result<Study, CliError> {
    let total = plan.payments(day.payments.len());
    let done = AtomicU64::new(0);
    let mut bar = Progress::new(total, "payments");
    let study = std::thread::scope(|scope| {
        let study = scope.spawn(|| Study::make(day, plan, &done));
        while !study.is_finished() {
            bar.at(done.load(Ordering::Relaxed).min(total));
            std::thread::sleep(Duration::from_millis(20));
        }
        study.join().expect("a panic ends the process")
    });
    study.map_err(|why| CliError::Failed(format!("{why} (a bug)")))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    std::fs::write(path, bytes)
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))
}

/// One file, or a directory of one for the whole and one for each panel.
fn draw(path: &Path, day: &Day, origin: &Origin, study: &Study) -> Result<(), CliError> {
    let whole = picture::draw(day, origin, study).map_err(CliError::Failed)?;
    if path.extension().is_some_and(|end| end == "svg") {
        return write_file(path, whole.as_bytes());
    }
    std::fs::create_dir_all(path)
        .map_err(|error| CliError::Failed(format!("cannot make {}: {error}", path.display())))?;
    write_file(&path.join("study.svg"), whole.as_bytes())?;
    for panel in Panel::ALL {
        let one = picture::draw_panel(panel, day, origin, study).map_err(CliError::Failed)?;
        write_file(
            &path.join(panel.name()).with_extension("svg"),
            one.as_bytes(),
        )?;
    }
    Ok(())
}

/// Plays the lowest level once more and writes down what the engine was given.
fn write_script(path: &Path, day: &Day, study: &Study) -> Result<(), CliError> {
    let failed = |error| CliError::Failed(format!("cannot write {}: {error}", path.display()));
    let mut file = BufWriter::new(File::create(path).map_err(failed)?);
    let opening = Bounds::of(day).opening(study.plan.scale, study.plan.levels[0]);
    let (mut line, mut written) = (String::new(), Ok(()));
    let mut witness = |command: CommandRef<'_>| {
        line.clear();
        write_command(&mut line, None, command);
        line.push('\n');
        if written.is_ok() {
            written = file.write_all(line.as_bytes());
        }
    };
    let rules = Rules::Saving(study.plan.saving);
    play(day, &opening, rules, &AtomicU64::new(0), &mut witness)
        .map_err(|why| CliError::Failed(format!("{why} (a bug)")))?;
    written.and_then(|()| file.flush()).map_err(failed)
}
