//! Samples written as a CSV file, in the shape that dcgm-exporter dumps have.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use lanecast_telemetry::{Identity, Sample, SeriesId, labels};
use serde::{Deserialize, Serialize};

use crate::sink::{Pushed, Sink, SinkStats};
use crate::source::SourceError;

/// One row per sample, or one per GPU and time with a column per metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CsvLayout {
    #[default]
    Long,
    Wide,
}

/// What to write and where.
#[derive(Clone, Debug, Serialize)]
pub struct CsvFileConfig {
    /// `-` is standard output.
    pub path: PathBuf,
    pub layout: CsvLayout,
    /// Spoils every such row of a long file, in one way after another, to try out what a reader
    /// makes of them.
    pub spoil_every: Option<u64>,
}

/// A CSV file that takes samples.
pub struct CsvFile {
    output: BufWriter<Box<dyn Write + Send>>,
    layout: CsvLayout,
    spoil_every: Option<u64>,
    metrics: Vec<String>,
    row: Vec<u8>,
    wide: Option<WideRow>,
    header_written: bool,
    stats: SinkStats,
}

/// The GPU and time that cells are gathered for.
struct WideRow {
    series: SeriesId,
    source_ts_ms: i64,
    identity: Vec<u8>,
    cells: Vec<Option<f64>>,
    labels: String,
}

const LONG_HEADER: &str = "timestamp,metric_name,gpu_id,device,uuid,modelName,Hostname,\
                           container,pod,namespace,value,labels_raw\n";
const WIDE_HEADER: &str = "timestamp,gpu_id,device,uuid,modelName,Hostname,container,pod,namespace";

impl CsvFile {
    /// `metrics` are the columns of a wide file, in order; a long one needs none.
    ///
    /// # Errors
    /// The file cannot be created, or a wide file is to be spoiled.
    pub fn create(config: &CsvFileConfig, metrics: Vec<String>) -> Result<Self, SourceError> {
        if config.layout == CsvLayout::Wide && config.spoil_every.is_some() {
            let reason = "only rows of the long layout can be spoiled".into();
            return Err(SourceError::Setting { setting: "spoil every", reason });
        }
        if config.spoil_every == Some(0) {
            let reason = "must be above 0".into();
            return Err(SourceError::Setting { setting: "spoil every", reason });
        }
        let output: Box<dyn Write + Send> = if config.path.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            let created = File::create(&config.path);
            let failed = |source| SourceError::Create { path: config.path.clone(), source };
            Box::new(created.map_err(failed)?)
        };
        Ok(CsvFile {
            output: BufWriter::with_capacity(256 * 1024, output),
            layout: config.layout,
            spoil_every: config.spoil_every,
            metrics,
            row: Vec::new(),
            wide: None,
            header_written: false,
            stats: SinkStats::default(),
        })
    }

    fn write(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        self.write_header()?;
        match self.layout {
            CsvLayout::Long => self.write_long(sample),
            CsvLayout::Wide => self.gather(sample),
        }
    }

    fn write_header(&mut self) -> io::Result<()> {
        if core::mem::replace(&mut self.header_written, true) {
            return Ok(());
        }
        match self.layout {
            CsvLayout::Long => self.put(LONG_HEADER.as_bytes()),
            CsvLayout::Wide => {
                let header = format!("{WIDE_HEADER},{},labels\n", self.metrics.join(","));
                self.put(header.as_bytes())
            }
        }
    }

    fn write_long(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        let metric = sample.catalog.metric_name(sample.metric);
        let number = self.stats.acknowledged + 1;
        let spoil = self.spoil_every.filter(|every| number.is_multiple_of(*every));
        let spoil = spoil.map(|every| (number / every - 1) as usize);
        let mut row = core::mem::take(&mut self.row);
        row.clear();
        sample.catalog.with_identity(sample.series, |identity| {
            let [gpu, rest @ ..] = identity_fields(identity);
            let mut fields = vec![render_time(sample.source_ts_ms), metric.to_owned(), gpu];
            fields.extend(rest);
            fields.push(sample.value.to_string());
            fields.push(labels::render(identity, metric));
            match spoil {
                None => quote_all(&fields, &mut row),
                Some(way) => spoil_row(way, &mut fields, &mut row),
            }
        });
        row.push(b'\n');
        let written = self.put(&row);
        self.row = row;
        written
    }

    fn gather(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        let same = self.wide.as_ref().is_some_and(|row| {
            row.series == sample.series && row.source_ts_ms == sample.source_ts_ms
        });
        if !same {
            self.write_wide()?;
            let columns = self.metrics.len();
            self.wide = Some(sample.catalog.with_identity(sample.series, |identity| {
                let mut quoted = Vec::new();
                let mut fields = vec![render_time(sample.source_ts_ms)];
                fields.extend(identity_fields(identity));
                quote_all(&fields, &mut quoted);
                let labels = identity.labels.iter().map(|(key, value)| format!("{key}={value}"));
                WideRow {
                    series: sample.series,
                    source_ts_ms: sample.source_ts_ms,
                    identity: quoted,
                    cells: vec![None; columns],
                    labels: labels.collect::<Vec<_>>().join(";"),
                }
            }));
        }
        let name = sample.catalog.metric_name(sample.metric);
        let place = self.metrics.iter().position(|metric| metric == name);
        if let (Some(row), Some(place)) = (&mut self.wide, place) {
            row.cells[place] = Some(sample.value);
        }
        Ok(())
    }

    fn write_wide(&mut self) -> io::Result<()> {
        let Some(gathered) = self.wide.take() else { return Ok(()) };
        let mut row = gathered.identity;
        for cell in gathered.cells {
            row.push(b',');
            quote(&cell.map_or_else(String::new, |value| value.to_string()), &mut row);
        }
        row.push(b',');
        quote(&gathered.labels, &mut row);
        row.push(b'\n');
        self.put(&row)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stats.bytes += bytes.len() as u64;
        self.output.write_all(bytes)
    }
}

