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
    near: Option<u32>,
}

struct Subscription {
    id: u32,
    mode: DeliveryMode,
    /// Next offset and credit left, per partition.
    positions: Vec<(u64, i64)>,
    /// Partitions that the reply called offline.
    waiting: BTreeSet<u32>,
    group: Option<GroupOptions>,
    leases: Vec<Held>,
}

impl Drop for Connection {
    /// Leases end with their connection.
    fn drop(&mut self) {
        self.return_leases();
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, state: Arc<Mutex<State>>, changed: Arc<Notify>) -> Self {
        stream.set_nodelay(true).unwrap();
        let (session, subscription) = (BrokerSession::default(), None);
        Self { stream, state, changed, session, subscription, deliveries: 0, near: None }
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
                    shards: state.shards,
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
                return state.produce(correlation, partition, self.near, batch, replies);
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
                let range = OffsetRange { first: ack.first, last: ack.last };
                let held = self.settle(ack.partition, ack.generation, &[range]);
                if held {
                    state.acked.push((ack.partition, ack.first, ack.last));
                }
                if !state.unanswered_acks {
                    replies.push(settled(correlation, held));
                }
            }
            Request::Nack { correlation, nack } => {
                let range = OffsetRange { first: nack.first, last: nack.last };
                let open = self.open(nack.partition, nack.generation, range);
                let held = self.settle(nack.partition, nack.generation, &[range]);
                if held {
                    if state.redeliver {
                        // The delay is not waited for.
                        state.returned.push(Held {
                            partition: nack.partition,
                            first: nack.first,
                            last: nack.last,
                            generation: 0,
                            attempt: 2,
                            open,
                        });
                    }
                    state.nacked.push((nack.partition, nack.first, nack.last, nack.reason));
                }
                replies.push(settled(correlation, held));
            }
            Request::Migrate { correlation, partition } => {
                state.migrated.push(partition.index);
                let refused = state.refuse_migrate;
                self.near = refused.is_none().then_some(partition.index);
                replies.push(Box::new(move |session| match refused {
                    Some(code) => session.refuse(correlation, Refusal::new(code, "no")),
                    None => session.done(correlation),
                }));
            }
            Request::Terminate { correlation, terminate } => {
                let Terminate { partition, ranges, generation, reason, .. } = terminate;
                if state.no_dead_letters {
                    let refusal = Refusal::new(ErrorCode::INVALID_REQUEST, "no dead-letter topic");
                    replies.push(Box::new(move |session| session.refuse(correlation, refusal)));
                    return Go::On;
                }
                let held = self.settle(partition, generation, &ranges);
                if held {
                    state.terminated.extend(
                        ranges
                            .iter()
                            .map(|range| (partition, range.first, range.last, reason.clone())),
                    );
                }
                replies.push(settled(correlation, held));
            }
            Request::Extend { correlation, extend } => {
                let subscription = self.subscription.as_ref().expect("a subscription");
                let held = subscription.leases.iter().any(|held| {
                    (held.partition, held.generation) == (extend.partition, extend.generation)
                });
                if held {
                    state.extended.push(extend.generation);
                }
                replies.push(settled(correlation, held));
            }
            request @ (Request::AlterTopic { .. }
            | Request::DeleteTopic { .. }
            | Request::ListGroups { .. }
            | Request::MoveGroup { .. }
            | Request::DeleteGroup { .. }) => return admin::handle(&mut state, request, replies),
            Request::Unsubscribe { correlation, .. } => {
                state.unsubscribes += 1;
                drop(state);
                self.return_leases();
                replies.push(Box::new(move |session| session.done(correlation)));
            }
        }
        Go::On
    }

    /// What of a range is on lease and not settled.
    fn open(&self, partition: u32, generation: u64, range: OffsetRange) -> BTreeSet<u64> {
        let leases = self.subscription.iter().flat_map(|subscription| &subscription.leases);
        let mut mine =
            leases.filter(|held| (held.partition, held.generation) == (partition, generation));
        let open = mine.next().map(|held| held.open.range(range.first..=range.last));
        open.into_iter().flatten().copied().collect()
    }

    /// Takes these records out of a lease; whether it was held.
    fn settle(&mut self, partition: u32, generation: u64, ranges: &[OffsetRange]) -> bool {
        let Some(subscription) = &mut self.subscription else { return false };
        let mine = |held: &&mut Held| (held.partition, held.generation) == (partition, generation);
        let Some(held) = subscription.leases.iter_mut().find(mine) else { return false };
        for range in ranges {
            assert!(held.first <= range.first && range.last <= held.last, "outside of the chunk");
            held.open.retain(|offset| !(range.first..=range.last).contains(offset));
        }
        subscription.leases.retain(|held| !held.open.is_empty());
        true
    }

    fn return_leases(&mut self) {
        let Some(subscription) = self.subscription.take() else { return };
        let mut state = self.state.lock().unwrap();
        let leases = subscription.leases.into_iter();
        state.returned.extend(leases.map(|held| Held { attempt: held.attempt + 1, ..held }));
        drop(state);
        self.changed.notify_waiters();
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
            SubscribeMode::Default(group) => {
                (state.mode, (state.mode == DeliveryMode::Queue).then_some(group))
            }
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
        let waiting = state.offline.clone();
        let reply = SubscribeReply {
            mode,
            credit_bytes,
            positions: (0..state.topic.partitions)
                .filter(|partition| !waiting.contains(partition))
                .map(|partition| stands_at(partition, positions[partition as usize].0, state))
                .collect(),
            offline: waiting.iter().copied().collect(),
        };
        let (id, leases) = (subscribe.subscription, Vec::new());
        self.subscription = Some(Subscription { id, mode, positions, waiting, group, leases });
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
            if state.offline.contains(&partition) {
                continue;
            }
            if subscription.waiting.remove(&partition) {
                let position = stands_at(partition, next, &state);
                self.session.online(PartitionOnline { subscription: subscription.id, position });
            }
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
            if let Some(group) = &subscription.group {
                let leases = &mut subscription.leases;
                let next = &mut subscription.positions[partition as usize].0;
                while let Some((lease, frames)) =
                    group::hand_out(&mut state, partition, group, leases, next)
                {
                    if let Some(settled) = group::settled(&lease, subscription.id) {
                        self.session.settled(settled);
                    }
                    for (first, last, batch) in frames {
                        let (id, high_watermark) =
                            (subscription.id, state.logs[partition as usize].next);
                        let lease = Some(lease.to_wire(group.lease_ms));
                        let frame = Deliver {
                            subscription: id,
                            partition,
                            first,
                            last,
                            high_watermark,
                            lease,
                        };
                        self.session.deliver(&frame, batch);
                    }
                    leases.push(lease);
                }
                continue;
            }
            loop {
                let log = &state.logs[partition as usize];
                let Some(batch) = log.batches.iter().find(|batch| base(batch) == next) else {
                    break;
                };
                let last = BatchHeader::decode(batch).unwrap().last_offset().0;
                let frame = Deliver {
                    subscription: subscription.id,
                    partition,
                    first: next,
                    last,
                    high_watermark: log.next,
                    lease: None,
                };
                if credit < batch.len() as i64 {
                    break;
                }
                credit -= batch.len() as i64;
                self.deliveries += 1;
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

fn stands_at(partition: u32, next_offset: u64, state: &State) -> PartitionPosition {
    let high_watermark = state.logs[partition as usize].next;
    PartitionPosition { partition, next_offset, high_watermark, log_epoch: 1 }
}

fn base(batch: &Bytes) -> u64 {
    BatchHeader::decode(batch).unwrap().base_offset.0
}
