//! Which batches of a block a broadcast subscription gets, by their headers and key summaries.

use lanecast_wire::batch;
use lanecast_wire::message::MissedReason;
use lanecast_wire::summary::may_contain;
use lanecast_wire::{KeyHash, batch::BatchHeader};

use super::reader::batches;
use crate::log::Block;
use crate::mutants::{Mutant, planted};

/// What a subscription leaves out at some moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sieve<'c> {
    /// Keys of which a batch may have one; empty: any batch will do.
    wanted: &'c [KeyHash],
    /// Batches that were appended at or before this wall clock are too old.
    expired_at_ms: i64,
}

/// Batches next to each other that share a fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// `None`: they are delivered.
    pub(crate) left_out: Option<MissedReason>,
    /// First offset behind them.
    pub(crate) end: u64,
    pub(crate) bytes: usize,
    /// Batches that were looked at, those before `from` included.
    pub(crate) looked_at: usize,
}

impl<'c> Sieve<'c> {
    /// Batches that were appended at or before `horizon_ms` are too old; `None`: no batch is.
    pub(crate) fn new(wanted: &'c [KeyHash], horizon_ms: Option<i64>) -> Self {
        Sieve {
            wanted,
            expired_at_ms: horizon_ms
                .filter(|_| !planted(Mutant::DeliverExpired))
                .unwrap_or(i64::MIN),
        }
    }

    /// The run that begins with the batch that holds `from`.
    pub(crate) fn run(&self, block: &Block, from: u64) -> Run {
        if self.wanted.is_empty() && self.expired_at_ms == i64::MIN {
            let (end, bytes) = (block.end_offset(), block.payload.len());
            return Run { left_out: None, end, bytes, looked_at: 0 };
        }
        // What no header explains is delivered, as without a sieve.
        let mut run = Run { left_out: None, end: u64::MAX, bytes: 0, looked_at: 0 };
        for (at, header) in batches(block) {
            run.looked_at += 1;
            if header.last_offset().0 < from {
                continue;
            }
            let whole = block.payload.get(at..at + header.batch_bytes());
            let left_out = whole.and_then(|whole| self.leaves_out(&header, whole));
            if run.bytes == 0 {
                run.left_out = left_out;
            } else if run.left_out != left_out && !planted(Mutant::LeaveOutNeighbours) {
                break;
            }
            run.end = header.last_offset().0 + 1;
            run.bytes += header.batch_bytes();
        }
        run
    }

    /// A batch that nobody asked for is not missed for its age.
    fn leaves_out(&self, header: &BatchHeader, whole: &[u8]) -> Option<MissedReason> {
        let summary = batch::summary(whole);
        if !self.wanted.is_empty() && !self.wanted.iter().any(|key| may_contain(summary, *key)) {
            return Some(MissedReason::Filtered);
        }
        (header.append_time_ms <= self.expired_at_ms).then_some(MissedReason::Expired)
    }
}
