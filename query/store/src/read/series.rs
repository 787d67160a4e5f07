//! Series of one GPU in buckets of time.
//!
//! A roll-up is read instead of the samples where it gives the same answer: it holds what the
//! aggregate needs, and each bucket is made of whole rows of it. Buckets are always whole, so what a
//! bucket says does not depend on the window that it is asked in.

use clickhouse::Row;
use clickhouse::query::RowCursor;
use serde::Deserialize;

use super::Reader;
use super::statement::Statement;
use crate::error::StoreError;
use crate::limits;
use crate::store::Store;

/// Buckets of time, one after the other: half-open, aligned to 1970, named by their starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Start of the first one, milliseconds since 1970; a multiple of the step.
    pub first_ms: i64,
    /// More than 0.
    pub step_ms: i64,
    pub points: u32,
}

/// What a bucket says of the samples in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    Average,
    Minimum,
    Maximum,
    Last,
    Sum,
    Count,
    /// Percent, 50 to 99; exact, between two samples a share of both.
    Percentile(u8),
    /// Increase of a counter in a second.
    Rate,
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    Raw,
    Minute,
    Hour,
}

/// Which series.
#[derive(Clone, Debug)]
pub struct SeriesFilter {
    pub gpu_uuid: String,
    /// Empty admits all.
    pub metrics: Vec<String>,
}

/// One bucket of one series, borrowed from the answer's buffer. Buckets without samples have none.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub struct PointRow<'a> {
    pub metric: &'a str,
    /// Number of the bucket in the grid.
    pub bucket: u32,
    pub value: f64,
}

/// Points as they arrive, in the order of metric and bucket. Dropped early, it closes the connection
/// and the server stops.
pub struct Points {
    cursor: RowCursor<PointRow<'static>>,
    store: Store,
}

impl std::fmt::Debug for Points {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Points").finish_non_exhaustive()
    }
}

impl Points {
    /// The next point, `None` after the last.
    ///
    /// # Errors
    /// What the server says in the middle of its answer, or that it went away.
    pub async fn next(&mut self) -> Result<Option<PointRow<'_>>, StoreError> {
        self.cursor.next().await.map_err(|error| self.store.error(&error))
    }
}

impl Grid {
    /// The end of the last bucket, which is not in it; milliseconds since 1970.
    #[must_use]
    pub fn end_ms(&self) -> i64 {
        self.start_ms(self.points)
    }

    /// The start of a bucket.
    #[must_use]
    pub fn start_ms(&self, bucket: u32) -> i64 {
        self.first_ms + i64::from(bucket) * self.step_ms
    }

    /// The coarsest table that answers exactly.
    #[must_use]
    pub fn resolution(&self, aggregate: Aggregate) -> Resolution {
        let held = match aggregate {
            Aggregate::Average
            | Aggregate::Minimum
            | Aggregate::Maximum
            | Aggregate::Last
            | Aggregate::Sum
            | Aggregate::Count => true,
            Aggregate::Percentile(_) | Aggregate::Rate => false,
        };
        // A roll-up's times are `DateTime`, 1970 to 2106.
        let in_range = self.first_ms >= 0 && self.end_ms() <= i64::from(u32::MAX) * 1_000;
        let made_of = |seconds: i64| held && in_range && self.step_ms % (seconds * 1_000) == 0;
        if made_of(3_600) {
            Resolution::Hour
        } else if made_of(60) {
            Resolution::Minute
        } else {
            Resolution::Raw
        }
    }
}

impl Resolution {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }

    /// The table under its name in statements, and the columns of a time in it.
    fn table(self) -> Table {
        let rolled_up = |from| Table {
            from,
            since: "t.ts >= toDateTime(intDiv({from:Int64}, 1000), 'UTC')",
            until: "t.ts < toDateTime(intDiv({until:Int64}, 1000), 'UTC')",
            time_ms: "toInt64(toUnixTimestamp(t.ts)) * 1000",
        };
        match self {
            Self::Raw => Table {
                from: "telemetry AS t",
                since: "t.ts >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')",
                until: "t.ts < fromUnixTimestamp64Milli({until:Int64}, 'UTC')",
                time_ms: "toUnixTimestamp64Milli(t.ts)",
            },
            Self::Minute => rolled_up("telemetry_1m AS t"),
            Self::Hour => rolled_up("telemetry_1h AS t"),
        }
    }
}

struct Table {
    from: &'static str,
    since: &'static str,
    until: &'static str,
    time_ms: &'static str,
}

