//! The obvious exchange: one vector of orders, searched from end to end; what is held is summed over
//! it when asked. Written from docs/matching.md, not from the engine, and shares nothing with it.

use super::commands::{Command, Kind, Peg, Phase, Place, SelfTrade, Side, Tif, Trigger, word};
use std::collections::{BTreeMap, BTreeSet};

/// What can be seen of a command, in order.
pub(super) type Seen = Vec<String>;

/// An instrument: what it says, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Book {
    pub(super) tick_value: i128,
    pub(super) lot_size: i128,
    pub(super) maker_percent: i128,
    pub(super) taker_percent: i128,
    pub(super) min_price: i64,
    pub(super) max_price: i64,
    pub(super) min_quantity: u64,
    pub(super) max_quantity: u64,
    pub(super) max_notional: i128,
    /// From each price on, prices are multiples of the number beside it.
    pub(super) steps: Vec<(i64, i64)>,
    pub(super) static_band: i64,
    pub(super) dynamic_band: i64,
    pub(super) reference: Option<i64>,
    pub(super) phase: Phase,
    pub(super) last: Option<i64>,
    /// Orders may cross: since the last call, nothing has traded continuously.
    pub(super) is_call: bool,
    pub(super) indicated: (i64, u64),
    /// When trades settle.
    pub(super) settles: Settles,
}

/// When trades settle, and in a cycle, whether shares move gross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settles {
    AtOnce,
    Net,
    Gross,
}

impl Book {
    fn notional(&self, price: i64, lots: u64) -> i128 {
        i128::from(price) * i128::from(lots) * self.tick_value
    }

    fn is_tick(&self, price: i64) -> bool {
        let step = self.steps.iter().rev().find(|(from, _)| *from <= price);
        price % step.unwrap_or(&self.steps[0]).1 == 0
    }

    /// The nearest price there is, at or below for buys, at or above for sells.
    fn on_tick(&self, side: Side, mut price: i64) -> i64 {
        while !self.is_tick(price) {
            price += if side == Side::Buy { -1 } else { 1 };
        }
        price
    }

    fn short_of(&self, side: Side, price: i64) -> i64 {
        self.on_tick(side, price + if side == Side::Buy { -1 } else { 1 })
    }

    fn worst_percent(&self) -> i128 {
        self.maker_percent.max(self.taker_percent).max(0)
    }

    /// With whole percents of notionals that are multiples of 100, no fee is ever rounded.
    fn with_fee(&self, notional: i128) -> i128 {
        notional + notional * self.worst_percent() / 100
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Book,
    /// For this price.
    Stop(i64),
    /// For an auction: the closing one, or any.
    Aside {
        close: bool,
    },
    /// For the order that brings it.
    Entry,
}

/// How an order comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Alone,
    Leg,
    /// Of a bracket.
    BroughtLeg,
}

/// An order that may come in.
struct Checked {
    stage: Stage,
    stop: Option<i64>,
    limit: i64,
    price: i64,
    cover_price: i64,
    needs: i128,
}

/// What a participant traded in a cycle: what comes and goes, and the fees.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    shares_in: i128,
    shares_out: i128,
    cash_in: i128,
    cash_out: i128,
    /// Charged for buys, and charged or, below zero, rebated for anything else.
    buy_fees: i128,
    other_fees: i128,
}

/// Orders that hang together.
#[derive(Clone, Debug)]
struct List {
    entry: Option<u64>,
    /// Lots that the entry had filled when it ended.
    filled: u64,
    /// Its legs as they were entered, and the stop price of each.
    legs: Vec<(u64, Option<i64>)>,
    /// Lots of each leg, 0 before the entry fills, and how much of that they have heard of.
    lots: u64,
    brought: u64,
    /// Legs that have ended since: the others have not heard of it yet.
    gone: Vec<Order>,
}

#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) number: u64,
    place: Place,
    client: u64,
    /// The worst price it trades at.
    limit: i64,
    /// Where it stands in the book.
    price: i64,
    cover_price: i64,
    total: u64,
    leaves: u64,
    shown: u64,
    at: At,
    /// When it came to where it stands, and when it was entered.
    arrived: u64,
    entered: u64,
    in_session: bool,
    list: Option<u64>,
}

pub(super) struct Exchange {
    pub(super) books: BTreeMap<u32, Book>,
    /// Cash and shares of each participant, without what is held of them.
    pub(super) owned: BTreeMap<u32, (i128, i128)>,
    pub(super) house: i128,
    /// By book and participant: what was traded and has not settled.
    positions: BTreeMap<(u32, u32), Position>,
    /// Trades of the cycle of each book.
    cycle_trades: BTreeMap<u32, u64>,
    /// Participants of each deferred book, in order of their first order.
    joined: BTreeMap<u32, Vec<u32>>,
    groups: BTreeMap<u32, u32>,
    blocked: BTreeSet<u32>,
    orders: Vec<Order>,
    /// Client ids of today: the live order, or none any more.
    ids: BTreeMap<(u32, u64), Option<u64>>,
    clock: u64,
    numbers: u64,
    now: u64,
    /// 0 before the first phase, then whether the day is open.
    day_open: bool,
    session: bool,
    lists: BTreeMap<u64, List>,
    /// Lists that something happened to, first come first.
    touched: Vec<u64>,
    seen: Seen,
}

impl Exchange {
    pub(super) fn new(
        books: BTreeMap<u32, Book>,
        owned: BTreeMap<u32, (i128, i128)>,
        groups: BTreeMap<u32, u32>,
    ) -> Exchange {
        Exchange {
            books,
            owned,
            house: 0,
            positions: BTreeMap::new(),
            cycle_trades: BTreeMap::new(),
            joined: BTreeMap::new(),
            groups,
            blocked: BTreeSet::new(),
            orders: Vec::new(),
            ids: BTreeMap::new(),
            clock: 0,
            numbers: 0,
            now: 0,
            day_open: true,
            session: false,
            lists: BTreeMap::new(),
            touched: Vec::new(),
            seen: Vec::new(),
        }
    }

    pub(super) fn apply(&mut self, command: &Command) -> Seen {
        self.seen.clear();
        if let Command::Tick { at } = command {
            self.now = self.now.max(*at);
            self.lapse();
        }
        match *command {
            Command::Place(place) => {
                if let Err(reason) = self.place(place) {
                    self.say(format!("order_rejected {} {reason}", place.client));
                }
            }
            Command::PlaceList {
                orders,
                count,
                is_bracket,
            } => {
                let orders = &orders[..count];
                if let Err((at, why)) = self.place_list(orders, is_bracket) {
                    for (index, p) in orders.iter().enumerate() {
                        let reason = if index == at {
                            why
                        } else {
                            "linked_event_failed"
                        };
                        self.say(format!("order_rejected {} {reason}", p.client));
                    }
                }
            }
            Command::Cancel {
                participant,
                client,
            } => match self.find(participant, client) {
                Ok(number) => {
                    let book = self.order(number).place.book;
                    self.cancel(number, "requested");
                    self.settle(book);
                }
                Err(reason) => self.say(format!("rejected {reason}")),
            },
            Command::Replace {
                participant,
                client,
                price,
                quantity,
                rename,
            } => {
                if let Err(reason) = self.replace(participant, client, price, quantity, rename) {
                    self.say(format!("rejected {reason}"));
                }
            }
            Command::MassCancel {
                participant,
                book,
                side,
            } => {
                self.say("ok".into());
                self.cancel_all("mass", |o| {
                    o.place.participant == participant
                        && book.is_none_or(|book| book == o.place.book)
                        && side.is_none_or(|side| side == o.place.side)
                });
            }
            Command::SetPhase { book, phase } => self.set_phase(book, phase),
            Command::Uncross { book } => {
                let phase = self.books[&book].phase;
                if !is_call(phase) || !self.day_open {
                    return self.refused("phase_forbids");
                }
                self.say("ok".into());
                self.uncross(book);
                if phase != Phase::PreOpen {
                    self.expire_after(book, phase);
                }
                self.settle(book);
            }
            Command::SettleCycle { book } => {
                if self.books[&book].settles == Settles::AtOnce {
                    return self.refused("settles_at_once");
                }
                self.say("ok".into());
                self.settle_cycle(book);
            }
            Command::Block {
                participant,
                is_blocked,
            } => {
                self.say("ok".into());
                if is_blocked {
                    self.blocked.insert(participant);
                    self.cancel_all("blocked", |o| o.place.participant == participant);
                } else {
                    self.blocked.remove(&participant);
                }
            }
            Command::CancelOnDisconnect(enabled) => {
                self.session = enabled;
                self.say("ok".into());
            }
            Command::Disconnect => {
                if !self.session && !self.orders.iter().any(|o| o.in_session) {
                    return self.refused("session_not_found");
                }
                self.say("ok".into());
                self.session = false;
                self.cancel_all("disconnected", |o| o.in_session);
            }
            Command::Tick { .. } => self.say("ok".into()),
            Command::EndOfDay => {
                if !self.day_open {
                    // It was closed before: nothing is left to do.
                    self.say("ok".into());
                    return self.seen.clone();
                }
                self.say("ok".into());
                let books: Vec<u32> = self.books.keys().copied().collect();
                for book in books {
                    self.settle_if_traded(book);
                }
                self.day_open = false;
                self.cancel_all("expired", |o| {
                    matches!(
                        o.place.tif,
                        Tif::Day | Tif::AtTheOpen | Tif::AtTheClose | Tif::GoodForAuction
                    )
                });
                // Those who have no order left there come anew, in their turn.
                let orders = &self.orders;
                for (book, joined) in &mut self.joined {
                    joined.retain(|who| {
                        let own = |o: &Order| (o.place.book, o.place.participant) == (*book, *who);
                        orders.iter().any(own)
                    });
                }
            }
            Command::StartOfDay => {
                self.say("ok".into());
                if !self.day_open {
                    self.ids.retain(|_, live| live.is_some());
                    self.day_open = true;
                    let books: Vec<u32> = self.books.keys().copied().collect();
                    for book in books {
                        if self.reach_quotes(book) {
                            self.settle(book);
                        }
                    }
                }
            }
        }
        self.seen.clone()
    }

