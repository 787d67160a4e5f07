//! Reads the `Groups` log back.

use std::collections::BTreeMap;

use super::consumer_group::{EPOCH_MAX, Group};
use super::ledger::Ledger;
use super::limits::GROUPS_PER_PARTITION_MAX;
use super::outbox::Outbox;
use super::record::{InvalidRecord, invalid};
use super::{GroupId, GroupRecord, GroupSettings, Groups};

/// Takes the records of a `Groups` log in order, then gives the groups.
#[derive(Debug, Default)]
pub struct GroupsRecovery {
    groups: BTreeMap<GroupId, Ledger>,
    /// The highest epoch of a group that was deleted.
    used_epoch: u32,
    snapshot: bool,
}

impl GroupsRecovery {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Has a snapshot been read? Records before it may speak of groups that older segments, which
    /// are gone, made.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        self.snapshot
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// The bytes are no record, or contradict the records before: the log is not this partition's,
    /// or the broker that wrote it was broken. Nothing is changed then.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), InvalidRecord> {
        let (id, record) = GroupRecord::decode(record)?;
        match record {
            GroupRecord::Created { start, epoch, producer, name } => {
                check_epoch(epoch)?;
                if let Some(group) = self.groups.get(&id) {
                    return if group.name == name {
                        Ok(())
                    } else {
                        Err(invalid("creates a group that has another name"))
                    };
                }
                self.insert(id, Ledger::new(&name, producer, start, epoch))
            }
            GroupRecord::Snapshot(ledger) => {
                check_epoch(ledger.epoch)?;
                self.snapshot = true;
                self.insert(id, *ledger)
            }
            GroupRecord::Deleted { epoch } => {
                check_epoch(epoch)?;
                self.groups.remove(&id);
                self.used_epoch = self.used_epoch.max(epoch);
                Ok(())
            }
            GroupRecord::Opened { epoch } | GroupRecord::Moved { epoch, .. } => {
                check_epoch(epoch)?;
                self.group(id)?.apply(&record)
            }
            GroupRecord::Bound { .. }
            | GroupRecord::Done { .. }
            | GroupRecord::Failed { .. }
            | GroupRecord::Skipped { .. }
            | GroupRecord::Cut { .. }
            | GroupRecord::Split { .. }
            | GroupRecord::Dying(_)
            | GroupRecord::Buried { .. }
            | GroupRecord::Passed { .. } => self.group(id)?.apply(&record),
        }
    }

    /// The groups as the records left them. What they now have to write is in their outputs.
    #[must_use]
    pub fn finish(self, settings: GroupSettings) -> Groups {
        let mut outbox = Outbox::default();
        let mut groups = BTreeMap::new();
        for (id, ledger) in self.groups {
            groups.insert(id, Group::reopen(id, ledger, settings, &mut outbox));
        }
        Groups { groups, outbox, settings, used_epoch: self.used_epoch, ..Groups::default() }
    }

    /// The records that stand for all taken so far.
    #[cfg(test)]
    pub(super) fn snapshot(&self) -> Vec<bytes::Bytes> {
        super::record::snapshot(self.used_epoch, self.groups.iter().map(|(id, it)| (*id, it)))
    }

    fn group(&mut self, id: GroupId) -> Result<&mut Ledger, InvalidRecord> {
        self.groups.get_mut(&id).ok_or_else(|| invalid("belongs to no group"))
    }

    fn insert(&mut self, id: GroupId, ledger: Ledger) -> Result<(), InvalidRecord> {
        if self.groups.iter().any(|(other, group)| *other != id && group.name == ledger.name) {
            return Err(invalid("repeats the name of another group"));
        }
        if !self.groups.contains_key(&id) && self.groups.len() >= GROUPS_PER_PARTITION_MAX {
            return Err(invalid("makes more groups than the limit"));
        }
        self.groups.insert(id, ledger);
        Ok(())
    }
}

fn check_epoch(epoch: u32) -> Result<(), InvalidRecord> {
    if epoch < EPOCH_MAX { Ok(()) } else { Err(invalid("has an epoch over the limit")) }
}
