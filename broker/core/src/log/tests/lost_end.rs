//! Newest segments, or all of them, that are gone: nobody but the witness knows.

use super::damage::{filled, only_damage};
use super::*;
use crate::limits::RECOVERY_BACKOFF_US_MAX;

/// How far a log goes on behind what is known of it.
pub(super) const AHEAD: u64 = crate::limits::LOST_END_OFFSETS;

#[test]
fn log_that_is_gone_as_a_whole_gives_no_offset_twice_and_stays_damaged() {
    let (mut bench, sizes) = filled(40);
    bench.rest();
    let whole = bench.crash();
    let mut disk = whole.clone();
    disk.logs.clear();
    let (mut bench, damage) = only_damage(Bench::new(disk));
    let base = whole.witnesses[&ID].base_offset;
    assert!((30..40).contains(&base), "the witness is that of the newest segment");
    assert_eq!((damage.kind, damage.first, damage.end), (DamageKind::EndLost, 0, base + AHEAD));
    assert!(damage.loses_records() && damage.records() == 0, "nobody knows how many");
    assert!(matches!(bench.log.find(3), Found::Damaged { next } if next == base + AHEAD));
    // Retention by time does not take it for old, nor is a segment begun for each block.
    bench.log.set_retention(0, 60_000);
    bench.settle();
    assert_eq!(bench.commit(3_000), base + AHEAD);
    assert_eq!((bench.log.segment_count(), bench.log.log_start()), (1, 0));
    let (mut bench, again) = only_damage(bench);
    assert_eq!((again.kind, again.first, again.end), (damage.kind, 0, base + AHEAD));
    assert_eq!((bench.log.log_start(), &bench.replayed), (0, &vec![base + AHEAD]));
    assert_eq!(bench.fetch(base + AHEAD), vec![(base + AHEAD) as u8; 3_000]);

    // The segments are found and put back: all is there, in its place.
    let mut disk = bench.crash();
    let files = disk.logs.get_mut(&ID).unwrap();
    files.extend(whole.logs[&ID].clone());
    let (mut bench, left) = only_damage(Bench::new(disk));
    assert_eq!((left.first, left.end), (40, base + AHEAD), "no record is known to be missing");
    for (offset, size) in sizes {
        assert_eq!(bench.fetch(offset), vec![offset as u8; size]);
    }
    assert_eq!(bench.fetch(base + AHEAD), vec![(base + AHEAD) as u8; 3_000]);
    assert_eq!(bench.commit(10), base + AHEAD + 1);
}

#[test]
fn first_block_that_is_gone_from_a_log_without_records_loses_nothing() {
    let bench = Bench::open(TestDisk::default());
    let mut bench = Bench::open(bench.crash());
    let mut disk = bench.crash();
    disk.file(ID, SegmentId(1)).unwrap()[..4096].fill(0);
    bench = Bench::open(disk);
    assert!(bench.damages.iter().all(|damage| !damage.loses_records()), "{:?}", bench.damages);
    assert_eq!(bench.commit(10), 0);
}

/// All that is left is a block whose predecessor was never flushed: it says how far the log had come, and is
/// itself no part of it. Without a witness, nobody knows more.
#[test]
fn log_of_which_nothing_is_left_begins_with_what_is_known_to_be_missing() {
    let (mut bench, mut sizes) = filled(40);
    while bench.writer_position() > SEGMENT / 2 {
        sizes.insert(bench.commit(3_000), 3_000);
    }
    let end = sizes.len() as u64;
    bench.append(3_000);
    bench.pump();
    bench.append(3_000);
    bench.pump();
    let commits = bench.commits();
    let [_, last] = commits[..] else { panic!("{commits:?} are under way") };
    let (segment, position, left) = bench.place_of_commit(last);
    bench.answer(last, None);
    let mut disk = bench.disk.clone();
    disk.witnesses.clear();
    let files = disk.logs.get_mut(&ID).unwrap();
    files.retain(|id, _| *id <= segment);
    files.values_mut().for_each(|file| file.fill(0));
    files.get_mut(&segment).unwrap()[position as usize..][..left.len()].copy_from_slice(&left);

    // The first segment of all is there: so was the first record.
    let whole = Bench::open(disk.clone());
    let [damage] = whole.damages[..] else { panic!("{:?}", whole.damages) };
    assert_eq!((damage.kind, damage.first, damage.end), (DamageKind::Zeros, 0, end));

    // It is not: retention may have taken whatever was before.
    disk.logs.get_mut(&ID).unwrap().retain(|id, _| *id == segment);
    let mut bench = Bench::open(disk);
    let [damage] = bench.damages[..] else { panic!("{:?}", bench.damages) };
    assert_eq!((damage.kind, damage.first, damage.end), (DamageKind::FrontLost, end, end));
    assert_eq!(bench.commit(3_000), end);
}

