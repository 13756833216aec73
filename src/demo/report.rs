//! What an operator wants to read after the day: what settled how, what it cost in liquidity, how
//! long it took, and the proof that nothing was lost.

use super::day::Day;
use super::play::{Outcome, Stage};
use crate::bench::{human, machine};
use std::fmt::Write as _;
use std::time::Duration;

/// The state before the kill and after the recovery.
pub struct Proof {
    /// Digest and sequence.
    pub before: ([u8; 32], u64),
    /// Digest and sequence.
    pub after: ([u8; 32], u64),
    /// From the start of the new process to its first answer.
    pub recovery: Duration,
    /// Records and bytes of the journal, every byte checked.
    pub verified: (u64, u64),
}

/// The whole report, plain text.
pub fn write(day: &Day, outcome: &Outcome, proof: &Proof) -> String {
    let mut out = String::new();
    payments(&mut out, day, outcome);
    liquidity(&mut out, day, outcome);
    orders(&mut out, outcome);
    latency(&mut out, outcome);
    self::proof(&mut out, proof);
    out
}

/// Minor units as millions of euros.
fn millions(minor: u128) -> String {
    format!("{:.1} M EUR", minor as f64 / 1e8)
}

fn payments(out: &mut String, day: &Day, outcome: &Outcome) {
    let _ = writeln!(out, "\nPayments");
    let total = day.payment_value.max(1) as f64;
    for (by, (count, value)) in &outcome.settled {
        let share = 100.0 * *value as f64 / total;
        let _ = writeln!(
            out,
            "  settled by {:<9} {count:>8}  {:>18}  {share:>5.1} %",
            by.name(),
            millions(*value)
        );
    }
    let (count, value) = outcome.unsettled;
    let share = 100.0 * value as f64 / total;
    let _ = writeln!(
        out,
        "  rejected at the end  {count:>8}  {:>18}  {share:>5.1} %",
        millions(value)
    );
    let _ = writeln!(
        out,
        "  waited at some time  {:>8}  at most {} at once, worth {}",
        outcome.queued,
        outcome.queue_peak.0,
        millions(outcome.queue_peak.1)
    );
    let _ = writeln!(
        out,
        "  gridlock runs that settled something: {}",
        outcome.gridlocks
    );
}

fn liquidity(out: &mut String, day: &Day, outcome: &Outcome) {
    let settled: u128 = outcome.settled.values().map(|(_, value)| value).sum();
    let _ = writeln!(out, "\nLiquidity");
    let _ = writeln!(out, "  brought in           {:>18}", millions(day.opening));
    let _ = writeln!(out, "  settled with it      {:>18}", millions(settled));
    let _ = writeln!(
        out,
        "  turnover             {:>17.1}x  (each euro was used that often)",
        settled as f64 / day.opening.max(1) as f64
    );
    let _ = writeln!(
        out,
        "  net lower bound      {:>18}  (if every payment met every other)",
        millions(day.net_lower_bound)
    );
}

fn orders(out: &mut String, outcome: &Outcome) {
    let (fills, lots, value) = outcome.trades;
    let _ = writeln!(out, "\nTrading, every fill delivery versus payment");
    let _ = writeln!(
        out,
        "  orders {}, fills {fills}, shares {lots}",
        outcome.orders
    );
    let _ = writeln!(
        out,
        "  turnover {}, fees {:.2} EUR",
        millions(value),
        outcome.fees as f64 / 100.0
    );
    for (reason, count) in &outcome.refused {
        let _ = writeln!(out, "  refused {count}: {reason}");
    }
}

fn latency(out: &mut String, outcome: &Outcome) {
    let _ = writeln!(
        out,
        "\nLatency from planned moment to reply on disk ({})",
        machine()
    );
    let _ = writeln!(
        out,
        "  {:<12}{:>10}{:>10}{:>10}{:>10}",
        "", "p50", "p99", "p99.9", "max"
    );
    for (name, Stage(stage)) in [
        ("request", &outcome.request),
        ("processing", &outcome.processing),
        ("response", &outcome.response),
        ("sum", &outcome.total),
    ] {
        let at = |quantile| human(stage.value_at_quantile(quantile));
        let _ = writeln!(
            out,
            "  {name:<12}{:>10}{:>10}{:>10}{:>10}",
            at(0.5),
            at(0.99),
            at(0.999),
            human(stage.max())
        );
    }
    let _ = writeln!(
        out,
        "  {} commands in {:.1} s, {:.0}/s; at most {} in flight",
        outcome.commands,
        outcome.elapsed.as_secs_f64(),
        outcome.commands as f64 / outcome.elapsed.as_secs_f64().max(1e-9),
        outcome.in_flight_peak
    );
}

fn proof(out: &mut String, proof: &Proof) {
    let hex =
        |digest: &[u8; 32]| -> String { digest.iter().map(|byte| format!("{byte:02x}")).collect() };
    let _ = writeln!(out, "\nProof");
    let _ = writeln!(
        out,
        "  before kill -9   {}  at command {}",
        hex(&proof.before.0),
        proof.before.1
    );
    let _ = writeln!(
        out,
        "  after recovery   {}  at command {}",
        hex(&proof.after.0),
        proof.after.1
    );
    let verdict = if proof.before == proof.after {
        "equal: nothing lost, nothing invented"
    } else {
        "DIFFERENT"
    };
    let _ = writeln!(out, "  {verdict}");
    let (records, bytes) = proof.verified;
    let _ = writeln!(
        out,
        "  recovered in {:.2} s; journal of {records} records, {:.1} MB, every byte checked",
        proof.recovery.as_secs_f64(),
        bytes as f64 / 1e6
    );
}
