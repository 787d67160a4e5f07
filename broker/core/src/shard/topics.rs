//! What a shard does when topics come, change and go.

use std::sync::Arc;

use lanecast_wire::message::{Ended, Refusal, TopicInfo};
use lanecast_wire::{ErrorCode, PartitionId, TopicId};

use super::Shard;
use crate::partition::Partition;
use crate::{ShardId, ShardMessage};

impl Shard {
    /// A topic exists: this shard's partitions of it are opened.
    pub(super) fn open_topic(&mut self, topic: Arc<TopicInfo>) {
        let id = TopicId(topic.topic);
        if self.topics.insert(id, topic.clone()).is_some() {
            return;
        }
        self.names.insert(topic.name.clone(), id);
        for partition in self.own_partitions(id, topic.partitions) {
            let cache_bytes = self.config.cache_bytes / (self.partitions.len() as u64 + 1);
            let mut state = Partition::new(partition, topic.clone(), &self.config, cache_bytes);
            if self.draining {
                state.drain(&mut self.out);
            }
            self.partitions.insert(partition, state);
            self.dirty.insert(partition);
        }
        self.share_cache();
        self.opening.insert(id);
        self.settle_topic(id);
    }

    /// Tells shard 0 once every partition of a topic has been read, well or not.
    pub(super) fn settle_topic(&mut self, topic: TopicId) {
        let first = PartitionId { topic, index: 0 };
        let last = PartitionId { topic, index: u32::MAX };
        if self.partitions.range(first..=last).all(|(_, partition)| partition.is_settled()) {
            self.opening.remove(&topic);
            self.out.send(ShardId(0), ShardMessage::TopicHeard { topic });
        }
    }

    /// A topic has other settings: they count from now on.
    pub(super) fn change_topic(&mut self, topic: Arc<TopicInfo>) {
        let id = TopicId(topic.topic);
        for partition in self.own_partitions(id, topic.partitions) {
            if let Some(state) = self.partitions.get_mut(&partition) {
                state.set_topic(self.now, topic.clone());
                self.dirty.insert(partition);
            }
        }
        self.topics.insert(id, topic);
        self.out.send(ShardId(0), ShardMessage::TopicHeard { topic: id });
    }

    /// A topic is deleted: whoever waits for it is told, its partitions are closed, and their files
    /// go once nothing is under way to them.
    pub(super) fn close_topic(&mut self, id: TopicId, partitions: u32) {
        if let Some(topic) = self.topics.remove(&id)
            && self.names.get(&topic.name) == Some(&id)
        {
            self.names.remove(&topic.name);
        }
        self.end_subscriptions(id);
        let mine = self.own_partitions(id, partitions);
        for partition in &mine {
            if let Some(state) = self.partitions.remove(partition) {
                state.close(&mut self.out);
            }
            self.dirty.remove(partition);
            self.offline.remove(partition);
            if let Some(due) = self.timer_of.remove(partition) {
                self.timers.remove(&(due, *partition));
            }
        }
        self.share_cache();
        self.opening.remove(&id);
        self.removals.add(id, mine.into_iter());
        self.out.send(ShardId(0), ShardMessage::TopicHeard { topic: id });
    }

    /// Subscriptions of a deleted topic end, answered or not.
    fn end_subscriptions(&mut self, topic: TopicId) {
        let code = ErrorCode::UNKNOWN_TOPIC;
        for (id, connection) in &mut self.connections {
            let of_topic =
                connection.subscriptions.iter().filter(|(_, state)| state.topic == topic);
            let ended: Vec<_> = of_topic.map(|(subscription, _)| *subscription).collect();
            for subscription in ended {
                let Some(state) = connection.subscriptions.remove(&subscription) else { continue };
                connection.held_credit.retain(|(other, _), _| *other != subscription);
                self.subscribers = self.subscribers.saturating_sub(1);
                self.config.budget.give_back_subscriptions(1);
                if state.waiting > 0 {
                    let refusal = Refusal::new(code, code.text());
                    connection.session.refuse(state.correlation, refusal);
                } else {
                    let message = "the topic was deleted".to_owned();
                    let subscription = subscription.0;
                    connection.session.ended(Ended { subscription, code: code.0, message });
                }
                self.unsent.insert(*id);
            }
        }
    }

    fn own_partitions(&self, topic: TopicId, partitions: u32) -> Vec<PartitionId> {
        let all = (0..partitions).map(|index| PartitionId { topic, index });
        all.filter(|partition| self.owner(*partition) == self.config.shard).collect()
    }

    /// All partitions share the budget alike.
    fn share_cache(&mut self) {
        let share = self.config.cache_bytes / (self.partitions.len() as u64).max(1);
        for partition in self.partitions.values_mut() {
            partition.set_cache_bytes(share);
        }
    }
}
