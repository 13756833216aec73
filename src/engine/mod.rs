//! The engine: ledger, matching and settlement behind one function, `apply`.
//!
//! Inputs are a command, its sequence and its `received_at`; outputs are events. No clock, thread,
//! I/O, float, random seed or hash order inside, and no unsafe code: the same commands give the
//! same events and the same digest on any machine, debug or release, live or replayed.

#![forbid(unsafe_code)]

mod approvals;
mod audit;
mod authorisations;
mod band;
mod business_day;
mod collateral;
mod deadlines;
mod handlers;
mod index;
mod instruments;
mod intraday;
mod ledger;
mod limits;
pub mod matching;
mod outbox;
mod positions;
mod postings;
mod reference_data;
mod schedule;
mod settlement;
mod snapshot;
mod state;
mod throttles;
mod ticks;
mod transfers;
mod waiting;
mod window;

pub use limits::Limits;
pub use outbox::Outbox;
pub use postings::{Cause, Posting, PostingKind, PostingSide, Sums};
pub use settlement::memory::PaymentsMemory;
pub use waiting::{Waiting, WaitingAccount, WaitingLimit, WaitingPayment};

pub use crate::memory::Take;
use crate::protocol::command::{Command, CommandKind, ThrottledKind};
use crate::protocol::event::{Account, TransferRecord};
use crate::protocol::frame::CommandRef;
use crate::protocol::units::{AccountId, Timestamp, TransferId};
use handlers::hints::{self, Sides};
use handlers::{
    administration, approvals as four_eyes, authorisations as authorised, batches, clock, cycles,
    groups, orders, participants, payments, queries, reference_data as setup, release, saving,
    throttles as throttled,
};
use state::State;

// Codes of the kinds that are looked at ahead of their turn.
const TRANSFER: u16 = CommandKind::Transfer as u16;
const SUBMIT_PAYMENT: u16 = CommandKind::SubmitPayment as u16;
const PLACE_ORDER: u16 = CommandKind::PlaceOrder as u16;
const CANCEL_ORDER: u16 = CommandKind::CancelOrder as u16;
const REPLACE_ORDER: u16 = CommandKind::ReplaceOrder as u16;

/// Everything that is owed, owned, queued and resting, and the rules that move it.
pub struct Engine {
    sequence: u64,
    state: State,
}

impl Engine {
    /// An empty engine with tables of these sizes.
    pub fn new(limits: &Limits) -> Engine {
        Engine {
            sequence: 0,
            state: State::new(limits),
        }
    }

    /// Takes the memory of every table for good. A node does this at start, so that no command pays
    /// for a page fault; whoever replays a long journal takes huge pages as it touches them.
    pub fn take_memory(&mut self, how: Take) {
        self.state.ledger.take_memory(how);
        self.state.transfers.take_memory(how);
        self.state.authorisations.take_memory(how);
        self.state.authorisation_steps.take_memory(how);
        self.state.deadlines.take_memory();
        self.state.payments.take_memory(how);
        self.state.matching.take_memory(how);
        self.state.positions.take_memory(how);
    }

    /// Keeps what moves sums from now on for a follower, or no longer; off in a node.
    pub fn record_postings(&mut self, on: bool) {
        self.state.ledger.record_postings(on);
    }

    /// What moved since [`Engine::forget_postings`], in order; nothing where nothing is recorded.
    pub fn postings(&self) -> &[Posting] {
        self.state.ledger.postings()
    }

    /// Forgets the postings that were read; between commands.
    pub fn forget_postings(&mut self) {
        self.state.ledger.forget_postings();
    }

    /// The transfer of that id as it stands in the idempotency window.
    pub fn transfer(&self, id: TransferId) -> Option<TransferRecord> {
        queries::transfer_record(&self.state, id)
    }

    /// The account of that id as it stands.
    pub fn account(&self, id: AccountId) -> Option<Account> {
        queries::account(&self.state, id)
    }

