//! The statistics that `up` reads from the broker and the consumer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::http;

/// The part of the broker's `/stats` that is needed here.
#[derive(Debug, Deserialize)]
struct BrokerStats {
    snapshot_age_seconds: Option<f64>,
    topics: Vec<Topic>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    name: String,
    partitions: Vec<Partition>,
}

#[derive(Debug, Deserialize)]
struct Partition {
    high_watermark: u64,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    name: String,
    acked_upto: u64,
}

/// How far the consumer group is behind the topic's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Records that the topic holds or held: the sum of its high watermarks.
    pub(super) appended: u64,
    /// Records that the group has acknowledged.
    pub(super) acknowledged: u64,
}

impl Position {
    pub(super) fn lag(self) -> u64 {
        self.appended - self.acknowledged
    }
}

/// Reads the position of `group` in `topic`, and when it was that.
///
/// # Errors
/// The broker does not answer as it should, or not yet for all its shards.
pub(super) async fn position(
    broker_admin: SocketAddr,
    topic: &str,
    group: &str,
) -> Result<(Position, Instant), String> {
    // The figures are at most this old: their age is as of the answer, which came later.
    let asked = Instant::now();
    let stats: BrokerStats = http::get_json(broker_admin, "/stats").await?;
    let age = stats.snapshot_age_seconds.and_then(|age| Duration::try_from_secs_f64(age).ok());
    let taken = age.and_then(|age| asked.checked_sub(age));
    let taken = taken.ok_or("a shard of the broker has not told its figures yet")?;
    Ok((position_in(&stats, topic, group), taken))
}

fn position_in(stats: &BrokerStats, topic: &str, group: &str) -> Position {
    let mut position = Position::default();
    let partitions =
        stats.topics.iter().filter(|found| found.name == topic).flat_map(|found| &found.partitions);
    for partition in partitions {
        position.appended += partition.high_watermark;
        let acked = partition.groups.iter().find(|found| found.name == group);
        // A snapshot may pair a newer ack with an older watermark.
        position.acknowledged +=
            acked.map_or(0, |found| found.acked_upto.min(partition.high_watermark));
    }
    position
}

/// The part of the consumer's `/stats` that is needed here.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct ConsumerStats {
    pub(super) dead_lettered: u64,
    pub(super) e2e_ms: Latency,
}

/// Milliseconds from a record's push in the producer to its insert being acknowledged.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// Reads the consumer's statistics.
///
/// # Errors
/// The consumer does not answer as it should.
pub(super) async fn consumer(admin: SocketAddr) -> Result<ConsumerStats, String> {
    http::get_json(admin, "/stats").await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_without_the_group_counts_as_unread() {
        let stats: BrokerStats = serde_json::from_str(
            r#"{"snapshot_age_seconds":0.1,"topics":[{"name":"t","partitions":[
                {"high_watermark":10,"groups":[{"name":"g","acked_upto":4}]},
                {"high_watermark":5,"groups":[]}]},
              {"name":"other","partitions":[{"high_watermark":99,"groups":[]}]}]}"#,
        )
        .unwrap();
        let position = position_in(&stats, "t", "g");
        assert_eq!(position, Position { appended: 15, acknowledged: 4 });
        assert_eq!(position.lag(), 11);
    }
}
