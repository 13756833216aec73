//! Scenarios: the rules one by one, and the bugs that engines of this field keep making.

use super::naive::Seen;
use super::random::{digest, place, replace};
use crate::engine::Limits;
use crate::engine::matching::{Lookup, Matching, NewOrder, Outcome, Slot, orders};
use crate::protocol::command::{OrderType, SelfTrade, Side, TimeInForce};
use crate::protocol::units::{ClientOrderId, OrderId, Price, Quantity};

const BUY: Side = Side::Buy;
const SELL: Side = Side::Sell;
const ALICE: u32 = 1;
const BOB: u32 = 2;

struct Desk {
    room: Matching,
    next_client: u64,
    time_in_force: TimeInForce,
    self_trade: SelfTrade,
}

impl Desk {
    fn new() -> Desk {
        Desk::with(&Limits::small())
    }

    fn with(limits: &Limits) -> Desk {
        let mut room = Matching::new(limits);
        room.add_book(0);
        room.add_book(1);
        Desk {
            room,
            next_client: 1,
            time_in_force: TimeInForce::Gtc,
            self_trade: SelfTrade::Allow,
        }
    }

    /// Sends a new order; its client ids count from 1. Every scenario is audited at every step.
    fn send(&mut self, participant: u32, side: Side, price: i64, quantity: u64) -> Vec<Seen> {
        let order = self.order(participant, side, price, quantity);
        self.next_client += 1;
        let mut seen = Vec::new();
        place(&mut self.room, order, &mut seen);
        self.room.audit().unwrap();
        seen
    }

    fn order(&self, participant: u32, side: Side, price: i64, quantity: u64) -> NewOrder {
        NewOrder {
            book: 0,
            participant,
            client_order_id: ClientOrderId(self.next_client),
            side,
            order_type: OrderType::Limit,
            time_in_force: self.time_in_force,
            self_trade: self.self_trade,
            post_only: false,
            price: Price(price),
            quantity: Quantity(quantity),
            base_account: 0,
            quote_account: 0,
            fee_budget: 0,
            special: None,
        }
    }

    fn replace(&mut self, slot: Slot, price: Option<i64>, quantity: Option<u64>) -> Vec<Seen> {
        let mut seen = Vec::new();
        replace(&mut self.room, slot, price, quantity, None, &mut seen);
        self.room.audit().unwrap();
        seen
    }

    fn cancel(&mut self, participant: u32, client: u64) {
        let slot = self.live(participant, client);
        self.room.cancel(slot);
        self.room.audit().unwrap();
    }

    fn find(&self, participant: u32, client: u64) -> Lookup {
        self.room.find(participant, ClientOrderId(client))
    }

    fn live(&self, participant: u32, client: u64) -> Slot {
        match self.find(participant, client) {
            Lookup::Live(slot) => slot,
            other => panic!("{participant}'s {client} is {other:?}"),
        }
    }

    /// Price, lots and orders of each level, best first.
    fn depth(&self, side: Side) -> Vec<(i64, u128, u32)> {
        let levels = self.room.levels(0, side);
        levels.map(|l| (l.price.0, l.quantity, l.orders)).collect()
    }

    /// Client ids of a side in the order in which they would trade.
    fn queue(&self, side: Side) -> Vec<u64> {
        let orders = self.room.orders(0, side);
        orders.map(|o| o.client_order_id.0).collect()
    }
}

