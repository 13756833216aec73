//! Orders that hang together: what one loses, all lose, and one order may bring others to life.
//!
//! A list is a row of its own: the order that brings the others (`entry`, of a bracket), those that
//! stand for each other (`legs`), and how far they are known to agree. Its orders have a special
//! half that names the row. The room only says which lists something happened to, in the order in
//! which it did ([`Matching::next_changed_list`]); handlers bring the others in line, for that takes
//! cover, reports and execution.
//!
//! A leg that waits for its entry is set aside like one that waits for an auction, under a number of
//! its own; a level is kept for where it will wait then and one for where it may rest.

use super::ladder::Shelf;
use super::orders::SlotState;
use super::table::{NIL, Pool, Table};
use super::{Matching, OrderView, Slot};
use crate::memory::Take;
use crate::protocol::command::Side;
use crate::protocol::units::{Price, Quantity};
use bytemuck::{Pod, Zeroable};

/// Orders of one list at most, the entry of a bracket among them.
pub const LIST_MAX: usize = 4;

/// Where legs wait for their entry: set aside behind those that wait for auctions.
pub(super) const FOR_ENTRY: Price = Price(2);

/// One list. Row 0 is never used.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ListRow {
    /// Held beside what its covered leg holds, so that any of the legs would be covered.
    pub(super) extra: u128,
    /// Lots that each leg has; 0 while they wait for their entry.
    pub(super) known: u64,
    /// Lots that the entry had filled when the legs were last brought in line.
    pub(super) brought: u64,
    /// Lots that the entry filled, once it is gone.
    pub(super) filled: u64,
    pub(super) legs: [u32; LIST_MAX],
    pub(super) entry: u32,
    /// Where `extra` is held.
    quote_account: u32,
    /// While free: the next free row.
    free: u32,
    /// A leg has ended.
    has_ended: u8,
    /// It is among those that something happened to.
    is_changed: u8,
    reserved: [u8; 10],
}

/// A list as it stands.
#[derive(Clone, Copy, Debug)]
pub struct List {
    /// The order that brings the legs to life, while it lives.
    pub entry: Option<Slot>,
    /// The legs that live, in the order of the list.
    pub legs: [Option<Slot>; LIST_MAX],
    /// Lots that each leg has; 0 while they wait for their entry.
    pub known: Quantity,
    /// Lots of the entry that were handed on to the legs.
    pub brought: Quantity,
    /// Lots that the entry has filled.
    pub filled: Quantity,
    /// A leg has ended: the others must.
    pub has_ended: bool,
    /// Held beside what its covered buy holds, quote minor units.
    pub extra: u128,
    /// Where that is held.
    pub quote_account: u32,
}

impl List {
    /// The legs that live.
    pub fn live(&self) -> impl Iterator<Item = Slot> + '_ {
        self.legs.iter().flatten().copied()
    }
}

/// The rows, and which of them something happened to.
pub(super) struct Lists {
    pub(super) rows: Table<ListRow, 5>,
    pub(super) pool: Pool,
    changed: std::collections::VecDeque<u32>,
}

impl Lists {
    pub(super) fn new(capacity: u32) -> Lists {
        Lists {
            rows: Table::new(capacity as usize + 1),
            pool: Pool::new(capacity),
            changed: std::collections::VecDeque::with_capacity(capacity as usize),
        }
    }

    pub(super) fn take_memory(&mut self, how: Take) {
        self.rows.take_memory(how);
    }
}

impl Matching {
    /// Whether a list of that many orders can be entered: slots and ids, rows for what is special
    /// about them, levels for wherever they wait and rest.
    pub fn has_room_for_list(&self, orders: u32) -> bool {
        let free = |pool: &Pool| pool.capacity - pool.used;
        self.orders.pool_has_room(orders)
            && self.ids.has_room_for(orders)
            && free(&self.orders.specials.pool) >= orders
            && self.lists.pool.next().is_some()
            && self.ladders.has_room(4 * orders)
    }

    /// Links entered orders to each other. `brought_by` fills, the legs come to life; without it they
    /// live already, with as many lots each.
    ///
    /// # Panics
    /// Where one is not special or linked already, or there are too many: checked before commit.
    pub fn link(&mut self, brought_by: Option<Slot>, legs: &[Slot], lots: Quantity) {
        assert!(legs.len() + usize::from(brought_by.is_some()) <= LIST_MAX);
        let lists = &mut self.lists;
        let row = lists.pool.take(|free| lists.rows[free].free);
        let mut slots = [NIL; LIST_MAX];
        for (at, leg) in legs.iter().enumerate() {
            slots[at] = leg.0;
        }
        self.lists.rows[row] = ListRow {
            quote_account: self.orders.cold[legs[0].0].quote_account,
            legs: slots,
            entry: brought_by.map_or(NIL, |slot| slot.0),
            known: if brought_by.is_some() { 0 } else { lots.0 },
            ..ListRow::zeroed()
        };
        for slot in legs.iter().copied().chain(brought_by) {
            let special = self.orders.special_mut(slot.0);
            assert!(special.list == NIL, "an order is in one list");
            special.list = row;
        }
    }