    fn refused(&mut self, reason: &str) -> Seen {
        self.say(format!("rejected {reason}"));
        self.seen.clone()
    }

    fn say(&mut self, what: String) {
        self.seen.push(what);
    }

    fn tick_clock(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn index(&self, number: u64) -> usize {
        let at = self.orders.iter().position(|o| o.number == number);
        at.expect("alive")
    }

    fn order(&self, number: u64) -> &Order {
        &self.orders[self.index(number)]
    }

    fn order_mut(&mut self, number: u64) -> &mut Order {
        let at = self.index(number);
        &mut self.orders[at]
    }

    fn find(&self, participant: u32, client: u64) -> Result<u64, &'static str> {
        match self.ids.get(&(participant, client)) {
            None => Err("unknown_order"),
            Some(None) => Err("too_late_to_cancel"),
            Some(Some(number)) => Ok(*number),
        }
    }

    fn is_same(&self, one: u32, other: u32) -> bool {
        let group = |p| self.groups.get(p);
        one == other || group(&one).is_some() && group(&one) == group(&other)
    }

    /// What is held on a participant's cash and shares.
    pub(super) fn held(&self, participant: u32) -> (i128, i128) {
        let own = |o: &&Order| o.place.participant == participant;
        let mut held = (0, 0);
        for list in self.lists.values() {
            for side in [Side::Buy, Side::Sell] {
                let find = |leg: u64| {
                    let gone = list.gone.iter().find(|o| o.number == leg);
                    self.alive(leg).or(gone)
                };
                let legs = list.legs.iter().filter_map(|(leg, _)| find(*leg));
                let legs: Vec<&Order> = legs.filter(|o| own(o) && o.place.side == side).collect();
                // One cover does for all, and none for those that are still to come to life.
                let whole = |o: &&Order| {
                    let leaves = list.lots;
                    self.hold(&Order {
                        leaves,
                        ..(*o).clone()
                    })
                };
                let most = legs.iter().map(whole).max().unwrap_or(0);
                // The cover of what the leg in the book has lost is gone, at its own price, though
                // the others have not heard of it yet; a leg beside the book has none of its own.
                let in_book = legs.iter().find(|o| o.place.kind == Kind::Limit);
                let lost = in_book.or(legs.first()).map_or(0, |o| {
                    let is_gone = list.gone.iter().any(|gone| gone.number == o.number);
                    whole(o) - if is_gone { 0 } else { self.hold(o) }
                });
                let most = most - lost;
                match side {
                    _ if list.lots == 0 => {}
                    Side::Buy => held.0 += most,
                    Side::Sell => held.1 += most,
                }
            }
        }
        for order in self.orders.iter().filter(own) {
            if self.is_leg(order) {
                continue;
            }
            let hold = self.hold(order);
            match order.place.side {
                Side::Buy => held.0 += hold,
                Side::Sell => held.1 += hold,
            }
        }
        for (_, position) in self
            .positions
            .iter()
            .filter(|(key, _)| key.1 == participant)
        {
            held.0 += position.cash_out + position.buy_fees;
            held.1 += position.shares_out;
        }
        held
    }

    /// Everybody has or gets the balance of what it bought and sold, and pays its fees.
    fn settle_cycle(&mut self, book: u32) {
        let (mut value, mut netted) = (0, 0);
        for who in self.joined.get(&book).cloned().unwrap_or_default() {
            let Some(p) = self.positions.remove(&(book, who)) else {
                continue;
            };
            let fees = p.buy_fees + p.other_fees;
            let shares = p.shares_in - p.shares_out;
            let cash = p.cash_in - p.cash_out - fees;
            let owned = self.owned.get_mut(&who).unwrap();
            owned.0 += cash;
            owned.1 += shares;
            self.house += fees;
            value += p.cash_out;
            netted += p.cash_out.min(p.cash_in);
            let (out, come) = match self.books[&book].settles {
                Settles::Gross => (p.shares_out, p.shares_in),
                _ => ((-shares).max(0), shares.max(0)),
            };
            self.say(format!(
                "cycle_position {book} {who} {out} {come} {cash} {fees}"
            ));
        }
        let trades = self.cycle_trades.remove(&book).unwrap_or(0);
        self.say(format!("cycle_settled {book} {trades} {value} {netted}"));
    }

    /// What the next cycle of a book would move.
    pub(super) fn positions(&self, book: u32) -> Vec<String> {
        let mut said = Vec::new();
        let (mut value, mut netted) = (0, 0);
        for who in self.joined.get(&book).into_iter().flatten() {
            let Some(p) = self.positions.get(&(book, *who)) else {
                continue;
            };
            let fees = p.buy_fees + p.other_fees;
            let shares = p.shares_in - p.shares_out;
            let cash = p.cash_in - p.cash_out - fees;
            let (out, come) = match self.books[&book].settles {
                Settles::Gross => (p.shares_out, p.shares_in),
                _ => ((-shares).max(0), shares.max(0)),
            };
            value += p.cash_out;
            netted += p.cash_out.min(p.cash_in);
            let held = (p.shares_out, p.cash_out + p.buy_fees);
            said.push(format!(
                "{who} {out} {come} {cash} {fees} {} {}",
                held.0, held.1
            ));
        }
        let trades = self.cycle_trades.get(&book).unwrap_or(&0);
        said.push(format!("{trades} {value} {netted}"));
        said
    }

    fn settle_if_traded(&mut self, book: u32) {
        if self.cycle_trades.contains_key(&book) {
            self.settle_cycle(book);
        }
    }

    fn alive(&self, number: u64) -> Option<&Order> {
        self.orders.iter().find(|o| o.number == number)
    }

    fn is_leg(&self, order: &Order) -> bool {
        let list = order.list.and_then(|id| self.lists.get(&id));
        list.is_some_and(|list| list.entry != Some(order.number))
    }

    fn touch(&mut self, list: Option<u64>) {
        if let Some(id) = list
            && self.lists.contains_key(&id)
            && !self.touched.contains(&id)
        {
            self.touched.push(id);
        }
    }

    fn hold(&self, order: &Order) -> i128 {
        let book = &self.books[&order.place.book];
        match order.place.side {
            Side::Buy => book.with_fee(book.notional(order.cover_price, order.leaves)),
            Side::Sell => i128::from(order.leaves) * book.lot_size,
        }
    }

    fn free(&self, participant: u32, side: Side) -> i128 {
        let (cash, shares) = self.owned[&participant];
        let (held_cash, held_shares) = self.held(participant);
        match side {
            Side::Buy => cash - held_cash,
            Side::Sell => shares - held_shares,
        }
    }

