//! A broadcast subscription's place in one partition.
//!
//! ```text
//!   next ──▶ run of batches ──┬─ delivered: by credit, in frames
//!            (sieve)          └─ left out: no key that is wanted, or too old
//!                                 └─▶ gathered, and said as one Missed: before the next frame,
//!                                     or after a while, so that the subscriber knows its place
//! ```
//!
//! What is left out costs no credit. How often it is said has bounds, also where nothing passes
//! for hours: [`FILTER_PROGRESS_US`] and [`FILTER_PROGRESS_BYTES`]. Where what passes and what does
//! not take turns, a few frames go out before others have theirs: [`FILTER_FRAMES_PER_TURN`].

use std::sync::Arc;

use lanecast_wire::message::MissedReason;
use lanecast_wire::{KeyHash, Offset, PartitionId};

use crate::disk::Operations;
use crate::limits::{
    DELIVER_BYTES, FILTER_BATCHES_PER_TURN, FILTER_FRAMES_PER_TURN, FILTER_PROGRESS_BYTES,
    FILTER_PROGRESS_US,
};
use crate::log::Log;
use crate::mutants::{Mutant, planted};
use crate::outbox::Outbox;
use crate::partition::credit::Credit;
use crate::partition::reader::{Bounds, Fetched, Reader, Slice, slice};
use crate::partition::sieve::{Run, Sieve};
use crate::{DeliverMessage, MissedMessage, Now, ShardId, ShardMessage, SubscriberId, invariants};

/// Sends everything that is wanted from `next` on, as far as its credit reaches.
#[derive(Debug)]
pub(crate) struct Cursor {
    pub(crate) next: u64,
    pub(crate) credit: Credit,
    pub(crate) reader: Reader,
    /// Empty: everything.
    wanted: Arc<[KeyHash]>,
    left_out: Option<LeftOut>,
    /// Looking at many batches goes on at this time.
    go_on_at_us: Option<u64>,
}

/// Records up to `next` that the subscriber has not been told of yet.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    reason: MissedReason,
    first: u64,
    bytes: usize,
    since_us: u64,
}

/// What went out, and what did not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) filtered: u64,
    pub(crate) expired: u64,
    /// Gone before a cursor came to them.
    pub(crate) missed: u64,
}

/// To whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subscriber {
    pub(crate) shard: ShardId,
    pub(crate) id: SubscriberId,
}

/// What a delivery needs to know besides the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery {
    pub(crate) now: Now,
    pub(crate) to: Subscriber,
    pub(crate) partition: PartitionId,
    /// Batches that were appended at or before this are too old.
    pub(crate) horizon_ms: Option<i64>,
    /// Of what the log does not hold any more, records below this gave way to newer ones.
    pub(crate) replaced_upto: u64,
}

impl Cursor {
    pub(crate) fn new(next: u64, credit: Credit, wanted: Arc<[KeyHash]>) -> Self {
        let (left_out, go_on_at_us) = (None, None);
        Cursor { next, credit, reader: Reader::default(), wanted, left_out, go_on_at_us }
    }

    /// Delivers what is durable and within the credit.
    pub(crate) fn deliver(
        &mut self,
        delivery: Delivery,
        log: &mut Log,
        operations: &mut Operations,
        out: &mut Outbox,
    ) -> Sent {
        let mut sent = Sent::default();
        let mut frame = Frame::new(delivery);
        let wanted = Arc::clone(&self.wanted);
        let sieve = Sieve::new(&wanted, delivery.horizon_ms);
        let (mut looked_at, mut said) = (0, 0);
        self.go_on_at_us = None;
        while !self.credit.is_empty() {
            if looked_at >= FILTER_BATCHES_PER_TURN || said >= FILTER_FRAMES_PER_TURN {
                self.go_on_at_us = Some(delivery.now.mono_us);
                break;
            }
            let block = match self.reader.fetch(self.next, log, operations) {
                Fetched::Block(block) => block,
                Fetched::Waiting | Fetched::AtEnd => break,
                Fetched::Gone { log_start } => {
                    frame.flush(out);
                    let replaced = log_start.min(delivery.replaced_upto);
                    sent.missed += self.miss(replaced, MissedReason::Dropped, delivery, out);
                    sent.missed += self.miss(log_start, MissedReason::Retention, delivery, out);
                    continue;
                }
                Fetched::Damaged { next } => {
                    frame.flush(out);
                    sent.missed += self.miss(next, MissedReason::Damaged, delivery, out);
                    continue;
                }
            };
            let run = sieve.run(&block, self.next);
            looked_at += run.looked_at;
            if let Some(reason) = run.left_out {
                // The frame that ends here, and the report before the next one.
                said += if frame.is_empty() { 0 } else { 2 };
                said += usize::from(self.left_out.is_some_and(|it| it.reason != reason));
                frame.flush(out);
                sent.leave_out(reason, run.end - self.next);
                self.leave_out(reason, run, delivery, out);
                continue;
            }
            let bounds = Bounds {
                from: self.next,
                end: run.end,
                bytes_max: self.credit.left().min(DELIVER_BYTES - frame.bytes),
                at_least_one: self.credit.is_whole() && frame.is_empty(),
            };
            let Some(slice) = slice(&block, bounds) else {
                if frame.is_empty() {
                    self.credit.falls_short();
                    break;
                }
                frame.flush(out);
                continue;
            };
            self.say(delivery, out);
            self.credit.spend(slice.bytes.len());
            self.next = slice.last + 1;
            sent.records += slice.last - slice.first + 1;
            sent.bytes += slice.bytes.len() as u64;
            frame.push(slice, log.durable_end());
            if frame.bytes >= DELIVER_BYTES {
                frame.flush(out);
            }
        }
        frame.flush(out);
        if self.is_due(delivery.now) {
            self.say(delivery, out);
        }
        sent
    }

