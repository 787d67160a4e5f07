//! Resident memory over time: from 0, so that what is flat looks flat.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use super::palette::Palette;
use crate::report::{CaseResult, SystemResult};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
/// Of the plot within the drawing.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 704.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 174.0;

/// Lines across, and times below.
const STEPS: u32 = 4;

const MIB: f64 = 1024.0 * 1024.0;

/// A drawing of all systems whose memory was looked at; nothing, if there is none.
pub(super) fn figure(
    case: &CaseResult,
    number: usize,
    palette: &Palette,
    out: &mut String,
) -> Result {
    let measured: Vec<&SystemResult> =
        case.systems.iter().filter(|system| system.memory.len() > 1).collect();
    let all = || measured.iter().flat_map(|system| &system.memory);
    let last_s = all().map(|(at, _)| *at).fold(0.0, f64::max);
    let most_mib = all().map(|(_, bytes)| *bytes as f64 / MIB).fold(0.0, f64::max);
    if last_s <= 0.0 || most_mib <= 0.0 {
        return Ok(());
    }
    let top_mib = round_above(most_mib);
    let x = |at: f64| LEFT + (at / last_s).clamp(0.0, 1.0) * (RIGHT - LEFT);
    let y = |mib: f64| BOTTOM - (mib / top_mib).clamp(0.0, 1.0) * (BOTTOM - TOP);
    writeln!(
        out,
        "<div class=\"beside\">\n<figure class=\"curve\">\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"m{number}\">\n<title id=\"m{number}\">Resident memory over {last_s:.0} s, at most \
         {most_mib:.1} MiB</title>\n<g class=\"axes\">"
    )?;
    let decimals = usize::from(last_s < 30.0);
    for step in 0..=STEPS {
        let part = f64::from(step) / f64::from(STEPS);
        let (mib, at) = (top_mib * part, last_s * part);
        let (line, column) = (y(mib), x(at));
        write!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{line:.1}\" y2=\"{line:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mib:.0} MiB</text>\
             <text x=\"{column:.1}\" y=\"{}\" text-anchor=\"middle\">{at:.decimals$} s</text>",
            LEFT - 8.0,
            line + 4.0,
            BOTTOM + 18.0
        )?;
    }
    let (middle, below) = ((LEFT + RIGHT) / 2.0, HEIGHT - 6.0);
    writeln!(
        out,
        "<text class=\"axis\" x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">resident memory, by the time \
         since the start</text></g>"
    )?;
    for system in measured {
        let class = palette.class(&system.system, system.role);
        write!(out, "<g class=\"line {class}\"><title>{}</title>", Escaped(&system.system))?;
        write!(out, "<polyline points=\"")?;
        for (at, bytes) in &system.memory {
            write!(out, "{:.1},{:.1} ", x(*at), y(*bytes as f64 / MIB))?;
        }
        writeln!(out, "\"/></g>")?;
    }
    writeln!(out, "</svg>\n</figure>\n</div>")
}

/// The next of 1, 2, 4, 8 times a power of ten: four steps of it are round, too.
fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::html::html;
    use crate::report::tests::awkward;

    #[test]
    fn memory_is_drawn_from_nothing_to_a_round_number() {
        assert_eq!([287.0, 47.0, 100.0, 0.9].map(round_above), [400.0, 80.0, 100.0, 1.0]);
        let mut report = awkward();
        let before = html(&report).matches("<figure").count();
        let lanecast = &mut report.cases[0].systems[1];
        lanecast.memory = vec![(5.0, 40 << 20), (10.0, 80 << 20)];
        let page = html(&report);
        assert_eq!(page.matches("<figure").count(), before + 1);
        assert!(page.contains("Resident memory over 10 s, at most 80.0 MiB"), "{page}");
        // Half of 80 MiB after half of the time, and all of it at the end.
        assert!(page.contains("<polyline points=\"383.0,93.0 704.0,12.0 \"/>"), "{page}");
        report.cases[0].systems[1].memory = vec![(0.0, 0), (0.0, 0)];
        assert_eq!(html(&report).matches("<figure").count(), before);
    }
}
