//! An operator's own day, read from a file of comma- or semicolon-separated values.
//!
//! ```text
//! time,debtor,creditor,amount,priority,latest
//! 07:00:00,BANKDEFF,CRBKFRPP,1250000.00,normal,
//! 2026-03-02T09:15:30.250,CRBKFRPP,BANKDEFF,480.5,urgent,11:30:00
//! ```
//! The first line names the columns, in any order: `time`, `debtor`, `creditor` and `amount`, and
//! where wanted `priority` (urgent, high, normal; normal where left out) and `latest`. Times are
//! times of one day, seconds and their fraction as far as there are any; a date before them is
//! passed over, as long as it is the same on every line. Amounts have at most two decimals and no
//! separators of thousands. Participants are any text. Lines may come in any order; those of one
//! time stay in theirs.

use super::day::{Day, HOUR, Hours, MINUTE, Payment, SECOND};
use crate::protocol::command::Priority;
use std::collections::BTreeMap;
use std::io::Read;

/// Payments of a day at most.
pub const PAYMENTS_MAX: usize = 4_000_000;
/// Participants of a day at most.
pub const PARTICIPANTS_MAX: usize = 65_000;
/// The largest amount, minor units: sums of amounts and time must fit 128 bits.
const AMOUNT_MAX: u128 = 100_000_000_000_000_000;

const COLUMNS: [&str; 6] = ["time", "debtor", "creditor", "amount", "priority", "latest"];
const TIME: usize = 0;
const DEBTOR: usize = 1;
const CREDITOR: usize = 2;
const AMOUNT: usize = 3;
const PRIORITY: usize = 4;
const LATEST: usize = 5;
/// The first columns must be there.
const REQUIRED: usize = 4;

/// Reads a day whose payments all lie within `hours`.
///
/// # Errors
/// What is wrong, with the number of its line.
pub fn read(mut file: impl Read, hours: Hours) -> Result<Day, String> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let separator = if first.contains(&b';') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .trim(csv::Trim::All)
        .from_reader(bytes.as_slice());
    let columns = Columns::of(reader.headers().map_err(|error| csv_error(&error))?)?;
    let mut lines = Lines {
        hours,
        columns,
        date: None,
        names: BTreeMap::new(),
    };
    let mut payments = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| csv_error(&error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let payment = lines
            .payment(&record)
            .map_err(|why| format!("line {line}: {why}"))?;
        payments.push(payment);
        if payments.len() > PAYMENTS_MAX {
            return Err(format!("line {line}: more than {PAYMENTS_MAX} payments"));
        }
        if lines.names.len() > PARTICIPANTS_MAX {
            return Err(format!(
                "line {line}: more than {PARTICIPANTS_MAX} participants"
            ));
        }
    }
    if payments.is_empty() {
        return Err("line 1: no payment follows".into());
    }
    payments.sort_by_key(|payment| payment.at);
    Ok(Day {
        hours,
        participants: lines.names.len() as u32,
        payments,
    })
}

/// Where each column stands.
struct Columns([Option<usize>; COLUMNS.len()]);

impl Columns {
    fn of(headers: &csv::StringRecord) -> Result<Columns, String> {
        let mut places = [None; COLUMNS.len()];
        for (place, header) in headers.iter().enumerate() {
            let header = header.trim_start_matches('\u{feff}').to_lowercase();
            let column = COLUMNS.iter().position(|column| *column == header);
            let column = column.ok_or_else(|| {
                format!(
                    "line 1: no column is called \"{header}\": {}",
                    COLUMNS.join(", ")
                )
            })?;
            if places[column].replace(place).is_some() {
                return Err(format!("line 1: column {header} is there twice"));
            }
        }
        match (0..REQUIRED).find(|column| places[*column].is_none()) {
            Some(missing) => Err(format!("line 1: no column {}", COLUMNS[missing])),
            None => Ok(Columns(places)),
        }
    }

    fn field<'a>(&self, record: &'a csv::StringRecord, column: usize) -> &'a str {
        let place = self.0[column];
        place.and_then(|place| record.get(place)).unwrap_or("")
    }
}

struct Lines {
    hours: Hours,
    columns: Columns,
    /// The date of the first line; empty where it has none.
    date: Option<String>,
    names: BTreeMap<String, u32>,
}

