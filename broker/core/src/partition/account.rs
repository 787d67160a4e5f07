//! What a partition's log takes of the broker's memory.

use std::sync::Arc;

use crate::Budget;
use crate::log::Log;

/// Keeps the broker's budget told. What it counted is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Account {
    budget: Arc<Budget>,
    cached: u64,
    undurable: u64,
}

impl Account {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Account { budget, cached: 0, undurable: 0 }
    }

    /// The log has changed.
    pub(super) fn update(&mut self, log: &Log) {
        self.set(log.cached_bytes(), log.undurable_bytes());
    }

    /// All partitions together have as much on its way to the disk as there is memory for.
    pub(super) fn is_undurable_full(&self, more: usize) -> bool {
        let bytes = self.budget.undurable.bytes();
        bytes > 0 && bytes + more as u64 > self.budget.shares().undurable
    }

    fn set(&mut self, cached: u64, undurable: u64) {
        self.budget.cached.change(self.cached, cached);
        self.budget.undurable.change(self.undurable, undurable);
        (self.cached, self.undurable) = (cached, undurable);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}
