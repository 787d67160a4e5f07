//! Disk requests of one shard: numbered here, told apart by the log that asked.
//!
//! Reads wait for memory: what they bring is held until the last subscriber has taken its part, and
//! all of it together stays within the shard's share. They are submitted in the order in which
//! they were asked for; everything else goes ahead of them. Recovery reads without waiting for memory,
//! but only so much at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::budget::Gauge;
use crate::limits::{READ_COPIES, RECOVERY_READS_MAX};
use crate::{Budget, DiskDone, DiskError, DiskRequest, LogId, OperationId};

/// Whose an operation is, and what memory is set aside for it.
#[derive(Clone, Copy, Debug)]
struct Submitted {
    log: LogId,
    recovers: bool,
    reserved: u64,
}

/// Hands out operation ids and remembers whose they are until their answer comes.
#[derive(Debug)]
pub(crate) struct Operations {
    next: u64,
    owners: BTreeMap<OperationId, Submitted>,
    requests: VecDeque<(OperationId, DiskRequest)>,
    recoveries: VecDeque<(OperationId, DiskRequest)>,
    recovering: usize,
    /// Reads for subscribers, each with its bytes.
    reads: VecDeque<(OperationId, DiskRequest, u64)>,
    /// Of all of these.
    reads_bytes: u64,
    budget: Arc<Budget>,
    /// Buffers that this shard has read and somebody still holds.
    held: Gauge,
    /// Set aside for reads under way.
    reserved: u64,
    /// The next read waits for memory.
    short: bool,
}

impl Operations {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Operations {
            next: 0,
            owners: BTreeMap::new(),
            requests: VecDeque::new(),
            recoveries: VecDeque::new(),
            recovering: 0,
            reads: VecDeque::new(),
            reads_bytes: 0,
            budget,
            held: Gauge::default(),
            reserved: 0,
            short: false,
        }
    }

    pub(crate) fn submit(&mut self, log: LogId, request: DiskRequest) -> OperationId {
        let operation = self.enter(log, false);
        match request {
            DiskRequest::Read { bytes, .. } => {
                self.reads_bytes += u64::from(bytes);
                self.reads.push_back((operation, request, u64::from(bytes)));
            }
            DiskRequest::OpenLog { .. }
            | DiskRequest::PrepareSegment { .. }
            | DiskRequest::Commit { .. }
            | DiskRequest::DeleteSegment { .. }
            | DiskRequest::WriteWitness { .. }
            | DiskRequest::RemoveLog { .. } => self.requests.push_back((operation, request)),
        }
        operation
    }

    /// The same, of a read that a log needs to open.
    pub(crate) fn submit_recovery(&mut self, log: LogId, request: DiskRequest) -> OperationId {
        let operation = self.enter(log, true);
        self.recoveries.push_back((operation, request));
        operation
    }

    fn enter(&mut self, log: LogId, recovers: bool) -> OperationId {
        let operation = OperationId(self.next);
        self.next += 1;
        self.owners.insert(operation, Submitted { log, recovers, reserved: 0 });
        operation
    }

    /// The next request that the shell has not seen and that there is memory for.
    pub(crate) fn poll(&mut self) -> Option<(OperationId, DiskRequest)> {
        if let Some(request) = self.requests.pop_front() {
            return Some(request);
        }
        if self.recovering < RECOVERY_READS_MAX
            && let Some(request) = self.recoveries.pop_front()
        {
            self.recovering += 1;
            return Some(request);
        }
        let read_bytes = self.reads.front()?.2;
        let bytes = READ_COPIES * read_bytes;
        let used = self.held.bytes() + self.reserved;
        // A read larger than the whole share comes alone.
        let short = used > 0 && used + bytes > self.budget.shares().reads_per_shard;
        self.set_short(short);
        if short {
            return None;
        }
        let (operation, request, _) = self.reads.pop_front()?;
        self.reads_bytes -= read_bytes;
        self.reserved += bytes;
        self.budget.reads.add(bytes);
        if let Some(submitted) = self.owners.get_mut(&operation) {
            submitted.reserved = bytes;
        }
        Some((operation, request))
    }

    /// Is there memory for a read that nobody waits for yet? Half of the share is for those that are
    /// waited for.
    pub(crate) fn has_room_ahead(&self, bytes: u32) -> bool {
        let more = READ_COPIES * (self.reads_bytes + u64::from(bytes));
        self.held.bytes() + self.reserved + more <= self.budget.shares().reads_per_shard / 2
    }

    /// An answer has come: which log asked? `None` for an operation that was never submitted or
    /// has been answered before. What was read for a subscriber counts from now on, until it is
    /// dropped.
    pub(crate) fn complete(
        &mut self,
        operation: OperationId,
        outcome: &mut Result<DiskDone, DiskError>,
    ) -> Option<LogId> {
        let Submitted { log, recovers, reserved } = self.owners.remove(&operation)?;
        self.recovering -= usize::from(recovers);
        self.reserved -= reserved;
        self.budget.reads.give_back(reserved);
        if let Ok(DiskDone::Read { bytes }) = outcome
            && !recovers
        {
            *bytes = self.budget.reads.hold(self.held.hold(std::mem::take(bytes)));
        }
        Some(log)
    }

    /// Requests so far.
    pub(crate) fn asked_for(&self) -> u64 {
        self.next
    }

    /// Does a log wait for an answer?
    pub(crate) fn is_used_by(&self, log: LogId) -> bool {
        self.owners.values().any(|owner| owner.log == log)
    }

    /// Requests without an answer.
    pub(crate) fn in_flight(&self) -> usize {
        self.owners.len()
    }

    /// Reads wait for memory that others hold: worth looking again in a moment.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    fn set_short(&mut self, short: bool) {
        if self.short != short {
            self.short = short;
            self.budget.reads_are_short(short);
        }
    }
}

