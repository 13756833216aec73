//! Improvement by annealing: payments go in and out one at a time, also where an account then lacks
//! money, which costs; as it cools, lacking is no longer worth it.
//!
//! Works on rounded units and on its own small tables: some ten nanoseconds a step. What it finds
//! is a suggestion; [`super::board::Board`] makes it exact. Every run repeats: its random numbers
//! come from a seed, its length is counted in steps.

use super::board::Board;
use super::layout::{Layout, NONE};
use super::problem::{Class, PaymentIndex, Problem};
use super::round::Scaled;

/// What an account would have.
#[derive(Clone, Copy, Default)]
struct Seat {
    left: i64,
    /// What must be left where a free payment is in, and where only the chain is.
    floor_free: i64,
    floor_chain: i64,
    free_in: u32,
    chain_in: u32,
}

impl Seat {
    /// What it lacks, 0 or more.
    #[inline]
    fn lacks(&self) -> i64 {
        let floor = if self.free_in > 0 {
            self.floor_free
        } else if self.chain_in > 0 {
            self.floor_chain
        } else {
            return 0;
        };
        (floor - self.left).max(0)
    }
}

/// A payment that may be chosen.
#[derive(Clone, Copy)]
struct Item {
    amount: i64,
    debtor: u32,
    creditor: u32,
    /// Its place in the chain of its debtor, or [`NONE`].
    place: u32,
    payment: PaymentIndex,
}

#[derive(Clone, Copy)]
struct Room {
    left: i64,
    payments: u32,
}

impl Room {
    fn lacks(&self) -> i64 {
        if self.payments > 0 {
            (-self.left).max(0)
        } else {
            0
        }
    }
}

/// A state that is being improved, and the best seen.
pub(super) struct Search {
    items: Vec<Item>,
    /// Per item, the rooms it takes from and gives to; empty where there are no limits.
    bounds: Vec<(u32, u32)>,
    seats: Vec<Seat>,
    chains: Vec<Chain>,
    rooms: Vec<Room>,
    is_in: Vec<bool>,
    value: i64,
    lacks: i64,
    best_value: i64,
    best: Vec<bool>,
    /// Items changed since `best`, where they are few.
    changed: Vec<u32>,
    is_far: bool,
    random: Random,
}

/// What the chain of an account asks for at each length.
struct Chain {
    /// What must be left with so many of it in.
    floors: Vec<i64>,
    length: u32,
}

/// How a run cools.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cooling {
    pub(super) steps: u64,
    /// Units that a step may lose, at the beginning and at the end.
    pub(super) from: f64,
    pub(super) to: f64,
    /// What a unit that is lacking costs, in units of value, at the beginning and at the end.
    pub(super) price: (f64, f64),
}

/// Steps at one temperature.
const ROUND: u64 = 256;
/// Temperatures between two questions whether it is over.
const ROUNDS_UNASKED: u64 = 256;

impl Search {
    /// Nothing is in.
    pub(super) fn new(problem: &Problem, layout: &Layout, scaled: &Scaled, seed: u64) -> Search {
        let most = (i128::from(i64::MAX) / 4) as i64;
        let down = |money: i128| {
            let units = money >> scaled.shift;
            units.clamp(-i128::from(most), i128::from(most)) as i64
        };
        let mut seats = Vec::new();
        let mut chains = Vec::new();
        for (at, account) in (0..).zip(problem.accounts()) {
            let mut unused = account.reserved.map(|left| left as i128);
            let mut floors = vec![0];
            for at in layout.chain(at) {
                let payment = problem.payments()[*at as usize];
                if payment.class != Class::Normal {
                    unused[payment.class as usize] -= payment.amount as i128;
                }
                let floor = [0, unused[0].max(0), unused[0].max(0) + unused[1].max(0)];
                floors.push(down(floor[payment.class as usize]));
            }
            seats.push(Seat {
                // Who has no floor has more than all that is owed.
                left: account.liquidity.map_or(most / 2, down),
                floor_free: down(unused[0].max(0) + unused[1].max(0)),
                ..Seat::default()
            });
            chains.push(Chain {
                length: floors.len() as u32 - 1,
                floors,
            });
        }
        let items: Vec<Item> = layout
            .usable
            .iter()
            .map(|at| {
                let payment = problem.payments()[*at as usize];
                Item {
                    amount: scaled.amounts[*at as usize],
                    debtor: payment.debtor,
                    creditor: payment.creditor,
                    place: layout.place[*at as usize],
                    payment: *at,
                }
            })
            .collect();
        let bounds = items.iter().map(|item| layout.bounds(item.payment));
        let rooms = layout.rooms.iter().map(|(left, _)| Room {
            left: down(*left),
            payments: 0,
        });
        Search {
            bounds: if layout.is_limited() {
                bounds.collect()
            } else {
                Vec::new()
            },
            seats,
            chains,
            rooms: rooms.collect(),
            is_in: vec![false; items.len()],
            value: 0,
            lacks: 0,
            best_value: 0,
            best: vec![false; items.len()],
            changed: Vec::new(),
            is_far: false,
            random: Random(seed),
            items,
        }
    }

