//! Windows, retries and epochs, one at a time.

use super::*;

fn session(partitions: u32, window: u32) -> ProducerSession<u64> {
    session_that(OnLostSequence::Fail, partitions, window)
}

fn session_that(
    on_lost_sequence: OnLostSequence,
    partitions: u32,
    window: u32,
) -> ProducerSession<u64> {
    ProducerSession::new(ProducerSettings {
        producer: ProducerId(7),
        epoch: ProducerEpoch(1),
        topic: TopicId(1),
        partitions,
        window,
        retry_first_us: 100,
        retry_longest_us: 1_000,
        on_lost_sequence,
    })
}

fn accept(session: &mut ProducerSession<u64>, partition: u32, tag: u64) {
    let sealed = SealedBody {
        body: tag.to_le_bytes().to_vec(),
        schema: batch::schema::GENERIC,
        record_count: 1,
        min_time_ms: 0,
        max_time_ms: 0,
        summary: Vec::new(),
    };
    assert_eq!(session.accept(partition, &sealed, 0, tag, 0), Ok(()));
}

/// (partition, sequence, first body byte) of everything that can be sent.
fn sends(session: &mut ProducerSession<u64>, now_us: u64) -> Vec<(u32, u64, u8)> {
    std::iter::from_fn(|| session.poll_send(now_us))
        .map(|send| {
            let header = batch::check(&send.batch).unwrap();
            assert_eq!(header.sequence, send.sequence);
            (send.partition.index, send.sequence.0, batch::body(&send.batch)[0])
        })
        .collect()
}

fn ok() -> Result<ProduceReply, Refusal> {
    Ok(ProduceReply { base_offset: 0, duplicate: false, dropped: false })
}

fn refusal(code: ErrorCode) -> Result<ProduceReply, Refusal> {
    Err(Refusal::new(code, "no"))
}

#[test]
fn the_window_bounds_what_is_in_flight_and_partitions_take_turns() {
    let mut session = session(2, 2);
    for tag in 0..3 {
        accept(&mut session, 0, tag);
        accept(&mut session, 1, 10 + tag);
    }
    assert_eq!(sends(&mut session, 0), [(0, 0, 0), (1, 0, 10), (0, 1, 1), (1, 1, 11)]);
    assert_eq!(session.in_flight(), 4);
    session.answered(1, Sequence(0), ok(), 5).unwrap();
    let acknowledged = session.poll_acknowledged().unwrap();
    assert_eq!((acknowledged.tag, acknowledged.records), (10, 1));
    assert_eq!(sends(&mut session, 0), [(1, 2, 12)]);
    assert_eq!((session.unacknowledged(), session.stalled(12)), (5, Some((0, 12))));
}

#[test]
fn a_retryable_refusal_sends_all_that_is_unacknowledged_again_in_order() {
    let mut session = session(1, 3);
    for tag in 0..5 {
        accept(&mut session, 0, tag);
    }
    assert_eq!(sends(&mut session, 0), [(0, 0, 0), (0, 1, 1), (0, 2, 2)]);
    session.answered(0, Sequence(0), ok(), 0).unwrap();
    assert_eq!(sends(&mut session, 0), [(0, 3, 3)]);
    session.answered(0, Sequence(1), refusal(ErrorCode::OVERLOADED), 0).unwrap();
    assert_eq!(sends(&mut session, 1_000_000), [], "answers are still under way");
    for sequence in [2, 3] {
        let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(sequence), hole, 0).unwrap();
    }
    assert_eq!(sends(&mut session, 0), [], "the wait is not over");
    let until = session.poll_timeout().unwrap();
    assert!(until <= 100);
    assert_eq!(sends(&mut session, until), [(0, 1, 1), (0, 2, 2), (0, 3, 3)]);
    assert_eq!(session.retries(), 3);
}

#[test]
fn a_partition_is_stalled_whatever_others_get_acknowledged() {
    let mut session = session(2, 1);
    assert_eq!(session.stalled(9), None);
    accept(&mut session, 0, 0);
    accept(&mut session, 1, 10);
    accept(&mut session, 1, 11);
    sends(&mut session, 0);
    session.answered(1, Sequence(0), ok(), 5).unwrap();
    assert_eq!(session.stalled(12), Some((0, 12)));
    session.answered(0, Sequence(0), ok(), 8).unwrap();
    assert_eq!(session.stalled(12), Some((1, 7)));
    sends(&mut session, 8);
    session.answered(1, Sequence(1), ok(), 20).unwrap();
    assert_eq!(session.stalled(30), None);
}

#[test]
fn advice_on_when_to_retry_is_followed() {
    let mut session = session(1, 1);
    accept(&mut session, 0, 0);
    sends(&mut session, 0);
    let mut refusal = Refusal::new(ErrorCode::DRAINING, "no");
    refusal.retry_after_ms = 50;
    session.answered(0, Sequence(0), Err(refusal), 1_000).unwrap();
    assert_eq!(session.poll_timeout(), Some(51_000));
}

