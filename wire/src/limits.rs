//! Every bound of the protocol, named, and how they relate.

/// Versions of the protocol that this build speaks; the hello picks the highest common one.
pub const PROTOCOL_MIN: u16 = 3;
pub const PROTOCOL_MAX: u16 = 4;

/// The first version with [`Migrate`](crate::message::Migrate).
pub const PROTOCOL_MIGRATES: u16 = 4;

/// A frame's control archive: the largest is a topic list.
pub const CONTROL_BYTES_MAX: u32 = 256 * 1024;

/// One batch, header included, as it stands on the wire and on disk.
pub const BATCH_BYTES_MAX: u32 = 1024 * 1024;

/// One batch that a producer sends: as a dead letter it still has to fit a batch.
pub const PRODUCE_BATCH_BYTES_MAX: u32 = BATCH_BYTES_MAX - 8 * 1024;

/// Ranges of dead records in one dead letter; more of one batch go into further letters.
pub const LETTER_RANGES_MAX: usize = 256;

/// Records of one batch.
pub const BATCH_RECORDS_MAX: u32 = 65_536;

/// One generic message in a body, its share of all columns together.
pub const MESSAGE_BYTES_MAX: usize = 448 * 1024;
pub const MESSAGE_KEY_BYTES_MAX: usize = 1024;
pub const MESSAGE_HEADERS_MAX: usize = 64;
pub const HEADER_NAME_BYTES_MAX: usize = 256;

/// A frame's payload: at least one batch of the largest size always fits.
pub const PAYLOAD_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// A whole frame. A receiver never buffers more than this for one connection.
pub const FRAME_BYTES_MAX: u32 =
    crate::frame::HEADER_BYTES as u32 + CONTROL_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// What a frame decoder's buffer goes back to after a frame that was larger.
pub const DECODER_KEEP_BYTES: usize = 256 * 1024;

/// What a client's receive buffer grows by, and the spare room below which it grows. A payload that
/// is held keeps its block of this size alive.
pub const RECEIVE_BYTES: usize = 256 * 1024;
pub const RECEIVE_SPARE_BYTES_MIN: usize = 64 * 1024;

/// Produce requests of one connection that wait for an answer.
pub const PRODUCES_IN_FLIGHT_MAX: u32 = 256;

/// All other requests of one connection that wait for an answer: acks of every chunk that a group
/// member can hold of 16 partitions, for instance.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 1024;

/// Batches of one (producer, partition) in flight; the broker remembers as many answers, so that
/// every retry that a correct client can send finds its first answer.
pub const BATCHES_IN_FLIGHT_PER_PARTITION_MAX: u32 = 32;

/// Batches of one partition that a producer holds without acknowledgement, sent or not.
pub const LANE_BATCHES_MAX: usize = 16_384;

/// Subscriptions of one connection.
pub const SUBSCRIPTIONS_MAX: u32 = 64;

/// Keys that one subscription may be narrowed to; each at most [`MESSAGE_KEY_BYTES_MAX`] long.
pub const FILTER_KEYS_MAX: usize = 64;

/// Credit that one subscription may hold out for one partition.
pub const CREDIT_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Names of topics, groups, members and clients, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Free text (reasons, error messages), in bytes; longer text is cut.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Topics of one broker.
pub const TOPICS_MAX: u32 = 1024;

/// Records and bytes of one chunk, the unit that a consumer group leases out.
pub const CHUNK_RECORDS_MAX: u32 = 1_000_000;
pub const CHUNK_BYTES_MAX: u32 = 64 * 1024 * 1024;

/// Ranges of one chunk that may be settled apart from each other.
pub const CHUNK_RANGES_MAX: usize = 4096;

/// Consumer groups of one partition.
pub const GROUPS_PER_PARTITION_MAX: usize = 64;

/// Chunks of one partition that one member may hold.
pub const CHUNKS_IN_FLIGHT_MAX: u32 = 64;

/// A chunk that a member gives back or a lease it extends: the longest wait.
pub const NACK_DELAY_MS_MAX: u32 = LEASE_MS_MAX;

/// A chunk's first record waits at most this long for more.
pub const CHUNK_LINGER_MS_MAX: u32 = 60_000;

/// Lease of a chunk.
pub const LEASE_MS_MIN: u32 = 100;
pub const LEASE_MS_DEFAULT: u32 = 30_000;
pub const LEASE_MS_MAX: u32 = 3_600_000;

const _: () = assert!(RECEIVE_SPARE_BYTES_MIN <= RECEIVE_BYTES);
const _: () = assert!(DECODER_KEEP_BYTES <= FRAME_BYTES_MAX as usize);
// A full topic list fits a control archive: names and 64 bytes of everything else each.
const _: () = assert!(TOPICS_MAX as usize * (NAME_BYTES_MAX + 64) <= CONTROL_BYTES_MAX as usize);
// So do the groups of a partition, and the ranges of a chunk.
const _: () =
    assert!(GROUPS_PER_PARTITION_MAX * (NAME_BYTES_MAX + 128) <= CONTROL_BYTES_MAX as usize);
const _: () = assert!(CHUNK_RANGES_MAX * 16 + 1024 + TEXT_BYTES_MAX <= CONTROL_BYTES_MAX as usize);
// So does the largest filter.
const _: () = assert!(FILTER_KEYS_MAX * (MESSAGE_KEY_BYTES_MAX + 16) < CONTROL_BYTES_MAX as usize);
const _: () = assert!(MESSAGE_BYTES_MAX < PRODUCE_BATCH_BYTES_MAX as usize);
const _: () = assert!(
    PRODUCE_BATCH_BYTES_MAX as usize + crate::dead_letter::OVERHEAD_BYTES_MAX
        <= BATCH_BYTES_MAX as usize,
    "a batch fits into a dead letter"
);
const _: () = assert!(BATCH_BYTES_MAX <= PAYLOAD_BYTES_MAX);
const _: () = assert!(CREDIT_BYTES_MAX >= PAYLOAD_BYTES_MAX);
const _: () = assert!(BATCHES_IN_FLIGHT_PER_PARTITION_MAX <= PRODUCES_IN_FLIGHT_MAX);
const _: () = assert!(LEASE_MS_MIN < LEASE_MS_DEFAULT && LEASE_MS_DEFAULT < LEASE_MS_MAX);
