//! What the official client does, one kind of request per test.

use clickhouse::{Client, Compression, Row};
use serde::{Deserialize, Serialize};

use crate::support::{code, fresh};

#[derive(Debug, Clone, PartialEq, Row, Serialize, Deserialize)]
struct Reading {
    id: u32,
    name: String,
    value: f64,
}

fn readings(count: u32) -> Vec<Reading> {
    (0..count)
        .map(|id| Reading { id, name: format!("gpu-{}", id % 7), value: f64::from(id) / 4.0 })
        .collect()
}

async fn table(client: &Client) {
    client
        .query(
            "CREATE TABLE readings (id UInt32, name LowCardinality(String), value Float64) \
             ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100",
        )
        .execute()
        .await
        .unwrap();
}

async fn insert(client: &Client, rows: &[Reading]) -> clickhouse::error::Result<()> {
    let mut insert = client.insert::<Reading>("readings").await?;
    for row in rows {
        insert.write(row).await?;
    }
    insert.end().await
}

async fn all(client: &Client) -> Vec<Reading> {
    client.query("SELECT ?fields FROM readings ORDER BY id").fetch_all().await.unwrap()
}

async fn count(client: &Client) -> u64 {
    client.query("SELECT count() FROM readings").fetch_one().await.unwrap()
}

#[tokio::test]
async fn rows_come_back_as_they_were_written_with_and_without_compression() {
    for (validation, compression) in [
        (true, Compression::Lz4),
        (true, Compression::None),
        (false, Compression::Lz4),
        (false, Compression::None),
    ] {
        let client = fresh().await.with_compression(compression).with_validation(validation);
        table(&client).await;
        insert(&client, &readings(1000)).await.unwrap();
        assert_eq!(all(&client).await, readings(1000));
    }
}

#[tokio::test]
async fn unknown_names_have_their_codes() {
    let client = fresh().await;
    let unknown = client.query("SELECT 1 FROM nothing").execute().await.unwrap_err();
    assert_eq!(code(&unknown), Some(60), "{unknown}");
    let syntax = client.query("SELEC 1").execute().await.unwrap_err();
    assert_eq!(code(&syntax), Some(62), "{syntax}");
    let database = client.clone().with_database("nowhere");
    let database = database.query("SELECT 1").execute().await.unwrap_err();
    assert_eq!(code(&database), Some(81), "{database}");
    let setting = client.query("SELECT 1").with_setting("no_such_setting", "1").execute().await;
    assert_eq!(code(&setting.unwrap_err()), Some(115));
}

#[tokio::test]
async fn inserted_rows_are_counted() {
    let client = fresh().await;
    table(&client).await;
    insert(&client, &readings(10)).await.unwrap();
    assert_eq!(count(&client).await, 10);
}
