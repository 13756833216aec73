//! The lane of a long queue: its normal payments seat by seat in order, with the least amount of
//! every 64 seats and of every 64 of those. So the first payment from anywhere on that an account
//! has money for is found in some tens of steps, however many wait.
//!
//! ```text
//!   groups   least of 64 blocks       |          3          | ..
//!   blocks   least of 64 seats        |   7   |   3   |  9  | ..
//!   codes    amounts, rounded down    | 9 . 7 . . 8 | 5 3 . | ..   . nobody sits there
//!   seats    payments                 | a   b     c | d e   |
//! ```
//!
//! A lane says nothing that the queue does not and is no part of the state: what is found never
//! depends on where anybody sits. Short queues have none, and one that is in the way is dropped and
//! made anew: seats follow the order of the queue, so a payment that comes between two neighbours
//! takes a seat only where one is vacant between theirs.

use super::payment::NONE;

/// Payments queued from which on an account has a lane.
pub(super) const LANE_FROM: u32 = 64;

const BLOCK: usize = 64;
/// Seats left vacant in front.
const FRONT: u32 = 8;
/// Nobody sits there.
const VACANT: u16 = u16::MAX;

/// The normal payments of one account by seat.
pub(super) struct Lane {
    seats: Vec<u32>,
    codes: Vec<u16>,
    blocks: Vec<u128>,
    groups: Vec<u128>,
    /// The seat of the next payment that comes last.
    next: u32,
    live: u32,
}

impl Lane {
    /// A lane with some vacant seats in front, for payments that are moved there.
    pub(super) fn new() -> Lane {
        let mut lane = Lane {
            seats: Vec::new(),
            codes: Vec::new(),
            blocks: Vec::new(),
            groups: Vec::new(),
            next: 0,
            live: 0,
        };
        lane.add_block();
        lane.next = FRONT;
        lane
    }

    /// Payments seated.
    pub(super) fn len(&self) -> u32 {
        self.live
    }

    /// Whether most seats are vacant.
    pub(super) fn is_sparse(&self) -> bool {
        self.next > 2 * self.live + 1_024
    }

    /// The payment in a seat, [`NONE`] where nobody sits.
    pub(super) fn at(&self, seat: u32) -> u32 {
        self.seats.get(seat as usize).copied().unwrap_or(NONE)
    }

    /// The least amount of all.
    #[inline]
    pub(super) fn least(&self) -> u128 {
        self.groups.iter().copied().min().unwrap_or(u128::MAX)
    }

    /// Seats a payment behind all others.
    pub(super) fn push(&mut self, payment: u32, amount: u128) -> u32 {
        let seat = self.next;
        if seat as usize == self.seats.len() {
            self.add_block();
        }
        self.next += 1;
        self.put(seat, payment, amount);
        seat
    }

    /// Seats a payment in a vacant seat.
    pub(super) fn put(&mut self, seat: u32, payment: u32, amount: u128) {
        let at = seat as usize;
        assert!(self.seats[at] == NONE, "the seat is vacant");
        self.seats[at] = payment;
        self.codes[at] = code(amount);
        for least in [
            &mut self.blocks[at / BLOCK],
            &mut self.groups[at / BLOCK / BLOCK],
        ] {
            *least = (*least).min(amount);
        }
        self.live += 1;
    }

    /// The payment of that amount leaves its seat. `amount_of` says what others are.
    pub(super) fn leave(&mut self, seat: u32, amount: u128, amount_of: impl Fn(u32) -> u128) {
        let at = seat as usize;
        self.seats[at] = NONE;
        self.codes[at] = VACANT;
        self.live -= 1;
        let block = at / BLOCK;
        if self.blocks[block] != amount {
            return;
        }
        let least = self.least_of(block, amount, amount_of);
        self.blocks[block] = least;
        let group = block / BLOCK;
        if least != amount && self.groups[group] == amount {
            let end = self.blocks.len().min((group + 1) * BLOCK);
            let blocks = self.blocks[group * BLOCK..end].iter().copied();
            self.groups[group] = blocks.min().unwrap_or(u128::MAX);
        }
    }

    /// The least amount of a block; no search beyond one of `known`, below which there is none.
    fn least_of(&self, block: usize, known: u128, amount_of: impl Fn(u32) -> u128) -> u128 {
        let range = block * BLOCK..(block + 1) * BLOCK;
        let code = self.codes[range.clone()].iter().copied().min();
        let code = code.unwrap_or(VACANT);
        let mut least = u128::MAX;
        if code == VACANT {
            return least;
        }
        for seat in range.filter(|seat| self.codes[*seat] == code) {
            least = least.min(amount_of(self.seats[seat]));
            if least == known {
                break;
            }
        }
        least
    }

