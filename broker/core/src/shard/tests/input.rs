//! Large batches: how they are received, and where they stay.

use std::ops::Range;

use lanecast_wire::message::Ping;
use lanecast_wire::{CorrelationId, FrameDecoder};

use super::*;
use crate::ShardConfig;
use crate::limits::EXPECTED_BYTES_MAX;

const BODY: usize = 30_000;

/// A producer, a subscriber who leaves everything in the shell, and a topic.
fn world(durability: Durability) -> (World, Peer, Peer, TopicId) {
    let mut world = World::new(1);
    let (producer, subscriber) = (world.connect(0), world.connect(0));
    let topic = world.create_topic_with(producer, "t", 2, settings(durability));
    let request = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(subscriber, 5, request, b"");
    world.take(subscriber);
    world.stop_reading(subscriber);
    (world, producer, subscriber, topic)
}

fn frame(correlation: u64, partition: PartitionId, batch: &[u8]) -> Vec<u8> {
    let head = produce(partition).encode(CorrelationId(correlation), batch.len() as u32);
    [&head[..], batch].concat()
}

/// Batches `sequences` of one producer, next to each other.
fn frames(partition: PartitionId, sequences: Range<u64>) -> Vec<u8> {
    sequences.flat_map(|at| frame(10 + at, partition, &batch(7, at, 2, BODY))).collect()
}

/// What was sent of bodies, and how much of that lies within `place`.
fn sent_from(world: &World, peer: Peer, place: &Range<usize>) -> (usize, usize) {
    let bulk = world.unread(peer).iter().filter(|buffer| buffer.len() > BODY);
    let within = bulk.clone().filter(|buffer| place.contains(&(buffer.as_ptr() as usize)));
    (bulk.map(|it| it.len()).sum(), within.map(|it| it.len()).sum())
}

fn place(buffer: &[u8]) -> Range<usize> {
    let range = buffer.as_ptr_range();
    range.start as usize..range.end as usize
}

#[test]
fn batches_of_a_memory_topic_stay_where_they_were_received() {
    let (mut world, producer, subscriber, topic) = world(Durability::Memory);
    // What was appended before comes first.
    world.produce(producer, 10, at(topic, 0), &batch(7, 0, 2, 100));
    let buffer = frames(at(topic, 0), 1..4);
    let place = place(&buffer);
    world.fill(producer, buffer);
    let (sent, within) = sent_from(&world, subscriber, &place);
    assert!(sent > 3 * BODY && within == sent, "{within} of {sent} bytes were not copied");
    let bytes = bytes::Bytes::from(world.unread(subscriber).concat());
    let mut decoder = FrameDecoder::default();
    let (mut input, mut found) = (&bytes[..], Vec::new());
    while let Some(frame) = decoder.next(&mut input).unwrap() {
        for item in wire_batch::iter(&bytes::Bytes::copy_from_slice(frame.payload)) {
            let (header, batch) = item.unwrap();
            wire_batch::check(&batch).unwrap();
            found.push((header.base_offset.0, header.sequence.0));
        }
    }
    assert_eq!(found, [(0, 0), (2, 1), (4, 2), (6, 3)]);
    let replies = world.take(producer).len();
    assert_eq!(replies, 4, "each is answered");
}

