//! When a block that is not full is committed beside others.

use super::*;
use crate::limits::{GATHER_US, SMALL_COMMITS_BYTES, SMALL_COMMITS_IN_FLIGHT_MAX};

#[test]
fn first_appends_commit_at_once_and_the_next_ones_gather() {
    let mut bench = Bench::open(TestDisk::default());
    for n in 1..=SMALL_COMMITS_IN_FLIGHT_MAX {
        bench.append(100);
        bench.pump();
        assert_eq!(bench.commits().len(), n);
    }
    for _ in 0..10 {
        bench.append(100);
        bench.pump();
    }
    assert_eq!(bench.commits().len(), SMALL_COMMITS_IN_FLIGHT_MAX, "the block is not full");
    bench.answer(0, None);
    assert_eq!(bench.log.durable_end(), 1);
    assert_eq!(bench.commits().len(), SMALL_COMMITS_IN_FLIGHT_MAX, "ten records, one commit");
    bench.settle();
    assert_eq!(bench.log.durable_end(), SMALL_COMMITS_IN_FLIGHT_MAX as u64 + 10);
}

#[test]
fn records_gather_behind_a_single_commit() {
    let records = LogConfig { kind: BlockKind::Records, ..config() };
    let mut bench = Bench::with(TestDisk::default(), records);
    bench.settle();
    for _ in 0..10 {
        bench.append(100);
        bench.pump();
    }
    assert_eq!(bench.commits().len(), 1);
    bench.settle();
    assert_eq!(bench.log.durable_end(), 10);
}

/// A log of records in which one has just been committed.
fn just_committed() -> Bench {
    let records = LogConfig { kind: BlockKind::Records, ..config() };
    let mut bench = Bench::with(TestDisk::default(), records);
    bench.settle();
    bench.commit(100);
    bench
}

#[test]
fn records_that_nobody_waits_for_gather_for_a_while() {
    let mut bench = just_committed();
    for _ in 0..10 {
        bench.append_with(100, true);
        bench.pump();
    }
    assert_eq!(bench.commits().len(), 0);
    assert_eq!(bench.log.poll_timeout(), Some(bench.now.mono_us + GATHER_US));
    bench.now.mono_us += GATHER_US - 1;
    bench.pump();
    assert_eq!(bench.commits().len(), 0);
    bench.now.mono_us += 1;
    bench.pump();
    assert_eq!(bench.commits().len(), 1);
    bench.settle();
    assert_eq!(bench.log.durable_end(), 11);
    // After a rest there is nothing to wait for.
    bench.now.mono_us += GATHER_US;
    bench.append_with(100, true);
    bench.pump();
    assert_eq!(bench.commits().len(), 1);
}

#[test]
fn a_record_that_somebody_waits_for_takes_along_those_that_gather() {
    let mut bench = just_committed();
    bench.append_with(100, true);
    bench.append_with(100, false);
    bench.append_with(100, true);
    bench.pump();
    assert_eq!(bench.commits().len(), 1);
    bench.settle();
    assert_eq!(bench.log.durable_end(), 4);
    bench.append_with(100, true);
    bench.pump();
    assert_eq!(bench.commits().len(), 0, "it is another block");
}

#[test]
fn a_full_block_and_the_end_wait_for_no_records() {
    let records = LogConfig { kind: BlockKind::Records, ..large() };
    let mut bench = Bench::with(TestDisk::default(), records);
    bench.settle();
    bench.commit(100);
    bench.append_with(FULL, true);
    bench.pump();
    assert_eq!(bench.commits().len(), 1, "it is full");
    bench.settle();
    for finish in [Log::hurry, Log::stop] {
        bench.append_with(100, true);
        bench.pump();
        assert!(bench.commits().is_empty() && !bench.log.is_idle());
        finish(&mut bench.log);
        bench.settle();
    }
    assert_eq!(bench.log.durable_end(), 4);
}

#[test]
fn nothing_small_goes_along_with_much() {
    let mut bench = Bench::open(TestDisk::default());
    bench.append(SMALL_COMMITS_BYTES);
    bench.pump();
    bench.append(100);
    bench.pump();
    assert_eq!(bench.commits().len(), 1, "it waits for others");
    bench.settle();
    assert_eq!(bench.log.durable_end(), 2);
}

#[test]
fn what_lies_between_two_damaged_commits_is_not_lost() {
    let mut bench = Bench::open(TestDisk::default());
    bench.commit(100);
    for _ in 0..3 {
        bench.append(100);
        bench.pump();
    }
    let places = [0, 1, 2].map(|at| bench.place_of_commit(at));
    bench.settle();
    let mut bench = Bench::open(bench.crash());
    bench.commit(100);
    let mut disk = bench.crash();
    for (segment, position, _) in [&places[0], &places[2]] {
        disk.file(ID, *segment).unwrap()[*position as usize + 70] ^= 1;
    }
    let bench = Bench::open(disk);
    assert_eq!(bench.replayed, [0, 2, 4]);
    let lost: Vec<_> = bench.damages.iter().map(|damage| damage.first..damage.end).collect();
    assert_eq!(lost, [1..2, 3..4]);
}
