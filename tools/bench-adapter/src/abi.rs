//! The C interface of the public matching-engine benchmark, declared from its documented layout:
//! what a message and a report hold, and the table of functions behind a report queue.

use std::ffi::c_void;

/// A new order, 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct NewMessage {
    /// The order's id, free again once the order is done.
    pub order_id: u64,
    /// The message's number.
    pub sequence: u64,
    /// Ticks.
    pub price: i64,
    /// Lots.
    pub quantity: u32,
    /// 0 buys, 1 sells.
    pub side: u8,
    /// 1: what does not trade at once is cancelled.
    pub ioc: u8,
    /// Unused.
    pub reserved: [u8; 2],
}

/// A cancel, 16 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CancelMessage {
    /// Which order.
    pub order_id: u64,
    /// The message's number.
    pub sequence: u64,
}

/// A modify: the order leaves the book and comes back behind all others. 32 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct ModifyMessage {
    /// Which order.
    pub order_id: u64,
    /// The message's number.
    pub sequence: u64,
    /// Ticks from now on.
    pub price: i64,
    /// Lots open from now on.
    pub quantity: u32,
    /// The order's side.
    pub side: u8,
    /// Unused.
    pub reserved: [u8; 3],
}

/// One of the three, 40 bytes; [`Message::kind`] says which.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Message {
    /// 0 new, 1 cancel, 2 modify.
    pub kind: u8,
    /// Unused.
    pub reserved: [u8; 7],
    /// The message itself.
    pub body: MessageBody,
}

/// What [`Message::kind`] says.
#[derive(Clone, Copy)]
#[repr(C)]
pub union MessageBody {
    /// Kind 0.
    pub new: NewMessage,
    /// Kind 1.
    pub cancel: CancelMessage,
    /// Kind 2.
    pub modify: ModifyMessage,
}

/// What a report says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum ReportKind {
    /// A new order was accepted.
    #[default]
    OrderAck = 0,
    /// Two orders traded.
    Trade = 1,
    /// An order was cancelled, or the rest of an immediate-or-cancel order.
    CancelAck = 2,
    /// An order was modified.
    ModifyAck = 3,
    /// A cancel for an order that does not rest.
    CancelReject = 4,
    /// A modify for an order that does not rest.
    ModifyReject = 5,
}

/// A report as the benchmark takes it, one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Report {
    /// A [`ReportKind`].
    pub kind: u8,
    /// The order's side.
    pub side: u8,
    /// Unused.
    pub reserved: [u8; 6],
    /// Number of the message that caused it.
    pub sequence: u64,
    /// The order it is about.
    pub order_id: u64,
    /// Ticks; of a trade: the resting order's.
    pub price: i64,
    /// Lots.
    pub quantity: u32,
    /// Unused.
    pub reserved_2: u32,
    /// Of a trade: the resting order.
    pub maker_order_id: u64,
    /// Of a trade: the incoming order.
    pub taker_order_id: u64,
    /// Unused.
    pub reserved_3: u64,
}

/// A report queue: the benchmark's own, or ours.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Transport {
    /// Makes a queue for that many reports; null where it cannot.
    pub create: extern "C" fn(capacity: u32) -> *mut c_void,
    /// Puts one report in; 0 where the queue is full.
    pub push: unsafe extern "C" fn(queue: *mut c_void, report: *const Report) -> i32,
    /// Takes out as many as there are, up to a bound; returns how many.
    pub drain: unsafe extern "C" fn(queue: *mut c_void, out: *mut Report, max: u32) -> u32,
    /// Shows the consumer whatever was put in.
    pub flush: unsafe extern "C" fn(queue: *mut c_void),
    /// Ends a queue.
    pub destroy: unsafe extern "C" fn(queue: *mut c_void),
}

const _: () = {
    assert!(size_of::<NewMessage>() == 32);
    assert!(size_of::<CancelMessage>() == 16);
    assert!(size_of::<ModifyMessage>() == 32);
    assert!(size_of::<Message>() == 40 && std::mem::offset_of!(Message, body) == 8);
    assert!(size_of::<Report>() == 64);
    assert!(size_of::<Transport>() == 5 * size_of::<usize>());
};
