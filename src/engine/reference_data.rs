//! Assets and participants: what is held, and by whom.

use super::index::{Handle, Index, hash_64};
use crate::protocol::command::{AssetKind, ParticipantState};
use crate::protocol::units::{AssetId, ParticipantId};
use crate::protocol::wire::Text16;
use bytemuck::{Pod, Zeroable};

/// One asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct AssetRow {
    pub(super) code: Text16,
    pub(super) id: u32,
    scale: u8,
    kind: u8,
    reserved: [u8; 10],
}

impl AssetRow {
    pub(super) fn new(id: AssetId, code: Text16, scale: u8, kind: AssetKind) -> AssetRow {
        AssetRow {
            code,
            id: id.0,
            scale,
            kind: kind as u8,
            reserved: [0; 10],
        }
    }
}

/// One participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ParticipantRow {
    pub(super) code: Text16,
    pub(super) id: u32,
    /// Those of one group count as one in self-trade prevention; 0 for none.
    pub(super) group: u32,
    state: u8,
    reserved: [u8; 7],
}

impl ParticipantRow {
    pub(super) fn new(id: ParticipantId, code: Text16, group: u32) -> ParticipantRow {
        ParticipantRow {
            code,
            id: id.0,
            group,
            state: ParticipantState::Active as u8,
            reserved: [0; 7],
        }
    }

    /// Whether it was created with the same words; what it may do can have changed since.
    pub(super) fn is_same(&self, other: &ParticipantRow) -> bool {
        (self.id, self.code, self.group) == (other.id, other.code, other.group)
    }

    /// What the participant may do.
    pub(super) fn state(&self) -> ParticipantState {
        ParticipantState::from_code(self.state).expect("set from one")
    }

    /// Sets what the participant may do.
    pub(super) fn set_state(&mut self, state: ParticipantState) {
        self.state = state as u8;
    }

    /// Whether it may trade: an order always pays one thing and receives another.
    #[inline]
    pub(super) fn may_trade(&self) -> bool {
        self.state == ParticipantState::Active as u8
    }

    /// Whether its accounts may be debited by payments.
    #[inline]
    pub(super) fn may_pay(&self) -> bool {
        self.state == ParticipantState::Active as u8
            || self.state == ParticipantState::CreditBlocked as u8
    }

    /// Whether its accounts may be credited by payments.
    #[inline]
    pub(super) fn may_receive(&self) -> bool {
        self.state == ParticipantState::Active as u8
            || self.state == ParticipantState::DebitBlocked as u8
    }
}

/// Rows that an outside 32-bit id names.
pub(super) trait Named: Copy + Pod {
    /// The outside id.
    fn id(&self) -> u32;
}

impl Named for AssetRow {
    fn id(&self) -> u32 {
        self.id
    }
}

impl Named for ParticipantRow {
    fn id(&self) -> u32 {
        self.id
    }
}

/// A table of rows with outside ids; handles are dense and never reused.
pub(super) struct Registry<R> {
    rows: Vec<R>,
    by_id: Index,
    /// Handle and one of ids below its length, 0 for none: whoever numbers from 1 is found in one
    /// step.
    by_number: Vec<u32>,
    limit: u32,
}

impl<R: Named> Registry<R> {
    pub(super) fn new(limit: u32) -> Registry<R> {
        Registry {
            rows: Vec::with_capacity(limit as usize),
            by_id: Index::new(limit),
            by_number: vec![0; limit as usize + 1],
            limit,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        (self.rows.len() as u32) < self.limit
    }

    #[inline]
    pub(super) fn find(&self, id: u32) -> Option<Handle> {
        match self.by_number.get(id as usize) {
            Some(handle) => handle.checked_sub(1),
            None => self.find_hashed(id),
        }
    }

    fn find_hashed(&self, id: u32) -> Option<Handle> {
        self.by_id.find(hash_64(u64::from(id)), |handle| {
            self.rows[handle as usize].id() == id
        })
    }

    #[inline]
    pub(super) fn row(&self, handle: Handle) -> &R {
        &self.rows[handle as usize]
    }

    pub(super) fn row_mut(&mut self, handle: Handle) -> &mut R {
        &mut self.rows[handle as usize]
    }

    pub(super) fn rows(&self) -> &[R] {
        &self.rows
    }

    /// Adds a row. Its id is new and there is room.
    pub(super) fn add(&mut self, row: R) -> Handle {
        let handle = self.rows.len() as u32;
        self.by_id.insert(hash_64(u64::from(row.id())), handle);
        if let Some(number) = self.by_number.get_mut(row.id() as usize) {
            *number = handle + 1;
        }
        self.rows.push(row);
        handle
    }

    /// Rebuilds the table around rows read from a snapshot.
    pub(super) fn restore(rows: Vec<R>, limit: u32) -> Registry<R> {
        let mut table = Registry::new(limit.max(rows.len() as u32));
        for row in rows {
            table.add(row);
        }
        table
    }
}
