//! Members of consumer groups: chunks that were handed out, on their way to their members.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use lanecast_wire::message::{GroupOptions, Lease, OffsetRange};
use lanecast_wire::{Offset, PartitionId};

use crate::disk::Operations;
use crate::group::{HandOut, MemberKey};
use crate::limits::DELIVER_BYTES;
use crate::log::Log;
use crate::outbox::Outbox;
use crate::partition::credit::Credit;
use crate::partition::cursor::Sent;
use crate::partition::reader::{Bounds, Fetched, Reader, Slice, slice};
use crate::{DeliverMessage, SettledMessage, ShardMessage, SubscriberId, invariants};

/// A chunk of which some batches are not sent yet.
#[derive(Debug)]
struct Delivery {
    chunk: HandOut,
    /// What of the chunk is still to be sent: what is open of it, and always its last record, whose
    /// batch tells the member that there is no more.
    parts: VecDeque<(u64, u64)>,
    /// The member knows what of the chunk is settled.
    announced: bool,
}

impl Delivery {
    fn new(chunk: HandOut) -> Self {
        let mut parts = VecDeque::new();
        let mut next = chunk.first.0;
        for (first, last) in &chunk.settled {
            if next < first.0 {
                parts.push_back((next, first.0 - 1));
            }
            next = last.0 + 1;
        }
        parts.push_back((next.min(chunk.last.0), chunk.last.0));
        let announced = chunk.settled.is_empty();
        Delivery { chunk, parts, announced }
    }

    /// Everything up to `last` is sent.
    fn sent(&mut self, last: u64) {
        while self.parts.front().is_some_and(|part| part.1 <= last) {
            self.parts.pop_front();
        }
        if let Some((first, _)) = self.parts.front_mut() {
            *first = (last + 1).max(*first);
        }
    }

    fn settled(&self, key: MemberKey, partition: PartitionId) -> SettledMessage {
        let range = |(first, last): &(Offset, Offset)| OffsetRange { first: first.0, last: last.0 };
        SettledMessage {
            subscriber: subscriber(key),
            partition,
            chunk_first: self.chunk.first,
            generation: self.chunk.generation,
            ranges: self.chunk.settled.iter().map(range).collect(),
        }
    }
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
        self.deliveries.push_back(Delivery::new(chunk));
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
            let (from, last) = *delivery.parts.front().expect("a delivery ends with its last part");
            let slice = match self.reader.fetch(from, log, operations) {
                Fetched::Block(block) => {
                    let bounds = Bounds {
                        from,
                        end: last + 1,
                        bytes_max: self.credit.left().min(DELIVER_BYTES),
                        at_least_one: self.credit.is_whole(),
                    };
                    let slice = slice(&block, bounds);
                    if slice.is_none() {
                        self.credit.falls_short();
                    }
                    slice
                }
                // The chunk keeps its bounds: what is lost of it is told by a frame without batches.
                Fetched::Damaged { next } => {
                    let last = delivery.chunk.last.0.min(next - 1);
                    Some(Slice { first: from, last, bytes: Bytes::new() })
                }
                // Retention takes a chunk away through its group, which ends the lease.
                Fetched::Waiting | Fetched::AtEnd | Fetched::Gone { .. } => None,
            };
            let Some(slice) = slice else { break };
            self.credit.spend(slice.bytes.len());
            if !std::mem::replace(&mut delivery.announced, true) {
                let settled = delivery.settled(key, partition);
                out.send(key.shard, ShardMessage::Settled(Box::new(settled)));
            }
            let chunk = &delivery.chunk;
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
                appended_ms: chunk.appended_ms,
            };
            delivery.sent(slice.last);
            if delivery.parts.is_empty() {
                self.deliveries.pop_front();
            }
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

#[cfg(test)]
mod tests {
    use crate::group::GroupId;
    use crate::testing::group;
    use crate::{ConnectionId, ShardId};

    use super::*;

    fn chunk(generation: u64, settled: &[(u64, u64)]) -> HandOut {
        let settled = settled.iter().map(|(first, last)| (Offset(*first), Offset(*last)));
        let (shard, connection) = (ShardId(0), ConnectionId(1));
        HandOut {
            group: GroupId(1),
            member: MemberKey { shard, connection, subscription: lanecast_wire::SubscriptionId(1) },
            first: Offset(0),
            last: Offset(9),
            bytes: 100,
            attempt: 1,
            generation,
            lease_ms: 1_000,
            appended_ms: 0,
            settled: settled.collect(),
        }
    }

    #[test]
    fn what_is_open_of_a_chunk_is_sent_and_always_its_end() {
        let parts = |settled| Vec::from(Delivery::new(chunk(1, settled)).parts);
        assert_eq!(parts(&[]), [(0, 9)]);
        assert_eq!(parts(&[(0, 3), (6, 6)]), [(4, 5), (7, 9)]);
        assert_eq!(parts(&[(5, 9)]), [(0, 4), (9, 9)]);
    }

    #[test]
    fn a_lease_that_has_ended_is_not_delivered_on() {
        let mut member = Member::new(group("g", "m"), Offset(0), Credit::new(0));
        member.hand_out(chunk(1, &[]));
        member.hand_out(chunk(2, &[]));
        member.lease_ended(1);
        let left: Vec<u64> = member.deliveries.iter().map(|it| it.chunk.generation).collect();
        assert_eq!(left, [2]);
    }
}
