//! The service as its clients see it. Every sentence of the REST contract about these paths has a
//! test here; every answer is held against the OpenAPI document that the service serves.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod api;
mod arrow;
mod failures;
mod fake;
mod http;
mod list;
mod paging;
mod series;
mod telemetry;
mod window;
mod world;
