use super::*;
use crate::builder::SealedBody;
use crate::message::PartitionPosition;
use crate::{KeyFilter, ProducerEpoch, ProducerId, Sequence};

/// One batch of `records` records at `base`, 80 + 20 bytes.
fn batch_at(base: u64, records: u32) -> Vec<u8> {
    let sealed = SealedBody {
        body: vec![7; 20],
        schema: batch::schema::GENERIC,
        record_count: records,
        min_time_ms: 0,
        max_time_ms: 0,
        summary: Vec::new(),
    };
    let sealed = batch::seal(&sealed, ProducerId(1), ProducerEpoch(1), Sequence(0), 0);
    let mut bytes = sealed.to_vec();
    batch::stamp(&mut bytes, Offset(base), 5);
    bytes
}

fn session(mode: DeliveryMode) -> SubscriptionSession {
    let mut session = SubscriptionSession::new(SubscriptionSettings {
        topic: TopicId(1),
        mode: SubscribeMode::Broadcast,
        start: StartPosition::Latest,
        starts: Vec::new(),
        credit_bytes: 0,
        filter: KeyFilter::default(),
    });
    session.subscribe();
    session.opened(&reply(mode, 10));
    session
}

fn reply(mode: DeliveryMode, next_offset: u64) -> SubscribeReply {
    let positions = vec![position(3, next_offset)];
    SubscribeReply { mode, credit_bytes: 1_000, positions, offline: Vec::new() }
}

fn position(partition: u32, next_offset: u64) -> PartitionPosition {
    PartitionPosition { partition, next_offset, high_watermark: next_offset, log_epoch: 5 }
}

fn deliver(first: u64, last: u64, lease: Option<Lease>) -> Deliver {
    Deliver { subscription: 1, partition: 3, first, last, high_watermark: 99, lease }
}

fn lease(generation: u64) -> Lease {
    Lease {
        chunk_first: 10,
        chunk_last: 15,
        generation,
        attempt: 1,
        lease_ms: 1_000,
        appended_ms: 7,
    }
}

#[test]
fn broadcast_resumes_behind_what_was_handed_on_and_reports_gaps() {
    let mut session = session(DeliveryMode::Broadcast);
    let payload = Bytes::from(batch_at(10, 2));
    let (missed, delivered) = session.deliver(&deliver(10, 11, None), payload, 0).unwrap();
    assert!(missed.is_none() && matches!(delivered, Some(Delivered::Batches { .. })));
    let again = session.subscribe();
    let start = StartPosition::Offset(12);
    assert_eq!(again.starts, [PartitionStart { partition: 3, start, log_epoch: 5 }]);
    session.opened(&reply(DeliveryMode::Broadcast, 14));
    let after = Deliver { subscription: 2, ..deliver(14, 14, None) };
    let (missed, delivered) = session.deliver(&after, batch_at(14, 1).into(), 0).unwrap();
    assert_eq!(missed.map(|missed| (missed.first, missed.last)), Some((12, 13)));
    assert!(delivered.is_some());
}

/// A broker that has just started refuses for a while.
#[test]
fn broadcast_resumes_also_after_tries_that_were_not_answered() {
    let mut session = session(DeliveryMode::Broadcast);
    session.deliver(&deliver(10, 11, None), batch_at(10, 2).into(), 0).unwrap();
    let start = StartPosition::Offset(12);
    for _ in 0..3 {
        assert_eq!(
            session.subscribe().starts,
            [PartitionStart { partition: 3, start, log_epoch: 5 }]
        );
    }
}

/// A topic in memory begins again with its broker, and may be longer than the old one by now.
#[test]
fn a_log_that_began_again_is_read_from_its_beginning_and_the_rest_of_the_old_one_is_missed() {
    let mut session = session(DeliveryMode::Broadcast);
    session.deliver(&deliver(10, 11, None), batch_at(10, 2).into(), 0).unwrap();
    session.subscribe();
    let mut other = reply(DeliveryMode::Broadcast, 0);
    other.positions[0].log_epoch = 6;
    let missed = session.opened(&other);
    // The high watermark of the deliveries is 99.
    assert_eq!(
        missed.iter().map(|missed| (missed.first, missed.last)).collect::<Vec<_>>(),
        [(12, 98)]
    );
    let after = Deliver { subscription: 2, ..deliver(0, 0, None) };
    let (missed, delivered) = session.deliver(&after, batch_at(0, 1).into(), 0).unwrap();
    assert!(missed.is_none() && delivered.is_some());
    let start = StartPosition::Offset(1);
    assert_eq!(session.subscribe().starts, [PartitionStart { partition: 3, start, log_epoch: 6 }]);
}

