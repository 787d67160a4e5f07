//! A database of a test's own, and what is in it.

use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use clickhouse::Row;
use lanecast_clickhouse::testing::shared_server;
use lanecast_store::{InsertToken, NativeBlock, Retention, Rows, Store, StoreConfig};
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder, TelemetryView};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use serde::Deserialize;

/// A store on a database that nobody else uses. It does not exist yet.
pub(crate) fn fresh_store() -> Store {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let database = format!("store_{}_{number}", std::process::id());
    let url = shared_server().url.clone();
    Store::connect(StoreConfig { url, database, ..StoreConfig::default() }).unwrap()
}

pub(crate) async fn migrated_store() -> Store {
    let store = fresh_store();
    store.migrate(&Retention::FOREVER).await.unwrap();
    store
}

/// The first row of an answer of one column.
pub(crate) async fn one<T>(store: &Store, sql: &str) -> T
where
    T: clickhouse::RowOwned + clickhouse::RowRead,
{
    store.client().query_raw(sql).fetch_one::<T>().await.unwrap()
}

pub(crate) fn token(first: u64, last: u64) -> InsertToken {
    InsertToken { topic: "t".into(), partition: 3, first, last, appended_ms: 1_700 }
}

/// What each table says of how much went into it.
#[derive(Row, Deserialize, Debug, PartialEq, Clone, Copy)]
pub(crate) struct Totals {
    pub(crate) raw_rows: u64,
    pub(crate) raw_sum: f64,
    pub(crate) minute_rows: u64,
    pub(crate) minute_sum: f64,
    pub(crate) hour_rows: u64,
    pub(crate) hour_sum: f64,
    /// Physical rows, which a repeated insert would add to until a merge.
    pub(crate) gpus: u64,
    pub(crate) latest: u64,
}

pub(crate) async fn totals(store: &Store) -> Totals {
    one(
        store,
        "SELECT raw_rows, raw_sum, minute_rows, minute_sum, hour_rows, hour_sum, gpus, latest FROM \
         (SELECT count() AS raw_rows, sum(value) AS raw_sum FROM telemetry) AS a, \
         (SELECT sum(count) AS minute_rows, sum(sum) AS minute_sum FROM telemetry_1m) AS b, \
         (SELECT sum(count) AS hour_rows, sum(sum) AS hour_sum FROM telemetry_1h) AS c, \
         (SELECT count() AS gpus FROM gpus) AS d, (SELECT count() AS latest FROM latest) AS e",
    )
    .await
}

/// One GPU's samples, a minute apart, with values that count up.
pub(crate) fn batch(uuid: &str, start_ms: i64, values: &[f64]) -> SealedBody {
    let mut catalog = SeriesCatalog::new();
    let labels = [("driver", "570"), ("zone", "a")];
    let identity = Identity {
        uuid,
        device: "nvidia0",
        model: "NVIDIA H100",
        hostname: "host-1",
        gpu_index: 5,
        labels: &labels,
        ..Identity::default()
    };
    let series = catalog.series(&identity).unwrap();
    let metric = catalog.metric("DCGM_FI_DEV_GPU_UTIL").unwrap();
    let mut builder = TelemetryBuilder::empty();
    for (index, &value) in values.iter().enumerate() {
        let ts_ms = start_ms + 60_000 * index as i64;
        let source_ts_ms = ts_ms - 7;
        let sample = Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms, value };
        builder.push(&sample).unwrap();
    }
    builder.seal()
}

/// Batches as one block, with offsets that follow one another.
pub(crate) fn block(batches: &[SealedBody]) -> Bytes {
    let views: Vec<_> = batches
        .iter()
        .map(|batch| TelemetryView::open(&batch.body, batch.record_count).unwrap())
        .collect();
    let mut block = NativeBlock::new(3);
    let mut offset = 0;
    for view in &views {
        block.push(view, offset, Rows::All);
        offset += view.rows() as u64;
    }
    block.encode()
}
