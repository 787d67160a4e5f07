//! A partition as producers and subscribers see it, through a shard.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test names what it expects, and no more")]

mod filter;
mod full_disk;
mod read_ahead;

use std::collections::BTreeSet;

use lanecast_wire::message::{
    Ack, BrokerMessage, ClientMessage, Credit, Durability, Lease, StartPosition, Subscribe,
    SubscribeMode, TopicSettings,
};
use lanecast_wire::{ErrorCode, PartitionId, TopicId, batch as wire_batch};

use crate::group::RECORD_VERSION;
use crate::log::DamageKind;
use crate::testing::{
    Got, Peer, SEGMENT, TestDisk, World, batch, batch_at, group, produce, settings, subscribe,
};
use crate::{DiskErrorKind, DiskRequest, Flush, LogId, PartitionState};

const FIRST: u32 = 0;

fn first(topic: TopicId) -> PartitionId {
    PartitionId { topic, index: FIRST }
}

/// Base offsets of everything delivered.
fn offsets(got: &[Got]) -> Vec<u64> {
    let mut all = Vec::new();
    for got in got {
        if let BrokerMessage::Deliver(deliver) = &got.message {
            let payload = bytes::Bytes::copy_from_slice(&got.payload);
            let headers: Vec<_> = wire_batch::iter(&payload).map(|item| item.unwrap().0).collect();
            assert_eq!(headers[0].base_offset.0, deliver.first);
            assert_eq!(headers.last().unwrap().last_offset().0, deliver.last);
            all.extend(headers.iter().map(|header| header.base_offset.0));
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

/// The partitions that a subscription has to wait for.
fn offline(got: &Got) -> Vec<u32> {
    match &got.message {
        BrokerMessage::SubscribeReply(reply) => reply.offline.clone(),
        other => panic!("{other:?}"),
    }
}

fn missed(got: &[Got]) -> Vec<(u64, u64)> {
    let of = |got: &Got| match &got.message {
        BrokerMessage::Missed(missed) => Some((missed.first, missed.last)),
        _ => None,
    };
    got.iter().filter_map(of).collect()
}

fn next_offset(got: &Got) -> u64 {
    match &got.message {
        BrokerMessage::SubscribeReply(reply) => reply.positions[0].next_offset,
        other => panic!("{other:?}"),
    }
}

fn leases(got: &[Got]) -> Vec<Lease> {
    let of = |got: &Got| match &got.message {
        BrokerMessage::Deliver(deliver)
            if Some(deliver.last) == deliver.lease.map(|l| l.chunk_last) =>
        {
            deliver.lease
        }
        _ => None,
    };
    got.iter().filter_map(of).collect()
}

fn ack(lease: Lease) -> ClientMessage {
    let (first, last) = (lease.chunk_first, lease.chunk_last);
    let generation = lease.generation;
    ClientMessage::Ack(Ack { subscription: 1, partition: FIRST, first, last, generation })
}

fn with_credit(message: ClientMessage, bytes: u32) -> ClientMessage {
    match message {
        ClientMessage::Subscribe(subscribe) => {
            ClientMessage::Subscribe(Subscribe { credit_bytes: bytes, ..subscribe })
        }
        other => panic!("{other:?}"),
    }
}

fn credit(world: &mut World, peer: Peer, bytes: u32) {
    let credit = Credit { subscription: 1, partition: FIRST, bytes };
    world.send(peer, 0, ClientMessage::Credit(credit), b"");
}

/// A world with a topic of one partition, on a cache that holds next to nothing.
fn world(shards: u16, settings: TopicSettings) -> (World, Peer, TopicId) {
    let mut world = World::with(TestDisk::default(), shards, |config| config.cache_bytes = 0);
    let peer = world.connect(shards - 1);
    let topic = world.create_topic_with(peer, "t", 1, settings);
    (world, peer, topic)
}

#[test]
fn slow_subscriber_is_served_from_disk_in_order() {
    let (mut world, peer, topic) = world(2, settings(Durability::Fsync));
    let subscriber = world.connect(1);
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(subscriber, 9, with_credit(message, 100_000), b"");
    world.take(subscriber);
    // More than the cache holds: at least 1 MiB of blocks.
    for sequence in 0..200 {
        world.produced(peer, first(topic), &batch(7, sequence, 1, 9_000));
    }
    let mut all = offsets(&world.take(subscriber));
    assert!(all.len() < 12, "the credit holds it back: {}", all.len());
    for _ in 0..100 {
        credit(&mut world, subscriber, 50_000);
        all.extend(offsets(&world.take(subscriber)));
    }
    assert_eq!(all, (0..200).collect::<Vec<_>>());
}

#[test]
fn chunk_that_comes_again_is_read_from_where_it_lies() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    for sequence in 0..800 {
        world.produced(peer, first(topic), &batch(7, sequence, 1, 9_000));
    }
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    let early = leases(&world.take(member))[0];
    // Goes on far enough that the early chunk is in no memory any more.
    for _ in 0..30 {
        credit(&mut world, member, 1_000_000);
        for lease in leases(&world.take(member)) {
            if lease.chunk_first > early.chunk_last {
                world.send(member, 11, ack(lease), b"");
            }
        }
    }
    let reads = world.reads;
    world.pass_ms(10_001);
    world.pass_ms(60_000);
    credit(&mut world, member, 1_000_000);
    let again = leases(&world.take(member));
    assert!(again.iter().any(|lease| lease.chunk_first == early.chunk_first), "{again:?}");
    // A chunk lies in up to four segments, and two chunks came again, up to twice.
    assert!(world.reads - reads <= 16, "{} reads", world.reads - reads);
}

#[test]
fn retention_that_overtakes_a_cursor_is_reported() {
    let retention = TopicSettings { retention_bytes: 2 * SEGMENT, ..settings(Durability::Fsync) };
    let (mut world, peer, topic) = world(1, retention);
    let subscriber = world.connect(0);
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(subscriber, 9, with_credit(message, 5_000), b"");
    world.take(subscriber);
    for sequence in 0..100 {
        world.produced(peer, first(topic), &batch(7, sequence, 1, 3_500));
    }
    let start = world.stats(0).partitions[0].log_start;
    assert!(start > 50);
    let mut got = world.take(subscriber);
    credit(&mut world, subscriber, 5_000);
    got.extend(world.take(subscriber));
    assert_eq!(offsets(&got), [0, start]);
    let ranges = missed(&got);
    assert_eq!((ranges[0].0, ranges.last().unwrap().1), (1, start - 1));
    assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0), "{ranges:?}");
}

