//! A business day, invented from a seed: who pays whom, how much, when; who trades what.
//!
//! Fifty banks weighted by Zipf's law (exponent 1.2); payment sizes lognormal with mu 8.895 and
//! sigma 3.670 in euros, which fits the quantiles published for TARGET2; classes 1 % urgent, 9 %
//! high, 90 % normal. Two shares trade against the same cash accounts. A few rings of payments are
//! planted that none of their members can start alone.

use super::Size;
use crate::bench::workload::{create_account, create_asset, create_participant, transfer};
use crate::protocol::command::{
    AccountFlags, Algorithm, CancelOrder, CommandKind, CreateInstrument, DayPhase, OrderType, Peg,
    PlaceOrder, Priority, RunLiquiditySaving, SelfTrade, SetPhase, Settlement, Side, SubmitPayment,
    TimeInForce, Trigger,
};
use crate::protocol::frame::CommandFrame;
use crate::protocol::units::{
    AccountId, Amount, AssetId, ClientOrderId, InstrumentId, OrderId, ParticipantId, PaymentId,
    Price, Quantity, Timestamp,
};
use crate::protocol::wire::{Bool, Zero};
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Zipf};
use rand_pcg::Pcg64Mcg;

/// Banks that pay and trade.
pub const BANKS: u32 = 50;
/// What a bank starts the day with beside its net need, of what it will pay: thousandths.
const OPENING_PER_MILLE: u128 = 10;
/// Rings of payments that only settle together.
const RINGS: usize = 6;
/// Gridlock resolution runs this often over the day.
const RUNS: usize = 12;
/// The largest payment, euros: a few tail draws would otherwise be the whole day.
const LARGEST_EUR: f64 = 2e9;

const EUR: u32 = 1;
const SHARES: [u32; 2] = [11, 12];
const CENTRAL_BANK: u32 = 1_000;
const ISSUER_EUR: u64 = 900_000;
const HOUSE_EUR: u64 = 900_009;
const Z: Zero = Zero::Zero;

/// One day.
pub struct Day {
    /// What must be there before it begins, opening balances included.
    pub setup: Vec<CommandFrame>,
    /// What happens while it is open, in order.
    pub business: Vec<CommandFrame>,
    /// How it ends.
    pub closing: Vec<CommandFrame>,
    /// Minor units of all payments.
    pub payment_value: u128,
    /// Minor units that all banks start with.
    pub opening: u128,
    /// Minor units that would settle everything if all payments met at once: the sum of what each
    /// bank pays more than it receives.
    pub net_lower_bound: u128,
    payments: usize,
    orders: usize,
}

impl Day {
    /// Invents a day.
    pub fn invent(size: &Size) -> Day {
        let mut inventor = Inventor::new(size.seed);
        let mut payments = inventor.payments(size.payments);
        let rings = inventor.rings();
        let (opening, payment_value, net_lower_bound) = balances(&payments, &rings);
        let orders = inventor.orders(size.orders);
        let setup = setup(&opening);
        let mut business = merge(&mut payments, orders);
        for (at, ring) in rings.iter().enumerate() {
            // Spread over the day, all of a ring at once, in the middle between two runs.
            let place = business.len() * (2 * at + 1) / (2 * RINGS);
            let frames = ring.iter().map(SubmitPayment::frame);
            business.splice(place..place, frames);
        }
        for run in (1..=RUNS).rev() {
            let place = business.len() * run / RUNS;
            business.insert(place, resolve());
        }
        Day {
            setup,
            business,
            closing: [
                DayPhase::Cut1,
                DayPhase::Cut2,
                DayPhase::Eod1,
                DayPhase::Closed,
            ]
            .map(set_phase)
            .into(),
            payment_value,
            opening: opening.iter().sum(),
            net_lower_bound,
            payments: size.payments + rings.iter().map(Vec::len).sum::<usize>(),
            orders: size.orders,
        }
    }

    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "{} payments of {BANKS} banks, {RINGS} planted gridlocks, {} order commands in {} shares",
            self.payments,
            self.orders,
            SHARES.len()
        )
    }
}

trait Frame {
    fn frame(&self) -> CommandFrame;
}

impl Frame for SubmitPayment {
    fn frame(&self) -> CommandFrame {
        CommandFrame::new(CommandKind::SubmitPayment, self)
    }
}

fn cash_account(bank: u32) -> u64 {
    u64::from(bank) * 100
}

fn set_phase(phase: DayPhase) -> CommandFrame {
    let body = SetPhase {
        phase,
        _reserved: [Z; 3],
        business_date: 0,
        _reserved_end: [Z; 8],
    };
    CommandFrame::new(CommandKind::SetPhase, &body)
}

fn resolve() -> CommandFrame {
    let body = RunLiquiditySaving {
        algorithm: Algorithm::Grp,
        _reserved: [Z; 15],
    };
    CommandFrame::new(CommandKind::RunLiquiditySaving, &body)
}

