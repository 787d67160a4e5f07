//! Catch-up reads that overlap: what comes in which order, and whose memory it is.

use super::*;
use crate::limits::{READ_BYTES, READS_IN_FLIGHT_MAX, READS_PER_READER_MAX};
use crate::{Budget, SegmentId, Shares};

const BATCH: usize = 9_000;
/// One read brings a segment, which holds so many blocks of one batch each behind what it begins with.
const BLOCKS: u64 = (SEGMENT - 2 * 4096) / 12_288;

/// A log of so many batches, a subscriber of all of it, and a disk that waits to be told.
fn catching_up(batches: u64, credit_bytes: u32, retention_bytes: u64) -> (World, Peer, TopicId) {
    let settings = TopicSettings { retention_bytes, ..settings(Durability::Fsync) };
    let (mut world, peer, topic) = world(1, settings);
    for sequence in 0..batches {
        world.produced(peer, first(topic), &batch(7, sequence, 1, BATCH));
    }
    world.disk_runs = false;
    let subscriber = subscribed(&mut world, topic, credit_bytes);
    (world, subscriber, topic)
}

fn subscribed(world: &mut World, topic: TopicId, credit_bytes: u32) -> Peer {
    let subscriber = world.connect(0);
    let message = subscribe(topic, SubscribeMode::Broadcast, StartPosition::Earliest);
    world.send(subscriber, 9, with_credit(message, credit_bytes), b"");
    subscriber
}

/// Reads that the disk has not answered, as places in `pending`, with their segments.
fn reads(world: &World) -> Vec<(usize, SegmentId)> {
    let read = |(at, (_, _, request)): (usize, &(usize, _, DiskRequest))| match request {
        DiskRequest::Read { segment, .. } => Some((at, *segment)),
        _ => None,
    };
    world.pending.iter().enumerate().filter_map(read).collect()
}

fn answer(world: &mut World, at: usize) {
    world.complete(at);
    world.settle();
}

/// Answers the read asked for last, until nothing is asked for any more.
fn answer_newest_first(world: &mut World) {
    while let Some((at, _)) = reads(world).pop() {
        answer(world, at);
    }
}

/// Answers reads one by one, until the subscriber has gone on once and reads ahead.
fn go_on(world: &mut World) {
    while reads(world).len() < 2 {
        let (at, _) = *reads(world).first().expect("it reads");
        answer(world, at);
    }
}

fn damage(world: &mut World, id: PartitionId, segment: SegmentId, position: usize) {
    world.disk.file(LogId::Data(id), segment).unwrap()[position] ^= 1;
}

#[test]
fn reads_that_end_in_another_order_are_delivered_in_order() {
    let (mut world, subscriber, _) = catching_up(100, 10_000_000, 0);
    let mut overlapped = 0;
    while let Some((at, _)) = reads(&world).pop() {
        let under_way = reads(&world).len();
        assert!(under_way <= READS_PER_READER_MAX);
        overlapped += usize::from(under_way > 1);
        answer(&mut world, at);
    }
    assert!(overlapped > 5, "the next read is under way while another is: {overlapped}");
    assert_eq!(offsets(&world.take(subscriber)), (0..100).collect::<Vec<_>>());
    assert_eq!(world.budget().in_use().reads, 0);
}

#[test]
fn a_first_read_brings_no_others_along() {
    let (world, _, _) = catching_up(100, 10_000_000, 0);
    assert_eq!(reads(&world).len(), 1);
}

#[test]
fn no_byte_is_read_twice() {
    let (mut world, subscriber, _) = catching_up(100, 10_000_000, 0);
    world.disk_runs = true;
    world.settle();
    assert_eq!(offsets(&world.take(subscriber)).len(), 100);
    let segments = world.stats(0).partitions[0].segments as usize;
    assert!(world.reads <= segments, "{} reads of {segments} segments", world.reads);
}

