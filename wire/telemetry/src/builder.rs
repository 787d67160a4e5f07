//! Gathers samples into the body of one batch.

use lanecast_wire::Slot;
use lanecast_wire::batch::schema;
use lanecast_wire::builder::{BodyBuilder, RecordRefused, SealedBody};
use lanecast_wire::summary::SummaryBuilder;

use crate::catalog::{MetricId, SeriesCatalog, SeriesId};
use crate::columns::{Columns, Label, Series};
use crate::limits;

/// One measured value. `series` and `metric` are ids of `catalog`.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    pub catalog: &'a SeriesCatalog,
    pub series: SeriesId,
    pub metric: MetricId,
    /// When the sample was processed.
    pub ts_ms: i64,
    /// When the source says that it was taken.
    pub source_ts_ms: i64,
    pub value: f64,
}

/// Builds batches of samples. A row costs an index into a dense map and five pushes; hashing was
/// done by the catalog, once per identity.
pub struct TelemetryBuilder {
    columns: Columns,
    series_codes: CodeMap<u16>,
    metric_codes: CodeMap<u16>,
    string_codes: CodeMap<u32>,
    /// Of the GPUs and hosts in the dictionary.
    summary: SummaryBuilder,
    /// Which catalog the code maps speak of.
    generation: u64,
    /// Kept up to date by every push, since it is asked for after each.
    body_bytes: usize,
    min_time_ms: i64,
    max_time_ms: i64,
}

impl BodyBuilder for TelemetryBuilder {
    type Record<'a> = Sample<'a>;

    fn empty() -> Self {
        let columns = Columns::default();
        TelemetryBuilder {
            body_bytes: columns.archive_bytes(),
            columns,
            series_codes: CodeMap::new(u16::MAX),
            metric_codes: CodeMap::new(u16::MAX),
            string_codes: CodeMap::new(u32::MAX),
            summary: SummaryBuilder::default(),
            generation: 0,
            min_time_ms: i64::MAX,
            max_time_ms: i64::MIN,
        }
    }

    fn key<'a>(record: &Self::Record<'a>) -> &'a [u8] {
        record.catalog.uuid(record.series).as_bytes()
    }

    fn slot(record: &Self::Record<'_>) -> Slot {
        record.catalog.slot(record.series)
    }

    fn push(&mut self, sample: &Sample<'_>) -> Result<(), RecordRefused> {
        check_value(sample.value)?;
        check_time("timestamp", sample.ts_ms)?;
        check_time("source timestamp", sample.source_ts_ms)?;
        assert!(self.record_count() < limits::ROWS_MAX, "the producer seals a full batch");
        if self.generation != sample.catalog.generation() {
            self.enter(sample.catalog);
        }
        let series = match self.series_codes.find(sample.series.0) {
            Some(code) => code,
            None => self.add_series(sample.catalog, sample.series),
        };
        let metric = match self.metric_codes.find(sample.metric.0) {
            Some(code) => code,
            None => self.add_metric(sample.catalog, sample.metric),
        };
        self.columns.series_codes.push(series);
        self.columns.metric_codes.push(metric);
        self.columns.ts_ms.push(sample.ts_ms);
        self.columns.source_ts_ms.push(sample.source_ts_ms);
        self.columns.values.push(sample.value);
        self.body_bytes += crate::columns::ROW_BYTES;
        self.min_time_ms = self.min_time_ms.min(sample.ts_ms);
        self.max_time_ms = self.max_time_ms.max(sample.ts_ms);
        Ok(())
    }

    fn record_count(&self) -> u32 {
        self.columns.values.len() as u32
    }

    fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    fn seal(&mut self) -> SealedBody {
        let record_count = self.record_count();
        let room = Vec::with_capacity(self.body_bytes);
        let body = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(&self.columns, room)
            .expect("a vector takes every write, and columns share nothing");
        let (min_time_ms, max_time_ms) =
            if record_count == 0 { (0, 0) } else { (self.min_time_ms, self.max_time_ms) };
        self.columns.clear();
        self.body_bytes = self.columns.archive_bytes();
        self.series_codes.clear();
        self.metric_codes.clear();
        self.string_codes.clear();
        self.min_time_ms = i64::MAX;
        self.max_time_ms = i64::MIN;
        let (schema, summary) = (schema::TELEMETRY, self.summary.seal());
        SealedBody { body, schema, record_count, min_time_ms, max_time_ms, summary }
    }
}

