//! The checker's own books: what every account must have been debited and credited, added up from the
//! events alone by rules of three lines each.
//!
//! A transfer that was created moves what its event says, one that posts a reservation between the
//! accounts of that reservation. A payment that settled moves its amount. A trade moves paper one way and
//! its price times its quantity of money the other. Nothing else moves anything.

use super::market::{MONEY, PAPER};
use millrace::protocol::frame::CommandRef;
use millrace::protocol::json::write_command;
use serde_json::Value;
use std::collections::HashMap;

/// Sums of accounts: debits and credits, posted.
#[derive(Default)]
pub struct Books {
    sums: HashMap<u64, [u128; 2]>,
    /// Reservations: between which accounts.
    reserved: HashMap<u128, [u64; 2]>,
    /// Payments: between which accounts, how much.
    payments: HashMap<u128, ([u64; 2], u128)>,
    /// Orders that buy, by the participant and its own id.
    buys: HashMap<(u64, u128), bool>,
    /// Orders by the engine's id.
    orders: HashMap<u128, bool>,
    text: String,
    words: Vec<u128>,
}

impl Books {
    /// What an account was debited and credited.
    pub fn sums_of(&self, account: u64) -> [u128; 2] {
        self.sums.get(&account).copied().unwrap_or_default()
    }

    /// Adds a command (its whole frame) and its events, as lines.
    pub fn add(&mut self, frame: &[u8], lines: &str) -> Result<(), String> {
        let command = self.command_of(frame)?;
        let mut items = match command.get("transfers").and_then(Value::as_array) {
            Some(items) => items.iter(),
            None => std::slice::from_ref(&command).iter(),
        };
        self.note(&command);
        for line in lines.lines() {
            let event: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            match event["event"].as_str().unwrap_or_default() {
                // A reservation whose time is over, before the command's own events: nothing was posted.
                "transfer" if event["status"] == "expired" => {}
                "transfer" => {
                    let item = items.next().ok_or("more events than transfers")?;
                    self.transferred(item, &event)?;
                }
                "payment_settled" => {
                    let id = number(&event["id"]).ok_or("a payment without an id")?;
                    let (accounts, amount) = self.payments.get(&id).ok_or("no such payment")?;
                    self.move_between(*accounts, *amount);
                }
                "order_accepted" => {
                    let owner = number(&event["participant"]).ok_or("no participant")? as u64;
                    let own_id = number(&event["client_order_id"]).ok_or("no client_order_id")?;
                    let id = number(&event["order_id"]).ok_or("no order_id")?;
                    let buys = self.buys.get(&(owner, own_id)).ok_or("no such order")?;
                    self.orders.insert(id, *buys);
                }
                "trade" => self.traded(&event)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn command_of(&mut self, frame: &[u8]) -> Result<Value, String> {
        self.words.clear();
        self.words.resize(frame.len().div_ceil(16), 0);
        bytemuck::cast_slice_mut::<u128, u8>(&mut self.words)[..frame.len()].copy_from_slice(frame);
        let bytes = &bytemuck::cast_slice(&self.words)[..frame.len()];
        let command = CommandRef::from_bytes(bytes).map_err(|error| error.to_string())?;
        self.text.clear();
        write_command(&mut self.text, None, command);
        serde_json::from_str(&self.text).map_err(|error| error.to_string())
    }

    /// What later events only name.
    fn note(&mut self, command: &Value) {
        match command["cmd"].as_str().unwrap_or_default() {
            "submit_payment" => {
                if let (Some(id), Some(accounts), Some(amount)) = (
                    number(&command["id"]),
                    pair(command, "debtor_account", "creditor_account"),
                    number(&command["amount"]),
                ) {
                    // An id that is taken keeps its payment.
                    self.payments.entry(id).or_insert((accounts, amount));
                }
            }
            "place_order" => {
                if let (Some(owner), Some(id)) = (
                    number(&command["participant"]),
                    number(&command["client_order_id"]),
                ) {
                    let buys = command["side"] == "buy";
                    self.buys.entry((owner as u64, id)).or_insert(buys);
                }
            }
            _ => {}
        }
    }

    fn transferred(&mut self, item: &Value, event: &Value) -> Result<(), String> {
        if event["status"] != "created" {
            return Ok(());
        }
        let flags = item["flags"].as_array().map_or(&[][..], Vec::as_slice);
        let has = |flag: &str| flags.iter().any(|it| it == flag);
        let id = number(&item["id"]).ok_or("a transfer without an id")?;
        let accounts = pair(item, "debit_account", "credit_account");
        if has("pending") {
            self.reserved.insert(id, accounts.ok_or("no accounts")?);
            return Ok(());
        }
        if has("void_pending") {
            return Ok(());
        }
        let accounts = if has("post_pending") {
            let pending = number(&item["pending_id"]).ok_or("no pending_id")?;
            *self.reserved.get(&pending).ok_or("no such reservation")?
        } else {
            accounts.ok_or("no accounts")?
        };
        self.move_between(accounts, number(&event["amount"]).ok_or("no amount")?);
        Ok(())
    }

    fn traded(&mut self, event: &Value) -> Result<(), String> {
        let of = |name: &str| number(&event[name]).ok_or_else(|| format!("a trade without {name}"));
        let maker_buys = *self
            .orders
            .get(&of("maker_order_id")?)
            .ok_or("no such order")?;
        let (maker, taker) = (
            of("maker_participant")? as u64 - 1,
            of("taker_participant")? as u64 - 1,
        );
        let (buyer, seller) = if maker_buys {
            (maker, taker)
        } else {
            (taker, maker)
        };
        let quantity = of("quantity")?;
        let (money, paper) = (MONEY.start(), PAPER.start());
        self.move_between([paper + seller, paper + buyer], quantity);
        self.move_between([money + buyer, money + seller], of("price")? * quantity);
        Ok(())
    }

    fn move_between(&mut self, [debit, credit]: [u64; 2], amount: u128) {
        self.sums.entry(debit).or_default()[0] += amount;
        self.sums.entry(credit).or_default()[1] += amount;
    }
}

fn pair(object: &Value, debit: &str, credit: &str) -> Option<[u64; 2]> {
    Some([
        number(&object[debit])? as u64,
        number(&object[credit])? as u64,
    ])
}

/// A number, which beyond 2^53 is written as text.
pub fn number(value: &Value) -> Option<u128> {
    match value {
        Value::Number(number) => number.as_u64().map(u128::from),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
