//! A partition: one log of batches, and everybody who writes to it or reads from it.
//!
//! ```text
//!   produce ─▶ judged ─▶ appended ─▶ durable ─┬─▶ answered, in order
//!              (dedup)   (one copy)  (log)    ├─▶ cursors: broadcast, by credit
//!                                             └─▶ queue: consumer groups, by leases
//! ```
//!
//! Lives on one shard. The high watermark is the first offset that is not durable; nothing at or
//! above it is ever shown to anybody.
//!
//! ```text
//!               both logs open                a log failed
//!   Recovering ───────────────▶ Online ◀────────────────────▶ Offline
//!                                          both open again
//! ```

mod acks;
mod credit;
mod cursor;
mod members;
mod producers;
mod queue;
mod reader;
mod seek;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::{Durability, TopicInfo};
use lanecast_wire::{ErrorCode, Offset, PartitionId};

use self::acks::{PendingAck, PendingAcks};
use self::credit::Credit;
use self::cursor::{Cursor, Sent, Subscriber};
use self::producers::{Judged, Producers};
use self::queue::{Queue, refuse, refused};
use self::reader::{Reader, batches};
use self::seek::{Seek, Sought};
use crate::disk::Operations;
use crate::group::MemberKey;
use crate::limits::{
    CURSORS_MAX, GROUPS_CACHE_BYTES, PARTITION_CACHE_BYTES_MIN, PENDING_ACKS_MAX, RETRY_AFTER_MS,
};
use crate::log::{AppendRefused, BlockKind, Entry, Log, LogConfig, LogEvent, Medium};
use crate::outbox::Outbox;
use crate::{
    ConnectionId, DiskDone, DiskError, DiskErrorKind, LogId, Now, OperationId, PartitionState,
    PartitionStats, RefusedMessage, RequestId, SettleMessage, ShardConfig, ShardId, ShardMessage,
    SubscribeMessage, SubscribedAt, SubscribedMessage, SubscriberId,
};

#[derive(Debug, Default)]
struct Counters {
    records_in: u64,
    bytes_in: u64,
    duplicates: u64,
    records_out: u64,
    bytes_out: u64,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Partition {
    id: PartitionId,
    topic: Arc<TopicInfo>,
    log: Log,
    producers: Producers,
    acks: PendingAcks,
    cursors: BTreeMap<Subscriber, Cursor>,
    seeks: Vec<Seek>,
    queue: Queue,
    undurable_bytes_max: u64,
    /// Why the last failure, if the log is closed by one.
    failed: Option<(DiskErrorKind, String)>,
    counters: Counters,
    draining: bool,
}

impl Partition {
    /// A partition whose logs are still to be read. `cache_bytes` is its part of the budget.
    pub(crate) fn new(
        id: PartitionId,
        topic: Arc<TopicInfo>,
        config: &ShardConfig,
        cache_bytes: u64,
    ) -> Self {
        let settings = &topic.settings;
        let medium = match settings.durability {
            Durability::Fsync => Medium::Disk { sync: true },
            Durability::Written => Medium::Disk { sync: false },
            Durability::Memory => Medium::Memory,
        };
        let mixed = config.seed ^ (u64::from(id.topic.0) << 32 | u64::from(id.index) << 1);
        let data = LogConfig {
            id: LogId::Data(id),
            kind: BlockKind::Batches,
            medium,
            segment_bytes: config.segment_bytes,
            cache_bytes: match medium {
                Medium::Memory => config.memory_topic_bytes,
                Medium::Disk { .. } => cache_bytes.max(PARTITION_CACHE_BYTES_MIN),
            },
            retention_bytes: settings.retention_bytes,
            retention_ms: settings.retention_ms,
            seed: mixed,
        };
        let groups = LogConfig {
            id: LogId::Groups(id),
            kind: BlockKind::Records,
            medium,
            segment_bytes: config.groups_segment_bytes,
            cache_bytes: GROUPS_CACHE_BYTES,
            retention_bytes: 0,
            retention_ms: 0,
            seed: mixed ^ 1,
        };
        Partition {
            id,
            topic,
            log: Log::new(data),
            producers: Producers::default(),
            acks: PendingAcks::default(),
            cursors: BTreeMap::new(),
            seeks: Vec::new(),
            queue: Queue::new(id, Log::new(groups)),
            undurable_bytes_max: config.undurable_bytes,
            failed: None,
            counters: Counters::default(),
            draining: false,
        }
    }

    /// Has recovery come to an end once, well or not?
    pub(crate) fn is_settled(&self) -> bool {
        (self.log.is_known() && self.queue.is_known())
            || self.failed.is_some()
            || self.queue.detail().is_some()
    }

