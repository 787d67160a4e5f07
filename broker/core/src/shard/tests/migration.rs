//! Connections that go to another shard, and those that may not.

use std::sync::Arc;

use lanecast_wire::CorrelationId;
use lanecast_wire::message::{Migrate, Ping, TopicInfo, Unsubscribe};

use super::*;
use crate::limits::{OUTBOUND_BYTES_HIGH, RATE_BURST_US};
use crate::{ConnectionId, Event, ShardId, ShardMessage};

/// The first partition that is not on shard 0.
const THERE: u32 = 1;

fn migrate(topic: TopicId, partition: u32) -> ClientMessage {
    ClientMessage::Migrate(Migrate { topic: topic.0, partition })
}

fn encode(correlation: u64, message: &ClientMessage, tail: &[u8]) -> Vec<u8> {
    let head = message.encode(CorrelationId(correlation), tail.len() as u32);
    [&head[..], tail].concat()
}

/// Two shards, a client of the first, and a topic with a partition on each.
fn world() -> (World, Peer, TopicId) {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic_with(peer, "t", 2, settings(Durability::Memory));
    (world, peer, topic)
}

fn correlations(got: &[Got]) -> Vec<u64> {
    got.iter().map(|got| got.correlation).collect()
}

#[test]
fn a_connection_goes_to_its_partition_and_its_batches_cross_no_ring() {
    let (mut world, peer, topic) = world();
    world.produced(peer, at(topic, THERE), &batch(7, 0, 3, 100));
    let before = world.rung;
    world.send(peer, 20, migrate(topic, THERE), b"");
    let there = world.moved[&peer];
    assert_eq!(there.0, 1);
    let done = world.next(there);
    assert!(matches!(done.message, BrokerMessage::Done(_)) && done.correlation == 20, "{done:?}");
    assert_eq!((world.stats(0).connections, world.stats(1).connections), (0, 1));
    assert_eq!(world.produced(there, at(topic, THERE), &batch(7, 1, 2, 100)), 3);
    assert_eq!(world.rung, before, "all of it happens on one shard");
    // It may go back, and the other way it is as it was.
    world.send(there, 21, migrate(topic, 0), b"");
    let back = world.moved[&there];
    assert_eq!((back.0, world.next(back).correlation), (0, 21));
    assert_eq!(world.produced(back, at(topic, THERE), &batch(7, 2, 1, 100)), 5);
    assert!(world.rung > before);
}

#[test]
fn a_connection_that_is_there_already_stays() {
    let (mut world, peer, topic) = world();
    world.send(peer, 20, migrate(topic, 0), b"");
    assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)));
    assert!(world.moved.is_empty());
}

#[test]
fn what_came_behind_the_request_is_taken_in_where_the_connection_arrives() {
    let sealed = batch(7, 0, 3, 5_000);
    let produce = |topic| encode(21, &produce(at(topic, THERE)), &sealed);
    let whole = produce(TopicId(1)).len();
    // Nothing, a part of a header, a part of a batch, a batch, and one that has begun behind it.
    for behind in [0, 7, 1_000, whole, whole + 20] {
        for fills in [false, true] {
            let (mut world, peer, topic) = world();
            let frames = [produce(topic), encode(22, &ClientMessage::Ping(Ping {}), b"")].concat();
            let bytes = [&encode(20, &migrate(topic, THERE), b"")[..], &frames[..behind]].concat();
            if fills {
                world.fill(peer, bytes);
            } else {
                world.receive(peer, &bytes);
            }
            let there = world.moved[&peer];
            let begun = world.budget().in_use().received;
            assert_eq!(
                begun > 0,
                ![0, whole].contains(&behind),
                "{behind}: {begun} bytes are held"
            );
            world.receive(there, &frames[behind..]);
            let mut answered = correlations(&world.take(there));
            assert_eq!(answered[0], 20, "it is the first to be answered");
            answered.sort_unstable();
            assert_eq!(answered, [20, 21, 22], "{behind}");
            assert_eq!(world.produced(there, at(topic, THERE), &batch(7, 1, 1, 10)), 3);
            world.disconnect(there);
            assert_eq!(world.budget().in_use().received, 0);
        }
    }
}