#[test]
fn subscriptions_start_where_they_ask_to() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    for sequence in 0..400 {
        let batch = batch_at(7, sequence, 10, 3_500, sequence as i64 * 1_000);
        world.produced(peer, first(topic), &batch);
    }
    let starts = [
        (StartPosition::Earliest, 0, Some(0)),
        (StartPosition::Latest, 4_000, None),
        (StartPosition::Offset(0), 0, Some(0)),
        (StartPosition::Offset(1_234), 1_234, Some(1_230)),
        (StartPosition::Offset(4_000), 4_000, None),
        (StartPosition::Timestamp(-5), 0, Some(0)),
        (StartPosition::Timestamp(100_000), 1_000, Some(1_000)),
        (StartPosition::Timestamp(100_001), 1_010, Some(1_010)),
        (StartPosition::Timestamp(398_500), 3_990, Some(3_990)),
        (StartPosition::Timestamp(399_001), 4_000, None),
    ];
    for (start, next, delivered) in starts {
        let subscriber = world.connect(0);
        let message = subscribe(topic, SubscribeMode::Broadcast, start);
        world.send(subscriber, 9, with_credit(message, 4_000), b"");
        let got = world.take(subscriber);
        assert_eq!(next_offset(&got[0]), next, "{start:?}");
        assert_eq!(offsets(&got).first().copied(), delivered, "{start:?}");
        // A group begins with a whole batch.
        let member = world.connect(0);
        let name = format!("g{next}-{}", start_name(start));
        world.send(
            member,
            9,
            subscribe(topic, SubscribeMode::Group(group(&name, "m")), start),
            b"",
        );
        let got = world.take(member);
        assert_eq!(next_offset(&got[0]), next / 10 * 10, "{start:?}");
        assert_eq!(offsets(&got).first().copied(), delivered, "{start:?}");
        world.disconnect(subscriber);
        world.disconnect(member);
    }
    let subscriber = world.connect(0);
    let beyond = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Offset(4_001));
    world.send(subscriber, 9, beyond, b"");
    assert_eq!(refusal(&world.next(subscriber)), ErrorCode::OFFSET_OUT_OF_RANGE);
}

