//! Positions: what was traded in instruments that settle in cycles, summed per instrument and
//! participant until the cycle ends.
//!
//! A row is opened with the first order of a participant in such an instrument and stays for the
//! business day, so a fill always finds the rows of both sides; at its end those are given back whose
//! participants have no order left there. What a position owes is held on its accounts: it came out of
//! the holds of the orders that traded. What it is owed is nowhere yet: nobody can spend it.

use super::index::{Handle, Index, hash_64};
use crate::memory::Take;
use bytemuck::{Pod, Zeroable};

const NONE: u32 = u32::MAX;

/// What one participant traded in one instrument since its last cycle, minor units.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct PositionRow {
    /// Base that comes.
    pub(super) bought: u128,
    /// Base that goes; as much is held.
    pub(super) sold: u128,
    /// Quote that the buys cost.
    pub(super) paid: u128,
    /// Quote that the sells bring.
    pub(super) received: u128,
    /// Quote it owes in fees; below zero it is owed rebates.
    pub(super) fees: i128,
    /// Quote held: what the buys cost, and the fees charged for them.
    pub(super) held: u128,
    /// Trades in which it bought.
    pub(super) buys: u64,
    book: Handle,
    pub(super) base_account: Handle,
    pub(super) quote_account: Handle,
    /// Next position of the same instrument, in order of opening.
    next: u32,
    /// An order needs it; 0 between commands.
    is_kept: u32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<PositionRow>() == 128);

impl PositionRow {
    /// Whether it has not traded since the last cycle.
    pub(super) fn is_empty(&self) -> bool {
        self.bought | self.sold == 0
    }

    /// The quote that goes and the quote that comes, fees included: one of them is zero.
    pub(super) fn quote_net(&self) -> (u128, u128) {
        let charged = u128::try_from(self.fees).unwrap_or(0);
        let rebated = u128::try_from(-self.fees).unwrap_or(0);
        net(self.paid + charged, self.received + rebated)
    }

    /// The base that goes and the base that comes: one of them is zero.
    pub(super) fn base_net(&self) -> (u128, u128) {
        net(self.sold, self.bought)
    }
}

fn net(goes: u128, comes: u128) -> (u128, u128) {
    (goes.saturating_sub(comes), comes.saturating_sub(goes))
}

/// What a fill adds to the positions of its two sides, minor units.
pub(super) struct DeferredFill {
    pub(super) book: Handle,
    /// Base accounts.
    pub(super) buyer: Handle,
    pub(super) seller: Handle,
    pub(super) base: u128,
    pub(super) notional: u128,
    /// Below zero where rebates are owed.
    pub(super) buyer_fee: i128,
    pub(super) seller_fee: i128,
    /// Quote held for the buyer's side of it.
    pub(super) held: u128,
}

/// All positions.
pub(super) struct Positions {
    rows: Vec<PositionRow>,
    by_account: Index,
    /// First and last position of each instrument.
    by_book: Vec<(u32, u32)>,
    limit: u32,
}

