//! Damaged logs: what is lost is known, and nothing else is.

use std::collections::BTreeMap;

use super::lost_end::AHEAD;
use super::*;
use crate::Flush;
use crate::limits::{READ_ATTEMPTS_MAX, REST_MARK_US};

impl Bench {
    /// Long enough that the log marks its end.
    pub(super) fn rest(&mut self) {
        self.now.mono_us += REST_MARK_US;
        self.settle();
    }

    /// Where the block with this offset is.
    fn place_of(&self, offset: u64) -> Place {
        let (mut place, mut at) = self.log.segments.locate(offset).unwrap();
        let disk = &self.disk.logs[&ID][&place.segment];
        loop {
            let rest = &disk[place.position as usize..];
            let header = block::BlockHeader::decode(rest, ID, place).unwrap();
            if header.count > 0 && header.base_offset <= offset && offset < header.end_offset() {
                return place;
            }
            assert!(at <= offset, "the index is too late");
            at = header.end_offset();
            place.position += header.bytes_on_disk();
        }
    }

    fn flip(&mut self, place: Place, at: u64) {
        let file = self.disk.file(ID, place.segment).unwrap();
        file[(place.position + at) as usize] ^= 1;
    }

    /// Every offset is there with its bytes, or in a hole, and a reader comes to the end.
    pub(super) fn check_readable(&mut self, sizes: &BTreeMap<u64, usize>) {
        let mut offset = self.log.log_start();
        while offset < self.log.durable_end() {
            if let Found::Damaged { next } = self.log.find(offset) {
                assert!(next > offset && next <= self.log.durable_end());
                offset = next;
                continue;
            }
            assert!(self.replayed.contains(&offset), "offset {offset} is neither lost nor read");
            assert_eq!(self.fetch(offset), vec![offset as u8; sizes[&offset]], "offset {offset}");
            offset += 1;
        }
        let lost: u64 = self.damages.iter().map(|damage| damage.end - damage.first).sum();
        let there = self.replayed.len() as u64;
        assert_eq!(self.log.log_start() + there + lost, self.log.durable_end());
    }
}

pub(super) fn filled(blocks: u64) -> (Bench, BTreeMap<u64, usize>) {
    let mut bench = Bench::open(TestDisk::default());
    let mut sizes = BTreeMap::new();
    for n in 0..blocks {
        sizes.insert(n, 3_000);
        bench.commit(3_000);
    }
    (bench, sizes)
}

/// Reopens and gives the only damage.
pub(super) fn only_damage(bench: Bench) -> (Bench, Damage) {
    let bench = Bench::open(bench.crash());
    let [damage] = bench.damages[..] else { panic!("{:?}", bench.damages) };
    (bench, damage)
}

#[test]
fn damage_in_the_middle_is_a_hole_and_the_rest_is_there() {
    let (mut bench, mut sizes) = filled(30);
    let (before, place, after) = (bench.place_of(9), bench.place_of(10), bench.place_of(11));
    bench.flip(place, 200);
    let (mut bench, damage) = only_damage(bench);
    let kind = DamageKind::Checksum;
    assert_eq!(damage, Damage { kind, place, until: Some(after), first: 10, end: 11 });
    assert_eq!(bench.place_of(9), before);
    bench.check_readable(&sizes);
    assert_eq!(bench.commit(3_000), 30);
    sizes.insert(30, 3_000);
    let report = bench.log.report().unwrap().to_string();
    assert!(report.contains("1 damaged places, 1 records lost"), "{report}");

    // It stays as it is, however often the log is opened.
    let (mut bench, again) = only_damage(bench);
    assert_eq!(again, damage);
    bench.check_readable(&sizes);
}

#[test]
fn damage_is_told_from_a_torn_tail_by_what_was_durable() {
    // Each block is sealed after the one before it was durable, so that it says so. The last one
    // looks torn, until the log has rested.
    for (rested, last_is_lost) in [(false, false), (true, true)] {
        let (mut bench, _) = filled(6);
        if rested {
            bench.rest();
        }
        for offset in 0..6 {
            let place = bench.place_of(offset);
            let mut damaged = Bench::new(bench.disk.clone());
            damaged.flip(place, 70);
            damaged.settle();
            assert!(damaged.log.is_open());
            let lost = offset < 5 || last_is_lost;
            let expected = if lost { vec![(offset, offset + 1)] } else { vec![] };
            let found: Vec<_> = damaged.damages.iter().map(|d| (d.first, d.end)).collect();
            assert_eq!(found, expected, "block {offset}, rested {rested}");
            let end = if lost { 6 } else { 5 };
            assert_eq!(damaged.log.durable_end(), end);
        }
    }
}

