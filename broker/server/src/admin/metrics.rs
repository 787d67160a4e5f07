//! `/metrics`: snapshots in the Prometheus text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::{Display, Write};

use lanecast_core::{BudgetUse, GroupStats, Offence, PartitionState, PartitionStats};

use super::Overview;
use super::stats::throttled;
use crate::limits::CLIENTS_LISTED_MAX;
use crate::snapshot::Snapshot;

pub(super) fn render(overview: &Overview, snapshots: &[Snapshot]) -> String {
    let mut page = Page { text: String::with_capacity(16 * 1024) };
    broker(&mut page, overview);
    shards(&mut page, snapshots);
    peers(&mut page, snapshots);
    partitions(&mut page, snapshots);
    groups(&mut page, snapshots);
    page.text
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.line(format_args!("# HELP lanecast_broker_{name} {help}\n"));
        self.line(format_args!("# TYPE lanecast_broker_{name} {kind}\n"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.line(format_args!("lanecast_broker_{name}"));
        for (position, (label, value)) in labels.iter().enumerate() {
            let open = if position == 0 { '{' } else { ',' };
            let value = escape(&value.to_string());
            self.line(format_args!("{open}{label}=\"{value}\""));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.line(format_args!("{close} {value}\n"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("writing to a string does not fail");
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn broker(page: &mut Page, overview: &Overview) {
    page.family("info", Kind::Gauge, "The build that runs.");
    page.sample("info", &[("version", &env!("CARGO_PKG_VERSION"))], 1);
    page.family("uptime_seconds", Kind::Gauge, "Time since the broker started.");
    page.sample("uptime_seconds", &[], overview.uptime_seconds);
    page.family("ready", Kind::Gauge, "1 while the broker is ready, as /readyz says.");
    page.sample("ready", &[], u8::from(overview.ready));
    page.family("draining", Kind::Gauge, "1 once a drain has begun.");
    page.sample("draining", &[], u8::from(overview.draining));
    memory(page, &overview.memory);
    page.family(
        "executor_silence_seconds",
        Kind::Gauge,
        "Time since the executor's loop last turned.",
    );
    for (shard, silence) in overview.silence_seconds.iter().enumerate() {
        page.sample("executor_silence_seconds", &[("shard", &shard)], silence);
    }
}

fn memory(page: &mut Page, used: &BudgetUse) {
    page.family(
        "memory_budget_bytes",
        Kind::Gauge,
        "Memory that clients may make the broker hold.",
    );
    page.sample("memory_budget_bytes", &[], used.memory);
    page.family("memory_used_bytes", Kind::Gauge, "What is in use of it, by part.");
    let parts = [
        ("cache", used.cached),
        ("reads", used.reads),
        ("outbound", used.outbound),
        ("undurable", used.undurable),
        ("received", used.received),
    ];
    for (part, bytes) in parts {
        page.sample("memory_used_bytes", &[("part", &part)], bytes);
    }
}

fn peers(page: &mut Page, snapshots: &[Snapshot]) {
    page.family("connections_expelled_total", Kind::Counter, "Connections ended for cause.");
    for snapshot in snapshots {
        for offence in Offence::ALL {
            let labels: [(&str, &dyn Display); 2] =
                [("shard", &snapshot.stats.shard.0), ("reason", &offence.name())];
            let count = snapshot.stats.offences.of(offence);
            page.sample("connections_expelled_total", &labels, count);
        }
    }
    let name = "client_throttled_milliseconds_total";
    page.family(name, Kind::Counter, "Time that a client waited for its rate.");
    let mut clients: Vec<_> = throttled(snapshots).into_iter().collect();
    clients.sort_by_key(|(_, (_, throttled_ms))| std::cmp::Reverse(*throttled_ms));
    for (client, (_, throttled_ms)) in clients.into_iter().take(CLIENTS_LISTED_MAX) {
        page.sample(name, &[("client", &client)], throttled_ms);
    }
}

/// A family with one sample per `T`.
struct Family<T> {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&T) -> u64,
}

const fn counter<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Family<T> {
    Family { name, kind: Kind::Counter, help, value }
}

const fn gauge<T>(name: &'static str, help: &'static str, value: fn(&T) -> u64) -> Family<T> {
    Family { name, kind: Kind::Gauge, help, value }
}

const SHARD_FAMILIES: &[Family<Snapshot>] = &[
    gauge("connections", "Open client connections.", |one| u64::from(one.stats.connections)),
    gauge("subscribers", "Subscriptions.", |one| u64::from(one.stats.subscribers)),
    counter("connections_accepted_total", "Connections accepted.", |one| one.sockets.accepted),
    counter("connections_refused_total", "Connections closed at the limit.", |one| {
        one.sockets.refused
    }),
    counter("received_bytes_total", "Bytes received from clients.", |one| {
        one.sockets.received_bytes
    }),
    counter("sent_bytes_total", "Bytes sent to clients.", |one| one.sockets.sent_bytes),
    gauge("outbound_bytes", "Bytes that wait for client sockets.", |one| one.outbound_bytes),
    gauge("commit_bytes", "Bytes on their way to the disk.", |one| one.commit_bytes),
    counter(
        "throttled_milliseconds_total",
        "Time that connections waited for their clients' rates.",
        |one| one.stats.throttled_ms,
    ),
    gauge("disk_operations", "Disk operations under way.", |one| one.disk_operations as u64),
    gauge("ring_backlog_messages", "Messages in front of full rings to other shards.", |one| {
        one.ring_backlog as u64
    }),
    counter("turns_total", "Turns of the executor's loop.", |one| one.turns),
];

fn shards(page: &mut Page, snapshots: &[Snapshot]) {
    for family in SHARD_FAMILIES {
        page.family(family.name, family.kind, family.help);
        for snapshot in snapshots {
            let value = (family.value)(snapshot);
            page.sample(family.name, &[("shard", &snapshot.stats.shard.0)], value);
        }
    }
}

const PARTITION_FAMILIES: &[Family<PartitionStats>] = &[
    gauge("partition_online", "1 while the partition takes and hands out records.", |one| {
        u64::from(one.state == PartitionState::Online)
    }),
    gauge("partition_log_start_offset", "The oldest offset that is kept.", |one| one.log_start),
    gauge("partition_high_watermark_offset", "The offset that the next record gets.", |one| {
        one.high_watermark
    }),
    gauge("partition_log_bytes", "Bytes of the log on disk.", |one| one.log_bytes),
    gauge("partition_segments", "Segment files of the log.", |one| u64::from(one.segments)),
    gauge("partition_damaged_places", "Damaged stretches of the log.", |one| one.damaged_places),
    gauge("partition_damaged_records", "Records lost in damaged stretches of the log.", |one| {
        one.damaged_records
    }),
    gauge("partition_subscribers", "Subscriptions to the partition.", |one| {
        u64::from(one.subscribers)
    }),
    counter("records_in_total", "Records appended.", |one| one.records_in),
    counter("bytes_in_total", "Bytes of batches appended.", |one| one.bytes_in),
    counter("duplicate_batches_total", "Batches that had been appended before.", |one| {
        one.duplicates
    }),
    counter("records_out_total", "Records handed out.", |one| one.records_out),
    counter("bytes_out_total", "Bytes of batches handed out.", |one| one.bytes_out),
    counter("records_filtered_total", "Records left out of subscriptions for their keys.", |one| {
        one.records_filtered
    }),
    counter(
        "records_dropped_total",
        "Records dropped for want of room, as the topic asks.",
        |one| one.records_dropped,
    ),
    gauge(
        "burials",
        "Groups whose dead records are on their way to the dead-letter topic.",
        |one| u64::from(one.burials),
    ),
    counter("dead_letter_retries_total", "Dead letters that were refused and sent again.", |one| {
        one.letter_retries
    }),
    counter("dead_records_lost_total", "Dead records gone before they were buried.", |one| {
        one.letter_records_lost
    }),
    counter("records_expired_total", "Records that subscriptions missed for their age.", |one| {
        one.records_expired
    }),
    counter(
        "records_missed_total",
        "Records that were gone or damaged before a subscription came to them.",
        |one| one.records_missed,
    ),
    counter("records_lost_to_groups_total", "Records that retention took before a group.", |one| {
        one.records_lost_to_groups
    }),
];

fn partitions(page: &mut Page, snapshots: &[Snapshot]) {
    for family in PARTITION_FAMILIES {
        page.family(family.name, family.kind, family.help);
        for one in snapshots.iter().flat_map(|snapshot| &snapshot.stats.partitions) {
            let labels: [(&str, &dyn Display); 2] =
                [("topic", &one.topic), ("partition", &one.partition.index)];
            page.sample(family.name, &labels, (family.value)(one));
        }
    }
}

const GROUP_FAMILIES: &[Family<GroupStats>] = &[
    gauge("group_acked_offset", "Everything before this offset is acknowledged.", |one| {
        one.acked_upto
    }),
    gauge("group_lag_records", "Records that nobody has acknowledged yet.", |one| one.lag_records),
    gauge("group_chunks_in_flight", "Chunks that members hold.", |one| {
        u64::from(one.in_flight_chunks)
    }),
    gauge("group_chunks_open", "Chunks that are bound and not acknowledged.", |one| {
        u64::from(one.open_chunks)
    }),
    counter("group_acked_chunks_total", "Chunks acknowledged.", |one| one.acked_chunks),
    counter("group_acked_records_total", "Records acknowledged.", |one| one.acked_records),
    counter("group_redelivered_total", "Chunks handed out again.", |one| one.redelivered),
    counter("group_expired_total", "Leases that ran out.", |one| one.expired),
    counter("group_nacked_total", "Chunks that a member gave back.", |one| one.nacked),
    counter("group_skipped_records_total", "Records that retention took unacknowledged.", |one| {
        one.skipped_records
    }),
    counter("group_dead_lettered_records_total", "Records in the dead-letter topic.", |one| {
        one.dead_lettered_records
    }),
    counter("group_expired_records_total", "Records past their time to live.", |one| {
        one.expired_records
    }),
    counter("group_leases_broken_total", "Chunks on lease that retention took.", |one| {
        one.leases_broken
    }),
    counter("group_damaged_records_total", "Damaged records that the group passed by.", |one| {
        one.damaged_records
    }),
    gauge("group_dying_records", "Records given up, not yet in the dead-letter topic.", |one| {
        one.dying_records
    }),
    gauge("group_members", "Members of the group.", |one| u64::from(one.members)),
];

fn groups(page: &mut Page, snapshots: &[Snapshot]) {
    for family in GROUP_FAMILIES {
        page.family(family.name, family.kind, family.help);
        for one in snapshots.iter().flat_map(|snapshot| &snapshot.stats.partitions) {
            for group in &one.groups {
                let labels: [(&str, &dyn Display); 3] = [
                    ("topic", &one.topic),
                    ("partition", &one.partition.index),
                    ("group", &group.name),
                ];
                page.sample(family.name, &labels, (family.value)(group));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lanecast_core::{ClientStats, OffenceCounts, ShardId, ShardStats};
    use lanecast_wire::{PartitionId, TopicId};

    use super::*;
    use crate::sockets::SocketCounters;

    fn snapshot() -> Snapshot {
        let group = GroupStats {
            name: "click\"house\\".to_owned(),
            acked_upto: 7,
            in_flight_chunks: 1,
            lag_records: 3,
            members: 2,
            ..GroupStats::default()
        };
        let partition = PartitionStats {
            topic: "gpu-telemetry".to_owned(),
            partition: PartitionId { topic: TopicId(1), index: 4 },
            state: PartitionState::Online,
            detail: String::new(),
            log_start: 0,
            high_watermark: 10,
            records_in: 10,
            bytes_in: 1000,
            duplicates: 0,
            records_out: 7,
            bytes_out: 700,
            records_filtered: 0,
            records_expired: 0,
            records_missed: 0,
            batches_dropped: 0,
            records_dropped: 0,
            burials: 0,
            letter_retries: 0,
            letter_records_lost: 0,
            log_bytes: 4096,
            segments: 1,
            damaged_places: 0,
            damaged_records: 0,
            subscribers: 0,
            records_lost_to_groups: 0,
            groups: vec![group],
        };
        let stats = ShardStats {
            shard: ShardId(0),
            ready: true,
            draining: false,
            connections: 5,
            subscribers: 1,
            offences: OffenceCounts::default(),
            throttled_ms: 5,
            clients: vec![ClientStats { name: "slow".to_owned(), connections: 1, throttled_ms: 5 }],
            partitions: vec![partition],
        };
        Snapshot {
            taken: std::time::Instant::now(),
            stats,
            sockets: SocketCounters::default(),
            outbound_bytes: 0,
            commit_bytes: 0,
            disk_operations: 0,
            ring_backlog: 0,
            turns: 1,
        }
    }

    #[test]
    fn every_sample_follows_its_help_and_type_and_labels_are_escaped() {
        let overview = Overview {
            uptime_seconds: 1.5,
            ready: true,
            draining: false,
            silence_seconds: vec![0.25],
            memory: BudgetUse::default(),
        };
        let text = render(&overview, &[snapshot()]);
        let mut declared = String::new();
        let mut families = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                declared = rest.split(' ').next().unwrap().to_owned();
                assert!(families.insert(declared.clone()), "{declared} is declared twice");
            } else if !line.starts_with("# HELP ") {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, declared, "{line}");
                let value = line.rsplit(' ').next().unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
        let lag = "lanecast_broker_group_lag_records{topic=\"gpu-telemetry\",partition=\"4\",\
                   group=\"click\\\"house\\\\\"} 3";
        assert!(text.lines().any(|line| line == lag), "{text}");
    }
}
