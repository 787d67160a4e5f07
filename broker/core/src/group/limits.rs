//! Bounds of the consumer groups of one partition.

use lanecast_wire::limits::{
    CHUNK_RANGES_MAX, CHUNKS_IN_FLIGHT_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX,
};

use super::record::{CHUNK_BYTES, DYING_BYTES, RANGE_BYTES, SNAPSHOT_FIXED_BYTES};
use crate::limits::{BLOCK_PAYLOAD_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};

/// Consumer groups of one partition.
pub use lanecast_wire::limits::GROUPS_PER_PARTITION_MAX;

/// Members of one group on one partition.
pub const MEMBERS_PER_GROUP_MAX: usize = 256;

/// Chunks of one group that are out on lease at a time, over all members: unless the broker is told
/// otherwise, and the most that it can be told.
pub const CHUNKS_OUT_PER_GROUP_DEFAULT: u32 = 512;
pub const CHUNKS_OUT_PER_GROUP_MAX: u32 = 2048;

/// Chunks that are bound, or being bound, before a member has room for them. Enough that a member
/// which acks finds its next chunk durable already.
pub const CHUNKS_AHEAD_MAX: usize = 16;

/// Chunks of one group that are blocks of the data log and whose own records are not durable. Recovery
/// makes chunks of as many blocks.
pub const CHUNKS_UNWRITTEN_MAX: u32 = 256;

/// Acks of one member that are not answered when it is taken to wait for them: far below what a
/// connection may have under way.
pub const ACKS_GATHERED_MAX: u32 = REQUESTS_IN_FLIGHT_MAX / 4;

/// Chunks of one group that are bound and not yet finished: what a group remembers. Half of them may
/// rest after a failure while the others are out.
pub const CHUNKS_OPEN_MAX: usize = 4096;

/// Ranges that a group remembers of its open chunks and dead letters, over what each has by itself:
/// a request that would make more of them is refused for now.
pub const RANGES_OPEN_MAX: usize = 16_384;

/// Ranges of one group. A chunk that dies has one more open part than settled ones.
pub const RANGES_MAX: usize = RANGES_OPEN_MAX + DYING_MAX;

/// Dead letters of one group that are not yet durable in the dead-letter topic. Chunks beyond that
/// wait; members that terminate are refused for now.
pub const DYING_MAX: usize = 64;

/// A chunk that failed for the n-th time rests for `BACKOFF_MS_MIN * 2^(n-1)`, at most
/// `BACKOFF_MS_MAX`, and up to half of that more, so that what failed together comes back apart.
pub const BACKOFF_MS_MIN: u64 = 200;
pub const BACKOFF_MS_MAX: u64 = 30_000;

/// A chunk takes no batch that was appended later than its first by more than this part (one of so
/// many) of the time that records live: it expires as a whole, so this is how late a record may.
pub const TTL_PARTS: u64 = 16;

/// Epochs that are left to restarts: moves, and groups in the place of deleted ones, are refused
/// before. Nobody starts a broker so often.
pub const EPOCHS_FOR_RESTARTS: u32 = 1_000_000;

/// The longest record: a snapshot of a group with everything at its limit.
pub const RECORD_BYTES_MAX: usize = SNAPSHOT_FIXED_BYTES
    + NAME_BYTES_MAX
    + CHUNKS_OPEN_MAX * CHUNK_BYTES
    + DYING_MAX * (DYING_BYTES + TEXT_BYTES_MAX)
    + RANGES_MAX * RANGE_BYTES;

const _: () = assert!(CHUNKS_OUT_PER_GROUP_MAX as usize + CHUNKS_AHEAD_MAX < CHUNKS_OPEN_MAX);
const _: () = assert!(CHUNKS_OUT_PER_GROUP_DEFAULT <= CHUNKS_OUT_PER_GROUP_MAX);
const _: () = assert!(CHUNKS_IN_FLIGHT_MAX <= CHUNKS_OUT_PER_GROUP_DEFAULT);
const _: () = assert!(BACKOFF_MS_MIN < BACKOFF_MS_MAX);
const _: () = assert!(CHUNK_RANGES_MAX < RANGES_OPEN_MAX);
// One record of the groups log is one entry of a block, with some bytes of framing.
const _: () = assert!(RECORD_BYTES_MAX + 64 <= BLOCK_PAYLOAD_BYTES_MAX);
