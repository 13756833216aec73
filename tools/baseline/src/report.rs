//! Both columns, side by side.

use crate::payments::Played;
use crate::usual::Lapsed;
use serde_json::json;

/// One row: both sides with as many clients.
pub struct Row {
    /// Clients, each with one payment in flight.
    pub clients: u32,
    /// The usual design.
    pub usual: Played,
    /// Millrace.
    pub ours: Played,
}

/// Prints the table as Markdown, so that it can be pasted where it is to be read.
pub fn print(rows: &[Row], lapsed: &Lapsed) {
    println!(
        "| clients | | payments/s | p50 | p99 | p99.9 | max | settled | double spends tried | prevented |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        print_side(row.clients, "lock + broker + SQL", &row.usual);
        print_side(row.clients, "Millrace", &row.ours);
        let ratio = per_second(&row.ours) / per_second(&row.usual);
        let tail = at(&row.usual, 0.99) as f64 / at(&row.ours, 0.99) as f64;
        println!(
            "| | ratio | {ratio:.0}x | {:.0}x | {tail:.0}x | | | | | |",
            at(&row.usual, 0.5) as f64 / at(&row.ours, 0.5) as f64
        );
    }
    println!();
    println!(
        "A lock that lapses while its holder pauses, rows not locked in the database: {} of {} accounts were spent twice.",
        lapsed.spent_twice, lapsed.tried
    );
}

fn print_side(clients: u32, name: &str, played: &Played) {
    println!(
        "| {clients} | {name} | {} | {} | {} | {} | {} | {} of {} | {} | {} |",
        grouped(per_second(played) as u64),
        time(at(played, 0.5)),
        time(at(played, 0.99)),
        time(at(played, 0.999)),
        time(played.latency.max()),
        played.settled,
        played.answered,
        played.tried,
        played.prevented,
    );
}

/// Prints the same as JSON.
pub fn print_json(rows: &[Row], lapsed: &Lapsed) {
    let side = |played: &Played| {
        json!({
            "payments_per_second": per_second(played),
            "p50_ns": at(played, 0.5), "p99_ns": at(played, 0.99), "p999_ns": at(played, 0.999),
            "max_ns": played.latency.max(), "answered": played.answered, "settled": played.settled,
            "double_spends_tried": played.tried, "double_spends_prevented": played.prevented,
        })
    };
    let rows: Vec<_> = rows
        .iter()
        .map(|row| json!({"clients": row.clients, "usual": side(&row.usual), "millrace": side(&row.ours)}))
        .collect();
    let lapsed = json!({"tried": lapsed.tried, "spent_twice": lapsed.spent_twice});
    println!("{}", json!({"rows": rows, "lapsed_locks": lapsed}));
}

fn per_second(played: &Played) -> f64 {
    played.answered as f64 / played.elapsed.as_secs_f64()
}

fn at(played: &Played, quantile: f64) -> u64 {
    played.latency.value_at_quantile(quantile)
}

fn time(ns: u64) -> String {
    match ns {
        0..1_000_000 => format!("{:.0} us", ns as f64 / 1e3),
        1_000_000..10_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
