//! Random streams of commands: the room and the naive book must see the same after every one.
//!
//! `MILLRACE_MATCHING_COMMANDS` scales the count, `MILLRACE_MATCHING_FIRST` sets the first seed,
//! `MILLRACE_MATCHING_SEED` repeats one stream. A failure prints its seed and the shortest stream
//! found that still fails.

use super::naive::{Naive, Room, Seen, maker_fee, taker_fee};
use crate::engine::Limits;
use crate::engine::matching::{
    LevelView, Lookup, Matching, Meeting, NewOrder, OrderView, Outcome, Slot, Step, no_band,
};
use crate::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use crate::protocol::units::{ClientOrderId, OrderId, Price, Quantity};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BOOKS: u32 = 3;
const PARTICIPANTS: u32 = 5;
const STREAM: usize = 2_000;

#[derive(Clone, Copy, Debug)]
enum Which {
    Client(u32, u64),
    /// The n-th of the ids given so far, from the last.
    Given(usize),
    Raw(u64),
}

#[derive(Clone, Copy, Debug)]
enum Command {
    Place(NewOrder),
    Cancel(Which),
    Replace {
        which: Which,
        price: Option<i64>,
        quantity: Option<u64>,
        client: Option<u64>,
    },
    MassCancel {
        participant: u32,
        book: Option<u32>,
        side: Option<Side>,
    },
    CancelDay(Option<u32>),
    RollDay,
    /// Write the room down and go on with what is read back.
    Snapshot,
}

#[test]
fn random_commands_see_what_the_naive_book_sees() {
    let commands: usize = std::env::var("MILLRACE_MATCHING_COMMANDS")
        .map_or(200_000, |n| n.parse().expect("a number of commands"));
    if let Ok(seed) = std::env::var("MILLRACE_MATCHING_SEED") {
        check(seed.parse().expect("a seed"));
        return;
    }
    let first: u64 = std::env::var("MILLRACE_MATCHING_FIRST")
        .map_or(0x6d61_7463_6869_6e67, |n| n.parse().expect("a seed"));
    println!("seeds from {first}, {commands} commands");
    let mut kinds = HashSet::new();
    for stream in 0..commands.div_ceil(STREAM) as u64 {
        kinds.extend(check(first.wrapping_add(stream)));
    }
    // What never happened was never compared.
    assert_eq!(kinds.len(), 12, "{kinds:?}");
}

/// Runs the stream of `seed`; returns the kinds of what was seen.
fn check(seed: u64) -> HashSet<Kind> {
    let (room, commands) = stream(seed);
    let (at, why) = match run(room, &commands) {
        Ok(kinds) => return kinds,
        Err(failure) => failure,
    };
    let mut least = commands[..=at].to_vec();
    let mut reason = why;
    // Drop ever smaller runs of commands as long as it still fails.
    let mut run_length = least.len() / 2;
    while run_length > 0 {
        let mut start = 0;
        while start + run_length <= least.len() {
            let mut fewer = least.clone();
            fewer.drain(start..start + run_length);
            match run(room, &fewer) {
                Err((at, why)) => {
                    fewer.truncate(at + 1);
                    (least, reason) = (fewer, why);
                }
                Ok(_) => start += run_length,
            }
        }
        run_length /= 2;
    }
    for command in &least {
        eprintln!("{command:?}");
    }
    panic!(
        "MILLRACE_MATCHING_SEED={seed} fails with {room:?} after the {} commands above: {reason}",
        least.len()
    );
}

/// Runs a stream; the error says at which command and how the two differ.
fn run(room: Room, commands: &[Command]) -> Result<HashSet<Kind>, (usize, String)> {
    let mut pair = Pair::new(room);
    for (at, command) in commands.iter().enumerate() {
        let outcome = catch_unwind(AssertUnwindSafe(|| pair.step(*command)));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err((at, why)),
            Err(_) => return Err((at, "a panic".into())),
        }
        // The audit takes longest and finds nothing that goes away again.
        if (at % 8 == 7 || at + 1 == commands.len())
            && let Err(why) = pair.room.audit()
        {
            return Err((at, why));
        }
    }
    Ok(pair.kinds)
}

