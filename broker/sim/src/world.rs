//! The world of one seed: time, broker, disk, network, clients, and what goes wrong.

use std::collections::BTreeMap;

use bytes::BytesMut;
use lanecast_core::{Action, Event, Now, OperationId, PartitionState, ShardMessage, ShardStats};

use lanecast_wire::message::Durability;

use crate::broker::Broker;
use crate::client::{Client, Member, Producer, Reader, Role, Turn, Vandal};
use crate::disk::{Crash, Disk, DiskFaults, Step, Ticket};
use crate::network::{Link, LinkId, Network};
use crate::oracle::Oracle;
use crate::report::Report;
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::trace::Trace;

/// Tasks of one run before it is taken for a loop that never ends.
const TASKS_MAX: u64 = 3_000_000;
/// Virtual time that the calm phase may take until everything has drained.
const CALM_US_MAX: u64 = 60_000_000;
/// How often the calm phase looks whether everything has drained.
const CHECK_US: u64 = 50_000;
/// Events that a shard may get before its actions are polled.
const POLL_US: (u64, u64) = (1, 60);
/// How long a crashed broker stays down.
const DOWN_US: (u64, u64) = (1_000, 200_000);
/// Wall clock at virtual time 0.
const EPOCH_MS: i64 = 1_760_000_000_000;

#[derive(Debug)]
enum Task {
    Disk { incarnation: u32, shard: usize, operation: OperationId, ticket: Ticket },
    Ring { incarnation: u32, from: usize, to: usize },
    Poll { incarnation: u32, shard: usize },
    Timeout { incarnation: u32, shard: usize },
    ToBroker(LinkId),
    ToClient(LinkId),
    Wake { client: usize },
    Reset,
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
    broker: Option<Broker>,
    incarnations: u32,
    disk: Disk,
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
            broker: None,
            incarnations: 0,
            disk: Disk::default(),
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
        self.oracle.leases_may_vanish = faults.write_one_in > 0;
        self.oracle.records_may_go = self.scenario.retention_bytes > 0;
        for _ in 0..self.scenario.producers {
            let id = self.rng.next();
            let producer = Producer::new(id, self.scenario.batches_per_producer);
            self.add_client(Role::Producer(producer));
        }
        for _ in 0..self.scenario.broadcasts {
            self.add_client(Role::Reader(Reader::new()));
        }
        for group in 0..self.scenario.groups {
            for _ in 0..self.scenario.members_per_group {
                self.add_client(Role::Member(Member::new(group)));
            }
        }
        if self.scenario.vandal {
            self.add_client(Role::Vandal(Vandal));
        }
        let chaos_us = self.scenario.chaos_us;
        for _ in 0..self.scenario.crashes {
            let at = self.rng.between(1_000, chaos_us);
            self.schedule(at, Task::Crash);
        }
        for _ in 0..self.scenario.resets {
            let at = self.rng.between(1_000, chaos_us);
            self.schedule(at, Task::Reset);
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
        self.report.acknowledged_batches = self.oracle.acknowledged_batches();
        self.report.duplicates = self.oracle.duplicates;
        self.report.acked_chunks = self.oracle.acked_chunks();
        self.report.redelivered = self.oracle.redelivered();
        self.report.disk_faults = self.disk.faults_injected;
        self.report.blocks_torn = self.disk.blocks_torn;
        self.report.overtakings = self.disk.overtakings;
        self.report.recycled_segments = self.disk.recycled;
        self.report.missed_records = self.oracle.missed_records;
        self.report.forgotten_producers = self.oracle.forgotten_producers;
        self.report.resets = self.network.resets;
        self.report.trace_hash = self.trace.hash();
        self.report
    }

    fn schedule(&mut self, delay_us: u64, task: Task) {
        self.scheduled += 1;
        self.tasks.insert((self.now_us + delay_us, self.scheduled), task);
    }

    fn perform(&mut self, task: Task) {
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
            Task::Wake { client } => self.wake(client),
            Task::Reset => self.reset(),
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
        Now { mono_us: self.now_us, wall_ms: EPOCH_MS + (self.now_us / 1000) as i64 }
    }

    // The broker

    fn start_broker(&mut self) {
        self.incarnations += 1;
        let mut shards = self.scenario.shards;
        if self.scenario.shards_vary && self.incarnations > 1 {
            shards = self.rng.between(1, 4) as u16;
        }
        let seed = self.rng.next();
        self.broker = Some(Broker::start(&self.scenario, self.incarnations, shards, seed));
        for shard in 0..usize::from(shards) {
            self.poll_soon(shard);
        }
    }

    fn event(&mut self, shard: usize, event: Event<'_>) {
        let now = self.now();
        if let Some(broker) = &mut self.broker {
            broker.shard(shard).handle(now, event);
            self.poll_soon(shard);
        }
    }

    fn ring(&mut self, from: usize, to: usize, message: ShardMessage) {
        let from = lanecast_core::ShardId(from as u16);
        self.event(to, Event::Ring { from, message });
    }

