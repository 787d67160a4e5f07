//! The log on a disk that does what the test says.

mod adopted;
mod damage;
mod full_disk;
mod lost_end;
mod small_commits;

use std::collections::VecDeque;

use bytes::Bytes;
use lanecast_wire::{PartitionId, TopicId};
use proptest::prelude::*;

use super::*;
use crate::SegmentId;
use crate::limits::COMMITS_IN_FLIGHT_MAX;
use crate::testing::{TestDisk, broken};

const ID: LogId = LogId::Data(PartitionId { topic: TopicId(1), index: 0 });
const SEGMENT: u64 = 32 * 1024;

/// A log, its disk, and everything that it has said.
struct Bench {
    log: Log,
    operations: Operations,
    disk: TestDisk,
    now: Now,
    pending: VecDeque<(OperationId, DiskRequest)>,
    replayed: Vec<u64>,
    read: Vec<Block>,
    failures: Vec<LogFailure>,
    damages: Vec<Damage>,
}

fn config() -> LogConfig {
    LogConfig {
        id: ID,
        kind: BlockKind::Batches,
        medium: Medium::Disk { sync: true },
        segment_bytes: SEGMENT,
        adopted_bytes_min: 4096,
        cache_bytes: 8 * 1024,
        retention_bytes: 0,
        retention_ms: 0,
        seed: 42,
    }
}

/// Retention takes what it wants, without regard for producers.
fn retained() -> LogConfig {
    LogConfig { kind: BlockKind::Records, ..config() }
}

/// Segments of many blocks, so that several can be in flight.
fn large() -> LogConfig {
    LogConfig { segment_bytes: 4 * 1024 * 1024, ..config() }
}

/// More than fills a block, so that the next record goes to another.
const FULL: usize = 260 * 1024;

impl Bench {
    fn new(disk: TestDisk) -> Self {
        Bench::with(disk, config())
    }

    fn with(disk: TestDisk, config: LogConfig) -> Self {
        Bench {
            log: Log::new(config),
            operations: Operations::default(),
            disk,
            now: Now { mono_us: 1, wall_ms: 1_000 },
            pending: VecDeque::new(),
            replayed: Vec::new(),
            read: Vec::new(),
            failures: Vec::new(),
            damages: Vec::new(),
        }
    }

    /// A log that is open on this disk.
    fn open(disk: TestDisk) -> Self {
        let mut bench = Bench::new(disk);
        bench.settle();
        assert!(bench.log.is_open(), "{:?}", bench.failures);
        bench
    }

    /// Lets the log submit what it wants.
    fn pump(&mut self) {
        self.log.pump(self.now, &mut self.operations);
        while let Some(request) = self.operations.poll() {
            self.pending.push_back(request);
        }
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Restarted => {
                    self.replayed.clear();
                    self.damages.clear();
                }
                LogEvent::Replayed(block) => {
                    self.replayed.extend(block.base_offset()..block.end_offset());
                }
                LogEvent::Damaged(damage) => self.damages.push(damage),
                LogEvent::Read { blocks, .. } => self.read.extend(blocks),
                LogEvent::Failed(failure) => self.failures.push(failure),
                LogEvent::Opened | LogEvent::Durable | LogEvent::Rolled => {}
            }
        }
    }

    fn answer(&mut self, at: usize, outcome: Option<Result<DiskDone, DiskError>>) {
        let (operation, request) = self.pending.remove(at).unwrap();
        let mut outcome = outcome.unwrap_or_else(|| self.disk.run(&request));
        assert_eq!(self.operations.complete(operation, &mut outcome), Some(ID));
        self.log.complete(self.now, operation, outcome, &mut self.operations);
        self.pump();
    }

    fn settle(&mut self) {
        self.pump();
        while !self.pending.is_empty() {
            self.answer(0, None);
        }
    }

    fn append(&mut self, bytes: usize) -> u64 {
        self.append_with(bytes, false)
    }

    fn append_with(&mut self, bytes: usize, patient: bool) -> u64 {
        let record = vec![self.log.next_offset() as u8; bytes];
        let prefix = records::prefix(&record);
        let (parts, max_time_ms) = ([&prefix[..], &record], self.now.wall_ms);
        let entry = Entry { parts, count: 1, max_time_ms, patient };
        self.log.append(self.now, entry).unwrap()
    }

    /// One record, one block, durable.
    fn commit(&mut self, bytes: usize) -> u64 {
        let offset = self.append(bytes);
        self.settle();
        assert_eq!(self.log.durable_end(), offset + 1);
        offset
    }

    fn commits(&self) -> Vec<usize> {
        let commit = |(at, (_, request)): (usize, &(OperationId, DiskRequest))| {
            matches!(request, DiskRequest::Commit { .. }).then_some(at)
        };
        self.pending.iter().enumerate().filter_map(commit).collect()
    }

    fn place_of_commit(&self, at: usize) -> (SegmentId, u64, Bytes) {
        match &self.pending[at].1 {
            DiskRequest::Commit { segment, position, block, .. } => {
                (*segment, *position, block.to_bytes())
            }
            DiskRequest::OpenLog { .. }
            | DiskRequest::PrepareSegment { .. }
            | DiskRequest::Read { .. }
            | DiskRequest::DeleteSegment { .. }
            | DiskRequest::WriteWitness { .. }
            | DiskRequest::RemoveLog { .. } => panic!("no commit"),
        }
    }

    /// Reads the offset from disk or memory and gives its record's bytes.
    fn fetch(&mut self, offset: u64) -> Bytes {
        match self.log.find(offset) {
            Found::Cached(block) => record_of(&block, offset),
            Found::OnDisk(place) => {
                self.read.clear();
                self.log.read(place, &mut self.operations);
                self.settle();
                let hit =
                    |block: &&Block| (block.base_offset()..block.end_offset()).contains(&offset);
                record_of(self.read.iter().find(hit).expect("near its index entry"), offset)
            }
            found @ (Found::Damaged { .. } | Found::Gone { .. } | Found::NotYet) => {
                panic!("{offset}: {found:?}")
            }
        }
    }

    /// Where the next block would go.
    fn writer_position(&self) -> u64 {
        let active = self.log.segments.active().unwrap();
        active.used
    }

    fn crash(self) -> TestDisk {
        self.disk
    }
}

