//! A scripted broker: the protocol's broker session over a tokio listener, with logs in memory and
//! a script that decides what happens to each request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::{
    Deliver, DeliveryMode, Durability, Lease, Missed, PartitionPosition, ProduceReply, Refusal,
    StartPosition, Subscribe, SubscribeMode, SubscribeReply, TopicInfo, TopicSettings,
};
use lanecast_wire::session::{BrokerSession, Greeting, Request};
use lanecast_wire::{CorrelationId, ErrorCode, Offset, PartitionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

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
    /// The next connection that is looked at says goodbye, and stays.
    pub(crate) say_goodbye: bool,
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
        let settings =
            TopicSettings { durability: Durability::Memory, retention_bytes: 0, retention_ms: 0 };
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
            say_goodbye: false,
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

/// Whether the connection goes on.
#[derive(PartialEq)]
enum Go {
    On,
    /// Close; of the bytes that were to be sent, leave out this many.
    Close {
        cut: usize,
    },
}

struct Connection {
    stream: TcpStream,
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
    session: BrokerSession,
    subscription: Option<Subscription>,
    deliveries: u64,
}

struct Subscription {
    id: u32,
    mode: DeliveryMode,
    /// Next offset and credit left, per partition.
    positions: Vec<(u64, i64)>,
    group: Option<lanecast_wire::message::GroupOptions>,
    /// Leased, not settled: partition, first, last, generation.
    leases: Vec<(u32, u64, u64, u64)>,
}

impl Connection {
    fn new(stream: TcpStream, state: Arc<Mutex<State>>, changed: Arc<Notify>) -> Self {
        stream.set_nodelay(true).unwrap();
        let (session, subscription) = (BrokerSession::default(), None);
        Self { stream, state, changed, session, subscription, deliveries: 0 }
    }

    async fn serve(&mut self) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let changed = Arc::clone(&self.changed);
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let go = self.deliver();
            if !self.send(&go).await || go != Go::On {
                return;
            }
            let deaf = self.state.lock().unwrap().deaf && self.deliveries == u64::MAX;
            tokio::select! {
                read = self.stream.read(&mut buffer), if !deaf => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        let go = self.receive(&buffer[..count]);
                        if !self.send(&go).await || go != Go::On {
                            return;
                        }
                        self.changed.notify_waiters();
                    }
                },
                () = &mut notified => {}
            }
        }
    }

    async fn send(&mut self, go: &Go) -> bool {
        if self.state.lock().unwrap().silent {
            return true;
        }
        let bytes = self.session.take_output().concat();
        let cut = if let Go::Close { cut } = go { *cut } else { 0 };
        let end = bytes.len().saturating_sub(cut);
        self.stream.write_all(&bytes[..end]).await.is_ok()
    }

    fn receive(&mut self, mut input: &[u8]) -> Go {
        let mut session = std::mem::take(&mut self.session);
        let mut go = Go::On;
        loop {
            let mut replies = Vec::new();
            match session.next(&mut input) {
                Ok(Some(request)) => {
                    go = self.handle(request, &mut replies);
                }
                Ok(None) => break,
                Err(error) => panic!("the client broke the protocol: {error}"),
            }
            for reply in replies {
                reply(&mut session);
            }
            if go != Go::On || session.is_closed() {
                break;
            }
        }
        if session.is_closed() {
            go = Go::Close { cut: 0 };
        }
        self.session = session;
        go
    }

    fn handle(&mut self, request: Request<'_>, replies: &mut Vec<Answer>) -> Go {
        let state = Arc::clone(&self.state);
        let mut state = state.lock().unwrap();
        match request {
            Request::Hello { correlation, .. } => {
                if let Some(code) = state.refuse_hello {
                    replies.push(Box::new(move |session| {
                        session.refuse(correlation, Refusal::new(code, "no"));
                        session.close(Refusal::new(code, "no"));
                    }));
                    return Go::On;
                }
                let greeting = Greeting {
                    broker_version: "scripted".into(),
                    shards: 1,
                    default_mode: state.mode,
                    default_credit_bytes: state.credit_bytes,
                };
                replies.push(Box::new(move |session| session.welcome(correlation, &greeting)));
            }
            Request::CreateTopic { correlation, .. } | Request::ListTopics { correlation } => {
                let topics = vec![state.topic.clone()];
                replies.push(Box::new(move |session| session.topics(correlation, topics)));
            }
            Request::DescribeTopic { correlation, name } => {
                if state.deaf {
                    self.deliveries = u64::MAX;
                }
                let topics = vec![state.topic.clone()];
                replies.push(if name == state.topic.name {
                    Box::new(move |session| session.topics(correlation, topics))
                } else {
                    let refusal = Refusal::new(ErrorCode::UNKNOWN_TOPIC, name);
                    Box::new(move |session| session.refuse(correlation, refusal))
                });
            }
            Request::Produce { correlation, partition, batch } => {
                return state.produce(correlation, partition, batch, replies);
            }
            Request::Subscribe { correlation, subscribe } => {
                self.subscribe(&mut state, correlation, subscribe, replies);
            }
            Request::Credit(credit) => {
                let subscription = self.subscription.as_mut().expect("a subscription");
                assert_eq!(credit.subscription, subscription.id);
                subscription.positions[credit.partition as usize].1 += i64::from(credit.bytes);
            }
            Request::Ack { correlation, ack } => {
                let lease = (ack.partition, ack.first, ack.last, ack.generation);
                let held = self.settle(lease);
                if held {
                    state.acked.push((ack.partition, ack.first, ack.last));
                }
                if !state.unanswered_acks {
                    replies.push(settled(correlation, held));
                }
            }
            Request::Nack { correlation, nack } => {
                let lease = (nack.partition, nack.first, nack.last, nack.generation);
                let held = self.settle(lease);
                if held {
                    state.nacked.push((nack.partition, nack.first, nack.last, nack.reason));
                }
                replies.push(settled(correlation, held));
            }
            Request::Extend { correlation, extend } => {
                let lease = (extend.partition, extend.first, extend.last, extend.generation);
                let subscription = self.subscription.as_ref().expect("a subscription");
                replies.push(settled(correlation, subscription.leases.contains(&lease)));
            }
            Request::Unsubscribe { correlation, .. } => {
                self.subscription = None;
                replies.push(Box::new(move |session| session.done(correlation)));
            }
        }
        Go::On
    }

    fn settle(&mut self, lease: (u32, u64, u64, u64)) -> bool {
        let leases = &mut self.subscription.as_mut().expect("a subscription").leases;
        let before = leases.len();
        leases.retain(|held| *held != lease);
        leases.len() < before
    }

    fn subscribe(
        &mut self,
        state: &mut State,
        correlation: CorrelationId,
        subscribe: Subscribe,
        replies: &mut Vec<Answer>,
    ) {
        state.subscribes.push(subscribe.clone());
        if let Some(code) = state.refuse_subscribe {
            let refusal = Refusal::new(code, "scripted");
            replies.push(Box::new(move |session| session.refuse(correlation, refusal)));
            return;
        }
        let (mode, group) = match subscribe.mode {
            SubscribeMode::Broadcast => (DeliveryMode::Broadcast, None),
            SubscribeMode::Group(group) => (DeliveryMode::Queue, Some(group)),
            SubscribeMode::Default(group) => (state.mode, Some(group)),
        };
        let credit_bytes =
            if subscribe.credit_bytes == 0 { state.credit_bytes } else { subscribe.credit_bytes };
        let position = |index: u32, log: &Log| {
            let named = subscribe.starts.iter().find(|start| start.partition == index);
            let next = match named.map_or(subscribe.start, |start| start.start) {
                StartPosition::Earliest | StartPosition::Timestamp(_) => log.start,
                StartPosition::Latest => log.next,
                StartPosition::Offset(offset) => offset,
            };
            (next, i64::from(credit_bytes))
        };
        let positions: Vec<_> =
            (0..).zip(&state.logs).map(|(index, log)| position(index, log)).collect();
        let reply = SubscribeReply {
            mode,
            credit_bytes,
            positions: (0..)
                .zip(&positions)
                .map(|(partition, (next_offset, _))| PartitionPosition {
                    partition,
                    next_offset: *next_offset,
                    high_watermark: 0,
                })
                .collect(),
        };
        let (id, leases) = (subscribe.subscription, Vec::new());
        self.subscription = Some(Subscription { id, mode, positions, group, leases });
        replies.push(Box::new(move |session| session.subscribed(correlation, reply)));
    }

    /// Sends what subscriptions may get.
    fn deliver(&mut self) -> Go {
        let Some(subscription) = &mut self.subscription else { return Go::On };
        let state = Arc::clone(&self.state);
        let mut state = state.lock().unwrap();
        if std::mem::take(&mut state.say_goodbye) {
            self.session.goodbye("scripted");
        }
        let drop_after = state.drop_after_deliveries;
        for partition in 0..state.topic.partitions {
            let (mut next, mut credit) = subscription.positions[partition as usize];
            if subscription.mode == DeliveryMode::Broadcast
                && next < state.logs[partition as usize].start
            {
                let missed = Missed {
                    subscription: subscription.id,
                    partition,
                    first: next,
                    last: state.logs[partition as usize].start - 1,
                };
                self.session.missed(missed);
                next = state.logs[partition as usize].start;
            }
            let chunks = subscription.group.as_ref().map_or(1, |group| group.chunks_in_flight);
            loop {
                let log = &state.logs[partition as usize];
                let Some(batch) = log.batches.iter().find(|batch| base(batch) == next) else {
                    break;
                };
                let last = BatchHeader::decode(batch).unwrap().last_offset().0;
                let mut frame = Deliver {
                    subscription: subscription.id,
                    partition,
                    first: next,
                    last,
                    high_watermark: log.next,
                    lease: None,
                };
                if subscription.mode == DeliveryMode::Broadcast {
                    if credit < batch.len() as i64 {
                        break;
                    }
                    credit -= batch.len() as i64;
                    self.deliveries += 1;
                } else {
                    let held = subscription.leases.iter().filter(|lease| lease.0 == partition);
                    if held.count() >= chunks as usize
                        || state.acked.iter().any(|acked| acked.1 == next)
                    {
                        if state.acked.iter().any(|acked| (acked.0, acked.1) == (partition, next)) {
                            next = last + 1;
                            continue;
                        }
                        break;
                    }
                    state.generation += 1;
                    let generation = state.generation;
                    subscription.leases.push((partition, next, last, generation));
                    let (chunk_first, chunk_last) = (next, last);
                    let lease_ms = subscription.group.as_ref().unwrap().lease_ms;
                    let lease = Lease { chunk_first, chunk_last, generation, attempt: 1, lease_ms };
                    frame.lease = Some(lease);
                }
                let batch = state.logs[partition as usize].batches.iter();
                let batch = batch.clone().find(|batch| base(batch) == next).unwrap().clone();
                self.session.deliver(&frame, [batch]);
                next = last + 1;
                if drop_after == Some(self.deliveries) {
                    state.drop_after_deliveries = drop_after.map(|after| after + 1);
                    return Go::Close { cut: 10 };
                }
            }
            subscription.positions[partition as usize] = (next, credit);
        }
        Go::On
    }
}

type Answer = Box<dyn FnOnce(&mut BrokerSession)>;

fn settled(correlation: CorrelationId, held: bool) -> Answer {
    Box::new(move |session| {
        if held {
            session.done(correlation);
        } else {
            session.refuse(correlation, Refusal::new(ErrorCode::LEASE_LOST, "not yours"));
        }
    })
}

fn base(batch: &Bytes) -> u64 {
    BatchHeader::decode(batch).unwrap().base_offset.0
}

impl State {
    fn produce(
        &mut self,
        correlation: CorrelationId,
        partition: PartitionId,
        bytes: &[u8],
        replies: &mut Vec<Answer>,
    ) -> Go {
        let header = batch::check(bytes).expect("the client sends sound batches");
        let act = (self.script)(Asked { index: self.produces, header });
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
        match self.append(partition.index, &header, bytes) {
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
            Act::AppendAndDrop => Go::Close { cut: usize::MAX },
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
            return Ok(ProduceReply { base_offset: *base_offset, duplicate: true });
        }
        if header.sequence.0 != answers.len() as u64 {
            return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        }
        answers.push(log.next);
        Ok(ProduceReply { base_offset: log.push(bytes), duplicate: false })
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
