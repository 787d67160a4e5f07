//! One chunk into the store: sifted, encoded, inserted under its token until there is an answer.
//!
//! Knows nothing of leases and acknowledgements. Dropping the future of [`Sink::insert`] at any
//! point is safe, because whoever inserts the chunk again does it under the same token.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use lanecast_client::OffsetRange;
use lanecast_store::{Cause, InsertToken, Retention, Store, StoreError};
use tokio::sync::{Notify, RwLock};

use crate::backoff::Backoff;
use crate::limits;
use crate::sift::{self, Sifted, TimeRule};
use crate::stats::{Stats, now_ms};

/// Puts chunks into one store. Any number of chunks at a time.
#[derive(Debug)]
pub struct Sink {
    store: Store,
    retention: Retention,
    backoff: Backoff,
    stats: Arc<Stats>,
    /// Told when an insert gets through or is given up.
    eased: Notify,
    /// Inserts that the store took.
    taken: AtomicU64,
    /// Of the stalled inserts, those that may be to blame themselves.
    suspects: AtomicU32,
    /// Shared by inserts, held alone by the one that makes the tables again: a block that comes
    /// between a table and its views would never be rolled up.
    tables: RwLock<()>,
}

impl Sink {
    #[must_use]
    pub fn new(store: Store, retention: Retention, backoff: Backoff, stats: Arc<Stats>) -> Self {
        let (eased, taken, suspects, tables) = Default::default();
        Self { store, retention, backoff, stats, eased, taken, suspects, tables }
    }

    /// Completes when no insert waits for the store to recover: until then, another one would only
    /// add to its trouble. Those that fail for a reason that nobody knows hold nobody up: whether
    /// others get through is how one tells what is to blame.
    pub async fn flowing(&self) {
        loop {
            let eased = self.eased.notified();
            let stalled = self.stats.stalled().load(Ordering::SeqCst);
            if stalled <= u64::from(self.suspects.load(Ordering::SeqCst)) {
                return;
            }
            eased.await;
        }
    }

    /// Parts what is open of a chunk into a block and what the store will never take: see
    /// [`sift::sift`]. Some 10 ms of pure computation for a large chunk, off the threads that serve sockets.
    pub async fn sift(
        &self,
        partition: u32,
        open: Vec<OffsetRange>,
        payloads: Vec<Bytes>,
    ) -> Sifted {
        let rule = TimeRule { retention_days: self.retention.raw_days };
        let work = move || sift::sift(rule, partition, &open, &payloads);
        match tokio::task::spawn_blocking(work).await {
            Ok(sifted) => sifted,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and drops this future next.
                Err(_) => core::future::pending().await,
            },
        }
    }

    /// Stores a chunk's block, trying for as long as the store may still take it.
    ///
    /// # Errors
    /// For good: the store says so, again and again, of this block and not of others.
    pub async fn insert(&self, token: &InsertToken, sifted: &Sifted) -> Result<(), StoreError> {
        if sifted.rows == 0 {
            return Ok(());
        }
        let mut stall = None;
        let mut attempt = 0;
        let mut blame = Blame::default();
        loop {
            attempt += 1;
            let started = Instant::now();
            let answer = self.attempt(token, sifted.block.clone()).await;
            let error = match answer {
                Ok(()) => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    self.stats.insert_answered(started.elapsed(), &sifted.created, now_ms());
                    return Ok(());
                }
                Err(error) => error,
            };
            self.stats.error(error.code(), word(&error));
            if blame.is_the_blocks(&error, self.taken.load(Ordering::Relaxed)) {
                return Err(error);
            }
            let wait = self.backoff.wait(attempt);
            let wait_ms = wait.as_millis() as u64;
            if attempt.is_power_of_two() {
                tracing::warn!(%token, attempt, wait_ms, %error, "insert failed, trying again");
            }
            self.stats.insert_retried();
            let suspect = is_suspect(&error);
            if stall.as_ref().is_none_or(|stall: &Stall<'_>| stall.suspect != suspect) {
                stall = Some(Stall::begin(self, suspect));
            }
            if error.asks_for_migration() {
                self.migrate().await;
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn attempt(&self, token: &InsertToken, block: Bytes) -> Result<(), StoreError> {
        let _tables = self.tables.read().await;
        self.store.insert_native(token, block).await
    }

    /// Makes what is missing of the tables. Whether it worked shows at the next attempt.
    async fn migrate(&self) {
        let _alone = self.tables.write().await;
        match self.store.migrate(&self.retention).await {
            Ok(report) if report.applied.is_empty() => {}
            Ok(report) => {
                tracing::warn!(applied = ?report.applied, "the store's tables were gone and are made again");
            }
            Err(error) => tracing::debug!(%error, "the store's tables cannot be made"),
        }
    }
}

/// Whether it is the block that the store does not take, or the store that takes nothing.
///
/// A store that is damaged, half restored or behind a broken proxy may answer anything to anything.
/// Dead-lettering all that comes meanwhile would be worse than waiting. So a code that says that
/// the block can never be stored has to come more than once in a row, as a body that broke off on its
/// way gives such a code too; and one that nobody knows counts only if the store has taken other
/// blocks since the last attempt; so does one that accuses the tables, which all blocks share.
#[derive(Debug, Default)]
struct Blame {
    permanent: u32,
    unknown: u32,
    /// Blocks that the store had taken at the last such error.
    taken: Option<u64>,
}

impl Blame {
    /// Counts one more error; true when there were enough.
    fn is_the_blocks(&mut self, error: &StoreError, taken: u64) -> bool {
        if !error.is_retryable() {
            self.permanent += 1;
            return self.permanent >= limits::PERMANENT_ERROR_ATTEMPTS_MAX;
        }
        self.permanent = 0;
        if is_suspect(error) {
            let others = self.taken.replace(taken).is_some_and(|before| before < taken);
            self.unknown += u32::from(others);
        }
        self.unknown >= limits::UNKNOWN_ERROR_ATTEMPTS_MAX
    }
}

/// The block may be to blame.
fn is_suspect(error: &StoreError) -> bool {
    matches!(error, StoreError::Retryable { cause: Cause::Unknown | Cause::Schema, .. })
        || !error.is_retryable()
}

/// Names errors that have no code.
fn word(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unreachable { .. } => "unreachable",
        StoreError::Retryable { .. }
        | StoreError::Permanent { .. }
        | StoreError::InvalidConfig { .. }
        | StoreError::ChangedMigration { .. }
        | StoreError::NewerSchema { .. }
        | StoreError::Migration { .. } => "other",
    }
}

/// An insert that waits for the store to recover; over when dropped.
struct Stall<'s> {
    sink: &'s Sink,
    suspect: bool,
}

impl<'s> Stall<'s> {
    fn begin(sink: &'s Sink, suspect: bool) -> Self {
        sink.suspects.fetch_add(u32::from(suspect), Ordering::SeqCst);
        sink.stats.stalled().fetch_add(1, Ordering::SeqCst);
        Stall { sink, suspect }
    }
}

impl Drop for Stall<'_> {
    fn drop(&mut self) {
        self.sink.stats.stalled().fetch_sub(1, Ordering::SeqCst);
        self.sink.suspects.fetch_sub(u32::from(self.suspect), Ordering::SeqCst);
        self.sink.eased.notify_waiters();
    }
}
