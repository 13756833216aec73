//! Looks a host over before a node runs on it: cores, memory, network, disk. Each finding says what
//! was found and what to change. It reads `/proc` and `/sys`, measures for about a second, and
//! changes nothing.

mod cores;
mod disk;
mod memory;
mod network;

use crate::config::Config;
use crate::pipeline::threads::Machine;
use std::path::{Path, PathBuf};

/// How a finding bears on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be, or nothing that a node minds.
    Good,
    /// A node works, but slower or less evenly than it could.
    Advice,
    /// A node would not start, or not keep its promises.
    Bad,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// cores, memory, network or disk.
    pub area: &'static str,
    /// What was looked at.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// How it bears on a node.
    pub verdict: Verdict,
    /// What to change; empty where nothing is to be.
    pub change: String,
}

impl Finding {
    fn good(area: &'static str, what: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            area,
            what,
            found: found.into(),
            verdict: Verdict::Good,
            change: String::new(),
        }
    }

    fn or_else(self, is_good: bool, verdict: Verdict, change: impl Into<String>) -> Finding {
        if is_good {
            return self;
        }
        Finding {
            verdict,
            change: change.into(),
            ..self
        }
    }
}

/// The files that tell about a host; tests give a directory of their own.
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Host {
        Host { root: "/".into() }
    }
}

impl Host {
    /// A host whose `/proc` and `/sys` lie under `root`.
    pub fn at(root: &Path) -> Host {
        Host { root: root.into() }
    }

    /// The trimmed text of a file, `None` where there is none or it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_string())
    }

    /// What its cores share.
    fn machine(&self) -> Machine {
        Machine::read(&self.root)
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }
}

/// Looks everything over for a node configured like this. What is measured (pauses of the cores,
/// syncs of the disk) takes about a second.
pub fn examine(host: &Host, config: &Config) -> Vec<Finding> {
    let mut findings = cores::examine(host, config);
    findings.extend(memory::examine(host, config));
    findings.extend(network::examine(host, config));
    findings.extend(disk::examine(host, config));
    findings
}

