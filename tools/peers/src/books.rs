//! One face for all books. Each says every fill it makes in the same words, so that they can be compared.

use crate::flow::Action;
use millrace::engine::matching::{Lookup, Matching, NewOrder, Outcome, Step, no_band};
use millrace::engine::{Limits, Take};
use millrace::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use millrace::protocol::units::{ClientOrderId, Price, Quantity};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;

/// A trade: the incoming order, the resting one, lots and the value they changed hands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    pub taker: u64,
    pub maker: u64,
    pub quantity: u64,
    pub value: u64,
}

/// A book that can be driven.
pub trait Book {
    /// Does one action and tells its fills in order.
    fn apply(&mut self, action: &Action, fills: &mut dyn FnMut(Fill));
}

/// Ours: the matching room as the engine's handlers drive it, with participants, ids remembered for the
/// day, and every question they ask before they change anything.
pub struct Ours(Matching);

const BOOK: u32 = 0;
const PARTICIPANT: u32 = 1;

impl Ours {
    /// A book for so many orders, of which `at_once` live at once.
    pub fn new(orders: usize, at_once: usize) -> Ours {
        let limits = Limits {
            instruments: 1,
            participants: PARTICIPANT + 1,
            orders: at_once as u32 + 1_024,
            special_orders: 0,
            order_sessions: 0,
            client_order_ids: orders as u32 + 1_024,
            price_levels: 1 << 16,
            ..Limits::default()
        };
        let mut matching = Matching::new(&limits);
        matching.add_book(BOOK);
        matching.take_memory(Take::Now);
        Ours(matching)
    }
}

impl Book for Ours {
    fn apply(&mut self, action: &Action, fills: &mut dyn FnMut(Fill)) {
        match *action {
            Action::Limit {
                id,
                buys,
                price,
                quantity,
            } => {
                let side = if buys { Side::Buy } else { Side::Sell };
                let client_order_id = ClientOrderId(id);
                let price = Price(price as i64);
                let is_new = matches!(self.0.find(PARTICIPANT, client_order_id), Lookup::Unknown);
                assert!(is_new && self.0.has_room_for_order());
                assert!(self.0.has_room_at(BOOK, side, price));
                let slot = self.0.enter(&NewOrder {
                    book: BOOK,
                    participant: PARTICIPANT,
                    client_order_id,
                    side,
                    order_type: OrderType::Limit,
                    time_in_force: TimeInForce::Gtc,
                    self_trade: SelfTrade::Allow,
                    post_only: false,
                    price,
                    quantity: Quantity(quantity),
                    base_account: 0,
                    quote_account: 0,
                    fee_budget: 0,
                    special: None,
                });
                let outcome = self.0.execute(slot, no_band(), |step| {
                    if let Step::Fill(fill) = step {
                        fills(Fill {
                            taker: id,
                            maker: fill.maker.client_order_id.0,
                            quantity: fill.quantity.0,
                            value: fill.quantity.0 * fill.maker.price.0 as u64,
                        });
                    }
                });
                match outcome {
                    Outcome::Open => self.0.rest(slot),
                    _ => self.0.finish(slot),
                }
            }
            Action::Cancel { id } => {
                if let Lookup::Live(slot) = self.0.find(PARTICIPANT, ClientOrderId(id)) {
                    self.0.cancel(slot);
                }
            }
        }
    }
}

/// lobster 0.7.
pub struct Lobster(lobster::OrderBook);

impl Lobster {
    pub fn new(at_once: usize) -> Lobster {
        Lobster(lobster::OrderBook::new(at_once, 64, false))
    }
}

impl Book for Lobster {
    fn apply(&mut self, action: &Action, fills: &mut dyn FnMut(Fill)) {
        use lobster::{OrderEvent, OrderType};
        let order = match *action {
            Action::Limit {
                id,
                buys,
                price,
                quantity,
            } => OrderType::Limit {
                id: u128::from(id),
                side: if buys {
                    lobster::Side::Bid
                } else {
                    lobster::Side::Ask
                },
                qty: quantity,
                price,
            },
            Action::Cancel { id } => OrderType::Cancel { id: u128::from(id) },
        };
        let (OrderEvent::Filled { fills: done, .. }
        | OrderEvent::PartiallyFilled { fills: done, .. }) = self.0.execute(order)
        else {
            return;
        };
        for fill in done {
            fills(Fill {
                taker: fill.order_1 as u64,
                maker: fill.order_2 as u64,
                quantity: fill.qty,
                value: fill.qty * fill.price,
            });
        }
    }
}

