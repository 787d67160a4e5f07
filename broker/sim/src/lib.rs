//! The whole broker in one thread, from one number.
//!
//! A [`World`] drives several [`Shard`](lanecast_core::Shard)s of one broker as their shell would,
//! over a model of everything around them: connections that cut, delay, reset and vanish, rings that
//! are late, cores that stand still, a disk that completes in any order and keeps only what it
//! promised, clocks that jump, and a store behind the members of groups. The clients are the client
//! library's own state machines. The broker crashes at any moment and starts again, perhaps with
//! another number of shards. What clients were told is compared with what they are told later by an
//! oracle, and in the end the rows in the store with the records in the log.
//!
//! Everything follows from the seed: the same seed is the same run, to the last byte.
//!
//! ```text
//!  scenario (drawn from the seed)
//!      │
//!  World ── tasks by time ──▶ broker: Shard x n, rings ──▶ disk
//!      ▲                         │      ▲
//!      │                         ▼      └── crash, restart
//!      ├──── clients ◀─────── network
//!      │        │ inserts, tokens
//!      └──── store
//!               │
//!            oracle
//! ```
//!
//! Whether the oracle sees anything is tried with bugs that are planted on purpose: see
//! [`lanecast_core::mutants`] and `tests/mutants.rs`.

mod broker;
mod client;
mod disk;
mod group_truth;
mod letters;
mod network;
mod oracle;
mod ranges;
mod report;
mod rng;
mod scenario;
mod store;
mod trace;
mod world;

pub use report::Report;
pub use world::World;

/// Runs one seed to its end. Panics where the broker breaks a promise.
#[must_use]
pub fn run(seed: u64) -> Report {
    World::new(seed).run()
}
