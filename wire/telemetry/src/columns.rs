//! The body of a batch as it is archived.
//!
//! ```text
//!  text        "GPU-5f…nvidia0NVIDIA H100…"   every distinct string once, one after another
//!  text_ends   [40, 47, 68, …]                 string s = text[text_ends[s-1] .. text_ends[s]]
//!  metrics     [s, …]                          metric code -> string code
//!  series      [{uuid: s, …, gpu_index, n}, …] series code -> string codes, and n extra labels
//!  labels      [{key: s, value: s}, …]         the labels of series 0, then of series 1, …
//!  ─────────── one entry per row, in the order of arrival ───────────
//!  series_codes u16   metric_codes u16   ts_ms i64   source_ts_ms i64   values f64
//! ```
//!
//! The archive is rkyv's with little-endian, unaligned numbers and 32-bit relative pointers: the
//! bytes do not depend on the machine, and a receive buffer can be read where it lies.

use rkyv::{Archive, Serialize};

#[derive(Archive, Serialize, Default)]
pub(crate) struct Columns {
    pub(crate) text: String,
    pub(crate) text_ends: Vec<u32>,
    pub(crate) metrics: Vec<u32>,
    pub(crate) series: Vec<Series>,
    pub(crate) labels: Vec<Label>,
    pub(crate) series_codes: Vec<u16>,
    pub(crate) metric_codes: Vec<u16>,
    pub(crate) ts_ms: Vec<i64>,
    pub(crate) source_ts_ms: Vec<i64>,
    pub(crate) values: Vec<f64>,
}

/// String codes of one identity.
#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct Series {
    pub(crate) uuid: u32,
    pub(crate) device: u32,
    pub(crate) model: u32,
    pub(crate) hostname: u32,
    pub(crate) container: u32,
    pub(crate) pod: u32,
    pub(crate) namespace: u32,
    pub(crate) gpu_index: u32,
    pub(crate) label_count: u16,
}

#[derive(Archive, Serialize, Clone, Copy)]
pub(crate) struct Label {
    pub(crate) key: u32,
    pub(crate) value: u32,
}

/// Archived sizes, which a test compares with what rkyv makes.
pub(crate) const ROW_BYTES: usize = 2 + 2 + 8 + 8 + 8;
pub(crate) const SERIES_BYTES: usize = size_of::<ArchivedSeries>();
pub(crate) const LABEL_BYTES: usize = size_of::<ArchivedLabel>();
pub(crate) const STRING_END_BYTES: usize = 4;
pub(crate) const METRIC_BYTES: usize = 4;
pub(crate) const ROOT_BYTES: usize = size_of::<ArchivedColumns>();

impl Columns {
    /// Size of the archive in bytes.
    pub(crate) fn archive_bytes(&self) -> usize {
        ROOT_BYTES
            + self.text.len()
            + self.text_ends.len() * STRING_END_BYTES
            + self.metrics.len() * METRIC_BYTES
            + self.series.len() * SERIES_BYTES
            + self.labels.len() * LABEL_BYTES
            + self.values.len() * ROW_BYTES
    }

    /// Forgets every row and every dictionary entry and keeps the allocations.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.text_ends.clear();
        self.metrics.clear();
        self.series.clear();
        self.labels.clear();
        self.series_codes.clear();
        self.metric_codes.clear();
        self.ts_ms.clear();
        self.source_ts_ms.clear();
        self.values.clear();
    }

    /// Appends a string to the dictionary and gives its code.
    pub(crate) fn add_string(&mut self, string: &str) -> u32 {
        let code = self.text_ends.len() as u32;
        self.text.push_str(string);
        self.text_ends.push(self.text.len() as u32);
        code
    }
}
