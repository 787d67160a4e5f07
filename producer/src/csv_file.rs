//! Samples written as a CSV file, in the shape that dcgm-exporter dumps have.

use std::fs::File;
use std::io::{self, Write};
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
    /// Every field quoted, as exporters' dumps have them. Always there but inside `put_raw`.
    output: Option<csv::Writer<Counted>>,
    layout: CsvLayout,
    spoil_every: Option<u64>,
    metrics: Vec<String>,
    wide: Option<WideRow>,
    header_written: bool,
    stats: SinkStats,
}

/// The GPU and time that cells are gathered for.
struct WideRow {
    series: SeriesId,
    source_ts_ms: i64,
    identity: Vec<String>,
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
            output: Some(quoting(Counted { inner: output, bytes: 0 })),
            layout: config.layout,
            spoil_every: config.spoil_every,
            metrics,
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
            CsvLayout::Long => self.put_raw(LONG_HEADER.as_bytes()),
            CsvLayout::Wide => {
                let header = format!("{WIDE_HEADER},{},labels\n", self.metrics.join(","));
                self.put_raw(header.as_bytes())
            }
        }
    }

    fn write_long(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        let metric = sample.catalog.metric_name(sample.metric);
        let number = self.stats.acknowledged + 1;
        let spoil = self.spoil_every.filter(|every| number.is_multiple_of(*every));
        let spoil = spoil.map(|every| (number / every - 1) as usize);
        let mut fields = sample.catalog.with_identity(sample.series, |identity| {
            let [gpu, rest @ ..] = identity_fields(identity);
            let mut fields = vec![render_time(sample.source_ts_ms), metric.to_owned(), gpu];
            fields.extend(rest);
            fields.push(sample.value.to_string());
            fields.push(labels::render(identity, metric));
            fields
        });
        match spoil.map(|way| spoil_fields(way, &mut fields)) {
            None | Some(Spoilt::Fields) => self.put(&fields),
            Some(Spoilt::Quotes) => {
                let mut row = quoted(&fields)?;
                row.extend_from_slice(b"x\n");
                self.put_raw(&row)
            }
        }
    }

    fn gather(&mut self, sample: &Sample<'_>) -> io::Result<()> {
        let same = self.wide.as_ref().is_some_and(|row| {
            row.series == sample.series && row.source_ts_ms == sample.source_ts_ms
        });
        if !same {
            self.write_wide()?;
            let columns = self.metrics.len();
            self.wide = Some(sample.catalog.with_identity(sample.series, |identity| {
                let mut fields = vec![render_time(sample.source_ts_ms)];
                fields.extend(identity_fields(identity));
                let labels = identity.labels.iter().map(|(key, value)| format!("{key}={value}"));
                WideRow {
                    series: sample.series,
                    source_ts_ms: sample.source_ts_ms,
                    identity: fields,
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
        let mut fields = gathered.identity;
        let cells = gathered.cells.iter();
        fields.extend(cells.map(|cell| cell.map_or_else(String::new, |value| value.to_string())));
        fields.push(gathered.labels);
        self.put(&fields)
    }

    fn put(&mut self, fields: &[String]) -> io::Result<()> {
        self.output.as_mut().ok_or_else(broken)?.write_record(fields).map_err(io::Error::other)
    }

    /// Bytes that the writer would quote, in their place among its rows.
    fn put_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer = self.output.take().ok_or_else(broken)?;
        let mut inner = writer.into_inner().map_err(|error| error.into_error())?;
        inner.write_all(bytes)?;
        self.output = Some(quoting(inner));
        Ok(())
    }
}

/// What is written, counted.
struct Counted {
    inner: Box<dyn Write + Send>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn quoting<W: Write>(output: W) -> csv::Writer<W> {
    csv::WriterBuilder::new()
        .quote_style(csv::QuoteStyle::Always)
        .terminator(csv::Terminator::Any(b'\n'))
        .flexible(true)
        .buffer_capacity(256 * 1024)
        .from_writer(output)
}

/// An earlier write failed half way, so where a row would land is not known.
fn broken() -> io::Error {
    io::Error::other("an earlier write to the file failed")
}

/// One row without its line end.
fn quoted(fields: &[String]) -> io::Result<Vec<u8>> {
    let mut writer = quoting(Vec::new());
    writer.write_record(fields).map_err(io::Error::other)?;
    let mut row = writer.into_inner().map_err(|error| error.into_error())?;
    row.pop();
    Ok(row)
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
        self.output.as_mut().ok_or_else(broken)?.flush()
    }

    fn stats(&self) -> SinkStats {
        let bytes = self.output.as_ref().map_or(0, |output| output.get_ref().bytes);
        SinkStats { bytes, ..self.stats }
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

/// What [`spoil_fields`] left to do.
enum Spoilt {
    Fields,
    /// Text shall follow the row's last quote.
    Quotes,
}

/// The ways in which rows go bad in the wild; the seventh and eighth are no faults but blanks.
fn spoil_fields(way: usize, fields: &mut Vec<String>) -> Spoilt {
    const VALUE: usize = 10;
    const TIME: usize = 0;
    const UUID: usize = 4;
    match way % 8 {
        0 => fields[VALUE] = "NaN".into(),
        1 => fields[VALUE] = "n/a".into(),
        2 => fields[TIME] = "yesterday".into(),
        3 => fields[UUID].clear(),
        4 => fields.truncate(VALUE),
        5 => return Spoilt::Quotes,
        6 => fields[VALUE].clear(),
        _ => fields[VALUE] = "9223372036854775792".into(),
    }
    Spoilt::Fields
}
