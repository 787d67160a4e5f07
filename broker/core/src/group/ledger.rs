//! What a group has to remember, and how each of its records changes that.
//!
//! The group that runs and the one that is read back from the log both go by this: the records,
//! applied in order, *are* the group's memory, and who holds what on lease is all that is forgotten.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use lanecast_wire::{Offset, ProducerId};

use super::limits::{CHUNKS_OPEN_MAX, DYING_MAX};
use super::ranges::{Ranges, records};
use super::record::{InvalidRecord, invalid};
use super::{BatchBounds, GroupRecord};

/// A chunk's name: its bounds, which never change. Chunks may lie inside each other, never over
/// each other's ends: a part that failed apart from the rest is a chunk of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkKey {
    pub first: Offset,
    pub last: Offset,
}

/// A chunk with records that are not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChunk {
    pub key: ChunkKey,
    /// Of its batches, headers included; of a part of a batch in proportion.
    pub bytes: u32,
    /// Hand-outs that failed.
    pub attempts: u32,
    /// When its newest batch was appended, unix milliseconds.
    pub appended_ms: i64,
    /// Not this chunk's to handle any more: acked, dead, expired, or a chunk of their own.
    pub settled: Ranges,
}

/// Records that are to go to the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dying {
    pub epoch: u32,
    pub attempts: u32,
    pub at_ms: i64,
    pub ranges: Ranges,
    pub reason: String,
}

/// Everything that a group remembers. An offset below `bound_upto` that is open in no chunk and
/// not dying is finished; no offset is in two of those places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    pub name: String,
    /// As whom dead letters are written.
    pub producer: ProducerId,
    pub start: Offset,
    pub bound_upto: Offset,
    pub epoch: u32,
    /// Of the last dead letter.
    pub dead_epoch: u32,
    pub chunks: BTreeMap<ChunkKey, OpenChunk>,
    pub dying: BTreeMap<u32, Dying>,
}

impl ChunkKey {
    #[must_use]
    pub fn new(first: Offset, last: Offset) -> Self {
        Self { first, last }
    }

    #[must_use]
    pub fn records(self) -> u64 {
        self.last.0 - self.first.0 + 1
    }

    #[must_use]
    pub fn contains(self, first: Offset, last: Offset) -> bool {
        self.first <= first && last <= self.last
    }

    pub(super) fn overlaps(self, first: Offset, last: Offset) -> bool {
        self.first <= last && first <= self.last
    }
}

impl OpenChunk {
    #[must_use]
    pub fn new(batches: BatchBounds) -> Self {
        Self {
            key: ChunkKey::new(batches.first, batches.last),
            bytes: batches.bytes,
            attempts: 0,
            appended_ms: batches.appended_ms,
            settled: Ranges::new(),
        }
    }

    /// What is left of it.
    #[must_use]
    pub fn open(&self) -> Vec<(Offset, Offset)> {
        self.settled.gaps(self.key.first, self.key.last)
    }

    /// What is left of it within these bounds.
    #[must_use]
    pub fn open_within(&self, first: Offset, last: Offset) -> Vec<(Offset, Offset)> {
        let (first, last) = (first.max(self.key.first), last.min(self.key.last));
        if first <= last { self.settled.gaps(first, last) } else { Vec::new() }
    }

    /// Behind the chunk once it is finished.
    #[must_use]
    pub fn first_open(&self) -> Offset {
        self.settled.first_gap(self.key.first)
    }

    #[must_use]
    pub fn open_records(&self) -> u64 {
        self.key.records() - self.settled.records()
    }

    fn is_finished(&self) -> bool {
        self.settled.covers(self.key.first, self.key.last)
    }

    fn settle(&mut self, first: Offset, last: Offset) {
        let (first, last) = (first.max(self.key.first), last.min(self.key.last));
        if first <= last {
            self.settled.insert(first, last);
        }
    }
}