fn start_name(start: StartPosition) -> &'static str {
    match start {
        StartPosition::Earliest => "earliest",
        StartPosition::Latest => "latest",
        StartPosition::Offset(_) => "offset",
        StartPosition::Timestamp(_) => "timestamp",
    }
}

#[test]
fn sequences_that_leave_a_hole_and_wrong_batches_are_refused() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    world.send(peer, 5, produce(first(topic)), &batch(7, 1, 1, 100));
    assert_eq!(refusal(&world.next(peer)), ErrorCode::OUT_OF_ORDER_SEQUENCE);
    let mut wrong = batch(7, 0, 1, 100).to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    world.send(peer, 6, produce(first(topic)), &wrong);
    assert_eq!(refusal(&world.next(peer)), ErrorCode::BAD_BATCH);
    world.send(peer, 7, produce(PartitionId { topic, index: 1 }), &batch(7, 0, 1, 100));
    assert_eq!(refusal(&world.next(peer)), ErrorCode::UNKNOWN_PARTITION);
    let topic_less = PartitionId { topic: TopicId(99), index: 0 };
    world.send(peer, 8, produce(topic_less), &batch(7, 0, 1, 100));
    assert_eq!(refusal(&world.next(peer)), ErrorCode::UNKNOWN_TOPIC);
    assert_eq!(world.produced(peer, first(topic), &batch(7, 0, 1, 100)), 0);
}

#[test]
fn pipelined_retries_after_a_failure_keep_order_and_offsets() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    for sequence in 0..3 {
        world.produced(peer, first(topic), &batch(7, sequence, 2, 100));
    }
    world.fails = Some((|r| matches!(r, DiskRequest::Commit { .. }), DiskErrorKind::Io));
    for sequence in 3..6 {
        world.produce(peer, 10 + sequence, first(topic), &batch(7, sequence, 2, 100));
    }
    world.settle();
    let codes: Vec<_> = world.take(peer).iter().map(refusal).collect();
    assert_eq!(codes, [ErrorCode::STORAGE_FAILED; 3]);
    world.fails = None;
    world.pass_ms(20_000);
    // The client sends its whole window again, what was answered included.
    for sequence in 1..8 {
        world.produce(peer, 20 + sequence, first(topic), &batch(7, sequence, 2, 100));
    }
    world.settle();
    let answers: Vec<_> = world
        .take(peer)
        .iter()
        .map(|got| match got.message {
            BrokerMessage::ProduceReply(reply) => (reply.base_offset, reply.duplicate),
            ref other => panic!("{other:?}"),
        })
        .collect();
    let expected: Vec<_> = (1..8).map(|n| (2 * n, n < 3)).collect();
    assert_eq!(answers, expected);
}

#[test]
fn appends_beyond_the_undurable_limit_are_refused_for_now() {
    let mut world = World::with(TestDisk::default(), 1, |config| config.undurable_bytes = 10_000);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    world.disk_runs = false;
    for sequence in 0..4 {
        world.produce(peer, 10 + sequence, first(topic), &batch(7, sequence, 1, 3_000));
    }
    world.settle();
    let got = world.next(peer);
    assert_eq!((got.correlation, refusal(&got)), (13, ErrorCode::OVERLOADED));
    world.disk_runs = true;
    world.settle();
    assert_eq!(world.take(peer).len(), 3);
    assert_eq!(world.produced(peer, first(topic), &batch(7, 3, 1, 3_000)), 3);
}