/// Maker's client id, price, quantity.
fn fills(seen: &[Seen]) -> Vec<(u64, i64, u64)> {
    seen.iter()
        .filter_map(|seen| match seen {
            Seen::Fill {
                client_order_id,
                price,
                quantity,
                ..
            } => Some((*client_order_id, *price, *quantity)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_fill_happens_at_the_resting_orders_price() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    assert_eq!(fills(&desk.send(BOB, BUY, 107, 3)), [(1, 100, 3)]);
    desk.cancel(ALICE, 1);
    desk.send(ALICE, BUY, 90, 5);
    assert_eq!(fills(&desk.send(BOB, SELL, 1, 3)), [(3, 90, 3)]);
}

#[test]
fn execution_goes_up_to_the_limit_and_not_beyond() {
    let mut desk = Desk::new();
    for price in [103, 101, 102] {
        desk.send(ALICE, SELL, price, 1);
    }
    let seen = desk.send(BOB, BUY, 102, 9);
    assert_eq!(fills(&seen), [(2, 101, 1), (3, 102, 1)]);
    assert_eq!(desk.depth(BUY), [(102, 7, 1)]);
    assert_eq!(desk.depth(SELL), [(103, 1, 1)]);
    assert!(!desk.room.would_cross(0, BUY, Price(102)));
    assert!(desk.room.would_cross(0, BUY, Price(103)));
    assert!(desk.room.would_cross(0, SELL, Price(102)));
    assert!(!desk.room.would_cross(0, SELL, Price(103)));
}

#[test]
fn the_best_price_steps_back_when_its_last_order_goes() {
    let mut desk = Desk::new();
    // The same page, the next one, a far one.
    for price in [1_000, 1_001, 1_100, 900_000] {
        desk.send(ALICE, SELL, price, 1);
    }
    for (client, next) in [
        (1, Some(1_001)),
        (2, Some(1_100)),
        (3, Some(900_000)),
        (4, None),
    ] {
        desk.cancel(ALICE, client);
        let best = desk.room.best(0, SELL).map(|level| level.price.0);
        assert_eq!(best, next);
    }
}

#[test]
fn prices_that_come_and_go_at_the_top_leave_the_others_in_order() {
    for side in [BUY, SELL] {
        let price = |at: i64| if side == SELL { at } else { -at };
        let mut desk = Desk::new();
        let mut expected = vec![];
        let mut check = |desk: &mut Desk, comes: Option<i64>, goes: Option<(u64, i64)>| {
            if let Some(at) = comes {
                desk.send(ALICE, side, price(at), 1);
                expected.push(at);
            }
            if let Some((client, at)) = goes {
                desk.cancel(ALICE, client);
                expected.retain(|other| *other != at);
            }
            expected.sort_unstable();
            let seen: Vec<i64> = desk
                .depth(side)
                .iter()
                .map(|level| price(level.0))
                .collect();
            assert_eq!(seen, expected);
            desk.room.audit().unwrap();
        };
        // Better and better, then one between the best and the others, one far behind.
        for at in [1_100, 1_000, 990, 995, 900_000] {
            check(&mut desk, Some(at), None);
        }
        // The best goes, the next, one in the middle; better ones come; all go.
        check(&mut desk, None, Some((3, 990)));
        check(&mut desk, None, Some((4, 995)));
        check(&mut desk, Some(500), None);
        check(&mut desk, None, Some((2, 1_000)));
        check(&mut desk, None, Some((1, 1_100)));
        check(&mut desk, None, Some((5, 900_000)));
        check(&mut desk, Some(400), None);
        check(&mut desk, None, Some((6, 500)));
        check(&mut desk, Some(400_000), None);
        check(&mut desk, None, Some((7, 400)));
        check(&mut desk, None, Some((8, 400_000)));
    }
}

#[test]
fn a_partly_filled_order_keeps_its_place() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.send(ALICE, SELL, 100, 5);
    desk.send(BOB, BUY, 100, 2);
    assert_eq!(desk.queue(SELL), [1, 2]);
    assert_eq!(
        fills(&desk.send(BOB, BUY, 100, 4)),
        [(1, 100, 3), (2, 100, 1)]
    );
}

#[test]
fn a_filled_order_is_finished_under_both_its_ids() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    let id = desk.room.order(desk.live(ALICE, 1)).order_id;
    desk.send(BOB, BUY, 100, 5);
    assert_eq!(desk.find(ALICE, 1), Lookup::Finished);
    assert_eq!(desk.find(BOB, 2), Lookup::Finished);
    assert_eq!(desk.room.find_by_id(id), Lookup::Finished);
    assert_eq!(desk.find(ALICE, 2), Lookup::Unknown);
    assert_eq!(desk.find(BOB, 1), Lookup::Unknown);
    assert_eq!(desk.room.live_orders(), 0);
}

#[test]
fn an_order_without_a_client_order_id_is_found_by_the_engines_id_alone() {
    let mut desk = Desk::new();
    for price in [90, 91] {
        // Two of one participant: what is no id cannot be used twice.
        desk.next_client = 0;
        desk.send(ALICE, BUY, price, 5);
    }
    assert_eq!(desk.find(ALICE, 0), Lookup::Unknown);
    let Lookup::Live(slot) = desk.room.find_by_id(OrderId(1)) else {
        panic!("the first order lives");
    };
    assert_eq!(desk.room.order(slot).client_order_id.0, 0);
    desk.room.cancel(slot);
    desk.room.audit().unwrap();
    assert_eq!(desk.room.find_by_id(OrderId(1)), Lookup::Finished);
    assert_eq!(desk.find(ALICE, 0), Lookup::Unknown);
    desk.room.roll_day();
    desk.room.audit().unwrap();
    // It can be given one.
    let Lookup::Live(slot) = desk.room.find_by_id(OrderId(2)) else {
        panic!("the second order lives");
    };
    desk.room.rename(slot, ClientOrderId(7));
    desk.room.audit().unwrap();
    assert_eq!(desk.find(ALICE, 7), Lookup::Live(slot));
}

#[test]
fn order_ids_are_dense_and_never_come_back() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.send(ALICE, SELL, 101, 5);
    let [first, second] = [1, 2].map(|client| desk.room.order(desk.live(ALICE, client)).order_id);
    assert_eq!([first, second], [OrderId(1), OrderId(2)]);
    desk.cancel(ALICE, 1);
    desk.send(ALICE, SELL, 100, 5);
    // The slot is used again, under another id.
    assert_eq!(
        desk.room.order(desk.live(ALICE, 3)).order_id,
        OrderId(1 << 32 | 1)
    );
    assert_eq!(desk.room.find_by_id(first), Lookup::Finished);
    for never in [0, 3, 2 << 32 | 1, 1 << 32 | 2, u64::MAX] {
        assert_eq!(
            desk.room.find_by_id(OrderId(never)),
            Lookup::Unknown,
            "{never}"
        );
    }
}

