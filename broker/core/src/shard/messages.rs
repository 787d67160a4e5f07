//! What a shard does with messages, from other shards and from itself.

use lanecast_wire::message::{
    Deliver, Ended, Missed, PartitionOnline, PartitionPosition, ProduceReply, Refusal, Settled,
    SubscribeReply, TopicInfo,
};
use lanecast_wire::{CorrelationId, ErrorCode, PartitionId, TopicId, dead_letter};

use super::Shard;
use super::catalog::{Catalog, Waiter};
use super::connection::Subscription;
use crate::limits::RETRY_AFTER_MS;
use crate::outbox::Outbox;
use crate::partition::{Batch, Partition};
use crate::{
    AppendLetterMessage, BuryMessage, DeliverMessage, MissedMessage, Now, RefusedMessage,
    RequestId, SettledMessage, ShardId, ShardMessage, SubscribeOutcome, SubscribeRefused,
    SubscribedMessage, SubscriberId,
};

impl Shard {
    pub(super) fn message(&mut self, from: ShardId, message: ShardMessage) {
        match message {
            // To the owner of a partition.
            ShardMessage::Produce(produce) => {
                let batch = Batch::Passing(&produce.batch);
                self.produce(from, produce.request, produce.partition, batch);
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
                        let outcome = SubscribeOutcome::Refused(refused);
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
            ShardMessage::ListGroups { request, partition } => {
                match self.partitions.get(&partition) {
                    Some(state) => state.list_groups(from, request, &mut self.out),
                    None => {
                        let code = ErrorCode::PARTITION_OFFLINE;
                        Partition::refuse(from, request, code, &mut self.out);
                    }
                }
            }
            ShardMessage::ChangeGroup(change) => match self.partitions.get_mut(&change.partition) {
                Some(partition) => {
                    self.dirty.insert(change.partition);
                    partition.change_group(from, *change, &mut self.out);
                }
                None => {
                    let code = ErrorCode::PARTITION_OFFLINE;
                    Partition::refuse(from, change.request, code, &mut self.out);
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
            ShardMessage::Dropped { request } => {
                let reply = ProduceReply { base_offset: 0, duplicate: false, dropped: true };
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
            ShardMessage::Settled(settled) => self.settled(*settled),
            ShardMessage::Deliver(deliver) => self.deliver(*deliver),
            ShardMessage::Groups(groups) => {
                let id = groups.request.connection;
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.session.groups(groups.request.correlation, groups.groups);
                    self.unsent.insert(id);
                }
            }
            ShardMessage::Missed(missed) => self.missed(*missed),

            // Between partitions.
            ShardMessage::Bury(bury) => self.bury(*bury),
            ShardMessage::AppendLetter(append) => {
                let AppendLetterMessage { partition: id, bury } = *append;
                match self.partitions.get_mut(&id) {
                    Some(partition) => {
                        partition.bury(self.now, from, &bury, &mut self.out);
                        self.dirty.insert(id);
                    }
                    None => self.not_buried(from, &bury, ErrorCode::PARTITION_OFFLINE),
                }
            }
            ShardMessage::Buried { origin, group, epoch, number, outcome } => {
                if let Some(partition) = self.partitions.get_mut(&origin) {
                    partition.buried(self.now, group, epoch, number, outcome);
                    self.dirty.insert(origin);
                }
            }

            // About topics.
            ShardMessage::CreateTopic(create) => {
                let waiter = Waiter { shard: from, request: create.request };
                self.with_catalog(waiter, |catalog, now, out| {
                    catalog.create(now, waiter, &create.create, out);
                });
            }
            ShardMessage::AlterTopic(alter) => {
                let waiter = Waiter { shard: from, request: alter.request };
                self.with_catalog(waiter, |catalog, now, out| {
                    catalog.alter(now, waiter, &alter.alter, out);
                });
            }
            ShardMessage::DeleteTopic(delete) => {
                let waiter = Waiter { shard: from, request: delete.request };
                self.with_catalog(waiter, |catalog, now, out| {
                    catalog.delete(now, waiter, &delete.name, out);
                });
            }
            ShardMessage::CreateDeadLetters { origin } => {
                if let Some(catalog) = &mut self.catalog {
                    catalog.create_dead_letters(self.now, origin);
                    self.catalog_dirty = true;
                }
            }
            ShardMessage::TopicHeard { topic } => {
                if let Some(catalog) = &mut self.catalog {
                    catalog.heard(topic, &mut self.out);
                }
            }
            ShardMessage::TopicRemoved { topic } => {
                if let Some(catalog) = &mut self.catalog {
                    catalog.removed(self.now, topic);
                    self.catalog_dirty = true;
                }
            }
            ShardMessage::OpenTopic(topic) => self.open_topic(topic),
            ShardMessage::ChangeTopic(topic) => self.change_topic(topic),
            ShardMessage::CloseTopic { topic, partitions } => self.close_topic(topic, partitions),
            ShardMessage::TopicReady { request, topic } => {
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
        batch: Batch<'_>,
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

    /// A partition has answered a subscription. Once all have, the client is told; of those that were
    /// offline it is told as they come.
    fn subscribed(&mut self, message: SubscribedMessage) {
        let subscriber = message.subscriber;
        let SubscriberId { connection: id, subscription } = subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(state) = connection.subscriptions.get_mut(&subscription) else { return };
        if state.topic != message.partition.topic {
            // For one of the same number that has ended with its topic.
            return;
        }
        let index = message.partition.index;
        let was_offline = state.offline.remove(&index);
        let is_open = state.waiting == 0;
        match message.outcome {
            SubscribeOutcome::At(at) => {
                let position = PartitionPosition {
                    partition: index,
                    next_offset: at.next_offset.0,
                    high_watermark: at.high_watermark.0,
                    log_epoch: at.log_epoch,
                };
                state.positions.push(position);
                if is_open {
                    self.online(subscriber, message.partition, position);
                    return;
                }
            }
            SubscribeOutcome::Offline => {
                state.offline.insert(index);
            }
            SubscribeOutcome::Refused(SubscribeRefused { code, message }) if is_open => {
                let ended = Ended { subscription: subscription.0, code: code.0, message };
                connection.session.ended(ended);
                self.unsent.insert(id);
                self.end_subscription(subscriber);
                return;
            }
            SubscribeOutcome::Refused(refused) => {
                state.refused = Some((refused.code, refused.message));
            }
        }
        // It has answered before, that it is offline.
        if was_offline {
            return;
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
            offline: state.offline.iter().copied().collect(),
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

    /// A partition that was offline when its subscription was answered can be read.
    fn online(
        &mut self,
        subscriber: SubscriberId,
        partition: PartitionId,
        position: PartitionPosition,
    ) {
        let SubscriberId { connection: id, subscription } = subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(state) = connection.subscriptions.get(&subscription) else { return };
        let bytes = state.credit_bytes;
        connection.session.online(PartitionOnline { subscription: subscription.0, position });
        self.unsent.insert(id);
        let credit = ShardMessage::Credit { subscriber, partition, bytes };
        self.out.send(self.owner(partition), credit);
    }

    fn settled(&mut self, message: SettledMessage) {
        let SubscriberId { connection: id, subscription } = message.subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // As for deliveries.
        if connection.subscriptions.get(&subscription).is_none_or(|state| state.waiting > 0) {
            return;
        }
        connection.session.settled(Settled {
            subscription: subscription.0,
            partition: message.partition.index,
            chunk_first: message.chunk_first.0,
            generation: message.generation,
            ranges: message.ranges,
        });
        self.unsent.insert(id);
    }

    fn deliver(&mut self, message: DeliverMessage) {
        let SubscriberId { connection: id, subscription } = message.subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        // What comes before the reply is for a subscription of the same number that has ended.
        let over =
            |state: &Subscription| state.waiting > 0 || state.topic != message.partition.topic;
        if connection.subscriptions.get(&subscription).is_none_or(over) {
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
        let bytes = message.payload.iter().map(|batch| batch.len() as u64).sum();
        let records = message.last.0 - message.first.0 + 1;
        connection.session.deliver(&deliver, message.payload);
        self.unsent.insert(id);
        self.charge_delivery(id, bytes, records);
    }

    fn missed(&mut self, message: MissedMessage) {
        let SubscriberId { connection: id, subscription } = message.subscriber;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let of_topic = |state: &Subscription| state.topic == message.partition.topic;
        if connection.subscriptions.get(&subscription).is_some_and(of_topic) {
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

    /// Brings a dead letter to the dead-letter topic of its origin, which is made if there is none.
    fn bury(&mut self, bury: BuryMessage) {
        let this = self.config.shard;
        let origin = bury.origin.topic;
        let name = self.topics.get(&origin).and_then(|topic| dead_letter::topic_name(&topic.name));
        // A topic that was deleted asks no more.
        let Some(name) = name else { return };
        let found = self.names.get(&name).and_then(|id| self.topics.get(id));
        match found {
            Some(topic) => {
                let index = bury.origin.index % topic.partitions;
                let partition = PartitionId { topic: TopicId(topic.topic), index };
                let append = AppendLetterMessage { partition, bury };
                let message = ShardMessage::AppendLetter(Box::new(append));
                self.out.send(self.owner(partition), message);
            }
            None => {
                self.out.send(ShardId(0), ShardMessage::CreateDeadLetters { origin });
                self.not_buried(this, &bury, ErrorCode::UNKNOWN_TOPIC);
            }
        }
    }

    fn not_buried(&mut self, to: ShardId, bury: &BuryMessage, code: ErrorCode) {
        let BuryMessage { origin, group, epoch, number, .. } = *bury;
        let outcome = Err(code);
        let message = ShardMessage::Buried { origin, group, epoch, number, outcome };
        self.out.send(to, message);
    }

    /// The catalog is on shard 0; nobody asks another one.
    fn with_catalog(&mut self, waiter: Waiter, ask: impl FnOnce(&mut Catalog, Now, &mut Outbox)) {
        match &mut self.catalog {
            Some(catalog) => {
                ask(catalog, self.now, &mut self.out);
                self.catalog_dirty = true;
            }
            None => {
                let code = ErrorCode::UNKNOWN_TOPIC;
                Partition::refuse(waiter.shard, waiter.request, code, &mut self.out);
            }
        }
    }
}
