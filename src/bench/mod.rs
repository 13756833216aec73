//! Benchmarks that ship: anyone can run them, they print percentiles, the machine, and what they
//! compare with in the same run. Workloads are seeded, so two runs do the same work.

pub mod alone;
pub mod alternation;
pub mod beside;
pub mod chart;
pub mod crowd;
pub mod echo;
pub mod engine;
pub mod journal;
pub mod latency;
pub mod ledger;
pub mod lines;
pub mod pipeline;
pub mod plans;
pub mod published;
pub mod replay;
pub mod restart;
pub mod settlement;
pub mod single;
pub mod unsent;
pub mod venue;
pub mod wire;
pub mod workload;
pub mod yardstick;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// A histogram of nanoseconds up to 100 s, three significant digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("bounds are sound")
}

/// What is quoted of a histogram, ns.
pub fn percentiles(histogram: &Histogram<u64>) -> Value {
    json!({
        "count": histogram.len(),
        "p50_ns": histogram.value_at_quantile(0.5),
        "p99_ns": histogram.value_at_quantile(0.99),
        "p99.9_ns": histogram.value_at_quantile(0.999),
        "max_ns": histogram.max(),
    })
}

/// Whether at least ten values lie beyond the quantile: of fewer it says how one of them fell.
pub fn has_tail(histogram: &Histogram<u64>, quantile: f64) -> bool {
    // Not quite ten, for 1 - 0.999 is not quite a thousandth.
    histogram.len() as f64 * (1.0 - quantile) > 9.999_999
}

/// The value at a quantile for people, or "-" without [a tail](has_tail).
pub fn human_at(histogram: &Histogram<u64>, quantile: f64) -> String {
    match has_tail(histogram, quantile) {
        true => human(histogram.value_at_quantile(quantile)),
        false => "-".into(),
    }
}

/// Nanoseconds for people: three digits and a unit.
pub fn human(ns: u64) -> String {
    match ns {
        0..=9_999 => format!("{ns} ns"),
        10_000..=999_999 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..=9_999_999_999 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// How busy the machine is with others, in one line: load average, and processor time that the host took
/// away since boot.
fn business(loadavg: &str, stat: &str) -> String {
    let load: Vec<&str> = loadavg.split_whitespace().take(3).collect();
    let times = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let times: Vec<u64> = times
        .unwrap_or_default()
        .split_whitespace()
        // Guest time is part of user time.
        .take(8)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    let all: u64 = times.iter().sum();
    let stolen = times.get(7).copied().unwrap_or(0) as f64 / all.max(1) as f64;
    format!(
        "load average {}, {:.2} % stolen since boot",
        load.join(" "),
        stolen * 100.0
    )
}

/// The machine in one line: processor, cores, kernel.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim())
        .to_string();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// [`machine`], and how busy it is with others: every figure depends on that.
pub fn machine_now() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let busy = business(&read("/proc/loadavg"), &read("/proc/stat"));
    format!("{}, {busy}", machine())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_and_stolen_time_are_of_the_system() {
        let stat = "cpu  50 0 20 100 5 0 5 20 7 0\ncpu0 1 2 3\n";
        assert_eq!(
            super::business("0.50 1.25 2.00 1/234 5678\n", stat),
            "load average 0.50 1.25 2.00, 10.00 % stolen since boot"
        );
    }

    #[test]
    fn a_percentile_has_ten_values_beyond_it_or_is_not_printed() {
        let mut latency = histogram();
        latency.record_n(1_000, 9_999).unwrap();
        assert_eq!(human_at(&latency, 0.999), "-");
        latency.record(1_000).unwrap();
        assert_eq!(human_at(&latency, 0.999), "1000 ns");
        latency.reset();
        latency.record_n(1_000, 900).unwrap();
        assert_eq!(human_at(&latency, 0.5), "1000 ns");
        assert_eq!(human_at(&latency, 0.99), "-");
        latency.record_n(1_000, 100).unwrap();
        assert_eq!(human_at(&latency, 0.99), "1000 ns");
    }
}
