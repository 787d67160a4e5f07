//! Two reports side by side: what changed beyond noise.
//!
//! Rounds of one run scatter; [`rank`] says how far apart the rounds of two runs have to be before that
//! cannot be it. Two runs also differ as wholes (the machine was warmer, a neighbour was busier), which
//! rounds do not show: changes below a least size count as noise too, and what is a share of the ceiling,
//! measured next to it, is the steadier figure.

mod metric;
pub mod rank;
mod text;

use serde::Serialize;

use crate::report::{CaseResult, Goal, Report, SystemResult, median};
use crate::{Role, format};
use metric::Metric;

pub use metric::Better;

/// What became of one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    WithinNoise,
    TooFewRounds,
}

/// One figure of one system in one case, or one goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The case's name, or what the goal compares.
    pub what: String,
    /// `None` for a goal.
    pub system: Option<String>,
    pub role: Option<Role>,
    pub metric: &'static str,
    pub better: Better,
    /// Medians.
    pub before: f64,
    pub after: f64,
    /// Of the medians, after over before.
    pub ratio: f64,
    /// That the ratio is in; `None`: too few rounds.
    pub interval: Option<(f64, f64)>,
    pub rounds: (usize, usize),
    pub verdict: Verdict,
}

/// All that is to be said about two reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Version and start of each.
    pub before: String,
    pub after: String,
    /// Why the two may not be comparable.
    pub warnings: Vec<String>,
    pub changes: Vec<Change>,
    /// Cases, systems of cases, and goals that only one side has.
    pub only_before: Vec<String>,
    pub only_after: Vec<String>,
    /// Changes below this share count as noise.
    pub least_change: f64,
    /// How often a figure that did not change is said to have, at most.
    pub error_rate: f64,
}

impl Comparison {
    /// Compares; changes of less than `least_change` (0.05: 5 %) count as noise.
    #[must_use]
    pub fn new(before: &Report, after: &Report, least_change: f64) -> Self {
        let title = |report: &Report| format!("{} of {}", report.version, report.moment());
        let mut all = Self {
            before: title(before),
            after: title(after),
            warnings: warnings(before, after),
            changes: Vec::new(),
            only_before: Vec::new(),
            only_after: Vec::new(),
            least_change,
            error_rate: rank::ERROR_RATE,
        };
        for case in &before.cases {
            match find(&after.cases, |other| other.case == case.case) {
                Some(other) => all.case(case, other),
                None => all.only_before.push(case.case.name()),
            }
        }
        for goal in &before.goals {
            match find(&after.goals, |other| other.what == goal.what) {
                Some(other) => all.goal(goal, other),
                None => all.only_before.push(format!("goal: {}", goal.what)),
            }
        }
        let is_new = |case: &&CaseResult| !before.cases.iter().any(|old| old.case == case.case);
        all.only_after.extend(after.cases.iter().filter(is_new).map(|case| case.case.name()));
        let is_new = |goal: &&Goal| !before.goals.iter().any(|old| old.what == goal.what);
        let goals = after.goals.iter().filter(is_new);
        all.only_after.extend(goals.map(|goal| format!("goal: {}", goal.what)));
        all
    }

