//! The way of the reports: an outbox on the matching side, the engine's egress ring (the disruptor)
//! between the threads, and a decoder on the side of whoever publishes them.
//!
//! ```text
//!   matching --> outbox, which may grow --> ring, published a batch at a time --> drain: benchmark's form
//!                      \--> at a flush, what the ring has no room for ----------/
//! ```
//!
//! The unsafe part is the ring's handle: the benchmark carries it as a plain pointer, and calls the
//! producing half from one thread and the consuming half from one other.

use crate::abi::{Report, ReportKind, Transport};
use crate::session::table;
use disruptor::{
    BusySpin, EventPoller, MissingFreeSlots, Producer, SingleConsumerBarrier, SingleProducer,
    SingleProducerBarrier, build_single_producer,
};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A report on its way: what of it means something, 40 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Packed {
    /// Number of the message.
    pub sequence: u64,
    /// The order; of a trade the incoming one.
    pub order_id: u64,
    /// Of a trade the resting order.
    pub maker_order_id: u64,
    /// Ticks.
    pub price: i64,
    /// Lots.
    pub quantity: u32,
    /// What it says.
    pub kind: ReportKind,
    /// The order's side.
    pub side: u8,
}

const _: () = assert!(size_of::<Packed>() == 40);

impl Packed {
    fn unpack(&self) -> Report {
        let mut report = Report {
            kind: self.kind as u8,
            side: self.side,
            sequence: self.sequence,
            price: self.price,
            quantity: self.quantity,
            ..Report::default()
        };
        if self.kind == ReportKind::Trade {
            report.maker_order_id = self.maker_order_id;
            report.taker_order_id = self.order_id;
        } else {
            report.order_id = self.order_id;
        }
        report
    }
}

type RingProducer = SingleProducer<Packed, SingleConsumerBarrier>;
type RingPoller = EventPoller<Packed, SingleProducerBarrier>;

/// Slots of the ring, 640 KiB: they stay in the nearer caches, where a ring with room for all that is
/// asked for would be fresh memory at every report.
pub(crate) const SLOTS: usize = 1 << 14;

/// Reports published at a time.
const BATCH: usize = 64;

/// What a flush found no room for in the ring: it comes behind all that is there.
struct Rest {
    /// Set by the matching side, cleared by the publishing one when it has taken all.
    is_there: AtomicBool,
    reports: Mutex<Waiting>,
}

struct Waiting {
    reports: Vec<Packed>,
    /// Reports from here to `filled` wait.
    first: usize,
    filled: usize,
}

/// The matching side: collects reports and publishes them a batch at a time. What a publisher that
/// falls behind leaves no room for in the ring stays here, and matching goes on.
#[repr(align(128))]
struct Source {
    /// Room for twice the reports that may wait, so that moving them to its front is rare.
    outbox: Vec<Packed>,
    /// Reports from here on wait.
    first: usize,
    filled: usize,
    /// With so many filled it is time to publish.
    due: usize,
    ring: RingProducer,
    rest: Arc<Rest>,
    /// An earlier flush handed over a rest.
    has_handed: bool,
}

impl Source {
    /// Field by field: a report put together elsewhere and copied here in one go would have to wait
    /// for its pieces.
    #[inline(always)]
    fn push(&mut self, report: Packed) {
        let Packed {
            sequence,
            order_id,
            maker_order_id,
            price,
            quantity,
            kind,
            side,
        } = report;
        let slot = &mut self.outbox[self.filled];
        slot.sequence = sequence;
        slot.order_id = order_id;
        slot.maker_order_id = maker_order_id;
        slot.price = price;
        slot.quantity = quantity;
        slot.kind = kind;
        slot.side = side;
        self.filled += 1;
        if self.filled == self.due {
            self.publish();
        }
    }

    /// Publishes what the ring has room for, and waits only where the outbox has none either.
    #[inline(never)]
    fn publish(&mut self) {
        self.send();
        while self.filled - self.first > self.outbox.len() / 2 {
            std::hint::spin_loop();
            self.send();
        }
        if self.filled == self.outbox.len() || self.first == self.filled {
            self.outbox.copy_within(self.first..self.filled, 0);
            self.filled -= self.first;
            self.first = 0;
        }
        self.due = (self.filled + BATCH).min(self.outbox.len());
    }

