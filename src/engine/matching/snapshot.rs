//! The books as bytes, and their digest. Both say what can be observed and nothing of how it lies
//! in memory: orders in price-time order with their slots, the chain of free slots with their
//! generations (they are the ids of orders to come), the finished client ids. Levels, pages, chains
//! and the id map are built again by the code that builds them always.

use super::ladder::{Rank, Shelf};
use super::linked::{FOR_ENTRY, ListRow};
use super::orders::{NewOrder, SlotState};
use super::specials::NewSpecial;
use super::table::NIL;
use super::{Matching, OrderView, Slot, orders};
use crate::engine::Limits;
use crate::engine::snapshot::{read_rows, write_rows};
use crate::protocol::command::{OrderType, Peg, SelfTrade, Side, TimeInForce, Trigger};
use crate::protocol::units::{ClientOrderId, Price, Quantity, Timestamp};
use bytemuck::{Pod, Zeroable};
use std::io::{self, Read, Write};

/// Counts that size the tables of the reader.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Head {
    books: u64,
    /// Slots ever used, and one.
    fresh: u64,
    levels: u64,
    client_order_ids: u64,
    specials: u64,
    sessions: u64,
}

/// What a book remembers beside its orders.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SavedBook {
    last: i64,
    indicated_price: i64,
    indicated_volume: u64,
    is_call: u32,
    is_published: u32,
}

/// What makes an order special.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SavedSpecial {
    limit: i64,
    cover_price: i64,
    offset: i64,
    display: u64,
    hidden: u64,
    expires_at: u64,
    session: u64,
    /// What its level stands for: its price, its stop price, or the auction it waits for.
    at: i64,
    /// The stop price it will wait for, where it waits for its entry.
    stop: i64,
    slot: u32,
    is_uncovered: u8,
    peg: u8,
    /// Whether it goes with `session`.
    in_session: u8,
    trigger: u8,
    deadline: u32,
    reserved_end: u32,
}

/// An order; its book and ladder are those of the table it stands in.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SavedOrder {
    order_id: u64,
    client_order_id: u64,
    price: i64,
    quantity: u64,
    leaves: u64,
    participant: u32,
    base_account: u32,
    fee_budget: u128,
    quote_account: u32,
    order_type: u8,
    time_in_force: u8,
    self_trade: u8,
    side: u8,
    post_only: u8,
    reserved: [u8; 7],
}

impl SavedOrder {
    fn new(order: &OrderView) -> SavedOrder {
        SavedOrder {
            order_id: order.order_id.0,
            client_order_id: order.client_order_id.0,
            price: order.price.0,
            quantity: order.quantity.0,
            leaves: order.leaves.0,
            fee_budget: order.fee_budget,
            participant: order.participant,
            base_account: order.base_account,
            quote_account: order.quote_account,
            order_type: order.order_type as u8,
            time_in_force: order.time_in_force as u8,
            self_trade: order.self_trade as u8,
            side: order.side as u8,
            post_only: u8::from(order.post_only),
            reserved: [0; 7],
        }
    }

    fn order(&self, book: u32) -> Option<NewOrder> {
        Some(NewOrder {
            book,
            participant: self.participant,
            client_order_id: ClientOrderId(self.client_order_id),
            side: Side::from_code(self.side)?,
            order_type: OrderType::from_code(self.order_type)?,
            time_in_force: TimeInForce::from_code(self.time_in_force)?,
            self_trade: SelfTrade::from_code(self.self_trade)?,
            post_only: self.post_only != 0,
            price: Price(self.price),
            quantity: Quantity(self.quantity),
            base_account: self.base_account,
            quote_account: self.quote_account,
            fee_budget: self.fee_budget,
            special: None,
        })
    }
}

