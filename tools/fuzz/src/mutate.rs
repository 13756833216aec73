//! Mutants: inputs made of kept ones, for runs that no coverage leads.

use rand::RngExt;
use rand_pcg::Pcg64Mcg;

/// Bytes that mean something more often than others.
const ODD_BYTES: [u8; 10] = [0, 1, 2, 16, 0x7f, 0x80, 0xfe, 0xff, b'"', b'-'];

/// An input for a run that has `corpus`: noise now and then, mostly one of the corpus changed in a
/// few places or grown together with another.
pub fn input(random: &mut Pcg64Mcg, corpus: &[Vec<u8>], len_max: usize) -> Vec<u8> {
    if corpus.is_empty() || random.random_range(0..8) == 0 {
        return noise(random, len_max);
    }
    let mut bytes = pick(random, corpus).to_vec();
    for _ in 0..1 + random.random_range(0..6u32) * random.random_range(0..2u32) {
        mutate(random, &mut bytes, corpus);
    }
    bytes.truncate(len_max);
    bytes
}

fn pick<'a>(random: &mut Pcg64Mcg, corpus: &'a [Vec<u8>]) -> &'a [u8] {
    &corpus[random.random_range(0..corpus.len())]
}

fn noise(random: &mut Pcg64Mcg, len_max: usize) -> Vec<u8> {
    // Short ones more often: they are quicker, and easier to look at.
    let len = random.random_range(0..=len_max) >> random.random_range(0..6u32);
    (0..len).map(|_| random.random()).collect()
}

fn mutate(random: &mut Pcg64Mcg, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.random_range(0..=bytes.len());
    let span = at..bytes.len().min(at + random.random_range(1..=16usize));
    match random.random_range(0..9) {
        0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8u32),
        1 if at < bytes.len() => bytes[at] = random.random(),
        2 if at < bytes.len() => bytes[at] = ODD_BYTES[random.random_range(0..ODD_BYTES.len())],
        3 if at < bytes.len() => {
            let step = random.random_range(1..=8u8);
            bytes[at] = match random.random_bool(0.5) {
                true => bytes[at].wrapping_add(step),
                false => bytes[at].wrapping_sub(step),
            };
        }
        4 => drop(bytes.drain(span)),
        5 => {
            let copied = bytes[span].to_vec();
            let to = random.random_range(0..=bytes.len());
            bytes.splice(to..to, copied);
        }
        6 => {
            let few: Vec<u8> = (0..random.random_range(1..=8u32))
                .map(|_| random.random())
                .collect();
            bytes.splice(at..at, few);
        }
        7 => {
            let other = pick(random, corpus);
            let from = random.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let other = pick(random, corpus);
            let from = random.random_range(0..=other.len());
            let upto = other.len().min(from + 64);
            bytes.splice(at..at, other[from..upto].iter().copied());
        }
    }
}