#[test]
fn a_buffer_that_holds_other_things_is_not_kept_for_the_sake_of_one_batch() {
    let others: [fn(TopicId) -> Vec<u8>; 3] = [
        |topic| frame(20, at(topic, 1), &batch(8, 0, 2, BODY)),
        |topic| frame(20, at(topic, 0), &batch(8, 0, 2, 2 * BODY)),
        |_| ClientMessage::Ping(Ping {}).encode(CorrelationId(20), 0).to_vec(),
    ];
    for other in others {
        let (mut world, producer, subscriber, topic) = world(Durability::Memory);
        let mut buffer = frames(at(topic, 0), 0..2);
        buffer.extend_from_slice(&other(topic));
        let place = place(&buffer);
        world.fill(producer, buffer);
        let (sent, within) = sent_from(&world, subscriber, &place);
        assert!(sent > 2 * BODY && within == 0, "{within} of {sent} bytes keep all of the buffer");
        assert_eq!(world.take(producer).len(), 3, "each is answered");
    }
    let (mut world, producer, subscriber, topic) = world(Durability::Memory);
    let mut roomy = frames(at(topic, 0), 0..2);
    roomy.reserve_exact(8 * BODY);
    let place = place(&roomy);
    world.fill(producer, roomy);
    let (sent, within) = sent_from(&world, subscriber, &place);
    assert!(sent > 2 * BODY && within == 0, "{within} of {sent} bytes keep much that is unused");
}

#[test]
fn a_cut_frame_is_gathered_and_those_behind_it_stay() {
    let (mut world, producer, subscriber, topic) = world(Durability::Memory);
    let whole = frames(at(topic, 0), 0..3);
    let (front, back) = whole.split_at(BODY / 2);
    world.fill(producer, front.to_vec());
    let buffer = back.to_vec();
    let place = place(&buffer);
    world.fill(producer, buffer);
    let (sent, within) = sent_from(&world, subscriber, &place);
    assert!(within > 2 * BODY && sent > within + BODY, "{within} of {sent}");
    assert_eq!(world.take(producer).len(), 3, "each is answered");
}

#[test]
fn topics_on_disk_copy_as_ever() {
    let (mut world, producer, subscriber, topic) = world(Durability::Fsync);
    let buffer = frames(at(topic, 0), 0..3);
    let place = place(&buffer);
    world.fill(producer, buffer);
    let (sent, within) = sent_from(&world, subscriber, &place);
    assert!(sent > 3 * BODY && within == 0, "blocks are written from where they are aligned");
}

#[test]
fn as_much_is_expected_as_ends_with_a_frame_and_only_of_large_ones() {
    let (mut world, producer, _, topic) = world(Durability::Memory);
    assert_eq!(world.expected(producer), 0);
    let one = frame(10, at(topic, 0), &batch(7, 0, 2, BODY));
    world.receive(producer, &one);
    let whole = EXPECTED_BYTES_MAX / one.len() * one.len();
    assert_eq!(world.expected(producer), whole);
    let two = frames(at(topic, 0), 1..3);
    world.receive(producer, &two[..one.len() + 1000]);
    let missing = one.len() - 1000;
    let left = EXPECTED_BYTES_MAX - missing;
    assert_eq!(world.expected(producer), missing + left / one.len() * one.len());
    world.receive(producer, &two[one.len() + 1000..]);
    assert_eq!(world.expected(producer), whole);
    world.produce(producer, 30, at(topic, 0), &batch(7, 3, 2, 10));
    assert_eq!(world.expected(producer), whole, "nothing was polled");
    world.settle();
    assert_eq!(world.expected(producer), 0, "small frames pass through the hot buffer");
}

