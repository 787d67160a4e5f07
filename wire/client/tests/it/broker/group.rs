//! The scripted broker's one consumer group: a chunk per batch, and what was given back.

use super::*;

/// A chunk under lease, or one that waits to be handed out again.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) partition: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) generation: u64,
    pub(crate) attempt: u32,
    /// Not settled.
    pub(crate) open: BTreeSet<u64>,
}

impl Held {
    pub(super) fn to_wire(&self, lease_ms: u32) -> Lease {
        let (chunk_first, chunk_last) = (self.first, self.last);
        let (generation, attempt) = (self.generation, self.attempt);
        Lease { chunk_first, chunk_last, generation, attempt, lease_ms, appended_ms: 0 }
    }
}

/// First and last offset of the chunk in a batch, and the batch unless it is damaged.
pub(super) type Frame = (u64, u64, Option<Bytes>);

/// The next chunk of a partition, if this member may have one more.
pub(super) fn hand_out(
    state: &mut State,
    partition: u32,
    group: &GroupOptions,
    leases: &[Held],
    next: &mut u64,
) -> Option<(Held, Vec<Frame>)> {
    let held = leases.iter().filter(|lease| lease.partition == partition);
    if held.count() >= group.chunks_in_flight as usize {
        return None;
    }
    let returned = state.returned.iter().position(|held| held.partition == partition);
    let mut held = match returned {
        Some(at) => state.returned.remove(at),
        None => {
            let position = *state.group_next.entry(partition).or_insert(*next);
            let log = &state.logs[partition as usize];
            let batch = log.batches.iter().find(|batch| base(batch) == position)?;
            let (first, last) = (position, last(batch));
            state.group_next.insert(partition, last + 1);
            let (generation, attempt) = (0, 1);
            let open = (first..=last).collect();
            Held { partition, first, last, generation, attempt, open }
        }
    };
    state.generation += 1;
    held.generation = state.generation;
    let overlaps = |batch: &&Bytes| base(batch) <= held.last && last(batch) >= held.first;
    let frame = |batch: &Bytes| {
        let payload = Some(batch.clone()).filter(|_| !state.damaged.contains(&base(batch)));
        (base(batch).max(held.first), last(batch).min(held.last), payload)
    };
    let log = &state.logs[partition as usize];
    let frames = log.batches.iter().filter(overlaps).map(frame).collect();
    Some((held, frames))
}

/// What the member must be told of the chunk.
pub(super) fn settled(held: &Held, subscription: u32) -> Option<Settled> {
    let one = |offset| OffsetRange { first: offset, last: offset };
    let done = (held.first..=held.last).filter(|offset| !held.open.contains(offset));
    let ranges: Vec<_> = done.map(one).collect();
    let (partition, chunk_first, generation) = (held.partition, held.first, held.generation);
    let settled = Settled { subscription, partition, chunk_first, generation, ranges };
    (!settled.ranges.is_empty()).then_some(settled)
}

pub(super) fn base(batch: &Bytes) -> u64 {
    BatchHeader::decode(batch).unwrap().base_offset.0
}

fn last(batch: &Bytes) -> u64 {
    BatchHeader::decode(batch).unwrap().last_offset().0
}
