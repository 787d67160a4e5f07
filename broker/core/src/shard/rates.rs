//! Rate limits of clients: who asks for more waits, and loses nothing.
//!
//! A limit holds for one client name on one shard: the connections of a client that come to the same
//! shard share it. From a connection that produces more than is left of its client's share nothing
//! is read until there is some again; one that was given more than its share gets its credit back
//! later. What a client may have at once is what comes in about a second.
//!
//! Only batches are charged. What a member says of its chunks is read whatever its client owes: its
//! leases would run out meanwhile, and records die of which nobody said that they are bad.

use std::collections::{BTreeMap, BTreeSet};

use lanecast_wire::limits::SUBSCRIPTIONS_MAX;

use super::Shard;
use super::connection::{Pause, Throttled};
use crate::limits::{CLIENTS_MAX, RATE_BURST_US};
use crate::{Action, ClientStats, ConnectionId, ShardMessage, SubscriberId};
use lanecast_wire::{PartitionId, SubscriptionId};

/// Refills at a steady rate and holds what comes in [`RATE_BURST_US`].
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// 0: without limit.
    per_second: u64,
    /// When it is full again.
    full_us: u64,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        Bucket { per_second, full_us: 0 }
    }

    /// Takes what was used already: the bucket may owe afterwards.
    fn take(&mut self, now_us: u64, amount: u64) {
        if let Some(refill_us) = amount.saturating_mul(1_000_000).checked_div(self.per_second) {
            self.full_us = self.full_us.max(now_us).saturating_add(refill_us);
        }
    }

    /// How long until it owes nothing.
    fn wait_us(&self, now_us: u64) -> u64 {
        self.full_us.saturating_sub(now_us.saturating_add(RATE_BURST_US))
    }
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes: Bucket,
    records: Bucket,
}

impl Rate {
    fn new((bytes, records): (u64, u64)) -> Self {
        Rate { bytes: Bucket::new(bytes), records: Bucket::new(records) }
    }

    fn take(&mut self, now_us: u64, bytes: u64, records: u64) {
        self.bytes.take(now_us, bytes);
        self.records.take(now_us, records);
    }

    fn wait_us(&self, now_us: u64) -> u64 {
        self.bytes.wait_us(now_us).max(self.records.wait_us(now_us))
    }
}

/// One name that clients give themselves.
#[derive(Debug)]
struct Client {
    connections: u32,
    /// What came from it, and what went to it.
    taken: Rate,
    given: Rate,
    throttled_us: u64,
}

/// Clients of one shard, if there are limits.
#[derive(Debug)]
pub(super) struct Clients {
    /// Bytes and records a second; 0: without limit.
    limits: (u64, u64),
    clients: BTreeMap<String, Client>,
    /// Connections that wait, by when they go on.
    waiting: BTreeSet<(u64, ConnectionId)>,
    throttled_us: u64,
    /// Bytes and records of the batches in the frames that are being taken in.
    produced: (u64, u64),
}

impl Clients {
    pub(super) fn new(bytes_per_second: u64, records_per_second: u64) -> Self {
        Clients {
            limits: (bytes_per_second, records_per_second),
            clients: BTreeMap::new(),
            waiting: BTreeSet::new(),
            throttled_us: 0,
            produced: (0, 0),
        }
    }

    pub(super) fn are_limited(&self) -> bool {
        self.limits != (0, 0)
    }

    /// The credit of a partition, such that a second's worth is under way over all of them.
    pub(super) fn credit_bytes_max(&self, partitions: usize) -> Option<u64> {
        let (bytes, _) = self.limits;
        (bytes > 0).then(|| bytes / (partitions as u64).max(1))
    }

    pub(super) fn poll_timeout(&self) -> Option<u64> {
        self.waiting.first().map(|(until_us, _)| *until_us)
    }

