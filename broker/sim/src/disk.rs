//! A disk that keeps only what it promised.
//!
//! A write becomes visible when its step comes, in any order with others. It is on the medium for
//! sure once a flush that covers it, and began after it, has ended. What a crash finds unfinished it keeps,
//! loses or tears, 4 KiB block by block and 512-byte sector by sector, as chance will have it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use lanecast_core::{
    DiskDone, DiskError, DiskErrorKind, DiskRequest, Flush, LogId, SegmentFile, SegmentId, Witness,
};

use lanecast_wire::TopicId;

use crate::rng::Rng;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
/// Blocks at the end of a log that do not rot: more than there can be commits in flight.
const ROT_BEHIND: usize = 12;
/// Segments that one log may have before the simulation takes it for a leak.
const SEGMENTS_MAX: usize = 4096;

/// What dies in a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The broker: what it wrote stays.
    Process,
    /// The machine: what was not flushed is at the mercy of chance.
    Power,
}

/// How often requests fail: once in so many; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskFaults {
    pub(crate) write_one_in: u64,
    pub(crate) sync_one_in: u64,
    pub(crate) read_one_in: u64,
    pub(crate) no_space_one_in: u64,
    /// A block comes back with a wrong bit; the medium holds the right one.
    pub(crate) flip_one_in: u64,
    /// There is no room at all.
    pub(crate) full: bool,
}

/// A request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub u64);

/// What came of a step.
#[derive(Debug)]
pub(crate) enum Step {
    /// There is another step to come.
    Again,
    Done(Result<DiskDone, DiskError>),
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    logs: BTreeMap<LogId, BTreeMap<SegmentId, Segment>>,
    witnesses: BTreeMap<LogId, Witness>,
    under_way: BTreeMap<Ticket, UnderWay>,
    tickets: u64,
    pub(crate) faults_injected: u64,
    pub(crate) blocks_torn: u64,
    /// Commits that were done before an older one of the same segment.
    pub(crate) overtakings: u64,
    pub(crate) recycled: u64,
    pub(crate) flipped_reads: u64,
    /// Blocks with a bit that is wrong for good.
    pub(crate) rotten: u64,
    /// Logs that have committed since the broker has read them: it knows what is in them.
    opened: BTreeSet<LogId>,
    /// Logs whose last read came back wrong.
    just_flipped: BTreeSet<LogId>,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    /// What a read sees; a missing block is zeros.
    blocks: BTreeMap<u64, Bytes>,
    /// Blocks whose newest content is not flushed, and what the medium holds instead.
    unflushed: BTreeMap<u64, Option<Bytes>>,
}

#[derive(Debug)]
enum UnderWay {
    Requested(DiskRequest),
    /// The write is done; these blocks will be flushed.
    Flushing {
        log: LogId,
        segment: SegmentId,
        blocks: Vec<(u64, Bytes)>,
    },
}

fn error(kind: DiskErrorKind, detail: &str) -> Step {
    Step::Done(Err(DiskError { kind, detail: format!("simulated: {detail}") }))
}

impl Disk {
    pub(crate) fn begin(&mut self, request: DiskRequest) -> Ticket {
        self.tickets += 1;
        self.under_way.insert(Ticket(self.tickets), UnderWay::Requested(request));
        Ticket(self.tickets)
    }

    pub(crate) fn step(&mut self, ticket: Ticket, faults: DiskFaults, rng: &mut Rng) -> Step {
        match self.under_way.remove(&ticket) {
            Some(UnderWay::Requested(request)) => self.perform(ticket, request, faults, rng),
            Some(UnderWay::Flushing { log, segment, blocks }) => {
                if rng.one_in(faults.sync_one_in) {
                    self.faults_injected += 1;
                    return error(DiskErrorKind::Io, "flush failed");
                }
                self.flush(log, segment, blocks);
                self.opened.insert(log);
                self.overtakings += u64::from(self.overtakes(ticket, log, segment));
                Step::Done(Ok(DiskDone::Committed))
            }
            None => unreachable!("steps are taken once"),
        }
    }

    fn overtakes(&self, ticket: Ticket, log: LogId, segment: SegmentId) -> bool {
        self.under_way.range(..ticket).any(|(_, older)| match older {
            UnderWay::Requested(DiskRequest::Commit { log: l, segment: s, .. })
            | UnderWay::Flushing { log: l, segment: s, .. } => (*l, *s) == (log, segment),
            UnderWay::Requested(
                DiskRequest::OpenLog { .. }
                | DiskRequest::PrepareSegment { .. }
                | DiskRequest::Read { .. }
                | DiskRequest::DeleteSegment { .. }
                | DiskRequest::WriteWitness { .. }
                | DiskRequest::RemoveLog { .. },
            ) => false,
        })
    }

