//! The wire: sessions over TCP, what they may do wrong, and how they come back.

use crate::pipeline_support::*;
use millrace::bench::ledger::{Load, Shape};
use millrace::bench::wire::Wire;
use millrace::client::{Client, ClientError, Options};
use millrace::config::{Config, Durability};
use millrace::node::{Node, StartError};
use millrace::pipeline::threads::CoreChoice;
use millrace::protocol::RELEASE;
use millrace::protocol::command::ITEMS_MAX;
use millrace::protocol::event::Event;
use millrace::protocol::frame::{FRAME_BYTES_MAX, Prefix};
use millrace::protocol::reason::Reason;
use millrace::protocol::session::{Hello, Resend, SessionError, Watch, WatchScope};
use millrace::protocol::units::ParticipantId;
use millrace::protocol::wire::{Bool, Zero};
use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn a_client_gets_its_events_and_a_stopped_node_comes_back() {
    for durability in [Durability::Process, Durability::Disk] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            durability,
            ..small(&dir)
        };
        let (node, mut client) = node_with_accounts(&config);
        let events = client.call(&transfer(1, 25)).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(status(&events[0]), Reason::Created);
        assert_eq!(events[0].header.client_sequence, 6);
        assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 25);
        let digest = client.call(&query_digest()).unwrap();
        let engine = node.stop().engine;
        assert!(lines(&digest).contains(&hex(&engine.digest())));

        let node = Node::start(&config).unwrap();
        assert_eq!(node.recovery().sequence, 6);
        let digest_again = connect(&node).call(&query_digest()).unwrap();
        assert_eq!(
            lines(&digest_again),
            lines(&digest),
            "at {durability}, recovered"
        );
        node.stop();
    }
}

#[test]
fn every_layout_of_threads_gives_the_same_events() {
    let mut outputs = Vec::new();
    for threads in 1..=3 {
        for durability in [Durability::Process, Durability::Disk] {
            let dir = tempfile::tempdir().unwrap();
            let config = Config {
                threads,
                durability,
                // Every wait goes to sleep and every publication has someone to wake.
                idle_spin_us: 0,
                ..with_many_transfers(&dir)
            };
            let (node, mut client) = node_with_accounts(&config);
            for id in 1..=2_000 {
                client.submit(&transfer(id, 1)).unwrap();
            }
            client.submit(&batch(10_000, 8_000)).unwrap();
            let mut outcomes = Vec::new();
            client
                .drain(|event| outcomes.push((event.header.client_sequence, status(event))))
                .unwrap();
            // One at a time: whoever sleeps is woken, every time.
            for id in 1..=50 {
                client.call(&transfer(100_000 + id, 1)).unwrap();
            }
            let digest = node.stop().engine.digest();
            assert_eq!(outcomes.len(), 10_000);
            outputs.push((outcomes, digest));
        }
    }
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Nobody sends anything, and what is due happens all the same: the node ticks.
#[test]
fn an_idle_node_lets_time_pass() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    let pending = r#"{"cmd":"transfer","id":1,"debit_account":1,"credit_account":2,"amount":5,"flags":["pending"],"timeout_s":1}"#;
    assert_eq!(
        status(&client.call(&command(pending)).unwrap()[0]),
        Reason::Created
    );
    let is_pending = |client: &mut Client| {
        let account = lines(&client.call(&query_account(2)).unwrap());
        account.contains("\"credits_pending\":5")
    };
    assert!(is_pending(&mut client));
    let started = std::time::Instant::now();
    while is_pending(&mut client) {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it never lapses"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let engine = node.stop().engine;
    assert!(
        engine.sequence() > 6,
        "the tick is a command like any other"
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&with_many_transfers(&dir));
    for id in 1..=3_000 {
        client.submit(&transfer(id, 1)).unwrap();
        if id % 100 == 0 {
            client.submit(&query_account(2)).unwrap();
        }
    }
    let mut transfers = Vec::new();
    let mut queries = Vec::new();
    client
        .drain(|event| {
            if event.header.flags & millrace::protocol::frame::QUERY_ANSWER != 0 {
                queries.push(credited(&[*event]));
            } else {
                assert_eq!(status(event), Reason::Created);
                transfers.push(event.header.client_sequence);
            }
        })
        .unwrap();
    assert!(transfers.iter().copied().eq(6..=3_005));
    let expected: Vec<u128> = (1..=30).map(|at| at * 100).collect();
    assert_eq!(queries, expected, "queries keep their place in the order");
    node.stop();
}

#[test]
fn many_sessions_are_served_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut observer) = node_with_accounts(&with_many_transfers(&dir));
    let address = node.address();
    let sessions = 16;
    let threads: Vec<_> = (0..sessions)
        .map(|session: u128| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address, Options::default()).unwrap();
                for at in 1..=200u128 {
                    client.submit(&transfer((session << 32) + at, 1)).unwrap();
                }
                let mut answered = 0;
                client
                    .drain(|event| {
                        assert_eq!(status(event), Reason::Created);
                        answered += 1;
                        assert_eq!(event.header.client_sequence, answered);
                    })
                    .unwrap();
                answered
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), 200);
    }
    assert_eq!(
        credited(&observer.call(&query_account(2)).unwrap()),
        sessions * 200
    );
    node.stop();
}

