//! A node's threads stay where its plan says, the journal's own included.

use millrace::config::Config;
use millrace::pipeline::threads::{CoreChoice, ThreadPlan};
use millrace::process::NodeProcess;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Which cores each thread of this test's child may run on, by name.
fn masks(process: u32) -> BTreeMap<String, String> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |task: std::fs::DirEntry| {
        let status = read(&task.path().join("status"));
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        let name = read(&task.path().join("comm"));
        Some((name.trim().to_string(), mask.trim().to_string()))
    };
    tasks.filter_map(|task| of(task.unwrap())).collect()
}

#[test]
fn threads_and_background_work_stay_where_the_plan_says() {
    for durability in ["process", "disk"] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            cores: CoreChoice::Auto,
            durability: durability.parse().unwrap(),
            ..Config::small(&dir.path().join("data"))
        };
        let planned = ThreadPlan::choose(&config.thread_wish()).unwrap();
        let path = dir.path().join("node.toml");
        std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_millrace"));
        let node = NodeProcess::start(binary, &path).unwrap();
        let names = match planned.layout().threads() {
            1 => &["mr-gateway"][..],
            2 => &["mr-gateway", "mr-journaler"],
            _ => &["mr-gateway", "mr-executor", "mr-journaler"],
        };
        // The disk may have moved threads from one core of the plan to another: what it said counts.
        let said: Vec<&str> = node.greeting.split(" on core ").skip(1).collect();
        let core = |at: usize| {
            let digits = said[at].split(|sign: char| !sign.is_ascii_digit());
            digits.into_iter().next().unwrap().to_string()
        };
        let threads = names.iter().copied().chain(["journal-spare"]);
        let expected: BTreeMap<String, String> = threads
            .enumerate()
            .map(|(at, name)| (name.to_string(), core(at)))
            .collect();
        // A node says that it is up when its threads are started, not when each is where it belongs.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut found = BTreeMap::new();
        while found != expected && Instant::now() < deadline {
            found = masks(node.id());
            found.retain(|name, _| expected.contains_key(name));
        }
        assert_eq!(found, expected, "{}", node.greeting);
        let background = core(names.len());
        // Wherever there is another core, it is not the executor's.
        let executor = core(usize::from(names.len() == 3));
        let alone = millrace::pipeline::threads::allowed_cores().len() == 1;
        assert!(alone || background != executor, "{}", node.greeting);
        node.stop().unwrap();
    }
}