    fn perform(
        &mut self,
        ticket: Ticket,
        request: DiskRequest,
        faults: DiskFaults,
        rng: &mut Rng,
    ) -> Step {
        match request {
            DiskRequest::OpenLog { log } => {
                if rng.one_in(faults.read_one_in) {
                    self.faults_injected += 1;
                    return error(DiskErrorKind::Io, "open failed");
                }
                self.opened.remove(&log);
                let segments = self.logs.entry(log).or_default().iter();
                let segments = segments
                    .map(|(id, segment)| SegmentFile { segment: *id, bytes: segment.bytes })
                    .collect();
                let witness = self.witnesses.get(&log).copied();
                Step::Done(Ok(DiskDone::Opened { segments, witness }))
            }
            DiskRequest::PrepareSegment { log, segment, bytes, recycle } => {
                if faults.full || rng.one_in(faults.no_space_one_in) {
                    self.faults_injected += 1;
                    return error(DiskErrorKind::NoSpace, "no space left");
                }
                self.prepare(log, segment, bytes, recycle);
                Step::Done(Ok(DiskDone::Prepared))
            }
            DiskRequest::Commit { log, segment, position, block, flush } => {
                let block = block.to_bytes();
                if rng.one_in(faults.write_one_in) {
                    self.faults_injected += 1;
                    self.write_in_part(log, segment, position, &block, rng);
                    return error(DiskErrorKind::Io, "write failed");
                }
                if !self.write(log, segment, position, &block) {
                    return error(DiskErrorKind::Io, "no such segment");
                }
                let first = position / BLOCK as u64;
                let range = match flush {
                    Flush::Nothing => return Step::Done(Ok(DiskDone::Committed)),
                    Flush::Block => first..first + (block.len() / BLOCK) as u64,
                    Flush::Segment => 0..u64::MAX,
                };
                let file = self.segment(log, segment).expect("it was just written");
                let unflushed = file.unflushed.range(range).map(|(at, _)| *at);
                let blocks = unflushed.map(|at| (at, file.block(at))).collect();
                self.under_way.insert(ticket, UnderWay::Flushing { log, segment, blocks });
                Step::Again
            }
            DiskRequest::Read { log, segment, position, bytes } => {
                if rng.one_in(faults.read_one_in) {
                    self.faults_injected += 1;
                    return error(DiskErrorKind::Io, "read failed");
                }
                // Only where the broker can tell: while a log is read, this would be damage.
                // Never twice in a row: what reads back wrong again and again is damaged.
                let flip = self.opened.contains(&log)
                    && rng.one_in(faults.flip_one_in)
                    && !self.just_flipped.remove(&log);
                let Some(file) = self.segment(log, segment) else {
                    return error(DiskErrorKind::Io, "no such segment");
                };
                let mut bytes = file.read(position, bytes);
                if flip && !bytes.is_empty() {
                    let mut flipped = bytes.to_vec();
                    let at = rng.below(flipped.len() as u64) as usize;
                    flipped[at] ^= 1 << rng.below(8);
                    bytes = Bytes::from(flipped);
                    self.flipped_reads += 1;
                    self.just_flipped.insert(log);
                }
                Step::Done(Ok(DiskDone::Read { bytes }))
            }
            DiskRequest::DeleteSegment { log, segment } => {
                self.logs.entry(log).or_default().remove(&segment);
                Step::Done(Ok(DiskDone::Deleted))
            }
            DiskRequest::WriteWitness { log, witness } => {
                if rng.one_in(faults.write_one_in) {
                    self.faults_injected += 1;
                    return error(DiskErrorKind::Io, "writing a witness failed");
                }
                self.witnesses.insert(log, witness);
                Step::Done(Ok(DiskDone::Witnessed))
            }
            DiskRequest::RemoveLog { log } => {
                let under_way = |other: &UnderWay| match other {
                    UnderWay::Requested(request) => request.log() == log,
                    UnderWay::Flushing { log: other, .. } => *other == log,
                };
                assert!(!self.under_way.values().any(under_way), "{log:?} is removed while in use");
                if rng.one_in(faults.write_one_in) {
                    self.faults_injected += 1;
                    return error(DiskErrorKind::Io, "removal failed");
                }
                self.logs.remove(&log);
                self.witnesses.remove(&log);
                Step::Done(Ok(DiskDone::Deleted))
            }
        }
    }

