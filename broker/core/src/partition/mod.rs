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

mod account;
mod acks;
mod batch;
mod burials;
mod credit;
mod cursor;
mod members;
mod positions;
mod produce;
mod producers;
mod queue;
mod reader;
mod seek;
mod sieve;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use lanecast_wire::message::{Durability, OnFull, TopicInfo};
use lanecast_wire::{ErrorCode, Offset, PartitionId, ProducerEpoch, dead_letter};

use self::account::Account;
use self::acks::PendingAcks;
pub(crate) use self::batch::Batch;
use self::burials::{Burials, Site};
use self::cursor::{Cursor, Sent, Subscriber};
use self::positions::Move;
use self::producers::Producers;
pub(crate) use self::producers::{Known, read_snapshot};
use self::queue::{Queue, refuse};
use self::reader::batches;
use self::seek::Seek;
use crate::disk::Operations;
use crate::group::{GroupId, GroupSettings, MemberKey};
use crate::limits::{GROUPS_CACHE_BYTES, PARTITION_CACHE_BYTES_MIN};
use crate::log::{Block, BlockKind, Log, LogConfig, LogEvent, Medium};
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::ttl::TtlClock;
use crate::{
    Action, DiskDone, DiskError, DiskErrorKind, LogId, Now, OperationId, PartitionState,
    PartitionStats, RequestId, ShardConfig, ShardId, invariants,
};

