//! Chunks of telemetry into ClickHouse, exactly once.
//!
//! [`Consumer`] is a member of a consumer group. The broker leases it chunks of a topic, whose
//! bounds never change; each becomes one INSERT under a token of topic, partition, bounds and the
//! time of its newest batch, and is acknowledged when ClickHouse has answered. Whatever happens in
//! between, to whom, the chunk comes again under the same token, and ClickHouse drops what it has.
//!
//! A token helps for as long as ClickHouse remembers it. So a consumer that was frozen, and whose
//! chunk others have stored since, must not store it once more: nothing is sent without a lease that
//! the broker has confirmed, nor after its end.
//!
//! Nothing is retried for ever that can never succeed: records with impossible times, bytes that
//! are no telemetry, and chunks that ClickHouse refuses again and again while it takes others go to
//! the dead-letter topic with the reason ([`sift()`], [`Sink`]). Everything else waits: a ClickHouse that is down or overloaded
//! stops the fetching, and the chunks at hand keep their leases.
//!
//! [`redrive()`] sends dead letters back to where they came from.
//!
//! [`print()`] is the other consumer: records as readable lines, and an example of how to write one.

mod admin;
mod backoff;
mod config;
mod consumer;
mod dead_letter;
mod error;
pub mod limits;
mod metrics;
mod print;
mod rate;
mod redrive;
mod refused;
mod render;
mod sift;
mod sink;
mod stats;
#[cfg(test)]
mod testing;
mod worker;

pub use backoff::Backoff;
pub use config::{ConsumerConfig, DEFAULT_GROUP, DEFAULT_TOPIC};
pub use consumer::Consumer;
pub use dead_letter::DEAD_LETTER_SUFFIX;
pub use error::{PrintError, StartError};
pub use print::{PrintConfig, print};
pub use redrive::{REDRIVE_GROUP, RedriveError, Redriven, redrive};
pub use refused::{Payload, Reason, Refused};
pub use render::PrintFormat;
pub use sift::{Created, Sifted, TimeRule, refuse_all, sift};
pub use sink::{Outcome, Sink};
pub use stats::{Latency, Snapshot, Stats};