#[test]
fn the_longest_command_goes_over_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&with_many_transfers(&dir));
    let longest = batch(1, ITEMS_MAX as u32);
    assert!(longest.bytes().len() <= FRAME_BYTES_MAX);
    for round in 0..3 {
        let events = client.call(&longest).unwrap();
        let expected = if round == 0 {
            Reason::Created
        } else {
            Reason::Exists
        };
        assert_eq!(events.len(), ITEMS_MAX);
        assert!(events.iter().all(|event| status(event) == expected));
    }
    assert_eq!(
        credited(&client.call(&query_account(2)).unwrap()),
        ITEMS_MAX as u128
    );
    node.stop();
}

#[test]
fn batches_in_flight_are_answered_one_event_per_transfer_in_order() {
    for durability in [Durability::Process, Durability::Disk] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            durability,
            ..with_many_transfers(&dir)
        };
        let (node, mut client) = node_with_accounts(&config);
        // Single ones between, and lengths on both sides of every buffer.
        let mut expected = Vec::new();
        let mut next_id = 1u128;
        for count in [1_000, 1, 8_190, 2, 500, 8_190, 3, 1_000, 1, 8_190] {
            let frame = match count {
                1 => transfer(next_id, 1),
                _ => batch(next_id, count),
            };
            let number = client.submit(&frame).unwrap();
            expected.extend((0..count).map(|at| (number, at, next_id + u128::from(at))));
            next_id += u128::from(count);
        }
        let mut seen = Vec::new();
        let mut last_of = Vec::new();
        client
            .drain(|event| {
                let Some(Event::Transfer(done)) = event.event() else {
                    panic!("not a transfer: {:?}", event.event());
                };
                assert_eq!(done.status, Reason::Created);
                let header = &event.header;
                seen.push((header.client_sequence, header.index, done.id.0));
                if event.is_last() {
                    last_of.push(header.client_sequence);
                }
            })
            .unwrap();
        assert!(seen == expected, "at {durability}");
        assert!(last_of.iter().copied().eq(6..=15), "{last_of:?}");
        let moved = credited(&client.call(&query_account(2)).unwrap());
        assert_eq!(moved, next_id - 1);
        node.stop();
    }
}

#[test]
fn a_load_counts_what_it_made_and_stops_at_a_refusal() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_many_transfers(&dir);
    config.limits.transfers = 4_000;
    let node = Node::start(&config).unwrap();
    let accounts = 50;
    let mut made = 0;
    for (sessions, window, batch) in [(1, 1, 1), (32, 1, 1), (1, 4, 100), (3, 2, 7)] {
        let shape = Shape {
            sessions,
            window,
            batch,
        };
        // Another seed is another workload, but ids go on from the first: a node for each shape.
        let dir = tempfile::tempdir().unwrap();
        let config = with_many_transfers(&dir);
        let node = Node::start(&config).unwrap();
        let mut load = Load::open(node.address(), shape, accounts, 1, false).unwrap();
        let measured = load.run(1_000).unwrap();
        assert_eq!(measured.created, 1_000u64.next_multiple_of(batch as u64));
        assert_eq!(measured.latency.len(), measured.created / batch as u64);
        made += measured.created;
        drop(load);
        node.stop();
    }
    assert_eq!(made, 1_000 + 1_000 + 1_000 + 1_001);
    let shape = Shape {
        sessions: 1,
        window: 2,
        batch: 1_500,
    };
    let mut load = Load::open(node.address(), shape, accounts, 1, false).unwrap();
    let error = load.run(6_000).err().expect("the table is full");
    assert_eq!(
        error.to_string(),
        "a transfer was answered capacity_exhausted"
    );
    drop(load);
    node.stop();
}

#[test]
fn the_stages_of_a_command_add_up_to_its_latency() {
    for durability in [Durability::Process, Durability::Disk] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            durability,
            ..with_many_transfers(&dir)
        };
        let node = Node::start(&config).unwrap();
        let mut wire = Wire::open(node.address(), 50, 1, false).unwrap();
        let journey = wire.journeys(500, 5_000, node.progress()).unwrap();
        // The batch that was under way when the log was opened is not in it.
        let counted = journey.total.len();
        assert!((490..=500).contains(&counted), "{counted} of 500");
        let mut sum = 0.0;
        for (name, stage) in &journey.stages {
            assert_eq!(stage.len(), counted, "{name}");
            sum += stage.mean();
        }
        // The histograms keep three digits.
        let total = journey.total.mean();
        assert!((sum - total).abs() < total / 100.0, "{sum} and {total} ns");
        drop(wire);
        node.stop();
    }
}

