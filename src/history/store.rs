//! The writing side of the database: batches of rows in transactions.

use super::HistoryError;
use super::schema::{self, FILE_NAME, FORMAT, KINDS, Key};
use super::wide::Wide;
use crate::engine::Sums;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Movements per transaction, about: the memory a sync takes grows with it.
    pub batch_rows: usize,
    /// Movements per partition; of a history that is there already, what it was made with counts.
    pub partition_rows: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            batch_rows: 1 << 17,
            partition_rows: 1 << 22,
        }
    }
}

/// One movement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) at: u64,
    pub(super) kind: u8,
    pub(super) cause: u16,
    pub(super) id: u128,
    pub(super) debit_account: u64,
    pub(super) credit_account: u64,
    pub(super) amount: u128,
    pub(super) details: Details,
}

/// What a transfer carries besides; all 0 for other movements.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Details {
    pub(super) pending_id: u128,
    pub(super) user_data_128: u128,
    pub(super) user_data_64: u64,
    pub(super) user_data_32: u32,
    pub(super) timeout_s: u32,
    pub(super) asset: u32,
    pub(super) code: u16,
    pub(super) flags: u16,
}

/// An account's sums after a movement.
#[derive(Clone, Copy, Debug)]
struct Balance {
    account: u64,
    n: u64,
    counterparty: u64,
    sums: Sums,
}

/// An account that was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    pub(super) account: u64,
    pub(super) participant: u32,
    pub(super) asset: u32,
    pub(super) sequence: u64,
    pub(super) at: u64,
}

/// Rows on their way into the database.
pub(super) struct Batch {
    first: u64,
    entries: Vec<Entry>,
    balances: Vec<Balance>,
    keys: Vec<(Key, Wide, u64)>,
    opened: Vec<Opened>,
    most: usize,
}

impl Batch {
    fn new(rows: u64) -> Batch {
        Batch {
            first: rows + 1,
            entries: Vec::new(),
            balances: Vec::new(),
            keys: Vec::new(),
            opened: Vec::new(),
            most: 0,
        }
    }

    /// The most movements it ever held.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.opened.len()
    }

    pub(super) fn open(&mut self, account: Opened) {
        self.opened.push(account);
    }

    /// Adds a movement and the sums it left behind: of who paid, and of who received.
    pub(super) fn push(&mut self, entry: Entry, debit: Sums, credit: Option<Sums>) {
        let n = self.first + self.entries.len() as u64;
        let (from, to) = (entry.debit_account, entry.credit_account);
        let mut side = |account, counterparty, sums| {
            self.balances.push(Balance {
                account,
                n,
                counterparty,
                sums,
            });
        };
        side(from, to, debit);
        // A participant that trades with itself pays the account it is paid into: one row.
        if let Some(credit) = credit.filter(|_| from != to) {
            side(to, from, credit);
        }
        if entry.cause == schema::TRANSFER {
            let details = entry.details;
            for (key, value) in [
                (Key::Id, entry.id),
                (Key::PendingId, details.pending_id),
                (Key::UserData128, details.user_data_128),
                (Key::UserData64, details.user_data_64.into()),
                (Key::UserData32, details.user_data_32.into()),
                (Key::Code, details.code.into()),
            ] {
                if value != 0 {
                    self.keys.push((key, Wide(value), n));
                }
            }
        }
        self.entries.push(entry);
    }

    fn clear(&mut self) {
        self.most = self.most.max(self.entries.len());
        self.first += self.entries.len() as u64;
        self.entries.clear();
        self.balances.clear();
        self.keys.clear();
        self.opened.clear();
    }
}

/// How far a history has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The last command in it.
    pub(super) sequence: u64,
    /// Its hash: a journal that holds another one there is another journal.
    pub(super) command: [u8; 32],
}

/// The database, open for writing.
pub(super) struct Store {
    path: PathBuf,
    connection: Connection,
    position: Position,
    rows: u64,
    partition_rows: u64,
    partitions: u64,
}

