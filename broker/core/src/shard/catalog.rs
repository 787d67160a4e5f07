//! The catalog: which topics there are, and how they are set. Shard 0 alone has it.
//!
//! ```text
//!   CreateTopic ─▶ checked ─▶ appended ─▶ durable ─▶ OpenTopic to all shards ─▶ all heard ─▶ answered
//!   AlterTopic  ─▶    "          "           "   ─▶ ChangeTopic to all  ──────▶    "    ─▶    "
//!   DeleteTopic ─▶    "          "           "   ─▶ CloseTopic to all   ──────▶    "    ─▶    "
//!                                                                          all removed ─▶ "gone"
//! ```
//!
//! One change of a topic at a time: the next one is refused for now until all shards have heard of
//! the one before. A deleted topic's name is free as soon as its tombstone is durable; its number
//! is never given out again. Shards remove its files behind that; whatever stops them, they are
//! told again at the next start, until the catalog has it that nothing is left.
//!
//! When a new segment has begun, all topics are written to it, and the older segments go.

mod changes;
mod replay;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lanecast_wire::limits::{NAME_BYTES_MAX, TOPICS_MAX};
use lanecast_wire::message::{AlterTopic, CreateTopic, Durability, TopicInfo, TopicSettings};
use lanecast_wire::{ErrorCode, TopicId, dead_letter};

use self::changes::{Change, Pending, Telling, Told};
use self::replay::Known;
use crate::disk::Operations;
use crate::limits::{CATALOG_WAITERS_MAX, GROUPS_CACHE_BYTES, PARTITIONS_MAX, RETRY_AFTER_MS};
use crate::log::{BlockKind, Log, LogConfig, LogEvent, Medium};
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::{
    Action, DiskDone, DiskError, LogId, Now, OperationId, RefusedMessage, RequestId, ShardConfig,
    ShardId, ShardMessage,
};

/// Somebody who wants to know when a change is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) shard: ShardId,
    pub(super) request: RequestId,
}

/// Why a request is refused.
type Refused = (ErrorCode, String);

#[derive(Debug)]
pub(super) struct Catalog {
    shards: u16,
    log: Log,
    known: Known,
    /// In the log, not durable yet.
    pending: VecDeque<Pending>,
    /// Topics of whose last change some shards have not heard.
    telling: BTreeMap<TopicId, Telling>,
    /// Deleted topics, and how many shards still have files of them.
    removing: BTreeMap<TopicId, u16>,
    /// What the log says while it is read.
    replayed: Known,
    announced: bool,
    /// All topics are written down up to here, and that began in this many segments.
    snapshot: Option<(u64, usize)>,
}