    /// Actions are polled a little later, so that events gather.
    fn poll_soon(&mut self, shard: usize) {
        let Some(broker) = &mut self.broker else { return };
        if broker.poll_due(shard) {
            let incarnation = broker.incarnation;
            let delay_us = self.rng.delay(POLL_US.0, POLL_US.1);
            self.schedule(delay_us, Task::Poll { incarnation, shard });
        }
    }

    fn poll(&mut self, shard: usize) {
        let now = self.now();
        let Some(broker) = &mut self.broker else { return };
        let incarnation = broker.incarnation;
        let mut actions = Vec::new();
        broker.poll(shard, &mut actions);
        for action in actions {
            self.trace.action(shard, &action);
            self.act(incarnation, shard, action);
        }
        let Some(broker) = &mut self.broker else { return };
        if let Some(at) = broker.next_timeout(shard, now.mono_us) {
            self.schedule(at - self.now_us, Task::Timeout { incarnation, shard });
        }
    }

    fn act(&mut self, incarnation: u32, shard: usize, action: Action) {
        match action {
            Action::Send { connection, buffers } => {
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
            Action::Close { connection } => {
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
            Action::Drained => {
                let broker = self.broker.as_mut().expect("it acts");
                if broker.drained(shard) {
                    assert_eq!(self.phase, Phase::Draining, "drained without being asked");
                    self.phase = Phase::Done;
                }
            }
        }
    }

    fn disk_later(
        &mut self,
        incarnation: u32,
        shard: usize,
        operation: OperationId,
        ticket: Ticket,
    ) {
        let delay_us = self.rng.delay(self.scenario.disk_us.0, self.scenario.disk_us.1);
        self.schedule(delay_us, Task::Disk { incarnation, shard, operation, ticket });
    }

    fn disk_step(&mut self, shard: usize, operation: OperationId, ticket: Ticket) {
        let faults = if self.phase == Phase::Chaos {
            self.scenario.disk_faults
        } else {
            DiskFaults::default()
        };
        match self.disk.step(ticket, faults, &mut self.rng) {
            Step::Again => self.disk_later(self.incarnations, shard, operation, ticket),
            Step::Done(outcome) => self.event(shard, Event::Disk { operation, outcome }),
        }
    }

    fn crash(&mut self) {
        if self.phase == Phase::Chaos && self.broker.is_some() {
            let power = self.rng.one_in(self.scenario.power_one_in);
            self.die(if power { Crash::Power } else { Crash::Process });
        }
    }

    fn die(&mut self, crash: Crash) {
        self.report.crashes += 1;
        self.broker = None;
        self.disk.crash(crash, &mut self.rng);
        if crash == Crash::Power && self.scenario.durability != Durability::Fsync {
            // More was promised to nobody.
            self.oracle.forget();
        }
        for link in self.network.close_all() {
            self.disconnected(&link);
        }
        let down_us = self.rng.delay(DOWN_US.0, DOWN_US.1);
        self.schedule(down_us, Task::Restart);
    }

    // The network

    fn wake(&mut self, client: usize) {
        let Some(state) = self.clients.get_mut(client) else { return };
        if state.wake_at_us != Some(self.now_us) {
            return;
        }
        state.wake_at_us = None;
        if self.clients[client].connected {
            self.with_client(client, None, 0, |client, turn| client.woken(turn));
            return;
        }
        if self.phase == Phase::Draining {
            return;
        }
        let Some(broker) = &mut self.broker else {
            let at = self.now_us + self.rng.delay(1_000, 100_000);
            self.wake_later(client, at);
            return;
        };
        let shard = self.rng.below(broker.shards() as u64) as usize;
        let connection = broker.accept(shard);
        let link = self.network.open(client, shard, connection);
        self.event(shard, Event::Connected { connection });
        self.with_client(client, Some(link), 0, |client, turn| client.connected(turn));
    }

    fn schedule_to_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        if link.reading && link.has_bytes_to_broker() && !link.to_broker_due {
            link.to_broker_due = true;
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::ToBroker(id));
        }
    }

