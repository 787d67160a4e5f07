//! What a person sees of `up`: a few lines that are redrawn in place on a terminal, and nothing of
//! it in a pipe.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Instant;

use super::stats::{ConsumerStats, Position};

/// Draws to the standard error.
pub(super) struct Screen {
    terminal: bool,
    lines_drawn: usize,
    last: Option<(Instant, Position)>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), lines_drawn: 0, last: None }
    }

    /// Writes lines that stay.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        self.put(&format!("{text}\n"));
    }

    /// Shows what is going on right now, on a terminal; replaced by whatever comes next.
    pub(super) fn show(&mut self, text: &str) {
        if self.terminal {
            self.clear();
            if !text.is_empty() {
                self.put(&format!("{text}\n"));
            }
            self.lines_drawn = text.lines().count();
        }
    }

    /// Redraws the status.
    pub(super) fn status(&mut self, position: Position, consumer: &ConsumerStats) {
        let now = Instant::now();
        let (rate_in, rate_out) = match self.last {
            Some((then, before)) => {
                let seconds = now.duration_since(then).as_secs_f64().max(0.001);
                let per_second =
                    |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                (
                    per_second(position.appended, before.appended),
                    per_second(position.acknowledged, before.acknowledged),
                )
            }
            None => (0.0, 0.0),
        };
        self.last = Some((now, position));
        self.show(&status_text(position, consumer, rate_in, rate_out));
    }

    fn clear(&mut self) {
        if self.lines_drawn > 0 {
            self.put(&format!("\x1b[{}A\x1b[J", self.lines_drawn));
            self.lines_drawn = 0;
        }
    }

    fn put(&self, text: &str) {
        // A closed standard error is no reason to stop moving data.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

fn status_text(
    position: Position,
    consumer: &ConsumerStats,
    rate_in: f64,
    rate_out: f64,
) -> String {
    let mut text = String::new();
    let latency = consumer.e2e_ms;
    let lines = [
        format!("  in   {rate_in:>12.0} rows/s   {:>14} rows acknowledged", position.appended),
        format!(
            "  out  {rate_out:>12.0} rows/s   {:>14} rows in ClickHouse",
            position.acknowledged
        ),
        format!(
            "  lag  {:>12} rows     {:>14} dead letters",
            position.lag(),
            consumer.dead_lettered
        ),
        format!(
            "  end-to-end  p50 {:.0} ms   p99 {:.0} ms   max {:.0} ms",
            latency.p50, latency.p99, latency.max
        ),
        "  Ctrl-C drains and stops".to_owned(),
    ];
    for line in lines {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_shows_rates_lag_and_latency() {
        let position = Position { appended: 1000, acknowledged: 900 };
        let text = status_text(position, &ConsumerStats::default(), 2470.4, 2400.0);
        assert!(text.contains("2470 rows/s") && text.contains("2400 rows/s"), "{text}");
        assert!(text.lines().any(|line| line.contains("lag") && line.contains(" 100 rows")));
    }
}
