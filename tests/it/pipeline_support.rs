//! What tests of the pipeline and the wire share: commands in short, nodes on temporary
//! directories, and a client that speaks raw bytes.

use millrace::client::{Client, Options};
use millrace::config::Config;
use millrace::node::Node;
use millrace::pipeline::Inline;
use millrace::protocol::command::{CommandKind, Transfer, Transfers};
use millrace::protocol::event::Event;
use millrace::protocol::frame::{CommandFrame, EventSlot, Prefix};
use millrace::protocol::json::EventPrinter;
use millrace::protocol::reason::Reason;
use millrace::protocol::script::ScriptParser;
use millrace::protocol::session::{self, Hello, Refused, SessionMessage, Welcome};
use millrace::protocol::units::{AccountId, Amount, TransferId};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use tempfile::TempDir;

/// The command in a script line.
pub fn command(line: &str) -> CommandFrame {
    let parsed = ScriptParser::default().parse(line);
    parsed.expect(line).expect("a command")
}

/// An asset, two participants, and accounts 1 and 2, of which 1 may go below zero.
pub fn opening() -> Vec<CommandFrame> {
    [
        r#"{"cmd":"create_asset","asset":1,"code":"EUR","scale":2,"at":1000}"#,
        r#"{"cmd":"create_participant","participant":1,"code":"ONE"}"#,
        r#"{"cmd":"create_participant","participant":2,"code":"TWO"}"#,
        r#"{"cmd":"create_account","account":1,"participant":1,"asset":1}"#,
        r#"{"cmd":"create_account","account":2,"participant":2,"asset":1}"#,
    ]
    .map(command)
    .to_vec()
}

/// A transfer of `amount` from account 1 to account 2.
pub fn transfer(id: u128, amount: u128) -> CommandFrame {
    CommandFrame::new(CommandKind::Transfer, &transfer_body(id, amount))
}

pub fn transfer_body(id: u128, amount: u128) -> Transfer {
    Transfer {
        id: TransferId(id),
        debit_account: AccountId(1),
        credit_account: AccountId(2),
        amount: Amount(amount),
        ..zeroed()
    }
}

/// A body of zero bytes.
fn zeroed<T: zerocopy::TryFromBytes>() -> T {
    T::try_read_from_bytes(&vec![0; size_of::<T>()]).expect("all fields may be zero")
}

/// A batch of `count` transfers of 1 with ids from `first` on.
pub fn batch(first: u128, count: u32) -> CommandFrame {
    let transfers: Vec<Transfer> = (0..count)
        .map(|at| transfer_body(first + u128::from(at), 1))
        .collect();
    let head = Transfers { count, ..zeroed() };
    CommandFrame::with_items(CommandKind::Transfers, &head, &transfers)
}

