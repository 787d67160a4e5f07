//! Several instances, one input: each publishes the GPUs whose keys fall to it.

use lanecast_wire::{SLOTS, Slot};
use serde::Serialize;

use crate::limits;
use crate::source::SourceError;

/// Instance `index` of `count`. Every GPU belongs to exactly one, and since the split is by the
/// same hash slots as the partitions of a topic, an instance also writes to few partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShardOf {
    index: u32,
    count: u32,
}

impl ShardOf {
    /// The whole input.
    pub const ALL: ShardOf = ShardOf { index: 0, count: 1 };

    /// # Errors
    /// `index` is not below `count`, or `count` is not between 1 and 256.
    pub fn new(index: u32, count: u32) -> Result<Self, SourceError> {
        if count == 0 || count > limits::SHARDS_MAX || index >= count {
            let reason = format!(
                "{index}/{count} names no shard: write i/n with n from 1 to {} and i below n",
                limits::SHARDS_MAX
            );
            return Err(SourceError::Setting { setting: "shard", reason });
        }
        Ok(ShardOf { index, count })
    }

    #[must_use]
    pub fn owns(self, uuid: &[u8]) -> bool {
        self.count == 1 || u32::from(Slot::of_key(uuid).0) * self.count / SLOTS == self.index
    }

    /// Rows that name no GPU are counted by the first instance.
    pub(crate) fn owns_nameless(self) -> bool {
        self.index == 0
    }
}

impl core::str::FromStr for ShardOf {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let numbers = text.split_once('/');
        let numbers =
            numbers.and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        let (index, count) = numbers.ok_or_else(|| SourceError::Setting {
            setting: "shard",
            reason: format!("{text:?} is not of the form i/n, such as 0/4"),
        })?;
        ShardOf::new(index, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_text_is_parsed_and_nonsense_refused() {
        assert_eq!("2/4".parse::<ShardOf>().unwrap(), ShardOf::new(2, 4).unwrap());
        for bad in ["", "1", "4/4", "0/0", "-1/2", "0/257", "a/b", "1/2/3"] {
            assert!(bad.parse::<ShardOf>().is_err(), "{bad}");
        }
    }
}
