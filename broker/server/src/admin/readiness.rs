//! What `/readyz` says while partitions are offline.

use lanecast_core::{PartitionState, PartitionStats};
use serde::Serialize;

use crate::limits::OFFLINE_LISTED_MAX;
use crate::snapshot::Snapshot;

#[derive(Debug, Serialize)]
pub(super) struct NotReady<'a> {
    status: &'static str,
    reason: &'a str,
    /// At most [`OFFLINE_LISTED_MAX`] of them, by topic and number.
    offline: Vec<OfflinePartition<'a>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct OfflinePartition<'a> {
    topic: &'a str,
    partition: u32,
    shard: u16,
    detail: &'a str,
}

impl<'a> NotReady<'a> {
    pub(super) fn of(reason: &'a str, snapshots: &'a [Snapshot]) -> Self {
        let is_offline = |one: &&PartitionStats| one.state == PartitionState::Offline;
        let mut offline: Vec<_> = snapshots
            .iter()
            .flat_map(|snapshot| {
                let shard = snapshot.stats.shard.0;
                snapshot.stats.partitions.iter().filter(is_offline).map(move |one| {
                    OfflinePartition {
                        topic: &one.topic,
                        partition: one.partition.index,
                        shard,
                        detail: &one.detail,
                    }
                })
            })
            .collect();
        offline.sort_unstable();
        offline.truncate(OFFLINE_LISTED_MAX);
        NotReady { status: "unavailable", reason, offline }
    }
}
