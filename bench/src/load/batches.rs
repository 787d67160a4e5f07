//! Batches made before the clock starts, and numbered as they are sent.
//!
//! All batches of a run have the same body, whose sum is computed once. Numbering one changes 80 bytes of
//! header, and the sum of the whole follows from the header's and the body's: a CRC is linear over
//! GF(2), so `crc(head ++ body) = shift(crc(head)) ^ crc(body)`, where `shift` appends as many zeros
//! as the body has bytes. That is a matrix of 32 words, filled in at the start.

use bytes::Bytes;
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
use lanecast_wire::batch::{self, BatchHeader, HEADER_BYTES};
use lanecast_wire::builder::{BodyBuilder, RecordRefused, SealedBody};
use lanecast_wire::generic::{GenericBuilder, Message};
use lanecast_wire::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::Error;

/// The sum covers a batch from here on.
const SUMMED_FROM: usize = 28;
const CRC_AT: std::ops::Range<usize> = 24..28;

/// Of a GPU, in batches of telemetry.
const METRICS: u32 = 8;

/// Of their first row.
const TIME_MS: i64 = 1_700_000_000_000;

const KEY_BYTES: usize = 8;

/// A batch that can be sent any number of times.
#[derive(Clone, Debug)]
pub struct Batches {
    header: BatchHeader,
    summary: Bytes,
    body: Bytes,
    body_crc: u32,
    shift: [u32; 32],
}

impl Batches {
    /// `records` generic messages of `record_bytes` each: payload, key, id and times together.
    ///
    /// # Errors
    /// A record of that size has no room for its fixed fields, or the batch is over the limit.
    pub fn generic(records: u32, record_bytes: usize) -> Result<Self, Error> {
        let content = Self::content(record_bytes)?;
        let (key, payload) = content.split_at(KEY_BYTES);
        let mut builder = GenericBuilder::empty();
        for _ in 0..records {
            push(&mut builder, key, payload)?;
        }
        if builder.body_bytes() > batch::BODY_BYTES_MAX {
            return Err(Error::Usage(format!(
                "{records} records of {record_bytes} bytes are over the {} bytes of a batch",
                batch::BODY_BYTES_MAX
            )));
        }
        Ok(Self::new(builder.seal()))
    }

    /// Key and payload of a generic message that takes `record_bytes` in a batch: what a system that
    /// has no such fields carries instead.
    ///
    /// # Errors
    /// As for [`Self::generic`].
    pub fn content(record_bytes: usize) -> Result<Vec<u8>, Error> {
        let key = [b'k'; KEY_BYTES];
        let fixed = body_bytes(1, &key, &[])? - body_bytes(0, &key, &[])?;
        let Some(payload) = record_bytes.checked_sub(fixed) else {
            return Err(Error::Usage(format!(
                "a record of {record_bytes} bytes is too small: the fields of a message alone take \
                 {fixed}"
            )));
        };
        // Bytes that no codec makes smaller, so that nobody gains by compressing.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let noise = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        Ok(key.into_iter().chain(noise.take(payload)).collect())
    }

    /// `rows` of telemetry: a sample of eight metrics of each GPU of a small fleet.
    ///
    /// # Errors
    /// Those are more than a batch holds.
    pub fn telemetry(rows: u32) -> Result<Self, Error> {
        let refused = |why: RecordRefused| Error::Usage(why.to_string());
        let mut catalog = SeriesCatalog::new();
        let mut builder = TelemetryBuilder::empty();
        for row in 0..rows {
            let gpu = row / METRICS;
            let uuid = format!("GPU-{gpu:08x}-0000-4000-8000-{gpu:012x}");
            let (device, hostname) = (format!("nvidia{}", gpu % 8), format!("host-{:03}", gpu / 8));
            let instance = format!("{hostname}:9400");
            let labels = [("instance", instance.as_str()), ("job", "dcgm")];
            let identity = Identity {
                uuid: &uuid,
                gpu_index: gpu % 8,
                device: &device,
                model: "NVIDIA H100 80GB HBM3",
                hostname: &hostname,
                container: "",
                pod: "",
                namespace: "",
                labels: &labels,
            };
            let series = catalog.series(&identity).map_err(refused)?;
            let name = format!("DCGM_FI_DEV_METRIC_{}", row % METRICS);
            let metric = catalog.metric(&name).map_err(refused)?;
            let ts_ms = TIME_MS + i64::from(row);
            let value = f64::from(row);
            let catalog = &catalog;
            let sample = Sample { catalog, series, metric, ts_ms, source_ts_ms: TIME_MS, value };
            builder.push(&sample).map_err(refused)?;
        }
        Ok(Self::new(builder.seal()))
    }

