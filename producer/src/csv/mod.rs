//! A CSV file as a source of samples.

mod header;
mod identities;
mod input;
mod open;
mod rejected;
mod rejects;
mod rows;
mod split;
mod time;
mod value;

use std::path::PathBuf;

use lanecast_telemetry::{MetricId, SeriesCatalog};
use serde::Serialize;

pub use input::Input;

use crate::limits;
use crate::shard::ShardOf;
use crate::source::{Point, RejectReason, Source, SourceError, SourceStats, Step};
use crate::stamp::{Stamper, Timestamps};
use header::{Header, Layout, Role};
use identities::{Identities, Owner};
use input::Bytes;
use open::{intern_wide, open_rows};
use rejected::{Rejected, reject};
use rejects::RejectsFile;
use rows::{RowStep, Rows};
use value::parse_value;

/// What to read and how.
#[derive(Clone, Debug, Serialize)]
pub struct CsvConfig {
    pub input: Input,
    pub timestamps: Timestamps,
    /// Start over at the end of the file, for ever.
    pub repeat: bool,
    /// Stop at the first bad row.
    pub strict: bool,
    /// Where bad rows are written to.
    pub rejects: Option<PathBuf>,
    pub shard: ShardOf,
    pub delimiter: u8,
}

impl CsvConfig {
    /// Reads `input` once, all of it, stamped with the time of processing.
    #[must_use]
    pub fn new(input: Input) -> Self {
        CsvConfig {
            input,
            timestamps: Timestamps::Now,
            repeat: false,
            strict: false,
            rejects: None,
            shard: ShardOf::ALL,
            delimiter: b',',
        }
    }
}

/// Reads samples from a CSV file, in the long or the wide layout.
pub struct CsvSource {
    config: CsvConfig,
    rows: Rows<Bytes>,
    header: Header,
    raw_header: Vec<u8>,
    catalog: SeriesCatalog,
    identities: Identities,
    /// The last row's metric, which is often the next one's.
    last_metric: (Vec<u8>, Option<MetricId>),
    /// The last row's time, likewise.
    last_time: (Vec<u8>, i64),
    /// Metric ids of a wide file's columns.
    wide_metrics: Vec<MetricId>,
    /// Samples of the current wide row, the next one last.
    pending: Vec<Point>,
    /// The current row is to be split again.
    misread: bool,
    stamper: Stamper,
    rejects: Option<RejectsFile>,
    stats: SourceStats,
    /// Bytes of passes that are over.
    past_bytes: u64,
    scratch: Vec<u8>,
}

/// What became of a good row.
enum Taken {
    Point(Point),
    /// Samples wait in `pending`.
    Pending,
    /// Another shard's, or without a value.
    Nothing,
    /// Its last column was wrongly taken on trust: it is to be split again.
    Misread,
}

impl Source for CsvSource {
    fn catalog(&self) -> &SeriesCatalog {
        &self.catalog
    }

    fn next(&mut self, now_ms: i64) -> Result<Step, SourceError> {
        if let Some(point) = self.pending.pop() {
            return Ok(Step::Point(point));
        }
        for _ in 0..limits::ROWS_PER_CALL_MAX {
            match self.advance().map_err(|source| self.read_error(source))? {
                RowStep::Row => match self.take_row(now_ms) {
                    Ok(Taken::Misread) => self.misread = true,
                    Ok(Taken::Point(point)) => {
                        self.count_row();
                        return Ok(Step::Point(point));
                    }
                    Ok(Taken::Pending | Taken::Nothing) => {
                        self.count_row();
                        if let Some(point) = self.pending.pop() {
                            return Ok(Step::Point(point));
                        }
                    }
                    Err(rejected) => {
                        self.count_row();
                        self.reject_row(&rejected)?;
                    }
                },
                RowStep::Fault(fault) => {
                    self.count_row();
                    self.reject_row(&fault.into())?;
                }
                RowStep::Quiet => return Ok(Step::Quiet),
                RowStep::End => {
                    self.end_pass()?;
                    if !self.config.repeat {
                        return Ok(Step::End);
                    }
                    self.rewind()?;
                    return Ok(Step::Busy);
                }
            }
        }
        Ok(Step::Busy)
    }

    fn stats(&self) -> &SourceStats {
        &self.stats
    }
}