    /// Goes on from a choice.
    pub(super) fn set(&mut self, board: &Board<'_>) {
        // Chains from the end out, then from the front in; free ones out first and in last.
        let mut order: Vec<u32> = (0..self.items.len() as u32).collect();
        order.sort_by_key(|at| self.items[*at as usize].place);
        for at in order.iter().rev().copied() {
            if self.is_in[at as usize] {
                self.turn(at);
            }
        }
        for at in order {
            if board.is_in(self.items[at as usize].payment) {
                self.turn(at);
            }
        }
        if self.lacks == 0 && self.value > self.best_value {
            self.best.clone_from(&self.is_in);
            self.best_value = self.value;
        }
        self.is_far = true;
        self.changed.clear();
    }

    /// The payments of the best choice seen.
    pub(super) fn best(&self) -> Vec<PaymentIndex> {
        let all = self.items.iter().zip(&self.best);
        all.filter_map(|(item, is_in)| is_in.then_some(item.payment))
            .collect()
    }

    /// The payments of the present choice, which some account may not bear.
    pub(super) fn present(&self) -> Vec<PaymentIndex> {
        let all = self.items.iter().zip(&self.is_in);
        all.filter_map(|(item, is_in)| is_in.then_some(item.payment))
            .collect()
    }

    /// Runs a number of steps, or fewer where it is over before.
    pub(super) fn run(&mut self, cooling: Cooling, is_over: &mut dyn FnMut() -> bool) {
        let rounds = cooling.steps.div_ceil(ROUND).max(1);
        for round in 0..rounds {
            if round % ROUNDS_UNASKED == ROUNDS_UNASKED - 1 && is_over() {
                return;
            }
            let part = round as f64 / rounds as f64;
            let temperature = cooling.from * (cooling.to / cooling.from).powf(part);
            let price = cooling.price.0 + (cooling.price.1 - cooling.price.0) * part;
            for _ in 0..ROUND {
                self.step(temperature, price);
            }
        }
    }

    #[inline]
    fn step(&mut self, temperature: f64, price: f64) {
        let at = self.random.below(self.items.len() as u32);
        let item = self.items[at as usize];
        let seat = &self.seats[item.debtor as usize];
        let is_in = self.is_in[at as usize];
        let is_turn = if item.place == NONE {
            is_in || seat.chain_in == self.chains[item.debtor as usize].length
        } else if is_in {
            item.place + 1 == seat.chain_in && seat.free_in == 0
        } else {
            item.place == seat.chain_in
        };
        if !is_turn {
            return;
        }
        let lacked = self.lacks;
        self.turn(at);
        let gain = if is_in { -item.amount } else { item.amount };
        let energy = gain as f64 - price * (self.lacks - lacked) as f64;
        if energy < 0.0 && energy < temperature * self.random.logarithm() {
            self.turn(at);
            return;
        }
        if !self.is_far {
            self.changed.push(at);
        }
        if self.lacks == 0 && self.value > self.best_value {
            self.keep();
        } else if self.changed.len() > self.items.len() {
            self.is_far = true;
            self.changed.clear();
        }
    }

    /// The present choice is the best.
    fn keep(&mut self) {
        self.best_value = self.value;
        if self.is_far {
            self.best.copy_from_slice(&self.is_in);
            self.is_far = false;
        }
        for at in self.changed.drain(..) {
            self.best[at as usize] = self.is_in[at as usize];
        }
    }

    /// Takes a payment in or out.
    #[inline]
    fn turn(&mut self, at: u32) {
        let item = self.items[at as usize];
        let is_in = &mut self.is_in[at as usize];
        *is_in = !*is_in;
        let (moved, sign) = if *is_in {
            (item.amount, 1)
        } else {
            (-item.amount, -1)
        };
        self.value += moved;
        let debtor = &mut self.seats[item.debtor as usize];
        let mut change = -debtor.lacks();
        debtor.left -= moved;
        if item.place == NONE {
            debtor.free_in = debtor.free_in.wrapping_add_signed(sign);
        } else {
            debtor.chain_in = debtor.chain_in.wrapping_add_signed(sign);
            debtor.floor_chain = self.chains[item.debtor as usize].floors[debtor.chain_in as usize];
        }
        change += debtor.lacks();
        let creditor = &mut self.seats[item.creditor as usize];
        change -= creditor.lacks();
        creditor.left += moved;
        change += creditor.lacks();
        if !self.bounds.is_empty() {
            let (out, back) = self.bounds[at as usize];
            change += self.use_room(out, -moved, sign) + self.use_room(back, moved, 0);
        }
        self.lacks += change;
    }

    fn use_room(&mut self, room: u32, moved: i64, payments: i32) -> i64 {
        if room == NONE {
            return 0;
        }
        let room = &mut self.rooms[room as usize];
        let lacked = room.lacks();
        room.left += moved;
        room.payments = room.payments.wrapping_add_signed(payments);
        room.lacks() - lacked
    }
}

/// Random numbers that repeat.
struct Random(u64);

impl Random {
    #[inline]
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    #[inline]
    fn below(&mut self, count: u32) -> u32 {
        (((self.next() >> 32) * u64::from(count)) >> 32) as u32
    }

    /// The logarithm of a number between 0 and 1.
    #[inline]
    fn logarithm(&mut self) -> f64 {
        (((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64).ln()
    }
}
