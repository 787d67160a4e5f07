//! What pushing tasks and the connection's task share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use lanecast_wire::builder::{BodyBuilder, SealedBody};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Duration, Instant};

use super::ProducerStats;
use super::receipt::{Failure, Fate, Receipt};
use crate::config::ProducerConfig;
use crate::error::ProduceError;
use crate::latency::Latencies;
use crate::limits::{BATCHES_BUFFERED_MAX, PERMIT_BYTES_MIN};
use crate::stats::{Finishing, Publishing};
use crate::task::wall_ms;

/// A batch on its way to the task.
pub(super) struct Sealed {
    pub(super) partition: u32,
    pub(super) body: SealedBody,
    pub(super) created_ms: i64,
    pub(super) waiting: Waiting,
}

/// What waits for a batch's acknowledgement.
pub(super) struct Waiting {
    /// Goes back then.
    pub(super) _permit: OwnedSemaphorePermit,
    /// If somebody wants to know.
    pub(super) fate: Option<Fate>,
    /// When the batch's first record was pushed.
    pub(super) since: Instant,
}

/// What became of a record.
pub(super) enum Pushed {
    /// With a receipt, if one was wanted.
    Taken(Option<Receipt>),
    /// The open batch is full, and sealing it takes more permits than there are.
    Full { permits: u32 },
}

/// One open batch per partition, and the way of sealed ones.
pub(super) struct Batches<B> {
    lanes: Vec<Mutex<Lane<B>>>,
    /// Each stands for `permit_bytes` of sealed batches.
    permits: Arc<Semaphore>,
    permits_max: u32,
    permit_bytes: usize,
    /// Partition n belongs to route n % routes.
    routes: Vec<Route>,
    batch_bytes: usize,
    batch_records: u32,
    linger: Duration,
    lingered: Notify,
    failed: AtomicBool,
    /// Nothing more is taken; what was taken is still sent.
    closing: AtomicBool,
    failure: Arc<Failure>,
    /// Batches acknowledged per partition, which happens in order.
    acknowledged: Vec<AtomicU64>,
    progress: watch::Sender<()>,
    counters: Counters,
}

/// From pushing tasks to the task of one connection.
struct Route {
    /// Has room for as many batches as there are permits.
    queue: mpsc::Sender<Sealed>,
    /// The task knows of a linger deadline that is no later than any other of its partitions.
    armed: AtomicBool,
    arm: Notify,
}

/// Only the connections' tasks write these.
#[derive(Default)]
pub(super) struct Counters {
    /// From push to acknowledgement.
    pub(super) latency: Latencies,
    pub(super) acknowledged: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) retries: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) starts_over: AtomicU64,
    pub(super) doubtful: AtomicU64,
}

struct Lane<B> {
    builder: B,
    /// When the first record of the open batch came, and when that has waited long enough.
    created_ms: i64,
    deadline: Option<Instant>,
    since: Instant,
    fate: Option<Fate>,
    pushed: u64,
    sealed: u64,
}

fn permit_bytes(config: &ProducerConfig) -> usize {
    config.buffer_bytes.div_ceil(BATCHES_BUFFERED_MAX).max(PERMIT_BYTES_MIN)
}

impl<B: BodyBuilder> Batches<B> {
    pub(super) fn new(
        partitions: u32,
        queues: Vec<mpsc::Sender<Sealed>>,
        config: &ProducerConfig,
    ) -> Self {
        let lane = |_| {
            Mutex::new(Lane {
                builder: B::empty(),
                created_ms: 0,
                deadline: None,
                since: Instant::now(),
                fate: None,
                pushed: 0,
                sealed: 0,
            })
        };
        let permits_max = Self::batches_max(config);
        let route = |queue| Route { queue, armed: AtomicBool::new(false), arm: Notify::new() };
        Self {
            lanes: (0..partitions).map(lane).collect(),
            permits: Arc::new(Semaphore::new(permits_max)),
            permits_max: permits_max as u32,
            permit_bytes: permit_bytes(config),
            routes: queues.into_iter().map(route).collect(),
            batch_bytes: config.batch_bytes as usize,
            batch_records: config.batch_records,
            linger: config.linger,
            lingered: Notify::new(),
            failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            failure: Arc::default(),
            acknowledged: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            progress: watch::Sender::new(()),
            counters: Counters::default(),
        }
    }