impl Sink for CsvFile {
    type Error = io::Error;

    async fn push(&mut self, sample: &Sample<'_>) -> io::Result<Pushed> {
        self.write(sample)?;
        self.stats.acknowledged += 1;
        Ok(Pushed::Taken)
    }

    async fn idle(&mut self) -> io::Result<()> {
        core::future::pending().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.write_header()?;
        self.write_wide()?;
        self.output.flush()
    }

    fn stats(&self) -> SinkStats {
        self.stats
    }
}

/// Number, device, uuid, model, host, container, pod, namespace.
fn identity_fields(identity: &Identity<'_>) -> [String; 8] {
    [
        identity.gpu_index.to_string(),
        identity.device.to_owned(),
        identity.uuid.to_owned(),
        identity.model.to_owned(),
        identity.hostname.to_owned(),
        identity.container.to_owned(),
        identity.pod.to_owned(),
        identity.namespace.to_owned(),
    ]
}

/// RFC 3339 in UTC, with milliseconds where there are any.
fn render_time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

fn quote_all(fields: &[String], row: &mut Vec<u8>) {
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            row.push(b',');
        }
        quote(field, row);
    }
}

fn quote(field: &str, row: &mut Vec<u8>) {
    row.push(b'"');
    for byte in field.bytes() {
        if byte == b'"' {
            row.push(b'"');
        }
        row.push(byte);
    }
    row.push(b'"');
}

/// The ways in which rows go bad in the wild; the seventh and eighth are no faults but blanks.
fn spoil_row(way: usize, fields: &mut Vec<String>, row: &mut Vec<u8>) {
    const VALUE: usize = 10;
    const TIME: usize = 0;
    const UUID: usize = 4;
    match way % 8 {
        0 => fields[VALUE] = "NaN".into(),
        1 => fields[VALUE] = "n/a".into(),
        2 => fields[TIME] = "yesterday".into(),
        3 => fields[UUID].clear(),
        4 => fields.truncate(VALUE),
        5 => {
            quote_all(fields, row);
            row.extend_from_slice(b"x");
            return;
        }
        6 => fields[VALUE].clear(),
        _ => fields[VALUE] = "9223372036854775792".into(),
    }
    quote_all(fields, row);
}
