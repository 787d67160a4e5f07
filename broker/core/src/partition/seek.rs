//! Finding where a subscription starts.

use std::sync::Arc;

use lanecast_wire::message::{GroupOptions, StartPosition};
use lanecast_wire::{ErrorCode, KeyHash};

use super::cursor::Subscriber;
use super::reader::{Fetched, Reader, batches};
use crate::disk::Operations;
use crate::log::Log;

/// A subscription that is not answered yet: its start has to be looked up in the log.
#[derive(Debug)]
pub(crate) struct Seek {
    pub(crate) subscriber: Subscriber,
    pub(crate) group: Option<GroupOptions>,
    pub(crate) wanted: Arc<[KeyHash]>,
    pub(crate) credit_bytes: u32,
    pub(crate) search: Search,
    /// The partition cannot be read for now, and whoever asks knows.
    pub(crate) told_offline: bool,
}

/// A position that is looked for.
#[derive(Debug)]
pub(crate) struct Search {
    start: StartPosition,
    /// A group starts where a batch does, since its chunks are whole batches. A cursor starts at any
    /// offset, also at one that retention took, so that it is told.
    whole_batches: bool,
    /// It goes on where it has been: a log that is shorter than that has lost its end.
    goes_on: bool,
    pub(crate) reader: Reader,
    /// Where the search stands, once it has begun.
    at: Option<u64>,
}

/// How far a seek has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    Found(u64),
    /// A read is under way.
    Waiting,
    Refused(ErrorCode),
}

impl Search {
    pub(crate) fn new(start: StartPosition, whole_batches: bool) -> Self {
        Search { start, whole_batches, goes_on: false, reader: Reader::default(), at: None }
    }

    /// For a subscriber that has been at `start`, in this log.
    pub(crate) fn going_on(start: StartPosition) -> Self {
        Search { goes_on: true, ..Search::new(start, false) }
    }

    /// Goes on with the search.
    pub(crate) fn step(&mut self, log: &mut Log, operations: &mut Operations) -> Sought {
        let end = log.durable_end();
        let (mut at, time_ms) = match self.start {
            StartPosition::Earliest => return Sought::Found(log.log_start()),
            StartPosition::Latest => return Sought::Found(end),
            StartPosition::Offset(offset) if offset > end && self.goes_on => {
                return Sought::Found(end);
            }
            StartPosition::Offset(offset) if offset > end => {
                return Sought::Refused(ErrorCode::OFFSET_OUT_OF_RANGE);
            }
            StartPosition::Offset(offset) if offset == end || !self.whole_batches => {
                return Sought::Found(offset);
            }
            StartPosition::Offset(offset) => (offset.max(log.log_start()), None),
            StartPosition::Timestamp(time_ms) => match self.at.or_else(|| log.seek_time(time_ms)) {
                Some(at) => (at, Some(time_ms)),
                None => return Sought::Found(end),
            },
        };
        // Ends within the stretch that the index names, or at the log's end.
        loop {
            self.at = Some(at);
            let block = match self.reader.fetch(at, log, operations) {
                Fetched::Block(block) => block,
                Fetched::Waiting => return Sought::Waiting,
                Fetched::Gone { log_start: next } | Fetched::Damaged { next } => {
                    at = next;
                    continue;
                }
                Fetched::AtEnd => return Sought::Found(end),
            };
            let found = batches(&block).map(|(_, header)| header).find(|header| match time_ms {
                Some(time_ms) => header.max_time_ms >= time_ms,
                None => header.last_offset().0 >= at,
            });
            match found {
                Some(header) => return Sought::Found(header.base_offset.0),
                None => at = block.end_offset(),
            }
        }
    }
}
