//! The bench suite: how fast, how late, at what cost, and how far from what the machine could do.
//!
//! ```text
//!   scenario ──▶ Case ──▶ Contender (ceiling, lanecast, peers) ──run──▶ Sample ──▶ Report
//!                             │                                            │
//!               server: processes, fresh each run       load: open or closed loop, one thread
//! ```
//!
//! A [`Case`] is one question. Everybody who takes part is a [`Contender`]; in each round all of them
//! run once, next to each other, so that what disturbs one disturbs the others, and ratios are taken
//! within a round. A *ceiling* is what the machine does with nothing in between: a relay that looks
//! at nothing, bare writes, the database by itself. A figure without its ceiling says little.
//!
//! Micro-benchmarks of single functions are in `benches/`: `cargo bench -p lanecast-bench`.

mod bench;
mod case;
pub mod ceiling;
pub mod compare;
mod compete;
pub mod cpu;
mod error;
mod estimate;
pub mod format;
pub mod http;
mod limits;
pub mod load;
pub mod machine;
pub mod peer;
pub mod report;
mod sample;
pub mod scenario;
pub mod server;
mod settings;

pub use bench::Bench;
pub use case::{Case, Contender, Role};
pub use error::Error;
pub use load::Load;
pub use sample::{Latencies, Sample};
pub use settings::{Cut, Settings};