    /// A connection has said its name.
    pub(super) fn enter(&mut self, name: &str) {
        if !self.are_limited() {
            return;
        }
        if self.clients.len() >= CLIENTS_MAX {
            self.clients.retain(|_, client| client.connections > 0);
        }
        let limits = self.limits;
        let client = self.clients.entry(name.to_owned()).or_insert_with(|| Client {
            connections: 0,
            taken: Rate::new(limits),
            given: Rate::new(limits),
            throttled_us: 0,
        });
        client.connections += 1;
    }

    /// The name stays known, with what it owes: it may come back at once.
    pub(super) fn leave(&mut self, name: &str) {
        if let Some(client) = self.clients.get_mut(name) {
            client.connections = client.connections.saturating_sub(1);
        }
    }

    /// A batch is being taken in.
    pub(super) fn produced(&mut self, bytes: u64, records: u64) {
        self.produced = (self.produced.0 + bytes, self.produced.1 + records);
    }

    /// Charges a client for the batches that were just taken in: how long has it to wait?
    fn took(&mut self, name: &str, now_us: u64) -> u64 {
        let (bytes, records) = std::mem::take(&mut self.produced);
        if bytes == 0 {
            return 0;
        }
        let Some(client) = self.clients.get_mut(name) else { return 0 };
        client.taken.take(now_us, bytes, records);
        client.taken.wait_us(now_us)
    }

    fn gave(&mut self, name: &str, now_us: u64, bytes: u64, records: u64) {
        if let Some(client) = self.clients.get_mut(name) {
            client.given.take(now_us, bytes, records);
        }
    }

    fn waits_us(&self, name: &str, now_us: u64) -> (u64, u64) {
        match self.clients.get(name) {
            Some(client) => (client.taken.wait_us(now_us), client.given.wait_us(now_us)),
            None => (0, 0),
        }
    }

    fn throttled(&mut self, name: &str, us: u64) {
        self.throttled_us += us;
        if let Some(client) = self.clients.get_mut(name) {
            client.throttled_us += us;
        }
    }

    pub(super) fn throttled_us(&self) -> u64 {
        self.throttled_us
    }

    /// Clients that had to wait.
    pub(super) fn stats(&self) -> Vec<ClientStats> {
        let waited = self.clients.iter().filter(|(_, client)| client.throttled_us > 0);
        let stats = waited.map(|(name, client)| ClientStats {
            name: name.clone(),
            connections: client.connections,
            throttled_ms: client.throttled_us / 1000,
        });
        stats.collect()
    }
}

impl Shard {
    /// Charges a client for what it has produced; the connection waits if that was too much.
    pub(super) fn charge(&mut self, id: ConnectionId) {
        if !self.peers.clients.are_limited() {
            return;
        }
        let now_us = self.now.mono_us;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let wait_us = self.peers.clients.took(&connection.client, now_us);
        if wait_us > 0 && !connection.closing {
            if connection.pause(Pause::Rate) {
                self.out.actions.push_back(Action::SetReading { connection: id, on: false });
            }
            self.throttle(id, wait_us);
        }
    }

    /// Charges a client for what it is sent.
    pub(super) fn charge_delivery(&mut self, id: ConnectionId, bytes: u64, records: u64) {
        if !self.peers.clients.are_limited() {
            return;
        }
        if let Some(connection) = self.connections.get(&id) {
            self.peers.clients.gave(&connection.client, self.now.mono_us, bytes, records);
        }
    }

    /// Gives credit back to a partition, now or once the client may have more.
    pub(super) fn give_credit(
        &mut self,
        subscriber: SubscriberId,
        partition: PartitionId,
        bytes: u32,
    ) {
        if self.peers.clients.are_limited()
            && let Some(connection) = self.connections.get_mut(&subscriber.connection)
        {
            let now_us = self.now.mono_us;
            let (_, wait_us) = self.peers.clients.waits_us(&connection.client, now_us);
            if wait_us > 0 {
                let place = (subscriber.subscription, partition.index);
                let held = connection.held_credit.entry(place).or_default();
                *held = held.saturating_add(bytes);
                debug_assert!(
                    connection.held_credit.len()
                        <= SUBSCRIPTIONS_MAX as usize * lanecast_wire::SLOTS as usize
                );
                self.throttle(subscriber.connection, wait_us);
                return;
            }
        }
        let message = ShardMessage::Credit { subscriber, partition, bytes };
        self.out.send(self.owner(partition), message);
    }

