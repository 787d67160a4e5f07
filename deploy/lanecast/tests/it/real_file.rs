//! The main job on real input: a CSV file goes through the whole pipeline and comes back, row for
//! row, from the REST service.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::{self, Process, clean_command, get_json};

/// The fleet snapshot that lies beside the project where there is one (it carries no licence, so
/// the project does not contain it); else a generated file of the same shape and size.
fn fleet_file(folder: &Path) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/dcgm_metrics_20250718_134233.csv");
    if beside.exists() {
        return beside;
    }
    let made = folder.join("fleet.csv");
    let status = clean_command(&["produce", "generate", "--rows", "2470", "--csv-out"])
        .arg(&made)
        .status()
        .unwrap();
    assert!(status.success());
    made
}

/// One row as the REST service must give it back; the key sorts as the service does.
type Row = BTreeMap<&'static str, String>;

const COLUMNS: &[(&str, &str)] = &[
    ("timestamp", "timestamp"),
    ("metric_name", "metric_name"),
    ("gpu_id", "gpu_id"),
    ("device", "device"),
    ("uuid", "uuid"),
    ("modelName", "model_name"),
    ("Hostname", "hostname"),
    ("container", "container"),
    ("pod", "pod"),
    ("namespace", "namespace"),
    ("value", "value"),
    ("labels_raw", "labels_raw"),
];

fn rows_of_file(path: &Path) -> BTreeMap<String, Vec<Row>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header = reader.headers().unwrap().clone();
    let mut gpus: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for record in reader.records() {
        let record = record.unwrap();
        let field = |column: &str| {
            let at = header.iter().position(|name| name == column).unwrap();
            record[at].to_owned()
        };
        let mut row: Row = COLUMNS.iter().map(|(column, item)| (*item, field(column))).collect();
        // Both sides in one form: numbers as numbers, times without the sub-second zeros.
        row.insert("value", number(&field("value")));
        row.insert("timestamp", field("timestamp").replace(".000Z", "Z"));
        gpus.entry(field("uuid")).or_default().push(row);
    }
    for rows in gpus.values_mut() {
        rows.sort_by_key(sort_key);
    }
    gpus
}

fn number(text: &str) -> String {
    text.parse::<f64>().unwrap().to_string()
}

fn sort_key(row: &Row) -> (String, String) {
    (row["timestamp"].clone(), row["metric_name"].clone())
}

fn row_of_item(item: &serde_json::Value) -> Row {
    let text = |key: &str| item[key].as_str().map_or_else(|| item[key].to_string(), str::to_owned);
    let mut row: Row = COLUMNS.iter().map(|(_, key)| (*key, text(key))).collect();
    row.insert("value", number(&text("value")));
    row.insert("timestamp", text("timestamp").replace(".000Z", "Z"));
    row
}

#[test]
fn up_stores_the_file_and_serves_it_row_for_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = fleet_file(folder.path());
    let expected = rows_of_file(&file);
    let rows: usize = expected.values().map(Vec::len).sum();
    let data_dir = folder.path().join("data");
    let arguments = support::up(
        &data_dir,
        &[
            "--csv",
            file.to_str().unwrap(),
            "--once",
            "--keep",
            "--json",
            "--timestamps",
            "original",
        ],
    );
    let mut up = Process::start(folder.path(), "up", &arguments, &[]);

    let summary: serde_json::Value = serde_json::from_str(&up.first_line()).unwrap();
    assert_eq!(summary["rows_read"], rows, "{summary}");
    assert_eq!(summary["rows_rejected"], 0, "{summary}");
    assert_eq!(summary["rows_acknowledged"], rows, "{summary}");
    assert_eq!(summary["rows_inserted"], rows, "{summary}");
    assert_eq!(summary["rows_dead_lettered"], 0, "{summary}");
    assert!(summary["e2e_p99_ms"].as_f64().unwrap() > 0.0, "{summary}");

    let query = up.ready().addr;
    let gpus = get_json(query, "/api/v1/gpus?limit=1000");
    assert_eq!(gpus["total"], expected.len());
    let mut listed: Vec<&str> =
        gpus["items"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    listed.sort_unstable();
    assert_eq!(listed, expected.keys().map(String::as_str).collect::<Vec<_>>());
    for (uuid, rows) in &expected {
        let path = format!("/api/v1/gpus/{uuid}/telemetry?limit=1000&include=labels");
        let answer = get_json(query, &path);
        let items: Vec<Row> = answer["items"].as_array().unwrap().iter().map(row_of_item).collect();
        assert_eq!(&items, rows, "{uuid}");
        assert_eq!(answer["total"], rows.len());
    }

    // The directory is taken: a second `up` says so and leaves the first alone.
    let second = clean_command(&arguments).output().unwrap();
    assert!(!second.status.success());
    let words = String::from_utf8(second.stderr).unwrap();
    assert!(words.contains("another `lanecast up`") && words.contains("--data-dir"), "{words}");
    assert_eq!(support::get(query, "/readyz").0, 200);

    up.signal(rustix::process::Signal::TERM);
    up.succeeds();
}

#[test]
fn a_data_directory_is_used_again() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let run = |rows: &str| {
        let arguments = support::up(&data_dir, &["--once", "--json", "--flat-out", "--rows", rows]);
        let output = clean_command(&arguments).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}");
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        summary["rows_inserted"].as_u64().unwrap()
    };
    assert_eq!(run("10000"), 10_000);
    assert_eq!(run("500"), 500);

    let clickhouse_dir = data_dir.join("clickhouse");
    let arguments =
        ["clickhouse", "serve", "--port", "0", "--data-dir", clickhouse_dir.to_str().unwrap()];
    let mut clickhouse = Process::start(folder.path(), "clickhouse", &arguments, &[]);
    let addr = clickhouse.ready().addr;
    assert_eq!(
        support::clickhouse(addr, "SELECT count() FROM lanecast.telemetry").unwrap(),
        "10500"
    );
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["produce", "csv", "no/such/file.csv", "--broker", "127.0.0.1:1"];
    let output = clean_command(&arguments).current_dir(folder.path()).output().unwrap();
    assert!(!output.status.success());
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(words.contains("no/such/file.csv"), "{words}");
}
