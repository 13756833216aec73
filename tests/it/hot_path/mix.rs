//! Every class of command that runs often, accepted and refused, in rounds that leave balances, queues
//! and books as they found them: an engine that has seen one round has grown all it needs.
//!
//! A round is a script. In it `$7` is the seventh id of the round, `@30` thirty seconds after its
//! beginning.

use crate::pipeline_support::command;
use millrace::engine::Limits;
use millrace::protocol::frame::CommandFrame;

/// Seconds a round takes.
const ROUND_S: u64 = 100;
/// Ids a round may use.
const IDS: u64 = 1_000;

/// What sets the scene.
const SETUP: &str = r#"
{"cmd":"create_asset","asset":1,"code":"EUR","scale":2,"at":1000000000}
{"cmd":"create_asset","asset":2,"code":"SHARE","scale":0,"kind":"security"}
{"cmd":"create_participant","participant":1,"code":"A"}
{"cmd":"create_participant","participant":2,"code":"B"}
{"cmd":"create_participant","participant":3,"code":"C"}
{"cmd":"create_participant","participant":9,"code":"HOUSE"}
{"cmd":"create_account","account":90,"participant":9,"asset":1}
{"cmd":"create_account","account":91,"participant":9,"asset":2}
{"cmd":"create_account","account":92,"participant":9,"asset":1}
{"cmd":"create_account","account":11,"participant":1,"asset":1,"flags":["debits_must_not_exceed_credits"]}
{"cmd":"create_account","account":12,"participant":1,"asset":2,"flags":["debits_must_not_exceed_credits"]}
{"cmd":"create_account","account":21,"participant":2,"asset":1,"flags":["debits_must_not_exceed_credits"]}
{"cmd":"create_account","account":22,"participant":2,"asset":2,"flags":["debits_must_not_exceed_credits"]}
{"cmd":"create_account","account":31,"participant":3,"asset":1}
{"cmd":"create_account","account":40,"participant":3,"asset":1,"flags":["settlement"]}
{"cmd":"create_account","account":41,"participant":1,"asset":1,"flags":["settlement"]}
{"cmd":"create_account","account":42,"participant":2,"asset":1,"flags":["settlement"]}
{"cmd":"create_account","account":43,"participant":3,"asset":1,"flags":["settlement"]}
{"cmd":"create_account","account":44,"participant":3,"asset":1,"flags":["settlement"]}
{"cmd":"create_account","account":9000000000,"participant":3,"asset":1}
{"cmd":"transfer","id":1,"debit_account":90,"credit_account":11,"amount":1000000000}
{"cmd":"transfer","id":2,"debit_account":91,"credit_account":12,"amount":1000000000}
{"cmd":"transfer","id":3,"debit_account":90,"credit_account":21,"amount":1000000000}
{"cmd":"transfer","id":4,"debit_account":91,"credit_account":22,"amount":1000000000}
{"cmd":"transfer","id":5,"debit_account":90,"credit_account":41,"amount":100}
{"cmd":"transfer","id":6,"debit_account":90,"credit_account":44,"amount":10}
{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1,"maker_fee_bps":10,"taker_fee_bps":20,"fee_account":92,"max_price":10000,"max_quantity":5000}
{"cmd":"publish_book","instrument":1}
{"cmd":"set_reservation","account":44,"class":"urgent","amount":1}
{"cmd":"set_bilateral_limit","account":44,"counterparty":43,"amount":1000000}
"#;

