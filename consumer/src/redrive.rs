//! Dead letters on their way back to the topics that they came from.
//!
//! ```text
//!   letters topic ─▶ chunk of the group "redrive" ─▶ appended at the origin ─▶ chunk acknowledged
//! ```
//!
//! Each letter is stored once, whatever happens in between: it is appended as producer
//! [`redriver_of`] its partition, in the epoch of its chunk's first offset, with its place among the
//! chunk's letters for the same partition as the sequence. A chunk's bounds never change, so whoever
//! comes to it again sends the same numbers, and the broker knows them. That asks for two things:
//! chunks are sent back in order, since epochs only rise, and have no more letters than the broker
//! remembers batches of one producer.
//!
//! How far the letters are sent back is the position of that group: a second call goes on with
//! letters that came since. The letters themselves stay until retention takes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanecast_client::{
    AckError, Chunk, Client, ClientError, Delivery, GroupOptions, Mode, PartitionGroup,
    RawProducer, StartPosition, SubscribeError, Subscriber, SubscriberConfig,
};
use lanecast_telemetry::{Sample, SeriesCatalog, TelemetryBuilder, TelemetryView};
use lanecast_wire::batch::{self, schema};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use lanecast_wire::dead_letter::{DeadLetter, redriver_of};
use lanecast_wire::generic::{GenericBuilder, GenericView};
use lanecast_wire::limits::BATCHES_IN_FLIGHT_PER_PARTITION_MAX;
use lanecast_wire::{ErrorCode, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TopicId};

/// The consumer group whose position says which letters are sent back.
pub const REDRIVE_GROUP: &str = "redrive";

/// Wait before a chunk comes again that is not the next one.
const OUT_OF_TURN: Duration = Duration::from_millis(500);

/// When no letter comes for this long, the broker is asked how far the group is: what is left may be
/// lost, or sent back by another.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// No letter sent back for this long, although there are letters: somebody else has them.
const PATIENCE: Duration = Duration::from_secs(40);

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    pub letters: u64,
    pub records: u64,
    /// Of those letters, how many had been sent back before.
    pub before: u64,
    /// Records of the letters' topic that are no dead letters, left where they are.
    pub foreign: u64,
}

/// Sending back ended before its time; what was sent back stays.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    #[error("the broker is not usable")]
    Broker(#[from] ClientError),
    #[error("the subscription ended")]
    Subscribe(#[from] SubscribeError),
    #[error("letter {partition}/{offset} cannot be sent back: {reason}")]
    Letter { partition: u32, offset: u64, reason: String },
    #[error(
        "no letter came for {PATIENCE:?}, after {letters} were sent back: is another redrive of the \
         topic at work?"
    )]
    Busy { letters: u64 },
}

/// Sends back all letters that are in the topic now and were not sent back before.
///
/// # Errors
/// See [`RedriveError`].
pub async fn redrive(client: &Client, letters: &str) -> Result<Redriven, RedriveError> {
    let options = GroupOptions {
        chunk_records: BATCHES_IN_FLIGHT_PER_PARTITION_MAX,
        chunk_linger: Duration::ZERO,
        chunks_in_flight: 1,
        ..GroupOptions::new(REDRIVE_GROUP)
    };
    let config = SubscriberConfig {
        start: StartPosition::Earliest,
        ..SubscriberConfig::new(letters, Mode::Group(options))
    };
    let mut subscriber = Subscriber::open(client, config).await?;
    if let Some(partition) = subscriber.offline().first() {
        let message = format!("partition {partition} of {letters} is offline");
        return Err(ClientError::Refused { code: ErrorCode::PARTITION_OFFLINE, message }.into());
    }
    let topic = TopicId(subscriber.topic().topic);
    let mut ways: BTreeMap<u32, Way> = subscriber
        .positions()
        .iter()
        .map(|at| {
            let (next, end) = (at.next_offset, at.high_watermark);
            (at.partition, Way { next, end, acked: next, sent: None })
        })
        .collect();
    let mut post = Post { client, producers: BTreeMap::new(), done: Redriven::default() };
    let mut moved = Instant::now();
    while ways.values().any(|way| way.next.min(way.acked) < way.end) {
        if moved.elapsed() >= PATIENCE {
            if ways.values().all(|way| way.next >= way.end) {
                break;
            }
            return Err(RedriveError::Busy { letters: post.done.letters });
        }
        let Ok(next) = tokio::time::timeout(LOOK_AGAIN, subscriber.next()).await else {
            catch_up(client, letters, None, &mut ways).await;
            continue;
        };
        let Delivery::Chunk(chunk) = next? else { continue };
        let (partition, first, end) = (chunk.partition, chunk.first.0, chunk.last.0 + 1);
        if ways.get(&partition).is_some_and(|way| first > way.next) {
            catch_up(client, letters, Some(partition), &mut ways).await;
        }
        let Some(way) = ways.get_mut(&partition) else { continue };
        if first > way.next {
            settled(chunk.nack(OUT_OF_TURN, "letters are sent back in order").await);
            continue;
        }
        // One whose acknowledgement went astray comes again.
        if way.sent != Some(first) {
            let letters = PartitionId { topic, index: partition };
            if let Err(error) = post.chunk(letters, &chunk).await {
                settled(chunk.nack(Duration::ZERO, &error.to_string()).await);
                return Err(error);
            }
            (way.next, way.sent) = (way.next.max(end), Some(first));
            moved = Instant::now();
        }
        if settled(chunk.ack().await) {
            way.acked = way.acked.max(end);
        }
    }
    // The group's members leave with their connection anyway.
    let _ = subscriber.unsubscribe().await;
    Ok(post.done)
}

