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
    /// Minor units that the account is short of, of money or of a limit as the reason says.
    pub(in crate::engine) short_of: u128,
    /// The payment that comes first.
    pub(in crate::engine) ahead: Option<Handle>,
}

impl Obstacle {
    /// One that no amount lifts.
    pub(in crate::engine) fn new(account: Handle, reason: Reason) -> Obstacle {
        Obstacle {
            account,
            reason,
            short_of: 0,
            ahead: None,
        }
    }
}

/// How much of payments can settle together where every part of them is as good as the whole: from
/// so many lots to so many.
#[derive(Clone, Copy)]
struct Range {
    least: u128,
    most: u128,
}

impl Range {
    /// Keeps those numbers of lots for which `room + lots * gain` is not below zero.
    fn bound(&mut self, room: i128, gain: i128) {
        let (size, step) = (room.unsigned_abs(), gain.unsigned_abs());
        match (room >= 0, gain) {
            (true, 0..) => {}
            (true, _) => self.most = self.most.min(size / step),
            (false, 1..) => self.least = self.least.max(size.div_ceil(step)),
            (false, _) => self.most = 0,
        }
    }
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
        self.gather(payments, batch)?;
        for flows in self
            .flows
            .chunk_by(|one, other| one.account == other.account)
        {
            check_flows(payments, batch, flows, bypass, &liquidity)?;
        }
        Ok(())
    }

    /// Whether one account could bear its part of what was checked last. Where that check found a
    /// payment kept back, there is nothing to say of any account.
    pub(in crate::engine) fn check_account(
        &self,
        payments: &Payments,
        batch: &[Handle],
        account: Handle,
        bypass: bool,
        liquidity: impl Fn(Handle) -> Option<i128>,
    ) -> Result<(), Obstacle> {
        let from = self.flows.partition_point(|flow| flow.account < account);
        let to = self.flows.partition_point(|flow| flow.account <= account);
        match &self.flows[from..to] {
            [] => Ok(()),
            flows => check_flows(payments, batch, flows, bypass, &liquidity),
        }
    }

    /// Forgets what was checked last.
    pub(in crate::engine) fn clear(&mut self) {
        self.flows.clear();
    }

    /// The largest number of lots, of `lots` that make the whole, for which the same share of every
    /// payment of `batch` can settle; 0 where none can. Every amount is a multiple of `lots`, and all
    /// are of one class.
    pub(in crate::engine) fn most_lots(
        &mut self,
        payments: &Payments,
        batch: &[Handle],
        bypass: bool,
        lots: u128,
        liquidity: impl Fn(Handle) -> Option<i128>,
    ) -> u128 {
        let mut range = Range {
            least: 1,
            most: lots,
        };
        if self.gather(payments, batch).is_err() {
            return 0;
        }
        for flows in self
            .flows
            .chunk_by(|one, other| one.account == other.account)
        {
            let account = flows[0].account;
            if check_order(payments, batch, account, flows, bypass).is_err() {
                return 0;
            }
            let Some(class) = flows.iter().find_map(|flow| flow.pays) else {
                continue;
            };
            let reserved = payments
                .desk(account)
                .map_or(0, |desk| desk.reserved_against(class));
            if let Some(liquidity) = liquidity(account) {
                let gain = -flows.iter().map(Flow::out).sum::<i128>();
                range.bound(liquidity - reserved as i128, gain / lots as i128);
            }
            for_each_room(payments, account, flows, |room, sent, _| {
                range.bound(room, -sent / lots as i128);
            });
        }
        if range.least <= range.most {
            range.most
        } else {
            0
        }
    }

    /// Both sides of every payment, account by account.
    fn gather(&mut self, payments: &Payments, batch: &[Handle]) -> Result<(), Obstacle> {
        self.flows.clear();
        for payment in batch {
            let row = payments.row(*payment);
            if let Some(reason) = row.kept_back_by() {
                self.flows.clear();
                return Err(Obstacle::new(row.debtor, reason));
            }
            self.flows.push(Flow {
                account: row.debtor,
                other: row.creditor,
                amount: row.amount,
                pays: Some(row.class()),
            });
            if row.group() == row.leg_of() {
                self.flows.push(Flow {
                    account: row.creditor,
                    other: row.debtor,
                    amount: row.amount,
                    pays: None,
                });
            }
        }
        self.flows
            .sort_unstable_by_key(|flow| (flow.account, flow.other));
        Ok(())
    }
}

