//! `millrace run`: commands from a script, events to stdout.

use super::CliError;
use crate::engine::{Engine, Limits, Outbox};
use crate::protocol::frame::{CommandFrame, EventSlot};
use crate::protocol::json::EventPrinter;
use crate::protocol::script::{LINE_BYTES_MAX, ScriptParser};
use crate::protocol::units::Timestamp;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

/// Run a script of JSON lines and print the events it causes.
///
/// Each line is one command, e.g. {"cmd":"create_asset","asset":1,"code":"EUR","scale":2}. Commands
/// go through the same engine, journal and pipeline as in `serve`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace run day.jsonl --dir /var/lib/millrace > events.jsonl")]
pub(crate) struct Args {
    /// Script to read; stdin when it is left out or `-`
    file: Option<PathBuf>,
    /// Skip journal and pipeline; prints the same bytes
    #[arg(long)]
    engine_only: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let input = open_script(args.file.as_ref())?;
    run_engine_only(input)
}

fn open_script(file: Option<&PathBuf>) -> Result<Box<dyn BufRead>, CliError> {
    match file.filter(|file| file.as_os_str() != "-") {
        None => Ok(Box::new(io::stdin().lock())),
        Some(path) => match File::open(path) {
            Ok(file) => Ok(Box::new(BufReader::with_capacity(1 << 18, file))),
            Err(error) => Err(CliError::Usage(format!(
                "cannot read script {}: {error}",
                path.display()
            ))),
        },
    }
}

fn run_engine_only(input: Box<dyn BufRead>) -> Result<(), CliError> {
    let mut engine = Engine::new(&Limits::default());
    let mut outbox = Outbox::with_capacity(4_096);
    let mut printer = Printer::new();
    let result = for_each_command(input, Timestamp(0), |frame| {
        let command = frame.as_ref();
        let is_query = command.kind().is_some_and(|kind| kind.is_query());
        if is_query {
            engine.query(command, &mut outbox);
        } else {
            engine.apply(engine.sequence() + 1, command, &mut outbox);
        }
        printer.print(outbox.events())?;
        outbox.clear();
        Ok(())
    });
    printer.flush()?;
    result
}

/// Calls `each` for every command of a script; stops at the first malformed line.
fn for_each_command(
    mut input: Box<dyn BufRead>,
    at: Timestamp,
    mut each: impl FnMut(CommandFrame) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut parser = ScriptParser::new(at);
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut input).take(limit).read_until(b'\n', &mut line);
        let read =
            read.map_err(|error| CliError::Failed(format!("cannot read script: {error}")))?;
        if read == 0 {
            break;
        }
        let malformed = |why: String| CliError::Usage(format!("line {number}: {why}"));
        if read > LINE_BYTES_MAX {
            return Err(malformed(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| malformed("not UTF-8".into()))?;
        if let Some(frame) = parser.parse(text).map_err(malformed)? {
            each(frame)?;
        }
    }
    Ok(())
}

/// Prints events to stdout in large writes.
struct Printer {
    events: EventPrinter,
    text: String,
}

impl Printer {
    fn new() -> Printer {
        Printer {
            events: EventPrinter::default(),
            text: String::with_capacity(1 << 17),
        }
    }

    fn print(&mut self, events: &[EventSlot]) -> Result<(), CliError> {
        for event in events {
            self.events.print(&mut self.text, event);
        }
        if self.text.len() >= 1 << 16 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(self.text.as_bytes())?;
        stdout.flush()?;
        self.text.clear();
        Ok(())
    }
}