impl Store {
    /// Opens the history of the journal `journal_id` in `dir`; makes it where there is none.
    pub(super) fn open(
        dir: &Path,
        journal_id: [u8; 16],
        options: Options,
    ) -> Result<(Store, Batch), HistoryError> {
        let path = dir.join(FILE_NAME);
        let opened = Connection::open(&path).and_then(|mut connection| {
            connection.busy_timeout(Duration::from_secs(5))?;
            // In WAL mode queries read while a batch is written. NORMAL may lose the last batches
            // at power loss, never a part of one: they are projected again.
            connection.pragma_update(None, "page_size", 8_192)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.pragma_update(None, "cache_size", -65_536)?;
            connection.pragma_update(None, "wal_autocheckpoint", 8_192)?;
            connection.set_prepared_statement_cache_capacity(32);
            create(&mut connection, journal_id, options)?;
            Ok(connection)
        });
        let connection = opened.map_err(|source| failed(&path, source))?;
        check(&connection, &path, journal_id)?;
        let mut store = Store {
            path,
            connection,
            position: Position {
                sequence: 0,
                command: [0; 32],
            },
            rows: 0,
            partition_rows: 0,
            partitions: 0,
        };
        store.load().map_err(|source| failed(&store.path, source))?;
        let batch = Batch::new(store.rows);
        Ok((store, batch))
    }

    fn load(&mut self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        self.position = position(connection)?;
        self.rows = setting(connection, "rows")?;
        self.partition_rows = setting(connection, "partition_rows")?;
        self.partitions = setting(connection, "partitions")?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The last command in it.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Movements in it.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Writes a batch and that the history now reaches `to`, in one transaction; empties the batch.
    pub(super) fn write(&mut self, batch: &mut Batch, to: Position) -> Result<(), HistoryError> {
        let written = self.try_write(batch, to);
        let written = written.map_err(|source| failed(&self.path, source))?;
        if !written {
            return Err(HistoryError::Busy(self.path.clone()));
        }
        batch.clear();
        Ok(())
    }

    /// Whether the history was still where this store left it.
    fn try_write(&mut self, batch: &mut Batch, to: Position) -> rusqlite::Result<bool> {
        // Neighbours go in together: a page is touched once per batch, not once per row.
        batch
            .balances
            .sort_unstable_by_key(|row| (row.account, row.n));
        batch.keys.sort_unstable();
        let rows = self.rows + batch.entries.len() as u64;
        let partitions = rows.div_ceil(self.partition_rows);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if position(&transaction)? != self.position {
            return Ok(false);
        }
        for partition in self.partitions..partitions {
            transaction.execute_batch(&schema::partition_tables(partition))?;
        }
        insert_accounts(&transaction, &batch.opened)?;
        insert_entries(&transaction, batch.first, &batch.entries)?;
        // A batch may reach into the next partition.
        let first = (batch.first - 1) / self.partition_rows;
        for partition in first..partitions {
            let of = |n: u64| (n - 1) / self.partition_rows == partition;
            insert_balances(&transaction, partition, &batch.balances, of)?;
            insert_keys(&transaction, partition, &batch.keys, of)?;
        }
        set(&transaction, "rows", rows as i64)?;
        set(&transaction, "partitions", partitions as i64)?;
        set(&transaction, "sequence", to.sequence as i64)?;
        set(&transaction, "command", to.command)?;
        transaction.commit()?;
        self.rows = rows;
        self.partitions = partitions;
        self.position = to;
        Ok(true)
    }
}

fn insert_accounts(transaction: &Transaction<'_>, opened: &[Opened]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT INTO accounts VALUES (?, ?, ?, ?, ?)")?;
    for row in opened {
        insert.execute(params![
            Wide(row.account.into()),
            row.participant,
            row.asset,
            Wide(row.sequence.into()),
            Wide(row.at.into()),
        ])?;
    }
    Ok(())
}

fn insert_entries(
    transaction: &Transaction<'_>,
    first: u64,
    entries: &[Entry],
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    for (n, row) in (first..).zip(entries) {
        let details = row.details;
        insert.execute(params![
            Wide(n.into()),
            Wide(row.sequence.into()),
            Wide(row.at.into()),
            row.kind,
            row.cause,
            Wide(row.id),
            Wide(row.debit_account.into()),
            Wide(row.credit_account.into()),
            Wide(row.amount),
            Wide(details.pending_id),
            Wide(details.user_data_128),
            Wide(details.user_data_64.into()),
            details.user_data_32,
            details.timeout_s,
            details.asset,
            details.code,
            details.flags,
        ])?;
    }
    Ok(())
}

fn insert_balances(
    transaction: &Transaction<'_>,
    partition: u64,
    balances: &[Balance],
    of: impl Fn(u64) -> bool,
) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO balances_{partition} VALUES (?, ?, ?, ?, ?, ?, ?, ?)");
    let mut insert = transaction.prepare_cached(&sql)?;
    for row in balances.iter().filter(|row| of(row.n)) {
        let sums = row.sums;
        insert.execute(params![
            Wide(row.account.into()),
            Wide(row.n.into()),
            Wide(row.counterparty.into()),
            Wide(sums.debits_pending.0),
            Wide(sums.debits_posted.0),
            Wide(sums.credits_pending.0),
            Wide(sums.credits_posted.0),
            Wide(sums.held.0),
        ])?;
    }
    Ok(())
}