#[test]
fn a_subscriber_without_credit_reads_no_further() {
    let (mut world, subscriber, _) = catching_up(100, 15 * BATCH as u32, 0);
    answer_newest_first(&mut world);
    let got = offsets(&world.take(subscriber)).len() as u64;
    assert!((10..15).contains(&got), "{got}");
    let ahead = world.reads as u64 - got.div_ceil(BLOCKS);
    assert!(ahead < READS_PER_READER_MAX as u64, "{ahead} reads ahead");
    // Each grant is for one batch: what is held grows no further.
    for _ in 0..10 {
        credit(&mut world, subscriber, BATCH as u32 + 200);
        answer_newest_first(&mut world);
        let held = world.budget().in_use().reads;
        assert!(held <= READS_PER_READER_MAX as u64 * SEGMENT, "{held} bytes are held");
    }
    assert!(offsets(&world.take(subscriber)).len() >= 9);
}

#[test]
fn damage_in_the_second_of_two_reads_is_missed_and_nothing_else() {
    for newest_first in [false, true] {
        for position in [70, 3 * 12_288 + 70] {
            let (mut world, subscriber, topic) = catching_up(100, 10_000_000, 0);
            go_on(&mut world);
            let (_, segment) = reads(&world)[1];
            damage(&mut world, first(topic), segment, position);
            while let Some((at, _)) = match newest_first {
                true => reads(&world).pop(),
                false => reads(&world).first().copied(),
            } {
                answer(&mut world, at);
            }
            let got = world.take(subscriber);
            let [(lost, last)] = missed(&got)[..] else { panic!("{:?}", missed(&got)) };
            assert_eq!(lost, last);
            let rest: Vec<u64> = (0..100).filter(|offset| *offset != lost).collect();
            assert_eq!(offsets(&got), rest, "newest first: {newest_first}, {position}");
            assert_eq!(world.damages.len(), 1);
        }
    }
}

#[test]
fn damage_in_the_first_of_two_reads_is_missed_and_nothing_else() {
    for newest_first in [false, true] {
        let (mut world, subscriber, topic) = catching_up(100, 10_000_000, 0);
        go_on(&mut world);
        let (_, segment) = reads(&world)[0];
        damage(&mut world, first(topic), segment, 2 * 12_288 + 70);
        if newest_first {
            answer_newest_first(&mut world);
        }
        world.disk_runs = true;
        world.settle();
        let got = world.take(subscriber);
        let [(lost, last)] = missed(&got)[..] else { panic!("{:?}", missed(&got)) };
        assert_eq!(lost, last);
        let rest: Vec<u64> = (0..100).filter(|offset| *offset != lost).collect();
        assert_eq!(offsets(&got), rest, "newest first: {newest_first}");
        assert_eq!(world.damages.len(), 1);
    }
}

#[test]
fn a_segment_that_is_read_ahead_stays_until_the_read_ends() {
    let (mut world, subscriber, topic) = catching_up(10 * BLOCKS, 10_000_000, 12 * SEGMENT);
    go_on(&mut world);
    let ahead: Vec<SegmentId> = reads(&world).iter().map(|(_, segment)| *segment).collect();
    // Retention overtakes the subscriber while its reads are under way.
    let producer = world.connect(0);
    let mut removed = Vec::new();
    for sequence in 0..20 * BLOCKS {
        world.put(producer, 50 + sequence, produce(first(topic)), &batch(8, sequence, 1, BATCH));
        world.settle();
        while let Some(at) = world
            .pending
            .iter()
            .position(|(_, _, request)| !matches!(request, DiskRequest::Read { .. }))
        {
            match &world.pending[at].2 {
                DiskRequest::DeleteSegment { log: LogId::Data(_), segment }
                | DiskRequest::PrepareSegment {
                    log: LogId::Data(_), recycle: Some(segment), ..
                } => removed.push(*segment),
                _ => {}
            }
            answer(&mut world, at);
        }
    }
    assert!(!removed.is_empty(), "what nobody reads is taken");
    assert!(removed.iter().all(|segment| !ahead.contains(segment)), "{removed:?}, {ahead:?}");
    let before = removed.len();
    answer_newest_first(&mut world);
    world.disk_runs = true;
    world.settle();
    let got = world.take(subscriber);
    let mut seen: Vec<(u64, u64)> = missed(&got);
    assert!(!seen.is_empty(), "some were gone before the subscriber came to them: {before}");
    seen.extend(offsets(&got).into_iter().map(|offset| (offset, offset)));
    seen.sort_unstable();
    let end = seen.iter().fold(0, |end, (first, last)| {
        assert_eq!(*first, end, "each offset is delivered or missed, once");
        last + 1
    });
    assert_eq!(end, 30 * BLOCKS);
}

