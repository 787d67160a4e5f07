//! A chunk's bytes, parted into one block of rows and the records that no store will take.
//!
//! What is parted depends on nothing but the chunk: a record's time is held against the moment the
//! broker appended it, which is stamped in its batch and never changes. So every attempt at a
//! chunk, by any consumer at any time, makes the same block, as its token demands.

use bytes::Bytes;
use lanecast_store::limits::BLOCK_ROWS_MAX;
use lanecast_store::{NativeBlock, Rows};
use lanecast_telemetry::{Sample, SeriesCatalog, TelemetryBuilder, TelemetryView};
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::builder::BodyBuilder;

use crate::limits;
use crate::refused::{Payload, Reason, Refused};

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
    pub refused: Vec<Refused>,
    /// When the producer began each batch, and how many of its rows are in the block.
    pub created: Vec<Created>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub created_ms: i64,
    pub rows: u64,
}

/// A batch that opened, and which of its rows are kept.
struct Opened<'p> {
    header: BatchHeader,
    batch: &'p Bytes,
    view: TelemetryView<'p>,
    /// `None`: all of them.
    kept: Option<Vec<u32>>,
}

/// Parts the payloads of one chunk of `partition`. `first` is the chunk's first offset.
#[must_use]
pub fn sift(rule: TimeRule, partition: u32, first: u64, payloads: &[Bytes]) -> Sifted {
    let mut sifted = Sifted::default();
    let batches = split(first, payloads, &mut sifted.refused);
    let mut opened = Vec::with_capacity(batches.len());
    for (header, batch) in &batches {
        match open(header, batch) {
            Ok(view) => {
                let kept = sort_out(rule, header, &view, batch, &mut sifted.refused);
                opened.push(Opened { header: *header, batch, view, kept });
            }
            Err(why) => sifted.refused.push(whole(header, batch, Reason::InvalidBatch(why))),
        }
    }

    let mut block = NativeBlock::new(partition);
    for Opened { header, batch, view, kept } in &opened {
        let rows = kept.as_ref().map_or_else(|| view.rows(), Vec::len);
        if rows == 0 {
            continue;
        }
        // Only a broker that ignores the bounds of chunks sends this many.
        if block.rows() + rows > BLOCK_ROWS_MAX {
            let why = format!("its chunk has over {BLOCK_ROWS_MAX} rows");
            sifted.refused.push(whole(header, batch, Reason::Store(why)));
            continue;
        }
        block.push(view, header.base_offset.0, kept.as_deref().map_or(Rows::All, Rows::Some));
        sifted.created.push(Created { created_ms: header.created_ms, rows: rows as u64 });
    }
    sifted.rows = block.rows() as u64;
    sifted.block = block.encode();
    sifted
}

/// Every record of a chunk that the store as a whole will never take, batch by batch.
#[must_use]
pub fn refuse_all(first: u64, payloads: &[Bytes], why: &str) -> Vec<Refused> {
    let mut refused = Vec::new();
    for (header, batch) in split(first, payloads, &mut refused) {
        refused.push(whole(&header, &batch, Reason::Store(why.to_owned())));
    }
    refused
}

/// The batches of a chunk. Bytes that are no batch are refused together with all that follow them
/// in their payload, as nothing tells where the next batch would begin.
fn split(first: u64, payloads: &[Bytes], refused: &mut Vec<Refused>) -> Vec<(BatchHeader, Bytes)> {
    let mut batches = Vec::new();
    let mut next = first;
    for payload in payloads {
        let mut consumed = 0;
        for item in batch::iter(payload) {
            match item {
                Ok((header, batch)) => {
                    consumed += batch.len();
                    next = header.last_offset().0 + 1;
                    batches.push((header, batch));
                }
                Err(error) => refused.push(Refused {
                    first: next,
                    last: next,
                    records: 1,
                    reason: Reason::InvalidBatch(error.to_string()),
                    payload: Payload::Raw(payload.slice(consumed..)),
                }),
            }
        }
    }
    batches
}

fn open<'p>(header: &BatchHeader, batch: &'p Bytes) -> Result<TelemetryView<'p>, String> {
    batch::check(batch).map_err(|error| error.to_string())?;
    if header.schema != batch::schema::TELEMETRY {
        return Err(format!("schema {} is not telemetry", header.schema));
    }
    TelemetryView::open(batch::body(batch), header.record_count).map_err(|error| error.to_string())
}