    /// Executes one command, whole (a batch with all its items). Cannot fail: a refusal is an
    /// event. `sequence` is one more than the last.
    ///
    /// # Panics
    /// On a command that no door would have let in, and on a broken invariant: both are bugs.
    #[inline]
    pub fn apply(&mut self, sequence: u64, command: CommandRef<'_>, out: &mut Outbox) {
        assert_eq!(
            sequence,
            self.sequence + 1,
            "commands are executed in order"
        );
        let decoded = command.decode().expect("validated at the door");
        self.sequence = sequence;
        self.state.risen.sequence = sequence;
        self.state.now = self.state.now.max(Timestamp(command.header.received_at));
        out.begin(sequence, command.header, self.state.now);
        if self.next_deadline().is_some_and(|at| at <= self.state.now) {
            clock::let_lapse(&mut self.state, out);
        }
        if self.state.throttles.are_set() {
            self.execute_if_let_in(decoded, command, out);
        } else {
            self.execute(decoded, command, out);
        }
        orders::publish(&mut self.state, out);
        if std::mem::take(&mut self.state.closings_changed) {
            participants::mark_blocked(&mut self.state);
            groups::pay_out_delayed(&mut self.state, out);
        }
        release::release(&mut self.state, out);
        saving::run_when_due(&mut self.state, out);
        out.end();
    }

    /// Executes a command. `given` is what `command` was decoded from.
    #[inline(always)]
    fn execute(&mut self, command: Command<'_>, given: CommandRef<'_>, out: &mut Outbox) {
        let state = &mut self.state;
        match command {
            Command::Transfer(asked) => handlers::transfers::transfer(state, asked, out),
            Command::Transfers(_, asked) => handlers::transfers::transfers(state, asked, out),
            Command::SubmitPayment(asked) => payments::submit_payment(state, asked, out),
            Command::CancelPayment(asked) => payments::cancel_payment(state, asked, out),
            Command::CreateTickTable(asked, steps) => {
                setup::create_tick_table(state, asked, steps, out);
            }
            Command::PlaceOrder(asked) => orders::place_order(state, asked, out),
            Command::PlaceOrderList(asked, list) => {
                orders::place_order_list(state, asked, list, out);
            }
            Command::CancelOrder(asked) => orders::cancel_order(state, asked, out),
            Command::ReplaceOrder(asked) => orders::replace_order(state, asked, out),
            Command::MassCancel(asked) => orders::mass_cancel(state, asked, out),
            Command::Tick(_) => clock::tick(out),
            Command::Authorise(asked) => authorised::authorise(state, asked, out),
            Command::Increment(asked) => authorised::increment(state, asked, out),
            Command::Capture(asked) => authorised::capture(state, asked, out),
            Command::Void(asked) => authorised::void(state, asked, out),
            Command::Refund(asked) => authorised::refund(state, asked, out),
            Command::HoldPayment(asked) => payments::hold_payment(state, asked, out),
            Command::ReleasePayment(asked) => payments::release_payment(state, asked, out),
            Command::SetPaymentPriority(asked) => payments::set_payment_priority(state, asked, out),
            Command::MovePayment(asked) => payments::move_payment(state, asked, out),
            Command::SubmitGroup(asked, legs) => groups::submit_group(state, asked, legs, out),
            Command::ProposeBatch(asked, items) => batches::propose_batch(state, asked, items, out),
            Command::CancelOnDisconnect(asked) => orders::cancel_on_disconnect(state, asked, out),
            Command::Disconnect(asked) => orders::disconnect(state, asked, out),
            Command::CreateAsset(_)
            | Command::CreateParticipant(_)
            | Command::CreateAccount(_)
            | Command::SetCreditLine(_)
            | Command::SetReservation(_)
            | Command::SetBilateralLimit(_)
            | Command::SetMultilateralLimit(_)
            | Command::SetLiquiditySaving(_)
            | Command::RunLiquiditySaving(_)
            | Command::SetParticipantState(_)
            | Command::SetPhase(_)
            | Command::CreateInstrument(_)
            | Command::SetInstrumentPhase(_)
            | Command::Uncross(_)
            | Command::PublishBook(_)
            | Command::SetCollateralValue(_)
            | Command::SetCollateralPool(_)
            | Command::PledgeCollateral(_)
            | Command::ReleaseCollateral(_)
            | Command::SetFourEyes(_)
            | Command::SetThrottle(_)
            | Command::SchedulePhase(_)
            | Command::ExtendPhase(_)
            | Command::SetOvernightCredit(_)
            | Command::AllowPartialSettlement(_)
            | Command::SettleCycle(_) => administration::administer(state, command, given, out),
            Command::Propose(asked, words) => {
                four_eyes::propose(state, given.header.user, asked, words, out);
            }
            Command::Approve(asked) => four_eyes::approve(state, given.header.user, asked, out),
            Command::Reject(asked) => four_eyes::reject(state, given.header.user, asked, out),
            Command::QueryAccount(_)
            | Command::QueryPayment(_)
            | Command::QueryOrder(_)
            | Command::QueryBook(_)
            | Command::QueryQueue(_)
            | Command::QueryBookOrders(_)
            | Command::QueryDigest(_)
            | Command::QueryTransfer(_)
            | Command::QueryGroup(_)
            | Command::QueryAuthorisation(_)
            | Command::QueryProposals(_)
            | Command::QueryThrottles(_)
            | Command::QueryDay(_)
            | Command::QueryCredit(_)
            | Command::QueryPositions(_)
            | Command::QueryParticipants(_) => unreachable!("queries are answered, not executed"),
        }
    }

