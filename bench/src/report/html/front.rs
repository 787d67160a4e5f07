//! What stands around the cases: title, failures, overview, circumstances, explanations.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use super::palette::Palette;
use super::{anchor, bar};
use crate::Role;
use crate::format::{duration_ns, rate};
use crate::report::figures::{self, Failed, Figures, small};
use crate::report::{CaseResult, Report, SystemResult, Unfinished, median, shell_word};

pub(super) fn header(report: &Report, out: &mut String) -> Result {
    let met = report.goals.iter().filter(|goal| goal.is_met()).count();
    let (goals, cases) = (report.goals.len(), report.cases.len());
    let failures = report.failures().len() + report.unfinished.len();
    writeln!(
        out,
        "<header>\n<h1>Lanecast bench</h1>\n<p class=\"lead\">How fast, how late, at what cost, and how far \
         from what this machine could do at most: version {}, {}.</p>\n<ul class=\"tiles\">",
        Escaped(&report.version),
        Escaped(&report.moment())
    )?;
    let mut tile = |class: &str, figure: String, what: &str| {
        writeln!(out, "<li class=\"{class}\"><b>{figure}</b> {what}</li>")
    };
    if goals > 0 {
        tile(if met == goals { "good" } else { "bad" }, format!("{met} / {goals}"), "goals met")?;
    }
    tile("", cases.to_string(), if cases == 1 { "case" } else { "cases" })?;
    if let Some(run) = &report.run {
        let rounds = run.rounds;
        tile("", rounds.to_string(), if rounds == 1 { "round of each" } else { "rounds of each" })?;
    }
    if failures > 0 {
        tile("bad", failures.to_string(), if failures == 1 { "failure" } else { "failures" })?;
    }
    writeln!(out, "</ul>\n</header>")
}

