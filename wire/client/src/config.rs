//! Settings and their defaults.

use std::time::Duration;

use lanecast_wire::limits::{
    BATCH_RECORDS_MAX, BATCHES_IN_FLIGHT_PER_PARTITION_MAX, CREDIT_BYTES_MAX, LEASE_MS_DEFAULT,
};
use lanecast_wire::message::{self, PartitionStart, StartPosition, TopicInfo};
use lanecast_wire::session::OnLostSequence;
use lanecast_wire::{KeyFilter, dead_letter};

use crate::error::ClientError;
use crate::limits::{BATCH_FILL_BYTES_MAX, CONNECTIONS_PER_PRODUCER_MAX};

/// Where the broker is, and how patient to be with it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port`, several separated by commas; they are tried in turn.
    pub addr: String,
    /// Name of this program, for the broker's log: letters, digits, `.`, `_` and `-`.
    pub client: String,
    /// For one address: TCP connection and hello together. 5 s.
    pub connect_timeout: Duration,
    /// How long [`Client::connect`](crate::Client::connect) goes on trying when no broker answers.
    /// 10 s.
    pub connect_patience: Duration,
    /// For one question about topics, retries included. 30 s.
    pub request_timeout: Duration,
    /// A connection that is silent for this long is asked for a sign of life. 5 s.
    pub keep_alive: Duration,
    /// A connection that is silent for this long is given up. 15 s.
    pub dead_after: Duration,
    /// First and longest wait before the next attempt to connect: 50 ms and 5 s. Waits double and
    /// are jittered.
    pub reconnect_first: Duration,
    pub reconnect_longest: Duration,
}

impl ClientConfig {
    /// The defaults, for a broker at `addr`.
    #[must_use]
    pub fn new(addr: impl Into<String>, client: impl Into<String>) -> Self {
        Self { addr: addr.into(), client: client.into(), ..Self::default() }
    }

    pub(crate) fn check(&self) -> Result<(), ClientError> {
        lanecast_wire::name::check(&self.client)
            .map_err(|error| ClientError::config("client", error.to_string()))?;
        positive("connect_timeout", self.connect_timeout)?;
        positive("request_timeout", self.request_timeout)?;
        positive("keep_alive", self.keep_alive)?;
        positive("reconnect_first", self.reconnect_first)?;
        if self.dead_after <= self.keep_alive {
            return Err(ClientError::config("dead_after", "must be longer than keep_alive"));
        }
        if self.reconnect_longest < self.reconnect_first {
            return Err(ClientError::config("reconnect_longest", "is below reconnect_first"));
        }
        Ok(())
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:9080".to_owned(),
            client: "lanecast-client".to_owned(),
            connect_timeout: Duration::from_secs(5),
            connect_patience: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            keep_alive: Duration::from_secs(5),
            dead_after: Duration::from_secs(15),
            reconnect_first: Duration::from_millis(50),
            reconnect_longest: Duration::from_secs(5),
        }
    }
}

/// How a producer gathers and sends.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// A batch is sealed once its body has this many bytes ... 64 KiB.
    pub batch_bytes: u32,
    /// ... or this many records ... 16,384.
    pub batch_records: u32,
    /// ... or its first record has waited this long. 5 ms; zero seals as soon as the connection's
    /// task runs.
    pub linger: Duration,
    /// Batches of one partition that are sent and not answered. 8.
    pub in_flight: u32,
    /// Connections, of which each is served by another core of the broker, as far as that has cores and the
    /// topic partitions. 64; with 1, batches of partitions on other cores cross over inside the broker.
    pub connections: u32,
    /// Memory for sealed batches that are not acknowledged; when it is used up, `push` waits.
    /// 32 MiB.
    pub buffer_bytes: usize,
    /// First and longest wait after a refusal that may pass: 10 ms and 1 s.
    pub retry_first: Duration,
    pub retry_longest: Duration,
    /// The producer fails once a partition's batches have waited this long without a single
    /// acknowledgement, whatever other partitions acknowledge. 5 min.
    pub give_up_after: Duration,
    /// What happens when the broker has forgotten this producer while batches are in doubt:
    /// [`OnLostSequence::Fail`], or start over with possible duplicates. A broker forgets a
    /// producer whose last batch retention took, whose `memory` topic was restarted, or whose
    /// `written` topic lost its end in a power cut. With nothing in doubt the producer goes on by
    /// itself, under its next epoch.
    pub on_lost_sequence: OnLostSequence,
}

