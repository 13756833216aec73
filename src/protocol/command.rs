//! Commands: every kind with its body. A kind's name is its handler's name and its `cmd` in
//! scripts. Field order is byte order; defaults are what a script may leave out.

use super::units::{
    AccountId, Amount, AssetId, ClientOrderId, InstrumentId, OrderId, ParticipantId, PaymentId,
    Price, Quantity, Timestamp, TransferId,
};
use super::wire::{Bool, Field, Text16, WireStruct, Zero, wire_enum, wire_flags, wire_struct};

wire_enum! {
    /// What an asset is.
    pub enum AssetKind : u8 {
        /// Money.
        Cash = 0 "cash",
        /// A security.
        Security = 1 "security",
    }
}

wire_enum! {
    /// A payment's class: urgent before high before normal.
    pub enum Priority : u8 {
        /// First, and may use every reservation.
        Urgent = 0 "urgent",
        /// Second.
        High = 1 "high",
        /// The rest; may overtake each other.
        Normal = 2 "normal",
    }
}

wire_enum! {
    /// Which class a reservation is for.
    pub enum ReservationClass : u8 {
        /// Urgent payments.
        Urgent = 0 "urgent",
        /// High payments.
        High = 1 "high",
    }
}

wire_enum! {
    /// Where a moved payment goes within its class.
    pub enum Position : u8 {
        /// Before all others.
        Front = 0 "front",
        /// Behind all others.
        Back = 1 "back",
    }
}

wire_enum! {
    /// How the legs of a group settle.
    pub enum GroupProcedure : u8 {
        /// All at once or none.
        AllOrNone = 0 "all_or_none",
        /// All at once, or else as much of each in proportion as can; the rest waits on.
        Partial = 1 "partial",
        /// All at once, or else once as much of each in proportion as can; the rest is cancelled.
        PartialOnce = 2 "partial_once",
        /// Debits one by one onto the account that the first leg credits; all credits when every debit
        /// is in, or else the debits go back.
        DebitsFirst = 3 "debits_first",
    }
}

wire_enum! {
    /// Liquidity-saving algorithms that can be run by command.
    pub enum Algorithm : u8 {
        /// Gridlock resolution (Bech-Soramaki).
        Grp = 0 "grp",
        /// Pairs of accounts.
        Bilateral = 1 "bilateral",
        /// All or nothing, then GRP, then pairs (T2 algorithm 3).
        Multiple = 2 "multiple",
        /// Greedy bypass with re-add.
        Greedy = 3 "greedy",
        /// A batch found outside: answered so, not run by command.
        Batch = 4 "batch",
    }
}

wire_enum! {
    /// Which algorithm automatic runs run, in a command that may leave it as it is.
    pub enum AlgorithmChoice : u8 {
        /// Gridlock resolution.
        Grp = 0 "grp",
        /// Pairs of accounts.
        Bilateral = 1 "bilateral",
        /// All or nothing, GRP, pairs, GRP.
        Multiple = 2 "multiple",
        /// Greedy bypass with re-add.
        Greedy = 3 "greedy",
        /// As it is.
        Keep = 255 "keep",
    }
}

wire_enum! {
    /// A switch in a command that may leave it as it is.
    pub enum Switch : u8 {
        /// Off.
        Off = 0 "false",
        /// On.
        On = 1 "true",
        /// As it is.
        Keep = 255 "keep",
    }
}

wire_enum! {
    /// What a participant may do.
    pub enum ParticipantState : u8 {
        /// Everything.
        Active = 0 "active",
        /// Receive only.
        DebitBlocked = 1 "debit_blocked",
        /// Send only.
        CreditBlocked = 2 "credit_blocked",
        /// Nothing.
        Blocked = 3 "blocked",
        /// Nothing, and what is queued freezes.
        Excluded = 4 "excluded",
    }
}

wire_enum! {
    /// Phases of the business day.
    pub enum DayPhase : u8 {
        /// Nothing moves but accounts for instant payments.
        Closed = 0 "closed",
        /// Start of day: counters reset, idempotency windows roll.
        Sod = 1 "sod",
        /// Liquidity is brought in.
        Liquidity = 2 "liquidity",
        /// Payments of all kinds.
        Open = 3 "open",
        /// Customer payments have ended.
        Cut1 = 4 "cut1",
        /// Interbank payments have ended.
        Cut2 = 5 "cut2",
        /// What is queued is rejected, intraday credit is repaid.
        Eod1 = 6 "eod1",
        /// End-of-day work.
        Eod2 = 7 "eod2",
        /// Reconciliation.
        Recon = 8 "recon",
    }
}

wire_enum! {
    /// Phases of an instrument.
    pub enum InstrumentPhase : u8 {
        /// No orders.
        Closed = 0 "closed",
        /// Orders accumulate.
        PreOpen = 1 "pre_open",
        /// Call auction.
        Auction = 2 "auction",
        /// Continuous trading.
        Continuous = 3 "continuous",
        /// Cancels only.
        Halted = 4 "halted",
        /// Call auction that opens the day.
        OpeningAuction = 5 "opening_auction",
        /// Call auction after a price left its band.
        VolatilityAuction = 6 "volatility_auction",
        /// Call auction that closes the day.
        ClosingAuction = 7 "closing_auction",
    }
}

wire_enum! {
    /// Side of an order (FIX 54).
    pub enum Side : u8 {
        /// Buy base for quote.
        Buy = 0 "buy",
        /// Sell base for quote.
        Sell = 1 "sell",
    }
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Side {
        match self {
            Side::Buy => Side::Sell,
            Side::Sell => Side::Buy,
        }
    }
}

wire_enum! {
    /// Sides a mass cancel covers.
    pub enum SideFilter : u8 {
        /// Buys.
        Buy = 0 "buy",
        /// Sells.
        Sell = 1 "sell",
        /// Both.
        Both = 255 "both",
    }
}

