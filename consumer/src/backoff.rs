//! Waits between attempts.

use core::time::Duration;

use crate::limits;

/// Doubles up to a maximum; each wait is a random half to whole of it, so that consumers that
/// failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: limits::BACKOFF_FIRST, max: limits::BACKOFF_MAX }
    }
}

impl Backoff {
    /// The wait after the `attempt`th failure, counted from 1.
    pub(crate) fn wait(&self, attempt: u32) -> Duration {
        self.longest(attempt).mul_f64(rand::random_range(0.5..1.0))
    }

    fn longest(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_maximum_and_vary() {
        let backoff =
            Backoff { first: Duration::from_millis(100), max: Duration::from_millis(1_000) };
        let longest = [1, 2, 3, 4, 5, 1_000].map(|n| backoff.longest(n).as_millis());
        assert_eq!(longest, [100, 200, 400, 800, 1_000, 1_000]);
        for _ in 0..100 {
            let wait = backoff.wait(2).as_millis();
            assert!((100..=200).contains(&wait), "{wait}");
        }
    }
}
