//! Why a command was refused, or where a queued payment waits: one code per reason, never
//! renumbered. Where the meaning is the same, the names and their precedence are those TigerBeetle
//! documents for transfers; the order of checks lives in the handlers.

use super::wire::wire_enum;

wire_enum! {
    /// One reason. `created` (0) is the absence of one.
    pub enum Reason : u16 {
        /// Nothing to complain about: done.
        Created = 0 "created",

        /// A later or earlier transfer of the same linked chain failed.
        LinkedEventFailed = 1 "linked_event_failed",
        /// The last transfer of a batch carries the linked flag.
        LinkedEventChainOpen = 2 "linked_event_chain_open",
        /// A flag bit that means nothing is set.
        ReservedFlag = 4 "reserved_flag",
        /// The id is zero.
        IdMustNotBeZero = 5 "id_must_not_be_zero",
        /// The id is the largest integer.
        IdMustNotBeIntMax = 6 "id_must_not_be_int_max",
        /// Two flags contradict each other.
        FlagsAreMutuallyExclusive = 7 "flags_are_mutually_exclusive",
        /// The debit account is zero.
        DebitAccountIdMustNotBeZero = 8 "debit_account_id_must_not_be_zero",
        /// The debit account is the largest integer.
        DebitAccountIdMustNotBeIntMax = 9 "debit_account_id_must_not_be_int_max",
        /// The credit account is zero.
        CreditAccountIdMustNotBeZero = 10 "credit_account_id_must_not_be_zero",
        /// The credit account is the largest integer.
        CreditAccountIdMustNotBeIntMax = 11 "credit_account_id_must_not_be_int_max",
        /// Both sides name the same account.
        AccountsMustBeDifferent = 12 "accounts_must_be_different",
        /// A pending id without post or void.
        PendingIdMustBeZero = 13 "pending_id_must_be_zero",
        /// Post or void without a pending id.
        PendingIdMustNotBeZero = 14 "pending_id_must_not_be_zero",
        /// The pending id is the largest integer.
        PendingIdMustNotBeIntMax = 15 "pending_id_must_not_be_int_max",
        /// The pending id is the transfer's own.
        PendingIdMustBeDifferent = 16 "pending_id_must_be_different",
        /// A timeout on a transfer that is not pending.
        TimeoutReservedForPendingTransfer = 17 "timeout_reserved_for_pending_transfer",
        /// The amount is zero where something must move.
        AmountMustNotBeZero = 18 "amount_must_not_be_zero",
        /// No such debit account.
        DebitAccountNotFound = 21 "debit_account_not_found",
        /// No such credit account.
        CreditAccountNotFound = 22 "credit_account_not_found",
        /// The accounts hold different assets.
        AccountsMustHaveTheSameLedger = 23 "accounts_must_have_the_same_ledger",
        /// The transfer names another asset than its accounts hold.
        TransferMustHaveTheSameLedgerAsAccounts = 24 "transfer_must_have_the_same_ledger_as_accounts",
        /// No such pending transfer.
        PendingTransferNotFound = 25 "pending_transfer_not_found",
        /// The transfer named as pending never was.
        PendingTransferNotPending = 26 "pending_transfer_not_pending",
        /// The pending transfer debits another account.
        PendingTransferHasDifferentDebitAccountId = 27 "pending_transfer_has_different_debit_account_id",
        /// The pending transfer credits another account.
        PendingTransferHasDifferentCreditAccountId = 28 "pending_transfer_has_different_credit_account_id",
        /// The pending transfer moves another asset.
        PendingTransferHasDifferentLedger = 29 "pending_transfer_has_different_ledger",
        /// The pending transfer carries another code.
        PendingTransferHasDifferentCode = 30 "pending_transfer_has_different_code",
        /// More than the pending amount.
        ExceedsPendingTransferAmount = 31 "exceeds_pending_transfer_amount",
        /// A void must name the whole amount or none.
        PendingTransferHasDifferentAmount = 32 "pending_transfer_has_different_amount",
        /// Posted before.
        PendingTransferAlreadyPosted = 33 "pending_transfer_already_posted",
        /// Voided before.
        PendingTransferAlreadyVoided = 34 "pending_transfer_already_voided",
        /// Its timeout has passed.
        PendingTransferExpired = 35 "pending_transfer_expired",
        /// Same id, other flags.
        ExistsWithDifferentFlags = 36 "exists_with_different_flags",
        /// Same id, other debit account.
        ExistsWithDifferentDebitAccountId = 37 "exists_with_different_debit_account_id",
        /// Same id, other credit account.
        ExistsWithDifferentCreditAccountId = 38 "exists_with_different_credit_account_id",
        /// Same id, other amount.
        ExistsWithDifferentAmount = 39 "exists_with_different_amount",
        /// Same id, other pending id.
        ExistsWithDifferentPendingId = 40 "exists_with_different_pending_id",
        /// Same id, other 128-bit user data.
        ExistsWithDifferentUserData128 = 41 "exists_with_different_user_data_128",
        /// Same id, other 64-bit user data.
        ExistsWithDifferentUserData64 = 42 "exists_with_different_user_data_64",
        /// Same id, other 32-bit user data.
        ExistsWithDifferentUserData32 = 43 "exists_with_different_user_data_32",
        /// Same id, other timeout.
        ExistsWithDifferentTimeout = 44 "exists_with_different_timeout",
        /// Same id, other code.
        ExistsWithDifferentCode = 45 "exists_with_different_code",
        /// The same thing was done before: nothing changed now.
        Exists = 46 "exists",
        /// Debits pending would pass 2^128-1.
        OverflowsDebitsPending = 47 "overflows_debits_pending",
        /// Credits pending would pass 2^128-1.
        OverflowsCreditsPending = 48 "overflows_credits_pending",
        /// Debits posted would pass 2^128-1.
        OverflowsDebitsPosted = 49 "overflows_debits_posted",
        /// Credits posted would pass 2^128-1.
        OverflowsCreditsPosted = 50 "overflows_credits_posted",
        /// Debits posted and pending together would pass 2^128-1.
        OverflowsDebits = 51 "overflows_debits",
        /// Credits posted and pending together would pass 2^128-1.
        OverflowsCredits = 52 "overflows_credits",
        /// The timeout passes the end of time.
        OverflowsTimeout = 53 "overflows_timeout",
        /// The debit account lacks the money.
        ExceedsCredits = 54 "exceeds_credits",
        /// The credit account may not be credited beyond its debits.
        ExceedsDebits = 55 "exceeds_debits",
        /// A closing transfer that is not pending.
        ClosingTransferMustBePending = 64 "closing_transfer_must_be_pending",
        /// The debit account is closed.
        DebitAccountAlreadyClosed = 65 "debit_account_already_closed",
        /// The credit account is closed.
        CreditAccountAlreadyClosed = 66 "credit_account_already_closed",
        /// Same id, other asset.
        ExistsWithDifferentLedger = 67 "exists_with_different_ledger",
        /// This id failed before for a passing reason and stays failed.
        IdAlreadyFailed = 68 "id_already_failed",

        /// This release does not do that yet.
        NotSupported = 100 "not_supported",
        /// A table of the engine is full (see the limits in the configuration).
        CapacityExhausted = 101 "capacity_exhausted",
        /// Same id, other content.
        ExistsWithDifferentContent = 102 "exists_with_different_content",
        /// A code is not printable ASCII of 1 to 16 characters.
        CodeNotPrintable = 103 "code_not_printable",
        /// No such asset.
        AssetNotFound = 104 "asset_not_found",
        /// No such participant.
        ParticipantNotFound = 105 "participant_not_found",
        /// No such account.
        AccountNotFound = 106 "account_not_found",
        /// The present phase of the business day does not admit this.
        PhaseForbids = 107 "phase_forbids",
        /// The day's phases do not follow each other like that.
        PhaseOutOfOrder = 108 "phase_out_of_order",
        /// The participant's state forbids it.
        ParticipantBlocked = 109 "participant_blocked",
        /// An amount lies outside what its field may hold.
        AmountOutOfRange = 110 "amount_out_of_range",
        /// A time lies before another that it must follow.
        TimeOutOfRange = 111 "time_out_of_range",
        /// Not this session's to do.
        NotAuthorised = 112 "not_authorised",
        /// Value outside its documented range.
        OutOfRange = 113 "out_of_range",
        /// No such transfer in the idempotency window.
        TransferNotFound = 114 "transfer_not_found",

        /// Not enough liquidity for the payment's class.
        InsufficientLiquidity = 200 "insufficient_liquidity",
        /// Another payment of the same account comes first.
        BehindHigherPriority = 201 "behind_higher_priority",
        /// The bilateral limit is used up.
        LimitBilateral = 202 "limit_bilateral",
        /// The multilateral limit is used up.
        LimitMultilateral = 203 "limit_multilateral",
        /// The money is reserved for a higher class.
        Reserved = 204 "reserved",
        /// Held by its sender.
        Held = 205 "held",
        /// Its earliest time lies ahead.
        NotYetDue = 206 "not_yet_due",
        /// No such payment.
        PaymentNotFound = 207 "payment_not_found",
        /// The payment is final.
        PaymentAlreadySettled = 208 "payment_already_settled",
        /// The payment was cancelled before.
        PaymentAlreadyCancelled = 209 "payment_already_cancelled",
        /// The payment was rejected before.
        PaymentAlreadyRejected = 210 "payment_already_rejected",
        /// Its latest time has passed.
        Expired = 211 "expired",
        /// The day ended before it could settle.
        EndOfDay = 212 "end_of_day",
        /// Returns would exceed the original.
        OverReturn = 213 "over_return",
        /// The sender asked for it.
        Requested = 214 "requested",
        /// The state has moved on since the batch was computed.
        BatchStale = 215 "batch_stale",
        /// The batch breaks a constraint.
        BatchInfeasible = 216 "batch_infeasible",
        /// Refunds would exceed what was captured.
        OverRefund = 217 "over_refund",
        /// No such authorisation.
        AuthorisationNotFound = 218 "authorisation_not_found",
        /// The authorisation is closed.
        AuthorisationClosed = 219 "authorisation_closed",
        /// More than the authorisation still holds.
        ExceedsAuthorisation = 220 "exceeds_authorisation",
        /// The payment is not in a state for that.
        PaymentNotQueued = 221 "payment_not_queued",
        /// The payment is not held.
        PaymentNotHeld = 222 "payment_not_held",
        /// Only what is settled can be returned.
        PaymentNotSettled = 223 "payment_not_settled",
        /// A return goes from the original's creditor to its debtor.
        ReturnAccountsDiffer = 224 "return_accounts_differ",
        /// Legs of a group settle with it.
        PartOfGroup = 225 "part_of_group",
        /// The account has no collateral pool.
        PoolNotFound = 226 "pool_not_found",
        /// The business date it was to settle on is over.
        ValueDatePassed = 227 "value_date_passed",
        /// The rest of a group of which a part has settled.
        RestCancelled = 229 "rest_cancelled",
        /// Its group waits for another account.
        GroupWaits = 230 "group_waits",
        /// The debits of its group are not all in.
        AwaitsDebits = 231 "awaits_debits",
        /// Debits and credits differ, or not every leg has the technical account on one side.
        LegsDoNotBalance = 232 "legs_do_not_balance",
        /// A business date follows the one before.
        BusinessDateOutOfOrder = 228 "business_date_out_of_order",

        /// No such instrument.
        InstrumentNotFound = 300 "instrument_not_found",
        /// The client order id was used before.
        DuplicateClientOrderId = 301 "duplicate_client_order_id",
        /// No such order.
        UnknownOrder = 302 "unknown_order",
        /// The order is filled or cancelled already.
        TooLateToCancel = 303 "too_late_to_cancel",
        /// The price is no tick of the instrument.
        PriceNotOnTick = 304 "price_not_on_tick",
        /// The price lies outside the band.
        OutsidePriceBand = 305 "outside_price_band",
        /// The quantity is zero or above the instrument's maximum.
        QuantityOutOfRange = 306 "quantity_out_of_range",
        /// The instrument is halted.
        InstrumentHalted = 307 "instrument_halted",
        /// A post-only order would trade.
        PostOnlyWouldCross = 308 "post_only_would_cross",
        /// The participant has no account for an asset of the instrument.
        TradingAccountNotFound = 309 "trading_account_not_found",
        /// A field that this order type does not take, or fields that do not go together.
        OrderFieldsContradict = 310 "order_fields_contradict",
        /// The order belongs to somebody else.
        NotYourOrder = 311 "not_your_order",
        /// Price times quantity passes what a hold can carry.
        NotionalOverflow = 312 "notional_overflow",
        /// The order is filled or cancelled: nothing of it is kept.
        OrderFinished = 313 "order_finished",
        /// The order is worth more than one order of the instrument may be.
        ExceedsMaxNotional = 314 "exceeds_max_notional",
        /// Nothing to follow: the book has no such price, or nothing has traded yet.
        NoReferencePrice = 315 "no_reference_price",
        /// The session has not asked for its orders to be cancelled at its end.
        SessionNotFound = 316 "session_not_found",
        /// No such tick table.
        TickTableNotFound = 317 "tick_table_not_found",
        /// The instrument has no cycles: each of its trades settles at once.
        SettlesAtOnce = 318 "settles_at_once",
        /// A limit or stop limit order without a price.
        PriceMissing = 319 "price_missing",
        /// A stop or stop limit order without a stop price.
        StopPriceMissing = 320 "stop_price_missing",
        /// A trailing stop without an offset.
        OffsetMissing = 321 "offset_missing",
        /// A pegged order that does not say what it follows.
        PegMissing = 322 "peg_missing",
        /// An order good till a time without that time.
        ExpiresAtMissing = 323 "expires_at_missing",

        /// The kind needs two users: propose it.
        ApprovalRequired = 400 "approval_required",
        /// Only administrative commands can be proposed, or need two users.
        NotAdministrative = 401 "not_administrative",
        /// The command does not say which user gives it.
        UserRequired = 402 "user_required",
        /// Who proposed cannot decide.
        SameUser = 403 "same_user",
        /// No such proposal, or none that is remembered.
        ProposalNotFound = 404 "proposal_not_found",
        /// The proposal was approved or rejected before.
        ProposalAlreadyDecided = 405 "proposal_already_decided",
        /// The proposal has lapsed.
        ProposalExpired = 406 "proposal_expired",
        /// The proposed bytes are no command of their kind.
        MalformedCommand = 407 "malformed_command",
        /// As much as a throttle lets in has come in.
        Throttled = 408 "throttled",
        /// No throttle is set for that.
        ThrottleNotFound = 409 "throttle_not_found",
        /// No phase is scheduled there.
        PhaseNotScheduled = 410 "phase_not_scheduled",
        /// What its lender lent is not repaid.
        OvernightCreditOutstanding = 411 "overnight_credit_outstanding",
    }
}

