//! Reads a source to its end and resolves what it gave.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::{Source, SourceError, SourceStats, Step};
use lanecast_telemetry::{Identity, Sample, TelemetryBuilder, TelemetryView, labels};
use lanecast_wire::builder::BodyBuilder;

/// The wall clock of all tests.
pub(crate) const NOW_MS: i64 = 1_763_697_600_000;

/// One sample with everything spelled out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampled {
    pub(crate) uuid: String,
    pub(crate) gpu_index: u32,
    pub(crate) device: String,
    pub(crate) model: String,
    pub(crate) hostname: String,
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) labels_text: String,
    pub(crate) metric: String,
    pub(crate) ts_ms: i64,
    pub(crate) source_ts_ms: i64,
    pub(crate) value: f64,
}

impl Sampled {
    fn new(identity: &Identity<'_>, row: &lanecast_telemetry::Row<'_>) -> Self {
        let labels = identity.labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Sampled {
            uuid: identity.uuid.into(),
            gpu_index: identity.gpu_index,
            device: identity.device.into(),
            model: identity.model.into(),
            hostname: identity.hostname.into(),
            namespace: identity.namespace.into(),
            labels,
            labels_text: labels::render(identity, row.metric),
            metric: row.metric.into(),
            ts_ms: row.ts_ms,
            source_ts_ms: row.source_ts_ms,
            value: row.value,
        }
    }
}

/// Everything up to the end or `samples_max`, through a batch, as a consumer would see it.
pub(crate) fn drain(
    source: &mut impl Source,
    samples_max: usize,
) -> (Vec<Sampled>, Option<SourceError>) {
    let mut builder = TelemetryBuilder::empty();
    let mut found = Vec::new();
    let mut failure = None;
    while found.len() + (builder.record_count() as usize) < samples_max {
        match source.next(NOW_MS) {
            Ok(Step::Point(point)) => {
                let sample = Sample {
                    catalog: source.catalog(),
                    series: point.series,
                    metric: point.metric,
                    ts_ms: point.ts_ms,
                    source_ts_ms: point.source_ts_ms,
                    value: point.value,
                };
                builder.push(&sample).unwrap();
                if builder.record_count() >= 1000 {
                    found.extend(seal(&mut builder));
                }
            }
            Ok(Step::Due { .. } | Step::Busy | Step::Quiet) => {}
            Ok(Step::End) => break,
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    found.extend(seal(&mut builder));
    (found, failure)
}

fn seal(builder: &mut TelemetryBuilder) -> Vec<Sampled> {
    let sealed = builder.seal();
    let view = TelemetryView::open(&sealed.body, sealed.record_count).unwrap();
    view.iter().map(|row| Sampled::new(&view.identity(row.series), &row)).collect()
}

/// A temporary file that holds `text`.
pub(crate) fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("input.csv");
    std::fs::File::create(&path).unwrap().write_all(text).unwrap();
    (dir, path)
}

/// Reads `text` as a file with `settings` applied.
pub(crate) fn read_with(
    text: &[u8],
    settings: impl FnOnce(&mut CsvConfig),
) -> (Vec<Sampled>, SourceStats, Option<SourceError>) {
    let (_dir, path) = file(text);
    let mut config = CsvConfig::new(Input::File(path));
    settings(&mut config);
    let mut source = CsvSource::open(config).unwrap();
    let (found, failure) = drain(&mut source, usize::MAX);
    (found, source.stats().clone(), failure)
}

pub(crate) fn read(text: &str) -> (Vec<Sampled>, SourceStats) {
    let (found, stats, failure) = read_with(text.as_bytes(), |_| {});
    assert!(failure.is_none(), "{failure:?}");
    (found, stats)
}