#[derive(Debug, Default)]
struct Counters {
    records_in: u64,
    bytes_in: u64,
    duplicates: u64,
    records_out: u64,
    bytes_out: u64,
    records_filtered: u64,
    records_expired: u64,
    records_missed: u64,
    batches_dropped: u64,
    records_dropped: u64,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Partition {
    id: PartitionId,
    topic: Arc<TopicInfo>,
    /// Tells this log from any other that subscribers may remember a position of.
    log_epoch: u64,
    log: Log,
    producers: Producers,
    acks: PendingAcks,
    cursors: BTreeMap<Subscriber, Cursor>,
    /// The cursor that has asked for a read last: those behind it come first.
    asked_last: Option<Subscriber>,
    seeks: Vec<Seek>,
    moves: Vec<Move>,
    queue: Queue,
    /// As the topic and the broker want them.
    group_settings: GroupSettings,
    ttl: TtlClock,
    burials: Burials,
    undurable_bytes_max: u64,
    account: Account,
    /// What was shown last.
    high_watermark: Offset,
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
            adopted_bytes_min: config.adopted_bytes_min,
            cache_bytes: match medium {
                Medium::Memory => config.memory_topic_bytes,
                Medium::Disk { .. } => cache_bytes.max(PARTITION_CACHE_BYTES_MIN),
            },
            retention_bytes: settings.retention_bytes,
            retention_ms: settings.retention_ms,
            seed: mixed,
        };
        // Bounds stand whatever becomes of the records. Else a power cut would let those that are
        // left be bound anew, and a sink store them once more under another name.
        let groups_medium = match medium {
            Medium::Disk { .. } => Medium::Disk { sync: !planted(Mutant::LeaveGroupsUnflushed) },
            Medium::Memory => Medium::Memory,
        };
        let groups = LogConfig {
            id: LogId::Groups(id),
            kind: BlockKind::Records,
            medium: groups_medium,
            segment_bytes: config.groups_segment_bytes,
            adopted_bytes_min: usize::MAX,
            cache_bytes: GROUPS_CACHE_BYTES,
            retention_bytes: 0,
            retention_ms: 0,
            seed: mixed ^ 1,
        };
        let log_epoch = match medium {
            // It begins again with each start of the broker.
            Medium::Memory => mixed.max(1),
            Medium::Disk { .. } => config.directory.get(),
        };
        let mut log = Log::new(data);
        log.count_in(config.budget.alive.clone());
        let chunks_out = config.group_chunks_out;
        let base = GroupSettings { chunks_out, seed: mixed, ..GroupSettings::default() };
        let group_settings = group_settings(&topic, base);
        Partition {
            id,
            topic,
            log_epoch,
            log,
            producers: Producers::default(),
            acks: PendingAcks::default(),
            cursors: BTreeMap::new(),
            asked_last: None,
            seeks: Vec::new(),
            moves: Vec::new(),
            queue: Queue::new(id, log_epoch, Log::new(groups), group_settings),
            group_settings,
            ttl: TtlClock::default(),
            burials: Burials::new(config.shard),
            undurable_bytes_max: config.undurable_bytes,
            account: Account::new(config.budget.clone()),
            high_watermark: Offset(0),
            failed: None,
            counters: Counters::default(),
            draining: false,
        }
    }

    /// The topic has other settings.
    pub(crate) fn set_topic(&mut self, now: Now, topic: Arc<TopicInfo>) {
        let settings = &topic.settings;
        self.log.set_retention(settings.retention_bytes, settings.retention_ms);
        self.group_settings = group_settings(&topic, self.group_settings);
        self.topic = topic;
        self.age(now);
        self.queue.configure(now, self.group_settings);
    }

    /// What became of a dead letter of one of this partition's groups.
    pub(crate) fn buried(
        &mut self,
        now: Now,
        group: GroupId,
        epoch: ProducerEpoch,
        number: u64,
        outcome: Result<(), ErrorCode>,
    ) {
        self.burials.buried(now, group, epoch, number, outcome);
    }

    /// The topic is deleted. Whoever waits for something else than a subscription is told.
    pub(crate) fn close(mut self, out: &mut Outbox) {
        let code = ErrorCode::UNKNOWN_TOPIC;
        for ack in self.acks.take() {
            ack.refuse(code, code.text(), out);
        }
        self.refuse_moves(code, out);
        self.queue.close(code, out);
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
        // A closed log wakes the partition when it opens; until then neither has anything to say.
        let open = self.log.is_open();
        let cursors = self.cursors.values().filter(|_| open).filter_map(Cursor::poll_timeout).min();
        let burials = self.burials.poll_timeout().filter(|_| open && !self.draining);
        let logs = [self.log.poll_timeout(), self.queue.poll_timeout()];
        logs.into_iter().chain([cursors, burials]).flatten().min()
    }

    /// Ends what nothing will answer any more: what looks for its place in the log, and what waits
    /// for dead letters.
    pub(crate) fn drain(&mut self, out: &mut Outbox) {
        self.draining = true;
        self.refuse_seeks(ErrorCode::DRAINING, out);
        self.refuse_moves(ErrorCode::DRAINING, out);
        self.log.stop();
        self.queue.stop();
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

    /// What has outlived its time by now. Groups have to know before anything makes them hand out:
    /// a partition may not have been looked at for long.
    fn age(&mut self, now: Now) -> Option<i64> {
        let horizon_ms = self.ttl.horizon_ms(now, self.topic.settings.record_ttl_ms);
        self.queue.set_horizon(horizon_ms);
        horizon_ms
    }

    /// Does everything that can be done now.
    pub(crate) fn pump(&mut self, now: Now, operations: &mut Operations, out: &mut Outbox) {
        let horizon_ms = self.age(now);
        // A log in memory is durable at once: what it takes may let more happen.
        loop {
            let hold = self.hold(now).filter(|_| !planted(Mutant::RetainPastLeases));
            self.log.set_hold(hold);
            self.log.pump(now, operations);
            let mut any = false;
            while let Some(event) = self.log.poll_event() {
                any = true;
                self.log_event(now, event, out);
            }
            let end = self.log.durable_end();
            let flushed =
                if planted(Mutant::AcknowledgeBeforeFlush) { self.log.next_offset() } else { end };
            while let Some(ack) = self.acks.pop_durable(flushed) {
                ack.answer(out);
            }
            if let Some(detail) = self.log.no_space() {
                // What is appended waits; whoever sent it is told, and finds it once there is space.
                for ack in self.acks.take() {
                    ack.refuse(ErrorCode::NO_SPACE, detail, out);
                }
            }
            if self.log.is_open() {
                let (before, after) = (self.high_watermark, Offset(end));
                assert!(invariants::watermark_advances(before, after), "{}: {before}", self.id);
                self.high_watermark = after;
                self.queue.advance(now, &self.log);
                self.move_groups(operations, out);
            }
            self.seek(now, operations, out);
            let were_groups_online = self.queue.is_online();
            let mut sent = self.queue.pump(now, &mut self.log, operations, out);
            any |= !were_groups_online && self.queue.is_online();
            if self.log.is_open() {
                self.deliver(now, horizon_ms, &mut sent, operations, out);
            }
            self.count(sent);
            if self.log.is_open() && !self.draining {
                let site = Site { now, origin: self.id, topic: &self.topic };
                any |= self.burials.pump(site, &mut self.queue, &mut self.log, operations, out);
            }
            if !any {
                break;
            }
        }
        if self.log.caches_in_vain(now) {
            let cursors = self.cursors.values().map(|cursor| cursor.next).min();
            self.log.pass(cursors.unwrap_or(u64::MAX).min(self.queue.lowest_needed()));
        }
        self.account.update(&self.log);
    }

    /// Lets go of what was read ahead for subscribers that do not take it now: others wait for the
    /// memory. It is read again when they do.
    pub(crate) fn release_reads(&mut self) {
        self.cursors.values_mut().for_each(|cursor| cursor.reader.release());
        self.queue.release_reads();
        self.burials.release_reads();
    }

    fn count(&mut self, sent: Sent) {
        self.counters.records_out += sent.records;
        self.counters.bytes_out += sent.bytes;
        self.counters.records_filtered += sent.filtered;
        self.counters.records_expired += sent.expired;
        self.counters.records_missed += sent.missed;
    }

    fn replay(&mut self, now: Now, block: &Block) {
        match block.header.kind {
            BlockKind::Batches => {
                for (_, header) in batches(block) {
                    self.producers.replayed(now, &header);
                }
            }
            BlockKind::ProducersPart => self.producers.restore(now, &block.payload, false),
            BlockKind::Producers => self.producers.restore(now, &block.payload, true),
            BlockKind::Mark | BlockKind::Opening | BlockKind::Records => {}
        }
    }

    /// Each segment holds all that is known of producers where it begins, or soon after: retention
    /// takes those before it, and with them the batches that it could be known from.
    fn write_producers(&mut self, now: Now) {
        if !self.log.wants_producers() {
            return;
        }
        let parts = self.producers.snapshot(now, self.log.aside_bytes_max());
        let mut parts = parts.into_iter().peekable();
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            let kind = if last { BlockKind::Producers } else { BlockKind::ProducersPart };
            self.log.append_aside(kind, &part);
        }
    }

    fn log_event(&mut self, now: Now, event: LogEvent, out: &mut Outbox) {
        match event {
            LogEvent::Restarted => self.producers.clear(),
            LogEvent::Replayed(_) if planted(Mutant::ForgetDeduplication) => {}
            LogEvent::Replayed(block) => self.replay(now, &block),
            LogEvent::Damaged(damage) => {
                if !self.log.is_open() && damage.is_hole() {
                    self.producers.lost_some();
                }
                out.actions.push_back(Action::Damaged { log: LogId::Data(self.id), damage });
            }
            LogEvent::Opened => {
                self.failed = None;
                let damages = self.log.damages();
                self.producers.forget_lost(|offset| damages.find(offset).is_some());
                self.write_producers(now);
            }
            LogEvent::Rolled => self.write_producers(now),
            LogEvent::Durable => {}
            LogEvent::Read { operation, mut blocks, next } => {
                let cursors = self.cursors.values_mut().map(|cursor| &mut cursor.reader);
                let seeks = self.seeks.iter_mut().map(|seek| &mut seek.search.reader);
                let moves = self.moves.iter_mut().map(|moved| &mut moved.search.reader);
                for reader in cursors.chain(seeks).chain(moves) {
                    if reader.answered(operation, &mut blocks, next) {
                        return;
                    }
                }
                if !self.burials.answered(operation, &mut blocks, next) {
                    self.queue.answered(operation, &mut blocks, next);
                }
            }
            LogEvent::Failed(failure) => {
                let code = failure_code(failure.kind);
                for ack in self.acks.take() {
                    ack.refuse(code, &failure.detail, out);
                }
                self.cursors.values_mut().for_each(|cursor| cursor.reader.reset());
                self.seeks.iter_mut().for_each(|seek| seek.search.reader.reset());
                self.refuse_moves(code, out);
                self.queue.data_failed();
                self.burials.data_failed();
                self.failed = Some((failure.kind, failure.detail));
            }
        }
    }

    /// Where retention stops: at what members work on, unless the topic says otherwise; and while
    /// nobody knows what that is, at everything.
    fn hold(&self, now: Now) -> Option<u64> {
        let settings = &self.topic.settings;
        let is_limited = settings.retention_bytes > 0 || settings.retention_ms > 0;
        let drops = settings.on_full == OnFull::DropOld;
        let holds = is_limited && !settings.retention_breaks_leases && !drops;
        match holds {
            true if self.queue.is_online() => self.queue.lowest_held(now).map(|offset| offset.0),
            true => Some(0),
            false => None,
        }
    }

    /// Up to where what is gone gave way to newer records because the topic drops the old. Without
    /// retention by time everything did; else what an earlier process took counts as retention.
    fn replaced_upto(&self) -> u64 {
        let settings = &self.topic.settings;
        match (settings.on_full, settings.retention_ms) {
            (OnFull::DropOld, 0) => u64::MAX,
            (OnFull::DropOld, _) => self.log.replaced_upto(),
            (OnFull::Block | OnFull::DropNew, _) => 0,
        }
    }

    /// Subscriptions that are not answered yet.
    pub(crate) fn is_seeking(&self) -> bool {
        !self.seeks.is_empty()
    }

    /// The partition's part of the budget, now that there are more partitions.
    pub(crate) fn set_cache_bytes(&mut self, bytes: u64) {
        self.log.set_cache_bytes(bytes.max(PARTITION_CACHE_BYTES_MIN));
    }

    /// A failure has closed it, and it has not recovered yet.
    pub(crate) fn is_offline(&self) -> bool {
        self.state() == PartitionState::Offline
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
        let failed = failed.or_else(|| self.log.no_space());
        let damages = self.log.damages();
        let damage = damages.iter().next();
        let detail = match (failed.or_else(|| self.queue.detail()), self.log.report(), damage) {
            (Some(detail), _, _) => detail.to_owned(),
            (None, Some(report), Some(damage)) => format!("{report}; first: {damage}"),
            (None, Some(report), None) => report.to_string(),
            (None, None, _) => String::new(),
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
            records_filtered: self.counters.records_filtered,
            records_expired: self.counters.records_expired,
            records_missed: self.counters.records_missed,
            batches_dropped: self.counters.batches_dropped,
            records_dropped: self.counters.records_dropped,
            burials: u32::try_from(self.burials.len()).unwrap_or(u32::MAX),
            letter_retries: self.burials.retries,
            letter_records_lost: self.burials.lost_records,
            log_bytes: self.log.bytes(),
            segments: u32::try_from(self.log.segment_count()).unwrap_or(u32::MAX),
            damaged_places: damages.iter().count() as u64,
            damaged_records: damages.records(),
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

fn group_settings(topic: &TopicInfo, before: GroupSettings) -> GroupSettings {
    GroupSettings {
        max_attempts: topic.settings.max_attempts,
        dead_letters: dead_letter::topic_name(&topic.name).is_some(),
        record_ttl_ms: topic.settings.record_ttl_ms,
        ..before
    }
}

fn key(subscriber: Subscriber) -> MemberKey {
    MemberKey {
        shard: subscriber.shard,
        connection: subscriber.id.connection,
        subscription: subscriber.id.subscription,
    }
}

fn failure_code(kind: DiskErrorKind) -> ErrorCode {
    match kind {
        DiskErrorKind::NoSpace => ErrorCode::NO_SPACE,
        DiskErrorKind::Io => ErrorCode::STORAGE_FAILED,
    }
}
