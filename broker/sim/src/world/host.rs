//! Drives the shards: events in, actions out, rings, disk and crashes.

use lanecast_core::{Action, Event, LogId, Migrant, OperationId, ShardId, ShardMessage};

use super::{Phase, Task, World};
use crate::broker::Broker;
use crate::disk::{Crash, DiskFaults, Step, Ticket};
use crate::network::LinkId;
use crate::scenario::TOPIC;

/// Events that a shard may get before its actions are polled.
const POLL_US: (u64, u64) = (1, 60);
/// How long a crashed broker stays down.
const DOWN_US: (u64, u64) = (1_000, 200_000);

impl World {
    pub(super) fn start_broker(&mut self) {
        self.incarnations += 1;
        let mut shards = self.scenario.shards;
        if self.scenario.shards_vary && self.incarnations > 1 {
            shards = self.rng.between(1, 4) as u16;
        }
        let others = self.shards != 0 && self.shards != shards;
        self.report.restarts_with_other_shards += u64::from(others);
        self.shards = shards;
        self.skipped.clear();
        let seed = self.rng.next();
        self.broker = Some(Broker::start(&self.scenario, self.incarnations, shards, seed));
        for shard in 0..usize::from(shards) {
            self.poll_soon(shard);
        }
    }

    pub(super) fn event(&mut self, shard: usize, event: Event<'_>) {
        let now = self.now();
        if let Some(broker) = &mut self.broker {
            broker.shard(shard).handle(now, event);
            self.poll_soon(shard);
        }
    }

    pub(super) fn ring(&mut self, from: usize, to: usize, message: ShardMessage) {
        let from = ShardId(from as u16);
        self.event(to, Event::Ring { from, message });
    }

    /// Actions are polled a little later, so that events gather.
    pub(super) fn poll_soon(&mut self, shard: usize) {
        let Some(broker) = &mut self.broker else { return };
        if broker.poll_due(shard) {
            let incarnation = broker.incarnation;
            let delay_us = self.rng.delay(POLL_US.0, POLL_US.1);
            self.schedule(delay_us, Task::Poll { incarnation, shard });
        }
    }

    pub(super) fn poll(&mut self, shard: usize) {
        let now = self.now();
        let Some(broker) = &mut self.broker else { return };
        let incarnation = broker.incarnation;
        let mut actions = Vec::new();
        broker.poll(shard, &mut actions);
        for action in actions {
            self.trace.action(shard, &action);
            self.act(incarnation, shard, action);
        }
        self.network.polled(shard);
        if self.scenario.retention_bytes > 0 {
            self.note_skipped();
        }
        let Some(broker) = &mut self.broker else { return };
        if let Some(at) = broker.next_timeout(shard, now.mono_us) {
            self.schedule(at - self.now_us, Task::Timeout { incarnation, shard });
        }
    }

