//! The rooms, side by side. Handlers compose them; the rooms do not know each other.

use super::business_day::BusinessDay;
use super::index::Handle;
use super::instruments::InstrumentRow;
use super::ledger::Ledger;
use super::limits::Limits;
use super::matching::Matching;
use super::reference_data::{AssetRow, ParticipantRow, Registry};
use super::settlement::queue::Payments;
use super::transfers::Transfers;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Everything the engine knows.
pub(super) struct State {
    pub(super) assets: Registry<AssetRow>,
    pub(super) participants: Registry<ParticipantRow>,
    pub(super) ledger: Ledger,
    pub(super) transfers: Transfers,
    pub(super) payments: Payments,
    pub(super) instruments: Registry<InstrumentRow>,
    pub(super) matching: Matching,
    pub(super) day: BusinessDay,
    /// Accounts whose liquidity rose during the present command; empty between commands.
    risen: BinaryHeap<Reverse<Handle>>,
}

impl State {
    pub(super) fn new(limits: &Limits) -> State {
        State {
            assets: Registry::new(limits.assets),
            participants: Registry::new(limits.participants),
            ledger: Ledger::new(limits.accounts, limits.participants),
            transfers: Transfers::new(limits.transfers),
            payments: Payments::new(limits.payments, limits.accounts),
            instruments: Registry::new(limits.instruments),
            matching: Matching::new(limits),
            day: BusinessDay::new(),
            risen: BinaryHeap::with_capacity(4_096),
        }
    }

    /// Notes that `account` has more to spend: what waits there is looked at before the command
    /// ends.
    #[inline]
    pub(super) fn liquidity_rose(&mut self, account: Handle) {
        if self.payments.queued() > 0 && self.payments.queued_at(account).0 > 0 {
            self.risen.push(Reverse(account));
        }
    }

    /// The lowest account whose liquidity rose, once.
    #[inline]
    pub(super) fn next_risen(&mut self) -> Option<Handle> {
        let Reverse(account) = self.risen.pop()?;
        while self.risen.peek() == Some(&Reverse(account)) {
            self.risen.pop();
        }
        Some(account)
    }
}
