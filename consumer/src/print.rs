//! The printing consumer: any topic as readable lines or NDJSON.
//!
//! It is also the example of how to write a consumer. By broadcast it sees every record and
//! disturbs nobody; as a member of a group it gets a share, and acknowledges a chunk when its
//! lines are written.

use core::future::Future;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::pin::pin;

use bytes::Bytes;
use lanecast_client::{
    Client, Delivery, KeyFilter, MissedReason, Mode, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_wire::message::{OffsetRange, PartitionPosition, PartitionStart};
use lanecast_wire::{Offset, batch};

use crate::error::PrintError;
use crate::render::{PrintFormat, Render};

/// What to print.
#[derive(Clone, Debug)]
pub struct PrintConfig {
    pub topic: String,
    /// Broadcast unless asked otherwise.
    pub mode: Mode,
    pub start: StartPosition,
    /// Partitions that start elsewhere; by broadcast only.
    pub starts: Vec<PartitionStart>,
    pub format: PrintFormat,
    /// Only records with one of these keys; by broadcast only.
    pub filter: KeyFilter,
    /// Ends after this many records; `None` goes on until told to stop.
    pub records_max: Option<u64>,
    /// Ends once everything is out that there was at the start; by broadcast only.
    pub to_end: bool,
    /// Dead letters come with the records that are in them.
    pub dead_records: bool,
}

impl PrintConfig {
    /// Every record of a topic from now on, for reading.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            mode: Mode::Broadcast,
            start: StartPosition::Latest,
            starts: Vec::new(),
            format: PrintFormat::default(),
            filter: KeyFilter::default(),
            records_max: None,
            to_end: false,
            dead_records: false,
        }
    }
}

/// Prints until `stop` completes, as many records as asked for are out, the end is reached that was
/// asked for, or nobody reads the output any more. Returns how many records were printed.
///
/// # Errors
/// The broker or the output fails. An output that was closed by its reader is no failure.
pub async fn print(
    client: &Client,
    config: &PrintConfig,
    out: &mut (impl Write + Send),
    stop: impl Future<Output = ()>,
) -> Result<u64, PrintError> {
    let subscription = SubscriberConfig {
        start: config.start,
        starts: config.starts.clone(),
        filter: config.filter.clone(),
        ..SubscriberConfig::new(&config.topic, config.mode.clone())
    };
    let mut subscriber = Subscriber::open(client, subscription).await?;
    let mut stop = pin!(stop);
    let mut way = Way::new(config, subscriber.positions());
    let mut printer = Printer { config, out, text: String::new(), printed: 0 };
    while !printer.is_done() && !way.is_done() {
        let delivery = tokio::select! {
            biased;
            () = &mut stop => break,
            delivery = subscriber.next() => delivery?,
        };
        let written = match delivery {
            Delivery::Batches(batches) => {
                let from = way.passed(batches.partition, batches.last);
                let wanted = |Offset(offset)| offset >= from;
                printer.payload(batches.partition, &wanted, &batches.payload)
            }
            Delivery::Chunk(chunk) => {
                let before = printer.printed;
                let mut payloads = chunk.payloads.iter();
                // The payloads may have more than the chunk, and what others have settled.
                let open = |offset| chunk.is_open(offset);
                let written =
                    payloads.try_for_each(|one| printer.payload(chunk.partition, &open, one));
                let damaged = |range: &OffsetRange| range.last - range.first + 1;
                let damaged: u64 = chunk.damaged.iter().map(damaged).sum();
                if damaged > 0 {
                    let (partition, why) = (chunk.partition, why(MissedReason::Damaged));
                    tracing::warn!(partition, records = damaged, why, "records could not be read");
                }
                // A chunk that is printed in part comes again to the next who asks.
                let whole = printer.printed - before + damaged >= chunk.open_records();
                if written.is_ok()
                    && whole
                    && let Err(error) = chunk.ack().await
                {
                    tracing::warn!(%error, "chunk printed but not acknowledged");
                }
                written
            }
            Delivery::Missed { partition, first, last, reason } => {
                way.passed(partition, last);
                let records = last.0 - first.0 + 1;
                let why = why(reason);
                tracing::warn!(partition, records, why, "records could not be read");
                Ok(())
            }
            Delivery::Skipped { partition, last, .. } => {
                way.passed(partition, last);
                Ok(())
            }
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(printer.printed)
}

/// How far each partition has come, and has to.
struct Way {
    /// Where it began: a batch that begins before that is printed from there on.
    starts: BTreeMap<u32, u64>,
    /// Partitions that have not reached the end; `None`: there is no end.
    ends: Option<BTreeMap<u32, u64>>,
}

impl Way {
    fn new(config: &PrintConfig, positions: &[PartitionPosition]) -> Self {
        let starts = positions.iter().map(|at| (at.partition, at.next_offset)).collect();
        let unread = positions.iter().filter(|at| at.next_offset < at.high_watermark);
        let ends =
            config.to_end.then(|| unread.map(|at| (at.partition, at.high_watermark)).collect());
        Self { starts, ends }
    }

    fn is_done(&self) -> bool {
        self.ends.as_ref().is_some_and(BTreeMap::is_empty)
    }

    /// A partition has come so far; gives the offset that it began with.
    fn passed(&mut self, partition: u32, last: Offset) -> u64 {
        if let Some(ends) = &mut self.ends
            && ends.get(&partition).is_some_and(|end| last.0 + 1 >= *end)
        {
            ends.remove(&partition);
        }
        self.starts.get(&partition).copied().unwrap_or(0)
    }
}

fn why(reason: MissedReason) -> &'static str {
    match reason {
        MissedReason::Retention => "taken by retention",
        MissedReason::Expired => "older than the topic's time to live",
        MissedReason::Dropped => "dropped for newer ones, since the partition was full",
        MissedReason::Damaged => "damaged on disk",
        MissedReason::Filtered => "without a key that was asked for",
    }
}

struct Printer<'p, W> {
    config: &'p PrintConfig,
    out: &'p mut W,
    /// Of one payload; kept for its memory.
    text: String,
    printed: u64,
}

impl<W: Write> Printer<'_, W> {
    fn is_done(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> u64 {
        self.config.records_max.map_or(u64::MAX, |max| max.saturating_sub(self.printed))
    }

    fn payload(
        &mut self,
        partition: u32,
        wanted: &dyn Fn(Offset) -> bool,
        payload: &Bytes,
    ) -> io::Result<()> {
        self.text.clear();
        for item in batch::iter(payload) {
            let (header, bytes) = item.map_err(io::Error::other)?;
            let left = self.left();
            if left == 0 {
                break;
            }
            let render = Render {
                format: self.config.format,
                filter: &self.config.filter,
                wanted,
                dead_records: self.config.dead_records,
            };
            self.printed += render.batch(partition, &header, &bytes, left, &mut self.text);
        }
        self.out.write_all(self.text.as_bytes())?;
        self.out.flush()
    }
}
