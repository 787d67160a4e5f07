//! Questions to the REST service, beside the ClickHouse query that answers them: by the same HTTP
//! client, one at a time, quiet and while rows come in.
//!
//! One pipeline is filled for all runs, as filling takes far longer than asking. GPUs are asked about
//! in turn, so that no answer is the one before.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Scenario;
use crate::http::{Http, escaped};
use crate::report::Bound;
use crate::server::{Pipeline, ROWS_BEGIN_MS};
use crate::{Bench, Case, Contender, Error, Latencies, Role, Sample, Settings};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "query",
    about: "answers of the REST service beside the bare ClickHouse query, quiet and under ingest",
    run,
};

/// Rows that come in each second meanwhile: twenty fleets of the size of the sample's.
const INGEST_ROWS_PER_SECOND: u32 = 50_000;

/// What goes on while questions are asked: nothing.
const QUIET: &str = "quiet";

/// What is asked about a GPU.
struct Question {
    name: &'static str,
    /// Of `/api/v1/gpus/{id}`.
    path: &'static str,
    parameters: &'static str,
    /// From and to, in milliseconds after the first row.
    window_ms: Option<(i64, i64)>,
    /// The statement that answers it, as the REST service asks it.
    sql: &'static str,
}

/// Columns of a row of telemetry.
macro_rules! rows {
    ($rest:literal) => {
        concat!(
            "SELECT ts, source_ts, metric, value, gpu_uuid, gpu_index, device, model, hostname, \
             container, pod, namespace, topic_partition, topic_offset FROM telemetry \
             WHERE gpu_uuid = {uuid:String} ",
            $rest,
            " FORMAT Native"
        )
    };
}

/// Windows lie within the rows of any run. One row more than is shown is asked for, as the service
/// does, which also says how many rows there are in all: the bare query does not.
const QUESTIONS: &[Question] = &[
    Question {
        name: "newest page of 100",
        path: "telemetry",
        parameters: "sort=desc",
        window_ms: None,
        sql: rows!(
            "ORDER BY ts DESC, metric DESC, topic_partition DESC, topic_offset DESC LIMIT 101"
        ),
    },
    Question {
        name: "1000 rows of a window",
        path: "telemetry",
        parameters: "limit=1000&start_time=2026-01-01T00:01:00Z&end_time=2026-01-01T00:04:00Z",
        window_ms: Some((60_000, 240_000)),
        sql: rows!(
            "AND ts >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') \
             AND ts <= fromUnixTimestamp64Milli({end:Int64}, 'UTC') \
             ORDER BY ts, metric, topic_partition, topic_offset LIMIT 1001"
        ),
    },
    Question {
        name: "10 metrics of 5 minutes by the second",
        path: "series",
        parameters: "step=1s&start_time=2026-01-01T00:00:00Z&end_time=2026-01-01T00:05:00Z",
        window_ms: Some((0, 300_000)),
        sql: "SELECT metric, toUInt32(intDiv(toUnixTimestamp64Milli(ts) - {start:Int64}, 1000)) \
              AS bucket, avg(value) AS average FROM telemetry WHERE gpu_uuid = {uuid:String} \
              AND ts >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') \
              AND ts < fromUnixTimestamp64Milli({end:Int64}, 'UTC') \
              GROUP BY metric, bucket ORDER BY metric, bucket FORMAT RowBinary",
    },
    Question {
        name: "p95 of a metric's hour by 15 seconds",
        path: "series",
        parameters: "metric=DCGM_FI_DEV_GPU_UTIL&agg=p95&step=15s\
                     &start_time=2026-01-01T00:00:00Z&end_time=2026-01-01T01:00:00Z",
        window_ms: Some((0, 3_600_000)),
        sql: "SELECT metric, toUInt32(intDiv(toUnixTimestamp64Milli(ts) - {start:Int64}, 15000)) \
              AS bucket, quantileExactInclusive(0.95)(value) AS p95 FROM telemetry \
              WHERE gpu_uuid = {uuid:String} \
              AND ts >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') \
              AND ts < fromUnixTimestamp64Milli({end:Int64}, 'UTC') \
              AND metric = 'DCGM_FI_DEV_GPU_UTIL' \
              GROUP BY metric, bucket ORDER BY metric, bucket FORMAT RowBinary",
    },
    Question {
        name: "10 metrics of an hour by the minute, rolled up",
        path: "series",
        parameters: "step=1m&start_time=2026-01-01T00:00:00Z&end_time=2026-01-01T01:00:00Z",
        window_ms: Some((0, 3_600_000)),
        sql: "SELECT metric, toUInt32(intDiv(toUnixTimestamp(ts) - intDiv({start:Int64}, 1000), \
              60)) AS bucket, sum(t.sum) / sum(t.count) AS average FROM telemetry_1m AS t \
              WHERE gpu_uuid = {uuid:String} \
              AND ts >= toDateTime(intDiv({start:Int64}, 1000), 'UTC') \
              AND ts < toDateTime(intDiv({end:Int64}, 1000), 'UTC') \
              GROUP BY metric, bucket ORDER BY metric, bucket FORMAT RowBinary",
    },
];