    /// Is Lanecast worse beyond noise in anything? Peers and ceilings may be as slow as they like.
    #[must_use]
    pub fn has_regressed(&self) -> bool {
        let is_ours = |change: &&Change| matches!(change.role, None | Some(Role::Lanecast));
        self.changes.iter().filter(is_ours).any(|change| change.verdict == Verdict::Worse)
    }

    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.changes.iter().filter(|change| change.verdict == verdict).count()
    }

    fn case(&mut self, before: &CaseResult, after: &CaseResult) {
        let name = before.case.name();
        for old in &before.systems {
            let Some(new) = after.system(&old.system) else {
                self.only_before.push(format!("{name}: {}", old.system));
                continue;
            };
            if old.rounds.is_empty() != new.rounds.is_empty() {
                let (side, failed) = match old.rounds.is_empty() {
                    true => (&mut self.only_after, old),
                    false => (&mut self.only_before, new),
                };
                let why = failed.failure.as_deref().unwrap_or("not measured");
                side.push(format!("{name}: {} (the other side: {why})", old.system));
                continue;
            }
            for metric in Metric::ALL {
                let (old_values, new_values) =
                    (metric.values(before, old), metric.values(after, new));
                self.change(
                    &name,
                    Some(old),
                    metric.name(),
                    metric.better(),
                    old_values,
                    new_values,
                );
            }
        }
        let is_new = |new: &&SystemResult| before.system(&new.system).is_none();
        let new = after.systems.iter().filter(is_new);
        self.only_after.extend(new.map(|new| format!("{name}: {}", new.system)));
    }

    fn goal(&mut self, before: &Goal, after: &Goal) {
        let better = metric::better_for(before.bound);
        let (old, new) = (before.values.clone(), after.values.clone());
        self.change(&before.what, None, "goal", better, old, new);
    }

    fn change(
        &mut self,
        what: &str,
        system: Option<&SystemResult>,
        metric: &'static str,
        better: Better,
        mut old: Vec<f64>,
        mut new: Vec<f64>,
    ) {
        // 0 is what stands where nothing was measured, and has no ratio.
        let is_measured = |value: &f64| value.is_finite() && *value > 0.0;
        old.retain(is_measured);
        new.retain(is_measured);
        if old.is_empty() || new.is_empty() {
            return;
        }
        let (before, after) = (median(&old), median(&new));
        let ratio = after / before;
        let interval = rank::ratio_interval(&old, &new);
        let verdict = match interval {
            None => Verdict::TooFewRounds,
            Some(interval) => judge(ratio, interval, better, self.least_change),
        };
        self.changes.push(Change {
            what: what.to_owned(),
            system: system.map(|system| system.system.clone()),
            role: system.map(|system| system.role),
            metric,
            better,
            before,
            after,
            ratio,
            interval,
            rounds: (old.len(), new.len()),
            verdict,
        });
    }
}

fn find<T>(all: &[T], is_it: impl Fn(&T) -> bool) -> Option<&T> {
    all.iter().find(|one| is_it(one))
}

fn judge(ratio: f64, (low, high): (f64, f64), better: Better, least_change: f64) -> Verdict {
    let is_small = ratio > 1.0 / (1.0 + least_change) && ratio < 1.0 + least_change;
    if is_small || (low <= 1.0 && high >= 1.0) {
        return Verdict::WithinNoise;
    }
    match (better, low > 1.0) {
        (Better::More, true) | (Better::Less, false) => Verdict::Better,
        (Better::More, false) | (Better::Less, true) => Verdict::Worse,
    }
}

fn warnings(before: &Report, after: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut differ = |what: &str, old: String, new: String| {
        if old != new {
            warnings.push(format!("{what}: {old} before, {new} after"));
        }
    };
    let (old, new) = (&before.machine, &after.machine);
    differ("formats differ", before.format.to_string(), after.format.to_string());
    differ("processors differ", old.cpu.clone(), new.cpu.clone());
    differ("numbers of cores differ", old.cores.to_string(), new.cores.to_string());
    // Firmware and hypervisors take some megabytes more or less.
    let gib = |bytes: u64| format!("{} GiB", (bytes + (1 << 29)) >> 30);
    differ("memory differs", gib(old.memory_bytes), gib(new.memory_bytes));
    differ("kernels differ", old.kernel.clone(), new.kernel.clone());
    differ("file systems differ", old.file_system.clone(), new.file_system.clone());
    let control = |report: &Report| report.machine.congestion_control.clone();
    differ("TCP congestion control differs", control(before), control(after));
    if let (Some(old), Some(new)) = (&before.run, &after.run) {
        let time = |ns: u64| format::duration_ns(ns as f64);
        differ("warm-ups differ", time(old.warmup_ns), time(new.warmup_ns));
        differ("durations of a run differ", time(old.duration_ns), time(new.duration_ns));
    }
    warnings
}

#[cfg(test)]
mod tests;
