//! Latency by percentile, as HdrHistogram's plots show it: along the axis each further nine takes as much
//! room as the one before, so that the tail is as visible as the middle.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use super::palette::Palette;
use super::scale::{Times, nines, nines_label, tick_label};
use crate::format::duration_ns;
use crate::report::{CaseResult, SystemResult};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
/// Of the plot within the drawing.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 704.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 254.0;

/// Room for the largest latency, which has no end of nines, behind the last finite percentile.
const LAST_STEP_NINES: f64 = 0.06;

/// Percentiles that have a dot of their own.
const DOTS: [(f64, &str); 4] = [(50.0, "p50"), (90.0, "p90"), (99.0, "p99"), (99.9, "p99.9")];

/// A drawing of all systems' curves. `false`: there is nothing to draw.
pub(super) fn figure(
    case: &CaseResult,
    number: usize,
    palette: &Palette,
    out: &mut String,
) -> std::result::Result<bool, std::fmt::Error> {
    let drawn: Vec<(&SystemResult, Vec<Point>)> =
        case.systems.iter().map(|system| (system, points(system))).collect();
    let all = || drawn.iter().flat_map(|(_, points)| points);
    let Some(times) = Times::around(all().map(|point| point.ns)) else {
        return Ok(false);
    };
    let nines_max = all().map(|point| point.nines).fold(2.0, f64::max);
    let plot = Plot { times, nines_max };
    let (low, high) = (plot.times.low_log(), plot.times.high_log());
    writeln!(
        out,
        "<figure class=\"curve\">\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"t{number} d{number}\" data-plot=\"{LEFT} {RIGHT} {TOP} {BOTTOM} {nines_max:.4} \
         {low:.4} {high:.4}\">\n<title id=\"t{number}\">Latency by percentile, {}</title>\n\
         <desc id=\"d{number}\">{}</desc>",
        Escaped(&case.case.name()),
        Escaped(&description(case))
    )?;
    plot.axes(out)?;
    for (system, points) in drawn.iter().filter(|(_, points)| !points.is_empty()) {
        plot.line(system, points, &palette.class(&system.system, system.role), out)?;
    }
    writeln!(out, "</svg>\n</figure>")?;
    Ok(true)
}

/// Has it latencies to be drawn?
pub(super) fn is_drawn(system: &SystemResult) -> bool {
    !points(system).is_empty()
}

#[derive(Clone, Copy)]
struct Point {
    nines: f64,
    ns: u64,
}

/// Along the axis and in order; latencies of 0 are none.
fn points(system: &SystemResult) -> Vec<Point> {
    let mut last = 0.0;
    let measured = system.curve.iter().filter(|(percentile, ns)| *ns > 0 && percentile.is_finite());
    let place = |(percentile, ns): &(f64, u64)| {
        last = nines(*percentile).unwrap_or(last + LAST_STEP_NINES).max(last);
        Point { nines: last, ns: *ns }
    };
    measured.map(place).collect()
}

/// The curve in words.
fn description(case: &CaseResult) -> String {
    let words = |system: &SystemResult| {
        let ns = |of: fn(&crate::report::Round) -> u64| {
            duration_ns(system.median(|round| of(round) as f64))
        };
        let (p50, p99) = (ns(|round| round.p50_ns), ns(|round| round.p99_ns));
        let (p999, max) = (ns(|round| round.p999_ns), ns(|round| round.max_ns));
        format!("{}: p50 {p50}, p99 {p99}, p99.9 {p999}, longest {max}.", system.system)
    };
    let measured = case.systems.iter().filter(|system| !system.curve.is_empty());
    measured.map(words).collect::<Vec<_>>().join(" ")
}

struct Plot {
    times: Times,
    nines_max: f64,
}

impl Plot {
    fn x(&self, nines: f64) -> f64 {
        LEFT + (nines / self.nines_max).clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn y(&self, ns: u64) -> f64 {
        BOTTOM - self.times.height(ns) * (BOTTOM - TOP)
    }

    fn axes(&self, out: &mut String) -> Result {
        write!(out, "<g class=\"axes\">")?;
        for (ns, has_label) in self.times.ticks() {
            let y = self.y(ns);
            write!(out, "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
            if has_label {
                let (x, y, label) = (LEFT - 8.0, y + 4.0, tick_label(ns));
                write!(out, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}</text>")?;
            }
        }
        let whole = (0..=self.nines_max as u32).map(|nines| (f64::from(nines), nines_label(nines)));
        let half = (2.0_f64.log10(), "50 %".to_owned());
        for (nines, label) in whole.chain([half]) {
            let (x, y) = (self.x(nines), BOTTOM + 18.0);
            write!(out, "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\"/>")?;
            write!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>")?;
        }
        let (x, y) = ((LEFT + RIGHT) / 2.0, HEIGHT - 6.0);
        writeln!(
            out,
            "<text class=\"axis\" x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">latency, and the share \
             of batches or requests that took no longer</text></g>"
        )
    }

    fn line(
        &self,
        system: &SystemResult,
        points: &[Point],
        class: &str,
        out: &mut String,
    ) -> Result {
        let name = Escaped(&system.system);
        write!(out, "<g class=\"line {class}\" data-system=\"{name}\"><polyline points=\"")?;
        for point in points {
            write!(out, "{:.1},{:.1} ", self.x(point.nines), self.y(point.ns))?;
        }
        write!(out, "\"/>")?;
        let dots = DOTS.iter().filter_map(|(percentile, label)| {
            let is_it = |(at, ns): &&(f64, u64)| *at >= *percentile && *ns > 0;
            let (_, ns) = system.curve.iter().find(is_it)?;
            Some((self.x(nines(*percentile)?), *ns, *label))
        });
        // A curve of one point is a dot; a line of it would be invisible.
        let alone = points.iter().filter(|_| points.len() == 1);
        let alone = alone.map(|point| (self.x(point.nines), point.ns, "all"));
        let dots: Vec<(f64, u64, &str)> = match points.len() {
            1 => alone.collect(),
            _ => dots.collect(),
        };
        for (x, ns, label) in dots {
            let (y, time) = (self.y(ns), duration_ns(ns as f64));
            write!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{name}: {label} {time}</title></circle>"
            )?;
        }
        writeln!(out, "</g>")
    }
}
