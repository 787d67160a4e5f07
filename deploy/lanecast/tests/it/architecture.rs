//! The architecture's rules as tests: who may import whom, where unsafe code lives, what stays out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Direct dependencies of every crate of the workspace, as they are for its users.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata =
        cargo_metadata::MetadataCommand::new().current_dir(root()).no_deps().exec().unwrap();
    let normal = |package: &cargo_metadata::Package| {
        let wanted = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == cargo_metadata::DependencyKind::Normal);
        wanted.map(|dependency| dependency.name.clone()).collect()
    };
    metadata.packages.iter().map(|package| (package.name.to_string(), normal(package))).collect()
}

#[test]
fn crates_import_only_whom_the_map_allows() {
    const ALLOWED: &[(&str, &[&str])] = &[
        ("lanecast-wire", &[]),
        ("lanecast-telemetry", &["lanecast-wire"]),
        ("lanecast-client", &["lanecast-wire"]),
        ("lanecast-core", &["lanecast-wire"]),
        ("lanecast-broker", &["lanecast-core", "lanecast-wire"]),
        ("lanecast-sim", &["lanecast-core", "lanecast-wire"]),
        ("lanecast-producer", &["lanecast-client", "lanecast-wire", "lanecast-telemetry"]),
        (
            "lanecast-consumer",
            &["lanecast-client", "lanecast-wire", "lanecast-telemetry", "lanecast-store"],
        ),
        ("lanecast-store", &["lanecast-telemetry"]),
        ("lanecast-query", &["lanecast-store", "lanecast-client", "lanecast-telemetry"]),
        ("lanecast-clickhouse", &[]),
    ];
    let dependencies = dependencies();
    for (name, allowed) in ALLOWED {
        for dependency in &dependencies[*name] {
            assert!(
                !dependency.starts_with("lanecast") || allowed.contains(&dependency.as_str()),
                "{name} must not import {dependency}"
            );
        }
    }
    for (name, dependencies) in &dependencies {
        assert!(!dependencies.contains("lanecast"), "{name} must not import the binary");
    }
}

#[test]
fn glommio_stands_in_the_broker_shell_alone() {
    for (name, dependencies) in &dependencies() {
        assert_eq!(dependencies.contains("glommio"), name == "lanecast-broker", "{name}");
    }
}

#[test]
fn the_decision_crates_know_no_runtime() {
    let dependencies = dependencies();
    for name in ["lanecast-wire", "lanecast-telemetry", "lanecast-core"] {
        for banned in ["tokio", "glommio", "hyper", "libc", "socket2", "tracing", "rand", "jiff"] {
            assert!(!dependencies[name].contains(banned), "{name} must not depend on {banned}");
        }
    }
}

/// Every Rust file of the project, as `folder/file.rs` with its text.
fn sources() -> Vec<(String, String)> {
    let root = root();
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "git must be able to list the project's files");
    let names = String::from_utf8(listed.stdout).unwrap();
    let mut sources = Vec::new();
    for name in names.lines() {
        // A file that is deleted but not yet committed is listed too.
        if let Ok(text) = std::fs::read_to_string(root.join(name)) {
            sources.push((name.to_owned(), text));
        }
    }
    assert!(sources.len() > 50, "only {} files found", sources.len());
    sources
}

#[test]
fn unsafe_code_lives_in_listed_files_only() {
    const LISTED: &[&str] = &[
        "broker/server/src/probe.rs",
        "broker/server/src/readiness.rs",
        "deploy/clickhouse/src/ffi.rs",
    ];
    let mut found = BTreeSet::new();
    for (name, text) in sources() {
        if name.ends_with("architecture.rs") {
            continue;
        }
        let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
        let has_unsafe = code.into_iter().any(|line| {
            let mut words = line.split_whitespace().skip_while(|word| !word.ends_with("unsafe"));
            let next = words.nth(1).unwrap_or_default();
            ["{", "fn", "impl", "extern", "trait"].iter().any(|word| next.starts_with(word))
        });
        if has_unsafe {
            found.insert(name);
        }
    }
    let listed: BTreeSet<String> = LISTED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, listed, "files with unsafe code, against the list of this test");
}

#[test]
fn no_marks_are_left_in_the_code() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (name, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{name} has a {mark}");
        }
    }
}

#[test]
fn files_stay_readable_in_length() {
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{name} has {lines} lines; 100 to 400 is the aim, 600 the end");
    }
}

#[test]
fn the_visible_top_level_is_the_agreed_one() {
    let allowed: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "LICENSE",
        "broker",
        "wire",
        "producer",
        "consumer",
        "query",
        "bench",
        "samples",
        "deploy",
    ]
    .into();
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    for name in String::from_utf8(listed.stdout).unwrap().lines() {
        let top = name.split('/').next().unwrap_or_default();
        assert!(top.starts_with('.') || allowed.contains(top), "{top} stands at the top level");
    }
}
