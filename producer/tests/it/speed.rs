//! Measures the sources; prints, judges nothing. Meant for an optimised build:
//! `cargo test --release -p lanecast-producer --test it -- --ignored --nocapture speed`.

use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{CsvFile, CsvFileConfig, CsvLayout, PublishConfig, Source, Step, publish};
use lanecast_telemetry::{Sample, TelemetryBuilder, TelemetryView};
use lanecast_wire::builder::{BodyBuilder, SealedBody};

use crate::drain::NOW_MS;

const ROWS: u64 = 1_000_000;

/// CPU time of this thread, which others on the machine do not lengthen as they do wall time.
fn cpu_ns() -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    times.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or_default()
}

/// Reads up to `ROWS` samples, and then gathers them into batches, when `batches`.
fn measure(name: &str, source: &mut impl Source, batches: bool) {
    let mut builder = TelemetryBuilder::empty();
    let mut sealed: Vec<SealedBody> = Vec::new();
    let mut rows = 0;
    let started = cpu_ns();
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
                    sealed.push(builder.seal());
                }
            }
            Step::Due { .. } | Step::Busy | Step::Quiet => {}
            Step::End => break,
        }
    }
    let per_row = |ns: f64| ns / rows as f64;
    eprintln!("{name}, batches {batches}: {:.1} ns a row", per_row(cpu_ns() - started));
    if batches {
        let started = cpu_ns();
        for batch in &sealed {
            TelemetryView::open(&batch.body, batch.record_count).unwrap();
        }
        let opened = per_row(cpu_ns() - started);
        let bytes: usize = sealed.iter().map(|batch| batch.body.len()).sum();
        let bytes = bytes as f64 / rows as f64;
        eprintln!("    open views: {opened:.2} ns a row; {bytes:.1} bytes a row");
    }
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
        measure("generate", &mut fleet(), batches);
    }
    let long = dir.path().join("long.csv");
    let config = CsvFileConfig { path: long.clone(), layout: CsvLayout::Long, spoil_every: None };
    let mut sink = CsvFile::create(&config, Vec::new()).unwrap();
    let stop = core::future::pending();
    let config = PublishConfig::default();
    let started = cpu_ns();
    publish(&mut fleet(), &mut sink, &config, stop, |_| {}).await.unwrap();
    eprintln!("write CSV: {:.1} ns a row", (cpu_ns() - started) / ROWS as f64);
    for batches in [false, true] {
        let config = CsvConfig::new(Input::File(long.clone()));
        measure("read CSV", &mut CsvSource::open(config).unwrap(), batches);
    }
}
