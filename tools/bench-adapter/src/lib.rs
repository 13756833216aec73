//! Millrace's order book behind the C interface of the public matching-engine benchmark
//! (flash1-dev/matching-engine-benchmark): a shared library that its harness loads. The book is
//! the engine's own matching room, called as the engine's handlers call it; the reports travel
//! over the engine's egress ring. Nothing of the benchmark is in here but its interface.
//! docs/performance.md says how to run it.
//!
//! The unsafe part is that interface: pointers from another language, and one engine per process
//! behind functions without a handle. The benchmark promises to call them from one thread, but for
//! `drain`, which another one calls on the queue alone.

pub mod abi;
mod ids;
mod reports;
mod session;
#[cfg(test)]
mod tests;

use abi::{CancelMessage, Message, ModifyMessage, NewMessage, Transport};
use millrace::protocol::command::Side;
use reports::{Out, RING};
use session::{Session, side_of};
use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The one engine, between `engine_init` and `engine_shutdown`.
static SESSION: AtomicPtr<Session> = AtomicPtr::new(std::ptr::null_mut());

/// # Safety
/// Between `engine_init` and `engine_shutdown`, from the one thread that drives the engine, and
/// the last reference is gone.
#[inline(always)]
unsafe fn session<'a>() -> &'a mut Session {
    // SAFETY: the caller's promise: it was made by `engine_init`, and nobody else has it.
    unsafe { &mut *SESSION.load(Ordering::Relaxed) }
}

/// Starts the engine. `seed` means nothing to us.
///
/// # Safety
/// `transport` is the table of the living queue `sink`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_init(_seed: u64, transport: *const Transport, sink: *mut c_void) {
    // SAFETY: the caller hands over a table that can be read.
    let out = Out::new(unsafe { *transport }, sink);
    let made = Box::into_raw(Box::new(Session::new(out)));
    let before = SESSION.swap(made, Ordering::AcqRel);
    assert!(before.is_null(), "one engine at a time");
}

/// Ends the engine.
#[unsafe(no_mangle)]
pub extern "C" fn engine_shutdown() {
    let session = SESSION.swap(std::ptr::null_mut(), Ordering::AcqRel);
    if !session.is_null() {
        // SAFETY: it was a box, and whoever swaps it out is alone with it.
        drop(unsafe { Box::from_raw(session) });
    }
}

/// A new order.
///
/// # Safety
/// The engine runs, this is its thread, and `order` can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_new_order(order: *const NewMessage) {
    // SAFETY: the caller's promise.
    unsafe { session().place(&*order) }
}

/// A cancel.
///
/// # Safety
/// As [`engine_on_new_order`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_cancel(cancel: *const CancelMessage) {
    // SAFETY: the caller's promise.
    unsafe { session().cancel(&*cancel) }
}

/// A modify.
///
/// # Safety
/// As [`engine_on_new_order`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_modify(modify: *const ModifyMessage) {
    // SAFETY: the caller's promise.
    unsafe { session().modify(&*modify) }
}

/// A run of messages, one after the other: none is looked at before the one before it is done.
///
/// # Safety
/// As [`engine_on_new_order`], for all `count`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_on_batch(messages: *const Message, count: u32) {
    // SAFETY: the caller's promise.
    let session = unsafe { session() };
    for at in 0..count as usize {
        // SAFETY: the caller's promise; the kind says which body is there.
        unsafe {
            let message = &*messages.add(at);
            match message.kind {
                0 => session.place(&message.body.new),
                1 => session.cancel(&message.body.cancel),
                _ => session.modify(&message.body.modify),
            }
        }
    }
}

/// Everything is done when its call returns, so there is nothing to wait for.
#[unsafe(no_mangle)]
pub extern "C" fn engine_flush() {}

/// The highest bid, `i64::MIN` where there is none.
///
/// # Safety
/// The engine runs and this is its thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_query_best_bid() -> i64 {
    // SAFETY: the caller's promise.
    unsafe { session() }.best(Side::Buy).unwrap_or(i64::MIN)
}

/// The lowest ask, `i64::MAX` where there is none.
///
/// # Safety
/// As [`engine_query_best_bid`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_query_best_ask() -> i64 {
    // SAFETY: the caller's promise.
    unsafe { session() }.best(Side::Sell).unwrap_or(i64::MAX)
}

/// Lots at a price.
///
/// # Safety
/// As [`engine_query_best_bid`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn engine_query_depth_at(price: i64, side: u8) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { session() }.depth(side_of(side), price)
}

/// Our ring, instead of the benchmark's queue.
#[unsafe(no_mangle)]
pub extern "C" fn engine_get_transport() -> *const Transport {
    &raw const RING
}
