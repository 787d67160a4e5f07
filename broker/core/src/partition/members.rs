//! Members of consumer groups: chunks that were handed out, on their way to their members.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lanecast_wire::message::{GroupOptions, Lease};
use lanecast_wire::{Offset, PartitionId};

use crate::disk::Operations;
use crate::group::{HandOut, MemberKey};
use crate::limits::DELIVER_BYTES;
use crate::log::Log;
use crate::outbox::Outbox;
use crate::partition::credit::Credit;
use crate::partition::cursor::Sent;
use crate::partition::reader::{Bounds, Fetched, Reader, Slice, slice};
use crate::{DeliverMessage, ShardMessage, SubscriberId, invariants};

/// A chunk of which some batches are not sent yet.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    chunk: HandOut,
    next: u64,
}

/// One subscription as a member of a group on this partition.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) options: GroupOptions,
    /// Where the group begins, should it have to be made again.
    pub(crate) start: Offset,
    pub(crate) credit: Credit,
    /// The member knows that it has joined.
    pub(crate) joined: bool,
    pub(crate) reader: Reader,
    /// Chunks are sent one after the other, in frames.
    deliveries: VecDeque<Delivery>,
}

impl Member {
    pub(crate) fn new(options: GroupOptions, start: Offset, credit: Credit) -> Self {
        let (reader, deliveries) = (Reader::default(), VecDeque::new());
        Member { options, start, credit, joined: false, reader, deliveries }
    }

    pub(crate) fn hand_out(&mut self, chunk: HandOut) {
        self.deliveries.push_back(Delivery { chunk, next: chunk.first.0 });
    }

    pub(crate) fn lease_ended(&mut self, generation: u64) {
        self.deliveries.retain(|delivery| delivery.chunk.generation != generation);
    }

    /// The groups were given up: so are all leases.
    pub(crate) fn forget_deliveries(&mut self) {
        self.deliveries.clear();
        self.reader.reset();
    }

    /// Sends frames of chunks as far as the credit reaches.
    pub(crate) fn deliver(
        &mut self,
        key: MemberKey,
        partition: PartitionId,
        log: &mut Log,
        operations: &mut Operations,
        out: &mut Outbox,
    ) -> Sent {
        let mut sent = Sent::default();
        while !self.credit.is_empty()
            && let Some(delivery) = self.deliveries.front_mut()
        {
            let chunk = delivery.chunk;
            let slice = match self.reader.fetch(delivery.next, log, operations) {
                Fetched::Block(block) => {
                    let bounds = Bounds {
                        from: delivery.next,
                        end: chunk.last.0 + 1,
                        bytes_max: self.credit.left().min(DELIVER_BYTES),
                        at_least_one: self.credit.is_whole(),
                    };
                    slice(&block, bounds)
                }
                // The chunk keeps its bounds: what is lost of it is told by a frame without batches.
                Fetched::Damaged { next } => {
                    let last = chunk.last.0.min(next - 1);
                    Some(Slice { first: delivery.next, last, bytes: Bytes::new() })
                }
                // Retention takes a chunk away through its group, which ends the lease.
                Fetched::Waiting | Fetched::AtEnd | Fetched::Gone { .. } => None,
            };
            let Some(slice) = slice else { break };
            self.credit.spend(slice.bytes.len());
            delivery.next = slice.last + 1;
            if slice.last >= chunk.last.0 {
                self.deliveries.pop_front();
            }
            if !slice.bytes.is_empty() {
                sent.records += slice.last - slice.first + 1;
            }
            sent.bytes += slice.bytes.len() as u64;
            let lease = Lease {
                chunk_first: chunk.first.0,
                chunk_last: chunk.last.0,
                generation: chunk.generation,
                attempt: chunk.attempt,
                lease_ms: chunk.lease_ms,
            };
            let frame = DeliverMessage {
                subscriber: subscriber(key),
                partition,
                first: Offset(slice.first),
                last: Offset(slice.last),
                high_watermark: Offset(log.durable_end()),
                lease: Some(lease),
                payload: Some(slice.bytes).filter(|bytes| !bytes.is_empty()).into_iter().collect(),
            };
            assert!(invariants::is_visible(frame.last, frame.high_watermark), "only durable");
            out.send(key.shard, ShardMessage::Deliver(Box::new(frame)));
        }
        sent
    }
}

pub(crate) fn subscriber(key: MemberKey) -> SubscriberId {
    SubscriberId { connection: key.connection, subscription: key.subscription }
}

/// Members by subscription.
pub(crate) type Members = BTreeMap<MemberKey, Member>;
