//! The bounds of the wire: crowds, silent connections, readers that stop, and clients that hold too much.

use crate::pipeline_support::*;
use millrace::client::{Client, ClientError, Options};
use millrace::node::Node;
use millrace::protocol::command::CommandKind;
use millrace::protocol::session::{
    Hello, Refused, SessionError, Watch, WatchScope, Welcome, decode, encode,
};
use millrace::protocol::units::{ParticipantId, Timestamp};
use millrace::protocol::wire::{Bool, Zero};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Waits until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn watch(from_sequence: u64) -> Watch {
    Watch {
        from_sequence,
        on: Bool::Yes,
        scope: WatchScope::Everything,
        _reserved: [Zero::Zero; 2],
        participant: ParticipantId(0),
    }
}

#[test]
fn connections_that_say_nothing_make_room_for_those_that_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.connections = 8;
    config.gateway.connections_without_hello = 4;
    let (node, mut client) = node_with_accounts(&config);
    // More than there are seats, one after the other: those who came first go first.
    let mut silent: Vec<Raw> = (0..20).map(|_| Raw::connect(node.address())).collect();
    for raw in &mut silent[..16] {
        assert_eq!(raw.refused().error, SessionError::HelloFirst);
        assert!(raw.is_closed());
    }
    // Whoever has something to say finds a seat, and so does one of the silent that speaks up.
    let (mut second, _) = Raw::hello(node.address(), 9, 0);
    second.send(&transfer(1, 1), 1);
    assert_eq!(second.event().header.client_sequence, 1);
    let mut speaks = silent.pop().unwrap();
    speaks.say(&Hello {
        session: 10,
        replies_seen: 0,
    });
    speaks.send(&transfer(2, 1), 1);
    assert!(matches!(speaks.next(), Some(Sent::Welcome(_))));
    assert_eq!(speaks.event().header.client_sequence, 1);
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 2);
    node.stop();
}

#[test]
fn hello_has_its_time_and_sessions_may_be_idle() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.hello_timeout_ms = 300;
    let (node, mut idle) = node_with_accounts(&config);
    let (mut half, _) = Raw::hello(node.address(), 9, 0);
    let frame = transfer(1, 1);
    half.write(&frame.bytes()[..50]);
    let mut silent = Raw::connect(node.address());
    let started = Instant::now();
    // A byte now and then is no hello.
    silent.write(&[48]);
    assert_eq!(silent.refused().error, SessionError::HelloFirst);
    assert!(silent.is_closed());
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250), "{took:?}");
    std::thread::sleep(Duration::from_millis(600));
    // Neither who has said nothing since, nor who is in the middle of a frame, has been thrown out.
    assert!(is_ok_or_account(&mut idle));
    let mut rest = frame.bytes().to_vec();
    rest[16..24].copy_from_slice(&1u64.to_le_bytes());
    half.write(&rest[50..]);
    // The number lies in the first half, which said 0: a gap, so the frame was understood.
    assert_eq!(half.refused().error, SessionError::SequenceGap);
    node.stop();
}

fn is_ok_or_account(client: &mut Client) -> bool {
    lines(&client.call(&query_account(2)).unwrap()).contains("\"event\":\"account\"")
}

#[test]
fn a_crowd_comes_and_goes_while_a_session_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_many_transfers(&dir);
    config.gateway.connections = 600;
    let (node, mut client) = node_with_accounts(&config);
    let mut next = 0;
    for round in 0..3u64 {
        let crowd: Vec<Raw> = (0..300)
            .map(|at| {
                let mut raw = Raw::connect(node.address());
                raw.say(&Hello {
                    session: 1_000 + round * 1_000 + at,
                    replies_seen: 0,
                });
                raw
            })
            .collect();
        for _ in 0..50 {
            next += 1;
            client.call(&transfer(next, 1)).unwrap();
        }
        eventually("all are in", || node.counters().open.get() == 301);
        for mut raw in crowd {
            assert!(matches!(raw.next(), Some(Sent::Welcome(_))));
        }
        for _ in 0..50 {
            next += 1;
            client.call(&transfer(next, 1)).unwrap();
        }
        eventually("all have gone", || node.counters().open.get() == 1);
    }
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), next);
    assert_eq!(client.reconnects(), 0);
    assert_eq!(node.counters().refused.get(), 0);
    node.stop();
}

