//! Frames, batches and sessions of the Lanecast protocol, without I/O.

pub mod batch;
pub mod builder;
mod error_code;
pub mod frame;
mod ids;
pub mod limits;
pub mod message;

pub use error_code::ErrorCode;
pub use ids::{
    CorrelationId, Offset, PartitionId, ProducerEpoch, ProducerId, SLOTS, Sequence, Slot,
    SubscriptionId, TopicId,
};
