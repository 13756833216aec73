//! Price levels of all books, and the ladders that order them.
//!
//! A ladder is one side of one book: a trie of pages over the 64 bits of a [`Rank`], six bits a
//! step, in which steps that would not branch are left out. A page covers 64 ranks and keeps one
//! bit for each, so "next better price" is a count of trailing zeros:
//!
//! ```text
//!   side -> best level
//!        -> top page    ranks 0x..40000 ..41000, bitmap of pages in use
//!               |  bit 3                    | bit 9
//!            page 64 neighbouring ticks    page 64 neighbouring ticks, bitmap of levels in use
//!               | | |                         |
//!             levels: total, orders, first and last order
//! ```
//!
//! A narrow book is one page, a usual one two steps deep; the deepest path over the whole of `i64`
//! has eleven. Nothing is ever moved when the market moves, far prices need no second structure,
//! and a book costs pages only for prices in use. All pages and levels of all books come from two
//! pools. Every page holds a level below it and every inner page branches, so a level brings two
//! pages at most: where a level is free, the pages for it are.

use super::table::{NIL, Pool, Table};
use crate::memory::Take;
use crate::prefetch::prefetch;
use crate::protocol::command::Side;
use crate::protocol::units::Price;
use bytemuck::{Pod, Zeroable};

/// A price as its side sees it: the lower, the better. Sells count up from the lowest price, buys
/// down from the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Rank(u64);

impl Rank {
    #[inline]
    pub(super) fn of(side: Side, price: Price) -> Rank {
        let upwards = price.0 as u64 ^ 1 << 63;
        match side {
            Side::Sell => Rank(upwards),
            Side::Buy => Rank(!upwards),
        }
    }

    #[inline]
    pub(super) fn price(self, side: Side) -> Price {
        let upwards = match side {
            Side::Sell => self.0,
            Side::Buy => !self.0,
        };
        Price((upwards ^ 1 << 63) as i64)
    }
}

/// The five ladders of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shelf {
    /// Buys that may trade.
    Bids,
    /// Sells that may trade.
    Asks,
    /// Buys that wait for a price to rise to theirs, by stop price.
    BuyStops,
    /// Sells that wait for a price to fall to theirs, by stop price.
    SellStops,
    /// Orders that wait for an auction, by which.
    Aside,
}

impl Shelf {
    pub(super) const COUNT: usize = 5;
    pub(super) const ALL: [Shelf; Shelf::COUNT] = [
        Shelf::Bids,
        Shelf::Asks,
        Shelf::BuyStops,
        Shelf::SellStops,
        Shelf::Aside,
    ];

    /// Where the orders of a side trade.
    #[inline]
    pub(super) fn of(side: Side) -> Shelf {
        match side {
            Side::Buy => Shelf::Bids,
            Side::Sell => Shelf::Asks,
        }
    }

    /// Where the stops of a side wait.
    #[inline]
    pub(super) fn stops(side: Side) -> Shelf {
        match side {
            Side::Buy => Shelf::BuyStops,
            Side::Sell => Shelf::SellStops,
        }
    }

    /// The side whose sense of better this ladder is ordered by: a rising price meets the lowest
    /// buy stop first, a falling one the highest sell stop.
    #[inline]
    pub(super) fn direction(self) -> Side {
        match self {
            Shelf::Bids | Shelf::SellStops => Side::Buy,
            Shelf::Asks | Shelf::BuyStops | Shelf::Aside => Side::Sell,
        }
    }
}

/// All orders of one side of one book at one price, first come first.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Level {
    /// Lots shown; 2^32 orders of 2^64 lots fit.
    pub(super) total: u128,
    pub(super) rank: Rank,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) orders: u32,
    page: u32,
    pub(super) book: u32,
    shelf: u32,
    /// While free: the next free level.
    free: u32,
    /// Orders of it with lots behind those shown.
    pub(super) icebergs: u32,
    /// Orders of it that follow the market.
    pub(super) followers: u32,
    reserved: u32,
}

impl Level {
    #[inline]
    pub(super) fn shelf(&self) -> Shelf {
        Shelf::ALL[self.shelf as usize]
    }

    #[inline]
    pub(super) fn price(&self) -> Price {
        self.rank.price(self.shelf().direction())
    }
}

const STEP: u32 = 6;
const SPREAD: usize = 1 << STEP;

