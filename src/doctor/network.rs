//! Network: room for the connections, and interrupts that stay off the node's cores.

use super::{Finding, Host, Verdict, join};
use crate::config::Config;
use crate::pipeline::threads::{ThreadPlan, allowed_cores};

const AREA: &str = "network";
/// Files a node has open beside its connections.
const OTHER_FILES: u64 = 64;

pub(super) fn examine(host: &Host, config: &Config) -> Vec<Finding> {
    vec![
        files(host, config),
        backlog(host, config),
        interrupts(host, config),
    ]
}

fn files(host: &Host, config: &Config) -> Finding {
    let soft = host.read("proc/self/limits").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let soft = line.split_whitespace().next()?;
        Some(if soft == "unlimited" {
            u64::MAX
        } else {
            soft.parse().ok()?
        })
    });
    let needed = config.gateway.connections as u64 + OTHER_FILES;
    match soft {
        None => Finding::good(AREA, "open files", "unknown"),
        Some(soft) => Finding::good(
            AREA,
            "open files",
            format!("{soft} allowed, {needed} wanted"),
        )
        .or_else(
            soft >= needed,
            Verdict::Bad,
            format!("ulimit -n {needed}, or LimitNOFILE={needed} in the unit: connections beyond it are refused"),
        ),
    }
}

fn backlog(host: &Host, config: &Config) -> Finding {
    let Some(most) = host.number("proc/sys/net/core/somaxconn") else {
        return Finding::good(AREA, "backlog", "unknown");
    };
    let found = format!("{most} connections may wait to be taken");
    let wanted = (config.gateway.connections as u64).min(4_096);
    Finding::good(AREA, "backlog", found).or_else(
        most >= wanted,
        Verdict::Advice,
        format!("sysctl net.core.somaxconn={wanted}: in a storm of reconnects the rest waits a second or three"),
    )
}

/// Network interrupts that the node's cores have served, as a share of all of them.
fn interrupts(host: &Host, config: &Config) -> Finding {
    let what = "interrupts";
    let (Some(text), Ok(plan)) = (
        host.read("proc/interrupts"),
        ThreadPlan::on(&config.thread_wish(), &allowed_cores(), &host.machine()),
    ) else {
        return Finding::good(AREA, what, "unknown");
    };
    let used = plan.cores();
    let (mut ours, mut all) = (0u64, 0u64);
    for line in text.lines().filter(|line| is_network(line)) {
        let counts = line
            .split_whitespace()
            .skip(1)
            .map_while(|word| word.parse::<u64>().ok());
        for (core, count) in counts.enumerate() {
            all += count;
            ours += if used.contains(&core) { count } else { 0 };
        }
    }
    if all == 0 {
        return Finding::good(AREA, what, "no network card has interrupted");
    }
    let share = ours as f64 / all as f64 * 100.0;
    let found = format!(
        "{share:.0} % of the network's went to cores {}",
        join(&used)
    );
    Finding::good(AREA, what, found).or_else(
        share < 10.0 || allowed_cores().len() < 3,
        Verdict::Advice,
        "send them elsewhere: stop irqbalance and write other cores to /proc/irq/N/smp_affinity_list",
    )
}

fn is_network(line: &str) -> bool {
    [
        "eth",
        "ens",
        "enp",
        "eno",
        "mlx",
        "ixgbe",
        "i40e",
        "ice-",
        "virtio-net",
        "ena-",
    ]
    .iter()
    .any(|name| line.contains(name))
}
