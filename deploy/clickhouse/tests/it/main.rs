//! One client, two servers: the conformance tests run the official `clickhouse` crate against the
//! server over libchdb, and with `CLICKHOUSE_URL` set against any other. What only the local server
//! promises is tested on servers in processes of their own, since libchdb takes one data directory
//! per process.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod hostile;
mod install;
mod local;
mod once;
mod support;
