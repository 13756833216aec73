//! What happens to a published book, order by order: enough to rebuild every order it shows, every
//! level and the best prices, exactly. Recorded where it happens, only for books that are published,
//! and taken away by handlers before the command ends.

use super::Matching;
use super::ladder::Shelf;
use crate::protocol::command::Side;
use crate::protocol::units::{OrderId, Price, Quantity};

/// What happened to an order that a book shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It joined, behind all others at its price; `quantity` is what it shows.
    Add,
    /// It traded `quantity`.
    Execute,
    /// It shows `quantity` from now on, in its place.
    Reduce,
    /// It left; `quantity` is what it showed.
    Delete,
}

/// One such thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// The book.
    pub book: u32,
    /// The order.
    pub order_id: OrderId,
    /// Its side.
    pub side: Side,
    /// Where it stands.
    pub price: Price,
    /// Lots, see [`ChangeKind`].
    pub quantity: Quantity,
}

impl Matching {
    /// Has the changes of a book recorded from now on, or no more so.
    pub fn set_published(&mut self, book: u32, is_published: bool) {
        self.books[book as usize].is_published = is_published;
    }

    /// What was recorded, in order; handlers clear it.
    #[inline]
    pub fn changes(&mut self) -> &mut Vec<Change> {
        &mut self.changes
    }

    /// The orders that a book shows, as one who joined now would have to hear of them.
    pub fn shown(&self, book: u32) -> impl Iterator<Item = Change> + '_ {
        [Side::Buy, Side::Sell].into_iter().flat_map(move |side| {
            self.orders(book, side).map(move |order| Change {
                kind: ChangeKind::Add,
                book,
                order_id: order.order_id,
                side,
                price: order.price,
                quantity: order.displayed,
            })
        })
    }

    /// Whether what happens at that level is recorded: it is in sight, in a published book.
    #[inline]
    pub(super) fn is_recorded(&self, level: u32) -> bool {
        let row = &self.ladders.levels[level];
        self.books[row.book as usize].is_published
            && matches!(row.shelf(), Shelf::Bids | Shelf::Asks)
    }

    #[cold]
    pub(super) fn record(&mut self, kind: ChangeKind, slot: u32, level: u32, quantity: u64) {
        let row = &self.ladders.levels[level];
        if !matches!(row.shelf(), Shelf::Bids | Shelf::Asks) {
            return;
        }
        self.changes.push(Change {
            kind,
            book: row.book,
            order_id: self.orders.id(slot),
            side: row.shelf().direction(),
            price: row.price(),
            quantity: Quantity(quantity),
        });
    }

    /// Lots were taken from what an order shows: traded, or only gone.
    #[cold]
    pub(super) fn record_taken(&mut self, slot: u32, level: u32, quantity: u64, trades: bool) {
        if trades {
            self.record(ChangeKind::Execute, slot, level, quantity);
        } else {
            let shown = self.orders.hot[slot].leaves;
            self.record(ChangeKind::Reduce, slot, level, shown);
        }
    }

    /// An order shows a new part, behind all others.
    #[cold]
    pub(super) fn record_refill(&mut self, slot: u32, level: u32, shown: u64) {
        self.record(ChangeKind::Delete, slot, level, 0);
        self.record(ChangeKind::Add, slot, level, shown);
    }
}
