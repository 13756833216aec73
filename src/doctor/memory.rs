//! Memory: room for the tables, and pages that stay where they are.

use super::{Finding, Host, Verdict};
use crate::config::Config;

const AREA: &str = "memory";

pub(super) fn examine(host: &Host, config: &Config) -> Vec<Finding> {
    vec![tables(host, config), swap(host), huge_pages(host)]
}

fn tables(host: &Host, config: &Config) -> Finding {
    let available = host.read("proc/meminfo").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    let available = available.unwrap_or(0) << 10;
    let needed = config.limits.bytes_max();
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let found = format!(
        "the limits take up to {:.1} GiB of {:.1} GiB available",
        gib(needed),
        gib(available)
    );
    Finding::good(AREA, "tables", found).or_else(
        needed <= available,
        Verdict::Bad,
        "lower the limits in the configuration, or give the host more memory",
    )
}

fn swap(host: &Host) -> Finding {
    let areas = host
        .read("proc/swaps")
        .map_or(0, |text| text.lines().count().saturating_sub(1));
    Finding::good(AREA, "swap", format!("{areas} areas")).or_else(
        areas == 0,
        Verdict::Advice,
        "swapoff -a: a table that was swapped out costs milliseconds at the next command",
    )
}

fn huge_pages(host: &Host) -> Finding {
    let text = host
        .read("sys/kernel/mm/transparent_hugepage/enabled")
        .unwrap_or_default();
    let chosen = text
        .split_once('[')
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("unknown", |(word, _)| word);
    Finding::good(AREA, "huge pages", chosen).or_else(
        matches!(chosen, "always" | "madvise"),
        Verdict::Advice,
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled: tables in pages of 4 KiB cost half as much again",
    )
}
