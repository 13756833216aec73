//! Benchmarks that drive a node, run for a moment: they end, and what they print is all there. No figure is
//! looked at.

use serde_json::Value;
use std::process::{Command, Output};

fn bench(args: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .arg("bench")
        .args(args)
        .arg("--json")
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON and nothing else");
    value["result"].clone()
}

/// What a run that is refused says, and its exit code.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .arg("bench")
        .args(args)
        .output()
        .expect("it starts");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), errors)
}

#[test]
fn a_climb_that_no_node_has_room_for_is_refused() {
    let climb = ["latency", "--rates", "1000000", "--seconds", "3600"];
    let (code, errors) = refused(&climb);
    assert_eq!(code, Some(2));
    assert!(
        errors.contains("would send 3960000000 transfers"),
        "{errors}"
    );
}

#[test]
fn sizes_of_nothing_and_beyond_all_are_refused() {
    for args in [
        ["journal", "--rounds", "0"],
        ["engine", "--resting", "18446744073709551615"],
        ["pipeline", "--rate", "18446744073709551615"],
    ] {
        let (code, errors) = refused(&args);
        assert_eq!(code, Some(2), "{errors}");
        assert!(errors.contains(args[1]), "{errors}");
    }
}

#[test]
fn few_commands_are_enough_for_what_stage_times_cost() {
    let few = [
        "wire",
        "--stage-times-cost",
        "--rounds",
        "1",
        "--commands",
        "1",
    ];
    for row in bench(&few)["rows"].as_array().unwrap() {
        assert_eq!(row["pairs"], 1);
    }
}

/// With one core and with any: the node is placed as `serve` places it.
#[test]
fn a_node_is_measured_on_whatever_cores_there_are() {
    let all = millrace::pipeline::threads::allowed_cores();
    for core in all.iter().take(2) {
        let output = Command::new("taskset")
            .args(["-c", &core.to_string(), env!("CARGO_BIN_EXE_millrace")])
            .args(["bench", "wire", "--json", "--rounds", "20"])
            .args(["--commands", "2000", "--durability", "process"])
            .output();
        // Not every machine has taskset.
        let Ok(output) = output else { return };
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "core {core}: {errors}");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["result"]["raw_core"].as_u64(), Some(*core as u64));
    }
}

#[test]
fn the_curve_over_sessions_has_every_server_at_every_point_and_two_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let chart = dir.path().join("sessions.svg");
    let chart_name = chart.to_str().unwrap();
    let result = bench(&[
        "wire",
        "--curve",
        "--sessions",
        "5",
        "--commands",
        "20000",
        "--seconds",
        "0.02",
        "--chart",
        chart_name,
    ]);
    let points = result["points"].as_array().unwrap();
    let sessions: Vec<u64> = points
        .iter()
        .map(|point| point["sessions"].as_u64().unwrap())
        .collect();
    assert_eq!(sessions, [1, 3, 5]);
    for point in points {
        let servers = point["servers"].as_array().unwrap();
        assert_eq!(servers.len(), 4);
        for server in servers {
            let closed = &server["closed_loop"];
            assert!(closed["transfers"].as_u64().unwrap() >= 1_024, "{server}");
            assert!(closed["ns_per_transfer_inside_turns"].as_f64().unwrap() > 0.0);
            let latency = &server["open_loop"]["latency"];
            assert!(latency["count"].as_u64().unwrap() >= 4, "{server}");
            assert!(latency["p50_ns"].as_u64() <= latency["p99_ns"].as_u64());
        }
    }
    for name in ["sessions.svg", "sessions-latency.svg"] {
        let drawn = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(drawn.contains("node, disk"), "{name}");
    }
}

#[test]
fn what_stage_times_cost_is_a_ratio_with_an_interval() {
    let result = bench(&[
        "wire",
        "--stage-times-cost",
        "--rounds",
        "3",
        "--commands",
        "200000",
    ]);
    let rows = result["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert!(row["pairs"].as_u64().unwrap() >= 3);
        for name in ["throughput_ratio", "node_time_ratio"] {
            let [low, median, high] =
                ["low_95", "median", "high_95"].map(|key| row[name][key].as_f64().unwrap());
            assert!(0.0 < low && low <= median && median <= high, "{row}");
        }
    }
}

#[test]
fn an_open_loop_stands_beside_an_echo_at_the_same_rate() {
    for durability in ["process", "disk"] {
        let args = [
            "wire",
            "--durability",
            durability,
            "--rate",
            "500",
            "--commands",
            "100",
            "--rounds",
            "20",
        ];
        let open_loop = &bench(&args)["open_loop"];
        assert_eq!(open_loop["total"]["count"], 100, "{open_loop}");
        assert_eq!(open_loop["raw"]["count"], 100, "{open_loop}");
    }
}

#[test]
fn a_pipeline_may_measure_its_stages() {
    for more in [&[][..], &["--stage-times"]] {
        let args = ["pipeline", "--accounts", "100", "--commands", "1024"];
        let result = bench(&[&args[..], more].concat());
        assert_eq!(result["events"], 1_024);
    }
    let one = ["pipeline", "--accounts", "100", "--commands", "1"];
    assert_eq!(bench(&one)["events"], 1);
}

fn output(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .arg("bench")
        .args(args)
        .output()
        .expect("it starts")
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() {
    let refused = [
        (&["latency", "--hdr", "/nowhere/a.hlog"][..], 1),
        (&["latency", "--chart", "/nowhere/a.svg"], 1),
        (&["replay", "--curve", "--chart", "/nowhere/a.svg"], 1),
        (&["engine", "--curve", "--chart", "a.png"], 2),
        (&["engine", "--hdr", "a.hlog"], 2),
    ];
    for (args, code) in refused {
        let output = output(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn what_is_too_little_to_draw_is_printed_and_logged() {
    let dir = tempfile::tempdir().unwrap();
    let [chart, hdr] = ["a.svg", "a.hlog"].map(|name| dir.path().join(name));
    let output = output(&[
        "latency",
        "--durability",
        "process",
        "--rates",
        "100",
        "--seconds",
        "0.05",
        "--chart",
        chart.to_str().unwrap(),
        "--hdr",
        hdr.to_str().unwrap(),
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("too few values"), "{errors}");
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["result"]["steps"][0]["total"]["count"], 5);
    let log = std::fs::read_to_string(&hdr).unwrap();
    assert_eq!(log.matches(",HISTFAAA").count(), 7, "{log}");
}
