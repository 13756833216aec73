//! Intraday credit: which accounts have a line for the day only, whether it is in force, and what
//! became credit overnight. The line itself is part of the account's in the ledger while it is in
//! force; the room remembers it while it is not.

use super::index::{Handle, Index, hash_64};
use bytemuck::{Pod, Zeroable};

const NO_LENDER: Handle = u32::MAX;

/// The intraday credit of one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct CreditRow {
    /// The line for the day, minor units; what pledges give is not in it.
    pub(super) line: u128,
    /// Owed overnight to the lender.
    pub(super) loan: u128,
    pub(super) account: Handle,
    lender: Handle,
    in_force: u32,
    reserved: u32,
}

impl CreditRow {
    /// Whether line and pledges give credit now.
    pub(super) fn is_in_force(&self) -> bool {
        self.in_force != 0
    }

    pub(super) fn set_in_force(&mut self, in_force: bool) {
        self.in_force = in_force.into();
    }

    /// What of the line counts now.
    pub(super) fn given(&self) -> u128 {
        if self.is_in_force() { self.line } else { 0 }
    }

    /// Who lends overnight what is not repaid.
    pub(super) fn lender(&self) -> Option<Handle> {
        (self.lender != NO_LENDER).then_some(self.lender)
    }

    pub(super) fn set_lender(&mut self, lender: Option<Handle>) {
        self.lender = lender.unwrap_or(NO_LENDER);
    }
}

/// The intraday credit of all accounts that have or had any.
pub(super) struct Intraday {
    rows: Vec<CreditRow>,
    by_account: Index,
}

impl Intraday {
    /// Room for every account.
    pub(super) fn new(accounts: u32) -> Intraday {
        Intraday {
            rows: Vec::new(),
            by_account: Index::new(accounts),
        }
    }

    pub(super) fn rows(&self) -> &[CreditRow] {
        &self.rows
    }

    pub(super) fn row_mut(&mut self, at: usize) -> &mut CreditRow {
        &mut self.rows[at]
    }

    pub(super) fn find(&self, account: Handle) -> Option<usize> {
        if self.rows.is_empty() {
            return None;
        }
        let hash = hash_64(account.into());
        let at = self
            .by_account
            .find(hash, |at| self.rows[at as usize].account == account);
        at.map(|at| at as usize)
    }

    /// The row of an account, made where it has none; a new one is in force where the day gives
    /// credit.
    pub(super) fn open(&mut self, account: Handle, in_force: bool) -> &mut CreditRow {
        let at = self.find(account).unwrap_or_else(|| {
            self.add(CreditRow {
                account,
                lender: NO_LENDER,
                in_force: in_force.into(),
                ..CreditRow::zeroed()
            })
        });
        &mut self.rows[at]
    }

    fn add(&mut self, row: CreditRow) -> usize {
        let at = self.rows.len();
        self.by_account
            .insert(hash_64(row.account.into()), at as u32);
        self.rows.push(row);
        at
    }

    pub(super) fn restore(rows: Vec<CreditRow>, accounts: u32) -> Intraday {
        let mut intraday = Intraday::new(accounts.max(rows.len() as u32));
        for row in rows {
            intraday.add(row);
        }
        intraday
    }
}
