//! Where telemetry rests: ClickHouse's schema, how it changes, how rows get in and out.
//!
//! [`Store::migrate`] makes the tables: `telemetry` holds every sample, and materialized views feed
//! `gpus`, `latest`, `telemetry_1m` and `telemetry_1h` from each insert. [`NativeBlock`] turns
//! telemetry batches into one block of columns, and [`Store::insert_native`] stores a block under
//! an [`InsertToken`], which makes a repeated insert a no-op in all of those tables. [`read`] has
//! the statements that answer questions.
//!
//! [`StoreError`] says of each failure whether to try again.
//!
//! # What a token rests on
//!
//! A replicated table commits a part and its token at once. A plain MergeTree table writes the token
//! first, to a log of its own that it does not flush: a server killed between the two drops the
//! retry as a duplicate, and one that loses power may store it twice. The local server
//! (`lanecast-clickhouse`) closes the first gap when it starts; a server of one's own closes both
//! with [`Store::with_cluster`].

mod block;
mod dictionary;
mod error;
mod insert;
pub mod limits;
mod migrate;
mod native;
mod order;
pub mod read;
mod retention;
mod series;
mod spare;
mod store;
mod token;

pub use block::{NativeBlock, Rows};
pub use error::{Cause, StoreError};
pub use migrate::{MIGRATIONS, Migration, MigrationReport};
pub use retention::Retention;
pub use store::{DEFAULT_DATABASE, Store, StoreConfig};
pub use token::InsertToken;
