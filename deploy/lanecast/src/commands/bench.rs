//! `lanecast bench`: runs the suite of `lanecast-bench` and writes its reports.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use lanecast_bench::report::{Report, markdown};
use lanecast_bench::scenario::{self, Scenario};
use lanecast_bench::{Bench, Settings as BenchSettings};

use super::Failure;
use crate::Outcome;
use crate::settings::{Settings, table};
use crate::units;

/// Measures; the table goes to the standard output, progress to the standard error.
pub(super) fn run(settings: &Settings) -> Outcome {
    let wanted = settings.parse_with(&table::BENCH_SCENARIOS, scenarios)?;
    let folder = PathBuf::from(settings.text(&table::BENCH_FOLDER).unwrap_or("lanecast-bench"));
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
    let started = jiff::Timestamp::now();
    let bench_settings = BenchSettings {
        program: std::env::current_exe()
            .map_err(|error| format!("cannot find the program itself: {error}"))?,
        folder: folder.clone(),
        rounds: settings.parse_with(&table::BENCH_ROUNDS, rounds)?,
        warmup: settings.parse_with(&table::BENCH_WARMUP, units::duration)?,
        duration: settings.parse_with(&table::BENCH_DURATION, units::duration)?,
        only: settings.text(&table::BENCH_CASE).map(str::to_owned),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.to_string(),
    };
    let mut progress = io::stderr();
    let mut bench = Bench::new(bench_settings, &mut progress);
    for scenario in wanted {
        (scenario.run)(&mut bench)?;
    }
    let report = bench.into_report();
    let stem = folder.join(started.strftime("%Y%m%d-%H%M%S").to_string());
    write_reports(&report, &stem)?;
    write!(io::stdout(), "{}", markdown(&report))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn list() -> Outcome {
    let mut out = io::stdout().lock();
    for Scenario { name, about, .. } in scenario::ALL {
        writeln!(out, "{name:<14} {about}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write_reports(report: &Report, stem: &std::path::Path) -> Result<(), Failure> {
    let json = serde_json::to_vec(report)?;
    for (extension, content) in [("json", json), ("md", markdown(report).into_bytes())] {
        let path = stem.with_extension(extension);
        fs::write(&path, content)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn rounds(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(rounds) if (1..=1000).contains(&rounds) => Ok(rounds),
        Ok(_) | Err(_) => Err("expected a number from 1 to 1000".to_owned()),
    }
}

/// Scenarios by their names, in the order in which they run.
fn scenarios(text: &str) -> Result<Vec<&'static Scenario>, String> {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for name in &names {
        if *name != "all" && !scenario::ALL.iter().any(|scenario| scenario.name == *name) {
            return Err(format!("there is no scenario {name}: see `lanecast bench list`"));
        }
    }
    let is_wanted = |scenario: &&Scenario| names.contains(&"all") || names.contains(&scenario.name);
    Ok(scenario::ALL.iter().filter(is_wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_are_named_or_all() {
        assert_eq!(scenarios("all").unwrap().len(), scenario::ALL.len());
        assert_eq!(scenarios("publish").unwrap().len(), 1);
        let error = scenarios("publish,nonsense").map(|_| ()).unwrap_err();
        assert!(error.contains("nonsense") && error.contains("bench list"), "{error}");
    }
}
