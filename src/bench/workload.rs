//! Workloads: seeded streams of commands, filled straight into ring slots.

use crate::protocol::RELEASE;
use crate::protocol::command::CancelOrder;
use crate::protocol::command::{
    AccountFlags, AssetKind, CommandKind, CreateAccount, CreateAsset, CreateInstrument,
    CreateParticipant, OrderType, PaymentRef, Peg, PlaceOrder, Priority, ReplaceOrder, SelfTrade,
    Settlement, Side, SubmitPayment, TimeInForce, Transfer, TransferFlags, Trigger,
};
use crate::protocol::frame::{CommandFrame, CommandHeader, CommandSlot, HEADER_BYTES};
use crate::protocol::units::{
    AccountId, Amount, AssetId, ClientOrderId, InstrumentId, OrderId, ParticipantId, PaymentId,
    Price, Quantity, Timestamp, TransferId,
};
use crate::protocol::wire::{Bool, Text16, Zero};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use zerocopy::{Immutable, IntoBytes};

/// A stream of commands after some that set the scene.
pub trait Workload {
    /// What must be executed first, one by one: for ten million accounts or orders a list of it would
    /// take more memory than they do.
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_>;
    /// Writes the next command into a slot.
    fn next(&mut self, slot: &mut CommandSlot);
}

/// Writes a command of `kind` into `slot`.
pub fn fill<B: IntoBytes + Immutable>(slot: &mut CommandSlot, kind: CommandKind, body: &B) {
    let bytes = body.as_bytes();
    let header = CommandHeader {
        length: (HEADER_BYTES + bytes.len()) as u32,
        kind: kind as u16,
        release: RELEASE,
        ..bytemuck::Zeroable::zeroed()
    };
    slot.bytes[..HEADER_BYTES].copy_from_slice(bytemuck::bytes_of(&header));
    slot.bytes[HEADER_BYTES..][..bytes.len()].copy_from_slice(bytes);
}

const Z: Zero = Zero::Zero;

/// Names an asset.
pub fn create_asset(asset: u32, code: &str) -> CommandFrame {
    let body = CreateAsset {
        asset: AssetId(asset),
        scale: 2,
        kind: AssetKind::Cash,
        _reserved: [Z; 10],
        code: Text16::new(code).expect("a short code"),
    };
    CommandFrame::new(CommandKind::CreateAsset, &body)
}

/// Names a participant.
pub fn create_participant(participant: u32, code: &str) -> CommandFrame {
    let body = CreateParticipant {
        participant: ParticipantId(participant),
        group: 0,
        _reserved: [Z; 8],
        code: Text16::new(code).expect("a short code"),
    };
    CommandFrame::new(CommandKind::CreateParticipant, &body)
}

/// Opens an account.
pub fn create_account(
    account: u64,
    participant: u32,
    asset: u32,
    flags: AccountFlags,
) -> CommandFrame {
    let body = CreateAccount {
        account: AccountId(account),
        participant: ParticipantId(participant),
        asset: AssetId(asset),
        credit_line: Amount::ZERO,
        flags,
        _reserved: [Z; 14],
    };
    CommandFrame::new(CommandKind::CreateAccount, &body)
}

/// A plain transfer.
pub fn transfer(id: u128, debit: u64, credit: u64, amount: u128) -> Transfer {
    Transfer {
        id: TransferId(id),
        debit_account: AccountId(debit),
        credit_account: AccountId(credit),
        amount: Amount(amount),
        pending_id: TransferId(0),
        user_data_128: 0,
        user_data_64: 0,
        user_data_32: 0,
        timeout_s: 0,
        asset: AssetId(0),
        code: 1,
        flags: TransferFlags::NONE,
        _reserved: [Z; 8],
    }
}

/// Plain transfers between random accounts, every id new.
#[derive(Clone)]
pub struct Transfers {
    accounts: u64,
    rng: Pcg64Mcg,
    next_id: u128,
}

impl Transfers {
    /// A stream over `accounts` accounts.
    pub fn new(accounts: u64, seed: u64) -> Transfers {
        Transfers {
            accounts,
            rng: Pcg64Mcg::seed_from_u64(seed),
            next_id: 1,
        }
    }

    /// One transfer, or one command of `batch` transfers, filled as TigerBeetle's benchmark fills
    /// them: ids from the largest down, random user data and codes, the asset named.
    pub fn next_batch(&mut self, batch: usize) -> CommandFrame {
        if batch == 1 {
            return CommandFrame::new(CommandKind::Transfer, &self.filled());
        }
        let items: Vec<Transfer> = (0..batch).map(|_| self.filled()).collect();
        let head = crate::protocol::command::Transfers {
            count: batch as u32,
            _reserved: [Z; 12],
        };
        CommandFrame::with_items(CommandKind::Transfers, &head, &items)
    }