#[test]
fn what_is_no_frame_is_refused_and_the_node_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    let address = node.address();
    let prefix = |length: u32, kind: u16, release: u16| {
        let prefix = Prefix {
            length,
            kind,
            release,
        };
        let mut bytes = bytemuck::bytes_of(&prefix).to_vec();
        bytes.resize(64, 0);
        bytes
    };
    let mut bad_body = transfer(1, 1).bytes().to_vec();
    *bad_body.last_mut().unwrap() = 1;
    let mut bad_header = transfer(1, 1).bytes().to_vec();
    bad_header[40] = 1;
    let cases: [(&str, Vec<u8>, SessionError); 10] = [
        ("length 0", prefix(0, 4, 1), SessionError::BadLength),
        ("length 17", prefix(17, 4, 1), SessionError::BadLength),
        (
            "longer than any frame",
            prefix(FRAME_BYTES_MAX as u32 + 16, 4, 1),
            SessionError::BadLength,
        ),
        (
            "a head too short",
            prefix(16, 4, 1),
            SessionError::BadLength,
        ),
        (
            "unknown command",
            prefix(64, 999, 1),
            SessionError::Malformed,
        ),
        (
            "unknown message",
            prefix(64, 0xFFFF, 1),
            SessionError::Malformed,
        ),
        (
            "body of another length",
            prefix(64, 4, 1),
            SessionError::Malformed,
        ),
        (
            "reserved byte in the body",
            bad_body,
            SessionError::Malformed,
        ),
        (
            "reserved byte in the head",
            bad_header,
            SessionError::Malformed,
        ),
        (
            "newer release",
            prefix(64, 4, RELEASE + 1),
            SessionError::NewerRelease,
        ),
    ];
    for (name, bytes, error) in cases {
        let (mut raw, _) = Raw::hello(address, 77, 0);
        raw.write(query_account(1).bytes());
        assert_eq!(raw.event().header.session, 77, "{name}");
        raw.write(&bytes);
        let refused = raw.refused();
        assert_eq!(
            (refused.error, refused.closing),
            (error, Bool::Yes),
            "{name}"
        );
        assert!(raw.is_closed(), "{name}");
        assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 0);
    }
    node.stop();
}

#[test]
fn garbage_and_half_frames_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    let before = lines(&client.call(&query_digest()).unwrap());
    // A seeded stream of noise, cut at many places.
    let mut state = 42u64;
    for length in [1, 7, 8, 16, 100, 5_000] {
        let noise: Vec<u8> = (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u8
            })
            .collect();
        let mut raw = Raw::connect(node.address());
        raw.write(&noise);
        raw.stream.shutdown(Shutdown::Write).unwrap();
        assert!(raw.is_closed());
    }
    let whole = transfer(9, 1);
    for cut in [1, 8, 47, 48, 159] {
        let (mut raw, _) = Raw::hello(node.address(), 5, 0);
        let mut frame = whole.clone();
        frame.header_mut().client_sequence = 1;
        raw.write(&frame.bytes()[..cut]);
        raw.stream.shutdown(Shutdown::Write).unwrap();
        assert!(raw.is_closed());
    }
    assert_eq!(lines(&client.call(&query_digest()).unwrap()), before);
    node.stop();
}

#[test]
fn the_first_message_is_hello_from_a_session_that_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&small(&dir)).unwrap();
    let mut raw = Raw::connect(node.address());
    raw.send(&transfer(1, 1), 1);
    assert_eq!(raw.refused().error, SessionError::HelloFirst);
    assert!(raw.is_closed());
    let mut raw = Raw::connect(node.address());
    raw.say(&Hello {
        session: 0,
        replies_seen: 0,
    });
    assert_eq!(raw.refused().error, SessionError::BadSession);
    assert!(raw.is_closed());
    node.stop();
}

#[test]
fn a_connection_too_many_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.connections = 2;
    let node = Node::start(&config).unwrap();
    let (first, _) = Raw::hello(node.address(), 1, 0);
    let (_second, _) = Raw::hello(node.address(), 2, 0);
    let mut third = Raw::connect(node.address());
    third.say(&Hello {
        session: 3,
        replies_seen: 0,
    });
    assert_eq!(third.refused().error, SessionError::TooManySessions);
    assert!(third.is_closed());
    drop(first);
    // Its seat is free once the node has seen it go.
    let again = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        let options = Options {
            reconnect: Duration::ZERO,
            ..Options::default()
        };
        Client::connect(node.address(), options).is_ok()
    });
    assert!(again);
    node.stop();
}

#[test]
fn duplicates_are_answered_again_and_gaps_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    let (mut raw, welcome) = Raw::hello(node.address(), 9, 0);
    assert_eq!(welcome.last_client_sequence, 0);
    raw.send(&transfer(1, 10), 1);
    let first = raw.event();
    raw.send(&transfer(1, 10), 1);
    let again = raw.event();
    assert_eq!(
        first.frame(),
        again.frame(),
        "the same reply, not a second execution"
    );
    raw.send(&transfer(3, 10), 3);
    let refused = raw.refused();
    assert_eq!(refused.error, SessionError::SequenceGap);
    assert_eq!((refused.client_sequence, refused.expected), (3, 2));
    assert_eq!(refused.closing, Bool::No);
    raw.send(&transfer(2, 10), 2);
    assert_eq!(raw.event().header.client_sequence, 2);
    // Both again, on request.
    raw.say(&Resend {
        from: 1,
        _reserved: [Zero::Zero; 8],
    });
    assert_eq!(raw.event().frame(), first.frame());
    assert_eq!(raw.event().header.client_sequence, 2);
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 20);
    node.stop();
}

