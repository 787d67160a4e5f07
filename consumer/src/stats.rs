//! What the consumer counts. One value per event of a chunk, never per record.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use hdrhistogram::Histogram;
use lanecast_client::ConnectionState;
use lanecast_store::InsertToken;
use serde::Serialize;
use tokio::sync::watch;

use crate::limits;
use crate::rate::Rate;
use crate::sift::Created;

/// Shared by everything that works on chunks; read by the admin port.
#[derive(Debug)]
pub struct Stats {
    started: Instant,
    /// Of the subscription that there is.
    connection: Mutex<Option<watch::Receiver<ConnectionState>>>,
    pub(crate) draining: AtomicBool,
    /// Inserts that wait for a store in trouble.
    stalled: AtomicU64,
    chunks_in_flight: AtomicU64,
    buffered_bytes: AtomicU64,
    chunks_received: AtomicU64,
    chunks_redelivered: AtomicU64,
    leases_extended: AtomicU64,
    leases_lost: AtomicU64,
    chunks_handed_back: AtomicU64,
    insert_retries: AtomicU64,
    /// Times that earlier subscriptions were taken.
    reconnects: AtomicU64,
    records_damaged: AtomicU64,
    recorded: Mutex<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    rows_inserted: u64,
    chunks_inserted: u64,
    rows_per_second: Rate,
    insert_ms: Histogram<u64>,
    insert_ms_sum: f64,
    e2e_ms: Histogram<u64>,
    e2e_ms_sum: f64,
    /// By reason.
    dead_lettered: BTreeMap<&'static str, u64>,
    /// By ClickHouse's code, or by a word where there is none.
    errors: BTreeMap<String, u64>,
    /// Partition and first offset of chunks whose acknowledgement went unanswered.
    uncertain: BTreeSet<(u32, u64)>,
    /// By partition: the high watermark and what is acknowledged up to.
    positions: BTreeMap<u32, Position>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    high_watermark: u64,
    next: u64,
}

/// Everything at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    pub version: &'static str,
    pub uptime_seconds: f64,
    pub ready: bool,
    pub draining: bool,
    /// Rows of chunks that the store has and the broker knows to be done.
    pub rows_inserted: u64,
    pub chunks_inserted: u64,
    pub rows_per_s: f64,
    /// Records that the broker dead-lettered on this consumer's word and said so; how many they are
    /// over all consumers and their lives is the broker's to say.
    pub dead_lettered: u64,
    pub dead_lettered_by_reason: BTreeMap<&'static str, u64>,
    /// Records of chunks that the broker has lost to a damaged disk, in the chunks as they came.
    pub records_damaged: u64,
    /// ClickHouse does not say when it drops a repeated insert, so this counts chunks that came
    /// again: at most so many inserts were refused as duplicates.
    pub chunks_redelivered: u64,
    pub chunks_received: u64,
    pub chunks_in_flight: u64,
    pub chunks_handed_back: u64,
    pub buffered_bytes: u64,
    pub insert_retries: u64,
    pub inserts_stalled: u64,
    pub leases_extended: u64,
    pub leases_lost: u64,
    pub reconnects: u64,
    pub errors: BTreeMap<String, u64>,
    /// Records that are durable at the broker and not yet acknowledged by this consumer, over the
    /// partitions that it has seen.
    pub lag_records: u64,
    pub insert_ms: Latency,
    /// From the producer taking a batch's first record to the store's answer, by records.
    pub e2e_ms: Latency,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
    pub count: u64,
    #[serde(skip)]
    pub sum: f64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            connection: Mutex::new(None),
            draining: AtomicBool::new(false),
            stalled: AtomicU64::new(0),
            chunks_in_flight: AtomicU64::new(0),
            buffered_bytes: AtomicU64::new(0),
            chunks_received: AtomicU64::new(0),
            chunks_redelivered: AtomicU64::new(0),
            leases_extended: AtomicU64::new(0),
            leases_lost: AtomicU64::new(0),
            chunks_handed_back: AtomicU64::new(0),
            insert_retries: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            records_damaged: AtomicU64::new(0),
            recorded: Mutex::new(Recorded {
                rows_inserted: 0,
                chunks_inserted: 0,
                rows_per_second: Rate::default(),
                insert_ms: histogram(),
                insert_ms_sum: 0.0,
                e2e_ms: histogram(),
                e2e_ms_sum: 0.0,
                dead_lettered: BTreeMap::new(),
                errors: BTreeMap::new(),
                uncertain: BTreeSet::new(),
                positions: BTreeMap::new(),
            }),
        }
    }
}

fn histogram() -> Histogram<u64> {
    let built = Histogram::new_with_bounds(1, limits::LATENCY_MS_MAX, 3);
    built.expect("bounds and digits are constants that the histogram takes")
}