fn record_of(block: &Block, offset: u64) -> Bytes {
    records::iter(&block.payload).nth((offset - block.base_offset()) as usize).unwrap()
}

fn reason(bench: &Bench) -> StopReason {
    bench.log.report().unwrap().reason
}

#[test]
fn what_was_durable_is_there_after_a_restart() {
    let mut bench = Bench::open(TestDisk::default());
    for n in 0..200 {
        assert_eq!(bench.commit(1_000), n);
    }
    assert!(bench.log.segment_count() > 10);
    let mut bench = Bench::open(bench.crash());
    assert_eq!(bench.replayed, (0..200).collect::<Vec<_>>());
    assert_eq!(bench.log.durable_end(), 200);
    for offset in (0..200).rev() {
        assert_eq!(bench.fetch(offset), vec![offset as u8; 1_000]);
    }
    assert_eq!(bench.commit(1_000), 200);
}

#[test]
fn only_the_contiguous_prefix_of_commits_is_durable() {
    let mut bench = Bench::with(TestDisk::default(), large());
    bench.settle();
    for _ in 0..COMMITS_IN_FLIGHT_MAX + 2 {
        // Full blocks start although the first one is still under way.
        bench.append(FULL);
        bench.pump();
    }
    assert_eq!(bench.commits().len(), COMMITS_IN_FLIGHT_MAX);
    let before = bench.log.durable_end();
    while bench.commits().len() > 1 {
        let last = *bench.commits().last().unwrap();
        let placed = bench.place_of_commit(last);
        bench.answer(last, None);
        assert_eq!(bench.log.durable_end(), before, "{placed:?} is behind a hole");
    }
    bench.settle();
    assert_eq!(bench.log.durable_end(), COMMITS_IN_FLIGHT_MAX as u64 + 2);
}

#[test]
fn torn_block_ends_the_log_and_is_written_over() {
    let mut bench = Bench::open(TestDisk::default());
    bench.commit(1_000);
    bench.append(6_000);
    bench.pump();
    let (segment, position, block) = bench.place_of_commit(0);
    let mut disk = bench.crash();
    let at = position as usize;
    disk.file(ID, segment).unwrap()[at..at + 4096].copy_from_slice(&block[..4096]);
    let mut bench = Bench::open(disk);
    assert_eq!(reason(&bench), StopReason::Torn);
    let stopped = bench.log.report().unwrap().stopped_at.unwrap();
    assert_eq!((stopped.segment, stopped.position), (segment, position));
    assert_eq!(bench.replayed, [0]);
    bench.commit(1_000);
    assert_eq!(Bench::open(bench.crash()).replayed, [0, 1]);
}

