//! A topic of a broker as a sink.

use lanecast_client::{Client, ClientConfig, ClientError, ProduceError, Producer, ProducerConfig};
use lanecast_telemetry::{Sample, TelemetryBuilder};
use lanecast_wire::ErrorCode;
use lanecast_wire::message::{CreateTopic, TopicInfo, TopicSettings};

use crate::sink::{Pushed, Sink, SinkStats};

/// Where to publish and how.
#[derive(Clone, Debug)]
pub struct TopicConfig {
    pub client: ClientConfig,
    pub topic: String,
    /// How to make the topic when there is none of that name; otherwise that is an error. One
    /// that exists is used as it is.
    pub create: Option<NewTopic>,
    pub producer: ProducerConfig,
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// 0: one per shard of the broker.
    pub partitions: u32,
    pub settings: TopicSettings,
}

/// Publishes telemetry to a topic. Samples are acknowledged once they are as durable as the topic
/// promises, and retried under the same sequence until then.
pub struct TopicSink {
    producer: Producer<TelemetryBuilder>,
}

impl TopicSink {
    /// Connects, and makes the topic if it is asked to and has to.
    ///
    /// # Errors
    /// The broker cannot be reached or refuses, or a setting is out of range.
    pub async fn open(config: TopicConfig) -> Result<Self, ClientError> {
        let client = Client::connect(config.client).await?;
        if let Some(new) = config.create {
            find_or_create(&client, &config.topic, new).await?;
        }
        let producer = Producer::open(&client, &config.topic, config.producer).await?;
        Ok(TopicSink { producer })
    }

    #[must_use]
    pub fn topic(&self) -> &TopicInfo {
        self.producer.topic()
    }
}

/// Several instances may do this at once: they ask for the same topic, and one makes it.
async fn find_or_create(client: &Client, topic: &str, new: NewTopic) -> Result<(), ClientError> {
    match client.topic(topic).await {
        Ok(_) => return Ok(()),
        Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC) => {}
        Err(error) => return Err(error),
    }
    let NewTopic { partitions, settings } = new;
    let create = CreateTopic { name: topic.to_owned(), partitions, settings };
    let made = client.create_topic(create).await?;
    tracing::info!(topic, partitions = made.partitions, "topic created");
    Ok(())
}

impl Sink for TopicSink {
    type Error = ProduceError;

    async fn push(&mut self, sample: &Sample<'_>) -> Result<Pushed, ProduceError> {
        match self.producer.push(sample).await {
            Ok(()) => Ok(Pushed::Taken),
            Err(ProduceError::Record(refused)) => Ok(Pushed::Refused(refused)),
            Err(error) => Err(error),
        }
    }

    async fn idle(&mut self) -> Result<(), ProduceError> {
        self.producer.idle().await;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ProduceError> {
        self.producer.flush().await
    }

    fn stats(&self) -> SinkStats {
        let stats = self.producer.stats();
        SinkStats {
            acknowledged: stats.acknowledged,
            dropped: stats.dropped,
            duplicates: stats.duplicates,
            batches: stats.batches,
            bytes: stats.bytes,
            retries: stats.retries,
            doubtful: stats.doubtful,
            reconnects: stats.reconnects,
        }
    }
}
