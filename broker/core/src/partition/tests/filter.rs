//! Broadcast subscriptions that leave batches out: for their keys, or for their age.

use bytes::Bytes;
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::generic::{GenericBuilder, Message};
use lanecast_wire::message::{MissedReason, StartPosition, Subscribe, SubscribeMode};
use lanecast_wire::{KeyFilter, ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::limits::{FILTER_BATCHES_PER_TURN, FILTER_FRAMES_PER_TURN, FILTER_PROGRESS_BYTES};

/// A batch with one message of each key.
fn keyed(sequence: u64, keys: &[&str], payload_bytes: usize) -> Bytes {
    sealed(sequence, &body(keys, payload_bytes))
}

fn body(keys: &[&str], payload_bytes: usize) -> SealedBody {
    let mut builder = GenericBuilder::empty();
    let payload = vec![7; payload_bytes];
    for key in keys {
        builder.push(&Message::new(key.as_bytes(), &payload)).unwrap();
    }
    builder.seal()
}

fn sealed(sequence: u64, body: &SealedBody) -> Bytes {
    wire_batch::seal(body, ProducerId(7), ProducerEpoch(0), Sequence(sequence), 0)
}

fn filtered(topic: TopicId, start: StartPosition, keys: &[&str]) -> ClientMessage {
    let add = |filter: KeyFilter, key: &&str| filter.message_key(key.as_bytes());
    let filter = keys.iter().fold(KeyFilter::default(), add);
    match subscribe(topic, SubscribeMode::Broadcast, start) {
        ClientMessage::Subscribe(subscribe) => {
            ClientMessage::Subscribe(Subscribe { filter, ..subscribe })
        }
        other => panic!("{other:?}"),
    }
}

/// What was not delivered, and why.
fn left_out(got: &[Got]) -> Vec<(u64, u64, MissedReason)> {
    let of = |got: &Got| match &got.message {
        BrokerMessage::Missed(missed) => Some((missed.first, missed.last, missed.reason)),
        _ => None,
    };
    got.iter().filter_map(of).collect()
}

fn payload_bytes(got: &[Got]) -> usize {
    got.iter().map(|got| got.payload.len()).sum()
}

/// Deliveries and reports cover the log without a hole and in order.
fn assert_gapless(got: &[Got], mut next: u64) -> u64 {
    for got in got {
        let (first, last) = match &got.message {
            BrokerMessage::Deliver(deliver) => (deliver.first, deliver.last),
            BrokerMessage::Missed(missed) => (missed.first, missed.last),
            _ => continue,
        };
        assert_eq!(first, next, "{got:?}");
        next = last + 1;
    }
    next
}

#[test]
fn batches_without_a_wanted_key_are_not_sent() {
    let (mut world, peer, topic) = world(2, settings(Durability::Fsync));
    let (narrow, wide) = (world.connect(0), world.connect(1));
    world.send(narrow, 9, filtered(topic, StartPosition::Earliest, &["k03", "k04"]), b"");
    let all = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(wide, 9, all, b"");
    for sequence in 0..100 {
        let key = format!("k{:02}", sequence % 50);
        // Several share a block.
        world.produce(peer, 10, first(topic), &keyed(sequence, &[&key, "x"], 500));
        if sequence % 7 == 0 {
            world.settle();
        }
    }
    world.settle();
    world.pass_ms(1_000);
    let (narrow, wide) = (world.take(narrow), world.take(wide));
    assert_eq!(offsets(&narrow), [6, 8, 106, 108]);
    assert_eq!(payload_bytes(&narrow) * 25, payload_bytes(&wide), "one batch in 25");
    assert_eq!(assert_gapless(&narrow, 0), 200);
    let ranges: Vec<_> = left_out(&narrow).into_iter().filter(|(_, _, r)| *r == FILTERED).collect();
    assert_eq!(ranges, [(0, 5, FILTERED), (10, 105, FILTERED), (110, 199, FILTERED)]);
    assert!(left_out(&wide).is_empty());
    let stats = &world.stats(0).partitions[0];
    assert_eq!((stats.records_filtered, stats.records_out), (192, 208));
}

const FILTERED: MissedReason = MissedReason::Filtered;

#[test]
fn a_batch_without_a_summary_passes_every_filter() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let subscriber = world.connect(0);
    world.send(subscriber, 9, filtered(topic, StartPosition::Earliest, &["wanted"]), b"");
    let plain = SealedBody { summary: Vec::new(), ..body(&["other"], 10) };
    world.produced(peer, first(topic), &sealed(0, &plain));
    world.produced(peer, first(topic), &keyed(1, &["other"], 10));
    world.produced(peer, first(topic), &sealed(2, &plain));
    assert_eq!(offsets(&world.take(subscriber)), [0, 2]);
}

