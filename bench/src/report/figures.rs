//! What the reports say of one system in one case: medians over its rounds.

use std::collections::BTreeMap;

use super::{CaseResult, Report, Round, SystemResult, median};

pub(super) struct Figures {
    pub(super) records_per_second: f64,
    pub(super) megabytes_per_second: f64,
    /// Smallest and largest records per second of a round.
    pub(super) slowest: f64,
    pub(super) fastest: f64,
    /// Median of the rounds' shares of the ceiling's bytes per second; `None` for the ceiling itself.
    pub(super) share: Option<f64>,
    /// `None` where no latency was measured.
    pub(super) p50_ns: Option<f64>,
    pub(super) p99_ns: Option<f64>,
    pub(super) p999_ns: Option<f64>,
    /// The largest of all rounds.
    pub(super) max_ns: Option<f64>,
    /// Over the ceiling's, where latencies at the same load can be compared.
    pub(super) p50_over: Option<Over>,
    pub(super) p99_over: Option<Over>,
    /// CPU nanoseconds per record of each stage.
    pub(super) cost_ns: BTreeMap<String, f64>,
}

impl Figures {
    /// `None` without rounds.
    pub(super) fn new(case: &CaseResult, system: &SystemResult) -> Option<Self> {
        if system.rounds.is_empty() {
            return None;
        }
        let latency = |of: fn(&Round) -> u64| {
            let ns = system.median(|round| of(round) as f64);
            (ns > 0.0).then_some(ns)
        };
        let rates = || system.rounds.iter().map(|round| round.records_per_second);
        let max_ns = system.rounds.iter().map(|round| round.max_ns).max().unwrap_or(0);
        Some(Self {
            records_per_second: system.median(|round| round.records_per_second),
            megabytes_per_second: system.median(|round| round.bytes_per_second) / 1e6,
            slowest: rates().fold(f64::INFINITY, f64::min),
            fastest: rates().fold(0.0, f64::max),
            share: share(case, system),
            p50_ns: latency(|round| round.p50_ns),
            p99_ns: latency(|round| round.p99_ns),
            p999_ns: latency(|round| round.p999_ns),
            max_ns: (max_ns > 0).then_some(max_ns as f64),
            p50_over: over(case, system, |round| round.p50_ns as f64),
            p99_over: over(case, system, |round| round.p99_ns as f64),
            cost_ns: cost(system),
        })
    }

    pub(super) fn whole_cost_ns(&self) -> Option<f64> {
        let sum: f64 = self.cost_ns.values().sum();
        (sum > 0.0).then_some(sum)
    }

    /// `broker 212, client 40`
    pub(super) fn cost_words(&self) -> String {
        let stages = self.cost_ns.iter();
        let words: Vec<String> =
            stages.map(|(stage, ns)| format!("{stage} {}", small(*ns))).collect();
        words.join(", ")
    }
}

/// How many times as much as the ceiling's: of the rounds the median, the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Over {
    pub(super) median: f64,
    pub(super) smallest: f64,
    pub(super) largest: f64,
}

/// `1.08 x, 1.02 to 1.15`
impl std::fmt::Display for Over {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [median, low, high] = [self.median, self.smallest, self.largest].map(small);
        write!(out, "{median} x, {low} to {high}")
    }
}

fn over(case: &CaseResult, system: &SystemResult, of: fn(&Round) -> f64) -> Option<Over> {
    let ceiling = case.ceiling().filter(|ceiling| ceiling.system != system.system)?;
    let ratios = case.ratios(&system.system, &ceiling.system, of);
    let (smallest, largest) = (
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    );
    let is_measured = waits_alike(case) && largest > 0.0;
    is_measured.then(|| Over { median: median(&ratios), smallest, largest })
}

/// Do latencies of this case mean the same for all? They do at a set rate, or one at a time. With a full
/// pipe they are how much is under way over the throughput, and say nothing of their own.
fn waits_alike(case: &CaseResult) -> bool {
    let of = |name: &str| {
        let mut all = case.case.circumstances.iter();
        all.find(|(known, _)| known == name).map(|(_, value)| &**value)
    };
    let is_set =
        |load: &str| load.contains("/s") || load.contains("open loop") || load.starts_with("1 in");
    of("load").map_or_else(|| of("question").is_some(), is_set)
}

