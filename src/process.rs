//! A node in a process of its own: what the demo kills and the benchmarks talk to.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Raises how many files this process may have open to `wanted`, as far as it may itself. Returns how many
/// it may have now.
pub fn allow_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let may = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    if may(limit.current) >= wanted {
        return may(limit.current);
    }
    let current = Some(wanted.min(may(limit.maximum)));
    let raised = Rlimit { current, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => may(current),
        Err(_) => may(limit.current),
    }
}

/// How long a node may take to stop when asked.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A running node; killed when dropped.
pub struct NodeProcess {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// What it said when it was up.
    pub greeting: String,
}

impl NodeProcess {
    /// Starts `binary serve` on a configuration file and waits until it listens.
    pub fn start(binary: &Path, config: &Path) -> Result<NodeProcess, String> {
        let mut child = Command::new(binary)
            .arg("serve")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let mut greeting = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            let _ = BufReader::new(stdout).read_line(&mut greeting);
        }
        let address = greeting
            .strip_prefix("listening on ")
            .and_then(|rest| rest.split(',').next())
            .and_then(|address| address.parse().ok());
        match address {
            Some(address) => Ok(NodeProcess {
                child,
                address,
                greeting: greeting.trim().to_string(),
            }),
            None => {
                let _ = child.kill();
                let output = child
                    .wait_with_output()
                    .map_err(|error| error.to_string())?;
                Err(String::from_utf8_lossy(&output.stderr).trim().to_string())
            }
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it in its tracks until [`NodeProcess::resume`]: it takes nothing from anybody meanwhile.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// SIGKILL: nothing of the node runs after this.
    pub fn kill(mut self) {
        self.end();
    }

    /// Asks it to end, as an operator would, and waits until it has.
    pub fn stop(mut self) -> Result<(), String> {
        self.signal(rustix::process::Signal::TERM);
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the node ended with {status}")),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        Err("the node did not stop when asked".into())
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        // It fails only where the process is gone, and then the next thing asked of it says so.
        let _ = rustix::process::kill_process(pid, signal);
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.end();
    }
}