#[test]
fn a_partition_that_is_offline_comes_later_and_is_asked_for_again_until_then() {
    let mut session = session(DeliveryMode::Broadcast);
    session.subscribe();
    let offline = vec![4];
    session.opened(&SubscribeReply { offline, ..reply(DeliveryMode::Broadcast, 10) });
    assert_eq!(session.offline(), [4]);
    let early = Deliver { subscription: 2, partition: 4, ..deliver(0, 0, None) };
    assert!(session.deliver(&early, batch_at(0, 1).into(), 0).is_err());
    let known = PartitionStart { partition: 3, start: StartPosition::Offset(10), log_epoch: 5 };
    let late = PartitionStart { partition: 4, start: StartPosition::Latest, log_epoch: 0 };
    assert_eq!(session.subscribe().starts, [known, late]);
    let offline = vec![4];
    session.opened(&SubscribeReply { offline, ..reply(DeliveryMode::Broadcast, 10) });
    let online = PartitionOnline { subscription: 3, position: position(4, 7) };
    assert_eq!(session.online(&online), Ok(None));
    assert!(session.offline().is_empty());
    let now = Deliver { subscription: 3, partition: 4, ..deliver(7, 7, None) };
    let (missed, delivered) = session.deliver(&now, batch_at(7, 1).into(), 0).unwrap();
    assert!(missed.is_none() && delivered.is_some());
}

#[test]
fn what_was_reported_missed_is_not_reported_again() {
    let mut session = session(DeliveryMode::Broadcast);
    let report = Missed {
        subscription: 1,
        partition: 3,
        first: 8,
        last: 12,
        reason: MissedReason::Retention,
    };
    let news = session.missed(&report).unwrap().unwrap();
    assert_eq!((news.first, news.last), (10, 12));
    assert_eq!(session.missed(&report), Ok(None));
    let (missed, _) = session.deliver(&deliver(13, 13, None), batch_at(13, 1).into(), 0).unwrap();
    assert_eq!(missed, None);
}

#[test]
fn a_position_moves_on_over_what_a_filter_leaves_out() {
    let filter = KeyFilter::default().gpu("GPU-1");
    let mut session = session(DeliveryMode::Broadcast);
    session.settings.filter = filter.clone();
    let reason = MissedReason::Filtered;
    let report = Missed { subscription: 1, partition: 3, first: 10, last: 999, reason };
    let news = session.missed(&report).unwrap().unwrap();
    assert_eq!((news.first, news.last, news.reason), (10, 999, reason));
    let frame = deliver(1_000, 1_000, None);
    let (missed, delivered) = session.deliver(&frame, batch_at(1_000, 1).into(), 0).unwrap();
    assert!(missed.is_none() && delivered.is_some());
    let last = Missed { first: 1_001, last: 5_000, ..report };
    session.missed(&last).unwrap();
    let again = session.subscribe();
    assert_eq!(again.filter, filter);
    let start = StartPosition::Offset(5_001);
    assert_eq!(again.starts, [PartitionStart { partition: 3, start, log_epoch: 5 }]);
}

#[test]
fn credit_goes_back_once_it_is_worth_it_or_nothing_is_under_way() {
    let mut session = session(DeliveryMode::Broadcast);
    for offset in 10..14 {
        let frame = deliver(offset, offset, None);
        session.deliver(&frame, batch_at(offset, 1).into(), 0).unwrap();
    }
    session.done(3, 100);
    assert_eq!(session.poll_credit(), None, "100 of 1,000 is not worth a frame");
    session.done(3, 200);
    let credit = Credit { subscription: 1, partition: 3, bytes: 300 };
    assert_eq!(session.poll_credit(), Some(credit));
    session.done(3, 100);
    let rest = Credit { subscription: 1, partition: 3, bytes: 100 };
    assert_eq!(session.poll_credit(), Some(rest));
    assert_eq!(session.poll_credit(), None);
    session.done(3, 1_000);
    assert_eq!(session.poll_credit(), None, "no more goes back than came");
}

#[test]
fn credit_that_leaves_enough_for_any_batch_waits_until_it_is_worth_a_frame() {
    let mut session = session(DeliveryMode::Broadcast);
    let credit_bytes = 2 * BATCH_BYTES_MAX;
    session.opened(&SubscribeReply { credit_bytes, ..reply(DeliveryMode::Broadcast, 10) });
    let bytes = 100;
    let frames = u64::from(credit_bytes) / 4 / bytes;
    for offset in 10..=10 + frames {
        assert_eq!(session.poll_credit(), None, "nothing else is under way, and it is not needed");
        let frame = deliver(offset, offset, None);
        session.deliver(&frame, batch_at(offset, 1).into(), 0).unwrap();
        session.done(3, bytes);
    }
    let given = session.poll_credit().map(|credit| u64::from(credit.bytes));
    assert_eq!(given, Some((frames + 1) * bytes));
}

