//! The connection.

use core::fmt;
use core::time::Duration;

use bytes::Bytes;
use clickhouse::{Client, Compression};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::error::{StoreError, origin};
use crate::migrate::{self, MigrationReport};
use crate::retention::{self, Retention};
use crate::{InsertToken, insert, limits};

/// The database that everything lives in unless told otherwise.
pub const DEFAULT_DATABASE: &str = "lanecast";

/// Where ClickHouse is and as whom to speak to it.
#[derive(Clone)]
pub struct StoreConfig {
    /// `http://host:port`.
    pub url: String,
    /// Empty: the server's default user.
    pub user: String,
    pub password: String,
    /// Made by [`Store::migrate`] if it does not exist.
    pub database: String,
    /// How long an insert waits for its answer before its outcome counts as unknown.
    pub insert_timeout: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:8123".into(),
            user: String::new(),
            password: String::new(),
            database: DEFAULT_DATABASE.into(),
            insert_timeout: limits::INSERT_ANSWER_TIMEOUT,
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("url", &origin(&self.url))
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// A ClickHouse database that holds Lanecast's tables. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Store {
    client: Client,
    /// The same server without a database, for what comes before the database exists.
    server: Client,
    url: String,
    database: String,
    cluster: Option<String>,
    insert_timeout: Duration,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &origin(&self.url))
            .field("database", &self.database)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Checks the settings and readies a connection pool. Nothing is sent yet: a server that is
    /// down shows at the first request.
    ///
    /// # Errors
    /// [`StoreError::InvalidConfig`].
    pub fn connect(config: StoreConfig) -> Result<Self, StoreError> {
        let StoreConfig { url, user, password, database, insert_timeout } = config;
        if !url.starts_with("http://") {
            return Err(StoreError::InvalidConfig {
                setting: "url",
                value: origin(&url),
                reason: "it must begin with http://",
            });
        }
        check_name("database", &database)?;
        if insert_timeout.is_zero() {
            return Err(StoreError::InvalidConfig {
                setting: "insert_timeout",
                value: "0".into(),
                reason: "it must be longer than zero",
            });
        }

        // The crate's own connector leaves Nagle's algorithm on: 49 ms instead of 7.4 ms for an
        // insert of 2,000 rows.
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(60)));
        connector.set_connect_timeout(Some(limits::CONNECT_TIMEOUT));
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(limits::IDLE_CONNECTION)
            .build(connector);

        let mut server = Client::with_http_client(http)
            .with_url(&url)
            .with_compression(compression(&url))
            .with_product_info("lanecast", env!("CARGO_PKG_VERSION"));
        if !user.is_empty() {
            server = server.with_user(user);
        }
        if !password.is_empty() {
            server = server.with_password(password);
        }
        let client = server.clone().with_database(&database);
        Ok(Self { client, server, url, database, cluster: None, insert_timeout })
    }

    /// Makes the tables replicated ones on every replica of this ClickHouse cluster.
    ///
    /// # Errors
    /// [`StoreError::InvalidConfig`].
    pub fn with_cluster(mut self, cluster: &str) -> Result<Self, StoreError> {
        check_name("cluster", cluster)?;
        self.cluster = Some(cluster.to_owned());
        Ok(self)
    }

    /// The client, bound to the database.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The server's address, without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        origin(&self.url)
    }

    /// The server answers queries.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], or what the server says.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let query = self.server.query_raw("SELECT 1").fetch_one::<u8>();
        match tokio::time::timeout(limits::PING_TIMEOUT, query).await {
            Ok(answer) => answer.map(drop).map_err(|error| self.error(&error)),
            Err(_) => Err(self.silent(limits::PING_TIMEOUT)),
        }
    }

    /// Brings the schema to this build's version and sets the retention. Any number of processes
    /// may do this at once; a second run changes nothing.
    ///
    /// # Errors
    /// [`StoreError::ChangedMigration`] and [`StoreError::NewerSchema`] before anything is
    /// touched; otherwise what the server says.
    pub async fn migrate(&self, retention: &Retention) -> Result<MigrationReport, StoreError> {
        let mut report = migrate::run(self, migrate::MIGRATIONS).await?;
        report.retention_changed = retention::apply(self, retention).await?;
        Ok(report)
    }

    /// Stores one block, once: a token that was stored before changes nothing and is a success.
    ///
    /// `block` is in ClickHouse's Native format with the columns of `telemetry`, as
    /// [`NativeBlock`](crate::NativeBlock) makes it.
    ///
    /// # Errors
    /// Whatever the server says, sorted by what to do about it.
    pub async fn insert_native(&self, token: &InsertToken, block: Bytes) -> Result<(), StoreError> {
        insert::run(self, token, block).await
    }

    pub(crate) fn insert_timeout(&self) -> Duration {
        self.insert_timeout
    }

    pub(crate) fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Runs one statement that answers nothing.
    pub(crate) async fn execute(&self, statement: &str) -> Result<(), StoreError> {
        let timeout = limits::MIGRATION_STATEMENT_TIMEOUT;
        match tokio::time::timeout(timeout, self.server.query_raw(statement).execute()).await {
            Ok(answer) => answer.map_err(|error| self.error(&error)),
            Err(_) => Err(self.silent(timeout)),
        }
    }

    /// Waits for an answer of rows no longer than for a statement.
    pub(crate) async fn rows<T>(
        &self,
        answer: impl Future<Output = clickhouse::error::Result<Vec<T>>>,
    ) -> Result<Vec<T>, StoreError> {
        let timeout = limits::MIGRATION_STATEMENT_TIMEOUT;
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.map_err(|error| self.error(&error)),
            Err(_) => Err(self.silent(timeout)),
        }
    }

    pub(crate) fn error(&self, error: &clickhouse::error::Error) -> StoreError {
        StoreError::from_client(error, &self.url)
    }

    fn silent(&self, timeout: Duration) -> StoreError {
        let message = format!("no answer within {} s", timeout.as_secs());
        StoreError::Unreachable { url: origin(&self.url), message }
    }
}

/// On this machine the copy is cheaper than the compression.
fn compression(url: &str) -> Compression {
    let origin = origin(url);
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let loopback = host == "localhost"
        || host.parse::<core::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback { Compression::None } else { Compression::Lz4 }
}

/// Names go into statements as they are, so only plain ones are taken.
fn check_name(setting: &'static str, name: &str) -> Result<(), StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let reason = if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
        "it must have 1 to 64 characters"
    } else if !name.chars().all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
        "only letters, digits and _ are allowed, and no digit first"
    } else {
        return Ok(());
    };
    Err(StoreError::InvalidConfig { setting, value: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_end_a_statement_are_refused() {
        for bad in ["", "a;b", "a b", "`a`", "1a", "a.b", &"a".repeat(65)] {
            let config = StoreConfig { database: bad.into(), ..StoreConfig::default() };
            let refused = Store::connect(config).unwrap_err();
            assert!(matches!(refused, StoreError::InvalidConfig { .. }), "{bad:?}: {refused}");
        }
    }

    #[test]
    fn only_remote_servers_get_compressed_blocks() {
        for local in ["http://127.0.0.1:8123", "http://localhost", "http://[::1]:8123/"] {
            assert_eq!(compression(local), Compression::None, "{local}");
        }
        assert_eq!(compression("http://clickhouse:8123"), Compression::Lz4);
    }

    #[test]
    fn settings_print_without_the_password() {
        let config = StoreConfig {
            url: "http://u:hidden@h".into(),
            password: "hidden".into(),
            ..StoreConfig::default()
        };
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
