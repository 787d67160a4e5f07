//! Every bound of the shell, named, and how they relate.

use std::time::Duration;

use lanecast_core::limits as core;

/// Executors of one broker; a ring exists for every ordered pair of them.
pub const SHARDS_MAX: u16 = 128;

/// Bytes that one executor receives into, again and again: larger gains nothing measurable, and
/// a smaller one costs a system call per frame.
pub const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes that one turn takes from sockets before it performs what they caused.
pub const RECEIVE_BYTES_PER_TURN: usize = 1024 * 1024;

/// Readiness events that one turn looks at.
pub const SOCKET_EVENTS_PER_TURN: usize = 128;

/// Connections that one turn accepts.
pub const ACCEPTS_PER_TURN: usize = 64;

/// Connections that wait in the kernel for one executor to accept them.
pub const LISTEN_BACKLOG: i32 = 1024;

/// Connections of one executor; one more is accepted, counted and closed at once.
pub const CONNECTIONS_MAX: usize = core::CONNECTIONS_MAX;

/// Lines that one executor logs about peers that it has let go, in a window of time.
pub const COMPLAINTS_MAX: u32 = 10;
pub const COMPLAINTS_WINDOW: Duration = Duration::from_secs(10);

/// A connection that is silent for so long is probed by the kernel, so often, and then dropped.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
pub const KEEPALIVE_RETRIES: u32 = 3;

/// A peer that acknowledges nothing of what was sent for so long is dropped.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(60);

/// Wait before accepting again once the process has run out of file descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Buffers that one write system call names.
pub const WRITE_BUFFERS_MAX: usize = 256;

/// Write system calls to one connection in one turn.
pub const WRITES_PER_TURN: usize = 16;

/// How long answers that nobody waits for alone may wait for more of them; and what all sockets together
/// may have brought meanwhile: more makes a turn long, and then nothing is gained by another.
pub const PATIENT_MAX: Duration = Duration::from_micros(50);
pub const PATIENT_BYTES_MAX: usize = 4 * 1024;

/// Where a peer has waited for its answers after all, they go out at once, but for every so many.
pub const PATIENCE_TRIED_EVERY: u32 = 256;

/// Outgoing bytes of one connection that the shell holds for the core. The core stops long
/// before; a connection that passes this is cut off.
pub const OUTBOUND_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// How long a closing connection may take to accept what is still to be written.
pub const CLOSE_FLUSH_MAX: Duration = Duration::from_secs(5);

/// How long a connection that was shut down is read (and ignored) until its peer closes too.
/// Without it, unread bytes would turn the close into a reset that destroys the last reply.
pub const CLOSE_LINGER_MAX: Duration = Duration::from_secs(1);

/// Slots of one ring, by number of shards: all rings together stay within [`RING_SLOTS_TOTAL`].
pub const RING_SLOTS_MAX: usize = 4096;
pub const RING_SLOTS_MIN: usize = 64;
pub const RING_SLOTS_TOTAL: usize = 1024 * 1024;

/// Messages that one turn takes from one ring.
pub const RING_MESSAGES_PER_TURN: usize = 512;

/// Messages that wait in front of full rings; from here on the shard reads no sockets.
pub const RING_BACKLOG_HIGH: usize = 1024;

/// Messages in front of full rings that can only mean a fault: every message that waits was
/// caused by a bounded number of requests. The process ends.
pub const RING_BACKLOG_MAX: usize = 8 * 1024 * 1024;

/// Rounds of "perform actions, hand back what the sockets took" in one turn.
pub const ROUNDS_PER_TURN: usize = 4;

/// Actions that one round performs.
pub const ACTIONS_PER_ROUND: usize = 16_384;

/// Disk operations in flight per executor; further ones wait in order. Stays below the depth of
/// the rings, since a full ring makes the executor preempt its tasks.
pub const DISK_OPERATIONS_MAX: usize = 64;
pub const IO_RING_DEPTH: usize = 256;

/// One read or write system call: a whole block, or one read of the core.
pub const DISK_IO_BYTES_MAX: usize = core::READ_BYTES as usize;

/// One write while a segment is filled with zeros: small, so that commits get between.
pub const DISK_FILL_BYTES: usize = 512 * 1024;

/// A log may commit so much while its next segment is made before that goes without the rest of
/// its zeros.
pub const DISK_FILL_LEAD_BYTES: u64 = 4 * 1024 * 1024;

/// Largest block that is written and flushed by one operation (O_DSYNC). That saves a small one a way to
/// the disk's queue and back; of large ones, the kernel takes fewer at a time than it does of flushes.
pub const SYNCHRONOUS_BYTES_MAX: usize = 32 * 1024;

