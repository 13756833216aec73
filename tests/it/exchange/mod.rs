//! Random days on an exchange: the engine and the obvious model must say the same, event by event,
//! and show the same books and balances after every command; and whoever rebuilds the state from a
//! snapshot in between goes on as if nothing had been.
//!
//! `MILLRACE_EXCHANGE_COMMANDS` sets how many commands run in all, `MILLRACE_EXCHANGE_FIRST` the first
//! seed, `MILLRACE_EXCHANGE_SEED` repeats one stream. A failure prints the seed and the shortest stream found that still fails.

mod commands;
mod model;

use commands::{Command, PARTICIPANTS, Phase, Side, Source};
use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::event::Event;
use millrace::protocol::frame::EventSlot;
use millrace::protocol::script::ScriptParser;
use model::{Book, Exchange, Seen, Settles};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};

const STREAM: usize = 400;
const CASH: i128 = 150_000;
const SHARES: i128 = 150;

fn books() -> BTreeMap<u32, Book> {
    let plain = Book {
        tick_value: 100,
        lot_size: 1,
        maker_percent: -1,
        taker_percent: 3,
        min_price: 1,
        max_price: 1_000,
        min_quantity: 1,
        max_quantity: 50,
        max_notional: 0,
        steps: vec![(1, 1)],
        static_band: 0,
        dynamic_band: 0,
        reference: None,
        phase: Phase::Continuous,
        last: None,
        is_call: false,
        indicated: (0, 0),
        settles: Settles::AtOnce,
    };
    let banded = Book {
        lot_size: 2,
        maker_percent: 2,
        taker_percent: 0,
        max_notional: 100_000,
        // A step of 2 up to 100, of 4 from there on.
        steps: vec![(0, 2), (100, 4)],
        static_band: 20,
        dynamic_band: 4,
        reference: Some(100),
        ..plain.clone()
    };
    let net = Book {
        maker_percent: -1,
        taker_percent: 2,
        settles: Settles::Net,
        ..plain.clone()
    };
    let gross = Book {
        lot_size: 3,
        min_quantity: 2,
        max_notional: 50_000,
        maker_percent: 1,
        settles: Settles::Gross,
        ..plain.clone()
    };
    BTreeMap::from([(1, plain), (2, banded), (3, net), (4, gross)])
}

fn limits() -> Limits {
    Limits {
        positions: 16,
        ..Limits::small()
    }
}

