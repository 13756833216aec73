//! The obvious exchange: one vector of orders, searched from end to end; what is held is summed over
//! it when asked. Written from docs/matching.md, not from the engine, and shares nothing with it.

use super::commands::{Command, Kind, Peg, Phase, Place, SelfTrade, Side, Tif, word};
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
    pub(super) max_quantity: u64,
    pub(super) max_notional: i128,
    pub(super) price_step: i64,
    pub(super) static_band: i64,
    pub(super) dynamic_band: i64,
    pub(super) reference: Option<i64>,
    pub(super) phase: Phase,
    pub(super) last: Option<i64>,
    /// Orders may cross: since the last call, nothing has traded continuously.
    pub(super) is_call: bool,
    pub(super) indicated: (i64, u64),
}

impl Book {
    fn notional(&self, price: i64, lots: u64) -> i128 {
        i128::from(price) * i128::from(lots) * self.tick_value
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
}

pub(super) struct Exchange {
    pub(super) books: BTreeMap<u32, Book>,
    /// Cash and shares of each participant, without what is held of them.
    pub(super) owned: BTreeMap<u32, (i128, i128)>,
    pub(super) house: i128,
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
            groups,
            blocked: BTreeSet::new(),
            orders: Vec::new(),
            ids: BTreeMap::new(),
            clock: 0,
            numbers: 0,
            now: 0,
            day_open: true,
            session: false,
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
                self.cancel_all("expired", |o| {
                    matches!(
                        o.place.tif,
                        Tif::Day | Tif::AtTheOpen | Tif::AtTheClose | Tif::GoodForAuction
                    )
                });
                self.day_open = false;
            }
            Command::StartOfDay => {
                self.say("ok".into());
                if !self.day_open {
                    self.ids.retain(|_, live| live.is_some());
                }
                self.day_open = true;
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
        for order in self.orders.iter().filter(own) {
            let hold = self.hold(order);
            match order.place.side {
                Side::Buy => held.0 += hold,
                Side::Sell => held.1 += hold,
            }
        }
        held
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
        if price % book.price_step != 0 {
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
        if self.blocked.contains(&p.participant) {
            return Err("participant_blocked");
        }
        if self.ids.contains_key(&(p.participant, p.client)) {
            return Err("duplicate_client_order_id");
        }
        if p.expires_at != 0 && p.expires_at <= self.now {
            return Err("time_out_of_range");
        }
        let stage = self.stage(p.book, p.tif)?;
        let book = self.books[&p.book].clone();
        if p.quantity == 0
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
        let stop = self.stop_of(&p, &book)?;
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
        if p.price != 0 || p.protection != 0 {
            self.check_limit(p.book, limit)?;
        }
        if p.post_only && self.would_cross(p.book, p.side, limit) {
            if !p.slide {
                return Err("post_only_would_cross");
            }
            limit = match p.side {
                Side::Buy => self.best(p.book, Side::Sell).unwrap() - book.price_step,
                Side::Sell => self.best(p.book, Side::Buy).unwrap() + book.price_step,
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
        if needs > self.free(p.participant, p.side) {
            return Err("exceeds_credits");
        }
        let mut price = limit;
        if p.kind == Kind::Pegged {
            price = self
                .peg_price(p.book, p.side, p.peg.unwrap(), p.offset, limit)
                .ok_or("no_reference_price")?;
        }
        // Accepted.
        self.numbers += 1;
        let number = self.numbers;
        self.say(format!(
            "order_accepted {number} {} {}",
            p.client, p.quantity
        ));
        let enough = match (p.tif, p.min_quantity) {
            (Tif::Fok, _) => Some((p.quantity, "fok")),
            (_, 0) => None,
            (_, least) => Some((least, "minimum_quantity")),
        };
        let order = Order {
            number,
            place: p,
            client: p.client,
            limit,
            price,
            cover_price,
            total: p.quantity,
            leaves: p.quantity,
            shown: p.quantity,
            at: At::Book,
            arrived: 0,
            entered: self.tick_clock(),
            in_session: self.session && !p.keep,
        };
        if let Some((least, reason)) = enough
            && stop.is_none()
            && stage == Stage::Trades
            && !self.would_fill(&order, least)
        {
            self.say(format!("order_cancelled {number} {} {reason}", p.quantity));
            self.ids.insert((p.participant, p.client), None);
            return Ok(());
        }
        if p.slide && limit != p.price {
            self.say(format!("order_replaced {number} {limit} {}", p.quantity));
        }
        self.ids.insert((p.participant, p.client), Some(number));
        match (stop, stage) {
            (Some(stop), _) => {
                self.rest(order, At::Stop(stop));
                let last = self.books[&p.book].last;
                self.trigger(p.book, last);
            }
            (None, Stage::Aside(close)) => self.rest(order, At::Aside { close }),
            (None, Stage::Trades) if p.kind != Kind::Pegged => self.run(order),
            _ => self.rest(order, At::Book),
        }
        self.settle(p.book);
        Ok(())
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
            _ if p.stop % book.price_step != 0 => Err("price_not_on_tick"),
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

    /// The worst price at which a trade is no reason for an auction.
    fn band(&self, book: u32, side: Side) -> i64 {
        let book = &self.books[&book];
        let mut bounds = Vec::new();
        if let Some(reference) = book.reference.filter(|_| book.static_band != 0) {
            bounds.push((reference, book.static_band));
        }
        if let Some(from) = book
            .last
            .or(book.reference)
            .filter(|_| book.dynamic_band != 0)
        {
            bounds.push((from, book.dynamic_band));
        }
        match side {
            Side::Buy => bounds
                .iter()
                .map(|(at, by)| at + by)
                .min()
                .unwrap_or(i64::MAX),
            Side::Sell => bounds
                .iter()
                .map(|(at, by)| at - by)
                .max()
                .unwrap_or(i64::MIN),
        }
    }

    /// Tries it on a copy: whether at least that many lots trade at once.
    fn would_fill(&self, order: &Order, least: u64) -> bool {
        let mut copy = Exchange {
            books: self.books.clone(),
            owned: self.owned.clone(),
            house: 0,
            groups: self.groups.clone(),
            blocked: self.blocked.clone(),
            orders: self.orders.clone(),
            ids: self.ids.clone(),
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
        let (_, outcome) = self.matches(&mut order);
        if outcome == End::Band {
            self.enter_phase(book, Phase::VolatilityAuction);
        }
        let rests = matches!(order.place.kind, Kind::Limit | Kind::StopLimit)
            && !matches!(order.place.tif, Tif::Ioc | Tif::Fok);
        let (number, leaves) = (order.number, order.leaves);
        let key = (order.place.participant, order.client);
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
            self.ids.insert(key, None);
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
        let band = self.band(book, side);
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
            if !reaches(band) {
                break End::Band;
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
        if order.leaves == 0 {
            let key = (order.place.participant, order.client);
            self.orders.retain(|o| o.number != number);
            self.ids.insert(key, None);
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
        let Some(price) = price.filter(|_| !self.books[&book].is_call) else {
            return;
        };
        let mut reached: Vec<(i64, u8, u64, usize)> = Vec::new();
        for (at, order) in self.orders.iter().enumerate() {
            let At::Stop(stop) = order.at else { continue };
            if order.place.book != book || order.entered == 0 {
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
            let next = self
                .orders
                .iter()
                .filter(|o| o.entered == 0)
                .min_by_key(|o| o.arrived)
                .map(|o| o.number);
            match next {
                Some(number) => self.wake(number),
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
        let at = self.index(number);
        let order = self.orders[at].clone();
        let (p, book) = (order.place, self.books[&order.place.book].clone());
        self.say(format!(
            "order_triggered {number} {} {}",
            order.limit, order.leaves
        ));
        let was = self.hold(&order);
        let unprotected = order.limit != order.cover_price;
        let needs = if p.side == Side::Buy && unprotected {
            book.with_fee(self.cost_of(p.book, order.leaves, p.participant, p.self_trade))
        } else {
            was
        };
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

    /// Where a pegged order stands.
    fn peg_price(&self, book: u32, side: Side, peg: Peg, offset: i64, limit: i64) -> Option<i64> {
        let leads = |side: Side| {
            let queue = self.queue(book, side);
            let mut orders = queue.iter().map(|number| self.order(*number));
            orders
                .find(|o| o.place.kind != Kind::Pegged)
                .map(|o| o.price)
        };
        let (bid, ask) = (leads(Side::Buy), leads(Side::Sell));
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
        price = match side {
            Side::Buy => {
                let short = self.best(book, Side::Sell).map(|ask| ask - row.price_step);
                let price = price.min(short.unwrap_or(price)).min(limit);
                price.div_euclid(row.price_step) * row.price_step
            }
            Side::Sell => {
                let short = self.best(book, Side::Buy).map(|bid| bid + row.price_step);
                let price = price.max(short.unwrap_or(price)).max(limit);
                -((-price).div_euclid(row.price_step)) * row.price_step
            }
        };
        (price >= row.min_price && price <= row.max_price).then_some(price)
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
        let key = (order.place.participant, order.client);
        self.ids.insert(key, None);
        self.say(format!(
            "order_cancelled {number} {} {reason}",
            order.leaves
        ));
    }

    /// Cancels what is condemned: book by book; bids, asks, buy stops, sell stops, what waits for
    /// an auction; in the order in which they would trade or wake.
    fn cancel_all(&mut self, reason: &str, condemned: impl Fn(&Order) -> bool) {
        let mut gone: Vec<&Order> = self.orders.iter().filter(|o| condemned(o)).collect();
        gone.sort_by_key(|o| {
            let (shelf, rank) = match (o.at, o.place.side) {
                (At::Book, Side::Buy) => (0, -o.price),
                (At::Book, Side::Sell) => (1, o.price),
                (At::Stop(stop), Side::Buy) => (2, stop),
                (At::Stop(stop), Side::Sell) => (3, -stop),
                (At::Aside { close }, _) => (4, i64::from(close)),
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
        if total <= filled || total > book.max_quantity {
            return Err("quantity_out_of_range");
        }
        let leaves = total - filled;
        let stays = limit == old.limit && leaves <= old.leaves;
        let moves = old.at == At::Book && !stays;
        let takes = moves && stage == Stage::Trades && p.kind != Kind::Pegged;
        if p.post_only && takes && self.would_cross(p.book, p.side, limit) {
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
        if needs > was {
            let notional = book.notional(cover_price, leaves);
            if book.max_notional != 0 && notional > book.max_notional {
                return Err("exceeds_max_notional");
            }
            if needs - was > self.free(participant, p.side) {
                return Err("exceeds_credits");
            }
        }
        if let Some(rename) = rename {
            self.ids.insert((participant, client), None);
            self.ids.insert((participant, rename), Some(number));
            new.client = rename;
        }
        self.say(format!("order_replaced {number} {limit} {leaves}"));
        self.orders.remove(self.index(number));
        if old.at != At::Book {
            new.price = limit;
            new.shown = leaves;
            self.orders.push(new);
        } else if stays {
            new.shown = old.shown.min(leaves);
            self.orders.push(new);
        } else {
            new.price = match (p.kind, p.side) {
                // Where it stands, but never beyond its own price.
                (Kind::Pegged, Side::Buy) => old.price.min(limit),
                (Kind::Pegged, Side::Sell) => old.price.max(limit),
                _ => limit,
            };
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
        }
        self.enter_phase(book, phase);
        if opens {
            self.uncross(book);
            let row = self.books.get_mut(&book).unwrap();
            row.is_call = false;
            row.indicated = (0, 0);
            let last = row.last;
            self.trigger(book, last);
        }
        self.settle(book);
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