/// The room and the naive book, side by side.
struct Pair {
    limits: Limits,
    room: Matching,
    naive: Naive,
    given: Vec<u64>,
    kinds: HashSet<Kind>,
}

type Kind = std::mem::Discriminant<Seen>;

impl Pair {
    fn new(room: Room) -> Pair {
        let limits = Limits {
            instruments: BOOKS,
            participants: PARTICIPANTS,
            orders: room.orders as u32,
            client_order_ids: room.ids as u32,
            price_levels: room.levels as u32,
            ..Limits::small()
        };
        let mut matching = Matching::new(&limits);
        (0..BOOKS).for_each(|book| matching.add_book(book));
        Pair {
            limits,
            room: matching,
            naive: Naive::new(room),
            given: Vec::new(),
            kinds: HashSet::new(),
        }
    }

    fn step(&mut self, command: Command) -> Result<(), String> {
        let (mut expected, mut seen) = (Vec::new(), Vec::new());
        match command {
            Command::Place(order) => {
                self.naive.place(order, &mut expected);
                place(&mut self.room, order, &mut seen);
            }
            Command::Cancel(which) => {
                match self.expect(which) {
                    Ok(id) => self.naive.cancel(id, &mut expected),
                    Err(why) => expected.push(Seen::Refused(why)),
                }
                match self.look_up(which) {
                    Ok(slot) => seen.push(cancelled(self.room.cancel(slot))),
                    Err(why) => seen.push(Seen::Refused(why)),
                }
            }
            Command::Replace {
                which,
                price,
                quantity,
                client,
            } => {
                match self.expect(which) {
                    Ok(id) => self
                        .naive
                        .replace(id, price, quantity, client, &mut expected),
                    Err(why) => expected.push(Seen::Refused(why)),
                }
                match self.look_up(which) {
                    Ok(slot) => replace(&mut self.room, slot, price, quantity, client, &mut seen),
                    Err(why) => seen.push(Seen::Refused(why)),
                }
            }
            Command::MassCancel {
                participant,
                book,
                side,
            } => {
                let condemned = |o: &NewOrder| {
                    o.participant == participant
                        && book.is_none_or(|book| book == o.book)
                        && side.is_none_or(|side| side == o.side)
                };
                self.naive.cancel_all(BOOKS, condemned, &mut expected);
                self.room
                    .mass_cancel(participant, book, side, |o| seen.push(cancelled(o)));
            }
            Command::CancelDay(book) => {
                let condemned = |o: &NewOrder| {
                    o.time_in_force == TimeInForce::Day && book.is_none_or(|book| book == o.book)
                };
                self.naive.cancel_all(BOOKS, condemned, &mut expected);
                self.room.cancel_where(
                    book,
                    |o| o.time_in_force == TimeInForce::Day,
                    |o| seen.push(cancelled(o)),
                );
            }
            Command::RollDay => {
                self.naive.roll_day();
                self.room.roll_day();
            }
            Command::Snapshot => self.take_and_read_snapshot()?,
        }
        if expected != seen {
            return Err(format!("expected {expected:?}, saw {seen:?}"));
        }
        for seen in &seen {
            if let Seen::Entered(id) = seen {
                self.given.push(*id);
            }
        }
        self.kinds.extend(seen.iter().map(std::mem::discriminant));
        self.compare_books()
    }

