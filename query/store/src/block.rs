//! Telemetry batches as one block of ClickHouse's Native format.
//!
//! A batch holds its strings once and refers to them by code, and so does a `LowCardinality`
//! column. Each series is therefore translated into the block's codes once, found again by its uuid
//! in every further batch, and a row costs an indexed copy per column: nothing per row is a string,
//! but for the values of extra labels, which are copied as they were encoded for their series.
//!
//! Rows stand in the order of the table's key ([`Order`]), which costs less here, where a series is
//! a number, than in the server, and lets each view look at one series after another.

use bytes::Bytes;
use lanecast_telemetry::TelemetryView;

use crate::dictionary::Dictionary;
use crate::limits;
use crate::native::{
    CodeWidth, put_column_start, put_dictionary, put_dictionary_version, put_repeated, put_runs,
    put_varint,
};
use crate::order::Order;
use crate::series::{STRINGS, SeriesTable};
use crate::spare;

/// A column of an insert into `telemetry`.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    kind: &'static str,
    content: Content,
}

#[derive(Clone, Copy)]
enum Content {
    /// A string of the identity, by its number in [`crate::series`].
    SeriesString(usize),
    Metric,
    Time,
    SourceTime,
    Value,
    GpuIndex,
    Labels,
    Partition,
    Offset,
}

/// Which string of the identity the uuid is.
const GPU_UUID: usize = 0;

const STRING: &str = "LowCardinality(String)";
const TIME: &str = "DateTime64(3, 'UTC')";

const fn column(name: &'static str, kind: &'static str, content: Content) -> Column {
    Column { name, kind, content }
}

/// In the order of the table.
pub(crate) const COLUMNS: [Column; 15] = [
    column("gpu_uuid", STRING, Content::SeriesString(GPU_UUID)),
    column("ts", TIME, Content::Time),
    column("metric", STRING, Content::Metric),
    column("value", "Float64", Content::Value),
    column("source_ts", TIME, Content::SourceTime),
    column("gpu_index", "UInt32", Content::GpuIndex),
    column("device", STRING, Content::SeriesString(1)),
    column("model", STRING, Content::SeriesString(2)),
    column("hostname", STRING, Content::SeriesString(3)),
    column("container", STRING, Content::SeriesString(4)),
    column("pod", STRING, Content::SeriesString(5)),
    column("namespace", STRING, Content::SeriesString(6)),
    column("labels", "Map(LowCardinality(String), String)", Content::Labels),
    column("topic_partition", "UInt32", Content::Partition),
    column("topic_offset", "UInt64", Content::Offset),
];

/// Bytes of a row's columns of numbers, and of where its labels end.
const NUMBERS_BYTES: usize = 5 * 8 + 2 * 4;

/// Which rows of a batch go into the block.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'v> {
    All,
    /// Their numbers within the batch, rising.
    Some(&'v [u32]),
}

/// One batch's share of the block.
struct Part<'v> {
    view: &'v TelemetryView<'v>,
    rows: Rows<'v>,
    base_offset: u64,
    /// By the batch's series code, the number in the block's [`SeriesTable`].
    series: Vec<u32>,
    /// By the batch's metric code, the code in the block's dictionary.
    metrics: Vec<u32>,
}

/// Gathers batches of one partition into one block.
pub struct NativeBlock<'v> {
    partition: u32,
    rows: usize,
    series: SeriesTable<'v>,
    metrics: Dictionary<'v>,
    parts: Vec<Part<'v>>,
}

impl<'v> NativeBlock<'v> {
    #[must_use]
    pub fn new(partition: u32) -> Self {
        Self {
            partition,
            rows: 0,
            series: SeriesTable::default(),
            metrics: Dictionary::default(),
            parts: Vec::new(),
        }
    }

