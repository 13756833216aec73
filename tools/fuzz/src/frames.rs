//! Frames: bytes of a connection, cut into commands, events and session messages.
//!
//! - However a stream is cut into reads, the same frames come out.
//! - What decodes is what its bytes said: encoded again it is the same bytes.
//! - A command folds and unfolds to the same bytes, and a record has one folded form.
//! - Printing a frame of any bytes panics nowhere.

use crate::source::Source;
use millrace::gateway::buffers::{Front, Input};
use millrace::protocol::frame::{CommandFrame, CommandRef, EventSlot, HEADER_BYTES};
use millrace::protocol::json::{self, EventPrinter};
use millrace::protocol::record::{FOLDED, Folder, unfold};
use millrace::protocol::session::{
    FIRST_SESSION_KIND, Hello, NodeStats, Refused, Resend, RingReady, SESSION_HEADER_BYTES,
    SessionMessage, StageTimes, StatsRequest, UseRing, Wake, Watch, Welcome, decode, encode,
};
use std::io::Read;

/// One input: how to cut, and the stream.
pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let steps = [source.byte(), source.byte(), source.byte()];
    let stream = source.rest();
    let whole = cut(stream, &[0]);
    assert_eq!(
        cut(stream, &steps),
        whole,
        "cuts of {steps:?} make other frames"
    );
    let mut printer = EventPrinter::default();
    for frame in &whole.0 {
        command(frame);
        event(frame, &mut printer);
        message::<Hello>(frame);
        message::<Welcome>(frame);
        message::<Resend>(frame);
        message::<Watch>(frame);
        message::<Refused>(frame);
        message::<StatsRequest>(frame);
        message::<StageTimes>(frame);
        message::<NodeStats>(frame);
        message::<UseRing>(frame);
        message::<RingReady>(frame);
        message::<Wake>(frame);
    }
    record(stream);
}

/// The frames of a stream read in pieces of these lengths, round and round (0 for as much as there
/// is room for), and whether it ended with a length that no frame has.
fn cut(stream: &[u8], steps: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut input = Input::new(4_096);
    let mut pieces = Pieces {
        stream,
        steps,
        at: 0,
    };
    let mut frames = Vec::new();
    loop {
        loop {
            match input.front() {
                Front::Partial => break,
                Front::BadLength(_) => return (frames, true),
                Front::Frame(prefix) => {
                    let bytes = input.frame_mut(prefix.length as usize);
                    assert!(
                        bytes.as_ptr().addr().is_multiple_of(16),
                        "a frame is aligned"
                    );
                    frames.push(bytes.to_vec());
                    input.consume(prefix.length as usize);
                }
            }
        }
        match input.read_from(&mut pieces) {
            Ok((0, _)) => return (frames, false),
            Ok(_) => {}
            Err(error) => panic!("memory cannot fail: {error}"),
        }
    }
}

struct Pieces<'a> {
    stream: &'a [u8],
    steps: &'a [u8],
    at: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let step = match self.steps[self.at % self.steps.len()] {
            0 => out.len(),
            step => step.into(),
        };
        self.at += 1;
        let bytes = step.min(out.len()).min(self.stream.len());
        out[..bytes].copy_from_slice(&self.stream[..bytes]);
        self.stream = &self.stream[bytes..];
        Ok(bytes)
    }
}

fn command(frame: &[u8]) {
    let mut words = vec![0u128; frame.len().div_ceil(16)];
    let aligned = &mut bytemuck::cast_slice_mut::<u128, u8>(&mut words)[..frame.len()];
    aligned.copy_from_slice(frame);
    let Ok(command) = CommandRef::from_bytes(aligned) else {
        assert!(
            frame.len() < HEADER_BYTES,
            "the cutter made one whole frame"
        );
        return;
    };
    let copy = CommandFrame::copy_of(command);
    assert_eq!(copy.bytes(), frame);
    let Ok(decoded) = command.decode() else {
        return;
    };
    assert!(!format!("{decoded:?}").is_empty());
    let kind = command.kind().expect("it decodes");
    let (head, items) = command.body.split_at(kind.body_size());
    let mut again = CommandFrame::from_parts(kind, head, items);
    *again.header_mut() = *command.header;
    assert_eq!(again.bytes(), frame, "encoded again");
    let mut line = String::new();
    json::write_command(&mut line, Some(1), command);
    fold(command);
}

/// A command folds to a record that unfolds to the same bytes.
pub fn fold(command: CommandRef<'_>) {
    let frame = CommandFrame::copy_of(command);
    let mut folder = Folder::default();
    folder.begin(command.header);
    folder.put(command.body);
    let record = folder.finish().to_vec();
    let mut words = Vec::new();
    let length = unfold(&record, &mut words).expect("folded here");
    assert_eq!(
        &bytemuck::cast_slice::<u128, u8>(&words)[..length],
        frame.bytes()
    );
}

fn record(bytes: &[u8]) {
    let mut words = Vec::new();
    let Ok(length) = unfold(bytes, &mut words) else {
        return;
    };
    let frame = &bytemuck::cast_slice::<u128, u8>(&words)[..length];
    let command = CommandRef::from_bytes(frame).expect("unfolded");
    let flags: [u8; 4] = bytes[40..44].try_into().expect("a header");
    if u32::from_le_bytes(flags) != FOLDED {
        assert_eq!(frame, bytes, "a plain record is its frame");
        return;
    }
    let mut folder = Folder::default();
    folder.begin(command.header);
    folder.put(command.body);
    assert_eq!(folder.finish(), bytes, "a second folded form");
}

/// An event of any bytes prints.
pub fn event(frame: &[u8], printer: &mut EventPrinter) {
    let Some(slot) = EventSlot::from_frame(frame) else {
        return;
    };
    assert_eq!(slot.frame(), frame);
    if let Some(event) = slot.event() {
        assert!(!format!("{event:?}").is_empty());
        assert_eq!(
            slot.body().len(),
            slot.kind().expect("it decodes").body_size()
        );
    }
    let mut line = String::new();
    printer.print(&mut line, &slot);
    for line in line.lines() {
        crate::lines::is_json(line);
    }
}

fn message<M: SessionMessage + std::fmt::Debug>(frame: &[u8]) {
    let kind = u16::from_le_bytes(frame[4..6].try_into().expect("a prefix"));
    if kind != M::KIND {
        return;
    }
    assert!(kind >= FIRST_SESSION_KIND);
    if let Some(message) = decode::<M>(frame) {
        assert!(!format!("{message:?}").is_empty());
        let again = encode(&message);
        assert_eq!(again[SESSION_HEADER_BYTES..], frame[SESSION_HEADER_BYTES..]);
        assert!(decode::<M>(&again).is_some());
    }
}
