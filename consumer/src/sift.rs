//! A chunk's open records, parted into one block of rows and those that no store will take.
//!
//! What is parted depends on nothing but the chunk and the rule: a record's time is held against the
//! moment the broker appended it, which is stamped in its batch and never changes. Why every attempt
//! at a chunk makes the same block, as its token demands, also over a change of the rule, stands in
//! the crate's page.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_client::OffsetRange;
use lanecast_store::limits::BLOCK_ROWS_MAX;
use lanecast_store::{NativeBlock, Rows};
use lanecast_telemetry::TelemetryView;
use lanecast_wire::batch::{self, BatchHeader};

use crate::limits;
use crate::refused::{Reason, Refused, records};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// Which times the store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRule {
    /// Days that the raw table keeps; 0 for ever.
    pub retention_days: u32,
}

/// What a time is under a [`TimeRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Kept,
    TooOld,
    TooNew,
}

impl TimeRule {
    fn judge(self, ts_ms: i64, append_time_ms: i64) -> Verdict {
        let ahead_ms = limits::AHEAD_MAX.as_millis() as i64;
        let kept_ms = i64::from(self.retention_days).saturating_mul(DAY_MS);
        if ts_ms > append_time_ms.saturating_add(ahead_ms) {
            Verdict::TooNew
        } else if self.retention_days > 0 && ts_ms < append_time_ms.saturating_sub(kept_ms) {
            Verdict::TooOld
        } else {
            Verdict::Kept
        }
    }
}

/// A chunk, parted.
#[derive(Debug, Default)]
pub struct Sifted {
    /// In ClickHouse's Native format; empty when `rows` is 0.
    pub block: Bytes,
    pub rows: u64,
    /// One for each reason.
    pub refused: Vec<Refused>,
    /// When the producer began each batch, and how many of its rows are in the block.
    pub created: Vec<Created>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub created_ms: i64,
    pub rows: u64,
}

/// A batch with open records.
struct Found {
    header: BatchHeader,
    batch: Bytes,
    open: Vec<OffsetRange>,
}

/// A batch that can be read, and which of its rows are kept.
struct Opened<'p> {
    header: &'p BatchHeader,
    view: TelemetryView<'p>,
    /// `None`: all of them.
    kept: Option<Vec<u32>>,
}

/// Parts the `open` records, rising ranges of offsets, of a chunk of `partition`: each is in the
/// block or refused. Others in the payloads are left alone.
#[must_use]
pub fn sift(rule: TimeRule, partition: u32, open: &[OffsetRange], payloads: &[Bytes]) -> Sifted {
    let mut refusals = Refusals::default();
    let found = find(open, payloads, &mut refusals);
    let mut opened = Vec::with_capacity(found.len());
    let mut rows_max = 0;
    for Found { header, batch, open } in &found {
        let view = match view(header, batch) {
            Ok(view) => view,
            Err(why) => {
                refusals.add_all(&Reason::InvalidBatch(why), open);
                continue;
            }
        };
        // Only a broker that ignores the bounds of chunks sends this many.
        rows_max += records(open) as usize;
        if rows_max > BLOCK_ROWS_MAX {
            let why = format!("its chunk has over {BLOCK_ROWS_MAX} rows");
            refusals.add_all(&Reason::Store(why), open);
            continue;
        }
        let kept = sort_out(rule, header, &view, open, &mut refusals);
        opened.push(Opened { header, view, kept });
    }

    let mut block = NativeBlock::new(partition);
    let mut created = Vec::with_capacity(opened.len());
    for Opened { header, view, kept } in &opened {
        let rows = kept.as_ref().map_or_else(|| view.rows(), Vec::len);
        if rows > 0 {
            let kept = kept.as_deref().map_or(Rows::All, Rows::Some);
            block.push(view, header.base_offset.0, kept);
            created.push(Created { created_ms: header.created_ms, rows: rows as u64 });
        }
    }
    let rows = block.rows() as u64;
    Sifted { rows, block: block.encode(), refused: refusals.done(), created }
}

