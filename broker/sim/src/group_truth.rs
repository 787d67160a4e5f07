//! What the members of one group on one partition were told.
//!
//! A record is settled once: it is acked, or it is terminated or has failed too often and lies in
//! the dead-letter topic. What a member asked for and was not answered may have happened or not.

use std::collections::{BTreeMap, BTreeSet};

use lanecast_wire::message::{Lease, OffsetRange};

use crate::ranges::{Stretch, gaps, offsets, overlap, take};

/// Bits of a generation above this are the epoch of the group.
const EPOCH_SHIFT: u32 = 40;

#[derive(Debug, Default)]
pub(crate) struct GroupTruth {
    /// Bounds of all chunks, and of what was split off them.
    chunks: BTreeSet<Stretch>,
    /// By generation.
    hand_outs: BTreeMap<u64, HandedOut>,
    live: BTreeMap<Stretch, Live>,
    /// Attempts of each hand-out, by chunk and generation.
    attempts: BTreeMap<Stretch, BTreeMap<u64, u32>>,
    asks: Vec<Ask>,
    /// Failures that the broker has answered, and when; what is written after them makes them
    /// durable.
    failures: Vec<(u64, Failure)>,
    records: BTreeMap<u64, Fate>,
    /// Where the group began, as far as is known.
    start: Option<u64>,
    redelivered: u64,
    acked_chunks: u64,
}

/// What becomes of one record.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// The generation under which it was settled, which the broker has answered, and how.
    settled: Option<(u64, How)>,
    /// Somebody has asked to ack it.
    ack_asked: bool,
    /// Its last failure that is durable.
    failed: Option<(u64, u32)>,
    /// Where its dead letter lies, and when somebody saw it.
    letter: Option<(u64, u64)>,
}

/// What a holder asks of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Ack,
    Nack,
    Terminate,
}

/// Names an ask until it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskNumber(usize);

#[derive(Clone, Debug)]
struct Ask {
    how: How,
    generation: u64,
    named: Stretch,
    /// What of that the holder had not settled before.
    ranges: Vec<Stretch>,
    asked_us: u64,
}

#[derive(Clone, Debug)]
struct Failure {
    ranges: Vec<Stretch>,
    generation: u64,
    attempt: u32,
}

/// One generation.
#[derive(Clone, Debug)]
struct HandedOut {
    client: usize,
    chunk: Stretch,
    attempt: u32,
    open: Vec<Stretch>,
    /// What of that its holder has asked nothing for.
    left: Vec<Stretch>,
}

#[derive(Clone, Debug)]
struct Live {
    client: usize,
    generation: u64,
    /// What its holder has not given back.
    open: Vec<Stretch>,
    /// The lease does not end by itself before this.
    until_us: u64,
}

/// A frame of a chunk on its way to a member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leasing<'a> {
    pub(crate) client: usize,
    pub(crate) lease: &'a Lease,
    pub(crate) settled: &'a [OffsetRange],
    pub(crate) sent_us: u64,
    /// The lease began so long before the frame was sent, at most.
    pub(crate) lag_us: u64,
    /// Of the topic; 0 is without limit.
    pub(crate) max_attempts: u32,
    /// No promise has become void: what was split off was so before somebody's eyes.
    pub(crate) knows_parts: bool,
}

/// A dead letter, as far as it is about the records of one group.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    /// Where it lies in the dead-letter topic.
    pub(crate) at: u64,
    pub(crate) ranges: Vec<Stretch>,
    pub(crate) attempts: u32,
    pub(crate) reason: String,
    pub(crate) seen_us: u64,
}

impl GroupTruth {
    pub(crate) fn leased(&mut self, leasing: Leasing<'_>, check_live: bool) {
        let Leasing { client, lease, settled, sent_us, lag_us, max_attempts, knows_parts } =
            leasing;
        let chunk = (lease.chunk_first, lease.chunk_last);
        let (generation, attempt) = (lease.generation, lease.attempt);
        if let Some(known) = self.hand_outs.get(&generation) {
            let same = (known.client, known.chunk, known.attempt) == (client, chunk, attempt);
            assert!(same, "one generation, two hand-outs: {lease:?} and {known:?}");
            return;
        }
        self.check_bounds(chunk, lease, knows_parts);
        let open = gaps(chunk, settled);
        assert!(!open.is_empty(), "a settled chunk is handed out: {lease:?}");
        let over = max_attempts > 0 && attempt > max_attempts;
        assert!(!over, "more than {max_attempts} attempts: {lease:?}");
        self.redelivered += u64::from(attempt > 1);
        self.check_attempt(lease);
        let handed_out = HandedOut { client, chunk, attempt, left: open.clone(), open };
        let open = handed_out.open.clone();
        self.hand_outs.insert(generation, handed_out);
        for offset in offsets(&open) {
            let Some(fate) = self.records.get(&offset) else { continue };
            if let Some((by, how)) = fate.settled {
                assert!(
                    generation < by,
                    "{offset} handed out after its {how:?} by {by}: {lease:?}"
                );
                return;
            }
            if let Some((before, failed)) = fate.failed.filter(|(before, _)| *before < generation) {
                let counted = attempt > failed;
                assert!(counted, "attempts are forgotten: {lease:?} after {failed} as {before}");
            }
            if let Some((at, seen_us)) = fate.letter {
                let before = sent_us <= seen_us + lag_us;
                assert!(before, "{offset} handed out after its dead letter at {at}: {lease:?}");
            }
        }
        let until_us = sent_us.saturating_sub(lag_us) + u64::from(lease.lease_ms) * 1000;
        for live in self.live.values() {
            if overlap(&live.open, &open).is_none() {
                continue;
            }
            if live.generation > generation {
                return;
            }
            if check_live && live.client != client {
                let over = sent_us >= live.until_us;
                assert!(over, "two live leases at {sent_us}: {lease:?} and {live:?}");
            }
        }
        self.live.insert(chunk, Live { client, generation, open, until_us });
    }