    /// How many batches there can be at a time: as many as permits.
    pub(super) fn batches_max(config: &ProducerConfig) -> usize {
        (config.buffer_bytes / permit_bytes(config)).max(1)
    }

    pub(super) fn partitions(&self) -> u32 {
        self.lanes.len() as u32
    }

    /// Takes a record, if there is room. A batch that is full is sealed with `permit`, or with
    /// one that is free.
    pub(super) fn push(
        &self,
        partition: u32,
        record: &B::Record<'_>,
        permit: &mut Option<OwnedSemaphorePermit>,
        with_receipt: bool,
    ) -> Result<Pushed, ProduceError> {
        let mut lane = self.lane(partition);
        // Under the lock: what is pushed before the end learns of it, see `fail`.
        if self.failed.load(Ordering::Relaxed) {
            return Err(self.failure());
        }
        if self.closing.load(Ordering::Relaxed) {
            return Err(ProduceError::Closed);
        }
        if self.is_full(&lane) && !self.seal(&mut lane, partition, permit) {
            return Ok(Pushed::Full { permits: self.permits_for(&lane) });
        }
        lane.builder.push(record)?;
        lane.pushed += 1;
        let receipt = with_receipt.then(|| {
            let index = lane.builder.record_count() - 1;
            let fresh = || Fate::new(partition, Arc::clone(&self.failure));
            lane.fate.get_or_insert_with(fresh).receipt(index)
        });
        if lane.deadline.is_none() {
            lane.created_ms = wall_ms();
            lane.since = Instant::now();
            lane.deadline = Some(lane.since + self.linger);
            let route = self.route(partition);
            if !route.armed.swap(true, Ordering::AcqRel) {
                route.arm.notify_one();
            }
        }
        if self.is_full(&lane) {
            // Without a permit it stays open, and the next push waits.
            self.seal(&mut lane, partition, permit);
        }
        Ok(Pushed::Taken(receipt))
    }

    /// Waits until a batch of that many permits may be sealed.
    pub(super) async fn room(&self, permits: u32) -> Result<OwnedSemaphorePermit, ProduceError> {
        Arc::clone(&self.permits).acquire_many_owned(permits).await.map_err(|_| self.failure())
    }

    pub(super) async fn lingered(&self) {
        self.lingered.notified().await;
    }

    pub(super) async fn flush(&self) -> Result<(), ProduceError> {
        let mut progress = self.progress.subscribe();
        let mut sealed = Vec::with_capacity(self.lanes.len());
        for partition in 0..self.partitions() {
            let mut permit = None;
            loop {
                let permits = {
                    let mut lane = self.lane(partition);
                    if lane.deadline.is_none() || self.seal(&mut lane, partition, &mut permit) {
                        sealed.push(lane.sealed);
                        break;
                    }
                    self.permits_for(&lane)
                };
                permit = Some(self.room(permits).await?);
            }
        }
        loop {
            let missing = |(sealed, acknowledged): (&u64, &AtomicU64)| {
                acknowledged.load(Ordering::Acquire) < *sealed
            };
            if !sealed.iter().zip(&self.acknowledged).any(missing) {
                return Ok(());
            }
            if self.failed.load(Ordering::Acquire) {
                return Err(self.failure());
            }
            progress.changed().await.map_err(|_| ProduceError::Closed)?;
        }
    }