#[cfg(test)]
impl Default for Operations {
    fn default() -> Self {
        Operations::new(Arc::new(Budget::new(0, 1)))
    }
}

impl Drop for Operations {
    fn drop(&mut self) {
        self.budget.reads.give_back(self.reserved);
        self.set_short(false);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::SegmentId;
    use crate::limits::READ_BYTES;

    fn read() -> DiskRequest {
        let (log, segment) = (LogId::Catalog, SegmentId(1));
        DiskRequest::Read { log, segment, position: 0, bytes: READ_BYTES }
    }

    #[test]
    fn reads_wait_until_what_was_read_before_is_let_go() {
        let budget = Arc::new(Budget::new(0, 1));
        let mut operations = Operations::new(Arc::clone(&budget));
        let at_once = budget.shares().reads_per_shard / u64::from(READ_BYTES) / READ_COPIES;
        for _ in 0..4 * at_once {
            operations.submit(LogId::Catalog, read());
        }
        let mut held = Vec::new();
        let mut under_way = Vec::new();
        while let Some((operation, _)) = operations.poll() {
            under_way.push(operation);
        }
        assert_eq!(under_way.len() as u64, at_once);
        assert!(operations.is_short() && budget.is_pressed());
        // Half of the memory of each is free again, for half as many more.
        for operation in under_way {
            let bytes = Bytes::from(vec![0; READ_BYTES as usize]);
            let mut outcome = Ok(DiskDone::Read { bytes });
            assert_eq!(operations.complete(operation, &mut outcome), Some(LogId::Catalog));
            held.push(outcome);
        }
        let more: Vec<_> = std::iter::from_fn(|| operations.poll()).collect();
        assert_eq!(more.len() as u64, at_once / 2);
        assert!(budget.reads.bytes() <= budget.shares().reads_per_shard);
        held.clear();
        assert!(operations.poll().is_some());
        // What recovers is not held up by what reads, nor is what writes.
        operations.submit_recovery(LogId::Catalog, read());
        while operations.poll().is_some() {}
        assert!(operations.is_short());
        operations.submit_recovery(LogId::Catalog, read());
        assert!(operations.poll().is_some());
        operations.submit(LogId::Catalog, DiskRequest::OpenLog { log: LogId::Catalog });
        assert!(matches!(operations.poll(), Some((_, DiskRequest::OpenLog { .. }))));
        drop(operations);
        assert_eq!(budget.reads.bytes(), 0);
        assert!(!budget.is_pressed());
    }
}
