//! How long to wait before the next try.

/// Exponential backoff with jitter: the n-th wait is drawn evenly from the upper half of
/// `min(first * 2^n, longest)`, so that clients which failed together do not come back together.
///
/// The same seed gives the same waits.
#[derive(Clone, Debug)]
pub struct Backoff {
    first_us: u64,
    longest_us: u64,
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// `first_us` is at least 1 and at most `longest_us`.
    #[must_use]
    pub fn new(first_us: u64, longest_us: u64, seed: u64) -> Self {
        assert!(1 <= first_us && first_us <= longest_us, "the first wait is not the longest");
        Self { first_us, longest_us, attempts: 0, random: seed }
    }

    /// The next wait.
    pub fn next_us(&mut self) -> u64 {
        let doublings = self.attempts.min(32);
        self.attempts = self.attempts.saturating_add(1);
        let ceiling = self.first_us.saturating_mul(1 << doublings).min(self.longest_us);
        let floor = ceiling.div_ceil(2);
        floor + self.draw() % (ceiling - floor + 1)
    }

    /// Waits since the last success.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// It worked: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(100, 1_000, 7);
        for ceiling in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.next_us();
            assert!((ceiling / 2..=ceiling).contains(&wait), "{wait} of {ceiling}");
        }
        for _ in 0..100 {
            assert!(backoff.next_us() <= 1_000);
        }
        backoff.reset();
        assert!(backoff.next_us() <= 100);
    }
}