impl Stats {
    /// A chunk came in and is worked on until the guard goes.
    pub(crate) fn chunk_received(&self, bytes: u64, attempt: u32) -> InFlight<'_> {
        self.chunks_received.fetch_add(1, Ordering::Relaxed);
        if attempt > 1 {
            self.chunks_redelivered.fetch_add(1, Ordering::Relaxed);
        }
        self.chunks_in_flight.fetch_add(1, Ordering::Relaxed);
        self.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        InFlight { stats: self, bytes }
    }

    pub(crate) fn lease_extended(&self) {
        self.leases_extended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn lease_lost(&self) {
        self.leases_lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn chunk_handed_back(&self) {
        self.chunks_handed_back.fetch_add(1, Ordering::Relaxed);
    }

    /// A subscription was opened.
    pub(crate) fn subscribed(&self, connection: watch::Receiver<ConnectionState>) {
        let mut at = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = at.replace(connection) {
            self.reconnects.fetch_add(before.borrow().connects, Ordering::Relaxed);
        }
    }

    fn connected<T: Default>(&self, read: impl FnOnce(&ConnectionState) -> T) -> T {
        let at = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        at.as_ref().map(|connection| read(&connection.borrow())).unwrap_or_default()
    }

    pub(crate) fn insert_retried(&self) {
        self.insert_retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The store answered an insert with success.
    pub(crate) fn insert_answered(&self, took: Duration, created: &[Created], now_ms: i64) {
        let mut recorded = self.recorded();
        let took_ms = took.as_secs_f64() * 1000.0;
        recorded.insert_ms.saturating_record(took_ms.ceil() as u64);
        recorded.insert_ms_sum += took_ms;
        for batch in created {
            let e2e_ms = now_ms.saturating_sub(batch.created_ms).max(0) as u64;
            recorded.e2e_ms.saturating_record_n(e2e_ms, batch.rows);
            recorded.e2e_ms_sum += e2e_ms as f64 * batch.rows as f64;
        }
    }

    /// A chunk is stored or dead-lettered to its last record, and is being acknowledged.
    pub(crate) fn chunk_done(&self, token: &InsertToken, rows: u64) {
        let second = self.started.elapsed().as_secs();
        let mut recorded = self.recorded();
        let position = recorded.positions.entry(token.partition).or_default();
        position.next = position.next.max(token.last + 1);
        if recorded.uncertain.remove(&(token.partition, token.first)) {
            return;
        }
        recorded.rows_inserted += rows;
        recorded.chunks_inserted += u64::from(rows > 0);
        recorded.rows_per_second.add(second, rows);
    }

    /// Takes back [`Self::chunk_done`]: the chunk is somebody else's to count.
    pub(crate) fn chunk_undone(&self, token: &InsertToken, rows: u64) {
        let mut recorded = self.recorded();
        recorded.uncertain.remove(&(token.partition, token.first));
        recorded.rows_inserted = recorded.rows_inserted.saturating_sub(rows);
        recorded.chunks_inserted = recorded.chunks_inserted.saturating_sub(u64::from(rows > 0));
    }

    /// The broker has put records of a chunk into the dead-letter topic.
    pub(crate) fn dead_lettered(&self, reason: &'static str, records: u64) {
        *self.recorded().dead_lettered.entry(reason).or_default() += records;
    }

    /// The broker has lost records of a chunk.
    pub(crate) fn damaged(&self, records: u64) {
        self.records_damaged.fetch_add(records, Ordering::Relaxed);
    }

    /// Nobody knows whether the acknowledgement arrived: should the chunk come again, it has been
    /// counted.
    pub(crate) fn chunk_uncertain(&self, token: &InsertToken) {
        let mut recorded = self.recorded();
        if recorded.uncertain.len() < limits::UNCERTAIN_CHUNKS_MAX {
            recorded.uncertain.insert((token.partition, token.first));
        }
    }

    /// The broker said how far a partition reaches; `first` is the next chunk's first record.
    pub(crate) fn seen(&self, partition: u32, first: u64, high_watermark: u64) {
        let mut recorded = self.recorded();
        let fresh = Position { high_watermark, next: first };
        let position = recorded.positions.entry(partition).or_insert(fresh);
        position.high_watermark = position.high_watermark.max(high_watermark);
    }

    pub(crate) fn error(&self, code: Option<u32>, otherwise: &'static str) {
        let mut recorded = self.recorded();
        let mut name = code
            .filter(|&code| code > 0)
            .map_or_else(|| otherwise.to_owned(), |code| code.to_string());
        let full = recorded.errors.len() >= limits::ERROR_CODES_MAX;
        if full && !recorded.errors.contains_key(&name) {
            name = "other".to_owned();
        }
        *recorded.errors.entry(name).or_default() += 1;
    }

    pub(crate) fn stalled(&self) -> &AtomicU64 {
        &self.stalled
    }

    /// Subscribed, not draining, and the store takes what it is sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.not_ready_because().is_none()
    }

    pub(crate) fn not_ready_because(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("draining")
        } else if !self.connected(|connection| connection.connected) {
            Some("not subscribed to the broker")
        } else if self.stalled.load(Ordering::Relaxed) > 0 {
            Some("the store does not take inserts")
        } else {
            None
        }
    }

    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let uptime = self.started.elapsed();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let recorded = self.recorded();
        let lag =
            recorded.positions.values().map(|at| at.high_watermark.saturating_sub(at.next)).sum();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: uptime.as_secs_f64(),
            ready: self.is_ready(),
            draining: self.draining.load(Ordering::Relaxed),
            rows_inserted: recorded.rows_inserted,
            chunks_inserted: recorded.chunks_inserted,
            rows_per_s: recorded.rows_per_second.at(uptime),
            dead_lettered: recorded.dead_lettered.values().sum(),
            dead_lettered_by_reason: recorded.dead_lettered.clone(),
            records_damaged: load(&self.records_damaged),
            chunks_redelivered: load(&self.chunks_redelivered),
            chunks_received: load(&self.chunks_received),
            chunks_in_flight: load(&self.chunks_in_flight),
            chunks_handed_back: load(&self.chunks_handed_back),
            buffered_bytes: load(&self.buffered_bytes),
            insert_retries: load(&self.insert_retries),
            inserts_stalled: load(&self.stalled),
            leases_extended: load(&self.leases_extended),
            leases_lost: load(&self.leases_lost),
            reconnects: (load(&self.reconnects) + self.connected(|connection| connection.connects))
                .saturating_sub(1),
            errors: recorded.errors.clone(),
            lag_records: lag,
            insert_ms: Latency::of(&recorded.insert_ms, recorded.insert_ms_sum),
            e2e_ms: Latency::of(&recorded.e2e_ms, recorded.e2e_ms_sum),
        }
    }

    /// Counters stay true whatever happened to a thread that held them.
    fn recorded(&self) -> MutexGuard<'_, Recorded> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a chunk and its bytes while it is held.
