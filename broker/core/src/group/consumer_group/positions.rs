//! A group that is moved, or deleted.

use lanecast_wire::{ErrorCode, Offset};

use super::pending::{Answer, Pending};
use super::{EPOCH_MAX, Group};
use crate::group::limits::EPOCHS_FOR_RESTARTS;
use crate::group::outbox::Outbox;
use crate::group::{Asker, GroupRecord, Output};

/// May a client's request bring a group to this epoch?
pub(in crate::group) fn is_allowed(epoch: u32) -> bool {
    epoch <= EPOCH_MAX - EPOCHS_FOR_RESTARTS
}

impl Group {
    /// Goes on at `to`. There are no members.
    pub(in crate::group) fn move_to(
        &mut self,
        to: Offset,
        asker: Asker,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        debug_assert!(!self.has_members(), "refused by the caller");
        if !is_allowed(self.ledger.epoch + 1) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.building = None;
        // Nothing goes on before this is durable, and what is under way is so before it.
        self.opening += 1;
        let moved = GroupRecord::Moved { to, epoch: self.ledger.epoch + 1 };
        let token = self.write(&moved, Pending::Opened, outbox);
        self.answers.push_back((token, Answer::Moved(asker)));
        self.forget_slots();
        Ok(())
    }

    /// Says for ever that the group is gone. There are no members.
    pub(in crate::group) fn delete(&mut self, asker: Asker, outbox: &mut Outbox) {
        self.stop();
        // What is under way means nothing any more, and nothing may follow it.
        self.ledger.chunks.clear();
        self.ledger.dying.clear();
        self.forget_slots();
        for grave in std::mem::take(&mut self.graves).into_values() {
            if let Some((member, request)) = grave.answer {
                outbox.push(Output::Refused { member, request, code: ErrorCode::LEASE_LOST });
            }
        }
        let deleted = GroupRecord::Deleted { epoch: self.ledger.epoch };
        let token = outbox.persist(self.id, &deleted, false);
        self.pending.push_back((token, Pending::Noted));
        self.answers.push_back((token, Answer::Deleted(asker)));
    }

    /// Every record is durable.
    pub(in crate::group) fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// For tests that need a group of a great age.
    #[cfg(test)]
    pub(in crate::group) fn ledger_mut(&mut self) -> &mut crate::group::Ledger {
        &mut self.ledger
    }
}
