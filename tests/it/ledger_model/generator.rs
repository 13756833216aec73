//! Random ledger commands in which everything happens often. It looks at the model to know what is
//! there (a pending transfer to post, an account that is nearly empty), so that refusals deep in the
//! lists are reached, and then spoils a field now and then, so that two offences meet.

use super::model::Model;
use millrace::engine::Limits;
use millrace::protocol::command::{
    AccountFlags, AuthorisationStep, Authorise, Command, CommandKind, CreateAccount, DayPhase,
    Empty, SetCreditLine, SetPhase, Transfer, TransferFlags, Transfers,
};
use millrace::protocol::event::{AuthorisationState, TransferState};
use millrace::protocol::frame::CommandFrame;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::units::{AccountId, Amount, AssetId, ParticipantId, Timestamp, TransferId};
use millrace::protocol::wire::{Bool, Zero};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;
/// Accounts made at the start; later ones come by chance.
pub const ACCOUNTS: u64 = 14;
/// Highest account number that is ever asked for.
pub const ACCOUNTS_MAX: u64 = 20;
/// May go below zero: money comes from it.
const ISSUERS: [u64; 2] = [1, 2];
/// Accounts without limits in a third asset, for sums near 2^128.
const HUGE: [u64; 3] = [12, 13, 14];

/// What one seed's world looks like.
#[derive(Clone, Debug)]
pub struct World {
    pub limits: Limits,
    /// Where time begins, ns.
    start: u64,
    /// Whether more than one command's worth of deadlines comes due at once.
    has_crowds: bool,
}

impl World {
    /// Small tables, so that windows wrap and fill.
    pub fn of(seed: u64) -> World {
        let has_crowds = seed.is_multiple_of(7);
        let limits = Limits {
            accounts: 18,
            transfers: if has_crowds {
                700
            } else {
                24 + (seed % 5) as u32 * 12
            },
            window_days: 1 + (seed % 3) as u32,
            authorisations: 10,
            authorisation_steps: 4 + (seed % 4) as u32 * 3,
            refund_days: 1 + (seed / 3 % 4) as u32,
            // The rooms that stay empty are small: every audit walks them.
            payments: 8,
            instruments: 2,
            orders: 8,
            special_orders: 8,
            order_sessions: 2,
            client_order_ids: 8,
            price_levels: 8,
            ..Limits::small()
        };
        // Late enough that 2^32 seconds pass the end of time.
        let start = if seed % 4 == 1 {
            15 << 60
        } else {
            seed % 2 * 1_000
        };
        World {
            limits,
            start,
            has_crowds,
        }
    }

    /// Assets, participants and accounts.
    pub fn setup(&self) -> Vec<CommandFrame> {
        let mut frames = Vec::new();
        let mut parser = ScriptParser::default();
        for line in [
            r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#,
            r#"{"cmd":"create_asset","asset":2,"code":"USD","scale":2}"#,
            r#"{"cmd":"create_asset","asset":3,"code":"GOLD","scale":0}"#,
            r#"{"cmd":"create_participant","participant":1,"code":"BANK"}"#,
            r#"{"cmd":"create_participant","participant":2,"code":"BROKER"}"#,
        ] {
            let frame = parser.parse(line).expect("a script line");
            frames.push(frame.expect("not blank"));
        }
        for account in 1..=ACCOUNTS {
            let body = Self::account(account);
            frames.push(CommandFrame::new(CommandKind::CreateAccount, &body));
        }
        let at = Timestamp(self.start);
        frames.into_iter().map(|frame| frame.at(at)).collect()
    }

    fn account(account: u64) -> CreateAccount {
        let flags = match account {
            3 | 4 | 5 | 9 => AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
            6 | 10 => AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
            8 => AccountFlags::SETTLEMENT,
            13 | 14 => AccountFlags::INSTANT,
            _ => AccountFlags::NONE,
        };
        let asset = match account {
            2 | 9 | 10 | 11 => 2,
            12..=14 => 3,
            _ => 1,
        };
        CreateAccount {
            account: AccountId(account),
            participant: ParticipantId(1 + (account % 2) as u32),
            asset: AssetId(asset),
            credit_line: Amount(if account == 5 { 100 } else { 0 }),
            flags,
            _reserved: [Zero::Zero; 14],
        }
    }
}

