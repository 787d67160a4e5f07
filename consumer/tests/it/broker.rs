//! A broker in memory: one topic of one partition that is leased out chunk by chunk. Tests decide
//! when a lease is lost, and see everything that is asked.

use core::mem;
use std::collections::BTreeSet;

use bytes::Bytes;
use lanecast_wire::batch::BatchHeader;
use lanecast_wire::message::{
    Deliver, DeliveryMode, Extend, GroupInfo, Lease, OffsetRange, PartitionPosition, Refusal,
    Settled, SubscribeMode, SubscribeReply, Terminate, TopicInfo, TopicSettings,
};
use lanecast_wire::session::{BrokerSession, Greeting, Request};
use lanecast_wire::{CorrelationId, ErrorCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) const TOPIC: &str = "gpu-telemetry";
const TOPIC_NUMBER: u32 = 1;

#[derive(Default)]
pub(crate) struct State {
    chunks: Vec<Chunk>,
    generation: u64,
    /// First and last offset of each acknowledgement, and how much was terminated before.
    pub(crate) acked: Vec<((u64, u64), usize)>,
    pub(crate) nacked: Vec<String>,
    /// Subscriptions that ended in good order.
    pub(crate) left: u32,
    /// First offsets of chunks whose leases were extended, as often as they were.
    pub(crate) extended: Vec<u64>,
    /// Every lease is somebody else's now; set back by the next hand-out.
    pub(crate) leases_lost: bool,
    /// The next hand-out is the last thing that is written.
    silent_after_hand_out: bool,
    silent: bool,
    /// Every connection ends at once.
    gone: bool,
    /// What was terminated, and why, in this order.
    pub(crate) dead: Vec<(Vec<(u64, u64)>, String)>,
    /// Terminates that are refused for now.
    refused_terminates: u32,
    /// The broker ends the connection instead of an answer to the next terminate.
    mute_terminate: bool,
    /// The same for the next acknowledgement; the leases end with the connection.
    mute_ack: bool,
    /// Where the log ends, if records behind the last chunk are lost.
    end: u64,
    pub(crate) subscriptions: u32,
}

impl State {
    fn end(&self) -> u64 {
        self.chunks.last().map_or(0, |chunk| chunk.last + 1).max(self.end)
    }

    /// As the redrive's group; what lies between chunks is lost and passed.
    fn group(&self) -> GroupInfo {
        let open = self.chunks.iter().find(|chunk| !chunk.is_done());
        let acked_upto = open.map_or_else(|| self.end(), |chunk| chunk.first);
        let high_watermark = self.end();
        GroupInfo {
            name: lanecast_consumer::REDRIVE_GROUP.to_owned(),
            acked_upto,
            high_watermark,
            lag_records: high_watermark - acked_upto,
            members: 1,
            in_flight_chunks: 0,
            open_chunks: 0,
            redelivered_chunks: 0,
            expired_leases: 0,
            dead_lettered_records: 0,
            skipped_records: 0,
        }
    }
}

struct Chunk {
    first: u64,
    last: u64,
    batches: Vec<Bytes>,
    attempt: u32,
    /// The generation of its lease while it is out.
    leased: Option<u64>,
    /// Offsets that are settled; all of them: it is done.
    settled: BTreeSet<u64>,
}

impl Chunk {
    fn new(first: u64, last: u64, batches: Vec<Bytes>) -> Self {
        Chunk { first, last, batches, attempt: 0, leased: None, settled: BTreeSet::new() }
    }

    fn is_done(&self) -> bool {
        self.settled.len() as u64 == self.last - self.first + 1
    }

    /// Nothing open lies outside.
    fn is_all_of_it(&self, first: u64, last: u64) -> bool {
        (self.first..=self.last)
            .all(|at| (first..=last).contains(&at) || self.settled.contains(&at))
    }

    fn settle(&mut self, first: u64, last: u64) {
        self.settled.extend(first..=last);
        if self.is_done() {
            self.leased = None;
        }
    }

