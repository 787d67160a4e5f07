use bytes::Bytes;
use clickhouse::Row;
use lanecast_store::{Cause, Store, StoreConfig, StoreError};
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
use lanecast_wire::builder::BodyBuilder;
use serde::Deserialize;

use crate::tables::{batch, block, fresh_store, migrated_store, one, token, totals};

const START_MS: i64 = 1_752_871_354_123;
const DAY_MS: i64 = 86_400_000;

#[derive(Row, Deserialize, Debug, PartialEq)]
struct Stored {
    gpu_uuid: String,
    ts_ms: i64,
    metric: String,
    value: f64,
    source_ts_ms: i64,
    gpu_index: u32,
    identity: Vec<String>,
    labels: Vec<(String, String)>,
    topic_partition: u32,
    topic_offset: u64,
}

#[tokio::test]
async fn every_column_arrives_as_it_was_in_the_batch() {
    let store = migrated_store().await;
    let batches = [batch("GPU-a", START_MS, &[0.5, -1.5]), batch("GPU-b", START_MS, &[1e300])];
    store.insert_native(&token(0, 2), block(&batches)).await.unwrap();
    let stored: Vec<Stored> = store
        .client()
        .query_raw(
            "SELECT CAST(gpu_uuid, 'String') AS gpu_uuid, toUnixTimestamp64Milli(ts) AS ts_ms, \
             CAST(metric, 'String') AS metric, value, \
             toUnixTimestamp64Milli(source_ts) AS source_ts_ms, gpu_index, \
             [CAST(device, 'String'), CAST(model, 'String'), CAST(hostname, 'String'), \
              CAST(container, 'String'), CAST(pod, 'String'), CAST(namespace, 'String')] \
             AS identity, CAST(labels, 'Array(Tuple(String, String))') AS labels, \
             topic_partition, topic_offset FROM telemetry ORDER BY topic_offset",
        )
        .fetch_all()
        .await
        .unwrap();
    let expected = |gpu_uuid: &str, minutes: i64, value: f64, topic_offset: u64| Stored {
        gpu_uuid: gpu_uuid.into(),
        ts_ms: START_MS + minutes * 60_000,
        metric: "DCGM_FI_DEV_GPU_UTIL".into(),
        value,
        source_ts_ms: START_MS + minutes * 60_000 - 7,
        gpu_index: 5,
        identity: ["nvidia0", "NVIDIA H100", "host-1", "", "", ""].map(Into::into).into(),
        labels: vec![("driver".into(), "570".into()), ("zone".into(), "a".into())],
        topic_partition: 3,
        topic_offset,
    };
    let wanted = [
        expected("GPU-a", 0, 0.5, 0),
        expected("GPU-a", 1, -1.5, 1),
        expected("GPU-b", 0, 1e300, 2),
    ];
    assert_eq!(stored, wanted);
}

#[tokio::test]
async fn a_repeated_token_doubles_nothing_anywhere() {
    let store = migrated_store().await;
    // Two days, so two partitions and two parts; two GPUs, so two rows in each table of those.
    let batches =
        [batch("GPU-a", START_MS, &[1.0, 2.0]), batch("GPU-b", START_MS - DAY_MS, &[4.0])];
    let block = block(&batches);
    store.insert_native(&token(0, 2), block.clone()).await.unwrap();
    let once = totals(&store).await;
    assert_eq!((once.raw_rows, once.minute_rows, once.hour_rows), (3, 3, 3));
    assert_eq!((once.raw_sum, once.minute_sum, once.hour_sum), (7.0, 7.0, 7.0));
    assert_eq!((once.gpus, once.latest), (2, 2));
    for _ in 0..3 {
        store.insert_native(&token(0, 2), block.clone()).await.unwrap();
    }
    assert_eq!(totals(&store).await, once);

    // The same rows under another token are other rows.
    store.insert_native(&token(3, 5), block).await.unwrap();
    let twice = totals(&store).await;
    assert_eq!((twice.raw_rows, twice.minute_sum, twice.hour_sum), (6, 14.0, 14.0));
}

#[tokio::test]
async fn the_same_token_at_the_same_time_is_stored_once() {
    let store = migrated_store().await;
    let block = block(&[batch("GPU-a", START_MS, &[1.0; 1_000])]);
    let inserts: Vec<_> = (0..4)
        .map(|_| {
            let (store, block) = (store.clone(), block.clone());
            tokio::spawn(async move { store.insert_native(&token(0, 999), block).await })
        })
        .collect();
    for insert in inserts {
        insert.await.unwrap().unwrap();
    }
    let totals = totals(&store).await;
    assert_eq!((totals.raw_rows, totals.minute_rows, totals.hour_rows), (1_000, 1_000, 1_000));
}

