//! A service with a database of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use clickhouse::Row;
use lanecast_query::{QueryConfig, QueryServer};
use lanecast_store::{Retention, Store, StoreConfig};
use serde::Serialize;

use crate::api::{Reply, get, get_with, load_document};

/// Settings for a test: any port, patient.
pub(crate) fn config(store: StoreConfig) -> QueryConfig {
    QueryConfig { bind: "127.0.0.1:0".parse().unwrap(), store, ..QueryConfig::default() }
}

pub(crate) struct World {
    pub server: QueryServer,
    pub store: Store,
    database: String,
}

/// 2025-07-18T20:42:34Z
pub(crate) const T0_MS: i64 = 1_752_871_354_000;

/// One sample, as it is put into the table.
#[derive(Clone, Debug, Row, Serialize)]
pub(crate) struct Sample {
    pub gpu_uuid: String,
    pub ts: i64,
    pub metric: String,
    pub value: f64,
    pub source_ts: i64,
    pub gpu_index: u32,
    pub device: String,
    pub model: String,
    pub hostname: String,
    pub container: String,
    pub pod: String,
    pub namespace: String,
    pub labels: Vec<(String, String)>,
    pub topic_partition: u32,
    pub topic_offset: u64,
}

/// Offsets are the samples' numbers, in the order in which they were made.
static OFFSET: AtomicU32 = AtomicU32::new(0);

pub(crate) fn sample(gpu_uuid: &str, ts: i64, metric: &str, value: f64) -> Sample {
    Sample {
        gpu_uuid: gpu_uuid.into(),
        ts,
        metric: metric.into(),
        value,
        source_ts: ts,
        gpu_index: 0,
        device: "nvidia0".into(),
        model: "H100".into(),
        hostname: "host-a".into(),
        container: String::new(),
        pod: String::new(),
        namespace: String::new(),
        labels: Vec::new(),
        topic_partition: 0,
        topic_offset: OFFSET.fetch_add(1, Ordering::Relaxed).into(),
    }
}

impl World {
    /// An empty schema and a service over it.
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut QueryConfig)) -> Self {
        let world = Self::without_schema(change).await;
        let keep = Retention { raw_days: 0, rollup_days: 0 };
        world.store.migrate(&keep).await.unwrap();
        world
    }

    pub(crate) async fn without_schema(change: impl FnOnce(&mut QueryConfig)) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let database = format!("query_it_{}_{number}", std::process::id());
        let server = lanecast_clickhouse::testing::shared_server();
        let store = StoreConfig {
            url: server.url.clone(),
            database: database.clone(),
            ..StoreConfig::default()
        };
        let mut config = config(store.clone());
        change(&mut config);
        let server = QueryServer::start(config).await.unwrap();
        load_document(server.addr()).await;
        Self { server, store: Store::connect(store).unwrap(), database }
    }

    pub(crate) async fn insert(&self, samples: &[Sample]) {
        let mut insert = self
            .store
            .client()
            .insert::<Sample>("telemetry")
            .await
            .unwrap()
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "0");
        for sample in samples {
            insert.write(sample).await.unwrap();
        }
        insert.end().await.unwrap();
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        get(self.server.addr(), target).await
    }

    pub(crate) async fn get_with(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        get_with(self.server.addr(), target, headers).await
    }

    /// Removes the database; one that a failed test left does no harm.
    pub(crate) async fn end(self) {
        self.server.shutdown().await;
        let drop = format!("DROP DATABASE IF EXISTS {}", self.database);
        // Without the database as the session's own, which may not exist.
        let client = clickhouse::Client::default().with_url(self.store.url());
        client.query(&drop).execute().await.unwrap();
    }
}