#[test]
fn stale_block_behind_a_torn_one_never_comes_back() {
    let mut bench = Bench::with(TestDisk::default(), large());
    bench.settle();
    bench.commit(100);
    for _ in 0..2 {
        bench.append(FULL);
        bench.pump();
    }
    // The second of two blocks in flight reaches the disk, the first does not.
    assert_eq!(bench.commits().len(), 2);
    let (segment, position, block) = bench.place_of_commit(1);
    let mut disk = bench.crash();
    let at = position as usize;
    disk.file(ID, segment).unwrap()[at..at + block.len()].copy_from_slice(&block);
    let mut bench = Bench::with(disk, large());
    bench.now.wall_ms += 1;
    bench.settle();
    assert_eq!(bench.replayed, [0]);
    // The same records again lead right up to the stale block: the mark took 4 KiB more.
    let gap = position - bench.writer_position();
    bench.commit(gap as usize - 100);
    assert_eq!(bench.writer_position(), position);
    let mut bench = Bench::with(bench.crash(), large());
    bench.settle();
    assert_eq!(reason(&bench), StopReason::Stale);
    assert_eq!(bench.replayed, [0, 1]);
}

#[test]
fn full_segment_is_flushed_before_a_reopened_log_goes_on_in_the_next() {
    let mut bench = Bench::open(TestDisk::default());
    // The mark and seven blocks fill the segment; the next block would begin another.
    let mut last = None;
    for _ in 1..SEGMENT / 4096 {
        bench.append(100);
        bench.pump();
        last = Some(bench.place_of_commit(bench.commits()[0]));
        bench.settle();
    }
    let (segment, position, block) = last.unwrap();
    assert_eq!(position + 4096, SEGMENT, "the segment is full");

    let mut bench = Bench::new(bench.disk);
    bench.pump();
    while bench.commits().is_empty() {
        bench.answer(0, None);
    }
    assert_eq!(bench.commits().len(), 1);
    let first = bench.place_of_commit(bench.commits()[0]);
    assert_eq!(first, (segment, position, block), "the last block, as it was");
    while !bench.log.is_open() {
        let commits: Vec<_> =
            bench.commits().iter().map(|at| bench.place_of_commit(*at).0).collect();
        assert!(commits.iter().all(|commit| *commit == segment) || commits.len() == 1);
        bench.answer(0, None);
    }
    assert_eq!(bench.replayed, (0..SEGMENT / 4096 - 1).collect::<Vec<_>>());
}

#[test]
fn recycled_segments_do_not_show_their_old_blocks() {
    let limits = LogConfig { retention_bytes: 2 * SEGMENT, ..retained() };
    let mut bench = Bench::with(TestDisk::default(), limits.clone());
    bench.settle();
    for _ in 0..100 {
        bench.commit(3_000);
    }
    assert!(bench.log.segment_count() <= 3);
    assert!(bench.log.log_start() > 60);
    let files = bench.disk.logs[&ID].len();
    assert!(files <= 5, "{files} files: segments are recycled or deleted");
    let (start, end) = (bench.log.log_start(), bench.log.durable_end());
    let mut bench = Bench::with(bench.crash(), limits);
    bench.settle();
    assert_eq!(bench.replayed, (start..end).collect::<Vec<_>>());
    assert!(matches!(bench.log.find(0), Found::Gone { log_start } if log_start == start));
}

#[test]
fn a_log_at_its_retention_goes_round_in_the_segments_that_it_has() {
    for retained in 2..6 {
        let limits = LogConfig { retention_bytes: retained * SEGMENT, ..config() };
        let mut bench = Bench::with(TestDisk::default(), limits);
        let (mut made, mut deleted) = (Vec::new(), 0);
        for round in 0..100 {
            if bench.log.wants_producers() {
                bench.log.append_aside(BlockKind::Producers, &[]);
            }
            if bench.log.is_open() {
                bench.append(3_000);
            }
            bench.pump();
            while let Some((_, request)) = bench.pending.front() {
                match request {
                    DiskRequest::PrepareSegment { recycle: None, .. } => made.push(round),
                    DiskRequest::DeleteSegment { .. } => deleted += 1,
                    DiskRequest::PrepareSegment { recycle: Some(_), .. }
                    | DiskRequest::OpenLog { .. }
                    | DiskRequest::Commit { .. }
                    | DiskRequest::Read { .. }
                    | DiskRequest::WriteWitness { .. }
                    | DiskRequest::RemoveLog { .. } => {}
                }
                bench.answer(0, None);
            }
        }
        assert!(bench.log.log_start() > 30, "retention has taken many segments");
        let last = made.last().copied().unwrap_or(0);
        assert!(made.len() as u64 <= retained + 2 && last < 60, "{retained}: {made:?}");
        assert!(deleted <= 1, "{retained}: {deleted} segments deleted, others made");
    }
}

