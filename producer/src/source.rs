//! What every source gives: samples, one at a time, and counts of what it met.

use std::path::PathBuf;

use lanecast_telemetry::{MetricId, SeriesCatalog, SeriesId};
use serde::Serialize;

/// Where samples come from: a CSV file, a generated fleet.
pub trait Source {
    /// The catalog that the ids of the last [`Point`] belong to.
    fn catalog(&self) -> &SeriesCatalog;

    /// The next sample, or why there is none now. `now_ms` is the wall clock, in milliseconds of
    /// the Unix epoch.
    ///
    /// # Errors
    /// The source cannot go on; what it gave so far stands.
    fn next(&mut self, now_ms: i64) -> Result<Step, SourceError>;

    fn stats(&self) -> &SourceStats;
}

/// One sample, in ids of the source's catalog.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub series: SeriesId,
    pub metric: MetricId,
    pub ts_ms: i64,
    pub source_ts_ms: i64,
    pub value: f64,
}

/// What a source says when asked for a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Point(Point),
    /// The next sample is due this long after the first was asked for.
    Due {
        elapsed_us: u64,
    },
    /// None found yet; ask again when others have run.
    Busy,
    /// None there yet: the input is open and silent.
    Quiet,
    End,
}

/// Counts since the source was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceStats {
    /// Data rows read, rejected ones and those of other shards included.
    pub rows_read: u64,
    pub rows_rejected: Rejections,
    /// Samples without a value: an empty field, or the exporter's sign for "none".
    pub dropped_blank: u64,
    /// Rows that another instance publishes.
    pub rows_of_other_shards: u64,
    /// Bytes of the input as it is read, after decompression.
    pub bytes_read: u64,
    /// Times the input was read to its end.
    pub passes: u64,
}

/// Rejected rows by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejections([u64; RejectReason::ALL.len()]);

impl Rejections {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    #[must_use]
    pub fn of(&self, reason: RejectReason) -> u64 {
        self.0[reason as usize]
    }

    /// Reasons that occurred, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        RejectReason::ALL.into_iter().map(|reason| (reason, self.of(reason))).filter(|r| r.1 > 0)
    }

    pub(crate) fn count(&mut self, reason: RejectReason) {
        self.0[reason as usize] += 1;
    }
}

impl Serialize for Rejections {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, count)| (reason.name(), count)))
    }
}

/// Why a row is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    BadQuotes,
    RowTooLong,
    FieldCount,
    NotUtf8,
    BadTimestamp,
    MissingTimestamp,
    MissingUuid,
    MissingMetric,
    BadGpuIndex,
    BadValue,
    NotFinite,
    BadLabels,
    LimitExceeded,
}

impl RejectReason {
    pub const ALL: [RejectReason; 13] = [
        RejectReason::BadQuotes,
        RejectReason::RowTooLong,
        RejectReason::FieldCount,
        RejectReason::NotUtf8,
        RejectReason::BadTimestamp,
        RejectReason::MissingTimestamp,
        RejectReason::MissingUuid,
        RejectReason::MissingMetric,
        RejectReason::BadGpuIndex,
        RejectReason::BadValue,
        RejectReason::NotFinite,
        RejectReason::BadLabels,
        RejectReason::LimitExceeded,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RejectReason::BadQuotes => "bad_quotes",
            RejectReason::RowTooLong => "row_too_long",
            RejectReason::FieldCount => "field_count",
            RejectReason::NotUtf8 => "not_utf8",
            RejectReason::BadTimestamp => "bad_timestamp",
            RejectReason::MissingTimestamp => "missing_timestamp",
            RejectReason::MissingUuid => "missing_uuid",
            RejectReason::MissingMetric => "missing_metric",
            RejectReason::BadGpuIndex => "bad_gpu_index",
            RejectReason::BadValue => "bad_value",
            RejectReason::NotFinite => "not_finite",
            RejectReason::BadLabels => "bad_labels",
            RejectReason::LimitExceeded => "limit_exceeded",
        }
    }
}

impl core::fmt::Display for RejectReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a source cannot be opened or go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot open {path}: check that the file exists and may be read")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("cannot read {input} after line {line}; if it is compressed, it may be cut short")]
    Read { input: String, line: u64, source: std::io::Error },
    #[error("{input} is empty: the first row must name the columns")]
    Empty { input: String },
    #[error("header of {input}: {reason}")]
    Header { input: String, reason: String },
    #[error("{input}, line {line}, column {column}: {reason}: {detail} (strict: the run stops)")]
    Strict { input: String, line: u64, column: String, reason: RejectReason, detail: String },
    #[error("cannot create {path}")]
    Create { path: PathBuf, source: std::io::Error },
    #[error("cannot write rejected rows to {path}")]
    Rejects { path: PathBuf, source: std::io::Error },
    #[error("{setting}: {reason}")]
    Setting { setting: &'static str, reason: String },
}
