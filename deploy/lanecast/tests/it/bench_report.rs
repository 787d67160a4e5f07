//! `lanecast bench show` and `lanecast bench compare` as a user types them.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::clean_command;

/// Exit code, standard output, standard error.
fn bench(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = clean_command(&["bench"]);
    let output = command.args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A report in which Lanecast reaches about so many records per second, in five rounds.
fn report(rate: f64) -> Value {
    let round = |step: f64| {
        json!({ "records_per_second": rate * (1.0 + step / 100.0), "bytes_per_second": rate * 100.0,
                "p50_ns": 0, "p99_ns": 0, "p999_ns": 0, "max_ns": 0, "cpu_ns_per_record": {} })
    };
    let rounds: Vec<Value> = [0.0, 1.0, -1.0, 0.5, -0.5].into_iter().map(round).collect();
    json!({
        "format": 1, "version": "0.1.0", "started": "2026-11-21T12:00:00Z",
        "machine": { "cpu": "", "cores": 2, "memory_bytes": 0, "kernel": "", "file_system": "ext4",
                     "congestion_control": "", "load": "" },
        "cases": [{ "case": { "scenario": "publish", "circumstances": [["durability", "fsync"]] },
                    "systems": [{ "system": "lanecast", "role": "lanecast", "acknowledges": "flushed",
                                  "rounds": rounds, "curve": [], "failure": null }] }],
        "goals": [],
    })
}

#[test]
fn a_regression_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    for (name, rate) in [("a.json", 1000.0), ("b.json", 800.0)] {
        std::fs::write(folder.path().join(name), report(rate).to_string()).unwrap();
    }
    let (code, text, _) = bench(folder.path(), &["compare", "a.json", "b.json"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("WORSE") && text.contains("0.800"), "{text}");
    let failing = ["compare", "a.json", "b.json", "--fail-on-regression", "--json"];
    let (code, text, _) = bench(folder.path(), &failing);
    assert_eq!(code, Some(3));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["changes"][0]["verdict"], "worse");
    assert_eq!(answer["changes"][0]["metric"], "records/s");
    let same = ["compare", "a.json", "a.json", "--fail-on-regression"];
    assert_eq!(bench(folder.path(), &same).0, Some(0));
    let noisy = ["compare", "a.json", "b.json", "--fail-on-regression", "--least-change", "30"];
    assert_eq!(bench(folder.path(), &noisy).0, Some(0));
}

#[test]
fn a_report_is_shown_and_embedded() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("a.json"), report(1000.0).to_string()).unwrap();
    for (format, expected) in
        [("markdown", "| fsync | lanecast | 1000 |"), ("html", "<!doctype html>")]
    {
        let (code, text, errors) = bench(folder.path(), &["show", "a.json", "--format", format]);
        assert!(code == Some(0) && text.contains(expected), "{text}{errors}");
    }
    std::fs::write(path("page.md"), "before\n<!-- bench -->\n<!-- /bench -->\nafter\n").unwrap();
    let (code, text, errors) = bench(folder.path(), &["show", "a.json", "--into", "page.md"]);
    assert!(code == Some(0) && text.is_empty(), "{text}{errors}");
    let page = std::fs::read_to_string(path("page.md")).unwrap();
    assert!(page.starts_with("before\n<!-- bench -->\nLanecast 0.1.0"), "{page}");
    assert!(page.contains("| fsync | lanecast |") && page.ends_with("\nafter\n"), "{page}");
}

#[test]
fn what_is_no_report_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.md"), "# no report\n").unwrap();
    std::fs::write(folder.path().join("new.json"), "{\"format\": 9}").unwrap();
    let refused = |arguments: &[&str], expected: &[&str]| {
        let (code, _, errors) = bench(folder.path(), arguments);
        assert_eq!(code, Some(1), "{errors}");
        assert!(expected.iter().all(|word| errors.contains(word)), "{errors}");
    };
    refused(&["show", "a.md"], &["a.md", "not JSON"]);
    refused(&["show", "new.json"], &["new.json", "format 9"]);
    refused(&["show", "gone.json"], &["gone.json", "No such file"]);
    refused(&["show"], &["FILE is missing"]);
    refused(&["compare", "a.md"], &["a.md"]);
    refused(&["show", "a.md", "--format", "pdf"], &["markdown, html or text"]);
}
