//! Partitions without room.

use lanecast_wire::message::{
    MissedReason, OnFull, PartitionStart, ProduceReply, Subscribe, TopicSettings,
};

use super::*;
use crate::testing::SEGMENT;

fn topic_with(world: &mut World, peer: Peer, durability: Durability, on_full: OnFull) -> TopicId {
    let settings = TopicSettings { durability, on_full, ..TopicSettings::default() };
    world.create_topic_with(peer, "t", 1, settings)
}

/// Batches of 1,000 bytes fill a partition after three of them.
fn small_world(disk: TestDisk) -> World {
    World::with(disk, 1, |config| config.undurable_bytes = 3_500)
}

fn replies(world: &mut World, peer: Peer) -> Vec<(u64, ProduceReply)> {
    let reply = |got: Got| match got.message {
        BrokerMessage::ProduceReply(reply) => (got.correlation, reply),
        other => panic!("{other:?}"),
    };
    world.take(peer).into_iter().map(reply).collect()
}

#[test]
fn full_partition_refuses_for_now_and_takes_the_same_batch_later() {
    let mut world = small_world(TestDisk::default());
    let peer = world.connect(0);
    let topic = topic_with(&mut world, peer, Durability::Fsync, OnFull::Block);
    world.disk_runs = false;
    for sequence in 0..4 {
        world.produce(peer, 10 + sequence, at(topic, 0), &batch(7, sequence, 2, 1_000));
    }
    world.settle();
    assert_eq!(refusal(&world.next(peer)), ErrorCode::OVERLOADED);
    world.disk_runs = true;
    world.settle();
    world.take(peer);
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, 3, 2, 1_000)), 6);
    assert_eq!(world.stats(0).partitions[0].records_dropped, 0);
}

#[test]
fn dropped_batch_uses_its_sequence_is_counted_and_stays_dropped() {
    let mut world = small_world(TestDisk::default());
    let peer = world.connect(0);
    let topic = topic_with(&mut world, peer, Durability::Fsync, OnFull::DropNew);
    world.disk_runs = false;
    for sequence in 0..5 {
        world.produce(peer, 10 + sequence, at(topic, 0), &batch(7, sequence, 2, 1_000));
    }
    world.settle();
    let dropped = ProduceReply { base_offset: 0, duplicate: false, dropped: true };
    assert_eq!(replies(&mut world, peer), [(13, dropped), (14, dropped)]);
    world.disk_runs = true;
    world.settle();
    let kept: Vec<_> = replies(&mut world, peer).iter().map(|(_, r)| r.base_offset).collect();
    assert_eq!(kept, [0, 2, 4]);
    // There is room again: the next one is taken, and a retry of a dropped one is not.
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, 5, 2, 1_000)), 6);
    world.send(peer, 20, produce(at(topic, 0)), &batch(7, 4, 2, 1_000));
    assert_eq!(replies(&mut world, peer), [(20, dropped)]);
    let stats = &world.stats(0).partitions[0];
    assert_eq!((stats.batches_dropped, stats.records_dropped, stats.records_in), (2, 4, 8));
    // After a restart the sequence that was dropped is still none of a new batch.
    let mut world = small_world(world.disk);
    let peer = world.connect(0);
    world.send(peer, 21, produce(at(topic, 0)), &batch(7, 3, 2, 1_000));
    let got = world.next(peer);
    let gone = match &got.message {
        BrokerMessage::ProduceReply(reply) => reply.dropped,
        _ => refusal(&got) == ErrorCode::OUT_OF_ORDER_SEQUENCE,
    };
    assert!(gone, "not appended behind later ones: {got:?}");
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, 6, 2, 1_000)), 8);
}

#[test]
fn memory_topic_waits_for_groups_but_not_for_broadcast_subscribers() {
    let mut world = World::with(TestDisk::default(), 1, |config| {
        config.memory_topic_bytes = 16 * 1024;
    });
    let peer = world.connect(0);
    let topic = topic_with(&mut world, peer, Durability::Memory, OnFull::Block);
    let reader = world.connect(0);
    world.send(reader, 9, subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest), b"");
    for sequence in 0..6 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 3_500));
    }
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    let first = world.stats(0).partitions[0].log_start;
    let mut sequence = 6;
    let refused = loop {
        world.send(peer, 30, produce(at(topic, 0)), &batch(7, sequence, 1, 3_500));
        let got = world.next(peer);
        if let BrokerMessage::Refusal(_) = &got.message {
            break got;
        }
        sequence += 1;
    };
    assert_eq!(refusal(&refused), ErrorCode::OVERLOADED);
    assert_eq!(world.stats(0).partitions[0].log_start, first, "what the group works on stays");
    // The group finishes its chunks, or is gone: there is room again.
    world.disconnect(member);
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 3_500)), sequence);
    assert!(world.stats(0).partitions[0].log_start > first);
}