    /// The list that an order is in.
    #[inline]
    pub fn list_of(&self, slot: Slot) -> Option<u32> {
        let special = self.orders.special(slot.0)?;
        (special.list != NIL).then_some(special.list)
    }

    /// The list that an order is a leg of.
    #[inline]
    pub fn list_of_leg(&self, slot: Slot) -> Option<u32> {
        let row = self.list_of(slot)?;
        (self.lists.rows[row].entry != slot.0).then_some(row)
    }

    /// A list as it stands.
    pub fn list(&self, row: u32) -> List {
        let list = &self.lists.rows[row];
        let some = |slot: u32| (slot != NIL).then_some(Slot(slot));
        let entry = some(list.entry);
        List {
            entry,
            legs: list.legs.map(some),
            known: Quantity(list.known),
            brought: Quantity(list.brought),
            filled: match entry {
                Some(entry) => self.order(entry).filled(),
                None => Quantity(list.filled),
            },
            has_ended: list.has_ended != 0,
            extra: list.extra,
            quote_account: list.quote_account,
        }
    }

    /// Remembers what the legs of a list have been brought to.
    pub fn set_known(&mut self, row: u32, known: Quantity, brought: Quantity) {
        let list = &mut self.lists.rows[row];
        list.known = known.0;
        list.brought = brought.0;
    }

    /// Remembers what is held for a list beside what its covered leg holds.
    pub fn set_extra(&mut self, row: u32, extra: u128) {
        self.lists.rows[row].extra = extra;
    }

    /// Lets go of the orders of a list, and of the list.
    pub fn dissolve(&mut self, row: u32) {
        let list = self.lists.rows[row];
        for slot in list.legs.into_iter().chain([list.entry]) {
            if slot != NIL {
                self.orders.special_mut(slot).list = NIL;
            }
        }
        self.lists.rows[row] = ListRow::zeroed();
        self.lists.rows[row].free = self.lists.pool.give(row);
        self.lists.changed.retain(|changed| *changed != row);
    }

    /// Whether something happened to an order of a list.
    #[inline]
    pub fn has_changed_lists(&self) -> bool {
        !self.lists.changed.is_empty()
    }

    /// The next list that something happened to, first come first.
    pub fn next_changed_list(&mut self) -> Option<u32> {
        let row = self.lists.changed.pop_front()?;
        self.lists.rows[row].is_changed = 0;
        Some(row)
    }

    /// Something happened to a special order: where it is in a list, that is to be looked at.
    #[cold]
    pub(super) fn note_list(&mut self, slot: u32) {
        let row = self.orders.special_mut(slot).list;
        if row == NIL {
            return;
        }
        let list = &mut self.lists.rows[row];
        if list.is_changed == 0 {
            list.is_changed = 1;
            self.lists.changed.push_back(row);
        }
    }

    /// Has the list of an order looked at before the command ends.
    pub fn touch_list(&mut self, slot: Slot) {
        self.note_list(slot.0);
    }

    /// An order of a list ends: the list goes on without it.
    pub(super) fn leave_list(&mut self, slot: u32, row: u32) {
        self.note_list(slot);
        let filled = self.orders.cold[slot].quantity - self.orders.hot[slot].leaves;
        let list = &mut self.lists.rows[row];
        if list.entry == slot {
            list.entry = NIL;
            list.filled = filled;
        }
        for leg in &mut list.legs {
            if *leg == slot {
                *leg = NIL;
                list.has_ended = 1;
            }
        }
        self.orders.special_mut(slot).list = NIL;
    }

    /// Has an entered leg wait for its entry, with the stop price it will wait for then.
    pub fn set_dormant(&mut self, Slot(slot): Slot, stop: Option<Price>) {
        let special = self.orders.special_mut(slot);
        special.stop = stop.map_or(0, |stop| stop.0);
        special.is_uncovered = 1;
        self.put(slot, Shelf::Aside, FOR_ENTRY, SlotState::Waiting);
        self.ladders.kept += 1;
    }

    /// The stop price that a leg will wait for, 0 for what the market says then.
    pub fn stop_to_come(&self, slot: Slot) -> Price {
        Price(self.orders.special(slot.0).map_or(0, |row| row.stop))
    }

    /// Whether an order waits for its entry.
    pub fn is_dormant(&self, Slot(slot): Slot) -> bool {
        let level = self.orders.hot[slot].level;
        level != NIL && self.is_for_entry(level)
    }

    pub(super) fn is_for_entry(&self, level: u32) -> bool {
        let row = &self.ladders.levels[level];
        row.shelf() == Shelf::Aside && row.price() == FOR_ENTRY
    }

