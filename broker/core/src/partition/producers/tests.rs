use bytes::Bytes;
use lanecast_wire::{Offset, Sequence};

use super::*;

fn header(producer: u64, epoch: u32, sequence: u64) -> BatchHeader {
    BatchHeader {
        body_bytes: 0,
        base_offset: Offset(0),
        append_time_ms: 0,
        crc: 0,
        codec: 0,
        schema: 2,
        summary_bytes: 0,
        producer: ProducerId(producer),
        epoch: ProducerEpoch(epoch),
        record_count: 10,
        sequence: Sequence(sequence),
        min_time_ms: 0,
        max_time_ms: 0,
        created_ms: 0,
    }
}

const NOW: Now = Now { mono_us: 1, wall_ms: 1 };
const HOLE: Judged = Judged::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE);

#[test]
fn sequences_have_no_holes_and_begin_at_zero() {
    let mut producers = Producers::default();
    assert_eq!(producers.judge(NOW, &header(1, 0, 1)), HOLE);
    assert_eq!(producers.judge(NOW, &header(1, 0, 0)), Judged::New);
    producers.appended(NOW, &header(1, 0, 0), 50);
    assert_eq!(producers.judge(NOW, &header(1, 0, 2)), HOLE);
    assert_eq!(producers.judge(NOW, &header(1, 0, 1)), Judged::New);
}

#[test]
fn every_retry_in_the_window_finds_its_first_offset() {
    let mut producers = Producers::default();
    let window = u64::from(BATCHES_IN_FLIGHT_PER_PARTITION_MAX);
    for sequence in 0..=window {
        producers.appended(NOW, &header(1, 0, sequence), 100 * sequence);
    }
    for sequence in 1..=window {
        let first =
            Judged::Duplicate { base_offset: 100 * sequence, end_offset: 100 * sequence + 10 };
        assert_eq!(producers.judge(NOW, &header(1, 0, sequence)), first);
    }
    assert_eq!(producers.judge(NOW, &header(1, 0, 0)), HOLE, "older than the window");
}

#[test]
fn higher_epoch_starts_over_and_fences_the_lower() {
    let mut producers = Producers::default();
    producers.appended(NOW, &header(1, 3, 0), 0);
    assert_eq!(producers.judge(NOW, &header(1, 4, 1)), HOLE);
    producers.appended(NOW, &header(1, 4, 0), 10);
    let fenced = Judged::Refused(ErrorCode::FENCED_EPOCH);
    assert_eq!(producers.judge(NOW, &header(1, 3, 1)), fenced);
    assert_eq!(producers.judge(NOW, &header(1, 4, 1)), Judged::New);
}

#[test]
fn a_producer_not_used_for_long_is_not_appended_twice() {
    let mut producers = Producers::default();
    producers.appended(NOW, &header(1, 0, 0), 7);
    for other in 0..PRODUCERS_MAX as u64 {
        producers.appended(NOW, &header(1000 + other, 0, 0), other);
    }
    assert_eq!(producers.judge(NOW, &header(1, 0, 0)), HOLE, "its place is not known any more");
    assert_eq!(producers.judge(NOW, &header(1, 0, 1)), Judged::New, "it goes on");
    let there = Judged::Duplicate { base_offset: 0, end_offset: 10 };
    assert_eq!(producers.judge(NOW, &header(1000, 0, 0)), there);
}

#[test]
fn no_producer_is_forgotten_while_its_last_batch_may_be_sent_again() {
    let mut producers = Producers::default();
    for producer in 0..PRODUCERS_KNOWN_MAX as u64 {
        producers.appended(NOW, &header(producer, 0, 0), producer);
    }
    let new = header(u64::MAX, 0, 0);
    let full = Judged::Refused(ErrorCode::OVERLOADED);
    assert_eq!(producers.judge(NOW, &new), full);
    assert_eq!(producers.judge(NOW, &header(0, 0, 1)), Judged::New, "the others go on");
    let later = Now { mono_us: NOW.mono_us + PRODUCER_KEPT_US, ..NOW };
    assert_eq!(producers.judge(later, &new), Judged::New);
    producers.appended(later, &new, 1);
    assert_eq!(producers.producers.len(), PRODUCERS_KNOWN_MAX);
    assert_eq!(producers.judge(later, &header(1, 0, 1)), Judged::New, "0 was the oldest");
}

#[test]
fn restart_does_not_make_producers_young_again() {
    let (minutes_ms, kept_ms) = (60_000, PRODUCER_KEPT_US as i64 / 1000);
    let before = Now { mono_us: 5_000_000_000, wall_ms: 1_000_000_000 };
    let later = |ms: i64| Now { mono_us: 1, wall_ms: before.wall_ms + ms };
    let mut producers = Producers::default();
    let mut replayed = Producers::default();
    for producer in 0..PRODUCERS_KNOWN_MAX as u64 {
        let header = header(producer, 0, 0);
        producers.appended(before, &header, producer);
        let header = BatchHeader { append_time_ms: before.wall_ms, ..header };
        replayed.replayed(later(minutes_ms), &header);
    }
    // Written a minute after.
    let snapped = Now { mono_us: before.mono_us + 60_000_000, ..later(minutes_ms) };
    let parts = producers.snapshot(snapped, (1 << 20, 1 << 24));
    let mut restored = Producers::default();
    for (at, part) in parts.iter().enumerate() {
        restored.restore(later(2 * minutes_ms), part, at + 1 == parts.len());
    }
    assert_eq!(restored.producers.len(), PRODUCERS_KNOWN_MAX);
    let new = header(u64::MAX, 0, 0);
    let after = |now: Now, ms: i64| Now { mono_us: now.mono_us + ms as u64 * 1000, ..now };
    for (producers, at, left_ms) in [
        (restored, later(2 * minutes_ms), kept_ms - 2 * minutes_ms),
        (replayed, later(minutes_ms), kept_ms - minutes_ms),
    ] {
        let full = Judged::Refused(ErrorCode::OVERLOADED);
        assert_eq!(producers.judge(after(at, left_ms - 1), &new), full);
        assert_eq!(producers.judge(after(at, left_ms), &new), Judged::New);
    }
}

