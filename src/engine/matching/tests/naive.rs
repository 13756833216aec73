//! The obvious book: one vector of orders in order of arrival, searched from end to end. Written
//! from the rules, not from the room, and shares nothing with it but the words.

use crate::engine::matching::{NewOrder, Outcome};
use crate::protocol::command::{SelfTrade, Side, TimeInForce};
use std::collections::{BTreeMap, BTreeSet};

/// What can be seen while commands run; the room and the naive book must say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Refused(&'static str),
    Entered(u64),
    Fill {
        maker: u64,
        client_order_id: u64,
        price: i64,
        quantity: u64,
        maker_leaves: u64,
        maker_budget: u128,
        taker_leaves: u64,
    },
    Decrement {
        maker: u64,
        quantity: u64,
        maker_leaves: u64,
        taker_leaves: u64,
    },
    SelfCancelled {
        maker: u64,
        leaves: u64,
        budget: u128,
    },
    Executed(Outcome, u64),
    Rests(u64),
    Ended(u64),
    Killed,
    Cancelled {
        order: u64,
        leaves: u64,
        quantity: u64,
        budget: u128,
    },
    Reduced(u64),
    Renamed(u64),
}

/// Sizes of the tables, which refuse when full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) orders: usize,
    pub(super) ids: usize,
    pub(super) levels: usize,
}

#[derive(Clone, Debug)]
pub(super) struct NaiveOrder {
    pub(super) id: u64,
    pub(super) order: NewOrder,
    pub(super) leaves: u64,
}

impl NaiveOrder {
    fn participant(&self) -> u32 {
        self.order.participant
    }

    fn price(&self) -> i64 {
        self.order.price.0
    }
}

#[derive(Clone)]
pub(super) struct Naive {
    room: Room,
    /// Everything that rests, in order of arrival.
    resting: Vec<NaiveOrder>,
    /// Client ids of today: the live order, or none any more.
    ids: BTreeMap<(u32, u64), Option<u64>>,
    /// Ids given back, the last one first in line.
    spare: Vec<u64>,
    slots_used: u64,
    /// Every id ever given.
    given: BTreeSet<u64>,
}

impl Naive {
    pub(super) fn new(room: Room) -> Naive {
        Naive {
            room,
            resting: Vec::new(),
            ids: BTreeMap::new(),
            spare: Vec::new(),
            slots_used: 0,
            given: BTreeSet::new(),
        }
    }

    /// Orders of one side of one book, best price first, first come first.
    pub(super) fn side(&self, book: u32, side: Side) -> Vec<&NaiveOrder> {
        let mut orders: Vec<&NaiveOrder> = self
            .resting
            .iter()
            .filter(|o| o.order.book == book && o.order.side == side)
            .collect();
        // A stable sort: equal prices stay in order of arrival.
        match side {
            Side::Buy => orders.sort_by_key(|o| std::cmp::Reverse(o.price())),
            Side::Sell => orders.sort_by_key(|o| o.price()),
        }
        orders
    }

    pub(super) fn live(&self, id: u64) -> Option<&NaiveOrder> {
        self.resting.iter().find(|o| o.id == id)
    }

