//! The glommio shell of the Lanecast broker: everything around [`lanecast_core::Shard`] that touches
//! the machine.
//!
//! # One executor, one shard, one loop
//!
//! A broker runs one glommio executor per core, each pinned, each with one [`Shard`] and one loop
//! (`shell.rs`). A turn of the loop takes a bounded number of events, in this order: completed disk
//! operations, messages from other shards, bytes from sockets, the clock. It hands each to the shard
//! and then performs what the shard asks for. Nothing else touches the shard, and nothing awaits
//! while holding it, so a shard needs no lock and can be driven the same way by a simulator.
//!
//! | file | what is in it |
//! |---|---|
//! | `broker.rs` | start, drain and end of a broker in this process |
//! | `executor.rs` | pinned glommio threads; a panic in one ends the process |
//! | `shell.rs`, `park.rs`, `pace.rs` | the loop: turn, rest, and when to poll rather than wait |
//! | `sockets.rs`, `connection.rs`, `listen.rs`, `readiness.rs` | one epoll set per executor, one hot receive buffer, coalesced writes |
//! | `complaints.rs` | what is logged of peers that were let go for cause |
//! | `ring.rs`, `doorbell.rs` | SPSC rings between shards and the wake protocol |
//! | `files.rs`, `data_dir.rs` | O_DIRECT segment files; where everything lies, whose it is |
//! | `offline.rs` | the same files while no broker runs on them |
//! | `probe.rs` | can this machine run a broker, and what to change if not |
//! | `pulse.rs`, `watchdog.rs`, `snapshot.rs` | what threads know of each other |
//! | `admin.rs`, `admin/` | probes, statistics and metrics over HTTP |
//!
//! # Back-pressure
//!
//! The core stops reading from connections that ask for more than it can take, gives each its
//! deadlines, and keeps all of them within the broker's memory budget ([`lanecast_core::Budget`]). The
//! shell adds two bounds of its own: a shard whose rings to others are full reads no socket at all,
//! and a connection whose outgoing bytes no well-kept core would have let grow is cut off.
//!
//! [`Shard`]: lanecast_core::Shard

mod admin;
mod broker;
mod complaints;
mod config;
mod connection;
mod data_dir;
mod doorbell;
mod entropy;
mod error;
mod executor;
mod files;
pub mod limits;
mod listen;
mod message;
pub mod offline;
mod pace;
mod park;
mod probe;
mod pulse;
mod readiness;
mod ring;
mod shell;
mod snapshot;
mod sockets;
mod sync;
mod watchdog;

pub use broker::Broker;
pub use config::BrokerConfig;
pub use error::{StartError, StopError};