#[test]
fn a_dropped_watcher_goes_on_by_sequence_and_is_told_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_many_transfers(&dir);
    config.gateway.reply_window_events = 8_192;
    config.gateway.write_buffer_bytes = 64 << 10;
    let (node, mut client) = node_with_accounts(&config);
    let address = node.address();
    let (mut slow, _) = Raw::hello(address, 9, 0);
    slow.say(&watch(1));
    // Batches whose events say which transfer of them they are.
    let many = batch(1, 4_000);
    let mut sent = 0;
    while node.counters().slow_consumers.get() == 0 {
        client.call(&many).unwrap();
        sent += 1;
        assert!(sent < 2_000, "the slow one was never dropped");
    }
    // What it still got is whole up to some event; then the node said why it ends.
    let mut next = (1, 0);
    let expect = |event: &millrace::protocol::frame::EventSlot, next: &mut (u64, u32)| {
        let header = &event.header;
        assert_eq!(
            (header.sequence, header.index),
            *next,
            "nothing is left out"
        );
        *next = match event.is_last() {
            true => (header.sequence + 1, 0),
            false => (header.sequence, header.index + 1),
        };
    };
    loop {
        match slow.next() {
            Some(Sent::Event(event)) => expect(&event, &mut next),
            Some(Sent::Refused(refused)) => {
                assert_eq!(refused.error, SessionError::SlowConsumer);
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // It comes back and asks from where it was: the node says from where on there is something.
    let (mut again, _) = Raw::hello(address, 9, 0);
    again.say(&watch(next.0));
    let gone = again.refused();
    assert_eq!(gone.error, SessionError::RepliesGone);
    assert!(gone.expected > next.0, "{gone:?} after {next:?}");
    let last = node.progress().executed.get();
    let mut next = (gone.expected, 0);
    while next.0 <= last {
        expect(&again.event(), &mut next);
    }
    // And live from there.
    client.call(&transfer(1_000_000, 1)).unwrap();
    expect(&again.event(), &mut next);
    node.stop();
}

/// A session that comes back before the node has seen its old connection end has not ended: nothing is
/// journaled about it, and what it asked for when it does still holds. (It was journaled as the end of
/// session 0, and forgotten.)
#[test]
fn a_session_that_takes_over_takes_along_what_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (node, _client) = node_with_accounts(&config);
    let (mut first, _) = Raw::hello(node.address(), 9, 0);
    let asks = command(r#"{"cmd":"cancel_on_disconnect"}"#);
    assert_eq!(asks.header().kind, CommandKind::CancelOnDisconnect as u16);
    first.send(&asks, 1);
    assert!(is_ok(&first.event()));
    let sequence = node.progress().executed.get();
    let (second, _) = Raw::hello(node.address(), 9, 1);
    assert_eq!(first.refused().error, SessionError::Superseded);
    assert!(first.is_closed());
    drop(first);
    eventually("the first is gone", || node.counters().open.get() == 2);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(
        node.progress().executed.get(),
        sequence,
        "nothing is journaled"
    );
    drop(second);
    eventually("its end is journaled", || {
        node.progress().executed.get() == sequence + 1
    });
    node.stop();
}

#[test]
fn a_client_keeps_to_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&with_many_transfers(&dir)).unwrap();
    let options = Options {
        window_bytes: 2 << 20,
        held_events: 1_000,
        ..Options::default()
    };
    let mut client = Client::connect(node.address(), options).unwrap();
    for frame in opening() {
        client.call(&frame).unwrap();
    }
    // Bytes in flight: never more than the bound and not less than one command.
    let many = batch(1, 8_000);
    assert!(many.bytes().len() < 1 << 20);
    let mut answered = 0;
    for _ in 0..10 {
        loop {
            match client.submit(&many) {
                Ok(_) => break,
                Err(ClientError::NotTaken { held }) => {
                    assert!((1_000..20_000).contains(&held), "{held}");
                    while client.received().is_some() {
                        answered += 1;
                    }
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(client.in_flight_bytes() <= 2 << 20);
    }
    client.drain(|_| answered += 1).unwrap();
    assert_eq!(answered, 80_000);
    assert_eq!(client.in_flight_bytes(), 0);
    node.stop();
}

/// A client whose commands were refused while one of them was half sent, and whose connection then breaks,
/// comes back with what it has seen. (What it had given up counted as command 0, and it claimed to have
/// seen the answer before that.)
#[test]
fn a_client_that_was_refused_in_the_middle_of_a_frame_comes_back_with_what_it_saw() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let node = std::thread::spawn(move || {
        let greet = || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut hello = [0; 32];
            stream.read_exact(&mut hello).unwrap();
            let welcome = Welcome {
                session: 7,
                last_client_sequence: 0,
                sequence: 0,
                at: Timestamp(0),
            };
            stream.write_all(&encode(&welcome)).unwrap();
            (stream, decode::<Hello>(&hello).unwrap().replies_seen)
        };
        let (mut stream, first) = greet();
        // Nothing is read, so a frame is half sent before long.
        std::thread::sleep(Duration::from_millis(300));
        let refused = Refused {
            error: SessionError::Stopping,
            closing: Bool::No,
            _reserved: [Zero::Zero; 5],
            client_sequence: 1,
            expected: 1,
            _reserved_end: [Zero::Zero; 8],
        };
        stream.write_all(&encode(&refused)).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
        (first, greet().1)
    });
    let options = Options {
        session: Some(7),
        ..Options::default()
    };
    let mut client = Client::connect(address, options).unwrap();
    let many = batch(1, 8_000);
    for _ in 0..12 {
        client.submit(&many).unwrap();
    }
    let refused = loop {
        match client.poll() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused}");
    assert_eq!(client.replies_seen(), 0);
    while client.reconnects() == 0 {
        let _ = client.poll();
    }
    assert_eq!(node.join().unwrap(), (0, 0));
}
