//! One telemetry batch of a fleet's snapshot: build, seal, check, open, scan.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use lanecast_telemetry::{TelemetryBuilder, TelemetryView};
use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::summary::{SummaryBuilder, may_contain};
use lanecast_wire::{KeyHash, KeyKind, Offset, ProducerEpoch, ProducerId, Sequence, batch};

use crate::support::fleet::{Fleet, GPUS, ROWS, hostname, uuid};

pub(crate) fn benches(c: &mut Criterion) {
    rows(c);
    whole(c);
    summary(c);
}

/// What is done for every row.
fn rows(c: &mut Criterion) {
    let fleet = Fleet::new();
    let mut group = c.benchmark_group("telemetry batch, per row of 1000");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut builder = TelemetryBuilder::empty();
    group.bench_function("push and seal the body", |b| {
        b.iter(|| {
            fleet.push_all(&mut builder);
            black_box(builder.seal())
        });
    });
    let sealed = fleet.body();
    let open = || TelemetryView::open(black_box(&sealed.body), ROWS as u32).expect("valid");
    group.bench_function("open (bytecheck and semantic check)", |b| b.iter(|| open().rows()));
    let view = open();
    group.bench_function("scan the values in place", |b| {
        b.iter(|| view.values().iter().map(|value| value.to_native()).sum::<f64>());
    });
    group.bench_function("read every row whole", |b| {
        b.iter(|| view.iter().map(|row| row.ts_ms ^ row.series as i64).sum::<i64>());
    });
    group.finish();
}

/// What is done once for a batch, whatever is in it.
fn whole(c: &mut Criterion) {
    let sealed = Fleet::new().body();
    let seal = || batch::seal(&sealed, ProducerId(1), ProducerEpoch(0), Sequence(0), 0);
    let whole = seal();
    let mut group = c.benchmark_group("telemetry batch, per byte");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    group.bench_function("seal (header, checksum, copy)", |b| b.iter(|| black_box(seal())));
    group.bench_function("check (what the broker does)", |b| {
        b.iter(|| batch::check(black_box(&whole)).expect("it was just sealed"));
    });
    group.finish();

    let mut group = c.benchmark_group("batch header");
    group.throughput(Throughput::Elements(1));
    group.bench_function("decode", |b| {
        b.iter(|| batch::BatchHeader::decode(black_box(&whole)).expect("valid"));
    });
    let mut stamped = whole.to_vec();
    group.bench_function("stamp", |b| {
        b.iter(|| batch::stamp(black_box(&mut stamped), Offset(7), 9));
    });
    group.finish();
}

fn summary(c: &mut Criterion) {
    let keys: Vec<(KeyHash, KeyHash)> = (0..GPUS)
        .map(|gpu| {
            let host = KeyHash::of(KeyKind::Host, hostname(gpu).as_bytes());
            (KeyHash::of(KeyKind::Gpu, uuid(gpu).as_bytes()), host)
        })
        .collect();
    let mut builder = SummaryBuilder::default();
    let mut make = || {
        for (at, (gpu, host)) in keys.iter().enumerate() {
            builder.add(*gpu);
            if at.is_multiple_of(8) {
                builder.add(*host);
            }
        }
        builder.seal()
    };
    let mut group = c.benchmark_group("key summary of 125 GPUs and 16 hosts");
    group.bench_function("make (part of a batch's push and seal)", |b| b.iter(&mut make));
    let summary = make();
    let absent = KeyHash::of(KeyKind::Gpu, uuid(9_999).as_bytes());
    group.bench_function("look for one key (what a filtered cursor does)", |b| {
        b.iter(|| may_contain(black_box(&summary), black_box(absent)));
    });
    group.bench_function("hash one key of 40 bytes", |b| {
        let uuid = uuid(1);
        b.iter(|| KeyHash::of(KeyKind::Gpu, black_box(uuid.as_bytes())));
    });
    group.finish();
}
