//! The report as Markdown, to be embedded in a page: goals, a table per scenario, what
//! acknowledgements mean, failures.

use std::fmt::{Result, Write};

use super::figures::{Figures, Over, circumstances, small};
use super::{CaseResult, Goal, Report, SystemResult, Unfinished};
use crate::format::{duration_ns, rate};

/// The whole report.
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(report, &mut out);
    out
}

fn write(report: &Report, out: &mut String) -> Result {
    let (version, started) = (cell(&report.version), cell(&report.moment()));
    writeln!(out, "Lanecast {version}, {started}, on {}.", cell(&report.machine.to_string()))?;
    if let Some(warning) = report.machine.warning() {
        writeln!(out, "Mind that {}.", cell(&warning))?;
    }
    if let Some(run) = &report.run {
        let (warmup, duration) = (run.warmup_ns as f64, run.duration_ns as f64);
        let (warmup, duration) = (duration_ns(warmup), duration_ns(duration));
        let rounds = run.rounds;
        writeln!(out, "Medians of {rounds} rounds of {duration} after {warmup} of warm-up.")?;
    }
    if !report.goals.is_empty() {
        writeln!(out, "\n| goal | bound | median | rounds | |\n|---|---|--:|---|---|")?;
        report.goals.iter().try_for_each(|goal| goal_row(goal, out))?;
    }
    for (scenario, cases) in report.scenarios() {
        writeln!(
            out,
            "\n#### {}\n\n| case | system | records/s | MB/s | of the ceiling | p50 | p99 | CPU ns/record |\n\
             |---|---|--:|--:|--:|--:|--:|---|",
            cell(scenario)
        )?;
        cases.iter().try_for_each(|case| rows(case, out))?;
    }
    if !report.cases.is_empty() {
        writeln!(
            out,
            "\nBehind p50 and p99, where all have the same load: how many times the ceiling's, and from the \
             smallest to the largest of a round."
        )?;
        writeln!(out, "\nWhat an acknowledgement means:\n")?;
    }
    for (system, meanings) in report.acknowledgements() {
        writeln!(out, "- {}: {}", cell(system), cell(&meanings.join("; or ")))?;
    }
    let failures = report.failures();
    if !failures.is_empty() || !report.unfinished.is_empty() {
        writeln!(out, "\nFailures:\n")?;
    }
    for Unfinished { scenario, why } in &report.unfinished {
        writeln!(out, "- {} is incomplete: {}", cell(scenario), cell(why))?;
    }
    for failed in failures {
        let (case, system) = (failed.case.case.name(), &failed.system.system);
        writeln!(out, "- {}, {}: {}", cell(&case), cell(system), cell(failed.why))?;
    }
    Ok(())
}

fn rows(case: &CaseResult, out: &mut String) -> Result {
    for (index, system) in case.systems.iter().enumerate() {
        let name = if index == 0 { circumstances(case) } else { String::new() };
        row(case, system, &cell(&name), out)?;
    }
    Ok(())
}

fn row(case: &CaseResult, system: &SystemResult, name: &str, out: &mut String) -> Result {
    write!(out, "| {name} | {} ", cell(&system.system))?;
    let Some(figures) = Figures::new(case, system) else {
        return writeln!(out, "| failed | | | | | |");
    };
    let (records, megabytes) = (rate(figures.records_per_second), figures.megabytes_per_second);
    let share = figures.share.map(small).unwrap_or_default();
    let time = |ns: Option<f64>| ns.map(duration_ns).unwrap_or_default();
    let over = |over: Option<Over>| over.map(|over| format!(" ({over})")).unwrap_or_default();
    let p50 = time(figures.p50_ns) + &over(figures.p50_over);
    let p99 = time(figures.p99_ns) + &over(figures.p99_over);
    let cost = cell(&figures.cost_words());
    writeln!(out, "| {records} | {megabytes:.1} | {share} | {p50} | {p99} | {cost} |")
}

fn goal_row(goal: &Goal, out: &mut String) -> Result {
    let (what, bound) = (cell(&goal.what), goal.bound);
    let verdict = match goal.is_met() {
        true => goal.verdict().to_owned(),
        false => format!("**{}**", goal.verdict()),
    };
    if goal.values.is_empty() {
        return writeln!(out, "| {what} | {bound} | | none | {verdict} |");
    }
    let ((low, high), rounds) = (goal.spread(), goal.values.len());
    let (median, low, high) = (small(goal.median()), small(low), small(high));
    writeln!(out, "| {what} | {bound} | {median} | {rounds}, {low} to {high} | {verdict} |")
}

/// Text that stays in its cell and means nothing to a reader of Markdown.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '<' | '>' | '*' | '_' | '`' | '[' | ']' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::awkward;

    #[test]
    fn every_system_has_its_share_of_the_ceiling_and_every_goal_its_verdict() {
        let text = markdown(&awkward());
        assert!(text.contains("| memory, 512 x 128 B | relay | 2.00 M |"), "{text}");
        assert!(text.contains("|  | lanecast | 1.00 M | 100.0 | 0.50 |"), "{text}");
        assert!(text.contains("at least 0.9 | 0.50 | 1, 0.50 to 0.50 | **missed** |"), "{text}");
        assert!(text.contains("| at most 2 | | none | **not measured** |"), "{text}");
    }

    #[test]
    fn names_do_not_break_a_table() {
        let text = markdown(&awkward());
        assert!(text.contains(r"| redis \<script\> & co | failed |"), "{text}");
        assert!(text.contains(r"redis \<script\> & co: it's \| not"), "{text}");
        assert!(text.contains(r"- pipe & line is incomplete: no \<library\>"), "{text}");
        let columns = |line: &str| line.replace("\\|", "").matches('|').count();
        let tables: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert!(tables.iter().all(|line| [6, 9].contains(&columns(line))), "{text}");
    }
}
