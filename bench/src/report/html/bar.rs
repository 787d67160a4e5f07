//! Bars that fill the width of their cells.

use std::fmt::{Result, Write};

use super::escape::Escaped;
use crate::report::figures::Figures;

/// The records per second of one system: a bar, a whisker from the slowest to the fastest round, and the
/// ceiling as a mark. `longest` is the full width.
pub(super) fn throughput(
    class: &str,
    label: &str,
    figures: &Figures,
    ceiling: Option<f64>,
    longest: f64,
    out: &mut String,
) -> Result {
    let at = |value: f64| percent(value, longest);
    write!(
        out,
        "<svg class=\"bar {class}\" height=\"18\" role=\"img\" aria-label=\"{}\"><rect class=\"track\" \
         width=\"100%\" height=\"18\"/><rect class=\"fill\" y=\"3\" width=\"{:.2}%\" height=\"12\" rx=\"1.5\"/>",
        Escaped(label),
        at(figures.records_per_second)
    )?;
    if figures.fastest > figures.slowest {
        let (from, to) = (at(figures.slowest), at(figures.fastest));
        write!(
            out,
            "<line class=\"whisker\" x1=\"{from:.2}%\" x2=\"{to:.2}%\" y1=\"9\" y2=\"9\"/>"
        )?;
        for end in [from, to] {
            write!(
                out,
                "<line class=\"whisker\" x1=\"{end:.2}%\" x2=\"{end:.2}%\" y1=\"6\" y2=\"12\"/>"
            )?;
        }
    }
    if let Some(ceiling) = ceiling {
        let at = at(ceiling);
        write!(out, "<line class=\"mark\" x1=\"{at:.2}%\" x2=\"{at:.2}%\" y1=\"0\" y2=\"18\"/>")?;
    }
    write!(out, "</svg>")
}

/// A share of 1 as a bar, with a mark at 1.
pub(super) fn share(share: f64, out: &mut String) -> Result {
    let longest = share.max(1.0) * 1.02;
    let (width, mark) = (percent(share, longest), percent(1.0, longest));
    write!(
        out,
        "<svg class=\"bar s1\" height=\"14\" aria-hidden=\"true\"><rect class=\"track\" width=\"100%\" \
         height=\"14\"/><rect class=\"fill\" y=\"2\" width=\"{width:.2}%\" height=\"10\" rx=\"1.5\"/>\
         <line class=\"mark\" x1=\"{mark:.2}%\" x2=\"{mark:.2}%\" y1=\"0\" y2=\"14\"/></svg>"
    )
}

/// Parts of a whole, one behind the other.
pub(super) fn parts(parts: &[f64], longest: f64, label: &str, out: &mut String) -> Result {
    write!(
        out,
        "<svg class=\"bar\" height=\"14\" role=\"img\" aria-label=\"{}\"><rect class=\"track\" \
         width=\"100%\" height=\"14\"/>",
        Escaped(label)
    )?;
    let mut from = 0.0;
    for (number, part) in parts.iter().enumerate() {
        let width = percent(*part, longest);
        let shade = number % super::cost::SHADES;
        write!(
            out,
            "<rect class=\"k{shade}\" x=\"{from:.2}%\" y=\"2\" width=\"{width:.2}%\" height=\"10\"/>"
        )?;
        from += width;
    }
    write!(out, "</svg>")
}

/// 0 to 100, whatever the numbers.
fn percent(value: f64, whole: f64) -> f64 {
    let percent = value / whole * 100.0;
    if percent.is_finite() { percent.clamp(0.0, 100.0) } else { 0.0 }
}
