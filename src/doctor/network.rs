//! Network: room for the connections, and interrupts that stay off the node's cores.

use super::{Finding, Host, Verdict, join};
use crate::config::Config;
use crate::pipeline::threads::{ThreadPlan, allowed_cores};

const AREA: &str = "network";
/// Files a node has open beside its connections.
const OTHER_FILES: u64 = 128;

pub(super) fn examine(host: &Host, config: &Config) -> Vec<Finding> {
    vec![
        files(host, config),
        backlog(host, config),
        interrupts(host, config),
    ]
}

/// A node raises its soft limit itself, so the hard one is what counts.
fn files(host: &Host, config: &Config) -> Finding {
    let limits = host.read("proc/self/limits").and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        let mut limits = line.split_whitespace().map(|limit| match limit {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        Some((limits.next()??, limits.next()??))
    });
    let needed = config.gateway.connections as u64 + OTHER_FILES;
    let Some((soft, hard)) = limits else {
        return Finding::good(AREA, "open files", "unknown");
    };
    let found = match soft < needed {
        true => format!(
            "{hard} allowed, {needed} wanted; a node raises the soft limit of {soft} itself"
        ),
        false => format!("{soft} allowed, {needed} wanted"),
    };
    Finding::good(AREA, "open files", found).or_else(
        hard >= needed,
        Verdict::Bad,
        format!("ulimit -Hn {needed}, or LimitNOFILE={needed} in the unit: connections beyond it are refused"),
    )
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
    let cards = Cards::of(host);
    for line in text.lines().filter(|line| cards.interrupt_by(line)) {
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

/// What the interrupts of network cards are known by.
struct Cards {
    /// The numbers of those that sysfs names.
    numbers: Vec<String>,
    /// What the names of others begin with.
    names: Vec<String>,
}

/// What drivers call their interrupts where that is not the interface's name.
const DRIVERS: [&str; 20] = [
    "eth",
    "ens",
    "enp",
    "eno",
    "enx",
    "mlx4",
    "mlx5",
    "ixgbe",
    "igb",
    "igc",
    "i40e",
    "iavf",
    "ice-",
    "ena-",
    "bnxt",
    "gve-",
    "nfp-",
    "qede",
    "sfc",
    "virtio-net",
];

impl Cards {
    fn of(host: &Host) -> Cards {
        let mut cards = Cards {
            numbers: Vec::new(),
            names: DRIVERS.map(String::from).into(),
        };
        let interfaces = std::fs::read_dir(host.root.join("sys/class/net"));
        for interface in interfaces.into_iter().flatten().flatten() {
            // Loopback, bridges and the like have no device.
            let Ok(device) = std::fs::read_link(interface.path().join("device")) else {
                continue;
            };
            let interrupts = std::fs::read_dir(interface.path().join("device/msi_irqs"));
            for interrupt in interrupts.into_iter().flatten().flatten() {
                cards
                    .numbers
                    .push(interrupt.file_name().to_string_lossy().into());
            }
            cards
                .names
                .push(interface.file_name().to_string_lossy().into());
            let device = device.file_name().unwrap_or_default().to_string_lossy();
            if device.starts_with("virtio") {
                cards.names.push(format!("{device}-"));
            }
        }
        cards
    }

    /// Whether this line of `/proc/interrupts` is of one of them.
    fn interrupt_by(&self, line: &str) -> bool {
        let Some((number, rest)) = line.trim_start().split_once(':') else {
            return false;
        };
        let is_named = |word: &str| {
            is_virtio_queue(word) || self.names.iter().any(|name| word.starts_with(name))
        };
        self.numbers.iter().any(|it| it == number) || rest.split_whitespace().any(is_named)
    }
}

/// `virtio2-input.0`: a queue of a network card. `virtio4-input`, without a number, is of another device.
fn is_virtio_queue(word: &str) -> bool {
    word.strip_prefix("virtio").is_some_and(|rest| {
        let rest = rest.trim_start_matches(|at: char| at.is_ascii_digit());
        rest.starts_with("-input.") || rest.starts_with("-output.")
    })
}