    /// Rows so far.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds rows of a batch whose first record has this offset.
    ///
    /// # Panics
    /// If the block grows over [`limits::BLOCK_ROWS_MAX`]: the caller bounds its chunks.
    pub fn push(&mut self, view: &'v TelemetryView<'v>, base_offset: u64, rows: Rows<'v>) {
        let count = match rows {
            Rows::All => view.rows(),
            Rows::Some(numbers) => numbers.len(),
        };
        if count == 0 {
            return;
        }
        self.rows += count;
        assert!(self.rows <= limits::BLOCK_ROWS_MAX, "{} rows in one block", self.rows);

        let series =
            (0..view.series()).map(|code| self.series.series(view.identity(code))).collect();
        let metrics =
            (0..view.metrics()).map(|code| self.metrics.code(view.metric(code))).collect();
        self.parts.push(Part { view, rows, base_offset, series, metrics });
    }

    /// The block's bytes. A block without rows has none: there is nothing to insert.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        if self.rows == 0 {
            return Bytes::new();
        }
        let order = self.order();
        let mut out = spare::room(self.bytes(&order));
        put_varint(&mut out, COLUMNS.len() as u64);
        put_varint(&mut out, self.rows as u64);
        for column in &COLUMNS {
            put_column_start(&mut out, column.name, column.kind);
            self.put_content(&mut out, column.content, &order);
        }
        spare::sent(out)
    }

    /// About the bytes of the block, and rather more: the names of columns, and the strings of
    /// dictionaries where there are few, are what is guessed.
    fn bytes(&self, order: &Order) -> usize {
        let string = |string| CodeWidth::of(self.series.dictionary(string).strings().len()).bytes();
        let strings = (0..STRINGS).map(string).sum::<usize>();
        let metric = CodeWidth::of(self.metrics.strings().len()).bytes();
        let label_key = CodeWidth::of(self.series.label_keys().strings().len()).bytes();
        let labels = order.runs().map(|(series, rows)| {
            let labels = self.series.labels(series);
            rows * (labels.keys.len() * label_key + labels.values.len())
        });
        let dictionaries = 64 * self.series.len() as usize;
        self.rows * (strings + metric + NUMBERS_BYTES) + labels.sum::<usize>() + dictionaries + 4096
    }

    /// The order of the rows: GPU, time, metric, and where all are equal as they came.
    fn order(&self) -> Order {
        let gpus = self.series.dictionary(GPU_UUID).ranks();
        let gpus =
            (0..self.series.len()).map(|series| gpus[self.series.code(GPU_UUID, series) as usize]);
        let mut order = Order::new(self.rows, gpus.collect());
        let metrics = self.metrics.ranks();
        for part in &self.parts {
            let metrics = part.by_metric(|metric| metrics[metric as usize]);
            part.each_row(|row| {
                let series = part.series[part.series_code(row)];
                let ts_ms = part.view.ts_ms()[row].to_native();
                order.push(series, ts_ms, metrics[part.metric_code(row)]);
            });
        }
        order.sort();
        order
    }

    fn put_content(&self, out: &mut Vec<u8>, content: Content, order: &Order) {
        match content {
            Content::SeriesString(string) => {
                put_dictionary_version(out);
                let width = put_dictionary(out, self.series.dictionary(string), self.rows);
                let code = |(series, rows)| (self.series.code(string, series), rows);
                width.put_runs(out, order.runs().map(code));
            }
            Content::Metric => {
                put_dictionary_version(out);
                let codes = |part: &Part<'v>| part.view.metric_codes();
                let code = |part: &Part<'v>, code| part.metrics[usize::from(code)];
                match put_dictionary(out, &self.metrics, self.rows) {
                    CodeWidth::One => {
                        self.put(out, order, codes, |part, of| [code(part, of.to_native()) as u8]);
                    }
                    CodeWidth::Two => self.put(out, order, codes, |part, of| {
                        (code(part, of.to_native()) as u16).to_le_bytes()
                    }),
                    CodeWidth::Four => self.put(out, order, codes, |part, of| {
                        code(part, of.to_native()).to_le_bytes()
                    }),
                }
            }
            // A `DateTime64(3)` is its milliseconds since the epoch.
            Content::Time => {
                let times = |part: &Part<'v>| part.view.ts_ms();
                self.put(out, order, times, |_, ms| ms.to_native().to_le_bytes());
            }
            Content::SourceTime => {
                let times = |part: &Part<'v>| part.view.source_ts_ms();
                self.put(out, order, times, |_, ms| ms.to_native().to_le_bytes());
            }
            Content::Value => {
                let values = |part: &Part<'v>| part.view.values();
                self.put(out, order, values, |_, value| value.to_native().to_le_bytes());
            }
            Content::GpuIndex => {
                let index = |(series, rows)| (self.series.gpu_index(series).to_le_bytes(), rows);
                put_runs(out, order.runs().map(index));
            }
            Content::Labels => self.put_labels(out, order),
            Content::Partition => {
                put_runs(out, [(self.partition.to_le_bytes(), self.rows)].into_iter());
            }
            Content::Offset => self.put_offsets(out, order),
        }
    }

    /// Appends one value of `WIDTH` bytes for each row: read as the rows came out of their part's
    /// `column`, written to their places.
    fn put<T: 'v, const WIDTH: usize>(
        &self,
        out: &mut Vec<u8>,
        order: &Order,
        column: impl Fn(&Part<'v>) -> &'v [T],
        value: impl Fn(&Part<'v>, &T) -> [u8; WIDTH],
    ) {
        let slots = put_slots(out, self.rows);
        let mut places = order.places();
        for part in &self.parts {
            let (mine, others) = places.split_at(part.len());
            let column = column(part);
            match part.rows {
                Rows::All => {
                    for (item, &place) in column.iter().zip(mine) {
                        slots[place as usize] = value(part, item);
                    }
                }
                Rows::Some(rows) => {
                    for (&row, &place) in rows.iter().zip(mine) {
                        slots[place as usize] = value(part, &column[row as usize]);
                    }
                }
            }
            places = others;
        }
    }

    fn put_offsets(&self, out: &mut Vec<u8>, order: &Order) {
        let slots = put_slots(out, self.rows);
        let mut places = order.places().iter();
        for part in &self.parts {
            part.each_row(|row| {
                let place = *places.next().expect("the order has a place for each row");
                slots[place as usize] = (part.base_offset + row as u64).to_le_bytes();
            });
        }
    }

    fn put_labels(&self, out: &mut Vec<u8>, order: &Order) {
        put_dictionary_version(out);
        let runs = || order.runs().map(|(series, rows)| (self.series.labels(series), rows));
        let mut pairs = 0_u64;
        for (labels, rows) in runs() {
            let slots = put_slots(out, rows);
            for slot in slots {
                pairs += labels.keys.len() as u64;
                *slot = pairs.to_le_bytes();
            }
        }
        if pairs == 0 {
            return;
        }
        let width = put_dictionary(out, self.series.label_keys(), pairs as usize);
        let mut keys = Vec::new();
        for (labels, rows) in runs() {
            keys.clear();
            width.put_runs(&mut keys, labels.keys.iter().map(|&code| (code, 1)));
            put_repeated(out, &keys, rows);
        }
        for (labels, rows) in runs() {
            put_repeated(out, &labels.values, rows);
        }
    }
}

