//! The matching room alone, on one thread: nanoseconds per command for two mixes and three books.
//!
//! `cargo bench --bench matching` measures, `-- --test` (or `cargo test`) runs every part once and
//! briefly; `MILLRACE_BENCH_CASE="Moves 1 book"` picks cases.
//!
//! A stream is made beforehand against a room of its own and then replayed into a fresh one; what
//! is timed is the walk a handler makes: find the order by its participant's id, ask for room,
//! enter, execute, rest or finish, lift, amend, cancel. Orders have a fee budget that fills draw
//! on. Participants count their orders.
//!
//! - `moves` follows exchange-core's published mix: of 100 commands 71 move an order toward the
//!   last price, 13 are new, 2 immediate-or-cancel, 7 cancel, 7 reduce; 1,000 participants, prices
//!   within 5 % of the last.
//! - `cancels` is the flow of equity markets: about half new, 15 % of these immediate-or-cancel,
//!   nearly everything cancelled, one in five modified first, 2 % of cancels too late.

use millrace::engine::matching::{Lookup, Matching, NewOrder, Outcome, Slot, Step, no_band};
use millrace::engine::{Limits, Take};
use millrace::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use millrace::protocol::units::{ClientOrderId, Price, Quantity};
use std::hint::black_box;
use std::time::Instant;

const PARTICIPANTS: u32 = 1_000;
const CENTRE: i64 = 10_000;
const DEVIATION: f64 = 0.05 * CENTRE as f64;

