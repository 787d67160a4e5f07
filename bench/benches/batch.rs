//! One batch of a fleet's snapshot: build, seal, check, open, scan; and the frame around it.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder, TelemetryView};
use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::message::{ClientMessage, Produce};
use lanecast_wire::summary::{SummaryBuilder, may_contain};
use lanecast_wire::{CorrelationId, KeyHash, KeyKind, ProducerEpoch, ProducerId, Sequence, batch};

const GPUS: usize = 125;
const METRICS: usize = 8;
const ROWS: usize = GPUS * METRICS;

fn fill(
    catalog: &mut SeriesCatalog,
) -> Vec<(lanecast_telemetry::SeriesId, lanecast_telemetry::MetricId)> {
    let mut pairs = Vec::with_capacity(ROWS);
    for gpu in 0..GPUS {
        let uuid = format!("GPU-{gpu:08x}-0000-4000-8000-{gpu:012x}");
        let device = format!("nvidia{}", gpu % 8);
        let hostname = format!("host-{:03}", gpu / 8);
        let instance = format!("{hostname}:9400");
        let labels = [("instance", instance.as_str()), ("job", "dcgm")];
        let identity = Identity {
            uuid: &uuid,
            gpu_index: (gpu % 8) as u32,
            device: &device,
            model: "NVIDIA H100 80GB HBM3",
            hostname: &hostname,
            container: "",
            pod: "",
            namespace: "",
            labels: &labels,
        };
        let series = catalog.series(&identity).expect("within limits");
        for metric in 0..METRICS {
            let name = format!("DCGM_FI_DEV_METRIC_{metric}");
            pairs.push((series, catalog.metric(&name).expect("within limits")));
        }
    }
    pairs
}

fn batch_steps(c: &mut Criterion) {
    let mut catalog = SeriesCatalog::new();
    let pairs = fill(&mut catalog);
    let push_all = |builder: &mut TelemetryBuilder| {
        for (at, (series, metric)) in pairs.iter().enumerate() {
            let sample = Sample {
                catalog: &catalog,
                series: *series,
                metric: *metric,
                ts_ms: 1_700_000_000_000 + at as i64,
                source_ts_ms: 1_700_000_000_000,
                value: at as f64,
            };
            builder.push(&sample).expect("within limits");
        }
    };
    let mut group = c.benchmark_group("telemetry batch of 1000 rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut builder = TelemetryBuilder::empty();
    group.bench_function("push and seal the body", |b| {
        b.iter(|| {
            push_all(&mut builder);
            black_box(builder.seal())
        });
    });
    push_all(&mut builder);
    let sealed = builder.seal();
    let seal = || batch::seal(&sealed, ProducerId(1), ProducerEpoch(0), Sequence(0), 0);
    group.bench_function("header and checksum", |b| b.iter(|| black_box(seal())));
    let whole = seal();
    group.bench_function("check (what the broker does)", |b| {
        b.iter(|| batch::check(black_box(&whole)).expect("it was just sealed"));
    });
    let body = batch::body(&whole);
    group.bench_function("open (bytecheck and semantic check)", |b| {
        b.iter(|| TelemetryView::open(black_box(body), ROWS as u32).expect("valid").rows());
    });
    let view = TelemetryView::open(body, ROWS as u32).expect("valid");
    group.bench_function("scan the values in place", |b| {
        b.iter(|| view.values().iter().map(|value| value.to_native()).sum::<f64>());
    });
    group.finish();

    let mut group = c.benchmark_group("key summary of 125 GPUs and 16 hosts");
    let gpu = |number| format!("GPU-{number:08x}-0000-4000-8000-{number:012x}");
    let gpus = (0..GPUS).map(|number| KeyHash::of(KeyKind::Gpu, gpu(number).as_bytes()));
    let hosts = (0..GPUS).map(|number| format!("host-{:03}", number / 8));
    let hosts = hosts.map(|host| KeyHash::of(KeyKind::Host, host.as_bytes()));
    let keys: Vec<(KeyHash, KeyHash)> = gpus.zip(hosts).collect();
    let mut builder = SummaryBuilder::default();
    let make = |builder: &mut SummaryBuilder| {
        for (at, (gpu, host)) in keys.iter().enumerate() {
            builder.add(*gpu);
            if at % 8 == 0 {
                builder.add(*host);
            }
        }
        builder.seal()
    };
    group.bench_function("make (part of a batch's push and seal)", |b| {
        b.iter(|| black_box(make(&mut builder)));
    });
    let absent = KeyHash::of(KeyKind::Gpu, gpu(9_999).as_bytes());
    group.bench_function("header and one key (what a filtered cursor does)", |b| {
        b.iter(|| {
            let header = batch::BatchHeader::decode(black_box(&whole)).expect("valid");
            (header.batch_bytes(), may_contain(batch::summary(&whole), black_box(absent)))
        });
    });
    group.bench_function("hash one key of 40 bytes", |b| {
        let uuid = gpu(1);
        b.iter(|| KeyHash::of(KeyKind::Gpu, black_box(uuid.as_bytes())));
    });
    group.finish();
    eprintln!(
        "a batch of {ROWS} rows: {} bytes, {} of them summary",
        whole.len(),
        batch::summary(&whole).len()
    );

    let mut group = c.benchmark_group("frame");
    let produce = ClientMessage::Produce(Produce { topic: 1, partition: 2 });
    group.bench_function("encode a produce frame's head", |b| {
        b.iter(|| black_box(produce.encode(CorrelationId(7), whole.len() as u32)));
    });
    group.finish();
}

criterion_group!(benches, batch_steps);
criterion_main!(benches);
