//! A study in words, as JSON and as a table for a spreadsheet.

use super::bounds::{Level, Scale, ratio};
use super::day::Day;
use super::input::clock;
use super::measures::{MECHANISMS, Measures, Sum};
use super::play::{Played, Rules};
use super::{EqualDelay, Study};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Where the day came from, and what its money is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// As in "seed 1" or "from payments.csv".
    pub source: String,
    /// The currency's code.
    pub currency: String,
}

/// Short names of the rules, in JSON and tables.
pub fn name_of(rules: Rules) -> &'static str {
    match rules {
        Rules::Plain => "without",
        Rules::Saving(_) => "with",
        Rules::Batches(..) => "with_batches",
    }
}

/// Names of the rules for people.
pub fn title_of(rules: Rules) -> &'static str {
    match rules {
        Rules::Plain => "without liquidity saving",
        Rules::Saving(_) => "with liquidity saving",
        Rules::Batches(..) => "with liquidity saving and solver batches",
    }
}

/// What a level is a percentage of.
fn scale_words(scale: Scale) -> &'static str {
    match scale {
        Scale::OfUpper => "% of upper bound",
        Scale::Between => "% of the way from lower to upper bound",
    }
}

/// The day in one line.
pub fn day_line(day: &Day, origin: &Origin) -> String {
    format!(
        "{} payments of {} participants, {} to {}, {}",
        grouped(day.payments.len() as u64),
        grouped(day.participants.into()),
        clock(day.hours.opens_at),
        clock(day.hours.closes_at),
        origin.source
    )
}

/// The place of the rules that save liquidity among those played: what every node does by itself.
pub(super) const SAVING: usize = 1;

/// What a board wants to know first, if the study can say it: the saving at the middle level.
pub fn headline(study: &Study) -> Option<String> {
    let saving = SAVING;
    let row = middle_row(study)?;
    let level = study.rows[row].level;
    let minutes = study.rows[row].plays[0].measures.delay_minutes();
    let (less, at) = match study.level_of_equal_delay(row, saving) {
        EqualDelay::At(at) => ("", at),
        EqualDelay::AtMost(at) => ("at least ", at),
        EqualDelay::Never => return None,
    };
    let saved = 100.0 * (1.0 - at / level.percent());
    (saved > 0.0).then(|| {
        format!(
            "With liquidity saving the same day needs {less}{saved:.0} % less liquidity for the same delay ({minutes:.0} minutes): {at:.0} instead of {level} {}.",
            scale_words(study.plan.scale)
        )
    })
}

/// The middle one of the levels at which something waits without liquidity saving.
pub(super) fn middle_row(study: &Study) -> Option<usize> {
    let waits = |row: &&super::Row| row.plays[0].measures.waited > 0 && row.level.0 > 0;
    let levels: Vec<Level> = study
        .rows
        .iter()
        .filter(waits)
        .map(|row| row.level)
        .collect();
    let middle = *levels.get(levels.len() / 2)?;
    study.rows.iter().position(|row| row.level == middle)
}

/// The study in lines.
pub fn lines(day: &Day, origin: &Origin, study: &Study) -> Vec<String> {
    let money = |minor: u128| format!("{} {}", human(minor), origin.currency);
    let (value, bounds) = (day.value(), &study.bounds);
    let (median, largest) = day.median_and_largest();
    let (upper, lower) = (bounds.upper_sum(), bounds.lower_sum());
    let mut lines = vec![
        day_line(day, origin),
        format!(
            "value {}, median {}, largest {}",
            money(value),
            money(median),
            money(largest)
        ),
        format!(
            "upper bound of liquidity {} ({:.1} % of value): everything settles when it is submitted",
            money(upper),
            100.0 * ratio(upper, value)
        ),
        format!(
            "lower bound of liquidity {} ({:.1} % of the upper): with less, not everything can settle",
            money(lower),
            100.0 * bounds.lower_share()
        ),
    ];
    for (at, rules) in study.plan.rules().into_iter().enumerate() {
        lines.push(String::new());
        lines.push(format!("{}{}", title_of(rules), rules_words(rules)));
        lines.extend(table(study, at));
    }
    lines.push(String::new());
    lines.extend(equal_delays(study));
    if let Some(headline) = headline(study) {
        lines.push(String::new());
        lines.push(headline);
    }
    lines
}