#[test]
fn a_session_that_comes_back_gets_the_replies_it_missed_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (node, _client) = node_with_accounts(&config);
    let (mut raw, _) = Raw::hello(node.address(), 9, 0);
    for number in 1..=10 {
        raw.send(&transfer(u128::from(number), 1), number);
    }
    for number in 1..=10 {
        assert_eq!(raw.event().header.client_sequence, number);
    }
    drop(raw);
    let (mut raw, welcome) = Raw::hello(node.address(), 9, 4);
    assert_eq!(welcome.last_client_sequence, 10);
    for number in 5..=10 {
        assert_eq!(raw.event().header.client_sequence, number);
    }
    raw.send(&transfer(11, 1), 11);
    assert_eq!(raw.event().header.client_sequence, 11, "and nothing twice");
    node.stop();

    // The window is filled again from the journal.
    let node = Node::start(&config).unwrap();
    let (mut raw, welcome) = Raw::hello(node.address(), 9, 8);
    assert_eq!(welcome.last_client_sequence, 11);
    for number in 9..=11 {
        assert_eq!(raw.event().header.client_sequence, number);
    }
    node.stop();
}

#[test]
fn replies_that_are_no_longer_kept_are_said_to_be_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.reply_window_events = 64;
    let (node, mut client) = node_with_accounts(&config);
    let (mut raw, _) = Raw::hello(node.address(), 9, 0);
    for number in 1..=3 {
        raw.send(&transfer(u128::from(number), 1), number);
        raw.event();
    }
    for _ in 0..62 {
        client.call(&query_account(1)).unwrap();
    }
    drop(raw);
    let (mut raw, _) = Raw::hello(node.address(), 9, 0);
    let refused = raw.refused();
    assert_eq!(refused.error, SessionError::RepliesGone);
    assert_eq!((refused.client_sequence, refused.expected), (1, 2));
    assert_eq!(raw.event().header.client_sequence, 2);
    assert_eq!(raw.event().header.client_sequence, 3);
    for _ in 0..64 {
        client.call(&query_account(1)).unwrap();
    }
    drop(raw);
    let (mut raw, _) = Raw::hello(node.address(), 9, 0);
    let refused = raw.refused();
    assert_eq!((refused.client_sequence, refused.expected), (1, 4));
    raw.send(&transfer(4, 1), 4);
    assert_eq!(raw.event().header.client_sequence, 4);
    node.stop();
}

#[test]
fn a_watch_from_before_the_window_says_so_and_goes_on_from_the_oldest_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.reply_window_events = 64;
    let (node, mut client) = node_with_accounts(&config);
    let last = (1..=100).map(|id| client.call(&transfer(id, 1)).unwrap()[0].header.sequence);
    let last = last.last().unwrap();
    let address = node.address().to_string();
    let watch = |from: u64, events: u64| {
        let (from, events) = (from.to_string(), events.to_string());
        let watched = std::process::Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["client", "--connect", &address, "watch", "--from", &from])
            .args(["--limit", &events])
            .output()
            .unwrap();
        let lines = String::from_utf8(watched.stdout).unwrap();
        let sequences = lines.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            line["seq"].as_u64().expect("a sequence")
        });
        let said = String::from_utf8(watched.stderr).unwrap();
        assert!(watched.status.success(), "{said}");
        (sequences.collect::<Vec<_>>(), said)
    };
    let (sequences, said) = watch(1, 50);
    let oldest = sequences[0];
    assert!(
        (last - 64..last - 49).contains(&oldest),
        "{oldest} of {last}"
    );
    assert_eq!(sequences, (oldest..oldest + 50).collect::<Vec<_>>());
    assert_eq!(
        said,
        format!(
            "millrace: events before sequence {oldest} are no longer kept; those from there on follow\n"
        )
    );
    assert_eq!(watch(oldest, 1), (vec![oldest], String::new()));
    node.stop();
}

#[test]
fn a_second_connection_of_a_session_takes_over() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _client) = node_with_accounts(&small(&dir));
    let (mut first, _) = Raw::hello(node.address(), 9, 0);
    first.send(&transfer(1, 1), 1);
    first.event();
    let (mut second, welcome) = Raw::hello(node.address(), 9, 1);
    assert_eq!(welcome.last_client_sequence, 1);
    let refused = first.refused();
    assert_eq!(
        (refused.error, refused.closing),
        (SessionError::Superseded, Bool::Yes)
    );
    assert!(first.is_closed());
    second.send(&transfer(2, 1), 2);
    assert_eq!(second.event().header.client_sequence, 2);
    node.stop();
}

/// A node on which participants 1 to 3 may trade instrument 1; 2 and 3 are group 7.
fn node_with_traders(config: &Config) -> (Node, Client) {
    let node = Node::start(config).expect("starts");
    let mut client = connect(&node);
    let mut lines = vec![
        r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2}"#.to_string(),
        r#"{"cmd":"create_asset","asset":2,"code":"SHARE","scale":0}"#.to_string(),
    ];
    for id in 1..=3 {
        let group = if id == 1 { 0 } else { 7 };
        lines.push(format!(
            r#"{{"cmd":"create_participant","participant":{id},"code":"P","group":{group}}}"#
        ));
        for asset in 1..=2 {
            let account = 10 * id + asset;
            lines.push(format!(
                r#"{{"cmd":"create_account","account":{account},"participant":{id},"asset":{asset}}}"#
            ));
        }
    }
    lines.push(
        r#"{"cmd":"create_instrument","instrument":1,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1}"#
            .into(),
    );
    for line in &lines {
        assert!(
            is_ok(&client.call(&command(line)).expect("answered")[0]),
            "{line}"
        );
    }
    (node, client)
}

