//! A disk, rings and clients for the crate's own tests: everything at hand, nothing timed.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]

mod disk;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::builder::SealedBody;
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{
    BrokerMessage, ClientMessage, CreateTopic, Credit, Durability, GroupOptions, Hello, Produce,
    StartPosition, Subscribe, SubscribeMode, TopicSettings,
};
use lanecast_wire::{
    CorrelationId, FrameDecoder, KeyFilter, PartitionId, ProducerEpoch, ProducerId, Sequence,
    TopicId, batch,
};

pub(crate) use disk::{TestDisk, broken};

use crate::{
    Action, Budget, ConnectionId, Damage, DiskErrorKind, DiskRequest, Event, LogId, Now, Offence,
    OperationId, Shard, ShardConfig, ShardId, ShardMessage, ShardStats,
};

/// Which requests fail, and how.
pub(crate) type Failing = (fn(&DiskRequest) -> bool, DiskErrorKind);

/// What a client got.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) correlation: u64,
    pub(crate) message: BrokerMessage,
    pub(crate) payload: Vec<u8>,
}

impl std::fmt::Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} + {} bytes", self.correlation, self.message, self.payload.len())
    }
}

/// A connection, named with its shard.
pub(crate) type Peer = (u16, u64);

#[derive(Default)]
struct Client {
    decoder: FrameDecoder,
    got: VecDeque<Got>,
    closed: bool,
    reading: bool,
    /// What is to be received of it at once.
    expected: usize,
    /// What is received of it goes behind this.
    begun: Option<Vec<u8>>,
    /// It takes nothing of what is sent: its socket is full.
    deaf: bool,
}

/// Some shards, their rings, one disk, some clients.
pub(crate) struct World {
    pub(crate) shards: Vec<Shard>,
    pub(crate) disk: TestDisk,
    pub(crate) now: Now,
    /// Requests that the disk has not answered, oldest first.
    pub(crate) pending: VecDeque<(usize, OperationId, DiskRequest)>,
    /// The disk answers by itself.
    pub(crate) disk_runs: bool,
    /// Requests that fail, and how.
    pub(crate) fails: Option<Failing>,
    rings: VecDeque<(usize, usize, ShardMessage)>,
    /// Messages that have gone from one shard to another.
    pub(crate) rung: usize,
    clients: BTreeMap<Peer, Client>,
    next_connection: u64,
    pub(crate) drained: usize,
    /// What the shards have said of damaged logs.
    pub(crate) damages: Vec<(LogId, Damage)>,
    /// Connections that have gone to another shard.
    pub(crate) moved: BTreeMap<Peer, Peer>,
    /// What deaf clients make their shell hold.
    unread: BTreeMap<Peer, Vec<Bytes>>,
    budget: Arc<Budget>,
    /// For what connections were ended, in order.
    pub(crate) expelled: Vec<Offence>,
    /// Reads that the disk has answered.
    pub(crate) reads: usize,
}

pub(crate) const SEGMENT: u64 = 64 * 1024;

impl World {
    pub(crate) fn new(shards: u16) -> Self {
        World::on(TestDisk::default(), shards)
    }

    /// Starts on what a disk holds.
    pub(crate) fn on(disk: TestDisk, shards: u16) -> Self {
        World::with(disk, shards, |_| {})
    }

    /// The same, but the disk waits to be told.
    pub(crate) fn on_idle(disk: TestDisk, shards: u16) -> Self {
        World::build(disk, shards, false, |_| {})
    }

    pub(crate) fn with(disk: TestDisk, shards: u16, change: impl Fn(&mut ShardConfig)) -> Self {
        World::build(disk, shards, true, change)
    }

    fn build(
        disk: TestDisk,
        shards: u16,
        disk_runs: bool,
        change: impl Fn(&mut ShardConfig),
    ) -> Self {
        let budget = RefCell::new(Arc::new(Budget::new(0, shards)));
        let shard = |shard| {
            let mut config = ShardConfig::new(ShardId(shard), shards, 1000 + u64::from(shard));
            config.budget = budget.borrow().clone();
            config.segment_bytes = SEGMENT;
            config.groups_segment_bytes = SEGMENT;
            change(&mut config);
            *budget.borrow_mut() = config.budget.clone();
            Shard::new(config)
        };
        let built = (0..shards).map(shard).collect();
        let mut world = World {
            shards: built,
            disk,
            now: Now { mono_us: 1, wall_ms: 1_000_000 },
            pending: VecDeque::new(),
            disk_runs,
            fails: None,
            rings: VecDeque::new(),
            rung: 0,
            clients: BTreeMap::new(),
            next_connection: 1,
            drained: 0,
            damages: Vec::new(),
            moved: BTreeMap::new(),
            unread: BTreeMap::new(),
            budget: budget.into_inner(),
            expelled: Vec::new(),
            reads: 0,
        };
        world.settle();
        world
    }

