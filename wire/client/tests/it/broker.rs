//! A scripted broker: the protocol's broker session over a tokio listener, with logs in memory and
//! a script that decides what happens to each request.

mod admin;
mod connection;
mod group;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::{
    Deliver, DeliveryMode, Durability, GroupInfo, GroupOptions, Lease, Missed, MissedReason,
    OffsetRange, PartitionOnline, PartitionPosition, ProduceReply, Refusal, Settled, StartPosition,
    Subscribe, SubscribeMode, SubscribeReply, Terminate, TopicInfo, TopicSettings,
};
use lanecast_wire::session::{BrokerSession, Greeting, Request};
use lanecast_wire::{CorrelationId, ErrorCode, Offset, PartitionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

pub(crate) use admin::group_info;
use connection::{Answer, Connection, Go};
pub(crate) use group::Held;

/// What becomes of a produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Answer,
    /// Appended, but never answered on this connection.
    Swallow,
    /// Refused; batches behind it are refused as out of order, as a broker does.
    Refuse(ErrorCode),
    /// The connection breaks before the batch is appended ...
    Drop,
    /// ... or after that, before its answer ...
    AppendAndDrop,
    /// ... or in the middle of its answer.
    AppendAndCutAnswer,
    /// Appended and answered; then a goodbye, and the connection closes.
    Goodbye,
}

/// What is asked of the script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// Counts the produce requests of all connections.
    pub(crate) index: u64,
    pub(crate) partition: u32,
    /// The partition that its connection was brought to.
    pub(crate) near: Option<u32>,
    pub(crate) header: BatchHeader,
}

type Script = Box<dyn FnMut(Asked) -> Act + Send>;

pub(crate) struct State {
    pub(crate) topic: TopicInfo,
    pub(crate) logs: Vec<Log>,
    pub(crate) script: Script,
    pub(crate) produces: u64,
    pub(crate) duplicates: u64,
    pub(crate) connections: u64,
    pub(crate) open: u64,
    /// Answers to everything are held back while this is set.
    pub(crate) silent: bool,
    /// New connections are greeted, and their socket is not read after that.
    pub(crate) deaf: bool,
    /// New connections are closed at once.
    pub(crate) closed: bool,
    pub(crate) refuse_hello: Option<ErrorCode>,
    pub(crate) mode: DeliveryMode,
    pub(crate) credit_bytes: u32,
    /// Broadcast connections break after this many deliveries.
    pub(crate) drop_after_deliveries: Option<u64>,
    pub(crate) acked: Vec<(u32, u64, u64)>,
    pub(crate) nacked: Vec<(u32, u64, u64, String)>,
    pub(crate) generation: u64,
    pub(crate) subscribes: Vec<Subscribe>,
    pub(crate) unanswered_acks: bool,
    pub(crate) refuse_subscribe: Option<ErrorCode>,
    pub(crate) offline: BTreeSet<u32>,
    pub(crate) terminated: Vec<(u32, u64, u64, String)>,
    /// Generations whose leases were extended.
    pub(crate) extended: Vec<u64>,
    pub(crate) unsubscribes: u64,
    /// What was given back, waiting to be handed out again; nacked parts only if `redeliver`.
    pub(crate) returned: Vec<Held>,
    pub(crate) redeliver: bool,
    /// Where the group's next new chunk begins, per partition.
    pub(crate) group_next: BTreeMap<u32, u64>,
    /// What is said of groups, per partition; positions follow acks unless they are scripted.
    pub(crate) groups: BTreeMap<u32, GroupInfo>,
    pub(crate) group_is_scripted: bool,
    pub(crate) group_is_active: bool,
    /// Deleting a topic breaks the connection before the answer.
    pub(crate) cut_delete: bool,
    /// Groups get no bytes of the batches at these offsets.
    pub(crate) damaged: BTreeSet<u64>,
    /// Terminating is refused.
    pub(crate) no_dead_letters: bool,
    /// Batches are answered as dropped, and are.
    pub(crate) dropping: bool,
    /// Sequences are forgotten with [`Act::AppendAndDrop`].
    pub(crate) forget_on_drop: bool,
    /// The next connection that is looked at says goodbye, and stays.
    pub(crate) say_goodbye: bool,
    /// Cores that the broker says it has; partitions that connections asked to be brought to.
    pub(crate) shards: u32,
    pub(crate) migrated: Vec<u32>,
    pub(crate) refuse_migrate: Option<ErrorCode>,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) next: u64,
    /// Offsets before this one were taken by retention.
    pub(crate) start: u64,
    /// Next sequence and answers by (producer, epoch).
    producers: BTreeMap<(u64, u32), Vec<u64>>,
}

pub(crate) struct Broker {
    pub(crate) addr: String,
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) changed: Arc<Notify>,
    hang_up: watch::Sender<u64>,
    _accept: tokio::task::JoinSet<()>,
}

