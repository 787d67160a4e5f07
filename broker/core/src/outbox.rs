//! Messages and actions on their way out of a shard.

use std::collections::VecDeque;

use crate::{Action, ShardId, ShardMessage};

/// Messages to other shards become ring actions; those to this shard wait in a queue of their own
/// and are handled by the same code.
#[derive(Debug)]
pub(crate) struct Outbox {
    this: ShardId,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) local: VecDeque<ShardMessage>,
}

impl Outbox {
    pub(crate) fn new(this: ShardId) -> Self {
        Outbox { this, actions: VecDeque::new(), local: VecDeque::new() }
    }

    pub(crate) fn send(&mut self, to: ShardId, message: ShardMessage) {
        if to == self.this {
            self.local.push_back(message);
        } else {
            self.actions.push_back(Action::Ring { to, message });
        }
    }
}
