//! What a subscription's handle, its dispatcher and its handlers share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lanecast_wire::message::{DeliveryMode, TopicInfo};
use lanecast_wire::{Offset, dead_letter};
use tokio::sync::watch;
use tokio::time::{Duration, Instant, timeout};

use super::parcel::Settled;
use crate::admin::PartitionGroup;
use crate::client::Client;
use crate::error::{CloseError, SubscribeError};
use crate::limits::{BACKOFF_LONGEST, DRAIN_LOOK};
use crate::offsets::PartitionOffsets;
use crate::subscriber::Subscriber;

/// What a handler subscription has done so far, in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubscriptionStats {
    /// Handled well.
    pub delivered: u64,
    /// Handlers gave an error or panicked, or the records could not be read.
    pub errors: u64,
    /// Of those, panics.
    pub panics: u64,
    /// Came again after an earlier attempt.
    pub redelivered: u64,
    /// Will never come, as the broker reported.
    pub missed: u64,
    /// Acknowledged to the broker, given back to it for another attempt, and sent to the
    /// dead-letter topic. Broadcast knows none of these.
    pub acked: u64,
    pub nacked: u64,
    pub terminated: u64,
    /// Their lease was lost or their answer never came: they come again, here or elsewhere.
    pub lost: u64,
    /// Have arrived, and wait for a handler or are with one.
    pub depth: u64,
    pub is_active: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    /// Handlers at work finish; nothing more starts. When nothing has moved for so long, those that
    /// are left are cancelled.
    Leave {
        patience: Duration,
    },
}

/// How far a subscription has got.
#[derive(Debug)]
struct State {
    /// Everything that has arrived is dealt with.
    idle: bool,
    /// Per partition, behind what has arrived.
    positions: BTreeMap<u32, u64>,
}

