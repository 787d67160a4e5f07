//! ClickHouse's HTTP interface over libchdb.
mod access;
mod auth;
mod compression;
mod engine;
mod error;
mod exception;
mod ffi;
mod format;
mod hangup;
pub mod install;
mod lexer;
pub mod limits;
mod reply;
mod request;
mod run;
mod server;
mod statement;
pub mod testing;

pub use auth::{DEFAULT_USER, READONLY_USER};
pub use error::ServeError;
pub use ffi::LoadError;
pub use server::{ServeConfig, Server};
