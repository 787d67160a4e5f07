//! The world of one seed: time, broker, disk, network, clients, and what goes wrong.

mod ending;
mod faults;
mod host;
mod links;
mod storing;

use std::collections::BTreeMap;

use lanecast_core::{Migrant, Now, OperationId};

use crate::broker::Broker;
use crate::client::{Clerk, Client, Member, Mover, Producer, Reader, Role, Undertaker, Vandal};
use crate::disk::{Disk, Ticket};
use crate::network::{LinkId, Network};
use crate::oracle::{Expiry, GroupKey, Oracle};
use crate::report::Report;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::store::{SentInsert, Store};
use crate::trace::Trace;

/// Tasks of one run before it is taken for a loop that never ends.
const TASKS_MAX: u64 = 3_000_000;
/// Wall clock at virtual time 0.
const EPOCH_MS: i64 = 1_760_000_000_000;

#[derive(Debug)]
enum Task {
    Disk { incarnation: u32, shard: usize, operation: OperationId, ticket: Ticket },
    Ring { incarnation: u32, from: usize, to: usize },
    Arrive { incarnation: u32, link: LinkId, to: usize, migrant: Box<Migrant> },
    Poll { incarnation: u32, shard: usize },
    Timeout { incarnation: u32, shard: usize },
    ToBroker(LinkId),
    ToClient(LinkId),
    EndAtBroker(LinkId),
    EndAtClient(LinkId),
    Wake { client: usize },
    Insert { client: usize, sent: Box<SentInsert> },
    Inserted { client: usize, job: u64, stored: bool },
    Reset,
    Vanish,
    Stall,
    Freeze,
    ClockJump,
    DiskFull,
    Rot,
    Crash,
    Restart,
    Calm,
    Check,
}

/// What the run is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Chaos,
    /// Everything has to drain.
    Calm,
    /// Everything has drained and power is lost once more: a fresh reader has to find it all.
    Aftermath,
    Draining,
    Done,
}

pub struct World {
    scenario: Scenario,
    rng: Rng,
    now_us: u64,
    tasks: BTreeMap<(u64, u64), Task>,
    scheduled: u64,
    phase: Phase,
    calm_since_us: u64,
    /// By how much the wall clock is off.
    wall_shift_ms: i64,
    broker: Option<Broker>,
    incarnations: u32,
    shards: u16,
    /// Records that groups have lost, as this life of the broker has counted them so far.
    skipped: BTreeMap<GroupKey, u64>,
    disk: Disk,
    disk_full_until_us: u64,
    store: Store,
    network: Network,
    clients: Vec<Client>,
    oracle: Oracle,
    trace: Trace,
    report: Report,
}

