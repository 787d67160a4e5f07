//! One chunk from hand-out to acknowledgement.

use core::task::Poll;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use lanecast_client::{AckError, Chunk};
use lanecast_store::InsertToken;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::dead_letter::DeadLetters;
use crate::limits;
use crate::refused::Refused;
use crate::sink::{Outcome, Sink};
use crate::stats::Stats;

/// What every chunk is worked on with.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) sink: Sink,
    pub(crate) dead_letters: DeadLetters,
    /// Inserts that may be under way.
    pub(crate) slots: Semaphore,
    pub(crate) backoff: Backoff,
    pub(crate) lease: Duration,
    pub(crate) stats: Arc<Stats>,
}

/// How the work on a chunk ended.
enum End {
    /// All of it is in the store or in the dead-letter topic.
    Settled(Outcome),
    LeaseLost,
    /// The consumer stops and could not finish in time.
    GivenUp,
}

impl Worker {
    /// Stores a chunk, dead-letters what cannot be stored, and acknowledges it, in this order: what
    /// is acknowledged is in one of the two places. Keeps the lease alive meanwhile.
    pub(crate) async fn work(&self, mut chunk: Chunk, mut given_up: watch::Receiver<bool>) {
        let payloads = core::mem::take(&mut chunk.payloads);
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
        let _in_flight = self.stats.chunk_received(bytes, chunk.attempt);
        self.stats.seen(chunk.partition, chunk.first.0, chunk.high_watermark.0);
        let token = InsertToken {
            topic: chunk.topic.to_string(),
            partition: chunk.partition,
            first: chunk.first.0,
            last: chunk.last.0,
            appended_ms: chunk.appended_ms,
        };
        let (held, holds) = watch::channel(None);
        // In this order: one that was frozen sees that its time is over before it goes on.
        let end = tokio::select! {
            biased;
            () = over(&holds) => End::LeaseLost,
            () = self.lease_lost(&mut chunk, &held) => End::LeaseLost,
            _ = given_up.wait_for(|given_up| *given_up) => End::GivenUp,
            outcome = self.settle(&token, &payloads, holds.clone()) => End::Settled(outcome),
        };
        match end {
            End::Settled(outcome) => self.acknowledge(chunk, &token, &outcome).await,
            End::LeaseLost => {
                tracing::warn!(%token, "lease lost, leaving the chunk to its next holder");
                self.stats.lease_lost();
            }
            End::GivenUp => {
                self.stats.chunk_handed_back();
                if let Err(error) = chunk.nack(limits::NACK_DELAY, "consumer stops").await {
                    tracing::debug!(%token, %error, "chunk not handed back");
                }
            }
        }
    }

    async fn acknowledge(&self, chunk: Chunk, token: &InsertToken, outcome: &Outcome) {
        // Counted before: whoever sees the acknowledgement at the broker finds it counted here.
        self.stats.chunk_done(token, outcome);
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
                self.stats.chunk_undone(token, outcome);
                self.stats.lease_lost();
            }
        }
    }

    async fn settle(
        &self,
        token: &InsertToken,
        payloads: &[Bytes],
        mut holds: watch::Receiver<Option<Instant>>,
    ) -> Outcome {
        if holds.wait_for(Option::is_some).await.is_err() {
            // The lease is lost, which ends this future next.
            return core::future::pending().await;
        }
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        self.sink.flowing().await;
        let outcome = self.sink.put(token, payloads).await;
        if let Some(Refused { reason, .. }) = outcome.refused.first() {
            self.bury(token, &outcome.refused).await;
            let records: u64 = outcome.refused.iter().map(|some| u64::from(some.records)).sum();
            tracing::warn!(%token, records, %reason, "records dead-lettered");
        }
        outcome
    }

    /// Writes dead letters until they are durable.
    async fn bury(&self, token: &InsertToken, refused: &[Refused]) {
        let mut attempt = 0_u32;
        while let Err(error) = self.dead_letters.write(token, refused).await {
            attempt += 1;
            self.stats.error(None, "dead_letter");
            if attempt.is_power_of_two() {
                tracing::warn!(%token, attempt, %error, "dead letters not written, trying again");
            }
            tokio::time::sleep(self.backoff.wait(attempt)).await;
        }
    }

    /// Extends the lease again and again, the first time at once; completes when that fails because it
    /// is lost, or when it is over without an answer.
    ///
    /// A chunk may have waited in a socket while this process was frozen, and be somebody else's by
    /// now, stored long ago under a token that the store has forgotten since. So nothing is stored
    /// before the broker has said that the lease holds, nor after the time that it then has.
    async fn lease_lost(&self, chunk: &mut Chunk, held: &watch::Sender<Option<Instant>>) {
        let mut ends = chunk.deadline();
        loop {
            match tokio::time::timeout_at(ends, chunk.extend(self.lease)).await {
                Ok(Ok(())) => {
                    self.stats.lease_extended();
                    ends = chunk.deadline();
                    held.send_replace(Some(ends));
                }
                Ok(Err(AckError::LeaseLost)) | Err(_) => return,
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

/// Ready, whenever it is polled, from the time on that the lease is over. Nothing wakes it then:
/// [`Worker::lease_lost`] does.
async fn over(holds: &watch::Receiver<Option<Instant>>) {
    core::future::poll_fn(|_| match *holds.borrow() {
        Some(ends) if ends <= Instant::now() => Poll::Ready(()),
        Some(_) | None => Poll::Pending,
    })
    .await;
}