fn order(participant: u32, id: u64, side: &str, price: i64) -> String {
    format!(
        r#"{{"cmd":"place_order","participant":{participant},"instrument":1,"client_order_id":{id},"side":"{side}","price":{price},"quantity":5}}"#
    )
}

/// The next so many events: their names, and how far their sequence is from `first`.
fn next_names(client: &mut Client, count: usize, first: u64) -> Vec<(&'static str, u64)> {
    (0..count)
        .map(|_| {
            let event = client.next_event().expect("an event");
            let name = event.kind().expect("known").name();
            (name, event.header.sequence - first)
        })
        .collect()
}

#[test]
fn a_drop_copy_has_what_concerns_its_participants_live_and_from_a_sequence() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut trader) = node_with_traders(&small(&dir));
    let mut live = connect(&node);
    live.watch_drop_copy(&[1], 0).unwrap();
    live.call(&query_digest()).unwrap();
    let mut first = 0;
    for (at, line) in [
        order(1, 1, "sell", 10),
        order(3, 1, "sell", 11),
        r#"{"cmd":"replace_order","participant":1,"client_order_id":1,"price":9}"#.into(),
        r#"{"cmd":"replace_order","participant":3,"client_order_id":1,"price":12}"#.into(),
        order(2, 1, "buy", 9),
        order(2, 1, "buy", 9),
        order(1, 2, "buy", 1),
        r#"{"cmd":"cancel_order","participant":1,"client_order_id":2}"#.into(),
    ]
    .iter()
    .enumerate()
    {
        let sequence = trader.call(&command(line)).unwrap()[0].header.sequence;
        first = sequence - at as u64;
    }
    let of_one = [
        ("order_accepted", 0),
        ("order_replaced", 2),
        ("trade", 4),
        ("order_accepted", 6),
        ("order_cancelled", 7),
    ];
    assert_eq!(next_names(&mut live, 5, first), of_one);
    assert!(live.poll().unwrap().is_none());
    // From a sequence: what was missed comes again, and what happens then follows it.
    let mut late = connect(&node);
    late.watch_drop_copy(&[1], first + 4).unwrap();
    assert_eq!(next_names(&mut late, 3, first), of_one[2..]);
    trader.call(&command(&order(3, 2, "sell", 20))).unwrap();
    trader.call(&command(&order(1, 3, "sell", 20))).unwrap();
    assert_eq!(next_names(&mut late, 1, first), [("order_accepted", 9)]);
    assert_eq!(next_names(&mut live, 1, first), [("order_accepted", 9)]);
    // Another participant adds what is its own; a trade that is both's comes once.
    let mut both = connect(&node);
    both.watch_drop_copy(&[1, 2], first + 4).unwrap();
    let of_both = [
        ("order_accepted", 4),
        ("trade", 4),
        ("order_rejected", 5),
        ("order_accepted", 6),
        ("order_cancelled", 7),
        ("order_accepted", 9),
    ];
    assert_eq!(next_names(&mut both, 6, first), of_both);
    // A group is those who are in it.
    let binary = env!("CARGO_BIN_EXE_millrace");
    let address = node.address().to_string();
    let from = (first + 3).to_string();
    let watch = ["client", "--connect", &address, "watch", "drop-copy"];
    let asked = std::process::Command::new(binary)
        .args(watch)
        .args(["--group", "7", "--from", &from, "--limit", "5"])
        .output()
        .unwrap();
    let printed = String::from_utf8(asked.stdout).unwrap();
    let names = printed.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        line["event"].as_str().expect("a name").to_string()
    });
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "order_replaced",
            "order_accepted",
            "trade",
            "order_rejected",
            "order_accepted"
        ]
    );
    for (group, code) in [(&["--group", "8"][..], 1), (&[][..], 2)] {
        let refused = std::process::Command::new(binary)
            .args(watch)
            .args(group)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(code), "{refused:?}");
    }
    node.stop();
}

