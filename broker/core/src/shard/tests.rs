//! The shard as its clients and its disk see it.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]

mod cache;
mod dead_letters;
mod groups;
mod input;
mod migration;
mod offline;
mod on_full;
mod topics;

use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, CreateTopic, Credit, Durability, StartPosition,
    SubscribeMode,
};
use lanecast_wire::{ErrorCode, PartitionId, TopicId, batch as wire_batch};

use crate::testing::{Got, Peer, TestDisk, World, batch, group, produce, settings, subscribe};
use crate::{DiskErrorKind, DiskRequest, PartitionState};

fn at(topic: TopicId, index: u32) -> PartitionId {
    PartitionId { topic, index }
}

/// Offsets of everything delivered, in order, as (partition, base offset, sequence).
fn delivered(got: &[Got]) -> Vec<(u32, u64, u64)> {
    let mut all = Vec::new();
    for got in got {
        if let BrokerMessage::Deliver(deliver) = &got.message {
            let payload = bytes::Bytes::copy_from_slice(&got.payload);
            for item in wire_batch::iter(&payload) {
                let (header, bytes) = item.unwrap();
                wire_batch::check(&bytes).unwrap();
                all.push((deliver.partition, header.base_offset.0, header.sequence.0));
            }
        }
    }
    all
}

