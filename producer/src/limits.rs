//! Every bound of the producer, named, and how they relate.

/// One row of a CSV file with its quotes, and the header. A longer one is rejected; a quote that
/// is never closed swallows at most this much before the reader starts over at the next line.
pub const ROW_BYTES_MAX: usize = 1024 * 1024;

/// Columns of a CSV file: every metric of a wide one and what identifies a GPU.
pub const COLUMNS_MAX: usize = lanecast_telemetry::limits::METRICS_MAX + 64;

/// Identities that the reader of a CSV file remembers by their raw text.
pub const IDENTITIES_MAX: usize = 1_000_000;

/// Bytes of raw text that it remembers them by.
pub const IDENTITY_TEXT_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Rejected rows that are logged one by one; all are counted.
pub const REJECTS_LOGGED_MAX: u64 = 20;

/// Rows that a source reads in one call without finding a sample, before it lets others run.
pub const ROWS_PER_CALL_MAX: u32 = 1024;

/// Chunks of standard input that wait for the reader, and the bytes of each.
pub const STDIN_CHUNKS_MAX: usize = 16;
pub const STDIN_CHUNK_BYTES: usize = 64 * 1024;

/// Samples that are pushed before the publisher looks at the clock and at the stop signal again.
pub const BURST_SAMPLES_MAX: u64 = 256;

/// A generated fleet.
pub const HOSTS_MAX: u32 = 100_000;
pub const GPUS_PER_HOST_MAX: u32 = 64;
pub const GENERATED_METRICS_MAX: u32 = 1000;

/// Instances that share a file: no more than there are hash slots.
pub const SHARDS_MAX: u32 = lanecast_wire::SLOTS;

/// How long a stopped publisher waits for its last acknowledgements.
pub const DRAIN_SECONDS_DEFAULT: u64 = 30;

const _: () = assert!(IDENTITIES_MAX <= lanecast_telemetry::limits::CATALOG_SERIES_MAX);
const _: () = assert!(ROW_BYTES_MAX > 2 * lanecast_telemetry::limits::LABELS_TEXT_BYTES_MAX);
const _: () = assert!(ROW_BYTES_MAX <= u32::MAX as usize);
