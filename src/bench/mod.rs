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

/// Nanoseconds for people: three digits and a unit.
pub fn human(ns: u64) -> String {
    match ns {
        0..=9_999 => format!("{ns} ns"),
        10_000..=999_999 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..=9_999_999_999 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
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