#[test]
fn what_is_left_out_costs_no_credit() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let subscriber = world.connect(0);
    let message = filtered(topic, StartPosition::Earliest, &["wanted"]);
    world.send(subscriber, 9, with_credit(message, 3_000), b"");
    for sequence in 0..50 {
        world.produced(peer, first(topic), &keyed(sequence, &["other"], 1_000));
    }
    for sequence in 50..55 {
        world.produced(peer, first(topic), &keyed(sequence, &["wanted"], 1_000));
    }
    assert_eq!(offsets(&world.take(subscriber)), [50, 51], "what 3,000 bytes of credit allow");
    credit(&mut world, subscriber, 3_000);
    assert_eq!(offsets(&world.take(subscriber)), [52, 53]);
}

/// Nothing matches for a long time, from disk and live; then the connection breaks.
#[test]
fn a_place_behind_what_was_left_out_is_told_and_resumed_from() {
    let (mut world, peer, topic) = world(2, settings(Durability::Fsync));
    for sequence in 0..3_000 {
        world.produced(peer, first(topic), &keyed(sequence, &["other"], 1_000));
    }
    let subscriber = world.connect(1);
    world.send(subscriber, 9, filtered(topic, StartPosition::Earliest, &["wanted"]), b"");
    let got = world.take(subscriber);
    let behind = assert_gapless(&got, 0);
    assert!(behind > 1_000 && behind < 3_000, "told after so many bytes: {behind}");
    let reports = 3_000 * 1_000 / FILTER_PROGRESS_BYTES;
    assert!((reports - 1..=reports + 1).contains(&left_out(&got).len()), "{:?}", left_out(&got));
    world.pass_ms(999);
    assert!(world.take(subscriber).is_empty());
    world.pass_ms(1);
    assert_eq!(assert_gapless(&world.take(subscriber), behind), 3_000);
    for second in 0..5 {
        for n in 0..20 {
            let sequence = 3_000 + 20 * second + n;
            world.produced(peer, first(topic), &keyed(sequence, &["other"], 10));
            world.pass_ms(50);
        }
    }
    let got = world.take(subscriber);
    assert!((4..=5).contains(&left_out(&got).len()), "one a second: {:?}", left_out(&got));
    let place = assert_gapless(&got, 3_000);
    world.disconnect(subscriber);
    let again = world.connect(0);
    world.send(again, 9, filtered(topic, StartPosition::Offset(place), &["wanted"]), b"");
    let counted = world.stats(0).partitions[0].records_filtered;
    assert!(counted <= 3_100 + 20, "what was told is not gone over again: {counted}");
    world.produced(peer, first(topic), &keyed(3_100, &["wanted"], 10));
    let got = world.take(again);
    assert_eq!(next_offset(&got[0]), place);
    assert_eq!((offsets(&got), assert_gapless(&got, place)), (vec![3_100], 3_101));
}

#[test]
fn looking_at_many_batches_is_done_in_turns() {
    let (mut world, peer, topic) = world(1, settings(Durability::Memory));
    let batches = 2 * FILTER_BATCHES_PER_TURN as u64 + 100;
    for sequence in 0..batches {
        world.produce(peer, 10, first(topic), &keyed(sequence, &["other"], 1));
        if sequence % 64 == 63 {
            world.settle();
        }
    }
    world.settle();
    world.take(peer);
    let subscriber = world.connect(0);
    world.send(subscriber, 9, filtered(topic, StartPosition::Earliest, &["wanted"]), b"");
    let first_turn = world.stats(0).partitions[0].records_filtered;
    assert!(first_turn < batches, "others have a turn after {first_turn}");
    let due = world.shards[0].poll_timeout();
    assert!(due <= Some(world.now.mono_us), "and it goes on at once: {due:?}");
    for _ in 0..2 {
        world.pass_ms(0);
    }
    assert_eq!(world.stats(0).partitions[0].records_filtered, batches);
    world.pass_ms(1_000);
    assert_eq!(assert_gapless(&world.take(subscriber), 0), batches);
}