    /// Lets connections go on whose time has come.
    pub(super) fn end_throttles(&mut self) {
        let now_us = self.now.mono_us;
        while let Some((until_us, id)) = self.peers.clients.waiting.first().copied()
            && until_us <= now_us
        {
            self.settle_throttle(id);
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let (taken_us, given_us) = self.peers.clients.waits_us(&connection.client, now_us);
            // Another connection of the same client may have been faster.
            if taken_us == 0 && connection.resume(now_us, Pause::Rate) {
                self.out.actions.push_back(Action::SetReading { connection: id, on: true });
            }
            if given_us == 0 {
                self.give_held_credit(id);
            }
            let Some(connection) = self.connections.get(&id) else { continue };
            let paused = connection.is_paused(Pause::Rate).then_some(taken_us);
            let held = (!connection.held_credit.is_empty()).then_some(given_us);
            // Each of them ends when it is due; the other is waited for anew.
            if let Some(wait_us) = paused.into_iter().chain(held).min() {
                self.throttle(id, wait_us);
            }
        }
    }

    fn give_held_credit(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        for ((subscription, index), bytes) in std::mem::take(&mut connection.held_credit) {
            let Some(topic) = self.subscribed_topic(id, subscription) else { continue };
            let partition = PartitionId { topic, index };
            let subscriber = SubscriberId { connection: id, subscription };
            let message = ShardMessage::Credit { subscriber, partition, bytes };
            self.out.send(self.owner(partition), message);
        }
    }

    fn subscribed_topic(
        &self,
        id: ConnectionId,
        subscription: SubscriptionId,
    ) -> Option<lanecast_wire::TopicId> {
        let connection = self.connections.get(&id)?;
        connection.subscriptions.get(&subscription).map(|state| state.topic)
    }

    /// Looks at the connection again when this wait is over, or when one that ends before is.
    fn throttle(&mut self, id: ConnectionId, wait_us: u64) {
        let now_us = self.now.mono_us;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let before = connection.throttled;
        let until_us = now_us + wait_us;
        let since_us = before.map_or(now_us, |before| before.since_us);
        if before.is_none_or(|before| until_us < before.until_us) {
            connection.throttled = Some(Throttled { since_us, until_us });
            let waiting = &mut self.peers.clients.waiting;
            if let Some(before) = before {
                waiting.remove(&(before.until_us, id));
            }
            waiting.insert((until_us, id));
        }
    }

    /// Ends the wait of a connection, whatever comes next, and counts it.
    pub(super) fn settle_throttle(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(Throttled { since_us, until_us }) = connection.throttled.take() {
            self.peers.clients.waiting.remove(&(until_us, id));
            let us = self.now.mono_us.saturating_sub(since_us);
            self.peers.clients.throttled(&connection.client, us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_second_at_once_and_then_its_rate() {
        let mut bucket = Bucket::new(1000);
        let start = 50_000_000;
        bucket.take(start, 1000);
        assert_eq!(bucket.wait_us(start), 0, "a second's worth is there at once");
        bucket.take(start, 500);
        assert_eq!(bucket.wait_us(start), 500_000);
        assert_eq!(bucket.wait_us(start + 500_000), 0);
        // However it is asked for, an hour brings an hour's worth and one second more.
        let (mut now_us, mut taken) = (start + 500_000, 1500);
        while now_us < start + 3_600_000_000 {
            bucket.take(now_us, 77);
            taken += 77;
            now_us += bucket.wait_us(now_us);
        }
        assert!((3_600_000..=3_601_100).contains(&taken), "{taken}");
    }

    #[test]
    fn no_limit_is_no_wait() {
        let mut bucket = Bucket::new(0);
        bucket.take(0, u64::MAX);
        assert_eq!(bucket.wait_us(0), 0);
    }
}
