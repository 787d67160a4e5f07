//! `/stats` and `/stats/{topic}`: snapshots as JSON.

use std::collections::BTreeMap;

use lanecast_core::{BudgetUse, GroupStats, Offence, PartitionStats, ShardId};
use serde::Serialize;

use super::Overview;
use crate::limits::CLIENTS_LISTED_MAX;
use crate::snapshot::Snapshot;

#[derive(Debug, Serialize)]
pub(super) struct Stats<'a> {
    version: &'static str,
    uptime_seconds: f64,
    ready: bool,
    draining: bool,
    /// Age of the oldest shard's figures; none while a shard has not told any. A busy shard is not
    /// waited for longer than a moment.
    snapshot_age_seconds: Option<f64>,
    totals: Totals,
    memory: Memory,
    /// Clients that had to wait for their rates, those that waited longest first.
    throttled_clients: Vec<ClientRow<'a>>,
    shards: Vec<ShardRow>,
    topics: Vec<TopicStats<'a>>,
}

#[derive(Debug, Default, Serialize)]
struct Totals {
    records_in: u64,
    bytes_in: u64,
    records_out: u64,
    bytes_out: u64,
    duplicates: u64,
    connections: u64,
    subscribers: u64,
}

/// Bytes of the broker's memory budget, and what is in use of it.
#[derive(Debug, Serialize)]
struct Memory {
    budget: u64,
    cached: u64,
    reads: u64,
    outbound: u64,
    undurable: u64,
    received: u64,
}

impl Memory {
    fn of(used: &BudgetUse) -> Self {
        let BudgetUse { memory: budget, cached, reads, outbound, undurable, received } = *used;
        Memory { budget, cached, reads, outbound, undurable, received }
    }
}

#[derive(Debug, Serialize)]
struct ClientRow<'a> {
    name: &'a str,
    connections: u32,
    throttled_ms: u64,
}

#[derive(Debug, Serialize)]
struct ShardRow {
    shard: u16,
    ready: bool,
    connections: u32,
    subscribers: u32,
    partitions: usize,
    connections_accepted: u64,
    connections_refused: u64,
    /// By reason.
    connections_expelled: BTreeMap<&'static str, u64>,
    throttled_ms: u64,
    received_bytes: u64,
    sent_bytes: u64,
    outbound_bytes: u64,
    commit_bytes: u64,
    disk_operations: usize,
    ring_backlog: usize,
    turns: u64,
    silence_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct TopicStats<'a> {
    name: &'a str,
    partitions: Vec<PartitionRow<'a>>,
}

#[derive(Debug, Serialize)]
struct PartitionRow<'a> {
    index: u32,
    shard: u16,
    state: &'static str,
    detail: &'a str,
    log_start: u64,
    high_watermark: u64,
    log_bytes: u64,
    segments: u32,
    damaged_places: u64,
    damaged_records: u64,
    records_in: u64,
    bytes_in: u64,
    duplicates: u64,
    records_out: u64,
    bytes_out: u64,
    records_filtered: u64,
    records_expired: u64,
    records_missed: u64,
    batches_dropped: u64,
    records_dropped: u64,
    burials: u32,
    letter_retries: u64,
    letter_records_lost: u64,
    subscribers: u32,
    records_lost_to_groups: u64,
    groups: Vec<GroupRow<'a>>,
}

#[derive(Debug, Serialize)]
struct GroupRow<'a> {
    name: &'a str,
    acked_upto: u64,
    in_flight_chunks: u32,
    lag_records: u64,
    redelivered: u64,
    members: u32,
    open_chunks: u32,
    acked_chunks: u64,
    acked_records: u64,
    expired: u64,
    nacked: u64,
    skipped_records: u64,
    damaged_records: u64,
    expired_records: u64,
    dying_records: u64,
    dead_lettered_records: u64,
    leases_broken: u64,
}

impl<'a> Stats<'a> {
    pub(super) fn of(overview: &Overview, snapshots: &'a [Snapshot]) -> Self {
        Stats {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: overview.uptime_seconds,
            ready: overview.ready,
            draining: overview.draining,
            snapshot_age_seconds: age_seconds(overview, snapshots),
            totals: Totals::of(snapshots),
            memory: Memory::of(&overview.memory),
            throttled_clients: clients(snapshots),
            shards: snapshots.iter().map(|one| ShardRow::of(overview, one)).collect(),
            topics: topics(snapshots),
        }
    }
}

fn age_seconds(overview: &Overview, snapshots: &[Snapshot]) -> Option<f64> {
    let all = snapshots.len() == overview.silence_seconds.len();
    let ages = snapshots.iter().map(|snapshot| snapshot.taken.elapsed().as_secs_f64());
    if all { ages.reduce(f64::max) } else { None }
}

impl Totals {
    fn of(snapshots: &[Snapshot]) -> Self {
        let mut totals = Totals::default();
        for snapshot in snapshots {
            totals.connections += u64::from(snapshot.stats.connections);
            totals.subscribers += u64::from(snapshot.stats.subscribers);
            for partition in &snapshot.stats.partitions {
                totals.records_in += partition.records_in;
                totals.bytes_in += partition.bytes_in;
                totals.records_out += partition.records_out;
                totals.bytes_out += partition.bytes_out;
                totals.duplicates += partition.duplicates;
            }
        }
        totals
    }
}

