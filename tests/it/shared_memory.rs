//! Clients on the node's host that speak over shared memory: the same session, the same events, and
//! nothing that a client may do to the memory hurts anybody else.

use crate::pipeline_support::*;
use millrace::client::{Client, ClientError, Options};
use millrace::config::{Config, Durability};
use millrace::node::Node;
use millrace::protocol::reason::Reason;
use millrace::protocol::session::{
    Hello, RingReady, SessionError, SessionMessage, UseRing, decode,
};
use millrace::protocol::wire::Zero;
use millrace::ring_file::ClientEnd;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

fn shared() -> Options {
    Options {
        shared_memory: true,
        timeout: PATIENCE,
        ..Options::default()
    }
}

fn connect_shared(node: &Node) -> Client {
    Client::connect(node.address(), shared()).expect("connects")
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn events_are_those_of_a_socket_in_every_layout() {
    let mut outputs = Vec::new();
    for (threads, shared_memory) in [(1, false), (1, true), (2, true), (3, true)] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            threads,
            durability: Durability::Disk,
            ..with_many_transfers(&dir)
        };
        let node = Node::start(&config).unwrap();
        let options = Options {
            shared_memory,
            ..Options::default()
        };
        let mut client = Client::connect(node.address(), options).unwrap();
        let mut commands = opening();
        commands.extend((1..=3_000).map(|id| transfer(id, 1)));
        // Longer than any ring here: it goes in pieces.
        commands.push(batch(10_000, 2_000));
        for command in &commands {
            client.submit(command).unwrap();
        }
        let mut events = Vec::new();
        client.drain(|event| events.push(*event)).unwrap();
        assert_eq!(events.len(), 5 + 3_000 + 2_000);
        assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 5_000);
        events.iter_mut().for_each(|event| event.header.at = 0);
        outputs.push(lines(&events));
        node.stop();
    }
    assert!(outputs.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn frames_longer_than_a_small_ring_go_through_it_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = with_many_transfers(&dir);
    config.gateway.shared_ring_bytes = 4_096;
    let node = Node::start(&config).unwrap();
    let mut client = connect_shared(&node);
    for command in opening() {
        client.call(&command).unwrap();
    }
    for first in [1, 5_001] {
        assert_eq!(client.call(&batch(first, 5_000)).unwrap().len(), 5_000);
    }
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 10_000);
    node.stop();
}

#[test]
fn a_node_that_sleeps_is_woken_and_a_client_that_watches_hears_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut other) = node_with_accounts(&small(&dir));
    let mut client = connect_shared(&node);
    client.watch(0).unwrap();
    for id in 1..=5 {
        // Long enough for every thread to go to sleep.
        std::thread::sleep(Duration::from_millis(30));
        let asked = Instant::now();
        assert_eq!(
            status(&client.call(&transfer(id, 1)).unwrap()[0]),
            Reason::Created
        );
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "woken, not by chance"
        );
        other.call(&transfer(100 + id, 1)).unwrap();
        assert_eq!(status(&client.next_event().unwrap()), Reason::Created);
    }
    let stats = client.stats().unwrap();
    assert_eq!(stats.node.connections, 2);
    node.stop();
}

#[test]
fn a_client_goes_on_over_shared_memory_when_its_node_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (node, _) = node_with_accounts(&config);
    let address = node.address();
    let mut client = connect_shared(&node);
    for id in 1..=10 {
        client.call(&transfer(id, 1)).unwrap();
    }
    node.stop();
    let node = Node::start(&Config {
        listen: address,
        ..config
    })
    .unwrap();
    for id in 11..=20 {
        client.call(&transfer(id, 1)).unwrap();
    }
    assert_eq!(client.reconnects(), 1);
    assert_eq!(credited(&client.call(&query_account(2)).unwrap()), 20);
    node.stop();
}

#[test]
fn rings_are_as_many_as_configured_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.shared_rings = 1;
    let node = Node::start(&config).unwrap();
    let first = connect_shared(&node);
    let refused = Client::connect(node.address(), shared());
    assert!(matches!(
        refused.err(),
        Some(ClientError::Refused {
            error: SessionError::NoSharedMemory,
            ..
        })
    ));
    drop(first);
    until("the ring comes back", || {
        Client::connect(node.address(), shared()).is_ok()
    });
    node.stop();
}

/// A client that holds its own ring, and may write whatever it likes.
struct Hand {
    stream: TcpStream,
    end: ClientEnd,
    ready: RingReady,
}

fn by_hand(address: SocketAddr, session: u64) -> Hand {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let hello = Hello {
        session,
        replies_seen: 0,
    };
    let use_ring = UseRing {
        _reserved: [Zero::Zero; 16],
    };
    stream
        .write_all(&millrace::protocol::session::encode(&hello))
        .unwrap();
    stream
        .write_all(&millrace::protocol::session::encode(&use_ring))
        .unwrap();
    let mut answer = [0; 48 + 32];
    stream.read_exact(&mut answer).unwrap();
    let ready: RingReady = decode(&answer[48..]).expect("ready");
    assert_eq!(
        u16::from_le_bytes([answer[52], answer[53]]),
        RingReady::KIND
    );
    let end = ClientEnd::open(ready.process, ready.descriptor).unwrap();
    Hand { stream, end, ready }
}

/// Whether the node has closed the socket.
fn is_closed(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 64]), Ok(0))
}

#[test]
fn a_position_that_cannot_be_ends_its_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    for (session, (at, value)) in [(128, u64::MAX), (128, 8), (128, 1 << 40)]
        .iter()
        .enumerate()
    {
        let mut hand = by_hand(node.address(), 50 + session as u64);
        let path = format!("/proc/{}/fd/{}", hand.ready.process, hand.ready.descriptor);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&value.to_le_bytes(), *at).unwrap();
        assert!(is_closed(&mut hand.stream), "{value}");
        assert!(file.set_len(0).is_err(), "nobody takes its pages");
    }
    client.call(&transfer(1, 1)).unwrap();
    until("they are gone", || node.counters().open.get() == 1);
    node.stop();
}

#[test]
fn what_is_no_frame_is_refused_through_the_ring() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    let mut hand = by_hand(node.address(), 50);
    assert_eq!(hand.end.output.write(&[7; 64]), Ok(64));
    until("an answer", || hand.end.input.has_data());
    let mut answer = [0; 64];
    let read = hand.end.input.read(&mut answer).unwrap();
    let refused: millrace::protocol::session::Refused = decode(&answer[..read]).unwrap();
    assert_eq!(refused.error, SessionError::BadLength);
    assert!(is_closed(&mut hand.stream));
    assert_eq!(node.counters().malformed.get(), 1);
    client.call(&transfer(1, 1)).unwrap();
    node.stop();
}

#[test]
fn a_client_that_goes_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _client) = node_with_accounts(&small(&dir));
    drop(connect_shared(&node));
    until("it is gone", || node.counters().open.get() == 1);
    node.stop();
}
