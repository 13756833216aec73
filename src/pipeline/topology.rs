//! What the machine's cores share: hyperthreads of one physical core, an L3 cache, a NUMA node; and
//! which of them the scheduler leaves alone. Read once from `/sys`; tests make machines up.
//!
//! What the system does not say is taken as the simplest machine: cores of their own, under one cache,
//! on one node.

use std::path::Path;

/// One core as the scheduler counts them: a hyperthread, where a physical core has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Its number.
    pub id: usize,
    /// The lowest hyperthread of its physical core.
    pub physical: usize,
    /// The lowest core under its L3 cache.
    pub cache: usize,
    /// Its NUMA node.
    pub node: usize,
    /// The scheduler puts nothing there by itself (`isolcpus`).
    pub isolated: bool,
    /// No timer interrupts a lone thread there (`nohz_full`).
    pub tickless: bool,
}

/// The cores of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    cores: Vec<Core>,
}

impl Machine {
    /// A machine of these cores.
    pub fn new(cores: Vec<Core>) -> Machine {
        Machine { cores }
    }

    /// The machine whose `/sys` lies under `root`: `/`, or a directory of a test.
    pub fn read(root: &Path) -> Machine {
        let files = Files {
            root: &root.join("sys/devices/system"),
        };
        let (isolated, tickless) = (files.list("cpu/isolated"), files.list("cpu/nohz_full"));
        let nodes: Vec<(usize, Vec<usize>)> = files
            .list("node/online")
            .into_iter()
            .map(|node| (node, files.list(&format!("node/node{node}/cpulist"))))
            .collect();
        let core = |id: usize| {
            let siblings = files.list(&format!("cpu/cpu{id}/topology/thread_siblings_list"));
            let home = nodes.iter().find(|(_, cores)| cores.contains(&id));
            let beside = home.and_then(|(_, cores)| cores.first().copied());
            Core {
                id,
                physical: siblings.first().copied().unwrap_or(id),
                cache: files.l3_of(id).or(beside).unwrap_or(0),
                node: home.map_or(0, |(node, _)| *node),
                isolated: isolated.contains(&id),
                tickless: tickless.contains(&id),
            }
        };
        Machine::new(files.list("cpu/online").into_iter().map(core).collect())
    }

    /// Its cores.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    /// The core of that number; one of its own where nothing is known of it.
    pub fn core(&self, id: usize) -> Core {
        let known = self.cores.iter().copied().find(|core| core.id == id);
        known.unwrap_or(Core {
            id,
            physical: id,
            cache: 0,
            node: 0,
            isolated: false,
            tickless: false,
        })
    }
}

struct Files<'a> {
    root: &'a Path,
}

impl Files<'_> {
    fn list(&self, path: &str) -> Vec<usize> {
        let text = std::fs::read_to_string(self.root.join(path)).unwrap_or_default();
        parse_list(text.trim())
    }

    /// The lowest core under the L3 cache of core `id`.
    fn l3_of(&self, id: usize) -> Option<usize> {
        (0..8).find_map(|index| {
            let cache = format!("cpu/cpu{id}/cache/index{index}");
            let is_l3 = self.list(&format!("{cache}/level")) == [3];
            is_l3.then(|| {
                self.list(&format!("{cache}/shared_cpu_list"))
                    .first()
                    .copied()
            })?
        })
    }
}

/// Numbers of a kernel's list such as `0-3,8`; empty where it lists nothing.
pub fn parse_list(text: &str) -> Vec<usize> {
    let mut all = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse::<usize>()) {
            all.extend(first..=last);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(parse_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_list(""), Vec::<usize>::new());
        assert_eq!(parse_list("5"), [5]);
    }

    #[test]
    fn a_machine_is_what_its_files_say() {
        let dir = tempfile::tempdir().unwrap();
        let files = [
            ("cpu/online", "0-3\n"),
            ("cpu/isolated", "2-3\n"),
            ("cpu/nohz_full", "3\n"),
            ("cpu/cpu1/topology/thread_siblings_list", "1,3\n"),
            ("cpu/cpu3/topology/thread_siblings_list", "1,3\n"),
            ("cpu/cpu1/cache/index2/level", "2\n"),
            ("cpu/cpu1/cache/index2/shared_cpu_list", "1,3\n"),
            ("cpu/cpu1/cache/index3/level", "3\n"),
            ("cpu/cpu1/cache/index3/shared_cpu_list", "0-3\n"),
            ("node/online", "0-1\n"),
            ("node/node0/cpulist", "0-1\n"),
            ("node/node1/cpulist", "2-3\n"),
        ];
        for (path, text) in files {
            let path = dir.path().join("sys/devices/system").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let machine = Machine::read(dir.path());
        let core = |id, physical, cache, node, isolated, tickless| Core {
            id,
            physical,
            cache,
            node,
            isolated,
            tickless,
        };
        let expected = [
            core(0, 0, 0, 0, false, false),
            core(1, 1, 0, 0, false, false),
            core(2, 2, 2, 1, true, false),
            core(3, 1, 2, 1, true, true),
        ];
        assert_eq!(machine.cores, expected);
        // Nothing is known of this one.
        assert_eq!(machine.core(9), core(9, 9, 0, 0, false, false));
        assert_eq!(Machine::read(Path::new("/nowhere")), Machine::default());
    }
}
