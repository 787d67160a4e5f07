//! Segments that hold nothing yet, and those that hold nothing any more.
//!
//! One operation at a time, oldest segment first: whenever the process dies, the segments that are
//! left follow each other without a hole.
//!
//! Retention by time goes by stamps of a wall clock, which may be wrong. A clock that is set ahead
//! lets nothing grow old at once ([`crate::ttl`]). A stamp that lies in the future is of a clock
//! that was ahead, and says nothing: such a segment is as old as the next one whose stamp does.

use std::collections::VecDeque;

use super::{BlockKind, Log, Medium, Operation};
use crate::disk::Operations;
use crate::limits::{
    BLOCK_ALIGN, NO_SPACE_RETRY_US, PREPARE_AT, RECOVERY_BACKOFF_US_MAX, RETENTION_INTERVAL_US,
};
use crate::ttl::TtlClock;
use crate::{DiskError, DiskErrorKind, DiskRequest, Now, SegmentFile, SegmentId};

#[derive(Clone, Copy, Debug)]
enum Task {
    Prepare { file: SegmentFile, recycle: Option<SegmentFile> },
    Delete(SegmentFile),
}

#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    /// Highest id ever seen.
    last: u64,
    prepared: VecDeque<SegmentFile>,
    /// Segments to be recycled or deleted, oldest first.
    retired: VecDeque<SegmentFile>,
    task: Option<Task>,
    /// Segments that a failed operation may or may not have left behind; they go first.
    doubtful: VecDeque<SegmentFile>,
    /// The last operation failed; not before this time again.
    failed: Option<(DiskError, u64)>,
    /// A block waits for a segment.
    needed: bool,
    /// Everything retired goes before the log opens.
    delete_first: bool,
    look_at_us: u64,
    /// What blocks grow old by.
    age: TtlClock,
}

impl Housekeeping {
    pub(super) fn saw(&mut self, last: Option<SegmentId>) {
        self.last = self.last.max(last.map_or(0, |segment| segment.0));
    }

    /// Recovery begins: what is on disk will be found again.
    pub(super) fn restart(&mut self) {
        self.prepared.clear();
        self.retired.clear();
        self.doubtful.clear();
        self.task = None;
        self.failed = None;
        self.needed = false;
    }

    /// Segments without a block of the log. After a failed write they may hold blocks that nobody
    /// was told of, and which would look like the log's: those must go.
    /// Of the others, the first is used if it is as long as segments are.
    pub(super) fn found(&mut self, unused: Vec<SegmentFile>, suspect: bool, bytes: u64) {
        self.delete_first = suspect && !unused.is_empty();
        for file in unused {
            if !suspect && file.bytes == bytes && self.prepared.is_empty() {
                self.prepared.push_back(file);
            } else {
                self.retired.push_back(file);
            }
        }
    }

    pub(super) fn must_delete(&self) -> bool {
        self.delete_first
    }

    pub(super) fn look_at_us(&self) -> u64 {
        self.look_at_us
    }

    pub(super) fn retry_at_us(&self) -> Option<u64> {
        // An attempt under way is waited for by itself.
        self.failed.as_ref().filter(|_| self.task.is_none()).map(|(_, retry_at_us)| *retry_at_us)
    }

    pub(super) fn take_prepared(&mut self) -> Option<SegmentFile> {
        let file = self.prepared.pop_front();
        if file.is_some() {
            self.needed = false;
        }
        file
    }

    pub(super) fn need_segment(&mut self) {
        self.needed = true;
    }

    pub(super) fn prepared(&mut self) {
        self.failed = None;
        if let Some(Task::Prepare { file, .. }) = self.task.take() {
            self.prepared.push_back(file);
        }
    }

    pub(super) fn deleted(&mut self) {
        self.task = None;
        if self.retired.is_empty() && self.doubtful.is_empty() {
            self.delete_first = false;
        }
    }
}

