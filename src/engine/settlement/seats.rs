//! Who sits where: keeps the lanes of long queues in step with the queues.

use super::lane::{LANE_FROM, Lane};
use super::payment::NONE;
use super::queue::Payments;
use crate::engine::index::Handle;
use crate::protocol::command::Priority;

impl Payments {
    /// A normal payment has joined the queue of the desk at `at`.
    #[inline]
    pub(super) fn take_seat(&mut self, at: usize, payment: Handle) {
        match &mut self.lanes[at] {
            None if self.desks[at].queued < LANE_FROM => return,
            None => {}
            Some(lane) if lane.is_sparse() => {}
            Some(lane) => {
                let row = self.rows[payment as usize];
                let seat = match row.next {
                    NONE => Some(lane.push(payment, row.amount_alone())),
                    next => {
                        let after = match row.previous {
                            NONE => 0,
                            previous => self.rows[previous as usize].seat + 1,
                        };
                        // Vacant, if there is one between the two.
                        let seat = self.rows[next as usize].seat.checked_sub(1);
                        let seat = seat.filter(|seat| *seat >= after);
                        if let Some(seat) = seat {
                            lane.put(seat, payment, row.amount_alone());
                        }
                        seat
                    }
                };
                if let Some(seat) = seat {
                    self.rows[payment as usize].seat = seat;
                    return;
                }
            }
        }
        self.make_lane(at);
    }

    /// A normal payment has left the queue of the desk at `at`.
    #[inline]
    pub(super) fn leave_seat(&mut self, at: usize, payment: Handle) {
        let Some(lane) = &mut self.lanes[at] else {
            return;
        };
        if lane.len() == 1 {
            self.lanes[at] = None;
            return;
        }
        let rows = &self.rows;
        let row = &rows[payment as usize];
        lane.leave(row.seat, row.amount_alone(), |other| {
            rows[other as usize].amount_alone()
        });
    }

    /// Seats a whole queue.
    fn make_lane(&mut self, at: usize) {
        let mut lane = Box::new(Lane::new());
        let mut payment = self.desks[at].first[Priority::Normal as usize];
        while payment != NONE {
            let row = &mut self.rows[payment as usize];
            row.seat = lane.push(payment, row.amount_alone());
            payment = row.next;
        }
        self.lanes[at] = Some(lane);
    }

    /// Handles have changed: queues are seated anew when they are next looked at.
    pub(super) fn drop_lanes(&mut self) {
        self.lanes.fill_with(|| None);
    }

    /// The first normal payment at `from` or behind it in the queue of `account` whose debtor needs
    /// no more than `most` for it.
    pub(in crate::engine) fn next_within(
        &mut self,
        account: Handle,
        from: Handle,
        most: u128,
    ) -> Option<Handle> {
        let at = self.place(account)?;
        if self.lanes[at].is_none() && self.desks[at].queued >= LANE_FROM {
            self.make_lane(at);
        }
        let rows = &self.rows;
        let amount_of = |payment: Handle| rows[payment as usize].amount_alone();
        match &self.lanes[at] {
            Some(lane) => lane.first_within(rows[from as usize].seat, most, amount_of),
            None => std::iter::successors(Some(from), |payment| self.next(*payment))
                .find(|payment| amount_of(*payment) <= most),
        }
    }

    /// No normal payment queued at the account is smaller than this.
    #[inline]
    pub(in crate::engine) fn smallest_normal(&self, account: Handle) -> u128 {
        match self.place(account) {
            None => u128::MAX,
            Some(at) => match &self.lanes[at] {
                Some(lane) => lane.least(),
                None => self.desks[at].smallest,
            },
        }
    }

    /// Finds the smallest normal payment of a short queue.
    pub(in crate::engine) fn find_smallest(&mut self, account: Handle) {
        if let Some(at) = self.place(account)
            && self.lanes[at].is_none()
        {
            let amounts = self
                .class_iter(account, Priority::Normal)
                .map(|payment| self.row(payment).amount_alone());
            self.desks[at].smallest = amounts.min().unwrap_or(u128::MAX);
        }
    }

    /// Bytes that all lanes take.
    pub(super) fn lane_bytes(&self) -> u64 {
        let lanes = self.lanes.iter().flatten();
        lanes.map(|lane| lane.bytes()).sum()
    }

    /// Who waits normally sits, in order, and nobody else.
    pub(super) fn audit_lane(&self, at: usize) -> Result<(), String> {
        let Some(lane) = &self.lanes[at] else {
            return Ok(());
        };
        lane.audit(|payment| self.row(payment).amount_alone())?;
        let mut seated = 0;
        let mut last = None;
        for payment in self.class_iter(self.desks[at].account, Priority::Normal) {
            let row = self.row(payment);
            if lane.at(row.seat) != payment || last >= Some(row.seat) {
                return Err(format!("payment {}: not in its seat", row.id));
            }
            last = Some(row.seat);
            seated += 1;
        }
        if seated == lane.len() {
            Ok(())
        } else {
            Err(format!(
                "{seated} payments sit, the lane says {}",
                lane.len()
            ))
        }
    }
}