    /// Nothing is under way to or from the disk.
    pub(crate) fn is_idle(&self) -> bool {
        self.log.is_idle() && self.queue.is_idle() && self.acks.len() == 0
    }

    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        [self.log.poll_timeout(), self.queue.poll_timeout()].into_iter().flatten().min()
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.queue.stop();
    }

    /// Takes a batch whose checksum has been checked. Every request is answered, now or later.
    pub(crate) fn produce(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        batch: &[u8],
        out: &mut Outbox,
    ) {
        if let Err((code, message)) = self.append(now, shard, request, batch, out) {
            let retry_after_ms = if code.is_retryable() { RETRY_AFTER_MS } else { 0 };
            let refused = RefusedMessage { request, produce: true, code, message, retry_after_ms };
            out.send(shard, ShardMessage::Refused(Box::new(refused)));
        }
    }

    fn append(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        bytes: &[u8],
        out: &mut Outbox,
    ) -> Result<(), (ErrorCode, String)> {
        let plain = |code: ErrorCode| (code, code.text().to_owned());
        if self.draining {
            return Err(plain(ErrorCode::DRAINING));
        }
        if !self.log.is_open() {
            return Err(match &self.failed {
                Some((kind, detail)) => (failure_code(*kind), detail.clone()),
                None => plain(ErrorCode::PARTITION_OFFLINE),
            });
        }
        let header =
            BatchHeader::decode(bytes).map_err(|error| (error.code(), error.to_string()))?;
        match self.producers.judge(&header) {
            Judged::Refused(code) => return Err(plain(code)),
            Judged::Duplicate { base_offset, end_offset } => {
                self.counters.duplicates += 1;
                let duplicate = true;
                let ack = PendingAck { shard, request, base_offset, end_offset, duplicate };
                if end_offset <= self.log.durable_end() {
                    answer(&ack, out);
                } else if self.acks.len() < PENDING_ACKS_MAX {
                    self.acks.insert(ack);
                } else {
                    return Err(plain(ErrorCode::OVERLOADED));
                }
                return Ok(());
            }
            Judged::New => {}
        }
        let full = self.log.undurable_bytes() + bytes.len() as u64 > self.undurable_bytes_max
            && self.log.undurable_bytes() > 0;
        if full || self.acks.len() >= PENDING_ACKS_MAX {
            return Err(plain(ErrorCode::OVERLOADED));
        }
        let count = header.record_count;
        let entry = Entry { parts: [bytes, &[]], count, max_time_ms: header.max_time_ms };
        let (base_offset, stamped) = self.log.append(now, entry).map_err(|refused| {
            plain(match refused {
                AppendRefused::Closed => ErrorCode::PARTITION_OFFLINE,
                AppendRefused::TooLarge => ErrorCode::INVALID_REQUEST,
            })
        })?;
        batch::stamp(stamped, Offset(base_offset), now.wall_ms);
        self.producers.appended(&header, base_offset);
        self.counters.records_in += u64::from(count);
        self.counters.bytes_in += bytes.len() as u64;
        let end_offset = base_offset + u64::from(count);
        let duplicate = false;
        self.acks.insert(PendingAck { shard, request, base_offset, end_offset, duplicate });
        Ok(())
    }

    /// Starts a subscription; answered now, or when its start is found and its group durable.
    pub(crate) fn subscribe(&mut self, from: ShardId, message: SubscribeMessage, out: &mut Outbox) {
        let subscriber = Subscriber { shard: from, id: message.subscriber };
        let code = if self.draining {
            Some(ErrorCode::DRAINING)
        } else if !self.log.is_open() || (message.group.is_some() && !self.queue.is_online()) {
            Some(ErrorCode::PARTITION_OFFLINE)
        } else if self.cursors.len() + self.seeks.len() >= CURSORS_MAX {
            Some(ErrorCode::TOO_MANY_CONSUMERS)
        } else {
            None
        };
        if let Some(code) = code {
            self.refuse_subscription(subscriber, code, out);
            return;
        }
        let SubscribeMessage { start, group, credit_bytes, .. } = message;
        self.seeks.push(Seek::new(subscriber, start, group, credit_bytes));
    }

    pub(crate) fn credit(&mut self, from: ShardId, id: SubscriberId, bytes: u32) {
        let subscriber = Subscriber { shard: from, id };
        match self.cursors.get_mut(&subscriber) {
            Some(cursor) => cursor.credit.grant(bytes),
            // Credit for a subscription that has just ended is nothing to anybody.
            None => {
                self.queue.credit(key(subscriber), bytes);
            }
        }
    }

