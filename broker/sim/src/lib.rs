//! The whole broker in one thread, from one number.
//!
//! A [`World`] drives several [`Shard`](lanecast_core::Shard)s of one broker as their shell would,
//! over a model of everything around them: connections that cut, delay and reset, rings that are
//! late, a disk that completes in any order and keeps only what it promised, a clock that jumps to
//! what comes next, and clients that do what correct clients do. The broker crashes at any moment
//! and starts again, perhaps with another number of shards. What clients were told is compared with
//! what they are told later by an oracle.
//!
//! Everything follows from the seed: the same seed is the same run, to the last byte.
//!
//! ```text
//!  scenario (drawn from the seed)
//!      │
//!  World ── tasks by time ──▶ broker: Shard x n, rings ──▶ disk
//!      ▲                         │      ▲
//!      └──── clients ◀── network ┘      └── crash, restart
//!               │
//!            oracle
//! ```

mod broker;
mod client;
mod disk;
mod group_truth;
mod network;
mod oracle;
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
