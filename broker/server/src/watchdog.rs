//! Pokes executors that give no sign of life.
//!
//! By the rules that this crate keeps, glommio does not lose wakes. This thread is for the case
//! that it does after all: a parked executor with work in its queue runs on after any wake from
//! another thread. A poke that changes nothing is repeated at doubling intervals; glommio counts
//! wakes that were not yet taken in 16 bits, so they must stay few.

use std::sync::Arc;
use std::thread;

use crate::limits::{WATCHDOG_BACKOFF_MAX, WATCHDOG_INTERVAL};
use crate::pulse::{Clock, Lifecycle};

/// What the watchdog remembers of one executor.
#[derive(Debug)]
struct Watch {
    beats: u64,
    last_poke_us: u64,
    backoff_us: u64,
    poked: bool,
    /// The present deadline was missed, and that has been acted on.
    overdue: bool,
}

const INTERVAL_US: u64 = WATCHDOG_INTERVAL.as_micros() as u64;
const BACKOFF_MAX_US: u64 = WATCHDOG_BACKOFF_MAX.as_micros() as u64;

impl Watch {
    fn new() -> Self {
        Watch { beats: 0, last_poke_us: 0, backoff_us: INTERVAL_US, poked: false, overdue: false }
    }

    /// One look: must the executor be poked? An executor that beats only when poked is idle (or
    /// lost): it is poked ever less often. One that has missed its own deadline is not idle.
    fn look(&mut self, now_us: u64, beats: u64, due_us: u64) -> bool {
        let moved = beats != self.beats;
        self.beats = beats;
        let own_motion = moved && !self.poked;
        self.poked = false;
        if own_motion {
            self.backoff_us = INTERVAL_US;
            self.last_poke_us = now_us;
            return false;
        }
        let overdue = !moved && now_us.saturating_sub(due_us) >= INTERVAL_US;
        if overdue && !self.overdue {
            self.backoff_us = INTERVAL_US;
        }
        self.overdue = overdue;
        if moved || now_us.saturating_sub(self.last_poke_us) < self.backoff_us {
            return false;
        }
        self.last_poke_us = now_us;
        self.backoff_us = (self.backoff_us * 2).min(BACKOFF_MAX_US);
        self.poked = true;
        true
    }
}

/// Starts the thread; it ends when the broker stops.
pub(crate) fn spawn(
    clock: Clock,
    lifecycle: Arc<Lifecycle>,
) -> std::io::Result<thread::JoinHandle<()>> {
    let watch = move || {
        let mut watches: Vec<Watch> = lifecycle.posts().iter().map(|_| Watch::new()).collect();
        while !lifecycle.is_stopping() {
            thread::sleep(WATCHDOG_INTERVAL);
            let now_us = clock.mono_us();
            for (watch, post) in watches.iter_mut().zip(lifecycle.posts()) {
                if watch.look(now_us, post.beats(), post.due_us()) {
                    post.poke();
                }
            }
        }
    };
    thread::Builder::new().name("lanecast-watch".to_owned()).spawn(watch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: u64 = u64::MAX;

    /// Pokes within `seconds` on an executor that answers a poke with `answer` beats.
    fn pokes(seconds: u64, answer: u64, due_us: u64) -> u64 {
        let mut watch = Watch::new();
        let (mut beats, mut pokes) = (1, 0);
        for look in 1..=seconds * 1_000_000 / INTERVAL_US {
            if watch.look(look * INTERVAL_US, beats, due_us) {
                pokes += 1;
                beats += answer;
            }
        }
        pokes
    }

    #[test]
    fn an_idle_executor_is_poked_once_a_second_in_the_end() {
        let pokes = pokes(60, 2, NEVER);
        assert!((55..=70).contains(&pokes), "{pokes} pokes in a minute");
    }

    #[test]
    fn an_executor_that_never_answers_is_not_flooded() {
        let pokes = pokes(3600, 0, 0);
        assert!(pokes < 32_768 / 2, "{pokes} pokes in an hour");
        assert!(pokes > 3500, "{pokes} pokes in an hour");
    }

    #[test]
    fn a_stall_is_seen_within_two_looks() {
        let mut watch = Watch::new();
        for look in 1..100 {
            assert!(!watch.look(look * INTERVAL_US, look, look * INTERVAL_US + 1000));
        }
        let due = 99 * INTERVAL_US + 1000;
        let poked = (100..=102).find(|look| watch.look(look * INTERVAL_US, 99, due));
        assert!(poked.is_some());
    }
}
