//! One run of the suite: where it runs, how long, and what it has found so far.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::format::{duration_ns, rate};
use crate::machine::Machine;
use crate::report::{
    Bound, CaseResult, FORMAT, Goal, Report, Round, RunSettings, SystemResult, Unfinished, median,
};
use crate::scenario::Scenario;
use crate::{Case, Contender, Error, Latencies};

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
    /// What stands behind `lanecast bench run SCENARIO` to run it like this again.
    pub options: String,
    /// Telemetry of the scenarios that need a filled ClickHouse, or fill one.
    pub rows: u64,
    pub version: String,
    /// RFC 3339, UTC.
    pub started: String,
}

pub struct Bench<'a> {
    pub settings: Settings,
    report: Report,
    /// The result of cases that are not wanted.
    skipped: CaseResult,
    progress: &'a mut dyn Write,
}

impl<'a> Bench<'a> {
    /// `progress` gets a line per run.
    pub fn new(settings: Settings, progress: &'a mut dyn Write) -> Self {
        let run = RunSettings {
            rounds: settings.rounds,
            warmup_ns: whole_ns(settings.warmup),
            duration_ns: whole_ns(settings.duration),
            options: settings.options.clone(),
        };
        let report = Report {
            format: FORMAT,
            version: settings.version.clone(),
            started: settings.started.clone(),
            machine: Machine::here(&settings.folder),
            run: Some(run),
            cases: Vec::new(),
            goals: Vec::new(),
            unfinished: Vec::new(),
        };
        let skipped = CaseResult { case: Case::new("skipped", &[]), systems: Vec::new() };
        Self { settings, report, skipped, progress }
    }

    /// Asks all that a scenario asks. Where it breaks off, the report says so and keeps what was
    /// found before: `false`.
    pub fn ask(&mut self, scenario: &Scenario) -> bool {
        let Err(error) = (scenario.run)(self) else { return true };
        let (scenario, why) = (scenario.name.to_owned(), words(&error));
        self.say(&format!("{scenario} ended early: {why}"));
        self.report.unfinished.push(Unfinished { scenario, why });
        false
    }

    /// Is this case to be measured?
    #[must_use]
    pub fn wants(&self, case: &Case) -> bool {
        self.settings.only.as_ref().is_none_or(|only| case.name().contains(only.as_str()))
    }

    #[must_use]
    pub fn into_report(self) -> Report {
        self.report
    }

    /// Runs every contender once per round, one after the other, and keeps what they did. A ceiling
    /// or Lanecast itself must not fail; a peer that does is reported as failed. A case that is not
    /// wanted has a result without systems.
    ///
    /// # Errors
    /// What failed first.
    pub fn compete(
        &mut self,
        case: Case,
        mut contenders: Vec<Contender<'_>>,
    ) -> Result<&CaseResult, Error> {
        if !self.wants(&case) {
            return Ok(&self.skipped);
        }
        let name = case.name();
        let mut all = vec![Latencies::default(); contenders.len()];
        let mut systems: Vec<SystemResult> = contenders.iter().map(nothing_yet).collect();
        for round in 1..=self.settings.rounds {
            let each = contenders.iter_mut().zip(&mut systems).zip(&mut all);
            for ((contender, result), latencies) in each {
                if result.failure.is_some() {
                    continue;
                }
                // What the one before has left to be written is not for this one to wait for.
                rustix::fs::sync();
                let line = match (contender.run)() {
                    Ok(sample) => {
                        let of_round = Round::new(&sample);
                        latencies.add(&sample.latencies);
                        let line = describe(&of_round);
                        result.rounds.push(of_round);
                        line
                    }
                    Err(error) if contender.role == crate::Role::Peer => {
                        let words = words(&error);
                        result.failure = Some(words.clone());
                        words
                    }
                    Err(error) => return Err(error),
                };
                let (system, rounds) = (&contender.system, self.settings.rounds);
                // Whoever watches may have gone.
                let _ = writeln!(self.progress, "{name} [{round}/{rounds}] {system}: {line}");
            }
        }
        for (result, latencies) in systems.iter_mut().zip(&all) {
            result.set_curve(latencies);
        }
        Ok(self.keep(CaseResult { case, systems }))
    }

    /// Adds a result that was not found by competing.
    pub fn keep(&mut self, result: CaseResult) -> &CaseResult {
        self.report.cases.push(result);
        self.report.cases.last().expect("it was just pushed")
    }

    /// A line for whoever watches.
    pub fn say(&mut self, line: &str) {
        // They may have gone.
        let _ = writeln!(self.progress, "{line}");
    }

    /// Adds a goal with its values, one per round. Without values, and where only some cases are
    /// wanted, its case was not; else it was not measured.
    pub fn goal(&mut self, what: &str, bound: Bound, mut values: Vec<f64>) {
        if values.is_empty() && self.settings.only.is_some() {
            return;
        }
        // Reports hold numbers only.
        values.retain(|value| value.is_finite());
        let goal = Goal { what: what.to_owned(), bound, values };
        let met = goal.verdict();
        let median = median(&goal.values);
        let _ = writeln!(self.progress, "goal: {what}: {median:.2}, {bound}: {met}");
        self.report.goals.push(goal);
    }

    /// A folder for one run, which goes with its handle.
    ///
    /// # Errors
    /// The folder of the settings cannot be written.
    pub fn place(settings: &Settings) -> Result<TempDir, Error> {
        let folder = &settings.folder;
        let made = tempfile::Builder::new().prefix("lanecast-bench-").tempdir_in(folder);
        made.map_err(Error::io(format!("making a folder in {}", folder.display())))
    }
}

fn nothing_yet(contender: &Contender<'_>) -> SystemResult {
    SystemResult {
        system: contender.system.clone(),
        role: contender.role,
        acknowledges: contender.acknowledges.clone(),
        rounds: Vec::new(),
        curve: Vec::new(),
        failure: None,
    }
}

fn whole_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn describe(round: &Round) -> String {
    let megabytes = round.bytes_per_second / 1e6;
    let records = rate(round.records_per_second);
    if round.p50_ns == 0 {
        return format!("{records} records/s, {megabytes:.1} MB/s");
    }
    let (p50, p99) = (duration_ns(round.p50_ns as f64), duration_ns(round.p99_ns as f64));
    format!("{records} records/s, {megabytes:.1} MB/s, p50 {p50}, p99 {p99}")
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_that_breaks_leaves_what_was_found() {
        let settings = Settings { folder: PathBuf::from("."), rounds: 1, ..Settings::default() };
        let broken = Scenario {
            name: "broken",
            about: "",
            run: |bench| {
                bench.goal("half", Bound::AtLeast(1.0), vec![2.0]);
                Err(Error::Usage("no library".to_owned()))
            },
        };
        let whole = Scenario { name: "whole", about: "", run: |_| Ok(()) };
        let mut progress = Vec::new();
        let mut bench = Bench::new(settings, &mut progress);
        assert!(!bench.ask(&broken));
        assert!(bench.ask(&whole));
        let report = bench.into_report();
        assert_eq!(report.goals.len(), 1);
        let (scenario, why) = ("broken".to_owned(), "no library".to_owned());
        assert_eq!(report.unfinished, [Unfinished { scenario, why }]);
        assert!(String::from_utf8(progress).unwrap().contains("broken ended early: no library"));
    }
}
