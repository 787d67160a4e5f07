//! Consumer groups over a connection: parts of chunks, positions, and retention.

use lanecast_wire::message::{
    AlterTopic, DeleteGroup, GroupInfo, GroupOptions, Lease, ListGroups, MoveGroup, Nack,
    OffsetRange, Terminate, TopicSettings, Unsubscribe,
};

use super::*;
use crate::testing::SEGMENT;

const SUBSCRIPTION: u32 = 1;

/// Chunks of forty records.
fn wide(member: &str) -> SubscribeMode {
    let options = group("g", member);
    SubscribeMode::Group(GroupOptions { chunk_records: 40, chunk_linger_ms: 50, ..options })
}

fn leases(got: &[Got]) -> Vec<Lease> {
    let lease = |got: &Got| match &got.message {
        BrokerMessage::Deliver(deliver) => deliver.lease,
        _ => None,
    };
    let mut leases: Vec<Lease> = got.iter().filter_map(lease).collect();
    leases.dedup();
    leases
}

fn ack(lease: &Lease, first: u64, last: u64) -> ClientMessage {
    let (partition, generation) = (0, lease.generation);
    ClientMessage::Ack(Ack { subscription: SUBSCRIPTION, partition, first, last, generation })
}

fn groups(world: &mut World, peer: Peer, message: ClientMessage) -> Vec<GroupInfo> {
    world.send(peer, 30, message, b"");
    match world.next(peer).message {
        BrokerMessage::Groups(reply) => reply.groups,
        other => panic!("{other:?}"),
    }
}

fn refused(world: &mut World, peer: Peer, message: ClientMessage) -> ErrorCode {
    world.send(peer, 31, message, b"");
    refusal(&world.next(peer))
}

#[test]
fn parts_of_a_chunk_are_settled_and_the_next_member_is_told() {
    let mut world = World::new(2);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    let member = world.connect(1);
    subscribe_earliest(&mut world, member, topic, wide("a"));
    for sequence in 0..4 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 10, 100));
    }
    let lease = leases(&world.take(member)).remove(0);
    assert_eq!((lease.chunk_first, lease.chunk_last), (0, 39));
    world.send(member, 20, ack(&lease, 10, 19), b"");
    assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
    let nack = Nack {
        subscription: SUBSCRIPTION,
        partition: 0,
        first: 25,
        last: 26,
        generation: lease.generation,
        delay_ms: 0,
        reason: "no".into(),
    };
    world.send(member, 21, ClientMessage::Nack(nack), b"");
    assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
    let terminate = Terminate {
        subscription: SUBSCRIPTION,
        partition: 0,
        ranges: vec![OffsetRange { first: 90, last: 91 }],
        generation: lease.generation,
        reason: String::new(),
    };
    let lost = refused(&mut world, member, ClientMessage::Terminate(terminate));
    assert_eq!(lost, ErrorCode::LEASE_LOST, "records of another chunk");

    let next = world.connect(0);
    subscribe_earliest(&mut world, next, topic, wide("b"));
    world.disconnect(member);
    world.pass_ms(1_000);
    let got = world.take(next);
    let mut seen = leases(&got);
    seen.sort_by_key(|lease| lease.chunk_first);
    let bounds: Vec<_> =
        seen.iter().map(|it| (it.chunk_first, it.chunk_last, it.attempt)).collect();
    assert_eq!(bounds, [(0, 39, 2), (25, 26, 2)]);
    assert_eq!(seen[0].appended_ms, lease.appended_ms);
    let told = got.iter().position(|got| matches!(got.message, BrokerMessage::Settled(_)));
    let BrokerMessage::Settled(settled) = &got[told.expect("settled parts are told")].message
    else {
        panic!("{got:?}")
    };
    let ranges: Vec<_> = settled.ranges.iter().map(|range| (range.first, range.last)).collect();
    assert_eq!((settled.generation, &*ranges), (seen[0].generation, &[(10, 19), (25, 26)][..]));
    let of = |got: &&Got| leases(std::slice::from_ref(got)) == [seen[0]];
    let whole: Vec<Got> = got.iter().filter(of).cloned().collect();
    assert!(got[..told.unwrap()].iter().all(|got| leases(std::slice::from_ref(got)) != [seen[0]]));
    assert_eq!(delivered(&whole), [(0, 0, 0), (0, 20, 2), (0, 30, 3)], "10 to 19 are settled");
    let part: Vec<Got> = got.iter().filter(|got| !of(got)).cloned().collect();
    assert_eq!(delivered(&part), [(0, 20, 2)], "the batch that the part lies in");
}

