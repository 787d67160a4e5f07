//! Batches of generic messages: build, seal, check, open, scan.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::generic::{GenericBuilder, GenericView};
use lanecast_wire::{ProducerEpoch, ProducerId, Sequence, batch};

use crate::support::publisher::{messages, push_messages};

pub(crate) fn benches(c: &mut Criterion) {
    for (name, count, bytes) in [("128 B x 512", 512, 128), ("1 KiB x 64", 64, 1024)] {
        let mut group = c.benchmark_group(format!("generic batch {name}, per message"));
        group.throughput(Throughput::Elements(count as u64));
        let payload = vec![0x5a; bytes];
        let mut builder = GenericBuilder::empty();
        group.bench_function("push and seal the body", |b| {
            b.iter(|| {
                push_messages(&mut builder, count, &payload);
                black_box(builder.seal())
            });
        });
        let sealed = messages(count, bytes);
        let open = || GenericView::open(black_box(&sealed.body), count as u32).expect("valid");
        group.bench_function("open (bytecheck and semantic check)", |b| b.iter(|| open().len()));
        let view = open();
        group.bench_function("scan in place", |b| {
            b.iter(|| view.iter().map(|message| message.payload.len()).sum::<usize>());
        });
        group.finish();

        let seal = || batch::seal(&sealed, ProducerId(1), ProducerEpoch(0), Sequence(0), 0);
        let whole = seal();
        let mut group = c.benchmark_group(format!("generic batch {name}, per byte"));
        group.throughput(Throughput::Bytes(whole.len() as u64));
        group.bench_function("seal (header, checksum, copy)", |b| b.iter(|| black_box(seal())));
        group.bench_function("check (what the broker does)", |b| {
            b.iter(|| batch::check(black_box(&whole)).expect("it was just sealed"));
        });
        group.finish();
    }
}
