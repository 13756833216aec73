//! `millrace journal`: what is in a journal, readable.

use super::{CliError, settings};
use crate::protocol::frame::{CommandRef, FrameError};
use crate::protocol::json::write_command;
use crate::protocol::record::unfold;
use millrace_journal::storage::MappedFiles;
use millrace_journal::{Defect, EndState, ReadError, Reader, Record, Salvage, Salvaged};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Print what is in a journal, one command a line.
///
/// With --json the lines are a script: `millrace run` on them repeats the journal. Where the journal is
/// damaged, what can be read around the damage is printed, what cannot is named on stderr, and the exit
/// code is 1.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace journal --dir /var/lib/millrace --from 100 --limit 10"
)]
pub(crate) struct Args {
    /// Directory of the journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    archive: settings::ArchiveArgs,
    /// First command to print
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// Commands to print at most
    #[arg(long)]
    limit: Option<u64>,
    /// Print script lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    settings::limits_of(&args.dir)?;
    let mut printer = Printer {
        json: args.json,
        left: args.limit.unwrap_or(u64::MAX),
        next: args.from,
        text: String::new(),
        words: Vec::new(),
    };
    let journal = args.archive.journal_of(&args.dir)?;
    match print_sound(args, &journal, &mut printer) {
        Err(Stop::Read(ReadError::Defect(
            defect @ (Defect::NotAJournal { .. }
            | Defect::NewerFormat { .. }
            | Defect::Archived { .. }),
        ))) => Err(CliError::failed(defect)),
        Err(Stop::Read(ReadError::Defect(_))) => {
            printer.flush()?;
            print_around(&journal, &mut printer)
        }
        Err(Stop::Read(error)) => Err(CliError::failed(error)),
        Err(Stop::Cli(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

enum Stop {
    Read(ReadError),
    Cli(CliError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        Stop::Read(error)
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Stop {
        Stop::Cli(error.into())
    }
}

/// Prints the journal up to its end, or to the first damage.
fn print_sound(args: &Args, journal: &MappedFiles, printer: &mut Printer) -> Result<(), Stop> {
    let mut reader = Reader::open(journal.clone())?;
    reader.seek(args.from.max(1))?;
    while printer.left > 0 {
        let Some(record) = reader.next()? else {
            break;
        };
        printer.print(&record)?;
    }
    printer.flush()?;
    if let EndState::Unfinished { .. } = reader.end_state()? {
        eprintln!("{TORN}");
    }
    Ok(())
}

const TORN: &str = "millrace: a torn tail follows, never acknowledged; the next start cuts it";

/// Prints what is left of a damaged journal, from where the printer is, and says what is missing.
fn print_around(journal: &MappedFiles, printer: &mut Printer) -> Result<(), CliError> {
    let mut salvage = Salvage::open(journal.clone(), printer.next).map_err(CliError::failed)?;
    let mut places = 0;
    while printer.left > 0 {
        match salvage.next().map_err(CliError::failed)? {
            Some(Salvaged::Record(record)) if record.sequence < printer.next => {}
            Some(Salvaged::Record(record)) => {
                if record.sequence > printer.next {
                    printer.flush()?;
                    eprintln!(
                        "millrace: commands {} to {} cannot be read",
                        printer.next,
                        record.sequence - 1
                    );
                }
                printer.print(&record)?;
            }
            Some(Salvaged::Lost(defect)) => {
                printer.flush()?;
                eprintln!("millrace: {defect}");
                places += 1;
            }
            None => break,
        }
    }
    printer.flush()?;
    if salvage.torn_tail() {
        eprintln!("{TORN}");
    }
    Err(CliError::Failed(format!(
        "the journal is damaged at {}; what could be read around it is printed",
        if places == 1 {
            "1 place".into()
        } else {
            format!("{places} places")
        }
    )))
}

struct Printer {
    json: bool,
    /// Commands that may still be printed.
    left: u64,
    /// The command that comes next.
    next: u64,
    text: String,
    words: Vec<u128>,
}

impl Printer {
    fn print(&mut self, record: &Record<'_>) -> Result<(), std::io::Error> {
        let text = &mut self.text;
        if !self.json {
            let name = record.segment.file_name().unwrap_or_default();
            let _ = write!(
                text,
                "{:>10}  {} @{:<10} {:>5} B  ",
                record.sequence,
                name.to_string_lossy(),
                record.offset,
                record.payload.len()
            );
        }
        match command(record.payload, &mut self.words) {
            Ok(command) => write_command(text, Some(record.sequence), command),
            Err(error) => {
                let _ = write!(
                    text,
                    "{{\"seq\":{},\"unreadable\":\"{error}\"}}",
                    record.sequence
                );
            }
        }
        text.push('\n');
        self.next = record.sequence + 1;
        self.left -= 1;
        if self.text.len() > 1 << 16 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), std::io::Error> {
        std::io::stdout().write_all(self.text.as_bytes())?;
        self.text.clear();
        Ok(())
    }
}

/// The command in a record, checked.
fn command<'a>(record: &[u8], words: &'a mut Vec<u128>) -> Result<CommandRef<'a>, FrameError> {
    let length = unfold(record, words)?;
    let command = CommandRef::from_bytes(&bytemuck::cast_slice(words)[..length])?;
    command.decode().map(|_| command)
}
