//! What a shard does with its connections and what they ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use lanecast_wire::limits::{PRODUCE_BATCH_BYTES_MAX, SUBSCRIPTIONS_MAX};
use lanecast_wire::message::{
    DeliveryMode, PartitionStart, Refusal, Subscribe, SubscribeMode, TopicInfo,
};
use lanecast_wire::session::{Greeting, Request};
use lanecast_wire::{
    CorrelationId, ErrorCode, KeyHash, PartitionId, SubscriptionId, TopicId, batch,
    batch::BatchHeader,
};

use super::Shard;
use super::connection::{Connection, Subscription};
use crate::limits::{
    ANSWERS_UNCOUNTED_MAX, CONNECTION_CREDIT_BYTES_MAX, CONNECTION_CREDIT_PART, CONNECTIONS_MAX,
    CREDIT_BYTES_MIN, RETRY_AFTER_MS,
};
use crate::partition::Batch;
use crate::{
    Action, AlterTopicMessage, ChangeGroupMessage, ConnectionId, CreateTopicMessage,
    DeleteTopicMessage, GroupChange, ProduceMessage, RequestId, Settle, SettleMessage, ShardId,
    ShardMessage, SubscribeMessage, SubscriberId,
};

/// What a session is told right after it gave a request out.
pub(super) enum Answer {
    /// The answer comes later, as a message.
    Later,
    Welcome(CorrelationId, Greeting),
    Topics(CorrelationId, Vec<TopicInfo>),
    Done(CorrelationId),
    Refuse(CorrelationId, Refusal),
    RefuseProduce(CorrelationId, Refusal),
    /// The connection goes to the shard of this partition, which answers.
    Migrate(CorrelationId, PartitionId),
}

impl Shard {
    pub(super) fn connected(&mut self, id: ConnectionId) {
        let mut connection = Connection::new(self.now.mono_us);
        if self.draining || self.connections.len() >= CONNECTIONS_MAX {
            let code = if self.draining { ErrorCode::DRAINING } else { ErrorCode::OVERLOADED };
            connection.session.close(refusal(code));
        }
        if connection.session.is_closed() {
            self.unsent.insert(id);
        }
        self.connections.insert(id, connection);
        self.look_at_newcomer();
    }

    pub(super) fn sent(&mut self, id: ConnectionId, bytes: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.sent(self.now.mono_us, bytes)
        {
            self.out.actions.push_back(Action::SetReading { connection: id, on: true });
        }
    }

    /// Everything that the connection had, on all shards, is given up.
    pub(super) fn disconnected(&mut self, id: ConnectionId) {
        self.settle_throttle(id);
        self.forget_peer(id);
        let Some(connection) = self.connections.remove(&id) else { return };
        self.unsent.remove(&id);
        self.peers.clients.leave(&connection.client);
        if connection.subscriptions.is_empty() {
            return;
        }
        let count = u32::try_from(connection.subscriptions.len()).unwrap_or(u32::MAX);
        self.subscribers = self.subscribers.saturating_sub(count);
        self.config.budget.give_back_subscriptions(count);
        for shard in 0..self.config.shards {
            self.out.send(ShardId(shard), ShardMessage::Disconnect { connection: id });
        }
    }

    /// Gives what a session has to send to the shell.
    pub(super) fn flush(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.closing {
            // Other shards may still have something for it.
            drop(connection.session.take_output());
            return;
        }
        let bytes = connection.session.output_bytes() as u64;
        if bytes > 0 {
            // Answers to a peer that does not read pile up.
            let piles_up = connection.outbound() > 0 || bytes > ANSWERS_UNCOUNTED_MAX;
            let alive = &self.config.budget.alive;
            let buffers = connection
                .session
                .take_output_with(|answers| if piles_up { alive.hold(answers) } else { answers });
            let patient = connection.is_patient(bytes);
            self.out.actions.push_back(Action::Send { connection: id, buffers, patient });
            let stop = connection.queued(self.now.mono_us, bytes);
            if stop {
                self.out.actions.push_back(Action::SetReading { connection: id, on: false });
            }
        }
        if connection.session.is_closed() || connection.goodbye {
            connection.closing = true;
            let action = match connection.offence.take() {
                None => Action::Close { connection: id },
                Some((offence, detail)) => {
                    self.peers.offences.count(offence);
                    let client = connection.client.clone();
                    Action::Expel { connection: id, client, offence, detail }
                }
            };
            self.out.actions.push_back(action);
        }
        if bytes > 0 {
            self.waits_for_peer();
        }
    }