impl TelemetryBuilder {
    /// Makes the code maps speak of another catalog. Rows already gathered keep their codes; what
    /// both catalogs name is then in this one batch's dictionary twice.
    fn enter(&mut self, catalog: &SeriesCatalog) {
        self.series_codes.clear();
        self.metric_codes.clear();
        self.string_codes.clear();
        self.generation = catalog.generation();
    }

    #[inline(never)]
    fn add_series(&mut self, catalog: &SeriesCatalog, id: SeriesId) -> u16 {
        self.series_codes.grow(catalog.series_count());
        self.string_codes.grow(catalog.string_count());
        let (entry, labels) = catalog.entry(id);
        let code = self.columns.series.len() as u16;
        let [uuid, device, model, hostname, container, pod, namespace] =
            entry.strings.map(|string| self.string_code(catalog, string));
        let series = Series {
            uuid,
            device,
            model,
            hostname,
            container,
            pod,
            namespace,
            gpu_index: entry.gpu_index,
            label_count: entry.label_count,
        };
        if !self.summary.is_full() {
            let [gpu, host] = entry.key_hashes;
            self.summary.add(gpu);
            // GPUs of one host mostly come one after the other.
            if self.columns.series.last().is_none_or(|before| before.hostname != hostname) {
                self.summary.add(host);
            }
        }
        self.columns.series.push(series);
        for (key, value) in labels {
            let key = self.string_code(catalog, *key);
            let value = self.string_code(catalog, *value);
            self.columns.labels.push(Label { key, value });
        }
        self.series_codes.insert(id.0, code);
        self.body_bytes = self.columns.archive_bytes();
        code
    }

    #[inline(never)]
    fn add_metric(&mut self, catalog: &SeriesCatalog, id: MetricId) -> u16 {
        self.metric_codes.grow(catalog.metric_count());
        self.string_codes.grow(catalog.string_count());
        let code = self.columns.metrics.len() as u16;
        let string = self.string_code(catalog, catalog.metric_string(id));
        self.columns.metrics.push(string);
        self.metric_codes.insert(id.0, code);
        self.body_bytes = self.columns.archive_bytes();
        code
    }

    fn string_code(&mut self, catalog: &SeriesCatalog, string: u32) -> u32 {
        if let Some(code) = self.string_codes.find(string) {
            return code;
        }
        let code = self.columns.add_string(catalog.text(string));
        self.string_codes.insert(string, code);
        code
    }
}

fn check_value(value: f64) -> Result<(), RecordRefused> {
    if value.is_finite() {
        return Ok(());
    }
    Err(RecordRefused { field: "value", reason: format!("{value} is not a finite number") })
}

fn check_time(field: &'static str, ms: i64) -> Result<(), RecordRefused> {
    if (limits::TIME_MS_MIN..=limits::TIME_MS_MAX).contains(&ms) {
        return Ok(());
    }
    let reason = format!("{ms} ms is outside the years 1970 to 2262");
    Err(RecordRefused { field, reason })
}

/// Catalog id -> code in this batch, dense. Clearing costs what was inserted, not what it spans.
struct CodeMap<C> {
    codes: Vec<C>,
    inserted: Vec<u32>,
    absent: C,
}

impl<C: Copy + PartialEq> CodeMap<C> {
    fn new(absent: C) -> Self {
        CodeMap { codes: Vec::new(), inserted: Vec::new(), absent }
    }

    fn find(&self, id: u32) -> Option<C> {
        self.codes.get(id as usize).copied().filter(|code| *code != self.absent)
    }

    fn grow(&mut self, ids: usize) {
        if self.codes.len() < ids {
            self.codes.resize(ids, self.absent);
        }
    }

    fn insert(&mut self, id: u32, code: C) {
        debug_assert!(code != self.absent);
        self.codes[id as usize] = code;
        self.inserted.push(id);
    }

    fn clear(&mut self) {
        for id in self.inserted.drain(..) {
            self.codes[id as usize] = self.absent;
        }
    }
}
