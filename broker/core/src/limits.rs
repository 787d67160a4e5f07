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

/// A batch from this size on that came in memory of its own stays there, and is a block by itself.
pub const ADOPTED_BYTES_MIN: usize = BLOCK_FULL_BYTES / 2;

/// Commits of one log in flight. Four keep a disk busy that is asked again at once; a core that has other
/// things to do asks later.
pub const COMMITS_IN_FLIGHT_MAX: usize = 8;

/// As long as fewer are in flight and hold less than this, a commit starts for whatever there is;
/// then entries wait for each other until a block is full. A disk flushes a few small commits in
/// little more time than one, but each costs the core as much as a large one.
pub const SMALL_COMMITS_IN_FLIGHT_MAX: usize = 4;
pub const SMALL_COMMITS_BYTES: usize = 16 * 1024;

/// Entries that nobody waits for are committed so long after the last commit began, if nothing else
/// takes them along: each flush costs the disk and a core as much as many entries.
pub const GATHER_US: u64 = 5_000;

/// What recovery reads at once, and catch-up at the most; holds at least one whole block.
pub const READ_BYTES: u32 = 2 * 1024 * 1024;

/// What catch-up reads at once where blocks let it: it ends with one, and two blocks of 512 KiB with
/// what is around them fit. Two such reads keep a disk busy; with larger ones in front of them commits
/// wait longer.
pub const CATCH_UP_BYTES: u64 = 1280 * 1024;

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

/// Reads that one reader has under way or holds what they brought: one is handed out while the disk is
/// at the next.
pub const READS_PER_READER_MAX: usize = 2;

/// Nobody reads ahead in a partition with so many in flight: others wait for theirs.
pub const READS_AHEAD_IN_FLIGHT_MAX: usize = READS_IN_FLIGHT_MAX / 2;

/// The sparse index names one place per this many bytes of log.
pub const INDEX_STRIDE_BYTES: u64 = 256 * 1024;

/// Offsets that one segment covers at the most.
pub const SEGMENT_OFFSETS_MAX: u64 = 1 << 32;

/// Where the newest segments of a log are lost, it goes on so far behind the last offset that is
/// known of: further than it can have come in the segments that its witness does not tell of yet.
pub const LOST_END_OFFSETS: u64 = 1 << 40;

/// The next segment is prepared once this part (one of so many) of the last one is in use.
pub const PREPARE_AT: u64 = 4;

/// Wait before a failed log is read again: doubles from the first to the second.
pub const RECOVERY_BACKOFF_US_MIN: u64 = 100_000;
pub const RECOVERY_BACKOFF_US_MAX: u64 = 10_000_000;

/// Wait before a segment is tried again that a full disk had no room for.
pub const NO_SPACE_RETRY_US: u64 = 1_000_000;

/// How often retention by time is looked at.
pub const RETENTION_INTERVAL_US: u64 = 1_000_000;

/// The clock that records age by runs this much faster than time at the most, after its leaps.
pub const TTL_CLOCK_RATE_MAX: u64 = 2;

/// Producers whose last batches one partition remembers, so that a retry gets its first answer;
/// of those used less recently it knows only how far they have come.
pub const PRODUCERS_MAX: usize = 4096;

/// Producers that one partition knows at all. Beyond it the least recently used is forgotten once
/// its last batch is so old that nobody sends it again; until then new producers are refused.
pub const PRODUCERS_KNOWN_MAX: usize = 16_384;
pub const PRODUCER_KEPT_US: u64 = 15 * 60 * 1_000_000;

/// Produce requests of one partition that wait for their commit.
pub const PENDING_ACKS_MAX: usize = 65_536;

/// Batches of one partition that groups can gather chunks from before they are durable; groups
/// come to the others once they are.
pub const UNDER_WAY_MAX: usize = 4096;

/// Groups of one partition whose dead records are on their way to the dead-letter topic; the others
/// wait their turn.
pub const BURIALS_MAX: usize = 4;

/// Dead letters of one group that are sent and not answered, and so in memory.
pub const LETTERS_IN_FLIGHT_MAX: usize = 4;

/// Wait before a dead letter that was refused is sent again: doubles from the first to the second.
pub const LETTERS_RETRY_US_MIN: u64 = 20_000;
pub const LETTERS_RETRY_US_MAX: u64 = 5_000_000;

/// Broadcast cursors of one partition.
pub const CURSORS_MAX: usize = 1024;

/// Groups of one partition whose new position is being looked for.
pub const GROUP_MOVES_MAX: usize = 64;

/// Payload of one deliver frame: large enough to be cheap, small enough to share a connection.
pub const DELIVER_BYTES: usize = 1024 * 1024;

/// A cursor that leaves out everything says so after this long, or this many bytes: what it goes
/// over again after a broken connection is not more.
pub const FILTER_PROGRESS_US: u64 = 1_000_000;
pub const FILTER_PROGRESS_BYTES: usize = 1024 * 1024;

/// Batches that a cursor with a filter looks at before others have their turn.
pub const FILTER_BATCHES_PER_TURN: usize = 4096;