    #[inline]
    fn filled(&mut self) -> Transfer {
        let plain = self.one();
        Transfer {
            id: TransferId(u128::MAX - plain.id.0),
            user_data_128: self.rng.random(),
            user_data_64: self.rng.random(),
            user_data_32: self.rng.random(),
            asset: AssetId(1),
            code: self.rng.random_range(1..=u16::MAX),
            ..plain
        }
    }

    #[inline]
    fn one(&mut self) -> Transfer {
        let (debit, credit) = self.pair();
        let amount = self.rng.random_range(1..=10_000);
        transfer(self.id(), debit, credit, amount)
    }

    fn pair(&mut self) -> (u64, u64) {
        let debit = self.rng.random_range(1..=self.accounts);
        let credit = self.rng.random_range(1..self.accounts);
        (debit, if credit >= debit { credit + 1 } else { credit })
    }

    /// A normal payment between random accounts.
    fn payment(&mut self) -> SubmitPayment {
        let (debtor, creditor) = self.pair();
        SubmitPayment {
            id: PaymentId(self.id()),
            debtor_account: AccountId(debtor),
            creditor_account: AccountId(creditor),
            amount: Amount(self.rng.random_range(1..=10_000)),
            return_of: PaymentId(0),
            earliest_at: Timestamp(0),
            latest_at: Timestamp(0),
            priority: Priority::Normal,
            _reserved: [Z; 3],
            value_date: 0,
            _reserved_end: [Z; 8],
        }
    }

    /// A transfer under an id of somebody else's choice.
    pub(super) fn with_id(&mut self, id: u128) -> Transfer {
        let (debit, credit) = self.pair();
        transfer(id, debit, credit, self.rng.random_range(1..=10_000))
    }

    fn id(&mut self) -> u128 {
        self.next_id += 1;
        self.next_id
    }
}

impl Workload for Transfers {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        let names = [create_asset(1, "EUR"), create_participant(1, "BANK")];
        let open = |id| create_account(id, 1, 1, AccountFlags::NONE);
        Box::new(names.into_iter().chain((1..=self.accounts).map(open)))
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        let body = self.one();
        fill(slot, CommandKind::Transfer, &body);
    }
}

/// Two-phase transfers: by turns a pending one, and the post of one made 65,536
/// transfers before, long out of the caches.
pub struct TwoPhase {
    plain: Transfers,
    pending: std::collections::VecDeque<u128>,
}

impl TwoPhase {
    /// Transfers pending at a time.
    const APART: usize = 65_536;

    /// A stream over `accounts` accounts.
    pub fn new(accounts: u64, seed: u64) -> TwoPhase {
        TwoPhase {
            plain: Transfers::new(accounts, seed),
            pending: std::collections::VecDeque::with_capacity(TwoPhase::APART + 1),
        }
    }
}

impl Workload for TwoPhase {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        self.plain.setup()
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        let id = self.plain.id();
        let body = if self.pending.len() > TwoPhase::APART {
            Transfer {
                pending_id: TransferId(self.pending.pop_front().expect("many are pending")),
                flags: TransferFlags::POST_PENDING,
                code: 0,
                ..transfer(id, 0, 0, u128::MAX)
            }
        } else {
            self.pending.push_back(id);
            let (debit, credit) = self.plain.pair();
            let amount = self.plain.rng.random_range(1..=10_000);
            Transfer {
                flags: TransferFlags::PENDING,
                ..transfer(id, debit, credit, amount)
            }
        };
        fill(slot, CommandKind::Transfer, &body);
    }
}

/// Payments that settle at entry, between well-funded accounts.
pub struct Payments(Transfers);

impl Payments {
    /// A stream over `accounts` accounts.
    pub fn new(accounts: u64, seed: u64) -> Payments {
        Payments(Transfers::new(accounts, seed))
    }
}

impl Workload for Payments {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        self.0.setup()
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        let body = self.0.payment();
        fill(slot, CommandKind::SubmitPayment, &body);
    }
}

/// Payments that wait, for nobody has money.
pub struct Queued(Transfers);

impl Queued {
    /// A stream over `accounts` accounts.
    pub fn new(accounts: u64, seed: u64) -> Queued {
        Queued(Transfers::new(accounts, seed))
    }
}