    /// Performs actions until there are none (and the disk is idle, if it runs).
    pub(crate) fn settle(&mut self) {
        loop {
            let mut any = false;
            for index in 0..self.shards.len() {
                while let Some(action) = self.shards[index].poll_action() {
                    any = true;
                    self.perform(index, action);
                }
            }
            while let Some((from, to, message)) = self.rings.pop_front() {
                any = true;
                let from = ShardId(from as u16);
                self.shards[to].handle(self.now, Event::Ring { from, message });
            }
            if self.disk_runs && !any && !self.pending.is_empty() {
                any = true;
                self.complete(0);
            }
            if !any {
                return;
            }
        }
    }

    /// Answers one of the pending requests.
    pub(crate) fn complete(&mut self, at: usize) {
        let (shard, operation, request) = self.pending.remove(at).expect("one that is pending");
        self.reads += usize::from(matches!(request, DiskRequest::Read { .. }));
        let outcome = match self.fails {
            Some((fails, kind)) if fails(&request) => Err(broken(kind)),
            Some(_) | None => self.disk.run(&request),
        };
        self.shards[shard].handle(self.now, Event::Disk { operation, outcome });
    }

    fn perform(&mut self, shard: usize, action: Action) {
        match action {
            Action::Send { connection, buffers, .. } => {
                let peer = (shard as u16, connection.0);
                let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
                let client = self.clients.get_mut(&peer).expect("a known connection");
                for buffer in &buffers {
                    client.receive(buffer);
                }
                if client.deaf {
                    self.unread.entry(peer).or_default().extend(buffers);
                } else {
                    self.shards[shard].handle(self.now, Event::Sent { connection, bytes });
                }
            }
            Action::SetReading { connection, on } => {
                let peer = (shard as u16, connection.0);
                self.clients.get_mut(&peer).expect("a known connection").reading = on;
            }
            Action::Expect { connection, bytes } => {
                let peer = (shard as u16, connection.0);
                self.clients.get_mut(&peer).expect("a known connection").expected = bytes;
            }
            Action::Gather { connection, begun } => {
                let peer = (shard as u16, connection.0);
                let client = self.clients.get_mut(&peer).expect("a known connection");
                assert!(begun.len() < begun.capacity(), "there is room to receive into");
                assert!(client.begun.replace(begun).is_none(), "one frame at a time is gathered");
            }
            Action::Migrate { connection, to, migrant } => {
                let peer = (shard as u16, connection.0);
                let client = self.clients.remove(&peer).expect("a known connection");
                assert!(client.begun.is_none(), "nothing is received before it has arrived");
                let unread = self.unread.remove(&peer).unwrap_or_default();
                let outbound_bytes = unread.iter().map(|bytes| bytes.len() as u64).sum();
                let connection = ConnectionId(self.next_connection);
                self.next_connection += 1;
                let there = (to.0, connection.0);
                self.clients.insert(there, client);
                self.unread.insert(there, unread);
                self.moved.insert(peer, there);
                let event = Event::Arrived { connection, outbound_bytes, migrant };
                self.shards[usize::from(to.0)].handle(self.now, event);
            }
            Action::Close { connection } => {
                let peer = (shard as u16, connection.0);
                self.clients.get_mut(&peer).expect("a known connection").closed = true;
                self.shards[shard].handle(self.now, Event::Disconnected { connection });
            }
            Action::Expel { connection, offence, .. } => {
                self.expelled.push(offence);
                let peer = (shard as u16, connection.0);
                self.unread.remove(&peer);
                self.clients.get_mut(&peer).expect("a known connection").closed = true;
                self.shards[shard].handle(self.now, Event::Disconnected { connection });
            }
            Action::Ring { to, message } => {
                self.rung += 1;
                self.rings.push_back((shard, usize::from(to.0), message));
            }
            Action::Disk { operation, request } => {
                self.pending.push_back((shard, operation, request));
            }
            Action::Damaged { log, damage } => self.damages.push((log, damage)),
            Action::Drained => self.drained += 1,
        }
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.now.mono_us += ms * 1000;
        self.now.wall_ms += ms as i64;
        for shard in &mut self.shards {
            shard.handle_timeout(self.now);
        }
        self.settle();
    }

