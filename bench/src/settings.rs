//! How to run the suite, and whether to go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The lanecast program: the one that runs the bench.
    pub program: PathBuf,
    /// A folder that has programs of peers which are not installed.
    pub peers: Option<PathBuf>,
    /// Where systems keep their data while they are measured.
    pub folder: PathBuf,
    /// Runs of each system in each case.
    pub rounds: u32,
    /// Of each run; not counted.
    pub warmup: Duration,
    pub duration: Duration,
    /// Only cases whose names have this in them.
    pub only: Option<String>,
    /// Also sizes and durabilities that a scenario leaves out for the sake of time.
    pub every_size: bool,
    /// What stands behind `lanecast bench run SCENARIO` to run it like this again.
    pub options: String,
    /// Telemetry of the scenarios that need a filled ClickHouse, or fill one.
    pub rows: u64,
    pub version: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub cut: Cut,
}

/// Whether the run was cut short, and by which signal: told by whoever watches for signals. What is being
/// measured ends as it may; nothing else begins.
#[derive(Clone, Debug, Default)]
pub struct Cut(Arc<AtomicI32>);

impl Cut {
    /// `signal` is not 0.
    pub fn by(&self, signal: i32) {
        self.0.store(signal, Ordering::Relaxed);
    }

    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|signal| *signal != 0)
    }
}
