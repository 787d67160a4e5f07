//! What a request must be in itself, whatever the broker's state: checked before it is sent and
//! again where it arrives.

use crate::limits::{
    CHUNK_BYTES_MAX, CHUNK_LINGER_MS_MAX, CHUNK_RECORDS_MAX, CHUNKS_IN_FLIGHT_MAX,
    CREDIT_BYTES_MAX, LEASE_MS_MAX, LEASE_MS_MIN, NACK_DELAY_MS_MAX,
};
use crate::message::{
    AlterTopic, CreateTopic, DeleteGroup, DeleteTopic, DescribeTopic, Extend, GroupOptions,
    MoveGroup, Nack, OffsetRange, Refusal, Subscribe, SubscribeMode, Terminate,
};
use crate::{ErrorCode, SLOTS, name};

impl CreateTopic {
    /// # Errors
    /// The name is none, or there are too many partitions.
    pub fn check(&self) -> Result<(), Refusal> {
        named("topic", &self.name)?;
        at_most("partitions", self.partitions, SLOTS)
    }
}

impl DescribeTopic {
    /// # Errors
    /// The name is none.
    pub fn check(&self) -> Result<(), Refusal> {
        named("topic", &self.name)
    }
}

impl AlterTopic {
    /// # Errors
    /// The name is none.
    pub fn check(&self) -> Result<(), Refusal> {
        named("topic", &self.name)
    }
}

impl DeleteTopic {
    /// # Errors
    /// The name is none.
    pub fn check(&self) -> Result<(), Refusal> {
        named("topic", &self.name)
    }
}

impl MoveGroup {
    /// # Errors
    /// The group's name is none.
    pub fn check(&self) -> Result<(), Refusal> {
        named("group", &self.group)
    }
}

impl DeleteGroup {
    /// # Errors
    /// The group's name is none.
    pub fn check(&self) -> Result<(), Refusal> {
        named("group", &self.group)
    }
}

impl Terminate {
    /// # Errors
    /// There is no range, or they do not rise or overlap.
    pub fn check(&self) -> Result<(), Refusal> {
        rising(&self.ranges)
    }
}

impl GroupOptions {
    /// # Errors
    /// A name is none, or a number is out of its range.
    pub fn check(&self) -> Result<(), Refusal> {
        named("group", &self.group)?;
        named("member", &self.member)?;
        between("chunk_records", self.chunk_records, 1, CHUNK_RECORDS_MAX)?;
        between("chunk_bytes", self.chunk_bytes, 1, CHUNK_BYTES_MAX)?;
        at_most("chunk_linger_ms", self.chunk_linger_ms, CHUNK_LINGER_MS_MAX)?;
        between("lease_ms", self.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)?;
        between("chunks_in_flight", self.chunks_in_flight, 1, CHUNKS_IN_FLIGHT_MAX)
    }
}

impl Subscribe {
    /// # Errors
    /// A name is none, a number is out of its range, or a partition is named twice.
    pub fn check(&self) -> Result<(), Refusal> {
        match &self.mode {
            SubscribeMode::Default(options) | SubscribeMode::Group(options) => options.check()?,
            SubscribeMode::Broadcast => {}
        }
        at_most("credit_bytes", self.credit_bytes, CREDIT_BYTES_MAX)?;
        self.filter.check()?;
        if matches!(self.mode, SubscribeMode::Group(_)) && !self.filter.is_empty() {
            return Err(Self::filtered_group());
        }
        let mut seen = [false; SLOTS as usize];
        for start in &self.starts {
            at_most("partition", start.partition, SLOTS - 1)?;
            if core::mem::replace(&mut seen[start.partition as usize], true) {
                return Err(invalid(format!("partition {} is named twice", start.partition)));
            }
        }
        Ok(())
    }
}

impl Subscribe {
    /// What a member of a group is told that brings a filter.
    #[must_use]
    pub fn filtered_group() -> Refusal {
        invalid(
            "a filter is for broadcast subscriptions: a group has to settle every record, and \
             those left out would never be; subscribe by broadcast, or filter in the member"
                .to_owned(),
        )
    }
}

impl Nack {
    /// # Errors
    /// The delay is over its limit.
    pub fn check(&self) -> Result<(), Refusal> {
        at_most("delay_ms", self.delay_ms, NACK_DELAY_MS_MAX)
    }
}