    /// Executes a command where throttles are set and may hold it back.
    #[cold]
    #[inline(never)]
    fn execute_if_let_in(&mut self, command: Command<'_>, given: CommandRef<'_>, out: &mut Outbox) {
        let state = &mut self.state;
        match command {
            Command::Transfer(asked) => handlers::transfers::transfer_if_let_in(state, asked, out),
            Command::Transfers(_, asked) => {
                handlers::transfers::transfers_if_let_in(state, asked, out);
            }
            Command::SubmitPayment(asked) => throttled::submit_payment(state, asked, out),
            Command::SubmitGroup(asked, legs) => throttled::submit_group(state, asked, legs, out),
            Command::Authorise(asked) => throttled::authorise(state, asked, out),
            Command::Increment(asked) => {
                throttled::step(state, ThrottledKind::Increment, asked, out);
            }
            Command::Capture(asked) => throttled::step(state, ThrottledKind::Capture, asked, out),
            Command::Refund(asked) => throttled::step(state, ThrottledKind::Refund, asked, out),
            Command::PlaceOrder(asked) => throttled::place_order(state, asked, out),
            Command::PlaceOrderList(asked, list) => {
                throttled::place_order_list(state, asked, list, out);
            }
            Command::ReplaceOrder(asked) => throttled::replace_order(state, asked, out),
            other => self.execute(other, given, out),
        }
    }

    /// Answers a query; changes nothing. Whatever is no query is refused.
    pub fn query(&self, command: CommandRef<'_>, out: &mut Outbox) {
        let state = &self.state;
        let decoded = command.decode().expect("validated at the door");
        out.begin_query(self.sequence, command.header, self.state.now);
        match decoded {
            Command::QueryAccount(asked) => queries::query_account(state, asked, out),
            Command::QueryPayment(asked) => queries::query_payment(state, asked, out),
            Command::QueryOrder(asked) => queries::query_order(state, asked, out),
            Command::QueryBook(asked) => queries::query_book(state, asked, out),
            Command::QueryBookOrders(asked) => orders::query_book_orders(state, asked, out),
            Command::QueryQueue(asked) => queries::query_queue(state, asked, out),
            Command::QueryGroup(asked) => queries::query_group(state, asked, out),
            Command::QueryDigest(_) => self.query_digest(out),
            Command::QueryTransfer(asked) => queries::query_transfer(state, asked, out),
            Command::QueryAuthorisation(asked) => queries::query_authorisation(state, asked, out),
            Command::QueryProposals(_) => four_eyes::query_proposals(state, out),
            Command::QueryCredit(asked) => handlers::credit::query_credit(state, asked, out),
            Command::QueryDay(_) => handlers::schedule::query_day(state, out),
            Command::QueryParticipants(asked) => {
                participants::query_participants(state, asked, out)
            }
            Command::QueryPositions(asked) => cycles::query_positions(state, asked, out),
            Command::QueryThrottles(_) => throttled::query_throttles(state, out),
            _ => panic!("commands are executed, not answered"),
        }
        out.end();
    }

