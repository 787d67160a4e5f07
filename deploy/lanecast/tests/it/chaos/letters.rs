//! The dead letters of a round, read as anybody may read them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lanecast_client::{
    Batches, Client, ClientConfig, Delivery, Mode, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_telemetry::TelemetryView;
use lanecast_wire::batch::{self, schema};
use lanecast_wire::dead_letter::{self, DeadLetter};

/// All dead records of a topic.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// Numbers of rows by the name of their producer's life, as often as they are there.
    pub(super) rows: BTreeMap<String, Vec<u64>>,
    /// Offsets by partition of the topic that they were in.
    pub(super) offsets: BTreeMap<u64, Vec<u64>>,
    /// Reasons up to their first colon.
    pub(super) reasons: BTreeMap<String, u64>,
    pub(super) wrong: Vec<String>,
}

/// Reads the dead-letter topic of `topic` from end to end; there may be none.
pub(super) async fn read(broker: SocketAddr, topic: &str, group: &str) -> Result<Letters, String> {
    let words = |error: &dyn std::error::Error| format!("dead letters cannot be read: {error}");
    let client = Client::connect(ClientConfig::new(broker.to_string(), "chaos-letters")).await;
    let client = client.map_err(|error| words(&error))?;
    let topics = client.topics().await.map_err(|error| words(&error))?;
    let name = dead_letter::topic_name(topic).unwrap();
    let mut letters = Letters::default();
    if topics.iter().all(|topic| topic.name != name) {
        return Ok(letters);
    }
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(&name, Mode::Broadcast)
    };
    let mut subscriber = Subscriber::open(&client, config).await.map_err(|error| words(&error))?;
    let positions = subscriber.positions().iter();
    let mut left: BTreeMap<u32, (u64, u64)> =
        positions.map(|at| (at.partition, (at.next_offset, at.high_watermark))).collect();
    while left.values().any(|(next, end)| next < end) {
        match subscriber.next().await.map_err(|error| words(&error))? {
            Delivery::Batches(batches) => {
                letters.add_all(&batches, topic, group);
                left.get_mut(&batches.partition).unwrap().0 = batches.last.0 + 1;
            }
            other @ (Delivery::Missed { .. } | Delivery::Skipped { .. } | Delivery::Chunk(_)) => {
                return Err(format!("dead letters are missed: {other:?}"));
            }
        }
    }
    Ok(letters)
}

impl Letters {
    fn add_all(&mut self, batches: &Batches, topic: &str, group: &str) {
        for item in batch::iter(&batches.payload) {
            let (header, bytes) = item.unwrap();
            if header.schema != schema::DEAD_LETTER {
                self.wrong.push(format!("no dead letter, but schema {}", header.schema));
                continue;
            }
            match DeadLetter::open(batch::body(&bytes)) {
                Ok(letter) if (letter.topic, letter.group) != (topic, group) => {
                    self.wrong.push(format!("a letter of {}, {}", letter.topic, letter.group));
                }
                Ok(letter) => self.add(&letter),
                Err(error) => self.wrong.push(format!("a letter that cannot be read: {error}")),
            }
        }
    }

    fn add(&mut self, letter: &DeadLetter<'_>) {
        let header = letter.header();
        let view = TelemetryView::open(batch::body(letter.batch), header.record_count).unwrap();
        let reason = letter.reason.split(':').next().unwrap_or_default();
        *self.reasons.entry(reason.to_owned()).or_default() += letter.ranges.records();
        for (index, row) in view.iter().enumerate() {
            let offset = header.base_offset.0 + index as u64;
            if !letter.ranges.iter().any(|range| (range.first..=range.last).contains(&offset)) {
                continue;
            }
            let name = view.identity(row.series).hostname.to_owned();
            self.rows.entry(name).or_default().push(row.value as u64);
            self.offsets.entry(letter.partition.into()).or_default().push(offset);
        }
    }
}