    /// Chunks do not overlap; what was split off one lies within it.
    fn check_bounds(&mut self, chunk: Stretch, lease: &Lease, knows_parts: bool) {
        assert!(chunk.0 <= chunk.1, "{lease:?}");
        if !self.chunks.insert(chunk) {
            return;
        }
        let mut within = false;
        let around = self.chunks.iter().filter(|c| **c != chunk);
        for other in around.filter(|other| other.0 <= chunk.1 && chunk.0 <= other.1) {
            let (inner, outer) = (
                other.0 <= chunk.0 && chunk.1 <= other.1,
                chunk.0 <= other.0 && other.1 <= chunk.1,
            );
            assert!(inner || outer, "{lease:?} overlaps the chunk {other:?}");
            within |= inner;
            let known = inner || !knows_parts || self.is_part(*other);
            assert!(known, "{lease:?} holds the chunk {other:?}");
        }
        let known = !within || !knows_parts || self.is_part(chunk);
        assert!(known, "nobody has split off {lease:?}");
    }

    /// Has a nack named so much and more?
    fn is_part(&self, chunk: Stretch) -> bool {
        let mut nacks = self.asks.iter().filter(|ask| ask.how == How::Nack);
        nacks.any(|ask| ask.named.0 <= chunk.0 && chunk.1 <= ask.named.1)
    }

    /// Attempts never fall from hand-out to hand-out (what is given back by unsubscribing does not
    /// count).
    fn check_attempt(&mut self, lease: &Lease) {
        let (generation, attempt) = (lease.generation, lease.attempt);
        let known = self.attempts.entry((lease.chunk_first, lease.chunk_last)).or_default();
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
    }

    /// The holder of a generation asks to settle what of `named` it has not settled: nothing more
    /// is known of its lease on that.
    pub(crate) fn asks(
        &mut self,
        how: How,
        generation: u64,
        named: &[Stretch],
        asked_us: u64,
    ) -> AskNumber {
        let out = self.hand_outs.get_mut(&generation);
        let live = self.live.values_mut().find(|live| live.generation == generation);
        let (mut left, mut open) = (out.map(|out| &mut out.left), live.map(|live| &mut live.open));
        let mut ranges = Vec::new();
        for part in named {
            if let Some(left) = left.as_deref_mut() {
                ranges.extend(take(left, *part));
            }
            if let Some(open) = open.as_deref_mut() {
                take(open, *part);
            }
        }
        if how == How::Ack {
            for offset in offsets(&ranges) {
                self.records.entry(offset).or_default().ack_asked = true;
            }
        }
        let (first, last) = (named.first().map_or(0, |n| n.0), named.last().map_or(0, |n| n.1));
        self.asks.push(Ask { how, generation, named: (first, last), ranges, asked_us });
        AskNumber(self.asks.len() - 1)
    }

    /// The broker has done what was asked.
    pub(crate) fn done(&mut self, number: AskNumber, now_us: u64) {
        // Unless all promises became void meanwhile.
        let Some(ask) = self.asks.get(number.0).cloned() else { return };
        let Ask { how, generation, named, ranges, asked_us } = ask;
        if how == How::Nack {
            let attempt = self.hand_outs.get(&generation).map_or(0, |out| out.attempt);
            self.failures.push((now_us, Failure { ranges, generation, attempt }));
            return;
        }
        self.make_failures_durable(generation, asked_us);
        for (other, out) in self.hand_outs.range(generation + 1..) {
            let again = overlap(&out.open, &ranges);
            assert!(again.is_none(), "{how:?} of {named:?} by {generation} after {other}: {out:?}");
        }
        for offset in offsets(&ranges) {
            let fate = self.records.entry(offset).or_default();
            if let Some((by, how)) = fate.settled {
                panic!("{offset} is settled twice, by {by} ({how:?}) and by {generation}");
            }
            fate.settled = Some((generation, how));
            let dead = fate.letter.filter(|_| how == How::Ack);
            assert!(dead.is_none(), "{offset} is acked, and lies in a dead letter at {dead:?}");
        }
        let whole = self.hand_outs.get(&generation).is_some_and(|out| out.left.is_empty());
        self.acked_chunks += u64::from(whole && how == How::Ack);
    }