#[test]
fn a_chunk_is_handed_on_once_it_is_whole() {
    let mut session = session(DeliveryMode::Queue);
    let first = deliver(10, 12, Some(lease(5)));
    assert_eq!(session.deliver(&first, batch_at(10, 3).into(), 7), Ok((None, None)));
    assert!(session.poll_credit().is_some(), "credit goes back at once");
    let second = deliver(13, 15, Some(lease(5)));
    let (_, delivered) = session.deliver(&second, batch_at(13, 3).into(), 8).unwrap();
    let Some(Delivered::Chunk(chunk)) = delivered else { panic!("a chunk") };
    assert_eq!((chunk.payloads.len(), chunk.bytes, chunk.received_us), (2, 200, 7));
}

fn settled(generation: u64, ranges: &[(u64, u64)]) -> Settled {
    let range = |(first, last): &(u64, u64)| OffsetRange { first: *first, last: *last };
    let ranges = ranges.iter().map(range).collect();
    Settled { subscription: 1, partition: 3, chunk_first: 10, generation, ranges }
}

#[test]
fn a_chunk_begins_and_ends_inside_of_batches() {
    // Bounds as the chunk has them, and as the batches have them.
    for (first, last) in [(10, 15), (8, 17)] {
        let mut session = session(DeliveryMode::Queue);
        let front = deliver(first, 12, Some(lease(5)));
        assert_eq!(session.deliver(&front, batch_at(8, 5).into(), 7), Ok((None, None)));
        let rest = deliver(13, last, Some(lease(5)));
        let (_, delivered) = session.deliver(&rest, batch_at(13, 5).into(), 8).unwrap();
        let Some(Delivered::Chunk(chunk)) = delivered else { panic!("a chunk") };
        assert_eq!((chunk.payloads.len(), chunk.settled.len()), (2, 0));
    }
    // One batch around a chunk of a single record.
    let mut session = session(DeliveryMode::Queue);
    let one = Lease { chunk_first: 12, chunk_last: 12, ..lease(6) };
    let (_, delivered) =
        session.deliver(&deliver(12, 12, Some(one)), batch_at(10, 5).into(), 9).unwrap();
    assert!(matches!(delivered, Some(Delivered::Chunk(_))));
}

#[test]
fn settled_records_may_be_left_out_of_a_chunk() {
    let mut session = session(DeliveryMode::Queue);
    session.settled(settled(5, &[(10, 10), (12, 12), (13, 13), (15, 15)])).unwrap();
    let front = deliver(11, 11, Some(lease(5)));
    assert_eq!(session.deliver(&front, batch_at(11, 1).into(), 7), Ok((None, None)));
    let rest = deliver(14, 15, Some(lease(5)));
    let (_, delivered) = session.deliver(&rest, batch_at(14, 1).into(), 7).unwrap();
    let Some(Delivered::Chunk(chunk)) = delivered else { panic!("a chunk") };
    assert_eq!(chunk.settled, settled(5, &[(10, 10), (12, 12), (13, 13), (15, 15)]).ranges);
    // What was said about that lease does not hold for the next one.
    let again = deliver(11, 11, Some(lease(6)));
    assert!(session.deliver(&again, batch_at(11, 1).into(), 7).is_err());
}

#[test]
fn damaged_records_are_left_out_of_a_chunk_and_counted() {
    for (frames, records) in [
        ([(10, 11, true), (12, 13, false), (14, 15, true)], 4),
        ([(10, 11, false), (12, 13, true), (14, 15, false)], 2),
        ([(10, 11, true), (12, 13, true), (14, 15, true)], 6),
    ] {
        let mut session = session(DeliveryMode::Queue);
        let mut whole = None;
        for (first, last, damaged) in frames {
            let payload = if damaged { Bytes::new() } else { batch_at(first, 2).into() };
            let frame = deliver(first, last, Some(lease(5)));
            whole = session.deliver(&frame, payload, 7).unwrap().1;
        }
        let Some(Delivered::Chunk(chunk)) = whole else { panic!("a chunk") };
        let damaged = chunk.damaged.iter().map(|range| range.last - range.first + 1);
        assert_eq!(damaged.sum::<u64>(), records);
        assert_eq!(chunk.payloads.len() as u64, (6 - records) / 2);
    }
}