    /// Gives a leg fewer lots, wherever it is.
    pub fn shrink(&mut self, slot: Slot, leaves: Quantity) {
        let hot = &self.orders.hot[slot.0];
        match self.orders.cold[slot.0].state() {
            SlotState::Resting => self.reduce(slot, leaves),
            SlotState::Waiting => self.resize(slot, leaves),
            _ => self.amend(slot, hot.price_aside(), leaves),
        }
    }

    /// Ends an order, wherever it is. Returns it as it was.
    pub fn end(&mut self, slot: Slot) -> OrderView {
        if self.orders.hot[slot.0].level != NIL {
            return self.cancel(slot);
        }
        let order = self.order(slot);
        self.finish(slot);
        order
    }

    /// The order that follows another in its list, the first behind the last.
    pub fn linked_to(&self, slot: Slot) -> Option<OrderView> {
        let list = self.list(self.list_of(slot)?);
        let all: Vec<Slot> = list.entry.into_iter().chain(list.live()).collect();
        let at = all.iter().position(|other| *other == slot)?;
        let next = all[(at + 1) % all.len()];
        (next != slot).then(|| self.order(next))
    }

    /// Quote minor units that lists hold beside their legs, with the account of each.
    pub fn for_each_extra(&self, mut visit: impl FnMut(u32, u128)) {
        for (_, list) in self.lists_in_order() {
            visit(list.quote_account, list.extra);
        }
    }

    /// The lists, by the smallest slot of their orders: for what must not depend on where they lie.
    pub(super) fn lists_in_order(&self) -> Vec<(u32, ListRow)> {
        if self.lists.pool.used == 0 {
            return Vec::new();
        }
        let mut seen: Vec<u32> = (1..self.orders.pool.fresh)
            .filter_map(|slot| self.list_of(Slot(slot)))
            .collect();
        let mut known = std::collections::BTreeSet::new();
        seen.retain(|row| known.insert(*row));
        let row = |row: u32| (row, self.lists.rows[row]);
        seen.into_iter().map(row).collect()
    }

    /// Puts a list back as a snapshot has it; whether that is sound.
    pub(super) fn put_list_back(&mut self, saved: &ListRow) -> bool {
        let slots: Vec<u32> = saved.legs.into_iter().chain([saved.entry]).collect();
        let is_sound = self.lists.pool.next().is_some()
            && slots.iter().filter(|slot| **slot != NIL).all(|slot| {
                *slot < self.orders.pool.fresh
                    && self.orders.special(*slot).is_some_and(|s| s.list == NIL)
            });
        if !is_sound {
            return false;
        }
        let lists = &mut self.lists;
        let row = lists.pool.take(|free| lists.rows[free].free);
        lists.rows[row] = *saved;
        for slot in slots.into_iter().filter(|slot| *slot != NIL) {
            self.orders.special_mut(slot).list = row;
        }
        true
    }

    /// Lists and their orders know each other; legs have what their list says, and of each side one
    /// is covered.
    pub(super) fn audit_lists(&self) -> Result<(), String> {
        if !self.lists.changed.is_empty() {
            return Err("lists: one was not brought in line".into());
        }
        let lists = self.lists_in_order();
        if lists.len() as u32 != self.lists.pool.used {
            return Err(format!("lists: {} do not add up", lists.len()));
        }
        let mut members = 0;
        for (row, saved) in lists {
            let list = self.list(row);
            let broken = |what: &str| Err(format!("list {row}: {what}"));
            let mut covered = [0, 0];
            let mut legs = [0, 0];
            for slot in list.live() {
                members += 1;
                let order = self.order(slot);
                let side = order.side as usize;
                legs[side] += 1;
                covered[side] += u32::from(order.is_covered);
                let is_dormant = self.is_dormant(slot);
                if self.list_of(slot) != Some(row) {
                    return broken("a leg is of another");
                }
                if is_dormant != (list.known.0 == 0) || !is_dormant && order.leaves != list.known {
                    return broken("a leg has not what the others have");
                }
            }
            members += u32::from(list.entry.is_some());
            let wanted = |side: usize| u32::from(list.known.0 != 0 && legs[side] > 0);
            if [0, 1].iter().any(|side| covered[*side] != wanted(*side)) {
                return broken("not one leg of a side is covered");
            }
            if saved.has_ended != 0 || list.filled != list.brought {
                return broken("its legs are behind it");
            }
            if list.extra != 0 && legs[Side::Buy as usize] == 0 {
                return broken("holds for no buy");
            }
        }
        let linked = (1..self.orders.pool.fresh).filter(|slot| self.list_of(Slot(*slot)).is_some());
        if linked.count() as u32 != members {
            return Err("lists: an order is in one that does not know it".into());
        }
        Ok(())
    }
}