#[test]
fn a_move_that_is_still_looked_up_does_not_undo_a_later_one() {
    let mut world = World::with(TestDisk::default(), 1, |config| config.cache_bytes = 0);
    let (peer, member) = (world.connect(0), world.connect(0));
    let topic = world.create_topic(peer, "t", 1);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    world.disconnect(member);
    for sequence in 0..30 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 10, 100));
    }
    let to = |to| {
        let group = "g".to_owned();
        ClientMessage::MoveGroup(MoveGroup { topic: topic.0, partition: 0, group, to })
    };
    world.disk_runs = false;
    world.send(peer, 31, to(StartPosition::Offset(15)), b"");
    assert!(world.take(peer).is_empty(), "it is read from disk");
    world.send(peer, 32, to(StartPosition::Latest), b"");
    world.disk_runs = true;
    world.settle();
    let got = world.take(peer);
    assert_eq!((got.len(), refusal(&got[0])), (2, ErrorCode::OVERLOADED), "{got:?}");
    assert!(matches!(got[1].message, BrokerMessage::Groups(_)), "{got:?}");
    let list = ClientMessage::ListGroups(ListGroups { topic: topic.0, partition: 0 });
    assert_eq!(groups(&mut world, peer, list)[0].acked_upto, 300);
}

#[test]
fn groups_are_listed_moved_and_deleted() {
    let mut world = World::new(2);
    let peer = world.connect(1);
    let topic = world.create_topic(peer, "t", 1);
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    for sequence in 0..3 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 10, 100));
    }
    let list = ClientMessage::ListGroups(ListGroups { topic: topic.0, partition: 0 });
    let to = |group: &str, to| {
        let group = group.to_owned();
        ClientMessage::MoveGroup(MoveGroup { topic: topic.0, partition: 0, group, to })
    };
    let delete = |partition| {
        let group = "g".to_owned();
        ClientMessage::DeleteGroup(DeleteGroup { topic: topic.0, partition, group })
    };
    let lease = leases(&world.take(member)).remove(0);
    world.send(member, 20, ack(&lease, 0, 9), b"");
    world.take(member);
    let known = groups(&mut world, peer, list.clone()).remove(0);
    assert_eq!((known.name.as_str(), known.members, known.acked_upto), ("g", 1, 10));
    assert_eq!((known.high_watermark, known.lag_records), (30, 20));

    let active = refused(&mut world, peer, to("g", StartPosition::Earliest));
    assert_eq!(active, ErrorCode::GROUP_ACTIVE);
    assert_eq!(refused(&mut world, peer, delete(0)), ErrorCode::GROUP_ACTIVE);
    let leave = ClientMessage::Unsubscribe(Unsubscribe { subscription: SUBSCRIPTION });
    world.send(member, 21, leave, b"");
    world.take(member);
    let unknown = refused(&mut world, peer, to("h", StartPosition::Earliest));
    assert_eq!(unknown, ErrorCode::UNKNOWN_GROUP);
    let beyond = refused(&mut world, peer, to("g", StartPosition::Offset(31)));
    assert_eq!(beyond, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(refused(&mut world, peer, delete(1)), ErrorCode::UNKNOWN_PARTITION);
    // To the batch that holds the offset: chunks are whole batches.
    for (start, upto) in [(25, 20), (30, 30), (9, 0)] {
        let moved = groups(&mut world, peer, to("g", StartPosition::Offset(start))).remove(0);
        assert_eq!((moved.acked_upto, moved.lag_records), (upto, 30 - upto));
    }
    let mut world = World::on(world.disk, 2);
    let member = world.connect(0);
    let got = subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "b")));
    assert_eq!(leases(&got)[0].chunk_first, 0, "what was acked is delivered again");
    world.disconnect(member);
    let peer = world.connect(1);
    world.send(peer, 40, delete(0), b"");
    assert!(matches!(world.next(peer).message, BrokerMessage::Done(_)));
    let mut world = World::on(world.disk, 2);
    let peer = world.connect(1);
    assert_eq!(groups(&mut world, peer, list), []);
}