#[test]
fn large_batches_that_come_in_pieces_are_taken_as_they_are() {
    for durability in [Durability::Memory, Durability::Fsync] {
        let adopting = |config: &mut ShardConfig| config.adopted_bytes_min = 2_000;
        let mut world = World::with(TestDisk::default(), 1, adopting);
        let (producer, subscriber) = (world.connect(0), world.connect(0));
        let topic = world.create_topic_with(producer, "t", 1, settings(durability));
        subscribe_earliest(&mut world, subscriber, topic, SubscribeMode::Broadcast);
        let large = 3_000;
        let batches = [
            batch(7, 0, 2, large),
            batch(7, 1, 2, large),
            batch(7, 1, 2, 100),
            batch(7, 2, 2, 2 * large),
            batch(7, 2, 2, 2 * large),
            batch(7, 3, 2, large),
        ];
        let mut batches = batches.map(|batch| batch.to_vec());
        batches[1][large / 2] ^= 1;
        let frames = batches.iter().zip(10..);
        let bytes: Vec<u8> =
            frames.flat_map(|(batch, number)| frame(number, at(topic, 0), batch)).collect();
        for piece in bytes.chunks(1_100) {
            world.receive(producer, piece);
        }
        let replies = world.take(producer);
        assert_eq!(replies.len(), batches.len(), "{replies:?}");
        let refusals = replies.iter().filter(|it| matches!(it.message, BrokerMessage::Refusal(_)));
        assert_eq!(refusals.map(refusal).collect::<Vec<_>>(), [ErrorCode::BAD_BATCH]);
        let mut found = Vec::new();
        while found.len() < 4 {
            let got = world.take(subscriber);
            assert!(!got.is_empty(), "{found:?}");
            found.extend(delivered(&got));
            world.credit(subscriber, 4 * 1024 * 1024);
        }
        assert_eq!(found, [(0, 0, 0), (0, 2, 1), (0, 4, 2), (0, 6, 3)], "{durability:?}");
    }
}

/// A world in which frames of more than 5,000 bytes are gathered where they are received.
fn gathering_world(durability: Durability) -> (World, Peer, TopicId) {
    let gathering = |config: &mut ShardConfig| {
        config.adopted_bytes_min = 2_000;
        config.expected_bytes_max = 5_000;
    };
    let mut world = World::with(TestDisk::default(), 1, gathering);
    let producer = world.connect(0);
    let topic = world.create_topic_with(producer, "t", 1, settings(durability));
    (world, producer, topic)
}

#[test]
fn a_very_large_frame_is_received_into_the_memory_that_its_batch_stays_in() {
    let (mut world, producer, topic) = gathering_world(Durability::Memory);
    let subscriber = world.connect(0);
    subscribe_earliest(&mut world, subscriber, topic, SubscribeMode::Broadcast);
    world.take(subscriber);
    world.stop_reading(subscriber);
    let first = frames(at(topic, 0), 0..1);
    world.receive(producer, &first[..7_000]);
    let mut begun = world.begun(producer).unwrap();
    assert_eq!((&begun[..], begun.capacity()), (&first[..7_000], 14_000), "none was seen before");
    begun.extend_from_slice(&first[7_000..14_000]);
    world.fill(producer, begun);
    let mut begun = world.begun(producer).unwrap();
    assert_eq!((begun.len(), begun.capacity()), (14_000, 28_000));
    begun.extend_from_slice(&first[14_000..28_000]);
    world.fill(producer, begun);
    let mut begun = world.begun(producer).unwrap();
    assert_eq!(begun.capacity(), first.len(), "not beyond its end");
    begun.extend_from_slice(&first[28_000..]);
    let place_of_first = place(&begun);
    world.fill(producer, begun);
    assert!(world.begun(producer).is_none(), "it is whole");
    let (sent, within) = sent_from(&world, subscriber, &place_of_first);
    assert!(sent > BODY && within == sent, "{within} of {sent} bytes were not copied");
    // Its size is known now: the next one gets memory for all of it.
    assert_eq!(world.expected(producer), first.len());
    let second = frames(at(topic, 0), 1..2);
    let mut buffer = Vec::with_capacity(first.len());
    buffer.extend_from_slice(&second[..500]);
    let place_of_second = place(&buffer).start..place(&buffer).start + second.len();
    world.fill(producer, buffer);
    let mut begun = world.begun(producer).unwrap();
    assert_eq!(begun.capacity(), second.len());
    begun.extend_from_slice(&second[500..]);
    world.fill(producer, begun);
    let (sent, within) = sent_from(&world, subscriber, &place_of_second);
    assert!(sent > 2 * BODY && 2 * within == sent, "{within} of {sent} bytes were not copied");
    assert_eq!(world.take(producer).len(), 2, "each is answered");
}