impl Reason {
    /// Whether another moment might have turned it: a transfer refused for such a reason keeps its
    /// id failed, and the next with that id is answered `id_already_failed`. TigerBeetle's transient
    /// statuses, and `phase_forbids` and `participant_blocked`.
    pub const fn is_transient(self) -> bool {
        matches!(
            self,
            Reason::DebitAccountNotFound
                | Reason::CreditAccountNotFound
                | Reason::PendingTransferNotFound
                | Reason::ExceedsCredits
                | Reason::ExceedsDebits
                | Reason::DebitAccountAlreadyClosed
                | Reason::CreditAccountAlreadyClosed
                | Reason::PhaseForbids
                | Reason::ParticipantBlocked
        )
    }
}

wire_enum! {
    /// Why an order left the book without being filled (`order_cancelled.reason`).
    pub enum CancelReason : u8 {
        /// Its owner asked.
        Requested = 0 "requested",
        /// What an immediate-or-cancel or market order did not get.
        Ioc = 1 "ioc",
        /// A fill-or-kill order that could not fill whole.
        Fok = 2 "fok",
        /// It would have traded with its own participant.
        SelfTrade = 3 "self_trade",
        /// Mass cancel.
        Mass = 4 "mass",
        /// Its time has passed.
        Expired = 5 "expired",
        /// The instrument closed or halted.
        Halted = 6 "halted",
        /// The protection or price band was reached.
        Band = 7 "band",
        /// Its minimum quantity would not have filled at once.
        MinimumQuantity = 8 "minimum_quantity",
        /// Its account did not cover it when it woke.
        Uncovered = 9 "uncovered",
        /// An order it was linked to filled, woke or went.
        Linked = 10 "linked",
        /// Its session's connection ended.
        Disconnected = 11 "disconnected",
        /// Its participant was blocked.
        Blocked = 12 "blocked",
        /// It would have cost more than one order of its instrument may when it woke.
        ExceedsMaxNotional = 13 "exceeds_max_notional",
    }
}