impl Catalog {
    pub(super) fn new(config: &ShardConfig) -> Self {
        let log = Log::new(LogConfig {
            id: LogId::Catalog,
            kind: BlockKind::Records,
            medium: Medium::Disk { sync: true },
            segment_bytes: config.groups_segment_bytes,
            adopted_bytes_min: usize::MAX,
            cache_bytes: GROUPS_CACHE_BYTES,
            retention_bytes: 0,
            retention_ms: 0,
            seed: config.seed ^ u64::MAX,
        });
        Catalog {
            shards: config.shards,
            log,
            known: Known::default(),
            pending: VecDeque::new(),
            telling: BTreeMap::new(),
            removing: BTreeMap::new(),
            replayed: Known::default(),
            announced: false,
            snapshot: None,
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
        waiter: Waiter,
        create: &CreateTopic,
        out: &mut Outbox,
    ) {
        if let Err(refused) = self.try_create(now, waiter, create, out) {
            refuse(waiter, refused, out);
        }
    }

    /// Changes settings of a topic.
    pub(super) fn alter(&mut self, now: Now, waiter: Waiter, alter: &AlterTopic, out: &mut Outbox) {
        if let Err(refused) = self.try_alter(now, waiter, alter) {
            refuse(waiter, refused, out);
        }
    }

    /// Deletes a topic.
    pub(super) fn delete(&mut self, now: Now, waiter: Waiter, name: &str, out: &mut Outbox) {
        if let Err(refused) = self.try_delete(now, waiter, name) {
            refuse(waiter, refused, out);
        }
    }

    /// Makes a topic's dead-letter topic. Whoever needs it asks again until it is there.
    pub(super) fn create_dead_letters(&mut self, now: Now, origin: TopicId) {
        let Some(origin) = self.known.topics.get(&origin) else { return };
        let Some(name) = dead_letter::topic_name(&origin.name) else { return };
        let partitions = origin.partitions;
        if self.is_changing(&name) || self.known.by_name(&name).is_some() {
            return;
        }
        let settings = dead_letter_settings();
        // Refused for now, or for good: the dead records wait.
        let _asked_again =
            self.append_topic(now, &CreateTopic { name, partitions, settings }, None);
    }

    fn try_create(
        &mut self,
        now: Now,
        waiter: Waiter,
        create: &CreateTopic,
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        self.check_announced()?;
        let same_name = |other: &&mut Pending| match &other.change {
            Change::Create(topic) => topic.name == create.name,
            Change::Alter(_) | Change::Delete { .. } | Change::Gone { .. } => false,
        };
        if let Some(pending) = self.pending.iter_mut().find(same_name) {
            if let Change::Create(topic) = &pending.change {
                same(topic, create)?;
            }
            return wait(&mut pending.waiters, waiter);
        }
        if self.is_changing(&create.name) {
            return Err(busy(&create.name));
        }
        if let Some(topic) = self.known.by_name(&create.name) {
            same(topic, create)?;
            let id = TopicId(topic.topic);
            if let Some(telling) = self.telling.get_mut(&id)
                && telling.told == Told::Made
            {
                return wait(&mut telling.waiters, waiter);
            }
            let ready = ShardMessage::TopicReady { request: waiter.request, topic: id };
            out.send(waiter.shard, ready);
            return Ok(());
        }
        self.append_topic(now, create, Some(waiter))
    }

    fn append_topic(
        &mut self,
        now: Now,
        create: &CreateTopic,
        waiter: Option<Waiter>,
    ) -> Result<(), Refused> {
        self.check_name(&create.name)?;
        let partitions = match create.partitions {
            0 => u32::from(self.shards),
            given => given,
        };
        let made = self.pending.iter().filter_map(|pending| match &pending.change {
            Change::Create(topic) => Some(topic),
            Change::Alter(_) | Change::Delete { .. } | Change::Gone { .. } => None,
        });
        let (mut topics, mut others, mut last) = (0, 0, self.known.last.0);
        for topic in self.known.topics.values().chain(made) {
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
        self.append(now, Change::Create(topic), waiter)
    }

    /// Topics that can be read are served. But with records lost nobody knows which numbers were
    /// given out, and under each lie a topic's files.
    fn check_changeable(&self) -> Result<(), Refused> {
        if let Some(damage) = self.log.lost() {
            let message = format!(
                "topics cannot be changed: the catalog is damaged, {damage}; \
                 restore the catalog's segment from a copy, or start the version that wrote it"
            );
            return Err((ErrorCode::DATA_DAMAGED, message));
        }
        if let Some(detail) = self.log.no_space() {
            return Err((ErrorCode::NO_SPACE, detail.to_owned()));
        }
        if self.log.is_open() {
            return Ok(());
        }
        Err((ErrorCode::PARTITION_OFFLINE, ErrorCode::PARTITION_OFFLINE.text().to_owned()))
    }

    /// A topic's dead-letter topic has to have a name, too, and has none of its own.
    fn check_name(&self, name: &str) -> Result<(), Refused> {
        let plain = name.strip_suffix(dead_letter::SUFFIX);
        let message = match plain {
            None if name.len() + dead_letter::SUFFIX.len() > NAME_BYTES_MAX => format!(
                "topic {name}: with {} the name has more than {NAME_BYTES_MAX} bytes",
                dead_letter::SUFFIX
            ),
            Some(origin) if origin.is_empty() || dead_letter::is_topic_name(origin) => {
                format!("topic {name}: a dead-letter topic has no dead-letter topic")
            }
            None | Some(_) => return Ok(()),
        };
        Err((ErrorCode::INVALID_NAME, message))
    }

    fn try_alter(&mut self, now: Now, waiter: Waiter, alter: &AlterTopic) -> Result<(), Refused> {
        let topic = self.changeable(&alter.name)?;
        let settings = altered(&topic.settings, alter);
        let topic = TopicInfo { settings, ..TopicInfo::clone(&topic) };
        self.append(now, Change::Alter(Arc::new(topic)), Some(waiter))
    }

    fn try_delete(&mut self, now: Now, waiter: Waiter, name: &str) -> Result<(), Refused> {
        let topic = self.changeable(name)?;
        let (id, partitions) = (TopicId(topic.topic), topic.partitions);
        self.append(now, Change::Delete { topic: id, partitions }, Some(waiter))
    }

    /// The topic of this name, if it exists and no change of it is under way.
    fn changeable(&self, name: &str) -> Result<Arc<TopicInfo>, Refused> {
        self.check_announced()?;
        if self.is_changing(name) {
            return Err(busy(name));
        }
        let topic = self.known.by_name(name).ok_or_else(|| plain(ErrorCode::UNKNOWN_TOPIC))?;
        if self.telling.contains_key(&TopicId(topic.topic)) {
            return Err(busy(name));
        }
        Ok(topic.clone())
    }

    /// A topic that is only half read may be known here and on no other shard.
    fn check_announced(&self) -> Result<(), Refused> {
        if self.announced { Ok(()) } else { Err(plain(ErrorCode::PARTITION_OFFLINE)) }
    }

    /// Is a change of a topic of this name in the log and not durable yet?
    fn is_changing(&self, name: &str) -> bool {
        self.pending.iter().any(|pending| match &pending.change {
            Change::Create(topic) | Change::Alter(topic) => topic.name == name,
            Change::Delete { topic, .. } => {
                self.known.topics.get(topic).is_some_and(|topic| topic.name == name)
            }
            Change::Gone { .. } => false,
        })
    }

    /// Does everything that can be done now.
    pub(super) fn pump(&mut self, now: Now, operations: &mut Operations, out: &mut Outbox) {
        self.log.pump(now, operations);
        if planted(Mutant::AnswerChangesEarly) {
            self.durable(out);
        }
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Restarted => self.replayed = Known::default(),
                LogEvent::Replayed(block) => {
                    if let Some(number) = self.replayed.replay(&block.payload) {
                        self.log.note_unreadable(now, &block, number);
                    }
                }
                LogEvent::Opened if !self.announced => {
                    self.known = std::mem::take(&mut self.replayed);
                    self.announce(out);
                }
                // What is durable was known before the log failed.
                LogEvent::Opened => self.replayed = Known::default(),
                LogEvent::Durable => self.durable(out),
                LogEvent::Rolled => self.write_snapshot(now),
                LogEvent::Failed(failure) => {
                    self.snapshot = None;
                    for pending in std::mem::take(&mut self.pending) {
                        for waiter in pending.waiters {
                            let refused = (ErrorCode::STORAGE_FAILED, failure.detail.clone());
                            refuse(waiter, refused, out);
                        }
                    }
                }
                LogEvent::Damaged(damage) => {
                    out.actions.push_back(Action::Damaged { log: LogId::Catalog, damage });
                }
                LogEvent::Read { .. } => {}
            }
        }
        if let Some(detail) = self.log.no_space() {
            // What is appended waits; whoever asked again finds it made once there is space.
            for pending in &mut self.pending {
                for waiter in pending.waiters.drain(..) {
                    refuse(waiter, (ErrorCode::NO_SPACE, detail.to_owned()), out);
                }
            }
        }
    }
}

