//! Records that the store will never take.

use core::fmt;

use lanecast_client::OffsetRange;

/// Records of one chunk that go to the dead-letter topic, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Rising, without overlap.
    pub ranges: Vec<OffsetRange>,
    pub reason: Reason,
}

impl Refused {
    #[must_use]
    pub fn records(&self) -> u64 {
        records(&self.ranges)
    }
}

pub(crate) fn records(ranges: &[OffsetRange]) -> u64 {
    ranges.iter().map(|range| range.last - range.first + 1).sum()
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
}

/// What stands in the dead letter: the name, and what it means.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
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
