//! Rows a second, over the last few of them.

use core::time::Duration;

use crate::limits;

/// Rows by second, for as many seconds as the rate looks back.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    /// (second since the start, rows), at the second modulo the window.
    seconds: [(u64, u64); limits::RATE_WINDOW_S],
}

impl Rate {
    pub(crate) fn add(&mut self, second: u64, rows: u64) {
        let slot = &mut self.seconds[second as usize % limits::RATE_WINDOW_S];
        if slot.0 == second {
            slot.1 += rows;
        } else {
            *slot = (second, rows);
        }
    }

    /// Over the window, or over the uptime as long as that is shorter.
    pub(crate) fn at(&self, uptime: Duration) -> f64 {
        let window = limits::RATE_WINDOW_S as u64;
        let oldest = (uptime.as_secs() + 1).saturating_sub(window);
        let rows: u64 =
            self.seconds.iter().filter(|(second, _)| *second >= oldest).map(|(_, rows)| rows).sum();
        let covered = uptime.as_secs_f64() - oldest as f64;
        rows as f64 / covered.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_is_older_than_its_window() {
        let mut rate = Rate::default();
        rate.add(0, 1_000);
        rate.add(1, 500);
        assert_eq!(rate.at(Duration::from_secs(2)), 750.0);
        rate.add(11, 100);
        assert_eq!(rate.at(Duration::from_millis(11_500)), 100.0 / 9.5);
    }
}
