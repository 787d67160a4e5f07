//! Dead records on their way to the dead-letter topic.

use lanecast_wire::batch::schema;
use lanecast_wire::dead_letter::DeadLetter;
use lanecast_wire::message::{DescribeTopic, OffsetRange, Terminate, TopicInfo, TopicSettings};

use super::*;
use crate::LogId;
use crate::testing::SEGMENT;

/// Origin, partition, first and last offset of the dead, reason.
type Letter = (String, u32, Vec<(u64, u64)>, String);

fn describe(world: &mut World, peer: Peer, name: &str) -> Option<TopicInfo> {
    let describe = ClientMessage::DescribeTopic(DescribeTopic { name: name.into() });
    world.send(peer, 5, describe, b"");
    match world.next(peer).message {
        BrokerMessage::Topics(mut reply) => reply.topics.pop(),
        BrokerMessage::Refusal(_) => None,
        other => panic!("{other:?}"),
    }
}

/// All letters of a dead-letter topic, in the order of each partition.
fn letters(world: &mut World, topic: &str) -> Vec<Letter> {
    let peer = world.connect(0);
    let Some(info) = describe(world, peer, topic) else { return Vec::new() };
    let got = subscribe_earliest(world, peer, TopicId(info.topic), SubscribeMode::Broadcast);
    let mut letters = Vec::new();
    for got in got.iter().filter(|got| matches!(got.message, BrokerMessage::Deliver(_))) {
        let payload = bytes::Bytes::copy_from_slice(&got.payload);
        for (header, bytes) in wire_batch::iter(&payload).map(Result::unwrap) {
            assert_eq!((header.schema, header.record_count), (schema::DEAD_LETTER, 1));
            wire_batch::check(&bytes).unwrap();
            let letter = DeadLetter::open(wire_batch::body(&bytes)).unwrap();
            let ranges = letter.ranges.iter().map(|range| (range.first, range.last)).collect();
            letters.push((letter.topic.into(), letter.partition, ranges, letter.reason.into()));
        }
    }
    world.disconnect(peer);
    letters
}

/// A member of group `g` that holds a chunk of ten records in two batches, and its generation.
fn member_with_chunk(world: &mut World, topic: TopicId, index: u32) -> (Peer, u64) {
    member_with_batches(world, topic, index, 2)
}

/// The same in so many batches.
fn member_with_batches(world: &mut World, topic: TopicId, index: u32, batches: u64) -> (Peer, u64) {
    let peer = world.connect(0);
    for sequence in 0..batches {
        world.produced(peer, at(topic, index), &batch(7, sequence, 10 / batches as u32, 100));
    }
    let member = world.connect(0);
    let got = subscribe_earliest(world, member, topic, SubscribeMode::Group(group("g", "a")));
    let generation = got.iter().find_map(|got| match &got.message {
        BrokerMessage::Deliver(deliver) => deliver.lease.map(|lease| lease.generation),
        _ => None,
    });
    (member, generation.expect("a chunk was handed out"))
}

fn terminate(index: u32, generation: u64, ranges: &[(u64, u64)]) -> ClientMessage {
    let ranges = ranges.iter().map(|(first, last)| OffsetRange { first: *first, last: *last });
    ClientMessage::Terminate(Terminate {
        subscription: 1,
        partition: index,
        ranges: ranges.collect(),
        generation,
        reason: "no number".into(),
    })
}

#[test]
fn terminated_records_are_in_the_dead_letter_topic_when_that_is_answered() {
    for shards in 1..=3 {
        let mut world = World::new(shards);
        let peer = world.connect(shards - 1);
        let topic = world.create_topic(peer, "t", 3);
        let (member, generation) = member_with_chunk(&mut world, topic, 2);
        world.send(member, 20, terminate(2, generation, &[(1, 2), (4, 6)]), b"");
        world.pass_ms(1_000);
        let got = world.take(member);
        assert!(
            got.iter()
                .any(|got| got.correlation == 20 && matches!(got.message, BrokerMessage::Done(_))),
            "{shards} shards: {got:?}"
        );
        let expected = [
            ("t".to_owned(), 2, vec![(1, 2), (4, 4)], "no number".to_owned()),
            ("t".to_owned(), 2, vec![(5, 6)], "no number".to_owned()),
        ];
        assert_eq!(letters(&mut world, "t.dlq"), expected);
        let info = describe(&mut world, peer, "t.dlq").unwrap();
        assert_eq!((info.partitions, info.settings.max_attempts), (3, 0));
        // The rest of the chunk is acknowledged as ever.
        let ack = Ack { subscription: 1, partition: 2, first: 0, last: 9, generation };
        world.send(member, 21, ClientMessage::Ack(ack), b"");
        assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
    }
}

