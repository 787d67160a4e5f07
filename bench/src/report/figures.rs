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
