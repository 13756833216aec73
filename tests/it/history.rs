//! History: what a follower projects from a journal is what the engine says, wherever it stopped.

use crate::pipeline_support::*;
use millrace::config::Config;
use millrace::engine::Engine;
use millrace::history::{
    BalanceRow, BalancesFilter, Direction, FILE_NAME, History, HistoryError, Options, Sync,
    TransferRow, TransfersFilter,
};
use millrace::pipeline::Inline;
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot};
use millrace::protocol::json::write_command;
use millrace::protocol::reason::Reason;
use millrace::protocol::units::{AccountId, TransferId};
use millrace::replay::{Nobody, Watcher, follow};
use millrace::session::SessionTable;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::path::Path;

const ACCOUNTS: u64 = 12;

/// Partitions and transactions so small that every boundary is met many times.
const SMALL: Options = Options {
    batch_rows: 50,
    partition_rows: 130,
};

/// Random lines over a small world; time moves on with each.
fn world(seed: u64, commands: u64) -> Vec<CommandFrame> {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let mut lines = vec![
        r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.to_string(),
        r#"{"cmd":"create_asset","asset":2,"code":"SHARE","scale":0}"#.to_string(),
    ];
    for id in 1..=3 {
        lines.push(format!(
            r#"{{"cmd":"create_participant","participant":{id},"code":"P{id}"}}"#
        ));
    }
    // Odd accounts hold cash, even ones shares; 1 and 2 issue.
    for id in 1..=ACCOUNTS {
        let flags = if id > 2 {
            r#","flags":["settlement"]"#
        } else {
            ""
        };
        lines.push(format!(
            r#"{{"cmd":"create_account","account":{id},"participant":{},"asset":{}{flags}}}"#,
            1 + id.div_ceil(2) % 3,
            2 - id % 2
        ));
    }
    lines.push(r#"{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":2,"tick_value":3,"max_price":40,"max_quantity":60,"maker_fee_bps":-3,"taker_fee_bps":300,"fee_account":1,"self_trade":"allow"}"#.into());
    lines.push(r#"{"cmd":"set_phase","phase":"open"}"#.into());
    lines.push(r#"{"cmd":"set_instrument_phase","instrument":1,"phase":"continuous"}"#.into());
    let mut next_id = 0_u64;
    for _ in 0..commands {
        let mut transfer = |rng: &mut Pcg64Mcg, linked: bool| {
            next_id += 1;
            // Now and then an id of two words, as UUIDs are.
            let id = if next_id.is_multiple_of(3) {
                format!("\"{}\"", u128::from(next_id) << 64 | 7)
            } else {
                next_id.to_string()
            };
            let back = next_id.saturating_sub(rng.random_range(1..6));
            let data = format!(
                r#""user_data_128":"{}","user_data_64":{},"user_data_32":{},"code":{}"#,
                u128::MAX - u128::from(rng.random_range(0..9_u64)),
                rng.random_range(0..5),
                rng.random_range(0..4),
                rng.random_range(1..7)
            );
            let debit = rng.random_range(1..=ACCOUNTS);
            let credit = debit % 2 + 2 * rng.random_range(0..7_u64);
            let amount = rng.random_range(0..90);
            let linked = if linked { r#""linked""# } else { "" };
            let comma = if linked.is_empty() { "" } else { "," };
            match rng.random_range(0..10) {
                0..6 => format!(
                    r#"{{"id":{id},"debit_account":{debit},"credit_account":{credit},"amount":{amount},"flags":[{linked}],{data}}}"#
                ),
                6 | 7 => format!(
                    r#"{{"id":{id},"debit_account":{debit},"credit_account":{credit},"amount":{amount},"timeout_s":{},"flags":["pending"{comma}{linked}],{data}}}"#,
                    rng.random_range(0..3)
                ),
                8 => format!(
                    r#"{{"id":{id},"pending_id":{back},"flags":["post_pending"{comma}{linked}]}}"#
                ),
                _ => format!(
                    r#"{{"id":{id},"pending_id":{back},"flags":["void_pending"{comma}{linked}]}}"#
                ),
            }
        };
        let line = match rng.random_range(0..20) {
            0..6 => transfer(&mut rng, false).replacen('{', r#"{"cmd":"transfer","#, 1),
            6..12 => {
                let count = rng.random_range(1..12);
                let items: Vec<String> = (0..count)
                    .map(|at| {
                        let linked = at + 1 < count && rng.random_range(0..3) == 0;
                        transfer(&mut rng, linked)
                    })
                    .collect();
                format!(r#"{{"cmd":"transfers","transfers":[{}]}}"#, items.join(","))
            }
            12..14 => format!(
                r#"{{"cmd":"submit_payment","id":{},"debtor_account":{},"creditor_account":{},"amount":{}}}"#,
                rng.random_range(1..100_000),
                3 + 2 * rng.random_range(0..5),
                1 + 2 * rng.random_range(0..6),
                rng.random_range(1..120)
            ),
            14..18 => format!(
                r#"{{"cmd":"place_order","participant":{},"instrument":1,"client_order_id":{},"side":"{}","price":{},"quantity":{},"time_in_force":"{}"}}"#,
                rng.random_range(1..=3),
                rng.random_range(1..500),
                ["buy", "sell"][rng.random_range(0..2)],
                rng.random_range(5..25),
                rng.random_range(1..20),
                ["gtc", "ioc"][rng.random_range(0..2)]
            ),
            18 => format!(
                r#"{{"cmd":"authorise","id":{},"debit_account":{},"credit_account":3,"amount":{},"expires_at":{}}}"#,
                rng.random_range(1..20),
                5 + 2 * rng.random_range(0..4),
                rng.random_range(1..40),
                (lines.len() as u64 + rng.random_range(1..200)) * 100_000_000
            ),
            _ => format!(
                r#"{{"cmd":"{}","id":{}{}}}"#,
                ["increment", "capture", "void", "refund"][rng.random_range(0..4)],
                rng.random_range(1..20),
                [r#","amount":5"#, r#","amount":3"#][rng.random_range(0..2)],
            ),
        };
        lines.push(line);
    }
    let timed = lines.iter().enumerate();
    timed
        .map(|(at, line)| {
            let time = format!(r#"{{"at":{},"#, (at as u64 + 1) * 100_000_000);
            command(&line.replacen('{', &time, 1))
        })
        .collect()
}

/// Journals commands, keeping the times they carry.
fn journal(config: &Config, commands: &[CommandFrame]) {
    let (mut inline, _) = Inline::open(config).unwrap();
    run_inline(&mut inline, commands);
    inline.close();
}

fn sync_all(dir: &Path, options: Options) {
    let mut sync = Sync::open(dir, options).unwrap();
    sync.run(&mut |_| true).unwrap();
}

fn all() -> TransfersFilter {
    TransfersFilter {
        limit: 10_000,
        ..TransfersFilter::default()
    }
}

fn of(account: u64) -> BalancesFilter {
    BalancesFilter {
        account,
        from: None,
        to: None,
        limit: 10_000,
        direction: Direction::Forward,
    }
}

/// What the engine itself says while the journal is replayed.
#[derive(Default)]
struct Truth {
    /// After each command: its time, and every account's sums.
    states: Vec<(u64, Vec<Option<[u128; 5]>>)>,
    /// Every transfer created: sequence, id, amount, and what the window says of it right then.
    created: Vec<(u64, u128, u128, [u128; 6])>,
}

impl Watcher for Truth {
    fn command(
        &mut self,
        sequence: u64,
        _: CommandRef<'_>,
        events: &[EventSlot],
        engine: &Engine,
    ) -> Result<(), String> {
        let sums = |account| {
            engine.account(AccountId(account)).map(|row| {
                [
                    row.debits_pending.0,
                    row.debits_posted.0,
                    row.credits_pending.0,
                    row.credits_posted.0,
                    row.held.0,
                ]
            })
        };
        self.states
            .push((engine.now().0, (1..=ACCOUNTS).map(sums).collect()));
        for event in events {
            if let Some(Event::Transfer(done)) = event.event()
                && done.status == Reason::Created
            {
                let row = engine.transfer(TransferId(done.id.0)).unwrap();
                let carried = [
                    row.debit_account.0.into(),
                    row.credit_account.0.into(),
                    row.user_data_128,
                    row.user_data_64.into(),
                    row.user_data_32.into(),
                    row.code.into(),
                ];
                self.created
                    .push((sequence, done.id.0, done.amount.0, carried));
            }
        }
        Ok(())
    }
}

fn truth(config: &Config) -> Truth {
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(64));
    let mut truth = Truth::default();
    follow(&config.dir, None, &mut engine, &mut sessions, &mut truth).unwrap();
    truth
}

fn sums_of(row: &BalanceRow) -> [u128; 5] {
    let sums = row.sums;
    [
        sums.debits_pending.0,
        sums.debits_posted.0,
        sums.credits_pending.0,
        sums.credits_posted.0,
        sums.held.0,
    ]
}

/// A configuration that holds the random journals below.
fn roomy(dir: &tempfile::TempDir) -> Config {
    let mut config = small(dir);
    config.limits.transfers = 1 << 16;
    config
}

#[test]
fn history_says_what_the_engine_says_at_every_command() {
    let mut causes = std::collections::BTreeSet::new();
    for seed in 1..=4 {
        let dir = tempfile::tempdir().unwrap();
        let config = roomy(&dir);
        journal(&config, &world(seed, 1_000));
        sync_all(&config.dir, SMALL);
        let truth = truth(&config);
        let history = History::open(&config.dir).unwrap();
        assert_eq!(history.sequence(), truth.states.len() as u64);
        for account in 1..=ACCOUNTS {
            let rows = history.balances(&of(account)).unwrap();
            causes.extend(rows.iter().map(|row| (row.cause, row.kind)));
            let mut rows = rows.iter().peekable();
            let mut last = [0; 5];
            for (sequence, (at, states)) in (1..).zip(&truth.states) {
                while let Some(row) = rows.next_if(|row| row.sequence == sequence) {
                    last = sums_of(row);
                    assert_eq!(row.at, *at);
                }
                let now = states[account as usize - 1];
                assert_eq!(
                    now.unwrap_or_default(),
                    last,
                    "account {account} at {sequence}"
                );
            }
            assert!(rows.next().is_none());
            // As of a moment; several commands may share it.
            for at in (0..truth.states.len()).step_by(37) {
                let at = truth.states[at].0;
                let (_, states) = truth.states.iter().rfind(|state| state.0 <= at).unwrap();
                let row = history.account(account, Some(at)).unwrap();
                let said = row.map(|row| {
                    let sums = row.sums;
                    [
                        sums.debits_pending.0,
                        sums.debits_posted.0,
                        sums.credits_pending.0,
                        sums.credits_posted.0,
                        sums.held.0,
                    ]
                });
                assert_eq!(
                    said,
                    states[account as usize - 1],
                    "account {account} at {at}"
                );
            }
        }
    }
    for seen in [
        ("transfer", "post"),
        ("transfer", "pend"),
        ("transfer", "unpend"),
        ("transfer_expired", "unpend"),
        ("submit_payment", "post"),
        ("place_order", "hold"),
        ("fill", "post"),
        ("authorise", "pend"),
        ("capture", "post"),
    ] {
        assert!(causes.contains(&seen), "never saw {seen:?}: {causes:?}");
    }
}

#[test]
fn every_transfer_is_found_by_all_it_carries() {
    let dir = tempfile::tempdir().unwrap();
    let config = roomy(&dir);
    journal(&config, &world(9, 1_200));
    sync_all(&config.dir, SMALL);
    let truth = truth(&config);
    let history = History::open(&config.dir).unwrap();
    let rows = history.transfers(&all()).unwrap();
    let said: Vec<_> = rows
        .iter()
        .map(|row| {
            let carried = [
                row.debit_account.into(),
                row.credit_account.into(),
                row.user_data_128,
                row.user_data_64.into(),
                row.user_data_32.into(),
                row.code.into(),
            ];
            (row.sequence, row.id, row.amount, carried)
        })
        .collect();
    assert!(rows.len() > 500, "{}", rows.len());
    assert_eq!(said, truth.created, "in order, whole, nothing else");
    for row in &rows {
        let by_id = TransfersFilter {
            id: Some(row.id),
            ..all()
        };
        assert_eq!(
            history.transfers(&by_id).unwrap(),
            std::slice::from_ref(row)
        );
    }
    let mut rng = Pcg64Mcg::seed_from_u64(5);
    for _ in 0..400 {
        let model = &rows[rng.random_range(0..rows.len())];
        let mut some = |share: u32| rng.random_range(0..share) == 0;
        let filter = TransfersFilter {
            account: some(2).then_some(model.debit_account),
            counterparty: some(4).then_some(model.credit_account),
            id: None,
            pending_id: some(9).then_some(model.pending_id),
            user_data_128: some(4).then_some(model.user_data_128),
            user_data_64: some(4).then_some(model.user_data_64),
            user_data_32: some(4).then_some(model.user_data_32),
            code: some(3).then_some(model.code),
            from: some(3).then_some(model.at - 2_000_000_000),
            to: some(3).then_some(model.at + 2_000_000_000),
            limit: if some(2) { 3 } else { 10_000 },
            direction: if some(2) {
                Direction::Reversed
            } else {
                Direction::Forward
            },
        };
        let passes = |row: &&TransferRow| {
            let touches = |account: Option<u64>| {
                account.is_none_or(|id| id == row.debit_account || id == row.credit_account)
            };
            touches(filter.account)
                && touches(filter.counterparty)
                && filter.pending_id.is_none_or(|id| id == row.pending_id)
                && filter
                    .user_data_128
                    .is_none_or(|data| data == row.user_data_128)
                && filter
                    .user_data_64
                    .is_none_or(|data| data == row.user_data_64)
                && filter
                    .user_data_32
                    .is_none_or(|data| data == row.user_data_32)
                && filter.code.is_none_or(|code| code == row.code)
                && filter.from.is_none_or(|from| row.at >= from)
                && filter.to.is_none_or(|to| row.at <= to)
        };
        let mut expected: Vec<_> = rows.iter().filter(passes).cloned().collect();
        if filter.direction == Direction::Reversed {
            expected.reverse();
        }
        expected.truncate(filter.limit as usize);
        assert_eq!(history.transfers(&filter).unwrap(), expected, "{filter:?}");
    }
}

/// Everything a history answers.
fn contents(dir: &Path) -> (u64, Vec<TransferRow>, Vec<Vec<BalanceRow>>) {
    let history = History::open(dir).unwrap();
    let transfers = history.transfers(&all()).unwrap();
    let balances = (1..=ACCOUNTS).map(|account| history.balances(&of(account)).unwrap());
    (history.sequence(), transfers, balances.collect())
}

#[test]
fn a_sync_cut_off_anywhere_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let config = roomy(&dir);
    let commands = world(3, 500);
    // In one go, in another directory.
    let whole = tempfile::tempdir().unwrap();
    let whole_config = roomy(&whole);
    journal(&whole_config, &commands);
    sync_all(&whole_config.dir, Options::default());

    // A journal that grows, and a follower that dies after every transaction: what it had not
    // written is lost, as the memory of a killed process is.
    let mut at = 0;
    for part in commands.chunks(41) {
        journal(&config, part);
        at += part.len() as u64;
        if at % 3 == 0 {
            continue;
        }
        loop {
            let mut sync = Sync::open(&config.dir, SMALL).unwrap();
            sync.stop_after_a_batch(true);
            let before = sync.synced().sequence;
            sync.run(&mut |_| true).unwrap();
            if sync.synced().sequence == before {
                break;
            }
        }
    }
    sync_all(&config.dir, SMALL);
    assert_eq!(contents(&config.dir), contents(&whole_config.dir));
}

#[test]
fn a_transaction_that_never_commits_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = roomy(&dir);
    journal(&config, &world(4, 200));
    sync_all(&config.dir, SMALL);
    let before = contents(&config.dir);
    let more: Vec<CommandFrame> = (0..60)
        .map(|id| {
            command(&format!(
                r#"{{"cmd":"transfer","id":{},"debit_account":1,"credit_account":3,"amount":1}}"#,
                5_000_000 + id
            ))
        })
        .collect();
    journal(&config, &more);
    // Rows of the next batch stand in the database and the process is gone before the commit.
    let file = rusqlite::Connection::open(config.dir.join(FILE_NAME)).unwrap();
    file.execute_batch(
        "BEGIN IMMEDIATE; DELETE FROM entries; UPDATE meta SET value = 9 WHERE name = 'sequence';",
    )
    .unwrap();
    assert!(matches!(
        Sync::open(&config.dir, SMALL).and_then(|mut sync| sync.run(&mut |_| true)),
        Err(HistoryError::Busy(_))
    ));
    drop(file);
    assert_eq!(contents(&config.dir), before);
    sync_all(&config.dir, SMALL);
    assert_eq!(contents(&config.dir).1.len(), before.1.len() + 60);
}

#[test]
fn a_history_of_another_past_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = roomy(&dir);
    journal(&config, &world(6, 50));
    sync_all(&config.dir, SMALL);
    let other = tempfile::tempdir().unwrap();
    let other_config = roomy(&other);
    journal(&other_config, &world(7, 50));
    for end in ["", "-wal", "-shm"] {
        let name = format!("{FILE_NAME}{end}");
        let _ = std::fs::copy(config.dir.join(&name), other_config.dir.join(&name));
    }
    let Err(HistoryError::Unusable { why, .. }) = Sync::open(&other_config.dir, SMALL) else {
        panic!("taken");
    };
    assert!(why.contains("another journal"), "{why}");
}

#[test]
fn the_balances_inside_one_batch_are_those_after_each_transfer() {
    let dir = tempfile::tempdir().unwrap();
    let config = with_many_transfers(&dir);
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    run_inline(&mut inline, &[batch(1, 8_190)]);
    inline.close();
    sync_all(&config.dir, SMALL);
    let history = History::open(&config.dir).unwrap();
    let rows = history.balances(&of(2)).unwrap();
    assert_eq!(rows.len(), 8_190);
    for (at, row) in (1..).zip(&rows) {
        assert_eq!((row.id, row.sums.credits_posted.0), (at, at));
    }
}

#[test]
fn a_journal_of_hundreds_of_thousands_of_transfers_is_taken_in_bounded_batches() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.limits.transfers = 1 << 19;
    let (mut inline, _) = Inline::open(&config).unwrap();
    run_inline(&mut inline, &opening());
    for at in 0..40 {
        run_inline(&mut inline, &[batch(1 + at * 8_190, 8_190)]);
    }
    inline.close();
    let mut sync = Sync::open(
        &config.dir,
        Options {
            batch_rows: 10_000,
            ..Options::default()
        },
    )
    .unwrap();
    let synced = sync.run(&mut |_| true).unwrap();
    assert_eq!(synced.rows, 40 * 8_190);
    assert!(
        sync.most_rows_held() < 10_000 + 8_190,
        "{}",
        sync.most_rows_held()
    );
    let (mut engine, mut sessions) = (Engine::new(&config.limits), SessionTable::new(64));
    follow(&config.dir, None, &mut engine, &mut sessions, &mut Nobody).unwrap();
    let said = History::open(&config.dir)
        .unwrap()
        .account(2, None)
        .unwrap()
        .unwrap();
    let is = engine.account(AccountId(2)).unwrap();
    assert_eq!(said.sums.credits_posted, is.credits_posted);
}

#[test]
fn random_worlds_are_scripts() {
    // What the tests above run can be printed and repeated by hand.
    let mut line = String::new();
    write_command(&mut line, None, world(1, 1)[0].as_ref());
    assert!(line.contains("create_asset"), "{line}");
}
