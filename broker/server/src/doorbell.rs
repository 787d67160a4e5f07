//! Waking a shard that may be asleep, without a lock and mostly without a system call.
//!
//! ```text
//!   sender                          receiver
//!   publish into the ring           raise: sleeping = true
//!   fence                           fence
//!   if sleeping.swap(false) { wake }    look into the rings once more; only then sleep
//! ```
//!
//! Either the receiver's second look sees what was published, or the sender sees the raised flag:
//! the two fences forbid that both look too early. The swap lets one sender of many do the wake.
//! The memory orderings are checked by loom (`tests/loom.rs`), which compiles this very file with
//! its own atomics.

use crate::sync::{AtomicBool, Ordering, fence};

/// One per shard. Other cores write it only when its shard sleeps.
#[derive(Debug, Default)]
pub(crate) struct Doorbell {
    sleeping: AtomicBool,
}

impl Doorbell {
    /// The sender's half, after it has published: must it wake the receiver?
    #[must_use]
    pub(crate) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// The receiver's half: before its second look.
    pub(crate) fn raise(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The receiver is awake. It looks into every ring before it raises the flag again.
    pub(crate) fn lower(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Has nobody rung since the flag was raised?
    #[must_use]
    pub(crate) fn is_raised(&self) -> bool {
        self.sleeping.load(Ordering::Acquire)
    }
}
