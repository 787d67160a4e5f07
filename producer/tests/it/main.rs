//! What the sources promise.

#![allow(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod csv_faults;
mod csv_file;
mod csv_layouts;
mod csv_oracle;
mod csv_real_file;
mod drain;
mod generate;
mod publish;
mod samples;
mod speed;
mod topic;
