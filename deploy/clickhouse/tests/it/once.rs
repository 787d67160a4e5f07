//! Deduplication tokens: an insert that is repeated is written once, also in what views derive.

use clickhouse::Client;

use crate::conformance::{count, insert, readings, table};
use crate::support::fresh;

/// A roll-up of `readings`, fed by a view.
async fn roll_up(client: &Client) {
    for sql in [
        "CREATE TABLE totals (name String, rows UInt64) ENGINE = SummingMergeTree ORDER BY name \
         SETTINGS non_replicated_deduplication_window = 100",
        "CREATE MATERIALIZED VIEW totals_view TO totals AS \
         SELECT name, count() AS rows FROM readings GROUP BY name",
    ] {
        client.query(sql).execute().await.unwrap();
    }
}

async fn total(client: &Client) -> u64 {
    client.query("SELECT sum(rows) FROM totals").fetch_one().await.unwrap()
}

fn with_token(client: &Client, token: &str) -> Client {
    client
        .clone()
        .with_setting("async_insert", "0")
        .with_setting("insert_deduplicate", "1")
        .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1")
        .with_setting("insert_deduplication_token", token)
}

#[tokio::test]
async fn a_repeated_token_writes_once_also_behind_views() {
    let client = fresh().await;
    table(&client).await;
    roll_up(&client).await;
    let first = with_token(&client, "gpu-telemetry/0/0-99");
    for _ in 0..3 {
        insert(&first, &readings(100)).await.unwrap();
    }
    assert_eq!((count(&client).await, total(&client).await), (100, 100));
    // The same rows under another token are other rows.
    insert(&with_token(&client, "gpu-telemetry/0/100-199"), &readings(100)).await.unwrap();
    assert_eq!((count(&client).await, total(&client).await), (200, 200));
}

#[tokio::test]
async fn native_inserts_deduplicate_too() {
    let client = fresh().await;
    table(&client).await;
    roll_up(&client).await;
    insert(&client, &readings(50)).await.unwrap();
    let select = client.query("SELECT * FROM readings").fetch_bytes("Native");
    let block = select.unwrap().collect().await.unwrap();
    for _ in 0..2 {
        let client = with_token(&client, "gpu-telemetry/1/0-49");
        let mut insert = client.insert_formatted_with("INSERT INTO readings FORMAT Native");
        insert.send(block.clone()).await.unwrap();
        insert.end().await.unwrap();
    }
    assert_eq!((count(&client).await, total(&client).await), (100, 100));
}