/// Transfers: plain, refused, pending, posted, voided, timed out, balancing, closing, batches, chains.
const TRANSFERS: &str = r#"
{"cmd":"transfer","id":$1,"debit_account":11,"credit_account":21,"amount":10,"at":@1}
{"cmd":"transfer","id":$1,"debit_account":11,"credit_account":21,"amount":10}
{"cmd":"transfer","id":$1,"debit_account":11,"credit_account":21,"amount":11}
{"cmd":"transfer","id":$2,"debit_account":11,"credit_account":77,"amount":10}
{"cmd":"transfer","id":$3,"debit_account":42,"credit_account":11,"amount":1000000}
{"cmd":"transfer","id":$4,"debit_account":11,"credit_account":9000000000,"amount":1,"user_data_128":7}
{"cmd":"transfer","id":$5,"debit_account":9000000000,"credit_account":11,"amount":1}
{"cmd":"transfer","id":$6,"debit_account":11,"credit_account":21,"amount":50,"flags":["pending"],"timeout_s":30}
{"cmd":"transfer","id":$7,"pending_id":$6,"amount":20,"flags":["post_pending"]}
{"cmd":"transfer","id":$8,"pending_id":$6,"flags":["void_pending"]}
{"cmd":"transfer","id":$9,"debit_account":11,"credit_account":21,"amount":50,"flags":["pending"]}
{"cmd":"transfer","id":$10,"pending_id":$9,"flags":["void_pending"]}
{"cmd":"transfer","id":$11,"debit_account":11,"credit_account":21,"amount":50,"flags":["pending"],"timeout_s":2}
{"cmd":"transfer","id":$12,"debit_account":11,"credit_account":21,"amount":50,"flags":["pending"],"timeout_s":3}
{"cmd":"tick","at":@5}
{"cmd":"transfer","id":$13,"debit_account":21,"credit_account":11,"amount":30,"flags":["balancing_debit"]}
{"cmd":"transfer","id":$14,"debit_account":31,"credit_account":40,"amount":30,"flags":["pending","closing_debit"]}
{"cmd":"transfer","id":$15,"pending_id":$14,"flags":["void_pending"]}
{"cmd":"transfers","transfers":[{"id":$20,"debit_account":11,"credit_account":21,"amount":1},{"id":$21,"debit_account":21,"credit_account":11,"amount":1},{"id":$22,"debit_account":11,"credit_account":21,"amount":1,"flags":["linked"]},{"id":$23,"debit_account":21,"credit_account":31,"amount":1,"flags":["linked"]},{"id":$24,"debit_account":31,"credit_account":11,"amount":1}]}
{"cmd":"transfers","transfers":[{"id":$25,"debit_account":11,"credit_account":21,"amount":1,"flags":["linked"]},{"id":$26,"debit_account":21,"credit_account":31,"amount":5,"flags":["linked","pending"],"timeout_s":9},{"id":$27,"debit_account":42,"credit_account":11,"amount":100000}]}
{"cmd":"transfers","transfers":[{"id":$28,"debit_account":11,"credit_account":21,"amount":1,"flags":["pending"]},{"id":$29,"pending_id":$28,"flags":["post_pending"]},{"id":$28,"debit_account":11,"credit_account":21,"amount":1,"flags":["pending"]},{"id":$30,"debit_account":11,"credit_account":21,"amount":1,"flags":["linked"]}]}
"#;

/// Authorisations: raised, captured in parts, voided, refunded, refused, lapsed.
const AUTHORISATIONS: &str = r#"
{"cmd":"authorise","id":$100,"debit_account":11,"credit_account":21,"amount":150,"at":@10}
{"cmd":"authorise","id":$100,"debit_account":11,"credit_account":21,"amount":150}
{"cmd":"authorise","id":$101,"debit_account":42,"credit_account":21,"amount":150000}
{"cmd":"increment","id":$100,"amount":50}
{"cmd":"capture","id":$100,"amount":30}
{"cmd":"capture","id":$100,"amount":3000}
{"cmd":"void","id":$100,"amount":40}
{"cmd":"capture","id":$100,"amount":60,"final":true}
{"cmd":"refund","id":$100,"amount":50}
{"cmd":"refund","id":$100,"amount":60}
{"cmd":"capture","id":$102,"authorisation":$100,"amount":1}
{"cmd":"authorise","id":$103,"debit_account":11,"credit_account":21,"amount":5,"expires_at":@12}
{"cmd":"authorise","id":$104,"debit_account":11,"credit_account":21,"amount":5}
{"cmd":"void","id":$104}
{"cmd":"tick","at":@13}
"#;

