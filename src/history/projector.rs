//! From commands and what they posted to rows.

use super::HistoryError;
use super::schema::{self, KINDS};
use super::store::{Batch, Details, Entry, Opened, Position, Store};
use crate::engine::{Cause, Engine, Posting, PostingKind, Sums};
use crate::protocol::command::{Command, CommandKind};
use crate::protocol::event::Event;
use crate::protocol::frame::{CommandRef, EventSlot};
use crate::protocol::units::TransferId;
use crate::replay::Watcher;

/// Turns commands into batches of rows and writes them.
pub(super) struct Projector<'a> {
    store: &'a mut Store,
    batch: &'a mut Batch,
    batch_rows: usize,
    last: Position,
    /// Why a write failed: the replay loop carries words only.
    pub(super) error: Option<HistoryError>,
    /// Hears how far it is, and says whether to go on.
    listener: &'a mut dyn FnMut(u64) -> bool,
    stopping: bool,
    one_batch: bool,
}

impl<'a> Projector<'a> {
    pub(super) fn new(
        store: &'a mut Store,
        batch: &'a mut Batch,
        batch_rows: usize,
        listener: &'a mut dyn FnMut(u64) -> bool,
    ) -> Projector<'a> {
        let last = store.position();
        Projector {
            store,
            batch,
            batch_rows,
            last,
            error: None,
            listener,
            stopping: false,
            one_batch: false,
        }
    }

    /// Whether its listener had enough.
    pub(super) fn was_stopped(&self) -> bool {
        self.stopping
    }

    /// Whether it stops behind its next transaction.
    pub(super) fn stop_after_a_batch(&mut self, yes: bool) {
        self.one_batch = yes;
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self) -> Result<(), HistoryError> {
        if self.last == self.store.position() {
            return Ok(());
        }
        self.store.write(self.batch, self.last)
    }

    fn project(
        &mut self,
        sequence: u64,
        command: CommandRef<'_>,
        events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        let decoded = command.decode().map_err(|error| error.to_string())?;
        let at = engine.now().0;
        if let Command::CreateAccount(asked) = decoded
            && matches!(events[events.len() - 1].event(), Some(Event::Ok(_)))
        {
            self.batch.open(Opened {
                account: asked.account.0,
                participant: asked.participant.0,
                asset: asked.asset.0,
                sequence,
                at,
            });
        }
        let mut rest = engine.postings();
        while let Some(movement) = Movement::take(&mut rest) {
            let (cause, id) = cause_of(command, decoded, movement.cause)?;
            let details = if cause == schema::TRANSFER {
                details(engine, id)?
            } else {
                Details::default()
            };
            let entry = Entry {
                sequence,
                at,
                kind: kind_code(movement.kind),
                cause,
                id,
                debit_account: movement.debit.0,
                credit_account: movement.credit.map_or(0, |(account, _)| account),
                amount: movement.amount,
                details,
            };
            let credit = movement.credit.map(|(_, sums)| sums);
            self.batch.push(entry, movement.debit.1, credit);
        }
        Ok(())
    }
}

impl Watcher for Projector<'_> {
    fn command(
        &mut self,
        sequence: u64,
        command: CommandRef<'_>,
        events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        self.project(sequence, command, events, engine)?;
        self.last = Position {
            sequence,
            command: hash_of(command),
        };
        if self.batch.len() >= self.batch_rows {
            self.flush().map_err(|error| {
                let why = error.to_string();
                self.error = Some(error);
                why
            })?;
            self.stopping |= self.one_batch;
        }
        if self.stopping {
            return Err("asked to stop".into());
        }
        Ok(())
    }

    fn progress(&mut self, sequence: u64) {
        self.stopping = !(self.listener)(sequence);
    }
}

/// What tells one command from another that might stand in its place.
pub(super) fn hash_of(command: CommandRef<'_>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytemuck::bytes_of(command.header));
    hasher.update(command.body);
    *hasher.finalize().as_bytes()
}

/// One or more postings that are one movement to whoever looks at an account: what a reservation
/// gave up to be posted is one row, with the sums after both.
struct Movement {
    kind: PostingKind,
    cause: Cause,
    amount: u128,
    debit: (u64, Sums),
    credit: Option<(u64, Sums)>,
}

