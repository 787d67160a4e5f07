//! How chunks are bound, and how acks become durable.

use super::*;

#[test]
fn a_chunk_closes_at_its_record_limit_by_whole_batches() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[60, 40, 70, 40, 100]);
    // 70 + 40 would break the limit of 100; 40 + 100 likewise; 100 fills a chunk by itself.
    assert_eq!(bench.bounds(), [(0, 99), (100, 169)]);
    assert_eq!(bench.stats().open_chunks, 4);
}

#[test]
fn a_chunk_closes_at_its_byte_limit() {
    let mut bench = Bench::with_member(&GroupOptions { chunk_bytes: 500, ..options() });
    bench.append(&[30, 20]);
    assert_eq!(bench.bounds(), [(0, 49)], "it is full");
    bench.append(&[30, 30]);
    assert_eq!(bench.bounds(), [(50, 79)], "it has no room for the next one");
}

#[test]
fn a_batch_over_the_limit_is_a_chunk_of_its_own() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[10, 250]);
    assert_eq!(bench.bounds(), [(0, 9), (10, 259)]);
}

#[test]
fn a_chunk_closes_when_its_first_batch_has_waited() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[10]);
    bench.pass(30);
    bench.append(&[10]);
    assert_eq!(bench.groups.poll_timeout(), Some(1_050_000));
    bench.pass(19);
    assert_eq!(bench.bounds(), []);
    bench.pass(1);
    assert_eq!(bench.bounds(), [(0, 19)]);
}

#[test]
fn a_group_that_is_behind_does_not_close_small_chunks() {
    let mut bench = Bench::with_member(&options());
    bench.high_watermark = 1000;
    bench.groups.advance(bench.now, Offset(1000), Offset(1000));
    for first in [0, 10] {
        let batch =
            BatchBounds { first: Offset(first), last: Offset(first + 9), bytes: 1, appended_ms: 0 };
        bench.groups.offer(bench.now, bench.group, batch);
        bench.pass(60);
        assert_eq!(bench.bounds(), [], "more is durable at {first}");
        assert_eq!(bench.groups.poll_timeout(), None);
    }
    bench.groups.offer(
        bench.now,
        bench.group,
        BatchBounds { first: Offset(20), last: Offset(999), bytes: 1, appended_ms: 0 },
    );
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 19), (20, 999)]);
}

#[test]
fn a_chunk_that_nobody_has_room_for_goes_on_growing() {
    let mut bench = Bench::with_member(&options());
    for _ in 0..2 {
        bench.append(&[10]);
        bench.pass(50);
    }
    let held = bench.hand_outs();
    assert_eq!(held.len(), 2);
    for _ in 0..3 {
        bench.append(&[10]);
        bench.pass(50);
        assert_eq!(bench.groups.poll_timeout(), Some(2_050_000), "the leases' ends alone");
    }
    assert_eq!(bench.stats().open_chunks, 2);
    // It has waited long enough already: it ends as soon as there is room.
    bench.ack(&held[0]).unwrap();
    bench.flush();
    assert_eq!(bench.groups.poll_timeout(), Some(1_150_000));
    bench.pass(0);
    assert_eq!(bench.bounds(), [(20, 49)]);
    // Full ones wait for no room.
    bench.append(&[60, 40, 100]);
    assert_eq!(bench.stats().open_chunks, 4);
}

#[test]
fn a_chunk_waits_for_room_behind_those_that_are_ready() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100, 100, 10]);
    let held = bench.hand_outs();
    bench.pass(50);
    assert_eq!((held.len(), bench.stats().open_chunks), (2, 3));
    bench.ack(&held[0]).unwrap();
    bench.pass(0);
    assert_eq!((bench.bounds(), bench.stats().open_chunks), (vec![(200, 299)], 2));
    // Somebody else has room for two.
    bench.join(2, &options());
    bench.pass(0);
    assert_eq!(bench.bounds(), [(300, 309)]);
}

