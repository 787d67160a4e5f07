//! Logs for which there is no room.

use super::*;

/// Answers everything; there is room for files of `room` bytes.
fn settle_within(bench: &mut Bench, room: usize) {
    bench.pump();
    while !bench.pending.is_empty() {
        let files = bench.disk.logs.get(&ID).into_iter().flat_map(|files| files.values());
        let used: usize = files.map(Vec::len).sum();
        let more = |request: &DiskRequest| match request {
            DiskRequest::PrepareSegment { bytes, recycle: None, .. } => Some(*bytes as usize),
            DiskRequest::OpenLog { .. }
            | DiskRequest::PrepareSegment { .. }
            | DiskRequest::Commit { .. }
            | DiskRequest::Read { .. }
            | DiskRequest::DeleteSegment { .. }
            | DiskRequest::WriteWitness { .. }
            | DiskRequest::RemoveLog { .. } => None,
        };
        let full = more(&bench.pending[0].1).is_some_and(|bytes| used + bytes > room);
        bench.answer(0, full.then(|| Err(broken(DiskErrorKind::NoSpace))));
    }
}

#[test]
fn full_disk_lets_what_was_appended_wait_and_readers_go_on() {
    let mut bench = Bench::open(TestDisk::default());
    let no_space = Some(Err(broken(DiskErrorKind::NoSpace)));
    for n in 0..40 {
        bench.append(3_000);
        bench.pump();
        while !bench.pending.is_empty() {
            let full = matches!(bench.pending[0].1, DiskRequest::PrepareSegment { .. });
            bench.answer(0, if full { no_space.clone() } else { None });
        }
        assert!(bench.log.is_open(), "record {n}: {:?}", bench.failures);
    }
    let last = bench.log.durable_end();
    assert!((6..40).contains(&last), "the first segment was filled: {last}");
    assert_eq!(bench.log.no_space(), Some("the test says so"));
    for offset in 0..last {
        assert_eq!(bench.fetch(offset), vec![offset as u8; 3_000]);
    }
    // There is space again.
    bench.now.mono_us = bench.log.poll_timeout().unwrap();
    bench.settle();
    assert_eq!((bench.log.durable_end(), bench.log.no_space()), (40, None));
    assert_eq!(Bench::open(bench.crash()).replayed, (0..40).collect::<Vec<_>>());
}

#[test]
fn retired_segments_of_another_size_make_room_on_a_full_disk() {
    let mut bench = Bench::with(TestDisk::default(), retained());
    bench.settle();
    while bench.log.segment_count() < 6 {
        bench.commit(3_000);
    }
    let mut bench =
        Bench::with(bench.crash(), LogConfig { segment_bytes: 2 * SEGMENT, ..retained() });
    let room = bench.disk.logs[&ID].values().map(Vec::len).sum();
    while bench.log.no_space().is_none() {
        if bench.log.is_open() {
            bench.append(3_000);
        }
        settle_within(&mut bench, room);
    }
    bench.log.set_retention(SEGMENT, 0);
    for _ in 0..10 {
        bench.now.mono_us += 2_000_000;
        settle_within(&mut bench, room);
    }
    assert_eq!((bench.log.no_space(), bench.log.undurable_bytes()), (None, 0));
}

#[test]
fn log_without_room_for_its_mark_is_read_and_goes_on_once_there_is_some() {
    let mut bench = Bench::new(TestDisk::default());
    settle_within(&mut bench, SEGMENT as usize);
    let last = SEGMENT / 4096 - 1;
    for _ in 0..last {
        bench.append(100);
        settle_within(&mut bench, SEGMENT as usize);
    }
    assert_eq!(bench.writer_position(), SEGMENT, "full to its end");
    for round in 0..2 {
        bench = Bench::new(bench.crash());
        settle_within(&mut bench, SEGMENT as usize);
        assert!(bench.log.is_open() && bench.log.no_space().is_some(), "{:?}", bench.failures);
        assert_eq!(bench.replayed, (0..last).collect::<Vec<_>>());
        assert_eq!(bench.fetch(0), vec![0; 100]);
        assert_eq!(bench.append(100), last);
        settle_within(&mut bench, SEGMENT as usize);
        assert_eq!(bench.log.durable_end(), last, "round {round}");
    }
    bench.now.mono_us = bench.log.poll_timeout().unwrap();
    bench.settle();
    assert_eq!((bench.log.durable_end(), bench.log.no_space()), (last + 1, None));
    assert_eq!(Bench::open(bench.crash()).replayed, (0..=last).collect::<Vec<_>>());
}

#[test]
fn full_disk_does_not_keep_a_log_from_ending() {
    let mut bench = Bench::open(TestDisk::default());
    while bench.log.no_space().is_none() {
        bench.append(3_000);
        bench.pump();
        while !bench.pending.is_empty() {
            let full = matches!(bench.pending[0].1, DiskRequest::PrepareSegment { .. });
            bench.answer(0, full.then(|| Err(broken(DiskErrorKind::NoSpace))));
        }
    }
    assert!(!bench.log.is_idle());
    bench.log.stop();
    bench.settle();
    assert!(bench.log.is_idle() && !bench.log.is_open());
    assert_eq!(bench.failures[0].kind, DiskErrorKind::NoSpace);
}