#[test]
fn block_that_one_attempt_reads_wrong_is_not_lost_with_the_one_before_it() {
    let (mut bench, sizes) = filled(30);
    let (rotten, behind) = (bench.place_of(10), bench.place_of(11));
    bench.flip(rotten, 200);
    bench.log.read(ReadAt { place: rotten, offset: 10 }, &mut bench.operations);
    bench.pump();
    let mut attempts = 0;
    while let Some((_, request)) = bench.pending.front() {
        let DiskRequest::Read { segment, position, .. } = *request else { panic!("{request:?}") };
        let Ok(DiskDone::Read { bytes }) = bench.disk.run(request) else { panic!("not read") };
        let mut bytes = bytes.to_vec();
        attempts += u32::from(Place { segment, position } == rotten);
        if attempts == READ_ATTEMPTS_MAX {
            bytes[(behind.position - position) as usize + 100] ^= 1;
        }
        bench.answer(0, Some(Ok(DiskDone::Read { bytes: bytes.into() })));
        if let Some(Damage { until, first, end, .. }) = bench.damages.pop() {
            assert_eq!((until, first, end), (Some(behind), 10, 11));
            assert_eq!(attempts, READ_ATTEMPTS_MAX);
            assert_eq!(bench.fetch(11), vec![11; sizes[&11]]);
            return;
        }
    }
    panic!("no damage after {attempts} attempts");
}

#[test]
fn lost_end_gives_no_offset_a_second_time() {
    let (mut bench, _) = filled(6);
    bench.rest();
    // The last block and all behind it but the mark, which says how far the log had come.
    let place = bench.place_of(5);
    bench.disk.file(ID, place.segment).unwrap()[place.position as usize..][..4096].fill(0);
    let (mut bench, damage) = only_damage(bench);
    assert_eq!((damage.kind, damage.first, damage.end), (DamageKind::Zeros, 5, 6));
    assert_eq!(bench.commit(100), 6);
    let (bench, again) = only_damage(bench);
    assert_eq!((again.place, again.first, again.end), (place, 5, 6));
    assert_eq!(bench.replayed, [0, 1, 2, 3, 4, 6]);
}

#[test]
fn blocks_in_flight_over_a_lost_one_do_not_make_it_a_hole() {
    let mut bench = Bench::with(TestDisk::default(), large());
    bench.settle();
    bench.commit(100);
    for _ in 0..4 {
        bench.append(FULL);
        bench.pump();
    }
    // The first of four is lost, the others reach the disk: nobody was told of any.
    let writes: Vec<_> = bench.commits().iter().map(|at| bench.place_of_commit(*at)).collect();
    assert_eq!(writes.len(), 4);
    let mut disk = bench.crash();
    for (segment, position, block) in &writes[1..] {
        let at = *position as usize;
        disk.file(ID, *segment).unwrap()[at..at + block.len()].copy_from_slice(block);
    }
    let mut bench = Bench::with(disk, large());
    bench.settle();
    assert_eq!((bench.replayed, bench.damages), (vec![0], vec![]));
}

#[test]
fn more_blocks_behind_a_lost_one_than_can_be_in_flight_make_it_a_hole() {
    let mut bench = Bench::with(TestDisk::default(), large());
    bench.settle();
    for _ in 0..=COMMITS_IN_FLIGHT_MAX {
        bench.append(FULL);
        bench.pump();
    }
    let first = bench.place_of_commit(bench.commits()[0]);
    // The first is durable, and the last is sealed before the second is.
    bench.answer(bench.commits()[0], None);
    while let [next, ..] = bench.commits()[..] {
        let (segment, position, block) = bench.place_of_commit(next);
        let at = position as usize;
        bench.disk.file(ID, segment).unwrap()[at..at + block.len()].copy_from_slice(&block);
        bench.pending.remove(next);
    }
    let place = Place { segment: first.0, position: first.1 };
    bench.flip(place, 100);
    let mut bench = Bench::with(bench.crash(), large());
    bench.settle();
    assert_eq!(bench.replayed, (1..=COMMITS_IN_FLIGHT_MAX as u64).collect::<Vec<_>>());
    assert_eq!(bench.damages.len(), 1);
}

