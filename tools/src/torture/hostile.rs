//! Clients who mean harm, and crowds. What they send that is a command is in their record like anybody's:
//! it may be executed, once.

use super::market::{LOOSE, command};
use super::random::Random;
use super::raw::{Message, Raw, stamp};
use super::record::Record;
use super::sender::session_of;
use super::shared::{Shared, count};
use millrace::protocol::frame::{CommandFrame, FRAME_BYTES_MAX, Prefix};
use millrace::protocol::session::{Hello, Resend, SessionError, encode};
use millrace::protocol::wire::Zero;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A hostile client: connection after connection until `until`.
pub struct Hostile<'a> {
    address: SocketAddr,
    random: Random,
    session: u64,
    /// Commands of the session that were taken.
    taken: u64,
    record: Record,
    transfers: u64,
    shared: &'a Shared,
}

impl<'a> Hostile<'a> {
    /// The ways.
    const ATTACKS: [fn(&mut Hostile<'a>) -> io::Result<bool>; 14] = [
        Hostile::garbage,
        Hostile::garbage_after_hello,
        Hostile::half_a_frame,
        Hostile::wrong_length,
        Hostile::huge_length,
        Hostile::no_hello,
        Hostile::session_zero,
        Hostile::mutated,
        Hostile::stale_numbers,
        Hostile::skipped_numbers,
        Hostile::another_session,
        Hostile::resend_storm,
        Hostile::trickle,
        Hostile::nodes_own_command,
    ];

    /// Hostile client `who`, whose record lies in `dir`.
    pub fn new(
        address: SocketAddr,
        who: u64,
        dir: &Path,
        seed: u64,
        shared: &'a Shared,
    ) -> Result<Hostile<'a>, String> {
        let session = 0xB000_0000 + who;
        Ok(Hostile {
            address,
            random: Random::new(seed, 3_000 + who),
            session,
            taken: 0,
            record: Record::open(dir, session, false)?,
            transfers: 0,
            shared,
        })
    }

    /// Attacks until told to stop, or for so long.
    pub fn run(&mut self, how_long: Duration) -> Result<(), String> {
        let until = Instant::now() + how_long;
        while Instant::now() < until && self.shared.goes_on() {
            let which = self.random.below(Self::ATTACKS.len() as u64);
            let attack = Self::ATTACKS[which as usize];
            count(&self.shared.attacks);
            match attack(self) {
                // Whoever is thrown out in the middle of a write sees the same as in a read.
                Ok(true) | Err(_) => count(&self.shared.refused),
                Ok(false) => {}
            }
            self.record.write()?;
        }
        Ok(())
    }

    /// Says hello as itself; how far it has come is what the node says.
    fn enter(&mut self) -> io::Result<Raw> {
        let (raw, welcome) = Raw::hello(self.address, self.session, u64::MAX)?;
        let last = welcome.last_client_sequence;
        for number in last + 1..=self.taken {
            self.record.refused(number);
        }
        if last > 0 {
            self.record.taken(1, last);
        }
        self.taken = last;
        Ok(raw)
    }

    /// A transfer nobody has made before.
    fn transfer(&mut self) -> CommandFrame {
        self.transfers += 1;
        let id = u128::from(self.session) << 64 | u128::from(self.random.next());
        let (debit, credit) = (LOOSE.start(), LOOSE.start() + 1);
        command(&format!(
            r#"{{"cmd":"transfer","id":"{id}","debit_account":{debit},"credit_account":{credit},"amount":1}}"#
        ))
    }

    /// Sends a command as the next of the session and waits for its answer.
    fn send_next(&mut self, raw: &mut Raw) -> io::Result<Vec<u8>> {
        let mut frame = self.transfer().bytes().to_vec();
        stamp(&mut frame, self.session, self.taken + 1);
        self.send(raw, &frame)?;
        self.await_answer(raw, self.taken + 1)?;
        Ok(frame)
    }

    fn send(&mut self, raw: &mut Raw, frame: &[u8]) -> io::Result<()> {
        let number = u64::from_le_bytes(frame[16..24].try_into().expect("8 bytes"));
        self.record.sent(number, frame);
        let _ = self.record.write();
        count(&self.shared.sent);
        raw.write(frame)
    }

