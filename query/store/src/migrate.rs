//! The migration runner.
//!
//! Migrations are embedded files `NNNN_name.sql`, numbered from 1 without holes and never edited
//! once released. Two processes may migrate the same database at the same moment (the consumer and
//! the query service start together), and one may die in the middle: ClickHouse has no
//! transaction around schema changes, so every statement is one that may run twice and at the same
//! time as itself (`IF NOT EXISTS`), and a migration is recorded when all of it ran. Whoever
//! returns from [`run`] therefore knows that everything is there.
//!
//! `schema_migrations` keeps (version, checksum) pairs. A version with another checksum than this
//! build's means that history was edited; a version above this build's means that a newer build
//! owns the database. Both are refused before anything is touched.

use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Store;
use crate::error::{Cause, StoreError};

/// One embedded file.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    pub version: u32,
    pub name: &'static str,
    pub sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name, ".sql")),
        }),*]
    };
}

/// The schema, oldest change first.
pub const MIGRATIONS: &[Migration] = migrations![
    1 "0001_telemetry",
    2 "0002_gpus",
    3 "0003_latest",
    4 "0004_telemetry_1m",
    5 "0005_telemetry_1h",
];

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationReport {
    /// The schema's version now.
    pub version: u32,
    /// Versions that this run applied; empty if there was nothing to do.
    pub applied: Vec<u32>,
    pub retention_changed: bool,
}

impl Migration {
    /// SHA-256 of the file as it is embedded, before any name is put in.
    fn checksum(&self) -> String {
        Sha256::digest(self.sql.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[derive(Row, Deserialize)]
struct Applied {
    version: u32,
    sha256: String,
}

/// Applies what is missing.
pub(crate) async fn run(
    store: &Store,
    migrations: &'static [Migration],
) -> Result<MigrationReport, StoreError> {
    make_ledger(store).await?;
    let applied = read_ledger(store).await?;
    check(store, migrations, &applied)?;

    let mut report = MigrationReport::default();
    for migration in migrations {
        report.version = migration.version;
        if applied.iter().any(|row| row.version == migration.version) {
            continue;
        }
        apply(store, migration).await.map_err(|source| StoreError::Migration {
            version: migration.version,
            name: migration.name,
            source: Box::new(source),
        })?;
        tracing::info!(version = migration.version, name = migration.name, "migration applied");
        report.applied.push(migration.version);
    }
    Ok(report)
}

/// The database and the table of applied migrations.
async fn make_ledger(store: &Store) -> Result<(), StoreError> {
    let database = "CREATE DATABASE IF NOT EXISTS {database} {on_cluster}";
    let made = store.execute(&render(store, database)).await;
    // A user that may not create databases can still use one that exists. Any other failure ends
    // the attempt here, or a server that comes up just now would be taken for one that will never
    // have the database.
    let denied = match made {
        Ok(()) => None,
        Err(error @ StoreError::Retryable { cause: Cause::Denied, .. }) => Some(error),
        Err(error) => return Err(error),
    };
    let ledger = render(
        store,
        "CREATE TABLE IF NOT EXISTS {database}.schema_migrations {on_cluster} (\
         version UInt32, name String, sha256 String, \
         applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) \
         ENGINE = {replicated}ReplacingMergeTree(applied_at) ORDER BY (version, sha256)",
    );
    store.execute(&ledger).await.map_err(|error| denied.unwrap_or(error))
}

async fn read_ledger(store: &Store) -> Result<Vec<Applied>, StoreError> {
    let sql = "SELECT DISTINCT version, sha256 FROM schema_migrations ORDER BY version";
    store.rows(store.client().query_raw(sql).fetch_all::<Applied>()).await
}

fn check(store: &Store, migrations: &[Migration], applied: &[Applied]) -> Result<(), StoreError> {
    for row in applied {
        let Some(migration) = migrations.iter().find(|known| known.version == row.version) else {
            return Err(StoreError::NewerSchema {
                database: store.database().to_owned(),
                applied: applied.iter().map(|row| row.version).max().unwrap_or_default(),
                known: migrations.iter().map(|known| known.version).max().unwrap_or_default(),
            });
        };
        let known = migration.checksum();
        if row.sha256 != known {
            return Err(StoreError::ChangedMigration {
                database: store.database().to_owned(),
                version: row.version,
                name: migration.name.to_owned(),
                applied: row.sha256.clone(),
                known,
            });
        }
    }
    Ok(())
}

async fn apply(store: &Store, migration: &Migration) -> Result<(), StoreError> {
    for statement in statements(migration.sql) {
        store.execute(&render(store, &statement)).await?;
    }
    // Two processes that apply the same migration write the same pair twice, which is the same.
    let Migration { version, name, .. } = migration;
    let row = format!(
        "INSERT INTO {{database}}.schema_migrations (version, name, sha256) \
         SELECT {version}, '{name}', '{}'",
        migration.checksum()
    );
    store.execute(&render(store, &row)).await
}

/// The statements of a file: comment lines dropped, cut where a line ends in a semicolon.
fn statements(sql: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    for line in sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
        let line = line.trim_end();
        statement.push_str(line.strip_suffix(';').unwrap_or(line));
        statement.push('\n');
        if line.ends_with(';') {
            statements.push(core::mem::take(&mut statement).trim().to_owned());
        }
    }
    assert!(statement.trim().is_empty(), "a migration ends with a semicolon");
    statements
}

/// Puts the database's name in and, on a cluster, what makes tables replicated ones.
fn render(store: &Store, statement: &str) -> String {
    let (on_cluster, replicated) = match store.cluster() {
        Some(cluster) => (format!("ON CLUSTER {cluster}"), "Replicated"),
        None => (String::new(), ""),
    };
    statement
        .replace("{database}", store.database())
        .replace("{on_cluster}", &on_cluster)
        .replace("{replicated}", replicated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreConfig, limits};

    #[test]
    fn versions_count_from_one_and_match_their_names() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            assert!(migration.name.starts_with(&format!("{:04}_", migration.version)));
        }
    }