    /// When [`Cursor::deliver`] is to be called if nothing happens before.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        let progress = self.left_out.map(|left_out| left_out.since_us + FILTER_PROGRESS_US);
        [self.go_on_at_us, progress].into_iter().flatten().min()
    }

    fn leave_out(&mut self, reason: MissedReason, run: Run, delivery: Delivery, out: &mut Outbox) {
        if self.left_out.is_some_and(|left_out| left_out.reason != reason) {
            self.say(delivery, out);
        }
        let (first, since_us) = (self.next, delivery.now.mono_us);
        let left_out = self.left_out.get_or_insert(LeftOut { reason, first, bytes: 0, since_us });
        left_out.bytes += run.bytes;
        self.next = run.end;
    }

    /// Records that are lost to the subscriber are told at once, progress now and then.
    fn is_due(&self, now: Now) -> bool {
        self.left_out.is_some_and(|left_out| {
            left_out.reason != MissedReason::Filtered
                || left_out.bytes >= FILTER_PROGRESS_BYTES
                || left_out.since_us + FILTER_PROGRESS_US <= now.mono_us
        })
    }

    /// Goes on at `upto`, unless it is there already. How many records does it miss?
    fn miss(
        &mut self,
        upto: u64,
        reason: MissedReason,
        delivery: Delivery,
        out: &mut Outbox,
    ) -> u64 {
        if upto <= self.next {
            return 0;
        }
        self.say(delivery, out);
        missed(delivery, Offset(self.next)..=Offset(upto - 1), reason, out);
        let records = upto - self.next;
        self.next = upto;
        records
    }

    /// Says what was left out, if anything.
    fn say(&mut self, delivery: Delivery, out: &mut Outbox) {
        if let Some(left_out) = self.left_out.take() {
            let range = Offset(left_out.first)..=Offset(self.next - 1);
            missed(delivery, range, left_out.reason, out);
        }
    }
}

impl Sent {
    pub(crate) fn add(&mut self, more: Sent) {
        self.records += more.records;
        self.bytes += more.bytes;
        self.filtered += more.filtered;
        self.expired += more.expired;
        self.missed += more.missed;
    }

    fn leave_out(&mut self, reason: MissedReason, records: u64) {
        match reason {
            MissedReason::Filtered => self.filtered += records,
            MissedReason::Expired => self.expired += records,
            MissedReason::Retention | MissedReason::Dropped | MissedReason::Damaged => {}
        }
    }
}

fn missed(
    delivery: Delivery,
    range: std::ops::RangeInclusive<Offset>,
    reason: MissedReason,
    out: &mut Outbox,
) {
    let Delivery { to, partition, .. } = delivery;
    let (first, last) = range.into_inner();
    let missed = MissedMessage { subscriber: to.id, partition, first, last, reason };
    if !planted(Mutant::HideMissed) {
        out.send(to.shard, ShardMessage::Missed(Box::new(missed)));
    }
}

/// Slices next to each other on their way out.
struct Frame {
    delivery: Delivery,
    bytes: usize,
    open: Option<DeliverMessage>,
}

impl Frame {
    fn new(delivery: Delivery) -> Self {
        Frame { delivery, bytes: 0, open: None }
    }

    fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    fn push(&mut self, slice: Slice, durable_end: u64) {
        let Delivery { to, partition, .. } = self.delivery;
        let open = self.open.get_or_insert_with(|| DeliverMessage {
            subscriber: to.id,
            partition,
            first: Offset(slice.first),
            last: Offset(slice.last),
            high_watermark: Offset(durable_end),
            lease: None,
            payload: Vec::new(),
        });
        open.last = Offset(slice.last);
        self.bytes += slice.bytes.len();
        open.payload.push(slice.bytes);
    }

    fn flush(&mut self, out: &mut Outbox) {
        self.bytes = 0;
        if let Some(frame) = self.open.take() {
            let visible = invariants::is_visible(frame.last, frame.high_watermark);
            assert!(visible, "only what is durable");
            out.send(self.delivery.to.shard, ShardMessage::Deliver(Box::new(frame)));
        }
    }
}