    fn settled_ranges(&self) -> Vec<OffsetRange> {
        self.settled.iter().map(|at| OffsetRange { first: *at, last: *at }).collect()
    }
}

pub(crate) struct Broker {
    pub(crate) addr: String,
    state: watch::Sender<State>,
    _serving: tokio::task::JoinSet<()>,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let state = watch::Sender::new(State::default());
        let mut serving = tokio::task::JoinSet::new();
        let shared = state.clone();
        serving.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = Connection {
                    stream,
                    state: shared.clone(),
                    session: BrokerSession::default(),
                    subscription: None,
                    broken: false,
                    leased: Vec::new(),
                };
                connections.spawn(connection.serve());
            }
        });
        Self { addr, state, _serving: serving }
    }

    /// Adds a chunk of stamped batches that follow one another.
    pub(crate) fn add_chunk(&self, batches: &[Bytes]) {
        let header = |batch: &Bytes| BatchHeader::decode(batch).unwrap();
        let first = header(batches.first().unwrap()).base_offset.0;
        let last = header(batches.last().unwrap()).last_offset().0;
        let batches = batches.to_vec();
        let chunk = Chunk::new(first, last, batches);
        self.state.send_modify(|state| state.chunks.push(chunk));
    }

    /// Adds a chunk that is a part of a batch.
    pub(crate) fn add_part(&self, first: u64, last: u64, batch: &Bytes) {
        let batches = vec![batch.clone()];
        let chunk = Chunk::new(first, last, batches);
        self.state.send_modify(|state| state.chunks.push(chunk));
    }

    /// Gives every lease to somebody else, who never answers either.
    pub(crate) fn take_leases(&self) {
        self.state.send_modify(|state| {
            state.leases_lost = true;
            for chunk in &mut state.chunks {
                chunk.leased = None;
            }
        });
    }

    /// So many requests to terminate are refused for now.
    pub(crate) fn refuse_terminates(&self, count: u32) {
        self.state.send_modify(|state| state.refused_terminates = count);
    }

    /// The next request to terminate takes effect, and the connection ends instead of the answer.
    pub(crate) fn lose_the_answer_to_terminate(&self) {
        self.state.send_modify(|state| state.mute_terminate = true);
    }

    /// From the next hand-out on nobody gets an answer.
    pub(crate) fn fall_silent_after_hand_out(&self) {
        self.state.send_modify(|state| state.silent_after_hand_out = true);
    }

    /// From now on nobody gets an answer.
    pub(crate) fn fall_silent(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    pub(crate) fn is_gone(&self, gone: bool) {
        self.state.send_modify(|state| state.gone = gone);
    }

    pub(crate) fn lose_the_answer_to_ack(&self) {
        self.state.send_modify(|state| state.mute_ack = true);
    }

    /// The log ends here, whatever the chunks hold.
    pub(crate) fn end_at(&self, end: u64) {
        self.state.send_modify(|state| state.end = end);
    }

    pub(crate) async fn until(&self, wanted: impl FnMut(&State) -> bool) {
        self.state.subscribe().wait_for(wanted).await.map(drop).unwrap();
    }

    pub(crate) fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.borrow())
    }
}

struct Connection {
    stream: TcpStream,
    state: watch::Sender<State>,
    session: BrokerSession,
    subscription: Option<u32>,
    broken: bool,
    /// Generations that were leased through it.
    leased: Vec<u64>,
}

/// Leases end with their connection.
impl Drop for Connection {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            let of_it =
                |chunk: &&mut Chunk| chunk.leased.is_some_and(|at| self.leased.contains(&at));
            state.chunks.iter_mut().filter(of_it).for_each(|chunk| chunk.leased = None);
        });
    }
}

type Answer = Box<dyn FnOnce(&mut BrokerSession) + Send>;