impl Matching {
    /// Writes everything that decides what the room does next.
    pub fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<()> {
        let (live_ids, finished_ids, _) = self.ids.totals();
        let head = Head {
            books: self.books.len() as u64,
            fresh: u64::from(self.orders.pool.fresh),
            levels: u64::from(self.ladders.in_use().0 + self.ladders.kept),
            client_order_ids: u64::from(live_ids) + u64::from(finished_ids),
            specials: u64::from(self.orders.specials.pool.used),
            sessions: self.sessions.iter().count() as u64,
        };
        write_rows(out, &[head])?;
        write_rows(out, &self.saved_sessions())?;
        write_rows(out, &self.saved_specials().collect::<Vec<_>>())?;
        for book in 0..self.books() {
            write_rows(out, &[self.saved_book(book)])?;
            for shelf in Shelf::ALL {
                let orders: Vec<SavedOrder> = self
                    .orders_on(book, shelf)
                    .map(|order| SavedOrder::new(&order))
                    .collect();
                write_rows(out, &orders)?;
            }
            write_rows(out, &self.followers(book).collect::<Vec<_>>())?;
        }
        write_rows(out, &self.saved_lists())?;
        write_rows(out, &self.free_slots().collect::<Vec<_>>())?;
        write_rows(out, &self.retired_slots().collect::<Vec<_>>())?;
        let finished = self.ids.finished();
        let finished: Vec<[u64; 2]> = finished
            .iter()
            .map(|(participant, id)| [u64::from(*participant), *id])
            .collect();
        write_rows(out, &finished)
    }

    /// Reads what [`Matching::write_snapshot`] wrote into tables of these sizes; a table that held
    /// more keeps what it held and takes no more.
    pub fn read_snapshot(limits: &Limits, input: &mut dyn Read) -> io::Result<Matching> {
        let head: Vec<Head> = read_rows(input)?;
        let [head] = head[..] else {
            return Err(damaged("head"));
        };
        let count = |n: u64| u32::try_from(n).map_err(|_| damaged("a count"));
        let fresh = count(head.fresh)?;
        let slots = fresh.checked_sub(1).ok_or_else(|| damaged("a count"))?;
        let mut matching = Matching::new(&Limits {
            instruments: limits.instruments.max(count(head.books)?),
            orders: limits.orders.max(slots),
            price_levels: limits.price_levels.max(count(head.levels)?),
            client_order_ids: limits.client_order_ids.max(count(head.client_order_ids)?),
            special_orders: limits.special_orders.max(count(head.specials)?),
            order_sessions: limits.order_sessions.max(count(head.sessions)?),
            ..limits.clone()
        });
        matching.orders.pool.fresh = fresh;
        for [id, is_enabled] in read_rows::<[u64; 2]>(input)? {
            matching.restore_session(id, is_enabled != 0);
        }
        let specials: Vec<SavedSpecial> = read_rows(input)?;
        if !specials.is_sorted_by_key(|special| special.slot) {
            return Err(damaged("the special orders"));
        }
        let find = |slot: u32| {
            let at = specials.binary_search_by_key(&slot, |special| special.slot);
            at.ok().map(|at| &specials[at])
        };
        for book in 0..count(head.books)? {
            matching.add_book(book);
            let [saved] = read_rows::<SavedBook>(input)?[..] else {
                return Err(damaged("a book"));
            };
            let row = &mut matching.books[book as usize];
            row.last = saved.last;
            row.indicated = (saved.indicated_price, saved.indicated_volume);
            row.is_call = saved.is_call != 0;
            for shelf in Shelf::ALL {
                for saved in read_rows::<SavedOrder>(input)? {
                    let special = find(saved.order_id as u32);
                    matching.put_back(book, shelf, &saved, special)?;
                }
            }
            for slot in read_rows::<u32>(input)? {
                matching.follow_again(book, slot)?;
            }
            matching.books[book as usize].is_published = saved.is_published != 0;
        }
        for saved in read_rows::<ListRow>(input)? {
            if !matching.put_list_back(&saved) {
                return Err(damaged("a list of orders"));
            }
        }
        // The chain is pushed from its end, so that its head is the last in and the first out.
        let free: Vec<[u32; 2]> = read_rows(input)?;
        for [slot, generation] in free.into_iter().rev() {
            matching.untouched(slot)?;
            matching.orders.cold[slot].generation = generation;
            matching.orders.pool.used += 1;
            matching.orders.hot[slot].next = matching.orders.pool.give(slot);
        }
        for slot in read_rows::<u32>(input)? {
            matching.untouched(slot)?;
            matching.orders.cold[slot].generation = u32::MAX;
            matching.orders.cold[slot].set_state(SlotState::Retired);
        }
        for [participant, id] in read_rows::<[u64; 2]>(input)? {
            let participant = count(participant)?;
            if matching.ids.find(participant, id) != super::Known::Unknown
                || !matching.ids.has_room()
            {
                return Err(damaged("a finished client order id"));
            }
            matching.ids.insert_finished(participant, id);
        }
        matching.audit().map_err(|broken| damaged(&broken))?;
        Ok(matching)
    }