impl CsvSource {
    /// Opens the input and reads its header. Standard input is waited for.
    ///
    /// # Errors
    /// The input cannot be read, or its header does not name what is needed.
    pub fn open(config: CsvConfig) -> Result<Self, SourceError> {
        if config.repeat && !config.input.can_be_read_again() {
            let reason = "standard input cannot be read again".into();
            return Err(SourceError::Setting { setting: "loop", reason });
        }
        let stamper = Stamper::new(config.timestamps);
        let (rows, header) = open_rows(&config, stamper.needs_source_time())?;
        let mut catalog = SeriesCatalog::new();
        let wide_metrics = intern_wide(&header, &mut catalog, &config.input)?;
        let rejects = config.rejects.as_deref().map(RejectsFile::create).transpose()?;
        Ok(CsvSource {
            identities: Identities::new(&header, config.shard),
            raw_header: rows.raw().to_vec(),
            rows,
            header,
            catalog,
            last_metric: (Vec::new(), None),
            last_time: (Vec::new(), 0),
            wide_metrics,
            pending: Vec::new(),
            misread: false,
            stamper,
            rejects,
            stats: SourceStats::default(),
            past_bytes: 0,
            scratch: Vec::new(),
            config,
        })
    }

    fn advance(&mut self) -> std::io::Result<RowStep> {
        if core::mem::take(&mut self.misread) {
            return self.rows.split_again();
        }
        self.rows.advance()
    }

    fn count_row(&mut self) {
        self.stats.rows_read += 1;
        self.stats.bytes_read = self.past_bytes + self.rows.bytes_read();
    }

    fn take_row(&mut self, now_ms: i64) -> Result<Taken, Rejected> {
        let (expected, found) = (self.header.names.len(), self.rows.field_count());
        if found != expected {
            let detail = format!("has {found} fields, the header {expected}");
            return Err(reject(None, RejectReason::FieldCount, &detail));
        }
        if self.identities.is_full(&self.catalog) {
            self.start_afresh();
        }
        match self.header.layout {
            Layout::Long { metric, value } => self.take_long(metric, value, now_ms),
            Layout::Wide { .. } => self.take_wide(now_ms),
        }
    }

    fn take_long(&mut self, metric: usize, value: usize, now_ms: i64) -> Result<Taken, Rejected> {
        let known = self.identities.find(&self.rows, self.rows.raw_field(metric));
        let owner = match known {
            Some(owner) => owner,
            None if !self.rows.verify() => return Ok(Taken::Misread),
            None => {
                let raw_metric = self.rows.raw_field(metric);
                self.identities.learn(&self.rows, &self.header, raw_metric, &mut self.catalog)?
            }
        };
        let Owner::Ours(series) = owner else {
            self.stats.rows_of_other_shards += 1;
            return Ok(Taken::Nothing);
        };
        let metric = self.metric(metric)?;
        let Some(value) = parse_value(&self.rows, value)? else {
            self.stats.dropped_blank += 1;
            return Ok(Taken::Nothing);
        };
        let (ts_ms, source_ts_ms) = self.times(now_ms)?;
        Ok(Taken::Point(Point { series, metric, ts_ms, source_ts_ms, value }))
    }

    /// A row is taken whole or not at all, so that a repaired one can be read again.
    fn take_wide(&mut self, now_ms: i64) -> Result<Taken, Rejected> {
        let owner = match self.identities.find(&self.rows, b"") {
            Some(owner) => owner,
            None => self.identities.learn(&self.rows, &self.header, b"", &mut self.catalog)?,
        };
        let Owner::Ours(series) = owner else {
            self.stats.rows_of_other_shards += 1;
            return Ok(Taken::Nothing);
        };
        let Layout::Wide { metrics: columns } = &self.header.layout else {
            unreachable!("the caller matched the layout")
        };
        let mut blank = 0;
        for (column, metric) in columns.iter().zip(&self.wide_metrics).rev() {
            match parse_value(&self.rows, *column) {
                Ok(Some(value)) => {
                    let (series, metric) = (series, *metric);
                    self.pending.push(Point { series, metric, ts_ms: 0, source_ts_ms: 0, value });
                }
                Ok(None) => blank += 1,
                Err(rejected) => {
                    self.pending.clear();
                    return Err(rejected);
                }
            }
        }
        let times = self.times(now_ms);
        match times {
            Ok((ts_ms, source_ts_ms)) => {
                for point in &mut self.pending {
                    (point.ts_ms, point.source_ts_ms) = (ts_ms, source_ts_ms);
                }
            }
            Err(rejected) => {
                self.pending.clear();
                return Err(rejected);
            }
        }
        self.stats.dropped_blank += blank;
        Ok(Taken::Pending)
    }

