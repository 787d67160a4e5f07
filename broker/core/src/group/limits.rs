//! Bounds of the consumer groups of one partition.

use lanecast_wire::limits::{CHUNKS_IN_FLIGHT_MAX, NAME_BYTES_MAX};

/// Consumer groups of one partition.
pub use lanecast_wire::limits::GROUPS_PER_PARTITION_MAX;

/// Members of one group on one partition.
pub const MEMBERS_PER_GROUP_MAX: usize = 256;

/// Chunks of one group that are out on lease at a time, over all members.
pub const CHUNKS_OUT_PER_GROUP_MAX: usize = 512;

/// Chunks that are bound, or being bound, before a member has room for them. Enough that a member
/// which acks finds its next chunk durable already.
pub const CHUNKS_AHEAD_MAX: usize = 16;

/// Chunks of one group that are bound and not yet acked: what a group remembers.
pub const CHUNKS_OPEN_MAX: usize = 1024;

/// A chunk that failed for the n-th time rests for `BACKOFF_MS_MIN * 2^(n-1)`, at most
/// `BACKOFF_MS_MAX`.
pub const BACKOFF_MS_MIN: u64 = 200;
pub const BACKOFF_MS_MAX: u64 = 30_000;

/// The longest record: a snapshot of a group with all chunks open.
pub const RECORD_BYTES_MAX: usize = super::record::SNAPSHOT_FIXED_BYTES
    + NAME_BYTES_MAX
    + CHUNKS_OPEN_MAX * super::record::CHUNK_BYTES;

const _: () = assert!(CHUNKS_OUT_PER_GROUP_MAX + CHUNKS_AHEAD_MAX < CHUNKS_OPEN_MAX);
const _: () = assert!(CHUNKS_IN_FLIGHT_MAX as usize <= CHUNKS_OUT_PER_GROUP_MAX);
const _: () = assert!(BACKOFF_MS_MIN < BACKOFF_MS_MAX);
const _: () = assert!(RECORD_BYTES_MAX < 64 * 1024);
