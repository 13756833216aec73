//! One kind of command at a time, for counting what each takes: `tools/instructions.sh` runs them under
//! callgrind. What a command needs (a pending transfer, a resting order) is there before the first.

use super::workload::{
    Transfers, Workload, create_account, create_asset, create_participant, fill, transfer,
};
use crate::protocol::command::{
    AccountFlags, AuthorisationStep, Authorise, CancelOrder, CommandKind, PlaceOrder, Priority,
    ReplaceOrder, SubmitPayment, TransferFlags,
};
use crate::protocol::frame::{CommandFrame, CommandSlot};
use crate::protocol::script::ScriptParser;
use crate::protocol::units::{
    AccountId, Amount, ClientOrderId, PaymentId, Price, Timestamp, TransferId,
};
use crate::protocol::wire::Zero;

/// A kind of command, or what becomes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Single {
    /// Pending transfers
    Pending,
    /// Posts of pending transfers
    Post,
    /// Voids of pending transfers
    Void,
    /// Authorisations
    Authorise,
    /// Captures of a part
    Capture,
    /// Payments that settle with one that waits the other way
    Offset,
    /// Orders that come to rest
    Resting,
    /// Orders that meet one other
    Crossing,
    /// Moves of resting orders to another price
    Replace,
    /// Cancels of resting orders
    Cancel,
}

/// A stream of one kind of command.
pub struct Singles {
    kind: Single,
    /// Commands that can be made.
    count: u64,
    next: u64,
    accounts: u64,
    plain: Transfers,
    order: PlaceOrder,
}

const Z: Zero = Zero::Zero;
/// Lots of every order and amount of every payment.
const SOME: u64 = 10;
/// The first id.
const FIRST: u64 = 1;

impl Singles {
    /// `count` commands of a kind, over `accounts` accounts.
    pub fn new(kind: Single, accounts: u64, count: u64, seed: u64) -> Singles {
        let order = line(
            r#"{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":1,"side":"buy","price":1,"quantity":10}"#,
        );
        Singles {
            kind,
            count,
            next: 0,
            accounts: accounts & !1,
            plain: Transfers::new(accounts & !1, seed),
            order: body(&order),
        }
    }

    /// Whether a command of the kind finds something that was there before it, once for each.
    fn prepared(&self) -> Option<CommandKind> {
        match self.kind {
            Single::Pending | Single::Authorise | Single::Resting => None,
            Single::Post | Single::Void => Some(CommandKind::Transfer),
            Single::Capture => Some(CommandKind::Authorise),
            Single::Offset => Some(CommandKind::SubmitPayment),
            Single::Crossing | Single::Replace | Single::Cancel => Some(CommandKind::PlaceOrder),
        }
    }

    /// Numbers from here and there, each once: what was prepared first is not needed first.
    fn mixed(&self, at: u64) -> u64 {
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15) & (self.count - 1)
    }

    fn pending(&mut self, id: u64) -> crate::protocol::command::Transfer {
        crate::protocol::command::Transfer {
            flags: TransferFlags::PENDING,
            ..self.plain.with_id(u128::from(id))
        }
    }

    fn authorise(&mut self, id: u64) -> Authorise {
        let plain = self.plain.with_id(u128::from(id));
        Authorise {
            id: plain.id,
            debit_account: plain.debit_account,
            credit_account: plain.credit_account,
            amount: plain.amount,
            expires_at: Timestamp(0),
            _reserved: [Z; 8],
        }
    }

    /// From one account of a pair to the other: number by number through the pairs.
    fn payment(&self, id: u64, number: u64, back: bool) -> SubmitPayment {
        let first = number % (self.accounts / 2) * 2 + 1;
        let (debtor, creditor) = if back {
            (first + 1, first)
        } else {
            (first, first + 1)
        };
        SubmitPayment {
            id: PaymentId(u128::from(id)),
            debtor_account: AccountId(debtor),
            creditor_account: AccountId(creditor),
            amount: Amount(u128::from(SOME)),
            return_of: PaymentId(0),
            earliest_at: Timestamp(0),
            latest_at: Timestamp(0),
            priority: Priority::Normal,
            _reserved: [Z; 3],
            value_date: 0,
            _reserved_end: [Z; 8],
        }
    }

    /// A buy over a thousand prices, far from any sell.
    fn resting(&self, id: u64) -> PlaceOrder {
        PlaceOrder {
            client_order_id: ClientOrderId(id),
            price: Price(1 + (id % 1_000) as i64),
            ..self.order
        }
    }

    /// A sell of the other participant at one price.
    fn offered(&self, id: u64) -> PlaceOrder {
        let sell = line(
            r#"{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":1,"side":"sell","price":5000,"quantity":10}"#,
        );
        PlaceOrder {
            client_order_id: ClientOrderId(id),
            ..body(&sell)
        }
    }

    fn prepare(&mut self, number: u64) -> CommandFrame {
        let id = FIRST + number;
        let kind = self.prepared().expect("something is prepared");
        match self.kind {
            Single::Post | Single::Void => CommandFrame::new(kind, &self.pending(id)),
            Single::Capture => CommandFrame::new(kind, &self.authorise(id)),
            Single::Offset => CommandFrame::new(kind, &self.payment(id, number, false)),
            Single::Crossing => CommandFrame::new(kind, &self.offered(id)),
            Single::Replace | Single::Cancel => CommandFrame::new(kind, &self.resting(id)),
            Single::Pending | Single::Authorise | Single::Resting => unreachable!("asked before"),
        }
    }
}