/// Sixty-four neighbours: levels where `shift` is 0, pages above.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Page {
    /// Which of `entries` are in use.
    bitmap: u64,
    /// The bits of a rank above this page's own.
    prefix: u64,
    /// The page above, [`NIL`] at the top. While free: the next free page.
    parent: u32,
    /// Bits of a rank below this page's own, a multiple of [`STEP`].
    shift: u32,
    entries: [u32; SPREAD],
    reserved: [u32; 2],
}

impl Page {
    #[inline]
    fn covers(&self, rank: Rank) -> bool {
        above(rank.0, self.shift + STEP) == self.prefix
    }

    /// Where `rank` lies among the entries of a page with that shift.
    #[inline]
    fn digit(&self, rank: Rank) -> u32 {
        (rank.0 >> self.shift) as u32 & (SPREAD as u32 - 1)
    }

    /// A rank that this page covers.
    fn some_rank(&self) -> Rank {
        // The top page of all has no prefix.
        Rank(self.prefix.checked_shl(self.shift + STEP).unwrap_or(0))
    }

    /// The first entry, the best of the page.
    #[inline]
    fn first(&self) -> u32 {
        self.entries[self.bitmap.trailing_zeros() as usize]
    }

    /// The entry that follows `digit`.
    #[inline]
    fn following(&self, digit: u32) -> Option<u32> {
        // Two shifts, for one by 64 is none.
        let bits = self.bitmap >> digit >> 1;
        (bits != 0).then(|| self.entries[(digit + 1 + bits.trailing_zeros()) as usize])
    }
}

#[inline]
fn above(rank: u64, bits: u32) -> u64 {
    rank.checked_shr(bits).unwrap_or(0)
}

/// One side of one book.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BookSide {
    /// The best level and its rank; meaningless without levels.
    pub(super) best: u32,
    pub(super) best_rank: u64,
    top: u32,
    pub(super) levels: u32,
    pub(super) orders: u32,
}

impl BookSide {
    /// The best level, if it is at `limit` or better.
    #[inline]
    pub(super) fn best_within(&self, limit: Rank) -> Option<u32> {
        (self.best != NIL && self.best_rank <= limit.0).then_some(self.best)
    }
}

/// The levels and pages of all books.
pub(super) struct Ladders {
    pub(super) levels: Table<Level, 4>,
    pages: Table<Page, 18>,
    pub(super) level_pool: Pool,
    page_pool: Pool,
    /// Levels kept for orders that follow the market: a move of theirs cannot be refused.
    pub(super) kept: u32,
}

impl Ladders {
    pub(super) fn new(levels: u32) -> Ladders {
        let pages = levels.checked_mul(2).expect("at most 2^31 price levels");
        Ladders {
            levels: Table::new(levels as usize + 1),
            pages: Table::new(pages as usize + 1),
            level_pool: Pool::new(levels),
            page_pool: Pool::new(pages),
            kept: 0,
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        self.levels.take_memory(how);
        self.pages.take_memory(how);
    }

    /// Whether `more` levels can be added, beside those kept for orders that follow the market.
    #[inline]
    pub(super) fn has_room(&self, more: u32) -> bool {
        self.level_pool.used + self.kept + more <= self.level_pool.capacity
    }

    /// The level of `side` at `rank`.
    #[inline]
    pub(super) fn find(&self, side: &BookSide, rank: Rank) -> Option<u32> {
        let mut at = side.top;
        while at != NIL {
            let page = &self.pages[at];
            let digit = page.digit(rank);
            if !page.covers(rank) || page.bitmap >> digit & 1 == 0 {
                return None;
            }
            at = page.entries[digit as usize];
            if page.shift == 0 {
                return Some(at);
            }
        }
        None
    }

    /// Whether levels and pages outgrow the nearer caches.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.level_pool.fresh > 1 << 12
    }

    /// Goes `steps` down toward the level at `rank` and asks for what comes next. Returns the level
    /// where the steps lead beyond it, else [`NIL`].
    #[inline]
    pub(super) fn touch(&self, side: &BookSide, rank: Rank, steps: u32) -> u32 {
        let mut at = side.top;
        for step in 1..=steps {
            let page = &self.pages[at];
            let digit = page.digit(rank);
            if !page.covers(rank) || page.bitmap >> digit & 1 == 0 {
                return NIL;
            }
            at = page.entries[digit as usize];
            if page.shift == 0 {
                if step < steps {
                    return at;
                }
                prefetch(&self.levels[at]);
                return NIL;
            }
        }
        let page = &self.pages[at];
        prefetch(&page.bitmap);
        // Which digit it goes by is not known yet: one of the two lowest, mostly.
        prefetch(&page.entries[rank.0 as usize % SPREAD]);
        prefetch(&page.entries[(rank.0 >> STEP) as usize % SPREAD]);
        NIL
    }

