//! Moments as people write them: nanoseconds since the Unix epoch, or RFC 3339.

use std::str::FromStr;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * SECOND;

/// A moment on the command line, ns since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) u64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Moment, String> {
        if let Ok(nanoseconds) = text.parse() {
            return Ok(Moment(nanoseconds));
        }
        rfc_3339(text).map(Moment).ok_or_else(|| {
            "a time is nanoseconds since 1970, or like 2026-11-24T09:30:00.5Z or ...+01:00".into()
        })
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil(self.0 / DAY);
        let seconds = self.0 % DAY / SECOND;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let fraction = self.0 % SECOND;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z"
        )
    }
}

/// `2026-11-24T09:30:00[.fraction](Z|+hh:mm|-hh:mm)`; a date alone is its midnight in UTC.
fn rfc_3339(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, time),
        None => (text, "00:00:00Z"),
    };
    let [year, month, day] = numbers::<3>(date, '-')?;
    let is_date = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    if !is_date || date.len() != 10 || !(1970..=2554).contains(&year) {
        return None;
    }
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers::<3>(clock, ':')?;
    if hour > 23 || minute > 59 || second > 59 || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<9}").parse().ok()?;
    let seconds = hour * 3_600 + minute * 60 + second;
    let at = days(year, month, day) * DAY + seconds * SECOND + fraction;
    let (sign, offset) = zone.split_at(1);
    if matches!(sign, "Z" | "z") {
        return offset.is_empty().then_some(at);
    }
    let [hours, minutes] = numbers::<2>(offset, ':')?;
    let offset = (hours * 3_600 + minutes * 60) * SECOND;
    if hours > 23 || minutes > 59 {
        return None;
    }
    if sign == "+" {
        at.checked_sub(offset)
    } else {
        at.checked_add(offset)
    }
}

fn numbers<const N: usize>(text: &str, between: char) -> Option<[u64; N]> {
    let parts: Vec<u64> = text
        .split(between)
        .filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn month_days(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

/// Days from 1970-01-01 to that date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let years: u64 = (1970..year).map(year_days).sum();
    let months: u64 = (1..month).map(|month| month_days(year, month)).sum();
    years + months + day - 1
}

/// The date so many days after 1970-01-01.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= year_days(year) {
        days -= year_days(year);
        year += 1;
    }
    let mut month = 1;
    while days >= month_days(year, month) {
        days -= month_days(year, month);
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        let at = |text: &str| text.parse::<Moment>().unwrap().0;
        assert_eq!(at("1700000000123456789"), 1_700_000_000_123_456_789);
        assert_eq!(at("1970-01-01T00:00:00Z"), 0);
        assert_eq!(at("1970-01-01"), 0);
        assert_eq!(at("2023-11-14T22:13:20.5Z"), 1_700_000_000_500_000_000);
        assert_eq!(at("2023-11-14T23:13:20+01:00"), 1_700_000_000_000_000_000);
        assert_eq!(at("2024-02-29T00:00:00-00:30"), 1_709_166_600_000_000_000);
        let moment = Moment(1_709_166_600_000_000_001);
        assert_eq!(moment.to_string(), "2024-02-29T00:30:00.000000001Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!(at(&Moment(u64::MAX).to_string()), u64::MAX);
        for wrong in [
            "",
            "now",
            "2023-02-29",
            "2023-1-1",
            "2023-11-14T22:13:20",
            "2023-11-14T24:00:00Z",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }
}
