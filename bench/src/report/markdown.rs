//! The report as Markdown: the machine, a table per scenario, the goals.

use std::fmt::Write;

use super::{CaseResult, Goal, Report, Round, SystemResult, median};
use crate::format::{duration_ns, rate};

/// The whole report.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Lanecast {}, {}, {}\n", report.version, report.started, report.machine)?;
    let mut scenario = None;
    for case in &report.cases {
        if scenario != Some(&case.case.scenario) {
            scenario = Some(&case.case.scenario);
            writeln!(out, "### {}\n", case.case.scenario)?;
            writeln!(
                out,
                "| case | system | records/s | MB/s | of the ceiling | p50 | p99 | p99.9 | CPU ns/record \
                 | acknowledged means |\n|---|---|---|---|---|---|---|---|---|---|"
            )?;
        }
        rows(case, out)?;
    }
    if !report.goals.is_empty() {
        writeln!(out, "\n### goals\n")?;
        writeln!(out, "| goal | bound | median | spread | rounds | |\n|---|---|---|---|---|---|")?;
        for goal in &report.goals {
            goal_row(goal, out)?;
        }
    }
    Ok(())
}

fn rows(case: &CaseResult, out: &mut String) -> std::fmt::Result {
    let values: Vec<&str> = case.case.circumstances.iter().map(|(_, value)| &**value).collect();
    for (index, system) in case.systems.iter().enumerate() {
        let name = if index == 0 { values.join(", ") } else { String::new() };
        row(case, system, &name, out)?;
    }
    Ok(())
}

fn row(case: &CaseResult, system: &SystemResult, name: &str, out: &mut String) -> std::fmt::Result {
    write!(out, "| {name} | {} ", system.system)?;
    if system.rounds.is_empty() {
        let why = system.failure.as_deref().unwrap_or("not measured");
        return writeln!(out, "| {why} | | | | | | | {} |", system.acknowledges);
    }
    let records = system.median(|round| round.records_per_second);
    let megabytes = system.median(|round| round.bytes_per_second) / 1e6;
    write!(out, "| {} | {megabytes:.1} ", rate(records))?;
    let share = case.ceiling().filter(|ceiling| ceiling.system != system.system).map(|ceiling| {
        median(&case.ratios(&system.system, &ceiling.system, |round| round.bytes_per_second))
    });
    match share {
        Some(share) => write!(out, "| {share:.2} ")?,
        None => write!(out, "| ")?,
    }
    let percentiles: [fn(&Round) -> u64; 3] =
        [|round| round.p50_ns, |round| round.p99_ns, |round| round.p999_ns];
    for of in percentiles {
        match system.median(|round| of(round) as f64) {
            0.0 => write!(out, "| ")?,
            ns => write!(out, "| {} ", duration_ns(ns))?,
        }
    }
    let stages = system.rounds.iter().flat_map(|round| round.cpu_ns_per_record.keys());
    let stages: std::collections::BTreeSet<&String> = stages.collect();
    let costs: Vec<String> = stages
        .into_iter()
        .map(|stage| {
            let ns =
                system.median(|round| round.cpu_ns_per_record.get(stage).copied().unwrap_or(0.0));
            format!("{stage} {ns:.0}")
        })
        .collect();
    writeln!(out, "| {} | {} |", costs.join(", "), system.acknowledges)
}

fn goal_row(goal: &Goal, out: &mut String) -> std::fmt::Result {
    let (smallest, largest) = goal.spread();
    let verdict = match (goal.values.is_empty(), goal.is_met()) {
        (true, _) => "not measured",
        (false, true) => "met",
        (false, false) => "**missed**",
    };
    let Goal { what, bound, values } = goal;
    if values.is_empty() {
        return writeln!(out, "| {what} | {bound} | | | 0 | {verdict} |");
    }
    let median = goal.median();
    let rounds = values.len();
    writeln!(
        out,
        "| {what} | {bound} | {median:.2} | {smallest:.2} to {largest:.2} | {rounds} | {verdict} |"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::report::tests::result;
    use crate::report::{Bound, FORMAT};
    use crate::{Case, Role};

    #[test]
    fn every_system_has_its_share_of_the_ceiling_and_every_goal_its_verdict() {
        let case = CaseResult {
            case: Case::new("publish", &[("durability", "memory"), ("records", "512 x 128 B")]),
            systems: vec![
                result("relay", Role::Ceiling, &[2e6, 2e6]),
                result("lanecast", Role::Lanecast, &[1e6, 1e6]),
                SystemResult {
                    failure: Some("redis-server is not installed".to_owned()),
                    ..result("redis", Role::Peer, &[])
                },
            ],
        };
        let goal = Goal { what: "a".to_owned(), bound: Bound::AtLeast(0.9), values: vec![0.5] };
        let report = Report {
            format: FORMAT,
            version: "1".to_owned(),
            started: "now".to_owned(),
            machine: Machine::default(),
            cases: vec![case],
            goals: vec![goal],
        };
        let text = markdown(&report);
        assert!(text.contains("| memory, 512 x 128 B | relay | 2.00 M |"), "{text}");
        assert!(text.contains("| lanecast | 1.00 M | 100.0 | 0.50 |"), "{text}");
        assert!(text.contains("redis-server is not installed"), "{text}");
        assert!(
            text.contains("| a | at least 0.9 | 0.50 | 0.50 to 0.50 | 1 | **missed** |"),
            "{text}"
        );
    }
}
