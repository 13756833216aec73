//! `millrace client watch book`: a book drawn in the terminal, in place, each time it changes.
//!
//! ```text
//! instrument 7   continuous                                        command 48,213
//! last 100, 5 lots sold   spread 2
//!  orders       lots                      bid   ask                      lots orders
//!       2         40  ############         99   101  ####                  12      1
//!       1         10  ###                  98   102  ############          40      3
//! trades  100 x 5 sold   101 x 2 bought
//! ```
//! It asks for the whole book a few times a second, so there is nothing to lose and nothing to build
//! up again; only the trades in the last line come as they happen.

use super::terminal::{grouped, paint};
use crate::protocol::command::{InstrumentPhase, Side};
use crate::protocol::event::{Event, Trade};
use crate::protocol::frame::EventSlot;
use std::collections::VecDeque;
use std::fmt::Write;

/// Width of the bar of the largest level, characters.
const BAR: usize = 12;
/// Trades in the last line.
const TRADES: usize = 5;

const GREEN: &str = "32";
const RED: &str = "31";
const BOLD: &str = "1";

/// Price, lots and orders of a level.
type Level = (i64, u64, u32);

/// The trades of one instrument that a watcher has heard of, the last first.
#[derive(Default)]
pub(super) struct Tape {
    trades: VecDeque<(i64, u64, Side)>,
}

impl Tape {
    /// Hears of an event.
    pub(super) fn hear(&mut self, slot: &EventSlot) {
        if let Some(Event::Trade(Trade {
            price,
            quantity,
            taker_side,
            ..
        })) = slot.event()
        {
            self.trades.truncate(TRADES - 1);
            self.trades.push_front((price.0, quantity.0, *taker_side));
        }
    }
}

/// One line a level, bids to the left and asks to the right, the best on top, lots as bars; above
/// them the phase, the last price and what an auction would do, below them the last trades. An
/// answer that is no book is drawn as nothing.
pub(super) fn draw(answer: &[EventSlot], tape: &Tape) -> String {
    let mut text = String::new();
    let mut levels: [Vec<Level>; 2] = [Vec::new(), Vec::new()];
    let mut head = None;
    for slot in answer {
        match slot.event() {
            Some(Event::Book(book)) => head = Some((*book, slot.header.sequence)),
            Some(Event::BookLevel(level)) => {
                let row = (level.price.0, level.quantity.0, level.orders);
                levels[level.side as usize].push(row);
            }
            _ => {}
        }
    }
    let Some((book, sequence)) = head else {
        return text;
    };
    let [bids, asks] = levels;
    let phase = paint(&format!("{:<18}", book.phase.to_string()), BOLD);
    let after = format!("command {}", grouped(sequence));
    let _ = writeln!(
        text,
        "instrument {:<10} {phase} {after:>38}",
        book.instrument
    );
    let mut facts = Vec::new();
    facts.push(match tape.trades.front() {
        Some((price, lots, side)) => format!("last {}", trade(*price, *lots, *side)),
        None if book.has_traded.is_yes() => format!("last {}", book.last_price),
        None => "no trade yet".into(),
    });
    let is_continuous = book.phase == InstrumentPhase::Continuous;
    match (bids.first(), asks.first()) {
        (Some(bid), Some(ask)) if is_continuous => {
            facts.push(format!("spread {}", i128::from(ask.0) - i128::from(bid.0)));
        }
        _ => {}
    }
    if book.indicative_volume.0 > 0 {
        let what = format!(
            "an auction would trade {} lots at {}",
            grouped(book.indicative_volume.0),
            book.indicative_price
        );
        facts.push(paint(&what, BOLD));
    } else if !matches!(
        book.phase,
        InstrumentPhase::Continuous | InstrumentPhase::Closed | InstrumentPhase::Halted
    ) {
        facts.push("nothing crosses".into());
    }
    let _ = writeln!(text, "{}", facts.join("   "));
    let _ = writeln!(
        text,
        "{:>7} {:>10}  {:<BAR$} {:>10}   {:<10} {:<BAR$} {:>10} {:>7}",
        "orders", "lots", "", "bid", "ask", "", "lots", "orders"
    );
    let most = bids.iter().chain(&asks).map(|level| level.1).max();
    let most = most.unwrap_or(1).max(1);
    for at in 0..bids.len().max(asks.len()) {
        let _ = writeln!(
            text,
            "{}   {}",
            bid_side(bids.get(at), most),
            ask_side(asks.get(at), most)
        );
    }
    if bids.is_empty() && asks.is_empty() {
        let _ = writeln!(text, "{:^87}", "no orders");
    }
    if !tape.trades.is_empty() {
        let all = tape.trades.iter().map(|it| trade(it.0, it.1, it.2));
        let _ = writeln!(text, "trades  {}", all.collect::<Vec<_>>().join("   "));
    }
    text
}

/// A picture in place of the one before: from the top, each line over the old one, so that nothing
/// is blank in between.
pub(super) fn in_place(picture: &str, is_first: bool) -> String {
    let clear = if is_first { "\x1b[2J" } else { "" };
    let lines = picture.replace('\n', "\x1b[K\n");
    format!("{clear}\x1b[H{lines}\x1b[J")
}

fn trade(price: i64, lots: u64, side: Side) -> String {
    let (what, style) = match side {
        Side::Buy => ("bought", GREEN),
        Side::Sell => ("sold", RED),
    };
    paint(&format!("{price} x {} {what}", grouped(lots)), style)
}

fn bar(lots: u64, most: u64) -> String {
    "#".repeat((u128::from(lots) * BAR as u128).div_ceil(u128::from(most)) as usize)
}

fn bid_side(level: Option<&Level>, most: u64) -> String {
    let Some((price, lots, orders)) = level else {
        return " ".repeat(7 + 1 + 10 + 2 + BAR + 1 + 10);
    };
    let bar = format!("{:<BAR$}", bar(*lots, most));
    format!(
        "{:>7} {:>10}  {} {}",
        grouped(u64::from(*orders)),
        grouped(*lots),
        paint(&bar, GREEN),
        paint(&format!("{price:>10}"), GREEN)
    )
}

fn ask_side(level: Option<&Level>, most: u64) -> String {
    let Some((price, lots, orders)) = level else {
        return String::new();
    };
    let bar = format!("{:<BAR$}", bar(*lots, most));
    format!(
        "{} {} {:>10} {:>7}",
        paint(&format!("{price:<10}"), RED),
        paint(&bar, RED),
        grouped(*lots),
        grouped(u64::from(*orders))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, Limits, Outbox};
    use crate::protocol::script::ScriptParser;

    #[test]
    fn bids_face_asks_best_first_and_the_largest_level_is_widest() {
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
        let drawn = draw(out.events(), &Tape::default());
        let lines: Vec<Vec<&str>> = drawn
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(lines[0], ["instrument", "1", "continuous", "command", "9"]);
        assert_eq!(lines[1], ["no", "trade", "yet", "spread", "2"]);
        let wide = "#".repeat(BAR);
        assert_eq!(
            lines[3],
            ["1", "4", &wide, "9", "11", &wide[..BAR / 4], "1", "1"]
        );
        assert_eq!(lines[4], ["12", &wide[..BAR / 2], "2", "1"]);
        assert_eq!(lines.len(), 5);
        // In place, every line covers what was there, and what was below is gone.
        let again = in_place(&drawn, false);
        assert_eq!(again.matches("\x1b[K\n").count(), 5);
        assert!(again.starts_with("\x1b[H") && again.ends_with("\x1b[J"));
    }
}
