//! Records that outlive their time, and what holds retention back.

use super::*;

const TTL_MS: u64 = 16_000;

fn short_lived() -> Bench {
    let settings = GroupSettings { record_ttl_ms: TTL_MS, ..GroupSettings::default() };
    Bench::of_member(settings, &options())
}

impl Bench {
    /// Everything that was appended `age_ms` ago or earlier is past its time.
    fn expire(&mut self, age_ms: i64) {
        self.groups.set_horizon(Some(self.now.wall_ms - age_ms));
    }
}

#[test]
fn a_chunk_past_its_time_is_finished_instead_of_handed_out() {
    let mut bench = short_lived();
    bench.append(&[100, 100, 100, 100]);
    let outs = bench.hand_outs();
    assert_eq!(outs.len(), 2);
    bench.expire(0);
    // What is on lease does not expire: its holder may still ack it.
    bench.ack(&outs[0]).unwrap();
    bench.flush();
    assert_eq!(bench.bounds(), []);
    let stats = bench.stats();
    assert_eq!((stats.expired_records, stats.acked_records), (200, 100));
    assert_eq!((stats.acked_upto, stats.open_chunks), (100, 1));
    bench.ack_part(&outs[1], 100, 149).unwrap();
    // But not handed out again.
    bench.nack(&outs[1], 0);
    bench.pass(1_000);
    assert_eq!(bench.bounds(), []);
    let stats = bench.stats();
    assert_eq!((stats.expired_records, stats.acked_records, stats.acked_upto), (250, 150, 400));
    bench.restart();
    assert_eq!((bench.stats().acked_upto, bench.stats().lag_records), (400, 0));
}

#[test]
fn a_chunk_expires_with_its_newest_batch_and_spans_little_time() {
    let mut bench = short_lived();
    bench.append(&[10]);
    bench.pass(10);
    bench.append(&[10]);
    // A batch that is much younger begins a chunk of its own.
    bench.now.wall_ms += (TTL_MS / limits::TTL_PARTS) as i64;
    bench.append(&[10]);
    bench.pass(50);
    assert_eq!(bench.bounds(), [(0, 19), (20, 29)]);
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    bench.expire((TTL_MS / limits::TTL_PARTS) as i64 + 55);
    bench.join(2, &options());
    assert_eq!(bench.bounds(), [(0, 19), (20, 29)], "its second batch is not past its time");
    bench.groups.leave(bench.now, member(2), Departure::InOrder);
    bench.expire((TTL_MS / limits::TTL_PARTS) as i64 + 45);
    bench.join(3, &options());
    assert_eq!(bench.bounds(), [(20, 29)]);
    assert_eq!(bench.stats().expired_records, 20);
}

#[test]
fn retention_is_held_back_by_what_is_worked_on() {
    let mut bench = Bench::of_member(mortal(), &options());
    assert_eq!(bench.groups.lowest_leased(), None);
    bench.append(&[100, 100, 100]);
    let outs = bench.hand_outs();
    assert_eq!(bench.groups.lowest_leased(), Some(Offset(0)));
    bench.ack_part(&outs[0], 0, 59).unwrap();
    assert_eq!(bench.groups.lowest_leased(), Some(Offset(60)));
    bench.terminate(&outs[0], &[(70, 79)]).unwrap();
    let letter = bench.letter();
    bench.ack(&outs[0]).unwrap();
    bench.flush();
    assert_eq!(bench.groups.lowest_leased(), Some(Offset(70)));
    bench.bury(&letter);
    assert_eq!(bench.groups.lowest_leased(), Some(Offset(100)));
    bench.groups.leave(bench.now, member(1), Departure::InOrder);
    assert_eq!(bench.groups.lowest_leased(), None);
}

#[test]
fn an_ack_that_is_not_durable_holds_retention_back() {
    let mut bench = Bench::with_member(&options());
    bench.append(&[100]);
    let out = bench.hand_outs().remove(0);
    bench.groups.ack(bench.now, out.member, part(&out, 0, 59), CorrelationId(1)).unwrap();
    assert_eq!(bench.groups.lowest_leased(), Some(Offset(0)));
}