    /// Feeds `hasher` everything that decides what the room does next, in canonical order. The
    /// finished client ids are represented by their number and a sum over them that does not
    /// depend on order.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"matching");
        hasher.update(&self.books().to_le_bytes());
        for book in 0..self.books() {
            hasher.update(bytemuck::bytes_of(&self.saved_book(book)));
            for shelf in Shelf::ALL {
                hasher.update(&self.shelf(book, shelf).orders.to_le_bytes());
                for order in self.orders_on(book, shelf) {
                    hasher.update(bytemuck::bytes_of(&SavedOrder::new(&order)));
                }
            }
            for slot in self.followers(book) {
                hasher.update(&slot.to_le_bytes());
            }
        }
        hasher.update(bytemuck::cast_slice(&self.saved_sessions()));
        for special in self.saved_specials() {
            hasher.update(bytemuck::bytes_of(&special));
        }
        hasher.update(bytemuck::cast_slice(&self.saved_lists()));
        hasher.update(&self.orders.pool.fresh.to_le_bytes());
        for [slot, generation] in self.free_slots() {
            hasher.update(&orders::order_id(slot, generation).0.to_le_bytes());
        }
        let (_, finished, sum) = self.ids.totals();
        hasher.update(&finished.to_le_bytes());
        hasher.update(&sum.to_le_bytes());
    }

    /// Slots given back, the next one to be handed out first, with their generations.
    pub(super) fn free_slots(&self) -> impl Iterator<Item = [u32; 2]> + '_ {
        let first = self.orders.pool.free;
        std::iter::successors(Some(first), |slot| Some(self.orders.hot[*slot].next))
            .take_while(|slot| *slot != NIL)
            .map(|slot| [slot, self.orders.cold[slot].generation])
    }

    /// Slots whose generations are used up.
    pub(super) fn retired_slots(&self) -> impl Iterator<Item = u32> + '_ {
        (1..self.orders.pool.fresh)
            .filter(|slot| self.orders.cold[*slot].state() == SlotState::Retired)
    }

    fn saved_book(&self, book: u32) -> SavedBook {
        let row = &self.books[book as usize];
        SavedBook {
            last: row.last,
            indicated_price: row.indicated.0,
            indicated_volume: row.indicated.1,
            is_call: u32::from(row.is_call),
            is_published: u32::from(row.is_published),
        }
    }

    fn saved_sessions(&self) -> Vec<[u64; 2]> {
        let sessions = self.sessions.iter();
        sessions
            .map(|(id, is_enabled, _)| [id, u64::from(is_enabled)])
            .collect()
    }

    fn saved_lists(&self) -> Vec<ListRow> {
        let lists = self.lists_in_order();
        lists.into_iter().map(|(_, row)| row).collect()
    }

    /// The special halves of live orders, by slot.
    fn saved_specials(&self) -> impl Iterator<Item = SavedSpecial> + '_ {
        // Without any, nobody looks for them: a digest need not read every slot.
        let last = match self.orders.specials.pool.used {
            0 => 1,
            _ => self.orders.pool.fresh,
        };
        (1..last).filter_map(|slot| {
            let special = self.orders.special(slot)?;
            Some(SavedSpecial {
                limit: special.limit,
                cover_price: special.cover_price,
                offset: special.offset,
                display: special.display,
                hidden: special.hidden,
                expires_at: special.expires_at,
                session: self.session_of(slot).unwrap_or(0),
                in_session: u8::from(special.session != NIL),
                at: self.ladders.levels[self.orders.hot[slot].level].price().0,
                stop: if self.is_dormant(Slot(slot)) {
                    special.stop
                } else {
                    0
                },
                slot,
                is_uncovered: special.is_uncovered,
                peg: special.peg() as u8,
                trigger: special.trigger() as u8,
                deadline: special.deadline,
                reserved_end: 0,
            })
        })
    }

    fn followers(&self, book: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.next_follower(book, None);
        std::iter::successors(first, move |slot| self.next_follower(book, Some(*slot)))
            .map(|Slot(slot)| slot)
    }

    fn put_back(
        &mut self,
        book: u32,
        shelf: Shelf,
        saved: &SavedOrder,
        special: Option<&SavedSpecial>,
    ) -> io::Result<()> {
        let (slot, generation) =
            orders::slot_and_generation(crate::protocol::units::OrderId(saved.order_id));
        let order = saved.order(book).ok_or_else(|| damaged("an order"))?;
        let in_book = matches!(shelf, Shelf::Bids | Shelf::Asks);
        self.untouched(slot)?;
        let at = special.map_or(order.price, |special| Price(special.at));
        let rank = Rank::of(shelf.direction(), at);
        let is_call = self.books[book as usize].is_call;
        let fits = order.participant < self.orders.participants()
            && saved.leaves > 0
            && saved.leaves <= saved.quantity
            && (self.ladders.level_pool.next().is_some()
                || self.ladders.find(self.shelf(book, shelf), rank).is_some())
            && self.ids.has_room()
            && self.ids.find(order.participant, saved.client_order_id) == super::Known::Unknown
            && (!in_book || Shelf::of(order.side) == shelf)
            && (!in_book || is_call || !self.would_cross(book, order.side, at))
            && (special.is_some() || in_book)
            && special.is_none_or(|s| {
                s.hidden < saved.leaves
                    && Peg::from_code(s.peg).is_some()
                    && Trigger::from_code(s.trigger).is_some()
                    && (s.in_session == 0 || self.knows_session(s.session))
                    && self.orders.specials.has_room()
            });
        if !fits {
            return Err(damaged("an order"));
        }
        self.orders.cold[slot].generation = generation;
        self.orders.pool.used += 1;
        self.orders.write(slot, &order);
        self.orders.hot[slot].leaves = saved.leaves;
        self.ids
            .insert(order.participant, saved.client_order_id, slot);
        if let Some(special) = special {
            self.put_back_special(slot, special);
        }
        let state = if in_book {
            SlotState::Resting
        } else {
            SlotState::Waiting
        };
        // A row that shows less than it may would show more: it is put back as it was.
        let display = special.map_or(0, |special| special.display);
        if let Some(special) = special {
            self.orders.special_mut(slot).display = saved.leaves - special.hidden;
        }
        self.put(slot, shelf, at, state);
        if shelf == Shelf::Aside && at == FOR_ENTRY {
            self.ladders.kept += 1;
        }
        if special.is_some() {
            self.orders.special_mut(slot).display = display;
        }
        Ok(())
    }

    fn put_back_special(&mut self, slot: u32, saved: &SavedSpecial) {
        let new = NewSpecial {
            limit: Price(saved.limit),
            cover_price: Price(saved.cover_price),
            is_uncovered: saved.is_uncovered != 0,
            display: Quantity(saved.display),
            offset: Price(saved.offset),
            peg: Peg::from_code(saved.peg).expect("checked"),
            trigger: Trigger::from_code(saved.trigger).expect("checked"),
            expires_at: Timestamp(saved.expires_at),
            session: NIL,
        };
        let row = self.orders.specials.enter(&new);
        self.orders.cold[slot].special = row;
        self.orders.special_mut(slot).deadline = saved.deadline;
        self.orders.special_mut(slot).stop = saved.stop;
        if saved.in_session != 0 {
            let session = self.sessions_row(saved.session);
            self.join_session(slot, session);
        }
    }

    /// Chains an order that follows the market, behind those of its book that came before.
    fn follow_again(&mut self, book: u32, slot: u32) -> io::Result<()> {
        let is_sound = slot != NIL
            && slot < self.orders.pool.fresh
            && self.orders.cold[slot].book == book
            && self.orders.special(slot).is_some_and(|s| s.follows == 0)
            && self.orders.hot[slot].level != NIL;
        if !is_sound {
            return Err(damaged("an order that follows the market"));
        }
        self.follow(slot);
        let level = self.orders.hot[slot].level;
        self.ladders.levels[level].followers += 1;
        Ok(())
    }

    /// Whether a snapshot named that slot for the first time.
    fn untouched(&self, slot: u32) -> io::Result<()> {
        let cold = (slot != NIL && slot < self.orders.pool.fresh).then(|| &self.orders.cold[slot]);
        match cold.map(|cold| (cold.state(), cold.generation)) {
            Some((SlotState::Free, 0)) => Ok(()),
            _ => Err(damaged("a slot")),
        }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("snapshot of the books: {what} is not what this release writes"),
    )
}
