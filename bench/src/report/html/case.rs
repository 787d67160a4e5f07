//! One case: its systems as a table with bars, latency curves, and the command that repeats it.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use super::palette::{Palette, role};
use super::{anchor, bar, curve, memory};
use crate::Role;
use crate::format::{duration_ns, rate};
use crate::report::figures::{self, Figures, small};
use crate::report::{CaseResult, Report, SystemResult};

pub(super) fn card(
    report: &Report,
    case: &CaseResult,
    palette: &Palette,
    out: &mut String,
) -> Result {
    let number = anchor(report, case);
    writeln!(
        out,
        "<article class=\"case\" id=\"case-{number}\" aria-labelledby=\"name-{number}\">\n\
         <h3 id=\"name-{number}\">{}</h3>\n<p class=\"circumstances\">",
        Escaped(&figures::circumstances(case))
    )?;
    for (name, value) in &case.case.circumstances {
        writeln!(out, "<span><i>{}</i> {}</span>", Escaped(name), Escaped(value))?;
    }
    writeln!(out, "</p>")?;
    table(case, palette, out)?;
    let beside = out.len();
    writeln!(out, "<div class=\"beside\">")?;
    if curve::figure(case, number, palette, out)? {
        legend(case, palette, out)?;
        writeln!(out, "</div>")?;
    } else {
        out.truncate(beside);
    }
    memory::figure(case, number, palette, out)?;
    let command = report.command(&case.case);
    writeln!(
        out,
        "<p class=\"again\">Again: <code class=\"command\">{}</code></p>\n</article>",
        Escaped(&command)
    )
}

fn table(case: &CaseResult, palette: &Palette, out: &mut String) -> Result {
    writeln!(
        out,
        "<div class=\"wide\"><table class=\"systems\">\n<thead><tr><th scope=\"col\">system</th>\
         <th scope=\"col\" class=\"n\">records/s</th><th scope=\"col\" class=\"bars\">{}</th>\
         <th scope=\"col\" class=\"n\">MB/s</th><th scope=\"col\" class=\"n\">of the ceiling</th>\
         <th scope=\"col\" class=\"n\">p50</th><th scope=\"col\" class=\"n\">p99</th>\
         <th scope=\"col\" class=\"n\">p99.9</th><th scope=\"col\" class=\"n\">longest</th>\
         <th scope=\"col\" class=\"n\">CPU ns/record</th>\
         <th scope=\"col\">acknowledged means</th></tr></thead>\n<tbody>",
        match case.ceiling() {
            Some(_) => "the mark is the ceiling",
            None => "no ceiling was measured",
        }
    )?;
    let all: Vec<Option<Figures>> =
        case.systems.iter().map(|system| Figures::new(case, system)).collect();
    let fastest = all.iter().flatten().map(|figures| figures.fastest).fold(0.0, f64::max);
    let ceiling = case.ceiling().and_then(|ceiling| Figures::new(case, ceiling));
    let ceiling = ceiling.map(|figures| figures.records_per_second);
    for (system, figures) in case.systems.iter().zip(&all) {
        let class = palette.class(&system.system, system.role);
        write!(
            out,
            "<tr class=\"{}\"><th scope=\"row\"><i class=\"swatch {class}\"></i>{}</th>",
            if system.role == Role::Lanecast { "ours" } else { "" },
            Escaped(&system.system)
        )?;
        match figures {
            Some(figures) => row(system, figures, &class, ceiling, fastest * 1.01, out)?,
            None => {
                let why = system.failure.as_deref().unwrap_or("not measured");
                write!(out, "<td colspan=\"9\" class=\"failed\">failed: {}</td>", Escaped(why))?;
            }
        }
        writeln!(out, "<td class=\"meaning\">{}</td></tr>", Escaped(&system.acknowledges))?;
    }
    writeln!(out, "</tbody>\n</table></div>")
}

fn row(
    system: &SystemResult,
    figures: &Figures,
    class: &str,
    ceiling: Option<f64>,
    longest: f64,
    out: &mut String,
) -> Result {
    let records = rate(figures.records_per_second);
    write!(out, "<td class=\"n strong\">{records}</td><td class=\"bars\">")?;
    let (slowest, fastest) = (rate(figures.slowest), rate(figures.fastest));
    let name = &system.system;
    let label = format!("{name}: {records} records/s, rounds from {slowest} to {fastest}");
    bar::throughput(class, &label, figures, ceiling, longest, out)?;
    if let Some(why) = &system.failure {
        let rounds = system.rounds.len();
        write!(
            out,
            "<span class=\"failed\">failed after {rounds} rounds: {}</span>",
            Escaped(why)
        )?;
    }
    let share = figures.share.map(small).unwrap_or_default();
    write!(out, "</td><td class=\"n\">{:.1}</td>", figures.megabytes_per_second)?;
    write!(out, "<td class=\"n\">{share}</td>")?;
    let latencies = [
        (figures.p50_ns, figures.p50_over),
        (figures.p99_ns, figures.p99_over),
        (figures.p999_ns, None),
        (figures.max_ns, None),
    ];
    for (ns, over) in latencies {
        write!(out, "<td class=\"n\">{}", ns.map(duration_ns).unwrap_or_default())?;
        if let Some(over) = over {
            write!(out, "<small class=\"over\">{over}</small>")?;
        }
        write!(out, "</td>")?;
    }
    let cost = figures.whole_cost_ns().map(small).unwrap_or_default();
    write!(out, "<td class=\"n\">{cost}</td>")
}

/// The systems that have a curve, in the order of the curves: the page's script counts on it.
fn legend(case: &CaseResult, palette: &Palette, out: &mut String) -> Result {
    writeln!(out, "<ul class=\"legend\" aria-label=\"Curves\">")?;
    for system in case.systems.iter().filter(|system| curve::is_drawn(system)) {
        let class = palette.class(&system.system, system.role);
        writeln!(
            out,
            "<li><svg class=\"line {class}\" width=\"34\" height=\"10\" aria-hidden=\"true\">\
             <polyline points=\"1,5 33,5\"/></svg>\
             <span>{} <small>{}</small><output></output></span></li>",
            Escaped(&system.system),
            role(system.role)
        )?;
    }
    writeln!(out, "</ul>")
}
