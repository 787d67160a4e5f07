//! A database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use clickhouse::Client;
use lanecast_clickhouse::testing::shared_server;

/// A client of the shared server, on a fresh database.
pub(crate) async fn fresh() -> Client {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let server = tokio::task::spawn_blocking(shared_server).await.unwrap();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("conformance_{}_{count}", std::process::id());
    let client = Client::default().with_url(&server.url);
    client.query(&format!("CREATE DATABASE {name}")).execute().await.unwrap();
    client.with_database(name)
}

/// The code of a server's exception.
pub(crate) fn code(error: &clickhouse::error::Error) -> Option<i32> {
    let text = error.to_string();
    let digits = text.split("Code: ").nth(1)?;
    digits.split('.').next()?.parse().ok()
}