/// Appends so many values of `WIDTH` bytes, to be filled in.
fn put_slots<const WIDTH: usize>(out: &mut Vec<u8>, rows: usize) -> &mut [[u8; WIDTH]] {
    let start = out.len();
    out.resize(start + rows * WIDTH, 0);
    out[start..].as_chunks_mut().0
}

impl Part<'_> {
    fn len(&self) -> usize {
        match self.rows {
            Rows::All => self.view.rows(),
            Rows::Some(rows) => rows.len(),
        }
    }

    fn series_code(&self, row: usize) -> usize {
        usize::from(self.view.series_codes()[row].to_native())
    }

    fn metric_code(&self, row: usize) -> usize {
        usize::from(self.view.metric_codes()[row].to_native())
    }

    /// A small table by the batch's metric code, so that a row needs one look and not two.
    fn by_metric(&self, value: impl Fn(u32) -> u32) -> Vec<u32> {
        self.metrics.iter().map(|&metric| value(metric)).collect()
    }

    fn each_row(&self, mut visit: impl FnMut(usize)) {
        match self.rows {
            Rows::All => (0..self.view.rows()).for_each(visit),
            Rows::Some(rows) => rows.iter().for_each(|&row| visit(row as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
    use lanecast_wire::builder::{BodyBuilder, SealedBody};

    use super::*;
    use crate::native::put_string;

    fn batch(uuid: &str, labels: &[(&str, &str)], values: &[f64]) -> SealedBody {
        let mut catalog = SeriesCatalog::new();
        let identity = Identity { uuid, gpu_index: 7, labels, ..Identity::default() };
        let series = catalog.series(&identity).unwrap();
        let metric = catalog.metric("m").unwrap();
        let mut builder = TelemetryBuilder::empty();
        for (ts_ms, &value) in (1_000..).zip(values) {
            let sample =
                Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms: 5, value };
            builder.push(&sample).unwrap();
        }
        builder.seal()
    }

    #[test]
    fn the_bytes_are_the_format_of_the_manual() {
        let sealed = batch("G", &[("k", "v")], &[1.5]);
        let view = TelemetryView::open(&sealed.body, sealed.record_count).unwrap();
        let mut block = NativeBlock::new(3);
        block.push(&view, 40, Rows::All);

        let mut golden = vec![15, 1];
        let word = |value: u64| value.to_le_bytes().to_vec();
        let strings = |name: &str, value: &str| {
            let mut column = Vec::new();
            put_column_start(&mut column, name, "LowCardinality(String)");
            column.extend([word(1), word(0x600), word(1)].concat());
            put_string(&mut column, value);
            column.extend(word(1));
            column.push(0);
            column
        };
        let plain = |name: &str, kind: &str, value: &[u8]| {
            let mut column = Vec::new();
            put_column_start(&mut column, name, kind);
            column.extend(value);
            column
        };
        golden.extend(strings("gpu_uuid", "G"));
        golden.extend(plain("ts", TIME, &1_000_u64.to_le_bytes()));
        golden.extend(strings("metric", "m"));
        golden.extend(plain("value", "Float64", &1.5_f64.to_le_bytes()));
        golden.extend(plain("source_ts", TIME, &5_u64.to_le_bytes()));
        golden.extend(plain("gpu_index", "UInt32", &7_u32.to_le_bytes()));
        for name in ["device", "model", "hostname", "container", "pod", "namespace"] {
            golden.extend(strings(name, ""));
        }
        let map = [&word(1)[..], &word(1), &word(0x600), &word(1), b"\x01k", &word(1), b"\0\x01v"];
        golden.extend(plain("labels", "Map(LowCardinality(String), String)", &map.concat()));
        golden.extend(plain("topic_partition", "UInt32", &3_u32.to_le_bytes()));
        golden.extend(plain("topic_offset", "UInt64", &40_u64.to_le_bytes()));
        assert_eq!(block.encode(), golden);
    }

    #[test]
    fn rows_that_are_left_out_leave_no_hole_in_any_column() {
        let sealed = batch("G", &[("k", "v")], &[0.0, 1.0, 2.0, 3.0]);
        let view = TelemetryView::open(&sealed.body, sealed.record_count).unwrap();
        let kept = batch("G", &[("k", "v")], &[0.0, 1.0]);
        let kept = TelemetryView::open(&kept.body, kept.record_count).unwrap();
        let encode = |view, rows| {
            let mut block = NativeBlock::new(0);
            block.push(view, 0, rows);
            block.encode()
        };
        assert_eq!(encode(&view, Rows::Some(&[0, 1])), encode(&kept, Rows::All));
    }

    /// Reads a column of 8-byte numbers back out of a block by its name.
    fn numbers(block: &[u8], name: &str, kind: &str, rows: usize) -> Vec<u64> {
        let mut start = Vec::new();
        put_column_start(&mut start, name, kind);
        let at = block.windows(start.len()).position(|window| window == start).unwrap();
        let (values, _) = block[at + start.len()..].as_chunks::<8>();
        values[..rows].iter().map(|value| u64::from_le_bytes(*value)).collect()
    }

    #[test]
    fn rows_stand_in_the_order_of_the_tables_key() {
        let mut catalog = SeriesCatalog::new();
        let mut series = |uuid| catalog.series(&Identity { uuid, ..Identity::default() }).unwrap();
        let (second, first) = (series("b"), series("a"));
        let (late, early) = (catalog.metric("y").unwrap(), catalog.metric("x").unwrap());
        let sealed = |samples: &[(_, i64, _)]| {
            let mut builder = TelemetryBuilder::empty();
            for &(series, ts_ms, metric) in samples {
                let value = 0.0;
                let sample =
                    Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms: 0, value };
                builder.push(&sample).unwrap();
            }
            builder.seal()
        };
        let batches = [
            sealed(&[(second, 5, late), (first, 9, late), (first, 8, late), (second, 5, early)]),
            sealed(&[(first, 8, late), (first, 8, early), (second, 4, late)]),
        ];
        let views = batches
            .each_ref()
            .map(|sealed| TelemetryView::open(&sealed.body, sealed.record_count).unwrap());
        let mut block = NativeBlock::new(0);
        block.push(&views[0], 10, Rows::All);
        block.push(&views[1], 20, Rows::All);
        let bytes = block.encode();
        // Two equal keys stay as they came: 12 before 20.
        assert_eq!(numbers(&bytes, "topic_offset", "UInt64", 7), [21, 12, 20, 11, 22, 13, 10]);
        assert_eq!(numbers(&bytes, "ts", TIME, 7), [8, 8, 8, 9, 4, 5, 5]);
    }

    #[test]
    fn each_row_has_what_its_own_series_is() {
        let mut catalog = SeriesCatalog::new();
        let mut series = |uuid, gpu_index, pod, labels| {
            let identity = Identity { uuid, gpu_index, pod, labels, ..Identity::default() };
            catalog.series(&identity).unwrap()
        };
        let second = series("b", 5, "p", &[("k", "v"), ("n", "ww")]);
        let none = series("c", 6, "q", &[]);
        let first = series("a", 4, "", &[("n", "x")]);
        let metric = catalog.metric("m").unwrap();
        let mut builder = TelemetryBuilder::empty();
        for (ts_ms, series) in (0..).zip([second, none, first, second, first, first]) {
            let (source_ts_ms, value) = (0, 0.0);
            let sample = Sample { catalog: &catalog, series, metric, ts_ms, source_ts_ms, value };
            builder.push(&sample).unwrap();
        }
        let sealed = builder.seal();
        let view = TelemetryView::open(&sealed.body, sealed.record_count).unwrap();
        let mut block = NativeBlock::new(0);
        block.push(&view, 0, Rows::All);
        let block = block.encode();

        let has = |name: &str, kind: &str, parts: &[&[u8]]| {
            let mut column = Vec::new();
            put_column_start(&mut column, name, kind);
            column.extend(parts.concat());
            assert!(block.windows(column.len()).any(|window| window == column), "{name}");
        };
        let words = |values: &[u64]| values.iter().flat_map(|it| it.to_le_bytes()).collect();
        let head: Vec<u8> = words(&[1, 0x600, 3]);
        let rows: Vec<u8> = words(&[6]);
        has("gpu_uuid", STRING, &[&head, b"\x01b\x01c\x01a", &rows, &[2, 2, 2, 0, 0, 1]]);
        has("pod", STRING, &[&head, b"\x01p\x01q\0", &rows, &[2, 2, 2, 0, 0, 1]]);
        let index = [4_u32, 4, 4, 5, 5, 6].map(u32::to_le_bytes);
        has("gpu_index", "UInt32", &[index.as_flattened()]);
        let ends: Vec<u8> = words(&[1, 1, 2, 3, 5, 7, 7]);
        let keys: Vec<u8> = words(&[0x600, 2]);
        let pairs: Vec<u8> = words(&[7]);
        let codes = [1, 1, 1, 0, 1, 0, 1];
        let values = b"\x01x\x01x\x01x\x01v\x02ww\x01v\x02ww";
        let labels = [&ends[..], &keys, b"\x01k\x01n", &pairs, &codes, values];
        has("labels", "Map(LowCardinality(String), String)", &labels);
    }

    #[test]
    fn a_block_without_rows_has_no_bytes() {
        let sealed = batch("G", &[], &[0.0]);
        let view = TelemetryView::open(&sealed.body, sealed.record_count).unwrap();
        let mut block = NativeBlock::new(0);
        block.push(&view, 0, Rows::Some(&[]));
        assert!(block.encode().is_empty());
    }
}
