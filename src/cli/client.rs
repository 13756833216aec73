//! `millrace client`: talk to a running node.

use super::book;
use super::run::{Printer, read_script};
use super::{CliError, settings, stats};
use crate::client::{Client, ClientError, Options};
use crate::protocol::event::Event;
use crate::protocol::frame::CommandFrame;
use crate::protocol::script::ScriptParser;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Talk to a running node: submit a script, query, watch.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace client submit day.jsonl
  millrace client query account 1
  millrace client watch book --instrument 1
  millrace client watch book --instrument 1 --depth 5 --once
  millrace client watch drop-copy --participant 7 --participant 8 --from 1000
  millrace client watch drop-copy --group 3
  millrace client stats --every 1
  millrace client --connect 10.0.0.5:7411 watch --from 1")]
pub(crate) struct Args {
    /// Address of the node
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7411", value_parser = settings::address)]
    connect: SocketAddr,
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Send a script of JSON lines and print the events it causes
    Submit {
        /// Script to read; stdin when it is left out or `-`
        file: Option<PathBuf>,
        /// Session to go on with: command n of the script is number n of the session, and what the
        /// node has taken already is not sent again
        #[arg(long)]
        session: Option<u64>,
    },
    /// Ask for one thing and print the answer
    Query {
        #[command(subcommand)]
        what: Query,
    },
    /// How the node is: counts, queue, and what each stage takes
    Stats {
        /// Ask again every so many seconds
        #[arg(long, value_name = "SECONDS")]
        every: Option<f64>,
        /// Ask so many times
        #[arg(long, requires = "every")]
        limit: Option<u64>,
        /// One JSON object a line instead of tables
        #[arg(long)]
        json: bool,
    },
    /// Print every event of the node as it happens, or draw a book as it changes
    Watch {
        /// What to watch
        #[arg(value_enum, default_value = "events")]
        what: Watched,
        /// Whose drop copy; may be given many times
        #[arg(long, value_name = "N")]
        participant: Vec<u32>,
        /// Whose drop copy: those who are of this group, now or later
        #[arg(long, value_name = "G")]
        group: Option<NonZeroU32>,
        /// Which book
        #[arg(long, default_value_t = 1)]
        instrument: u32,
        /// Levels of each side of the book
        #[arg(long, default_value_t = 10)]
        depth: u32,
        /// Journal sequence to begin at, 0 for the next; where the node no longer keeps it, stderr says so and
        /// the oldest event it keeps is the first
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        from: u64,
        /// Events to print, or pictures of the book to draw, at most
        #[arg(long)]
        limit: Option<u64>,
        /// Draw the book as it is and no more: as `--limit 1`
        #[arg(long, conflicts_with = "limit")]
        once: bool,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Watched {
    /// Every event
    Events,
    /// The best levels of one book
    Book,
    /// Execution reports and trades of participants
    DropCopy,
}

#[derive(clap::Subcommand)]
enum Query {
    /// An account's sums
    Account {
        /// Its id
        account: u64,
    },
    /// A payment, and why it waits if it does
    Payment {
        /// Its id: a number or a UUID
        id: String,
    },
    /// A live order by the engine's id
    Order {
        /// Its id
        order_id: u64,
    },
    /// The best levels of a book
    Book {
        /// The instrument
        instrument: u32,
        /// Levels of each side
        #[arg(long, default_value_t = 10)]
        depth: u32,
    },
    /// An account's queue of payments
    Queue {
        /// The account
        account: u64,
    },
    /// The digest of the whole state
    Digest,
}

impl Query {
    /// The script line that asks it.
    fn line(&self) -> String {
        match self {
            Query::Account { account } => {
                format!(r#"{{"cmd":"query_account","account":"{account}"}}"#)
            }
            Query::Payment { id } => {
                let id = serde_json::Value::from(id.as_str());
                format!(r#"{{"cmd":"query_payment","id":{id}}}"#)
            }
            Query::Order { order_id } => {
                format!(r#"{{"cmd":"query_order","order_id":"{order_id}"}}"#)
            }
            Query::Book { instrument, depth } => {
                format!(r#"{{"cmd":"query_book","instrument":{instrument},"depth":{depth}}}"#)
            }
            Query::Queue { account } => format!(r#"{{"cmd":"query_queue","account":"{account}"}}"#),
            Query::Digest => r#"{"cmd":"query_digest"}"#.into(),
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    match &args.what {
        What::Submit { file, session } => submit(args, file.as_deref(), *session),
        What::Query { what } => query(args, what),
        What::Stats { every, limit, json } => {
            let mut client = connect(args, Options::default())?;
            stats::run(&mut client, *every, *limit, *json)
        }
        What::Watch {
            what: Watched::Events,
            from,
            limit,
            once,
            ..
        } => watch(args, *from, limit.or(once.then_some(1))),
        What::Watch {
            what: Watched::DropCopy,
            participant,
            group,
            from,
            limit,
            once,
            ..
        } => {
            let limit = limit.or(once.then_some(1));
            if participant.is_empty() && group.is_none() {
                return Err(CliError::Usage(
                    "whose drop copy? --participant or --group".into(),
                ));
            }
            watch_drop_copy(args, participant, *group, *from, limit)
        }
        What::Watch {
            what: Watched::Book,
            instrument,
            depth,
            limit,
            once,
            ..
        } => watch_book(args, *instrument, *depth, limit.or(once.then_some(1))),
    }
}

fn connect(args: &Args, options: Options) -> Result<Client, CliError> {
    Client::connect(args.connect, options).map_err(CliError::failed)
}

fn submit(
    args: &Args,
    file: Option<&std::path::Path>,
    session: Option<u64>,
) -> Result<(), CliError> {
    let frames = read_script(file)?;
    let options = Options {
        session,
        // A new process asks for no old replies: there may be more than the node keeps.
        replies_seen: if session.is_some() { ALL_SEEN } else { 0 },
        ..Options::default()
    };
    let mut client = connect(args, options)?;
    let mut taken = client.replies_seen();
    if taken > 0 {
        eprintln!(
            "millrace: session {} has taken {taken} commands before: the first {taken} of this \
             script are not sent again, and their replies not repeated",
            client.session()
        );
    }
    let mut printer = Printer::default();
    let sent = send(&mut client, &frames, &mut taken, &mut printer);
    // Whatever was taken is answered, also where the node took no more.
    let drained = client.drain(|event| printer.print(event));
    printer.flush()?;
    sent?;
    drained.map_err(CliError::failed)
}

/// More replies than any session has.
const ALL_SEEN: u64 = 1 << 62;

fn send(
    client: &mut Client,
    frames: &[CommandFrame],
    taken: &mut u64,
    printer: &mut Printer,
) -> Result<(), CliError> {
    for frame in frames {
        let is_query = frame.as_ref().kind().is_some_and(|kind| kind.is_query());
        if !is_query && *taken > 0 {
            *taken -= 1;
            continue;
        }
        client.submit(frame).map_err(CliError::failed)?;
        while let Some(event) = client.poll().map_err(CliError::failed)? {
            printer.print(&event);
        }
        printer.flush_if(false)?;
    }
    Ok(())
}

fn query(args: &Args, what: &Query) -> Result<(), CliError> {
    let parsed = ScriptParser::default().parse(&what.line());
    let frame: CommandFrame = parsed.map_err(CliError::Usage)?.expect("not blank");
    let mut client = connect(args, Options::default())?;
    let events = client.call(&frame).map_err(CliError::failed)?;
    let mut printer = Printer::default();
    for event in &events {
        printer.print(event);
    }
    printer.flush()
}

/// Prints every event.
fn watch(args: &Args, from: u64, limit: Option<u64>) -> Result<(), CliError> {
    let mut client = connect(args, patient())?;
    client.watch(from).map_err(CliError::failed)?;
    print_watched(client, limit)
}

/// Prints the execution reports and trades of some participants.
fn watch_drop_copy(
    args: &Args,
    participants: &[u32],
    group: Option<NonZeroU32>,
    from: u64,
    limit: Option<u64>,
) -> Result<(), CliError> {
    let mut client = connect(args, patient())?;
    let mut whose = participants.to_vec();
    let watching = match group {
        Some(group) => {
            // First, so that nobody joins unseen while it is asked who is in it.
            let following = client.watch_drop_copy_of_group(group.get(), &whose, 0);
            following.map_err(CliError::failed)?;
            whose.extend(members_of(&mut client, group)?);
            client.watch_drop_copy_of_group(group.get(), &whose, from)
        }
        None => client.watch_drop_copy(&whose, from),
    };
    watching.map_err(CliError::failed)?;
    print_watched(client, limit)
}

/// The participants of a group, of whom there is at least one.
fn members_of(client: &mut Client, group: NonZeroU32) -> Result<Vec<u32>, CliError> {
    let line = format!(r#"{{"cmd":"query_participants","group":{group}}}"#);
    let parsed = ScriptParser::default().parse(&line);
    let frame: CommandFrame = parsed.map_err(CliError::Usage)?.expect("not blank");
    let answer = client.call(&frame).map_err(CliError::failed)?;
    let members: Vec<u32> = answer
        .iter()
        .filter_map(|event| match event.event() {
            Some(Event::Participant(it)) => Some(it.participant.0),
            _ => None,
        })
        .collect();
    match answer.first().and_then(|head| head.event()) {
        Some(Event::Participants(head)) if head.count as usize > members.len() => {
            Err(CliError::Failed(format!(
                "group {group} has {} participants: more than one drop copy takes",
                head.count
            )))
        }
        _ if members.is_empty() => Err(CliError::Failed(format!(
            "group {group} has no participant"
        ))),
        _ => Ok(members),
    }
}

/// Nothing may happen for long in a watch.
fn patient() -> Options {
    Options {
        timeout: Duration::from_secs(1),
        ..Options::default()
    }
}

fn print_watched(mut client: Client, limit: Option<u64>) -> Result<(), CliError> {
    let mut printer = Printer::default();
    let mut printed = 0;
    while limit.is_none_or(|limit| printed < limit) {
        match client.next_event() {
            Ok(event) => {
                printer.print(&event);
                printed += 1;
                printer.flush()?;
            }
            // Nothing has happened: that is no failure of a watch.
            Err(ClientError::Timeout) => {}
            // Neither is a beginning that is no longer kept: it goes on from the oldest there is.
            Err(gone @ ClientError::WatchGone { .. }) => eprintln!("millrace: {gone}"),
            Err(error) => return Err(CliError::failed(error)),
        }
    }
    Ok(())
}

/// How often a watched book is asked for.
const REDRAW: Duration = Duration::from_millis(100);

/// Draws a book each time it is not what was drawn last: in place on a terminal, as one more block
/// of lines elsewhere.
fn watch_book(
    args: &Args,
    instrument: u32,
    depth: u32,
    limit: Option<u64>,
) -> Result<(), CliError> {
    let question = Query::Book { instrument, depth }.line();
    let parsed = ScriptParser::default().parse(&question);
    let frame: CommandFrame = parsed.map_err(CliError::Usage)?.expect("not blank");
    let mut client = connect(
        args,
        Options {
            // A node that is started again is drawn again.
            reconnect: Duration::from_secs(60),
            ..Options::default()
        },
    )?;
    client
        .watch_market_data(&[instrument], 0)
        .map_err(CliError::failed)?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut tape = book::Tape::default();
    let (mut drawn, mut last) = (0, String::new());
    while limit.is_none_or(|limit| drawn < limit) {
        let answer = match client.call(&frame) {
            Ok(answer) => answer,
            // Trades that this reader was too slow for are not in the tape; the book is asked anew.
            Err(ClientError::WatchGone { .. }) => continue,
            Err(error) => return Err(CliError::failed(error)),
        };
        if let Some(Event::Rejected(why)) = answer.first().and_then(|slot| slot.event()) {
            return Err(CliError::failed(format!(
                "instrument {instrument}, depth {depth}: {}",
                why.reason
            )));
        }
        while let Some(event) = client.received() {
            tape.hear(&event);
        }
        let picture = book::draw(&answer, &tape);
        // The first line names the command: only what follows is the book.
        if picture.lines().skip(1).ne(last.lines().skip(1)) {
            let shown = if is_terminal {
                book::in_place(&picture, drawn == 0)
            } else {
                format!("{picture}\n")
            };
            let mut out = std::io::stdout().lock();
            // Whoever reads has gone: so does this.
            if out
                .write_all(shown.as_bytes())
                .and_then(|()| out.flush())
                .is_err()
            {
                return Ok(());
            }
            last = picture;
            drawn += 1;
        }
        if limit != Some(drawn) {
            std::thread::sleep(REDRAW);
        }
    }
    Ok(())
}
