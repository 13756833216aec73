//! Orders by slot. What matching reads is 32 bytes (two to a cache line), the rest of an order 64
//! bytes beside it. A slot and its generation are the engine's order id; a slot given back is the
//! next one handed out, so the working set stays small.
//!
//! Each participant's live orders are chained through the hot halves, newest first, for the mass
//! cancel.

use super::OrderView;
use super::specials::{NO_DEADLINE, NewSpecial, Special, Specials};
use super::table::{NIL, Pool, Table};
use super::views::Place;
use crate::memory::Take;
use crate::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use crate::protocol::units::{ClientOrderId, OrderId, Price, Quantity, Timestamp};
use bytemuck::{Pod, Zeroable};

/// What matching reads.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Hot {
    pub(super) leaves: u64,
    /// The level it rests at, [`NIL`] while it is not in the book.
    pub(super) level: u32,
    pub(super) participant: u32,
    /// Before and behind it at its level. Not in the book: its price, see [`Hot::price_aside`].
    pub(super) prev: u32,
    pub(super) next: u32,
    /// Newer and older order of the same participant.
    pub(super) newer: u32,
    pub(super) older: u32,
}

impl Hot {
    /// Price of an order that is not in the book: the unused links hold it, for the level would.
    pub(super) fn price_aside(&self) -> Price {
        Price((u64::from(self.prev) << 32 | u64::from(self.next)) as i64)
    }

    pub(super) fn set_price_aside(&mut self, price: Price) {
        self.prev = (price.0 as u64 >> 32) as u32;
        self.next = price.0 as u32;
    }
}

/// The rest of an order.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Cold {
    pub(super) client_order_id: u64,
    /// Total quantity; what is filled is this less what leaves.
    pub(super) quantity: u64,
    pub(super) fee_budget: u128,
    pub(super) book: u32,
    pub(super) base_account: u32,
    pub(super) quote_account: u32,
    pub(super) generation: u32,
    side: u8,
    order_type: u8,
    time_in_force: u8,
    self_trade: u8,
    state: u8,
    post_only: u8,
    reserved: [u8; 2],
    /// Its row among the specials, [`NIL`] for a plain order.
    pub(super) special: u32,
    /// In the book: more than that of those before it at its level, less than that of those behind.
    pub(super) turn: u32,
}

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotState {
    /// In the free chain, or never used.
    Free,
    /// Given to an order that has not been in the book.
    Entered,
    /// In the book.
    Resting,
    /// Out of the book for a moment, on its way to another price.
    Lifted,
    /// Its generations are used up: never handed out again, so no order id comes twice.
    Retired,
    /// Beside the book: for a stop price or an auction.
    Waiting,
    /// Its stop price has traded; it wakes before the command ends.
    Triggered,
}

impl SlotState {
    /// Whether an order lives there.
    pub(super) fn is_live(self) -> bool {
        match self {
            SlotState::Entered
            | SlotState::Resting
            | SlotState::Lifted
            | SlotState::Waiting
            | SlotState::Triggered => true,
            SlotState::Free | SlotState::Retired => false,
        }
    }
}

impl Cold {
    pub(super) fn side(&self) -> Side {
        Side::from_code(self.side).expect("written from a Side")
    }

    pub(super) fn order_type(&self) -> OrderType {
        OrderType::from_code(self.order_type).expect("written from an OrderType")
    }

    pub(super) fn time_in_force(&self) -> TimeInForce {
        TimeInForce::from_code(self.time_in_force).expect("written from a TimeInForce")
    }

    pub(super) fn self_trade(&self) -> SelfTrade {
        SelfTrade::from_code(self.self_trade).expect("written from a SelfTrade")
    }

    pub(super) fn state(&self) -> SlotState {
        match self.state {
            0 => SlotState::Free,
            1 => SlotState::Entered,
            2 => SlotState::Resting,
            3 => SlotState::Lifted,
            4 => SlotState::Retired,
            5 => SlotState::Waiting,
            _ => SlotState::Triggered,
        }
    }

    pub(super) fn set_state(&mut self, state: SlotState) {
        self.state = state as u8;
    }
}