/// Frames and reports that it sends in one turn: batches that change between wanted and not make one
/// of each, however small they are.
pub const FILTER_FRAMES_PER_TURN: usize = 32;

/// Connections of one shard.
pub const CONNECTIONS_MAX: usize = 16_384;

/// Requests of one connection that wait for an answer, produce requests not counted.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 256;

/// Memory of a broker that nobody configured: so much for each shard, and never less than the second.
pub const MEMORY_BYTES_PER_SHARD_DEFAULT: u64 = 256 * 1024 * 1024;
pub const MEMORY_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;

/// Less than this for each shard is made up to it: every part has to hold a few of the largest things.
pub const MEMORY_BYTES_PER_SHARD_MIN: u64 = 64 * 1024 * 1024;

/// Part of the memory that one shard has for catch-up reads at the least.
pub const READ_SHARE_BYTES_MIN: u64 = MEMORY_BYTES_PER_SHARD_MIN / 4;

/// A read is in memory twice while it is under way: once for the kernel, once for the core.
pub const READ_COPIES: u64 = 2;

/// Reads for recovery under way in one shard. They wait for no memory: a log that is not open holds
/// what it has read already.
pub const RECOVERY_READS_MAX: usize = 8;

/// So is a block while it is written.
pub const UNDURABLE_COPIES: u64 = 2;

/// A shard whose reads wait for memory looks again this often.
pub const READS_RETRY_US: u64 = 5_000;

/// How long a connection may take to say hello, and say it well.
pub const HELLO_US_MAX: u64 = 10_000_000;

/// How long a frame may take from its first byte to its last, while the shard reads.
pub const FRAME_US_MAX: u64 = 30_000_000;

/// How long nothing at all may come from a connection. A client that has nothing to ask pings.
pub const SILENCE_US_MAX: u64 = 600_000_000;

/// Within this time a peer takes [`PROGRESS_BYTES`] of what waits for it, or all of it. Not longer than
/// a lease usually is: a member that does not read would have its chunks again and again.
pub const STALL_US_MAX: u64 = 30_000_000;

/// The same while memory is short.
pub const STALL_US_MAX_PRESSED: u64 = 2_000_000;

/// Nobody is cut off who has taken something so recently, however short memory is.
pub const STALL_US_MIN: u64 = 100_000;

/// Less than this is no progress, unless nothing more waits.
pub const PROGRESS_BYTES: u64 = 64 * 1024;

/// How often connections with a deadline are looked at, and how often while memory is short.
pub const PEERS_US: u64 = 1_000_000;
pub const PEERS_US_PRESSED: u64 = 50_000;

/// A shard that looks so much later than it meant to has been held up itself: its peers get as
/// long again before it judges them.
pub const LATE_US_MAX: u64 = 2_000_000;

/// What a client may have at once of its rate, in time.
pub const RATE_BURST_US: u64 = 1_000_000;

/// Client names that one shard keeps account of; beyond it those without a connection are forgotten.
pub const CLIENTS_MAX: usize = CONNECTIONS_MAX;

/// A rate below this would hold a client up for longer than it waits for a sign of life, by the
/// bytes that come in at once.
pub const CLIENT_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

/// So would one below this, by the records of the largest batch.
pub const CLIENT_RECORDS_PER_SECOND_MIN: u64 = wire::BATCH_RECORDS_MAX as u64 / 16;

/// Answers for a connection that takes its bytes at once are not worth counting; up to here.
pub const ANSWERS_UNCOUNTED_MAX: u64 = 4 * 1024;

/// Answers may wait for more up to here, for a peer that has sent several requests at once in one of
/// the last so many times that something came of it.
pub const ANSWERS_PATIENT_MAX: u64 = 1024;
pub const AHEAD_SCORE_MAX: u8 = 16;

/// Unread answers of one connection beyond which requests with a large answer are refused: more
/// than the longest topic list.
pub const ANSWERS_PILED_MAX: u64 = 1024 * 1024;

/// Frames from this size on are worth a receive buffer of their own, and an end that is waited for.
pub const LARGE_FRAME_BYTES: usize = 16 * 1024;

/// Most that is received at once of a connection that sends such frames: four batches of 64 KiB, with
/// what is around them.
pub const EXPECTED_BYTES_MAX: usize = 272 * 1024;

/// Batches stay in a receive buffer only if so large a part of it was filled (one in so many bytes):
/// each of them keeps all of it.
pub const FILLED_PART_MIN: usize = 2;

/// Outgoing bytes of one connection beyond which the shard stops reading from it, and the level
/// at which it goes on.
pub const OUTBOUND_BYTES_HIGH: u64 = 8 * 1024 * 1024;
pub const OUTBOUND_BYTES_LOW: u64 = 2 * 1024 * 1024;

/// Credit that all broadcast subscriptions of one connection hold out, over all partitions; more
/// is cut down to what is left, but never below [`CREDIT_BYTES_MIN`].
pub const CONNECTION_CREDIT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Nor is it ever more than this part (one of so many) of the memory for outgoing bytes.
pub const CONNECTION_CREDIT_PART: u64 = 4;
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

