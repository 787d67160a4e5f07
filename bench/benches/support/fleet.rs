//! A made-up fleet: 125 GPUs in 16 hosts, and samples of them.

use lanecast_telemetry::{Identity, MetricId, Sample, SeriesCatalog, SeriesId, TelemetryBuilder};
use lanecast_wire::builder::{BodyBuilder, SealedBody};

pub(crate) const GPUS: usize = 125;
const METRICS: usize = 8;
/// One sample of every metric of every GPU.
pub(crate) const ROWS: usize = GPUS * METRICS;

/// 2023-11-14, in unix milliseconds.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

pub(crate) struct Fleet {
    catalog: SeriesCatalog,
    pairs: Vec<(SeriesId, MetricId)>,
}

pub(crate) fn uuid(gpu: usize) -> String {
    format!("GPU-{gpu:08x}-0000-4000-8000-{gpu:012x}")
}

pub(crate) fn hostname(gpu: usize) -> String {
    format!("host-{:03}", gpu / 8)
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let mut catalog = SeriesCatalog::new();
        let mut pairs = Vec::with_capacity(ROWS);
        for gpu in 0..GPUS {
            let (uuid, hostname) = (uuid(gpu), hostname(gpu));
            let device = format!("nvidia{}", gpu % 8);
            let instance = format!("{hostname}:9400");
            let identity = Identity {
                uuid: &uuid,
                gpu_index: (gpu % 8) as u32,
                device: &device,
                model: "NVIDIA H100 80GB HBM3",
                hostname: &hostname,
                labels: &[("instance", &instance), ("job", "dcgm")],
                ..Identity::default()
            };
            let series = catalog.series(&identity).expect("within limits");
            for metric in 0..METRICS {
                let name = format!("DCGM_FI_DEV_METRIC_{metric}");
                pairs.push((series, catalog.metric(&name).expect("within limits")));
            }
        }
        Fleet { catalog, pairs }
    }

    /// Pushes [`ROWS`] samples.
    pub(crate) fn push_all(&self, builder: &mut TelemetryBuilder) {
        for (at, (series, metric)) in self.pairs.iter().enumerate() {
            let sample = Sample {
                catalog: &self.catalog,
                series: *series,
                metric: *metric,
                ts_ms: START_MS + at as i64,
                source_ts_ms: START_MS,
                value: at as f64,
            };
            builder.push(&sample).expect("within limits");
        }
    }

    pub(crate) fn body(&self) -> SealedBody {
        let mut builder = TelemetryBuilder::empty();
        self.push_all(&mut builder);
        builder.seal()
    }
}