#[test]
fn a_member_of_a_group_may_not_bring_a_filter() {
    for (mode, default) in [
        (SubscribeMode::Group(group("g", "m")), lanecast_wire::message::DeliveryMode::Broadcast),
        (SubscribeMode::Default(group("g", "m")), lanecast_wire::message::DeliveryMode::Queue),
    ] {
        let mut world = World::with(TestDisk::default(), 1, |c| c.default_mode = default);
        let peer = world.connect(0);
        let topic = world.create_topic(peer, "t", 1);
        let message = match filtered(topic, StartPosition::Earliest, &["k"]) {
            ClientMessage::Subscribe(s) => ClientMessage::Subscribe(Subscribe { mode, ..s }),
            other => panic!("{other:?}"),
        };
        world.send(peer, 9, message, b"");
        let got = world.next(peer);
        assert_eq!(refusal(&got), ErrorCode::INVALID_REQUEST);
        assert!(format!("{got:?}").contains("a group has to settle every record"), "{got:?}");
    }
}

#[test]
fn records_past_their_time_are_reported_and_not_delivered() {
    let ttl = TopicSettings { record_ttl_ms: 10_000, ..settings(Durability::Fsync) };
    let (mut world, peer, topic) = world(2, ttl);
    for sequence in 0..10 {
        world.produced(peer, first(topic), &keyed(sequence, &["k", "x"], 10));
        world.pass_ms(1_000);
    }
    world.pass_ms(4_000);
    let late = world.connect(1);
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(late, 9, message, b"");
    let got = world.take(late);
    // Appended 14, 13, 12, 11 and 10 seconds ago.
    assert_eq!(left_out(&got), [(0, 9, MissedReason::Expired)]);
    assert_eq!(offsets(&got), [10, 12, 14, 16, 18]);
    assert_eq!(world.stats(0).partitions[0].records_expired, 10);
    // Whoever does not want them does not miss them.
    let other = world.connect(0);
    world.send(other, 9, filtered(topic, StartPosition::Earliest, &["y"]), b"");
    world.pass_ms(1_000);
    assert_eq!(left_out(&world.take(other)), [(0, 19, FILTERED)]);
    assert_eq!(world.stats(0).partitions[0].records_expired, 10);
}

#[test]
fn a_closed_log_does_not_keep_its_shard_awake() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let narrow = world.connect(0);
    world.send(narrow, 9, filtered(topic, StartPosition::Earliest, &["k"]), b"");
    world.produce(peer, 10, first(topic), &keyed(0, &["x"], 500));
    world.settle();
    let writes = |request: &DiskRequest| !matches!(request, DiskRequest::PrepareSegment { .. });
    world.fails = Some((writes, DiskErrorKind::Io));
    world.produce(peer, 11, first(topic), &keyed(1, &["x"], 500));
    world.settle();
    for _ in 0..20 {
        world.pass_ms(50);
        let due = world.shards[0].poll_timeout();
        assert!(due.is_none_or(|at| at > world.now.mono_us), "{due:?} at {:?}", world.now);
    }
}

#[test]
fn batches_that_change_between_wanted_and_not_are_sent_a_few_frames_at_a_time() {
    // All of it is in the cache: no read comes between.
    let mut world = World::new(1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    for sequence in 0..400 {
        let key = if sequence % 2 == 0 { "x" } else { "y" };
        world.produced(peer, first(topic), &keyed(sequence, &[key], 10));
    }
    let subscriber = world.connect(0);
    world.send(subscriber, 9, filtered(topic, StartPosition::Earliest, &["y"]), b"");
    let mut got = world.take(subscriber);
    let mut turns = 1;
    loop {
        world.pass_ms(0);
        let more = world.take(subscriber);
        assert!(more.len() <= FILTER_FRAMES_PER_TURN + 1, "{} messages", more.len());
        if more.is_empty() {
            break;
        }
        turns += 1;
        got.extend(more);
    }
    assert!(turns >= 400 / FILTER_FRAMES_PER_TURN, "{turns} turns");
    assert_eq!(assert_gapless(&got[1..], 0), 400);
    assert_eq!(offsets(&got).len(), 200);
}
