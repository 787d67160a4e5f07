//! What a shard does with messages, from other shards and from itself.

use std::sync::Arc;

use lanecast_wire::message::{
    Deliver, Missed, PartitionPosition, ProduceReply, Refusal, SubscribeReply, TopicInfo,
};
use lanecast_wire::{CorrelationId, ErrorCode, PartitionId, TopicId};

use super::Shard;
use crate::limits::RETRY_AFTER_MS;
use crate::partition::Partition;
use crate::{
    DeliverMessage, MissedMessage, RefusedMessage, RequestId, ShardId, ShardMessage,
    SubscribeRefused, SubscribedMessage, SubscriberId,
};

impl Shard {
    pub(super) fn message(&mut self, from: ShardId, message: ShardMessage) {
        match message {
            // To the owner of a partition.
            ShardMessage::Produce(produce) => {
                self.produce(from, produce.request, produce.partition, &produce.batch);
            }
            ShardMessage::Subscribe(subscribe) => {
                let id = subscribe.partition;
                match self.partitions.get_mut(&id) {
                    Some(partition) => {
                        partition.subscribe(from, *subscribe, &mut self.out);
                        self.dirty.insert(id);
                    }
                    None => {
                        // The topic has it, says the connection's shard: it opens in a moment.
                        let code = ErrorCode::PARTITION_OFFLINE;
                        let refused = SubscribeRefused { code, message: code.text().to_owned() };
                        let subscriber = subscribe.subscriber;
                        let outcome = Err(refused);
                        let message = SubscribedMessage { subscriber, partition: id, outcome };
                        self.out.send(from, ShardMessage::Subscribed(Box::new(message)));
                    }
                }
            }
            ShardMessage::Credit { subscriber, partition, bytes } => {
                if let Some(state) = self.partitions.get_mut(&partition) {
                    state.credit(from, subscriber, bytes);
                    self.dirty.insert(partition);
                }
            }
            ShardMessage::Settle(settle) => match self.partitions.get_mut(&settle.partition) {
                Some(partition) => {
                    partition.settle(self.now, from, &settle, &mut self.out);
                    self.dirty.insert(settle.partition);
                }
                None => {
                    let code = ErrorCode::PARTITION_OFFLINE;
                    Partition::refuse(from, settle.request, code, &mut self.out);
                }
            },
            ShardMessage::Unsubscribe { subscriber, topic } => {
                for (id, partition) in &mut self.partitions {
                    if id.topic == topic {
                        partition.unsubscribe(self.now, from, subscriber);
                        self.dirty.insert(*id);
                    }
                }
            }
            ShardMessage::Disconnect { connection } => {
                for (id, partition) in &mut self.partitions {
                    if partition.subscriber_count() > 0 || partition.is_seeking() {
                        partition.disconnect(self.now, from, connection);
                        self.dirty.insert(*id);
                    }
                }
            }

            // To the shard of a connection.
            ShardMessage::Produced { request, base_offset, duplicate } => {
                let reply = ProduceReply { base_offset: base_offset.0, duplicate, dropped: false };
                if let Some(connection) = self.connections.get_mut(&request.connection) {
                    connection.session.produced(request.correlation, reply);
                    self.unsent.insert(request.connection);
                }
            }
            ShardMessage::Done { request } => {
                if let Some(connection) = self.connections.get_mut(&request.connection) {
                    connection.session.done(request.correlation);
                    self.unsent.insert(request.connection);
                }
            }
            ShardMessage::Refused(refused) => self.refused(*refused),
            ShardMessage::Subscribed(subscribed) => self.subscribed(*subscribed),
            ShardMessage::Deliver(deliver) => self.deliver(*deliver),
            ShardMessage::Missed(missed) => self.missed(*missed),

            // About topics.
            ShardMessage::CreateTopic(create) => match &mut self.catalog {
                Some(catalog) => {
                    let request = create.request;
                    catalog.create(self.now, from, request, &create.create, &mut self.out);
                    self.catalog_dirty = true;
                }
                None => {
                    let code = ErrorCode::UNKNOWN_TOPIC;
                    Partition::refuse(from, create.request, code, &mut self.out);
                }
            },
            ShardMessage::OpenTopic(topic) => self.open_topic(topic),
            ShardMessage::TopicOpened { topic } => {
                if let Some(catalog) = &mut self.catalog {
                    catalog.opened(topic, &mut self.out);
                }
            }
            ShardMessage::TopicCreated { request, topic } => {
                let topics = self.topics.get(&topic).map(|topic| TopicInfo::clone(topic));
                if let Some(connection) = self.connections.get_mut(&request.connection) {
                    connection.session.topics(request.correlation, topics.into_iter().collect());
                    self.unsent.insert(request.connection);
                }
            }
            ShardMessage::CatalogReady => self.catalog_ready = true,
        }
    }

