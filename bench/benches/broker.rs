//! What one batch costs in the broker's core: frame, check, append, block, commit, acknowledgement,
//! fan-out. A whole shard is driven through its events and actions; the disk answers at once.

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use lanecast_core::ConnectionId;
use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, Credit, Deliver, Durability, GroupOptions, StartPosition,
    Subscribe, SubscribeMode,
};
use lanecast_wire::{CorrelationId, KeyFilter, TopicId};

use crate::support::publisher::{Load, Publisher, loads};
use crate::support::shell::Shell;

/// Between two turns of a shell under load.
const TURN_US: u64 = 20;

pub(crate) fn benches(c: &mut Criterion) {
    let scenes: [(&str, Durability, Option<SubscribeMode>); 6] = [
        ("publish, memory", Durability::Memory, None),
        ("publish, written", Durability::Written, None),
        ("publish, fsync", Durability::Fsync, None),
        ("publish and broadcast, memory", Durability::Memory, Some(SubscribeMode::Broadcast)),
        ("publish and queue with acks, memory", Durability::Memory, Some(queue())),
        ("publish and queue with acks, fsync", Durability::Fsync, Some(queue())),
    ];
    for (name, durability, mode) in scenes {
        let mut group = c.benchmark_group(format!("broker core, per batch: {name}"));
        for load in &loads() {
            scene(&mut group, load, durability, mode.as_ref());
        }
        group.finish();
    }
}

/// Chunks of about a turn.
fn queue() -> SubscribeMode {
    SubscribeMode::Group(GroupOptions {
        group: "g".to_owned(),
        member: "m".to_owned(),
        chunk_records: 100_000,
        chunk_bytes: 256 * 1024,
        chunk_linger_ms: 0,
        lease_ms: 30_000,
        chunks_in_flight: 4,
    })
}

fn scene(
    group: &mut BenchmarkGroup<'_, WallTime>,
    load: &Load,
    durability: Durability,
    mode: Option<&SubscribeMode>,
) {
    let mut shell = Shell::new();
    let producer = shell.connect();
    let topic = shell.create_topic(producer, durability);
    let mut publisher = Publisher::new(&load.body, topic);
    let mut subscriber = mode.map(|mode| Subscriber::new(&mut shell, topic, mode));
    group.throughput(Throughput::Elements(load.batches_per_turn as u64));
    group.bench_function(load.name, |b| {
        b.iter_custom(|turns| {
            let mut spent = Duration::ZERO;
            for _ in 0..turns {
                let requests = publisher.requests(load.batches_per_turn);
                shell.take_spent();
                shell.pass_us(TURN_US);
                shell.receive(producer, requests);
                match &mut subscriber {
                    Some(subscriber) => subscriber.turn(&mut shell),
                    None => assert!(!shell.read(producer).is_empty(), "published is answered"),
                }
                spent += shell.take_spent();
            }
            spent
        });
    });
}

/// Gives credit back for all it gets, and acks every chunk that is whole.
struct Subscriber {
    connection: ConnectionId,
    delivered: u64,
}

impl Subscriber {
    fn new(shell: &mut Shell, topic: TopicId, mode: &SubscribeMode) -> Self {
        let connection = shell.connect();
        let subscribe = ClientMessage::Subscribe(Subscribe {
            subscription: 1,
            topic: topic.0,
            mode: mode.clone(),
            start: StartPosition::Earliest,
            starts: Vec::new(),
            credit_bytes: 16 * 1024 * 1024,
            filter: KeyFilter::default(),
        });
        let answer = shell.ask(connection, &subscribe);
        assert!(matches!(answer[0], BrokerMessage::SubscribeReply(_)), "{answer:?}");
        Subscriber { connection, delivered: 0 }
    }

    fn turn(&mut self, shell: &mut Shell) {
        let mut credit = Credit { subscription: 1, partition: 0, bytes: 0 };
        let mut requests = Vec::new();
        for got in shell.read(self.connection) {
            let BrokerMessage::Deliver(deliver) = got.message else { continue };
            self.delivered += 1;
            credit.bytes += got.payload_bytes;
            requests.extend(ack(&deliver));
        }
        assert!(self.delivered > 0, "what is published is delivered");
        requests.push(ClientMessage::Credit(credit));
        let heads = requests.iter().flat_map(|request| request.encode(CorrelationId(5), 0));
        let frames: Vec<u8> = heads.collect();
        shell.receive(self.connection, &frames);
    }
}

/// Of the frame that ends a chunk.
fn ack(deliver: &Deliver) -> Option<ClientMessage> {
    let lease = deliver.lease.filter(|lease| lease.chunk_last == deliver.last)?;
    Some(ClientMessage::Ack(Ack {
        subscription: 1,
        partition: 0,
        first: lease.chunk_first,
        last: lease.chunk_last,
        generation: lease.generation,
    }))
}
