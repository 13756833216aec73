//! The reading side: transfers, balances and accounts by what people ask for.
//!
//! A query picks the table that narrows it most (an id, user data, an account, a code), walks that
//! in order of entry partition by partition, and stops at its limit. Bounds in time become bounds
//! in entry numbers first: entries are numbered in order of time.

use super::schema::{self, FILE_NAME, KINDS, Key};
use super::store::{check, failed, setting};
use super::wide::Wide;
use super::{HistoryError, cause_name};
use crate::engine::Sums;
use crate::protocol::units::Amount;
use rusqlite::types::ToSql;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Rows one query answers with at most.
pub const LIMIT_MAX: u32 = 10_000;

/// Which end of time comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// The oldest.
    #[default]
    Forward,
    /// The newest.
    Reversed,
}

impl Direction {
    fn sql(self) -> &'static str {
        match self {
            Direction::Forward => "ASC",
            Direction::Reversed => "DESC",
        }
    }
}

/// Which transfers; what is `None` matters not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransfersFilter {
    /// Debits or credits this account.
    pub account: Option<u64>,
    /// Debits or credits that account, too.
    pub counterparty: Option<u64>,
    /// Has this id.
    pub id: Option<u128>,
    /// Posts or voids this one.
    pub pending_id: Option<u128>,
    /// Carries this.
    pub user_data_128: Option<u128>,
    /// Carries this.
    pub user_data_64: Option<u64>,
    /// Carries this.
    pub user_data_32: Option<u32>,
    /// Carries this.
    pub code: Option<u16>,
    /// Not before, ns since the Unix epoch.
    pub from: Option<u64>,
    /// Not after, ns since the Unix epoch.
    pub to: Option<u64>,
    /// Rows at most, up to [`LIMIT_MAX`].
    pub limit: u32,
    /// In which order.
    pub direction: Direction,
}

/// Which balances of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalancesFilter {
    /// The account.
    pub account: u64,
    /// Not before, ns since the Unix epoch.
    pub from: Option<u64>,
    /// Not after, ns since the Unix epoch.
    pub to: Option<u64>,
    /// Rows at most, up to [`LIMIT_MAX`].
    pub limit: u32,
    /// In which order.
    pub direction: Direction,
}

/// A transfer that moved or reserved something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Sequence of its command.
    pub sequence: u64,
    /// When, ns since the Unix epoch.
    pub at: u64,
    /// Its id.
    pub id: u128,
    /// `post`, `pend` or `unpend`.
    pub kind: &'static str,
    /// Paid.
    pub debit_account: u64,
    /// Received.
    pub credit_account: u64,
    /// What it moved, reserved or gave up, minor units.
    pub amount: u128,
    /// The transfer it posted or voided, 0 for none.
    pub pending_id: u128,
    /// Opaque.
    pub user_data_128: u128,
    /// Opaque.
    pub user_data_64: u64,
    /// Opaque.
    pub user_data_32: u32,
    /// Life of a pending transfer in seconds.
    pub timeout_s: u32,
    /// What it moved.
    pub asset: u32,
    /// Opaque.
    pub code: u16,
    /// How it moved: bits of `TransferFlags`.
    pub flags: u16,
}

/// A movement on an account and the sums after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalanceRow {
    /// Sequence of the command.
    pub sequence: u64,
    /// When, ns since the Unix epoch.
    pub at: u64,
    /// `post`, `pend`, `unpend`, `hold` or `release`.
    pub kind: &'static str,
    /// The command that moved it, or what else did.
    pub cause: &'static str,
    /// Id of the transfer, payment, authorisation or order; 0 for none.
    pub id: u128,
    /// Minor units.
    pub amount: u128,
    /// Whether the account paid (or it is its cover), not received.
    pub is_debit: bool,
    /// The other account, 0 for none.
    pub counterparty: u64,
    /// The sums after it.
    pub sums: Sums,
}

/// An account at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// The account.
    pub account: u64,
    /// Its owner.
    pub participant: u32,
    /// What it holds.
    pub asset: u32,
    /// When it was opened, ns since the Unix epoch.
    pub opened_at: u64,
    /// Its sums then.
    pub sums: Sums,
    /// When they last moved, ns since the Unix epoch; `None` where they never did.
    pub moved_at: Option<u64>,
}

