//! Every bound of the client, named, and how they relate.

use std::time::Duration;

use lanecast_wire::batch::BODY_BYTES_MAX;
use lanecast_wire::limits::BATCH_RECORDS_MAX;

/// A batch is sealed once its body reaches at most this much; what the last record adds on top is
/// at most [`RECORD_BYTES_MAX`].
pub const BATCH_FILL_BYTES_MAX: u32 = 512 * 1024;

/// What one record may add to a body.
pub const RECORD_BYTES_MAX: u32 = 480 * 1024;

/// Batches that a producer holds, sealed and not acknowledged, over all partitions.
pub const BATCHES_BUFFERED_MAX: usize = 4_096;

/// Connections of one producer, each to another core of the broker.
pub const CONNECTIONS_PER_PRODUCER_MAX: u32 = 64;

/// A producer's memory is counted in units of at least this much.
pub const PERMIT_BYTES_MIN: usize = 1024;

/// Bytes that wait to be written to one socket before no more batches are handed to it: enough to
/// fill one system call, and little enough to stay in the cache.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Buffers of one vectored write.
pub const WRITE_SLICES_MAX: usize = 64;

/// Reads or writes of one socket before the task looks at something else.
pub const IO_CALLS_PER_TURN_MAX: usize = 8;

/// Addresses that a client tries in turn.
pub const ADDRESSES_MAX: usize = 64;

/// Deliveries between a subscriber's task and the application.
pub const DELIVERIES_QUEUED_MAX: usize = 64;

/// Broadcast deliveries that wait behind those before the socket is not read any more.
pub const DELIVERIES_BACKLOG_MAX: usize = 1_024;

/// Acks, nacks and extensions that wait for the subscriber's task.
pub const SETTLEMENTS_QUEUED_MAX: usize = 1_024;

/// Of those, what one chunk asks before it waits for answers.
pub const SETTLEMENTS_AT_A_TIME: usize = 64;

/// Latencies are counted up to this, with this many significant digits.
pub const LATENCY_MAX: Duration = Duration::from_secs(3_600);
pub const LATENCY_DIGITS: u8 = 2;

/// Handlers of one subscription that run at a time.
pub const WORKERS_DEFAULT: usize = 100;
pub const WORKERS_MAX: usize = 10_000;

/// Handlers that are started before the dispatcher looks at something else.
pub const STARTS_PER_TURN_MAX: usize = 64;

/// Chunks that wait for handlers with their leases kept alive.
pub const PARCELS_WAITING_MAX: usize = 1_024;

/// Parts of a chunk that are given back apart from each other; more are joined.
pub const NACK_PARTS_MAX: usize = 256;

/// A chunk that has not moved for this long is not kept any longer.
pub const STUCK_AFTER_DEFAULT: Duration = Duration::from_secs(300);

/// Leaving a subscription whose handlers are stuck takes this long for each of its steps: ending
/// the handlers, settling what others did, and telling the broker.
pub const HAND_BACK_PATIENCE: Duration = Duration::from_secs(5);

/// A subscription that opens waits no longer than this for partitions that are offline.
pub const OFFLINE_PATIENCE: Duration = Duration::from_secs(10);

/// How often a draining client asks how far a group has got.
pub const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// A broker lets a record rest no longer than this between attempts, unless it is asked to.
pub const BACKOFF_LONGEST: Duration = Duration::from_secs(45);

/// A connection that fails this long after the one before is told in the log as a first one.
pub const CALM: Duration = Duration::from_secs(60);

const _: () = assert!(SETTLEMENTS_AT_A_TIME <= SETTLEMENTS_QUEUED_MAX);
const _: () = assert!((BATCH_FILL_BYTES_MAX + RECORD_BYTES_MAX) as usize <= BODY_BYTES_MAX);
const _: () = assert!(lanecast_wire::limits::MESSAGE_BYTES_MAX <= RECORD_BYTES_MAX as usize);
const _: () = assert!(BATCHES_BUFFERED_MAX <= lanecast_wire::limits::LANE_BATCHES_MAX);
const _: () = assert!(BATCHES_BUFFERED_MAX <= tokio::sync::Semaphore::MAX_PERMITS);
const _: () = assert!(BATCH_RECORDS_MAX > 0);
