//! Records out, as they come or in leased chunks.

mod chunk;
mod credit;
mod open_ranges;
mod task;

use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::Offset;
use lanecast_wire::TopicId;
use lanecast_wire::message::{
    ClientMessage, DeliveryMode, MissedReason, PartitionPosition, SubscribeMode, SubscribeReply,
    TopicInfo, Unsubscribe,
};
use lanecast_wire::session::{SubscriptionSession, SubscriptionSettings};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, timeout};

use crate::client::Client;
use crate::config::{ClientConfig, Mode, SubscriberConfig};
use crate::error::{AckError, ClientError, SubscribeError};
use crate::limits::{DELIVERIES_QUEUED_MAX, OFFLINE_PATIENCE, SETTLEMENTS_QUEUED_MAX};
use crate::task::OwnedTask;
use chunk::Settlement;
pub use chunk::{Chunk, Extension};
use credit::CreditOwed;
pub(crate) use open_ranges::OpenRanges;

/// Receives a topic's records over one connection, which it opens again when it breaks.
///
/// A broadcast subscriber goes on behind the last record that was handed to it. A member of a
/// group loses its leases with the connection: chunks that it holds then are handed out again,
/// and settling them says so.
///
/// Dropping it closes the connection; the leases of chunks return to the group.
///
/// ```no_run
/// use lanecast_client::{Client, ClientConfig, Delivery, GroupOptions, Mode};
/// use lanecast_client::{Subscriber, SubscriberConfig};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::new("127.0.0.1:9080", "example")).await?;
/// let mode = Mode::Group(GroupOptions::new("readers"));
/// let mut subscriber = Subscriber::open(&client, SubscriberConfig::new("greetings", mode)).await?;
/// while let Delivery::Chunk(chunk) = subscriber.next().await? {
///     for batch in chunk.batches() {
///         println!("{} records", batch.0.record_count);
///     }
///     chunk.ack().await?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Subscriber {
    deliveries: mpsc::Receiver<Result<Delivery, SubscribeError>>,
    settlements: mpsc::Sender<chunk::Settlement>,
    topic: TopicInfo,
    opened: SubscribeReply,
    /// How long an answer is waited for.
    patience: Duration,
    connection: watch::Receiver<ConnectionState>,
    _task: OwnedTask,
}

/// How a subscription stands with its broker. It connects again by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionState {
    /// The broker has taken the subscription on the connection that is there.
    pub connected: bool,
    /// How often it did.
    pub connects: u64,
    /// Why the last connection ended, or could not be made; empty if that was never so.
    pub last_error: String,
}

/// How far the first subscription has got.
#[derive(Debug)]
struct Opening {
    /// The broker's first answer, with the positions of partitions that came online later.
    reply: Option<SubscribeReply>,
    /// Partitions that could not be read so far.
    offline: Vec<u32>,
    /// Why there is none.
    last: String,
}

impl Default for Opening {
    fn default() -> Self {
        Self { reply: None, offline: Vec::new(), last: "the broker has not answered".to_owned() }
    }
}

/// What a subscriber gets.
#[derive(Debug)]
pub enum Delivery {
    /// Broadcast: the next batches of a partition.
    Batches(Batches),
    /// Queue: a chunk under lease.
    Chunk(Chunk),
    /// Broadcast: records that will not be delivered, and why.
    Missed { partition: u32, first: Offset, last: Offset, reason: MissedReason },
    /// Broadcast with a filter: records that nobody asked for. There is nothing to do; it says how
    /// far the subscription has come where nothing passes.
    Skipped { partition: u32, first: Offset, last: Offset },
}

/// Whole batches of one partition, in order. Their credit returns to the broker when this is
/// dropped.
#[derive(Debug)]
pub struct Batches {
    pub partition: u32,
    /// First and last offset, both included.
    pub first: Offset,
    pub last: Offset,
    pub high_watermark: Offset,
    pub payload: Bytes,
    owed: Arc<CreditOwed>,
}

impl Batches {
    /// Gives the credit back; dropping does the same.
    pub fn done(self) {}
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.owed.done(self.partition, self.payload.len() as u64);
    }
}

impl Subscriber {
    /// Looks the topic up, subscribes, and waits for the broker's answer.
    ///
    /// # Errors
    /// A setting is out of range, there is no such topic, or the broker refuses or cannot be
    /// reached.
    pub async fn open(client: &Client, config: SubscriberConfig) -> Result<Self, ClientError> {
        config.check()?;
        let mode = match &config.mode {
            Mode::Default => SubscribeMode::Default(crate::GroupOptions::default().to_wire()?),
            Mode::Broadcast => SubscribeMode::Broadcast,
            Mode::Group(options) => SubscribeMode::Group(options.to_wire()?),
        };
        // Chunks of the other partitions come meanwhile, and nobody works on them.
        let offline_patience = match &mode {
            SubscribeMode::Broadcast => OFFLINE_PATIENCE,
            SubscribeMode::Group(options) | SubscribeMode::Default(options) => {
                OFFLINE_PATIENCE.min(Duration::from_millis(u64::from(options.lease_ms)) / 4)
            }
        };
        let topic = client.topic(&config.topic).await?;
        let session = SubscriptionSession::new(SubscriptionSettings {
            topic: TopicId(topic.topic),
            mode,
            start: config.start,
            starts: config.starts(&topic),
            credit_bytes: config.credit_bytes,
            filter: config.filter,
        });
        let (sender, deliveries) = mpsc::channel(DELIVERIES_QUEUED_MAX);
        let (settlements, settle) = mpsc::channel(SETTLEMENTS_QUEUED_MAX);
        let (opening, opened) = watch::channel(Opening::default());
        let task = task::Task::new(
            client.config().clone(),
            topic.clone(),
            session,
            task::Ends { deliveries: sender, settlements: settlements.clone(), settle, opening },
        );
        let connection = task.connection();
        let _task = OwnedTask::spawn(task.run());
        let mode = DeliveryMode::Broadcast;
        let (positions, offline) = (Vec::new(), Vec::new());
        let opened_with = SubscribeReply { mode, credit_bytes: 0, positions, offline };
        let patience = client.config().request_timeout;
        let mut subscriber = Self {
            deliveries,
            settlements,
            topic,
            opened: opened_with,
            patience,
            connection,
            _task,
        };
        subscriber.opened = subscriber.opened(opened, client.config(), offline_patience).await?;
        Ok(subscriber)
    }

