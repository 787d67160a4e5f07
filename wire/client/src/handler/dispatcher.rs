//! The task that hands what arrives to handlers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use lanecast_wire::message::OffsetRange;
use lanecast_wire::{KeyFilter, KeyKind, batch};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until, timeout};

use super::chunk::ReceivedChunk;
use super::error::HandlerError;
use super::guard::{Ended, guarded};
use super::parcel::{Parcel, SharedParcel, Source, records};
use super::shared::{Shared, Stop};
use crate::error::SubscribeError;
use crate::limits::{HAND_BACK_PATIENCE, PARCELS_WAITING_MAX, STARTS_PER_TURN_MAX};
use crate::received::{MessageBatch, Origin, ReceivedMessage};
use crate::subscriber::{Delivery, OpenRanges, Subscriber};

/// What one call of a handler is for.
pub(super) enum Item {
    Message(ReceivedMessage),
    Chunk(ReceivedChunk),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Message,
    Chunk,
}

pub(super) type Handled = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send>>;
pub(super) type Handler = Arc<dyn Fn(Item) -> Handled + Send + Sync>;

/// How handlers are run.
pub(super) struct Running {
    pub(super) unit: Unit,
    pub(super) workers: usize,
    pub(super) retry_delay: Duration,
    pub(super) stuck_after: Duration,
    /// That leases are extended by.
    pub(super) lease: Duration,
    /// Of broadcast; whole batches come, and not all in them is wanted.
    pub(super) filter: Arc<KeyFilter>,
}

pub(super) struct Dispatcher {
    subscriber: Subscriber,
    shared: Arc<Shared>,
    handler: Handler,
    running: Running,
    pool: Arc<Semaphore>,
    /// Handlers, and what tells the broker of their work.
    tasks: JoinSet<()>,
    waiting: VecDeque<Unpacking>,
    /// Every parcel that may hold a lease.
    leased: Vec<SharedParcel>,
    look_at_leases: Instant,
    last_start: Instant,
}

/// A parcel whose records have not all started yet.
struct Unpacking {
    parcel: SharedParcel,
    /// In one piece, for a handler of chunks.
    whole: Option<ReceivedChunk>,
    origin: Origin,
    payloads: std::vec::IntoIter<bytes::Bytes>,
    batches: Option<batch::Batches>,
    messages: Option<(Arc<MessageBatch>, usize)>,
    open: OpenRanges,
    filter: Arc<KeyFilter>,
    /// Messages that the filter kept out, and that nobody has counted yet.
    kept_out: u64,
}

/// The next thing in a parcel.
enum Next {
    Start(Item, Vec<OffsetRange>),
    Unreadable(Vec<OffsetRange>, String),
    End,
}

impl Dispatcher {
    pub(super) fn new(
        subscriber: Subscriber,
        shared: Arc<Shared>,
        handler: Handler,
        running: Running,
    ) -> Self {
        let pool = Arc::new(Semaphore::new(running.workers));
        let now = Instant::now();
        Self {
            subscriber,
            shared,
            handler,
            running,
            pool,
            tasks: JoinSet::new(),
            waiting: VecDeque::new(),
            leased: Vec::new(),
            look_at_leases: now,
            last_start: now,
        }
    }

