//! The files of `samples/` are what the generator writes with the settings that their README names.
//!
//! After a change of the generator, `LANECAST_WRITE_SAMPLES=1 cargo test -p lanecast-producer
//! samples` writes them anew.

use std::path::{Path, PathBuf};

use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{CsvFile, CsvFileConfig, CsvLayout, PublishConfig, Timestamps, publish};

use crate::drain::read_with;

struct SampleFile {
    name: &'static str,
    hosts: u32,
    gpus_per_host: u32,
    rounds: u64,
    layout: CsvLayout,
    spoil_every: Option<u64>,
}

const FILES: [SampleFile; 3] = [
    SampleFile {
        name: "fleet-snapshot.csv",
        hosts: 4,
        gpus_per_host: 8,
        rounds: 1,
        layout: CsvLayout::Long,
        spoil_every: None,
    },
    SampleFile {
        name: "fleet-wide.csv",
        hosts: 2,
        gpus_per_host: 4,
        rounds: 5,
        layout: CsvLayout::Wide,
        spoil_every: None,
    },
    SampleFile {
        name: "bad-rows.csv",
        hosts: 1,
        gpus_per_host: 4,
        rounds: 2,
        layout: CsvLayout::Long,
        spoil_every: Some(5),
    },
];

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("samples")
}

async fn write(file: &SampleFile, path: &Path) {
    let config = GenerateConfig {
        seed: 1,
        hosts: file.hosts,
        gpus_per_host: file.gpus_per_host,
        missing_gpus: 0,
        duration_ms: Some(file.rounds * 1000),
        // 2026-01-01T00:00:00Z
        start_ms: Some(1_767_225_600_000),
        timestamps: Timestamps::Original,
        real_time: false,
        ..GenerateConfig::default()
    };
    let mut source = GenerateSource::new(config).unwrap();
    let SampleFile { layout, spoil_every, .. } = *file;
    let settings = CsvFileConfig { path: path.to_owned(), layout, spoil_every };
    let mut sink = CsvFile::create(&settings, source.metric_names()).unwrap();
    let stop = core::future::pending();
    publish(&mut source, &mut sink, &PublishConfig::default(), stop, |_| {}).await.unwrap();
}

#[tokio::test]
async fn sample_files_are_what_the_generator_writes() {
    let dir = tempfile::tempdir().unwrap();
    for file in &FILES {
        let kept = samples().join(file.name);
        if std::env::var_os("LANECAST_WRITE_SAMPLES").is_some() {
            write(file, &kept).await;
        }
        let fresh = dir.path().join(file.name);
        write(file, &fresh).await;
        let same = std::fs::read(&fresh).unwrap() == std::fs::read(&kept).unwrap();
        assert!(same, "{} is stale: see the head of this file", file.name);
    }
}

#[test]
fn sample_files_read_as_their_readme_says() {
    for (name, rows, samples_read, rejected, blank) in [
        ("fleet-snapshot.csv", 320, 320, 0, 0),
        ("fleet-wide.csv", 40, 400, 0, 0),
        ("bad-rows.csv", 80, 64, 12, 4),
    ] {
        let text = std::fs::read(samples().join(name)).unwrap();
        let (found, stats, failure) = read_with(&text, |_| {});
        assert!(failure.is_none());
        assert_eq!((stats.rows_read, found.len()), (rows, samples_read), "{name}");
        assert_eq!((stats.rows_rejected.total(), stats.dropped_blank), (rejected, blank), "{name}");
    }
}
