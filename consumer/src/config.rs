//! Settings of the ClickHouse consumer.

use core::net::SocketAddr;
use core::time::Duration;

use lanecast_client::{ClientConfig, GroupOptions};
use lanecast_store::{Retention, StoreConfig};
use lanecast_wire::dead_letter;
use lanecast_wire::message::TopicSettings;

use crate::backoff::Backoff;
use crate::error::StartError;
use crate::limits;

/// The topic that telemetry is in, unless told otherwise.
pub const DEFAULT_TOPIC: &str = "gpu-telemetry";
/// The consumer group that feeds ClickHouse, unless told otherwise.
pub const DEFAULT_GROUP: &str = "clickhouse";

/// What to consume, where to put it, and how much at a time.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    pub client: ClientConfig,
    pub topic: String,
    /// Partitions of the topic if it has to be made; 0: one per shard of the broker.
    pub partitions: u32,
    /// Settings of the topic if it has to be made.
    pub topic_settings: TopicSettings,
    /// Group, member, and the bounds of chunks and leases.
    pub group: GroupOptions,
    pub store: StoreConfig,
    /// Applied to the store at the start; the raw table's also bounds which records are taken.
    pub retention: Retention,
    /// Where the admin port listens; `None` for nowhere.
    pub admin_bind: Option<SocketAddr>,
    /// Chunks that are worked on at a time.
    pub inserts_in_flight: usize,
    /// Waits between attempts at the store, and at terminating records.
    pub backoff: Backoff,
    /// How long the start waits for broker and store to come up.
    pub start_timeout: Duration,
    /// How long a drain waits for what is in flight.
    pub drain_timeout: Duration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            client: ClientConfig { client: "lanecast-consumer".into(), ..ClientConfig::default() },
            topic: DEFAULT_TOPIC.into(),
            partitions: 0,
            topic_settings: TopicSettings { max_attempts: 0, ..TopicSettings::default() },
            group: GroupOptions {
                chunk_records: limits::CHUNK_RECORDS_DEFAULT,
                chunk_bytes: limits::CHUNK_BYTES_DEFAULT,
                chunk_linger: limits::CHUNK_LINGER_DEFAULT,
                chunks_in_flight: limits::CHUNKS_PER_PARTITION,
                ..GroupOptions::new(DEFAULT_GROUP)
            },
            store: StoreConfig::default(),
            retention: Retention::default(),
            admin_bind: None,
            inserts_in_flight: limits::INSERTS_IN_FLIGHT_DEFAULT,
            backoff: Backoff::default(),
            start_timeout: limits::START_TIMEOUT_DEFAULT,
            drain_timeout: limits::DRAIN_TIMEOUT_DEFAULT,
        }
    }
}

impl ConsumerConfig {
    /// What the other crates do not check themselves.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        if !(1..=limits::INSERTS_IN_FLIGHT_MAX).contains(&self.inserts_in_flight) {
            let max = limits::INSERTS_IN_FLIGHT_MAX;
            return Err(StartError::Config {
                setting: "inserts_in_flight",
                reason: format!("{} is not within 1 to {max}", self.inserts_in_flight),
            });
        }
        self.group.check().map_err(StartError::Group)?;
        // Found now, and not when the first dead letter has nowhere to go.
        let Some(letters) = dead_letter::topic_name(&self.topic) else {
            return Err(StartError::Config {
                setting: "topic",
                reason: "a dead-letter topic holds no telemetry; redrive sends it back".into(),
            });
        };
        if letters.len() > lanecast_wire::limits::NAME_BYTES_MAX {
            return Err(StartError::Config {
                setting: "topic",
                reason: format!("too long to append {} for its dead letters", dead_letter::SUFFIX),
            });
        }
        if self.backoff.first.is_zero() || self.backoff.max < self.backoff.first {
            return Err(StartError::Config {
                setting: "backoff",
                reason: "it must begin above zero and not end below its beginning".into(),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_no_insert_in_flight_is() {
        ConsumerConfig::default().check().unwrap();
        let config = ConsumerConfig { inserts_in_flight: 0, ..ConsumerConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("inserts_in_flight"));
        let group = GroupOptions { lease: Duration::ZERO, ..ConsumerConfig::default().group };
        let config = ConsumerConfig { group, ..ConsumerConfig::default() };
        assert!(matches!(config.check(), Err(StartError::Group(_))));
    }

    #[test]
    fn a_topic_whose_dead_letters_could_have_no_topic_is_refused() {
        let topic =
            |bytes: usize| ConsumerConfig { topic: "t".repeat(bytes), ..ConsumerConfig::default() };
        topic(124).check().unwrap();
        assert!(topic(125).check().unwrap_err().to_string().contains(".dlq"));
        let config = ConsumerConfig { topic: "t.dlq".into(), ..ConsumerConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("redrive"));
    }
}
