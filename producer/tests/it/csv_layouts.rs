//! Every shape of file that is accepted.

use std::io::Write;

use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::{ShardOf, Source, SourceError, Step, Timestamps};
use proptest::prelude::*;

use crate::drain::{NOW_MS, drain, file, read, read_with};

const LABELS: &str = r#"Hostname=""h1"",UUID=""GPU-1"",__name__=""TEMP"",job=""x"""#;

#[test]
fn quoted_exporter_row_is_read_with_its_extra_labels() {
    let (found, stats) = read(&format!(
        "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace,\
         value,labels_raw\n\
         \"2025-07-18T20:42:34Z\",\"TEMP\",\"3\",\"nvidia3\",\"GPU-1\",\"H100\",\"h1\",\"\",\"\",\
         \"prod\",\"41.5\",\"{LABELS}\"\n"
    ));
    assert_eq!((stats.rows_read, stats.rows_rejected.total(), found.len()), (1, 0, 1));
    let sample = &found[0];
    assert_eq!((sample.uuid.as_str(), sample.gpu_index, sample.value), ("GPU-1", 3, 41.5));
    assert_eq!((sample.hostname.as_str(), sample.namespace.as_str()), ("h1", "prod"));
    assert_eq!((sample.ts_ms, sample.source_ts_ms), (NOW_MS, 1_752_871_354_000));
    assert_eq!(sample.labels, [("job".to_owned(), "x".to_owned())].into());
}

#[test]
fn unquoted_reordered_aliased_columns_with_bare_labels_and_short_ids_are_read() {
    let (found, _) = read(
        "Value,labels,GPU,Model_Name,HOST,metric,UUID,time\n\
         7,zone=a;rack=12,2,A100,h9,UTIL,gpu-7,1752871354\n",
    );
    let sample = &found[0];
    assert_eq!((sample.uuid.as_str(), sample.gpu_index), ("gpu-7", 2));
    assert_eq!((sample.model.as_str(), sample.hostname.as_str()), ("A100", "h9"));
    assert_eq!((sample.metric.as_str(), sample.value), ("UTIL", 7.0));
    assert_eq!(sample.source_ts_ms, 1_752_871_354_000);
    let expected = [("rack".to_owned(), "12".to_owned()), ("zone".to_owned(), "a".to_owned())];
    assert_eq!(sample.labels, expected.into());
}

#[test]
fn id_in_the_gpu_column_stands_in_for_a_missing_uuid_column() {
    let (found, stats) = read("gpu_id,device,metric,value\ngpu-5,nvidia6,U,1\n5,nvidia5,U,1\n");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].uuid.as_str(), found[0].gpu_index), ("gpu-5", 6));
    assert_eq!(stats.rows_rejected.iter().next().unwrap().0.name(), "missing_uuid");
}

#[test]
fn wide_layout_gives_one_sample_per_filled_cell() {
    let (found, stats) = read(
        "timestamp,uuid,gpu,DCGM_FI_DEV_GPU_UTIL,note,DCGM_FI_DEV_GPU_TEMP\n\
         2025-07-18T20:42:34Z,GPU-1,0,97,hello,51\n\
         2025-07-18T20:42:34Z,GPU-2,1,,x,9223372036854775792\n\
         2025-07-18T20:42:35Z,GPU-1,0,5,,oops\n",
    );
    let short: Vec<_> =
        found.iter().map(|s| (s.uuid.as_str(), s.metric.as_str(), s.value)).collect();
    let (util, temp) = ("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_TEMP");
    assert_eq!(short, [("GPU-1", util, 97.0), ("GPU-1", temp, 51.0)]);
    assert_eq!((stats.rows_read, stats.dropped_blank), (3, 2));
    assert_eq!(stats.rows_rejected.total(), 1, "a row with one bad cell is rejected whole");
}

#[test]
fn blank_values_and_exporter_sentinels_are_dropped_and_counted() {
    let (found, stats) = read(
        "uuid,metric,value\nG,M,\nG,M,9223372036854775792\nG,M,9223372036854775794\nG,M, \n\
         G,M,9e18\n",
    );
    assert_eq!((found.len(), stats.dropped_blank), (1, 4));
    assert_eq!((found[0].value, stats.rows_rejected.total()), (9e18, 0));
}

