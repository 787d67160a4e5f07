//! What a record costs: CPU time by stage, all cases of a scenario.

use std::fmt::{Result, Write};

use super::bar;
use super::escape::Escaped;
use crate::report::CaseResult;
use crate::report::figures::{Figures, circumstances, small};

/// Shades of the style sheet for stages.
pub(super) const SHADES: usize = 6;

pub(super) fn table(cases: &[&CaseResult], out: &mut String) -> Result {
    let rows: Vec<(&CaseResult, &str, Figures)> = cases
        .iter()
        .flat_map(|case| case.systems.iter().map(move |system| (*case, system)))
        .filter_map(|(case, system)| Some((case, &*system.system, Figures::new(case, system)?)))
        .filter(|(_, _, figures)| figures.whole_cost_ns().is_some())
        .collect();
    let mut stages: Vec<&String> = Vec::new();
    for stage in rows.iter().flat_map(|(_, _, figures)| figures.cost_ns.keys()) {
        if !stages.contains(&stage) {
            stages.push(stage);
        }
    }
    if stages.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<div class=\"case\"><h3>CPU per record</h3>\n<div class=\"wide\"><table>\n<thead><tr>\
         <th scope=\"col\">case</th><th scope=\"col\">system</th><th scope=\"col\" class=\"n\">ns/record</th>\
         <th scope=\"col\" class=\"bars\">each case by itself</th><th scope=\"col\">stages, ns/record</th>\
         </tr></thead>\n<tbody>"
    )?;
    let mut last: Option<&CaseResult> = None;
    for (case, system, figures) in &rows {
        let is_new = last.is_none_or(|last| !std::ptr::eq(last, *case));
        last = Some(*case);
        let name = if is_new { circumstances(case) } else { String::new() };
        let whole = figures.whole_cost_ns().unwrap_or(0.0);
        let same = rows.iter().filter(|(other, _, _)| std::ptr::eq(*other, *case));
        let longest = same.filter_map(|(_, _, other)| other.whole_cost_ns()).fold(0.0, f64::max);
        write!(
            out,
            "<tr{}><td class=\"case-name\">{}</td><th scope=\"row\" class=\"case-name\">{}</th><td class=\"n strong\">{}</td><td class=\"bars\">",
            if is_new { " class=\"first\"" } else { "" },
            Escaped(&name),
            Escaped(system),
            small(whole)
        )?;
        let of = |stage: &&String| figures.cost_ns.get(*stage).copied();
        let parts: Vec<f64> = stages.iter().map(|stage| of(stage).unwrap_or(0.0)).collect();
        bar::parts(&parts, longest, &figures.cost_words(), out)?;
        write!(out, "</td><td>")?;
        for (number, stage) in stages.iter().enumerate() {
            let Some(ns) = of(stage) else { continue };
            let (shade, name, ns) = (number % SHADES, Escaped(stage), small(ns));
            write!(
                out,
                "<span class=\"stage\"><i class=\"swatch k{shade}\"></i>{name} {ns}</span> "
            )?;
        }
        write!(out, "</td>")?;
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</tbody>\n</table></div></div>")
}
