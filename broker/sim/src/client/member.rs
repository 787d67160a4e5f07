//! A member of a consumer group: takes chunks, and mostly acks them.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_wire::batch;
use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, Credit, Deliver, Extend, Nack, StartPosition, Subscribe,
    SubscribeMode, SubscribeReply, Unsubscribe,
};
use lanecast_wire::{ErrorCode, KeyFilter, Offset};

use super::{Line, Turn};

#[derive(Debug)]
pub(crate) struct Member {
    group: usize,
    session: Option<Session>,
    subscriptions: u32,
    /// Chunks that arrive, by partition, first offset and generation; with the next offset.
    arriving: BTreeMap<Claim, u64>,
    /// What to do, by time; the number keeps the order of equal times.
    agenda: BTreeMap<(u64, u64), Todo>,
    todos: u64,
    requests: BTreeMap<u64, Request>,
    owed: BTreeMap<u32, u32>,
}

#[derive(Debug)]
struct Session {
    subscription: u32,
    request: u64,
    accepted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    partition: u32,
    first: u64,
    last: u64,
    generation: u64,
}

#[derive(Clone, Copy, Debug)]
enum Todo {
    Ack(Claim),
    Nack(Claim, u32),
    Extend(Claim, u32),
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Ack(Claim),
    Nack,
    Extend { claim: Claim, lease_ms: u32, asked_us: u64 },
    Unsubscribe,
}

impl Member {
    pub(crate) fn new(group: usize) -> Self {
        Self {
            group,
            session: None,
            subscriptions: 0,
            arriving: BTreeMap::new(),
            agenda: BTreeMap::new(),
            todos: 0,
            requests: BTreeMap::new(),
            owed: BTreeMap::new(),
        }
    }

    pub(crate) fn disconnected(&mut self) {
        self.forget();
        self.requests.clear();
    }

    fn forget(&mut self) {
        self.session = None;
        self.arriving.clear();
        self.agenda.clear();
        self.owed.clear();
    }

    pub(crate) fn woken(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        if self.session.is_none() {
            self.subscribe(line, turn);
            return;
        }
        self.give_credit(line, turn);
        while let Some(((at, _), _)) = self.agenda.first_key_value()
            && *at <= turn.now_us
        {
            let (_, todo) = self.agenda.pop_first().expect("there is a first");
            self.act(todo, line, turn);
        }
        if let Some(((at, _), _)) = self.agenda.first_key_value() {
            let wait_us = at - turn.now_us;
            turn.wake_in(wait_us);
        }
    }

    fn subscribe(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        self.subscriptions += 1;
        let options = turn.scenario.group_options(self.group, turn.client, turn.rng);
        let mode = if turn.rng.one_in(2) {
            SubscribeMode::Group(options)
        } else {
            SubscribeMode::Default(options)
        };
        let subscribe = Subscribe {
            subscription: self.subscriptions,
            topic: line.topic().expect("woken with a topic"),
            mode,
            start: StartPosition::Earliest,
            starts: Vec::new(),
            credit_bytes: 1024 * 1024,
            filter: KeyFilter::default(),
        };
        let request = line.send(turn, &ClientMessage::Subscribe(subscribe), &[]);
        let subscription = self.subscriptions;
        self.session = Some(Session { subscription, request, accepted: false });
    }

    fn act(&mut self, todo: Todo, line: &mut Line, turn: &mut Turn<'_>) {
        let Some(session) = &self.session else { return };
        let subscription = session.subscription;
        let (message, request) = match todo {
            Todo::Ack(claim) => {
                let Claim { partition, first, last, generation } = claim;
                turn.oracle.group((self.group, partition)).settled(first, generation);
                let ack = Ack { subscription, partition, first, last, generation };
                (ClientMessage::Ack(ack), Request::Ack(claim))
            }
            Todo::Nack(claim, delay_ms) => {
                let Claim { partition, first, last, generation } = claim;
                turn.oracle.group((self.group, partition)).settled(first, generation);
                let reason = "simulated".to_owned();
                let nack =
                    Nack { subscription, partition, first, last, generation, delay_ms, reason };
                (ClientMessage::Nack(nack), Request::Nack)
            }
            Todo::Extend(claim, lease_ms) => {
                let Claim { partition, first, last, generation } = claim;
                let extend = Extend { subscription, partition, first, last, generation, lease_ms };
                let asked_us = turn.now_us;
                (ClientMessage::Extend(extend), Request::Extend { claim, lease_ms, asked_us })
            }
        };
        let correlation = line.send(turn, &message, &[]);
        self.requests.insert(correlation, request);
    }

    pub(crate) fn message(
        &mut self,
        at: u64,
        message: BrokerMessage,
        payload: Bytes,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) {
        match message {
            BrokerMessage::SubscribeReply(reply) => self.accepted(at, &reply, turn),
            BrokerMessage::Deliver(deliver) => self.deliver(&deliver, &payload, line, turn),
            BrokerMessage::Done(_) => {
                let request = self.requests.remove(&at).expect("done for something asked");
                self.done(request, turn);
            }
            BrokerMessage::Refusal(refusal) => {
                let code = refusal.code();
                if let Some(request) = self.requests.remove(&at) {
                    let lost =
                        matches!(code, ErrorCode::LEASE_LOST | ErrorCode::UNKNOWN_SUBSCRIPTION);
                    assert!(lost || code.is_retryable(), "{request:?} refused: {refusal:?}");
                    return;
                }
                assert!(code.is_retryable(), "subscription refused: {refusal:?}");
                self.forget();
                turn.oracle.released(turn.client);
                turn.retry_later();
            }
            BrokerMessage::Missed(_)
            | BrokerMessage::HelloReply(_)
            | BrokerMessage::Topics(_)
            | BrokerMessage::ProduceReply(_)
            | BrokerMessage::Groups(_)
            | BrokerMessage::Settled(_)
            | BrokerMessage::Goodbye(_) => panic!("a member got {message:?}"),
        }
    }