#[test]
fn a_lost_connection_sends_all_that_is_unacknowledged_again() {
    let mut session = session(2, 4);
    for tag in 0..3 {
        accept(&mut session, 0, tag);
    }
    accept(&mut session, 1, 10);
    sends(&mut session, 0);
    session.answered(0, Sequence(0), ok(), 0).unwrap();
    session.answered(0, Sequence(1), refusal(ErrorCode::DRAINING), 0).unwrap();
    session.disconnected();
    assert_eq!(session.in_flight(), 0);
    let mut again = sends(&mut session, 0);
    again.sort_unstable();
    assert_eq!(again, [(0, 1, 1), (0, 2, 2), (1, 0, 10)]);
}

#[test]
fn a_duplicate_behind_a_refused_retry_is_acknowledged_after_it() {
    let mut session = session(1, 4);
    for tag in 0..4 {
        accept(&mut session, 0, tag);
    }
    sends(&mut session, 0);
    session.answered(0, Sequence(0), refusal(ErrorCode::OVERLOADED), 0).unwrap();
    session.answered(0, Sequence(1), ok(), 0).unwrap();
    session.answered(0, Sequence(2), ok(), 0).unwrap();
    session.answered(0, Sequence(3), refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE), 0).unwrap();
    assert_eq!(session.poll_acknowledged(), None, "what comes first is not known yet");
    assert_eq!(sends(&mut session, 1_000), [(0, 0, 0), (0, 3, 3)]);
    assert_eq!(session.answered(0, Sequence(1), ok(), 0), Ok(Outcome::Stale));
    session.disconnected();
    assert_eq!(sends(&mut session, 1_000), [(0, 0, 0), (0, 3, 3)]);
    session.answered(0, Sequence(0), ok(), 0).unwrap();
    session.answered(0, Sequence(3), ok(), 0).unwrap();
    let tags = std::iter::from_fn(|| session.poll_acknowledged()).map(|done| done.tag);
    assert!(tags.eq(0..4));
    assert_eq!((session.unacknowledged(), session.in_flight()), (0, 0));
}

#[test]
fn final_refusals_end_the_producer() {
    for code in [
        ErrorCode::OUT_OF_ORDER_SEQUENCE,
        ErrorCode::FENCED_EPOCH,
        ErrorCode::BAD_BATCH,
        ErrorCode::UNKNOWN_TOPIC,
    ] {
        let mut session = session(1, 3);
        accept(&mut session, 0, 0);
        sends(&mut session, 0);
        let failed = session.answered(0, Sequence(0), refusal(code), 0).unwrap_err();
        assert_eq!((failed.code, failed.sequence), (code, Sequence(0)));
    }
}

#[test]
fn an_older_batch_out_of_order_ends_the_producer_also_while_rewinding() {
    let mut session = session(1, 3);
    for tag in 0..3 {
        accept(&mut session, 0, tag);
    }
    sends(&mut session, 0);
    session.answered(0, Sequence(1), refusal(ErrorCode::OVERLOADED), 0).unwrap();
    let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
    assert!(session.answered(0, Sequence(0), hole, 0).is_err());
}

/// (epoch, sequence, first body byte) of everything that can be sent once waits are over.
fn resends(session: &mut ProducerSession<u64>) -> Vec<(u32, u64, u8)> {
    let now_us = session.poll_timeout().unwrap_or(0);
    std::iter::from_fn(|| session.poll_send(now_us))
        .map(|send| {
            let header = batch::check(&send.batch).unwrap();
            assert_eq!(header.sequence, send.sequence);
            (header.epoch.0, send.sequence.0, batch::body(&send.batch)[0])
        })
        .collect()
}

/// Batches 0 and 1 are acknowledged, 2 to 4 are sent; then the broker forgets its producers.
fn forgotten(on_lost_sequence: OnLostSequence) -> ProducerSession<u64> {
    let mut session = session_that(on_lost_sequence, 2, 4);
    for tag in 0..5 {
        accept(&mut session, 0, tag);
    }
    sends(&mut session, 0);
    for sequence in 0..2 {
        session.answered(0, Sequence(sequence), ok(), 0).unwrap();
        session.poll_acknowledged().unwrap();
    }
    sends(&mut session, 0);
    session
}