impl Extend {
    /// # Errors
    /// The lease is out of its range.
    pub fn check(&self) -> Result<(), Refusal> {
        between("lease_ms", self.lease_ms, LEASE_MS_MIN, LEASE_MS_MAX)
    }
}

fn named(what: &str, text: &str) -> Result<(), Refusal> {
    name::check(text)
        .map_err(|error| Refusal::new(ErrorCode::INVALID_NAME, format!("{what} {text:?}: {error}")))
}

fn rising(ranges: &[OffsetRange]) -> Result<(), Refusal> {
    let backwards = ranges.iter().find(|range| range.first > range.last);
    let overlap = ranges.windows(2).find(|pair| pair[1].first <= pair[0].last);
    if let Some(range) = backwards.or_else(|| overlap.map(|pair| &pair[1])) {
        let (first, last) = (range.first, range.last);
        return Err(invalid(format!("range {first} to {last} is out of order")));
    }
    if ranges.is_empty() { Err(invalid("no range is named".to_owned())) } else { Ok(()) }
}

fn at_most(what: &str, value: u32, max: u32) -> Result<(), Refusal> {
    between(what, value, 0, max)
}

fn between(what: &str, value: u32, min: u32, max: u32) -> Result<(), Refusal> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("{what} is {value}, {min} to {max} are allowed")))
}

fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyFilter;
    use crate::message::{PartitionStart, StartPosition};

    fn options() -> GroupOptions {
        GroupOptions {
            group: "clickhouse".into(),
            member: "a".into(),
            chunk_records: 1,
            chunk_bytes: 1,
            chunk_linger_ms: 0,
            lease_ms: LEASE_MS_MIN,
            chunks_in_flight: 1,
        }
    }

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        assert_eq!(options().check(), Ok(()));
        let wrong = [
            ("group", GroupOptions { group: String::new(), ..options() }),
            ("member", GroupOptions { member: "a/b".into(), ..options() }),
            ("chunk_records", GroupOptions { chunk_records: 0, ..options() }),
            ("chunk_bytes", GroupOptions { chunk_bytes: u32::MAX, ..options() }),
            ("lease_ms", GroupOptions { lease_ms: 1, ..options() }),
            ("chunks_in_flight", GroupOptions { chunks_in_flight: 0, ..options() }),
        ];
        for (field, options) in wrong {
            let refusal = options.check().unwrap_err();
            assert!(refusal.message.contains(field), "{refusal:?}");
        }
    }

    #[test]
    fn ranges_rise_and_are_some() {
        let terminate = |ranges: &[(u64, u64)]| Terminate {
            subscription: 1,
            partition: 0,
            ranges: ranges
                .iter()
                .map(|(first, last)| OffsetRange { first: *first, last: *last })
                .collect(),
            generation: 1,
            reason: String::new(),
        };
        assert_eq!(terminate(&[(3, 3), (4, 9)]).check(), Ok(()));
        for wrong in [&[] as &[_], &[(4, 3)], &[(3, 5), (5, 9)], &[(3, 5), (1, 2)]] {
            assert!(terminate(wrong).check().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_group_takes_no_filter() {
        let mut subscribe = Subscribe {
            subscription: 1,
            topic: 1,
            mode: SubscribeMode::Broadcast,
            start: StartPosition::Earliest,
            starts: Vec::new(),
            credit_bytes: 0,
            filter: KeyFilter::default().gpu("GPU-1"),
        };
        assert_eq!(subscribe.check(), Ok(()));
        subscribe.mode = SubscribeMode::Group(options());
        let refusal = subscribe.check().unwrap_err();
        assert_eq!(refusal.code(), ErrorCode::INVALID_REQUEST);
        assert!(refusal.message.contains("by broadcast"), "{refusal:?}");
    }

    #[test]
    fn a_partition_is_started_once() {
        let start = PartitionStart { partition: 3, start: StartPosition::Latest, log_epoch: 0 };
        let mut subscribe = Subscribe {
            subscription: 1,
            topic: 1,
            mode: SubscribeMode::Broadcast,
            start: StartPosition::Earliest,
            starts: vec![start],
            credit_bytes: 0,
            filter: KeyFilter::default(),
        };
        assert_eq!(subscribe.check(), Ok(()));
        subscribe.starts.push(start);
        assert_eq!(subscribe.check().unwrap_err().code(), ErrorCode::INVALID_REQUEST);
    }
}
