//! The consumer against a ClickHouse that misbehaves on request, and against a real one.

#![allow(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod broker;
mod consumer;
mod gateway;
mod redrive;
mod sink;
#[path = "../../src/testing.rs"]
mod testing;
