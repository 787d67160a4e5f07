//! Rows as JSON objects.
//!
//! Rows of a page are of one GPU, and those of one moment follow each other: most of a row is what
//! the row before had. So what a field looked like is kept, and copied while its cell stays the same.

use lanecast_store::read::SampleRow;

use super::column::{Cell, Column};
use super::number::{write_number, write_record, write_whole};
use super::write_time;

/// Writes rows as objects of the same columns.
pub(crate) struct JsonRows {
    fields: Vec<Field>,
}

/// One column, and its field in the row before.
struct Field {
    column: Column,
    /// What stands before the cell, from the separator on.
    head: Vec<u8>,
    cell: Kept,
    /// The cell as text.
    text: Vec<u8>,
}

/// The cell of the row before, where it is worth keeping.
#[derive(PartialEq)]
enum Kept {
    Nothing,
    Time(i64),
    Text(String),
    Whole(u32),
}

impl JsonRows {
    pub(crate) fn new(columns: &[Column]) -> Self {
        let field = |(index, column): (usize, &Column)| Field {
            column: *column,
            head: format!("{}\"{}\":", if index == 0 { '{' } else { ',' }, column.name()).into(),
            cell: Kept::Nothing,
            text: Vec::new(),
        };
        Self { fields: columns.iter().enumerate().map(field).collect() }
    }

    /// Appends one row.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, row: &SampleRow<'_>) {
        for field in &mut self.fields {
            out.extend_from_slice(&field.head);
            match field.column.cell(row) {
                Cell::Time(ms) => field.keep(out, Kept::Time(ms), |out| {
                    out.push(b'"');
                    write_time(out, ms);
                    out.push(b'"');
                }),
                Cell::Text(text) => field.keep_text(out, text),
                Cell::Whole(value) => field.keep(out, Kept::Whole(value), |out| {
                    write_whole(out, value.into());
                }),
                Cell::Record(partition, offset) => {
                    out.push(b'"');
                    write_record(out, partition, offset);
                    out.push(b'"');
                }
                Cell::Owned(text) => write_text(out, &text),
                Cell::Number(value) => {
                    if !write_number(out, value) {
                        out.extend_from_slice(b"null");
                    }
                }
            }
        }
        out.push(b'}');
    }
}

impl Field {
    fn keep(&mut self, out: &mut Vec<u8>, cell: Kept, write: impl FnOnce(&mut Vec<u8>)) {
        if self.cell != cell {
            self.cell = cell;
            self.text.clear();
            write(&mut self.text);
        }
        out.extend_from_slice(&self.text);
    }

    /// As [`keep`](Self::keep), into the room that the text before has.
    fn keep_text(&mut self, out: &mut Vec<u8>, text: &str) {
        // An empty text, of which there are many, points nowhere: to compare it costs the C library's
        // `memcmp` a fault that the CPU takes and hides, ten times what the rest of the field costs.
        if text.is_empty() {
            out.extend_from_slice(b"\"\"");
            return;
        }
        match &mut self.cell {
            Kept::Text(before) if before == text => {}
            Kept::Text(before) => {
                before.clear();
                before.push_str(text);
                self.text.clear();
                write_text(&mut self.text, text);
            }
            Kept::Nothing | Kept::Time(_) | Kept::Whole(_) => {
                self.cell = Kept::Text(text.to_owned());
                self.text.clear();
                write_text(&mut self.text, text);
            }
        }
        out.extend_from_slice(&self.text);
    }
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
        JsonRows::new(columns(false)).write(&mut out, &row());
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
        JsonRows::new(columns(true)).write(&mut out, &row());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let labels = value["labels_raw"].as_str().unwrap();
        assert!(labels.contains(r#"UUID="GPU-1""#) && labels.contains(r#"job="dgx""#), "{labels}");
    }

    #[test]
    fn value_that_json_cannot_hold_is_null() {
        let mut out = Vec::new();
        JsonRows::new(columns(false)).write(&mut out, &SampleRow { value: f64::NAN, ..row() });
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(value["value"].is_null());
    }

    #[test]
    fn a_row_looks_the_same_after_any_other() {
        let others = [
            row(),
            SampleRow { ts: -1, source_ts: 0, metric: "a\"", gpu_index: 4, ..row() },
            SampleRow { device: "", hostname: "h", topic_offset: u64::MAX, value: -0.5, ..row() },
            SampleRow { gpu_uuid: "GPU-2", model: "\u{1}", pod: "p", labels: vec![], ..row() },
        ];
        for one in &others {
            let mut alone = Vec::new();
            JsonRows::new(columns(true)).write(&mut alone, one);
            for before in &others {
                let (mut rows, mut out) = (JsonRows::new(columns(true)), Vec::new());
                rows.write(&mut out, before);
                out.clear();
                rows.write(&mut out, one);
                assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&alone));
            }
        }
    }
}
