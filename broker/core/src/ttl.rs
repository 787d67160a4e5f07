//! Which records have outlived their time.
//!
//! A record's age is the time since its append, and a wall clock that leaps must not be taken for
//! the passing of time: set right after a year, it would have everything expire at once. So the
//! clock that records age by follows the wall clock, but runs at [`TTL_CLOCK_RATE_MAX`] times the
//! speed of the monotonic clock at the most. However the wall clock is set while the broker runs, a
//! record lives through half of its time at the least, and a clock that was set back only makes it
//! live longer. What passed while the broker was down is the wall clock's to say.

use crate::Now;
use crate::limits::TTL_CLOCK_RATE_MAX;

/// The clock that the records of one partition age by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TtlClock {
    /// The monotonic clock when it was last read, and what it read, in microseconds.
    last: Option<(u64, i64)>,
}

impl TtlClock {
    /// A batch that was appended at this wall-clock time or before, in unix milliseconds, is past its
    /// time. `ttl_ms` 0: no batch ever is.
    pub(crate) fn horizon_ms(&mut self, now: Now, ttl_ms: u64) -> Option<i64> {
        if ttl_ms == 0 {
            self.last = None;
            return None;
        }
        let wall_us = now.wall_ms.saturating_mul(1000);
        let reading = match self.last {
            Some((mono_us, us)) => {
                let passed = now.mono_us.saturating_sub(mono_us).saturating_mul(TTL_CLOCK_RATE_MAX);
                wall_us.min(us.saturating_add_unsigned(passed))
            }
            None => wall_us,
        };
        self.last = Some((now.mono_us, reading));
        Some((reading / 1000).saturating_sub_unsigned(ttl_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL_MS: u64 = 10_000;
    const YEAR_MS: i64 = 365 * 24 * 3_600_000;

    fn at(mono_ms: u64, wall_ms: i64) -> Now {
        Now { mono_us: mono_ms * 1000, wall_ms }
    }

    #[test]
    fn the_horizon_follows_a_steady_clock() {
        let mut clock = TtlClock::default();
        assert_eq!(clock.horizon_ms(at(5, 1_000_000), 0), None);
        for ms in [0, 1, 500, 60_000] {
            let now = at(5 + ms, 1_000_000 + ms as i64);
            assert_eq!(clock.horizon_ms(now, TTL_MS), Some(990_000 + ms as i64));
        }
    }

    #[test]
    fn a_leap_ages_records_no_faster_than_twice() {
        let mut clock = TtlClock::default();
        clock.horizon_ms(at(0, 0), TTL_MS);
        assert_eq!(clock.horizon_ms(at(0, YEAR_MS), TTL_MS), Some(-10_000));
        assert_eq!(clock.horizon_ms(at(1_000, YEAR_MS), TTL_MS), Some(-8_000));
        assert_eq!(clock.horizon_ms(at(5_000, YEAR_MS), TTL_MS), Some(0));
        // Small leaps are caught up with.
        let mut clock = TtlClock::default();
        clock.horizon_ms(at(0, 0), TTL_MS);
        assert_eq!(clock.horizon_ms(at(1_000, 1_500), TTL_MS), Some(-8_500));
    }

    #[test]
    fn microseconds_are_not_lost_between_readings() {
        let mut clock = TtlClock::default();
        for us in 0..10_000 {
            let now = Now { mono_us: us, wall_ms: if us == 0 { 0 } else { YEAR_MS } };
            clock.horizon_ms(now, TTL_MS);
        }
        assert_eq!(clock.horizon_ms(at(10, YEAR_MS), TTL_MS), Some(-10_000 + 20));
    }

    #[test]
    fn a_clock_set_back_makes_records_live_longer() {
        let mut clock = TtlClock::default();
        clock.horizon_ms(at(0, 1_000_000), TTL_MS);
        assert_eq!(clock.horizon_ms(at(1, 400_000), TTL_MS), Some(390_000));
    }
}
