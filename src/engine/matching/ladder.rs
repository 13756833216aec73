//! Price levels of all books, and the ladders that order them.
//!
//! A ladder is one side of one book: a trie over the 64 bits of a [`Rank`], six bits a step, in
//! which steps that would not branch are left out. A page keeps one bit for each of its 64 entries,
//! so "next better price" is a count of trailing zeros:
//!
//! ```text
//!   side -> best level, in front of the trie or in it
//!        -> top page    ranks 0x..40000 ..41000, bitmap of entries in use
//!               |  bit 3                    | bit 9             | bit 12
//!            page 64 neighbouring ticks    level, alone here   page 64 neighbouring ticks
//!               | | |                                             | |
//!             levels: total, orders, first and last order        levels
//! ```
//!
//! A level alone in its neighbourhood hangs where the way to it parts from all others, so it costs
//! no page of its own. A level that is better than all others stands in front of the trie and knows
//! the one behind it; it joins them when a better one comes, so prices that come and go at the top
//! of a book touch no page. A narrow book is one page, a usual one two steps deep; the deepest path
//! over the whole of `i64` has eleven. Nothing is ever moved when the market moves, far prices need no
//! second structure, and a book costs pages only where prices part. All pages and levels of all
//! books come from two pools. Every page branches, so a level brings one page at most: where a level
//! is free, the page for it is.

use super::table::{NIL, Pool, Table};
use crate::memory::Take;
use crate::prefetch::prefetch;
use crate::protocol::command::{Side, Trigger};
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
        Rank(price.0 as u64 ^ Rank::turn(side))
    }

    #[inline]
    pub(super) fn price(self, side: Side) -> Price {
        Price((self.0 ^ Rank::turn(side)) as i64)
    }

    /// The bits in which prices and ranks differ: the sign of a sell, all but the sign of a buy.
    /// Computed, for which side comes next nothing foretells.
    #[inline(always)]
    fn turn(side: Side) -> u64 {
        1 << 63 ^ (side as u64).wrapping_sub(Side::Sell as u64)
    }
}

/// The nine ladders of a book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shelf {
    /// Buys that may trade.
    Bids,
    /// Sells that may trade.
    Asks,
    /// Buys that wait for a trade to rise to their price, by stop price.
    BuyStops,
    /// Sells that wait for a trade to fall to their price, by stop price.
    SellStops,
    /// Orders that wait for an auction, by which.
    Aside,
    /// Buys that wait for the best bid to rise to their price.
    BuyStopsOfBid,
    /// Sells that wait for the best bid to fall to their price.
    SellStopsOfBid,
    /// Buys that wait for the best ask to rise to their price.
    BuyStopsOfAsk,
    /// Sells that wait for the best ask to fall to their price.
    SellStopsOfAsk,
}

