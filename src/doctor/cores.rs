//! Cores: which ones the node would use, and what could take them from it.

use super::{Finding, Host, Verdict, join};
use crate::config::Config;
use crate::pipeline::threads::{
    CoreChoice, Fault, Machine, ThreadPlan, Wish, allowed_cores, parse_list, pin,
};
use std::time::{Duration, Instant};

const AREA: &str = "cores";
/// How long a core is watched for pauses.
const WATCHED: Duration = Duration::from_millis(200);
/// A pause that a spinning thread does not make itself.
const PAUSE: Duration = Duration::from_micros(50);
/// Cores watched at most.
const WATCHED_MAX: usize = 8;

pub(super) fn examine(host: &Host, config: &Config) -> Vec<Finding> {
    let allowed = allowed_cores();
    let machine = host.machine();
    let wish = config.thread_wish();
    let plan = match ThreadPlan::on(&wish, &allowed, &machine) {
        Ok(plan) => plan,
        Err(error) => {
            let found = Finding::good(AREA, "plan", error.to_string());
            return vec![found.or_else(false, Verdict::Bad, "name cores that are there")];
        }
    };
    let mut findings = settings(host, &allowed, &wish, &plan);
    findings.extend(
        plan.cores()
            .into_iter()
            .take(WATCHED_MAX)
            .map(|core| pauses(core, WATCHED)),
    );
    findings
}

/// What a node would do with the cores, and what the system is set to do with them.
pub(super) fn settings(
    host: &Host,
    allowed: &[usize],
    wish: &Wish,
    plan: &ThreadPlan,
) -> Vec<Finding> {
    let machine = host.machine();
    let used = plan.cores();
    let faults = plan.faults(&machine);
    let better = better_than(wish, allowed, &machine, &faults);
    vec![
        planned(allowed, plan),
        quota(host, allowed),
        governor(host, &used),
        siblings(&faults, &better),
        locality(&faults, &better),
        clock(host),
        stolen(host),
        isolation(host, allowed, &used),
        sleep_states(host),
    ]
}

fn planned(allowed: &[usize], plan: &ThreadPlan) -> Finding {
    let cores = match allowed.len() {
        1 => "1 core allowed".to_string(),
        many => format!("{many} cores allowed"),
    };
    let left = match plan.left() {
        Some(core) => format!("clients and the system on core {core}"),
        None => "no core is left to clients and the system".to_string(),
    };
    let found = Finding::good(AREA, "plan", format!("{cores}; {plan}; {left}"));
    if plan.is_crowded() {
        return found.or_else(
            false,
            Verdict::Advice,
            "more threads than cores for them: leave the key `threads` out of the configuration, or give more cores",
        );
    }
    let change = match allowed.len() {
        1 => "clients and the system share the node's only core: give it two or more",
        _ => "clients and the system share cores with threads that spin: leave one out of --cores",
    };
    let is_shared = allowed.iter().all(|core| plan.cores().contains(core));
    found.or_else(allowed.len() > 1 && !is_shared, Verdict::Advice, change)
}

/// What to name instead of a list with such faults: what `auto` would take, if that has fewer.
fn better_than(wish: &Wish, allowed: &[usize], machine: &Machine, faults: &[Fault]) -> String {
    // Free hyperthreads are no fault of the list's.
    let grave = |faults: &[Fault]| {
        let grave = |fault: &&Fault| !matches!(fault, Fault::Beside(_));
        faults.iter().filter(grave).count()
    };
    let auto = Wish {
        cores: CoreChoice::Auto,
        ..wish.clone()
    };
    match ThreadPlan::on(&auto, allowed, machine) {
        Ok(plan) if grave(&plan.faults(machine)) < grave(faults) && !plan.is_crowded() => {
            format!(": --cores {} would not", join(&plan.cores()))
        }
        _ => String::new(),
    }
}

fn quota(host: &Host, allowed: &[usize]) -> Finding {
    let quota = host.read("sys/fs/cgroup/cpu.max").and_then(|text| {
        let (quota, period) = text.split_once(' ')?;
        Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?))
    });
    match quota {
        None => Finding::good(AREA, "quota", "no limit on processor time"),
        Some((quota, period)) => {
            let share = quota as f64 / period as f64;
            let found = format!("{share:.1} cores' worth of time in periods of {period} us");
            Finding::good(AREA, "quota", found).or_else(
                quota >= period * allowed.len() as u64,
                Verdict::Bad,
                "a thread that spins uses the quota up and is stopped for the rest of each period: take the limit \
                 away (cgroup cpu.max) and give whole cores (cpuset)",
            )
        }
    }
}

fn governor(host: &Host, used: &[usize]) -> Finding {
    let slow: Vec<String> = used
        .iter()
        .filter_map(|core| {
            let path = format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
            host.read(&path)
                .filter(|governor| governor != "performance")
        })
        .collect();
    match slow.first() {
        None => Finding::good(AREA, "governor", "performance, or not the guest's to set"),
        Some(governor) => Finding::good(AREA, "governor", governor.clone()).or_else(
            false,
            Verdict::Advice,
            "cpupower frequency-set -g performance",
        ),
    }
}