    /// Waits until the broker has taken the subscription: what is produced from then on is seen.
    async fn opened(
        &mut self,
        mut opened: watch::Receiver<Opening>,
        config: &ClientConfig,
        offline_patience: Duration,
    ) -> Result<SubscribeReply, ClientError> {
        let patience = config.request_timeout;
        let wait = timeout(patience, opened.wait_for(|opening| opening.reply.is_some()));
        let answered = wait.await.map(|waited| waited.is_ok_and(|opening| opening.reply.is_some()));
        // A broker that has just started still reads some logs. One that stays closed is not waited for.
        if matches!(answered, Ok(true)) {
            let all = opened.wait_for(|opening| opening.offline.is_empty());
            drop(timeout(offline_patience, all).await);
        }
        let reply = opened.borrow().reply.clone();
        match answered.map(|_| reply) {
            Ok(Some(reply)) => return Ok(reply),
            // The task has ended, and has left its reason.
            Ok(None) => {}
            Err(_) => {
                let last = opened.borrow().last.clone();
                return Err(ClientError::Timeout { timeout: patience, last });
            }
        }
        Err(match self.next().await {
            Err(SubscribeError::Refused { code, message }) => {
                ClientError::Refused { code, message }
            }
            Err(SubscribeError::Connection(last)) => {
                ClientError::Connect { addr: config.addr.clone(), last }
            }
            Ok(_) | Err(SubscribeError::Closed | SubscribeError::Stuck { .. }) => {
                ClientError::Timeout {
                    timeout: patience,
                    last: "the runtime is shutting down".to_owned(),
                }
            }
        })
    }

    /// The next delivery. Nothing is lost when it is cancelled.
    ///
    /// # Errors
    /// The subscription has come to its end: refused for good, or its topic is gone.
    pub async fn next(&mut self) -> Result<Delivery, SubscribeError> {
        self.deliveries.recv().await.unwrap_or(Err(SubscribeError::Closed))
    }

    /// Ends the subscription in good order: chunks that are not settled return to the group at
    /// once, for other members. What has arrived and was not taken is dropped. Dropping the
    /// subscriber has the same effect as soon as the broker notices.
    ///
    /// # Errors
    /// The connection broke before the broker answered; then it will have noticed that. The same
    /// if there is no answer within the client's `request_timeout`: the connection is closed then.
    pub async fn unsubscribe(mut self) -> Result<(), AckError> {
        let (answer, answered) = oneshot::channel();
        let unsubscribe = ClientMessage::Unsubscribe(Unsubscribe { subscription: 0 });
        let settlement = Settlement { subscription: 0, message: unsubscribe, answer };
        let settlements = self.settlements.clone();
        let asked = async {
            settlements.send(settlement).await.map_err(|_| AckError::Closed)?;
            chunk::settled(answered.await)
        };
        // The answer comes behind what was delivered before it, and a task that cannot hand
        // anything on reads nothing.
        let answer = timeout(self.patience, asked);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return answer.unwrap_or(Err(AckError::Unknown)),
                Some(_) = self.deliveries.recv() => {}
            }
        }
    }

    /// Whether there is a connection, now and from now on.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.connection.clone()
    }

    #[must_use]
    pub fn topic(&self) -> &TopicInfo {
        &self.topic
    }

    /// The mode that the broker gave.
    #[must_use]
    pub fn mode(&self) -> DeliveryMode {
        self.opened.mode
    }

    /// Where each partition stood when the subscription was first opened; those that stayed
    /// [offline](Self::offline) are not among them.
    #[must_use]
    pub fn positions(&self) -> &[PartitionPosition] {
        &self.opened.positions
    }

    /// Partitions that could not be read within ten seconds of the opening, or within a quarter of
    /// the group's lease if that is less. They are read from their start position on as soon as
    /// they can be.
    #[must_use]
    pub fn offline(&self) -> &[u32] {
        &self.opened.offline
    }
}

impl Delivery {
    /// The mode that gives such a delivery.
    #[must_use]
    pub fn mode(&self) -> DeliveryMode {
        match self {
            Self::Batches(_) | Self::Missed { .. } | Self::Skipped { .. } => {
                DeliveryMode::Broadcast
            }
            Self::Chunk(_) => DeliveryMode::Queue,
        }
    }
}