/// Payments: settling, refused, returned, queued, moved about, cancelled, released by what comes in,
/// offset at entry, expiring, warehoused.
const PAYMENTS: &str = r#"
{"cmd":"submit_payment","id":$200,"debtor_account":41,"creditor_account":42,"amount":10,"at":@20}
{"cmd":"submit_payment","id":$200,"debtor_account":41,"creditor_account":42,"amount":10}
{"cmd":"submit_payment","id":$201,"debtor_account":41,"creditor_account":77,"amount":10}
{"cmd":"submit_payment","id":$202,"debtor_account":42,"creditor_account":41,"amount":10,"return_of":$200}
{"cmd":"submit_payment","id":$203,"debtor_account":41,"creditor_account":42,"amount":500}
{"cmd":"submit_payment","id":$204,"debtor_account":41,"creditor_account":42,"amount":501,"priority":"high"}
{"cmd":"hold_payment","id":$203}
{"cmd":"release_payment","id":$203}
{"cmd":"set_payment_priority","id":$203,"priority":"urgent"}
{"cmd":"move_payment","id":$203,"position":"front"}
{"cmd":"cancel_payment","id":$203}
{"cmd":"cancel_payment","id":$204}
{"cmd":"cancel_payment","id":$204}
{"cmd":"submit_payment","id":$205,"debtor_account":43,"creditor_account":42,"amount":500}
{"cmd":"submit_payment","id":$206,"debtor_account":43,"creditor_account":42,"amount":300}
{"cmd":"submit_payment","id":$207,"debtor_account":42,"creditor_account":41,"amount":700}
{"cmd":"transfer","id":$208,"debit_account":90,"credit_account":43,"amount":900}
{"cmd":"transfer","id":$209,"debit_account":41,"credit_account":90,"amount":700}
{"cmd":"transfer","id":$210,"debit_account":42,"credit_account":90,"amount":100}
{"cmd":"transfer","id":$211,"debit_account":43,"credit_account":90,"amount":100}
{"cmd":"submit_payment","id":$220,"debtor_account":41,"creditor_account":42,"amount":400}
{"cmd":"submit_payment","id":$221,"debtor_account":42,"creditor_account":41,"amount":400}
{"cmd":"submit_payment","id":$222,"debtor_account":41,"creditor_account":42,"amount":500,"latest_at":@21}
{"cmd":"tick","at":@22}
{"cmd":"submit_payment","id":$223,"debtor_account":41,"creditor_account":42,"amount":5,"earliest_at":@23}
{"cmd":"tick","at":@24}
{"cmd":"submit_payment","id":$224,"debtor_account":42,"creditor_account":41,"amount":5}
{"cmd":"submit_payment","id":$225,"debtor_account":44,"creditor_account":43,"amount":5}
{"cmd":"submit_payment","id":$226,"debtor_account":43,"creditor_account":44,"amount":5}
"#;

/// Liquidity saving over payments in a ring, and a batch found outside.
const LIQUIDITY_SAVING: &str = r#"
{"cmd":"submit_payment","id":$300,"debtor_account":41,"creditor_account":42,"amount":500,"at":@30}
{"cmd":"submit_payment","id":$301,"debtor_account":42,"creditor_account":43,"amount":500}
{"cmd":"submit_payment","id":$302,"debtor_account":43,"creditor_account":41,"amount":500}
{"cmd":"run_liquidity_saving","algorithm":"bilateral"}
{"cmd":"run_liquidity_saving","algorithm":"grp"}
{"cmd":"submit_payment","id":$303,"debtor_account":41,"creditor_account":42,"amount":500}
{"cmd":"submit_payment","id":$304,"debtor_account":42,"creditor_account":43,"amount":500}
{"cmd":"submit_payment","id":$305,"debtor_account":43,"creditor_account":41,"amount":500}
{"cmd":"run_liquidity_saving","algorithm":"greedy"}
{"cmd":"submit_payment","id":$306,"debtor_account":41,"creditor_account":42,"amount":500}
{"cmd":"submit_payment","id":$307,"debtor_account":42,"creditor_account":43,"amount":500}
{"cmd":"submit_payment","id":$308,"debtor_account":43,"creditor_account":41,"amount":500}
{"cmd":"run_liquidity_saving","algorithm":"multiple"}
{"cmd":"submit_group","id":$320,"legs":[{"debit_account":12,"credit_account":22,"amount":5},{"debit_account":41,"credit_account":42,"amount":500}]}
{"cmd":"submit_payment","id":$321,"debtor_account":42,"creditor_account":43,"amount":500}
{"cmd":"submit_payment","id":$322,"debtor_account":43,"creditor_account":41,"amount":500}
{"cmd":"submit_group","id":$323,"legs":[{"debit_account":12,"credit_account":22,"amount":5},{"debit_account":41,"credit_account":43,"amount":500000}]}
{"cmd":"run_liquidity_saving","algorithm":"grp"}
{"cmd":"cancel_payment","id":$323}
{"cmd":"transfer","id":$324,"debit_account":22,"credit_account":12,"amount":5}
{"cmd":"submit_payment","id":$309,"debtor_account":41,"creditor_account":42,"amount":500}
{"cmd":"submit_payment","id":$310,"debtor_account":42,"creditor_account":43,"amount":500}
{"cmd":"submit_payment","id":$311,"debtor_account":43,"creditor_account":41,"amount":500}
{"cmd":"propose_batch","payments":[$309,$310]}
{"cmd":"propose_batch","payments":[$309,$310,$311]}
"#;

