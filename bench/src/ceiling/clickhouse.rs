//! What ClickHouse takes by itself, into the same tables with the same views.
//!
//! *CSV*: it reads the file itself. A table that keeps nothing has the file's columns; a view turns
//! its rows into rows of `telemetry`, from where all is as with Lanecast. *Native*: blocks that were
//! built beforehand by the consumer's encoder, with the consumer's own statement and settings.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use lanecast_producer::generate::{GenerateConfig, GenerateSource};
use lanecast_producer::{Point, Source, Step, Timestamps};
use lanecast_store::{InsertToken, NativeBlock, Rows, Store};
use lanecast_telemetry::{Sample as Telemetry, TelemetryBuilder, TelemetryView};
use lanecast_wire::builder::{BodyBuilder, SealedBody};
use tokio::runtime::Runtime;

use crate::http::Http;
use crate::server::clickhouse::{of_store, target};
use crate::server::{ClickHouse, ROWS_BEGIN_MS};
use crate::{Error, Latencies, Sample};

/// Rows of a batch, as producers make them.
const BATCH_ROWS: usize = 1000;

/// Blocks of rows in ClickHouse's Native format, as the consumer would send them.
pub struct Blocks {
    blocks: Vec<Bytes>,
    rows: u64,
}

impl Blocks {
    /// Builds so many rows of the same fleet that `lanecast produce generate` plays, in blocks of
    /// `block_rows`.
    ///
    /// # Errors
    /// Never with the generator's own settings.
    pub fn generate(rows: u64, block_rows: usize) -> Result<Self, Error> {
        let mut source = GenerateSource::new(GenerateConfig {
            rows: Some(rows),
            start_ms: Some(ROWS_BEGIN_MS),
            timestamps: Timestamps::Original,
            real_time: false,
            ..GenerateConfig::default()
        })
        .map_err(|error| Error::Usage(error.to_string()))?;
        let mut blocks = Vec::new();
        let mut offset = 0;
        loop {
            let batches = batches(&mut source, block_rows)?;
            if batches.is_empty() {
                return Ok(Self { blocks, rows });
            }
            let views: Result<Vec<_>, _> = batches
                .iter()
                .map(|sealed| TelemetryView::open(&sealed.body, sealed.record_count))
                .collect();
            let views = views.map_err(|error| Error::Usage(error.to_string()))?;
            let mut block = NativeBlock::new(0);
            for view in &views {
                block.push(view, offset, Rows::All);
                offset += view.rows() as u64;
            }
            blocks.push(block.encode());
        }
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.len() as u64).sum()
    }
}

/// So many rows of the source in batches; fewer at its end.
fn batches(source: &mut GenerateSource, rows: usize) -> Result<Vec<SealedBody>, Error> {
    let mut batches = Vec::new();
    let mut builder = TelemetryBuilder::empty();
    let (mut taken, mut in_batch) = (0, 0);
    while taken < rows {
        let step = source.next(ROWS_BEGIN_MS).map_err(|error| Error::Usage(error.to_string()))?;
        let Point { series, metric, ts_ms, source_ts_ms, value } = match step {
            Step::Point(point) => point,
            Step::Busy | Step::Quiet | Step::Due { .. } => continue,
            Step::End => break,
        };
        let catalog = source.catalog();
        let sample = Telemetry { catalog, series, metric, ts_ms, source_ts_ms, value };
        builder.push(&sample).map_err(|error| Error::Usage(format!("{error:?}")))?;
        (taken, in_batch) = (taken + 1, in_batch + 1);
        if in_batch == BATCH_ROWS {
            batches.push(builder.seal());
            (builder, in_batch) = (TelemetryBuilder::empty(), 0);
        }
    }
    if in_batch > 0 {
        batches.push(builder.seal());
    }
    Ok(batches)
}

/// Inserts all blocks, one after the other on each of so many connections.
///
/// # Errors
/// ClickHouse does not start, or refuses.
pub fn native(
    program: &Path,
    folder: &Path,
    blocks: &Blocks,
    connections: usize,
) -> Result<Sample, Error> {
    let clickhouse = ClickHouse::start(program, folder)?;
    let sample = runtime()?.block_on(async {
        let store = clickhouse.make_tables().await?;
        let (began, cpu_before) = (Instant::now(), clickhouse.cpu());
        let mut lanes = Vec::new();
        for lane in 0..connections {
            let (store, blocks) = (store.clone(), every(&blocks.blocks, connections, lane));
            lanes.push(tokio::spawn(insert_all(store, blocks)));
        }
        let mut latencies = Latencies::default();
        for lane in lanes {
            let done = lane.await.map_err(|error| Error::Usage(error.to_string()))?;
            latencies.add(&done?);
        }
        let (elapsed, cpu) = (began.elapsed(), clickhouse.cpu().saturating_sub(cpu_before));
        let cpu = vec![("clickhouse".to_owned(), cpu)];
        Ok::<_, Error>(Sample {
            records: blocks.rows,
            bytes: blocks.bytes(),
            elapsed,
            latencies,
            cpu,
        })
    })?;
    clickhouse.stop()?;
    Ok(sample)
}

/// The share of one of so many lanes, with the blocks' numbers.
fn every(blocks: &[Bytes], lanes: usize, lane: usize) -> Vec<(u64, Bytes)> {
    (0..).zip(blocks.iter().cloned()).skip(lane).step_by(lanes).collect()
}

