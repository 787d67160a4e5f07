//! Measures the local server, or the one that `CLICKHOUSE_URL` names, through the official client:
//! Native inserts into the shape of the telemetry table, and small queries.
//!
//! `cargo run --release -p lanecast-clickhouse --example measure`

use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::{Client, Compression};
use hyper_util::client::legacy::{Client as HttpClient, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use lanecast_clickhouse::testing::shared_server;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const TABLE: &str = "CREATE TABLE measure.telemetry (
    gpu_uuid LowCardinality(String), ts DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    metric LowCardinality(String), value Float64 CODEC(ZSTD(1)), hostname LowCardinality(String),
    topic_offset UInt64
) ENGINE = MergeTree PARTITION BY toDate(ts) ORDER BY (gpu_uuid, ts, metric)
SETTINGS non_replicated_deduplication_window = 1000";

/// A block of `rows` from a fleet of 247 GPUs with 10 metrics, rendered by the server itself.
async fn block(client: &Client, rows: u64, first: u64) -> Outcome<Bytes> {
    let sql = format!(
        "SELECT concat('GPU-', toString(number % 247))::LowCardinality(String) AS gpu_uuid,
                toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + intDiv(number, 2470) AS ts,
                concat('METRIC_', toString(intDiv(number, 247) % 10))::LowCardinality(String) AS metric,
                round(50 + 10 * sin(number), 1) AS value,
                concat('host-', toString(number % 31))::LowCardinality(String) AS hostname,
                number AS topic_offset
         FROM numbers({first}, {rows})"
    );
    let mut cursor =
        client.clone().with_compression(Compression::None).query(&sql).fetch_bytes("Native")?;
    Ok(cursor.collect().await?)
}

async fn inserts(client: &Client, rows: u64, count: u64) -> Outcome<()> {
    client.query("TRUNCATE TABLE measure.telemetry").execute().await?;
    let mut blocks = Vec::new();
    for round in 0..count {
        blocks.push(block(client, rows, round * rows).await?);
    }
    let mut took = Vec::new();
    let began = Instant::now();
    for (round, block) in blocks.into_iter().enumerate() {
        let one = Instant::now();
        let mut insert = client
            .insert_formatted_with("INSERT INTO measure.telemetry FORMAT Native")
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplication_token", format!("{rows}/{round}"));
        insert.send(block).await?;
        insert.end().await?;
        took.push(one.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    let rate = (rows * count) as f64 / seconds;
    report(&format!("native insert, {rows} rows: {rate:.0} rows/s"), took);
    Ok(())
}

async fn queries(client: &Client, name: &str, sql: &str, count: u32) -> Outcome<()> {
    let mut took = Vec::new();
    for _ in 0..count {
        let one = Instant::now();
        let text = client.query(sql).fetch_bytes("TSV")?.collect().await?;
        assert!(!text.is_empty(), "{name} found nothing");
        took.push(one.elapsed());
    }
    report(name, took);
    Ok(())
}

fn report(name: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    eprintln!("{name}: p50 {:?}, p99 {:?}, max {:?}, n {}", at(0.5), at(0.99), at(1.0), took.len());
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let server = shared_server();
    for compression in [Compression::None, Compression::Lz4] {
        eprintln!("compression {compression:?}");
        // The official client's own connector leaves Nagle on, which adds 40 ms to some inserts.
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        let client = Client::with_http_client(http).with_url(&server.url);
        let client = client.with_compression(compression);
        client.query("DROP DATABASE IF EXISTS measure").execute().await?;
        client.query("CREATE DATABASE measure").execute().await?;
        client.query(TABLE).execute().await?;
        inserts(&client, 10_000, 50).await?;
        inserts(&client, 100_000, 20).await?;
        queries(&client, "SELECT 1", "SELECT 1", 500).await?;
        let sql = "SELECT count(), max(value) FROM measure.telemetry WHERE gpu_uuid = 'GPU-7' \
                   AND ts >= '2026-01-01 00:01:00' AND ts < '2026-01-01 00:06:00'";
        queries(&client, "five minutes of one gpu", sql, 200).await?;
        client.query("DROP DATABASE measure").execute().await?;
    }
    Ok(())
}
