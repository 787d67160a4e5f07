//! The report as one page that needs nothing else: styles, charts and script are part of it.
//!
//! Charts are SVG. A throughput bar stands in the row of its figures; a latency curve has them in the
//! table above it; so whoever cannot see a chart misses no figure. The page needs no script: with one,
//! curves can be read off under the pointer.

mod bar;
mod case;
mod cost;
mod curve;
mod escape;
mod front;
mod goals;
mod memory;
mod palette;
mod scale;

use std::fmt::{Result, Write};

use super::Report;
use escape::Escaped;
use palette::Palette;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The whole page.
#[must_use]
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = page(report, &mut out);
    out
}

fn page(report: &Report, out: &mut String) -> Result {
    let palette = Palette::new(report);
    let moment = report.moment();
    let started = Escaped(&moment);
    writeln!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Lanecast bench, {started}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>"
    )?;
    front::header(report, out)?;
    goals::section(report, out)?;
    front::failures(report, out)?;
    front::overview(report, out)?;
    front::circumstances(report, out)?;
    for (number, (scenario, cases)) in report.scenarios().into_iter().enumerate() {
        writeln!(
            out,
            "<section aria-labelledby=\"scenario-{number}\">\n<h2 id=\"scenario-{number}\">{}</h2>",
            Escaped(scenario)
        )?;
        cases.iter().try_for_each(|one| case::card(report, one, &palette, out))?;
        cost::table(&cases, out)?;
        writeln!(out, "</section>")?;
    }
    front::acknowledgements(report, &palette, out)?;
    front::how_to_read(out)?;
    writeln!(out, "</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>")
}

/// The place of a case in its page: cases are told apart by where they stand.
fn anchor(report: &Report, case: &super::CaseResult) -> usize {
    report.cases.iter().position(|one| std::ptr::eq(one, case)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