    pub(super) fn act(&mut self, incarnation: u32, shard: usize, action: Action) {
        match action {
            Action::Send { connection, buffers, .. } => {
                if let Some(id) = self.network.find(shard, connection) {
                    let now_us = self.now_us;
                    let link = self.network.link(id).expect("it was found");
                    assert!(!link.closing, "sent after close");
                    link.send_to_client(now_us, buffers);
                    self.schedule_to_client(id);
                }
            }
            Action::SetReading { connection, on } => {
                if let Some(id) = self.network.find(shard, connection) {
                    self.network.link(id).expect("it was found").reading = on;
                    self.schedule_to_broker(id);
                }
            }
            Action::Expect { connection, bytes } => {
                if let Some(id) = self.network.find(shard, connection) {
                    self.network.link(id).expect("it was found").fills = bytes > 0;
                }
            }
            Action::Gather { connection, begun } => {
                if let Some(id) = self.network.find(shard, connection) {
                    let link = self.network.link(id).expect("it was found");
                    assert!(begun.len() < begun.capacity(), "there is room to receive into");
                    assert!(link.begun.replace(begun).is_none(), "one frame at a time");
                }
            }
            Action::Migrate { connection, to, migrant } => {
                let to = usize::from(to.0);
                let Some(link) = self.network.depart(shard, connection, to) else { return };
                self.report.migrations += 1;
                let delay_us = self.rng.delay(self.scenario.ring_us.0, self.scenario.ring_us.1);
                self.schedule(delay_us, Task::Arrive { incarnation, link, to, migrant });
            }
            Action::Close { connection } | Action::Expel { connection, .. } => {
                if let Some(id) = self.network.find(shard, connection) {
                    self.network.link(id).expect("it was found").closing = true;
                    self.schedule_to_client(id);
                }
            }
            Action::Ring { to, message } => {
                let to = usize::from(to.0);
                let broker = self.broker.as_mut().expect("it acts");
                broker.put_ring(shard, to, message);
                let delay_us = self.rng.delay(self.scenario.ring_us.0, self.scenario.ring_us.1);
                self.schedule(delay_us, Task::Ring { incarnation, from: shard, to });
            }
            Action::Disk { operation, request } => {
                let ticket = self.disk.begin(request);
                self.disk_later(incarnation, shard, operation, ticket);
            }
            Action::Damaged { log, damage } => {
                // A torn write may leave padding that is none; anything else is to be explained.
                let explained = match log {
                    LogId::Data(partition) => {
                        let is_ours = self.oracle.topic_number(TOPIC) == Some(partition.topic.0);
                        let damaged = damage.first..damage.end;
                        let durability = self.scenario.durability;
                        is_ours && self.oracle.may_be_damaged(durability, partition.index, damaged)
                    }
                    LogId::Groups(_) | LogId::Catalog => false,
                };
                assert!(explained || !damage.loses_records(), "{log:?} is damaged: {damage}");
                self.report.damages_reported += u64::from(damage.loses_records());
            }
            Action::Drained => {
                let broker = self.broker.as_mut().expect("it acts");
                if broker.drained(shard) {
                    assert_eq!(self.phase, Phase::Draining, "drained without being asked");
                    self.phase = Phase::Done;
                }
            }
        }
    }

    /// A connection has come to its new shard, which may have drained meanwhile.
    pub(super) fn arrive(&mut self, link: LinkId, migrant: Box<Migrant>) {
        let Some((_, shard)) = self.network.ends(link) else { return };
        let broker = self.broker.as_mut().expect("it acts");
        let connection = broker.adopt(shard);
        let Some(outbound_bytes) = self.network.arrive(link, connection) else { return };
        self.event(shard, Event::Arrived { connection, outbound_bytes, migrant });
        self.schedule_to_broker(link);
        self.schedule_to_client(link);
    }

    pub(super) fn disk_later(
        &mut self,
        incarnation: u32,
        shard: usize,
        operation: OperationId,
        ticket: Ticket,
    ) {
        let delay_us = self.rng.delay(self.scenario.disk_us.0, self.scenario.disk_us.1);
        self.schedule(delay_us, Task::Disk { incarnation, shard, operation, ticket });
    }

    pub(super) fn disk_step(&mut self, shard: usize, operation: OperationId, ticket: Ticket) {
        let faults = if self.phase == Phase::Chaos {
            let full = self.now_us < self.disk_full_until_us;
            DiskFaults { full, ..self.scenario.disk_faults }
        } else {
            DiskFaults::default()
        };
        match self.disk.step(ticket, faults, &mut self.rng) {
            Step::Again => self.disk_later(self.incarnations, shard, operation, ticket),
            Step::Done(outcome) => self.event(shard, Event::Disk { operation, outcome }),
        }
    }

    pub(super) fn crash(&mut self) {
        if self.phase == Phase::Chaos && self.broker.is_some() {
            let power = self.rng.one_in(self.scenario.power_one_in);
            self.die(if power { Crash::Power } else { Crash::Process });
        }
    }

    pub(super) fn die(&mut self, crash: Crash) {
        self.report.crashes += 1;
        self.oracle.deaths += 1;
        self.report.crashes_of_power += u64::from(crash == Crash::Power);
        self.broker = None;
        self.disk.crash(crash, &mut self.rng);
        if self.scenario.voids_promises(crash) {
            self.oracle.forget();
            self.store.damaged = true;
        }
        for client in 0..self.clients.len() {
            self.oracle.released(client);
        }
        for link in self.network.broker_died() {
            // A machine without power says nothing to anyone.
            if crash == Crash::Power && self.phase == Phase::Chaos && self.rng.one_in(2) {
                self.network.link(link).expect("just listed").hole = true;
                continue;
            }
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::EndAtClient(link));
        }
        let down_us = self.rng.delay(DOWN_US.0, DOWN_US.1);
        self.schedule(down_us, Task::Restart);
    }
}
