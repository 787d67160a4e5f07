//! One run of the suite: where it runs, how long, and what it has found so far.

use std::io::Write;
use std::time::Duration;

use tempfile::TempDir;

use crate::estimate::{Estimate, about};
use crate::machine::Machine;
use crate::report::{Bound, CaseResult, FORMAT, Goal, Report, RunSettings, Unfinished, median};
use crate::scenario::Scenario;
use crate::{Case, Error, Settings};

/// Keeps a report that may be the last; or says why it cannot.
type Save<'a> = dyn FnMut(&Report) -> Result<(), String> + 'a;

pub struct Bench<'a> {
    pub settings: Settings,
    pub(crate) report: Report,
    /// The result of cases that are not wanted.
    pub(crate) skipped: CaseResult,
    progress: &'a mut dyn Write,
    save: Box<Save<'a>>,
    /// Cases are counted, and none is measured.
    pub(crate) is_counting: bool,
    pub(crate) estimate: Estimate,
    /// Scenarios that are not over.
    ahead: Vec<&'static str>,
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
        Self {
            settings,
            report,
            skipped: CaseResult { case: Case::new("skipped", &[]), systems: Vec::new() },
            progress,
            save: Box::new(|_| Ok(())),
            is_counting: false,
            estimate: Estimate::default(),
            ahead: Vec::new(),
        }
    }

    /// What was found so far goes to `save` after every case, so that it is there whatever happens.
    pub fn save_with(&mut self, save: impl FnMut(&Report) -> Result<(), String> + 'a) {
        self.save = Box::new(save);
    }

    /// Asks these scenarios, one after the other. `false`: some of them is incomplete, or the run was cut
    /// short; the report says which.
    pub fn run(&mut self, scenarios: &[&Scenario]) -> bool {
        self.count(scenarios);
        let mut is_whole = true;
        for (at, scenario) in scenarios.iter().enumerate() {
            if self.settings.cut.signal().is_some() {
                let why = "was not begun, since the run was cut short".to_owned();
                let scenario = scenario.name.to_owned();
                self.report.unfinished.push(Unfinished { scenario, why });
                is_whole = false;
                continue;
            }
            self.ahead = scenarios[at..].iter().map(|scenario| scenario.name).collect();
            is_whole &= self.ask(scenario);
            self.estimate.is_over(|case| case.scenario == scenario.name);
        }
        self.ahead.clear();
        is_whole
    }

    /// Finds out which cases there are, and says how long they take.
    fn count(&mut self, scenarios: &[&Scenario]) {
        for scenario in scenarios {
            self.cases(scenario);
        }
        self.estimate.begin();
        let (cases, scenarios) = (self.estimate.count_cases(), scenarios.len());
        let Settings { rounds, duration, .. } = self.settings;
        if let Some(warning) = self.report.machine.warning() {
            self.say(&format!("warning: {warning}"));
        }
        let time = about(self.estimate.left_s());
        self.say(&format!(
            "{cases} cases of {scenarios} scenarios, {rounds} rounds of {duration:?} of each system: {time}"
        ));
    }

    /// What a scenario asks, with none of it measured.
    pub fn cases(&mut self, scenario: &Scenario) -> Vec<Case> {
        self.is_counting = true;
        // Where it breaks, it says so when it is asked.
        let _ = (scenario.run)(self);
        self.is_counting = false;
        let cases = self.estimate.cases().into_iter();
        cases.filter(|case| case.scenario == scenario.name).collect()
    }

    /// Asks all that a scenario asks. Where it breaks off, the report says so and keeps what was
    /// found before: `false`.
    pub fn ask(&mut self, scenario: &Scenario) -> bool {
        let Err(error) = (scenario.run)(self) else { return true };
        // Systems that a signal has ended as well say something else.
        let cut = self.settings.cut.signal().map(|signal| Error::Cut { signal });
        let (scenario, why) = (scenario.name.to_owned(), words(&cut.unwrap_or(error)));
        self.say(&format!("{scenario} is incomplete: {why}"));
        self.report.unfinished.push(Unfinished { scenario, why });
        false
    }

    /// Is this case to be measured?
    #[must_use]
    pub fn wants(&self, case: &Case) -> bool {
        let is_wanted = self.is_wanted(case);
        if is_wanted && self.is_counting {
            self.estimate.count(case, None, &self.settings);
        }
        is_wanted && !self.is_counting
    }

    pub(crate) fn is_wanted(&self, case: &Case) -> bool {
        self.settings.only.as_ref().is_none_or(|only| case.name().contains(only.as_str()))
    }

    #[must_use]
    pub fn into_report(self) -> Report {
        self.report
    }

    /// Adds a result that was not found by competing.
    pub fn keep(&mut self, result: CaseResult) -> &CaseResult {
        self.estimate.is_over(|case| *case == result.case);
        self.report.cases.push(result);
        let mut report = self.report.clone();
        for scenario in &self.ahead {
            let why = "was not over when this report was written".to_owned();
            report.unfinished.push(Unfinished { scenario: (*scenario).to_owned(), why });
        }
        if let Err(why) = (self.save)(&report) {
            self.say(&why);
        }
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
        if self.is_counting || (values.is_empty() && self.settings.only.is_some()) {
            return;
        }
        // Reports hold numbers only.
        values.retain(|value| value.is_finite());
        let goal = Goal { what: what.to_owned(), bound, values };
        let met = goal.verdict();
        let median = median(&goal.values);
        self.say(&format!("goal: {what}: {median:.2}, {bound}: {met}"));
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

fn whole_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// An error with its causes.
pub(crate) fn words(error: &dyn std::error::Error) -> String {
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
    use crate::{Contender, Role, Sample};

    fn quick(rounds: u32) -> Settings {
        Settings { folder: std::env::temp_dir(), rounds, ..Settings::default() }
    }

    fn sample() -> Sample {
        Sample { records: 5, elapsed: Duration::from_secs(1), ..Sample::default() }
    }

    #[test]
    fn a_scenario_that_breaks_leaves_what_was_found() {
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
        let mut bench = Bench::new(quick(1), &mut progress);
        assert!(!bench.run(&[&broken, &whole]));
        let report = bench.into_report();
        assert_eq!(report.goals.len(), 1);
        let (scenario, why) = ("broken".to_owned(), "no library".to_owned());
        assert_eq!(report.unfinished, [Unfinished { scenario, why }]);
        assert!(String::from_utf8(progress).unwrap().contains("broken is incomplete: no library"));
    }

    /// Two cases, of which the second is cut short in its second round: by a signal that its system gets too.
    const CUT: Scenario = Scenario {
        name: "cut",
        about: "",
        run: |bench| {
            let fine = Contender::new("fine", Role::Lanecast, "", || Ok(sample()));
            bench.compete(Case::new("cut", &[("n", "1")]), vec![fine])?;
            let cut = bench.settings.cut.clone();
            let mut runs = 0;
            let peer = Contender::new("peer", Role::Peer, "", move || {
                runs += 1;
                if runs == 1 {
                    return Ok(sample());
                }
                cut.by(15);
                Err(Error::Usage("it is gone".to_owned()))
            });
            bench.compete(Case::new("cut", &[("n", "2")]), vec![peer])?;
            Ok(())
        },
    };
    const NEXT: Scenario = Scenario {
        name: "next",
        about: "",
        run: |bench| {
            assert!(!bench.wants(&Case::new("next", &[])), "nothing begins any more");
            Ok(())
        },
    };

    #[test]
    fn a_run_that_is_cut_short_keeps_what_it_has_measured() {
        let (mut progress, mut saved) = (Vec::new(), Vec::new());
        let mut bench = Bench::new(quick(3), &mut progress);
        bench.save_with(|report| {
            saved.push(report.clone());
            Ok(())
        });
        assert!(!bench.run(&[&CUT, &NEXT]));
        let report = bench.into_report();
        let rounds = |report: &Report| {
            let cases = report.cases.iter();
            cases.map(|case| case.systems[0].rounds.len()).collect::<Vec<_>>()
        };
        assert_eq!(rounds(&report), [3, 1]);
        assert_eq!(report.cases[1].systems[0].failure, None, "it did not fail by itself");
        let unfinished = |report: &Report| {
            let all = report.unfinished.iter();
            all.map(|one| format!("{} {}", one.scenario, one.why)).collect::<Vec<_>>()
        };
        let cut =
            ["cut was cut short by signal 15", "next was not begun, since the run was cut short"];
        assert_eq!(unfinished(&report), cut);
        let meanwhile =
            ["cut", "next"].map(|name| format!("{name} was not over when this report was written"));
        assert_eq!((rounds(&saved[0]), unfinished(&saved[0])), (vec![3], meanwhile.to_vec()));
    }

    #[test]
    fn cases_are_counted_before_any_is_measured() {
        let mut progress = Vec::new();
        let mut bench = Bench::new(quick(2), &mut progress);
        let scenario = Scenario {
            name: "two",
            about: "",
            run: |bench| {
                let fine = Contender::new("fine", Role::Lanecast, "", || Ok(sample()));
                let result = bench.compete(Case::new("two", &[("n", "1")]), vec![fine])?;
                let values = result.ratios("fine", "fine", |round| round.records_per_second);
                bench.goal("same", Bound::AtLeast(1.0), values);
                if bench.wants(&Case::new("two", &[("n", "2")])) {
                    bench.say("measures");
                }
                Ok(())
            },
        };
        assert!(bench.run(&[&scenario]));
        assert_eq!(bench.into_report().goals.len(), 1);
        let progress = String::from_utf8(progress).unwrap();
        assert!(progress.contains("2 cases of 1 scenarios, 2 rounds of 0ns"), "{progress}");
        assert!(progress.contains("\ncase 1 of 2, "), "{progress}");
        assert_eq!(progress.matches("measures").count(), 1, "{progress}");
    }
}
