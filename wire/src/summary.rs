//! What keys a batch may have, in a few bytes that are read without its body.
//!
//! A summary is a Bloom filter. A key's hash `h` ([`KeyHash`]) names four bits, each by 16 bits of
//! it, counted from the least:
//!
//! ```text
//!  bit i of 0..4:  (h >> 16 i) mod bits        bit b stands in byte b / 8, value 1 << (b mod 8)
//!
//!  bytes:     8   16   32   64  128  256       a power of two; 0: no summary, anything may be in
//!  keys to:   6   12   25   51  102  512       at least 10 bits a key up to 204 keys
//! ```
//!
//! A batch without one of the four bits does not have the key: that is certain. One with all four
//! may have it; of keys that are not in, 1.2 % pass at 10 bits a key ((1 - e^-0.4)^4), and 16 % at
//! 512 keys, where the largest has 4 bits a key. Batches of more keys have no summary: nobody who
//! asks for a few keys could do without most of them anyway, and a batch of a fleet's partition has
//! few.
//!
//! While a batch is gathered its bits are set as if its summary were the largest. A smaller one is
//! that one folded: its upper half laid over the lower, which is what `mod bits` means. So keys are
//! neither kept nor sorted, and one that is there already costs four looks.

use crate::key::KeyHash;

/// Bytes of the largest summary.
pub const SUMMARY_BYTES_MAX: usize = WORDS_MAX * WORD_BYTES;

/// A summary is so many times a power of two long, and its length is counted in these.
pub(crate) const WORD_BYTES: usize = 8;
pub(crate) const WORDS_MAX: usize = 32;

/// Bits that a key sets.
const PROBES: usize = 4;
const BITS_PER_KEY: usize = 10;

/// Keys beyond which a summary would say too little.
pub const SUMMARY_KEYS_MAX: u32 = 512;

/// Gathers the keys of a batch.
#[derive(Clone, Debug)]
pub struct SummaryBuilder {
    words: [u64; WORDS_MAX],
    /// Distinct keys, less the few that looked as if they were in already.
    keys: u32,
    last: Option<KeyHash>,
}

impl Default for SummaryBuilder {
    fn default() -> Self {
        Self { words: [0; WORDS_MAX], keys: 0, last: None }
    }
}

impl SummaryBuilder {
    /// The batch has this key.
    pub fn add(&mut self, hash: KeyHash) {
        // Messages of one key often come one after the other.
        if self.last == Some(hash) {
            return;
        }
        self.last = Some(hash);
        let mut new = false;
        for bit in bits(hash, SUMMARY_BYTES_MAX * 8) {
            let (word, mask) = (&mut self.words[bit / 64], 1 << (bit % 64));
            new |= *word & mask == 0;
            *word |= mask;
        }
        self.keys += u32::from(new);
    }

    /// There are so many keys that no summary will be made: more need not be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.keys > SUMMARY_KEYS_MAX
    }

    /// The summary of what was added, and forgets it. Empty for no keys and for too many.
    pub fn seal(&mut self) -> Vec<u8> {
        let Self { mut words, keys, last: _ } = core::mem::take(self);
        if keys == 0 || keys > SUMMARY_KEYS_MAX {
            return Vec::new();
        }
        let wanted = (keys as usize * BITS_PER_KEY).div_ceil(64).next_power_of_two();
        let mut length = WORDS_MAX;
        while length > wanted {
            length /= 2;
            let (lower, upper) = words.split_at_mut(length);
            lower.iter_mut().zip(upper).for_each(|(low, high)| *low |= *high);
        }
        let mut summary = Vec::with_capacity(length * WORD_BYTES);
        words[..length].iter().for_each(|word| summary.extend_from_slice(&word.to_le_bytes()));
        summary
    }
}

/// Can a batch with this summary, which is empty or a power of two long, have the key?
#[must_use]
pub fn may_contain(summary: &[u8], hash: KeyHash) -> bool {
    if summary.is_empty() {
        return true;
    }
    bits(hash, summary.len() * 8).into_iter().all(|bit| summary[bit / 8] >> (bit % 8) & 1 == 1)
}

fn bits(KeyHash(hash): KeyHash, bits: usize) -> [usize; PROBES] {
    debug_assert!(bits.is_power_of_two());
    core::array::from_fn(|probe| (hash >> (16 * probe)) as usize & (bits - 1))
}

// Sixteen bits of the hash name any bit of the largest.
const _: () = assert!(SUMMARY_BYTES_MAX * 8 <= 1 << 16 && PROBES * 16 <= 64);
const _: () = assert!(WORDS_MAX.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyKind;

    fn hash(number: u32) -> KeyHash {
        KeyHash::of(KeyKind::Gpu, format!("GPU-{number:08x}-0000").as_bytes())
    }

    fn summary(keys: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut builder = SummaryBuilder::default();
        keys.for_each(|key| builder.add(hash(key)));
        builder.seal()
    }

    #[test]
    fn length_follows_the_number_of_distinct_keys() {
        let lengths = [(0, 0), (1, 8), (6, 8), (7, 16), (12, 16), (25, 32), (51, 64), (102, 128)];
        for (keys, bytes) in lengths.into_iter().chain([(204, 256), (500, 256), (700, 0)]) {
            let twice = (0..keys).chain(0..keys);
            assert_eq!(summary(twice).len(), bytes, "{keys} keys");
        }
    }

    #[test]
    fn keys_that_were_added_are_always_found() {
        for keys in (1..=SUMMARY_KEYS_MAX).step_by(7) {
            let first = keys * 10_000;
            let summary = summary(first..first + keys);
            assert!((first..first + keys).all(|key| may_contain(&summary, hash(key))), "{keys}");
        }
    }

    /// The promise is 1.2 % at 10 bits a key; the smallest summaries have fewer bits than four
    /// independent ones want, and more is allowed them.
    #[test]
    fn keys_that_were_not_added_are_seldom_found() {
        for (keys, percent_max) in [(6, 2.5), (12, 2.0), (51, 1.6), (204, 1.5), (512, 18.0)] {
            let (mut asked, mut found) = (0_u32, 0_u32);
            for round in 0..(20_000 / keys).max(40) {
                let first = round * 1_000_000;
                let summary = summary(first..first + keys);
                for key in 0..500 {
                    asked += 1;
                    found += u32::from(may_contain(&summary, hash(first + 500_000 + key)));
                }
            }
            let percent = 100.0 * f64::from(found) / f64::from(asked);
            eprintln!("{keys} keys: {percent:.2} % of {asked}");
            assert!(percent < percent_max, "{keys} keys: {percent:.2} % of {asked}");
            assert!(percent > 0.2, "{keys} keys: {percent:.2} % is too good to be true");
        }
    }

    #[test]
    fn without_a_summary_anything_may_be_in() {
        assert!(may_contain(&[], hash(1)));
        assert!(!may_contain(&[0; 8], hash(1)));
    }
}
