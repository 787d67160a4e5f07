//! Every bound of `lanecast up`.

use std::time::Duration;

/// A child must serve within this long; ClickHouse may replay a large table first.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a ready file is looked for.
pub(super) const READY_POLL: Duration = Duration::from_millis(20);

/// A child must end within this long after SIGTERM; then it is killed.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(45);

/// How often statistics are read for the status screen.
pub(super) const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How often they are read while waiting for the last row.
pub(super) const DRAIN_POLL: Duration = Duration::from_millis(50);
/// Waiting for the last row ends when nothing has moved for this long.
pub(super) const DRAIN_STALL_MAX: Duration = Duration::from_secs(120);

/// Times that a child which died is started again before `up` gives up.
pub(super) const RESTARTS_MAX: u32 = 5;
/// A child that ran this long has its restarts forgiven.
pub(super) const RESTART_FORGIVEN: Duration = Duration::from_secs(60);

/// Lines of a child's log that are shown when it dies.
pub(super) const LOG_TAIL_LINES: usize = 15;
/// Bytes of the log's end that are searched for them.
pub(super) const LOG_TAIL_BYTES: u64 = 16 * 1024;
/// A child's log over this size is put aside when it starts.
pub(super) const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

const _: () = assert!(READY_POLL.as_millis() < READY_TIMEOUT.as_millis());
const _: () = assert!(DRAIN_POLL.as_millis() < DRAIN_STALL_MAX.as_millis());
