//! A broadcast subscription's place in one partition.

use crate::disk::Operations;
use crate::limits::DELIVER_BYTES;
use crate::log::Log;
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::partition::credit::Credit;
use crate::partition::reader::{Bounds, Fetched, Reader, slice};
use crate::{DeliverMessage, MissedMessage, ShardId, ShardMessage, SubscriberId, invariants};
use lanecast_wire::message::MissedReason;
use lanecast_wire::{Offset, PartitionId};

/// Sends everything from `next` on, as far as its credit reaches.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) next: u64,
    pub(crate) credit: Credit,
    pub(crate) reader: Reader,
}

/// What went out.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subscriber {
    pub(crate) shard: ShardId,
    pub(crate) id: SubscriberId,
}

impl Cursor {
    /// Delivers what is durable and within the credit.
    pub(crate) fn deliver(
        &mut self,
        to: Subscriber,
        partition: PartitionId,
        log: &mut Log,
        operations: &mut Operations,
        out: &mut Outbox,
    ) -> Sent {
        let mut sent = Sent::default();
        let mut frame: Option<DeliverMessage> = None;
        let mut frame_bytes = 0;
        while !self.credit.is_empty() {
            let block = match self.reader.fetch(self.next, log, operations) {
                Fetched::Block(block) => block,
                Fetched::Waiting | Fetched::AtEnd => break,
                Fetched::Gone { log_start } => {
                    flush(&mut frame, to, out);
                    frame_bytes = 0;
                    let (first, last) = (Offset(self.next), Offset(log_start - 1));
                    let reason = MissedReason::Retention;
                    let missed =
                        MissedMessage { subscriber: to.id, partition, first, last, reason };
                    if !planted(Mutant::HideMissed) {
                        out.send(to.shard, ShardMessage::Missed(Box::new(missed)));
                    }
                    self.next = log_start;
                    continue;
                }
            };
            let bounds = Bounds {
                from: self.next,
                end: u64::MAX,
                bytes_max: self.credit.left().min(DELIVER_BYTES - frame_bytes),
                at_least_one: self.credit.is_whole() && frame.is_none(),
            };
            let Some(slice) = slice(&block, bounds) else {
                if frame.is_none() {
                    break;
                }
                flush(&mut frame, to, out);
                frame_bytes = 0;
                continue;
            };
            self.credit.spend(slice.bytes.len());
            self.next = slice.last + 1;
            sent.records += slice.last - slice.first + 1;
            sent.bytes += slice.bytes.len() as u64;
            frame_bytes += slice.bytes.len();
            let open = frame.get_or_insert_with(|| DeliverMessage {
                subscriber: to.id,
                partition,
                first: Offset(slice.first),
                last: Offset(slice.last),
                high_watermark: Offset(log.durable_end()),
                lease: None,
                payload: Vec::new(),
            });
            open.last = Offset(slice.last);
            open.payload.push(slice.bytes);
            if frame_bytes >= DELIVER_BYTES {
                flush(&mut frame, to, out);
                frame_bytes = 0;
            }
        }
        flush(&mut frame, to, out);
        sent
    }
}

fn flush(frame: &mut Option<DeliverMessage>, to: Subscriber, out: &mut Outbox) {
    if let Some(frame) = frame.take() {
        assert!(invariants::is_visible(frame.last, frame.high_watermark), "only what is durable");
        out.send(to.shard, ShardMessage::Deliver(Box::new(frame)));
    }
}