#[test]
fn room_for_a_chunk_that_is_not_durable_yet_is_not_there_for_the_next_one() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let end = Offset(210);
    bench.groups.advance(bench.now, end, end);
    for (first, last) in [(100, 199), (200, 209)] {
        let (first, last) = (Offset(first), Offset(last));
        let batch = BatchBounds { first, last, bytes: 100, appended_ms: 0 };
        bench.groups.offer(bench.now, bench.group, batch);
    }
    bench.now.mono_us += u64::from(options().chunk_linger_ms) * 1000;
    bench.groups.handle_timeout(bench.now);
    assert_eq!(bench.stats().open_chunks, 2, "the member takes two");
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 99), (100, 199)]);
}

#[test]
fn a_group_at_its_limit_has_no_room() {
    let settings = GroupSettings { chunks_out: 1, ..GroupSettings::default() };
    let mut bench = Bench::of_member(settings, &options());
    bench.append(&[100, 10]);
    bench.pass(50);
    assert_eq!((bench.bounds(), bench.stats().open_chunks), (vec![(0, 99)], 1));
}

#[test]
fn bounds_are_durable_before_the_hand_out() {
    let mut bench = Bench::with_member(&options());
    bench.groups.advance(bench.now, Offset(100), Offset(100));
    let batch = BatchBounds { first: Offset(0), last: Offset(99), bytes: 1000, appended_ms: 0 };
    bench.groups.offer(bench.now, bench.group, batch);
    bench.take_outputs();
    bench.groups.handle_timeout(bench.now);
    bench.take_outputs();
    assert_eq!(bench.bounds(), []);
    assert_eq!(bench.under_way.len(), 1);
    bench.flush();
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn a_join_is_answered_once_the_start_is_durable() {
    let mut bench = Bench::new();
    let late = bench.groups.create(START, "late", Offset(7)).unwrap();
    bench.groups.join(bench.now, late, member(5), &options()).unwrap();
    bench.take_outputs();
    assert!(bench.outputs.is_empty());
    assert_eq!(bench.groups.wants(late), None);
    bench.flush();
    assert_eq!(bench.outputs, [Output::Joined { member: member(5), next: Offset(7) }]);
    assert_eq!(bench.groups.wants(late), Some(Offset(7)));
    bench.restart();
    assert_eq!(bench.groups.find("late"), Some(late));
    bench.groups.join(bench.now, late, member(6), &options()).unwrap();
    assert_eq!(bench.groups.wants(late), Some(Offset(7)));
}

#[test]
fn an_ack_is_answered_once_durable_and_is_final() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack(&out).unwrap();
    bench.take_outputs();
    let ended =
        Output::LeaseEnded { member: member(1), first: out.first, generation: out.generation };
    assert_eq!(bench.outputs, [ended]);
    assert_eq!(bench.stats().acked_upto, 0);
    assert_eq!(bench.ack(&out), Err(ErrorCode::LEASE_LOST));
    bench.pass(10_000);
    let acked = Output::Acked { member: member(1), request: CorrelationId(0) };
    assert_eq!(bench.outputs.pop_back(), Some(acked));
    assert_eq!(bench.stats().acked_upto, 100);
    assert_eq!(bench.stats().lag_records, 0);
    bench.restart();
    bench.join(2, &options());
    bench.pass(10_000);
    assert_eq!(bench.bounds(), []);
    assert_eq!(bench.stats().acked_upto, 100);
}

#[test]
fn an_ack_that_was_not_durable_is_forgotten_by_a_restart() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.ack(&out).unwrap();
    bench.restart();
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(0, 99)]);
}

#[test]
fn out_of_order_acks_move_acked_upto_once_the_hole_closes() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100, 100]);
    let out = bench.hand_outs();
    bench.ack(&out[1]).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_upto, bench.stats().lag_records), (0, 100));
    bench.ack(&out[0]).unwrap();
    bench.flush();
    assert_eq!((bench.stats().acked_upto, bench.stats().open_chunks), (200, 0));
}
