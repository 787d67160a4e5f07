//! A chunk under lease, and how it is settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::{Ack, ClientMessage, Extend, Lease, Nack, Refusal};
use lanecast_wire::session::LeasedChunk;
use lanecast_wire::{ErrorCode, Offset};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::millis;
use crate::error::AckError;

/// Contiguous records of one partition, leased to this member until [`Chunk::deadline`].
///
/// Its bounds never change, whoever gets it next: an effect that is keyed by
/// `topic/partition/first-last` happens once. Settle it with [`Chunk::ack`] or [`Chunk::nack`];
/// one that is just dropped comes again when its lease is over.
#[derive(Debug)]
pub struct Chunk {
    pub topic: Arc<str>,
    pub partition: u32,
    /// First and last offset, both included.
    pub first: Offset,
    pub last: Offset,
    /// 1 at the first hand-out.
    pub attempt: u32,
    pub generation: u64,
    pub high_watermark: Offset,
    /// Whole batches, in order; checked.
    pub payloads: Vec<Bytes>,
    deadline: Instant,
    way: Way,
}

/// Where settlements go, and what the broker knows the chunk by.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) settlements: mpsc::Sender<Settlement>,
    /// Subscription of the connection that delivered the chunk.
    pub(super) subscription: u32,
}

/// A request about a chunk.
pub(super) struct Settlement {
    pub(super) subscription: u32,
    pub(super) message: ClientMessage,
    pub(super) answer: Reply,
}

/// Who asked. `Err(None)`: the connection broke.
pub(super) type Reply = oneshot::Sender<Result<(), Option<Refusal>>>;

impl Chunk {
    pub(super) fn new(topic: Arc<str>, chunk: LeasedChunk, received: Instant, way: Way) -> Self {
        let Lease { chunk_first, chunk_last, generation, attempt, lease_ms } = chunk.lease;
        Self {
            topic,
            partition: chunk.partition,
            first: Offset(chunk_first),
            last: Offset(chunk_last),
            attempt,
            generation,
            high_watermark: chunk.high_watermark,
            payloads: chunk.payloads,
            deadline: received + Duration::from_millis(u64::from(lease_ms)),
            way,
        }
    }

    /// The batches of all payloads, in order.
    pub fn batches(&self) -> impl Iterator<Item = (BatchHeader, Bytes)> + '_ {
        let whole = |item: Result<_, _>| item.expect("the session has checked every batch");
        self.payloads.iter().flat_map(batch::iter).map(whole)
    }

    /// Records of the chunk.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// When the lease ends, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The chunk is done: nobody gets it again.
    ///
    /// # Errors
    /// It may come again: see [`AckError`].
    pub async fn ack(self) -> Result<(), AckError> {
        let message = ClientMessage::Ack(Ack {
            subscription: self.way.subscription,
            partition: self.partition,
            first: self.first.0,
            last: self.last.0,
            generation: self.generation,
        });
        self.way.settle(message).await
    }

    /// The chunk failed here: it is handed out again after `delay`, to whoever is free.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn nack(self, delay: Duration, reason: &str) -> Result<(), AckError> {
        let message = ClientMessage::Nack(
            Nack {
                subscription: self.way.subscription,
                partition: self.partition,
                first: self.first.0,
                last: self.last.0,
                generation: self.generation,
                delay_ms: millis(delay),
                reason: String::new(),
            }
            .with_reason(reason),
        );
        self.way.settle(message).await
    }

    /// The lease shall end `lease` from now.
    ///
    /// # Errors
    /// See [`AckError`]; the old deadline stands.
    pub async fn extend(&mut self, lease: Duration) -> Result<(), AckError> {
        let asked = Instant::now();
        let message = ClientMessage::Extend(Extend {
            subscription: self.way.subscription,
            partition: self.partition,
            first: self.first.0,
            last: self.last.0,
            generation: self.generation,
            lease_ms: millis(lease),
        });
        self.way.settle(message).await?;
        self.deadline = asked + lease;
        Ok(())
    }
}

impl Way {
    async fn settle(&self, message: ClientMessage) -> Result<(), AckError> {
        let (answer, answered) = oneshot::channel();
        let settlement = Settlement { subscription: self.subscription, message, answer };
        self.settlements.send(settlement).await.map_err(|_| AckError::Closed)?;
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(None)) => Err(AckError::Unknown),
            Ok(Err(Some(refusal))) if refusal.code() == ErrorCode::LEASE_LOST => {
                Err(AckError::LeaseLost)
            }
            Ok(Err(Some(refusal))) => {
                Err(AckError::Refused { code: refusal.code(), message: refusal.message })
            }
            Err(_) => Err(AckError::Closed),
        }
    }
}