/// What positions and lengths of log files are multiples of.
pub const DISK_ALIGN: u64 = core::BLOCK_ALIGN;

/// Segment files that one executor keeps open.
pub const OPEN_SEGMENTS_MAX: usize = 512;

/// Segments that one log folder may list; beyond it the log is refused.
pub const SEGMENTS_LISTED_MAX: usize = 1024 * 1024;

/// Registered buffer memory of one executor: what is aimed at, and what is too little to register.
pub const IO_MEMORY_BYTES_MAX: usize = 10 * 1024 * 1024;
pub const IO_MEMORY_BYTES_MIN: usize = 64 * 1024;

/// glommio registers the buffer memory with each of its three rings.
pub const RINGS_PER_EXECUTOR: usize = 3;

/// glommio refuses to start with less locked memory than this.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// File descriptors that one executor holds whatever its load: rings, eventfds, epoll, listener.
pub const DESCRIPTORS_PER_EXECUTOR: u64 = 16;

/// Fewer open files than this is worth a warning.
pub const OPEN_FILES_WANTED: u64 = 8192;

/// Free space of the data directory that is worth a warning, and that is too little to start.
pub const FREE_BYTES_WANTED: u64 = 2 * 1024 * 1024 * 1024;
pub const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// The executor's own loop gives way to the reactor this often while it is busy.
pub const YIELD_INTERVAL: Duration = Duration::from_micros(100);
pub const YIELD_INTERVAL_WITHOUT_DISK: Duration = Duration::from_millis(1);

/// How long a loop that has just worked polls before it waits, when work has been coming close.
pub const SPIN_MAX: Duration = Duration::from_micros(50);

/// How long glommio polls its rings before it parks the thread.
pub const SPIN_BEFORE_PARK: Duration = Duration::from_micros(50);

/// Longest that an idle executor sleeps.
pub const PARK_MAX: Duration = Duration::from_secs(60);

/// The watchdog looks this often, pokes a silent executor after as long, then doubles.
pub const WATCHDOG_INTERVAL: Duration = Duration::from_millis(20);
pub const WATCHDOG_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// An executor without a sign of life for this long makes the broker not ready.
pub const HEARTBEAT_STALE: Duration = Duration::from_secs(3);

/// An executor without a sign of life for this long makes the broker not alive.
pub const HEARTBEAT_DEAD: Duration = Duration::from_secs(30);

/// How long executors may take to start.
pub const START_MAX: Duration = Duration::from_secs(30);

/// Clients that `/stats` and `/metrics` name for having had to wait: the metric's label is theirs to
/// choose.
pub const CLIENTS_LISTED_MAX: usize = 100;

/// Offline partitions that `/readyz` names; of more it gives the number.
pub const OFFLINE_LISTED_MAX: usize = 100;

/// Connections of the admin port.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// What one is given before it has to go for others, when there are so many; and after which it is
/// asked to go, and goes, in any case.
pub const ADMIN_SHARE: Duration = Duration::from_secs(1);
pub const ADMIN_TIME: Duration = Duration::from_secs(25);
pub const ADMIN_TIME_MAX: Duration = Duration::from_secs(30);

/// How long one of the admin port may take to send a request's header.
pub const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(5);
pub const ADMIN_HEADER_BYTES_MAX: usize = 16 * 1024;

/// How long an admin request waits for shards to publish, and for how long one answer serves all.
pub const SNAPSHOT_WAIT: Duration = Duration::from_millis(250);
pub const SNAPSHOT_FRESH: Duration = Duration::from_millis(20);

/// Snapshots of one shard on their way to the admin thread.
pub const SNAPSHOT_SLOTS: usize = 2;

const _: () = assert!(DISK_OPERATIONS_MAX * 2 <= IO_RING_DEPTH);
const _: () = assert!((DISK_IO_BYTES_MAX as u64).is_multiple_of(DISK_ALIGN));
const _: () = assert!((DISK_FILL_BYTES as u64).is_multiple_of(DISK_ALIGN));
const _: () = assert!(RECEIVE_BUFFER_BYTES <= RECEIVE_BYTES_PER_TURN);
const _: () =
    assert!(OUTBOUND_BYTES_MAX > core::OUTBOUND_BYTES_HIGH + core::CONNECTION_CREDIT_BYTES_MAX);
const _: () = assert!(RING_SLOTS_MIN < RING_SLOTS_MAX && RING_BACKLOG_HIGH < RING_BACKLOG_MAX);
const _: () = assert!(IO_MEMORY_BYTES_MIN < IO_MEMORY_BYTES_MAX);
