//! One core of the broker and all that it owns.
//!
//! ```text
//!              handle(now, event)                         poll_action()
//!   Received ─▶ session ─▶ requests ──┐              ┌──▶ Ring   (to other shards)
//!   Ring ──────────────────────────── ┼▶ partitions ─┤
//!   Disk ─────────────────────────────┘   catalog    ├──▶ Disk   (commits, reads)
//!   Sent, Disconnected ─▶ connections ◀── answers ◀──┴──▶ Send, Close
//! ```
//!
//! [`Shard::handle`] takes events in and does little; [`Shard::poll_action`] does what several
//! events share (commits, fan-out) and gives what is to be done. A shell that handles a handful of
//! events before it polls gets them gathered into one commit and one send.
//!
//! Requests travel one way, from the connection to the owner of the partition, and answers the
//! other; whether the owner is another shard or this one makes no difference to the code. A connection
//! may ask to be brought to the owner (`migration.rs`).

mod catalog;
mod connection;
mod input;
mod messages;
mod migration;
mod peers;
mod rates;
mod removals;
mod requests;
#[cfg(test)]
mod tests;
mod topic_record;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lanecast_wire::message::TopicInfo;
use lanecast_wire::{PartitionId, TopicId};

use self::catalog::Catalog;
use self::connection::Connection;
pub use self::migration::Migrant;
use self::peers::Peers;
use self::rates::Clients;
use self::removals::Removals;
pub(crate) use self::topic_record::{CatalogRecord, decode as decode_topic};
use crate::disk::Operations;
use crate::limits::READS_RETRY_US;
use crate::outbox::Outbox;
use crate::partition::Partition;
use crate::{
    Action, ConnectionId, DiskDone, DiskError, Event, LogId, Now, OperationId, ShardConfig,
    ShardId, ShardMessage, ShardStats,
};

/// A sans-IO state machine: [`Shard::handle`] takes what happened, [`Shard::poll_action`] gives
/// what shall be done, [`Shard::poll_timeout`] says when to call [`Shard::handle_timeout`] if
/// nothing happens before.
pub struct Shard {
    config: ShardConfig,
    now: Now,
    operations: Operations,
    out: Outbox,
    /// On shard 0 only.
    catalog: Option<Catalog>,
    catalog_dirty: bool,
    /// This shard knows all topics that there were at the start.
    catalog_ready: bool,
    topics: BTreeMap<TopicId, Arc<TopicInfo>>,
    names: BTreeMap<String, TopicId>,
    /// Topics whose partitions here are being opened for the first time.
    opening: BTreeSet<TopicId>,
    removals: Removals,
    partitions: BTreeMap<PartitionId, Partition>,
    /// Partitions that may have something to do.
    dirty: BTreeSet<PartitionId>,
    /// Partitions that a failure of the disk has closed.
    offline: BTreeSet<PartitionId>,
    /// When partitions want to be looked at, and what was entered for each.
    timers: BTreeSet<(u64, PartitionId)>,
    timer_of: BTreeMap<PartitionId, u64>,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections whose sessions have something to send.
    unsent: BTreeSet<ConnectionId>,
    subscribers: u32,
    peers: Peers,
    /// When to see to reads that wait for memory.
    reads_look_us: Option<u64>,
    draining: bool,
    drained: bool,
}