impl Aggregate {
    /// The value of a bucket, out of the rows of `resolution`.
    fn expression(self, resolution: Resolution) -> String {
        let raw = resolution == Resolution::Raw;
        let expression = match self {
            Self::Average if raw => "avg(t.value)",
            Self::Average => "sum(t.sum) / sum(t.count)",
            Self::Minimum if raw => "min(t.value)",
            Self::Minimum => "min(t.min)",
            Self::Maximum if raw => "max(t.value)",
            Self::Maximum => "max(t.max)",
            Self::Last if raw => "argMax(t.value, t.ts)",
            Self::Last => "argMaxMerge(t.last)",
            Self::Sum if raw => "sum(t.value)",
            Self::Sum => "sum(t.sum)",
            Self::Count if raw => "toFloat64(count())",
            Self::Count => "toFloat64(sum(t.count))",
            Self::Rate => "sum(t.increase) / sum(t.elapsed_ms) * 1000",
            Self::Percentile(percent) => {
                return format!("quantileExactInclusive(0.{percent:02})(t.value)");
            }
        };
        expression.to_owned()
    }
}

/// What a counter gained from the sample before to each sample: after a reset, all that it shows.
/// Two samples further apart than `reach` say nothing of the time between them.
const INCREASES: &str = "(SELECT metric, ts, \
     if(value < before, value, value - before) AS increase, ms - before_ms AS elapsed_ms \
     FROM (SELECT metric, ts, toUnixTimestamp64Milli(ts) AS ms, value, \
     row_number() OVER w AS number, lagInFrame(value) OVER w AS before, \
     lagInFrame(toUnixTimestamp64Milli(ts)) OVER w AS before_ms FROM telemetry AS t";
const INCREASES_END: &str = " AND isFinite(value) WINDOW w AS (PARTITION BY metric \
     ORDER BY ts, topic_partition, topic_offset ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)) \
     WHERE number > 1 AND elapsed_ms BETWEEN 0 AND {reach:Int64} \
     AND ms >= {first:Int64}) AS t";

impl Reader {
    /// Points of a GPU's series in the order of metric and bucket, read from `resolution`.
    ///
    /// # Errors
    /// What the server says, or that it says nothing; mostly later, from [`Points::next`].
    pub fn series(
        &self,
        filter: &SeriesFilter,
        grid: &Grid,
        aggregate: Aggregate,
        resolution: Resolution,
    ) -> Result<Points, StoreError> {
        let table = resolution.table();
        let mut statement = Statement::default();
        statement.condition("t.gpu_uuid = {uuid:String}", "uuid", filter.gpu_uuid.as_str());
        let reach_ms = limits::RATE_REACH_MS_MIN.max(grid.step_ms);
        let rate = aggregate == Aggregate::Rate;
        // The sample before the first of the window.
        let from_ms = if rate { grid.first_ms - reach_ms } else { grid.first_ms };
        statement.condition(table.since, "from", from_ms);
        statement.condition(table.until, "until", grid.end_ms());
        if !filter.metrics.is_empty() {
            statement.condition(
                "t.metric IN {metrics:Array(String)}",
                "metrics",
                filter.metrics.as_slice(),
            );
        }
        statement.parameter("first", grid.first_ms);
        statement.parameter("step", grid.step_ms);
        let conditions = statement.filter();
        let source = if rate {
            statement.parameter("reach", reach_ms);
            format!("{INCREASES}{conditions}{INCREASES_END}")
        } else {
            format!("{}{conditions}", table.from)
        };
        let sql = format!(
            "SELECT t.metric AS metric, \
             toUInt32(intDiv({} - {{first:Int64}}, {{step:Int64}})) AS bucket, \
             {} AS value FROM {source} GROUP BY metric, bucket ORDER BY metric, bucket",
            table.time_ms,
            aggregate.expression(resolution),
        );
        let cursor = statement.query(self, &sql).fetch();
        let cursor = cursor.map_err(|error| self.store.error(&error))?;
        Ok(Points { cursor, store: self.store.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolution(first_s: i64, step_s: i64, aggregate: Aggregate) -> &'static str {
        let grid = Grid { first_ms: first_s * 1_000, step_ms: step_s * 1_000, points: 10 };
        grid.resolution(aggregate).name()
    }

    #[test]
    fn a_roll_up_is_taken_only_where_it_answers_exactly() {
        for aggregate in [Aggregate::Average, Aggregate::Last, Aggregate::Count] {
            assert_eq!(resolution(0, 1, aggregate), "raw");
            assert_eq!(resolution(90, 90, aggregate), "raw");
            assert_eq!(resolution(0, 60, aggregate), "1m");
            assert_eq!(resolution(1_800, 1_800, aggregate), "1m");
            assert_eq!(resolution(5_400, 5_400, aggregate), "1m");
            assert_eq!(resolution(0, 3_600, aggregate), "1h");
            assert_eq!(resolution(86_400, 86_400, aggregate), "1h");
        }
        for aggregate in [Aggregate::Percentile(99), Aggregate::Rate] {
            assert_eq!(resolution(0, 3_600, aggregate), "raw");
        }
        // Outside of a roll-up's times.
        assert_eq!(resolution(-60, 60, Aggregate::Sum), "raw");
        assert_eq!(resolution(i64::from(u32::MAX) / 60 * 60, 60, Aggregate::Sum), "raw");
        let half = Grid { first_ms: 0, step_ms: 60_500, points: 1 };
        assert_eq!(half.resolution(Aggregate::Sum), Resolution::Raw);
    }
}
