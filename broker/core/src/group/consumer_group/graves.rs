//! Records that the group gives up on, from the decision until they are in the dead-letter topic.
//!
//! ```text
//!  last failure ─▶ doomed ──room──▶ dying ──durable──▶ given out ──dead_lettered──▶ buried
//!  terminate ──────────────────────▶        (one at a time)        answers terminate
//! ```

use lanecast_wire::limits::TEXT_BYTES_MAX;
use lanecast_wire::{CorrelationId, ErrorCode, Offset, ProducerEpoch};

use super::Group;
use super::pending::{Pending, Settlement};
use crate::Now;
use crate::group::chunk::ChunkState;
use crate::group::ledger::{ChunkKey, Dying};
use crate::group::limits::DYING_MAX;
use crate::group::outbox::Outbox;
use crate::group::ranges::{Ranges, records};
use crate::group::{Claim, DeadLetter, GroupRecord, MemberKey, Output};
use crate::mutants::{Mutant, planted};

/// One dead letter that is not buried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grave {
    /// That the records shall go is durable.
    pub(super) dug: bool,
    /// Who asked for it.
    pub(super) answer: Option<(MemberKey, CorrelationId)>,
}

impl Group {
    /// See [`Groups::terminate`](crate::group::Groups::terminate).
    pub(in crate::group) fn terminate(
        &mut self,
        now: Now,
        member: MemberKey,
        (ranges, generation): (&[(Offset, Offset)], u64),
        reason: &str,
        request: CorrelationId,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let (Some((first, _)), Some((_, last))) = (ranges.first(), ranges.last()) else {
            return Err(ErrorCode::INVALID_REQUEST);
        };
        let claim = Claim { first: *first, last: *last, generation };
        let key = self.check(member, claim)?;
        if !self.settings.dead_letters {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let chunk = &self.ledger.chunks[&key];
        let mut dying = Ranges::new();
        for (first, last) in ranges {
            for (first, last) in chunk.open_within(*first, *last) {
                dying.insert(first, last);
            }
        }
        if dying.is_empty() {
            self.answer_once_durable(member, request, outbox);
            return Ok(());
        }
        if self.ledger.dying.len() >= DYING_MAX {
            return Err(ErrorCode::OVERLOADED);
        }
        if dying.records() < chunk.open_records() {
            self.check_room(key, dying.as_slice(), dying.len())?;
        }
        self.die(now, key, dying, reason, Some((member, request)), outbox);
        self.hand_out(now, outbox);
        Ok(())
    }

    /// The chunk, in no state that it would have to leave first, goes as soon as there is room.
    pub(super) fn doom(&mut self, now: Now, key: ChunkKey, outbox: &mut Outbox) {
        self.ready.remove(&key);
        self.set_state(key, ChunkState::Doomed);
        self.doomed.insert(key);
        self.bury_doomed(now, outbox);
    }

    fn bury_doomed(&mut self, now: Now, outbox: &mut Outbox) {
        while self.ledger.dying.len() < DYING_MAX
            && let Some(key) = self.doomed.pop_first()
        {
            let chunk = &self.ledger.chunks[&key];
            if !self.settings.is_last(chunk.attempts) {
                // The topic's settings have changed.
                self.set_ready(key);
                continue;
            }
            let open = Ranges::from_rising(chunk.open()).expect("gaps between ranges are ranges");
            let reason = std::mem::take(&mut self.slot(key).reason);
            if planted(Mutant::BuryWithoutLetter) {
                self.settle(key, open.as_slice().to_vec(), (Settlement::Acked, true), outbox);
                continue;
            }
            self.die(now, key, open, &reason, None, outbox);
        }
    }

    fn die(
        &mut self,
        now: Now,
        key: ChunkKey,
        ranges: Ranges,
        reason: &str,
        answer: Option<(MemberKey, CorrelationId)>,
        outbox: &mut Outbox,
    ) {
        let chunk = &self.ledger.chunks[&key];
        let on_lease = matches!(self.slots[&key].state, ChunkState::Leased { .. });
        let dying = Dying {
            epoch: self.ledger.dead_epoch + 1,
            attempts: chunk.attempts.saturating_add(u32::from(on_lease)),
            at_ms: now.wall_ms,
            reason: cut(reason).to_owned(),
            ranges,
        };
        let floor = self.floor_without(key, dying.ranges.as_slice());
        let pending = Pending::Dying { epoch: dying.epoch, chunk: key, floor };
        let early = if planted(Mutant::AnswerTerminateEarly) { answer } else { None };
        if let Some((member, request)) = early {
            outbox.push(Output::Acked { member, request });
        }
        let answer = answer.filter(|_| early.is_none());
        self.graves.insert(dying.epoch, Grave { dug: false, answer });
        let count = dying.ranges.records();
        self.write(&GroupRecord::Dying(dying), pending, outbox);
        self.slot(key).unsettled -= count;
        self.end_if_finished(key, outbox);
    }

    /// That these records shall go is durable.
    pub(super) fn dug(&mut self, epoch: u32, outbox: &mut Outbox) {
        if let Some(grave) = self.graves.get_mut(&epoch) {
            grave.dug = true;
        }
        self.bury_next(outbox);
    }

    pub(super) fn bury_next(&mut self, outbox: &mut Outbox) {
        if self.burying.is_some() || !self.is_open() {
            return;
        }
        let Some((epoch, grave)) = self.graves.first_key_value() else { return };
        if !grave.dug {
            return;
        }
        let dying = &self.ledger.dying[epoch];
        self.burying = Some(*epoch);
        outbox.push(Output::DeadLetter(DeadLetter {
            group: self.id,
            name: self.ledger.name.clone(),
            producer: self.ledger.producer,
            epoch: ProducerEpoch(*epoch),
            ranges: dying.ranges.as_slice().to_vec(),
            attempts: dying.attempts,
            at_ms: dying.at_ms,
            reason: dying.reason.clone(),
        }));
    }

    pub(in crate::group) fn dead_lettered(
        &mut self,
        now: Now,
        epoch: ProducerEpoch,
        outbox: &mut Outbox,
    ) {
        if self.burying != Some(epoch.0) || !self.graves.contains_key(&epoch.0) {
            return;
        }
        if let Some(dying) = self.ledger.dying.get(&epoch.0) {
            self.counters.dead_lettered_records += dying.ranges.records();
        }
        let grave = self.graves.remove(&epoch.0).unwrap_or_default();
        // The next one waits until this is durable: a crash would give this one out again, and then
        // its epoch must still be the producer's last.
        let buried = GroupRecord::Buried { epoch: epoch.0 };
        self.write(&buried, Pending::Buried { epoch: epoch.0 }, outbox);
        if let Some((member, request)) = grave.answer {
            outbox.push(Output::Acked { member, request });
        }
        self.bury_doomed(now, outbox);
        self.hand_out(now, outbox);
    }

    /// That nothing more is to be done for the dead letter of this epoch is durable.
    pub(super) fn end_burial(&mut self, epoch: u32, outbox: &mut Outbox) {
        self.burying.take_if(|burying| *burying == epoch);
        self.bury_next(outbox);
    }

    /// Of some dead letters all records are gone from the log.
    pub(super) fn forget_graves(&mut self, outbox: &mut Outbox) {
        let dying = &self.ledger.dying;
        self.graves.retain(|epoch, grave| {
            let stays = dying.contains_key(epoch);
            if let Some((member, request)) = grave.answer.filter(|_| !stays) {
                outbox.push(Output::Refused { member, request, code: ErrorCode::LEASE_LOST });
            }
            stays
        });
    }

    /// Nobody buries any more before the next start.
    pub(in crate::group) fn refuse_burials(&mut self, outbox: &mut Outbox) {
        for grave in self.graves.values_mut() {
            if let Some((member, request)) = grave.answer.take() {
                outbox.push(Output::Refused { member, request, code: ErrorCode::DRAINING });
            }
        }
    }

    pub(super) fn dying_records(&self) -> u64 {
        self.ledger.dying.values().map(|dying| records(dying.ranges.as_slice())).sum()
    }
}

/// At most [`TEXT_BYTES_MAX`] bytes of `text`, cut between characters.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
