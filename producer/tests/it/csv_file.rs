//! Generated fleets written as CSV files, and read again.

use std::path::Path;

use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{
    CsvFile, CsvFileConfig, CsvLayout, PublishConfig, Report, SourceError, Timestamps, publish,
};

use crate::drain::{Sampled, drain, read_with};

fn config() -> GenerateConfig {
    GenerateConfig {
        hosts: 3,
        gpus_per_host: 4,
        duration_ms: Some(2000),
        start_ms: Some(1_763_697_600_000),
        timestamps: Timestamps::Original,
        real_time: false,
        ..GenerateConfig::default()
    }
}

async fn write(path: &Path, layout: CsvLayout, spoil_every: Option<u64>) -> Report {
    let mut source = GenerateSource::new(config()).unwrap();
    let settings = CsvFileConfig { path: path.to_owned(), layout, spoil_every };
    let mut sink = CsvFile::create(&settings, source.metric_names()).unwrap();
    let stop = core::future::pending();
    publish(&mut source, &mut sink, &PublishConfig::default(), stop, |_| {}).await.unwrap()
}

fn generated() -> Vec<Sampled> {
    drain(&mut GenerateSource::new(config()).unwrap(), usize::MAX).0
}

#[tokio::test]
async fn written_fleet_reads_back_as_it_was_generated_in_both_layouts() {
    let dir = tempfile::tempdir().unwrap();
    for layout in [CsvLayout::Long, CsvLayout::Wide] {
        let path = dir.path().join("fleet.csv");
        let report = write(&path, layout, None).await;
        assert_eq!(report.rows_acknowledged, 11 * 10 * 2);
        let text = std::fs::read(&path).unwrap();
        assert_eq!(report.bytes, text.len() as u64);
        let (found, stats, failure) =
            read_with(&text, |config| config.timestamps = Timestamps::Original);
        assert!(failure.is_none() && stats.rows_rejected.total() == 0);
        assert_eq!(found, generated(), "{layout:?}");
    }
}

#[tokio::test]
async fn long_file_has_the_shape_of_an_exporters_dump() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.csv");
    write(&path, CsvLayout::Long, None).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines = text.lines();
    assert_eq!(
        lines.next().unwrap(),
        "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,\
         value,labels_raw"
    );
    let first = lines.next().unwrap();
    assert!(
        first.starts_with(r#""2025-11-21T04:00:00Z","DCGM_FI_DEV_GPU_UTIL","0","nvidia0","GPU-"#),
        "{first}"
    );
    let labels = r#""DCGM_FI_DRIVER_VERSION=""550.90.07"",Hostname=""gpu-node-001"",UUID=""GPU-"#;
    assert!(first.contains(labels), "{first}");
    assert!(first.ends_with(r#"job=""dcgm_exporter"",modelName=""NVIDIA H100 80GB HBM3""""#));
}

#[tokio::test]
async fn spoiled_rows_are_those_that_a_reader_rejects_or_drops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spoiled.csv");
    write(&path, CsvLayout::Long, Some(11)).await;
    let (found, stats, _) = read_with(&std::fs::read(&path).unwrap(), |_| {});
    // 220 rows, 20 of them spoiled: six ways to be rejected, two to have no value.
    assert_eq!((found.len(), stats.rows_read), (200, 220));
    assert_eq!((stats.rows_rejected.total(), stats.dropped_blank), (16, 4));
    let reasons: Vec<&str> = stats.rows_rejected.iter().map(|(reason, _)| reason.name()).collect();
    let expected =
        ["bad_quotes", "field_count", "bad_timestamp", "missing_uuid", "bad_value", "not_finite"];
    assert_eq!(reasons, expected);
}

#[test]
fn file_that_cannot_be_created_and_senseless_settings_are_errors() {
    let config = |path: &str, layout, spoil_every| {
        let config = CsvFileConfig { path: path.into(), layout, spoil_every };
        CsvFile::create(&config, Vec::new()).err().unwrap()
    };
    let error = config("/nonexistent/dir/file.csv", CsvLayout::Long, None);
    assert!(matches!(error, SourceError::Create { .. }));
    assert!(matches!(config("-", CsvLayout::Wide, Some(2)), SourceError::Setting { .. }));
    assert!(matches!(config("-", CsvLayout::Long, Some(0)), SourceError::Setting { .. }));
}
