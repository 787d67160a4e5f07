//! Every bound of a telemetry batch, named, and how they relate.

use lanecast_wire::{batch, limits};

/// The body of one batch: what a whole batch may hold, less its header and summary.
pub const BODY_BYTES_MAX: usize = batch::BODY_BYTES_MAX;

/// Rows of one batch.
pub const ROWS_MAX: u32 = limits::BATCH_RECORDS_MAX;

/// Series identities of one batch. Codes are `u16` and the largest one means "none" in the
/// builder; an identity takes more than 40 bytes, so [`BODY_BYTES_MAX`] is reached long before.
pub const SERIES_PER_BATCH_MAX: usize = u16::MAX as usize;

/// Metric names of one batch, and of one catalog.
pub const METRICS_MAX: usize = 8192;

/// Identities that one catalog holds. A source that meets more starts a fresh catalog.
pub const CATALOG_SERIES_MAX: usize = 1_000_000;

/// Distinct strings that one catalog holds.
pub const CATALOG_STRINGS_MAX: usize = 4_000_000;

/// Bytes of all distinct strings that one catalog holds.
pub const CATALOG_TEXT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One string: a name, a label's key or its value.
pub const STRING_BYTES_MAX: usize = 1024;

/// Extra labels of one identity.
pub const LABELS_MAX: usize = 64;

/// All strings of one identity together. A consumer repeats them for every row, so this is what
/// bounds how far a batch can grow when its dictionary is unfolded.
pub const IDENTITY_BYTES_MAX: usize = 4096;

/// Text of labels before it is parsed.
pub const LABELS_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Timestamps, in milliseconds of the Unix epoch: from 1970 to 2262-04-11, where nanoseconds leave
/// an `i64`, so that every consumer can hold them in its own resolution.
pub const TIME_MS_MIN: i64 = 0;
pub const TIME_MS_MAX: i64 = i64::MAX / 1_000_000;

/// What one record can add to a body at most: a row, its identity with nothing shared, its metric.
/// A producer that seals before `body_bytes() + RECORD_BYTES_MAX` passes the limit never breaks it.
pub const RECORD_BYTES_MAX: usize = crate::columns::ROW_BYTES
    + crate::columns::SERIES_BYTES
    + LABELS_MAX * crate::columns::LABEL_BYTES
    + IDENTITY_BYTES_MAX
    + STRING_BYTES_MAX
    + (8 + 2 * LABELS_MAX) * crate::columns::STRING_END_BYTES
    + crate::columns::METRIC_BYTES;

const _: () = assert!(RECORD_BYTES_MAX * 16 < BODY_BYTES_MAX);
const _: () = assert!(METRICS_MAX < u16::MAX as usize);
const _: () = assert!(STRING_BYTES_MAX <= IDENTITY_BYTES_MAX);
const _: () = assert!(LABELS_MAX <= u16::MAX as usize);
const _: () = assert!(TIME_MS_MIN < TIME_MS_MAX);
const _: () = assert!(BODY_BYTES_MAX / crate::columns::SERIES_BYTES < SERIES_PER_BATCH_MAX);