#[test]
fn missing_emptied_and_cut_segments_are_holes() {
    let (mut bench, sizes) = filled(40);
    bench.rest();
    let ids: Vec<SegmentId> = bench.disk.logs[&ID].keys().copied().collect();
    let used: Vec<SegmentId> = (0..40).map(|offset| bench.place_of(offset).segment).collect();
    for (at, id) in ids.iter().enumerate().filter(|(_, id)| used.contains(id)) {
        let first = used.iter().position(|other| other == id).unwrap() as u64;
        let end = first + used.iter().filter(|other| *other == id).count() as u64;
        let missing: fn(&mut TestDisk, SegmentId) = |disk, id| {
            disk.logs.get_mut(&ID).unwrap().remove(&id);
        };
        let emptied: fn(&mut TestDisk, SegmentId) = |disk, id| disk.file(ID, id).unwrap().fill(0);
        let truncated: fn(&mut TestDisk, SegmentId) = |disk, id| {
            disk.file(ID, id).unwrap().truncate(4096 + 1000);
        };
        for (how, damage) in [missing, emptied, truncated].into_iter().enumerate() {
            let mut disk = bench.disk.clone();
            damage(&mut disk, *id);
            let mut damaged = Bench::open(disk);
            let last = !used.iter().any(|other| other > id);
            // A file that is gone with the oldest records looks like retention.
            if at == 0 && how == 0 {
                continue;
            }
            let lost: Vec<_> = damaged.damages.iter().map(|d| (d.first, d.end)).collect();
            if last {
                let [damage] = damaged.damages[..] else { panic!("{:?}", damaged.damages) };
                assert_eq!((damage.kind, damage.end), (DamageKind::EndLost, damage.first + AHEAD));
                assert_eq!((damage.place.segment, how == 2), (*id, damage.place.position > 0));
            } else {
                assert!(lost.len() == 1 && lost[0].1 == end, "{id:?} {how}: {lost:?}");
                assert!(how == 2 || lost[0].0 == first, "{id:?} {how}: {lost:?}");
            }
            damaged.check_readable(&sizes);
            let next = damaged.log.durable_end();
            assert_eq!(damaged.commit(3_000), next);
            let mut sizes = sizes.clone();
            sizes.insert(next, 3_000);
            Bench::open(damaged.crash()).check_readable(&sizes);
        }
    }
}

#[test]
fn lost_front_of_a_log_that_retention_has_cut_is_told() {
    let limits = LogConfig { retention_bytes: 2 * SEGMENT, ..retained() };
    let mut bench = Bench::with(TestDisk::default(), limits.clone());
    bench.settle();
    for _ in 0..60 {
        bench.commit(3_000);
    }
    let start = bench.log.log_start();
    let place = bench.place_of(start);
    bench.flip(place, 0);
    let mut bench = Bench::with(bench.crash(), limits);
    bench.settle();
    assert_eq!(bench.damages[0].kind, DamageKind::FrontLost);
    assert_eq!((bench.damages[0].place, bench.log.log_start()), (place, start + 1));
}

#[test]
fn damaged_padding_loses_nothing_and_is_told() {
    let (mut bench, sizes) = filled(8);
    let place = bench.place_of(2);
    bench.flip(place, 4095);
    let (mut bench, damage) = only_damage(bench);
    assert_eq!((damage.kind, damage.place, damage.records()), (DamageKind::Padding, place, 0));
    bench.check_readable(&sizes);
}

#[test]
fn torn_padding_is_mended_before_the_log_goes_on() {
    let mut bench = Bench::open(TestDisk::default());
    bench.commit(1_000);
    bench.append(1_000);
    bench.pump();
    let (segment, position, block) = bench.place_of_commit(0);
    let mut disk = bench.crash();
    let at = position as usize;
    let file = disk.file(ID, segment).unwrap();
    file[at..at + block.len()].copy_from_slice(&block);
    file[at + 4000] = 9;
    let bench = Bench::open(disk);
    assert_eq!((bench.replayed.len(), bench.damages.len()), (2, 0));
    let file = &bench.disk.logs[&ID][&segment];
    assert_eq!(file[at..at + block.len()], block[..]);
}

#[test]
fn bytes_that_rot_while_the_log_is_open_become_a_hole() {
    let (mut bench, sizes) = filled(20);
    let place = bench.place_of(3);
    bench.flip(place, 2_000);
    let Found::OnDisk(at) = bench.log.find(3) else { panic!("the cache is small") };
    bench.log.read(at, &mut bench.operations);
    bench.settle();
    // What is before it is given; a read that begins there finds out.
    assert_eq!(bench.read.last().map(Block::end_offset), Some(3));
    bench.log.read(ReadAt { place, offset: 3 }, &mut bench.operations);
    bench.settle();
    assert!(bench.log.is_open(), "{:?}", bench.failures);
    let [damage] = bench.damages[..] else { panic!("{:?}", bench.damages) };
    assert_eq!((damage.place, damage.first, damage.end), (place, 3, 4));
    assert!(matches!(bench.log.find(3), Found::Damaged { next: 4 }));
    bench.replayed = (0..20).filter(|offset| *offset != 3).collect();
    bench.check_readable(&sizes);
}