/// What the rules are, behind their title.
fn rules_words(rules: Rules) -> String {
    match rules {
        Rules::Plain => ": every queue strictly in order".to_string(),
        Rules::Saving(saving) => format!(
            ": bypass, offset at entry, {} every {} s",
            saving.algorithm,
            f64::from(saving.every_ms) / 1e3
        ),
        Rules::Batches(_, batches) => format!(
            ": the same, and batches every {} s",
            f64::from(batches.every_ms) / 1e3
        ),
    }
}

fn table(study: &Study, rules: usize) -> Vec<String> {
    let shown = shown_mechanisms(study, rules);
    let mut head = format!(
        "{:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} |",
        "liquidity", "provided", "turnover", "delay", "delay", "queue", "unsettled", "unsettled"
    );
    let mut units = format!(
        "{:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} |",
        "level %", "", "ratio", "0 to 1", "minutes", "peak", "value %", "payments"
    );
    for mechanism in &shown {
        let _ = write!(head, " {:>9}", MECHANISMS[*mechanism].name());
        let _ = write!(units, " {:>9}", "value %");
    }
    let rows = study.rows.iter().map(|row| {
        let measures = &row.plays[rules].measures;
        let mut line = format!(
            "{:>9} {:>9} {:>8.1} {:>9.4} {:>9.1} {:>9} {:>9.2} {:>9} |",
            row.level.to_string(),
            human(measures.provided),
            measures.turnover_ratio(),
            measures.delay(),
            measures.delay_minutes(),
            human(measures.queue_peak.value),
            100.0 * measures.unsettled_share(),
            grouped(measures.unsettled().count)
        );
        for mechanism in &shown {
            let _ = write!(line, " {:>9.2}", 100.0 * value_share(measures, *mechanism));
        }
        line
    });
    [head, units].into_iter().chain(rows).collect()
}

/// The mechanisms that settled anything at any level.
fn shown_mechanisms(study: &Study, rules: usize) -> Vec<usize> {
    let settled = |place: usize| {
        let by = |row: &super::Row| row.plays[rules].measures.settled_by[place].count;
        study.rows.iter().any(|row| by(row) > 0)
    };
    (0..MECHANISMS.len())
        .filter(|place| settled(*place))
        .collect()
}

/// What a mechanism settled of the day's value, 0 to 1.
pub fn value_share(measures: &Measures, mechanism: usize) -> f64 {
    ratio(measures.settled_by[mechanism].value, measures.all.value)
}

/// By level: where the same delay is reached with liquidity saving.
fn equal_delays(study: &Study) -> Vec<String> {
    let rules = study.plan.rules();
    let mut lines = Vec::new();
    for (other, rules) in rules.iter().enumerate().skip(1) {
        let mut line = format!("the same delay {}, level %:", title_of(*rules));
        for (at, row) in study.rows.iter().enumerate() {
            let level = match study.level_of_equal_delay(at, other) {
                EqualDelay::At(level) => format!("{level:.1}"),
                EqualDelay::AtMost(level) => format!("{level} or less"),
                EqualDelay::Never => "never".into(),
            };
            let _ = write!(line, "  {} -> {level}", row.level);
        }
        lines.push(line);
    }
    lines
}

