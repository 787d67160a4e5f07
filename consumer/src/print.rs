//! The printing consumer: any topic as readable lines or NDJSON.
//!
//! It is also the example of how to write a consumer. By broadcast it sees every record and
//! disturbs nobody; as a member of a group it gets a share, and acknowledges a chunk when its
//! lines are written.

use core::future::Future;
use std::io::{self, Write};
use std::pin::pin;

use bytes::Bytes;
use lanecast_client::{
    Client, Delivery, KeyFilter, MissedReason, Mode, StartPosition, Subscriber, SubscriberConfig,
};
use lanecast_wire::batch;

use crate::error::PrintError;
use crate::render::{PrintFormat, Render};

/// What to print.
#[derive(Clone, Debug)]
pub struct PrintConfig {
    pub topic: String,
    /// Broadcast unless asked otherwise.
    pub mode: Mode,
    pub start: StartPosition,
    pub format: PrintFormat,
    /// Only records with one of these keys; by broadcast only.
    pub filter: KeyFilter,
    /// Ends after this many records; `None` goes on until told to stop.
    pub records_max: Option<u64>,
}

impl PrintConfig {
    /// Every record of a topic from now on, for reading.
    #[must_use]
    pub fn new(topic: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            mode: Mode::Broadcast,
            start: StartPosition::Latest,
            format: PrintFormat::default(),
            filter: KeyFilter::default(),
            records_max: None,
        }
    }
}

/// Prints until `stop` completes, as many records as asked for are out, or nobody reads the output
/// any more. Returns how many records were printed.
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
        filter: config.filter.clone(),
        ..SubscriberConfig::new(&config.topic, config.mode.clone())
    };
    let mut subscriber = Subscriber::open(client, subscription).await?;
    let mut stop = pin!(stop);
    let mut printer = Printer { config, out, text: String::new(), printed: 0 };
    while !printer.is_done() {
        let delivery = tokio::select! {
            biased;
            () = &mut stop => break,
            delivery = subscriber.next() => delivery?,
        };
        let written = match delivery {
            Delivery::Batches(batches) => printer.payload(batches.partition, &batches.payload),
            Delivery::Chunk(chunk) => {
                let before = printer.printed;
                let mut payloads = chunk.payloads.iter();
                let written =
                    payloads.try_for_each(|payload| printer.payload(chunk.partition, payload));
                // A chunk that is printed in part comes again to the next who asks.
                let whole = printer.printed - before == chunk.records();
                if written.is_ok()
                    && whole
                    && let Err(error) = chunk.ack().await
                {
                    tracing::warn!(%error, "chunk printed but not acknowledged");
                }
                written
            }
            Delivery::Missed { partition, first, last, reason } => {
                let records = last.0 - first.0 + 1;
                let why = why(reason);
                tracing::warn!(partition, records, why, "records could not be read");
                Ok(())
            }
            Delivery::Skipped { .. } => Ok(()),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    Ok(printer.printed)
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

    fn payload(&mut self, partition: u32, payload: &Bytes) -> io::Result<()> {
        self.text.clear();
        for item in batch::iter(payload) {
            let (header, bytes) = item.map_err(io::Error::other)?;
            let left = self.left();
            if left == 0 {
                break;
            }
            let render = Render { format: self.config.format, filter: &self.config.filter };
            self.printed += render.batch(partition, &header, &bytes, left, &mut self.text);
        }
        self.out.write_all(self.text.as_bytes())?;
        self.out.flush()
    }
}