    pub(crate) fn settle(
        &mut self,
        now: Now,
        from: ShardId,
        message: &SettleMessage,
        out: &mut Outbox,
    ) {
        self.queue.settle(now, from, message, out);
    }

    pub(crate) fn unsubscribe(&mut self, now: Now, from: ShardId, id: SubscriberId) {
        let subscriber = Subscriber { shard: from, id };
        self.cursors.remove(&subscriber);
        self.seeks.retain(|seek| seek.subscriber != subscriber);
        self.queue.leave(now, key(subscriber));
    }

    /// The connection is gone, with all that it had here.
    pub(crate) fn disconnect(&mut self, now: Now, from: ShardId, connection: ConnectionId) {
        let of = |other: &Subscriber| other.shard == from && other.id.connection == connection;
        self.cursors.retain(|subscriber, _| !of(subscriber));
        self.seeks.retain(|seek| !of(&seek.subscriber));
        for key in self.queue.keys_of(from, connection) {
            self.queue.leave(now, key);
        }
    }

    /// An operation of one of the logs is answered; pump afterwards.
    pub(crate) fn complete(
        &mut self,
        now: Now,
        log: LogId,
        operation: OperationId,
        outcome: Result<DiskDone, DiskError>,
        operations: &mut Operations,
    ) {
        match log {
            LogId::Data(_) => self.log.complete(now, operation, outcome, operations),
            LogId::Groups(_) => self.queue.complete(now, operation, outcome, operations),
            LogId::Catalog => {}
        }
    }

    /// Does everything that can be done now.
    pub(crate) fn pump(&mut self, now: Now, operations: &mut Operations, out: &mut Outbox) {
        // A log in memory is durable at once: what it takes may let more happen.
        loop {
            self.log.pump(now, operations);
            let mut any = false;
            while let Some(event) = self.log.poll_event() {
                any = true;
                self.log_event(event, out);
            }
            let (end, start) = (self.log.durable_end(), self.log.log_start());
            while let Some(ack) = self.acks.pop_durable(end) {
                answer(&ack, out);
            }
            if self.log.is_open() {
                self.queue.advance(now, end, start);
                self.seek(now, operations, out);
            }
            let mut sent = self.queue.pump(now, &mut self.log, operations, out);
            if self.log.is_open() {
                for (subscriber, cursor) in &mut self.cursors {
                    let more = cursor.deliver(*subscriber, self.id, &mut self.log, operations, out);
                    sent.records += more.records;
                    sent.bytes += more.bytes;
                }
            }
            self.count(sent);
            if !any {
                break;
            }
        }
    }

    fn count(&mut self, sent: Sent) {
        self.counters.records_out += sent.records;
        self.counters.bytes_out += sent.bytes;
    }

    fn log_event(&mut self, event: LogEvent, out: &mut Outbox) {
        match event {
            LogEvent::Restarted => self.producers.clear(),
            LogEvent::Replayed(block) => {
                for (_, header) in batches(&block) {
                    self.producers.appended(&header, header.base_offset.0);
                }
            }
            LogEvent::Opened => self.failed = None,
            LogEvent::Durable | LogEvent::Rolled => {}
            LogEvent::Read { operation, mut blocks, next } => {
                let cursors = self.cursors.values_mut().map(|cursor| &mut cursor.reader);
                let seeks = self.seeks.iter_mut().map(|seek| &mut seek.reader);
                for reader in cursors.chain(seeks) {
                    if reader.answered(operation, &mut blocks, next) {
                        return;
                    }
                }
                self.queue.answered(operation, &mut blocks, next);
            }
            LogEvent::Failed(failure) => {
                let code = failure_code(failure.kind);
                for ack in self.acks.take() {
                    let refused = RefusedMessage {
                        request: ack.request,
                        produce: true,
                        code,
                        message: failure.detail.clone(),
                        retry_after_ms: RETRY_AFTER_MS,
                    };
                    out.send(ack.shard, ShardMessage::Refused(Box::new(refused)));
                }
                self.cursors.values_mut().for_each(|cursor| cursor.reader.reset());
                self.seeks.iter_mut().for_each(|seek| seek.reader.reset());
                self.queue.data_failed();
                self.failed = Some((failure.kind, failure.detail));
            }
        }
    }

