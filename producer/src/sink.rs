//! Where samples go: a topic of a broker, or a CSV file.

use lanecast_telemetry::Sample;
use lanecast_wire::builder::RecordRefused;
use serde::Serialize;

/// Takes samples. Implemented by [`TopicSink`](crate::TopicSink) and [`CsvFile`](crate::CsvFile).
pub trait Sink {
    type Error: core::error::Error + Send + Sync + 'static;

    /// Takes one sample, and waits for as long as there is no room for it.
    fn push(
        &mut self,
        sample: &Sample<'_>,
    ) -> impl Future<Output = Result<Pushed, Self::Error>> + Send;

    /// Lets the sink do what is due while there is nothing to push. May never complete.
    fn idle(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Completes when everything pushed is as safe as the sink makes it.
    fn flush(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    fn stats(&self) -> SinkStats;
}

/// What became of a pushed sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    Taken,
    /// It breaks a limit, and no retry would help.
    Refused(RecordRefused),
}

/// Counts since the sink was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SinkStats {
    pub acknowledged: u64,
    /// Dropped by the broker, as the topic does when it is full.
    pub dropped: u64,
    /// Acknowledged as having been there before.
    pub duplicates: u64,
    pub batches: u64,
    pub bytes: u64,
    pub retries: u64,
    /// Batches that may be in the topic twice, as the broker had forgotten what it has of them.
    pub doubtful: u64,
    pub reconnects: u64,
}
