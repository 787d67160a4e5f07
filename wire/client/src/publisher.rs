//! Messages in, with a word on what became of each.

use lanecast_wire::builder::RecordRefused;
use lanecast_wire::generic::{GenericBuilder, Headers, Message};
use lanecast_wire::message::TopicInfo;
use serde::Serialize;

use crate::client::Client;
use crate::config::ProducerConfig;
use crate::error::{ClientError, ProduceError};
use crate::producer::{Producer, ProducerStats, Published, Receipt};
use crate::task::wall_ms;

/// The header that says what a payload is, and its value for JSON.
pub const CONTENT_TYPE: &str = "content-type";
pub const JSON: &[u8] = b"application/json";

/// When [`Publisher::publish`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Once the message is in the producer's memory. It is sent and sent again until it is stored,
    /// but if this process or the producer ends before that, it is lost.
    None,
    /// Once the message is as durable as its topic promises.
    Acknowledged,
}

/// Publishes generic messages to one topic: a [`Producer`] that speaks of messages.
///
/// Cheap to clone; clones share its connections. Messages of one key that one task publishes keep
/// their order. A message without a time is given the present one, and one without an id a random
/// one.
///
/// ```no_run
/// use lanecast_client::{Acknowledgement, Client, ClientConfig, Message, ProducerConfig, Published};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::new("127.0.0.1:9080", "example")).await?;
/// let publisher = client.publisher("greetings", ProducerConfig::default()).await?;
/// // One, and wait for it.
/// let message = Message::new(b"key", b"hello");
/// match publisher.publish(&message, Acknowledgement::Acknowledged).await? {
///     Published::Appended { partition, offset, .. } => println!("{partition}/{offset}"),
///     Published::Dropped { .. } => println!("the topic is full"),
///     Published::Taken => unreachable!("it was waited for"),
/// }
/// // Many at a time, and then wait for all of them.
/// let mut receipts = Vec::new();
/// for number in 0..1_000_u32 {
///     receipts.push(publisher.enqueue(&Message::new(b"key", &number.to_le_bytes())).await?);
/// }
/// for receipt in receipts {
///     let _stored_or_dropped = receipt.acknowledged().await?;
/// }
/// // Whatever serde can write.
/// let outline = Message::new(b"key", b"");
/// let _taken = publisher.publish_json(&outline, &vec![1, 2, 3], Acknowledgement::None).await?;
/// publisher.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Publisher {
    producer: Producer<GenericBuilder>,
}

impl Client {
    /// Opens a publisher for a topic that exists.
    ///
    /// # Errors
    /// A setting is out of range, there is no such topic, or the broker cannot be reached.
    pub async fn publisher(
        &self,
        topic: &str,
        config: ProducerConfig,
    ) -> Result<Publisher, ClientError> {
        Ok(Publisher { producer: Producer::open(self, topic, config).await? })
    }
}

impl Publisher {
    /// Publishes one message. It waits while all memory for batches is in use, whatever the level.
    ///
    /// Cancelled before it returns, the message may or may not have been taken; cancelled while it
    /// waits for the acknowledgement, it is sent all the same.
    ///
    /// # Errors
    /// [`ProduceError::Record`]: no batch can hold this message; the publisher goes on. Anything
    /// else: the publisher has failed for good.
    pub async fn publish(
        &self,
        message: &Message<'_>,
        level: Acknowledgement,
    ) -> Result<Published, ProduceError> {
        match level {
            Acknowledgement::None => {
                self.producer.push(&stamped(message)).await?;
                Ok(Published::Taken)
            }
            Acknowledgement::Acknowledged => self.enqueue(message).await?.acknowledged().await,
        }
    }

    /// Takes one message as [`Acknowledgement::None`] does; the receipt tells later what became of
    /// it. So any number of messages may be under way.
    ///
    /// # Errors
    /// As [`Publisher::publish`].
    pub async fn enqueue(&self, message: &Message<'_>) -> Result<Receipt, ProduceError> {
        self.producer.push_with_receipt(&stamped(message)).await
    }

    /// Publishes `value` as JSON. Everything but the payload is as in `outline`; unless that has
    /// a [`CONTENT_TYPE`] already, it is [`JSON`].
    ///
    /// # Errors
    /// As [`Publisher::publish`]; a value that serde cannot write is a [`ProduceError::Record`].
    pub async fn publish_json<T: Serialize + ?Sized>(
        &self,
        outline: &Message<'_>,
        value: &T,
        level: Acknowledgement,
    ) -> Result<Published, ProduceError> {
        let payload = serde_json::to_vec(value).map_err(|error| {
            ProduceError::Record(RecordRefused { field: "payload", reason: error.to_string() })
        })?;
        let mut headers: Vec<(&str, &[u8])> = outline.headers.iter().collect();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE)) {
            headers.push((CONTENT_TYPE, JSON));
        }
        let message = Message { headers: Headers::Listed(&headers), payload: &payload, ..*outline };
        self.publish(&message, level).await
    }

    /// Everything published before is acknowledged or dropped.
    ///
    /// # Errors
    /// The publisher has failed.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        self.producer.flush().await
    }

    /// Flushes and ends. Other clones go on.
    ///
    /// # Errors
    /// The publisher has failed.
    pub async fn close(self) -> Result<ProducerStats, ProduceError> {
        self.producer.close().await
    }

    #[must_use]
    pub fn stats(&self) -> ProducerStats {
        self.producer.stats()
    }

    #[must_use]
    pub fn topic(&self) -> &TopicInfo {
        self.producer.topic()
    }
}

fn stamped<'a>(message: &Message<'a>) -> Message<'a> {
    Message {
        id: if message.id == 0 { rand::random() } else { message.id },
        timestamp_ms: if message.timestamp_ms == 0 { wall_ms() } else { message.timestamp_ms },
        ..*message
    }
}
