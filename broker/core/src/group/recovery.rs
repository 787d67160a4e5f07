//! Reads the `Groups` log back.

use std::collections::BTreeMap;

use lanecast_wire::Offset;

use super::consumer_group::{EPOCH_MAX, Group};
use super::limits::{CHUNKS_OPEN_MAX, GROUPS_PER_PARTITION_MAX};
use super::outbox::Outbox;
use super::record::{InvalidRecord, invalid};
use super::{GroupId, GroupRecord, GroupSnapshot, Groups, OpenChunk};

/// Takes the records of a `Groups` log in order, then gives the groups.
#[derive(Debug, Default)]
pub struct GroupsRecovery {
    groups: BTreeMap<GroupId, Recovered>,
}

#[derive(Debug)]
struct Recovered {
    name: String,
    start: Offset,
    bound_upto: Offset,
    epoch: u32,
    chunks: BTreeMap<Offset, OpenChunk>,
}

impl GroupsRecovery {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// The bytes are no record, or contradict the records before: the log is not this partition's,
    /// or the broker that wrote it was broken. Nothing is changed then.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), InvalidRecord> {
        let (id, record) = GroupRecord::decode(record)?;
        match record {
            GroupRecord::Created { start, epoch, name } => {
                check_epoch(epoch)?;
                if let Some(group) = self.groups.get(&id) {
                    return if group.name == name {
                        Ok(())
                    } else {
                        Err(invalid("creates a group that has another name"))
                    };
                }
                let chunks = Vec::new();
                self.insert(id, GroupSnapshot { name, start, bound_upto: start, epoch, chunks })
            }
            GroupRecord::Snapshot(snapshot) => {
                check_epoch(snapshot.epoch)?;
                self.insert(id, snapshot)
            }
            GroupRecord::Opened { epoch } => {
                check_epoch(epoch)?;
                let group = self.group(id)?;
                group.epoch = group.epoch.max(epoch);
                Ok(())
            }
            GroupRecord::Bound { first, last, bytes } => {
                self.group(id)?.bind(OpenChunk { first, last, bytes, attempts: 0 })
            }
            GroupRecord::Done { ranges } => self.group(id)?.finish(&ranges),
            GroupRecord::Failed { first, attempts } => {
                if let Some(chunk) = self.group(id)?.chunks.get_mut(&first) {
                    chunk.attempts = chunk.attempts.max(attempts);
                }
                Ok(())
            }
            GroupRecord::Skipped { upto } => {
                let group = self.group(id)?;
                group.bound_upto = group.bound_upto.max(upto);
                group.chunks = group.chunks.split_off(&upto);
                Ok(())
            }
            GroupRecord::Passed { from, upto } => {
                let group = self.group(id)?;
                if from > group.bound_upto {
                    return Err(invalid("leaves a hole between chunks"));
                }
                group.bound_upto = group.bound_upto.max(upto);
                Ok(())
            }
            GroupRecord::Cut { upto } => {
                let group = self.group(id)?;
                if group.chunks.values().any(|c| c.first < upto && c.last >= upto) {
                    return Err(invalid("cuts a chunk in two"));
                }
                group.chunks.split_off(&upto);
                group.bound_upto = group.bound_upto.min(upto);
                group.start = group.start.min(upto);
                Ok(())
            }
        }
    }

    /// The groups as the records left them. What they now have to write is in their outputs.
    #[must_use]
    pub fn finish(self) -> Groups {
        let mut outbox = Outbox::default();
        let mut groups = BTreeMap::new();
        for (id, recovered) in self.groups {
            groups.insert(id, Group::reopen(id, recovered.into_snapshot(), &mut outbox));
        }
        Groups { groups, outbox, ..Groups::default() }
    }

    fn group(&mut self, id: GroupId) -> Result<&mut Recovered, InvalidRecord> {
        self.groups.get_mut(&id).ok_or_else(|| invalid("belongs to no group"))
    }

    fn insert(&mut self, id: GroupId, snapshot: GroupSnapshot) -> Result<(), InvalidRecord> {
        if self.groups.iter().any(|(other, group)| *other != id && group.name == snapshot.name) {
            return Err(invalid("repeats the name of another group"));
        }
        if !self.groups.contains_key(&id) && self.groups.len() >= GROUPS_PER_PARTITION_MAX {
            return Err(invalid("makes more groups than the limit"));
        }
        self.groups.insert(id, Recovered::from(snapshot));
        Ok(())
    }
}

impl Recovered {
    fn bind(&mut self, chunk: OpenChunk) -> Result<(), InvalidRecord> {
        if chunk.first == self.bound_upto {
            if self.chunks.len() >= CHUNKS_OPEN_MAX {
                return Err(invalid("opens more chunks than the limit"));
            }
            self.bound_upto = Offset(chunk.last.0 + 1);
            self.chunks.insert(chunk.first, chunk);
            return Ok(());
        }
        if chunk.first > self.bound_upto {
            return Err(invalid("leaves a hole between chunks"));
        }
        // Known from a snapshot, as an open chunk or as acked.
        let below = self.chunks.range(..=chunk.last).next_back();
        match below {
            Some((_, known)) if known.last >= chunk.first => {
                let same = known.first == chunk.first && known.last == chunk.last;
                if same { Ok(()) } else { Err(invalid("changes a chunk's bounds")) }
            }
            Some(_) | None if chunk.last < self.bound_upto => Ok(()),
            Some(_) | None => Err(invalid("changes a chunk's bounds")),
        }
    }

    fn finish(&mut self, ranges: &[(Offset, Offset)]) -> Result<(), InvalidRecord> {
        for (first, last) in ranges {
            if *last >= self.bound_upto {
                return Err(invalid("acks what no chunk holds"));
            }
            while let Some((_, chunk)) = self.chunks.range(..=*last).next_back()
                && chunk.last >= *first
            {
                let chunk = *chunk;
                if chunk.first < *first || chunk.last > *last {
                    return Err(invalid("acks a part of a chunk"));
                }
                self.chunks.remove(&chunk.first);
            }
        }
        Ok(())
    }

    fn into_snapshot(self) -> GroupSnapshot {
        GroupSnapshot {
            name: self.name,
            start: self.start,
            bound_upto: self.bound_upto,
            epoch: self.epoch,
            chunks: self.chunks.into_values().collect(),
        }
    }
}

impl From<GroupSnapshot> for Recovered {
    fn from(snapshot: GroupSnapshot) -> Self {
        Self {
            name: snapshot.name,
            start: snapshot.start,
            bound_upto: snapshot.bound_upto,
            epoch: snapshot.epoch,
            chunks: snapshot.chunks.into_iter().map(|chunk| (chunk.first, chunk)).collect(),
        }
    }
}

fn check_epoch(epoch: u32) -> Result<(), InvalidRecord> {
    if epoch < EPOCH_MAX { Ok(()) } else { Err(invalid("has an epoch over the limit")) }
}