#[derive(Deserialize)]
struct Gpus {
    items: Vec<String>,
}

fn run(bench: &mut Bench<'_>) -> Result<(), Error> {
    let settings = bench.settings.clone();
    let under_ingest = format!("{INGEST_ROWS_PER_SECOND} rows/s come in");
    let wanted = |meanwhile: &str| {
        QUESTIONS.iter().any(|question| bench.wants(&question.case(&settings, meanwhile)))
    };
    let (quiet, busy) = (wanted(QUIET), wanted(&under_ingest));
    if !quiet && !busy {
        return Ok(());
    }
    let place = Bench::place(&settings)?;
    let pipeline = Pipeline::filled(&settings.program, place.path(), settings.rows)?;
    let gpus = Http::connect("lanecast query", pipeline.query())?.get("/api/v1/gpus?limit=1000")?;
    let gpus: Gpus = serde_json::from_slice(&gpus)
        .map_err(|error| Error::Protocol { system: "lanecast query", detail: error.to_string() })?;
    for question in QUESTIONS {
        compare(bench, &settings, &pipeline, &gpus.items, question, QUIET)?;
    }
    if busy {
        let producer = pipeline.produce(INGEST_ROWS_PER_SECOND)?;
        for question in QUESTIONS {
            compare(bench, &settings, &pipeline, &gpus.items, question, &under_ingest)?;
        }
        producer.stop()?;
    }
    pipeline.stop()
}

fn compare(
    bench: &mut Bench<'_>,
    settings: &Settings,
    pipeline: &Pipeline,
    gpus: &[String],
    question: &Question,
    meanwhile: &str,
) -> Result<(), Error> {
    let bare = Contender::new("clickhouse", Role::Ceiling, "answered", || {
        let http = Http::connect("clickhouse", pipeline.clickhouse())?;
        ask_for(settings, http, gpus, |http, gpu| {
            let sql = question.sql.as_bytes();
            http.post(&question.clickhouse_target(gpu), sql, sql.len() as u64)
        })
    });
    let lanecast = Contender::new("lanecast", Role::Lanecast, "answered", || {
        let http = Http::connect("lanecast query", pipeline.query())?;
        ask_for(settings, http, gpus, |http, gpu| http.get(&question.target(gpu)))
    });
    let case = question.case(settings, meanwhile);
    let result = bench.compete(case, vec![bare, lanecast])?;
    let ratios = result.ratios("lanecast", "clickhouse", |round| round.p50_ns as f64);
    let what = format!(
        "GET /gpus/{{id}}/{}, {}, {meanwhile}: p50 over the bare ClickHouse query",
        question.path, question.name
    );
    bench.goal(&what, Bound::AtMost(1.3), ratios);
    Ok(())
}

/// One question after the other until the time is over.
fn ask_for(
    settings: &Settings,
    mut http: Http,
    gpus: &[String],
    mut ask: impl FnMut(&mut Http, &str) -> Result<Vec<u8>, Error>,
) -> Result<Sample, Error> {
    http.wait_at_most(crate::limits::ANSWER_MAX)?;
    let mut sample = Sample::default();
    let mut gpus = gpus.iter().cycle();
    let mut ask_until = |end: Instant, counted: Option<&mut Sample>| -> Result<(), Error> {
        let (mut answers, mut latencies) = (0, Latencies::default());
        while Instant::now() < end {
            let gpu = gpus.next().ok_or_else(|| Error::Usage("there are no GPUs".to_owned()))?;
            let began = Instant::now();
            ask(&mut http, gpu)?;
            latencies.record(began.elapsed());
            answers += 1;
        }
        if let Some(sample) = counted {
            // No bytes: a share of the ceiling would compare formats.
            (sample.records, sample.latencies) = (answers, latencies);
        }
        Ok(())
    };
    ask_until(Instant::now() + settings.warmup, None)?;
    let began = Instant::now();
    ask_until(began + settings.duration.max(Duration::from_millis(1)), Some(&mut sample))?;
    sample.elapsed = began.elapsed();
    Ok(sample)
}

impl Question {
    fn case(&self, settings: &Settings, meanwhile: &str) -> Case {
        let rows = settings.rows.to_string();
        let circumstances = [("question", self.name), ("rows", &*rows), ("meanwhile", meanwhile)];
        Case::new(SCENARIO.name, &circumstances)
    }

    fn target(&self, gpu: &str) -> String {
        format!("/api/v1/gpus/{gpu}/{}?{}", self.path, self.parameters)
    }

    fn clickhouse_target(&self, gpu: &str) -> String {
        let mut target =
            format!("/?user=default&database=lanecast&readonly=1&param_uuid={}", escaped(gpu));
        if let Some((start_ms, end_ms)) = self.window_ms {
            let (start_ms, end_ms) = (ROWS_BEGIN_MS + start_ms, ROWS_BEGIN_MS + end_ms);
            target.push_str(&format!("&param_start={start_ms}&param_end={end_ms}"));
        }
        target
    }
}