/// Returns the rows to keep (`None`: all) and adds those that are not to `refused`.
fn sort_out(
    rule: TimeRule,
    header: &BatchHeader,
    view: &TelemetryView<'_>,
    batch: &Bytes,
    refused: &mut Vec<Refused>,
) -> Option<Vec<u32>> {
    let verdict = |ts_ms| rule.judge(ts_ms, header.append_time_ms);
    let times = view.ts_ms();
    if times.iter().all(|ts_ms| verdict(ts_ms.to_native()) == Verdict::Kept) {
        return None;
    }
    let rows_of = |wanted| -> Vec<u32> {
        let rows = (0..times.len() as u32).zip(times);
        rows.filter(|(_, ts_ms)| verdict(ts_ms.to_native()) == wanted).map(|(row, _)| row).collect()
    };
    let too_old = Reason::TooOld { retention_days: rule.retention_days };
    for (verdict, reason) in [(Verdict::TooOld, too_old), (Verdict::TooNew, Reason::TooNew)] {
        let rows = rows_of(verdict);
        if let (Some(&low), Some(&high)) = (rows.first(), rows.last()) {
            refused.push(Refused {
                first: header.base_offset.0 + u64::from(low),
                last: header.base_offset.0 + u64::from(high),
                records: rows.len() as u32,
                reason,
                // Rows of a valid batch always fit a batch of their own; were it otherwise, the
                // whole batch says no less.
                payload: excerpt(view, &rows)
                    .map_or_else(|| Payload::Raw(batch.clone()), Payload::Telemetry),
            });
        }
    }
    Some(rows_of(Verdict::Kept))
}

/// A telemetry body of some rows of another.
fn excerpt(view: &TelemetryView<'_>, rows: &[u32]) -> Option<Bytes> {
    let mut catalog = SeriesCatalog::new();
    let mut builder = TelemetryBuilder::empty();
    for &row in rows {
        let row = row as usize;
        let identity = view.identity(usize::from(view.series_codes()[row].to_native()));
        let metric = view.metric(usize::from(view.metric_codes()[row].to_native()));
        let series = catalog.series(&identity).ok()?;
        let metric = catalog.metric(metric).ok()?;
        let sample = Sample {
            catalog: &catalog,
            series,
            metric,
            ts_ms: view.ts_ms()[row].to_native(),
            source_ts_ms: view.source_ts_ms()[row].to_native(),
            value: view.values()[row].to_native(),
        };
        builder.push(&sample).ok()?;
    }
    Some(builder.seal().body.into())
}

