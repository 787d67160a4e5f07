//! Frames, batches and sessions of the Lanecast protocol, without I/O.
//!
//! A connection carries [frames](frame): a fixed header, a small control archive, and, for
//! `Produce` and `Deliver`, a payload of whole [batches](batch). The [control messages](message) are
//! few and named after what they do; the first is a hello that settles the version, and every
//! request but `Credit` is answered once, under its correlation id, by its reply or by a refusal
//! with a stable [`ErrorCode`].
//!
//! ```text
//!  client                                              broker
//!    │ Hello ───────────────────────────────────────────▶ │
//!    │ ◀─────────────────────────────────────── HelloReply │
//!    │ DescribeTopic ───────────────────────────────────▶ │
//!    │ ◀─────────────────────────────────────────── Topics │
//!    │ Produce + batch ─────────────────────────────────▶ │  appended, durable,
//!    │ Produce + batch ─────────────────────────────────▶ │  answered in the order
//!    │ ◀───────────────────────────────────── ProduceReply │  of each partition
//!    │ Subscribe ───────────────────────────────────────▶ │
//!    │ ◀─────────────────────────────────── SubscribeReply │
//!    │ ◀──────────────────────────────── Deliver + batches │  while credit lasts
//!    │ Credit or Ack ───────────────────────────────────▶ │
//!    │ ◀─────────────────────────────────────────── Goodbye │  before an orderly close
//! ```
//!
//! A subscription may name a few keys ([`KeyFilter`]): the broker then leaves out whole batches whose
//! [summary] says that they have none of them, and says how far it has come.
//!
//! A batch is the same bytes in the producer, on the socket, on disk and in the consumer: sealed
//! once with a checksum, stamped with its offset by the broker outside of that checksum, and read
//! in place. What is inside is a matter of its [schema](batch::schema); the broker never looks.
//! [`generic`] is one such schema, `lanecast-telemetry` the other; both gather records behind
//! [`BodyBuilder`](builder::BodyBuilder).
//!
//! The [sessions](session) are the protocol's state machines for both ends. They take bytes and give
//! typed events, and the other way round; whoever owns a socket and a clock drives them.
//!
//! Everything from outside is checked before it is believed: archives by bytecheck, then every text,
//! list and number against [`limits`]. No bytes make this crate panic, or hold more memory than the
//! limits say. There is no recursive type on the wire.

pub mod batch;
pub mod builder;
pub mod checksum;
mod codec;
pub mod dead_letter;
mod decoder;
mod error_code;
pub mod frame;
pub mod generic;
mod ids;
mod key;
pub mod limits;
pub mod message;
pub mod name;
mod protocol_error;
mod request_check;
pub mod session;
pub mod summary;

pub use decoder::FrameDecoder;
pub use error_code::ErrorCode;
pub use ids::{
    CorrelationId, Offset, PartitionId, ProducerEpoch, ProducerId, SLOTS, Sequence, Slot,
    SubscriptionId, TopicId,
};
pub use key::{FilterKey, KeyFilter, KeyHash, KeyKind};
pub use protocol_error::ProtocolError;
