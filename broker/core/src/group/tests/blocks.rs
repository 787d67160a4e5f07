//! Chunks of what is on its way to the disk, and chunks that are blocks of the data log.

use super::*;

fn at_once() -> GroupOptions {
    GroupOptions { chunk_linger_ms: 0, chunks_in_flight: CHUNKS_IN_FLIGHT_MAX, ..options() }
}

impl Bench {
    /// The data log stands here: what is durable, and what is on its way.
    fn stand(&mut self, high_watermark: u64, tail: u64) {
        self.high_watermark = high_watermark;
        self.groups.advance(self.now, Offset(high_watermark), Offset(tail));
        self.take_outputs();
    }

    /// Offers batches of ten records each that are all of a block.
    fn offer_block(&mut self, first: u64, end: u64) {
        let batch = |first| BatchBounds {
            first: Offset(first),
            last: Offset(first + 9),
            bytes: 100,
            appended_ms: 0,
        };
        let batches = (first..end).step_by(10).map(batch);
        let block = (Offset(first), Offset(end - 1));
        self.groups.offer_block(self.now, self.group, block, batches);
        self.take_outputs();
    }

    /// The oldest records under way become durable.
    fn flush_some(&mut self, records: usize) {
        for (token, record) in self.under_way.drain(..records).collect::<Vec<_>>() {
            self.log.push(record);
            self.groups.persisted(self.now, token);
        }
        self.take_outputs();
    }

    /// The broker dies; its data log ends at `end`.
    fn crash(&mut self, end: u64) {
        self.high_watermark = end;
        self.restart();
        self.groups.cut(Offset(end));
        self.flush();
        self.join(2, &GroupOptions { chunk_records: 1_000, ..at_once() });
    }
}

#[test]
fn a_chunk_is_bound_while_its_records_are_on_their_way_and_handed_out_once_they_are_durable() {
    let mut bench = Bench::with_member(&options());
    bench.stand(0, 100);
    let batch = BatchBounds { first: Offset(0), last: Offset(99), bytes: 1000, appended_ms: 0 };
    bench.groups.offer(bench.now, bench.group, batch);
    bench.flush();
    assert_eq!(bench.bounds(), []);
    assert_eq!((bench.stats().open_chunks, bench.stats().lag_records), (1, 0));
    bench.stand(100, 100);
    assert_eq!(bench.bounds(), [(0, 99)]);
    assert_eq!(bench.stats().lag_records, 100);
}