#[test]
fn retention_by_time_takes_whole_old_segments() {
    let mut bench =
        Bench::with(TestDisk::default(), LogConfig { retention_ms: 10_000, ..retained() });
    bench.settle();
    for _ in 0..30 {
        bench.commit(3_000);
    }
    assert_eq!(bench.log.log_start(), 0);
    bench.now.wall_ms += 20_000;
    bench.now.mono_us += 20_000_000;
    bench.settle();
    assert_eq!(bench.log.segment_count(), 1, "the one that is written to stays");
    assert!(bench.log.log_start() > 0 && bench.log.durable_end() == 30);
}

#[test]
fn clock_that_leaps_ahead_expires_nothing_at_once() {
    const YEAR_MS: i64 = 365 * 24 * 3_600_000;
    let limits = LogConfig { retention_ms: 10_000, ..retained() };
    let memory = LogConfig { medium: Medium::Memory, ..limits.clone() };
    for limits in [limits, memory] {
        let mut bench = Bench::with(TestDisk::default(), limits);
        bench.settle();
        for _ in 0..30 {
            bench.append(1_000);
            bench.settle();
        }
        let start = bench.log.log_start();
        bench.now = Now { mono_us: bench.now.mono_us + 1_000_000, wall_ms: YEAR_MS };
        bench.settle();
        assert_eq!(bench.log.log_start(), start, "one second has passed");
        bench.now.mono_us += 10_000_000;
        bench.settle();
        assert!(bench.log.log_start() > start, "ten more have");
    }
}

#[test]
fn segments_stamped_in_the_future_go_with_those_behind_them() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let limits = LogConfig { retention_ms: 10_000, ..retained() };
    let mut bench = Bench::with(TestDisk::default(), limits.clone());
    bench.now.wall_ms = DAY_MS;
    bench.settle();
    while bench.log.segment_count() < 4 {
        bench.commit(3_000);
    }
    bench.now.wall_ms = 1_000;
    while bench.log.segment_count() < 6 {
        bench.commit(3_000);
    }
    bench.now = Now { mono_us: 6_000_000, wall_ms: 7_000 };
    while bench.log.segment_count() < 8 {
        bench.commit(3_000);
    }
    assert_eq!(bench.log.log_start(), 0);
    bench.now = Now { mono_us: 13_000_000, wall_ms: 14_000 };
    bench.settle();
    assert!((2..=3).contains(&bench.log.segment_count()), "those of the last seven seconds stay");
    assert_eq!(bench.log.log_start(), bench.log.segments.oldest().unwrap().base_offset);
}

#[test]
fn failed_commit_closes_the_log_until_it_was_read_again() {
    let mut bench = Bench::open(TestDisk::default());
    bench.commit(100);
    bench.append(100);
    bench.pump();
    // It is on the medium, but the flush failed: that counts for nothing.
    let (_, request) = bench.pending[0].clone();
    bench.disk.run(&request).unwrap();
    bench.answer(0, Some(Err(broken(DiskErrorKind::Io))));
    assert_eq!(bench.failures.len(), 1);
    assert!(!bench.log.is_open());
    bench.settle();
    assert!(!bench.log.is_open(), "there is a pause");
    bench.now.mono_us = bench.log.poll_timeout().unwrap();
    bench.settle();
    assert!(bench.log.is_open());
    assert_eq!(reason(&bench), StopReason::Acknowledged);
    assert_eq!(bench.replayed, [0], "only what was acknowledged");
    bench.commit(100);
    assert_eq!(Bench::open(bench.crash()).replayed, [0, 1]);
}

