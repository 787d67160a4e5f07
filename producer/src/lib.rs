//! Sources of telemetry and the loop that publishes them.

pub mod csv;
pub mod limits;
mod shard;
mod source;
mod stamp;

pub use shard::ShardOf;
pub use source::{Point, RejectReason, Rejections, Source, SourceError, SourceStats, Step};
pub use stamp::Timestamps;