#[test]
fn memory_topic_that_drops_the_old_waits_for_nobody() {
    let mut world = World::with(TestDisk::default(), 1, |config| {
        config.memory_topic_bytes = 16 * 1024;
    });
    let peer = world.connect(0);
    let topic = topic_with(&mut world, peer, Durability::Memory, OnFull::DropOld);
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    for sequence in 0..20 {
        assert_eq!(world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 3_500)), sequence);
    }
    let stats = &world.stats(0).partitions[0];
    assert!(stats.records_lost_to_groups > 0, "{stats:?}");
}

#[test]
fn subscriber_is_told_whether_records_were_dropped_or_outlived_retention() {
    for on_full in [OnFull::DropOld, OnFull::Block] {
        let mut world = World::new(1);
        let peer = world.connect(0);
        let settings = TopicSettings {
            on_full,
            retention_bytes: 2 * SEGMENT,
            retention_ms: 60_000,
            ..settings(Durability::Fsync)
        };
        let topic = world.create_topic_with(peer, "t", 1, settings);
        let log_start = |world: &World| world.stats(0).partitions[0].log_start;
        for sequence in 0..100 {
            world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 3_500));
        }
        let replaced = log_start(&world);
        world.pass_ms(61_000);
        world.pass_ms(1_000);
        let expired = log_start(&world);
        assert!(0 < replaced && replaced < expired, "{replaced} {expired}");
        let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
        let ClientMessage::Subscribe(subscribe) = message else { unreachable!() };
        let from_zero =
            PartitionStart { partition: 0, start: StartPosition::Offset(0), log_epoch: 0 };
        let subscribe = Subscribe { starts: vec![from_zero], ..subscribe };
        let subscriber = world.connect(0);
        world.send(subscriber, 9, ClientMessage::Subscribe(subscribe), b"");
        world.credit(subscriber, 1_000_000);
        let missed = |got: Got| match got.message {
            BrokerMessage::Missed(missed) => Some((missed.first, missed.last, missed.reason)),
            _ => None,
        };
        let told: Vec<_> = world.take(subscriber).into_iter().filter_map(missed).collect();
        let expected = match on_full {
            OnFull::DropOld => vec![
                (0, replaced - 1, MissedReason::Dropped),
                (replaced, expired - 1, MissedReason::Retention),
            ],
            OnFull::Block | OnFull::DropNew => vec![(0, expired - 1, MissedReason::Retention)],
        };
        assert_eq!(told, expected);
        assert_eq!(world.stats(0).partitions[0].records_missed, expired);
    }
}

#[test]
fn what_a_full_memory_topic_drops_is_told_as_dropped() {
    let mut world = World::with(TestDisk::default(), 1, |config| {
        config.memory_topic_bytes = 16 * 1024;
    });
    let peer = world.connect(0);
    let topic = topic_with(&mut world, peer, Durability::Memory, OnFull::DropOld);
    let subscriber = world.connect(0);
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    let ClientMessage::Subscribe(subscribe) = message else { unreachable!() };
    let little = Subscribe { credit_bytes: 1_000, ..subscribe };
    world.send(subscriber, 9, ClientMessage::Subscribe(little), b"");
    for sequence in 0..20 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 3_500));
    }
    let start = world.stats(0).partitions[0].log_start;
    world.take(subscriber);
    world.credit(subscriber, 1_000_000);
    let got = world.take(subscriber);
    let BrokerMessage::Missed(missed) = &got[0].message else { panic!("{got:?}") };
    assert_eq!((missed.first, missed.last, missed.reason), (1, start - 1, MissedReason::Dropped));
    assert_eq!(world.stats(0).partitions[0].records_missed, start - 1);
}
