//! Yardsticks: what this machine does without Millrace, measured in the same run. A spinning TCP
//! echo is the least a round trip can cost; an append and fdatasync the least durability can.

use super::histogram;
use hdrhistogram::Histogram;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Round trips of `bytes` bytes over loopback TCP, both sides spinning: the echo on `echo_core`, the
/// caller wherever it is.
pub fn spinning_echo(
    bytes: usize,
    round_trips: usize,
    echo_core: Option<core_affinity::CoreId>,
) -> io::Result<Histogram<u64>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let echo = std::thread::spawn(move || -> io::Result<()> {
        pin(echo_core);
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut buffer = vec![0; bytes];
        while !stopping.load(Ordering::Relaxed) {
            if let Some(read) = try_read(&mut stream, &mut buffer)? {
                write_all(&mut stream, &buffer[..read])?;
            }
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    let mut buffer = vec![0x5a; bytes];
    let mut latency = histogram();
    for round in 0..round_trips + round_trips / 10 {
        let started = Instant::now();
        write_all(&mut stream, &buffer)?;
        let mut got = 0;
        while got < bytes {
            got += try_read(&mut stream, &mut buffer[got..])?.unwrap_or(0);
        }
        // The first tenth warms up.
        if round >= round_trips / 10 {
            latency.saturating_record(started.elapsed().as_nanos() as u64);
        }
    }
    stop.store(true, Ordering::Relaxed);
    echo.join()
        .map_err(|_| io::Error::other("the echo panicked"))??;
    Ok(latency)
}

fn try_read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::hint::spin_loop();
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// One raw append of `bytes` bytes and fdatasync, over and over, into a file that is there already.
pub struct RawAppend {
    file: File,
    bytes: Vec<u8>,
    offset: u64,
    length: u64,
}

impl RawAppend {
    /// Prepares a file in `dir`: real zeroed blocks, synced.
    pub fn prepare(dir: &Path, bytes: usize) -> io::Result<RawAppend> {
        let length = 16 << 20;
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(dir.join("yardstick"))?;
        let page = [0; 4096];
        for offset in (0..length).step_by(page.len()) {
            file.write_all_at(&page, offset)?;
        }
        file.sync_all()?;
        Ok(RawAppend {
            file,
            bytes: vec![0x5a; bytes],
            offset: 0,
            length,
        })
    }

    /// Appends once and syncs; nanoseconds.
    pub fn append(&mut self) -> io::Result<u64> {
        self.append_bytes(self.bytes.len())
    }

    /// Appends so many bytes once and syncs; nanoseconds.
    pub fn append_bytes(&mut self, bytes: usize) -> io::Result<u64> {
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0x5a);
        }
        if self.offset + bytes as u64 > self.length {
            self.offset = 0;
        }
        let started = Instant::now();
        self.file.write_all_at(&self.bytes[..bytes], self.offset)?;
        self.file.sync_data()?;
        self.offset += bytes as u64;
        Ok(started.elapsed().as_nanos() as u64)
    }

    /// Appends and syncs `times` times.
    pub fn append_times(&mut self, times: u64) -> io::Result<Histogram<u64>> {
        let mut latency = histogram();
        for _ in 0..times {
            latency.saturating_record(self.append()?);
        }
        Ok(latency)
    }
}

/// The cores that this process may use. Ask before pinning: afterwards the answer is one core, in
/// every thread that a pinned thread starts.
pub fn cores() -> Vec<core_affinity::CoreId> {
    core_affinity::get_core_ids().unwrap_or_default()
}

/// Pins this thread to a core, where there is one to pin it to.
pub fn pin(core: Option<core_affinity::CoreId>) {
    if let Some(core) = core {
        core_affinity::set_for_current(core);
    }
}