#[test]
fn subscriptions_beyond_the_limit_are_refused_until_one_ends() {
    let mut world = World::with(TestDisk::default(), 1, |config| config.max_consumers = 1);
    let peer = world.connect(0);
    let topic = world.create_topic(peer, "t", 1);
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Latest);
    let first = world.connect(0);
    world.send(first, 9, message.clone(), b"");
    world.take(first);
    world.send(peer, 9, message.clone(), b"");
    assert_eq!(refusal(&world.next(peer)), ErrorCode::TOO_MANY_CONSUMERS);
    world.disconnect(first);
    world.send(peer, 10, message, b"");
    assert_eq!(next_offset(&world.next(peer)), 0);
}

#[test]
fn failed_groups_log_gives_chunks_out_again_with_the_same_bounds() {
    let (mut world, peer, topic) = world(2, settings(Durability::Fsync));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    world.take(member);
    world.produced(peer, first(topic), &batch(7, 0, 10, 100));
    let before = leases(&world.take(member))[0];
    let groups_commit = |request: &DiskRequest| {
        matches!(request, DiskRequest::Commit { log: LogId::Groups(_), .. })
    };
    world.fails = Some((groups_commit, DiskErrorKind::Io));
    world.send(member, 11, ack(before), b"");
    assert_eq!(refusal(&world.next(member)), ErrorCode::STORAGE_FAILED);
    assert_eq!(world.stats(0).partitions[0].state, PartitionState::Offline);
    world.fails = None;
    world.pass_ms(60_000);
    // The member is still a member.
    let after = leases(&world.take(member))[0];
    assert_eq!((after.chunk_first, after.chunk_last), (before.chunk_first, before.chunk_last));
    assert!(after.generation > before.generation);
    world.send(member, 12, ack(before), b"");
    assert_eq!(refusal(&world.next(member)), ErrorCode::LEASE_LOST);
    world.send(member, 13, ack(after), b"");
    assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
}

#[test]
fn groups_log_stays_small_and_reads_back() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode.clone(), StartPosition::Earliest), b"");
    world.take(member);
    for sequence in 0..100 {
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
        let lease = leases(&world.take(member))[0];
        assert_eq!(lease.chunk_first, 10 * sequence);
        world.send(member, 11, ack(lease), b"");
        assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
    }
    let id = LogId::Groups(first(topic));
    assert!(world.disk.logs[&id].len() <= 3, "{} segments", world.disk.logs[&id].len());
    let mut world = World::on(world.disk, 1);
    let member = world.connect(0);
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    assert_eq!(next_offset(&world.next(member)), 1_000, "everything is acked");
}

#[test]
fn group_record_that_does_not_read_closes_the_groups_and_says_so() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let member = world.connect(0);
    let message = subscribe(topic, SubscribeMode::Group(group("g", "m")), StartPosition::Earliest);
    world.send(member, 9, message.clone(), b"");
    world.produced(peer, first(topic), &batch(7, 0, 10, 100));
    let groups = LogId::Groups(first(topic));
    // The version that follows.
    world.disk.append_record(groups, &[RECORD_VERSION + 1, 3, 0, 0, 1, 0, 0, 0]);
    let mut world = World::on(world.disk, 1);
    let partition = &world.stats(0).partitions[0];
    assert_eq!(partition.state, PartitionState::Offline);
    assert!(partition.detail.contains("consumer groups are closed"), "{}", partition.detail);
    let told: Vec<_> = world.damages.iter().map(|(log, damage)| (*log, damage.kind)).collect();
    assert_eq!(told, [(groups, DamageKind::Unreadable)]);
    let (peer, member) = (world.connect(0), world.connect(0));
    world.send(member, 9, message, b"");
    assert_eq!(offline(&world.next(member)), [0]);
    // Records are taken, and read by whoever reads them all.
    world.produced(peer, first(topic), &batch(7, 1, 10, 100));
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(peer, 9, message, b"");
    assert_eq!(offsets(&world.take(peer)), [0, 10]);
}

