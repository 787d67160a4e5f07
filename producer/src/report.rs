//! What a run did, in figures.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::sink::SinkStats;
use crate::source::SourceStats;

/// The state of a run, while it goes on and when it is over.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub rows_read: u64,
    pub rows_rejected: u64,
    /// Rejected rows by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Samples without a value.
    pub dropped_blank: u64,
    /// Rows that other instances publish.
    pub rows_of_other_shards: u64,
    /// Samples that the sink took; a row of a wide file has several.
    pub rows_published: u64,
    pub rows_acknowledged: u64,
    /// Published and then dropped by the broker, as the topic does when it is full.
    pub rows_dropped: u64,
    pub duplicates: u64,
    pub batches: u64,
    pub bytes: u64,
    pub retries: u64,
    /// Batches that may be in the topic twice, as the broker had forgotten what it has of them.
    pub batches_doubtful: u64,
    pub reconnects: u64,
    /// Bytes of the input.
    pub bytes_read: u64,
    pub seconds: f64,
    pub rows_per_s: f64,
    /// The run was asked to stop before its source ended.
    pub stopped: bool,
}

impl Report {
    /// Why not everything that was published is in the topic exactly once, if so.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let mut said = Vec::new();
        if self.rows_dropped > 0 {
            let Report { rows_dropped, rows_published, .. } = self;
            said.push(format!(
                "{rows_dropped} of {rows_published} rows were dropped, as the topic does when it is full"
            ));
        }
        if self.batches_doubtful > 0 {
            let batches = self.batches_doubtful;
            said.push(format!(
                "{batches} batches may be in the topic twice, as the broker had forgotten their producer"
            ));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    pub(crate) fn new(
        source: &SourceStats,
        sink: SinkStats,
        published: u64,
        refused: u64,
        seconds: f64,
    ) -> Self {
        let mut rejected: BTreeMap<&'static str, u64> =
            source.rows_rejected.iter().map(|(reason, count)| (reason.name(), count)).collect();
        if refused > 0 {
            *rejected.entry("limit_exceeded").or_default() += refused;
        }
        Report {
            rows_read: source.rows_read,
            rows_rejected: rejected.values().sum(),
            rejected,
            dropped_blank: source.dropped_blank,
            rows_of_other_shards: source.rows_of_other_shards,
            rows_published: published,
            rows_acknowledged: sink.acknowledged,
            rows_dropped: sink.dropped,
            duplicates: sink.duplicates,
            batches: sink.batches,
            bytes: sink.bytes,
            retries: sink.retries,
            batches_doubtful: sink.doubtful,
            reconnects: sink.reconnects,
            bytes_read: source.bytes_read,
            seconds,
            rows_per_s: if seconds > 0.0 { published as f64 / seconds } else { 0.0 },
            stopped: false,
        }
    }
}
