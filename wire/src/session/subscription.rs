//! A subscription's positions, credit and chunks.
//!
//! *Broadcast*: every frame is handed on as it comes; its credit goes back once the application has
//! dealt with it, so what the application is slow with stays at the broker. Positions outlive the
//! connection: the next [`Subscribe`] goes on where this one ended, and whatever lies between the
//! last record and the next one is reported as missed, never silently skipped.
//!
//! *Queue*: the frames of one leased chunk are gathered and handed on once it is whole. Credit goes
//! back as frames arrive, since what bounds memory here is the number of chunks in flight and their
//! size. A lost connection forgets half-gathered chunks: their leases go back to the group.

use bytes::Bytes;

use crate::batch::{self, BatchError, BatchHeader};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CHUNK_BYTES_MAX, CHUNK_RECORDS_MAX, PAYLOAD_BYTES_MAX,
};
use crate::message::{
    Credit, Deliver, DeliveryMode, Lease, Missed, PartitionStart, StartPosition, Subscribe,
    SubscribeMode, SubscribeReply,
};
use crate::{Offset, SubscriptionId, TopicId};

/// What to subscribe to.
#[derive(Clone, Debug)]
pub struct SubscriptionSettings {
    pub topic: TopicId,
    pub mode: SubscribeMode,
    pub start: StartPosition,
    /// Empty: all partitions.
    pub starts: Vec<PartitionStart>,
    /// 0: the broker's default.
    pub credit_bytes: u32,
}

/// What a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Broadcast: whole batches, checked. Call [`SubscriptionSession::done`] with `payload.len()`
    /// once they are dealt with.
    Batches { partition: u32, first: Offset, last: Offset, high_watermark: Offset, payload: Bytes },
    /// Queue: a whole chunk.
    Chunk(LeasedChunk),
}

/// A chunk under lease; its batches are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedChunk {
    pub partition: u32,
    pub lease: Lease,
    pub high_watermark: Offset,
    /// Whole batches, in order.
    pub payloads: Vec<Bytes>,
    pub bytes: u64,
    /// When its first frame arrived: the lease is younger than that by the way from the broker.
    pub received_us: u64,
}

/// The broker delivered something that cannot be: close, and connect again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionError {
    #[error("delivery for subscription {found}, this connection has {wanted}")]
    Subscription { found: u32, wanted: u32 },
    #[error("delivery before the subscription was answered")]
    NotOpen,
    #[error("delivery for partition {partition}, which is not subscribed")]
    Partition { partition: u32 },
    #[error("partition {partition}, offset {offset}: {error}")]
    Batch { partition: u32, offset: u64, error: BatchError },
    #[error("partition {partition}: expected offset {expected}, found {found}")]
    Offset { partition: u32, expected: u64, found: u64 },
    #[error("partition {partition}: {what}")]
    Lease { partition: u32, what: &'static str },
    #[error("partition {partition}: {bytes} bytes under way, the credit is {credit_bytes}")]
    Credit { partition: u32, bytes: u64, credit_bytes: u32 },
}

/// One subscription over as many connections as it takes.
#[derive(Debug)]
pub struct SubscriptionSession {
    settings: SubscriptionSettings,
    /// Changes with each connection.
    id: u32,
    open: Option<Opened>,
    /// In rising order of partition.
    partitions: Vec<Partition>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    mode: DeliveryMode,
    credit_bytes: u32,
}

#[derive(Debug)]
struct Partition {
    index: u32,
    /// Broadcast: the next offset that was not handed on.
    next: u64,
    /// Payload bytes received whose credit was not given back.
    held: u64,
    /// Of those, bytes that the application has dealt with.
    done: u64,
    chunk: Option<LeasedChunk>,
    chunk_next: u64,
}

impl SubscriptionSession {
    #[must_use]
    pub fn new(settings: SubscriptionSettings) -> Self {
        Self { settings, id: 0, open: None, partitions: Vec::new() }
    }

