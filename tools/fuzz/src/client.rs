//! The client against a hostile node: whatever a server sends, the client answers with an error or
//! an event, never with a panic and never by going round for ever.
//!
//! The server is a thread with a real socket. It says what the input says and hangs up.

use crate::frames;
use crate::source::Source;
use bytemuck::Zeroable;
use millrace::client::{Client, ClientError, Options};
use millrace::protocol::command::{AccountRef, CommandKind, Empty};
use millrace::protocol::event::EventKind;
use millrace::protocol::frame::{
    CommandFrame, EVENT_BODY_BYTES_MAX, EVENT_HEADER_BYTES, EventHeader, EventSlot,
};
use millrace::protocol::json::EventPrinter;
use millrace::protocol::session::{Refused, SessionError, Welcome, encode};
use millrace::protocol::units::{AccountId, Timestamp};
use millrace::protocol::wire::Bool;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

const SESSION: u64 = 7;
/// Numbers of queries have this bit.
const QUERY: u64 = 1 << 63;

/// One input: how the client asks, and what the server says.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let manner = source.byte();
    let piece = source.byte();
    let said = script(&mut source);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it listens");
    let server = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("the client comes");
        say(stream, &said, piece.into());
    });
    let options = Options {
        session: Some(SESSION),
        window: 8,
        timeout: Duration::from_secs(20),
        reconnect: Duration::ZERO,
        busy_pause: Duration::ZERO,
        ..Options::default()
    };
    // It always ends with an error: the server hangs up.
    let error = ask(Client::connect(address, options), manner).expect_err("the server hangs up");
    assert!(!error.to_string().is_empty());
    assert!(
        !matches!(error, ClientError::Timeout),
        "the client went round for ever"
    );
    server.join().expect("the server");
}

fn ask(client: Result<Client, ClientError>, manner: u8) -> Result<(), ClientError> {
    let mut client = client?;
    if manner & 1 != 0 {
        client.watch(1)?;
    }
    let tick = CommandFrame::new(
        CommandKind::Tick,
        &Empty {
            _reserved: Default::default(),
        },
    );
    let query = CommandFrame::new(
        CommandKind::QueryAccount,
        &AccountRef {
            account: AccountId(1),
            _reserved: Default::default(),
        },
    );
    let mut printer = EventPrinter::default();
    for frame in [&tick, &query, &tick, &tick] {
        client.submit(frame)?;
    }
    client.flush()?;
    if manner & 2 != 0 {
        client.call(&query)?;
    }
    // What is refused is not the end of a session.
    let mut errors = 0;
    loop {
        match client.next_event() {
            Ok(event) => frames::event(event.frame(), &mut printer),
            Err(error @ (ClientError::Io(_) | ClientError::Timeout)) => return Err(error),
            Err(error) if manner & 4 != 0 || errors > 64 => return Err(error),
            Err(_) => errors += 1,
        }
        client.in_flight();
        client.replies_seen();
    }
}

fn say(mut stream: TcpStream, said: &[u8], piece: usize) {
    let piece = if piece == 0 {
        said.len().max(1)
    } else {
        16 * piece
    };
    for piece in said.chunks(piece) {
        if stream.write_all(piece).is_err() {
            return;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    // Only then: a socket closed with bytes unread takes with it what it has sent.
    let mut waste = [0; 4_096];
    while matches!(stream.read(&mut waste), Ok(bytes) if bytes > 0) {}
}

fn script(source: &mut Source<'_>) -> Vec<u8> {
    let mut said = Vec::new();
    if !source.chance(8) {
        let welcome = Welcome {
            session: SESSION,
            last_client_sequence: if source.chance(16) {
                source.odd_u64()
            } else {
                0
            },
            sequence: source.odd_u64(),
            at: Timestamp(0),
        };
        said.extend(encode(&welcome));
    }
    while !source.is_empty() {
        match source.byte() % 8 {
            0..4 => event(source, &mut said),
            4 | 5 => said.extend(encode(&refused(source))),
            6 => {
                let mut message = encode(&refused(source));
                let at = source.below(message.len());
                message[at] ^= source.byte();
                said.extend(message);
            }
            _ => {
                let length = source.byte().into();
                said.extend_from_slice(source.take(length));
            }
        }
    }
    said
}

fn refused(source: &mut Source<'_>) -> Refused {
    Refused {
        error: source.one_of(SessionError::ALL),
        closing: Bool::from(source.chance(32)),
        _reserved: Default::default(),
        client_sequence: number(source),
        expected: if source.chance(128) {
            source.odd_u64()
        } else {
            number(source)
        },
        _reserved_end: Default::default(),
    }
}

/// A client sequence, mostly one in flight.
fn number(source: &mut Source<'_>) -> u64 {
    let byte = source.byte();
    match byte {
        0..128 => u64::from(byte % 6),
        128..192 => QUERY | u64::from(byte % 4),
        _ => source.odd_u64(),
    }
}

fn event(source: &mut Source<'_>, said: &mut Vec<u8>) {
    let kind = source.one_of(EventKind::ALL);
    let body_size = match source.chance(24) {
        true => source.below(EVENT_BODY_BYTES_MAX + 16) / 16 * 16,
        false => kind.body_size(),
    };
    let mut slot = EventSlot::zeroed();
    slot.header = EventHeader {
        length: (EVENT_HEADER_BYTES + body_size) as u32,
        kind: if source.chance(8) {
            source.u16()
        } else {
            kind as u16
        },
        sequence: source.odd_u64(),
        session: if source.chance(32) {
            source.odd_u64()
        } else {
            SESSION
        },
        client_sequence: number(source),
        index: if source.chance(128) {
            source.odd_u64() as u32
        } else {
            0
        },
        flags: u32::from(source.byte() % 4),
        ..EventHeader::zeroed()
    };
    for byte in slot.body.iter_mut().take(body_size) {
        *byte = if source.chance(64) { source.byte() } else { 0 };
    }
    let frame = bytemuck::bytes_of(&slot);
    let length = (EVENT_HEADER_BYTES + body_size).min(frame.len());
    said.extend_from_slice(&frame[..length]);
}