    /// Orders in the book on one side, as they would trade.
    fn queue(&self, book: u32, side: Side) -> Vec<u64> {
        let mut all: Vec<&Order> = self
            .orders
            .iter()
            .filter(|o| o.place.book == book && o.place.side == side && o.at == At::Book)
            .collect();
        all.sort_by_key(|o| match side {
            Side::Buy => (-o.price, o.arrived),
            Side::Sell => (o.price, o.arrived),
        });
        all.iter().map(|o| o.number).collect()
    }

    fn best(&self, book: u32, side: Side) -> Option<i64> {
        let first = *self.queue(book, side).first()?;
        Some(self.order(first).price)
    }

    /// Number, price and lots shown of each order in the book, as they would trade.
    pub(super) fn shown(&self, book: u32, side: Side) -> Vec<(u64, i64, u64)> {
        let queue = self.queue(book, side);
        let orders = queue.iter().map(|number| self.order(*number));
        orders.map(|o| (o.number, o.price, o.shown)).collect()
    }

    /// Price, lots shown and orders of each level.
    pub(super) fn levels(&self, book: u32, side: Side) -> Vec<(i64, u64, u32)> {
        let mut levels: Vec<(i64, u64, u32)> = Vec::new();
        for number in self.queue(book, side) {
            let order = self.order(number);
            match levels.last_mut() {
                Some(level) if level.0 == order.price => {
                    level.1 += order.shown;
                    level.2 += 1;
                }
                _ => levels.push((order.price, order.shown, 1)),
            }
        }
        levels
    }

    fn would_cross(&self, book: u32, side: Side, price: i64) -> bool {
        match side {
            Side::Buy => self.best(book, Side::Sell).is_some_and(|ask| ask <= price),
            Side::Sell => self.best(book, Side::Buy).is_some_and(|bid| bid >= price),
        }
    }