#[test]
fn who_asks_again_and_again_is_answered_each_time() {
    let (mut world, peer, topic) = world();
    const TIMES: u64 = 5_000;
    let asks = (0..TIMES).flat_map(|time| {
        let partition = (time as u32 + 1) % 2;
        encode(20 + time, &migrate(topic, partition), b"")
    });
    let bytes: Vec<u8> = asks.collect();
    let event = Event::Received { connection: ConnectionId(peer.1), bytes: &bytes };
    world.shards[0].handle(world.now, event);
    assert!(world.budget().in_use().received < bytes.len() as u64, "all of it but the first");
    world.settle();
    assert_eq!(world.moved.len() as u64, TIMES);
    assert_eq!(world.budget().in_use().received, 0);
    let mut last = peer;
    while let Some(there) = world.moved.get(&last) {
        last = *there;
    }
    assert!(correlations(&world.take(last)).into_iter().eq(20..20 + TIMES));
}

#[test]
fn nobody_moves_while_there_is_little_memory_for_what_comes_along() {
    let (mut world, peer, topic) = world();
    let room = world.budget().shares().received;
    let held = world.budget().received.hold(bytes::Bytes::from(vec![0; room as usize]));
    world.send(peer, 20, migrate(topic, THERE), b"");
    assert_eq!(refusal(&world.next(peer)), ErrorCode::OVERLOADED);
    drop(held);
    world.send(peer, 21, migrate(topic, THERE), b"");
    assert_eq!(world.next(world.moved[&peer]).correlation, 21);
}

#[test]
fn a_connection_that_is_waited_for_stays_where_it_is() {
    let mut world = World::on_idle(TestDisk::default(), 2);
    world.disk_runs = true;
    world.settle();
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    world.disk_runs = false;
    world.send(peer, 20, produce(at(topic, THERE)), &batch(7, 0, 1, 10));
    world.send(peer, 21, migrate(topic, THERE), b"");
    assert_eq!(refusal(&world.next(peer)), ErrorCode::INVALID_REQUEST);
    world.disk_runs = true;
    world.settle();
    assert_eq!(world.next(peer).correlation, 20);

    subscribe_earliest(&mut world, peer, topic, SubscribeMode::Broadcast);
    world.send(peer, 22, migrate(topic, THERE), b"");
    assert_eq!(refusal(&world.next(peer)), ErrorCode::INVALID_REQUEST);
    assert!(world.moved.is_empty());
    world.send(peer, 23, ClientMessage::Unsubscribe(Unsubscribe { subscription: 1 }), b"");
    world.send(peer, 24, migrate(topic, THERE), b"");
    assert_eq!(correlations(&world.take(world.moved[&peer])), [23, 24]);
}

#[test]
fn there_has_to_be_such_a_partition() {
    let (mut world, peer, topic) = world();
    for (topic, partition, code) in
        [(topic, 2, ErrorCode::UNKNOWN_PARTITION), (TopicId(99), 0, ErrorCode::UNKNOWN_TOPIC)]
    {
        world.send(peer, 20, migrate(topic, partition), b"");
        assert_eq!(refusal(&world.next(peer)), code);
    }
    assert!(world.moved.is_empty());
}

#[test]
fn a_shard_that_has_not_heard_of_the_topic_sends_the_connection_back() {
    let (mut world, peer, known) = world();
    let settings = settings(Durability::Memory);
    let info = TopicInfo { topic: 77, name: "new".into(), partitions: 2, settings };
    let (from, message) = (ShardId(0), ShardMessage::OpenTopic(Arc::new(info)));
    world.shards[0].handle(world.now, Event::Ring { from, message });
    world.settle();
    let new = TopicId(77);
    // What comes behind the request finds the topic.
    let asked = encode(20, &migrate(new, THERE), b"");
    let sealed = batch(7, 0, 3, 100);
    let bytes = [&asked[..], &encode(21, &produce(at(new, 0)), &sealed)].concat();
    world.receive(peer, &bytes);
    let back = world.moved[&world.moved[&peer]];
    assert_eq!(back.0, 0);
    let got = world.take(back);
    assert_eq!(
        (correlations(&got), refusal(&got[0])),
        (vec![20, 21], ErrorCode::PARTITION_OFFLINE)
    );
    assert!(matches!(got[1].message, BrokerMessage::ProduceReply(_)), "{got:?}");
    assert_eq!((world.stats(0).connections, world.stats(1).connections), (1, 0));
    assert_eq!(world.budget().in_use().received, 0);
    // It may go where both are known.
    world.send(back, 22, migrate(known, THERE), b"");
    assert_eq!(world.next(world.moved[&back]).correlation, 22);
}

