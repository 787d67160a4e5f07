//! The name of one chunk's insert.

use core::fmt;

/// Names the insert of one chunk: `topic/partition/first-last`.
///
/// The bounds of a chunk never change, whoever gets it next and also over a restart, so every
/// attempt to store it carries the same token, and ClickHouse drops all but the first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InsertToken {
    pub topic: String,
    pub partition: u32,
    /// First and last offset of the chunk, both included.
    pub first: u64,
    pub last: u64,
}

impl fmt::Display for InsertToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}-{}", self.topic, self.partition, self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_topic_partition_and_bounds() {
        let token = InsertToken { topic: "gpu-telemetry".into(), partition: 3, first: 0, last: 99 };
        assert_eq!(token.to_string(), "gpu-telemetry/3/0-99");
    }
}
