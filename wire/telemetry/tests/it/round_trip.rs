//! What goes into a builder comes out of a view.

use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder, labels, limits};
use lanecast_wire::batch::schema;
use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::summary::may_contain;
use lanecast_wire::{KeyFilter, KeyHash, KeyKind};
use proptest::prelude::*;

use crate::fleet::{Fleet, METRICS, open};

#[test]
fn rows_come_back_in_order_with_their_identities() {
    let fleet = Fleet::new(3);
    let sealed = fleet.seal(100);
    assert_eq!((sealed.schema, sealed.record_count), (schema::TELEMETRY, 100));
    assert_eq!((sealed.min_time_ms, sealed.max_time_ms), (1_763_697_600_000, 1_763_697_600_099));
    let view = open(&sealed);
    assert_eq!((view.rows(), view.series(), view.metrics()), (100, 24, 5));
    for (index, row) in view.iter().enumerate() {
        let identity = view.identity(row.series);
        assert_eq!(identity.uuid, fleet.catalog.uuid(fleet.series[index % 24]));
        assert_eq!(identity.gpu_index as usize, index % 8);
        assert_eq!(identity.labels[2], ("job", "dgx_dcgm_exporter"));
        assert_eq!(row.metric, METRICS[index / 24]);
        assert_eq!(row.ts_ms, 1_763_697_600_000 + index as i64);
        assert_eq!(row.source_ts_ms, 1_752_871_354_000 + (index as i64 % 4) * 1000);
        assert_eq!(row.value, index as f64);
    }
}

#[test]
fn sealing_empties_the_builder_and_the_next_batch_stands_alone() {
    let fleet = Fleet::new(2);
    let mut builder = TelemetryBuilder::empty();
    let empty = builder.body_bytes();
    for row in 0..40 {
        builder.push(&fleet.sample(row)).unwrap();
    }
    let first = builder.seal();
    assert_eq!((builder.record_count(), builder.body_bytes()), (0, empty));
    for row in 0..40 {
        builder.push(&fleet.sample(row)).unwrap();
    }
    assert_eq!(builder.seal(), first);
}

#[test]
fn batch_that_mixes_two_catalogs_keeps_each_rows_identity() {
    let (a, b) = (Fleet::new(1), Fleet::new(2));
    let mut builder = TelemetryBuilder::empty();
    builder.push(&a.sample(3)).unwrap();
    builder.push(&b.sample(12)).unwrap();
    builder.push(&a.sample(3)).unwrap();
    let sealed = builder.seal();
    let view = open(&sealed);
    let uuids: Vec<&str> = view.iter().map(|row| view.identity(row.series).uuid).collect();
    let (x, y) = (a.catalog.uuid(a.series[3]), b.catalog.uuid(b.series[12]));
    assert_eq!(uuids, [x, y, x]);
}

#[test]
fn summary_has_every_gpu_and_host_of_the_batch() {
    let fleet = Fleet::new(4);
    let sealed = fleet.seal(100);
    let view = open(&sealed);
    for code in 0..view.series() {
        let who = view.identity(code);
        let gpu = KeyHash::of(KeyKind::Gpu, who.uuid.as_bytes());
        let host = KeyHash::of(KeyKind::Host, who.hostname.as_bytes());
        assert!(may_contain(&sealed.summary, gpu) && may_contain(&sealed.summary, host));
    }
    // 32 GPUs and 4 hosts, at 10 bits each.
    assert_eq!(sealed.summary.len(), 64);
    let other = |n: u32| KeyHash::of(KeyKind::Gpu, format!("GPU-{n}").as_bytes());
    let passed = (0..1000).filter(|n| may_contain(&sealed.summary, other(*n))).count();
    assert!(passed < 20, "{passed} of 1000 that are not in");
}

