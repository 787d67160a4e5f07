//! The task that owns one of a producer's connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::message::TopicInfo;
use lanecast_wire::session::{Acknowledged, Answer, Event, Outcome, ProducerSession};
use lanecast_wire::{PartitionId, Sequence};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use super::batches::{Batches, Sealed, Waiting};
use crate::client::backoff;
use crate::config::{ClientConfig, ProducerConfig, micros};
use crate::connection::{Connection, content};
use crate::error::{ConnectionError, ProduceError};
use crate::limits::OUTPUT_BYTES_MAX;
use crate::task::Clock;

pub(super) struct Task<B> {
    client: ClientConfig,
    give_up_after: Duration,
    topic: TopicInfo,
    batches: Arc<Batches<B>>,
    /// Which of the producer's connections this is, and the first of the partitions that it is for.
    route: usize,
    session: ProducerSession<Waiting>,
    queue: mpsc::Receiver<Sealed>,
    clock: Clock,
    /// The earliest linger deadline.
    linger: Option<Instant>,
    /// A linger deadline has passed, and all permits are out.
    overdue: bool,
    /// Why a connection was lost last, and how partitions were refused since.
    last: String,
    refusals: BTreeMap<u32, String>,
    /// What of the session's figures is in the producer's already.
    counted: Counted,
}

#[derive(Default)]
struct Counted {
    retries: u64,
    doubtful: u64,
    starts_over: u64,
}

impl<B> Drop for Task<B> {
    /// Whatever ends the task, nobody waits for it any longer.
    fn drop(&mut self) {
        self.batches.fail(ProduceError::Closed);
    }
}

/// The batch that a produce request carries.
#[derive(Default)]
struct Sent {
    partition: u32,
    sequence: Sequence,
}

/// Why a connection is not served any more.
enum Ended {
    Lost(ConnectionError),
    Failed(ProduceError),
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        Self::Lost(error)
    }
}

