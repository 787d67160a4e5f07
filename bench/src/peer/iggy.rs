//! Apache Iggy, by its own server and its own load tool (`iggy-server` and `iggy-bench`).
//!
//! No distribution has a package of it: both programs have to be in the folder of `--peers` or in `PATH`.
//! What the tool measures is taken from the `report.json` that it writes. It sends a number of batches
//! and not for a time, so a short run finds out how many take about as long as the others' runs.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::Safety;
use crate::limits::SERVER_START_MAX;
use crate::server::Child;
use crate::{Error, Latencies, Sample};

const SYSTEM: &str = "iggy";

/// Batches that find out how fast it is.
const TRIAL_BATCHES: u64 = 200;

pub struct Iggy {
    child: Child,
    addr: SocketAddr,
    tool: PathBuf,
    folder: PathBuf,
}

/// What an acknowledgement of Iggy means.
#[must_use]
pub fn meaning(safety: Safety) -> &'static str {
    match safety {
        Safety::Memory | Safety::File => "in the server's memory, written behind (its default)",
        Safety::Fsync => "flushed (enforce_fsync, messages_required_to_save 1)",
    }
}

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    pub producers: u32,
    /// Of a batch.
    pub records: u32,
    pub record_bytes: usize,
    /// Does as many consumers read at the same time?
    pub consume: bool,
    pub warmup: Duration,
    pub duration: Duration,
}

impl Iggy {
    /// Starts a server whose data is in `folder`.
    ///
    /// # Errors
    /// A program is missing, or the server does not start.
    pub fn start(programs: Option<&Path>, folder: &Path, safety: Safety) -> Result<Self, Error> {
        let server = program("iggy-server", programs)?;
        let tool = program("iggy-bench", programs)?;
        let addr = super::free_port()?;
        let mut command = Command::new(server);
        // Any setting of its configuration has a variable of its own; files of an older run cannot be
        // there. The tool signs in with these words.
        command.current_dir(folder);
        command.env("IGGY_SYSTEM_PATH", folder.join("iggy"));
        command.env("IGGY_ROOT_USERNAME", "iggy").env("IGGY_ROOT_PASSWORD", "iggy");
        command.env("IGGY_TCP_ADDRESS", addr.to_string());
        for other in ["HTTP", "QUIC", "WEBSOCKET"] {
            command.env(format!("IGGY_{other}_ENABLED"), "false");
        }
        if safety == Safety::Fsync {
            command.env("IGGY_SYSTEM_PARTITION_ENFORCE_FSYNC", "true");
            command.env("IGGY_SYSTEM_PARTITION_MESSAGES_REQUIRED_TO_SAVE", "1");
        }
        let mut child = Child::start(SYSTEM, &mut command, &folder.join("iggy.log"))?;
        child.wait_until("ready", SERVER_START_MAX, || TcpStream::connect(addr).ok())?;
        Ok(Self { child, addr, tool, folder: folder.to_owned() })
    }

    /// One run of the tool, after one that finds out how many batches it takes.
    ///
    /// # Errors
    /// The tool fails, or writes no report.
    pub fn measure(self, asked: Asked) -> Result<Sample, Error> {
        let trial = self.run_tool(asked, TRIAL_BATCHES, "trial")?;
        let per_second = trial.records_per_second() / f64::from(asked.records);
        let wanted = per_second * asked.duration.as_secs_f64() / f64::from(asked.producers);
        let cpu_before = self.child.cpu();
        let mut sample = self.run_tool(asked, (wanted as u64).max(TRIAL_BATCHES), "run")?;
        let cpu = self.child.cpu().saturating_sub(cpu_before);
        // The tool's own time is not known; and its warm-up is in the server's.
        sample.cpu = vec![("server".to_owned(), cpu)];
        self.child.stop()?;
        Ok(sample)
    }

    fn run_tool(&self, asked: Asked, batches: u64, name: &str) -> Result<Sample, Error> {
        let output = self.folder.join(name);
        let mut command = Command::new(&self.tool);
        command.args(["--message-size", &asked.record_bytes.to_string()]);
        command.args(["--messages-per-batch", &asked.records.to_string()]);
        command.args(["--message-batches", &batches.to_string()]);
        command.arg("--warmup-time").arg(format!("{}ms", asked.warmup.as_millis().max(1)));
        let count = asked.producers.to_string();
        command.arg(if asked.consume { "pinned-producer-and-consumer" } else { "pinned-producer" });
        command.args(["--streams", &count, "--producers", &count]);
        if asked.consume {
            command.args(["--consumers", &count]);
        }
        command.args(["tcp", "--server-address", &self.addr.to_string(), "--nodelay"]);
        command.arg("output").arg("--output-dir").arg(&output);
        command.stdin(Stdio::null());
        let done = command.output().map_err(Error::io("running iggy-bench"))?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stderr);
            let last: Vec<&str> = said.lines().rev().take(3).collect();
            let detail = format!("iggy-bench ended ({}): {}", done.status, last.join("; "));
            return Err(Error::Server { system: SYSTEM.to_owned(), detail });
        }
        let folder = only_folder(&output)?;
        let report = std::fs::read(folder.join("report.json"))
            .map_err(Error::io("reading the report of iggy-bench"))?;
        read_report(&report, asked, batches)
    }
}