wire_enum! {
    /// Order types (FIX 40).
    pub enum OrderType : u8 {
        /// At its price or better.
        Limit = 0 "limit",
        /// At once, at any price up to its protection.
        Market = 1 "market",
        /// Market once the stop price trades.
        Stop = 2 "stop",
        /// Limit once the stop price trades.
        StopLimit = 3 "stop_limit",
        /// A stop whose price follows the market at a distance, and never goes back.
        TrailingStop = 4 "trailing_stop",
        /// At a distance from the best price of the book, whatever it is.
        Pegged = 5 "pegged",
    }
}

wire_enum! {
    /// Which price wakes a stop.
    pub enum Trigger : u8 {
        /// The last trade's.
        Last = 0 "last",
        /// The best bid.
        Bid = 1 "bid",
        /// The best ask.
        Ask = 2 "ask",
    }
}

wire_enum! {
    /// What a pegged order keeps its distance from.
    pub enum Peg : u8 {
        /// Not pegged.
        None = 0 "none",
        /// The best bid.
        Bid = 1 "bid",
        /// The best ask.
        Ask = 2 "ask",
        /// Half way between, rounded away from the other side.
        Mid = 3 "mid",
    }
}

wire_enum! {
    /// Time in force (FIX 59).
    pub enum TimeInForce : u8 {
        /// Until the end of the day.
        Day = 0 "day",
        /// Good till cancelled.
        Gtc = 1 "gtc",
        /// Good till its expiry.
        Gtd = 2 "gtd",
        /// Immediate or cancel.
        Ioc = 3 "ioc",
        /// Fill or kill.
        Fok = 4 "fok",
        /// Opening auction only.
        AtTheOpen = 5 "at_the_open",
        /// Closing auction only.
        AtTheClose = 6 "at_the_close",
        /// Next auction only.
        GoodForAuction = 7 "good_for_auction",
    }
}

wire_enum! {
    /// How the orders of a list hang together (FIX 1385).
    pub enum Contingency : u8 {
        /// What one loses, all lose; where one ends or wakes, the others end.
        Oco = 0 "oco",
        /// The first brings the others to life as it fills; those are an oco.
        Bracket = 1 "bracket",
    }
}

wire_enum! {
    /// What happens when an order would trade with its own participant.
    pub enum SelfTrade : u8 {
        /// In an order: as its instrument says. In an instrument: they trade, as with `allow`.
        Default = 0 "default",
        /// The rest of the incoming order is cancelled.
        CancelIncoming = 1 "cancel_incoming",
        /// The resting order is cancelled.
        CancelResting = 2 "cancel_resting",
        /// Both are cancelled.
        CancelBoth = 3 "cancel_both",
        /// Both shrink by the smaller quantity.
        Decrement = 4 "decrement",
        /// They trade.
        Allow = 5 "allow",
    }
}

wire_enum! {
    /// When the trades of an instrument settle, delivery versus payment (BIS models).
    pub enum Settlement : u8 {
        /// Each fill at once, gross (model 1).
        Immediate = 0 "immediate",
        /// In cycles: securities gross, money net (model 2).
        GrossSecurities = 1 "gross_securities",
        /// In cycles: securities and money net (model 3).
        Net = 2 "net",
    }
}

wire_flags! {
    /// What an account may and may not do.
    pub struct AccountFlags {
        /// Debits stop where credits and credit line end.
        DEBITS_MUST_NOT_EXCEED_CREDITS = 1 "debits_must_not_exceed_credits",
        /// Credits stop where debits end.
        CREDITS_MUST_NOT_EXCEED_DEBITS = 2 "credits_must_not_exceed_debits",
        /// A settlement account: its payments queue when cover is short. Implies
        /// `debits_must_not_exceed_credits`.
        SETTLEMENT = 4 "settlement",
        /// A closing transfer is pending on it: nothing moves but what voids. Not for its opener to
        /// set.
        CLOSED = 8 "closed",
        /// Groups may move parts of their legs on it. Set by `allow_partial_settlement`.
        PARTIAL_SETTLEMENT = 16 "partial_settlement",
        /// For instant payments, around the clock: between two such accounts payments, transfers
        /// and authorisations do not ask the phase of the business day.
        INSTANT = 32 "instant",
    }
}

wire_flags! {
    /// How a transfer moves.
    pub struct TransferFlags {
        /// Stands and falls with the next transfer of its batch.
        LINKED = 1 "linked",
        /// Reserve only.
        PENDING = 2 "pending",
        /// Post a pending transfer.
        POST_PENDING = 4 "post_pending",
        /// Void a pending transfer.
        VOID_PENDING = 8 "void_pending",
        /// Move at most what the debit account has.
        BALANCING_DEBIT = 16 "balancing_debit",
        /// Move at most what the credit account may take.
        BALANCING_CREDIT = 32 "balancing_credit",
        /// Close the debit account.
        CLOSING_DEBIT = 64 "closing_debit",
        /// Close the credit account.
        CLOSING_CREDIT = 128 "closing_credit",
    }
}

wire_struct! {
    /// Names an asset.
    pub struct CreateAsset {
        /// Its number.
        asset: AssetId,
        /// Decimal places of the minor unit, for people; the engine counts minor units.
        scale: u8,
        /// Cash or security.
        kind: AssetKind = 0,
        /// Reserved.
        _reserved: [Zero; 10],
        /// Its code (ISO 4217, ISIN).
        code: Text16,
    }
}

wire_struct! {
    /// Names a participant.
    pub struct CreateParticipant {
        /// Its number.
        participant: ParticipantId,
        /// Those of one group count as one in self-trade prevention; 0 for none.
        group: u32 = 0,
        /// Reserved.
        _reserved: [Zero; 8],
        /// Its code (BIC, LEI prefix).
        code: Text16,
    }
}

wire_struct! {
    /// Opens an account of one participant in one asset.
    pub struct CreateAccount {
        /// Its number, not 0.
        account: AccountId,
        /// Its owner.
        participant: ParticipantId,
        /// What it holds.
        asset: AssetId,
        /// How far below zero it may go, minor units, by day and night.
        credit_line: Amount = 0,
        /// What it may do.
        flags: AccountFlags = 0,
        /// Reserved.
        _reserved: [Zero; 14],
    }
}

