//! `millrace journal`: what is in a journal, readable.

use super::{CliError, settings};
use crate::protocol::frame::{CommandRef, FrameError};
use crate::protocol::json::write_command;
use crate::protocol::record::unfold;
use millrace_journal::{EndState, Reader};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Print what is in a journal, one command a line.
///
/// With --json the lines are a script: `millrace run` on them repeats the journal.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace journal --dir /var/lib/millrace --from 100 --limit 10"
)]
pub(crate) struct Args {
    /// Directory of the journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
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
    let mut reader = Reader::open(&args.dir).map_err(CliError::failed)?;
    if args.from > 1 {
        reader.seek(args.from).map_err(CliError::failed)?;
    }
    let mut out = std::io::stdout().lock();
    let mut text = String::new();
    let mut words = Vec::new();
    let mut printed = 0;
    while args.limit.is_none_or(|limit| printed < limit) {
        let Some(record) = reader.next().map_err(CliError::failed)? else {
            break;
        };
        if !args.json {
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
        match command(record.payload, &mut words) {
            Ok(command) => write_command(&mut text, Some(record.sequence), command),
            Err(error) => {
                let _ = write!(
                    text,
                    "{{\"seq\":{},\"unreadable\":\"{error}\"}}",
                    record.sequence
                );
            }
        }
        text.push('\n');
        printed += 1;
        if text.len() > 1 << 16 {
            out.write_all(text.as_bytes())?;
            text.clear();
        }
    }
    out.write_all(text.as_bytes())?;
    if let EndState::Unfinished { .. } = reader.end_state().map_err(CliError::failed)? {
        eprintln!("millrace: a torn tail follows, never acknowledged; the next start cuts it");
    }
    Ok(())
}

/// The command in a record, checked.
fn command<'a>(record: &[u8], words: &'a mut Vec<u128>) -> Result<CommandRef<'a>, FrameError> {
    let length = unfold(record, words)?;
    let command = CommandRef::from_bytes(&bytemuck::cast_slice(words)[..length])?;
    command.decode().map(|_| command)
}