fn main() {
    // `cargo bench` says `--bench`; `cargo test` says nothing and wants a smoke run.
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let brief = has("--test") || !has("--bench");
    let (commands, runs) = if brief { (2_000, 1) } else { (3_000_000, 5) };
    let millions = if brief { 5_000 } else { 1_000_000 };
    let cases = [
        ("1 book, 1,000 resting", 1, 1_000),
        ("1 book, 1,000,000 resting", 1, millions),
        (
            "10,000 books, 1,000,000 resting",
            if brief { 50 } else { 10_000 },
            millions,
        ),
    ];
    let only = std::env::var("MILLRACE_BENCH_CASE").ok();
    for mix in [Mix::Moves, Mix::Cancels] {
        for (name, books, resting) in cases {
            if only
                .as_ref()
                .is_some_and(|only| !format!("{mix:?} {name}").contains(only))
            {
                continue;
            }
            let stream = Stream::new(mix, books, resting, commands);
            println!("{mix:?}, {name}: {}", stream.describe());
            for ahead in [0, 4] {
                let mut ns: Vec<f64> = (0..runs).map(|_| stream.replay(ahead)).collect();
                ns.sort_by(f64::total_cmp);
                let median = ns[ns.len() / 2];
                println!(
                    "  touched {ahead} ahead: {median:6.1} ns/command, best {:6.1}, {:5.1} M/s",
                    ns[0],
                    1e3 / median
                );
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Mix {
    Moves,
    Cancels,
}

#[derive(Clone, Copy)]
enum Action {
    Place(TimeInForce, Side),
    Cancel,
    Reduce,
    Move(Side),
}

#[derive(Clone, Copy)]
struct Command {
    client_order_id: u64,
    price: i64,
    quantity: u64,
    participant: u32,
    book: u32,
    action: Action,
}

struct Stream {
    limits: Limits,
    books: u32,
    /// Fills the books; not timed.
    fill: Vec<Command>,
    timed: Vec<Command>,
    resting: u32,
    levels: usize,
    trading: usize,
}

/// An order the stream knows of: it may have been filled since.
#[derive(Clone, Copy)]
struct Known {
    client_order_id: u64,
    participant: u32,
    book: u32,
}

impl Stream {
    fn new(mix: Mix, books: u32, resting: u32, commands: usize) -> Stream {
        let limits = Limits {
            instruments: books,
            participants: PARTICIPANTS,
            orders: resting + resting / 4 + 1_000,
            client_order_ids: 2 * resting + commands as u32,
            price_levels: resting.min(books * 2_000) + 1_000,
            ..Limits::default()
        };
        let mut stream = Stream {
            books,
            fill: Vec::new(),
            timed: Vec::with_capacity(commands),
            resting: 0,
            levels: 0,
            trading: 0,
            limits,
        };
        let mut room = stream.room();
        let mut maker = Maker {
            random: Random(7),
            books,
            last: vec![CENTRE; books as usize],
            known: Vec::new(),
            ids: vec![0; PARTICIPANTS as usize],
        };
        while room.live_orders() < resting {
            let command = maker.place(TimeInForce::Gtc);
            apply(&mut room, &command);
            stream.fill.push(command);
        }
        for _ in 0..commands {
            let command = maker.next(mix, &room, resting);
            let traded = apply(&mut room, &command);
            if traded.0 > 0 {
                stream.trading += 1;
                maker.last[command.book as usize] = traded.1;
            }
            stream.timed.push(command);
        }
        stream.resting = room.live_orders();
        stream.levels = room.levels(0, Side::Buy).count() + room.levels(0, Side::Sell).count();
        room.audit().expect("the stream leaves a sound room");
        stream
    }

    fn room(&self) -> Matching {
        let mut room = Matching::new(&self.limits);
        (0..self.books).for_each(|book| room.add_book(book));
        room
    }

    fn describe(&self) -> String {
        let count = |wanted: fn(&Action) -> bool| {
            let found = self.timed.iter().filter(|c| wanted(&c.action)).count();
            100.0 * found as f64 / self.timed.len() as f64
        };
        format!(
            "{:.1} % new, {:.1} % ioc, {:.1} % cancel, {:.1} % reduce, {:.1} % move; \
             {:.1} % trade; {} resting, {} levels in the first book at the end",
            count(|a| matches!(a, Action::Place(TimeInForce::Gtc, _))),
            count(|a| matches!(a, Action::Place(TimeInForce::Ioc, _))),
            count(|a| matches!(a, Action::Cancel)),
            count(|a| matches!(a, Action::Reduce)),
            count(|a| matches!(a, Action::Move(_))),
            100.0 * self.trading as f64 / self.timed.len() as f64,
            self.resting,
            self.levels
        )
    }

    /// Nanoseconds per timed command in a fresh room.
    fn replay(&self, ahead: usize) -> f64 {
        let mut room = self.room();
        room.take_memory(Take::Now);
        for command in &self.fill {
            apply(&mut room, command);
        }
        let started = on_cpu_ns();
        let mut traded = 0;
        for (at, command) in self.timed.iter().enumerate() {
            if ahead > 0 {
                for (hint, distance) in [3 * ahead, 2 * ahead, ahead, ahead / 2].iter().enumerate()
                {
                    if let Some(next) = self.timed.get(at + distance) {
                        touch(&room, next, hint as u32);
                    }
                }
            }
            traded += apply(&mut room, command).0;
        }
        black_box(traded);
        (on_cpu_ns() - started) as f64 / self.timed.len() as f64
    }
}

/// Time this thread has spent on a core: what another process takes is not ours. Where the system
/// does not tell, time as it passes.
fn on_cpu_ns() -> u64 {
    // A system call away from the tick brings the thread's own clock up to date.
    std::thread::yield_now();
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ours = schedstat.and_then(|text| text.split(' ').next()?.parse().ok());
    ours.unwrap_or_else(|| {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    })
}

/// The hints for a command, the last ones shortly before its turn.
#[inline(always)]
fn touch(room: &Matching, next: &Command, hint: u32) {
    let id = ClientOrderId(next.client_order_id);
    if let Action::Place(_, side) | Action::Move(side) = next.action {
        room.touch_level(next.book, side, Price(next.price), hint);
    }
    match hint {
        0 => room.touch(next.participant, id),
        1 => room.touch_order(next.participant, id),
        2 => {
            room.touch_neighbours(next.participant, id);
        }
        _ => {}
    }
}

/// Runs one command; returns lots traded and the last price.
#[inline]
fn apply(room: &mut Matching, command: &Command) -> (u64, i64) {
    let id = ClientOrderId(command.client_order_id);
    let found = room.find(command.participant, id);
    match (command.action, found) {
        (Action::Place(time_in_force, side), Lookup::Unknown) => {
            let price = Price(command.price);
            if !room.has_room_for_order() || !room.has_room_at(command.book, side, price) {
                return (0, 0);
            }
            let slot = room.enter(&NewOrder {
                book: command.book,
                participant: command.participant,
                client_order_id: id,
                side,
                order_type: OrderType::Limit,
                time_in_force,
                self_trade: SelfTrade::Allow,
                post_only: false,
                price,
                quantity: Quantity(command.quantity),
                base_account: command.participant,
                quote_account: command.participant,
                fee_budget: 1 << 40,
                special: None,
            });
            execute(room, slot, time_in_force == TimeInForce::Gtc)
        }
        (Action::Cancel, Lookup::Live(slot)) => {
            black_box(room.cancel(slot).leaves);
            (0, 0)
        }
        (Action::Reduce, Lookup::Live(slot)) => {
            let leaves = room.order(slot).leaves.0;
            if leaves > 1 {
                room.reduce(slot, Quantity(leaves / 2));
            }
            (0, 0)
        }
        (Action::Move(_), Lookup::Live(slot)) => {
            let order = room.order(slot);
            let price = Price(command.price);
            if price == order.price || !room.has_room_to_move(slot, price) {
                return (0, 0);
            }
            room.lift(slot);
            room.amend(slot, price, order.leaves);
            execute(room, slot, true)
        }
        _ => (0, 0),
    }
}

#[inline]
fn execute(room: &mut Matching, slot: Slot, rests: bool) -> (u64, i64) {
    let (mut lots, mut last) = (0, 0);
    let outcome = room.execute(slot, no_band(), |step| match step {
        Step::Fill(fill) => {
            lots += fill.quantity.0;
            last = fill.maker.price.0;
            *fill.maker_fee_budget -= 1;
            *fill.taker_fee_budget -= 1;
        }
        Step::Decrement(_) | Step::CancelResting(_) => {}
    });
    if outcome == Outcome::Open && rests {
        room.rest(slot);
    } else {
        room.finish(slot);
    }
    (lots, last)
}

/// Makes streams.
struct Maker {
    random: Random,
    books: u32,
    last: Vec<i64>,
    known: Vec<Known>,
    /// Every participant counts its orders.
    ids: Vec<u64>,
}

impl Maker {
    fn next(&mut self, mix: Mix, room: &Matching, target: u32) -> Command {
        let short = room.live_orders() < target;
        let n = self.random.below(10_000);
        match mix {
            Mix::Moves => match n {
                0..1_280 if short => self.place(TimeInForce::Gtc),
                0..1_280 => self.change(room, Action::Cancel),
                1_280..1_455 => self.place(TimeInForce::Ioc),
                1_455..2_185 if short => self.place(TimeInForce::Gtc),
                1_455..2_185 => self.change(room, Action::Cancel),
                2_185..2_915 => self.change(room, Action::Reduce),
                _ => self.change(room, Action::Move(Side::Buy)),
            },
            Mix::Cancels => match n {
                0..750 => self.place(TimeInForce::Ioc),
                750..9_000 if short => self.place(TimeInForce::Gtc),
                750..9_000 => self.change(room, Action::Cancel),
                9_000..9_900 => self.change(room, Action::Move(Side::Buy)),
                _ => {
                    let place = self.place(TimeInForce::Ioc);
                    Command {
                        action: Action::Cancel,
                        client_order_id: 1 + self.random.below(place.client_order_id),
                        ..place
                    }
                }
            },
        }
    }

    fn place(&mut self, time_in_force: TimeInForce) -> Command {
        let random = &mut self.random;
        let book = random.below(u64::from(self.books)) as u32;
        let participant = random.below(u64::from(PARTICIPANTS)) as u32;
        let side = if random.below(2) == 0 {
            Side::Buy
        } else {
            Side::Sell
        };
        // The mean of four is bell-shaped; buys below the last price, sells above.
        let bell = (0..4).map(|_| random.unit()).sum::<f64>() / 2.0 - 1.0;
        let away = (bell.abs() * (1.0 + random.unit() * random.unit() * DEVIATION)) as i64;
        let towards = i64::from(time_in_force == TimeInForce::Ioc) * 4;
        let last = self.last[book as usize];
        let price = match side {
            Side::Buy => last - away + towards,
            Side::Sell => last + away - towards,
        };
        let quantity = 1 + random.below(6) * random.below(6) * random.below(6);
        self.ids[participant as usize] += 1;
        let client_order_id = self.ids[participant as usize];
        if time_in_force == TimeInForce::Gtc {
            self.known.push(Known {
                client_order_id,
                participant,
                book,
            });
        }
        Command {
            client_order_id,
            price: price.max(1),
            quantity,
            participant,
            book,
            action: Action::Place(time_in_force, side),
        }
    }

    /// A change to a random live order.
    fn change(&mut self, room: &Matching, action: Action) -> Command {
        loop {
            let at = self.random.below(self.known.len() as u64) as usize;
            let known = self.known[at];
            let found = room.find(known.participant, ClientOrderId(known.client_order_id));
            let Lookup::Live(slot) = found else {
                self.known.swap_remove(at);
                continue;
            };
            if matches!(action, Action::Cancel) {
                self.known.swap_remove(at);
            }
            let action = match action {
                Action::Move(_) => Action::Move(room.order(slot).side),
                action => action,
            };
            // Moves go a hundredth of the way to the last price, at least one tick.
            let price = room.order(slot).price.0;
            let way = self.last[known.book as usize] - price;
            let step = match way.signum() {
                0 => self.random.below(2) as i64 * 2 - 1,
                sign => (way / 100).abs().max(1) * sign,
            };
            return Command {
                client_order_id: known.client_order_id,
                price: (price + step).max(1),
                quantity: 0,
                participant: known.participant,
                book: known.book,
                action,
            };
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