#[tokio::test]
async fn identities_latest_values_and_roll_ups_follow_the_newest_sample() {
    let store = migrated_store().await;
    store
        .insert_native(&token(0, 1), block(&[batch("GPU-a", START_MS, &[3.0, 9.0])]))
        .await
        .unwrap();
    // An older sample that arrives later changes nothing but the first sight.
    let older = block(&[batch("GPU-a", START_MS - 600_000, &[1.0])]);
    store.insert_native(&token(2, 2), older).await.unwrap();
    let latest: (f64, i64) = one(
        &store,
        "SELECT argMaxMerge(value), toUnixTimestamp64Milli(max(ts)) FROM latest \
         WHERE gpu_uuid = 'GPU-a'",
    )
    .await;
    assert_eq!(latest, (9.0, START_MS + 60_000));
    let seen: (String, u32, i64, i64) = one(
        &store,
        "SELECT argMaxMerge(hostname), argMaxMerge(gpu_index), \
         toUnixTimestamp64Milli(min(first_seen)), toUnixTimestamp64Milli(max(last_seen)) \
         FROM gpus WHERE gpu_uuid = 'GPU-a'",
    )
    .await;
    assert_eq!(seen, ("host-1".into(), 5, START_MS - 600_000, START_MS + 60_000));
    let hour: (f64, f64, f64, u64, f64, f64) = one(
        &store,
        "SELECT min(min), max(max), sum(sum), sum(count), argMinMerge(first), argMaxMerge(last) \
         FROM telemetry_1h WHERE gpu_uuid = 'GPU-a'",
    )
    .await;
    assert_eq!(hour, (1.0, 9.0, 13.0, 3, 1.0, 9.0));
}

#[tokio::test]
async fn a_large_block_is_one_unit() {
    let store = migrated_store().await;
    let batches: Vec<_> =
        (0..10).map(|n| batch(&format!("GPU-{n}"), START_MS, &vec![1.0; 1_000])).collect();
    let block = block(&batches);
    for _ in 0..2 {
        store.insert_native(&token(0, 9_999), block.clone()).await.unwrap();
    }
    assert_eq!(totals(&store).await.raw_rows, 10_000);
}

/// Codes take one, two and four bytes: up to 256 different strings, to 65,536, and beyond.
#[tokio::test]
async fn dictionaries_of_every_width_are_read_back() {
    for gpus in [256, 257, 65_536, 65_537] {
        let store = migrated_store().await;
        let mut catalog = SeriesCatalog::new();
        let mut batches = Vec::new();
        let mut builder = TelemetryBuilder::empty();
        let metric = catalog.metric("m").unwrap();
        for gpu in 0..gpus {
            let uuid = format!("GPU-{gpu}");
            let identity = Identity { uuid: &uuid, gpu_index: gpu, ..Identity::default() };
            let series = catalog.series(&identity).unwrap();
            let (ts_ms, source_ts_ms, value) = (START_MS, START_MS, 1.0);
            let sample = Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms, value };
            builder.push(&sample).unwrap();
            if builder.record_count() == 1_000 || gpu + 1 == gpus {
                batches.push(builder.seal());
                catalog.clear();
                assert_eq!(catalog.metric("m").unwrap(), metric);
            }
        }
        store.insert_native(&token(0, u64::from(gpus) - 1), block(&batches)).await.unwrap();
        let right = "SELECT countIf(gpu_uuid = concat('GPU-', toString(gpu_index))) FROM telemetry";
        assert_eq!(one::<u64>(&store, right).await, u64::from(gpus), "{gpus} GPUs");
    }
}

#[tokio::test]
async fn refusals_are_sorted_by_whether_to_try_again() {
    let store = fresh_store();
    let good = block(&[batch("GPU-a", START_MS, &[1.0])]);
    let no_database = store.insert_native(&token(0, 0), good.clone()).await.unwrap_err();
    assert!(
        matches!(no_database, StoreError::Retryable { cause: Cause::Schema, code: 81, .. }),
        "{no_database}"
    );

    let store = migrated_store().await;
    let cut = good.slice(..good.len() - 3);
    let truncated = store.insert_native(&token(0, 0), cut).await.unwrap_err();
    assert!(!truncated.is_retryable(), "{truncated}");
    let garbage = Bytes::from_static(b"\x01\x01\x01x\x06Stringzz");
    let unknown = store.insert_native(&token(0, 0), garbage).await.unwrap_err();
    assert!(!unknown.is_retryable(), "{unknown}");
    assert_eq!(totals(&store).await.raw_rows, 0);

    let wide: Vec<_> =
        (0..401).map(|day| batch("GPU-a", START_MS - day * DAY_MS, &[1.0])).collect();
    let wide = store.insert_native(&token(0, 400), block(&wide)).await.unwrap_err();
    assert!(matches!(wide, StoreError::Permanent { code: 252, .. }), "{wide}");
}

#[tokio::test]
async fn a_chunk_of_many_days_is_one_insert() {
    let store = migrated_store().await;
    let wide: Vec<_> =
        (0..110).map(|day| batch("GPU-a", START_MS - day * DAY_MS, &[1.0])).collect();
    for _ in 0..2 {
        store.insert_native(&token(0, 109), block(&wide)).await.unwrap();
        assert_eq!(totals(&store).await.raw_rows, 110);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = Store::connect(StoreConfig { url, ..StoreConfig::default() }).unwrap();
    let error = store.ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let block = block(&[batch("GPU-a", START_MS, &[1.0])]);
    let error = store.insert_native(&token(0, 0), block).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_is_there_answers_a_ping() {
    fresh_store().ping().await.unwrap();
}
