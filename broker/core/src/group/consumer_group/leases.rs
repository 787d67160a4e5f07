//! Chunks on lease: who gets them, for how long, and what ends it.

use lanecast_wire::limits::{LEASE_MS_MAX, LEASE_MS_MIN, NACK_DELAY_MS_MAX};
use lanecast_wire::{CorrelationId, ErrorCode, Offset};

use super::pending::{Pending, Settlement};
use super::{GENERATION_COUNTER_BITS, Group};
use crate::Now;
use crate::group::chunk::{ChunkState, backoff_ms};
use crate::group::ledger::ChunkKey;
use crate::group::outbox::Outbox;
use crate::group::ranges::records;
use crate::group::{Claim, GroupRecord, HandOut, MemberKey, Output};
use crate::mutants::{Mutant, planted};

impl Group {
    pub(in crate::group) fn ack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        request: CorrelationId,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let key = self.check(member, claim)?;
        let chunk = &self.ledger.chunks[&key];
        let open = if planted(Mutant::AckMoreThanNamed) {
            chunk.open()
        } else {
            chunk.open_within(claim.first, claim.last)
        };
        if !open.is_empty() {
            if records(&open) < chunk.open_records() {
                self.check_room(key, &[(claim.first, claim.last)], 0)?;
            }
            let awaited = self.awaits_answers(member);
            self.settle(key, open, (Settlement::Acked, awaited), outbox);
        }
        if planted(Mutant::AnswerAckEarly) {
            outbox.push(Output::Acked { member, request });
        } else {
            self.answer_once_durable(member, request, outbox);
        }
        self.hand_out(now, outbox);
        Ok(())
    }

    pub(in crate::group) fn nack(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        delay_ms: u32,
        reason: &str,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let key = self.check(member, claim)?;
        let delay_ms = u64::from(delay_ms.min(NACK_DELAY_MS_MAX));
        let chunk = &self.ledger.chunks[&key];
        let open = chunk.open_within(claim.first, claim.last);
        let (Some((first, _)), Some((_, last))) = (open.first(), open.last()) else {
            return Ok(());
        };
        if records(&open) == chunk.open_records() {
            self.counters.nacked += 1;
            self.fail(now, key, delay_ms, reason, outbox);
        } else {
            let part = ChunkKey { first: *first, last: *last };
            self.split(now, key, part, delay_ms, reason, outbox)?;
            self.counters.nacked += 1;
        }
        self.hand_out(now, outbox);
        Ok(())
    }

    pub(in crate::group) fn extend(
        &mut self,
        now: Now,
        member: MemberKey,
        claim: Claim,
        lease_ms: u32,
    ) -> Result<(), ErrorCode> {
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let key = self.check(member, claim)?;
        if planted(Mutant::IgnoreExtension) {
            return Ok(());
        }
        self.stop_timer(key);
        let deadline_us = now.mono_us.saturating_add(u64::from(lease_ms) * 1000);
        self.timers.insert((deadline_us, key));
        let generation = claim.generation;
        self.set_state(key, ChunkState::Leased { member, generation, deadline_us });
        Ok(())
    }

    /// The chunk whose live lease the claim names; the claim lies within it.
    pub(super) fn check(&self, member: MemberKey, claim: Claim) -> Result<ChunkKey, ErrorCode> {
        if claim.first > claim.last {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let any = planted(Mutant::AcceptOldGeneration);
        let key = match self.leases.get(&claim.generation) {
            Some(key) => *key,
            None if any => self.leased_at(claim).ok_or(ErrorCode::LEASE_LOST)?,
            None => return Err(ErrorCode::LEASE_LOST),
        };
        match self.slots[&key].state {
            ChunkState::Leased { member: holder, generation, .. }
                if (holder == member && generation == claim.generation) || any =>
            {
                if key.contains(claim.first, claim.last) {
                    Ok(key)
                } else if key.overlaps(claim.first, claim.last) {
                    Err(ErrorCode::INVALID_REQUEST)
                } else {
                    // The generation is that of another chunk.
                    Err(ErrorCode::LEASE_LOST)
                }
            }
            ChunkState::Leased { .. }
            | ChunkState::Binding { .. }
            | ChunkState::Ready
            | ChunkState::Delayed { .. }
            | ChunkState::Doomed
            | ChunkState::Settling => Err(ErrorCode::LEASE_LOST),
        }
    }

    /// These open records of the chunk are finished. Does anybody wait for that to be durable?
    pub(super) fn settle(
        &mut self,
        key: ChunkKey,
        open: Vec<(Offset, Offset)>,
        (how, awaited): (Settlement, bool),
        outbox: &mut Outbox,
    ) {
        let count = records(&open);
        let floor = self.floor_without(key, &open);
        let pending = Pending::Settled { chunk: key, records: count, floor, how, awaited };
        self.write(&GroupRecord::Done { ranges: open }, pending, outbox);
        self.end_if_finished(key, outbox);
    }

    /// Nothing of the chunk may be left: then its lease is over.
    pub(super) fn end_if_finished(&mut self, key: ChunkKey, outbox: &mut Outbox) {
        if !self.ledger.chunks.contains_key(&key) {
            self.end_lease(key, outbox);
            self.stop_timer(key);
            self.ready.remove(&key);
            self.set_state(key, ChunkState::Settling);
        }
    }

    /// What is open within `part`, not all of `parent`, has failed: it becomes a chunk of its own.
    fn split(
        &mut self,
        now: Now,
        parent: ChunkKey,
        part: ChunkKey,
        delay_ms: u64,
        reason: &str,
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        self.check_slots()?;
        self.check_room(parent, &[(part.first, part.last)], 1)?;
        let chunk = &self.ledger.chunks[&parent];
        let attempts = chunk.attempts.saturating_add(1);
        let open = chunk.open_within(part.first, part.last);
        let floor = self.floor_without(parent, &open);
        let split = GroupRecord::Split { parent, part, attempts };
        self.write(&split, Pending::Split { parent, floor, part }, outbox);
        let until_us = self.rest_until(now, part, attempts, delay_ms);
        self.open_slot(part, until_us);
        self.slot(part).reason = reason.to_owned();
        self.slot(parent).unsettled -= records(&open);
        Ok(())
    }

    /// Gives ready chunks, lowest offset first, to members with room, those that hold fewest first
    /// and among them who has waited longest. Chunks with records that are not durable come last.
    pub(super) fn hand_out(&mut self, now: Now, outbox: &mut Outbox) {
        if !self.is_open() || self.stopped {
            return;
        }
        while self.leases.len() < self.settings.chunks_out_max()
            && let Some(key) = self.ready.first().copied()
            && key.last < self.high_watermark
            && let Some((holder, member)) = self
                .members
                .iter_mut()
                .filter(|(_, member)| member.joined && member.held.len() < member.chunks_in_flight)
                .min_by_key(|(_, member)| (member.held.len(), member.served))
        {
            let holder = *holder;
            let chunk = &self.ledger.chunks[&key];
            let expired = self.horizon_ms.is_some_and(|horizon| chunk.appended_ms <= horizon);
            if expired && !planted(Mutant::HandOutExpired) {
                let open = chunk.open();
                self.settle(key, open, (Settlement::Expired, false), outbox);
                continue;
            }
            if self.settings.is_last(chunk.attempts) {
                self.doom(now, key, outbox);
                continue;
            }
            self.ready.remove(&key);
            self.hand_outs += 1;
            assert!(self.hand_outs >> GENERATION_COUNTER_BITS == 0, "10^12 hand-outs");
            let epoch = u64::from(self.ledger.epoch);
            let generation = epoch << GENERATION_COUNTER_BITS | self.hand_outs;
            let lease_us = if planted(Mutant::EndLeaseEarly) { 500 } else { 1000 };
            let deadline_us = now.mono_us.saturating_add(u64::from(member.lease_ms) * lease_us);
            member.held.insert(key);
            member.served = self.hand_outs;
            self.leases.insert(generation, key);
            self.timers.insert((deadline_us, key));

            let slot = self.slots.get_mut(&key).expect("ready chunks are open");
            debug_assert_eq!(slot.state, ChunkState::Ready);
            slot.state = ChunkState::Leased { member: holder, generation, deadline_us };
            self.counters.redelivered += u64::from(slot.handed_out || chunk.attempts > 0);
            slot.handed_out = true;
            outbox.push(Output::HandOut(HandOut {
                group: self.id,
                member: holder,
                first: key.first,
                last: key.last,
                bytes: chunk.bytes,
                attempt: chunk.attempts.saturating_add(1),
                generation,
                lease_ms: member.lease_ms,
                appended_ms: chunk.appended_ms,
                settled: chunk.settled.as_slice().to_vec(),
            }));
        }
    }

    /// Do members have room for so many more chunks?
    pub(super) fn would_take(&self, chunks: usize) -> bool {
        let mut room = 0;
        let mut joined = self.members.values().filter(|member| member.joined);
        self.leases.len() + chunks <= self.settings.chunks_out_max()
            && joined.any(|member| {
                room += member.chunks_in_flight.saturating_sub(member.held.len());
                room >= chunks
            })
    }

    /// The hand-out has failed. Once that is durable the chunk rests for its backoff or `delay_ms`,
    /// whichever is longer, or dies.
    pub(super) fn fail(
        &mut self,
        now: Now,
        key: ChunkKey,
        delay_ms: u64,
        reason: &str,
        outbox: &mut Outbox,
    ) {
        self.end_lease(key, outbox);
        let attempts = self.ledger.chunks[&key].attempts.saturating_add(1);
        let until_us = self.rest_until(now, key, attempts, delay_ms);
        self.binding += 1;
        self.set_state(key, ChunkState::Binding { until_us });
        self.slot(key).reason = reason.to_owned();
        if planted(Mutant::ForgetAttempts) {
            self.ledger.chunks.entry(key).and_modify(|chunk| chunk.attempts = attempts);
            self.bound(now, key, outbox);
            return;
        }
        let failed = GroupRecord::Failed { chunk: key, attempts };
        self.write(&failed, Pending::Bound { chunk: key }, outbox);
    }

    fn rest_until(&self, now: Now, key: ChunkKey, attempts: u32, delay_ms: u64) -> u64 {
        let rest_ms = backoff_ms(key, attempts, self.settings.seed).max(delay_ms);
        now.mono_us.saturating_add(rest_ms * 1000)
    }

    /// The chunk's bounds, or that it failed, are durable.
    pub(super) fn bound(&mut self, now: Now, key: ChunkKey, outbox: &mut Outbox) {
        // Retention may have taken the chunk meanwhile.
        let Some(slot) = self.slots.get(&key) else { return };
        let ChunkState::Binding { until_us } = slot.state else { return };
        self.binding -= 1;
        if self.settings.is_last(self.ledger.chunks[&key].attempts) {
            self.set_state(key, ChunkState::Doomed);
            self.doom(now, key, outbox);
        } else if until_us > now.mono_us {
            self.timers.insert((until_us, key));
            self.set_state(key, ChunkState::Delayed { until_us });
        } else {
            self.set_ready(key);
        }
    }

    /// Ends the chunk's lease, if it has one, and tells its holder. Was there one?
    pub(super) fn end_lease(&mut self, key: ChunkKey, outbox: &mut Outbox) -> bool {
        let ended = self.free_lease(key);
        if let Some((member, generation)) = ended {
            outbox.push(Output::LeaseEnded { member, first: key.first, generation });
        }
        ended.is_some()
    }

    /// Forgets the chunk's lease; the caller gives the chunk another state.
    pub(super) fn free_lease(&mut self, key: ChunkKey) -> Option<(MemberKey, u64)> {
        let ChunkState::Leased { member, generation, .. } = self.slots.get(&key)?.state else {
            return None;
        };
        self.stop_timer(key);
        self.leases.remove(&generation);
        if let Some(holder) = self.members.get_mut(&member) {
            holder.held.remove(&key);
        }
        Some((member, generation))
    }

    /// What a planted bug takes a claim of any generation for.
    fn leased_at(&self, claim: Claim) -> Option<ChunkKey> {
        self.leases.values().find(|key| key.contains(claim.first, claim.last)).copied()
    }

    /// What a planted bug does: the chunks go to others while their holders work.
    pub(super) fn free_all_leases(&mut self) {
        let all: Vec<ChunkKey> = self.leases.values().copied().collect();
        for key in all {
            self.free_lease(key);
            self.set_ready(key);
        }
    }

    pub(super) fn stop_timer(&mut self, key: ChunkKey) {
        let Some(slot) = self.slots.get(&key) else { return };
        match slot.state {
            ChunkState::Leased { deadline_us: at, .. } | ChunkState::Delayed { until_us: at } => {
                self.timers.remove(&(at, key));
            }
            ChunkState::Binding { .. }
            | ChunkState::Ready
            | ChunkState::Doomed
            | ChunkState::Settling => {}
        }
    }

    pub(super) fn set_ready(&mut self, key: ChunkKey) {
        self.set_state(key, ChunkState::Ready);
        self.ready.insert(key);
    }

    /// Forgets a chunk that has no lease any more.
    pub(super) fn remove(&mut self, key: ChunkKey) {
        self.stop_timer(key);
        let Some(slot) = self.slots.remove(&key) else { return };
        self.ready.remove(&key);
        self.doomed.remove(&key);
        self.binding -= usize::from(matches!(slot.state, ChunkState::Binding { .. }));
    }

    pub(in crate::group) fn poll_timeout(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let linger = if self.wants().is_some() { self.linger_deadline() } else { None };
        timer.into_iter().chain(linger).min()
    }

    pub(in crate::group) fn handle_timeout(&mut self, now: Now, outbox: &mut Outbox) {
        if self.wants().is_some()
            && self.linger_deadline().is_some_and(|deadline| deadline <= now.mono_us)
        {
            self.close(outbox);
        }
        // Each turn ends a lease or a rest, and what it starts anew lies in the future.
        while let Some((at, key)) = self.timers.first().copied()
            && at <= now.mono_us
        {
            match self.slots[&key].state {
                ChunkState::Leased { .. } => {
                    self.counters.expired += 1;
                    self.fail(now, key, 0, "no answer before the lease's end", outbox);
                }
                ChunkState::Delayed { .. } => {
                    self.stop_timer(key);
                    self.set_ready(key);
                }
                ChunkState::Binding { .. }
                | ChunkState::Ready
                | ChunkState::Doomed
                | ChunkState::Settling => {
                    unreachable!("only leased and delayed chunks have timers")
                }
            }
        }
        self.hand_out(now, outbox);
    }
}
