//! Disk: a file system that keeps what it said it kept, room for segments, and what a sync costs.

use super::{Finding, Host, Verdict};
use crate::config::{Config, Durability};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const AREA: &str = "disk";
/// Syncs measured.
const SYNCS: usize = 100;
/// Time given to them.
const SYNCING: Duration = Duration::from_millis(500);

/// One line of `/proc/mounts`.
pub(super) struct Mount {
    device: String,
    pub(super) at: String,
    pub(super) kind: String,
    options: String,
}

pub(super) fn examine(host: &Host, config: &Config) -> Vec<Finding> {
    let dir = existing(&config.dir);
    let syncs = config.durability != Durability::Process;
    let mut findings = Vec::new();
    let mounts = host.read("proc/mounts").unwrap_or_default();
    let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
    if let Some(mount) = mount_of(&mounts, &real) {
        findings.push(file_system(&mount, syncs));
        findings.extend(scheduler(host, &mount));
    }
    findings.extend(room(&dir, config));
    findings.push(sync_cost(&dir));
    findings
}

/// The directory, or the nearest one above it that is there already.
fn existing(dir: &Path) -> PathBuf {
    let start = std::path::absolute(dir).unwrap_or_else(|_| dir.into());
    let there = start.ancestors().find(|dir| dir.is_dir());
    there.unwrap_or(Path::new("/")).into()
}

/// The mount that holds `dir`: the longest that begins it.
pub(super) fn mount_of(mounts: &str, dir: &Path) -> Option<Mount> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some(Mount {
                device: words.next()?.into(),
                at: words.next()?.into(),
                kind: words.next()?.into(),
                options: words.next()?.into(),
            })
        })
        .filter(|mount| dir.starts_with(&mount.at))
        // Of two on the same place the later one hides the earlier.
        .max_by_key(|mount| mount.at.len())
}

pub(super) fn file_system(mount: &Mount, syncs: bool) -> Finding {
    let found = format!("{} on {} at {}", mount.kind, mount.device, mount.at);
    let finding = Finding::good(AREA, "file system", found);
    let has = |option: &str| mount.options.split(',').any(|it| it == option);
    match mount.kind.as_str() {
        "tmpfs" | "ramfs" => finding.or_else(
            !syncs,
            Verdict::Bad,
            "nothing in it survives a power loss: put --dir on a disk, or say --durability process",
        ),
        _ if has("nobarrier") || has("barrier=0") => finding.or_else(
            !syncs,
            Verdict::Bad,
            "mounted without barriers, a sync returns before the disk has it: remount with them",
        ),
        "ext4" | "xfs" => finding,
        kind => {
            let change = format!(
                "the journal is measured on ext4 and xfs; {kind} may cost latency or promise less"
            );
            finding.or_else(false, Verdict::Advice, change)
        }
    }
}

fn scheduler(host: &Host, mount: &Mount) -> Option<Finding> {
    let device = mount.device.strip_prefix("/dev/")?;
    let disk = device
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .trim_end_matches('p');
    let text = [device, disk]
        .iter()
        .find_map(|name| host.read(&format!("sys/block/{name}/queue/scheduler")))?;
    let (_, rest) = text.split_once('[')?;
    let (chosen, _) = rest.split_once(']')?;
    let finding = Finding::good(AREA, "scheduler", chosen);
    Some(finding.or_else(
        matches!(chosen, "none" | "mq-deadline"),
        Verdict::Advice,
        format!(
            "echo none > /sys/block/{disk}/queue/scheduler: a sync waits behind what others write"
        ),
    ))
}

fn room(dir: &Path, config: &Config) -> Option<Finding> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    let free = stat.f_bavail * stat.f_frsize;
    // The segment being written, the spare, and one more to roll into.
    let needed = 3 * config.journal.segment_bytes + config.journal.reserve_bytes;
    let mib = |bytes: u64| bytes >> 20;
    let found = format!("{} MiB free", mib(free));
    Some(Finding::good(AREA, "room", found).or_else(
        free >= needed,
        Verdict::Bad,
        format!(
            "a node needs {} MiB to begin with and refuses commands when there is none",
            mib(needed)
        ),
    ))
}

/// Overwrites one block and syncs it, over and over, as a journal does.
fn sync_cost(dir: &Path) -> Finding {
    const WHAT: &str = "sync";
    let took = match measure(dir) {
        Ok(took) if !took.is_empty() => took,
        Ok(_) => return Finding::good(AREA, WHAT, "not measured"),
        Err(error) => {
            let found = format!("cannot write in {}: {error}", dir.display());
            let change = "give the node a directory it may write to";
            return Finding::good(AREA, WHAT, found).or_else(false, Verdict::Bad, change);
        }
    };
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let (middle, slow) = (at(50), at(99));
    let found = format!("p50 {:.0} us, p99 {:.0} us", us(middle), us(slow));
    let finding = Finding::good(AREA, WHAT, found);
    if middle < Duration::from_micros(10) {
        return finding.or_else(
            false,
            Verdict::Advice,
            "too quick for a disk: make sure that a cache which forgets does not answer for it",
        );
    }
    finding.or_else(
        middle < Duration::from_millis(1),
        Verdict::Advice,
        "every durable answer waits for one: a disk with a protected write cache answers in a tenth of this",
    )
}

fn measure(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(&[0; 4_096])?;
    file.sync_all()?;
    let started = Instant::now();
    let mut took = Vec::new();
    while took.len() < SYNCS && started.elapsed() < SYNCING {
        let start = Instant::now();
        file.write_all_at(&[took.len() as u8; 4_096], 0)?;
        file.sync_data()?;
        took.push(start.elapsed());
    }
    took.sort_unstable();
    Ok(took)
}
