//! When a block that is not full is committed beside others.

use super::*;
use crate::limits::{SMALL_COMMITS_BYTES, SMALL_COMMITS_IN_FLIGHT_MAX};

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