#[test]
fn a_drop_copy_follows_its_group_and_has_what_was_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut trader) = node_with_traders(&small(&dir));
    let mut copy = connect(&node);
    copy.watch_drop_copy_of_group(7, &[2, 3], 0).unwrap();
    copy.call(&query_digest()).unwrap();
    let mut first = 0;
    for (at, line) in [
        r#"{"cmd":"cancel_order","participant":50,"client_order_id":1}"#.to_string(),
        r#"{"cmd":"create_participant","participant":50,"code":"LATE","group":7}"#.into(),
        r#"{"cmd":"create_participant","participant":51,"code":"OTHER","group":8}"#.into(),
        r#"{"cmd":"cancel_order","participant":50,"client_order_id":1}"#.into(),
        r#"{"cmd":"cancel_order","participant":51,"client_order_id":1}"#.into(),
        r#"{"cmd":"replace_order","participant":3,"client_order_id":1,"price":5}"#.into(),
        r#"{"cmd":"mass_cancel","participant":50,"instrument":99}"#.into(),
        r#"{"cmd":"mass_cancel","participant":51,"instrument":99}"#.into(),
        order(50, 1, "sell", 10),
        order(51, 1, "sell", 10),
        r#"{"cmd":"create_participant","participant":50,"code":"LATE","group":7}"#.into(),
    ]
    .iter()
    .enumerate()
    {
        let sequence = trader.call(&command(line)).unwrap()[0].header.sequence;
        first = sequence - at as u64;
    }
    let expected = [
        ("ok", 1),
        ("rejected", 3),
        ("rejected", 5),
        ("rejected", 6),
        ("order_rejected", 8),
    ];
    assert_eq!(next_names(&mut copy, 5, first), expected);
    copy.call(&query_digest()).unwrap();
    assert!(copy.poll().unwrap().is_none());
    // From a sequence on it is the same: the command that makes a member is heard of on the way.
    let mut late = connect(&node);
    late.watch_drop_copy_of_group(7, &[2, 3], first).unwrap();
    assert_eq!(next_names(&mut late, 5, first), expected);
    node.stop();
}

/// A way to the node that can be cut and mended.
struct Link {
    address: std::net::SocketAddr,
    is_up: std::sync::Arc<std::sync::atomic::AtomicBool>,
    open: std::sync::Arc<std::sync::Mutex<Vec<std::net::TcpStream>>>,
}

impl Link {
    fn to(node: std::net::SocketAddr) -> Link {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link {
            address: listener.local_addr().unwrap(),
            is_up: std::sync::Arc::new(true.into()),
            open: std::sync::Arc::default(),
        };
        let (is_up, open) = (link.is_up.clone(), link.open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if !is_up.load(Ordering::Acquire) {
                    continue;
                }
                let far = std::net::TcpStream::connect(node).unwrap();
                let both = [&near, &far].map(|it| it.try_clone().unwrap());
                open.lock().unwrap().extend(both);
                for (mut from, mut to) in [
                    (near.try_clone().unwrap(), far.try_clone().unwrap()),
                    (far, near),
                ] {
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
            }
        });
        link
    }

    fn cut(&self) {
        self.is_up.store(false, Ordering::Release);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    fn mend(&self) {
        self.is_up.store(true, Ordering::Release);
    }
}

#[test]
fn a_watch_that_heard_nothing_goes_on_where_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut trader) = node_with_traders(&small(&dir));
    trader.call(&command(&order(1, 1, "sell", 10))).unwrap();
    let link = Link::to(node.address());
    let mut copy = Client::connect(link.address, Options::default()).unwrap();
    copy.watch_drop_copy(&[1], 0).unwrap();
    copy.call(&query_digest()).unwrap();
    link.cut();
    let missed = trader.call(&command(&order(1, 2, "sell", 11))).unwrap();
    link.mend();
    let event = copy.next_event().unwrap();
    assert_eq!(event.header.sequence, missed[0].header.sequence);
    assert_eq!(copy.reconnects(), 1);
    // Once more: what was heard does not come again.
    link.cut();
    let missed = trader.call(&command(&order(1, 3, "sell", 12))).unwrap();
    link.mend();
    let event = copy.next_event().unwrap();
    assert_eq!(event.header.sequence, missed[0].header.sequence);
    node.stop();
}

