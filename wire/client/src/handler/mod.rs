//! Subscriptions that call a handler.
//!
//! ```text
//!  Subscriber ─▶ dispatcher ─▶ waiting chunks, leases kept ─▶ pool of workers: the handler
//!                                                                   │
//!        broker ◀── ack, nack and terminate, of exactly ◀───────────┘
//!                   the records that they are for
//! ```
//!
//! What holds is said at [`Subscription`].

mod chunk;
mod dispatcher;
mod error;
mod guard;
mod parcel;
mod shared;

use std::sync::Arc;
use std::time::Duration;

use lanecast_wire::limits::NACK_DELAY_MS_MAX;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::config::{GroupOptions, Mode, SubscriberConfig};
use crate::error::{ClientError, CloseError, SubscribeError};
use crate::limits::{STUCK_AFTER_DEFAULT, WORKERS_DEFAULT, WORKERS_MAX};
use crate::received::ReceivedMessage;
use crate::stats::Registration;
use crate::subscriber::Subscriber;
use crate::task::OwnedTask;
pub use chunk::ReceivedChunk;
use dispatcher::{Dispatcher, Handled, Handler, Item, Running, Unit};
pub use error::HandlerError;
pub(crate) use shared::Shared;
pub use shared::SubscriptionStats;

/// What to subscribe to, and how handlers are run.
#[derive(Clone, Debug)]
pub struct SubscriptionConfig {
    pub subscriber: SubscriberConfig,
    /// Handlers that run at a time. 100.
    pub workers: usize,
    /// A record whose handler failed comes again after this long, unless the error says otherwise.
    /// 1 s, and at most an hour.
    pub retry_delay: Duration,
    /// Leases are extended while handlers move. A chunk of whose running handlers none has finished
    /// for this long is stuck: its lease is left to expire, and others may have it. A subscription
    /// that is left cancels its handlers when nothing has moved for this long. 5 min.
    pub stuck_after: Duration,
    /// Draining gives up when it has come no further for this long, and cancels the handlers at
    /// work: see "How it ends" at [`Subscription`]. 30 s.
    pub drain_patience: Duration,
}

impl From<SubscriberConfig> for SubscriptionConfig {
    fn from(subscriber: SubscriberConfig) -> Self {
        Self {
            subscriber,
            workers: WORKERS_DEFAULT,
            retry_delay: Duration::from_secs(1),
            stuck_after: STUCK_AFTER_DEFAULT,
            drain_patience: Duration::from_secs(30),
        }
    }
}

impl SubscriptionConfig {
    fn check(&self) -> Result<(), ClientError> {
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            let reason = format!("{}: 1 to {WORKERS_MAX} are allowed", self.workers);
            return Err(ClientError::config("workers", reason));
        }
        let longest = Duration::from_millis(u64::from(NACK_DELAY_MS_MAX));
        if self.retry_delay > longest {
            let reason = format!("{:?}: at most {longest:?} is allowed", self.retry_delay);
            return Err(ClientError::config("retry_delay", reason));
        }
        if self.stuck_after.is_zero() {
            return Err(ClientError::config("stuck_after", "must not be zero"));
        }
        Ok(())
    }
}