pub fn query_account(account: u64) -> CommandFrame {
    command(&format!(r#"{{"cmd":"query_account","account":{account}}}"#))
}

pub fn query_digest() -> CommandFrame {
    command(r#"{"cmd":"query_digest"}"#)
}

/// What account 2 was credited, as an answer to `query_account` says.
pub fn credited(events: &[EventSlot]) -> u128 {
    let Some(Event::Account(account)) = events[0].event() else {
        panic!("not an account: {:?}", events[0].event());
    };
    account.credits_posted.0
}

/// The outcome of a single transfer.
pub fn status(event: &EventSlot) -> Reason {
    let Some(Event::Transfer(done)) = event.event() else {
        panic!("not a transfer: {:?}", event.event());
    };
    done.status
}

pub fn is_ok(event: &EventSlot) -> bool {
    matches!(event.event(), Some(Event::Ok(_)))
}

/// Events as the lines of a script's output.
pub fn lines(events: &[EventSlot]) -> String {
    let mut out = String::new();
    let mut printer = EventPrinter::default();
    for event in events {
        printer.print(&mut out, event);
    }
    out
}

/// A configuration with small tables on a temporary directory.
pub fn small(dir: &TempDir) -> Config {
    Config::small(&dir.path().join("data"))
}

/// As [`small`], with a larger table of transfers.
pub fn with_many_transfers(dir: &TempDir) -> Config {
    let mut config = small(dir);
    config.limits.transfers = 1 << 17;
    config
}

/// Runs commands through a pipeline on this thread, one after the other.
pub fn run_inline(inline: &mut Inline, commands: &[CommandFrame]) -> Vec<EventSlot> {
    let mut events = Vec::new();
    for command in commands {
        inline
            .execute(command, &mut |event: &EventSlot| events.push(*event))
            .expect("taken");
    }
    events
}

/// A node with accounts 1 and 2, and a client on it.
pub fn node_with_accounts(config: &Config) -> (Node, Client) {
    let node = Node::start(config).expect("starts");
    let mut client = connect(&node);
    for command in opening() {
        assert!(is_ok(&client.call(&command).expect("answered")[0]));
    }
    (node, client)
}

/// How long a test waits for what must come: long enough for any machine, however busy. Only a test
/// that fails waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn connect(node: &Node) -> Client {
    let options = Options {
        timeout: PATIENCE,
        ..Options::default()
    };
    Client::connect(node.address(), options).expect("connects")
}

/// A connection without a client's manners.
pub struct Raw {
    pub stream: TcpStream,
    held: Vec<u8>,
}

/// What a node sent.
pub enum Sent {
    Event(Box<EventSlot>),
    Welcome(Welcome),
    Refused(Refused),
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sent::Event(event) => event.event().fmt(f),
            Sent::Welcome(welcome) => welcome.fmt(f),
            Sent::Refused(refused) => refused.fmt(f),
        }
    }
}

impl Raw {
    pub fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw {
            stream,
            held: Vec::new(),
        }
    }

    /// Connects and says hello.
    pub fn hello(address: SocketAddr, session: u64, replies_seen: u64) -> (Raw, Welcome) {
        let mut raw = Raw::connect(address);
        raw.say(&Hello {
            session,
            replies_seen,
        });
        match raw.next() {
            Some(Sent::Welcome(welcome)) => (raw, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub fn say<M: SessionMessage>(&mut self, message: &M) {
        self.write(&session::encode(message));
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the node reads");
    }

    /// Sends a command as number `client_sequence`.
    pub fn send(&mut self, frame: &CommandFrame, client_sequence: u64) {
        let mut frame = frame.clone();
        frame.header_mut().client_sequence = client_sequence;
        self.write(frame.bytes());
    }

    /// The next thing sent; `None` where the node closed the connection.
    pub fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some(sent) = self.cut() {
                return Some(sent);
            }
            let mut bytes = [0; 1 << 16];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.held.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing more came: {error}"),
            }
        }
    }

    fn cut(&mut self) -> Option<Sent> {
        let prefix: Prefix = bytemuck::pod_read_unaligned(self.held.get(..8)?);
        let frame = self.held.get(..prefix.length as usize)?;
        let sent = match prefix.kind {
            Welcome::KIND => Sent::Welcome(session::decode(frame).unwrap()),
            Refused::KIND => Sent::Refused(session::decode(frame).unwrap()),
            _ => Sent::Event(Box::new(EventSlot::from_frame(frame).unwrap())),
        };
        self.held.drain(..prefix.length as usize);
        Some(sent)
    }

    /// The next event; where a watch begins is passed over.
    pub fn event(&mut self) -> EventSlot {
        loop {
            match self.next() {
                Some(Sent::Event(event)) => return *event,
                Some(Sent::Welcome(_)) => {}
                other => panic!("no event: {other:?}"),
            }
        }
    }

    pub fn refused(&mut self) -> Refused {
        loop {
            match self.next() {
                Some(Sent::Refused(refused)) => return refused,
                Some(Sent::Welcome(_)) => {}
                other => panic!("no refusal: {other:?}"),
            }
        }
    }

    /// Whether the node closes this connection behind what it has sent, however much that is.
    pub fn is_closed(&mut self) -> bool {
        let mut bytes = [0; 1 << 16];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == ErrorKind::ConnectionReset,
            }
        }
    }
}