impl Workload for Queued {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        let names = [create_asset(1, "EUR"), create_participant(1, "BANK")];
        let open = |id| create_account(id, 1, 1, AccountFlags::SETTLEMENT);
        Box::new(names.into_iter().chain((1..=self.0.accounts).map(open)))
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        let body = self.0.payment();
        fill(slot, CommandKind::SubmitPayment, &body);
    }
}

/// Cancels of payments that wait, from here and there.
pub struct Cancels {
    queued: Queued,
    /// Payments that wait at first, a power of two.
    count: u64,
    next: u64,
}

impl Cancels {
    /// At least `count` cancels over `accounts` accounts.
    pub fn new(accounts: u64, count: u64, seed: u64) -> Cancels {
        Cancels {
            queued: Queued::new(accounts, seed),
            count: count.next_power_of_two(),
            next: 0,
        }
    }
}

impl Workload for Cancels {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        let mut queued = self.queued.0.clone();
        let one = move |_| CommandFrame::new(CommandKind::SubmitPayment, &queued.payment());
        let names = self.queued.setup();
        Box::new(names.chain((0..self.count).map(one)))
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        // An odd step visits every number below a power of two once. Ids begin with 2.
        let at = self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (self.count - 1);
        self.next += 1;
        let body = PaymentRef {
            id: PaymentId(u128::from(at) + 2),
        };
        fill(slot, CommandKind::CancelPayment, &body);
    }
}

/// Orders in the manner of exchange-core's throughput test: one pair, 1,000 users, about `resting`
/// orders in the book; per 10,000 commands 1,280 good-till-cancelled, 175 immediate-or-cancel,
/// 6 fill-or-kill, 730 cancel, 730 reduce, 7,079 move. Every order holds cover and every fill
/// settles delivery versus payment with fees.
pub struct Orders {
    resting: usize,
    instruments: u32,
    users: u32,
    rng: Pcg64Mcg,
    /// Client ids of orders that probably rest, with participant, side and quantity.
    live: Vec<(u32, u64, Side, u64)>,
    next_id: u64,
    middle: i64,
}

const CASH: u32 = 1;
const SHARE: u32 = 2;
const INSTRUMENT: InstrumentId = InstrumentId(1);

impl Orders {
    /// A stream that keeps about `resting` orders in the book.
    pub fn new(resting: usize, users: u32, seed: u64) -> Orders {
        Orders {
            resting,
            instruments: 1,
            users,
            rng: Pcg64Mcg::seed_from_u64(seed),
            live: Vec::with_capacity(resting * 2),
            next_id: 0,
            middle: 10_000,
        }
    }

    /// The same stream over that many books, each new order in any of them.
    #[must_use]
    pub fn over(self, instruments: u32) -> Orders {
        Orders {
            instruments,
            ..self
        }
    }

    /// The book of a new order; with one book no lot is drawn.
    fn instrument(&mut self) -> InstrumentId {
        match self.instruments {
            1 => INSTRUMENT,
            all => InstrumentId(self.rng.random_range(1..=all)),
        }
    }

    /// Prices around the middle, nearly 500 levels, denser near the touch.
    fn price(&mut self, side: Side) -> i64 {
        let far = self.rng.random_range(1..=16i64) * self.rng.random_range(1..=15i64);
        match side {
            Side::Buy => self.middle - far,
            Side::Sell => self.middle + far,
        }
    }

    fn place(&mut self, time_in_force: TimeInForce) -> PlaceOrder {
        self.next_id += 1;
        let side = if self.rng.random() {
            Side::Buy
        } else {
            Side::Sell
        };
        let participant = self.rng.random_range(1..=self.users);
        let quantity = self.rng.random_range(1..=100);
        let mut price = self.price(side);
        if time_in_force == TimeInForce::Gtc {
            self.live.push((participant, self.next_id, side, quantity));
        } else {
            // Reaches across the touch.
            let across = self.rng.random_range(1..=20);
            price = match side {
                Side::Buy => self.middle + across,
                Side::Sell => self.middle - across,
            };
        }
        PlaceOrder {
            participant: ParticipantId(participant),
            instrument: self.instrument(),
            client_order_id: ClientOrderId(self.next_id),
            price: Price(price),
            quantity: Quantity(quantity),
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
        }
    }

    fn pick(&mut self) -> usize {
        self.rng.random_range(0..self.live.len())
    }

