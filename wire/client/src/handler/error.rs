//! What a handler says when it could not do its work.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use lanecast_wire::message::OffsetRange;

/// A handler's failure, and what is to become of the records.
///
/// Every error turns into one by `?`: it is tried again after the subscription's `retry_delay`. As
/// with other catch-all errors, that is why this one is no [`Error`] itself.
#[derive(Clone, Debug)]
pub struct HandlerError {
    pub(crate) reason: String,
    pub(crate) then: Then,
    /// Of a chunk: only these records failed.
    pub(crate) ranges: Option<Vec<OffsetRange>>,
}

/// What is to become of records that failed. Broadcast only counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Then {
    /// To whoever is free, after this long or the subscription's `retry_delay`.
    Retry(Option<Duration>),
    /// To the dead-letter topic.
    Terminate,
}

impl HandlerError {
    /// Try again, here or elsewhere.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), then: Then::Retry(None), ranges: None }
    }

    /// Try again after `delay`; one of more than an hour is an hour.
    #[must_use]
    pub fn retry_after(delay: Duration, reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), then: Then::Retry(Some(delay)), ranges: None }
    }

    /// Nobody can ever handle this: to the dead-letter topic.
    #[must_use]
    pub fn terminate(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), then: Then::Terminate, ranges: None }
    }

    /// Only these records of the chunk failed, the others are done.
    #[must_use]
    pub fn of(mut self, ranges: Vec<OffsetRange>) -> Self {
        self.ranges = Some(ranges);
        self
    }
}

impl<E: Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            reason = format!("{reason}: {cause}");
            source = cause.source();
        }
        Self::retry(reason)
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}
