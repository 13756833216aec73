//! Events: what the engine answers, one body per kind. Field order is byte order; a field that
//! holds its default is left out of the JSON line.

use super::command::{
    AccountFlags, Algorithm, CommandKind, DayPhase, GroupProcedure, InstrumentPhase, OrderType,
    ParticipantState, Priority, Settlement, Side, ThrottledKind, TimeInForce, TransferFlags,
};
use super::reason::{CancelReason, Reason};
use super::units::{
    AccountId, Amount, AssetId, ClientOrderId, InstrumentId, OrderId, ParticipantId, PaymentId,
    Price, Quantity, Timestamp, TransferId,
};
use super::wire::{Bool, Field, Text16, WireStruct, Zero, wire_enum, wire_struct};

wire_enum! {
    /// What made a payment settle.
    pub enum SettledBy : u8 {
        /// Nothing did.
        None = 0 "none",
        /// Covered at entry.
        Entry = 1 "entry",
        /// Offset at entry.
        Offset = 2 "offset",
        /// Released from the queue.
        Release = 3 "release",
        /// Gridlock resolution.
        Grp = 4 "grp",
        /// Bilateral offset.
        Bilateral = 5 "bilateral",
        /// Greedy bypass.
        Greedy = 6 "greedy",
        /// A batch found outside.
        Batch = 7 "batch",
        /// All or nothing over every queue.
        Multiple = 8 "multiple",
    }
}

wire_enum! {
    /// Where a payment is in its life.
    pub enum PaymentState : u8 {
        /// In its debtor's queue.
        Queued = 0 "queued",
        /// Final.
        Settled = 1 "settled",
        /// Its time lies ahead.
        Warehoused = 2 "warehoused",
        /// Taken back by its sender.
        Cancelled = 3 "cancelled",
        /// Refused, or out of time.
        Rejected = 4 "rejected",
    }
}

wire_enum! {
    /// Where an order is in its life.
    pub enum OrderState : u8 {
        /// In the book.
        Resting = 0 "resting",
        /// Filled whole.
        Filled = 1 "filled",
        /// Gone.
        Cancelled = 2 "cancelled",
        /// Outside the book: for its stop price, an auction or another order.
        Waiting = 3 "waiting",
    }
}

wire_enum! {
    /// Where an authorisation is in its life.
    pub enum AuthorisationState : u8 {
        /// Nothing there.
        None = 0 "none",
        /// May be captured.
        Open = 1 "open",
        /// Captured for the last time.
        Closed = 2 "closed",
        /// Voided whole.
        Voided = 3 "voided",
        /// Lapsed.
        Expired = 4 "expired",
    }
}

wire_struct! {
    /// An administrative command is done.
    pub struct Ok {
        /// Which.
        cmd: CommandKind,
        /// Reserved.
        _reserved: [Zero; 2],
        /// The participant that it created, 0 where it did not.
        participant: ParticipantId = 0,
        /// The group of that participant, 0 for none.
        group: u32 = 0,
        /// Reserved.
        _reserved_end: [Zero; 4],
    }
}

wire_struct! {
    /// A command was refused and changed nothing.
    pub struct Rejected {
        /// Which.
        cmd: CommandKind,
        /// Why.
        reason: Reason,
        /// Who wanted to cancel or replace an order, or all of its orders; 0 for any other command.
        participant: ParticipantId = 0,
        /// Whether `id` is an order's at the engine, and not its participant's.
        by_order_id: Bool = 0,
        /// Reserved.
        _reserved: [Zero; 7],
        /// The id the command carried.
        id: u128,
    }
}

wire_struct! {
    /// What became of one transfer.
    pub struct TransferDone {
        /// The transfer.
        id: TransferId,
        /// What moved, minor units.
        amount: Amount,
        /// `created`, or why not.
        status: Reason,
        /// Reserved.
        _reserved: [Zero; 14],
    }
}