#[test]
fn a_slot_whose_generations_are_used_up_is_not_handed_out_again() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.room.orders.cold[1].generation = u32::MAX;
    let last = orders::order_id(1, u32::MAX);
    assert!(matches!(desk.room.find_by_id(last), Lookup::Live(_)));
    desk.cancel(ALICE, 1);
    assert_eq!(desk.room.find_by_id(last), Lookup::Finished);
    desk.send(ALICE, SELL, 100, 5);
    assert_eq!(desk.room.order(desk.live(ALICE, 2)).order_id, OrderId(2));
    let mut bytes = Vec::new();
    desk.room.write_snapshot(&mut bytes).unwrap();
    let back = Matching::read_snapshot(&Limits::small(), &mut &bytes[..]).unwrap();
    assert_eq!(back.find_by_id(last), Lookup::Finished);
    assert_eq!(digest(&back), digest(&desk.room));
}

#[test]
fn what_an_immediate_order_does_not_get_never_rests() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.time_in_force = TimeInForce::Ioc;
    let seen = desk.send(BOB, BUY, 100, 8);
    assert_eq!(seen.last(), Some(&Seen::Ended(3)));
    assert_eq!(desk.depth(BUY), []);
    assert_eq!(desk.find(BOB, 2), Lookup::Finished);
}

#[test]
fn a_replace_that_crosses_trades_at_once() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.send(BOB, BUY, 90, 8);
    let slot = desk.live(BOB, 2);
    let seen = desk.replace(slot, Some(100), None);
    assert_eq!(fills(&seen), [(1, 100, 5)]);
    assert_eq!(desk.depth(BUY), [(100, 3, 1)]);
    assert_eq!(desk.depth(SELL), []);
    // And where nothing leaves, it is done.
    desk.send(ALICE, SELL, 110, 3);
    desk.replace(slot, Some(110), None);
    assert_eq!(desk.find(BOB, 2), Lookup::Finished);
}