fn refusal(got: &Got) -> ErrorCode {
    match &got.message {
        BrokerMessage::Refusal(refusal) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

fn subscribe_earliest(
    world: &mut World,
    peer: Peer,
    topic: TopicId,
    mode: SubscribeMode,
) -> Vec<Got> {
    world.send(peer, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    let got = world.take(peer);
    assert!(matches!(got[0].message, BrokerMessage::SubscribeReply(_)), "{got:?}");
    got
}

#[test]
fn batches_of_all_partitions_reach_a_subscriber_on_any_shard() {
    for shards in 1..=3 {
        let mut world = World::new(shards);
        let producer = world.connect(0);
        let topic = world.create_topic(producer, "t", 4);
        let subscriber = world.connect(shards - 1);
        assert_eq!(
            subscribe_earliest(&mut world, subscriber, topic, SubscribeMode::Broadcast).len(),
            1
        );
        for index in 0..4 {
            assert_eq!(world.produced(producer, at(topic, index), &batch(7, 0, 10, 100)), 0);
            assert_eq!(world.produced(producer, at(topic, index), &batch(7, 1, 5, 100)), 10);
        }
        let mut all = delivered(&world.take(subscriber));
        all.sort_unstable();
        let expected: Vec<_> = (0..4).flat_map(|index| [(index, 0, 0), (index, 10, 1)]).collect();
        assert_eq!(all, expected, "{shards} shards");
    }
}

#[test]
fn records_and_topics_survive_a_restart_with_another_shard_count() {
    let mut world = World::new(3);
    let peer = world.connect(1);
    let topic = world.create_topic(peer, "t", 5);
    for index in 0..5 {
        for sequence in 0..20 {
            let batch = batch(7, sequence, 3, 3_000);
            assert_eq!(world.produced(peer, at(topic, index), &batch), 3 * sequence);
        }
    }
    let mut world = World::on(world.disk, 2);
    let peer = world.connect(1);
    for index in 0..5 {
        // A retry from before the restart, and a new batch.
        assert_eq!(world.produced(peer, at(topic, index), &batch(7, 19, 3, 3_000)), 57);
        assert_eq!(world.produced(peer, at(topic, index), &batch(7, 20, 3, 3_000)), 60);
    }
    let got = subscribe_earliest(&mut world, peer, topic, SubscribeMode::Broadcast);
    let mut all = delivered(&got);
    all.sort_unstable();
    let expected: Vec<_> =
        (0..5).flat_map(|index| (0..21).map(move |n| (index, 3 * n, n))).collect();
    assert_eq!(all, expected);
    assert_eq!(world.create_topic(peer, "t", 5), topic, "it exists");
    let other = world.create_topic(peer, "u", 1);
    assert_ne!(other, topic);
}

#[test]
fn topic_of_a_catalog_that_is_still_read_is_not_there_yet() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    world.create_topic(peer, "t", 1);
    let mut world = World::on_idle(world.disk, 1);
    let peer = world.connect(0);
    let create = ClientMessage::CreateTopic(CreateTopic {
        name: "t".into(),
        partitions: 1,
        settings: settings(Durability::Fsync),
    });
    // The disk answers request by request: list, read, mark. Until then nobody has the topic.
    for correlation in 10..100 {
        world.send(peer, correlation, create.clone(), b"");
        let got = world.next(peer);
        match got.message {
            BrokerMessage::Topics(reply) => {
                assert_eq!(reply.topics.len(), 1);
                return;
            }
            _ => assert_eq!(refusal(&got), ErrorCode::PARTITION_OFFLINE),
        }
        world.complete(0);
        world.settle();
    }
    panic!("the catalog is never read");
}

#[test]
fn retry_of_a_batch_under_way_is_answered_when_it_is_durable() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    world.disk_runs = false;
    world.produce(peer, 11, at(topic, 0), &batch(7, 0, 10, 100));
    world.produce(peer, 12, at(topic, 0), &batch(7, 0, 10, 100));
    world.settle();
    assert_eq!(world.take(peer), [], "nothing is durable");
    world.disk_runs = true;
    world.settle();
    let answers: Vec<_> = world
        .take(peer)
        .into_iter()
        .map(|got| match got.message {
            BrokerMessage::ProduceReply(reply) => {
                (got.correlation, reply.base_offset, reply.duplicate)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(answers, [(11, 0, false), (12, 0, true)]);
}

#[test]
fn pipelined_batches_commit_together_and_only_the_contiguous_prefix_is_acked() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    world.disk_runs = false;
    // The first commit starts at once, alone; then blocks fill up to four in flight.
    for sequence in 0..60 {
        world.produce(peer, 100 + sequence, at(topic, 0), &batch(7, sequence, 1, 5_000));
        world.settle();
    }
    let commits = |world: &World| {
        world
            .pending
            .iter()
            .filter(|(_, _, request)| matches!(request, DiskRequest::Commit { .. }))
            .count()
    };
    assert!((1..=4).contains(&commits(&world)), "{}", commits(&world));
    // Complete the newest first: nothing may be acknowledged before the oldest is done.
    while commits(&world) > 1 {
        let last = world
            .pending
            .iter()
            .rposition(|(_, _, request)| matches!(request, DiskRequest::Commit { .. }));
        world.complete(last.unwrap());
        assert_eq!(world.take(peer), []);
    }
    world.disk_runs = true;
    world.settle();
    let order: Vec<_> = world.take(peer).iter().map(|got| got.correlation).collect();
    assert_eq!(order, (100..160).collect::<Vec<_>>());
}

#[test]
fn credit_bounds_what_is_under_way() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    let subscriber = world.connect(0);
    let ClientMessage::Subscribe(mut message) =
        subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest)
    else {
        unreachable!()
    };
    message.credit_bytes = 1_000;
    world.send(subscriber, 9, ClientMessage::Subscribe(message), b"");
    for sequence in 0..4 {
        world.produced(peer, at(topic, 1), &batch(7, sequence, 1, 320));
    }
    world.take(peer);
    let got = world.take(subscriber);
    assert_eq!(delivered(&got), [(1, 0, 0), (1, 1, 1)], "2 of 400 bytes fit into 1,000");
    let credit = Credit { subscription: 1, partition: 1, bytes: 400 };
    world.send(subscriber, 0, ClientMessage::Credit(credit), b"");
    assert_eq!(delivered(&world.take(subscriber)), [(1, 2, 2)]);
    // A batch larger than the whole credit gets through once nothing is under way.
    world.produced(peer, at(topic, 1), &batch(7, 4, 1, 5_000));
    for _ in 0..2 {
        let credit = Credit { subscription: 1, partition: 1, bytes: 400 };
        world.send(subscriber, 0, ClientMessage::Credit(credit), b"");
    }
    assert_eq!(delivered(&world.take(subscriber)), [(1, 3, 3)]);
    let credit = Credit { subscription: 1, partition: 1, bytes: 400 };
    world.send(subscriber, 0, ClientMessage::Credit(credit), b"");
    assert_eq!(delivered(&world.take(subscriber)), [(1, 4, 4)]);
}

#[test]
fn failed_flush_refuses_what_waits_and_the_partition_comes_back() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, 0, 10, 100)), 0);
    world.fails =
        Some((|request| matches!(request, DiskRequest::Commit { .. }), DiskErrorKind::Io));
    world.send(peer, 11, produce(at(topic, 0)), &batch(7, 1, 10, 100));
    assert_eq!(refusal(&world.next(peer)), ErrorCode::STORAGE_FAILED);
    assert_eq!(world.stats(0).partitions[0].state, PartitionState::Offline);
    world.send(peer, 12, produce(at(topic, 0)), &batch(7, 1, 10, 100));
    assert_eq!(refusal(&world.next(peer)), ErrorCode::STORAGE_FAILED);
    world.fails = None;
    world.pass_ms(60_000);
    assert_eq!(world.stats(0).partitions[0].state, PartitionState::Online);
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, 0, 10, 100)), 0, "still known");
    assert_eq!(world.produced(peer, at(topic, 0), &batch(7, 1, 10, 100)), 10);
}

