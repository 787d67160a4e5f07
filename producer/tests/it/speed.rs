//! Measures the sources; prints, judges nothing. Meant for an optimised build:
//! `cargo test --release -p lanecast-producer --test it -- --ignored --nocapture speed`.

use std::time::Instant;

use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{CsvFile, CsvFileConfig, CsvLayout, PublishConfig, Source, Step, publish};
use lanecast_telemetry::{Sample, TelemetryBuilder, TelemetryView};
use lanecast_wire::builder::BodyBuilder;

use crate::drain::NOW_MS;

const ROWS: u64 = 1_000_000;

/// Reads up to `ROWS` samples, through a builder when `batches`; gives ns a row.
fn measure(source: &mut impl Source, batches: bool) -> f64 {
    let mut builder = TelemetryBuilder::empty();
    let (mut rows, mut bytes, mut view_ns) = (0, 0, 0);
    let started = Instant::now();
    while rows < ROWS {
        match source.next(NOW_MS).unwrap() {
            Step::Point(point) => {
                rows += 1;
                if !batches {
                    continue;
                }
                let sample = Sample {
                    catalog: source.catalog(),
                    series: point.series,
                    metric: point.metric,
                    ts_ms: point.ts_ms,
                    source_ts_ms: point.source_ts_ms,
                    value: point.value,
                };
                builder.push(&sample).unwrap();
                if builder.body_bytes() >= 64 * 1024 {
                    let sealed = builder.seal();
                    bytes += sealed.body.len();
                    let opening = Instant::now();
                    TelemetryView::open(&sealed.body, sealed.record_count).unwrap();
                    view_ns += opening.elapsed().as_nanos();
                }
            }
            Step::Due { .. } | Step::Busy | Step::Quiet => {}
            Step::End => break,
        }
    }
    let total_ns = started.elapsed().as_nanos();
    if batches {
        let per_row = |n: u128| n as f64 / rows as f64;
        eprintln!(
            "    of these, opening views: {:.2} ns a row; {:.1} bytes a row",
            per_row(view_ns),
            bytes as f64 / rows as f64
        );
    }
    total_ns as f64 / rows as f64
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_each_source() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = || {
        let config = GenerateConfig { real_time: false, rows: Some(ROWS), ..Default::default() };
        GenerateSource::new(config).unwrap()
    };
    for batches in [false, true] {
        eprintln!("generate, batches {batches}: {:.1} ns a row", measure(&mut fleet(), batches));
    }
    let long = dir.path().join("long.csv");
    let config = CsvFileConfig { path: long.clone(), layout: CsvLayout::Long, spoil_every: None };
    let mut sink = CsvFile::create(&config, Vec::new()).unwrap();
    let stop = core::future::pending();
    let config = PublishConfig::default();
    let report = publish(&mut fleet(), &mut sink, &config, stop, |_| {}).await.unwrap();
    eprintln!("write CSV: {:.1} ns a row", 1e9 / report.rows_per_s);
    let size = std::fs::metadata(&long).unwrap().len() as f64;
    for batches in [false, true] {
        let config = CsvConfig::new(Input::File(long.clone()));
        let ns = measure(&mut CsvSource::open(config).unwrap(), batches);
        eprintln!(
            "read CSV, batches {batches}: {ns:.1} ns a row, {:.0} MB/s",
            size / ROWS as f64 / ns * 1e3
        );
    }
}