    /// Takes a batch for a partition of this shard; `batch` may still be in the receive buffer.
    pub(super) fn produce(
        &mut self,
        from: ShardId,
        request: RequestId,
        id: PartitionId,
        batch: &[u8],
    ) {
        match self.partitions.get_mut(&id) {
            Some(partition) => {
                partition.produce(self.now, from, request, batch, &mut self.out);
                self.dirty.insert(id);
            }
            None => {
                let code = ErrorCode::PARTITION_OFFLINE;
                let message = code.text().to_owned();
                let retry_after_ms = RETRY_AFTER_MS;
                let produce = true;
                let refused = RefusedMessage { request, produce, code, message, retry_after_ms };
                self.out.send(from, ShardMessage::Refused(Box::new(refused)));
            }
        }
    }

    fn refused(&mut self, refused: RefusedMessage) {
        let RequestId { connection: id, correlation } = refused.request;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let mut refusal = Refusal::new(refused.code, refused.message);
        refusal.retry_after_ms = refused.retry_after_ms;
        if correlation == CorrelationId(0) {
            connection.session.close(refusal);
        } else if refused.produce {
            connection.session.produce_refused(correlation, refusal);
        } else {
            connection.session.refuse(correlation, refusal);
        }
        self.unsent.insert(id);
    }

    /// A partition has answered a subscription; the last answer completes it.
    fn subscribed(&mut self, message: SubscribedMessage) {
        let subscriber = message.subscriber;
        let SubscriberId { connection: id, subscription } = subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(state) = connection.subscriptions.get_mut(&subscription) else { return };
        match message.outcome {
            Ok(at) => state.positions.push(PartitionPosition {
                partition: message.partition.index,
                next_offset: at.next_offset.0,
                high_watermark: at.high_watermark.0,
            }),
            Err(refused) => state.refused = Some((refused.code, refused.message)),
        }
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting > 0 {
            return;
        }
        let correlation = state.correlation;
        self.unsent.insert(id);
        if let Some((code, message)) = state.refused.take() {
            connection.session.refuse(correlation, Refusal::new(code, message));
            self.end_subscription(subscriber);
            return;
        }
        state.positions.sort_by_key(|position| position.partition);
        let reply = SubscribeReply {
            mode: state.mode,
            credit_bytes: state.credit_bytes,
            positions: state.positions.clone(),
        };
        let (topic, bytes) = (state.topic, state.credit_bytes);
        let partitions: Vec<u32> = state.positions.iter().map(|at| at.partition).collect();
        connection.session.subscribed(correlation, reply);
        // Deliveries begin with the first credit: never before the reply.
        for index in partitions {
            let partition = PartitionId { topic, index };
            let credit = ShardMessage::Credit { subscriber, partition, bytes };
            self.out.send(self.owner(partition), credit);
        }
    }

    fn deliver(&mut self, message: DeliverMessage) {
        let SubscriberId { connection: id, subscription } = message.subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // What comes before the reply is for a subscription of the same number that has ended.
        if connection.subscriptions.get(&subscription).is_none_or(|state| state.waiting > 0) {
            return;
        }
        let deliver = Deliver {
            subscription: subscription.0,
            partition: message.partition.index,
            first: message.first.0,
            last: message.last.0,
            high_watermark: message.high_watermark.0,
            lease: message.lease,
        };
        connection.session.deliver(&deliver, message.payload);
        self.unsent.insert(id);
    }

    fn missed(&mut self, message: MissedMessage) {
        let SubscriberId { connection: id, subscription } = message.subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.subscriptions.contains_key(&subscription) {
            connection.session.missed(Missed {
                subscription: subscription.0,
                partition: message.partition.index,
                first: message.first.0,
                last: message.last.0,
                reason: message.reason,
            });
            self.unsent.insert(id);
        }
    }

    /// A topic exists: this shard's partitions of it are opened.
    fn open_topic(&mut self, topic: Arc<TopicInfo>) {
        let id = TopicId(topic.topic);
        if self.topics.insert(id, topic.clone()).is_some() {
            return;
        }
        self.names.insert(topic.name.clone(), id);
        let mine = (0..topic.partitions)
            .map(|index| PartitionId { topic: id, index })
            .filter(|partition| self.owner(*partition) == self.config.shard)
            .collect::<Vec<_>>();
        for partition in mine {
            let cache_bytes = self.config.cache_bytes / (self.partitions.len() as u64 + 1);
            let mut state = Partition::new(partition, topic.clone(), &self.config, cache_bytes);
            if self.draining {
                state.drain();
            }
            self.partitions.insert(partition, state);
            self.dirty.insert(partition);
        }
        // All share the budget alike.
        let share = self.config.cache_bytes / (self.partitions.len() as u64).max(1);
        for partition in self.partitions.values_mut() {
            partition.set_cache_bytes(share);
        }
        self.opening.insert(id);
        self.settle_topic(id);
    }

    /// Tells shard 0 once every partition of a topic has been read, well or not.
    pub(super) fn settle_topic(&mut self, topic: TopicId) {
        let first = PartitionId { topic, index: 0 };
        let last = PartitionId { topic, index: u32::MAX };
        if self.partitions.range(first..=last).all(|(_, partition)| partition.is_settled()) {
            self.opening.remove(&topic);
            self.out.send(ShardId(0), ShardMessage::TopicOpened { topic });
        }
    }
}
