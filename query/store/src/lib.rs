//! Where telemetry rests: ClickHouse's schema, how it changes, how rows get in and out.
//!
//! [`Store::migrate`] makes the tables: `telemetry` holds every sample, and materialized views feed
//! `gpus`, `latest`, `telemetry_1m` and `telemetry_1h` from each insert. [`NativeBlock`] turns
//! telemetry batches into one block of columns, and [`Store::insert_native`] stores a block under
//! an [`InsertToken`], which makes a repeated insert a no-op in all of those tables. [`read`] has
//! the statements that answer questions.
//!
//! [`StoreError`] says of each failure whether to try again.

mod block;
mod dictionary;
mod error;
mod insert;
pub mod limits;
mod migrate;
mod native;
pub mod read;
mod retention;
mod series;
mod store;
mod token;

pub use block::{NativeBlock, Rows};
pub use error::{Cause, StoreError};
pub use migrate::{MIGRATIONS, Migration, MigrationReport};
pub use retention::Retention;
pub use store::{DEFAULT_DATABASE, Store, StoreConfig};
pub use token::InsertToken;