    /// The request for a new connection: goes on where the last one ended.
    pub fn subscribe(&mut self) -> Subscribe {
        self.id += 1;
        let broadcast = self.mode() == Some(DeliveryMode::Broadcast);
        self.open = None;
        for partition in &mut self.partitions {
            (partition.held, partition.done, partition.chunk) = (0, 0, None);
        }
        let resume = |partition: &Partition| PartitionStart {
            partition: partition.index,
            start: StartPosition::Offset(partition.next),
        };
        let starts = if broadcast {
            self.partitions.iter().map(resume).collect()
        } else {
            self.partitions.clear();
            self.settings.starts.clone()
        };
        Subscribe {
            subscription: self.id,
            topic: self.settings.topic.0,
            mode: self.settings.mode.clone(),
            start: self.settings.start,
            starts,
            credit_bytes: self.settings.credit_bytes,
        }
    }

    /// The broker has answered; deliveries may come.
    pub fn opened(&mut self, reply: &SubscribeReply) {
        self.open = Some(Opened { mode: reply.mode, credit_bytes: reply.credit_bytes });
        for position in &reply.positions {
            let index = position.partition;
            match self.partitions.binary_search_by_key(&index, |partition| partition.index) {
                // What lies between the old position and the broker's shows as missed.
                Ok(_) => {}
                Err(at) => {
                    let next = position.next_offset;
                    let (held, done, chunk, chunk_next) = (0, 0, None, 0);
                    let partition = Partition { index, next, held, done, chunk, chunk_next };
                    self.partitions.insert(at, partition);
                }
            }
        }
    }

    /// The mode, once the broker has said it.
    #[must_use]
    pub fn mode(&self) -> Option<DeliveryMode> {
        self.open.map(|open| open.mode)
    }

    #[must_use]
    pub fn id(&self) -> SubscriptionId {
        SubscriptionId(self.id)
    }

    /// Takes a delivery: batches are checked, chunks are gathered. The second part of the answer
    /// is what was skipped before this delivery.
    ///
    /// # Errors
    /// The delivery cannot be: wrong bytes, offsets, lease or credit.
    pub fn deliver(
        &mut self,
        deliver: &Deliver,
        payload: Bytes,
        now_us: u64,
    ) -> Result<(Option<Missed>, Option<Delivered>), SubscriptionError> {
        let open = self.check_id(deliver.subscription)?;
        check_batches(deliver, &payload)?;
        let partition = self.partition(deliver.partition)?;
        match (open.mode, deliver.lease) {
            (DeliveryMode::Broadcast, None) => partition.hand_on(open, deliver, payload),
            (DeliveryMode::Queue, Some(lease)) => {
                let bytes = payload.len() as u64;
                partition.held += bytes;
                partition.done += bytes;
                Ok((None, partition.gather(deliver, lease, payload, now_us)?.map(Delivered::Chunk)))
            }
            (DeliveryMode::Broadcast, Some(_)) => Err(SubscriptionError::Lease {
                partition: deliver.partition,
                what: "a lease on a broadcast subscription",
            }),
            (DeliveryMode::Queue, None) => Err(SubscriptionError::Lease {
                partition: deliver.partition,
                what: "a delivery without a lease to a group's member",
            }),
        }
    }

    /// Retention took records: what of that is news.
    ///
    /// # Errors
    /// The report is for something that is not subscribed.
    pub fn missed(&mut self, missed: &Missed) -> Result<Option<Missed>, SubscriptionError> {
        self.check_id(missed.subscription)?;
        let partition = self.partition(missed.partition)?;
        let first = missed.first.max(partition.next);
        if missed.last < first {
            return Ok(None);
        }
        partition.next = missed.last.saturating_add(1);
        Ok(Some(Missed { first, ..*missed }))
    }

    /// The application has dealt with `bytes` of a partition that came over this connection.
    pub fn done(&mut self, partition: u32, bytes: u64) {
        if let Ok(partition) = self.partition(partition) {
            partition.done = (partition.done + bytes).min(partition.held);
        }
    }

    /// Credit to give back now: once it is worth a frame, or nothing else is under way.
    pub fn poll_credit(&mut self) -> Option<Credit> {
        let open = self.open?;
        let subscription = self.id;
        let worth = u64::from(open.credit_bytes / 4);
        let due = |p: &&mut Partition| p.done > 0 && (p.done >= worth || p.done == p.held);
        let partition = self.partitions.iter_mut().find(due)?;
        let bytes = u32::try_from(partition.done).unwrap_or(u32::MAX);
        partition.done -= u64::from(bytes);
        partition.held -= u64::from(bytes);
        Some(Credit { subscription, partition: partition.index, bytes })
    }

