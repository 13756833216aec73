//! Choices made of bytes. Where the bytes are used up every choice is the first one, so a short
//! input is a simple one.

/// What is left of an input.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    /// All of `bytes` to choose with.
    pub fn new(bytes: &'a [u8]) -> Source<'a> {
        Source { bytes }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte, 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((first, rest)) => {
                self.bytes = rest;
                *first
            }
            None => 0,
        }
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// The next sixteen bytes.
    pub fn u128(&mut self) -> u128 {
        u128::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// A number below `bound`, which is not 0. Takes as many bytes as the bound needs.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a choice among none");
        if bound <= 256 {
            usize::from(self.byte()) % bound
        } else if bound <= 65_536 {
            usize::from(self.u16()) % bound
        } else {
            (self.u64() % bound as u64) as usize
        }
    }

    /// One of `choices`.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True for `times` of 256 bytes; never behind the end.
    pub fn chance(&mut self, times: u8) -> bool {
        // Counted from above: behind the end come zeros.
        self.byte() > 255 - times
    }

    /// The next `count` bytes, or as many as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// A number of 64 bits: small, or where arithmetic has its edges.
    pub fn odd_u64(&mut self) -> u64 {
        let shape = self.byte();
        let small = u64::from(self.byte());
        match shape % 8 {
            0..=2 => small,
            3 => u64::MAX - small,
            4 => (1 << 63) - 128 + small,
            5 => 1u64.rotate_left(shape.into()).wrapping_add(small),
            6 => (1 << 32) - 128 + small,
            _ => self.u64(),
        }
    }
}