    /// Until the subscription is left, or fails for good.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let failed = self.serve().await.err();
        self.abandon();
        let stuck = self.finish().await;
        if failed.is_none() {
            let patience = if stuck.is_some() { HAND_BACK_PATIENCE } else { Duration::MAX };
            let left = timeout(patience, self.subscriber.unsubscribe()).await;
            if let Ok(Err(error)) = left {
                tracing::debug!(%error, "the connection ended before the subscription did");
            }
        }
        shared.ended(failed.or(stuck));
    }

    /// Handlers at work finish, and keep their leases meanwhile. Those of which none moves for
    /// long are cancelled.
    async fn finish(&mut self) -> Option<SubscribeError> {
        let mut stop = self.shared.stop();
        let (mut before, mut moved) = (self.shared.stats(), Instant::now());
        let waited = loop {
            self.keep_leases();
            let (now, stats) = (Instant::now(), self.shared.stats());
            if stats != before {
                (before, moved) = (stats, now);
            }
            let patience = match *stop.borrow_and_update() {
                Stop::No => self.running.stuck_after,
                Stop::Leave { patience } => patience,
            };
            let quiet = now.saturating_duration_since(moved);
            let wake = self.look_at_leases.min(now + patience.saturating_sub(quiet).min(FAR));
            tokio::select! {
                biased;
                joined = self.tasks.join_next() => drop(joined?),
                () = std::future::ready(()), if quiet >= patience => break quiet,
                _ = stop.changed() => {}
                () = sleep_until(wake) => {}
            }
        };
        let records = self.cancel().await;
        tracing::warn!(topic = &**self.shared.topic(), records, ?waited, "handlers are cancelled");
        Some(SubscribeError::Stuck { waited, records })
    }

    /// Ends all handlers where they wait, and settles what others of their chunks did. Gives the
    /// number of records that were with them.
    async fn cancel(&mut self) -> u64 {
        let mut tasks = std::mem::take(&mut self.tasks);
        // A handler that blocks its thread cannot be ended, and is not waited for.
        let ended = timeout(HAND_BACK_PATIENCE, tasks.shutdown()).await;
        tracing::debug!(all = ended.is_ok(), "handlers have ended");
        let records = self.shared.stats().depth;
        self.shared.abandoned(records);
        for parcel in std::mem::take(&mut self.leased) {
            self.settle(parcel);
        }
        let settled = async { while self.tasks.join_next().await.is_some() {} };
        let settled = timeout(HAND_BACK_PATIENCE, settled).await;
        tracing::debug!(all = settled.is_ok(), "chunks are settled");
        records
    }

    async fn serve(&mut self) -> Result<(), SubscribeError> {
        let mut stop = self.shared.stop();
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.keep_leases();
            self.shared.set_idle(self.waiting.is_empty() && self.tasks.is_empty());
            let take = self.waiting.len() < self.waiting_max();
            let start = !self.waiting.is_empty();
            let pool = Arc::clone(&self.pool);
            tokio::select! {
                // Once it is left, nothing starts although it could.
                biased;
                _ = stop.wait_for(|stop| *stop != Stop::No) => return Ok(()),
                permit = pool.acquire_owned(), if start => {
                    self.start(permit.expect("the pool is never closed"));
                }
                delivery = self.subscriber.next(), if take => self.arrived(delivery?),
                Some(_) = self.tasks.join_next() => {}
                () = sleep_until(self.look_at_leases) => {}
            }
        }
    }

    /// A chunk that waits here keeps its lease, one that waits further back would lose it. What
    /// broadcast brings has no lease, and waits where it costs least.
    fn waiting_max(&self) -> usize {
        match self.subscriber.mode() {
            crate::DeliveryMode::Queue => PARCELS_WAITING_MAX,
            crate::DeliveryMode::Broadcast => 1,
        }
    }

    fn arrived(&mut self, delivery: Delivery) {
        let topic = self.shared.topic();
        let mut damaged = Vec::new();
        let (partition, first, last, attempt, payloads, open, source) = match delivery {
            Delivery::Missed { partition, first, last, reason } => {
                let records = last.0 - first.0 + 1;
                tracing::warn!(topic = &**topic, partition, records, ?reason, "records are missed");
                self.shared.missed(partition, records, last);
                return;
            }
            Delivery::Skipped { partition, last, .. } => {
                self.shared.skipped(partition, last);
                return;
            }
            Delivery::Batches(batches) => {
                let payloads = vec![batches.payload.clone()];
                let (first, last) = (batches.first, batches.last);
                let open = OpenRanges::new(first.0, last.0, &[]);
                let partition = batches.partition;
                (partition, first, last, 1, payloads, open, Source::Batches { _batches: batches })
            }
            Delivery::Chunk(mut chunk) => {
                let payloads = std::mem::take(&mut chunk.payloads);
                let mut open = OpenRanges::none();
                chunk.open_ranges().iter().for_each(|range| open.insert(*range));
                damaged = chunk.damaged.iter().flat_map(|range| open.within(*range)).collect();
                damaged.iter().for_each(|range| open.remove(*range));
                let (partition, attempt) = (chunk.partition, chunk.attempt);
                let (first, last) = (chunk.first, chunk.last);
                (partition, first, last, attempt, payloads, open, Source::Chunk(chunk))
            }
        };
        self.shared.arrived(partition, open.records(), attempt, last);
        let parcel = Arc::new(Parcel::new(attempt, source, self.running.lease));
        if !damaged.is_empty() {
            let records = records(&damaged);
            tracing::warn!(topic = &**topic, partition, records, "records are damaged");
            self.shared.missed(partition, records, last);
            parcel.passed(&damaged);
        }
        if parcel.lease.is_some() {
            self.leased.push(Arc::clone(&parcel));
            self.look_at_leases = Instant::now();
        }
        let origin = Origin { topic: Arc::clone(topic), partition, attempt };
        let (whole, payloads) = match self.running.unit {
            Unit::Message => (None, payloads),
            Unit::Chunk => {
                let topic = Arc::clone(topic);
                let open = open.ranges().to_vec();
                let chunk =
                    ReceivedChunk { topic, partition, first, last, attempt, payloads, open };
                (Some(chunk).filter(|chunk| chunk.open_records() > 0), Vec::new())
            }
        };
        let (batches, messages) = (None, None);
        let payloads = payloads.into_iter();
        self.waiting.push_back(Unpacking {
            parcel,
            whole,
            origin,
            payloads,
            batches,
            messages,
            open,
            filter: Arc::clone(&self.running.filter),
            kept_out: 0,
        });
    }

    /// Starts handlers, one for each permit that there is.
    fn start(&mut self, permit: OwnedSemaphorePermit) {
        let mut permit = Some(permit);
        for _ in 0..STARTS_PER_TURN_MAX {
            let Some(front) = self.waiting.front_mut() else { return };
            let free = || Arc::clone(&self.pool).try_acquire_owned().ok();
            let Some(worker) = permit.take().or_else(free) else { return };
            let next = front.next();
            self.shared.abandoned(std::mem::take(&mut front.kept_out));
            match next {
                Next::Start(item, ranges) => {
                    let parcel = Arc::clone(&front.parcel);
                    parcel.started();
                    self.last_start = Instant::now();
                    self.spawn(item, ranges, parcel, worker);
                }
                Next::Unreadable(ranges, reason) => {
                    permit = Some(worker);
                    tracing::warn!(
                        topic = &**self.shared.topic(),
                        reason,
                        "records are unreadable"
                    );
                    self.shared.failed(records(&ranges), false);
                    front.parcel.unreadable(&ranges, reason);
                }
                Next::End => {
                    permit = Some(worker);
                    let ended = self.waiting.pop_front().expect("it is the front");
                    if ended.parcel.all_started() {
                        self.settle(ended.parcel);
                    }
                }
            }
        }
    }

    fn spawn(
        &mut self,
        item: Item,
        ranges: Vec<OffsetRange>,
        parcel: SharedParcel,
        worker: OwnedSemaphorePermit,
    ) {
        let (handler, shared) = (Arc::clone(&self.handler), Arc::clone(&self.shared));
        let retry_delay = self.running.retry_delay;
        self.tasks.spawn(async move {
            let ended = guarded(|| handler(item)).await;
            let is_last = finished(&parcel, &shared, &ranges, ended);
            drop(worker);
            if is_last {
                shared.settled(parcel.settle(retry_delay).await);
            }
        });
    }

    fn settle(&mut self, parcel: SharedParcel) {
        let (shared, retry_delay) = (Arc::clone(&self.shared), self.running.retry_delay);
        self.tasks.spawn(async move { shared.settled(parcel.settle(retry_delay).await) });
    }

    /// Asks for more time for what is held, and notes when to look again.
    fn keep_leases(&mut self) {
        let now = Instant::now();
        if now < self.look_at_leases {
            return;
        }
        let stuck_after = self.running.stuck_after;
        let mut next = now + self.running.lease / 4;
        self.leased.retain(|parcel| Arc::strong_count(parcel) > 1);
        let idle = now.saturating_duration_since(self.last_start);
        // Nothing has started for so long although something waits: all workers are stuck.
        if self.waiting.is_empty() || idle < stuck_after {
            for parcel in &self.leased {
                let Some((ask, again)) = parcel.keep(now, stuck_after) else { continue };
                next = next.min(again);
                if let Some((extension, _)) = parcel.lease.clone().filter(|_| ask) {
                    // Should it be refused, settling will say so.
                    self.tasks.spawn(async move { drop(extension.send().await) });
                }
            }
        }
        self.look_at_leases = next.max(now + MIN_LOOK);
    }

    /// Nothing more starts. What was dealt with is settled; the rest is left open.
    fn abandon(&mut self) {
        for unpacking in std::mem::take(&mut self.waiting) {
            self.shared.abandoned(unpacking.open.records());
            if unpacking.parcel.all_started() {
                self.settle(unpacking.parcel);
            }
        }
    }
}

