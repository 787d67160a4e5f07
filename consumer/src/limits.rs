//! Every bound of the consumer, named, and how they relate.

use core::time::Duration;

/// A chunk closes at this many records, bytes, or after this wait, whichever comes first. An insert
/// makes a part of some twelve files in each of five tables, flushed and later merged, so that a
/// large one is cheaper by the row: what 400,000 rows cost ClickHouse in 13 inserts, 800,000 cost a tenth
/// less, as it merges less. What keeps up closes its chunks by the wait.
pub const CHUNK_RECORDS_DEFAULT: u32 = 800_000;
pub const CHUNK_BYTES_DEFAULT: u32 = 64 * 1024 * 1024;
pub const CHUNK_LINGER_DEFAULT: Duration = Duration::from_secs(1);

/// Inserts under way at a time. Each holds a chunk and its block in memory. Two keep a server of few
/// cores busy; more of them would only take each other's place in its caches.
pub const INSERTS_IN_FLIGHT_DEFAULT: usize = 2;
pub const INSERTS_IN_FLIGHT_MAX: usize = 64;

/// Chunks that are held for each insert: one that is inserted, and one that is here when that ends.
pub const CHUNKS_PER_INSERT: u32 = 2;

/// Chunks of one partition that this consumer holds at a time, at most.
pub const CHUNKS_PER_PARTITION: u32 = 4;

/// Bytes of all chunks that this consumer asks to hold; chunks are made smaller on a topic of many
/// partitions. One chunk is no smaller than the second, which is some 18,000 rows.
pub const HELD_BYTES_MAX: u32 = 256 * 1024 * 1024;
pub const CHUNK_BYTES_MIN: u32 = 1024 * 1024;

/// Chunks that are held at a time, whatever the broker leases out.
pub const CHUNKS_HELD_MAX: usize = 512;

/// A lease is extended when this part of it has passed.
pub const LEASE_EXTEND_PART: u32 = 3;

/// How far ahead of its appending a record's time may lie: clocks differ, but not by much.
pub const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// Waits between attempts grow from the first to the last of these, with jitter.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
pub const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Attempts in a row that fail with a code that says that the data can never be stored. The chunk is
/// dead-lettered then. One such answer proves nothing: a body that broke off on its way gives one too.
pub const PERMANENT_ERROR_ATTEMPTS_MAX: u32 = 3;

/// Attempts that fail with a code that this build does not know, or that accuses the tables, other inserts having got through since
/// the attempt before. The chunk is dead-lettered then: it must be data that can never be stored. While
/// nothing gets through it waits, as it is the store that ails.
pub const UNKNOWN_ERROR_ATTEMPTS_MAX: u32 = 8;

/// Attempts to reach the broker and the store at start-up, and the time they may take in all.
pub const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);

/// How long a drain waits for what is in flight before it hands chunks back.
pub const DRAIN_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long what is given up then may take to stop, which an acknowledgement under way delays.
pub const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long leaving the group may take, which hands chunks back. Without the broker's answer it
/// notices that the connection ends.
pub const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Different reasons for refusals in one chunk; each is a request of its own. Batches beyond that
/// are refused together.
pub const REASONS_MAX: usize = 64;

/// Stretches of refused records of one chunk that are dead-lettered before its insert. Where there
/// are more, it is done after the insert, so many at a time, each with an acknowledgement of what
/// lies between: the broker remembers no more separate ranges of one chunk than
/// [`CHUNK_RANGES_MAX`](lanecast_wire::limits::CHUNK_RANGES_MAX).
pub const REFUSED_RANGES_MAX: usize = 1024;

/// Different error codes that are counted by name; further ones count as "other".
pub const ERROR_CODES_MAX: usize = 32;

/// Chunks whose acknowledgement went unanswered that are remembered, so as not to count them twice.
pub const UNCERTAIN_CHUNKS_MAX: usize = 4096;

/// Latencies are kept exactly up to this; longer ones count as this.
pub const LATENCY_MS_MAX: u64 = 3_600_000;

/// Seconds that `rows_per_s` looks back.
pub const RATE_WINDOW_S: usize = 10;

/// Connections that the admin port serves at a time, and how long one request may take to come.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(5);

const _: () = assert!(CHUNK_RECORDS_DEFAULT <= lanecast_wire::limits::CHUNK_RECORDS_MAX);
const _: () = assert!(CHUNK_BYTES_DEFAULT <= lanecast_wire::limits::CHUNK_BYTES_MAX);
// One chunk is one block.
const _: () = assert!(
    lanecast_wire::limits::CHUNK_RECORDS_MAX as usize <= lanecast_store::limits::BLOCK_ROWS_MAX
);
const _: () = assert!(HELD_BYTES_MAX / lanecast_wire::SLOTS >= CHUNK_BYTES_MIN);
const _: () = assert!(CHUNKS_HELD_MAX >= lanecast_wire::SLOTS as usize + INSERTS_IN_FLIGHT_MAX);
const _: () = assert!(INSERTS_IN_FLIGHT_DEFAULT <= INSERTS_IN_FLIGHT_MAX);
// Joined by a stretch of each reason that another window began.
const _: () = assert!(REFUSED_RANGES_MAX + REASONS_MAX < lanecast_wire::limits::CHUNK_RANGES_MAX);