/// A history, open for questions. Works beside a sync and beside a node.
pub struct History {
    path: PathBuf,
    connection: Connection,
    sequence: u64,
    rows: u64,
    partition_rows: u64,
}

/// What a driving table narrows a query by: the table, its condition, and the values for that.
struct Driver {
    table: &'static str,
    condition: &'static str,
    values: Vec<Wide>,
}

impl History {
    /// Opens the history in `dir` as it stands now.
    pub fn open(dir: &Path) -> Result<History, HistoryError> {
        let path = dir.join(FILE_NAME);
        if !path.is_file() {
            return Err(HistoryError::Missing(path));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(&path, flags).and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        });
        let connection = opened.map_err(|source| failed(&path, source))?;
        let journal = millrace_journal::Reader::open(dir).map_err(HistoryError::Read)?;
        check(&connection, &path, journal.journal_id())?;
        let read = |name| setting(&connection, name).map_err(|source| failed(&path, source));
        // One read of the numbers is one state: rows are only ever added behind it.
        let (sequence, rows, partition_rows) =
            (read("sequence")?, read("rows")?, read("partition_rows")?);
        Ok(History {
            path,
            connection,
            sequence,
            rows,
            partition_rows,
        })
    }

    /// The last command in it.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The transfers that pass `filter`.
    pub fn transfers(&self, filter: &TransfersFilter) -> Result<Vec<TransferRow>, HistoryError> {
        self.try_transfers(filter)
            .map_err(|source| failed(&self.path, source))
    }

    fn try_transfers(&self, filter: &TransfersFilter) -> rusqlite::Result<Vec<TransferRow>> {
        let driver = driver_of(filter);
        let mut rows = Vec::new();
        let range = self.range(filter.from, filter.to)?;
        for (partition, first, last) in self.partitions(range, filter.direction) {
            let mut sql = String::from(
                "SELECT e.seq, e.at, e.id, e.kind, e.debit_account, e.credit_account, e.amount, \
                 e.pending_id, e.user_data_128, e.user_data_64, e.user_data_32, e.timeout_s, \
                 e.asset, e.code, e.flags FROM ",
            );
            let mut values = Vec::new();
            match &driver {
                Some(driver) => {
                    // CROSS JOIN: the driver is walked, the entries are looked up.
                    let Driver {
                        table, condition, ..
                    } = driver;
                    sql += &format!(
                        "{table}_{partition} d CROSS JOIN entries e ON e.n = d.n \
                         WHERE {condition} AND d.n BETWEEN ? AND ?"
                    );
                    values.extend(&driver.values);
                }
                None => sql += "entries e WHERE e.n BETWEEN ? AND ?",
            }
            values.extend([Wide(first.into()), Wide(last.into())]);
            sql += &format!(" AND e.cause = {}", schema::TRANSFER);
            restrict(filter, &mut sql, &mut values);
            let order = if driver.is_some() { "d.n" } else { "e.n" };
            let left = filter.limit.min(LIMIT_MAX) as usize - rows.len();
            sql += &format!(" ORDER BY {order} {} LIMIT {left}", filter.direction.sql());
            let mut statement = self.connection.prepare(&sql)?;
            let values: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
            let found = statement.query_map(values.as_slice(), transfer_row)?;
            for row in found {
                rows.push(row?);
            }
            if rows.len() >= filter.limit.min(LIMIT_MAX) as usize {
                break;
            }
        }
        Ok(rows)
    }

    /// The movements on an account with the sums after each.
    pub fn balances(&self, filter: &BalancesFilter) -> Result<Vec<BalanceRow>, HistoryError> {
        self.try_balances(filter)
            .map_err(|source| failed(&self.path, source))
    }

    fn try_balances(&self, filter: &BalancesFilter) -> rusqlite::Result<Vec<BalanceRow>> {
        let mut rows = Vec::new();
        let limit = filter.limit.min(LIMIT_MAX) as usize;
        let range = self.range(filter.from, filter.to)?;
        for (partition, first, last) in self.partitions(range, filter.direction) {
            let sql = format!(
                "SELECT e.seq, e.at, e.kind, e.cause, e.id, e.amount, e.debit_account = d.account, \
                 d.counterparty, d.debits_pending, d.debits_posted, d.credits_pending, \
                 d.credits_posted, d.held \
                 FROM balances_{partition} d CROSS JOIN entries e ON e.n = d.n \
                 WHERE d.account = ? AND d.n BETWEEN ? AND ? ORDER BY d.n {} LIMIT {}",
                filter.direction.sql(),
                limit - rows.len()
            );
            let mut statement = self.connection.prepare(&sql)?;
            let values = [filter.account, first, last].map(|value| Wide(value.into()));
            for row in statement.query_map(values, balance_row)? {
                rows.push(row?);
            }
            if rows.len() >= limit {
                break;
            }
        }
        Ok(rows)
    }

    /// The account as it stood after everything up to `at`, or as it stands; `None` where it was
    /// not open.
    pub fn account(
        &self,
        account: u64,
        at: Option<u64>,
    ) -> Result<Option<AccountRow>, HistoryError> {
        self.try_account(account, at)
            .map_err(|source| failed(&self.path, source))
    }

    fn try_account(&self, account: u64, at: Option<u64>) -> rusqlite::Result<Option<AccountRow>> {
        let sql = "SELECT participant, asset, at FROM accounts WHERE account = ?";
        let opened = self
            .connection
            .query_row(sql, [Wide(account.into())], |row| {
                Ok((row.get(0)?, row.get(1)?, narrow(row, 2)?))
            })
            .optional()?;
        let Some((participant, asset, opened_at)) = opened else {
            return Ok(None);
        };
        if at.is_some_and(|at| at < opened_at) {
            return Ok(None);
        }
        let last = self.try_balances(&BalancesFilter {
            account,
            from: None,
            to: at,
            limit: 1,
            direction: Direction::Reversed,
        })?;
        let last = last.first();
        Ok(Some(AccountRow {
            account,
            participant,
            asset,
            opened_at,
            sums: last.map_or_else(Sums::default, |row| row.sums),
            moved_at: last.map(|row| row.at),
        }))
    }

    /// The entries between two moments, both included: first and last number.
    fn range(&self, from: Option<u64>, to: Option<u64>) -> rusqlite::Result<(u64, u64)> {
        let first = match from {
            Some(from) => self.first_where(|at| at >= from)?,
            None => 1,
        };
        let last = match to {
            Some(to) => self.first_where(|at| at > to)? - 1,
            None => self.rows,
        };
        Ok((first, last))
    }

    /// The first entry whose time passes; one past the last where none does. Time never goes back.
    fn first_where(&self, passes: impl Fn(u64) -> bool) -> rusqlite::Result<u64> {
        let mut statement = self
            .connection
            .prepare("SELECT at FROM entries WHERE n = ?")?;
        let (mut low, mut high) = (1, self.rows + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let at = statement.query_row([Wide(middle.into())], |row| narrow(row, 0))?;
            if passes(at) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(low)
    }

    /// The partitions that a range of entries touches, with the part of the range in each.
    fn partitions(
        &self,
        (first, last): (u64, u64),
        direction: Direction,
    ) -> Box<dyn Iterator<Item = (u64, u64, u64)>> {
        if first > last {
            return Box::new(std::iter::empty());
        }
        let rows = self.partition_rows;
        let part = move |partition: u64| {
            let (begins, ends) = (partition * rows + 1, (partition + 1) * rows);
            (partition, first.max(begins), last.min(ends))
        };
        let all = ((first - 1) / rows..=(last - 1) / rows).map(part);
        match direction {
            Direction::Forward => Box::new(all),
            Direction::Reversed => Box::new(all.rev()),
        }
    }
}