impl Ledger {
    #[must_use]
    pub fn new(name: &str, producer: ProducerId, start: Offset, epoch: u32) -> Self {
        Self {
            name: name.to_owned(),
            producer,
            start,
            bound_upto: start,
            epoch,
            dead_epoch: 0,
            chunks: BTreeMap::new(),
            dying: BTreeMap::new(),
        }
    }

    /// Ranges that a snapshot has to name.
    #[must_use]
    pub fn range_count(&self) -> usize {
        let settled: usize = self.chunks.values().map(|chunk| chunk.settled.len()).sum();
        settled + self.dying.values().map(|dying| dying.ranges.len()).sum::<usize>()
    }

    /// Changes what the record says. A record that is contained already changes nothing.
    ///
    /// # Errors
    /// The record contradicts those before it; nothing is changed then.
    pub fn apply(&mut self, record: &GroupRecord) -> Result<(), InvalidRecord> {
        match record {
            GroupRecord::Created { .. }
            | GroupRecord::Snapshot(_)
            | GroupRecord::Deleted { .. } => return Err(invalid("is of a whole group")),
            GroupRecord::Opened { epoch } => self.epoch = self.epoch.max(*epoch),
            GroupRecord::Bound { first, last, bytes, appended_ms } => {
                let (first, last, bytes, appended_ms) = (*first, *last, *bytes, *appended_ms);
                self.bind(OpenChunk::new(BatchBounds { first, last, bytes, appended_ms }))?;
            }
            GroupRecord::Done { ranges } => {
                if ranges.iter().any(|(_, last)| *last >= self.bound_upto) {
                    return Err(invalid("acks what no chunk holds"));
                }
                self.settle(ranges);
            }
            GroupRecord::Failed { chunk, attempts } => {
                if let Some(chunk) = self.chunks.get_mut(chunk) {
                    chunk.attempts = chunk.attempts.max(*attempts);
                }
            }
            GroupRecord::Split { parent, part, attempts } => {
                self.split(*parent, *part, *attempts)?;
            }
            GroupRecord::Dying(dying) => self.die(dying)?,
            GroupRecord::Buried { epoch } => {
                self.dying.remove(epoch);
            }
            GroupRecord::Skipped { upto } => self.skip(*upto),
            GroupRecord::Passed { from, .. } if *from > self.bound_upto => {
                return Err(invalid("leaves a hole between chunks"));
            }
            GroupRecord::Passed { upto, .. } => self.bound_upto = self.bound_upto.max(*upto),
            GroupRecord::Cut { upto } => self.cut(*upto),
            GroupRecord::Moved { to, epoch } => {
                self.chunks.clear();
                (self.start, self.bound_upto) = (*to, *to);
                self.epoch = self.epoch.max(*epoch);
            }
        }
        Ok(())
    }

    fn bind(&mut self, chunk: OpenChunk) -> Result<(), InvalidRecord> {
        let key = chunk.key;
        if key.first > self.bound_upto {
            return Err(invalid("leaves a hole between chunks"));
        }
        if key.first == self.bound_upto {
            self.has_room()?;
            self.bound_upto = Offset(key.last.0 + 1);
            self.chunks.insert(key, chunk);
            return Ok(());
        }
        // Known from a snapshot, as an open chunk, in parts, or as finished.
        let known = self.chunks.keys().filter(|other| other.overlaps(key.first, key.last));
        let fits = key.last < self.bound_upto
            && known.into_iter().all(|other| key.contains(other.first, other.last));
        if fits { Ok(()) } else { Err(invalid("changes a chunk's bounds")) }
    }