/// A subscription whose records go to a handler.
///
/// # What holds
///
/// * **Order.** Handlers run side by side, so records are handled in no order. With `workers: 1`
///   each partition's records are handled in order, one at a time, and only what comes again after
///   a failure comes later. Chunks begin in order of partition as well.
/// * **Back-pressure.** When all workers are busy nothing more is read: a broadcast subscription
///   keeps its credit, a group's member holds the chunks that it may hold, and the rest waits at
///   the broker.
/// * **Failures** stay with their records. In a group exactly the records whose handler gave an
///   error or panicked are given back, everything else is acknowledged; after the topic's
///   `max_attempts` they go to the dead-letter topic. Broadcast counts them and goes on. Panics can
///   be told from the end of the process only where the program unwinds, as it does unless its
///   profile says `panic = "abort"`.
/// * **At least once.** A record is acknowledged after its handler. A member that dies, or whose
///   lease is lost, has it handled again by somebody: effects are best keyed by
///   `topic/partition/offset`.
/// * **Leases** of what waits and of what is with handlers are extended for as long as handlers
///   move; see [`SubscriptionConfig::stuck_after`].
///
/// # How it ends
///
/// Dropping it cancels handlers where they wait and closes the connection; records that were not
/// acknowledged return to the group. [`Subscription::unsubscribe`] lets handlers finish, and cancels
/// those that are stuck.
///
/// [`Subscription::drain`] and [`Client::close`] wait for what is in the topic when they begin: that
/// each record is handled well, or is in the dead-letter topic. Then everything published is
/// delivered or dead-lettered. They wait for as long as they come further, and give up with
/// [`CloseError::Stalled`] when they do not for [`SubscriptionConfig::drain_patience`]. What counts
/// as coming further:
///
/// * a record that comes for the first time, is handled well, is terminated or dead-lettered;
/// * where the topic has `max_attempts`, a failed attempt, as there are only so many; what rests
///   between two of them (45 s at the longest, unless a handler asked for more) is waited for in
///   addition to the patience. So a record that always fails ends in the dead-letter topic, and
///   the drain ends well;
/// * where it has none, a failed attempt does *not* count: a record that always fails would be
///   handed out for ever. The drain ends with `Stalled` one patience after the last other record
///   was dealt with, and leaves what failed to the group.
pub struct Subscription {
    shared: Arc<Shared>,
    client: Client,
    _task: OwnedTask,
    _registration: Registration,
}

impl Client {
    /// Calls `handler` for every message, several at a time.
    ///
    /// ```no_run
    /// use lanecast_client::{Client, ClientConfig, GroupOptions, Mode, SubscriberConfig};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::connect(ClientConfig::new("127.0.0.1:9080", "example")).await?;
    /// let group = Mode::Group(GroupOptions { chunk_records: 1_000, ..GroupOptions::new("work") });
    /// let config = SubscriberConfig::new("greetings", group);
    /// let subscription = client
    ///     .subscribe(config, |message| async move {
    ///         let text = std::str::from_utf8(message.payload())?;
    ///         println!("{}: {text}", message.offset());
    ///         Ok(())
    ///     })
    ///     .await?;
    /// tokio::signal::ctrl_c().await?;
    /// let stats = subscription.unsubscribe().await?;
    /// println!("{} handled, {} failed", stats.delivered, stats.errors);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A setting is out of range, there is no such topic, or the broker refuses or cannot be
    /// reached.
    pub async fn subscribe<H, F>(
        &self,
        config: impl Into<SubscriptionConfig>,
        handler: H,
    ) -> Result<Subscription, ClientError>
    where
        H: Fn(ReceivedMessage) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = move |item| -> Handled {
            match item {
                Item::Message(message) => Box::pin(handler(message)),
                Item::Chunk(_) => unreachable!("a parcel is unpacked into messages"),
            }
        };
        Subscription::open(self, config.into(), Unit::Message, Arc::new(handler)).await
    }

    /// As [`Client::subscribe`], with payloads read as JSON. What is none, or not of this type, goes
    /// to the dead-letter topic.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_json<T, H, F>(
        &self,
        config: impl Into<SubscriptionConfig>,
        handler: H,
    ) -> Result<Subscription, ClientError>
    where
        T: DeserializeOwned + Send + 'static,
        H: Fn(T, ReceivedMessage) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let read = move |message: ReceivedMessage| {
            let handler = Arc::clone(&handler);
            async move {
                let value = message
                    .json()
                    .map_err(|error| HandlerError::terminate(format!("no such JSON: {error}")))?;
                handler(value, message).await
            }
        };
        self.subscribe(config, read).await
    }

    /// Calls `handler` for whole chunks: for bulk work, and for records of any schema.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_chunks<H, F>(
        &self,
        config: impl Into<SubscriptionConfig>,
        handler: H,
    ) -> Result<Subscription, ClientError>
    where
        H: Fn(ReceivedChunk) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let handler = move |item| -> Handled {
            match item {
                Item::Chunk(chunk) => Box::pin(handler(chunk)),
                Item::Message(_) => unreachable!("a parcel is handed over in one piece"),
            }
        };
        Subscription::open(self, config.into(), Unit::Chunk, Arc::new(handler)).await
    }

    /// Ends everything that was opened from this client and its clones, in good order: producers
    /// take nothing more and flush; then subscriptions handle what is in their topics by now, and
    /// leave. When nobody else has a part in it, everything published is delivered or
    /// dead-lettered when this returns; "How it ends" at [`Subscription`] says what happens with records
    /// that always fail.
    ///
    /// Nothing that is stuck keeps it for ever: producers wait for `give_up_after`, subscriptions
    /// as "How it ends" at [`Subscription`] says, side by side.
    ///
    /// # Errors
    /// The first thing that went wrong; everything is ended all the same.
    pub async fn close(&self) -> Result<crate::ClientStats, CloseError> {
        let mut result = Ok(());
        for producer in self.registry().producers() {
            result = result.and(producer.finish().await.map_err(CloseError::from));
        }
        // Side by side: one that is stuck takes no time from the others.
        let mut drains = JoinSet::new();
        for subscription in self.registry().subscriptions() {
            let client = self.clone();
            drains.spawn(async move { subscription.drain(&client).await });
        }
        while let Some(drained) = drains.join_next().await {
            let drained = drained.unwrap_or_else(|_| Err(SubscribeError::Closed.into()));
            result = result.and(drained);
        }
        result.map(|()| self.stats())
    }
}

