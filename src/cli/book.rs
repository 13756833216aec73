//! `millrace client watch book`: a book, drawn in the terminal and drawn again when it changes.

use crate::protocol::event::Event;
use crate::protocol::frame::EventSlot;
use std::fmt::Write;

/// Width of the bar of the largest level, characters.
const BAR: usize = 24;

/// Asks best first, one line a level, the best of both sides in the middle; lots as bars beside
/// prices. An answer that is no book is drawn as nothing.
pub(super) fn draw(answer: &[EventSlot]) -> String {
    let mut text = String::new();
    let mut levels: [Vec<(i64, u64, u32)>; 2] = [Vec::new(), Vec::new()];
    for slot in answer {
        match slot.event() {
            Some(Event::Book(book)) => {
                let _ = writeln!(
                    text,
                    "instrument {}  {}  after command {}",
                    book.instrument, book.phase, slot.header.sequence
                );
            }
            Some(Event::BookLevel(level)) => {
                let row = (level.price.0, level.quantity.0, level.orders);
                levels[level.side as usize].push(row);
            }
            _ => {}
        }
    }
    let most = levels.iter().flatten().map(|level| level.1).max();
    let most = most.unwrap_or(1).max(1);
    let [bids, asks] = levels;
    let _ = writeln!(text, "{:>12} {:>14} {:>7}", "price", "lots", "orders");
    let asks = asks.iter().rev().map(|level| ("ask", level));
    for (side, (price, lots, orders)) in asks.chain(bids.iter().map(|level| ("bid", level))) {
        let width = (u128::from(*lots) * BAR as u128).div_ceil(u128::from(most)) as usize;
        let mark = if side == "ask" { "-" } else { "+" };
        let _ = writeln!(
            text,
            "{price:>12} {lots:>14} {orders:>7}  {side} {}",
            mark.repeat(width)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Limits, Outbox};
    use crate::protocol::script::ScriptParser;

    #[test]
    fn asks_stand_above_bids_and_the_largest_level_is_widest() {
        let mut engine = Engine::new(&Limits::small());
        let mut out = Outbox::with_capacity(16);
        let mut parser = ScriptParser::default();
        let setup = [
            r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#,
            r#"{"cmd":"create_asset","asset":2,"code":"S","scale":0}"#,
            r#"{"cmd":"create_participant","participant":1,"code":"A"}"#,
            r#"{"cmd":"create_account","account":1,"participant":1,"asset":1}"#,
            r#"{"cmd":"create_account","account":2,"participant":1,"asset":2}"#,
            r#"{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1}"#,
            r#"{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":1,"side":"buy","price":9,"quantity":4}"#,
            r#"{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":2,"side":"sell","price":11,"quantity":1}"#,
            r#"{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":3,"side":"sell","price":12,"quantity":2}"#,
        ];
        for line in setup {
            let frame = parser.parse(line).unwrap().unwrap();
            engine.apply(engine.sequence() + 1, frame.as_ref(), &mut out);
        }
        out.clear();
        let query = r#"{"cmd":"query_book","instrument":1}"#;
        let frame = parser.parse(query).unwrap().unwrap();
        engine.query(frame.as_ref(), &mut out);
        let drawn = draw(out.events());
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], "instrument 1  continuous  after command 9");
        let prices: Vec<&str> = lines[2..]
            .iter()
            .map(|line| line.split_whitespace().next().unwrap())
            .collect();
        assert_eq!(prices, ["12", "11", "9"]);
        assert_eq!(lines[4].matches('+').count(), BAR);
        assert_eq!(lines[2].matches('-').count(), BAR / 2);
        assert_eq!(lines[3].matches('-').count(), BAR / 4);
    }
}
