//! Batches for this crate's tests.

use bytes::Bytes;
use lanecast_telemetry::{Identity, Sample, SeriesCatalog, TelemetryBuilder};
use lanecast_wire::builder::BodyBuilder;
use lanecast_wire::{Offset, ProducerEpoch, ProducerId, Sequence, batch};

pub(crate) const APPEND_TIME_MS: i64 = 1_700_000_000_000;
pub(crate) const CREATED_MS: i64 = APPEND_TIME_MS - 1_000;
pub(crate) const UUID: &str = "GPU-1";

/// A batch of one series; the values count from 0.
pub(crate) struct Batch<'a> {
    pub(crate) base_offset: u64,
    pub(crate) schema: u8,
    pub(crate) times: &'a [i64],
    pub(crate) append_time_ms: i64,
}

impl Default for Batch<'_> {
    fn default() -> Self {
        Self {
            base_offset: 0,
            schema: batch::schema::TELEMETRY,
            times: &[APPEND_TIME_MS],
            append_time_ms: APPEND_TIME_MS,
        }
    }
}

impl Batch<'_> {
    /// As a broker would deliver it.
    pub(crate) fn bytes(&self) -> Bytes {
        let mut catalog = SeriesCatalog::new();
        let identity = Identity { uuid: UUID, hostname: "host", ..Identity::default() };
        let series = catalog.series(&identity).unwrap();
        let metric = catalog.metric("DCGM_FI_DEV_GPU_UTIL").unwrap();
        let mut builder = TelemetryBuilder::empty();
        for (value, &ts_ms) in self.times.iter().enumerate() {
            let sample = Sample {
                catalog: &catalog,
                series,
                metric,
                ts_ms,
                source_ts_ms: ts_ms,
                value: value as f64,
            };
            builder.push(&sample).unwrap();
        }
        let mut sealed = builder.seal();
        sealed.schema = self.schema;
        let sealed = batch::seal(&sealed, ProducerId(1), ProducerEpoch(0), Sequence(0), CREATED_MS);
        let mut bytes = sealed.to_vec();
        batch::stamp(&mut bytes, Offset(self.base_offset), self.append_time_ms);
        bytes.into()
    }

    /// With one bit of its body wrong.
    pub(crate) fn flipped(&self) -> Bytes {
        let mut bytes = self.bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        bytes.into()
    }
}