#[test]
fn groups_follow_a_log_that_has_lost_its_end() {
    let (mut world, peer, topic) = world(1, settings(Durability::Written));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode.clone(), StartPosition::Earliest), b"");
    let log = LogId::Data(first(topic));
    let mut kept = None;
    for sequence in 0..3 {
        // The last batch is lost with the machine, but not what the group wrote of it.
        kept = Some(world.disk.logs[&log].clone());
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
        for lease in leases(&world.take(member)) {
            world.send(member, 11, ack(lease), b"");
            world.take(member);
        }
    }
    world.disk.logs.insert(log, kept.unwrap());
    // Twice, so that what was cut stays cut.
    for round in 0..2 {
        world = World::on(world.disk, 1);
        let (peer, member) = (world.connect(0), world.connect(0));
        world.send(member, 9, subscribe(topic, mode.clone(), StartPosition::Earliest), b"");
        assert_eq!(next_offset(&world.take(member)[0]), 20 + 10 * round);
        // Another batch has the offsets of the lost one: the group gets it.
        let sequence = 2 + round;
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
        let got = world.take(member);
        assert_eq!(offsets(&got), [10 * sequence]);
        world.send(member, 11, ack(leases(&got)[0]), b"");
    }
}

#[test]
fn what_a_group_remembers_of_a_lost_end_is_never_taken_for_new_records() {
    // The machine dies twice: of the first, the data log loses its last ten batches, all acked. The
    // second comes after each number of disk requests, while a producer sends other batches.
    let (mut world, peer, topic) = world(1, settings(Durability::Written));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode.clone(), StartPosition::Earliest), b"");
    let log = LogId::Data(first(topic));
    let empty = world.disk.logs[&log].clone();
    for sequence in 0..10 {
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
        for lease in leases(&world.take(member)) {
            world.send(member, 11, ack(lease), b"");
            world.take(member);
        }
    }
    let mut lost = world.disk.clone();
    lost.logs.insert(log, empty);
    // Whose requests are served first, and after how many of them the machine dies.
    let mut held = 0;
    for (data_first, steps) in (0..60).flat_map(|steps| [(true, steps), (false, steps)]) {
        let mut world = World::on_idle(lost.clone(), 1);
        let peer = world.connect(0);
        let mut acknowledged = BTreeSet::new();
        for step in 0..steps {
            let is_data = |request: &DiskRequest| match request {
                DiskRequest::OpenLog { log: of }
                | DiskRequest::PrepareSegment { log: of, .. }
                | DiskRequest::Commit { log: of, .. }
                | DiskRequest::Read { log: of, .. } => *of == log,
                _ => false,
            };
            let at = world.pending.iter().position(|it| is_data(&it.2) == data_first).unwrap_or(0);
            if !world.pending.is_empty() {
                world.complete(at);
                world.settle();
            }
            // One batch at a time, sent again until it is there.
            world.send(peer, 3, produce(first(topic)), &batch(8, acknowledged.len() as u64, 10, 9));
            for got in world.take(peer) {
                match got.message {
                    BrokerMessage::ProduceReply(reply) => {
                        acknowledged.insert(reply.base_offset);
                    }
                    _ => {
                        let code = refusal(&got);
                        let expected = [ErrorCode::PARTITION_OFFLINE, ErrorCode::UNKNOWN_TOPIC];
                        assert!(expected.contains(&code), "step {step}: {code:?}");
                        held += usize::from(code == ErrorCode::PARTITION_OFFLINE);
                    }
                }
            }
        }
        let mut world = World::on(world.disk, 1);
        let member = world.connect(0);
        world.send(member, 9, subscribe(topic, mode.clone(), StartPosition::Earliest), b"");
        credit(&mut world, member, 1_000_000);
        let mut got = Vec::new();
        loop {
            let more = world.take(member);
            if more.is_empty() {
                break;
            }
            got.extend(offsets(&more));
            for lease in leases(&more) {
                world.send(member, 11, ack(lease), b"");
            }
        }
        let missing: Vec<_> = acknowledged.iter().filter(|offset| !got.contains(offset)).collect();
        assert!(
            missing.is_empty(),
            "{steps} steps, data first {data_first}: {missing:?} of {got:?}"
        );
    }
    assert!(held > 0, "nobody was held back");
}

