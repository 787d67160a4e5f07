//! Produce requests that wait until what they ask for is durable.

use std::collections::VecDeque;

use lanecast_wire::{ErrorCode, Offset, PartitionId, ProducerEpoch, Sequence};

use crate::group::GroupId;
use crate::limits::RETRY_AFTER_MS;
use crate::outbox::Outbox;
use crate::{RefusedMessage, RequestId, ShardId, ShardMessage};

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    Producer(RequestId),
    /// A partition, with a dead letter of one of its groups.
    Burial {
        origin: PartitionId,
        group: GroupId,
        epoch: ProducerEpoch,
        number: u64,
        follows: Option<Sequence>,
    },
}

/// One answer to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PendingAck {
    pub(crate) shard: ShardId,
    pub(crate) asker: Asker,
    pub(crate) base_offset: u64,
    pub(crate) end_offset: u64,
    pub(crate) duplicate: bool,
}

impl PendingAck {
    /// It is durable.
    pub(crate) fn answer(&self, out: &mut Outbox) {
        let message = match self.asker {
            Asker::Producer(request) => ShardMessage::Produced {
                request,
                base_offset: Offset(self.base_offset),
                duplicate: self.duplicate,
            },
            Asker::Burial { origin, group, epoch, number, .. } => {
                ShardMessage::Buried { origin, group, epoch, number, outcome: Ok(()) }
            }
        };
        out.send(self.shard, message);
    }

    /// It will not become durable, or nobody knows.
    pub(crate) fn refuse(&self, code: ErrorCode, message: &str, out: &mut Outbox) {
        self.asker.refuse(self.shard, code, message, out);
    }
}

impl Asker {
    pub(crate) fn refuse(self, shard: ShardId, code: ErrorCode, text: &str, out: &mut Outbox) {
        let message = match self {
            Asker::Producer(request) => {
                let retry_after_ms = if code.is_retryable() { RETRY_AFTER_MS } else { 0 };
                let message = text.to_owned();
                let produce = true;
                let refused = RefusedMessage { request, produce, code, message, retry_after_ms };
                ShardMessage::Refused(Box::new(refused))
            }
            Asker::Burial { origin, group, epoch, number, .. } => {
                ShardMessage::Buried { origin, group, epoch, number, outcome: Err(code) }
            }
        };
        out.send(shard, message);
    }
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