    /// Waits until `number` is answered or refused. True when it was answered.
    fn await_answer(&mut self, raw: &mut Raw, number: u64) -> io::Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            match raw.next()? {
                Some(Message::Event(event))
                    if event.header.client_sequence == number && self.record.event(&event) =>
                {
                    count(&self.shared.acknowledged);
                    self.taken = self.taken.max(number);
                    return Ok(true);
                }
                Some(Message::Refused(refused)) => {
                    if refused.client_sequence == number {
                        self.record.refused(number);
                    }
                    return Ok(false);
                }
                _ => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn noise(&mut self, bytes: u64) -> Vec<u8> {
        (0..bytes).map(|_| self.random.next() as u8).collect()
    }

    fn is_thrown_out(&self, raw: &mut Raw) -> io::Result<bool> {
        Ok(raw.until_closed(Duration::from_secs(3)).0)
    }

    fn garbage(&mut self) -> io::Result<bool> {
        let mut raw = Raw::connect(self.address)?;
        let bytes = self.random.between(1, 5_000);
        let noise = self.noise(bytes);
        raw.write(&noise)?;
        Ok(raw.until_closed(Duration::from_millis(50)).0)
    }

    fn garbage_after_hello(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let mut noise = self.noise(200);
        // A length that no frame has, so that it cannot wait for more.
        noise[0] |= 1;
        raw.write(&noise)?;
        self.is_thrown_out(&mut raw)
    }

    fn half_a_frame(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let frame = self.transfer();
        let cut = self.random.between(1, frame.bytes().len() as u64 - 1);
        raw.write(&frame.bytes()[..cut as usize])?;
        if self.random.chance(50) {
            raw.reset();
        }
        Ok(false)
    }

    fn wrong_length(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let mut frame = self.transfer().bytes().to_vec();
        let lengths = [0, 1, 15, 17, FRAME_BYTES_MAX as u32 + 16, u32::MAX];
        let length = lengths[self.random.below(lengths.len() as u64) as usize];
        frame[..4].copy_from_slice(&length.to_le_bytes());
        raw.write(&frame)?;
        self.is_thrown_out(&mut raw)
    }

    /// Says that a megabyte comes, sends some of it, and stays or goes.
    fn huge_length(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let length = (FRAME_BYTES_MAX / 16 * 16) as u32;
        let prefix = Prefix {
            length,
            kind: 4,
            release: 1,
        };
        raw.write(bytemuck::bytes_of(&prefix))?;
        let bytes = self.random.between(1, 200_000);
        let noise = self.noise(bytes);
        raw.write(&noise)?;
        Ok(false)
    }

    fn no_hello(&mut self) -> io::Result<bool> {
        let mut raw = Raw::connect(self.address)?;
        raw.write(self.transfer().bytes())?;
        self.is_thrown_out(&mut raw)
    }

    fn session_zero(&mut self) -> io::Result<bool> {
        let mut raw = Raw::connect(self.address)?;
        raw.say(&Hello {
            session: 0,
            replies_seen: 0,
        })?;
        raw.write(self.transfer().bytes())?;
        self.is_thrown_out(&mut raw)
    }

    /// A command with one byte changed, kind and session aside. Where it is still a command, it is one.
    fn mutated(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let mut frame = self.transfer().bytes().to_vec();
        stamp(&mut frame, self.session, self.taken + 1);
        let at = self.random.between(24, frame.len() as u64 - 1) as usize;
        frame[at] ^= 1 << self.random.below(8);
        self.send(&mut raw, &frame)?;
        let answered = self.await_answer(&mut raw, self.taken + 1);
        Ok(!answered.unwrap_or(false))
    }

    /// The same numbers again: what they name was done, and is not done again.
    fn stale_numbers(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let frame = self.send_next(&mut raw)?;
        let mut other = self.transfer().bytes().to_vec();
        stamp(&mut other, self.session, self.taken);
        for _ in 0..self.random.between(1, 20) {
            raw.write(&frame)?;
            raw.write(&other)?;
        }
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until {
            raw.next()?;
        }
        Ok(false)
    }

    fn skipped_numbers(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let mut frame = self.transfer().bytes().to_vec();
        let number = self.taken + self.random.between(2, 1_000);
        stamp(&mut frame, self.session, number);
        raw.write(&frame)?;
        Ok(!self.await_answer(&mut raw, number)?)
    }

    /// Commands in an honest client's name, under this one's hello: they are this one's.
    fn another_session(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let mut frame = self.transfer().bytes().to_vec();
        stamp(&mut frame, session_of(1), self.taken + 1);
        self.send(&mut raw, &frame)?;
        let answered = self.await_answer(&mut raw, self.taken + 1)?;
        // To say hello again as somebody else is not possible at all.
        raw.say(&Hello {
            session: session_of(1),
            replies_seen: 0,
        })?;
        Ok(self.is_thrown_out(&mut raw)? && answered)
    }

    /// Asks for everything again, over and over, and reads nothing.
    fn resend_storm(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        self.send_next(&mut raw)?;
        let resend = encode(&Resend {
            from: 1,
            _reserved: [Zero::Zero; 8],
        });
        let many = resend.repeat(self.random.between(1, 2_000) as usize);
        raw.write(&many)?;
        Ok(false)
    }

    /// A byte at a time, without a hello: until it is thrown out for taking too long.
    fn trickle(&mut self) -> io::Result<bool> {
        let mut raw = Raw::connect(self.address)?;
        let hello = encode(&Hello {
            session: self.session,
            replies_seen: 0,
        });
        for byte in &hello[..hello.len() - 1] {
            raw.write(&[*byte])?;
            if raw.until_closed(Duration::from_millis(25)).0 {
                return Ok(true);
            }
        }
        self.is_thrown_out(&mut raw)
    }

    /// The node's own word that a session ended, said by a stranger about an honest client.
    fn nodes_own_command(&mut self) -> io::Result<bool> {
        let mut raw = self.enter()?;
        let session = session_of(1);
        let line = format!(r#"{{"cmd":"disconnect","session":{session}}}"#);
        let mut frame = command(&line).bytes().to_vec();
        stamp(&mut frame, self.session, self.taken + 1);
        self.send(&mut raw, &frame)?;
        Ok(!self.await_answer(&mut raw, self.taken + 1)?)
    }
}

/// Opens connections as fast as it can for so long; some say hello, most are reset at once.
pub fn flood(address: SocketAddr, random: &mut Random, how_long: Duration, shared: &Shared) {
    let until = Instant::now() + how_long;
    let mut held = Vec::new();
    while Instant::now() < until && shared.goes_on() {
        let Ok(mut raw) = Raw::connect(address) else {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        count(&shared.flood);
        let session = 0xC000_0000 + random.below(1 << 20);
        if random.chance(30) {
            let hello = Hello {
                session,
                replies_seen: 0,
            };
            let _ = raw.say(&hello);
        }
        match random.below(4) {
            // Held until the round is over.
            0 if held.len() < 200 => held.push(raw),
            1 => raw.reset(),
            _ => {}
        }
    }
}

/// Takes over an honest client's session, says its old commands again, and goes: nothing happens twice,
/// and the client comes back.
pub fn impersonate(address: SocketAddr, who: u64, shared: &Shared) -> Result<(), String> {
    let session = session_of(who);
    let Ok((mut raw, welcome)) = Raw::hello(address, session, u64::MAX) else {
        return Ok(());
    };
    count(&shared.attacks);
    let line = format!(
        r#"{{"cmd":"transfer","id":"{}","debit_account":{},"credit_account":{},"amount":77}}"#,
        u128::from(session) << 96 | 7,
        LOOSE.start(),
        LOOSE.end()
    );
    let mut frame = command(&line).bytes().to_vec();
    let last = welcome.last_client_sequence;
    for number in last.saturating_sub(50)..=last {
        stamp(&mut frame, session, number);
        if raw.write(&frame).is_err() {
            break;
        }
    }
    let (_, refusal) = raw.until_closed(Duration::from_millis(20));
    match refusal.map(|refused| refused.error) {
        None
        | Some(
            SessionError::Superseded
            | SessionError::RepliesGone
            | SessionError::SequenceGap
            | SessionError::Stopping,
        ) => {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Some(other) => Err(format!("an impostor was answered {other}")),
    }
}
