//! A node in a process of its own: what the demo kills and the benchmarks talk to.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
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

type Work = Box<dyn FnOnce() + Send>;

/// What is done when this process is interrupted; `None` while nobody waits for that.
static WHEN_INTERRUPTED: Mutex<Option<Vec<Work>>> = Mutex::new(None);

/// Does `work` when this process gets SIGINT or SIGTERM, the latest of several first, and then ends it as
/// a shell expects: 128 and the signal's number.
pub fn when_interrupted(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut all = WHEN_INTERRUPTED.lock().expect("nobody panics holding it");
    if all.is_none() {
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
        std::thread::Builder::new()
            .name("interrupts".into())
            .spawn(move || {
                let Some(signal) = signals.forever().next() else {
                    return;
                };
                let all = WHEN_INTERRUPTED
                    .lock()
                    .expect("nobody panics holding it")
                    .take();
                all.into_iter().flatten().rev().for_each(|work| work());
                std::process::exit(128 + signal);
            })?;
    }
    all.get_or_insert_default().push(Box::new(work));
    Ok(())
}

/// Removes the directory at `path` when this process is interrupted.
pub fn remove_when_interrupted(path: &Path) -> std::io::Result<()> {
    let path = path.to_owned();
    when_interrupted(move || {
        // A node may still be writing there: it may make a file between the last look and the removal.
        for _ in 0..20 {
            match std::fs::remove_dir_all(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                _ => return,
            }
        }
        eprintln!("cannot remove {}", path.display());
    })
}

/// A command started on this thread is killed when the thread ends, also when it is stopped in its tracks:
/// whatever ends a benchmark, no node of its stays.
fn end_with_this_thread(command: &mut Command) {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt as _;
    let parent = rustix::process::getpid();
    let before_it_runs = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before that was set.
        match getppid() {
            Some(now) if now == parent => Ok(()),
            _ => Err(std::io::Error::from_raw_os_error(libc::ESRCH)),
        }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(before_it_runs);
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
        let mut command = Command::new(binary);
        command
            .arg("serve")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        end_with_this_thread(&mut command);
        let mut child = command
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