    fn check_id(&self, found: u32) -> Result<Opened, SubscriptionError> {
        if found != self.id {
            return Err(SubscriptionError::Subscription { found, wanted: self.id });
        }
        self.open.ok_or(SubscriptionError::NotOpen)
    }

    fn partition(&mut self, index: u32) -> Result<&mut Partition, SubscriptionError> {
        match self.partitions.binary_search_by_key(&index, |partition| partition.index) {
            Ok(at) => Ok(&mut self.partitions[at]),
            Err(_) => Err(SubscriptionError::Partition { partition: index }),
        }
    }
}

impl Partition {
    fn hand_on(
        &mut self,
        open: Opened,
        deliver: &Deliver,
        payload: Bytes,
    ) -> Result<(Option<Missed>, Option<Delivered>), SubscriptionError> {
        let bytes = payload.len() as u64;
        self.held += bytes;
        // A batch larger than what is left of the credit must get through: one frame may go over.
        if self.held > u64::from(open.credit_bytes) + u64::from(PAYLOAD_BYTES_MAX) {
            return Err(SubscriptionError::Credit {
                partition: self.index,
                bytes: self.held,
                credit_bytes: open.credit_bytes,
            });
        }
        if deliver.last < self.next {
            self.done += bytes;
            return Ok((None, None));
        }
        let missed = (deliver.first > self.next).then(|| Missed {
            subscription: deliver.subscription,
            partition: self.index,
            first: self.next,
            last: deliver.first - 1,
        });
        self.next = deliver.last + 1;
        let delivered = Delivered::Batches {
            partition: self.index,
            first: Offset(deliver.first),
            last: Offset(deliver.last),
            high_watermark: Offset(deliver.high_watermark),
            payload,
        };
        Ok((missed, Some(delivered)))
    }

    fn gather(
        &mut self,
        deliver: &Deliver,
        lease: Lease,
        payload: Bytes,
        now_us: u64,
    ) -> Result<Option<LeasedChunk>, SubscriptionError> {
        let wrong = |what| SubscriptionError::Lease { partition: deliver.partition, what };
        if deliver.first < lease.chunk_first || deliver.last > lease.chunk_last {
            return Err(wrong("a delivery outside its chunk"));
        }
        if lease.chunk_last - lease.chunk_first >= u64::from(CHUNK_RECORDS_MAX + BATCH_RECORDS_MAX)
        {
            return Err(wrong("a chunk of more records than the limit"));
        }
        let mut chunk = match self.chunk.take() {
            Some(chunk) if chunk.lease.generation == lease.generation => {
                if chunk.lease != lease {
                    return Err(wrong("a lease changed under one generation"));
                }
                chunk
            }
            // The broker took the rest of an older lease back, for instance after its deadline.
            Some(_) | None => {
                self.chunk_next = lease.chunk_first;
                LeasedChunk {
                    partition: self.index,
                    lease,
                    high_watermark: Offset(0),
                    payloads: Vec::new(),
                    bytes: 0,
                    received_us: now_us,
                }
            }
        };
        if deliver.first != self.chunk_next {
            return Err(SubscriptionError::Offset {
                partition: self.index,
                expected: self.chunk_next,
                found: deliver.first,
            });
        }
        chunk.bytes += payload.len() as u64;
        if chunk.bytes > u64::from(CHUNK_BYTES_MAX) + u64::from(BATCH_BYTES_MAX) {
            return Err(wrong("a chunk of more bytes than the limit"));
        }
        self.chunk_next = deliver.last + 1;
        chunk.high_watermark = Offset(deliver.high_watermark);
        chunk.payloads.push(payload);
        if deliver.last == lease.chunk_last {
            return Ok(Some(chunk));
        }
        self.chunk = Some(chunk);
        Ok(None)
    }
}