    fn schedule_to_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        if (link.has_bytes_to_client() || link.closing) && !link.to_client_due {
            link.to_client_due = true;
            let delay_us = self.rng.delay(self.scenario.net_us.0, self.scenario.net_us.1);
            self.schedule(delay_us, Task::ToClient(id));
        }
    }

    fn deliver_to_broker(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.to_broker_due = false;
        if !link.reading {
            return;
        }
        let (shard, connection) = (link.shard, link.connection);
        let bytes = link.receive_at_broker(&mut self.rng);
        self.trace.bytes(&bytes);
        self.event(shard, Event::Received { connection, bytes: &bytes });
        self.schedule_to_broker(id);
    }

    fn deliver_to_client(&mut self, id: LinkId) {
        let Some(link) = self.network.link(id) else { return };
        link.to_client_due = false;
        if link.closing && !link.has_bytes_to_client() {
            self.close(id);
            return;
        }
        let (client, shard, connection) = (link.client, link.shard, link.connection);
        let (sent_us, bytes) = link.receive_at_client(&mut self.rng);
        self.trace.bytes(&bytes);
        self.event(shard, Event::Sent { connection, bytes: bytes.len() as u64 });
        self.with_client(client, Some(id), sent_us, |client, turn| client.received(&bytes, turn));
        self.schedule_to_client(id);
    }

    /// Both ends learn that the link is gone.
    fn close(&mut self, id: LinkId) {
        let Some(link) = self.network.close(id) else { return };
        let connection = link.connection;
        self.event(link.shard, Event::Disconnected { connection });
        self.disconnected(&link);
    }

    fn disconnected(&mut self, link: &Link) {
        self.with_client(link.client, None, 0, |client, turn| client.disconnected(turn));
    }

    fn reset(&mut self) {
        let ids = self.network.ids();
        if self.phase == Phase::Chaos && !ids.is_empty() {
            self.network.resets += 1;
            let id = *self.rng.pick(&ids);
            self.close(id);
        }
    }

    fn with_client(
        &mut self,
        client: usize,
        link: Option<LinkId>,
        sent_us: u64,
        act: impl FnOnce(&mut Client, &mut Turn<'_>),
    ) {
        let mut turn = Turn {
            now_us: self.now_us,
            sent_us,
            calm: self.phase != Phase::Chaos,
            client,
            rng: &mut self.rng,
            oracle: &mut self.oracle,
            scenario: &self.scenario,
            out: BytesMut::new(),
            close: false,
            wakes: Vec::new(),
        };
        act(&mut self.clients[client], &mut turn);
        let Turn { out, close, wakes, .. } = turn;
        if let Some(at) = wakes.into_iter().min() {
            self.wake_later(client, at);
        }
        let link = link.or_else(|| self.link_of(client));
        if let Some(id) = link {
            if let Some(link) = self.network.link(id) {
                link.send_to_broker(&out);
            }
            self.schedule_to_broker(id);
            if close {
                self.close(id);
            }
        }
    }

    fn link_of(&mut self, client: usize) -> Option<LinkId> {
        let ids = self.network.ids();
        ids.into_iter().find(|id| self.network.link(*id).is_some_and(|l| l.client == client))
    }

    // The end

    fn calm(&mut self) {
        self.phase = Phase::Calm;
        self.calm_since_us = self.now_us;
        self.add_client(Role::Reader(Reader::audit()));
        self.schedule(CHECK_US, Task::Check);
    }

    fn check(&mut self) {
        let waited_us = self.now_us - self.calm_since_us;
        if let Some(ends) = self.drained_ends() {
            self.compare(&ends);
            match self.phase {
                Phase::Calm => {
                    self.phase = Phase::Aftermath;
                    self.calm_since_us = self.now_us;
                    let power = self.scenario.durability == Durability::Fsync;
                    self.die(if power { Crash::Power } else { Crash::Process });
                    self.clients.retain(|client| !is_audit(client));
                    self.add_client(Role::Reader(Reader::audit()));
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
    fn drained_ends(&mut self) -> Option<BTreeMap<u32, u64>> {
        if self.phase == Phase::Draining {
            return None;
        }
        let partitions: BTreeMap<u32, _> = self
            .stats()
            .into_iter()
            .flat_map(|shard| shard.partitions)
            .map(|partition| (partition.partition.index, partition))
            .collect();
        if partitions.len() != self.scenario.partitions as usize {
            return None;
        }
        let online = |p: &lanecast_core::PartitionStats| {
            p.state == PartitionState::Online
                && p.groups.len() == self.scenario.groups
                && p.groups.iter().all(|g| g.lag_records == 0 && g.acked_upto == p.high_watermark)
        };
        if !partitions.values().all(online) {
            return None;
        }
        let ends: BTreeMap<u32, u64> =
            partitions.values().map(|p| (p.partition.index, p.high_watermark)).collect();
        let idle = self.clients.iter().all(|client| match &client.role {
            Role::Producer(producer) => producer.is_done(),
            Role::Reader(reader) => reader.is_subscribed() && *reader.next() == ends,
            Role::Member(_) | Role::Vandal(_) => true,
        });
        idle.then_some(ends)
    }

    fn compare(&mut self, ends: &BTreeMap<u32, u64>) {
        let audit = self.clients.iter().find_map(|client| match &client.role {
            Role::Reader(reader) if reader.is_audit() => Some(reader),
            Role::Reader(_) | Role::Producer(_) | Role::Member(_) | Role::Vandal(_) => None,
        });
        let audit = audit.expect("there is one since the calm began");
        self.oracle.check_audit(audit.from(), ends, audit.seen());
        self.oracle.check_groups(ends);
    }

    fn stats(&mut self) -> Vec<ShardStats> {
        self.broker.as_mut().map_or_else(Vec::new, Broker::stats)
    }
}

fn is_audit(client: &Client) -> bool {
    match &client.role {
        Role::Reader(reader) => reader.is_audit(),
        Role::Producer(_) | Role::Member(_) | Role::Vandal(_) => false,
    }
}
