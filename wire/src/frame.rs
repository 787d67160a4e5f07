//! The frame: a fixed header, a control archive, a payload.
//!
//! ```text
//!  0        4     5    6     8              16           20           24        28       32
//!  | magic  | ver |kind|flags| correlation  | control_len| payload_len| reserved| crc32c |
//!  | "LNCF" |  u8 | u8 | u16 |     u64      |     u32    |     u32    |   u32   |  u32   |
//! ```
//!
//! All numbers are little-endian. The CRC32C covers bytes 0..28 and the control archive. The payload
//! is zero or more batches, each of which carries a checksum of its own, so that bulk bytes are
//! summed once by their producer and never again for the sake of the frame.

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 32;

/// First four bytes of every frame.
pub const MAGIC: [u8; 4] = *b"LNCF";

/// Layout version of this header. It changes only if the header itself does; everything behind it
/// is versioned by the hello.
pub const LAYOUT_VERSION: u8 = 1;

/// What the control archive is. Numbers are never reused; clients send 1-63, brokers 64-127.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    Hello = 1,
    CreateTopic = 2,
    DescribeTopic = 3,
    ListTopics = 4,
    Produce = 5,
    Subscribe = 6,
    Credit = 7,
    Ack = 8,
    Nack = 9,
    Extend = 10,
    Unsubscribe = 11,
    Ping = 12,

    HelloReply = 64,
    Topics = 65,
    ProduceReply = 66,
    SubscribeReply = 67,
    Deliver = 68,
    Missed = 69,
    Done = 70,
    Goodbye = 71,
    Refusal = 72,
}