impl Workload for Singles {
    fn setup(&mut self) -> Box<dyn Iterator<Item = CommandFrame> + '_> {
        let names = [
            create_asset(1, "EUR"),
            create_asset(2, "SHARE"),
            create_participant(1, "A"),
            create_participant(2, "B"),
            create_participant(3, "C"),
        ];
        // Nobody has money who is to wait for it; all others may go below zero.
        let flags = match self.kind {
            Single::Offset => AccountFlags::SETTLEMENT,
            _ => AccountFlags::NONE,
        };
        // Who trades has few accounts.
        let open = move |id| create_account(id, if id == 1 { 1 } else { 3 }, 1, flags);
        let accounts = (1..=self.accounts).map(open);
        let seller = self.accounts + 1;
        let trading = [
            create_account(seller, 2, 1, AccountFlags::NONE),
            create_account(seller + 1, 1, 2, AccountFlags::NONE),
            create_account(seller + 2, 2, 2, AccountFlags::NONE),
            line(&format!(
                r#"{{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1,"max_price":10000,"maker_fee_bps":10,"taker_fee_bps":20,"fee_account":{seller}}}"#
            )),
        ];
        let count = self.prepared().map_or(0, |_| self.count);
        let prepared = (0..count).map(|number| self.prepare(number));
        Box::new(
            names
                .into_iter()
                .chain(accounts)
                .chain(trading)
                .chain(prepared),
        )
    }

    fn next(&mut self, slot: &mut CommandSlot) {
        let number = self.next;
        self.next += 1;
        assert!(number < self.count, "no more was prepared");
        // Ids behind those of what was prepared.
        let id = FIRST + self.count + number;
        let other = u128::from(FIRST + self.mixed(number));
        match self.kind {
            Single::Pending => fill(slot, CommandKind::Transfer, &self.pending(id)),
            Single::Post | Single::Void => {
                let flags = match self.kind {
                    Single::Post => TransferFlags::POST_PENDING,
                    _ => TransferFlags::VOID_PENDING,
                };
                let body = crate::protocol::command::Transfer {
                    pending_id: TransferId(other),
                    flags,
                    code: 0,
                    ..transfer(u128::from(id), 0, 0, u128::MAX)
                };
                fill(slot, CommandKind::Transfer, &body);
            }
            Single::Authorise => fill(slot, CommandKind::Authorise, &self.authorise(id)),
            Single::Capture => {
                let body: AuthorisationStep = body(&line(&format!(
                    r#"{{"cmd":"capture","id":{other},"amount":1}}"#
                )));
                fill(slot, CommandKind::Capture, &body);
            }
            Single::Offset => {
                fill(
                    slot,
                    CommandKind::SubmitPayment,
                    &self.payment(id, number, true),
                );
            }
            Single::Resting => fill(slot, CommandKind::PlaceOrder, &self.resting(id)),
            Single::Crossing => {
                let body = PlaceOrder {
                    client_order_id: ClientOrderId(id),
                    price: Price(5_000),
                    ..self.order
                };
                fill(slot, CommandKind::PlaceOrder, &body);
            }
            Single::Replace => {
                let body: ReplaceOrder = body(&line(&format!(
                    r#"{{"cmd":"replace_order","participant":1,"client_order_id":{other},"price":{}}}"#,
                    1 + (number * 7) % 1_000
                )));
                fill(slot, CommandKind::ReplaceOrder, &body);
            }
            Single::Cancel => {
                let body: CancelOrder = body(&line(&format!(
                    r#"{{"cmd":"cancel_order","participant":1,"client_order_id":{other}}}"#
                )));
                fill(slot, CommandKind::CancelOrder, &body);
            }
        }
    }
}

/// The command of a script line.
fn line(text: &str) -> CommandFrame {
    let parsed = ScriptParser::default().parse(text);
    parsed.expect("a line").expect("a command")
}

/// The body of a frame that we made.
fn body<T: zerocopy::TryFromBytes>(frame: &CommandFrame) -> T {
    match T::try_read_from_bytes(frame.as_ref().body) {
        Ok(body) => body,
        Err(_) => unreachable!("of that kind"),
    }
}
