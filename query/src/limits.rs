//! Every maximum of the query service, by name. What an operator may change is in
//! [`QueryConfig`](crate::QueryConfig), whose defaults are the ones here; the rest is fixed.
//!
//! Reaching a limit is an answer with a status of its own, never a hang and never a crash.

use std::time::Duration;

/// Connections open at once. One more waits in the kernel's accept queue.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Time for a client to send a whole request head, and to stay idle between two requests.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for a client to send the body of a request.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(15);
/// Time without a single byte taken, after which a client that does not read its answer is cut off.
pub const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Header lines in a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of all header names and values in a request; more is 431.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Bytes of path and query in a request; more is 414.
pub const URI_BYTES_MAX: usize = 8 * 1024;
/// Bytes a connection buffers while it reads a head. Above URI and headers, so that a request a
/// little too large still gets a readable answer; one far too large gets hyper's bare 431 or 414.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of a request body. No endpoint takes one yet; a small one is read and ignored.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a client's own `X-Request-Id`; a longer or odd one is replaced.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// `name=value` pairs in a query.
pub const QUERY_PAIRS_MAX: usize = 128;
/// Values of one repeatable parameter.
pub const REPEATS_MAX: usize = 64;
/// Characters in a free-text parameter: metric, host, model, namespace, pod, id.
pub const TEXT_CHARS_MAX: u64 = 512;
/// Characters in a time or a duration.
pub const TIME_CHARS_MAX: usize = 64;
/// Characters in a cursor. Holds a metric name of `TEXT_CHARS_MAX` characters of four bytes.
pub const CURSOR_CHARS_MAX: usize = 4 * 1024;
/// The longest duration a parameter may name.
pub const SPAN_MAX: Duration = Duration::from_secs(100 * 366 * 86_400);

/// Rows in one page.
pub const PAGE_ROWS_MAX: u64 = 10_000;
/// Rows in one page of telemetry unless asked otherwise (`DEFAULT_PAGE_SIZE`).
pub const PAGE_ROWS_DEFAULT: u32 = 100;
/// GPUs in one page of the list unless asked otherwise.
pub const GPU_PAGE_ROWS_DEFAULT: u32 = 1_000;
/// Newest values shown of one GPU, one for each of its metrics.
pub const SERIES_SHOWN_MAX: u32 = 10_000;
/// `page * limit`: further in, ClickHouse would read and drop all that is before; a cursor seeks.
pub const PAGE_DEPTH_MAX: u64 = 100_000;
/// Buckets of time in one answer.
pub const POINTS_MAX: u64 = 10_000;
/// Buckets of time in one answer at most, unless asked otherwise: what a chart shows.
pub const POINTS_DEFAULT: u64 = 300;
/// Series in one answer. What is held of them is `POINTS_MAX` times as many numbers.
pub const SERIES_MAX: usize = REPEATS_MAX;
/// Widths of buckets beyond the usual ones that are tried, each twice the one before: up to more
/// than all of the time that is stored.
pub const DOUBLINGS_MAX: usize = 18;

/// Bytes of one answer before compression.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Rows in one record batch of an Arrow answer; the builders hold so many beside what is written.
pub const ARROW_BATCH_ROWS: usize = 1_024;
/// Bytes of all answers that clients have not taken yet. A client that reads slowly holds its
/// answer in memory; above this, large answers are refused until others are taken.
pub const ANSWERS_HELD_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Answers up to this many bytes are not counted above: the connections bound them.
pub const ANSWER_UNCOUNTED_BYTES_MAX: usize = 64 * 1024;
/// Answers at least this long are compressed when the client takes it.
pub const COMPRESS_BYTES_MIN: usize = 1_024;
/// Answers above this many bytes are compressed on a thread that may block.
pub const COMPRESS_INLINE_BYTES_MAX: usize = 64 * 1024;

/// Requests that may be asking ClickHouse something at once.
pub const QUERIES_IN_FLIGHT_MAX: usize = 32;
/// Requests that may wait for their turn to ask.
pub const QUERIES_WAITING_MAX: usize = 128;
/// Time a request waits for its turn before 503.
pub const QUERY_TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// Time one request may spend on ClickHouse, all its statements together.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Time a readiness probe waits for ClickHouse.
pub const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one readiness answer stands, so that probes do not add up.
pub const READY_FRESH: Duration = Duration::from_secs(1);
/// What `Retry-After` says, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 2;

/// Age of the newest sample beyond which a GPU is listed as stale.
pub const STALE_AFTER: Duration = Duration::from_secs(5 * 60);
/// A window that ended longer ago than this is closed: nothing is expected to be added to it.
pub const INGEST_SLACK: Duration = Duration::from_secs(10 * 60);
/// Time that a shutdown waits for requests in flight.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept (out of file descriptors, say) before the next.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const _: () = assert!(URI_BYTES_MAX + HEADER_BYTES_MAX <= READ_BUFFER_BYTES);
const _: () = assert!(PAGE_ROWS_MAX <= PAGE_DEPTH_MAX);
const _: () = assert!(PAGE_ROWS_DEFAULT as u64 <= PAGE_ROWS_MAX);
const _: () = assert!(GPU_PAGE_ROWS_DEFAULT as u64 <= PAGE_ROWS_MAX);
const _: () = assert!(POINTS_DEFAULT <= POINTS_MAX);
const _: () = assert!(POINTS_MAX as usize * SERIES_MAX * size_of::<f64>() < ANSWER_BYTES_MAX);
const _: () = assert!(CURSOR_CHARS_MAX < URI_BYTES_MAX);
const _: () = assert!(4 * TEXT_CHARS_MAX as usize * 4 / 3 + 200 < CURSOR_CHARS_MAX);
// Text of a batch is addressed by 32 bits.
const _: () = assert!(ANSWER_BYTES_MAX < i32::MAX as usize / 2);
const _: () = assert!(ANSWER_BYTES_MAX < ANSWERS_HELD_BYTES_MAX);
const _: () = assert!(ANSWER_UNCOUNTED_BYTES_MAX * CONNECTIONS_MAX < ANSWERS_HELD_BYTES_MAX);
const _: () = assert!(COMPRESS_BYTES_MIN <= COMPRESS_INLINE_BYTES_MAX);