#[test]
fn bounds_and_acks_are_flushed_also_where_records_are_not() {
    let (mut world, peer, topic) = world(1, settings(Durability::Written));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    world.take(member);
    let unflushed = |request: &DiskRequest| {
        matches!(request, DiskRequest::Commit { flush: Flush::Nothing, .. })
    };
    world.produced(peer, first(topic), &batch(7, 0, 10, 100));
    let lease = leases(&world.take(member))[0];
    world.fails = Some((unflushed, DiskErrorKind::Io));
    world.send(member, 11, ack(lease), b"");
    assert!(matches!(world.next(member).message, BrokerMessage::Done(_)));
}

#[test]
fn leases_that_run_out_go_to_another_attempt() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    let member = world.connect(0);
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    world.produced(peer, first(topic), &batch(7, 0, 10, 100));
    let before = leases(&world.take(member))[0];
    world.pass_ms(10_001);
    world.pass_ms(60_000);
    let after = leases(&world.take(member))[0];
    assert_eq!((before.attempt, after.attempt), (1, 2));
    assert_eq!((after.chunk_first, after.chunk_last), (before.chunk_first, before.chunk_last));
}

#[test]
fn broadcast_and_queue_see_the_same_topic_at_the_same_time() {
    let (mut world, peer, topic) = world(2, settings(Durability::Written));
    let (one, two, member) = (world.connect(0), world.connect(1), world.connect(1));
    for subscriber in [one, two] {
        let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
        world.send(subscriber, 9, message, b"");
        world.take(subscriber);
    }
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(member, 9, subscribe(topic, mode, StartPosition::Earliest), b"");
    world.take(member);
    for sequence in 0..2 {
        world.produced(peer, first(topic), &batch(7, sequence, 10, 100));
    }
    for subscriber in [one, two, member] {
        assert_eq!(offsets(&world.take(subscriber)), [0, 10]);
    }
}

#[test]
fn drain_answers_subscriptions_that_look_for_their_start() {
    let (mut world, peer, topic) = world(1, settings(Durability::Fsync));
    for sequence in 0..200 {
        world.produced(peer, first(topic), &batch(7, sequence, 10, 10_000));
    }
    let subscriber = world.connect(0);
    world.disk_runs = false;
    let mode = SubscribeMode::Group(group("g", "m"));
    world.send(subscriber, 9, subscribe(topic, mode, StartPosition::Offset(15)), b"");
    assert_eq!(world.take(subscriber), [], "a read is under way");
    world.fails = Some((|_| true, DiskErrorKind::Io));
    world.produce(peer, 10, first(topic), &batch(7, 200, 10, 10_000));
    world.settle();
    world.disk_runs = true;
    world.settle();
    world.drain();
    for _ in 0..30 {
        world.pass_ms(1_000);
    }
    // The log failed under the search: the partition was offline until the end.
    let got = world.take(subscriber);
    assert_eq!(offline(&got[0]), [0]);
    let ended = got.iter().find_map(|got| match &got.message {
        BrokerMessage::Ended(ended) => Some(ErrorCode(ended.code)),
        _ => None,
    });
    assert_eq!(ended, Some(ErrorCode::DRAINING), "{got:?}");
    assert_eq!(world.drained, 1);
}
