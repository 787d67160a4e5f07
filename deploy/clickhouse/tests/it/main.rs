//! One client, two servers: these tests run the official `clickhouse` crate against the server over
//! libchdb, and with `CLICKHOUSE_URL` set against any other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod support;
