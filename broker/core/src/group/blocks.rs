//! Blocks of the data log, as they are offered to groups, and lost on their way.

use lanecast_wire::Offset;

use super::{BatchBounds, GroupId, Groups};
use crate::Now;

impl Groups {
    /// As [`Groups::offer`], for what the group wants of the batches of a whole block of the data log.
    /// That block has these bounds for ever, from its first record to its last.
    pub fn offer_block(
        &mut self,
        now: Now,
        id: GroupId,
        (first, last): (Offset, Offset),
        batches: impl Iterator<Item = BatchBounds>,
    ) {
        let Some(group) = self.groups.get_mut(&id).filter(|_| !self.stopped) else { return };
        group.enter_block(first, last);
        for batch in batches {
            if group.wants() == Some(batch.first) {
                group.offer(now, batch, &mut self.outbox);
            }
        }
        group.leave_block(now, &mut self.outbox);
    }

    /// The log has lost what was on its way, and goes on at `end`, above the high watermark: other
    /// records will have those offsets. As [`Groups::cut`], but chunks may be out: none of them
    /// reaches so far.
    pub fn rewind(&mut self, end: Offset) {
        for group in self.groups.values_mut() {
            group.rewind(end, &mut self.outbox);
        }
    }
}