#[test]
fn a_replace_leaves_its_neighbours_where_they_are() {
    let mut desk = Desk::new();
    for _ in 0..4 {
        desk.send(ALICE, BUY, 90, 2);
    }
    // From the middle, from the front, from the back.
    for (client, queue) in [(2, [1, 3, 4, 2]), (1, [3, 4, 2, 1]), (4, [3, 2, 1, 4])] {
        let slot = desk.live(ALICE, client);
        desk.replace(slot, Some(80), None);
        assert_eq!(desk.queue(BUY), queue);
    }
    assert_eq!(desk.depth(BUY), [(90, 2, 1), (80, 6, 3)]);
}

#[test]
fn less_quantity_keeps_priority_and_more_or_another_price_loses_it() {
    let mut desk = Desk::new();
    for _ in 0..3 {
        desk.send(ALICE, SELL, 100, 5);
    }
    let first = desk.live(ALICE, 1);
    desk.replace(first, None, Some(3));
    assert_eq!(desk.queue(SELL), [1, 2, 3]);
    assert_eq!(desk.depth(SELL), [(100, 13, 3)]);
    desk.replace(first, None, Some(4));
    assert_eq!(desk.queue(SELL), [2, 3, 1]);
    desk.replace(desk.live(ALICE, 2), Some(101), None);
    desk.replace(desk.live(ALICE, 2), Some(100), None);
    assert_eq!(desk.queue(SELL), [3, 1, 2]);
}

#[test]
fn a_replaced_total_counts_what_is_filled() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 10);
    desk.send(BOB, BUY, 100, 4);
    let slot = desk.live(ALICE, 1);
    for refused in [1, 4] {
        let seen = desk.replace(slot, None, Some(refused));
        assert_eq!(seen, [Seen::Refused("below what is filled")]);
    }
    desk.replace(slot, None, Some(5));
    let order = desk.room.order(slot);
    assert_eq!(
        (order.leaves.0, order.filled().0, order.quantity.0),
        (1, 4, 5)
    );
    desk.replace(slot, None, Some(20));
    let order = desk.room.order(slot);
    assert_eq!(
        (order.leaves.0, order.filled().0, order.quantity.0),
        (16, 4, 20)
    );
}

#[test]
fn a_new_client_id_is_live_and_the_old_one_finished() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 10);
    let slot = desk.live(ALICE, 1);
    desk.room.rename(slot, ClientOrderId(77));
    desk.room.audit().unwrap();
    assert_eq!(desk.find(ALICE, 77), Lookup::Live(slot));
    assert_eq!(desk.find(ALICE, 1), Lookup::Finished);
    desk.room.roll_day();
    assert_eq!(desk.find(ALICE, 77), Lookup::Live(slot));
    assert_eq!(desk.find(ALICE, 1), Lookup::Unknown);
}

#[test]
fn a_client_id_is_used_once_a_day() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 10);
    desk.send(ALICE, SELL, 100, 10);
    desk.cancel(ALICE, 1);
    for client in [1, 2] {
        desk.next_client = client;
        assert_eq!(desk.send(ALICE, SELL, 100, 1), [Seen::Refused("duplicate")]);
    }
    desk.room.roll_day();
    desk.next_client = 2;
    assert_eq!(desk.send(ALICE, SELL, 100, 1), [Seen::Refused("duplicate")]);
    desk.next_client = 1;
    assert!(matches!(
        desk.send(ALICE, SELL, 100, 1)[0],
        Seen::Entered(_)
    ));
    // Another participant's ids are its own.
    desk.next_client = 1;
    assert!(matches!(desk.send(BOB, SELL, 100, 1)[0], Seen::Entered(_)));
}