/// Groups: settling at once, waiting for money, released, taken back, expiring, refused.
const GROUPS: &str = r#"
{"cmd":"submit_group","id":$400,"legs":[{"debit_account":12,"credit_account":22,"amount":5},{"debit_account":21,"credit_account":11,"amount":50}],"at":@40}
{"cmd":"submit_group","id":$400,"legs":[{"debit_account":12,"credit_account":22,"amount":5},{"debit_account":21,"credit_account":11,"amount":50}]}
{"cmd":"submit_group","id":$401,"legs":[{"debit_account":22,"credit_account":12,"amount":5},{"debit_account":42,"credit_account":41,"amount":500}]}
{"cmd":"transfer","id":$402,"debit_account":90,"credit_account":42,"amount":500}
{"cmd":"transfer","id":$403,"debit_account":41,"credit_account":90,"amount":500}
{"cmd":"submit_group","id":$404,"legs":[{"debit_account":12,"credit_account":22,"amount":5},{"debit_account":42,"credit_account":41,"amount":500}]}
{"cmd":"cancel_payment","id":$404}
{"cmd":"submit_group","id":$405,"legs":[{"debit_account":12,"credit_account":22,"amount":5},{"debit_account":42,"credit_account":41,"amount":500}],"latest_at":@41}
{"cmd":"tick","at":@42}
{"cmd":"submit_group","id":$406,"legs":[{"debit_account":12,"credit_account":77,"amount":5},{"debit_account":42,"credit_account":41,"amount":500}]}
"#;