impl Flow {
    /// What leaves the account.
    fn out(&self) -> i128 {
        match self.pays {
            Some(_) => self.amount as i128,
            None => -(self.amount as i128),
        }
    }
}

/// Whether the account of these flows bears them, and nothing of it is passed over.
fn check_flows(
    payments: &Payments,
    batch: &[Handle],
    flows: &[Flow],
    bypass: bool,
    liquidity: &impl Fn(Handle) -> Option<i128>,
) -> Result<(), Obstacle> {
    let account = flows[0].account;
    check_order(payments, batch, account, flows, bypass)
        .and_then(|()| check_money(payments, account, flows, liquidity(account)))
        .and_then(|()| check_limits(payments, account, flows))
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
) -> Result<(), Obstacle> {
    let behind = || {
        let is_ahead = |payment: &Handle| {
            payments.row(*payment).is_eligible() && batch.binary_search(payment).is_err()
        };
        Obstacle {
            ahead: payments.iter(account).find(is_ahead),
            ..Obstacle::new(account, Reason::BehindHigherPriority)
        }
    };
    let mut is_whole = true;
    for class in Priority::ALL.iter().copied() {
        let count = flows.iter().filter(|flow| flow.pays == Some(class)).count();
        if count == 0 {
            is_whole &= payments.eligible(account, class) == 0;
            continue;
        }
        if !is_whole {
            return Err(behind());
        }
        if class != Priority::Normal || !bypass {
            let mut first = payments
                .class_iter(account, class)
                .filter(|payment| payments.row(*payment).is_eligible())
                .take(count);
            if !first.all(|payment| batch.binary_search(&payment).is_ok()) {
                return Err(behind());
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
) -> Result<(), Obstacle> {
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
    let short_of = u128::try_from(floor as i128 - left).unwrap_or(0);
    let reason = match (short_of, left < 0) {
        (0, _) => return Ok(()),
        (_, true) => Reason::InsufficientLiquidity,
        (_, false) => Reason::Reserved,
    };
    Err(Obstacle {
        short_of,
        ..Obstacle::new(account, reason)
    })
}

/// Normal payments keep the account's limits, net of what comes back.
fn check_limits(payments: &Payments, account: Handle, flows: &[Flow]) -> Result<(), Obstacle> {
    let mut broken = Ok(());
    for_each_room(payments, account, flows, |room, sent, reason| {
        if let Some(short_of) = u128::try_from(sent - room).ok().filter(|short| *short > 0)
            && broken.is_ok()
        {
            broken = Err(Obstacle {
                short_of,
                ..Obstacle::new(account, reason)
            });
        }
    });
    broken
}

/// Calls `each` for every limit of the account that a normal payment of it meets: what is left of
/// it, what is net sent there, and its name.
fn for_each_room(
    payments: &Payments,
    account: Handle,
    flows: &[Flow],
    mut each: impl FnMut(i128, i128, Reason),
) {
    let Some(desk) = payments.desk(account).filter(|desk| desk.is_limited()) else {
        return;
    };
    let net = |flow: &Flow| match flow.pays {
        Some(Priority::Normal) | None => flow.out(),
        Some(_) => 0,
    };
    let pays_normally =
        |flows: &[Flow]| flows.iter().any(|flow| flow.pays == Some(Priority::Normal));
    let (mut elsewhere, mut pays_elsewhere) = (0, false);
    for toward in flows.chunk_by(|one, other| one.other == other.other) {
        let sent: i128 = toward.iter().map(net).sum();
        match payments.bilateral(desk, toward[0].other) {
            Some(limit) => {
                let row = payments.limits().row(limit);
                if pays_normally(toward) {
                    each(row.amount as i128 - row.used, sent, Reason::LimitBilateral);
                }
            }
            None => {
                elsewhere += sent;
                pays_elsewhere |= pays_normally(toward);
            }
        }
    }
    if desk.multilateral != super::desk::UNLIMITED && pays_elsewhere {
        let room = desk.multilateral as i128 - desk.multilateral_used;
        each(room, elsewhere, Reason::LimitMultilateral);
    }
}
