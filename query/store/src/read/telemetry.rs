//! Samples of one GPU, page by page.
//!
//! The order is (time, metric, partition, offset). Time and metric are the table's own order below
//! the GPU, so that a page reads little more than it shows; partition and offset make it total,
//! since a source may send the same series twice in a millisecond. A page is found by that key and
//! not by counting: rows that are inserted during a walk move no page.

use clickhouse::Row;
use clickhouse::query::RowCursor;
use lanecast_telemetry::{Identity, labels};
use serde::Deserialize;

use super::statement::Statement;
use super::{Direction, Reader};
use crate::error::StoreError;
use crate::store::Store;

/// One sample, borrowed from the answer's buffer.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub struct SampleRow<'a> {
    /// Milliseconds since 1970.
    pub ts: i64,
    pub source_ts: i64,
    pub metric: &'a str,
    pub value: f64,
    pub gpu_uuid: &'a str,
    pub gpu_index: u32,
    pub device: &'a str,
    pub model: &'a str,
    pub hostname: &'a str,
    pub container: &'a str,
    pub pod: &'a str,
    pub namespace: &'a str,
    /// Empty unless the page asked for labels.
    #[serde(borrow)]
    pub labels: Vec<(&'a str, &'a str)>,
    pub topic_partition: u32,
    pub topic_offset: u64,
}

/// Which samples.
#[derive(Clone, Debug)]
pub struct SampleFilter {
    pub gpu_uuid: String,
    /// Both ends included; milliseconds since 1970.
    pub start_ms: Option<i64>,
    pub end_ms: Option<i64>,
    /// Empty admits all.
    pub metrics: Vec<String>,
}

/// Which of them.
#[derive(Clone, Debug)]
pub struct SamplePage {
    pub direction: Direction,
    /// Only samples beyond this one in the direction of the order.
    pub after: Option<SamplePosition>,
    pub limit: u32,
    pub offset: u32,
    pub labels: bool,
}

/// The key of a sample in the order of its GPU's samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePosition {
    pub ts_ms: i64,
    pub metric: String,
    pub partition: u32,
    pub offset: u64,
}

/// Samples as they arrive. Dropped early, it closes the connection and the server stops.
pub struct Samples {
    cursor: RowCursor<SampleRow<'static>>,
    store: Store,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Samples").finish_non_exhaustive()
    }
}

impl SampleRow<'_> {
    /// All labels of the sample as its exporter wrote them; empty if it had none of its own.
    #[must_use]
    pub fn labels_raw(&self) -> String {
        let identity = Identity {
            uuid: self.gpu_uuid,
            device: self.device,
            model: self.model,
            hostname: self.hostname,
            container: self.container,
            pod: self.pod,
            namespace: self.namespace,
            gpu_index: self.gpu_index,
            labels: &self.labels,
        };
        labels::render(&identity, self.metric)
    }

    #[must_use]
    pub fn position(&self) -> SamplePosition {
        SamplePosition {
            ts_ms: self.ts,
            metric: self.metric.to_owned(),
            partition: self.topic_partition,
            offset: self.topic_offset,
        }
    }
}

impl Samples {
    /// The next sample, `None` after the last.
    ///
    /// # Errors
    /// What the server says in the middle of its answer, or that it went away.
    pub async fn next(&mut self) -> Result<Option<SampleRow<'_>>, StoreError> {
        self.cursor.next().await.map_err(|error| self.store.error(&error))
    }
}

impl SampleFilter {
    fn statement(&self) -> Statement {
        let mut statement = Statement::default();
        statement.condition("gpu_uuid = {uuid:String}", "uuid", self.gpu_uuid.as_str());
        if let Some(start_ms) = self.start_ms {
            let condition = "ts >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')";
            statement.condition(condition, "start", start_ms);
        }
        if let Some(end_ms) = self.end_ms {
            let condition = "ts <= fromUnixTimestamp64Milli({end:Int64}, 'UTC')";
            statement.condition(condition, "end", end_ms);
        }
        if !self.metrics.is_empty() {
            let condition = "has({metrics:Array(String)}, metric)";
            statement.condition(condition, "metrics", self.metrics.as_slice());
        }
        statement
    }
}

impl Reader {
    /// Samples of one GPU in the order of their keys.
    ///
    /// # Errors
    /// What the server says, or that it says nothing; mostly later, from [`Samples::next`].
    pub fn samples(&self, filter: &SampleFilter, page: &SamplePage) -> Result<Samples, StoreError> {
        let mut statement = filter.statement();
        let (edge, beyond, order) = match page.direction {
            Direction::Ascending => (
                "ts >= fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC')",
                "(ts, metric, topic_partition, topic_offset) > \
                 (fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC'), {after_metric:String}, \
                 {after_partition:UInt32}, {after_offset:UInt64})",
                "ASC",
            ),
            Direction::Descending => (
                "ts <= fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC')",
                "(ts, metric, topic_partition, topic_offset) < \
                 (fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC'), {after_metric:String}, \
                 {after_partition:UInt32}, {after_offset:UInt64})",
                "DESC",
            ),
        };
        if let Some(after) = &page.after {
            // The index knows how to use a bound on `ts`; the tuple alone may read everything.
            statement.condition(edge, "after_ts", after.ts_ms);
            statement.condition(beyond, "after_metric", after.metric.as_str());
            statement.parameter("after_partition", u64::from(after.partition));
            statement.parameter("after_offset", after.offset);
        }
        statement.parameter("limit", u64::from(page.limit));
        statement.parameter("offset", u64::from(page.offset));
        let labels = if page.labels {
            "labels"
        } else {
            "CAST(map(), 'Map(LowCardinality(String), String)') AS labels"
        };
        let sql = format!(
            "SELECT ts, source_ts, metric, value, gpu_uuid, gpu_index, device, model, hostname, \
             container, pod, namespace, {labels}, topic_partition, topic_offset FROM telemetry{} \
             ORDER BY ts {order}, metric {order}, topic_partition {order}, topic_offset {order} \
             LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
            statement.filter()
        );
        let cursor = statement.query(self, &sql).fetch();
        let cursor = cursor.map_err(|error| self.store.error(&error))?;
        Ok(Samples { cursor, store: self.store.clone() })
    }

    /// How many samples there are.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn sample_count(&self, filter: &SampleFilter) -> Result<u64, StoreError> {
        let statement = filter.statement();
        let sql = format!("SELECT count() FROM telemetry{}", statement.filter());
        let count = statement.query(self, &sql).fetch_one().await;
        count.map_err(|error| self.store.error(&error))
    }
}