#[test]
fn nobody_moves_in_a_broker_that_drains() {
    let (mut world, peer, topic) = world();
    world.shards[0].handle(world.now, Event::Drain);
    world.put(peer, 20, migrate(topic, THERE), b"");
    world.settle();
    assert_eq!(refusal(&world.take(peer)[0]), ErrorCode::DRAINING);
    assert!(world.moved.is_empty() && world.is_closed(peer));

    // Where it goes has begun to drain meanwhile.
    let (mut world, peer, topic) = self::world();
    world.shards[1].handle(world.now, Event::Drain);
    world.send(peer, 20, migrate(topic, THERE), b"");
    let there = world.moved[&peer];
    assert_eq!(refusal(&world.next(there)), ErrorCode::DRAINING);
    assert!(world.is_closed(there));
}

#[test]
fn what_a_socket_has_not_taken_is_known_where_the_connection_arrives() {
    let (mut world, peer, topic) = world();
    world.stop_reading(peer);
    let ping = encode(5, &ClientMessage::Ping(Ping {}), b"");
    let pings = ping.len() as u64;
    while world.is_read(peer) {
        world.receive(peer, &ping.repeat(1_000));
    }
    let waiting: u64 = world.unread(peer).iter().map(|bytes| bytes.len() as u64).sum();
    assert!(waiting > OUTBOUND_BYTES_HIGH);
    // What it has sent before that is read all the same.
    world.send(peer, 20, migrate(topic, THERE), b"");
    let there = world.moved[&peer];
    assert!(!world.is_read(there), "it has still too much to read");
    let connection = ConnectionId(there.1);
    let bytes = waiting - pings;
    world.shards[1].handle(world.now, Event::Sent { connection, bytes });
    world.settle();
    assert!(world.is_read(there));
}

#[test]
fn a_client_that_waits_for_its_rate_is_read_where_it_goes() {
    let mut world = World::with(TestDisk::default(), 2, |config| {
        config.client_bytes_per_second = 10_000;
    });
    let peer = world.connect(0);
    let topic = world.create_topic_with(peer, "t", 2, settings(Durability::Memory));
    let second_us = RATE_BURST_US;
    world.produced(peer, at(topic, 0), &batch(7, 0, 1, 30_000));
    assert!(!world.is_read(peer), "it owes two of {second_us} us");
    world.pass_ms(300);
    world.send(peer, 20, migrate(topic, THERE), b"");
    let there = world.moved[&peer];
    assert!(world.is_read(there));
    let waited = |world: &World, shard: usize| {
        let clients = world.stats(shard).clients;
        clients.iter().map(|client| (client.connections, client.throttled_ms)).collect::<Vec<_>>()
    };
    assert_eq!((waited(&world, 0), waited(&world, 1)), (vec![(0, 300)], vec![]));
    // What the client owes where it was is not forgotten there.
    let other = world.connect(0);
    world.produced(other, at(topic, 0), &batch(8, 0, 1, 10));
    assert!(!world.is_read(other));
    // Where it is now, it can owe as well.
    world.next(there);
    world.produced(there, at(topic, 1), &batch(7, 0, 1, 30_000));
    assert!(!world.is_read(there));
    world.pass_ms(3_000);
    assert!(world.is_read(there));
    assert_eq!(waited(&world, 1).len(), 1);
    assert_eq!(waited(&world, 1)[0].0, 1);
}
