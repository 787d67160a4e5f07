use lanecast_store::{Retention, Store};

use crate::tables::{fresh_store, one};

async fn engine(store: &Store, table: &str) -> String {
    let sql = format!(
        "SELECT engine_full FROM system.tables \
         WHERE database = currentDatabase() AND name = '{table}'"
    );
    one(store, &sql).await
}

#[tokio::test]
async fn retention_is_set_changed_and_taken_away() {
    let store = fresh_store();
    store.migrate(&Retention { raw_days: 30, rollup_days: 400 }).await.unwrap();
    assert!(engine(&store, "telemetry").await.contains("TTL toDateTime(ts) + toIntervalDay(30)"));
    for rollup in ["telemetry_1m", "telemetry_1h"] {
        assert!(engine(&store, rollup).await.contains("toIntervalDay(400)"), "{rollup}");
    }

    let changed = store.migrate(&Retention { raw_days: 7, rollup_days: 0 }).await.unwrap();
    assert!(changed.retention_changed);
    assert!(engine(&store, "telemetry").await.contains("toIntervalDay(7)"));
    assert!(!engine(&store, "telemetry_1m").await.contains("TTL "));

    let forever = store.migrate(&Retention::FOREVER).await.unwrap();
    assert!(forever.retention_changed);
    assert!(!engine(&store, "telemetry").await.contains("TTL "));
    assert!(!store.migrate(&Retention::FOREVER).await.unwrap().retention_changed);
}

#[tokio::test]
async fn identities_and_latest_values_have_no_retention() {
    let store = fresh_store();
    store.migrate(&Retention { raw_days: 1, rollup_days: 1 }).await.unwrap();
    for table in ["gpus", "latest"] {
        assert!(!engine(&store, table).await.contains("TTL "), "{table}");
    }
}