impl Movement {
    /// The next movement; the postings it consists of are taken off the front.
    fn take(rest: &mut &[Posting]) -> Option<Movement> {
        let (first, mut behind) = rest.split_first()?;
        let mut movement = Movement::of(first);
        while let Some((next, further)) = behind.split_first() {
            if !movement.join(next) {
                break;
            }
            behind = further;
        }
        *rest = behind;
        Some(movement)
    }

    fn of(posting: &Posting) -> Movement {
        Movement {
            kind: posting.kind,
            cause: posting.cause,
            amount: posting.amount.0,
            debit: (posting.debit.account.0, posting.debit.sums),
            credit: posting.credit.map(|side| (side.account.0, side.sums)),
        }
    }

    /// Takes `next` into this movement where it completes it.
    fn join(&mut self, next: &Posting) -> bool {
        let same_credit = self.credit.map(|side| side.0) == next.credit.map(|side| side.account.0);
        let same = self.cause == next.cause && self.debit.0 == next.debit.account.0;
        let joins = match (self.kind, next.kind) {
            // Captured out of a reservation, and what the last capture gives up besides.
            (PostingKind::Unpend, PostingKind::Post) | (PostingKind::Post, PostingKind::Unpend) => {
                same && same_credit
            }
            // Captured out of cover.
            (PostingKind::Release, PostingKind::Post) => same,
            _ => false,
        };
        if !joins {
            return false;
        }
        let amount = if next.kind == PostingKind::Post {
            next.amount.0
        } else {
            self.amount
        };
        *self = Movement {
            kind: PostingKind::Post,
            amount,
            ..Movement::of(next)
        };
        true
    }
}

fn kind_code(kind: PostingKind) -> u8 {
    let name = match kind {
        PostingKind::Post => "post",
        PostingKind::Pend => "pend",
        PostingKind::Unpend => "unpend",
        PostingKind::Hold => "hold",
        PostingKind::Release => "release",
    };
    KINDS
        .iter()
        .position(|known| *known == name)
        .expect("listed") as u8
}

/// The code and the id of what a movement happened for.
fn cause_of(
    command: CommandRef<'_>,
    decoded: Command<'_>,
    cause: Cause,
) -> Result<(u16, u128), String> {
    Ok(match cause {
        Cause::Command => (command.header.kind, id_of(decoded)),
        Cause::Day => (CommandKind::SetPhase as u16, 0),
        Cause::Item(at) => {
            let Command::Transfers(_, asked) = decoded else {
                return Err("an item moved money outside a batch".into());
            };
            (schema::TRANSFER, asked[at as usize].id.0)
        }
        Cause::TransferExpired(id) => (schema::TRANSFER_EXPIRED, id),
        Cause::AuthorisationExpired(id) => (schema::AUTHORISATION_EXPIRED, id),
        Cause::Payment(id) => (CommandKind::SubmitPayment as u16, id),
        Cause::Order(id) => (schema::ORDER_DONE, id.into()),
        Cause::Cycle(instrument) => (CommandKind::SettleCycle as u16, instrument.into()),
        Cause::Fill(_, taker) => (schema::FILL, taker.into()),
    })
}

/// The id under which what a command moves is known; 0 where it has none.
fn id_of(command: Command<'_>) -> u128 {
    match command {
        Command::Transfer(asked) => asked.id.0,
        Command::SubmitPayment(asked) => asked.id.0,
        Command::SubmitGroup(asked, _) => asked.id.0,
        Command::Authorise(asked) => asked.id.0,
        Command::Increment(asked)
        | Command::Capture(asked)
        | Command::Void(asked)
        | Command::Refund(asked) => match asked.authorisation.0 {
            0 => asked.id.0,
            named => named,
        },
        Command::PlaceOrder(asked) => asked.client_order_id.0.into(),
        Command::ReplaceOrder(asked) => asked.client_order_id.0.into(),
        Command::CancelOrder(asked) => asked.client_order_id.0.into(),
        _ => 0,
    }
}

/// What the transfer of that id carries, what it took over from a pending one included.
fn details(engine: &Engine, id: u128) -> Result<Details, String> {
    let record = engine.transfer(TransferId(id));
    let record = record.ok_or_else(|| format!("transfer {id} moved and is not known"))?;
    Ok(Details {
        pending_id: record.pending_id.0,
        user_data_128: record.user_data_128,
        user_data_64: record.user_data_64,
        user_data_32: record.user_data_32,
        timeout_s: record.timeout_s,
        asset: record.asset.0,
        code: record.code,
        flags: record.flags.0,
    })
}
