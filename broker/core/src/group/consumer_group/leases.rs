//! Chunks on lease: who gets them, for how long, and what ends it.

use lanecast_wire::limits::{LEASE_MS_MAX, LEASE_MS_MIN, NACK_DELAY_MS_MAX};
use lanecast_wire::{CorrelationId, ErrorCode, Offset};

use super::{GENERATION_COUNTER_BITS, Group, Pending};
use crate::Now;
use crate::group::chunk::{Chunk, ChunkState};
use crate::group::limits::CHUNKS_OUT_PER_GROUP_MAX;
use crate::group::outbox::Outbox;
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
        let first = self.check(member, claim)?;
        self.end_lease(first, outbox);
        self.set_state(first, ChunkState::Acking);
        let done = GroupRecord::Done { ranges: vec![(claim.first, claim.last)] };
        self.persist(&done, Pending::Done { first, member, request }, outbox);
        if planted(Mutant::AnswerAckEarly) {
            outbox.push(Output::Acked { member, request });
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
        outbox: &mut Outbox,
    ) -> Result<(), ErrorCode> {
        let first = self.check(member, claim)?;
        self.counters.nacked += 1;
        self.fail(now, first, u64::from(delay_ms.min(NACK_DELAY_MS_MAX)), outbox);
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
        let first = self.check(member, claim)?;
        if planted(Mutant::IgnoreExtension) {
            return Ok(());
        }
        self.stop_timer(first);
        let deadline_us = now.mono_us.saturating_add(u64::from(lease_ms) * 1000);
        self.timers.insert((deadline_us, first));
        let generation = claim.generation;
        self.set_state(first, ChunkState::Leased { member, generation, deadline_us });
        Ok(())
    }

    /// The chunk whose live lease the claim names.
    fn check(&self, member: MemberKey, claim: Claim) -> Result<Offset, ErrorCode> {
        if claim.first > claim.last {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let (first, chunk) =
            self.chunks.range(..=claim.first).next_back().ok_or(ErrorCode::LEASE_LOST)?;
        match chunk.state {
            ChunkState::Leased { member: holder, generation, .. }
                if (holder == member && generation == claim.generation)
                    || planted(Mutant::AcceptOldGeneration) =>
            {
                // Acks of parts have no bookkeeping yet.
                let whole = *first == claim.first && chunk.last == claim.last;
                if whole { Ok(*first) } else { Err(ErrorCode::INVALID_REQUEST) }
            }
            ChunkState::Leased { .. }
            | ChunkState::Binding
            | ChunkState::Ready
            | ChunkState::Delayed { .. }
            | ChunkState::Acking => Err(ErrorCode::LEASE_LOST),
        }
    }

    /// Gives ready chunks, lowest offset first, to members with room, those that hold fewest first
    /// and among them who has waited longest.
    pub(super) fn hand_out(&mut self, now: Now, outbox: &mut Outbox) {
        if !self.opened || self.stopped {
            return;
        }
        while self.leased < CHUNKS_OUT_PER_GROUP_MAX
            && let Some(first) = self.ready.first().copied()
            && let Some((key, member)) = self
                .members
                .iter_mut()
                .filter(|(_, member)| member.joined && member.held.len() < member.chunks_in_flight)
                .min_by_key(|(_, member)| (member.held.len(), member.served))
        {
            let key = *key;
            self.ready.remove(&first);
            self.hand_outs += 1;
            assert!(self.hand_outs >> GENERATION_COUNTER_BITS == 0, "10^12 hand-outs");
            let generation = u64::from(self.epoch) << GENERATION_COUNTER_BITS | self.hand_outs;
            let lease_us = if planted(Mutant::EndLeaseEarly) { 500 } else { 1000 };
            let deadline_us = now.mono_us.saturating_add(u64::from(member.lease_ms) * lease_us);
            member.held.insert(first);
            member.served = self.hand_outs;
            self.leased += 1;
            self.timers.insert((deadline_us, first));

            let chunk = self.chunks.get_mut(&first).expect("ready chunks are open");
            debug_assert_eq!(chunk.state, ChunkState::Ready);
            chunk.state = ChunkState::Leased { member: key, generation, deadline_us };
            chunk.attempts = chunk.attempts.saturating_add(1);
            self.counters.redelivered += u64::from(chunk.attempts > 1);
            outbox.push(Output::HandOut(HandOut {
                group: self.id,
                member: key,
                first,
                last: chunk.last,
                bytes: chunk.bytes,
                attempt: chunk.attempts,
                generation,
                lease_ms: member.lease_ms,
            }));
        }
    }

    /// The hand-out has failed: the chunk rests for its backoff or `delay_ms`, whichever is longer.
    pub(super) fn fail(&mut self, now: Now, first: Offset, delay_ms: u64, outbox: &mut Outbox) {
        self.end_lease(first, outbox);
        self.note_failure(first, outbox);
        let chunk = self.chunks.get(&first).expect("failed chunks are open");
        let rest_ms = chunk.backoff_ms().max(delay_ms);
        let until_us = now.mono_us.saturating_add(rest_ms * 1000);
        self.timers.insert((until_us, first));
        self.set_state(first, ChunkState::Delayed { until_us });
    }

    pub(super) fn note_failure(&mut self, first: Offset, outbox: &mut Outbox) {
        if planted(Mutant::ForgetAttempts) {
            return;
        }
        let attempts = self.chunks.get(&first).expect("failed chunks are open").attempts;
        self.persist(&GroupRecord::Failed { first, attempts }, Pending::Noted, outbox);
    }

    /// Ends the chunk's lease, if it has one, and tells its holder.
    pub(super) fn end_lease(&mut self, first: Offset, outbox: &mut Outbox) {
        if let Some((member, generation)) = self.free_lease(first) {
            outbox.push(Output::LeaseEnded { member, first, generation });
        }
    }

    /// Forgets the chunk's lease; the caller gives the chunk another state.
    pub(super) fn free_lease(&mut self, first: Offset) -> Option<(MemberKey, u64)> {
        self.stop_timer(first);
        let chunk = self.chunks.get(&first)?;
        let ChunkState::Leased { member, generation, .. } = chunk.state else { return None };
        self.leased -= 1;
        if let Some(holder) = self.members.get_mut(&member) {
            holder.held.remove(&first);
        }
        Some((member, generation))
    }

    /// What a planted bug does: the chunks go to others while their holders work.
    pub(super) fn free_all_leases(&mut self) {
        let leased = |chunk: &Chunk| matches!(chunk.state, ChunkState::Leased { .. });
        let all: Vec<Offset> = self
            .chunks
            .iter()
            .filter(|(_, chunk)| leased(chunk))
            .map(|(first, _)| *first)
            .collect();
        for first in all {
            self.free_lease(first);
            self.set_ready(first);
        }
    }

    pub(super) fn stop_timer(&mut self, first: Offset) {
        let Some(chunk) = self.chunks.get(&first) else { return };
        match chunk.state {
            ChunkState::Leased { deadline_us: at, .. } | ChunkState::Delayed { until_us: at } => {
                self.timers.remove(&(at, first));
            }
            ChunkState::Binding | ChunkState::Ready | ChunkState::Acking => {}
        }
    }

    pub(super) fn set_state(&mut self, first: Offset, state: ChunkState) {
        self.chunks.get_mut(&first).expect("the chunk is open").state = state;
    }

    pub(super) fn set_ready(&mut self, first: Offset) {
        self.set_state(first, ChunkState::Ready);
        self.ready.insert(first);
    }

    /// Forgets a chunk that has no lease any more.
    pub(super) fn remove(&mut self, first: Offset) {
        let Some(chunk) = self.chunks.remove(&first) else { return };
        self.ready.remove(&first);
        self.binding -= usize::from(chunk.state == ChunkState::Binding);
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
        while let Some((at, first)) = self.timers.first().copied()
            && at <= now.mono_us
        {
            match self.chunks.get(&first).expect("timers belong to open chunks").state {
                ChunkState::Leased { .. } => {
                    self.counters.expired += 1;
                    self.fail(now, first, 0, outbox);
                }
                ChunkState::Delayed { .. } => {
                    self.stop_timer(first);
                    self.set_ready(first);
                }
                ChunkState::Binding | ChunkState::Ready | ChunkState::Acking => {
                    unreachable!("only leased and delayed chunks have timers")
                }
            }
        }
        self.hand_out(now, outbox);
    }
}