/// The table that narrows `filter` most.
fn driver_of(filter: &TransfersFilter) -> Option<Driver> {
    let keys = [
        (Key::Id, filter.id),
        (Key::PendingId, filter.pending_id),
        (Key::UserData128, filter.user_data_128),
        (Key::UserData64, filter.user_data_64.map(u128::from)),
        (Key::UserData32, filter.user_data_32.map(u128::from)),
    ];
    // 0 is not kept as a key: nobody can look for it there.
    let key = |(key, value): (Key, Option<u128>)| {
        let value = value.filter(|value| *value != 0)?;
        Some(Driver {
            table: "keys",
            condition: "d.key = ? AND d.value = ?",
            values: vec![Wide(key as u128), Wide(value)],
        })
    };
    let account = |account: u64| Driver {
        table: "balances",
        condition: "d.account = ?",
        values: vec![Wide(account.into())],
    };
    let pair = |account: u64, counterparty: u64| Driver {
        table: "balances",
        condition: "d.account = ? AND d.counterparty = ?",
        values: vec![Wide(account.into()), Wide(counterparty.into())],
    };
    keys.into_iter()
        .find_map(key)
        .or(match (filter.account, filter.counterparty) {
            (Some(one), Some(other)) => Some(pair(one, other)),
            (Some(one), None) | (None, Some(one)) => Some(account(one)),
            (None, None) => None,
        })
        .or_else(|| key((Key::Code, filter.code.map(u128::from))))
}