#[test]
fn a_chunk_waits_for_all_that_is_on_its_way() {
    let mut bench = Bench::with_member(&at_once());
    bench.stand(0, 100);
    for first in [0, 50] {
        let last = Offset(first + 49);
        let batch = BatchBounds { first: Offset(first), last, bytes: 500, appended_ms: 0 };
        bench.groups.offer(bench.now, bench.group, batch);
    }
    bench.flush();
    bench.stand(100, 100);
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn a_block_is_a_chunk_that_waits_for_no_record_of_its_own() {
    let mut bench = Bench::with_member(&at_once());
    bench.stand(0, 80);
    bench.offer_block(0, 50);
    bench.offer_block(50, 80);
    assert_eq!(bench.bounds(), []);
    bench.stand(50, 80);
    assert_eq!(bench.bounds(), [(0, 49)]);
    bench.stand(80, 80);
    assert_eq!(bench.bounds(), [(50, 79)]);
    assert_eq!(bench.under_way.len(), 2, "the records follow");
}

#[test]
fn a_block_that_was_handed_out_is_the_same_chunk_after_a_crash() {
    for durable in 0..=3 {
        let mut bench = Bench::with_member(&at_once());
        for (first, end) in [(0, 30), (30, 60), (60, 90)] {
            bench.stand(first, end);
            bench.offer_block(first, end);
        }
        bench.stand(90, 90);
        assert_eq!(bench.bounds(), [(0, 29), (30, 59), (60, 89)]);
        bench.flush_some(durable);
        bench.crash(120);
        for (first, end) in [(0, 30), (30, 60), (60, 90), (90, 120)] {
            if bench.groups.wants(bench.group) == Some(Offset(first)) {
                bench.offer_block(first, end);
            }
        }
        bench.flush();
        assert_eq!(bench.bounds(), [(0, 29), (30, 59), (60, 89), (90, 119)], "{durable}");
    }
}

#[test]
fn behind_bounds_within_a_block_nothing_was_handed_out_as_a_block() {
    let mut bench = Bench::with_member(&GroupOptions { chunk_records: 40, ..at_once() });
    bench.stand(0, 90);
    bench.offer_block(0, 60);
    bench.offer_block(60, 90);
    bench.stand(90, 90);
    assert_eq!(
        bench.bounds(),
        [],
        "the first two are parts of a block, and the third comes behind"
    );
    bench.flush_some(1);
    assert_eq!(bench.bounds(), [(0, 39)]);
    bench.crash(90);
    assert_eq!(bench.bounds(), [(0, 39)]);
    bench.offer_block(0, 60);
    bench.offer_block(60, 90);
    bench.flush();
    assert_eq!(bench.bounds(), [(40, 89)], "with larger chunks");
}

#[test]
fn blocks_wait_for_their_records_once_too_many_others_do_not() {
    let blocks = u64::from(limits::CHUNKS_UNWRITTEN_MAX) + 3;
    let mut bench = Bench::with_member(&GroupOptions { chunk_records: 10, ..at_once() });
    bench.groups.configure(bench.now, GroupSettings { chunks_out: 2048, ..bench.settings });
    // A member takes so many chunks at the most.
    for member in 0..blocks.div_ceil(u64::from(CHUNKS_IN_FLIGHT_MAX)) {
        bench.join(100 + member, &GroupOptions { chunk_records: 10, ..at_once() });
    }
    for number in 0..blocks {
        let (first, end) = (10 * number, 10 * number + 10);
        bench.stand(first, end);
        bench.offer_block(first, end);
        bench.stand(end, end);
    }
    assert_eq!(bench.under_way.len() as u64, blocks);
    assert_eq!(bench.hand_outs().len() as u64, blocks - 3);
    bench.flush();
    assert_eq!(bench.hand_outs().len(), 3);
}

#[test]
fn a_block_behind_what_retention_took_waits_until_that_is_durable() {
    let mut bench = Bench::with_member(&at_once());
    bench.stand(100, 100);
    bench.groups.trim(bench.now, Offset(50));
    bench.offer_block(50, 100);
    assert_eq!(bench.bounds(), []);
    bench.flush_some(1);
    assert_eq!(bench.bounds(), [], "its own record, since it was made before");
    bench.flush();
    assert_eq!(bench.bounds(), [(50, 99)]);
}

#[test]
fn a_failure_of_a_block_counts_once_it_is_durable_itself() {
    let mut bench = Bench::with_member(&at_once());
    bench.stand(0, 50);
    bench.offer_block(0, 50);
    bench.stand(50, 50);
    let out = bench.hand_outs().remove(0);
    bench.groups.nack(bench.now, out.member, claim(&out), 0, "bad").unwrap();
    bench.take_outputs();
    bench.flush_some(1);
    bench.now.mono_us += 60_000_000;
    bench.groups.handle_timeout(bench.now);
    bench.take_outputs();
    assert_eq!(bench.bounds(), [], "the record of its bounds is not that of its failure");
    bench.flush();
    assert_eq!(bench.rest().attempt, 2);
}

#[test]
fn what_was_lost_on_its_way_is_cut_off_and_what_is_out_stays_out() {
    let mut bench = Bench::with_member(&at_once());
    bench.stand(0, 30);
    bench.offer_block(0, 30);
    bench.stand(30, 90);
    let out = bench.hand_outs().remove(0);
    bench.offer_block(30, 60);
    bench.offer_block(60, 90);
    bench.groups.rewind(Offset(40));
    bench.take_outputs();
    assert!(bench.groups.is_cutting());
    assert_eq!(bench.groups.wants(bench.group), None, "nothing before that is durable");
    bench.stand(40, 40);
    bench.flush();
    assert!(!bench.groups.is_cutting());
    assert_eq!(bench.bounds(), [(30, 39)]);
    assert_eq!(bench.groups.wants(bench.group), Some(Offset(40)));
    bench.ack(&out).unwrap();
    bench.flush();
    assert_eq!(bench.stats().acked_upto, 30);
    bench.stand(70, 70);
    bench.offer_block(40, 70);
    bench.flush();
    assert_eq!(bench.bounds(), [(40, 69)]);
}