impl Shelf {
    pub(super) const COUNT: usize = 9;
    pub(super) const ALL: [Shelf; Shelf::COUNT] = [
        Shelf::Bids,
        Shelf::Asks,
        Shelf::BuyStops,
        Shelf::SellStops,
        Shelf::Aside,
        Shelf::BuyStopsOfBid,
        Shelf::SellStopsOfBid,
        Shelf::BuyStopsOfAsk,
        Shelf::SellStopsOfAsk,
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
    pub(super) fn stops(side: Side, trigger: Trigger) -> Shelf {
        match (side, trigger) {
            (Side::Buy, Trigger::Last) => Shelf::BuyStops,
            (Side::Sell, Trigger::Last) => Shelf::SellStops,
            (Side::Buy, Trigger::Bid) => Shelf::BuyStopsOfBid,
            (Side::Sell, Trigger::Bid) => Shelf::SellStopsOfBid,
            (Side::Buy, Trigger::Ask) => Shelf::BuyStopsOfAsk,
            (Side::Sell, Trigger::Ask) => Shelf::SellStopsOfAsk,
        }
    }

    /// Which side waits there for a price, and for which.
    pub(super) fn waits_for(self) -> Option<(Side, Trigger)> {
        match self {
            Shelf::Bids | Shelf::Asks | Shelf::Aside => None,
            Shelf::BuyStops => Some((Side::Buy, Trigger::Last)),
            Shelf::SellStops => Some((Side::Sell, Trigger::Last)),
            Shelf::BuyStopsOfBid => Some((Side::Buy, Trigger::Bid)),
            Shelf::SellStopsOfBid => Some((Side::Sell, Trigger::Bid)),
            Shelf::BuyStopsOfAsk => Some((Side::Buy, Trigger::Ask)),
            Shelf::SellStopsOfAsk => Some((Side::Sell, Trigger::Ask)),
        }
    }

    /// Whether orders wait there for the best bid or ask.
    #[inline]
    pub(super) fn is_quoted(self) -> bool {
        self as usize > Shelf::Aside as usize
    }

    /// The side whose sense of better this ladder is ordered by: a rising price meets the lowest
    /// buy stop first, a falling one the highest sell stop.
    #[inline]
    pub(super) fn direction(self) -> Side {
        match self {
            Shelf::Bids | Shelf::SellStops | Shelf::SellStopsOfBid | Shelf::SellStopsOfAsk => {
                Side::Buy
            }
            Shelf::Asks
            | Shelf::BuyStops
            | Shelf::Aside
            | Shelf::BuyStopsOfBid
            | Shelf::BuyStopsOfAsk => Side::Sell,
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
    /// The page it hangs in; [`NIL`] where it is the only one of the trie, [`FRONT`] where it
    /// stands in front of it.
    page: u32,
    pub(super) book: u32,
    shelf: u32,
    /// In front of the trie: the best level in it. While free: the next free level.
    pub(super) behind: u32,
    /// Orders of it with lots behind those shown.
    pub(super) icebergs: u32,
    /// Orders of it that follow the market.
    pub(super) followers: u32,
    /// The turn of the next order to come; [`u32::MAX`] is none.
    pub(super) turns: u32,
}

/// Instead of a page: not in the trie.
const FRONT: u32 = u32::MAX;

impl Level {
    #[inline(always)]
    pub(super) fn shelf(&self) -> Shelf {
        Shelf::ALL[self.shelf as usize]
    }

    #[inline(always)]
    pub(super) fn price(&self) -> Price {
        self.rank.price(self.shelf().direction())
    }
}

const STEP: u32 = 6;
const SPREAD: usize = 1 << STEP;

/// Marks an entry that is a level and not a page.
const LEVEL: u32 = 1 << 31;

/// Sixty-four neighbours: levels, and pages for what parts further down.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Page {
    /// Which of `entries` are in use.
    bitmap: u64,
    /// What the ranks of this page have in common: the bits above its own, and where these are.
    prefix: u64,
    above: u64,
    /// The page above, [`NIL`] at the top. While free: the next free page.
    parent: u32,
    /// Bits of a rank below this page's own, a multiple of [`STEP`].
    shift: u32,
    entries: [u32; SPREAD],
}

impl Page {
    #[inline]
    fn covers(&self, rank: Rank) -> bool {
        rank.0 & self.above == self.prefix
    }

    /// Where `rank` lies among the entries of a page with that shift.
    #[inline]
    fn digit(&self, rank: Rank) -> u32 {
        (rank.0 >> self.shift) as u32 & (SPREAD as u32 - 1)
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

/// Where the way to a rank leads.
enum Way {
    /// To its level.
    To(u32),
    /// To the page in which it would hang, [`NIL`] where it would be the top.
    From(u32),
}

/// One side of one book.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BookSide {
    /// The best level and its rank; meaningless without levels.
    pub(super) best: u32,
    pub(super) best_rank: u64,
    /// The first entry of the trie.
    top: u32,
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
        assert!(levels < LEVEL, "a bit is kept to tell levels from pages");
        Ladders {
            levels: Table::new(levels as usize + 1),
            pages: Table::new(levels as usize + 1),
            level_pool: Pool::new(levels),
            page_pool: Pool::new(levels),
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
        side.best_within(rank)?;
        if side.best_rank == rank.0 {
            return Some(side.best);
        }
        let mut at = side.top;
        while at & LEVEL == 0 {
            if at == NIL {
                return None;
            }
            let page = &self.pages[at];
            let digit = page.digit(rank);
            if page.bitmap >> digit & 1 == 0 {
                return None;
            }
            at = page.entries[digit as usize];
        }
        // Steps that do not branch are not looked at: where the way ends, the rank tells.
        let level = at & !LEVEL;
        (self.levels[level].rank == rank).then_some(level)
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
        let mut at = if side.best_rank == rank.0 {
            side.best | LEVEL
        } else {
            side.top
        };
        for step in 0..=steps {
            if at & LEVEL != 0 {
                let level = at & !LEVEL;
                if step < steps {
                    return level;
                }
                prefetch(&self.levels[level]);
                return NIL;
            }
            if at == NIL {
                return NIL;
            }
            let page = &self.pages[at];
            if step == steps {
                prefetch(&page.bitmap);
                // Which digit it goes by is not known yet: one of the two lowest, mostly.
                prefetch(&page.entries[rank.0 as usize % SPREAD]);
                prefetch(&page.entries[(rank.0 >> STEP) as usize % SPREAD]);
                return NIL;
            }
            let digit = page.digit(rank);
            if page.bitmap >> digit & 1 == 0 {
                return NIL;
            }
            at = page.entries[digit as usize];
        }
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
        if side.best == NIL || rank.0 < side.best_rank {
            return self.add_in_front(side, rank, book, which);
        }
        if side.best_rank == rank.0 {
            return side.best;
        }
        let page = match self.way(side, rank) {
            Way::To(level) => return level,
            Way::From(page) => page,
        };
        let level = self.add_level(rank, book, which, page);
        self.hook(side, page, rank, level);
        // Between the level in front and all others it is the best of the trie.
        let best = &self.levels[side.best];
        if best.page == FRONT && (best.behind == NIL || rank < self.levels[best.behind].rank) {
            self.levels[side.best].behind = level;
        }
        level
    }

    /// Adds a level that is better than all others. The one that was joins them in the trie.
    #[inline]
    fn add_in_front(&mut self, side: &mut BookSide, rank: Rank, book: u32, which: Shelf) -> u32 {
        let before = side.best;
        if before != NIL && self.levels[before].page == FRONT {
            self.join_trie(side, before);
        }
        let level = self.add_level(rank, book, which, FRONT);
        self.levels[level].behind = before;
        side.best = level;
        side.best_rank = rank.0;
        level
    }

    /// Hangs the level that stood in front where its price says.
    #[inline(never)]
    fn join_trie(&mut self, side: &mut BookSide, level: u32) {
        let rank = self.levels[level].rank;
        let Way::From(page) = self.way(side, rank) else {
            unreachable!("one level at a price");
        };
        let row = &mut self.levels[level];
        row.page = page;
        row.behind = NIL;
        self.hook(side, page, rank, level);
    }

    #[inline]
    fn add_level(&mut self, rank: Rank, book: u32, which: Shelf, page: u32) -> u32 {
        let level = self.level_pool.take(|free| self.levels[free].behind);
        self.levels[level] = Level {
            total: 0,
            rank,
            first: NIL,
            last: NIL,
            orders: 0,
            page,
            book,
            shelf: which as u32,
            behind: NIL,
            icebergs: 0,
            followers: 0,
            turns: 0,
        };
        level
    }

    /// Makes a level the entry of its page, or the top.
    #[inline]
    fn hook(&mut self, side: &mut BookSide, page: u32, rank: Rank, level: u32) {
        if page == NIL {
            side.top = level | LEVEL;
        } else {
            self.set(page, rank, level | LEVEL);
        }
    }

    /// The way through the trie to a rank, made as far as a page with room for its entry.
    #[inline]
    fn way(&mut self, side: &mut BookSide, rank: Rank) -> Way {
        let mut page = NIL;
        let mut at = side.top;
        while at != NIL {
            let covered = if at & LEVEL == 0 {
                let row = &self.pages[at];
                if row.covers(rank) {
                    page = at;
                    let digit = row.digit(rank);
                    let is_used = row.bitmap >> digit & 1 != 0;
                    at = if is_used {
                        row.entries[digit as usize]
                    } else {
                        NIL
                    };
                    continue;
                }
                Rank(row.prefix)
            } else {
                let level = at & !LEVEL;
                if self.levels[level].rank == rank {
                    return Way::To(level);
                }
                self.levels[level].rank
            };
            return Way::From(self.fork(side, page, at, covered, rank));
        }
        Way::From(page)
    }

    /// Takes an empty level out of its side.
    #[inline]
    pub(super) fn remove(&mut self, side: &mut BookSide, level: u32) {
        let Level {
            rank, page, behind, ..
        } = self.levels[level];
        debug_assert_eq!(self.levels[level].orders, 0);
        if page == FRONT {
            side.best = behind;
            side.best_rank = self.levels[behind].rank.0;
        } else {
            if side.best == level {
                side.best = self.next(level);
                side.best_rank = self.levels[side.best].rank.0;
            } else if self.levels[side.best].behind == level {
                self.levels[side.best].behind = self.next(level);
            }
            self.leave_trie(side, page, rank);
        }
        self.levels[level].behind = self.level_pool.give(level);
    }

    #[inline]
    fn leave_trie(&mut self, side: &mut BookSide, page: u32, rank: Rank) {
        if page == NIL {
            side.top = NIL;
        } else {
            let row = &mut self.pages[page];
            row.bitmap &= !(1 << row.digit(rank));
            if row.bitmap.is_power_of_two() {
                self.join(side, page, rank);
            }
        }
    }

    /// The next worse level of the same side, [`NIL`] behind the last.
    #[inline]
    pub(super) fn next(&self, level: u32) -> u32 {
        let Level {
            rank, page, behind, ..
        } = self.levels[level];
        if page == FRONT {
            return behind;
        }
        let mut at = page;
        while at != NIL {
            let page = &self.pages[at];
            if let Some(following) = page.following(page.digit(rank)) {
                return self.first_level(following);
            }
            at = page.parent;
        }
        NIL
    }

    /// The worst level of a side, [`NIL`] where it has none.
    pub(super) fn last(&self, side: &BookSide) -> u32 {
        if side.top == NIL {
            return side.best;
        }
        let mut at = side.top;
        while at & LEVEL == 0 {
            let page = &self.pages[at];
            at = page.entries[(u64::BITS - 1 - page.bitmap.leading_zeros()) as usize];
        }
        at & !LEVEL
    }

    /// The best level below an entry.
    #[inline]
    fn first_level(&self, mut entry: u32) -> u32 {
        while entry & LEVEL == 0 {
            entry = self.pages[entry].first();
        }
        entry & !LEVEL
    }

    /// Puts a page above `entry`, which covers `covered` and hangs in `parent`: there `rank` parts
    /// from it. Returns the page, which has no entry for `rank` yet.
    fn fork(
        &mut self,
        side: &mut BookSide,
        parent: u32,
        entry: u32,
        covered: Rank,
        rank: Rank,
    ) -> u32 {
        // The highest differing bit lies above the entry's own bits: there they part.
        let bit = u64::BITS - 1 - (covered.0 ^ rank.0).leading_zeros();
        let fork = self.add_page(rank, bit / STEP * STEP, parent);
        self.replace(side, parent, rank, fork);
        self.set(fork, covered, entry);
        self.hang(entry, fork);
        fork
    }

    /// Takes a page away that no longer branches: what is left in it hangs where it hung.
    fn join(&mut self, side: &mut BookSide, page: u32, rank: Rank) {
        let (only, parent) = (self.pages[page].first(), self.pages[page].parent);
        self.hang(only, parent);
        self.replace(side, parent, rank, only);
        self.pages[page].parent = self.page_pool.give(page);
    }

    fn add_page(&mut self, rank: Rank, shift: u32, parent: u32) -> u32 {
        let at = self.page_pool.take(|free| self.pages[free].parent);
        let page = &mut self.pages[at];
        page.bitmap = 0;
        // The top page of all has no prefix.
        page.above = u64::MAX.checked_shl(shift + STEP).unwrap_or(0);
        page.prefix = rank.0 & page.above;
        page.parent = parent;
        page.shift = shift;
        at
    }

    #[inline]
    fn set(&mut self, page: u32, rank: Rank, entry: u32) {
        let page = &mut self.pages[page];
        let digit = page.digit(rank);
        page.entries[digit as usize] = entry;
        page.bitmap |= 1 << digit;
    }

    /// Tells an entry which page it hangs in.
    #[inline]
    fn hang(&mut self, entry: u32, page: u32) {
        if entry & LEVEL == 0 {
            self.pages[entry].parent = page;
        } else {
            self.levels[entry & !LEVEL].page = page;
        }
    }

    /// Makes `entry` that of `page` for `rank`, or the top.
    #[inline]
    fn replace(&mut self, side: &mut BookSide, page: u32, rank: Rank, entry: u32) {
        if page == NIL {
            side.top = entry;
        } else {
            self.set(page, rank, entry);
        }
    }

    /// Levels and pages in use: what the audit of all sides must add up to.
    pub(super) fn in_use(&self) -> (u32, u32) {
        (self.level_pool.used, self.page_pool.used)
    }

    /// The trie of one side: prefixes, parents, bitmaps, branching and order. Adds its levels to
    /// `levels`, best first, and returns how many pages it has.
    pub(super) fn audit(&self, side: &BookSide, levels: &mut Vec<u32>) -> Result<u32, String> {
        let front = side.best;
        let is_in_front = front != NIL && self.levels[front].page == FRONT;
        if is_in_front {
            levels.push(front);
        }
        let mut pages = 0;
        if side.top == NIL {
            return if is_in_front == (front != NIL)
                && (!is_in_front || self.levels[front].behind == NIL)
            {
                Ok(pages)
            } else {
                Err("levels without an entry".into())
            };
        }
        // Depth first, best last on the stack; the depth is bounded by the 64 bits of a rank.
        let mut stack = vec![(side.top, NIL)];
        while let Some((entry, parent)) = stack.pop() {
            let hangs = |prefix: Rank, shift: Option<u32>| {
                let above = &self.pages[parent];
                parent == NIL
                    || above.covers(prefix)
                        && above.entries[above.digit(prefix) as usize] == entry
                        && shift.is_none_or(|shift| above.shift > shift)
            };
            if entry & LEVEL != 0 {
                let at = entry & !LEVEL;
                let level = &self.levels[at];
                if level.page != parent || !hangs(level.rank, None) {
                    return Err(format!("level {at}: is not where its price says"));
                }
                levels.push(at);
                continue;
            }
            let page = &self.pages[entry];
            pages += 1;
            if page.parent != parent {
                return Err(format!("page {entry}: parent is not {parent}"));
            }
            if page.bitmap.count_ones() < 2 {
                return Err(format!("page {entry}: does not branch"));
            }
            if !hangs(Rank(page.prefix), Some(page.shift)) {
                return Err(format!("page {entry}: is not where its prefix says"));
            }
            let used = (0..SPREAD)
                .rev()
                .filter(|digit| page.bitmap >> digit & 1 != 0);
            stack.extend(used.map(|digit| (page.entries[digit], entry)));
        }
        if is_in_front && levels.get(1) != Some(&self.levels[front].behind) {
            return Err(format!("level {front}: does not know who is behind it"));
        }
        Ok(pages)
    }
}
