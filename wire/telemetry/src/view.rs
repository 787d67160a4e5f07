//! A batch body, read where it lies.
//!
//! Opening checks everything once, so that no later read can fail: first the archive's structure
//! (bytecheck), then what the structure means. bytecheck alone is not enough: most mutated archives
//! that it accepts hold codes that point nowhere or columns of different lengths.

use lanecast_wire::KeyFilter;
use rkyv::Archived;
use rkyv::rancor::Failure;

use crate::columns::{ArchivedColumns, ArchivedLabel, ArchivedSeries};
use crate::identity::Identity;
use crate::limits;

/// A checked batch body. Dictionaries are resolved at opening (two small allocations a batch);
/// columns are borrowed.
pub struct TelemetryView<'a> {
    columns: &'a ArchivedColumns,
    strings: Vec<&'a str>,
    labels: Vec<(&'a str, &'a str)>,
    /// Where the labels of each series begin in `labels`, and the end of the last.
    label_starts: Vec<u32>,
}

/// One row of a batch, its codes resolved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'v> {
    /// Code of the identity, for [`TelemetryView::identity`].
    pub series: usize,
    pub metric: &'v str,
    pub ts_ms: i64,
    pub source_ts_ms: i64,
    pub value: f64,
}

/// Why a body is no telemetry batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBatch {
    #[error("body has {bytes} bytes, at most {}", limits::BODY_BYTES_MAX)]
    TooLarge { bytes: usize },
    #[error("body is no telemetry archive")]
    Malformed,
    #[error("header says {header} records, body has {body} rows")]
    RecordCount { header: u32, body: usize },
    #[error("column {column} has {rows} rows, values has {expected}")]
    UnequalColumns { column: &'static str, rows: usize, expected: usize },
    #[error("{count} {what}, at most {max}")]
    TooMany { what: &'static str, count: usize, max: usize },
    #[error("{column} {index} has code {code}, of {count}")]
    CodeOutOfRange { column: &'static str, index: usize, code: u32, count: usize },
    #[error("string {index} does not lie in the text")]
    Text { index: usize },
    #[error("{what} {index} has an empty name")]
    Empty { what: &'static str, index: usize },
    #[error("labels of series {series} are not sorted by distinct keys")]
    LabelOrder { series: usize },
    #[error("{labels} labels, series name {expected}")]
    LabelCount { labels: usize, expected: usize },
    #[error("series {series} has {bytes} bytes of text, at most {}", limits::IDENTITY_BYTES_MAX)]
    IdentityTooLong { series: usize, bytes: usize },
    #[error("row {row}: {column} {ms} ms is outside the years 1970 to 2262")]
    Time { row: usize, column: &'static str, ms: i64 },
    #[error("row {row}: value is not a finite number")]
    Value { row: usize },
}

impl<'a> TelemetryView<'a> {
    /// Checks a body whose batch header says `record_count`.
    ///
    /// # Errors
    /// Any byte sequence that is not a valid batch of that many records, with the reason.
    pub fn open(body: &'a [u8], record_count: u32) -> Result<Self, InvalidBatch> {
        if body.len() > limits::BODY_BYTES_MAX {
            return Err(InvalidBatch::TooLarge { bytes: body.len() });
        }
        let columns = rkyv::api::low::access::<ArchivedColumns, Failure>(body)
            .map_err(|_| InvalidBatch::Malformed)?;
        check_counts(columns, record_count)?;
        let strings = resolve_strings(columns)?;
        check_metrics(columns, &strings)?;
        let (labels, label_starts) = resolve_labels(columns, &strings)?;
        check_series(columns, &strings, &labels, &label_starts)?;
        check_rows(columns)?;
        Ok(TelemetryView { columns, strings, labels, label_starts })
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.columns.values.len()
    }

    /// Number of series identities.
    #[must_use]
    pub fn series(&self) -> usize {
        self.columns.series.len()
    }

    /// The identity that `code` stands for; labels are sorted by key.
    #[must_use]
    pub fn identity(&self, code: usize) -> Identity<'_> {
        let labels = self.label_starts[code] as usize..self.label_starts[code + 1] as usize;
        identity(&self.columns.series[code], &self.strings, &self.labels[labels])
    }

    /// Number of metric names.
    #[must_use]
    pub fn metrics(&self) -> usize {
        self.columns.metrics.len()
    }

    /// The metric name that `code` stands for.
    #[must_use]
    pub fn metric(&self, code: usize) -> &'a str {
        self.strings[self.columns.metrics[code].to_native() as usize]
    }

    /// Column: code of each row's identity, below [`series`](Self::series).
    #[must_use]
    pub fn series_codes(&self) -> &'a [Archived<u16>] {
        &self.columns.series_codes
    }

    /// Column: code of each row's metric, below [`metrics`](Self::metrics).
    #[must_use]
    pub fn metric_codes(&self) -> &'a [Archived<u16>] {
        &self.columns.metric_codes
    }

    /// Column: when each sample was processed.
    #[must_use]
    pub fn ts_ms(&self) -> &'a [Archived<i64>] {
        &self.columns.ts_ms
    }

    /// Column: when each sample was taken, as its source says.
    #[must_use]
    pub fn source_ts_ms(&self) -> &'a [Archived<i64>] {
        &self.columns.source_ts_ms
    }

    /// Column: the values, all finite.
    #[must_use]
    pub fn values(&self) -> &'a [Archived<f64>] {
        &self.columns.values
    }

    /// The rows in their order, for readers that want them one by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.rows()).map(|row| self.row(row))
    }

    /// The rows that pass a filter, each with its index in the batch. Keys are compared once per
    /// identity, not once per row.
    pub fn matching(&self, filter: &KeyFilter) -> impl Iterator<Item = (usize, Row<'_>)> {
        let passes = |code| {
            let who = self.identity(code);
            filter.wants_sample(who.uuid, who.hostname)
        };
        let wanted: Vec<bool> = (0..self.series()).map(passes).collect();
        let codes = self.columns.series_codes.iter().enumerate();
        codes
            .filter(move |(_, code)| wanted[usize::from(code.to_native())])
            .map(|(row, _)| (row, self.row(row)))
    }

    fn row(&self, row: usize) -> Row<'_> {
        Row {
            series: usize::from(self.columns.series_codes[row].to_native()),
            metric: self.metric(usize::from(self.columns.metric_codes[row].to_native())),
            ts_ms: self.columns.ts_ms[row].to_native(),
            source_ts_ms: self.columns.source_ts_ms[row].to_native(),
            value: self.columns.values[row].to_native(),
        }
    }
}