#[test]
fn snapshot_in_parts_is_what_was_known() {
    let mut producers = Producers::default();
    for producer in 0..300 {
        for sequence in 0..=producer % 7 {
            producers.appended(NOW, &header(producer, 2, sequence), 10 * producer);
        }
    }
    let parts = producers.snapshot(NOW, (4096, 1 << 20));
    assert!(parts.len() > 3 && parts.iter().all(|part| part.len() <= 4096));
    let mut restored = Producers::default();
    restored.appended(NOW, &header(999, 0, 0), 0);
    for (at, part) in parts.iter().enumerate() {
        assert_eq!(restored.judge(NOW, &header(999, 0, 1)), Judged::New, "not yet");
        restored.restore(NOW, part, at + 1 == parts.len());
    }
    assert_eq!(restored.judge(NOW, &header(999, 0, 1)), HOLE, "it replaces what was before");
    for producer in 0..300 {
        for sequence in 0..9 {
            let header = header(producer, 2, sequence);
            assert_eq!(restored.judge(NOW, &header), producers.judge(NOW, &header));
        }
    }
    assert_eq!(restored.snapshot(NOW, (4096, 1 << 20)), parts);
    let few = producers.snapshot(NOW, (4096, 10_000));
    let newest = |parts: &[Bytes]| parts.iter().flat_map(read_snapshot).last().unwrap().id;
    assert_eq!(newest(&few), newest(&parts));
    assert!(few.iter().map(Bytes::len).sum::<usize>() <= 10_000);
}

#[test]
fn unfinished_snapshot_changes_nothing() {
    let mut producers = Producers::default();
    producers.appended(NOW, &header(1, 0, 0), 0);
    let parts = Producers::default().snapshot(NOW, (4096, 1 << 20));
    producers.restore(NOW, &parts[0], false);
    producers.appended(NOW, &header(1, 0, 1), 10);
    assert_eq!(producers.judge(NOW, &header(1, 0, 2)), Judged::New);
}

#[test]
fn letters_have_holes_between_them_and_none_is_left_out() {
    let mut producers = Producers::default();
    let judge = |producers: &Producers, epoch, sequence, follows: Option<u64>| {
        producers.judge_letter(NOW, &header(1, epoch, sequence), follows.map(Sequence), 99)
    };
    let there = Judged::Duplicate { base_offset: 99, end_offset: 99 };
    assert_eq!(judge(&producers, 1, 40, Some(30)), HOLE, "30 was refused, or is on its way");
    assert_eq!(judge(&producers, 1, 30, None), Judged::New);
    producers.appended(NOW, &header(1, 1, 30), 7);
    assert_eq!(judge(&producers, 1, 30, None), there);
    assert_eq!(judge(&producers, 1, 20, None), there);
    assert_eq!(judge(&producers, 1, 50, Some(40)), HOLE);
    assert_eq!(judge(&producers, 1, 40, Some(30)), Judged::New);
    assert_eq!(judge(&producers, 1, 40, None), Judged::New, "30 is durable");
    // The next death, of records that may lie before.
    assert_eq!(judge(&producers, 2, 15, Some(5)), HOLE);
    assert_eq!(judge(&producers, 2, 5, None), Judged::New);
    producers.appended(NOW, &header(1, 2, 5), 8);
    assert_eq!(judge(&producers, 1, 60, None), there, "the last death is over");
    producers.lost_some();
    assert_eq!(judge(&producers, 2, 15, Some(10)), Judged::New, "10 may be lost");
}

#[test]
fn lost_batches_at_a_producers_end_are_taken_again() {
    let mut producers = Producers::default();
    for sequence in 0..3 {
        producers.appended(NOW, &header(1, 0, sequence), sequence * 10);
    }
    producers.forget_lost(|offset| offset == 0 || offset == 20);
    assert_eq!(producers.judge(NOW, &header(1, 0, 2)), Judged::New, "it is not there");
    let there = Judged::Duplicate { base_offset: 10, end_offset: 20 };
    assert_eq!(producers.judge(NOW, &header(1, 0, 1)), there);
    assert_eq!(producers.judge(NOW, &header(1, 0, 3)), Judged::New, "2 may have been given up");
    producers.appended(NOW, &header(1, 0, 2), 30);
    let anew = Judged::Duplicate { base_offset: 30, end_offset: 40 };
    assert_eq!(producers.judge(NOW, &header(1, 0, 2)), anew);
    assert_eq!(producers.judge(NOW, &header(1, 0, 4)), HOLE, "it is known again");
}

#[test]
fn what_a_damaged_log_has_lost_does_not_stop_its_producers() {
    let mut producers = Producers::default();
    producers.appended(NOW, &header(1, 0, 0), 0);
    producers.lost_some();
    assert_eq!(producers.judge(NOW, &header(1, 0, 5)), Judged::New, "1 to 4 may be lost");
    assert_eq!(producers.judge(NOW, &header(2, 0, 5)), Judged::New, "0 to 4 may be lost");
    let there = Judged::Duplicate { base_offset: 0, end_offset: 10 };
    assert_eq!(producers.judge(NOW, &header(1, 0, 0)), there, "what is known is known");
    producers.appended(NOW, &header(1, 0, 5), 50);
    assert_eq!(producers.judge(NOW, &header(1, 0, 7)), HOLE, "it is known again");
}