#[test]
fn market_data_is_of_its_instruments_and_a_book_is_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut trader) = node_with_traders(&small(&dir));
    let second = r#"{"cmd":"create_instrument","instrument":2,"base_asset":2,"quote_asset":1,"lot_size":1,"tick_value":1}"#;
    assert!(is_ok(&trader.call(&command(second)).unwrap()[0]));
    let mut data = connect(&node);
    data.watch_market_data(&[1], 0).unwrap();
    data.call(&query_digest()).unwrap();
    let mut first = 0;
    for (at, line) in [
        order(1, 1, "sell", 10),
        r#"{"cmd":"publish_book","instrument":1}"#.into(),
        order(2, 1, "buy", 10).replace("\"quantity\":5", "\"quantity\":2"),
        order(2, 2, "buy", 10).replace("\"instrument\":1", "\"instrument\":2"),
        r#"{"cmd":"set_instrument_phase","instrument":2,"phase":"halted"}"#.into(),
        r#"{"cmd":"set_instrument_phase","instrument":1,"phase":"auction"}"#.into(),
        order(3, 1, "buy", 11),
    ]
    .iter()
    .enumerate()
    {
        let sequence = trader.call(&command(line)).unwrap()[0].header.sequence;
        first = sequence - at as u64;
    }
    // Nothing of the other instrument comes in between.
    assert_eq!(
        next_names(&mut data, 7, first),
        [
            ("book_start", 1),
            ("book_add", 1),
            ("trade", 2),
            ("book_execute", 2),
            ("instrument_phase", 5),
            ("indicative", 6),
            ("book_add", 6),
        ]
    );
    let drawn = |more: &[&str]| {
        let address = node.address().to_string();
        std::process::Command::new(env!("CARGO_BIN_EXE_millrace"))
            .args(["client", "--connect", &address, "watch", "book"])
            .args(more)
            .output()
            .unwrap()
    };
    let once = drawn(&["--once", "--depth", "3"]);
    assert!(once.status.success());
    let text = String::from_utf8(once.stdout).unwrap();
    assert!(
        text.contains("auction") && text.contains("last 10"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no terminal, no escapes: {text}");
    let unknown = drawn(&["--once", "--instrument", "9"]);
    assert_eq!(unknown.status.code(), Some(1));
    let why = String::from_utf8(unknown.stderr).unwrap();
    assert!(why.contains("instrument_not_found"), "{why}");
    node.stop();
}

#[test]
fn a_drop_copy_reader_that_does_not_read_is_dropped_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.reply_window_events = 8_192;
    let (node, mut trader) = node_with_traders(&config);
    let drop_copy = |participant, from_sequence| Watch {
        from_sequence,
        on: Bool::Yes,
        scope: WatchScope::DropCopy,
        _reserved: [Zero::Zero; 2],
        participant: ParticipantId(participant),
    };
    let mut slow = Raw::hello(node.address(), 9, 0).0;
    slow.say(&drop_copy(1, 0));
    let mut idle = Raw::hello(node.address(), 10, 0).0;
    idle.say(&drop_copy(2, 0));
    for raw in [&mut slow, &mut idle] {
        raw.send(&query_account(11), 1);
        raw.event();
    }
    // Orders without room in the book's prices: refused, with nothing to remember.
    let refused = command(&order(1, 1, "buy", -1));
    let mut sent = 0;
    while node.counters().slow_consumers.get() == 0 {
        for _ in 0..1_000 {
            trader.submit(&refused).unwrap();
        }
        trader.drain(|_| ()).unwrap();
        sent += 1_000;
        assert!(sent < 1_000_000, "the slow one was never dropped");
    }
    assert!(slow.is_closed());
    // The other had nothing to read, so it could not be slow.
    trader.call(&command(&order(2, 1, "buy", 1))).unwrap();
    assert!(matches!(
        idle.event().event(),
        Some(Event::OrderAccepted(_))
    ));
    assert_eq!(node.counters().slow_consumers.get(), 1);
    // It comes back, is told what is gone, and has the rest.
    let mut again = Raw::hello(node.address(), 9, 0).0;
    again.say(&drop_copy(1, 1));
    let gone = again.refused();
    assert_eq!(gone.error, SessionError::RepliesGone);
    let next = again.event();
    assert!(matches!(next.event(), Some(Event::OrderRejected(_))));
    assert_eq!(next.header.sequence, gone.expected);
    node.stop();
}

#[test]
fn a_watcher_sees_every_event_from_where_it_asks() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    client.call(&transfer(1, 1)).unwrap();
    let mut late = connect(&node);
    late.watch(3).unwrap();
    let mut live = connect(&node);
    live.watch(0).unwrap();
    // Both have said watch before the next command is sent: a query of each came back.
    late.call(&query_account(1)).unwrap();
    live.call(&query_account(1)).unwrap();
    client.call(&transfer(2, 1)).unwrap();
    client.call(&query_account(2)).unwrap();
    client.call(&transfer(3, 1)).unwrap();
    let sequences = |client: &mut Client, count: usize| -> Vec<u64> {
        (0..count)
            .map(|_| client.next_event().unwrap().header.sequence)
            .collect()
    };
    assert_eq!(sequences(&mut late, 6), [3, 4, 5, 6, 7, 8]);
    assert_eq!(sequences(&mut live, 2), [7, 8]);
    // Its own replies come once.
    let own = live.call(&transfer(4, 1)).unwrap();
    assert_eq!(own.len(), 1);
    assert!(live.poll().unwrap().is_none());
    let mut raw = Raw::hello(node.address(), 50, 0).0;
    raw.say(&Watch {
        from_sequence: 0,
        on: Bool::Yes,
        scope: WatchScope::Everything,
        _reserved: [Zero::Zero; 2],
        participant: ParticipantId(0),
    });
    raw.say(&Watch {
        from_sequence: 0,
        on: Bool::No,
        scope: WatchScope::Everything,
        _reserved: [Zero::Zero; 2],
        participant: ParticipantId(0),
    });
    raw.send(&transfer(5, 1), 1);
    assert_eq!(raw.event().header.session, 50);
    client.call(&transfer(6, 1)).unwrap();
    raw.send(&transfer(7, 1), 2);
    assert_eq!(raw.event().header.session, 50, "off is off");
    node.stop();
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_the_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.reply_window_events = 8_192;
    config.gateway.write_buffer_bytes = 512 << 10;
    let (node, mut client) = node_with_accounts(&config);
    let mut slow = Raw::hello(node.address(), 9, 0).0;
    slow.say(&Watch {
        from_sequence: 0,
        on: Bool::Yes,
        scope: WatchScope::Everything,
        _reserved: [Zero::Zero; 2],
        participant: ParticipantId(0),
    });
    slow.send(&query_account(1), 1);
    slow.event();
    // A batch that exists already answers with many events and changes nothing.
    let large = batch(1, 4_000);
    let mut sent = 0;
    while node.counters().slow_consumers.get() == 0 {
        assert_eq!(client.call(&large).unwrap().len(), 4_000);
        sent += 1;
        assert!(sent < 2_000, "the slow one was never dropped");
    }
    assert!(slow.is_closed());
    assert_eq!(client.call(&large).unwrap().len(), 4_000);
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 4_000);
    node.stop();
}

