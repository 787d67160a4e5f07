//! Rows as an Arrow IPC stream: the schema, record batches, the end mark.
//!
//! ClickHouse could write Arrow itself, but then nobody here would know the last row of a page, by
//! which the next one is found, and its columns would not be those of the other formats: `id` and
//! `labels_raw` are made here. So it is the rows of all formats that are written, a batch at a time.

use std::sync::Arc;

use arrow_array::builder::{
    Float64Builder, StringBuilder, TimestampMillisecondBuilder, UInt32Builder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use lanecast_store::read::SampleRow;

use super::column::{COLUMNS, Cell, Column, ColumnKind};
use super::shown_ms;
use crate::limits;

const ZONE: &str = "UTC";
const TO_MEMORY: &str = "batches have the schema's columns, and a vector takes all";

pub(crate) struct ArrowStream {
    writer: StreamWriter<Vec<u8>>,
    schema: SchemaRef,
    columns: Vec<(Column, Builder)>,
    /// Of the batch that is being built.
    rows: usize,
    bytes: usize,
}

/// One column of a batch while it is built.
enum Builder {
    Time(TimestampMillisecondBuilder),
    Text(StringBuilder),
    Number(Float64Builder),
    Whole(UInt32Builder),
}

impl ArrowStream {
    /// Begins a stream at the end of `out`.
    pub(crate) fn new(out: Vec<u8>, columns: &[Column]) -> Self {
        let fields: Vec<_> = columns
            .iter()
            .map(|column| Field::new(column.name(), data_type(column.kind()), false))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let writer = StreamWriter::try_new(out, &schema).expect(TO_MEMORY);
        let columns = columns.iter().map(|column| (*column, Builder::new(column.kind()))).collect();
        Self { writer, schema, columns, rows: 0, bytes: 0 }
    }

    pub(crate) fn push(&mut self, row: &SampleRow<'_>) {
        for (column, builder) in &mut self.columns {
            self.bytes += builder.push(column.cell(row));
        }
        self.rows += 1;
        if self.rows == limits::ARROW_BATCH_ROWS {
            self.write_batch();
        }
    }

    /// What is written, and what will be.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.get_ref().len() + self.bytes
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        if self.rows > 0 {
            self.write_batch();
        }
        self.writer.into_inner().expect(TO_MEMORY)
    }

    fn write_batch(&mut self) {
        let arrays = self.columns.iter_mut().map(|(_, builder)| builder.finish()).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays).expect(TO_MEMORY);
        self.writer.write(&batch).expect(TO_MEMORY);
        (self.rows, self.bytes) = (0, 0);
    }
}

impl Builder {
    fn new(kind: ColumnKind) -> Self {
        match kind {
            ColumnKind::Time => Self::Time(TimestampMillisecondBuilder::new().with_timezone(ZONE)),
            ColumnKind::Text => Self::Text(StringBuilder::new()),
            ColumnKind::Number => Self::Number(Float64Builder::new()),
            ColumnKind::Whole => Self::Whole(UInt32Builder::new()),
        }
    }

    /// Takes a cell and says how many bytes it needs.
    fn push(&mut self, cell: Cell<'_>) -> usize {
        match (self, cell) {
            (Self::Time(column), Cell::Time(ms)) => {
                column.append_value(shown_ms(ms));
                size_of::<i64>()
            }
            (Self::Text(column), Cell::Text(text)) => push_text(column, text),
            (Self::Text(column), Cell::Owned(text)) => push_text(column, &text),
            (Self::Text(column), Cell::Record(partition, offset)) => {
                push_text(column, &format!("{partition}-{offset}"))
            }
            (Self::Number(column), Cell::Number(value)) => {
                column.append_value(value);
                size_of::<f64>()
            }
            (Self::Whole(column), Cell::Whole(value)) => {
                column.append_value(value);
                size_of::<u32>()
            }
            (Self::Time(_) | Self::Text(_) | Self::Number(_) | Self::Whole(_), _) => {
                unreachable!("the cells of a column are of its kind")
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Time(column) => Arc::new(column.finish()),
            Self::Text(column) => Arc::new(column.finish()),
            Self::Number(column) => Arc::new(column.finish()),
            Self::Whole(column) => Arc::new(column.finish()),
        }
    }
}

fn push_text(column: &mut StringBuilder, text: &str) -> usize {
    column.append_value(text);
    text.len() + size_of::<i32>()
}

fn data_type(kind: ColumnKind) -> DataType {
    match kind {
        ColumnKind::Time => DataType::Timestamp(TimeUnit::Millisecond, Some(ZONE.into())),
        ColumnKind::Text => DataType::Utf8,
        ColumnKind::Number => DataType::Float64,
        ColumnKind::Whole => DataType::UInt32,
    }
}

/// The type of a column as Arrow's own bindings write it.
fn type_name(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Time => "timestamp[ms, UTC]",
        ColumnKind::Text => "utf8",
        ColumnKind::Number => "float64",
        ColumnKind::Whole => "uint32",
    }
}

