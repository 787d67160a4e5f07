//! What a run of the suite found, as it is kept: one JSON file per run.
//!
//! The file is a [`Report`], as serde writes it, of [`FORMAT`] 1:
//!
//! ```text
//! { "format": 1, "version": "0.1.0", "started": "2026-11-21T12:00:00Z",
//!   "machine": { "cpu", "cores", "memory_bytes", "kernel", "file_system", "congestion_control", "load" },
//!   "run":     { "rounds": 5, "warmup_ns", "duration_ns", "options": "--rounds 5 ..." },    may be missing
//!   "cases": [ { "case": { "scenario": "publish", "circumstances": [["durability", "fsync"], ...] },
//!                "systems": [ { "system": "redis always", "role": "ceiling" | "lanecast" | "peer",
//!                               "acknowledges": "in words", "failure": null | "why",
//!                               "rounds": [ { "records_per_second", "bytes_per_second",
//!                                             "p50_ns", "p99_ns", "p999_ns", "max_ns",
//!                                             "cpu_ns_per_record": { "broker user": 212.5, ... } }, ... ],
//!                               "curve": [[percentile 0 to 100, nanoseconds], ...],
//!                               "memory": [[seconds, bytes], ...] }, ... ] }, ... ],         may be missing
//!   "goals": [ { "what": "in words", "bound": { "at-least": 0.85 } | { "at-most": 2.0 },
//!                "values": [one per round, ...] }, ... ],
//!   "unfinished": [ { "scenario": "pipeline", "why": "in words" }, ... ] }                  may be missing
//! ```
//!
//! Latencies are 0 where a case measures none. Fields may be added to format 1 as long as older files,
//! which lack them, still read (`testdata/format-1.json` is one); readers skip fields that they do not know.

mod figures;
mod goal;
mod html;
mod markdown;
mod read;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use goal::{Bound, Goal};
pub use html::html;
pub use markdown::markdown;
pub use read::ReadError;
pub use text::text;

use crate::machine::Machine;
use crate::{Case, Latencies, Role, Sample};

/// Changes when older files can no longer be read.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub format: u32,
    /// Of the program.
    pub version: String,
    /// RFC 3339, UTC.
    pub started: String,
    pub machine: Machine,
    /// How it ran; older files do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunSettings>,
    pub cases: Vec<CaseResult>,
    pub goals: Vec<Goal>,
    /// Scenarios that ended before their last case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
}

/// A scenario in which Lanecast or a ceiling broke, or what it needs is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    pub scenario: String,
    pub why: String,
}

/// How the suite ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSettings {
    /// Runs of each system in each case.
    pub rounds: u32,
    /// Of each run; not counted.
    pub warmup_ns: u64,
    /// Of each run, counted.
    pub duration_ns: u64,
    /// What stands behind `lanecast bench run SCENARIO` to run it like this again.
    pub options: String,
}

impl Report {
    /// When it began, to the second: `2026-11-21 12:00:00 UTC`.
    #[must_use]
    pub fn moment(&self) -> String {
        match self.started.strip_suffix('Z').and_then(|time| time.split_once('T')) {
            Some((day, time)) => {
                format!("{day} {} UTC", time.split('.').next().unwrap_or_default())
            }
            None => self.started.clone(),
        }
    }

    /// The command that measures this case again.
    #[must_use]
    pub fn command(&self, case: &Case) -> String {
        let (scenario, only) = (shell_word(&case.scenario), shell_word(&case.name()));
        let options = self.run.as_ref().map_or("", |run| &*run.options);
        format!("lanecast bench run {scenario} --case {only} {options}").trim_end().to_owned()
    }
}

