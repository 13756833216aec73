//! Whether payments can settle together: every account bears what it pays out of what it has and
//! gets, and nobody passes over a payment of its own that comes first. Work is in proportion to the
//! payments asked about, never to what is queued.

use super::queue::Payments;
use crate::engine::index::Handle;
use crate::protocol::command::Priority;
use crate::protocol::reason::Reason;

/// What keeps payments from settling together, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Obstacle {
    pub(in crate::engine) account: Handle,
    pub(in crate::engine) reason: Reason,
}

/// One side of a payment.
#[derive(Clone, Copy)]
struct Flow {
    account: Handle,
    other: Handle,
    amount: u128,
    /// The class it pays in; `None` where it receives.
    pays: Option<Priority>,
}

/// Room to work in, kept between checks.
#[derive(Default)]
pub(in crate::engine) struct Together {
    flows: Vec<Flow>,
}

impl Together {
    /// Whether `batch`, waiting payments in ascending order, can settle together. `liquidity` is
    /// what an account has to spend, `None` where it has no floor.
    pub(in crate::engine) fn check(
        &mut self,
        payments: &Payments,
        batch: &[Handle],
        bypass: bool,
        liquidity: impl Fn(Handle) -> Option<i128>,
    ) -> Result<(), Obstacle> {
        self.flows.clear();
        for payment in batch {
            let row = payments.row(*payment);
            if let Some(reason) = row.kept_back_by() {
                return Err(Obstacle {
                    account: row.debtor,
                    reason,
                });
            }
            self.flows.push(Flow {
                account: row.debtor,
                other: row.creditor,
                amount: row.amount,
                pays: Some(row.class()),
            });
            self.flows.push(Flow {
                account: row.creditor,
                other: row.debtor,
                amount: row.amount,
                pays: None,
            });
        }
        self.flows
            .sort_unstable_by_key(|flow| (flow.account, flow.other));
        for flows in self
            .flows
            .chunk_by(|one, other| one.account == other.account)
        {
            let account = flows[0].account;
            let fits = check_order(payments, batch, account, flows, bypass)
                .and_then(|()| check_money(payments, account, flows, liquidity(account)))
                .and_then(|()| check_limits(payments, account, flows));
            fits.map_err(|reason| Obstacle { account, reason })?;
        }
        Ok(())
    }
}

fn paid(flows: &[Flow], class: Priority) -> u128 {
    let of_class = flows.iter().filter(|flow| flow.pays == Some(class));
    of_class.map(|flow| flow.amount).sum()
}

/// What of an account is in comes before everything of it that is not, class by class; only normal
/// payments may overtake each other.
fn check_order(
    payments: &Payments,
    batch: &[Handle],
    account: Handle,
    flows: &[Flow],
    bypass: bool,
) -> Result<(), Reason> {
    let mut is_whole = true;
    for class in Priority::ALL.iter().copied() {
        let count = flows.iter().filter(|flow| flow.pays == Some(class)).count();
        if count == 0 {
            is_whole &= payments.eligible(account, class) == 0;
            continue;
        }
        if !is_whole {
            return Err(Reason::BehindHigherPriority);
        }
        if class != Priority::Normal || !bypass {
            let mut first = payments
                .class_iter(account, class)
                .filter(|payment| payments.row(*payment).is_eligible())
                .take(count);
            if !first.all(|payment| batch.binary_search(&payment).is_ok()) {
                return Err(Reason::BehindHigherPriority);
            }
        }
        is_whole &= payments.eligible(account, class) as usize == count;
    }
    Ok(())
}

/// What is left is not below zero, nor below reservations that what is paid must leave.
fn check_money(
    payments: &Payments,
    account: Handle,
    flows: &[Flow],
    liquidity: Option<i128>,
) -> Result<(), Reason> {
    let Some(liquidity) = liquidity else {
        return Ok(());
    };
    let pays = [Priority::Urgent, Priority::High, Priority::Normal].map(|class| paid(flows, class));
    let total: u128 = pays.iter().sum();
    if total == 0 {
        return Ok(());
    }
    let gets: u128 = flows
        .iter()
        .filter(|flow| flow.pays.is_none())
        .map(|flow| flow.amount)
        .sum();
    let left = liquidity + gets as i128 - total as i128;
    if left < 0 {
        return Err(Reason::InsufficientLiquidity);
    }
    let reserved = payments
        .desk(account)
        .map_or([0; 2], |desk| desk.reserved());
    let mut floor = 0;
    if pays[1] > 0 || pays[2] > 0 {
        floor += reserved[0].saturating_sub(pays[0]);
    }
    if pays[2] > 0 {
        floor += reserved[1].saturating_sub(pays[1]);
    }
    if left < floor as i128 {
        return Err(Reason::Reserved);
    }
    Ok(())
}

/// Normal payments keep the account's limits, net of what comes back.
fn check_limits(payments: &Payments, account: Handle, flows: &[Flow]) -> Result<(), Reason> {
    let Some(desk) = payments.desk(account).filter(|desk| desk.is_limited()) else {
        return Ok(());
    };
    let net = |flow: &Flow| match flow.pays {
        Some(Priority::Normal) => flow.amount as i128,
        Some(_) => 0,
        None => -(flow.amount as i128),
    };
    let pays_normally =
        |flows: &[Flow]| flows.iter().any(|flow| flow.pays == Some(Priority::Normal));
    let (mut elsewhere, mut pays_elsewhere) = (0, false);
    for toward in flows.chunk_by(|one, other| one.other == other.other) {
        let sent: i128 = toward.iter().map(net).sum();
        match payments.bilateral(desk, toward[0].other) {
            Some(limit) => {
                let row = payments.limits().row(limit);
                if pays_normally(toward) && row.used + sent > row.amount as i128 {
                    return Err(Reason::LimitBilateral);
                }
            }
            None => {
                elsewhere += sent;
                pays_elsewhere |= pays_normally(toward);
            }
        }
    }
    let is_over = desk.multilateral != super::desk::UNLIMITED
        && pays_elsewhere
        && desk.multilateral_used + elsewhere > desk.multilateral as i128;
    if is_over {
        Err(Reason::LimitMultilateral)
    } else {
        Ok(())
    }
}