#[test]
fn newest_segments_that_are_put_back_are_whole_again() {
    let (mut bench, mut sizes) = filled(40);
    bench.rest();
    // In another life than the older segments, as after a restart.
    let mut bench = Bench::open(bench.crash());
    for offset in 40..50 {
        sizes.insert(offset, 3_000);
        bench.commit(3_000);
    }
    let whole = bench.crash();
    let newest = whole.witnesses[&ID].newest;
    let mut disk = whole.clone();
    disk.logs.get_mut(&ID).unwrap().retain(|id, _| *id < newest);
    let (mut bench, damage) = only_damage(Bench::new(disk));
    assert_eq!((damage.kind, damage.place.segment), (DamageKind::EndLost, newest));
    bench.check_readable(&sizes);
    let next = bench.commit(3_000);
    assert!(next > 50);
    let mut disk = bench.crash();
    for (id, file) in whole.logs[&ID].iter().filter(|(id, _)| **id >= newest) {
        disk.logs.get_mut(&ID).unwrap().entry(*id).or_insert_with(|| file.clone());
    }
    let (mut bench, left) = only_damage(Bench::new(disk));
    assert_eq!((left.first, left.end), (50, next));
    sizes.insert(next, 3_000);
    bench.check_readable(&sizes);
}

/// Else a power cut may keep the mark and not what is in front of it, of which the mark is taken for a proof.
#[test]
fn what_was_found_is_flushed_before_a_new_life_is_marked() {
    let (bench, _) = filled(6);
    let mut bench = Bench::new(bench.crash());
    bench.pump();
    while bench.commits().is_empty() {
        bench.answer(0, None);
    }
    let end = bench.writer_position();
    let [again] = bench.commits()[..] else { panic!("{:?}", bench.commits()) };
    let (segment, position, block) = bench.place_of_commit(again);
    assert!(position + block.len() as u64 == end && !bench.log.is_open());
    let (_, DiskRequest::Commit { flush, .. }) = &bench.pending[again] else { panic!() };
    assert_eq!(*flush, crate::Flush::Segment);
    let found = &bench.disk.logs[&ID][&segment][position as usize..][..block.len()];
    assert_eq!(found, &block[..], "as it was");
    bench.answer(again, None);
    let [mark] = bench.commits()[..] else { panic!("{:?}", bench.commits()) };
    assert_eq!(bench.place_of_commit(mark).1, end);
    bench.settle();
    assert!(bench.log.is_open());
}

