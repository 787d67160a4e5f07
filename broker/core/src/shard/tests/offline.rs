//! Subscriptions to topics of which a partition cannot be read, or is another than it was.

use lanecast_wire::KeyFilter;
use lanecast_wire::message::{
    Lease, PartitionPosition, PartitionStart, Subscribe, SubscribeReply, Unsubscribe,
};

use super::*;
use crate::LogId;

fn opened(world: &mut World, peer: Peer, subscribe: Subscribe) -> SubscribeReply {
    world.send(peer, 20, ClientMessage::Subscribe(subscribe), b"");
    reply(&world.take(peer))
}

fn reply(got: &[Got]) -> SubscribeReply {
    match &got[0].message {
        BrokerMessage::SubscribeReply(reply) => reply.clone(),
        other => panic!("{other:?}"),
    }
}

fn subscription(TopicId(topic): TopicId, mode: SubscribeMode) -> Subscribe {
    let (starts, filter) = (Vec::new(), KeyFilter::default());
    let start = StartPosition::Earliest;
    Subscribe { subscription: 1, topic, mode, start, starts, credit_bytes: 1 << 20, filter }
}

fn partitions(positions: &[PartitionPosition]) -> Vec<u32> {
    positions.iter().map(|position| position.partition).collect()
}

/// Partitions that frames are of, each once for a row of them.
fn partitions_of(got: &[Got]) -> Vec<u32> {
    let partition = |got: &Got| match &got.message {
        BrokerMessage::Deliver(deliver) => Some(deliver.partition),
        _ => None,
    };
    let mut partitions: Vec<u32> = got.iter().filter_map(partition).collect();
    partitions.dedup();
    partitions
}

/// Both partitions of a topic have records; of the second, `is_held` requests are not answered.
fn restarted(shards: u16, is_held: fn(LogId) -> bool) -> (World, TopicId) {
    let mut world = World::new(shards);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 2);
    for partition in 0..2 {
        world.produced(peer, at(topic, partition), &batch(7, 0, 10, 100));
    }
    let mut world = World::on_idle(world.disk, shards);
    answer_all_but(&mut world, is_held);
    (world, topic)
}

fn answer_all_but(world: &mut World, is_held: fn(LogId) -> bool) {
    while let Some(next) = world.pending.iter().position(|(_, _, request)| !is_held(request.log()))
    {
        world.complete(next);
        world.settle();
    }
}

fn is_second(log: LogId) -> bool {
    matches!(log, LogId::Data(of) | LogId::Groups(of) if of.index == 1)
}

fn is_groups_of_second(log: LogId) -> bool {
    matches!(log, LogId::Groups(of) if of.index == 1)
}

#[test]
fn one_partition_that_is_offline_keeps_nobody_from_the_others_and_follows() {
    for shards in [1, 2] {
        for (mode, is_held) in [
            (SubscribeMode::Broadcast, is_second as fn(LogId) -> bool),
            (SubscribeMode::Group(group("g", "a")), is_second),
            (SubscribeMode::Group(group("g", "a")), is_groups_of_second),
        ] {
            let (mut world, topic) = restarted(shards, is_held);
            let peer = world.connect(0);
            let subscribe = subscription(topic, mode.clone());
            world.send(peer, 20, ClientMessage::Subscribe(subscribe), b"");
            // A group is written down before its member is answered.
            answer_all_but(&mut world, is_held);
            world.pass_ms(1_000);
            answer_all_but(&mut world, is_held);
            let got = world.take(peer);
            let reply = reply(&got);
            assert_eq!((partitions(&reply.positions), reply.offline), (vec![0], vec![1]));
            assert_eq!(partitions_of(&got), [0], "{mode:?}");
            world.disk_runs = true;
            world.settle();
            world.pass_ms(1_000);
            let got = world.take(peer);
            let BrokerMessage::PartitionOnline(online) = &got[0].message else {
                panic!("{mode:?}: {got:?}");
            };
            assert_eq!((online.subscription, online.position.partition), (1, 1));
            assert_eq!(partitions_of(&got), [1], "{mode:?}");
            goes_on(&mut world, peer, topic, got.iter().find_map(lease));
        }
    }
}

fn lease(got: &Got) -> Option<Lease> {
    match &got.message {
        BrokerMessage::Deliver(deliver) => deliver.lease,
        _ => None,
    }
}