#[test]
fn memory_for_a_very_large_frame_is_what_was_received_into_or_what_the_last_one_took() {
    let (mut world, producer, topic) = gathering_world(Durability::Memory);
    world.receive(producer, &frames(at(topic, 0), 0..1));
    let (front, whole) = (500, world.expected(producer));
    assert!(whole > BODY);
    let larger = frame(11, at(topic, 0), &batch(7, 1, 2, 3 * BODY));
    world.receive(producer, &larger[..front]);
    let mut begun = world.begun(producer).unwrap();
    assert_eq!((begun.len(), begun.capacity()), (front, whole), "as much as the last one");
    begun.extend_from_slice(&larger[front..]);
    world.fill(producer, begun);
    let mut roomy = Vec::with_capacity(4 * BODY);
    let largest = frame(12, at(topic, 0), &batch(7, 2, 2, 5 * BODY));
    roomy.extend_from_slice(&largest[..front]);
    world.fill(producer, roomy);
    let mut begun = world.begun(producer).unwrap();
    assert_eq!((begun.len(), begun.capacity()), (front, 4 * BODY), "it is all there is already");
    begun.extend_from_slice(&largest[front..]);
    world.fill(producer, begun);
    assert_eq!(world.take(producer).len(), 3, "each is answered");
}

#[test]
fn what_lies_behind_a_very_large_frame_in_its_memory_is_the_next_one() {
    let (mut world, producer, topic) = gathering_world(Durability::Memory);
    let both = frames(at(topic, 0), 0..2);
    let cut = both.len() - 100;
    world.receive(producer, &both[..7_000]);
    let mut begun = world.begun(producer).unwrap();
    begun.extend_from_slice(&both[7_000..cut]);
    world.fill(producer, begun);
    assert_eq!(world.take(producer).len(), 1, "the first is whole");
    let mut begun = world.begun(producer).unwrap();
    begun.extend_from_slice(&both[cut..]);
    world.fill(producer, begun);
    let replies = world.take(producer);
    assert!(matches!(replies[..], [Got { message: BrokerMessage::ProduceReply(_), .. }]));
}

#[test]
fn frames_of_all_sizes_are_taken_as_they_are_whatever_they_are_received_into() {
    for durability in [Durability::Memory, Durability::Fsync] {
        for piece in [97, 1_100, 4_999, 7_000, 100_000] {
            let (mut world, producer, topic) = gathering_world(durability);
            let subscriber = world.connect(0);
            subscribe_earliest(&mut world, subscriber, topic, SubscribeMode::Broadcast);
            let sizes = [9_000, 9_000, 100, 20_000, 3_000, 3_000, 6_000, 40_000, 40_000, 40_000];
            let batches = sizes.iter().zip(0..).map(|(size, at)| batch(7, at, 2, *size));
            let bytes: Vec<u8> = batches
                .zip(10..)
                .flat_map(|(it, number)| frame(number, at(topic, 0), &it))
                .collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let lent = world.begun(producer);
                let room = lent
                    .as_ref()
                    .map_or_else(|| world.expected(producer), |it| it.capacity() - it.len());
                let whole = if room == 0 { piece } else { piece.min(room) };
                let (now, later) = rest.split_at(whole.min(rest.len()));
                rest = later;
                let mut buffer = lent.unwrap_or_else(|| Vec::with_capacity(room));
                buffer.extend_from_slice(now);
                match room {
                    0 => world.receive(producer, now),
                    _ => world.fill(producer, buffer),
                }
            }
            assert_eq!(world.take(producer).len(), sizes.len(), "each is answered");
            let mut found = Vec::new();
            while found.len() < sizes.len() {
                let got = world.take(subscriber);
                assert!(!got.is_empty(), "{durability:?}, pieces of {piece}: {found:?}");
                found.extend(delivered(&got));
                world.credit(subscriber, 4 * 1024 * 1024);
            }
            let expected: Vec<_> = (0..10).map(|at| (0, 2 * at, at)).collect();
            assert_eq!(found, expected, "{durability:?}, pieces of {piece}");
        }
    }
}
