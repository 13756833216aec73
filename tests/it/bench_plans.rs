//! `millrace bench plans` runs through, small, and says what it is to say.

use serde_json::Value;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn every_plan_is_measured_and_every_stage() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args([
            "bench",
            "plans",
            "--json",
            "--rounds",
            "25",
            "--commands",
            "2000",
        ])
        .args(["--accounts", "100", "--seconds", "0.05", "--rate", "2000"])
        .arg("--dir")
        .arg(dir.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let result = &value["result"];
    let plans = result["plans"].as_array().unwrap();
    let shapes: Vec<(&str, usize)> = plans
        .iter()
        .map(|plan| {
            let threads = plan["threads"].as_array().unwrap();
            (plan["durability"].as_str().unwrap(), threads.len())
        })
        .collect();
    let expected = ["process", "disk"].map(|durability| [1, 2, 3].map(|n| (durability, n)));
    assert_eq!(shapes, expected.concat());
    for plan in plans {
        assert!(plan["round_trip"]["count"].as_u64().unwrap() > 0, "{plan}");
        assert!(
            plan["per_second"]["median"].as_f64().unwrap() > 0.0,
            "{plan}"
        );
        let paced = &plan["open_loop"]["latency"];
        assert_eq!(paced["count"].as_u64(), Some(100), "{plan}");
        // Three threads, a client and two cores: said, not hidden.
        let cores = millrace::pipeline::threads::allowed_cores().len();
        let threads = plan["threads"].as_array().unwrap();
        let crowded = threads.len() > cores.saturating_sub(1).max(1);
        assert_eq!(plan["outnumbers_cores"].as_bool(), Some(crowded), "{plan}");
        if crowded {
            let sleeps = |thread: &Value| thread["rests"] == "sleeps";
            assert!(threads.iter().all(sleeps), "{plan}");
        }
    }
    let stages = result["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 3);
    for stage in stages {
        let steps = stage["ns_per_command"].as_object().unwrap();
        assert_eq!(steps.len(), 5);
        assert!(
            steps.values().all(|ns| ns.as_f64().unwrap() > 0.0),
            "{stage}"
        );
        let per_second = |at: usize| stage["predicted"][at]["per_second"].as_f64().unwrap();
        assert!(per_second(0) > 0.0 && per_second(2) > 0.0, "{stage}");
    }
    // Everything it wrote is gone.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Processes whose command line speaks of `dir`.
fn processes_of(dir: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let speaks = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).contains(dir);
    processes
        .filter(|it| std::fs::read(it.path().join("cmdline")).is_ok_and(speaks))
        .count()
}

#[test]
fn an_interrupted_benchmark_leaves_no_node_and_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().to_str().unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["bench", "plans", "--accounts", "100"])
        .args(["--seconds", "60", "--rate", "1000", "--dir", name])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    until("three nodes beside the benchmark", &|| {
        processes_of(name) == 4
    });
    let pid = rustix::process::Pid::from_child(&bench);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    until("no node", &|| processes_of(name) == 0);
}
