//! The bytes of version 1, written down once. A change here breaks every stored log.

use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
use lanecast_wire::builder::{BodyBuilder, SealedBody};

use crate::fleet::open;

const GOLDEN: &str = include_str!("golden/body-v1.hex");

fn body() -> SealedBody {
    let mut catalog = SeriesCatalog::new();
    let labels = [("instance", "node-1:9400"), ("job", "dcgm")];
    let first = Identity {
        uuid: "GPU-0a",
        device: "nvidia0",
        model: "NVIDIA H100 80GB HBM3",
        hostname: "node-1",
        namespace: "train",
        gpu_index: 0,
        labels: &labels,
        ..Identity::default()
    };
    let second = Identity { uuid: "GPU-0b", gpu_index: 1, labels: &[], ..first };
    let series = [catalog.series(&first).unwrap(), catalog.series(&second).unwrap()];
    let metrics = [catalog.metric("POWER").unwrap(), catalog.metric("TEMP").unwrap()];
    let mut builder = TelemetryBuilder::empty();
    for row in 0..3 {
        let sample = Sample {
            catalog: &catalog,
            series: series[row % 2],
            metric: metrics[row / 2],
            ts_ms: 1_763_697_600_000 + row as i64,
            source_ts_ms: 1_752_871_354_000,
            value: 41.5 * row as f64,
        };
        builder.push(&sample).unwrap();
    }
    builder.seal()
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes
        .chunks(32)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n");
    lines.collect()
}

#[test]
fn builder_writes_the_golden_bytes() {
    assert_eq!(hex(&body().body), GOLDEN, "this build writes:\n{}", hex(&body().body));
}

/// Two GPUs and one host; computed by hand from the drawing in `lanecast_wire::summary`.
#[test]
fn builder_writes_the_golden_summary() {
    assert_eq!(hex(&body().summary), "8004080c11020041\n");
}

#[test]
fn golden_bytes_read_as_what_was_written() {
    let digits: Vec<u8> = GOLDEN.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap());
    let sealed = SealedBody { body: bytes.collect(), ..body() };
    let view = open(&sealed);
    let rows: Vec<_> = view.iter().map(|row| (row.series, row.metric, row.value)).collect();
    assert_eq!(rows, [(0, "POWER", 0.0), (1, "POWER", 41.5), (0, "TEMP", 83.0)]);
    assert_eq!(view.identity(0).labels, [("instance", "node-1:9400"), ("job", "dcgm")]);
    assert_eq!(view.identity(1).uuid, "GPU-0b");
    assert_eq!(view.identity(1).namespace, "train");
}
