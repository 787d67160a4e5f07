//! One connection of the scripted broker.

use super::*;

/// Whether the connection goes on.
#[derive(PartialEq)]
pub(super) enum Go {
    On,
    /// Close; of the bytes that were to be sent, leave out this many.
    Close {
        cut: usize,
    },
}

pub(super) struct Connection {
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
    pub(super) fn new(stream: TcpStream, state: Arc<Mutex<State>>, changed: Arc<Notify>) -> Self {
        stream.set_nodelay(true).unwrap();
        let (session, subscription) = (BrokerSession::default(), None);
        Self { stream, state, changed, session, subscription, deliveries: 0 }
    }

    pub(super) async fn serve(&mut self) {
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
            Request::AlterTopic { correlation, .. }
            | Request::DeleteTopic { correlation, .. }
            | Request::ListGroups { correlation, .. }
            | Request::MoveGroup { correlation, .. }
            | Request::DeleteGroup { correlation, .. }
            | Request::Terminate { correlation, .. } => {
                let code = lanecast_wire::ErrorCode::INVALID_REQUEST;
                let refusal = Refusal::new(code, "not in this test's broker");
                replies.push(Box::new(move |session| session.refuse(correlation, refusal)));
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
                    reason: MissedReason::Retention,
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

pub(super) type Answer = Box<dyn FnOnce(&mut BrokerSession)>;

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
