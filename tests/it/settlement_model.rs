//! Entry, release, offsets and gridlock resolution against a slow model that shares nothing with the
//! engine: it keeps payments in one list, sorts it whenever it needs an order, and tries things one
//! by one. Random worlds with classes, credit, reservations, both kinds of limits, holds, blocked
//! participants, moves and cancellations; every event of every payment must be the one predicted,
//! and every waiting payment must explain itself as the model does.
//!
//! What an explanation says is put to the test, too: exactly what is said to be missing releases the
//! payment, and one minor unit less does not.
//!
//! `MILLRACE_SEED` repeats one world, `MILLRACE_WORLDS` sets how many are played.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::event::{Event, Payment as Standing, PaymentMoved};
use millrace::protocol::frame::EventSlot;
use millrace::protocol::script::ScriptParser;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::{BTreeMap, BTreeSet};

/// Brings money in and takes it out.
const ISSUER: usize = 99;
const ACCOUNTS: usize = 5;
const URGENT: usize = 0;
const HIGH: usize = 1;
const NORMAL: usize = 2;
const CLASSES: [&str; 3] = ["urgent", "high", "normal"];

#[derive(Clone, Default)]
struct Account {
    balance: i64,
    credit: i64,
    reserved: [i64; 2],
    multilateral: Option<i64>,
    multilateral_used: i64,
    may_pay: bool,
    may_receive: bool,
}

#[derive(Clone)]
struct Payment {
    id: u64,
    from: usize,
    to: usize,
    amount: i64,
    class: usize,
    key: i64,
    held: bool,
}