#[test]
fn settled_records_that_cannot_be_are_errors() {
    let wrong = [
        settled(5, &[(9, 10)]),
        settled(5, &[(15, 16)]),
        settled(5, &[(12, 11)]),
        settled(5, &[(12, 13), (13, 14)]),
        Settled { chunk_first: 11, ..settled(5, &[(12, 13)]) },
    ];
    for settled in wrong {
        let mut session = session(DeliveryMode::Queue);
        session.settled(settled.clone()).unwrap();
        let whole = deliver(10, 15, Some(lease(5)));
        let refused = session.deliver(&whole, batch_at(10, 6).into(), 0);
        assert!(matches!(refused, Err(SubscriptionError::Lease { .. })), "{settled:?}");
    }
    assert!(session(DeliveryMode::Broadcast).settled(settled(5, &[(12, 13)])).is_err());
    let elsewhere = Settled { partition: 4, ..settled(5, &[(12, 13)]) };
    assert!(session(DeliveryMode::Queue).settled(elsewhere).is_err());
}

#[test]
fn a_new_generation_starts_the_chunk_over() {
    let mut session = session(DeliveryMode::Queue);
    let first = deliver(10, 12, Some(lease(5)));
    session.deliver(&first, batch_at(10, 3).into(), 7).unwrap();
    let again = deliver(10, 12, Some(lease(6)));
    assert_eq!(session.deliver(&again, batch_at(10, 3).into(), 9), Ok((None, None)));
    let rest = deliver(13, 15, Some(lease(6)));
    let (_, delivered) = session.deliver(&rest, batch_at(13, 3).into(), 9).unwrap();
    assert!(matches!(delivered, Some(Delivered::Chunk(chunk)) if chunk.lease.generation == 6));
}

#[test]
fn deliveries_that_cannot_be_are_errors() {
    let good = Bytes::from(batch_at(10, 2));
    let mut flipped = good.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let wrong = [
        (DeliveryMode::Broadcast, deliver(10, 12, None), good.clone()),
        (DeliveryMode::Broadcast, deliver(9, 10, None), good.clone()),
        (DeliveryMode::Broadcast, deliver(10, 11, None), Bytes::from(flipped)),
        (DeliveryMode::Broadcast, deliver(10, 11, None), Bytes::new()),
        (DeliveryMode::Broadcast, deliver(10, 11, Some(lease(1))), good.clone()),
        (DeliveryMode::Queue, deliver(10, 11, None), good.clone()),
        (DeliveryMode::Queue, deliver(12, 13, Some(lease(1))), batch_at(12, 2).into()),
        (DeliveryMode::Queue, deliver(16, 17, Some(lease(1))), batch_at(16, 2).into()),
        (DeliveryMode::Queue, deliver(10, 15, Some(lease(1))), good.clone()),
        (DeliveryMode::Queue, deliver(10, 12, Some(lease(1))), good.clone()),
        (DeliveryMode::Queue, deliver(11, 12, Some(lease(1))), Bytes::new()),
        (DeliveryMode::Queue, deliver(10, 16, Some(lease(1))), Bytes::new()),
        (DeliveryMode::Queue, deliver(8, 9, Some(lease(1))), batch_at(8, 2).into()),
        (DeliveryMode::Queue, deliver(9, 11, Some(lease(1))), good.clone()),
        (DeliveryMode::Queue, deliver(10, 12, Some(lease(1))), batch_at(8, 10).into()),
        (DeliveryMode::Broadcast, Deliver { partition: 4, ..deliver(10, 11, None) }, good.clone()),
        (
            DeliveryMode::Broadcast,
            Deliver { subscription: 2, ..deliver(10, 11, None) },
            good.clone(),
        ),
    ];
    for (mode, deliver, payload) in wrong {
        let refused = session(mode).deliver(&deliver, payload, 0);
        assert!(refused.is_err(), "{deliver:?}");
    }
}

#[test]
fn a_broker_that_ignores_credit_is_an_error() {
    let mut session = session(DeliveryMode::Broadcast);
    let limit = (1_000 + PAYLOAD_BYTES_MAX as u64) / 100;
    for offset in 10..10 + limit {
        let frame = deliver(offset, offset, None);
        session.deliver(&frame, batch_at(offset, 1).into(), 0).unwrap();
    }
    let over = deliver(10 + limit, 10 + limit, None);
    let refused = session.deliver(&over, batch_at(10 + limit, 1).into(), 0);
    assert!(matches!(refused, Err(SubscriptionError::Credit { .. })));
}
