//! A client that hangs up cancels its query.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::engine::Engine;

/// Travels with a request: through the wait for its answer, then in the answer's body. Whoever drops
/// it before the query's thread is done says that the client is gone.
pub(crate) struct Hangup {
    pub(crate) engine: Arc<Engine>,
    /// The `log_comment` of the query.
    pub(crate) tag: String,
    /// Set by the query's thread before it hands over the last of its answer.
    pub(crate) done: Arc<AtomicBool>,
}

impl Drop for Hangup {
    fn drop(&mut self) {
        if self.done.load(Ordering::Acquire) {
            return;
        }
        let (engine, tag) = (Arc::clone(&self.engine), std::mem::take(&mut self.tag));
        tracing::debug!(tag, "client left, killing its query");
        // Without a runtime the process is going down, and takes the query with it. The killing is
        // not awaited: the query's own thread sees the end of it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn_blocking(move || engine.kill(&tag)));
        }
    }
}
