//! Records in, acknowledged batches out.
//!
//! ```text
//!  push() ─▶ open batch of the partition ─seal─▶ queue ─▶ task: ProducerSession ─▶ socket
//!    ▲          by bytes, records, linger          ▲                │
//!    └── waits for a permit when none is left ◀────┴── permits ◀────┴── acknowledgements
//! ```
//!
//! There is a task with its queue, session and socket for each core of the broker that has partitions of
//! the topic, up to a limit: partition *n* lives on core *n* modulo the number of cores, and a batch that
//! comes in on another one has to cross over.

mod batches;
mod raw;
mod receipt;
mod task;

use std::sync::Arc;

use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::message::TopicInfo;
use lanecast_wire::session::{ProducerSession, ProducerSettings};
use lanecast_wire::{ProducerEpoch, ProducerId, TopicId};
use tokio::sync::mpsc;

use crate::client::Client;
use crate::config::{ProducerConfig, micros};
use crate::error::{ClientError, ProduceError};
use crate::latency::Latency;
use crate::stats::{Publishing, Registration};
use crate::task::OwnedTask;
use batches::{Batches, Pushed};
pub use raw::RawProducer;
pub use receipt::{Published, Receipt};

/// Gathers records into batches and sends them until they are acknowledged.
///
/// Cheap to clone: clones share batches, window and connections, and may push from several tasks;
/// the order of one task's records holds per partition. When the last clone is dropped the
/// connections close, and what was not acknowledged is lost: [`Producer::flush`] or
/// [`Producer::close`] first.
///
/// ```no_run
/// use lanecast_client::{Client, ClientConfig, Producer, ProducerConfig};
/// use lanecast_wire::generic::{GenericBuilder, Message};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::new("127.0.0.1:9080", "example")).await?;
/// let producer =
///     Producer::<GenericBuilder>::open(&client, "greetings", ProducerConfig::default()).await?;
/// producer.push(&Message::new(b"key", b"hello")).await?;
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct Producer<B> {
    handle: Arc<Handle<B>>,
}

struct Handle<B> {
    batches: Arc<Batches<B>>,
    topic: TopicInfo,
    _tasks: Vec<OwnedTask>,
    _registration: Registration,
}

/// What a producer has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerStats {
    /// Records taken by `push`.
    pub pushed: u64,
    /// Records acknowledged, duplicates included. Once all is answered, this and `dropped` make
    /// `pushed`.
    pub acknowledged: u64,
    /// Records that the broker dropped, because their topic does that when it is full.
    pub dropped: u64,
    /// Of those, records of batches that the broker had appended already.
    pub duplicates: u64,
    /// Batches and their bytes acknowledged.
    pub batches: u64,
    pub bytes: u64,
    /// Batches that were sent again.
    pub retries: u64,
    /// Connections that were lost and made again.
    pub reconnects: u64,
    /// Times that a partition's sequences began again, because the broker had forgotten them.
    pub starts_over: u64,
    /// Batches that may be in the topic twice by that: see
    /// [`ProducerConfig::on_lost_sequence`](crate::ProducerConfig::on_lost_sequence).
    pub doubtful: u64,
    /// From the push of a batch's first record to its acknowledgement, by records.
    pub latency: Latency,
}

impl<B> Clone for Producer<B> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<B: BodyBuilder + Send + 'static> Producer<B> {
    /// Looks the topic up, draws a producer id, and starts the task that connects.
    ///
    /// # Errors
    /// A setting is out of range, there is no such topic, or the broker cannot be reached.
    pub async fn open(
        client: &Client,
        topic: &str,
        config: ProducerConfig,
    ) -> Result<Self, ClientError> {
        config.check()?;
        let topic = client.topic(topic).await?;
        let batches_max = Batches::<B>::batches_max(&config);
        let connections = client.shards().min(topic.partitions).clamp(1, config.connections);
        let (sealed, queues): (Vec<_>, Vec<_>) =
            (0..connections).map(|_| mpsc::channel(batches_max)).unzip();
        let settings = ProducerSettings {
            producer: ProducerId(rand::random()),
            epoch: ProducerEpoch(1),
            topic: TopicId(topic.topic),
            partitions: topic.partitions,
            window: config.in_flight,
            retry_first_us: micros(config.retry_first).max(1),
            retry_longest_us: micros(config.retry_longest).max(1),
            on_lost_sequence: config.on_lost_sequence,
        };
        let batches = Arc::new(Batches::new(topic.partitions, sealed, &config));
        let tasks = queues.into_iter().enumerate().map(|(route, queue)| {
            let task = task::Task::new(
                client.config().clone(),
                config.clone(),
                topic.clone(),
                Arc::clone(&batches),
                route,
                ProducerSession::new(settings.clone()),
                queue,
            );
            OwnedTask::spawn(task.run())
        });
        let tasks = tasks.collect();
        let registered: Arc<dyn Publishing> = Arc::<Batches<B>>::clone(&batches);
        let registration = client.registry().add_producer(registered);
        let handle = Handle { batches, topic, _tasks: tasks, _registration: registration };
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Takes one record into the batch of its partition. Waits while all memory for batches is in
    /// use: that is the broker's back-pressure. Usually it neither waits nor allocates.
    ///
    /// When it is cancelled, the record was not taken.
    ///
    /// # Errors
    /// [`ProduceError::Record`]: no batch can hold this record; the producer goes on. Anything
    /// else: the producer has failed for good.
    pub async fn push(&self, record: &B::Record<'_>) -> Result<(), ProduceError> {
        self.take(record, false).await.map(drop)
    }

    /// As [`Producer::push`]; the receipt tells what becomes of the record. It costs an allocation
    /// per batch, not per record.
    ///
    /// # Errors
    /// As [`Producer::push`].
    pub async fn push_with_receipt(&self, record: &B::Record<'_>) -> Result<Receipt, ProduceError> {
        let receipt = self.take(record, true).await?;
        Ok(receipt.expect("a receipt was asked for"))
    }

    async fn take(
        &self,
        record: &B::Record<'_>,
        with_receipt: bool,
    ) -> Result<Option<Receipt>, ProduceError> {
        let batches = &*self.handle.batches;
        let partition = B::slot(record).partition(batches.partitions());
        let mut permit = None;
        loop {
            match batches.push(partition, record, &mut permit, with_receipt)? {
                Pushed::Taken(receipt) => return Ok(receipt),
                Pushed::Full { permits } => permit = Some(batches.room(permits).await?),
            }
        }
    }

    /// Completes when a linger deadline has sealed a batch since the last call. Sealing happens
    /// without it; it is for programs that want to know.
    pub async fn idle(&self) {
        self.handle.batches.lingered().await;
    }

    /// Everything pushed before is acknowledged.
    ///
    /// # Errors
    /// The producer has failed.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        self.handle.batches.flush().await
    }

    /// Flushes and ends. Other clones go on.
    ///
    /// # Errors
    /// The producer has failed.
    pub async fn close(self) -> Result<ProducerStats, ProduceError> {
        self.flush().await?;
        Ok(self.stats())
    }

    #[must_use]
    pub fn stats(&self) -> ProducerStats {
        self.handle.batches.stats()
    }

    #[must_use]
    pub fn topic(&self) -> &TopicInfo {
        &self.handle.topic
    }
}
