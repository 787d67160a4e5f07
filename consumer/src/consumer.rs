//! The consumer: chunks of a group into the store, until told to stop.
//!
//! ```text
//!  broker ──chunk──▶ fetch loop ──▶ worker: lease ──▶ slot ──▶ terminate ──▶ insert ──▶ ack
//!                                     │      │          └ one of `inserts_in_flight`; none is given
//!                                     │      │            out while another insert waits for the
//!                                     │      │            store to recover
//!                                     │      └ the broker says that it holds; the time that it has
//!                                     │        then is the time that this worker has
//!                                     └ keeps the lease alive all the while
//! ```
//!
//! The broker leases out no more than was asked for ([`share`]): a store in trouble stops the
//! fetching by itself, as nothing is acknowledged then.

use core::future::Future;
use core::net::SocketAddr;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;
use std::time::Instant;

use lanecast_client::{
    Chunk, Client, ClientError, Delivery, GroupOptions, Mode, SubscribeError, Subscriber,
    SubscriberConfig,
};
use lanecast_store::{Store, StoreError};
use lanecast_wire::ErrorCode;
use lanecast_wire::message::{CreateTopic, StartPosition, TopicSettings};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::admin::Admin;
use crate::backoff::Backoff;
use crate::config::ConsumerConfig;
use crate::error::StartError;
use crate::limits;
use crate::sink::Sink;
use crate::stats::Stats;
use crate::worker::Worker;

/// A running consumer. Dropping it stops everything at once, which loses nothing: chunks that were
/// not acknowledged are handed out again when their leases end.
#[derive(Debug)]
pub struct Consumer {
    stats: Arc<Stats>,
    admin_addr: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    admin_stop: watch::Sender<bool>,
    fetching: JoinHandle<()>,
    serving: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Waits for store and broker to come up, migrates the store, subscribes, and begins. The
    /// admin port answers from the first moment on.
    ///
    /// # Errors
    /// A setting, port, schema or topic that waiting does not put right, or no store or broker
    /// within the start timeout.
    pub async fn start(config: ConsumerConfig) -> Result<Self, StartError> {
        config.check()?;
        let stats = Arc::new(Stats::default());
        let (admin_stop, admin_stopped) = watch::channel(false);
        let (mut admin_addr, mut serving) = (None, None);
        if let Some(addr) = config.admin_bind {
            let bound = Admin::bind(addr).await;
            let admin = bound.map_err(|source| StartError::Admin { addr, source })?;
            admin_addr = Some(admin.addr());
            serving = Some(tokio::spawn(admin.serve(Arc::clone(&stats), admin_stopped)));
        }
        let started = Self::begin(&config, Arc::clone(&stats)).await;
        let (stop, fetching) = match started {
            Ok(started) => started,
            Err(error) => {
                admin_stop.send_replace(true);
                return Err(error);
            }
        };
        Ok(Self { stats, admin_addr, stop, admin_stop, fetching, serving })
    }

    /// Where the admin port listens.
    #[must_use]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin_addr
    }

    #[must_use]
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// Fetches nothing more, finishes and acknowledges what is in flight, hands back what does not
    /// finish in time, and ends.
    pub async fn drain(mut self) {
        self.stats.draining.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.fetching).await {
            resume(error);
        }
        self.admin_stop.send_replace(true);
        if let Some(serving) = self.serving.take() {
            // The admin task ends by its own or is cut off with the runtime.
            let _ = serving.await;
        }
    }

    async fn begin(
        config: &ConsumerConfig,
        stats: Arc<Stats>,
    ) -> Result<(watch::Sender<bool>, JoinHandle<()>), StartError> {
        let patience = Patience::new(config);
        let store = Store::connect(config.store.clone())?;
        let migrate = || store.migrate(&config.retention);
        let report = patience.until(migrate, StoreError::may_pass).await?;
        tracing::info!(version = report.version, applied = ?report.applied, "schema is current");

        let connect = || Client::connect(config.client.clone());
        let client = patience.until(connect, may_pass).await?;
        let make_topic = || {
            ensure_topic(&client, &config.topic, config.partitions, config.topic_settings.clone())
        };
        patience.until(make_topic, may_pass).await?;
        let subscriber = subscribe(&client, config).await?;
        stats.subscribed(subscriber.connection());
        let TopicSettings { max_attempts, .. } = subscriber.topic().settings;
        if max_attempts > 0 {
            tracing::warn!(
                topic = config.topic,
                max_attempts,
                "chunks whose consumers die that often become dead letters although they may be \
                 stored; lanecast topic alter --max-attempts 0 lets them wait"
            );
        }
        tracing::info!(topic = config.topic, group = config.group.group, "consuming");

        let worker = Arc::new(Worker {
            sink: Sink::new(store, config.retention, config.backoff, Arc::clone(&stats)),
            slots: Semaphore::new(config.inserts_in_flight),
            backoff: config.backoff,
            lease: config.group.lease,
            stats: Arc::clone(&stats),
        });
        let (stop, stopped) = watch::channel(false);
        let fetcher = Fetcher { client, config: config.clone(), worker, stats, stopped };
        Ok((stop, tokio::spawn(fetcher.run(subscriber))))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.fetching.abort();
        self.admin_stop.send_replace(true);
    }
}

