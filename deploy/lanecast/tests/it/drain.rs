//! Ctrl-C in the middle of a flood: nothing acknowledged is missing afterwards.

use crate::support::{self, Process, eventually, get_json};

#[test]
fn ctrl_c_under_load_leaves_nothing_acknowledged_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let arguments = support::up(&data_dir, &["--flat-out"]);
    let mut up = Process::start(folder.path(), "up", &arguments, &[]);
    let admin = up.ready().admin_addr.unwrap();
    let appended = || {
        let stats = get_json(admin, "/stats");
        stats["totals"]["records_in"].as_u64().unwrap()
    };
    eventually(|| (appended() > 200_000).then_some(()));
    up.signal(rustix::process::Signal::INT);
    up.succeeds();

    let acknowledged = high_watermarks(folder.path(), &data_dir.join("broker"));
    let stored = support::stored_rows(folder.path(), &data_dir.join("clickhouse"));
    assert!(acknowledged > 200_000);
    assert_eq!(stored, acknowledged);
}

fn high_watermarks(folder: &std::path::Path, data_dir: &std::path::Path) -> u64 {
    let arguments =
        ["broker", "--port", "0", "--admin-port", "0", "--data-dir", data_dir.to_str().unwrap()];
    let mut broker = Process::start(folder, "broker", &arguments, &[]);
    let admin = broker.ready().admin_addr.unwrap();
    eventually(|| (support::get(admin, "/readyz").0 == 200).then_some(()));
    let stats = get_json(admin, "/stats");
    let topics = stats["topics"].as_array().unwrap();
    let topic = topics.iter().find(|topic| topic["name"] == "gpu-telemetry").unwrap();
    let partitions = topic["partitions"].as_array().unwrap();
    partitions.iter().map(|partition| partition["high_watermark"].as_u64().unwrap()).sum()
}