    /// What the group wrote after a failure, in the same epoch, has made it durable.
    fn make_failures_durable(&mut self, generation: u64, asked_us: u64) {
        let epoch = generation >> EPOCH_SHIFT;
        for (at_us, failure) in std::mem::take(&mut self.failures) {
            if failure.generation >> EPOCH_SHIFT != epoch {
                continue;
            }
            if at_us >= asked_us {
                self.failures.push((at_us, failure));
                continue;
            }
            for offset in offsets(&failure.ranges) {
                let fate = self.records.entry(offset).or_default();
                fate.failed = Some((failure.generation, failure.attempt));
            }
        }
    }

    /// Somebody has read a dead letter.
    pub(crate) fn letter(&mut self, letter: &Letter, max_attempts: u32) {
        let Letter { at, ranges, attempts, reason, seen_us } = letter;
        let by = self.check_reason(letter, max_attempts);
        for offset in offsets(ranges) {
            let fate = self.records.entry(offset).or_default();
            if let Some((known, _)) = fate.letter {
                assert_eq!(known, *at, "{offset} has two dead letters, {reason:?}");
                continue;
            }
            fate.letter = Some((*at, *seen_us));
            let acked = fate.settled.filter(|(_, how)| *how == How::Ack);
            assert!(acked.is_none(), "{offset} is acked by {acked:?}, and dead: {letter:?}");
        }
        let Some(by) = by else { return };
        for (later, out) in self.hand_outs.range(by + 1..) {
            let again = overlap(&out.open, ranges);
            assert!(again.is_none(), "handed out as {later} ({attempts}) after {letter:?}");
        }
    }

    /// The generation that a letter's reason names, if it does. It must have asked for that.
    fn check_reason(&self, letter: &Letter, max_attempts: u32) -> Option<u64> {
        let Letter { ranges, attempts, reason, .. } = letter;
        let words = reason.split_once(' ').and_then(|(word, by)| Some((word, by.parse().ok()?)));
        let Some((word, generation)) = words else {
            assert_eq!(*attempts, max_attempts, "too early or too late: {letter:?}");
            return None;
        };
        let how = if word == "terminate" { How::Terminate } else { How::Nack };
        if how == How::Nack {
            assert_eq!(*attempts, max_attempts, "too early or too late: {letter:?}");
        }
        let out = self.hand_outs.get(&generation);
        let attempt = out.map(|out| out.attempt);
        assert_eq!(attempt, Some(*attempts), "attempts of another hand-out: {letter:?}");
        let mut asked = Vec::new();
        for ask in self.asks.iter().filter(|a| a.generation == generation && a.how == how) {
            // A nack takes what an earlier ask was refused for as well.
            match how {
                How::Nack => asked.push(ask.named),
                How::Ack | How::Terminate => asked.extend(ask.ranges.iter().copied()),
            }
        }
        let mut strange = ranges.clone();
        for part in asked {
            take(&mut strange, part);
        }
        assert!(strange.is_empty(), "nobody has asked for {strange:?} of {letter:?}");
        Some(generation)
    }

    /// The broker says where the group goes on.
    pub(crate) fn stands_at(&mut self, next: u64) {
        self.start.get_or_insert(next);
    }

    /// The first record that the group has to do with.
    pub(crate) fn start(&self) -> u64 {
        let first = self.chunks.first().map(|(first, _)| *first);
        self.start.into_iter().chain(first).min().unwrap_or(0)
    }

    /// The broker took an extension that was asked for at `asked_us`.
    pub(crate) fn extended(&mut self, generation: u64, asked_us: u64, lease_ms: u32) {
        if let Some(live) = self.live.values_mut().find(|live| live.generation == generation) {
            live.until_us = asked_us + u64::from(lease_ms) * 1000;
        }
    }

    pub(crate) fn released(&mut self, client: usize) {
        self.live.retain(|_, live| live.client != client);
    }

    /// Is the record in the dead-letter topic?
    pub(crate) fn is_dead(&self, offset: u64) -> bool {
        self.records.get(&offset).is_some_and(|fate| fate.letter.is_some())
    }

    /// Records below `end` that are in no dead letter, and that were terminated or that nobody has
    /// asked to ack.
    pub(crate) fn unsettled(&self, end: u64) -> Vec<u64> {
        let unsettled = |offset: &u64| {
            let fate = self.records.get(offset).copied().unwrap_or_default();
            let terminated = matches!(fate.settled, Some((_, How::Terminate)));
            fate.letter.is_none() && (terminated || !fate.ack_asked)
        };
        (self.start()..end).filter(unsettled).collect()
    }

    pub(crate) fn acked_chunks(&self) -> u64 {
        self.acked_chunks
    }

    pub(crate) fn redelivered(&self) -> u64 {
        self.redelivered
    }

    pub(crate) fn dead_records(&self) -> u64 {
        self.records.values().filter(|fate| fate.letter.is_some()).count() as u64
    }
}
