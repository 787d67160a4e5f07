//! The topics that the catalog's log tells of.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::TopicId;
use lanecast_wire::message::TopicInfo;

use crate::log::records;
use crate::mutants::{Mutant, planted};
use crate::shard::topic_record::{self, CatalogRecord};

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) topics: BTreeMap<TopicId, Arc<TopicInfo>>,
    /// Deleted topics whose files may still be there, and how many partitions they had.
    pub(super) deleted: BTreeMap<TopicId, u32>,
    /// The highest number ever given out.
    pub(super) last: TopicId,
}

impl Known {
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<TopicInfo>> {
        self.topics.values().find(|topic| topic.name == name)
    }

    /// A block of records. Gives the number of the first one that does not read.
    pub(super) fn replay(&mut self, payload: &Bytes) -> Option<u64> {
        let mut unreadable = None;
        for (number, record) in (0..).zip(records::iter(payload)) {
            match topic_record::decode(&record) {
                Some(CatalogRecord::Topic(topic)) => self.insert(Arc::new(topic)),
                Some(CatalogRecord::Deleted { topic, partitions }) => {
                    self.delete(topic, partitions);
                }
                Some(CatalogRecord::Gone { topic }) => self.gone(topic),
                None => unreadable = unreadable.or(Some(number)),
            }
        }
        unreadable
    }

    /// Made or changed.
    pub(super) fn insert(&mut self, topic: Arc<TopicInfo>) {
        let id = TopicId(topic.topic);
        self.last = self.last.max(id);
        self.topics.insert(id, topic);
    }

    pub(super) fn delete(&mut self, topic: TopicId, partitions: u32) {
        self.last = self.last.max(topic);
        self.topics.remove(&topic);
        self.deleted.insert(topic, partitions);
    }

    pub(super) fn gone(&mut self, topic: TopicId) {
        self.last = self.last.max(topic);
        self.topics.remove(&topic);
        self.deleted.remove(&topic);
        if planted(Mutant::ReuseTopicNumbers) {
            self.last = self.topics.last_key_value().map_or(TopicId(0), |(last, _)| *last);
        }
    }

    /// Records that stand for all records so far.
    pub(super) fn snapshot(&self) -> Vec<Bytes> {
        let topics = self.topics.values().map(|topic| topic_record::encode_topic(topic));
        let deleted = self.deleted.iter();
        let deleted = deleted.map(|(topic, n)| topic_record::encode_deleted(*topic, *n));
        let mut records: Vec<Bytes> = Vec::new();
        // The highest number comes first: should it be in use, its own record follows.
        if self.last > TopicId(0) {
            records.push(topic_record::encode_gone(self.last));
        }
        records.extend(topics);
        records.extend(deleted);
        records
    }
}