impl ProducerConfig {
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        within("batch_bytes", self.batch_bytes, BATCH_FILL_BYTES_MAX)?;
        within("batch_records", self.batch_records, BATCH_RECORDS_MAX)?;
        within("in_flight", self.in_flight, BATCHES_IN_FLIGHT_PER_PARTITION_MAX)?;
        within("connections", self.connections, CONNECTIONS_PER_PRODUCER_MAX)?;
        positive("retry_first", self.retry_first)?;
        positive("give_up_after", self.give_up_after)?;
        if self.retry_longest < self.retry_first {
            return Err(ClientError::config("retry_longest", "is below retry_first"));
        }
        Ok(())
    }
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            batch_bytes: 64 * 1024,
            batch_records: 16_384,
            linger: Duration::from_millis(5),
            in_flight: 8,
            connections: CONNECTIONS_PER_PRODUCER_MAX,
            buffer_bytes: 32 * 1024 * 1024,
            retry_first: Duration::from_millis(10),
            retry_longest: Duration::from_secs(1),
            give_up_after: Duration::from_secs(300),
            on_lost_sequence: OnLostSequence::Fail,
        }
    }
}

/// How a subscriber wants its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As the broker's `DELIVERY_MODE` says; when that is `queue`, with [`GroupOptions::default`].
    Default,
    /// Every record.
    Broadcast,
    /// A share of the records, as a member of a consumer group.
    Group(GroupOptions),
}

/// How a member of a consumer group wants its chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOptions {
    /// `default`.
    pub group: String,
    /// Name of this member, for the broker's statistics; empty draws one.
    pub member: String,
    /// A chunk closes once it has this many records ... 50,000.
    pub chunk_records: u32,
    /// ... or this many bytes ... 16 MiB.
    pub chunk_bytes: u32,
    /// ... or its first record has waited this long. 1 s.
    pub chunk_linger: Duration,
    /// A chunk that is not settled by then goes to somebody else. 30 s.
    pub lease: Duration,
    /// Chunks of one partition that this member holds at a time. 2.
    pub chunks_in_flight: u32,
}

impl GroupOptions {
    /// The defaults, for a member of `group`.
    #[must_use]
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into(), ..Self::default() }
    }

    /// # Errors
    /// A name is none, or a number is out of its range.
    pub fn check(&self) -> Result<(), ClientError> {
        self.to_wire().map(drop)
    }

    pub(crate) fn to_wire(&self) -> Result<message::GroupOptions, ClientError> {
        let member = if self.member.is_empty() {
            format!("member-{:016x}", rand::random::<u64>())
        } else {
            self.member.clone()
        };
        let options = message::GroupOptions {
            group: self.group.clone(),
            member,
            chunk_records: self.chunk_records,
            chunk_bytes: self.chunk_bytes,
            chunk_linger_ms: millis(self.chunk_linger),
            lease_ms: millis(self.lease),
            chunks_in_flight: self.chunks_in_flight,
        };
        options.check().map_err(|refusal| ClientError::config("group", refusal.message))?;
        Ok(options)
    }
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            group: "default".to_owned(),
            member: String::new(),
            chunk_records: 50_000,
            chunk_bytes: 16 * 1024 * 1024,
            chunk_linger: Duration::from_secs(1),
            lease: Duration::from_millis(u64::from(LEASE_MS_DEFAULT)),
            chunks_in_flight: 2,
        }
    }
}

