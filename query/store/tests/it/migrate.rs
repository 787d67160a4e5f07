use lanecast_store::{MIGRATIONS, Retention, Store, StoreConfig, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::tables::{fresh_store, one};

#[tokio::test]
async fn a_fresh_database_gets_every_migration_and_a_second_run_none() {
    let store = fresh_store();
    let first = store.migrate(&Retention::default()).await.unwrap();
    let versions: Vec<u32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    assert_eq!(first.applied, versions);
    assert!(first.retention_changed);
    let second = store.migrate(&Retention::default()).await.unwrap();
    assert_eq!((second.applied.len(), second.retention_changed), (0, false));
    assert_eq!(second.version, first.version);
}

#[tokio::test]
async fn an_edited_migration_is_refused() {
    let store = fresh_store();
    store.migrate(&Retention::default()).await.unwrap();
    let rewrite = "INSERT INTO schema_migrations (version, name, sha256) VALUES (2, 'x', 'beef')";
    store.client().query_raw(rewrite).execute().await.unwrap();
    let refused = store.migrate(&Retention::default()).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::ChangedMigration { version: 2, applied, .. } if applied == "beef"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_schema_of_a_newer_build_is_refused_and_left_alone() {
    let store = fresh_store();
    store.migrate(&Retention::FOREVER).await.unwrap();
    let newer = "INSERT INTO schema_migrations (version, name, sha256) VALUES (9999, 'x', 'y')";
    store.client().query_raw(newer).execute().await.unwrap();
    let refused = store.migrate(&Retention::default()).await.unwrap_err();
    assert!(matches!(refused, StoreError::NewerSchema { applied: 9999, .. }), "{refused}");
    let engine: String =
        one(&store, "SELECT engine_full FROM system.tables WHERE database = currentDatabase() AND name = 'telemetry'").await;
    assert!(!engine.contains("TTL "), "{engine}");
}

#[tokio::test]
async fn processes_that_start_together_all_find_the_schema_complete() {
    let store = fresh_store();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let report = store.migrate(&Retention::default()).await.unwrap();
                let tables = "SELECT count() FROM system.tables WHERE database = currentDatabase()";
                (report.version, one::<u64>(&store, tables).await)
            })
        })
        .collect();
    for run in runs {
        // Five tables, four views, the ledger.
        assert_eq!(run.await.unwrap(), (MIGRATIONS.len() as u32, 10));
    }
    assert!(store.migrate(&Retention::default()).await.unwrap().applied.is_empty());
}

#[tokio::test]
async fn a_run_that_died_in_the_middle_is_completed_by_the_next() {
    let store = fresh_store();
    store.migrate(&Retention::FOREVER).await.unwrap();
    for statement in ["DROP VIEW gpus_view", "DELETE FROM schema_migrations WHERE version = 2"] {
        store.client().query_raw(statement).execute().await.unwrap();
    }
    let report = store.migrate(&Retention::FOREVER).await.unwrap();
    assert_eq!(report.applied, [2]);
    let views = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'gpus_view'";
    assert_eq!(one::<u64>(&store, views).await, 1);
}

/// The first request dies with the server; the server that comes back has no database yet.
#[tokio::test]
async fn a_server_that_restarts_during_the_first_migration_is_worth_another_try() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let restarting = async {
        drop(listener.accept().await.unwrap());
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let text = "Code: 81. DB::Exception: Database does not exist. (UNKNOWN_DATABASE)";
            let answer = format!(
                "HTTP/1.1 404 Not Found\r\nX-ClickHouse-Exception-Code: 81\r\n\
                 Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let store = Store::connect(StoreConfig { url, ..StoreConfig::default() }).unwrap();
    let error = tokio::select! {
        migrated = store.migrate(&Retention::FOREVER) => migrated.unwrap_err(),
        () = restarting => unreachable!("it serves for ever"),
    };
    assert!(error.may_pass(), "{error}");
}
