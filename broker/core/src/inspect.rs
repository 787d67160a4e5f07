//! Looking at a log without a broker: by the same code that recovers it.
//!
//! ```text
//!   inspect(log, files, witness, read, found) ── Block, Damage, Block, ... ──▶ report
//! ```

use std::fmt;

use bytes::Bytes;
use lanecast_wire::batch::{self, BatchHeader};
use lanecast_wire::message::TopicInfo;
use lanecast_wire::{Offset, ProducerEpoch, ProducerId};

use crate::group::{GroupId, GroupRecord};
use crate::log::recovery::{Finding, Recovery, Step};
use crate::log::segments::Segments;
use crate::log::{Block, BlockKind, Damage, Place, RecoveryReport, records};
use crate::partition::{Known, read_snapshot};
use crate::shard::{self, CatalogRecord};
use crate::{LogId, SegmentFile, Witness};

/// What is in a log, in order.
#[derive(Clone, Debug)]
pub enum Found {
    Block(FoundBlock),
    Damage(Damage),
}

/// One block and what it carries.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    pub place: Place,
    pub kind: BlockKind,
    pub bytes_on_disk: u64,
    pub payload_bytes: u32,
    pub crc: u32,
    pub base_offset: u64,
    /// Offsets that it covers.
    pub count: u32,
    pub append_time_ms: i64,
    /// Everything below was durable when it was sealed.
    pub durable_end: u64,
    /// Which opening of the log wrote it.
    pub life: u64,
    payload: Bytes,
}

/// What a block carries.
#[derive(Clone, Debug)]
pub enum Item {
    Batch {
        header: BatchHeader,
        /// Its own checksum holds.
        whole: bool,
    },
    /// A topic is made, or changed.
    Topic(TopicInfo),
    /// It is deleted; `gone` once its files are, too.
    DeletedTopic {
        topic: u32,
        gone: bool,
    },
    Group {
        group: GroupId,
        record: GroupRecord,
    },
    Producer {
        id: ProducerId,
        epoch: ProducerEpoch,
        next_sequence: u64,
        /// Last batches that are remembered.
        recent: usize,
    },
    /// It does not read, or is of a newer broker.
    Unreadable {
        offset: Offset,
        what: String,
    },
}

impl FoundBlock {
    fn new(block: Block) -> Self {
        let Block { header, place, payload } = block;
        FoundBlock {
            place,
            kind: header.kind,
            bytes_on_disk: header.bytes_on_disk(),
            payload_bytes: header.payload_bytes,
            crc: header.crc,
            base_offset: header.base_offset,
            count: header.count,
            append_time_ms: header.append_time_ms,
            durable_end: header.durable_end,
            life: header.life(),
            payload,
        }
    }

    /// Its batches or records, in order.
    #[must_use]
    pub fn items(&self, log: LogId) -> Vec<Item> {
        match self.kind {
            BlockKind::Mark | BlockKind::Opening => Vec::new(),
            BlockKind::Batches => self.batches(),
            BlockKind::Records => self.records(log),
            BlockKind::ProducersPart | BlockKind::Producers => {
                let known = read_snapshot(&self.payload);
                let item = |known: Known| Item::Producer {
                    id: known.id,
                    epoch: known.epoch,
                    next_sequence: known.next_sequence,
                    recent: known.recent.len(),
                };
                known.map(item).collect()
            }
        }
    }

    fn batches(&self) -> Vec<Item> {
        let mut items = Vec::new();
        let mut next = self.base_offset;
        for found in batch::iter(&self.payload) {
            let item = match found {
                Ok((header, bytes)) => {
                    let whole = batch::check(&bytes).is_ok() && header.base_offset.0 == next;
                    next = header.last_offset().0 + 1;
                    Item::Batch { header, whole }
                }
                Err(error) => {
                    Item::Unreadable { offset: Offset(next), what: format!("batch: {error}") }
                }
            };
            items.push(item);
        }
        let end = self.base_offset + u64::from(self.count);
        if next != end {
            let what = format!("batches end at {next}, the block at {end}");
            items.push(Item::Unreadable { offset: Offset(next), what });
        }
        items
    }

    fn records(&self, log: LogId) -> Vec<Item> {
        let read = |(number, record): (u64, Bytes)| {
            let offset = Offset(self.base_offset + number);
            match log {
                LogId::Catalog => match shard::decode_topic(&record) {
                    Some(CatalogRecord::Topic(topic)) => Item::Topic(topic),
                    Some(CatalogRecord::Deleted { topic, .. }) => {
                        Item::DeletedTopic { topic: topic.0, gone: false }
                    }
                    Some(CatalogRecord::Gone { topic }) => {
                        Item::DeletedTopic { topic: topic.0, gone: true }
                    }
                    None => Item::Unreadable { offset, what: "no topic record".to_owned() },
                },
                LogId::Groups(_) | LogId::Data(_) => match GroupRecord::decode(&record) {
                    Ok((group, record)) => Item::Group { group, record },
                    Err(invalid) => Item::Unreadable { offset, what: invalid.to_string() },
                },
            }
        };
        (0..).zip(records::iter(&self.payload)).map(read).collect()
    }
}

/// Why a log could not be looked at to its end.
#[derive(Debug)]
pub enum InspectError<E> {
    Read(E),
    /// A read gave less than the file has.
    Short(Place),
}

impl<E: fmt::Display> fmt::Display for InspectError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::Read(error) => error.fmt(f),
            InspectError::Short(Place { segment, position }) => {
                write!(f, "segment {} is shorter than it was, at {position}", segment.0)
            }
        }
    }
}

/// Goes through a log's `files`, which are in rising order, as recovery would; with its `witness`, if
/// it has one. `read` gives that
/// many bytes from a place on.
///
/// # Errors
/// What `read` says.
pub fn inspect<E>(
    log: LogId,
    files: Vec<SegmentFile>,
    witness: Option<Witness>,
    mut read: impl FnMut(Place, u32) -> Result<Bytes, E>,
    mut found: impl FnMut(Found),
) -> Result<RecoveryReport, InspectError<E>> {
    let mut recovery = Recovery::new(log, files, None, witness);
    let mut segments = Segments::default();
    let mut tell = |finding| {
        found(match finding {
            Finding::Block(block) => Found::Block(FoundBlock::new(block)),
            Finding::Damage(damage) => Found::Damage(damage),
        });
    };
    while recovery.step(&mut segments, &mut tell) == Step::Waiting {
        while let Some((place, bytes)) = recovery.wants() {
            let content = read(place, bytes).map_err(InspectError::Read)?;
            if !recovery.answer(place, content) {
                return Err(InspectError::Short(place));
            }
        }
    }
    let recovered = recovery.finish(&mut segments, &mut tell);
    Ok(RecoveryReport { log_start: segments.log_start(), ..recovered.report })
}
