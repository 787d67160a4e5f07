//! Refused records on their way to the dead-letter topic.
//!
//! A letter is a generic message. Its headers say what is inside and where it came from:
//!
//! | header | |
//! |---|---|
//! | `reason`, `detail` | the reason's name, and in words |
//! | `topic`, `partition`, `first`, `last` | where the records were |
//! | `records` | how many they are |
//! | `content` | `telemetry`: a telemetry body of just these records; `batch`: bytes as they came |
//! | `part`, `parts` | a payload over the limit comes in several letters, to be put together |
//! | `time` | when this was written, in unix milliseconds |
//!
//! A letter's id is drawn from its origin alone, so that one that was written twice, by a consumer
//! that died before the acknowledgement, can be told.

use lanecast_client::{Client, ClientError, ProduceError, Producer, ProducerConfig};
use lanecast_store::InsertToken;
use lanecast_wire::generic::{GenericBuilder, Headers, Message};
use lanecast_wire::message::TopicSettings;
use tokio::sync::Mutex;

use crate::consumer::ensure_topic;
use crate::limits;
use crate::refused::Refused;
use crate::stats::now_ms;

/// Appended to a topic's name.
pub const DEAD_LETTER_SUFFIX: &str = ".dlq";

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeadLetterError {
    #[error("dead-letter topic: {0}")]
    Topic(#[from] ClientError),
    #[error("dead letter not written: {0}")]
    Produce(#[from] ProduceError),
}

/// Writes dead letters. The topic and the producer come into being with the first of them.
pub(crate) struct DeadLetters {
    client: Client,
    topic: String,
    producer: Mutex<Option<Producer<GenericBuilder>>>,
}

impl core::fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DeadLetters").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl DeadLetters {
    pub(crate) fn new(client: Client, topic: &str) -> Self {
        Self { client, topic: format!("{topic}{DEAD_LETTER_SUFFIX}"), producer: Mutex::default() }
    }

    /// Returns when all of them are durable. After an error any of them may be.
    pub(crate) async fn write(
        &self,
        token: &InsertToken,
        refused: &[Refused],
    ) -> Result<(), DeadLetterError> {
        let mut slot = self.producer.lock().await;
        // Taken out while in use: a producer that failed, or was left in mid-write, is not used
        // again.
        let producer = match slot.take() {
            Some(producer) => producer,
            None => self.open().await?,
        };
        for refused in refused {
            for (part, payload) in parts(refused.payload.bytes()).enumerate() {
                push(&producer, token, refused, part, payload).await?;
            }
        }
        producer.flush().await?;
        *slot = Some(producer);
        Ok(())
    }

    async fn open(&self) -> Result<Producer<GenericBuilder>, DeadLetterError> {
        ensure_topic(&self.client, &self.topic, 1, TopicSettings::default()).await?;
        Ok(Producer::open(&self.client, &self.topic, ProducerConfig::default()).await?)
    }
}

fn parts(payload: &[u8]) -> impl ExactSizeIterator<Item = &[u8]> {
    payload.chunks(limits::DEAD_LETTER_PAYLOAD_BYTES_MAX)
}

async fn push(
    producer: &Producer<GenericBuilder>,
    token: &InsertToken,
    refused: &Refused,
    part: usize,
    payload: &[u8],
) -> Result<(), ProduceError> {
    let InsertToken { topic, partition, .. } = token;
    let Refused { first, last, records, reason, .. } = refused;
    let parts = parts(refused.payload.bytes()).len();
    let detail = cut(&reason.to_string());
    let time_ms = now_ms();
    let id = letter_id(*partition, *first, reason.number(), part);
    let [partition, first, last, records] =
        [u64::from(*partition), *first, *last, u64::from(*records)].map(|n| n.to_string());
    let [part, parts] = [part, parts].map(|n| n.to_string());
    let time = time_ms.to_string();
    let headers = [
        ("reason", reason.name()),
        ("detail", &detail),
        ("topic", topic),
        ("partition", &partition),
        ("first", &first),
        ("last", &last),
        ("records", &records),
        ("content", refused.payload.kind()),
        ("part", &part),
        ("parts", &parts),
        ("time", &time),
    ]
    .map(|(name, value)| (name, value.as_bytes()));
    let message = Message {
        id,
        key: partition.as_bytes(),
        headers: Headers::Listed(&headers),
        payload,
        timestamp_ms: time_ms,
    };
    producer.push(&message).await
}

/// Partition, reason, part and first offset side by side: unique within a dead-letter topic.
fn letter_id(partition: u32, first: u64, reason: u16, part: usize) -> u128 {
    let high = u64::from(partition) << 32 | u64::from(reason) << 16 | part as u64 & 0xffff;
    u128::from(high) << 64 | u128::from(first)
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(limits::REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
