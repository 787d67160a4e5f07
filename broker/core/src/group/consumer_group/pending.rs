//! Records under way: what becomes true, and who is told, once each is durable.

use lanecast_wire::{CorrelationId, Offset};

use super::Group;
use crate::Now;
use crate::group::ledger::ChunkKey;
use crate::group::limits::ACKS_GATHERED_MAX;
use crate::group::outbox::Outbox;
use crate::group::{Asker, GroupRecord, MemberKey, Output, PersistToken};

#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    Opened,
    /// No chunk reaches over the end of the log any more.
    Cut,
    /// The chunk exists, or its failure counts.
    Bound {
        chunk: ChunkKey,
    },
    /// The chunk is a block of the data log: it did not wait for this.
    BoundBlock,
    Split {
        parent: ChunkKey,
        floor: Offset,
        part: ChunkKey,
    },
    Settled {
        chunk: ChunkKey,
        records: u64,
        /// The chunk's first unfinished record from then on.
        floor: Offset,
        how: Settlement,
        /// Somebody waits for the answer.
        awaited: bool,
    },
    Dying {
        epoch: u32,
        chunk: ChunkKey,
        floor: Offset,
    },
    Buried {
        epoch: u32,
    },
    Skipped {
        /// The dead letter that was given out then, if all of it was skipped.
        lost: Option<u32>,
    },
    /// Nobody waits for this record.
    Noted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    Acked,
    Expired,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Member(MemberKey, CorrelationId),
    Moved(Asker),
    Deleted(Asker),
}

impl Group {
    /// Changes the ledger, and has the log follow.
    pub(super) fn write(
        &mut self,
        record: &GroupRecord,
        pending: Pending,
        outbox: &mut Outbox,
    ) -> PersistToken {
        self.ledger.apply(record).expect("a group writes what its ledger takes");
        let patient = self.is_patient(pending);
        let token = outbox.persist(self.id, record, patient);
        self.blocks.written(token, record, pending);
        self.pending.push_back((token, pending));
        token
    }

    /// Does nobody wait for this record?
    fn is_patient(&self, pending: Pending) -> bool {
        match pending {
            Pending::BoundBlock => true,
            Pending::Settled { awaited, .. } => !awaited,
            Pending::Opened
            | Pending::Cut
            | Pending::Bound { .. }
            | Pending::Split { .. }
            | Pending::Dying { .. }
            | Pending::Buried { .. }
            | Pending::Skipped { .. }
            | Pending::Noted => false,
        }
    }

    /// Does the member wait for the answer to its next ack? One that sends the next without that for the
    /// last does not, but no more of them may be without one than this.
    pub(super) fn awaits_answers(&self, member: MemberKey) -> bool {
        let unanswered = self.members.get(&member).map_or(0, |member| member.unanswered);
        unanswered == 0 || unanswered >= ACKS_GATHERED_MAX
    }

    /// Tells the member once everything written so far is durable.
    pub(super) fn answer_once_durable(
        &mut self,
        member: MemberKey,
        request: CorrelationId,
        outbox: &mut Outbox,
    ) {
        match self.pending.back() {
            Some((token, _)) => {
                self.answers.push_back((*token, Answer::Member(member, request)));
                if let Some(member) = self.members.get_mut(&member) {
                    member.unanswered += 1;
                }
            }
            None => outbox.push(Output::Acked { member, request }),
        }
    }

    pub(in crate::group) fn persisted(
        &mut self,
        now: Now,
        token: PersistToken,
        outbox: &mut Outbox,
    ) {
        let (oldest, pending) = self.pending.pop_front().expect("every record is awaited");
        assert_eq!(oldest, token, "records become durable in the order written");
        self.blocks.durable(token, pending);
        match pending {
            Pending::Opened | Pending::Cut => {
                self.opening -= 1;
                if self.is_open() {
                    let waiting: Vec<MemberKey> = self.members.keys().copied().collect();
                    for key in waiting {
                        self.welcome(key, outbox);
                    }
                    self.bury_next(outbox);
                }
            }
            Pending::Bound { chunk } => self.bound(now, chunk, outbox),
            Pending::BoundBlock => {}
            Pending::Split { parent, floor, part } => {
                self.raise_floor(parent, floor);
                self.bound(now, part, outbox);
            }
            Pending::Settled { chunk, records, floor, how, .. } => {
                match how {
                    Settlement::Acked => {
                        self.counters.acked_records += records;
                        self.counters.acked_chunks += u64::from(floor > chunk.last);
                    }
                    Settlement::Expired => self.counters.expired_records += records,
                }
                // Retention may have taken the chunk meanwhile.
                if let Some(slot) = self.slots.get_mut(&chunk) {
                    slot.unsettled = slot.unsettled.saturating_sub(records);
                }
                self.raise_floor(chunk, floor);
            }
            Pending::Dying { epoch, chunk, floor } => {
                self.raise_floor(chunk, floor);
                self.dug(epoch, outbox);
            }
            Pending::Buried { epoch } => self.end_burial(epoch, outbox),
            Pending::Skipped { lost } => {
                if let Some(epoch) = lost {
                    self.end_burial(epoch, outbox);
                }
            }
            Pending::Noted => {}
        }
        while let Some((_, answer)) = self.answers.front().filter(|(of, _)| *of <= token).copied() {
            self.answers.pop_front();
            match answer {
                Answer::Member(key, request) => {
                    outbox.push(Output::Acked { member: key, request });
                    if let Some(member) = self.members.get_mut(&key) {
                        member.unanswered = member.unanswered.saturating_sub(1);
                    }
                }
                Answer::Moved(asker) => {
                    outbox.push(Output::Answered { asker, moved: Some(self.stats()) });
                }
                Answer::Deleted(asker) => outbox.push(Output::Answered { asker, moved: None }),
            }
        }
        self.hand_out(now, outbox);
    }
}
