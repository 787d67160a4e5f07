//! What a shard publishes of itself, and how the admin thread comes by it.
//!
//! The admin thread says that it wants one and rings the shard's bell; the shard builds a snapshot
//! at the end of its turn and puts it into a ring of its own. Neither waits for the other: a shard
//! with a full ring drops the snapshot, and an admin request that gets none in time uses the last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lanecast_core::ShardStats;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::limits::{SNAPSHOT_FRESH, SNAPSHOT_SLOTS, SNAPSHOT_WAIT};
use crate::pulse::Post;
use crate::sockets::SocketCounters;

/// One shard and its shell at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) taken: Instant,
    pub(crate) stats: ShardStats,
    pub(crate) sockets: SocketCounters,
    pub(crate) outbound_bytes: u64,
    pub(crate) commit_bytes: u64,
    pub(crate) disk_operations: usize,
    pub(crate) ring_backlog: usize,
    /// Turns of the loop.
    pub(crate) turns: u64,
}

pub(crate) type SnapshotProducer = Producer<Box<Snapshot>>;

/// The admin thread's end for all shards.
pub(crate) struct Snapshots {
    shards: Vec<ShardSnapshots>,
    collected: Option<Instant>,
}

struct ShardSnapshots {
    post: Arc<Post>,
    consumer: Consumer<Box<Snapshot>>,
    last: Option<Box<Snapshot>>,
}

impl Snapshots {
    pub(crate) fn new(posts: &[Arc<Post>]) -> (Vec<SnapshotProducer>, Self) {
        let mut producers = Vec::with_capacity(posts.len());
        let mut shards = Vec::with_capacity(posts.len());
        for post in posts {
            let (producer, consumer) = RingBuffer::new(SNAPSHOT_SLOTS);
            producers.push(producer);
            shards.push(ShardSnapshots { post: Arc::clone(post), consumer, last: None });
        }
        (producers, Snapshots { shards, collected: None })
    }

    /// Asks every shard and waits a bounded time for their answers. Shards that do not answer
    /// keep their last snapshot; those that never did are missing.
    pub(crate) async fn collect(&mut self) {
        if self.collected.is_some_and(|at| at.elapsed() < SNAPSHOT_FRESH) {
            return;
        }
        for shard in &mut self.shards {
            // Old ones, which an earlier request gave up waiting for.
            while let Ok(snapshot) = shard.consumer.pop() {
                shard.last = Some(snapshot);
            }
            shard.post.snapshot_wanted.store(true, Ordering::Release);
            shard.post.bell.ring();
        }
        let deadline = Instant::now() + SNAPSHOT_WAIT;
        for shard in &mut self.shards {
            loop {
                if let Ok(snapshot) = shard.consumer.pop() {
                    shard.last = Some(snapshot);
                    break;
                }
                if Instant::now() >= deadline {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        self.collected = Some(Instant::now());
    }

    pub(crate) fn last(&self) -> impl Iterator<Item = &Snapshot> {
        self.shards.iter().filter_map(|shard| shard.last.as_deref())
    }
}
