//! From the relaxation to whole payments: settle what flows whole, repair, take back in what fits,
//! and relax what is left again until nothing more is won.

use super::board::Board;
use super::flow::{self, Arc};
use super::layout::Layout;
use super::problem::{Class, PaymentIndex, Problem};

/// A problem in units that an `i64` holds in sum. Flows of the problem are flows here, so what is
/// found largest here is no less than what is largest there.
pub(super) struct Scaled {
    /// Minor units per unit, as a power of two; 0 for all amounts but astronomical ones.
    pub(super) shift: u32,
    /// Amount of each payment, rounded up.
    pub(super) amounts: Vec<i64>,
    /// What each account may spend on normal payments, 0 or more, rounded up.
    pub(super) liquidity: Vec<i64>,
}

impl Scaled {
    pub(super) fn of(problem: &Problem, layout: &Layout) -> Scaled {
        let value = problem.value();
        // What an account has beyond all that is owed makes no difference.
        let spendable = |(at, account): (u32, &super::problem::Account)| {
            let Some(liquidity) = account.liquidity else {
                return value;
            };
            let ordered = layout.chain(at).iter();
            let is_normal =
                |at: &PaymentIndex| problem.payments()[*at as usize].class == Class::Normal;
            // Urgent and high payments draw on reservations; normal ones must leave them.
            let reserved = match ordered.copied().all(|at| is_normal(&at)) {
                true => account.reserved.iter().sum::<u128>() as i128,
                false => 0,
            };
            ((liquidity - reserved).max(0) as u128).min(value)
        };
        let liquidity: Vec<u128> = (0..).zip(problem.accounts()).map(spendable).collect();
        let most = value + liquidity.iter().sum::<u128>();
        let shift = (128 - most.leading_zeros()).saturating_sub(61);
        let up = |amount: u128| amount.div_ceil(1 << shift) as i64;
        Scaled {
            shift,
            amounts: problem
                .payments()
                .iter()
                .map(|payment| up(payment.amount))
                .collect(),
            liquidity: liquidity.into_iter().map(up).collect(),
        }
    }
}

/// Flow of every payment where the relaxation is largest.
pub(super) fn relax(problem: &Problem, layout: &Layout, scaled: &Scaled) -> Vec<i64> {
    relax_rest(problem, &layout.usable, &scaled.liquidity, &scaled.amounts)
}

/// The same over some of the payments; the others do not flow.
fn relax_rest(
    problem: &Problem,
    some: &[PaymentIndex],
    liquidity: &[i64],
    amounts: &[i64],
) -> Vec<i64> {
    let arcs: Vec<Arc> = some
        .iter()
        .map(|at| {
            let payment = problem.payments()[*at as usize];
            Arc {
                from: payment.debtor,
                to: payment.creditor,
                most: amounts[*at as usize],
            }
        })
        .collect();
    let mut flows = vec![0; amounts.len()];
    for (at, flow) in some.iter().zip(flow::largest(liquidity, &arcs)) {
        flows[*at as usize] = flow;
    }
    flows
}

/// Shares of a payment from which on it is taken in, per mille.
const SHARES: [i128; 4] = [1_000, 900, 750, 500];

/// Rounds the relaxation; the best choice found.
pub(super) fn round<'a>(
    problem: &'a Problem,
    layout: &'a Layout,
    scaled: &Scaled,
    flows: &[i64],
    orders: &[Vec<PaymentIndex>],
) -> Board<'a> {
    let mut best = Board::new(problem, layout);
    let mut flows = flows.to_vec();
    loop {
        let mut better = None;
        for share in SHARES {
            let wanted = |at: PaymentIndex| {
                let at = at as usize;
                i128::from(flows[at]) * 1_000 >= i128::from(scaled.amounts[at]) * share
            };
            let mut board = best.clone();
            board.take(wanted);
            board.repair();
            for order in orders {
                let mut filled = board.clone();
                filled.fill(order, usize::MAX);
                let most = better.as_ref().map_or(best.value(), Board::value);
                if filled.value() > most {
                    better = Some(filled);
                }
            }
        }
        match better {
            Some(board) => best = board,
            None => return best,
        }
        let rest = layout.usable.iter().copied().filter(|at| !best.is_in(*at));
        let rest: Vec<PaymentIndex> = rest.collect();
        flows = relax_rest(
            problem,
            &rest,
            &best.liquidity_left(scaled.shift),
            &scaled.amounts,
        );
    }
}
