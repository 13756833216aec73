//! Authorisations: money held on one account for captures by another, many times if need be, and
//! what of it was given back. The rows of two windows: the authorisations, and the steps taken on
//! them, so that a repeated step is not taken twice.
//!
//! ```text
//!   authorise -> Open -> [increment] -> capture (n) ... capture final -> Closed
//!                  |                                                       |
//!                  +-- void all --> Voided (nothing captured) or Closed    +-- refund (n), up to captured
//!                  +-- expiry ----> Expired
//! ```

use super::deadlines::{DeadlineSlot, NO_DEADLINE};
use super::index::Handle;
use super::window::WindowRow;
use crate::protocol::command::{AuthorisationStep, Authorise, CommandKind};
use crate::protocol::event::AuthorisationState;
use crate::protocol::reason::Reason;
use crate::protocol::units::{Amount, Timestamp, TransferId};
use bytemuck::{Pod, Zeroable};

/// One authorisation.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct AuthorisationRow {
    id: u128,
    /// As asked for at first, minor units.
    asked: u128,
    held: u128,
    captured: u128,
    refunded: u128,
    expires_at: u64,
    pub(super) debit: Handle,
    pub(super) credit: Handle,
    pub(super) deadline: DeadlineSlot,
    /// The last business day on which it can be refunded.
    refundable_to: u32,
    state: u8,
    is_carried: u8,
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<AuthorisationRow>() == 112);

impl WindowRow for AuthorisationRow {
    fn id(&self) -> u128 {
        self.id
    }

    fn is_kept(&self, day: u32) -> bool {
        let waits = self.held > 0 || self.expires_at != 0;
        (self.state() == AuthorisationState::Open && waits)
            || (self.captured > self.refunded && day <= self.refundable_to)
    }

    fn is_carried(&self) -> bool {
        self.is_carried != 0
    }

    fn set_carried(&mut self) {
        self.is_carried = 1;
    }
}

impl AuthorisationRow {
    pub(super) fn new(asked: &Authorise, debit: Handle, credit: Handle) -> AuthorisationRow {
        AuthorisationRow {
            id: asked.id.0,
            asked: asked.amount.0,
            held: asked.amount.0,
            captured: 0,
            refunded: 0,
            expires_at: asked.expires_at.0,
            debit,
            credit,
            deadline: NO_DEADLINE,
            refundable_to: 0,
            state: AuthorisationState::Open as u8,
            is_carried: 0,
            reserved: [0; 6],
        }
    }

    pub(super) fn id(&self) -> TransferId {
        TransferId(self.id)
    }

    pub(super) fn state(&self) -> AuthorisationState {
        AuthorisationState::from_code(self.state).expect("written from an AuthorisationState")
    }

    /// Still held, minor units.
    pub(super) fn held(&self) -> Amount {
        Amount(self.held)
    }

    /// Captured so far, minor units.
    pub(super) fn captured(&self) -> Amount {
        Amount(self.captured)
    }

    /// Refunded so far, minor units.
    pub(super) fn refunded(&self) -> Amount {
        Amount(self.refunded)
    }

    /// What can still be refunded, minor units.
    pub(super) fn refundable(&self) -> Amount {
        Amount(self.captured - self.refunded)
    }

    /// When it lapses; `None` for never.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at != 0).then_some(Timestamp(self.expires_at))
    }

    /// Whether money can be captured at `now`, and if not, why.
    pub(super) fn check_open(&self, now: Timestamp) -> Result<(), Reason> {
        match self.state() {
            // Due, but its turn to lapse may not have come yet.
            AuthorisationState::Open if self.expires_at().is_some_and(|at| at <= now) => {
                Err(Reason::Expired)
            }
            AuthorisationState::Open => Ok(()),
            AuthorisationState::Expired => Err(Reason::Expired),
            AuthorisationState::Closed | AuthorisationState::Voided | AuthorisationState::None => {
                Err(Reason::AuthorisationClosed)
            }
        }
    }

    /// Whether it was asked for with these words.
    pub(super) fn is_same(&self, asked: &Authorise, sides: (u64, u64)) -> bool {
        self.asked == asked.amount.0
            && self.expires_at == asked.expires_at.0
            && sides == (asked.debit_account.0, asked.credit_account.0)
    }

    pub(super) fn increment(&mut self, amount: Amount) {
        self.held += amount.0;
    }

    /// Takes `amount` out of what is held; it can be refunded until the end of day `refundable_to`.
    pub(super) fn capture(&mut self, amount: Amount, refundable_to: u32) {
        self.held -= amount.0;
        self.captured += amount.0;
        self.refundable_to = refundable_to;
    }

    /// Gives `amount` of what is held up.
    pub(super) fn void(&mut self, amount: Amount) {
        self.held -= amount.0;
    }

    pub(super) fn refund(&mut self, amount: Amount, refundable_to: u32) {
        self.refunded += amount.0;
        self.refundable_to = refundable_to;
    }

    /// Ends it. Nothing is held any more.
    pub(super) fn close(&mut self, state: AuthorisationState) {
        assert_eq!(self.held, 0, "nothing is held when it closes");
        self.state = state as u8;
    }
}

/// One step of an authorisation, as it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct StepRow {
    id: u128,
    authorisation: u128,
    amount: u128,
    kind: u16,
    is_final: u8,
    reserved: [u8; 13],
}

const _: () = assert!(size_of::<StepRow>() == 64);

impl WindowRow for StepRow {
    fn id(&self) -> u128 {
        self.id
    }

    fn is_kept(&self, _: u32) -> bool {
        false
    }

    fn is_carried(&self) -> bool {
        false
    }

    fn set_carried(&mut self) {
        unreachable!("a step is never kept beyond its window");
    }
}

impl StepRow {
    pub(super) fn new(kind: CommandKind, asked: &AuthorisationStep) -> StepRow {
        StepRow {
            id: asked.id.0,
            authorisation: asked.authorisation.0,
            amount: asked.amount.0,
            kind: kind as u16,
            is_final: u8::from(asked.is_final.is_yes()),
            reserved: [0; 13],
        }
    }
}