/// Leases are not looked at more often than this.
const MIN_LOOK: Duration = Duration::from_millis(5);

const FAR: Duration = Duration::from_secs(86_400);

/// Counts how a call ended; whether it was its parcel's last.
fn finished(parcel: &Parcel, shared: &Shared, ranges: &[OffsetRange], ended: Ended) -> bool {
    let all = records(ranges);
    let (error, panicked) = match ended {
        Ended::Done => {
            shared.delivered(all);
            return parcel.finished(ranges, None);
        }
        Ended::Failed(error) => (error, false),
        Ended::Panicked(text) => (HandlerError::retry(format!("handler panicked: {text}")), true),
    };
    tracing::debug!(topic = &**shared.topic(), %error, attempt = parcel.attempt, "handler failed");
    let HandlerError { reason, then, ranges: part } = error;
    let mut open = OpenRanges::none();
    ranges.iter().for_each(|range| open.insert(*range));
    let failed: Vec<_> = match part {
        Some(part) => part.iter().flat_map(|range| open.within(*range)).collect(),
        None => ranges.to_vec(),
    };
    let count = records(&failed).min(all);
    shared.failed(count, panicked);
    shared.delivered(all - count);
    parcel.finished(ranges, Some((&failed, then, reason)))
}

impl Unpacking {
    fn next(&mut self) -> Next {
        if let Some(whole) = self.whole.take() {
            let ranges = whole.open.clone();
            self.open = OpenRanges::none();
            return Next::Start(Item::Chunk(whole), ranges);
        }
        loop {
            if let Some((batch, index)) = &mut self.messages {
                while *index < batch.len() {
                    let offset = batch.offset(*index).0;
                    *index += 1;
                    if !self.open.contains(offset) {
                        continue;
                    }
                    let range = OffsetRange { first: offset, last: offset };
                    self.open.remove(range);
                    let message = batch.message(*index - 1);
                    if self.filter.wants(KeyKind::Message, message.key()) {
                        return Next::Start(Item::Message(message), vec![range]);
                    }
                    self.kept_out += 1;
                }
                self.messages = None;
            }
            let Some(item) = self.batches.as_mut().and_then(Iterator::next) else {
                match self.payloads.next() {
                    Some(payload) => self.batches = Some(batch::iter(&payload)),
                    None => return Next::End,
                }
                continue;
            };
            let (header, bytes) = item.expect("the session has checked every batch");
            let (first, last) = (header.base_offset.0, header.last_offset().0);
            match MessageBatch::open(self.origin.clone(), header, &bytes) {
                Ok(batch) => self.messages = Some((batch, 0)),
                Err(error) => {
                    let open = self.open.within(OffsetRange { first, last });
                    if !open.is_empty() {
                        open.iter().for_each(|range| self.open.remove(*range));
                        return Next::Unreadable(open, error.to_string());
                    }
                }
            }
        }
    }
}