/// The word as a POSIX shell has to be given it.
#[must_use]
pub fn shell_word(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:=+@%".contains(letter);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// One case, and what every system made of it. Round *n* of all systems ran next to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaseResult {
    pub case: Case,
    pub systems: Vec<SystemResult>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemResult {
    pub system: String,
    pub role: Role,
    /// What its acknowledgement means.
    pub acknowledges: String,
    pub rounds: Vec<Round>,
    /// Latencies of all rounds together: percentile, and nanoseconds that it stays within.
    pub curve: Vec<(f64, u64)>,
    /// Seconds since the start, and resident bytes then; where memory is the question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<(f64, u64)>,
    /// Why it has no rounds, or not all.
    pub failure: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Round {
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    /// 0 where the case measures no latency.
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    /// CPU time of each stage, per record.
    pub cpu_ns_per_record: BTreeMap<String, f64>,
}

impl Round {
    #[must_use]
    pub fn new(sample: &Sample) -> Self {
        let latencies = &sample.latencies;
        let at = |percentile| match latencies.count() {
            0 => 0,
            _ => latencies.percentile_ns(percentile),
        };
        let per_record = |(stage, time): &(String, std::time::Duration)| {
            (stage.clone(), time.as_nanos() as f64 / sample.records.max(1) as f64)
        };
        // JSON has no other numbers.
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        Self {
            records_per_second: finite(sample.records_per_second()),
            bytes_per_second: finite(sample.bytes_per_second()),
            p50_ns: at(50.0),
            p99_ns: at(99.0),
            p999_ns: at(99.9),
            max_ns: at(100.0),
            cpu_ns_per_record: sample.cpu.iter().map(per_record).collect(),
        }
    }
}

impl SystemResult {
    /// Median over the rounds.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        median(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// Sets the curve from the latencies of all rounds.
    pub fn set_curve(&mut self, latencies: &Latencies) {
        self.curve = if latencies.count() == 0 { Vec::new() } else { latencies.curve() };
    }
}

impl CaseResult {
    #[must_use]
    pub fn system(&self, name: &str) -> Option<&SystemResult> {
        self.systems.iter().find(|result| result.system == name)
    }

    /// The system that the others are compared with.
    #[must_use]
    pub fn ceiling(&self) -> Option<&SystemResult> {
        self.systems.iter().find(|result| result.role == Role::Ceiling)
    }

    /// `of` of one system over that of another, round by round: what runs next to each other suffers
    /// from the same neighbours.
    #[must_use]
    pub fn ratios(&self, system: &str, to: &str, of: impl Fn(&Round) -> f64) -> Vec<f64> {
        let (Some(system), Some(to)) = (self.system(system), self.system(to)) else {
            return Vec::new();
        };
        let pairs = system.rounds.iter().zip(&to.rounds);
        pairs.map(|(one, other)| of(one) / of(other)).filter(|ratio| ratio.is_finite()).collect()
    }
}

/// 0 for nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A result with these records per second, and p99s of as many nanoseconds.
    pub(crate) fn result(system: &str, role: Role, rates: &[f64]) -> SystemResult {
        let round = |rate: &f64| Round {
            records_per_second: *rate,
            bytes_per_second: rate * 100.0,
            p50_ns: *rate as u64 / 2,
            p99_ns: *rate as u64,
            p999_ns: *rate as u64,
            max_ns: *rate as u64,
            cpu_ns_per_record: BTreeMap::from([("broker".to_owned(), 1e9 / rate)]),
        };
        SystemResult {
            system: system.to_owned(),
            role,
            acknowledges: "in memory".to_owned(),
            rounds: rates.iter().map(round).collect(),
            curve: vec![(50.0, 100), (100.0, 1000)],
            memory: Vec::new(),
            failure: None,
        }
    }

    /// A report with these cases.
    pub(crate) fn report(cases: Vec<CaseResult>) -> Report {
        Report {
            format: FORMAT,
            version: "1".to_owned(),
            started: "2026-11-21T12:00:00Z".to_owned(),
            machine: Machine::default(),
            run: None,
            cases,
            goals: Vec::new(),
            unfinished: Vec::new(),
        }
    }

    /// Names that mean something to HTML, Markdown and shells; a failure; one round and one point;
    /// latencies of 0; a case without a ceiling, and one without anybody; a goal without values.
    pub(crate) fn awkward() -> Report {
        let name = "redis <script> & co";
        let failed = SystemResult {
            failure: Some("it's | not\n\"installed\" </td>".to_owned()),
            ..result(name, Role::Peer, &[])
        };
        let mut timeless = result("lanecast", Role::Lanecast, &[5.0]);
        timeless.curve = vec![(0.0, 0), (100.0, 0)];
        timeless.rounds[0].p50_ns = 0;
        timeless.rounds[0].p99_ns = 0;
        let mut stopped = result("lanecast", Role::Lanecast, &[0.0]);
        stopped.rounds[0].cpu_ns_per_record.clear();
        stopped.curve = vec![(0.0, 0), (100.0, 1500)];
        let case = |circumstances: &[(&str, &str)], systems| CaseResult {
            case: Case::new("publish", circumstances),
            systems,
        };
        let mut all = report(vec![
            case(
                &[("durability", "memory"), ("records", "512 x 128 B")],
                vec![
                    result("relay", Role::Ceiling, &[2e6, 2e6]),
                    result("lanecast", Role::Lanecast, &[1e6, 1e6]),
                    failed,
                ],
            ),
            case(&[("size", "<b>16</b> & 'more'")], vec![timeless]),
            case(&[("load", "none")], vec![stopped]),
            case(&[("who", "nobody")], Vec::new()),
        ]);
        let goal = |what: &str, bound, values: &[f64]| Goal {
            what: what.to_owned(),
            bound,
            values: values.to_vec(),
        };
        let (scenario, why) = ("pipe & line".to_owned(), "no <library>".to_owned());
        all.unfinished = vec![Unfinished { scenario, why }];
        all.goals = vec![
            goal("a <i>rate</i>", Bound::AtLeast(0.9), &[0.5]),
            goal("b & c", Bound::AtMost(2.0), &[]),
            goal("d", Bound::AtMost(2.0), &[1.0, 1.5, 1.75]),
        ];
        all
    }

    #[test]
    fn ratios_pair_what_ran_next_to_each_other() {
        let case = CaseResult {
            case: Case::new("publish", &[("durability", "memory")]),
            systems: vec![
                result("relay", Role::Ceiling, &[100.0, 10.0, 200.0]),
                result("lanecast", Role::Lanecast, &[90.0, 9.0, 180.0]),
            ],
        };
        let ratios = case.ratios("lanecast", "relay", |round| round.records_per_second);
        assert!(ratios.iter().all(|ratio| (ratio - 0.9).abs() < 1e-9), "{ratios:?}");
        assert!(case.ratios("lanecast", "nobody", |round| round.records_per_second).is_empty());
    }

    #[test]
    fn a_case_is_repeated_by_a_command_that_a_shell_takes() {
        let mut report = Report::read(include_bytes!("testdata/format-1.json")).unwrap();
        let case = Case::new("publish", &[("load", "it's 'half'; rm")]);
        let plain = r"lanecast bench run publish --case 'publish: it'\''s '\''half'\''; rm'";
        assert_eq!(report.command(&case), plain);
        let options = "--rounds 5".to_owned();
        report.run = Some(RunSettings { rounds: 5, warmup_ns: 1, duration_ns: 1, options });
        assert_eq!(report.command(&case), format!("{plain} --rounds 5"));
    }

    #[test]
    fn moments_have_no_fractions_of_a_second() {
        let mut report = report(Vec::new());
        report.started = "2026-11-21T14:25:03.482602741Z".to_owned();
        assert_eq!(report.moment(), "2026-11-21 14:25:03 UTC");
        report.started = "now".to_owned();
        assert_eq!(report.moment(), "now");
    }

    #[test]
    fn a_run_of_no_time_is_written_as_numbers() {
        let round = Round::new(&Sample { records: 5, bytes: 5, ..Sample::default() });
        let text = serde_json::to_string(&round).unwrap();
        assert_eq!(serde_json::from_str::<Round>(&text).unwrap(), round);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
