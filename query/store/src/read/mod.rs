//! The statements that the query service asks, with typed rows.
//!
//! Every value from outside is a server-side parameter (`{name:Type}`); a statement's text is put
//! together only from the constants of this module. A [`Reader`] sends each statement as a
//! read-only query with a time limit, and so that the server stops working on it when the caller
//! drops the future and its connection goes.

mod columns;
mod gpus;
mod latest;
mod samples;
mod series;
mod statement;
mod telemetry;

pub use columns::exercise;
pub use gpus::{Gpu, GpuFilter, GpuPage};
pub use latest::LatestValue;
pub use samples::{SampleRow, Samples};
pub use series::{Aggregate, Grid, PointRow, Points, Resolution, SeriesFilter};
pub use telemetry::{SampleFilter, SamplePage, SamplePosition};

use std::time::Duration;

use clickhouse::Client;

use crate::error::StoreError;
use crate::store::Store;

/// Tables that the statements here read.
const TABLES_READ: [&str; 5] = ["telemetry", "gpus", "latest", "telemetry_1m", "telemetry_1h"];

/// Direction of an order by key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ascending,
    Descending,
}

/// Asks a [`Store`]; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    store: Store,
    client: ReadClient,
}

/// The store's client with the settings of a reader.
#[derive(Clone)]
struct ReadClient(Client);

impl std::fmt::Debug for ReadClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadClient")
    }
}

impl Reader {
    /// `statement_time_max` is what the server may spend on one statement.
    #[must_use]
    pub fn new(store: Store, statement_time_max: Duration) -> Self {
        let seconds = statement_time_max.as_secs().max(1).to_string();
        // 2 forbids writing but not these settings, and may be set by a user that already has it.
        // Only a read-only query is cancelled when its client goes. What an implicit projection knows,
        // rows of a partition, answers nothing here, and looking for it takes a tenth of a count.
        let client = store
            .client()
            .clone()
            .with_setting("readonly", "2")
            .with_setting("cancel_http_readonly_queries_on_client_close", "1")
            .with_setting("optimize_use_implicit_projections", "0")
            .with_setting("max_execution_time", seconds);
        Self { store, client: ReadClient(client) }
    }

    /// Does the database have the tables that are read here?
    ///
    /// # Errors
    /// What the server says, or that it says nothing.
    pub async fn schema_is_ready(&self) -> Result<bool, StoreError> {
        let sql = "SELECT count() FROM system.tables \
                   WHERE database = {database:String} AND has({names:Array(String)}, name)";
        let found: u64 = self
            .client
            .0
            .query(sql)
            .param("database", self.store.database())
            .param("names", TABLES_READ.as_slice())
            .fetch_one()
            .await
            .map_err(|error| self.store.error(&error))?;
        Ok(found == TABLES_READ.len() as u64)
    }
}