/// The batches with open records. Open records that are in none, because bytes among the payloads
/// are no batch, are refused: nothing tells where behind such bytes the next batch would begin.
fn find(open: &[OffsetRange], payloads: &[Bytes], refusals: &mut Refusals) -> Vec<Found> {
    let mut found = Vec::new();
    let mut next = 0;
    let mut why = "it was not delivered".to_owned();
    let mut missing = Vec::new();
    for item in payloads.iter().flat_map(batch::iter) {
        match item {
            Ok((header, batch)) if header.base_offset.0 >= next => {
                let (first, last) = (header.base_offset.0, header.last_offset().0);
                if first > next {
                    missing.extend(within(open, next, first - 1));
                }
                next = last.saturating_add(1);
                let open = within(open, first, last);
                if !open.is_empty() {
                    found.push(Found { header, batch, open });
                }
            }
            Ok(_) => why = "its offsets go back".to_owned(),
            Err(error) => why = error.to_string(),
        }
    }
    missing.extend(within(open, next, u64::MAX));
    refusals.add_all(&Reason::InvalidBatch(why), &missing);
    found
}

/// What of `open` lies from `first` to `last`.
pub(crate) fn within(open: &[OffsetRange], first: u64, last: u64) -> Vec<OffsetRange> {
    let from = open.partition_point(|range| range.last < first);
    let overlapping = open[from..].iter().take_while(|range| range.first <= last);
    let clip = |range: &OffsetRange| OffsetRange {
        first: range.first.max(first),
        last: range.last.min(last),
    };
    overlapping.map(clip).collect()
}

fn view<'p>(header: &BatchHeader, batch: &'p Bytes) -> Result<TelemetryView<'p>, String> {
    batch::check(batch).map_err(|error| error.to_string())?;
    if header.schema != batch::schema::TELEMETRY {
        return Err(format!("schema {} is not telemetry", header.schema));
    }
    TelemetryView::open(batch::body(batch), header.record_count).map_err(|error| error.to_string())
}

/// Returns the rows to keep (`None`: all of the batch) and adds the open ones that are not.
fn sort_out(
    rule: TimeRule,
    header: &BatchHeader,
    view: &TelemetryView<'_>,
    open: &[OffsetRange],
    refusals: &mut Refusals,
) -> Option<Vec<u32>> {
    let verdict = |ts_ms| rule.judge(ts_ms, header.append_time_ms);
    let times = view.ts_ms();
    let whole = records(open) == u64::from(header.record_count);
    if whole && times.iter().all(|ts_ms| verdict(ts_ms.to_native()) == Verdict::Kept) {
        return None;
    }
    let base = header.base_offset.0;
    let too_old = Reason::TooOld { retention_days: rule.retention_days };
    let mut kept = Vec::new();
    for offset in open.iter().flat_map(|range| range.first..=range.last) {
        let row = (offset - base) as usize;
        match verdict(times[row].to_native()) {
            Verdict::Kept => kept.push(row as u32),
            Verdict::TooOld => refusals.add(&too_old, offset),
            Verdict::TooNew => refusals.add(&Reason::TooNew, offset),
        }
    }
    Some(kept)
}

/// Refused records by reason.
#[derive(Debug, Default)]
struct Refusals(BTreeMap<Reason, Vec<OffsetRange>>);

impl Refusals {
    fn add(&mut self, reason: &Reason, offset: u64) {
        self.add_all(reason, &[OffsetRange { first: offset, last: offset }]);
    }

    fn add_all(&mut self, reason: &Reason, ranges: &[OffsetRange]) {
        if ranges.is_empty() {
            return;
        }
        let full = self.0.len() >= limits::REASONS_MAX && !self.0.contains_key(reason);
        let reason = match reason {
            Reason::InvalidBatch(_) if full => &Reason::InvalidBatch(AND_MORE.to_owned()),
            Reason::TooOld { .. } | Reason::TooNew | Reason::InvalidBatch(_) | Reason::Store(_) => {
                reason
            }
        };
        let known = match self.0.get_mut(reason) {
            Some(known) => known,
            None => self.0.entry(reason.clone()).or_default(),
        };
        for range in ranges {
            match known.last_mut() {
                Some(last) if last.last.checked_add(1) == Some(range.first) => {
                    last.last = range.last
                }
                Some(_) | None => known.push(*range),
            }
        }
    }

    fn done(self) -> Vec<Refused> {
        let refused = self.0.into_iter().map(|(reason, mut ranges)| {
            ranges.sort_unstable_by_key(|range| range.first);
            Refused { ranges, reason }
        });
        refused.collect()
    }
}

