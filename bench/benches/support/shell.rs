//! A shell for one shard that answers everything at once and measures nothing but the shard.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanecast_core::{
    Action, ConnectionId, DiskDone, DiskRequest, Event, Now, OperationId, Shard, ShardConfig,
    ShardId,
};
use lanecast_wire::limits::{PROTOCOL_MAX, PROTOCOL_MIN};
use lanecast_wire::message::{
    BrokerMessage, ClientMessage, CreateTopic, Durability, Hello, TopicSettings,
};
use lanecast_wire::{CorrelationId, FrameDecoder, TopicId};

/// One shard, a disk that takes all and keeps nothing, clients that read all.
pub(crate) struct Shell {
    shard: Shard,
    now: Now,
    disk: VecDeque<(OperationId, DiskRequest)>,
    /// What the shard has sent since it was last looked at, to whom.
    sent: Vec<(ConnectionId, Vec<Bytes>)>,
    /// Time in the shard, and in this shell's loop around it.
    spent: Duration,
    connections: u64,
}

/// A frame that a client got.
pub(crate) struct Got {
    pub(crate) message: BrokerMessage,
    pub(crate) payload_bytes: u32,
}

impl Shell {
    pub(crate) fn new() -> Self {
        let mut shell = Shell {
            shard: Shard::new(ShardConfig::new(ShardId(0), 1, 1)),
            now: Now { mono_us: 1, wall_ms: super::fleet::START_MS },
            disk: VecDeque::new(),
            sent: Vec::new(),
            spent: Duration::ZERO,
            connections: 0,
        };
        shell.settle();
        shell
    }

    /// A client that has said hello.
    pub(crate) fn connect(&mut self) -> ConnectionId {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.shard.handle(self.now, Event::Connected { connection });
        let client = "bench".to_owned();
        let hello = Hello { protocol_min: PROTOCOL_MIN, protocol_max: PROTOCOL_MAX, client };
        self.ask(connection, &ClientMessage::Hello(hello));
        connection
    }

    /// A topic of one partition.
    pub(crate) fn create_topic(&mut self, from: ConnectionId, durability: Durability) -> TopicId {
        let settings = TopicSettings { durability, ..TopicSettings::default() };
        let create = CreateTopic { name: "bench".to_owned(), partitions: 1, settings };
        let answer = self.ask(from, &ClientMessage::CreateTopic(create));
        match answer.into_iter().next() {
            Some(BrokerMessage::Topics(topics)) => TopicId(topics.topics[0].topic),
            other => panic!("a topic is made, not {other:?}"),
        }
    }

    /// Sends one request and reads all that comes of it.
    pub(crate) fn ask(
        &mut self,
        from: ConnectionId,
        request: &ClientMessage,
    ) -> Vec<BrokerMessage> {
        self.receive(from, &request.encode(CorrelationId(1), 0));
        self.read(from).into_iter().map(|got| got.message).collect()
    }

    /// Hands the shard bytes of a client and does all that it asks for until it rests. Measured.
    pub(crate) fn receive(&mut self, connection: ConnectionId, bytes: &[u8]) {
        let started = Instant::now();
        self.shard.handle(self.now, Event::Received { connection, bytes });
        self.settle();
        self.spent += started.elapsed();
    }

    /// Lets time go by. Measured.
    pub(crate) fn pass_us(&mut self, us: u64) {
        self.now.mono_us += us;
        self.now.wall_ms = super::fleet::START_MS + (self.now.mono_us / 1000) as i64;
        let started = Instant::now();
        if self.shard.poll_timeout().is_some_and(|due_us| due_us <= self.now.mono_us) {
            self.shard.handle_timeout(self.now);
            self.settle();
        }
        self.spent += started.elapsed();
    }

    /// Everything that was sent to a client since the last look; what others got is dropped.
    pub(crate) fn read(&mut self, client: ConnectionId) -> Vec<Got> {
        let mut decoder = FrameDecoder::default();
        let mut got = Vec::new();
        for (_, buffers) in self.sent.drain(..).filter(|(connection, _)| *connection == client) {
            for buffer in &buffers {
                let mut input: &[u8] = buffer;
                while let Some(frame) =
                    decoder.next(&mut input).expect("a broker's frames are good")
                {
                    let message = BrokerMessage::decode(frame.header.kind, frame.control);
                    let message = message.expect("a broker's frames are good");
                    got.push(Got { message, payload_bytes: frame.header.payload_bytes });
                }
            }
        }
        got
    }

    /// What was measured since the last call.
    pub(crate) fn take_spent(&mut self) -> Duration {
        std::mem::take(&mut self.spent)
    }

    fn settle(&mut self) {
        loop {
            while let Some(action) = self.shard.poll_action() {
                self.perform(action);
            }
            let Some((operation, request)) = self.disk.pop_front() else { return };
            let outcome = Ok(answer(request));
            self.shard.handle(self.now, Event::Disk { operation, outcome });
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { connection, buffers, .. } => {
                let bytes = buffers.iter().map(|buffer| buffer.len() as u64).sum();
                self.sent.push((connection, buffers));
                self.shard.handle(self.now, Event::Sent { connection, bytes });
            }
            Action::Disk { operation, request } => self.disk.push_back((operation, request)),
            Action::SetReading { .. } | Action::Expect { .. } => {}
            Action::Close { .. }
            | Action::Expel { .. }
            | Action::Gather { .. }
            | Action::Ring { .. }
            | Action::Damaged { .. }
            | Action::Migrate { .. }
            | Action::Drained => panic!("nothing here makes a shard say {action:?}"),
        }
    }
}

fn answer(request: DiskRequest) -> DiskDone {
    match request {
        DiskRequest::OpenLog { .. } => DiskDone::Opened { segments: Vec::new(), witness: None },
        DiskRequest::PrepareSegment { .. } => DiskDone::Prepared,
        DiskRequest::Commit { .. } => DiskDone::Committed,
        DiskRequest::DeleteSegment { .. } | DiskRequest::RemoveLog { .. } => DiskDone::Deleted,
        DiskRequest::WriteWitness { .. } => DiskDone::Witnessed,
        DiskRequest::Read { .. } => panic!("what is read here is in memory"),
    }
}