    fn greeting(&self) -> Greeting {
        Greeting {
            broker_version: self.config.broker_version.clone(),
            shards: u32::from(self.config.shards),
            default_mode: self.config.default_mode,
            default_credit_bytes: self.config.default_credit_bytes,
        }
    }

    pub(super) fn request(&mut self, connection: ConnectionId, request: Request<'_>) -> Answer {
        match request {
            Request::Hello { correlation, client } => {
                self.peers.clients.enter(&client);
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.client = client;
                }
                Answer::Welcome(correlation, self.greeting())
            }
            Request::CreateTopic { correlation, topic } => {
                let request = RequestId { connection, correlation };
                let message = CreateTopicMessage { request, create: topic };
                self.ask_catalog(correlation, ShardMessage::CreateTopic(Box::new(message)))
            }
            Request::DescribeTopic { correlation, name } => match self.names.get(&name) {
                Some(id) => Answer::Topics(correlation, self.info(*id).into_iter().collect()),
                None => Answer::Refuse(correlation, self.unknown_topic()),
            },
            Request::ListTopics { correlation } if !self.catalog_ready => {
                Answer::Refuse(correlation, self.unknown_topic())
            }
            Request::ListTopics { correlation } => {
                let all = self.topics.values().map(|topic| TopicInfo::clone(topic));
                Answer::Topics(correlation, all.collect())
            }
            Request::Produce { correlation, partition, batch } => {
                let request = RequestId { connection, correlation };
                self.route_batch(request, partition, Batch::Passing(batch))
            }
            Request::Subscribe { correlation, subscribe } => {
                let queue = matches!(subscribe.mode, SubscribeMode::Default(_))
                    && self.config.default_mode == DeliveryMode::Queue;
                if queue && !subscribe.filter.is_empty() {
                    return Answer::Refuse(correlation, Subscribe::filtered_group());
                }
                match self.subscribe(connection, correlation, subscribe) {
                    Ok(()) => Answer::Later,
                    Err(code) => Answer::Refuse(correlation, refusal(code)),
                }
            }
            Request::Credit(credit) => {
                let subscription = SubscriptionId(credit.subscription);
                let subscriber = SubscriberId { connection, subscription };
                if let Some(partition) = self.subscribed_partition(subscriber, credit.partition) {
                    self.give_credit(subscriber, partition, credit.bytes);
                }
                Answer::Later
            }
            Request::Ack { correlation, ack } => {
                let (subscription, partition) = (ack.subscription, ack.partition);
                let request = RequestId { connection, correlation };
                self.settle(request, subscription, partition, Settle::Ack(ack))
            }
            Request::Nack { correlation, nack } => {
                let (subscription, partition) = (nack.subscription, nack.partition);
                let request = RequestId { connection, correlation };
                self.settle(request, subscription, partition, Settle::Nack(nack))
            }
            Request::Extend { correlation, extend } => {
                let (subscription, partition) = (extend.subscription, extend.partition);
                let request = RequestId { connection, correlation };
                self.settle(request, subscription, partition, Settle::Extend(extend))
            }
            Request::AlterTopic { correlation, alter } => {
                let request = RequestId { connection, correlation };
                let message = AlterTopicMessage { request, alter };
                self.ask_catalog(correlation, ShardMessage::AlterTopic(Box::new(message)))
            }
            Request::DeleteTopic { correlation, name } => {
                let request = RequestId { connection, correlation };
                let message = DeleteTopicMessage { request, name };
                self.ask_catalog(correlation, ShardMessage::DeleteTopic(Box::new(message)))
            }
            Request::Terminate { correlation, terminate } => {
                let (subscription, partition) = (terminate.subscription, terminate.partition);
                let request = RequestId { connection, correlation };
                self.settle(request, subscription, partition, Settle::Terminate(terminate))
            }
            Request::ListGroups { correlation, partition } => {
                let request = RequestId { connection, correlation };
                let message = ShardMessage::ListGroups { request, partition };
                self.ask_groups(correlation, partition, message)
            }
            Request::MoveGroup { correlation, moved } => {
                let partition = PartitionId { topic: TopicId(moved.topic), index: moved.partition };
                let (group, change) = (moved.group, GroupChange::Move(moved.to));
                let request = RequestId { connection, correlation };
                let message = ChangeGroupMessage { request, partition, group, change };
                let message = ShardMessage::ChangeGroup(Box::new(message));
                self.ask_groups(correlation, partition, message)
            }
            Request::DeleteGroup { correlation, delete } => {
                let partition =
                    PartitionId { topic: TopicId(delete.topic), index: delete.partition };
                let (group, change) = (delete.group, GroupChange::Delete);
                let request = RequestId { connection, correlation };
                let message = ChangeGroupMessage { request, partition, group, change };
                let message = ShardMessage::ChangeGroup(Box::new(message));
                self.ask_groups(correlation, partition, message)
            }
            Request::Migrate { correlation, partition } => {
                self.migrate(connection, correlation, partition)
            }
            Request::Unsubscribe { correlation, subscription } => {
                let subscriber = SubscriberId { connection, subscription };
                if self.is_waiting(subscriber) {
                    Answer::Refuse(correlation, refusal(ErrorCode::INVALID_REQUEST))
                } else if self.end_subscription(subscriber) {
                    Answer::Done(correlation)
                } else {
                    Answer::Refuse(correlation, refusal(ErrorCode::UNKNOWN_SUBSCRIPTION))
                }
            }
        }
    }

    fn ask_catalog(&mut self, correlation: CorrelationId, message: ShardMessage) -> Answer {
        if self.draining {
            return Answer::Refuse(correlation, refusal(ErrorCode::DRAINING));
        }
        self.out.send(ShardId(0), message);
        Answer::Later
    }

    /// Checks a batch and brings it to its partition: from the receive buffer straight into the
    /// log if that is here, else over the ring.
    pub(super) fn route_batch(
        &mut self,
        request: RequestId,
        id: PartitionId,
        batch: Batch<'_>,
    ) -> Answer {
        let correlation = request.correlation;
        self.peers.clients.produced(batch.len() as u64, 0);
        if self.draining {
            return Answer::RefuseProduce(correlation, refusal(ErrorCode::DRAINING));
        }
        let refused = self.refuse_partition(id).or_else(|| check(&batch).err());
        if let Some(refusal) = refused {
            return Answer::RefuseProduce(correlation, refusal);
        }
        if self.peers.clients.are_limited() {
            let header = BatchHeader::decode(&batch).ok();
            self.peers.clients.produced(0, header.map_or(0, |it| u64::from(it.record_count)));
        }
        let owner = self.owner(id);
        if owner == self.config.shard {
            self.produce(owner, request, id, batch);
        } else {
            let budget = &self.config.budget;
            if budget.received.bytes() + batch.len() as u64 > budget.shares().received {
                let refusal = refusal(ErrorCode::OVERLOADED);
                return Answer::RefuseProduce(correlation, refusal);
            }
            let received = &budget.received;
            let batch = received.hold(batch.into_bytes());
            let message = ProduceMessage { request, partition: id, batch };
            self.out.send(owner, ShardMessage::Produce(Box::new(message)));
        }
        Answer::Later
    }

    fn subscribe(
        &mut self,
        id: ConnectionId,
        correlation: CorrelationId,
        subscribe: Subscribe,
    ) -> Result<(), ErrorCode> {
        let topic = TopicId(subscribe.topic);
        let partitions = match self.topics.get(&topic) {
            Some(topic) => topic.partitions,
            None if self.catalog_ready => return Err(ErrorCode::UNKNOWN_TOPIC),
            None => return Err(ErrorCode::PARTITION_OFFLINE),
        };
        if self.draining {
            return Err(ErrorCode::DRAINING);
        }
        let connection = self.connections.get_mut(&id).ok_or(ErrorCode::UNKNOWN_SUBSCRIPTION)?;
        let subscription = SubscriptionId(subscribe.subscription);
        if connection.subscriptions.contains_key(&subscription) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if connection.subscriptions.len() >= SUBSCRIPTIONS_MAX as usize {
            return Err(ErrorCode::TOO_MANY_CONSUMERS);
        }
        let (mode, options) = match subscribe.mode {
            SubscribeMode::Default(options) => (self.config.default_mode, Some(options)),
            SubscribeMode::Broadcast => (DeliveryMode::Broadcast, None),
            SubscribeMode::Group(options) => (DeliveryMode::Queue, Some(options)),
        };
        let options = options.filter(|_| mode == DeliveryMode::Queue);
        let mut starts: Vec<_> = (0..partitions).map(|index| (index, subscribe.start, 0)).collect();
        if !subscribe.starts.is_empty() {
            if subscribe.starts.iter().any(|start| start.partition >= partitions) {
                return Err(ErrorCode::UNKNOWN_PARTITION);
            }
            let named = |at: &PartitionStart| (at.partition, at.start, at.log_epoch);
            starts = subscribe.starts.iter().map(named).collect();
        }
        let asked = match subscribe.credit_bytes {
            0 => self.config.default_credit_bytes,
            bytes => bytes,
        };
        if !self.config.budget.take_subscription(self.config.max_consumers) {
            return Err(ErrorCode::TOO_MANY_CONSUMERS);
        }
        let credit_max = (self.config.budget.shares().outbound / CONNECTION_CREDIT_PART)
            .min(CONNECTION_CREDIT_BYTES_MAX);
        let left = credit_max.saturating_sub(connection.credit_bytes());
        let rated = self.peers.clients.credit_bytes_max(starts.len()).unwrap_or(u64::MAX);
        let share = u32::try_from(rated.min(left / starts.len() as u64)).unwrap_or(u32::MAX);
        let credit_bytes = asked.min(share.max(CREDIT_BYTES_MIN));
        let state = Subscription {
            topic,
            mode,
            credit_bytes,
            waiting: u32::try_from(starts.len()).expect("at most one per slot"),
            correlation,
            positions: Vec::with_capacity(starts.len()),
            offline: BTreeSet::new(),
            refused: None,
        };
        connection.subscriptions.insert(subscription, state);
        self.subscribers += 1;
        let subscriber = SubscriberId { connection: id, subscription };
        let wanted: Arc<[KeyHash]> = subscribe.filter.hashes().collect();
        for (index, start, log_epoch) in starts {
            let partition = PartitionId { topic, index };
            let group = options.clone();
            let wanted = Arc::clone(&wanted);
            let message = SubscribeMessage {
                subscriber,
                partition,
                start,
                log_epoch,
                credit_bytes,
                group,
                wanted,
            };
            self.out.send(self.owner(partition), ShardMessage::Subscribe(Box::new(message)));
        }
        Ok(())
    }

    /// Ends a subscription here and at its partitions. Was there one?
    pub(super) fn end_subscription(&mut self, subscriber: SubscriberId) -> bool {
        let Some(connection) = self.connections.get_mut(&subscriber.connection) else {
            return false;
        };
        let Some(state) = connection.subscriptions.remove(&subscriber.subscription) else {
            return false;
        };
        connection.held_credit.retain(|(other, _), _| *other != subscriber.subscription);
        self.subscribers = self.subscribers.saturating_sub(1);
        self.config.budget.give_back_subscriptions(1);
        debug_assert_eq!(state.waiting, 0, "a subscription ends after it was answered");
        let topic = state.topic;
        for shard in 0..self.config.shards {
            self.out.send(ShardId(shard), ShardMessage::Unsubscribe { subscriber, topic });
        }
        true
    }

    /// Is the subscription still to be answered?
    fn is_waiting(&self, subscriber: SubscriberId) -> bool {
        let connection = self.connections.get(&subscriber.connection);
        connection
            .and_then(|connection| connection.subscriptions.get(&subscriber.subscription))
            .is_some_and(|state| state.waiting > 0)
    }

    fn settle(
        &mut self,
        request: RequestId,
        subscription: u32,
        partition: u32,
        settle: Settle,
    ) -> Answer {
        let subscription = SubscriptionId(subscription);
        let subscriber = SubscriberId { connection: request.connection, subscription };
        let Some(partition) = self.subscribed_partition(subscriber, partition) else {
            let refusal = refusal(ErrorCode::UNKNOWN_SUBSCRIPTION);
            return Answer::Refuse(request.correlation, refusal);
        };
        let message = SettleMessage { request, subscriber, partition, settle };
        self.out.send(self.owner(partition), ShardMessage::Settle(Box::new(message)));
        Answer::Later
    }

    /// Brings a question about consumer groups to the partition that has them.
    fn ask_groups(
        &mut self,
        correlation: CorrelationId,
        partition: PartitionId,
        message: ShardMessage,
    ) -> Answer {
        if let Some(refusal) = self.refuse_partition(partition) {
            return Answer::Refuse(correlation, refusal);
        }
        self.out.send(self.owner(partition), message);
        Answer::Later
    }

    /// Why there is no such partition, if there is none.
    pub(super) fn refuse_partition(&self, partition: PartitionId) -> Option<Refusal> {
        match self.topics.get(&partition.topic) {
            None => Some(self.unknown_topic()),
            Some(topic) if partition.index >= topic.partitions => {
                Some(refusal(ErrorCode::UNKNOWN_PARTITION))
            }
            Some(_) => None,
        }
    }

    fn subscribed_partition(&self, subscriber: SubscriberId, index: u32) -> Option<PartitionId> {
        let connection = self.connections.get(&subscriber.connection)?;
        let subscription = connection.subscriptions.get(&subscriber.subscription)?;
        let known = subscription.positions.iter().any(|position| position.partition == index);
        known.then_some(PartitionId { topic: subscription.topic, index })
    }

    fn info(&self, id: TopicId) -> Option<TopicInfo> {
        self.topics.get(&id).map(|topic| TopicInfo::clone(topic))
    }

    /// Before the catalog is known, a topic that is not known is no topic that does not exist.
    fn unknown_topic(&self) -> Refusal {
        refusal(match self.catalog_ready {
            true => ErrorCode::UNKNOWN_TOPIC,
            false => ErrorCode::PARTITION_OFFLINE,
        })
    }
}

/// A batch from outside: sound, and small enough to become a dead letter one day.
fn check(batch: &[u8]) -> Result<(), Refusal> {
    if batch.len() > PRODUCE_BATCH_BYTES_MAX as usize {
        let bytes = batch.len();
        let message = format!("batch has {bytes} bytes, the limit is {PRODUCE_BATCH_BYTES_MAX}");
        return Err(Refusal::new(ErrorCode::BAD_BATCH, message));
    }
    let checked = batch::check(batch);
    checked.map(|_| ()).map_err(|error| Refusal::new(error.code(), error.to_string()))
}

pub(super) fn refusal(code: ErrorCode) -> Refusal {
    let mut refusal = Refusal::new(code, code.text());
    if code.is_retryable() {
        refusal.retry_after_ms = RETRY_AFTER_MS;
    }
    refusal
}
