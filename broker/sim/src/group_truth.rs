//! What the members of one group on one partition were told.

use std::collections::BTreeMap;

use lanecast_wire::message::Lease;

/// A lease begins at most this long before its first frame is sent: rings, polls, catch-up reads.
pub(crate) const HAND_OUT_LAG_US: u64 = 400_000;

#[derive(Debug, Default)]
pub(crate) struct GroupTruth {
    /// Last offsets of all chunks, by first.
    bounds: BTreeMap<u64, u64>,
    hand_outs: BTreeMap<u64, HandedOut>,
    /// The generation by which a chunk was acked.
    acked: BTreeMap<u64, u64>,
    /// Chunks of which a member got every record.
    delivered: BTreeMap<u64, u64>,
    live: BTreeMap<u64, Live>,
    redelivered: u64,
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
    pub(crate) fn leased(&mut self, client: usize, lease: &Lease, sent_us: u64, check_live: bool) {
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
        self.hand_outs.insert(lease.generation, HandedOut { client, first, attempt });
        if let Some(by) = self.acked.get(&first) {
            assert!(lease.generation < *by, "handed out after its ack by {by}: {lease:?}");
            return;
        }
        let until_us = (sent_us + u64::from(lease.lease_ms) * 1000).saturating_sub(HAND_OUT_LAG_US);
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

    /// The broker answered that the ack is durable.
    pub(crate) fn acked(&mut self, first: u64, generation: u64) {
        let before = self.acked.insert(first, generation);
        assert_eq!(before, None, "chunk {first} is acked twice, now by {generation}");
        for (other, out) in self.hand_outs.range(generation + 1..) {
            assert!(out.first != first, "acked by {generation} after a hand-out as {other}");
        }
    }

    pub(crate) fn delivered(&mut self, first: u64, last: u64) {
        self.delivered.insert(first, last);
    }

    pub(crate) fn check_covered(&self, end: u64, of: &str) {
        let mut upto = 0;
        for (first, last) in &self.delivered {
            assert_eq!(*first, upto, "records of {of} were never delivered");
            upto = last + 1;
        }
        assert_eq!(upto, end, "the last records of {of} were never delivered");
    }

    pub(crate) fn acked_chunks(&self) -> u64 {
        self.acked.len() as u64
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }
}
