//! A chunk under lease, and how it is settled.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::limits::{CHUNK_RANGES_MAX, NACK_DELAY_MS_MAX};
use lanecast_wire::message::{
    Ack, ClientMessage, Extend, Lease, Nack, OffsetRange, Refusal, Terminate,
};
use lanecast_wire::session::LeasedChunk;
use lanecast_wire::{ErrorCode, Offset};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::open_ranges::OpenRanges;
use crate::config::millis;
use crate::error::AckError;
use crate::limits::SETTLEMENTS_AT_A_TIME;

/// Contiguous records of one partition, leased to this member until [`Chunk::deadline`].
///
/// Its bounds never change, whoever gets it next: an effect that is keyed by
/// `topic/partition/first-last/appended` happens once. (Offsets begin again when a log is lost or
/// a topic is made anew; the time of the append tells those chunks apart.) Settle it with [`Chunk::ack`] or [`Chunk::nack`], or
/// in parts, down to one record, with [`Chunk::ack_range`], [`Chunk::nack_range`] and
/// [`Chunk::terminate`]. What is just dropped comes again when the lease is over.
///
/// Bounds need not be those of batches: a part that was given back is a chunk of its own. Whoever
/// handles records reads [`Chunk::open_ranges`] or asks [`Chunk::is_open`]; whoever handles whole
/// chunks under their names may go by [`Chunk::is_whole`].
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
    /// When the chunk's newest batch was appended, unix milliseconds; as lasting as the bounds.
    pub appended_ms: i64,
    pub high_watermark: Offset,
    /// Whole batches, in order; checked. The first may begin before the chunk and the last end
    /// behind it, and batches that are settled already may be missing.
    pub payloads: Vec<Bytes>,
    /// Records that the broker has lost, as it says: they are missing from the payloads, and
    /// nobody will get them. They are settled like all others.
    pub damaged: Vec<OffsetRange>,
    open: OpenRanges,
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
        let Lease { chunk_first, chunk_last, generation, attempt, lease_ms, appended_ms } =
            chunk.lease;
        Self {
            topic,
            partition: chunk.partition,
            first: Offset(chunk_first),
            last: Offset(chunk_last),
            attempt,
            generation,
            appended_ms,
            high_watermark: chunk.high_watermark,
            payloads: chunk.payloads,
            damaged: chunk.damaged,
            open: OpenRanges::new(chunk_first, chunk_last, &chunk.settled),
            deadline: received + Duration::from_millis(u64::from(lease_ms)),
            way,
        }
    }

    /// The batches of all payloads, in order.
    pub fn batches(&self) -> impl Iterator<Item = (BatchHeader, Bytes)> + '_ {
        let whole = |item: Result<_, _>| item.expect("the session has checked every batch");
        self.payloads.iter().flat_map(batch::iter).map(whole)
    }

    /// Records between the chunk's bounds, settled ones included.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    /// Records that are not settled yet, here or by whoever had the chunk before; rising.
    #[must_use]
    pub fn open_ranges(&self) -> &[OffsetRange] {
        self.open.ranges()
    }

    /// Number of records in [`Self::open_ranges`].
    #[must_use]
    pub fn open_records(&self) -> u64 {
        self.open.records()
    }

    /// Whether the record at `offset` is of this chunk and not settled yet.
    #[must_use]
    pub fn is_open(&self, offset: Offset) -> bool {
        self.open.contains(offset.0)
    }

    /// Whether everything in the payloads is of this chunk and not settled yet.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let mut next = self.first.0;
        let follows = |(header, _): (BatchHeader, Bytes)| {
            let follows = header.base_offset.0 == next;
            next = header.last_offset().0 + 1;
            follows
        };
        let joined = self.batches().all(follows);
        joined && next == self.last.0 + 1 && self.open_records() == self.records()
    }

    /// When the lease ends, at the latest.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Everything that is still open is done: nobody gets it again. All of it or nothing, even if
    /// the answer is lost.
    ///
    /// # Errors
    /// It may come again: see [`AckError`].
    pub async fn ack(self) -> Result<(), AckError> {
        let all = self.open.span(self.all());
        self.way.settle_all(all.map(|range| self.ack_message(range)).into_iter().collect()).await
    }

    /// The records from `range.first` to `range.last` are done. Those among them that are settled
    /// already are left out.
    ///
    /// # Errors
    /// See [`AckError`]; the records stay open here.
    pub async fn ack_range(&mut self, range: OffsetRange) -> Result<(), AckError> {
        self.ack_ranges(&[range]).await
    }

    /// [`Self::ack_range`] for several at once.
    ///
    /// # Errors
    /// See [`AckError`]; the records stay open here, though some may be settled.
    pub async fn ack_ranges(&mut self, ranges: &[OffsetRange]) -> Result<(), AckError> {
        // What is settled already may lie within.
        let parts = ranges.iter().filter_map(|range| self.open.span(*range));
        let acks = parts.map(|part| self.ack_message(part)).collect();
        self.way.settle_all(acks).await?;
        ranges.iter().for_each(|range| self.open.remove(*range));
        Ok(())
    }

    /// Everything that is still open failed here: it is handed out again after `delay`, to whoever
    /// is free, as the same chunk. A delay of more than an hour is an hour, here and for parts.
    ///
    /// # Errors
    /// See [`AckError`].
    pub async fn nack(self, delay: Duration, reason: &str) -> Result<(), AckError> {
        // One request: a part that is given back by itself becomes another chunk.
        let nack = self.open.span(self.all()).map(|all| self.nack_message(all, delay, reason));
        self.way.settle_all(nack.into_iter().collect()).await
    }

    /// The records from `range.first` to `range.last` failed here: what is open of them becomes a
    /// chunk of its own, and is handed out again after `delay`.
    ///
    /// # Errors
    /// See [`AckError`]; the records stay open here.
    pub async fn nack_range(
        &mut self,
        range: OffsetRange,
        delay: Duration,
        reason: &str,
    ) -> Result<(), AckError> {
        self.nack_ranges(&[range], delay, reason).await
    }

    /// [`Self::nack_range`] for several at once; each becomes a chunk of its own.
    ///
    /// # Errors
    /// See [`AckError`]; the records stay open here, though some may be settled.
    pub async fn nack_ranges(
        &mut self,
        ranges: &[OffsetRange],
        delay: Duration,
        reason: &str,
    ) -> Result<(), AckError> {
        let parts = ranges.iter().flat_map(|range| self.open.within(*range));
        let nacks = parts.map(|part| self.nack_message(part, delay, reason)).collect();
        self.way.settle_all(nacks).await?;
        ranges.iter().for_each(|range| self.open.remove(*range));
        Ok(())
    }

    /// As few ranges as cover these, in order, with nothing open between them.
    pub(crate) fn parts(&self, ranges: &[OffsetRange]) -> Vec<OffsetRange> {
        let mut parts: Vec<OffsetRange> = Vec::new();
        for range in ranges {
            let behind = |last: u64| OffsetRange { first: last + 1, last: range.first - 1 };
            match parts.last_mut() {
                Some(part) if self.open.within(behind(part.last)).is_empty() => {
                    part.last = range.last;
                }
                Some(_) | None => parts.push(*range),
            }
        }
        parts
    }

    /// As [`Self::nack_ranges`], but what is settled within a range does not make two of it.
    pub(crate) async fn nack_parts(
        &mut self,
        ranges: &[OffsetRange],
        delay: Duration,
        reason: &str,
    ) -> Result<(), AckError> {
        let parts = ranges.iter().filter_map(|range| self.open.span(*range));
        let nacks = parts.map(|part| self.nack_message(part, delay, reason)).collect();
        self.way.settle_all(nacks).await?;
        ranges.iter().for_each(|range| self.open.remove(*range));
        Ok(())
    }

    /// Nobody can ever handle these records: what is open of them goes to the dead-letter topic
    /// with `reason`. Completes once they are durable there.
    ///
    /// From the moment that the broker has decided it, which is before the answer and durable, they
    /// are settled for whoever gets the chunk next, and each goes to the dead-letter topic once.
    ///
    /// # Errors
    /// See [`AckError`]; the records stay open here, though some may be settled.
    pub async fn terminate(
        &mut self,
        ranges: &[OffsetRange],
        reason: &str,
    ) -> Result<(), AckError> {
        let mut open = OpenRanges::none();
        let parts = ranges.iter().filter_map(|range| self.open.span(*range));
        parts.for_each(|part| open.insert(part));
        let terminate = |ranges: &[OffsetRange]| {
            ClientMessage::Terminate(
                Terminate {
                    subscription: self.way.subscription,
                    partition: self.partition,
                    ranges: ranges.to_vec(),
                    generation: self.generation,
                    reason: String::new(),
                }
                .with_reason(reason),
            )
        };
        let messages = open.ranges().chunks(CHUNK_RANGES_MAX).map(terminate).collect();
        self.way.settle_all(messages).await?;
        ranges.iter().for_each(|range| self.open.remove(*range));
        Ok(())
    }

    /// The lease of all that is open shall end `lease` from now.
    ///
    /// # Errors
    /// See [`AckError`]; the old deadline stands.
    pub async fn extend(&mut self, lease: Duration) -> Result<(), AckError> {
        self.deadline = self.extension(lease).send().await?;
        Ok(())
    }

    /// The same for somebody who does not hold the chunk, as often as it is sent.
    #[must_use]
    pub fn extension(&self, lease: Duration) -> Extension {
        let message = ClientMessage::Extend(Extend {
            subscription: self.way.subscription,
            partition: self.partition,
            first: self.first.0,
            last: self.last.0,
            generation: self.generation,
            lease_ms: millis(lease),
        });
        Extension { message, lease, way: self.way.clone() }
    }

    fn all(&self) -> OffsetRange {
        OffsetRange { first: self.first.0, last: self.last.0 }
    }

    fn ack_message(&self, OffsetRange { first, last }: OffsetRange) -> ClientMessage {
        let (subscription, partition) = (self.way.subscription, self.partition);
        let generation = self.generation;
        ClientMessage::Ack(Ack { subscription, partition, first, last, generation })
    }

    fn nack_message(
        &self,
        OffsetRange { first, last }: OffsetRange,
        delay: Duration,
        reason: &str,
    ) -> ClientMessage {
        ClientMessage::Nack(
            Nack {
                subscription: self.way.subscription,
                partition: self.partition,
                first,
                last,
                generation: self.generation,
                delay_ms: millis(delay).min(NACK_DELAY_MS_MAX),
                reason: String::new(),
            }
            .with_reason(reason),
        )
    }
}

