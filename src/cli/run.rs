//! `millrace run`: commands from a script, events to stdout.

use super::{CliError, settings};
use crate::config::{Config, Durability};
use crate::engine::{Engine, Outbox};
use crate::pipeline::{Inline, Refusal};
use crate::protocol::frame::{CommandFrame, EventSlot};
use crate::protocol::json::EventPrinter;
use crate::protocol::script::{LINE_BYTES_MAX, ScriptParser};
use crate::replay::limits_file;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Run a script of JSON lines and print the events it causes.
///
/// Each line is one command, e.g. {"cmd":"create_asset","asset":1,"code":"EUR","scale":2}. Commands
/// go through the same engine, journal and pipeline as in `serve`; docs/scripts.md lists them.
/// Without --dir the journal lies in a temporary directory.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace run day.jsonl --dir /var/lib/millrace > events.jsonl")]
pub(crate) struct Args {
    /// Script to read; stdin when it is left out or `-`
    file: Option<PathBuf>,
    #[command(flatten)]
    node: settings::NodeArgs,
    /// Skip journal and pipeline; prints the same bytes
    #[arg(long, conflicts_with_all = ["dir", "durability", "cores"])]
    engine_only: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut config = args.node.config()?;
    let input = Script::open(args.file.as_deref())?;
    if args.engine_only {
        return run_engine_only(input, &config);
    }
    let _temporary = if args.node.dir.is_none() && args.node.config.is_none() {
        let dir = tempfile::Builder::new().prefix("millrace-run-").tempdir();
        let dir = dir.map_err(|error| {
            CliError::Failed(format!(
                "cannot make a temporary directory: {error}; give --dir"
            ))
        })?;
        config.dir = dir.path().to_owned();
        // What is thrown away at the end need not survive power loss, nor be prepared for much.
        config.durability = args.node.durability.unwrap_or(Durability::Process);
        config.journal.segment_bytes = 8 << 20;
        Some(dir)
    } else {
        adopt_limits(&mut config)?;
        None
    };
    run_journaled(input, &config)
}

/// A script continues a directory under the limits it was made with.
fn adopt_limits(config: &mut Config) -> Result<(), CliError> {
    let has_history = config.dir.join("limits.toml").is_file();
    if config.limits == crate::engine::Limits::default() && has_history {
        config.limits = limits_file::load(&config.dir).map_err(CliError::failed)?;
    }
    Ok(())
}

fn run_engine_only(mut input: Script, config: &Config) -> Result<(), CliError> {
    let mut engine = Engine::new(&config.limits);
    let mut outbox = Outbox::with_capacity(4_096);
    let mut printer = Printer::default();
    let result = input.for_each(|frame, waits| {
        let command = frame.as_ref();
        if command.kind().is_some_and(|kind| kind.is_query()) {
            engine.query(command, &mut outbox);
        } else {
            engine.apply(engine.sequence() + 1, command, &mut outbox);
        }
        for event in outbox.events() {
            printer.print(event);
        }
        outbox.clear();
        printer.flush_if(waits)
    });
    printer.flush()?;
    result
}

fn run_journaled(mut input: Script, config: &Config) -> Result<(), CliError> {
    let (mut pipeline, recovery) = Inline::open(config).map_err(CliError::failed)?;
    for note in &recovery.notes {
        eprintln!("millrace: {note}");
    }
    let mut printer = Printer::default();
    let result = input.for_each(|frame, waits| {
        let mut on_event = |event: &EventSlot| printer.print(event);
        pipeline
            .push(&frame, &mut on_event)
            .map_err(|refusal| refused(&refusal, config))?;
        if waits {
            // Whoever writes the script may be waiting for the answer.
            pipeline.pump(&mut on_event);
        }
        printer.flush_if(waits)
    });
    // Everything before a malformed line stays done.
    pipeline.pump(&mut |event: &EventSlot| printer.print(event));
    pipeline.close();
    printer.flush()?;
    result
}

/// A script that was not taken further, and what to do about it.
fn refused(refusal: &Refusal, config: &Config) -> CliError {
    match refusal {
        Refusal::DiskFull => CliError::Failed(format!(
            "the disk of {} is full; what came before is done: make room and run the rest again",
            config.dir.display()
        )),
        other => CliError::failed(other),
    }
}

/// Lines of a script.
struct Script {
    input: BufReader<Box<dyn Read>>,
}

impl Script {
    fn open(file: Option<&Path>) -> Result<Script, CliError> {
        let input: Box<dyn Read> = match file.filter(|file| file.as_os_str() != "-") {
            None => Box::new(io::stdin()),
            Some(path) if path.is_dir() => {
                return Err(CliError::Usage(format!(
                    "cannot read script {}: it is a directory",
                    path.display()
                )));
            }
            Some(path) => Box::new(File::open(path).map_err(|error| {
                CliError::Usage(format!("cannot read script {}: {error}", path.display()))
            })?),
        };
        Ok(Script {
            input: BufReader::with_capacity(1 << 18, input),
        })
    }

    /// Calls `each` with every command, and whether the next line has yet to be read; stops at the
    /// first malformed line.
    fn for_each(
        &mut self,
        mut each: impl FnMut(CommandFrame, bool) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let mut parser = ScriptParser::default();
        let mut line = Vec::new();
        for number in 1u64.. {
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.input).take(limit).read_until(b'\n', &mut line);
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
                each(frame, self.input.buffer().is_empty())?;
            }
        }
        Ok(())
    }
}

/// Every command of a script file, parsed.
pub(super) fn read_script(file: Option<&Path>) -> Result<Vec<CommandFrame>, CliError> {
    let mut frames = Vec::new();
    Script::open(file)?.for_each(|frame, _| {
        frames.push(frame);
        Ok(())
    })?;
    Ok(frames)
}

/// Prints events to stdout in large writes.
#[derive(Default)]
pub(super) struct Printer {
    events: EventPrinter,
    text: String,
}

impl Printer {
    pub(super) fn print(&mut self, event: &EventSlot) {
        self.events.print(&mut self.text, event);
    }

    /// Writes out what there is, where it is much or somebody waits.
    pub(super) fn flush_if(&mut self, waits: bool) -> Result<(), CliError> {
        if waits || self.text.len() >= 1 << 16 {
            self.flush()?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(self.text.as_bytes())?;
        stdout.flush()?;
        self.text.clear();
        Ok(())
    }
}
