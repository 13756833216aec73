//! Groups: legs that settle together or not at all. A leg stands in its debtor's queue like a
//! payment; the group knows its legs, how long it may wait, and what it waits for.

use super::payment::{NONE, some};
use super::roll::Moved;
use crate::engine::index::{Handle, Index, hash_128};
use crate::protocol::command::{GroupProcedure, Priority};
use crate::protocol::event::{PaymentState, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::{PaymentId, Timestamp};
use bytemuck::{Pod, Zeroable};

/// Thousandths of the whole.
pub(in crate::engine) const PERMILLE: u16 = 1_000;

/// One group.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(in crate::engine) struct GroupRow {
    id: u128,
    /// Lots in all: the largest number of which every leg's amount is a multiple. Where debits come
    /// first, minor units of the debits.
    lots: u128,
    /// Lots that have not moved; minor units of debits that are not in.
    lots_left: u128,
    latest_at: u64,
    first_leg: u32,
    legs: u32,
    deadline: u32,
    /// The account it waits for.
    waiting_for: u32,
    reason: u16,
    minimum_permille: u16,
    class: u8,
    state: u8,
    by: u8,
    procedure: u8,
}

const _: () = assert!(size_of::<GroupRow>() == 80);

/// A group about to be recorded.
pub(in crate::engine) struct NewGroup {
    pub(in crate::engine) id: PaymentId,
    pub(in crate::engine) class: Priority,
    pub(in crate::engine) latest_at: Timestamp,
    pub(in crate::engine) first_leg: Handle,
    pub(in crate::engine) legs: u32,
    pub(in crate::engine) procedure: GroupProcedure,
    pub(in crate::engine) minimum_permille: u16,
    pub(in crate::engine) lots: u128,
}

impl GroupRow {
    pub(in crate::engine) fn id(&self) -> PaymentId {
        PaymentId(self.id)
    }

    pub(in crate::engine) fn latest_at(&self) -> Timestamp {
        Timestamp(self.latest_at)
    }

    /// Whether its latest time has come.
    pub(in crate::engine) fn is_late(&self, now: Timestamp) -> bool {
        self.latest_at != 0 && now.0 >= self.latest_at
    }

    /// Number of its legs.
    pub(in crate::engine) fn legs(&self) -> u32 {
        self.legs
    }

    pub(in crate::engine) fn first_leg(&self) -> Handle {
        self.first_leg
    }

    pub(in crate::engine) fn class(&self) -> Priority {
        Priority::from_code(self.class).expect("written from a Priority")
    }

    pub(in crate::engine) fn state(&self) -> PaymentState {
        PaymentState::from_code(self.state).expect("written from a PaymentState")
    }

    pub(in crate::engine) fn by(&self) -> SettledBy {
        SettledBy::from_code(self.by).expect("written from a SettledBy")
    }

    pub(in crate::engine) fn procedure(&self) -> GroupProcedure {
        GroupProcedure::from_code(self.procedure).expect("written from a GroupProcedure")
    }

    /// Whether parts of it may settle.
    pub(in crate::engine) fn settles_in_parts(&self) -> bool {
        match self.procedure() {
            GroupProcedure::AllOrNone | GroupProcedure::DebitsFirst => false,
            GroupProcedure::Partial | GroupProcedure::PartialOnce => true,
        }
    }

    /// Thousandths of the whole that a part must reach.
    pub(in crate::engine) fn minimum_permille(&self) -> u16 {
        self.minimum_permille
    }

    /// Lots that a part must reach: that share of the whole, rounded up, and a thousandth at least,
    /// so that no group moves in more than a thousand parts.
    pub(in crate::engine) fn least_part(&self) -> u128 {
        let share = u128::from(self.minimum_permille.max(1));
        (self.lots * share).div_ceil(u128::from(PERMILLE))
    }

    pub(in crate::engine) fn lots(&self) -> u128 {
        self.lots
    }

    /// Whether its debits settle one by one and its credits when all are in.
    pub(in crate::engine) fn collects(&self) -> bool {
        self.procedure() == GroupProcedure::DebitsFirst
    }

    /// Minor units of its debits that are in.
    pub(in crate::engine) fn collected(&self) -> u128 {
        self.lots - self.lots_left
    }

    /// Lots that have not moved.
    pub(in crate::engine) fn lots_left(&self) -> u128 {
        self.lots_left
    }

    pub(in crate::engine) fn reason(&self) -> Reason {
        Reason::from_code(self.reason).expect("written from a Reason")
    }

    /// The account it waits for.
    pub(in crate::engine) fn waiting_for(&self) -> Option<Handle> {
        some(self.waiting_for)
    }