    fn check_limit(&self, book: u32, price: i64) -> Result<(), &'static str> {
        let book = &self.books[&book];
        if price < book.min_price || price > book.max_price {
            return Err("outside_price_band");
        }
        if !book.is_tick(price) {
            return Err("price_not_on_tick");
        }
        match book.reference {
            Some(reference)
                if book.static_band != 0 && (price - reference).abs() > book.static_band =>
            {
                Err("outside_price_band")
            }
            _ => Ok(()),
        }
    }

    /// Whether the phase lets orders of that kind in, and where they go: into the book to trade, into
    /// it to accumulate, or aside.
    fn stage(&self, book: u32, tif: Tif) -> Result<Stage, &'static str> {
        let phase = self.books[&book].phase;
        if phase == Phase::Halted {
            return Err("instrument_halted");
        }
        if phase == Phase::Closed || !self.day_open {
            return Err("phase_forbids");
        }
        let trades = phase == Phase::Continuous;
        match tif {
            Tif::AtTheOpen => match phase {
                Phase::PreOpen | Phase::OpeningAuction | Phase::Auction => Ok(Stage::Accumulates),
                _ => Err("phase_forbids"),
            },
            Tif::AtTheClose => match phase {
                Phase::ClosingAuction | Phase::Auction => Ok(Stage::Accumulates),
                _ => Ok(Stage::Aside(true)),
            },
            Tif::GoodForAuction if trades => Ok(Stage::Aside(false)),
            Tif::Ioc | Tif::Fok if !trades => Err("phase_forbids"),
            _ if trades => Ok(Stage::Trades),
            _ => Ok(Stage::Accumulates),
        }
    }

    fn place(&mut self, p: Place) -> Result<(), &'static str> {
        let checked = self.check(&p, Role::Alone)?;
        let order = self.accept(p, &checked);
        self.start(order, &checked);
        self.settle(p.book);
        Ok(())
    }

    /// What an order must satisfy, and where it goes then.
    fn check(&self, p: &Place, role: Role) -> Result<Checked, &'static str> {
        if self.blocked.contains(&p.participant) {
            return Err("participant_blocked");
        }
        if self.ids.contains_key(&(p.participant, p.client)) {
            return Err("duplicate_client_order_id");
        }
        match p.kind {
            Kind::Stop | Kind::StopLimit if p.stop == 0 => return Err("stop_price_missing"),
            Kind::TrailingStop if p.offset == 0 => return Err("offset_missing"),
            Kind::Pegged if p.peg.is_none() => return Err("peg_missing"),
            _ if p.tif == Tif::Gtd && p.expires_at == 0 => return Err("expires_at_missing"),
            _ => {}
        }
        if p.expires_at != 0 && p.expires_at <= self.now {
            return Err("time_out_of_range");
        }
        let is_leg = role != Role::Alone;
        if is_leg
            && (!matches!(p.tif, Tif::Day | Tif::Gtc | Tif::Gtd)
                || !matches!(
                    p.kind,
                    Kind::Limit | Kind::Stop | Kind::StopLimit | Kind::TrailingStop
                )
                || p.post_only
                || p.min_quantity != 0
                || role == Role::BroughtLeg && p.kind == Kind::TrailingStop && p.stop == 0)
        {
            return Err("order_fields_contradict");
        }
        let stage = self.stage(p.book, p.tif)?;
        let book = self.books[&p.book].clone();
        if p.quantity < book.min_quantity
            || p.quantity > book.max_quantity
            || p.min_quantity > p.quantity
            || p.display > p.quantity
        {
            return Err("quantity_out_of_range");
        }
        let takes =
            matches!(p.kind, Kind::Market | Kind::Pegged) || p.min_quantity != 0 || p.post_only;
        if takes && stage != Stage::Trades {
            return Err("phase_forbids");
        }
        let stop = self.stop_of(p, &book)?;
        let extreme = match p.side {
            Side::Buy => book.max_price,
            Side::Sell => book.min_price,
        };
        let mut limit = match p.kind {
            Kind::Limit | Kind::StopLimit => p.price,
            Kind::Pegged if p.price != 0 => p.price,
            _ if p.protection != 0 => p.protection,
            _ => extreme,
        };
        if matches!(p.kind, Kind::Limit | Kind::StopLimit) && p.price == 0 {
            return Err("price_missing");
        }
        if p.price != 0 || p.protection != 0 {
            self.check_limit(p.book, limit)?;
        }
        if p.post_only && self.would_cross(p.book, p.side, limit) {
            if !p.slide {
                return Err("post_only_would_cross");
            }
            limit = match p.side {
                Side::Buy => book.short_of(p.side, self.best(p.book, Side::Sell).unwrap()),
                Side::Sell => book.short_of(p.side, self.best(p.book, Side::Buy).unwrap()),
            };
            self.check_limit(p.book, limit)
                .map_err(|_| "post_only_would_cross")?;
        }
        let unprotected = limit == extreme && p.protection == 0 && p.price == 0;
        let cover_price = match stop {
            Some(stop) if unprotected => stop,
            _ => limit,
        };
        let notional = if p.kind == Kind::Market && unprotected && p.side == Side::Buy {
            self.cost_of(p.book, p.quantity, p.participant, p.self_trade)
        } else if p.kind == Kind::Market && unprotected {
            book.notional(book.min_price, p.quantity)
        } else {
            book.notional(cover_price, p.quantity)
        };
        if book.max_notional != 0 && notional > book.max_notional {
            return Err("exceeds_max_notional");
        }
        let needs = match p.side {
            Side::Buy => book.with_fee(notional),
            Side::Sell => i128::from(p.quantity) * book.lot_size,
        };
        if !is_leg && needs > self.free(p.participant, p.side) {
            return Err("exceeds_credits");
        }
        let mut price = limit;
        if p.kind == Kind::Pegged {
            price = self
                .peg_price(p.book, p.side, p.peg.unwrap(), p.offset, limit)
                .ok_or("no_reference_price")?;
        }
        Ok(Checked {
            stage,
            stop,
            limit,
            price,
            cover_price,
            needs,
        })
    }

    /// Gives an order its number and says so.
    fn accept(&mut self, p: Place, checked: &Checked) -> Order {
        self.numbers += 1;
        let number = self.numbers;
        let joined = self.joined.entry(p.book).or_default();
        if !joined.contains(&p.participant) {
            joined.push(p.participant);
        }
        self.say(format!(
            "order_accepted {number} {} {}",
            p.client, p.quantity
        ));
        self.ids.insert((p.participant, p.client), Some(number));
        Order {
            number,
            place: p,
            client: p.client,
            limit: checked.limit,
            price: checked.price,
            cover_price: checked.cover_price,
            total: p.quantity,
            leaves: p.quantity,
            shown: p.quantity,
            at: At::Book,
            arrived: 0,
            entered: self.tick_clock(),
            in_session: self.session && !p.keep,
            list: None,
        }
    }

    /// What an accepted order does first.
    fn start(&mut self, order: Order, checked: &Checked) {
        let (p, number) = (order.place, order.number);
        let enough = match (p.tif, p.min_quantity) {
            (Tif::Fok, _) => Some((p.quantity, "fok")),
            (_, 0) => None,
            (_, least) => Some((least, "minimum_quantity")),
        };
        if let Some((least, reason)) = enough
            && checked.stop.is_none()
            && checked.stage == Stage::Trades
            && !self.would_fill(&order, least)
        {
            self.say(format!("order_cancelled {number} {} {reason}", p.quantity));
            self.ended(&order);
            return;
        }
        if p.slide && checked.limit != p.price {
            let limit = checked.limit;
            self.say(format!("order_replaced {number} {limit} {}", p.quantity));
        }
        match (checked.stop, checked.stage) {
            (Some(stop), _) => self.wait(order, stop),
            (None, Stage::Aside(close)) => self.rest(order, At::Aside { close }),
            (None, Stage::Trades) if p.kind != Kind::Pegged => self.run(order),
            _ => self.rest(order, At::Book),
        }
    }

    /// Waits for a stop price, which may have traded.
    fn wait(&mut self, order: Order, stop: i64) {
        let book = order.place.book;
        self.rest(order, At::Stop(stop));
        let last = self.books[&book].last;
        self.trigger(book, last);
    }

    /// An order is no more: its id is used up, its list hears of it.
    fn ended(&mut self, order: &Order) {
        let key = (order.place.participant, order.client);
        self.ids.insert(key, None);
        let Some(id) = order.list else { return };
        self.touch(Some(id));
        if let Some(list) = self.lists.get_mut(&id)
            && list.entry == Some(order.number)
        {
            list.entry = None;
            list.filled = order.total - order.leaves;
        } else if let Some(list) = self.lists.get_mut(&id) {
            list.gone.push(order.clone());
        }
    }

    fn stop_of(&self, p: &Place, book: &Book) -> Result<Option<i64>, &'static str> {
        let in_range = |stop: i64| stop >= book.min_price && stop <= book.max_price;
        match p.kind {
            Kind::Limit | Kind::Market | Kind::Pegged => Ok(None),
            Kind::TrailingStop if p.stop == 0 => {
                let last = book.last.ok_or("no_reference_price")?;
                let stop = match p.side {
                    Side::Buy => last + p.offset,
                    Side::Sell => last - p.offset,
                };
                if in_range(stop) {
                    Ok(Some(stop))
                } else {
                    Err("outside_price_band")
                }
            }
            _ if !in_range(p.stop) => Err("outside_price_band"),
            _ if !book.is_tick(p.stop) => Err("price_not_on_tick"),
            _ => Ok(Some(p.stop)),
        }
    }

    /// The cheapest lots of a book, those of the same group left out where they will not trade.
    fn cost_of(&self, book: u32, lots: u64, participant: u32, mode: SelfTrade) -> i128 {
        let mut missing = lots;
        let mut cost = 0;
        for number in self.queue(book, Side::Sell) {
            let order = self.order(number);
            if mode != SelfTrade::Allow && self.is_same(order.place.participant, participant) {
                continue;
            }
            let take = missing.min(order.leaves);
            missing -= take;
            cost += self.books[&book].notional(order.price, take);
        }
        cost
    }

    /// Whether a trade there is a reason for an auction instead: too far from the reference, or
    /// from the last price before the order.
    fn is_too_far(book: &Book, price: i64) -> bool {
        let beyond = |from: Option<i64>, by: i64| {
            by != 0 && from.is_some_and(|from| (price - from).abs() > by)
        };
        beyond(book.reference, book.static_band)
            || beyond(book.last.or(book.reference), book.dynamic_band)
    }

    /// Tries it on a copy: whether at least that many lots trade at once.
    fn would_fill(&self, order: &Order, least: u64) -> bool {
        let mut copy = Exchange {
            books: self.books.clone(),
            owned: self.owned.clone(),
            house: 0,
            positions: self.positions.clone(),
            cycle_trades: self.cycle_trades.clone(),
            joined: self.joined.clone(),
            groups: self.groups.clone(),
            blocked: self.blocked.clone(),
            orders: self.orders.clone(),
            ids: self.ids.clone(),
            lists: self.lists.clone(),
            touched: Vec::new(),
            seen: Vec::new(),
            ..*self
        };
        let mut incoming = order.clone();
        incoming.leaves = least;
        incoming.total = least;
        let (traded, _) = copy.matches(&mut incoming);
        traded == least
    }

    /// Trades what it can, then rests or ends.
    fn run(&mut self, mut order: Order) {
        let book = order.place.book;
        let before = order.leaves;
        let (_, outcome) = self.matches(&mut order);
        if outcome == End::Band {
            self.enter_phase(book, Phase::VolatilityAuction);
        }
        let rests = matches!(order.place.kind, Kind::Limit | Kind::StopLimit)
            && !matches!(order.place.tif, Tif::Ioc | Tif::Fok);
        let (number, leaves) = (order.number, order.leaves);
        if leaves != before {
            self.touch(order.list);
        }
        if rests && leaves > 0 && matches!(outcome, End::Open | End::Band) {
            self.rest(order, At::Book);
        } else {
            if leaves > 0 {
                let side = order.place.side;
                let other = if side == Side::Buy {
                    Side::Sell
                } else {
                    Side::Buy
                };
                let beyond = order.place.protection != 0 && self.best(book, other).is_some();
                let reason = match outcome {
                    End::SelfTrade => "self_trade",
                    End::Band => "band",
                    End::Open if beyond => "band",
                    End::Open => "ioc",
                };
                self.say(format!("order_cancelled {number} {leaves} {reason}"));
            }
            self.ended(&order);
        }
    }

    /// Puts an order behind all others where it goes; what it need not show, it does not.
    fn rest(&mut self, mut order: Order, at: At) {
        order.arrived = self.tick_clock();
        order.at = at;
        order.shown = match order.place.display {
            0 => order.leaves,
            display if at == At::Book => display.min(order.leaves),
            _ => order.leaves,
        };
        self.orders.push(order);
    }

    /// Lots traded, why it ended.
    fn matches(&mut self, order: &mut Order) -> (u64, End) {
        let (book, side) = (order.place.book, order.place.side);
        let other = if side == Side::Buy {
            Side::Sell
        } else {
            Side::Buy
        };
        let before = self.books[&book].clone();
        let mut prices = Vec::new();
        let mut traded = 0;
        let end = loop {
            if order.leaves == 0 {
                break End::Open;
            }
            let Some(&best) = self.queue(book, other).first() else {
                break End::Open;
            };
            let maker = self.order(best).clone();
            let reaches = |limit: i64| match side {
                Side::Buy => maker.price <= limit,
                Side::Sell => maker.price >= limit,
            };
            if !reaches(order.limit) {
                break End::Open;
            }
            let mode = order.place.self_trade;
            let lots = order.leaves.min(maker.shown);
            if mode != SelfTrade::Allow
                && self.is_same(maker.place.participant, order.place.participant)
            {
                match mode {
                    SelfTrade::CancelIncoming => break End::SelfTrade,
                    SelfTrade::CancelResting | SelfTrade::CancelBoth => {
                        self.cancel(best, "self_trade");
                        if mode == SelfTrade::CancelBoth {
                            break End::SelfTrade;
                        }
                    }
                    SelfTrade::Decrement => {
                        order.leaves -= lots;
                        order.total -= lots;
                        self.order_mut(best).total -= lots;
                        self.say(format!("order_cancelled {best} {lots} self_trade"));
                        self.say(format!(
                            "order_cancelled {} {lots} self_trade",
                            order.number
                        ));
                        self.take_shown(best, lots);
                        if order.leaves == 0 {
                            break End::SelfTrade;
                        }
                    }
                    SelfTrade::Allow => unreachable!(),
                }
                continue;
            }
            if Self::is_too_far(&before, maker.price) {
                break End::Band;
            }
            order.leaves -= lots;
            traded += lots;
            prices.push(maker.price);
            let (maker_percent, taker_percent) = {
                let book = &self.books[&book];
                (book.maker_percent, book.taker_percent)
            };
            let who = (maker.place.participant, order.place.participant);
            let fees = self.pay(
                book,
                side,
                who,
                maker.price,
                lots,
                (maker_percent, taker_percent),
            );
            self.say(format!(
                "trade {} {lots} {best} {} {} {}",
                maker.price, order.number, fees.0, fees.1
            ));
            self.take_shown(best, lots);
        };
        if let (Some(&first), Some(&last)) = (prices.first(), prices.last()) {
            self.traded(book, &[first, last]);
        }
        (traded, end)
    }

    /// Takes lots from what an order shows; it shows more, behind the others, or is done.
    fn take_shown(&mut self, number: u64, lots: u64) {
        let arrived = self.tick_clock();
        let order = self.order_mut(number);
        order.shown -= lots;
        order.leaves -= lots;
        let list = order.list;
        self.touch(list);
        let order = self.order_mut(number);
        if order.leaves == 0 {
            let order = self.orders.remove(self.index(number));
            self.ended(&order);
        } else if order.shown == 0 {
            order.shown = order.leaves.min(order.place.display);
            order.arrived = arrived;
        }
    }

    /// Moves cash, shares and fees. Returns what maker and taker paid in fees.
    fn pay(
        &mut self,
        book: u32,
        taker_side: Side,
        (maker, taker): (u32, u32),
        price: i64,
        lots: u64,
        (maker_percent, taker_percent): (i128, i128),
    ) -> (i128, i128) {
        let at = book;
        let book = &self.books[&book];
        let notional = book.notional(price, lots);
        let shares = i128::from(lots) * book.lot_size;
        let charge = |percent: i128| notional * percent.max(0) / 100;
        let rebate = |percent: i128| notional * (-percent).max(0) / 100;
        let maker_fee = charge(maker_percent) - rebate(maker_percent).min(charge(taker_percent));
        let taker_fee = charge(taker_percent) - rebate(taker_percent).min(charge(maker_percent));
        let (buyer, seller) = match taker_side {
            Side::Buy => (taker, maker),
            Side::Sell => (maker, taker),
        };
        if book.settles != Settles::AtOnce {
            let book = at;
            *self.cycle_trades.entry(book).or_default() += 1;
            let (buyer_fee, seller_fee) = match taker_side {
                Side::Buy => (taker_fee, maker_fee),
                Side::Sell => (maker_fee, taker_fee),
            };
            let position = self.positions.entry((book, buyer)).or_default();
            position.shares_in += shares;
            position.cash_out += notional;
            position.buy_fees += buyer_fee.max(0);
            position.other_fees += buyer_fee.min(0);
            let position = self.positions.entry((book, seller)).or_default();
            position.shares_out += shares;
            position.cash_in += notional;
            position.other_fees += seller_fee;
            return (maker_fee, taker_fee);
        }
        let mut add = |who: u32, cash: i128, shares: i128| {
            let owned = self.owned.get_mut(&who).unwrap();
            owned.0 += cash;
            owned.1 += shares;
        };
        add(buyer, -notional, shares);
        add(seller, notional, -shares);
        add(maker, -maker_fee, 0);
        add(taker, -taker_fee, 0);
        self.house += maker_fee + taker_fee;
        (maker_fee, taker_fee)
    }

    /// Something traded: the market's price moves, trailing stops follow it, stops wake.
    fn traded(&mut self, book: u32, prices: &[i64]) {
        for &price in prices {
            self.books.get_mut(&book).unwrap().last = Some(price);
            let mut trailing: Vec<u64> = self
                .orders
                .iter()
                .filter(|o| o.place.book == book && o.place.kind == Kind::TrailingStop)
                .filter(|o| matches!(o.at, At::Stop(_)) && o.entered != 0)
                .map(|o| o.number)
                .collect();
            trailing.sort_unstable();
            for number in trailing {
                let arrived = self.tick_clock();
                let order = self.order_mut(number);
                let At::Stop(stop) = order.at else { continue };
                let moved = match order.place.side {
                    Side::Buy => stop.min(price + order.place.offset),
                    Side::Sell => stop.max(price - order.place.offset),
                };
                if moved != stop {
                    order.at = At::Stop(moved);
                    order.arrived = arrived;
                }
            }
            self.trigger(book, Some(price));
        }
    }

    /// Marks the stops that a price reaches, nearest first. They are woken in the order marked.
    fn trigger(&mut self, book: u32, price: Option<i64>) {
        if let Some(price) = price {
            self.reach(book, Trigger::Last, price);
        }
    }

    /// Marks the stops that wait for a best price that is there; whether there are any.
    fn reach_quotes(&mut self, book: u32) -> bool {
        if self.books[&book].phase != Phase::Continuous || !self.day_open {
            return false;
        }
        for (trigger, side) in [(Trigger::Bid, Side::Buy), (Trigger::Ask, Side::Sell)] {
            if let Some(price) = self.leads(book, side) {
                self.reach(book, trigger, price);
            }
        }
        self.orders.iter().any(|o| o.entered == 0)
    }

    fn reach(&mut self, book: u32, trigger: Trigger, price: i64) {
        if self.books[&book].is_call {
            return;
        }
        let mut reached: Vec<(i64, u8, u64, usize)> = Vec::new();
        for (at, order) in self.orders.iter().enumerate() {
            let At::Stop(stop) = order.at else { continue };
            if order.place.book != book || order.entered == 0 || order.place.trigger != trigger {
                continue;
            }
            match order.place.side {
                Side::Buy if price >= stop => reached.push((stop, 0, order.arrived, at)),
                Side::Sell if price <= stop => reached.push((-stop, 1, order.arrived, at)),
                _ => {}
            }
        }
        reached.sort_by_key(|(stop, side, arrived, _)| (*side, *stop, *arrived));
        for (.., at) in reached {
            // Entered at 0: about to wake. `arrived` says when its turn is.
            let turn = self.tick_clock();
            self.orders[at].entered = 0;
            self.orders[at].arrived = turn;
        }
    }

    /// Wakes what was reached, then moves pegged orders or says what an auction would do.
    fn settle(&mut self, book: u32) {
        loop {
            if !self.touched.is_empty() {
                let id = self.touched.remove(0);
                self.settle_list(id);
                continue;
            }
            let next = self
                .orders
                .iter()
                .filter(|o| o.entered == 0)
                .min_by_key(|o| o.arrived)
                .map(|o| o.number);
            match next {
                Some(number) => self.wake(number),
                None if self.reach_quotes(book) => {}
                None => break,
            }
        }
        let row = &self.books[&book];
        if row.is_call && is_call(row.phase) {
            let now = self.equilibrium(book).unwrap_or((0, 0));
            if now != self.books[&book].indicated {
                self.books.get_mut(&book).unwrap().indicated = now;
                self.say(format!("indicative {} {}", now.0, now.1));
            }
        } else if !row.is_call {
            self.move_pegged(book);
        }
    }

    fn wake(&mut self, number: u64) {
        let (limit, leaves) = (self.order(number).limit, self.order(number).leaves);
        self.say(format!("order_triggered {number} {limit} {leaves}"));
        self.take_over(number);
        let at = self.index(number);
        let order = self.orders[at].clone();
        let (p, book) = (order.place, self.books[&order.place.book].clone());
        let was = self.hold(&order);
        let unprotected = order.limit != order.cover_price;
        // What was not known before.
        let costs = (p.side == Side::Buy && unprotected)
            .then(|| self.cost_of(p.book, order.leaves, p.participant, p.self_trade));
        if costs.is_some_and(|costs| book.max_notional != 0 && costs > book.max_notional) {
            return self.cancel(number, "exceeds_max_notional");
        }
        let needs = costs.map_or(was, |costs| book.with_fee(costs));
        let covered = needs <= was || needs - was <= self.free(p.participant, p.side);
        if !covered {
            return self.cancel(number, "uncovered");
        }
        let mut order = self.orders.remove(at);
        order.entered = self.tick_clock();
        if p.tif == Tif::Fok && !self.would_fill(&order, order.leaves) {
            self.orders.push(order);
            return self.cancel(number, "fok");
        }
        self.run(order);
    }

    /// The best price of those that follow nothing.
    fn leads(&self, book: u32, side: Side) -> Option<i64> {
        let queue = self.queue(book, side);
        let mut orders = queue.iter().map(|number| self.order(*number));
        let leading = orders.find(|o| o.place.kind != Kind::Pegged);
        leading.map(|o| o.price)
    }

    /// Where a pegged order stands.
    fn peg_price(&self, book: u32, side: Side, peg: Peg, offset: i64, limit: i64) -> Option<i64> {
        let (bid, ask) = (self.leads(book, Side::Buy), self.leads(book, Side::Sell));
        let follows = match peg {
            Peg::Bid => bid?,
            Peg::Ask => ask?,
            Peg::Mid => {
                let sum = bid? + ask?;
                match side {
                    Side::Buy => sum.div_euclid(2),
                    Side::Sell => (sum + 1).div_euclid(2),
                }
            }
        };
        let row = &self.books[&book];
        let mut price = follows + offset;
        if let Some(reference) = row.reference.filter(|_| row.static_band != 0) {
            // The outermost prices that a limit may have.
            let lowest = row.on_tick(Side::Sell, reference - row.static_band);
            let highest = row.on_tick(Side::Buy, reference + row.static_band);
            price = price.max(lowest).min(highest);
        }
        price = match side {
            Side::Buy => {
                let ask = self.best(book, Side::Sell);
                let short = ask.map(|ask| row.short_of(side, ask));
                row.on_tick(side, price.min(short.unwrap_or(price)).min(limit))
            }
            Side::Sell => {
                let bid = self.best(book, Side::Buy);
                let short = bid.map(|bid| row.short_of(side, bid));
                row.on_tick(side, price.max(short.unwrap_or(price)).max(limit))
            }
        };
        self.check_limit(book, price).ok().map(|()| price)
    }

    fn move_pegged(&mut self, book: u32) {
        let mut pegged: Vec<u64> = self
            .orders
            .iter()
            .filter(|o| o.place.book == book && o.place.kind == Kind::Pegged)
            .map(|o| o.number)
            .collect();
        pegged.sort_unstable();
        for number in pegged {
            let order = self.order(number).clone();
            let (p, limit) = (order.place, order.limit);
            let price = self.peg_price(book, p.side, p.peg.unwrap(), p.offset, limit);
            if let Some(price) = price.filter(|price| *price != order.price) {
                let arrived = self.tick_clock();
                let order = self.order_mut(number);
                order.price = price;
                order.arrived = arrived;
                let leaves = order.leaves;
                self.say(format!("order_replaced {number} {price} {leaves}"));
            }
        }
    }

    fn cancel(&mut self, number: u64, reason: &str) {
        let order = self.orders.remove(self.index(number));
        self.say(format!(
            "order_cancelled {number} {} {reason}",
            order.leaves
        ));
        self.ended(&order);
    }

    /// Linked orders: all, or none; the error says which would not do.
    fn place_list(
        &mut self,
        orders: &[Place],
        is_bracket: bool,
    ) -> Result<(), (usize, &'static str)> {
        let mut checked = Vec::new();
        for (at, p) in orders.iter().enumerate() {
            let turns = is_bracket && at > 0;
            if p.quantity != orders[0].quantity || turns && p.side == orders[0].side {
                return Err((at, "order_fields_contradict"));
            }
            if orders[..at].iter().any(|other| other.client == p.client) {
                return Err((at, "duplicate_client_order_id"));
            }
            let role = match (is_bracket, at) {
                (true, 0) if p.kind == Kind::Pegged => {
                    return Err((at, "order_fields_contradict"));
                }
                (true, 0) => Role::Alone,
                (true, _) => Role::BroughtLeg,
                (false, _) => Role::Leg,
            };
            checked.push(self.check(p, role).map_err(|why| (at, why))?);
        }
        // Those that come to stand in the book: one a side, and apart.
        let mut in_book: Vec<(Side, i64)> = Vec::new();
        for (at, (p, checked)) in orders.iter().zip(&checked).enumerate() {
            if p.kind != Kind::Limit && !(is_bracket && at == 0 && p.kind == Kind::StopLimit) {
                continue;
            }
            let meets = |(side, price): &(Side, i64)| {
                *side == p.side || !apart((*side, *price), (p.side, checked.limit))
            };
            if in_book.iter().any(meets) {
                return Err((at, "order_fields_contradict"));
            }
            in_book.push((p.side, checked.limit));
        }
        for side in [Side::Buy, Side::Sell] {
            let of_side = |at: &usize| !is_bracket && orders[*at].side == side;
            let legs = (0..orders.len()).filter(of_side);
            let most = legs.min_by_key(|at| -checked[*at].needs);
            if let Some(at) = most
                && checked[at].needs > self.free(orders[0].participant, side)
            {
                return Err((at, "exceeds_credits"));
            }
        }
        // Accepted.
        let mut accepted: Vec<Order> = Vec::new();
        for (p, checked) in orders.iter().zip(&checked) {
            let order = self.accept(*p, checked);
            accepted.push(order);
        }
        let id = accepted[0].number;
        for order in &mut accepted {
            order.list = Some(id);
        }
        let skip = usize::from(is_bracket);
        self.lists.insert(
            id,
            List {
                entry: is_bracket.then_some(id),
                filled: 0,
                legs: accepted
                    .iter()
                    .zip(&checked)
                    .skip(skip)
                    .map(|(order, checked)| (order.number, checked.stop))
                    .collect(),
                lots: if is_bracket { 0 } else { orders[0].quantity },
                brought: 0,
                gone: Vec::new(),
            },
        );
        if is_bracket {
            for leg in &accepted[1..] {
                self.rest(leg.clone(), At::Entry);
            }
            self.start(accepted[0].clone(), &checked[0]);
        } else {
            let mut taking = Vec::new();
            for (order, checked) in accepted.into_iter().zip(&checked) {
                match checked.stop {
                    Some(stop) => self.wait(order, stop),
                    None if checked.stage == Stage::Trades => taking.push(order),
                    None => self.rest(order, At::Book),
                }
            }
            let mut first: Option<u64> = None;
            for order in taking {
                let all = orders[0].quantity;
                let before = first.map(|number| self.alive(number).map(|o| o.leaves));
                first = Some(order.number);
                let trades = self.books[&order.place.book].phase == Phase::Continuous;
                if trades && before.is_none_or(|leaves| leaves == Some(all)) {
                    self.run(order);
                } else {
                    self.rest(order, At::Book);
                }
            }
        }
        self.settle(orders[0].book);
        Ok(())
    }

    /// Brings the orders of a list in line with what happened to one of them.
    fn settle_list(&mut self, id: u64) {
        let Some(list) = self.lists.get(&id).cloned() else {
            return;
        };
        let is_alone = list.entry.is_none() && list.filled == 0 && list.lots == 0;
        if is_alone || list.legs.iter().any(|(leg, _)| self.alive(*leg).is_none()) {
            return self.end_list(id, "linked");
        }
        let mut lots = list.lots;
        if lots > 0 {
            let lost = list
                .legs
                .iter()
                .map(|(leg, _)| lots - self.order(*leg).leaves);
            lots -= lost.sum::<u64>();
            if lots == 0 {
                return self.end_list(id, "linked");
            }
            for (leg, _) in &list.legs {
                let order = self.order_mut(*leg);
                if order.leaves > lots {
                    order.total -= order.leaves - lots;
                    order.leaves = lots;
                    order.shown = order.shown.min(lots);
                    let limit = order.limit;
                    self.say(format!("order_replaced {leg} {limit} {lots}"));
                }
            }
            self.lists.get_mut(&id).unwrap().lots = lots;
        }
        let filled = match list.entry {
            Some(entry) => self.order(entry).total - self.order(entry).leaves,
            None => list.filled,
        };
        if filled > list.brought {
            self.bring(id, lots + filled - list.brought, filled);
        } else if let Some(entry) = list.entry
            && lots == 0
        {
            let open = self.order(entry).leaves;
            for (leg, _) in &list.legs {
                let order = self.order_mut(*leg);
                if order.leaves != open {
                    (order.total, order.leaves, order.shown) = (open, open, open);
                    let limit = order.limit;
                    self.say(format!("order_replaced {leg} {limit} {open}"));
                }
            }
        }
    }

    /// The entry filled more: its legs are to have that many lots.
    fn bring(&mut self, id: u64, lots: u64, filled: u64) {
        let list = self.lists[&id].clone();
        let is_first = list.lots == 0;
        let needs = |lots: u64| {
            let legs = list.legs.iter().map(|(leg, _)| {
                let mut order = self.order(*leg).clone();
                order.leaves = lots;
                self.hold(&order)
            });
            legs.max().unwrap()
        };
        let p = self.order(list.legs[0].0).place;
        if needs(lots) - needs(list.lots) > self.free(p.participant, p.side) {
            return self.end_list(id, "uncovered");
        }
        {
            let list = self.lists.get_mut(&id).unwrap();
            (list.lots, list.brought) = (lots, filled);
        }
        let mut for_book = None;
        for (leg, stop) in &list.legs {
            let limit = self.order(*leg).limit;
            let resize = |order: &mut Order| {
                order.total += lots - order.leaves.min(lots);
                order.total -= order.leaves.saturating_sub(lots);
                (order.leaves, order.shown) = (lots, lots);
            };
            if self.order(*leg).place.kind == Kind::Limit {
                let mut order = self.orders.remove(self.index(*leg));
                resize(&mut order);
                for_book = Some(order);
            } else if is_first {
                let mut order = self.orders.remove(self.index(*leg));
                resize(&mut order);
                self.wait(order, stop.unwrap());
            } else {
                resize(self.order_mut(*leg));
            }
            self.say(format!("order_replaced {leg} {limit} {lots}"));
        }
        if let Some(mut order) = for_book {
            order.price = order.limit;
            if self.books[&order.place.book].phase == Phase::Continuous {
                self.run(order);
            } else {
                self.rest(order, At::Book);
            }
        }
    }

    /// Ends what is left of a list.
    fn end_list(&mut self, id: u64, reason: &str) {
        let list = self.lists[&id].clone();
        if let Some(entry) = list.entry {
            self.cancel(entry, "linked");
        }
        for (leg, _) in &list.legs {
            if self.alive(*leg).is_some() {
                self.cancel(*leg, reason);
            }
        }
        self.forget_list(id);
    }

    fn forget_list(&mut self, id: u64) {
        self.lists.remove(&id);
        self.touched.retain(|touched| *touched != id);
        for order in &mut self.orders {
            if order.list == Some(id) {
                order.list = None;
            }
        }
    }

    /// A leg wakes: it is alone from now on.
    fn take_over(&mut self, number: u64) {
        let order = self.order(number).clone();
        if !self.is_leg(&order) {
            return;
        }
        let id = order.list.unwrap();
        let list = self.lists[&id].clone();
        let legs = list.legs.iter().map(|(leg, _)| *leg);
        for other in list.entry.into_iter().chain(legs) {
            if other != number && self.alive(other).is_some() {
                self.cancel(other, "linked");
            }
        }
        self.forget_list(id);
    }

    /// What a leg with another limit or other lots costs its list; whether that goes.
    fn check_leg(&self, old: &Order, new: &Order) -> Result<(), &'static str> {
        let list = &self.lists[&old.list.unwrap()];
        let book = &self.books[&old.place.book];
        let notional = book.notional(new.cover_price, new.leaves);
        if self.hold(new) > self.hold(old) && book.max_notional != 0 && notional > book.max_notional
        {
            return Err("exceeds_max_notional");
        }
        let legs = || list.legs.iter().map(|(leg, _)| self.order(*leg));
        if new.leaves != old.leaves {
            if list.entry.is_some() || legs().any(|o| o.place.side != old.place.side) {
                return Err("order_fields_contradict");
            }
            if legs().any(|o| o.total - o.leaves + new.leaves > book.max_quantity) {
                return Err("quantity_out_of_range");
            }
        }
        if list.lots == 0 {
            return Ok(());
        }
        let own_side = || legs().filter(|o| o.place.side == old.place.side);
        let was = own_side().map(|o| self.hold(o)).max().unwrap();
        let needs = own_side().map(|o| {
            let mut o = if o.number == old.number {
                new.clone()
            } else {
                o.clone()
            };
            o.leaves = new.leaves;
            self.hold(&o)
        });
        if needs.max().unwrap() - was > self.free(old.place.participant, old.place.side) {
            return Err("exceeds_credits");
        }
        Ok(())
    }

    /// Whether an order of a list may have that limit.
    fn check_apart(&self, order: &Order, limit: i64) -> Result<(), &'static str> {
        let Some(list) = order.list.and_then(|id| self.lists.get(&id)) else {
            return Ok(());
        };
        let comes = |o: &Order| match o.place.kind {
            Kind::Limit => true,
            Kind::StopLimit => list.entry == Some(o.number),
            _ => false,
        };
        let legs = list.legs.iter().map(|(leg, _)| *leg);
        for number in list.entry.into_iter().chain(legs) {
            let other = self.order(number);
            if comes(other)
                && comes(order)
                && other.place.side != order.place.side
                && !apart((other.place.side, other.limit), (order.place.side, limit))
            {
                return Err("order_fields_contradict");
            }
        }
        Ok(())
    }

    /// Gives the other legs of a list the lots of one that is replaced.
    fn spread_lots(&mut self, old: &Order, leaves: u64) {
        let id = old.list.unwrap();
        self.touch(Some(id));
        let list = self.lists[&id].clone();
        if list.lots == 0 {
            return;
        }
        for (leg, _) in &list.legs {
            let other = self.order(*leg).clone();
            if *leg == old.number || other.leaves == leaves || other.place.side != old.place.side {
                continue;
            }
            let mut new = other.clone();
            new.total = other.total - other.leaves + leaves;
            new.leaves = leaves;
            new.shown = if other.at == At::Book {
                other.shown.min(leaves)
            } else {
                leaves
            };
            let limit = new.limit;
            self.orders.remove(self.index(*leg));
            if other.at == At::Book && leaves > other.leaves {
                self.rest(new, At::Book);
            } else {
                self.orders.push(new);
            }
            self.say(format!("order_replaced {leg} {limit} {leaves}"));
        }
        self.lists.get_mut(&id).unwrap().lots = leaves;
    }

    /// Cancels what is condemned: book by book; bids, asks, buy stops, sell stops, what waits for
    /// an auction; in the order in which they would trade or wake.
    fn cancel_all(&mut self, reason: &str, condemned: impl Fn(&Order) -> bool) {
        let mut gone: Vec<&Order> = self.orders.iter().filter(|o| condemned(o)).collect();
        gone.sort_by_key(|o| {
            let (shelf, rank) = match (o.at, o.place.side) {
                (At::Book, Side::Buy) => (0, -o.price),
                (At::Book, Side::Sell) => (1, o.price),
                (At::Stop(stop), side) => {
                    let shelf = match o.place.trigger {
                        Trigger::Last => 2,
                        Trigger::Bid => 5,
                        Trigger::Ask => 7,
                    };
                    match side {
                        Side::Buy => (shelf, stop),
                        Side::Sell => (shelf + 1, -stop),
                    }
                }
                (At::Aside { close }, _) => (4, i64::from(close)),
                (At::Entry, _) => (4, 2),
            };
            (o.place.book, shelf, rank, o.arrived)
        });
        let gone: Vec<(u64, u32)> = gone.iter().map(|o| (o.number, o.place.book)).collect();
        for (number, _) in &gone {
            self.cancel(*number, reason);
        }
        let mut books: Vec<u32> = gone.iter().map(|(_, book)| *book).collect();
        books.dedup();
        for book in books {
            self.settle(book);
        }
    }

    /// Ends what has lapsed, the earliest first, then in order of entry.
    fn lapse(&mut self) {
        loop {
            let next = self
                .orders
                .iter()
                .filter(|o| o.place.expires_at != 0 && o.place.expires_at <= self.now)
                .min_by_key(|o| (o.place.expires_at, o.number))
                .map(|o| o.number);
            let Some(number) = next else { return };
            self.cancel_all("expired", |o| o.number == number);
        }
    }

    fn replace(
        &mut self,
        participant: u32,
        client: u64,
        price: Option<i64>,
        quantity: Option<u64>,
        rename: Option<u64>,
    ) -> Result<(), &'static str> {
        let number = self.find(participant, client)?;
        let old = self.order(number).clone();
        let p = old.place;
        let rename = rename.filter(|new| *new != 0 && *new != client);
        if rename.is_some_and(|new| self.ids.contains_key(&(participant, new))) {
            return Err("duplicate_client_order_id");
        }
        let stage = self.stage(p.book, p.tif)?;
        if price.is_some() && matches!(p.kind, Kind::Stop | Kind::TrailingStop | Kind::Market) {
            return Err("order_fields_contradict");
        }
        if let Some(price) = price {
            self.check_limit(p.book, price)?;
        }
        let book = self.books[&p.book].clone();
        let limit = price.unwrap_or(old.limit);
        let total = quantity.unwrap_or(old.total);
        let filled = old.total - old.leaves;
        let is_new = total != old.total;
        if total <= filled || total > book.max_quantity || is_new && total < book.min_quantity {
            return Err("quantity_out_of_range");
        }
        let leaves = total - filled;
        let stays = limit == old.limit && leaves <= old.leaves;
        let moves = old.at == At::Book && !stays;
        let takes = moves && stage == Stage::Trades && p.kind != Kind::Pegged;
        if p.post_only && moves && self.would_cross(p.book, p.side, limit) {
            return Err("post_only_would_cross");
        }
        let cover_price = match p.kind {
            Kind::Stop | Kind::TrailingStop => old.cover_price,
            _ => limit,
        };
        let mut new = old.clone();
        (new.limit, new.cover_price) = (limit, cover_price);
        (new.total, new.leaves) = (total, leaves);
        let (was, needs) = (self.hold(&old), self.hold(&new));
        if self.is_leg(&old) {
            self.check_leg(&old, &new)?;
        } else if needs > was {
            let notional = book.notional(cover_price, leaves);
            if book.max_notional != 0 && notional > book.max_notional {
                return Err("exceeds_max_notional");
            }
            if needs - was > self.free(participant, p.side) {
                return Err("exceeds_credits");
            }
        }
        self.check_apart(&old, limit)?;
        if let Some(rename) = rename {
            self.ids.insert((participant, client), None);
            self.ids.insert((participant, rename), Some(number));
            new.client = rename;
        }
        let stands = match (p.kind, p.side) {
            // Where it stands, but never beyond its own price.
            (Kind::Pegged, Side::Buy) => old.price.min(limit),
            (Kind::Pegged, Side::Sell) => old.price.max(limit),
            _ => limit,
        };
        self.say(format!("order_replaced {number} {stands} {leaves}"));
        if self.is_leg(&old) {
            self.spread_lots(&old, leaves);
        }
        self.touch(old.list);
        self.orders.remove(self.index(number));
        if old.at != At::Book {
            new.price = limit;
            new.shown = leaves;
            self.orders.push(new);
        } else if stays {
            new.shown = old.shown.min(leaves);
            self.orders.push(new);
        } else {
            new.price = stands;
            if takes {
                self.run(new);
            } else {
                self.rest(new, At::Book);
            }
        }
        self.settle(p.book);
        Ok(())
    }

    fn set_phase(&mut self, book: u32, phase: Phase) {
        let old = self.books[&book].phase;
        let opens = phase == Phase::Continuous;
        if opens && self.books[&book].is_call && !self.day_open {
            return self.say("rejected phase_forbids".into());
        }
        self.say("ok".into());
        if is_call(old) && opens {
            self.uncross(book);
        }
        if is_call(old) && !is_call(phase) {
            self.expire_after(book, old);
            if self.books[&book].indicated != (0, 0) {
                self.books.get_mut(&book).unwrap().indicated = (0, 0);
                self.say("indicative 0 0".into());
            }
        }
        self.enter_phase(book, phase);
        if opens {
            self.uncross(book);
            let row = self.books.get_mut(&book).unwrap();
            row.is_call = false;
            let last = row.last;
            self.trigger(book, last);
        }
        self.settle(book);
        if phase == Phase::Closed {
            self.settle_if_traded(book);
        }
    }

    fn enter_phase(&mut self, book: u32, phase: Phase) {
        self.say(format!("instrument_phase {book} {}", word(&phase)));
        self.books.get_mut(&book).unwrap().phase = phase;
        if !is_call(phase) {
            return;
        }
        self.books.get_mut(&book).unwrap().is_call = true;
        // What was about to wake waits on, in the order in which it would have.
        let clock = self.tick_clock();
        for order in &mut self.orders {
            if order.entered == 0 {
                order.entered = clock;
            }
        }
        let close = matches!(phase, Phase::ClosingAuction | Phase::Auction);
        let mut called: Vec<(bool, u64, u64)> = self
            .orders
            .iter()
            .filter(|o| o.place.book == book)
            .filter_map(|o| match o.at {
                At::Aside { close: for_close } if close || !for_close => {
                    Some((for_close, o.arrived, o.number))
                }
                _ => None,
            })
            .collect();
        called.sort_unstable();
        for (.., number) in called {
            let order = self.orders.remove(self.index(number));
            self.rest(order, At::Book);
        }
    }

    fn expire_after(&mut self, book: u32, phase: Phase) {
        self.cancel_all("expired", |o| {
            o.place.book == book
                && match o.place.tif {
                    Tif::GoodForAuction => true,
                    Tif::AtTheOpen => matches!(
                        phase,
                        Phase::PreOpen | Phase::OpeningAuction | Phase::Auction
                    ),
                    Tif::AtTheClose => matches!(phase, Phase::ClosingAuction | Phase::Auction),
                    _ => false,
                }
        });
    }

    /// Tries every limit there is, by the rules in their order.
    fn equilibrium(&self, book: u32) -> Option<(i64, u64)> {
        let open = |side: Side, reaches: &dyn Fn(i64) -> bool| -> u64 {
            let all = self.queue(book, side);
            let orders = all.iter().map(|number| self.order(*number));
            orders.filter(|o| reaches(o.price)).map(|o| o.leaves).sum()
        };
        let mut limits: Vec<i64> = Vec::new();
        for side in [Side::Buy, Side::Sell] {
            limits.extend(self.queue(book, side).iter().map(|n| self.order(*n).price));
        }
        limits.sort_unstable();
        limits.dedup();
        let mut all: Vec<(i64, u64, i64)> = limits
            .iter()
            .map(|&at| {
                let demand = open(Side::Buy, &|price| price >= at);
                let supply = open(Side::Sell, &|price| price <= at);
                (at, demand.min(supply), demand as i64 - supply as i64)
            })
            .collect();
        let most = all.iter().map(|c| c.1).max().filter(|volume| *volume > 0)?;
        all.retain(|c| c.1 == most);
        let least = all.iter().map(|c| c.2.abs()).min()?;
        all.retain(|c| c.2.abs() == least);
        if all.iter().all(|c| c.2 > 0) {
            all.reverse();
            all.truncate(1);
        } else if all.iter().all(|c| c.2 < 0) {
            all.truncate(1);
        }
        let row = &self.books[&book];
        let near = row.last.or(row.reference);
        let found = all
            .iter()
            .min_by_key(|c| (near.map_or(0, |near| (c.0 - near).abs()), c.0))?;
        Some((found.0, found.1))
    }

    fn uncross(&mut self, book: u32) {
        let Some((price, volume)) = self.equilibrium(book) else {
            return;
        };
        let mut left = volume;
        while left > 0 {
            let buy = self.queue(book, Side::Buy)[0];
            let sell = self.queue(book, Side::Sell)[0];
            let lots = self.order(buy).shown.min(self.order(sell).shown);
            let who = (
                self.order(buy).place.participant,
                self.order(sell).place.participant,
            );
            let percent = self.books[&book].maker_percent;
            let fees = self.pay(book, Side::Sell, who, price, lots, (percent, percent));
            self.say(format!(
                "trade {price} {lots} {buy} {sell} {} {}",
                fees.0, fees.1
            ));
            self.take_shown(buy, lots);
            self.take_shown(sell, lots);
            left -= lots;
        }
        self.books.get_mut(&book).unwrap().reference = Some(price);
        self.traded(book, &[price]);
    }

    pub(super) fn live(&self) -> usize {
        self.orders.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Trades,
    Accumulates,
    Aside(bool),
}

/// Whether a buy and a sell do not reach each other.
fn apart(one: (Side, i64), other: (Side, i64)) -> bool {
    match (one, other) {
        ((Side::Buy, bid), (Side::Sell, ask)) | ((Side::Sell, ask), (Side::Buy, bid)) => bid < ask,
        _ => true,
    }
}

/// Why an order stopped trading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Band,
    SelfTrade,
}

fn is_call(phase: Phase) -> bool {
    !matches!(phase, Phase::Closed | Phase::Continuous | Phase::Halted)
}
