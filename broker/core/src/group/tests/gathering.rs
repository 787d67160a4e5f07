//! Records that nobody waits for, which may wait for others.

use super::*;

fn small() -> GroupOptions {
    GroupOptions {
        chunk_records: 10,
        chunk_linger_ms: 0,
        chunks_in_flight: CHUNKS_IN_FLIGHT_MAX,
        ..options()
    }
}

impl Bench {
    /// A member that holds so many chunks of ten records, all durable.
    fn with_chunks(chunks: usize) -> (Self, Vec<HandOut>) {
        let mut bench = Bench::with_member(&small());
        for _ in 0..chunks {
            bench.append(&[10]);
        }
        let held = bench.hand_outs();
        assert_eq!(held.len(), chunks);
        bench.patient.clear();
        (bench, held)
    }

    /// Might the ack wait?
    fn ack_gathers(&mut self, chunk: &HandOut) -> bool {
        self.ack(chunk).unwrap();
        self.take_outputs();
        self.patient.pop().unwrap()
    }

    /// A batch of ten records that is a durable block by itself.
    fn block(&mut self, first: u64) {
        let (first, last) = (Offset(first), Offset(first + 9));
        self.groups.advance(self.now, Offset(last.0 + 1), Offset(last.0 + 1));
        let batch = BatchBounds { first, last, bytes: 100, appended_ms: 0 };
        self.groups.offer_block(self.now, self.group, (first, last), [batch].into_iter());
        self.take_outputs();
    }

    fn flush_one(&mut self) {
        let (token, _) = self.under_way.pop_front().unwrap();
        self.groups.persisted(self.now, token);
        self.take_outputs();
    }
}

#[test]
fn acks_of_a_member_that_waits_for_each_answer_are_written_at_once() {
    let (mut bench, held) = Bench::with_chunks(3);
    for chunk in &held {
        assert!(!bench.ack_gathers(chunk));
        bench.flush();
    }
}

#[test]
fn acks_of_a_member_that_does_not_wait_for_the_one_before_may_gather() {
    let (mut bench, held) = Bench::with_chunks(4);
    assert!(!bench.ack_gathers(&held[0]));
    assert!(bench.ack_gathers(&held[1]));
    assert!(bench.ack_gathers(&held[2]));
    bench.flush();
    let answered = bench.outputs.iter().filter(|it| matches!(it, Output::Acked { .. })).count();
    assert_eq!(answered, 3);
    assert!(!bench.ack_gathers(&held[3]), "all others are answered");
}

#[test]
fn members_are_told_apart() {
    let (mut bench, held) = Bench::with_chunks(1);
    bench.join(2, &small());
    bench.append(&[10]);
    let others = bench.hand_outs();
    let other = others.iter().find(|out| out.member == member(2)).expect("it holds fewer");
    assert!(!bench.ack_gathers(&held[0]));
    assert!(!bench.ack_gathers(other), "its first one");
}

#[test]
fn no_member_has_many_acks_without_an_answer() {
    let (mut bench, held) = Bench::with_chunks(1);
    let mut ack = |first, last| {
        let (member, claim) = (held[0].member, part(&held[0], first, last));
        bench.groups.ack(bench.now, member, claim, CorrelationId(1)).unwrap();
        bench.take_outputs();
        bench.patient.pop()
    };
    assert_eq!(ack(0, 0), Some(false));
    // For the second time: each is an ack of its own, without a record.
    assert!((2..limits::ACKS_GATHERED_MAX).all(|_| ack(0, 0).is_none()));
    assert_eq!(ack(1, 1), Some(true), "the last that may be without an answer");
    assert_eq!(ack(2, 9), Some(false));
}

#[test]
fn who_was_told_that_its_acks_will_not_be_answered_waits_for_the_next() {
    let (mut bench, held) = Bench::with_chunks(2);
    assert!(!bench.ack_gathers(&held[0]));
    assert_eq!(bench.groups.take_unanswered().acks.len(), 1);
    assert!(!bench.ack_gathers(&held[1]));
    bench.flush();
}

#[test]
fn failures_are_written_at_once() {
    let (mut bench, held) = Bench::with_chunks(2);
    assert!(!bench.ack_gathers(&held[0]));
    bench.nack(&held[1], 0);
    assert_eq!(bench.patient.pop(), Some(false), "its chunk is not handed out before");
}

#[test]
fn bounds_may_gather_while_a_chunk_in_front_of_them_is_open_durably() {
    let mut bench = Bench::with_member(&small());
    bench.block(0);
    assert!(bench.groups.is_pressed(), "after a crash, retention would not know of it");
    bench.flush();
    assert!(!bench.groups.is_pressed());
    bench.block(10);
    let held = bench.hand_outs();
    assert_eq!((held.len(), bench.patient.pop()), (2, Some(true)));
    bench.ack(&held[0]).unwrap();
    bench.take_outputs();
    bench.block(20);
    assert!(!bench.groups.is_pressed(), "that the first is done is not durable");
    bench.flush_one();
    bench.flush_one();
    assert!(!bench.groups.is_pressed(), "the second is bound");
}

#[test]
fn bounds_gather_until_nothing_in_front_of_them_is_open_durably() {
    let mut bench = Bench::with_member(&small());
    bench.block(0);
    bench.flush();
    let first = bench.hand_outs().remove(0);
    bench.ack(&first).unwrap();
    bench.take_outputs();
    bench.block(10);
    assert!(!bench.groups.is_pressed());
    bench.flush_one();
    assert!(bench.groups.is_pressed());
    bench.flush();
    assert!(!bench.groups.is_pressed());
}

#[test]
fn bounds_gather_no_longer_before_chunks_have_to_wait_for_theirs() {
    let mut bench = Bench::with_member(&small());
    let max = u64::from(limits::CHUNKS_UNWRITTEN_MAX);
    bench.groups.configure(bench.now, GroupSettings { chunks_out: 2048, ..bench.settings });
    for member in 0..max.div_ceil(u64::from(CHUNKS_IN_FLIGHT_MAX)) {
        bench.join(100 + member, &small());
    }
    bench.append(&[10]);
    for number in 1..max {
        assert_eq!(bench.groups.is_pressed(), number > max / 2, "{number}");
        bench.block(10 * number);
    }
}