/// A new order, as its handler words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// The book.
    pub book: u32,
    /// The participant's handle, below `Limits::participants`.
    pub participant: u32,
    /// Its id at the participant; unknown so far.
    pub client_order_id: ClientOrderId,
    /// Buy or sell.
    pub side: Side,
    /// Its type; kept for queries.
    pub order_type: OrderType,
    /// How long it lives; kept for [`Matching::cancel_where`](super::Matching::cancel_where).
    pub time_in_force: TimeInForce,
    /// What happens when it meets its own participant; `Default` reads as `Allow`.
    pub self_trade: SelfTrade,
    /// Must never take; kept for whoever changes it.
    pub post_only: bool,
    /// The worst price it trades at. A market order's is its protection.
    pub price: Price,
    /// Lots, not 0.
    pub quantity: Quantity,
    /// Handle of the base account; kept.
    pub base_account: u32,
    /// Handle of the quote account; kept.
    pub quote_account: u32,
    /// Held for fees; kept, and lent to whoever handles its fills.
    pub fee_budget: u128,
    /// What few orders have.
    pub special: Option<NewSpecial>,
}

/// The slab.
pub(super) struct Orders {
    pub(super) hot: Table<Hot, 2>,
    pub(super) cold: Table<Cold, 4>,
    /// Newest live order of each participant.
    newest: Vec<u32>,
    /// Whom self-trade prevention takes each participant for.
    groups: Vec<u32>,
    pub(super) pool: Pool,
    pub(super) specials: Specials,
}