    /// The live order under a client id; else why there is none.
    pub(super) fn by_client(&self, participant: u32, client: u64) -> Result<u64, &'static str> {
        match self.ids.get(&(participant, client)) {
            None => Err("unknown"),
            Some(None) => Err("finished"),
            Some(Some(id)) => Ok(*id),
        }
    }

    /// The live order under an engine id; else why there is none.
    pub(super) fn by_id(&self, id: u64) -> Result<u64, &'static str> {
        if self.live(id).is_some() {
            Ok(id)
        } else if self.given.contains(&id) {
            Err("finished")
        } else {
            Err("unknown")
        }
    }

    pub(super) fn place(&mut self, order: NewOrder, seen: &mut Vec<Seen>) {
        let key = (order.participant, order.client_order_id.0);
        if self.ids.contains_key(&key) {
            return seen.push(Seen::Refused("duplicate"));
        }
        if self.resting.len() >= self.room.orders
            || self.ids.len() >= self.room.ids
            || !self.level_fits(&order)
        {
            return seen.push(Seen::Refused("capacity"));
        }
        let killed = order.time_in_force == TimeInForce::Fok && !self.fills_whole(&order);
        let id = self.give_id();
        seen.push(Seen::Entered(id));
        self.ids.insert(key, Some(id));
        let incoming = NaiveOrder {
            id,
            leaves: order.quantity.0,
            order,
        };
        if killed {
            seen.push(Seen::Killed);
            return self.forget(&incoming);
        }
        self.run(incoming, seen);
    }

    pub(super) fn cancel(&mut self, id: u64, seen: &mut Vec<Seen>) {
        let at = self.resting.iter().position(|o| o.id == id).unwrap();
        let order = self.resting.remove(at);
        seen.push(cancelled(&order));
        self.forget(&order);
    }

    /// `quantity` is the new total, `price` and `client` the new ones or none.
    pub(super) fn replace(
        &mut self,
        id: u64,
        price: Option<i64>,
        quantity: Option<u64>,
        client: Option<u64>,
        seen: &mut Vec<Seen>,
    ) {
        let at = self.resting.iter().position(|o| o.id == id).unwrap();
        let mut order = self.resting[at].clone();
        let filled = order.order.quantity.0 - order.leaves;
        let total = quantity.unwrap_or(order.order.quantity.0);
        if total <= filled {
            return seen.push(Seen::Refused("below what is filled"));
        }
        if let Some(client) = client {
            if self.ids.contains_key(&(order.participant(), client)) {
                return seen.push(Seen::Refused("duplicate"));
            }
            if self.ids.len() >= self.room.ids {
                return seen.push(Seen::Refused("capacity"));
            }
        }
        let stays =
            price.is_none_or(|price| price == order.price()) && total <= order.order.quantity.0;
        if !stays {
            let mut moved = order.order;
            moved.price.0 = price.unwrap_or(order.price());
            let mut without = self.clone();
            without.resting.remove(at);
            if !without.level_fits(&moved) {
                return seen.push(Seen::Refused("capacity"));
            }
        }
        if let Some(client) = client {
            self.ids
                .insert((order.participant(), order.order.client_order_id.0), None);
            self.ids.insert((order.participant(), client), Some(id));
            self.resting[at].order.client_order_id.0 = client;
            order.order.client_order_id.0 = client;
            seen.push(Seen::Renamed(client));
        }
        order.order.quantity.0 = total;
        order.leaves = total - filled;
        if stays {
            seen.push(Seen::Reduced(order.leaves));
            self.resting[at] = order;
            return;
        }
        if let Some(price) = price {
            order.order.price.0 = price;
        }
        self.resting.remove(at);
        self.run(order, seen);
    }

    /// Cancels what is condemned: book by book, buys first, in price-time order.
    pub(super) fn cancel_all(
        &mut self,
        books: u32,
        condemned: impl Fn(&NewOrder) -> bool,
        seen: &mut Vec<Seen>,
    ) {
        for book in 0..books {
            for side in [Side::Buy, Side::Sell] {
                let ids: Vec<u64> = self
                    .side(book, side)
                    .iter()
                    .filter(|o| condemned(&o.order))
                    .map(|o| o.id)
                    .collect();
                for id in ids {
                    self.cancel(id, seen);
                }
            }
        }
    }

    pub(super) fn roll_day(&mut self) {
        self.ids.retain(|_, live| live.is_some());
    }

    /// Matches, then rests or ends what is left.
    fn run(&mut self, mut incoming: NaiveOrder, seen: &mut Vec<Seen>) {
        let outcome = self.matches(&mut incoming, seen);
        seen.push(Seen::Executed(outcome, incoming.leaves));
        let rests = !matches!(
            incoming.order.time_in_force,
            TimeInForce::Ioc | TimeInForce::Fok
        );
        if outcome == Outcome::Open && rests {
            seen.push(Seen::Rests(incoming.leaves));
            self.resting.push(incoming);
        } else {
            seen.push(Seen::Ended(incoming.leaves));
            self.forget(&incoming);
        }
    }

    fn matches(&mut self, incoming: &mut NaiveOrder, seen: &mut Vec<Seen>) -> Outcome {
        while incoming.leaves > 0 {
            let side = incoming.order.side.opposite();
            let Some(best) = self
                .side(incoming.order.book, side)
                .first()
                .copied()
                .cloned()
            else {
                return Outcome::Open;
            };
            let reaches = match incoming.order.side {
                Side::Buy => incoming.price() >= best.price(),
                Side::Sell => incoming.price() <= best.price(),
            };
            if !reaches {
                return Outcome::Open;
            }
            let at = self.resting.iter().position(|o| o.id == best.id).unwrap();
            let policy = incoming.order.self_trade;
            let prevented = best.participant() == incoming.participant()
                && policy != SelfTrade::Allow
                && policy != SelfTrade::Default;
            if prevented && policy == SelfTrade::CancelIncoming {
                return Outcome::SelfTrade;
            }
            if prevented && policy != SelfTrade::Decrement {
                let maker = self.resting.remove(at);
                seen.push(Seen::SelfCancelled {
                    maker: maker.id,
                    leaves: maker.leaves,
                    budget: maker.order.fee_budget,
                });
                self.forget(&maker);
                if policy == SelfTrade::CancelBoth {
                    return Outcome::SelfTrade;
                }
                continue;
            }
            let quantity = best.leaves.min(incoming.leaves);
            incoming.leaves -= quantity;
            let maker = &mut self.resting[at];
            maker.leaves -= quantity;
            if prevented {
                incoming.order.quantity.0 -= quantity;
                maker.order.quantity.0 -= quantity;
                seen.push(Seen::Decrement {
                    maker: maker.id,
                    quantity,
                    maker_leaves: maker.leaves,
                    taker_leaves: incoming.leaves,
                });
            } else {
                maker.order.fee_budget = maker_fee(maker.order.fee_budget, quantity);
                incoming.order.fee_budget = taker_fee(incoming.order.fee_budget);
                seen.push(Seen::Fill {
                    maker: maker.id,
                    client_order_id: maker.order.client_order_id.0,
                    price: maker.price(),
                    quantity,
                    maker_leaves: maker.leaves,
                    maker_budget: maker.order.fee_budget,
                    taker_leaves: incoming.leaves,
                });
            }
            if self.resting[at].leaves == 0 {
                let maker = self.resting.remove(at);
                self.forget(&maker);
            }
            if prevented && incoming.leaves == 0 {
                return Outcome::SelfTrade;
            }
        }
        Outcome::Filled
    }

    /// Tries it on a copy: every lot must trade.
    fn fills_whole(&self, order: &NewOrder) -> bool {
        let mut copy = self.clone();
        let mut incoming = NaiveOrder {
            id: 0,
            leaves: order.quantity.0,
            order: *order,
        };
        let mut seen = Vec::new();
        copy.matches(&mut incoming, &mut seen);
        let traded: u128 = seen
            .iter()
            .map(|s| match s {
                Seen::Fill { quantity, .. } => u128::from(*quantity),
                _ => 0,
            })
            .sum();
        traded == u128::from(order.quantity.0)
    }

    fn level_fits(&self, order: &NewOrder) -> bool {
        let mut levels: BTreeSet<(u32, u8, i64)> = self
            .resting
            .iter()
            .map(|o| (o.order.book, o.order.side as u8, o.price()))
            .collect();
        levels.insert((order.book, order.side as u8, order.price.0));
        levels.len() <= self.room.levels
    }

    fn give_id(&mut self) -> u64 {
        let id = self.spare.pop().unwrap_or_else(|| {
            self.slots_used += 1;
            self.slots_used
        });
        assert!(self.given.insert(id), "no id is given twice");
        id
    }

    fn forget(&mut self, order: &NaiveOrder) {
        let key = (order.participant(), order.order.client_order_id.0);
        self.ids.insert(key, None);
        self.spare.push(order.id + (1 << 32));
    }
}

/// What these tests take from fee budgets, so that their way through the room is seen.
pub(super) fn maker_fee(budget: u128, quantity: u64) -> u128 {
    budget.saturating_sub(u128::from(quantity))
}

/// The same for the incoming side.
pub(super) fn taker_fee(budget: u128) -> u128 {
    budget.saturating_sub(3)
}

pub(super) fn cancelled(order: &NaiveOrder) -> Seen {
    Seen::Cancelled {
        order: order.id,
        leaves: order.leaves,
        quantity: order.order.quantity.0,
        budget: order.order.fee_budget,
    }
}
