//! A comparison as a table for people.

use super::{Change, Comparison, Verdict};
use crate::format::{self, Column, columns};

impl Comparison {
    /// What changed, or with `all` every figure; then counts and what to make of them.
    #[must_use]
    pub fn text(&self, all: bool) -> String {
        let mut out = format!("before: {}\nafter:  {}\n", self.before, self.after);
        for warning in &self.warnings {
            out.push_str(&format!("warning: {warning}; what differs below may come from that\n"));
        }
        let is_shown = |change: &&Change| match change.verdict {
            Verdict::Better | Verdict::Worse => true,
            Verdict::WithinNoise | Verdict::TooFewRounds => all,
        };
        let shown: Vec<&Change> = self.changes.iter().filter(is_shown).collect();
        if !shown.is_empty() {
            out.push('\n');
            out.push_str(&table(&shown));
        }
        out.push('\n');
        out.push_str(&self.counts());
        for (side, only) in [("before", &self.only_before), ("after", &self.only_after)] {
            if !only.is_empty() {
                out.push_str(&format!("\nonly {side}:\n"));
                only.iter().for_each(|what| out.push_str(&format!("  {what}\n")));
            }
        }
        out
    }

    fn counts(&self) -> String {
        let figures = self.changes.len();
        let [better, worse, noise, few] =
            [Verdict::Better, Verdict::Worse, Verdict::WithinNoise, Verdict::TooFewRounds]
                .map(|verdict| self.count(verdict));
        let mut out = format!(
            "{figures} figures: {better} better, {worse} worse, {noise} within noise, {few} with too few \
             rounds to tell\n"
        );
        if few > 0 {
            out.push_str("  five rounds on each side are the least that can show a change\n");
        }
        let (percent, least) = (self.error_rate * 100.0, self.least_change * 100.0);
        let by_chance = (figures - few) as f64 * self.error_rate;
        out.push_str(&format!(
            "  noise: the {:.0} % interval of the ratio (Moses, of the rank-sum test) holds 1, or the \
             change is below {least:.0} %\n  by chance alone up to {percent:.0} % of the figures, here \
             {by_chance:.1}, may lie outside of their intervals\n",
            100.0 - percent,
        ));
        out
    }
}

fn table(changes: &[&Change]) -> String {
    let head = [
        ("", Column::Left),
        ("METRIC", Column::Left),
        ("BEFORE", Column::Right),
        ("AFTER", Column::Right),
        ("RATIO", Column::Right),
        ("99 % INTERVAL", Column::Right),
        ("ROUNDS", Column::Right),
        ("", Column::Left),
    ];
    let mut out = String::new();
    let mut rest = changes;
    while let [first, ..] = rest {
        let same = rest.iter().take_while(|change| change.what == first.what).count();
        let (group, others) = rest.split_at(same);
        out.push_str(&format!("{}\n", first.what));
        let rows: Vec<Vec<String>> = group.iter().map(|change| row(change)).collect();
        out.push_str(&columns(&head, &rows, 2));
        rest = others;
    }
    out
}

fn row(change: &Change) -> Vec<String> {
    let value = |value: f64| match change.metric {
        "records/s" => format::rate(value),
        "p50 ns" | "p99 ns" => format::duration_ns(value),
        "CPU ns/record" => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    };
    let interval = match change.interval {
        Some((low, high)) => format!("{low:.3} to {high:.3}"),
        None => String::new(),
    };
    let verdict = match change.verdict {
        Verdict::Better => "better",
        Verdict::Worse => "WORSE",
        Verdict::WithinNoise => "within noise",
        Verdict::TooFewRounds => "too few rounds to tell",
    };
    vec![
        change.system.clone().unwrap_or_else(|| "goal".to_owned()),
        change.metric.trim_end_matches(" ns").to_owned(),
        value(change.before),
        value(change.after),
        format!("{:.3}", change.ratio),
        interval,
        format!("{}/{}", change.rounds.0, change.rounds.1),
        verdict.to_owned(),
    ]
}
