//! Frames of a leased chunk, put together.
//!
//! A chunk's bounds stand in its lease and need not be those of batches: what a member gave back of
//! a chunk is a chunk of its own. Batches travel whole, so the first may begin before the chunk and
//! the last end behind it. Records that are settled already may be left out, and a frame without
//! batches names records that are damaged at the broker:
//!
//! ```text
//!  lease               chunk_first ├──────────────────────────────┤ chunk_last
//!  settled                              ├────────┤
//!  payloads        ├── batch ──┼─ batch ─┤       ├── batch ──┼── batch ──┤
//! ```

use bytes::Bytes;

use super::{LeasedChunk, Partition, SubscriptionError};
use crate::limits::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, CHUNK_BYTES_MAX, CHUNK_RANGES_MAX, CHUNK_RECORDS_MAX,
};
use crate::message::{Deliver, Lease, OffsetRange};
use crate::{Offset, batch};

impl Partition {
    /// Takes a frame of a chunk, and gives the chunk once it is whole.
    pub(super) fn gather(
        &mut self,
        deliver: &Deliver,
        lease: Lease,
        payload: Bytes,
        now_us: u64,
    ) -> Result<Option<LeasedChunk>, SubscriptionError> {
        let wrong = |what| SubscriptionError::Lease { partition: deliver.partition, what };
        let mut chunk = match self.chunk.take() {
            Some(chunk) if chunk.lease.generation == lease.generation => {
                if chunk.lease != lease {
                    return Err(wrong("a lease changed under one generation"));
                }
                chunk
            }
            // The broker took the rest of an older lease back, for instance after its deadline.
            Some(_) | None => self.begin(lease, now_us)?,
        };
        chunk.bytes += payload.len() as u64;
        if chunk.bytes > u64::from(CHUNK_BYTES_MAX) + 2 * u64::from(BATCH_BYTES_MAX) {
            return Err(wrong("a chunk of more bytes than the limit"));
        }
        chunk.high_watermark = Offset(deliver.high_watermark);
        let next = if payload.is_empty() {
            let lost = self.lost(&chunk, deliver)?;
            if chunk.damaged.len() >= CHUNK_RANGES_MAX {
                return Err(wrong("more damaged stretches than the limit"));
            }
            chunk.damaged.push(lost);
            lost.last.saturating_add(1)
        } else {
            let next = self.cover(&chunk, deliver, &payload)?;
            chunk.payloads.push(payload);
            next
        };
        if deliver.last >= lease.chunk_last {
            self.no_hole(&chunk, next, lease.chunk_last.saturating_add(1))?;
            return Ok(Some(chunk));
        }
        if next > lease.chunk_last {
            return Err(wrong("a delivery that goes further than it says"));
        }
        self.chunk_next = next;
        self.chunk = Some(chunk);
        Ok(None)
    }

    fn begin(&mut self, lease: Lease, now_us: u64) -> Result<LeasedChunk, SubscriptionError> {
        let wrong = |what| SubscriptionError::Lease { partition: self.index, what };
        let Lease { chunk_first: first, chunk_last: last, generation, .. } = lease;
        if last < first || last - first >= u64::from(CHUNK_RECORDS_MAX + BATCH_RECORDS_MAX) {
            return Err(wrong("a chunk of more records than the limit"));
        }
        let settled = match self.settled.take() {
            Some(settled) if settled.generation == generation => {
                if settled.chunk_first != first || !are_within(&settled.ranges, first, last) {
                    return Err(wrong("settled records outside the chunk"));
                }
                settled.ranges
            }
            // Of a lease that ended on the way.
            Some(_) | None => Vec::new(),
        };
        self.chunk_next = first;
        Ok(LeasedChunk {
            partition: self.index,
            lease,
            high_watermark: Offset(0),
            payloads: Vec::new(),
            settled,
            damaged: Vec::new(),
            bytes: 0,
            received_us: now_us,
        })
    }

    /// Checks the frame's batches against what is wanted next; gives the offset behind them.
    fn cover(
        &self,
        chunk: &LeasedChunk,
        deliver: &Deliver,
        payload: &Bytes,
    ) -> Result<u64, SubscriptionError> {
        let partition = self.index;
        let Lease { chunk_first, chunk_last, .. } = chunk.lease;
        let mut next = self.chunk_next;
        for (index, item) in batch::iter(payload).enumerate() {
            let checked = item.and_then(|(_, bytes)| batch::check(&bytes));
            let header = checked.map_err(|error| {
                let offset = next;
                SubscriptionError::Batch { partition, offset, error }
            })?;
            let (first, last) = (header.base_offset.0, header.last_offset().0);
            // Only the chunk's first batch may begin before the chunk, and it must reach into it.
            let overlaps = first < next && (next != chunk_first || last < next);
            if overlaps || first > chunk_last || (index == 0 && !says(first, deliver.first, next)) {
                return Err(SubscriptionError::Offset { partition, expected: next, found: first });
            }
            self.no_hole(chunk, next, first)?;
            next = last + 1;
        }
        let is_end = deliver.last >= chunk_last;
        if !is_end && deliver.last + 1 != next {
            let expected = deliver.last.saturating_add(1);
            return Err(SubscriptionError::Offset { partition, expected, found: next });
        }
        Ok(next)
    }

    /// A frame without batches: the records that it names are damaged, and nobody will get them.
    fn lost(
        &self,
        chunk: &LeasedChunk,
        deliver: &Deliver,
    ) -> Result<OffsetRange, SubscriptionError> {
        let Deliver { first, last, .. } = *deliver;
        if first < self.chunk_next || last < first || last > chunk.lease.chunk_last {
            let expected = self.chunk_next;
            return Err(SubscriptionError::Offset {
                partition: self.index,
                expected,
                found: first,
            });
        }
        self.no_hole(chunk, self.chunk_next, first)?;
        Ok(OffsetRange { first, last })
    }

    /// Whether everything from `from` to before `upto` is settled.
    fn no_hole(&self, chunk: &LeasedChunk, from: u64, upto: u64) -> Result<(), SubscriptionError> {
        let past = |at, range: &OffsetRange| {
            let covers = range.first <= at && at <= range.last;
            if covers { range.last.saturating_add(1) } else { at }
        };
        let expected = chunk.settled.iter().fold(from, past);
        if expected >= upto {
            return Ok(());
        }
        Err(SubscriptionError::Offset { partition: self.index, expected, found: upto })
    }
}

/// Whether a frame whose batches begin at `first` may say that it begins at `said`: there, or
/// where the chunk goes on.
fn says(first: u64, said: u64, next: u64) -> bool {
    said == first || (first < next && said == next)
}

/// Whether ranges rise without overlap from `first` to `last`.
fn are_within(ranges: &[OffsetRange], first: u64, last: u64) -> bool {
    let rising = ranges.windows(2).all(|pair| pair[0].last < pair[1].first);
    let forward = ranges.iter().all(|range| range.first <= range.last);
    let inside = |range: &OffsetRange| first <= range.first && range.last <= last;
    ranges.len() <= CHUNK_RANGES_MAX && rising && forward && ranges.iter().all(inside)
}
