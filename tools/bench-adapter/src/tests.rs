//! The exported functions, driven as the benchmark's harness drives them, in one process: scenarios
//! of its documented rules, and a random stream against a book of one vector.

use super::abi::{CancelMessage, Message, MessageBody, ModifyMessage, NewMessage, Report};
use super::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

const BUY: u8 = 0;
const SELL: u8 = 1;

/// The engine is one per process: tests take turns.
static TURN: Mutex<()> = Mutex::new(());

struct Harness {
    queue: *mut c_void,
    transport: Transport,
    sequence: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Harness {
    fn new() -> Harness {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the table is static.
        let transport = unsafe { *engine_get_transport() };
        let queue = (transport.create)(1_024);
        // SAFETY: table and queue belong together.
        unsafe { engine_init(7, &raw const transport, queue) };
        Harness {
            queue,
            transport,
            sequence: 0,
            _turn: turn,
        }
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn reports(&mut self) -> Vec<Report> {
        let mut all = Vec::new();
        let mut some = [Report::default(); 16];
        engine_flush();
        // SAFETY: this thread is both ends of the queue, and `some` has room for what is asked.
        unsafe {
            (self.transport.flush)(self.queue);
            loop {
                let count = (self.transport.drain)(self.queue, some.as_mut_ptr(), 16);
                if count == 0 {
                    return all;
                }
                all.extend_from_slice(&some[..count as usize]);
            }
        }
    }

    fn send(&mut self, message: &Message) -> Vec<String> {
        // SAFETY: the engine runs on this thread, and the kind says which body is there.
        unsafe {
            match message.kind {
                0 => engine_on_new_order(&raw const message.body.new),
                1 => engine_on_cancel(&raw const message.body.cancel),
                _ => engine_on_modify(&raw const message.body.modify),
            }
        }
        self.reports().iter().map(line).collect()
    }

    fn place(&mut self, order_id: u64, side: u8, quantity: u32, price: i64) -> Vec<String> {
        let sequence = self.next();
        self.send(&new(order_id, sequence, side, quantity, price, 0))
    }

    fn ioc(&mut self, order_id: u64, side: u8, quantity: u32, price: i64) -> Vec<String> {
        let sequence = self.next();
        self.send(&new(order_id, sequence, side, quantity, price, 1))
    }

    fn cancel(&mut self, order_id: u64) -> Vec<String> {
        let sequence = self.next();
        self.send(&cancel(order_id, sequence))
    }

    fn modify(&mut self, order_id: u64, side: u8, quantity: u32, price: i64) -> Vec<String> {
        let sequence = self.next();
        self.send(&modify(order_id, sequence, side, quantity, price))
    }

    fn best(&self) -> (i64, i64) {
        // SAFETY: the engine runs on this thread.
        unsafe { (engine_query_best_bid(), engine_query_best_ask()) }
    }

    fn depth(&self, side: u8, price: i64) -> u64 {
        // SAFETY: the engine runs on this thread.
        unsafe { engine_query_depth_at(price, side) }
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        engine_shutdown();
        // SAFETY: nobody uses the queue any more.
        unsafe { (self.transport.destroy)(self.queue) };
    }
}

fn new(order_id: u64, sequence: u64, side: u8, quantity: u32, price: i64, ioc: u8) -> Message {
    let new = NewMessage {
        order_id,
        sequence,
        price,
        quantity,
        side,
        ioc,
        reserved: [0; 2],
    };
    message(0, MessageBody { new })
}

fn cancel(order_id: u64, sequence: u64) -> Message {
    let cancel = CancelMessage { order_id, sequence };
    message(1, MessageBody { cancel })
}

fn modify(order_id: u64, sequence: u64, side: u8, quantity: u32, price: i64) -> Message {
    let modify = ModifyMessage {
        order_id,
        sequence,
        price,
        quantity,
        side,
        reserved: [0; 3],
    };
    message(2, MessageBody { modify })
}

fn message(kind: u8, body: MessageBody) -> Message {
    Message {
        kind,
        reserved: [0; 7],
        body,
    }
}

/// A report in words.
fn line(report: &Report) -> String {
    let &Report {
        order_id,
        price,
        quantity,
        side,
        ..
    } = report;
    match report.kind {
        0 => format!("ack {order_id} {side} {quantity}@{price}"),
        1 => format!(
            "trade {} with {} {quantity}@{price}",
            report.taker_order_id, report.maker_order_id
        ),
        2 => format!("cancelled {order_id} {side} @{price}"),
        3 => format!("modified {order_id} {side} {quantity}@{price}"),
        4 => format!("cancel rejected {order_id}"),
        5 => format!("modify rejected {order_id}"),
        _ => panic!("no such report"),
    }
}

#[test]
fn orders_trade_at_the_resting_price_first_come_first() {
    let mut h = Harness::new();
    assert_eq!(h.best(), (i64::MIN, i64::MAX));
    assert_eq!(h.place(1, SELL, 10, 101), ["ack 1 1 10@101"]);
    h.place(2, SELL, 10, 100);
    h.place(3, SELL, 10, 100);
    assert_eq!(
        h.place(4, BUY, 25, 105),
        [
            "ack 4 0 25@105",
            "trade 4 with 2 10@100",
            "trade 4 with 3 10@100",
            "trade 4 with 1 5@101"
        ]
    );
    assert_eq!(h.best(), (i64::MIN, 101));
    assert_eq!(h.depth(SELL, 101), 5);
    assert_eq!(h.depth(SELL, 100), 0);
    assert_eq!(h.cancel(1), ["cancelled 1 1 @101"]);
    assert_eq!(h.best(), (i64::MIN, i64::MAX));
}

#[test]
fn what_an_ioc_order_leaves_is_cancelled_and_what_a_limit_order_leaves_rests() {
    let mut h = Harness::new();
    h.place(1, BUY, 10, 100);
    assert_eq!(
        h.ioc(2, SELL, 15, 100),
        [
            "ack 2 1 15@100",
            "trade 2 with 1 10@100",
            "cancelled 2 1 @100"
        ]
    );
    assert_eq!(h.cancel(2), ["cancel rejected 2"]);
    h.place(3, BUY, 10, 100);
    assert_eq!(
        h.ioc(4, SELL, 10, 99),
        ["ack 4 1 10@99", "trade 4 with 3 10@100"]
    );
    h.place(5, SELL, 5, 100);
    h.place(6, BUY, 12, 102);
    assert_eq!(h.best(), (102, i64::MAX));
    assert_eq!(h.depth(BUY, 102), 7);
}

#[test]
fn cancels_and_modifies_of_what_does_not_rest_are_rejected() {
    let mut h = Harness::new();
    assert_eq!(h.cancel(999), ["cancel rejected 999"]);
    assert_eq!(
        h.cancel(u64::MAX),
        [format!("cancel rejected {}", u64::MAX)]
    );
    assert_eq!(h.modify(999, BUY, 5, 100), ["modify rejected 999"]);
    h.place(1, SELL, 10, 100);
    h.place(2, BUY, 10, 100);
    assert_eq!(h.cancel(1), ["cancel rejected 1"]);
    assert_eq!(h.modify(2, BUY, 5, 100), ["modify rejected 2"]);
    h.place(3, BUY, 10, 100);
    assert_eq!(h.cancel(3), ["cancelled 3 0 @100"]);
    assert_eq!(h.cancel(3), ["cancel rejected 3"]);
}

#[test]
fn a_modify_goes_behind_all_others_and_may_trade() {
    let mut h = Harness::new();
    h.place(1, BUY, 10, 100);
    h.place(2, BUY, 10, 100);
    assert_eq!(h.modify(1, BUY, 10, 100), ["modified 1 0 10@100"]);
    assert_eq!(
        h.ioc(3, SELL, 20, 100),
        [
            "ack 3 1 20@100",
            "trade 3 with 2 10@100",
            "trade 3 with 1 10@100"
        ]
    );
    h.place(4, SELL, 4, 100);
    h.place(5, BUY, 10, 90);
    // The fill is at the resting price, and what is left rests at the new one.
    assert_eq!(
        h.modify(5, BUY, 11, 105),
        ["trade 5 with 4 4@100", "modified 5 0 11@105"]
    );
    assert_eq!(h.best(), (105, i64::MAX));
    assert_eq!(h.depth(BUY, 105), 7);
}

#[test]
fn an_id_is_free_again_once_its_order_is_done() {
    let mut h = Harness::new();
    h.place(1, BUY, 10, 100);
    h.cancel(1);
    assert_eq!(h.place(1, SELL, 10, 200), ["ack 1 1 10@200"]);
    h.place(2, BUY, 10, 200);
    assert_eq!(h.place(2, SELL, 7, 300), ["ack 2 1 7@300"]);
    assert_eq!(h.cancel(2), ["cancelled 2 1 @300"]);
    // An id beyond the flat table.
    let far = 1 << 60;
    h.place(far, BUY, 1, i64::MIN + 1);
    assert_eq!(h.best().0, i64::MIN + 1);
    assert_eq!(
        h.cancel(far),
        [format!("cancelled {far} 0 @{}", i64::MIN + 1)]
    );
}

#[test]
fn one_order_sweeps_five_thousand() {
    let mut h = Harness::new();
    for id in 1..=5_000 {
        assert_eq!(h.place(id, SELL, 1, 100).len(), 1);
    }
    // The ring holds 1,024 reports: another thread has to take them out.
    let (queue, drain) = (h.queue as usize, h.transport.drain);
    let drainer = std::thread::spawn(move || {
        let (mut taken, mut makers) = (0, 0);
        let mut some = [Report::default(); 64];
        while taken < 5_001 {
            // SAFETY: this is the only thread that drains while it runs.
            let count = unsafe { drain(queue as *mut c_void, some.as_mut_ptr(), 64) };
            for report in &some[..count as usize] {
                assert!(report.kind == 0 || report.maker_order_id == makers + 1);
                makers = report.maker_order_id;
            }
            taken += count;
        }
        makers
    });
    let message = new(5_001, 9_999, BUY, 5_000, 100, 1);
    // SAFETY: the engine runs on this thread, which is the queue's producer.
    unsafe {
        engine_on_batch(&raw const message, 1);
        (h.transport.flush)(h.queue);
    }
    assert_eq!(drainer.join().expect("the drainer ends"), 5_000);
    assert_eq!(h.best(), (i64::MIN, i64::MAX));
}

#[test]
fn another_queue_gets_the_same_reports() {
    let own = {
        let mut h = Harness::new();
        stream(&mut h, 3, 300)
    };
    static PUSHED: Mutex<Vec<Report>> = Mutex::new(Vec::new());
    extern "C" fn create(_: u32) -> *mut c_void {
        std::ptr::null_mut()
    }
    unsafe extern "C" fn push(_: *mut c_void, report: *const Report) -> i32 {
        // SAFETY: the engine hands over a report.
        PUSHED.lock().unwrap().push(unsafe { *report });
        1
    }
    unsafe extern "C" fn drain(_: *mut c_void, _: *mut Report, _: u32) -> u32 {
        0
    }
    unsafe extern "C" fn nothing(_: *mut c_void) {}
    let other = Transport {
        create,
        push,
        drain,
        flush: nothing,
        destroy: nothing,
    };
    let mut h = Harness::new();
    engine_shutdown();
    // SAFETY: this queue is nothing but its table.
    unsafe { engine_init(0, &raw const other, std::ptr::null_mut()) };
    stream(&mut h, 3, 300);
    assert_eq!(*PUSHED.lock().unwrap(), own);
}

/// Messages of a random stream, one by one; returns what they reported.
fn stream(h: &mut Harness, seed: u64, count: usize) -> Vec<Report> {
    let mut reports = Vec::new();
    for message in random_messages(seed, count) {
        // SAFETY: the engine runs on this thread.
        unsafe { engine_on_batch(&raw const message, 1) };
        reports.extend(h.reports());
    }
    reports
}

fn random_messages(seed: u64, count: usize) -> Vec<Message> {
    let mut state = seed;
    let mut below = move |n: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    (0..count as u64)
        .map(|at| {
            let id = 1 + below(40);
            let side = (id % 2) as u8;
            let (quantity, price) = (1 + below(9) as u32, 95 + below(10) as i64);
            match below(10) {
                0..5 => new(
                    at + 1_000,
                    at,
                    side,
                    quantity,
                    price,
                    u8::from(below(6) == 0),
                ),
                5 => new(id, at, side, quantity, price, 1),
                6..8 => cancel(1_000 + below(at + 1), at),
                _ => {
                    let order_id = 1_000 + below(at + 1);
                    // The side is the order's own: the model fills it in.
                    modify(order_id, at, 2, quantity, price)
                }
            }
        })
        .collect()
}

/// A book of one vector: oldest first.
#[derive(Default)]
struct Model {
    resting: Vec<NewMessage>,
}

impl Model {
    fn trade(&mut self, order: &mut NewMessage, said: &mut Vec<String>) {
        while order.quantity > 0 {
            let meets = |maker: &NewMessage| {
                maker.side != order.side
                    && match order.side {
                        BUY => maker.price <= order.price,
                        _ => maker.price >= order.price,
                    }
            };
            let better = |price: i64| match order.side {
                BUY => price,
                _ => -price,
            };
            let found = (0..self.resting.len())
                .filter(|at| meets(&self.resting[*at]))
                .min_by_key(|at| (better(self.resting[*at].price), *at));
            let Some(at) = found else { break };
            let maker = &mut self.resting[at];
            let quantity = maker.quantity.min(order.quantity);
            maker.quantity -= quantity;
            order.quantity -= quantity;
            said.push(format!(
                "trade {} with {} {quantity}@{}",
                order.order_id, maker.order_id, maker.price
            ));
            if maker.quantity == 0 {
                self.resting.remove(at);
            }
        }
    }

    fn run(&mut self, message: &mut Message) -> Vec<String> {
        let mut said = Vec::new();
        // SAFETY: the kind says which body is there.
        unsafe {
            match message.kind {
                0 => {
                    let mut order = message.body.new;
                    said.push(format!(
                        "ack {} {} {}@{}",
                        order.order_id, order.side, order.quantity, order.price
                    ));
                    self.trade(&mut order, &mut said);
                    if order.quantity > 0 && order.ioc == 0 {
                        self.resting.push(order);
                    } else if order.quantity > 0 {
                        said.push(format!(
                            "cancelled {} {} @{}",
                            order.order_id, order.side, order.price
                        ));
                    }
                }
                1 => {
                    let id = message.body.cancel.order_id;
                    match self.resting.iter().position(|order| order.order_id == id) {
                        Some(at) => {
                            let order = self.resting.remove(at);
                            let (side, price) = (order.side, order.price);
                            said.push(format!("cancelled {id} {side} @{price}"));
                        }
                        None => said.push(format!("cancel rejected {id}")),
                    }
                }
                _ => {
                    let modify = &mut message.body.modify;
                    let id = modify.order_id;
                    match self.resting.iter().position(|order| order.order_id == id) {
                        Some(at) => {
                            let mut order = self.resting.remove(at);
                            modify.side = order.side;
                            order.price = modify.price;
                            order.quantity = modify.quantity;
                            self.trade(&mut order, &mut said);
                            if order.quantity > 0 {
                                self.resting.push(order);
                            }
                            said.push(format!(
                                "modified {id} {} {}@{}",
                                modify.side, modify.quantity, modify.price
                            ));
                        }
                        None => said.push(format!("modify rejected {id}")),
                    }
                }
            }
        }
        said
    }

    fn best(&self) -> (i64, i64) {
        let prices = |side| {
            let of_side = self.resting.iter().filter(move |order| order.side == side);
            of_side.map(|order| order.price)
        };
        (
            prices(BUY).max().unwrap_or(i64::MIN),
            prices(SELL).min().unwrap_or(i64::MAX),
        )
    }

    fn depth(&self, side: u8, price: i64) -> u64 {
        let at = |order: &&NewMessage| order.side == side && order.price == price;
        let there = self.resting.iter().filter(at);
        there.map(|order| u64::from(order.quantity)).sum()
    }
}

#[test]
fn random_messages_do_what_a_book_of_one_vector_does() {
    for seed in 1..=3 {
        let mut h = Harness::new();
        let mut model = Model::default();
        for (at, mut message) in random_messages(seed, 2_000).into_iter().enumerate() {
            let expected = model.run(&mut message);
            let said = h.send(&message);
            assert_eq!(said, expected, "seed {seed}, message {at}");
            assert_eq!(h.best(), model.best(), "seed {seed}, message {at}");
            for (side, price) in [(BUY, 99), (SELL, 99), (BUY, 100), (SELL, 101)] {
                assert_eq!(
                    h.depth(side, price),
                    model.depth(side, price),
                    "seed {seed}, message {at}"
                );
            }
        }
    }
}

#[test]
fn every_resting_order_is_found_while_others_come_and_go() {
    let mut h = Harness::new();
    // Counted up, counted in the upper bits, and scattered: ids share homes, and the table grows.
    let ids = |n: u64| {
        [
            n,
            (n + 1) << 48,
            n.wrapping_mul(0x9fb2_1c65_1e98_df25) | 1 << 40,
        ]
    };
    for n in 0..3_000 {
        for id in ids(n) {
            assert_eq!(
                h.place(id, BUY, 1, n as i64),
                [format!("ack {id} {BUY} 1@{n}")]
            );
        }
    }
    for n in (0..3_000).step_by(3) {
        for id in ids(n) {
            assert_eq!(h.cancel(id), [format!("cancelled {id} {BUY} @{n}")]);
        }
    }
    for n in 0..3_000 {
        for id in ids(n) {
            let said = match n % 3 {
                0 => format!("cancel rejected {id}"),
                _ => format!("cancelled {id} {BUY} @{n}"),
            };
            assert_eq!(h.cancel(id), [said]);
        }
    }
    assert_eq!(h.best(), (i64::MIN, i64::MAX));
}

#[test]
fn reports_wait_in_order_for_a_publisher_that_falls_behind() {
    let asked = 4 * reports::SLOTS as u64;
    // SAFETY: the table is static.
    let transport = unsafe { *engine_get_transport() };
    let queue = (transport.create)(asked as u32);
    let (mut pushed, mut drained) = (0, 0);
    let mut some = vec![Report::default(); 3_000];
    let mut push = |count: u64| {
        for _ in 0..count {
            let report = Report {
                sequence: pushed,
                order_id: pushed * 3,
                ..Report::default()
            };
            // SAFETY: this thread is both ends of the queue.
            assert_eq!(unsafe { (transport.push)(queue, &raw const report) }, 1);
            pushed += 1;
        }
    };
    let mut drain = |max: usize| {
        // SAFETY: as above, and `some` has room for that many.
        let count = unsafe { (transport.drain)(queue, some.as_mut_ptr(), max as u32) };
        for report in &some[..count as usize] {
            assert_eq!((report.sequence, report.order_id), (drained, drained * 3));
            drained += 1;
        }
        drained
    };
    // As many as were asked for, with nobody there to take them.
    push(asked);
    // Then as many taken as come, several times around the ring and the outbox.
    for _ in 0..200 {
        drain(3_000);
        push(3_000);
    }
    // A flush does not wait for the publisher. What comes behind it waits for its turn.
    // SAFETY: this thread is both ends of the queue.
    unsafe { (transport.flush)(queue) };
    push(2 * reports::SLOTS as u64);
    drain(3_000);
    push(100);
    let all = asked + 200 * 3_000 + 2 * reports::SLOTS as u64 + 100;
    let address = queue as usize;
    std::thread::scope(|threads| {
        // SAFETY: that thread alone produces now, and this one consumes.
        threads.spawn(move || unsafe { (transport.flush)(address as *mut c_void) });
        while drain(3_000) < all {
            std::hint::spin_loop();
        }
    });
    assert_eq!(drain(3_000), all);
    // SAFETY: nobody uses the queue any more.
    unsafe { (transport.destroy)(queue) };
}