fn join(numbers: &[usize]) -> String {
    let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
    numbers.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::threads::{Layout, ThreadPlan, Wish};

    /// A host that is nothing but these files.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::at(dir.path());
        (dir, host)
    }

    fn verdict_of<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
        let found = findings.iter().find(|finding| finding.what == what);
        found.unwrap_or_else(|| panic!("nothing says {what}"))
    }

    /// What is said of a node of three threads on `cores` of `allowed`.
    fn settings(host: &Host, allowed: &[usize], cores: &str) -> Vec<Finding> {
        let wish = Wish {
            cores: cores.parse().unwrap(),
            layout: Some(Layout::Three),
            ..Wish::default()
        };
        let plan = ThreadPlan::on(&wish, allowed, &host.machine()).unwrap();
        cores::settings(host, allowed, &wish, &plan)
    }

    #[test]
    fn a_host_set_up_for_latency_has_nothing_to_change() {
        let (_dir, host) = host(&[
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/isolated", "1-3\n"),
            ("sys/devices/system/cpu/nohz_full", "1-3\n"),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "performance\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
                "1\n",
            ),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "tsc\n",
            ),
            ("proc/stat", "cpu 100 0 0 900 0 0 0 0 0 0\n"),
            ("sys/fs/cgroup/cpu.max", "max 100000\n"),
        ]);
        let findings = settings(&host, &[0, 1, 2, 3], "1,2,3");
        for finding in &findings {
            assert_eq!(finding.verdict, Verdict::Good, "{finding:?}");
        }
        assert_eq!(findings.len(), 9);
    }

    #[test]
    fn what_costs_latency_is_named_with_its_remedy() {
        let (_dir, host) = host(&[
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/isolated", "\n"),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
                "1,2\n",
            ),
            (
                "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
                "1,2\n",
            ),
            ("sys/devices/system/node/online", "0-1\n"),
            ("sys/devices/system/node/node0/cpulist", "0-2\n"),
            ("sys/devices/system/node/node1/cpulist", "3\n"),
            (
                "sys/devices/system/clocksource/clocksource0/current_clocksource",
                "hpet\n",
            ),
            ("proc/stat", "cpu 100 0 0 800 0 0 0 100 0 0\n"),
            ("sys/fs/cgroup/cpu.max", "150000 100000\n"),
        ]);
        let findings = settings(&host, &[0, 1, 2, 3], "1,2,3");
        for what in [
            "governor",
            "siblings",
            "locality",
            "clock",
            "stolen time",
            "isolation",
        ] {
            let finding = verdict_of(&findings, what);
            assert_eq!(finding.verdict, Verdict::Advice, "{finding:?}");
            assert!(!finding.change.is_empty());
        }
        assert_eq!(verdict_of(&findings, "quota").verdict, Verdict::Bad);
        let found = |what| verdict_of(&findings, what).found.as_str();
        assert!(
            found("plan").starts_with("4 cores allowed; threads: gateway+responder on core 1"),
            "{}",
            found("plan")
        );
        assert_eq!(
            found("siblings"),
            "gateway+responder on core 1 and journaler on core 2 are hyperthreads of one physical core"
        );
        assert_eq!(
            found("locality"),
            "threads on several NUMA nodes: gateway+responder on node 0, executor on node 1, journaler on node 0"
        );
    }

    #[test]
    fn a_list_worse_than_auto_is_told_what_auto_would_take() {
        let siblings = |core: usize| {
            let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
            (path, format!("{},{}\n", core % 4, core % 4 + 4))
        };
        let mut files: Vec<(String, String)> = (0..8).map(siblings).collect();
        files.push(("sys/devices/system/cpu/online".into(), "0-7\n".into()));
        let files: Vec<(&str, &str)> = files.iter().map(|(at, text)| (&**at, &**text)).collect();
        let (_dir, host) = host(&files);
        let all = [0, 1, 2, 3, 4, 5, 6, 7];
        let wish = Wish {
            cores: "1,5,2".parse().unwrap(),
            layout: Some(Layout::Three),
            ..Wish::default()
        };
        let plan = ThreadPlan::on(&wish, &all, &host.machine()).unwrap();
        let findings = cores::settings(&host, &all, &wish, &plan);
        let change = &verdict_of(&findings, "siblings").change;
        assert!(change.contains("--cores 1,2,3 would not"), "{change}");
        // Of a pair, the one that is not the node's is free for others: said, and not hidden.
        let findings = settings(&host, &all, "1,2,3");
        let beside = verdict_of(&findings, "siblings");
        assert!(
            beside
                .found
                .contains("is one physical core with 5, where others may run")
        );
        assert_eq!(beside.verdict, Verdict::Advice);
    }

    #[test]
    fn cores_that_are_all_the_nodes_leave_clients_none_and_that_is_said() {
        let (_dir, host) = host(&[("sys/devices/system/cpu/online", "0-3\n")]);
        let plan = |cores| verdict_of(&settings(&host, &[0, 1, 2], cores), "plan").clone();
        let all = plan("0,1,2");
        assert_eq!(all.verdict, Verdict::Advice, "{all:?}");
        assert!(all.change.contains("leave one out of --cores"), "{all:?}");
        let few = plan("0,1");
        assert_eq!(few.verdict, Verdict::Advice, "{few:?}");
        assert!(few.change.contains("`threads`"), "{few:?}");
    }

    #[test]
    fn open_files_are_judged_by_the_limit_that_a_node_cannot_raise() {
        let verdict = |limits: &str| {
            let line = format!("Limit Soft Hard Units\nMax open files            {limits} files\n");
            let (_dir, host) = host(&[("proc/self/limits", &line)]);
            let findings = network::examine(&host, &Config::default());
            verdict_of(&findings, "open files").clone()
        };
        for limits in [
            "1024 1048576",
            "1024 unlimited",
            "unlimited unlimited",
            "1048576 1048576",
        ] {
            assert_eq!(verdict(limits).verdict, Verdict::Good, "{limits}");
        }
        let usual = verdict("1024 1048576");
        assert!(
            usual.found.contains("raises the soft limit of 1024"),
            "{usual:?}"
        );
        let small = verdict("64 64");
        assert_eq!(small.verdict, Verdict::Bad);
        assert!(small.change.starts_with("ulimit -Hn "), "{small:?}");
    }

    #[test]
    fn the_interrupts_of_network_cards_are_known_by_queue_device_number_and_driver() {
        let found = |lines: &str| {
            let text = format!("     CPU0  CPU1\n{lines}");
            let (dir, host) = host(&[
                ("proc/interrupts", &text),
                ("sys/devices/system/cpu/online", "0-1\n"),
                ("sys/devices/pci/0/msi_irqs/52", "msix\n"),
                ("sys/devices/virtio7/modalias", "virtio\n"),
                ("sys/class/net/lo/type", "772\n"),
                ("sys/class/net/wan0/type", "1\n"),
                ("sys/class/net/lan0/type", "1\n"),
            ]);
            let net = dir.path().join("sys/class/net");
            let link = |to: &str, at: &str| {
                std::os::unix::fs::symlink(to, net.join(at)).unwrap();
            };
            link("../../../devices/pci/0", "wan0/device");
            link("../../../devices/virtio7", "lan0/device");
            let findings = network::examine(&host, &Config::default());
            verdict_of(&findings, "interrupts").found.clone()
        };
        let none = "no network card has interrupted";
        for line in [
            " 38:  5  7  PCI-MSIX-0000:00:03.0  1-edge  virtio2-input.0\n",
            " 39:  5  7  PCI-MSIX-0000:00:03.0  2-edge  virtio2-output.11\n",
            " 52:  5  7  PCI-MSI 524288-edge  queue-0\n",
            " 60:  5  7  PCI-MSI 524288-edge  virtio7-config\n",
            " 61:  5  7  PCI-MSI 524288-edge  wan0-TxRx-0\n",
            " 62:  5  7  PCI-MSI 524288-edge  mlx5_comp0@pci:0000:01:00.0\n",
            " 63:  5  7  PCI-MSI 524288-edge  ixgbe-eth1-TxRx-0\n",
            " 64:  5  7  PCI-MSI 524288-edge  ena-mgmnt@pci:0000:00:05.0\n",
            " 65:  5  7  PCI-MSI 524288-edge  ens5-Tx-Rx-0\n",
        ] {
            assert_ne!(found(line), none, "{line}");
            assert_ne!(found(line), "unknown", "{line}");
        }
        for line in [
            " 36:  5  7  PCI-MSIX-0000:00:02.0  1-edge  virtio1-req.0\n",
            " 34:  5  7  PCI-MSIX-0000:00:05.0  1-edge  virtio4-input\n",
            "LOC:  5  7  Local timer interrupts\n",
        ] {
            assert_eq!(found(line), none, "{line}");
        }
    }

    #[test]
    fn memory_too_small_for_the_tables_is_bad_and_swap_is_said() {
        let config = Config::default();
        let (_dir, host) = host(&[
            (
                "proc/meminfo",
                "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n",
            ),
            (
                "proc/swaps",
                "Filename Type Size Used Priority\n/dev/sda2 partition 1000 0 -2\n",
            ),
            (
                "sys/kernel/mm/transparent_hugepage/enabled",
                "always madvise [never]\n",
            ),
        ]);
        let findings = memory::examine(&host, &config);
        assert_eq!(verdict_of(&findings, "tables").verdict, Verdict::Bad);
        assert_eq!(verdict_of(&findings, "swap").verdict, Verdict::Advice);
        assert_eq!(verdict_of(&findings, "huge pages").verdict, Verdict::Advice);
    }

    #[test]
    fn a_file_system_that_forgets_is_bad_under_disk_only() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /data tmpfs rw 0 0\n";
        let mount = disk::mount_of(mounts, Path::new("/data/millrace")).unwrap();
        assert_eq!(mount.kind, "tmpfs");
        assert_eq!(disk::file_system(&mount, true).verdict, Verdict::Bad);
        assert_eq!(disk::file_system(&mount, false).verdict, Verdict::Good);
        let mount = disk::mount_of(mounts, Path::new("/database")).unwrap();
        assert_eq!((mount.kind.as_str(), mount.at.as_str()), ("ext4", "/"));
        assert_eq!(disk::file_system(&mount, true).verdict, Verdict::Good);
    }
}
