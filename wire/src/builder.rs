//! What a producer session needs from something that gathers records into a batch body.

use crate::Slot;

/// What a sealed body says of itself, for the batch header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBody {
    pub body: Vec<u8>,
    pub schema: u8,
    pub record_count: u32,
    pub min_time_ms: i64,
    pub max_time_ms: i64,
    /// Of the records' keys, as [`SummaryBuilder`](crate::summary::SummaryBuilder) makes it; empty:
    /// none.
    pub summary: Vec<u8>,
}

/// Gathers records into the body of one batch. Telemetry and generic messages are the two users.
pub trait BodyBuilder {
    /// One record as the caller has it.
    type Record<'a>;

    /// An empty builder.
    fn empty() -> Self;

    /// The bytes whose hash picks the record's partition.
    fn key<'a>(record: &Self::Record<'a>) -> &'a [u8];

    /// The slot of that key. A builder that sees the same keys again and again may remember it.
    fn slot(record: &Self::Record<'_>) -> Slot {
        Slot::of_key(Self::key(record))
    }

    /// Takes one record. `Err` gives the reason why no batch can ever hold it.
    ///
    /// # Errors
    /// The record breaks a limit of its schema; the builder is unchanged.
    fn push(&mut self, record: &Self::Record<'_>) -> Result<(), RecordRefused>;

    fn record_count(&self) -> u32;

    /// Upper estimate of the sealed body's size in bytes.
    fn body_bytes(&self) -> usize;

    /// Turns what was pushed into a body and empties the builder; it may keep its allocations.
    fn seal(&mut self) -> SealedBody;
}

/// A record that no batch can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct RecordRefused {
    pub field: &'static str,
    pub reason: String,
}
