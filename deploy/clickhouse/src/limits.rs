//! Every bound of the server, named.

use std::time::Duration;

/// SQL text of one request. The engine's own `max_query_size` (256 KiB) is below it.
pub const QUERY_BYTES_MAX: usize = 4 * MIB;
/// How much of a body is read before looking for the end of an INSERT's SQL in it.
pub(crate) const STATEMENT_PREFIX_BYTES: usize = 64 * 1024;
/// Body of one request, as sent. A setting can lower it.
pub const BODY_BYTES_MAX: u64 = 4 * 1024 * MIB as u64;
/// What is still read and thrown away of a refused body, so that the client gets to read the answer.
pub(crate) const BODY_DRAIN_BYTES_MAX: u64 = 64 * MIB as u64;
/// A client that sends nothing for this long in the middle of a body is gone.
pub(crate) const BODY_STALL_MAX: Duration = Duration::from_secs(60);
/// One block of a compressed body, on either side of the decompression.
pub(crate) const COMPRESSED_BLOCK_BYTES_MAX: usize = 256 * MIB;
/// LZ4 cannot expand by more than this: a block that claims to is refused before it is allocated.
pub(crate) const LZ4_EXPANSION_MAX: usize = 255;
/// Uncompressed bytes in one block of a compressed answer (ClickHouse's own block size).
pub(crate) const ANSWER_BLOCK_BYTES: usize = MIB;
/// Pieces of a body between the socket and the query's thread.
pub(crate) const BODY_PIECES_MAX: usize = 16;
/// Chunks of an answer between the query's thread and the socket.
pub(crate) const ANSWER_CHUNKS_MAX: usize = 2;
/// Connections open at once; more wait in the kernel's backlog.
pub(crate) const CONNECTIONS_MAX: usize = 1024;
/// Statements running at once, when the configuration names no number.
pub const QUERIES_MAX: usize = 16;
/// Statements waiting for one of those places; more are turned away at once.
pub(crate) const QUERIES_WAITING_MAX: usize = 64;
/// How long one waits for a place before it is turned away, when the configuration does not say.
pub const QUERY_WAIT_MAX: Duration = Duration::from_secs(10);
/// What a client that was turned away is told to wait.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 1;
/// `max_execution_time` of a query that names none, and the most that one can ask for.
pub const QUERY_SECONDS_MAX: u64 = 300;
/// Time for a client to send a request's head.
pub(crate) const HEAD_READ_MAX: Duration = Duration::from_secs(30);
/// Parameters and settings of one request.
pub(crate) const PARAMETERS_MAX: usize = 1024;
/// How long a shutdown waits for running statements.
pub const SHUTDOWN_WAIT_MAX: Duration = Duration::from_secs(30);
/// Memory of the engine, when the configuration names none.
pub const MEMORY_BYTES: u64 = 2 * 1024 * MIB as u64;
/// The mark cache takes this part of the engine's memory.
pub(crate) const MARK_CACHE_DIVISOR: u64 = 16;

const MIB: usize = 1024 * 1024;

const _: () = assert!(STATEMENT_PREFIX_BYTES < QUERY_BYTES_MAX);
const _: () = assert!((QUERY_BYTES_MAX as u64) < BODY_DRAIN_BYTES_MAX);
const _: () = assert!(ANSWER_BLOCK_BYTES < COMPRESSED_BLOCK_BYTES_MAX);
const _: () = assert!(QUERIES_MAX < CONNECTIONS_MAX);
