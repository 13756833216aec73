//! The rooms, side by side. Handlers compose them; the rooms do not know each other.

use super::authorisations::{AuthorisationRow, StepRow};
use super::business_day::BusinessDay;
use super::deadlines::Deadlines;
use super::index::Handle;
use super::instruments::InstrumentRow;
use super::ledger::Ledger;
use super::limits::Limits;
use super::matching::Matching;
use super::reference_data::{AssetRow, ParticipantRow, Registry};
use super::settlement::gridlock::Gridlock;
use super::settlement::queue::Payments;
use super::transfers::TransferRow;
use super::window::Window;
use crate::protocol::units::Timestamp;
use bytemuck::{Pod, Zeroable};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Everything the engine knows.
pub(super) struct State {
    /// The engine's now: the latest `received_at` seen.
    pub(super) now: Timestamp,
    pub(super) assets: Registry<AssetRow>,
    pub(super) participants: Registry<ParticipantRow>,
    pub(super) ledger: Ledger,
    pub(super) transfers: Window<TransferRow>,
    pub(super) authorisations: Window<AuthorisationRow>,
    pub(super) authorisation_steps: Window<StepRow>,
    /// Business days for which a closed authorisation can be refunded.
    pub(super) refund_days: u32,
    pub(super) deadlines: Deadlines,
    pub(super) payments: Payments,
    pub(super) instruments: Registry<InstrumentRow>,
    pub(super) matching: Matching,
    pub(super) day: BusinessDay,
    pub(super) saving: LiquiditySaving,
    pub(super) gridlock: Gridlock,
    /// Accounts whose liquidity rose during the present command; empty between commands.
    pub(super) risen: Risen,
}

impl State {
    pub(super) fn new(limits: &Limits) -> State {
        State {
            now: Timestamp(0),
            assets: Registry::new(limits.assets),
            participants: Registry::new(limits.participants),
            ledger: Ledger::new(limits.accounts, limits.participants),
            transfers: Window::new(limits.transfers, limits.window_days),
            authorisations: Window::new(limits.authorisations, limits.window_days),
            authorisation_steps: Window::new(limits.authorisation_steps, limits.window_days),
            refund_days: limits.refund_days,
            deadlines: Deadlines::new(limits.deadlines()),
            payments: Payments::new(limits.payments, limits.accounts),
            instruments: Registry::new(limits.instruments),
            matching: Matching::new(limits),
            day: BusinessDay::new(),
            saving: LiquiditySaving::new(),
            gridlock: Gridlock::default(),
            risen: Risen(BinaryHeap::with_capacity(4_096)),
        }
    }

    /// Has every queue looked at before the command ends.
    pub(super) fn look_again(&mut self) {
        for account in self.payments.queue_accounts() {
            self.risen.note(&self.payments, account);
        }
    }

    /// Notes that `account` has more to spend: what waits there is looked at before the command
    /// ends.
    #[inline]
    pub(super) fn liquidity_rose(&mut self, account: Handle) {
        self.risen.note(&self.payments, account);
    }
}

/// The switches of liquidity saving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct LiquiditySaving {
    bypass: u8,
    reserved: [u8; 7],
}

impl LiquiditySaving {
    fn new() -> LiquiditySaving {
        LiquiditySaving {
            bypass: 1,
            reserved: [0; 7],
        }
    }

    /// Whether normal payments may overtake queued normal ones.
    #[inline]
    pub(super) fn bypass(self) -> bool {
        self.bypass != 0
    }

    pub(super) fn set_bypass(&mut self, on: bool) {
        self.bypass = u8::from(on);
    }
}

/// Accounts with queued payments whose liquidity rose, lowest first.
pub(super) struct Risen(BinaryHeap<Reverse<Handle>>);

impl Risen {
    /// Notes `account` if anything waits there.
    #[inline]
    pub(super) fn note(&mut self, payments: &Payments, account: Handle) {
        if payments.queued() > 0 && payments.queued_at(account).0 > 0 {
            self.0.push(Reverse(account));
        }
    }

    /// The lowest account noted, once.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Handle> {
        let Reverse(account) = self.0.pop()?;
        while self.0.peek() == Some(&Reverse(account)) {
            self.0.pop();
        }
        Some(account)
    }
}
