//! Rows of an answer to the text or bytes of a page, in every format that the query service has.

use criterion::{Criterion, Throughput};
use lanecast_query::encode::{Format, Rows, columns};
use lanecast_store::read::SampleRow;

use crate::support::fleet::{ROWS, START_MS, hostname, uuid};

pub(crate) fn benches(c: &mut Criterion) {
    let (uuid, hostname) = (uuid(3), hostname(3));
    let instance = format!("{hostname}:9400");
    let labels = [("instance", instance.as_str()), ("job", "dcgm_exporter")];
    let row = |at: usize| SampleRow {
        ts: START_MS + at as i64 * 1000,
        source_ts: START_MS + at as i64 * 1000 - 137,
        metric: ["DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_POWER_USAGE"][at % 2],
        value: [(at % 100) as f64, 613.25 + at as f64 * 0.125][at % 2],
        gpu_uuid: &uuid,
        gpu_index: 3,
        device: "nvidia3",
        model: "NVIDIA H100 80GB HBM3",
        hostname: &hostname,
        container: "",
        pod: "",
        namespace: "",
        labels: labels.to_vec(),
        topic_partition: 2,
        topic_offset: 104_417 + at as u64,
    };
    let rows: Vec<SampleRow<'_>> = (0..ROWS).map(row).collect();
    let mut group = c.benchmark_group("page, per row of 1000");
    group.throughput(Throughput::Elements(ROWS as u64));
    let encode = |format, with_labels| {
        let mut page = Rows::new(format, columns(with_labels));
        rows.iter().for_each(|row| page.push(row));
        page.finish()
    };
    for format in [Format::Json, Format::Ndjson, Format::Csv, Format::Arrow] {
        group.bench_function(format!("{format:?}"), |b| b.iter(|| encode(format, false)));
    }
    group.bench_function("Json with labels", |b| b.iter(|| encode(Format::Json, true)));
    group.finish();
}