    pub(super) fn stats(&self) -> ProducerStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ProducerStats {
            pushed: (0..self.partitions()).map(|partition| self.lane(partition).pushed).sum(),
            acknowledged: read(&self.counters.acknowledged),
            dropped: read(&self.counters.dropped),
            duplicates: read(&self.counters.duplicates),
            batches: read(&self.counters.batches),
            bytes: read(&self.counters.bytes),
            retries: read(&self.counters.retries),
            reconnects: read(&self.counters.reconnects),
            starts_over: read(&self.counters.starts_over),
            doubtful: read(&self.counters.doubtful),
            latency: self.counters.latency.summary(),
        }
    }

    // From here on: what the tasks of the connections do.

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The producer has come to its end.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Completes when there is a linger deadline to ask [`Self::linger`] about.
    pub(super) async fn armed(&self, route: usize) {
        self.routes[route].arm.notified().await;
    }

    /// Seals what of a route has waited long enough, as far as permits go. Gives the next deadline,
    /// and whether one was left over for want of a permit.
    pub(super) fn linger(&self, route: usize, now: Instant) -> (Option<Instant>, bool) {
        let armed = &self.routes[route].armed;
        // A batch that is opened from here on arms again, so none is overlooked.
        armed.store(false, Ordering::Release);
        let (mut next, mut left_over, mut sealed) = (None::<Instant>, false, false);
        for partition in (route as u32..self.partitions()).step_by(self.routes.len()) {
            let mut lane = self.lane(partition);
            let Some(deadline) = lane.deadline else { continue };
            if deadline > now {
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            } else if self.seal(&mut lane, partition, &mut None) {
                sealed = true;
            } else {
                left_over = true;
            }
        }
        if sealed {
            self.lingered.notify_one();
        }
        if next.is_some() {
            // Batches opened from here on have later deadlines, and need not wake the task.
            armed.store(true, Ordering::Release);
        }
        (next, left_over)
    }

    /// The partition's oldest batch is acknowledged.
    pub(super) fn acknowledge(&self, partition: u32) {
        self.acknowledged[partition as usize].fetch_add(1, Ordering::Release);
    }

    fn is_full(&self, lane: &Lane<B>) -> bool {
        lane.builder.record_count() >= self.batch_records
            || lane.builder.body_bytes() >= self.batch_bytes
    }

    /// Permits that the open batch takes; a batch larger than the whole buffer takes all.
    fn permits_for(&self, lane: &Lane<B>) -> u32 {
        let permits = lane.builder.body_bytes().div_ceil(self.permit_bytes);
        u32::try_from(permits)
            .map_or(self.permits_max, |permits| permits.clamp(1, self.permits_max))
    }

    /// Seals the open batch and queues it, if there are permits for it. The lane's lock keeps the
    /// queue in the order of the partition.
    fn seal(
        &self,
        lane: &mut Lane<B>,
        partition: u32,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> bool {
        let needed = self.permits_for(lane);
        // A permit that was waited for may be for a smaller batch that others have sealed since.
        let waited = permit.take().filter(|permit| permit.num_permits() >= needed as usize);
        let free = || Arc::clone(&self.permits).try_acquire_many_owned(needed).ok();
        let Some(permit) = waited.or_else(free) else { return false };
        let body = lane.builder.seal();
        lane.deadline = None;
        lane.sealed += 1;
        let waiting = Waiting { _permit: permit, fate: lane.fate.take(), since: lane.since };
        let sealed = Sealed { partition, body, created_ms: lane.created_ms, waiting };
        // Closed: the task has ended, and with it the producer. Full cannot be: permits are fewer.
        let _ = self.route(partition).queue.try_send(sealed);
        true
    }

    fn route(&self, partition: u32) -> &Route {
        &self.routes[partition as usize % self.routes.len()]
    }

    fn lane(&self, partition: u32) -> MutexGuard<'_, Lane<B>> {
        self.lanes[partition as usize].lock().expect("no builder panics under the lock")
    }
}

impl<B: BodyBuilder + Send + 'static> Publishing for Batches<B> {
    fn stats(&self) -> ProducerStats {
        self.stats()
    }

    fn latencies(&self) -> &Latencies {
        &self.counters.latency
    }

    fn finish(self: Arc<Self>) -> Finishing {
        Box::pin(async move {
            // The flush takes every lane's lock after this: nothing is pushed behind it.
            self.closing.store(true, Ordering::Relaxed);
            let flushed = self.flush().await;
            self.fail(ProduceError::Closed);
            flushed
        })
    }
}

impl<B> Batches<B> {
    pub(super) fn tell_progress(&self) {
        self.progress.send_replace(());
    }

    /// The producer has come to its end: everybody who waits learns why.
    pub(super) fn fail(&self, error: ProduceError) {
        // The first reason stands; that the task ended is what comes second.
        let _ = self.failure.set(error);
        self.failed.store(true, Ordering::Release);
        for lane in &self.lanes {
            let open = lane.lock().map(|mut lane| lane.fate.take());
            drop(open.expect("no builder panics under the lock"));
        }
        self.permits.close();
        for route in &self.routes {
            route.arm.notify_one();
        }
        self.tell_progress();
        self.lingered.notify_one();
    }

    fn failure(&self) -> ProduceError {
        self.failure.get().cloned().unwrap_or(ProduceError::Closed)
    }
}