#[test]
fn a_subscriber_that_goes_while_its_reads_are_under_way_leaves_nothing() {
    let (mut world, subscriber, topic) = catching_up(100, 10_000_000, 0);
    go_on(&mut world);
    world.disconnect(subscriber);
    // Another one comes to the same log before they end.
    let other = subscribed(&mut world, topic, 10_000_000);
    answer_newest_first(&mut world);
    assert_eq!(offsets(&world.take(other)), (0..100).collect::<Vec<_>>());
    assert_eq!(world.budget().in_use().reads, 0);
}

#[test]
fn a_read_that_fails_ends_those_that_overlap_it_and_they_are_asked_for_again() {
    let (mut world, subscriber, _) = catching_up(100, 10_000_000, 0);
    go_on(&mut world);
    world.fails = Some((|request| matches!(request, DiskRequest::Read { .. }), DiskErrorKind::Io));
    let (at, _) = reads(&world)[1];
    answer(&mut world, at);
    world.fails = None;
    world.disk_runs = true;
    for _ in 0..20 {
        world.pass_ms(100);
    }
    assert_eq!(offsets(&world.take(subscriber)), (0..100).collect::<Vec<_>>());
    assert!(missed(&world.take(subscriber)).is_empty());
}

#[test]
fn nobody_reads_ahead_where_memory_is_short() {
    const PLENTY: u64 = 1 << 30;
    for (reads_per_shard, ahead) in
        [(4 * u64::from(READ_BYTES) - 1, false), (PLENTY, true), (2 * SEGMENT, false)]
    {
        let budget = std::sync::Arc::new(Budget::of(Shares {
            cache: PLENTY,
            reads_per_shard,
            outbound: PLENTY,
            undurable: PLENTY,
            received: PLENTY,
        }));
        let mut world = World::with(TestDisk::default(), 1, move |config| {
            config.budget = budget.clone();
            config.cache_bytes = 0;
        });
        let producer = world.connect(0);
        let topic = world.create_topic(producer, "t", 1);
        for sequence in 0..60 {
            world.produced(producer, first(topic), &batch(7, sequence, 1, BATCH));
        }
        world.disk_runs = false;
        let subscriber = subscribed(&mut world, topic, 10_000_000);
        let mut most = 0;
        while let Some((at, _)) = reads(&world).pop() {
            most = most.max(reads(&world).len());
            answer(&mut world, at);
        }
        assert_eq!(most > 1, ahead, "{reads_per_shard}: {most} at a time");
        assert_eq!(offsets(&world.take(subscriber)), (0..60).collect::<Vec<_>>());
    }
}

#[test]
fn many_subscribers_with_all_the_credit_have_their_turns() {
    let (mut world, first_one, topic) = catching_up(400, 50_000_000, 0);
    let mut subscribers = vec![first_one];
    for _ in 0..3 * READS_IN_FLIGHT_MAX {
        subscribers.push(subscribed(&mut world, topic, 50_000_000));
    }
    let mut got = vec![0; subscribers.len()];
    let mut rounds = 0;
    while let Some((at, _)) = reads(&world).first().copied() {
        assert!(reads(&world).len() <= READS_IN_FLIGHT_MAX);
        answer(&mut world, at);
        for (got, subscriber) in got.iter_mut().zip(&subscribers) {
            *got += offsets(&world.take(*subscriber)).len() as u64;
        }
        rounds += 1;
        if rounds == 4 * subscribers.len() {
            let least = got.iter().min().unwrap();
            assert!(*least > 0, "somebody waits while others go on: {got:?}");
        }
    }
    assert!(got.iter().all(|got| *got == 400), "{got:?}");
}