/// Assets, banks, accounts, instruments, then the first phases and the opening balances.
fn setup(opening: &[u128]) -> Vec<CommandFrame> {
    let mut all = vec![create_asset(EUR, "EUR")];
    all.extend(SHARES.iter().map(|share| create_asset(*share, "SHARE")));
    all.push(create_participant(CENTRAL_BANK, "CENTRALBANK"));
    let issuer = AccountFlags::NONE;
    all.push(create_account(ISSUER_EUR, CENTRAL_BANK, EUR, issuer));
    all.push(create_account(HOUSE_EUR, CENTRAL_BANK, EUR, issuer));
    for share in SHARES {
        let account = ISSUER_EUR + u64::from(share);
        all.push(create_account(account, CENTRAL_BANK, share, issuer));
    }
    for bank in 1..=BANKS {
        all.push(create_participant(bank, &format!("BANK{bank:03}")));
        let settlement = AccountFlags::SETTLEMENT;
        all.push(create_account(cash_account(bank), bank, EUR, settlement));
        for share in SHARES {
            let account = cash_account(bank) + u64::from(share);
            all.push(create_account(account, bank, share, settlement));
        }
    }
    for share in SHARES {
        all.push(instrument(share));
    }
    all.extend([DayPhase::Sod, DayPhase::Liquidity].map(set_phase));
    let mut id = 1u128;
    let mut bring = |from: u64, to: u64, amount: u128| {
        id += 1;
        CommandFrame::new(CommandKind::Transfer, &transfer(id, from, to, amount))
    };
    for bank in 1..=BANKS {
        let cash = cash_account(bank);
        all.push(bring(ISSUER_EUR, cash, opening[bank as usize - 1]));
        for share in SHARES {
            let share = u64::from(share);
            all.push(bring(ISSUER_EUR + share, cash + share, 100_000));
        }
    }
    all.push(set_phase(DayPhase::Open));
    all
}

fn instrument(share: u32) -> CommandFrame {
    let body = CreateInstrument {
        instrument: InstrumentId(share),
        base_asset: AssetId(share),
        quote_asset: AssetId(EUR),
        maker_fee_bps: -1,
        taker_fee_bps: 3,
        self_trade: SelfTrade::CancelIncoming,
        settlement: Settlement::Immediate,
        tick_table: 0,
        lot_size: 1,
        tick_value: 1,
        min_price: Price(1),
        max_price: Price(1_000_000),
        max_quantity: Quantity(10_000),
        fee_account: AccountId(HOUSE_EUR),
        min_quantity: Quantity(1),
        price_step: 1,
        reference_price: Price(0),
        static_band: 0,
        dynamic_band: 0,
        max_notional: Amount::ZERO,
    };
    CommandFrame::new(CommandKind::CreateInstrument, &body)
}

/// Opening balance of each bank, value of all payments, and the net lower bound.
fn balances(payments: &[SubmitPayment], rings: &[Vec<SubmitPayment>]) -> (Vec<u128>, u128, u128) {
    let bank = |account: AccountId| (account.0 / 100 - 1) as usize;
    let mut out = vec![0u128; BANKS as usize];
    let mut incoming = out.clone();
    for payment in payments.iter().chain(rings.iter().flatten()) {
        out[bank(payment.debtor_account)] += payment.amount.0;
        incoming[bank(payment.creditor_account)] += payment.amount.0;
    }
    let needs: Vec<u128> = out
        .iter()
        .zip(&incoming)
        .map(|(out, incoming)| out.saturating_sub(*incoming))
        .collect();
    // What it pays more than it receives, a little to start with, and something to trade with.
    let opening = out
        .iter()
        .zip(&needs)
        .map(|(out, need)| need + out * OPENING_PER_MILLE / 1_000 + 20_000_000);
    (opening.collect(), out.iter().sum(), needs.iter().sum())
}

/// Payments and order commands in one stream, evenly mixed.
fn merge(payments: &mut Vec<SubmitPayment>, orders: Vec<CommandFrame>) -> Vec<CommandFrame> {
    let total = payments.len() + orders.len();
    let share = payments.len();
    let (mut payments, mut orders) = (payments.drain(..), orders.into_iter());
    let mut all = Vec::with_capacity(total);
    for at in 0..total {
        let is_payment = at * share / total != (at + 1) * share / total;
        let next = if is_payment {
            payments.next().map(|payment| payment.frame())
        } else {
            orders.next()
        };
        all.extend(next);
    }
    all.extend(payments.map(|payment| payment.frame()));
    all.extend(orders);
    all
}

struct Inventor {
    rng: Pcg64Mcg,
    banks: Zipf<f64>,
    sizes: LogNormal<f64>,
    next_payment: u128,
}

