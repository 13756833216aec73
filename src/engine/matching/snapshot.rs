//! The books as bytes, and their digest. Both say what can be observed and nothing of how it lies
//! in memory: orders in price-time order with their slots, the chain of free slots with their
//! generations (they are the ids of orders to come), the finished client ids. Levels, pages, chains
//! and the id map are built again by the code that builds them always.

use super::orders::{NewOrder, SlotState};
use super::table::NIL;
use super::{Matching, OrderView, Slot, orders};
use crate::engine::Limits;
use crate::engine::snapshot::{read_rows, write_rows};
use crate::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
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
}

/// An order; its book and side are those of the table it stands in.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct SavedOrder {
    order_id: u64,
    client_order_id: u64,
    price: i64,
    quantity: u64,
    leaves: u64,
    expires_at: u64,
    fee_budget: u128,
    participant: u32,
    base_account: u32,
    quote_account: u32,
    order_type: u8,
    time_in_force: u8,
    self_trade: u8,
    reserved: u8,
}

impl SavedOrder {
    fn new(order: &OrderView) -> SavedOrder {
        SavedOrder {
            order_id: order.order_id.0,
            client_order_id: order.client_order_id.0,
            price: order.price.0,
            quantity: order.quantity.0,
            leaves: order.leaves.0,
            expires_at: order.expires_at.0,
            fee_budget: order.fee_budget,
            participant: order.participant,
            base_account: order.base_account,
            quote_account: order.quote_account,
            order_type: order.order_type as u8,
            time_in_force: order.time_in_force as u8,
            self_trade: order.self_trade as u8,
            reserved: 0,
        }
    }

    fn order(&self, book: u32, side: Side) -> Option<NewOrder> {
        Some(NewOrder {
            book,
            participant: self.participant,
            client_order_id: ClientOrderId(self.client_order_id),
            side,
            order_type: OrderType::from_code(self.order_type)?,
            time_in_force: TimeInForce::from_code(self.time_in_force)?,
            self_trade: SelfTrade::from_code(self.self_trade)?,
            price: Price(self.price),
            quantity: Quantity(self.quantity),
            expires_at: Timestamp(self.expires_at),
            base_account: self.base_account,
            quote_account: self.quote_account,
            fee_budget: self.fee_budget,
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
            levels: u64::from(self.ladders.in_use().0),
            client_order_ids: u64::from(live_ids) + u64::from(finished_ids),
        };
        write_rows(out, &[head])?;
        for book in 0..self.books() {
            for side in [Side::Buy, Side::Sell] {
                let orders: Vec<SavedOrder> = self
                    .orders(book, side)
                    .map(|order| SavedOrder::new(&order))
                    .collect();
                write_rows(out, &orders)?;
            }
        }
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
            ..limits.clone()
        });
        matching.orders.pool.fresh = fresh;
        for book in 0..count(head.books)? {
            matching.add_book(book);
            for side in [Side::Buy, Side::Sell] {
                for saved in read_rows::<SavedOrder>(input)? {
                    matching.put_back(book, side, &saved)?;
                }
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
            for side in [Side::Buy, Side::Sell] {
                hasher.update(&self.order_count(book, side).to_le_bytes());
                for order in self.orders(book, side) {
                    hasher.update(bytemuck::bytes_of(&SavedOrder::new(&order)));
                }
            }
        }
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

    fn put_back(&mut self, book: u32, side: Side, saved: &SavedOrder) -> io::Result<()> {
        let (slot, generation) =
            orders::slot_and_generation(crate::protocol::units::OrderId(saved.order_id));
        let order = saved.order(book, side).ok_or_else(|| damaged("an order"))?;
        self.untouched(slot)?;
        let fits = order.participant < self.orders.participants()
            && saved.leaves > 0
            && saved.leaves <= saved.quantity
            && self.has_room_at(book, side, order.price)
            && self.ids.has_room()
            && self.ids.find(order.participant, saved.client_order_id) == super::Known::Unknown
            && !self.would_cross(book, side, order.price);
        if !fits {
            return Err(damaged("an order"));
        }
        self.orders.cold[slot].generation = generation;
        self.orders.pool.used += 1;
        self.orders.write(slot, &order);
        self.orders.hot[slot].leaves = saved.leaves;
        self.ids
            .insert(order.participant, saved.client_order_id, slot);
        self.rest(Slot(slot));
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