/// Stands for what is wrong with batches beyond the first [`limits::REASONS_MAX`] reasons.
const AND_MORE: &str = "as many others of its chunk";

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{self, Batch};

    const NOW: i64 = testing::APPEND_TIME_MS;
    const RULE: TimeRule = TimeRule { retention_days: 30 };

    #[test]
    fn times_at_the_bounds_are_kept_and_beyond_them_are_not() {
        let oldest = NOW - 30 * DAY_MS;
        let newest = NOW + 300_000;
        for (ts_ms, verdict) in [
            (oldest, Verdict::Kept),
            (oldest - 1, Verdict::TooOld),
            (newest, Verdict::Kept),
            (newest + 1, Verdict::TooNew),
        ] {
            assert_eq!(RULE.judge(ts_ms, NOW), verdict, "{ts_ms}");
        }
        let forever = TimeRule { retention_days: 0 };
        assert_eq!(forever.judge(0, NOW), Verdict::Kept);
        assert_eq!(forever.judge(newest + 1, NOW), Verdict::TooNew);
    }

    fn all(first: u64, last: u64) -> [OffsetRange; 1] {
        [OffsetRange { first, last }]
    }

    fn one(offset: u64) -> OffsetRange {
        OffsetRange { first: offset, last: offset }
    }

    #[test]
    fn a_mixed_batch_is_parted_by_time_and_nothing_is_lost() {
        let times = [NOW, NOW - 31 * DAY_MS, NOW + 1, NOW + 3_600_000, NOW - 32 * DAY_MS];
        let batch = Batch { base_offset: 100, times: &times, ..Batch::default() }.bytes();
        let sifted = sift(RULE, 0, &all(100, 104), &[batch]);
        assert_eq!(sifted.rows, 2);
        assert_eq!(sifted.created, [Created { created_ms: testing::CREATED_MS, rows: 2 }]);
        let [old, new] = &sifted.refused[..] else { panic!("{:?}", sifted.refused) };
        assert_eq!(old.ranges, [one(101), one(104)]);
        assert_eq!(old.reason, Reason::TooOld { retention_days: 30 });
        assert_eq!((&new.ranges[..], &new.reason), (&[one(103)][..], &Reason::TooNew));
    }

    #[test]
    fn a_chunk_makes_the_same_block_whenever_it_is_sifted() {
        let times = [NOW, NOW - 31 * DAY_MS, NOW - 29 * DAY_MS];
        let batch = [Batch { times: &times, ..Batch::default() }.bytes()];
        let sifted = sift(RULE, 0, &all(0, 2), &batch);
        assert_eq!(sift(RULE, 0, &all(0, 2), &batch).block, sifted.block);
        // What was refused has been dead-lettered since, and the rule is another.
        let open = [one(0), one(2)];
        for retention_days in [30, 60, 0] {
            let again = sift(TimeRule { retention_days }, 0, &open, &batch);
            assert_eq!((again.block, again.refused.len()), (sifted.block.clone(), 0));
        }
    }

    #[test]
    fn what_is_not_open_is_neither_stored_nor_refused() {
        let times = [NOW, NOW, NOW + 3_600_000, NOW + 3_600_000, NOW];
        let payloads = [
            Batch { base_offset: 10, times: &times, ..Batch::default() }.bytes(),
            Batch { base_offset: 15, schema: 9, ..Batch::default() }.bytes(),
            Batch { base_offset: 16, times: &times, ..Batch::default() }.bytes(),
        ];
        let open = [OffsetRange { first: 11, last: 12 }, one(16)];
        let sifted = sift(RULE, 0, &open, &payloads);
        let [new] = &sifted.refused[..] else { panic!("{:?}", sifted.refused) };
        assert_eq!((sifted.rows, &new.ranges[..]), (2, &[one(12)][..]));
    }

    #[test]
    fn bad_batches_are_refused_whole_and_good_ones_beside_them_are_kept() {
        let good = |at| Batch { base_offset: at, times: &[NOW], ..Batch::default() }.bytes();
        let flipped = Batch { base_offset: 1, times: &[NOW; 2], ..Batch::default() }.flipped();
        let foreign = Batch { base_offset: 3, schema: 9, times: &[NOW], ..Batch::default() };
        let payload: Bytes = [&good(0)[..], &flipped, &foreign.bytes(), &good(4)].concat().into();
        let sifted = sift(RULE, 0, &all(0, 4), &[payload]);
        assert_eq!(sifted.rows, 2);
        let why = |offset: u64| {
            let of = |some: &&Refused| some.ranges.iter().any(|range| range.first == offset);
            sifted.refused.iter().find(of).unwrap().reason.to_string()
        };
        assert!(why(1).contains("invalid_batch") && why(1).contains("checksum"), "{}", why(1));
        assert!(why(3).contains("schema 9"), "{}", why(3));
        assert_eq!(sifted.refused.iter().map(Refused::records).sum::<u64>(), 3);
    }

    #[test]
    fn open_records_that_are_in_no_batch_are_refused() {
        let good = |at| Batch { base_offset: at, times: &[NOW], ..Batch::default() }.bytes();
        let payload: Bytes = [&good(7)[..], b"garbage"].concat().into();
        let sifted = sift(RULE, 0, &all(7, 12), &[payload, good(10)]);
        let [refused] = &sifted.refused[..] else { panic!("{:?}", sifted.refused) };
        let ranges = [(8, 9), (11, 12)].map(|(first, last)| OffsetRange { first, last });
        assert_eq!((sifted.rows, &refused.ranges[..]), (2, &ranges[..]));
        assert!(matches!(refused.reason, Reason::InvalidBatch(_)));
    }

    #[test]
    fn reasons_are_bounded() {
        let mut refusals = Refusals::default();
        for number in 0..1_000 {
            refusals.add(&Reason::InvalidBatch(format!("number {number}")), number);
        }
        let refused = refusals.done();
        assert_eq!(refused.len(), limits::REASONS_MAX + 1);
        assert_eq!(refused.iter().map(Refused::records).sum::<u64>(), 1_000);
    }

    #[test]
    fn a_chunk_without_a_single_good_record_makes_no_block() {
        let batch = Batch { times: &[NOW + 3_600_000], ..Batch::default() }.bytes();
        let sifted = sift(RULE, 0, &all(0, 0), &[batch]);
        assert_eq!((sifted.rows, sifted.block.len(), sifted.refused.len()), (0, 0, 1));
        assert!(sifted.created.is_empty());
    }

    proptest! {
        /// Every open record of a chunk is kept or refused, once, whatever its times.
        #[test]
        fn every_record_is_accounted_for(
            batches in vec(vec(-40 * DAY_MS..DAY_MS, 1..20), 1..8),
            retention_days in 0..40_u32,
            settled in vec(0..160_u64, 0..10),
        ) {
            let mut payload = Vec::new();
            let mut end = 0;
            for times in &batches {
                let times: Vec<_> = times.iter().map(|ago| NOW + ago).collect();
                let batch = Batch { base_offset: end, times: &times, ..Batch::default() };
                payload.extend_from_slice(&batch.bytes());
                end += times.len() as u64;
            }
            let open: Vec<_> = (0..end).filter(|at| !settled.contains(at)).map(one).collect();
            let sifted = sift(TimeRule { retention_days }, 0, &open, &[payload.into()]);
            let created: u64 = sifted.created.iter().map(|some| some.rows).sum();
            prop_assert_eq!(created, sifted.rows);
            let mut refused: Vec<u64> = Vec::new();
            for Refused { ranges, .. } in &sifted.refused {
                refused.extend(ranges.iter().flat_map(|range| range.first..=range.last));
            }
            refused.sort_unstable();
            prop_assert!(refused.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(refused.iter().all(|at| open.contains(&one(*at))));
            prop_assert_eq!(sifted.rows + refused.len() as u64, open.len() as u64);
        }

        /// Bytes that are wrong anywhere are refused, and never a panic.
        #[test]
        fn damaged_chunks_are_survived(
            at in any::<prop::sample::Index>(),
            flip in 1..=255_u8,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Batch { times: &[NOW; 5], ..Batch::default() }.bytes().to_vec();
            bytes.extend_from_slice(&Batch { base_offset: 5, ..Batch::default() }.bytes());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            bytes.truncate(cut.index(bytes.len()));
            let sifted = sift(RULE, 0, &all(0, 5), &[bytes.into()]);
            let refused: u64 = sifted.refused.iter().map(Refused::records).sum();
            prop_assert_eq!(sifted.rows + refused, 6);
        }
    }
}