/// Whether the payload is whole batches that cover `first` to `last` without a hole.
fn check_batches(deliver: &Deliver, payload: &Bytes) -> Result<(), SubscriptionError> {
    let partition = deliver.partition;
    let mut next = deliver.first;
    for item in batch::iter(payload) {
        let checked = item.and_then(|(_, bytes)| batch::check(&bytes));
        let header: BatchHeader =
            checked.map_err(|error| SubscriptionError::Batch { partition, offset: next, error })?;
        if header.base_offset != Offset(next) {
            return Err(SubscriptionError::Offset {
                partition,
                expected: next,
                found: header.base_offset.0,
            });
        }
        next = header.last_offset().0 + 1;
    }
    if next == deliver.first || next != deliver.last.saturating_add(1) {
        let expected = deliver.last.saturating_add(1);
        return Err(SubscriptionError::Offset { partition, expected, found: next });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builder::SealedBody;
    use crate::message::PartitionPosition;
    use crate::{ProducerEpoch, ProducerId, Sequence};

    /// One batch of `records` records at `base`, 80 + 20 bytes.
    fn batch_at(base: u64, records: u32) -> Vec<u8> {
        let sealed = SealedBody {
            body: vec![7; 20],
            schema: batch::schema::GENERIC,
            record_count: records,
            min_time_ms: 0,
            max_time_ms: 0,
        };
        let sealed = batch::seal(&sealed, ProducerId(1), ProducerEpoch(1), Sequence(0), 0);
        let mut bytes = sealed.to_vec();
        batch::stamp(&mut bytes, Offset(base), 5);
        bytes
    }

    fn session(mode: DeliveryMode) -> SubscriptionSession {
        let mut session = SubscriptionSession::new(SubscriptionSettings {
            topic: TopicId(1),
            mode: SubscribeMode::Broadcast,
            start: StartPosition::Latest,
            starts: Vec::new(),
            credit_bytes: 0,
        });
        session.subscribe();
        session.opened(&reply(mode, 10));
        session
    }

    fn reply(mode: DeliveryMode, next_offset: u64) -> SubscribeReply {
        let position = PartitionPosition { partition: 3, next_offset, high_watermark: next_offset };
        SubscribeReply { mode, credit_bytes: 1_000, positions: vec![position] }
    }

    fn deliver(first: u64, last: u64, lease: Option<Lease>) -> Deliver {
        Deliver { subscription: 1, partition: 3, first, last, high_watermark: 99, lease }
    }

    fn lease(generation: u64) -> Lease {
        Lease { chunk_first: 10, chunk_last: 15, generation, attempt: 1, lease_ms: 1_000 }
    }

    #[test]
    fn broadcast_resumes_behind_what_was_handed_on_and_reports_gaps() {
        let mut session = session(DeliveryMode::Broadcast);
        let payload = Bytes::from(batch_at(10, 2));
        let (missed, delivered) = session.deliver(&deliver(10, 11, None), payload, 0).unwrap();
        assert!(missed.is_none() && matches!(delivered, Some(Delivered::Batches { .. })));
        let again = session.subscribe();
        let start = StartPosition::Offset(12);
        assert_eq!(again.starts, [PartitionStart { partition: 3, start }]);
        session.opened(&reply(DeliveryMode::Broadcast, 14));
        let after = Deliver { subscription: 2, ..deliver(14, 14, None) };
        let (missed, delivered) = session.deliver(&after, batch_at(14, 1).into(), 0).unwrap();
        assert_eq!(missed.map(|missed| (missed.first, missed.last)), Some((12, 13)));
        assert!(delivered.is_some());
    }

    #[test]
    fn what_was_reported_missed_is_not_reported_again() {
        let mut session = session(DeliveryMode::Broadcast);
        let report = Missed { subscription: 1, partition: 3, first: 8, last: 12 };
        let news = session.missed(&report).unwrap().unwrap();
        assert_eq!((news.first, news.last), (10, 12));
        assert_eq!(session.missed(&report), Ok(None));
        let (missed, _) =
            session.deliver(&deliver(13, 13, None), batch_at(13, 1).into(), 0).unwrap();
        assert_eq!(missed, None);
    }

    #[test]
    fn credit_goes_back_once_it_is_worth_it_or_nothing_is_under_way() {
        let mut session = session(DeliveryMode::Broadcast);
        for offset in 10..14 {
            let frame = deliver(offset, offset, None);
            session.deliver(&frame, batch_at(offset, 1).into(), 0).unwrap();
        }
        session.done(3, 100);
        assert_eq!(session.poll_credit(), None, "100 of 1,000 is not worth a frame");
        session.done(3, 200);
        let credit = Credit { subscription: 1, partition: 3, bytes: 300 };
        assert_eq!(session.poll_credit(), Some(credit));
        session.done(3, 100);
        let rest = Credit { subscription: 1, partition: 3, bytes: 100 };
        assert_eq!(session.poll_credit(), Some(rest));
        assert_eq!(session.poll_credit(), None);
        session.done(3, 1_000);
        assert_eq!(session.poll_credit(), None, "no more goes back than came");
    }

    #[test]
    fn a_chunk_is_handed_on_once_it_is_whole() {
        let mut session = session(DeliveryMode::Queue);
        let first = deliver(10, 12, Some(lease(5)));
        assert_eq!(session.deliver(&first, batch_at(10, 3).into(), 7), Ok((None, None)));
        assert!(session.poll_credit().is_some(), "credit goes back at once");
        let second = deliver(13, 15, Some(lease(5)));
        let (_, delivered) = session.deliver(&second, batch_at(13, 3).into(), 8).unwrap();
        let Some(Delivered::Chunk(chunk)) = delivered else { panic!("a chunk") };
        assert_eq!((chunk.payloads.len(), chunk.bytes, chunk.received_us), (2, 200, 7));
    }

    #[test]
    fn a_new_generation_starts_the_chunk_over() {
        let mut session = session(DeliveryMode::Queue);
        let first = deliver(10, 12, Some(lease(5)));
        session.deliver(&first, batch_at(10, 3).into(), 7).unwrap();
        let again = deliver(10, 12, Some(lease(6)));
        assert_eq!(session.deliver(&again, batch_at(10, 3).into(), 9), Ok((None, None)));
        let rest = deliver(13, 15, Some(lease(6)));
        let (_, delivered) = session.deliver(&rest, batch_at(13, 3).into(), 9).unwrap();
        assert!(matches!(delivered, Some(Delivered::Chunk(chunk)) if chunk.lease.generation == 6));
    }

    #[test]
    fn deliveries_that_cannot_be_are_errors() {
        let good = Bytes::from(batch_at(10, 2));
        let mut flipped = good.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let wrong = [
            (DeliveryMode::Broadcast, deliver(10, 12, None), good.clone()),
            (DeliveryMode::Broadcast, deliver(9, 10, None), good.clone()),
            (DeliveryMode::Broadcast, deliver(10, 11, None), Bytes::from(flipped)),
            (DeliveryMode::Broadcast, deliver(10, 11, None), Bytes::new()),
            (DeliveryMode::Broadcast, deliver(10, 11, Some(lease(1))), good.clone()),
            (DeliveryMode::Queue, deliver(10, 11, None), good.clone()),
            (DeliveryMode::Queue, deliver(12, 13, Some(lease(1))), batch_at(12, 2).into()),
            (DeliveryMode::Queue, deliver(16, 17, Some(lease(1))), batch_at(16, 2).into()),
            (
                DeliveryMode::Broadcast,
                Deliver { partition: 4, ..deliver(10, 11, None) },
                good.clone(),
            ),
            (
                DeliveryMode::Broadcast,
                Deliver { subscription: 2, ..deliver(10, 11, None) },
                good.clone(),
            ),
        ];
        for (mode, deliver, payload) in wrong {
            let refused = session(mode).deliver(&deliver, payload, 0);
            assert!(refused.is_err(), "{deliver:?}");
        }
    }

    #[test]
    fn a_broker_that_ignores_credit_is_an_error() {
        let mut session = session(DeliveryMode::Broadcast);
        let limit = (1_000 + PAYLOAD_BYTES_MAX as u64) / 100;
        for offset in 10..10 + limit {
            let frame = deliver(offset, offset, None);
            session.deliver(&frame, batch_at(offset, 1).into(), 0).unwrap();
        }
        let over = deliver(10 + limit, 10 + limit, None);
        let refused = session.deliver(&over, batch_at(10 + limit, 1).into(), 0);
        assert!(matches!(refused, Err(SubscriptionError::Credit { .. })));
    }
}
