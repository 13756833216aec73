//! Full tables of matching: whatever does not fit is refused by name and changes nothing, what needs
//! no room goes on, and room that is given back is used again.

use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::json::EventPrinter;
use millrace::protocol::script::ScriptParser;

/// An engine with one instrument and two participants who may owe whatever they like.
struct Exchange {
    engine: Engine,
    parser: ScriptParser,
    outbox: Outbox,
}

impl Exchange {
    fn new(limits: &Limits) -> Exchange {
        let mut exchange = Exchange {
            engine: Engine::new(limits),
            parser: ScriptParser::default(),
            outbox: Outbox::with_capacity(64),
        };
        for line in [
            r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#,
            r#"{"cmd":"create_asset","asset":2,"code":"SHARE","scale":0}"#,
            r#"{"cmd":"create_participant","participant":1,"code":"ONE"}"#,
            r#"{"cmd":"create_participant","participant":2,"code":"TWO"}"#,
            r#"{"cmd":"create_account","account":11,"participant":1,"asset":1}"#,
            r#"{"cmd":"create_account","account":12,"participant":1,"asset":2}"#,
            r#"{"cmd":"create_account","account":21,"participant":2,"asset":1}"#,
            r#"{"cmd":"create_account","account":22,"participant":2,"asset":2}"#,
            r#"{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1}"#,
            r#"{"cmd":"set_phase","phase":"open"}"#,
        ] {
            exchange.accept(line);
        }
        exchange
    }

    fn apply(&mut self, line: &str) -> String {
        let frame = self.parser.parse(line).expect(line).expect("a command");
        self.outbox.clear();
        let sequence = self.engine.sequence() + 1;
        self.engine
            .apply(sequence, frame.as_ref(), &mut self.outbox);
        let (mut printer, mut lines) = (EventPrinter::default(), String::new());
        for event in self.outbox.events() {
            printer.print(&mut lines, event);
        }
        lines
    }

    fn accept(&mut self, line: &str) {
        let events = self.apply(line);
        assert!(!events.contains("rejected"), "{line}\n{events}");
        self.engine.audit().expect(line);
    }