/// Threads of the node, or others, on the hyperthreads of one physical core.
fn siblings(faults: &[Fault], better: &str) -> Finding {
    let what = "siblings";
    let said = |of: fn(&Fault) -> Option<&String>| -> Vec<&str> {
        faults.iter().filter_map(of).map(String::as_str).collect()
    };
    let shared = said(|fault| match fault {
        Fault::Shared(text) => Some(text),
        Fault::Beside(_) | Fault::Apart(_) => None,
    });
    let beside = said(|fault| match fault {
        Fault::Beside(text) => Some(text),
        Fault::Shared(_) | Fault::Apart(_) => None,
    });
    if !shared.is_empty() {
        return Finding::good(AREA, what, shared.join("; ")).or_else(
            false,
            Verdict::Advice,
            format!(
                "two threads that spin on one core halve each other{better}; or name one of each pair with --cores"
            ),
        );
    }
    if !beside.is_empty() {
        return Finding::good(AREA, what, beside.join("; ")).or_else(
            false,
            Verdict::Advice,
            "what runs there takes half of the thread's core: isolate it, switch it off \
             (/sys/devices/system/cpu/cpuN/online), or keep others away with cpusets",
        );
    }
    Finding::good(
        AREA,
        what,
        "every thread of the node has a physical core to itself",
    )
}

/// Whether what threads hand to each other stays under one cache, on one node.
fn locality(faults: &[Fault], better: &str) -> Finding {
    let what = "locality";
    let apart = faults.iter().find_map(|fault| match fault {
        Fault::Apart(text) => Some(text.as_str()),
        Fault::Shared(_) | Fault::Beside(_) => None,
    });
    match apart {
        None => Finding::good(AREA, what, "the node's threads are under one L3 cache"),
        Some(apart) => Finding::good(AREA, what, apart).or_else(
            false,
            Verdict::Advice,
            format!(
                "every hand-off between them crosses caches{better}; name cores of one with --cores"
            ),
        ),
    }
}

fn clock(host: &Host) -> Finding {
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = host.read(path).unwrap_or_else(|| "unknown".into());
    let is_quick = !matches!(
        source.as_str(),
        "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies"
    );
    Finding::good(AREA, "clock", source).or_else(
        is_quick,
        Verdict::Advice,
        "reading this clock is a system call of a microsecond or more: boot with clocksource=tsc where the processor \
         has an invariant one",
    )
}

fn stolen(host: &Host) -> Finding {
    let share = host.read("proc/stat").and_then(|text| {
        let line = text.lines().next()?;
        let times: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .map_while(|time| time.parse().ok())
            .collect();
        let all: u64 = times.iter().take(8).sum();
        Some(*times.get(7)? as f64 / all.max(1) as f64)
    });
    let share = share.unwrap_or(0.0) * 100.0;
    Finding::good(AREA, "stolen time", format!("{share:.2} % since boot")).or_else(
        share < 0.5,
        Verdict::Advice,
        "the hypervisor gives these cores to others: ask for dedicated ones",
    )
}

fn isolation(host: &Host, allowed: &[usize], used: &[usize]) -> Finding {
    let list = |path| {
        host.read(path)
            .map(|text| parse_list(&text))
            .unwrap_or_default()
    };
    let isolated = list("sys/devices/system/cpu/isolated");
    let tickless = list("sys/devices/system/cpu/nohz_full");
    if allowed.len() < 4 && isolated.is_empty() {
        return Finding::good(AREA, "isolation", "none; too few cores for it to pay");
    }
    let is_complete = |list: &[usize]| used.iter().all(|core| list.contains(core));
    let found = format!(
        "isolated {}; tickless {}",
        or_none(&isolated),
        or_none(&tickless)
    );
    let cores = join(used);
    Finding::good(AREA, "isolation", found).or_else(
        is_complete(&isolated) && is_complete(&tickless),
        Verdict::Advice,
        format!(
            "boot with isolcpus={cores} nohz_full={cores} rcu_nocbs={cores} and start the node with --cores {cores}"
        ),
    )
}

fn or_none(list: &[usize]) -> String {
    if list.is_empty() {
        "none".into()
    } else {
        join(list)
    }
}

/// A core that has nothing to do sleeps, and takes tens of microseconds to wake.
fn sleep_states(host: &Host) -> Finding {
    let what = "sleep states";
    let latency = std::fs::read(host.root.join("dev/cpu_dma_latency")).ok();
    let latency = latency.and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
    match latency {
        None => Finding::good(AREA, what, "not the system's to set"),
        Some(us) => Finding::good(AREA, what, wake_bound(us)).or_else(
            us <= 1,
            Verdict::Advice,
            "hold /dev/cpu_dma_latency open with 0 written to it, as tuned's latency-performance profile does",
        ),
    }
}

fn wake_bound(us: i32) -> String {
    // What the kernel says where nobody asked for a bound.
    const NONE_US: i32 = 2_000_000_000;
    if us >= NONE_US {
        "no bound on how long an idle core takes to wake".into()
    } else {
        format!("an idle core may take {us} us to wake")
    }
}

/// Watches a core: whatever takes it from a thread that only reads the clock takes it from a node.
fn pauses(core: usize, watched: Duration) -> Finding {
    let (longest, lost) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            pin(Some(core));
            let started = Instant::now();
            let (mut longest, mut lost) = (Duration::ZERO, Duration::ZERO);
            let mut last = started;
            while last - started < watched {
                let now = Instant::now();
                let gap = now - last;
                if gap > PAUSE {
                    lost += gap;
                }
                longest = longest.max(gap);
                last = now;
            }
            (longest, lost)
        });
        watch.join().expect("watching does not panic")
    });
    let share = lost.as_secs_f64() / watched.as_secs_f64() * 100.0;
    let found = format!(
        "core {core}: longest {:.0} us, {share:.1} % of {} ms lost",
        longest.as_secs_f64() * 1e6,
        watched.as_millis()
    );
    Finding::good(AREA, "pauses", found).or_else(
        longest < Duration::from_millis(1) && share < 1.0,
        Verdict::Advice,
        "something else runs there: stop it, isolate the core, or ask for a dedicated one",
    )
}
