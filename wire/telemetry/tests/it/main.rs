//! What a batch promises to those who read it.

#![allow(clippy::unwrap_used, reason = "in a test, an unwrap is an assertion")]

mod fleet;
mod golden;
mod mutation;
mod round_trip;
mod size;