/// What becomes of a payment: its id, the event's name, and why or by what.
type Outcome = (u64, &'static str, String);

#[derive(Clone)]
struct Model {
    accounts: BTreeMap<usize, Account>,
    /// Limit and what is used of it.
    bilateral: BTreeMap<(usize, usize), (i64, i64)>,
    waiting: Vec<Payment>,
    settled: BTreeSet<u64>,
    bypass: bool,
    offset: bool,
    back: i64,
    front: i64,
    risen: BTreeSet<usize>,
    said: Vec<Outcome>,
}

impl Model {
    fn new() -> Model {
        let account = Account {
            may_pay: true,
            may_receive: true,
            ..Account::default()
        };
        Model {
            accounts: (1..=ACCOUNTS).map(|at| (at, account.clone())).collect(),
            bilateral: BTreeMap::new(),
            waiting: Vec::new(),
            settled: BTreeSet::new(),
            bypass: true,
            offset: true,
            back: 0,
            front: 0,
            risen: BTreeSet::new(),
            said: Vec::new(),
        }
    }

    fn is_eligible(&self, payment: &Payment) -> bool {
        let is_open =
            self.accounts[&payment.from].may_pay && self.accounts[&payment.to].may_receive;
        !payment.held && is_open
    }

    /// What takes part of an account's queue, in order.
    fn queue(&self, account: usize) -> Vec<Payment> {
        let mut queue: Vec<Payment> = self.waiting.clone();
        queue.retain(|payment| payment.from == account && self.is_eligible(payment));
        queue.sort_by_key(|payment| (payment.class, payment.key));
        queue
    }

    /// What an account may pay in a class beyond what it keeps for others.
    fn spendable(&self, account: usize, class: usize) -> i64 {
        let row = &self.accounts[&account];
        row.balance + row.credit - row.reserved[..class].iter().sum::<i64>()
    }

    /// What a limit leaves for normal payments from one account to another, and its name.
    fn room(&self, from: usize, to: usize) -> Option<(i64, &'static str)> {
        if let Some((limit, used)) = self.bilateral.get(&(from, to)) {
            return Some((limit - used, "limit_bilateral"));
        }
        let row = &self.accounts[&from];
        row.multilateral
            .map(|limit| (limit - row.multilateral_used, "limit_multilateral"))
    }

    /// Why a payment cannot be paid alone, and how much is missing.
    fn lacks(&self, payment: &Payment) -> Option<(&'static str, i64)> {
        let row = &self.accounts[&payment.from];
        let short = payment.amount - self.spendable(payment.from, payment.class);
        if payment.amount > row.balance + row.credit {
            return Some(("insufficient_liquidity", short));
        }
        if short > 0 {
            return Some(("reserved", short));
        }
        let room = self.room(payment.from, payment.to);
        let (room, name) = room.filter(|_| payment.class == NORMAL)?;
        (payment.amount > room).then_some((name, payment.amount - room))
    }

    /// The payment that one has to let go first.
    fn ahead(&self, payment: &Payment) -> Option<u64> {
        let gate = |other: &&Payment| {
            other.class < payment.class
                || other.class == payment.class
                    && other.key < payment.key
                    && (payment.class != NORMAL || !self.bypass)
        };
        let queue = self.queue(payment.from);
        queue.iter().find(gate).map(|other| other.id)
    }

    fn pay(&mut self, payment: &Payment, by: &str) {
        let (from, to, amount) = (payment.from, payment.to, payment.amount);
        let row = self.accounts.get_mut(&from).unwrap();
        row.balance -= amount;
        if payment.class != NORMAL {
            row.reserved[payment.class] = (row.reserved[payment.class] - amount).max(0);
        }
        self.accounts.get_mut(&to).unwrap().balance += amount;
        if payment.class == NORMAL {
            self.use_limit(from, to, amount);
        }
        self.use_limit(to, from, -amount);
        self.waiting.retain(|other| other.id != payment.id);
        self.settled.insert(payment.id);
        self.said.push((payment.id, "payment_settled", by.into()));
        self.risen.insert(to);
    }

    fn use_limit(&mut self, owner: usize, toward: usize, amount: i64) {
        if let Some((_, used)) = self.bilateral.get_mut(&(owner, toward)) {
            *used += amount;
        } else if self.accounts[&owner].multilateral.is_some() {
            self.accounts.get_mut(&owner).unwrap().multilateral_used += amount;
        }
    }

    fn submit(&mut self, mut payment: Payment) {
        let (from, to) = (&self.accounts[&payment.from], &self.accounts[&payment.to]);
        if !from.may_pay || !to.may_receive {
            let why = "participant_blocked".into();
            self.said.push((payment.id, "payment_rejected", why));
            return;
        }
        self.back += 1;
        payment.key = self.back;
        let lacks = self.lacks(&payment);
        let reason = if self.ahead(&payment).is_some() {
            "behind_higher_priority"
        } else if let Some((reason, _)) = lacks {
            if let Some(with) = self.offset_of(&payment) {
                for other in with {
                    self.pay(&other, "offset");
                }
                self.pay(&payment, "offset");
                return;
            }
            reason
        } else {
            self.pay(&payment, "entry");
            return;
        };
        self.said
            .push((payment.id, "payment_queued", reason.into()));
        self.waiting.push(payment);
    }

    /// What settles together with a payment that is short, by age.
    fn offset_of(&self, payment: &Payment) -> Option<Vec<Payment>> {
        if !self.offset {
            return None;
        }
        let queue = self.queue(payment.to);
        let mut owed = Vec::new();
        for other in &queue {
            let passes = other.class == NORMAL && self.bypass;
            if other.to == payment.from {
                owed.push(other.clone());
            } else if !passes {
                break;
            }
        }
        let direct = (1..=owed.len()).map(|count| owed[..count].to_vec());
        let back = queue.iter().filter(|other| other.to == payment.from);
        let singles: Vec<Vec<Payment>> = back.take(10).map(|one| vec![one.clone()]).collect();
        let extended = singles
            .into_iter()
            .filter(|one| one[0].amount < payment.amount);
        let mut found = direct.chain(extended).find(|with| {
            let mut all = with.clone();
            all.push(payment.clone());
            [payment.from, payment.to]
                .iter()
                .all(|account| self.bears(&all, *account))
        })?;
        found.sort_by_key(|other| other.id);
        Some(found)
    }

    /// Whether an account can pay what of `all` it pays out of what it has and gets.
    fn bears(&self, all: &[Payment], account: usize) -> bool {
        let out = |class: usize| -> i64 {
            let of_class = all
                .iter()
                .filter(|one| one.from == account && one.class == class);
            of_class.map(|one| one.amount).sum()
        };
        let pays = [out(URGENT), out(HIGH), out(NORMAL)];
        if pays == [0; 3] {
            return true;
        }
        let to = |one: &&Payment| one.to == account;
        let gets: i64 = all.iter().filter(to).map(|one| one.amount).sum();
        let row = &self.accounts[&account];
        let left = row.balance + row.credit + gets - pays.iter().sum::<i64>();
        let unused = |class: usize| (row.reserved[class] - pays[class]).max(0);
        let floor = match pays {
            [_, 0, 0] => 0,
            [_, _, 0] => unused(URGENT),
            _ => unused(URGENT) + unused(HIGH),
        };
        left >= floor && self.keeps_limits(all, account)
    }

    fn keeps_limits(&self, all: &[Payment], account: usize) -> bool {
        let others: Vec<usize> = self.accounts.keys().copied().collect();
        let sent = |other: usize| {
            let is_out = |one: &&Payment| (one.from, one.to, one.class) == (account, other, NORMAL);
            all.iter().filter(is_out).map(|one| one.amount).sum::<i64>()
        };
        let back = |other: usize| {
            let is_back = |one: &&Payment| (one.from, one.to) == (other, account);
            all.iter()
                .filter(is_back)
                .map(|one| one.amount)
                .sum::<i64>()
        };
        let (mut out, mut net) = (0, 0);
        for other in others {
            if let Some((limit, used)) = self.bilateral.get(&(account, other)) {
                if sent(other) > 0 && used + sent(other) - back(other) > *limit {
                    return false;
                }
            } else {
                out += sent(other);
                net += sent(other) - back(other);
            }
        }
        let row = &self.accounts[&account];
        row.multilateral
            .is_none_or(|limit| out == 0 || row.multilateral_used + net <= limit)
    }

    /// The payment has changed: it goes, or says why it waits; then others may go.
    fn dispose_again(&mut self, id: u64) {
        let payment = self.find(id).clone();
        match self.why(&payment) {
            Some((reason, ..)) => self.said.push((id, "payment_queued", reason.into())),
            None => self.pay(&payment, "release"),
        }
        self.risen.insert(payment.from);
    }

    /// Why a payment waits, what it is short of, and what is ahead; `None` where it may go.
    fn why(&self, payment: &Payment) -> Option<(&'static str, i64, u64)> {
        if payment.held {
            return Some(("held", 0, 0));
        }
        if !self.is_eligible(payment) {
            return Some(("participant_blocked", 0, 0));
        }
        if let Some(ahead) = self.ahead(payment) {
            return Some(("behind_higher_priority", 0, ahead));
        }
        self.lacks(payment)
            .map(|(reason, short)| (reason, short, 0))
    }

    fn find(&self, id: u64) -> &Payment {
        let mut waiting = self.waiting.iter();
        waiting.find(|payment| payment.id == id).unwrap()
    }

    fn change(&mut self, id: u64, how: impl FnOnce(&mut Payment)) {
        let mut waiting = self.waiting.iter_mut();
        how(waiting.find(|payment| payment.id == id).unwrap());
    }

    fn release(&mut self) {
        while let Some(account) = self.risen.pop_first() {
            for payment in self.queue(account) {
                let is_blocked = self
                    .queue(account)
                    .iter()
                    .any(|one| one.class < payment.class);
                if is_blocked {
                    break;
                }
                if self.lacks(&payment).is_none() {
                    self.pay(&payment, "release");
                } else if payment.class != NORMAL || !self.bypass {
                    break;
                }
            }
        }
    }

    /// Everything in; while an account cannot bear its set, a random one of those drops its last.
    fn gridlock(&mut self, rng: &mut Pcg64Mcg) {
        let queues = self
            .accounts
            .keys()
            .flat_map(|account| self.queue(*account));
        let mut kept: Vec<Payment> = queues.collect();
        loop {
            let broken: Vec<usize> = self
                .accounts
                .keys()
                .copied()
                .filter(|account| !self.bears(&kept, *account))
                .collect();
            let Some(account) = broken.get(rng.random_range(0..broken.len().max(1))) else {
                break;
            };
            let last = kept.iter().rposition(|one| one.from == *account).unwrap();
            kept.remove(last);
        }
        kept.sort_by_key(|payment| payment.id);
        for payment in kept {
            self.pay(&payment, "grp");
        }
    }

    fn all_risen(&mut self) {
        self.risen.extend(self.accounts.keys());
    }
}

/// One world: the engine, the model beside it, and what happens to both.
struct World {
    engine: Engine,
    model: Model,
    rng: Pcg64Mcg,
    payments: u64,
    transfers: u64,
    seen: BTreeSet<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            engine: Engine::new(&Limits::small()),
            model: Model::new(),
            rng: Pcg64Mcg::seed_from_u64(seed),
            payments: 0,
            transfers: 0,
            seen: BTreeSet::new(),
        };
        let mut lines = vec![r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.into()];
        for at in (1..=ACCOUNTS).chain([ISSUER]) {
            let flags = if at == ISSUER {
                ""
            } else {
                r#","flags":["settlement"]"#
            };
            lines.push(format!(
                r#"{{"cmd":"create_participant","participant":{at},"code":"P{at}"}}"#
            ));
            lines.push(format!(
                r#"{{"cmd":"create_account","account":{at},"participant":{at},"asset":1{flags}}}"#
            ));
        }
        for line in lines {
            apply(&mut world.engine, &line);
        }
        world
    }

    fn below(&mut self, end: i64) -> i64 {
        self.rng.random_range(0..end)
    }

    fn account(&mut self) -> usize {
        1 + self.below(ACCOUNTS as i64) as usize
    }

    /// A waiting payment.
    fn some(&mut self) -> Option<u64> {
        let count = self.model.waiting.len() as i64;
        let at = (count > 0).then(|| self.below(count))?;
        Some(self.model.waiting[at as usize].id)
    }

    /// Invents a command, runs it in both, and returns its line.
    fn step(&mut self) -> String {
        let (one, other) = (self.account(), self.account());
        let amount = self.below(40);
        let line = match self.below(20) {
            0..8 if one != other => self.submit(one, other, 1 + amount),
            8 | 9 => self.fund(one, amount),
            10 => {
                self.model.accounts.get_mut(&one).unwrap().credit = amount;
                self.model.risen.insert(one);
                format!(r#"{{"cmd":"set_credit_line","account":{one},"amount":{amount}}}"#)
            }
            11 => {
                let class = self.below(2) as usize;
                let amount = amount / 3;
                self.model.accounts.get_mut(&one).unwrap().reserved[class] = amount;
                self.model.risen.insert(one);
                let name = CLASSES[class];
                format!(
                    r#"{{"cmd":"set_reservation","account":{one},"class":"{name}","amount":{amount}}}"#
                )
            }
            12 | 13 => self.limit(one, other, amount),
            14 => self.block(one),
            15 => self.switch(),
            16 => {
                let mut rng = Pcg64Mcg::seed_from_u64(self.below(1 << 40) as u64);
                self.model.gridlock(&mut rng);
                r#"{"cmd":"run_liquidity_saving","algorithm":"grp"}"#.into()
            }
            _ => self.touch(),
        };
        self.model.release();
        line
    }

    fn submit(&mut self, from: usize, to: usize, amount: i64) -> String {
        self.payments += 1;
        let (id, class) = (self.payments, self.below(3).max(self.below(3)) as usize);
        self.model.submit(Payment {
            id,
            from,
            to,
            amount,
            class,
            key: 0,
            held: false,
        });
        let name = CLASSES[class];
        format!(
            r#"{{"cmd":"submit_payment","id":{id},"debtor_account":{from},"creditor_account":{to},"amount":{amount},"priority":"{name}"}}"#
        )
    }

    fn fund(&mut self, account: usize, amount: i64) -> String {
        self.transfers += 1;
        let id = self.transfers;
        let row = self.model.accounts.get_mut(&account).unwrap();
        if row.may_receive {
            row.balance += amount;
            self.model.risen.insert(account);
        }
        format!(
            r#"{{"cmd":"transfer","id":{id},"debit_account":{ISSUER},"credit_account":{account},"amount":{amount}}}"#
        )
    }

    fn limit(&mut self, one: usize, other: usize, amount: i64) -> String {
        let is_set = self.below(3) > 0;
        let words = if is_set {
            amount.to_string()
        } else {
            "null".into()
        };
        self.model.risen.insert(one);
        if one == other {
            let row = self.model.accounts.get_mut(&one).unwrap();
            if row.multilateral.is_none() {
                row.multilateral_used = 0;
            }
            row.multilateral = is_set.then_some(amount);
            return format!(
                r#"{{"cmd":"set_multilateral_limit","account":{one},"amount":{words}}}"#
            );
        }
        if is_set {
            let entry = self.model.bilateral.entry((one, other)).or_default();
            entry.0 = amount;
        } else {
            self.model.bilateral.remove(&(one, other));
        }
        format!(
            r#"{{"cmd":"set_bilateral_limit","account":{one},"counterparty":{other},"amount":{words}}}"#
        )
    }

    fn block(&mut self, one: usize) -> String {
        let states = [
            "active",
            "active",
            "debit_blocked",
            "credit_blocked",
            "blocked",
        ];
        let state = states[self.below(5) as usize];
        let row = self.model.accounts.get_mut(&one).unwrap();
        row.may_pay = matches!(state, "active" | "credit_blocked");
        row.may_receive = matches!(state, "active" | "debit_blocked");
        self.model.all_risen();
        format!(r#"{{"cmd":"set_participant_state","participant":{one},"state":"{state}"}}"#)
    }

    fn switch(&mut self) -> String {
        let (bypass, offset) = (self.below(3) > 0, self.below(3) > 0);
        self.model.bypass = bypass;
        self.model.offset = offset;
        self.model.all_risen();
        format!(r#"{{"cmd":"set_liquidity_saving","bypass":{bypass},"entry_offset":{offset}}}"#)
    }

    /// Does something to a waiting payment.
    fn touch(&mut self) -> String {
        let Some(id) = self.some() else {
            return r#"{"cmd":"tick"}"#.into();
        };
        match self.below(5) {
            0 => {
                self.model.change(id, |payment| payment.held = true);
                self.model.dispose_again(id);
                format!(r#"{{"cmd":"hold_payment","id":{id}}}"#)
            }
            1 if self.model.find(id).held => {
                self.model.change(id, |payment| payment.held = false);
                self.model.dispose_again(id);
                format!(r#"{{"cmd":"release_payment","id":{id}}}"#)
            }
            2 => {
                let class = self.below(3) as usize;
                self.model.change(id, |payment| payment.class = class);
                self.model.dispose_again(id);
                let name = CLASSES[class];
                format!(r#"{{"cmd":"set_payment_priority","id":{id},"priority":"{name}"}}"#)
            }
            3 => {
                let is_front = self.below(2) == 0;
                let key = if is_front {
                    self.model.front -= 1;
                    self.model.front
                } else {
                    self.model.back += 1;
                    self.model.back
                };
                self.model.change(id, |payment| payment.key = key);
                self.model.dispose_again(id);
                let position = if is_front { "front" } else { "back" };
                format!(r#"{{"cmd":"move_payment","id":{id},"position":"{position}"}}"#)
            }
            _ => {
                let from = self.model.find(id).from;
                self.model.waiting.retain(|payment| payment.id != id);
                self.model.risen.insert(from);
                let said = (id, "payment_cancelled", "requested".into());
                self.model.said.push(said);
                format!(r#"{{"cmd":"cancel_payment","id":{id}}}"#)
            }
        }
    }

    /// Every waiting payment says of itself what the model says of it.
    fn compare_explanations(&self, at: &str) {
        for payment in &self.model.waiting {
            let (reason, short, ahead) = self.model.why(payment).expect("nothing covered waits");
            let said = standing(&self.engine, payment.id).expect("it waits");
            let said = (
                said.reason.to_string(),
                said.short_of.0 as i64,
                said.waits_behind.0 as u64,
            );
            assert_eq!(
                said,
                (reason.into(), short, ahead),
                "payment {} {at}",
                payment.id
            );
        }
    }

    /// What is said to be missing for the first payment of a queue is just what is missing.
    fn try_explanation(&mut self, at: &str) {
        let Some(id) = self.some() else { return };
        let payment = self.model.find(id).clone();
        let is_first = self.model.queue(payment.from).first().map(|first| first.id) == Some(id);
        if !is_first || !self.model.accounts[&payment.from].may_receive {
            return;
        }
        let mut engine = copy(&self.engine);
        for number in 0.. {
            let Some(now) = standing(&engine, id) else {
                return;
            };
            assert!(number < 4, "payment {id} {at}: {} again", now.reason);
            let short = now.short_of.0 as i64;
            let mut less = copy(&engine);
            let line = self.remedy(&less, &payment, &now, short - 1, number);
            let events = apply(&mut less, &line);
            let is_chained = events.iter().any(|event| event.1 == "payment_settled");
            if !is_chained {
                assert!(
                    standing(&less, id).is_some(),
                    "payment {id} {at}: with less"
                );
            }
            let line = self.remedy(&engine, &payment, &now, short, number);
            apply(&mut engine, &line);
        }
    }

    /// The command that brings `amount` of what an explanation says is missing.
    fn remedy(
        &self,
        engine: &Engine,
        of: &Payment,
        now: &Standing,
        amount: i64,
        number: u64,
    ) -> String {
        let from = of.from;
        match now.reason.to_string().as_str() {
            "insufficient_liquidity" | "reserved" => format!(
                r#"{{"cmd":"transfer","id":{},"debit_account":{ISSUER},"credit_account":{from},"amount":{amount}}}"#,
                1_000_000 + 1_000 * number + engine.sequence(),
            ),
            "limit_bilateral" => format!(
                r#"{{"cmd":"set_bilateral_limit","account":{from},"counterparty":{},"amount":{}}}"#,
                of.to,
                self.model.bilateral[&(from, of.to)].0 + amount,
            ),
            "limit_multilateral" => format!(
                r#"{{"cmd":"set_multilateral_limit","account":{from},"amount":{}}}"#,
                self.model.accounts[&from].multilateral.unwrap() + amount,
            ),
            other => panic!("payment {}: {other} at the front", of.id),
        }
    }
}

fn copy(engine: &Engine) -> Engine {
    let mut bytes = Vec::new();
    engine.write_snapshot(&mut bytes).expect("memory");
    Engine::read_snapshot(&Limits::small(), &mut bytes.as_slice()).expect("sound")
}

/// A payment as it stands, if it waits.
fn standing(engine: &Engine, id: u64) -> Option<Standing> {
    let line = format!(r#"{{"cmd":"query_payment","id":{id}}}"#);
    let frame = ScriptParser::default().parse(&line).unwrap().unwrap();
    let mut out = Outbox::with_capacity(16);
    engine.query(frame.as_ref(), &mut out);
    match out.events()[0].event() {
        Some(Event::Payment(payment)) => {
            let is_waiting = payment.state.to_string() == "queued";
            is_waiting.then_some(*payment)
        }
        other => panic!("{other:?}"),
    }
}

/// Runs a command; what becomes of payments.
fn apply(engine: &mut Engine, line: &str) -> Vec<Outcome> {
    let frame = ScriptParser::default().parse(line).expect(line).unwrap();
    let mut out = Outbox::with_capacity(16);
    engine.apply(engine.sequence() + 1, frame.as_ref(), &mut out);
    engine.audit().unwrap_or_else(|why| panic!("{line}: {why}"));
    out.events().iter().filter_map(outcome).collect()
}

fn outcome(event: &EventSlot) -> Option<Outcome> {
    let with = |moved: &PaymentMoved, word: String| {
        (moved.id.0 as u64, event.kind().unwrap().name(), word)
    };
    Some(match event.event()? {
        Event::PaymentSettled(moved) => with(moved, moved.by.to_string()),
        Event::PaymentQueued(moved)
        | Event::PaymentCancelled(moved)
        | Event::PaymentRejected(moved) => with(moved, moved.reason.to_string()),
        _ => return None,
    })
}

fn play(seed: u64, commands: u64) -> BTreeSet<String> {
    let mut world = World::new(seed);
    for number in 0..commands {
        let line = world.step();
        let predicted = std::mem::take(&mut world.model.said);
        let happened = apply(&mut world.engine, &line);
        let at = format!("seed {seed}, command {number}: {line}");
        assert_eq!(happened, predicted, "{at}");
        let words = happened
            .iter()
            .map(|(_, name, word)| format!("{name} {word}"));
        world.seen.extend(words);
        world.compare_explanations(&at);
        if number % 7 == 0 {
            world.try_explanation(&at);
        }
    }
    world.seen
}

#[test]
fn every_payment_does_what_the_model_says_and_explains_itself() {
    let setting = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    let seeds = match setting("MILLRACE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("MILLRACE_WORLDS").unwrap_or(60),
    };
    let is_whole = seeds.end - seeds.start > 50;
    let mut seen = BTreeSet::new();
    for seed in seeds {
        seen.extend(play(seed, 250));
    }
    // A quiet world proves nothing: all of this must have happened.
    for kind in [
        "payment_settled entry",
        "payment_settled offset",
        "payment_settled release",
        "payment_settled grp",
        "payment_queued insufficient_liquidity",
        "payment_queued reserved",
        "payment_queued limit_bilateral",
        "payment_queued limit_multilateral",
        "payment_queued behind_higher_priority",
        "payment_queued held",
        "payment_queued participant_blocked",
        "payment_rejected participant_blocked",
        "payment_cancelled requested",
    ] {
        assert!(
            !is_whole || seen.contains(kind),
            "never saw {kind}: {seen:?}"
        );
    }
}