#[test]
fn a_client_that_reads_late_but_in_time_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_many_transfers(&dir);
    // A buffer far smaller than the replies, a window that holds them all.
    config.rings.ingress_slots = 1 << 16;
    config.gateway.write_buffer_bytes = 4_096;
    config.gateway.reply_window_events = 1 << 17;
    let (node, _client) = node_with_accounts(&config);
    let mut slow = Raw::hello(node.address(), 9, 0).0;
    let batches = 12;
    for number in 1..=batches {
        slow.send(&batch(u128::from(number) * 10_000, 8_000), number);
    }
    for number in 1..=batches {
        for index in 0..8_000 {
            let header = slow.event().header;
            assert_eq!((header.client_sequence, header.index), (number, index));
        }
    }
    assert_eq!(node.counters().slow_consumers.get(), 0);
    node.stop();
}

#[test]
fn a_full_ring_is_refused_and_the_client_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        durability: Durability::Disk,
        ..with_many_transfers(&dir)
    };
    let (node, mut client) = node_with_accounts(&config);
    // Each batch takes more than half of the ring.
    for number in 0..40u128 {
        client.submit(&batch(1 + number * 8_000, 8_000)).unwrap();
        client.submit(&query_account(1)).unwrap();
    }
    let mut created = 0;
    let mut queries = 0;
    client
        .drain(|event| {
            if event.header.flags & millrace::protocol::frame::QUERY_ANSWER != 0 {
                queries += 1;
            } else {
                created += u32::from(matches!(
                    status(event),
                    Reason::Created | Reason::CapacityExhausted
                ));
            }
        })
        .unwrap();
    assert_eq!((created, queries), (40 * 8_000, 40));
    node.stop();
}

#[test]
fn a_stopping_node_answers_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        durability: Durability::Disk,
        ..with_many_transfers(&dir)
    };
    let (node, _client) = node_with_accounts(&config);
    let (mut raw, _) = Raw::hello(node.address(), 9, 0);
    for number in 1..=2_000 {
        raw.send(&transfer(u128::from(number), 1), number);
    }
    let stopping = std::thread::spawn(move || node.stop());
    let mut answered = 0;
    let mut refused = 0;
    while let Some(sent) = raw.next() {
        match sent {
            Sent::Event(event) => {
                answered += 1;
                assert_eq!(event.header.client_sequence, answered);
            }
            Sent::Refused(it) => {
                assert_eq!(it.error, SessionError::Stopping);
                refused += 1;
            }
            Sent::Welcome(_) => panic!("a second welcome"),
        }
    }
    let engine = stopping.join().unwrap().engine;
    assert_eq!(engine.sequence(), 5 + answered);
    assert!(refused > 0, "it says good-bye");
    let node = Node::start(&config).unwrap();
    assert_eq!(node.recovery().sequence, 5 + answered);
    node.stop();
}

#[test]
fn a_client_survives_a_restart_of_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (node, mut client) = node_with_accounts(&config);
    let config = Config {
        listen: node.address(),
        ..config
    };
    client.call(&transfer(1, 1)).unwrap();
    node.stop();
    let restart = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        Node::start(&config).unwrap()
    });
    let events = client.call(&transfer(2, 1)).unwrap();
    assert_eq!(status(&events[0]), Reason::Created);
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 2);
    assert!(client.reconnects() > 0);
    restart.join().unwrap().stop();
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let node = Node::start(&config).unwrap();
    let taken = Config {
        listen: node.address(),
        dir: dir.path().join("elsewhere"),
        ..config.clone()
    };
    let in_use = config.clone();
    let no_core = Config {
        cores: CoreChoice::List(vec![0, 4_095]),
        dir: dir.path().join("elsewhere"),
        ..config.clone()
    };
    let no_ring = Config {
        rings: millrace::config::Rings {
            ingress_slots: 100,
            ..Default::default()
        },
        ..config.clone()
    };
    let not_a_dir = Config {
        dir: "/dev/null/data".into(),
        ..config.clone()
    };
    let cases = [
        (taken, "Listen", "another --listen"),
        (in_use, "Recover", "data"),
        (no_core, "Cores", "core 4095 is not there"),
        (no_ring, "Config", "rings.ingress_slots"),
        (not_a_dir, "Recover", "/dev/null/data"),
    ];
    for (config, kind, part) in cases {
        let error = Node::start(&config).err().expect(part);
        let found = match &error {
            StartError::Config(_) => "Config",
            StartError::Cores(_) => "Cores",
            StartError::Listen { .. } => "Listen",
            StartError::Recover(_) => "Recover",
            StartError::System { .. } => "System",
        };
        let text = error.to_string();
        assert_eq!(found, kind, "{text}");
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    }
    node.stop();
}

#[test]
fn a_client_that_finds_no_node_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = Client::connect(address, Options::default()).err().unwrap();
    assert!(matches!(error, ClientError::Connect { .. }));
    assert!(error.to_string().contains(&address.to_string()));
}