    /// The broker or the machine dies. Nobody hears of what was under way.
    pub(crate) fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        self.opened.clear();
        for (_, under_way) in std::mem::take(&mut self.under_way) {
            match under_way {
                UnderWay::Requested(DiskRequest::Commit {
                    log, segment, position, block, ..
                }) => {
                    self.write_in_part(log, segment, position, &block.to_bytes(), rng);
                }
                UnderWay::Requested(DiskRequest::PrepareSegment {
                    log,
                    segment,
                    bytes,
                    recycle,
                }) => {
                    if rng.one_in(2) {
                        self.prepare(log, segment, bytes, recycle);
                    }
                }
                UnderWay::Requested(DiskRequest::DeleteSegment { log, segment }) => {
                    if rng.one_in(2) {
                        self.logs.entry(log).or_default().remove(&segment);
                    }
                }
                UnderWay::Requested(DiskRequest::WriteWitness { log, witness }) => {
                    if rng.one_in(2) {
                        self.witnesses.insert(log, witness);
                    }
                }
                UnderWay::Requested(DiskRequest::RemoveLog { log }) => {
                    // Any part of it happens.
                    if let Some(segments) = self.logs.get_mut(&log) {
                        segments.retain(|_, _| rng.one_in(2));
                    }
                }
                UnderWay::Flushing { log, segment, blocks } => {
                    if rng.one_in(2) {
                        self.flush(log, segment, blocks);
                    }
                }
                UnderWay::Requested(DiskRequest::OpenLog { .. } | DiskRequest::Read { .. }) => {}
            }
        }
        if crash == Crash::Power {
            for segment in self.logs.values_mut().flat_map(BTreeMap::values_mut) {
                self.blocks_torn += segment.lose_power(rng);
            }
        }
    }

    /// Flips a bit of an old, flushed block of the topic's records, for good. Gives its partition
    /// and offsets.
    pub(crate) fn rot(&mut self, topic: TopicId, rng: &mut Rng) -> Option<(u32, Range<u64>)> {
        let data = self.logs.keys().filter_map(|log| match log {
            LogId::Data(partition) if partition.topic == topic => Some((*log, partition.index)),
            LogId::Data(_) | LogId::Groups(_) | LogId::Catalog => None,
        });
        let data: Vec<_> = data.collect();
        let (log, partition) = *data.get(rng.below(data.len() as u64) as usize)?;
        let segments = self.logs.get_mut(&log)?;
        let mut heads: Vec<_> =
            segments.iter().flat_map(|(id, segment)| segment.heads(*id)).collect();
        // What lies near the end may be a torn write, for all that anybody knows.
        heads.truncate(heads.len().saturating_sub(ROT_BEHIND));
        heads.retain(|head| head.records.end > head.records.start);
        let head = heads.get(rng.below(heads.len() as u64) as usize)?;
        let segment = segments.get_mut(&head.segment)?;
        let byte = head.position + rng.below(head.bytes);
        let at = byte / BLOCK as u64;
        if segment.unflushed.contains_key(&at) {
            return None;
        }
        let mut block = segment.block(at).to_vec();
        block[byte as usize % BLOCK] ^= 1 << rng.below(8);
        segment.blocks.insert(at, Bytes::from(block));
        self.rotten += 1;
        Some((partition, head.records.clone()))
    }

    fn prepare(&mut self, log: LogId, segment: SegmentId, bytes: u64, recycle: Option<SegmentId>) {
        assert!(bytes > 0 && bytes.is_multiple_of(BLOCK as u64), "segment of {bytes} bytes");
        let segments = self.logs.entry(log).or_default();
        let mut file = match recycle {
            Some(old) => {
                self.recycled += 1;
                segments.remove(&old).expect("only existing segments are recycled")
            }
            None => Segment::default(),
        };
        file.bytes = bytes;
        let replaced = segments.insert(segment, file);
        assert!(replaced.is_none(), "segment {segment:?} of {log:?} is prepared twice");
        assert!(segments.len() <= SEGMENTS_MAX, "segments of {log:?} leak");
    }

    fn segment(&mut self, log: LogId, segment: SegmentId) -> Option<&mut Segment> {
        self.logs.get_mut(&log)?.get_mut(&segment)
    }

    fn write(&mut self, log: LogId, segment: SegmentId, position: u64, bytes: &Bytes) -> bool {
        let Some(file) = self.segment(log, segment) else { return false };
        file.check_range(position, bytes.len());
        for (n, from) in (0..bytes.len()).step_by(BLOCK).enumerate() {
            file.put(position / BLOCK as u64 + n as u64, bytes.slice(from..from + BLOCK));
        }
        true
    }

    /// Any part of the write happens.
    fn write_in_part(
        &mut self,
        log: LogId,
        segment: SegmentId,
        position: u64,
        bytes: &Bytes,
        rng: &mut Rng,
    ) {
        let Some(file) = self.segment(log, segment) else { return };
        file.check_range(position, bytes.len());
        let mut torn_blocks = 0;
        // Mostly all of it or a prefix; sometimes any blocks.
        let prefix = rng.between(0, (bytes.len() / BLOCK) as u64) as usize;
        let scattered = rng.one_in(4);
        for (n, from) in (0..bytes.len()).step_by(BLOCK).enumerate() {
            let at = position / BLOCK as u64 + n as u64;
            let new = bytes.slice(from..from + BLOCK);
            let kept = if scattered { rng.one_in(2) } else { n < prefix };
            if kept {
                file.put(at, new);
            } else if (scattered || n == prefix) && rng.one_in(2) {
                let torn = torn(Some(&new), file.blocks.get(&at), rng);
                file.put(at, torn);
                torn_blocks += 1;
            }
        }
        self.blocks_torn += torn_blocks;
    }

    fn flush(&mut self, log: LogId, segment: SegmentId, blocks: Vec<(u64, Bytes)>) {
        let Some(file) = self.segment(log, segment) else { return };
        for (at, flushed) in blocks {
            let newest = file.block(at);
            let same = newest.as_ptr() == flushed.as_ptr() || newest == flushed;
            if same {
                file.unflushed.remove(&at);
            } else if let Some(medium) = file.unflushed.get_mut(&at) {
                *medium = Some(flushed);
            }
        }
    }
}