impl Lines {
    fn payment(&mut self, record: &csv::StringRecord) -> Result<Payment, String> {
        let at = self.time(self.columns.field(record, TIME), "time")?;
        let Hours {
            opens_at,
            closes_at,
            ..
        } = self.hours;
        if at < opens_at || at >= closes_at {
            return Err(format!(
                "time {} is not between {} and {} (see --opens, --closes)",
                clock(at),
                clock(opens_at),
                clock(closes_at)
            ));
        }
        let latest_at = match self.columns.field(record, LATEST) {
            "" => 0,
            text => self.time(text, "latest")?,
        };
        if latest_at != 0 && latest_at <= at {
            return Err(format!("latest {} is not after time", clock(latest_at)));
        }
        let debtor = self.participant(record, DEBTOR)?;
        let creditor = self.participant(record, CREDITOR)?;
        if debtor == creditor {
            return Err("debtor and creditor are the same".into());
        }
        Ok(Payment {
            at,
            // Later than closing is the end of the day.
            latest_at: if latest_at < closes_at { latest_at } else { 0 },
            amount: amount(self.columns.field(record, AMOUNT))?,
            debtor,
            creditor,
            class: class(self.columns.field(record, PRIORITY))?,
        })
    }

    fn participant(&mut self, record: &csv::StringRecord, column: usize) -> Result<u32, String> {
        let name = self.columns.field(record, column);
        if name.is_empty() {
            return Err(format!("no {}", COLUMNS[column]));
        }
        let next = self.names.len() as u32;
        if let Some(known) = self.names.get(name) {
            return Ok(*known);
        }
        self.names.insert(name.to_string(), next);
        Ok(next)
    }

    /// A time of the day, with or without the day's date before it.
    fn time(&mut self, text: &str, what: &str) -> Result<u64, String> {
        let (date, time) = text.split_once(['T', ' ']).unwrap_or(("", text));
        let known = self.date.get_or_insert_with(|| date.to_string());
        if known != date && !date.is_empty() {
            let first = if known.is_empty() { "no date" } else { known };
            return Err(format!("{what} is of {date}, the first line of {first}"));
        }
        time_of_day(time.trim_end_matches('Z'))
            .ok_or_else(|| format!("{what} \"{text}\" is no time like 09:15 or 09:15:30.250"))
    }
}

/// `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fraction` as ns since midnight; 24:00 is midnight to come.
pub fn time_of_day(text: &str) -> Option<u64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    let is_number = |part: &&str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let has_seconds = parts.len() == 3;
    let is_fraction = (1..=9).contains(&fraction.len())
        && fraction.bytes().all(|b| b.is_ascii_digit())
        && (has_seconds || !text.contains('.'));
    if !(2..=3).contains(&parts.len()) || !parts.iter().all(is_number) || !is_fraction {
        return None;
    }
    let number = |at: usize| {
        parts
            .get(at)
            .map_or(Some(0), |part| part.parse::<u64>().ok())
    };
    let (hour, minute, second) = (number(0)?, number(1)?, number(2)?);
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    let at = hour * HOUR + minute * MINUTE + second * SECOND + fraction;
    (minute < 60 && second < 60 && at <= 24 * HOUR).then_some(at)
}

/// A time of the day as people write it.
pub fn clock(at: u64) -> String {
    let (hour, minute, second) = (at / HOUR, at / MINUTE % 60, at / SECOND % 60);
    if at.is_multiple_of(MINUTE) {
        format!("{hour:02}:{minute:02}")
    } else {
        format!("{hour:02}:{minute:02}:{second:02}")
    }
}

/// Units with at most two decimals, as minor units.
fn amount(text: &str) -> Result<u128, String> {
    let wrong = || format!("amount \"{text}\" is no number like 1250.50");
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 2 || whole.len() > 18 {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let decimals: u128 = format!("{decimals:0<2}").parse().map_err(|_| wrong())?;
    match whole * 100 + decimals {
        0 => Err("amount is 0".into()),
        amount if amount > AMOUNT_MAX => Err(format!("amount {text} is beyond 10^15")),
        amount => Ok(amount),
    }
}

fn class(text: &str) -> Result<Priority, String> {
    match text.to_lowercase().as_str() {
        "urgent" => Ok(Priority::Urgent),
        "high" => Ok(Priority::High),
        "normal" | "" => Ok(Priority::Normal),
        _ => Err(format!("priority \"{text}\" is not urgent, high or normal")),
    }
}

/// The library's words, and the line.
fn csv_error(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line}: {len} fields where the first line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            let line = pos.as_ref().map_or(0, csv::Position::line);
            format!("line {line}: not UTF-8")
        }
        _ => error.to_string(),
    }
}
