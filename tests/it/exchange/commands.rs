//! Commands of the random exchange: what they say, how a script writes them, and where they come
//! from.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

pub(super) const PARTICIPANTS: u32 = 5;
/// Prices stay around here, so that orders meet.
const MIDDLE: i64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Buy,
    Sell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Limit,
    Market,
    Stop,
    StopLimit,
    TrailingStop,
    Pegged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tif {
    Day,
    Gtc,
    Gtd,
    Ioc,
    Fok,
    AtTheOpen,
    AtTheClose,
    GoodForAuction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SelfTrade {
    CancelIncoming,
    CancelResting,
    CancelBoth,
    Decrement,
    Allow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peg {
    Bid,
    Ask,
    Mid,
}

/// What wakes a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    Last,
    Bid,
    Ask,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Closed,
    PreOpen,
    Auction,
    Continuous,
    Halted,
    OpeningAuction,
    VolatilityAuction,
    ClosingAuction,
}

/// The name of a unit variant as scripts write it.
pub(super) fn word(value: &dyn std::fmt::Debug) -> String {
    let mut out = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) participant: u32,
    pub(super) book: u32,
    pub(super) client: u64,
    pub(super) side: Side,
    pub(super) kind: Kind,
    pub(super) tif: Tif,
    pub(super) self_trade: SelfTrade,
    /// 0 where it has none, as are those below.
    pub(super) price: i64,
    pub(super) quantity: u64,
    pub(super) stop: i64,
    pub(super) protection: i64,
    pub(super) offset: i64,
    pub(super) display: u64,
    pub(super) min_quantity: u64,
    pub(super) expires_at: u64,
    pub(super) peg: Option<Peg>,
    pub(super) trigger: Trigger,
    pub(super) post_only: bool,
    pub(super) slide: bool,
    pub(super) keep: bool,
}

#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a stream has a few hundred of them"
)]
pub(super) enum Command {
    Place(Place),
    /// Linked orders: so many of these, a bracket or an oco.
    PlaceList {
        orders: [Place; 4],
        count: usize,
        is_bracket: bool,
    },
    Cancel {
        participant: u32,
        client: u64,
    },
    Replace {
        participant: u32,
        client: u64,
        price: Option<i64>,
        quantity: Option<u64>,
        rename: Option<u64>,
    },
    MassCancel {
        participant: u32,
        book: Option<u32>,
        side: Option<Side>,
    },
    SetPhase {
        book: u32,
        phase: Phase,
    },
    Uncross {
        book: u32,
    },
    SettleCycle {
        book: u32,
    },
    /// The kill switch, and the way back.
    Block {
        participant: u32,
        is_blocked: bool,
    },
    CancelOnDisconnect(bool),
    Disconnect,
    Tick {
        at: u64,
    },
    EndOfDay,
    StartOfDay,
}

