//! A subscription's positions, credit and chunks.
//!
//! *Broadcast*: every frame is handed on as it comes; its credit goes back once the application has
//! dealt with it, so what the application is slow with stays at the broker. Positions outlive the
//! connection: the next [`Subscribe`] goes on where this one ended, and whatever lies between the
//! last record and the next one is reported as missed, never silently skipped. What a filter leaves
//! out the broker says too, so a position moves on also where nothing passes. A position belongs to
//! a log: where the partition has another by now, the subscription goes on at that one's beginning.
//!
//! *Queue*: the frames of one leased chunk are gathered and handed on once it is whole. Credit goes
//! back as frames arrive, since what bounds memory here is the number of chunks in flight and their
//! size. A lost connection forgets half-gathered chunks: their leases go back to the group. How a
//! chunk is put together is in [`gather`].

mod gather;

use bytes::Bytes;

use crate::batch::{self, BatchError, BatchHeader};
use crate::limits::{BATCH_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::message::{
    Credit, Deliver, DeliveryMode, Lease, Missed, MissedReason, OffsetRange, PartitionOnline,
    PartitionPosition, PartitionStart, Settled, StartPosition, Subscribe, SubscribeMode,
    SubscribeReply,
};
use crate::{KeyFilter, Offset, SubscriptionId, TopicId};

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
    /// Broadcast only.
    pub filter: KeyFilter,
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
    /// Whole batches, in order. The first may begin before the chunk and the last end behind it:
    /// a chunk's bounds are those of its lease.
    pub payloads: Vec<Bytes>,
    /// Records of the chunk that are settled already, rising and without overlap. They may be
    /// missing from the payloads.
    pub settled: Vec<OffsetRange>,
    /// Records of the chunk that the broker has lost, rising and without overlap: they are missing
    /// from the payloads.
    pub damaged: Vec<OffsetRange>,
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
    /// Positions are kept: it was broadcast when it was last open, whatever became of tries since.
    resumes: bool,
    /// In rising order of partition.
    partitions: Vec<Partition>,
    /// Asked for, and not to be read when the broker answered last.
    offline: Vec<u32>,
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
    /// Which log that is an offset of, and how far it was known to reach.
    log_epoch: u64,
    high_watermark: u64,
    /// Payload bytes received whose credit was not given back.
    held: u64,
    /// Of those, bytes that the application has dealt with.
    done: u64,
    chunk: Option<LeasedChunk>,
    chunk_next: u64,
    /// Of the chunk that comes next.
    settled: Option<Settled>,
}

impl SubscriptionSession {
    #[must_use]
    pub fn new(settings: SubscriptionSettings) -> Self {
        Self {
            settings,
            id: 0,
            open: None,
            resumes: false,
            partitions: Vec::new(),
            offline: Vec::new(),
        }
    }

    /// The request for a new connection: goes on where the last one ended.
    pub fn subscribe(&mut self) -> Subscribe {
        self.id += 1;
        self.open = None;
        for partition in &mut self.partitions {
            (partition.held, partition.done) = (0, 0);
            (partition.chunk, partition.settled) = (None, None);
        }
        let resume = |partition: &Partition| PartitionStart {
            partition: partition.index,
            start: StartPosition::Offset(partition.next),
            log_epoch: partition.log_epoch,
        };
        let starts = if self.resumes {
            let late = self.offline.iter().map(|partition| self.first_start(*partition));
            self.partitions.iter().map(resume).chain(late).collect()
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
            filter: self.settings.filter.clone(),
        }
    }

    /// Where a partition starts that nothing is known of yet.
    fn first_start(&self, partition: u32) -> PartitionStart {
        let own = self.settings.starts.iter().find(|start| start.partition == partition);
        let start = self.settings.start;
        own.copied().unwrap_or(PartitionStart { partition, start, log_epoch: 0 })
    }

    /// The broker has answered; deliveries may come. Gives what was missed of logs that are no more.
    pub fn opened(&mut self, reply: &SubscribeReply) -> Vec<Missed> {
        self.open = Some(Opened { mode: reply.mode, credit_bytes: reply.credit_bytes });
        self.resumes = reply.mode == DeliveryMode::Broadcast;
        let mut offline = reply.offline.clone();
        offline.retain(|index| self.partition(*index).is_err());
        self.offline = offline;
        reply.positions.iter().filter_map(|position| self.position(position)).collect()
    }

