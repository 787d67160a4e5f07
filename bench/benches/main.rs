//! Micro-benchmarks of the hot functions, one area per file: `cargo bench -p lanecast-bench`, all of
//! them in some minutes, or those whose names have a word:
//! `cargo bench -p lanecast-bench --bench micro -- "broker core"`.
//!
//! Each says what it counts (rows, batches, chunks, bytes), so that the rate that criterion prints
//! is per second of those, and its inverse the cost of one.

mod batch;
mod block;
mod broker;
mod checksum;
mod csv;
mod frame;
mod leases;
mod messages;
mod page;
mod support;

use criterion::{criterion_group, criterion_main};

criterion_group! {
    name = all;
    config = support::criterion();
    targets =
        checksum::benches, frame::benches, batch::benches, messages::benches, broker::benches,
        leases::benches, csv::benches, block::benches, page::benches
}
criterion_main!(all);