impl Command {
    pub(super) fn line(&self) -> String {
        match *self {
            Command::Place(p) => place_line(&p),
            Command::PlaceList {
                orders,
                count,
                is_bracket,
            } => {
                let orders: Vec<String> = orders[..count]
                    .iter()
                    .map(|p| place_line(p).replace(r#""cmd":"place_order","#, ""))
                    .collect();
                format!(
                    r#"{{"cmd":"place_order_list","contingency":"{}","orders":[{}]}}"#,
                    if is_bracket { "bracket" } else { "oco" },
                    orders.join(",")
                )
            }
            Command::Cancel {
                participant,
                client,
            } => format!(
                r#"{{"cmd":"cancel_order","participant":{participant},"client_order_id":{client}}}"#
            ),
            Command::Replace {
                participant,
                client,
                price,
                quantity,
                rename,
            } => {
                let mut line = format!(
                    r#"{{"cmd":"replace_order","participant":{participant},"client_order_id":{client}"#
                );
                if let Some(price) = price {
                    line += &format!(r#","price":{price}"#);
                }
                if let Some(quantity) = quantity {
                    line += &format!(r#","quantity":{quantity}"#);
                }
                if let Some(rename) = rename {
                    line += &format!(r#","new_client_order_id":{rename}"#);
                }
                line + "}"
            }
            Command::MassCancel {
                participant,
                book,
                side,
            } => {
                let mut line = format!(r#"{{"cmd":"mass_cancel","participant":{participant}"#);
                if let Some(book) = book {
                    line += &format!(r#","instrument":{book}"#);
                }
                if let Some(side) = side {
                    line += &format!(r#","side":"{}""#, word(&side));
                }
                line + "}"
            }
            Command::SetPhase { book, phase } => format!(
                r#"{{"cmd":"set_instrument_phase","instrument":{book},"phase":"{}"}}"#,
                word(&phase)
            ),
            Command::Uncross { book } => format!(r#"{{"cmd":"uncross","instrument":{book}}}"#),
            Command::SettleCycle { book } => {
                format!(r#"{{"cmd":"settle_cycle","instrument":{book}}}"#)
            }
            Command::Block {
                participant,
                is_blocked,
            } => format!(
                r#"{{"cmd":"set_participant_state","participant":{participant},"state":"{}"}}"#,
                if is_blocked { "blocked" } else { "active" }
            ),
            Command::CancelOnDisconnect(enabled) => {
                format!(r#"{{"cmd":"cancel_on_disconnect","enabled":{enabled}}}"#)
            }
            Command::Disconnect => r#"{"cmd":"disconnect"}"#.into(),
            Command::Tick { at } => format!(r#"{{"cmd":"tick","at":{at}}}"#),
            Command::EndOfDay => r#"{"cmd":"set_phase","phase":"closed"}"#.into(),
            Command::StartOfDay => r#"{"cmd":"set_phase","phase":"open"}"#.into(),
        }
    }
}

fn place_line(p: &Place) -> String {
    let mut line = format!(
        r#"{{"cmd":"place_order","participant":{},"instrument":{},"client_order_id":{},"side":"{}","type":"{}","time_in_force":"{}","self_trade":"{}","quantity":{}"#,
        p.participant,
        p.book,
        p.client,
        word(&p.side),
        word(&p.kind),
        word(&p.tif),
        word(&p.self_trade),
        p.quantity,
    );
    for (name, value) in [
        ("price", p.price),
        ("stop_price", p.stop),
        ("protection", p.protection),
        ("offset", p.offset),
        ("display_quantity", p.display as i64),
        ("min_quantity", p.min_quantity as i64),
        ("expires_at", p.expires_at as i64),
    ] {
        if value != 0 {
            line += &format!(r#","{name}":{value}"#);
        }
    }
    if let Some(peg) = p.peg {
        line += &format!(r#","peg":"{}""#, word(&peg));
    }
    if p.trigger != Trigger::Last {
        line += &format!(r#","trigger":"{}""#, word(&p.trigger));
    }
    for (name, value) in [
        ("post_only", p.post_only),
        ("slide", p.slide),
        ("keep_on_disconnect", p.keep),
    ] {
        if value {
            line += &format!(r#","{name}":true"#);
        }
    }
    line + "}"
}

/// How a stream behaves: what happens often in one seldom does in another.
pub(super) struct Source {
    rng: Pcg64Mcg,
    now: u64,
    next_client: u64,
    /// Percent of commands that are new orders, of those that are special, and of phase changes.
    placing: u64,
    special: u64,
    phases: u64,
    lists: u64,
    spread: i64,
    self_trades: bool,
}

impl Source {
    pub(super) fn new(seed: u64) -> Source {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        Source {
            now: 0,
            next_client: 1,
            placing: rng.random_range(45..80),
            special: rng.random_range(0..90),
            phases: rng.random_range(0..8),
            lists: rng.random_range(0..35),
            spread: rng.random_range(2..25),
            self_trades: rng.random_bool(0.7),
            rng,
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn price(&mut self) -> i64 {
        MIDDLE + self.rng.random_range(-self.spread..=self.spread)
    }

    fn client(&mut self) -> u64 {
        // A recent one, mostly.
        (self.next_client + 1).saturating_sub(self.below(40)).max(1)
    }

    pub(super) fn next(&mut self) -> Command {
        let participant = 1 + self.below(u64::from(PARTICIPANTS)) as u32;
        let book = self.one_of(&[1, 1, 1, 1, 2, 2, 3, 3, 4, 4]);
        if self.chance(self.placing) {
            if self.chance(self.lists) {
                return self.list(participant, book);
            }
            return Command::Place(self.place(participant, book));
        }
        if self.chance(self.phases) {
            return if self.chance(25) {
                Command::Uncross { book }
            } else {
                let phase = self.one_of(&[
                    Phase::Continuous,
                    Phase::Continuous,
                    Phase::Continuous,
                    Phase::Continuous,
                    Phase::PreOpen,
                    Phase::Auction,
                    Phase::OpeningAuction,
                    Phase::VolatilityAuction,
                    Phase::ClosingAuction,
                    Phase::Halted,
                    Phase::Closed,
                ]);
                Command::SetPhase { book, phase }
            };
        }
        let client = self.client();
        match self.below(200) {
            0..70 => Command::Cancel {
                participant,
                client,
            },
            70..184 => Command::Replace {
                participant,
                client,
                price: self.chance(60).then(|| self.price()),
                quantity: self.chance(60).then(|| self.below(20)),
                rename: self.chance(15).then(|| self.client()),
            },
            185..189 => Command::MassCancel {
                participant,
                book: self.chance(50).then_some(book),
                side: if self.chance(50) {
                    Some(self.one_of(&[Side::Buy, Side::Sell]))
                } else {
                    None
                },
            },
            184 => Command::SettleCycle {
                book: if self.chance(80) {
                    self.one_of(&[3, 4])
                } else {
                    book
                },
            },
            189..194 => {
                self.now += self.below(40);
                Command::Tick { at: self.now }
            }
            194 | 195 => Command::CancelOnDisconnect(self.chance(70)),
            196 => Command::Disconnect,
            197 => Command::Block {
                participant,
                is_blocked: self.chance(40),
            },
            198 if self.chance(30) => Command::EndOfDay,
            _ => Command::StartOfDay,
        }
    }

    fn place(&mut self, participant: u32, book: u32) -> Place {
        self.next_client += u64::from(!self.chance(3));
        let mut place = Place {
            participant,
            book,
            client: self.next_client,
            side: self.one_of(&[Side::Buy, Side::Sell]),
            kind: Kind::Limit,
            tif: self.one_of(&[Tif::Gtc, Tif::Gtc, Tif::Gtc, Tif::Day, Tif::Ioc, Tif::Fok]),
            self_trade: if self.self_trades {
                self.one_of(&[
                    SelfTrade::CancelIncoming,
                    SelfTrade::CancelResting,
                    SelfTrade::CancelBoth,
                    SelfTrade::Decrement,
                    SelfTrade::Allow,
                ])
            } else {
                SelfTrade::Allow
            },
            price: self.price(),
            quantity: if self.chance(8) {
                self.below(60)
            } else {
                // The fourth takes no more than some five lots.
                1 + self.below(if book == 4 { 6 } else { 12 })
            },
            stop: 0,
            protection: 0,
            offset: 0,
            display: 0,
            min_quantity: 0,
            expires_at: 0,
            peg: None,
            trigger: Trigger::Last,
            post_only: false,
            slide: false,
            keep: self.chance(20),
        };
        if self.chance(self.special) {
            self.make_special(&mut place);
        }
        if self.chance(2) {
            self.forget_field(&mut place);
        }
        place
    }

    /// Leaves out what the order cannot do without.
    fn forget_field(&mut self, place: &mut Place) {
        match place.kind {
            _ if place.tif == Tif::Gtd => place.expires_at = 0,
            Kind::Limit => place.price = 0,
            Kind::Stop | Kind::StopLimit => place.stop = 0,
            Kind::TrailingStop => place.offset = 0,
            Kind::Pegged => place.peg = None,
            Kind::Market => {}
        }
    }

    /// Orders that hang together; some lists make no sense.
    fn list(&mut self, participant: u32, book: u32) -> Command {
        let is_bracket = self.chance(50);
        let mut first = self.place(participant, book);
        let way = if first.side == Side::Buy { 1 } else { -1 };
        let count = if self.chance(75) { 2 } else { 3 } + usize::from(is_bracket);
        let mut orders = [first; 4];
        if !is_bracket {
            // The limit leg, plain or with a reserve.
            first = Place {
                kind: Kind::Limit,
                tif: self.one_of(&[Tif::Gtc, Tif::Gtc, Tif::Day]),
                price: self.price(),
                stop: 0,
                protection: 0,
                offset: 0,
                min_quantity: 0,
                expires_at: 0,
                peg: None,
                trigger: Trigger::Last,
                post_only: false,
                slide: false,
                display: if self.chance(20) {
                    1 + self.below(first.quantity.max(1))
                } else {
                    0
                },
                ..first
            };
            orders = [first; 4];
        }
        let from = if first.price == 0 {
            MIDDLE
        } else {
            first.price
        };
        for (at, order) in orders.iter_mut().enumerate().skip(1) {
            self.next_client += 1;
            let takes_profit = is_bracket && at == 1 || !is_bracket && self.chance(5);
            let away = 1 + self.below(8) as i64;
            let beyond = if is_bracket { -way * away } else { way * away };
            *order = Place {
                client: self.next_client,
                kind: if takes_profit {
                    Kind::Limit
                } else {
                    self.one_of(&[Kind::Stop, Kind::Stop, Kind::StopLimit, Kind::TrailingStop])
                },
                tif: self.one_of(&[Tif::Gtc, Tif::Gtc, Tif::Day]),
                price: 0,
                stop: from + beyond,
                protection: 0,
                offset: 0,
                display: 0,
                min_quantity: 0,
                expires_at: 0,
                peg: None,
                trigger: Trigger::Last,
                post_only: false,
                slide: false,
                ..first
            };
            if matches!(order.kind, Kind::Stop | Kind::StopLimit) {
                order.trigger = self.trigger();
            }
            if is_bracket || self.chance(20) {
                order.side = if first.side == Side::Buy {
                    Side::Sell
                } else {
                    Side::Buy
                };
            }
            match order.kind {
                Kind::Limit => {
                    order.stop = 0;
                    order.price = from + way * away;
                    if self.chance(20) {
                        order.display = 1 + self.below(order.quantity.max(1));
                    }
                }
                Kind::StopLimit => order.price = order.stop + self.below(5) as i64 - 2,
                Kind::TrailingStop => {
                    order.offset = 1 + self.below(6) as i64;
                    if self.chance(10) {
                        order.stop = 0;
                    }
                }
                _ if self.chance(30) => order.protection = order.stop + beyond,
                _ => {}
            }
            if self.chance(10) {
                order.tif = Tif::Gtd;
                order.expires_at = 1 + self.now + self.below(60);
            }
            match self.below(60) {
                0 => order.quantity += 1,
                1 => order.tif = Tif::Ioc,
                2 => order.side = first.side,
                3 => order.client = first.client,
                _ => {}
            }
        }
        Command::PlaceList {
            orders,
            count,
            is_bracket,
        }
    }

    fn trigger(&mut self) -> Trigger {
        self.one_of(&[Trigger::Last, Trigger::Last, Trigger::Bid, Trigger::Ask])
    }

    fn make_special(&mut self, place: &mut Place) {
        let rests = [Tif::Gtc, Tif::Day];
        match self.below(14) {
            0 | 1 => {
                place.tif = self.one_of(&rests);
                place.display = 1 + self.below(place.quantity.max(1));
            }
            2 | 3 => {
                place.kind = self.one_of(&[Kind::Stop, Kind::StopLimit]);
                place.stop = self.price();
                place.trigger = self.trigger();
                if place.kind == Kind::Stop {
                    place.price = 0;
                    place.protection = if self.chance(40) { self.price() } else { 0 };
                }
            }
            4 => {
                place.kind = Kind::TrailingStop;
                place.price = 0;
                place.offset = 1 + self.below(6) as i64;
                place.stop = if self.chance(30) { self.price() } else { 0 };
            }
            5 | 6 => {
                place.kind = Kind::Pegged;
                place.tif = self.one_of(&rests);
                place.peg = Some(self.one_of(&[Peg::Bid, Peg::Ask, Peg::Mid]));
                place.offset = self.below(5) as i64 - 2;
                if self.chance(30) && place.side == Side::Sell {
                    place.price = 0;
                }
            }
            7 | 12 | 13 => {
                place.tif = self.one_of(&rests);
                place.post_only = true;
                place.slide = self.chance(50);
            }
            8 => {
                place.min_quantity = 1 + self.below(place.quantity.max(1));
            }
            9 => {
                place.tif = Tif::Gtd;
                place.expires_at = 1 + self.now.saturating_sub(3) + self.below(60);
                if self.chance(30) {
                    place.display = 1 + self.below(place.quantity.max(1));
                }
            }
            10 => {
                place.tif = self.one_of(&[Tif::AtTheOpen, Tif::AtTheClose, Tif::GoodForAuction]);
            }
            _ => {
                place.kind = Kind::Market;
                place.price = 0;
                place.protection = if self.chance(50) { self.price() } else { 0 };
            }
        }
        let is_stop = matches!(place.kind, Kind::Stop | Kind::TrailingStop);
        if is_stop && self.chance(50) {
            // As much as may cost too much when it wakes.
            place.quantity = if place.book == 4 { 5 } else { 10 };
        }
    }
}
