//! Which cores a thread may run on, asked and set.
//!
//! The unsafe parts are two system calls of which no safe wrapper is at hand: they take a set of cores
//! that lives on this stack, and a thread that is borrowed and so has not been joined.

use std::os::unix::thread::JoinHandleExt as _;
use std::thread::JoinHandle;

/// The cores this thread, and so every thread it starts, may run on.
pub fn allowed_cores() -> Vec<usize> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let mut cores: Vec<usize> = cores.into_iter().map(|core| core.id).collect();
    cores.sort_unstable();
    if cores.is_empty() {
        cores.push(0);
    }
    cores
}

/// Keeps the present thread on `core`, if one is given.
pub fn pin(core: Option<usize>) {
    if let Some(core) = core {
        stay_on(&[core]);
    }
}

/// Keeps another thread on `core`.
pub fn pin_thread<T>(thread: &JoinHandle<T>, core: usize) {
    let set = set_of(&[core]);
    // SAFETY: the handle is borrowed, so the thread is neither joined nor detached and its id is good;
    // the set lives across the call, which only reads it.
    let _ = unsafe {
        libc::pthread_setaffinity_np(thread.as_pthread_t(), size_of_val(&set), &raw const set)
    };
}

/// Runs `work` with the present thread, and every thread it starts, on these cores; on those it had
/// where none are named.
pub fn within<T>(cores: &[usize], work: impl FnOnce() -> T) -> T {
    if cores.is_empty() {
        return work();
    }
    let before = allowed_cores();
    stay_on(cores);
    let done = work();
    stay_on(&before);
    done
}

/// Plans take cores from this process's own mask, so this fails only where the mask shrank meanwhile;
/// the thread then runs where it may.
fn stay_on(cores: &[usize]) {
    let set = set_of(cores);
    // SAFETY: 0 is the calling thread, and the set lives across the call, which only reads it.
    let _ = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}

fn set_of(cores: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a plain array of bits, for which all zeroes are valid: the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores
        .iter()
        .filter(|core| **core < libc::CPU_SETSIZE as usize)
    {
        // SAFETY: the core's bit is within the set.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_stays_where_it_was_put_and_comes_back() {
        // On a thread of its own, so that no other test is held on one core.
        let test = std::thread::spawn(|| {
            let all = allowed_cores();
            let last = [all[all.len() - 1]];
            assert_eq!(within(&last, allowed_cores), last);
            assert_eq!(allowed_cores(), all);
            assert_eq!(within(&[], allowed_cores), all);
            let (go, wait) = mpsc::channel();
            let other = std::thread::spawn(move || {
                wait.recv().unwrap();
                allowed_cores()
            });
            pin_thread(&other, last[0]);
            go.send(()).unwrap();
            assert_eq!(other.join().unwrap(), last);
            pin(Some(all[0]));
            assert_eq!(allowed_cores(), all[..1]);
        });
        test.join().unwrap();
    }
}