    /// Moves subscriptions on that look for their start.
    fn seek(&mut self, now: Now, operations: &mut Operations, out: &mut Outbox) {
        for mut seek in std::mem::take(&mut self.seeks) {
            let exists =
                seek.group.as_ref().is_some_and(|options| self.queue.has_group(&options.group));
            let sought = if exists {
                Sought::Found(self.log.log_start())
            } else {
                seek.step(&mut self.log, operations)
            };
            match sought {
                Sought::Waiting => self.seeks.push(seek),
                Sought::Refused(code) => self.refuse_subscription(seek.subscriber, code, out),
                Sought::Found(at) => self.start(now, seek, at, out),
            }
        }
    }

    fn start(&mut self, now: Now, seek: Seek, at: u64, out: &mut Outbox) {
        let credit = Credit::new(seek.credit_bytes);
        let subscriber = seek.subscriber;
        if let Some(options) = seek.group {
            let joined = self.queue.join(now, key(subscriber), options, Offset(at), credit);
            if let Err(code) = joined {
                self.refuse_subscription(subscriber, code, out);
            }
            return;
        }
        self.cursors.insert(subscriber, Cursor { next: at, credit, reader: Reader::default() });
        let high_watermark = Offset(self.log.durable_end());
        let outcome = Ok(SubscribedAt { next_offset: Offset(at), high_watermark });
        let message = SubscribedMessage { subscriber: subscriber.id, partition: self.id, outcome };
        out.send(subscriber.shard, ShardMessage::Subscribed(Box::new(message)));
    }

    fn refuse_subscription(&self, subscriber: Subscriber, code: ErrorCode, out: &mut Outbox) {
        let message = SubscribedMessage {
            subscriber: subscriber.id,
            partition: self.id,
            outcome: Err(refused(code)),
        };
        out.send(subscriber.shard, ShardMessage::Subscribed(Box::new(message)));
    }

    /// Subscriptions that are not answered yet.
    pub(crate) fn is_seeking(&self) -> bool {
        !self.seeks.is_empty()
    }

    /// The partition's part of the budget, now that there are more partitions.
    pub(crate) fn set_cache_bytes(&mut self, bytes: u64) {
        self.log.set_cache_bytes(bytes.max(PARTITION_CACHE_BYTES_MIN));
    }

    fn state(&self) -> PartitionState {
        if self.log.is_open() && self.queue.is_online() {
            PartitionState::Online
        } else if self.is_settled() {
            PartitionState::Offline
        } else {
            PartitionState::Recovering
        }
    }

    pub(crate) fn subscriber_count(&self) -> usize {
        self.cursors.len() + self.queue.member_count()
    }

    pub(crate) fn stats(&self) -> PartitionStats {
        let failed = self.failed.as_ref().map(|(_, detail)| detail.as_str());
        let detail = match (failed.or_else(|| self.queue.detail()), self.log.report()) {
            (Some(detail), _) => detail.to_owned(),
            (None, Some(report)) => report.to_string(),
            (None, None) => String::new(),
        };
        let groups = self.queue.stats();
        PartitionStats {
            topic: self.topic.name.clone(),
            partition: self.id,
            state: self.state(),
            detail,
            log_start: self.log.log_start(),
            high_watermark: self.log.durable_end(),
            records_in: self.counters.records_in,
            bytes_in: self.counters.bytes_in,
            duplicates: self.counters.duplicates,
            records_out: self.counters.records_out,
            bytes_out: self.counters.bytes_out,
            log_bytes: self.log.bytes(),
            segments: u32::try_from(self.log.segment_count()).unwrap_or(u32::MAX),
            subscribers: u32::try_from(self.subscriber_count()).unwrap_or(u32::MAX),
            records_lost_to_groups: groups.iter().map(|group| group.skipped_records).sum(),
            groups,
        }
    }

    /// Answers a request for a partition that cannot take it.
    pub(crate) fn refuse(to: ShardId, request: RequestId, code: ErrorCode, out: &mut Outbox) {
        refuse(to, request, code, out);
    }
}

fn key(subscriber: Subscriber) -> MemberKey {
    MemberKey {
        shard: subscriber.shard,
        connection: subscriber.id.connection,
        subscription: subscriber.id.subscription,
    }
}

fn answer(ack: &PendingAck, out: &mut Outbox) {
    let message = ShardMessage::Produced {
        request: ack.request,
        base_offset: Offset(ack.base_offset),
        duplicate: ack.duplicate,
    };
    out.send(ack.shard, message);
}

fn failure_code(kind: DiskErrorKind) -> ErrorCode {
    match kind {
        DiskErrorKind::NoSpace => ErrorCode::NO_SPACE,
        DiskErrorKind::Io => ErrorCode::STORAGE_FAILED,
    }
}
