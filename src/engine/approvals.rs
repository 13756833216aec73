//! Four eyes: which administrative kinds need two users, and what one user has proposed.
//!
//! Users are numbers that mean nothing to the engine: it compares them. Proving who sends a command
//! is the door's work.

use super::deadlines::{DeadlineSlot, NO_DEADLINE};
use crate::protocol::command::CommandKind;
use crate::protocol::event::ProposalState;
use crate::protocol::frame::BODY_BYTES_MAX;
use crate::protocol::reason::Reason;
use crate::protocol::units::Timestamp;
use bytemuck::{Pod, Zeroable};

const BODY_WORDS: usize = BODY_BYTES_MAX / 16;

const _: () = {
    let mut at = 0;
    while at < CommandKind::ALL.len() {
        let kind = CommandKind::ALL[at];
        if kind.is_administrative() {
            assert!(kind.items().is_none(), "a proposal keeps one body");
            assert!((kind as usize) < GOVERNED_WORDS * 64);
        }
        at += 1;
    }
};

const GOVERNED_WORDS: usize = 4;

/// A proposal and what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct ProposalRow {
    body: [u128; BODY_WORDS],
    pub(super) proposed_by: u64,
    /// 0 for nobody.
    pub(super) decided_by: u64,
    expires_at: u64,
    pub(super) id: u32,
    pub(super) deadline: DeadlineSlot,
    length: u16,
    kind: u16,
    reason: u16,
    state: u8,
    reserved: [u8; 9],
}

impl ProposalRow {
    /// An open proposal of a command whose body has been validated.
    pub(super) fn new(
        kind: CommandKind,
        body: &[u8],
        proposed_by: u64,
        expires_at: Timestamp,
    ) -> ProposalRow {
        let mut row = ProposalRow {
            proposed_by,
            expires_at: expires_at.0,
            deadline: NO_DEADLINE,
            length: body.len() as u16,
            kind: kind as u16,
            ..ProposalRow::zeroed()
        };
        bytemuck::cast_slice_mut(&mut row.body)[..body.len()].copy_from_slice(body);
        row
    }

    /// The body of the proposed command.
    pub(super) fn body(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.body)[..self.length.into()]
    }

    pub(super) fn kind(&self) -> CommandKind {
        CommandKind::from_code(self.kind).expect("written from a CommandKind")
    }

    pub(super) fn state(&self) -> ProposalState {
        ProposalState::from_code(self.state).expect("written from a ProposalState")
    }

    pub(super) fn is_open(&self) -> bool {
        self.state() == ProposalState::Open
    }

    /// Why its command was refused.
    pub(super) fn reason(&self) -> Reason {
        Reason::from_code(self.reason).expect("written from a Reason")
    }

    pub(super) fn expires_at(&self) -> Timestamp {
        Timestamp(self.expires_at)
    }

    /// Whether nobody may decide any more.
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        self.expires_at != 0 && self.expires_at <= now.0
    }

    /// Ends it.
    pub(super) fn decide(&mut self, state: ProposalState, by: u64, reason: Reason) {
        self.state = state as u8;
        self.decided_by = by;
        self.reason = reason as u16;
    }
}

/// What four eyes are asked for: the part of a snapshot that is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct FourEyes {
    /// A bit for each kind, by its code.
    governed: [u64; GOVERNED_WORDS],
    /// Proposals made so far.
    made: u32,
    reserved: u32,
}

/// All proposals that are remembered, by age.
pub(super) struct Approvals {
    rows: Vec<ProposalRow>,
    four_eyes: FourEyes,
    limit: u32,
}

impl Approvals {
    pub(super) fn new(limit: u32) -> Approvals {
        Approvals {
            rows: Vec::with_capacity(limit as usize),
            four_eyes: FourEyes::zeroed(),
            limit,
        }
    }

    /// Whether `kind` needs two users.
    pub(super) fn needs(&self, kind: CommandKind) -> bool {
        let code = kind as usize;
        self.four_eyes.governed[code / 64] >> (code % 64) & 1 != 0
    }

    /// Has an administrative kind need two users, or no longer.
    pub(super) fn set_required(&mut self, kind: CommandKind, required: bool) {
        let code = kind as usize;
        let bit = 1 << (code % 64);
        let word = &mut self.four_eyes.governed[code / 64];
        *word = if required { *word | bit } else { *word & !bit };
    }

    pub(super) fn rows(&self) -> &[ProposalRow] {
        &self.rows
    }

    pub(super) fn four_eyes(&self) -> FourEyes {
        self.four_eyes
    }

    /// Whether another proposal can be made: decided ones give way.
    pub(super) fn has_room(&self) -> bool {
        self.four_eyes.made < u32::MAX
            && ((self.rows.len() as u32) < self.limit || self.rows.iter().any(|row| !row.is_open()))
    }

    /// Adds a proposal and numbers it; there is room. The oldest that is decided gives way.
    pub(super) fn add(&mut self, mut row: ProposalRow) -> u32 {
        if self.rows.len() as u32 >= self.limit
            && let Some(oldest) = self.rows.iter().position(|row| !row.is_open())
        {
            self.rows.remove(oldest);
        }
        self.four_eyes.made += 1;
        row.id = self.four_eyes.made;
        self.rows.push(row);
        row.id
    }

    /// The proposal of that number, where it is remembered.
    pub(super) fn find(&self, id: u64) -> Option<usize> {
        let id = u32::try_from(id).ok()?;
        self.rows.binary_search_by_key(&id, |row| row.id).ok()
    }

    pub(super) fn row(&self, at: usize) -> &ProposalRow {
        &self.rows[at]
    }

    pub(super) fn row_mut(&mut self, at: usize) -> &mut ProposalRow {
        &mut self.rows[at]
    }

    /// Forgets what was decided.
    pub(super) fn forget_decided(&mut self) {
        self.rows.retain(ProposalRow::is_open);
    }

    pub(super) fn restore(rows: Vec<ProposalRow>, four_eyes: FourEyes, limit: u32) -> Approvals {
        let mut approvals = Approvals::new(limit.max(rows.len() as u32));
        approvals.rows.extend(rows);
        approvals.four_eyes = four_eyes;
        approvals
    }

    /// The room's invariants: proposals by age, each of an administrative command that decodes, and
    /// only such kinds are governed.
    pub(super) fn audit(&self) -> Result<(), String> {
        let mut last = 0;
        for row in &self.rows {
            let decodes = crate::protocol::command::Command::decode(row.kind(), row.body()).is_ok();
            if row.id <= last || row.id > self.four_eyes.made || !decodes {
                return Err(format!("proposal {}: out of order, or no command", row.id));
            }
            if (row.decided_by == row.proposed_by) || (row.is_open() && row.decided_by != 0) {
                return Err(format!("proposal {}: decided by who may not", row.id));
            }
            last = row.id;
        }
        let stray = CommandKind::ALL
            .iter()
            .filter(|kind| !kind.is_query() && !kind.is_administrative())
            .find(|kind| self.needs(**kind));
        match stray {
            Some(kind) => Err(format!(
                "{kind}: needs two users, but is not administrative"
            )),
            None => Ok(()),
        }
    }
}
