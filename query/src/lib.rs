//! REST service over the telemetry in ClickHouse.
//!
//! A request goes through these files, each of which knows one thing:
//!
//! ```text
//! server      listening socket, connections, shutdown
//!   stall     a client that does not read its answer is cut off
//! service     one request -> one response: sizes, operation, time for the store
//!   router    the table of operations: paths, parameters, answers
//!   auth      the bearer token
//!   params/   text of the request -> typed values (pure)
//!   admission whose turn it is to ask ClickHouse
//!   routes/   what each operation asks and answers
//!     encode/ rows -> JSON, NDJSON, CSV, Arrow; zstd, gzip
//! response    codings, validators, headers
//!   held      memory of answers that are not read yet
//! problem     every error, as RFC 9457 has it
//! openapi/    the same table as a document
//! limits      every maximum
//! ```
//!
//! Two rules hold it together. The table in `router` and the parameters in `params::table` are
//! the only place where an operation is declared: the parser and the OpenAPI document both read
//! it, so neither can drift from the other. And every wait has an end: a client that is slow, a
//! ClickHouse that is down, silent or busy each turn into an answer of their own.
//!
//! The statements are in [`lanecast_store::read`].

mod admission;
mod answer;
mod auth;
mod config;
pub mod encode;
mod held;
pub mod limits;
mod metrics;
mod openapi;
mod params;
mod problem;
mod request_id;
mod response;
mod router;
mod routes;
mod server;
mod service;
mod stall;

pub use config::QueryConfig;
pub use server::{QueryServer, StartError};
