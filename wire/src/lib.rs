//! Frames, batches and sessions of the Lanecast protocol, without I/O.

pub mod batch;
pub mod builder;
mod codec;
mod decoder;
mod error_code;
pub mod frame;
pub mod generic;
mod ids;
pub mod limits;
pub mod message;
pub mod name;
mod protocol_error;
mod request_check;
pub mod session;

pub use decoder::FrameDecoder;
pub use error_code::ErrorCode;
pub use ids::{
    CorrelationId, Offset, PartitionId, ProducerEpoch, ProducerId, SLOTS, Sequence, Slot,
    SubscriptionId, TopicId,
};
pub use protocol_error::ProtocolError;
