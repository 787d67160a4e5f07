//! How long rows are kept.

use clickhouse::Row;
use serde::Deserialize;

use crate::Store;
use crate::error::StoreError;

/// Days that rows are kept; 0 keeps them for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Of the raw table.
    pub raw_days: u32,
    /// Of the roll-ups.
    pub rollup_days: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Self { raw_days: 30, rollup_days: 400 }
    }
}

impl Retention {
    /// Nothing is ever dropped.
    pub const FOREVER: Retention = Retention { raw_days: 0, rollup_days: 0 };
}

/// BAD_ARGUMENTS, which is all that `REMOVE TTL` can say.
const NO_TTL_TO_REMOVE: u32 = 36;

#[derive(Row, Deserialize)]
struct Table {
    name: String,
    engine_full: String,
}

/// Makes the tables' TTL what it should be; returns whether anything had to change.
///
/// A TTL is only touched when it differs, because each change rewrites what is known of every part.
pub(crate) async fn apply(store: &Store, retention: &Retention) -> Result<bool, StoreError> {
    let sql = "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() \
               AND name IN ('telemetry', 'telemetry_1m', 'telemetry_1h')";
    let tables = store.rows(store.client().query_raw(sql).fetch_all::<Table>()).await?;
    let mut changed = false;
    for table in tables {
        let days =
            if table.name == "telemetry" { retention.raw_days } else { retention.rollup_days };
        if ttl_days(&table.engine_full) == Ttl::of(days) {
            continue;
        }
        let target = format!("{}.{}{}", store.database(), table.name, on_cluster(store));
        let statement = if days == 0 {
            format!("ALTER TABLE {target} REMOVE TTL")
        } else {
            format!("ALTER TABLE {target} MODIFY TTL toDateTime(ts) + toIntervalDay({days})")
        };
        match store.execute(&statement).await {
            Ok(()) => changed = true,
            // Another process was first and took the TTL away: there is none to remove.
            Err(error) if days == 0 && error.code() == Some(NO_TTL_TO_REMOVE) => {}
            Err(error) => return Err(error),
        }
        tracing::info!(table = table.name, days, "retention set");
    }
    Ok(changed)
}

fn on_cluster(store: &Store) -> String {
    store.cluster().map_or_else(String::new, |cluster| format!(" ON CLUSTER {cluster}"))
}

#[derive(Debug, PartialEq, Eq)]
enum Ttl {
    None,
    Days(u32),
    /// Set by somebody else; ours replaces it.
    Foreign,
}

impl Ttl {
    fn of(days: u32) -> Self {
        if days == 0 { Ttl::None } else { Ttl::Days(days) }
    }
}

/// Reads the TTL out of `... ORDER BY ... TTL toDateTime(ts) + toIntervalDay(30) SETTINGS ...`.
fn ttl_days(engine_full: &str) -> Ttl {
    let Some((_, rest)) = engine_full.split_once(" TTL ") else {
        return Ttl::None;
    };
    let expression = rest.split(" SETTINGS ").next().unwrap_or_default();
    expression
        .strip_prefix("toDateTime(ts) + toIntervalDay(")
        .and_then(|rest| rest.strip_suffix(')'))
        .and_then(|days| days.parse().ok())
        .map_or(Ttl::Foreign, Ttl::Days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ttl_is_read_from_the_engine() {
        let engine = "MergeTree PARTITION BY toDate(ts) ORDER BY (gpu_uuid, ts, metric)";
        let with = |ttl: &str| ttl_days(&format!("{engine} TTL {ttl} SETTINGS a = 1"));
        assert_eq!(ttl_days(&format!("{engine} SETTINGS a = 1")), Ttl::None);
        assert_eq!(with("toDateTime(ts) + toIntervalDay(30)"), Ttl::Days(30));
        assert_eq!(with("ts + toIntervalMonth(1)"), Ttl::Foreign);
    }
}
