//! Files that are broken in every way we know of.

use lanecast_producer::csv::{CsvConfig, CsvSource, Input};
use lanecast_producer::{RejectReason, SourceError};
use std::io::Write;

use crate::drain::{file, read, read_with};

const HEADER: &str = "timestamp,uuid,gpu_id,metric_name,value,labels\n";

fn reason_of(row: &[u8]) -> Option<&'static str> {
    let mut text = HEADER.as_bytes().to_vec();
    text.extend_from_slice(row);
    text.extend_from_slice(b"\n1752871354,GOOD,0,M,1,\n");
    let (found, stats, failure) = read_with(&text, |_| {});
    assert!(failure.is_none());
    assert_eq!(found.last().unwrap().uuid, "GOOD", "the row after a bad one is read");
    assert_eq!(stats.rows_read, 2);
    assert!(stats.rows_rejected.total() <= 1);
    let reason = stats.rows_rejected.iter().next();
    reason.map(|(reason, _)| reason.name())
}

#[test]
fn each_kind_of_bad_row_is_rejected_for_its_reason_and_the_next_row_is_read() {
    let long = format!("1,{},0,M,1,", "u".repeat(2000));
    let many_labels: String = (0..65).map(|i| format!("k{i}=v;")).collect();
    for (row, reason) in [
        (&b"1752871354,G,0,M,1"[..], "field_count"),
        (b"1752871354,G,0,M,1,,", "field_count"),
        (b"1752871354,\"G\"x,0,M,1,", "bad_quotes"),
        (b"1752871354,G,0,M,1,\"open", "bad_quotes"),
        (b"1752871354,G\xff,0,M,1,", "not_utf8"),
        (b"1752871354,G,0,M\xff,1,", "not_utf8"),
        (b"yesterday,G,0,M,1,", "bad_timestamp"),
        (b"\xff,G,0,M,1,", "bad_timestamp"),
        (b"1752871354,,0,M,1,", "missing_uuid"),
        (b"1752871354,G,0,,1,", "missing_metric"),
        (b"1752871354,G,zero,M,1,", "bad_gpu_index"),
        (b"1752871354,G,-1,M,1,", "bad_gpu_index"),
        (b"1752871354,G,0,M,12abc,", "bad_value"),
        (b"1752871354,G,0,M,\xff,", "bad_value"),
        (b"1752871354,G,0,M,NaN,", "not_finite"),
        (b"1752871354,G,0,M,-inf,", "not_finite"),
        (b"1752871354,G,0,M,1e999,", "not_finite"),
        (b"1752871354,G,0,M,1,novalue", "bad_labels"),
        (b"1752871354,G,0,M,1,a=1;a=2", "bad_labels"),
        (many_labels_row(&many_labels).as_slice(), "bad_labels"),
        (long.as_bytes(), "limit_exceeded"),
    ] {
        assert_eq!(reason_of(row), Some(reason), "{}", String::from_utf8_lossy(row));
    }
    assert_eq!(reason_of(b",G,0,M,1,"), None, "now needs no source time");
}

fn many_labels_row(labels: &str) -> Vec<u8> {
    format!("1752871354,G,0,M,1,{labels}").into_bytes()
}

#[test]
fn huge_field_is_one_rejected_row() {
    let mut text = HEADER.as_bytes().to_vec();
    text.extend_from_slice(b"1,G,0,M,1,\"");
    text.resize(5 * 1024 * 1024, b'x');
    text.extend_from_slice(b"\n1752871354,G,0,M,1,\n");
    let (found, stats, _) = read_with(&text, |_| {});
    assert_eq!((found.len(), stats.rows_rejected.of(RejectReason::RowTooLong)), (1, 1));
}

#[test]
fn row_without_a_time_is_rejected_where_the_time_is_needed() {
    let text = format!("{HEADER},G,0,M,1,\n1752871354,G,0,M,1,\n");
    let (found, stats, _) = read_with(text.as_bytes(), |config| {
        config.timestamps = lanecast_producer::Timestamps::Original;
    });
    assert_eq!((found.len(), stats.rows_rejected.of(RejectReason::MissingTimestamp)), (1, 1));
}

#[test]
fn rejected_rows_are_written_down_as_they_stood_and_can_be_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let rejects = dir.path().join("rejects.csv");
    let text = "uuid,metric,value,labels\nG,M,1,\nG,M,\"o\"\"ops\",\nG,M\nG,\"M\"x,1,\n";
    let (found, stats, _) =
        read_with(text.as_bytes(), |config| config.rejects = Some(rejects.clone()));
    assert_eq!((found.len(), stats.rows_rejected.total()), (1, 3));
    let written = std::fs::read_to_string(&rejects).unwrap();
    let expected = "reject_line,reject_column,reject_reason,uuid,metric,value,labels\n\
                    3,\"3 (value)\",\"bad_value: \"\"o\\\"\"\\\"\"ops\"\"\",G,M,\"o\"\"ops\",\n\
                    4,\"-\",\"field_count: has 2 fields, the header 4\",G,M\n\
                    5,\"2 (metric)\",\"bad_quotes: text after the closing quote\",G,\"M\"x,1,\n";
    assert_eq!(written, expected);

    let repaired = written.replace("\"o\"\"ops\"", "5");
    let (found, stats) = read(&repaired);
    assert_eq!((found.len(), found[0].value), (1, 5.0));
    assert_eq!(stats.rows_rejected.total(), 2);
}

#[test]
fn strict_run_stops_at_the_first_bad_row_and_says_where() {
    let text = b"uuid,metric,value\nG,M,1\nG,M,x\nG,M,2\n";
    let (found, stats, failure) = read_with(text, |config| config.strict = true);
    assert_eq!((found.len(), stats.rows_rejected.total()), (1, 1));
    let error = failure.unwrap();
    assert!(matches!(error, SourceError::Strict { line: 3, .. }));
    assert!(error.to_string().contains("line 3, column 3 (value): bad_value"), "{error}");
}

#[test]
fn truncated_gzip_gives_its_rows_and_then_an_error() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"uuid,metric,value\n").unwrap();
    for row in 0..100_000_u64 {
        // Digits that do not compress well, so that the cut is in the midst of them.
        let value = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        writeln!(encoder, "G,M,{value}").unwrap();
    }
    let packed = encoder.finish().unwrap();
    let (found, _, failure) = read_with(&packed[..packed.len() / 2], |_| {});
    assert!(found.len() > 1000, "{}", found.len());
    let error = failure.unwrap();
    assert!(matches!(error, SourceError::Read { line, .. } if line > 1000), "{error}");
    assert!(error.to_string().contains("cut short"));
}

#[test]
fn unusable_files_are_refused_when_opened() {
    let open = |text: &[u8]| {
        let (_dir, path) = file(text);
        CsvSource::open(CsvConfig::new(Input::File(path))).err().unwrap()
    };
    assert!(matches!(open(b""), SourceError::Empty { .. }));
    assert!(matches!(open(b"\n\n"), SourceError::Empty { .. }));
    assert!(matches!(open(b"\"uuid,metric,value\n"), SourceError::Header { .. }));
    let error = open(b"host,metric,value\n1,2,3\n").to_string();
    assert!(error.contains("uuid, gpu_uuid") && error.contains("host, metric, value"), "{error}");
    let missing = CsvSource::open(CsvConfig::new(Input::File("/nonexistent.csv".into())));
    assert!(matches!(missing.err().unwrap(), SourceError::Open { .. }));
}