/// A partition of the letters' topic.
struct Way {
    /// Everything below is sent back, or gone.
    next: u64,
    end: u64,
    /// Everything below is behind the group, as far as is known here.
    acked: u64,
    /// First offset of the chunk that was sent back last.
    sent: Option<u64>,
}

/// Passes what the group is done with, whoever did it: another redrive, or the group itself where
/// letters are damaged or were taken by retention.
async fn catch_up(
    client: &Client,
    letters: &str,
    partition: Option<u32>,
    ways: &mut BTreeMap<u32, Way>,
) {
    match client.groups(letters, partition).await {
        Ok(groups) => {
            for PartitionGroup { partition, group } in groups {
                if let Some(way) = ways.get_mut(&partition).filter(|_| group.name == REDRIVE_GROUP)
                {
                    way.next = way.next.max(group.acked_upto);
                    way.acked = way.acked.max(group.acked_upto);
                }
            }
        }
        // It is asked again.
        Err(error) => tracing::debug!(%error, "the group of the redrive cannot be seen"),
    }
}

/// A chunk that could not be settled comes again.
fn settled(settled: Result<(), AckError>) -> bool {
    if let Err(error) = &settled {
        tracing::debug!(%error, "a chunk of letters was not settled");
    }
    settled.is_ok()
}

struct Post<'c> {
    client: &'c Client,
    /// By the topic's name.
    producers: BTreeMap<String, RawProducer>,
    done: Redriven,
}