impl Subscription {
    async fn open(
        client: &Client,
        config: SubscriptionConfig,
        unit: Unit,
        handler: Handler,
    ) -> Result<Self, ClientError> {
        config.check()?;
        let SubscriptionConfig { subscriber, workers, retry_delay, stuck_after, drain_patience } =
            config;
        let options = match &subscriber.mode {
            Mode::Group(options) => options.clone(),
            Mode::Default | Mode::Broadcast => GroupOptions::default(),
        };
        let filter = Arc::new(subscriber.filter.clone());
        let subscriber = Subscriber::open(client, subscriber).await?;
        let shared =
            Arc::new(Shared::new(&subscriber, &options.group, stuck_after, drain_patience));
        let lease = options.lease;
        let running = Running { unit, workers, retry_delay, stuck_after, lease, filter };
        let dispatcher = Dispatcher::new(subscriber, Arc::clone(&shared), handler, running);
        let registration = client.registry().add_subscription(Arc::clone(&shared));
        Ok(Self {
            shared,
            client: client.clone(),
            _task: OwnedTask::spawn(dispatcher.run()),
            _registration: registration,
        })
    }

    #[must_use]
    pub fn stats(&self) -> SubscriptionStats {
        self.shared.stats()
    }

    /// Ends the subscription in good order: no more handlers start, those at work finish, what they
    /// did is settled, and what had not started returns to the group at once.
    ///
    /// # Errors
    /// The subscription had failed before, or handlers did not move for `stuck_after` and were
    /// cancelled: what others of their chunks did is settled all the same.
    pub async fn unsubscribe(self) -> Result<SubscriptionStats, SubscribeError> {
        self.shared.leave().await?;
        Ok(self.stats())
    }

    /// Handles everything that is in the topic now, then ends as [`Subscription::unsubscribe`]
    /// does. Of a group, other members may handle a part of it.
    ///
    /// # Errors
    /// The broker cannot be asked how far its topic goes, it came no further for `drain_patience`
    /// (see "How it ends" at [`Subscription`]; handlers at work are cancelled then, and the error
    /// counts what is left), or the subscription had failed before.
    pub async fn drain(self) -> Result<SubscriptionStats, CloseError> {
        self.shared.drain(&self.client).await?;
        Ok(self.stats())
    }

    /// Completes when the subscription has ended by itself.
    ///
    /// # Errors
    /// Why: refused for good, or its topic is gone.
    pub async fn ended(&self) -> Result<(), SubscribeError> {
        self.shared.wait_for_end().await
    }
}
