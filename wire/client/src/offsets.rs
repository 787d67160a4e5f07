//! How far the logs of a topic's partitions reach.

use lanecast_wire::message::{ClientMessage, StartPosition, Subscribe, SubscribeMode, TopicInfo};
use lanecast_wire::session::Answer;
use lanecast_wire::{ErrorCode, KeyFilter};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::{Client, backoff};
use crate::connection::Connection;
use crate::error::{ClientError, ConnectionError};

/// The log of one partition at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    pub partition: u32,
    /// The oldest offset that is kept.
    pub log_start: u64,
    /// The offset that the next record gets.
    pub high_watermark: u64,
}

impl Client {
    /// How far each partition's log reaches, in order of partition.
    ///
    /// Asking takes the place of a consumer for a moment.
    ///
    /// # Errors
    /// There is no such topic, a partition is offline for long, as many consumers as the broker
    /// allows are there for as long as `request_timeout`, or the broker cannot be asked.
    pub async fn offsets(&self, topic: &str) -> Result<Vec<PartitionOffsets>, ClientError> {
        let topic = self.topic(topic).await?;
        let timeout = self.config().request_timeout;
        let deadline = Instant::now() + timeout;
        let mut backoff = backoff(self.config());
        let mut last = "the broker is slow".to_owned();
        loop {
            let Ok(asked) = timeout_at(deadline, self.offsets_once(&topic)).await else {
                return Err(ClientError::Timeout { timeout, last });
            };
            match asked {
                Ok(Ok(offsets)) => return Ok(offsets),
                Ok(Err(error)) if !error.code().is_some_and(|code| code.is_retryable()) => {
                    return Err(error);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(error) if error.is_final() => {
                    let addr = self.config().addr.clone();
                    return Err(ClientError::Connect { addr, last: error });
                }
                Err(error) => last = error.to_string(),
            }
            let wake = Instant::now() + std::time::Duration::from_micros(backoff.next_us());
            if wake >= deadline {
                return Err(ClientError::Timeout { timeout, last });
            }
            sleep_until(wake).await;
        }
    }

    /// A subscription's answer says it; the connection ends with it.
    async fn offsets_once(
        &self,
        topic: &TopicInfo,
    ) -> Result<Result<Vec<PartitionOffsets>, ClientError>, ConnectionError> {
        let subscribe = ClientMessage::Subscribe(Subscribe {
            subscription: 1,
            topic: topic.topic,
            mode: SubscribeMode::Broadcast,
            start: StartPosition::Earliest,
            starts: Vec::new(),
            credit_bytes: 1,
            filter: KeyFilter::default(),
        });
        let mut connection = Connection::<()>::open(self.config()).await?.0;
        Ok(match connection.ask(&subscribe).await? {
            Ok(Answer::Subscribed(reply)) if !reply.offline.is_empty() => {
                let message = format!("partition {} is offline", reply.offline[0]);
                Err(ClientError::Refused { code: ErrorCode::PARTITION_OFFLINE, message })
            }
            Ok(Answer::Subscribed(reply)) => {
                let positions = reply.positions.iter();
                let offsets = positions.map(|at| PartitionOffsets {
                    partition: at.partition,
                    log_start: at.next_offset,
                    high_watermark: at.high_watermark,
                });
                Ok(offsets.collect())
            }
            Ok(Answer::Topics(_) | Answer::Groups(_) | Answer::Produced(_) | Answer::Done) => {
                Err(ClientError::Answer)
            }
            Err(refusal) => Err(refusal.into()),
        })
    }
}