pub(crate) struct InFlight<'s> {
    stats: &'s Stats,
    bytes: u64,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.stats.chunks_in_flight.fetch_sub(1, Ordering::Relaxed);
        self.stats.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>, sum: f64) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
            count: histogram.len(),
            sum,
        }
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_to_end_latency_is_weighted_by_rows() {
        let stats = Stats::default();
        let created = [
            Created { created_ms: 1_000, rows: 98 },
            Created { created_ms: 0, rows: 2 },
            // A clock that runs ahead is no negative latency.
            Created { created_ms: 5_000, rows: 1 },
        ];
        stats.insert_answered(Duration::from_millis(3), &created, 1_010);
        let latency = stats.snapshot().e2e_ms;
        assert_eq!((latency.count, latency.p50), (101, 10));
        assert!((1_008..=1_012).contains(&latency.p99), "{latency:?}");
    }

    #[test]
    fn lag_is_what_lies_between_the_acknowledged_and_the_high_watermark() {
        let stats = Stats::default();
        stats.seen(0, 0, 100);
        stats.seen(1, 50, 60);
        stats.chunk_done(&token(0, 79), 80);
        assert_eq!(stats.snapshot().lag_records, 20 + 10);
    }

    fn token(first: u64, last: u64) -> InsertToken {
        InsertToken { topic: "t".into(), partition: 0, first, last, appended_ms: 0 }
    }

    #[test]
    fn a_chunk_counts_once_however_its_acknowledgement_ends() {
        let stats = Stats::default();
        let counted = || {
            let snapshot = stats.snapshot();
            (snapshot.rows_inserted, snapshot.chunks_inserted)
        };
        stats.chunk_done(&token(0, 9), 10);
        stats.chunk_uncertain(&token(0, 9));
        assert_eq!(counted(), (10, 1));
        // It comes again after all.
        stats.chunk_done(&token(0, 9), 10);
        assert_eq!(counted(), (10, 1));

        stats.chunk_done(&token(10, 19), 10);
        stats.chunk_undone(&token(10, 19), 10);
        assert_eq!(counted(), (10, 1));
    }

    #[test]
    fn error_codes_are_bounded() {
        let stats = Stats::default();
        for code in 1..1_000 {
            stats.error(Some(code), "");
        }
        stats.error(None, "unreachable");
        let errors = stats.snapshot().errors;
        assert_eq!(errors.len(), limits::ERROR_CODES_MAX + 1);
        assert_eq!(errors.values().sum::<u64>(), 1_000);
    }

    #[test]
    fn a_chunk_counts_as_in_flight_until_it_is_let_go() {
        let stats = Stats::default();
        let held = stats.chunk_received(10, 2);
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.chunks_in_flight, snapshot.buffered_bytes), (1, 10));
        assert_eq!(snapshot.chunks_redelivered, 1);
        drop(held);
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.chunks_in_flight, snapshot.buffered_bytes), (0, 0));
    }
}