/// Acks and credit count for the partition that came later as they do for the others.
fn goes_on(world: &mut World, peer: Peer, topic: TopicId, lease: Option<Lease>) {
    if let Some(lease) = lease {
        let (first, last, generation) = (lease.chunk_first, lease.chunk_last, lease.generation);
        let ack = Ack { subscription: 1, partition: 1, first, last, generation };
        world.send(peer, 30, ClientMessage::Ack(ack), b"");
        assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)));
        return;
    }
    let producer = world.connect(0);
    for sequence in 1..=30 {
        world.produced(producer, at(topic, 1), &batch(7, sequence, 1, 40_000));
    }
    world.take(peer);
    assert_eq!(world.take(peer), [], "its credit is used up");
    let credit = Credit { subscription: 1, partition: 1, bytes: 1 << 20 };
    world.send(peer, 0, ClientMessage::Credit(credit), b"");
    assert_eq!(partitions_of(&world.take(peer)), [1]);
}

#[test]
fn whoever_leaves_waits_for_no_partition_any_more() {
    let (mut world, topic) = restarted(1, is_second);
    let peer = world.connect(0);
    let reply = opened(&mut world, peer, subscription(topic, SubscribeMode::Broadcast));
    assert_eq!(reply.offline, [1]);
    let unsubscribe = Unsubscribe { subscription: 1 };
    world.send(peer, 21, ClientMessage::Unsubscribe(unsubscribe), b"");
    assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)));
    world.disk_runs = true;
    world.settle();
    assert!(world.take(peer).is_empty(), "nobody waits any more");
    let readers: u32 = world.stats(0).partitions.iter().map(|one| one.subscribers).sum();
    assert_eq!(readers, 0, "nor has a place that nobody gives back");
}

#[test]
fn a_position_in_a_log_that_is_no_more_leads_to_the_new_ones_beginning() {
    let memory = settings(Durability::Memory);
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic_with(peer, "t", 1, memory);
    for sequence in 0..3 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 10, 100));
    }
    let first = opened(&mut world, peer, subscription(topic, SubscribeMode::Broadcast));
    let old = first.positions[0];
    let start_at = |offset, log_epoch| {
        let start = StartPosition::Offset(offset);
        let starts = vec![PartitionStart { partition: 0, start, log_epoch }];
        Subscribe { starts, ..subscription(topic, SubscribeMode::Broadcast) }
    };
    // The broker starts again, and somebody has produced more than was there before.
    let mut world = World::with(world.disk, 1, |config| config.seed += 1);
    let peer = world.connect(0);
    for sequence in 0..4 {
        world.produced(peer, at(topic, 0), &batch(8, sequence, 10, 100));
    }
    let reply = opened(&mut world, peer, start_at(20, old.log_epoch));
    let now = reply.positions[0];
    assert_ne!(now.log_epoch, old.log_epoch);
    assert_eq!((now.next_offset, now.high_watermark), (0, 40));
    let same = world.connect(0);
    let reply = opened(&mut world, same, start_at(20, now.log_epoch));
    assert_eq!(reply.positions[0].next_offset, 20);
    let any = world.connect(0);
    let reply = opened(&mut world, any, start_at(20, 0));
    assert_eq!(reply.positions[0].next_offset, 20);
}

#[test]
fn a_position_behind_the_end_is_refused_but_to_who_has_been_there() {
    let mut world = World::on(TestDisk::default(), 1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    world.produced(peer, at(topic, 0), &batch(7, 0, 10, 100));
    let start_at = |log_epoch| {
        let start = StartPosition::Offset(11);
        let starts = vec![PartitionStart { partition: 0, start, log_epoch }];
        Subscribe { starts, ..subscription(topic, SubscribeMode::Broadcast) }
    };
    world.send(peer, 20, ClientMessage::Subscribe(start_at(0)), b"");
    assert_eq!(refusal(&world.next(peer)), ErrorCode::OFFSET_OUT_OF_RANGE);
    let first = opened(&mut world, peer, subscription(topic, SubscribeMode::Broadcast));
    let other = world.connect(0);
    // A topic that is only `written` may have lost its end with the machine's power.
    let reply = opened(&mut world, other, start_at(first.positions[0].log_epoch));
    assert_eq!(reply.positions[0].next_offset, 10);
}
