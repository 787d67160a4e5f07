//! The memory of a broker: its parts, and how much of each is in use.
//!
//! ```text
//!   --memory ─┬─ 1/4 cache      newest blocks, for subscribers at the tail
//!             ├─ 1/4 reads      buffers of catch-up reads, until the last slice of each is sent
//!             ├─ 1/4 outbound   answers, and blocks past the cache that slow peers still hold
//!             ├─ 1/8 undurable  appended and not yet on disk; in memory twice while written
//!             └─ 1/8 received   frames that have begun, batches on their way to another shard
//! ```
//!
//! One budget is shared by all shards of a broker: a block of one shard's log may be held by another
//! shard's connection. What is counted is memory, not lengths: a buffer counts from the moment it
//! is made until the last slice of it is dropped, once, however many connections hold it.
//!
//! Not counted, and small: what a connection, a partition and a group cost by themselves, and
//! the kernel's socket buffers. Records of `memory` topics have a limit of their own, per partition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;

use crate::limits::{
    MEMORY_BYTES_PER_SHARD_MIN, READ_BYTES, READ_COPIES, READ_SHARE_BYTES_MIN, UNDURABLE_COPIES,
};

/// Bytes in use. Cheap to clone; all clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

impl Gauge {
    pub(crate) fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What counted as `before` counts as `after` from now on.
    pub(crate) fn change(&self, before: u64, after: u64) {
        match after.checked_sub(before) {
            Some(0) => {}
            Some(more) => self.add(more),
            None => self.give_back(before - after),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The same bytes; they count until the last slice of them is gone.
    pub(crate) fn hold(&self, bytes: Bytes) -> Bytes {
        if bytes.is_empty() {
            return bytes;
        }
        self.add(bytes.len() as u64);
        Bytes::from_owner(Held { bytes, gauge: self.clone() })
    }
}

struct Held {
    bytes: Bytes,
    gauge: Gauge,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.give_back(self.bytes.len() as u64);
    }
}

/// The parts of a budget, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    pub cache: u64,
    /// Of each shard alone.
    pub reads_per_shard: u64,
    pub outbound: u64,
    /// Of appended bytes; their copies on the way to the disk are reckoned with already.
    pub undurable: u64,
    pub received: u64,
}

/// What is in use of a budget, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetUse {
    pub memory: u64,
    pub cached: u64,
    /// Of all shards.
    pub reads: u64,
    pub outbound: u64,
    pub undurable: u64,
    pub received: u64,
}

/// See the module's page.
#[derive(Debug)]
pub struct Budget {
    memory_bytes: u64,
    shares: Shares,
    /// Payloads of sealed blocks and answers that wait for their peers.
    pub(crate) alive: Gauge,
    /// Of `alive`, what caches hold.
    pub(crate) cached: Gauge,
    pub(crate) reads: Gauge,
    pub(crate) undurable: Gauge,
    pub(crate) received: Gauge,
    /// Of `received`, frames that have begun; who holds the most of them is to blame for it.
    pub(crate) begun: Gauge,
    /// What waits for peers that take nothing, as each shard saw it last. More than is held: several
    /// may wait for the same bytes.
    pub(crate) stalled: Gauge,
    /// Shards whose reads wait for memory.
    reads_short: AtomicU32,
    subscriptions: AtomicU32,
}

impl Budget {
    /// The budget of a broker with so many shards; not less than
    /// [`MEMORY_BYTES_PER_SHARD_MIN`] for each.
    #[must_use]
    pub fn new(memory_bytes: u64, shards: u16) -> Self {
        let shards = u64::from(shards.max(1));
        let memory_bytes = memory_bytes.max(MEMORY_BYTES_PER_SHARD_MIN * shards);
        let shares = Shares {
            cache: memory_bytes / 4,
            reads_per_shard: memory_bytes / 4 / shards,
            outbound: memory_bytes / 4,
            undurable: memory_bytes / 8 / UNDURABLE_COPIES,
            received: memory_bytes / 8,
        };
        debug_assert!(shares.reads_per_shard >= READ_SHARE_BYTES_MIN);
        debug_assert!(READ_SHARE_BYTES_MIN >= READ_COPIES * u64::from(READ_BYTES));
        Budget { memory_bytes, ..Budget::of(shares) }
    }

