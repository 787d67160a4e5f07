//! The end of a run: faults stop, everything has to drain, and is compared.

use std::collections::BTreeMap;

use lanecast_core::{Event, PartitionState, PartitionStats, ShardStats};
use lanecast_wire::message::Durability;

use super::{Phase, Task, World};
use crate::broker::Broker;
use crate::client::{Client, Reader, Role, Undertaker};
use crate::disk::Crash;
use crate::scenario::{LETTERS, TOPIC, group_number};

/// Virtual time that the calm phase may take until everything has drained.
const CALM_US_MAX: u64 = 60_000_000;
/// How often the calm phase looks whether everything has drained.
const CHECK_US: u64 = 50_000;

impl World {
    pub(super) fn calm(&mut self) {
        self.phase = Phase::Calm;
        self.calm_since_us = self.now_us;
        self.add_client(Role::Reader(Reader::audit()));
        self.schedule(CHECK_US, Task::Check);
    }

    pub(super) fn check(&mut self) {
        let waited_us = self.now_us - self.calm_since_us;
        if let Some(ends) = self.drained_ends() {
            self.compare(&ends);
            match self.phase {
                Phase::Calm => {
                    self.phase = Phase::Aftermath;
                    self.calm_since_us = self.now_us;
                    let power = self.scenario.durability == Durability::Fsync;
                    self.die(if power { Crash::Power } else { Crash::Process });
                    // A fresh one, in the old one's place: the others keep their numbers.
                    let audit = self.clients.iter().position(is_audit).expect("there is one");
                    self.clients[audit].role = Role::Reader(Reader::audit());
                    for client in &mut self.clients {
                        if let Role::Undertaker(undertaker) = &mut client.role {
                            *undertaker = Undertaker::default();
                        }
                    }
                }
                Phase::Aftermath => {
                    self.phase = Phase::Draining;
                    self.calm_since_us = self.now_us;
                    for shard in 0..self.broker.as_ref().map_or(0, Broker::shards) {
                        self.event(shard, Event::Drain);
                    }
                }
                Phase::Chaos | Phase::Draining | Phase::Done => {}
            }
        } else if waited_us > CALM_US_MAX {
            let stats = self.stats();
            panic!("{:?} does not come to rest: {stats:#?}\n{:#?}", self.phase, self.clients);
        }
        self.schedule(CHECK_US, Task::Check);
    }

    /// The ends of all partitions, if clients and broker have nothing left to do.
    pub(super) fn drained_ends(&mut self) -> Option<BTreeMap<u32, u64>> {
        if self.phase == Phase::Draining {
            return None;
        }
        let stats = self.stats();
        let all = || stats.iter().flat_map(|shard| &shard.partitions);
        let of = |topic: &'static str| all().filter(move |partition| partition.topic == topic);
        let partitions: BTreeMap<u32, _> =
            of(TOPIC).map(|partition| (partition.partition.index, partition)).collect();
        if partitions.len() != self.scenario.partitions as usize {
            return None;
        }
        let ours = |p: &'_ PartitionStats| {
            p.groups.clone().into_iter().filter(|g| group_number(&g.name).is_some())
        };
        let online = |p: &PartitionStats| {
            p.state == PartitionState::Online
                && p.burials == 0
                && ours(p).count() == self.scenario.groups
                && ours(p).all(|g| g.lag_records == 0 && g.acked_upto == p.high_watermark)
        };
        if !partitions.values().all(|partition| online(partition)) {
            return None;
        }
        let letters: BTreeMap<u32, u64> =
            of(LETTERS).map(|p| (p.partition.index, p.high_watermark)).collect();
        if !of(LETTERS).all(|partition| partition.state == PartitionState::Online) {
            return None;
        }
        let ends: BTreeMap<u32, u64> =
            partitions.values().map(|p| (p.partition.index, p.high_watermark)).collect();
        let idle = self.clients.iter().all(|client| match &client.role {
            Role::Producer(producer) => producer.is_done(),
            Role::Reader(reader) => reader.is_subscribed() && *reader.next() == ends,
            Role::Undertaker(undertaker) => *undertaker.next() == letters,
            Role::Member(_) | Role::Clerk(_) | Role::Mover(_) | Role::Vandal(_) => true,
        });
        idle.then_some(ends)
    }

    pub(super) fn compare(&mut self, ends: &BTreeMap<u32, u64>) {
        let audit = self.clients.iter().find_map(|client| match &client.role {
            Role::Reader(reader) if reader.is_audit() => Some(reader),
            Role::Reader(_)
            | Role::Producer(_)
            | Role::Member(_)
            | Role::Undertaker(_)
            | Role::Clerk(_)
            | Role::Mover(_)
            | Role::Vandal(_) => None,
        });
        let audit = audit.expect("there is one since the calm began");
        self.oracle.check_audit(audit.from(), ends, audit.seen(), audit.expired());
        self.oracle.check_store(
            &self.store,
            ends,
            |group| !self.scenario.is_piecemeal(group),
            self.now_us,
        );
        self.oracle.check_settled(ends, self.now_us);
    }

    pub(super) fn stats(&mut self) -> Vec<ShardStats> {
        self.broker.as_mut().map_or_else(Vec::new, Broker::stats)
    }
}

fn is_audit(client: &Client) -> bool {
    match &client.role {
        Role::Reader(reader) => reader.is_audit(),
        Role::Producer(_)
        | Role::Member(_)
        | Role::Undertaker(_)
        | Role::Clerk(_)
        | Role::Mover(_)
        | Role::Vandal(_) => false,
    }
}
