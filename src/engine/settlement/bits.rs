//! A set of small numbers: a bit each, and above every 64 words a word that says which of them hold
//! any, so that the next member is a few steps away however far it is.

/// Members are below the length it was made with.
pub(super) struct Bits {
    /// The bits, then summaries of summaries; the last is one word.
    levels: Vec<Vec<u64>>,
}

const WORD: u32 = u64::BITS;

impl Bits {
    /// No members, or all numbers below `length`.
    pub(super) fn new(length: usize, full: bool) -> Bits {
        let mut levels = Vec::new();
        let mut length = length.max(1);
        loop {
            let words = length.div_ceil(WORD as usize);
            let mut level = vec![if full { u64::MAX } else { 0 }; words];
            if full && !length.is_multiple_of(WORD as usize) {
                level[words - 1] = (1 << (length % WORD as usize)) - 1;
            }
            levels.push(level);
            if words == 1 {
                return Bits { levels };
            }
            length = words;
        }
    }

    #[inline]
    pub(super) fn contains(&self, member: u32) -> bool {
        self.levels[0][(member / WORD) as usize] >> (member % WORD) & 1 != 0
    }

    #[inline]
    pub(super) fn insert(&mut self, mut member: u32) {
        for level in &mut self.levels {
            let word = &mut level[(member / WORD) as usize];
            let had_some = *word != 0;
            *word |= 1 << (member % WORD);
            if had_some {
                return;
            }
            member /= WORD;
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, mut member: u32) {
        for level in &mut self.levels {
            let word = &mut level[(member / WORD) as usize];
            *word &= !(1 << (member % WORD));
            if *word != 0 {
                return;
            }
            member /= WORD;
        }
    }

    /// The first member at or behind `from`.
    #[inline]
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let mut at = from;
        for (height, level) in self.levels.iter().enumerate() {
            let word = *level.get((at / WORD) as usize)?;
            let rest = word >> (at % WORD);
            if rest != 0 {
                at += rest.trailing_zeros();
                return Some(self.levels[..height].iter().rev().fold(at, |at, below| {
                    at * WORD + below[at as usize].trailing_zeros()
                }));
            }
            at = at / WORD + 1;
        }
        None
    }

    /// The last member at or before `from`.
    pub(super) fn last(&self, from: u32) -> Option<u32> {
        let mut at = from;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level[(at / WORD) as usize] << (WORD - 1 - at % WORD);
            if word != 0 {
                at -= word.leading_zeros();
                return Some(self.levels[..height].iter().rev().fold(at, |at, below| {
                    at * WORD + (WORD - 1 - below[at as usize].leading_zeros())
                }));
            }
            at = (at / WORD).checked_sub(1)?;
        }
        None
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.len() as u64 * 8).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_member_and_the_last_are_those_of_a_plain_list() {
        for length in [1, 63, 64, 65, 4_096, 4_097, 300_000] {
            let mut bits = Bits::new(length, true);
            let mut plain = vec![true; length];
            let mut state = 1u64;
            for _ in 0..length * 2 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = (state >> 33) as usize % length;
                if state >> 63 == 0 {
                    bits.remove(at as u32);
                    plain[at] = false;
                } else if state >> 62 == 3 {
                    bits.insert(at as u32);
                    plain[at] = true;
                }
                assert_eq!(bits.contains(at as u32), plain[at]);
            }
            for from in (0..length).step_by(1 + length / 500) {
                let next = plain[from..].iter().position(|is| *is);
                assert_eq!(bits.next(from as u32), next.map(|n| (from + n) as u32));
                let last = plain[..=from].iter().rposition(|is| *is);
                assert_eq!(bits.last(from as u32), last.map(|n| n as u32));
            }
            assert_eq!(bits.next(length as u32), None);
        }
        assert_eq!(Bits::new(100, false).next(0), None);
    }
}