impl Log {
    /// Takes whole segments, or blocks of a log in memory, that retention gives up.
    pub(super) fn retain(&mut self, now: Now) {
        let (bytes_max, ms) = (self.config.retention_bytes, self.config.retention_ms);
        let horizon_ms = self.housekeeping.age.horizon_ms(now, ms);
        if now.mono_us >= self.housekeeping.look_at_us {
            self.housekeeping.look_at_us = now.mono_us + RETENTION_INTERVAL_US;
        }
        let hold = self.hold.unwrap_or(u64::MAX);
        if self.config.medium == Medium::Memory {
            self.trim_memory();
            while self.cache.oldest().is_some_and(|block| {
                horizon_ms.is_some_and(|horizon| block.header.append_time_ms < horizon)
                    && block.end_offset() <= hold
            }) {
                let _oldest = self.cache.pop_oldest();
            }
            return;
        }
        while let Some(oldest) = self.segments.oldest() {
            let too_many = bytes_max > 0 && self.segments.used_bytes() > bytes_max;
            let expired = horizon_ms.is_some_and(|horizon_ms| {
                let clock_ms = horizon_ms.saturating_add_unsigned(ms);
                self.segments.oldest_append_ms(clock_ms).is_some_and(|at| at < horizon_ms)
            });
            if (!too_many && !expired) || oldest.end_offset > hold {
                break;
            }
            // What is known of producers is in a later segment first.
            let known =
                self.config.kind != BlockKind::Batches || self.segments.producers_without_oldest();
            if !known || !self.retire_oldest() {
                break;
            }
            if too_many {
                self.replaced_upto = self.segments.log_start();
            }
        }
    }

    /// A log in memory holds what its retention says, and never more than its limit.
    pub(super) fn trim_memory(&mut self) {
        let (limit, hold) = (self.config.cache_bytes, self.hold.unwrap_or(u64::MAX));
        let bytes_max = match self.config.retention_bytes {
            0 => limit,
            bytes => bytes.min(limit),
        };
        let before = self.log_start();
        while self.cache.bytes() > bytes_max
            && self.cache.oldest().is_some_and(|block| block.end_offset() <= hold)
            && self.cache.pop_oldest().is_some()
        {}
        self.cache.trim(limit);
        if self.log_start() > before {
            self.replaced_upto = self.log_start();
        }
    }

    /// Retention takes nothing from here on, however old or much it is: somebody works on it. What
    /// a log in memory may hold is a limit nevertheless.
    pub(crate) fn set_hold(&mut self, offset: Option<u64>) {
        self.hold = offset;
    }

    /// Gives up all segments that hold nothing from `offset` on, but the one that is written to.
    pub(crate) fn retire_below(&mut self, offset: u64) {
        while self.segments.oldest().is_some_and(|oldest| oldest.end_offset <= offset) {
            if !self.retire_oldest() {
                break;
            }
        }
    }

    /// Where the blocks end that a log in memory would let go of if it took this much more.
    pub(crate) fn would_trim(&self, bytes: u64) -> Option<u64> {
        let (limit, retention) = (self.config.cache_bytes, self.config.retention_bytes);
        if self.config.medium != Medium::Memory || (retention > 0 && retention <= limit) {
            return None;
        }
        let block = bytes + self.writer.undurable_bytes() + 2 * BLOCK_ALIGN;
        let mut held = self.cache.bytes() + block.next_multiple_of(BLOCK_ALIGN);
        let mut end = None;
        for block in self.cache.blocks().take_while(|block| {
            let over = held > limit;
            held -= block.header.bytes_on_disk();
            over
        }) {
            end = Some(block.end_offset());
        }
        end
    }

    /// Retention wants the oldest segment and may not take it.
    pub(crate) fn is_held(&self) -> bool {
        let (bytes_max, hold) = (self.config.retention_bytes, self.hold.unwrap_or(u64::MAX));
        bytes_max > 0
            && self.segments.len() > 1
            && self.segments.used_bytes() > bytes_max
            && self.segments.oldest().is_some_and(|oldest| oldest.end_offset > hold)
    }

    /// Gives up all segments but the one that is written to.
    pub(crate) fn retire_all_but_active(&mut self) {
        while self.retire_oldest() {}
    }

    fn retire_oldest(&mut self) -> bool {
        let Some(segment) = self.segments.retire_oldest() else { return false };
        let start = self.segments.log_start();
        self.damages.retain_from(start);
        while self.cache.oldest().is_some_and(|block| block.base_offset() < start) {
            let _oldest = self.cache.pop_oldest();
        }
        let file = SegmentFile { segment: segment.id, bytes: segment.bytes };
        self.housekeeping.retired.push_back(file);
        true
    }

