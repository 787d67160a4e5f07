//! What a client and everything that was opened from it have done so far.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::ProduceError;
use crate::handler::{Shared, SubscriptionStats};
use crate::latency::{Latencies, Latency};
use crate::producer::ProducerStats;

/// Sums over all producers and handler subscriptions of a client, closed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientStats {
    /// Records taken by producers.
    pub published: u64,
    /// Of those, records that are in their topics as their producers know ...
    pub acknowledged: u64,
    /// ... and records that full topics dropped.
    pub dropped: u64,
    /// Published, and neither acknowledged nor dropped yet.
    pub unacknowledged: u64,
    /// Records that handlers have dealt with.
    pub delivered: u64,
    /// Records that handlers gave an error for, panics included.
    pub handler_errors: u64,
    /// Of those, records that handlers panicked on.
    pub panics: u64,
    /// Records that came to handlers again.
    pub redelivered: u64,
    /// Records that subscriptions will never see, as the broker reported.
    pub missed: u64,
    /// Handler subscriptions that are open.
    pub active_subscribers: u64,
    /// Records that have arrived and wait for a handler, or are with one.
    pub queue_depth: u64,
    /// From push to acknowledgement.
    pub ack_latency: Latency,
}

/// A producer, as the registry sees it.
pub(crate) trait Publishing: Send + Sync {
    fn stats(&self) -> ProducerStats;

    fn latencies(&self) -> &Latencies;

    /// Everything pushed is acknowledged, and nothing more is taken.
    fn finish(self: Arc<Self>) -> Finishing;
}

pub(crate) type Finishing = Pin<Box<dyn Future<Output = Result<(), ProduceError>> + Send>>;

/// Everything that was opened from one client.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Opened>);

#[derive(Default)]
struct Opened {
    next: u64,
    producers: BTreeMap<u64, Arc<dyn Publishing>>,
    subscriptions: BTreeMap<u64, Arc<Shared>>,
    /// What those had counted that are gone.
    past: Sums,
}

#[derive(Default)]
struct Sums {
    stats: ClientStats,
    latencies: Latencies,
}

/// Keeps a place in the registry; what it counted stays when it is dropped.
pub(crate) struct Registration {
    registry: Arc<Registry>,
    id: u64,
}

impl Registry {
    pub(crate) fn add_producer(self: &Arc<Self>, producer: Arc<dyn Publishing>) -> Registration {
        self.add(|opened, id| {
            opened.producers.insert(id, producer);
        })
    }

    pub(crate) fn add_subscription(self: &Arc<Self>, shared: Arc<Shared>) -> Registration {
        self.add(|opened, id| {
            opened.subscriptions.insert(id, shared);
        })
    }

    pub(crate) fn producers(&self) -> Vec<Arc<dyn Publishing>> {
        self.lock().producers.values().cloned().collect()
    }

    pub(crate) fn subscriptions(&self) -> Vec<Arc<Shared>> {
        self.lock().subscriptions.values().cloned().collect()
    }

    pub(crate) fn stats(&self) -> ClientStats {
        let opened = self.lock();
        let mut sums = Sums { stats: opened.past.stats, latencies: Latencies::default() };
        sums.latencies.add(&opened.past.latencies);
        for producer in opened.producers.values() {
            sums.add_producer(&**producer);
        }
        for subscription in opened.subscriptions.values() {
            sums.add_subscription(&subscription.stats());
        }
        sums.stats.ack_latency = sums.latencies.summary();
        sums.stats
    }

    fn add(self: &Arc<Self>, put: impl FnOnce(&mut Opened, u64)) -> Registration {
        let mut opened = self.lock();
        let id = opened.next;
        opened.next += 1;
        put(&mut opened, id);
        Registration { registry: Arc::clone(self), id }
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut opened = self.registry.lock();
        let Opened { producers, subscriptions, past, .. } = &mut *opened;
        if let Some(producer) = producers.remove(&self.id) {
            past.add_producer(&*producer);
            // What is unacknowledged now, nobody will ever know of.
            past.stats.unacknowledged = 0;
        }
        if let Some(subscription) = subscriptions.remove(&self.id) {
            past.add_subscription(&subscription.stats());
            (past.stats.active_subscribers, past.stats.queue_depth) = (0, 0);
        }
    }
}

impl Sums {
    fn add_producer(&mut self, producer: &dyn Publishing) {
        let stats = producer.stats();
        self.stats.published += stats.pushed;
        self.stats.acknowledged += stats.acknowledged;
        self.stats.dropped += stats.dropped;
        self.stats.unacknowledged +=
            stats.pushed.saturating_sub(stats.acknowledged + stats.dropped);
        self.latencies.add(producer.latencies());
    }

    fn add_subscription(&mut self, stats: &SubscriptionStats) {
        self.stats.delivered += stats.delivered;
        self.stats.handler_errors += stats.errors;
        self.stats.panics += stats.panics;
        self.stats.redelivered += stats.redelivered;
        self.stats.missed += stats.missed;
        self.stats.active_subscribers += u64::from(stats.is_active);
        self.stats.queue_depth += stats.depth;
    }
}
