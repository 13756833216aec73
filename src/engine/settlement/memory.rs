//! What the room of payments takes: counted from its tables, for whoever plans memory.

use super::netting::Netting;
use super::payment::PaymentRow;
use super::queue::Payments;

/// Bytes by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaymentsMemory {
    /// Rows of payments.
    pub rows: u64,
    /// From payment ids to rows.
    pub ids: u64,
    /// From pairs of accounts to what waits between them.
    pub pairs: u64,
    /// The seats of long queues.
    pub lanes: u64,
    /// Where algorithms work, kept between runs.
    pub room: u64,
    /// The same at the most that a run ever took.
    pub room_peak: u64,
}

impl PaymentsMemory {
    pub(in crate::engine) fn of(payments: &Payments, netting: &Netting) -> PaymentsMemory {
        PaymentsMemory {
            rows: (payments.rows.capacity() * size_of::<PaymentRow>()) as u64,
            ids: payments.by_id.bytes(),
            pairs: payments.by_pair.bytes(),
            lanes: payments.lane_bytes(),
            room: netting.kept(),
            room_peak: netting.bytes_peak(),
        }
    }

    /// All of it: kept, and while the run goes on that took most.
    pub fn all(&self) -> [u64; 2] {
        let tables = self.rows + self.ids + self.pairs + self.lanes;
        [tables + self.room, tables + self.room_peak]
    }
}
