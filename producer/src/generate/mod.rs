//! A made-up fleet as a source of samples: seeded, believable, and as large and fast as wanted.
//!
//! Samples come as scrapes would bring them: at each interval, host by host, GPU by GPU, each with
//! all its metrics. The same seed and settings give the same samples on every machine.

mod fleet;
mod gpu;
mod job;
mod metric;
mod random;

use lanecast_telemetry::{MetricId, SeriesCatalog};
use serde::Serialize;

use crate::limits;
use crate::shard::ShardOf;
use crate::source::{Point, Source, SourceError, SourceStats, Step};
use crate::stamp::{Stamper, Timestamps};
use fleet::Fleet;
use gpu::Gpu;
use job::{SETTLED_MS, Schedule};
use random::Random;

/// The fleet and how long it is watched.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GenerateConfig {
    pub seed: u64,
    pub hosts: u32,
    pub gpus_per_host: u32,
    /// GPUs that are out for repair.
    pub missing_gpus: u32,
    /// Metrics of each GPU: the ten of a default exporter first.
    pub metrics: u32,
    /// Time between two samples of one series.
    pub interval_ms: u64,
    /// Samples after which the source ends.
    pub rows: Option<u64>,
    /// Time of the fleet after which the source ends.
    pub duration_ms: Option<u64>,
    /// When the fleet's time begins; otherwise at the first sample.
    pub start_ms: Option<i64>,
    pub timestamps: Timestamps,
    /// Give each round of samples when it is due, instead of as fast as they are taken.
    pub real_time: bool,
    pub shard: ShardOf,
}

impl Default for GenerateConfig {
    /// 31 hosts of 8 GPUs with one missing, once a second, without end.
    fn default() -> Self {
        GenerateConfig {
            seed: 1,
            hosts: 31,
            gpus_per_host: 8,
            missing_gpus: 1,
            metrics: 10,
            interval_ms: 1000,
            rows: None,
            duration_ms: None,
            start_ms: None,
            timestamps: Timestamps::Now,
            real_time: true,
            shard: ShardOf::ALL,
        }
    }
}

/// Plays a generated fleet.
pub struct GenerateSource {
    config: GenerateConfig,
    catalog: SeriesCatalog,
    metrics: Vec<MetricId>,
    fleet: Fleet,
    gpus: Vec<Gpu>,
    /// GPUs that this instance publishes, in order.
    ours: Vec<u32>,
    schedule: Schedule,
    stamper: Stamper,
    start_ms: Option<i64>,
    round: u64,
    /// The round has been begun: its time announced, its jobs scheduled.
    announced: bool,
    /// Place in `ours` and in `metrics` of the next sample.
    next_gpu: usize,
    next_metric: usize,
    stats: SourceStats,
}

impl Source for GenerateSource {
    fn catalog(&self) -> &SeriesCatalog {
        &self.catalog
    }

    fn next(&mut self, now_ms: i64) -> Result<Step, SourceError> {
        if self.config.rows.is_some_and(|rows| self.stats.rows_read >= rows) || self.is_over() {
            self.stats.passes = 1;
            return Ok(Step::End);
        }
        if !self.announced {
            self.begin_round();
            if self.config.real_time {
                return Ok(Step::Due { elapsed_us: self.elapsed_ms().saturating_mul(1000) });
            }
        }
        let Some(gpu) = self.ours.get(self.next_gpu).map(|gpu| *gpu as usize) else {
            // Another shard owns the whole fleet: let time pass.
            self.end_round();
            return Ok(Step::Busy);
        };
        if self.next_metric == 0 {
            let seconds = self.config.interval_ms as f64 / 1000.0;
            let time_ms = self.elapsed_ms() + SETTLED_MS;
            self.gpus[gpu].step(self.schedule.job_of(gpu), time_ms, seconds);
        }
        let start_ms = *self.start_ms.get_or_insert_with(|| now_ms - now_ms.rem_euclid(1000));
        let source_ts_ms = start_ms.saturating_add(self.elapsed_ms() as i64);
        let point = Point {
            series: self.fleet.series[gpu],
            metric: self.metrics[self.next_metric],
            ts_ms: self.stamper.stamp(source_ts_ms, now_ms),
            source_ts_ms,
            value: metric::value(self.next_metric, &self.gpus[gpu]),
        };
        self.next_metric += 1;
        if self.next_metric == self.metrics.len() {
            self.next_metric = 0;
            self.next_gpu += 1;
            if self.next_gpu == self.ours.len() {
                self.end_round();
            }
        }
        self.stats.rows_read += 1;
        Ok(Step::Point(point))
    }