    /// Refused for want of room, or another `reason`, and nothing is changed.
    fn refuse(&mut self, line: &str, reason: &str) {
        let before = self.engine.digest();
        let events = self.apply(line);
        let is_refused = events.lines().all(|line| line.contains("rejected"))
            && events.contains(&format!(r#""reason":"{reason}""#));
        assert!(is_refused, "{line}\nwanted {reason}:\n{events}");
        assert_eq!(self.engine.digest(), before, "{line}");
        self.engine.audit().expect(line);
    }
}

/// A table that a few commands fill.
struct Full {
    limits: Limits,
    /// These fill it.
    fill: Vec<String>,
    /// These do not fit.
    refused: Vec<String>,
    /// These need no room.
    fits: Vec<String>,
    /// This gives back what the first refused one needs.
    free: Vec<String>,
}

impl Full {
    fn check(&self) {
        let mut exchange = Exchange::new(&self.limits);
        for line in &self.fill {
            exchange.accept(line);
        }
        for line in &self.refused {
            exchange.refuse(line, "capacity_exhausted");
        }
        for line in &self.fits {
            exchange.accept(line);
            exchange.refuse(&self.refused[0], "capacity_exhausted");
        }
        for line in &self.free {
            exchange.accept(line);
        }
        exchange.accept(&self.refused[0]);
    }
}

fn sell(id: u64, price: i64, more: &str) -> String {
    format!(
        r#"{{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":{id},"side":"sell","price":{price},"quantity":5{more}}}"#
    )
}

/// A market order, or one that waits for its stop price.
fn sell_unpriced(id: u64, more: &str) -> String {
    format!(
        r#"{{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":{id},"side":"sell","quantity":5{more}}}"#
    )
}

fn cancel(id: u64) -> String {
    format!(r#"{{"cmd":"cancel_order","participant":1,"client_order_id":{id}}}"#)
}

fn replace(id: u64, more: &str) -> String {
    format!(r#"{{"cmd":"replace_order","participant":1,"client_order_id":{id}{more}}}"#)
}

/// A list of two: one leg rests, the other waits for its stop price.
fn list(id: u64) -> String {
    let leg = |id: u64, more: &str| {
        format!(
            r#"{{"participant":1,"instrument":1,"client_order_id":{id},"side":"sell","quantity":5{more}}}"#
        )
    };
    format!(
        r#"{{"cmd":"place_order_list","contingency":"oco","orders":[{},{}]}}"#,
        leg(id, r#","price":200"#),
        leg(id + 1, r#","type":"stop","stop_price":50"#)
    )
}

fn phases(phases: &[&str]) -> Vec<String> {
    let line = |phase| format!(r#"{{"cmd":"set_phase","phase":"{phase}"}}"#);
    phases.iter().map(line).collect()
}

const STOP: &str = r#","type":"stop","stop_price":90"#;
const ICEBERG: &str = r#","display_quantity":1"#;
const GTC: &str = r#","time_in_force":"gtc""#;

#[test]
fn an_order_too_many_is_refused() {
    Full {
        limits: Limits {
            orders: 2,
            ..Limits::small()
        },
        fill: vec![sell(1, 110, ""), sell(2, 111, ICEBERG)],
        refused: vec![
            sell(3, 110, ""),
            // Also what would not stay: it has a row while it is executed.
            sell(3, 110, r#","time_in_force":"ioc""#),
            sell_unpriced(3, STOP),
            list(3),
        ],
        fits: vec![
            replace(1, r#","price":112"#),
            replace(2, r#","quantity":4"#),
        ],
        free: vec![cancel(2)],
    }
    .check();
}

#[test]
fn a_client_order_id_too_many_is_refused_until_the_day_rolls() {
    let full = Full {
        limits: Limits {
            client_order_ids: 2,
            ..Limits::small()
        },
        fill: vec![sell(1, 110, GTC), sell(2, 111, "")],
        refused: vec![
            sell(3, 110, GTC),
            replace(1, r#","new_client_order_id":3"#),
            list(3),
        ],
        // The id of a finished order is remembered.
        fits: vec![replace(1, r#","price":112"#), cancel(2)],
        free: phases(&["eod1", "closed", "sod", "open"]),
    };
    full.check();
}

#[test]
fn a_price_too_many_is_refused() {
    Full {
        limits: Limits {
            price_levels: 2,
            ..Limits::small()
        },
        fill: vec![sell(1, 110, ""), sell(2, 111, ""), sell(3, 111, "")],
        refused: vec![
            sell(4, 112, ""),
            replace(2, r#","price":112"#),
            sell_unpriced(4, STOP),
            list(4),
        ],
        fits: vec![
            sell(5, 110, ""),
            cancel(5),
            // Its own level goes with it.
            replace(1, r#","price":109"#),
            // What does not stay needs no level.
            sell(6, 112, r#","time_in_force":"ioc""#),
        ],
        free: vec![cancel(1)],
    }
    .check();
}

#[test]
fn a_special_order_too_many_is_refused() {
    Full {
        limits: Limits {
            special_orders: 2,
            ..Limits::small()
        },
        fill: vec![sell(1, 110, ICEBERG), sell_unpriced(2, STOP)],
        refused: vec![
            sell(3, 110, ICEBERG),
            sell_unpriced(3, STOP),
            sell(3, 110, r#","time_in_force":"gtd","expires_at":99"#),
            sell_unpriced(3, r#","type":"pegged","peg":"ask","offset":1"#),
            list(3),
        ],
        fits: vec![sell(4, 110, "")],
        free: vec![cancel(1)],
    }
    .check();
}

#[test]
fn a_list_enters_whole_or_not_at_all() {
    let small = Limits::small;
    for limits in [
        Limits {
            special_orders: 3,
            ..small()
        },
        Limits {
            orders: 3,
            ..small()
        },
        Limits {
            price_levels: 9,
            ..small()
        },
    ] {
        Full {
            limits,
            fill: vec![list(1)],
            refused: vec![list(3)],
            // One more order fits, two do not.
            fits: vec![
                sell(5, 110, ""),
                cancel(5),
                sell(6, 110, ICEBERG),
                cancel(6),
            ],
            // What one leg loses, the other loses.
            free: vec![cancel(1)],
        }
        .check();
    }
    Full {
        limits: Limits {
            client_order_ids: 3,
            ..small()
        },
        fill: vec![list(1)],
        refused: vec![list(3)],
        fits: vec![sell(5, 110, "")],
        free: [vec![cancel(1)], phases(&["eod1", "closed", "sod", "open"])].concat(),
    }
    .check();
}

#[test]
fn a_session_too_many_is_refused() {
    let session = |cmd: &str, session: u64| format!(r#"{{"cmd":"{cmd}","session":{session}}}"#);
    Full {
        limits: Limits {
            order_sessions: 1,
            ..Limits::small()
        },
        fill: vec![session("cancel_on_disconnect", 1)],
        refused: vec![session("cancel_on_disconnect", 2)],
        fits: vec![session("cancel_on_disconnect", 1)],
        free: vec![session("disconnect", 1)],
    }
    .check();
}

#[test]
fn an_instrument_or_a_tick_table_too_many_is_refused() {
    let instrument = |id: u32, table: u32| {
        format!(
            r#"{{"cmd":"create_instrument","instrument":{id},"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1,"tick_table":{table}}}"#
        )
    };
    let table = |id: u32, step: u32| {
        format!(
            r#"{{"cmd":"create_tick_table","tick_table":{id},"steps":[{{"from":0,"step":{step}}}]}}"#
        )
    };
    let mut exchange = Exchange::new(&Limits {
        instruments: 2,
        ..Limits::small()
    });
    exchange.refuse(&instrument(2, 7), "tick_table_not_found");
    for id in 1..=256 {
        exchange.accept(&table(id, id));
    }
    exchange.refuse(&table(257, 1), "capacity_exhausted");
    exchange.refuse(&table(256, 256), "exists");
    exchange.refuse(&table(256, 255), "exists_with_different_content");
    exchange.accept(&instrument(2, 256));
    exchange.refuse(&instrument(3, 0), "capacity_exhausted");
    exchange.refuse(&instrument(2, 256), "exists");
}
