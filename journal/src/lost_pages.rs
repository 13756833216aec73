//! The end of a process that touches a mapped page which the disk cannot give: in a sentence, not in a
//! signal.
//!
//! A page of a mapped file that cannot be read (a bad sector) or is not there any more (somebody cut the
//! file short) is a SIGBUS, wherever in the program it is touched. No value can be returned from there,
//! and nothing that the process holds may be acknowledged any more, so it has to end; but an operator
//! wants to know which file it was. Mapped files are therefore noted in a table, and
//! [`report_lost_pages`] installs a handler that looks the address up, says file and offset, and ends
//! the process with exit code 1. Restart and recovery find out what the disk holds.
//!
//! This file has the crate's only unsafe code outside `mapping`, because a signal handler cannot be
//! installed without. The handler reads atomics, writes to stderr and exits: nothing that is not
//! async-signal-safe.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Files noted at once; what is mapped beyond that is reported without its name.
const FILES: usize = 64;
const NAME_BYTES: usize = 240;

struct Noted {
    /// Where the file is mapped; 0: the place is free, 1: somebody is writing it.
    start: AtomicUsize,
    len: AtomicUsize,
    name_len: AtomicUsize,
    name: [AtomicU8; NAME_BYTES],
}

static NOTED: [Noted; FILES] = [const {
    Noted {
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        name_len: AtomicUsize::new(0),
        name: [const { AtomicU8::new(0) }; NAME_BYTES],
    }
}; FILES];

/// The note that a file is mapped; taken back when dropped, which must be before it is unmapped.
#[derive(Debug)]
pub(crate) struct Note(Option<usize>);

impl Note {
    /// Notes that `path` is mapped at `start`.
    pub fn take(start: usize, len: usize, path: &Path) -> Note {
        let free = |noted: &Noted| {
            noted
                .start
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        let place = NOTED.iter().position(free);
        if let Some(place) = place {
            let (noted, name) = (&NOTED[place], path.as_os_str().as_bytes());
            // The end of a long path says more than its beginning.
            let name = &name[name.len().saturating_sub(NAME_BYTES)..];
            for (to, byte) in noted.name.iter().zip(name) {
                to.store(*byte, Ordering::Relaxed);
            }
            noted.name_len.store(name.len(), Ordering::Relaxed);
            noted.len.store(len, Ordering::Relaxed);
            noted.start.store(start, Ordering::Release);
        }
        Note(place)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            NOTED[place].start.store(0, Ordering::Release);
        }
    }
}

/// From now on, a mapped page that cannot be read or written ends this process with a sentence on stderr
/// and exit code 1, instead of SIGBUS. For programs; a library's user may want handlers of his own.
pub fn report_lost_pages() {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = report;
    // SAFETY: the structure is plain data, for which zeros are a valid start; the handler has the
    // signature that SA_SIGINFO asks for and does only what is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn report(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo for a handler installed with SA_SIGINFO.
    let address = unsafe { (*info).si_addr() } as usize;
    let mut sentence = Sentence::default();
    sentence.add(b"millrace: ");
    let found = NOTED.iter().find_map(|noted| {
        let start = noted.start.load(Ordering::Acquire);
        let offset = address.checked_sub(start)?;
        (start > 1 && offset < noted.len.load(Ordering::Relaxed)).then_some((noted, offset))
    });
    match found {
        Some((noted, offset)) => {
            let name_len = noted.name_len.load(Ordering::Relaxed).min(NAME_BYTES);
            for byte in &noted.name[..name_len] {
                sentence.add(&[byte.load(Ordering::Relaxed)]);
            }
            sentence.add(b" cannot be read or written at byte ");
            sentence.add_number(offset);
        }
        None => sentence.add(b"a mapped file cannot be read or written"),
    }
    sentence.add(
        b": the disk failed there or the file was cut short; nothing more was acknowledged. Check the disk, \
          restore the file from a copy, restart\n",
    );
    // SAFETY: both are async-signal-safe, and the buffer lives.
    unsafe {
        libc::write(2, sentence.bytes.as_ptr().cast(), sentence.len);
        libc::_exit(1);
    }
}

/// Text put together without an allocator.
struct Sentence {
    bytes: [u8; 640],
    len: usize,
}

impl Default for Sentence {
    fn default() -> Sentence {
        Sentence {
            bytes: [0; 640],
            len: 0,
        }
    }
}

impl Sentence {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    fn add_number(&mut self, number: usize) {
        let mut unit = 1;
        while number / unit >= 10 {
            unit *= 10;
        }
        while unit > 0 {
            self.add(&[b'0' + (number / unit % 10) as u8]);
            unit /= 10;
        }
    }
}