    /// The level of `side` at `rank`, made where there is none.
    #[inline]
    pub(super) fn find_or_add(
        &mut self,
        side: &mut BookSide,
        rank: Rank,
        book: u32,
        which: Shelf,
    ) -> u32 {
        if side.best_rank == rank.0 && side.best != NIL {
            return side.best;
        }
        let page = self.page_for(side, rank);
        let leaf = &self.pages[page];
        let digit = leaf.digit(rank);
        if leaf.bitmap >> digit & 1 != 0 {
            return leaf.entries[digit as usize];
        }
        let level = self.level_pool.take(|free| self.levels[free].free);
        self.levels[level] = Level {
            total: 0,
            rank,
            first: NIL,
            last: NIL,
            orders: 0,
            page,
            book,
            shelf: which as u32,
            free: NIL,
            icebergs: 0,
            followers: 0,
            reserved: 0,
        };
        self.set(page, digit, level);
        side.levels += 1;
        if side.best == NIL || rank.0 < side.best_rank {
            side.best = level;
            side.best_rank = rank.0;
        }
        level
    }

    /// Takes an empty level out of its side.
    #[inline]
    pub(super) fn remove(&mut self, side: &mut BookSide, level: u32) {
        let Level { rank, page, .. } = self.levels[level];
        debug_assert_eq!(self.levels[level].orders, 0);
        if side.best == level {
            side.best = self.next(level);
            side.best_rank = self.levels[side.best].rank.0;
        }
        let digit = self.pages[page].digit(rank);
        self.clear(side, page, digit);
        side.levels -= 1;
        self.levels[level].free = self.level_pool.give(level);
    }

    /// The next worse level of the same side, [`NIL`] behind the last.
    #[inline]
    pub(super) fn next(&self, level: u32) -> u32 {
        let Level { rank, page, .. } = self.levels[level];
        let mut at = page;
        while at != NIL {
            let page = &self.pages[at];
            if let Some(following) = page.following(page.digit(rank)) {
                return self.first_level(following, page.shift);
            }
            at = page.parent;
        }
        NIL
    }

    /// The worst level of a side, [`NIL`] where it has none.
    pub(super) fn last(&self, side: &BookSide) -> u32 {
        let mut at = side.top;
        while at != NIL {
            let page = &self.pages[at];
            at = page.entries[(u64::BITS - 1 - page.bitmap.leading_zeros()) as usize];
            if page.shift == 0 {
                break;
            }
        }
        at
    }

    /// The best level below an entry of a page with that shift.
    #[inline]
    fn first_level(&self, mut entry: u32, mut shift: u32) -> u32 {
        while shift != 0 {
            let page = &self.pages[entry];
            entry = page.first();
            shift = page.shift;
        }
        entry
    }

    /// The lowest page for `rank`, made where there is none.
    #[inline]
    fn page_for(&mut self, side: &mut BookSide, rank: Rank) -> u32 {
        let mut at = side.top;
        if at == NIL {
            side.top = self.add_page(rank, 0, NIL);
            return side.top;
        }
        loop {
            let page = &self.pages[at];
            if !page.covers(rank) {
                return self.branch_above(side, at, rank);
            }
            if page.shift == 0 {
                return at;
            }
            let digit = page.digit(rank);
            if page.bitmap >> digit & 1 == 0 {
                let leaf = self.add_page(rank, 0, at);
                self.set(at, digit, leaf);
                return leaf;
            }
            at = page.entries[digit as usize];
        }
    }

    /// Puts a page above `page`, from which it and a new lowest page for `rank` branch. Returns
    /// the latter.
    fn branch_above(&mut self, side: &mut BookSide, page: u32, rank: Rank) -> u32 {
        let parent = self.pages[page].parent;
        let covered = self.pages[page].some_rank();
        // The highest differing bit lies above the page's own bits: there they part.
        let bit = u64::BITS - 1 - (covered.0 ^ rank.0).leading_zeros();
        let fork = self.add_page(rank, bit / STEP * STEP, parent);
        let leaf = self.add_page(rank, 0, fork);
        self.pages[page].parent = fork;
        self.replace(side, parent, covered, fork);
        let (old, new) = (
            self.pages[fork].digit(covered),
            self.pages[fork].digit(rank),
        );
        self.set(fork, old, page);
        self.set(fork, new, leaf);
        leaf
    }

