//! A proxy between honest clients and the node that cuts connections at random bytes.

use super::random::Random;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A proxy on a port of its own; ends when dropped.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

struct Control {
    node: SocketAddr,
    /// Raised to have every connection cut, each at some byte of its own.
    cuts_asked: AtomicU64,
    cuts: AtomicU64,
    over: AtomicBool,
}

impl Proxy {
    /// A proxy for the node at `node`.
    pub fn start(node: SocketAddr, seed: u64) -> Result<Proxy, String> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| format!("no port for the proxy: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let control = Arc::new(Control {
            node,
            cuts_asked: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let accepts = control.clone();
        let thread = std::thread::spawn(move || accept(&listener, &accepts, seed));
        Ok(Proxy {
            address,
            control,
            thread: Some(thread),
        })
    }

    /// Has every connection cut before long.
    pub fn cut(&self) {
        self.control.cuts_asked.fetch_add(1, Ordering::AcqRel);
    }

    /// Connections cut so far.
    pub fn cuts(&self) -> u64 {
        self.control.cuts.load(Ordering::Acquire)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.control.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, control: &Arc<Control>, seed: u64) {
    let mut pumps: Vec<JoinHandle<()>> = Vec::new();
    for connection in 0.. {
        let client = loop {
            if control.over.load(Ordering::Acquire) {
                pumps.into_iter().for_each(|pump| drop(pump.join()));
                return;
            }
            match listener.accept() {
                Ok((client, _)) => break client,
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        pumps.retain(|pump| !pump.is_finished());
        // A node that is away: the client is turned away, too.
        let Ok(node) = TcpStream::connect_timeout(&control.node, Duration::from_secs(5)) else {
            continue;
        };
        let pairs = [
            (client.try_clone(), node.try_clone()),
            (node.try_clone(), client.try_clone()),
        ];
        for (way, pair) in (0..).zip(pairs) {
            let (Ok(from), Ok(to)) = pair else { continue };
            let (control, random) = (control.clone(), Random::new(seed, connection * 2 + way));
            pumps.push(std::thread::spawn(move || pump(from, to, &control, random)));
        }
    }
}

/// Carries bytes one way until either side or the proxy has had enough.
fn pump(mut from: TcpStream, mut to: TcpStream, control: &Control, mut random: Random) {
    let _ = from.set_nonblocking(false);
    let _ = from.set_read_timeout(Some(Duration::from_millis(20)));
    let _ = to.set_write_timeout(Some(Duration::from_secs(60)));
    let _ = to.set_nodelay(true);
    let mut asked = control.cuts_asked.load(Ordering::Acquire);
    let mut left = u64::MAX;
    let mut bytes = vec![0; 64 << 10];
    while !control.over.load(Ordering::Acquire) {
        let now = control.cuts_asked.load(Ordering::Acquire);
        if now != asked {
            asked = now;
            left = random.below(6_000);
        }
        // Small pieces on the way to a cut, so that frames arrive in parts, too.
        let room = match left {
            u64::MAX => bytes.len(),
            _ => random.between(1, 700).min(left.max(1)) as usize,
        };
        let read = match from.read(&mut bytes[..room]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if is_idle(error.kind()) => continue,
            Err(_) => break,
        };
        let pass = left.min(read as u64) as usize;
        if to.write_all(&bytes[..pass]).is_err() {
            break;
        }
        if left != u64::MAX {
            left -= pass as u64;
            if left == 0 {
                control.cuts.fetch_add(1, Ordering::AcqRel);
                break;
            }
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn is_idle(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
