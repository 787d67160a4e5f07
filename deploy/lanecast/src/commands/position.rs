//! Places in a topic, as people name them.

use std::time::Duration;

use lanecast_client::{Client, PartitionOffsets, PartitionStart, StartPosition};

use super::Failure;
use super::failure::{About, explain};
use crate::settings::Settings;
use crate::units;

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    At(StartPosition),
    /// So many records of each partition.
    Last(u64),
}

/// Where reading begins, partition by partition if need be.
pub(super) struct Starts {
    pub(super) start: StartPosition,
    pub(super) starts: Vec<PartitionStart>,
}

impl From {
    /// An offset is one of each partition; those that end before it begin at their end, unless all
    /// do.
    pub(super) async fn starts(
        self,
        client: &Client,
        topic: &str,
        settings: &Settings,
    ) -> Result<Starts, Failure> {
        if let From::At(start) = self
            && !matches!(start, StartPosition::Offset(_))
        {
            return Ok(Starts { start, starts: Vec::new() });
        }
        let offsets = client.offsets(topic).await;
        let offsets = offsets.map_err(|error| explain(error, About::Topic(topic), settings))?;
        let longest = offsets.iter().map(|at| at.high_watermark).max().unwrap_or(0);
        if let From::At(StartPosition::Offset(offset)) = self
            && offset > longest
        {
            return Err(format!(
                "no partition of {topic} has come to offset {offset}: the longest ends at {longest}"
            )
            .into());
        }
        let start = |at: &PartitionOffsets| match self {
            From::At(StartPosition::Offset(offset)) => offset.min(at.high_watermark),
            From::Last(records) => at.high_watermark.saturating_sub(records).max(at.log_start),
            From::At(_) => at.high_watermark,
        };
        let starts = offsets.iter().map(|at| PartitionStart {
            log_epoch: 0,
            partition: at.partition,
            start: StartPosition::Offset(start(at)),
        });
        Ok(Starts { start: StartPosition::Latest, starts: starts.collect() })
    }
}

/// As [`start`], and `last:N`.
///
/// # Errors
/// In words.
pub(super) fn from(text: &str) -> Result<From, String> {
    let Some(records) = text.strip_prefix("last:") else {
        return start(text).map(From::At).map_err(|_| {
            "expected earliest, latest, last:10, an offset, a time such as 2026-01-01T00:00:00Z, \
             or an age such as 15m"
                .to_owned()
        });
    };
    let records = records.parse().map_err(|_| "expected a number, as in last:10".to_owned())?;
    Ok(From::Last(records))
}

/// `earliest`, `latest`, an offset, a time, or an age.
///
/// # Errors
/// In words.
pub(super) fn start(text: &str) -> Result<StartPosition, String> {
    match text {
        "earliest" => return Ok(StartPosition::Earliest),
        "latest" => return Ok(StartPosition::Latest),
        _ => {}
    }
    if let Ok(offset) = text.strip_prefix("offset:").unwrap_or(text).parse::<u64>() {
        return Ok(StartPosition::Offset(offset));
    }
    if let Ok(age) = units::duration(text) {
        return Ok(StartPosition::Timestamp(before(age)));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| {
        "expected earliest, latest, an offset, a time such as 2026-01-01T00:00:00Z, or an age such \
         as 15m"
            .to_owned()
    })?;
    Ok(StartPosition::Timestamp(time.as_millisecond()))
}

fn before(age: Duration) -> i64 {
    let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::now().as_millisecond().saturating_sub(age_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_words_numbers_times_and_ages() {
        assert_eq!(from("last:25"), Ok(From::Last(25)));
        assert_eq!(from("earliest"), Ok(From::At(StartPosition::Earliest)));
        assert_eq!(start("17"), Ok(StartPosition::Offset(17)));
        assert_eq!(start("offset:17"), Ok(StartPosition::Offset(17)));
        assert_eq!(start("1970-01-01T00:00:07Z"), Ok(StartPosition::Timestamp(7_000)));
        let now = jiff::Timestamp::now().as_millisecond();
        let Ok(StartPosition::Timestamp(then)) = start("15m") else { panic!("an age") };
        assert!((now - 900_000..now - 800_000).contains(&then), "{then}");
        assert!(from("last:").is_err() && from("yesterday").is_err() && start("last:3").is_err());
    }
}
