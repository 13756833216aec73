//! `millrace history`: what moved, by account, time, id and user data, from a read model kept
//! beside the node.

use super::moment::Moment;
use super::terminal::{Progress, grouped};
use super::{CliError, settings};
use crate::engine::Sums;
use crate::history::{
    AccountRow, BalanceRow, BalancesFilter, Direction, History, HistoryError, LIMIT_MAX, Options,
    Sync, TransferRow, TransfersFilter,
};
use crate::protocol::command::TransferFlags;
use crate::protocol::json::write_integer;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ask for account history and past transfers; keep the history up to date.
///
/// The history is an SQLite file beside the journal, made by `sync` from the journal alone: it may
/// be deleted and made again, and the node never waits for it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  millrace history sync --dir /var/lib/millrace --follow
  millrace history transfers --dir /var/lib/millrace --account 7 --from 2026-11-24T09:00:00Z --limit 20
  millrace history account --dir /var/lib/millrace --account 7 --at 2026-11-23T18:00:00Z")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    Sync(SyncArgs),
    Transfers(TransfersArgs),
    Balances(BalancesArgs),
    Account(AccountArgs),
}

/// Bring the history up to the journal's end; beside a running node, too.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  millrace history sync --dir /var/lib/millrace --follow")]
struct SyncArgs {
    /// Directory of the journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    archive: settings::ArchiveArgs,
    /// Go on as the journal grows, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

/// List transfers that pass every filter given.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace history transfers --dir /var/lib/millrace --account 7 --code 12 --reversed"
)]
struct TransfersArgs {
    /// Directory of the journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Debits or credits this account
    #[arg(long)]
    account: Option<u64>,
    /// Debits or credits this one, too
    #[arg(long, value_name = "ACCOUNT")]
    counterparty: Option<u64>,
    /// Has this id: a number or a UUID
    #[arg(long, value_parser = id)]
    id: Option<u128>,
    /// Posts or voids this transfer
    #[arg(long, value_name = "ID", value_parser = id)]
    pending_id: Option<u128>,
    /// Carries this user data: a number or a UUID
    #[arg(long = "user-data-128", value_name = "X", value_parser = id)]
    user_data_128: Option<u128>,
    /// Carries this user data
    #[arg(long = "user-data-64", value_name = "X")]
    user_data_64: Option<u64>,
    /// Carries this user data
    #[arg(long = "user-data-32", value_name = "X")]
    user_data_32: Option<u32>,
    /// Carries this code
    #[arg(long)]
    code: Option<u16>,
    #[command(flatten)]
    page: Page,
}

/// List what moved on an account, with its sums after each movement.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace history balances --dir /var/lib/millrace --account 7 --limit 10 --reversed"
)]
struct BalancesArgs {
    /// Directory of the journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The account
    #[arg(long)]
    account: u64,
    #[command(flatten)]
    page: Page,
}

/// Say an account's sums as they stand, or stood.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  millrace history account --dir /var/lib/millrace --account 7 --at 2026-11-23T18:00:00Z"
)]
struct AccountArgs {
    /// Directory of the journal
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The account
    #[arg(long)]
    account: u64,
    /// As of this moment, it included: ns since 1970 or RFC 3339
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Print a JSON line
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Page {
    /// Not before: ns since 1970 or RFC 3339
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Not after
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Rows at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIMIT_MAX)))]
    limit: u32,
    /// The newest first
    #[arg(long)]
    reversed: bool,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

impl Page {
    fn direction(&self) -> Direction {
        if self.reversed {
            Direction::Reversed
        } else {
            Direction::Forward
        }
    }
}

/// A number, or a UUID.
fn id(text: &str) -> Result<u128, String> {
    let hex = || {
        let digits = text.replace('-', "");
        let is_uuid = text.len() == 36 && digits.len() == 32;
        is_uuid.then(|| u128::from_str_radix(&digits, 16).ok())?
    };
    let number = text.parse().ok().or_else(hex);
    number.ok_or_else(|| "an id is a number below 2^128 or a UUID".into())
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    match &args.what {
        What::Sync(args) => sync(args),
        What::Transfers(args) => transfers(args),
        What::Balances(args) => balances(args),
        What::Account(args) => account(args),
    }
}

/// How long a follower rests at the journal's end.
const REST: Duration = Duration::from_millis(50);

