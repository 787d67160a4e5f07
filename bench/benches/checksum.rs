//! CRC32C, by which every batch, frame, and block of a log is checked.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use lanecast_wire::checksum::crc32c;

pub(crate) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for (name, bytes) in
        [("64 B", 64), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)]
    {
        let data: Vec<u8> = (0..bytes).map(|at| (at * 31) as u8).collect();
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |b| b.iter(|| crc32c(black_box(&data))));
    }
    group.finish();
}
