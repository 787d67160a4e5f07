//! Subscriptions of a partition, from the question where they start to their end.

use std::ops::Bound;

use lanecast_wire::message::StartPosition;
use lanecast_wire::{ErrorCode, Offset};

use super::credit::Credit;
use super::cursor::{Cursor, Delivery, Sent, Subscriber};
use super::queue::refused;
use super::seek::{Search, Seek, Sought};
use super::{Partition, key};
use crate::disk::Operations;
use crate::group::Departure;
use crate::limits::CURSORS_MAX;
use crate::outbox::Outbox;
use crate::{
    ConnectionId, Now, SettleMessage, ShardId, ShardMessage, SubscribeMessage, SubscribeOutcome,
    SubscribedAt, SubscribedMessage, SubscriberId,
};

impl Partition {
    /// Starts a subscription; answered now, or when its start is found and its group durable.
    pub(crate) fn subscribe(&mut self, from: ShardId, message: SubscribeMessage, out: &mut Outbox) {
        let subscriber = Subscriber { shard: from, id: message.subscriber };
        let code = if self.draining {
            Some(ErrorCode::DRAINING)
        } else if self.cursors.len() + self.seeks.len() >= CURSORS_MAX {
            Some(ErrorCode::TOO_MANY_CONSUMERS)
        } else {
            None
        };
        if let Some(code) = code {
            self.refuse_subscription(subscriber, code, out);
            return;
        }
        let SubscribeMessage { start, log_epoch, group, wanted, credit_bytes, .. } = message;
        let search = match group {
            Some(_) => Search::new(start, true),
            None if log_epoch == 0 => Search::new(start, false),
            None if log_epoch == self.log_epoch => Search::going_on(start),
            // It has been in a log that is no more.
            None => Search::new(StartPosition::Earliest, false),
        };
        let told_offline = false;
        self.seeks.push(Seek { subscriber, group, wanted, credit_bytes, search, told_offline });
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

    /// Lets all cursors send what they may. There may be more that wait for a read than may read:
    /// they take turns.
    pub(super) fn deliver(
        &mut self,
        now: Now,
        horizon_ms: Option<i64>,
        sent: &mut Sent,
        operations: &mut Operations,
        out: &mut Outbox,
    ) {
        let (partition, replaced_upto) = (self.id, self.replaced_upto());
        let mut asked_last = self.asked_last;
        let mut deliver = |to: Subscriber, cursor: &mut Cursor| {
            let delivery = Delivery { now, to, partition, horizon_ms, replaced_upto };
            let before = operations.asked_for();
            sent.add(cursor.deliver(delivery, &mut self.log, operations, out));
            if operations.asked_for() > before {
                asked_last = Some(to);
            }
        };
        let behind = self.asked_last.map_or(Bound::Unbounded, Bound::Excluded);
        for (to, cursor) in self.cursors.range_mut((behind, Bound::Unbounded)) {
            deliver(*to, cursor);
        }
        if let Some(last) = self.asked_last {
            for (to, cursor) in self.cursors.range_mut(..=last) {
                deliver(*to, cursor);
            }
        }
        self.asked_last = asked_last;
    }

    pub(crate) fn settle(
        &mut self,
        now: Now,
        from: ShardId,
        message: &SettleMessage,
        out: &mut Outbox,
    ) {
        self.age(now);
        self.queue.settle(now, from, message, out);
    }

    pub(crate) fn unsubscribe(&mut self, now: Now, from: ShardId, id: SubscriberId) {
        let subscriber = Subscriber { shard: from, id };
        self.cursors.remove(&subscriber);
        self.seeks.retain(|seek| seek.subscriber != subscriber);
        self.age(now);
        self.queue.leave(now, key(subscriber), Departure::InOrder);
    }

    /// The connection is gone, with all that it had here.
    pub(crate) fn disconnect(&mut self, now: Now, from: ShardId, connection: ConnectionId) {
        let of = |other: &Subscriber| other.shard == from && other.id.connection == connection;
        self.cursors.retain(|subscriber, _| !of(subscriber));
        self.seeks.retain(|seek| !of(&seek.subscriber));
        self.age(now);
        for key in self.queue.keys_of(from, connection) {
            self.queue.leave(now, key, Departure::Lost);
        }
    }

    /// Moves subscriptions on that look for their start.
    pub(super) fn seek(&mut self, now: Now, operations: &mut Operations, out: &mut Outbox) {
        for mut seek in std::mem::take(&mut self.seeks) {
            if !self.log.is_open() || (seek.group.is_some() && !self.queue.is_online()) {
                // It goes on with the partitions that are there; this one follows.
                if !std::mem::replace(&mut seek.told_offline, true) {
                    self.answer(seek.subscriber, SubscribeOutcome::Offline, out);
                }
                self.seeks.push(seek);
                continue;
            }
            let exists =
                seek.group.as_ref().is_some_and(|options| self.queue.has_group(&options.group));
            let sought = if exists {
                Sought::Found(self.log.log_start())
            } else {
                seek.search.step(&mut self.log, operations)
            };
            match sought {
                Sought::Waiting => self.seeks.push(seek),
                Sought::Refused(code) => self.refuse_subscription(seek.subscriber, code, out),
                Sought::Found(at) => self.start(now, seek, at, out),
            }
        }
    }

    pub(super) fn refuse_seeks(&mut self, code: ErrorCode, out: &mut Outbox) {
        for seek in std::mem::take(&mut self.seeks) {
            self.refuse_subscription(seek.subscriber, code, out);
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
        self.cursors.insert(subscriber, Cursor::new(at, credit, seek.wanted));
        let high_watermark = Offset(self.log.durable_end());
        let at =
            SubscribedAt { next_offset: Offset(at), high_watermark, log_epoch: self.log_epoch };
        self.answer(subscriber, SubscribeOutcome::At(at), out);
    }

    fn refuse_subscription(&self, subscriber: Subscriber, code: ErrorCode, out: &mut Outbox) {
        self.answer(subscriber, SubscribeOutcome::Refused(refused(code)), out);
    }

    fn answer(&self, subscriber: Subscriber, outcome: SubscribeOutcome, out: &mut Outbox) {
        let message = SubscribedMessage { subscriber: subscriber.id, partition: self.id, outcome };
        out.send(subscriber.shard, ShardMessage::Subscribed(Box::new(message)));
    }
}
