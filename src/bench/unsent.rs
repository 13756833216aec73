//! Bytes on their way to a socket, with one write a turn.

use std::io::{self, ErrorKind, Write};

/// What is to be sent, and how much of it has gone.
#[derive(Default)]
pub struct Unsent {
    /// New bytes go to the end.
    pub bytes: Vec<u8>,
    written: usize,
}

impl Unsent {
    /// One write of what is left. True when nothing waits any more.
    ///
    /// # Errors
    /// What the connection said, but that it takes nothing now.
    pub fn write_to(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        match stream.write(&self.bytes[self.written..]) {
            Ok(written) => self.written += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if self.written < self.bytes.len() {
            return Ok(false);
        }
        self.bytes.clear();
        self.written = 0;
        Ok(true)
    }
}
