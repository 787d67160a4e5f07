//! What the members of one group on one partition were told.

use std::collections::BTreeMap;

use lanecast_wire::message::Lease;

/// Bits of a generation above this are the epoch of the group.
const EPOCH_SHIFT: u32 = 40;

#[derive(Debug, Default)]
pub(crate) struct GroupTruth {
    /// Last offsets of all chunks, by first.
    bounds: BTreeMap<u64, u64>,
    hand_outs: BTreeMap<u64, HandedOut>,
    /// The generation by which a chunk was acked.
    acked: BTreeMap<u64, u64>,
    live: BTreeMap<u64, Live>,
    /// Attempts of each hand-out, by chunk and generation.
    attempts: BTreeMap<u64, BTreeMap<u64, u32>>,
    /// Failures that the broker has answered, and when; what is written after them makes them
    /// durable.
    failures: Vec<(u64, Failure)>,
    durable_failures: BTreeMap<u64, Failure>,
    /// Where the group began, as far as is known.
    start: Option<u64>,
    redelivered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Failure {
    first: u64,
    generation: u64,
    attempt: u32,
}

/// One generation.
#[derive(Clone, Copy, Debug)]
struct HandedOut {
    client: usize,
    first: u64,
    attempt: u32,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    client: usize,
    generation: u64,
    /// The lease does not end by itself before this.
    until_us: u64,
}

impl GroupTruth {
    /// A frame of a chunk, sent at `sent_us`; its lease began at `began_us` at the earliest.
    pub(crate) fn leased(
        &mut self,
        client: usize,
        lease: &Lease,
        began_us: u64,
        sent_us: u64,
        check_live: bool,
    ) {
        let (first, last) = (lease.chunk_first, lease.chunk_last);
        assert!(first <= last, "{lease:?}");
        let known = *self.bounds.entry(first).or_insert(last);
        assert_eq!(known, last, "the bounds of a chunk have changed: {lease:?}");
        if let Some((below, end)) = self.bounds.range(..first).next_back() {
            assert!(*end < first, "{lease:?} overlaps the chunk {below}-{end}");
        }
        if let Some((above, end)) = self.bounds.range(first + 1..).next() {
            assert!(*above > last, "{lease:?} overlaps the chunk {above}-{end}");
        }
        if let Some(known) = self.hand_outs.get(&lease.generation) {
            let same = (known.client, known.first, known.attempt) == (client, first, lease.attempt);
            assert!(same, "one generation, two hand-outs: {lease:?} and {known:?}");
            return;
        }
        let attempt = lease.attempt;
        self.redelivered += u64::from(attempt > 1);
        self.check_attempt(lease);
        self.hand_outs.insert(lease.generation, HandedOut { client, first, attempt });
        if let Some(by) = self.acked.get(&first) {
            assert!(lease.generation < *by, "handed out after its ack by {by}: {lease:?}");
            return;
        }
        let until_us = began_us + u64::from(lease.lease_ms) * 1000;
        match self.live.get(&first) {
            Some(live) if live.generation > lease.generation => return,
            Some(live) if check_live && live.client != client => {
                let over = sent_us >= live.until_us;
                assert!(over, "two live leases at {sent_us}: {lease:?} and {live:?}");
            }
            Some(_) | None => {}
        }
        self.live.insert(first, Live { client, generation: lease.generation, until_us });
    }

    /// Attempts never fall from hand-out to hand-out (what is given back by unsubscribing does not
    /// count), and what is known to be durable of them is not forgotten by a restart.
    fn check_attempt(&mut self, lease: &Lease) {
        let (generation, attempt) = (lease.generation, lease.attempt);
        let known = self.attempts.entry(lease.chunk_first).or_default();
        let epoch = generation >> EPOCH_SHIFT;
        if let Some((before, count)) = known.range(..generation).next_back()
            && before >> EPOCH_SHIFT == epoch
        {
            assert!(attempt >= *count, "{lease:?} after attempt {count} as {before}");
        }
        if let Some((after, count)) = known.range(generation + 1..).next()
            && after >> EPOCH_SHIFT == epoch
        {
            assert!(attempt <= *count, "{lease:?} before attempt {count} as {after}");
        }
        known.insert(generation, attempt);
        if let Some(failure) = self.durable_failures.get(&lease.chunk_first)
            && failure.generation < generation
        {
            let counted = attempt > failure.attempt;
            assert!(counted, "attempts are forgotten: {lease:?} after {failure:?}");
        }
    }

    /// The broker has taken a nack.
    pub(crate) fn failed(&mut self, first: u64, generation: u64, attempt: u32, at_us: u64) {
        self.failures.push((at_us, Failure { first, generation, attempt }));
    }

    /// The broker says where the group goes on.
    pub(crate) fn stands_at(&mut self, next: u64) {
        self.start.get_or_insert(next);
    }

    /// The first record that the group has to do with.
    pub(crate) fn start(&self) -> u64 {
        let first = self.bounds.first_key_value().map(|(first, _)| *first);
        self.start.into_iter().chain(first).min().unwrap_or(0)
    }

    /// The broker took an extension that was asked for at `asked_us`.
    pub(crate) fn extended(&mut self, first: u64, generation: u64, asked_us: u64, lease_ms: u32) {
        if let Some(live) = self.live.get_mut(&first)
            && live.generation == generation
        {
            live.until_us = asked_us + u64::from(lease_ms) * 1000;
        }
    }

    /// The holder has given the chunk back, or asks for it: nothing more is known of the lease.
    pub(crate) fn settled(&mut self, first: u64, generation: u64) {
        if self.live.get(&first).is_some_and(|live| live.generation == generation) {
            self.live.remove(&first);
        }
    }

    pub(crate) fn released(&mut self, client: usize) {
        self.live.retain(|_, live| live.client != client);
    }

    /// The broker answered that the ack, asked for at `asked_us`, is durable: so is everything that
    /// the group had written before in the same epoch.
    pub(crate) fn acked(&mut self, first: u64, generation: u64, asked_us: u64) {
        let (durable, rest) = std::mem::take(&mut self.failures)
            .into_iter()
            .filter(|(_, failure)| failure.generation >> EPOCH_SHIFT == generation >> EPOCH_SHIFT)
            .partition::<Vec<_>, _>(|(at_us, _)| *at_us < asked_us);
        self.failures = rest;
        for (_, failure) in durable {
            self.durable_failures.insert(failure.first, failure);
        }
        let before = self.acked.insert(first, generation);
        assert_eq!(before, None, "chunk {first} is acked twice, now by {generation}");
        for (other, out) in self.hand_outs.range(generation + 1..) {
            assert!(out.first != first, "acked by {generation} after a hand-out as {other}");
        }
    }

    pub(crate) fn acked_chunks(&self) -> u64 {
        self.acked.len() as u64
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }
}
