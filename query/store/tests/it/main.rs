//! The store against a real ClickHouse: the one in `CLICKHOUSE_URL`, or a local one.

#![allow(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod insert;
mod migrate;
mod retention;
mod tables;