impl Orders {
    pub(super) fn new(capacity: u32, specials: u32, participants: u32) -> Orders {
        Orders {
            hot: Table::new(capacity as usize + 1),
            cold: Table::new(capacity as usize + 1),
            newest: vec![NIL; participants as usize],
            groups: Vec::with_capacity(participants as usize),
            pool: Pool::new(capacity),
            specials: Specials::new(specials),
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        self.hot.take_memory(how);
        self.cold.take_memory(how);
        crate::memory::take(&mut self.newest, how);
        self.specials.take_memory(how);
    }

    pub(super) fn has_room(&self) -> bool {
        self.pool.next().is_some()
    }

    /// Whether that many more orders find a slot, however many slots are retired.
    pub(super) fn pool_has_room(&self, orders: u32) -> bool {
        let unused = self.pool.capacity - (self.pool.fresh - 1);
        let mut free = 0;
        let mut slot = self.pool.free;
        while slot != NIL && free < orders {
            slot = self.hot[slot].next;
            free += 1;
        }
        unused + free >= orders
    }

    /// Whether the rows outgrow the nearer caches.
    #[inline]
    pub(super) fn is_large(&self) -> bool {
        self.pool.fresh > 1 << 13
    }

    /// Gives `order` a slot.
    #[inline(always)]
    pub(super) fn enter(&mut self, order: &NewOrder) -> u32 {
        let slot = self.pool.take(|free| self.hot[free].next);
        self.write(slot, order);
        if let Some(special) = &order.special {
            self.cold[slot].special = self.specials.enter(special);
        }
        slot
    }

    /// Writes `order` into `slot`, whose generation stands.
    #[inline(always)]
    pub(super) fn write(&mut self, slot: u32, order: &NewOrder) {
        let hot = &mut self.hot[slot];
        *hot = Hot {
            leaves: order.quantity.0,
            level: NIL,
            participant: order.participant,
            prev: NIL,
            next: NIL,
            newer: NIL,
            older: NIL,
        };
        hot.set_price_aside(order.price);
        let cold = &mut self.cold[slot];
        debug_assert_eq!(cold.state(), SlotState::Free);
        *cold = Cold {
            client_order_id: order.client_order_id.0,
            quantity: order.quantity.0,
            fee_budget: order.fee_budget,
            book: order.book,
            base_account: order.base_account,
            quote_account: order.quote_account,
            generation: cold.generation,
            side: order.side as u8,
            order_type: order.order_type as u8,
            time_in_force: order.time_in_force as u8,
            self_trade: order.self_trade as u8,
            state: SlotState::Entered as u8,
            post_only: u8::from(order.post_only),
            reserved: [0; 2],
            special: NIL,
            turn: 0,
        };
    }

    /// Takes the slot back; the next order in it has another id.
    #[inline]
    pub(super) fn free(&mut self, slot: u32) {
        let cold = &mut self.cold[slot];
        if cold.generation == u32::MAX {
            cold.set_state(SlotState::Retired);
            self.pool.used -= 1;
            return;
        }
        cold.generation += 1;
        cold.set_state(SlotState::Free);
        self.hot[slot].next = self.pool.give(slot);
    }

    /// Chains a live order to its participant's others.
    #[inline]
    pub(super) fn chain(&mut self, slot: u32) {
        let participant = self.hot[slot].participant as usize;
        let older = std::mem::replace(&mut self.newest[participant], slot);
        self.hot[slot].newer = NIL;
        self.hot[slot].older = older;
        if older != NIL {
            self.hot[older].newer = slot;
        }
    }

    /// Takes an order out of its participant's chain.
    #[inline]
    pub(super) fn unchain(&mut self, slot: u32) {
        let Hot {
            participant,
            newer,
            older,
            ..
        } = self.hot[slot];
        if newer == NIL {
            self.newest[participant as usize] = older;
        } else {
            self.hot[newer].older = older;
        }
        if older != NIL {
            self.hot[older].newer = newer;
        }
    }

    /// A participant's newest live order.
    #[inline]
    pub(super) fn newest(&self, participant: u32) -> u32 {
        self.newest[participant as usize]
    }

    pub(super) fn participants(&self) -> u32 {
        self.newest.len() as u32
    }

    pub(super) fn id(&self, slot: u32) -> OrderId {
        order_id(slot, self.cold[slot].generation)
    }

    /// The special half of an order, where it has one.
    #[inline(always)]
    pub(super) fn special(&self, slot: u32) -> Option<&Special> {
        let at = self.cold[slot].special;
        (at != NIL).then(|| &self.specials.rows[at])
    }

    /// The special half of an order that has one.
    #[inline]
    pub(super) fn special_mut(&mut self, slot: u32) -> &mut Special {
        let at = self.cold[slot].special;
        assert!(at != NIL, "the order is special");
        &mut self.specials.rows[at]
    }

    /// Lots behind those shown.
    #[inline(always)]
    pub(super) fn hidden(&self, slot: u32) -> u64 {
        self.special(slot).map_or(0, |special| special.hidden)
    }

    /// Has self-trade prevention take `participant` for one with all of `group`.
    pub(super) fn join_group(&mut self, participant: u32, group: u32) {
        // The table begins with the first group: without any, nobody looks.
        for own in self.groups.len() as u32..=participant {
            self.groups.push(own);
        }
        self.groups[participant as usize] = GROUP | group;
    }

    /// Whether self-trade prevention takes both for one.
    #[inline(always)]
    pub(super) fn is_same(&self, one: u32, other: u32) -> bool {
        one == other || !self.groups.is_empty() && self.group(one) == self.group(other)
    }

    fn group(&self, participant: u32) -> u32 {
        let group = self.groups.get(participant as usize);
        group.copied().unwrap_or(participant)
    }

    /// Whether the participant has no order that it could meet, nor has its group.
    #[inline]
    pub(super) fn has_none(&self, participant: u32) -> bool {
        self.newest(participant) == NIL && self.group(participant) & GROUP == 0
    }

    /// Everything about the order in `slot`, whose price the caller knows.
    #[inline(always)]
    pub(super) fn view(&self, slot: u32, price: Price) -> OrderView {
        let hot = &self.hot[slot];
        let cold = &self.cold[slot];
        let mut view = OrderView {
            slot: super::Slot(slot),
            order_id: order_id(slot, cold.generation),
            book: cold.book,
            participant: hot.participant,
            client_order_id: ClientOrderId(cold.client_order_id),
            side: cold.side(),
            order_type: cold.order_type(),
            time_in_force: cold.time_in_force(),
            self_trade: cold.self_trade(),
            post_only: cold.post_only != 0,
            price,
            cover_price: price,
            is_covered: true,
            is_special: false,
            quantity: Quantity(cold.quantity),
            leaves: Quantity(hot.leaves),
            displayed: Quantity(hot.leaves),
            place: match cold.state() {
                SlotState::Resting => Place::Book,
                SlotState::Waiting => Place::Beside,
                _ => Place::Outside,
            },
            expires_at: Timestamp(0),
            deadline: NO_DEADLINE,
            base_account: cold.base_account,
            quote_account: cold.quote_account,
            fee_budget: cold.fee_budget,
        };
        if let Some(special) = self.special(slot) {
            view.is_special = true;
            view.cover_price = Price(special.cover_price);
            view.is_covered = special.is_uncovered == 0;
            view.leaves = Quantity(hot.leaves + special.hidden);
            view.expires_at = Timestamp(special.expires_at);
            view.deadline = special.deadline;
        }
        view
    }
}

/// Tells groups from participants that stand for themselves.
const GROUP: u32 = 1 << 31;

/// The engine's id: generation and slot. Never 0, for slot 0 is never handed out.
pub(super) fn order_id(slot: u32, generation: u32) -> OrderId {
    OrderId(u64::from(generation) << 32 | u64::from(slot))
}

/// Slot and generation of an id.
pub(super) fn slot_and_generation(id: OrderId) -> (u32, u32) {
    (id.0 as u32, (id.0 >> 32) as u32)
}