impl Shard {
    /// A shard that knows nothing yet: its first actions open the catalog and the logs.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        assert!(config.shards > 0 && config.shard.0 < config.shards, "a shard of those there are");
        let catalog = (config.shard == ShardId(0)).then(|| Catalog::new(&config));
        Shard {
            now: Now { mono_us: 0, wall_ms: 0 },
            operations: Operations::new(config.budget.clone()),
            out: Outbox::new(config.shard),
            catalog_dirty: catalog.is_some(),
            catalog,
            catalog_ready: false,
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            opening: BTreeSet::new(),
            removals: Removals::default(),
            partitions: BTreeMap::new(),
            dirty: BTreeSet::new(),
            offline: BTreeSet::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            connections: BTreeMap::new(),
            unsent: BTreeSet::new(),
            subscribers: 0,
            peers: Peers::new(Clients::new(
                config.client_bytes_per_second,
                config.client_records_per_second,
            )),
            reads_look_us: None,
            draining: false,
            drained: false,
            config,
        }
    }

    /// Takes one event. Events about connections and operations that are not known (any more) are
    /// no errors: they cross with what this shard has just said.
    pub fn handle(&mut self, now: Now, event: Event<'_>) {
        self.now = now;
        match event {
            Event::Connected { connection } => self.connected(connection),
            Event::Received { connection, bytes } => self.received(connection, bytes),
            Event::Filled { connection, buffer } => self.filled(connection, buffer),
            Event::Sent { connection, bytes } => self.sent(connection, bytes),
            Event::Arrived { connection, outbound_bytes, migrant } => {
                self.arrived(connection, outbound_bytes, *migrant);
            }
            Event::Disconnected { connection } => self.disconnected(connection),
            Event::Ring { from, message } => self.message(from, message),
            Event::Disk { operation, outcome } => self.disk(operation, outcome),
            Event::Drain => self.drain(),
        }
    }

    /// The next thing to do; `None` until the next event or timeout.
    pub fn poll_action(&mut self) -> Option<Action> {
        loop {
            if let Some(action) = self.out.actions.pop_front() {
                return Some(action);
            }
            if let Some((operation, request)) = self.operations.poll() {
                return Some(Action::Disk { operation, request });
            }
            if !self.work() {
                self.reads_look_us = match self.reads_look_us {
                    at_us if self.operations.is_short() => {
                        Some(at_us.unwrap_or(self.now.mono_us + READS_RETRY_US))
                    }
                    Some(_) | None => None,
                };
                return None;
            }
        }
    }

    /// The monotonic time, in microseconds, at which [`Shard::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        let partitions = self.timers.first().map(|(due, _)| *due);
        let catalog = self.catalog.as_ref().and_then(Catalog::poll_timeout);
        let removals = self.removals.poll_timeout();
        let peers = self.peers.poll_timeout();
        let all = [partitions, catalog, removals, peers, self.reads_look_us];
        all.into_iter().flatten().min()
    }

    /// Time has passed: what has become due is done by [`Shard::poll_action`]. Early or needless
    /// calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        while let Some((due, partition)) = self.timers.first().copied()
            && due <= now.mono_us
        {
            self.timers.pop_first();
            self.timer_of.remove(&partition);
            self.dirty.insert(partition);
        }
        self.look_at_peers();
        self.end_throttles();
        self.see_to_reads();
        self.catalog_dirty |= self
            .catalog
            .as_ref()
            .and_then(Catalog::poll_timeout)
            .is_some_and(|due| due <= now.mono_us);
    }

    /// Partitions that take and hand out nothing since a disk operation failed. Cheap, so that it
    /// may be asked after every turn.
    #[must_use]
    pub fn offline_partitions(&self) -> usize {
        self.offline.iter().filter(|id| self.partitions.contains_key(id)).count()
    }

    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            shard: self.config.shard,
            ready: self.catalog_ready && self.partitions.values().all(Partition::is_settled),
            draining: self.draining,
            connections: u32::try_from(self.connections.len()).unwrap_or(u32::MAX),
            subscribers: self.subscribers,
            offences: self.peers.offences,
            throttled_ms: self.peers.clients.throttled_us() / 1000,
            clients: self.peers.clients.stats(),
            partitions: self.partitions.values().map(Partition::stats).collect(),
        }
    }

    /// One piece of work that several events share. Was there any?
    fn work(&mut self) -> bool {
        if let Some(message) = self.out.local.pop_front() {
            self.message(self.config.shard, message);
            return true;
        }
        if std::mem::take(&mut self.catalog_dirty) {
            if let Some(catalog) = &mut self.catalog {
                catalog.pump(self.now, &mut self.operations, &mut self.out);
            }
            return true;
        }
        if let Some(id) = self.dirty.pop_first() {
            self.pump(id);
            return true;
        }
        if let Some(topic) = self.removals.poll_removed() {
            self.out.send(ShardId(0), ShardMessage::TopicRemoved { topic });
            return true;
        }
        if self.removals.pump(self.now, &mut self.operations) {
            return true;
        }
        if let Some(id) = self.unsent.pop_first() {
            self.flush(id);
            return true;
        }
        self.draining && self.finish_drain()
    }

    /// Reads wait for memory: what was read ahead for subscribers that take nothing is let go.
    fn see_to_reads(&mut self) {
        if self.reads_look_us.is_some_and(|at_us| at_us <= self.now.mono_us) {
            self.reads_look_us = None;
            for partition in self.partitions.values_mut() {
                partition.release_reads();
            }
        }
    }

    fn pump(&mut self, id: PartitionId) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.pump(self.now, &mut self.operations, &mut self.out);
        let due = partition.poll_timeout();
        if partition.is_offline() {
            self.offline.insert(id);
        } else {
            self.offline.remove(&id);
        }
        if let Some(before) = self.timer_of.remove(&id) {
            self.timers.remove(&(before, id));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
            self.timer_of.insert(id, due);
        }
        if self.opening.contains(&id.topic) {
            self.settle_topic(id.topic);
        }
    }

    fn disk(&mut self, operation: OperationId, mut outcome: Result<DiskDone, DiskError>) {
        let Some(log) = self.operations.complete(operation, &mut outcome) else { return };
        if self.removals.complete(self.now, log, &outcome) {
            return;
        }
        match log {
            LogId::Catalog => {
                if let Some(catalog) = &mut self.catalog {
                    catalog.complete(self.now, operation, outcome, &mut self.operations);
                    self.catalog_dirty = true;
                }
            }
            LogId::Data(id) | LogId::Groups(id) => {
                if let Some(partition) = self.partitions.get_mut(&id) {
                    partition.complete(self.now, log, operation, outcome, &mut self.operations);
                    self.dirty.insert(id);
                }
            }
        }
    }

    fn drain(&mut self) {
        self.draining = true;
        if let Some(catalog) = &mut self.catalog {
            catalog.stop();
            self.catalog_dirty = true;
        }
        for (id, partition) in &mut self.partitions {
            partition.drain(&mut self.out);
            self.dirty.insert(*id);
        }
    }

    /// Says goodbye to connections that wait for nothing, and `Drained` once all is done.
    fn finish_drain(&mut self) -> bool {
        if self.drained {
            return false;
        }
        let mut any = false;
        for (id, connection) in &mut self.connections {
            if !connection.goodbye && !connection.closing && connection.session.in_flight() == 0 {
                connection.goodbye = true;
                connection.session.goodbye("the broker is shutting down");
                self.unsent.insert(*id);
                any = true;
            }
        }
        let idle = self.catalog.as_ref().is_none_or(Catalog::is_idle)
            && self.partitions.values().all(Partition::is_idle)
            && self.operations.in_flight() == 0;
        if !any && idle && self.connections.is_empty() {
            self.drained = true;
            self.out.actions.push_back(Action::Drained);
            any = true;
        }
        any
    }

    /// Who owns a partition.
    fn owner(&self, partition: PartitionId) -> ShardId {
        let shards = u32::from(self.config.shards);
        ShardId(u16::try_from(partition.index % shards).expect("below the number of shards"))
    }
}