pub(super) fn failures(report: &Report, out: &mut String) -> Result {
    let failures = report.failures();
    if failures.is_empty() && report.unfinished.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section aria-labelledby=\"failures\">\n<h2 id=\"failures\">Failures</h2>\n<div class=\"wide\"><table>\n\
         <thead><tr><th scope=\"col\">system</th><th scope=\"col\">why</th><th scope=\"col\">cases</th></tr>\
         </thead>\n<tbody>"
    )?;
    for Unfinished { scenario, why } in &report.unfinished {
        let (scenario, why) = (Escaped(scenario), Escaped(why));
        writeln!(
            out,
            "<tr><th scope=\"row\" class=\"fixed\">{scenario}</th><td>{why}</td><td>the scenario is incomplete</td></tr>"
        )?;
    }
    let mut rest = &failures[..];
    while let [first, ..] = rest {
        // What fails in one case fails in the next.
        let is_same =
            |one: &&Failed<'_>| one.why == first.why && one.system.system == first.system.system;
        let same = rest.iter().take_while(is_same).count();
        let (group, others) = rest.split_at(same);
        rest = others;
        let (name, why) = (Escaped(&first.system.system), Escaped(first.why));
        write!(
            out,
            "<tr><th scope=\"row\" class=\"fixed\">{name}</th><td>{why}</td><td class=\"fixed\">"
        )?;
        for failed in group {
            let (number, case) = (anchor(report, failed.case), failed.case.case.name());
            write!(out, "<a href=\"#case-{number}\">{}</a><br>", Escaped(&case))?;
        }
        writeln!(out, "</td></tr>")?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

/// One row per case: Lanecast, its share of the ceiling, and the fastest peer.
pub(super) fn overview(report: &Report, out: &mut String) -> Result {
    if report.cases.is_empty() {
        return writeln!(out, "<p>No case was measured.</p>");
    }
    writeln!(
        out,
        "<section aria-labelledby=\"overview\">\n<h2 id=\"overview\">Overview</h2>\n<div class=\"wide\"><table>\n\
         <thead><tr><th scope=\"col\">case</th><th scope=\"col\" class=\"n\">Lanecast, records/s</th>\
         <th scope=\"col\" class=\"n\">of the ceiling</th><th scope=\"col\" class=\"share\"></th>\
         <th scope=\"col\" class=\"n\">p50</th><th scope=\"col\" class=\"n\">p99</th>\
         <th scope=\"col\">fastest peer, records/s</th>\
         <th scope=\"col\" class=\"n\">Lanecast over it</th></tr></thead>"
    )?;
    for (scenario, cases) in report.scenarios() {
        writeln!(
            out,
            "<tbody>\n<tr class=\"group\"><th colspan=\"8\" scope=\"rowgroup\">{}</th></tr>",
            Escaped(scenario)
        )?;
        cases.iter().try_for_each(|case| overview_row(report, case, out))?;
        writeln!(out, "</tbody>")?;
    }
    writeln!(
        out,
        "</table></div>\n<p class=\"again\">Of the ceiling: bytes per second over what the machine does with nothing \
         in between. Peers do not all promise the same: see \
         <a href=\"#meanings\">what an acknowledgement means</a>.</p>\n</section>"
    )
}

fn overview_row(report: &Report, case: &CaseResult, out: &mut String) -> Result {
    write!(
        out,
        "<tr><th scope=\"row\" class=\"case-name\"><a href=\"#case-{}\">{}</a></th>",
        anchor(report, case),
        Escaped(&figures::circumstances(case))
    )?;
    let ours = case.systems.iter().find(|system| system.role == Role::Lanecast);
    let Some((ours, figures)) = ours.and_then(|ours| Some((ours, Figures::new(case, ours)?)))
    else {
        return writeln!(out, "<td colspan=\"7\" class=\"failed\">not measured</td></tr>");
    };
    let time = |ns: Option<f64>| ns.map(duration_ns).unwrap_or_default();
    write!(
        out,
        "<td class=\"n strong\">{}</td><td class=\"n\">{}</td><td>",
        rate(figures.records_per_second),
        figures.share.map(small).unwrap_or_default()
    )?;
    if let Some(share) = figures.share {
        bar::share(share, out)?;
    }
    let (p50, p99) = (time(figures.p50_ns), time(figures.p99_ns));
    write!(out, "</td><td class=\"n\">{p50}</td><td class=\"n\">{p99}</td>")?;
    let speed = |peer: &SystemResult| peer.median(|round| round.records_per_second);
    let peers =
        case.systems.iter().filter(|peer| peer.role == Role::Peer && !peer.rounds.is_empty());
    let Some(peer) = peers.max_by(|one, other| speed(one).total_cmp(&speed(other))) else {
        return writeln!(out, "<td></td><td></td></tr>");
    };
    let ratios = case.ratios(&ours.system, &peer.system, |round| round.records_per_second);
    let ratio =
        if ratios.is_empty() { String::new() } else { format!("{} x", small(median(&ratios))) };
    let (name, speed) = (Escaped(&peer.system), rate(speed(peer)));
    writeln!(out, "<td class=\"fixed\">{name} {speed}</td><td class=\"n\">{ratio}</td></tr>")
}

pub(super) fn circumstances(report: &Report, out: &mut String) -> Result {
    let machine = &report.machine;
    writeln!(
        out,
        "<section aria-labelledby=\"machine\">\n<h2 id=\"machine\">Machine and settings</h2>\n<dl class=\"facts\">"
    )?;
    let mut fact = |what: &str, value: String| {
        writeln!(out, "<div><dt>{what}</dt><dd>{}</dd></div>", Escaped(&value))
    };
    fact("Processor", machine.cpu.clone())?;
    fact("Cores", machine.cores.to_string())?;
    fact("Memory", format!("{:.1} GiB", machine.memory_bytes as f64 / f64::from(1 << 30)))?;
    fact("File system", machine.file_system.clone())?;
    fact("Kernel", format!("Linux {}", machine.kernel))?;
    fact("TCP congestion control", machine.congestion_controls())?;
    fact("Load before it began", machine.load.clone())?;
    if let Some(run) = &report.run {
        fact("Rounds", run.rounds.to_string())?;
        let time = |ns: u64| duration_ns(ns as f64);
        fact(
            "Each run",
            format!("{} after {} of warm-up", time(run.duration_ns), time(run.warmup_ns)),
        )?;
    }
    writeln!(out, "</dl>")?;
    if let Some(warning) = machine.warning() {
        writeln!(out, "<p class=\"failed\">Mind that {}.</p>", Escaped(&warning))?;
    }
    if let Some(run) = report.run.as_ref().filter(|_| !report.cases.is_empty()) {
        let scenarios: Vec<&str> = report.scenarios().iter().map(|(name, _)| *name).collect();
        let words = format!("{} {}", shell_word(&scenarios.join(",")), run.options);
        let words = Escaped(words.trim_end());
        writeln!(
            out,
            "<p>These scenarios again: <code class=\"command\">lanecast bench run {words}</code></p>"
        )?;
    }
    writeln!(out, "</section>")
}

pub(super) fn acknowledgements(report: &Report, palette: &Palette, out: &mut String) -> Result {
    if report.cases.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section aria-labelledby=\"meanings\">\n<h2 id=\"meanings\">What an acknowledgement means</h2>\n\
         <div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">system</th>\
         <th scope=\"col\">what is acknowledged is</th></tr></thead>\n<tbody>"
    )?;
    for (name, meanings) in report.acknowledgements() {
        let roles = report.cases.iter().flat_map(|case| &case.systems);
        let role = roles.filter(|one| one.system == name).map(|one| one.role).next();
        let class = palette.class(name, role.unwrap_or(Role::Peer));
        writeln!(
            out,
            "<tr><th scope=\"row\"><i class=\"swatch {class}\"></i>{}</th><td>{}</td></tr>",
            Escaped(name),
            Escaped(&meanings.join("; or "))
        )?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

pub(super) fn how_to_read(out: &mut String) -> Result {
    writeln!(out, "{}", include_str!("how_to_read.html").trim_end())
}