#[test]
fn retention_stops_at_a_lease_unless_the_topic_says_otherwise() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let small = TopicSettings { retention_bytes: 2 * SEGMENT, ..settings(Durability::Fsync) };
    let topic = world.create_topic_with(peer, "t", 1, small);
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    let mut sequence = 0;
    // Producers wait while retention may not take the oldest segment.
    let mut fill = |world: &mut World| {
        for _ in 0..100 {
            world.send(peer, 22, produce(at(topic, 0)), &batch(7, sequence, 10, 3_500));
            let got = world.next(peer);
            if matches!(got.message, BrokerMessage::Refusal(_)) {
                assert_eq!(refusal(&got), ErrorCode::OVERLOADED);
                break;
            }
            sequence += 1;
        }
        world.stats(0).partitions[0].log_start
    };
    let held = |world: &mut World| leases(&world.take(member));
    assert_eq!(fill(&mut world), 0);
    let first = held(&mut world);
    assert_eq!((first.len(), first[0].chunk_first), (2, 0));
    world.send(member, 20, ack(&first[0], 0, 9), b"");
    let behind = fill(&mut world);
    assert!(behind <= first[1].chunk_first, "log starts at {behind}");

    let breaks = AlterTopic {
        name: "t".into(),
        retention_breaks_leases: Some(true),
        ..AlterTopic::default()
    };
    world.send(peer, 21, ClientMessage::AlterTopic(breaks), b"");
    world.take(peer);
    fill(&mut world);
    assert!(fill(&mut world) > 1_000);
    assert!(world.stats(0).partitions[0].groups[0].leases_broken > 0);
    world.take(member);
    let late = ack(&first[1], first[1].chunk_first, first[1].chunk_last);
    assert_eq!(refused(&mut world, member, late), ErrorCode::LEASE_LOST);
}

#[test]
fn what_grew_too_old_while_nothing_happened_is_not_handed_out() {
    for goes in [false, true] {
        let mut world = World::new(1);
        let peer = world.connect(0);
        let mortal = TopicSettings { record_ttl_ms: 10_000, ..settings(Durability::Fsync) };
        let topic = world.create_topic_with(peer, "t", 1, mortal);
        let one = || GroupOptions { chunks_in_flight: 1, lease_ms: 60_000, ..group("g", "a") };
        let member = world.connect(0);
        subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(one()));
        for sequence in 0..2 {
            world.produced(peer, at(topic, 0), &batch(7, sequence, 10, 100));
        }
        let lease = leases(&world.take(member)).remove(0);
        let other = world.connect(0);
        // No timer is due meanwhile.
        world.now.mono_us += 11_000_000;
        world.now.wall_ms += 11_000;
        if goes {
            // Its place is taken by one that has room.
            subscribe_earliest(&mut world, other, topic, SubscribeMode::Group(one()));
            world.disconnect(member);
        } else {
            world.send(member, 20, ack(&lease, 0, 9), b"");
        }
        world.pass_ms(1_000);
        let handed_out = leases(&world.take(if goes { other } else { member }));
        assert_eq!(handed_out, [], "the next chunk has outlived its time");
    }
}

#[test]
fn retention_leaves_members_that_had_chunks_time_to_come_back_after_a_restart() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let small = TopicSettings { retention_bytes: 2 * SEGMENT, ..settings(Durability::Fsync) };
    let topic = world.create_topic_with(peer, "t", 1, small);
    let member = world.connect(0);
    subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "a")));
    for sequence in 0..100 {
        world.send(peer, 22, produce(at(topic, 0)), &batch(7, sequence, 10, 3_500));
        if matches!(world.next(peer).message, BrokerMessage::Refusal(_)) {
            break;
        }
    }
    let before = leases(&world.take(member));
    let mut world = World::on(world.disk, 1);
    world.pass_ms(1_000);
    assert_eq!(world.stats(0).partitions[0].log_start, 0);
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "a"));
    let after = leases(&subscribe_earliest(&mut world, member, topic, mode));
    assert_eq!(after[0].chunk_first, before[0].chunk_first);
    world.disconnect(member);
    // Nobody comes: then it is as ever.
    for _ in 0..40 {
        world.pass_ms(1_000);
    }
    assert!(world.stats(0).partitions[0].log_start > 0);
}
