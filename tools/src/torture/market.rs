//! What the clients trade with each other: a small bank and a small exchange, and the commands that
//! honest clients make up.

use super::random::Random;
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::script::ScriptParser;

/// Accounts that may go either way: plain transfers run between them.
pub const LOOSE: std::ops::RangeInclusive<u64> = 21..=36;
/// Accounts of money that settle payments and trades, one for each participant.
pub const MONEY: std::ops::RangeInclusive<u64> = 1..=4;
/// Accounts of paper that settle trades, one for each participant.
pub const PAPER: std::ops::RangeInclusive<u64> = 11..=14;
/// Where money and paper come from.
const SOURCES: [u64; 2] = [51, PAPER_SOURCE];
/// The source of paper.
pub const PAPER_SOURCE: u64 = 52;
/// What each participant begins with, of either.
const FUNDS: u64 = 1_000_000;

/// Every account there is.
pub fn accounts() -> impl Iterator<Item = u64> {
    MONEY.chain(PAPER).chain(LOOSE).chain(SOURCES)
}

/// The command in a script line.
pub fn command(line: &str) -> CommandFrame {
    match ScriptParser::default().parse(line) {
        Ok(Some(frame)) => frame,
        other => panic!("{line}: {other:?}"),
    }
}

/// What opens the market.
pub fn opening() -> Vec<CommandFrame> {
    let mut lines = vec![
        r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.to_string(),
        r#"{"cmd":"create_asset","asset":2,"code":"BOND","scale":0,"kind":"security"}"#.to_string(),
    ];
    for participant in 1..=4 {
        lines.push(format!(
            r#"{{"cmd":"create_participant","participant":{participant},"code":"P{participant}"}}"#
        ));
    }
    let account = |account: u64, participant: u64, asset: u32, flags: &str| {
        format!(
            r#"{{"cmd":"create_account","account":{account},"participant":{participant},"asset":{asset}{flags}}}"#
        )
    };
    let settles = r#","flags":["settlement"]"#;
    lines.extend(MONEY.map(|it| account(it, it, 1, settles)));
    lines.extend(PAPER.map(|it| account(it, it - 10, 2, settles)));
    lines.extend(LOOSE.map(|it| account(it, 1 + it % 4, 1, "")));
    lines.push(account(SOURCES[0], 1, 1, ""));
    lines.push(account(SOURCES[1], 1, 2, ""));
    for (id, (to, from)) in MONEY
        .map(|it| (it, SOURCES[0]))
        .chain(PAPER.map(|it| (it, SOURCES[1])))
        .enumerate()
    {
        lines.push(format!(
            r#"{{"cmd":"transfer","id":{},"debit_account":{from},"credit_account":{to},"amount":{FUNDS}}}"#,
            id + 1
        ));
    }
    lines.push(
        r#"{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1}"#
            .to_string(),
    );
    lines.push(r#"{"cmd":"set_instrument_phase","instrument":1,"phase":"continuous"}"#.to_string());
    lines.iter().map(|line| command(line)).collect()
}

/// An honest client's next commands, with ids that nobody else uses.
pub struct Mind {
    random: Random,
    /// In the high half of every id.
    who: u64,
    next: u64,
    pending: Vec<u64>,
    payments: Vec<u64>,
    orders: Vec<(u64, u64)>,
}

impl Mind {
    /// Of client `who`.
    pub fn new(who: u64, seed: u64) -> Mind {
        Mind {
            random: Random::new(seed, 1_000 + who),
            who,
            next: 0,
            pending: Vec::new(),
            payments: Vec::new(),
            orders: Vec::new(),
        }
    }

    /// The next command.
    pub fn next(&mut self) -> CommandFrame {
        let line = match self.random.below(100) {
            0..45 => self.transfer(""),
            45..53 => self.reserve(),
            53..60 => self.resolve(),
            60..70 => self.batch(),
            70..82 => self.payment(),
            82..85 => self.cancel_payment(),
            85..95 => self.order(),
            95..99 => self.cancel_order(),
            _ => self.mass_cancel(),
        };
        command(&line)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// An id as scripts write it.
    fn id(&self, number: u64) -> u128 {
        u128::from(self.who) << 64 | u128::from(number)
    }

    fn loose(&mut self) -> (u64, u64) {
        let count = LOOSE.end() - LOOSE.start() + 1;
        let debit = self.random.below(count);
        let credit = (debit + 1 + self.random.below(count - 1)) % count;
        (LOOSE.start() + debit, LOOSE.start() + credit)
    }

    fn transfer(&mut self, more: &str) -> String {
        let number = self.number();
        let item = self.item(number, more);
        format!(r#"{{"cmd":"transfer",{item}}}"#)
    }

    fn item(&mut self, number: u64, more: &str) -> String {
        let (debit, credit) = self.loose();
        let amount = self.random.between(1, 500);
        let id = self.id(number);
        format!(
            r#""id":"{id}","debit_account":{debit},"credit_account":{credit},"amount":{amount}{more}"#
        )
    }

    fn reserve(&mut self) -> String {
        let line = match self.random.below(3) {
            0 => self.transfer(r#","flags":["pending"],"timeout_s":3600"#),
            _ => self.transfer(r#","flags":["pending"]"#),
        };
        self.pending.push(self.next);
        line
    }

    fn resolve(&mut self) -> String {
        if self.pending.is_empty() {
            return self.transfer("");
        }
        let at = self.random.below(self.pending.len() as u64) as usize;
        let pending = self.pending.swap_remove(at);
        let (number, flag) = (self.number(), ["post_pending", "void_pending"]);
        let flag = flag[self.random.below(2) as usize];
        let (id, pending) = (self.id(number), self.id(pending));
        format!(
            r#"{{"cmd":"transfer","id":"{id}","pending_id":"{pending}","amount":0,"flags":["{flag}"]}}"#
        )
    }

    fn batch(&mut self) -> String {
        let mut items = Vec::new();
        for at in (0..self.random.between(2, 40)).rev() {
            let number = self.number();
            // A chain now and then; the last of a batch ends it.
            let linked = at > 0 && self.random.chance(20);
            let item = self.item(number, if linked { r#","flags":["linked"]"# } else { "" });
            items.push(format!("{{{item}}}"));
        }
        format!(r#"{{"cmd":"transfers","transfers":[{}]}}"#, items.join(","))
    }

    fn payment(&mut self) -> String {
        let number = self.number();
        let debtor = self.random.between(1, 4);
        let creditor = 1 + (debtor + self.random.below(3)) % 4;
        let amount = self.random.between(1, 400_000);
        let priority = ["urgent", "high", "normal"][self.random.below(3) as usize];
        self.payments.push(number);
        let id = self.id(number);
        format!(
            r#"{{"cmd":"submit_payment","id":"{id}","debtor_account":{debtor},"creditor_account":{creditor},"amount":{amount},"priority":"{priority}"}}"#
        )
    }

    fn cancel_payment(&mut self) -> String {
        let Some(number) = self.payments.pop() else {
            return self.transfer("");
        };
        let id = self.id(number);
        format!(r#"{{"cmd":"cancel_payment","id":"{id}"}}"#)
    }

    fn order(&mut self) -> String {
        let number = self.number();
        let participant = self.random.between(1, 4);
        let side = ["buy", "sell"][self.random.below(2) as usize];
        let price = self.random.between(95, 105);
        let quantity = self.random.between(1, 20);
        let tif = ["day", "day", "gtc", "ioc"][self.random.below(4) as usize];
        let order = self.who << 32 | number;
        self.orders.push((participant, order));
        format!(
            r#"{{"cmd":"place_order","participant":{participant},"client_order_id":{order},"instrument":1,"side":"{side}","price":{price},"quantity":{quantity},"time_in_force":"{tif}"}}"#
        )
    }

    fn cancel_order(&mut self) -> String {
        let Some((participant, order)) = self.orders.pop() else {
            return self.transfer("");
        };
        format!(r#"{{"cmd":"cancel_order","participant":{participant},"client_order_id":{order}}}"#)
    }

    fn mass_cancel(&mut self) -> String {
        self.orders.clear();
        let participant = self.random.between(1, 4);
        format!(r#"{{"cmd":"mass_cancel","participant":{participant}}}"#)
    }
}