#[test]
fn a_sweep_through_every_level_is_one_loop() {
    let levels = 20_000;
    let limits = Limits {
        orders: levels + 1,
        price_levels: levels + 1,
        client_order_ids: levels + 1,
        ..Limits::small()
    };
    let mut desk = Desk::with(&limits);
    for n in 0..levels {
        let order = desk.order(ALICE, SELL, 1 + 1_000 * i64::from(n), 1);
        desk.next_client += 1;
        place(&mut desk.room, order, &mut Vec::new());
    }
    let seen = desk.send(BOB, BUY, i64::MAX, u64::from(levels));
    assert_eq!(fills(&seen).len(), levels as usize);
    assert!(fills(&seen).is_sorted_by_key(|(_, price, _)| *price));
    assert_eq!(seen.last(), Some(&Seen::Ended(0)));
    assert_eq!(desk.room.live_orders(), 0);
}

#[test]
fn a_full_table_says_so_and_nothing_has_changed() {
    let small = Limits {
        orders: 3,
        price_levels: 2,
        client_order_ids: 5,
        ..Limits::small()
    };
    let mut desk = Desk::with(&small);
    desk.send(ALICE, SELL, 100, 1);
    desk.send(ALICE, SELL, 101, 1);
    let before = digest(&desk.room);
    // Levels: a third price does not fit on either side, an order at a known one does.
    for (side, price) in [(SELL, 102), (BUY, 99)] {
        let seen = desk.send(BOB, side, price, 1);
        assert_eq!(seen, [Seen::Refused("capacity")]);
    }
    assert_eq!(digest(&desk.room), before);
    desk.send(ALICE, SELL, 101, 1);
    // An order alone at its price may take its level along; one in company may not.
    let slots = [1, 2].map(|client| desk.live(ALICE, client));
    assert_eq!(
        desk.replace(slots[1], Some(105), None),
        [Seen::Refused("capacity")]
    );
    assert!(
        desk.replace(slots[0], Some(105), None)
            .contains(&Seen::Rests(1))
    );
    // Slots.
    assert_eq!(desk.send(BOB, SELL, 101, 1), [Seen::Refused("capacity")]);
    // Ids: two more are remembered, then the window is full until the day rolls.
    for client in [1, 2, 5] {
        desk.cancel(ALICE, client);
    }
    desk.send(ALICE, SELL, 100, 1);
    desk.send(ALICE, SELL, 100, 1);
    assert_eq!(desk.send(ALICE, SELL, 100, 1), [Seen::Refused("capacity")]);
    assert!(!desk.room.has_room_for_id());
    desk.room.roll_day();
    assert!(desk.room.has_room_for_id());
    assert!(matches!(
        desk.send(ALICE, SELL, 100, 1)[0],
        Seen::Entered(_)
    ));
}

#[test]
fn fill_or_kill_takes_all_or_nothing() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.send(ALICE, SELL, 101, 5);
    desk.time_in_force = TimeInForce::Fok;
    for (price, quantity) in [(100, 6), (101, 11), (99, 1)] {
        let seen = desk.send(BOB, BUY, price, quantity);
        assert_eq!(seen.last(), Some(&Seen::Killed));
        assert_eq!(desk.depth(SELL), [(100, 5, 1), (101, 5, 1)]);
    }
    assert_eq!(
        fills(&desk.send(BOB, BUY, 101, 10)),
        [(1, 100, 5), (2, 101, 5)]
    );
}

#[test]
fn fill_or_kill_counts_only_what_it_may_trade_with() {
    use SelfTrade::*;
    // Alice's own 5 lie between 3 and 4 of Bob's.
    for (policy, reachable) in [
        (Allow, 12),
        (Default, 12),
        (CancelResting, 7),
        (CancelIncoming, 3),
        (CancelBoth, 3),
        (Decrement, 3),
    ] {
        let mut desk = Desk::new();
        desk.send(BOB, SELL, 100, 3);
        desk.send(ALICE, SELL, 100, 5);
        desk.send(BOB, SELL, 101, 4);
        desk.self_trade = policy;
        desk.time_in_force = TimeInForce::Fok;
        let depth = desk.depth(SELL);
        let seen = desk.send(ALICE, BUY, 101, reachable + 1);
        assert_eq!(seen.last(), Some(&Seen::Killed), "{policy}");
        assert_eq!(desk.depth(SELL), depth, "{policy}");
        let seen = desk.send(ALICE, BUY, 101, reachable);
        let traded: u64 = fills(&seen).iter().map(|fill| fill.2).sum();
        assert_eq!(traded, reachable, "{policy}");
        assert!(
            seen.contains(&Seen::Executed(Outcome::Filled, 0)),
            "{policy}"
        );
    }
}

