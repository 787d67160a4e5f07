//! What was read in the dead-letter topic.

use std::collections::BTreeMap;

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader, schema};
use lanecast_wire::dead_letter::DeadLetter;

use crate::group_truth::Letter;
use crate::scenario::{TOPIC, group_number};

/// Where and when a letter was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) seen_us: u64,
}

/// A letter that was opened.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Where its records were.
    pub(crate) topic: u32,
    pub(crate) partition: u32,
    pub(crate) group: usize,
    pub(crate) records: Letter,
    /// The original batch.
    pub(crate) batch: Bytes,
}

/// What lies where is the same for every reader, for ever.
#[derive(Debug, Default)]
pub(crate) struct Letters {
    known: BTreeMap<(u32, u64), Bytes>,
    high_watermarks: BTreeMap<u32, u64>,
}

impl Letters {
    pub(crate) fn is_news(&mut self, place: Place, batch: &Bytes) -> bool {
        let at = (place.partition, place.offset);
        match self.known.get(&at) {
            Some(known) => {
                assert!(known == batch, "two letters at {at:?}");
                false
            }
            None => {
                self.known.insert(at, batch.clone());
                true
            }
        }
    }

    pub(crate) fn open(&self, place: Place, bytes: &Bytes) -> Opened {
        let header = BatchHeader::decode(bytes).expect("the session has checked it");
        assert_eq!((header.schema, header.record_count), (schema::DEAD_LETTER, 1), "{place:?}");
        let letter = DeadLetter::open(batch::body(bytes)).expect("a dead letter");
        assert_eq!(letter.topic, TOPIC);
        assert_eq!(letter.partition, place.partition, "{letter:?} lies in another partition");
        let ranges = letter.ranges.iter().map(|range| (range.first, range.last));
        Opened {
            topic: letter.topic_id.0,
            partition: letter.partition,
            group: group_number(letter.group).expect("a group that there is"),
            records: Letter {
                at: place.offset,
                ranges: ranges.collect(),
                attempts: letter.attempts,
                reason: letter.reason.to_owned(),
                seen_us: place.seen_us,
            },
            batch: Bytes::copy_from_slice(letter.batch),
        }
    }

    /// What no later answer may fall below.
    pub(crate) fn high_watermark(&self, partition: u32) -> u64 {
        self.high_watermarks.get(&partition).copied().unwrap_or(0)
    }

    pub(crate) fn saw_high_watermark(&mut self, partition: u32, high_watermark: u64) {
        let known = self.high_watermarks.entry(partition).or_default();
        *known = high_watermark.max(*known);
    }

    pub(crate) fn count(&self) -> u64 {
        self.known.len() as u64
    }
}
