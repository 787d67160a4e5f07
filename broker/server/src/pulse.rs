//! What the threads of one broker know of each other without asking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_utils::CachePadded;
use lanecast_core::Now;

use crate::ring::Bell;

/// The clocks of a broker. All shards count from the same start, so that their times compare.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { start: Instant::now() }
    }

    pub(crate) fn now(self) -> Now {
        // A clock before 1970 is wrong anyway; deadlines do not use it.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono_us: self.mono_us(),
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
        }
    }

    pub(crate) fn mono_us(self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn uptime(self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn instant(self, mono_us: u64) -> Instant {
        self.start + Duration::from_micros(mono_us)
    }
}

/// One shard, as other threads see it. The shard writes, the others read; but for the bell and the
/// wish for a snapshot, which are the others' way to be heard.
#[derive(Debug, Default)]
pub(crate) struct Post {
    pub(crate) bell: Arc<Bell>,
    pub(crate) snapshot_wanted: CachePadded<AtomicBool>,
    pulse: CachePadded<Pulse>,
}

#[derive(Debug)]
struct Pulse {
    /// Turns of the loop.
    beats: AtomicU64,
    /// When the last turn was.
    beat_us: AtomicU64,
    /// When the loop means to take the next turn by itself at the latest.
    due_us: AtomicU64,
    ready: AtomicBool,
    /// Partitions that are closed by a failure of the disk.
    offline: AtomicU32,
}

impl Default for Pulse {
    fn default() -> Self {
        Pulse {
            beats: AtomicU64::new(0),
            beat_us: AtomicU64::new(0),
            due_us: AtomicU64::new(u64::MAX),
            ready: AtomicBool::new(false),
            offline: AtomicU32::new(0),
        }
    }
}

impl Post {
    /// One turn of the loop. Only its own executor calls this.
    pub(crate) fn beat(&self, now_us: u64) {
        let beats = self.pulse.beats.load(Ordering::Relaxed);
        self.pulse.beats.store(beats + 1, Ordering::Relaxed);
        self.pulse.beat_us.store(now_us, Ordering::Relaxed);
    }

    pub(crate) fn set_due(&self, due_us: u64) {
        self.pulse.due_us.store(due_us, Ordering::Relaxed);
    }

    pub(crate) fn set_ready(&self) {
        self.pulse.ready.store(true, Ordering::Release);
    }

    pub(crate) fn set_offline(&self, partitions: u32) {
        self.pulse.offline.store(partitions, Ordering::Release);
    }

    /// Its partitions that are closed by a failure of the disk.
    pub(crate) fn offline(&self) -> u32 {
        self.pulse.offline.load(Ordering::Acquire)
    }

    pub(crate) fn beats(&self) -> u64 {
        self.pulse.beats.load(Ordering::Relaxed)
    }

    pub(crate) fn due_us(&self) -> u64 {
        self.pulse.due_us.load(Ordering::Relaxed)
    }

    /// Its partitions have been recovered.
    pub(crate) fn is_ready(&self) -> bool {
        self.pulse.ready.load(Ordering::Acquire)
    }

    /// How long ago the loop last turned.
    pub(crate) fn silence(&self, now_us: u64) -> Duration {
        Duration::from_micros(now_us.saturating_sub(self.pulse.beat_us.load(Ordering::Relaxed)))
    }

    /// Makes the loop take a turn, whether or not it seems to sleep. Callers bound how often.
    pub(crate) fn poke(&self) {
        // The flag comes down so that a loop that sleeps takes a turn. Whether it was up does not
        // matter: one that is stuck in glommio had it taken down by whoever rang in vain.
        let _was_asleep = self.bell.doorbell().ring();
        self.bell.poke();
    }
}

/// Where the broker as a whole stands in its life.
#[derive(Debug)]
pub(crate) struct Lifecycle {
    posts: Vec<Arc<Post>>,
    draining: AtomicBool,
    /// When the drain's grace ends.
    deadline_us: AtomicU64,
    drained: AtomicUsize,
    /// The loops end at once.
    stopping: AtomicBool,
}

impl Lifecycle {
    pub(crate) fn new(posts: Vec<Arc<Post>>) -> Self {
        Lifecycle {
            posts,
            draining: AtomicBool::new(false),
            deadline_us: AtomicU64::new(u64::MAX),
            drained: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        }
    }

    pub(crate) fn posts(&self) -> &[Arc<Post>] {
        &self.posts
    }

    /// True the first time.
    pub(crate) fn drain(&self, deadline_us: u64) -> bool {
        if self.draining.load(Ordering::Acquire) {
            return false;
        }
        self.deadline_us.store(deadline_us, Ordering::Relaxed);
        let first = !self.draining.swap(true, Ordering::AcqRel);
        self.ring_all();
        first
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn deadline_us(&self) -> u64 {
        self.deadline_us.load(Ordering::Relaxed)
    }

    /// One more shard has nothing left.
    pub(crate) fn shard_drained(&self) {
        self.drained.fetch_add(1, Ordering::AcqRel);
        self.ring_all();
    }

    pub(crate) fn drained(&self) -> usize {
        self.drained.load(Ordering::Acquire)
    }

    pub(crate) fn all_drained(&self) -> bool {
        self.drained() >= self.posts.len()
    }

    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ring_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn ring_all(&self) {
        for post in &self.posts {
            post.bell.ring();
        }
    }
}