    /// The first payment in `from` or behind it whose amount is at most `most`.
    pub(super) fn first_within(
        &self,
        from: u32,
        most: u128,
        amount_of: impl Fn(u32) -> u128,
    ) -> Option<u32> {
        let most_code = code(most).min(VACANT - 1);
        let in_block = |block: usize, from: usize| {
            let end = (block + 1) * BLOCK;
            let fits = |seat: &usize| {
                self.codes[*seat] <= most_code && amount_of(self.seats[*seat]) <= most
            };
            (from..end).find(fits).map(|seat| self.seats[seat])
        };
        let mut block = from as usize / BLOCK;
        if *self.blocks.get(block)? <= most {
            let found = in_block(block, from as usize);
            if found.is_some() {
                return found;
            }
        }
        block += 1;
        while block < self.blocks.len() {
            let group = block / BLOCK;
            if self.groups[group] <= most {
                let end = self.blocks.len().min((group + 1) * BLOCK);
                if let Some(at) = (block..end).find(|block| self.blocks[*block] <= most) {
                    return in_block(at, at * BLOCK);
                }
            }
            block = (group + 1) * BLOCK;
        }
        None
    }

    fn add_block(&mut self) {
        if self.blocks.len().is_multiple_of(BLOCK) {
            self.groups.push(u128::MAX);
        }
        self.blocks.push(u128::MAX);
        let seats = self.seats.len() + BLOCK;
        if self.seats.capacity() < seats {
            // By an eighth at a time: long queues are many bytes.
            let more = BLOCK.max(self.seats.len() / 8);
            self.seats.reserve_exact(more);
            self.codes.reserve_exact(more);
        }
        self.seats.resize(seats, NONE);
        self.codes.resize(seats, VACANT);
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = self.seats.capacity() * size_of::<u32>()
            + self.codes.capacity() * size_of::<u16>()
            + (self.blocks.capacity() + self.groups.capacity()) * size_of::<u128>();
        bytes as u64
    }

    /// Least amounts are exact, and counts are right.
    pub(super) fn audit(&self, amount_of: impl Fn(u32) -> u128) -> Result<(), String> {
        let amount = |seat: usize| match self.seats[seat] {
            NONE => u128::MAX,
            payment => amount_of(payment),
        };
        for (block, least) in self.blocks.iter().enumerate() {
            let exact = (block * BLOCK..(block + 1) * BLOCK).map(amount).min();
            if exact != Some(*least) {
                return Err(format!("block {block} of a lane: not its least amount"));
            }
        }
        for (group, least) in self.groups.iter().enumerate() {
            let end = self.blocks.len().min((group + 1) * BLOCK);
            if self.blocks[group * BLOCK..end].iter().min() != Some(least) {
                return Err(format!("group {group} of a lane: not its least amount"));
            }
        }
        let live = self.seats.iter().filter(|seat| **seat != NONE).count();
        if live as u32 != self.live {
            return Err(format!("a lane of {} seats {live}", self.live));
        }
        Ok(())
    }
}

/// An amount in 16 bits, rounded down: its length in bits and the nine bits behind the first. A
/// larger amount never has a smaller code.
#[inline]
fn code(amount: u128) -> u16 {
    const BITS: u32 = 9;
    if amount == 0 {
        return 0;
    }
    let top = u128::BITS - 1 - amount.leading_zeros();
    let rest = if top >= BITS {
        amount >> (top - BITS)
    } else {
        amount << (BITS - top)
    };
    ((top + 1) << BITS) as u16 | (rest as u16 & ((1 << BITS) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_never_fall_as_amounts_rise() {
        // Up to 2^96: no payment is larger.
        let mut amounts: Vec<u128> = (0..96)
            .flat_map(|bit| {
                [0, 1, 3, 77].map(|more| (1u128 << bit).saturating_add(more << (bit / 2)))
            })
            .chain(0..5_000)
            .collect();
        amounts.sort_unstable();
        assert!(amounts.windows(2).all(|two| code(two[0]) <= code(two[1])));
        assert!(code(1 << 96) < VACANT);
    }

    #[test]
    fn the_first_that_fits_is_that_of_a_plain_walk() {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        // Amounts of many sizes, and of one: there codes do not tell them apart.
        for spread in [1u64, 3, 1 << 20] {
            let mut amounts: Vec<u128> = Vec::new();
            let mut seats = Vec::new();
            let mut lane = Lane::new();
            for round in 0..9_000u64 {
                if round % 3 < 2 {
                    let amount = u128::from(1_000_000 + random(spread));
                    seats.push(Some(lane.push(amounts.len() as u32, amount)));
                    amounts.push(amount);
                } else {
                    let at = random(seats.len() as u64) as usize;
                    if let Some(seat) = seats[at].take() {
                        lane.leave(seat, amounts[at], |payment| amounts[payment as usize]);
                    }
                }
                if round % 64 == 0 {
                    let most = u128::from(1_000_000 + random(spread)).saturating_sub(1);
                    let from = random(u64::from(lane.next) + 1) as u32;
                    let plain = (0..amounts.len())
                        .find(|at| seats[*at] >= Some(from) && amounts[*at] <= most);
                    let found = lane.first_within(from, most, |payment| amounts[payment as usize]);
                    assert_eq!(found, plain.map(|at| at as u32));
                }
            }
            lane.audit(|payment| amounts[payment as usize]).unwrap();
        }
    }
}