    /// Publishes everything: what the ring has no room for is handed over as it is.
    fn flush(&mut self) {
        self.publish();
        while self.first < self.filled {
            if self.is_ring_next() {
                self.hand_over();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Whether a rest that was handed over is gone.
    fn is_ring_next(&mut self) -> bool {
        self.has_handed &= self.rest.is_there.load(Ordering::Acquire);
        !self.has_handed
    }

    fn hand_over(&mut self) {
        let mut rest = self.rest.reports.lock().expect("nobody panics with it");
        std::mem::swap(&mut rest.reports, &mut self.outbox);
        (rest.first, rest.filled) = (self.first, self.filled);
        drop(rest);
        (self.first, self.filled, self.due) = (0, 0, BATCH);
        self.has_handed = true;
        // After all that is in the ring.
        self.rest.is_there.store(true, Ordering::Release);
    }

    fn send(&mut self) {
        if !self.is_ring_next() {
            return;
        }
        let waiting = self.filled - self.first;
        if let Err(MissingFreeSlots(missing)) = self.send_some(waiting) {
            let fits = waiting.saturating_sub(missing as usize);
            if fits > 0 {
                self.send_some(fits).expect("these slots are free");
            }
        }
    }

    fn send_some(&mut self, count: usize) -> Result<(), MissingFreeSlots> {
        let reports = &self.outbox[self.first..self.first + count];
        self.ring.try_batch_publish(count, |free| {
            for (slot, report) in free.zip(reports) {
                *slot = *report;
            }
        })?;
        self.first += count;
        Ok(())
    }
}

/// The publishing side.
#[repr(align(128))]
struct Sink {
    poller: RingPoller,
    rest: Arc<Rest>,
}

impl Sink {
    /// Hands `each` the next reports, `max` at most; returns how many.
    fn take(&mut self, max: usize, mut each: impl FnMut(usize, &Packed)) -> usize {
        let taken = self.take_from_ring(max, &mut each);
        if taken > 0 || !self.rest.is_there.load(Ordering::Acquire) {
            return taken;
        }
        // The ring was empty before the rest was there; what came into it in between comes first.
        let taken = self.take_from_ring(max, &mut each);
        if taken > 0 {
            return taken;
        }
        let mut rest = self.rest.reports.lock().expect("nobody panics with it");
        let Waiting {
            reports,
            first,
            filled,
        } = &mut *rest;
        let count = max.min(*filled - *first);
        for (at, report) in reports[*first..*first + count].iter().enumerate() {
            each(at, report);
        }
        *first += count;
        if first == filled {
            self.rest.is_there.store(false, Ordering::Release);
        }
        count
    }

    fn take_from_ring(&mut self, max: usize, each: &mut impl FnMut(usize, &Packed)) -> usize {
        let Ok(mut batch) = self.poller.take(max as u64) else {
            return 0;
        };
        let mut taken = 0;
        for report in &mut batch {
            each(taken, report);
            taken += 1;
        }
        taken
    }
}

/// Both ends of a ring. Each end is one thread's own.
pub struct Queue {
    source: UnsafeCell<Source>,
    sink: UnsafeCell<Sink>,
}

impl Queue {
    fn new(capacity: u32) -> Queue {
        let ring = build_single_producer(SLOTS, Packed::default, BusySpin);
        let (poller, ring) = ring.new_event_poller();
        let waiting = 2 * (capacity as usize).max(BATCH);
        let rest = Arc::new(Rest {
            is_there: AtomicBool::new(false),
            reports: Mutex::new(Waiting {
                reports: table(Packed::default(), waiting),
                first: 0,
                filled: 0,
            }),
        });
        Queue {
            source: UnsafeCell::new(Source {
                outbox: table(Packed::default(), waiting),
                first: 0,
                filled: 0,
                due: BATCH,
                ring: ring.build(),
                rest: Arc::clone(&rest),
                has_handed: false,
            }),
            sink: UnsafeCell::new(Sink { poller, rest }),
        }
    }
}

/// Where the engine's reports go.
#[derive(Clone, Copy)]
pub enum Out {
    /// Into our own ring.
    Ring(*const Queue),
    /// Into another queue, one at a time.
    Other(Transport, *mut c_void),
}

impl Out {
    /// The queue that the benchmark chose.
    pub fn new(transport: Transport, queue: *mut c_void) -> Out {
        if std::ptr::fn_addr_eq(transport.create, RING.create) {
            Out::Ring(queue.cast_const().cast())
        } else {
            Out::Other(transport, queue)
        }
    }

    /// Puts a report on its way.
    ///
    /// # Safety
    /// The queue lives, and this thread is the only one that puts reports into it.
    #[inline(always)]
    pub unsafe fn push(&self, report: Packed) {
        match self {
            Out::Ring(queue) => {
                // SAFETY: the queue lives, and its source is this thread's own.
                let source = unsafe { &mut *(**queue).source.get() };
                source.push(report);
            }
            Out::Other(transport, queue) => {
                // SAFETY: as above; the table came with this queue.
                unsafe { push_other(transport, *queue, report) };
            }
        }
    }
}

#[cold]
unsafe fn push_other(transport: &Transport, queue: *mut c_void, report: Packed) {
    let report = report.unpack();
    // SAFETY: the caller says that the queue lives and that we are its producer.
    while unsafe { (transport.push)(queue, &raw const report) } == 0 {
        std::hint::spin_loop();
    }
}

/// Our ring, as the benchmark wants it told.
pub static RING: Transport = Transport {
    create,
    push,
    drain,
    flush,
    destroy,
};

extern "C" fn create(capacity: u32) -> *mut c_void {
    Box::into_raw(Box::new(Queue::new(capacity))).cast()
}

/// # Safety
/// `queue` came from [`create`] and was not destroyed; the producing thread calls.
unsafe extern "C" fn push(queue: *mut c_void, report: *const Report) -> i32 {
    // SAFETY: the caller hands over a report that it can read.
    let report = unsafe { &*report };
    let kind = match report.kind {
        0 => ReportKind::OrderAck,
        1 => ReportKind::Trade,
        2 => ReportKind::CancelAck,
        3 => ReportKind::ModifyAck,
        4 => ReportKind::CancelReject,
        _ => ReportKind::ModifyReject,
    };
    let packed = Packed {
        sequence: report.sequence,
        order_id: match kind {
            ReportKind::Trade => report.taker_order_id,
            _ => report.order_id,
        },
        maker_order_id: report.maker_order_id,
        price: report.price,
        quantity: report.quantity,
        kind,
        side: report.side,
    };
    // SAFETY: the queue lives and we are on its producing thread.
    unsafe { Out::Ring(queue.cast_const().cast()).push(packed) };
    1
}

/// # Safety
/// `queue` came from [`create`] and was not destroyed; the consuming thread calls, with room for
/// `max` reports at `out`.
unsafe extern "C" fn drain(queue: *mut c_void, out: *mut Report, max: u32) -> u32 {
    // SAFETY: the queue lives and its sink is this thread's own.
    let sink = unsafe { &mut *(*queue.cast::<Queue>()).sink.get() };
    let taken = sink.take(max as usize, |at, report| {
        // SAFETY: `take` gives `max` at most, and the caller has room for as many.
        unsafe { out.add(at).write(report.unpack()) };
    });
    taken as u32
}

/// # Safety
/// As [`push`].
unsafe extern "C" fn flush(queue: *mut c_void) {
    // SAFETY: the queue lives and we are on its producing thread.
    let source = unsafe { &mut *(*queue.cast::<Queue>()).source.get() };
    source.flush();
}

/// # Safety
/// `queue` came from [`create`], is destroyed once, and nobody uses it any more.
unsafe extern "C" fn destroy(queue: *mut c_void) {
    // SAFETY: it was a box.
    drop(unsafe { Box::from_raw(queue.cast::<Queue>()) });
}
