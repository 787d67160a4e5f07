//! Poll on, or wait?
//!
//! A loop that waits is woken in about 40 us; one that polls sees work at once but burns its core.
//! So it polls for a moment after work, but only while the pauses between work have been short:
//! an executor with one message a millisecond does not poll at all.

use std::time::Instant;

use crate::limits::SPIN_MAX;

/// Most that is remembered of how short the pauses were.
const SCORE_MAX: u8 = 16;

/// From here on, polling pays.
const SCORE_SPIN: u8 = 4;

#[derive(Debug)]
pub(crate) struct Pace {
    last_work: Instant,
    score: u8,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Self {
        Pace { last_work: now, score: 0 }
    }

    /// There was work now.
    pub(crate) fn worked(&mut self, now: Instant) {
        if now.duration_since(self.last_work) <= SPIN_MAX {
            self.score = (self.score + 1).min(SCORE_MAX);
        } else {
            self.score = self.score.saturating_sub(2);
        }
        self.last_work = now;
    }

    /// Is it likely that work comes before a wait would pay?
    pub(crate) fn polls_on(&self, now: Instant) -> bool {
        self.score >= SCORE_SPIN && now.duration_since(self.last_work) < SPIN_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn paced(pause: Duration) -> (Pace, Instant) {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..100 {
            now += pause;
            pace.worked(now);
        }
        (pace, now)
    }

    #[test]
    fn close_work_is_polled_for_and_for_a_moment_only() {
        let (pace, now) = paced(SPIN_MAX / 2);
        assert!(pace.polls_on(now));
        assert!(!pace.polls_on(now + SPIN_MAX));
    }

    #[test]
    fn rare_work_is_waited_for() {
        let (pace, now) = paced(SPIN_MAX * 20);
        assert!(!pace.polls_on(now));
    }
}
