//! A disk that is really full, and a journal cut short under a running node.
//!
//! The node runs in a mount namespace of its own, on a file system in memory of a few megabytes; this
//! process fills it and empties it through /proc. Where the system allows no mount, the first test says
//! so and does nothing.

use crate::pipeline_support::*;
use millrace::client::{Client, ClientError, Options};
use millrace::config::{Config, Durability};
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::session::SessionError;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Served {
    child: Child,
    address: SocketAddr,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    /// Waits for the line of a node that starts.
    fn greet(mut child: Child) -> Option<Served> {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut()?)
            .read_line(&mut line)
            .ok()?;
        let address = line
            .strip_prefix("listening on ")?
            .split(',')
            .next()?
            .parse()
            .ok()?;
        Some(Served { child, address })
    }

    fn client(&self) -> Client {
        Client::connect(self.address, Options::default()).unwrap()
    }

    /// Waits for its end; exit code and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Config::small(dir);
    config.durability = Durability::Disk;
    config.limits.transfers = 1 << 13;
    config
}

fn write_config(file: &Path, config: &Config) {
    std::fs::write(file, toml::to_string(config).unwrap()).unwrap();
}

/// A node whose directory lies on a file system of `megabytes` that nobody else sees.
fn serve_on_a_small_disk(mount: &Path, megabytes: u32, file: &Path) -> Option<Served> {
    for options in [&["--mount"][..], &["--map-root-user", "--mount"]] {
        let script = format!(
            "mount -t tmpfs -o size={megabytes}m none {} && exec {} serve --config {}",
            mount.display(),
            env!("CARGO_BIN_EXE_millrace"),
            file.display()
        );
        let child = Command::new("unshare")
            .args(options)
            .args(["sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        if let Some(served) = Served::greet(child) {
            return Some(served);
        }
    }
    None
}

/// The command's first event, or the door's refusal.
fn ask(served: &Served, command: &CommandFrame) -> Result<String, ClientError> {
    let events = served.client().call(command)?;
    Ok(lines(&events))
}

fn is_disk_full(answer: &Result<String, ClientError>) -> bool {
    matches!(
        answer,
        Err(ClientError::Refused {
            error: SessionError::DiskFull,
            ..
        })
    )
}

#[test]
fn a_full_disk_refuses_new_commands_and_takes_cancels_and_queries_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (mount, file) = (dir.path().join("disk"), dir.path().join("millrace.toml"));
    std::fs::create_dir(&mount).unwrap();
    let config = config(&mount.join("data"));
    write_config(&file, &config);
    // Two segments of 8 MiB, and not quite a third.
    let Some(served) = serve_on_a_small_disk(&mount, 23, &file) else {
        eprintln!(
            "SKIPPED: this system lets nobody mount a file system, so no disk could be filled"
        );
        return;
    };
    let mut client = served.client();
    for command in opening() {
        assert!(is_ok(&client.call(&command).unwrap()[0]));
    }
    let waiting = command(
        r#"{"cmd":"submit_payment","id":77,"debtor_account":2,"creditor_account":1,"amount":5,"earliest_at":4102444800000000000}"#,
    );
    let answer = lines(&client.call(&waiting).unwrap());
    assert!(answer.contains("payment_warehoused"), "{answer}");

    // The same transfers again and again: the journal grows, the table does not.
    let many = batch(1_000_000, 4_000);
    let refused = (0..1_000).find_map(|_| client.call(&many).err());
    let refused = refused.expect("the disk gets full");
    assert!(
        matches!(
            refused,
            ClientError::Refused {
                error: SessionError::DiskFull,
                ..
            }
        ),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("its disk is full"),
        "{refused}"
    );

    assert!(is_disk_full(&ask(&served, &transfer(1, 1))));
    let queried = ask(&served, &query_account(2)).unwrap();
    assert!(queried.contains("\"event\":\"account\""), "{queried}");
    let cancelled = ask(&served, &command(r#"{"cmd":"cancel_payment","id":77}"#)).unwrap();
    assert!(cancelled.contains("payment_cancelled"), "{cancelled}");
    assert!(
        is_disk_full(&ask(&served, &transfer(1, 1))),
        "a cancel makes no room"
    );

    // Room comes back: the disk grows.
    let root = PathBuf::from(format!("/proc/{}", served.child.id()));
    let grown = Command::new("nsenter")
        .arg(format!("--mount={}", root.join("ns/mnt").display()))
        .args(["mount", "-o", "remount,size=64m"])
        .arg(&mount)
        .status();
    let grown_at = Instant::now();
    if grown.is_ok_and(|status| status.success()) {
        let resumed = loop {
            let answer = ask(&served, &transfer(1, 1));
            if !is_disk_full(&answer) {
                break answer.unwrap();
            }
            assert!(
                grown_at.elapsed() < Duration::from_secs(10),
                "service never resumed"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        let elapsed = grown_at.elapsed();
        println!(
            "service resumed {} ms after there was space",
            elapsed.as_millis()
        );
        assert!(resumed.contains("\"status\":\"created\""), "{resumed}");
        assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    } else {
        eprintln!(
            "SKIPPED: this system lets nobody enter the node's mounts, so no space came back"
        );
    }
    let seen = root
        .join("root")
        .join(mount.strip_prefix("/").unwrap())
        .join("data");
    let last = millrace_journal::verify(&seen, &mut |_, _| ()).unwrap();
    assert!(last.records > 20, "{last:?}");
    drop(client);
    let asked = Command::new("kill")
        .args(["-TERM", &served.child.id().to_string()])
        .status();
    assert!(asked.unwrap().success());
    let (code, said) = served.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("is full") && !said.contains("panicked"),
        "{said}"
    );
}

#[test]
fn a_segment_cut_short_under_a_running_node_ends_it_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("millrace.toml");
    let config = config(&dir.path().join("data"));
    write_config(&file, &config);
    let serve = || {
        let child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["serve", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Served::greet(child)
    };
    let served = serve().unwrap();
    let mut client = served.client();
    for command in opening() {
        client.call(&command).unwrap();
    }
    let segment = config.dir.join("0000000000000001.segment");
    let whole = std::fs::read(&segment).unwrap();
    let cut = std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .unwrap();
    cut.set_len(4096).unwrap();
    assert!(
        client.call(&transfer(1, 1)).is_err(),
        "nothing is acknowledged"
    );
    let (code, said) = served.end();
    assert_eq!(code, Some(1), "{said}");
    let expected = format!("millrace: {} cannot be ", segment.display());
    assert!(
        said.starts_with(&expected) && said.contains("cut short"),
        "{said}"
    );

    // It stays down until the file is back.
    let refused = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["serve", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        complaint.contains("has 4096 bytes and should have 8388608"),
        "{complaint}"
    );
    std::fs::write(&segment, whole).unwrap();
    let served = serve().unwrap();
    assert_eq!(
        credited(&served.client().call(&query_account(2)).unwrap()),
        0
    );
}
