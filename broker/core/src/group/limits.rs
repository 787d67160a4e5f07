//! Bounds of the consumer groups of one partition.

use lanecast_wire::limits::NAME_BYTES_MAX;

/// Consumer groups of one partition.
pub const GROUPS_PER_PARTITION_MAX: usize = 64;

/// Members of one group on one partition.
pub const MEMBERS_PER_GROUP_MAX: usize = 256;

/// Chunks of one partition that one member may ask to hold at a time.
pub const CHUNKS_PER_MEMBER_MAX: u32 = 64;

/// Chunks of one group that are out on lease at a time, over all members.
pub const CHUNKS_OUT_PER_GROUP_MAX: usize = 512;

/// Chunks that are bound, or being bound, before a member has room for them. Enough that a member
/// which acks finds its next chunk durable already.
pub const CHUNKS_AHEAD_MAX: usize = 16;

/// Chunks of one group that are bound and not yet acked: what a group remembers.
pub const CHUNKS_OPEN_MAX: usize = 1024;

/// How long a batch may wait for its chunk to fill.
pub const CHUNK_LINGER_MS_MAX: u32 = 60_000;

/// A chunk that failed for the n-th time rests for `BACKOFF_MS_MIN * 2^(n-1)`, at most
/// `BACKOFF_MS_MAX`.
pub const BACKOFF_MS_MIN: u64 = 200;
pub const BACKOFF_MS_MAX: u64 = 30_000;

/// The longest rest that a nack may ask for; longer ones are cut.
pub const NACK_DELAY_MS_MAX: u32 = 3_600_000;

/// The longest record: a snapshot of a group with all chunks open.
pub const RECORD_BYTES_MAX: usize = super::record::SNAPSHOT_FIXED_BYTES
    + NAME_BYTES_MAX
    + CHUNKS_OPEN_MAX * super::record::CHUNK_BYTES;

const _: () = assert!(CHUNKS_OUT_PER_GROUP_MAX + CHUNKS_AHEAD_MAX < CHUNKS_OPEN_MAX);
const _: () = assert!(CHUNKS_PER_MEMBER_MAX as usize <= CHUNKS_OUT_PER_GROUP_MAX);
const _: () = assert!(BACKOFF_MS_MIN < BACKOFF_MS_MAX);
const _: () = assert!(RECORD_BYTES_MAX < 64 * 1024);
