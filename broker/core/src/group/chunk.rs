//! A chunk from its first batch to its end, as far as it is forgotten by a restart.

use lanecast_wire::Offset;

use super::ledger::{ChunkKey, OpenChunk};
use super::limits::{BACKOFF_MS_MAX, BACKOFF_MS_MIN};
use super::{BatchBounds, MemberKey};

/// Batches that are gathered into the next chunk. In memory only: a restart gathers anew.
#[derive(Clone, Copy, Debug)]
pub(super) struct Building {
    pub(super) first: Offset,
    pub(super) last: Offset,
    pub(super) bytes: u32,
    /// When the first batch was offered, on the monotonic clock.
    pub(super) since_us: u64,
    /// When the first and the newest batch were appended, on the wall clock.
    pub(super) appended_ms: (i64, i64),
}

impl Building {
    pub(super) fn begin(batch: BatchBounds, now_us: u64) -> Self {
        Self {
            first: batch.first,
            last: batch.last,
            bytes: batch.bytes,
            since_us: now_us,
            appended_ms: (batch.appended_ms, batch.appended_ms),
        }
    }

    pub(super) fn add(&mut self, batch: BatchBounds) {
        self.last = batch.last;
        self.bytes = self.bytes.saturating_add(batch.bytes);
        self.appended_ms.1 = self.appended_ms.1.max(batch.appended_ms);
    }

    pub(super) fn records(&self) -> u64 {
        self.last.0 - self.first.0 + 1
    }
}

/// What is known of a chunk beside its ledger entry.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) state: ChunkState,
    /// Records whose end is not durable.
    pub(super) unsettled: u64,
    /// The first of them.
    pub(super) floor: Offset,
    /// It was on lease since the broker started.
    pub(super) handed_out: bool,
    /// What became of its last hand-out, for people.
    pub(super) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// Its bounds, or that it failed, are not durable yet; then it rests until this time.
    Binding {
        until_us: u64,
    },
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
    /// Failed for the last time; waits for room among the dead letters.
    Doomed,
    /// Finished; that is not durable yet.
    Settling,
}

impl Slot {
    pub(super) fn new(chunk: &OpenChunk, state: ChunkState) -> Self {
        Self {
            state,
            unsettled: chunk.open_records(),
            floor: chunk.first_open(),
            handed_out: false,
            reason: String::new(),
        }
    }
}

/// How long a chunk rests after it has failed so often.
pub(super) fn backoff_ms(chunk: ChunkKey, attempts: u32, seed: u64) -> u64 {
    let doublings = attempts.saturating_sub(1).min(32);
    let rest = (BACKOFF_MS_MIN << doublings).min(BACKOFF_MS_MAX);
    let draw = mix(&[seed, chunk.first.0, chunk.last.0, u64::from(attempts)]);
    rest + draw % (rest / 2 + 1)
}

/// One number drawn from several: the finisher of splitmix64 (Steele, Lea, Flood 2014) over each.
pub(super) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0, |state: u64, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn backoff_grows_to_its_cap_and_what_failed_together_comes_back_apart(
            first in 0_u64..1 << 60,
            attempts in prop_oneof![1_u32..12, any::<u32>()],
            seed: u64,
        ) {
            let rest = match attempts {
                0..=1 => BACKOFF_MS_MIN,
                2..=8 => (BACKOFF_MS_MIN << (attempts - 1)).min(BACKOFF_MS_MAX),
                _ => BACKOFF_MS_MAX,
            };
            let of = |n: u64| {
                let first = first + 100 * n;
                backoff_ms(ChunkKey::new(Offset(first), Offset(first + 99)), attempts, seed)
            };
            let drawn: BTreeSet<u64> = (0..64).map(of).collect();
            let (least, most) = (*drawn.first().unwrap(), *drawn.last().unwrap());
            prop_assert!(rest <= least && most <= rest + rest / 2, "{least} {most} of {rest}");
            prop_assert!(most <= BACKOFF_MS_MAX + BACKOFF_MS_MAX / 2);
            // That one half of the range has all 64 draws is a chance of 1 in 10^17.
            prop_assert!(most - least > rest / 4, "{least} {most} of {rest}");
            prop_assert!(drawn.len() > 20, "{drawn:?}");
            // A repeat of the history is the same.
            prop_assert_eq!(of(0), of(0));
        }
    }
}
