//! The catalog: which topics there are. Shard 0 alone has it.
//!
//! ```text
//!   CreateTopic ─▶ checked ─▶ appended ─▶ durable ─▶ OpenTopic to all shards ─▶ all opened ─▶ answered
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lanecast_wire::limits::TOPICS_MAX;
use lanecast_wire::message::{CreateTopic, TopicInfo};
use lanecast_wire::{ErrorCode, TopicId};

use super::topic_record;
use crate::disk::Operations;
use crate::limits::{CATALOG_WAITERS_MAX, GROUPS_CACHE_BYTES, PARTITIONS_MAX, RETRY_AFTER_MS};
use crate::log::{BlockKind, Entry, Log, LogConfig, LogEvent, Medium, records};
use crate::outbox::Outbox;
use crate::{
    Action, DiskDone, DiskError, LogId, Now, OperationId, RefusedMessage, RequestId, ShardConfig,
    ShardId, ShardMessage,
};

/// Somebody who wants to know when a topic is there.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    shard: ShardId,
    request: RequestId,
}

/// A topic that some shards have not opened yet.
#[derive(Debug)]
struct Opening {
    left: u16,
    waiters: Vec<Waiter>,
}

/// A topic in the log, not durable yet.
#[derive(Debug)]
struct Pending {
    end: u64,
    topic: Arc<TopicInfo>,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
pub(super) struct Catalog {
    shards: u16,
    log: Log,
    topics: BTreeMap<TopicId, Arc<TopicInfo>>,
    pending: VecDeque<Pending>,
    opening: BTreeMap<TopicId, Opening>,
    announced: bool,
}

impl Catalog {
    pub(super) fn new(config: &ShardConfig) -> Self {
        let log = Log::new(LogConfig {
            id: LogId::Catalog,
            kind: BlockKind::Records,
            medium: Medium::Disk { sync: true },
            segment_bytes: config.groups_segment_bytes,
            cache_bytes: GROUPS_CACHE_BYTES,
            retention_bytes: 0,
            retention_ms: 0,
            seed: config.seed ^ u64::MAX,
        });
        Catalog {
            shards: config.shards,
            log,
            topics: BTreeMap::new(),
            pending: VecDeque::new(),
            opening: BTreeMap::new(),
            announced: false,
        }
    }

    pub(super) fn stop(&mut self) {
        self.log.stop();
    }

    pub(super) fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.log.poll_timeout()
    }

    pub(super) fn complete(
        &mut self,
        now: Now,
        operation: OperationId,
        outcome: Result<DiskDone, DiskError>,
        operations: &mut Operations,
    ) {
        self.log.complete(now, operation, outcome, operations);
    }

    /// Makes a topic, or finds it made.
    pub(super) fn create(
        &mut self,
        now: Now,
        shard: ShardId,
        request: RequestId,
        create: &CreateTopic,
        out: &mut Outbox,
    ) {
        let waiter = Waiter { shard, request };
        if let Err((code, message)) = self.try_create(now, waiter, create, out) {
            refuse(waiter, code, message, out);
        }
    }

    fn try_create(
        &mut self,
        now: Now,
        waiter: Waiter,
        create: &CreateTopic,
        out: &mut Outbox,
    ) -> Result<(), (ErrorCode, String)> {
        let plain = |code: ErrorCode| (code, code.text().to_owned());
        if !self.announced {
            // A topic that is only half read may be known here and on no other shard.
            return Err(plain(ErrorCode::PARTITION_OFFLINE));
        }
        if let Some(pending) = self.pending.iter_mut().find(|other| other.topic.name == create.name)
        {
            same(&pending.topic, create)?;
            return wait(&mut pending.waiters, waiter);
        }
        if let Some(topic) = self.topics.values().find(|topic| topic.name == create.name) {
            same(topic, create)?;
            let id = TopicId(topic.topic);
            if let Some(opening) = self.opening.get_mut(&id) {
                return wait(&mut opening.waiters, waiter);
            }
            let created = ShardMessage::TopicCreated { request: waiter.request, topic: id };
            out.send(waiter.shard, created);
            return Ok(());
        }
        self.check_changeable()?;
        let partitions = match create.partitions {
            0 => u32::from(self.shards),
            given => given,
        };
        let all = self.topics.values().chain(self.pending.iter().map(|pending| &pending.topic));
        let (mut topics, mut others, mut last) = (0, 0, 0);
        for topic in all {
            topics += 1;
            others += topic.partitions as usize;
            last = last.max(topic.topic);
        }
        if topics >= TOPICS_MAX || others + partitions as usize > PARTITIONS_MAX {
            return Err(plain(ErrorCode::TOO_MANY_TOPICS));
        }
        let topic = Arc::new(TopicInfo {
            topic: last + 1,
            name: create.name.clone(),
            partitions,
            settings: create.settings.clone(),
        });
        let record = topic_record::encode(&topic);
        let prefix = records::prefix(&record);
        let entry = Entry { parts: [&prefix, &record], count: 1, max_time_ms: i64::MIN };
        let (offset, _) =
            self.log.append(now, entry).map_err(|_| plain(ErrorCode::PARTITION_OFFLINE))?;
        self.pending.push_back(Pending { end: offset + 1, topic, waiters: vec![waiter] });
        Ok(())
    }

