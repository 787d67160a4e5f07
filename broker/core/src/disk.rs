//! Disk requests of one shard: numbered here, told apart by the log that asked.

use std::collections::{BTreeMap, VecDeque};

use crate::{DiskRequest, LogId, OperationId};

/// Hands out operation ids and remembers whose they are until their answer comes.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    next: u64,
    owners: BTreeMap<OperationId, LogId>,
    requests: VecDeque<(OperationId, DiskRequest)>,
}

impl Operations {
    pub(crate) fn submit(&mut self, log: LogId, request: DiskRequest) -> OperationId {
        let operation = OperationId(self.next);
        self.next += 1;
        self.owners.insert(operation, log);
        self.requests.push_back((operation, request));
        operation
    }

    /// The next request that the shell has not seen.
    pub(crate) fn poll(&mut self) -> Option<(OperationId, DiskRequest)> {
        self.requests.pop_front()
    }

    /// An answer has come: which log asked? `None` for an operation that was never submitted or
    /// has been answered before.
    pub(crate) fn complete(&mut self, operation: OperationId) -> Option<LogId> {
        self.owners.remove(&operation)
    }

    /// Does a log wait for an answer?
    pub(crate) fn is_used_by(&self, log: LogId) -> bool {
        self.owners.values().any(|owner| *owner == log)
    }

    /// Requests without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.owners.len()
    }
}
