//! The newest value of each series of a GPU, from the `latest` aggregate table.

use clickhouse::Row;
use serde::Deserialize;

use super::Reader;
use super::statement::Statement;
use crate::error::StoreError;

/// The newest value of one series.
#[derive(Clone, Debug, PartialEq, Row, Deserialize)]
pub struct LatestValue {
    pub metric: String,
    pub value: f64,
    /// Milliseconds since 1970.
    pub ts: i64,
}

impl Reader {
    /// The newest value of every series of a GPU, in the order of their metrics; at most `limit`.
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn latest_of(&self, uuid: &str, limit: u32) -> Result<Vec<LatestValue>, StoreError> {
        let mut statement = Statement::default();
        statement.condition("l.gpu_uuid = {uuid:String}", "uuid", uuid);
        statement.parameter("limit", u64::from(limit));
        let sql = format!(
            "SELECT l.metric AS metric, argMaxMerge(l.value) AS value, max(l.ts) AS ts \
             FROM latest AS l{} GROUP BY l.metric ORDER BY l.metric LIMIT {{limit:UInt64}}",
            statement.filter()
        );
        let rows = statement.query(self, &sql).fetch_all().await;
        rows.map_err(|error| self.store.error(&error))
    }
}