/// One of its programs, or where it comes from.
fn program(name: &str, programs: Option<&Path>) -> Result<PathBuf, Error> {
    super::program(name, programs).map_err(|_| Error::Server {
        system: name.to_owned(),
        detail:
            "is not installed, and no package has it: build it from the sources of Apache Iggy \
                 (https://iggy.apache.org) and name the folder that has iggy-server and iggy-bench \
                 with --peers"
                .to_owned(),
    })
}

/// The tool names its folder by what it measured.
fn only_folder(output: &Path) -> Result<PathBuf, Error> {
    let failed = || Error::io("looking for the report of iggy-bench");
    let mut entries = std::fs::read_dir(output).map_err(failed())?;
    match entries.next() {
        Some(entry) => Ok(entry.map_err(failed())?.path()),
        None => Err(failed()(std::io::ErrorKind::NotFound.into())),
    }
}

#[derive(Deserialize)]
struct Written {
    group_metrics: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    summary: Summary,
}

#[derive(Deserialize)]
struct Summary {
    kind: String,
    total_throughput_messages_per_second: f64,
    average_p50_latency_ms: f64,
    average_p99_latency_ms: f64,
    average_p999_latency_ms: f64,
    max_latency_ms: Option<f64>,
}

/// Turns a report into a sample. Latencies are three percentiles and the largest, each of them counted
/// for as many batches as lie between it and the next.
fn read_report(report: &[u8], asked: Asked, batches: u64) -> Result<Sample, Error> {
    let broken = |detail: String| Error::Protocol { system: SYSTEM, detail };
    let report: Written =
        serde_json::from_slice(report).map_err(|error| broken(error.to_string()))?;
    let side = if asked.consume { "consumers" } else { "producers" };
    let group = report.group_metrics.iter().find(|group| group.summary.kind == side);
    let Some(Group { summary }) = group else {
        return Err(broken(format!("its report has no {side}")));
    };
    let records = batches * u64::from(asked.producers) * u64::from(asked.records);
    let seconds = records as f64 / summary.total_throughput_messages_per_second;
    let elapsed = Duration::try_from_secs_f64(seconds)
        .map_err(|_| broken("its report has a throughput of nothing".to_owned()))?;
    let mut latencies = Latencies::default();
    let ms = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
    let points = [
        (5001, summary.average_p50_latency_ms),
        (4900, summary.average_p99_latency_ms),
        (90, summary.average_p999_latency_ms),
        (9, summary.max_latency_ms.unwrap_or(summary.average_p999_latency_ms)),
    ];
    for (times, latency_ms) in points {
        (0..times).for_each(|_| latencies.record(ms(latency_ms)));
    }
    let bytes = records * asked.record_bytes as u64;
    Ok(Sample { records, bytes, elapsed, latencies, cpu: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked {
        producers: 2,
        records: 1000,
        record_bytes: 1000,
        consume: false,
        warmup: Duration::ZERO,
        duration: Duration::from_secs(1),
    };

    const REPORT: &str = r#"{"uuid": "x", "group_metrics": [{"summary": {"kind": "producers",
        "total_throughput_messages_per_second": 500000.0, "average_p50_latency_ms": 1.0,
        "average_p99_latency_ms": 5.0, "average_p999_latency_ms": 9.0, "max_latency_ms": 20.0,
        "average_latency_ms": 1.5}, "avg_latency_ts": {"points": []}}]}"#;

    #[test]
    fn a_report_becomes_a_sample() {
        let sample = read_report(REPORT.as_bytes(), ASKED, 500).unwrap();
        assert_eq!((sample.records, sample.bytes), (1_000_000, 1_000_000_000));
        assert_eq!(sample.elapsed, Duration::from_secs(2));
        let near = |percentile, ms: u64| {
            let ns = sample.latencies.percentile_ns(percentile);
            assert!(ns.abs_diff(ms * 1_000_000) < ms * 2000, "{percentile}: {ns}");
        };
        near(50.0, 1);
        near(99.0, 5);
        near(99.9, 9);
        near(100.0, 20);
    }

    #[test]
    fn where_it_is_missing_its_source_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let words = program("iggy-nothing", Some(folder.path())).unwrap_err().to_string();
        assert!(words.contains("iggy-nothing is not installed, and no package has it"), "{words}");
        assert!(words.contains("--peers"), "{words}");
    }

    #[test]
    fn a_report_of_another_kind_is_told() {
        let asked = Asked { consume: true, ..ASKED };
        let error = read_report(REPORT.as_bytes(), asked, 500).unwrap_err().to_string();
        assert!(error.contains("no consumers"), "{error}");
        assert!(read_report(b"{}", ASKED, 500).is_err());
    }
}
