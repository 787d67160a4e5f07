//! Every bound of the broker's decisions, named, and how they relate.

use lanecast_wire::limits as wire;

/// Unit of positions and lengths on disk.
pub const BLOCK_ALIGN: u64 = 4096;

/// A commit starts on its own once a block holds this much; until then it waits for the commits
/// in flight. The knee of the measured curve lies between 256 KiB and 1 MiB.
pub const BLOCK_FULL_BYTES: usize = 256 * 1024;

/// Largest payload of one block: one batch of the largest size always fits.
pub const BLOCK_PAYLOAD_BYTES_MAX: usize = wire::BATCH_BYTES_MAX as usize;

/// A whole block, header and padding included.
pub const BLOCK_BYTES_MAX: usize = BLOCK_PAYLOAD_BYTES_MAX + BLOCK_ALIGN as usize;

/// Open blocks share allocations of this size: a full one and a largest batch behind it fit, and
/// small blocks do not pin an allocation each. Memory that no block reaches is never touched.
pub const BLOCK_ARENA_BYTES: usize = 2 * 1024 * 1024;

/// Commits of one log in flight.
pub const COMMITS_IN_FLIGHT_MAX: usize = 4;

/// What recovery and catch-up read at once; holds at least one whole block.
pub const READ_BYTES: u32 = 2 * 1024 * 1024;

/// Reads of one log in flight while it is recovered. A block may lie across two of them.
pub const RECOVERY_READS_IN_FLIGHT_MAX: usize = 4;

/// Damaged stretches of one log that are kept track of; with more it stays closed.
pub const DAMAGES_MAX: usize = 65_536;

/// How often bytes that do not read as they should are read before they count as damaged.
pub const READ_ATTEMPTS_MAX: u32 = 3;

/// A log that rests for so long after a commit writes a mark behind it.
pub const REST_MARK_US: u64 = 1_000_000;

/// Catch-up reads of one partition in flight.
pub const READS_IN_FLIGHT_MAX: usize = 8;

/// The sparse index names one place per this many bytes of log.
pub const INDEX_STRIDE_BYTES: u64 = 256 * 1024;

/// The next segment is prepared once this part (one of so many) of the last one is in use.
pub const PREPARE_AT: u64 = 4;

/// Wait before a failed log is read again: doubles from the first to the second.
pub const RECOVERY_BACKOFF_US_MIN: u64 = 100_000;
pub const RECOVERY_BACKOFF_US_MAX: u64 = 10_000_000;

/// How often retention by time is looked at.
pub const RETENTION_INTERVAL_US: u64 = 1_000_000;

/// Producers whose last batches one partition remembers, so that a retry gets its first answer;
/// of those used less recently it knows only how far they have come.
pub const PRODUCERS_MAX: usize = 4096;

/// Producers that one partition knows at all. Beyond it the least recently used is forgotten once
/// its last batch is so old that nobody sends it again; until then new producers are refused.
pub const PRODUCERS_KNOWN_MAX: usize = 16_384;
pub const PRODUCER_KEPT_US: u64 = 15 * 60 * 1_000_000;

/// Produce requests of one partition that wait for their commit.
pub const PENDING_ACKS_MAX: usize = 65_536;

/// Broadcast cursors of one partition.
pub const CURSORS_MAX: usize = 1024;

/// Payload of one deliver frame: large enough to be cheap, small enough to share a connection.
pub const DELIVER_BYTES: usize = 1024 * 1024;

/// A cursor that leaves out everything says so after this long, or this many bytes: what it goes
/// over again after a broken connection is not more.
pub const FILTER_PROGRESS_US: u64 = 1_000_000;
pub const FILTER_PROGRESS_BYTES: usize = 1024 * 1024;

/// Batches that a cursor with a filter looks at before others have their turn.
pub const FILTER_BATCHES_PER_TURN: usize = 4096;

/// Connections of one shard.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Requests of one connection that wait for an answer, produce requests not counted.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 256;

/// Outgoing bytes of one connection beyond which the shard stops reading from it, and the level
/// at which it goes on.
pub const OUTBOUND_BYTES_HIGH: u64 = 8 * 1024 * 1024;
pub const OUTBOUND_BYTES_LOW: u64 = 2 * 1024 * 1024;

/// Credit that all broadcast subscriptions of one connection hold out, over all partitions; more
/// is cut down to what is left, but never below [`CREDIT_BYTES_MIN`].
pub const CONNECTION_CREDIT_BYTES_MAX: u64 = 256 * 1024 * 1024;
pub const CREDIT_BYTES_MIN: u32 = 64 * 1024;

/// Requests that wait for the same topic.
pub const CATALOG_WAITERS_MAX: usize = 1024;

/// Partitions of one broker: bounds memory for logs and their caches.
pub const PARTITIONS_MAX: usize = 16_384;

pub const CONSUMERS_DEFAULT: u32 = 1024;
pub const CREDIT_BYTES_DEFAULT: u32 = 4 * 1024 * 1024;
pub const SEGMENT_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
pub const GROUPS_SEGMENT_BYTES_DEFAULT: u64 = 2 * 1024 * 1024;
pub const CACHE_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
pub const MEMORY_TOPIC_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;
pub const UNDURABLE_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// Group logs are read at recovery only, so next to nothing of them is kept in memory.
pub const GROUPS_CACHE_BYTES: u64 = 64 * 1024;

/// Advice to a client whose request was refused for now.
pub const RETRY_AFTER_MS: u32 = 50;

/// Part of the cache budget that one partition gets at the least.
pub const PARTITION_CACHE_BYTES_MIN: u64 = 1024 * 1024;

const _: () = assert!(BLOCK_FULL_BYTES <= BLOCK_PAYLOAD_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_MAX <= READ_BYTES as usize);
const _: () = assert!(RECOVERY_READS_IN_FLIGHT_MAX >= 2);
const _: () = assert!(BLOCK_ARENA_BYTES >= BLOCK_FULL_BYTES + BLOCK_BYTES_MAX);
const _: () = assert!((BLOCK_BYTES_MAX as u64).is_multiple_of(BLOCK_ALIGN));
const _: () = assert!((READ_BYTES as u64).is_multiple_of(BLOCK_ALIGN));
const _: () = assert!(SEGMENT_BYTES_DEFAULT.is_multiple_of(BLOCK_ALIGN));
const _: () = assert!(GROUPS_SEGMENT_BYTES_DEFAULT >= BLOCK_BYTES_MAX as u64);
const _: () = assert!(DELIVER_BYTES <= wire::PAYLOAD_BYTES_MAX as usize);
const _: () = assert!(DELIVER_BYTES >= wire::BATCH_BYTES_MAX as usize);
const _: () = assert!(OUTBOUND_BYTES_LOW < OUTBOUND_BYTES_HIGH);
const _: () = assert!(CREDIT_BYTES_DEFAULT <= wire::CREDIT_BYTES_MAX);
const _: () = assert!(UNDURABLE_BYTES_DEFAULT >= (COMMITS_IN_FLIGHT_MAX * BLOCK_BYTES_MAX) as u64);
const _: () = assert!(PRODUCERS_MAX < PRODUCERS_KNOWN_MAX);
const _: () = assert!(RECOVERY_BACKOFF_US_MIN < RECOVERY_BACKOFF_US_MAX);