pub struct Generator {
    rng: Pcg64Mcg,
    world: World,
    at: u64,
    next_id: u128,
    recent: VecDeque<CommandFrame>,
    recent_transfers: VecDeque<Transfer>,
}

impl Generator {
    pub fn new(seed: u64, world: &World) -> Generator {
        Generator {
            rng: Pcg64Mcg::seed_from_u64(seed),
            world: world.clone(),
            at: world.start,
            next_id: 0,
            recent: VecDeque::new(),
            recent_transfers: VecDeque::new(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.random_range(0..end)
    }

    /// Once in `times`.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn try_pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| self.pick(from))
    }

    pub fn next(&mut self, model: &Model) -> CommandFrame {
        let step = match self.below(40) {
            0 => 10 * SECOND,
            1 => 4 * SECOND,
            2..12 => SECOND,
            12..30 => 300_000_000,
            _ => 0,
        };
        self.at = self.at.saturating_add(step);
        // Clocks step back now and then; the engine's does not.
        let at = match self.below(25) {
            0 => self.at.saturating_sub(5 * SECOND),
            _ => self.at,
        };
        if !self.recent.is_empty() && self.once_in(20) {
            let index = self.below(self.recent.len() as u64) as usize;
            return self.recent[index].clone().at(Timestamp(at));
        }
        let frame = self.command(model).at(Timestamp(at));
        self.recent.push_back(frame.clone());
        if self.recent.len() > 30 {
            self.recent.pop_front();
        }
        if let Ok(Command::Transfer(transfer)) = frame.as_ref().decode() {
            self.recent_transfers.push_back(*transfer);
            if self.recent_transfers.len() > 30 {
                self.recent_transfers.pop_front();
            }
        }
        frame
    }

    fn command(&mut self, model: &Model) -> CommandFrame {
        if !matches!(model.phase, DayPhase::Open) && self.once_in(3) {
            return self.set_phase(model);
        }
        if self.world.has_crowds && self.once_in(250) {
            return self.crowd();
        }
        match self.below(100) {
            0..38 => CommandFrame::new(CommandKind::Transfer, &self.transfer(model)),
            38..56 => self.transfers(model),
            56..64 => CommandFrame::new(CommandKind::Authorise, &self.authorise(model)),
            64..86 => self.step(model),
            86..90 => self.tick(),
            90..93 => self.set_phase(model),
            93..97 => CommandFrame::new(CommandKind::SetCreditLine, &self.set_credit_line()),
            _ => CommandFrame::new(CommandKind::CreateAccount, &self.create_account()),
        }
    }

    fn tick(&mut self) -> CommandFrame {
        let body = Empty {
            _reserved: [Zero::Zero; 16],
        };
        CommandFrame::new(CommandKind::Tick, &body)
    }

    /// Days are short: what is not open soon ends, and what is closed soon opens.
    fn set_phase(&mut self, model: &Model) -> CommandFrame {
        let phase = match (model.phase, self.below(10)) {
            (_, 0) => self.pick(&[
                DayPhase::Sod,
                DayPhase::Liquidity,
                DayPhase::Cut1,
                DayPhase::Cut2,
                DayPhase::Eod1,
                DayPhase::Eod2,
                DayPhase::Recon,
            ]),
            (DayPhase::Closed, _) => DayPhase::Open,
            (DayPhase::Sod | DayPhase::Liquidity, _) => DayPhase::Open,
            (_, _) => DayPhase::Closed,
        };
        let body = SetPhase {
            phase,
            _reserved: [Zero::Zero; 3],
            business_date: 0,
            _reserved_end: [Zero::Zero; 8],
        };
        CommandFrame::new(CommandKind::SetPhase, &body)
    }

    fn set_credit_line(&mut self) -> SetCreditLine {
        SetCreditLine {
            permanent: Bool::Yes,
            account: AccountId(1 + self.below(ACCOUNTS_MAX)),
            _reserved: [Zero::Zero; 7],
            amount: Amount(match self.below(12) {
                0 => u128::MAX,
                1 => (1 << 96) - 1,
                2 => (1 << 96) + 1,
                _ => self.below(200).into(),
            }),
        }
    }

    fn create_account(&mut self) -> CreateAccount {
        let account = match self.below(20) {
            0 => 0,
            1 => u64::MAX,
            _ => 1 + self.below(ACCOUNTS_MAX),
        };
        let mut body = World::account(account);
        match self.below(8) {
            0 => body.flags = AccountFlags(self.below(64) as u16),
            1 => body.participant = ParticipantId(self.below(4) as u32),
            2 => body.asset = AssetId(self.below(5) as u32),
            3 => body.credit_line = Amount(self.pick(&[5, 1 << 96, (1 << 96) + 1, u128::MAX])),
            _ => {}
        }
        body
    }

    // Transfers.

    fn new_id(&mut self) -> TransferId {
        self.next_id += 1;
        TransferId(self.next_id)
    }

    fn old_id(&mut self) -> TransferId {
        let back = match self.below(3) {
            0 => 20,
            1 => 150,
            _ => self.next_id as u64 + 2,
        };
        TransferId((self.next_id + 2).saturating_sub(self.below(back).into()))
    }

    fn account_of(&mut self, model: &Model, asset: u32) -> u64 {
        let accounts = model.accounts.iter();
        let of_asset: Vec<u64> = accounts
            .filter(|(_, account)| account.asset == asset)
            .map(|(id, _)| *id)
            .collect();
        self.try_pick(&of_asset).unwrap_or(1)
    }

    /// An amount around what the debit account has.
    fn amount(&mut self, model: &Model, debit: u64) -> u128 {
        let spendable = model.accounts.get(&debit).map_or(0, |account| {
            account
                .credits_posted
                .saturating_add(account.credit_line)
                .saturating_sub(account.debits_posted)
                .saturating_sub(account.debits_pending)
        });
        match self.below(10) {
            0 => 0,
            1 => spendable,
            2 => spendable.saturating_add(1),
            3 => spendable / 2,
            4 => 1,
            _ => self.below(60).into(),
        }
    }

    fn plain(&mut self, model: &Model) -> Transfer {
        let asset = 1 + self.below(2) as u32;
        let debit = match self.below(4) {
            0 => ISSUERS[asset as usize - 1],
            _ => self.account_of(model, asset),
        };
        let credit = self.account_of(model, asset);
        let amount = if ISSUERS.contains(&debit) {
            self.below(100).into()
        } else {
            self.amount(model, debit)
        };
        Transfer {
            id: self.new_id(),
            debit_account: AccountId(debit),
            credit_account: AccountId(credit),
            amount: Amount(amount),
            pending_id: TransferId(0),
            user_data_128: self.small().into(),
            user_data_64: self.small(),
            user_data_32: self.small() as u32,
            timeout_s: 0,
            asset: AssetId(if self.once_in(3) { asset } else { 0 }),
            code: self.small() as u16,
            flags: TransferFlags::NONE,
            _reserved: [Zero::Zero; 8],
        }
    }

    /// Mostly nothing.
    fn small(&mut self) -> u64 {
        match self.below(3) {
            0 => 1 + self.below(2),
            _ => 0,
        }
    }

    fn timeout(&mut self) -> u32 {
        match self.below(10) {
            0..3 => 0,
            3 => u32::MAX,
            _ => 1 + self.below(15) as u32,
        }
    }

    fn transfer(&mut self, model: &Model) -> Transfer {
        if !self.recent_transfers.is_empty() && self.once_in(10) {
            return self.repeated();
        }
        let mut transfer = match self.below(100) {
            0..32 => self.plain(model),
            32..54 => self.pending(model),
            54..78 => self.post_or_void(model),
            78..88 => self.balancing(model),
            88..92 => self.closing(model),
            _ => self.huge(model),
        };
        if self.once_in(7) {
            self.spoil(&mut transfer);
        }
        if self.once_in(14) {
            self.spoil(&mut transfer);
        }
        transfer
    }

    /// One of the last transfers again, mostly with a field changed.
    fn repeated(&mut self) -> Transfer {
        let index = self.below(self.recent_transfers.len() as u64) as usize;
        let mut transfer = self.recent_transfers[index];
        for _ in 0..self.below(3) {
            self.spoil_but_id(&mut transfer);
        }
        transfer
    }

    fn pending(&mut self, model: &Model) -> Transfer {
        let mut transfer = self.plain(model);
        transfer.flags = TransferFlags::PENDING;
        transfer.timeout_s = self.timeout();
        transfer
    }

    fn balancing(&mut self, model: &Model) -> Transfer {
        let mut transfer = self.plain(model);
        let debit = TransferFlags::BALANCING_DEBIT;
        let credit = TransferFlags::BALANCING_CREDIT;
        transfer.flags = self.pick(&[debit, debit, credit, credit, debit.with(credit)]);
        if self.once_in(3) {
            transfer.flags = transfer.flags.with(TransferFlags::PENDING);
        }
        transfer.amount = Amount(match self.below(3) {
            0 => u128::MAX,
            1 => 1_000,
            _ => self.below(60).into(),
        });
        transfer
    }

    fn closing(&mut self, model: &Model) -> Transfer {
        let mut transfer = self.pending(model);
        let which = self.pick(&[TransferFlags::CLOSING_DEBIT, TransferFlags::CLOSING_CREDIT]);
        transfer.flags = transfer.flags.with(which);
        transfer.timeout_s = 1 + self.below(8) as u32;
        if self.once_in(2) {
            transfer.amount = Amount(0);
        }
        transfer
    }

    /// Amounts near the end of what 128 bits hold, among accounts of their own.
    fn huge(&mut self, model: &Model) -> Transfer {
        let mut transfer = self.plain(model);
        transfer.debit_account = AccountId(self.pick(&HUGE));
        transfer.credit_account = AccountId(self.pick(&HUGE));
        transfer.asset = AssetId(0);
        transfer.amount = Amount(match self.below(6) {
            0 => u128::MAX,
            1 => u128::MAX - 1,
            2 => u128::MAX / 2,
            3 => u128::MAX / 3,
            4 => u128::MAX - u128::from(self.below(200)),
            _ => self.below(100).into(),
        });
        if self.once_in(2) {
            transfer.flags = TransferFlags::PENDING;
            transfer.timeout_s = self.below(6) as u32;
        }
        transfer
    }

    fn post_or_void(&mut self, model: &Model) -> Transfer {
        let pending: Vec<u128> = model
            .transfers
            .iter()
            .filter(|row| row.state == TransferState::Pending)
            .map(|row| row.id)
            .collect();
        let any: Vec<u128> = model.transfers.iter().map(|row| row.id).collect();
        let resolved: Vec<u128> = model
            .transfers
            .iter()
            .filter(|row| {
                row.flags.has(TransferFlags::PENDING) && row.state != TransferState::Pending
            })
            .map(|row| row.id)
            .collect();
        let pending_id = match self.below(10) {
            0..7 => self.try_pick(&pending),
            7 => self.try_pick(&any),
            8 => self.try_pick(&resolved),
            _ => None,
        };
        let pending_id = pending_id.unwrap_or_else(|| self.old_id().0);
        let row = model.transfer(pending_id);
        let whole = row.map_or(0, |row| row.amount);
        let is_post = self.once_in(2);
        let amount = match self.below(8) {
            0 => whole,
            1 => whole.saturating_add(1),
            2 => whole.saturating_sub(1),
            3 => 0,
            4 => whole / 2,
            _ => u128::MAX,
        };
        let mut transfer = self.plain(model);
        transfer.debit_account = AccountId(0);
        transfer.credit_account = AccountId(0);
        transfer.asset = AssetId(0);
        transfer.code = 0;
        if let Some(row) = row {
            if self.once_in(3) {
                transfer.debit_account = AccountId(row.debit);
            }
            if self.once_in(3) {
                transfer.credit_account = AccountId(row.credit);
            }
            if self.once_in(3) {
                transfer.asset = AssetId(row.asset);
            }
            if self.once_in(3) {
                transfer.code = row.code;
            }
        }
        transfer.pending_id = TransferId(pending_id);
        transfer.amount = Amount(amount);
        transfer.flags = if is_post {
            TransferFlags::POST_PENDING
        } else {
            TransferFlags::VOID_PENDING
        };
        transfer
    }

    fn spoil(&mut self, transfer: &mut Transfer) {
        match self.below(6) {
            0 => transfer.id = self.old_id(),
            1 if self.once_in(3) => transfer.id = TransferId(self.pick(&[0, u128::MAX])),
            _ => self.spoil_but_id(transfer),
        }
    }

    fn spoil_but_id(&mut self, transfer: &mut Transfer) {
        let accounts = [0, 1, 2, 3, 6, 9, 12, 19, 20, 77, u64::MAX];
        match self.below(13) {
            0 => transfer.debit_account = AccountId(self.pick(&accounts)),
            1 => transfer.credit_account = AccountId(self.pick(&accounts)),
            2 => transfer.credit_account = transfer.debit_account,
            3 => {
                transfer.amount = Amount(match self.below(4) {
                    0 => 0,
                    1 => u128::MAX,
                    2 => transfer.amount.0.saturating_add(1),
                    _ => transfer.amount.0.saturating_sub(1),
                });
            }
            4 => {
                transfer.pending_id = match self.below(4) {
                    0 => TransferId(0),
                    1 => TransferId(u128::MAX),
                    2 => transfer.id,
                    _ => self.old_id(),
                };
            }
            5 => transfer.user_data_128 = self.small().into(),
            6 => transfer.user_data_64 = self.small(),
            7 => transfer.user_data_32 = self.small() as u32,
            8 => transfer.timeout_s = self.timeout(),
            9 => transfer.asset = AssetId(self.below(4) as u32),
            10 => transfer.code = self.small() as u16,
            11 => transfer.flags.0 ^= 1 << self.below(8),
            _ => transfer.flags.0 ^= 1 << self.below(16),
        }
    }

    fn transfers(&mut self, model: &Model) -> CommandFrame {
        let count = 1 + self.below(6);
        let is_linked = self.once_in(2);
        let mut items: Vec<Transfer> = Vec::new();
        for _ in 0..count {
            let mut item = self.transfer(model);
            // The batch's own pending transfers are posted in it.
            if item.flags.resolves()
                && self.once_in(2)
                && let Some(before) = items.last()
                && before.flags.has(TransferFlags::PENDING)
            {
                item.pending_id = before.id;
                if self.once_in(2) {
                    item.amount = Amount::MAX;
                }
            }
            if is_linked && !self.once_in(3) {
                item.flags = item.flags.with(TransferFlags::LINKED);
            }
            if self.once_in(25)
                && let Some(before) = items.last()
            {
                item.id = before.id;
            }
            items.push(item);
        }
        if let Some(last) = items.last_mut()
            && !self.once_in(8)
        {
            last.flags.0 &= !TransferFlags::LINKED.0;
        }
        batch(&items)
    }

    /// More pending transfers at once than lapse before one command.
    fn crowd(&mut self) -> CommandFrame {
        let items: Vec<Transfer> = (0..300)
            .map(|at| Transfer {
                id: self.new_id(),
                debit_account: AccountId(1),
                credit_account: AccountId(7),
                amount: Amount(at % 3),
                pending_id: TransferId(0),
                user_data_128: 0,
                user_data_64: 0,
                user_data_32: 0,
                timeout_s: 1 + self.below(2) as u32,
                asset: AssetId(0),
                code: 0,
                flags: TransferFlags::PENDING,
                _reserved: [Zero::Zero; 8],
            })
            .collect();
        batch(&items)
    }

    // Authorisations.

    fn authorise(&mut self, model: &Model) -> Authorise {
        let plain = if self.once_in(15) {
            self.huge(model)
        } else {
            self.plain(model)
        };
        let mut body = Authorise {
            id: plain.id,
            debit_account: plain.debit_account,
            credit_account: plain.credit_account,
            amount: plain.amount,
            expires_at: Timestamp(match self.below(3) {
                0 => 0,
                _ => self.at.saturating_add((1 + self.below(15)) * SECOND),
            }),
            _reserved: [Zero::Zero; 8],
        };
        if self.once_in(6) {
            let known: Vec<(u128, u64, u64, u64)> = model
                .authorisations
                .iter()
                .map(|row| (row.id, row.debit, row.credit, row.expires_at))
                .collect();
            if let Some((id, debit, credit, expires_at)) = self.try_pick(&known) {
                body.id = TransferId(id);
                body.debit_account = AccountId(debit);
                body.credit_account = AccountId(credit);
                body.expires_at = Timestamp(expires_at);
            }
        }
        for _ in 0..self.below(20).saturating_sub(17) {
            match self.below(5) {
                0 => body.id = TransferId(self.pick(&[0, u128::MAX, 1, 2])),
                1 => body.debit_account = AccountId(self.pick(&[0, 2, 77, u64::MAX])),
                2 => body.credit_account = AccountId(self.pick(&[0, 2, 3, 77, u64::MAX])),
                3 => body.amount = Amount(self.pick(&[0, 0, u128::MAX])),
                _ => body.expires_at = Timestamp(self.at.saturating_sub(self.below(2))),
            }
        }
        body
    }

    fn step(&mut self, model: &Model) -> CommandFrame {
        let kind = self.pick(&[
            CommandKind::Increment,
            CommandKind::Capture,
            CommandKind::Capture,
            CommandKind::Capture,
            CommandKind::Void,
            CommandKind::Void,
            CommandKind::Refund,
            CommandKind::Refund,
        ]);
        let open_only = kind != CommandKind::Refund && !self.once_in(4);
        let known: Vec<u128> = model
            .authorisations
            .iter()
            .filter(|row| {
                if open_only {
                    row.state == AuthorisationState::Open
                } else {
                    kind != CommandKind::Refund || row.captured > 0 || row.id % 4 == 0
                }
            })
            .map(|row| row.id)
            .collect();
        let id = match self.below(15) {
            0 => self.old_id().0,
            _ => self.try_pick(&known).unwrap_or_else(|| self.old_id().0),
        };
        let row = model.authorisation(id);
        let most = row.map_or(0, |row| match kind {
            CommandKind::Refund => row.captured - row.refunded,
            _ => row.held,
        });
        let amount = match self.below(10) {
            0 => most,
            1 => most.saturating_add(1),
            2 => 0,
            3 => most / 2,
            4 => u128::MAX,
            _ => self.below(20).into(),
        };
        let mut body = AuthorisationStep {
            id: TransferId(id),
            authorisation: TransferId(0),
            amount: Amount(amount),
            debit_account: AccountId(0),
            credit_account: AccountId(0),
            is_final: Bool::No,
            _reserved: [Zero::Zero; 15],
        };
        if self.once_in(3) {
            body.authorisation = body.id;
            body.id = TransferId(match self.below(12) {
                0 => 0,
                1 => u128::MAX,
                2 | 3 => 1 + u128::from(self.below(40)),
                _ => self.new_id().0,
            });
        }
        if kind == CommandKind::Capture && self.once_in(4) {
            body.is_final = Bool::Yes;
        }
        if self.once_in(20) {
            body.debit_account = AccountId(row.map_or(3, |row| row.debit + self.below(2)));
        }
        if self.once_in(20) {
            body.credit_account = AccountId(row.map_or(3, |row| row.credit + self.below(2)));
        }
        CommandFrame::new(kind, &body)
    }
}

fn batch(items: &[Transfer]) -> CommandFrame {
    let head = Transfers {
        count: items.len() as u32,
        _reserved: [Zero::Zero; 12],
    };
    CommandFrame::with_items(CommandKind::Transfers, &head, items)
}
