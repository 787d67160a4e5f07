//! Every maximum of the bench suite.

use std::time::Duration;

/// Histograms hold latencies up to this; longer ones count as this long.
pub(crate) const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Significant decimal digits of recorded latencies.
pub(crate) const LATENCY_DIGITS: u8 = 3;

/// A load generator reads at most this much from a socket at a time.
pub(crate) const RECEIVE_BYTES: usize = 256 * 1024;

/// Buffers that one call hands to the kernel.
pub(crate) const WRITE_BUFFERS_MAX: usize = 64;

/// Bodies up to this are copied behind their heads: cheaper than a buffer of their own.
pub(crate) const COPIED_BYTES_MAX: usize = 4096;

/// Events that one look at the sockets takes.
pub(crate) const SOCKET_EVENTS_MAX: usize = 256;

/// Batches that a connection publishes before the others have their turn.
pub(crate) const BATCHES_PER_TURN: u32 = 16;

/// Batches of one connection whose send times are remembered: more than any window.
pub(crate) const BATCHES_REMEMBERED: usize = 1 << 20;

/// How long what is still under way may take after the last batch was sent.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How long a server may take to start, or to stop.
pub(crate) const SERVER_START_MAX: Duration = Duration::from_secs(60);
pub(crate) const SERVER_STOP_MAX: Duration = Duration::from_secs(30);

/// How long an answer to a set-up request may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long ClickHouse may take for one INSERT, and a pipeline to store all its rows.
pub(crate) const INSERT_MAX: Duration = Duration::from_secs(600);
pub(crate) const FILL_MAX: Duration = Duration::from_secs(600);

/// The longest head and body of an HTTP answer.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The longest frame that RabbitMQ takes, or answers with, unless it is configured otherwise.
pub(crate) const RABBITMQ_FRAME_BYTES_MAX: usize = 1 << 20;

/// Batches that a connection may have without an answer, as brokers allow it.
pub(crate) const WINDOW_MAX: u32 = lanecast_wire::limits::BATCHES_IN_FLIGHT_PER_PARTITION_MAX;

/// A report's file may be so large: some hundred cases of ten systems take a tenth of it.
pub(crate) const REPORT_BYTES_MAX: usize = 64 << 20;

/// Up to so many rounds a side, the distribution of ranks is counted out; beyond, it is near its limit.
pub(crate) const EXACT_RANK_ROUNDS_MAX: usize = 20;

/// Connections that are made in order to get one that a certain shard accepts.
pub(crate) const PLACING_TRIES_MAX: u32 = 500;