fn sync(args: &SyncArgs) -> Result<(), CliError> {
    settings::limits_of(&args.dir)?;
    let stop = Arc::new(AtomicBool::new(false));
    if args.follow {
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, stop.clone())
                .map_err(|error| CliError::Failed(format!("cannot watch for signals: {error}")))?;
        }
    }
    let journal = args.archive.journal_of(&args.dir)?;
    let mut sync =
        Sync::open_with(&args.dir, journal, Options::default()).map_err(CliError::failed)?;
    let before = sync.synced();
    let started = std::time::Instant::now();
    let mut bar = Progress::new(sync.journal_end(), "commands");
    loop {
        let synced = sync
            .run(&mut |sequence| {
                bar.at(sequence);
                !stop.load(Ordering::Relaxed)
            })
            .map_err(CliError::failed)?;
        if !args.follow || stop.load(Ordering::Relaxed) {
            drop(bar);
            let seconds = started.elapsed().as_secs_f64().max(1e-9);
            let rows = synced.rows - before.rows;
            println!(
                "history reaches command {}: {} movements, {} of them new in {seconds:.3} s, {} a second",
                grouped(synced.sequence),
                grouped(synced.rows),
                grouped(rows),
                grouped((rows as f64 / seconds) as u64)
            );
            return Ok(());
        }
        bar.set_total(synced.sequence);
        bar.at(synced.sequence);
        bar.note("following");
        std::thread::sleep(REST);
    }
}

fn open(dir: &Path) -> Result<History, CliError> {
    settings::limits_of(dir)?;
    History::open(dir).map_err(|error| match error {
        HistoryError::Missing(_) => CliError::Failed(format!(
            "there is no history in {}; make it with millrace history sync --dir {}",
            dir.display(),
            dir.display()
        )),
        other => CliError::failed(other),
    })
}

fn transfers(args: &TransfersArgs) -> Result<(), CliError> {
    let page = &args.page;
    let rows = open(&args.dir)?.transfers(&TransfersFilter {
        account: args.account,
        counterparty: args.counterparty,
        id: args.id,
        pending_id: args.pending_id,
        user_data_128: args.user_data_128,
        user_data_64: args.user_data_64,
        user_data_32: args.user_data_32,
        code: args.code,
        from: page.from.map(|at| at.0),
        to: page.to.map(|at| at.0),
        limit: page.limit,
        direction: page.direction(),
    });
    let rows = rows.map_err(CliError::failed)?;
    let text = if page.json {
        rows.iter().map(transfer_json).collect()
    } else {
        let head = [
            "time", "seq", "id", "kind", "debit", "credit", "amount", "asset", "code", "flags",
        ];
        table(&head, rows.iter().map(transfer_cells).collect())
    };
    print(&text)
}

fn balances(args: &BalancesArgs) -> Result<(), CliError> {
    let page = &args.page;
    let history = open(&args.dir)?;
    if history
        .account(args.account, None)
        .map_err(CliError::failed)?
        .is_none()
    {
        return Err(unknown(args.account, &history));
    }
    let rows = history.balances(&BalancesFilter {
        account: args.account,
        from: page.from.map(|at| at.0),
        to: page.to.map(|at| at.0),
        limit: page.limit,
        direction: page.direction(),
    });
    let rows = rows.map_err(CliError::failed)?;
    let text = if page.json {
        rows.iter()
            .map(|row| balance_json(args.account, row))
            .collect()
    } else {
        let head = [
            "time",
            "seq",
            "cause",
            "id",
            "kind",
            "side",
            "amount",
            "with",
            "debits_pending",
            "debits_posted",
            "credits_pending",
            "credits_posted",
            "held",
        ];
        table(&head, rows.iter().map(balance_cells).collect())
    };
    print(&text)
}

fn account(args: &AccountArgs) -> Result<(), CliError> {
    let history = open(&args.dir)?;
    let row = history
        .account(args.account, args.at.map(|at| at.0))
        .map_err(CliError::failed)?
        .ok_or_else(|| unknown(args.account, &history))?;
    let text = if args.json {
        account_json(&row, history.sequence())
    } else {
        account_text(&row)
    };
    print(&text)
}

fn unknown(account: u64, history: &History) -> CliError {
    CliError::Failed(format!(
        "account {account} was not open then; the history reaches command {}",
        grouped(history.sequence())
    ))
}

fn print(text: &str) -> Result<(), CliError> {
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn transfer_cells(row: &TransferRow) -> Vec<String> {
    vec![
        Moment(row.at).to_string(),
        row.sequence.to_string(),
        row.id.to_string(),
        row.kind.into(),
        row.debit_account.to_string(),
        row.credit_account.to_string(),
        row.amount.to_string(),
        row.asset.to_string(),
        row.code.to_string(),
        flag_names(row.flags).join(","),
    ]
}

fn balance_cells(row: &BalanceRow) -> Vec<String> {
    let sums = row.sums;
    vec![
        Moment(row.at).to_string(),
        row.sequence.to_string(),
        row.cause.into(),
        row.id.to_string(),
        row.kind.into(),
        side(row).into(),
        row.amount.to_string(),
        row.counterparty.to_string(),
        sums.debits_pending.to_string(),
        sums.debits_posted.to_string(),
        sums.credits_pending.to_string(),
        sums.credits_posted.to_string(),
        sums.held.to_string(),
    ]
}

fn side(row: &BalanceRow) -> &'static str {
    if row.is_debit { "debit" } else { "credit" }
}

