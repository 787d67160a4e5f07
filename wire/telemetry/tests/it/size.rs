//! Bytes of a batch: what design.md promises, and what the builder foretells.

use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder, limits};
use lanecast_wire::builder::BodyBuilder;

use crate::fleet::{Fleet, open};

#[test]
fn thousand_rows_of_a_fleet_snapshot_take_at_most_57_bytes_each() {
    let sealed = Fleet::new(31).seal(1000);
    let bytes_per_row = sealed.body.len() as f64 / 1000.0;
    eprintln!("{bytes_per_row} bytes a row");
    assert!(bytes_per_row <= 57.0, "{bytes_per_row}");
}

#[test]
fn foretold_size_is_the_sealed_size() {
    let fleet = Fleet::new(4);
    for rows in [0, 1, 7, 100, 1000] {
        let mut builder = TelemetryBuilder::empty();
        for row in 0..rows {
            builder.push(&fleet.sample(row)).unwrap();
        }
        let foretold = builder.body_bytes();
        let sealed = builder.seal().body.len();
        assert!(sealed <= foretold && foretold - sealed <= 8, "{rows}: {sealed} of {foretold}");
    }
}

#[test]
fn one_record_adds_no_more_than_its_bound() {
    let mut catalog = SeriesCatalog::new();
    let keys: Vec<(String, String)> =
        (0..limits::LABELS_MAX).map(|i| (format!("key{i:02}"), format!("{i:050}"))).collect();
    let labels: Vec<(&str, &str)> =
        keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let heavy = Identity {
        uuid: &"u".repeat(100),
        device: "d",
        model: "m",
        hostname: "h",
        container: "c",
        pod: "p",
        namespace: "n",
        gpu_index: 0,
        labels: &labels,
    };
    let series = catalog.series(&heavy).unwrap();
    let metric = catalog.metric(&"m".repeat(limits::STRING_BYTES_MAX)).unwrap();
    let mut builder = TelemetryBuilder::empty();
    let before = builder.body_bytes();
    let sample =
        Sample { catalog: &catalog, series, metric, ts_ms: 1, source_ts_ms: 1, value: 0.0 };
    builder.push(&sample).unwrap();
    let added = builder.body_bytes() - before;
    assert!(added <= limits::RECORD_BYTES_MAX, "{added} of {}", limits::RECORD_BYTES_MAX);
    assert_eq!(open(&builder.seal()).identity(0).labels.len(), limits::LABELS_MAX);
}