/// What a client needs to know of the stream.
pub(crate) fn describe() -> String {
    let columns: Vec<_> = COLUMNS
        .iter()
        .map(|column| format!("`{}` {}", column.name(), type_name(column.kind())))
        .collect();
    format!(
        "An Arrow IPC stream of the items, in batches of up to {} rows; no batch where there is \
         no item. Columns, none of them nullable: {}; the last only with `include=labels`. A \
         `value` that is not a finite number is there as it is.",
        limits::ARROW_BATCH_ROWS,
        columns.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::column::columns;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, TimestampMillisecondType, UInt32Type};
    use arrow_ipc::reader::StreamReader;

    fn row(ts: i64, value: f64) -> SampleRow<'static> {
        SampleRow {
            ts,
            source_ts: ts - 1,
            metric: "util",
            value,
            gpu_uuid: "GPU-1",
            gpu_index: 3,
            device: "nvidia3",
            model: "H100",
            hostname: "höst",
            container: "",
            pod: "",
            namespace: "",
            labels: vec![("a", "b")],
            topic_partition: 2,
            topic_offset: u64::MAX,
        }
    }

    fn stream(rows: &[SampleRow<'_>], labels: bool) -> Vec<u8> {
        let mut stream = ArrowStream::new(Vec::new(), columns(labels));
        for row in rows {
            stream.push(row);
        }
        stream.finish()
    }

    fn read(bytes: &[u8]) -> (SchemaRef, Vec<RecordBatch>) {
        let reader = StreamReader::try_new(bytes, None).unwrap();
        let schema = reader.schema();
        (schema, reader.map(Result::unwrap).collect())
    }

    #[test]
    fn rows_are_read_back_in_batches_as_they_were() {
        let count = limits::ARROW_BATCH_ROWS + 1;
        let rows: Vec<_> =
            (0..count).map(|n| row(1_752_871_354_000 + n as i64, n as f64)).collect();
        let (schema, batches) = read(&stream(&rows, true));
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, COLUMNS.map(Column::name));
        assert!(schema.fields().iter().all(|field| !field.is_nullable()));
        assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [count - 1, 1]);
        for (first, batch) in [(0, &batches[0]), (count - 1, &batches[1])] {
            let at = |name: &str| batch.column_by_name(name).unwrap();
            let ts = 1_752_871_354_000 + first as i64;
            assert_eq!(at("timestamp").as_primitive::<TimestampMillisecondType>().value(0), ts);
            let source = at("source_timestamp").as_primitive::<TimestampMillisecondType>();
            assert_eq!(source.value(0), ts - 1);
            assert_eq!(at("value").as_primitive::<Float64Type>().value(0), first as f64);
            assert_eq!(at("gpu_id").as_primitive::<UInt32Type>().value(0), 3);
            for (name, text) in [
                ("metric_name", "util"),
                ("id", "2-18446744073709551615"),
                ("uuid", "GPU-1"),
                ("hostname", "höst"),
                ("pod", ""),
                ("labels_raw", rows[0].labels_raw().as_str()),
            ] {
                assert_eq!(at(name).as_string::<i32>().value(0), text, "{name}");
            }
        }
    }

    #[test]
    fn no_rows_are_a_stream_without_batches_and_labels_are_left_out() {
        let (schema, batches) = read(&stream(&[], false));
        assert_eq!(schema.fields().len(), COLUMNS.len() - 1);
        assert!(batches.is_empty());
    }

    #[test]
    fn values_that_are_no_numbers_stay_and_times_out_of_range_do_not() {
        let rows = [row(i64::MAX, f64::NAN), row(0, f64::NEG_INFINITY)];
        let (_, batches) = read(&stream(&rows, false));
        let values = batches[0].column_by_name("value").unwrap().as_primitive::<Float64Type>();
        assert!(values.value(0).is_nan());
        assert_eq!(values.value(1), f64::NEG_INFINITY);
        let times = batches[0].column(0).as_primitive::<TimestampMillisecondType>();
        assert_eq!(times.value(0), *crate::params::time::STORED_MS.end());
    }

    /// Or the limit on an answer would not hold.
    #[test]
    fn bytes_are_counted_before_they_are_written() {
        let mut stream = ArrowStream::new(Vec::new(), columns(true));
        for n in 0..limits::ARROW_BATCH_ROWS + 10 {
            stream.push(&row(n as i64, 1.0));
        }
        let counted = stream.bytes();
        let written = stream.finish().len();
        // Beside the cells a batch has a head and padding.
        assert!(counted <= written && written < counted + 8 * 1024, "{counted} {written}");
    }

    #[test]
    fn every_column_and_type_is_in_the_readme() {
        let readme = include_str!("../../README.md");
        for column in COLUMNS {
            let line = format!("| `{}` | {} |", column.name(), type_name(column.kind()));
            assert!(readme.contains(&line), "{line}");
        }
    }
}
