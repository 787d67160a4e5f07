//! The goals: what was wanted, what came out, round by round.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use crate::report::figures::small;
use crate::report::{Bound, Goal, Report};

pub(super) fn section(report: &Report, out: &mut String) -> Result {
    if report.goals.is_empty() {
        return Ok(());
    }
    let met = report.goals.iter().filter(|goal| goal.is_met()).count();
    writeln!(
        out,
        "<section aria-labelledby=\"goals\">\n<h2 id=\"goals\">Goals <span class=\"tally\">{met} of {} met</span></h2>\n\
         <div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">verdict</th><th scope=\"col\">goal</th>\
         <th scope=\"col\">bound</th><th scope=\"col\" class=\"n\">median</th>\
         <th scope=\"col\" class=\"strip\">rounds; the line is the bound</th>\
         <th scope=\"col\" class=\"n\">spread</th></tr></thead>\n<tbody>",
        report.goals.len()
    )?;
    report.goals.iter().try_for_each(|goal| row(goal, out))?;
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

fn row(goal: &Goal, out: &mut String) -> Result {
    let (class, sign) = match (goal.values.is_empty(), goal.is_met()) {
        (true, _) => ("none", "–"),
        (false, true) => ("good", "✓"),
        (false, false) => ("bad", "✗"),
    };
    write!(
        out,
        "<tr><td><span class=\"verdict {class}\"><span aria-hidden=\"true\">{sign}</span> {}</span></td>\
         <th scope=\"row\">{}</th><td class=\"fixed\">{}</td>",
        goal.verdict(),
        Escaped(&goal.what),
        goal.bound
    )?;
    if goal.values.is_empty() {
        return writeln!(out, "<td></td><td></td><td></td></tr>");
    }
    let (low, high) = goal.spread();
    write!(out, "<td class=\"n strong\">{}</td><td>", small(goal.median()))?;
    strip(goal, out)?;
    writeln!(out, "</td><td class=\"n fixed\">{} to {}</td></tr>", small(low), small(high))
}

/// Every round as a dot, with the bound and the side of it on which the goal is met.
fn strip(goal: &Goal, out: &mut String) -> Result {
    let (bound, is_least) = match goal.bound {
        Bound::AtLeast(bound) => (bound, true),
        Bound::AtMost(bound) => (bound, false),
    };
    let (low, high) = goal.spread();
    let (low, high) = (low.min(bound), high.max(bound));
    // Equal values have a strip too.
    let room = ((high - low) * 0.12).max(high.abs() * 0.02).max(f64::MIN_POSITIVE);
    let (low, high) = (low - room, high + room);
    let at = |value: f64| 2.0 + ((value - low) / (high - low)).clamp(0.0, 1.0) * 196.0;
    let values: Vec<String> = goal.values.iter().map(|value| small(*value)).collect();
    let bound = at(bound);
    let (from, width) = if is_least { (bound, 198.0 - bound) } else { (2.0, bound - 2.0) };
    write!(
        out,
        "<svg class=\"strip\" viewBox=\"0 0 200 22\" role=\"img\" aria-label=\"Rounds: {}\">\
         <line class=\"base\" x1=\"2\" x2=\"198\" y1=\"11\" y2=\"11\"/>\
         <rect class=\"wanted\" x=\"{from:.1}\" width=\"{width:.1}\" y=\"3\" height=\"16\"/>\
         <line class=\"bound\" x1=\"{bound:.1}\" x2=\"{bound:.1}\" y1=\"1\" y2=\"21\"/>",
        values.join(", ")
    )?;
    for value in &goal.values {
        let (class, x) = (if goal.bound.holds(*value) { "good" } else { "bad" }, at(*value));
        write!(
            out,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"11\" r=\"4\"><title>{}</title></circle>",
            small(*value)
        )?;
    }
    write!(out, "</svg>")
}
