//! Single batches, as they are.

use bytes::Bytes;
use lanecast_wire::message::{ProduceReply, Refusal, TopicInfo};
use lanecast_wire::session::Answer;
use lanecast_wire::{PartitionId, TopicId};
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use crate::client::{Client, backoff};
use crate::config::ClientConfig;
use crate::connection::Connection;
use crate::error::{ClientError, ConnectionError};

/// Appends batches that somebody else has sealed, with the producer, epoch and sequence that stand
/// in them. What it is for: moving records from one topic to another so that a second attempt
/// stores nothing twice, since it carries the same numbers.
///
/// One batch at a time; [`Producer`](crate::Producer) is for everything else. Sequences of one
/// (producer, epoch, partition) begin at 0 and have no holes.
///
/// ```no_run
/// use lanecast_client::{Client, ClientConfig, RawProducer};
/// use lanecast_wire::builder::BodyBuilder;
/// use lanecast_wire::generic::{GenericBuilder, Message};
/// use lanecast_wire::{ProducerEpoch, ProducerId, Sequence, batch};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::new("127.0.0.1:9080", "example")).await?;
/// let mut producer = RawProducer::open(&client, "greetings").await?;
/// let mut builder = GenericBuilder::empty();
/// builder.push(&Message::new(b"key", b"hello"))?;
/// let (id, epoch) = (ProducerId(42), ProducerEpoch(1));
/// let sealed = batch::seal(&builder.seal(), id, epoch, Sequence(0), 1_700_000_000_000);
/// let first = producer.append(0, sealed.clone()).await?;
/// let again = producer.append(0, sealed).await?;
/// assert_eq!((again.base_offset, again.duplicate), (first.base_offset, true));
/// # Ok(())
/// # }
/// ```
pub struct RawProducer {
    config: ClientConfig,
    topic: TopicInfo,
    /// Taken out while a batch is under way: if that is cancelled, the connection goes with it.
    idle: Option<Connection<()>>,
}

impl RawProducer {
    /// Looks the topic up.
    ///
    /// # Errors
    /// There is no such topic, or the broker cannot be reached.
    pub async fn open(client: &Client, topic: &str) -> Result<Self, ClientError> {
        let topic = client.topic(topic).await?;
        Ok(Self { config: client.config().clone(), topic, idle: None })
    }

    #[must_use]
    pub fn topic(&self) -> &TopicInfo {
        &self.topic
    }

    /// Appends one whole batch and waits until it is as durable as the topic promises. Tries again
    /// after lost connections and refusals that may pass, for
    /// [`request_timeout`](ClientConfig::request_timeout) in all.
    ///
    /// # Errors
    /// The broker refuses the batch or cannot be reached in time; then it may have been appended,
    /// as sending the same batch again will tell.
    pub async fn append(
        &mut self,
        partition: u32,
        batch: Bytes,
    ) -> Result<ProduceReply, ClientError> {
        lanecast_wire::batch::check(&batch)
            .map_err(|error| ClientError::config("batch", error.to_string()))?;
        let partition = PartitionId { topic: TopicId(self.topic.topic), index: partition };
        let timeout = self.config.request_timeout;
        let deadline = Instant::now() + timeout;
        let mut backoff = backoff(&self.config);
        let mut last = "nothing was heard of the broker".to_owned();
        loop {
            let asked = timeout_at(deadline, self.append_once(partition, batch.clone())).await;
            let Ok(asked) = asked else { return Err(ClientError::Timeout { timeout, last }) };
            match asked {
                Ok(Ok(Answer::Produced(reply))) => return Ok(reply),
                Ok(Ok(
                    Answer::Topics(_) | Answer::Groups(_) | Answer::Subscribed(_) | Answer::Done,
                )) => return Err(ClientError::Answer),
                Ok(Err(refusal)) if !refusal.code().is_retryable() => return Err(refusal.into()),
                Ok(Err(refusal)) => last = refusal.message,
                Err(error) if error.is_final() => {
                    let addr = self.config.addr.clone();
                    return Err(ClientError::Connect { addr, last: error });
                }
                Err(error) => last = error.to_string(),
            }
            let wake = Instant::now() + Duration::from_micros(backoff.next_us());
            if wake >= deadline {
                return Err(ClientError::Timeout { timeout, last });
            }
            sleep_until(wake).await;
        }
    }

    async fn append_once(
        &mut self,
        partition: PartitionId,
        batch: Bytes,
    ) -> Result<Result<Answer, Refusal>, ConnectionError> {
        let mut connection = match self.idle.take() {
            Some(mut connection) => {
                connection.excuse_silence(Instant::now());
                connection
            }
            None => Connection::open_topic(&self.config, &self.topic, None).await?,
        };
        let answer = connection.produce(partition, batch).await?;
        self.idle = Some(connection);
        Ok(answer)
    }
}
