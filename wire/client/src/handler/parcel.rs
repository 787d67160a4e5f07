//! One delivery on its way through the handlers.
//!
//! ```text
//!  arrived ─▶ waiting ─▶ records start, a worker each ─▶ all finished ─▶ settled
//!                │                                            ▲
//!                └── the subscription is left: no more start ─┘   what never started stays open
//! ```

use std::sync::{Arc, Mutex, MutexGuard};

use lanecast_wire::message::OffsetRange;
use tokio::time::{Duration, Instant};

use super::error::Then;
use crate::error::AckError;
use crate::limits::NACK_PARTS_MAX;
use crate::subscriber::{Batches, Chunk, Extension, OpenRanges};

/// A delivery whose records are with handlers, or will be.
pub(super) struct Parcel {
    pub(super) attempt: u32,
    /// Of a chunk: how to ask for more time, and how much.
    pub(super) lease: Option<(Extension, Duration)>,
    progress: Mutex<Progress>,
}

struct Progress {
    source: Option<Source>,
    /// What became of the records is being told.
    settling: bool,
    /// Records that are with handlers now.
    running: u64,
    /// No more will start.
    all_started: bool,
    done: OpenRanges,
    failed: Vec<Failed>,
    /// When a record started or finished last.
    moved: Instant,
    /// When the lease ends.
    deadline: Option<Instant>,
}

/// What has to be told of the parcel's end.
pub(super) enum Source {
    Chunk(Chunk),
    /// Its credit goes back when it is dropped.
    Batches {
        _batches: Batches,
    },
}

struct Failed {
    range: OffsetRange,
    then: Then,
    reason: String,
}

/// Records that are given back for one reason.
struct Again {
    delay: Duration,
    reason: String,
    ranges: Vec<OffsetRange>,
}

/// What settling a parcel came to, in records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settled {
    pub(super) acked: u64,
    pub(super) nacked: u64,
    pub(super) terminated: u64,
    /// Nobody knows, or the lease was lost: they come again.
    pub(super) lost: u64,
}

impl Parcel {
    pub(super) fn new(attempt: u32, source: Source, lease: Duration) -> Self {
        let (lease, deadline) = match &source {
            Source::Chunk(chunk) => (Some((chunk.extension(lease), lease)), Some(chunk.deadline())),
            Source::Batches { .. } => (None, None),
        };
        let progress = Progress {
            source: Some(source),
            settling: false,
            running: 0,
            all_started: false,
            done: OpenRanges::none(),
            failed: Vec::new(),
            moved: Instant::now(),
            deadline,
        };
        Self { attempt, lease, progress: Mutex::new(progress) }
    }

    pub(super) fn started(&self) {
        let mut progress = self.lock();
        progress.running += 1;
        progress.moved = Instant::now();
    }

    /// Whether nothing is left to wait for.
    pub(super) fn all_started(&self) -> bool {
        let mut progress = self.lock();
        progress.all_started = true;
        progress.running == 0
    }

    /// A handler has finished `ranges`, of which `failed` did not go well. Whether nothing is left
    /// to wait for.
    pub(super) fn finished(
        &self,
        ranges: &[OffsetRange],
        failed: Option<(&[OffsetRange], Then, String)>,
    ) -> bool {
        let mut progress = self.lock();
        progress.running -= 1;
        progress.moved = Instant::now();
        ranges.iter().for_each(|range| progress.done.insert(*range));
        progress.fail(failed);
        progress.all_started && progress.running == 0
    }

    /// Records that are not there: there is nothing to do for them.
    pub(super) fn passed(&self, ranges: &[OffsetRange]) {
        let mut progress = self.lock();
        ranges.iter().for_each(|range| progress.done.insert(*range));
    }

    /// Records that no handler can be given.
    pub(super) fn unreadable(&self, ranges: &[OffsetRange], reason: String) {
        self.lock().fail(Some((ranges, Then::Terminate, reason)));
    }

