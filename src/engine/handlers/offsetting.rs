//! Offset at entry: a payment that its debtor cannot cover settles together with payments that its
//! creditor has waiting the other way.
//!
//! Direct offset takes them in queue order, as many as both sides need and no more, and passes over
//! nothing that may not be overtaken. Extended offset looks further, for a single payment at any
//! position, and only where the creditor ends up with more than before, so that nobody it passes
//! over is worse off.

use super::release;
use crate::engine::index::Handle;
use crate::engine::outbox::Outbox;
use crate::engine::settlement::payment::NONE;
use crate::engine::settlement::queue::NewPayment;
use crate::engine::state::State;
use crate::protocol::command::Priority;
use crate::protocol::event::SettledBy;

/// Payments that extended offset considers.
const CANDIDATES_MAX: usize = 10;
/// Payments of the creditor to the debtor that either offset looks at: what an entry may take.
const LOOKS_MAX: u32 = 64;

/// Finds what settles together with `payment` and notes it in `state.offset`.
#[inline(never)]
pub(super) fn pick(state: &mut State, payment: &NewPayment) -> bool {
    let (debtor, creditor) = (payment.debtor, payment.creditor);
    if state.payments.pair(creditor, debtor).next().is_none()
        || !state.ledger.row(debtor).takes_any_credit()
        || !state.ledger.row(creditor).gives_any_debit()
    {
        return false;
    }
    let mut picked = std::mem::take(&mut state.offset);
    picked.clear();
    let found = pick_direct(state, payment, &mut picked);
    if !found {
        picked.clear();
        picked.extend(pick_extended(state, payment));
    }
    let found = !picked.is_empty();
    state.offset = picked;
    found
}

/// Settles what [`pick`] found.
#[inline(never)]
pub(super) fn settle_picked(state: &mut State, out: &mut Outbox) {
    let mut picked = std::mem::take(&mut state.offset);
    // Posting order inside a simultaneous settlement is order of entry.
    picked.sort_unstable();
    for payment in &picked {
        release::settle_waiting(state, *payment, SettledBy::Offset, out);
    }
    picked.clear();
    state.offset = picked;
}

/// The smallest beginning of what the creditor owes the debtor that both sides can bear.
fn pick_direct(state: &State, payment: &NewPayment, picked: &mut Vec<Handle>) -> bool {
    let mut looks = state.saving.scan_bound().min(LOOKS_MAX);
    let mut owed = Owed::default();
    for class in Priority::ALL.iter().copied() {
        let is_strict = class != Priority::Normal || !state.saving.bypass();
        if is_strict {
            for other in state.payments.class_iter(payment.creditor, class) {
                if looks == 0 {
                    return false;
                }
                looks -= 1;
                let row = state.payments.row(other);
                if !row.is_eligible() {
                    continue;
                }
                if row.creditor != payment.debtor || !is_free(state, other) {
                    // Nothing behind it may go before it.
                    return false;
                }
                match owed.add(state, payment, other, picked) {
                    Verdict::Enough => return true,
                    Verdict::TooMuch => return false,
                    Verdict::More => {}
                }
            }
        } else {
            for other in state.payments.pair(payment.creditor, payment.debtor) {
                if looks == 0 {
                    return false;
                }
                looks -= 1;
                if state.payments.row(other).class() != class || !is_free(state, other) {
                    continue;
                }
                match owed.add(state, payment, other, picked) {
                    Verdict::Enough => return true,
                    Verdict::TooMuch => return false,
                    Verdict::More => {}
                }
            }
        }
    }
    false
}

/// The first single payment at any position that covers what is short and leaves the creditor with
/// more than before.
fn pick_extended(state: &State, payment: &NewPayment) -> Option<Handle> {
    let looks = state.saving.scan_bound().min(LOOKS_MAX) as usize;
    // The first few of each class, in one walk.
    let mut of_class = [[NONE; CANDIDATES_MAX]; 3];
    let mut counts = [0; 3];
    let chain = state.payments.pair(payment.creditor, payment.debtor);
    for other in chain.take(looks) {
        let class = state.payments.row(other).class() as usize;
        if counts[class] < CANDIDATES_MAX && is_free(state, other) {
            of_class[class][counts[class]] = other;
            counts[class] += 1;
        }
    }
    let candidates = of_class.iter().flatten().copied();
    candidates
        .filter(|other| *other != NONE)
        .take(CANDIDATES_MAX)
        .find(|other| {
            let row = state.payments.row(*other);
            let mut owed = Owed::default();
            owed.sums[row.class() as usize] = row.amount;
            row.amount < payment.amount.0 && owed.verdict(state, payment) == Verdict::Enough
        })
}

/// Whether a payment may settle with another: it takes part, stands alone, and is not late.
fn is_free(state: &State, payment: Handle) -> bool {
    let row = state.payments.row(payment);
    row.is_eligible() && row.leg_of().is_none() && !row.is_late(state.now)
}

/// What the creditor pays back, by class.
#[derive(Default)]
struct Owed {
    sums: [u128; 3],
}

#[derive(PartialEq, Eq)]
enum Verdict {
    /// Both sides can bear it.
    Enough,
    /// The debtor still lacks cover.
    More,
    /// The creditor cannot bear it, and no more of it either.
    TooMuch,
}

impl Owed {
    fn add(
        &mut self,
        state: &State,
        payment: &NewPayment,
        other: Handle,
        picked: &mut Vec<Handle>,
    ) -> Verdict {
        let row = state.payments.row(other);
        self.sums[row.class() as usize] += row.amount;
        picked.push(other);
        self.verdict(state, payment)
    }

    fn verdict(&self, state: &State, payment: &NewPayment) -> Verdict {
        let back: u128 = self.sums.iter().sum();
        let mut pays = [0; 3];
        pays[payment.class as usize] = payment.amount.0;
        let (debtor, creditor) = (payment.debtor, payment.creditor);
        if !can_bear(state, creditor, debtor, self.sums, payment.amount.0) {
            Verdict::TooMuch
        } else if can_bear(state, debtor, creditor, pays, back) {
            Verdict::Enough
        } else {
            Verdict::More
        }
    }
}

/// Whether an account can pay `pays` (by class) to another and get `gets` from it at once.
fn can_bear(state: &State, account: Handle, other: Handle, pays: [u128; 3], gets: u128) -> bool {
    let total: u128 = pays.iter().sum();
    if let Some(liquidity) = state.ledger.row(account).liquidity() {
        let reserved = state
            .payments
            .desk(account)
            .map_or([0; 2], |d| d.reserved());
        let [urgent, high, normal] = pays;
        let unused = [
            reserved[0].saturating_sub(urgent),
            reserved[1].saturating_sub(high),
        ];
        let floor = match (high, normal) {
            (0, 0) => 0,
            (_, 0) => unused[0],
            _ => unused[0] + unused[1],
        };
        if liquidity + (gets as i128) - (total as i128) < floor as i128 {
            return false;
        }
    }
    if pays[2] == 0 {
        return true;
    }
    match state.payments.room_toward(account, other) {
        Some((room, _)) => pays[2] as i128 - gets as i128 <= room,
        None => true,
    }
}
