//! Entries that stay in the memory that they came in.

use bytes::BytesMut;
use lanecast_wire::checksum::crc32c;

use super::*;

impl Bench {
    /// A record of so many bytes in memory of its own.
    fn adopt(&mut self, bytes: usize) -> u64 {
        let record = vec![self.log.next_offset() as u8; bytes];
        let entry = BytesMut::from(&[&records::prefix(&record)[..], &record].concat()[..]);
        self.log.adopt(self.now, entry, crc32c, 1, self.now.wall_ms).unwrap()
    }
}

#[test]
fn they_rest_in_order_with_what_is_copied_and_are_there_after_a_restart() {
    let sizes = [10, 9_000, 20, 30, 5_000, 8_124, 4_092, 12_000, 7, 16_000];
    let mut bench = Bench::with(TestDisk::default(), config());
    bench.settle();
    let adopts = |at: usize| sizes[at] >= 4_092;
    for (at, size) in sizes.into_iter().enumerate() {
        assert_eq!(bench.log.adopts(size + 4), adopts(at), "{size}");
        let offset = if adopts(at) { bench.adopt(size) } else { bench.append(size) };
        assert_eq!(offset, at as u64);
        if at % 3 == 0 {
            bench.pump();
        }
    }
    bench.settle();
    assert!(bench.log.segment_count() > 1, "not all fit into one");
    assert_eq!(bench.log.undurable_bytes(), 0);
    let check = |bench: &mut Bench| {
        for (at, size) in sizes.into_iter().enumerate() {
            assert_eq!(bench.fetch(at as u64), vec![at as u8; size], "{at}");
        }
    };
    check(&mut bench);
    let mut bench = Bench::open(bench.crash());
    assert_eq!(bench.replayed, (0..sizes.len() as u64).collect::<Vec<_>>());
    assert!(bench.damages.is_empty(), "{:?}", bench.damages);
    check(&mut bench);
    assert_eq!(bench.commit(100), sizes.len() as u64);
}

#[test]
fn one_takes_the_memory_that_it_came_in_and_no_other() {
    let mut bench = Bench::with(TestDisk::default(), LogConfig { cache_bytes: 1 << 20, ..large() });
    bench.settle();
    let entry = BytesMut::from(&vec![7; 100_000][..]);
    let place = entry.as_ptr();
    bench.log.adopt(bench.now, entry, crc32c, 1, 0).unwrap();
    bench.settle();
    let Found::Cached(block) = bench.log.find(0) else { panic!("it is in memory") };
    assert_eq!((block.payload.as_ptr(), block.payload.len()), (place, 100_000));
}

#[test]
fn one_that_can_never_fit_is_refused() {
    let mut bench = Bench::with(TestDisk::default(), config());
    bench.settle();
    let entry = BytesMut::from(&vec![7; SEGMENT as usize][..]);
    let refused = bench.log.adopt(bench.now, entry, crc32c, 1, 0);
    assert_eq!(refused, Err(AppendRefused::TooLarge));
    assert_eq!(bench.commit(100), 0);
}