/// A block as its header describes it; the layout is drawn in the broker's core.
struct Head {
    segment: SegmentId,
    position: u64,
    /// Header and payload.
    bytes: u64,
    records: Range<u64>,
}

impl Segment {
    /// The blocks from the front of the segment on, as long as they follow each other.
    fn heads(&self, segment: SegmentId) -> Vec<Head> {
        let (mut heads, mut position, mut next) = (Vec::new(), 0, None);
        while let Some(block) = self.blocks.get(&(position / BLOCK as u64))
            && block.starts_with(b"LNCK")
        {
            let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|n| block[at + n]));
            let base = u64::from(word(16)) | u64::from(word(20)) << 32;
            if next.is_some_and(|next| next != base) {
                break;
            }
            let (bytes, end) = (64 + u64::from(word(8)), base + u64::from(word(24)));
            heads.push(Head { segment, position, bytes, records: base..end });
            next = Some(end);
            position += bytes.next_multiple_of(BLOCK as u64);
        }
        heads
    }

    fn check_range(&self, position: u64, bytes: usize) {
        let aligned = position.is_multiple_of(BLOCK as u64) && bytes.is_multiple_of(BLOCK);
        assert!(aligned && bytes > 0, "write of {bytes} bytes at {position}");
        let end = position + bytes as u64;
        assert!(end <= self.bytes, "write up to {end} in a segment of {} bytes", self.bytes);
    }

    fn block(&self, at: u64) -> Bytes {
        static ZEROS: [u8; BLOCK] = [0; BLOCK];
        self.blocks.get(&at).cloned().unwrap_or_else(|| Bytes::from_static(&ZEROS))
    }

    fn put(&mut self, at: u64, new: Bytes) {
        let old = self.blocks.insert(at, new);
        self.unflushed.entry(at).or_insert(old);
    }

    fn read(&self, position: u64, bytes: u32) -> Bytes {
        let end = (position + u64::from(bytes)).min(self.bytes);
        let Some(length) = end.checked_sub(position) else { return Bytes::new() };
        let mut out = vec![0; length as usize];
        for (at, block) in self.blocks.range(position / BLOCK as u64..) {
            let start = at * BLOCK as u64;
            if start >= end {
                break;
            }
            let from = start.max(position);
            let upto = (start + BLOCK as u64).min(end);
            out[(from - position) as usize..(upto - position) as usize]
                .copy_from_slice(&block[(from - start) as usize..(upto - start) as usize]);
        }
        Bytes::from(out)
    }

    fn lose_power(&mut self, rng: &mut Rng) -> u64 {
        let mut torn_blocks = 0;
        for (at, medium) in std::mem::take(&mut self.unflushed) {
            let left = match rng.below(4) {
                0 => continue,
                1 => {
                    torn_blocks += 1;
                    Some(torn(self.blocks.get(&at), medium.as_ref(), rng))
                }
                _ => medium,
            };
            match left {
                Some(block) => self.blocks.insert(at, block),
                None => self.blocks.remove(&at),
            };
        }
        torn_blocks
    }
}

/// Some sectors of the one, some of the other.
fn torn(new: Option<&Bytes>, old: Option<&Bytes>, rng: &mut Rng) -> Bytes {
    let mut block = old.map_or_else(|| vec![0; BLOCK], |old| old.to_vec());
    for from in (0..BLOCK).step_by(SECTOR) {
        if rng.one_in(2) {
            match new {
                Some(new) => block[from..from + SECTOR].copy_from_slice(&new[from..from + SECTOR]),
                None => block[from..from + SECTOR].fill(0),
            }
        }
    }
    Bytes::from(block)
}

#[cfg(test)]
mod tests;
