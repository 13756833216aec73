//! Market data, order by order: what published books record becomes events at the end of the
//! command that did it, after its reports. From `book_start` on, whoever applies them in order of
//! sequence and index has every order the book shows, in priority order; levels and best prices
//! follow. Nobody's name is in them.

use crate::engine::handlers::{ok, rejected};
use crate::engine::matching::{Change, ChangeKind};
use crate::engine::outbox::Outbox;
use crate::engine::state::State;
use crate::protocol::command::{self, CommandKind, InstrumentRef};
use crate::protocol::event::{BookOrder, BookStart, EventKind};
use crate::protocol::reason::Reason;
use crate::protocol::units::InstrumentId;
use crate::protocol::wire::Zero;

/// Has the changes of a book published from now on, beginning with all it shows; or no more so.
pub(in crate::engine) fn publish_book(
    state: &mut State,
    asked: &command::PublishBook,
    out: &mut Outbox,
) {
    let Some(book) = state.instruments.find(asked.instrument.0) else {
        let id = u128::from(asked.instrument.0);
        return rejected(
            CommandKind::PublishBook,
            id,
            Reason::InstrumentNotFound,
            out,
        );
    };
    // From here it succeeds.
    ok(CommandKind::PublishBook, out);
    state.matching.set_published(book, asked.enabled.is_yes());
    if asked.enabled.is_yes() {
        say_all(state, book, out);
    }
}

/// Every order a book shows, with the sequence they stand at: where increments begin.
pub(in crate::engine) fn query_book_orders(state: &State, asked: &InstrumentRef, out: &mut Outbox) {
    match state.instruments.find(asked.instrument.0) {
        Some(book) => say_all(state, book, out),
        None => {
            let id = u128::from(asked.instrument.0);
            rejected(
                CommandKind::QueryBookOrders,
                id,
                Reason::InstrumentNotFound,
                out,
            );
        }
    }
}

fn say_all(state: &State, book: u32, out: &mut Outbox) {
    let id = InstrumentId(state.instruments.row(book).id);
    let start = BookStart {
        instrument: id,
        orders: state.matching.shown(book).count() as u32,
        _reserved: [Zero::Zero; 8],
    };
    out.push(EventKind::BookStart, &start);
    for change in state.matching.shown(book) {
        say(&change, id, out);
    }
}

/// Publishes what the command did to published books.
#[inline]
pub(in crate::engine) fn publish(state: &mut State, out: &mut Outbox) {
    if !state.matching.changes().is_empty() {
        say_changes(state, out);
    }
}

#[cold]
fn say_changes(state: &mut State, out: &mut Outbox) {
    let State {
        matching,
        instruments,
        ..
    } = state;
    for change in matching.changes().drain(..) {
        let id = InstrumentId(instruments.row(change.book).id);
        say(&change, id, out);
    }
}

fn say(change: &Change, instrument: InstrumentId, out: &mut Outbox) {
    let kind = match change.kind {
        ChangeKind::Add => EventKind::BookAdd,
        ChangeKind::Execute => EventKind::BookExecute,
        ChangeKind::Reduce => EventKind::BookReduce,
        ChangeKind::Delete => EventKind::BookDelete,
    };
    let body = BookOrder {
        order_id: change.order_id,
        price: change.price,
        quantity: change.quantity,
        instrument,
        side: change.side,
        _reserved: [Zero::Zero; 3],
    };
    out.push(kind, &body);
}