/// rust_ob 2.5, which counts in decimals.
pub struct RustOb(rust_ob::OrderBook<u64>);

impl RustOb {
    pub fn new() -> RustOb {
        RustOb(rust_ob::OrderBook::new())
    }
}

impl Book for RustOb {
    fn apply(&mut self, action: &Action, fills: &mut dyn FnMut(Fill)) {
        match *action {
            Action::Limit {
                id,
                buys,
                price,
                quantity,
            } => {
                let side = if buys {
                    rust_ob::Side::Buy
                } else {
                    rust_ob::Side::Sell
                };
                let (price, quantity) = (Decimal::from(price), Decimal::from(quantity));
                let done = self.0.process_limit_order(id, side, price, quantity);
                let done = done.expect("a new id and some lots");
                // The last is the incoming order itself.
                for fill in done.iter().take(done.len().saturating_sub(1)) {
                    fills(Fill {
                        taker: id,
                        maker: fill.order,
                        quantity: fill.quantity.to_u64().expect("whole lots"),
                        value: fill.cost.abs().to_u64().expect("whole units"),
                    });
                }
            }
            // Not found: it was filled before.
            Action::Cancel { id } => drop(self.0.cancel_order(id)),
        }
    }
}

/// matchcore 0.4, which numbers orders by the command that brought them.
pub struct Matchcore {
    book: matchcore::OrderBook,
    commands: u64,
    /// Their order by ours, and ours by theirs.
    theirs: Vec<u64>,
    ours: Vec<u64>,
}

impl Matchcore {
    pub fn new(orders: usize, commands: usize) -> Matchcore {
        Matchcore {
            book: matchcore::OrderBook::new("A"),
            commands: 0,
            theirs: vec![0; orders + 1],
            ours: vec![0; commands + 1],
        }
    }
}

impl Book for Matchcore {
    fn apply(&mut self, action: &Action, fills: &mut dyn FnMut(Fill)) {
        use matchcore::{
            CancelCmd, Command, CommandKind, CommandMeta, CommandOutcome, CommandReport,
            LimitOrder, NewOrder, OrderFlags, OrderId, OrderKind, Price, Quantity, QuantityPolicy,
            SequenceNumber, Side, SubmitCmd, TimeInForce, Timestamp,
        };
        let number = self.commands;
        self.commands += 1;
        let (taker, kind) = match *action {
            Action::Limit {
                id,
                buys,
                price,
                quantity,
            } => {
                self.theirs[id as usize] = number;
                self.ours[number as usize] = id;
                let side = if buys { Side::Buy } else { Side::Sell };
                let order = LimitOrder::new(
                    Price(price),
                    QuantityPolicy::Standard {
                        quantity: Quantity(quantity),
                    },
                    OrderFlags::new(side, false, TimeInForce::Gtc),
                );
                let order = NewOrder::Limit(order);
                (id, CommandKind::Submit(SubmitCmd { order }))
            }
            Action::Cancel { id } => {
                let cancel = CancelCmd {
                    order_id: OrderId(self.theirs[id as usize]),
                    order_kind: OrderKind::Limit,
                };
                (id, CommandKind::Cancel(cancel))
            }
        };
        let outcome = self.book.execute(&Command {
            meta: CommandMeta {
                sequence_number: SequenceNumber(number),
                timestamp: Timestamp(number),
            },
            kind,
        });
        let CommandOutcome::Applied(CommandReport::Submit(effects)) = outcome else {
            return;
        };
        let Some(result) = effects.target_order().match_result() else {
            return;
        };
        for trade in result.trades() {
            fills(Fill {
                taker,
                maker: self.ours[trade.maker_order_id().0 as usize],
                quantity: trade.quantity().0,
                value: trade.quantity().0 * trade.price().0,
            });
        }
    }
}