    fn expect(&self, which: Which) -> Result<u64, &'static str> {
        match which {
            Which::Client(participant, client) => self.naive.by_client(participant, client),
            Which::Given(n) => self.naive.by_id(self.given_id(n)),
            Which::Raw(id) => self.naive.by_id(id),
        }
    }

    fn look_up(&self, which: Which) -> Result<Slot, &'static str> {
        let found = match which {
            Which::Client(participant, client) => {
                self.room.find(participant, ClientOrderId(client))
            }
            Which::Given(n) => self.room.find_by_id(OrderId(self.given_id(n))),
            Which::Raw(id) => self.room.find_by_id(OrderId(id)),
        };
        match found {
            Lookup::Live(slot) => Ok(slot),
            Lookup::Finished => Err("finished"),
            Lookup::Unknown => Err("unknown"),
        }
    }

    fn given_id(&self, n: usize) -> u64 {
        match self.given.len() {
            0 => 0,
            len => self.given[len - 1 - n % len],
        }
    }

    fn take_and_read_snapshot(&mut self) -> Result<(), String> {
        let mut bytes = Vec::new();
        self.room
            .write_snapshot(&mut bytes)
            .map_err(|e| e.to_string())?;
        let back =
            Matching::read_snapshot(&self.limits, &mut &bytes[..]).map_err(|e| e.to_string())?;
        let mut again = Vec::new();
        back.write_snapshot(&mut again).map_err(|e| e.to_string())?;
        if bytes != again {
            return Err("a snapshot read back is written differently".into());
        }
        if digest(&self.room) != digest(&back) {
            return Err("a snapshot read back has another digest".into());
        }
        self.room = back;
        Ok(())
    }

    /// Every order, every level, every total.
    fn compare_books(&self) -> Result<(), String> {
        for book in 0..BOOKS {
            for side in [Side::Buy, Side::Sell] {
                let expected = self.naive.side(book, side);
                let same = self
                    .room
                    .orders(book, side)
                    .map(|o| (as_new(&o), o.order_id.0, o.leaves.0))
                    .eq(expected.iter().map(|o| (o.order, o.id, o.leaves)));
                if !same || self.room.order_count(book, side) as usize != expected.len() {
                    return Err(format!(
                        "book {book} {side}: other orders than {expected:?}"
                    ));
                }
                let mut levels: Vec<(i64, u128, u32)> = Vec::new();
                for order in expected {
                    let (price, leaves) = (order.order.price.0, u128::from(order.leaves));
                    match levels.last_mut() {
                        Some(level) if level.0 == price => {
                            level.1 += leaves;
                            level.2 += 1;
                        }
                        _ => levels.push((price, leaves, 1)),
                    }
                }
                let seen = self.room.levels(book, side);
                if !seen
                    .map(|l| (l.price.0, l.quantity, l.orders))
                    .eq(levels.iter().copied())
                {
                    return Err(format!("book {book} {side}: other levels than {levels:?}"));
                }
                let price = |level: Option<LevelView>| level.map(|level| level.price.0);
                let ends = (
                    price(self.room.best(book, side)),
                    price(self.room.worst(book, side)),
                );
                if ends != (levels.first().map(|l| l.0), levels.last().map(|l| l.0)) {
                    return Err(format!("book {book} {side}: from {ends:?}, not {levels:?}"));
                }
                for (price, quantity, _) in levels {
                    let level = self.room.level(book, side, Price(price));
                    if level.map(|l| l.quantity) != Some(quantity) {
                        return Err(format!("book {book} {side}: no level at {price}"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The walk of a new order through the room, as its handler makes it.
pub(super) fn place(room: &mut Matching, order: NewOrder, seen: &mut Vec<Seen>) {
    if room.find(order.participant, order.client_order_id) != Lookup::Unknown {
        return seen.push(Seen::Refused("duplicate"));
    }
    if !room.has_room_for_order() || !room.has_room_at(order.book, order.side, order.price) {
        return seen.push(Seen::Refused("capacity"));
    }
    let killed = order.time_in_force == TimeInForce::Fok
        && !room.reachable(
            order.book,
            order.side,
            (order.price, no_band()),
            order.quantity,
            order.participant,
            order.self_trade,
        );
    let slot = room.enter(&order);
    seen.push(Seen::Entered(room.order(slot).order_id.0));
    if killed {
        seen.push(Seen::Killed);
        return room.finish(slot);
    }
    execute(room, slot, seen);
}

/// The walk of a replace.
pub(super) fn replace(
    room: &mut Matching,
    slot: Slot,
    price: Option<i64>,
    quantity: Option<u64>,
    client: Option<u64>,
    seen: &mut Vec<Seen>,
) {
    let order = room.order(slot);
    let price = price.map_or(order.price, Price);
    let total = quantity.unwrap_or(order.quantity.0);
    if total <= order.filled().0 {
        return seen.push(Seen::Refused("below what is filled"));
    }
    if let Some(client) = client {
        if room.find(order.participant, ClientOrderId(client)) != Lookup::Unknown {
            return seen.push(Seen::Refused("duplicate"));
        }
        if !room.has_room_for_id() {
            return seen.push(Seen::Refused("capacity"));
        }
    }
    let stays = price == order.price && total <= order.quantity.0;
    if !stays && !room.has_room_to_move(slot, price) {
        return seen.push(Seen::Refused("capacity"));
    }
    if let Some(client) = client {
        room.rename(slot, ClientOrderId(client));
        seen.push(Seen::Renamed(client));
    }
    let leaves = Quantity(total - order.filled().0);
    if stays {
        room.reduce(slot, leaves);
        return seen.push(Seen::Reduced(leaves.0));
    }
    room.lift(slot);
    room.amend(slot, price, leaves);
    execute(room, slot, seen);
}

fn execute(room: &mut Matching, slot: Slot, seen: &mut Vec<Seen>) {
    let outcome = room.execute(slot, no_band(), |step| seen.push(seen_in(step)));
    let order = room.order(slot);
    seen.push(Seen::Executed(outcome, order.leaves.0));
    let rests = !matches!(order.time_in_force, TimeInForce::Ioc | TimeInForce::Fok);
    if outcome == Outcome::Open && rests {
        seen.push(Seen::Rests(order.leaves.0));
        room.rest(slot);
    } else {
        seen.push(Seen::Ended(order.leaves.0));
        room.finish(slot);
    }
}

fn seen_in(step: Step<'_>) -> Seen {
    match step {
        Step::Fill(Meeting {
            maker,
            maker_fee_budget,
            taker_fee_budget,
            quantity,
            taker_leaves,
        }) => {
            *maker_fee_budget = maker_fee(*maker_fee_budget, quantity.0);
            *taker_fee_budget = taker_fee(*taker_fee_budget);
            Seen::Fill {
                maker: maker.order_id.0,
                client_order_id: maker.client_order_id.0,
                price: maker.price.0,
                quantity: quantity.0,
                maker_leaves: maker.leaves.0,
                maker_budget: *maker_fee_budget,
                taker_leaves: taker_leaves.0,
            }
        }
        Step::Decrement(Meeting {
            maker,
            quantity,
            taker_leaves,
            ..
        }) => Seen::Decrement {
            maker: maker.order_id.0,
            quantity: quantity.0,
            maker_leaves: maker.leaves.0,
            taker_leaves: taker_leaves.0,
        },
        Step::CancelResting(maker) => Seen::SelfCancelled {
            maker: maker.order_id.0,
            leaves: maker.leaves.0,
            budget: maker.fee_budget,
        },
    }
}

fn cancelled(order: OrderView) -> Seen {
    Seen::Cancelled {
        order: order.order_id.0,
        leaves: order.leaves.0,
        quantity: order.quantity.0,
        budget: order.fee_budget,
    }
}

fn as_new(order: &OrderView) -> NewOrder {
    NewOrder {
        book: order.book,
        participant: order.participant,
        client_order_id: order.client_order_id,
        side: order.side,
        order_type: order.order_type,
        time_in_force: order.time_in_force,
        self_trade: order.self_trade,
        post_only: order.post_only,
        price: order.price,
        quantity: order.quantity,
        base_account: order.base_account,
        quote_account: order.quote_account,
        fee_budget: order.fee_budget,
        special: None,
    }
}

pub(super) fn digest(room: &Matching) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    room.digest_into(&mut hasher);
    *hasher.finalize().as_bytes()
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

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A stream and the sizes it runs in: narrow, wide and extreme prices; roomy and tight tables.
fn stream(seed: u64) -> (Room, Vec<Command>) {
    let mut random = Random(seed);
    let random = &mut random;
    let room = if random.chance(30) {
        Room {
            orders: 4 + random.below(30) as usize,
            ids: 20 + random.below(100) as usize,
            levels: 1 + random.below(12) as usize,
        }
    } else {
        Room {
            orders: 300,
            ids: 3_000,
            levels: 300,
        }
    };
    let prices = random.one_of(&[Prices::Narrow, Prices::Usual, Prices::Wide, Prices::Any]);
    let policies: &[SelfTrade] = if random.chance(30) {
        &[SelfTrade::Allow]
    } else {
        SelfTrade::ALL
    };
    let placing = 40 + random.below(45);
    let clients = 1 + random.below(3 * STREAM as u64);
    let commands = (0..STREAM)
        .map(|_| command(random, placing, clients, prices, policies))
        .collect();
    (room, commands)
}

#[derive(Clone, Copy)]
enum Prices {
    Narrow,
    Usual,
    Wide,
    Any,
}

impl Prices {
    fn next(self, random: &mut Random) -> i64 {
        match self {
            Prices::Narrow => 100 + random.below(6) as i64,
            Prices::Usual => 10_000 + random.below(300) as i64,
            // A few ticks, at every scale from 1 to 2^62.
            Prices::Wide => (1i64 << random.below(63)) + random.below(3) as i64,
            Prices::Any => match random.below(8) {
                0 => i64::MIN + random.below(2) as i64,
                1 => i64::MAX - random.below(2) as i64,
                2 => random.below(5) as i64 - 2,
                3 => random.next() as i64,
                _ => (random.below(4) as i64 - 2) << (6 * random.below(10)),
            },
        }
    }
}

fn quantity(random: &mut Random) -> u64 {
    match random.below(40) {
        0 => u64::MAX,
        1 => u64::MAX / 2,
        2..6 => 1 + random.below(60),
        _ => 1 + random.below(8),
    }
}

fn command(
    random: &mut Random,
    placing: u64,
    clients: u64,
    prices: Prices,
    policies: &[SelfTrade],
) -> Command {
    let participant = random.below(u64::from(PARTICIPANTS)) as u32;
    let book = random.one_of(&[0, 0, 0, 0, 1, 2]);
    if random.chance(placing) {
        return Command::Place(NewOrder {
            book,
            participant,
            client_order_id: ClientOrderId(1 + random.below(clients)),
            side: random.one_of(Side::ALL),
            order_type: random.one_of(&[OrderType::Limit, OrderType::Market]),
            time_in_force: random.one_of(&[
                TimeInForce::Gtc,
                TimeInForce::Gtc,
                TimeInForce::Gtc,
                TimeInForce::Day,
                TimeInForce::Ioc,
                TimeInForce::Fok,
            ]),
            self_trade: random.one_of(policies),
            post_only: false,
            price: Price(prices.next(random)),
            quantity: Quantity(quantity(random)),
            base_account: random.next() as u32,
            quote_account: random.next() as u32,
            fee_budget: u128::from(random.below(20)),
            special: None,
        });
    }
    let which = match random.below(20) {
        0 => Which::Raw(random.below(40) | random.below(3) << 32),
        1..8 => Which::Client(participant, 1 + random.below(clients)),
        _ => Which::Given(random.below(60) as usize),
    };
    match random.below(100) {
        0..40 => Command::Cancel(which),
        40..90 => Command::Replace {
            which,
            price: random.chance(60).then(|| prices.next(random)),
            quantity: random.chance(50).then(|| quantity(random)),
            client: random.chance(20).then(|| 1 + random.below(clients)),
        },
        90..94 => Command::MassCancel {
            participant,
            book: random.chance(50).then_some(book),
            side: random.chance(50).then(|| random.one_of(Side::ALL)),
        },
        94..96 => Command::CancelDay(random.chance(50).then_some(book)),
        96..98 => Command::RollDay,
        _ => Command::Snapshot,
    }
}