    /// What is to be done about the lease at `now`: ask for more time, and when to look again. A
    /// parcel none of whose running handlers has moved for `stuck_after` gets no more.
    pub(super) fn keep(&self, now: Instant, stuck_after: Duration) -> Option<(bool, Instant)> {
        let (_, lease) = self.lease.as_ref()?;
        let mut progress = self.lock();
        if progress.source.is_none() && !progress.settling {
            return None;
        }
        let due = progress.deadline? - *lease / 2;
        if now < due {
            return Some((false, due));
        }
        if progress.running > 0 && now.saturating_duration_since(progress.moved) >= stuck_after {
            return None;
        }
        progress.deadline = Some(now + *lease);
        Some((true, now + *lease / 2))
    }

    /// Tells the broker what became of the records; those that never started are left open.
    pub(super) async fn settle(&self, retry_delay: Duration) -> Settled {
        let settled = self.tell(retry_delay).await;
        self.lock().settling = false;
        settled
    }

    /// First what went well, then what nobody can handle: after that nothing but failures is open
    /// between failures, and many of one kind can be given back as one part.
    async fn tell(&self, retry_delay: Duration) -> Settled {
        let (source, done, failed) = {
            let mut progress = self.lock();
            progress.settling = true;
            let done = std::mem::replace(&mut progress.done, OpenRanges::none());
            (progress.source.take(), done, std::mem::take(&mut progress.failed))
        };
        let Some(Source::Chunk(mut chunk)) = source else { return Settled::default() };
        let mut settled = Settled::default();
        let answer = chunk.ack_ranges(done.ranges()).await;
        count(answer, done.records(), &mut settled.acked, &mut settled.lost);
        let mut again = Vec::new();
        for (then, reason, ranges) in grouped(failed) {
            let delay = match then {
                Then::Retry(delay) => delay.unwrap_or(retry_delay),
                Then::Terminate => match chunk.terminate(&ranges, &reason).await {
                    // There may be no dead-letter topic: then it is the group's again.
                    Err(AckError::Refused { code, message }) => {
                        tracing::warn!(%code, message, "records could not be terminated");
                        retry_delay
                    }
                    answer => {
                        let records = records(&ranges);
                        count(answer, records, &mut settled.terminated, &mut settled.lost);
                        continue;
                    }
                },
            };
            again.push(Again { delay, reason, ranges });
        }
        // Each range becomes a chunk of its own, unless they are too many.
        let ranges = again.iter().map(|again| again.ranges.len()).sum::<usize>();
        let parts = again.iter().map(|again| chunk.parts(&again.ranges).len()).sum::<usize>();
        if parts > NACK_PARTS_MAX {
            again = Again::joined(again).into_iter().collect();
        }
        for Again { delay, reason, ranges: failed } in again {
            let parts = match ranges {
                ..=NACK_PARTS_MAX => failed.clone(),
                _ => joined(chunk.parts(&failed), NACK_PARTS_MAX),
            };
            let answer = chunk.nack_parts(&parts, delay, &reason).await;
            count(answer, records(&failed), &mut settled.nacked, &mut settled.lost);
        }
        settled
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics under the lock")
    }
}

impl Again {
    /// All of them as one: nothing comes again sooner than it should.
    fn joined(all: Vec<Self>) -> Option<Self> {
        let others = all.len().checked_sub(1)?;
        let delay = all.iter().map(|again| again.delay).max()?;
        let mut ranges = OpenRanges::none();
        all.iter().flat_map(|again| &again.ranges).for_each(|range| ranges.insert(*range));
        let reason = all.into_iter().next()?.reason;
        let reason =
            if others == 0 { reason } else { format!("{reason} (and {others} other reasons)") };
        Some(Self { delay, reason, ranges: ranges.ranges().to_vec() })
    }
}

