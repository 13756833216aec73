//! What a node says of itself: counts that are right, stages that add up, and questions that do no harm.

use crate::pipeline_support::*;
use millrace::client::{Client, Options, Stats};
use millrace::config::{Config, Durability};
use millrace::node::Node;
use millrace::protocol::session::{SessionError, Span, Stage, StageTimes, StatsRequest};
use millrace::protocol::wire::Zero;
use std::time::{Duration, Instant};

const QUESTION: StatsRequest = StatsRequest {
    _reserved: [Zero::Zero; 16],
};

fn since_start(stats: &Stats) -> Vec<StageTimes> {
    let stages = stats.stages.iter();
    stages
        .filter(|it| it.span == Span::SinceStart)
        .copied()
        .collect()
}

/// Asks until the replies of `commands` commands are counted: a reply may reach a client before the
/// node has noted that it was sent.
fn once_counted(client: &mut Client, commands: u64) -> Stats {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = client.stats().expect("answered");
        if since_start(&stats)[0].commands >= commands || Instant::now() > deadline {
            return stats;
        }
    }
}

#[test]
fn counts_are_exact_and_stages_add_up_in_every_layout() {
    for threads in 1..=3 {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            threads,
            durability: Durability::Disk,
            ..small(&dir)
        };
        let (node, mut client) = node_with_accounts(&config);
        let opened = opening().len() as u64;
        for id in 1..=50 {
            client.call(&transfer(id, 1)).unwrap();
            client.call(&query_account(1)).unwrap();
        }
        let commands = opened + 50;
        let stats = once_counted(&mut client, commands);
        assert_eq!(stats.node.sequence, commands);
        assert_eq!(stats.node.durable, commands);
        assert_eq!(stats.node.commands, commands + 50, "with the queries");
        assert_eq!(stats.node.answered, commands + 50);
        assert_eq!(stats.node.commits, commands, "one in flight");
        assert_eq!(stats.node.busy, 0);
        assert_eq!(stats.node.connections, 1);
        assert_eq!(stats.node.sessions, 1);
        assert_eq!(stats.node.journal_space, u64::MAX);
        assert!(stats.node.started_at < stats.node.at);

        let times = since_start(&stats);
        let stages: Vec<Stage> = times.iter().map(|it| it.stage).collect();
        assert_eq!(stages, Stage::ALL);
        assert!(times.iter().all(|it| it.commands == commands), "{times:?}");
        let total = times.last().unwrap().mean_ns;
        let parts: u64 = times[..times.len() - 1].iter().map(|it| it.mean_ns).sum();
        // A histogram's values are right to 6 %.
        assert!(
            parts.abs_diff(total) * 8 <= total,
            "{parts} ns and {total} ns"
        );
        for it in &times {
            assert!(it.p50_ns <= it.p90_ns && it.p90_ns <= it.p99_ns, "{it:?}");
            assert!(it.p99_ns <= it.p999_ns && it.p999_ns <= it.max_ns, "{it:?}");
        }
        node.stop();
    }
}

#[test]
fn commands_in_flight_are_counted_and_their_replies_come() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&with_many_transfers(&dir));
    for id in 1..=2_000 {
        client.submit(&transfer(id, 1)).unwrap();
        if id % 500 == 0 {
            client
                .stats()
                .expect("answered while commands are in flight");
        }
    }
    let mut events = 0;
    client.drain(|_| events += 1).unwrap();
    assert_eq!(events, 2_000);
    let stats = once_counted(&mut client, 2_005);
    assert_eq!(stats.node.answered, 2_005);
    assert_eq!(since_start(&stats)[0].commands, 2_005);
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.stats().unwrap().node.ring_slots_peak == 0 {
        // The peak is that of the last whole second, and was in one of these.
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
        client.call(&transfer(1, 1)).unwrap();
    }
    node.stop();
}

#[test]
fn a_node_that_does_not_measure_says_its_counts() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        stage_times: false,
        ..small(&dir)
    };
    let (node, mut client) = node_with_accounts(&config);
    let stats = client.stats().unwrap();
    assert_eq!(stats.stages, []);
    assert_eq!(stats.node.commands, 5);
    assert_eq!(stats.node.commits, 5, "one in flight");
    node.stop();
}

#[test]
fn a_watcher_may_ask_and_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut client) = node_with_accounts(&small(&dir));
    let mut watcher = connect(&node);
    watcher.watch(0).unwrap();
    watcher.stats().unwrap();
    for id in 1..=10 {
        client.call(&transfer(id, 1)).unwrap();
    }
    watcher.stats().unwrap();
    for id in 1..=10 {
        assert_eq!(watcher.next_event().unwrap().header.sequence, 5 + id);
    }
    node.stop();
}

#[test]
fn who_has_not_said_hello_gets_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _client) = node_with_accounts(&small(&dir));
    let mut raw = Raw::connect(node.address());
    raw.say(&QUESTION);
    assert_eq!(raw.refused().error, SessionError::HelloFirst);
    assert!(raw.is_closed());
    node.stop();
}

#[test]
fn who_asks_and_asks_and_never_reads_is_dropped_and_the_node_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = small(&dir);
    config.gateway.write_buffer_bytes = 64 << 10;
    let (node, mut client) = node_with_accounts(&config);
    let (mut raw, _) = Raw::hello(node.address(), 77, 0);
    raw.stream.set_nonblocking(true).unwrap();
    let question = millrace::protocol::session::encode(&QUESTION).repeat(1_000);
    let deadline = Instant::now() + Duration::from_secs(20);
    while client.stats().unwrap().node.slow_consumers == 0 {
        assert!(Instant::now() < deadline, "never dropped");
        let _ = std::io::Write::write(&mut raw.stream, &question);
    }
    assert!(is_created(&mut client, 9));
    node.stop();
}

fn is_created(client: &mut Client, id: u128) -> bool {
    let events = client.call(&transfer(id, 1)).unwrap();
    status(&events[0]) == millrace::protocol::reason::Reason::Created
}

#[test]
fn a_client_that_loses_its_connection_asks_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = small(&dir);
    let (node, client) = node_with_accounts(&config);
    let address = node.address();
    let options = Options {
        session: Some(client.session()),
        replies_seen: client.replies_seen(),
        ..Options::default()
    };
    drop(client);
    let mut client = Client::connect(address, options).unwrap();
    node.stop();
    let again = Config {
        listen: address,
        ..config
    };
    let node = Node::start(&again).unwrap();
    let stats = client.stats().unwrap();
    assert_eq!(stats.node.sequence, 5, "as the journal has it");
    assert_eq!(stats.node.commands, 0, "since this start");
    assert_eq!(client.reconnects(), 1);
    node.stop();
}
