//! Samples of one GPU, page by page.
//!
//! The order is (time, metric, partition, offset). Time and metric are the table's own order below
//! the GPU, so that a page reads little more than it shows; partition and offset make it total,
//! since a source may send the same series twice in a millisecond. A page is found by that key and
//! not by counting: rows that are inserted during a walk move no page.
//!
//! How many samples there are in all costs a statement of its own half of what the page does, most of
//! it for planning. A window that is short has its rows counted by the page's statement instead:
//! nearly free there, as its rows lie in the granules that the page reads anyway, but it reads all
//! columns of all of them, which a long window is too much for.

use super::columns::{self, TOTAL};
use super::samples::Samples;
use super::statement::Statement;
use super::{Direction, Reader};
use crate::error::StoreError;
use crate::limits;

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
    /// Samples of the filter are counted too, where that [costs little](Self::counts).
    pub counted: bool,
}

/// The key of a sample in the order of its GPU's samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplePosition {
    pub ts_ms: i64,
    pub metric: String,
    pub partition: u32,
    pub offset: u64,
}

impl SamplePage {
    /// Does the page's own statement count the samples of the filter? Its answer says how many, if it
    /// has any row.
    #[must_use]
    pub fn counts(&self, filter: &SampleFilter) -> bool {
        self.counted && !self.labels && filter.is_short()
    }
}

impl SampleFilter {
    fn is_short(&self) -> bool {
        let ends = self.start_ms.zip(self.end_ms);
        ends.is_some_and(|(start, end)| end.saturating_sub(start) <= limits::COUNTED_WINDOW_MS_MAX)
    }

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

impl SamplePosition {
    /// Leaves out what lies up to here in the direction of the order.
    fn restrict(&self, statement: &mut Statement, direction: Direction) {
        let (edge, beyond) = match direction {
            Direction::Ascending => (
                "ts >= fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC')",
                "(ts, metric, topic_partition, topic_offset) > \
                 (fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC'), {after_metric:String}, \
                 {after_partition:UInt32}, {after_offset:UInt64})",
            ),
            Direction::Descending => (
                "ts <= fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC')",
                "(ts, metric, topic_partition, topic_offset) < \
                 (fromUnixTimestamp64Milli({after_ts:Int64}, 'UTC'), {after_metric:String}, \
                 {after_partition:UInt32}, {after_offset:UInt64})",
            ),
        };
        // The index knows how to use a bound on `ts`; the tuple alone may read everything.
        statement.condition(edge, "after_ts", self.ts_ms);
        statement.condition(beyond, "after_metric", self.metric.as_str());
        statement.parameter("after_partition", u64::from(self.partition));
        statement.parameter("after_offset", self.offset);
    }
}

impl Reader {
    /// Samples of one GPU in the order of their keys.
    ///
    /// # Errors
    /// What the server says, or that it says nothing; mostly later, from [`Samples::read`].
    pub fn samples(&self, filter: &SampleFilter, page: &SamplePage) -> Result<Samples, StoreError> {
        let order = match page.direction {
            Direction::Ascending => "ASC",
            Direction::Descending => "DESC",
        };
        let columns = columns::list();
        let counted = format!("count() OVER () AS {TOTAL}");
        let mut statement = filter.statement();
        let counts = page.counts(filter);
        let source = if counts && page.after.is_some() {
            // Counted before those up to `after` are left out.
            let all = statement.take_filter();
            format!("(SELECT {columns}, {counted} FROM telemetry{all})")
        } else {
            "telemetry".to_owned()
        };
        if let Some(after) = &page.after {
            after.restrict(&mut statement, page.direction);
        }
        statement.parameter("limit", u64::from(page.limit));
        statement.parameter("offset", u64::from(page.offset));
        let more = match (page.labels, counts, page.after.is_some()) {
            (true, _, _) => ", labels".to_owned(),
            (false, false, _) => String::new(),
            (false, true, false) => format!(", {counted}"),
            (false, true, true) => format!(", {TOTAL}"),
        };
        let sql = format!(
            "SELECT {columns}{more} FROM {source}{} \
             ORDER BY ts {order}, metric {order}, topic_partition {order}, topic_offset {order} \
             LIMIT {{limit:UInt64}} OFFSET {{offset:UInt64}}",
            statement.filter()
        );
        let query = statement.query(self, &sql);
        let samples = if page.labels {
            Samples::with_labels(query, &self.store)
        } else {
            Samples::without_labels(query, &self.store)
        };
        samples.map_err(|error| self.store.error(&error))
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