wire_struct! {
    /// An authorisation after a step.
    pub struct Authorisation {
        /// The authorisation.
        id: TransferId,
        /// Still held, minor units.
        held: Amount,
        /// Captured so far.
        captured: Amount,
        /// Refunded so far.
        refunded: Amount,
        /// Where it is in its life.
        state: AuthorisationState,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_enum! {
    /// Where a transfer is in its life.
    pub enum TransferState : u8 {
        /// Moved, for good.
        Done = 0 "done",
        /// Reserved, waits to be posted or voided.
        Pending = 1 "pending",
        /// Was pending and has been posted.
        Posted = 2 "posted",
        /// Was pending and has been voided.
        Voided = 3 "voided",
        /// Was pending and has timed out.
        Expired = 4 "expired",
        /// Refused for a reason that another moment might have turned: the id stays failed.
        Failed = 5 "failed",
    }
}

wire_struct! {
    /// A transfer as it stands in the idempotency window.
    pub struct TransferRecord {
        /// The transfer.
        id: TransferId,
        /// What it moved or reserved, minor units.
        amount: Amount,
        /// The transfer it posted or voided, 0 for none.
        pending_id: TransferId,
        /// Opaque to the engine.
        user_data_128: u128,
        /// Pays.
        debit_account: AccountId,
        /// Receives.
        credit_account: AccountId,
        /// Opaque to the engine.
        user_data_64: u64,
        /// Opaque to the engine.
        user_data_32: u32,
        /// Life of a pending transfer in seconds, 0 for ever.
        timeout_s: u32,
        /// What it moves.
        asset: AssetId,
        /// Opaque to the engine.
        code: u16,
        /// How it moves.
        flags: TransferFlags,
        /// Where it is in its life.
        state: TransferState,
        /// Reserved.
        _reserved: [Zero; 7],
    }
}

wire_struct! {
    /// A payment moved on in its life.
    pub struct PaymentMoved {
        /// UETR.
        id: PaymentId,
        /// Minor units.
        amount: Amount,
        /// Pays.
        debtor_account: AccountId,
        /// Receives.
        creditor_account: AccountId,
        /// Why it waits or was refused.
        reason: Reason = 0,
        /// What settled it.
        by: SettledBy = 0,
        /// Reserved.
        _reserved: [Zero; 13],
    }
}

wire_struct! {
    /// A group moved on in its life.
    pub struct GroupMoved {
        /// The group.
        id: PaymentId,
        /// The account it waits for.
        waiting_for: AccountId = 0,
        /// Why it waits.
        reason: Reason = 0,
        /// Reserved.
        _reserved: [Zero; 6],
    }
}

wire_struct! {
    /// A part of a group is final: of every leg the same share.
    pub struct GroupPartSettled {
        /// The group.
        id: PaymentId,
        /// Lots that moved now. A lot is the largest quantity of which every leg is a whole multiple.
        lots: Amount,
        /// Lots that have not moved yet.
        lots_left: Amount,
        /// Minor units of the first leg that moved now.
        first_leg_amount: Amount,
        /// What settled it.
        by: SettledBy = 0,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// A group as it stands; `count` legs follow, each with what of it has not moved.
    pub struct Group {
        /// The group.
        id: PaymentId,
        /// Lots in all, where it may settle in parts.
        lots: Amount = 0,
        /// Lots that have not moved yet, where it may settle in parts.
        lots_left: Amount = 0,
        /// Minor units that the account it waits for is short of, of money or of a limit as the
        /// reason says.
        short_of: Amount = 0,
        /// The payment it waits behind, 0 for none.
        waits_behind: PaymentId = 0,
        /// Not after, 0 for end of day.
        latest_at: Timestamp = 0,
        /// The account it waits for.
        waiting_for: AccountId = 0,
        /// Number of legs.
        count: u32,
        /// Why it waits or ended.
        reason: Reason = 0,
        /// Its class.
        priority: Priority,
        /// Where it is in its life.
        state: PaymentState,
        /// What settled it.
        by: SettledBy = 0,
        /// How its legs settle.
        procedure: GroupProcedure = 0,
        /// Least part that settles, of the whole group, in thousandths.
        minimum_permille: u16 = 0,
        /// Reserved.
        _reserved: [Zero; 4],
    }
}

wire_struct! {
    /// A collateral pool as it stands now.
    pub struct Collateral {
        /// The cash account.
        account: AccountId,
        /// Where pledged securities lie.
        securities_account: AccountId,
        /// Minor units of the security pledged.
        pledged: Amount,
        /// Credit the whole pool gives, minor units.
        credit: Amount,
    }
}

wire_struct! {
    /// Credit is used that is no longer covered, or was due: the account pays nothing until it is.
    pub struct MarginCall {
        /// The cash account.
        account: AccountId,
        /// Reserved.
        _reserved: [Zero; 8],
        /// Minor units missing.
        shortfall: Amount,
    }
}

wire_struct! {
    /// A liquidity-saving run ended.
    pub struct LiquiditySavingDone {
        /// Which.
        algorithm: Algorithm,
        /// Reserved.
        _reserved: [Zero; 7],
        /// Payments settled.
        settled: u64,
        /// Minor units settled.
        value: Amount,
    }
}

wire_struct! {
    /// An order was accepted; what it has not filled when its command ends rests.
    pub struct OrderAccepted {
        /// The engine's id.
        order_id: OrderId,
        /// The participant's id.
        client_order_id: ClientOrderId,
        /// Lots open when it was accepted.
        leaves: Quantity,
        /// Whose it is.
        participant: ParticipantId,
        /// What it trades.
        instrument: InstrumentId,
    }
}

wire_struct! {
    /// A fill, settled delivery versus payment in the same command.
    pub struct Trade {
        /// The instrument.
        instrument: InstrumentId,
        /// Whose order rested.
        maker_participant: ParticipantId,
        /// Ticks: the resting order's price.
        price: Price,
        /// Lots.
        quantity: Quantity,
        /// The resting order.
        maker_order_id: OrderId,
        /// The incoming order.
        taker_order_id: OrderId,
        /// Whose order came in.
        taker_participant: ParticipantId,
        /// Side of the incoming order.
        taker_side: Side,
        /// Reserved.
        _reserved: [Zero; 3],
        /// What the resting side paid, quote minor units; below zero it received.
        maker_fee: i128,
        /// What the incoming side paid, quote minor units; below zero it received.
        taker_fee: i128,
    }
}

wire_struct! {
    /// An order left without being filled whole.
    pub struct OrderCancelled {
        /// The engine's id.
        order_id: OrderId,
        /// The participant's id.
        client_order_id: ClientOrderId,
        /// Lots that will not fill.
        cancelled_quantity: Quantity,
        /// Whose it was.
        participant: ParticipantId,
        /// Why.
        reason: CancelReason,
        /// Reserved.
        _reserved: [Zero; 3],
    }
}

wire_struct! {
    /// An order changed: replaced, or triggered.
    pub struct OrderChanged {
        /// The engine's id.
        order_id: OrderId,
        /// The participant's id from now on.
        client_order_id: ClientOrderId,
        /// Ticks.
        price: Price,
        /// Lots open.
        leaves: Quantity,
        /// Whose it is.
        participant: ParticipantId,
        /// Reserved.
        _reserved: [Zero; 12],
    }
}

wire_struct! {
    /// An order was refused.
    pub struct OrderRejected {
        /// The participant's id.
        client_order_id: ClientOrderId,
        /// Whose.
        participant: ParticipantId,
        /// Why.
        reason: Reason,
        /// Reserved.
        _reserved: [Zero; 2],
    }
}

wire_struct! {
    /// An instrument moved to another phase.
    pub struct InstrumentPhaseChanged {
        /// The instrument.
        instrument: InstrumentId,
        /// Its phase now.
        phase: InstrumentPhase,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// What an auction would do now.
    pub struct Indicative {
        /// The instrument.
        instrument: InstrumentId,
        /// Reserved.
        _reserved: [Zero; 4],
        /// Ticks.
        price: Price,
        /// Lots.
        volume: Quantity,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// An account as it stands.
    pub struct Account {
        /// The account.
        account: AccountId,
        /// Its owner.
        participant: ParticipantId,
        /// What it may do, and whether it is closed.
        flags: AccountFlags,
        /// Reserved.
        _reserved: [Zero; 2],
        /// Minor units reserved to leave.
        debits_pending: Amount,
        /// Minor units that left.
        debits_posted: Amount,
        /// Minor units reserved to come.
        credits_pending: Amount,
        /// Minor units that came.
        credits_posted: Amount,
        /// credits_posted - debits_posted - debits_pending - held + credit_line.
        available: i128,
        /// Held as cover of orders.
        held: Amount,
        /// How far below zero it may go.
        credit_line: Amount,
    }
}

wire_struct! {
    /// Head of a book: `bids`, then `asks` book levels follow, best first.
    pub struct Book {
        /// The instrument.
        instrument: InstrumentId,
        /// Its phase.
        phase: InstrumentPhase,
        /// Whether anything has traded.
        has_traded: Bool = 0,
        /// Reserved.
        _reserved: [Zero; 2],
        /// Bid levels that follow.
        bids: u32,
        /// Ask levels that follow.
        asks: u32,
        /// The last price that traded, ticks.
        last_price: Price = 0,
        /// What an auction would do now: its price, ticks.
        indicative_price: Price = 0,
        /// And its lots; 0 where nothing crosses, or no auction is called.
        indicative_volume: Quantity = 0,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// One price level of a book.
    pub struct BookLevel {
        /// Ticks.
        price: Price,
        /// Lots.
        quantity: Quantity,
        /// Orders.
        orders: u32,
        /// Bids or asks.
        side: Side,
        /// Reserved.
        _reserved: [Zero; 11],
    }
}

wire_struct! {
    /// One order of a published book, and what happened to it.
    pub struct BookOrder {
        /// The engine's id.
        order_id: OrderId,
        /// Where it stands, ticks.
        price: Price,
        /// Lots: shown now (add, reduce), gone (execute), or that were shown (delete).
        quantity: Quantity,
        /// The instrument.
        instrument: InstrumentId,
        /// Buy or sell.
        side: Side,
        /// Reserved.
        _reserved: [Zero; 3],
    }
}

wire_struct! {
    /// A book that is published from now on: the orders it shows follow as `book_add`.
    pub struct BookStart {
        /// The instrument.
        instrument: InstrumentId,
        /// Orders that follow.
        orders: u32,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// A payment as it stands.
    pub struct Payment {
        /// UETR.
        id: PaymentId,
        /// Minor units.
        amount: Amount,
        /// Pays.
        debtor_account: AccountId,
        /// Receives.
        creditor_account: AccountId,
        /// Its class.
        priority: Priority,
        /// Where it is in its life.
        state: PaymentState,
        /// Why it waits or was refused.
        reason: Reason = 0,
        /// What settled it.
        by: SettledBy = 0,
        /// Reserved.
        _reserved: [Zero; 3],
        /// The business date on which it is to settle, 0 where it named none.
        value_date: u32 = 0,
        /// Reserved.
        _reserved_end: [Zero; 4],
        /// Not before, 0 for at once.
        earliest_at: Timestamp = 0,
        /// Not after, 0 for end of day.
        latest_at: Timestamp = 0,
        /// Minor units it is short of, of money or of a limit as the reason says; 0 where neither
        /// is what it waits for.
        short_of: Amount = 0,
        /// The payment it waits behind, 0 for none.
        waits_behind: PaymentId = 0,
    }
}

wire_struct! {
    /// An order as it stands.
    pub struct Order {
        /// The engine's id.
        order_id: OrderId,
        /// The participant's id.
        client_order_id: ClientOrderId,
        /// Whose it is.
        participant: ParticipantId,
        /// What it trades.
        instrument: InstrumentId,
        /// Ticks.
        price: Price,
        /// Lots asked for.
        quantity: Quantity,
        /// Lots open.
        leaves: Quantity,
        /// Held for it: quote minor units of a buy, base minor units of a sell.
        held: Amount,
        /// Buy or sell.
        side: Side,
        /// Its type.
        order_type as "type": OrderType,
        /// How long it lives.
        time_in_force: TimeInForce,
        /// Where it is in its life.
        state: OrderState,
        /// Reserved.
        _reserved: [Zero; 4],
        /// The order that follows it in its list, the first behind the last; 0 where it is in none.
        linked_to: OrderId = 0,
        /// Its trigger while it waits for one, ticks; 0 where it does not.
        stop_price: Price = 0,
        /// Lots the book shows of it.
        displayed: Quantity = 0,
    }
}

wire_struct! {
    /// Head of a queue: `count` payments follow in settlement order.
    pub struct Queue {
        /// The account.
        account: AccountId,
        /// Payments that follow.
        count: u32,
        /// Reserved.
        _reserved: [Zero; 4],
        /// Minor units of all that is queued.
        value: Amount,
        /// Payments queued, those that do not follow included.
        queued: u64,
        /// Reserved.
        _reserved_end: [Zero; 8],
    }
}

wire_struct! {
    /// The digest of the whole state.
    pub struct Digest {
        /// BLAKE3 over the state in canonical order.
        digest: [u8; 32],
        /// Commands behind it.
        at_sequence: u64,
        /// The engine's now.
        now: Timestamp,
    }
}

wire_enum! {
    /// Where a proposal is in its life.
    pub enum ProposalState : u8 {
        /// Waits for a second user.
        Open = 0 "open",
        /// Approved, and its command executed.
        Approved = 1 "approved",
        /// Rejected by a second user.
        Rejected = 2 "rejected",
        /// Nobody decided in time.
        Expired = 3 "expired",
        /// Approved, but its command was refused.
        Refused = 4 "refused",
    }
}

wire_struct! {
    /// Head of the answer to query_proposals: `count` proposals follow.
    pub struct Proposals {
        /// Proposals that follow.
        count: u32,
        /// Of these, how many are open.
        open: u32,
        /// Reserved.
        _reserved: [Zero; 8],
    }
}

wire_struct! {
    /// A proposal as it stands.
    pub struct Proposal {
        /// Its number.
        proposal: u64,
        /// Who proposed.
        proposed_by: u64,
        /// Who approved or rejected.
        decided_by: u64 = 0,
        /// When it lapses, 0 for when the next business day begins.
        expires_at: Timestamp = 0,
        /// Kind of the proposed command.
        kind: CommandKind,
        /// Why its command was refused.
        reason: Reason = 0,
        /// Where it is in its life.
        state: ProposalState,
        /// Pieces of its command that follow as `proposed_command`; in JSON part of its line.
        parts: u8 = 0,
        /// Reserved.
        _reserved: [Zero; 10],
    }
}

/// Bytes of one [`ProposedCommand`].
pub const PROPOSED_BYTES: usize = 112;

wire_struct! {
    /// A piece of a proposed command's body.
    pub struct ProposedCommand {
        /// The proposal.
        proposal: u64,
        /// Bytes of the body before this piece.
        offset: u32,
        /// Bytes of the body in this piece.
        length: u32,
        /// The bytes; zero behind `length`.
        bytes: [u8; 112],
    }
}

wire_struct! {
    /// Head of the answer to query_participants.
    pub struct Participants {
        /// Participants there are; the first 1,024 of them follow, as they were created.
        count: u32,
        /// Reserved.
        _reserved: [Zero; 12],
    }
}

wire_struct! {
    /// A participant.
    pub struct Participant {
        /// Its number.
        participant: ParticipantId,
        /// Its group, 0 for none.
        group: u32 = 0,
        /// What it may do.
        state: ParticipantState,
        /// Reserved.
        _reserved: [Zero; 7],
        /// Its code.
        code: Text16,
    }
}

wire_struct! {
    /// Head of the answer to query_throttles: `count` throttles follow.
    pub struct Throttles {
        /// Throttles that follow.
        count: u32,
        /// Reserved.
        _reserved: [Zero; 12],
    }
}

wire_struct! {
    /// A throttle and what is used of it.
    pub struct Throttle {
        /// Whose commands, 0 for everybody's together.
        participant: ParticipantId = 0,
        /// In which asset, 0 for all together.
        asset: AssetId = 0,
        /// Length of the window, 0 for the business day.
        window_ms: u32 = 0,
        /// Of which kind.
        kind: ThrottledKind,
        /// Reserved.
        _reserved: [Zero; 2],
        /// Most minor units per window, 2^128-1 for any.
        amount: Amount = u128::MAX,
        /// Minor units counted in the present window.
        used_amount: Amount,
        /// Most commands per window, 2^64-1 for any.
        count: u64 = u64::MAX,
        /// Commands counted in the present window.
        used_count: u64,
    }
}

wire_struct! {
    /// A phase of the business day began by the clock.
    pub struct PhaseChanged {
        /// Number of the day.
        day: u64,
        /// Its business date.
        business_date: u32,
        /// The phase.
        phase: DayPhase,
        /// Reserved.
        _reserved: [Zero; 3],
    }
}

wire_struct! {
    /// Where the business day stands: `count` scheduled phases follow.
    pub struct Day {
        /// Its number, 0 before the first.
        day: u64,
        /// Its business date.
        business_date: u32,
        /// Scheduled phases that follow.
        count: u16,
        /// Its phase.
        phase: DayPhase,
        /// Reserved.
        _reserved: [Zero; 1],
    }
}

wire_struct! {
    /// A phase that begins by the clock.
    pub struct ScheduledPhase {
        /// When.
        begins_at: Timestamp,
        /// Which.
        phase: DayPhase,
        /// Reserved.
        _reserved: [Zero; 7],
    }
}

wire_struct! {
    /// Intraday credit that was due at the end of the day and is not repaid: the account pays
    /// nothing until it is.
    pub struct IntradayCreditOutstanding {
        /// The account.
        account: AccountId,
        /// Reserved.
        _reserved: [Zero; 8],
        /// Minor units.
        amount: Amount,
    }
}

wire_struct! {
    /// An overnight loan was drawn at the end of the day, or repaid in the morning.
    pub struct OvernightCredit {
        /// The account that borrows.
        account: AccountId,
        /// The account that lends.
        lender_account: AccountId,
        /// Minor units lent now.
        drawn: Amount = 0,
        /// Minor units repaid now.
        repaid: Amount = 0,
        /// Minor units owed from now on.
        outstanding: Amount,
    }
}

wire_struct! {
    /// The credit of an account, part by part.
    pub struct Credit {
        /// The account.
        account: AccountId,
        /// Who lends overnight, 0 for nobody.
        lender_account: AccountId = 0,
        /// Minor units of its line that stay overnight.
        permanent: Amount,
        /// Minor units of its line for the day.
        intraday: Amount,
        /// Minor units that pledges give now.
        pledged: Amount,
        /// Minor units owed overnight.
        overnight: Amount,
        /// Whether the line for the day and pledges give credit now.
        in_force: Bool,
        /// Reserved.
        _reserved: [Zero; 15],
    }
}

wire_struct! {
    /// What a cycle moved for one participant, minor units.
    pub struct CyclePosition {
        /// The instrument.
        instrument: InstrumentId,
        /// Who traded.
        participant: ParticipantId,
        /// Its account in the base asset.
        base_account: AccountId,
        /// Its account in the quote asset.
        quote_account: AccountId,
        /// Reserved.
        _reserved: [Zero; 8],
        /// Base that went.
        base_out: Amount,
        /// Base that came.
        base_in: Amount,
        /// Quote that came, fees taken off; below zero it went.
        quote: i128,
        /// Fees in it; below zero rebates.
        fees: i128,
    }
}

wire_struct! {
    /// A cycle has settled: one `cycle_position` for everybody who traded came before.
    pub struct CycleSettled {
        /// The instrument.
        instrument: InstrumentId,
        /// Reserved.
        _reserved: [Zero; 4],
        /// Trades in it.
        trades: u64,
        /// What they were worth, quote minor units.
        value: Amount,
        /// How much of that did not have to move: each participant's buys and sells against each
        /// other.
        netted: Amount,
    }
}

wire_struct! {
    /// Head of the answer to query_positions: what a cycle would be that settled now.
    pub struct Positions {
        /// The instrument.
        instrument: InstrumentId,
        /// How it settles.
        settlement: Settlement,
        /// Reserved.
        _reserved: [Zero; 3],
        /// Positions there are; the first 1,024 of them follow.
        count: u32,
        /// Reserved.
        _reserved_end: [Zero; 4],
        /// Trades so far.
        trades: u64,
        /// Reserved.
        _reserved_trades: [Zero; 8],
        /// What they are worth, quote minor units.
        value: Amount,
        /// How much of that will not have to move.
        netted: Amount,
    }
}

wire_struct! {
    /// What the next cycle will move for one participant, minor units.
    pub struct Position {
        /// The instrument.
        instrument: InstrumentId,
        /// Who traded.
        participant: ParticipantId,
        /// Its account in the base asset.
        base_account: AccountId,
        /// Its account in the quote asset.
        quote_account: AccountId,
        /// Reserved.
        _reserved: [Zero; 8],
        /// Base that will go.
        base_out: Amount,
        /// Base that will come.
        base_in: Amount,
        /// Quote that will come, fees taken off; below zero it will go.
        quote: i128,
        /// Fees in it; below zero rebates.
        fees: i128,
        /// Base held for it.
        base_held: Amount,
        /// Quote held for it.
        quote_held: Amount,
    }
}

macro_rules! events {
    ($( $(#[doc = $doc:literal])* $variant:ident = $code:literal $text:literal, $body:ident ; )*) => {
        wire_enum! {
            /// Every kind of event.
            pub enum EventKind : u16 {
                $( $(#[doc = $doc])* $variant = $code $text, )*
            }
        }

        impl EventKind {
            /// Fields of its body.
            pub const fn fields(self) -> &'static [Field] {
                match self { $(EventKind::$variant => <$body as WireStruct>::FIELDS,)* }
            }

            /// Bytes of its body.
            pub const fn body_size(self) -> usize {
                match self { $(EventKind::$variant => size_of::<$body>(),)* }
            }

            /// The name of its body in the source.
            pub const fn body_name(self) -> &'static str {
                match self { $(EventKind::$variant => stringify!($body),)* }
            }
        }

        /// An event with its body where it lies.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Event<'a> {
            $( $(#[doc = $doc])* $variant(&'a $body), )*
        }

        impl<'a> Event<'a> {
            /// Validates `body` as one of `kind`.
            pub fn decode(kind: EventKind, body: &'a [u8]) -> Option<Event<'a>> {
                Some(match kind {
                    $(EventKind::$variant => Event::$variant(
                        zerocopy::TryFromBytes::try_ref_from_bytes(body).ok()?,
                    ),)*
                })
            }
        }
    };
}

events! {
    /// An administrative command is done.
    Ok = 1 "ok", Ok;
    /// A command was refused.
    Rejected = 2 "rejected", Rejected;
    /// What became of one transfer.
    Transfer = 3 "transfer", TransferDone;
    /// An authorisation after a step.
    Authorisation = 4 "authorisation", Authorisation;
    /// A payment is final.
    PaymentSettled = 5 "payment_settled", PaymentMoved;
    /// A payment waits for money, a limit or its turn.
    PaymentQueued = 6 "payment_queued", PaymentMoved;
    /// A payment waits for its time.
    PaymentWarehoused = 7 "payment_warehoused", PaymentMoved;
    /// A payment was taken back.
    PaymentCancelled = 8 "payment_cancelled", PaymentMoved;
    /// A payment was refused, or ran out of time.
    PaymentRejected = 9 "payment_rejected", PaymentMoved;
    /// A group is final.
    GroupSettled = 10 "group_settled", GroupMoved;
    /// A group waits.
    GroupPending = 11 "group_pending", GroupMoved;
    /// A group ran out of time.
    GroupExpired = 12 "group_expired", GroupMoved;
    /// A liquidity-saving run ended.
    LiquiditySavingDone = 13 "liquidity_saving_done", LiquiditySavingDone;
    /// An order is in.
    OrderAccepted = 14 "order_accepted", OrderAccepted;
    /// A fill.
    Trade = 15 "trade", Trade;
    /// An order left.
    OrderCancelled = 16 "order_cancelled", OrderCancelled;
    /// An order changed.
    OrderReplaced = 17 "order_replaced", OrderChanged;
    /// A stop order woke.
    OrderTriggered = 18 "order_triggered", OrderChanged;
    /// An order was refused.
    OrderRejected = 19 "order_rejected", OrderRejected;
    /// An instrument changed phase.
    InstrumentPhase = 20 "instrument_phase", InstrumentPhaseChanged;
    /// What an auction would do.
    Indicative = 21 "indicative", Indicative;
    /// Answer to query_account.
    Account = 22 "account", Account;
    /// Answer to query_book.
    Book = 23 "book", Book;
    /// One level of a book; in JSON part of the line of its book.
    BookLevel = 24 "book_level", BookLevel;
    /// Answer to query_payment; after a queue, one line of it.
    Payment = 25 "payment", Payment;
    /// Answer to query_order.
    Order = 26 "order", Order;
    /// Answer to query_queue; its payments follow and in JSON are part of its line.
    Queue = 27 "queue", Queue;
    /// Answer to query_digest.
    Digest = 28 "digest", Digest;
    /// A part of a group is final.
    GroupPartSettled = 80 "group_part_settled", GroupPartSettled;
    /// A debit of a group is in.
    GroupLegSettled = 82 "group_leg_settled", PaymentMoved;
    /// A debit of a group went back.
    GroupLegReturned = 83 "group_leg_returned", PaymentMoved;
    /// Answer to query_group; its legs follow and in JSON are part of its line.
    Group = 81 "group", Group;
    /// Answer to query_transfer.
    TransferRecord = 29 "transfer_record", TransferRecord;
    /// A collateral pool changed.
    Collateral = 50 "collateral", Collateral;
    /// Credit is not covered.
    MarginCall = 51 "margin_call", MarginCall;
    /// Forget the book: what it shows follows.
    BookStart = 60 "book_start", BookStart;
    /// An order joins a published book, behind all others at its price.
    BookAdd = 61 "book_add", BookOrder;
    /// A resting order traded that many lots. It stays, with 0 where it showed no more, until book_delete.
    BookExecute = 62 "book_execute", BookOrder;
    /// A resting order shows that many lots from now on, in its place.
    BookReduce = 63 "book_reduce", BookOrder;
    /// An order leaves a published book, with the lots it still showed: 0 where it was executed whole.
    BookDelete = 64 "book_delete", BookOrder;
    /// Answer to query_proposals; its proposals follow.
    Proposals = 70 "proposals", Proposals;
    /// A proposal was made, decided or has lapsed.
    Proposal = 71 "proposal", Proposal;
    /// A piece of a proposed command; in JSON part of the line of its proposal.
    ProposedCommand = 72 "proposed_command", ProposedCommand;
    /// Answer to query_throttles; its throttles follow.
    Throttles = 73 "throttles", Throttles;
    /// A throttle.
    Throttle = 74 "throttle", Throttle;
    /// A phase of the business day began by the clock.
    PhaseChanged = 75 "phase_changed", PhaseChanged;
    /// Answer to query_day; what is scheduled follows.
    Day = 76 "day", Day;
    /// A phase is scheduled for that time.
    ScheduledPhase = 77 "scheduled_phase", ScheduledPhase;
    /// Intraday credit is due and not repaid.
    IntradayCreditOutstanding = 78 "intraday_credit_outstanding", IntradayCreditOutstanding;
    /// An overnight loan was drawn or repaid.
    OvernightCredit = 79 "overnight_credit", OvernightCredit;
    /// What a cycle moved for one participant.
    CyclePosition = 86 "cycle_position", CyclePosition;
    /// A cycle has settled.
    CycleSettled = 87 "cycle_settled", CycleSettled;
    /// Answer to query_credit.
    Credit = 85 "credit", Credit;
    /// Answer to query_participants.
    Participants = 90 "participants", Participants;
    /// A participant.
    Participant = 91 "participant", Participant;
    /// Answer to query_positions.
    Positions = 88 "positions", Positions;
    /// What the next cycle will move for one participant.
    Position = 89 "position", Position;
}