#[test]
fn chunk_out_of_attempts_dies_once_over_crashes_at_every_step() {
    // The broker dies after each number of disk requests until the death is over; whatever was
    // done by then, there is one letter for each batch in the end.
    let mut steps = 0;
    loop {
        let mut world = World::new(2);
        let peer = world.connect(0);
        let topic = world.create_topic(peer, "t", 1);
        let (member, generation) = member_with_chunk(&mut world, topic, 0);
        world.disk_runs = false;
        world.send(member, 20, terminate(0, generation, &[(0, 9)]), b"");
        let mut done = 0;
        assert!(steps < 100, "the death comes to no end");
        while done < steps {
            if world.pending.is_empty() {
                world.pass_ms(100);
            }
            if world.pending.is_empty() {
                break;
            }
            world.complete(0);
            world.settle();
            done += 1;
        }
        let answered = world.take(member).iter().any(|got| got.correlation == 20);
        let mut world = World::on(world.disk, 1);
        let peer = world.connect(0);
        world.pass_ms(10_000);
        let found = letters(&mut world, "t.dlq");
        if !found.is_empty() || answered {
            let ranges: Vec<_> = found.iter().flat_map(|letter| letter.2.clone()).collect();
            assert_eq!(ranges, [(0, 4), (5, 9)], "died after {done} requests");
        }
        let member = world.connect(0);
        let got =
            subscribe_earliest(&mut world, member, topic, SubscribeMode::Group(group("g", "b")));
        let again = delivered(&got).len();
        assert_eq!(again, if found.is_empty() { 2 } else { 0 }, "died after {done} requests");
        let _ = peer;
        if answered {
            assert!(steps > 4, "{steps} steps are no sweep");
            return;
        }
        steps += 1;
    }
}

#[test]
fn letters_come_once_though_a_batch_rots_between_two_attempts() {
    // The broker dies after each number of disk requests, and finds one of the dead batches rotten.
    let mut torn_deaths = 0;
    for steps in 0..100 {
        let mut world = World::new(1);
        let peer = world.connect(0);
        let topic = world.create_topic(peer, "t", 1);
        let letters_topic = world.create_topic(peer, "t.dlq", 1);
        let (member, generation) = member_with_batches(&mut world, topic, 0, 10);
        world.disk_runs = false;
        world.send(member, 20, terminate(0, generation, &[(0, 9)]), b"");
        for _ in 0..steps {
            if !world.pending.is_empty() {
                world.complete(0);
                world.settle();
            }
        }
        let answered = world.take(member).iter().any(|got| got.correlation == 20);
        let mut disk = world.disk;
        let buried = disk.logs.get(&LogId::Data(at(letters_topic, 0))).unwrap().values();
        let letters_in = |data: &Vec<u8>| data.windows(9).filter(|it| it == b"no number").count();
        let before: usize = buried.map(letters_in).sum();
        torn_deaths += usize::from(before > 1 && before < 10);
        let segments = disk.logs.get_mut(&LogId::Data(at(topic, 0))).unwrap();
        let data = segments.values_mut().next().unwrap();
        let body = data.windows(100).position(|bytes| bytes == [1; 100]).unwrap();
        data[body] ^= 1;
        let mut world = World::on(disk, 1);
        world.pass_ms(10_000);
        let found: Vec<_> = letters(&mut world, "t.dlq").iter().map(|it| it.2[0].0).collect();
        let left: Vec<_> = found.iter().copied().filter(|offset| *offset != 1).collect();
        let whole = [0, 2, 3, 4, 5, 6, 7, 8, 9];
        assert!(left == whole || (left.is_empty() && !answered), "{steps} steps: {found:?}");
        assert!(found.len() <= 10, "{steps} steps: {found:?}");
        if answered {
            assert!(torn_deaths > 0, "no attempt came to a stop between two letters");
            return;
        }
    }
    panic!("the death comes to no end");
}

