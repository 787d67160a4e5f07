//! What a shard says of itself: plain data, built on request.

use lanecast_wire::PartitionId;

use crate::{OffenceCounts, ShardId};

/// One shard at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStats {
    pub shard: ShardId,
    /// The catalog is known and no partition of this shard waits for its first recovery.
    pub ready: bool,
    pub draining: bool,
    pub connections: u32,
    pub subscribers: u32,
    /// Connections that the shard has ended for cause.
    pub offences: OffenceCounts,
    /// Time that connections waited for their clients' rates.
    pub throttled_ms: u64,
    /// Clients that had to wait.
    pub clients: Vec<ClientStats>,
    pub partitions: Vec<PartitionStats>,
}

/// A client with a rate, named by its hello. Counters count since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStats {
    pub name: String,
    pub connections: u32,
    pub throttled_ms: u64,
}

/// Can the partition take and hand out records?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// Its logs are being read for the first time.
    Recovering,
    Online,
    /// A disk operation failed; it comes back once its logs have been read again.
    Offline,
}

impl PartitionState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PartitionState::Recovering => "recovering",
            PartitionState::Online => "online",
            PartitionState::Offline => "offline",
        }
    }
}

/// One partition. Counters count since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    pub topic: String,
    pub partition: PartitionId,
    pub state: PartitionState,
    /// Why the partition is not online, or how its last recovery ended; for people.
    pub detail: String,
    pub log_start: u64,
    pub high_watermark: u64,
    pub records_in: u64,
    pub bytes_in: u64,
    pub duplicates: u64,
    pub records_out: u64,
    pub bytes_out: u64,
    /// Records whose batches were left out of broadcast subscriptions for their keys.
    pub records_filtered: u64,
    /// Records that broadcast subscriptions missed because they were too old.
    pub records_expired: u64,
    /// Records that broadcast subscriptions missed because retention, the topic's room or damage
    /// had taken them; each was told which.
    pub records_missed: u64,
    /// What was dropped because there was no room for it, at the topic's wish.
    pub batches_dropped: u64,
    pub records_dropped: u64,
    /// Groups whose dead records are on their way to the dead-letter topic.
    pub burials: u32,
    /// Dead letters that were refused there and sent again.
    pub letter_retries: u64,
    /// Dead records that retention or damage took before they were buried.
    pub letter_records_lost: u64,
    pub log_bytes: u64,
    pub segments: u32,
    /// Damaged stretches of the log as it is now, and the records that were in them.
    pub damaged_places: u64,
    pub damaged_records: u64,
    pub subscribers: u32,
    /// Records that retention took before a group had them.
    pub records_lost_to_groups: u64,
    pub groups: Vec<GroupStats>,
}

/// One consumer group on one partition. Counters count since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStats {
    pub name: String,
    /// Everything before this offset is acknowledged.
    pub acked_upto: u64,
    pub members: u32,
    /// Chunks on lease.
    pub in_flight_chunks: u32,
    /// Chunks that are bound and not acknowledged, those on lease included.
    pub open_chunks: u32,
    /// Durable records that nobody acknowledged.
    pub lag_records: u64,
    pub acked_chunks: u64,
    pub acked_records: u64,
    /// Hand-outs of chunks that had been handed out before.
    pub redelivered: u64,
    /// Leases that ran out.
    pub expired: u64,
    pub nacked: u64,
    /// Records that retention took before they were acknowledged.
    pub skipped_records: u64,
    /// Records that were damaged before they were acknowledged.
    pub damaged_records: u64,
    /// Records that outlived the topic's `record_ttl_ms` before they were handed out.
    pub expired_records: u64,
    /// Records that are given up and not yet in the dead-letter topic.
    pub dying_records: u64,
    /// Records that went to the dead-letter topic.
    pub dead_lettered_records: u64,
    /// Leases that retention ended.
    pub leases_broken: u64,
}
