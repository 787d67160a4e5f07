//! Columns of telemetry batches to one block in ClickHouse's Native format.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use lanecast_consumer::{TimeRule, sift};
use lanecast_store::{NativeBlock, Rows};
use lanecast_telemetry::TelemetryView;
use lanecast_wire::message::OffsetRange;
use lanecast_wire::{Offset, ProducerEpoch, ProducerId, Sequence, batch};

use crate::support::fleet::{Fleet, ROWS, START_MS};

/// Batches of one chunk.
const BATCHES: usize = 20;

pub(crate) fn benches(c: &mut Criterion) {
    let sealed = Fleet::new().body();
    let mut group = c.benchmark_group("ClickHouse block, per row of 20,000");
    group.throughput(Throughput::Elements((BATCHES * ROWS) as u64));

    let open = || TelemetryView::open(&sealed.body, sealed.record_count).expect("valid");
    let views: Vec<TelemetryView<'_>> = (0..BATCHES).map(|_| open()).collect();
    let some: Vec<u32> = (0..ROWS as u32).step_by(2).collect();
    let gather = |rows| {
        let mut block = NativeBlock::new(0);
        for (number, view) in views.iter().enumerate() {
            block.push(view, (number * ROWS) as u64, rows);
        }
        block
    };
    group.bench_function("gather batches (series translated)", |b| {
        b.iter(|| gather(black_box(Rows::All)).rows());
    });
    let block = gather(Rows::All);
    group.bench_function("encode all columns", |b| b.iter(|| block.encode()));

    let payloads = chunk();
    let whole = [OffsetRange { first: 0, last: (BATCHES * ROWS) as u64 - 1 }];
    let rule = TimeRule { retention_days: 30 };
    group.bench_function("sift a chunk (check, open, judge times, encode)", |b| {
        b.iter(|| sift(rule, 0, black_box(&whole), &payloads));
    });
    assert_eq!(sift(rule, 0, &whole, &payloads).rows, (BATCHES * ROWS) as u64);
    group.throughput(Throughput::Elements((BATCHES * some.len()) as u64));
    let half = gather(Rows::Some(&some));
    group.bench_function("encode all columns of every other row", |b| b.iter(|| half.encode()));
    group.finish();
}

/// What a consumer gets: whole batches, as the broker stamped them.
fn chunk() -> Vec<Bytes> {
    let sealed = Fleet::new().body();
    let batch = |number| {
        let sequence = Sequence(number);
        let batch = batch::seal(&sealed, ProducerId(1), ProducerEpoch(0), sequence, START_MS);
        let mut batch = Vec::from(batch);
        batch::stamp(&mut batch, Offset(number * ROWS as u64), START_MS);
        Bytes::from(batch)
    };
    (0..BATCHES as u64).map(batch).collect()
}