/// Adds to a query what `filter` asks of an entry, whatever table drives it.
fn restrict(filter: &TransfersFilter, sql: &mut String, values: &mut Vec<Wide>) {
    for account in [filter.account, filter.counterparty].into_iter().flatten() {
        *sql += " AND ? IN (e.debit_account, e.credit_account)";
        values.push(Wide(account.into()));
    }
    for (column, value) in [
        ("id", filter.id),
        ("pending_id", filter.pending_id),
        ("user_data_128", filter.user_data_128),
        ("user_data_64", filter.user_data_64.map(u128::from)),
        ("user_data_32", filter.user_data_32.map(u128::from)),
        ("code", filter.code.map(u128::from)),
    ] {
        if let Some(value) = value {
            *sql += &format!(" AND e.{column} = ?");
            values.push(Wide(value));
        }
    }
}

/// A number of up to 64 bits.
fn narrow(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let wide: Wide = row.get(at)?;
    Ok(wide.0 as u64)
}

fn wide(row: &Row<'_>, at: usize) -> rusqlite::Result<u128> {
    row.get::<_, Wide>(at).map(|wide| wide.0)
}

fn kind_name(row: &Row<'_>, at: usize) -> rusqlite::Result<&'static str> {
    let code: u8 = row.get(at)?;
    Ok(KINDS.get(usize::from(code)).copied().unwrap_or("unknown"))
}

fn transfer_row(row: &Row<'_>) -> rusqlite::Result<TransferRow> {
    Ok(TransferRow {
        sequence: narrow(row, 0)?,
        at: narrow(row, 1)?,
        id: wide(row, 2)?,
        kind: kind_name(row, 3)?,
        debit_account: narrow(row, 4)?,
        credit_account: narrow(row, 5)?,
        amount: wide(row, 6)?,
        pending_id: wide(row, 7)?,
        user_data_128: wide(row, 8)?,
        user_data_64: narrow(row, 9)?,
        user_data_32: row.get(10)?,
        timeout_s: row.get(11)?,
        asset: row.get(12)?,
        code: row.get(13)?,
        flags: row.get(14)?,
    })
}

fn balance_row(row: &Row<'_>) -> rusqlite::Result<BalanceRow> {
    Ok(BalanceRow {
        sequence: narrow(row, 0)?,
        at: narrow(row, 1)?,
        kind: kind_name(row, 2)?,
        cause: cause_name(row.get(3)?),
        id: wide(row, 4)?,
        amount: wide(row, 5)?,
        is_debit: row.get(6)?,
        counterparty: narrow(row, 7)?,
        sums: Sums {
            debits_pending: Amount(wide(row, 8)?),
            debits_posted: Amount(wide(row, 9)?),
            credits_pending: Amount(wide(row, 10)?),
            credits_posted: Amount(wide(row, 11)?),
            held: Amount(wide(row, 12)?),
        },
    })
}