#[test]
fn group_members_share_chunks_and_acks_survive_a_restart() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    let member = world.connect(1);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    for sequence in 0..2 {
        world.produced(peer, at(topic, 1), &batch(7, sequence, 10, 100));
    }
    let got = world.take(member);
    assert_eq!(delivered(&got), [(1, 0, 0), (1, 10, 1)]);
    let BrokerMessage::Deliver(first) = &got[0].message else { panic!() };
    let lease = first.lease.unwrap();
    assert_eq!((lease.chunk_first, lease.chunk_last, lease.attempt), (0, 9, 1));
    let ack =
        Ack { subscription: 1, partition: 1, first: 0, last: 9, generation: lease.generation };
    world.send(member, 21, ClientMessage::Ack(ack), b"");
    assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
    world.send(member, 22, ClientMessage::Ack(ack), b"");
    assert_eq!(refusal(&world.next(member)), ErrorCode::LEASE_LOST);

    let mut world = World::on(world.disk, 3);
    let member = world.connect(2);
    let got = subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "b")));
    assert_eq!(delivered(&got), [(1, 10, 1)], "only what was not acked");
    let BrokerMessage::Deliver(again) = &got[1].message else { panic!("{got:?}") };
    let lease = again.lease.unwrap();
    assert_eq!((lease.chunk_first, lease.chunk_last), (10, 19));
}

#[test]
fn chunks_of_a_member_that_disconnects_go_to_another() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    let first = world.connect(1);
    subscribe_earliest(&mut world, first, topic, SubscribeMode::Group(group("g", "a")));
    world.produced(peer, at(topic, 0), &batch(7, 0, 10, 100));
    assert_eq!(delivered(&world.take(first)), [(0, 0, 0)]);
    let second = world.connect(0);
    let got = subscribe_earliest(&mut world, second, topic, SubscribeMode::Group(group("g", "b")));
    assert_eq!(delivered(&got), []);
    world.disconnect(first);
    assert_eq!(delivered(&world.take(second)), [], "a lost member is a failed attempt: it rests");
    world.pass_ms(300);
    assert_eq!(delivered(&world.take(second)), [(0, 0, 0)]);
}

#[test]
fn memory_topic_needs_no_disk_and_reports_what_was_missed() {
    let mut world = World::with(TestDisk::default(), 1, |config| {
        config.memory_topic_bytes = 16 * 1024;
    });
    let peer = world.connect(0);
    let topic = world.create_topic_with(peer, "t", 1, settings(Durability::Memory));
    world.disk_runs = false;
    let subscriber = world.connect(0);
    let ClientMessage::Subscribe(mut message) =
        subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest)
    else {
        unreachable!()
    };
    message.credit_bytes = 4_096;
    world.send(subscriber, 9, ClientMessage::Subscribe(message), b"");
    world.take(subscriber);
    for sequence in 0..10 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 1, 3_500));
    }
    let credit = Credit { subscription: 1, partition: 0, bytes: 4_096 };
    world.send(subscriber, 0, ClientMessage::Credit(credit), b"");
    let got = world.take(subscriber);
    assert_eq!(delivered(&got), [(0, 0, 0), (0, 6, 6)]);
    let missed: Vec<_> = got
        .iter()
        .filter_map(|got| match &got.message {
            BrokerMessage::Missed(missed) => Some(missed.first..=missed.last),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(missed, [1, 2, 3, 4, 5], "each once, in order");
}

#[test]
fn drain_answers_what_is_in_flight_refuses_the_rest_and_ends() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    let idle = world.connect(1);
    world.disk_runs = false;
    world.produce(peer, 11, at(topic, 1), &batch(7, 0, 10, 100));
    world.settle();
    world.drain();
    world.produce(peer, 12, at(topic, 1), &batch(7, 1, 10, 100));
    world.settle();
    assert_eq!(refusal(&world.next(peer)), ErrorCode::DRAINING);
    assert!(matches!(world.next(idle).message, BrokerMessage::Goodbye(_)));
    assert!(world.is_closed(idle) && !world.is_closed(peer));
    assert_eq!(world.drained, 0);
    world.disk_runs = true;
    world.settle();
    let got = world.take(peer);
    assert!(matches!(got[0].message, BrokerMessage::ProduceReply(_)), "{got:?}");
    assert!(matches!(got[1].message, BrokerMessage::Goodbye(_)), "{got:?}");
    assert!(world.is_closed(peer));
    assert_eq!(world.drained, 2);
}