    fn cancel(&mut self) -> CancelOrder {
        let at = self.pick();
        let (participant, id, ..) = self.live.swap_remove(at);
        CancelOrder {
            participant: ParticipantId(participant),
            _reserved: [Z; 4],
            client_order_id: ClientOrderId(id),
            order_id: OrderId(0),
            _reserved_end: [Z; 8],
        }
    }

    fn replace(&mut self, is_move: bool) -> ReplaceOrder {
        let at = self.pick();
        let (participant, id, side, quantity) = self.live[at];
        let (price, quantity) = if is_move {
            // Now and then an order moves across the touch and trades.
            let price = if self.rng.random_range(0..100) < 2 {
                self.price(side.opposite())
            } else {
                self.price(side)
            };
            (price, u64::MAX)
        } else {
            self.live[at].3 = quantity.saturating_sub(1).max(1);
            (i64::MIN, self.live[at].3)
        };
        ReplaceOrder {
            participant: ParticipantId(participant),
            _reserved: [Z; 4],
            client_order_id: ClientOrderId(id),
            order_id: OrderId(0),
            price: Price(price),
            quantity: Quantity(quantity),
            new_client_order_id: ClientOrderId(0),
        }
    }
}

impl Workload for Orders {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        let mut all = vec![
            create_asset(CASH, "EUR"),
            create_asset(SHARE, "SHARE"),
            create_participant(1_000_000, "HOUSE"),
        ];
        let house = u64::from(u32::MAX);
        all.push(create_account(house, 1_000_000, CASH, AccountFlags::NONE));
        all.push(create_account(
            house + 1,
            1_000_000,
            SHARE,
            AccountFlags::NONE,
        ));
        all.push(create_account(
            house + 2,
            1_000_000,
            CASH,
            AccountFlags::NONE,
        ));
        for user in 1..=self.users {
            let covered = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
            let (cash, share) = (u64::from(user) * 2, u64::from(user) * 2 + 1);
            all.push(create_participant(user, "USER"));
            all.push(create_account(cash, user, CASH, covered));
            all.push(create_account(share, user, SHARE, covered));
            for (account, from) in [(cash, house), (share, house + 1)] {
                let body = transfer(u128::from(account), from, account, 1 << 60);
                all.push(CommandFrame::new(CommandKind::Transfer, &body));
            }
        }
        let instrument = CreateInstrument {
            instrument: INSTRUMENT,
            base_asset: AssetId(SHARE),
            quote_asset: AssetId(CASH),
            maker_fee_bps: 1,
            taker_fee_bps: 2,
            self_trade: SelfTrade::Default,
            settlement: Settlement::Immediate,
            tick_table: 0,
            lot_size: 10,
            tick_value: 10,
            min_price: Price(1),
            max_price: Price(1 << 40),
            max_quantity: Quantity(1 << 30),
            fee_account: AccountId(house + 2),
            min_quantity: Quantity(1),
            price_step: 1,
            reference_price: Price(0),
            static_band: 0,
            dynamic_band: 0,
            max_notional: Amount::ZERO,
        };
        let listings = (1..=self.instruments).map(move |id| {
            let body = CreateInstrument {
                instrument: InstrumentId(id),
                ..instrument
            };
            CommandFrame::new(CommandKind::CreateInstrument, &body)
        });
        let orders = (0..self.resting).map(|_| {
            let body = self.place(TimeInForce::Gtc);
            CommandFrame::new(CommandKind::PlaceOrder, &body)
        });
        Box::new(all.into_iter().chain(listings).chain(orders))
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        let too_few = self.live.len() < self.resting;
        let kind = self.rng.random_range(0..10_000);
        match kind {
            _ if self.live.is_empty() => {
                let body = self.place(TimeInForce::Gtc);
                fill(slot, CommandKind::PlaceOrder, &body);
            }
            0..1_280 => {
                let body = self.place(TimeInForce::Gtc);
                fill(slot, CommandKind::PlaceOrder, &body);
            }
            1_280..1_455 => {
                let body = self.place(TimeInForce::Ioc);
                fill(slot, CommandKind::PlaceOrder, &body);
            }
            1_455..1_461 => {
                let body = self.place(TimeInForce::Fok);
                fill(slot, CommandKind::PlaceOrder, &body);
            }
            1_461..2_191 if !too_few => {
                let body = self.cancel();
                fill(slot, CommandKind::CancelOrder, &body);
            }
            1_461..2_921 => {
                let body = self.replace(false);
                fill(slot, CommandKind::ReplaceOrder, &body);
            }
            _ => {
                let body = self.replace(true);
                fill(slot, CommandKind::ReplaceOrder, &body);
            }
        }
    }
}
