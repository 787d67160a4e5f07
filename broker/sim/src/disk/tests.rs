use super::*;

const LOG: LogId = LogId::Catalog;
const SEGMENT: SegmentId = SegmentId(1);

fn run(disk: &mut Disk, request: DiskRequest, rng: &mut Rng) -> DiskDone {
    let ticket = disk.begin(request);
    loop {
        if let Step::Done(outcome) = disk.step(ticket, DiskFaults::default(), rng) {
            return outcome.unwrap();
        }
    }
}

fn prepared(rng: &mut Rng) -> Disk {
    let mut disk = Disk::default();
    let bytes = 16 * BLOCK as u64;
    let prepare = DiskRequest::PrepareSegment { log: LOG, segment: SEGMENT, bytes, recycle: None };
    run(&mut disk, prepare, rng);
    disk
}

fn commit(fill: u8, position: u64, flush: Flush) -> DiskRequest {
    let block = Bytes::from(vec![fill; 2 * BLOCK]).into();
    DiskRequest::Commit { log: LOG, segment: SEGMENT, position, block, flush }
}

fn read(disk: &mut Disk, rng: &mut Rng) -> Bytes {
    let bytes = 16 * BLOCK as u32;
    let read = DiskRequest::Read { log: LOG, segment: SEGMENT, position: 0, bytes };
    match run(disk, read, rng) {
        DiskDone::Read { bytes } => bytes,
        other @ (DiskDone::Opened { .. }
        | DiskDone::Prepared
        | DiskDone::Committed
        | DiskDone::Witnessed
        | DiskDone::Deleted) => panic!("{other:?}"),
    }
}

#[test]
fn a_flushed_write_survives_power_loss_and_an_unflushed_one_may_not() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let mut disk = prepared(&mut rng);
        run(&mut disk, commit(1, 0, Flush::Block), &mut rng);
        run(&mut disk, commit(2, 2 * BLOCK as u64, Flush::Nothing), &mut rng);
        disk.crash(Crash::Power, &mut rng);
        let bytes = read(&mut disk, &mut rng);
        assert!(bytes[..2 * BLOCK].iter().all(|byte| *byte == 1));
        lost += u32::from(bytes[2 * BLOCK..4 * BLOCK].iter().any(|byte| *byte != 2));
    }
    assert!((1..50).contains(&lost), "{lost}");
}

#[test]
fn a_flush_of_a_block_is_of_no_other_and_one_of_the_segment_is_of_all() {
    for (flush, all) in [(Flush::Block, false), (Flush::Segment, true)] {
        let mut lost = 0;
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut disk = prepared(&mut rng);
            run(&mut disk, commit(1, 0, Flush::Nothing), &mut rng);
            run(&mut disk, commit(2, 2 * BLOCK as u64, flush), &mut rng);
            disk.crash(Crash::Power, &mut rng);
            let bytes = read(&mut disk, &mut rng);
            assert!(bytes[2 * BLOCK..4 * BLOCK].iter().all(|byte| *byte == 2));
            lost += u32::from(bytes[..2 * BLOCK].iter().any(|byte| *byte != 1));
        }
        assert_eq!(lost == 0, all, "{lost}");
    }
}

#[test]
fn a_process_crash_keeps_finished_writes() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let mut disk = prepared(&mut rng);
        run(&mut disk, commit(2, 0, Flush::Nothing), &mut rng);
        disk.crash(Crash::Process, &mut rng);
        assert!(read(&mut disk, &mut rng)[..2 * BLOCK].iter().all(|byte| *byte == 2));
    }
}

#[test]
fn a_write_under_way_is_kept_lost_or_torn() {
    let mut outcomes = [0; 3];
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut disk = prepared(&mut rng);
        disk.begin(commit(3, 0, Flush::Block));
        disk.crash(Crash::Process, &mut rng);
        let bytes = read(&mut disk, &mut rng);
        let kept = bytes[..2 * BLOCK].iter().filter(|byte| **byte == 3).count();
        outcomes[if kept == 0 {
            0
        } else if kept == 2 * BLOCK {
            1
        } else {
            2
        }] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 10), "{outcomes:?}");
}

#[test]
fn a_recycled_segment_keeps_its_stale_content() {
    let mut rng = Rng::new(1);
    let mut disk = prepared(&mut rng);
    run(&mut disk, commit(9, 0, Flush::Block), &mut rng);
    let recycle = Some(SEGMENT);
    let (segment, bytes) = (SegmentId(2), 16 * BLOCK as u64);
    run(&mut disk, DiskRequest::PrepareSegment { log: LOG, segment, bytes, recycle }, &mut rng);
    let read = DiskRequest::Read { log: LOG, segment, position: 0, bytes: BLOCK as u32 };
    let stale = DiskDone::Read { bytes: Bytes::from(vec![9; BLOCK]) };
    assert_eq!(run(&mut disk, read, &mut rng), stale);
    let opened = run(&mut disk, DiskRequest::OpenLog { log: LOG }, &mut rng);
    assert_eq!(
        opened,
        DiskDone::Opened { segments: vec![SegmentFile { segment, bytes }], witness: None }
    );
}
