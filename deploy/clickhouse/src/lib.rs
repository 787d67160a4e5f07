//! ClickHouse's HTTP interface over libchdb, for a machine without a ClickHouse server.
//!
//! libchdb is ClickHouse as a library: the same engine, the same files on disk. This crate puts the
//! HTTP interface of a ClickHouse server in front of it, so that the official `clickhouse` crate, and
//! with it all of Lanecast, talks to either without knowing which. The library is opened with
//! `dlopen`: no build needs it, and [`install`] fetches it once.
//!
//! ```text
//!  socket ── server ──────────────────────────┐ async: connections, users, places, the body's reader
//!              │ request: URL, headers, forms  │
//! ─────────────┼──────────────────────────────┼──────────────────────────────────────────────────
//!            run: one blocking thread          │ reply: head, chunks, exceptions
//!              │ compression: blocks of bodies │   format: headers that streamed chunks repeat
//!              │ statement, lexer, access: gate│
//!            engine ── ffi ── libchdb.so ──────┘
//! ```
//!
//! Three properties of the library shape the code.
//!
//! * **It trusts its caller.** It runs every statement of a text; given data inline it runs what
//!   follows a blank line; it reads and writes any file. So a text holds one statement, counted by a
//!   lexer of ours and by the engine's parser; data goes through the insert stream and never with
//!   SQL; the engine's grants leave out all that lies outside its tables.
//! * **A connection is not for sharing.** Every request opens its own, on a thread that may block.
//!   The number of statements at once is bounded; more of them wait a little, then are told to come
//!   again.
//! * **It does not say everything.** Streamed chunks repeat headers, an empty stream has none, errors
//!   come as text, and its threads must not be running when its globals are destroyed. Each of these
//!   is mended in one place.
//!
//! [`testing::shared_server`] gives tests a server in their own process.

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
mod token_log;

pub use auth::{DEFAULT_USER, READONLY_USER};
pub use error::ServeError;
pub use ffi::LoadError;
pub use server::{ServeConfig, Server};