impl Inventor {
    fn new(seed: u64) -> Inventor {
        Inventor {
            rng: Pcg64Mcg::seed_from_u64(seed),
            banks: Zipf::new(f64::from(BANKS), 1.2).expect("a sound distribution"),
            sizes: LogNormal::new(8.895, 3.670).expect("a sound distribution"),
            next_payment: 0,
        }
    }

    fn bank(&mut self) -> u32 {
        self.banks.sample(&mut self.rng) as u32
    }

    fn payments(&mut self, count: usize) -> Vec<SubmitPayment> {
        (0..count)
            .map(|_| {
                let debtor = self.bank();
                let creditor = loop {
                    let bank = self.bank();
                    if bank != debtor {
                        break bank;
                    }
                };
                // Floats invent the day; what reaches the engine is an integer.
                let euros = self.sizes.sample(&mut self.rng).clamp(0.01, LARGEST_EUR);
                let priority = match self.rng.random_range(0..100) {
                    0 => Priority::Urgent,
                    1..10 => Priority::High,
                    _ => Priority::Normal,
                };
                self.payment(debtor, creditor, (euros * 100.0) as u128, priority)
            })
            .collect()
    }

    /// Rings of three to five banks, each owing the next far more than it has.
    fn rings(&mut self) -> Vec<Vec<SubmitPayment>> {
        (0..RINGS)
            .map(|ring| {
                let members: Vec<u32> = (0..3 + ring as u32 % 3)
                    .map(|member| 1 + (ring as u32 * 7 + member * 3) % BANKS)
                    .collect();
                let amount = self.rng.random_range(3..9) * 100_000_000_000;
                let mut next = members.iter().copied().cycle().skip(1);
                members
                    .iter()
                    .map(|bank| {
                        let creditor = next.next().expect("a cycle never ends");
                        self.payment(*bank, creditor, amount, Priority::High)
                    })
                    .collect()
            })
            .collect()
    }

    fn payment(
        &mut self,
        debtor: u32,
        creditor: u32,
        amount: u128,
        priority: Priority,
    ) -> SubmitPayment {
        self.next_payment += 1;
        SubmitPayment {
            id: PaymentId(self.next_payment),
            debtor_account: AccountId(cash_account(debtor)),
            creditor_account: AccountId(cash_account(creditor)),
            amount: Amount(amount.max(1)),
            return_of: PaymentId(0),
            earliest_at: Timestamp(0),
            latest_at: Timestamp(0),
            priority,
            _reserved: [Z; 3],
            value_date: 0,
            _reserved_end: [Z; 8],
        }
    }

    fn orders(&mut self, count: usize) -> Vec<CommandFrame> {
        let mut live: Vec<(u32, u64)> = Vec::new();
        let mut middle = [5_000i64, 12_000];
        let mut next_id = 0;
        (0..count)
            .map(|_| {
                if live.len() > 200 && self.rng.random_range(0..100) < 35 {
                    let at = self.rng.random_range(0..live.len());
                    let (bank, id) = live.swap_remove(at);
                    return cancel(bank, id);
                }
                next_id += 1;
                let share = self.rng.random_range(0..SHARES.len());
                middle[share] += self.rng.random_range(-3..=3);
                let bank = self.bank();
                live.push((bank, next_id));
                self.order(bank, next_id, SHARES[share], middle[share])
            })
            .collect()
    }

    fn order(&mut self, bank: u32, id: u64, share: u32, middle: i64) -> CommandFrame {
        let side = if self.rng.random() {
            Side::Buy
        } else {
            Side::Sell
        };
        let away = self.rng.random_range(-8..=40);
        let price = match side {
            Side::Buy => middle - away,
            Side::Sell => middle + away,
        };
        let time_in_force = match self.rng.random_range(0..10) {
            0 => TimeInForce::Ioc,
            _ => TimeInForce::Day,
        };
        let body = PlaceOrder {
            participant: ParticipantId(bank),
            instrument: InstrumentId(share),
            client_order_id: ClientOrderId(id),
            price: Price(price.max(1)),
            quantity: Quantity(self.rng.random_range(1..=40)),
            stop_price: Price(0),
            display_quantity: Quantity(0),
            expires_at: Timestamp(0),
            protection: Price(0),
            side,
            order_type: OrderType::Limit,
            time_in_force,
            post_only: Bool::No,
            self_trade: SelfTrade::Default,
            slide: Bool::No,
            peg: Peg::None,
            keep_on_disconnect: Bool::No,
            trigger: Trigger::Last,
            _reserved: [Z; 7],
            offset: Price(0),
            min_quantity: Quantity(0),
        };
        CommandFrame::new(CommandKind::PlaceOrder, &body)
    }
}

fn cancel(bank: u32, id: u64) -> CommandFrame {
    let body = CancelOrder {
        participant: ParticipantId(bank),
        _reserved: [Z; 4],
        client_order_id: ClientOrderId(id),
        order_id: OrderId(0),
        _reserved_end: [Z; 8],
    };
    CommandFrame::new(CommandKind::CancelOrder, &body)
}