    fn metric(&mut self, column: usize) -> Result<MetricId, Rejected> {
        let raw = self.rows.raw_field(column);
        if let (last, Some(id)) = &self.last_metric
            && last == raw
            && !self.rows.is_doubled(column)
        {
            return Ok(*id);
        }
        let field = self.rows.field(column, &mut self.scratch);
        let name = core::str::from_utf8(field)
            .map_err(|error| reject(Some(column), RejectReason::NotUtf8, &error.to_string()))?;
        if name.is_empty() {
            return Err(reject(Some(column), RejectReason::MissingMetric, "is empty"));
        }
        let id = self.catalog.metric(name).map_err(|refused| {
            reject(Some(column), RejectReason::LimitExceeded, &refused.to_string())
        })?;
        if !self.rows.is_doubled(column) {
            self.last_metric.0.clear();
            self.last_metric.0.extend_from_slice(self.rows.raw_field(column));
            self.last_metric.1 = Some(id);
        }
        Ok(id)
    }

    /// The sample's time and the source's.
    fn times(&mut self, now_ms: i64) -> Result<(i64, i64), Rejected> {
        let source_ts_ms = match self.header.column(Role::Timestamp) {
            Some(column) if !self.rows.raw_field(column).is_empty() => self.source_time(column)?,
            column if self.stamper.needs_source_time() => {
                return Err(reject(column, RejectReason::MissingTimestamp, "is empty"));
            }
            _ => now_ms,
        };
        Ok((self.stamper.stamp(source_ts_ms, now_ms), source_ts_ms))
    }

    fn source_time(&mut self, column: usize) -> Result<i64, Rejected> {
        let raw = self.rows.raw_field(column);
        if self.last_time.0 == raw {
            return Ok(self.last_time.1);
        }
        let parsed = core::str::from_utf8(raw).ok().and_then(time::parse_ms);
        let ms = parsed.ok_or_else(|| {
            let shown = format!("{:?}", String::from_utf8_lossy(raw));
            reject(Some(column), RejectReason::BadTimestamp, &shown)
        })?;
        self.last_time.0.clear();
        self.last_time.0.extend_from_slice(raw);
        self.last_time.1 = ms;
        Ok(ms)
    }

    #[cold]
    fn reject_row(&mut self, rejected: &Rejected) -> Result<(), SourceError> {
        if !self.owns_current_row() {
            self.stats.rows_of_other_shards += 1;
            return Ok(());
        }
        let Rejected { column, reason, detail } = rejected;
        let line = self.rows.line();
        let column = column.map_or_else(|| "-".to_owned(), |column| self.column_name(column));
        self.stats.rows_rejected.count(*reason);
        if self.stats.rows_rejected.total() <= limits::REJECTS_LOGGED_MAX {
            tracing::warn!(line, column, %reason, detail, "row rejected");
        }
        if let Some(file) = &mut self.rejects {
            file.write(&self.raw_header, line, &column, *reason, detail, self.rows.raw())?;
        }
        if self.config.strict {
            self.flush_rejects()?;
            let (input, detail) = (self.config.input.to_string(), detail.clone());
            return Err(SourceError::Strict { input, line, column, reason: *reason, detail });
        }
        Ok(())
    }

    /// A bad row is reported by the instance that owns its GPU, when it names one.
    fn owns_current_row(&mut self) -> bool {
        let column = self.header.column(Role::Uuid);
        let whole = self.rows.field_count() == self.header.names.len();
        match column.filter(|_| whole) {
            Some(column) => self.config.shard.owns(self.rows.field(column, &mut self.scratch)),
            None => self.config.shard.owns_nameless(),
        }
    }

    /// Name and number, as a person would look for it.
    fn column_name(&self, column: usize) -> String {
        let name = self.header.names.get(column).map_or("?", String::as_str);
        format!("{} ({name})", column + 1)
    }

    fn end_pass(&mut self) -> Result<(), SourceError> {
        self.stats.passes += 1;
        self.stats.bytes_read = self.past_bytes + self.rows.bytes_read();
        self.flush_rejects()
    }

    fn flush_rejects(&mut self) -> Result<(), SourceError> {
        self.rejects.as_mut().map_or(Ok(()), RejectsFile::flush)
    }

    fn rewind(&mut self) -> Result<(), SourceError> {
        self.past_bytes += self.rows.bytes_read();
        let (rows, header) = open_rows(&self.config, self.stamper.needs_source_time())?;
        if header != self.header {
            let input = self.config.input.to_string();
            return Err(SourceError::Header { input, reason: "changed between passes".into() });
        }
        self.rows = rows;
        self.stamper.rewind();
        Ok(())
    }

    /// Forgets all identities, so that an endless stream of new ones runs in bounded memory.
    #[cold]
    fn start_afresh(&mut self) {
        self.catalog.clear();
        self.identities.clear();
        self.last_metric.1 = None;
        let interned = intern_wide(&self.header, &mut self.catalog, &self.config.input);
        self.wide_metrics = interned.expect("the same names were interned when it was opened");
    }

    fn read_error(&mut self, source: std::io::Error) -> SourceError {
        SourceError::Read { input: self.config.input.to_string(), line: self.rows.line(), source }
    }
}