/// Columns as wide as what is in them; numbers to the right.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].len());
        cells.max().unwrap_or(0).max(head[at].len())
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = (&str, bool)>| {
        let start = text.len();
        for ((cell, is_number), width) in cells.zip(&widths) {
            let _ = if is_number {
                write!(text, "{cell:>width$}  ")
            } else {
                write!(text, "{cell:<width$}  ")
            };
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    };
    let is_number = |cell: &str| cell.bytes().all(|byte| byte.is_ascii_digit());
    let numeric: Vec<bool> = (0..head.len())
        .map(|at| !rows.is_empty() && rows.iter().all(|row| is_number(&row[at])))
        .collect();
    line(&mut head.iter().copied().zip(numeric.iter().copied()));
    for row in &rows {
        line(&mut row.iter().map(String::as_str).zip(numeric.iter().copied()));
    }
    text
}

/// A JSON line in the making.
struct Line(String);

impl Line {
    fn new() -> Line {
        Line(String::from("{"))
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{name}\":");
    }

    fn number(mut self, name: &str, value: impl Into<u128>) -> Line {
        self.name(name);
        write_integer(&mut self.0, value.into());
        self
    }

    fn word(mut self, name: &str, value: &str) -> Line {
        self.name(name);
        let _ = write!(self.0, "\"{value}\"");
        self
    }

    fn flags(mut self, bits: u16) -> Line {
        self.name("flags");
        let names: Vec<String> = flag_names(bits)
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        let _ = write!(self.0, "[{}]", names.join(","));
        self
    }

    fn sums(self, sums: Sums) -> Line {
        self.number("debits_pending", sums.debits_pending.0)
            .number("debits_posted", sums.debits_posted.0)
            .number("credits_pending", sums.credits_pending.0)
            .number("credits_posted", sums.credits_posted.0)
            .number("held", sums.held.0)
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

fn transfer_json(row: &TransferRow) -> String {
    Line::new()
        .number("seq", row.sequence)
        .number("at", row.at)
        .number("id", row.id)
        .word("kind", row.kind)
        .number("debit_account", row.debit_account)
        .number("credit_account", row.credit_account)
        .number("amount", row.amount)
        .number("pending_id", row.pending_id)
        .number("user_data_128", row.user_data_128)
        .number("user_data_64", row.user_data_64)
        .number("user_data_32", row.user_data_32)
        .number("timeout_s", row.timeout_s)
        .number("asset", row.asset)
        .number("code", row.code)
        .flags(row.flags)
        .end()
}

fn balance_json(account: u64, row: &BalanceRow) -> String {
    Line::new()
        .number("seq", row.sequence)
        .number("at", row.at)
        .number("account", account)
        .word("cause", row.cause)
        .number("id", row.id)
        .word("kind", row.kind)
        .word("side", side(row))
        .number("amount", row.amount)
        .number("counterparty", row.counterparty)
        .sums(row.sums)
        .end()
}

fn account_json(row: &AccountRow, sequence: u64) -> String {
    Line::new()
        .number("seq", sequence)
        .number("account", row.account)
        .number("participant", row.participant)
        .number("asset", row.asset)
        .number("opened_at", row.opened_at)
        .number("moved_at", row.moved_at.unwrap_or(0))
        .sums(row.sums)
        .end()
}

fn account_text(row: &AccountRow) -> String {
    let sums = row.sums;
    let moved = row
        .moved_at
        .map_or("never".into(), |at| Moment(at).to_string());
    format!(
        "account {} of participant {} in asset {}, opened {}, last moved {moved}\n{}",
        row.account,
        row.participant,
        row.asset,
        Moment(row.opened_at),
        table(
            &[
                "debits_pending",
                "debits_posted",
                "credits_pending",
                "credits_posted",
                "held"
            ],
            vec![vec![
                sums.debits_pending.to_string(),
                sums.debits_posted.to_string(),
                sums.credits_pending.to_string(),
                sums.credits_posted.to_string(),
                sums.held.to_string(),
            ]]
        )
    )
}

fn flag_names(bits: u16) -> Vec<&'static str> {
    let all = TransferFlags::NAMES.iter();
    all.filter(|(_, bit)| bits & bit != 0)
        .map(|(name, _)| *name)
        .collect()
}