impl Progress {
    fn fail(&mut self, failed: Option<(&[OffsetRange], Then, String)>) {
        let Some((ranges, then, reason)) = failed else { return };
        for range in ranges {
            self.done.remove(*range);
            self.failed.push(Failed { range: *range, then, reason: reason.clone() });
        }
    }
}

fn count(answer: Result<(), AckError>, records: u64, counted: &mut u64, lost: &mut u64) {
    match answer {
        Ok(()) => *counted += records,
        Err(error) => {
            tracing::debug!(%error, records, "records could not be settled");
            *lost += records;
        }
    }
}

pub(super) fn records(ranges: &[OffsetRange]) -> u64 {
    ranges.iter().map(|range| range.last - range.first + 1).sum()
}

/// Ranges with one fate and one reason, joined where they touch.
fn grouped(mut failed: Vec<Failed>) -> Vec<(Then, String, Vec<OffsetRange>)> {
    failed.sort_by(|a, b| {
        (a.then, &a.reason, a.range.first).cmp(&(b.then, &b.reason, b.range.first))
    });
    let mut groups: Vec<(Then, String, OpenRanges)> = Vec::new();
    for Failed { range, then, reason } in failed {
        match groups.last_mut() {
            Some((last, text, ranges)) if (*last, &*text) == (then, &reason) => {
                ranges.insert(range)
            }
            Some(_) | None => {
                let mut ranges = OpenRanges::none();
                ranges.insert(range);
                groups.push((then, reason, ranges));
            }
        }
    }
    let plain =
        |(then, reason, ranges): (_, _, OpenRanges)| (then, reason, ranges.ranges().to_vec());
    groups.into_iter().map(plain).collect()
}

/// At most `max` ranges that cover these: the narrowest gaps are closed.
fn joined(ranges: Vec<OffsetRange>, max: usize) -> Vec<OffsetRange> {
    let gap_behind = |pair: &[OffsetRange]| pair[1].first - pair[0].last;
    let mut gaps: Vec<u64> = ranges.windows(2).map(gap_behind).collect();
    let Some(closed) = ranges.len().checked_sub(max).filter(|closed| *closed > 0) else {
        return ranges;
    };
    gaps.sort_unstable();
    let narrow = gaps[closed - 1];
    let mut parts: Vec<OffsetRange> = Vec::new();
    for range in ranges {
        match parts.last_mut() {
            Some(last) if range.first - last.last <= narrow => last.last = range.last,
            Some(_) | None => parts.push(range),
        }
    }
    parts
}

/// Shared by the dispatcher and the handlers' tasks.
pub(super) type SharedParcel = Arc<Parcel>;

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> OffsetRange {
        OffsetRange { first, last }
    }

    #[test]
    fn failures_with_one_reason_are_told_together() {
        let failed = |at: u64, then, reason: &str| Failed {
            range: range(at, at),
            then,
            reason: reason.to_owned(),
        };
        let again = Then::Retry(None);
        let groups = grouped(vec![
            failed(7, again, "busy"),
            failed(3, Then::Terminate, "broken"),
            failed(5, again, "busy"),
            failed(6, again, "busy"),
            failed(1, again, "late"),
            failed(9, again, "busy"),
        ]);
        let expected = [
            (again, "busy".to_owned(), vec![range(5, 7), range(9, 9)]),
            (again, "late".to_owned(), vec![range(1, 1)]),
            (Then::Terminate, "broken".to_owned(), vec![range(3, 3)]),
        ];
        assert_eq!(groups, expected);
    }

    #[test]
    fn more_parts_than_may_be_are_joined_over_the_narrowest_gaps() {
        let parts = vec![range(0, 0), range(2, 2), range(10, 10), range(13, 13)];
        assert_eq!(joined(parts.clone(), 4), parts);
        assert_eq!(joined(parts.clone(), 3), [range(0, 2), range(10, 10), range(13, 13)]);
        assert_eq!(joined(parts.clone(), 2), [range(0, 2), range(10, 13)]);
        assert_eq!(joined(parts, 1), [range(0, 13)]);
    }
}