#[test]
fn a_producer_that_the_broker_forgot_starts_over_when_nothing_is_in_doubt() {
    let mut session = forgotten(OnLostSequence::Fail);
    for sequence in 2..5 {
        assert_eq!(resends(&mut session), [], "answers are still under way");
        let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(sequence), hole, 0).unwrap();
    }
    assert_eq!(resends(&mut session), [(2, 0, 2), (2, 1, 3), (2, 2, 4)]);
    for sequence in 0..3 {
        session.answered(0, Sequence(sequence), ok(), 0).unwrap();
        assert_eq!(session.poll_acknowledged().unwrap().tag, sequence + 2);
    }
    accept(&mut session, 0, 9);
    accept(&mut session, 1, 10);
    assert_eq!(resends(&mut session), [(2, 3, 9), (1, 0, 10)], "other partitions go on");
    assert_eq!((session.starts_over(), session.doubtful()), (1, 0));
}

#[test]
fn batches_in_doubt_end_a_producer_that_the_broker_forgot() {
    let lose: [fn(&mut ProducerSession<u64>); 2] = [
        |session| session.disconnected(),
        |session| {
            for sequence in 2..5 {
                let unknown = refusal(ErrorCode::STORAGE_FAILED);
                session.answered(0, Sequence(sequence), unknown, 0).unwrap();
            }
        },
    ];
    for lose in lose {
        let mut session = forgotten(OnLostSequence::Fail);
        lose(&mut session);
        assert_eq!(resends(&mut session).len(), 3);
        let hole = || refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(2), hole(), 0).unwrap();
        session.answered(0, Sequence(3), hole(), 0).unwrap();
        let failed = session.answered(0, Sequence(4), hole(), 0).unwrap_err();
        assert_eq!((failed.code, failed.sequence.0), (ErrorCode::OUT_OF_ORDER_SEQUENCE, 2));
        assert!(failed.message.contains("3 batches"), "{failed}");
    }
}

#[test]
fn batches_in_doubt_are_sent_again_under_a_new_epoch_when_that_is_asked_for() {
    let mut session = forgotten(OnLostSequence::StartOver);
    session.disconnected();
    accept(&mut session, 0, 5);
    assert_eq!(resends(&mut session).len(), 4);
    for sequence in 2..6 {
        let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(sequence), hole, 0).unwrap();
    }
    assert_eq!(resends(&mut session), [(2, 0, 2), (2, 1, 3), (2, 2, 4), (2, 3, 5)]);
    assert_eq!((session.starts_over(), session.doubtful()), (1, 3));
}

#[test]
fn what_was_acknowledged_behind_a_lost_batch_is_not_sent_again() {
    let mut session = forgotten(OnLostSequence::StartOver);
    session.disconnected();
    resends(&mut session);
    session.answered(0, Sequence(2), refusal(ErrorCode::OVERLOADED), 0).unwrap();
    session.answered(0, Sequence(3), ok(), 0).unwrap();
    session.disconnected();
    assert_eq!(resends(&mut session), [(1, 2, 2), (1, 4, 4)]);
    for sequence in [2, 4] {
        let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(sequence), hole, 0).unwrap();
    }
    assert_eq!(resends(&mut session), [(2, 0, 2), (2, 1, 4)]);
    session.answered(0, Sequence(0), ok(), 0).unwrap();
    session.answered(0, Sequence(1), ok(), 0).unwrap();
    let tags = std::iter::from_fn(|| session.poll_acknowledged()).map(|done| done.tag);
    assert!(tags.eq(2..5));
}

#[test]
fn a_connection_that_breaks_before_the_new_epoch_loses_nothing() {
    let mut session = forgotten(OnLostSequence::Fail);
    for sequence in 2..4 {
        let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(sequence), hole, 0).unwrap();
    }
    session.disconnected();
    assert_eq!(resends(&mut session), [(1, 2, 2), (1, 3, 3), (1, 4, 4)]);
}

#[test]
fn a_first_batch_out_of_order_ends_the_producer_also_in_a_new_epoch() {
    let mut session = forgotten(OnLostSequence::StartOver);
    for sequence in 2..5 {
        let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
        session.answered(0, Sequence(sequence), hole, 0).unwrap();
    }
    resends(&mut session);
    let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
    assert!(session.answered(0, Sequence(0), hole, 0).is_err());
}

#[test]
fn a_fenced_epoch_stays_final_while_a_lane_is_lost() {
    let mut session = forgotten(OnLostSequence::StartOver);
    let hole = refusal(ErrorCode::OUT_OF_ORDER_SEQUENCE);
    session.answered(0, Sequence(2), hole, 0).unwrap();
    let fenced = refusal(ErrorCode::FENCED_EPOCH);
    assert!(session.answered(0, Sequence(3), fenced, 0).is_err());
}

#[test]
fn answers_to_nothing_are_ignored() {
    let mut session = session(1, 3);
    accept(&mut session, 0, 0);
    assert_eq!(session.answered(0, Sequence(0), ok(), 0), Ok(Outcome::Stale), "never sent");
    sends(&mut session, 0);
    assert_eq!(session.answered(0, Sequence(9), ok(), 0), Ok(Outcome::Stale));
}
