//! Changes of the catalog: appended, durable, told to all shards.

use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::message::TopicInfo;
use lanecast_wire::{ErrorCode, TopicId};

use super::{Catalog, Refused, Waiter, plain};
use crate::log::{Entry, records};
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::shard::topic_record;
use crate::{Now, ShardId, ShardMessage};

#[derive(Clone, Debug)]
pub(super) enum Change {
    Create(Arc<TopicInfo>),
    Alter(Arc<TopicInfo>),
    Delete {
        topic: TopicId,
        partitions: u32,
    },
    /// Of a deleted topic nothing is left.
    Gone {
        topic: TopicId,
    },
}

impl Change {
    fn encode(&self) -> Bytes {
        match self {
            Change::Create(topic) | Change::Alter(topic) => topic_record::encode_topic(topic),
            Change::Delete { topic, partitions } => {
                topic_record::encode_deleted(*topic, *partitions)
            }
            Change::Gone { topic } => topic_record::encode_gone(*topic),
        }
    }
}

/// In the log, not durable yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// The offset behind its record.
    end: u64,
    pub(super) change: Change,
    pub(super) waiters: Vec<Waiter>,
}

/// What shards are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Of a topic that there was at the start.
    Found,
    Made,
    Changed,
    Deleted,
}

/// A change that all shards are told of.
#[derive(Debug)]
pub(super) struct Telling {
    /// Shards that have not said that they heard.
    left: u16,
    pub(super) told: Told,
    pub(super) waiters: Vec<Waiter>,
}

impl Catalog {
    pub(super) fn append(
        &mut self,
        now: Now,
        change: Change,
        waiter: Option<Waiter>,
    ) -> Result<(), Refused> {
        self.check_changeable()?;
        let end = self.append_record(now, &change.encode())?;
        self.pending.push_back(Pending { end, change, waiters: waiter.into_iter().collect() });
        Ok(())
    }

    fn append_record(&mut self, now: Now, record: &[u8]) -> Result<u64, Refused> {
        let prefix = records::prefix(record);
        let parts = [&prefix, record];
        let entry = Entry { parts, count: 1, max_time_ms: i64::MIN, patient: false };
        let appended = self.log.append(now, entry);
        let offset = appended.map_err(|_| plain(ErrorCode::PARTITION_OFFLINE))?;
        Ok(offset + 1)
    }

    pub(super) fn durable(&mut self, out: &mut Outbox) {
        let end = self.log.durable_end();
        let early = planted(Mutant::AnswerChangesEarly);
        while self.pending.front().is_some_and(|pending| pending.end <= end || early) {
            let Some(Pending { change, waiters, .. }) = self.pending.pop_front() else { return };
            self.apply(change, waiters, out);
        }
        if let Some((snapshot_end, segments)) = self.snapshot
            && snapshot_end <= end
        {
            self.snapshot = None;
            // If it has run over into one more segment, that one begins with a snapshot of its own.
            if segments == self.log.segment_count() {
                self.log.retire_all_but_active();
            }
        }
    }

    fn apply(&mut self, change: Change, waiters: Vec<Waiter>, out: &mut Outbox) {
        let (topic, told, message) = match change {
            Change::Create(topic) => {
                self.known.insert(topic.clone());
                (TopicId(topic.topic), Told::Made, ShardMessage::OpenTopic(topic))
            }
            Change::Alter(topic) => {
                self.known.insert(topic.clone());
                (TopicId(topic.topic), Told::Changed, ShardMessage::ChangeTopic(topic))
            }
            Change::Delete { topic, partitions } => {
                self.known.delete(topic, partitions);
                self.removing.insert(topic, self.shards);
                (topic, Told::Deleted, ShardMessage::CloseTopic { topic, partitions })
            }
            Change::Gone { topic } => {
                self.known.gone(topic);
                return;
            }
        };
        self.telling.insert(topic, Telling { left: self.shards, told, waiters });
        self.tell(&message, out);
    }

    fn tell(&self, message: &ShardMessage, out: &mut Outbox) {
        for shard in 0..self.shards {
            out.send(ShardId(shard), message.clone());
        }
    }

    /// After a start: every shard is told of every topic, and of those that were deleted and whose
    /// files may still be there.
    pub(super) fn announce(&mut self, out: &mut Outbox) {
        self.announced = true;
        for (id, topic) in &self.known.topics {
            let waiters = Vec::new();
            self.telling.insert(*id, Telling { left: self.shards, told: Told::Found, waiters });
            self.tell(&ShardMessage::OpenTopic(topic.clone()), out);
        }
        for (topic, partitions) in &self.known.deleted {
            // Not heard of: nobody waits, and the number is not used again.
            self.removing.insert(*topic, self.shards);
            let close = ShardMessage::CloseTopic { topic: *topic, partitions: *partitions };
            self.tell(&close, out);
        }
        self.tell(&ShardMessage::CatalogReady, out);
    }

    /// A shard has done what it was told: opened its partitions, changed or closed them.
    pub(in crate::shard) fn heard(&mut self, topic: TopicId, out: &mut Outbox) {
        let Some(telling) = self.telling.get_mut(&topic) else { return };
        telling.left = telling.left.saturating_sub(1);
        if telling.left > 0 {
            return;
        }
        let Some(Telling { told, waiters, .. }) = self.telling.remove(&topic) else { return };
        for Waiter { shard, request } in waiters {
            let message = match told {
                Told::Deleted => ShardMessage::Done { request },
                Told::Found | Told::Made | Told::Changed => {
                    ShardMessage::TopicReady { request, topic }
                }
            };
            out.send(shard, message);
        }
    }

    /// A shard has nothing left of a deleted topic.
    pub(in crate::shard) fn removed(&mut self, now: Now, topic: TopicId) {
        let Some(left) = self.removing.get_mut(&topic) else { return };
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.removing.remove(&topic);
            // Not written down: then the files are looked for once more at the next start.
            let _looked_for_again = self.append(now, Change::Gone { topic }, None);
        }
    }

    /// A new segment has begun: everything is written down once more, so that the older ones can go.
    pub(super) fn write_snapshot(&mut self, now: Now) {
        self.snapshot = None;
        if self.log.lost().is_some() {
            // The older segments stay for whoever repairs them.
            return;
        }
        // What is under way stands before this in the log: it is durable sooner, or lost as well.
        let mut known = self.known.clone();
        for pending in &self.pending {
            match &pending.change {
                Change::Create(topic) | Change::Alter(topic) => {
                    known.insert(topic.clone());
                }
                Change::Delete { topic, partitions } => known.delete(*topic, *partitions),
                Change::Gone { topic } => known.gone(*topic),
            }
        }
        let records = known.snapshot();
        let written = records.iter().try_for_each(|r| self.append_record(now, r).map(|_| ()));
        if written.is_ok() {
            self.snapshot = Some((self.log.next_offset(), self.log.segment_count()));
        }
    }
}
