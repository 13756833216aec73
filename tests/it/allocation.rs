//! The hot path allocates nothing: transfers, payments and orders, live or refused, once the tables
//! stand. An allocator that counts what the measuring thread asks for proves it.

use millrace::bench::workload::{Orders, Payments, Transfers, Workload};
use millrace::engine::{Engine, Limits, Outbox};
use millrace::protocol::frame::CommandSlot;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting while a thread asks for it.
pub struct Counting;

thread_local! {
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

fn note() {
    // A thread that ends may have dropped its counter already: then nobody counts.
    let _ = COUNT.try_with(|count| count.set(count.get().map(|so_far| so_far + 1)));
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local
// without a destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Allocations that `work` makes on this thread.
pub fn count(work: impl FnOnce()) -> u64 {
    COUNT.set(Some(0));
    work();
    COUNT.replace(None).expect("set above")
}

#[test]
fn the_counter_counts() {
    assert_eq!(count(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

#[test]
fn executing_commands_allocates_nothing() {
    let workloads: [(&str, Box<dyn Workload>); 3] = [
        ("transfers", Box::new(Transfers::new(500, 1))),
        ("payments", Box::new(Payments::new(500, 1))),
        ("orders", Box::new(Orders::new(300, 50, 1))),
    ];
    for (name, mut workload) in workloads {
        let limits = Limits {
            accounts: 1_024,
            transfers: 1 << 16,
            payments: 1 << 16,
            client_order_ids: 1 << 16,
            ..Limits::small()
        };
        let mut engine = Engine::new(&limits);
        let mut outbox = Outbox::with_capacity(4_096);
        for frame in workload.setup() {
            engine.apply(engine.sequence() + 1, frame.as_ref(), &mut outbox);
            outbox.clear();
        }
        let mut slots = vec![CommandSlot::default(); 20_000];
        slots.iter_mut().for_each(|slot| workload.next(slot));
        let allocations = count(|| {
            for slot in &slots {
                let command = slot.command().expect("short");
                engine.prefetch_lookups(command);
                engine.prefetch_rows(command);
                engine.apply(engine.sequence() + 1, command, &mut outbox);
                outbox.clear();
            }
        });
        assert_eq!(allocations, 0, "{name}");
        assert_eq!(engine.audit(), Ok(()), "{name}");
    }
}