    pub(crate) fn drain(&mut self) {
        for shard in &mut self.shards {
            shard.handle(self.now, Event::Drain);
        }
        self.settle();
    }

    /// A client that has said hello.
    pub(crate) fn connect(&mut self, shard: u16) -> Peer {
        let peer = self.dial(shard);
        self.hello(peer, "test");
        peer
    }

    /// One that has said nothing yet.
    pub(crate) fn dial(&mut self, shard: u16) -> Peer {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        let peer = (shard, connection.0);
        self.clients.insert(peer, Client { reading: true, ..Client::default() });
        self.shards[usize::from(shard)].handle(self.now, Event::Connected { connection });
        peer
    }

    pub(crate) fn hello(&mut self, peer: Peer, name: &str) {
        let hello =
            Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, client: name.into() };
        self.send(peer, 1, ClientMessage::Hello(hello), b"");
        assert!(matches!(self.next(peer).message, BrokerMessage::HelloReply(_)));
    }

    /// Bytes come from a client, a frame or not.
    pub(crate) fn receive(&mut self, peer: Peer, bytes: &[u8]) {
        let rest = self.gather(peer, bytes);
        if !rest.is_empty() || bytes.is_empty() {
            let event = Event::Received { connection: ConnectionId(peer.1), bytes: rest };
            self.shards[usize::from(peer.0)].handle(self.now, event);
            self.settle();
        }
    }

    /// As much goes into memory that was lent as that takes. Gives what is left.
    fn gather<'b>(&mut self, peer: Peer, mut bytes: &'b [u8]) -> &'b [u8] {
        while !bytes.is_empty()
            && let Some(mut buffer) = self.begun(peer)
        {
            let (piece, rest) = bytes.split_at(bytes.len().min(buffer.capacity() - buffer.len()));
            buffer.extend_from_slice(piece);
            self.fill(peer, buffer);
            bytes = rest;
        }
        bytes
    }

    /// Memory that was lent to receive into.
    pub(crate) fn begun(&mut self, peer: Peer) -> Option<Vec<u8>> {
        self.clients.get_mut(&peer).and_then(|client| client.begun.take())
    }

    /// Bytes come from a client, in a buffer that the shard may keep.
    pub(crate) fn fill(&mut self, peer: Peer, buffer: Vec<u8>) {
        let event = Event::Filled { connection: ConnectionId(peer.1), buffer };
        self.shards[usize::from(peer.0)].handle(self.now, event);
        self.settle();
    }

    pub(crate) fn expected(&self, peer: Peer) -> usize {
        self.clients[&peer].expected
    }

    /// What is sent to a deaf client and waits in its shell.
    pub(crate) fn unread(&self, peer: Peer) -> &[Bytes] {
        self.unread.get(&peer).map_or(&[], Vec::as_slice)
    }

    /// Its socket takes nothing from now on.
    pub(crate) fn stop_reading(&mut self, peer: Peer) {
        self.clients.get_mut(&peer).expect("a known connection").deaf = true;
    }

    /// Drops what has arrived at a client, so that it holds no memory.
    pub(crate) fn forget(&mut self, peer: Peer) {
        drop(self.take(peer));
    }

    pub(crate) fn is_read(&self, peer: Peer) -> bool {
        self.clients[&peer].reading
    }

    /// Gives credit back for partition 0 of subscription 1.
    pub(crate) fn credit(&mut self, peer: Peer, bytes: u32) {
        let credit = Credit { subscription: 1, partition: 0, bytes };
        self.send(peer, 0, ClientMessage::Credit(credit), b"");
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(crate) fn disconnect(&mut self, peer: Peer) {
        let connection = ConnectionId(peer.1);
        self.shards[usize::from(peer.0)].handle(self.now, Event::Disconnected { connection });
        self.settle();
    }

    /// Hands a request to its shard without letting anything happen yet.
    pub(crate) fn put(
        &mut self,
        peer: Peer,
        correlation: u64,
        message: ClientMessage,
        tail: &[u8],
    ) {
        let mut bytes = message.encode(CorrelationId(correlation), tail.len() as u32).to_vec();
        bytes.extend_from_slice(tail);
        let event = Event::Received { connection: ConnectionId(peer.1), bytes: &bytes };
        self.shards[usize::from(peer.0)].handle(self.now, event);
    }

    pub(crate) fn send(
        &mut self,
        peer: Peer,
        correlation: u64,
        message: ClientMessage,
        tail: &[u8],
    ) {
        self.put(peer, correlation, message, tail);
        self.settle();
    }

    /// Everything that has arrived at a client.
    pub(crate) fn take(&mut self, peer: Peer) -> Vec<Got> {
        self.clients.get_mut(&peer).expect("a known connection").got.drain(..).collect()
    }

    /// The one thing that has arrived at a client.
    pub(crate) fn next(&mut self, peer: Peer) -> Got {
        let got = self.take(peer);
        assert_eq!(got.len(), 1, "{got:#?}");
        got.into_iter().next().expect("just counted")
    }

    pub(crate) fn is_closed(&self, peer: Peer) -> bool {
        self.clients[&peer].closed
    }

    pub(crate) fn create_topic(&mut self, peer: Peer, name: &str, partitions: u32) -> TopicId {
        self.create_topic_with(peer, name, partitions, settings(Durability::Fsync))
    }

    pub(crate) fn create_topic_with(
        &mut self,
        peer: Peer,
        name: &str,
        partitions: u32,
        settings: TopicSettings,
    ) -> TopicId {
        let create = CreateTopic { name: name.into(), partitions, settings };
        self.send(peer, 2, ClientMessage::CreateTopic(create), b"");
        match self.next(peer).message {
            BrokerMessage::Topics(topics) => TopicId(topics.topics[0].topic),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn produce(&mut self, peer: Peer, correlation: u64, to: PartitionId, batch: &[u8]) {
        self.put(peer, correlation, produce(to), batch);
    }

    /// Produces and gives the base offset.
    pub(crate) fn produced(&mut self, peer: Peer, to: PartitionId, batch: &[u8]) -> u64 {
        self.send(peer, 3, produce(to), batch);
        match self.next(peer).message {
            BrokerMessage::ProduceReply(reply) => reply.base_offset,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stats(&self, shard: usize) -> ShardStats {
        self.shards[shard].stats()
    }
}

impl Client {
    fn receive(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(frame) = self.decoder.next(&mut input).expect("a broker speaks the protocol")
        {
            let message = BrokerMessage::decode(frame.header.kind, frame.control)
                .expect("a broker speaks the protocol");
            let correlation = frame.header.correlation.0;
            self.got.push_back(Got { correlation, message, payload: frame.payload.to_vec() });
        }
    }
}

pub(crate) fn produce(to: PartitionId) -> ClientMessage {
    ClientMessage::Produce(Produce { topic: to.topic.0, partition: to.index })
}

pub(crate) fn settings(durability: Durability) -> TopicSettings {
    TopicSettings { durability, ..TopicSettings::default() }
}

/// A batch of `records` records and `bytes` bytes of body.
pub(crate) fn batch(producer: u64, sequence: u64, records: u32, bytes: usize) -> Bytes {
    batch_at(producer, sequence, records, bytes, 0)
}

/// One whose records are of this time.
pub(crate) fn batch_at(
    producer: u64,
    sequence: u64,
    records: u32,
    bytes: usize,
    time_ms: i64,
) -> Bytes {
    let body = SealedBody {
        body: vec![sequence as u8; bytes],
        schema: batch::schema::GENERIC,
        record_count: records,
        min_time_ms: time_ms,
        max_time_ms: time_ms,
        summary: Vec::new(),
    };
    batch::seal(&body, ProducerId(producer), ProducerEpoch(0), Sequence(sequence), 0)
}

pub(crate) fn subscribe(
    topic: TopicId,
    mode: SubscribeMode,
    start: StartPosition,
) -> ClientMessage {
    ClientMessage::Subscribe(Subscribe {
        subscription: 1,
        topic: topic.0,
        mode,
        start,
        starts: Vec::new(),
        credit_bytes: 0,
        filter: KeyFilter::default(),
    })
}

pub(crate) fn group(name: &str, member: &str) -> GroupOptions {
    GroupOptions {
        group: name.into(),
        member: member.into(),
        chunk_records: 10,
        chunk_bytes: 1024 * 1024,
        chunk_linger_ms: 0,
        lease_ms: 10_000,
        chunks_in_flight: 2,
    }
}