impl Positions {
    pub(super) fn new(limit: u32) -> Positions {
        Positions {
            rows: Vec::with_capacity(limit as usize),
            by_account: Index::new(limit),
            by_book: Vec::new(),
            limit,
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        crate::memory::take(&mut self.rows, how);
        self.by_account.take_memory(how);
    }

    /// All rows in order of opening.
    pub(super) fn rows(&self) -> &[PositionRow] {
        &self.rows
    }

    #[inline]
    fn find(&self, book: Handle, base_account: Handle) -> Option<u32> {
        self.by_account.find(hash(book, base_account), |row| {
            let row = &self.rows[row as usize];
            (row.book, row.base_account) == (book, base_account)
        })
    }

    /// Whether an order on that base account has a row, or can have one.
    pub(super) fn has_room_for(&self, book: Handle, base_account: Handle) -> bool {
        (self.rows.len() as u32) < self.limit || self.find(book, base_account).is_some()
    }

    /// Opens the row of a participant's accounts where there is none. There is room.
    pub(super) fn open(&mut self, book: Handle, base_account: Handle, quote_account: Handle) {
        if self.find(book, base_account).is_none() {
            self.push(PositionRow {
                book,
                base_account,
                quote_account,
                ..PositionRow::zeroed()
            });
        }
    }

    fn push(&mut self, row: PositionRow) {
        let at = self.rows.len() as u32;
        self.by_account.insert(hash(row.book, row.base_account), at);
        self.rows.push(row);
        self.chain(at);
    }

    /// Puts a row behind the others of its instrument.
    fn chain(&mut self, at: u32) {
        let row = &mut self.rows[at as usize];
        row.next = NONE;
        let book = row.book as usize;
        if self.by_book.len() <= book {
            self.by_book.resize(book + 1, (NONE, NONE));
        }
        let (first, last) = &mut self.by_book[book];
        if *first == NONE {
            *first = at;
        } else {
            self.rows[*last as usize].next = at;
        }
        *last = at;
    }

    /// Adds a fill to the positions of both sides, which are open since their orders came in.
    pub(super) fn add(&mut self, fill: &DeferredFill) {
        let buyer = self.opened(fill.book, fill.buyer);
        buyer.bought += fill.base;
        buyer.paid += fill.notional;
        buyer.fees += fill.buyer_fee;
        buyer.held += fill.held;
        buyer.buys += 1;
        let seller = self.opened(fill.book, fill.seller);
        seller.sold += fill.base;
        seller.received += fill.notional;
        seller.fees += fill.seller_fee;
    }

    fn opened(&mut self, book: Handle, base_account: Handle) -> &mut PositionRow {
        let at = self.find(book, base_account).expect("opened at entry");
        &mut self.rows[at as usize]
    }

    /// The positions of an instrument in order of opening.
    pub(super) fn of(&self, book: Handle) -> impl Iterator<Item = &PositionRow> {
        let mut at = self
            .by_book
            .get(book as usize)
            .map_or(NONE, |(first, _)| *first);
        std::iter::from_fn(move || {
            let row = self.rows.get(at as usize)?;
            at = row.next;
            Some(row)
        })
    }

    /// Begins the next cycle of an instrument.
    pub(super) fn clear(&mut self, book: Handle) {
        let mut at = self
            .by_book
            .get(book as usize)
            .map_or(NONE, |(first, _)| *first);
        while at != NONE {
            let row = &mut self.rows[at as usize];
            at = row.next;
            *row = PositionRow {
                book: row.book,
                base_account: row.base_account,
                quote_account: row.quote_account,
                next: row.next,
                ..PositionRow::zeroed()
            };
        }
    }

    /// Whether there is no row.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of an order, where its instrument has any, is not to be given back.
    pub(super) fn keep(&mut self, book: Handle, base_account: Handle) {
        if self
            .by_book
            .get(book as usize)
            .is_some_and(|rows| rows.0 != NONE)
            && let Some(at) = self.find(book, base_account)
        {
            self.rows[at as usize].is_kept = 1;
        }
    }

    /// Gives back every row that is not kept and has not traded. Those that stay keep their order.
    pub(super) fn give_back(&mut self) {
        let mut rows = std::mem::take(&mut self.rows);
        rows.retain(|row| row.is_kept != 0 || !row.is_empty());
        self.by_account.clear();
        self.by_book.fill((NONE, NONE));
        for (at, row) in rows.iter_mut().enumerate() {
            row.is_kept = 0;
            self.by_account
                .insert(hash(row.book, row.base_account), at as u32);
        }
        self.rows = rows;
        for at in 0..self.rows.len() {
            self.chain(at as u32);
        }
    }

    /// Rebuilds the table around rows read from a snapshot.
    pub(super) fn restore(rows: Vec<PositionRow>, limit: u32) -> Positions {
        let mut table = Positions::new(limit.max(rows.len() as u32));
        table.limit = limit;
        for row in rows {
            table.push(row);
        }
        table
    }

    /// The room's invariants: whatever is bought is sold, whatever is paid is received, and the
    /// house never pays; every row is found, once.
    pub(super) fn audit(&self) -> Result<(), String> {
        let mut found = 0;
        for book in 0..self.by_book.len() as u32 {
            let (mut base, mut quote, mut fees) = (0i128, 0i128, 0i128);
            for row in self.of(book) {
                found += 1;
                base += row.bought as i128 - row.sold as i128;
                quote += row.paid as i128 - row.received as i128;
                fees += row.fees;
                let at = self.find(book, row.base_account);
                let is_found = at.is_some_and(|at| std::ptr::eq(&self.rows[at as usize], row));
                if !is_found || row.book != book || row.held < row.paid {
                    return Err(format!(
                        "position of account handle {}: not found, or not covered",
                        row.base_account
                    ));
                }
            }
            if base != 0 || quote != 0 || fees < 0 {
                return Err(format!(
                    "book {book}: positions add up to {base}, {quote} and fees of {fees}"
                ));
            }
        }
        if found != self.rows.len() {
            return Err(format!(
                "{} positions, {found} in instruments",
                self.rows.len()
            ));
        }
        Ok(())
    }
}

fn hash(book: Handle, base_account: Handle) -> u32 {
    hash_64(u64::from(book) << 32 | u64::from(base_account))
}
