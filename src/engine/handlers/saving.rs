//! Liquidity saving: its switches, its algorithms by command, and its automatic runs.

use super::payments::may_settle;
use super::release::{release, settle_waiting};
use super::{groups, ok, rejected};
use crate::engine::deadlines::{Due, NO_DEADLINE};
use crate::engine::index::Handle;
use crate::engine::ledger::Ledger;
use crate::engine::outbox::Outbox;
use crate::engine::settlement::groups::Groups;
use crate::engine::settlement::netting::Means;
use crate::engine::state::State;
use crate::protocol::command::{Algorithm, CommandKind, RunLiquiditySaving, SetLiquiditySaving};
use crate::protocol::event::{EventKind, LiquiditySavingDone, SettledBy};
use crate::protocol::reason::Reason;
use crate::protocol::units::Amount;
use crate::protocol::wire::Zero;

/// Switches the parts of liquidity saving, and sets when automatic runs are made.
pub(in crate::engine) fn set_liquidity_saving(
    state: &mut State,
    asked: &SetLiquiditySaving,
    out: &mut Outbox,
) {
    state.saving.set(asked);
    plan_run(state);
    ok(CommandKind::SetLiquiditySaving, out);
    // What only its turn kept waiting may go now.
    state.look_again();
}

/// Runs one algorithm over everything that is queued.
pub(in crate::engine) fn run_liquidity_saving(
    state: &mut State,
    asked: &RunLiquiditySaving,
    out: &mut Outbox,
) {
    let refusal = match asked.algorithm {
        Algorithm::Batch => Some(Reason::OutOfRange),
        Algorithm::Grp | Algorithm::Bilateral | Algorithm::Multiple | Algorithm::Greedy => {
            (!may_settle(state)).then_some(Reason::PhaseForbids)
        }
    };
    if let Some(reason) = refusal {
        rejected(CommandKind::RunLiquiditySaving, 0, reason, out);
        return;
    }
    // From here it succeeds.
    let tally = run(state, asked.algorithm, out);
    done(asked.algorithm, tally, out);
}

/// What one run settled.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    settled: u64,
    value: u128,
}

pub(super) fn done(algorithm: Algorithm, tally: Tally, out: &mut Outbox) {
    let body = LiquiditySavingDone {
        algorithm,
        _reserved: [Zero::Zero; 7],
        settled: tally.settled,
        value: Amount(tally.value),
    };
    out.push(EventKind::LiquiditySavingDone, &body);
}

fn run(state: &mut State, algorithm: Algorithm, out: &mut Outbox) -> Tally {
    note_run(state);
    let mut tally = Tally::default();
    match algorithm {
        Algorithm::Grp => step(state, SettledBy::Grp, &mut tally, out),
        Algorithm::Bilateral => step(state, SettledBy::Bilateral, &mut tally, out),
        Algorithm::Greedy => step(state, SettledBy::Greedy, &mut tally, out),
        Algorithm::Multiple => multiple(state, &mut tally, out),
        Algorithm::Batch => unreachable!("batches are proposed, not run"),
    }
    tally
}

/// Runs what automatic resolution is set to, where enough has been queued since the last run. Says
/// so only where something settled.
#[inline]
pub(in crate::engine) fn run_when_due(state: &mut State, out: &mut Outbox) {
    if state.saving.is_run_due(state.payments.queued()) && may_settle(state) {
        run_automatically(state, out);
        // What came in by it is looked at at once.
        release(state, out);
    }
}

/// Runs by the clock: its time has come.
pub(super) fn run_by_clock(state: &mut State, out: &mut Outbox) {
    state.saving.set_deadline(NO_DEADLINE);
    run_automatically(state, out);
}

fn run_automatically(state: &mut State, out: &mut Outbox) {
    let algorithm = state.saving.algorithm();
    if !may_settle(state) {
        note_run(state);
        return;
    }
    let tally = run(state, algorithm, out);
    if tally.settled > 0 {
        done(algorithm, tally, out);
    }
}

/// A run is made: the next one by the clock comes an interval later.
fn note_run(state: &mut State) {
    state.saving.note_run();
    plan_run(state);
}

/// Notes when the next run by the clock is due.
fn plan_run(state: &mut State) {
    if let Some(slot) = state.saving.deadline() {
        state.deadlines.remove(slot);
    }
    let slot = match state.saving.next_run_after(state.now) {
        Some(at) => state.deadlines.insert(at, Due::Saving),
        None => NO_DEADLINE,
    };
    state.saving.set_deadline(slot);
}

/// T2 algorithm 3: all or nothing, then GRP, then pairs, then GRP again, as long as anything
/// settles.
fn multiple(state: &mut State, tally: &mut Tally, out: &mut Outbox) {
    loop {
        let before = tally.settled;
        for by in [
            SettledBy::Multiple,
            SettledBy::Grp,
            SettledBy::Bilateral,
            SettledBy::Grp,
        ] {
            step(state, by, tally, out);
        }
        if tally.settled == before {
            return;
        }
    }
}

/// Lets one algorithm choose, and settles what it chose.
fn step(state: &mut State, by: SettledBy, tally: &mut Tally, out: &mut Outbox) {
    if state.payments.queued() == 0 {
        return;
    }
    // The scratch is taken out so that settling may use the state.
    let mut netting = std::mem::take(&mut state.netting);
    let facts = Facts {
        ledger: &state.ledger,
        groups: &state.groups,
    };
    match by {
        SettledBy::Multiple => netting.all_or_nothing(&state.payments, &facts),
        SettledBy::Bilateral => netting.bilateral(&state.payments, &facts),
        SettledBy::Greedy => netting.greedy(&state.payments, &facts),
        SettledBy::Grp => netting.gridlock(&state.payments, &facts),
        SettledBy::None
        | SettledBy::Entry
        | SettledBy::Offset
        | SettledBy::Release
        | SettledBy::Batch => unreachable!("no algorithm of that name"),
    }
    settle_all(state, netting.settled(), by, tally, out);
    state.netting = netting;
}

/// Payments that caches are warmed for ahead.
const AHEAD: usize = 8;

/// Settles payments together, in order of entry; legs bring their groups.
pub(super) fn settle_all(
    state: &mut State,
    chosen: &[Handle],
    by: SettledBy,
    tally: &mut Tally,
    out: &mut Outbox,
) {
    for (at, payment) in chosen.iter().enumerate() {
        if let Some(later) = chosen.get(at + 2 * AHEAD) {
            state.payments.touch(*later);
        }
        if let Some(later) = chosen.get(at + AHEAD) {
            state.payments.touch_neighbours(*later);
        }
        let row = state.payments.row(*payment);
        tally.value += row.amount;
        match row.group() {
            None => settle_waiting(state, *payment, by, out),
            Some(group) if row.is_waiting() => groups::settle(state, group, by, out),
            // Settled with an earlier leg.
            Some(_) => {}
        }
    }
    tally.settled += chosen.len() as u64;
}

/// What netting asks of the other rooms.
struct Facts<'a> {
    ledger: &'a Ledger,
    groups: &'a Groups,
}

impl Means for Facts<'_> {
    fn liquidity(&self, account: Handle) -> Option<i128> {
        self.ledger.row(account).liquidity()
    }

    fn takes(&self, creditor: Handle) -> bool {
        self.ledger.row(creditor).takes_any_credit()
    }

    fn gives(&self, debtor: Handle) -> bool {
        self.ledger.row(debtor).gives_any_debit()
    }

    fn legs(&self, group: Handle) -> u32 {
        self.groups.row(group).legs()
    }
}