/// The study as JSON. Money is in minor units.
pub fn to_json(day: &Day, origin: &Origin, study: &Study) -> Value {
    let bounds = &study.bounds;
    let rules = study.plan.rules();
    let (median, largest) = day.median_and_largest();
    let rows = study.rows.iter().enumerate().map(|(at, row)| {
        let mut value = json!({ "level_percent": row.level.percent() });
        for (rules_at, (rules, played)) in rules.iter().zip(&row.plays).enumerate() {
            let mut played = played_json(played);
            if rules_at > 0 {
                played["equal_delay"] = match study.level_of_equal_delay(at, rules_at) {
                    EqualDelay::At(level) => json!({ "level_percent": level }),
                    EqualDelay::AtMost(level) => json!({ "level_percent_at_most": level }),
                    EqualDelay::Never => Value::Null,
                };
            }
            value[name_of(*rules)] = played;
        }
        value
    });
    json!({
        "day": {
            "source": origin.source,
            "currency": origin.currency,
            "payments": day.payments.len(),
            "participants": day.participants,
            "value": integer(day.value()),
            "median": integer(median),
            "largest": integer(largest),
            "opens_at": clock(day.hours.opens_at),
            "customers_until": clock(day.hours.customers_until),
            "closes_at": clock(day.hours.closes_at),
        },
        "bounds": {
            "upper": integer(bounds.upper_sum()),
            "lower": integer(bounds.lower_sum()),
        },
        "levels_are": scale_words(study.plan.scale),
        "queue_bucket_s": super::measures::BUCKET / super::day::SECOND,
        "levels": rows.collect::<Vec<Value>>(),
        "headline": headline(study),
    })
}

fn played_json(played: &Played) -> Value {
    let measures = &played.measures;
    let sum = |sum: Sum| json!({ "payments": sum.count, "value": integer(sum.value) });
    let by: serde_json::Map<String, Value> = MECHANISMS
        .iter()
        .zip(&measures.settled_by)
        .map(|(mechanism, settled)| (mechanism.name().to_string(), sum(*settled)))
        .collect();
    let digest: String = played
        .digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    json!({
        "provided": integer(measures.provided),
        "used": integer(measures.used),
        "turnover_ratio": measures.turnover_ratio(),
        "delay": measures.delay(),
        "delay_minutes": measures.delay_minutes(),
        "queued": sum(measures.queued),
        "queue_peak": sum(measures.queue_peak),
        "settled": sum(measures.settled()),
        "settled_by": by,
        "unsettled": sum(measures.unsettled()),
        "unsettled_at_latest_time": sum(measures.expired),
        "queue_value": measures.queue.iter().map(|value| integer(*value)).collect::<Vec<Value>>(),
        "commands": played.commands,
        "digest": digest,
    })
}

/// An integer, as text beyond 2^53.
fn integer(number: u128) -> Value {
    match u64::try_from(number) {
        Ok(small) if small <= 1 << 53 => json!(small),
        _ => json!(number.to_string()),
    }
}

/// The study as comma-separated values, a line for each level and set of rules. Money is in minor
/// units.
pub fn to_csv(study: &Study) -> String {
    let mut text = String::from(
        "level_percent,rules,provided,used,turnover_ratio,delay,delay_minutes,queue_peak_value,queue_peak_payments,unsettled_value,unsettled_payments",
    );
    for mechanism in MECHANISMS {
        let name = mechanism.name();
        let _ = write!(text, ",{name}_value,{name}_payments");
    }
    text.push('\n');
    for row in &study.rows {
        for (rules, played) in study.plan.rules().into_iter().zip(&row.plays) {
            let measures = &played.measures;
            let _ = write!(
                text,
                "{},{},{},{},{:.6},{:.6},{:.4},{},{},{},{}",
                row.level,
                name_of(rules),
                measures.provided,
                measures.used,
                measures.turnover_ratio(),
                measures.delay(),
                measures.delay_minutes(),
                measures.queue_peak.value,
                measures.queue_peak.count,
                measures.unsettled().value,
                measures.unsettled().count,
            );
            for by in measures.settled_by {
                let _ = write!(text, ",{},{}", by.value, by.count);
            }
            text.push('\n');
        }
    }
    text
}

/// Minor units of a currency with two decimals as whole ones, in few letters.
pub fn human(minor: u128) -> String {
    let whole = minor as f64 / 100.0;
    let (value, unit) = match whole {
        w if w >= 1e12 => (w / 1e12, " tn"),
        w if w >= 1e9 => (w / 1e9, " bn"),
        w if w >= 1e6 => (w / 1e6, " m"),
        w if w >= 1e3 => (w / 1e3, " k"),
        w => (w, ""),
    };
    let decimals = if value >= 100.0 { 0 } else { 1 };
    format!("{value:.decimals$}{unit}")
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
