//! End-to-end tests: real processes, real sockets, the real ClickHouse library.

#![allow(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod architecture;
mod bench;
mod bench_report;
mod chaos;
mod command_line;
mod compose;
mod crash;
mod damage;
mod dead_letters;
mod drain;
mod full_disk;
mod real_file;
mod refused;
mod support;
mod topics;