    /// Starts the next piece of housekeeping, if there is one.
    pub(super) fn tidy(&mut self, now: Now, operations: &mut Operations) {
        let log = self.config.id;
        if self.housekeeping.task.is_some() || self.config.medium == Medium::Memory {
            return;
        }
        if let Some((error, retry_at_us)) = self.housekeeping.failed.clone() {
            // A full disk is waited for: what was appended stays, and readers go on.
            let waits = error.kind == DiskErrorKind::NoSpace && !self.stopped;
            if self.housekeeping.needed && !waits {
                self.fail(now, error.kind, error.to_string());
                return;
            }
            if now.mono_us < retry_at_us {
                return;
            }
            // Why it waits stays known until the next attempt has ended.
            if !self.housekeeping.needed {
                self.housekeeping.failed = None;
            }
        }
        let front = self.housekeeping.retired.front().copied();
        let is_read = |file: SegmentFile| {
            self.in_flight.values().any(
                |operation| matches!(operation, Operation::Read(read) if read.segment() == file.segment),
            )
        };
        let free = front.filter(|file| !is_read(*file));
        // The next segment is prepared once the one in use is begun in earnest: a log that hardly
        // grows takes the room of one. But those of records are small, and go round in two: with
        // both there, groups and topics go on while the disk is full.
        let begun = self.segments.active().is_some_and(|active| {
            self.config.kind == BlockKind::Records || active.used >= active.bytes / PREPARE_AT
        });
        let bytes = self.config.segment_bytes.next_multiple_of(BLOCK_ALIGN);
        // One that only has to be renamed is taken at any time: it would be gone when it is wanted.
        let at_hand = free.is_some_and(|file| file.bytes == bytes);
        let wanted = self.housekeeping.prepared.is_empty()
            && !self.housekeeping.delete_first
            && (self.housekeeping.needed || begun || at_hand);
        // What cannot be recycled goes first: a full disk may have no room for another before.
        let unfit = free.filter(|file| file.bytes != bytes);
        let doubtful = self.housekeeping.doubtful.front().copied();
        let task = if let Some(file) = doubtful.or(unfit) {
            Task::Delete(file)
        } else if wanted {
            self.housekeeping.last += 1;
            let recycle = free.filter(|file| file.bytes == bytes);
            let file = SegmentFile { segment: SegmentId(self.housekeeping.last), bytes };
            Task::Prepare { file, recycle }
        } else if let Some(file) = free {
            Task::Delete(file)
        } else {
            return;
        };
        self.housekeeping.task = Some(task);
        match task {
            Task::Prepare { file, recycle } => {
                if recycle.is_some() {
                    self.housekeeping.retired.pop_front();
                }
                let recycle = recycle.map(|file| file.segment);
                let segment = file.segment;
                let request = DiskRequest::PrepareSegment { log, segment, bytes, recycle };
                self.submit(Operation::Prepare, request, operations);
            }
            Task::Delete(file) => {
                if self.housekeeping.doubtful.pop_front().is_none() {
                    self.housekeeping.retired.pop_front();
                }
                let request = DiskRequest::DeleteSegment { log, segment: file.segment };
                self.submit(Operation::Delete, request, operations);
            }
        }
    }

    /// Nothing is lost yet: the segment in use goes on while it has room.
    pub(super) fn housekeeping_failed(&mut self, now: Now, error: DiskError) {
        let (file, recycle) = match self.housekeeping.task.take() {
            Some(Task::Prepare { file, recycle }) => (Some(file), recycle),
            Some(Task::Delete(file)) => (Some(file), None),
            None => (None, None),
        };
        // Whatever is there under these names holds nothing that counts.
        self.housekeeping.doubtful.extend(recycle.into_iter().chain(file));
        let wait_us = match error.kind {
            DiskErrorKind::NoSpace => NO_SPACE_RETRY_US,
            DiskErrorKind::Io => RECOVERY_BACKOFF_US_MAX,
        };
        self.housekeeping.failed = Some((error, now.mono_us + wait_us));
    }

    /// What was appended waits for a segment that the full disk has no room for, and why.
    pub(crate) fn no_space(&self) -> Option<&str> {
        let (error, _) = self.housekeeping.failed.as_ref()?;
        let waits = self.housekeeping.needed && error.kind == DiskErrorKind::NoSpace;
        waits.then_some(error.detail.as_str())
    }
}
