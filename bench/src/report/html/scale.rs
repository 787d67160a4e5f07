//! Logarithmic axes.

/// A range of nanoseconds, from a round number to another.
pub(super) struct Times {
    low_log: f64,
    high_log: f64,
}

/// Labels of an axis up to so many; with more, only powers of ten have one.
const LABELS_MAX: usize = 9;

impl Times {
    /// Around these latencies. `None` without any above 0.
    pub(super) fn around(latencies_ns: impl Iterator<Item = u64>) -> Option<Self> {
        let logs = latencies_ns.filter(|ns| *ns > 0).map(|ns| (ns as f64).log10());
        let (low, high) = logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| {
            (low.min(log), high.max(log))
        });
        if low > high {
            return None;
        }
        let low_log = round_numbers().rev().find(|log| *log <= low).unwrap_or(0.0);
        let above = |log: &f64| *log >= high && *log > low_log;
        let high_log = round_numbers().find(above).unwrap_or(high + 1.0);
        Some(Self { low_log, high_log })
    }

    /// How high a latency lies: 0 at the bottom, 1 at the top.
    pub(super) fn height(&self, ns: u64) -> f64 {
        let log = (ns.max(1) as f64).log10();
        ((log - self.low_log) / (self.high_log - self.low_log)).clamp(0.0, 1.0)
    }

    /// Round numbers within: nanoseconds, and whether they are worth a label.
    pub(super) fn ticks(&self) -> Vec<(u64, bool)> {
        let within = |log: &f64| *log >= self.low_log - 1e-9 && *log <= self.high_log + 1e-9;
        let ticks: Vec<u64> =
            round_numbers().filter(within).map(|log| 10_f64.powf(log).round() as u64).collect();
        let all = ticks.len() <= LABELS_MAX;
        let is_power = |ns: u64| ns.to_string().starts_with('1');
        ticks.into_iter().map(|ns| (ns, all || is_power(ns))).collect()
    }

    pub(super) fn low_log(&self) -> f64 {
        self.low_log
    }

    pub(super) fn high_log(&self) -> f64 {
        self.high_log
    }
}

/// Logarithms of 1, 2, 5, 10, 20, ... up to 500 s in nanoseconds, and one more.
fn round_numbers() -> impl DoubleEndedIterator<Item = f64> {
    (0..=12).flat_map(|power| [1.0_f64, 2.0, 5.0].map(|digit| digit.log10() + f64::from(power)))
}

/// `10 us`, `2 ms`
pub(super) fn tick_label(ns: u64) -> String {
    match ns {
        ns if ns >= 1_000_000_000 => format!("{} s", ns / 1_000_000_000),
        ns if ns >= 1_000_000 => format!("{} ms", ns / 1_000_000),
        ns if ns >= 1_000 => format!("{} us", ns / 1_000),
        ns => format!("{ns} ns"),
    }
}

/// How many nines a percentile has: 0 at 0 %, 1 at 90 %, 2 at 99 %. `None` at 100 %.
pub(super) fn nines(percentile: f64) -> Option<f64> {
    let missing = 1.0 - percentile.max(0.0) / 100.0;
    (missing > 1e-12).then(|| -missing.log10())
}

/// `90 %`, `99.9 %`
pub(super) fn nines_label(nines: u32) -> String {
    match nines {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        nines => format!("99.{} %", "9".repeat(nines as usize - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_reaches_from_a_round_number_to_another() {
        let times = Times::around([0, 130_000, 4_000_000].into_iter()).unwrap();
        let labels: Vec<String> = times.ticks().iter().map(|(ns, _)| tick_label(*ns)).collect();
        assert_eq!(labels, ["100 us", "200 us", "500 us", "1 ms", "2 ms", "5 ms"]);
        assert_eq!((times.height(100_000), times.height(5_000_000)), (0.0, 1.0));
        let one = Times::around([1].into_iter()).unwrap();
        assert_eq!((one.height(1), one.height(2)), (0.0, 1.0));
        assert!(Times::around([0].into_iter()).is_none());
        let longest = Times::around([u64::MAX].into_iter()).unwrap();
        assert!(longest.height(u64::MAX) <= 1.0);
    }

    #[test]
    fn percentiles_have_nines() {
        assert_eq!(nines(0.0), Some(0.0));
        assert!((nines(99.9).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!((nines(100.0), nines(500.0), nines(-5.0)), (None, None, Some(0.0)));
        let labels: Vec<String> = (0..5).map(nines_label).collect();
        assert_eq!(labels, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
