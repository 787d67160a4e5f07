//! Every decision of the Lanecast broker, without I/O.

mod event;

pub use event::{
    Action, ConnectionId, DiskDone, DiskError, DiskErrorKind, DiskRequest, Event, LogId, Now,
    OperationId, SegmentFile, SegmentId, ShardId,
};

/// What one shard says to another over their ring.
#[derive(Debug)]
pub enum ShardMessage {}