    fn query_digest(&self, out: &mut Outbox) {
        let body = crate::protocol::event::Digest {
            digest: self.digest(),
            at_sequence: self.sequence,
            now: self.state.now,
        };
        out.push(crate::protocol::event::EventKind::Digest, &body);
    }

    /// Warms the caches for a command that comes about eight commands later: where its lookups
    /// begin. Reads the code as it stands: a hint may be wrong, and need not be validated.
    #[inline]
    pub fn prefetch_lookups(&self, command: CommandRef<'_>) {
        match command.header.kind {
            TRANSFER => {
                if let Some(sides) = Sides::of(command) {
                    hints::touch_lookups(&self.state, sides, hints::pending_of(command));
                }
            }
            SUBMIT_PAYMENT => {
                if let Some(sides) = Sides::of(command) {
                    hints::touch_payment(&self.state, sides);
                }
            }
            PLACE_ORDER | CANCEL_ORDER | REPLACE_ORDER => {
                orders::touch_lookups(&self.state, command);
                if command.header.kind == PLACE_ORDER {
                    orders::touch_level(&self.state, command, 0);
                }
            }
            _ => {}
        }
    }

    /// Warms the caches for a command that comes about four commands later: what its lookups find.
    #[inline]
    pub fn prefetch_rows(&self, command: CommandRef<'_>) {
        match command.header.kind {
            TRANSFER => {
                if let Some(sides) = Sides::of(command) {
                    hints::touch_rows(&self.state, sides, hints::pending_of(command));
                }
            }
            SUBMIT_PAYMENT => {
                if let Some(sides) = Sides::of(command) {
                    hints::touch_rows(&self.state, sides, None);
                }
            }
            PLACE_ORDER => orders::touch_level(&self.state, command, 1),
            CANCEL_ORDER | REPLACE_ORDER => orders::touch_order(&self.state, command),
            _ => {}
        }
    }

    /// Warms the caches for a command that comes about two commands later: what its rows lead to.
    #[inline]
    pub fn prefetch_led_to(&self, command: CommandRef<'_>) {
        match command.header.kind {
            TRANSFER => {
                if let Some(pending) = hints::pending_of(command) {
                    hints::touch_led_to(&self.state, pending);
                }
            }
            PLACE_ORDER => orders::touch_level(&self.state, command, 3),
            CANCEL_ORDER | REPLACE_ORDER => orders::touch_neighbours(&self.state, command),
            _ => {}
        }
    }

    /// Sequence of the last command executed, 0 for none.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The engine's now: the latest `received_at` seen.
    pub fn now(&self) -> Timestamp {
        self.state.now
    }

    /// Sessions whose orders go when their connections do: when a node starts, none has one.
    pub fn sessions_with_orders_to_cancel(&self) -> Vec<u64> {
        self.state.matching.sessions().collect()
    }

    /// What payments, their indexes and the room of liquidity saving take.
    pub fn payments_memory(&self) -> PaymentsMemory {
        PaymentsMemory::of(&self.state.payments, &self.state.netting)
    }

    /// Copies out what waits and what bounds it, for a follower.
    pub fn waiting(&self) -> Waiting {
        waiting::copy(&self.state, self.sequence)
    }

    /// Payments that wait.
    pub fn queued_payments(&self) -> u64 {
        self.state.payments.queued()
    }

    /// When a tick is next needed, if anything waits for time to pass.
    #[inline]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.state.payments.is_settled_down() {
            self.state.deadlines.first()
        } else {
            // Release has more to look at than one command's share.
            Some(self.state.now)
        }
    }
}
