//! Records that the store will never take.

use core::fmt;

use bytes::Bytes;

/// Records of one batch that go to the dead-letter topic, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// First and last offset among them; there may be good records between.
    pub first: u64,
    pub last: u64,
    pub records: u32,
    pub reason: Reason,
    pub payload: Payload,
}

/// What is kept of refused records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A telemetry body that holds just these records.
    Telemetry(Bytes),
    /// The bytes as they came: a whole batch, or what stood where one should be.
    Raw(Bytes),
}

impl Payload {
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        match self {
            Payload::Telemetry(bytes) | Payload::Raw(bytes) => bytes,
        }
    }

    /// Its name in a dead letter's headers.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Payload::Telemetry(_) => "telemetry",
            Payload::Raw(_) => "batch",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The time lies before what the raw table keeps: the row would vanish at once.
    TooOld { retention_days: u32 },
    /// The time lies too far ahead of when the broker appended the record.
    TooNew,
    /// Not a telemetry batch.
    InvalidBatch(String),
    /// The store said that it will never take it.
    Store(String),
}

impl Reason {
    /// A short name that counters and filters can go by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Reason::TooOld { .. } => "too_old",
            Reason::TooNew => "too_new",
            Reason::InvalidBatch(_) => "invalid_batch",
            Reason::Store(_) => "store",
        }
    }

    /// Part of a dead letter's id; never given to another reason.
    pub(crate) fn number(&self) -> u16 {
        match self {
            Reason::TooOld { .. } => 1,
            Reason::TooNew => 2,
            Reason::InvalidBatch(_) => 3,
            Reason::Store(_) => 4,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::TooOld { retention_days } => {
                write!(f, "older than the {retention_days} days that the store keeps")
            }
            Reason::TooNew => {
                let seconds = crate::limits::AHEAD_MAX.as_secs();
                write!(f, "more than {seconds} s ahead of the broker's clock")
            }
            Reason::InvalidBatch(why) => write!(f, "no telemetry batch: {why}"),
            Reason::Store(why) => f.write_str(why),
        }
    }
}