impl Connection {
    async fn serve(mut self) {
        let mut changes = self.state.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        while !self.broken && !self.state.borrow().gone {
            let silent = self.state.borrow().silent;
            self.deliver();
            let output = self.session.take_output().concat();
            let output = if silent { Vec::new() } else { output };
            if self.stream.write_all(&output).await.is_err() {
                return;
            }
            tokio::select! {
                read = self.stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(count) => self.receive(&buffer[..count]),
                },
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    fn receive(&mut self, mut input: &[u8]) {
        let mut session = mem::take(&mut self.session);
        while let Some(request) = session.next(&mut input).expect("a sound client") {
            let answer = self.answer(request);
            answer(&mut session);
        }
        self.session = session;
    }

    fn answer(&mut self, request: Request<'_>) -> Answer {
        match request {
            Request::Hello { correlation, .. } => {
                let greeting = Greeting {
                    broker_version: "in memory".into(),
                    shards: 1,
                    default_mode: DeliveryMode::Queue,
                    default_credit_bytes: 1024 * 1024,
                };
                Box::new(move |session| session.welcome(correlation, &greeting))
            }
            Request::CreateTopic { correlation, topic } => topics(correlation, topic.name),
            Request::DescribeTopic { correlation, name } => topics(correlation, name),
            Request::ListTopics { correlation } => topics(correlation, TOPIC.to_owned()),
            Request::Subscribe { correlation, subscribe } => {
                assert!(matches!(subscribe.mode, SubscribeMode::Group(_)), "{subscribe:?}");
                self.subscription = Some(subscribe.subscription);
                self.state.send_modify(|state| state.subscriptions += 1);
                let position = PartitionPosition {
                    partition: 0,
                    next_offset: 0,
                    high_watermark: self.state.borrow().end(),
                    log_epoch: 1,
                };
                let reply = SubscribeReply {
                    mode: DeliveryMode::Queue,
                    credit_bytes: 1024 * 1024,
                    positions: vec![position],
                    offline: Vec::new(),
                };
                Box::new(move |session| session.subscribed(correlation, reply))
            }
            Request::Ack { correlation, ack } => {
                let held = self.settle(ack.generation, |state, chunk| {
                    let dead = state.dead.len();
                    state.chunks[chunk].settle(ack.first, ack.last);
                    state.acked.push(((ack.first, ack.last), dead));
                });
                if self.take(|state| mem::take(&mut state.mute_ack)) {
                    self.take(|state| {
                        state.chunks.iter_mut().for_each(|chunk| chunk.leased = None)
                    });
                    self.broken = true;
                    return Box::new(|_| ());
                }
                settled(correlation, held)
            }
            Request::Nack { correlation, nack } => settled(
                correlation,
                self.settle(nack.generation, |state, chunk| {
                    state.chunks[chunk].leased = None;
                    let all = state.chunks[chunk].is_all_of_it(nack.first, nack.last);
                    state.nacked.push(if all { nack.reason } else { "a part".to_owned() });
                }),
            ),
            Request::Extend { correlation, extend } => {
                let Extend { generation, first, .. } = extend;
                settled(correlation, self.settle(generation, |state, _| state.extended.push(first)))
            }
            Request::Terminate { correlation, terminate } => {
                if self.take(|state| mem::take(&mut state.mute_terminate)) {
                    self.bury(&terminate);
                    self.broken = true;
                    return Box::new(|_| ());
                }
                let refuse = |state: &mut State| {
                    let refuse = state.refused_terminates > 0;
                    state.refused_terminates -= u32::from(refuse);
                    refuse
                };
                if self.take(refuse) {
                    let refusal = Refusal::new(ErrorCode::OVERLOADED, "later");
                    return Box::new(move |session| session.refuse(correlation, refusal));
                }
                settled(correlation, self.bury(&terminate))
            }
            Request::ListGroups { correlation, .. } => {
                let group = self.state.borrow().group();
                Box::new(move |session| session.groups(correlation, vec![group]))
            }
            Request::Credit(_) => Box::new(|_| ()),
            Request::AlterTopic { correlation, .. }
            | Request::DeleteTopic { correlation, .. }
            | Request::MoveGroup { correlation, .. }
            | Request::DeleteGroup { correlation, .. }
            | Request::Migrate { correlation, .. }
            | Request::Produce { correlation, .. } => {
                let code = lanecast_wire::ErrorCode::INVALID_REQUEST;
                let refusal = Refusal::new(code, "not in this test's broker");
                Box::new(move |session| session.refuse(correlation, refusal))
            }
            Request::Unsubscribe { correlation, .. } => {
                self.subscription = None;
                self.state.send_modify(|state| state.left += 1);
                Box::new(move |session| session.done(correlation))
            }
        }
    }

    /// Runs `with` if the lease of that generation still holds.
    fn settle(&self, generation: u64, with: impl FnOnce(&mut State, usize)) -> bool {
        let mut held = false;
        self.state.send_modify(|state| {
            let chunk = state.chunks.iter().position(|chunk| chunk.leased == Some(generation));
            if let Some(chunk) = chunk {
                held = true;
                with(state, chunk);
            }
        });
        held
    }

    fn take<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let mut taken = None;
        self.state.send_modify(|state| taken = Some(with(state)));
        taken.unwrap()
    }

    fn bury(&self, terminate: &Terminate) -> bool {
        let ranges: Vec<_> = terminate.ranges.iter().map(|at| (at.first, at.last)).collect();
        self.settle(terminate.generation, |state, chunk| {
            for (first, last) in &ranges {
                assert!((*first..=*last).all(|at| !state.chunks[chunk].settled.contains(&at)));
                state.chunks[chunk].settle(*first, *last);
            }
            state.dead.push((ranges, terminate.reason.clone()));
        })
    }

    /// Hands out what nobody holds.
    fn deliver(&mut self) {
        let Some(subscription) = self.subscription else { return };
        let free = |chunk: &Chunk| !chunk.is_done() && chunk.leased.is_none();
        if !self.state.borrow().chunks.iter().any(free) {
            return;
        }
        let (session, leased) = (&mut self.session, &mut self.leased);
        self.state.send_modify(|state| {
            state.leases_lost = false;
            state.silent |= state.silent_after_hand_out;
            let high_watermark = state.end();
            for chunk in state.chunks.iter_mut().filter(|chunk| free(chunk)) {
                state.generation += 1;
                chunk.attempt += 1;
                chunk.leased = Some(state.generation);
                leased.push(state.generation);
                let (chunk_first, chunk_last) = (chunk.first, chunk.last);
                let (generation, attempt) = (state.generation, chunk.attempt);
                let newest = chunk.batches.last().unwrap();
                let appended_ms = BatchHeader::decode(newest).unwrap().append_time_ms;
                let lease_ms = 200;
                let lease =
                    Lease { chunk_first, chunk_last, generation, attempt, lease_ms, appended_ms };
                let deliver = Deliver {
                    subscription,
                    partition: 0,
                    first: chunk_first,
                    last: chunk_last,
                    high_watermark,
                    lease: Some(lease),
                };
                let ranges = chunk.settled_ranges();
                if !ranges.is_empty() {
                    let partition = 0;
                    session.settled(Settled {
                        subscription,
                        partition,
                        chunk_first,
                        generation,
                        ranges,
                    });
                }
                session.deliver(&deliver, chunk.batches.iter().cloned());
            }
        });
    }
}

fn settled(correlation: CorrelationId, held: bool) -> Answer {
    Box::new(move |session| {
        if held {
            session.done(correlation);
        } else {
            session.refuse(correlation, Refusal::new(ErrorCode::LEASE_LOST, "not yours"));
        }
    })
}

fn topics(correlation: CorrelationId, name: String) -> Answer {
    let settings = TopicSettings::default();
    let topics = vec![TopicInfo { topic: TOPIC_NUMBER, name, partitions: 1, settings }];
    Box::new(move |session| session.topics(correlation, topics))
}
