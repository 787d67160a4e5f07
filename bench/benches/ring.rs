//! The rings between shards and their wake protocol, without sleeping: `broker/server`'s own files,
//! as its loom test has them too.

#[path = "../../broker/server/src/doorbell.rs"]
#[allow(dead_code, unreachable_pub, reason = "the broker uses more of it")]
mod doorbell;
#[path = "../../broker/server/src/limits.rs"]
#[allow(dead_code, unreachable_pub, reason = "the broker uses more of it")]
mod limits;
#[path = "../../broker/server/src/ring.rs"]
#[allow(dead_code, unreachable_pub, reason = "the broker uses more of it")]
mod ring;
mod support {
    pub(crate) mod crossing;
}
#[path = "../../broker/server/src/sync.rs"]
mod sync;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use criterion::{criterion_group, criterion_main};
use lanecast_core::{ConnectionId, ProduceMessage, RequestId, ShardId, ShardMessage, SubscriberId};
use lanecast_wire::{CorrelationId, PartitionId, SubscriptionId, TopicId};

use ring::{Bell, Links, mesh};
use support::crossing;

/// 32 bytes, as those that other rings were measured with.
pub(crate) type Descriptor = [u64; 4];

/// Messages that a turn of a busy shell sends.
const BULK: usize = 256;

/// Both ends of the rings between two shards.
pub(crate) struct Pair<T> {
    pub(crate) here: Links<T>,
    pub(crate) there: Links<T>,
}

impl<T> Pair<T> {
    pub(crate) fn new() -> Self {
        let bells: Vec<Arc<Bell>> = (0..2).map(|_| Arc::default()).collect();
        let mut links = mesh(&bells);
        let there = links.pop().expect("two shards");
        Pair { here: links.pop().expect("two shards"), there }
    }
}

fn one_core(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring on one core, per message");
    bulk(&mut group, "descriptors of 32 bytes", |number| [number as u64; 4]);
    bulk(&mut group, "credits", credit);
    let batch = Bytes::from(vec![0x5a; 1024]);
    bulk(&mut group, "produce requests (boxed, batch by reference)", |number| {
        let request =
            RequestId { connection: ConnectionId(1), correlation: CorrelationId(number as u64) };
        let partition = PartitionId { topic: TopicId(1), index: 1 };
        let batch = batch.clone();
        ShardMessage::Produce(Box::new(ProduceMessage { request, partition, batch }))
    });
    group.throughput(Throughput::Elements(1));
    let mut pair = Pair::new();
    group.bench_function("descriptors of 32 bytes, one by one", |b| {
        b.iter(|| {
            pair.here.send(ShardId(1), black_box([1_u64; 4]));
            pair.here.publish();
            pair.there.receive(|_, message: Descriptor| {
                black_box(message);
            });
        });
    });
    group.finish();
}

/// Sends a turn's worth, publishes once, receives all.
fn bulk<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut message: impl FnMut(usize) -> T,
) {
    let mut pair = Pair::new();
    group.throughput(Throughput::Elements(BULK as u64));
    group.bench_function(format!("{name}, in bulk"), |b| {
        b.iter(|| {
            for number in 0..BULK {
                pair.here.send(ShardId(1), message(number));
            }
            pair.here.publish();
            pair.there.receive(|_, message| {
                black_box(message);
            });
        });
    });
}

fn credit(number: usize) -> ShardMessage {
    let (connection, subscription) = (ConnectionId(1), SubscriptionId(1));
    let subscriber = SubscriberId { connection, subscription };
    let partition = PartitionId { topic: TopicId(1), index: 1 };
    ShardMessage::Credit { subscriber, partition, bytes: number as u32 }
}

fn two_cores(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring between two cores, per message");
    group.throughput(Throughput::Elements(1));
    for (name, in_bulk) in [("in bulk", BULK), ("sixteen at a time", 16), ("one by one", 1)] {
        group.bench_function(format!("descriptors of 32 bytes, {name}"), |b| {
            b.iter_custom(|messages| crossing::stream(messages, in_bulk));
        });
    }
    group.measurement_time(Duration::from_millis(400));
    group.bench_function("one there and one back, both ends awake", |b| {
        b.iter_custom(crossing::round_trips);
    });
    group.finish();
}

fn wake_protocol(c: &mut Criterion) {
    let mut group = c.benchmark_group("wake protocol");
    let bell = Bell::default();
    group.bench_function("sender: ring a shard that is awake", |b| b.iter(|| bell.ring()));
    let pair = Pair::<Descriptor>::new();
    group.bench_function("receiver: raise, look again, lower", |b| {
        b.iter(|| {
            bell.doorbell().raise();
            let any = pair.there.has_inbound();
            bell.doorbell().lower();
            any
        });
    });
    group.bench_function("sender: find it asleep (the wake itself left out)", |b| {
        b.iter(|| {
            bell.doorbell().raise();
            bell.ring();
        });
    });
    group.finish();
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = one_core, two_cores, wake_protocol
}
criterion_main!(all);
