//! What the database holds.
//!
//! ```text
//! meta            one row per setting: format, journal, the sequence it reaches, rows
//! accounts        every account ever opened
//! entries         every movement in order, numbered 1, 2, 3 ...; a transfer with all it carried
//! balances_<p>    (account, entry): the account's sums after that movement
//! keys_<p>        (key, value, entry): transfers by id, pending id, user data and code
//! transfers       a view for people: the entries that are transfers
//! ```
//! Balances and keys are sorted tables of their own, one pair for every `partition_rows` entries:
//! what has no order in time (ids, user data) is spread over a tree of bounded size, so a long
//! history takes rows as fast as a short one, and a query by time or with a limit reads the
//! partitions it needs. Numbers beyond 63 bits are blobs of 16 bytes, big end first.

use crate::protocol::command::CommandKind;

/// The database's file in a node's directory.
pub const FILE_NAME: &str = "history.db";

/// Layout of the tables; another number is another layout.
pub(super) const FORMAT: i64 = 1;

/// A pending transfer timed out: a cause beside the kinds of commands.
pub(super) const TRANSFER_EXPIRED: u16 = 1_000;
/// An authorisation lapsed.
pub(super) const AUTHORISATION_EXPIRED: u16 = 1_001;
/// Two orders met.
pub const FILL: u16 = 1_002;
/// An order left the book and gave its cover back.
pub(super) const ORDER_DONE: u16 = 1_003;

/// What a cause is called: the command's name, or the word for what time and other orders do.
pub fn cause_name(cause: u16) -> &'static str {
    match cause {
        TRANSFER_EXPIRED => "transfer_expired",
        AUTHORISATION_EXPIRED => "authorisation_expired",
        FILL => "fill",
        ORDER_DONE => "order_done",
        command => CommandKind::from_code(command).map_or("unknown", CommandKind::name),
    }
}

/// What a transfer can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Id = 0,
    PendingId = 1,
    UserData128 = 2,
    UserData64 = 3,
    UserData32 = 4,
    Code = 5,
}

/// How a movement moves, as `entries.kind` says it.
pub(super) const KINDS: [&str; 5] = ["post", "pend", "unpend", "hold", "release"];

pub(super) const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE accounts (
    account PRIMARY KEY, participant INTEGER, asset INTEGER, seq INTEGER, at
) WITHOUT ROWID;
CREATE TABLE causes (cause INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE kinds (kind INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE entries (
    n INTEGER PRIMARY KEY, seq INTEGER, at, kind INTEGER, cause INTEGER, id,
    debit_account, credit_account, amount,
    pending_id, user_data_128, user_data_64, user_data_32 INTEGER,
    timeout_s INTEGER, asset INTEGER, code INTEGER, flags INTEGER
);
";

/// The tables of a partition.
pub(super) fn partition_tables(partition: u64) -> String {
    format!(
        "CREATE TABLE balances_{partition} (
    account, n INTEGER, counterparty,
    debits_pending, debits_posted, credits_pending, credits_posted, held,
    PRIMARY KEY (account, n)
) WITHOUT ROWID;
CREATE TABLE keys_{partition} (key INTEGER, value, n INTEGER, PRIMARY KEY (key, value, n)) WITHOUT ROWID;
"
    )
}

/// The code of an entry that is a transfer.
pub(super) const TRANSFER: u16 = CommandKind::Transfer as u16;

/// The view for people.
pub(super) fn transfers_view() -> String {
    format!(
        "CREATE VIEW transfers AS SELECT n, seq, at, id, kinds.name AS kind, debit_account, \
         credit_account, amount, pending_id, user_data_128, user_data_64, user_data_32, timeout_s, \
         asset, code, flags FROM entries JOIN kinds USING (kind) WHERE cause = {TRANSFER};"
    )
}