#[test]
fn log_waits_for_everything_in_flight_before_it_reads_itself_again() {
    let mut bench = Bench::with(TestDisk::default(), large());
    bench.settle();
    for _ in 0..3 {
        bench.append(FULL);
        bench.pump();
    }
    let commits = bench.commits().len();
    assert!(commits >= 2);
    bench.answer(0, Some(Err(broken(DiskErrorKind::Io))));
    bench.now.mono_us += 60_000_000;
    bench.pump();
    assert_eq!(bench.commits().len(), commits - 1, "no reads beside writes");
    bench.settle();
    bench.now.mono_us += 60_000_000;
    bench.settle();
    assert!(bench.log.is_open());
    assert_eq!(bench.log.durable_end(), 0);
    assert_eq!(bench.commit(100), 0);
}

#[test]
fn log_in_memory_is_durable_at_once_and_keeps_to_its_limit() {
    let memory = LogConfig { medium: Medium::Memory, cache_bytes: 64 * 1024, ..config() };
    let mut bench = Bench::with(TestDisk::default(), memory);
    for n in 0..100 {
        assert_eq!(bench.append(3_000), n);
        bench.pump();
        assert_eq!(bench.log.durable_end(), n + 1);
    }
    assert!(bench.pending.is_empty());
    assert_eq!(bench.log.bytes(), 64 * 1024);
    assert_eq!(bench.log.log_start(), 84);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever the last, unacknowledged part of the disk looks like, what was acknowledged is
    /// read back, and the log goes on behind it.
    #[test]
    fn acknowledged_records_survive_any_torn_tail(
        sizes in proptest::collection::vec(1_usize..9_000, 1..40),
        in_flight in proptest::collection::vec(1_usize..9_000, 0..8),
        survives in proptest::collection::vec(any::<bool>(), 64),
        garbage in any::<u8>(),
    ) {
        let mut bench = Bench::open(TestDisk::default());
        for size in &sizes {
            bench.commit(*size);
        }
        for size in &in_flight {
            bench.append(*size);
            bench.pump();
        }
        let writes: Vec<_> = bench.commits().iter().map(|at| bench.place_of_commit(*at)).collect();
        let mut disk = bench.crash();
        // Each sector of what was in flight is old, new, or garbage.
        let mut fate = survives.iter().cycle();
        for (segment, position, block) in writes {
            let file = disk.file(ID, segment).unwrap();
            for (sector, bytes) in block.chunks(512).enumerate() {
                let at = position as usize + sector * 512;
                if *fate.next().unwrap() {
                    file[at..at + 512].copy_from_slice(bytes);
                } else if *fate.next().unwrap() {
                    file[at..at + 512].fill(garbage);
                }
            }
        }
        let mut bench = Bench::open(disk);
        let end = bench.log.durable_end();
        prop_assert!(end >= sizes.len() as u64);
        prop_assert_eq!(&bench.replayed, &(0..end).collect::<Vec<_>>());
        for (offset, size) in sizes.iter().enumerate() {
            prop_assert_eq!(bench.fetch(offset as u64), vec![offset as u8; *size]);
        }
        bench.commit(100);
        prop_assert_eq!(Bench::open(bench.crash()).log.durable_end(), end + 1);
    }

    /// Any bytes at all in the segments: no panic, no loop, a reason.
    #[test]
    fn no_bytes_make_recovery_panic(
        sizes in proptest::collection::vec(1_usize..9_000, 1..20),
        flips in proptest::collection::vec((any::<u32>(), any::<u8>()), 0..200),
    ) {
        let mut bench = Bench::open(TestDisk::default());
        for size in &sizes {
            bench.commit(*size);
        }
        let mut disk = bench.crash();
        let files = disk.logs.get_mut(&ID).unwrap();
        let total = files.len() * SEGMENT as usize;
        for (at, byte) in flips {
            let at = at as usize % total;
            let file = files.values_mut().nth(at / SEGMENT as usize).unwrap();
            file[at % SEGMENT as usize] = byte;
        }
        let mut bench = Bench::new(disk);
        bench.settle();
        prop_assert_eq!(bench.log.is_open(), bench.failures.is_empty());
    }
}

#[test]
fn log_that_fails_while_it_is_stopped_is_not_read_again() {
    let mut bench = Bench::open(TestDisk::default());
    bench.append(100);
    bench.pump();
    bench.log.stop();
    let (operation, _) = bench.pending.pop_front().expect("a commit");
    bench.log.complete(bench.now, operation, Err(broken(DiskErrorKind::Io)), &mut bench.operations);
    bench.now.mono_us += 60_000_000;
    bench.pump();
    assert!(bench.pending.is_empty() && bench.log.is_idle());
    assert_eq!(bench.log.poll_timeout(), None);
}