#[test]
fn self_trade_prevention_follows_the_incoming_order() {
    use SelfTrade::*;
    // (policy, fills by maker, leaves of the incoming order and what becomes of it, asks left)
    type Row = (SelfTrade, &'static [(u64, i64, u64)], Seen, &'static [u64]);
    let rows: [Row; 5] = [
        (CancelIncoming, &[(1, 100, 2)], Seen::Ended(6), &[2, 3]),
        (
            CancelResting,
            &[(1, 100, 2), (3, 101, 4)],
            Seen::Rests(2),
            &[],
        ),
        (CancelBoth, &[(1, 100, 2)], Seen::Ended(6), &[3]),
        (Decrement, &[(1, 100, 2), (3, 101, 1)], Seen::Ended(0), &[3]),
        (
            Allow,
            &[(1, 100, 2), (2, 100, 5), (3, 101, 1)],
            Seen::Ended(0),
            &[3],
        ),
    ];
    for (policy, expected, end, left) in rows {
        let mut desk = Desk::new();
        desk.send(BOB, SELL, 100, 2);
        desk.send(ALICE, SELL, 100, 5);
        desk.send(BOB, SELL, 101, 4);
        desk.self_trade = policy;
        let seen = desk.send(ALICE, BUY, 101, 8);
        assert_eq!(fills(&seen), expected, "{policy}");
        assert_eq!(seen.last(), Some(&end), "{policy}");
        assert_eq!(desk.queue(SELL), left, "{policy}");
    }
}

#[test]
fn a_decremented_order_shrinks_in_total_and_is_not_filled() {
    let mut desk = Desk::new();
    desk.send(ALICE, SELL, 100, 5);
    desk.self_trade = SelfTrade::Decrement;
    let seen = desk.send(ALICE, BUY, 100, 3);
    assert!(seen.contains(&Seen::Executed(Outcome::SelfTrade, 0)));
    let order = desk.room.order(desk.live(ALICE, 1));
    assert_eq!(
        (order.quantity.0, order.leaves.0, order.filled().0),
        (2, 2, 0)
    );
    let seen = desk.send(ALICE, BUY, 100, 3);
    assert_eq!(desk.find(ALICE, 1), Lookup::Finished);
    assert_eq!(seen.last(), Some(&Seen::Rests(1)));
    let order = desk.room.order(desk.live(ALICE, 3));
    assert_eq!(
        (order.quantity.0, order.leaves.0, order.filled().0),
        (1, 1, 0)
    );
}

#[test]
fn mass_cancel_goes_by_book_side_price_and_time() {
    let mut desk = Desk::new();
    // Client ids 1 to 8, entered in an order unlike the one expected.
    for (book, side, price) in [
        (1, SELL, 100),
        (0, SELL, 101),
        (0, SELL, 100),
        (0, BUY, 50),
        (0, SELL, 100),
        (1, BUY, 60),
        (0, BUY, 51),
    ] {
        for participant in [BOB, ALICE] {
            let order = desk.order(participant, side, price, 1);
            place(&mut desk.room, NewOrder { book, ..order }, &mut Vec::new());
        }
        desk.next_client += 1;
    }
    let gone = |book, side| {
        let mut bytes = Vec::new();
        desk.room.write_snapshot(&mut bytes).unwrap();
        let mut room = Matching::read_snapshot(&Limits::small(), &mut &bytes[..]).unwrap();
        let mut gone = Vec::new();
        room.mass_cancel(ALICE, book, side, |order| {
            assert_eq!(order.participant, ALICE);
            gone.push(order.client_order_id.0);
        });
        room.audit().unwrap();
        assert_eq!(room.live_orders() as usize, 14 - gone.len());
        gone
    };
    assert_eq!(gone(None, None), [7, 4, 3, 5, 2, 6, 1]);
    assert_eq!(gone(Some(0), None), [7, 4, 3, 5, 2]);
    assert_eq!(gone(None, Some(SELL)), [3, 5, 2, 1]);
    assert_eq!(gone(Some(1), Some(BUY)), [6]);
}

