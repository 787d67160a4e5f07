//! Whose turn it is to ask ClickHouse.
//!
//! A bounded number of requests ask at once and a bounded number wait for that, a bounded time.
//! Everyone else is told at once to come back: a dashboard that reloads every second must not pile
//! up behind a slow store.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::problem::{Kind, Problem};

pub(crate) struct Admission {
    turns: Semaphore,
    turns_max: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
    patience: Duration,
}

/// A turn; over when dropped.
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

/// Counts one who waits, also when its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(crate) fn new(turns_max: usize, waiting_max: usize, patience: Duration) -> Self {
        Self {
            turns: Semaphore::new(turns_max),
            turns_max,
            waiting: AtomicUsize::new(0),
            waiting_max,
            patience,
        }
    }

    /// # Errors
    /// Too many wait already, or the wait was too long.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>, Problem> {
        if let Ok(permit) = self.turns.try_acquire() {
            return Ok(Turn { _permit: permit });
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.waiting_max {
            return Err(self.refused());
        }
        match timeout(self.patience, self.turns.acquire()).await {
            Ok(permit) => Ok(Turn { _permit: permit.expect("the semaphore is never closed") }),
            Err(_) => Err(self.refused()),
        }
    }

    /// A turn beside one that is taken, if nobody would have to wait for it.
    pub(crate) fn turn_beside(&self) -> Option<Turn<'_>> {
        self.turns.try_acquire().ok().map(|permit| Turn { _permit: permit })
    }

    /// Turns taken now.
    pub(crate) fn in_flight(&self) -> usize {
        self.turns_max - self.turns.available_permits()
    }

    fn refused(&self) -> Problem {
        let detail = format!(
            "{} requests are asking ClickHouse already; try again in a moment",
            self.turns_max
        );
        Problem::new(Kind::Overloaded, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_waited_for_and_refused() {
        let admission = Admission::new(1, 1, Duration::from_secs(2));
        let turn = admission.turn().await.unwrap();
        assert_eq!(admission.in_flight(), 1);
        // One waits, and gives up; meanwhile another is refused without waiting.
        let (first, second) = tokio::join!(admission.turn(), async {
            tokio::task::yield_now().await;
            tokio::time::timeout(Duration::ZERO, admission.turn()).await
        });
        assert!(first.is_err());
        assert!(second.unwrap().is_err());
        drop(turn);
        assert!(admission.turn().await.is_ok());
        assert_eq!(admission.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_turn_beside_another_is_one_of_all_and_not_waited_for() {
        let admission = Admission::new(2, 1, Duration::from_secs(60));
        let turn = admission.turn().await.unwrap();
        let beside = admission.turn_beside().unwrap();
        assert_eq!(admission.in_flight(), 2);
        assert!(admission.turn_beside().is_none());
        drop((turn, beside));
        assert_eq!(admission.in_flight(), 0);
    }

    #[tokio::test]
    async fn a_turn_goes_to_the_one_who_waits() {
        let admission = Admission::new(1, 1, Duration::from_secs(60));
        let turn = admission.turn().await.unwrap();
        let (next, ()) = tokio::join!(admission.turn(), async {
            tokio::task::yield_now().await;
            drop(turn);
        });
        assert!(next.is_ok());
    }
}