    /// One whose parts are given, however small: whoever simulates a broker wants to see it short.
    #[must_use]
    pub fn of(shares: Shares) -> Self {
        Budget {
            memory_bytes: 0,
            shares,
            alive: Gauge::default(),
            cached: Gauge::default(),
            reads: Gauge::default(),
            undurable: Gauge::default(),
            received: Gauge::default(),
            begun: Gauge::default(),
            stalled: Gauge::default(),
            reads_short: AtomicU32::new(0),
            subscriptions: AtomicU32::new(0),
        }
    }

    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    #[must_use]
    pub fn shares(&self) -> Shares {
        self.shares
    }

    #[must_use]
    pub fn in_use(&self) -> BudgetUse {
        BudgetUse {
            memory: self.memory_bytes,
            cached: self.cached.bytes(),
            reads: self.reads.bytes(),
            outbound: self.outbound_bytes(),
            undurable: self.undurable.bytes(),
            received: self.received.bytes(),
        }
    }

    /// Memory that only peers hold, who have not read it yet. What is being written to disk counts
    /// neither here nor in the cache.
    pub(crate) fn outbound_bytes(&self) -> u64 {
        self.alive.bytes().saturating_sub(self.cached.bytes() + self.undurable.bytes())
    }

    pub(crate) fn is_outbound_over(&self) -> bool {
        self.outbound_bytes() > self.shares.outbound
    }

    /// Memory is short because peers do not take what they asked for.
    pub(crate) fn is_pressed(&self) -> bool {
        self.outbound_bytes() > self.shares.outbound / 2
            || self.reads_short.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_received_over(&self) -> bool {
        self.received.bytes() > self.shares.received
    }

    /// It may be so soon.
    pub(crate) fn is_received_pressed(&self) -> bool {
        self.received.bytes() > self.shares.received / 2
    }

    /// One more shard's reads wait, or wait no longer.
    pub(crate) fn reads_are_short(&self, short: bool) {
        if short {
            self.reads_short.fetch_add(1, Ordering::Relaxed);
        } else {
            self.reads_short.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the place of one subscription of the whole broker, if one is left.
    pub(crate) fn take_subscription(&self, max: u32) -> bool {
        let one_more = |count: u32| (count < max).then_some(count + 1);
        self.subscriptions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    pub(crate) fn give_back_subscriptions(&self, count: u32) {
        self.subscriptions.fetch_sub(count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_bytes_count_once_until_the_last_slice_is_gone() {
        let gauge = Gauge::default();
        let bytes = gauge.hold(Bytes::from(vec![7; 1000]));
        let slices: Vec<Bytes> = (0..10).map(|at| bytes.slice(at..at + 1)).collect();
        assert_eq!(gauge.bytes(), 1000);
        drop(bytes);
        assert_eq!(gauge.bytes(), 1000, "slices hold all of it");
        assert_eq!(slices[3][..], [7]);
        drop(slices);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn the_parts_make_up_the_whole() {
        for shards in [1, 2, 7, 128] {
            let budget = Budget::new(1 << 30, shards);
            let Shares { cache, reads_per_shard, outbound, undurable, received } = budget.shares();
            let reads = reads_per_shard * u64::from(shards);
            let whole = cache + reads + outbound + undurable * UNDURABLE_COPIES + received;
            assert!(whole <= budget.memory_bytes(), "{whole} of {}", budget.memory_bytes());
            assert!(whole > budget.memory_bytes() / 100 * 99);
        }
    }

    #[test]
    fn subscriptions_of_all_shards_count_together() {
        let budget = Budget::new(0, 1);
        assert!((0..3).all(|_| budget.take_subscription(3)));
        assert!(!budget.take_subscription(3));
        budget.give_back_subscriptions(2);
        assert!(budget.take_subscription(3));
    }
}
