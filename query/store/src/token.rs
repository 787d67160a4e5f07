//! The name of one chunk's insert.

use core::fmt;

/// Names the insert of one chunk: `topic/partition/first-last/appended`.
///
/// The bounds of a chunk never change, whoever gets it next and also over a restart, so every
/// attempt to store it carries the same token, and ClickHouse drops all but the first.
///
/// Offsets alone are not enough: a topic in memory begins again at 0 with each start of its broker,
/// and so does one whose log was lost or moved away, while ClickHouse remembers the old tokens. The
/// time that the broker stamped on the chunk's newest batch, which it remembers with the bounds, tells
/// such chunks apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsertToken {
    pub topic: String,
    pub partition: u32,
    /// First and last offset of the chunk, both included.
    pub first: u64,
    pub last: u64,
    /// When the broker appended the newest batch, in unix milliseconds.
    pub appended_ms: i64,
}

impl fmt::Display for InsertToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InsertToken { topic, partition, first, last, appended_ms } = self;
        write!(f, "{topic}/{partition}/{first}-{last}/{appended_ms}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_topic_partition_bounds_and_time() {
        let topic = "gpu-telemetry".into();
        let token = InsertToken { topic, partition: 3, first: 0, last: 99, appended_ms: 1_700 };
        assert_eq!(token.to_string(), "gpu-telemetry/3/0-99/1700");
    }
}
