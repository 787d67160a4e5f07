//! The task that owns a subscriber's connection.

use std::collections::VecDeque;
use std::sync::Arc;

use lanecast_wire::message::TopicInfo;
use lanecast_wire::message::{
    ClientMessage, Deliver, DeliveryMode, Missed, MissedReason, PartitionPosition, Refusal,
    SubscribeReply, Unsubscribe,
};
use lanecast_wire::session::{Answer, Delivered, Event, LeasedChunk, SubscriptionSession};
use lanecast_wire::{ErrorCode, Offset};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Duration, Instant, sleep_until};

use super::chunk::{Chunk, Reply, Settlement, Way};
use super::credit::CreditOwed;
use super::{Batches, ConnectionState, Delivery, Opening};
use crate::client::backoff;
use crate::config::ClientConfig;
use crate::connection::{Connection, content};
use crate::error::{ConnectionError, SubscribeError};
use crate::limits::{CALM, DELIVERIES_BACKLOG_MAX};
use crate::task::Clock;

pub(super) struct Task {
    client: ClientConfig,
    topic: TopicInfo,
    name: Arc<str>,
    session: SubscriptionSession,
    deliveries: mpsc::Sender<Result<Delivery, SubscribeError>>,
    settlements: mpsc::Sender<Settlement>,
    settle: mpsc::Receiver<Settlement>,
    opening: watch::Sender<Opening>,
    connection: watch::Sender<ConnectionState>,
    /// When the connection failed last, and how often without a minute in between.
    failed: Option<Instant>,
    failures: u32,
    /// Deliveries that the application has no room for yet.
    backlog: VecDeque<Delivery>,
    owed: Arc<CreditOwed>,
    credit_changed: Arc<Notify>,
    clock: Clock,
    /// The socket was not read in the last round.
    paused: bool,
}

/// The task's ends of the channels to the application.
pub(super) struct Ends {
    pub(super) deliveries: mpsc::Sender<Result<Delivery, SubscribeError>>,
    pub(super) settlements: mpsc::Sender<Settlement>,
    pub(super) settle: mpsc::Receiver<Settlement>,
    pub(super) opening: watch::Sender<Opening>,
}

/// What a request was about.
#[derive(Default)]
enum Tag {
    #[default]
    Subscribe,
    Settle(Reply),
}

/// Why a connection is not served any more.
enum Ended {
    Lost(ConnectionError),
    Refused(Refusal),
    /// The application has dropped the subscriber.
    Unwanted,
}

impl<E: Into<ConnectionError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Lost(error.into())
    }
}

impl Task {
    pub(super) fn new(
        client: ClientConfig,
        topic: TopicInfo,
        session: SubscriptionSession,
        ends: Ends,
    ) -> Self {
        let Ends { deliveries, settlements, settle, opening } = ends;
        let credit_changed = Arc::new(Notify::new());
        Self {
            client,
            name: Arc::from(topic.name.as_str()),
            topic,
            session,
            deliveries,
            settlements,
            settle,
            opening,
            connection: watch::Sender::default(),
            failed: None,
            failures: 0,
            backlog: VecDeque::new(),
            owed: Arc::new(CreditOwed::new(Arc::clone(&credit_changed))),
            credit_changed,
            clock: Clock::start(),
            paused: false,
        }
    }