    /// Partitions that are asked for and could not be read so far.
    #[must_use]
    pub fn offline(&self) -> &[u32] {
        &self.offline
    }

    /// A partition that was offline can be read. Gives what was missed if its log is another.
    ///
    /// # Errors
    /// It is about something that is not subscribed.
    pub fn online(
        &mut self,
        online: &PartitionOnline,
    ) -> Result<Option<Missed>, SubscriptionError> {
        self.check_id(online.subscription)?;
        Ok(self.position(&online.position))
    }

    fn position(&mut self, position: &PartitionPosition) -> Option<Missed> {
        let index = position.partition;
        self.offline.retain(|partition| *partition != index);
        let at = match self.partitions.binary_search_by_key(&index, |partition| partition.index) {
            Ok(at) => at,
            Err(at) => {
                self.partitions.insert(at, Partition::new(position));
                return None;
            }
        };
        let partition = &mut self.partitions[at];
        // Of one log, what lies between the old position and the broker's shows as missed.
        if partition.log_epoch == position.log_epoch {
            partition.high_watermark = position.high_watermark;
            // It has lost its end; what was seen there will be other records.
            partition.next = partition.next.min(position.next_offset.max(position.high_watermark));
            return None;
        }
        let gone = std::mem::replace(partition, Partition::new(position));
        (gone.next < gone.high_watermark).then(|| Missed {
            subscription: self.id,
            partition: index,
            first: gone.next,
            last: gone.high_watermark - 1,
            reason: MissedReason::Retention,
        })
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
        let partition = self.partition(deliver.partition)?;
        match (open.mode, deliver.lease) {
            (DeliveryMode::Broadcast, None) => {
                check_batches(deliver, &payload)?;
                partition.hand_on(open, deliver, payload)
            }
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

    /// Takes what is said about the chunk that comes next.
    ///
    /// # Errors
    /// It is about something that is not subscribed as a member of a group.
    pub fn settled(&mut self, settled: Settled) -> Result<(), SubscriptionError> {
        let open = self.check_id(settled.subscription)?;
        let partition = self.partition(settled.partition)?;
        if open.mode == DeliveryMode::Broadcast {
            let what = "settled records on a broadcast subscription";
            return Err(SubscriptionError::Lease { partition: settled.partition, what });
        }
        partition.settled = Some(settled);
        Ok(())
    }

    /// Records went by undelivered: what of that is news. Those that were
    /// [filtered](MissedReason::Filtered) only move the position on.
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

    /// Credit to give back now: once it is [worth a frame](credit_worth_bytes), or nothing else is under way
    /// and what the broker has left of it may be too little for the next batch.
    pub fn poll_credit(&mut self) -> Option<Credit> {
        let open = self.open?;
        let subscription = self.id;
        let worth = credit_worth_bytes(open.credit_bytes);
        let short = |p: &Partition| p.held + u64::from(BATCH_BYTES_MAX) > open.credit_bytes.into();
        let due =
            |p: &&mut Partition| p.done > 0 && (p.done >= worth || (p.done == p.held && short(p)));
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
    fn new(position: &PartitionPosition) -> Self {
        Partition {
            index: position.partition,
            next: position.next_offset,
            log_epoch: position.log_epoch,
            high_watermark: position.high_watermark,
            held: 0,
            done: 0,
            chunk: None,
            chunk_next: 0,
            settled: None,
        }
    }

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
        self.high_watermark = deliver.high_watermark;
        if deliver.last < self.next {
            self.done += bytes;
            return Ok((None, None));
        }
        let missed = (deliver.first > self.next).then(|| Missed {
            subscription: deliver.subscription,
            partition: self.index,
            first: self.next,
            last: deliver.first - 1,
            reason: MissedReason::Retention,
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
}

/// How much credit of so much is worth a frame: each costs both ends as much as a small delivery does.
#[must_use]
pub fn credit_worth_bytes(credit_bytes: u32) -> u64 {
    u64::from(credit_bytes / 4)
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
mod tests;