/// Takes chunks from the broker and gives each to a worker task.
struct Fetcher {
    client: Client,
    config: ConsumerConfig,
    worker: Arc<Worker>,
    stats: Arc<Stats>,
    stopped: watch::Receiver<bool>,
}

impl Fetcher {
    async fn run(self, mut subscriber: Subscriber) {
        let held = Arc::new(Semaphore::new(limits::CHUNKS_HELD_MAX));
        let (give_up, given_up) = watch::channel(false);
        let mut workers = JoinSet::new();
        loop {
            while let Some(ended) = workers.try_join_next() {
                ended.unwrap_or_else(resume);
            }
            let mut stopped = self.stopped.clone();
            let fetched = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                fetched = fetch(&mut subscriber, &held) => fetched,
            };
            match fetched {
                Ok((chunk, hold)) => {
                    let (worker, given_up) = (Arc::clone(&self.worker), given_up.clone());
                    workers.spawn(async move {
                        worker.work(chunk, given_up).await;
                        drop(hold);
                    });
                }
                Err(error) => match self.subscribe_again(&error).await {
                    Some(fresh) => subscriber = fresh,
                    None => break,
                },
            }
        }
        self.finish(workers, &give_up).await;
        // Only now: acknowledgements travel on the subscription's connection. In good order: a member
        // whose connection just ends has failed at all that it held, also what it never got to.
        let left = tokio::time::timeout(limits::LEAVE_TIMEOUT, subscriber.unsubscribe()).await;
        match left {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "left the group without the broker's answer"),
            Err(_) => tracing::warn!("left the group without the broker's answer"),
        }
    }

    /// `None` when told to stop meanwhile.
    async fn subscribe_again(&self, error: &SubscribeError) -> Option<Subscriber> {
        tracing::warn!(%error, "subscription ended, opening another");
        let mut stopped = self.stopped.clone();
        let mut attempt = 0;
        loop {
            attempt += 1;
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return None,
                () = tokio::time::sleep(self.config.backoff.wait(attempt)) => {}
            }
            match subscribe(&self.client, &self.config).await {
                Ok(subscriber) => {
                    self.stats.subscribed(subscriber.connection());
                    return Some(subscriber);
                }
                Err(error) => tracing::warn!(%error, attempt, "cannot subscribe"),
            }
        }
    }

    async fn finish(&self, mut workers: JoinSet<()>, give_up: &watch::Sender<bool>) {
        if wait_for_all(&mut workers, self.config.drain_timeout).await {
            return;
        }
        let chunks = workers.len();
        tracing::warn!(chunks, "handing back chunks that did not finish in time");
        give_up.send_replace(true);
        if !wait_for_all(&mut workers, limits::GIVE_UP_TIMEOUT).await {
            tracing::warn!("chunks are still being acknowledged");
        }
    }
}

/// The next chunk. It is taken as soon as it is leased, so that somebody keeps its lease alive while
/// it waits for its turn; how many there are at a time is what the subscription asked for.
async fn fetch(
    subscriber: &mut Subscriber,
    held: &Arc<Semaphore>,
) -> Result<(Chunk, OwnedSemaphorePermit), SubscribeError> {
    let hold = Arc::clone(held).acquire_owned().await;
    let hold = hold.expect("the semaphore is never closed");
    loop {
        match subscriber.next().await? {
            Delivery::Chunk(chunk) => return Ok((chunk, hold)),
            // A group's subscription has chunks alone; anything else is the broker's mistake.
            Delivery::Batches(_) | Delivery::Missed { .. } | Delivery::Skipped { .. } => {
                tracing::warn!("delivery without a lease ignored");
            }
        }
    }
}