#[test]
fn a_read_that_differs_once_is_read_again() {
    let (mut bench, _) = filled(6);
    let Found::OnDisk(at) = bench.log.find(0) else { panic!("the cache is small") };
    bench.log.read(at, &mut bench.operations);
    bench.pump();
    let (_, request) = bench.pending[0].clone();
    let DiskDone::Read { bytes } = bench.disk.run(&request).unwrap() else { panic!() };
    let mut bad = bytes.to_vec();
    bad[at.place.position as usize % 4096 + 70] ^= 1;
    let bad = DiskDone::Read { bytes: bad.into() };
    bench.answer(0, Some(Ok(bad)));
    bench.settle();
    assert_eq!((bench.damages.len(), bench.read.first().map(Block::base_offset)), (0, Some(0)));
}

#[test]
fn a_recovery_read_that_differs_once_is_read_again() {
    // The last block looks like a torn one, the others like damage, the padding like either.
    for (offset, at) in [(2, 100), (5, 100), (5, 0), (3, 4_000), (5, 4_000)] {
        let (bench, sizes) = filled(6);
        let place = bench.place_of(offset);
        let mut bench = Bench::new(bench.crash());
        bench.pump();
        bench.answer(0, None);
        let (_, request) = bench.pending[0].clone();
        let DiskDone::Read { bytes } = bench.disk.run(&request).unwrap() else { panic!() };
        let mut bad = bytes.to_vec();
        bad[place.position as usize + at] ^= 1;
        bench.answer(0, Some(Ok(DiskDone::Read { bytes: bad.into() })));
        bench.settle();
        assert_eq!((bench.damages.len(), bench.log.durable_end()), (0, 6));
        bench.check_readable(&sizes);
    }
}

#[test]
fn resting_log_is_marked_once() {
    let (mut bench, _) = filled(2);
    let before = bench.writer_position();
    bench.rest();
    assert_eq!(bench.writer_position(), before + 4096);
    bench.rest();
    assert_eq!((bench.writer_position(), bench.log.poll_timeout()), (before + 4096, None));
    bench.commit(100);
    bench.log.stop();
    assert!(!bench.log.is_idle());
    bench.settle();
    assert!(bench.log.is_idle(), "a log that stops is marked at once");
    assert_eq!(bench.writer_position(), before + 3 * 4096);
}

#[test]
fn unflushed_log_flushes_a_segment_that_it_leaves() {
    let written = LogConfig { medium: Medium::Disk { sync: false }, ..config() };
    let mut bench = Bench::with(TestDisk::default(), written);
    bench.pump();
    let mut seen = Vec::new();
    for n in 0..40 {
        if n > 0 {
            bench.append(3_000);
            bench.pump();
        }
        while let Some((_, request)) = bench.pending.front().cloned() {
            if let DiskRequest::Commit { segment, position, flush, .. } = request {
                seen.push((segment, position, flush == Flush::Segment));
            }
            bench.answer(0, None);
        }
    }
    for (at, (segment, position, sync)) in seen.iter().enumerate() {
        assert!(!sync || seen[at - 1].0 == *segment && seen[at - 1].1 == *position);
        let leaves = seen.get(at + 1).is_some_and(|next| next.0 != *segment);
        assert!(!leaves || *sync, "segment {segment:?} is left without a flush");
    }
    assert!(seen.iter().filter(|(_, _, sync)| *sync).count() >= 4);
}

#[derive(Clone, Debug)]
enum Harm {
    Flip { at: u32, bits: u8 },
    Zero { at: u32, bytes: u16 },
    Garbage { at: u32, bytes: u16, with: u8 },
    Cut { at: u32 },
    Remove { file: u8 },
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        8 => (any::<u32>(), 1_u8..).prop_map(|(at, bits)| Harm::Flip { at, bits }),
        3 => (any::<u32>(), any::<u16>()).prop_map(|(at, bytes)| Harm::Zero { at, bytes }),
        3 => (any::<u32>(), any::<u16>(), any::<u8>())
            .prop_map(|(at, bytes, with)| Harm::Garbage { at, bytes, with }),
        1 => any::<u32>().prop_map(|at| Harm::Cut { at }),
        1 => any::<u8>().prop_map(|file| Harm::Remove { file }),
    ]
}

