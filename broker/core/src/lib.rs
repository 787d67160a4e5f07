//! Every decision of the Lanecast broker, without I/O.

mod config;
mod event;
pub mod group;
pub mod limits;
mod ring;
mod shard;
mod stats;

pub use config::ShardConfig;
pub use event::{
    Action, ConnectionId, DiskDone, DiskError, DiskErrorKind, DiskRequest, Event, LogId, Now,
    OperationId, SegmentFile, SegmentId, ShardId,
};
pub use ring::{
    CreateTopicMessage, DeliverMessage, MissedMessage, ProduceMessage, RefusedMessage, RequestId,
    Settle, SettleMessage, ShardMessage, SubscribeMessage, SubscribeRefused, SubscribedAt,
    SubscribedMessage, SubscriberId,
};
pub use shard::Shard;
pub use stats::{GroupStats, PartitionState, PartitionStats, ShardStats};