#[test]
fn letters_wait_while_the_dead_letter_topic_is_offline_and_the_group_goes_on() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    let letters_topic = world.create_topic(peer, "t.dlq", 1);
    assert_eq!(letters_topic, TopicId(topic.0 + 1));
    let (member, generation) = member_with_chunk(&mut world, topic, 0);
    world.fails = Some((
        |request| matches!(request, DiskRequest::Commit { log: LogId::Data(id), .. } if id.topic.0 == 2),
        DiskErrorKind::Io,
    ));
    world.send(member, 20, terminate(0, generation, &[(0, 9)]), b"");
    world.pass_ms(1_000);
    assert!(!world.take(member).iter().any(|got| got.correlation == 20), "nothing is durable");
    let stats = &world.stats(0).partitions[0];
    assert_eq!(stats.burials, 1);
    assert!(stats.letter_retries > 0);
    for sequence in 2..4 {
        world.produced(peer, at(topic, 0), &batch(7, sequence, 5, 100));
    }
    assert_eq!(delivered(&world.take(member)), [(0, 10, 2), (0, 15, 3)], "the next chunk");
    world.fails = None;
    for _ in 0..60 {
        world.pass_ms(1_000);
    }
    assert!(world.take(member).iter().any(|got| got.correlation == 20));
    // The other chunk has run out of attempts by now, and stands behind.
    let first: Vec<_> = letters(&mut world, "t.dlq").drain(..2).map(|letter| letter.2).collect();
    assert_eq!(first, [vec![(0, 4)], vec![(5, 9)]]);
    assert_eq!(world.stats(0).partitions[0].burials, 0);
}

#[test]
fn nothing_dies_in_a_dead_letter_topic() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t.dlq", 1);
    let (member, generation) = member_with_chunk(&mut world, topic, 0);
    world.send(member, 20, terminate(0, generation, &[(0, 9)]), b"");
    assert_eq!(refusal(&world.next(member)), ErrorCode::INVALID_REQUEST);
    assert!(describe(&mut world, peer, "t.dlq.dlq").is_none());
}

/// Commits to the topic that was made second fail.
fn to_the_second(request: &DiskRequest) -> bool {
    matches!(request, DiskRequest::Commit { log: LogId::Data(id), .. } if id.topic.0 == 2)
}

/// Produces until that is refused because retention may take nothing.
fn fill(world: &mut World, peer: Peer, topic: TopicId, mut sequence: u64) {
    loop {
        world.send(peer, 22, produce(at(topic, 0)), &batch(7, sequence, 5, 3_500));
        let got = world.next(peer);
        if matches!(got.message, BrokerMessage::Refusal(_)) {
            assert_eq!(refusal(&got), ErrorCode::OVERLOADED);
            return;
        }
        sequence += 1;
        assert!(sequence < 1_000, "nothing is held");
    }
}

#[test]
fn restart_leaves_what_dies_to_its_burial_however_full_the_topic_is() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let small = TopicSettings { retention_bytes: 2 * SEGMENT, ..settings(Durability::Fsync) };
    let topic = world.create_topic_with(peer, "t", 1, small);
    world.create_topic(peer, "t.dlq", 1);
    let (member, generation) = member_with_chunk(&mut world, topic, 0);
    world.fails = Some((to_the_second, DiskErrorKind::Io));
    world.send(member, 20, terminate(0, generation, &[(0, 9)]), b"");
    fill(&mut world, peer, topic, 2);
    assert_eq!(world.stats(0).partitions[0].log_start, 0);
    let mut world = World::on(world.disk, 1);
    world.pass_ms(10_000);
    let ranges: Vec<_> = letters(&mut world, "t.dlq").into_iter().map(|it| it.2).collect();
    assert_eq!(ranges, [vec![(0, 4)], vec![(5, 9)]]);
}

#[test]
fn drain_answers_terminates_that_are_not_buried_and_ends() {
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    world.create_topic(peer, "t.dlq", 1);
    let (member, generation) = member_with_chunk(&mut world, topic, 0);
    world.fails = Some((to_the_second, DiskErrorKind::Io));
    world.send(member, 20, terminate(0, generation, &[(0, 4)]), b"");
    world.pass_ms(1_000);
    world.take(member);
    world.drain();
    let answer = world.take(member).into_iter().find(|got| got.correlation == 20);
    assert_eq!(refusal(&answer.expect("the terminate is answered")), ErrorCode::DRAINING);
    for _ in 0..20 {
        world.pass_ms(1_000);
    }
    assert!(world.is_closed(member) && world.is_closed(peer));
    assert_eq!(world.drained, 1);
    // What was to die dies after the restart, once.
    let mut world = World::on(world.disk, 1);
    world.pass_ms(10_000);
    let ranges: Vec<_> = letters(&mut world, "t.dlq").into_iter().map(|it| it.2).collect();
    assert_eq!(ranges, [vec![(0, 4)]]);
}
