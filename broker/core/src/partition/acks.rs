//! Produce requests that wait until what they ask for is durable.

use std::collections::VecDeque;

use crate::{RequestId, ShardId};

/// One answer to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingAck {
    pub(crate) shard: ShardId,
    pub(crate) request: RequestId,
    pub(crate) base_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) duplicate: bool,
}

/// In rising order of `end_offset`.
#[derive(Debug, Default)]
pub(crate) struct PendingAcks {
    acks: VecDeque<PendingAck>,
}

impl PendingAcks {
    pub(crate) fn len(&self) -> usize {
        self.acks.len()
    }

    /// Nearly always the last one; a retry of a batch under way stands with its first request.
    pub(crate) fn insert(&mut self, ack: PendingAck) {
        let at = self.acks.partition_point(|other| other.end_offset <= ack.end_offset);
        self.acks.insert(at, ack);
    }

    /// The next answer that is due.
    pub(crate) fn pop_durable(&mut self, durable_end: u64) -> Option<PendingAck> {
        if self.acks.front()?.end_offset > durable_end {
            return None;
        }
        self.acks.pop_front()
    }

    /// All of them: the log has failed.
    pub(crate) fn take(&mut self) -> VecDeque<PendingAck> {
        std::mem::take(&mut self.acks)
    }
}
