//! The snapshot of a real fleet, where the checkout has it beside.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lanecast_producer::Source;
use lanecast_producer::Timestamps;
use lanecast_producer::csv::{CsvConfig, CsvSource, Input};

use crate::drain::drain;

/// Beside the workspace, as the README says.
fn real_file() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let path = workspace.join("../shared/data/dcgm_metrics_20250718_134233.csv");
    if !path.exists() {
        eprintln!("skipped: {} is not here", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn every_row_of_the_real_file_comes_back_as_it_stands() {
    let Some(path) = real_file() else { return };
    let config =
        CsvConfig { timestamps: Timestamps::Original, ..CsvConfig::new(Input::File(path.clone())) };
    let mut source = CsvSource::open(config).unwrap();
    let (found, failure) = drain(&mut source, usize::MAX);
    assert!(failure.is_none());
    let stats = source.stats();
    assert_eq!((stats.rows_read, stats.rows_rejected.total(), stats.dropped_blank), (2470, 0, 0));
    assert_eq!(stats.bytes_read, std::fs::metadata(&path).unwrap().len());
    assert_eq!((source.catalog().series_count(), source.catalog().metric_count()), (247, 10));

    let mut judge = csv::Reader::from_path(&path).unwrap();
    let mut uuids = BTreeSet::new();
    let mut rows = 0;
    for (sample, row) in found.iter().zip(judge.records()) {
        let row = row.unwrap();
        let time: jiff::Timestamp = row[0].parse().unwrap();
        assert_eq!((sample.ts_ms, sample.source_ts_ms), (time.as_millisecond(), sample.ts_ms));
        assert_eq!(sample.metric, row[1]);
        assert_eq!(sample.gpu_index.to_string(), row[2]);
        assert_eq!(sample.device, row[3]);
        assert_eq!(sample.uuid, row[4]);
        assert_eq!(sample.model, row[5]);
        assert_eq!(sample.hostname, row[6]);
        assert_eq!(sample.value.to_string(), row[10]);
        assert_eq!(sample.labels_text, row[11], "labels come back byte for byte");
        assert_eq!(sample.labels.len(), 3);
        uuids.insert(sample.uuid.clone());
        rows += 1;
    }
    assert_eq!((rows, uuids.len()), (2470, 247));
}
