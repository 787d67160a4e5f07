//! What a handler of chunks gets.

use std::sync::Arc;

use bytes::Bytes;
use lanecast_wire::Offset;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::OffsetRange;

use crate::received::{MessageBatch, Origin, ReceivedMessage, Unreadable};

/// Records of one partition that are handled together: a leased chunk of a group's member, or what
/// one frame brought to a broadcast subscription.
///
/// A chunk's bounds never change, whoever gets it next: an effect that is keyed by
/// `topic/partition/first-last` happens once.
#[derive(Clone, Debug)]
pub struct ReceivedChunk {
    pub topic: Arc<str>,
    pub partition: u32,
    /// First and last offset, both included.
    pub first: Offset,
    pub last: Offset,
    /// 1 for whatever comes for the first time, and always for broadcast.
    pub attempt: u32,
    /// Whole batches, in order; see [`Chunk::payloads`](crate::Chunk::payloads).
    pub payloads: Vec<Bytes>,
    pub(super) open: Vec<OffsetRange>,
}

impl ReceivedChunk {
    /// The records to handle, rising: all between the bounds but those that an earlier attempt has
    /// settled.
    #[must_use]
    pub fn open_ranges(&self) -> &[OffsetRange] {
        &self.open
    }

    /// Number of records in [`Self::open_ranges`].
    #[must_use]
    pub fn open_records(&self) -> u64 {
        self.open.iter().map(|range| range.last - range.first + 1).sum()
    }

    /// The batches of all payloads, in order, whatever is in them. Not everything in them needs to
    /// be open.
    pub fn batches(&self) -> impl Iterator<Item = (BatchHeader, Bytes)> + '_ {
        let whole = |item: Result<_, _>| item.expect("the session has checked every batch");
        self.payloads.iter().flat_map(batch::iter).map(whole)
    }

    /// The open records, as messages.
    ///
    /// # Errors
    /// A batch has no messages; its place is taken by the error.
    pub fn messages(&self) -> impl Iterator<Item = Result<ReceivedMessage, Unreadable>> + '_ {
        self.batches().flat_map(|(header, bytes)| {
            let origin = Origin {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                attempt: self.attempt,
            };
            match MessageBatch::open(origin, header, &bytes) {
                Ok(batch) => {
                    let open = (0..batch.len()).filter(|index| self.is_open(batch.offset(*index)));
                    open.map(|index| Ok(batch.message(index))).collect::<Vec<_>>()
                }
                Err(error) => vec![Err(error)],
            }
        })
    }

    fn is_open(&self, offset: Offset) -> bool {
        let at = self.open.partition_point(|range| range.last < offset.0);
        self.open.get(at).is_some_and(|range| range.first <= offset.0)
    }
}
