//! A small made-up fleet for the other tests.

use lanecast_telemetry::{
    Identity, MetricId, Sample, SeriesCatalog, SeriesId, TelemetryBuilder, TelemetryView,
};
use lanecast_wire::builder::{BodyBuilder, SealedBody};

pub(crate) const METRICS: [&str; 10] = [
    "DCGM_FI_DEV_GPU_UTIL",
    "DCGM_FI_DEV_MEM_COPY_UTIL",
    "DCGM_FI_DEV_ENC_UTIL",
    "DCGM_FI_DEV_DEC_UTIL",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_FB_USED",
    "DCGM_FI_DEV_FB_FREE",
    "DCGM_FI_DEV_SM_CLOCK",
    "DCGM_FI_DEV_MEM_CLOCK",
];

pub(crate) struct Fleet {
    pub(crate) catalog: SeriesCatalog,
    pub(crate) series: Vec<SeriesId>,
    pub(crate) metrics: Vec<MetricId>,
}

impl Fleet {
    pub(crate) fn new(hosts: u32) -> Self {
        let mut catalog = SeriesCatalog::new();
        let mut series = Vec::new();
        for host in 0..hosts {
            for gpu in 0..8 {
                let hostname = format!("row1-dgx1-hgpu-{host:03}");
                let instance = format!("{hostname}:9400");
                let labels = [
                    ("DCGM_FI_DRIVER_VERSION", "535.129.03"),
                    ("instance", instance.as_str()),
                    ("job", "dgx_dcgm_exporter"),
                ];
                let identity = Identity {
                    uuid: &format!("GPU-{host:08x}-86f3-7a43-b711-{gpu:012x}"),
                    device: &format!("nvidia{gpu}"),
                    model: "NVIDIA H100 80GB HBM3",
                    hostname: &hostname,
                    gpu_index: gpu,
                    labels: &labels,
                    ..Identity::default()
                };
                series.push(catalog.series(&identity).unwrap());
            }
        }
        let metrics = METRICS.iter().map(|name| catalog.metric(name).unwrap()).collect();
        Fleet { catalog, series, metrics }
    }

    /// Row `row` of a snapshot that goes through all GPUs metric by metric.
    pub(crate) fn sample(&self, row: usize) -> Sample<'_> {
        let series = self.series[row % self.series.len()];
        let metric = self.metrics[row / self.series.len() % self.metrics.len()];
        let source_ts_ms = 1_752_871_354_000 + (row as i64 % 4) * 1000;
        let ts_ms = 1_763_697_600_000 + row as i64;
        Sample { catalog: &self.catalog, series, metric, ts_ms, source_ts_ms, value: row as f64 }
    }

    pub(crate) fn seal(&self, rows: usize) -> SealedBody {
        let mut builder = TelemetryBuilder::empty();
        for row in 0..rows {
            builder.push(&self.sample(row)).unwrap();
        }
        builder.seal()
    }
}

pub(crate) fn open(sealed: &SealedBody) -> TelemetryView<'_> {
    TelemetryView::open(&sealed.body, sealed.record_count).unwrap()
}
