//! One chunk from hand-out to acknowledgement.

use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use lanecast_client::{AckError, Chunk, Extension, OffsetRange};
use lanecast_store::InsertToken;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::limits;
use crate::refused::{Reason, Refused, records};
use crate::sift::within;
use crate::sink::Sink;
use crate::stats::Stats;

/// What every chunk is worked on with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) sink: Sink,
    /// Inserts that may be under way.
    pub(crate) slots: Semaphore,
    pub(crate) backoff: Backoff,
    pub(crate) lease: Duration,
    pub(crate) stats: Arc<Stats>,
}

/// How the work on a chunk ended.
enum End {
    /// So many rows of it are in the store and the rest is dead-lettered, or the broker left
    /// questions about that unanswered.
    Settled(Result<u64, AckError>),
    LeaseLost,
    /// The consumer stops and could not finish in time.
    GivenUp,
}

/// What is known of a chunk's lease while it is worked on.
struct Hold {
    /// Until when the broker said that it holds; `None` before it has said so.
    ends: watch::Sender<Option<Instant>>,
    /// The last open records are being terminated: the lease ends with that, before the answer.
    last_words: AtomicBool,
}

impl Worker {
    /// Terminates what cannot be stored of a chunk, stores the rest, and acknowledges it, in this
    /// order. Keeps the lease alive meanwhile.
    pub(crate) async fn work(&self, mut chunk: Chunk, mut given_up: watch::Receiver<bool>) {
        let bytes = chunk.payloads.iter().map(|payload| payload.len() as u64).sum();
        let _in_flight = self.stats.chunk_received(bytes, chunk.attempt);
        self.stats.seen(chunk.partition, chunk.first.0, chunk.high_watermark.0);
        let token = InsertToken {
            topic: chunk.topic.to_string(),
            partition: chunk.partition,
            first: chunk.first.0,
            last: chunk.last.0,
            appended_ms: chunk.appended_ms,
        };
        let hold = Hold { ends: watch::Sender::new(None), last_words: AtomicBool::new(false) };
        let (extension, deadline) = (chunk.extension(self.lease), chunk.deadline());
        // In this order: one that was frozen sees that its time is over before it goes on.
        let end = tokio::select! {
            biased;
            () = over(&hold) => End::LeaseLost,
            () = self.lease_lost(&extension, deadline, &hold) => End::LeaseLost,
            _ = given_up.wait_for(|given_up| *given_up) => End::GivenUp,
            settled = self.settle(&token, &mut chunk, &hold) => End::Settled(settled),
        };
        match end {
            End::Settled(Ok(rows)) => self.acknowledge(chunk, &token, rows).await,
            End::Settled(Err(error)) => {
                tracing::warn!(%token, %error, "leaving the chunk to its next holder");
                self.stats.lease_lost();
            }
            End::LeaseLost => {
                tracing::warn!(%token, "lease lost, leaving the chunk to its next holder");
                self.stats.lease_lost();
            }
            // It returns to the group when the consumer leaves, and that counts as no failed attempt.
            End::GivenUp => self.stats.chunk_handed_back(),
        }
    }

    async fn acknowledge(&self, chunk: Chunk, token: &InsertToken, rows: u64) {
        // Counted before: whoever sees the acknowledgement at the broker finds it counted here.
        self.stats.chunk_done(token, rows);
        match chunk.ack().await {
            Ok(()) => {}
            // The broker mostly has it; if not, the chunk comes again and is not counted again.
            Err(error @ AckError::Unknown) => {
                tracing::warn!(%token, %error, "chunk stored, acknowledgement uncertain");
                self.stats.chunk_uncertain(token);
            }
            // It is stored all the same; its next holder repeats the insert to no effect, and
            // counts it.
            Err(error @ (AckError::LeaseLost | AckError::Refused { .. } | AckError::Closed)) => {
                tracing::warn!(%token, %error, "chunk stored but not acknowledged");
                self.stats.chunk_undone(token, rows);
                self.stats.lease_lost();
            }
        }
    }

    /// See the crate's page for why it is done in this order. Returns the rows that are stored.
    async fn settle(
        &self,
        token: &InsertToken,
        chunk: &mut Chunk,
        hold: &Hold,
    ) -> Result<u64, AckError> {
        if hold.ends.subscribe().wait_for(Option::is_some).await.is_err() {
            // The lease is lost, which ends this future next.
            return core::future::pending().await;
        }
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        self.sink.flowing().await;
        let payloads = core::mem::take(&mut chunk.payloads);
        let open = self.undamaged(token, chunk);
        let sifted = self.sink.sift(token.partition, open, payloads).await;
        let ranges: usize = sifted.refused.iter().map(|some| some.ranges.len()).sum();
        let few = ranges <= limits::REFUSED_RANGES_MAX;
        if few {
            for Refused { ranges, reason } in &sifted.refused {
                self.terminate(token, chunk, ranges, reason, hold).await?;
            }
        }
        if let Err(error) = self.sink.insert(token, &sifted).await {
            tracing::warn!(%token, %error, "chunk refused by the store");
            let all = chunk.open_ranges().to_vec();
            self.terminate(token, chunk, &all, &Reason::Store(error.to_string()), hold).await?;
            return Ok(0);
        }
        if !few {
            self.terminate_many(token, chunk, &sifted.refused, hold).await?;
        }
        Ok(sifted.rows)
    }

    /// The open records that there are bytes of. The others are settled with them: nobody will
    /// ever get them.
    fn undamaged(&self, token: &InsertToken, chunk: &Chunk) -> Vec<OffsetRange> {
        let damaged = chunk.damaged.iter();
        let damaged: Vec<_> = damaged
            .flat_map(|range| within(chunk.open_ranges(), range.first, range.last))
            .collect();
        if !damaged.is_empty() {
            let records = records(&damaged);
            tracing::warn!(%token, records, "records are damaged at the broker");
            self.stats.damaged(records);
        }
        without(chunk.open_ranges(), &damaged)
    }

