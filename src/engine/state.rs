//! The rooms, side by side. Handlers compose them; the rooms do not know each other.

use super::approvals::Approvals;
use super::authorisations::{AuthorisationRow, StepRow};
use super::business_day::BusinessDay;
use super::collateral::Collateral;
use super::deadlines::Deadlines;
use super::index::Handle;
use super::instruments::InstrumentRow;
use super::intraday::Intraday;
use super::ledger::Ledger;
use super::limits::Limits;
use super::matching::{Matching, OrderView};
use super::positions::Positions;
use super::reference_data::{AssetRow, ParticipantRow, Registry};
use super::schedule::Schedule;
use super::settlement::groups::Groups;
use super::settlement::netting::Netting;
use super::settlement::queue::Payments;
use super::settlement::switches::LiquiditySaving;
use super::settlement::together::Together;
use super::throttles::Throttles;
use super::ticks::TickTables;
use super::transfers::{Executed, TransferRow};
use super::window::Window;
use crate::protocol::command::ITEMS_MAX;
use crate::protocol::units::Timestamp;

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
    /// Whether the present command closed accounts or opened them again; false between commands.
    pub(super) closings_changed: bool,
    pub(super) payments: Payments,
    pub(super) groups: Groups,
    pub(super) collateral: Collateral,
    pub(super) intraday: Intraday,
    pub(super) ticks: TickTables,
    pub(super) instruments: Registry<InstrumentRow>,
    pub(super) matching: Matching,
    pub(super) positions: Positions,
    pub(super) day: BusinessDay,
    pub(super) schedule: Schedule,
    pub(super) approvals: Approvals,
    pub(super) throttles: Throttles,
    pub(super) saving: LiquiditySaving,
    pub(super) netting: Netting,
    /// Scratch: what the chain at hand has executed; empty between commands.
    pub(super) chain: Vec<Executed>,
    /// Room in which an offset at entry gathers what it would settle; empty between commands.
    pub(super) offset: Vec<Handle>,
    /// Room in which payments that are to settle together are checked.
    pub(super) together: Together,
    /// Room for the orders that a mass cancel takes out; empty between commands.
    pub(super) gone: Vec<OrderView>,
    /// Room for the legs of the group being checked.
    pub(super) legs: Vec<Handle>,
    /// Puts accounts that have more to spend on the worklist of release.
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
            closings_changed: false,
            payments: Payments::new(limits.payments, limits.accounts, limits.window_days),
            groups: Groups::new(limits.payments),
            collateral: Collateral::new(limits.accounts),
            intraday: Intraday::new(limits.accounts),
            ticks: TickTables::default(),
            instruments: Registry::new(limits.instruments),
            matching: Matching::new(limits),
            positions: Positions::new(limits.positions),
            day: BusinessDay::new(),
            schedule: Schedule::new(),
            approvals: Approvals::new(limits.proposals),
            throttles: Throttles::new(limits.throttles),
            saving: LiquiditySaving::new(),
            netting: Netting::default(),
            chain: Vec::with_capacity(ITEMS_MAX),
            offset: Vec::with_capacity(1_024),
            together: Together::default(),
            gone: Vec::with_capacity(1_024),
            legs: Vec::new(),
            risen: Risen { sequence: 0 },
        }
    }

    /// Has every queue looked at.
    pub(super) fn look_again(&mut self) {
        for at in 0..self.payments.desks().len() {
            let account = self.payments.desks()[at].account;
            self.liquidity_rose(account);
        }
    }

    /// Notes that `account` has more to spend: what waits there is looked at before the command
    /// ends, as far as the scan bound allows.
    #[inline]
    pub(super) fn liquidity_rose(&mut self, account: Handle) {
        self.risen.note(&mut self.payments, account);
    }
}

/// Puts accounts on the worklist of release in the name of the present command.
pub(super) struct Risen {
    pub(super) sequence: u64,
}

impl Risen {
    /// Notes `account` if anything waits there.
    #[inline]
    pub(super) fn note(&self, payments: &mut Payments, account: Handle) {
        payments.note_risen(account, self.sequence);
    }
}