fn check_counts(columns: &ArchivedColumns, record_count: u32) -> Result<(), InvalidBatch> {
    let rows = columns.values.len();
    if rows != record_count as usize {
        return Err(InvalidBatch::RecordCount { header: record_count, body: rows });
    }
    for (column, length) in [
        ("series_codes", columns.series_codes.len()),
        ("metric_codes", columns.metric_codes.len()),
        ("ts_ms", columns.ts_ms.len()),
        ("source_ts_ms", columns.source_ts_ms.len()),
    ] {
        if length != rows {
            return Err(InvalidBatch::UnequalColumns { column, rows: length, expected: rows });
        }
    }
    for (what, count, max) in [
        ("rows", rows, limits::ROWS_MAX as usize),
        ("series", columns.series.len(), limits::SERIES_PER_BATCH_MAX),
        ("metrics", columns.metrics.len(), limits::METRICS_MAX),
    ] {
        if count > max {
            return Err(InvalidBatch::TooMany { what, count, max });
        }
    }
    Ok(())
}

fn resolve_strings(columns: &ArchivedColumns) -> Result<Vec<&str>, InvalidBatch> {
    let text = columns.text.as_str();
    let mut strings = Vec::with_capacity(columns.text_ends.len());
    let mut start = 0;
    for (index, end) in columns.text_ends.iter().enumerate() {
        let end = end.to_native() as usize;
        let string = text.get(start..end).ok_or(InvalidBatch::Text { index })?;
        strings.push(string);
        start = end;
    }
    if start != text.len() {
        return Err(InvalidBatch::Text { index: strings.len() });
    }
    Ok(strings)
}

fn check_metrics(columns: &ArchivedColumns, strings: &[&str]) -> Result<(), InvalidBatch> {
    for (index, code) in columns.metrics.iter().enumerate() {
        let name = check_string("metric", index, code.to_native(), strings)?;
        if name.is_empty() {
            return Err(InvalidBatch::Empty { what: "metric", index });
        }
        if name.len() > limits::STRING_BYTES_MAX {
            let (what, count, max) = ("bytes of metric name", name.len(), limits::STRING_BYTES_MAX);
            return Err(InvalidBatch::TooMany { what, count, max });
        }
    }
    Ok(())
}

type Labels<'a> = (Vec<(&'a str, &'a str)>, Vec<u32>);

fn resolve_labels<'a>(
    columns: &'a ArchivedColumns,
    strings: &[&'a str],
) -> Result<Labels<'a>, InvalidBatch> {
    let mut labels = Vec::with_capacity(columns.labels.len());
    for (index, ArchivedLabel { key, value }) in columns.labels.iter().enumerate() {
        let key = check_string("label key", index, key.to_native(), strings)?;
        let value = check_string("label value", index, value.to_native(), strings)?;
        if key.is_empty() {
            return Err(InvalidBatch::Empty { what: "label", index });
        }
        labels.push((key, value));
    }
    let mut starts = Vec::with_capacity(columns.series.len() + 1);
    let mut start = 0_usize;
    for series in columns.series.iter() {
        starts.push(start as u32);
        let count = usize::from(series.label_count.to_native());
        if count > limits::LABELS_MAX {
            let what = "labels of one series";
            return Err(InvalidBatch::TooMany { what, count, max: limits::LABELS_MAX });
        }
        start += count;
    }
    starts.push(start as u32);
    if start != labels.len() {
        return Err(InvalidBatch::LabelCount { labels: labels.len(), expected: start });
    }
    Ok((labels, starts))
}

