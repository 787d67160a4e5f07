//! Rows of an exporter's CSV file to samples, and on into the columns of batches.

use std::io::Write;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput};
use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::{Point, Source, Step, Timestamps};
use lanecast_telemetry::{Sample, TelemetryBuilder};
use lanecast_wire::builder::BodyBuilder;
use tempfile::NamedTempFile;

use crate::support::fleet::{ROWS, START_MS};

/// Enough that opening the file does not count.
const COPIES: usize = 30;

pub(crate) fn benches(c: &mut Criterion) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    let mut group = c.benchmark_group("CSV, per sample");
    for (layout, file) in [("long", "fleet-snapshot.csv"), ("wide", "fleet-wide.csv")] {
        let input = long_input(&samples.join(file));
        let mut config = CsvConfig::new(Input::File(input.path().to_owned()));
        let mut source = open(&config);
        group.throughput(Throughput::Elements(read(&mut source)));
        group.bench_function(format!("{layout} rows to samples"), |b| {
            b.iter_batched(
                || open(&config),
                |mut source| read(&mut source),
                BatchSize::PerIteration,
            );
        });
        config.timestamps = Timestamps::Original;
        group.bench_function(format!("{layout} rows to samples, their own time"), |b| {
            b.iter_batched(
                || open(&config),
                |mut source| read(&mut source),
                BatchSize::PerIteration,
            );
        });
        config.timestamps = Timestamps::Now;
        group.bench_function(format!("{layout} rows to columns of batches"), |b| {
            b.iter_batched(
                || open(&config),
                |mut source| fill(&mut source),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A file with a sample file's header and many times its rows.
fn long_input(sample: &Path) -> NamedTempFile {
    let text = std::fs::read_to_string(sample).expect("the project's own sample");
    let (header, rows) = text.split_once('\n').expect("a header and rows");
    let mut file = NamedTempFile::new().expect("a temporary file can be made");
    writeln!(file, "{header}").expect("a temporary file takes some megabytes");
    for _ in 0..COPIES {
        file.write_all(rows.as_bytes()).expect("a temporary file takes some megabytes");
    }
    file
}

fn open(config: &CsvConfig) -> CsvSource {
    CsvSource::open(config.clone()).expect("the file was just written")
}

fn next(source: &mut CsvSource) -> Option<Point> {
    loop {
        match source.next(START_MS).expect("the sample is good") {
            Step::Point(point) => return Some(point),
            Step::Busy => {}
            Step::Due { .. } | Step::Quiet => panic!("a file is neither late nor silent"),
            Step::End => return None,
        }
    }
}

/// The number of samples.
fn read(source: &mut CsvSource) -> u64 {
    std::iter::from_fn(|| next(source)).count() as u64
}

/// The bytes of the batches' bodies.
fn fill(source: &mut CsvSource) -> usize {
    let (mut builder, mut bytes) = (TelemetryBuilder::empty(), 0);
    while let Some(Point { series, metric, ts_ms, source_ts_ms, value }) = next(source) {
        let catalog = source.catalog();
        let sample = Sample { catalog, series, metric, ts_ms, source_ts_ms, value };
        builder.push(&sample).expect("within limits");
        if builder.record_count() as usize == ROWS {
            bytes += builder.seal().body.len();
        }
    }
    bytes
}