    fn stats(&self) -> &SourceStats {
        &self.stats
    }
}

impl GenerateSource {
    /// # Errors
    /// A setting is out of its range.
    pub fn new(config: GenerateConfig) -> Result<Self, SourceError> {
        check(&config)?;
        let mut catalog = SeriesCatalog::new();
        let full = |refused: lanecast_wire::builder::RecordRefused| SourceError::Setting {
            setting: "hosts",
            reason: refused.to_string(),
        };
        let metrics = (0..config.metrics as usize)
            .map(|metric| catalog.metric(&metric::name(metric)))
            .collect::<Result<_, _>>()
            .map_err(full)?;
        let fleet = Fleet::new(&config, &mut catalog).map_err(full)?;
        let schedule =
            Schedule::new(Random::new(config.seed, 0x6a6f_6273), fleet.host_starts.clone());
        let gpus = (0..fleet.series.len())
            .map(|place| {
                let mut gpu = Gpu::new(Random::new(config.seed, (place as u64) << 20 | 0x6770));
                gpu.settle(schedule.job_of(place), SETTLED_MS);
                gpu
            })
            .collect();
        let ours = (0..fleet.series.len() as u32)
            .filter(|gpu| {
                let uuid = catalog.uuid(fleet.series[*gpu as usize]);
                config.shard.owns(uuid.as_bytes())
            })
            .collect();
        Ok(GenerateSource {
            stamper: Stamper::new(config.timestamps),
            start_ms: config.start_ms,
            catalog,
            metrics,
            fleet,
            gpus,
            ours,
            schedule,
            round: 0,
            announced: false,
            next_gpu: 0,
            next_metric: 0,
            stats: SourceStats::default(),
            config,
        })
    }

    /// GPUs of the whole fleet.
    #[must_use]
    pub fn gpu_count(&self) -> usize {
        self.gpus.len()
    }

    /// Names of its metrics, in the order of each GPU's samples.
    #[must_use]
    pub fn metric_names(&self) -> Vec<String> {
        self.metrics.iter().map(|metric| self.catalog.metric_name(*metric).to_owned()).collect()
    }

    fn elapsed_ms(&self) -> u64 {
        self.round.saturating_mul(self.config.interval_ms)
    }

    fn is_over(&self) -> bool {
        self.config.duration_ms.is_some_and(|duration| self.elapsed_ms() >= duration)
    }

    fn begin_round(&mut self) {
        self.announced = true;
        self.schedule.advance(self.elapsed_ms() + SETTLED_MS);
    }

    fn end_round(&mut self) {
        self.announced = false;
        self.next_gpu = 0;
        self.next_metric = 0;
        self.round += 1;
    }
}

fn check(config: &GenerateConfig) -> Result<(), SourceError> {
    let range = |setting: &'static str, value: u64, low: u64, high: u64| {
        if (low..=high).contains(&value) {
            return Ok(());
        }
        let reason = format!("{value} is not between {low} and {high}");
        Err(SourceError::Setting { setting, reason })
    };
    range("hosts", config.hosts.into(), 1, limits::HOSTS_MAX.into())?;
    range("gpus per host", config.gpus_per_host.into(), 1, limits::GPUS_PER_HOST_MAX.into())?;
    range("metrics", config.metrics.into(), 1, limits::GENERATED_METRICS_MAX.into())?;
    let gpus = u64::from(config.hosts) * u64::from(config.gpus_per_host);
    let series_max = lanecast_telemetry::limits::CATALOG_SERIES_MAX as u64;
    range("GPUs in all", gpus, 1, series_max)?;
    // Half of them at most, so that drawing the missing ones always ends soon.
    range("missing GPUs", config.missing_gpus.into(), 0, gpus / 2)?;
    range("interval in ms", config.interval_ms, 1, 86_400_000)
}
