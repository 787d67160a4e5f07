//! `lanecast bench`: runs the suite of `lanecast-bench` and writes its reports.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use lanecast_bench::report::{Report, html, markdown, shell_word, text};
use lanecast_bench::scenario::{self, Scenario};
use lanecast_bench::{Bench, Cut, Settings as BenchSettings};

use super::{Failure, answer};
use crate::Outcome;
use crate::settings::{Kind, Setting, Settings, Source, table};
use crate::signals::{self, StopSignals};
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
        peers: settings.text(&table::BENCH_PEERS).map(PathBuf::from),
        folder: folder.clone(),
        rounds: settings.parse_with(&table::BENCH_ROUNDS, rounds)?,
        warmup: settings.parse_with(&table::BENCH_WARMUP, units::duration)?,
        duration: settings.parse_with(&table::BENCH_DURATION, units::duration)?,
        only: settings.text(&table::BENCH_CASE).map(str::to_owned),
        every_size: settings.switch(&table::BENCH_EVERY_SIZE)?,
        options: options(settings),
        rows: settings.parse_with(&table::BENCH_ROWS, rows)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.to_string(),
        cut: Cut::default(),
    };
    let cut = bench_settings.cut.clone();
    watch_signals(cut.clone()).map_err(|error| format!("cannot watch for signals: {error}"))?;
    let stem = folder.join(started.strftime("%Y%m%d-%H%M%S").to_string());
    let mut progress = io::stderr();
    let mut bench = Bench::new(bench_settings, &mut progress);
    bench.save_with(|report| write_reports(report, &stem).map_err(|error| error.to_string()));
    let is_whole = bench.run(&wanted);
    let report = bench.into_report();
    if report.cases.is_empty() && report.goals.is_empty() && is_whole {
        let reason = "no case of these scenarios has that in its name".to_owned();
        return Err(settings.refused(&table::BENCH_CASE, reason).into());
    }
    write_reports(&report, &stem)?;
    answer::say(&text(&report))?;
    writeln!(io::stderr(), "report: {0}.html, {0}.json, {0}.md", stem.display())?;
    match cut.signal() {
        Some(signal) => Ok(signals::exit_code(signal)),
        None => Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
    }
}

/// The first signal ends what is being measured, and what was found before it is kept; the second ends
/// the process.
fn watch_signals(cut: Cut) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let installed = runtime.enter();
    let mut signals = StopSignals::install()?;
    drop(installed);
    let watch = move || {
        runtime.block_on(async {
            cut.by(signals.next().await);
            signals.exit_at_next();
            std::future::pending::<()>().await;
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(watch)?;
    Ok(())
}

/// Scenarios, with their cases if that was asked for.
pub(super) fn list(settings: &Settings) -> Outcome {
    let wanted = settings.parse_with(&table::BENCH_SCENARIOS, scenarios)?;
    let with_cases = settings.switch(&table::BENCH_CASES)?;
    let every_size = settings.switch(&table::BENCH_EVERY_SIZE)?;
    let rounds = default_of(&table::BENCH_ROUNDS, rounds);
    let duration = default_of(&table::BENCH_DURATION, units::duration);
    let rows = default_of(&table::BENCH_ROWS, rows);
    let mut list = String::new();
    for scenario in wanted {
        list += &format!("{:<14} {}\n", scenario.name, scenario.about);
        if with_cases {
            let defaults =
                BenchSettings { rounds, duration, rows, every_size, ..Default::default() };
            let cases = Bench::new(defaults, &mut io::sink()).cases(scenario);
            list.extend(cases.iter().map(|case| format!("    {}\n", case.name())));
        }
    }
    answer::say(&list)?;
    Ok(ExitCode::SUCCESS)
}

fn default_of<T>(setting: &Setting, parse: impl Fn(&str) -> Result<T, String>) -> T {
    let default = setting.default.expect("a number of rounds, rows, or a time has one");
    parse(default).expect("a default is valid")
}

/// The flags that run the suite like this again: what always decides, and what was given.
fn options(settings: &Settings) -> String {
    let always = ["bench.rounds", "bench.duration", "bench.warmup"];
    // Which cases, and what does not decide what comes out.
    let left_out = ["bench.scenarios", "bench.case", "log.level", "log.format"];
    let mut options = Vec::new();
    for (setting, value, source) in settings.iter() {
        let is_told = always.contains(&setting.key) || *source != Source::Default;
        let Some(value) = value.filter(|_| is_told && !setting.secret) else { continue };
        if left_out.contains(&setting.key) {
            continue;
        }
        let flag = setting.flag;
        match setting.kind {
            Kind::Switch => options.push(format!("--{flag}")),
            Kind::Value => options.push(format!("--{flag} {}", shell_word(value))),
            Kind::List => {
                let values = value.lines().map(|value| format!("--{flag} {}", shell_word(value)));
                options.extend(values);
            }
            Kind::Positional => options.push(shell_word(value)),
        }
    }
    options.join(" ")
}

fn write_reports(report: &Report, stem: &std::path::Path) -> Result<(), Failure> {
    let json = serde_json::to_vec(report)?;
    let files = [
        ("json", json),
        ("md", markdown(report).into_bytes()),
        ("html", html(report).into_bytes()),
    ];
    for (extension, content) in files {
        let path = stem.with_extension(extension);
        // Whoever ends this now leaves the report of before, and never half of one.
        let part = stem.with_extension(format!("{extension}.part"));
        fs::write(&part, content)
            .and_then(|()| fs::rename(&part, &path))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn rows(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(rows) if rows >= 1_000_000 => Ok(rows),
        Ok(_) | Err(_) => Err("expected a number from 1000000".to_owned()),
    }
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