fn whole(header: &BatchHeader, batch: &Bytes, reason: Reason) -> Refused {
    Refused {
        first: header.base_offset.0,
        last: header.last_offset().0,
        records: header.record_count,
        reason,
        payload: Payload::Raw(batch.clone()),
    }
}

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

    #[test]
    fn a_mixed_batch_is_parted_by_time_and_nothing_is_lost() {
        let times = [NOW, NOW - 31 * DAY_MS, NOW + 1, NOW + 3_600_000, NOW - 32 * DAY_MS];
        let batch = Batch { base_offset: 100, times: &times, ..Batch::default() }.bytes();
        let sifted = sift(RULE, 0, 100, &[batch]);
        assert_eq!(sifted.rows, 2);
        assert_eq!(sifted.created, [Created { created_ms: testing::CREATED_MS, rows: 2 }]);
        let [old, new] = &sifted.refused[..] else { panic!("{:?}", sifted.refused) };
        assert_eq!((old.first, old.last, old.records), (101, 104, 2));
        assert_eq!(old.reason, Reason::TooOld { retention_days: 30 });
        assert_eq!((new.first, new.last, new.records), (103, 103, 1));
        assert_eq!(new.reason, Reason::TooNew);
        let Payload::Telemetry(body) = &old.payload else { panic!("{:?}", old.payload) };
        let view = TelemetryView::open(body, old.records).unwrap();
        let kept: Vec<_> = view.iter().map(|row| (row.ts_ms, row.value)).collect();
        assert_eq!(kept, [(times[1], 1.0), (times[4], 4.0)]);
        assert_eq!(view.identity(0).uuid, testing::UUID);
    }

    #[test]
    fn a_chunk_makes_the_same_block_whenever_it_is_sifted() {
        let times = [NOW, NOW - 31 * DAY_MS];
        let batch = Batch { times: &times, ..Batch::default() }.bytes();
        let again = sift(RULE, 0, 0, core::slice::from_ref(&batch));
        assert_eq!(sift(RULE, 0, 0, &[batch]).block, again.block);
    }

    #[test]
    fn bad_batches_are_refused_whole_and_good_ones_beside_them_are_kept() {
        let good = Batch { base_offset: 0, times: &[NOW], ..Batch::default() }.bytes();
        let flipped = Batch { base_offset: 1, times: &[NOW], ..Batch::default() }.flipped();
        let foreign = Batch { base_offset: 2, schema: 9, times: &[NOW], ..Batch::default() };
        let foreign = foreign.bytes();
        let payload: Bytes = [&good[..], &flipped, &foreign, &good].concat().into();
        let sifted = sift(RULE, 0, 0, &[payload]);
        assert_eq!(sifted.rows, 2);
        let [checksum, schema] = &sifted.refused[..] else { panic!("{:?}", sifted.refused) };
        assert_eq!((checksum.first, schema.first), (1, 2));
        assert_eq!(checksum.payload, Payload::Raw(flipped));
        assert!(checksum.reason.to_string().contains("checksum"), "{}", checksum.reason);
        assert!(schema.reason.to_string().contains("schema 9"), "{}", schema.reason);
    }

    #[test]
    fn bytes_that_are_no_batch_are_kept_as_they_are() {
        let good = Batch { base_offset: 7, times: &[NOW], ..Batch::default() }.bytes();
        let payload: Bytes = [&good[..], b"garbage"].concat().into();
        let sifted = sift(RULE, 0, 7, &[payload, good]);
        assert_eq!(sifted.rows, 2);
        assert_eq!(sifted.refused.len(), 1);
        assert_eq!(sifted.refused[0].first, 8);
        assert_eq!(sifted.refused[0].payload, Payload::Raw(Bytes::from_static(b"garbage")));
    }

    #[test]
    fn a_chunk_without_a_single_good_record_makes_no_block() {
        let batch = Batch { times: &[NOW + 3_600_000], ..Batch::default() }.bytes();
        let sifted = sift(RULE, 0, 0, &[batch]);
        assert_eq!((sifted.rows, sifted.block.len(), sifted.refused.len()), (0, 0, 1));
        assert!(sifted.created.is_empty());
    }

    #[test]
    fn refusing_a_chunk_keeps_every_batch_whole() {
        let first = Batch { base_offset: 0, times: &[NOW, NOW], ..Batch::default() }.bytes();
        let second = Batch { base_offset: 2, times: &[0], ..Batch::default() }.bytes();
        let refused = refuse_all(0, &[first.clone(), second.clone()], "no such table");
        let payloads: Vec<_> = refused.iter().map(|refused| refused.payload.bytes()).collect();
        assert_eq!(payloads, [&first, &second]);
        assert_eq!(refused[0].reason, Reason::Store("no such table".into()));
    }

    proptest! {
        /// Every record of a chunk is kept or refused, once, whatever its times.
        #[test]
        fn every_record_is_accounted_for(
            batches in vec(vec(-40 * DAY_MS..DAY_MS, 1..20), 1..8),
            retention_days in 0..40_u32,
        ) {
            let mut payload = Vec::new();
            let mut records = 0;
            for times in &batches {
                let times: Vec<_> = times.iter().map(|ago| NOW + ago).collect();
                let batch = Batch { base_offset: records, times: &times, ..Batch::default() };
                payload.extend_from_slice(&batch.bytes());
                records += times.len() as u64;
            }
            let sifted = sift(TimeRule { retention_days }, 0, 0, &[payload.into()]);
            let refused: u64 = sifted.refused.iter().map(|some| u64::from(some.records)).sum();
            let created: u64 = sifted.created.iter().map(|some| some.rows).sum();
            prop_assert_eq!(sifted.rows + refused, records);
            prop_assert_eq!(created, sifted.rows);
            for some in &sifted.refused {
                let Payload::Telemetry(body) = &some.payload else { panic!("{some:?}") };
                prop_assert!(TelemetryView::open(body, some.records).is_ok());
            }
        }

        /// Bytes that are wrong anywhere are refused or ignored, and never a panic.
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
            let sifted = sift(RULE, 0, 0, &[bytes.into()]);
            prop_assert!(sifted.rows <= 6);
        }
    }
}
