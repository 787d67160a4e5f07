//! Every bound of the store, named, and how they relate.

use core::time::Duration;

/// Rows of one insert. A chunk must reach ClickHouse as one block, because a block is what its
/// deduplication knows; blocks of over a million rows would be split.
pub const BLOCK_ROWS_MAX: usize = 1_000_000;

/// Memory of sent blocks that is kept for those to come: of two inserts at a time, which is what keeps
/// a server of few cores busy, each of as many rows as a large chunk has.
pub const SPARE_BLOCKS_MAX: usize = 2;
pub const SPARE_BLOCK_BYTES_MAX: usize = 80 * 1024 * 1024;

/// Days that one insert may span, as each day is a partition and so a part of its own. An insert
/// over more is refused for good. ClickHouse's own default is 100. Each part costs the server time
/// (400 of them some 25 s on two busy cores), and is remembered by itself, so that some such inserts at a
/// time must fit the window below.
pub const BLOCK_PARTITIONS_MAX: u32 = 400;

/// Inserts that the raw table and every view's target remember, per table: a retry finds its first
/// attempt among them. The migrations state the number; a test holds them to this one.
pub const DEDUPLICATION_WINDOW: u32 = 10_000;

/// How long a connection attempt may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a ping may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one statement of a migration may take.
pub const MIGRATION_STATEMENT_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an insert may wait for room on its socket, and then for its answer unless told
/// otherwise.
pub const INSERT_SEND_TIMEOUT: Duration = Duration::from_secs(30);
pub const INSERT_ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// An idle connection is kept this long; a ClickHouse server closes one after 3 s by default.
pub const IDLE_CONNECTION: Duration = Duration::from_secs(2);

/// The longest name of a database or cluster.
pub const NAME_BYTES_MAX: usize = 64;

/// A counter's rate is taken between two samples at most this far apart, or one step where that is
/// longer.
pub const RATE_REACH_MS_MIN: i64 = 5 * 60 * 1_000;

/// The longest window whose samples are counted by the statement that reads a page of it, which then
/// reads all of their columns: some ten thousand rows where a GPU has ten metrics each second, and
/// less than a separate statement costs; ten times as many cost ten milliseconds.
pub const COUNTED_WINDOW_MS_MAX: i64 = 15 * 60 * 1_000;

/// Bytes of a page's samples without their labels, as the server sends them: ten thousand rows take one
/// million, unless their strings are long and each row has others.
pub const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Strings that a dictionary of a page may have beyond its rows: a server puts the empty string first,
/// whether a row has it or not.
pub const PAGE_KEYS_SPARE_MAX: usize = 2;

/// Memory of a page's dictionaries, in bytes of the answer. It follows from the number of their strings:
/// each of the eight has hardly more than there are rows, which have 40 bytes of numbers and 8 codes
/// there. So nothing but [`crate::read::exercise`] looks at it.
pub const PAGE_DICTIONARIES_PART_MAX: usize = 4;

/// How much of a server's error text is kept.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

const _: () = assert!(4 * BLOCK_PARTITIONS_MAX <= DEDUPLICATION_WINDOW);
const _: () = assert!(BLOCK_ROWS_MAX < 1_048_449);
const _: () = assert!(8 * size_of::<&str>() <= PAGE_DICTIONARIES_PART_MAX * (40 + 8));