/// Orders on a published book: resting, crossing, icebergs, stops, every time in force, replaced,
/// cancelled, linked, expiring, cancelled all at once.
const ORDERS: &str = r#"
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$500,"side":"buy","price":90,"quantity":10,"at":@50}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$501,"side":"buy","price":91,"quantity":10}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$501,"side":"buy","price":91,"quantity":10}
{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":$502,"side":"sell","price":110,"quantity":10}
{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":$503,"side":"sell","price":91,"quantity":15}
{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":$504,"side":"sell","price":105,"quantity":30,"display_quantity":10}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$505,"side":"buy","price":105,"quantity":25}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$506,"side":"buy","price":95,"quantity":1000,"time_in_force":"fok"}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$507,"side":"buy","price":105,"quantity":50,"time_in_force":"ioc"}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$508,"side":"buy","type":"market","quantity":1,"protection":120}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$509,"side":"buy","price":120,"quantity":1,"post_only":true}
{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":$510,"side":"sell","type":"stop_limit","stop_price":80,"price":79,"quantity":3}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$511,"side":"buy","price":80,"quantity":5}
{"cmd":"cancel_order","participant":1,"client_order_id":$500}
{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":$512,"side":"sell","price":80,"quantity":2}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$513,"side":"buy","price":70,"quantity":9}
{"cmd":"replace_order","participant":1,"client_order_id":$513,"quantity":5}
{"cmd":"replace_order","participant":1,"client_order_id":$513,"price":71}
{"cmd":"replace_order","participant":1,"client_order_id":$513,"price":72,"quantity":8,"new_client_order_id":$514}
{"cmd":"replace_order","participant":1,"client_order_id":$514,"price":110}
{"cmd":"replace_order","participant":1,"client_order_id":$500,"price":110}
{"cmd":"cancel_order","participant":1,"client_order_id":$500}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$515,"side":"buy","price":60,"quantity":5,"time_in_force":"gtd","expires_at":@52}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$516,"side":"buy","price":61,"quantity":5}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$517,"side":"buy","type":"pegged","peg":"bid","price":65,"offset":-1,"quantity":5}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$518,"side":"buy","price":62,"quantity":5}
{"cmd":"tick","at":@53}
{"cmd":"place_order_list","contingency":"oco","orders":[{"participant":1,"instrument":1,"client_order_id":$520,"side":"sell","quantity":10,"price":210},{"participant":1,"instrument":1,"client_order_id":$521,"side":"sell","quantity":10,"type":"stop","stop_price":50,"protection":40}]}
{"cmd":"place_order","participant":2,"instrument":1,"client_order_id":$522,"side":"buy","price":210,"quantity":40}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$523,"side":"buy","price":999999,"quantity":40}
{"cmd":"place_order","participant":3,"instrument":1,"client_order_id":$524,"side":"sell","price":300,"quantity":40}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$525,"side":"sell","price":300,"quantity":40}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$526,"side":"sell","price":301,"quantity":40}
{"cmd":"place_order","participant":1,"instrument":1,"client_order_id":$527,"side":"buy","price":301,"quantity":40}
{"cmd":"mass_cancel","participant":1}
{"cmd":"mass_cancel","participant":2,"instrument":1,"side":"sell"}
{"cmd":"mass_cancel","participant":2}
{"cmd":"mass_cancel","participant":3}
"#;

const SCENES: [&str; 6] = [
    TRANSFERS,
    AUTHORISATIONS,
    PAYMENTS,
    LIQUIDITY_SAVING,
    GROUPS,
    ORDERS,
];

/// Tables large enough for `rounds`.
pub fn limits(rounds: u64) -> Limits {
    let rows = |per_round: u64| (rounds * per_round) as u32 + 4_096;
    Limits {
        transfers: rows(64),
        authorisations: rows(8),
        authorisation_steps: rows(32),
        payments: rows(64),
        client_order_ids: rows(64),
        ..Limits::small()
    }
}

/// What sets the scene.
pub fn setup() -> Vec<CommandFrame> {
    lines(SETUP).map(command).collect()
}

/// The script lines of a round with their commands, in order.
pub fn round(number: u64) -> Vec<(String, CommandFrame)> {
    let scenes = SCENES.iter().flat_map(|scene| lines(scene));
    let mut at = 0;
    let mut filled = |line: &str| {
        let line = fill(line, number);
        let frame = command(&line);
        // Time goes on from line to line as in a script.
        at = frame.header().received_at.max(at);
        let frame = frame.at(millrace::protocol::units::Timestamp(at));
        (line, frame)
    };
    scenes.map(&mut filled).collect()
}

/// The commands of `rounds` rounds from `first` on.
pub fn rounds(first: u64, rounds: u64) -> Vec<CommandFrame> {
    let all = (first..first + rounds).flat_map(round);
    all.map(|(_, frame)| frame).collect()
}

fn lines(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter(|line| !line.is_empty())
}

/// The line with the round's ids and times.
fn fill(line: &str, round: u64) -> String {
    let ids = (round + 1) * IDS;
    let begins = (round + 1) * ROUND_S;
    let mut filled = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['$', '@']) {
        let (before, mark) = rest.split_at(at);
        let digits = mark[1..].chars().take_while(char::is_ascii_digit).count();
        let number: u64 = mark[1..=digits].parse().expect("a number behind the mark");
        filled += before;
        if mark.starts_with('$') {
            filled += &(ids + number).to_string();
        } else {
            filled += &((begins + number) * 1_000_000_000).to_string();
        }
        rest = &mark[1 + digits..];
    }
    filled + rest
}