fn insert_keys(
    transaction: &Transaction<'_>,
    partition: u64,
    keys: &[(Key, Wide, u64)],
    of: impl Fn(u64) -> bool,
) -> rusqlite::Result<()> {
    let sql = format!("INSERT INTO keys_{partition} VALUES (?, ?, ?)");
    let mut insert = transaction.prepare_cached(&sql)?;
    for (key, value, n) in keys.iter().filter(|(_, _, n)| of(*n)) {
        insert.execute(params![*key as u8, value, Wide((*n).into())])?;
    }
    Ok(())
}

/// Makes the tables where there are none.
fn create(
    connection: &mut Connection,
    journal_id: [u8; 16],
    options: Options,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 =
        transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        return Ok(());
    }
    transaction.execute_batch(schema::TABLES)?;
    transaction.execute_batch(&schema::transfers_view())?;
    for (kind, name) in (0_u8..).zip(KINDS) {
        transaction.execute("INSERT INTO kinds VALUES (?, ?)", params![kind, name])?;
    }
    for cause in 1..2_000 {
        let name = schema::cause_name(cause);
        if name != "unknown" {
            transaction.execute("INSERT INTO causes VALUES (?, ?)", params![cause, name])?;
        }
    }
    set(&transaction, "format", FORMAT)?;
    set(&transaction, "journal", journal_id)?;
    set(
        &transaction,
        "partition_rows",
        options.partition_rows as i64,
    )?;
    for name in ["rows", "partitions", "sequence"] {
        set(&transaction, name, 0)?;
    }
    set(&transaction, "command", [0_u8; 32])?;
    transaction.commit()
}

/// Whether the file is a history of this release and, where one is named, of this journal.
pub(super) fn check(
    connection: &Connection,
    path: &Path,
    journal_id: [u8; 16],
) -> Result<(), HistoryError> {
    let unusable = |why: &str| HistoryError::Unusable {
        path: path.to_owned(),
        why: why.into(),
    };
    let sql = "SELECT value FROM meta WHERE name = 'format'";
    match connection.query_row(sql, [], |row| row.get::<_, i64>(0)) {
        Ok(FORMAT) => {}
        Ok(_) => {
            return Err(unusable(
                "another release wrote it; delete it and sync again",
            ));
        }
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) => {
            return Err(HistoryError::Busy(path.to_owned()));
        }
        Err(_) => return Err(unusable("it is no history of a journal")),
    }
    let sql = "SELECT value FROM meta WHERE name = 'journal'";
    let of: rusqlite::Result<[u8; 16]> = connection.query_row(sql, [], |row| row.get(0));
    if of.map_err(|source| failed(path, source))? != journal_id {
        return Err(unusable(
            "it is the history of another journal; delete it and sync again",
        ));
    }
    Ok(())
}

/// A number in `meta`.
pub(super) fn setting(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT value FROM meta WHERE name = ?";
    let value: Option<Wide> = connection
        .query_row(sql, [name], |row| row.get(0))
        .optional()?;
    Ok(value.map_or(0, |value| value.0 as u64))
}

fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let sql = "SELECT value FROM meta WHERE name = 'command'";
    Ok(Position {
        sequence: setting(connection, "sequence")?,
        command: connection.query_row(sql, [], |row| row.get(0))?,
    })
}

fn set(
    transaction: &Transaction<'_>,
    name: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")?
        .execute(params![name, value])?;
    Ok(())
}

pub(super) fn failed(path: &Path, source: rusqlite::Error) -> HistoryError {
    if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) {
        return HistoryError::Busy(path.to_owned());
    }
    HistoryError::Database {
        path: path.to_owned(),
        source,
    }
}