    fn add_page(&mut self, rank: Rank, shift: u32, parent: u32) -> u32 {
        let at = self.page_pool.take(|free| self.pages[free].parent);
        let page = &mut self.pages[at];
        page.bitmap = 0;
        page.prefix = above(rank.0, shift + STEP);
        page.parent = parent;
        page.shift = shift;
        at
    }

    #[inline]
    fn set(&mut self, page: u32, digit: u32, entry: u32) {
        let page = &mut self.pages[page];
        page.entries[digit as usize] = entry;
        page.bitmap |= 1 << digit;
    }

    /// Takes an entry out of a page; a page left empty goes, and one left with a single page below
    /// it steps aside.
    #[inline]
    fn clear(&mut self, side: &mut BookSide, at: u32, digit: u32) {
        let page = &mut self.pages[at];
        page.bitmap &= !(1 << digit);
        if page.bitmap == 0 {
            self.drop_leaf(side, at);
        }
    }

    fn drop_leaf(&mut self, side: &mut BookSide, leaf: u32) {
        let parent = self.pages[leaf].parent;
        let rank = self.pages[leaf].some_rank();
        self.give_page(leaf);
        if parent == NIL {
            side.top = NIL;
            return;
        }
        let page = &mut self.pages[parent];
        let digit = page.digit(rank);
        page.bitmap &= !(1 << digit);
        if page.bitmap.is_power_of_two() {
            let only = page.first();
            let above = page.parent;
            self.pages[only].parent = above;
            self.replace(side, above, rank, only);
            self.give_page(parent);
        }
    }

    /// Makes `page` the entry of `parent` for `rank`, or the top.
    fn replace(&mut self, side: &mut BookSide, parent: u32, rank: Rank, page: u32) {
        if parent == NIL {
            side.top = page;
        } else {
            let digit = self.pages[parent].digit(rank);
            self.pages[parent].entries[digit as usize] = page;
        }
    }

    fn give_page(&mut self, page: u32) {
        self.pages[page].parent = self.page_pool.give(page);
    }

    /// Levels and pages in use: what the audit of all sides must add up to.
    pub(super) fn in_use(&self) -> (u32, u32) {
        (self.level_pool.used, self.page_pool.used)
    }

    /// The trie of one side: prefixes, parents, bitmaps, branching and order. Adds its levels to
    /// `levels`, best first, and returns how many pages it has.
    pub(super) fn audit(&self, side: &BookSide, levels: &mut Vec<u32>) -> Result<u32, String> {
        if side.top == NIL {
            return if side.best == NIL && side.levels == 0 {
                Ok(0)
            } else {
                Err("levels without a page".into())
            };
        }
        let mut pages = 0;
        // Depth first, best last on the stack; the depth is bounded by the 64 bits of a rank.
        let mut stack = vec![(side.top, NIL)];
        while let Some((at, parent)) = stack.pop() {
            let page = &self.pages[at];
            pages += 1;
            if page.parent != parent {
                return Err(format!("page {at}: parent is not {parent}"));
            }
            if page.bitmap == 0 || (page.shift != 0 && page.bitmap.is_power_of_two()) {
                return Err(format!("page {at}: does not branch"));
            }
            if parent != NIL {
                let above = &self.pages[parent];
                let digit = above.digit(page.some_rank());
                if !above.covers(page.some_rank()) || above.entries[digit as usize] != at {
                    return Err(format!("page {at}: is not where its prefix says"));
                }
                if above.shift <= page.shift {
                    return Err(format!("page {at}: is no smaller than its parent"));
                }
            }
            for digit in (0..SPREAD as u32).rev() {
                if page.bitmap >> digit & 1 == 0 {
                    continue;
                }
                let entry = page.entries[digit as usize];
                if page.shift != 0 {
                    stack.push((entry, at));
                }
            }
            if page.shift == 0 {
                for digit in (0..SPREAD as u32).filter(|digit| page.bitmap >> digit & 1 != 0) {
                    let entry = page.entries[digit as usize];
                    let level = &self.levels[entry];
                    if level.page != at
                        || !page.covers(level.rank)
                        || page.digit(level.rank) != digit
                    {
                        return Err(format!("level {entry}: is not where its price says"));
                    }
                    levels.push(entry);
                }
            }
        }
        Ok(pages)
    }
}