/// Does it, wherever it hits; gives what was hit.
fn inflict(disk: &mut TestDisk, harm: &Harm) -> Option<(SegmentId, u64, u64)> {
    let files = disk.logs.get_mut(&ID).unwrap();
    let total: usize = files.values().map(Vec::len).sum();
    if total == 0 {
        return None;
    }
    let find = |files: &BTreeMap<SegmentId, Vec<u8>>, at: u32| {
        let mut at = at as usize % total;
        for (id, file) in files {
            if at < file.len() {
                return (*id, at);
            }
            at -= file.len();
        }
        unreachable!("within the total")
    };
    let (at, bytes, with) = match *harm {
        Harm::Flip { at, .. } => (at, 1, 0),
        Harm::Zero { at, bytes } => (at, usize::from(bytes), 0),
        Harm::Garbage { at, bytes, with } => (at, usize::from(bytes), with),
        Harm::Cut { at } => {
            let (id, at) = find(files, at);
            let file = files.get_mut(&id).unwrap();
            let end = file.len() as u64;
            file.truncate(at);
            return Some((id, at as u64, end));
        }
        Harm::Remove { file } => {
            let id = *files.keys().nth(usize::from(file) % files.len()).unwrap();
            let end = files.remove(&id).unwrap().len() as u64;
            return Some((id, 0, end));
        }
    };
    let (id, at) = find(files, at);
    let file = files.get_mut(&id).unwrap();
    let end = (at + bytes).min(file.len());
    if let Harm::Flip { bits, .. } = harm {
        file[at] ^= bits;
    } else {
        file[at..end].fill(with);
    }
    Some((id, at as u64, end as u64))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever happens to the files: what is not touched is read as it was written, what is, is
    /// lost and known to be, no offset comes twice, and it stays so.
    #[test]
    fn only_what_is_hit_is_lost(
        sizes in proptest::collection::vec(1_usize..9_000, 1..60),
        reopened_at in any::<u8>(),
        harms in proptest::collection::vec(harm(), 1..4),
    ) {
        let mut bench = Bench::open(TestDisk::default());
        let mut known = BTreeMap::new();
        for (at, size) in sizes.iter().enumerate() {
            if at == usize::from(reopened_at) {
                bench = Bench::open(bench.crash());
            }
            known.insert(bench.commit(*size), *size);
        }
        bench.rest();
        let end = bench.log.durable_end();
        let places: BTreeMap<u64, (Place, u64)> = known
            .iter()
            .map(|(offset, size)| {
                let bytes = (64 + 4 + *size as u64).next_multiple_of(4096);
                (*offset, (bench.place_of(*offset), bytes))
            })
            .collect();
        let mut disk = bench.crash();
        let hits: Vec<_> = harms.iter().filter_map(|harm| inflict(&mut disk, harm)).collect();
        let is_hit = |offset: &u64| {
            let (place, bytes) = places[offset];
            hits.iter().any(|(id, from, to)| {
                *id == place.segment && *from < place.position + bytes && place.position < *to
            })
        };
        let removed_or_cut = harms
            .iter()
            .any(|harm| matches!(harm, Harm::Cut { .. } | Harm::Remove { .. }));

        let mut bench = Bench::open(disk);
        for offset in known.keys() {
            let there = bench.replayed.contains(offset);
            let behind_the_end = *offset >= bench.log.durable_end();
            prop_assert!(there || is_hit(offset) || behind_the_end, "{offset} is lost untouched");
        }
        // Nobody but the last blocks knows of the last blocks, but files that are gone are missed.
        let all_known = bench.log.durable_end() >= end;
        let last = places.values().map(|(place, _)| place.segment).max().unwrap();
        let overwritten = harms.iter().zip(&hits).any(|(harm, (id, _, _))| {
            *id >= last && !matches!(harm, Harm::Cut { .. } | Harm::Remove { .. })
        });
        prop_assert!(all_known || overwritten);
        if bench.log.log_start() == 0 {
            bench.check_readable(&known);
        } else {
            prop_assert!(removed_or_cut || bench.damages.iter().any(Damage::loses_records));
        }
        let start = bench.log.log_start();
        let damages = bench.damages.clone();

        let next = bench.log.durable_end();
        prop_assert_eq!(bench.commit(100), next);
        let mut bench = Bench::open(bench.crash());
        prop_assert_eq!(bench.log.durable_end(), next + 1);
        prop_assert_eq!(bench.log.log_start(), start);
        let offsets = |damages: &[Damage]| -> Vec<_> {
            damages.iter().filter(|d| d.is_hole()).map(|d| (d.first, d.end)).collect()
        };
        prop_assert_eq!(offsets(&bench.damages), offsets(&damages));
        known.retain(|offset, _| *offset < next);
        known.insert(next, 100);
        if start == 0 {
            bench.check_readable(&known);
        }
    }
}
