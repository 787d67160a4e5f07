//! `lanecast bench`: every scenario of the broker runs and gives a report. How fast it is, no test says.
//!
//! Scenarios load the disk and every core, so that tests beside them would starve: those that run all of
//! them are asked for by name, `cargo test -p lanecast --test it bench:: -- --ignored`, as `.ci/run` does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::clean_command;

/// Each scenario with its cases and goals. A soak this short is one part, which shows no trend.
const SCENARIOS: &[(&str, usize, usize)] = &[
    ("publish", 13, 2),
    ("end-to-end", 13, 3),
    ("fan-out", 5, 0),
    ("queue", 6, 6),
    ("catch-up", 3, 4),
    ("idle", 0, 5),
    ("soak", 1, 0),
];

fn bench(arguments: &[&str]) -> (serde_json::Value, String) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let quick = ["--rounds", "1", "--duration", "1s", "--warmup", "50ms"];
    let mut command = clean_command(&[&["bench", "run"], arguments, &quick].concat());
    let output = command.arg("--folder").arg(folder.path()).output().unwrap();
    let progress = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}:\n{progress}");
    let table = String::from_utf8(output.stdout).unwrap();
    (read_report(folder.path()), table)
}

/// The one report in this folder.
fn read_report(folder: &Path) -> serde_json::Value {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files = entries.map(|entry| entry.unwrap().path());
    let report = files.find(|path| path.extension().is_some_and(|found| found == "json"));
    serde_json::from_slice(&std::fs::read(report.unwrap()).unwrap()).unwrap()
}

#[test]
#[ignore = "loads the whole machine: run it alone"]
fn every_scenario_of_the_broker_gives_a_report() {
    let names: Vec<&str> = SCENARIOS.iter().map(|(name, ..)| *name).collect();
    let (report, table) = bench(&[&names.join(",")]);
    let mut cases = BTreeMap::new();
    for case in report["cases"].as_array().unwrap() {
        let scenario = case["case"]["scenario"].as_str().unwrap();
        *cases.entry(scenario).or_insert(0) += 1;
        assert!(table.contains(scenario), "{table}");
        // What has a rate but no single batch that is waited for.
        let is_bulk = scenario == "catch-up";
        for system in case["systems"].as_array().unwrap() {
            assert!(system["failure"].is_null(), "{system}");
            let rounds = system["rounds"].as_array().unwrap();
            assert!(!rounds.is_empty(), "{system}");
            for round in rounds {
                assert!(round["bytes_per_second"].as_f64().unwrap() > 0.0, "{system}");
            }
            let timed = system["curve"].as_array().unwrap().len();
            assert!(is_bulk || timed > 0, "no latencies: {case}");
        }
    }
    for (scenario, expected, _) in SCENARIOS {
        assert_eq!(cases.get(scenario).copied().unwrap_or(0), *expected, "{scenario}: {table}");
    }
    let goals = report["goals"].as_array().unwrap();
    let expected: usize = SCENARIOS.iter().map(|(_, _, goals)| goals).sum();
    assert_eq!(goals.len(), expected, "{table}");
    assert!(goals.iter().all(|goal| !goal["values"].as_array().unwrap().is_empty()), "{goals:?}");
}

/// By itself, since what it has depends on how many cores there are.
#[test]
#[ignore = "loads the whole machine: run it alone"]
fn shards_are_compared_on_any_machine() {
    let (report, table) = bench(&["shards"]);
    let cases = report["cases"].as_array().unwrap();
    let with_two = cases.iter().filter(|case| case["systems"].as_array().unwrap().len() >= 2);
    assert!(with_two.count() >= 2, "the hop needs two shards, and no second core: {table}");
    assert!(report["goals"].to_string().contains("ring hop"), "{table}");
}

