//! A whole broker on real sockets and a real disk.

#![allow(clippy::unwrap_used)]

mod admin;
mod filter;
mod group_handlers;
mod handlers;
mod hostile;
mod lifecycle;
mod memory;
mod migration;
mod offline;
mod pipeline;
mod raw;
mod strangers;

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

/// Not a test of its own: what other tests start as another process.
#[test]
fn broker_process() {
    support::be_a_broker_if_asked();
}