/// Asks for more time for one chunk's lease: see [`Chunk::extension`].
#[derive(Clone, Debug)]
pub struct Extension {
    message: ClientMessage,
    lease: Duration,
    way: Way,
}

impl Extension {
    /// Gives the deadline that holds from now on.
    ///
    /// # Errors
    /// See [`AckError`]; the old deadline stands.
    pub async fn send(&self) -> Result<Instant, AckError> {
        let asked = Instant::now();
        self.way.settle_all(vec![self.message.clone()]).await?;
        Ok(asked + self.lease)
    }
}

impl Way {
    /// Asks all of it at once, and waits for all answers. The first error counts.
    async fn settle_all(&self, messages: Vec<ClientMessage>) -> Result<(), AckError> {
        let mut result = Ok(());
        // As many at a time as the way has room for, however many parts there are.
        for messages in messages.chunks(SETTLEMENTS_AT_A_TIME) {
            let mut waiting = Vec::with_capacity(messages.len());
            for message in messages {
                let (answer, answered) = oneshot::channel();
                let (subscription, message) = (self.subscription, message.clone());
                let settlement = Settlement { subscription, message, answer };
                self.settlements.send(settlement).await.map_err(|_| AckError::Closed)?;
                waiting.push(answered);
            }
            for answered in waiting {
                result = result.and(settled(answered.await));
            }
        }
        result
    }
}

/// What an answer, or its absence, means.
pub(super) fn settled(
    answer: Result<Result<(), Option<Refusal>>, oneshot::error::RecvError>,
) -> Result<(), AckError> {
    match answer {
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
