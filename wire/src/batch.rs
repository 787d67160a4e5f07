//! The batch: records of one partition that travel, rest and are read as the same bytes.
//!
//! ```text
//!  0        4          8             16               24       28      29     30         32
//!  | magic  | body_len | base_offset | append_time_ms | crc32c | ver   | codec| schema   |
//!  | "LNCB" |   u32    |    u64      |     i64        |  u32   | u8    |  u8  |  u16     |
//!  32            40       44             48          56            64            72           80
//!  | producer_id | epoch  | record_count | sequence  | min_time_ms | max_time_ms | created_ms | body
//!  |    u64      |  u32   |     u32      |   u64     |    i64      |    i64      |    i64     |
//! ```
//!
//! All numbers are little-endian. `base_offset` and `append_time_ms` are stamped by the broker and
//! stand outside the CRC32C, which covers bytes 28.. to the end of the body: what the producer
//! sealed is what the consumer checks. `crc32c` itself and everything before it are protected on
//! disk by the log's own checksum.
//!
//! `created_ms` is the producer's wall clock when the batch's first record was pushed: the start of
//! every end-to-end latency.
//!
//! The broker reads this header and sums the body; it never looks inside.

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 80;

/// First four bytes of every batch.
pub const MAGIC: [u8; 4] = *b"LNCB";

pub const LAYOUT_VERSION: u8 = 1;

/// What the body is an archive of.
pub mod schema {
    /// Columnar GPU telemetry, crate `lanecast-telemetry`.
    pub const TELEMETRY: u16 = 1;
    /// Generic messages (id, key, headers, payload, timestamp), module [`crate::generic`].
    pub const GENERIC: u16 = 2;
}

/// How the body is compressed; only `NONE` exists.
pub mod codec {
    pub const NONE: u8 = 0;
}
