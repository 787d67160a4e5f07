//! Settings of one shard. Everything that differs between two brokers is in here.

use std::num::NonZeroU64;
use std::sync::Arc;

use lanecast_wire::message::DeliveryMode;

use crate::group::limits::CHUNKS_OUT_PER_GROUP_DEFAULT;
use crate::{Budget, ShardId, limits};

/// What a shard is told at its start. All shards of a broker get the same, `budget` in the first place,
/// but for `shard` and `seed`.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    pub shard: ShardId,
    /// Shards of this broker, at least 1; partition `p` belongs to shard `p % shards`.
    pub shards: u16,
    /// Of every draw that the shard makes. A running broker takes it from the system's entropy,
    /// a simulation from its own seed; two shards of one broker need different ones.
    pub seed: u64,
    /// Of the data directory: offsets of logs in another one mean other records.
    pub directory: NonZeroU64,
    pub broker_version: String,
    /// Memory of the whole broker, and what of it is in use.
    pub budget: Arc<Budget>,
    /// Subscriptions that the broker's connections may hold, on all shards together.
    pub max_consumers: u32,
    /// Chunks of one group that are out on lease at a time in each partition, see
    /// [`GroupSettings::chunks_out`](crate::group::GroupSettings::chunks_out).
    pub group_chunks_out: u32,
    /// What one client may send, and be sent, on one shard in a second; 0: as much as there is.
    pub client_bytes_per_second: u64,
    pub client_records_per_second: u64,
    /// The mode of subscriptions that name none.
    pub default_mode: DeliveryMode,
    /// The credit of subscriptions that name none, in bytes per partition.
    pub default_credit_bytes: u32,
    /// Size of the segments of data logs: a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Size of the segments of group logs and of the catalog: a multiple of 4 KiB.
    pub groups_segment_bytes: u64,
    /// What all partitions of this shard may keep of their newest blocks, to serve subscribers
    /// from memory.
    pub cache_bytes: u64,
    /// Most that one partition of a `memory` topic holds, whatever its retention says.
    pub memory_topic_bytes: u64,
    /// From this size on frames are received into memory that their batches may stay in.
    pub large_frame_bytes: usize,
    /// Most that is received at once of several such frames. A larger one is received by itself, into
    /// the memory that it is gathered in.
    pub expected_bytes_max: usize,
    /// A batch from this size on that came in memory of its own stays there; on disk, it is a block by itself.
    pub adopted_bytes_min: usize,
    /// Appended but not yet durable bytes of one partition, beyond which appends are refused.
    pub undurable_bytes: u64,
}

impl ShardConfig {
    /// The settings of a broker that nobody configured.
    #[must_use]
    pub fn new(shard: ShardId, shards: u16, seed: u64) -> Self {
        ShardConfig {
            shard,
            shards,
            seed,
            directory: NonZeroU64::MIN,
            broker_version: env!("CARGO_PKG_VERSION").to_owned(),
            budget: Arc::new(Budget::new(limits::MEMORY_BYTES_DEFAULT, shards)),
            max_consumers: limits::CONSUMERS_DEFAULT,
            group_chunks_out: CHUNKS_OUT_PER_GROUP_DEFAULT,
            client_bytes_per_second: 0,
            client_records_per_second: 0,
            default_mode: DeliveryMode::Queue,
            default_credit_bytes: limits::CREDIT_BYTES_DEFAULT,
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            groups_segment_bytes: limits::GROUPS_SEGMENT_BYTES_DEFAULT,
            cache_bytes: limits::CACHE_BYTES_DEFAULT,
            memory_topic_bytes: limits::MEMORY_TOPIC_BYTES_DEFAULT,
            large_frame_bytes: limits::LARGE_FRAME_BYTES,
            expected_bytes_max: limits::EXPECTED_BYTES_MAX,
            adopted_bytes_min: limits::ADOPTED_BYTES_MIN,
            undurable_bytes: limits::UNDURABLE_BYTES_DEFAULT,
        }
    }
}