impl Post<'_> {
    async fn chunk(&mut self, letters: PartitionId, chunk: &Chunk) -> Result<(), RedriveError> {
        let mut sequences = BTreeMap::<(u32, u32), u64>::new();
        for (header, bytes) in chunk.batches() {
            if header.schema != schema::DEAD_LETTER {
                self.done.foreign += u64::from(header.record_count);
                continue;
            }
            let failed = |reason: String| RedriveError::Letter {
                partition: letters.index,
                offset: header.base_offset.0,
                reason,
            };
            let letter =
                DeadLetter::open(batch::body(&bytes)).map_err(|error| failed(error.to_string()))?;
            let epoch = u32::try_from(chunk.first.0)
                .map_err(|_| failed("its offset is over 2^32".to_owned()))?;
            let sequence = sequences.entry((letter.topic_id.0, letter.partition)).or_default();
            let origin = body(&letter).map_err(failed)?;
            let (producer, epoch) = (redriver_of(letters), ProducerEpoch(epoch));
            let batch = seal(&letter, &origin, producer, epoch, Sequence(*sequence));
            *sequence += 1;
            let before = self.append(&letter, batch).await.map_err(failed)?;
            self.done.letters += 1;
            self.done.records += u64::from(origin.record_count);
            self.done.before += u64::from(before);
        }
        Ok(())
    }

    /// Had it been sent back before?
    async fn append(&mut self, letter: &DeadLetter<'_>, batch: Bytes) -> Result<bool, String> {
        let producer = match self.producers.get_mut(letter.topic) {
            Some(producer) => producer,
            None => {
                let opened = RawProducer::open(self.client, letter.topic).await;
                let producer = opened.map_err(|error| match error.code() {
                    Some(ErrorCode::UNKNOWN_TOPIC) => {
                        format!("its topic {} is not there any more", letter.topic)
                    }
                    _ => error.to_string(),
                })?;
                self.producers.entry(letter.topic.to_owned()).or_insert(producer)
            }
        };
        let topic = producer.topic();
        if topic.topic != letter.topic_id.0 || letter.partition >= topic.partitions {
            return Err(format!("another topic has the name {} now", letter.topic));
        }
        match producer.append(letter.partition, batch).await {
            Ok(reply) if reply.dropped => {
                Err(format!("{} drops what it has no room for", letter.topic))
            }
            Ok(reply) => Ok(reply.duplicate),
            // A later chunk was begun, which happens only behind this one.
            Err(error) if error.code() == Some(ErrorCode::FENCED_EPOCH) => Ok(true),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn seal(
    letter: &DeadLetter<'_>,
    origin: &SealedBody,
    producer: ProducerId,
    epoch: ProducerEpoch,
    sequence: Sequence,
) -> Bytes {
    batch::seal(origin, producer, epoch, sequence, letter.header().created_ms)
}

/// The dead records alone, as they were.
fn body(letter: &DeadLetter<'_>) -> Result<SealedBody, String> {
    let header = letter.header();
    let body = batch::body(letter.batch);
    if letter.is_whole() {
        return Ok(SealedBody {
            body: body.to_vec(),
            schema: header.schema,
            record_count: header.record_count,
            min_time_ms: header.min_time_ms,
            max_time_ms: header.max_time_ms,
            summary: batch::summary(letter.batch).to_vec(),
        });
    }
    let dead = |index: usize| {
        let Offset(base) = header.base_offset;
        let offset = base + index as u64;
        letter.ranges.iter().any(|range| (range.first..=range.last).contains(&offset))
    };
    match header.schema {
        schema::TELEMETRY => {
            let view = TelemetryView::open(body, header.record_count)
                .map_err(|error| error.to_string())?;
            samples(&view, dead)
        }
        schema::GENERIC => {
            let view =
                GenericView::open(body, header.record_count).map_err(|error| error.to_string())?;
            let mut builder = GenericBuilder::empty();
            for (_, message) in view.iter().enumerate().filter(|(index, _)| dead(*index)) {
                builder.push(&message).map_err(|error| error.to_string())?;
            }
            Ok(builder.seal())
        }
        schema => Err(format!("a part of a batch of schema {schema} cannot be taken out")),
    }
}

fn samples(view: &TelemetryView<'_>, dead: impl Fn(usize) -> bool) -> Result<SealedBody, String> {
    let rows = || view.iter().enumerate().filter(|(index, _)| dead(*index));
    let mut catalog = SeriesCatalog::new();
    let mut ids = Vec::new();
    for (_, row) in rows() {
        let series = catalog.series(&view.identity(row.series));
        let metric = catalog.metric(row.metric);
        ids.push((
            series.map_err(|error| error.to_string())?,
            metric.map_err(|error| error.to_string())?,
        ));
    }
    let mut builder = TelemetryBuilder::empty();
    for ((_, row), (series, metric)) in rows().zip(ids) {
        let (catalog, ts_ms, source_ts_ms, value) =
            (&catalog, row.ts_ms, row.source_ts_ms, row.value);
        let sample = Sample { catalog, series, metric, ts_ms, source_ts_ms, value };
        builder.push(&sample).map_err(|error| error.to_string())?;
    }
    Ok(builder.seal())
}

#[cfg(test)]
mod tests {
    use lanecast_wire::dead_letter::Ranges;
    use lanecast_wire::message::OffsetRange;

    use super::*;
    use crate::testing::{APPEND_TIME_MS, Batch};

    fn dead<'a>(origin: &'a [u8], ranges: &'a [OffsetRange]) -> DeadLetter<'a> {
        DeadLetter {
            topic: "t",
            topic_id: TopicId(3),
            partition: 0,
            group: "g",
            reason: "r",
            attempts: 3,
            died_ms: 0,
            ranges: Ranges::Listed(ranges),
            batch: origin,
        }
    }

    #[test]
    fn a_whole_batch_goes_back_byte_for_byte() {
        let origin = Batch { base_offset: 70, times: &[1; 3], ..Batch::default() }.bytes();
        let all = [OffsetRange { first: 70, last: 72 }];
        let body = body(&dead(&origin, &all)).unwrap();
        assert_eq!((&body.body[..], body.record_count), (batch::body(&origin), 3));
        assert_eq!(body.summary, batch::summary(&origin));
    }

    #[test]
    fn of_a_part_only_the_dead_records_go_back() {
        let times = &[APPEND_TIME_MS; 3];
        let origin = Batch { base_offset: 70, times, ..Batch::default() }.bytes();
        let some = [70, 72].map(|at| OffsetRange { first: at, last: at });
        let body = body(&dead(&origin, &some)).unwrap();
        let view = TelemetryView::open(&body.body, 2).unwrap();
        let values: Vec<f64> = view.iter().map(|row| row.value).collect();
        assert_eq!((values, view.identity(0).uuid), (vec![0.0, 2.0], "GPU-1"));
        assert!(!body.summary.is_empty());
    }
}
