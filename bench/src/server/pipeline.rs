//! `lanecast up`: the whole pipeline, every role a process of the program that runs the bench.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::Child;
use super::lanecast::read_ready;
use crate::limits::FILL_MAX;
use crate::{Error, Latencies, Sample};

const NAME: &str = "lanecast up";

/// When generated rows begin, so that each run has the same.
pub const ROWS_BEGIN: &str = "2026-01-01T00:00:00Z";
/// And in milliseconds since 1970.
pub const ROWS_BEGIN_MS: i64 = 1_767_225_600_000;

/// The line that `up --once --json` prints.
#[derive(Debug, Deserialize)]
struct Summary {
    rows_acknowledged: u64,
    rows_inserted: u64,
    seconds: f64,
    e2e_p50_ms: f64,
    e2e_p99_ms: f64,
    e2e_max_ms: f64,
    processes: Vec<Cost>,
}

#[derive(Debug, Deserialize)]
struct Cost {
    role: String,
    cpu_seconds: f64,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    Generated(u64),
    Csv(&'a Path),
}

fn command(program: &Path, folder: &Path, rows: Rows<'_>) -> Command {
    let mut command = Command::new(program);
    command.args(["up", "--once", "--json", "--timestamps", "original"]);
    command.arg("--data-dir").arg(folder.join("up"));
    for port in ["broker", "broker-admin", "consumer-admin", "query", "clickhouse"] {
        command.arg(format!("--{port}-port")).arg("0");
    }
    match rows {
        Rows::Generated(rows) => {
            command.args(["--flat-out", "--start", ROWS_BEGIN, "--rows", &rows.to_string()]);
        }
        Rows::Csv(file) => {
            command.arg("--csv").arg(file);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the pipeline over a topic of this durability until every row is queryable, and stops it.
///
/// # Errors
/// It fails, or rows are missing.
pub fn run_once(
    program: &Path,
    folder: &Path,
    rows: Rows<'_>,
    durability: &str,
) -> Result<Sample, Error> {
    let log = folder.join("up.log");
    let file = File::create(&log).map_err(Error::io(format!("making {}", log.display())))?;
    let mut command = command(program, folder, rows);
    command.args(["--durability", durability]);
    let output = command.stderr(file).output().map_err(Error::io("starting lanecast up"))?;
    if !output.status.success() {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().last().unwrap_or_default();
        return Err(failure(&format!("ended with {}: {last}", output.status)));
    }
    let summary: Summary = serde_json::from_slice(&output.stdout)
        .map_err(|error| failure(&format!("printed no summary: {error}")))?;
    if summary.rows_inserted != summary.rows_acknowledged || summary.rows_inserted == 0 {
        let Summary { rows_inserted, rows_acknowledged, .. } = summary;
        return Err(failure(&format!("stored {rows_inserted} of {rows_acknowledged} rows")));
    }
    Ok(summary.sample())
}

impl Summary {
    fn sample(&self) -> Sample {
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        let points = [
            (50.0, ms(self.e2e_p50_ms)),
            (99.0, ms(self.e2e_p99_ms)),
            (100.0, ms(self.e2e_max_ms)),
        ];
        let cost = |cost: &Cost| (cost.role.clone(), Duration::from_secs_f64(cost.cpu_seconds));
        Sample {
            records: self.rows_inserted,
            bytes: 0,
            elapsed: Duration::from_secs_f64(self.seconds),
            latencies: Latencies::of_points(&points, self.rows_inserted),
            cpu: self.processes.iter().map(cost).collect(),
        }
    }
}

/// A pipeline that has stored its rows and goes on serving.
pub struct Pipeline {
    child: Child,
    folder: PathBuf,
    query: SocketAddr,
    clickhouse: SocketAddr,
    broker: SocketAddr,
    program: PathBuf,
}

impl Pipeline {
    /// Starts it and waits until the generated rows are queryable.
    ///
    /// # Errors
    /// It fails.
    pub fn filled(program: &Path, folder: &Path, rows: u64) -> Result<Self, Error> {
        let ready_file = folder.join("up.ready");
        let mut command = command(program, folder, Rows::Generated(rows));
        command.arg("--keep").arg("--ready-file").arg(&ready_file);
        let mut child = Child::start(NAME, &mut command, &folder.join("up.log"))?;
        child.wait_until("filled", FILL_MAX, || read_ready(&ready_file))?;
        let of = |role: &str| {
            let file = folder.join("up").join("run").join(format!("{role}.json"));
            let addr = read_ready(&file).and_then(|ready| ready.addr);
            addr.ok_or_else(|| failure(&format!("has no address of its {role}")))
        };
        let (query, clickhouse, broker) = (of("query")?, of("clickhouse")?, of("broker")?);
        let (folder, program) = (folder.to_owned(), program.to_owned());
        Ok(Self { child, folder, query, clickhouse, broker, program })
    }

    /// Of its REST service.
    #[must_use]
    pub fn query(&self) -> SocketAddr {
        self.query
    }

    #[must_use]
    pub fn clickhouse(&self) -> SocketAddr {
        self.clickhouse
    }

    /// Starts a producer of generated rows into it: a fleet of its own, now, at this rate.
    ///
    /// # Errors
    /// It does not start.
    pub fn produce(&self, rows_per_second: u32) -> Result<Child, Error> {
        let mut command = Command::new(&self.program);
        command.args(["produce", "generate", "--flat-out", "--seed", "2", "--log-level", "warn"]);
        command.arg("--broker").arg(self.broker.to_string());
        command.arg("--rate").arg(rows_per_second.to_string());
        Child::start("lanecast produce", &mut command, &self.folder.join("produce.log"))
    }

    /// # Errors
    /// It does not end in time.
    pub fn stop(self) -> Result<(), Error> {
        self.child.stop()
    }
}

fn failure(detail: &str) -> Error {
    Error::Server { system: NAME.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_sample_of_what_is_known() {
        let line = r#"{"rows_acknowledged":200,"rows_inserted":200,"seconds":2.0,"e2e_p50_ms":10.0,
            "e2e_p99_ms":30.0,"e2e_max_ms":40.0,"processes":[{"role":"broker","cpu_seconds":0.5}]}"#;
        let summary: Summary = serde_json::from_str(line).unwrap();
        let sample = summary.sample();
        assert_eq!(sample.records_per_second(), 100.0);
        let near = |percentile, ms: u64| {
            sample.latencies.percentile_ns(percentile).abs_diff(ms * 1_000_000) < 100_000
        };
        assert!(near(50.0, 10) && near(99.0, 30) && near(100.0, 40), "{:?}", sample.latencies);
        assert_eq!(sample.cpu, [("broker".to_owned(), Duration::from_millis(500))]);
    }
}