fn share(case: &CaseResult, system: &SystemResult) -> Option<f64> {
    let ceiling = case.ceiling().filter(|ceiling| ceiling.system != system.system)?;
    let shares = case.ratios(&system.system, &ceiling.system, |round| round.bytes_per_second);
    (!shares.is_empty()).then(|| median(&shares))
}

fn cost(system: &SystemResult) -> BTreeMap<String, f64> {
    let stages = system.rounds.iter().flat_map(|round| round.cpu_ns_per_record.keys());
    let of = |stage: &String| {
        system.median(|round| round.cpu_ns_per_record.get(stage).copied().unwrap_or(0.0))
    };
    stages.map(|stage| (stage.clone(), of(stage))).collect()
}

/// Three digits of a small number: `4.25`, `42.5`, `425`.
pub(super) fn small(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// Why a system has no figures, or not those of all rounds.
pub(super) struct Failed<'a> {
    pub(super) case: &'a CaseResult,
    pub(super) system: &'a SystemResult,
    pub(super) why: &'a str,
}

impl Report {
    pub(super) fn failures(&self) -> Vec<Failed<'_>> {
        let all = self.cases.iter().flat_map(|case| case.systems.iter().map(move |of| (case, of)));
        let failed = all.filter_map(|(case, system)| match &system.failure {
            Some(why) => Some(Failed { case, system, why }),
            None if system.rounds.is_empty() => Some(Failed { case, system, why: "not measured" }),
            None => None,
        });
        failed.collect()
    }

    /// Every system, with all that its acknowledgements mean, in order of appearance.
    pub(super) fn acknowledgements(&self) -> Vec<(&str, Vec<&str>)> {
        let mut all: Vec<(&str, Vec<&str>)> = Vec::new();
        for system in self.cases.iter().flat_map(|case| &case.systems) {
            let (name, meaning) = (&*system.system, &*system.acknowledges);
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, meanings)) if meanings.contains(&meaning) => (),
                Some((_, meanings)) => meanings.push(meaning),
                None => all.push((name, vec![meaning])),
            }
        }
        all
    }

    /// Scenarios in order, each with its cases.
    pub(super) fn scenarios(&self) -> Vec<(&str, Vec<&CaseResult>)> {
        let mut all: Vec<(&str, Vec<&CaseResult>)> = Vec::new();
        for case in &self.cases {
            match all.iter_mut().find(|(name, _)| *name == case.case.scenario) {
                Some((_, cases)) => cases.push(case),
                None => all.push((&case.case.scenario, vec![case])),
            }
        }
        all
    }
}

/// `fsync, 512 x 1 KiB, 16 in flight`
pub(super) fn circumstances(case: &CaseResult) -> String {
    let values: Vec<&str> = case.case.circumstances.iter().map(|(_, value)| &**value).collect();
    values.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::result;
    use crate::{Case, Role};

    #[test]
    fn latencies_are_compared_where_the_load_is_the_same() {
        let over = |circumstance: (&str, &str)| {
            let systems = vec![
                result("relay", Role::Ceiling, &[100.0, 100.0, 200.0]),
                result("lanecast", Role::Lanecast, &[150.0, 110.0, 400.0]),
            ];
            let case = CaseResult { case: Case::new("any", &[circumstance]), systems };
            let figures = Figures::new(&case, &case.systems[1]).unwrap();
            assert_eq!(Figures::new(&case, &case.systems[0]).unwrap().p99_over, None);
            figures.p99_over
        };
        let wanted = Over { median: 1.5, smallest: 1.1, largest: 2.0 };
        assert_eq!(wanted.to_string(), "1.50 x, 1.10 to 2.00");
        for alike in ["100.0 k batches/s", "half, open loop", "1 in flight each"] {
            assert_eq!(over(("load", alike)), Some(wanted), "{alike}");
        }
        assert_eq!(over(("question", "newest page")), Some(wanted));
        assert_eq!(over(("load", "16 in flight")), None);
        assert_eq!(over(("batch", "512 x 128 B")), None);
    }
}
