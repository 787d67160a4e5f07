//! Rows as JSON objects.

use lanecast_store::read::SampleRow;

use super::column::{Cell, Column};
use super::number::write_number;
use super::write_time;

/// Appends one row as an object of `columns`.
pub(crate) fn write_row(out: &mut Vec<u8>, columns: &[Column], row: &SampleRow<'_>) {
    for (index, column) in columns.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        out.push(b'"');
        out.extend_from_slice(column.name().as_bytes());
        out.extend_from_slice(b"\":");
        match column.cell(row) {
            Cell::Time(ms) => {
                out.push(b'"');
                write_time(out, ms);
                out.push(b'"');
            }
            Cell::Text(text) => write_text(out, text),
            Cell::Owned(text) => write_text(out, &text),
            Cell::Number(value) => {
                if !write_number(out, value) {
                    out.extend_from_slice(b"null");
                }
            }
            Cell::Whole(value) => out.extend_from_slice(value.to_string().as_bytes()),
        }
    }
    out.push(b'}');
}

/// Appends a JSON string.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing to a vector cannot fail");
}

#[cfg(test)]
mod tests {
    use super::super::column::columns;
    use super::*;

    pub(crate) fn row() -> SampleRow<'static> {
        SampleRow {
            ts: 1_752_871_354_000,
            source_ts: 1_752_871_354_001,
            metric: "DCGM_FI_DEV_GPU_UTIL",
            value: 97.5,
            gpu_uuid: "GPU-1",
            gpu_index: 3,
            device: "nvidia3",
            model: "H100",
            hostname: "host \"a\"\n",
            container: "",
            pod: "",
            namespace: "",
            labels: vec![("job", "dgx")],
            topic_partition: 2,
            topic_offset: 17,
        }
    }

    #[test]
    fn row_is_an_object_in_the_order_of_the_columns() {
        let mut out = Vec::new();
        write_row(&mut out, columns(false), &row());
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with(
            r#"{"timestamp":"2025-07-18T20:42:34.000Z","source_timestamp":"2025-07-18T20:42:34.001Z","metric_name":"DCGM_FI_DEV_GPU_UTIL","value":97.5,"id":"2-17","uuid":"GPU-1","gpu_id":3,"#
        ));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["hostname"], "host \"a\"\n");
        assert!(value.get("labels_raw").is_none());
    }

    #[test]
    fn labels_come_back_with_the_keys_that_repeat_columns() {
        let mut out = Vec::new();
        write_row(&mut out, columns(true), &row());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let labels = value["labels_raw"].as_str().unwrap();
        assert!(labels.contains(r#"UUID="GPU-1""#) && labels.contains(r#"job="dgx""#), "{labels}");
    }

    #[test]
    fn value_that_json_cannot_hold_is_null() {
        let mut out = Vec::new();
        write_row(&mut out, columns(false), &SampleRow { value: f64::NAN, ..row() });
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(value["value"].is_null());
    }
}