/// Blocks that every subscriber has passed are kept for those who come back within this time. Where more is
/// written meanwhile than the cache can hold, only one in so many bytes of it is used for them: memory
/// that is used again soon is still in the processor's cache.
pub const CACHE_SPAN_MS: u64 = 2_000;
pub const CACHE_PASSED_PART: u64 = 32;

/// Part of the cache budget that one partition gets at the least: a full block.
pub const PARTITION_CACHE_BYTES_MIN: u64 = BLOCK_FULL_BYTES as u64;

const _: () = assert!(SMALL_COMMITS_IN_FLIGHT_MAX <= COMMITS_IN_FLIGHT_MAX);
const _: () = assert!(BLOCK_FULL_BYTES <= BLOCK_PAYLOAD_BYTES_MAX);
const _: () = assert!(BLOCK_BYTES_MAX <= READ_BYTES as usize);
const _: () = assert!(CATCH_UP_BYTES <= READ_BYTES as u64);
// The next place that the index names is never further than one read.
const _: () = assert!(BLOCK_BYTES_MAX as u64 + INDEX_STRIDE_BYTES <= READ_BYTES as u64);
const _: () = assert!(READS_PER_READER_MAX <= READS_AHEAD_IN_FLIGHT_MAX);
const _: () = assert!(READS_AHEAD_IN_FLIGHT_MAX < READS_IN_FLIGHT_MAX);
const _: () = assert!(SEGMENT_OFFSETS_MAX >= u32::MAX as u64, "a block always fits");
const _: () = assert!(LOST_END_OFFSETS / 4 >= SEGMENT_OFFSETS_MAX);
const _: () = assert!(RECOVERY_READS_IN_FLIGHT_MAX >= 2);
const _: () = assert!(BLOCK_ARENA_BYTES >= BLOCK_FULL_BYTES + BLOCK_BYTES_MAX);
const _: () = assert!((BLOCK_BYTES_MAX as u64).is_multiple_of(BLOCK_ALIGN));
const _: () = assert!((READ_BYTES as u64).is_multiple_of(BLOCK_ALIGN));
const _: () = assert!(SEGMENT_BYTES_DEFAULT.is_multiple_of(BLOCK_ALIGN));
const _: () = assert!(GROUPS_SEGMENT_BYTES_DEFAULT >= BLOCK_BYTES_MAX as u64);
const _: () = assert!(DELIVER_BYTES <= wire::PAYLOAD_BYTES_MAX as usize);
const _: () = assert!(DELIVER_BYTES >= wire::BATCH_BYTES_MAX as usize);
const _: () = assert!(OUTBOUND_BYTES_LOW < OUTBOUND_BYTES_HIGH);
const _: () = assert!(MEMORY_BYTES_PER_SHARD_MIN <= MEMORY_BYTES_PER_SHARD_DEFAULT);
const _: () = assert!(MEMORY_BYTES_PER_SHARD_DEFAULT <= MEMORY_BYTES_DEFAULT);
const _: () = assert!(READ_SHARE_BYTES_MIN >= 2 * READ_COPIES * READ_BYTES as u64);
// Half a frame of the largest size from several peers at once is no reason to refuse any.
const _: () = assert!(MEMORY_BYTES_PER_SHARD_MIN / 8 >= wire::FRAME_BYTES_MAX as u64);
const _: () = assert!(
    MEMORY_BYTES_PER_SHARD_MIN / 8 / UNDURABLE_COPIES
        >= (2 * BLOCK_FULL_BYTES + BLOCK_BYTES_MAX) as u64
);
const _: () = assert!(STALL_US_MAX <= wire::LEASE_MS_DEFAULT as u64 * 1000);
const _: () = assert!(STALL_US_MIN < STALL_US_MAX_PRESSED && STALL_US_MAX_PRESSED < STALL_US_MAX);
const _: () = assert!(PEERS_US_PRESSED < PEERS_US && PEERS_US < HELLO_US_MAX);
const _: () = assert!(PROGRESS_BYTES < OUTBOUND_BYTES_LOW);
const _: () = assert!(CREDIT_BYTES_DEFAULT <= wire::CREDIT_BYTES_MAX);
const _: () = assert!(UNDURABLE_BYTES_DEFAULT >= (COMMITS_IN_FLIGHT_MAX * BLOCK_BYTES_MAX) as u64);
const _: () = assert!(PRODUCERS_MAX < PRODUCERS_KNOWN_MAX);
const _: () = assert!(LETTERS_RETRY_US_MIN < LETTERS_RETRY_US_MAX);
const _: () = assert!(LETTERS_IN_FLIGHT_MAX <= wire::BATCHES_IN_FLIGHT_PER_PARTITION_MAX as usize);
const _: () = assert!(RECOVERY_BACKOFF_US_MIN < RECOVERY_BACKOFF_US_MAX);
