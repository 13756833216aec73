//! Postings for followers: what moved sums, in order, with the sums after it and what caused it.
//!
//! Off in a node: there it costs the ledger one branch per movement. A follower that projects
//! history switches it on, and reads after every command what the command moved.

use crate::protocol::units::{AccountId, Amount};

/// How a posting moves sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostingKind {
    /// From the debit account to the credit account, for good.
    Post,
    /// Reserved on both, to be posted or given up.
    Pend,
    /// A reservation given up, or about to be posted.
    Unpend,
    /// Held on the debit account as cover of an order.
    Hold,
    /// Cover given back, or about to be posted.
    Release,
}

/// What a posting happened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The command itself.
    Command,
    /// The business day moved on: credit lent and repaid, cover given back.
    Day,
    /// The item of that index in a batch.
    Item(u32),
    /// A pending transfer of that id that timed out.
    TransferExpired(u128),
    /// An authorisation of that id that lapsed.
    AuthorisationExpired(u128),
    /// A payment of that id.
    Payment(u128),
    /// An order that left the book.
    Order(u64),
    /// A fill between these two orders (engine's ids): the resting one and the incoming one.
    Fill(u64, u64),
    /// The end of a cycle of the instrument of that id.
    Cycle(u32),
}

/// The sums of an account, minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Reserved to leave.
    pub debits_pending: Amount,
    /// What left.
    pub debits_posted: Amount,
    /// Reserved to come.
    pub credits_pending: Amount,
    /// What came.
    pub credits_posted: Amount,
    /// Held as cover of orders.
    pub held: Amount,
}

/// One side of a posting, after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostingSide {
    /// The account.
    pub account: AccountId,
    /// Its sums after the posting.
    pub sums: Sums,
}

/// One movement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posting {
    /// How it moves.
    pub kind: PostingKind,
    /// What for.
    pub cause: Cause,
    /// Minor units.
    pub amount: Amount,
    /// Who pays, or whose cover it is.
    pub debit: PostingSide,
    /// Who receives; nobody for cover.
    pub credit: Option<PostingSide>,
}

/// What a ledger keeps for followers.
pub(super) struct Recorder {
    pub(super) postings: Vec<Posting>,
    pub(super) cause: Cause,
}

impl Recorder {
    pub(super) fn new() -> Recorder {
        Recorder {
            postings: Vec::new(),
            cause: Cause::Command,
        }
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.postings.clear();
        self.cause = Cause::Command;
    }
}