#[test]
fn matching_gives_the_rows_of_the_gpus_and_hosts_that_are_wanted() {
    let fleet = Fleet::new(3);
    let sealed = fleet.seal(100);
    let view = open(&sealed);
    let identity = |series: usize| view.identity(series);
    let (gpu, host) = (identity(1).uuid, identity(9).hostname);
    let filter = KeyFilter::default().gpu(gpu).host(host);
    let found: Vec<usize> = view.matching(&filter).map(|(row, _)| row).collect();
    let wanted = |row: &usize| row % 24 == 1 || (8..16).contains(&(row % 24));
    assert_eq!(found, (0..100).filter(wanted).collect::<Vec<_>>());
    assert!(view.matching(&filter).all(|(index, row)| row.value == index as f64));
    // What is a host's name is no GPU's, and no filter lets everything pass.
    assert_eq!(view.matching(&KeyFilter::default().gpu(host)).count(), 0);
    assert_eq!(view.matching(&KeyFilter::default()).count(), 100);
}

#[test]
fn samples_outside_the_limits_are_refused_and_leave_the_batch_alone() {
    let fleet = Fleet::new(1);
    let good = fleet.sample(0);
    let mut builder = TelemetryBuilder::empty();
    for (bad, field) in [
        (Sample { value: f64::NAN, ..good }, "value"),
        (Sample { value: f64::INFINITY, ..good }, "value"),
        (Sample { ts_ms: -1, ..good }, "timestamp"),
        (Sample { ts_ms: limits::TIME_MS_MAX + 1, ..good }, "timestamp"),
        (Sample { source_ts_ms: i64::MIN, ..good }, "source timestamp"),
    ] {
        assert_eq!(builder.push(&bad).unwrap_err().field, field);
    }
    assert_eq!(builder.record_count(), 0);
    builder.push(&good).unwrap();
    assert_eq!(open(&builder.seal()).rows(), 1);
}

#[test]
fn empty_builder_seals_an_empty_batch() {
    let sealed = TelemetryBuilder::empty().seal();
    assert_eq!(open(&sealed).rows(), 0);
}

fn word() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zA-Z0-9 \\\\\"=,;\u{e9}\n-]{0,12}").unwrap()
}

proptest! {
    #[test]
    fn any_identity_and_value_survives(
        uuid in "[a-zA-Z0-9-]{1,40}",
        words in proptest::collection::vec(word(), 6),
        keys in proptest::collection::btree_map("[a-z_]{1,8}", word(), 0..6),
        gpu_index in any::<u32>(),
        ts_ms in limits::TIME_MS_MIN..=limits::TIME_MS_MAX,
        value in proptest::num::f64::NORMAL | proptest::num::f64::ZERO,
    ) {
        let pairs: Vec<(&str, &str)> =
            keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let identity = Identity {
            uuid: &uuid,
            device: &words[0],
            model: &words[1],
            hostname: &words[2],
            container: &words[3],
            pod: &words[4],
            namespace: &words[5],
            gpu_index,
            labels: &pairs,
        };
        let mut catalog = SeriesCatalog::new();
        let series = catalog.series(&identity).unwrap();
        let metric = catalog.metric("m").unwrap();
        let mut builder = TelemetryBuilder::empty();
        let sample =
            Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms: ts_ms, value };
        builder.push(&sample).unwrap();
        let estimate = builder.body_bytes();
        let sealed = builder.seal();
        prop_assert!(sealed.body.len() <= estimate);
        let view = open(&sealed);
        prop_assert_eq!(view.identity(0), identity);
        prop_assert_eq!(view.iter().next().unwrap().value.to_bits(), value.to_bits());

        // The text form of the same labels reads back as the same labels.
        let text = labels::render(&identity, "m");
        let mut set = labels::LabelSet::default();
        set.parse(&text).unwrap();
        let kept: Vec<(&str, &str)> = set
            .iter()
            .filter(|(key, value)| !labels::repeats_column(key, value, &identity, "m"))
            .collect();
        prop_assert_eq!(kept, pairs);
    }
}
