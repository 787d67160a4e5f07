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
//! are no telemetry, and chunks that ClickHouse refuses again and again while it takes others are
//! terminated with the reason ([`sift()`], [`Sink`]): the broker puts each into the dead-letter topic,
//! once. Everything else waits: a ClickHouse that is down or overloaded
//! stops the fetching, and the chunks at hand keep their leases.
//!
//! # One token, one block
//!
//! ClickHouse drops what comes under a token that it knows, also if those are other rows. So every
//! attempt at a chunk has to send the same rows for as long as it is not known to be stored, by
//! whichever consumer, whatever happened to those before. That is so because
//!
//! 1. whether a record is refused depends on its bytes, on when the broker appended it, and on
//!    [`TimeRule`] alone: a refused record is refused each time, and a good one never;
//! 2. refused records are terminated *before* the insert, and the insert waits until the broker has
//!    answered. Only open records go into the block, so when the first insert of a chunk is sent, the
//!    block is exactly what is open;
//! 3. then what is open changes in two ways only: one acknowledgement of all of it, which is all or
//!    nothing and follows the store's answer, or, where the store refuses the block for good, one
//!    termination of all of it.
//!
//! | a consumer dies | whoever gets the chunk next |
//! |---|---|
//! | before the broker has decided on a termination | finds the record open, and terminates it |
//! | before it has its answer | finds the record settled; the broker writes its letter, once |
//! | before or during the insert, or its answer is lost | sends the same block under the same token |
//! | before the acknowledgement | the same: ClickHouse drops the block |
//!
//! *The rule changes between two attempts* (`raw_days` of the raw table's retention). Longer: what
//! was refused is settled, what was not is not refused now: the same block. Shorter: records that a
//! consumer before may have stored are refused and go to the dead-letter topic as well, while the
//! table's own expiry, which has become as short, removes them; the rest is part of what the token
//! stands for. Nothing is lost, and nothing is in ClickHouse twice.
//!
//! *Very many stretches of refused records in one chunk*, over [`limits::REFUSED_RANGES_MAX`], are
//! more than a broker remembers separately. They are terminated after the insert, from front to
//! back, each time together with an acknowledgement of what lies between. Nothing is settled before
//! the insert is answered, so the block is the same each time by 1.; afterwards what is still open is
//! part of a block that is stored. Only here a longer `raw_days` between two attempts would lose
//! records: those that it newly takes could be dropped with the block that is stored. Who changes it
//! lets consumers drain (SIGTERM), and no attempt is left half done.
//!
//! *Others in the group.* A member of another kind that gives back parts of chunks makes chunks of
//! their own, with other tokens: what a consumer had stored without an acknowledgement is then stored
//! twice. *`max_attempts`*: topics that the consumer makes have none. Where there is one, a chunk
//! whose holders died so often is dead-lettered although it may be stored.
//!
//! [`redrive()`] sends dead letters back to where they came from.
//!
//! [`print()`] is the other consumer: records as readable lines, and an example of how to write one.

mod admin;
mod backoff;
mod config;
mod consumer;
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
pub use error::{PrintError, StartError};
pub use print::{PrintConfig, print};
pub use redrive::{REDRIVE_GROUP, RedriveError, Redriven, redrive};
pub use refused::{Reason, Refused};
pub use render::PrintFormat;
pub use sift::{Created, Sifted, TimeRule, sift};
pub use sink::Sink;
pub use stats::{Latency, Snapshot, Stats};