/// Gives the latency of each insert.
async fn insert_all(store: Store, blocks: Vec<(u64, Bytes)>) -> Result<Latencies, Error> {
    let mut latencies = Latencies::default();
    for (number, block) in blocks {
        let token = InsertToken {
            topic: "bench".to_owned(),
            partition: 0,
            first: number,
            last: number,
            appended_ms: 0,
        };
        let began = Instant::now();
        store.insert_native(&token, block).await.map_err(of_store)?;
        latencies.record(began.elapsed());
    }
    Ok(latencies)
}

/// The columns of a file of `lanecast produce generate --csv-out`.
const CSV_TABLE: &str = "CREATE TABLE lanecast.csv_file (timestamp DateTime64(3, 'UTC'), \
    metric_name LowCardinality(String), gpu_id UInt32, device LowCardinality(String), \
    uuid LowCardinality(String), modelName LowCardinality(String), \
    Hostname LowCardinality(String), container LowCardinality(String), \
    pod LowCardinality(String), namespace LowCardinality(String), value Float64, \
    labels_raw String) ENGINE = Null";

/// Labels that a row has in columns of their own are left out, as Lanecast does.
const CSV_VIEW: &str = "CREATE MATERIALIZED VIEW lanecast.csv_file_view TO lanecast.telemetry AS \
    SELECT uuid AS gpu_uuid, timestamp AS ts, metric_name AS metric, value, timestamp AS source_ts, \
    gpu_id AS gpu_index, device, modelName AS model, Hostname AS hostname, container, pod, \
    namespace, CAST({labels}, 'Map(LowCardinality(String), String)') AS labels, \
    toUInt32(0) AS topic_partition, toUInt64(0) AS topic_offset FROM lanecast.csv_file";
const CSV_LABELS: &str = "mapFilter((name, text) -> name NOT IN ('Hostname', 'UUID', '__name__', \
    'device', 'gpu', 'modelName', 'container', 'pod', 'namespace'), \
    extractKeyValuePairs(labels_raw, '=', ',', '\"'))";

/// What of the labels ClickHouse is asked to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CsvLabels {
    /// The same as Lanecast.
    Parsed,
    /// None: less than Lanecast stores, and so a bound from above.
    Dropped,
}

/// ClickHouse reads the file in one INSERT, with two threads where there are two cores.
///
/// # Errors
/// ClickHouse does not start, or refuses.
pub fn csv(program: &Path, folder: &Path, file: &Path, labels: CsvLabels) -> Result<Sample, Error> {
    let clickhouse = ClickHouse::start(program, folder)?;
    runtime()?.block_on(clickhouse.make_tables())?;
    let mut http = clickhouse.connect()?;
    let labels = match labels {
        CsvLabels::Parsed => CSV_LABELS,
        CsvLabels::Dropped => "map()",
    };
    for sql in [CSV_TABLE, &CSV_VIEW.replace("{labels}", labels)] {
        http.post(&target(sql, &[]), std::io::empty(), 0)?;
    }
    let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
    let (bytes, opened) = opened.map_err(Error::io(format!("opening {}", file.display())))?;
    let settings = [
        ("async_insert", "0"),
        ("date_time_input_format", "best_effort"),
        ("max_insert_block_size", CSV_BLOCK_ROWS),
        ("min_insert_block_size_rows", CSV_BLOCK_ROWS),
        ("min_insert_block_size_bytes", "0"),
        ("max_threads", "2"),
        ("max_insert_threads", "2"),
    ];
    let sql = "INSERT INTO lanecast.csv_file FORMAT CSVWithNames";
    let (began, cpu_before) = (Instant::now(), clickhouse.cpu());
    http.post(&target(sql, &settings), opened, bytes)?;
    let (elapsed, cpu) = (began.elapsed(), clickhouse.cpu().saturating_sub(cpu_before));
    let records = count(&mut http)?;
    clickhouse.stop()?;
    let cpu = vec![("clickhouse".to_owned(), cpu)];
    Ok(Sample { records, bytes, elapsed, latencies: Latencies::default(), cpu })
}

/// What served it best of 100,000 to 1,000,000.
const CSV_BLOCK_ROWS: &str = "250000";

fn count(http: &mut Http) -> Result<u64, Error> {
    let sql = "SELECT count() FROM lanecast.telemetry FORMAT TSVRaw";
    let text = http.post(&target(sql, &[]), std::io::empty(), 0)?;
    let text = String::from_utf8_lossy(&text);
    text.trim().parse().map_err(|_| {
        let detail = format!("counted {text}");
        Error::Protocol { system: "clickhouse", detail }
    })
}

fn runtime() -> Result<Runtime, Error> {
    let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
    made.map_err(Error::io("making a runtime"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_all_rows_and_lanes_share_them() {
        let blocks = Blocks::generate(2500, 1000).unwrap();
        assert_eq!((blocks.blocks.len(), blocks.rows), (3, 2500));
        let numbers =
            |lane| every(&blocks.blocks, 2, lane).iter().map(|of| of.0).collect::<Vec<_>>();
        assert_eq!((numbers(0), numbers(1)), (vec![0, 2], vec![1]));
    }
}
