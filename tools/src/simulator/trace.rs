//! What a run leaves: a fingerprint of everything that happened in it, and, on request, a log.

/// Folds every step into one hash, and prints them where asked.
pub struct Trace {
    hasher: blake3::Hasher,
    is_loud: bool,
    step: u64,
}

impl Trace {
    /// A trace that prints the steps where `is_loud`.
    pub fn new(is_loud: bool) -> Trace {
        Trace {
            hasher: blake3::Hasher::new(),
            is_loud,
            step: 0,
        }
    }

    /// Step `number` begins.
    pub fn step(&mut self, number: u64) {
        self.step = number;
    }

    /// Something happened. `what` is only asked for where it is printed.
    pub fn note(&mut self, tag: &str, numbers: &[u64]) {
        self.hasher.update(tag.as_bytes());
        self.hasher.update(bytemuck::cast_slice(numbers));
        if self.is_loud {
            println!(
                "{:>7} {:>14} ns  {tag} {numbers:?}",
                self.step,
                super::clock::passed()
            );
        }
    }

    /// As [`Trace::note`], with words for the log.
    pub fn say(&mut self, tag: &str, words: impl FnOnce() -> String) {
        self.hasher.update(tag.as_bytes());
        if self.is_loud {
            println!(
                "{:>7} {:>14} ns  {tag} {}",
                self.step,
                super::clock::passed(),
                words()
            );
        }
    }

    /// Bytes that belong to the run and to no log.
    pub fn fold(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The hash of the whole run so far.
    pub fn fingerprint(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }
}