impl ShardRow {
    fn of(overview: &Overview, snapshot: &Snapshot) -> Self {
        let ShardId(shard) = snapshot.stats.shard;
        let silence = overview.silence_seconds.get(usize::from(shard));
        ShardRow {
            shard,
            ready: snapshot.stats.ready,
            connections: snapshot.stats.connections,
            subscribers: snapshot.stats.subscribers,
            partitions: snapshot.stats.partitions.len(),
            connections_accepted: snapshot.sockets.accepted,
            connections_refused: snapshot.sockets.refused,
            connections_expelled: Offence::ALL
                .into_iter()
                .map(|offence| (offence.name(), snapshot.stats.offences.of(offence)))
                .collect(),
            throttled_ms: snapshot.stats.throttled_ms,
            received_bytes: snapshot.sockets.received_bytes,
            sent_bytes: snapshot.sockets.sent_bytes,
            outbound_bytes: snapshot.outbound_bytes,
            commit_bytes: snapshot.commit_bytes,
            disk_operations: snapshot.disk_operations,
            ring_backlog: snapshot.ring_backlog,
            turns: snapshot.turns,
            silence_seconds: silence.copied().unwrap_or_default(),
        }
    }
}

impl<'a> TopicStats<'a> {
    pub(super) fn find(name: &str, snapshots: &'a [Snapshot]) -> Option<TopicStats<'a>> {
        topics(snapshots).into_iter().find(|topic| topic.name == name)
    }
}

/// On whichever shards they are.
pub(super) fn throttled(snapshots: &[Snapshot]) -> BTreeMap<&str, (u32, u64)> {
    let mut clients: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
    for client in snapshots.iter().flat_map(|snapshot| &snapshot.stats.clients) {
        let (connections, throttled_ms) = clients.entry(&client.name).or_default();
        *connections += client.connections;
        *throttled_ms += client.throttled_ms;
    }
    clients
}

fn clients(snapshots: &[Snapshot]) -> Vec<ClientRow<'_>> {
    let mut clients: Vec<_> = throttled(snapshots)
        .into_iter()
        .map(|(name, (connections, throttled_ms))| ClientRow { name, connections, throttled_ms })
        .collect();
    clients.sort_by_key(|client| std::cmp::Reverse(client.throttled_ms));
    clients.truncate(CLIENTS_LISTED_MAX);
    clients
}

/// By name, and each topic's partitions by index, whichever shards they are on.
fn topics(snapshots: &[Snapshot]) -> Vec<TopicStats<'_>> {
    let mut topics: BTreeMap<&str, Vec<PartitionRow<'_>>> = BTreeMap::new();
    for snapshot in snapshots {
        for partition in &snapshot.stats.partitions {
            let rows = topics.entry(&partition.topic).or_default();
            rows.push(PartitionRow::of(snapshot.stats.shard, partition));
        }
    }
    let sorted = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_unstable_by_key(|row| row.index);
        TopicStats { name, partitions }
    });
    sorted.collect()
}

impl<'a> PartitionRow<'a> {
    fn of(shard: ShardId, partition: &'a PartitionStats) -> Self {
        PartitionRow {
            index: partition.partition.index,
            shard: shard.0,
            state: partition.state.name(),
            detail: &partition.detail,
            log_start: partition.log_start,
            high_watermark: partition.high_watermark,
            log_bytes: partition.log_bytes,
            segments: partition.segments,
            damaged_places: partition.damaged_places,
            damaged_records: partition.damaged_records,
            records_in: partition.records_in,
            bytes_in: partition.bytes_in,
            duplicates: partition.duplicates,
            records_out: partition.records_out,
            bytes_out: partition.bytes_out,
            records_filtered: partition.records_filtered,
            records_expired: partition.records_expired,
            records_missed: partition.records_missed,
            batches_dropped: partition.batches_dropped,
            records_dropped: partition.records_dropped,
            burials: partition.burials,
            letter_retries: partition.letter_retries,
            letter_records_lost: partition.letter_records_lost,
            subscribers: partition.subscribers,
            records_lost_to_groups: partition.records_lost_to_groups,
            groups: partition.groups.iter().map(GroupRow::of).collect(),
        }
    }
}

impl<'a> GroupRow<'a> {
    fn of(group: &'a GroupStats) -> Self {
        GroupRow {
            name: &group.name,
            acked_upto: group.acked_upto,
            in_flight_chunks: group.in_flight_chunks,
            lag_records: group.lag_records,
            redelivered: group.redelivered,
            members: group.members,
            open_chunks: group.open_chunks,
            acked_chunks: group.acked_chunks,
            acked_records: group.acked_records,
            expired: group.expired,
            nacked: group.nacked,
            skipped_records: group.skipped_records,
            damaged_records: group.damaged_records,
            expired_records: group.expired_records,
            dying_records: group.dying_records,
            dead_lettered_records: group.dead_lettered_records,
            leases_broken: group.leases_broken,
        }
    }
}
