//! `lanecast group`: consumer groups, and how far behind they are.

mod delete;
mod describe;
mod list;
mod move_to;

use std::collections::BTreeMap;

use lanecast_client::{Client, PartitionGroup};
use serde_json::{Value, json};

use super::Failure;
use super::answer::{Side, Table};
use super::failure::{About, explain};
use super::topic::required;
use crate::Outcome;
use crate::settings::{Settings, table};
use crate::units::show_count;

pub(super) async fn run(command: &str, settings: &Settings) -> Outcome {
    match command {
        "list" => list::run(settings).await,
        "describe" => describe::run(settings).await,
        "move" => move_to::run(settings).await,
        "delete" => delete::run(settings).await,
        other => unreachable!("the command tree offers only these, not group {other}"),
    }
}

fn name(settings: &Settings) -> Result<&str, Failure> {
    required(
        settings,
        &table::GROUP_NAME,
        "which group? `lanecast group list` shows those there are",
    )
}

/// The topics that are meant: one that is named, or all.
async fn topics(client: &Client, settings: &Settings) -> Result<Vec<String>, Failure> {
    if let Some(name) = settings.text(&table::GROUP_TOPIC) {
        let topic = client.topic(name).await;
        let topic = topic.map_err(|error| explain(error, About::Topic(name), settings))?;
        return Ok(vec![topic.name]);
    }
    let topics = client.topics().await;
    let topics = topics.map_err(|error| explain(error, About::Broker, settings))?;
    let mut names: Vec<String> = topics.into_iter().map(|topic| topic.name).collect();
    names.sort();
    Ok(names)
}

/// The groups of a topic in all its partitions.
async fn groups_of(
    client: &Client,
    topic: &str,
    settings: &Settings,
) -> Result<Vec<PartitionGroup>, Failure> {
    let groups = client.groups(topic, None).await;
    groups.map_err(|error| explain(error, About::Topic(topic), settings))
}

/// The only partition that is meant, if one is.
fn partition(settings: &Settings) -> Result<Option<u32>, Failure> {
    let number = |text: &str| text.parse().map_err(|_| "expected a partition's number".to_owned());
    Ok(settings.parse_optional(&table::GROUP_PARTITION, number)?)
}

/// A group over all partitions of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    topic: String,
    group: String,
    /// A member is in every partition: the most that one of them has.
    members: u32,
    lag_records: u64,
    in_flight_chunks: u64,
    redelivered_chunks: u64,
    dead_lettered_records: u64,
    skipped_records: u64,
}

/// By name.
pub(super) fn totals(topic: &str, groups: Vec<PartitionGroup>) -> Vec<Totals> {
    let mut all: BTreeMap<String, Totals> = BTreeMap::new();
    for PartitionGroup { group, .. } in groups {
        let totals = all.entry(group.name.clone()).or_insert_with(|| Totals {
            topic: topic.to_owned(),
            group: group.name,
            members: 0,
            lag_records: 0,
            in_flight_chunks: 0,
            redelivered_chunks: 0,
            dead_lettered_records: 0,
            skipped_records: 0,
        });
        totals.members = totals.members.max(group.members);
        totals.lag_records += group.lag_records;
        totals.in_flight_chunks += u64::from(group.in_flight_chunks);
        totals.redelivered_chunks += group.redelivered_chunks;
        totals.dead_lettered_records += group.dead_lettered_records;
        totals.skipped_records += group.skipped_records;
    }
    all.into_values().collect()
}

impl Totals {
    pub(super) fn table(all: &[Totals], with_topic: bool) -> Table {
        let mut head = vec![("GROUP", Side::Left)];
        if with_topic {
            head.push(("TOPIC", Side::Left));
        }
        let numbers = ["MEMBERS", "LAG", "IN FLIGHT", "REDELIVERED", "DEAD LETTERS", "SKIPPED"];
        head.extend(numbers.map(|name| (name, Side::Right)));
        let mut table = Table::new(&head);
        for one in all {
            let mut row = vec![one.group.clone()];
            if with_topic {
                row.push(one.topic.clone());
            }
            let numbers = [
                u64::from(one.members),
                one.lag_records,
                one.in_flight_chunks,
                one.redelivered_chunks,
                one.dead_lettered_records,
                one.skipped_records,
            ];
            row.extend(numbers.map(show_count));
            table.row(row);
        }
        table
    }

    pub(super) fn as_json(&self) -> Value {
        json!({
            "topic": self.topic,
            "group": self.group,
            "members": self.members,
            "lag_records": self.lag_records,
            "in_flight_chunks": self.in_flight_chunks,
            "redelivered_chunks": self.redelivered_chunks,
            "dead_lettered_records": self.dead_lettered_records,
            "skipped_records": self.skipped_records,
        })
    }
}

/// A group partition by partition.
fn partitions_table(groups: &[PartitionGroup]) -> Table {
    let mut table = Table::new(&[
        ("PARTITION", Side::Right),
        ("FINISHED TO", Side::Right),
        ("END", Side::Right),
        ("LAG", Side::Right),
        ("MEMBERS", Side::Right),
        ("IN FLIGHT", Side::Right),
        ("REDELIVERED", Side::Right),
        ("EXPIRED", Side::Right),
        ("DEAD LETTERS", Side::Right),
        ("SKIPPED", Side::Right),
    ]);
    for PartitionGroup { partition, group } in groups {
        let numbers = [
            u64::from(*partition),
            group.acked_upto,
            group.high_watermark,
            group.lag_records,
            u64::from(group.members),
            u64::from(group.in_flight_chunks),
            group.redelivered_chunks,
            group.expired_leases,
            group.dead_lettered_records,
            group.skipped_records,
        ];
        table.row(numbers.map(show_count).to_vec());
    }
    table
}

fn partition_json(topic: &str, PartitionGroup { partition, group }: &PartitionGroup) -> Value {
    json!({
        "topic": topic,
        "group": group.name,
        "partition": partition,
        "acked_upto": group.acked_upto,
        "high_watermark": group.high_watermark,
        "lag_records": group.lag_records,
        "members": group.members,
        "in_flight_chunks": group.in_flight_chunks,
        "open_chunks": group.open_chunks,
        "redelivered_chunks": group.redelivered_chunks,
        "expired_leases": group.expired_leases,
        "dead_lettered_records": group.dead_lettered_records,
        "skipped_records": group.skipped_records,
    })
}