    #[must_use]
    pub fn new(sealed: SealedBody) -> Self {
        let header = BatchHeader {
            body_bytes: u32::try_from(sealed.body.len()).expect("a body is within its limit"),
            base_offset: Offset(0),
            append_time_ms: 0,
            crc: 0,
            codec: batch::codec::NONE,
            schema: sealed.schema,
            summary_bytes: u16::try_from(sealed.summary.len()).expect("a summary is small"),
            producer: ProducerId(0),
            epoch: ProducerEpoch(0),
            record_count: sealed.record_count,
            sequence: Sequence(0),
            min_time_ms: sealed.min_time_ms,
            max_time_ms: sealed.max_time_ms,
            created_ms: 0,
        };
        let body = Bytes::from(sealed.body);
        let body_crc = crc32c::crc32c(&body);
        let shift = std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, body.len()));
        Self { header, summary: Bytes::from(sealed.summary), body, body_crc, shift }
    }

    #[must_use]
    pub fn records(&self) -> u64 {
        u64::from(self.header.record_count)
    }

    /// Bytes of one batch, header included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.summary.len() + self.body.len()
    }

    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Header and summary of the batch with this number; the body follows.
    pub(super) fn head(&self, producer: u64, number: u64, out: &mut Vec<u8>) {
        let header = BatchHeader {
            producer: ProducerId(producer),
            sequence: Sequence(number),
            ..self.header
        };
        out.clear();
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(&self.summary);
        let mut crc = self.body_crc;
        let head_crc = crc32c::crc32c(&out[SUMMED_FROM..]);
        for (bit, row) in self.shift.iter().enumerate() {
            if head_crc >> bit & 1 == 1 {
                crc ^= row;
            }
        }
        out[CRC_AT].copy_from_slice(&crc.to_le_bytes());
    }
}

fn push(builder: &mut GenericBuilder, key: &[u8], payload: &[u8]) -> Result<(), Error> {
    let message = Message::new(key, payload);
    builder.push(&message).map_err(|refused| Error::Usage(refused.to_string()))
}

fn body_bytes(records: u32, key: &[u8], payload: &[u8]) -> Result<usize, Error> {
    let mut builder = GenericBuilder::empty();
    for _ in 0..records {
        push(&mut builder, key, payload)?;
    }
    Ok(builder.body_bytes())
}

#[cfg(test)]
mod tests {
    use lanecast_telemetry::TelemetryView;

    use super::*;

    #[test]
    fn a_numbered_batch_is_a_valid_one_of_the_size_that_was_asked_for() {
        for (records, record_bytes) in [(1, 128), (512, 128), (64, 1024), (4, 16 * 1024)] {
            let batches = Batches::generic(records, record_bytes).unwrap();
            let wanted = records as usize * record_bytes;
            assert!((wanted..wanted + 400).contains(&batches.bytes()), "{}", batches.bytes());
            let mut whole = Vec::new();
            batches.head(7, 99, &mut whole);
            whole.extend_from_slice(batches.body());
            let header = batch::check(&whole).unwrap();
            assert_eq!((header.producer, header.sequence), (ProducerId(7), Sequence(99)));
            assert_eq!(header.record_count, records);
        }
    }

    #[test]
    fn telemetry_is_valid_and_has_as_many_rows_as_were_asked_for() {
        let batches = Batches::telemetry(1000).unwrap();
        let mut whole = Vec::new();
        batches.head(7, 99, &mut whole);
        whole.extend_from_slice(batches.body());
        let header = batch::check(&whole).unwrap();
        let view = TelemetryView::open(batch::body(&whole), header.record_count).unwrap();
        assert_eq!((view.rows(), view.series(), view.metrics()), (1000, 125, 8));
        assert_eq!(batches.bytes(), whole.len());
    }

    #[test]
    fn sizes_that_cannot_be_are_refused_in_words() {
        for (records, record_bytes) in [(1, 10), (100, 100_000)] {
            let error = Batches::generic(records, record_bytes).unwrap_err();
            assert!(matches!(error, Error::Usage(_)), "{error:?}");
        }
    }
}