    pub(in crate::engine) fn deadline(&self) -> Option<u32> {
        some(self.deadline)
    }
}

/// All groups of the window.
pub(in crate::engine) struct Groups {
    rows: Vec<GroupRow>,
    by_id: Index,
    limit: u32,
}

impl Groups {
    pub(in crate::engine) fn new(limit: u32) -> Groups {
        Groups {
            // Untouched, room for rows takes no memory.
            rows: Vec::with_capacity(limit as usize),
            by_id: Index::new(limit),
            limit,
        }
    }

    pub(in crate::engine) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.limit
    }

    pub(in crate::engine) fn rows(&self) -> &[GroupRow] {
        &self.rows
    }

    pub(in crate::engine) fn row(&self, group: Handle) -> &GroupRow {
        &self.rows[group as usize]
    }

    pub(in crate::engine) fn find(&self, id: PaymentId) -> Option<Handle> {
        self.by_id
            .find(hash_128(id.0), |at| self.rows[at as usize].id == id.0)
    }

    /// The handle of the next group.
    pub(in crate::engine) fn next(&self) -> Handle {
        self.rows.len() as u32
    }

    /// Adds a group whose legs wait. Its id is new and there is room.
    pub(in crate::engine) fn add(&mut self, new: &NewGroup) -> Handle {
        let handle = self.next();
        self.by_id.insert(hash_128(new.id.0), handle);
        self.rows.push(GroupRow {
            id: new.id.0,
            lots: new.lots,
            lots_left: new.lots,
            latest_at: new.latest_at.0,
            first_leg: new.first_leg,
            legs: new.legs,
            deadline: NONE,
            waiting_for: NONE,
            reason: Reason::Created as u16,
            minimum_permille: new.minimum_permille,
            class: new.class as u8,
            state: PaymentState::Queued as u8,
            by: SettledBy::None as u8,
            procedure: new.procedure as u8,
        });
        handle
    }

    /// A debit of a group is in; returns what is still to come.
    pub(in crate::engine) fn collect(&mut self, group: Handle, amount: u128) -> u128 {
        let row = &mut self.rows[group as usize];
        let left = row.lots_left.checked_sub(amount);
        row.lots_left = left.expect("a debit is no more than what is to come");
        row.lots_left
    }

    /// A part of a group has settled, and a part is left.
    pub(in crate::engine) fn move_part(&mut self, group: Handle, lots: u128) {
        let row = &mut self.rows[group as usize];
        assert!(lots < row.lots_left, "a part leaves a part");
        row.lots_left -= lots;
    }

    pub(in crate::engine) fn set_deadline(&mut self, group: Handle, slot: u32) {
        self.rows[group as usize].deadline = slot;
    }

    /// Says what a group waits for.
    pub(in crate::engine) fn set_obstacle(
        &mut self,
        group: Handle,
        reason: Reason,
        waiting_for: Option<Handle>,
    ) {
        let row = &mut self.rows[group as usize];
        row.reason = reason as u16;
        row.waiting_for = waiting_for.unwrap_or(NONE);
    }

    /// Ends a group.
    pub(in crate::engine) fn finish(
        &mut self,
        group: Handle,
        state: PaymentState,
        by: SettledBy,
        reason: Reason,
    ) {
        let row = &mut self.rows[group as usize];
        row.state = state as u8;
        row.by = by as u8;
        row.reason = reason as u16;
        row.waiting_for = NONE;
        row.deadline = NONE;
    }

    /// The window of payments has rolled: groups go with their legs. Returns where groups went.
    pub(in crate::engine) fn roll(&mut self, moved: &Moved) -> Moved {
        let mut next = 0;
        let places = self.rows.iter().map(|row| {
            let is_kept = moved.to(row.first_leg) != NONE;
            let place = next;
            next += u32::from(is_kept);
            if is_kept { place } else { NONE }
        });
        let went = Moved::new(places.collect());
        self.rows.retain_mut(|row| {
            row.first_leg = moved.to(row.first_leg);
            row.first_leg != NONE
        });
        self.by_id.clear();
        for (at, row) in self.rows.iter().enumerate() {
            self.by_id.insert(hash_128(row.id), at as u32);
        }
        went
    }

    /// Rebuilds the groups around rows read from a snapshot.
    pub(in crate::engine) fn restore(rows: Vec<GroupRow>, limit: u32) -> Groups {
        let mut groups = Groups::new(limit.max(rows.len() as u32));
        for row in rows {
            let at = groups.next();
            groups.by_id.insert(hash_128(row.id), at);
            groups.rows.push(row);
        }
        groups
    }
}