impl Broker {
    pub(crate) async fn start(
        partitions: u32,
        script: impl FnMut(Asked) -> Act + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let settings = TopicSettings { durability: Durability::Memory, ..TopicSettings::default() };
        let topic = TopicInfo { topic: 1, name: "t".into(), partitions, settings };
        let state = Arc::new(Mutex::new(State {
            topic,
            logs: (0..partitions).map(|_| Log::default()).collect(),
            script: Box::new(script),
            produces: 0,
            duplicates: 0,
            connections: 0,
            open: 0,
            silent: false,
            deaf: false,
            closed: false,
            refuse_hello: None,
            mode: DeliveryMode::Broadcast,
            credit_bytes: 1024 * 1024,
            drop_after_deliveries: None,
            acked: Vec::new(),
            nacked: Vec::new(),
            generation: 0,
            subscribes: Vec::new(),
            unanswered_acks: false,
            refuse_subscribe: None,
            offline: BTreeSet::new(),
            terminated: Vec::new(),
            extended: Vec::new(),
            unsubscribes: 0,
            returned: Vec::new(),
            redeliver: false,
            group_next: BTreeMap::new(),
            groups: BTreeMap::new(),
            group_is_scripted: false,
            group_is_active: false,
            cut_delete: false,
            damaged: BTreeSet::new(),
            no_dead_letters: false,
            dropping: false,
            forget_on_drop: false,
            say_goodbye: false,
            shards: 1,
            migrated: Vec::new(),
            refuse_migrate: None,
        }));
        let changed = Arc::new(Notify::new());
        let (hang_up, hung_up) = watch::channel(0);
        let mut accept = tokio::task::JoinSet::new();
        accept.spawn(accept_all(listener, Arc::clone(&state), Arc::clone(&changed), hung_up));
        Self { addr, state, changed, hang_up, _accept: accept }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Something that connections must look at was changed.
    pub(crate) fn poke(&self) {
        self.changed.notify_waiters();
    }

    /// All connections break now.
    pub(crate) fn hang_up(&self) {
        self.hang_up.send_modify(|times| *times += 1);
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&State) -> bool) {
        loop {
            let notified = self.changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if wanted(&self.state()) {
                return;
            }
            notified.await;
        }
    }
}

async fn accept_all(
    listener: TcpListener,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    hung_up: watch::Receiver<u64>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (state, changed) = (Arc::clone(&state), Arc::clone(&changed));
        let mut hung_up = hung_up.clone();
        hung_up.mark_unchanged();
        connections.spawn(async move {
            let closed = {
                let mut state = state.lock().unwrap();
                state.connections += 1;
                state.open += 1;
                state.closed
            };
            changed.notify_waiters();
            if !closed {
                let mut connection = Connection::new(stream, Arc::clone(&state), changed.clone());
                tokio::select! {
                    () = connection.serve() => {}
                    _ = hung_up.changed() => {}
                }
            }
            state.lock().unwrap().open -= 1;
            changed.notify_waiters();
        });
    }
}

impl State {
    /// As after a restart without a log.
    pub(crate) fn forget_producers(&mut self) {
        for log in &mut self.logs {
            log.producers.clear();
        }
    }

    fn produce(
        &mut self,
        correlation: CorrelationId,
        partition: PartitionId,
        near: Option<u32>,
        bytes: &[u8],
        replies: &mut Vec<Answer>,
    ) -> Go {
        let header = batch::check(bytes).expect("the client sends sound batches");
        let (index, partition) = (self.produces, partition.index);
        let act = (self.script)(Asked { index, partition, near, header });
        self.produces += 1;
        let refuse = |code: ErrorCode| -> Answer {
            Box::new(move |session| {
                session.produce_refused(correlation, Refusal::new(code, "scripted"));
            })
        };
        match act {
            Act::Refuse(code) => {
                replies.push(refuse(code));
                return Go::On;
            }
            Act::Drop => return Go::Close { cut: usize::MAX },
            Act::Answer
            | Act::Swallow
            | Act::AppendAndDrop
            | Act::AppendAndCutAnswer
            | Act::Goodbye => {}
        }
        match self.append(partition, &header, bytes) {
            Ok(reply) => {
                if act != Act::Swallow {
                    replies.push(Box::new(move |session| session.produced(correlation, reply)));
                }
            }
            Err(code) => {
                replies.push(refuse(code));
                return Go::On;
            }
        }
        match act {
            Act::AppendAndDrop => {
                if self.forget_on_drop {
                    self.forget_producers();
                }
                Go::Close { cut: usize::MAX }
            }
            Act::AppendAndCutAnswer => Go::Close { cut: 7 },
            Act::Goodbye => {
                replies.push(Box::new(|session| session.goodbye("scripted")));
                Go::Close { cut: 0 }
            }
            Act::Answer | Act::Swallow | Act::Refuse(_) | Act::Drop => Go::On,
        }
    }

    /// Appends once, as a broker does.
    fn append(
        &mut self,
        partition: u32,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> Result<ProduceReply, ErrorCode> {
        let log = &mut self.logs[partition as usize];
        let answers = log.producers.entry((header.producer.0, header.epoch.0)).or_default();
        if let Some(base_offset) = answers.get(header.sequence.0 as usize) {
            self.duplicates += 1;
            return Ok(ProduceReply { base_offset: *base_offset, duplicate: true, dropped: false });
        }
        if header.sequence.0 != answers.len() as u64 {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        }
        if self.dropping {
            answers.push(0);
            return Ok(ProduceReply { base_offset: 0, duplicate: false, dropped: true });
        }
        answers.push(log.next);
        Ok(ProduceReply { base_offset: log.push(bytes), duplicate: false, dropped: false })
    }
}

impl Log {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> u64 {
        let mut bytes = bytes.to_vec();
        let base = self.next;
        batch::stamp(&mut bytes, Offset(base), 1);
        self.next += u64::from(BatchHeader::decode(&bytes).unwrap().record_count);
        self.batches.push(bytes.into());
        base
    }
}