/// Lanecast as it has to be, its peers as far as the machine has them; a few producers and many.
#[test]
#[ignore = "loads the whole machine: run it alone"]
fn peers_run_beside_lanecast_or_are_said_to_be_missing() {
    let (report, table) = bench(&["many,peers", "--case", "written"]);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6, "{table}");
    for case in cases {
        let systems = case["systems"].as_array().unwrap();
        for peer in ["redis everysec", "nats file", "rabbitmq streams"] {
            assert!(systems.iter().any(|system| system["system"] == peer), "{peer}: {case}");
        }
        for system in systems {
            let why = system["failure"].as_str();
            let is_missing = why.is_some_and(|why| why.contains("is not installed"));
            let is_measured = why.is_none() && system["rounds"].as_array().unwrap().len() == 1;
            let is_peer = system["role"] == "peer";
            assert!(is_measured || (is_peer && is_missing), "{system}");
        }
    }
}

/// Those that are left out else: with records of every size, and on every scenario that has some.
#[test]
#[ignore = "loads the whole machine: run it alone"]
fn sizes_that_are_usually_left_out_can_be_asked_for() {
    let (report, table) = bench(&["queue,catch-up", "--every-size", "--case", "16 KiB"]);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 4, "{table}");
    for system in cases.iter().flat_map(|case| case["systems"].as_array().unwrap()) {
        assert!(system["failure"].is_null() && !system["rounds"][0].is_null(), "{system}");
    }
    let again = report["run"]["options"].as_str().unwrap();
    assert!(again.contains("--every-size"), "{again}");
}

#[test]
fn cases_are_listed_as_a_run_names_them() {
    let list = |arguments: &[&str]| {
        let output = clean_command(&[&["bench", "list"], arguments].concat()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (usual, every) = (&["queue", "--cases"], &["queue", "--cases", "--every-size"]);
    let case = "queue: fsync, 4 x 16 KiB, 16 in flight";
    assert!(list(usual).contains("queue: fsync, 512 x 128 B, 16 in flight"));
    assert!(!list(usual).contains(case) && list(every).contains(case));
    assert!(!list(&[]).contains("in flight") && list(&[]).contains("\nqueue "));
}

#[test]
fn one_case_can_be_measured_alone() {
    let (report, table) = bench(&["publish", "--case", "memory, 512 x 128 B"]);
    assert_eq!(report["cases"].as_array().unwrap().len(), 1, "{table}");
    assert_eq!(report["cases"][0]["case"]["circumstances"][0][1], "memory");
}

#[test]
fn a_run_that_is_cut_short_leaves_what_it_has_measured() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let case = ["bench", "run", "publish,idle", "--case", "memory, 512 x 128 B"];
    let endless = ["--rounds", "1000", "--duration", "500ms", "--warmup", "1ms"];
    let mut command = clean_command(&[&case[..], &endless].concat());
    command.arg("--folder").arg(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = Vec::new();
    let mut signals = 0;
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        said.push(line.unwrap());
        if signals == 0 && said.last().unwrap().contains("[1/1000] lanecast") {
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            signals += 1;
        }
    }
    assert_eq!(signals, 1, "{said:#?}");
    assert_eq!(child.wait().unwrap().code(), Some(128 + Signal::TERM.as_raw()), "{said:#?}");
    let report = read_report(folder.path());
    let rounds = report["cases"][0]["systems"][0]["rounds"].as_array().unwrap().len();
    assert!((1..1000).contains(&rounds), "{rounds}");
    let unfinished = report["unfinished"].to_string();
    assert!(unfinished.contains("publish") && unfinished.contains("signal 15"), "{unfinished}");
    assert!(unfinished.contains("idle") && unfinished.contains("not begun"), "{unfinished}");
}

#[test]
fn a_case_that_there_is_not_is_refused_and_leaves_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = clean_command(&["bench", "run", "publish", "--case", "nothing-like-it"]);
    let output = command.arg("--folder").arg(folder.path()).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && words.contains("nothing-like-it"), "{words}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