impl<B: BodyBuilder + Send + 'static> Task<B> {
    pub(super) fn new(
        client: ClientConfig,
        config: ProducerConfig,
        topic: TopicInfo,
        batches: Arc<Batches<B>>,
        route: usize,
        session: ProducerSession<Waiting>,
        queue: mpsc::Receiver<Sealed>,
    ) -> Self {
        Self {
            client,
            give_up_after: config.give_up_after,
            topic,
            batches,
            route,
            session,
            queue,
            clock: Clock::start(),
            linger: None,
            overdue: false,
            last: "nothing was heard of the broker".to_owned(),
            refusals: BTreeMap::new(),
            counted: Counted::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = backoff(&self.client);
        loop {
            let near = Some(self.route as u32);
            let ended = match Connection::open_topic(&self.client, &self.topic, near).await {
                Ok(connection) => {
                    backoff.reset();
                    self.serve(connection).await
                }
                Err(error) => Ended::Lost(error),
            };
            self.session.disconnected();
            self.count_retries();
            if self.batches.has_failed() {
                // Another connection's task has said why.
                return;
            }
            let error = match ended {
                Ended::Lost(error) if error.is_final() => ProduceError::Connection(error),
                Ended::Lost(error) => {
                    tracing::debug!(topic = self.topic.name, %error, "producer lost its connection");
                    self.last = error.to_string();
                    self.refusals.clear();
                    self.batches.counters().reconnects.fetch_add(1, Ordering::Relaxed);
                    let wake = Instant::now() + Duration::from_micros(backoff.next_us());
                    match self.wait(wake).await {
                        Ok(()) => continue,
                        Err(error) => error,
                    }
                }
                Ended::Failed(error) => error,
            };
            tracing::warn!(topic = self.topic.name, %error, "producer failed");
            self.batches.fail(error);
            return;
        }
    }

    /// Without a connection, until it is time to try again.
    async fn wait(&mut self, wake: Instant) -> Result<(), ProduceError> {
        self.take_queue();
        self.check_patience()?;
        sleep_until(wake).await;
        Ok(())
    }

    async fn serve(&mut self, mut connection: Connection<Sent>) -> Ended {
        loop {
            if let Err(ended) = self.progress(&mut connection) {
                return ended;
            }
            let wake = self.wake(&connection);
            tokio::select! {
                turned = connection.turn(true) => if let Err(error) = turned {
                    return Ended::Lost(error);
                },
                sealed = self.queue.recv() => if let Some(sealed) = sealed {
                    self.accept(sealed);
                },
                () = self.batches.armed(self.route) => self.linger = Some(Instant::now()),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Everything that can be done without waiting.
    fn progress(&mut self, connection: &mut Connection<Sent>) -> Result<(), Ended> {
        let now = Instant::now();
        if self.batches.has_failed() {
            return Err(Ended::Failed(ProduceError::Closed));
        }
        self.take_events(connection)?;
        if self.overdue || self.linger.is_some_and(|linger| linger <= now) {
            (self.linger, self.overdue) = self.batches.linger(self.route, now);
        }
        self.take_queue();
        let now_us = self.clock.now_us();
        while connection.session.may_produce()
            && connection.session.output_bytes() < OUTPUT_BYTES_MAX
        {
            let Some(send) = self.session.poll_send(now_us) else { break };
            let PartitionId { index: partition, .. } = send.partition;
            let sent = Sent { partition, sequence: send.sequence };
            let produced = connection.session.produce(send.partition, send.batch, sent);
            assert!(produced.is_ok(), "the session has room, as was just asked");
        }
        connection.keep_alive(now)?;
        self.check_patience().map_err(Ended::Failed)?;
        match connection.goodbye() {
            Some(goodbye) if connection.session.in_flight() == 0 => Err(goodbye.into()),
            _ => Ok(()),
        }
    }

    fn take_events(&mut self, connection: &mut Connection<Sent>) -> Result<(), Ended> {
        while let Some(event) = connection.next_event()? {
            match event {
                Event::Answered { tag, answer } => {
                    let answer = match answer {
                        Ok(Answer::Produced(reply)) => Ok(reply),
                        Ok(
                            Answer::Topics(_)
                            | Answer::Groups(_)
                            | Answer::Subscribed(_)
                            | Answer::Done,
                        ) => {
                            return Err(content("a produce request was answered").into());
                        }
                        Err(refusal) => Err(refusal),
                    };
                    let now_us = self.clock.now_us();
                    let outcome = self
                        .session
                        .answered(tag.partition, tag.sequence, answer, now_us)
                        .map_err(|failed| Ended::Failed(failed.into()))?;
                    self.note(tag.partition, outcome);
                }
                Event::Deliver { .. }
                | Event::Missed(_)
                | Event::Settled(_)
                | Event::Ended(_)
                | Event::Online(_) => {
                    return Err(content("nothing is subscribed to here").into());
                }
                Event::Opened(_) | Event::Goodbye { .. } | Event::Refused(_) => {}
            }
        }
        self.settle();
        Ok(())
    }

    fn note(&mut self, partition: u32, outcome: Outcome) {
        if let Outcome::Retrying { refusal } = outcome {
            self.count_retries();
            let refusal = format!("{}: {}", refusal.code(), refusal.message);
            tracing::debug!(partition, refusal, "batch will be sent again");
            self.refusals.insert(partition, refusal);
        }
    }

    fn count_retries(&mut self) {
        let (counters, counted) = (self.batches.counters(), &mut self.counted);
        let count = |counter: &AtomicU64, before: &mut u64, now: u64| {
            let more = now - std::mem::replace(before, now);
            counter.fetch_add(more, Ordering::Relaxed);
            more > 0
        };
        count(&counters.retries, &mut counted.retries, self.session.retries());
        let doubtful = self.session.doubtful();
        count(&counters.doubtful, &mut counted.doubtful, doubtful);
        let starts_over = self.session.starts_over();
        if count(&counters.starts_over, &mut counted.starts_over, starts_over) {
            let topic = &self.topic.name;
            tracing::warn!(topic, starts_over, doubtful, "the broker had forgotten the producer");
        }
    }

    /// Counts what is acknowledged and gives its permits back.
    fn settle(&mut self) {
        let counters = self.batches.counters();
        let mut any = false;
        let now = Instant::now();
        while let Some(acknowledged) = self.session.poll_acknowledged() {
            let Acknowledged { partition, tag, records, bytes, reply } = acknowledged;
            let records = u64::from(records);
            if reply.dropped {
                counters.dropped.fetch_add(records, Ordering::Relaxed);
            } else {
                counters.acknowledged.fetch_add(records, Ordering::Relaxed);
                counters.batches.fetch_add(1, Ordering::Relaxed);
                counters.bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
                counters.latency.record(now.saturating_duration_since(tag.since), records);
            }
            if reply.duplicate {
                counters.duplicates.fetch_add(records, Ordering::Relaxed);
            }
            if let Some(fate) = &tag.fate {
                fate.settle(reply);
            }
            self.batches.acknowledge(partition);
            drop(tag);
            any = true;
        }
        if any {
            self.batches.tell_progress();
        }
    }

    fn take_queue(&mut self) {
        while let Ok(sealed) = self.queue.try_recv() {
            self.accept(sealed);
        }
    }

    fn accept(&mut self, sealed: Sealed) {
        let Sealed { partition, body, created_ms, waiting } = sealed;
        let now_us = self.clock.now_us();
        let accepted = self.session.accept(partition, &body, created_ms, waiting, now_us);
        assert!(accepted.is_ok(), "there are fewer permits than a lane holds batches");
    }

    fn check_patience(&self) -> Result<(), ProduceError> {
        match self.session.stalled(self.clock.now_us()) {
            Some((partition, stalled_us)) if stalled_us >= micros(self.give_up_after) => {
                let waited = Duration::from_micros(stalled_us);
                let last = self.refusals.get(&partition).unwrap_or(&self.last).clone();
                Err(ProduceError::GaveUp { partition, waited, last })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn wake(&self, connection: &Connection<Sent>) -> Instant {
        let mut wake = connection.deadline();
        if let Some(until_us) = self.session.poll_timeout() {
            wake = wake.min(self.clock.at(until_us));
        }
        if let Some(linger) = self.linger {
            wake = wake.min(linger);
        }
        if let Some((_, stalled_us)) = self.session.stalled(self.clock.now_us()) {
            let left_us = micros(self.give_up_after).saturating_sub(stalled_us);
            wake = wake.min(Instant::now() + Duration::from_micros(left_us));
        }
        wake
    }
}