async fn wait_for_all(workers: &mut JoinSet<()>, timeout: Duration) -> bool {
    let all = async {
        while let Some(ended) = workers.join_next().await {
            ended.unwrap_or_else(resume);
        }
    };
    tokio::time::timeout(timeout, all).await.is_ok()
}

/// A panic of a task is a panic of the consumer.
fn resume(error: tokio::task::JoinError) {
    if let Ok(panic) = error.try_into_panic() {
        std::panic::resume_unwind(panic);
    }
}

async fn subscribe(client: &Client, config: &ConsumerConfig) -> Result<Subscriber, ClientError> {
    let partitions = client.topic(&config.topic).await?.partitions;
    // A new group begins with everything that is there.
    let subscription = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(&config.topic, Mode::Group(share(config, partitions)))
    };
    Subscriber::open(client, subscription).await
}

/// How much of each partition to hold at a time: enough to keep all inserts busy, and no more, as
/// every chunk that is held is memory here and a lease that others wait for.
fn share(config: &ConsumerConfig, partitions: u32) -> GroupOptions {
    let partitions = partitions.max(1);
    let chunks = limits::CHUNKS_PER_INSERT * config.inserts_in_flight as u32;
    let wanted = config.group.chunks_in_flight.max(1);
    let chunks_in_flight = chunks.div_ceil(partitions).clamp(1, wanted);
    let chunk_bytes = (limits::HELD_BYTES_MAX / (partitions * chunks_in_flight))
        .max(limits::CHUNK_BYTES_MIN)
        .min(config.group.chunk_bytes);
    GroupOptions { chunks_in_flight, chunk_bytes, ..config.group.clone() }
}

/// Makes a topic, or finds that it exists, with whatever settings.
async fn ensure_topic(
    client: &Client,
    name: &str,
    partitions: u32,
    settings: TopicSettings,
) -> Result<(), ClientError> {
    let made =
        client.create_topic(CreateTopic { name: name.to_owned(), partitions, settings }).await;
    match made {
        Err(error) if error.code() == Some(ErrorCode::TOPIC_EXISTS) => Ok(()),
        made => made.map(drop),
    }
}

/// A broker that is not up yet, or busy, may be there a moment later.
fn may_pass(error: &ClientError) -> bool {
    match error {
        ClientError::Connect { .. } | ClientError::Timeout { .. } => true,
        ClientError::Refused { code, .. } => code.is_retryable(),
        ClientError::Config { .. } | ClientError::Answer => false,
    }
}

/// How long the start goes on trying.
struct Patience {
    backoff: Backoff,
    ends: Instant,
}

impl Patience {
    fn new(config: &ConsumerConfig) -> Self {
        Self { backoff: config.backoff, ends: Instant::now() + config.start_timeout }
    }

    /// Tries until it works, fails in a way that does not pass, or patience ends.
    async fn until<T, E: core::fmt::Display, F: Future<Output = Result<T, E>>>(
        &self,
        mut attempt: impl FnMut() -> F,
        may_pass: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let wait = self.backoff.wait(attempts);
            if !may_pass(&error) || Instant::now() + wait >= self.ends {
                return Err(error);
            }
            if attempts.is_power_of_two() {
                tracing::info!(%error, attempts, "not up yet, waiting");
            }
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_a_share_and_all_together_fit_in_memory() {
        let config = ConsumerConfig::default();
        for (partitions, chunks) in [(1, 4), (2, 2), (3, 2), (4, 1), (64, 1), (256, 1)] {
            let share = share(&config, partitions);
            assert_eq!(share.chunks_in_flight, chunks, "{partitions} partitions");
            let held = u64::from(partitions * chunks) * u64::from(share.chunk_bytes);
            assert!(held <= u64::from(limits::HELD_BYTES_MAX), "{partitions} partitions");
        }
        assert_eq!(share(&config, 2).chunk_bytes, limits::CHUNK_BYTES_DEFAULT);
    }
}