#[test]
fn gzip_is_recognised_by_its_content() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"uuid,metric,value\nG,M,1\nG,M,2\n").unwrap();
    let packed = encoder.finish().unwrap();
    let (found, stats, failure) = read_with(&packed, |_| {});
    assert!(failure.is_none());
    assert_eq!((found.len(), stats.bytes_read), (2, 30));
}

#[test]
fn timestamps_are_kept_shifted_or_replaced() {
    let text = "ts,uuid,metric,value\n100,G,M,1\n90,G,M,2\n";
    for (rule, expected) in [
        (Timestamps::Now, [NOW_MS, NOW_MS]),
        (Timestamps::Original, [100_000, 90_000]),
        (Timestamps::Shift, [NOW_MS, NOW_MS - 10_000]),
    ] {
        let (found, ..) = read_with(text.as_bytes(), |config| config.timestamps = rule);
        assert_eq!(found.iter().map(|s| s.ts_ms).collect::<Vec<_>>(), expected, "{rule:?}");
        assert_eq!(found.iter().map(|s| s.source_ts_ms).collect::<Vec<_>>(), [100_000, 90_000]);
    }
}

#[test]
fn repeated_file_starts_over_with_the_same_series() {
    let (_dir, path) = file(b"uuid,metric,value\nG,M,1\nH,M,2\n");
    let mut source =
        CsvSource::open(CsvConfig { repeat: true, ..CsvConfig::new(Input::File(path)) }).unwrap();
    let (found, failure) = drain(&mut source, 5);
    assert!(failure.is_none());
    let values: Vec<f64> = found.iter().map(|sample| sample.value).collect();
    assert_eq!(values, [1.0, 2.0, 1.0, 2.0, 1.0]);
    assert_eq!((source.stats().passes, source.catalog().series_count()), (2, 2));
}

#[test]
fn repeating_standard_input_is_refused() {
    let config = CsvConfig { repeat: true, ..CsvConfig::new(Input::Stdin) };
    let error = CsvSource::open(config).err().unwrap();
    assert!(matches!(error, SourceError::Setting { setting: "loop", .. }));
}

#[test]
fn file_of_only_bad_rows_lets_others_run() {
    let mut text = b"uuid,metric,value\n".to_vec();
    text.extend(b"G,M,x\n".repeat(5000));
    let (_dir, path) = file(&text);
    let mut source = CsvSource::open(CsvConfig::new(Input::File(path))).unwrap();
    assert_eq!(source.next(NOW_MS).unwrap(), Step::Busy);
    assert!(source.stats().rows_read < 5000);
}

proptest! {
    #[test]
    fn shards_share_a_file_without_overlap_or_gap(
        count in 1_u32..20,
        uuids in proptest::collection::vec("[a-f0-9]{1,12}", 1..60),
    ) {
        let mut text = String::from("uuid,metric,value\n");
        for (at, uuid) in uuids.iter().enumerate() {
            // Some rows are bad: each is reported by one instance alone, too.
            let value = if at % 7 == 3 { "bad".to_owned() } else { at.to_string() };
            text.push_str(&format!("{uuid},M,{value}\n"));
        }
        let mut values = Vec::new();
        let mut rejected = 0;
        for index in 0..count {
            let (found, stats, _) = read_with(text.as_bytes(), |config| {
                config.shard = ShardOf::new(index, count).unwrap();
            });
            values.extend(found.iter().map(|sample| sample.value as usize));
            rejected += stats.rows_rejected.total();
            let (ours, others) = (found.len() as u64, stats.rows_of_other_shards);
            prop_assert_eq!(ours + others + stats.rows_rejected.total(), uuids.len() as u64);
        }
        values.sort_unstable();
        let expected: Vec<usize> = (0..uuids.len()).filter(|at| at % 7 != 3).collect();
        prop_assert_eq!(values, expected);
        prop_assert_eq!(rejected as usize, (0..uuids.len()).filter(|at| at % 7 == 3).count());
    }
}