    fn split(
        &mut self,
        parent: ChunkKey,
        part: ChunkKey,
        attempts: u32,
    ) -> Result<(), InvalidRecord> {
        if part == parent || !parent.contains(part.first, part.last) {
            return Err(invalid("splits a chunk outside its bounds"));
        }
        let Some(from) = self.chunks.get(&parent) else { return Ok(()) };
        let open = from.open_within(part.first, part.last);
        if open.is_empty() {
            return Ok(());
        }
        self.has_room()?;
        let from = self.chunks.get_mut(&parent).expect("it was found a moment ago");
        let bytes = u64::from(from.bytes) * records(&open) / parent.records();
        let mut settled = Ranges::new();
        for (first, last) in &open {
            settled.insert(*first, *last);
            from.settle(*first, *last);
        }
        // What was settled before is everything but what was open.
        let settled = Ranges::from_rising(settled.gaps(part.first, part.last))
            .expect("gaps between ranges are ranges");
        let chunk = OpenChunk {
            key: part,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            attempts,
            appended_ms: from.appended_ms,
            settled,
        };
        self.chunks.insert(part, chunk);
        self.drop_finished();
        Ok(())
    }

    fn die(&mut self, dying: &Dying) -> Result<(), InvalidRecord> {
        if dying.epoch <= self.dead_epoch {
            return Ok(());
        }
        if self.dying.len() >= DYING_MAX {
            return Err(invalid("gives up more than the limit"));
        }
        if dying.ranges.as_slice().last().is_none_or(|(_, last)| *last >= self.bound_upto) {
            return Err(invalid("gives up what no chunk holds"));
        }
        self.dead_epoch = dying.epoch;
        self.settle(dying.ranges.as_slice());
        self.dying.insert(dying.epoch, dying.clone());
        Ok(())
    }

    fn skip(&mut self, upto: Offset) {
        self.bound_upto = self.bound_upto.max(upto);
        for chunk in self.chunks.values_mut() {
            if chunk.key.first < upto {
                chunk.settle(chunk.key.first, Offset(upto.0 - 1));
            }
        }
        // What is left of a dead letter is still that one: it may be appended in part already.
        for dying in self.dying.values_mut() {
            dying.ranges.drop_below(upto);
        }
        self.drop_finished();
    }

    /// What reaches over the end of the log ends there: the offsets behind will be other records'.
    fn cut(&mut self, upto: Offset) {
        self.bound_upto = self.bound_upto.min(upto);
        self.start = self.start.min(upto);
        let over: Vec<ChunkKey> =
            self.chunks.keys().filter(|key| key.last >= upto).copied().collect();
        for key in over {
            let Some(mut chunk) = self.chunks.remove(&key) else { continue };
            if key.first >= upto {
                continue;
            }
            chunk.key.last = Offset(upto.0 - 1);
            chunk.settled.truncate(upto);
            if let Some(same) = self.chunks.get_mut(&chunk.key) {
                // A part and what it was a part of have become the same offsets.
                same.attempts = same.attempts.max(chunk.attempts);
                let settled = same.settled.clone();
                same.settled = Ranges::new();
                for (first, last) in settled.as_slice() {
                    let open = chunk.open_within(*first, *last);
                    let both = Ranges::from_rising(open).expect("gaps are ranges");
                    for (first, last) in both.gaps(*first, *last) {
                        same.settle(first, last);
                    }
                }
            } else {
                self.chunks.insert(chunk.key, chunk);
            }
        }
        for dying in self.dying.values_mut() {
            dying.ranges.truncate(upto);
        }
        self.drop_finished();
    }

    fn settle(&mut self, ranges: &[(Offset, Offset)]) {
        // Most are whole chunks, and an offset is open in one chunk at the most: no other is touched.
        if let [(first, last)] = ranges
            && let Entry::Occupied(whole) = self.chunks.entry(ChunkKey::new(*first, *last))
            && whole.get().settled.is_empty()
        {
            whole.remove();
            return;
        }
        for (first, last) in ranges {
            for chunk in self.chunks.values_mut() {
                chunk.settle(*first, *last);
            }
        }
        self.drop_finished();
    }

    fn drop_finished(&mut self) {
        self.chunks.retain(|_, chunk| !chunk.is_finished());
        self.dying.retain(|_, dying| !dying.ranges.is_empty());
    }

    fn has_room(&self) -> Result<(), InvalidRecord> {
        if self.chunks.len() < CHUNKS_OPEN_MAX {
            Ok(())
        } else {
            Err(invalid("opens more chunks than the limit"))
        }
    }
}
