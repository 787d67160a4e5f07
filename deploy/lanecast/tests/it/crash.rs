//! Every service is killed once in the middle of a run; the run goes on and nothing is lost or
//! stored twice.

use std::path::Path;

use crate::support::{self, Process, eventually};

const ROWS: u64 = 600_000;

#[test]
fn a_run_survives_the_kill_of_each_service() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let rows = ROWS.to_string();
    let arguments = support::up(
        &data_dir,
        &["--once", "--json", "--rows", &rows, "--rate", "150000", "--flat-out"],
    );
    let mut up = Process::start(folder.path(), "up", &arguments, &[]);
    let runs = data_dir.join("run");
    // Each kill waits until more rows have been acknowledged than before: the service before it is
    // back at work.
    let mut acknowledged = 0;
    for name in ["consumer", "broker", "clickhouse"] {
        acknowledged = eventually(|| records(&runs).filter(|now| *now > acknowledged));
        kill(&runs, name);
        eventually(|| (pid(&runs, name)? != 0).then_some(()));
    }
    let summary: serde_json::Value = serde_json::from_str(&up.first_line()).unwrap();
    assert_eq!(summary["rows_acknowledged"], ROWS, "{summary}");
    assert_eq!(summary["rows_inserted"], ROWS, "{summary}");
    let log = up.succeeds();
    for name in ["consumer", "broker", "clickhouse"] {
        assert!(log.contains(&format!("{name} ended (signal: 9")), "{name} was not killed: {log}");
    }
    assert_eq!(support::stored_rows(folder.path(), &data_dir.join("clickhouse")), ROWS);
}

/// Records that consumers have acknowledged, as far as the broker answers.
fn records(runs: &Path) -> Option<u64> {
    let admin = ready(runs, "broker")?["admin_addr"].as_str()?.parse().ok()?;
    let stats = support::try_get_json(admin, "/stats")?;
    let topic =
        stats["topics"].as_array()?.iter().find(|topic| topic["name"] == "gpu-telemetry")?;
    let groups = topic["partitions"]
        .as_array()?
        .iter()
        .flat_map(|partition| partition["groups"].as_array().cloned().unwrap_or_default());
    Some(groups.filter_map(|group| group["acked_upto"].as_u64()).sum())
}

fn ready(runs: &Path, name: &str) -> Option<serde_json::Value> {
    let bytes = std::fs::read(runs.join(format!("{name}.json"))).ok()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

fn pid(runs: &Path, name: &str) -> Option<i64> {
    ready(runs, name)?["pid"].as_i64()
}

/// Kills the service and waits until its ready file is gone, which `up` removes before it starts
/// the service again.
fn kill(runs: &Path, name: &str) {
    let old = eventually(|| pid(runs, name));
    let process = rustix::process::Pid::from_raw(old.try_into().unwrap()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    eventually(|| (pid(runs, name) != Some(old)).then_some(()));
}
