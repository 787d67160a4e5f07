//! Positions of consumer groups, as a client asks for them and changes them.

use lanecast_wire::message::StartPosition;
use lanecast_wire::{ErrorCode, Offset};

use super::Partition;
use super::queue::refuse;
use super::seek::{Search, Sought};
use crate::disk::Operations;
use crate::group::Asker;
use crate::limits::GROUP_MOVES_MAX;
use crate::outbox::Outbox;
use crate::{ChangeGroupMessage, GroupChange, GroupsMessage, RequestId, ShardId, ShardMessage};

/// A group that is to go on at a position that has to be looked up.
#[derive(Debug)]
pub(super) struct Move {
    asker: Asker,
    group: String,
    pub(super) search: Search,
}

impl Partition {
    pub(crate) fn list_groups(&self, from: ShardId, request: RequestId, out: &mut Outbox) {
        match self.queue.infos() {
            Ok(groups) => {
                let message = GroupsMessage { request, groups };
                out.send(from, ShardMessage::Groups(Box::new(message)));
            }
            Err(code) => refuse(from, request, code, out),
        }
    }

    /// Moves or deletes a group; answered once that is durable.
    pub(crate) fn change_group(
        &mut self,
        from: ShardId,
        message: ChangeGroupMessage,
        out: &mut Outbox,
    ) {
        let ChangeGroupMessage { request, partition: _, group, change } = message;
        let asker = Asker { shard: from, request };
        if !self.draining {
            self.supersede(&group, out);
        }
        let begun = match change {
            _ if self.draining => Err(ErrorCode::DRAINING),
            GroupChange::Delete => self.queue.delete_group(&group, asker),
            GroupChange::Move(to) => self.look_up(asker, group, to),
        };
        if let Err(code) = begun {
            refuse(from, request, code, out);
        }
    }

    /// What was asked for last counts: a move whose position is still looked up does not undo it afterwards.
    fn supersede(&mut self, group: &str, out: &mut Outbox) {
        for older in self.moves.extract_if(.., |moved| moved.group == group) {
            refuse(older.asker.shard, older.asker.request, ErrorCode::OVERLOADED, out);
        }
    }

    fn look_up(&mut self, asker: Asker, name: String, to: StartPosition) -> Result<(), ErrorCode> {
        if !self.log.is_open() {
            return Err(ErrorCode::PARTITION_OFFLINE);
        }
        let group = self.queue.infos()?.into_iter().find(|group| group.name == name);
        match group {
            None => Err(ErrorCode::UNKNOWN_GROUP),
            Some(group) if group.members > 0 => Err(ErrorCode::GROUP_ACTIVE),
            Some(_) if self.moves.len() >= GROUP_MOVES_MAX => Err(ErrorCode::OVERLOADED),
            Some(group) => {
                let search = Search::new(to, true);
                self.moves.push(Move { asker, group: group.name, search });
                Ok(())
            }
        }
    }

    /// Moves groups whose position is found.
    pub(super) fn move_groups(&mut self, operations: &mut Operations, out: &mut Outbox) {
        for mut moved in std::mem::take(&mut self.moves) {
            let Asker { shard, request } = moved.asker;
            let begun = match moved.search.step(&mut self.log, operations) {
                Sought::Waiting => {
                    self.moves.push(moved);
                    continue;
                }
                Sought::Refused(code) => Err(code),
                Sought::Found(at) => self.queue.move_group(&moved.group, Offset(at), moved.asker),
            };
            if let Err(code) = begun {
                refuse(shard, request, code, out);
            }
        }
    }

    /// The positions will not be found: the log has failed, or what waits for them ends.
    pub(super) fn refuse_moves(&mut self, code: ErrorCode, out: &mut Outbox) {
        for moved in std::mem::take(&mut self.moves) {
            refuse(moved.asker.shard, moved.asker.request, code, out);
        }
    }
}
