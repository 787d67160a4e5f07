//! What groups gather chunks from: batches that are durable, and those that are on their way.
//!
//! A group that keeps up has a batch offered as soon as its block is on its way to the disk, so that
//! the bounds of its chunk are written at the same time, and not after it:
//!
//! ```text
//!  data    ──── block ────▶ durable ─┐
//!  groups    ── bounds ────▶ durable ┴▶ handed out
//! ```
//!
//! Should the records be lost on their way, so are the bounds: nobody has had the chunk, and they are
//! cut off before the log takes other records in their place ([`Queue::takes_records`]).

use std::collections::VecDeque;

use lanecast_wire::Offset;

use super::{Queue, State};
use crate::Now;
use crate::disk::Operations;
use crate::group::{BatchBounds, GroupId, Groups};
use crate::limits::UNDER_WAY_MAX;
use crate::log::Log;
use crate::mutants::{Mutant, planted};
use crate::partition::reader::{Fetched, batches};

/// Batches of the data log that are not durable, oldest first; if there are too many, not the newest.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    batches: VecDeque<BatchBounds>,
}

impl UnderWay {
    fn push(&mut self, batch: BatchBounds) {
        if self.batches.len() < UNDER_WAY_MAX {
            self.batches.push_back(batch);
        }
    }

    /// Everything below is.
    pub(super) fn durable(&mut self, end: u64) {
        while self.batches.front().is_some_and(|batch| batch.last.0 < end) {
            self.batches.pop_front();
        }
    }

    pub(super) fn clear(&mut self) {
        self.batches.clear();
    }

    /// Offers the group what it wants of the blocks that are being written.
    fn offer(&self, now: Now, id: GroupId, groups: &mut Groups, data: &Log) {
        for (base, end) in data.committing() {
            let Some(wanted) = groups.wants(id) else { return };
            if (base..end).contains(&wanted.0) {
                let at = self.batches.partition_point(|batch| batch.first < wanted);
                let batches = self.batches.range(at..).take_while(|batch| batch.last.0 < end);
                groups.offer_block(now, id, (Offset(base), Offset(end - 1)), batches.copied());
            }
        }
    }
}

impl Queue {
    /// The data log has taken a batch. One in memory has it durable at once.
    pub(crate) fn appended(&mut self, batch: BatchBounds) {
        if !self.members.is_empty() && !self.log.is_in_memory() {
            self.under_way.push(batch);
        }
    }

    /// Offers batches to the groups that want them.
    pub(super) fn feed(&mut self, now: Now, data: &mut Log, operations: &mut Operations) {
        let State::Online(groups) = &mut self.state else { return };
        let mut last = None;
        while let Some(id) = groups.id_behind(last) {
            last = Some(id);
            let reader = self.feeds.entry(id).or_default();
            while let Some(wanted) = groups.wants(id) {
                let block = match reader.fetch(wanted.0, data, operations) {
                    Fetched::Block(block) => block,
                    Fetched::Gone { log_start } => {
                        self.log_start = self.log_start.max(log_start);
                        groups.trim(now, Offset(log_start));
                        continue;
                    }
                    Fetched::Damaged { next } => {
                        groups.pass(now, id, Offset(next));
                        continue;
                    }
                    Fetched::AtEnd => {
                        self.under_way.offer(now, id, groups, data);
                        break;
                    }
                    Fetched::Waiting => break,
                };
                let before = wanted;
                let offered = batches(&block).map(|(_, header)| BatchBounds {
                    first: header.base_offset,
                    last: header.last_offset(),
                    bytes: u32::try_from(header.batch_bytes()).unwrap_or(u32::MAX),
                    appended_ms: header.append_time_ms,
                });
                let bounds = (Offset(block.base_offset()), Offset(block.end_offset() - 1));
                groups.offer_block(now, id, bounds, offered);
                if groups.wants(id) == Some(before) {
                    // No batch begins there: such a group cannot come from this log.
                    debug_assert!(false, "group {id:?} wants {before}, where no batch begins");
                    break;
                }
            }
        }
    }

    /// The data log is open again after a failure, at its durable end: what was bound behind it is void.
    pub(super) fn rewind(&mut self) {
        if let State::Online(groups) = &mut self.state
            && std::mem::take(&mut self.rewind)
            && !planted(Mutant::KeepLostBounds)
        {
            groups.rewind(Offset(self.high_watermark));
        }
    }
}