    pub(super) fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.connection.subscribe()
    }

    /// Tells the application, and whoever reads the log: at the 1st, 2nd, 4th, 8th ... time.
    fn failed(&mut self, reason: &str, wait: Duration) {
        let now = Instant::now();
        if self.failed.replace(now).is_none_or(|before| now - before > CALM) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let (topic, failures) = (&self.topic.name, self.failures);
        if failures.is_power_of_two() {
            tracing::warn!(topic, reason, failures, ?wait, "subscriber connects again");
        } else {
            tracing::debug!(topic, reason, failures, ?wait, "subscriber connects again");
        }
        self.connection.send_modify(|state| {
            state.connected = false;
            state.last_error = reason.to_owned();
        });
    }

    pub(super) async fn run(mut self) {
        let mut backoff = backoff(&self.client);
        loop {
            let near = (self.topic.partitions == 1).then_some(0);
            let ended = match Connection::open_topic(&self.client, &self.topic, near).await {
                Ok(mut connection) => {
                    let ended = self.serve(&mut connection).await;
                    for tag in connection.session.abandon() {
                        Self::answer(tag, Err(None));
                    }
                    if self.session.mode().is_some() {
                        backoff.reset();
                    }
                    ended
                }
                Err(error) => Ended::Lost(error),
            };
            // Chunks that nobody has seen yet: their leases are gone with the connection.
            self.backlog.retain(|delivery| !matches!(delivery, Delivery::Chunk(_)));
            let error = match ended {
                Ended::Unwanted => return,
                Ended::Lost(error) if error.is_final() => SubscribeError::Connection(error),
                Ended::Refused(refusal) if !refusal.code().is_retryable() => {
                    SubscribeError::Refused { code: refusal.code(), message: refusal.message }
                }
                Ended::Refused(refusal) => {
                    let asked = Duration::from_millis(u64::from(refusal.retry_after_ms));
                    self.wait(&mut backoff, asked, &refusal.message).await;
                    continue;
                }
                Ended::Lost(error) => {
                    self.wait(&mut backoff, Duration::ZERO, &error.to_string()).await;
                    continue;
                }
            };
            tracing::warn!(topic = self.topic.name, %error, "subscriber failed");
            self.connection.send_modify(|state| {
                state.connected = false;
                state.last_error = error.to_string();
            });
            // Before the error, for which there is room only once something is taken: who settles
            // a chunk takes nothing meanwhile.
            self.settle.close();
            while let Some(settlement) = self.settle.recv().await {
                Self::lose(settlement);
            }
            // The application may be gone: then nobody wants to know.
            let _ = self.deliveries.send(Err(error)).await;
            return;
        }
    }

    /// Without a connection, until it is time to try again; what is in the backlog goes on.
    async fn wait(
        &mut self,
        backoff: &mut lanecast_wire::session::Backoff,
        at_least: Duration,
        reason: &str,
    ) {
        let wait = Duration::from_micros(backoff.next_us()).max(at_least);
        self.failed(reason, wait);
        self.opening.send_modify(|opening| opening.last = reason.to_owned());
        let wake = Instant::now() + wait;
        loop {
            let hand_on = !self.backlog.is_empty();
            tokio::select! {
                () = sleep_until(wake) => return,
                settlement = self.settle.recv() => if let Some(settlement) = settlement {
                    Self::lose(settlement);
                },
                permit = self.deliveries.reserve(), if hand_on => match permit {
                    Ok(permit) => if let Some(delivery) = self.backlog.pop_front() {
                        permit.send(Ok(delivery));
                    },
                    Err(_) => return,
                },
            }
        }
    }

    async fn serve(&mut self, connection: &mut Connection<Tag>) -> Ended {
        self.owed = Arc::new(CreditOwed::new(Arc::clone(&self.credit_changed)));
        let subscribe = ClientMessage::Subscribe(self.session.subscribe());
        if connection.session.request(&subscribe, Tag::Subscribe).is_err() {
            return Ended::Lost(connection.goodbye().unwrap_or(ConnectionError::Closed));
        }
        loop {
            if let Err(ended) = self.progress(connection) {
                return ended;
            }
            let read = self.may_read();
            let hand_on = !self.backlog.is_empty();
            // A full table of requests makes settlements wait; a broker that leaves loses leases.
            let settle = connection.session.may_request() || !connection.session.is_open();
            // While nothing is read, silence says nothing.
            let wake = if read { connection.deadline() } else { Instant::now() + FAR };
            tokio::select! {
                turned = connection.turn(read) => if let Err(error) = turned {
                    return Ended::Lost(error);
                },
                settlement = self.settle.recv(), if settle => if let Some(settlement) = settlement {
                    Self::settle(self.session.id().0, connection, settlement);
                },
                permit = self.deliveries.reserve(), if hand_on => match permit {
                    Ok(permit) => if let Some(delivery) = self.backlog.pop_front() {
                        permit.send(Ok(delivery));
                    },
                    Err(_) => return Ended::Unwanted,
                },
                () = self.deliveries.closed(), if !hand_on => return Ended::Unwanted,
                () = self.credit_changed.notified() => {}
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Everything that can be done without waiting.
    fn progress(&mut self, connection: &mut Connection<Tag>) -> Result<(), Ended> {
        let now = Instant::now();
        while self.may_read() {
            let Some(event) = connection.next_event()? else { break };
            self.take(event)?;
        }
        self.hand_on();
        for (partition, bytes) in self.owed.take() {
            self.session.done(partition, bytes);
        }
        while let Some(credit) = self.session.poll_credit() {
            connection.session.credit(credit);
        }
        let pausing = !self.may_read();
        if self.paused && !pausing {
            connection.excuse_silence(now);
        }
        self.paused = pausing;
        if !pausing {
            connection.keep_alive(now)?;
        }
        match connection.goodbye() {
            Some(goodbye) if connection.session.in_flight() == 0 => Err(goodbye.into()),
            _ => Ok(()),
        }
    }

    /// A broadcast application that is slow with many small batches stops the reading. Chunks
    /// are limited by their leases, and settlements' answers must get through between them.
    fn may_read(&self) -> bool {
        self.session.mode() != Some(DeliveryMode::Broadcast)
            || self.backlog.len() < DELIVERIES_BACKLOG_MAX
    }

    fn take(&mut self, event: Event<Tag>) -> Result<(), Ended> {
        match event {
            Event::Answered { tag: Tag::Subscribe, answer } => match answer {
                Ok(Answer::Subscribed(reply)) => self.opened(&reply),
                Ok(Answer::Topics(_) | Answer::Groups(_) | Answer::Produced(_) | Answer::Done) => {
                    return Err(content("a subscription was answered").into());
                }
                Err(refusal) => return Err(Ended::Refused(refusal)),
            },
            Event::Answered { tag, answer } => Self::answer(tag, answer.map(drop).map_err(Some)),
            Event::Deliver { deliver, payload } => self.deliver(&deliver, payload)?,
            Event::Missed(missed) => {
                let news = self.session.missed(&missed).map_err(ConnectionError::from)?;
                self.missed(news);
            }
            Event::Settled(settled) => {
                self.session.settled(settled).map_err(ConnectionError::from)?;
            }
            Event::Online(online) => {
                let partition = online.position.partition;
                tracing::info!(topic = self.topic.name, partition, "partition is online");
                let missed = self.session.online(&online).map_err(ConnectionError::from)?;
                self.missed(missed);
                self.told(None, &[online.position]);
            }
            Event::Ended(ended) => {
                let refusal = Refusal::new(ErrorCode(ended.code), ended.message);
                return Err(Ended::Refused(refusal));
            }
            // What is in flight is still answered.
            Event::Opened(_) | Event::Goodbye { .. } | Event::Refused(_) => {}
        }
        Ok(())
    }

    fn opened(&mut self, reply: &SubscribeReply) {
        for missed in self.session.opened(reply) {
            self.missed(Some(missed));
        }
        if !reply.offline.is_empty() {
            tracing::warn!(
                topic = self.topic.name,
                partitions = ?reply.offline,
                "partitions are offline: the others are read, and these once they are back"
            );
        }
        self.connection.send_modify(|state| {
            state.connected = true;
            state.connects += 1;
        });
        self.told(Some(reply), &reply.positions);
        tracing::debug!(
            topic = self.topic.name,
            mode = ?reply.mode,
            partitions = reply.positions.len(),
            "subscribed"
        );
    }

    /// Whoever opens the subscription learns where partitions stand as soon as they can be read.
    fn told(&mut self, reply: Option<&SubscribeReply>, positions: &[PartitionPosition]) {
        let offline = self.session.offline().to_vec();
        self.opening.send_modify(|opening| {
            if let Some(reply) = reply {
                opening.reply.get_or_insert_with(|| reply.clone());
            }
            let Some(reply) = &mut opening.reply else { return };
            for position in positions {
                let known =
                    reply.positions.binary_search_by_key(&position.partition, |at| at.partition);
                if let Err(at) = known {
                    reply.positions.insert(at, *position);
                }
            }
            reply.offline.clone_from(&offline);
            opening.offline = offline;
        });
    }

    fn deliver(&mut self, deliver: &Deliver, payload: bytes::Bytes) -> Result<(), Ended> {
        let now_us = self.clock.now_us();
        let (missed, delivered) =
            self.session.deliver(deliver, payload, now_us).map_err(ConnectionError::from)?;
        self.missed(missed);
        match delivered {
            Some(Delivered::Batches { partition, first, last, high_watermark, payload }) => {
                let owed = Arc::clone(&self.owed);
                self.backlog.push_back(Delivery::Batches(Batches {
                    partition,
                    first,
                    last,
                    high_watermark,
                    payload,
                    owed,
                }));
            }
            Some(Delivered::Chunk(chunk)) => self.chunk(chunk),
            None => {}
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: LeasedChunk) {
        let way = Way { settlements: self.settlements.clone(), subscription: self.session.id().0 };
        let received = self.clock.at(chunk.received_us);
        let chunk = Chunk::new(Arc::clone(&self.name), chunk, received, way);
        self.backlog.push_back(Delivery::Chunk(chunk));
    }

    fn missed(&mut self, missed: Option<Missed>) {
        let Some(Missed { partition, first, last, reason, .. }) = missed else { return };
        let (first, last) = (Offset(first), Offset(last));
        self.backlog.push_back(match reason {
            MissedReason::Filtered => Delivery::Skipped { partition, first, last },
            MissedReason::Retention
            | MissedReason::Expired
            | MissedReason::Dropped
            | MissedReason::Damaged => Delivery::Missed { partition, first, last, reason },
        });
    }

    /// Gives the application what it has room for, without waiting; chunks whose lease ran out
    /// on the way are left out, since somebody else has them by now.
    fn hand_on(&mut self) {
        let now = Instant::now();
        self.backlog.retain(|delivery| match delivery {
            Delivery::Chunk(chunk) => chunk.deadline() > now,
            Delivery::Batches(_) | Delivery::Missed { .. } | Delivery::Skipped { .. } => true,
        });
        while !self.backlog.is_empty() {
            let Ok(permit) = self.deliveries.try_reserve() else { return };
            if let Some(delivery) = self.backlog.pop_front() {
                permit.send(Ok(delivery));
            }
        }
    }

    fn settle(subscription: u32, connection: &mut Connection<Tag>, settlement: Settlement) {
        let tag = Tag::Settle(settlement.answer);
        if let ClientMessage::Unsubscribe(_) = settlement.message {
            let unsubscribe = ClientMessage::Unsubscribe(Unsubscribe { subscription });
            // What cannot be asked any more ends with the connection.
            if let Err(tag) = connection.session.request(&unsubscribe, tag) {
                Self::answer(tag, Ok(()));
            }
            return;
        }
        if settlement.subscription != subscription {
            return Self::answer(tag, Err(Some(lost())));
        }
        // After a goodbye nothing more is asked, and the leases end with the connection.
        if let Err(tag) = connection.session.request(&settlement.message, tag) {
            Self::answer(tag, Err(Some(lost())));
        }
    }

    /// There is no connection: with it went the subscription and its leases.
    fn lose(settlement: Settlement) {
        let ended = matches!(settlement.message, ClientMessage::Unsubscribe(_));
        let answer = if ended { Ok(()) } else { Err(Some(lost())) };
        Self::answer(Tag::Settle(settlement.answer), answer);
    }

    fn answer(tag: Tag, answer: Result<(), Option<Refusal>>) {
        if let Tag::Settle(reply) = tag {
            // Whoever asked may have stopped waiting.
            let _ = reply.send(answer);
        }
    }
}

const FAR: Duration = Duration::from_secs(86_400);

/// The lease ended with the connection that it came over.
fn lost() -> Refusal {
    Refusal::new(ErrorCode::LEASE_LOST, "the lease ended with its connection")
}