/// A dead-letter topic that nobody configured: keeps everything, for good.
fn dead_letter_settings() -> TopicSettings {
    TopicSettings { durability: Durability::Fsync, max_attempts: 0, ..TopicSettings::default() }
}

fn altered(settings: &TopicSettings, alter: &AlterTopic) -> TopicSettings {
    TopicSettings {
        durability: settings.durability,
        retention_bytes: alter.retention_bytes.unwrap_or(settings.retention_bytes),
        retention_ms: alter.retention_ms.unwrap_or(settings.retention_ms),
        record_ttl_ms: alter.record_ttl_ms.unwrap_or(settings.record_ttl_ms),
        max_attempts: alter.max_attempts.unwrap_or(settings.max_attempts),
        on_full: alter.on_full.unwrap_or(settings.on_full),
        retention_breaks_leases: alter
            .retention_breaks_leases
            .unwrap_or(settings.retention_breaks_leases),
    }
}

fn same(topic: &TopicInfo, create: &CreateTopic) -> Result<(), Refused> {
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

fn wait(waiters: &mut Vec<Waiter>, waiter: Waiter) -> Result<(), Refused> {
    if waiters.len() >= CATALOG_WAITERS_MAX {
        return Err(plain(ErrorCode::OVERLOADED));
    }
    waiters.push(waiter);
    Ok(())
}

fn plain(code: ErrorCode) -> Refused {
    (code, code.text().to_owned())
}

fn busy(name: &str) -> Refused {
    (ErrorCode::OVERLOADED, format!("topic {name} is being changed; try again"))
}

fn refuse(waiter: Waiter, (code, message): Refused, out: &mut Outbox) {
    let retry_after_ms = if code.is_retryable() { RETRY_AFTER_MS } else { 0 };
    let refused =
        RefusedMessage { request: waiter.request, produce: false, code, message, retry_after_ms };
    out.send(waiter.shard, ShardMessage::Refused(Box::new(refused)));
}