fn setup() -> Vec<String> {
    let mut lines: Vec<String> = vec![
        r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.into(),
        r#"{"cmd":"create_asset","asset":2,"code":"SHARE","scale":0}"#.into(),
        r#"{"cmd":"create_participant","participant":99,"code":"HOUSE"}"#.into(),
        r#"{"cmd":"create_account","account":990,"participant":99,"asset":1}"#.into(),
        r#"{"cmd":"create_account","account":991,"participant":99,"asset":2}"#.into(),
        r#"{"cmd":"create_account","account":992,"participant":99,"asset":1}"#.into(),
        r#"{"cmd":"create_tick_table","tick_table":7,"steps":[{"from":0,"step":2},{"from":100,"step":4}]}"#.into(),
        r#"{"cmd":"set_phase","phase":"open"}"#.into(),
    ];
    for id in 1..=PARTICIPANTS {
        let group = if id > 3 { 7 } else { 0 };
        lines.push(format!(
            r#"{{"cmd":"create_participant","participant":{id},"code":"P{id}","group":{group}}}"#
        ));
        for (kind, amount) in [(1, CASH), (2, SHARES)] {
            let account = 10 * id + kind;
            lines.push(format!(
                r#"{{"cmd":"create_account","account":{account},"participant":{id},"asset":{kind},"flags":["debits_must_not_exceed_credits"]}}"#
            ));
            lines.push(format!(
                r#"{{"cmd":"transfer","id":{account},"debit_account":{},"credit_account":{account},"amount":{amount}}}"#,
                989 + kind
            ));
        }
    }
    for (id, book) in books() {
        lines.push(format!(
            r#"{{"cmd":"create_instrument","instrument":{id},"base_asset":2,"quote_asset":1,"lot_size":{},"tick_value":{},"max_price":{},"min_quantity":{},"max_quantity":{},"maker_fee_bps":{},"taker_fee_bps":{},"fee_account":992,"tick_table":{},"static_band":{},"dynamic_band":{},"reference_price":{},"max_notional":{},"settlement":"{}"}}"#,
            book.lot_size,
            book.tick_value,
            book.max_price,
            book.min_quantity,
            book.max_quantity,
            book.maker_percent * 100,
            book.taker_percent * 100,
            if id == 2 { 7 } else { 0 },
            book.static_band,
            book.dynamic_band,
            book.reference.unwrap_or(0),
            book.max_notional,
            match book.settles {
                Settles::AtOnce => "immediate",
                Settles::Net => "net",
                Settles::Gross => "gross_securities",
            },
        ));
    }
    for id in books().keys() {
        lines.push(format!(r#"{{"cmd":"publish_book","instrument":{id}}}"#));
    }
    lines
}

#[test]
fn the_engine_says_what_the_obvious_exchange_says() {
    let setting = |name: &str| -> Option<u64> {
        let value = std::env::var(name).ok()?;
        Some(value.parse().expect("a number"))
    };
    if let Some(seed) = setting("MILLRACE_EXCHANGE_SEED") {
        check(seed, 1);
        return;
    }
    let commands = setting("MILLRACE_EXCHANGE_COMMANDS").unwrap_or(40_000);
    // A long run says everything after every command, and shows everything after some.
    let every = if commands > 100_000 { 32 } else { 1 };
    let first = setting("MILLRACE_EXCHANGE_FIRST").unwrap_or(1);
    let mut kinds = BTreeSet::new();
    for seed in first..first + commands.div_ceil(STREAM as u64) {
        kinds.extend(check(seed, every));
    }
    // What never happened was never compared.
    for kind in [
        "trade",
        "order_triggered",
        "order_replaced",
        "indicative",
        "order_cancelled band",
        "order_cancelled blocked",
        "order_cancelled disconnected",
        "order_cancelled exceeds_max_notional",
        "order_cancelled expired",
        "order_cancelled fok",
        "order_cancelled ioc",
        "order_cancelled linked",
        "order_cancelled mass",
        "order_cancelled minimum_quantity",
        "order_cancelled requested",
        "order_cancelled self_trade",
        "order_cancelled uncovered",
        "instrument_phase volatility_auction",
        "order_rejected exceeds_credits",
        "order_rejected exceeds_max_notional",
        "order_rejected expires_at_missing",
        "order_rejected instrument_halted",
        "order_rejected linked_event_failed",
        "order_rejected order_fields_contradict",
        "order_rejected no_reference_price",
        "order_rejected offset_missing",
        "order_rejected outside_price_band",
        "order_rejected peg_missing",
        "order_rejected phase_forbids",
        "order_rejected post_only_would_cross",
        "order_rejected price_missing",
        "order_rejected price_not_on_tick",
        "order_rejected stop_price_missing",
        "order_rejected time_out_of_range",
        "cycle_position",
        "cycle_settled",
        "rejected exceeds_credits",
        "rejected post_only_would_cross",
        "rejected quantity_out_of_range",
        "rejected settles_at_once",
        "rejected too_late_to_cancel",
    ] {
        assert!(kinds.contains(kind), "never saw {kind}: {kinds:?}");
    }
}

/// Runs the stream of `seed`; returns the kinds of what was seen.
fn check(seed: u64, every: usize) -> BTreeSet<String> {
    let mut source = Source::new(seed);
    let commands: Vec<Command> = (0..STREAM).map(|_| source.next()).collect();
    let (at, why) = match run(&commands, every) {
        Ok(kinds) => return kinds,
        Err(failure) => failure,
    };
    let (mut least, mut reason) = (commands[..=at].to_vec(), why);
    // Drop ever smaller runs of commands as long as it still fails.
    let mut length = least.len() / 2;
    while length > 0 {
        let mut start = 0;
        while start + length <= least.len() {
            let mut fewer = least.clone();
            fewer.drain(start..start + length);
            match run(&fewer, 1) {
                Err((at, why)) => {
                    fewer.truncate(at + 1);
                    (least, reason) = (fewer, why);
                }
                Ok(_) => start += length,
            }
        }
        length /= 2;
    }
    for command in &least {
        eprintln!("{}", command.line());
    }
    panic!(
        "MILLRACE_EXCHANGE_SEED={seed} cargo test --test it exchange: after the {} commands above, \
         {reason}",
        least.len()
    );
}

fn run(commands: &[Command], every: usize) -> Result<BTreeSet<String>, (usize, String)> {
    let mut pair = Pair::new(every);
    for (at, command) in commands.iter().enumerate() {
        match catch_unwind(AssertUnwindSafe(|| pair.step(at, command))) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err((at, why)),
            Err(_) => return Err((at, "a panic".into())),
        }
    }
    Ok(pair.kinds)
}

/// The engine and the model, side by side.
struct Pair {
    engine: Engine,
    model: Exchange,
    parser: ScriptParser,
    outbox: Outbox,
    /// The model's number of each order the engine ever named.
    numbers: HashMap<u64, u64>,
    /// The books, rebuilt from what is published of them.
    feed: Feed,
    /// The same of somebody who came later: a snapshot, and what was published after it.
    joined: Feed,
    /// What was published since before the one who came later asked for the snapshot.
    published: Vec<EventSlot>,
    /// Books, accounts and audit are compared after so many commands.
    every: usize,
    kinds: BTreeSet<String>,
}

impl Pair {
    fn new(every: usize) -> Pair {
        let owned = (1..=PARTICIPANTS).map(|id| (id, (CASH, SHARES))).collect();
        let groups = (4..=PARTICIPANTS).map(|id| (id, 7)).collect();
        let mut pair = Pair {
            engine: Engine::new(&limits()),
            model: Exchange::new(books(), owned, groups),
            parser: ScriptParser::default(),
            outbox: Outbox::with_capacity(64),
            numbers: HashMap::new(),
            feed: Feed::default(),
            joined: Feed::default(),
            published: Vec::new(),
            every,
            kinds: BTreeSet::new(),
        };
        for line in setup() {
            pair.apply(&line);
            let refused = pair.seen().iter().any(|seen| seen.contains("rejected"));
            assert!(!refused, "{line}");
        }
        pair
    }

    fn apply(&mut self, line: &str) {
        self.outbox.clear();
        let frame = self
            .parser
            .parse(line)
            .expect("a command")
            .expect("not blank");
        let sequence = self.engine.sequence() + 1;
        self.engine
            .apply(sequence, frame.as_ref(), &mut self.outbox);
    }

    fn step(&mut self, at: usize, command: &Command) -> Result<(), String> {
        let expected = self.model.apply(command);
        self.apply(&command.line());
        let seen = self.seen();
        if expected != seen {
            return Err(format!("expected {expected:#?}, saw {seen:#?}"));
        }
        self.kinds.extend(seen.iter().map(|seen| kind_of(seen)));
        if at % 5 == 3 {
            self.join();
        }
        if !at.is_multiple_of(self.every) {
            return Ok(());
        }
        if at.is_multiple_of(7) {
            self.engine.audit()?;
        }
        if at % 64 == 32 {
            self.through_a_snapshot()?;
        }
        self.compare_books()?;
        self.compare_feed()?;
        self.compare_positions()?;
        self.compare_accounts()
    }

    /// What the engine said, in the model's words.
    fn seen(&mut self) -> Seen {
        let mut seen = Vec::new();
        for slot in self.outbox.events() {
            if self.feed.hear(slot) {
                self.joined.hear(slot);
                self.published.push(*slot);
                continue;
            }
            if let Some(Event::OrderAccepted(accepted)) = slot.event() {
                let number = self.numbers.len() as u64 + 1;
                let old = self.numbers.insert(accepted.order_id.0, number);
                assert_eq!(old, None, "no id is given twice");
            }
            seen.push(say(slot, &self.numbers));
        }
        seen
    }

    fn through_a_snapshot(&mut self) -> Result<(), String> {
        let mut bytes = Vec::new();
        self.engine.write_snapshot(&mut bytes).expect("memory");
        // Another secret puts client order ids elsewhere: that must show nowhere.
        let limits = Limits {
            lookup_secret: (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..limits()
        };
        let again = Engine::read_snapshot(&limits, &mut bytes.as_slice())
            .map_err(|error| error.to_string())?;
        again.audit()?;
        if again.digest() != self.engine.digest() {
            return Err("a snapshot read back has another digest".into());
        }
        self.engine = again;
        Ok(())
    }

    fn query(&mut self, line: &str) -> Vec<EventSlot> {
        self.outbox.clear();
        let frame = self
            .parser
            .parse(line)
            .expect("a query")
            .expect("not blank");
        self.engine.query(frame.as_ref(), &mut self.outbox);
        self.outbox.events().to_vec()
    }

    /// Somebody comes: who has heard some of what was published already asks for a snapshot, and
    /// leaves out what is older than that.
    fn join(&mut self) {
        let mut joined = Feed::default();
        for book in books().keys() {
            let line = format!(r#"{{"cmd":"query_book_orders","instrument":{book}}}"#);
            for slot in self.query(&line) {
                assert!(joined.hear(&slot));
            }
        }
        joined.from = self.engine.sequence() + 1;
        for slot in self.published.drain(..) {
            joined.hear(&slot);
        }
        self.joined = joined;
    }

    /// Price, lots and orders of the levels of a book, as the engine answers.
    fn levels(&mut self, book: u32, depth: u32) -> [Vec<(i64, u64, u32)>; 2] {
        let line = format!(r#"{{"cmd":"query_book","instrument":{book},"depth":{depth}}}"#);
        let mut levels: [Vec<(i64, u64, u32)>; 2] = [Vec::new(), Vec::new()];
        for slot in self.query(&line) {
            if let Some(Event::BookLevel(level)) = slot.event() {
                let row = (level.price.0, level.quantity.0, level.orders);
                levels[level.side as usize].push(row);
            }
        }
        levels
    }

    fn compare_books(&mut self) -> Result<(), String> {
        for book in [1, 2, 3, 4] {
            let levels = self.levels(book, 1_000);
            let expected = [Side::Buy, Side::Sell].map(|side| self.model.levels(book, side));
            if levels != expected {
                return Err(format!(
                    "book {book}: expected {expected:?}, saw {levels:?}"
                ));
            }
        }
        Ok(())
    }

    /// Every order of the books as the feeds have them, beside the model's and a fresh snapshot's;
    /// and the levels and best prices that follow from them, beside the engine's.
    fn compare_feed(&mut self) -> Result<(), String> {
        for book in [1, 2, 3, 4] {
            let mut fresh = Feed::default();
            let line = format!(r#"{{"cmd":"query_book_orders","instrument":{book}}}"#);
            for slot in self.query(&line) {
                fresh.hear(&slot);
            }
            let (all, best) = (self.levels(book, 1_000), self.levels(book, 1));
            for (at, side) in [Side::Buy, Side::Sell].into_iter().enumerate() {
                let expected = self.model.shown(book, side);
                for (what, feed) in [
                    ("feed", &self.feed),
                    ("joined feed", &self.joined),
                    ("snapshot", &fresh),
                ] {
                    let seen = feed.in_order(book, at, &self.numbers);
                    if seen != expected {
                        return Err(format!("{what}: expected {expected:?}, saw {seen:?}"));
                    }
                }
                let levels = levels_of(&expected);
                if levels != all[at] || levels.get(..1).unwrap_or_default() != best[at] {
                    return Err(format!(
                        "levels of the feed: expected {:?} and {:?}, saw {levels:?}",
                        all[at], best[at]
                    ));
                }
            }
        }
        Ok(())
    }

    /// What the next cycles would move.
    fn compare_positions(&mut self) -> Result<(), String> {
        for (book, row) in books() {
            if row.settles == Settles::AtOnce {
                continue;
            }
            let line = format!(r#"{{"cmd":"query_positions","instrument":{book}}}"#);
            let (mut seen, mut sums) = (Vec::new(), String::new());
            for slot in self.query(&line) {
                match slot.event() {
                    Some(Event::Positions(e)) => {
                        sums = format!("{} {} {}", e.trades, e.value, e.netted);
                    }
                    Some(Event::Position(e)) => seen.push(format!(
                        "{} {} {} {} {} {} {}",
                        e.participant,
                        e.base_out,
                        e.base_in,
                        e.quote,
                        e.fees,
                        e.base_held,
                        e.quote_held
                    )),
                    other => return Err(format!("{other:?}")),
                }
            }
            seen.push(sums);
            let expected = self.model.positions(book);
            if seen != expected {
                return Err(format!(
                    "positions of {book}: expected {expected:?}, saw {seen:?}"
                ));
            }
        }
        Ok(())
    }

    /// What everybody has and what is held of it, and that the house has the fees.
    fn compare_accounts(&mut self) -> Result<(), String> {
        for participant in 1..=PARTICIPANTS {
            let owned = self.model.owned[&participant];
            let held = self.model.held(participant);
            for (account, owned, held) in [
                (10 * participant + 1, owned.0, held.0),
                (10 * participant + 2, owned.1, held.1),
            ] {
                let seen = self.account(account);
                if seen != (owned, held) {
                    return Err(format!(
                        "account {account}: expected {:?}, saw {seen:?}; {} orders live",
                        (owned, held),
                        self.model.live()
                    ));
                }
            }
        }
        let seen = self.account(992);
        if seen != (self.model.house, 0) {
            return Err(format!("fees: expected {}, saw {seen:?}", self.model.house));
        }
        Ok(())
    }

    /// Balance and what is held of it.
    fn account(&mut self, account: u32) -> (i128, i128) {
        let line = format!(r#"{{"cmd":"query_account","account":{account}}}"#);
        let answer = self.query(&line);
        match answer[0].event() {
            Some(Event::Account(row)) => {
                let balance = row.credits_posted.0 as i128 - row.debits_posted.0 as i128;
                (balance, row.held.0 as i128)
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Levels that follow from orders in order: price, lots and orders.
fn levels_of(orders: &[(u64, i64, u64)]) -> Vec<(i64, u64, u32)> {
    let mut levels: Vec<(i64, u64, u32)> = Vec::new();
    for (_, price, lots) in orders {
        match levels.last_mut() {
            Some(level) if level.0 == *price => {
                level.1 += lots;
                level.2 += 1;
            }
            _ => levels.push((*price, *lots, 1)),
        }
    }
    levels
}

/// Books rebuilt from their published changes: each order with its book, side, price, lots shown and
/// when it came.
#[derive(Default)]
struct Feed {
    orders: BTreeMap<u64, Shown>,
    clock: u64,
    /// What is older is in the snapshot.
    from: u64,
}

struct Shown {
    book: u32,
    side: usize,
    price: i64,
    lots: u64,
    came: u64,
}

impl Feed {
    /// Applies one event; whether it was one of the feed's.
    fn hear(&mut self, slot: &EventSlot) -> bool {
        let event = slot.event().expect("decodes");
        let is_ours = matches!(
            event,
            Event::BookStart(_)
                | Event::BookAdd(_)
                | Event::BookExecute(_)
                | Event::BookReduce(_)
                | Event::BookDelete(_)
        );
        if is_ours && slot.header.sequence >= self.from {
            self.apply(&event);
        }
        is_ours
    }

    fn apply(&mut self, event: &Event<'_>) {
        self.clock += 1;
        match event {
            Event::BookStart(e) => self.orders.retain(|_, row| row.book != e.instrument.0),
            Event::BookAdd(e) => {
                let row = Shown {
                    book: e.instrument.0,
                    side: e.side as usize,
                    price: e.price.0,
                    lots: e.quantity.0,
                    came: self.clock,
                };
                let old = self.orders.insert(e.order_id.0, row);
                assert!(old.is_none(), "added twice");
            }
            Event::BookExecute(e) => {
                let row = self.orders.get_mut(&e.order_id.0).expect("known");
                assert_eq!((row.side, row.price), (e.side as usize, e.price.0));
                row.lots = row
                    .lots
                    .checked_sub(e.quantity.0)
                    .expect("no more than is shown");
            }
            Event::BookReduce(e) => {
                self.orders.get_mut(&e.order_id.0).expect("known").lots = e.quantity.0;
            }
            Event::BookDelete(e) => {
                let row = self.orders.remove(&e.order_id.0).expect("known");
                assert_eq!(row.lots, e.quantity.0, "what is gone was shown");
            }
            _ => {}
        }
    }

    /// Number, price and lots of a side's orders as they would trade.
    fn in_order(
        &self,
        book: u32,
        side: usize,
        numbers: &HashMap<u64, u64>,
    ) -> Vec<(u64, i64, u64)> {
        let mut rows: Vec<_> = self
            .orders
            .iter()
            .filter(|(_, row)| (row.book, row.side) == (book, side))
            .collect();
        rows.sort_by_key(|(_, row)| {
            let price = if side == 0 { -row.price } else { row.price };
            (price, row.came)
        });
        rows.iter()
            .map(|(id, row)| (numbers[id], row.price, row.lots))
            .collect()
    }
}

fn say(slot: &EventSlot, numbers: &HashMap<u64, u64>) -> String {
    let name = slot.kind().expect("known").name();
    let number = |id: u64| numbers.get(&id).copied().unwrap_or(0);
    match slot.event().expect("decodes") {
        Event::OrderAccepted(e) => format!(
            "{name} {} {} {}",
            number(e.order_id.0),
            e.client_order_id,
            e.leaves
        ),
        Event::OrderRejected(e) => format!("{name} {} {}", e.client_order_id, e.reason),
        Event::Rejected(e) => format!("{name} {}", e.reason),
        Event::OrderCancelled(e) => format!(
            "{name} {} {} {}",
            number(e.order_id.0),
            e.cancelled_quantity,
            e.reason
        ),
        Event::OrderReplaced(e) | Event::OrderTriggered(e) => {
            format!("{name} {} {} {}", number(e.order_id.0), e.price, e.leaves)
        }
        Event::Trade(e) => format!(
            "{name} {} {} {} {} {} {}",
            e.price,
            e.quantity,
            number(e.maker_order_id.0),
            number(e.taker_order_id.0),
            e.maker_fee,
            e.taker_fee
        ),
        Event::CyclePosition(e) => format!(
            "{name} {} {} {} {} {} {}",
            e.instrument, e.participant, e.base_out, e.base_in, e.quote, e.fees
        ),
        Event::CycleSettled(e) => format!(
            "{name} {} {} {} {}",
            e.instrument, e.trades, e.value, e.netted
        ),
        Event::InstrumentPhase(e) => format!("{name} {} {}", e.instrument, e.phase),
        Event::Indicative(e) => format!("{name} {} {}", e.price, e.volume),
        _ => name.into(),
    }
}

/// An event's name with the word that tells it from others of that name.
fn kind_of(seen: &str) -> String {
    let name = seen.split(' ').next().unwrap_or_default();
    let last = seen.rsplit(' ').next().unwrap_or_default();
    if last == name || last.parse::<i128>().is_ok() {
        name.into()
    } else {
        format!("{name} {last}")
    }
}