wire_struct! {
    /// Moves money between two accounts of one asset. Idempotent by id.
    pub struct Transfer {
        /// The transfer's id.
        id: TransferId,
        /// Pays. May be left out to post or void.
        debit_account: AccountId = 0,
        /// Receives. May be left out to post or void.
        credit_account: AccountId = 0,
        /// Minor units. To post, 2^128-1 (or nothing said) posts all; to void, 0 or the whole.
        amount: Amount = u128::MAX,
        /// The pending transfer to post or void.
        pending_id: TransferId = 0,
        /// Opaque to the engine.
        user_data_128: u128 = 0,
        /// Opaque to the engine.
        user_data_64: u64 = 0,
        /// Opaque to the engine.
        user_data_32: u32 = 0,
        /// A pending transfer's life in seconds, 0 for ever.
        timeout_s: u32 = 0,
        /// The asset it means to move, 0 to leave it to the accounts.
        asset: AssetId = 0,
        /// Opaque to the engine.
        code: u16 = 0,
        /// How it moves.
        flags: TransferFlags = 0,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

impl TransferFlags {
    /// Whether it posts or voids a pending transfer.
    #[inline]
    pub fn resolves(self) -> bool {
        self.0 & (TransferFlags::POST_PENDING.0 | TransferFlags::VOID_PENDING.0) != 0
    }

    /// Whether it moves no more than a balance allows.
    #[inline]
    pub fn is_balancing(self) -> bool {
        self.0 & (TransferFlags::BALANCING_DEBIT.0 | TransferFlags::BALANCING_CREDIT.0) != 0
    }

    /// Whether it closes an account.
    #[inline]
    pub fn is_closing(self) -> bool {
        self.0 & (TransferFlags::CLOSING_DEBIT.0 | TransferFlags::CLOSING_CREDIT.0) != 0
    }
}

impl Transfer {
    /// The amount it asks to post, minor units; `None` for all that is pending.
    pub fn amount_to_post(&self) -> Option<Amount> {
        (self.amount != Amount::MAX).then_some(self.amount)
    }

    /// The amount it asks to void, minor units; `None` for all that is pending.
    pub fn amount_to_void(&self) -> Option<Amount> {
        (self.amount != Amount::MAX && self.amount != Amount::ZERO).then_some(self.amount)
    }
}

wire_struct! {
    /// Head of a batch of transfers: `count` transfers follow.
    pub struct Transfers {
        /// Number of transfers, 1 to 8,190.
        count: u32,
        /// Reserved.
        _reserved: [Zero; 12],
    }
}

wire_struct! {
    /// Holds money for later captures.
    pub struct Authorise {
        /// The authorisation's id.
        id: TransferId,
        /// Pays.
        debit_account: AccountId,
        /// Receives.
        credit_account: AccountId,
        /// Minor units to hold.
        amount: Amount,
        /// When it lapses, 0 for never.
        expires_at: Timestamp = 0,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// A later step of an authorisation: increment, capture, void or refund.
    pub struct AuthorisationStep {
        /// The step's own id; where no `authorisation` is named, the authorisation's.
        id: TransferId,
        /// The authorisation.
        authorisation: TransferId = 0,
        /// Minor units. To void, 2^128-1 (or nothing said) voids all that is held.
        amount: Amount = u128::MAX,
        /// Pays, where the step names it; must agree with the authorisation.
        debit_account: AccountId = 0,
        /// Receives, where the step names it; must agree with the authorisation.
        credit_account: AccountId = 0,
        /// The last capture: what is left is released.
        is_final as "final": Bool = 0,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// Names one transfer or authorisation.
    pub struct TransferRef {
        /// Its id.
        id: TransferId,
    }
}

wire_struct! {
    /// A payment that settles at once or waits in its debtor's queue.
    pub struct SubmitPayment {
        /// UETR.
        id: PaymentId,
        /// Pays.
        debtor_account: AccountId,
        /// Receives.
        creditor_account: AccountId,
        /// Minor units, not 0.
        amount: Amount,
        /// The payment this one returns, 0 for none.
        return_of: PaymentId = 0,
        /// Not before, 0 for at once.
        earliest_at: Timestamp = 0,
        /// Not after, 0 for end of day.
        latest_at: Timestamp = 0,
        /// Its class.
        priority: Priority = 2,
        /// Reserved.
        _reserved: [Zero; 3],
        /// The business date on which it is to settle, 0 for the present one.
        value_date: u32 = 0,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// Names one payment: cancel, hold, release.
    pub struct PaymentRef {
        /// UETR.
        id: PaymentId,
    }
}

wire_struct! {
    /// Gives a queued payment another class.
    pub struct SetPaymentPriority {
        /// UETR.
        id: PaymentId,
        /// Its new class.
        priority: Priority,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// Moves a queued payment within its class.
    pub struct MovePayment {
        /// UETR.
        id: PaymentId,
        /// Where to.
        position: Position,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// Head of a group that settles at once or waits: `count` legs follow.
    pub struct SubmitGroup {
        /// The group's id.
        id: PaymentId,
        /// Not after, 0 for end of day.
        latest_at: Timestamp = 0,
        /// Number of legs.
        count: u32,
        /// Its class.
        priority: Priority = 2,
        /// How its legs settle.
        procedure: GroupProcedure = 0,
        /// Least part that settles, of the whole group, in thousandths; 0 reads as 1.
        minimum_permille: u16 = 0,
    }
}

wire_struct! {
    /// One leg of a group.
    pub struct Leg {
        /// Pays.
        debit_account: AccountId,
        /// Receives.
        credit_account: AccountId,
        /// Minor units.
        amount: Amount,
    }
}

wire_struct! {
    /// Sets how far an account may go below zero.
    pub struct SetCreditLine {
        /// The account.
        account: AccountId,
        /// Stays overnight; else what is used of it is due at the end of the day.
        permanent: Bool = 0,
        /// Reserved.
        _reserved: [Zero; 7],
        /// Minor units.
        amount: Amount,
    }
}

wire_struct! {
    /// Says whether groups may move parts of their legs on an account.
    pub struct AllowPartialSettlement {
        /// The account.
        account: AccountId,
        /// Whether they may.
        allowed: Bool = 1,
        /// Reserved.
        _reserved: [Zero; 7],
    }
}

wire_struct! {
    /// Says what a security is worth as cover.
    pub struct SetCollateralValue {
        /// The security.
        asset: AssetId,
        /// Taken off its price, basis points.
        haircut_bps: u32 = 0,
        /// Minor units of cash per minor unit of it; 0 where it is no cover.
        price: u64,
    }
}

wire_struct! {
    /// Gives a cash account a collateral pool over a securities account of its owner, or its pool
    /// another one.
    pub struct SetCollateralPool {
        /// The cash account.
        account: AccountId,
        /// Where pledged securities lie.
        securities_account: AccountId,
        /// Most credit the pool gives, minor units.
        cap: Amount,
        /// A group that is short of cash pledges what it buys or finds.
        automatic: Bool = 0,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// Pledges securities of a pool, or takes them back.
    pub struct Pledge {
        /// The pool's cash account.
        account: AccountId,
        /// Which of its securities accounts, 0 for the first.
        securities_account: AccountId = 0,
        /// Minor units of the security.
        quantity: Amount,
    }
}

wire_struct! {
    /// Reserves liquidity for a class.
    pub struct SetReservation {
        /// The account.
        account: AccountId,
        /// For which class.
        class: ReservationClass,
        /// Reserved.
        _reserved: [Zero; 7],
        /// Minor units.
        amount: Amount,
    }
}

wire_struct! {
    /// Bounds what normal payments of one account may net send to another.
    pub struct SetBilateralLimit {
        /// The account that limits itself.
        account: AccountId,
        /// Toward this one.
        counterparty: AccountId,
        /// Minor units; 2^128-1 (`null` in scripts) removes the limit.
        amount: Amount,
    }
}

wire_struct! {
    /// Bounds what normal payments may net send to all without a bilateral limit.
    pub struct SetMultilateralLimit {
        /// The account that limits itself.
        account: AccountId,
        /// Reserved.
        _reserved: [Zero; 8],
        /// Minor units; 2^128-1 (`null` in scripts) removes the limit.
        amount: Amount,
    }
}

wire_struct! {
    /// Switches the parts of liquidity saving.
    pub struct SetLiquiditySaving {
        /// Offset at entry.
        entry_offset: Switch = 255,
        /// Normal payments may overtake queued normal ones.
        bypass: Switch = 255,
        /// Resolution without being asked.
        automatic: Switch = 255,
        /// What automatic runs run.
        algorithm: AlgorithmChoice = 255,
        /// Newly queued payments that make an automatic run, 0 for none; 2^32-1 leaves it.
        every_queued: u32 = u32::MAX,
        /// Milliseconds between automatic runs, 0 for none; 2^32-1 leaves it.
        interval_ms: u32 = u32::MAX,
        /// Payments that release looks at in one command, 0 to leave it.
        scan_bound: u32 = 0,
    }
}

wire_struct! {
    /// Runs one algorithm now.
    pub struct RunLiquiditySaving {
        /// Which.
        algorithm: Algorithm,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// Head of a settlement batch found outside: `count` payment ids follow.
    pub struct ProposeBatch {
        /// The sequence of the state it was computed on, 0 where it does not say.
        based_on_seq: u64 = 0,
        /// Number of payments.
        count: u32,
        /// Reserved.
        _reserved: [Zero; 4],
    }
}

wire_struct! {
    /// Sets what a participant may do.
    pub struct SetParticipantState {
        /// The participant.
        participant: ParticipantId,
        /// Its new state.
        state: ParticipantState,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// Moves the business day on.
    pub struct SetPhase {
        /// The new phase.
        phase: DayPhase,
        /// Reserved.
        _reserved: [Zero; 3],
        /// Date of a day that begins, above the last one; 0 for the next number.
        business_date: u32 = 0,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// Lists an instrument.
    pub struct CreateInstrument {
        /// Its number.
        instrument: InstrumentId,
        /// What is traded.
        base_asset: AssetId,
        /// What it is paid in.
        quote_asset: AssetId,
        /// Basis points of notional the resting side pays; negative is a rebate.
        maker_fee_bps: i32 = 0,
        /// Basis points of notional the incoming side pays.
        taker_fee_bps: i32 = 0,
        /// What happens when a participant meets itself.
        self_trade: SelfTrade = 0,
        /// When trades settle.
        settlement: Settlement = 0,
        /// The tick table that says which prices there are, 0 for `price_step`.
        tick_table: u16 = 0,
        /// Base minor units per lot, not 0.
        lot_size: u64,
        /// Quote minor units per lot per tick, not 0.
        tick_value: u64,
        /// Lowest price, ticks.
        min_price: Price = 1,
        /// Highest price, ticks.
        max_price: Price = i64::MAX,
        /// Largest quantity of one order, lots.
        max_quantity: Quantity = u64::MAX,
        /// Where fees go; needed where a fee is not 0.
        fee_account: AccountId = 0,
        /// Smallest quantity of one order, lots.
        min_quantity: Quantity = 1,
        /// Prices are multiples of this, ticks.
        price_step: u64 = 1,
        /// What bands are measured from until an auction (static) or a trade (dynamic) has said something
        /// newer, ticks; 0 for nothing.
        reference_price: Price = 0,
        /// How far a limit or a trade may lie from the reference price, ticks; 0 for anywhere.
        static_band: u64 = 0,
        /// How far a trade may lie from the last one, ticks; 0 for anywhere. Beyond it an auction
        /// begins.
        dynamic_band: u64 = 0,
        /// Largest notional of one order, quote minor units; 0 for any.
        max_notional: Amount = 0,
    }
}

wire_struct! {
    /// Head of a tick table: `count` steps follow, by price.
    pub struct CreateTickTable {
        /// Its number, not 0.
        tick_table: u16,
        /// Reserved.
        _reserved: [Zero; 2],
        /// Number of steps, 1 to 32.
        count: u32,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// One step of a tick table: from here on prices are multiples of `step`.
    pub struct TickStep {
        /// The first price it is for, itself such a multiple, ticks.
        from: Price,
        /// Ticks, not 0.
        step: u64,
    }
}

wire_struct! {
    /// Moves an instrument to another phase.
    pub struct SetInstrumentPhase {
        /// The instrument.
        instrument: InstrumentId,
        /// Its new phase.
        phase: InstrumentPhase,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// A new order (FIX NewOrderSingle).
    pub struct PlaceOrder {
        /// Whose it is.
        participant: ParticipantId,
        /// What it trades.
        instrument: InstrumentId,
        /// Its id at the participant, not 0.
        client_order_id: ClientOrderId,
        /// Limit price in ticks; 0 for an order without one.
        price: Price = 0,
        /// Lots.
        quantity: Quantity,
        /// Trigger price in ticks, 0 for none.
        stop_price: Price = 0,
        /// Lots shown, 0 for all.
        display_quantity: Quantity = 0,
        /// When it lapses (gtd).
        expires_at: Timestamp = 0,
        /// The price a market order never crosses, ticks; 0 for the instrument's.
        protection: Price = 0,
        /// Buy or sell.
        side: Side,
        /// Limit, market, stop, stop-limit.
        order_type as "type": OrderType = 0,
        /// How long it lives.
        time_in_force: TimeInForce = 1,
        /// Refused where it would trade at once.
        post_only: Bool = 0,
        /// What happens when it meets its own participant.
        self_trade: SelfTrade = 0,
        /// A post-only order that would trade is put one step short of it instead of refused.
        slide: Bool = 0,
        /// What a pegged order follows.
        peg: Peg = 0,
        /// Stays where its session has all others cancelled at its end.
        keep_on_disconnect: Bool = 0,
        /// Which price wakes a stop.
        trigger: Trigger = 0,
        /// Reserved.
        _reserved: [Zero; 7],
        /// Ticks: how far a trailing stop lies behind the market, at least 1; or what is added to the
        /// price that a pegged order follows, also 0 and below.
        offset: Price = 0,
        /// Lots that must fill at once, else none; 0 for any.
        min_quantity: Quantity = 0,
    }
}

wire_struct! {
    /// Head of a list of linked orders (FIX NewOrderList): `count` orders of one participant and
    /// instrument follow. All are entered, or none.
    pub struct PlaceOrderList {
        /// Number of orders, 2 to 4.
        count: u32,
        /// How they hang together.
        contingency: Contingency = 0,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// Takes an order out of the book, by either id.
    pub struct CancelOrder {
        /// Whose it is.
        participant: ParticipantId,
        /// Reserved.
        _reserved: [Zero; 4],
        /// Its id at the participant, or 0.
        client_order_id: ClientOrderId = 0,
        /// Its id at the engine, or 0.
        order_id: OrderId = 0,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// Changes an order (FIX OrderCancelReplaceRequest), by either id.
    pub struct ReplaceOrder {
        /// Whose it is.
        participant: ParticipantId,
        /// Reserved.
        _reserved: [Zero; 4],
        /// Its id at the participant, or 0.
        client_order_id: ClientOrderId = 0,
        /// Its id at the engine, or 0.
        order_id: OrderId = 0,
        /// New limit price in ticks; `i64::MIN` leaves it.
        price: Price = i64::MIN,
        /// New total quantity in lots, what is filled included; 2^64-1 leaves it.
        quantity: Quantity = u64::MAX,
        /// Its id from now on, 0 leaves it.
        new_client_order_id: ClientOrderId = 0,
    }
}

wire_struct! {
    /// Takes all orders of a participant, or of a session, out of the book.
    pub struct MassCancel {
        /// Whose; 0 for everybody's of the session.
        participant: ParticipantId = 0,
        /// Of which instrument; `u32::MAX` for all.
        instrument: InstrumentId = u32::MAX,
        /// Of which side.
        side: SideFilter = 255,
        /// Reserved.
        _reserved: [Zero; 7],
        /// Of which session, where that asked to be cancelled at its end; 0 for all.
        session: u64 = 0,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// What becomes of a session's orders when its connection ends.
    pub struct CancelOnDisconnect {
        /// Whether those it enters from now on are cancelled.
        enabled: Bool = 1,
        /// Reserved.
        _reserved: [Zero; 7],
        /// The session; 0 for the one that asks.
        session: u64 = 0,
    }
}

wire_struct! {
    /// Has every change to a book published, order by order.
    pub struct PublishBook {
        /// The instrument.
        instrument: InstrumentId,
        /// Whether it is, from now on.
        enabled: Bool = 1,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// A session's connection has ended.
    pub struct SessionRef {
        /// The session; 0 for the one that asks.
        session: u64 = 0,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// Names one instrument: uncross.
    pub struct InstrumentRef {
        /// The instrument.
        instrument: InstrumentId,
        /// Reserved.
        _reserved: [Zero; 12],
    }
}

wire_struct! {
    /// Names one account: query_account, query_queue.
    pub struct AccountRef {
        /// The account.
        account: AccountId,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// Asks for an order, by either id.
    pub struct QueryOrder {
        /// Whose it is, where the participant's id is used.
        participant: ParticipantId = 0,
        /// Reserved.
        _reserved: [Zero; 4],
        /// Its id at the participant, or 0.
        client_order_id: ClientOrderId = 0,
        /// Its id at the engine, or 0.
        order_id: OrderId = 0,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// Asks for a book.
    pub struct QueryBook {
        /// The instrument.
        instrument: InstrumentId,
        /// Price levels of each side, 1 to 1,000.
        depth: u32 = 10,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// Asks for participants.
    pub struct QueryParticipants {
        /// Those of this group, 0 for all.
        group: u32 = 0,
        /// Reserved.
        _reserved: [Zero; 12],
    }
}

wire_struct! {
    /// Asks for what an instrument's next cycle will move.
    pub struct QueryPositions {
        /// The instrument.
        instrument: InstrumentId,
        /// Only this participant's, 0 for all.
        participant: ParticipantId = 0,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// Carries nothing: tick, query_digest.
    pub struct Empty {
        /// Reserved.
        _reserved: [Zero; 16],
    }
}

/// What follows the body of a kind that carries a list.
#[derive(Clone, Copy, Debug)]
pub struct Items {
    /// Name of the list in scripts.
    pub name: &'static str,
    /// Fields of one item.
    pub fields: &'static [Field],
    /// Bytes of one item.
    pub size: usize,
}

/// Most items a command may carry: with its head, 8,190 transfers make one frame below 1 MiB.
pub const ITEMS_MAX: usize = 8_190;

wire_struct! {
    /// One payment of a proposed batch.
    pub struct BatchItem {
        /// UETR.
        id: PaymentId,
    }
}

wire_enum! {
    /// Kinds that throttles count; a transfer of a batch counts like one alone. What only takes
    /// back (cancels, holds, voids) is never throttled.
    pub enum ThrottledKind : u16 {
        /// All of them together.
        Any = 0 "any",
        /// Transfers, alone or in a batch.
        Transfer = 4 "transfer",
        /// Authorisations.
        Authorise = 6 "authorise",
        /// Increments of authorisations.
        Increment = 7 "increment",
        /// Captures: their value counted when it was held.
        Capture = 8 "capture",
        /// Refunds.
        Refund = 10 "refund",
        /// Payments.
        SubmitPayment = 11 "submit_payment",
        /// Groups: each leg counts.
        SubmitGroup = 17 "submit_group",
        /// New orders.
        PlaceOrder = 29 "place_order",
        /// Changes of orders: their value is what they add.
        ReplaceOrder = 30 "replace_order",
    }
}

wire_struct! {
    /// Has an administrative kind need two users, or no longer.
    pub struct SetFourEyes {
        /// Which kind.
        kind: CommandKind,
        /// Whether it needs them.
        required: Bool = 1,
        /// Reserved.
        _reserved: [Zero; 13],
    }
}

wire_struct! {
    /// Head of a proposal: the body of the proposed command follows in `count` words.
    pub struct Propose {
        /// When it lapses; 0 for when the next business day begins, which ends it at the latest.
        expires_at: Timestamp = 0,
        /// Words of 16 bytes.
        count: u32,
        /// Kind of the proposed command.
        kind: CommandKind,
        /// Reserved.
        _reserved: [Zero; 2],
    }
}

wire_struct! {
    /// Sixteen bytes of a proposed command's body.
    pub struct CommandWord {
        /// The bytes.
        word: u128,
    }
}

wire_struct! {
    /// Names one proposal: approve, reject.
    pub struct ProposalRef {
        /// The proposal.
        proposal: u64,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// Bounds how many commands, and how much value, get in per window; without a count and an
    /// amount there is no bound any more.
    pub struct SetThrottle {
        /// Whose commands; 0 for everybody's together.
        participant: ParticipantId = 0,
        /// In which asset; 0 for all together.
        asset: AssetId = 0,
        /// Length of the window; 0 for the business day.
        window_ms: u32 = 0,
        /// Of which kind.
        kind: ThrottledKind = 0,
        /// Reserved.
        _reserved: [Zero; 2],
        /// Most minor units per window; 2^128-1 for any.
        amount: Amount = u128::MAX,
        /// Most commands per window; 2^64-1 for any.
        count: u64 = u64::MAX,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_enum! {
    /// A phase in a command that may mean the present one.
    pub enum PhaseChoice : u8 {
        /// Closed.
        Closed = 0 "closed",
        /// Start of day.
        Sod = 1 "sod",
        /// Liquidity.
        Liquidity = 2 "liquidity",
        /// Open.
        Open = 3 "open",
        /// Customer payments have ended.
        Cut1 = 4 "cut1",
        /// Interbank payments have ended.
        Cut2 = 5 "cut2",
        /// End of day.
        Eod1 = 6 "eod1",
        /// End-of-day work.
        Eod2 = 7 "eod2",
        /// Reconciliation.
        Recon = 8 "recon",
        /// The present one.
        Present = 255 "present",
    }
}

wire_struct! {
    /// Has a phase begin by the clock.
    pub struct SchedulePhase {
        /// When; 0 for no longer.
        begins_at: Timestamp = 0,
        /// Which phase.
        phase: DayPhase,
        /// Reserved.
        _reserved: [Zero; 7],
    }
}

wire_struct! {
    /// Moves the end of a phase, and with it all that is scheduled behind it until the day closes.
    pub struct ExtendPhase {
        /// Seconds; below zero it ends earlier.
        by_s: i32,
        /// Which phase.
        phase: PhaseChoice = 255,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// Names the account that lends overnight what another has not repaid at the end of the day.
    pub struct SetOvernightCredit {
        /// The account that borrows.
        account: AccountId,
        /// The account that lends; 0 for none.
        lender_account: AccountId = 0,
    }
}

macro_rules! commands {
    ($( $(#[doc = $doc:literal])* $variant:ident = $code:literal $text:literal, $body:ident $(, $list:literal of $item:ident)? ; )*) => {
        wire_enum! {
            /// Every kind of command. Codes from 1,024 on are queries: answered in order, never
            /// journaled, without a sequence of their own.
            pub enum CommandKind : u16 {
                $( $(#[doc = $doc])* $variant = $code $text, )*
            }
        }

        /// A validated command: its kind and its body where it lies.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Command<'a> {
            $( $(#[doc = $doc])* $variant(&'a $body $(, &'a [$item])?), )*
        }

        impl CommandKind {
            /// Fields of its body.
            pub const fn fields(self) -> &'static [Field] {
                match self { $(CommandKind::$variant => <$body as WireStruct>::FIELDS,)* }
            }

            /// Bytes of its body, its list not counted.
            pub const fn body_size(self) -> usize {
                match self { $(CommandKind::$variant => size_of::<$body>(),)* }
            }

            /// The list it carries, if any.
            pub const fn items(self) -> Option<Items> {
                match self { $(CommandKind::$variant => commands!(@items $($list of $item)?),)* }
            }

            /// The name of its body in the source.
            pub const fn body_name(self) -> &'static str {
                match self { $(CommandKind::$variant => stringify!($body),)* }
            }
        }

        impl<'a> Command<'a> {
            /// Validates `body` (a whole body, its list included) as one of `kind`.
            #[inline(always)]
            pub fn decode(kind: CommandKind, body: &'a [u8]) -> Result<Command<'a>, BodyError> {
                Ok(match kind {
                    $(CommandKind::$variant => commands!(@decode $variant, body, $body $(, $item)?),)*
                })
            }
        }
    };
    (@items) => { None };
    (@items $list:literal of $item:ident) => {
        Some(Items { name: $list, fields: <$item as WireStruct>::FIELDS, size: size_of::<$item>() })
    };
    (@decode $variant:ident, $bytes:ident, $body:ident) => {
        Command::$variant(body_of::<$body>($bytes)?)
    };
    (@decode $variant:ident, $bytes:ident, $body:ident, $item:ident) => {{
        let (head, items) = list_of::<$body, $item>($bytes)?;
        if head.count as usize != items.len() {
            return Err(BodyError::WrongCount);
        }
        Command::$variant(head, items)
    }};
}

/// Why a body is not what its kind says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Wrong length for its kind.
    WrongLength,
    /// A coded byte has no meaning, or a reserved byte is not zero.
    InvalidValue,
    /// The list is not as long as its head says.
    WrongCount,
    /// The body does not lie at a multiple of 16 bytes.
    Misaligned,
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            BodyError::WrongLength => "body has the wrong length for its kind",
            BodyError::InvalidValue => {
                "a coded field has no such value, or a reserved byte is not zero"
            }
            BodyError::WrongCount => "the list is not as long as its count says",
            BodyError::Misaligned => "body is not aligned to 16 bytes",
        })
    }
}

impl std::error::Error for BodyError {}

fn body_error<Src, Dst: ?Sized + zerocopy::TryFromBytes>(
    error: zerocopy::TryCastError<Src, Dst>,
) -> BodyError {
    match error {
        zerocopy::ConvertError::Alignment(_) => BodyError::Misaligned,
        zerocopy::ConvertError::Size(_) => BodyError::WrongLength,
        zerocopy::ConvertError::Validity(_) => BodyError::InvalidValue,
    }
}

#[inline]
fn body_of<T>(bytes: &[u8]) -> Result<&T, BodyError>
where
    T: zerocopy::TryFromBytes + zerocopy::KnownLayout + zerocopy::Immutable,
{
    T::try_ref_from_bytes(bytes).map_err(body_error)
}

#[inline]
fn list_of<H, T>(bytes: &[u8]) -> Result<(&H, &[T]), BodyError>
where
    H: zerocopy::TryFromBytes + zerocopy::KnownLayout + zerocopy::Immutable,
    T: zerocopy::TryFromBytes + zerocopy::KnownLayout + zerocopy::Immutable,
{
    let (head, rest) = H::try_ref_from_prefix(bytes).map_err(body_error)?;
    let items = <[T] as zerocopy::TryFromBytes>::try_ref_from_bytes(rest).map_err(body_error)?;
    Ok((head, items))
}

commands! {
    /// Names an asset.
    CreateAsset = 1 "create_asset", CreateAsset;
    /// Names a participant.
    CreateParticipant = 2 "create_participant", CreateParticipant;
    /// Opens an account.
    CreateAccount = 3 "create_account", CreateAccount;
    /// Moves money.
    Transfer = 4 "transfer", Transfer;
    /// Moves money many times in one command.
    Transfers = 5 "transfers", Transfers, "transfers" of Transfer;
    /// Holds money for captures.
    Authorise = 6 "authorise", Authorise;
    /// Raises an authorisation.
    Increment = 7 "increment", AuthorisationStep;
    /// Takes part of what is held.
    Capture = 8 "capture", AuthorisationStep;
    /// Releases part or all of what is held.
    Void = 9 "void", AuthorisationStep;
    /// Gives back part or all of what was captured.
    Refund = 10 "refund", AuthorisationStep;
    /// Settles or queues a payment.
    SubmitPayment = 11 "submit_payment", SubmitPayment;
    /// Takes a payment out of its queue.
    CancelPayment = 12 "cancel_payment", PaymentRef;
    /// Keeps a queued payment from settling.
    HoldPayment = 13 "hold_payment", PaymentRef;
    /// Lets a held payment settle.
    ReleasePayment = 14 "release_payment", PaymentRef;
    /// Gives a queued payment another class.
    SetPaymentPriority = 15 "set_payment_priority", SetPaymentPriority;
    /// Moves a queued payment within its class.
    MovePayment = 16 "move_payment", MovePayment;
    /// Settles or queues a group of legs.
    SubmitGroup = 17 "submit_group", SubmitGroup, "legs" of Leg;
    /// Sets a credit line.
    SetCreditLine = 18 "set_credit_line", SetCreditLine;
    /// Reserves liquidity.
    SetReservation = 19 "set_reservation", SetReservation;
    /// Limits net payments toward one account.
    SetBilateralLimit = 20 "set_bilateral_limit", SetBilateralLimit;
    /// Limits net payments toward all others.
    SetMultilateralLimit = 21 "set_multilateral_limit", SetMultilateralLimit;
    /// Switches liquidity saving.
    SetLiquiditySaving = 22 "set_liquidity_saving", SetLiquiditySaving;
    /// Runs one liquidity-saving algorithm.
    RunLiquiditySaving = 23 "run_liquidity_saving", RunLiquiditySaving;
    /// Settles a batch found outside, if it is feasible.
    ProposeBatch = 24 "propose_batch", ProposeBatch, "payments" of BatchItem;
    /// Sets what a participant may do.
    SetParticipantState = 25 "set_participant_state", SetParticipantState;
    /// Moves the business day on.
    SetPhase = 26 "set_phase", SetPhase;
    /// Lists an instrument.
    CreateInstrument = 27 "create_instrument", CreateInstrument;
    /// Moves an instrument to another phase.
    SetInstrumentPhase = 28 "set_instrument_phase", SetInstrumentPhase;
    /// Enters an order.
    PlaceOrder = 29 "place_order", PlaceOrder;
    /// Cancels an order.
    CancelOrder = 30 "cancel_order", CancelOrder;
    /// Changes an order.
    ReplaceOrder = 31 "replace_order", ReplaceOrder;
    /// Cancels many orders.
    MassCancel = 32 "mass_cancel", MassCancel;
    /// Uncrosses an auction.
    Uncross = 33 "uncross", InstrumentRef;
    /// Lets time pass.
    Tick = 34 "tick", Empty;
    /// Has a session's orders cancelled when its connection ends.
    CancelOnDisconnect = 40 "cancel_on_disconnect", CancelOnDisconnect;
    /// A session's connection has ended.
    Disconnect = 41 "disconnect", SessionRef;
    /// Has every change to a book published, order by order, or no more so.
    PublishBook = 42 "publish_book", PublishBook;
    /// Enters orders that hang together: all of them, or none.
    PlaceOrderList = 43 "place_order_list", PlaceOrderList, "orders" of PlaceOrder;
    /// Says which prices there are, for many instruments.
    CreateTickTable = 44 "create_tick_table", CreateTickTable, "steps" of TickStep;
    /// Settles what an instrument has traded since its last cycle.
    SettleCycle = 45 "settle_cycle", InstrumentRef;
    /// Says what a security is worth as cover.
    SetCollateralValue = 50 "set_collateral_value", SetCollateralValue;
    /// Gives a cash account a collateral pool.
    SetCollateralPool = 51 "set_collateral_pool", SetCollateralPool;
    /// Pledges securities.
    PledgeCollateral = 52 "pledge_collateral", Pledge;
    /// Takes pledged securities back.
    ReleaseCollateral = 53 "release_collateral", Pledge;
    /// Has an administrative kind need two users.
    SetFourEyes = 60 "set_four_eyes", SetFourEyes;
    /// Proposes an administrative command for another user to approve.
    Propose = 61 "propose", Propose, "command" of CommandWord;
    /// Approves a proposal: its command is executed.
    Approve = 62 "approve", ProposalRef;
    /// Rejects a proposal.
    Reject = 63 "reject", ProposalRef;
    /// Bounds commands and value per window.
    SetThrottle = 64 "set_throttle", SetThrottle;
    /// Has a phase of the business day begin by the clock.
    SchedulePhase = 65 "schedule_phase", SchedulePhase;
    /// Extends a phase of the business day.
    ExtendPhase = 66 "extend_phase", ExtendPhase;
    /// Names who lends overnight what is not repaid.
    SetOvernightCredit = 67 "set_overnight_credit", SetOvernightCredit;
    /// Lets groups move parts of their legs on an account, or no more so.
    AllowPartialSettlement = 70 "allow_partial_settlement", AllowPartialSettlement;
    /// Asks for an account.
    QueryAccount = 1024 "query_account", AccountRef;
    /// Asks for a payment.
    QueryPayment = 1025 "query_payment", PaymentRef;
    /// Asks for an order.
    QueryOrder = 1026 "query_order", QueryOrder;
    /// Asks for a book.
    QueryBook = 1027 "query_book", QueryBook;
    /// Asks for an account's queue.
    QueryQueue = 1028 "query_queue", AccountRef;
    /// Asks for the digest of the whole state.
    QueryDigest = 1029 "query_digest", Empty;
    /// Asks for every order a book shows.
    QueryBookOrders = 1040 "query_book_orders", InstrumentRef;
    /// Asks for a transfer of the idempotency window.
    QueryTransfer = 1030 "query_transfer", TransferRef;
    /// Asks for an authorisation.
    QueryAuthorisation = 1031 "query_authorisation", TransferRef;
    /// Asks for the proposals of the day.
    QueryProposals = 1050 "query_proposals", Empty;
    /// Asks for the throttles and what is used of them.
    QueryThrottles = 1051 "query_throttles", Empty;
    /// Asks where the business day stands.
    QueryDay = 1052 "query_day", Empty;
    /// Asks for the credit of an account, part by part.
    QueryCredit = 1053 "query_credit", AccountRef;
    /// Asks for a group and its legs.
    QueryGroup = 1060 "query_group", PaymentRef;
    /// Asks for the participants, or those of a group.
    QueryParticipants = 1070 "query_participants", QueryParticipants;
    /// Asks for what an instrument's next cycle will move.
    QueryPositions = 1041 "query_positions", QueryPositions;
}

impl CommandKind {
    /// Codes from here on are queries.
    pub const FIRST_QUERY: u16 = 1024;

    /// Whether it asks and changes nothing: queries are not journaled.
    pub const fn is_query(self) -> bool {
        self as u16 >= Self::FIRST_QUERY
    }

    /// Whether it is an operator's to give: what two users can be asked for.
    pub const fn is_administrative(self) -> bool {
        matches!(
            self,
            CommandKind::CreateAsset
                | CommandKind::CreateParticipant
                | CommandKind::CreateAccount
                | CommandKind::SetCreditLine
                | CommandKind::SetReservation
                | CommandKind::SetBilateralLimit
                | CommandKind::SetMultilateralLimit
                | CommandKind::SetLiquiditySaving
                | CommandKind::RunLiquiditySaving
                | CommandKind::SetParticipantState
                | CommandKind::SetPhase
                | CommandKind::CreateInstrument
                | CommandKind::SetInstrumentPhase
                | CommandKind::Uncross
                | CommandKind::PublishBook
                | CommandKind::SetCollateralValue
                | CommandKind::SetCollateralPool
                | CommandKind::PledgeCollateral
                | CommandKind::ReleaseCollateral
                | CommandKind::SetFourEyes
                | CommandKind::SetThrottle
                | CommandKind::SchedulePhase
                | CommandKind::ExtendPhase
                | CommandKind::SetOvernightCredit
                | CommandKind::AllowPartialSettlement
                | CommandKind::SettleCycle
        )
    }
}