/// What to subscribe to.
#[derive(Clone, Debug)]
pub struct SubscriberConfig {
    pub topic: String,
    pub mode: Mode,
    /// Where to start; a group that exists goes on where it stands.
    pub start: StartPosition,
    /// Partitions that start elsewhere.
    pub starts: Vec<PartitionStart>,
    /// Bytes per partition that the broker may have under way to a broadcast subscriber; 0 takes
    /// the broker's default.
    pub credit_bytes: u32,
    /// Broadcast only: leave out batches that have none of these keys, at the broker. A batch that
    /// comes may have records of others too; `TelemetryView::matching` and `GenericView::matching`
    /// give those that pass. Where the keys of no host are wanted, partitions that cannot have the
    /// others are not subscribed at all, since a producer puts a record into its key's.
    pub filter: KeyFilter,
}

impl SubscriberConfig {
    /// From the latest record on, with the broker's default credit.
    #[must_use]
    pub fn new(topic: impl Into<String>, mode: Mode) -> Self {
        Self {
            topic: topic.into(),
            mode,
            start: StartPosition::Latest,
            starts: Vec::new(),
            credit_bytes: 0,
            filter: KeyFilter::default(),
        }
    }

    /// The partitions of the topic that are subscribed: those that can have what is wanted. What
    /// lies in a dead-letter topic need not be where its own key would have put it.
    #[must_use]
    pub fn partitions(&self, topic: &TopicInfo) -> Vec<u32> {
        let few = || self.filter.partitions(topic.partitions);
        let few = if dead_letter::is_topic_name(&topic.name) { None } else { few() };
        few.unwrap_or_else(|| (0..topic.partitions).collect())
    }

    /// Where each of those starts; empty: all of the topic at `start`.
    pub(crate) fn starts(&self, topic: &TopicInfo) -> Vec<PartitionStart> {
        if self.filter.is_empty() && self.starts.is_empty() {
            return Vec::new();
        }
        let start = |partition| {
            let own = self.starts.iter().find(|start| start.partition == partition);
            own.copied().unwrap_or(PartitionStart { partition, start: self.start, log_epoch: 0 })
        };
        self.partitions(topic).into_iter().map(start).collect()
    }

    pub(crate) fn check(&self) -> Result<(), ClientError> {
        if self.credit_bytes > CREDIT_BYTES_MAX {
            let reason = format!("{} is over {CREDIT_BYTES_MAX}", self.credit_bytes);
            return Err(ClientError::config("credit_bytes", reason));
        }
        let refused = |refusal: message::Refusal| ClientError::config("filter", refusal.message);
        self.filter.check().map_err(refused)?;
        if matches!(self.mode, Mode::Group(_)) && !self.filter.is_empty() {
            return Err(refused(message::Subscribe::filtered_group()));
        }
        Ok(())
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn positive(field: &'static str, duration: Duration) -> Result<(), ClientError> {
    if duration.is_zero() {
        return Err(ClientError::config(field, "must not be zero"));
    }
    Ok(())
}

fn within(field: &'static str, value: u32, max: u32) -> Result<(), ClientError> {
    if (1..=max).contains(&value) {
        return Ok(());
    }
    Err(ClientError::config(field, format!("is {value}, 1 to {max} are allowed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_within_the_limits() {
        ClientConfig::default().check().unwrap();
        ProducerConfig::default().check().unwrap();
        GroupOptions::default().to_wire().unwrap();
        SubscriberConfig::new("t", Mode::Default).check().unwrap();
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let config = ProducerConfig { in_flight: 0, ..ProducerConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("in_flight"));
        let options = GroupOptions { lease: Duration::ZERO, ..GroupOptions::default() };
        assert!(options.to_wire().unwrap_err().to_string().contains("lease_ms"));
    }
}
