//! The protocol from outside: bytes that must not change, and properties over any bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod examples;
mod golden;
mod pipeline;
mod properties;