    /// More stretches of refused records than the broker remembers of one chunk: from front to back,
    /// each time with all that lies before.
    async fn terminate_many(
        &self,
        token: &InsertToken,
        chunk: &mut Chunk,
        refused: &[Refused],
        hold: &Hold,
    ) -> Result<(), AckError> {
        let stretches = |some: &'_ Refused| -> Vec<(OffsetRange, Reason)> {
            some.ranges.iter().map(|range| (*range, some.reason.clone())).collect()
        };
        let mut stretches: Vec<_> = refused.iter().flat_map(stretches).collect();
        stretches.sort_unstable_by_key(|(range, _)| range.first);
        let mut windows = stretches.chunks(limits::REFUSED_RANGES_MAX).peekable();
        while let Some(window) = windows.next() {
            for Refused { reason, .. } in refused {
                let of_reason = window.iter().filter(|(_, of)| of == reason);
                let ranges: Vec<_> = of_reason.map(|(range, _)| *range).collect();
                if !ranges.is_empty() {
                    self.terminate(token, chunk, &ranges, reason, hold).await?;
                }
            }
            // What is behind the last of them is acknowledged with the chunk.
            if let (Some((end, _)), Some(_)) = (window.last(), windows.peek()) {
                chunk.ack_range(OffsetRange { first: chunk.first.0, last: end.last }).await?;
            }
        }
        Ok(())
    }

    /// Asks until the broker has put the records into the dead-letter topic, or the lease is lost.
    async fn terminate(
        &self,
        token: &InsertToken,
        chunk: &mut Chunk,
        ranges: &[OffsetRange],
        reason: &Reason,
        hold: &Hold,
    ) -> Result<(), AckError> {
        let records = records(ranges);
        if records == chunk.open_records() {
            hold.last_words.store(true, Ordering::Relaxed);
        }
        let words = reason.to_string();
        let mut attempt = 0_u32;
        loop {
            match chunk.terminate(ranges, &words).await {
                Ok(()) => break,
                Err(error @ AckError::Refused { .. }) => {
                    hold.last_words.store(false, Ordering::Relaxed);
                    attempt += 1;
                    self.stats.error(None, "dead_letter");
                    if attempt.is_power_of_two() {
                        tracing::warn!(%token, attempt, %error, "records not dead-lettered, trying again");
                    }
                    tokio::time::sleep(self.backoff.wait(attempt)).await;
                }
                Err(error @ (AckError::LeaseLost | AckError::Unknown | AckError::Closed)) => {
                    return Err(error);
                }
            }
        }
        self.stats.dead_lettered(reason.name(), records);
        tracing::warn!(%token, records, %reason, "records dead-lettered");
        Ok(())
    }

    /// Extends the lease again and again, the first time at once; completes when that fails because it
    /// is lost, or when it is over without an answer.
    ///
    /// A chunk may have waited in a socket while this process was frozen, and be somebody else's by
    /// now, stored long ago under a token that the store has forgotten since. So nothing is stored
    /// before the broker has said that the lease holds, nor after the time that it then has.
    async fn lease_lost(&self, extension: &Extension, mut ends: Instant, hold: &Hold) {
        loop {
            match tokio::time::timeout_at(ends, extension.send()).await {
                Ok(Ok(until)) => {
                    self.stats.lease_extended();
                    ends = until;
                    hold.ends.send_replace(Some(ends));
                }
                Ok(Err(AckError::LeaseLost)) | Err(_) => {
                    if hold.last_words.load(Ordering::Relaxed) {
                        return core::future::pending().await;
                    }
                    return;
                }
                // The connection broke or the broker is busy: once more, as long as there is time.
                Ok(Err(
                    error @ (AckError::Unknown | AckError::Refused { .. } | AckError::Closed),
                )) => tracing::debug!(%error, "lease not extended"),
            }
            let next = Instant::now() + self.lease / limits::LEASE_EXTEND_PART;
            tokio::time::sleep_until(next.min(ends)).await;
        }
    }
}

/// What is in the first and not in the second.
fn without(open: &[OffsetRange], gone: &[OffsetRange]) -> Vec<OffsetRange> {
    let mut left = Vec::new();
    for range in open {
        let mut first = range.first;
        for hole in within(gone, range.first, range.last) {
            if hole.first > first {
                left.push(OffsetRange { first, last: hole.first - 1 });
            }
            first = hole.last + 1;
        }
        if first <= range.last {
            left.push(OffsetRange { first, last: range.last });
        }
    }
    left
}

/// Ready, whenever it is polled, from the time on that the lease is over. Nothing wakes it then:
/// [`Worker::lease_lost`] does.
async fn over(hold: &Hold) {
    core::future::poll_fn(|_| match *hold.ends.borrow() {
        Some(ends) if ends <= Instant::now() && !hold.last_words.load(Ordering::Relaxed) => {
            Poll::Ready(())
        }
        Some(_) | None => Poll::Pending,
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_taken_out_of_what_is_open() {
        let ranges = |of: &[(u64, u64)]| -> Vec<OffsetRange> {
            of.iter().map(|(first, last)| OffsetRange { first: *first, last: *last }).collect()
        };
        let open = ranges(&[(0, 9), (20, 29), (40, 49)]);
        let gone = ranges(&[(0, 2), (5, 5), (8, 30)]);
        assert_eq!(without(&open, &gone), ranges(&[(3, 4), (6, 7), (40, 49)]));
        assert_eq!(without(&open, &[]), open);
    }
}
