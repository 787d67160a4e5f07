//! The report for a terminal.

use super::figures::{Figures, circumstances, small};
use super::{CaseResult, Report, SystemResult, Unfinished};
use crate::format::{Column, columns, duration_ns, rate};

/// Goals first, then every case.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = format!("Lanecast {}, {}\n{}\n", report.version, report.moment(), report.machine);
    if !report.goals.is_empty() {
        out.push_str("\ngoals\n");
        out.push_str(&goals(report));
    }
    for Unfinished { scenario, why } in &report.unfinished {
        out.push_str(&format!("\n{scenario} is incomplete: {}\n", one_line(why)));
    }
    for (scenario, cases) in report.scenarios() {
        for case in cases {
            out.push_str(&format!("\n{scenario}: {}\n", circumstances(case)));
            let rows: Vec<Vec<String>> =
                case.systems.iter().map(|system| row(case, system)).collect();
            let head = [
                ("SYSTEM", Column::Left),
                ("RECORDS/S", Column::Right),
                ("MB/S", Column::Right),
                ("OF CEILING", Column::Right),
                ("P50", Column::Right),
                ("P99", Column::Right),
                ("P99.9", Column::Right),
                ("CPU NS/RECORD", Column::Left),
            ];
            out.push_str(&columns(&head, &rows, 2));
            case.systems.iter().filter_map(|system| late(case, system)).for_each(|line| {
                out.push_str(&line);
            });
            let failed =
                case.systems.iter().filter_map(|of| Some((&of.system, of.failure.as_ref()?)));
            failed.for_each(|(system, why)| {
                out.push_str(&format!("  {system} failed: {}\n", one_line(why)))
            });
        }
    }
    out
}

fn goals(report: &Report) -> String {
    let head = [
        ("", Column::Left),
        ("MEDIAN", Column::Right),
        ("BOUND", Column::Left),
        ("ROUNDS", Column::Left),
        ("GOAL", Column::Left),
    ];
    let row = |goal: &super::Goal| {
        let (low, high) = goal.spread();
        let median = if goal.values.is_empty() { String::new() } else { small(goal.median()) };
        let spread = match goal.values.len() {
            0 => "none".to_owned(),
            rounds => format!("{rounds}, {} to {}", small(low), small(high)),
        };
        let verdict = goal.verdict().to_owned();
        vec![verdict, median, goal.bound.to_string(), spread, goal.what.clone()]
    };
    let rows: Vec<Vec<String>> = report.goals.iter().map(row).collect();
    columns(&head, &rows, 2)
}

fn row(case: &CaseResult, system: &SystemResult) -> Vec<String> {
    let name = system.system.clone();
    let Some(figures) = Figures::new(case, system) else {
        let mut cells = vec![String::new(); 8];
        (cells[0], cells[1]) = (name, "failed".to_owned());
        return cells;
    };
    let time = |ns: Option<f64>| ns.map(duration_ns).unwrap_or_default();
    vec![
        name,
        rate(figures.records_per_second),
        format!("{:.1}", figures.megabytes_per_second),
        figures.share.map(small).unwrap_or_default(),
        time(figures.p50_ns),
        time(figures.p99_ns),
        time(figures.p999_ns),
        figures.cost_words(),
    ]
}

/// How late, over the ceiling; where that can be compared.
fn late(case: &CaseResult, system: &SystemResult) -> Option<String> {
    let (figures, ceiling) = (Figures::new(case, system)?, &case.ceiling()?.system);
    let (p50, p99) = (figures.p50_over?, figures.p99_over?);
    Some(format!("  {} over {ceiling}: p50 {p50}; p99 {p99}\n", system.system))
}

/// What programs say may have lines.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::awkward;

    #[test]
    fn every_system_and_every_failure_has_a_line() {
        let text = text(&awkward());
        assert!(text.contains("missed          0.50  at least 0.9  1, 0.50 to 0.50"), "{text}");
        assert!(text.contains("pipe & line is incomplete: no <library>\n"), "{text}");
        assert!(text.contains("redis <script> & co failed: it's | not \"installed\""), "{text}");
        assert!(text.contains("lanecast"), "{text}");
    }
}
