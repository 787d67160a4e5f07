//! A chunk from its first batch to its ack.

use lanecast_wire::Offset;

use super::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN};
use super::{BatchBounds, MemberKey, OpenChunk};

/// Batches that are gathered into the next chunk. In memory only: a restart gathers anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Building {
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) bytes: u32,
    /// When the first batch was offered, on the monotonic clock.
    pub(super) since_us: u64,
}

impl Building {
    pub(super) fn begin(batch: BatchBounds, now_us: u64) -> Self {
        Self { first: batch.first, last: batch.last, bytes: batch.bytes, since_us: now_us }
    }

    pub(super) fn records(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// A chunk whose bounds stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) last: Offset,
    pub(super) bytes: u32,
    /// Hand-outs so far, the present one included.
    pub(super) attempts: u32,
    pub(super) state: ChunkState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// The bounds are not durable yet.
    Binding,
    Ready,
    /// Rests after a failure.
    Delayed {
        until_us: u64,
    },
    Leased {
        member: MemberKey,
        generation: u64,
        deadline_us: u64,
    },
    /// Acked; the ack is not durable yet.
    Acking,
}

impl Chunk {
    pub(super) fn records(&self, first: Offset) -> u64 {
        self.last.0 - first.0 + 1
    }

    /// How long the chunk rests after its `attempts`-th hand-out failed.
    pub(super) fn backoff_ms(&self) -> u64 {
        let doublings = self.attempts.saturating_sub(1).min(32);
        (BACKOFF_MS_MIN << doublings).min(BACKOFF_MS_MAX)
    }

    /// The chunk as a snapshot remembers it; `None` once it is acked.
    pub(super) fn open(&self, first: Offset) -> Option<OpenChunk> {
        match self.state {
            ChunkState::Binding
            | ChunkState::Ready
            | ChunkState::Delayed { .. }
            | ChunkState::Leased { .. } => Some(OpenChunk {
                first,
                last: self.last,
                bytes: self.bytes,
                attempts: self.attempts,
            }),
            ChunkState::Acking => None,
        }
    }
}

impl From<OpenChunk> for Chunk {
    fn from(open: OpenChunk) -> Self {
        Self {
            last: open.last,
            bytes: open.bytes,
            attempts: open.attempts,
            state: ChunkState::Ready,
        }
    }
}