fn check_series(
    columns: &ArchivedColumns,
    strings: &[&str],
    labels: &[(&str, &str)],
    label_starts: &[u32],
) -> Result<(), InvalidBatch> {
    for (index, series) in columns.series.iter().enumerate() {
        let ArchivedSeries { uuid, device, model, hostname, container, pod, namespace, .. } =
            series;
        for code in [uuid, device, model, hostname, container, pod, namespace] {
            check_string("series", index, code.to_native(), strings)?;
        }
        let labels = &labels[label_starts[index] as usize..label_starts[index + 1] as usize];
        if !labels.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(InvalidBatch::LabelOrder { series: index });
        }
        let identity = identity(series, strings, labels);
        if identity.uuid.is_empty() {
            return Err(InvalidBatch::Empty { what: "series", index });
        }
        let bytes = identity.text_bytes();
        if bytes > limits::IDENTITY_BYTES_MAX {
            return Err(InvalidBatch::IdentityTooLong { series: index, bytes });
        }
    }
    Ok(())
}

/// Each column is folded without early exit, which the compiler turns into vector code; the row
/// is looked for only when the fold found something.
fn check_rows(columns: &ArchivedColumns) -> Result<(), InvalidBatch> {
    check_codes("series code of row", &columns.series_codes, columns.series.len())?;
    check_codes("metric code of row", &columns.metric_codes, columns.metrics.len())?;
    check_times("ts", &columns.ts_ms)?;
    check_times("source_ts", &columns.source_ts_ms)?;
    let finite = columns.values.iter().fold(true, |all, value| all & value.to_native().is_finite());
    if finite {
        return Ok(());
    }
    let row = columns.values.iter().position(|value| !value.to_native().is_finite());
    Err(InvalidBatch::Value { row: row.expect("the fold found one") })
}

fn check_codes(
    column: &'static str,
    codes: &[Archived<u16>],
    count: usize,
) -> Result<(), InvalidBatch> {
    let highest = codes.iter().fold(0, |highest: u16, code| highest.max(code.to_native()));
    if codes.is_empty() || usize::from(highest) < count {
        return Ok(());
    }
    let index = codes.iter().position(|code| *code == highest).expect("the fold found it");
    Err(InvalidBatch::CodeOutOfRange { column, index, code: u32::from(highest), count })
}

fn check_times(column: &'static str, times: &[Archived<i64>]) -> Result<(), InvalidBatch> {
    const VALID: core::ops::RangeInclusive<i64> = limits::TIME_MS_MIN..=limits::TIME_MS_MAX;
    if times.iter().fold(true, |all, ms| all & VALID.contains(&ms.to_native())) {
        return Ok(());
    }
    let row = times.iter().position(|ms| !VALID.contains(&ms.to_native()));
    let row = row.expect("the fold found one");
    Err(InvalidBatch::Time { row, column, ms: times[row].to_native() })
}

fn check_string<'a>(
    column: &'static str,
    index: usize,
    code: u32,
    strings: &[&'a str],
) -> Result<&'a str, InvalidBatch> {
    let count = strings.len();
    let string = strings.get(code as usize).copied();
    string.ok_or(InvalidBatch::CodeOutOfRange { column, index, code, count })
}

/// Every code of `series` lies in `strings`.
fn identity<'a>(
    series: &ArchivedSeries,
    strings: &[&'a str],
    labels: &'a [(&'a str, &'a str)],
) -> Identity<'a> {
    Identity {
        uuid: strings[series.uuid.to_native() as usize],
        device: strings[series.device.to_native() as usize],
        model: strings[series.model.to_native() as usize],
        hostname: strings[series.hostname.to_native() as usize],
        container: strings[series.container.to_native() as usize],
        pod: strings[series.pod.to_native() as usize],
        namespace: strings[series.namespace.to_native() as usize],
        gpu_index: series.gpu_index.to_native(),
        labels,
    }
}

/// Opens any bytes and, when they are a batch, reads all of it: the target of fuzzing and of the
/// mutation tests. The first four bytes are the record count.
///
/// # Panics
/// Never, unless a check above is missing.
pub fn exercise(data: &[u8]) -> Result<usize, InvalidBatch> {
    let Some((count, body)) = data.split_first_chunk::<4>() else {
        return Err(InvalidBatch::Malformed);
    };
    let view = TelemetryView::open(body, u32::from_le_bytes(*count))?;
    let mut text_bytes = 0_usize;
    for row in view.iter() {
        let identity = view.identity(row.series);
        assert!(!identity.uuid.is_empty() && !row.metric.is_empty() && row.value.is_finite());
        assert!((limits::TIME_MS_MIN..=limits::TIME_MS_MAX).contains(&row.ts_ms));
        assert!((limits::TIME_MS_MIN..=limits::TIME_MS_MAX).contains(&row.source_ts_ms));
        assert!(identity.text_bytes() <= limits::IDENTITY_BYTES_MAX);
        text_bytes += row.metric.len();
    }
    for code in 0..view.series() {
        text_bytes += crate::labels::render(&view.identity(code), "m").len();
    }
    Ok(text_bytes)
}