    /// Topics that can be read are served. But with records lost nobody knows which numbers were
    /// given out, and under each lie a topic's files.
    fn check_changeable(&self) -> Result<(), (ErrorCode, String)> {
        if let Some(damage) = self.log.lost() {
            let message = format!(
                "topics cannot be changed: the catalog is damaged, {damage}; \
                 restore the catalog's segment from a copy"
            );
            return Err((ErrorCode::STORAGE_FAILED, message));
        }
        if self.log.is_open() {
            return Ok(());
        }
        Err((ErrorCode::PARTITION_OFFLINE, ErrorCode::PARTITION_OFFLINE.text().to_owned()))
    }

    /// A shard has opened its partitions of a topic.
    pub(super) fn opened(&mut self, topic: TopicId, out: &mut Outbox) {
        let Some(opening) = self.opening.get_mut(&topic) else { return };
        opening.left = opening.left.saturating_sub(1);
        if opening.left > 0 {
            return;
        }
        let waiters = self.opening.remove(&topic).map_or(Vec::new(), |opening| opening.waiters);
        for waiter in waiters {
            let created = ShardMessage::TopicCreated { request: waiter.request, topic };
            out.send(waiter.shard, created);
        }
    }

    /// Does everything that can be done now.
    pub(super) fn pump(&mut self, now: Now, operations: &mut Operations, out: &mut Outbox) {
        self.log.pump(now, operations);
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Replayed(block) => {
                    // What does not read is of a newer broker; its number is not given out again
                    // only as long as that broker's topics come first.
                    for topic in
                        records::iter(&block.payload).filter_map(|r| topic_record::decode(&r))
                    {
                        self.topics.insert(TopicId(topic.topic), Arc::new(topic));
                    }
                }
                LogEvent::Opened if !self.announced => {
                    self.announced = true;
                    for topic in self.topics.values() {
                        for shard in 0..self.shards {
                            out.send(ShardId(shard), ShardMessage::OpenTopic(topic.clone()));
                        }
                    }
                    for shard in 0..self.shards {
                        out.send(ShardId(shard), ShardMessage::CatalogReady);
                    }
                }
                LogEvent::Durable => self.durable(out),
                LogEvent::Failed(failure) => {
                    for pending in std::mem::take(&mut self.pending) {
                        for waiter in pending.waiters {
                            let code = ErrorCode::STORAGE_FAILED;
                            refuse(waiter, code, failure.detail.clone(), out);
                        }
                    }
                }
                LogEvent::Damaged(damage) => {
                    out.actions.push_back(Action::Damaged { log: LogId::Catalog, damage });
                }
                LogEvent::Restarted
                | LogEvent::Opened
                | LogEvent::Rolled
                | LogEvent::Read { .. } => {}
            }
        }
    }

    fn durable(&mut self, out: &mut Outbox) {
        let end = self.log.durable_end();
        while self.pending.front().is_some_and(|pending| pending.end <= end) {
            let Some(Pending { topic, waiters, .. }) = self.pending.pop_front() else { return };
            let id = TopicId(topic.topic);
            self.topics.insert(id, topic.clone());
            self.opening.insert(id, Opening { left: self.shards, waiters });
            for shard in 0..self.shards {
                out.send(ShardId(shard), ShardMessage::OpenTopic(topic.clone()));
            }
        }
    }
}

fn same(topic: &TopicInfo, create: &CreateTopic) -> Result<(), (ErrorCode, String)> {
    let partitions = create.partitions == 0 || create.partitions == topic.partitions;
    if partitions && create.settings == topic.settings {
        return Ok(());
    }
    let message = format!(
        "topic {} exists with {} partitions and {:?}",
        topic.name, topic.partitions, topic.settings
    );
    Err((ErrorCode::TOPIC_EXISTS, message))
}

fn wait(waiters: &mut Vec<Waiter>, waiter: Waiter) -> Result<(), (ErrorCode, String)> {
    if waiters.len() >= CATALOG_WAITERS_MAX {
        return Err((ErrorCode::OVERLOADED, ErrorCode::OVERLOADED.text().to_owned()));
    }
    waiters.push(waiter);
    Ok(())
}

fn refuse(waiter: Waiter, code: ErrorCode, message: String, out: &mut Outbox) {
    let retry_after_ms = if code.is_retryable() { RETRY_AFTER_MS } else { 0 };
    let refused =
        RefusedMessage { request: waiter.request, produce: false, code, message, retry_after_ms };
    out.send(waiter.shard, ShardMessage::Refused(Box::new(refused)));
}
