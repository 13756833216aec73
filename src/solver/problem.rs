//! The problem: who owes whom what, and what bounds it. Nothing here knows where it came from.

/// Place of a payment in [`Problem::payments`].
pub type PaymentIndex = u32;

/// Class of a payment; of one account all urgent ones go before its high ones, and those before its
/// normal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Strictly in order.
    Urgent,
    /// Strictly in order, behind urgent ones.
    High,
    /// Behind both; in any order where the problem allows bypass.
    Normal,
}

/// What an account has, and what it must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Minor units it may spend; `None` where it has no floor. Below zero it pays nothing until
    /// enough comes in.
    pub liquidity: Option<i128>,
    /// What is left of its urgent and of its high reservation, minor units.
    pub reserved: [u128; 2],
    /// What its normal payments may still net send to accounts without a limit of their own;
    /// `None` where nothing bounds it.
    pub multilateral: Option<i128>,
}

impl Account {
    /// An account that may spend `liquidity` and knows no other bound.
    pub fn with(liquidity: i128) -> Account {
        Account {
            liquidity: Some(liquidity),
            reserved: [0; 2],
            multilateral: None,
        }
    }
}

/// A payment that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Who pays.
    pub debtor: u32,
    /// Who is paid; not the debtor.
    pub creditor: u32,
    /// Minor units, 1 to [`AMOUNT_MAX`].
    pub amount: u128,
    /// Its class.
    pub class: Class,
    /// Whether it may be chosen. One that may not still stands before those behind it.
    pub is_movable: bool,
}

/// What normal payments of one account may still net send to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Whose limit it is.
    pub account: u32,
    /// Toward whom.
    pub counterparty: u32,
    /// Minor units left.
    pub room: i128,
}

/// Largest amount of a payment.
pub const AMOUNT_MAX: u128 = 1 << 96;
/// Largest liquidity or room that makes a difference, either way.
const MONEY_MAX: i128 = 1 << 122;
/// Most payments of a problem.
const PAYMENTS_MAX: usize = 1 << 24;

/// Payments of which as much value as possible is to settle at once.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    accounts: Vec<Account>,
    payments: Vec<Payment>,
    limits: Vec<Limit>,
    is_ordered: bool,
}

impl Problem {
    /// Nobody owes anything.
    pub fn new() -> Problem {
        Problem::default()
    }

    /// Whether normal payments may overtake each other; they may unless it is said here.
    pub fn set_bypass(&mut self, on: bool) {
        self.is_ordered = !on;
    }

    /// Adds an account and says its number.
    pub fn add_account(&mut self, account: Account) -> u32 {
        let clamped = |money: i128| money.clamp(-MONEY_MAX, MONEY_MAX);
        self.accounts.push(Account {
            liquidity: account.liquidity.map(clamped),
            reserved: account.reserved.map(|left| left.min(MONEY_MAX as u128)),
            multilateral: account.multilateral.map(clamped),
        });
        self.accounts.len() as u32 - 1
    }

    /// Adds a payment and says its number. Those of one debtor and class come in queue order.
    ///
    /// # Panics
    /// If its accounts are not there or are one, or its amount is none.
    pub fn add_payment(&mut self, payment: Payment) -> PaymentIndex {
        assert!((payment.debtor as usize) < self.accounts.len());
        assert!((payment.creditor as usize) < self.accounts.len());
        assert_ne!(payment.debtor, payment.creditor);
        assert!((1..=AMOUNT_MAX).contains(&payment.amount));
        assert!(self.payments.len() < PAYMENTS_MAX);
        self.payments.push(payment);
        self.payments.len() as u32 - 1
    }

    /// Adds a bilateral limit; a pair has one at most.
    ///
    /// # Panics
    /// If its accounts are not there.
    pub fn add_limit(&mut self, limit: Limit) {
        assert!((limit.account as usize) < self.accounts.len());
        assert!((limit.counterparty as usize) < self.accounts.len());
        self.limits.push(Limit {
            room: limit.room.clamp(-MONEY_MAX, MONEY_MAX),
            ..limit
        });
    }

    /// Its accounts.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// Its payments.
    pub fn payments(&self) -> &[Payment] {
        &self.payments
    }

    /// Its bilateral limits.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Whether normal payments may overtake each other.
    pub fn bypass(&self) -> bool {
        !self.is_ordered
    }

    /// Minor units of all payments.
    pub fn value(&self) -> u128 {
        self.payments.iter().map(|payment| payment.amount).sum()
    }
}