#[test]
fn witness_is_behind_the_log_and_a_crash_before_it_is_no_damage() {
    let mut bench = Bench::open(TestDisk::default());
    let is_witness =
        |(_, request): &(_, DiskRequest)| matches!(request, DiskRequest::WriteWitness { .. });
    let mut crashes = 0;
    for _ in 0..30 {
        bench.append(3_000);
        bench.pump();
        // Whatever is done so far, and nothing else: another log begins on that.
        while !bench.pending.is_empty() {
            let at = bench.pending.iter().position(|request| !is_witness(request)).unwrap_or(0);
            crashes += u32::from(bench.pending.iter().any(is_witness));
            let (durable, disk) = (bench.log.durable_end(), bench.disk.clone());
            let witnessed = disk.witnesses.get(&ID).map_or(0, |witness| witness.base_offset);
            assert!(witnessed <= durable);
            let after = Bench::open(disk);
            assert_eq!((after.damages, after.log.durable_end() >= durable), (vec![], true));
            bench.answer(at, None);
        }
    }
    assert!(crashes >= 3, "{crashes}");
    // A witness that cannot be written is tried again, and nothing else waits for it.
    let mut bench = Bench::open(TestDisk::default());
    for _ in 0..20 {
        bench.append(3_000);
        bench.pump();
        while !bench.pending.is_empty() {
            let fails = is_witness(&bench.pending[0]).then(|| Err(broken(DiskErrorKind::Io)));
            bench.answer(0, fails);
        }
    }
    assert_eq!((bench.log.durable_end(), bench.failures.len()), (20, 0));
    let before = bench.disk.witnesses.get(&ID).copied();
    bench.now.mono_us += RECOVERY_BACKOFF_US_MAX;
    bench.settle();
    assert!(before != bench.disk.witnesses.get(&ID).copied());
}

#[test]
fn unflushed_log_may_lose_its_newest_blocks_but_not_their_file() {
    let written = LogConfig { medium: Medium::Disk { sync: false }, ..config() };
    let mut bench = Bench::with(TestDisk::default(), written.clone());
    bench.settle();
    for _ in 0..20 {
        bench.commit(3_000);
    }
    let newest = bench.disk.witnesses[&ID].newest;
    for (removed, lost) in [(false, 0), (true, 1)] {
        let mut disk = bench.disk.clone();
        disk.file(ID, newest).unwrap().fill(0);
        if removed {
            disk.logs.get_mut(&ID).unwrap().remove(&newest);
        }
        let mut after = Bench::with(disk, written.clone());
        after.settle();
        assert_eq!((after.log.is_open(), after.damages.len()), (true, lost), "{removed}");
    }
}

#[test]
fn log_of_records_stays_closed_without_its_newest_segment_until_that_is_accepted() {
    let (records, mut bench) = (retained(), Bench::with(TestDisk::default(), retained()));
    bench.settle();
    for _ in 0..40 {
        bench.commit(3_000);
    }
    let whole = bench.crash();
    let newest = whole.witnesses[&ID].newest;
    for everything in [false, true] {
        let mut disk = whole.clone();
        disk.logs.get_mut(&ID).unwrap().retain(|id, _| *id < newest && !everything);
        let before = disk.clone();
        let mut bench = Bench::with(disk, records.clone());
        bench.settle();
        assert!(!bench.log.is_open() && bench.failures[0].detail.contains("newest segments lost"));
        let left = |disk: &TestDisk| disk.logs[&ID].clone();
        assert_eq!(left(&bench.disk), left(&before), "it can still be restored");
        assert_eq!(bench.disk.witnesses, before.witnesses);

        // Put back while it waits.
        bench.disk.logs.clone_from(&whole.logs);
        bench.now.mono_us = bench.log.poll_timeout().unwrap();
        bench.settle();
        assert!(bench.log.is_open() && bench.damages.is_empty());

        // Or accepted: it goes on, and stays open.
        let mut disk = before;
        let witness = disk.witnesses.get_mut(&ID).unwrap();
        witness.accepted = Some(Place { segment: SegmentId(newest.0 + 2), position: 0 });
        for _ in 0..3 {
            let mut bench = Bench::with(disk, records.clone());
            bench.settle();
            assert!(bench.log.is_open() && bench.log.lost().is_none(), "{:?}", bench.failures);
            assert_eq!(bench.damages.len(), 1);
            assert!(bench.commit(3_000) > AHEAD);
            disk = bench.crash();
        }
        assert!(disk.witnesses[&ID].newest > newest && disk.witnesses[&ID].accepted.is_some());
    }
}