    /// Databases out there hold these sums. A new change of the schema is a new file.
    #[test]
    fn released_migrations_are_never_edited() {
        let sums: Vec<_> = MIGRATIONS.iter().map(Migration::checksum).collect();
        let released = [
            "9d4f093b5f635e643747c19ed989cad5f046ac75cb68704f4cd740014f4f9783",
            "55be150e043a27028c1383915d8b64093a170a42880e7e90fa32cde79dff0c37",
            "467f65cb4765c4ec662516e2c18099fb62183c934ce84fa3da06c368873a8572",
            "ff8d5dc5254319d15ad132ed594d44f2fe8501ac5cb85ac5a5812850265092ab",
            "1fd243bae4a1605a405868efbc325c45e736d775888e7f5bb6e4167ed58fd6ba",
        ];
        assert_eq!(sums, released);
    }

    #[test]
    fn every_statement_may_run_twice() {
        for migration in MIGRATIONS {
            for statement in statements(migration.sql) {
                let twice =
                    ["CREATE TABLE IF NOT EXISTS", "CREATE MATERIALIZED VIEW IF NOT EXISTS"];
                assert!(twice.iter().any(|start| statement.starts_with(start)), "{statement}");
            }
        }
    }

    #[test]
    fn every_table_remembers_tokens() {
        let window =
            format!("non_replicated_deduplication_window = {}", limits::DEDUPLICATION_WINDOW);
        for migration in MIGRATIONS {
            for statement in statements(migration.sql) {
                if statement.starts_with("CREATE TABLE") {
                    assert!(statement.contains(&window), "{statement}");
                }
            }
        }
    }

    #[test]
    fn a_cluster_makes_every_table_replicated() {
        let store = Store::connect(StoreConfig::default()).unwrap().with_cluster("main").unwrap();
        for migration in MIGRATIONS {
            for statement in statements(migration.sql) {
                let sql = render(&store, &statement);
                assert!(sql.contains("ON CLUSTER main"), "{sql}");
                assert!(!sql.contains("ENGINE = ") || sql.contains("ENGINE = Replicated"), "{sql}");
                assert!(!sql.contains('{') && !sql.contains('}'), "{sql}");
            }
        }
    }

    #[test]
    fn files_are_cut_at_semicolons_that_end_a_line() {
        let sql = "-- a; comment;\nSELECT ';x'\nFROM a;\n\nSELECT 2;\n";
        assert_eq!(statements(sql), ["SELECT ';x'\nFROM a", "SELECT 2"]);
    }
}
