//! A producer that keeps a record of what was acknowledged to it, in a process of its own that can
//! be killed at any moment.
//!
//! Its rows are numbered from 0; the number is the row's value and, with the producer's name as the
//! hostname, names the row in every table. After each block of rows it waits for everything before
//! to be acknowledged and then writes how far that is to its ledger, one number a line. What stands
//! in the ledger is acknowledged; of the rows behind, some may be.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lanecast_client::{Client, ClientConfig, Producer, ProducerConfig};
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Where the process finds its [`Work`].
pub(super) const WORK: &str = "LANECAST_CHAOS_PRODUCER";
/// The test that is the process.
pub(super) const ENTRY: &str = "chaos::ledger::process";

/// Blocks whose acknowledgement is waited for at a time.
const BLOCKS_IN_FLIGHT: usize = 4;
/// Patience with a broker that is away for most of a round.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one life of a producer does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) broker: String,
    pub(super) topic: String,
    /// Of no other life of any producer of the round.
    pub(super) name: String,
    pub(super) ledger: String,
    pub(super) rows: u64,
    pub(super) rows_per_s: u64,
    pub(super) block_rows: u64,
    pub(super) batch_records: u32,
    pub(super) gpus: u32,
    pub(super) metrics: u32,
    pub(super) days: u32,
    /// See [`is_unfit`].
    pub(super) unfit: u64,
    /// Time of its first row.
    pub(super) base_ms: i64,
}

/// One in `unfit` rows is unfit for ClickHouse, scattered over the others; 0: none is.
pub(super) fn is_unfit(number: u64, unfit: u64) -> bool {
    unfit > 0 && ((number * SCATTER) >> 7).is_multiple_of(unfit)
}

/// [`is_unfit`] as ClickHouse says it.
pub(super) fn unfit_sql(number: &str, unfit: u64) -> String {
    if unfit == 0 {
        return "0".to_owned();
    }
    format!("bitShiftRight(toUInt64({number}) * {SCATTER}, 7) % {unfit} = 0")
}

/// Knuth's multiplier; a product with any number of rows is below 2^64.
const SCATTER: u64 = 2_654_435_761;

/// Further ahead of the broker's clock than the consumer takes.
const AHEAD_MS: i64 = 3 * 3_600_000;
/// Further back than ClickHouse keeps rows.
const BACK_MS: i64 = 40 * 86_400_000;

/// Rows of this name that were acknowledged.
pub(super) fn acknowledged(ledger: &Path) -> u64 {
    let text = fs::read_to_string(ledger).unwrap_or_default();
    // A last line without its end was being written when the process died.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| line.parse().unwrap()).max().unwrap_or(0)
}

#[test]
#[ignore = "the producer process of the chaos rounds"]
fn process() {
    let work: Work = serde_json::from_str(&std::env::var(WORK).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(produce(&work));
}

async fn produce(work: &Work) {
    let config = ClientConfig {
        connect_patience: PATIENCE,
        request_timeout: PATIENCE,
        keep_alive: Duration::from_secs(1),
        dead_after: Duration::from_secs(3),
        reconnect_longest: Duration::from_secs(1),
        ..ClientConfig::new(&work.broker, &work.name)
    };
    let client = Client::connect(config).await.unwrap();
    let config = ProducerConfig {
        batch_records: work.batch_records,
        give_up_after: PATIENCE,
        ..ProducerConfig::default()
    };
    let producer = Producer::open(&client, &work.topic, config).await.unwrap();
    let ledger = fs::File::options().create(true).append(true).open(&work.ledger).unwrap();
    let ledger = Arc::new(ledger);
    let blocks = Arc::new(Semaphore::new(BLOCKS_IN_FLIGHT));
    let mut waiting = JoinSet::new();
    let mut rows = Rows::new(work);
    let began = tokio::time::Instant::now();
    while rows.next < work.rows {
        let due = began + Duration::from_millis(rows.next * 1_000 / work.rows_per_s.max(1));
        tokio::time::sleep_until(due).await;
        let place = Arc::clone(&blocks).acquire_owned().await.unwrap();
        for _ in 0..work.block_rows.min(work.rows - rows.next) {
            rows.push(&producer).await;
        }
        let (producer, ledger, upto) = (producer.clone(), Arc::clone(&ledger), rows.next);
        waiting.spawn(async move {
            producer.flush().await.unwrap();
            (&*ledger).write_all(format!("{upto}\n").as_bytes()).unwrap();
            drop(place);
        });
    }
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap();
    }
}

/// The rows of one name, in order.
struct Rows<'w> {
    work: &'w Work,
    catalog: SeriesCatalog,
    next: u64,
}

impl<'w> Rows<'w> {
    fn new(work: &'w Work) -> Self {
        Self { work, catalog: SeriesCatalog::new(), next: 0 }
    }

    async fn push(&mut self, producer: &Producer<TelemetryBuilder>) {
        let Work { name, gpus, metrics, days, unfit, base_ms, .. } = self.work;
        let number = self.next;
        let gpu = number % u64::from(*gpus);
        let uuid = format!("GPU-{name}-{gpu:03}");
        let identity = Identity {
            uuid: &uuid,
            hostname: name,
            gpu_index: gpu as u32,
            device: "nvidia0",
            model: "chaos",
            ..Identity::default()
        };
        let series = self.catalog.series(&identity).unwrap();
        let metric = format!("METRIC_{}", number / u64::from(*gpus) % u64::from(*metrics));
        let metric = self.catalog.metric(&metric).unwrap();
        // No two rows of a series have the same time; days alternate within a batch.
        let day = number / 97 % u64::from(*days);
        let mut ts_ms = base_ms + number as i64 - day as i64 * 86_400_000;
        if is_unfit(number, *unfit) {
            let off_ms = if number.is_multiple_of(2) { AHEAD_MS } else { -BACK_MS };
            ts_ms = base_ms + number as i64 + off_ms;
        }
        let sample = Sample {
            catalog: &self.catalog,
            series,
            metric,
            ts_ms,
            source_ts_ms: ts_ms,
            value: number as f64,
        };
        producer.push(&sample).await.unwrap();
        self.next += 1;
    }
}
