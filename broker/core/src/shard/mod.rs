//! One core of the broker and all that it owns.

use std::collections::VecDeque;

use crate::{Action, Event, Now, ShardConfig, ShardStats};

/// A sans-IO state machine: [`Shard::handle`] takes what happened, [`Shard::poll_action`] gives
/// what shall be done, [`Shard::poll_timeout`] says when to come back without an event.
pub struct Shard {
    config: ShardConfig,
    now: Now,
    actions: VecDeque<Action>,
    draining: bool,
}

impl Shard {
    /// A shard that knows nothing yet: its first actions open the catalog and the logs.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        Shard {
            config,
            now: Now { mono_us: 0, wall_ms: 0 },
            actions: VecDeque::new(),
            draining: false,
        }
    }

    /// Takes one event. Cheap: the work that several events share (commits, fan-out) is done in
    /// [`Shard::poll_action`].
    pub fn handle(&mut self, now: Now, event: Event<'_>) {
        self.now = now;
        match event {
            Event::Drain => {
                self.draining = true;
                self.actions.push_back(Action::Drained);
            }
            Event::Connected { .. }
            | Event::Received { .. }
            | Event::Sent { .. }
            | Event::Disconnected { .. }
            | Event::Ring { .. }
            | Event::Disk { .. } => {}
        }
    }

    /// The next thing to do; `None` until the next event or timeout.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The monotonic time, in microseconds, at which [`Shard::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<u64> {
        None
    }

    /// Time has passed: does what has become due. Early or needless calls are harmless.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
    }

    #[must_use]
    pub fn stats(&self) -> ShardStats {
        ShardStats {
            shard: self.config.shard,
            ready: false,
            draining: self.draining,
            connections: 0,
            subscribers: 0,
            partitions: Vec::new(),
        }
    }
}