#[test]
fn prices_reach_from_one_end_of_their_type_to_the_other() {
    let mut desk = Desk::new();
    let prices = [
        i64::MIN,
        i64::MIN + 1,
        -65,
        -64,
        -1,
        0,
        1,
        63,
        64,
        i64::MAX - 1,
    ];
    for price in prices {
        desk.send(ALICE, BUY, price, 1);
    }
    desk.send(ALICE, SELL, i64::MAX, 1);
    let seen: Vec<i64> = desk.depth(BUY).iter().map(|level| level.0).collect();
    assert!(seen.iter().rev().eq(prices.iter()));
    let swept = fills(&desk.send(BOB, SELL, i64::MIN, 10));
    assert!(
        swept
            .iter()
            .map(|fill| fill.1)
            .eq(prices.iter().rev().copied())
    );
    assert_eq!(
        fills(&desk.send(BOB, BUY, i64::MAX, 1)),
        [(11, i64::MAX, 1)]
    );
}

#[test]
fn a_level_holds_more_lots_than_one_order_can() {
    let mut desk = Desk::new();
    for _ in 0..3 {
        desk.send(ALICE, SELL, 100, u64::MAX);
    }
    assert_eq!(desk.depth(SELL), [(100, 3 * u128::from(u64::MAX), 3)]);
    desk.time_in_force = TimeInForce::Fok;
    assert_eq!(
        fills(&desk.send(BOB, BUY, 100, u64::MAX)),
        [(1, 100, u64::MAX)]
    );
    desk.cancel(ALICE, 2);
    assert_eq!(desk.depth(SELL), [(100, u128::from(u64::MAX), 1)]);
}

#[test]
fn a_damaged_snapshot_is_an_error_and_no_panic() {
    let mut desk = Desk::new();
    for price in [100, 101, 102] {
        desk.send(ALICE, SELL, price, 5);
    }
    desk.cancel(ALICE, 2);
    let mut bytes = Vec::new();
    desk.room.write_snapshot(&mut bytes).unwrap();
    let read = |bytes: &[u8]| Matching::read_snapshot(&Limits::small(), &mut &bytes[..]);
    assert!(read(&bytes).is_ok());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn the_audit_sees_what_is_broken() {
    type Break = (&'static str, fn(&mut Matching));
    let breaks: [Break; 10] = [
        ("a total", |room| room.ladders.levels[1].total += 1),
        ("a count", |room| room.ladders.levels[1].orders += 1),
        ("a link", |room| room.orders.hot[2].prev = 3),
        ("leaves", |room| room.orders.hot[1].leaves = 0),
        ("a best price", |room| room.books[0].sides[1].best = 2),
        ("who is behind the best", |room| {
            room.ladders.levels[1].behind = 0
        }),
        ("a client id", |room| room.ids.finish(ALICE, 1)),
        ("a chain", |room| room.orders.unchain(2)),
        ("a free slot", |room| room.orders.pool.free = 1),
        ("a count of orders", |room| {
            room.books[0].sides[1].orders -= 1
        }),
    ];
    for (what, broken) in breaks {
        let mut desk = Desk::new();
        for price in [100, 100, 101] {
            desk.send(ALICE, SELL, price, 5);
        }
        broken(&mut desk.room);
        assert!(desk.room.audit().is_err(), "{what}");
    }
}

#[test]
fn an_order_costs_at_most_128_bytes() {
    // The client id's table is filled to one half at most.
    let id = 2 * 16;
    assert_eq!(size_of::<orders::Hot>(), 32);
    assert_eq!(size_of::<orders::Cold>(), 64);
    assert!(size_of::<orders::Hot>() + size_of::<orders::Cold>() + id <= 128);
}
