//! A node in a process of its own, with everything that can be done to a process.

use super::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running node; killed when dropped.
pub struct Served {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// The last command of its journal when it was up.
    pub recovered_to: u64,
    /// From its start to its first line.
    pub took: Duration,
}

impl Served {
    /// Starts `binary serve` on a configuration file and waits until it listens. What it says on stderr
    /// goes to `said`.
    pub fn start(
        binary: &Path,
        config: &Path,
        clock: Option<&Clock>,
        said: &Path,
    ) -> Result<Served, String> {
        let started = Instant::now();
        let stderr = OpenOptions::new().create(true).append(true).open(said);
        let stderr = stderr.map_err(|error| format!("cannot open {}: {error}", said.display()))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(config);
        if let Some(clock) = clock {
            command.envs(clock.environment());
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn();
        let mut child =
            child.map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split(',').next())
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(said).unwrap_or_default();
            return Err(format!("the node did not start: {}", said.trim()));
        };
        Ok(Served {
            child,
            address,
            recovered_to: recovered_to(&line),
            took: started.elapsed(),
        })
    }

    /// SIGKILL, and the moment when it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it for a while, as a debugger or a host that swaps would.
    pub fn pause(&self) {
        let _ = kill_process(self.pid(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        let _ = kill_process(self.pid(), Signal::CONT);
    }

    /// Asks it to end, as an operator would, and waits until it has.
    pub fn stop(&mut self) -> Result<(), String> {
        let _ = kill_process(self.pid(), Signal::TERM);
        let status = self.wait(Duration::from_secs(60))?;
        match status.code() {
            Some(0) => Ok(()),
            _ => Err(format!("asked to end, the node ended with {status}")),
        }
    }

    /// Whether it ended although nobody asked it to.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Its size in memory, bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
        kilobytes.unwrap_or(0) << 10
    }

    fn wait(&mut self, within: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.has_ended() {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("the node does not end".into())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The sequence in the line of a node that is up; 0 where its journal was empty.
fn recovered_to(line: &str) -> u64 {
    line.split("recovered to sequence ")
        .nth(1)
        .and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}