pub(crate) struct Shared {
    topic: TopicInfo,
    name: Arc<str>,
    /// Of a group's member.
    group: Option<String>,
    stuck_after: Duration,
    drain_patience: Duration,
    stop: watch::Sender<Stop>,
    state: watch::Sender<State>,
    ended: watch::Sender<Option<Result<(), SubscribeError>>>,
    is_active: AtomicBool,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    errors: AtomicU64,
    panics: AtomicU64,
    redelivered: AtomicU64,
    missed: AtomicU64,
    acked: AtomicU64,
    nacked: AtomicU64,
    terminated: AtomicU64,
    lost: AtomicU64,
    arrived: AtomicU64,
    /// Of those, for the first time.
    fresh: AtomicU64,
    abandoned: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        subscriber: &Subscriber,
        group: &str,
        stuck_after: Duration,
        drain_patience: Duration,
    ) -> Self {
        let group = (subscriber.mode() == DeliveryMode::Queue).then(|| group.to_owned());
        let position = |position: &lanecast_wire::message::PartitionPosition| {
            (position.partition, position.next_offset)
        };
        let positions = subscriber.positions().iter().map(position).collect();
        Self {
            topic: subscriber.topic().clone(),
            name: Arc::from(subscriber.topic().name.as_str()),
            group,
            stuck_after,
            drain_patience,
            stop: watch::Sender::new(Stop::No),
            state: watch::Sender::new(State { idle: true, positions }),
            ended: watch::Sender::new(None),
            is_active: AtomicBool::new(true),
            counters: Counters::default(),
        }
    }

    pub(super) fn topic(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn stats(&self) -> SubscriptionStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let counters = &self.counters;
        // What has finished is read before what has arrived, so the depth is never negative.
        let (delivered, errors) = (read(&counters.delivered), read(&counters.errors));
        let finished = delivered + errors + read(&counters.abandoned);
        SubscriptionStats {
            delivered,
            errors,
            panics: read(&counters.panics),
            redelivered: read(&counters.redelivered),
            missed: read(&counters.missed),
            acked: read(&counters.acked),
            nacked: read(&counters.nacked),
            terminated: read(&counters.terminated),
            lost: read(&counters.lost),
            depth: read(&counters.arrived).saturating_sub(finished),
            is_active: self.is_active.load(Ordering::Acquire),
        }
    }

    /// Handlers at work finish, what they did is settled, and the subscription ends.
    pub(crate) async fn leave(&self) -> Result<(), SubscribeError> {
        self.leave_within(self.stuck_after).await
    }

    async fn leave_within(&self, mut patience: Duration) -> Result<(), SubscribeError> {
        self.stop.send_modify(|stop| {
            if let Stop::Leave { patience: before } = *stop {
                patience = patience.min(before);
            }
            *stop = Stop::Leave { patience };
        });
        self.wait_for_end().await
    }

    pub(super) async fn wait_for_end(&self) -> Result<(), SubscribeError> {
        let mut ended = self.ended.subscribe();
        let waited = ended.wait_for(Option::is_some).await;
        waited.ok().and_then(|ended| ended.clone()).unwrap_or(Err(SubscribeError::Closed))
    }

    /// Waits until everything that is in the topic now has been dealt with, then leaves.
    pub(crate) async fn drain(&self, client: &Client) -> Result<(), CloseError> {
        let drained = if self.ended.borrow().is_some() {
            Ok(())
        } else {
            match &self.group {
                None => self.drain_broadcast(client).await,
                Some(group) => self.drain_group(client, group).await,
            }
        };
        // What has stalled has had its time.
        let stalled = matches!(drained, Err(CloseError::Stalled { .. }));
        let patience = if stalled { Duration::ZERO } else { self.drain_patience };
        let left = self.leave_within(patience).await;
        drained?;
        Ok(left?)
    }

    async fn drain_broadcast(&self, client: &Client) -> Result<(), CloseError> {
        let ends = client.offsets(&self.topic.name).await?;
        let mut state = self.state.subscribe();
        let mut ended = self.ended.subscribe();
        let reached = |state: &State| state.idle && ends.iter().all(|end| state.behind(end) == 0);
        loop {
            let before = self.stats();
            tokio::select! {
                waited = timeout(self.drain_patience, state.wait_for(reached)) => {
                    if waited.is_ok() {
                        return Ok(());
                    }
                    let now = self.stats();
                    if now == before {
                        let state = self.state.borrow();
                        let behind = ends.iter().map(|end| state.behind(end)).sum::<u64>();
                        let (waited, left) = (self.drain_patience, behind + now.depth);
                        return Err(CloseError::Stalled { waited, left });
                    }
                }
                _ = ended.wait_for(Option::is_some) => return Ok(()),
            }
        }
    }

    /// Other members of the group may have a part in it. What counts as progress makes sure that
    /// this ends: see [`Subscription`](super::Subscription), "How it ends".
    async fn drain_group(&self, client: &Client, group: &str) -> Result<(), CloseError> {
        let attempts_end = self.attempts_end(client).await?;
        let rests = if attempts_end { BACKOFF_LONGEST } else { Duration::ZERO };
        let patience = self.drain_patience.saturating_add(rests);
        let mut ends = BTreeMap::new();
        let mut ended = self.ended.subscribe();
        let (mut before, mut moved) = (None, Instant::now());
        loop {
            let groups = client.groups(&self.topic.name, None).await?;
            let mine = || groups.iter().filter(|found| found.group.name == group);
            for found in mine() {
                ends.entry(found.partition).or_insert(found.group.high_watermark);
            }
            let behind = |found: &PartitionGroup| {
                ends[&found.partition].saturating_sub(found.group.acked_upto)
            };
            if mine().all(|found| behind(found) == 0) {
                return Ok(());
            }
            let settled = mine().map(|found| {
                found.group.acked_upto.saturating_add(found.group.dead_lettered_records)
            });
            let now = Some((settled.fold(0, u64::saturating_add), self.progress(attempts_end)));
            // By the clock: a look takes as long as the broker takes to answer.
            if before != now {
                (before, moved) = (now, Instant::now());
            }
            let waited = moved.elapsed();
            if waited >= patience {
                let open = |found: &PartitionGroup| behind(found).min(found.group.lag_records);
                let left = mine().map(open).fold(0, u64::saturating_add);
                return Err(CloseError::Stalled { waited, left });
            }
            if timeout(DRAIN_LOOK, ended.wait_for(Option::is_some)).await.is_ok() {
                return Ok(());
            }
        }
    }

    /// Whether a record that always fails is dead-lettered in the end.
    async fn attempts_end(&self, client: &Client) -> Result<bool, CloseError> {
        let topic = client.topic(&self.topic.name).await?;
        Ok(topic.settings.max_attempts > 0 && !dead_letter::is_topic_name(&topic.name))
    }

    /// Changes with whatever brings the end nearer: records that come for the first time, and those
    /// that are handled well or given up; and failures, if there can be only so many of them.
    fn progress(&self, attempts_end: bool) -> [u64; 4] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let counters = &self.counters;
        let given_up = read(&counters.terminated) + read(&counters.missed);
        let failed = if attempts_end { read(&counters.errors) } else { 0 };
        [read(&counters.fresh), read(&counters.delivered), given_up, failed]
    }

    // From here on: what the dispatcher and the handlers tell.

    pub(super) fn stop(&self) -> watch::Receiver<Stop> {
        self.stop.subscribe()
    }

    pub(super) fn arrived(&self, partition: u32, records: u64, attempt: u32, last: Offset) {
        self.counters.arrived.fetch_add(records, Ordering::Release);
        if attempt > 1 {
            self.counters.redelivered.fetch_add(records, Ordering::Release);
        } else {
            self.counters.fresh.fetch_add(records, Ordering::Release);
        }
        self.state.send_modify(|state| {
            state.idle = false;
            state.advance(partition, last);
        });
    }

    pub(super) fn missed(&self, partition: u32, records: u64, last: Offset) {
        self.counters.missed.fetch_add(records, Ordering::Release);
        self.state.send_modify(|state| state.advance(partition, last));
    }

    /// A filter kept everything out up to there.
    pub(super) fn skipped(&self, partition: u32, last: Offset) {
        self.state.send_modify(|state| state.advance(partition, last));
    }

    pub(super) fn set_idle(&self, idle: bool) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.idle, idle) != idle);
    }

    pub(super) fn delivered(&self, records: u64) {
        self.counters.delivered.fetch_add(records, Ordering::Release);
    }

    pub(super) fn failed(&self, records: u64, panicked: bool) {
        self.counters.errors.fetch_add(records, Ordering::Release);
        if panicked {
            self.counters.panics.fetch_add(records, Ordering::Release);
        }
    }

    pub(super) fn abandoned(&self, records: u64) {
        self.counters.abandoned.fetch_add(records, Ordering::Release);
    }

    pub(super) fn settled(&self, settled: Settled) {
        let Settled { acked, nacked, terminated, lost } = settled;
        self.counters.acked.fetch_add(acked, Ordering::Release);
        self.counters.nacked.fetch_add(nacked, Ordering::Release);
        self.counters.terminated.fetch_add(terminated, Ordering::Release);
        self.counters.lost.fetch_add(lost, Ordering::Release);
    }

    pub(super) fn ended(&self, failed: Option<SubscribeError>) {
        self.is_active.store(false, Ordering::Release);
        self.ended.send_replace(Some(failed.map_or(Ok(()), Err)));
    }
}

impl State {
    /// Records of a subscribed partition that have not arrived.
    fn behind(&self, end: &PartitionOffsets) -> u64 {
        let position = self.positions.get(&end.partition);
        position.map_or(0, |position| end.high_watermark.saturating_sub(*position))
    }

    fn advance(&mut self, partition: u32, last: Offset) {
        let position = self.positions.entry(partition).or_default();
        *position = (*position).max(last.0 + 1);
    }
}