impl World {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::draw(&mut rng);
        let mut world = Self {
            rng,
            now_us: 1_000_000,
            tasks: BTreeMap::new(),
            scheduled: 0,
            phase: Phase::Chaos,
            calm_since_us: 0,
            wall_shift_ms: 0,
            broker: None,
            incarnations: 0,
            shards: 0,
            skipped: BTreeMap::new(),
            disk: Disk::default(),
            disk_full_until_us: 0,
            store: Store::default(),
            network: Network::default(),
            clients: Vec::new(),
            oracle: Oracle::default(),
            trace: Trace::new(seed),
            report: Report::default(),
            scenario,
        };
        world.trace.note(|| format!("{:#?}", world.scenario));
        world.prepare();
        world
    }

    fn prepare(&mut self) {
        let faults = self.scenario.disk_faults;
        self.oracle.leases_may_vanish = faults.write_one_in > 0 || self.scenario.disk_full > 0;
        self.oracle.records_may_go = self.scenario.retention_bytes > 0;
        self.oracle.retention_breaks_leases =
            self.scenario.retention_bytes > 0 && self.scenario.retention_breaks_leases;
        self.oracle.expiry = Expiry::of(&self.scenario);
        for _ in 0..self.scenario.producers {
            let id = self.rng.next();
            let batches = self.scenario.batches_per_producer;
            self.add_client(Role::Producer(Producer::new(id, batches)));
            if self.scenario.succeeded {
                let from_us = self.now_us + self.rng.between(1, self.scenario.chaos_us);
                self.add_client(Role::Producer(Producer::successor(id, batches / 2, from_us)));
            }
        }
        for reader in 0..self.scenario.broadcasts as u32 {
            let reader = if reader % 2 == 0 { Reader::new() } else { Reader::filtered(reader) };
            self.add_client(Role::Reader(reader));
        }
        for group in 0..self.scenario.groups {
            for _ in 0..self.scenario.members_per_group {
                self.add_client(Role::Member(Member::new(group)));
            }
        }
        if self.scenario.has_letters() {
            self.add_client(Role::Undertaker(Undertaker::default()));
        }
        if self.scenario.has_clerk {
            self.add_client(Role::Clerk(Clerk::default()));
        }
        if self.scenario.has_mover {
            self.add_client(Role::Mover(Mover::default()));
        }
        if self.scenario.vandal {
            self.add_client(Role::Vandal(Vandal::default()));
        }
        let chaos_us = self.scenario.chaos_us;
        let faults: [(u64, fn() -> Task); 8] = [
            (self.scenario.crashes, || Task::Crash),
            (self.scenario.resets, || Task::Reset),
            (self.scenario.holes, || Task::Vanish),
            (self.scenario.stalls, || Task::Stall),
            (self.scenario.freezes, || Task::Freeze),
            (self.scenario.clock_jumps, || Task::ClockJump),
            (self.scenario.disk_full, || Task::DiskFull),
            (self.scenario.rots, || Task::Rot),
        ];
        for (count, task) in faults {
            for _ in 0..count {
                let at = self.rng.between(1_000, chaos_us);
                self.schedule(at, task());
            }
        }
        self.schedule(chaos_us, Task::Calm);
        self.start_broker();
    }

    fn add_client(&mut self, role: Role) {
        self.clients.push(Client::new(role));
        let at = self.now_us + self.rng.between(1, 20_000);
        self.wake_later(self.clients.len() - 1, at);
    }

    /// Of several wishes the earliest counts: clients say again what they wait for when woken.
    fn wake_later(&mut self, client: usize, at: u64) {
        let wake_at = &mut self.clients[client].wake_at_us;
        if wake_at.is_none_or(|known| at < known) {
            *wake_at = Some(at);
            self.schedule(at - self.now_us, Task::Wake { client });
        }
    }

    /// Runs to the end. Panics where the broker breaks a promise.
    #[must_use]
    pub fn run(mut self) -> Report {
        while self.phase != Phase::Done {
            let ((at, _), task) = self.tasks.pop_first().expect("checks are always scheduled");
            self.now_us = at;
            self.report.tasks += 1;
            assert!(self.report.tasks < TASKS_MAX, "the run does not come to rest");
            self.trace.task(at, &task);
            self.perform(task);
        }
        self.count();
        self.report
    }

    fn schedule(&mut self, delay_us: u64, task: Task) {
        self.scheduled += 1;
        self.tasks.insert((self.now_us + delay_us, self.scheduled), task);
    }

    /// Whose turn it is not: its core or its process stands still until then.
    fn held_until_us(&self, task: &Task) -> u64 {
        let stalled =
            |shard: usize| self.broker.as_ref().map_or(0, |broker| broker.stalled_until_us(shard));
        let frozen =
            |client: usize| self.clients.get(client).map_or(0, |client| client.frozen_until_us);
        match task {
            Task::Disk { shard, .. } | Task::Poll { shard, .. } | Task::Timeout { shard, .. } => {
                stalled(*shard)
            }
            Task::Ring { to, .. } | Task::Arrive { to, .. } => stalled(*to),
            Task::ToBroker(link) | Task::EndAtBroker(link) => {
                self.network.ends(*link).map_or(0, |(_, shard)| stalled(shard))
            }
            Task::ToClient(link) | Task::EndAtClient(link) => {
                self.network.ends(*link).map_or(0, |(client, _)| frozen(client))
            }
            Task::Wake { client } | Task::Inserted { client, .. } => frozen(*client),
            Task::Insert { .. }
            | Task::Reset
            | Task::Vanish
            | Task::Stall
            | Task::Freeze
            | Task::ClockJump
            | Task::DiskFull
            | Task::Rot
            | Task::Crash
            | Task::Restart
            | Task::Calm
            | Task::Check => 0,
        }
    }

    fn perform(&mut self, task: Task) {
        let held_until_us = self.held_until_us(&task);
        if held_until_us > self.now_us {
            self.schedule(held_until_us - self.now_us, task);
            return;
        }
        match task {
            Task::Disk { incarnation, shard, operation, ticket } => {
                if self.incarnations == incarnation && self.broker.is_some() {
                    self.disk_step(shard, operation, ticket);
                }
            }
            Task::Ring { incarnation, from, to } => {
                if let Some(broker) = self.broker.as_mut().filter(|b| b.incarnation == incarnation)
                {
                    let message = broker.take_ring(from, to);
                    self.ring(from, to, message);
                }
            }
            Task::Arrive { incarnation, link, migrant, .. } => {
                if self.broker.as_ref().is_some_and(|b| b.incarnation == incarnation) {
                    self.arrive(link, migrant);
                }
            }
            Task::Poll { incarnation, shard } => {
                if self.broker.as_ref().is_some_and(|b| b.incarnation == incarnation) {
                    self.poll(shard);
                }
            }
            Task::Timeout { incarnation, shard } => {
                let now = self.now();
                if let Some(broker) = self.broker.as_mut().filter(|b| b.incarnation == incarnation)
                    && broker.timeout_reached(shard, now.mono_us)
                {
                    broker.shard(shard).handle_timeout(now);
                    self.poll_soon(shard);
                }
            }
            Task::ToBroker(link) => self.deliver_to_broker(link),
            Task::ToClient(link) => self.deliver_to_client(link),
            Task::EndAtBroker(link) => self.end_at_broker(link),
            Task::EndAtClient(link) => self.end_at_client(link),
            Task::Wake { client } => self.wake(client),
            Task::Insert { client, sent } => self.insert(client, *sent),
            Task::Inserted { client, job, stored } => {
                self.with_client(client, 0, |client, turn| client.inserted(job, stored, turn));
            }
            Task::Reset => self.reset(),
            Task::Vanish => self.vanish(),
            Task::Stall => self.stall(),
            Task::Freeze => self.freeze(),
            Task::ClockJump => self.jump(),
            Task::DiskFull => self.fill_disk(),
            Task::Rot => self.rot(),
            Task::Crash => self.crash(),
            Task::Restart => {
                if self.broker.is_none() {
                    self.start_broker();
                }
            }
            Task::Calm => self.calm(),
            Task::Check => self.check(),
        }
    }

    fn now(&self) -> Now {
        let wall_ms = EPOCH_MS + (self.now_us / 1000) as i64 + self.wall_shift_ms;
        Now { mono_us: self.now_us, wall_ms }
    }
}
