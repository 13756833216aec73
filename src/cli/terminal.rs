//! What a person at a terminal sees: a progress bar once something takes longer than a second.
//! In a pipe there is none, and nothing else changes.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// A progress bar on stderr that stays out of the way of short work.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: bool,
    template: String,
}

impl Progress {
    /// A bar for `total` `unit`s (plural).
    pub(crate) fn new(total: u64, unit: &'static str) -> Progress {
        let template = format!(
            "{{bar:40.cyan/blue}} {{percent:>3}} %  {{human_pos}} of {{human_len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}"
        );
        Progress::with(Some(total), template)
    }

    /// A bar for bytes, `what` is done to them or with them; without a total it only counts.
    pub(crate) fn of_bytes(total: Option<u64>, what: &str) -> Progress {
        let template = match total {
            Some(_) => format!(
                "{{bar:40.cyan/blue}} {{percent:>3}} %  {{bytes}} of {{total_bytes}} {what}  {{bytes_per_sec}}  {{eta}} left"
            ),
            None => format!("{{spinner:.cyan}} {{bytes}} {what}  {{bytes_per_sec}}"),
        };
        Progress::with(total, template)
    }

    fn with(total: Option<u64>, template: String) -> Progress {
        Progress {
            bar: ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden()),
            started: Instant::now(),
            shown: false,
            template,
        }
    }

    /// `done` of the total are done.
    pub(crate) fn at(&mut self, done: u64) {
        let is_long = self.started.elapsed() > Duration::from_secs(1);
        if is_long && !self.shown && std::io::stderr().is_terminal() {
            self.shown = true;
            if let Ok(style) = ProgressStyle::with_template(&self.template) {
                self.bar.set_style(style);
            }
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(done);
    }

    /// A few words behind the bar.
    pub(crate) fn note(&mut self, words: &str) {
        self.bar.set_message(words.to_string());
    }

    /// How much there is turned out.
    pub(crate) fn set_total(&mut self, total: u64) {
        self.bar.set_length(total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// `text` in an ANSI style, where stdout is a terminal and `NO_COLOR` is not set.
pub(crate) fn paint(text: &str, style: &str) -> String {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{style}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