    fn accepted(&mut self, at: u64, reply: &SubscribeReply, turn: &mut Turn<'_>) {
        let session = self.session.as_mut().expect("a session was asked for");
        assert_eq!(session.request, at);
        session.accepted = true;
        assert_eq!(reply.positions.len(), turn.scenario.partitions as usize);
        for position in &reply.positions {
            turn.oracle.group((self.group, position.partition));
            turn.oracle.saw_high_watermark(position.partition, position.high_watermark);
        }
    }

    fn done(&mut self, request: Request, turn: &mut Turn<'_>) {
        match request {
            Request::Ack(claim) => {
                let group = turn.oracle.group((self.group, claim.partition));
                group.acked(claim.first, claim.generation);
            }
            Request::Extend { claim, lease_ms, asked_us } => {
                let group = turn.oracle.group((self.group, claim.partition));
                group.extended(claim.first, claim.generation, asked_us, lease_ms);
            }
            Request::Nack | Request::Unsubscribe => {}
        }
    }

    fn deliver(
        &mut self,
        deliver: &Deliver,
        payload: &Bytes,
        line: &mut Line,
        turn: &mut Turn<'_>,
    ) {
        let Some(session) = &self.session else { return };
        if session.subscription != deliver.subscription {
            return;
        }
        assert!(session.accepted, "delivered before the reply: {deliver:?}");
        let partition = deliver.partition;
        let lease = deliver.lease.as_ref().expect("chunks come with a lease");
        turn.oracle.leased((self.group, partition), turn.client, lease, turn.sent_us);
        turn.oracle.saw_high_watermark(partition, deliver.high_watermark);
        let claim = Claim {
            partition,
            first: lease.chunk_first,
            last: lease.chunk_last,
            generation: lease.generation,
        };
        let next = self.arriving.entry(claim).or_insert(claim.first);
        assert_eq!(deliver.first, *next, "hole or repeat in a chunk: {deliver:?}");
        for found in batch::iter(payload) {
            let (header, bytes) = found.expect("whole batches");
            assert_eq!(header.base_offset, Offset(*next), "hole or repeat within {deliver:?}");
            *next = turn.oracle.observed(partition, &bytes);
        }
        assert_eq!(*next, deliver.last + 1, "the payload ends elsewhere than {deliver:?}");
        assert!(*next <= deliver.high_watermark, "served past the high watermark: {deliver:?}");
        assert!(deliver.last <= claim.last, "more than the chunk: {deliver:?}");
        if deliver.last == claim.last {
            self.arriving.remove(&claim);
            turn.oracle.group((self.group, partition)).delivered(claim.first, claim.last);
            self.decide(claim, lease.lease_ms, line, turn);
        }

        *self.owed.entry(partition).or_default() += payload.len() as u32;
        if turn.rng.one_in(8) {
            turn.retry_later();
        } else {
            self.give_credit(line, turn);
        }
    }

    /// What becomes of a chunk that is here.
    fn decide(&mut self, claim: Claim, lease_ms: u32, line: &mut Line, turn: &mut Turn<'_>) {
        let work_us = turn.rng.delay(100, 200_000);
        if turn.calm || !turn.rng.one_in(turn.scenario.trouble_one_in) {
            self.plan(work_us, Todo::Ack(claim), turn);
            return;
        }
        match turn.rng.below(6) {
            // Says nothing: the lease runs out.
            0 => {}
            1 => {
                let delay_ms = turn.rng.between(0, 500) as u32;
                self.plan(work_us, Todo::Nack(claim, delay_ms), turn);
            }
            2 => {
                // Asks for more time, then needs it.
                self.plan(work_us, Todo::Extend(claim, 2 * lease_ms), turn);
                let late_us = work_us + u64::from(lease_ms) * 1_500;
                self.plan(late_us, Todo::Ack(claim), turn);
            }
            3 => {
                // Too late, or just in time.
                let late_us = u64::from(lease_ms) * turn.rng.between(900, 1_300);
                self.plan(late_us, Todo::Ack(claim), turn);
            }
            4 => self.leave(line, turn),
            _ => {
                self.plan(work_us, Todo::Ack(claim), turn);
                self.plan(work_us, Todo::Nack(claim, 0), turn);
            }
        }
    }

    fn plan(&mut self, delay_us: u64, todo: Todo, turn: &mut Turn<'_>) {
        self.todos += 1;
        self.agenda.insert((turn.now_us + delay_us, self.todos), todo);
        turn.wake_in(delay_us);
    }

    fn leave(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let Some(session) = &self.session else { return };
        let unsubscribe = Unsubscribe { subscription: session.subscription };
        let request = line.send(turn, &ClientMessage::Unsubscribe(unsubscribe), &[]);
        self.requests.insert(request, Request::Unsubscribe);
        self.forget();
        turn.oracle.released(turn.client);
        turn.retry_later();
    }

    fn give_credit(&mut self, line: &mut Line, turn: &mut Turn<'_>) {
        let Some(session) = &self.session else { return };
        let subscription = session.subscription;
        for (partition, bytes) in std::mem::take(&mut self.owed) {
            let credit = Credit { subscription, partition, bytes };
            line.send(turn, &ClientMessage::Credit(credit), &[]);
        }
    }
}
